"""Setters of states, commands and forces, for all actors or for those in a mask."""

import dataclasses

import torch
from torch import Tensor

from isaacgym.drives import Drives
from isaacgym.enums import CoordinateSpace
from isaacgym.rotations import conjugate, rotate
from isaacgym.state import State


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
        quat = quat / torch.linalg.vector_norm(quat, dim=-1, keepdim=True).clamp_min(1e-9)
        pos = new[..., :3] + state.offset
        if len(state.free):
            f = state.free
            omega = new[:, f, 10:]
            arm = rotate(quat[:, f], state.com[:, state.roots])
            speed = new[:, f, 7:10] - torch.linalg.cross(omega, arm)
            back = conjugate(quat[:, f])
            q = torch.cat([pos[:, f], quat[:, f]], -1)
            v = torch.cat([speed, rotate(back, omega)], -1)
            self._write(engine.qpos, state.root_q, q, mask, f)
            self._write(engine.qvel, state.root_v, v, mask, f)
        if len(state.fixed):
            f = state.fixed
            keep = (
                torch.ones((), dtype=torch.bool, device=state.device)
                if mask is None
                else mask[:, f, None]
            )
            engine.mocap_pos.copy_(torch.where(keep, pos[:, f], engine.mocap_pos))
            engine.mocap_quat.copy_(torch.where(keep, quat[:, f], engine.mocap_quat))
        state.note_change(mask)

    def _write(
        self, field: Tensor, index: Tensor, values: Tensor, mask: Tensor | None, of: Tensor
    ) -> None:
        """Write columns `index` of a state field, for the actors `of` that are in `mask`."""
        values = values.flatten(1)
        if mask is not None:
            listed = mask[:, of].repeat_interleave(values.shape[1] // max(len(of), 1), 1)
            values = torch.where(listed, values, field[:, index])
        field.index_copy_(1, index, values)

    def set_dof_states(self, new: Tensor, mask: Tensor | None) -> None:
        """Set positions and velocities, (N, D, 2)."""
        state = self.state
        engine = state.engine
        for field, index, column in (
            (engine.qpos, state.dof_q, 0),
            (engine.qvel, state.dof_v, 1),
        ):
            self._write(field, index, new[..., column], mask, state.actor_of_dof)
        state.note_change(mask)

    def set_dof_commands(self, what: str, new: Tensor, mask: Tensor | None) -> None:
        """Set targets or efforts, (N, D). what: one of `drives.COMMANDS`."""
        held: Tensor = getattr(self.drives, what)
        if mask is not None:
            new = torch.where(mask[:, self.state.actor_of_dof], new, held)
        held.copy_(new)

    def apply_forces(self, force: Tensor | None, torque: Tensor | None, space: int) -> None:
        """Add forces [N] at the centres of mass and torques [N m], (N, B, 3), for the next
        `simulate`."""
        state = self.state
        given = force if torque is None else torque
        if given is None:
            return
        wrench = [torch.zeros_like(given) if x is None else x for x in (force, torque)]
        if space == CoordinateSpace.LOCAL_SPACE:
            state.refresh_derived()
            quat = state.field("xquat")[:, 1:]
            wrench = [rotate(quat, x) for x in wrench]
        self._add_wrench(*wrench)

    def apply_forces_at(self, force: Tensor, place: Tensor, space: int) -> None:
        """Add forces [N] at positions [m], (N, B, 3), for the next `simulate`."""
        state = self.state
        state.refresh_derived()
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

    def _add_wrench(self, force: Tensor, torque: Tensor) -> None:
        state = self.state
        if not self.forces_used:
            self.forces_used = state.step_changed = True
        state.engine.xfrc_applied[:, 1:] += torch.cat([force, torque], -1)
