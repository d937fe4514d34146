"""Tasks by name.

    env = tasks.make("Cartpole", num_envs=64, device="cpu")
    obs = env.reset()["obs"]

A task is known by its class's name. It lives in the module given here, or in the project that the
working folder lies in (`projects.py`), and is imported on first use. `cfg/task/<Task>.yaml`
overrides what its class says.
"""

import importlib
from importlib import resources
from pathlib import Path
from typing import Any

from phalanx.config import read
from phalanx.errors import PhalanxError, did_you_mean
from phalanx.tasks.projects import Project, find_project, load_task, read_settings
from phalanx.tasks.task import Task, TaskConfig

TASKS: dict[str, str] = {
    "Ant": "phalanx.tasks.ant",
    "Cartpole": "phalanx.tasks.cartpole",
    "Humanoid": "phalanx.tasks.humanoid",
    "HumanoidAMP": "phalanx.tasks.humanoid_amp",
    "HumanoidWalk": "phalanx.tasks.humanoid_walk",
}

__all__ = [
    "TASKS", "Project", "Task", "TaskConfig", "find", "find_project", "make", "make_from_config",
    "names", "settings",
]  # fmt: skip


def names() -> dict[str, str]:
    """Every task and where it comes from: a module, or the file of a project, which hides a task
    of ours that has the same name."""
    project = find_project()
    return TASKS | {k: str(v) for k, v in (project.tasks if project else {}).items()}


def find(name: str) -> type[Task]:
    """The class of task `name`. Raises PhalanxError for an unknown one, or a faulty file."""
    project = find_project()
    if project and name in project.tasks:
        return load_task(name, project)
    if name not in TASKS:
        known = names()
        elsewhere = "" if project else "; a project's own tasks are found inside its folder"
        raise PhalanxError(
            f"unknown task {name!r}{did_you_mean(str(name), known)};"
            f" tasks: {', '.join(sorted(known))} (`phalanx list` describes them){elsewhere}"
        )
    return getattr(importlib.import_module(TASKS[name]), name)


def settings(name: str) -> dict[str, Any]:
    """What `cfg/task/<name>.yaml` says: `env`, fields of the task's Config, and beside it
    `randomize`, `randomization_params`, `actuators`. Raises PhalanxError, naming the file."""
    project = find_project()
    own = project is not None and name in project.tasks
    root = project.root / "cfg" if own and project else Path(str(resources.files("phalanx.cfg")))
    file = root / "task" / f"{name}.yaml"
    values = read_settings(file)
    try:
        read(find(name).Config, values.get("env", {}), "env")
    except PhalanxError as error:
        raise PhalanxError(f"{file}: {error}") from error
    return values


def make(
    name: str,
    num_envs: int | None = None,
    device: str = "auto",
    engine: str = "auto",
    **env: Any,
) -> Task:
    """Task `name`; `env` overrides fields of its Config by name."""
    cls = find(name)
    values = settings(name)
    env = {**values.pop("env", {}), **values, **env}
    if num_envs is not None:
        env["num_envs"] = num_envs
    return cls(read(cls.Config, env, "task.env"), device=device, engine=engine)


def make_from_config(
    name: str, num_envs: int | None = None, device: str = "auto", **env: Any
) -> Task:
    """What an agent asks for: the task that its run is named after, with `env_config`'s fields."""
    return make(name, num_envs, device, **env)
