"""Converts `key=value` arguments to the typed options of a run, before anything is built.

    options = compose_config(["task=Ant", "num_envs=64", "task.env.dt=0.01"])
    runner.load({"params": train_params(options)})

The values of a task come, in increasing priority, from its Config, `cfg/task/<Task>.yaml`,
`env_config` of the train config, and the command line. With `checkpoint=` in a run folder, the
settings of that run replace the two files. `interpolation` resolves `${...}`; `read` converts the
result to typed dataclasses.
"""

import contextlib
import copy
import dataclasses
import logging
import os
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import yaml

from phalanx import tasks
from phalanx.cli.interpolation import is_reference, resolve
from phalanx.cli.options import (
    RUN_OPTIONS,
    PlayOptions,
    RunOptions,
    TaskChoice,
    TaskSections,
    TrainFile,
    TrainOptions,
    TrainParams,
)
from phalanx.cli.overrides import Override, parse, put
from phalanx.cli.settings import (
    GENERAL_TRAIN,
    check_train,
    load_train,
    own_train,
    saved_settings,
    say_how_to_write_train,
    train_file,
)
from phalanx.config import read
from phalanx.errors import PhalanxError
from phalanx.rl.saved_run import TASK_ENVIRONMENT
from phalanx.sim import resolve_device
from phalanx.tasks.projects import SECTIONS
from phalanx.tasks.task import TaskConfig

log = logging.getLogger(__name__)
Options = TypeVar("Options", bound=RunOptions)

ISAACGYMENVS_KEYS = {"multi_gpu": False}
"""Keys that `${...}` in IsaacGymEnvs' train configs refers to, where they are no options."""


def compose_config(arguments: list[str], command: str = "train") -> RunOptions:
    """The options of `command` for these arguments. Raises PhalanxError for a wrong argument."""
    kind = RUN_OPTIONS[command]
    names = [f.name for f in dataclasses.fields(kind)]
    overrides = [parse(argument, names, command) for argument in arguments]
    given = {o.key: o.value for o in overrides}
    tasks.look_beside(Path(given.get("checkpoint") or "."))
    saved, run = saved_settings(given["checkpoint"]) if given.get("checkpoint") else ({}, Path())
    name = str(given.get("task", saved["task"]["name"] if saved else "Cartpole"))
    with _named(run if "task" not in given else None):
        tasks.find(name)  # first, so that an unknown task is reported before other errors
    resumes = bool(saved) and saved["task"]["name"] == name
    layer = {k: v for k, v in saved.items() if resumes and k in kind.RESUMED}
    by_default = "train" not in given and "train" not in layer
    train_source = run
    if by_default or "train" in given:
        chosen = own_train(name) or GENERAL_TRAIN["Box"] if by_default else str(given["train"])
        layer["train"], train_source = load_train(chosen), train_file(chosen)
    if "task" in layer:
        task_source = run
        ground = layer["task"].get("env", {}).get("terrain_settings")
        if isinstance(ground, dict):  # of runs from before edges were vertical
            ground.setdefault("sharp_edges", False)
        _check_saved(saved, run, kind.RESUMED, given)
    else:
        task_source = tasks.settings_file(name)
        layer["task"] = {"name": name, "env": {}, **tasks.settings(name)}
    # Overrides change a copy: their mistakes are not the files'.
    file = {k: v for k, v in layer["task"].items() if k != "name"}
    values = _merge(kind, copy.deepcopy(layer), overrides)
    sources = [(str(task_source), file)]

    train = read(TrainFile, values["train"], "train")
    _check_environment(train)
    try:
        check_train(values["train"])
    except PhalanxError:
        with _named(train_source):
            check_train(_merge(kind, copy.deepcopy(layer), [])["train"])
        raise
    env = train.params.config.get("env_config") or {}
    if not isinstance(env, Mapping):
        raise PhalanxError(f"train.params.config.env_config is {env!r}; it must be a mapping")
    sources.append(("env_config of the train config", {"env": env}))
    config = {k: v for k, v in train.params.config.items() if k != "env_config"}
    train = TrainFile(dataclasses.replace(train.params, config=config))
    if train.params.seed is not None and "seed" not in given and "seed" not in layer:
        values["seed"] = train.params.seed

    sections = read(TaskSections, values["task"], "task")
    _put_below(sections.env, env, given, "task.env")
    parts = {f.name: getattr(sections, f.name) for f in dataclasses.fields(sections)}
    task = TaskChoice(parts.pop("name"), tasks.configure(name, parts, sources))
    if by_default and own_train(name) is None:
        general = GENERAL_TRAIN[_action_kind(name, task.config)]
        say_how_to_write_train(name, general)
        if general != GENERAL_TRAIN["Box"]:
            return compose_config([*arguments, f"train={general}"], command)
    options = read(kind, {**values, "task": task, "train": train}, "")
    if train.params.load_checkpoint and not options.checkpoint:
        raise PhalanxError(
            "train.params.load_checkpoint is true; name the file with checkpoint= instead"
        )
    _check_devices(options)
    return options


@contextlib.contextmanager
def _named(file: Path | None) -> Iterator[None]:
    """A PhalanxError that comes from inside begins with the file's name, if there is one."""
    try:
        yield
    except PhalanxError as error:
        if file is None or file == Path():
            raise
        raise PhalanxError(f"{file}: {error}") from error


def _check_saved(
    saved: dict[str, Any], file: Path, resumed: Sequence[str], given: Collection[str]
) -> None:
    """Raise PhalanxError, naming the file, if the settings of a run are wrong before overrides
    change them; log which of the keys `resumed` it lacks that are not `given` instead.
    `tasks.configure` and `check_train` look at the values of task and train config."""
    with _named(file):
        sections = read(TaskSections, saved["task"], "task")
        read(TrainFile, saved["train"], "train")
        task = TaskChoice("", TaskConfig())
        train = TrainFile(TrainParams({}, {}, {}))
        of_train = {f.name for f in dataclasses.fields(TrainOptions)} & set(saved)
        options = {key: saved[key] for key in of_train}
        read(TrainOptions, {**options, "task": task, "train": train}, "")
    lacking = [k for k in resumed if k not in saved]
    config = tasks.find(sections.name).Config
    lacking += _lacking(config, sections.env, "task.env")
    if lacking := [k for k in lacking if k not in given]:
        log.warning("%s has no %s; defaults take their place", file, ", ".join(lacking))


def _lacking(config: type, saved: Mapping[str, Any], place: str) -> list[str]:
    """Keys of a dataclass, and of those in it, that the settings `saved` at `place` lack."""
    found = []
    for f in dataclasses.fields(config):
        value, key = saved.get(f.name), f"{place}.{f.name}"
        kind = f.default_factory if isinstance(f.default_factory, type) else None
        if f.name in SECTIONS:
            continue
        if f.name not in saved:
            found.append(key)
        elif dataclasses.is_dataclass(kind) and isinstance(value, Mapping):
            found += _lacking(kind, value, key)
    return found


def _put_below(
    values: dict[str, Any], more: Mapping[str, Any], given: Collection[str], place: str
) -> None:
    """Put `more` into `values`, but not what the command line has given; `place` is their key."""
    for key, value in more.items():
        path = f"{place}.{key}"
        if path in given:
            continue
        if isinstance(value, Mapping) and isinstance(values.get(key), dict):
            _put_below(values[key], value, given, path)
        elif not any(k.startswith(f"{path}.") for k in given):
            values[key] = value


def _action_kind(name: str, config: TaskConfig) -> str:
    """The class of a task's action space, without building the task. Box where that is not
    possible: then building the model reports any mismatch."""
    cls = tasks.find(name)
    task = cls.__new__(cls)
    task.config = config
    try:
        return type(task.action_space).__name__
    except AttributeError:  # not known before the simulation is there
        return "Box"


def _merge(
    kind: type[RunOptions], layer: dict[str, Any], overrides: list[Override]
) -> dict[str, Any]:
    """Defaults, `layer` and overrides as one mapping, with every `${...}` resolved."""
    defaults = {
        f.name: f.default for f in dataclasses.fields(kind) if f.default is not dataclasses.MISSING
    }
    root = {**ISAACGYMENVS_KEYS, **defaults, **layer}
    for override in overrides:
        if override.key not in ("task", "train"):
            put(root, override)
    train = root["train"].get("params") if isinstance(root["train"], dict) else None
    config = train.get("config") if isinstance(train, dict) else None
    for key in ("name", "full_experiment_name", "num_actors"):
        # Options set these keys; in IsaacGymEnvs' files they refer to its own keys.
        if isinstance(config, dict) and is_reference(config.get(key)):
            del config[key]
    known = {f.name for f in dataclasses.fields(kind)}
    return {k: v for k, v in resolve(root).items() if k in known or k not in ISAACGYMENVS_KEYS}


def _check_environment(train: TrainFile) -> None:
    name = train.params.config.get("env_name", TASK_ENVIRONMENT)
    if name != TASK_ENVIRONMENT:
        raise PhalanxError(
            f"this train config is for the environment {name!r} (params.config.env_name), but the"
            " command line trains tasks only; run it from Python with phalanx.rl.Runner"
        )


def _check_devices(options: RunOptions) -> None:
    for key in ("sim_device", "rl_device"):
        try:
            resolve_device(getattr(options, key))
        except PhalanxError as error:
            raise PhalanxError(f"{key}: {error}") from error


def train_params(options: RunOptions) -> dict[str, Any]:
    """RL Games' `params`, including the keys that options set. `env_config.config` is the typed
    Config of the task."""
    params = options.train.params
    task = options.task
    inner = dict(params.config)
    inner["name"] = task.name
    inner["env_name"] = TASK_ENVIRONMENT
    engine = {} if options.engine == "auto" else {"engine": options.engine}
    inner["env_config"] = {"config": task.config, **engine}
    inner["num_actors"] = options.num_envs or task.config.num_envs or inner.get("num_actors")
    inner["device"], inner["sim_device"] = options.rl_device, options.sim_device
    if isinstance(options, TrainOptions):
        if options.deterministic:
            inner["deterministic"] = True
            config = dataclasses.replace(task.config, deterministic=True)
            inner["env_config"] |= {"config": config}
        inner["multi_gpu"] = options.multi_gpu or inner.get("multi_gpu", False)
        inner["train_dir"] = options.train_dir
        inner["full_experiment_name"] = options.experiment
        if options.max_iterations is not None:
            inner["max_epochs"] = options.max_iterations
    player = inner.get("player") or {}
    if isinstance(options, PlayOptions) and isinstance(player, Mapping):  # otherwise `read` raises
        inner["player"] = {**player, "games_num": options.games}
    sections = {"algo": params.algo, "model": params.model, "network": params.network}
    threads = {} if params.torch_threads is None else {"torch_threads": params.torch_threads}
    return {**sections, **threads, "seed": options.seed, "config": inner}


def resolved(options: Options) -> Options:
    """`options` with the number of environments and the seed filled in."""
    params = train_params(options)["config"]
    device = resolve_device(options.sim_device)
    default = tasks.find(options.task.name).default_num_envs[device.type]
    seed = int.from_bytes(os.urandom(3)) if options.seed == -1 else options.seed
    return dataclasses.replace(options, seed=seed, num_envs=params["num_actors"] or default)


def as_settings(options: RunOptions) -> dict[str, Any]:
    """The options as plain values by key, for `config.yaml` of a run and `--cfg`."""
    values = dataclasses.asdict(options)
    config = values["task"].pop("config")
    sections = {name: config.pop(name) for name in SECTIONS if name != "env"}
    task = {"name": options.task.name, "env": config, **sections}
    return _plain({**values, "task": task})


def print_config(command: str, arguments: list[str]) -> None:
    """`--cfg`, or `--cfg job` as in Hydra: print the options for the other arguments as YAML.
    Raises PhalanxError for a command without these options."""
    words = [a for a in arguments if a not in ("--cfg", "-c", "job")]
    if command not in RUN_OPTIONS:
        raise PhalanxError(
            f"--cfg prints the configuration of {', '.join(RUN_OPTIONS)}, as in"
            " phalanx train --cfg task=Ant"
        )
    options = resolved(compose_config(words, command))
    print(yaml.safe_dump(as_settings(options), sort_keys=False), end="")


def _plain(value: Any) -> Any:
    """`value` with lists instead of tuples, as in YAML."""
    if isinstance(value, Mapping):
        return {k: _plain(v) for k, v in value.items()}
    return [_plain(v) for v in value] if isinstance(value, list | tuple) else value
