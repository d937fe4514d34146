"""Setters of states, commands and forces, for all actors or for those in a mask."""

import dataclasses

import torch
from torch import Tensor

from isaacgym.drives import Drives
from isaacgym.enums import CoordinateSpace
from isaacgym.rotations import rotate, rotate_back
from isaacgym.state import Places, State


@dataclasses.dataclass
class Setters:
    """N environments, with A actors, B bodies and D degrees of freedom each. A mask is (N, A) bool;
    None stands for all actors."""

    state: State
    drives: Drives
    forces_used: bool = False
    """Whether forces on bodies were ever applied. They last for one `simulate`."""

    def set_root_states(self, new: Tensor, mask: Tensor | None) -> None:
        """Set poses and velocities of roots, (N, A, 13)."""
        state = self.state
        engine = state.engine
        quat = new[..., 3:7].roll(1, -1)  # w first
        quat = torch.nn.functional.normalize(quat, dim=-1, eps=1e-9)
        pos = new[..., :3] + state.offset
        if len(f := state.free):
            turn, v = f.of(quat), f.of(new[..., 7:])
            speed, omega = v[..., :3], v[..., 3:]
            if (more := state.centre_speed(turn, omega)) is not None:
                speed = speed - more
            listed = None if mask is None else f.of(mask)
            _write(engine.qpos, state.root_q, torch.cat([f.of(pos), turn], -1), listed)
            v = torch.cat([speed, rotate_back(turn, omega)], -1)
            _write(engine.qvel, state.root_v, v, listed)
        if len(f := state.fixed):
            for held, values in ((engine.mocap_pos, f.of(pos)), (engine.mocap_quat, f.of(quat))):
                if mask is not None:
                    values = torch.where(f.of(mask)[..., None], values, held)
                held.copy_(values)
        state.note_change(mask)

    def set_dof_states(self, new: Tensor, mask: Tensor | None) -> None:
        """Set positions and velocities, (N, D, 2)."""
        state = self.state
        engine = state.engine
        listed = None if mask is None else state.of_dofs(mask)
        _write(engine.qpos, state.dof_q, new[..., :1], listed)
        _write(engine.qvel, state.dof_v, new[..., 1:], listed)
        state.note_change(mask)

    def set_dof_commands(self, what: str, new: Tensor, mask: Tensor | None) -> None:
        """Set targets or efforts, (N, D). what: one of `drives.COMMANDS`."""
        held: Tensor = getattr(self.drives, what)
        if mask is not None:
            new = torch.where(self.state.of_dofs(mask), new, held)
        held.copy_(new)

    def apply_forces(self, force: Tensor | None, torque: Tensor | None, space: int) -> None:
        """Add forces [N] at the centres of mass and torques [N m], (N, B, 3), for the next
        `simulate`."""
        state = self.state
        given = force if torque is None else torque
        if given is None:
            return
        self.expect_forces(poses=space == CoordinateSpace.LOCAL_SPACE)
        wrench = [torch.zeros_like(given) if x is None else x for x in (force, torque)]
        if space == CoordinateSpace.LOCAL_SPACE:
            quat = state.field("xquat")[:, 1:]
            wrench = [rotate(quat, x) for x in wrench]
        self._add_wrench(*wrench)

    def apply_forces_at(self, force: Tensor, place: Tensor, space: int) -> None:
        """Add forces [N] at positions [m], (N, B, 3), for the next `simulate`."""
        state = self.state
        self.expect_forces(poses=True)
        if space == CoordinateSpace.LOCAL_SPACE:
            quat = state.field("xquat")[:, 1:]
            force = rotate(quat, force)
            place = rotate(quat, place) + state.field("xpos")[:, 1:]
        elif space == CoordinateSpace.ENV_SPACE:
            place = place + state.offset
        else:
            place = place - state.beyond_offset
        torque = torch.linalg.cross(place - state.field("xipos")[:, 1:], force)
        self._add_wrench(force, torque)

    def expect_forces(self, poses: bool) -> None:
        """Have `simulate` take forces on bodies. poses: have those of the bodies ready, too. A call
        that is replayed as a graph does neither."""
        if not self.forces_used:
            self.forces_used = True
            self.state.change_step()
            self.state.engine.xfrc_applied.zero_()  # makes it, before a capture
        if poses:
            self.state.refresh_derived()

    def _add_wrench(self, force: Tensor, torque: Tensor) -> None:
        self.state.engine.xfrc_applied[:, 1:] += torch.cat([force, torque], -1)


def _write(field: Tensor, columns: Places, new: Tensor, listed: Tensor | None) -> None:
    """Write columns of a state field (N, X), of those `listed` (N, things or 1) if given. new: (N,
    things, columns of each)."""
    if listed is not None:
        held = columns.of(field).view(new.shape)
        if columns.follow:
            torch.where(listed[..., None], new, held, out=held)
            return
        new = torch.where(listed[..., None], new, held)
    columns.write(field, new.flatten(1))
