"""Gym's calls on camera sensors. Handles count in the environment; poses and matrices are current.

There is no renderer yet, so pictures are refused. Everything else works, since many programs create
cameras that nobody reads.
"""

import copy

import numpy as np

from isaacgym.cameras import (
    Camera,
    checked_properties,
    looking_at,
    projection_matrix,
    view_matrix,
)
from isaacgym.enums import CameraFollowMode, UpAxis
from isaacgym.geometry import Transform, Vec3
from isaacgym.gym_states import StateCalls
from isaacgym.handles import Sim, checked, checked_index
from isaacgym.property_structs import CameraProperties
from isaacgym.world import Env
from phalanx.errors import PhalanxError


class CameraCalls(StateCalls):
    """Cameras can be created, moved and attached at any time."""

    def create_camera_sensor(self, env: Env, properties: CameraProperties | None = None) -> int:
        """A camera at the origin of the environment; returns its handle there."""
        call = "create_camera_sensor"
        env = checked(env, Env, call)
        properties = CameraProperties() if properties is None else properties
        held = checked_properties(checked(properties, CameraProperties, call))
        env.cameras.append(Camera(copy.copy(held)))
        return len(env.cameras) - 1

    def destroy_camera_sensor(self, sim: Sim, env: Env, camera: int) -> None:
        """Remove a camera. Handles of others stay."""
        checked(sim, Sim, "destroy_camera_sensor")
        _camera(env, camera, "destroy_camera_sensor")
        env.cameras[int(camera)] = None

    def set_camera_location(self, camera: int, env: Env, position: Vec3, target: Vec3) -> None:
        """Place a camera at `position` to look at `target`, both in the environment's frame [m]. It
        no longer follows a body."""
        held = _camera(env, camera, "set_camera_location")
        upright = env.sim.params.up_axis == UpAxis.UP_AXIS_Z
        up = Vec3(0, 0, 1) if upright else Vec3(0, 1, 0)
        held.pose, held.body = looking_at(Vec3(*position), Vec3(*target), up), None

    def set_camera_transform(self, camera: int, env: Env, transform: Transform) -> None:
        """Set the pose of a camera relative to the body it follows, else in the environment."""
        call = "set_camera_transform"
        _camera(env, camera, call).pose = Transform() * checked(transform, Transform, call)

    def attach_camera_to_body(
        self, camera: int, env: Env, body: int, transform: Transform, mode: CameraFollowMode
    ) -> None:
        """Have a camera follow the body with this handle, at a pose relative to it. FOLLOW_POSITION
        keeps offset and direction of view along the axes of the environment."""
        call = "attach_camera_to_body"
        held = _camera(env, camera, call)
        held.body = checked_index(body, env.num_bodies, "body", call)
        held.pose = Transform() * checked(transform, Transform, call)
        held.mode = CameraFollowMode(int(mode))

    def get_camera_transform(self, sim: Sim, env: Env, camera: int) -> Transform:
        """The pose of a camera in the environment. It looks along x."""
        checked(sim, Sim, "get_camera_transform")
        held = _camera(env, camera, "get_camera_transform")
        body = None if held.body is None else self.get_rigid_transform(env, held.body)
        return held.pose_in_env(body)

    def get_camera_view_matrix(self, sim: Sim, env: Env, camera: int) -> np.ndarray:
        """(4, 4), from the world to the camera's axes, for row vectors; see `cameras.py`."""
        pose = self.get_camera_transform(sim, env, camera)
        return view_matrix(Transform(pose.p + Vec3(*env.origin), pose.r))

    def get_camera_proj_matrix(self, sim: Sim, env: Env, camera: int) -> np.ndarray:
        """(4, 4), from the camera's axes to the picture, for row vectors; see `cameras.py`."""
        checked(sim, Sim, "get_camera_proj_matrix")
        return projection_matrix(_camera(env, camera, "get_camera_proj_matrix").properties)

    def render_all_camera_sensors(self, sim: Sim) -> None:
        """Nothing to do without a renderer."""
        checked(sim, Sim, "render_all_camera_sensors")

    def start_access_image_tensors(self, sim: Sim) -> None:
        """Nothing to do."""
        checked(sim, Sim, "start_access_image_tensors")

    def end_access_image_tensors(self, sim: Sim) -> None:
        """Nothing to do."""
        checked(sim, Sim, "end_access_image_tensors")


def _camera(env: Env, handle: int, call: str) -> Camera:
    """The camera with this handle. Raises PhalanxError naming the call."""
    cameras = checked(env, Env, call).cameras
    held = cameras[checked_index(handle, len(cameras), "camera", call)]
    if held is None:
        raise PhalanxError(f"gym.{call} was given camera {handle}, which was destroyed")
    return held
