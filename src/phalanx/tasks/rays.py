"""What a robot sees of the ground: heights around it, and rays of a LiDAR or a depth image.

    points = scan_grid((1.6, 1.0), 0.1, device)                # once
    heights = height_scan(terrain, base_pos, yaw, points)      # (N, P) [m]
    distances = cast(terrain, origins, directions, reach=5.0)  # (N, P) [m]

Both look the ground up in a task's `Terrain`: fixed shapes, no wait for the device, so they belong
into a captured step. They see the ground only, not the robot itself.
"""

import math
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from phalanx.config import checked
from phalanx.errors import PhalanxError
from phalanx.sim import check_count
from phalanx.tasks.terrain import Terrain

AT_ONCE = {"cpu": 2**17, "cuda": 2**23}
"""Points of rays that are looked up together, by device; on a CPU they should stay in its cache."""
HOLE = 0.7
"""Height from which on ground is a wall or a hole, not part of a slope [m]."""
SAME = 1e-3
"""Part of a cell within which two lines count as one, as their order is a matter of rounding."""
ROUNDED = 2e-4
"""Part of a cell by which a place may be wrong, as numbers are rounded: that near to a line, a ray
may be on either side."""


def _check_terrain(terrain: object, what: str) -> None:
    if not isinstance(terrain, Terrain):
        raise PhalanxError(
            f"{what} needs the task's Terrain, but got {terrain!r}; add a TerrainMap to the scene"
            " and make Terrain(self, map) in init_buffers"
        )


def _check(terrain: Terrain, what: str, value: object, shape: tuple[int | str, ...]) -> None:
    """Raise PhalanxError unless `value` is a tensor of this shape, in which letters stand for any
    number, on the device of the terrain; this looks at no number, so nothing waits."""
    given, last = "no tensor", len(shape) - 1
    if isinstance(value, Tensor):
        fits = [
            isinstance(s, str) or n == s or (n == 1 and k < last)  # one for all
            for k, (n, s) in enumerate(zip(value.shape, shape, strict=False))
        ]
        if value.dim() == len(shape) and all(fits):
            if value.device == terrain.corner.device:
                return
            raise PhalanxError(
                f"{what} are on {value.device}; make them on {terrain.corner.device}"
            )
        given = f"of shape {tuple(value.shape)}"
    wanted = ", ".join(map(str, shape)) + "," * (len(shape) == 1)
    raise PhalanxError(f"{what} are {given}; they must be a tensor of shape ({wanted})")


def scan_grid(sides: Sequence[float], spacing: float, device: torch.device) -> Tensor:
    """Points (P, 2) [m] of a rectangle around the origin, x first; 17 x 11 for 1.6 m x 1.0 m at
    0.1 m. Sides that are no multiple of the spacing become the nearest one, so that the middle of
    the points is the origin: a mirror image exchanges them."""
    sides = checked(tuple[float, float], sides, "the size of the scan", at_least=0)
    spacing = checked(float, spacing, "the scan's spacing", above=0)
    steps = (round(side / spacing) for side in sides)
    x, y = (torch.arange(n + 1, device=device) * spacing - n * spacing / 2 for n in steps)
    return torch.cartesian_prod(x, y)


def height_scan(terrain: Terrain, pos: Tensor, yaw: Tensor, points: Tensor) -> Tensor:
    """How far the ground at `points` (P, 2) lies below `pos` (N, 3), (N, P) [m]. The points turn
    with the yaw (N,) [rad], but do not tilt."""
    _check_terrain(terrain, "a height scan")
    n = len(pos) if isinstance(pos, Tensor) and pos.dim() else "N"
    _check(terrain, "the scan's places", pos, (n, 3))
    _check(terrain, "the scan's yaws", yaw, (n,))
    _check(terrain, "the scan's points", points, ("P", 2))
    cos, sin = yaw.cos()[:, None], yaw.sin()[:, None]
    x = pos[:, :1] + cos * points[:, 0] - sin * points[:, 1]
    y = pos[:, 1:2] + sin * points[:, 0] + cos * points[:, 1]
    return pos[:, 2:] - terrain.height(torch.stack([x, y], -1))


def ground_slope(terrain: Terrain, pos: Tensor, yaw: Tensor, points: Tensor) -> Tensor:
    """Rise per run, along the yaw (N,) [rad] and to its left, (N, 2), of the plane through the
    ground below `pos` (N, 3) that is nearest to the ground at `points` (P, 2), as of `scan_grid`.
    What is more than `HOLE` above or below the ground there counts as level: nobody leans into a
    gap."""
    below = height_scan(terrain, pos, yaw, points)
    here = pos[:, 2] - terrain.height(pos[:, :2])
    rise = here[:, None] - below
    rise = torch.where(rise.abs() < HOLE, rise, 0.0)
    return rise @ (points / points.square().sum(0))


def lidar(channels: int, lowest: float, highest: float, around: int) -> Tensor:
    """Directions (channels * around, 3) of length 1, sensor frame: x ahead, z up. Angles above the
    horizon from `lowest` to `highest` [degrees], all around the vertical."""
    check_count("the LiDAR's number of channels", channels)
    check_count("the LiDAR's number of rays around", around)
    lowest = checked(float, lowest, "the LiDAR's lowest angle")
    highest = checked(float, highest, "the LiDAR's highest angle")
    up = torch.deg2rad(torch.linspace(lowest, highest, channels))
    turn = torch.arange(around) * (2 * math.pi / around)
    up, turn = (grid.flatten() for grid in torch.meshgrid(up, turn, indexing="ij"))
    return torch.stack([up.cos() * turn.cos(), up.cos() * turn.sin(), up.sin()], 1)


def pinhole(width: int, height: int, fov: float) -> Tensor:
    """Directions (height * width, 3) of length 1 of a camera's pixels, row by row from the top:
    x ahead, y left, z up. fov: horizontal [degrees]."""
    check_count("the image's width", width)
    check_count("the image's height", height)
    fov = checked(float, fov, "the image's fov")
    if not 0 < fov < 180:
        raise PhalanxError(
            f"the image's fov is {fov:g} degrees; it must be greater than 0 and less than 180"
        )
    half = math.tan(math.radians(fov) / 2)
    y = half * (1 - (2 * torch.arange(width) + 1) / width)
    z = half * height / width * (1 - (2 * torch.arange(height) + 1) / height)
    z, y = (grid.flatten() for grid in torch.meshgrid(z, y, indexing="ij"))
    rays = torch.stack([torch.ones_like(y), y, z], 1)
    return rays / rays.norm(dim=1, keepdim=True)


def cast(terrain: Terrain, origins: Tensor, directions: Tensor, reach: float) -> Tensor:
    """Distances (N, P) [m] at which rays first meet the ground, `reach` [m] where they do not.
    origins (N, 3) or (N, P, 3) [m], directions (N, P, 3) of length 1, both in the world.

    Between the lines of the map, along x, y and the diagonals of cells, the ground is a plane. So
    looking at a ray wherever it crosses one is exact, and takes about 3.4 reach / spacing points,
    and another 2.4 where there are boxes.
    """
    _check_terrain(terrain, "casting rays")
    reach = checked(float, reach, "the reach of the rays", above=0)
    each = isinstance(origins, Tensor) and origins.dim() == 3
    sizes: list[int | str] = ["N", "P"]
    if isinstance(directions, Tensor) and directions.dim() == 3:
        sizes = [s if n == 1 else n for n, s in zip(directions.shape, sizes, strict=False)]
    n, p = sizes
    _check(terrain, "the rays' directions", directions, ("N", "P", 3))
    _check(terrain, "the rays' origins", origins, (n, p, 3) if each else (n, 3))
    rays = _Rays(terrain, origins, directions, reach)
    seen = rays.meet_field()
    return torch.minimum(seen, rays.meet_boxes()) if terrain.has_boxes else seen


class _Rays:
    """Rays (N, P) over the lines of a map, of three kinds: along y, along x and diagonal."""

    def __init__(self, terrain: Terrain, origins: Tensor, directions: Tensor, reach: float) -> None:
        self.terrain, self.reach = terrain, reach
        if origins.dim() == 2:
            origins = origins[:, None]
        self.z, self.rise = origins[..., 2], directions[..., 2]
        start, speed = origins[..., :2] - terrain.corner, directions[..., :2]
        start, speed = (v / terrain.settings.spacing for v in (start, speed))  # in cells
        self.start, self.speed = torch.broadcast_tensors(start, speed)
        # where a ray is among the lines of each kind, which are at whole numbers; (3, N, P)
        at, rate = (
            torch.stack([*v.unbind(-1), v[..., 0] - v[..., 1]]) for v in (self.start, self.speed)
        )
        self.step, self.rate = torch.where(rate >= 0, 1.0, -1.0), rate.abs()
        self.at = self.step * at  # all rays go forward now
        self.first = self.at.floor() + 1

    def place(self, distance: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """x and y [cells] and z [m] of the points (N, P, C) at distances (N, P, C) [m]."""
        x, y = (self.start[..., k, None] + distance * self.speed[..., k, None] for k in (0, 1))
        return x, y, self.z[..., None] + distance * self.rise[..., None]

    def crossings(self, kind: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Numbers of the lines ahead (N, P, C) and distances at which they are crossed [m], at most
        `reach`; some at a time."""
        at, rate, first = self.at[kind], self.rate[kind], self.first[kind]
        most = self.reach / self.terrain.settings.spacing * (math.sqrt(2) if kind == 2 else 1)
        lines = math.ceil(most) + 2  # of which the last is out of reach
        chunk = max(1, AT_ONCE[at.device.type] // max(1, at.numel()))
        for k in range(0, lines, chunk):
            n = torch.arange(k, min(k + chunk, lines), device=at.device)
            line = first[..., None] + n
            yield line, ((line - at[..., None]) / rate[..., None]).clamp(max=self.reach)

    def line_before(self, end: Tensor, kinds: int) -> Tensor:
        """Distance (N, P) of the last line of the first `kinds` kinds before `end`, or 0 [m]."""
        at, rate, first = self.at[:kinds], self.rate[:kinds], self.first[:kinds]
        last = (at + rate * end - SAME).ceil() - 1
        return torch.where(last >= first, (last - at) / rate, 0.0).amax(0)

    def meet_field(self) -> Tensor:
        """Where the height field is met, (N, P) [m]; `reach` where it is not."""
        below = torch.full_like(self.at[0], math.inf)
        for kind in range(3):
            for _, there in self.crossings(kind):
                hit = torch.where(self.above_field(there) <= 0, there, math.inf).amin(-1)
                below = torch.minimum(below, hit)
        # From the last line before that on, the ground is a plane.
        end = below.clamp(max=self.reach)
        begin = self.line_before(end, 3)
        high, low = self.above_field(torch.stack([begin, end], -1)).unbind(-1)
        return torch.where(below <= self.reach, _zero(begin, end, high, low), self.reach)

    def above_field(self, distance: Tensor) -> Tensor:
        """How far the points (N, P, C) are above the height field [m]."""
        x, y, z = self.place(distance)
        return z - self.terrain.field(x, y)

    def meet_boxes(self) -> Tensor:
        """Where a box is met, (N, P) [m]; `reach` where none is."""
        below = torch.full_like(self.at[0], self.reach)
        for kind in range(2):
            for line, there in self.crossings(kind):
                z = self.z[..., None] + there * self.rise[..., None]
                hit = torch.where(z <= self.top(there, kind, line), there, self.reach).amin(-1)
                below = torch.minimum(below, hit)
        # From the last line before that on, the ray is in one cell, or runs between two: it meets
        # the top there, or the wall of the next cell.
        begin = self.line_before(below, 2)
        top = self.top(((begin + below) / 2)[..., None])[..., 0]
        high, low = (self.z + d * self.rise - top for d in (begin, below))
        return torch.where(low <= 0, _zero(begin, below, high, low), below)

    def top(self, distance: Tensor, kind: int = -1, line: Tensor | None = None) -> Tensor:
        """Height of the higher box just before and behind points (N, P, C) of the rays [m]. kind,
        line: of a line that is crossed there, see `crossings`; then in the cells on its sides."""
        at = [self.at[k, ..., None] + self.rate[k, ..., None] * distance for k in (0, 1)]
        aside = [ROUNDED, ROUNDED]
        if line is not None:
            at[kind], aside[kind] = line, 0.5
        before, behind = (
            self.terrain.tops(*(self.step[k, ..., None] * (at[k] + s * aside[k]) for k in (0, 1)))
            for s in (-1, 1)
        )
        return torch.maximum(before, behind)


def _zero(begin: Tensor, end: Tensor, high: Tensor, low: Tensor) -> Tensor:
    """Where a straight line from `high` to `low` is 0; `begin` if high is less."""
    high, low = high.clamp(min=0), low.clamp(max=0)
    return begin + high / (high - low).clamp(min=1e-9) * (end - begin)
