"""Static ground, shared by all environments: planes, height fields and triangle meshes.

A plane is a plane of MuJoCo. A triangle mesh becomes a height field with the highest point of the
mesh over each sample of a grid, as seen from above. A grid mesh, such as
`terrain_utils.convert_heightfield_to_trimesh` makes, keeps its samples exactly; its vertical walls
become slopes one cell wide. Surfaces under an overhang are lost. MuJoCo's model has height fields
only for display; `terrain.py` makes contacts.

Gravity and the up axis may still change after a program has added its ground. So `settle` looks at
them, when the content of the simulation is fixed.
"""

import dataclasses
from typing import Any

import mujoco
import numpy as np

from isaacgym.enums import UpAxis
from isaacgym.geometry import Quat, Transform, Vec3
from isaacgym.params import HeightFieldParams, PlaneParams, SimParams, TriangleMeshParams
from isaacgym.properties import bits
from phalanx.errors import PhalanxError

FINEST_GRID = 4096  # samples along one side of a mesh that is not a grid itself
TINY = 1e-4  # cells
AT_ONCE = 200_000  # grid points, which bounds the memory


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
    mesh: tuple[np.ndarray, np.ndarray] | None = None
    """Vertices (V, 3) [m] and triangles (T, 3), numbers of vertices, until it is settled."""


def plane(params: PlaneParams) -> Ground:
    """The points x with normal . x + distance = 0."""
    length = params.normal.length()
    if not 0 < length < np.inf:
        raise PhalanxError(f"gym.add_ground was given a normal of length {length}")
    _check_numbers(params, "add_ground")
    return Ground("plane", params)


def _check_numbers(params: Any, call: str) -> None:
    for name in ("static_friction", "dynamic_friction", "restitution"):
        value = getattr(params, name)
        if not 0 <= value < np.inf:
            raise PhalanxError(
                f"gym.{call} was given {name} {value}, which must be finite and not negative"
            )
    bits(params.segmentation_id, f"gym.{call}'s segmentation_id")


def _finite(values: Any, call: str) -> np.ndarray:
    try:
        result = np.asarray(values)
        if result.dtype.kind in "iu":  # are finite, and terrains have tens of millions
            return result
        result = result.astype(float)
    except (TypeError, ValueError, OverflowError):
        raise PhalanxError(f"gym.{call} takes arrays of numbers") from None
    if not np.isfinite(result).all():
        raise PhalanxError(f"gym.{call} was given numbers that are not finite")
    return result


def heightfield(samples: np.ndarray, params: HeightFieldParams) -> Ground:
    """A height field of integer samples, in memory `nbColumns` along x times `nbRows` along y."""
    call, samples = "add_heightfield", np.asarray(samples)
    if not samples.flags.c_contiguous and samples.T.flags.c_contiguous:
        samples = samples.T  # Isaac Gym reads memory, whatever the view
    rows, columns = params.nbRows, params.nbColumns
    if samples.size != rows * columns or min(rows, columns) < 2:
        raise PhalanxError(
            f"gym.add_heightfield was given {samples.size} samples for nbRows {rows} times"
            f" nbColumns {columns}; they must agree, with at least 2 each"
        )
    _check_numbers(params, call)
    steps = (params.column_scale, params.row_scale)
    if not all(0 < step < np.inf for step in steps) or not np.isfinite(params.vertical_scale):
        raise PhalanxError(
            f"gym.{call} was given column_scale and row_scale {steps} and vertical_scale"
            f" {params.vertical_scale}; the first two must be positive, all finite"
        )
    heights = _finite(samples, call).reshape(columns, rows) * params.vertical_scale
    return Ground("heightfield", params, heights, (params.column_scale, params.row_scale))


def triangle_mesh(
    vertices: np.ndarray, triangles: np.ndarray, params: TriangleMeshParams
) -> Ground:
    """A mesh from vertices (x, y, z, x, ...) [m] and triangles (three vertex numbers each). It has
    no heights until `settle`."""
    _check_numbers(params, "add_triangle_mesh")
    points = _finite(vertices, "add_triangle_mesh").reshape(-1)
    corners = _finite(triangles, "add_triangle_mesh").reshape(-1)
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
    mesh = points.reshape(-1, 3).copy(), corners.reshape(-1, 3).copy()
    return Ground("mesh", params, mesh=mesh)


def settle(piece: Ground, params: SimParams) -> None:
    """Give a mesh its heights, as seen from above, and a transform whose z axis is the axis of the
    mesh that is nearest to up. Up is against gravity, or along `up_axis` where there is none.
    Raises PhalanxError for a height field on which gravity does not act along its own z axis."""
    if piece.kind == "plane":
        return
    gravity = np.array([*params.gravity])
    if gravity.any():
        up = -gravity / np.linalg.norm(gravity)
    elif piece.kind == "heightfield":
        return
    else:
        up = np.eye(3)[1 if params.up_axis == UpAxis.UP_AXIS_Y else 2]
    transform = piece.params.transform
    up = np.array([*transform.r.inverse().rotate(Vec3(*up.tolist()))])
    turn = _upright(up)
    turned = bool((turn != np.eye(3)).any())
    if piece.kind == "heightfield" and turned:
        raise PhalanxError(
            "gym.add_heightfield takes a field whose own z axis points up; here up is"
            f" {(np.round(up, 3) + 0.0).tolist()} along its axes; set SimParams.gravity and up_axis"
            " = UP_AXIS_Z, or turn it with HeightFieldParams.transform"
        )
    if piece.mesh is None:
        return
    vectors = piece.mesh[0].astype(float)
    if turned:
        vectors = vectors @ turn.T
        quat = np.zeros(4)
        mujoco.mju_mat2Quat(quat, turn.T.flatten())
        w, x, y, z = quat
        piece.params.transform = transform * Transform(r=Quat(x, y, z, w))
    piece.heights, piece.cell, piece.corner = _rasterise(vectors, piece.mesh[1].astype(np.int64))
    piece.mesh = None


def _upright(up: np.ndarray) -> np.ndarray:
    """The rotation (3, 3), of zeros and ones, to axes whose z is the axis nearest to up (3,)."""
    k = int(np.abs(up).argmax())
    z, x = np.sign(up[k]) * np.eye(3)[k], np.eye(3)[(k + 1) % 3]
    return np.array([x, np.cross(z, x), z])


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
    for some in np.array_split(corners, 1 + len(corners) // AT_ONCE):
        for part in _parts(some[_reach_others(some, u, v, on_grid)], u, v):
            _draw(flat, len(ys), u[part], v[part], points[:, 2][part])
    heights = flat.reshape(len(xs), len(ys))
    heights[~np.isfinite(heights)] = points[:, 2].min()  # where the mesh has holes
    return heights, (dx, dy), (float(xs[0]), float(ys[0]), 0.0)


def _reach_others(
    corners: np.ndarray, u: np.ndarray, v: np.ndarray, on_grid: np.ndarray
) -> np.ndarray:
    """(n,) whether triangles may contain grid points other than their corners (n, 3), numbers of
    points at (u, v) [cells]. One of half a cell contains none; a wall has no area."""
    a, b, c = corners.T
    (i0, i1), (j0, j1) = _lines(u, corners), _lines(v, corners)
    area = (u[b] - u[a]) * (v[c] - v[a]) - (u[c] - u[a]) * (v[b] - v[a])
    half_cell = on_grid[a] & on_grid[b] & on_grid[c] & (i1 - i0 < 2) & (j1 - j0 < 2)
    half_cell &= np.abs(area) < 1 + TINY
    reach: np.ndarray = ~half_cell & (np.abs(area) > 1e-9)
    return reach


def _lines(u: np.ndarray, corners: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Numbers (n,) of the first and last grid line that triangles (n, 3) cross."""
    a, b, c = (u[k] for k in corners.T)  # by column: NumPy's min along a short axis is slow
    low, high = np.minimum(np.minimum(a, b), c), np.maximum(np.maximum(a, b), c)
    return np.ceil(low - TINY).astype(int), np.floor(high + TINY).astype(int)


def _parts(corners: np.ndarray, u: np.ndarray, v: np.ndarray) -> list[np.ndarray]:
    """Triangles (n, 3) in parts whose bounds have about `AT_ONCE` grid points."""
    (i0, i1), (j0, j1) = _lines(u, corners), _lines(v, corners)
    size = np.cumsum((i1 - i0 + 1) * (j1 - j0 + 1))
    return np.split(corners, np.flatnonzero(np.diff(size // AT_ONCE)) + 1)


def _draw(flat: np.ndarray, ny: int, u: np.ndarray, v: np.ndarray, z: np.ndarray) -> None:
    """Raise the heights `flat` of a grid with `ny` points along v to triangles (n, 3)."""
    first, last = _lines(u.T.ravel(), np.arange(u.size).reshape(3, -1).T)
    e, f = np.diff(u, axis=1)[:, 0], u[:, 2] - u[:, 0]
    g, h = np.diff(v, axis=1)[:, 0], v[:, 2] - v[:, 0]
    rise1, rise2 = z[:, 1] - z[:, 0], z[:, 2] - z[:, 0]
    area = e * h - f * g
    along_u, along_v = (rise1 * h - rise2 * g) / area, (rise2 * e - rise1 * f) / area
    t, i = _spread(first, last)  # a row for each triangle and line across it
    low, high = _crossings(u[t], v[t], i)
    low, high = np.ceil(low - TINY), np.floor(high + TINY)
    at_zero = z[t, 0] + along_u[t] * (i - u[t, 0]) - along_v[t] * v[t, 0]
    lowest, highest = z.min(1)[t], z.max(1)[t]
    for part in np.array_split(np.arange(len(t)), 1 + int((high - low + 1).sum() // AT_ONCE)):
        k, j = _spread(low[part], high[part])
        k = part[k]
        height = np.clip(at_zero[k] + along_v[t[k]] * j, lowest[k], highest[k])
        np.maximum.at(flat, i[k] * ny + j, height)


def _spread(first: np.ndarray, last: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """For each row k the integers first[k] to last[k]: k and the integer, one after another."""
    counts = np.maximum(last - first + 1, 0).astype(np.int64)
    k = np.repeat(np.arange(len(first)), counts)
    start = np.cumsum(counts) - counts
    return k, first.astype(np.int64)[k] + np.arange(len(k)) - start[k]


def _crossings(u: np.ndarray, v: np.ndarray, i: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Lowest and highest v of triangles (n, 3) on the lines u = i (n,), which cross them."""
    low, high = np.full(len(i), np.inf), np.full(len(i), -np.inf)
    for a, b in ((0, 1), (1, 2), (2, 0)):
        along = u[:, b] - u[:, a]
        steep = np.abs(along) < TINY
        share = np.clip((i - u[:, a]) / np.where(steep, 1.0, along), 0, 1)
        at = v[:, a] + share * (v[:, b] - v[:, a])
        touched = np.minimum(u[:, a], u[:, b]) - TINY <= i
        touched &= i <= np.maximum(u[:, a], u[:, b]) + TINY
        ends = np.where(steep, v[:, a], at), np.where(steep, v[:, b], at)
        low = np.where(touched, np.minimum(low, np.minimum(*ends)), low)
        high = np.where(touched, np.maximum(high, np.maximum(*ends)), high)
    return low, high


def _grid_lines(values: np.ndarray) -> np.ndarray:
    """Coordinates of a regular grid on which all vertices lie, or of one that is fine enough."""
    lines = np.unique(np.round(values, 5))
    if len(lines) < 2:
        raise PhalanxError("gym.add_triangle_mesh was given a mesh without area seen from above")
    gaps = np.diff(lines)
    step = gaps[gaps > 1e-4].min()
    count = round((lines[-1] - lines[0]) / step) + 1
    regular = np.abs((lines - lines[0]) / step - np.round((lines - lines[0]) / step)).max() < 0.02
    if not regular or count > FINEST_GRID:
        count = min(max(2 * len(lines), 64), FINEST_GRID)
    return np.linspace(lines[0], lines[-1], count)
