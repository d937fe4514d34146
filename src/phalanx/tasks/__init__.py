"""Tasks by name.

    env = tasks.make("Cartpole", num_envs=64, device="cpu")
    obs = env.reset()["obs"]

A task has the name of its class. It lives in the module listed here, or in the project that
contains the working folder (`projects.py`), and is imported on first use. `cfg/task/<Task>.yaml`
overrides the defaults of its Config.
"""

import dataclasses
import importlib
import re
import shlex
from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

from phalanx.config import read
from phalanx.errors import PhalanxError, did_you_mean
from phalanx.tasks.projects import (
    SECTIONS,
    Project,
    find_project,
    load_task,
    look_beside,
    read_settings,
)

if TYPE_CHECKING:
    import torch

    from phalanx.sim.engines import MakeEngine
    from phalanx.tasks.task import Task, TaskConfig

TASKS: dict[str, str] = {
    "Ant": "phalanx.tasks.ant",
    "AnymalVelocity": "phalanx.tasks.anymal_velocity",
    "Cartpole": "phalanx.tasks.cartpole",
    "G1Tracking": "phalanx.tasks.g1_tracking",
    "G1Velocity": "phalanx.tasks.g1_velocity",
    "G1VelocityMjlab": "phalanx.tasks.g1_velocity_mjlab",
    "Go1Velocity": "phalanx.tasks.go1_velocity",
    "Go1VelocityMjlab": "phalanx.tasks.go1_velocity_mjlab",
    "Go2Backflip": "phalanx.tasks.go2_backflip",
    "Go2JoystickUnilab": "phalanx.tasks.go2_joystick_unilab",
    "Go2Recovery": "phalanx.tasks.go2_recovery",
    "Go2Velocity": "phalanx.tasks.go2_velocity",
    "Humanoid": "phalanx.tasks.humanoid",
    "HumanoidAMP": "phalanx.tasks.humanoid_amp",
    "HumanoidWalk": "phalanx.tasks.humanoid_walk",
}

ISAACGYMENVS = tuple(
    "AllegroHand AllegroKuka Anymal BallBalance FactoryTask Franka IndustRealTask Ingenuity"
    " Quadcopter ShadowHand Trifinger".split()
)
"""Beginnings of the names of IsaacGymEnvs' tasks that Phalanx has none of."""

__all__ = [
    "TASKS", "Project", "Task", "TaskConfig", "configure", "find", "find_project", "look_beside",
    "make", "make_from_config", "names", "settings", "source_file",
]  # fmt: skip


def __getattr__(name: str) -> Any:
    # Imported on demand: PyTorch takes seconds to import, and `phalanx list` does not need it.
    if name in ("Task", "TaskConfig"):
        return getattr(importlib.import_module("phalanx.tasks.task"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def names() -> dict[str, str]:
    """Every task and its origin: a module, or a file of the project. A project's task hides the
    built-in one of the same name."""
    project = find_project()
    return TASKS | {k: str(v) for k, v in (project.tasks if project else {}).items()}


def source_file(name: str) -> Path:
    """The Python file of task `name`. Raises PhalanxError for an unknown one. Imports nothing."""
    origin = names().get(name)
    if origin is None:
        raise _unknown(name)
    if origin != TASKS.get(name):
        return Path(origin)
    return Path(__file__).parent / f"{origin.rpartition('.')[2]}.py"


def find(name: str) -> "type[Task]":
    """The class of task `name`. Raises PhalanxError for an unknown one, or a faulty file."""
    project = find_project()
    if project and name in project.tasks:
        return load_task(name, project)
    if name not in TASKS:
        raise _unknown(name)
    return getattr(importlib.import_module(TASKS[name]), name)


def _unknown(name: str) -> PhalanxError:
    known = names()
    if str(name).startswith(ISAACGYMENVS):
        return PhalanxError(
            f"unknown task {name!r}{_nearest(str(name), known)}; IsaacGymEnvs' tasks run from its"
            " own repository, see docs/isaacgym.md, and `phalanx list` shows those of Phalanx"
        )
    if str(name).lower().endswith((".urdf", ".xml", ".mjcf")):
        return PhalanxError(
            f"{name!r} is a robot and no task;"
            f" `phalanx new my_robots robot={shlex.quote(name)}` writes a task around it"
        )
    elsewhere = "" if find_project() else "; tasks of a project are found inside its folder only"
    return PhalanxError(
        f"unknown task {name!r}{_nearest(str(name), known)};"
        f" tasks: {', '.join(sorted(known))} (`phalanx list` describes them){elsewhere}"
    )


def _nearest(name: str, known: Mapping[str, str]) -> str:
    """The end of a sentence with the task that is meant, also for names like Isaac-Ant-v0 and
    Mjlab-Velocity-Flat-Unitree-G1."""
    if near := did_you_mean(name, known):
        return near
    words = re.split(r"[^a-z0-9]+", name.lower())
    for task in sorted(known):
        if task.lower().removesuffix("velocity") in words:
            return f"; did you mean {task!r}?"
    return ""


def settings_file(name: str) -> Path:
    """`cfg/task/<name>.yaml` of the project or of Phalanx, whether or not it exists."""
    project = find_project()
    own = project is not None and name in project.tasks
    root = project.root / "cfg" if own and project else Path(str(resources.files("phalanx.cfg")))
    return root / "task" / f"{name}.yaml"


def settings(name: str) -> dict[str, Any]:
    """The sections of `cfg/task/<name>.yaml`: `env`, which holds fields of the task's Config, and
    `randomize`, `randomization_params`, `actuators`. Raises PhalanxError, naming the file.
    `configure` checks the values."""
    return read_settings(settings_file(name))


def configure(
    name: str, values: Mapping[str, Any], sources: Sequence[tuple[str, Mapping[str, Any]]] = ()
) -> "TaskConfig":
    """`values`, sections as in `settings`, as the Config of task `name`.

    This is the one place where settings of a task get their types. Raises PhalanxError for a wrong
    value. `sources` are the files that `values` were merged from, each with its sections; if one of
    them is wrong by itself, the message names that file.
    """
    cls = find(name).Config
    try:
        return read(cls, _fields(values), "task.env")
    except PhalanxError as error:
        try:
            read(cls, {}, "task.env")
        except PhalanxError as default:
            if str(default) == str(error):
                said = f"the defaults of {cls.__name__}: {_by_section(default)}"
                raise PhalanxError(said) from error
        for file, part in sources:
            try:
                read(cls, _fields(part), "task.env")
            except PhalanxError as its_own:
                raise PhalanxError(f"{file}: {_by_section(its_own)}") from error
        raise PhalanxError(_by_section(error)) from error


def _fields(sections: Mapping[str, Any]) -> dict[str, Any]:
    """Fields of a Config from sections of a YAML file."""
    env = sections.get("env") or {}
    if not isinstance(env, Mapping):
        raise PhalanxError(f"task.env is {env!r}; it must be a mapping of keys to values")
    return {**env, **{k: v for k, v in sections.items() if k != "env"}}


def _by_section(error: PhalanxError) -> str:
    """The message with the names that YAML and command line use: `task.randomize`."""
    outside = "|".join(s for s in SECTIONS if s != "env")
    return re.sub(rf"\btask\.env\.({outside})\b", r"task.\1", str(error))


def config_of(name: str, *layers: Mapping[str, Any]) -> "TaskConfig":
    """The Config of task `name` with its YAML file, and with the fields in each layer. A part of
    them that is given in part keeps its rest. Raises PhalanxError for a wrong field."""
    file = settings(name)
    config = configure(name, file, [(str(settings_file(name)), file)])
    for layer in layers:
        config = _replaced(find(name).Config, config, layer)
    return config


def _replaced(
    cls: "type[TaskConfig]", config: "TaskConfig", fields: Mapping[str, Any]
) -> "TaskConfig":
    try:
        return read(cls, fields, "task.env", base=config) if fields else config
    except PhalanxError as error:
        raise PhalanxError(_by_section(error)) from error


def make(
    name: str,
    num_envs: int | None = None,
    device: "str | torch.device" = "auto",
    engine: "str | MakeEngine" = "auto",
    config: "TaskConfig | None" = None,
    **env: Any,
) -> "Task":
    """Task `name` with the settings `config`, by default those of its Config and its YAML file.
    `env` overrides fields by name. Raises PhalanxError for a wrong field."""
    from phalanx.tasks.checks import check_init
    from phalanx.tasks.task import Task

    cls = find(name)
    config = config_of(name, env) if config is None else _replaced(cls.Config, config, env)
    if num_envs is not None:
        config = dataclasses.replace(config, num_envs=num_envs)
    check_init(cls, Task)
    return cls(config, device=device, engine=engine)


def make_from_config(
    name: str, num_envs: int | None = None, device: str = "auto", **env_config: Any
) -> "Task":
    """The task for an agent's `config.env_name` or `config.name`. `env_config` holds `config`,
    fields of the task's Config, or both."""
    return make(name, num_envs, device, **env_config)
