"""The command line's configuration: Hydra's groups and overrides, checked before anything runs.

`task` is a group whose options are the registered tasks, `train` one of RL Games' YAML files in
`cfg/train`. Hydra composes; `read` then types and checks the result.
"""

import dataclasses
import os
from dataclasses import dataclass
from importlib import resources
from typing import Any

from hydra import compose, initialize_config_dir
from hydra.core.config_store import ConfigStore
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from phalanx import tasks
from phalanx.config import ranged, read
from phalanx.errors import PhalanxError, did_you_mean
from phalanx.sim import resolve_device


@dataclass(frozen=True)
class TaskSection:
    """What `task=` selects."""

    name: str
    env: dict[str, Any]


@dataclass(frozen=True)
class RunConfig:
    """`cfg/config.yaml`, whose comments say what the keys mean."""

    task: TaskSection
    train: dict[str, Any]
    num_envs: int | None = ranged(None, at_least=1)
    seed: int = ranged(42, at_least=-1)
    max_iterations: int | None = ranged(None, at_least=1)
    sim_device: str = "auto"
    rl_device: str = "auto"
    headless: bool = True
    checkpoint: str | None = None
    experiment: str | None = None
    train_dir: str = "runs"
    games: int = ranged(256, at_least=1)
    video: bool = False


def compose_config(arguments: list[str]) -> RunConfig:
    """The configuration that `key=value` arguments ask for. Raises PhalanxError."""
    folder = str(resources.files("phalanx.cfg"))
    overrides = [_checked(argument, folder) for argument in arguments]
    name = next((o.split("=", 1)[1] for o in overrides if o.startswith("task=")), "Cartpole")
    defaults = {f.name: f.default for f in dataclasses.fields(tasks.find(name).Config)}
    ConfigStore.instance().store(group="task", name=name, node={"name": name, "env": defaults})
    try:
        with initialize_config_dir(folder, version_base=None):
            composed = compose("config", overrides)
        values = OmegaConf.to_container(composed, resolve=True)
    except (HydraException, OmegaConfBaseException) as error:
        raise PhalanxError(" ".join(str(error).split())) from error
    config = read(RunConfig, values, "")
    for device in (config.sim_device, config.rl_device):
        resolve_device(device)
    return config


def train_params(config: RunConfig) -> dict[str, Any]:
    """RL Games' `params` with what the command line decides filled in. Raises PhalanxError."""
    params = dict(config.train["params"])
    inner = dict(params["config"])
    env = {**config.task.env, **(inner.get("env_config") or {})}
    task_envs = env.pop("num_envs")
    cls = tasks.find(config.task.name)
    read(cls.Config, env, "task.env")  # so that a mistake is reported before anything is built
    inner["name"] = config.task.name
    inner["env_name"] = "rlgpu"
    inner["env_config"] = env
    inner["num_actors"] = config.num_envs or task_envs or inner.get("num_actors")
    inner["device"], inner["sim_device"] = config.rl_device, config.sim_device
    inner["train_dir"] = config.train_dir
    inner["full_experiment_name"] = config.experiment
    if config.max_iterations is not None:
        inner["max_epochs"] = config.max_iterations
    inner["player"] = {**inner.get("player", {}), "games_num": config.games}
    seed = int.from_bytes(os.urandom(3)) if config.seed == -1 else config.seed
    return {**params, "seed": seed, "config": inner}


def _checked(argument: str, folder: str) -> str:
    """One override, made acceptable to Hydra. Raises PhalanxError for an unknown key."""
    if "=" not in argument:
        raise PhalanxError(f"{argument!r} is not of the form key=value, as in num_envs=64")
    try:
        override = OverridesParser.create().parse_override(argument)
    except HydraException as error:
        reason = str(error).splitlines()[0]
        raise PhalanxError(f"cannot read {argument!r}: {reason}") from error
    key = override.key_or_group
    known = [f.name for f in dataclasses.fields(RunConfig)]
    if key.split(".")[0] not in known:
        nested = ["task.env.<field>", "train.params.config.<key>"]
        near = did_you_mean(key, known) or f"; accepted: {', '.join(known + nested)}"
        raise PhalanxError(f"unknown key {key!r}{near}")
    if key == "train":
        options = sorted(f[:-5] for f in os.listdir(f"{folder}/train") if f.endswith(".yaml"))
        if override.value() not in options:
            raise PhalanxError(
                f"unknown train config {override.value()!r}"
                f"{did_you_mean(str(override.value()), options)}; there are: {', '.join(options)}"
            )
    # Keys below a group may be ones that its file leaves at their default; `read` checks them.
    nested_key = key.startswith(("task.", "train."))
    return f"++{argument.lstrip('+')}" if nested_key else argument
