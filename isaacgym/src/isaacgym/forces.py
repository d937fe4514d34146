"""Forces of the last substep of the last `simulate`.

They are computed at the end of every `simulate` and kept until the next. So nothing that happens
between `simulate` and `refresh` (a setter, another refresh, new gravity) changes them. A kind that
a program first asks for after a `simulate` is measured in one more substep, from the state then.
"""

import numpy as np
import torch
from torch import Tensor

from isaacgym.drives import Drives
from isaacgym.rotations import rotate, rotate_back
from isaacgym.scene import ActorScene
from isaacgym.state import Places, State

KINDS = ("net_contact_force", "dof_force", "force_sensor")


class Forces:
    """`measured[kind]` holds the forces of a kind in the shape that programs see."""

    def __init__(self, state: State, drives: Drives) -> None:
        self._state, self._drives = state, drives
        self.measured: dict[str, Tensor] = {}
        sensors = state.layout.sensors
        bodies = np.array([b for b, _, _ in sensors], int)
        self._bodies, self._rows = Places(bodies, state.device), Places(bodies + 1, state.device)
        """The sensors' bodies (S,) among those of programs, and among MuJoCo's."""
        n, count = state.num_envs, len(sensors)
        self._mass = torch.zeros(n, count, 1, device=state.device)
        self._arm = torch.zeros(n, count, 3, device=state.device)
        """(N, S, 3) [m] from the sensor to the centre of mass of its body, in the body's frame."""
        self._inertia = torch.zeros(n, count, 3, 3, device=state.device)
        self._place = state.tensor([[*pose.p] for _, pose, _ in sensors]).view(-1, 3)
        turns = [[pose.r.w, -pose.r.x, -pose.r.y, -pose.r.z] for _, pose, _ in sensors]
        self._turn = state.tensor(turns)
        in_world = state.tensor([float(props.use_world_frame) for _, _, props in sensors])
        self._in_world = in_world[:, None] > 0
        all_props = [props for _, _, props in sensors]
        dynamics = [float(p.enable_forward_dynamics_forces) for p in all_props]
        contacts = [float(p.enable_constraint_solver_forces) for p in all_props]
        # The net force is the sum of both; one of them is read where the other is not wanted.
        self._net = state.tensor(dynamics)[:, None]
        self._touch = state.tensor(contacts)[:, None] - self._net
        self._contact_rows: Tensor
        self._accelerations: Places
        self._num_accelerated = 0
        self._touches: Tensor
        self._measure = {
            "net_contact_force": self._net_contact_force,
            "dof_force": self._dof_force,
            "force_sensor": self._force_sensor,
        }

    @property
    def reads_bodies(self) -> bool:
        """Whether poses and velocities from inside the last substep are needed."""
        return "force_sensor" in self.measured

    def shape(self, kind: str) -> tuple[int, ...]:
        """Shape of the tensor of a kind."""
        n, layout = self._state.num_envs, self._state.layout
        return {
            "net_contact_force": (n * layout.num_bodies, 3),
            "dof_force": (n * layout.num_dofs,),
            "force_sensor": (n * len(layout.sensors), 6),
        }[kind]

    def add(self, kind: str) -> None:
        """Measure a kind in every `simulate` from now on; zero until the first one."""
        self.measured[kind] = torch.zeros(self.shape(kind), device=self._state.device)

    def begin(self, scene: ActorScene) -> None:
        """Find the sensors of a new engine's scene, and have it compute the fields they need."""
        state = self._state
        self._contact_rows = state.index(np.array(scene.contact_bodies, int))
        accelerated = scene.accelerated_bodies
        places = [accelerated.index(b) for b, _, _ in state.layout.sensors if b in accelerated]
        self._accelerations = Places(np.array(places, int), state.device)
        self._num_accelerated = len(accelerated)
        touched = scene.touched_bodies
        places = [touched.index(b) if b in touched else 0 for b, _, _ in state.layout.sensors]
        self._touches = state.index(np.array(places if touched else [], int))
        for kind in self.measured:
            self.watch(kind)

    def update(self) -> None:
        """Take the new masses of the sensors' bodies."""
        state, bodies = self._state, self._bodies
        self._mass.copy_(bodies.of(state.mass)[..., None])
        self._arm.copy_(bodies.of(state.com) - self._place)
        self._inertia.copy_(bodies.of(state.inertia))

    def watch(self, kind: str) -> None:
        """Have the engine compute the fields that a kind needs."""
        state = self._state
        state.change_step()
        if kind == "dof_force":
            state.field("qfrc_actuator")
            state.field("qacc")
            return
        state.field("sensordata")
        if kind == "force_sensor":
            state.field("xquat", stale=True)
            state.field("cvel", stale=True)
            state.field("xpos", stale=True)

    def measure(self) -> None:
        """Measure all kinds, right after the last substep."""
        for kind in self.measured:
            self.measure_one(kind)

    def measure_one(self, kind: str) -> None:
        """Measure one kind."""
        lost, held = self._state.engine.diverged[:, None], self.measured[kind]
        if held.numel():
            values = self._measure[kind]().reshape(len(lost), -1).masked_fill(lost, 0.0)
            held.copy_(values.view_as(held))

    def _net_contact_force(self) -> Tensor:
        """Net contact force on each body, (N, B, 3) [N], world axes."""
        state = self._state
        count = len(self._contact_rows)
        forces = state.field("sensordata")[:, : 3 * count].view(state.num_envs, count, 3)
        rows = forces.new_zeros(state.num_envs, state.layout.num_bodies, 3)
        # MuJoCo's sensor reads the force that the body exerts.
        return rows.index_copy(1, self._contact_rows, -forces)

    def _dof_force(self) -> Tensor:
        """Force of each drive, (N, D) [N or N m]."""
        return self._drives.force(self._state)

    def _force_sensor(self) -> Tensor:
        """Net force [N] on the body of each sensor and torque [N m] about the sensor, (N, S, 6):
        mass times acceleration, so gravity, drives and contacts are included and the reading is
        zero at rest. Sensors that leave out forward dynamics read the contacts alone, those that
        leave out constraints the rest."""
        state, rows = self._state, self._rows
        first = 3 * len(self._contact_rows)
        last = first + 6 * self._num_accelerated
        data = state.field("sensordata")[:, first:last].view(state.num_envs, -1, 6)
        data = self._accelerations.of(data)
        quat = rows.of(state.field("xquat", stale=True))
        omega = rows.of(state.field("cvel", stale=True))[..., :3]
        moves = torch.stack([data[..., :3] + state.gravity, omega, data[..., 3:]], -2)
        moves = rotate_back(quat[..., None, :], moves)  # (N, S, 3, 3), rows in the body's axes
        force = self._mass * moves[..., 0, :]
        momentum, change = (moves[..., 1:, :] @ self._inertia.mT).unbind(-2)
        torque = change + torch.linalg.cross(moves[..., 1, :], momentum)  # gyroscopic
        torque = torque + torch.linalg.cross(self._arm, force)
        if len(self._touches):
            touch, turning = self._contacts(last, quat)
            force = self._net * force + self._touch * touch
            torque = self._net * torque + self._touch * turning
        turn = torch.where(self._in_world, quat, self._turn)  # to the sensor's axes
        return rotate(turn[..., None, :], torch.stack([force, torque], -2)).flatten(-2)

    def _contacts(self, first: int, quat: Tensor) -> tuple[Tensor, Tensor]:
        """Force of the contacts of each sensor's body [N] and their torque about the sensor [N m],
        (N, S, 3) each, in the axes of the body, whose rotation is `quat`."""
        state = self._state
        data = state.field("sensordata")[:, first:].view(state.num_envs, -1, 9)[:, self._touches]
        force, torque, place = (-data[..., :3], -data[..., 3:6], data[..., 6:])
        body = self._rows.of(state.field("xpos", stale=True))
        sensor = body + rotate(quat, self._place.expand_as(body))
        torque = torque + torch.linalg.cross(place - sensor, force)
        return rotate_back(quat, force), rotate_back(quat, torque)
