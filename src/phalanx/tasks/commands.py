"""Commands to a robot that walks: a velocity over the ground and a rate of turning.

    self.commands = VelocityCommands(self, config.commands)     # in Task.init_buffers
    self.commands.begin(mask)                                   # in Task.reset_envs
    self.commands.step(yaw, followed)                           # once per step, after the reward

`commands.values` is (N, 3): the velocity along the base's x and y [m/s], projected onto the ground,
and the rate of turning about the vertical [rad/s]. A command stays for a few seconds. A part of the
environments stands still; another part is given a direction to face instead of a rate, and turns
towards it.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from phalanx.config import check_made, ranged
from phalanx.errors import PhalanxError
from phalanx.gate import show
from phalanx.layout import Term
from phalanx.tasks.locomotion import wrap_angle

if TYPE_CHECKING:
    from phalanx.tasks.task import Task

NAMES = ("lin_vel_x", "lin_vel_y", "ang_vel_z")
"""Of the elements of a command, also in the layout of an exported policy."""


@dataclass(frozen=True)
class CommandSettings:
    """Ranges of the commands, each [lowest, highest]."""

    lin_vel_x: tuple[float, ...] = (-1.0, 1.0)
    """Velocity along the base's x [m/s]."""
    lin_vel_y: tuple[float, ...] = (-0.6, 0.6)
    """Velocity along the base's y [m/s]."""
    ang_vel_z: tuple[float, ...] = (-1.0, 1.0)
    """Rate of turning about the vertical [rad/s]."""
    resample_s: tuple[float, ...] = ranged((4.0, 8.0), above=0)
    """Shortest and longest time of a command [s]."""
    standing: float = ranged(0.1, at_least=0, at_most=1)
    """Share of the commands that are to stand still."""
    heading: float | None = ranged(None, at_least=0, at_most=1)
    """Share of the commands that give a direction to face, instead of a rate of turning. null: 0.3
    on a plane; on other ground all that walk, as robots that turn on and on stay on their tile."""
    heading_gain: float = ranged(1.0, above=0)
    """Rate of turning per angle to that direction [1/s]; within the range of `ang_vel_z`."""
    forward: float = ranged(0.0, at_least=0, at_most=1)
    """Share of the other commands that are to walk straight ahead, at 0.3 m/s or more, if the range
    of `lin_vel_x` has that."""

    first_part: float = ranged(1.0, at_least=0, at_most=1)
    """Part of the ranges of velocity and turning, around their values nearest to 0, from which
    commands are drawn at first; it grows to 1 over `grow_steps`."""
    grow_steps: int = ranged(0, at_least=0)
    """Environment steps, each of all environments, over which that part grows."""
    grow_at: float | None = ranged(None, above=0, at_most=1)
    """It grows only while commands are followed this well: the mean of the reward's term
    `track_lin_vel`, without its weight, of all environments and some seconds. null: always."""

    def __post_init__(self) -> None:
        check_made(self, "task.env.commands")
        for name in (*NAMES, "resample_s"):
            bounds = getattr(self, name)
            if len(bounds) != 2 or not bounds[0] <= bounds[1]:
                raise PhalanxError(
                    f"task.env.commands.{name} is {list(bounds)}; it must be the lowest and the"
                    " highest value, as in [-1, 1]"
                )
        grows = (self.first_part < 1, self.grow_steps > 0)
        if any(grows) != all(grows) or (self.grow_at is not None and not all(grows)):
            raise PhalanxError(
                "task.env.commands.first_part, grow_steps and grow_at are"
                f" {self.first_part:g}, {self.grow_steps} and"
                f" {'null' if self.grow_at is None else format(self.grow_at, 'g')}; commands grow"
                " only with first_part below 1 and grow_steps above 0"
            )


FOLLOWED_S = 4.0
"""Time over which it is averaged how well commands are followed [s]."""


class VelocityCommands:
    """The commands of all environments of a task, as its state; `name` is that of this state,
    another one for each of several."""

    def __init__(
        self,
        task: "Task",
        settings: CommandSettings,
        rough: bool = False,
        name: str = "command",
    ) -> None:
        n, device = task.num_envs, task.device
        self.settings, self.sim, self.dt = settings, task.sim, task.sim.dt
        usual = 1.0 if rough else 0.3
        self.heading: float = usual if settings.heading is None else settings.heading
        self.values = task.state(name, torch.zeros(n, 3, device=device))
        """(N, 3) velocity along x and y [m/s] and rate of turning [rad/s]."""
        self._left = task.state(f"{name}_left", torch.zeros(n, device=device))  # (N,) [s]
        # (N,) direction to face [rad], and whether there is one
        self._facing = task.state(f"{name}_facing", torch.zeros(n, device=device))
        self._faces = task.state(f"{name}_faces", torch.zeros(n, dtype=torch.bool, device=device))
        self._steps = task.state(f"{name}_steps", torch.zeros((), device=device))
        if settings.grow_at is not None:
            self._followed = task.state(f"{name}s_followed", torch.zeros((), device=device))
        ranges = torch.tensor([getattr(settings, k) for k in NAMES], device=device)
        self.low, self.high = ranges.unbind(1)
        self.least = torch.zeros(3, device=device).clamp(self.low, self.high)
        """(3,) the command nearest to standing still within the ranges, from which they grow."""
        self.fixed = False
        task.schedule_ends.append(self.end_schedules)

    @property
    def part(self) -> Tensor:
        """0-d: the part of the ranges from which commands are drawn now."""
        first, grown = self.settings.first_part, self._steps / max(1, self.settings.grow_steps)
        return first + (1 - first) * grown.clamp(max=1.0)

    def _grown(self, values: Tensor) -> Tensor:
        """Commands (..., 3) of the whole ranges, brought into the part that counts now."""
        return self.least + self.part * (values - self.least)

    def end_schedules(self) -> None:
        """Draw from the whole ranges from now on, as at the end of training."""
        self._steps.fill_(self.settings.grow_steps + 1)

    @property
    def moving(self) -> Tensor:
        """(N,) bool, whether a command is more than to stand still."""
        return (self.values.abs() > 0.05).any(1)

    def begin(self, mask: Tensor) -> None:
        """Draw commands in environments `mask` (N,) bool, where episodes begin."""
        if self.fixed:
            return
        s, n, device = self.settings, len(mask), mask.device
        fresh = self._grown(self.low + (self.high - self.low) * torch.rand(n, 3, device=device))
        kind = torch.rand(n, device=device)
        fresh = torch.where((kind < s.standing)[:, None], 0.0, fresh)
        if s.forward:
            straight = (torch.rand(n, device=device) < s.forward)[:, None]
            ahead = self.least.repeat(n, 1)
            ahead[:, 0] = torch.minimum(fresh[:, 0].abs().clamp(min=0.3), self.high[0])
            fresh = torch.where(straight & (kind >= s.standing)[:, None], ahead, fresh)
        faces = (kind >= s.standing) & (kind < s.standing + self.heading)
        facing = math.pi * (2 * torch.rand(n, device=device) - 1)
        shortest, longest = s.resample_s
        time = shortest + (longest - shortest) * torch.rand(n, device=device)
        self.values.copy_(torch.where(mask[:, None], fresh, self.values))
        self._left.copy_(torch.where(mask, time, self._left))
        self._facing.copy_(torch.where(mask, facing, self._facing))
        self._faces.copy_(torch.where(mask, faces, self._faces))

    def step(self, yaw: Tensor, followed: Tensor | None = None) -> None:
        """One control step passes: draw where a command's time is over, and turn those that face a
        direction; yaw (N,) [rad]. followed: (N,) how well the commands were followed, 0 to 1; only
        `grow_at` needs it."""
        if self.fixed:
            return
        self._left -= self.dt
        if self.settings.grow_at is None:
            self._steps += 1
        elif followed is None:
            raise PhalanxError(
                f"task.env.commands.grow_at is {self.settings.grow_at:g}, but the task's reward has"
                " no term track_lin_vel; set it to null"
            )
        else:
            ok = ~self.sim.diverged
            mean = torch.where(ok, followed, 0.0).sum() / ok.sum().clamp(min=1)
            self._followed += self.dt / FOLLOWED_S * (mean - self._followed)
            self._steps += self._followed >= self.settings.grow_at
        self.begin(self._left <= 0)
        rate = self.settings.heading_gain * wrap_angle(self._facing - yaw)
        rate = rate.clamp(self._grown(self.low)[2], self._grown(self.high)[2])
        turn = self.values[:, 2]
        turn.copy_(torch.where(self._faces, rate, turn))

    def give(self, values: Sequence[float] | Tensor) -> None:
        """Take commands from outside, (3,) or (N, 3), from now on; nothing is drawn any more.
        Raises PhalanxError for a wrong number of values and for one outside of its range."""
        try:
            given = torch.as_tensor(values, dtype=torch.float32, device=self.low.device)
        except (TypeError, ValueError, RuntimeError) as error:
            raise PhalanxError(
                f"the command is {show(values)}; it must be {len(NAMES)} numbers:"
                f" {', '.join(NAMES)}"
            ) from error
        if given.shape not in (self.values.shape, self.values.shape[1:]):
            flat = given.dim() == 1
            has = f"{len(given)} numbers" if flat else f"the shape {tuple(given.shape)}"
            raise PhalanxError(
                f"the command has {has}; it must be {len(NAMES)} numbers,"
                f" {', '.join(NAMES)}, or those of each environment, of shape"
                f" {tuple(self.values.shape)}"
            )
        given = given.expand_as(self.values)
        stands = (given == 0).all(1) & (self.settings.standing > 0)  # which is drawn, too
        for k, name in enumerate(NAMES):
            low, high = getattr(self.settings, name)
            bad = ~((given[:, k] >= low - 1e-6) & (given[:, k] <= high + 1e-6) | stands)
            if bad.any():
                raise PhalanxError(
                    f"the command {name} is {float(given[bad, k][0]):g}; the policy was trained"
                    f" within {low:g} to {high:g}"
                )
        self.fixed = True
        self.values.copy_(given)

    def steer(self, x: float, y: float, turn: float) -> None:
        """Change the commands from outside by these parts of their ranges, within them; those of
        a joystick or the keys. The first call begins with standing still."""
        if not self.fixed:
            self.values.zero_()
        self.fixed = True
        change = torch.tensor([x, y, turn], device=self.low.device) * (self.high - self.low)
        self.values.copy_((self.values + change).clamp(self.low, self.high))

    def term(self) -> Term:
        """The command as a term of an observation."""
        return Term("command", elements=NAMES, unit="m/s, m/s, rad/s")
