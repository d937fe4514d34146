"""The engine of all environments, and the places of roots, bodies and joints in its fields.

`tensors.py`, `setters.py`, `drives.py` and others read and write the running simulation through one
`State`. There are N environments, with A actors, B bodies and D degrees of freedom each.

A captured `simulate` reads these tensors, so they are allocated once and written in place. Every
operation of torch takes a GPU's host microseconds, whatever the number of environments, so few of
them matter more than little data.
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


class Places:
    """Some places in the second dimension of (N, X, ...) tensors. Where they follow each other, as
    those of most programs do, they are views, which cost no operation."""

    def __init__(self, index: np.ndarray, device: torch.device) -> None:
        self.index = torch.as_tensor(np.asarray(index, np.int64), device=device)
        """(places,) on the device."""
        self._count = count = len(index)
        first = int(index[0]) if count else 0
        whole = bool((np.asarray(index) == np.arange(first, first + count)).all())
        self._run = slice(first, first + count) if whole else None
        self.follow = whole
        """Whether they follow each other."""

    def __len__(self) -> int:
        return self._count

    def of(self, values: Tensor) -> Tensor:
        """The values there, (N, places, ...): a view or a copy."""
        if self._run is not None:
            return values[:, self._run]
        return values.index_select(1, self.index)

    def write(self, values: Tensor, new: Tensor) -> None:
        """Write (N, places, ...) there."""
        if self._run is not None:
            values[:, self._run].copy_(new)
        else:
            values.index_copy_(1, self.index, new)


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
        self.dof_q, self.dof_v = Places(layout.dof_q, device), Places(layout.dof_v, device)
        """(D,) columns in qpos and qvel."""
        self.actor_of_dof = self.index(layout.actor_of_dof)
        free, fixed = np.flatnonzero(layout.free), np.flatnonzero(~layout.free)
        self.free, self.fixed = Places(free, device), Places(fixed, device)
        """Numbers of the actors with a free base (F,), and of those with a fixed one."""
        root_q, root_v = np.array(layout.root_q, int)[free], np.array(layout.root_v, int)[free]
        self.root_q = Places((root_q[:, None] + np.arange(7)).flatten(), device)
        self.root_v = Places((root_v[:, None] + np.arange(6)).flatten(), device)
        """Columns of free joints in qpos and qvel, (7 F,) and (6 F,)."""
        self.roots = Places(layout.root_body[free], device)
        """(F,) rows of the free actors' roots among the bodies."""
        self.gravity = self.tensor([*world.params.gravity])
        bodies = layout.num_bodies
        self.mass = torch.zeros(n, bodies, device=device)
        """(N, B) [kg]"""
        self.com = torch.zeros(n, bodies, 3, device=device)
        """(N, B, 3) centres of mass in the frames of the links [m]."""
        self.eccentric = False
        """Whether a free root has its centre of mass elsewhere than at its frame's origin."""
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
        self.change_step()

    def change_step(self) -> None:
        """`simulate` is captured again. Called before the engine is asked for something new, which
        it refuses where a graph may still be used."""
        self.step_changed = True
        self.engine.forget_graphs()

    def field(self, name: str, stale: bool = False) -> Tensor:
        """A derived field, (N, ...). The first request for a field changes what a step computes.
        stale: see `phalanx.sim.Sim.stale`."""
        key = f"stale {name}" if stale else name
        if key not in self._fields:
            self.change_step()
            engine = self.engine
            self._fields[key] = engine.stale(name) if stale else getattr(engine, name)
        return self._fields[key]

    def model_field(self, name: str) -> Tensor:
        """A model field with a value for each environment, (N, ...)."""
        if name not in self._model_fields:
            self.change_step()
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

    def note_derived(self) -> None:
        """Note that `simulate` has recomputed derived fields everywhere."""
        self._any_stale = False

    def expect_change(self) -> None:
        """Have derived fields looked at before they are used next: a setter changes the state."""
        self._any_stale = True

    def note_change(self, mask: Tensor | None) -> None:
        """Note that a setter changed the state of the actors in `mask` (N, A) bool, None for
        all."""
        if mask is None:
            self.stale.fill_(True)
        else:
            self.stale |= mask[:, 0] if mask.shape[1] == 1 else mask.any(1)
        self.expect_change()

    def of_dofs(self, mask: Tensor) -> Tensor:
        """A mask of actors (N, A) as one of their degrees of freedom, (N, D or 1)."""
        return mask if mask.shape[1] == 1 else mask.index_select(1, self.actor_of_dof)

    def centre_speed(self, quat: Tensor, omega: Tensor) -> Tensor | None:
        """Velocity (N, F, 3) [m/s] of each free root's centre of mass relative to its frame's
        origin, along world axes; None if they are the same point. quat: the roots' rotations, (N,
        F, 4) w, x, y, z. omega: (N, F, 3) [rad/s], along world axes."""
        if not self.eccentric:
            return None
        return torch.linalg.cross(omega, rotate(quat, self.roots.of(self.com)))

    def tensor(self, values: Any) -> Tensor:
        """Numbers as float32 on the device."""
        return torch.tensor(np.array(values, np.float32), device=self.device)

    def index(self, values: np.ndarray) -> Tensor:
        """Indices of rows or columns as int64 on the device."""
        return torch.as_tensor(np.asarray(values, np.int64), device=self.device)
