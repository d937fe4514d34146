"""Gym's calls on camera sensors. Handles count in the environment; poses and matrices are current.

A camera sees its own environment and the ground. Pictures are drawn by `pictures.py` when they are
first asked for; cameras that nobody reads cost nothing.
"""

import copy
import struct
import zlib
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from isaacgym.cameras import (
    Camera,
    checked_properties,
    looking_at,
    projection_matrix,
    view_matrix,
)
from isaacgym.descriptor import Tensor
from isaacgym.enums import CameraFollowMode, ImageType, UpAxis
from isaacgym.geometry import Transform, Vec3
from isaacgym.gym_states import StateCalls
from isaacgym.handles import Sim, checked, checked_index, note_look
from isaacgym.property_structs import CameraProperties
from isaacgym.viewer import Viewer
from isaacgym.world import Env
from phalanx.errors import PhalanxError

if TYPE_CHECKING:
    from isaacgym.pictures import Pictures


class CameraCalls(StateCalls):
    """Cameras can be created, moved and attached at any time."""

    def _pictures(self, sim: Sim, call: str) -> "Pictures":
        from isaacgym.pictures import Pictures  # it takes seconds to import MuJoCo Warp

        if checked(sim, Sim, call).pictures is None:
            sim.pictures = Pictures(sim)
        pictures: Pictures = sim.pictures
        return pictures

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
        if sim.pictures is not None:
            sim.pictures.forget(env, int(camera))

    def set_camera_location(self, camera: int, env: Env, position: Vec3, target: Vec3) -> None:
        """Place a camera at `position` to look at `target`, both in the environment's frame [m]. It
        no longer follows a body."""
        held = _camera(env, camera, "set_camera_location")
        upright = env.sim.params.up_axis == UpAxis.UP_AXIS_Z
        up = Vec3(0, 0, 1) if upright else Vec3(0, 1, 0)
        held.pose, held.body = looking_at(Vec3(*position), Vec3(*target), up), None
        note_look(env)

    def set_camera_transform(self, camera: int, env: Env, transform: Transform) -> None:
        """Set the pose of a camera relative to the body it follows, else in the environment."""
        call = "set_camera_transform"
        _camera(env, camera, call).pose = Transform() * checked(transform, Transform, call)
        note_look(env)

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
        note_look(env)

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
        """Draw all pictures that were asked for before, with the current poses."""
        if checked(sim, Sim, "render_all_camera_sensors").pictures is not None:
            sim.pictures.render()

    def get_camera_image(self, sim: Sim, env: Env, camera: int, type: ImageType) -> np.ndarray:
        """The last picture: IMAGE_COLOR (H, 4 W) uint8, red, green, blue and opacity of each pixel;
        IMAGE_DEPTH (H, W) float32 [m], negative, -inf where nothing is; IMAGE_SEGMENTATION (H, W)
        uint32, the numbers of bodies; IMAGE_OPTICAL_FLOW (H, 2 W) int16, how far each pixel's point
        moved since the last picture, to the right in 2**15ths of the width and down in those of the
        height."""
        image = self._image(sim, env, camera, type, "get_camera_image")
        return image.reshape(len(image), -1).copy()

    def get_camera_image_gpu_tensor(
        self, sim: Sim, env: Env, camera: int, type: ImageType
    ) -> Tensor:
        """The picture as a tensor on the simulation's device, which `render_all_camera_sensors`
        fills: (H, W, 4) uint8, (H, W) float32, (H, W) int32 or (H, W, 2) int16. The camera must
        have `enable_tensors`."""
        call = "get_camera_image_gpu_tensor"
        if not _camera(env, camera, call).properties.enable_tensors:
            raise PhalanxError(
                f"gym.{call} was given a camera without CameraProperties.enable_tensors; set it"
            )
        return self._pictures(sim, call).descriptor(env, int(camera), int(type))

    def write_camera_image_to_file(
        self, sim: Sim, env: Env, camera: int, type: ImageType, filename: str
    ) -> None:
        """Write the last picture to a PNG file: colours as they are, depths from near (bright) to
        far, segmentation ids and lengths of optical flow in shades of grey."""
        image = self._image(sim, env, camera, type, "write_camera_image_to_file")
        Path(filename).write_bytes(_png(_visible(image)))

    def write_viewer_image_to_file(self, viewer: Viewer | None, filename: str) -> None:
        """Write what the viewer's camera sees to a PNG file, as a camera sensor draws it: the
        environment nearest to the target, and the ground. Without a viewer there is no file."""
        if viewer is None or viewer.sim.physics is None:
            return
        env, position, target = viewer.view()
        if env.index not in viewer.cameras:
            properties = CameraProperties()
            properties.width, properties.height = viewer.size
            viewer.cameras[env.index] = self.create_camera_sensor(env, properties)
        camera = viewer.cameras[env.index]
        self.set_camera_location(camera, env, position, target)
        self.render_all_camera_sensors(viewer.sim)
        self.write_camera_image_to_file(viewer.sim, env, camera, ImageType.IMAGE_COLOR, filename)

    def start_access_image_tensors(self, sim: Sim) -> None:
        """Nothing to do: pictures change only in `render_all_camera_sensors`."""
        checked(sim, Sim, "start_access_image_tensors")

    def end_access_image_tensors(self, sim: Sim) -> None:
        """Nothing to do."""
        checked(sim, Sim, "end_access_image_tensors")

    def _image(self, sim: Sim, env: Env, camera: int, kind: int, call: str) -> np.ndarray:
        _camera(env, camera, call)
        return self._pictures(sim, call).image(env, int(camera), ImageType(int(kind)), call)


def _visible(image: np.ndarray) -> np.ndarray:
    """A picture of any type as colours (H, W, 4) uint8."""
    if image.dtype == np.uint8:
        return image
    if image.ndim == 3:
        image = np.linalg.norm(image.astype(float), axis=2)
    seen = np.isfinite(image)
    values = np.where(seen, image.astype(float), np.nan)
    low, high = (np.nanmin(values), np.nanmax(values)) if seen.any() else (0.0, 1.0)
    grey = np.nan_to_num(255 * (values - low) / max(high - low, 1e-9)).astype(np.uint8)
    return np.dstack([grey, grey, grey, np.full_like(grey, 255)])


def _png(pixels: np.ndarray) -> bytes:
    """Colours (H, W, 4) uint8 as the bytes of a PNG file."""
    height, width = pixels.shape[:2]
    lines = np.pad(pixels.reshape(height, -1), ((0, 0), (1, 0)))  # each starts with its filter, 0
    chunks = [
        (b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 6, 0, 0, 0)),
        (b"IDAT", zlib.compress(lines.tobytes())),
        (b"IEND", b""),
    ]
    parts = [b"\x89PNG\r\n\x1a\n"]
    for name, data in chunks:
        check = zlib.crc32(name + data)
        parts += [struct.pack(">I", len(data)), name, data, struct.pack(">I", check)]
    return b"".join(parts)


def _camera(env: Env, handle: int, call: str) -> Camera:
    """The camera with this handle. Raises PhalanxError naming the call."""
    cameras = checked(env, Env, call).cameras
    held = cameras[checked_index(handle, len(cameras), "camera", call)]
    if held is None:
        raise PhalanxError(f"gym.{call} was given camera {handle}, which was destroyed")
    return held
