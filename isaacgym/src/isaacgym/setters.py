"""What the program sets: states, commands of the drives, forces; of all actors or of those listed.

Tensors of setters hold rows for the whole simulation, as `tensors.py` shows them. With an index
tensor the rows of the listed actors count.
"""

from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from isaacgym import params as api
from isaacgym.enums import CoordinateSpace
from isaacgym.tensors import rotate
from phalanx.errors import PhalanxError

if TYPE_CHECKING:
    from isaacgym.physics import Physics


class Setters:
    """What a `Physics` is told."""

    def __init__(self, physics: "Physics") -> None:
        self.physics = physics
        self.sim, self.layout = physics.sim, physics.layout
        self.num_envs, self.device = physics.num_envs, physics.device
        self.offset = physics.offset

    def set_root_states(self, states: Any, indices: Any, count: Any, call: str) -> None:
        """Poses and velocities of all actors, or of those listed."""
        p = self.physics
        new = self._given(states, (self.sim.num_actors, 13), call).view(self.num_envs, -1, 13)
        mask = self._listed(indices, count, call)
        engine = p.ready()
        quat = new[..., 3:7].roll(1, -1)  # w first
        quat = quat / torch.linalg.vector_norm(quat, dim=-1, keepdim=True).clamp_min(1e-9)
        pos = new[..., :3] + self.offset
        if len(p.free):
            f = p.free
            omega = new[:, f, 10:]
            arm = rotate(quat[:, f], p.com[:, p.roots])
            speed = new[:, f, 7:10] - torch.linalg.cross(omega, arm)
            back = quat[:, f] * p.conjugate
            q = torch.cat([pos[:, f], quat[:, f]], -1)
            v = torch.cat([speed, rotate(back, omega)], -1)
            self._write(engine.qpos, p.root_q, q, mask, f)
            self._write(engine.qvel, p.root_v, v, mask, f)
        if len(p.fixed):
            f = p.fixed
            keep = (
                torch.ones((), dtype=torch.bool, device=self.device)
                if mask is None
                else mask[:, f, None]
            )
            engine.mocap_pos.copy_(torch.where(keep, pos[:, f], engine.mocap_pos))
            engine.mocap_quat.copy_(torch.where(keep, quat[:, f], engine.mocap_quat))
        p.note_change(mask)

    def _write(
        self, field: Tensor, index: Tensor, values: Tensor, mask: Tensor | None, of: Tensor
    ) -> None:
        """Columns `index` of a state field, of the actors `of` that `mask` lists."""
        values = values.flatten(1)
        if mask is not None:
            listed = mask[:, of].repeat_interleave(values.shape[1] // max(len(of), 1), 1)
            values = torch.where(listed, values, field[:, index])
        field.index_copy_(1, index, values)

    def set_dof_states(self, states: Any, indices: Any, count: Any, call: str) -> None:
        """Positions and velocities of all degrees of freedom, or of the listed actors'."""
        p = self.physics
        new = self._given(states, (self.sim.num_dofs, 2), call).view(self.num_envs, -1, 2)
        mask = self._listed(indices, count, call)
        engine = p.ready()
        for field, index, column in (
            (engine.qpos, p.dof_q, 0),
            (engine.qvel, p.dof_v, 1),
        ):
            self._write(field, index, new[..., column], mask, p.actor_of_dof)
        p.note_change(mask)

    def set_dof_commands(self, what: str, values: Any, indices: Any, count: Any, call: str) -> None:
        """Targets or efforts, `what` names the tensor, of all or of the listed actors."""
        p = self.physics
        held: Tensor = getattr(p, what)
        new = self._given(values, (self.sim.num_dofs,), call).view(held.shape)
        mask = self._listed(indices, count, call)
        if mask is not None:
            new = torch.where(mask[:, p.actor_of_dof], new, held)
        held.copy_(new)

    def apply_forces(self, forces: Any, torques: Any, space: int, call: str) -> None:
        """Add forces at the centres of mass and torques for the next `simulate`."""
        p = self.physics
        shape = (self.sim.num_bodies, 3)
        wrench = [
            torch.zeros(self.num_envs, self.layout.num_bodies, 3, device=self.device)
            if given is None
            else self._given(given, shape, call).view(self.num_envs, -1, 3)
            for given in (forces, torques)
        ]
        if space == CoordinateSpace.LOCAL_SPACE:
            p.current()
            quat = p.field("xquat")[:, 1:]
            wrench = [rotate(quat, x) for x in wrench]
        self._add_wrench(*wrench)

    def apply_forces_at(self, forces: Any, positions: Any, space: int, call: str) -> None:
        """Add forces at positions for the next `simulate`."""
        p = self.physics
        if positions is None:
            self.apply_forces(forces, None, space, call)
            return
        shape = (self.sim.num_bodies, 3)
        force = self._given(forces, shape, call).view(self.num_envs, -1, 3)
        place = self._given(positions, shape, call).view(self.num_envs, -1, 3)
        p.current()
        if space == CoordinateSpace.LOCAL_SPACE:
            quat = p.field("xquat")[:, 1:]
            force = rotate(quat, force)
            place = rotate(quat, place) + p.field("xpos")[:, 1:]
        elif space == CoordinateSpace.ENV_SPACE:
            place = place + self.offset
        else:
            place = place - p.beyond_offset
        torque = torch.linalg.cross(place - p.field("xipos")[:, 1:], force)
        self._add_wrench(force, torque)

    def _add_wrench(self, force: Tensor, torque: Tensor) -> None:
        p = self.physics
        engine = p.ready()
        if not p.forces_used:
            p.forces_used = True
            p.forget_graph()
        engine.xfrc_applied[:, 1:] += torch.cat([force, torque], -1)

    def _given(self, descriptor: Any, shape: tuple[int, ...], call: str) -> Tensor:
        """The float tensor of a setter's argument. Raises PhalanxError or TypeError."""
        tensor = _unwrapped(descriptor, call)
        if tensor.dtype != torch.float32:
            raise PhalanxError(f"gym.{call} takes a tensor of float32, not of {tensor.dtype}")
        self._check_device(tensor, call)
        if tensor.numel() != int(np.prod(shape)):
            raise PhalanxError(
                f"gym.{call} takes the tensor of the whole simulation, {shape}, not one of shape"
                f" {tuple(tensor.shape)}"
            )
        return tensor

    def _listed(self, descriptor: Any, count: Any, call: str) -> Tensor | None:
        """Mask (N, actors) of the actors that an index tensor lists; None for all."""
        if descriptor is None:
            return None
        index = _unwrapped(descriptor, call)
        if index.dtype != torch.int32:
            raise PhalanxError(
                f"gym.{call} takes actor indices of int32, not of {index.dtype};"
                " convert them with .to(torch.int32)"
            )
        self._check_device(index, call)
        if not 0 <= int(count) <= index.numel():
            raise PhalanxError(
                f"gym.{call} was given count {int(count)} for {index.numel()} actor indices"
            )
        total = self.sim.num_actors
        index = index.flatten()[: int(count)].long()
        good = (index >= 0) & (index < total)
        if self.device.type == "cpu":
            if not good.all():
                raise PhalanxError(
                    f"gym.{call} was given actor index {int(index[~good][0])}; the simulation has"
                    f" {total} actors, counted from 0 over all environments"
                )
        else:  # found at the next check, since looking now would wait for the device
            self.physics.bad_index |= ~good.all()
            index = torch.where(good, index, total)
        mask = torch.zeros(total + 1, dtype=torch.bool, device=self.device)
        return mask.index_fill_(0, index, True)[:total].view(self.num_envs, -1)

    def _check_device(self, tensor: Tensor, call: str) -> None:
        if tensor.device != self.device:
            raise PhalanxError(
                f"gym.{call} was given a tensor on {tensor.device}; this simulation's are on"
                f" {self.device}"
            )


def _unwrapped(descriptor: Any, call: str) -> Tensor:
    if not isinstance(descriptor, api.Tensor):
        raise TypeError(
            f"gym.{call} takes gymtorch.unwrap_tensor(tensor), not a {type(descriptor).__name__}"
        )
    return descriptor.torch
