"""What the feet of a robot do: contact, time in the air, height, speed.

    self.feet = Feet(self, "robot", ("FL_foot", "FR_foot", "RL_foot", "RR_foot"))
    self.feet.update(force)     # once per step, before observation and reward
    self.feet.begin(mask)       # in Task.reset_envs

The scene must measure contact forces on these bodies, see `Scene.add_contact_force_sensors`.
"""

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from phalanx.config import checked
from phalanx.errors import PhalanxError
from phalanx.tasks.locomotion import rotation_matrix
from phalanx.tasks.terrain import Terrain

if TYPE_CHECKING:
    from phalanx.tasks.task import Task

TOUCHES = 1.0
"""Force from which on a foot counts as touching [N]."""


def check_feet(bodies: Sequence[str]) -> None:
    """Raise PhalanxError if a task's setting `feet` names none."""
    if not bodies:
        raise PhalanxError("task.env.feet is empty; name the bodies that are the robot's feet")


class Feet:
    """F bodies of an actor. A foot is its body's origin, or the point `place` [m] in its frame;
    radius: from there to the sole [m]. name: of its state, another one for each of several. Raises
    PhalanxError for a body that the actor does not have, or that is not measured."""

    def __init__(
        self,
        task: "Task",
        actor: str,
        bodies: Sequence[str],
        radius: float,
        place: Sequence[float] = (),
        name: str = "feet",
    ) -> None:
        radius = checked(float, radius, "the radius of a foot", at_least=0)
        bodies = checked(tuple[str, ...], bodies, "the list of feet")
        if twice := [body for body in bodies if bodies.count(body) > 1]:
            raise PhalanxError(f"the foot {twice[0]!r} is named twice; name each body once")
        place = checked(tuple[float, ...], place, "the place of a foot")
        if len(place) not in (0, 3):
            raise PhalanxError(
                f"the place of a foot is {list(place)}; it must be x, y and z, as in"
                " [0.04, 0, -0.037]"
            )
        self.robot, self.radius, self.dt = task.sim.actor(actor), radius, task.sim.dt
        self._place = torch.tensor(place, device=task.device) if any(place) else None
        device = task.device
        angles = torch.arange(8, device=device) * (math.pi / 4)
        self._around = torch.stack([angles.cos(), angles.sin()], 1)
        forces = self.robot.contact_places(bodies)
        ids = [self.robot.body_id(b) for b in bodies]
        # A slice is a view; legs have the same number of bodies, mostly.
        steps = {b - a for a, b in pairwise(ids)}
        even = len(steps) == 1 and min(steps) > 0
        self._ids = (
            slice(ids[0], ids[-1] + 1, min(steps)) if even else torch.tensor(ids, device=device)
        )
        self._forces = torch.tensor(forces, device=device)
        shape = (task.num_envs, len(ids))
        zeros = torch.zeros(shape, device=device)
        self.air_time = task.state(f"{name}_air_time", zeros)
        """(N, F) time since the foot lifted off, of this or the last swing [s]."""
        self.peak = task.state(f"{name}_peak", zeros.clone())
        """(N, F) largest height of this or the last swing [m]."""
        self.contact = task.state(f"{name}_contact", torch.ones(shape, dtype=torch.bool).to(device))
        """(N, F) bool, whether the foot touches anything."""
        self.landed = torch.zeros_like(self.contact)
        """(N, F) bool, whether it touches for the first time after a swing."""
        self.height = zeros.clone()
        """(N, F) of the sole above the ground [m]."""
        self.speed = zeros.clone()
        """(N, F) horizontal speed [m/s]."""

    def forces(self, force: Tensor) -> Tensor:
        """Those of the actor's `contact_force` (N, C, 3) that are the feet's, (N, F, 3) [N]."""
        return force[:, self._forces]

    def positions(self) -> Tensor:
        """(N, F, 3) of the feet's spheres [m], world frame."""
        pos = self.robot.sim.xpos[:, self._ids]
        if self._place is None:
            return pos
        quat = self.robot.sim.xquat[:, self._ids].flatten(0, 1)
        return pos + (rotation_matrix(quat) @ self._place).view_as(pos)

    def heights(self, pos: Tensor, terrain: Terrain | None = None) -> Tensor:
        """(N, F) of the soles above the ground [m], of feet at `pos`."""
        height = pos[..., 2] - self.radius
        return height - terrain.height(pos[..., :2]) if terrain else height

    def rise(self, terrain: Terrain, reach: float) -> Tensor | float:
        """(N, F) how far the highest ground at eight points, `reach` [m] around each foot, is above
        the ground below it [m]; 0 where it is not higher, and for a reach of 0."""
        if not reach:
            return 0.0
        below = self.positions()[..., :2]
        around = terrain.height(below[..., None, :] + reach * self._around).amax(-1)
        return (around - terrain.height(below)).clamp(min=0)

    def observe(self, force: Tensor, terrain: Terrain | None = None) -> Tensor:
        """(N, 6 F) heights [m], times in the air [s], contacts, 0 or 1, and forces as the logarithm
        of 1 + |force [N]|, with its sign; force and terrain as for `update`."""
        force = self.forces(force).flatten(1)
        # Heights of now: where an episode begins, those of `update` are the last episode's.
        parts = [self.heights(self.positions(), terrain), self.air_time, self.contact.float()]
        return torch.cat([*parts, force.sign() * force.abs().log1p()], 1)

    def update(self, force: Tensor, terrain: Terrain | None = None) -> None:
        """One control step has passed. force: the actor's `contact_force`, (N, C, 3) [N]. terrain:
        the ground, if it is not a plane at 0."""
        sim = self.robot.sim
        touches = self.forces(force).norm(dim=-1) > TOUCHES
        pos, cvel = self.positions(), sim.cvel[:, self._ids]
        arm = pos - sim.subtree_com[:, self.robot.root_id, None]
        vel = cvel[..., 3:5] + torch.linalg.cross(cvel[..., :3], arm)[..., :2]
        self.height = self.heights(pos, terrain)
        self.speed = vel.norm(dim=-1)
        self.landed = touches & ~self.contact
        lifted = ~touches & self.contact
        self.air_time.masked_fill_(lifted, 0.0).add_(self.dt * ~(touches & self.contact))
        self.peak.masked_fill_(lifted, 0.0)
        self.peak.copy_(torch.where(touches, self.peak, torch.maximum(self.peak, self.height)))
        self.contact.copy_(touches)

    def begin(self, mask: Tensor) -> None:
        """Episodes begin in environments `mask` (N,) bool: the feet stand."""
        self.air_time.masked_fill_(mask[:, None], 0.0)
        self.peak.masked_fill_(mask[:, None], 0.0)
        self.contact.logical_or_(mask[:, None])
