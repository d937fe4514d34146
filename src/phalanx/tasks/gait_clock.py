"""A clock that says which foot should stand and which should swing.

    self.clock = GaitClock(self, hz=2.0, offsets=(0, 0.5, 0.5, 0), stance=0.55)
    self.clock.step(moving)     # once per step, after the reward
    self.clock.begin(mask)      # in Task.reset_envs

A foot's phase runs from 0 to 1: it stands during the first part, `stance`, then swings. Where the
robot stands still, all feet should stand.
"""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from phalanx.config import checked
from phalanx.errors import PhalanxError

if TYPE_CHECKING:
    from phalanx.tasks.task import Task


class GaitClock:
    """One clock for each environment. hz: strides per second. offsets: of the F feet's phases.
    stance: part of a stride in which a foot stands. name: of its state, another one for each of
    several. Raises PhalanxError for numbers outside of their range."""

    def __init__(
        self,
        task: "Task",
        hz: float,
        offsets: Sequence[float],
        stance: float,
        name: str = "gait",
    ) -> None:
        hz = checked(float, hz, "hz of the gait clock", above=0)
        stance = checked(float, stance, "stance of the gait clock")
        offsets = checked(tuple[float, ...], offsets, "the list of the gait clock's offsets")
        if not 0 < stance < 1:
            raise PhalanxError(
                f"stance of the gait clock is {stance:g}; it is the part of a stride in which a"
                " foot stands, greater than 0 and less than 1"
            )
        if not offsets:
            raise PhalanxError("the gait clock has no offsets; give one for each foot")
        self.per_step, self.stance = hz * task.sim.dt, stance
        self.offsets = torch.tensor(offsets, device=task.device)
        self.phase = task.state(f"{name}_phase", torch.zeros(task.num_envs, device=task.device))
        """(N,) of the stride, in [0, 1)."""

    def begin(self, mask: Tensor) -> None:
        """Draw the phase in environments `mask` (N,) bool, where episodes begin."""
        self.phase.copy_(torch.where(mask, torch.rand_like(self.phase), self.phase))

    def step(self, moving: Tensor) -> None:
        """One control step passes; the clock stops where the robot is not `moving`, (N,) bool."""
        self.phase.add_(self.per_step * moving).remainder_(1.0)

    def observe(self, moving: Tensor) -> Tensor:
        """(N, 2) sine and cosine of the phase; 0 where the robot is not `moving`, (N,) bool."""
        angle = 2 * math.pi * self.phase
        return torch.stack([angle.sin(), angle.cos()], 1) * moving[:, None]

    def swing(self, moving: Tensor) -> Tensor:
        """(N, F) how far a foot's swing should have come, from 0 to 1; 0 where it should stand."""
        phases = torch.remainder(self.phase[:, None] + self.offsets, 1.0)
        return ((phases - self.stance) / (1 - self.stance)).clamp(min=0) * moving[:, None]
