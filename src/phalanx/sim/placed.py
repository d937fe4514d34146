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
            actor.initial.write(model, data, f"{actor.name}/", actor.first_actuator)
            _move_free_joints(model, data.qpos, actor, actor.initial)
    model.key_qpos[key], model.key_qvel[key] = data.qpos, data.qvel
    model.key_ctrl[key], model.key_act[key] = data.ctrl, data.act


def _move_free_joints(
    model: mujoco.MjModel, qpos: np.ndarray, actor: ActorSpec, pose: Pose
) -> None:
    """Take the positions of free joints from the file's world to that of the scene."""
    for name, values in pose.qpos.items():
        joint = mujoco.mj_name2id(model, mujoco.mjtObj.mjOBJ_JOINT, f"{actor.name}/{name}")
        if joint < 0 or model.jnt_type[joint] != mujoco.mjtJoint.mjJNT_FREE:
            continue
        local = np.array(values)
        moved = np.zeros(7)
        mujoco.mju_rotVecQuat(moved[:3], local[:3], actor.quat)
        mujoco.mju_mulQuat(moved[3:], actor.quat, local[3:])
        moved[:3] += actor.pos
        adr = int(model.jnt_qposadr[joint])
        qpos[adr : adr + 7] = moved
