"""States of a running task, read on the host without waiting for the device."""

import time
from typing import Any

import torch
from torch import Tensor

from phalanx.sim.recorder import Recorder, rows_since

SECONDS_BETWEEN_COPIES = 0.05


class LatestStates:
    """The states of a task's first environments, read without waiting for the device."""

    def __init__(self, task: Any, num_envs: int) -> None:
        self.sim = task.sim
        self.recorder = Recorder(task.sim, num_envs)
        task.watchers.append(self.recorder.record)
        cuda = task.sim.device.type == "cuda"
        self._ring = torch.empty_like(self.recorder.ring, device="cpu", pin_memory=cuda)
        self._last = torch.zeros((), dtype=torch.long, pin_memory=cuda)
        self._copied: Any = None
        self._event = torch.cuda.Event() if cuda else None
        self._seen = int(task.sim.steps)
        self._asked = 0.0
        self._begins = False

    def keep(self, wanted: bool) -> None:
        """Keep states from now on, or none. On a GPU they cost next to nothing, and are kept in any
        case: the step may be captured."""
        if self._event is None and wanted == self.recorder.resting:
            self.recorder.resting = not wanted
            self._seen, self._begins = int(self.sim.steps), True

    def read(self) -> tuple[Tensor, bool] | None:
        """Rows that are new since the last call, as `rows_since`, if some have arrived; asks for
        the next."""
        if self._event is None:
            return self._read_now()
        rows = None
        if self._copied and self._event.query():
            last = int(self._last)
            rows = rows_since(self._ring, last, self._seen)
            self._seen, self._copied = last, False
        now = time.perf_counter()
        if not self._copied and now - self._asked > SECONDS_BETWEEN_COPIES:
            self._asked, self._copied = now, True
            self._ring.copy_(self.recorder.ring, non_blocking=True)
            self._last.copy_(self.sim.steps, non_blocking=True)
            self._event.record()
        return rows

    def _read_now(self) -> tuple[Tensor, bool] | None:
        """On a CPU the states are there."""
        now = time.perf_counter()
        if now - self._asked < SECONDS_BETWEEN_COPIES:
            return None
        last, seen = int(self.sim.steps), self._seen
        self._asked, self._seen = now, last
        rows, follows = rows_since(self.recorder.ring, last, seen)
        follows, self._begins = follows and not self._begins, False
        return rows, follows
