"""Makes the environment and the model that a config names."""

from typing import Any

from phalanx.compute.devices import resolve_device
from phalanx.errors import PhalanxError
from phalanx.rl import registry, vecenv
from phalanx.rl.config import AgentConfig
from phalanx.spaces import ActionSpace, Box, Discrete


def make_env(config: AgentConfig) -> Any:
    """The environment that a config names, on the network's device. Raises PhalanxError for an
    unknown name or device."""
    asked = {"device": config.device, "sim_device": config.sim_device or config.device}
    for key, name in asked.items():
        try:
            resolve_device(name)
        except PhalanxError as error:
            raise PhalanxError(f"params.config.{key}: {error}") from error
    num_envs = None if config.num_actors == -1 else config.num_actors
    own = {"name": config.name, "num_envs": num_envs, "device": asked["sim_device"]}
    env = vecenv.create(config.env_name, **{**own, **config.env_config})
    where = resolve_device(str(env.device))
    device = where if config.device == "auto" else resolve_device(config.device)
    spaces = (env.observation_space, getattr(env, "state_space", None))
    if device == where and not any(vecenv.has_image(space) for space in spaces):
        return env
    return vecenv.ConvertedEnv(env, device)


def build_model(params: dict[str, Any], config: AgentConfig, env: Any) -> Any:
    """The model that `params` names, for the spaces of `env`."""
    space = env.action_space
    actions: Any
    if isinstance(space, Box):
        default, actions = "continuous_a2c_logstd", space.shape[0]
    elif isinstance(space, Discrete):
        default, actions = "discrete_a2c", space.n
    else:
        default, actions = "multi_discrete_a2c", space.nvec
    network = params.get("network")
    if not isinstance(network, dict) or "name" not in network:
        raise PhalanxError("params.network is missing or has no `name`, as in `name: actor_critic`")
    builder = registry.networks.create(network["name"])
    builder.load(network)
    name = (params.get("model") or {}).get("name", default)
    model = registry.models.create(name, network=builder)
    settings = {
        "actions_num": actions,
        "input_shape": env.observation_space.shape,
        "num_seqs": env.num_envs,
        "value_size": getattr(env, "value_size", 1),
        "normalize_value": config.normalize_value,
        "normalize_input": config.normalize_input,
    }
    if hasattr(env, "amp_observation_space"):
        settings["amp_input_shape"] = env.amp_observation_space.shape
    return model.build(settings)


def with_default_model(params: dict[str, Any], name: str) -> dict[str, Any]:
    """`params` with the model `name`, unless it names one."""
    return {**params, "model": {"name": name, **(params.get("model") or {})}}


def check_actions(space: ActionSpace, is_discrete: bool, name: str) -> None:
    """Raise PhalanxError unless the chosen PPO algorithm supports these actions."""
    if is_discrete != (not isinstance(space, Box)):
        own, other = (
            ("continuous", "a2c_continuous") if is_discrete else ("discrete", "a2c_discrete")
        )
        raise PhalanxError(
            f"the actions of {name} are {own}, which need the algorithm {other};"
            f" choose another train= config or set params.algo.name to {other}"
        )


def check_masks(env: Any, name: str) -> None:
    """Raise PhalanxError unless `env` has discrete actions and action masks."""
    lacks = ""
    if isinstance(env.action_space, Box):
        lacks = "its actions are continuous"
    elif not hasattr(env, "get_action_masks"):
        lacks = "the environment has no get_action_masks()"
    if lacks:
        raise PhalanxError(
            f"params.config.use_action_masks is true for {name}, but {lacks}; remove it"
        )
