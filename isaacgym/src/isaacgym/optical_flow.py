"""How far what each pixel shows has moved in the picture since the camera's previous one.

A pixel's point is carried by its shape: where the shape was before, and where the camera was, say
where the point was in the previous picture. That is exact for rigid shapes, and nothing is searched
in pictures.
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor

LIMIT = 2**15
"""Units of a whole picture's width or height."""


class Frames(NamedTuple):
    """Where cameras and shapes are, in the frame of the physics: positions (N, 3) [m] and axes
    (N, 3, 3) of a camera, in columns what is right, up and back in its picture; positions (N, G, 3)
    [m] and axes (N, G, 3, 3) of shapes."""

    eye: Tensor
    view: Tensor
    pos: Tensor
    axes: Tensor


def optical_flow(depth: Tensor, geoms: Tensor, fov: float, now: Frames, before: Frames) -> Tensor:
    """(N, H, W, 2) int16: to the right in 2**15ths of the width, down in those of the height.

    depth: (N, H, W) [m], positive. geoms: (N, H, W), the shape of each pixel, -1 for none. fov:
    horizontal field of view [deg]. Zero where nothing is and for what was behind the camera;
    movements of a whole width or height or more are cut there.
    """
    height, width = depth.shape[1:]
    tangent = math.tan(math.radians(fov) / 2)
    scale = torch.tensor([tangent, tangent * height / width], device=depth.device)
    x = (torch.arange(width, device=depth.device) + 0.5) * (2 / width) - 1
    y = 1 - (torch.arange(height, device=depth.device) + 0.5) * (2 / height)
    place = torch.stack(torch.meshgrid(x, y, indexing="xy"), -1)  # (H, W, 2), right and up, to 1
    seen = (geoms >= 0) & torch.isfinite(depth)
    ahead = torch.where(seen, depth, 1.0)[..., None]
    rays = torch.cat([place * scale * ahead, -ahead], -1).flatten(1, 2)  # (N, P, 3)
    points = rays @ now.view.mT + now.eye[:, None]

    shape = geoms.flatten(1).clamp(min=0).long()  # (N, P)
    rows = torch.arange(len(shape), device=shape.device)[:, None]
    in_shape = ((points - now.pos[rows, shape])[..., None, :] @ now.axes[rows, shape])[..., 0, :]
    carried = (before.axes[rows, shape] @ in_shape[..., None])[..., 0] + before.pos[rows, shape]
    earlier = (carried - before.eye[:, None]) @ before.view
    away = -earlier[..., 2:]
    there = earlier[..., :2] / (away.clamp(min=1e-6) * scale)
    moved = (place - there.view(-1, height, width, 2)) * (LIMIT / 2)
    moved[..., 1].neg_()
    known = seen & (away > 0).view_as(seen)
    return torch.where(known[..., None], moved, 0.0).round().clamp(-LIMIT, LIMIT - 1).short()
