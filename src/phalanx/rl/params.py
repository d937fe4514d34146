"""Reads the top level of RL Games' `params`, and finds keys without effect in all sections."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

from phalanx.config import ranged, read, without_effect
from phalanx.errors import PhalanxError
from phalanx.rl import registry
from phalanx.rl.curiosity import RNDConfig

LARGEST_SEED = 2**63 - 1
OLD_MODELS = {
    "discrete_a2c_lstm": "discrete_a2c",
    "continuous_a2c_lstm": "continuous_a2c",
    "continuous_a2c_lstm_logstd": "continuous_a2c_logstd",
}
"""Models in older RL Games files, which have `network.lstm` instead of `network.rnn`."""


EFFECTLESS_VALUES = {"multi_gpu": True, "lr_schedule": "polynom_decay"}
"""Values in `params.config` without effect: training uses one process, and RL Games has no such
schedule and keeps the learning rate."""


@dataclass(frozen=True)
class Params:
    """`params`: sections, whose keys are checked where they are used, and a few numbers."""

    NO_EFFECT: ClassVar[frozenset[str]] = frozenset({"env", "load_checkpoint", "load_path"})

    algo: dict[str, Any]
    """`name` of a registered algorithm."""
    config: dict[str, Any]
    """See `phalanx.rl.config`."""
    network: dict[str, Any] = field(default_factory=dict)
    """See `phalanx.rl.network_config`."""
    model: dict[str, Any] | str | None = None
    """`name`, or the name itself; None takes the default for the environment's actions."""
    seed: int | None = ranged(None, at_least=-1, at_most=LARGEST_SEED)
    """Random seed; None and -1 derive one from the clock."""
    torch_threads: int | str | None = None
    """CPU threads of PyTorch's operations; 0 and auto leave the number unchanged."""

    @property
    def algo_name(self) -> str:
        """Name of the algorithm. Raises PhalanxError if there is none."""
        name = self.algo.get("name")
        if not isinstance(name, str):
            raise PhalanxError("params.algo.name is missing, as in `algo: {name: a2c_continuous}`")
        return name


def read_params(params: Mapping[str, Any]) -> Params:
    """RL Games' `params`. Raises PhalanxError for an unknown, missing or wrong key."""
    if "algo" not in params:
        raise PhalanxError("params.algo.name is missing, as in `algo: {name: a2c_continuous}`")
    return read(Params, params, "params")


def with_current_names(params: Mapping[str, Any]) -> dict[str, Any]:
    """`params` with the model and recurrent network of `OLD_MODELS` under their current names."""
    model, network = params.get("model"), params.get("network")
    name = model.get("name") if isinstance(model, Mapping) else model
    if not isinstance(name, str) or name not in OLD_MODELS or not isinstance(network, Mapping):
        return dict(params)
    old = network.get("lstm")
    if isinstance(old, Mapping) and "rnn" not in network:
        rnn = {"name": "lstm", **{k: v for k, v in old.items() if k != "concated"}}
        network = {**{k: v for k, v in network.items() if k != "lstm"}, "rnn": rnn}
    return {**params, "model": {"name": OLD_MODELS[name]}, "network": network}


def keys_without_effect(params: Mapping[str, Any], config: type) -> list[str]:
    """All keys of `params` that are accepted but have no effect, for an algorithm whose settings
    are of type `config`. Keys of `params.config` have no prefix, others that of their section."""
    own = params["config"]
    found = without_effect(Params, params) + without_effect(config, own)
    found += _of_network(params.get("network"), "network.")
    found += [k for k, v in EFFECTLESS_VALUES.items() if own.get(k) == v]
    if isinstance(own.get("rnd_config"), Mapping):
        found += without_effect(RNDConfig, own["rnd_config"], "rnd_config.")
    critic = own.get("central_value_config")
    if isinstance(critic, Mapping):
        found += _of_network(critic.get("network"), "central_value_config.network.")
    return sorted(found)


def _of_network(section: Any, prefix: str) -> list[str]:
    if not isinstance(section, Mapping):
        return []
    builder = registry.networks.builders.get(str(section.get("name", "actor_critic")))
    config = getattr(builder(), "Config", None) if builder else None
    return without_effect(config, section, prefix) if config else []
