"""Fits the motion of a figure, with other proportions and another rest pose, to a robot.

    clip = fitted(Figure(names, rest, pos, turned, fps), robot, path, {"pelvis": "Hips", ...})

- Axes: up is y or z in the file, whichever makes the figure stand; forward is found by comparing
  the joints' positions in the rest pose with those of the robot's bodies.
- Rotations: a limb with a single child joint is aligned by its direction, so that spread arms in
  the file's rest pose match hanging arms in the robot's. Other bodies are assumed to have the same
  rotation in both rest poses; hands and feet keep their rest rotation relative to their limb.
- A figure that does not stand at rest, such as one whose bones all lie along x: the frame in which
  it stands best takes the place of its rest pose.
- Knees and elbows, which have one hinge: the limb above is twisted until the hinge can bend the
  limb below into its direction.
- Size: distances are scaled by the length of the robot's legs over that of the file's legs, so the
  unit of the file does not matter; `scale` [m per unit] overrides this.
- Height: the robot's lowest point is at or below the ground in a tenth of all frames.
"""

import logging
import re
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np

from phalanx.errors import PhalanxError, did_you_mean
from phalanx.gate import listed
from phalanx.motion.clip import Clip, checked
from phalanx.motion.robot import Robot
from phalanx.motion.rotation import Array, about, conjugate, multiply, rotate, shortest_arc

log = logging.getLogger(__name__)

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
PREFIX = re.compile(r"^(.*:|mixamorig\d*_)")
UP = {"y": np.array([0.5, 0.5, 0.5, 0.5]), "z": np.array([1.0, 0.0, 0.0, 0.0])}
"""Rotations of the file's axes that make z up: for y up, x, y, z become y, z, x."""
STRAIGHT, BENT = np.radians(8.0), np.radians(25.0)
"""Bends below the first give a limb no influence on the twist of the limb above, bends above the
second give it full influence."""
ON_GROUND = 10.0  # percent of the frames
STANDING, STANDING_FRAME = 0.7, 0.9
"""A leg is at least this part of its length high, at rest or in a frame that replaces rest."""


class Figure(NamedTuple):
    """Joints by name, their positions at rest (B, 3), and in T frames their positions (T, B, 3)
    [units] and rotations from rest (T, B, 4), in the file's axes."""

    names: list[str]
    rest: Array
    pos: Array
    turned: Array
    fps: float


def fitted(
    figure: Figure,
    robot: Robot,
    path: Path,
    names: Mapping[str, str] | None = None,
    up: str | None = None,
    scale: float | None = None,
) -> Clip:
    """The clip of a figure's motion, fitted to a robot.

    names: the file's joint for each moving body of the robot; CMU's if None. up: the file's axis
    that points up, "y" or "z"; None finds it. scale: [m per unit of the file]; None derives it from
    the length of the legs. Raises PhalanxError for a figure that does not fit.
    """
    where = str(path)
    if up is not None and up not in UP:
        raise PhalanxError(f"up is {up!r}; it must be 'y' or 'z'")
    joint = _joints_of_bodies(where, figure, robot, CMU_NAMES if names is None else names)
    robot_rest = robot.rest()
    known = [b for b, i in enumerate(joint) if i is not None]
    hips = joint[0] or 0
    leg = _leg(robot, robot_rest.pos[0], known)
    figure, up = _standing(where, figure, [joint[b] or 0 for b in leg], up)
    rest, turned = figure.rest, figure.turned

    axes = UP[up]
    rest = rotate(axes, rest - rest[hips])
    there = np.array([rest[joint[b] or 0] for b in known])[:, :2]
    here = (robot_rest.pos[0, known] - robot_rest.pos[0, 0])[:, :2]
    cross = there[:, 0] @ here[:, 1] - there[:, 1] @ here[:, 0]
    axes = multiply(about(np.array([0.0, 0, 1]), np.arctan2(cross, np.sum(there * here))), axes)
    rest = rotate(axes, rotate(conjugate(UP[up]), rest))

    if scale is None:
        scale = _length(robot_rest.pos[0, leg]) / _length(rest[[joint[b] or 0 for b in leg]])
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
    root = rotate(axes, figure.pos[:, hips]) * scale
    root[:, :2] -= root[0, :2]
    lowest = robot.kinematics(root, quat[:, 0], joint_pos).lowest
    root[:, 2] -= np.percentile(lowest, ON_GROUND)
    return checked(
        Clip(
            name=path.stem,
            fps=figure.fps,
            loop=False,
            root_pos=root,
            root_quat=quat[:, 0],
            joints=tuple(robot.joints),
            joint_pos=joint_pos,
            source=path.name,
        ),
        where,
    )


def _standing(where: str, figure: Figure, leg: list[int], up: str | None) -> tuple[Figure, str]:
    """The figure with a rest pose in which its leg, joints from the foot up to the hip, points
    down, since rotations are relative to that pose; and the axis that points up."""
    length = _length(figure.rest[leg])
    if not length > 0 or len(leg) < 2:
        raise PhalanxError(f"{where}: the leg of the figure has no length; repair its OFFSETs")

    def height(points: Array, axis: str) -> Array:
        """Of the hip above the foot, as a part of the leg's length."""
        way = points[..., leg[-1], :] - points[..., leg[0], :]
        high: Array = rotate(UP[axis], way)[..., 2] / length
        return high

    axes = list(UP) if up is None else [up]
    best = max(axes, key=lambda axis: float(height(figure.rest, axis)))
    if height(figure.rest, best) >= STANDING:
        return figure, best
    best = max(axes, key=lambda axis: float(height(figure.pos, axis).max()))
    frame = int(height(figure.pos, best).argmax())
    if height(figure.pos, best)[frame] < STANDING_FRAME:
        raise PhalanxError(
            f"{where}: with {' or '.join(axes)} up the figure's legs point down neither in the rest"
            " pose nor in any frame; export the file with a rest pose that stands"
        )
    log.warning(
        "%s: the figure does not stand in its rest pose; frame %d, in which it stands best, takes"
        " its place",
        where,
        frame,
    )
    turned = multiply(figure.turned, conjugate(figure.turned[frame]))
    return figure._replace(rest=figure.pos[frame], turned=turned), best


def _joints_of_bodies(
    where: str, figure: Figure, robot: Robot, names: Mapping[str, str]
) -> list[int | None]:
    """The file's joint for each body of the robot; None for a body without hinges or joint."""
    plain = [PREFIX.sub("", name) for name in figure.names]
    names = {body: PREFIX.sub("", name) for body, name in names.items()}
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
