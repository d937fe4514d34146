"""The engine of all environments, and the places of roots, bodies and joints in its fields.

`tensors.py`, `setters.py`, `drives.py` and others read and write the running simulation through one
`State`. There are N environments, with A actors, B bodies and D degrees of freedom each.

A captured `simulate` reads these tensors, so they are allocated once and written in place.
"""

from typing import Any

import numpy as np
import torch
from torch import Tensor

from isaacgym import start
from isaacgym.layout import Layout
from isaacgym.rotations import rotate
from isaacgym.world import World
from phalanx.sim import Sim as EngineSim


class State:
    """`engine` is missing until `begin`; sizes and places are known from the start."""

    engine: EngineSim

    def __init__(self, world: World, layout: Layout) -> None:
        self.layout = layout
        self.num_envs = n = len(world.envs)
        self.device = device = world.device
        offsets = start.env_offsets(world)
        origins = np.array([env.origin for env in world.envs])
        self.offset = self.tensor(offsets)[:, None]
        """(N, 1, 3) [m] from the physics frame of an environment to the frame that programs see."""
        self.beyond_offset = self.tensor(origins - offsets)[:, None]
        """(N, 1, 3) [m] from that frame to its place in the world."""
        self.dof_q, self.dof_v = self.index(layout.dof_q), self.index(layout.dof_v)
        """(D,) columns in qpos and qvel."""
        self.actor_of_dof = self.index(layout.actor_of_dof)
        free = np.flatnonzero(layout.free)
        self.free, self.fixed = self.index(free), self.index(np.flatnonzero(~layout.free))
        """Numbers of the actors with a free base (F,), and of those with a fixed one."""
        root_q, root_v = np.array(layout.root_q, int)[free], np.array(layout.root_v, int)[free]
        self.root_q = self.index((root_q[:, None] + np.arange(7)).flatten())
        self.root_v = self.index((root_v[:, None] + np.arange(6)).flatten())
        """Columns of free joints in qpos and qvel, (7 F,) and (6 F,)."""
        self.roots = self.index(layout.root_body[free])
        """(F,) rows of the free actors' roots among the bodies."""
        self.gravity = self.tensor([*world.params.gravity])
        bodies = layout.num_bodies
        self.mass = torch.zeros(n, bodies, device=device)
        """(N, B) [kg]"""
        self.com = torch.zeros(n, bodies, 3, device=device)
        """(N, B, 3) centres of mass in the frames of the links [m]."""
        self.inertia = torch.zeros(n, bodies, 3, 3, device=device)
        """(N, B, 3, 3) about the centre of mass, in the axes of the link [kg m^2]."""
        self.step_changed = False
        """Whether `simulate` must be captured again because it reads or does something new."""
        self.stale = torch.zeros(n, dtype=torch.bool, device=device)
        self._any_stale = False
        self._fields: dict[str, Tensor] = {}
        self._model_fields: dict[str, Tensor] = {}

    def begin(self, engine: EngineSim) -> None:
        """Use a new engine."""
        self.engine = engine
        self._fields, self._model_fields = {}, {}
        self.step_changed = True

    def field(self, name: str, stale: bool = False) -> Tensor:
        """A derived field, (N, ...). The first request for a field changes what a step computes, so
        it must come before a capture. stale: see `phalanx.sim.Sim.stale`."""
        key = f"stale {name}" if stale else name
        if key not in self._fields:
            self.step_changed = True
            engine = self.engine
            self._fields[key] = engine.stale(name) if stale else getattr(engine, name)
        return self._fields[key]

    def model_field(self, name: str) -> Tensor:
        """A model field with a value for each environment, (N, ...)."""
        if name not in self._model_fields:
            self.step_changed = True
            self._model_fields[name] = self.engine.model_field(name, by_torch=True)
        return self._model_fields[name]

    def has_own(self, name: str) -> bool:
        """Whether the environments have their own values of a model field."""
        return name in self._model_fields

    def refresh_derived(self) -> None:
        """Recompute derived fields where a setter has changed the state."""
        if self._any_stale:
            self.engine.derive(self.stale)
            self.stale.zero_()
            self._any_stale = False

    def note_change(self, mask: Tensor | None) -> None:
        """Note that a setter changed the state of the actors in `mask` (N, A) bool, None for
        all."""
        if mask is None:
            self.stale.fill_(True)
        else:
            self.stale |= mask.any(1)
        self._any_stale = True

    def root_velocity(self, quat: Tensor) -> Tensor:
        """Velocity [m/s] of the centre of mass of each free root, then its angular velocity
        [rad/s], (N, F, 6), both along world axes. quat: rotations of the roots, (N, F, 4) w, x, y,
        z."""
        v = self.engine.qvel[:, self.root_v].view(self.num_envs, -1, 6)
        omega = rotate(quat, v[..., 3:])
        arm = rotate(quat, self.com[:, self.roots])
        return torch.cat([v[..., :3] + torch.linalg.cross(omega, arm), omega], -1)

    def tensor(self, values: Any) -> Tensor:
        """Numbers as float32 on the device."""
        return torch.tensor(np.array(values, np.float32), device=self.device)

    def index(self, values: np.ndarray) -> Tensor:
        """Indices of rows or columns as int64 on the device."""
        return torch.as_tensor(np.asarray(values, np.int64), device=self.device)
