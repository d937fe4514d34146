"""Isaac Gym's tensors, which programs acquire. They are copies that `refresh` fills.

Rows are environment-major. Positions are relative to the environment's origin, quaternions are x,
y, z, w, and velocities are those of the centre of mass, along world axes. In MuJoCo a free joint
has the velocity of the link frame's origin, the angular velocity along body axes, and w, x, y, z.

What is current when
- Root and DOF states: always, also right after a setter.
- Rigid body states, Jacobians, mass matrices: at `refresh` after `simulate` or a setter. PhysX
  leaves them stale after a setter until the next `simulate`.
- Forces: those of the last substep of the last `simulate`, in whatever order tensors are refreshed.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from isaacgym.descriptor import Tensor as Descriptor
from isaacgym.forces import KINDS as FORCES
from isaacgym.forces import Forces
from isaacgym.jacobians import Jacobians
from isaacgym.replays import Replays
from isaacgym.rotations import rotate
from isaacgym.state import State

BODY_FIELDS = ("xpos", "xquat", "cvel", "xipos", "subtree_com")
DERIVED = ("rigid_body_state", "jacobian", "mass_matrix")
"""Kinds that are made of derived fields."""
LONG = (*DERIVED, "root_state", "dof_state")
"""Kinds whose tensors several operations fill."""


class Tensors:
    """All acquired tensors, by name: a kind, or a kind and an actor such as "jacobian:franka"."""

    def __init__(
        self, state: State, forces: Forces, jacobians: Jacobians, replays: Replays
    ) -> None:
        self._state, self._forces, self._jacobians = state, forces, jacobians
        self._replays = replays
        self._buffers: dict[str, Tensor] = {}
        self._descriptors: dict[str, Descriptor] = {}
        self._fills: dict[str, list[Callable[[], object]]] = {}
        """What fills the tensors of each kind."""
        self._trees: Tensor  # (B,) the root body of each body

    def has(self, kind: str) -> bool:
        """Whether a tensor of this kind was acquired."""
        return kind in self._fills

    def begin(self) -> None:
        """Have a new engine compute the fields that acquired tensors need."""
        self._trees = self._state.index(self._state.engine.model.body_rootid[1:])
        for name in self._buffers:
            self.watch(name)

    def watch(self, name: str) -> None:
        """Have the engine compute the fields that a tensor needs, other than forces."""
        kind = _kind(name)
        if kind == "rigid_body_state":
            for field in BODY_FIELDS:
                self._state.field(field)
        elif kind in ("jacobian", "mass_matrix"):
            self._jacobians.watch()

    def acquire(self, name: str) -> tuple[Descriptor, bool]:
        """The descriptor of a tensor, the same in every call, and whether it is new."""
        new = name not in self._descriptors
        if new:
            if name in FORCES:
                self._forces.add(name)
            self._buffers[name] = torch.zeros(self._shape(name), device=self._state.device)
            buffer = self._buffers[name]
            absent = name == "dof_state" and not buffer.numel()
            self._descriptors[name] = Descriptor(buffer, absent)
            if buffer.numel():
                self._fills.setdefault(_kind(name), []).append(self._fill(name, buffer))
                self._replays.forget()
        return self._descriptors[name], new

    def refresh(self, kind: str) -> None:
        """Fill the acquired tensors of a kind."""
        if kind in DERIVED:
            self._state.refresh_derived()
        if kind in LONG:
            self._replays.run((self, kind), lambda: self._fill_all(kind))
        else:
            self._fill_all(kind)

    def _fill_all(self, kind: str) -> None:
        for fill in self._fills[kind]:
            fill()

    def _shape(self, name: str) -> tuple[int, ...]:
        state = self._state
        n, layout = state.num_envs, state.layout
        match _kind(name):
            case "root_state":
                return (n * len(layout.actors), 13)
            case "dof_state":
                return (n * layout.num_dofs, 2)
            case "rigid_body_state":
                return (n * layout.num_bodies, 13)
            case "jacobian" | "mass_matrix":
                return self._jacobians.shape(*name.split(":", 1))
        return self._forces.shape(name)

    def _fill(self, name: str, buffer: Tensor) -> Callable[[], object]:
        """What fills a tensor."""
        match _kind(name):
            case "root_state":
                return lambda: self._fill_root_state(buffer)
            case "dof_state":
                return lambda: self._fill_dof_state(buffer)
            case "rigid_body_state":
                return lambda: self._fill_rigid_body_state(buffer)
            case "jacobian" | "mass_matrix":
                fill = self._jacobians.fill(*name.split(":", 1))
                return lambda: fill(buffer)
        measured = self._forces.measured[name]
        return lambda: buffer.copy_(measured)

    def _fill_dof_state(self, buffer: Tensor) -> None:
        state = self._state
        columns = [state.dof_q.of(state.engine.qpos), state.dof_v.of(state.engine.qvel)]
        torch.stack(columns, -1, out=buffer.view(*columns[0].shape, 2))

    def _fill_root_state(self, buffer: Tensor) -> None:
        state = self._state
        engine, n = state.engine, state.num_envs
        rows = buffer.view(n, -1, 13)
        if len(state.free):
            q = state.root_q.of(engine.qpos).view(n, -1, 7)
            v = state.root_v.of(engine.qvel).view(n, -1, 6)
            quat, speed = q[..., 3:], v[..., :3]
            omega = rotate(quat, v[..., 3:])
            if (more := state.centre_speed(quat, omega)) is not None:
                speed = speed + more
            parts = [q[..., :3] - state.offset, quat[..., 1:], quat[..., :1], speed, omega]
            state.free.write(rows, torch.cat(parts, -1))
        if len(state.fixed):
            pos, quat = engine.mocap_pos - state.offset, engine.mocap_quat
            pose = torch.cat([pos, quat[..., 1:], quat[..., :1]], -1)
            state.fixed.write(rows, torch.nn.functional.pad(pose, (0, 6)))

    def _fill_rigid_body_state(self, buffer: Tensor) -> None:
        state = self._state
        pos, quat, cvel = (state.field(name)[:, 1:] for name in ("xpos", "xquat", "cvel"))
        omega = cvel[..., :3]
        arm = state.field("xipos")[:, 1:] - state.field("subtree_com")[:, self._trees]
        speed = cvel[..., 3:] + torch.linalg.cross(omega, arm)
        parts = [pos - state.offset, quat[..., 1:], quat[..., :1], speed, omega]
        torch.cat(parts, -1, out=buffer.view(*pos.shape[:2], 13))


def _kind(name: str) -> str:
    return name.partition(":")[0]
