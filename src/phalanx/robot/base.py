"""How the base of a robot is held: free, fixed, or guided by joints that nothing drives."""

from typing import Literal

import mujoco

from phalanx.robot.drives import SLIDE, driven_joints, free_joints

UPWARD = 0.1  # least vertical part of a slide's axis along which a robot falls


def base_kind(model: mujoco.MjModel) -> Literal["free", "fixed", "guided"]:
    """free: on a free joint. guided: it falls along joints that nothing drives, as robots that
    stay in a plane do. fixed: it cannot fall to the ground."""
    if free_joints(model):
        return "free"
    return "guided" if falling_joints(model) else "fixed"


def falling_joints(model: mujoco.MjModel) -> list[tuple[int, float]]:
    """For each joint along which the robot falls: where its height is in qpos, and how far the
    robot rises when that grows by 1."""
    data = mujoco.MjData(model)
    mujoco.mj_kinematics(model, data)
    driven = driven_joints(model)
    found = [(int(model.jnt_qposadr[j]) + 2, 1.0) for j in free_joints(model)]
    for j in range(model.njnt):
        on_root = model.body_parentid[model.jnt_bodyid[j]] == 0
        rises = float(data.xaxis[j, 2])
        if model.jnt_type[j] == SLIDE and on_root and j not in driven and abs(rises) > UPWARD:
            found.append((int(model.jnt_qposadr[j]), rises))
    return found
