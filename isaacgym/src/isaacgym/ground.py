"""Static ground, shared by all environments: planes, height fields and triangle meshes.

A plane is a plane of MuJoCo. A triangle mesh becomes a height field with the highest point of the
mesh over each sample of a grid. A grid mesh, such as `terrain_utils.convert_heightfield_to_trimesh`
makes, keeps its samples exactly; its vertical walls become slopes one cell wide. Surfaces under an
overhang are lost. MuJoCo's model has height fields only for display; `terrain.py` makes contacts.
"""

import dataclasses
from typing import Any

import numpy as np

from isaacgym.params import HeightFieldParams, PlaneParams, TriangleMeshParams
from phalanx.errors import PhalanxError

FINEST_GRID = 4096  # samples along one side of a mesh that is not a grid itself
TINY = 1e-4  # cells


@dataclasses.dataclass
class Ground:
    """A piece of ground shared by all environments. kind: plane, heightfield or mesh."""

    kind: str
    params: Any
    heights: np.ndarray | None = None
    """(samples along x, samples along y) [m], starting at the lower corner."""
    cell: tuple[float, float] = (1.0, 1.0)
    """Spacing of the samples along x and y [m]."""
    corner: tuple[float, float, float] = (0.0, 0.0, 0.0)
    """Position of the first sample at height 0 [m], in the frame of the transform."""


def plane(params: PlaneParams) -> Ground:
    """The points x with normal . x + distance = 0."""
    if params.normal.length() == 0:
        raise PhalanxError("gym.add_ground was given a normal of length 0")
    return Ground("plane", params)


def heightfield(samples: np.ndarray, params: HeightFieldParams) -> Ground:
    """A height field of integer samples, in memory `nbColumns` along x times `nbRows` along y."""
    samples = np.asarray(samples)
    if not samples.flags.c_contiguous and samples.T.flags.c_contiguous:
        samples = samples.T  # Isaac Gym reads memory, whatever the view
    rows, columns = params.nbRows, params.nbColumns
    if samples.size != rows * columns or min(rows, columns) < 2:
        raise PhalanxError(
            f"gym.add_heightfield was given {samples.size} samples for nbRows {rows} times"
            f" nbColumns {columns}; they must agree, with at least 2 each"
        )
    heights = samples.reshape(columns, rows).astype(float) * params.vertical_scale
    return Ground("heightfield", params, heights, (params.column_scale, params.row_scale))


def triangle_mesh(
    vertices: np.ndarray, triangles: np.ndarray, params: TriangleMeshParams
) -> Ground:
    """A mesh from vertices (x, y, z, x, ...) [m] and triangles (three vertex numbers each)."""
    points = np.asarray(vertices, float).reshape(-1)
    corners = np.asarray(triangles).reshape(-1).astype(np.int64)
    if points.size != 3 * params.nb_vertices or corners.size != 3 * params.nb_triangles:
        raise PhalanxError(
            f"gym.add_triangle_mesh was given {points.size} coordinates and {corners.size} corners"
            f" for nb_vertices {params.nb_vertices} and nb_triangles {params.nb_triangles}; there"
            " must be three for each"
        )
    if not corners.size or corners.min() < 0 or corners.max() >= params.nb_vertices:
        raise PhalanxError(
            "gym.add_triangle_mesh was given no triangles, or corners beyond the last vertex"
        )
    heights, cell, corner = _rasterise(points.reshape(-1, 3), corners.reshape(-1, 3))
    return Ground("mesh", params, heights, cell, corner)


def _rasterise(
    points: np.ndarray, corners: np.ndarray
) -> tuple[np.ndarray, tuple[float, float], tuple[float, float, float]]:
    """Highest z of the mesh over each point of a grid. Returns heights, spacing, lower corner."""
    xs, ys = _grid_lines(points[:, 0]), _grid_lines(points[:, 1])
    dx, dy = (xs[-1] - xs[0]) / (len(xs) - 1), (ys[-1] - ys[0]) / (len(ys) - 1)
    u, v = (points[:, 0] - xs[0]) / dx, (points[:, 1] - ys[0]) / dy  # in cells
    flat = np.full(len(xs) * len(ys), -np.inf)
    i, j = np.rint(u).astype(np.int64), np.rint(v).astype(np.int64)
    on_grid = (np.abs(u - i) < TINY) & (np.abs(v - j) < TINY)
    np.maximum.at(flat, i[on_grid] * len(ys) + j[on_grid], points[on_grid, 2])
    # Grid points that are within a triangle but not at one of its corners.
    u, v, z = u[corners], v[corners], points[:, 2][corners]
    i0, j0 = np.ceil(u.min(1) - TINY).astype(int), np.ceil(v.min(1) - TINY).astype(int)
    i1, j1 = np.floor(u.max(1) + TINY).astype(int), np.floor(v.max(1) + TINY).astype(int)
    area = (u[:, 1] - u[:, 0]) * (v[:, 2] - v[:, 0]) - (u[:, 2] - u[:, 0]) * (v[:, 1] - v[:, 0])
    # A triangle of half a cell contains no other grid points; a wall has no area.
    half_cell = on_grid[corners].all(1) & (np.abs(area) < 1 + TINY) & (i1 - i0 < 2) & (j1 - j0 < 2)
    left = np.flatnonzero(~half_cell & (np.abs(area) > 1e-9))
    i0, j0, i1, j1, u, v, z, area = (x[left] for x in (i0, j0, i1, j1, u, v, z, area))
    for di in range(int((i1 - i0).max(initial=-1)) + 1):
        for dj in range(int((j1 - j0).max(initial=-1)) + 1):
            some = np.flatnonzero((i0 + di <= i1) & (j0 + dj <= j1))
            i, j, s = i0[some] + di, j0[some] + dj, area[some]
            us, vs, zs = u[some], v[some], z[some]
            a = ((us[:, 1] - i) * (vs[:, 2] - j) - (us[:, 2] - i) * (vs[:, 1] - j)) / s
            b = ((us[:, 2] - i) * (vs[:, 0] - j) - (us[:, 0] - i) * (vs[:, 2] - j)) / s
            inside = (a > -TINY) & (b > -TINY) & (a + b < 1 + TINY)
            height = a * zs[:, 0] + b * zs[:, 1] + (1 - a - b) * zs[:, 2]
            np.maximum.at(flat, (i * len(ys) + j)[inside], height[inside])
    heights = flat.reshape(len(xs), len(ys))
    heights[~np.isfinite(heights)] = points[:, 2].min()  # where the mesh has holes
    return heights, (dx, dy), (float(xs[0]), float(ys[0]), 0.0)


def _grid_lines(values: np.ndarray) -> np.ndarray:
    """Coordinates of a regular grid on which all vertices lie, or of one that is fine enough."""
    lines = np.unique(np.round(values, 5))
    if len(lines) < 2:
        raise PhalanxError("gym.add_triangle_mesh was given a mesh without extent along x or y")
    gaps = np.diff(lines)
    step = gaps[gaps > 1e-4].min()
    count = round((lines[-1] - lines[0]) / step) + 1
    regular = np.abs((lines - lines[0]) / step - np.round((lines - lines[0]) / step)).max() < 0.02
    if not regular or count > FINEST_GRID:
        count = min(max(2 * len(lines), 64), FINEST_GRID)
    return np.linspace(lines[0], lines[-1], count)
