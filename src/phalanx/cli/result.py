"""`config.yaml` and `result.json` of a run: its settings and its results."""

import importlib.metadata
import json
import platform
import subprocess
import time
from pathlib import Path
from typing import Any

import torch
import yaml

import phalanx
from phalanx.files import write_atomically
from phalanx.rl import AlgoObserver

SECONDS_BETWEEN_WRITES = 5.0


class ResultFile(AlgoObserver):
    """Writes both files when the run starts, and updates `result.json` during the run. Those of a
    run that goes on stay as they are until it has trained: it may have ended already."""

    def __init__(self, config: dict[str, Any], seed: int) -> None:
        self.config = config
        self.seed = seed
        self._written_at = 0.0
        self._begun = False

    def after_init(self, algo: Any) -> None:
        self.agent = algo
        self.path: Path = algo.experiment_dir / "result.json"
        if not self.path.exists():
            self._begin()

    def after_print_stats(self, frame: int, epoch_num: int, total_time: float) -> None:
        if not self._begun:
            self._begin()
        elif time.perf_counter() - self._written_at > SECONDS_BETWEEN_WRITES:
            self.write()

    def end(self) -> None:
        """Write the last figures, if the run has begun."""
        if self._begun:
            self.write()

    def _begin(self) -> None:
        self._begun = True
        text = yaml.safe_dump(self.config, sort_keys=False)
        write_atomically(self.path.with_name("config.yaml"), text.encode(), "train_dir=")
        log_config(self.agent.writer, self.config, text)
        self.write()

    def write(self) -> None:
        """Replace `result.json` with the current figures."""
        a = self.agent
        trained = a.total_time > 0
        seen = a.mean_rewards.size > 0
        best = a.last_mean_rewards
        result = {
            "task": a.name,
            "seed": self.seed,
            "device": device_name(a.device),
            "num_envs": a.num_actors,
            "iterations": a.epoch_num,
            "frames": a.frame,
            "wall_seconds": round(a.total_time, 3),
            "train_fps": round(a.frame / a.total_time) if trained else 0,
            "mean_return": a.mean_rewards.mean if seen else None,
            "mean_episode_length": a.mean_lengths.mean if seen else None,
            "best_return": best if best > -1e9 else None,
            "terms": a.task_scalars,
            "stopped": a.stop_reason or "running",
            "versions": versions(),
            "git_commit": git_commit(),
        }
        write_atomically(self.path, (json.dumps(result, indent=2) + "\n").encode())
        self._written_at = time.perf_counter()


def log_config(writer: Any, config: dict[str, Any], text: str) -> None:
    """Write the settings of a run to TensorBoard: as text, and as hyperparameters beside the mean
    return."""
    from torch.utils.tensorboard.summary import hparams

    writer.add_text("config", "\n".join(f"    {line}" for line in text.splitlines()))
    sections = {"task.env": config["task"]["env"], **config["train"]["params"]}
    kept = ("task.env", "config", "algo", "network")
    values = {"seed": config["seed"], "num_envs": config["num_envs"]}
    for name in kept:
        values |= flat(sections.get(name, {}), name)
    for summary in hparams(values, {"rewards/step": 0.0}):
        writer.file_writer.add_summary(summary)


def flat(values: dict[str, Any], where: str) -> dict[str, Any]:
    """Numbers, texts and bools in nested mappings, by their path."""
    found: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, dict):
            found |= flat(value, f"{where}.{key}")
        elif isinstance(value, (bool, int, float, str)):
            found[f"{where}.{key}"] = value
    return found


def versions() -> dict[str, str]:
    """Versions of everything that affects a result."""
    packages = ("torch", "mujoco", "mujoco-warp", "warp-lang")
    return {
        "phalanx": phalanx.__version__,
        "python": platform.python_version(),
        **{p: importlib.metadata.version(p) for p in packages},
    }


def device_name(device: torch.device) -> str:
    """The device with its name, as in `cuda:0 (NVIDIA H200)`."""
    if device.type == "cuda":
        return f"{device} ({torch.cuda.get_device_name(device)})"
    return f"cpu ({torch.get_num_threads()} threads)"


def git_commit() -> str | None:
    """The commit of the working folder; None outside a repository."""
    command = ["git", "rev-parse", "--short=12", "HEAD"]
    try:
        done = subprocess.run(
            command, capture_output=True, encoding="utf-8", timeout=5, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() or None
