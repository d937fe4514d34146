"""Reads BVH, the text format of motion capture: a skeleton, then channels for each frame.

    clip = read_bvh("07_01.bvh", robot)                  # names of joints as in CMU's files
    clip = read_bvh("walk.bvh", robot, names={"pelvis": "Root", ...})

`retarget.py` fits the figure to the robot.
"""

import os
from collections.abc import Mapping
from pathlib import Path

from phalanx.motion.bvh_file import parse_bvh
from phalanx.motion.clip import Clip
from phalanx.motion.retarget import Figure, fitted
from phalanx.motion.robot import Robot


def read_bvh(
    path: str | os.PathLike[str],
    robot: Robot,
    names: Mapping[str, str] | None = None,
    up: str | None = None,
    scale: float | None = None,
) -> Clip:
    """The clip of a BVH file, fitted to a robot; see `fitted`.

    Raises PhalanxError, naming file and line, for a file that is damaged or does not fit.
    """
    skeleton = parse_bvh(Path(path))
    pos, turned = skeleton.pose()
    figure = Figure(skeleton.names, skeleton.rest(), pos, turned, skeleton.fps)
    return fitted(figure, robot, Path(path), names, up, scale)
