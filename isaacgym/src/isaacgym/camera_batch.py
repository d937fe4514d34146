"""Cameras with the same lenses in environments of one structure, which are drawn together."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from isaacgym.actor_properties import of_slot
from isaacgym.cameras import Camera
from isaacgym.enums import CameraFollowMode
from isaacgym.geometry import Transform
from isaacgym.layout import Layout
from isaacgym.optical_flow import Frames, optical_flow
from isaacgym.physics import Physics
from isaacgym.rotations import matrix, rotate
from isaacgym.world import Env, World
from phalanx.sim.engines.warp_pictures import BatchPictures, Lens

RIGHT_UP_BACK = (1, 2, 0), (-1.0, 1.0, -1.0)
"""Columns and signs of a pose's axes forward, left and up, as those of a picture."""


class View(NamedTuple):
    """A camera by its handle, what the renderer draws of it, and the types of its images."""

    camera: int
    lens: Lens
    images: frozenset[str]


class Kind(NamedTuple):
    """What environments that are drawn together have in common: the group, whether collision shapes
    are shown, and the views."""

    group: int
    collision: bool
    views: tuple[View, ...]


class _Places(NamedTuple):
    """Poses of the cameras (N, C, ...) in their environments, or relative to the bodies (N, C) that
    they follow. `turns` says whether the body also turns them, `attached` whether any follows."""

    pos: Tensor
    quat: Tensor
    body: Tensor
    follows: Tensor
    turns: Tensor
    attached: bool


class CameraBatch:
    """The cameras of `envs`, which belong to `physics`. frames: those of the last drawing by
    environment and camera, for optical flow."""

    def __init__(
        self,
        physics: Physics,
        kind: Kind,
        envs: Sequence[Env],
        renderer: BatchPictures,
        frames: dict[tuple[int, int], Frames],
    ) -> None:
        self._physics, self._kind, self._envs, self._renderer = physics, kind, envs, renderer
        self._frames = frames
        self._rows = torch.tensor([env.row for env in envs], device=physics.device)
        self._places: _Places | None = None
        self._looks: tuple[dict[str, Tensor], Tensor] | None = None

    def note_change(self) -> None:
        """Look at poses of cameras and at colours again."""
        self._places = self._looks = None

    def draw(self) -> list[dict[str, Tensor]]:
        """The current images of each view, of the types that it asks for: "color" (N, H, W, 4),
        "depth" (N, H, W), negative, "segmentation" (N, H, W) int32 and "flow" (N, H, W, 2)."""
        data, own = self._physics.drawn()
        if self._looks is None:
            self._looks = looks(self._physics, self._envs)
        fields, ids = self._looks
        colors = any(view.lens.color for view in self._kind.views)
        own = {name: values[self._rows] for name, values in own.items()}
        pos, axes = self._poses()
        drawn = self._renderer.draw(
            {name: values[self._rows] for name, values in data.items()},
            own | fields if colors else own,
            pos,
            axes,
        )
        for k, (view, images) in enumerate(zip(self._kind.views, drawn, strict=True)):
            if "flow" in view.images:
                now = Frames(pos[:, k], axes[:, k], *self._renderer.shapes())
                images["flow"] = self._flow(view, images, now)
            if "depth" in view.images:
                images["depth"] = -images["depth"]
            if "segmentation" in view.images:
                place = (images["geoms"] + 1).flatten(1).long()
                images["segmentation"] = ids.gather(1, place).view_as(images["geoms"])
        return [
            {name: images[name] for name in view.images}
            for view, images in zip(self._kind.views, drawn, strict=True)
        ]

    def _flow(self, view: View, images: dict[str, Tensor], now: Frames) -> Tensor:
        """Optical flow since the last drawing of each camera; a camera's first one has none."""
        keys = [(env.index, view.camera) for env in self._envs]
        mine = [Frames(*(values[row] for values in now)) for row in range(len(keys))]
        last = [self._frames.get(key, own) for key, own in zip(keys, mine, strict=True)]
        before = Frames(*(torch.stack(values) for values in zip(*last, strict=True)))
        self._frames.update(zip(keys, mine, strict=True))
        return optical_flow(images["depth"], images["geoms"], view.lens.fov, now, before)

    def _poses(self) -> tuple[Tensor, Tensor]:
        """Positions (N, C, 3) [m] and axes (N, C, 3, 3) in the frame of the physics."""
        if self._places is None:
            cameras = [
                camera
                for env in self._envs
                for view in self._kind.views
                if (camera := env.cameras[view.camera]) is not None
            ]
            self._places = _places(cameras, len(self._envs), self._physics.device)
        places = self._places
        pos, turn = places.pos, matrix(places.quat)
        if places.attached:
            states = self._physics.current("rigid_body_state")
            bodies = states.view(self._physics.num_envs, -1, 13)[self._rows]
            at = places.body[..., None].expand(-1, -1, 13)
            state = bodies.gather(1, at)
            body_quat = state[..., 3:7].roll(1, -1)
            carried = torch.where(places.turns, rotate(body_quat, pos), pos) + state[..., :3]
            pos = torch.where(places.follows, carried, pos)
            turn = torch.where(places.turns[..., None], matrix(body_quat) @ turn, turn)
        columns, signs = RIGHT_UP_BACK
        axes = turn[..., list(columns)] * torch.tensor(signs, device=turn.device)
        return pos + self._physics.state.offset[self._rows], axes


def _places(cameras: Sequence[Camera], count: int, device: torch.device) -> _Places:
    def numbers(values: object, kind: torch.dtype = torch.float32) -> Tensor:
        held = torch.tensor(values, dtype=kind, device=device)
        return held.view(count, len(cameras) // count, *held.shape[1:])

    poses = [camera.pose for camera in cameras]
    follows = [camera.body is not None for camera in cameras]
    whole = [camera.mode == CameraFollowMode.FOLLOW_TRANSFORM for camera in cameras]
    turns = [f and w for f, w in zip(follows, whole, strict=True)]
    return _Places(
        numbers([[*pose.p] for pose in poses]),
        numbers([_wxyz(pose) for pose in poses]),
        numbers([camera.body or 0 for camera in cameras], torch.int64),
        numbers(follows, torch.bool)[..., None],
        numbers(turns, torch.bool)[..., None],
        any(follows),
    )


def _wxyz(pose: Transform) -> list[float]:
    return [pose.r.w, pose.r.x, pose.r.y, pose.r.z]


def looks(physics: Physics, envs: Sequence[Env]) -> tuple[dict[str, Tensor], Tensor]:
    """Colours and materials of the geoms of environments, as fields of the model, and their
    segmentation ids (N, 1 + geoms) int32, after that of nothing, which is 0."""
    model, layout, world = physics.model, physics.layout, physics.world
    rgba = np.repeat(model.geom_rgba[None], len(envs), 0)
    material = np.repeat(model.geom_matid[None], len(envs), 0)
    rows = [env.row for env in envs]
    for a in range(len(layout.actors)):
        colors = of_slot(world, a, lambda asset: asset.model.geom_rgba)
        geoms = layout.actor_geoms[a]
        rgba[:, geoms] = colors[rows if len(colors) > 1 else [0]]
        assets, which = world.assets[a]
        for number, asset in enumerate(assets[1:], 1):
            if asset.materials != assets[0].materials:
                # The model has the materials of the first environment only.
                own = np.flatnonzero(which[rows] == number)[:, None]
                rgba[own, geoms], material[own, geoms] = asset.plain_colors, -1
    first_texture = model.nmat  # materials of textures come after the model's own
    for k, env in enumerate(envs):
        for a, actor in enumerate(env.actors):
            geoms, body = layout.actor_geoms[a], actor.asset.model.geom_bodyid - 1
            for b, color in actor.colors.items():
                painted = geoms[body == b]
                rgba[k, painted, :3], rgba[k, painted, 3] = [*color], 1.0
                material[k, painted] = -1
            for b, texture in actor.textures.items():
                painted = geoms[body == b]
                rgba[k, painted] = 1.0
                material[k, painted] = first_texture + texture
    ids = _ids(world, layout, envs, model.ngeom)
    fields = {"geom_rgba": rgba, "geom_matid": material}
    on_device = {k: torch.from_numpy(v).to(physics.device) for k, v in fields.items()}
    return on_device, torch.from_numpy(ids).to(physics.device)


def _ids(world: World, layout: Layout, envs: Sequence[Env], num_geoms: int) -> np.ndarray:
    ids = np.zeros((len(envs), 1 + num_geoms), np.uint32)
    for geom, piece in enumerate(world.grounds):
        ids[:, 1 + layout.ground_geoms.start + geom] = piece.params.segmentation_id % 2**32
    for k, env in enumerate(envs):
        for a, actor in enumerate(env.actors):
            of_body = np.full(actor.asset.num_bodies, actor.segmentation_id, np.int64)
            for body, number in actor.segmentation.items():
                of_body[body] = number
            own = of_body[actor.asset.model.geom_bodyid - 1]
            ids[k, 1 + layout.actor_geoms[a]] = own.astype(np.uint32)
    return ids.view(np.int32)  # PyTorch has few functions for unsigned 32-bit numbers
