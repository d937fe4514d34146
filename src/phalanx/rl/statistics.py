"""What a run reports: episode statistics, meters, times, TensorBoard's tags."""

import time
from typing import Any

import torch
from torch import Tensor

from phalanx.rl.nested import nested


class EpisodeSums:
    """Returns and lengths of the running episodes, and what those that ended sum up to.

    On the device and without synchronisation: `finished` (T, 4) has, per step of the rollout, the
    sums over ended episodes of return, shaped return and length, and their number.
    """

    def __init__(self, num_envs: int, horizon: int, device: torch.device) -> None:
        self.running = torch.zeros(num_envs, 4, device=device)
        self.restart()
        self.finished = torch.zeros(horizon, 4, device=device)
        self._keep_count = torch.tensor([0.0, 0.0, 0.0, 1.0], device=device)

    def restart(self) -> None:
        """New episodes everywhere."""
        self.running.zero_()
        self.running[:, 3] = 1.0

    def add(self, reward: Tensor, shaped: Tensor, done: Tensor) -> Tensor:
        """One step; all (N,), done 1.0 or 0.0. Returns its row of `finished`, (4,)."""
        self.running[:, 0] += reward
        self.running[:, 1] += shaped
        self.running[:, 2] += 1.0
        finished = torch.mv(self.running.t(), done)
        self.running.copy_(torch.where(done[:, None] > 0, self._keep_count, self.running))
        return finished


class Meter:
    """Mean over about the last `window` values, fed with means of groups of them.

    RL Games' formula: a group of k pushes out as many old ones as the window cannot hold.
    """

    def __init__(self, window: int) -> None:
        self.window = window
        self.mean = 0.0
        self.size = 0

    def add(self, mean: float, count: int) -> None:
        """A group of `count` values with that mean."""
        if count == 0:
            return
        count = min(count, self.window)
        old = min(self.window - count, self.size)
        self.size = old + count
        self.mean = (self.mean * old + mean * count) / self.size


class Clock:
    """Seconds of the last rollout and update, on the device where they run."""

    def __init__(self, device: torch.device) -> None:
        self._cuda = device.type == "cuda"
        self._marks: dict[str, tuple[Any, Any, int]] = {}
        self._start: Any = None

    def start(self) -> None:
        self._start = self._now()

    def stop(self, name: str, repeats: int = 1) -> None:
        """What ran since `start` was one of `repeats` that an iteration takes."""
        self._marks[name] = (self._start, self._now(), repeats)

    def read(self) -> dict[str, float]:
        """Seconds by name; on CUDA after the device has been waited for."""
        if self._cuda:
            return {n: k * a.elapsed_time(b) / 1e3 for n, (a, b, k) in self._marks.items()}
        return {n: k * (b - a) for n, (a, b, k) in self._marks.items()}

    def _now(self) -> Any:
        if not self._cuda:
            return time.perf_counter()
        event = torch.cuda.Event(enable_timing=True)
        event.record()
        return event


def named(
    scalars: dict[str, float], meters: tuple[Meter, Meter, Meter], at: dict[str, float]
) -> dict[str, dict[str, float]]:
    """One iteration's values by RL Games' tags, for each horizontal axis of `at`, {"step": frames,
    "iter": iterations, "time": seconds}; meters are of return, shaped return and length."""
    points: dict[str, dict[str, float]] = {axis: {} for axis in at}
    points["step"] = {**scalars, "info/epochs": at["iter"]}
    rewards, _, lengths = meters
    if rewards.size:
        tags = ("rewards", "shaped_rewards", "episode_lengths")
        for axis, values in points.items():
            values |= {f"{t}/{axis}": m.mean for t, m in zip(tags, meters, strict=True)}
        # Names that other trainers' tools look for.
        points["step"] |= {"ep_rew_mean": rewards.mean, "ep_len_mean": lengths.mean}
        if "info/kl" in scalars:
            points["step"]["approxkl"] = scalars["info/kl"]
    return points


def why_not_finite(remembered: dict[str, Any]) -> str:
    """What to say of rewards, observations, ..., (N, ...) each, when learning broke down."""
    for name, values in remembered.items():
        bad: list[Tensor] = []
        nested(lambda x, bad=bad: bad.append(~x.isfinite().flatten(1).all(1)), values)
        broken = torch.stack(bad).any(0)
        envs = broken.nonzero()[:, 0].tolist()
        if envs:
            return (
                f"the {name} of {len(envs)} of {len(broken)} environments, first of environment"
                f" {envs[0]}, are not finite; correct the environment"
            )
    return "rewards and observations are finite; try a lower learning rate"


def performance(frames: int, seconds: float, times: dict[str, float]) -> dict[str, float]:
    """RL Games' tags for the speed of an iteration of `frames` steps; `times` is `Clock.read`'s."""
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
