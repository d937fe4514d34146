"""Wireframes to draw in a viewer.

sphere = WireframeSphereGeometry(0.02, 4, 4, None, color=(1, 1, 0))
draw_lines(sphere, gym, viewer, env, pose)
"""

import itertools
import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from isaacgym.geometry import Transform, Vec3

RED, GREEN, BLUE = (1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0)


class LineGeometry:
    """n coloured lines."""

    def __init__(self, lines: Any, colors: Any, pose: Transform | None = None) -> None:
        """lines: (n, 2, 3), both ends of each [m], moved by `pose`. colors: (n, 3) or (3,)."""
        ends = np.asarray(lines, dtype=np.float32).reshape(-1, 2, 3)
        shades = np.broadcast_to(np.asarray(colors, dtype=np.float32), (len(ends), 3))
        verts = _vec3_array(ends)
        self.verts = verts if pose is None else pose.transform_points(verts)
        self._colors = _vec3_array(shades)

    def vertices(self) -> np.ndarray:
        """Both ends of each line, (n, 2) of `Vec3.dtype` [m]."""
        return self.verts

    def colors(self) -> np.ndarray:
        """Colours, (n,) of `Vec3.dtype`, each red, green and blue in 0 .. 1."""
        return self._colors

    def num_lines(self) -> int:
        """The number of lines, n."""
        return len(self.verts)

    def instance_verts(self, pose: Transform | None = None) -> np.ndarray:
        """The vertices moved by `pose`; a new array."""
        return self.verts.copy() if pose is None else pose.transform_points(self.verts)


def _vec3_array(values: np.ndarray) -> np.ndarray:
    """(..., 3) numbers as (...) of `Vec3.dtype`."""
    return np.ascontiguousarray(values, dtype=np.float32).view(Vec3.dtype)[..., 0]


class AxesGeometry(LineGeometry):
    """The axes of a frame: x red, y green, z blue."""

    def __init__(self, scale: float = 1.0, pose: Transform | None = None) -> None:
        ends = scale * np.eye(3)
        super().__init__(np.stack([np.zeros((3, 3)), ends], axis=1), [RED, GREEN, BLUE], pose)


class WireframeBBoxGeometry(LineGeometry):
    """The edges of a box given by two opposite corners."""

    def __init__(
        self,
        bbox: Sequence[Sequence[float]],
        pose: Transform | None = None,
        color: Sequence[float] | None = None,
    ) -> None:
        """bbox: the lowest and the highest corner [m]."""
        corners = list(itertools.product(*zip(*bbox, strict=True)))
        edges = [
            (a, b)
            for a, b in itertools.combinations(range(8), 2)
            if (a ^ b).bit_count() == 1  # corner numbers differ in one axis
        ]
        lines = [(corners[a], corners[b]) for a, b in edges]
        super().__init__(lines, RED if color is None else color, pose)


class WireframeBoxGeometry(WireframeBBoxGeometry):
    """The edges of a box with the origin in its middle."""

    def __init__(
        self,
        xdim: float = 1,
        ydim: float = 1,
        zdim: float = 1,
        pose: Transform | None = None,
        color: Sequence[float] | None = None,
    ) -> None:
        half = (xdim / 2, ydim / 2, zdim / 2)
        super().__init__([[-h for h in half], half], pose, color)


class WireframeSphereGeometry(LineGeometry):
    """A sphere of `num_lons` meridians in `color` and `num_lats` parallels in `color2`."""

    def __init__(
        self,
        radius: float = 1.0,
        num_lats: int = 8,
        num_lons: int = 8,
        pose: Transform | None = None,
        color: Sequence[float] | None = None,
        color2: Sequence[float] | None = None,
    ) -> None:
        color = RED if color is None else color
        color2 = color if color2 is None else color2

        def point(lat: int, lon: int) -> tuple[float, float, float]:
            polar, azimuth = math.pi * lat / num_lats, 2 * math.pi * lon / num_lons
            ring = radius * math.sin(polar)
            return ring * math.cos(azimuth), ring * math.sin(azimuth), radius * math.cos(polar)

        lines, colors = [], []
        for lat, lon in itertools.product(range(num_lats), range(num_lons)):
            lines.append((point(lat, lon), point(lat + 1, lon)))
            lines.append((point(lat + 1, lon), point(lat + 1, lon + 1)))
            colors += [color, color2]
        super().__init__(lines, colors, pose)


def draw_lines(geom: LineGeometry, gym: Any, viewer: Any, env: Any, pose: Transform) -> None:
    """Draw `geom`, moved by `pose`, in the frame of `env` (None: the world)."""
    gym.add_lines(viewer, env, geom.num_lines(), geom.instance_verts(pose), geom.colors())


def draw_line(p1: Vec3, p2: Vec3, color: Vec3, gym: Any, viewer: Any, env: Any) -> None:
    """Draw a line from p1 to p2 [m] in the frame of `env` (None: the world)."""
    line = LineGeometry([tuple(p1), tuple(p2)], tuple(color))
    gym.add_lines(viewer, env, 1, line.vertices(), line.colors())
