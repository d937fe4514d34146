"""The pictures of cameras, drawn by MuJoCo Warp's renderer on the device of the simulation.

    pictures = Pictures(sim)
    pictures.render()                                   # all that have been asked for
    depth = pictures.tensor(env, 0, ImageType.IMAGE_DEPTH)

A camera sees its own environment and the ground, not other environments. A picture is drawn in
every `render` once it has been asked for; so cameras that nobody reads cost nothing.
"""

import operator
from collections.abc import Iterable

import mujoco
import numpy as np
import torch
from torch import Tensor

from isaacgym import descriptor
from isaacgym.camera_batch import CameraBatch, Kind, View
from isaacgym.cameras import Camera
from isaacgym.enums import ImageType
from isaacgym.handles import Sim, env_physics
from isaacgym.optical_flow import Frames
from isaacgym.physics import Physics
from isaacgym.scene import drawn_model
from isaacgym.world import Env
from phalanx.sim.engines.warp_pictures import BatchPictures, Lens

TYPES = {
    ImageType.IMAGE_COLOR: ("color", torch.uint8),
    ImageType.IMAGE_DEPTH: ("depth", torch.float32),
    ImageType.IMAGE_SEGMENTATION: ("segmentation", torch.int32),
    ImageType.IMAGE_OPTICAL_FLOW: ("flow", torch.int16),
}
VALUES = {"color": 4, "flow": 2}
"""Of each pixel, where there is more than one."""
Key = tuple[int, int, str]
"""Environment, camera, type of image."""


class Pictures:
    """The pictures of a simulation's cameras."""

    def __init__(self, sim: Sim) -> None:
        self._sim = sim
        self._tensors: dict[Key, Tensor] = {}
        self._descriptors: dict[Key, descriptor.Tensor] = {}
        """Of `tensor`s, of which programs may keep only the address."""
        self._drawn: set[Key] = set()
        self._plan: dict[Kind, tuple[CameraBatch, list[int]]] | None = None
        """Batches, with the numbers of their environments, that draw all pictures."""
        self._models: list[mujoco.MjModel] = []
        """What they draw: the models of the groups, for which a new engine has new ones."""
        self._renderers: dict[tuple[Kind, int], tuple[mujoco.MjModel, int, BatchPictures]] = {}
        """By kind and number of environments, with the physics' model and the number of textures
        that each was made for."""
        self._frames: dict[tuple[int, int], Frames] = {}
        """Of the last drawing, by environment and camera; only for optical flow."""

    def image(self, env: Env, camera: int, kind: int, call: str) -> np.ndarray:
        """The last picture of a camera, on the host: colours (H, W, 4) uint8, depths (H, W)
        float32, negative and -inf where nothing is, segmentation ids (H, W) uint32, or optical flow
        (H, W, 2) int16, zero in the first picture."""
        env_physics(env, call)
        tensor = self.tensor(env, camera, kind)
        key = (env.index, camera, TYPES[ImageType(kind)][0])
        if key not in self._drawn:
            for batch in self._batches([key]).items():
                self._draw(batch[0], *batch[1])
        image: np.ndarray = tensor.cpu().numpy()
        return image.view(np.uint32) if image.dtype == np.int32 else image

    def tensor(self, env: Env, camera: int, kind: int) -> Tensor:
        """The tensor that `render` fills with the picture, on the simulation's device; segmentation
        ids are int32. Programs take it while they create environments."""
        name, dtype = TYPES[ImageType(kind)]
        key = (env.index, camera, name)
        if key not in self._tensors:
            lens = self._camera(key).properties
            shape = (lens.height, lens.width, *([VALUES[name]] if name in VALUES else []))
            self._tensors[key] = torch.zeros(shape, dtype=dtype, device=self._sim.device)
            self._plan = None
        return self._tensors[key]

    def descriptor(self, env: Env, camera: int, kind: int) -> descriptor.Tensor:
        """The descriptor of `tensor`, the same in every call."""
        tensor = self.tensor(env, camera, kind)
        key = (env.index, camera, TYPES[ImageType(kind)][0])
        if key not in self._descriptors:
            self._descriptors[key] = descriptor.Tensor(tensor, pairs=key[2] == "flow")
        return self._descriptors[key]

    def render(self) -> None:
        """Draw all pictures that have been asked for. Raises PhalanxError where the simulation is
        not prepared, or an environment has no actors."""
        physics = self._sim.physics
        models = [] if physics is None else [group.model for group in physics.groups]
        if self._plan is None or not all(map(operator.is_, models, self._models)):
            for number in {key[0] for key in self._tensors}:
                env_physics(self._sim.envs[number], "render_all_camera_sensors")
            self._plan, self._models = self._batches(self._tensors), models
        for kind, (batch, envs) in self._plan.items():
            self._draw(kind, batch, envs)
        used = {(kind, len(envs)) for kind, (_, envs) in self._plan.items()}
        self._renderers = {k: v for k, v in self._renderers.items() if k in used}

    def forget(self, env: Env, camera: int) -> None:
        """Stop drawing a camera."""
        for key in [k for k in self._tensors if k[:2] == (env.index, camera)]:
            del self._tensors[key]
            self._descriptors.pop(key, None)
            self._drawn.discard(key)
        self._frames.pop((env.index, camera), None)
        self._plan = None

    def note_change(self) -> None:
        """Look at poses of cameras, textures and colours again."""
        for batch, _ in (self._plan or {}).values():
            batch.note_change()
        if any(made_for[1] != len(self._sim.textures) for made_for in self._renderers.values()):
            self._plan = None

    def _camera(self, key: Key) -> Camera:
        camera = self._sim.envs[key[0]].cameras[key[1]]
        assert camera is not None
        return camera

    def _batches(self, keys: Iterable[Key]) -> dict[Kind, tuple[CameraBatch, list[int]]]:
        """Environments that can be drawn together, by what they have in common."""
        wanted: dict[tuple[int, bool], dict[int, set[str]]] = {}
        for key in keys:
            shapes = self._camera(key).properties.use_collision_geometry
            cameras = wanted.setdefault((key[0], shapes), {})
            cameras.setdefault(key[1], set()).add(key[2])
        together: dict[Kind, list[int]] = {}
        for (e, shapes), cameras in wanted.items():
            env = self._sim.envs[e]
            views = tuple(_view(k, env.cameras[k], cameras[k]) for k in sorted(cameras))
            together.setdefault(Kind(env.group, shapes, views), []).append(e)
        return {kind: (self._batch(kind, envs), envs) for kind, envs in together.items()}

    def _batch(self, kind: Kind, numbers: list[int]) -> CameraBatch:
        assert self._sim.physics is not None
        physics: Physics = self._sim.physics.groups[kind.group]
        key, made_for = (kind, len(numbers)), (physics.model, len(self._sim.textures))
        held = self._renderers.get(key)
        if held is None or held[0] is not made_for[0] or held[1] != made_for[1]:
            lenses = [view.lens for view in kind.views]
            model = drawn_model(physics.scene.spec, physics.model, self._sim.textures, len(lenses))
            renderer = BatchPictures(model, len(numbers), physics.device, lenses, kind.collision)
            held = self._renderers[key] = (*made_for, renderer)
        envs = [self._sim.envs[e] for e in numbers]
        return CameraBatch(physics, kind, envs, held[2], self._frames)

    def _draw(self, kind: Kind, batch: CameraBatch, envs: list[int]) -> None:
        for view, images in zip(kind.views, batch.draw(), strict=True):
            for name, drawn in images.items():
                keys = [(e, view.camera, name) for e in envs]
                torch._foreach_copy_([self._tensors[k] for k in keys], list(drawn.unbind(0)))
                self._drawn.update(keys)


def _view(handle: int, camera: Camera | None, names: set[str]) -> View:
    assert camera is not None
    p, flow = camera.properties, "flow" in names
    lens = Lens(
        p.width, p.height, p.horizontal_fov, p.far_plane,
        "color" in names, flow or "depth" in names, flow or "segmentation" in names,
    )  # fmt: skip
    return View(handle, lens, frozenset(names))
