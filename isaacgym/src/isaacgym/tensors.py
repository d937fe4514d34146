"""Isaac Gym's tensors: what the program acquires. They are copies, which `refresh` fills.

Rows are environment-major. Positions are relative to the origin of the environment, quaternions
x, y, z, w, velocities along world axes and those of the centre of mass; a free joint of MuJoCo has
the velocity of the link frame's origin and the angular velocity in body axes, w, x, y, z.

What is current when
- Root and DOF states: always; a setter's values are there at once.
- Rigid body states, Jacobians, mass matrices: at `refresh` after `simulate` or a setter. PhysX
  leaves them stale after a setter until the next `simulate`.
- Forces: those of the last substep of the last `simulate`.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from isaacgym import params as api
from phalanx.errors import PhalanxError, did_you_mean

if TYPE_CHECKING:
    from isaacgym.physics import Physics

_MADE_OF = {
    "rigid_body_state": ("xpos", "xquat", "cvel", "xipos", "subtree_com"),
    "net_contact_force": ("sensordata",),
    "dof_force": ("qfrc_actuator", "qacc"),
    "force_sensor": ("sensordata",),
    "jacobian": ("xipos", "cdof", "subtree_com"),
    "mass_matrix": ("xipos", "cdof", "subtree_com", "xquat"),
}
FORCES = ("net_contact_force", "dof_force", "force_sensor")
_MADE_OF_LEFT = {"force_sensor": ("xquat", "cvel")}


class Tensors:
    """What a `Physics` shows."""

    def __init__(self, physics: "Physics") -> None:
        self.physics = physics
        self.sim, self.layout = physics.sim, physics.layout
        self.num_envs, self.device = physics.num_envs, physics.device
        self.offset = physics.offset
        self.buffers: dict[str, Tensor] = {}
        self._descriptors: dict[str, api.Tensor] = {}
        self._moves: dict[int, Tensor] = {}

    def begin(self) -> None:
        """The engine is new: have it compute what was acquired."""
        p = self.physics
        self._trees = p.index(p.model.body_rootid[1:])
        self._prepare_sensors()
        for name in self.buffers:
            self._watch(name)

    def _watch(self, buffer: str) -> None:
        """Have the engine compute what a buffer is made of."""
        p = self.physics
        kind = buffer.split(":")[0]
        for name in _MADE_OF.get(kind, ()):
            p.field(name)
        for name in _MADE_OF_LEFT.get(kind, ()):
            p.field(name, as_left=True)

    def acquire(self, name: str) -> api.Tensor:
        """The descriptor of tensor `name`, the same memory whenever it is asked for."""
        p = self.physics
        if name not in self._descriptors:
            sim, layout = self.sim, self.layout
            kind, _, actor = name.partition(":")
            sizes: dict[str, Callable[[], tuple[int, ...]]] = {
                "root_state": lambda: (sim.num_actors, 13),
                "dof_state": lambda: (sim.num_dofs, 2),
                "rigid_body_state": lambda: (sim.num_bodies, 13),
                "net_contact_force": lambda: (sim.num_bodies, 3),
                "dof_force": lambda: (sim.num_dofs,),
                "force_sensor": lambda: (self.num_envs * len(layout.sensors), 6),
                "jacobian": lambda: self._jacobian_shape(self._slot(actor, "jacobian")),
                "mass_matrix": lambda: (
                    (self.num_envs,)
                    + (self._jacobian_shape(self._slot(actor, "mass_matrix"))[-1],) * 2
                ),
            }
            self.buffers[name] = torch.zeros(sizes[kind](), device=self.device)
            self._descriptors[name] = api.Tensor(self.buffers[name])
            if p.engine is not None:
                measured = {"net_contact_force": p.scene.measures_contacts}
                measured["force_sensor"] = p.scene.measures_accelerations
                if not measured.get(kind, True):
                    p.build()
                self._watch(name)
        return self._descriptors[name]

    def refresh(self, kind: str) -> None:
        """Fill the tensors of a kind that were acquired; nothing if none was."""
        names = [name for name in self.buffers if name.split(":")[0] == kind]
        if names:
            engine = self.physics.ready()
            for name in names:
                buffer = self.buffers[name]
                if buffer.numel():
                    getattr(self, f"_fill_{kind}")(name, buffer)
                    if kind in FORCES:  # of an environment that has just diverged are garbage
                        lost = engine.diverged[:, None]
                        buffer.view(self.num_envs, -1).masked_fill_(lost, 0.0)

    def _fill_root_state(self, _: str, buffer: Tensor) -> None:
        p = self.physics
        rows = buffer.view(self.num_envs, -1, 13)
        engine = p.engine
        assert engine is not None
        if len(p.free):
            q = engine.qpos[:, p.root_q].view(self.num_envs, -1, 7)
            pose = torch.cat([q[..., :3] - self.offset, xyzw(q[..., 3:])], -1)
            rows[:, p.free] = torch.cat([pose, self._root_velocity(q[..., 3:])], -1)
        if len(p.fixed):
            pos, quat = engine.mocap_pos - self.offset, xyzw(engine.mocap_quat)
            rows[:, p.fixed] = torch.nn.functional.pad(torch.cat([pos, quat], -1), (0, 6))

    def _root_velocity(self, quat: Tensor) -> Tensor:
        """(N, free actors, 6): of the centre of mass of each root body, linear and angular; quat
        (N, free actors, 4): how it is turned, w, x, y, z."""
        p = self.physics
        v = p.ready().qvel[:, p.root_v].view(self.num_envs, -1, 6)
        omega = rotate(quat, v[..., 3:])
        arm = rotate(quat, p.com[:, p.roots])
        return torch.cat([v[..., :3] + torch.linalg.cross(omega, arm), omega], -1)

    def _fill_dof_state(self, _: str, buffer: Tensor) -> None:
        p = self.physics
        rows = buffer.view(self.num_envs, -1, 2)
        engine = p.engine
        assert engine is not None
        rows[..., 0] = engine.qpos[:, p.dof_q]
        rows[..., 1] = engine.qvel[:, p.dof_v]

    def _fill_rigid_body_state(self, _: str, buffer: Tensor) -> None:
        p = self.physics
        p.current()
        pos, quat, cvel = (p.field(name)[:, 1:] for name in ("xpos", "xquat", "cvel"))
        omega = cvel[..., :3]
        arm = p.field("xipos")[:, 1:] - p.field("subtree_com")[:, self._trees]
        speed = cvel[..., 3:] + torch.linalg.cross(omega, arm)
        rows = torch.cat([pos - self.offset, xyzw(quat), speed, omega], -1)
        if p.slows:  # which it does after the step that the rest is from
            roots = p.roots - 1
            rows[:, roots, 7:] = self._root_velocity(quat[:, roots])
        buffer.copy_(rows.view_as(buffer))

    def _fill_net_contact_force(self, _: str, buffer: Tensor) -> None:
        p = self.physics
        rows = buffer.view(self.num_envs, -1, 3)
        count = len(p.scene.contact_bodies)
        forces = p.field("sensordata")[:, : 3 * count].view(self.num_envs, count, 3)
        # MuJoCo's sensor gives the force that the body exerts.
        rows[:, self._contact_rows] = -forces

    def _fill_dof_force(self, _: str, buffer: Tensor) -> None:
        p = self.physics
        drive = p.field("qfrc_actuator")[:, p.dof_v]
        drive = drive - p.implicit_now * p.field("qacc")[:, p.dof_v]
        buffer.copy_(drive.view_as(buffer))

    def _fill_force_sensor(self, _: str, buffer: Tensor) -> None:
        """The net force on a sensor's body, mass times acceleration, and the torque about the
        sensor: gravity, drives, contacts and all else add up in it, so it is zero at rest."""
        p = self.physics
        first = 3 * len(p.scene.contact_bodies)
        data = p.field("sensordata")[:, first:].view(self.num_envs, -1, 6)[:, self._measured]
        bodies = self._sensor_bodies
        quat = p.field("xquat", as_left=True)[:, bodies + 1]
        back = quat * p.conjugate
        omega = rotate(back, p.field("cvel", as_left=True)[:, bodies + 1, :3])
        force = p.mass[:, bodies + 1, None] * rotate(back, data[..., :3] + p.gravity)
        inertia = p.inertia[:, bodies]
        spin = _apply(inertia, omega)
        torque = _apply(inertia, rotate(back, data[..., 3:])) + torch.linalg.cross(omega, spin)
        arm = p.com[:, bodies + 1] - self._sensor_place
        torque = torque + torch.linalg.cross(arm.expand_as(force), force)
        turn = self._sensor_turn.expand_as(quat)
        parts = [
            torch.where(self._sensor_in_world, rotate(quat, x), rotate(turn, x))
            for x in (force, torque)
        ]
        buffer.copy_(torch.cat(parts, -1).view_as(buffer))

    def _prepare_sensors(self) -> None:
        """What refreshing force tensors needs, on the device."""
        p = self.physics
        scene, sensors = p.scene, self.layout.sensors
        self._contact_rows = p.index(np.array(scene.contact_bodies, int))
        self._sensor_bodies = p.index(np.array([b for b, _, _ in sensors], int))
        measured = scene.accelerated_bodies
        places = [measured.index(b) for b, _, _ in sensors if b in measured]
        self._measured = p.index(np.array(places, int))
        self._sensor_place = p.tensor([[*pose.p] for _, pose, _ in sensors])
        turns = [[pose.r.w, -pose.r.x, -pose.r.y, -pose.r.z] for _, pose, _ in sensors]
        self._sensor_turn = p.tensor(turns)
        in_world = p.tensor([float(props.use_world_frame) for _, _, props in sensors])
        self._sensor_in_world = in_world[:, None] > 0

    # Jacobians --------------------------------------------------------------------------------

    def _slot(self, actor: str, tensor: str) -> int:
        names = [a.name for a in self.layout.actors]
        if actor not in names:
            raise PhalanxError(
                f"gym.acquire_{tensor}_tensor: no actor {actor!r} in the environments"
                f"{did_you_mean(actor, names)}; their actors are {', '.join(map(repr, names))}"
            )
        return names.index(actor)

    def _jacobian_shape(self, slot: int) -> tuple[int, ...]:
        asset = self.layout.actors[slot].asset
        if asset.fixed:
            return (self.num_envs, asset.num_bodies - 1, 6, asset.num_dofs)
        return (self.num_envs, asset.num_bodies, 6, asset.num_dofs + 6)

    def _jacobian(self, slot: int) -> Tensor:
        """(N, bodies, 6, columns) of an actor, root included: linear velocity of each body's
        centre of mass and angular velocity, world axes, for unit velocities of the root's centre
        of mass, of its rotation about world axes, and of the joints."""
        p = self.physics
        p.current()
        layout = self.layout
        actor = layout.actors[slot]
        bodies = slice(actor.first_body + 1, actor.first_body + 1 + actor.asset.num_bodies)
        dofs = p.dof_v[actor.first_dof : actor.first_dof + actor.asset.num_dofs]
        com = p.field("xipos")[:, bodies]  # (N, B, 3)
        cdof = p.field("cdof")[:, dofs]  # (N, D, 6): angular, linear at the tree's centre
        centre = p.field("subtree_com")[:, actor.first_body + 1]
        angular = cdof[:, None, :, :3].expand(-1, com.shape[1], -1, -1)
        arm = (com - centre[:, None])[:, :, None]
        linear = cdof[:, None, :, 3:] + torch.linalg.cross(angular, arm.expand_as(angular))
        if slot not in self._moves:
            self._moves[slot] = p.tensor(_moved_by(actor.asset))
        moves = self._moves[slot]  # (B, D)
        columns = torch.cat([linear, angular], -1) * moves[None, :, :, None]
        if not actor.asset.fixed:
            eye = torch.eye(3, device=self.device).expand(*com.shape[:2], 3, 3)
            lever = (com - com[:, :1])[:, :, None].expand_as(eye)
            shift = torch.cat([eye, torch.zeros_like(eye)], -1)
            turn = torch.cat([torch.linalg.cross(eye, lever), eye], -1)
            columns = torch.cat([shift, turn, columns], 2)
        return columns.transpose(2, 3)

    def _fill_jacobian(self, name: str, buffer: Tensor) -> None:
        slot = self._slot(name.partition(":")[2], "jacobian")
        first = int(self.layout.actors[slot].asset.fixed)
        buffer.copy_(self._jacobian(slot)[:, first:])

    def _fill_mass_matrix(self, name: str, buffer: Tensor) -> None:
        """Sum over bodies of J^T M J, and armature."""
        p = self.physics
        slot = self._slot(name.partition(":")[2], "mass_matrix")
        actor = self.layout.actors[slot]
        rows = slice(actor.first_body, actor.first_body + actor.asset.num_bodies)
        jacobian = self._jacobian(slot)
        linear, angular = jacobian[:, :, :3], jacobian[:, :, 3:]
        quat = p.field("xquat")[:, 1:][:, rows]
        turn = torch.stack(
            [rotate(quat, e.expand(*quat.shape[:2], 3)) for e in torch.eye(3, device=self.device)],
            -1,
        )
        inertia = turn @ p.inertia[:, rows] @ turn.transpose(-1, -2)
        mass = p.mass[:, 1:][:, rows]
        matrix = torch.einsum("nbij,nbik,nb->njk", linear, linear, mass.expand(len(linear), -1))
        matrix = matrix + torch.einsum("nbij,nbil,nblk->njk", angular, inertia, angular)
        own = slice(actor.first_dof, actor.first_dof + actor.asset.num_dofs)
        armature = p.armature[:, own]
        pad = matrix.shape[-1] - armature.shape[-1]
        matrix = matrix + torch.diag_embed(torch.nn.functional.pad(armature, (pad, 0)))
        buffer.copy_(matrix)


def rotate(quat: Tensor, vector: Tensor) -> Tensor:
    """Vectors (..., 3) turned by unit quaternions (..., 4), w, x, y, z."""
    w, axis = quat[..., :1], quat[..., 1:]
    axis, vector = torch.broadcast_tensors(axis, vector)
    t = 2 * torch.linalg.cross(axis, vector)
    return vector + w * t + torch.linalg.cross(axis, t)


def xyzw(quat: Tensor) -> Tensor:
    """Quaternions (..., 4) from w, x, y, z to x, y, z, w."""
    return quat.roll(-1, -1)


def _apply(matrix: Tensor, vector: Tensor) -> Tensor:
    return (matrix @ vector[..., None])[..., 0]


def _moved_by(asset: Any) -> np.ndarray:
    """(bodies, dofs) 1 where a degree of freedom moves a body."""
    model = asset.model
    moved = np.zeros((asset.num_bodies, asset.num_dofs))
    for d, joint in enumerate(asset.dof_joints):
        for b in range(1, model.nbody):
            above = b
            while above and above != model.jnt_bodyid[joint]:
                above = model.body_parentid[above]
            moved[b - 1, d] = above > 0
    return moved
