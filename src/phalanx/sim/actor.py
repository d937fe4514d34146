"""`Actor`: views of one actor's joints, bodies and contact forces in a simulation."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import mujoco
import torch
from torch import Tensor

from phalanx.errors import PhalanxError, did_you_mean, no_attribute
from phalanx.sim.scene import CONTACT_FORCE, SELF_CONTACT_FORCE

if TYPE_CHECKING:
    from phalanx.sim.sim import Sim


_BASE = "phalanx.tasks.locomotion.observe_base(actor)"
_POSE = 'the initial pose is sim.model.key("initial").qpos, or sim.model.qpos0 without such a key'
_SOFT = "joint_limits are the hard ones; soft ones are a part of them"
_ROOT = "root_pos, root_quat (w, x, y, z), root_lin_vel_w and root_ang_vel_b"
ELSEWHERE = {
    "data": "these tensors belong to the actor itself, as in actor.joint_pos",
    "dof_pos": "it is joint_pos",
    "dof_vel": "it is joint_vel",
    "dof_names": "it is joint_names",
    "num_dof": "it is len(actor.joint_names)",
    "num_dofs": "it is len(actor.joint_names)",
    "num_joints": "it is len(actor.joint_names)",
    "num_bodies": "it is len(actor.body_names)",
    "joint_acc": "it is in sim.qacc",
    "applied_torque": "it is in sim.qfrc_actuator",
    "joint_pos_limits": "it is joint_limits",
    "soft_joint_pos_limits": _SOFT,
    "dof_pos_limits": _SOFT,
    "default_joint_pos": _POSE,
    "default_dof_pos": _POSE,
    "root_state": f"it is {_ROOT}",
    "root_states": f"it is {_ROOT}",
    "root_state_w": f"it is {_ROOT}",
    "root_pos_w": "it is root_pos",
    "root_quat_w": "it is root_quat",
    "root_link_pos_w": "it is root_pos",
    "root_link_quat_w": "it is root_quat",
    "root_lin_vel": "it is root_lin_vel_w",
    "root_ang_vel": "it is root_ang_vel_b, in the root body's frame",
    "root_ang_vel_w": "it is one of body_ang_vel_w, or root_ang_vel_b in the root body's frame",
    "root_lin_vel_b": f"it is {_BASE}.lin_vel_b",
    "root_link_lin_vel_b": f"it is {_BASE}.lin_vel_b",
    "root_link_ang_vel_b": "it is root_ang_vel_b",
    "base_lin_vel": f"it is {_BASE}.lin_vel_b",
    "base_ang_vel": "it is root_ang_vel_b",
    "projected_gravity": f"it is {_BASE}.gravity_b",
    "projected_gravity_b": f"it is {_BASE}.gravity_b",
    "body_pos_w": "it is body_pos",
    "body_quat_w": "it is body_quat",
    "body_link_pos_w": "it is body_pos",
    "body_link_quat_w": "it is body_quat",
    "net_contact_forces": "it is contact_force",
    "net_forces_w": "it is contact_force",
    "find_joints": "joint_names is a list",
    "find_bodies": "body_names is a list, and body_id(name) the place in MuJoCo's fields",
    "set_joint_position_target": "targets of servos are written to sim.ctrl",
    "set_joint_effort_target": "efforts of motors are written to sim.ctrl",
    "write_joint_state_to_sim": "write into joint_pos and joint_vel, where a mask is true",
    "write_root_state_to_sim": f"write into {_ROOT}, where a mask is true",
}
"""Names of Isaac Lab, mjlab and legged_gym, and what to write here."""


class Actor:
    """Views of one actor's part of the simulation. It has J joints (for ball joints and for free
    joints of other bodies than the root, J counts coordinates) and B bodies, both in the order of
    the file. The root is the body below the world; of several, the first with joints below it."""

    def __init__(self, sim: "Sim", name: str, fixed_base: bool) -> None:
        model = sim.model
        self.sim = sim
        self.name = name
        self.fixed_base = fixed_base
        self.body_ids = [i for i in range(model.nbody) if _owner(model.body(i).name) == name]
        joints = [i for i in range(model.njnt) if model.jnt_bodyid[i] in self.body_ids]
        roots = [i for i in self.body_ids if model.body_parentid[i] == 0]
        moving = {int(model.body_rootid[model.jnt_bodyid[i]]) for i in joints}
        self.root_id = next((i for i in roots if i in moving), roots[0])
        self.body_names = [model.body(i).name.split("/", 1)[1] for i in self.body_ids]
        free = [
            i
            for i in joints
            if model.jnt_type[i] == mujoco.mjtJoint.mjJNT_FREE
            and model.jnt_bodyid[i] == self.root_id
        ]
        self.is_free = bool(free)
        """Whether its base moves freely."""
        jointed = [i for i in joints if i not in free]
        self.joint_names = [model.jnt(i).name.split("/", 1)[1] for i in jointed]
        self._root_q = int(model.jnt_qposadr[free[0]]) if free else None
        self._root_v = int(model.jnt_dofadr[free[0]]) if free else None
        self._q = _span(model.jnt_qposadr[jointed], model, jointed, _QPOS_WIDTH)
        self._v = _span(model.jnt_dofadr[jointed], model, jointed, _DOF_WIDTH)
        device = sim.device
        self._bodies = slice(self.body_ids[0], self.body_ids[-1] + 1)
        self._tree_roots = torch.tensor(model.body_rootid[self.body_ids], device=device).long()
        limits = torch.tensor(model.jnt_range[jointed], dtype=torch.float32)
        limited = torch.tensor(model.jnt_limited[jointed], dtype=torch.bool)
        limits[~limited] = torch.tensor([-torch.inf, torch.inf])
        self.joint_limits = limits.to(device)
        """(J, 2) lower and upper [m or rad]; infinite where a joint has none."""
        self.contact_body_names, self._contact = self._sensors(CONTACT_FORCE)
        self.self_contact_body_names, self._self_contact = self._sensors(SELF_CONTACT_FORCE)

    def __getattr__(self, name: str) -> Any:  # only for names that do not exist
        raise no_attribute(self, name, ELSEWHERE)

    def _sensors(self, what: str) -> tuple[list[str], list[int]]:
        """Bodies with a sensor of that name, and where its values are in `sensordata`."""
        names, at, model = [], [], self.sim.model
        for i in range(model.nsensor):
            body, _, measures = model.sensor(i).name.rpartition(":")
            if measures == what and _owner(body) == self.name:
                names.append(body.split("/", 1)[1])
                at.append(int(model.sensor_adr[i]))
        return names, at

    def body_id(self, name: str) -> int:
        """The place of a body in MuJoCo's fields. Raises PhalanxError for an unknown name."""
        if name not in self.body_names:
            raise PhalanxError(
                f"actor {self.name!r} has no body {name!r}{did_you_mean(name, self.body_names)};"
                f" bodies: {', '.join(self.body_names)}"
            )
        return self.body_ids[self.body_names.index(name)]

    def contact_places(self, bodies: Sequence[str]) -> list[int]:
        """Of bodies in `contact_force`. Raises PhalanxError for one that is not measured, and for
        none."""
        if not bodies:
            raise PhalanxError(
                f"no bodies of actor {self.name!r} are named whose contact forces are wanted; name"
                " one or more"
            )
        measured = self.contact_body_names
        for body in bodies:
            if body not in measured:
                self.body_id(body)
                raise PhalanxError(
                    f"no contact force of the body {body!r}; ask for it with"
                    f" scene.add_contact_force_sensors({self.name!r}, ...)"
                )
        return [measured.index(body) for body in bodies]

    @property
    def joint_pos(self) -> Tensor:
        """(N, J) [m or rad], live."""
        return self.sim.qpos[:, self._q]

    @property
    def joint_vel(self) -> Tensor:
        """(N, J) [m/s or rad/s], live."""
        return self.sim.qvel[:, self._v]

    @property
    def root_pos(self) -> Tensor:
        """(N, 3) [m], world frame; live for a free base."""
        if self._root_q is None:
            return self.sim.xpos[:, self.root_id]
        return self.sim.qpos[:, self._root_q : self._root_q + 3]

    @property
    def root_quat(self) -> Tensor:
        """(N, 4) as (w, x, y, z), body to world; live for a free base."""
        if self._root_q is None:
            return self.sim.xquat[:, self.root_id]
        return self.sim.qpos[:, self._root_q + 3 : self._root_q + 7]

    @property
    def root_lin_vel_w(self) -> Tensor:
        """(N, 3) [m/s], world frame, of the root body's origin; live. Free bases only."""
        return self.sim.qvel[:, self._free() : self._free() + 3]

    @property
    def root_ang_vel_b(self) -> Tensor:
        """(N, 3) [rad/s], root body frame; live. Free bases only."""
        return self.sim.qvel[:, self._free() + 3 : self._free() + 6]

    @property
    def body_pos(self) -> Tensor:
        """(N, B, 3) [m], world frame, of the bodies' origins."""
        return self.sim.xpos[:, self._bodies]

    @property
    def body_quat(self) -> Tensor:
        """(N, B, 4) as (w, x, y, z), body to world."""
        return self.sim.xquat[:, self._bodies]

    @property
    def body_ang_vel_w(self) -> Tensor:
        """(N, B, 3) [rad/s], world frame."""
        return self.sim.cvel[:, self._bodies, :3]

    @property
    def body_lin_vel_w(self) -> Tensor:
        """(N, B, 3) [m/s], world frame, of the bodies' origins, a copy.

        MuJoCo's cvel is taken at the centre of mass of the kinematic tree; v moves with
        v_origin = v_com + omega x (origin - com).
        """
        cvel = self.sim.cvel[:, self._bodies]
        arm = self.body_pos - self.sim.subtree_com[:, self._tree_roots]
        return cvel[..., 3:] + torch.linalg.cross(cvel[..., :3], arm)

    @property
    def contact_force(self) -> Tensor:
        """(N, C, 3) [N], world frame, net force on each of `contact_body_names`, a copy.
        Needs `Scene.add_contact_force_sensors`."""
        if not self._contact:
            raise PhalanxError(
                f"actor {self.name!r} has no contact force sensors;"
                f" ask for them with scene.add_contact_force_sensors({self.name!r})"
            )
        return self._forces(self._contact)

    @property
    def self_contact_force(self) -> Tensor:
        """(N, C, 3) [N], world frame, net force on each of `self_contact_body_names` of contacts
        with the actor's other bodies, a copy. Needs `Scene.add_self_contact_sensors`."""
        if not self._self_contact:
            raise PhalanxError(
                f"actor {self.name!r} has no sensors of contacts with itself;"
                f" ask for them with scene.add_self_contact_sensors({self.name!r})"
            )
        return self._forces(self._self_contact)

    def _forces(self, sensors: list[int]) -> Tensor:
        """(N, C, 3) on bodies, of contact sensors whose values begin at these places."""
        # MuJoCo's sensor gives the force that the body exerts.
        first, count, values = sensors[0], len(sensors), self.sim.sensordata
        if sensors == [first + 3 * k for k in range(count)]:  # a scene's own
            return -values[:, first : first + 3 * count].unflatten(1, (count, 3))
        return -torch.stack([values[:, a : a + 3] for a in sensors], 1)

    def _free(self) -> int:
        if self._root_v is None:
            raise PhalanxError(f"actor {self.name!r} has a fixed base, which has no velocity")
        return self._root_v


_QPOS_WIDTH = {mujoco.mjtJoint.mjJNT_BALL: 4, mujoco.mjtJoint.mjJNT_FREE: 7}
_DOF_WIDTH = {mujoco.mjtJoint.mjJNT_BALL: 3, mujoco.mjtJoint.mjJNT_FREE: 6}


def _owner(name: str) -> str:
    return name.split("/", 1)[0] if "/" in name else ""


def _span(addresses: Any, model: Any, joints: list[int], width: dict[Any, int]) -> slice:
    """The joints' part of qpos or qvel; one slice, because an actor's joints are contiguous."""
    if not joints:
        return slice(0, 0)
    last = width.get(mujoco.mjtJoint(int(model.jnt_type[joints[-1]])), 1)
    return slice(int(addresses[0]), int(addresses[-1]) + last)
