"""How the base of a robot is held: free, fixed, guided by joints that nothing drives, or tied."""

from typing import Literal

import mujoco

from phalanx.robot.drives import SLIDE, driven_joints, free_joints

UPWARD = 0.1  # least vertical part of a slide's axis along which a robot falls

TYING = (int(mujoco.mjtEq.mjEQ_CONNECT), int(mujoco.mjtEq.mjEQ_WELD))

BaseKind = Literal["free", "fixed", "guided", "tied"]


def base_kind(model: mujoco.MjModel) -> BaseKind:
    """free: on a free joint. guided: it falls along joints that nothing drives, as robots that
    stay in a plane do. tied: it would be one of these, but connects, welds or tendons hold it to
    the world, so that it belongs where its file has it. fixed: it cannot fall to the ground."""
    roots = falling_roots(model)
    if not roots:
        return "fixed"
    if roots <= _tied_roots(model):
        return "tied"
    return "free" if free_joints(model) else "guided"


def falling_joints(model: mujoco.MjModel) -> list[tuple[int, float]]:
    """For each joint along which the robot falls: where its height is in qpos, and how far the
    robot rises when that grows by 1."""
    data = mujoco.MjData(model)
    mujoco.mj_kinematics(model, data)
    found = [(int(model.jnt_qposadr[j]) + 2, 1.0) for j in free_joints(model)]
    return found + [(int(model.jnt_qposadr[j]), rises) for j, rises in _falling_slides(model, data)]


def _falling_slides(model: mujoco.MjModel, data: mujoco.MjData) -> list[tuple[int, float]]:
    driven = driven_joints(model)
    found = []
    for j in range(model.njnt):
        on_root = model.body_parentid[model.jnt_bodyid[j]] == 0
        rises = float(data.xaxis[j, 2])
        if model.jnt_type[j] == SLIDE and on_root and j not in driven and abs(rises) > UPWARD:
            found.append((j, rises))
    return found


def falling_roots(model: mujoco.MjModel) -> set[int]:
    """Bodies below the world that fall."""
    data = mujoco.MjData(model)
    mujoco.mj_kinematics(model, data)
    joints = free_joints(model) + [j for j, _ in _falling_slides(model, data)]
    return {int(model.body_rootid[model.jnt_bodyid[j]]) for j in joints}


def _tied_roots(model: mujoco.MjModel) -> set[int]:
    """Bodies below the world that a connect, a weld or a taut tendon ties to something fixed."""
    ties = []
    for e in range(model.neq):
        if model.eq_active0[e] and int(model.eq_type[e]) in TYING:
            ends = [int(model.eq_obj1id[e]), int(model.eq_obj2id[e])]
            if model.eq_objtype[e] == mujoco.mjtObj.mjOBJ_SITE:
                ends = [int(model.site_bodyid[site]) for site in ends]
            ties.append(ends)
    for t in range(model.ntendon):
        first = model.tendon_adr[t]
        wraps = range(first, first + model.tendon_num[t])
        sites = [w for w in wraps if model.wrap_type[w] == mujoco.mjtWrap.mjWRAP_SITE]
        if model.tendon_limited[t] or model.tendon_stiffness[t].any():
            ties.append([int(model.site_bodyid[model.wrap_objid[w]]) for w in sites])
    found = set()
    for bodies in ties:
        roots = {int(model.body_rootid[body]) for body in bodies}
        still = {r for r in roots if r == 0 or model.body_mocapid[r] >= 0 or not _moves(model, r)}
        if still:
            found |= roots - still
    return found


def _moves(model: mujoco.MjModel, root: int) -> bool:
    return bool((model.jnt_bodyid == root).any())
