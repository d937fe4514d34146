"""Measuring tools of `phalanx bench`: time windows and peak memory."""

import resource
import sys
import time
from collections.abc import Callable

import torch

WINDOWS = 5
WARM_UP = 3  # calls, or reported iterations of a trainer, before the first window


class StopTrainer(Exception):
    """Raised to end a trainer that has no other way to stop."""


class Windows:
    """Steps/s in consecutive windows of time, from calls of `mark` after each iteration."""

    def __init__(self, seconds: float, device: torch.device) -> None:
        self.speeds: list[float] = []
        self._each = seconds / WINDOWS
        self._device = device
        self._marks = 0
        self._begin = (0.0, 0)

    def mark(self, frames: int) -> bool:
        """Count `frames` steps; returns True once all windows are measured."""
        if len(self.speeds) == WINDOWS:
            return True
        synchronize(self._device)
        now = time.perf_counter()
        self._marks += 1
        then, frames_then = self._begin
        if self._marks <= WARM_UP:
            self._begin = (now, frames)
        elif now - then >= self._each:
            self.speeds.append((frames - frames_then) / (now - then))
            self._begin = (now, frames)
        return len(self.speeds) == WINDOWS


class Memory:
    """Peak memory of this process over all calls of `read` [GB]."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._most = 0.0
        self._free = torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else 0

    def read(self) -> float:
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)
            taken = float(self._free - torch.cuda.mem_get_info(self._device)[0])
        else:
            taken = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
            taken *= 1 if sys.platform == "darwin" else 2**10
        self._most = max(self._most, taken / 1e9)
        return round(self._most, 3)


def synchronize(device: torch.device) -> None:
    """Wait for all work launched on the device."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def speeds(call: Callable[[], None], steps: int, seconds: float, device: torch.device) -> list:
    """Steps/s in each window; one `call` takes `steps`."""

    def seconds_of(calls: int) -> float:
        synchronize(device)
        start = time.perf_counter()
        for _ in range(calls):
            call()
        synchronize(device)
        return time.perf_counter() - start

    for _ in range(WARM_UP if device.type == "cuda" else 1):
        call()
    calls, each = 1, seconds / WINDOWS
    while (taken := seconds_of(calls)) < each / 4:
        calls *= 2
    calls = max(1, round(calls * each / taken))
    return [steps * calls / seconds_of(calls) for _ in range(WINDOWS)]
