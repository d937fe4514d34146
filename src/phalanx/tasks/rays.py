"""What a robot sees of the ground: heights around it, and rays of a LiDAR or a depth image.

    points = scan_grid((1.6, 1.0), 0.1, device)                # once
    heights = height_scan(terrain, base_pos, yaw, points)      # (N, P) [m]
    distances = cast(terrain, origins, directions, reach=5.0)  # (N, P) [m]

Both look the ground up in a task's `Terrain`: fixed shapes, no wait for the device, so they belong
into a captured step. They see the ground only, not the robot itself.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from phalanx.tasks.terrain import Terrain


def scan_grid(sides: Sequence[float], spacing: float, device: torch.device) -> Tensor:
    """Points (P, 2) [m] of a rectangle around the origin, x first; 17 x 11 for 1.6 m x 1.0 m at
    0.1 m."""
    x, y = (
        torch.arange(round(side / spacing) + 1, device=device) * spacing - side / 2
        for side in sides
    )
    return torch.cartesian_prod(x, y)


def height_scan(terrain: Terrain, pos: Tensor, yaw: Tensor, points: Tensor) -> Tensor:
    """How far the ground at `points` (P, 2) lies below `pos` (N, 3), (N, P) [m]. The points turn
    with the yaw (N,) [rad], but do not tilt."""
    cos, sin = yaw.cos()[:, None], yaw.sin()[:, None]
    x = pos[:, :1] + cos * points[:, 0] - sin * points[:, 1]
    y = pos[:, 1:2] + sin * points[:, 0] + cos * points[:, 1]
    return pos[:, 2:] - terrain.height(torch.stack([x, y], -1))


def lidar(channels: int, lowest: float, highest: float, around: int) -> Tensor:
    """Directions (channels * around, 3) of length 1, sensor frame: x ahead, z up. Angles above the
    horizon from `lowest` to `highest` [degrees], all around the vertical."""
    up = torch.deg2rad(torch.linspace(lowest, highest, channels))
    turn = torch.arange(around) * (2 * math.pi / around)
    up, turn = (grid.flatten() for grid in torch.meshgrid(up, turn, indexing="ij"))
    return torch.stack([up.cos() * turn.cos(), up.cos() * turn.sin(), up.sin()], 1)


def pinhole(width: int, height: int, fov: float) -> Tensor:
    """Directions (height * width, 3) of length 1 of a camera's pixels, row by row from the top:
    x ahead, y left, z up. fov: horizontal [degrees]."""
    half = math.tan(math.radians(fov) / 2)
    y = half * (1 - (2 * torch.arange(width) + 1) / width)
    z = half * height / width * (1 - (2 * torch.arange(height) + 1) / height)
    z, y = (grid.flatten() for grid in torch.meshgrid(z, y, indexing="ij"))
    rays = torch.stack([torch.ones_like(y), y, z], 1)
    return rays / rays.norm(dim=1, keepdim=True)


def cast(
    terrain: Terrain, origins: Tensor, directions: Tensor, reach: float, steps: int = 64
) -> Tensor:
    """Distances (N, P) [m] at which rays first meet the ground, `reach` [m] where they do not.
    origins (N, 3) or (N, P, 3) [m], directions (N, P, 3) of length 1, both in the world.

    Looks at `steps` points of each ray and halves the interval in which it enters the ground, so
    what is thinner than reach / steps may be missed.
    """
    if origins.dim() == 2:
        origins = origins[:, None]
    near = torch.zeros(directions.shape[:-1], device=directions.device)
    hit = torch.zeros_like(near, dtype=torch.bool)
    for k in range(1, steps + 1):
        far = origins + (reach * k / steps) * directions
        below = far[..., 2] <= terrain.height(far[..., :2])
        hit = hit | below
        near = torch.where(hit, near, torch.full_like(near, reach * k / steps))
    width = reach / steps
    for _ in range(10):
        width /= 2
        middle = origins + (near + width)[..., None] * directions
        above = middle[..., 2] > terrain.height(middle[..., :2])
        near = torch.where(hit & above, near + width, near)
    return near
