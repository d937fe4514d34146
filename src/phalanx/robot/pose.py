"""The pose in which a robot is held: of a keyframe, of its file, or found for its feet.

    pose = default_pose(robot)          # pose.qpos, pose.feet, and in words: pose.name

A keyframe named home or stand is the pose its maker chose. Otherwise it is the file's own initial
pose, moved into the joints' limits. URDFs leave all joints at zero, where legs are usually
straight; a robot on straight legs gets bent ones, with its feet as flat as they were, a
little closer to the hips, and moved so that the weight is over their middle.
"""

from dataclasses import dataclass

import mujoco
import numpy as np
from mujoco import minimize

from phalanx.motion.robot import geom_points
from phalanx.robot.drives import (
    HINGE,
    SLIDE,
    Array,
    chain_of,
    driven_joints,
    free_joints,
    limits_of,
)
from phalanx.robot.file import RobotFile
from phalanx.sim.assets import no_keyframe

KEYFRAMES = ("home", "stand", "standing", "default", "init", "initial")
"""Names of keyframes that are taken for the initial pose, the best first."""
NEAR = 0.03  # share of the robot's height within which of its lowest point a foot is
SOLE = 0.01  # the same for a body above the foot, from which it counts as its heel
STRAIGHT = 160.0  # angle of a knee, from which the leg counts as straight [degrees]
PARALLEL = 0.9  # cosine between axes of joints that swing a leg in the same plane
BENT = 0.9  # share of its length to which one of two legs is stretched after bending
CROUCHED = 0.7  # the same for one of more legs: the makers' own poses of dogs have 0.61 to 0.75
BEND = 0.15  # how far each joint starts from its initial position towards the middle of its range
BOTTOM = 0.01  # share of a leg's length above a foot's lowest point that belongs to its sole
STAY = 0.005  # weight of each joint's distance from where it starts


@dataclass(frozen=True)
class Pose:
    """A pose of the robot alone."""

    qpos: Array
    """(nq,); a free base is where the file has it."""
    name: str
    """Where the pose comes from, in words."""
    feet: tuple[int, ...]
    """Ids of the bodies that the robot stands on; empty for one without legs."""


def default_pose(robot: RobotFile, keyframe: str | None = None) -> Pose:
    """The pose described above, or that of a keyframe. Raises PhalanxError for an unknown one."""
    model = robot.model
    names = list(robot.robot.keyframes)
    if keyframe is not None and keyframe not in names:
        raise no_keyframe(robot.path, keyframe, names)
    chosen = keyframe or next((n for n in KEYFRAMES if n in names), None)
    if chosen is not None:
        data = mujoco.MjData(model)
        robot.robot.keyframes[chosen].write(model, data)
        qpos = data.qpos.copy()
        return Pose(qpos, f"keyframe {chosen!r}", feet_of(model, qpos))
    zero = model.qpos0.copy()
    inside = _inside(model, zero)
    moved = not np.array_equal(inside, zero)
    feet = feet_of(model, zero) or feet_of(model, inside)
    legs = [_leg(model, foot) for foot in feet]
    if legs and (moved or any(_knee_angle(model, inside, leg) > STRAIGHT for leg in legs)):
        return Pose(_bent(model, inside, legs), "its legs bent by Phalanx", feet)
    words = "the file's pose, moved into the joints' limits" if moved else "the file's pose"
    return Pose(inside, words, feet)


def lowest_points(model: mujoco.MjModel, qpos: Array) -> Array:
    """(nbody,) [m] height of the lowest point of each body's colliding shapes, inf without any."""
    data = mujoco.MjData(model)
    data.qpos[:] = qpos
    mujoco.mj_kinematics(model, data)
    lowest = np.full(model.nbody, np.inf)
    for g in range(model.ngeom):
        collides = (model.geom_contype[g] & 1) or (model.geom_conaffinity[g] & 1)
        if collides and model.geom_bodyid[g]:
            local, radius = geom_points(model, g)
            height = data.geom_xpos[g, 2] + local @ data.geom_xmat[g, 6:] - radius
            body = model.geom_bodyid[g]
            lowest[body] = min(lowest[body], height.min())
    return lowest


def feet_of(model: mujoco.MjModel, qpos: Array) -> tuple[int, ...]:
    """The bodies that the robot stands on, if it has two or more, each at the end of two or more
    driven joints. A body rigidly joined to a foot is part of it; toes are part of the foot."""
    free = free_joints(model)
    if not free:
        return ()
    own = model.body_rootid == model.jnt_bodyid[free[0]]  # nothing that stands or hangs elsewhere
    heights = np.where(own, lowest_points(model, qpos), np.inf)
    touching = np.isfinite(heights)
    if not touching.any():
        return ()
    tall = _top(model, qpos, own) - heights[touching].min()
    lowest: dict[int, int] = {}  # moving body -> the lowest of it and what is rigidly joined to it
    for body in np.flatnonzero(heights <= heights[touching].min() + NEAR * tall):
        moving = int(model.body_weldid[body])
        if moving not in lowest or heights[body] < heights[lowest[moving]]:
            lowest[moving] = int(body)
    if int(model.jnt_bodyid[free[0]]) in lowest:
        return ()  # it lies on its trunk
    inner = {above for body in lowest for above in chain_of(model, body)[1:]}
    feet = set()
    for toe in lowest.keys() - inner:
        chain = [toe, *(b for b in chain_of(model, toe)[1:] if b in lowest)]
        limit = min(heights[lowest[b]] for b in chain) + SOLE * tall
        feet.add([b for b in chain if heights[lowest[b]] <= limit][-1])
    driven = {int(model.jnt_bodyid[j]) for j in driven_joints(model)}
    if len(feet) < 2 or any(len(driven & set(chain_of(model, b))) < 2 for b in feet):
        return ()
    return tuple(lowest[b] for b in sorted(feet))


def _top(model: mujoco.MjModel, qpos: Array, bodies: Array) -> float:
    """Height of the highest of `bodies`, a mask [m]."""
    data = mujoco.MjData(model)
    data.qpos[:] = qpos
    mujoco.mj_kinematics(model, data)
    return float(max(data.xpos[bodies, 2].max(), data.xipos[bodies, 2].max()))


@dataclass(frozen=True)
class _Leg:
    hip: int
    """The joint nearest to the trunk."""
    joints: tuple[int, ...]
    foot: int
    """Body."""
    sole: Array
    """(4, 3) [m] corners of the rectangle on which the foot stands, in its frame; all the same for
    a ball."""


def _leg(model: mujoco.MjModel, foot: int) -> _Leg:
    """The leg of a foot: the joints that move no other foot."""
    chain = chain_of(model, foot)
    joints = [j for j in driven_joints(model) if int(model.jnt_bodyid[j]) in chain]
    data = mujoco.MjData(model)
    mujoco.mj_kinematics(model, data)
    points, heights = [], []
    for g in np.flatnonzero(model.geom_bodyid == foot).tolist():
        if model.geom_contype[g] or model.geom_conaffinity[g]:
            local, radius = geom_points(model, g)
            points.append(data.geom_xpos[g] + local @ data.geom_xmat[g].reshape(3, 3).T)
            heights.append(points[-1][:, 2] - radius)
    height = np.concatenate(heights)
    bottom = height.min() + BOTTOM * np.linalg.norm(data.xanchor[joints[0]] - data.xpos[foot])
    low = np.concatenate(points)[height <= bottom]
    first, last, z = low.min(axis=0), low.max(axis=0), low[:, 2].mean()
    corners = np.array([(x, y, z) for x in (first[0], last[0]) for y in (first[1], last[1])])
    return _Leg(
        joints[0], tuple(joints), foot, (corners - data.xpos[foot]) @ data.xmat[foot].reshape(3, 3)
    )


def _sole(data: mujoco.MjData, leg: _Leg) -> Array:
    """(4, 3) [m] world positions of the sole's corners."""
    return np.asarray(data.xpos[leg.foot] + leg.sole @ data.xmat[leg.foot].reshape(3, 3).T)


def _knee(data: mujoco.MjData, leg: _Leg) -> int:
    """The joint that is farthest from both ends of the leg."""
    ends = np.array([data.xanchor[leg.hip], _sole(data, leg).mean(axis=0)])
    return max(leg.joints, key=lambda j: np.linalg.norm(data.xanchor[j] - ends, axis=1).min())


def _segments(data: mujoco.MjData, leg: _Leg) -> tuple[Array, Array]:
    """Thigh and shank: from the hip to the knee, and from the knee to the sole, (3,) [m]."""
    hip, knee = data.xanchor[leg.hip], data.xanchor[_knee(data, leg)]
    return knee - hip, _sole(data, leg).mean(axis=0) - knee


def _reach(data: mujoco.MjData, leg: _Leg) -> float:
    """Length of the leg [m]."""
    return float(sum(np.linalg.norm(segment) for segment in _segments(data, leg)))


def _knee_angle(model: mujoco.MjModel, qpos: Array, leg: _Leg) -> float:
    """180 [degrees] for a straight leg, seen along the knee's axis: joints of a hip and parts of a
    leg lie side by side."""
    data = mujoco.MjData(model)
    data.qpos[:] = qpos
    mujoco.mj_kinematics(model, data)
    knee = _knee(data, leg)
    axis = data.xaxis[knee]
    swings = (j for j in leg.joints if abs(data.xaxis[j] @ axis) > PARALLEL)
    top, middle = data.xanchor[next(swings)], data.xanchor[knee]
    if not np.any(middle - top):  # no joint of the hip swings the leg as the knee does
        top = data.xanchor[leg.hip]
    thigh, shank = middle - top, _sole(data, leg).mean(axis=0) - middle
    thigh, shank = thigh - (thigh @ axis) * axis, shank - (shank @ axis) * axis
    lengths = float(np.linalg.norm(thigh) * np.linalg.norm(shank))
    if not lengths:
        return 0.0
    return 180.0 - float(np.degrees(np.arccos(np.clip(thigh @ shank / lengths, -1, 1))))


def _inside(model: mujoco.MjModel, qpos: Array) -> Array:
    """The pose with every joint inside of its limits."""
    qpos = qpos.copy()
    for j in range(model.njnt):
        if model.jnt_type[j] in (HINGE, SLIDE) and model.jnt_limited[j]:
            adr = model.jnt_qposadr[j]
            qpos[adr] = np.clip(qpos[adr], *model.jnt_range[j])
    return qpos


def _bent(model: mujoco.MjModel, qpos: Array, legs: list[_Leg]) -> Array:
    """The pose with the legs bent, by least squares over their joints."""
    joints = sorted({j for leg in legs for j in leg.joints})
    adr = model.jnt_qposadr[joints]
    low, high = np.array([limits_of(model, j) or (-np.pi, np.pi) for j in joints]).T
    data = mujoco.MjData(model)
    mujoco.mj_kinematics(model, data)  # with all joints as the file has them
    soles = np.array([_sole(data, leg) for leg in legs])
    soles[..., :2] -= soles[..., :2].mean(axis=(0, 1))  # relative to where the weight will be
    wanted = []
    for leg, sole in zip(legs, soles, strict=True):
        length = _reach(data, leg)
        sole[:, 2] = data.xanchor[leg.hip, 2] - (BENT if len(legs) < 3 else CROUCHED) * length
        wanted.append((sole, length))
    trunk = model.body_rootid[legs[0].foot]
    start = qpos[adr] + BEND * ((low + high) / 2 - qpos[adr])

    def residual(columns: Array) -> Array:
        results = []
        for x in columns.T:
            data.qpos[:] = qpos
            data.qpos[adr] = x
            mujoco.mj_kinematics(model, data)
            mujoco.mj_comPos(model, data)
            weight = np.array([*data.subtree_com[trunk, :2], 0])
            parts = [STAY * (x - start)]
            for leg, (place, length) in zip(legs, wanted, strict=True):
                parts.append((_sole(data, leg) - weight - place).ravel() / (2 * length))
            results.append(np.concatenate(parts))
        return np.stack(results, axis=1)

    found, _ = minimize.least_squares(
        start, residual, bounds=[low, high], verbose=minimize.Verbosity.SILENT
    )
    bent = qpos.copy()
    bent[adr] = found
    return bent
