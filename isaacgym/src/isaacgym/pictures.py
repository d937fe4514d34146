"""Pictures of cameras, drawn by MuJoCo's renderer in a process of its own.

    pictures = Pictures(sim)
    pictures.render()                                   # all that have been asked for
    image = pictures.image(env, 0, ImageType.IMAGE_DEPTH)

A camera sees its own environment and the ground, not other environments. A picture is drawn when it
is first asked for, and again in every `render` from then on; so cameras that nobody reads cost
nothing.
"""

import contextlib
import os
import subprocess
import sys
import tempfile
import weakref
from pathlib import Path
from typing import Any

import mujoco
import numpy as np
import torch

from isaacgym.actor_properties import of_slot
from isaacgym.camera_renderer import Arrays, receive, send
from isaacgym.cameras import Camera
from isaacgym.enums import ImageType
from isaacgym.geometry import Quat, Transform, Vec3
from isaacgym.handles import Sim
from isaacgym.physics import Physics
from isaacgym.scene import add_textures
from isaacgym.world import Env
from phalanx.errors import PhalanxError

BACKENDS = ("egl", "osmesa")  # values of MUJOCO_GL to try if the user did not set it
KINDS = {
    ImageType.IMAGE_COLOR: "color",
    ImageType.IMAGE_DEPTH: "depth",
    ImageType.IMAGE_SEGMENTATION: "segmentation",
}
Key = tuple[int, int, int]
"""Environment, camera, type of image."""


class Pictures:
    """The pictures of a simulation's cameras."""

    def __init__(self, sim: Sim) -> None:
        self._sim = sim
        self._images: dict[Key, np.ndarray] = {}
        self._tensors: dict[Key, torch.Tensor] = {}
        self._renderer: Renderer | None = None
        self._loaded: dict[int, int] = {}  # group -> number of textures of its model

    def image(self, env: Env, camera: int, kind: int, call: str) -> np.ndarray:
        """The last picture of a camera: colours (H, W, 4) uint8, depths (H, W) float32, negative
        and -inf where nothing is, or segmentation ids (H, W) uint32. Raises PhalanxError without
        OpenGL."""
        key = (env.index, camera, int(kind))
        if kind not in KINDS:
            raise NotImplementedError(f"gym.{call}: optical flow is not drawn")
        if key not in self._images:
            self._draw([key])
        return self._images[key]

    def tensor(self, env: Env, camera: int, kind: int, call: str) -> torch.Tensor:
        """The same as a tensor on the simulation's device, which `render` fills again; segmentation
        ids are int32."""
        key = (env.index, camera, int(kind))
        if key not in self._tensors:
            image = _for_torch(self.image(env, camera, kind, call))
            self._tensors[key] = image.to(self._sim.device)
        return self._tensors[key]

    def render(self) -> None:
        """Draw all pictures that have been asked for."""
        self._draw(list(self._images))

    def forget(self, env: Env, camera: int) -> None:
        """Stop drawing a camera."""
        for held in (self._images, self._tensors):
            for key in [k for k in held if k[:2] == (env.index, camera)]:
                del held[key]

    def close(self) -> None:
        """End the renderer."""
        if self._renderer is not None:
            self._renderer.close()

    def _draw(self, keys: list[Key]) -> None:
        if self._sim.physics is None:
            raise PhalanxError(
                "gym.get_camera_image was called before gym.prepare_sim; prepare the simulation"
                " first"
            )
        by_group: dict[int, list[Key]] = {}
        for key in sorted(keys):
            by_group.setdefault(self._sim.envs[key[0]].group, []).append(key)
        for number, own in by_group.items():
            for key, image in zip(own, self._of_group(number, own), strict=True):
                self._images[key] = image
                if key in self._tensors:
                    self._tensors[key].copy_(_for_torch(image))

    def _of_group(self, number: int, keys: list[Key]) -> list[np.ndarray]:
        """The pictures of cameras in environments of one structure."""
        assert self._sim.physics is not None
        physics = self._sim.physics.groups[number]
        envs = [self._sim.envs[e] for e in dict.fromkeys(key[0] for key in keys)]
        places = {env.index: k for k, env in enumerate(envs)}
        rows = [env.row for env in envs]
        data, own = physics.drawn()
        arrays: Arrays = {f"data.{name}": values[rows] for name, values in data.items()}
        arrays |= {f"model.{name}": values[rows] for name, values in own.items()}
        arrays |= _appearance(physics, envs)
        offsets = physics.state.offset[:, 0].cpu().numpy()
        bodies: np.ndarray | None = None
        cameras, poses = [], []
        for e, handle, kind in keys:
            env = self._sim.envs[e]
            camera = env.cameras[handle]
            assert camera is not None
            body = None
            if camera.body is not None:
                bodies = physics.rows("rigid_body_state") if bodies is None else bodies
                row = bodies[env.row * env.num_bodies + camera.body]
                body = Transform(Vec3(*row[:3]), Quat(*row[3:7]))
            cameras.append(_lens(camera, places[e], kind))
            poses.append(_place(camera.pose_in_env(body), offsets[env.row]))
        arrays["pos"] = np.array([pos for pos, _ in poses])
        arrays["axes"] = np.array([axes for _, axes in poses])
        renderer = self._ready(number, physics, cameras)
        header = {"do": "draw", "group": number, "cameras": cameras}
        images = renderer.ask(header, arrays)
        return [images[str(k)] for k in range(len(keys))]

    def _ready(self, number: int, physics: Physics, cameras: list[dict[str, Any]]) -> "Renderer":
        """The renderer, with the model of a group."""
        if self._renderer is None:
            self._renderer = Renderer()
        count = len(self._sim.textures)
        if self._loaded.get(number) != count:
            self._loaded[number] = count
            model = physics.model
            if count:
                model = add_textures(physics.scene.spec, model, self._sim.textures)
            size = {k: max(camera[k] for camera in cameras) for k in ("width", "height")}
            self._renderer.load(number, model, size)
        return self._renderer


class Renderer:
    """The renderer's process. Raises PhalanxError if it cannot draw."""

    def __init__(self) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="isaacgym-cameras-")
        self._processes: list[subprocess.Popen[bytes]] = []  # at most one
        self._log = Path(self._folder.name, "log.txt")
        chosen = os.environ.get("MUJOCO_GL", "").lower().strip()
        off = ("", "disable", "disabled", "off", "false", "0")
        self._backends = list(BACKENDS if chosen in off else (chosen,))
        self._end_at_last = weakref.finalize(self, _end, self._processes)

    def load(self, group: int, model: mujoco.MjModel, size: dict[str, int]) -> None:
        """Give it a model to draw."""
        file = Path(self._folder.name, f"{group}.mjb")
        held = np.empty(mujoco.mj_sizeModel(model), np.uint8)
        mujoco.mj_saveModel(model, None, held)
        held.tofile(file)
        header = {"do": "load", "group": group, "path": str(file), **size}
        if self._processes:
            self.ask(header, {})
            return
        reasons = []
        for backend in self._backends:
            self._start(backend)
            try:
                self.ask(header, {})
                return
            except PhalanxError as error:
                reasons.append(f"{backend}: {error}")
                _end(self._processes)
        raise PhalanxError(
            "there is no OpenGL to draw camera images with; install it, on Debian or Ubuntu with"
            " `apt-get install libegl1 libgl1` or `apt-get install libosmesa6`"
            f" ({'; '.join(reasons)})"
        )

    def ask(self, header: dict[str, Any], arrays: Arrays) -> Arrays:
        """Its answer to a message."""
        process = self._processes[0]
        assert process.stdin is not None
        assert process.stdout is not None
        answer = None
        with contextlib.suppress(BrokenPipeError):
            send(process.stdin, header, arrays)
            answer = receive(process.stdout)
        if answer is None:
            process.wait()
            lines = self._log.read_text(errors="replace").strip().splitlines()
            raise PhalanxError(f"the renderer ended: {lines[-1] if lines else 'without a word'}")
        return answer[1]

    def _start(self, backend: str) -> None:
        environment = {**os.environ, "MUJOCO_GL": backend}
        with self._log.open("wb") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "isaacgym.camera_renderer"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                env=environment,
                cwd=self._folder.name,  # for MUJOCO_LOG.TXT
                start_new_session=True,  # receives no Ctrl-C
            )
        self._processes.append(process)

    def close(self) -> None:
        """End the process."""
        self._end_at_last()
        self._folder.cleanup()


def _end(processes: list[subprocess.Popen[bytes]]) -> None:
    while processes:
        process = processes.pop()
        process.kill()
        process.wait()
        for pipe in (process.stdin, process.stdout):
            if pipe is not None:
                with contextlib.suppress(BrokenPipeError):
                    pipe.close()


def _lens(camera: Camera, row: int, kind: int) -> dict[str, Any]:
    p = camera.properties
    return {
        "row": row, "width": p.width, "height": p.height, "fov": p.horizontal_fov,
        "near": p.near_plane, "far": p.far_plane, "collision": p.use_collision_geometry,
        "type": KINDS[ImageType(kind)],
    }  # fmt: skip


def _place(pose: Transform, offset: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Position (3,) [m] and axes forward, left, up (3, 3) in the frame of the physics."""
    axes = [[*pose.r.rotate(Vec3(*axis))] for axis in np.eye(3).tolist()]
    return np.array([*pose.p]) + offset, np.array(axes)


def _appearance(physics: Physics, envs: list[Env]) -> Arrays:
    """Colours, materials and segmentation ids of the geoms of environments."""
    model, layout = physics.model, physics.layout
    world = physics.world
    rgba = np.repeat(model.geom_rgba[None], len(envs), 0)
    material = np.repeat(model.geom_matid[None], len(envs), 0)
    ids = np.zeros((len(envs), model.ngeom), np.uint32)
    for geom, piece in enumerate(world.grounds):
        ids[:, layout.ground_geoms.start + geom] = piece.params.segmentation_id
    rows = [env.row for env in envs]
    for a in range(len(layout.actors)):
        colors = of_slot(world, a, lambda asset: asset.model.geom_rgba)
        rgba[:, layout.actor_geoms[a]] = colors[rows if len(colors) > 1 else [0]]
    first_texture = model.nmat  # materials of textures come after the model's own
    for k, env in enumerate(envs):
        for a, actor in enumerate(env.actors):
            geoms = layout.actor_geoms[a]
            body = actor.asset.model.geom_bodyid - 1
            numbers = [actor.segmentation.get(b, actor.segmentation_id) for b in body.tolist()]
            ids[k, geoms] = np.array(numbers, np.int64).astype(np.uint32)
            for b, color in actor.colors.items():
                painted = geoms[body == b]
                rgba[k, painted, :3], rgba[k, painted, 3] = [*color], 1.0
                material[k, painted] = -1
            for b, texture in actor.textures.items():
                painted = geoms[body == b]
                rgba[k, painted] = 1.0
                material[k, painted] = first_texture + texture
    return {"model.geom_rgba": rgba, "model.geom_matid": material, "ids": ids}


def _for_torch(image: np.ndarray) -> torch.Tensor:
    """The image as a tensor; PyTorch has no unsigned 32-bit numbers that all its functions take."""
    return torch.from_numpy(image.view(np.int32) if image.dtype == np.uint32 else image)
