"""Camera sensors of environments: where they are, and the matrices of their pictures.

A camera looks along its x axis, with y to the left and z up. It stays in its environment or follows
a body. The matrices are those of OpenGL for row vectors: for a point p in the world,

    x, y, z, w = [*p, 1] @ view @ projection

is in the picture where |x / w| and |y / w| are below 1, with y up. In the camera's own axes, after
`view`, x is to the right, y up and -z forward, so what is seen has a negative z.
"""

import dataclasses
import math

import mujoco
import numpy as np

from isaacgym.enums import CameraFollowMode
from isaacgym.geometry import Quat, Transform, Vec3
from isaacgym.property_structs import CameraProperties
from phalanx.errors import PhalanxError


@dataclasses.dataclass
class Camera:
    """A camera of one environment. `pose` is in the frame of the environment or, if `body` is the
    handle of one, relative to that body as `mode` says."""

    properties: CameraProperties
    pose: Transform = dataclasses.field(default_factory=Transform)
    body: int | None = None
    mode: CameraFollowMode = CameraFollowMode.FOLLOW_TRANSFORM

    def pose_in_env(self, body: Transform | None) -> Transform:
        """Its pose in the environment. body: the pose of its body there."""
        if body is None:
            return Transform() * self.pose
        if self.mode == CameraFollowMode.FOLLOW_POSITION:
            return Transform(body.p + self.pose.p, self.pose.r)
        return body * self.pose


def checked_properties(properties: CameraProperties) -> CameraProperties:
    """`properties`, if a picture can have them. Raises PhalanxError otherwise."""
    p = properties
    if p.width < 1 or p.height < 1 or not 0 < p.horizontal_fov < 180:
        raise PhalanxError(
            f"gym.create_camera_sensor was given {p.width} times {p.height} pixels and a horizontal"
            f" field of view of {p.horizontal_fov:g} degrees; there must be at least one pixel, and"
            " 0 to 180 degrees"
        )
    if not 0 < p.near_plane < p.far_plane:
        raise PhalanxError(
            f"gym.create_camera_sensor was given a near plane at {p.near_plane:g} m and a far one"
            f" at {p.far_plane:g} m; they must be positive, and the near one nearer"
        )
    return p


def looking_at(position: Vec3, target: Vec3, up: Vec3) -> Transform:
    """The pose of a camera at `position` that looks at `target`, upright; all in one frame."""
    x = np.array([*(target - position)])
    if not np.linalg.norm(x) > 0:
        raise PhalanxError("gym.set_camera_location was given the same position and target")
    x /= np.linalg.norm(x)
    y = np.cross([*up], x)
    if np.linalg.norm(y) < 1e-6:  # straight up or down
        y = np.array([0.0, 1.0, 0.0]) if up.z else np.array([0.0, 0.0, 1.0])
    y /= np.linalg.norm(y)
    return Transform(position, _quaternion(np.stack([x, y, np.cross(x, y)], 1)))


def view_matrix(pose: Transform) -> np.ndarray:
    """(4, 4) float32, for row vectors, of a camera with a pose in the world."""
    forward, left, up = (np.array([*pose.r.rotate(Vec3(*axis))]) for axis in np.eye(3).tolist())
    view = np.eye(4)
    view[:3, :3] = np.stack([-left, up, -forward], 1)
    view[3, :3] = -np.array([*pose.p]) @ view[:3, :3]
    return view.astype(np.float32)


def projection_matrix(properties: CameraProperties) -> np.ndarray:
    """(4, 4) float32, for row vectors. The third coordinate is near plane over depth, so it falls
    from 1 to 0 and the far plane is at infinity."""
    p = properties
    wide = math.tan(math.radians(p.horizontal_fov) / 2)
    matrix = np.zeros((4, 4), np.float32)
    matrix[0, 0] = 1 / wide
    matrix[1, 1] = p.width / p.height / wide
    matrix[2, 3] = -1.0
    matrix[3, 2] = p.near_plane
    return matrix


def _quaternion(turn: np.ndarray) -> Quat:
    """The rotation with this matrix (3, 3)."""
    quat = np.zeros(4)
    mujoco.mju_mat2Quat(quat, turn.flatten())
    return Quat(*quat[[1, 2, 3, 0]])
