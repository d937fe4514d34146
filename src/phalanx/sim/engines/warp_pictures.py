"""Pictures of many environments at once, traced by MuJoCo Warp's renderer; on a GPU or the CPU.

    pictures = BatchPictures(model, num_envs, device, [Lens(64, 64, 90.0, 100.0, depth=True)])
    depth = pictures.draw(data, fields, pos, axes)[0]["depth"]           # (N, 64, 64)

The model has one camera in its world for each lens. Rays start in the camera, so near planes cut
nothing off; but a shape is not seen from its inside.
"""

import contextlib
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import mujoco
import mujoco_warp as mjw
import numpy as np
import torch
import warp as wp
from torch import Tensor

from phalanx.sim.engines import kernels
from phalanx.sim.engines.hfield_mesh import quick_hfields

SHOWN = (0, 1, 2)  # groups of geoms


class Lens(NamedTuple):
    """Image size [pixels], horizontal field of view [deg], far plane [m] and images of a camera."""

    width: int
    height: int
    fov: float
    far: float
    color: bool = False
    depth: bool = False
    geoms: bool = False


class BatchPictures:
    """Cameras with `lenses`, the same in N environments of one model. The model is changed.
    collision: show shapes that collide instead of those that are meant to be seen."""

    def __init__(
        self,
        model: mujoco.MjModel,
        num_envs: int,
        device: torch.device,
        lenses: Sequence[Lens],
        collision: bool = False,
    ) -> None:
        kernels.init_warp()
        self._device, self._wp_device = device, wp.device_from_torch(device)
        self._lenses = lenses
        model.cam_fovy[:] = [
            math.degrees(2 * math.atan(math.tan(math.radians(p.fov) / 2) * p.height / p.width))
            for p in lenses
        ]
        model.vis.map.zfar = max(p.far for p in lenses) / model.stat.extent
        if collision:
            collides = (model.geom_contype | model.geom_conaffinity) != 0
            shown = collides | (model.geom_bodyid == 0)
            hidden = model.geom_group == mujoco.mjNGROUP - 1
            model.geom_group[:] = np.where(shown & ~hidden, 0, mujoco.mjNGROUP - 1)
        with self._stream(), quick_hfields():
            self._m = mjw.put_model(model)
            self._d = mjw.make_data(model, nworld=num_envs, nconmax=1, njmax=1)
            self._context = mjw.create_render_context(
                model,
                num_envs,
                cam_res=[(p.width, p.height) for p in lenses],
                render_rgb=[p.color for p in lenses],
                render_depth=[p.depth for p in lenses],
                render_seg=[p.geoms for p in lenses],
                use_textures=model.ntex > 0 and any(p.color for p in lenses),
                enabled_geom_groups=list(SHOWN),
                render_skybox=any(p.color for p in lenses),
            )
        if device.type == "cuda":  # Warp copies to the host without waiting for this stream
            torch.cuda.current_stream(device).synchronize()
        self._first = {
            name: getattr(self._context, name).numpy().tolist()
            for name in ("rgb_adr", "depth_adr", "seg_adr")
        }
        self._views = {name: self._view(name) for name in ("cam_xpos", "cam_xmat")}
        self._fields: dict[str, Tensor] = {}

    def draw(
        self,
        data: Mapping[str, Tensor],
        fields: Mapping[str, Tensor],
        pos: Tensor,
        axes: Tensor,
    ) -> list[dict[str, Tensor]]:
        """The images of each lens: "color" (N, H, W, 4) uint8, "depth" (N, H, W) [m], infinite
        where nothing is, "geoms" (N, H, W) int32, -1 where nothing is. They are good until the next
        call.

        data: fields of MjData that the poses follow from, (N, ...). fields: those of MjModel that
        differ, (N, ...). pos: (N, C, 3) [m]. axes: (N, C, 3, 3), in columns what is right, up and
        back in the picture, in the world's frame.
        """
        m, d, context = self._m, self._d, self._context
        for name, values in fields.items():
            self._field(name, values).copy_(values.view_as(self._fields[name]))
        for name, values in data.items():
            view = self._views.setdefault(name, self._view(name))
            view.copy_(values.view_as(view))
        with self._stream():
            mjw.kinematics(m, d)
            mjw.com_pos(m, d)
            mjw.camlight(m, d)
        self._views["cam_xpos"].copy_(pos)
        self._views["cam_xmat"].copy_(axes.view_as(self._views["cam_xmat"]))
        with self._stream():
            mjw.refit_bvh(m, d, context)
            mjw.render(m, d, context)
        return [self._images(k, lens) for k, lens in enumerate(self._lenses)]

    def shapes(self) -> tuple[Tensor, Tensor]:
        """Copies of where the geoms of the last `draw` are: (N, G, 3) [m] and axes (N, G, 3, 3), in
        the world's frame."""
        return self._view("geom_xpos").clone(), self._view("geom_xmat").clone()

    def _images(self, k: int, lens: Lens) -> dict[str, Tensor]:
        context = self._context
        count, shape = lens.width * lens.height, (-1, lens.height, lens.width)
        images = {}
        if lens.color:
            packed = context.rgb_data
            bytes_ = wp.array(
                ptr=packed.ptr, dtype=wp.uint8, shape=(*packed.shape, 4), device=packed.device
            )
            first = self._first["rgb_adr"][k]
            blue_first = wp.to_torch(bytes_)[:, first : first + count]
            blue, green, red, alpha = blue_first.unbind(-1)
            images["color"] = torch.stack((red, green, blue, alpha), -1).view(*shape, 4)
        if lens.depth:
            first = self._first["depth_adr"][k]
            depth = wp.to_torch(context.depth_data)[:, first : first + count].reshape(shape)
            seen = (depth > 0) & (depth <= lens.far)
            images["depth"] = torch.where(seen, depth, math.inf)
        if lens.geoms:
            first = self._first["seg_adr"][k]
            images["geoms"] = wp.to_torch(context.seg_data)[:, first : first + count, 0].view(shape)
        return images

    def _field(self, name: str, values: Tensor) -> Tensor:
        """A model field with a value for each environment."""
        if name not in self._fields:
            shared = getattr(self._m, name)
            with self._stream():
                repeated = np.repeat(shared.numpy()[:1], len(values), axis=0)
                own = wp.array(repeated, dtype=shared.dtype)
            own._is_batched = True
            setattr(self._m, name, own)
            self._fields[name] = wp.to_torch(own)
        return self._fields[name]

    def _view(self, name: str) -> Tensor:
        view: Tensor = wp.to_torch(getattr(self._d, name))
        return view

    @contextlib.contextmanager
    def _stream(self) -> Iterator[None]:
        if self._device.type != "cuda":
            with wp.ScopedDevice(self._wp_device):
                yield
            return
        stream: Any = wp.stream_from_torch(torch.cuda.current_stream(self._device))
        with wp.ScopedStream(stream, sync_enter=False, sync_exit=False):
            yield
