"""Servos for the driven joints of a robot: effort limit, stiffness and damping of each.

    for drive in drives_of(model): print(drive.joint, drive.stiffness)

A position actuator of the file gives its own gains. For other joints the stiffness is the effort
limit over a deflection, and the damping a fortieth of it per second. With a deflection of 1 rad
these are the numbers with which legged robots are commonly trained (Go1 20 to 35 N m/rad at
23.7 N m, G1's hips 100 at 88, H1's 150 to 200 at 200); a tenth of that holds a pose. A joint that
would sag by more than `SAG` under the robot's own weight gets more.
"""

from collections.abc import Collection
from dataclasses import dataclass

import mujoco
import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

HINGE, SLIDE = int(mujoco.mjtJoint.mjJNT_HINGE), int(mujoco.mjtJoint.mjJNT_SLIDE)
SOFT, STIFF = 1.0, 0.1  # [rad] from the target at which a hinge's servo gives all its effort
STIFFEST = 0.3  # [rad] of a servo to learn with: the A1's 0.33 did, the G1's 0.01 to 0.28 did not
SAG = 0.05  # [rad] that the robot's own weight may move a hinge
DAMPING_TIME = 1 / 40  # [s] damping over stiffness
LEAST_RANGE = 1e-4  # [rad or m] of a joint that is not locked by its limits
MOST_RANGE = {HINGE: 50.0, SLIDE: 100.0}  # [rad, m] files write huge limits for none
SLIDE_SPAN = 0.2  # [m] assumed range of a slide without limits
LEAN = 0.2
GRAVITY = 9.81  # [m/s^2]


@dataclass(frozen=True)
class Drive:
    """One joint's servo: effort = stiffness * (target - position) - damping * velocity."""

    joint: str
    stiffness: float
    """[N m/rad or N/m]."""
    damping: float
    """[N m s/rad or N s/m]."""
    effort: float
    """Largest effort [N m or N]."""
    guessed: bool
    """Whether the file has no effort limit for this joint, so that it is a guess from weights."""
    softened: bool
    """Whether the file's own servo is too stiff to learn with, so that this one is softer."""


def drives_of(
    model: mujoco.MjModel,
    qpos: Array | None = None,
    deflection: float = SOFT,
    feet: Collection[int] = (),
    for_task: bool = False,
) -> list[Drive]:
    """A servo for each driven joint, in the order of the joints. qpos: (nq,) the pose to hold, by
    default the initial one. deflection: [rad] at which a hinge's servo gives all its effort. feet:
    bodies that the robot stands on, whose legs carry it. for_task: whether a policy will move them:
    position actuators of the file that hardly damp get the damping of the others, and on a robot
    with feet those that give all their effort within `STIFFEST` are replaced."""
    data = mujoco.MjData(model)
    if qpos is not None:
        data.qpos[:] = qpos
    mujoco.mj_forward(model, data)
    legs = {b for foot in feet for b in chain_of(model, foot)}
    return [_drive(model, data, j, deflection, legs, for_task) for j in driven_joints(model)]


def driven_joints(model: mujoco.MjModel) -> list[int]:
    """Hinges and slides that an actuator moves. In a file without actuators: all of them, except
    those that follow another joint. None that its limits lock."""
    driven = {j for a in range(model.nu) for j in _joints_of(model, a)}
    if not driven:
        follows = model.eq_type == mujoco.mjtEq.mjEQ_JOINT
        driven = set(range(model.njnt)) - set(model.eq_obj1id[follows].tolist())
    return sorted(j for j in driven if model.jnt_type[j] in (HINGE, SLIDE) and _moves(model, j))


def limits_of(model: mujoco.MjModel, joint: int) -> tuple[float, float] | None:
    """Lower and upper limit of a hinge or slide [rad or m], None if it has none that matter."""
    low, high = (float(x) for x in model.jnt_range[joint])
    if not model.jnt_limited[joint] or high - low > MOST_RANGE[int(model.jnt_type[joint])]:
        return None
    return low, high


def _moves(model: mujoco.MjModel, joint: int) -> bool:
    limits = limits_of(model, joint)
    return limits is None or limits[1] - limits[0] > LEAST_RANGE


def free_joints(model: mujoco.MjModel) -> list[int]:
    """Ids of the free joints."""
    return [int(j) for j in np.flatnonzero(model.jnt_type == mujoco.mjtJoint.mjJNT_FREE)]


def _joints_of(model: mujoco.MjModel, actuator: int) -> list[int]:
    """The joints that an actuator moves directly or by a fixed tendon."""
    kind = mujoco.mjtTrn(int(model.actuator_trntype[actuator]))
    target = model.actuator_trnid[actuator, 0]
    if kind in (mujoco.mjtTrn.mjTRN_JOINT, mujoco.mjtTrn.mjTRN_JOINTINPARENT):
        return [int(target)]
    if kind != mujoco.mjtTrn.mjTRN_TENDON:
        return []
    wraps = slice(model.tendon_adr[target], model.tendon_adr[target] + model.tendon_num[target])
    is_joint = model.wrap_type[wraps] == mujoco.mjtWrap.mjWRAP_JOINT
    return [int(j) for j in model.wrap_objid[wraps][is_joint]]


def chain_of(model: mujoco.MjModel, body: int) -> list[int]:
    """A body and its ancestors up to the root, the nearest first."""
    found = []
    while body:
        found.append(body)
        body = int(model.body_parentid[body])
    return found


def _drive(
    model: mujoco.MjModel,
    data: mujoco.MjData,
    joint: int,
    deflection: float,
    legs: Collection[int],
    for_task: bool,
) -> Drive:
    name = model.joint(joint).name
    limit = effort_limit(model, joint)
    effort = limit or _effort_for_weight(model, data, joint, legs)
    gains = _own_gains(model, joint)
    learns = for_task and bool(legs) and model.jnt_type[joint] == HINGE and limit is not None
    # The noise of a training makes such a servo pull to and fro with all its effort.
    too_stiff = learns and gains is not None and gains[0] * STIFFEST > effort
    if too_stiff:
        gains = None
    if gains is not None and for_task:
        passive = float(model.dof_damping[model.jnt_dofadr[joint]])
        gains = gains[0], max(gains[1], gains[0] * DAMPING_TIME - passive)
    if gains is None:
        unit = 1.0  # [rad], or a quarter of a slide's range [m]
        if model.jnt_type[joint] == SLIDE:
            low, high = limits_of(model, joint) or (0.0, SLIDE_SPAN)
            unit = (high - low) / 4
        weight = abs(float(data.qfrc_bias[model.jnt_dofadr[joint]]))
        stiffness = max(effort / deflection, weight / SAG) / unit
        gains = stiffness, stiffness * DAMPING_TIME
    stiffness, damping, effort = (float(f"{g:.3g}") for g in (*gains, effort))
    return Drive(name, stiffness, damping, effort, limit is None, too_stiff)


def effort_limit(model: mujoco.MjModel, joint: int) -> float | None:
    """The largest effort of a joint that the file allows [N m or N], None if it is not limited."""
    limits = [float(np.abs(model.jnt_actfrcrange[joint]).max())] * int(
        model.jnt_actfrclimited[joint]
    )
    for a in range(model.nu):
        if _joints_of(model, a) != [joint]:
            continue
        gear = abs(float(model.actuator_gear[a, 0]))
        if model.actuator_forcelimited[a]:
            limits.append(gear * float(np.abs(model.actuator_forcerange[a]).max()))
        elif is_motor(model, a) and model.actuator_ctrllimited[a]:
            force = model.actuator_gainprm[a, 0] * model.actuator_ctrlrange[a]
            limits.append(gear * float(np.abs(force).max()))
    limits = [limit for limit in limits if limit > 0]
    return min(limits) if limits else None


def is_motor(model: mujoco.MjModel, actuator: int) -> bool:
    """Whether the force is a multiple of the control alone."""
    return bool(
        model.actuator_gaintype[actuator] == mujoco.mjtGain.mjGAIN_FIXED
        and model.actuator_biastype[actuator] == mujoco.mjtBias.mjBIAS_NONE
    )


def _own_gains(model: mujoco.MjModel, joint: int) -> tuple[float, float] | None:
    """Stiffness and damping of the joint's position actuator in the file, None if it has none."""
    for a in range(model.nu):
        bias, gear = model.actuator_biasprm[a], model.actuator_gear[a, 0]
        affine = model.actuator_biastype[a] == mujoco.mjtBias.mjBIAS_AFFINE
        if _joints_of(model, a) == [joint] and affine and bias[1] < 0:
            return -bias[1] * gear**2, -bias[2] * gear**2
    return None


def _effort_for_weight(
    model: mujoco.MjModel, data: mujoco.MjData, joint: int, legs: Collection[int]
) -> float:
    """A guess: what carries twice the weight beyond the joint; if the base is free, at least half
    of the robot's weight, in a leg all of it, on a lever from the joint to its farthest shape, or
    of `LEAN` of the robot's height."""
    body = int(model.jnt_bodyid[joint])
    beyond = [b for b in range(model.nbody) if _is_below(model, b, body)]
    anchor = data.xanchor[joint]
    lever = float(np.linalg.norm(data.subtree_com[body] - anchor))
    needed = 2 * GRAVITY * float(model.body_subtreemass[body]) * max(lever, 0.02)
    if free_joints(model):
        shapes = [g for g in range(model.ngeom) if model.geom_bodyid[g] in beyond]
        reach = max((float(np.linalg.norm(data.geom_xpos[g] - anchor)) for g in shapes), default=0)
        reach = max(reach, LEAN * float(np.ptp(data.geom_xpos[:, 2]))) if model.ngeom else reach
        share = 1.0 if body in legs else 0.5
        needed = max(needed, share * GRAVITY * float(model.body_mass.sum()) * reach)
    if model.jnt_type[joint] == SLIDE:
        needed = 2 * GRAVITY * float(model.body_subtreemass[body])
    return max(needed, 1e-3)


def _is_below(model: mujoco.MjModel, body: int, ancestor: int) -> bool:
    while body > ancestor:
        body = int(model.body_parentid[body])
    return body == ancestor
