"""Where episodes begin in motion clips: more often where they failed lately.

    self.starts = StartFrames(self, frames)     # in Task.init_buffers
    self.starts.note(frame, failed)             # once per step
    frame = self.starts.draw(n)                 # in Task.reset_envs

Clips are cut into bins of a second. Of each, failures are averaged over steps with a weight of
0.001 for the latest; a bin is drawn in proportion to that of itself and of the next, so that a
start leads up to the fault, plus a tenth spread evenly. Source: BeyondMimic (arXiv:2508.08241),
numbers of mjlab 1.6.
"""

from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from phalanx.tasks.task import Task

LATEST, EVENLY, LEAD = 0.001, 0.1, 0.8
"""Weight of the latest step, share that is spread evenly, weight of the next bin."""


class StartFrames:
    """Starts among `frames` frames, one for each control step."""

    def __init__(self, task: "Task", frames: int) -> None:
        self.frames, self.width = frames, max(1, round(1 / task.sim.dt))
        bins = -(-frames // self.width)
        self.failures = task.state("start_failures", torch.zeros(bins, device=task.device))
        """(K,) failures per step, averaged."""
        self.from_the_first = False

    def note(self, frame: Tensor, failed: Tensor) -> None:
        """One step has passed: frames (N,), and whether the episode failed there, (N,) bool."""
        now = torch.zeros_like(self.failures).index_add_(0, frame // self.width, failed.float())
        self.failures.lerp_(now, LATEST)

    def shares(self) -> Tensor:
        """(K,) how often each bin is drawn."""
        after = torch.cat([self.failures[1:], self.failures[-1:] * 0])
        weight = self.failures + LEAD * after
        even = EVENLY * weight.sum() + 1e-6
        weight = weight + even / len(weight)
        return weight / weight.sum()

    def draw(self, n: int) -> Tensor:
        """n frames, (n,)."""
        device = self.failures.device
        if self.from_the_first:
            return torch.zeros(n, dtype=torch.long, device=device)
        at = torch.searchsorted(self.shares().cumsum(0), torch.rand(n, device=device))
        frame = (at + torch.rand(n, device=device)) * self.width
        return frame.long().clamp(max=self.frames - 2)
