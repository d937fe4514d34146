"""Reads AMASS: motion capture as rotations of SMPL's joints, in .npz files.

    poses (T, 66 or more)   rotation vectors of 22 joints and the hands     trans (T, 3) [m]
    mocap_framerate         z is up

The figure gets average proportions, since `betas`, the person's shape, needs SMPL's own model; its
size follows from the robot's legs anyway. Joints have CMU's names, so that `names=` is the same for
AMASS and BVH. `retarget.py` fits the figure to the robot.
"""

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from phalanx.errors import PhalanxError
from phalanx.motion.clip import Clip, check_finite, check_fps, check_frames
from phalanx.motion.retarget import Figure, fitted
from phalanx.motion.robot import Robot
from phalanx.motion.rotation import Array, about, multiply, rotate

# Name, parent, and place in the parent at rest [m]: y up, z ahead, x to the left, arms spread.
JOINTS = (
    ("Hips", -1, (0, 0, 0)),
    ("LeftUpLeg", 0, (0.06, -0.09, 0)), ("RightUpLeg", 0, (-0.06, -0.09, 0)),
    ("Spine", 0, (0, 0.12, 0)),
    ("LeftLeg", 1, (0.04, -0.38, 0)), ("RightLeg", 2, (-0.04, -0.38, 0)),
    ("Spine1", 3, (0, 0.14, 0)),
    ("LeftFoot", 4, (-0.02, -0.42, -0.03)), ("RightFoot", 5, (0.02, -0.42, -0.03)),
    ("Spine2", 6, (0, 0.06, 0)),
    ("LeftToeBase", 7, (0.03, -0.06, 0.12)), ("RightToeBase", 8, (-0.03, -0.06, 0.12)),
    ("Neck", 9, (0, 0.21, -0.02)),
    ("LeftShoulder", 9, (0.08, 0.11, -0.02)), ("RightShoulder", 9, (-0.08, 0.11, -0.02)),
    ("Head", 12, (0, 0.09, 0.05)),
    ("LeftArm", 13, (0.11, 0.04, -0.01)), ("RightArm", 14, (-0.11, 0.04, -0.01)),
    ("LeftForeArm", 16, (0.26, 0, -0.02)), ("RightForeArm", 17, (-0.26, 0, -0.02)),
    ("LeftHand", 18, (0.25, 0, 0)), ("RightHand", 19, (-0.25, 0, 0)),
)  # fmt: skip


def amass(
    path: Path,
    arrays: dict[str, Array],
    robot: Robot,
    names: Mapping[str, str] | None = None,
    scale: float | None = None,
) -> Clip:
    """The clip of AMASS's arrays, fitted to a robot; see `fitted`. Raises PhalanxError if they are
    not AMASS's or do not fit."""
    poses, trans = arrays["poses"].astype(float), arrays.get("trans", np.empty(0)).astype(float)
    width = 3 * len(JOINTS)
    if poses.ndim != 2 or poses.shape[1] < width or trans.shape != (len(poses), 3):
        raise PhalanxError(
            f"{path}: poses has shape {poses.shape} and trans {trans.shape}; AMASS's are (T, 66 or"
            " more) and (T, 3)"
        )
    rate = next((arrays[k] for k in ("mocap_framerate", "mocap_frame_rate") if k in arrays), None)
    if rate is None or rate.size != 1:
        raise PhalanxError(f"{path} has no mocap_framerate; add it")
    fps = check_fps(float(rate.ravel()[0]), str(path))
    count = len(poses)
    check_frames(str(path), count, len(JOINTS))
    check_finite(str(path), "poses", poses, [str(k) for k in range(poses.shape[1])])
    check_finite(str(path), "trans", trans)
    to_y_up = about(np.array([1.0, 0, 0]), -np.pi / 2)
    turns = _quaternions(poses[:, :width].reshape(count, len(JOINTS), 3))
    rest, pos = np.zeros((len(JOINTS), 3)), np.zeros((count, len(JOINTS), 3))
    turned = np.zeros((count, len(JOINTS), 4))
    for i, (_, parent, offset) in enumerate(JOINTS):
        if parent < 0:
            turned[:, i] = multiply(to_y_up, turns[:, i])
            pos[:, i] = rotate(to_y_up, trans)
        else:
            rest[i] = rest[parent] + offset
            turned[:, i] = multiply(turned[:, parent], turns[:, i])
            pos[:, i] = pos[:, parent] + rotate(turned[:, parent], np.tile(offset, (count, 1)))
    figure = Figure([name for name, _, _ in JOINTS], rest, pos, turned, fps)
    return fitted(figure, robot, path, names, "y", scale)


def _quaternions(vectors: Array) -> Array:
    """Unit quaternions (..., 4), w x y z, of rotation vectors (..., 3)."""
    angle = np.linalg.norm(vectors, axis=-1, keepdims=True)
    axis = vectors / np.where(angle > 0, angle, 1)
    return np.concatenate([np.cos(angle / 2), axis * np.sin(angle / 2)], -1)
