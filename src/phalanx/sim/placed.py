"""Robots as they are placed in a scene, and the pose in which they begin."""

from collections.abc import Iterable
from dataclasses import dataclass

import mujoco
import numpy as np

from phalanx.sim.engines.initial import INITIAL
from phalanx.sim.robot import Pose


@dataclass(frozen=True)
class ActorSpec:
    """One actor of a scene, for which `Sim` makes views."""

    name: str
    path: str
    fixed_base: bool
    initial: Pose | None
    """The pose that `Sim.reset` restores, in the world of the file."""
    pos: np.ndarray
    quat: np.ndarray
    """Position (3,) [m] and orientation (w, x, y, z) of the file's world in the scene."""
    first_actuator: int
    """Place of the file's first actuator among those of the scene."""


def write_initial(model: mujoco.MjModel, actors: Iterable[ActorSpec]) -> None:
    """Write the actors' initial poses into the keyframe that engines reset to."""
    key = mujoco.mj_name2id(model, mujoco.mjtObj.mjOBJ_KEY, INITIAL)
    if key < 0:
        return
    data = mujoco.MjData(model)
    for actor in actors:
        if actor.initial is not None:
            data.time = max(data.time, actor.initial.time)
            actor.initial.write(model, data, f"{actor.name}/", actor.first_actuator)
            _move_free_joints(model, data.qpos, actor, actor.initial)
            _move_mocap(model, data, actor, actor.initial)
    model.key_time[key] = data.time
    model.key_qpos[key], model.key_qvel[key] = data.qpos, data.qvel
    model.key_ctrl[key], model.key_act[key] = data.ctrl, data.act
    model.key_mpos[key], model.key_mquat[key] = data.mocap_pos.ravel(), data.mocap_quat.ravel()


def move_constraints(robot: mujoco.MjSpec, pos: np.ndarray, quat: np.ndarray) -> None:
    """Turn what equalities of `robot` say about the file's world into the scene's, where the file's
    world is at pos (3,) [m], quat (4,), of length 1: MuJoCo's attach leaves it as it is."""
    for equality in robot.equalities:
        if equality.objtype != mujoco.mjtObj.mjOBJ_BODY:
            continue
        first, second = (name in ("", "world") for name in (equality.name1, equality.name2))
        data = np.array(equality.data)
        if equality.type == mujoco.mjtEq.mjEQ_CONNECT and first:  # its anchor, in body 1
            data[:3] = _moved(data[:3], pos, quat)
        if equality.type == mujoco.mjtEq.mjEQ_WELD:  # the anchor in body 2, then in body 1
            if second:
                data[:3] = _moved(data[:3], pos, quat)
            if data[6:10].any():  # else the pose is the one in the file
                if first:
                    data[3:6], data[6:10] = _moved(data[3:6], pos, quat), _times(quat, data[6:10])
                elif second:
                    data[6:10] = _times(data[6:10], quat * (1, -1, -1, -1))
        equality.data = data


def _move_mocap(model: mujoco.MjModel, data: mujoco.MjData, actor: ActorSpec, pose: Pose) -> None:
    """Take the poses of mocap bodies from the file's world to that of the scene."""
    for name in pose.mocap_pos.keys() | pose.mocap_quat.keys():
        body = mujoco.mj_name2id(model, mujoco.mjtObj.mjOBJ_BODY, f"{actor.name}/{name}")
        if body < 0:
            continue
        i = model.body_mocapid[body]
        if name in pose.mocap_pos:
            data.mocap_pos[i] = _moved(data.mocap_pos[i], actor.pos, actor.quat)
        if name in pose.mocap_quat:
            data.mocap_quat[i] = _times(actor.quat, data.mocap_quat[i])


def _moved(point: np.ndarray, pos: np.ndarray, quat: np.ndarray) -> np.ndarray:
    return pos + _turned(point, quat)


def _turned(vector: np.ndarray, quat: np.ndarray) -> np.ndarray:
    turned = np.zeros(3)
    mujoco.mju_rotVecQuat(turned, vector, quat)
    return turned


def _times(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    product = np.zeros(4)
    mujoco.mju_mulQuat(product, first, second)
    return product


def _move_free_joints(
    model: mujoco.MjModel, qpos: np.ndarray, actor: ActorSpec, pose: Pose
) -> None:
    """Take the positions of free joints from the file's world to that of the scene."""
    for name, values in pose.qpos.items():
        joint = mujoco.mj_name2id(model, mujoco.mjtObj.mjOBJ_JOINT, f"{actor.name}/{name}")
        if joint < 0 or model.jnt_type[joint] != mujoco.mjtJoint.mjJNT_FREE:
            continue
        local, adr = np.array(values), int(model.jnt_qposadr[joint])
        qpos[adr : adr + 3] = _moved(local[:3], actor.pos, actor.quat)
        qpos[adr + 3 : adr + 7] = _times(actor.quat, local[3:])
