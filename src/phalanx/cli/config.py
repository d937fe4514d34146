"""The command line's configuration: Hydra's groups and overrides, checked before anything runs.

`task` is the name of a task, ours or one of the project that the working folder lies in, and its
settings; `train` one of RL Games' YAML files in `cfg/train`, the project's or ours. Hydra composes;
`read` then types and checks the result. With `checkpoint=` in a run folder, the settings of that
run take the place of the defaults.
"""

import dataclasses
import os
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

import yaml
from hydra import compose, initialize_config_dir
from hydra.core.config_store import ConfigStore
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
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
    randomize: bool = False
    randomization_params: dict[str, Any] = dataclasses.field(default_factory=dict)
    actuators: dict[str, Any] = dataclasses.field(default_factory=dict)


@dataclass(frozen=True)
class TrainParams:
    """The sections of an RL Games file; the factories and agents read what is in them."""

    algo: dict[str, Any]
    network: dict[str, Any]
    config: dict[str, Any]
    model: dict[str, Any] = dataclasses.field(default_factory=dict)


@dataclass(frozen=True)
class TrainSection:
    """What `train=` selects."""

    params: TrainParams


@dataclass(frozen=True)
class RunConfig:
    """`cfg/config.yaml`, whose comments say what the keys mean."""

    task: TaskSection
    train: TrainSection
    num_envs: int | None = ranged(None, at_least=1)
    seed: int = ranged(42, at_least=-1, at_most=2**63 - 1)
    max_iterations: int | None = ranged(None, at_least=1)
    sim_device: str = "auto"
    rl_device: str = "auto"
    headless: bool = True
    checkpoint: str | None = None
    experiment: str | None = None
    train_dir: str = "runs"
    games: int = ranged(256, at_least=1)
    video: bool = False
    format: str = "onnx"


RESUMED = {
    "train": ("task", "train", "num_envs", "seed", "max_iterations", "sim_device", "rl_device"),
    "play": ("task", "train"),
    "export": ("task", "train"),
}
"""Keys that a command takes from the run folder of its checkpoint, where none are given."""

TEXTS = ("checkpoint", "experiment", "train_dir", "sim_device", "rl_device", "task.env.asset")
"""Keys whose value is taken as it is typed, without Hydra's grammar: paths, mostly."""

GROUPS = ("task", "train")
OPTION = "_"  # the one option that a group gets, of whatever name was asked for
SECTIONS = ("randomize", "randomization_params", "actuators")
"""Fields of a task's Config that stand beside `task.env`, not in it."""

DECIDED = {
    "name": "task",
    "env_name": "task",
    "device": "rl_device",
    "sim_device": "sim_device",
    "train_dir": "train_dir",
    "full_experiment_name": "experiment",
    "player.games_num": "games",
}
"""Keys of train.params.config that a shorter one decides."""


def compose_config(arguments: list[str], command: str = "train") -> RunConfig:
    """The configuration that `key=value` arguments ask for. Raises PhalanxError."""
    folder = str(resources.files("phalanx.cfg"))
    overrides = [_checked(argument) for argument in arguments]
    given = {o.key_or_group: o.value() for o in overrides}
    saved = _settings_beside(str(given["checkpoint"])) if given.get("checkpoint") else {}
    name = str(given.get("task", saved["task"]["name"] if saved else "Cartpole"))
    store = ConfigStore.instance()
    store.store(group="task", name=OPTION, node={"name": name, **_task_defaults(name)})
    train = _train_config(str(given.get("train", f"{name}PPO")))
    store.store(group="train", name=OPTION, node=train)
    try:
        with initialize_config_dir(folder, version_base=None):
            lines = [o.input_line or "" for o in overrides if o.key_or_group not in GROUPS]
            composed = compose("config", [*(f"{group}={OPTION}" for group in GROUPS), *lines])
            if saved and saved["task"]["name"] == name:
                saved = {
                    k: v
                    for k, v in saved.items()
                    if k in RESUMED[command] and (k == "task" or k not in given)
                }
                composed.update(OmegaConf.create(saved))
                for override in overrides:
                    if "." in override.key_or_group:
                        key, value = override.key_or_group, override.value()
                        OmegaConf.update(composed, key, value, force_add=True)
        values: Any = OmegaConf.to_container(composed, resolve=True)
    except (HydraException, OmegaConfBaseException) as error:
        raise PhalanxError(" ".join(str(error).split())) from error
    config = read(RunConfig, values, "")
    # What the train config says of the task is weaker than what the command line says.
    env = config.train.params.config.pop("env_config", None) or {}
    if not isinstance(env, Mapping):
        raise PhalanxError(f"train.params.config.env_config is {env!r}, it must be a mapping")
    config.task.env.update({k: v for k, v in env.items() if f"task.env.{k}" not in given})
    for device in (config.sim_device, config.rl_device):
        resolve_device(device)
    return config


def train_params(config: RunConfig) -> dict[str, Any]:
    """RL Games' `params` with what the command line decides filled in. Raises PhalanxError."""
    params = config.train.params
    inner = dict(params.config)
    cls = tasks.find(config.task.name)
    # Read here so that a mistake is reported before anything is built.
    task_envs = read(cls.Config, config.task.env, "task.env").num_envs
    inner["name"] = config.task.name
    inner["env_name"] = "rlgpu"
    sections = {name: getattr(config.task, name) for name in SECTIONS}
    inner["env_config"] = {k: v for k, v in config.task.env.items() if k != "num_envs"} | sections
    inner["num_actors"] = config.num_envs or task_envs or inner.get("num_actors")
    inner["device"], inner["sim_device"] = config.rl_device, config.sim_device
    inner["train_dir"] = config.train_dir
    inner["full_experiment_name"] = config.experiment
    if config.max_iterations is not None:
        inner["max_epochs"] = config.max_iterations
    player = inner.get("player") or {}
    if isinstance(player, Mapping):  # if not, the agent says so
        inner["player"] = {**player, "games_num": config.games}
    return {**dataclasses.asdict(params), "seed": config.seed, "config": inner}


def resolved(config: RunConfig) -> RunConfig:
    """`config` with everything that would be chosen anew the next time written out."""
    params = train_params(config)["config"]
    device = resolve_device(config.sim_device)
    default = tasks.find(config.task.name).default_num_envs[device.type]
    seed = int.from_bytes(os.urandom(3)) if config.seed == -1 else config.seed
    return dataclasses.replace(config, seed=seed, num_envs=params["num_actors"] or default)


def _settings_beside(checkpoint: str) -> dict[str, Any]:
    """`config.yaml` of the run folder that a checkpoint lies in, {} where it lies in none."""
    folder = run_folder_of(Path(checkpoint))
    if folder is None:
        return {}
    file = folder / "config.yaml"
    try:
        saved = yaml.safe_load(file.read_text())
    except (OSError, ValueError, yaml.YAMLError) as error:
        reason = " ".join(str(error).split())
        raise PhalanxError(f"cannot read the settings of the run in {file}: {reason}") from error
    known = {f.name for f in dataclasses.fields(RunConfig)}
    ours = isinstance(saved, dict) and {"task", "train"} <= set(saved) <= known
    return saved if ours and isinstance(saved["task"], dict) and "name" in saved["task"] else {}


def run_folder_of(checkpoint: Path) -> Path | None:
    """The run folder that a checkpoint is, or lies in; None for a file from elsewhere."""
    for folder in (checkpoint, *checkpoint.absolute().parents[:2]):
        if (folder / "nn").is_dir() and (folder / "config.yaml").is_file():
            return folder
    return None


def _task_defaults(name: str) -> dict[str, Any]:
    """The task's own values, over them those of its YAML file, by section."""
    env = {}
    for f in dataclasses.fields(tasks.find(name).Config):
        if f.name not in SECTIONS:
            factory = f.default_factory
            env[f.name] = f.default if factory is dataclasses.MISSING else factory()
    values = tasks.settings(name)
    return {**values, "env": env | values.get("env", {})}


def _train_config(name: str) -> DictConfig:
    """The project's train config of that name, or ours. Raises PhalanxError if there is none."""
    project = tasks.find_project()
    folders = [Path(str(resources.files("phalanx.cfg")))]
    folders = [project.root / "cfg", *folders] if project else folders
    files = {p.stem: p for f in reversed(folders) for p in f.glob("train/*.yaml")}
    if name not in files:
        raise PhalanxError(
            f"unknown train config {name!r}{did_you_mean(name, files)};"
            f" there are: {', '.join(sorted(files))}"
        )
    try:
        values = OmegaConf.load(files[name])
    except (OSError, ValueError, yaml.YAMLError) as error:
        reason = " ".join(str(error).split())
        raise PhalanxError(f"cannot read {files[name]}: {reason}") from error
    if not isinstance(values, DictConfig) or "params" not in values:
        raise PhalanxError(f"{files[name]} is not a mapping with the key params")
    return values


def _checked(argument: str) -> Override:
    """One override, made acceptable to Hydra. Raises PhalanxError for an unknown key."""
    key, equals, text = argument.lstrip("+").partition("=")
    key = key.replace("task.task.", "task.", 1)  # as IsaacGymEnvs has it
    if not equals or key.startswith(("~", "-")):
        raise PhalanxError(f"{argument!r} is not of the form key=value, as in num_envs=64")
    if key in TEXTS and text not in ("", "null", "None") and text[0] not in "'\"":
        text = "'" + text.replace("'", "\\'") + "'"
    # Keys below a group may be ones that its file leaves at their default; `read` checks them.
    line = f"{'++' * key.startswith(('task.', 'train.'))}{key}={text}"
    try:
        override = OverridesParser.create().parse_override(line)
    except HydraException as error:
        reason = str(error).splitlines()[0]
        raise PhalanxError(
            f"cannot read {argument!r}: {reason}; quote a value with special characters twice,"
            f" as in {key or 'key'}='\"a (b)\"'"
        ) from error
    if override.is_sweep_override():
        raise PhalanxError(
            f"{argument!r} is a sweep over several values, give one; a list has brackets,"
            f" as in {key}=[1,2]"
        )
    known = [f.name for f in dataclasses.fields(RunConfig)]
    if key.split(".")[0] not in known:
        nested = ["task.env.<field>", "train.params.config.<key>"]
        near = did_you_mean(key, known) or f"; accepted: {', '.join(known + nested)}"
        raise PhalanxError(f"unknown key {key!r}{near}")
    section = key.removeprefix("task.env.").split(".")[0]
    if key.startswith("task.env.") and section in SECTIONS:
        raise PhalanxError(f"{key} is decided by task.{section}; give that instead")
    decided = DECIDED.get(key.removeprefix("train.params.config."))
    if decided and key not in known:
        raise PhalanxError(f"{key} is decided by {decided}=; give that instead")
    if key == "train":
        _train_config(str(override.value()))
    return override
