"""Tasks by name.

    env = tasks.make("Cartpole", num_envs=64, device="cpu")
    obs = env.reset()["obs"]

A task is known by its class's name and lives in the module given here, imported on first use.
"""

import importlib
from typing import Any

from phalanx.config import read
from phalanx.errors import PhalanxError, did_you_mean
from phalanx.tasks.task import Task, TaskConfig

TASKS: dict[str, str] = {
    "Ant": "phalanx.tasks.ant",
    "Cartpole": "phalanx.tasks.cartpole",
    "Humanoid": "phalanx.tasks.humanoid",
    "HumanoidAMP": "phalanx.tasks.humanoid_amp",
    "HumanoidWalk": "phalanx.tasks.humanoid_walk",
}

__all__ = ["TASKS", "Task", "TaskConfig", "find", "make", "make_from_config"]


def find(name: str) -> type[Task]:
    """The class of task `name`. Raises PhalanxError for an unknown one."""
    if name not in TASKS:
        raise PhalanxError(
            f"unknown task {name!r}{did_you_mean(str(name), TASKS)};"
            f" tasks: {', '.join(sorted(TASKS))} (`phalanx list` describes them)"
        )
    return getattr(importlib.import_module(TASKS[name]), name)


def make(
    name: str,
    num_envs: int | None = None,
    device: str = "auto",
    engine: str = "auto",
    **env: Any,
) -> Task:
    """Task `name`; `env` overrides fields of its Config by name."""
    cls = find(name)
    if num_envs is not None:
        env["num_envs"] = num_envs
    return cls(read(cls.Config, env, "task.env"), device=device, engine=engine)


def make_from_config(
    name: str, num_envs: int | None = None, device: str = "auto", **env: Any
) -> Task:
    """What an agent asks for: the task that its run is named after, with `env_config`'s fields."""
    return make(name, num_envs, device, **env)
