"""A run's folder as a Python program finds it: its settings and its checkpoint.

runner.load("runs/Cartpole")                       # or any RL Games YAML file
runner.run({"play": True, "checkpoint": "runs/Cartpole"})
"""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from phalanx.errors import PhalanxError
from phalanx.yaml_file import read_yaml

TASK_ENVIRONMENT = "rlgpu"
"""The env_name under which agents find a task, from IsaacGymEnvs' files."""
SHOWN = 5
"""Runs that a message names."""


def read_settings(source: Mapping[str, Any] | str | Path) -> Mapping[str, Any]:
    """RL Games' mapping, with or without its outer `params`: `source` itself, or what the YAML file
    or the run folder `source` holds. The `config.yaml` of a run becomes such a mapping. Raises
    PhalanxError for anything else."""
    if isinstance(source, Mapping):
        values: Any = source
    else:
        path = Path(source)
        values = read_yaml(path / "config.yaml" if path.is_dir() else path)
    if not isinstance(values, Mapping):
        raise PhalanxError(f"{source} is not a mapping with the key params")
    return _of_run(values) if {"task", "train"} <= set(values) else values


def _of_run(settings: Mapping[str, Any]) -> dict[str, Any]:
    task, train = settings["task"], settings["train"]
    if not (isinstance(task, Mapping) and "name" in task and isinstance(train, Mapping)):
        raise PhalanxError("task.name or train is missing in these settings of a run")
    params = dict(train.get("params") or {})
    for key in ("load_checkpoint", "load_path"):  # of the command line
        params.pop(key, None)
    env = {**(task.get("env") or {}), **{k: v for k, v in task.items() if k not in ("name", "env")}}
    env.pop("num_envs", None)  # num_actors, below
    if settings.get("engine", "auto") != "auto":
        env["engine"] = settings["engine"]
    config = {**(params.get("config") or {}), "name": task["name"], "env_name": TASK_ENVIRONMENT}
    config |= {"env_config": env, "num_actors": settings.get("num_envs")}
    config |= {"device": settings.get("rl_device", "auto")}
    config |= {"sim_device": settings.get("sim_device", "auto")}
    if settings.get("max_iterations"):
        config["max_epochs"] = settings["max_iterations"]
    if settings.get("deterministic"):
        config["deterministic"] = True
    return {"params": {**params, "seed": settings.get("seed"), "config": config}}


def resolve_checkpoint(given: str | Path) -> Path:
    """The file that `checkpoint` means: the file itself, or the last checkpoint of a run folder."""
    path = Path(given)
    if not path.is_dir():
        return path
    if found := _last_checkpoint(path):
        return found
    if near := [p for p in (path.parent, *sorted(path.iterdir())) if _last_checkpoint(p)]:
        runs = ", ".join(map(str, near[:SHOWN])) + (", ..." if len(near) > SHOWN else "")
        raise PhalanxError(f"{path} is not the folder of one run, as these are: {runs}")
    raise PhalanxError(
        f"the folder {path} has no checkpoint nn/last_<task>.pth to continue from;"
        " a run that ended before its first checkpoint has to be started again"
    )


def _last_checkpoint(folder: Path) -> Path | None:
    """Of a run, not of one of its iterations that was kept."""
    last = (p for p in folder.glob("nn/last_*.pth") if not re.search(r"_ep_\d+_rew_", p.name))
    return max(last, key=lambda p: p.stat().st_mtime, default=None)
