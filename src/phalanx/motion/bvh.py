"""Reads BVH, the text format of motion capture: a skeleton, then channels for each frame.

    clip = read_bvh("07_01.bvh", robot)                  # names of joints as in CMU's files
    clip = read_bvh("walk.bvh", robot, names={"pelvis": "Root", ...})

A skeleton with other proportions and another rest pose is fitted to the robot as follows:

- Axes: up is y (or z) in the file; forward is found by comparing the joints' positions in the rest
  pose with those of the robot's bodies.
- Rotations: a limb with a single child joint is aligned by its direction, so that spread arms in
  the file's rest pose match hanging arms in the robot's. Other bodies are assumed to have the same
  rotation in both rest poses; hands and feet keep their rest rotation relative to their limb.
- Knees and elbows, which have one hinge: the limb above is twisted until the hinge can bend the
  limb below into its direction.
- Size: distances are scaled by the length of the robot's legs over that of the file's legs, so the
  unit of the file does not matter; `scale` [m per unit] overrides this.
- Height: the robot's lowest point is at or below the ground in a tenth of all frames.
"""

import os
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from phalanx.errors import PhalanxError, did_you_mean
from phalanx.gate import listed
from phalanx.motion.bvh_file import Skeleton, parse_bvh
from phalanx.motion.clip import Clip, checked
from phalanx.motion.robot import Robot
from phalanx.motion.rotation import Array, about, conjugate, multiply, rotate, shortest_arc

CMU_NAMES = {
    "pelvis": "Hips",
    "torso": "Spine1",
    "head": "Head",
    "right_upper_arm": "RightArm",
    "right_lower_arm": "RightForeArm",
    "right_hand": "RightHand",
    "left_upper_arm": "LeftArm",
    "left_lower_arm": "LeftForeArm",
    "left_hand": "LeftHand",
    "right_thigh": "RightUpLeg",
    "right_shin": "RightLeg",
    "right_foot": "RightFoot",
    "left_thigh": "LeftUpLeg",
    "left_shin": "LeftLeg",
    "left_foot": "LeftFoot",
}
"""The robot's bodies and the corresponding joints of CMU's skeleton. Mixamo's names are the same
after the prefix `mixamorig:`, which is ignored."""
UP = {"y": np.array([0.5, 0.5, 0.5, 0.5]), "z": np.array([1.0, 0.0, 0.0, 0.0])}
"""Rotations of the file's axes that make z up: for y up, x, y, z become y, z, x."""
STRAIGHT, BENT = np.radians(8.0), np.radians(25.0)
"""Bends below the first give a limb no influence on the twist of the limb above, bends above the
second give it full influence."""
ON_GROUND = 10.0  # percent of the frames


def read_bvh(
    path: str | os.PathLike[str],
    robot: Robot,
    names: Mapping[str, str] | None = None,
    up: str = "y",
    scale: float | None = None,
) -> Clip:
    """The clip of a BVH file, fitted to a robot.

    names: the file's joint for each moving body of the robot. up: the file's axis that points up.
    scale: [m per unit of the file]; None derives it from the length of the legs.
    Raises PhalanxError, naming file and line, for a file that is damaged or does not fit.
    """
    where = str(path)
    if up not in UP:
        raise PhalanxError(f"up is {up!r}; it must be 'y' or 'z'")
    skeleton = parse_bvh(Path(path))
    joint = _joints_of_bodies(where, skeleton, robot, CMU_NAMES if names is None else names)
    pos, turned = skeleton.pose()
    root_pos = pos[:, joint[0] or 0]  # the file may have moving joints above the hips
    rest, robot_rest = skeleton.rest(), robot.rest()
    known = [b for b, i in enumerate(joint) if i is not None]

    axes = UP[up]
    rest = rotate(axes, rest - rest[joint[0] or 0])
    there = np.array([rest[joint[b] or 0] for b in known])[:, :2]
    here = (robot_rest.pos[0, known] - robot_rest.pos[0, 0])[:, :2]
    cross = there[:, 0] @ here[:, 1] - there[:, 1] @ here[:, 0]
    axes = multiply(about(np.array([0.0, 0, 1]), np.arctan2(cross, np.sum(there * here))), axes)
    rest = rotate(axes, rotate(conjugate(UP[up]), rest))

    leg = _leg(robot, robot_rest.pos[0], known)
    limbs = rest[[joint[b] or 0 for b in leg]]
    _check_standing(where, limbs, up)
    if scale is None:
        scale = _length(robot_rest.pos[0, leg]) / _length(limbs)
    turned = multiply(multiply(axes, turned), conjugate(axes))
    quat = np.tile(robot_rest.quat, (len(turned), 1, 1))  # rotations of bodies, world frame
    align: dict[int, Array] = {}
    for b in known:
        next_ones = [c for c in known if robot.parents[c] == b]
        if len(next_ones) == 1 and b:
            there = rest[joint[next_ones[0]]] - rest[joint[b]]
            here = robot_rest.pos[0, next_ones[0]] - robot_rest.pos[0, b]
            align[b] = shortest_arc(here, there)
        elif not next_ones and len(robot.hinges[robot.parents[b]]) == 1:  # a hand or a foot
            align[b] = align.get(robot.parents[b], np.array([1.0, 0, 0, 0]))
        else:
            align[b] = np.array([1.0, 0, 0, 0])
        quat[:, b] = multiply(multiply(turned[:, joint[b]], align[b]), robot_rest.quat[0, b])
    _turn_limbs_for_hinges(robot, quat)
    local = quat.copy()
    for b, parent in enumerate(robot.parents):
        if parent >= 0:
            local[:, b] = multiply(conjugate(quat[:, parent]), quat[:, b])
    joint_pos = robot.joint_angles(local)
    root = rotate(axes, root_pos) * scale
    root[:, :2] -= root[0, :2]
    lowest = robot.kinematics(root, quat[:, 0], joint_pos).lowest
    root[:, 2] -= np.percentile(lowest, ON_GROUND)
    return checked(
        Clip(
            name=Path(path).stem,
            fps=skeleton.fps,
            loop=False,
            root_pos=root,
            root_quat=quat[:, 0],
            joints=tuple(robot.joints),
            joint_pos=joint_pos,
            source=Path(path).name,
        ),
        where,
    )


def _joints_of_bodies(
    where: str, skeleton: Skeleton, robot: Robot, names: Mapping[str, str]
) -> list[int | None]:
    """The file's joint for each body of the robot; None for a body without hinges or joint."""
    plain = [name.rsplit(":", 1)[-1] for name in skeleton.names]
    joints: list[int | None] = []
    for b, body in enumerate(robot.bodies):
        wanted = names.get(body)
        if wanted in plain:
            joints.append(plain.index(wanted))
        elif b == 0 or len(robot.hinges[b]):
            what = f"joint {wanted!r} for" if wanted else "a name for"
            raise PhalanxError(
                f"{where} has no {what} the robot's body {body!r}"
                f"{did_you_mean(wanted or body, plain)}; map the robot's bodies to its joints:"
                f" {listed(plain)}"
            )
        else:
            joints.append(None)
    return joints


def _leg(robot: Robot, pos: Array, known: list[int]) -> list[int]:
    """Bodies from the lowest foot of the rest pose up to the thigh; pos (B, 3) of the robot."""
    leg = [min(known, key=lambda b: float(pos[b, 2]))]
    while robot.parents[leg[-1]] > 0:
        leg.append(robot.parents[leg[-1]])
    return [b for b in leg if b in known]


def _length(points: Array) -> float:
    return float(np.linalg.norm(np.diff(points, axis=0), axis=-1).sum())


def _check_standing(where: str, limbs: Array, up: str) -> None:
    """Raise PhalanxError unless the leg, points (L, 3) from the foot up to the hip, z up, points
    down in the file's rest pose, since rotations are relative to that pose."""
    way = limbs[0] - limbs[-1]
    if not _length(limbs) > 0 or len(limbs) < 2:
        raise PhalanxError(f"{where}: the leg of the figure has no length; repair its OFFSETs")
    if -way[2] < 0.7 * np.linalg.norm(way):
        other = "z" if up == "y" else "y"
        raise PhalanxError(
            f"{where}: with up={up} the figure's legs do not point down in the rest pose; try"
            f" up={other}, or export the file with a rest pose that stands"
        )


def _turn_limbs_for_hinges(robot: Robot, quat: Array) -> None:
    """Twist limbs with several hinges, in `quat`, (T, B, 4), until the next limb, which has one
    hinge, can bend into its direction. Nearly straight limbs are not twisted."""
    rest = robot.rest()
    for b, hinges in enumerate(robot.hinges):
        above = robot.parents[b]
        ends = [c for c, parent in enumerate(robot.parents) if parent == b]
        if len(hinges) != 1 or above <= 0 or len(robot.hinges[above]) < 3 or len(ends) != 1:
            continue
        along = rotate(conjugate(rest.quat[0, above]), rest.pos[0, b] - rest.pos[0, above])
        along = along / np.linalg.norm(along)
        lower = rotate(conjugate(rest.quat[0, b]), rest.pos[0, ends[0]] - rest.pos[0, b])
        lower = lower / np.linalg.norm(lower)
        local = multiply(conjugate(quat[:, above]), quat[:, b])
        direction = rotate(local, np.tile(lower, (len(local), 1)))
        axis = robot.axis(b)
        sense = np.sign(robot.limits[hinges[0]].sum()) or 1.0
        bend = np.cross(axis * sense, along)  # motion of the limb below as the hinge bends
        side = np.cross(along, bend)
        turn = np.arctan2(direction @ side, direction @ bend)
        angle = np.arccos(np.clip(direction @ along, -1, 1))
        turn = turn * np.clip((angle - STRAIGHT) / (BENT - STRAIGHT), 0, 1)
        quat[:, above] = multiply(quat[:, above], about(along, turn))
