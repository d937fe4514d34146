"""`SimulatedRobot`: a robot in plain MuJoCo C with the sensors and drives of the real one."""

from typing import Any

import mujoco
import numpy as np
from numpy.typing import NDArray

from phalanx.deploy.describe import find_joint, gains
from phalanx.deploy.metadata import Action, Metadata
from phalanx.deploy.policy import Command

Array = NDArray[Any]


class SimulatedRobot:
    """The robot in `model` and `data` whose joints are those of `about`. nominal: the model before
    anything is randomised; None is `model`."""

    def __init__(
        self,
        model: mujoco.MjModel,
        data: mujoco.MjData,
        about: Metadata,
        nominal: mujoco.MjModel | None = None,
    ) -> None:
        self.model, self.data = model, data
        self.joints = [find_joint(model, j.name) for j in about.joints]
        self.names = [j.name for j in about.joints]
        self.qpos = model.jnt_qposadr[self.joints]
        self.qvel = model.jnt_dofadr[self.joints]
        body = int(model.jnt_bodyid[self.joints[0]]) if self.joints else 1
        self._root = int(model.body_rootid[body])
        self._free = _free_joint(model, self._root)
        self._rotation = np.zeros(9)
        self.moved = [self.names.index(name) for name in about.action.joints]
        self._drive(about, nominal or model)

    def _drive(self, about: Metadata, nominal: mujoco.MjModel) -> None:
        """Find the actuators for the targets, in order: servos, motors or the joints themselves."""
        model, self.kind = self.model, about.action.kind
        self._moved_qpos, self._moved_qvel = self.qpos[self.moved], self.qvel[self.moved]
        actuators = [_actuator(model, self.joints[k]) for k in self.moved]
        servo = np.array([_is_servo(model, a, self.kind) for a in actuators], bool)
        there = np.array([a is not None for a in actuators], bool)
        ids = np.array([-1 if a is None else a for a in actuators], int)
        # The gains that the robot's program knows; randomised motors are weaker or stronger.
        gear, gain = nominal.actuator_gear[:, 0], nominal.actuator_gainprm[:, 0]
        self._by_servo, self._servos = np.flatnonzero(servo), ids[servo]
        # force = gain control - feedback gear joint, which is zero at the target
        feedback = -nominal.actuator_biasprm[:, 1 if self.kind == "position" else 2]
        used = self._servos
        self._per_target = feedback[used] * gear[used] / gain[used]
        motor = there & ~servo
        self._by_motor, self._motors = np.flatnonzero(motor), ids[motor]
        self._per_control = gear[self._motors] * gain[self._motors]
        self._by_hand = np.flatnonzero(~there)
        joints = [about.joints[k] for k in self.moved]
        self._kp = np.array([j.stiffness for j in joints])
        self._kd = np.array([j.damping for j in joints])
        self._effort = np.array(
            [np.inf if j.effort_limit is None else j.effort_limit for j in joints]
        )
        self._strength = self._effort

    def state(self) -> dict[str, Any]:
        """The robot state that `phalanx.deploy.observe` describes; the base is the root body."""
        d = self.data
        known: dict[str, Any] = {"joint_pos": d.qpos[self.qpos], "joint_vel": d.qvel[self.qvel]}
        if self._free:
            q, v = self._free
            quat = d.qpos[q + 3 : q + 7]
            mujoco.mju_quat2Mat(self._rotation, quat)
            known["base_height"] = d.qpos[q + 2]
            known["base_quat"] = quat
            known["base_lin_vel"] = d.qvel[v : v + 3] @ self._rotation.reshape(3, 3)
            known["base_ang_vel"] = d.qvel[v + 3 : v + 6]
        else:
            known["base_height"] = d.xpos[self._root, 2]
            known["base_quat"] = d.xquat[self._root]
            known["base_lin_vel"] = known["base_ang_vel"] = np.zeros(3)
        return known

    def begin(self) -> None:
        """Begin an episode: take the motors' current, randomised strength from the model."""
        now = np.array([gains(self.model, self.joints[k])[2] for k in self.moved])
        self._strength = np.where(np.isfinite(now), now, self._effort)

    def apply(self, targets: Array) -> None:
        """Send the targets (J,) to the servos at their joints. A joint without a servo gets the
        effort of a PD controller with the metadata's gains, through its motor if it has one. Called
        before every physics step."""
        d = self.data
        if len(self._servos):
            d.ctrl[self._servos] = targets[self._by_servo] * self._per_target
        if len(self._servos) == len(self.moved):
            return
        efforts = self._efforts(targets)
        if len(self._motors):
            d.ctrl[self._motors] = efforts[self._by_motor] / self._per_control
        if len(self._by_hand):
            d.qfrc_applied[self._moved_qvel[self._by_hand]] = efforts[self._by_hand]

    def measured(self) -> Array:
        """Measured values (J,) to compare with the targets: position, velocity or effort."""
        if self.kind == "position":
            return self.data.qpos[self._moved_qpos]
        if self.kind == "velocity":
            return self.data.qvel[self._moved_qvel]
        return self.efforts()

    def efforts(self) -> Array:
        """Efforts (J,) of the moved joints' actuators [N or N m]."""
        dofs = self._moved_qvel
        return self.data.qfrc_actuator[dofs] + self.data.qfrc_applied[dofs]

    def at_limit(self, command: Command) -> Array:
        """(J,) bool: whether the target is at its limit or the motor at full effort."""
        strong = np.abs(self.efforts()) >= self._strength * (1 - 1e-6)
        return command.saturated | strong if self.moved else command.saturated

    def frame(self) -> int:
        """Make MuJoCo's free camera start at this robot instead of the whole ground. Returns the
        root body, for a camera that follows it."""
        m, d = self.model, self.data
        own = np.flatnonzero(m.body_rootid[m.geom_bodyid] == self._root)
        if len(own):
            low = (d.geom_xpos[own] - m.geom_rbound[own, None]).min(0)
            high = (d.geom_xpos[own] + m.geom_rbound[own, None]).max(0)
            m.stat.center, m.stat.extent = (low + high) / 2, np.linalg.norm(high - low)
        return self._root

    def _efforts(self, targets: Array) -> Array:
        wanted = targets
        if self.kind != "effort":
            pos, vel = self.data.qpos[self._moved_qpos], self.data.qvel[self._moved_qvel]
            if self.kind == "position":
                wanted = self._kp * (targets - pos) - self._kd * vel
            else:
                wanted = self._kd * (targets - vel)
        return np.minimum(np.maximum(wanted, -self._effort), self._effort)


def targets_of(about: Action, action: Array) -> Array:
    """(J,) targets for an action (A,), as the exported network computes them."""
    if about.choices:
        rows = zip(about.choices, np.atleast_1d(action), strict=True)
        return np.sum([table[k] for table, k in rows], axis=0)
    wanted = np.array(about.offset) + np.array(about.scale) * action
    return np.minimum(np.maximum(wanted, about.low), about.high)


def _free_joint(model: mujoco.MjModel, root: int) -> tuple[int, int] | None:
    """Addresses in qpos and qvel of the free joint of the robot with this root body."""
    for i in range(model.njnt):
        free = model.jnt_type[i] == mujoco.mjtJoint.mjJNT_FREE
        if free and model.body_rootid[model.jnt_bodyid[i]] == root:
            return int(model.jnt_qposadr[i]), int(model.jnt_dofadr[i])
    return None


def _actuator(model: mujoco.MjModel, joint: int) -> int | None:
    """The first actuator of the joint."""
    for i in range(model.nu):
        on_joint = model.actuator_trntype[i] == mujoco.mjtTrn.mjTRN_JOINT
        if on_joint and model.actuator_trnid[i, 0] == joint:
            return i
    return None


def _is_servo(model: mujoco.MjModel, actuator: int | None, kind: str) -> bool:
    """Whether the actuator's control is of this `kind`, position or velocity."""
    if actuator is None or kind == "effort":
        return False
    _, stiffness, damping = model.actuator_biasprm[actuator, :3]
    affine = model.actuator_biastype[actuator] == mujoco.mjtBias.mjBIAS_AFFINE
    affine = affine and model.actuator_gainprm[actuator, 0] != 0  # else no control moves it
    return bool(affine and (stiffness != 0) == (kind == "position") and (stiffness or damping))
