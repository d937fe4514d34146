"""Episode statistics, meters, timers and TensorBoard tags."""

import time
from typing import Any

import torch
from torch import Tensor

from phalanx.compute.rows import write_rows


class EpisodeSums:
    """Returns and lengths of the running episodes, and sums over those that ended.

    They stay on the device, without synchronisation. `finished` (T, 4) has, for each step of the
    rollout, the sums of return, shaped return and length over ended episodes, and their number.
    """

    def __init__(self, num_envs: int, horizon: int, device: torch.device) -> None:
        self.running = torch.zeros(num_envs, 4, device=device)
        self.restart()
        self.finished = torch.zeros(horizon, 4, device=device)
        self._keep_count = torch.tensor([0.0, 0.0, 0.0, 1.0], device=device)

    def restart(self) -> None:
        """Clear the sums, because new episodes begin in all environments."""
        self.running.zero_()
        self.running[:, 3] = 1.0

    def add(self, reward: Tensor, shaped: Tensor, done: Tensor) -> Tensor:
        """Add one step, all (N,), done 1.0 or 0.0. Returns its row of `finished`, (4,)."""
        self.running[:, 0] += reward
        self.running[:, 1] += shaped
        self.running[:, 2] += 1.0
        finished = torch.mv(self.running.t(), done)
        write_rows(self.running, done > 0, self._keep_count)
        return finished

    def state_dict(self) -> dict[str, Tensor]:
        """The running sums, (N,) each."""
        return {"running": self.running}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Restore what `state_dict` returned."""
        self.running.copy_(state["running"])


class Meter:
    """Mean over about the last `window` values, updated with means of groups of values.

    RL Games' formula: a group of k values replaces as many old values as exceed the window.
    """

    def __init__(self, window: int) -> None:
        self.window = window
        self.mean = 0.0
        self.size = 0

    def add(self, sums: list[float], counts: list[float]) -> None:
        """Add groups of values: their sums, and how many each has; in this order."""
        window, mean, size = self.window, self.mean, self.size
        for total, count in zip(sums, counts, strict=True):  # a device waits for this loop
            if count:
                new = min(int(count), window)
                old = min(window - new, size)
                size = old + new
                mean = (mean * old + total / count * new) / size
        self.mean, self.size = mean, size

    @property
    def current_size(self) -> int:
        """RL Games' name of `size`."""
        return self.size

    def get_mean(self) -> float:
        """RL Games' way to read `mean`."""
        return self.mean


class Meters:
    """Mean return, shaped return and length of about the last `window` episodes."""

    def __init__(self, window: int) -> None:
        self.rewards, self.shaped_rewards, self.lengths = (Meter(window) for _ in range(3))

    @property
    def all(self) -> tuple[Meter, Meter, Meter]:
        """The three meters, in the order of `EpisodeSums`."""
        return self.rewards, self.shaped_rewards, self.lengths

    def add(self, finished: list[float]) -> None:
        """Add `EpisodeSums.finished` of an iteration, flattened: 4 numbers per step."""
        for k, meter in enumerate(self.all):
            meter.add(finished[k::4], finished[3::4])

    def state_dict(self) -> list[list[float]]:
        """Mean and size of each meter."""
        return [[m.mean, m.size] for m in self.all]

    def load_state_dict(self, state: list[list[float]]) -> None:
        """Restore what `state_dict` returned."""
        for meter, (mean, size) in zip(self.all, state, strict=True):
            meter.mean, meter.size = mean, int(size)


class Clock:
    """Times the last rollout and update, on the device where they run."""

    def __init__(self, device: torch.device) -> None:
        self._cuda = device.type == "cuda"
        self._marks: dict[str, tuple[Any, Any, int]] = {}
        self._start: Any = None

    def start(self) -> None:
        """Start timing."""
        self._start = self._now()

    def stop(self, name: str, repeats: int = 1) -> None:
        """Record the time since `start`, one of `repeats` in an iteration."""
        self._marks[name] = (self._start, self._now(), repeats)

    def read(self) -> dict[str, float]:
        """Seconds by name. Waits for a CUDA device."""
        if self._cuda:
            return {n: k * a.elapsed_time(b) / 1e3 for n, (a, b, k) in self._marks.items()}
        return {n: k * (b - a) for n, (a, b, k) in self._marks.items()}

    def _now(self) -> Any:
        if not self._cuda:
            return time.perf_counter()
        event = torch.cuda.Event(enable_timing=True)
        event.record()
        return event


MEANS = ("rewards", "shaped_rewards", "episode_lengths")
OTHER_AXES = {f"{tag}/{axis}" for tag in MEANS for axis in ("iter", "time")}
"""Tags that repeat a mean over iterations and over seconds."""


def with_tags(
    scalars: dict[str, float], meters: Meters, at: dict[str, float]
) -> dict[str, dict[str, float]]:
    """One iteration's values by RL Games' tags, for each horizontal axis of `at`, {"step": frames,
    "iter": iterations, "time": seconds}."""
    points: dict[str, dict[str, float]] = {axis: {} for axis in at}
    points["step"] = {**scalars, "info/epochs": at["iter"]}
    if meters.rewards.size:
        for axis, values in points.items():
            values |= {f"{t}/{axis}": m.mean for t, m in zip(MEANS, meters.all, strict=True)}
        # Names that tools of other trainers use.
        means = {"ep_rew_mean": meters.rewards.mean, "ep_len_mean": meters.lengths.mean}
        points["step"] |= means
        if "info/kl" in scalars:
            points["step"]["approxkl"] = scalars["info/kl"]
    return points


def performance(frames: int, seconds: float, times: dict[str, float]) -> dict[str, float]:
    """Speed of an iteration of `frames` steps, by RL Games' tags; `times` is from `Clock.read`."""
    scalars = {
        "performance/step_inference_rl_update_fps": frames / max(seconds, 1e-9),
        "performance/step_inference_fps": frames / max(times["rollout"], 1e-9),
        "performance/rl_update_time": times["update"],
        "performance/step_inference_time": times["rollout"],
    }
    if "step" in times:
        scalars["performance/step_fps"] = frames / max(times["step"], 1e-9)
        scalars["performance/step_time"] = times["step"]
    return scalars
