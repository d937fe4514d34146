"""A run's folder as a Python program finds it: its settings and its checkpoint.

runner.load("runs/Cartpole")                       # or any RL Games YAML file
runner.run({"play": True, "checkpoint": "runs/Cartpole"})
"""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from phalanx.errors import PhalanxError, did_you_mean
from phalanx.yaml_file import read_yaml

TASK_ENVIRONMENT = "rlgpu"
"""The env_name under which agents find a task, from IsaacGymEnvs' files."""
TAKEN = (
    *("task", "train", "num_envs", "seed", "max_iterations", "sim_device", "rl_device", "engine"),
    "deterministic",
)
"""Settings of a run that a new run takes from it."""
OTHERS = (
    *("checkpoint", "view", "headless", "view_envs", "host", "port", "wandb", "wandb_activate"),
    *("wandb_project", "wandb_entity", "wandb_group", "wandb_name", "wandb_tags", "mlflow"),
    *("mlflow_experiment", "multi_gpu", "devices", "experiment", "train_dir", "video_every"),
)
"""Those of the command line alone: its files, displays and processes."""
SHOWN = 5
"""Runs that a message names."""


def read_settings(source: Mapping[str, Any] | str | Path) -> Mapping[str, Any]:
    """RL Games' mapping, with or without its outer `params`: `source` itself, or what the YAML file
    or the run folder `source` holds. The `config.yaml` of a run becomes such a mapping. Raises
    PhalanxError for anything else, and for a key that no run writes."""
    if isinstance(source, Mapping):
        values: Any = source
    else:
        path = Path(source)
        values = read_yaml(path / "config.yaml" if path.is_dir() else path)
    if not isinstance(values, Mapping):
        raise PhalanxError(f"{source} is not a mapping with the key params")
    if not {"task", "train"} <= set(values):
        return values
    here = "the settings of a run" if isinstance(source, Mapping) else str(source)
    return _of_run(values, here)


def _of_run(settings: Mapping[str, Any], here: str) -> dict[str, Any]:
    task, train = settings["task"], settings["train"]
    if not (isinstance(task, Mapping) and "name" in task and isinstance(train, Mapping)):
        raise PhalanxError(f"{here}: task.name or train is missing")
    known = {"": (*TAKEN, *OTHERS), "train.": ("params",)}
    for place, values in (("", settings), ("train.", train)):
        for key in values:
            if key not in known[place]:
                near = did_you_mean(str(key), known[place])
                raise PhalanxError(f"{here}: unknown key {place}{key}{near}")
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
