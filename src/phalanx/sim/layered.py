"""Splits meshes made of layers into convex parts: plates with holes, trays, brackets.

    parts = layered_parts(vertices, faces)       # [] for any other mesh

Most machine parts are outlines, each extruded by its own length along one axis. An outline is a
polygon with holes, which splits into convex polygons at once and without an error, so holes keep
their size and corners where a search in three dimensions narrows them. Round outlines get fewer
corners before, which only takes material away: a hole never becomes narrower. Chamfers stay
slanted.
"""

import itertools
from collections.abc import Iterator
from typing import Any

import numpy as np
import shapely
import trimesh
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from scipy.spatial import cKDTree

from phalanx.sim.mesh_files import Array, Faces

SURFACE = 0.95  # share of the surface that is parallel or perpendicular to the axis; rest: chamfers
TOLERANCE = 1e-3  # of the largest extent: what an outline may lose
SMALLEST = 1e-4  # of the largest extent: steps and widths below are noise
MAX_LAYERS = 40
MAX_PARTS = 200
Polygon = Any  # of shapely, which has no types
Slab = list[tuple[float, Polygon]]  # heights and outlines, ascending
Loop = list[int]


def layered_parts(vertices: Array, faces: Faces) -> list[tuple[Array, Faces]]:
    """Convex meshes that together are one of vertices (V, 3) and triangles (F, 3); none if it is
    not made of layers along x, y or z."""
    mesh = trimesh.Trimesh(vertices, faces, process=False)
    if not mesh.is_winding_consistent or not len(faces):
        return []
    size = float(mesh.extents.max())
    normals, areas = np.abs(mesh.face_normals), mesh.area_faces
    sides = normals < 0.01
    straight = (sides | (normals > 0.9999)).T @ areas / max(areas.sum(), 1e-30)
    axis = int(straight.argmax())
    levels = _levels(_ends(mesh, ~sides[:, axis], axis), SMALLEST * size)
    if straight[axis] < SURFACE or not 2 <= len(levels) <= MAX_LAYERS + 1:
        return []
    order = [(axis + 1) % 3, (axis + 2) % 3, axis]  # right-handed, the axis last
    turned = trimesh.Trimesh(mesh.vertices[:, order], mesh.faces, process=False)
    parts = []
    try:
        slabs = _slabs(turned, levels, size)
    except _Open:
        return []
    for slab in slabs:
        for points in _convex_corners(slab, size):
            hull = trimesh.convex.convex_hull(points)
            parts.append((np.array(hull.vertices)[:, np.argsort(order)], np.array(hull.faces)))
            if len(parts) > MAX_PARTS:
                return []
    volume = sum(trimesh.Trimesh(*part, process=False).volume for part in parts)
    if mesh.is_watertight and not 0.9 < volume / abs(mesh.volume) < 1.01:
        return []
    return parts


class _Open(Exception):
    """A cross-section has an outline that does not close."""


def _ends(mesh: trimesh.Trimesh, ends: Array, axis: int) -> Array:
    """Where flat pieces of the surface begin and end along the axis, of those with faces in the
    mask `ends`. A flat piece may be many triangles."""
    alone = ends.copy()
    heights = []
    for facet in mesh.facets:
        alone[facet] = False
        if ends[facet].any():
            along = mesh.vertices[mesh.faces[facet], axis]
            heights += [along.min(), along.max()]
    return np.concatenate([heights, mesh.vertices[mesh.faces[alone], axis].ravel()])


def _levels(heights: Array, smallest: float) -> list[float]:
    """Heights at which the outline may change, ascending."""
    found = np.unique(heights)
    return [float(found[0]), *(float(b) for a, b in itertools.pairwise(found) if b - a > smallest)]


def _slabs(mesh: trimesh.Trimesh, levels: list[float], size: float) -> list[Slab]:
    """Outlines of the mesh at heights, from its lowest to its highest. Between two of them in a
    slab, its surface is straight. A slab is a layer with upright sides and the chamfers next to
    it, or a slanted layer."""
    slabs: list[Slab] = []
    for low, high in itertools.pairwise(levels):
        inset = 1e-3 * (high - low)
        lower, upper = _outline(mesh, low + inset, size), _outline(mesh, high - inset, size)
        if _same(lower, upper, size):
            lower = upper = _outline(mesh, (low + high) / 2, size)
        elif not (_within(lower, upper, size) or _within(upper, lower, size)):
            lower = upper = shapely.intersection(lower, upper)  # no piece of it would be convex
        layer: Slab = [(low, lower), (high, upper)]
        below: Slab = slabs[-1] if slabs and _same(slabs[-1][-1][1], lower, size) else []
        if below and _upright(below) and _upright(layer):
            below[-1] = high, below[-1][1]
        elif below and _upright(below) and _within(upper, lower, size):
            below.append(layer[-1])
        elif len(below) == 2 and _upright(layer) and _within(below[0][1], lower, size):
            below.append((high, below[-1][1]))
        else:
            slabs.append(layer)
    return slabs


def _upright(slab: Slab) -> bool:
    """Whether a slab ends with upright sides."""
    return slab[-1][1] is slab[-2][1]


def _outline(mesh: trimesh.Trimesh, height: float, size: float) -> Polygon:
    """The cross-section at a height: a MultiPolygon. Raises _Open."""
    rings = [ring.simplify(SMALLEST * size) for ring in _rings(mesh, height, 1e-6 * size)]
    cells = shapely.get_parts(shapely.polygonize([shapely.union_all(rings)]))
    lines = np.concatenate(
        [np.stack([c[:-1], c[1:]], 1) for c in map(shapely.get_coordinates, rings)]
    )
    inside = [cell for cell in cells if _winding(cell.representative_point(), lines)]
    return shapely.union_all(inside)


def _rings(mesh: trimesh.Trimesh, height: float, same: float) -> list[Any]:
    """The closed lines at a height, with the material on their left. Points nearer than `same` are
    one, since triangles may meet others in the middle of an edge. Raises _Open."""
    above = mesh.vertices[:, 2] > height
    cut = mesh.faces[above[mesh.faces].any(1) & ~above[mesh.faces].all(1)]
    lone = above[cut].sum(1) == 1  # corners above, else below
    first = np.where(lone, above[cut].argmax(1), (~above[cut]).argmax(1))
    rows = np.arange(len(cut))
    a, b, c = (mesh.vertices[cut[rows, (first + k) % 3]] for k in range(3))
    # Corners go round counterclockwise seen from outside. So if a is above, material is on the left
    # of the line from edge ac to edge ab.
    ends = [p + ((height - p[:, 2:]) / (q - p)[:, 2:]) * (q - p) for p, q in ((c, a), (b, a))]
    lines = np.where(lone[:, None, None], np.stack(ends, 1), np.stack(ends[::-1], 1))[..., :2]
    points = lines.reshape(-1, 2)
    pairs = cKDTree(points).query_pairs(same, output_type="ndarray")
    graph = coo_array((np.ones(len(pairs)), pairs.T), (len(points), len(points)))
    _, number = connected_components(graph, directed=False)
    points = points[np.unique(number, return_index=True)[1]]
    following: dict[int, list[int]] = {}
    for start, end in number.reshape(-1, 2).tolist():
        if start != end:
            following.setdefault(start, []).append(end)
    rings = []
    while following:
        ring = [next(iter(following))]
        while len(ring) < 2 or ring[-1] != ring[0]:
            if not (steps := following.get(ring[-1])):
                raise _Open
            ring.append(steps.pop())
            if not steps:
                del following[ring[-2]]
        if len(ring) > 3:
            rings.append(shapely.LineString(points[ring]))
    if not rings:
        raise _Open
    return rings


def _winding(point: Any, lines: Array) -> int:
    """How often directed lines (L, 2, 2) go around a point."""
    (x, y), (a, b) = (point.x, point.y), (lines[:, 0], lines[:, 1])
    up, down = (a[:, 1] <= y) & (b[:, 1] > y), (a[:, 1] > y) & (b[:, 1] <= y)
    side = (b[:, 0] - a[:, 0]) * (y - a[:, 1]) - (x - a[:, 0]) * (b[:, 1] - a[:, 1])
    return int((up & (side > 0)).sum() - (down & (side < 0)).sum())


def _same(a: Polygon, b: Polygon, size: float) -> bool:
    return bool(shapely.symmetric_difference(a, b).buffer(-SMALLEST * size).is_empty)


def _within(a: Polygon, b: Polygon, size: float) -> bool:
    return bool(shapely.difference(a, b).buffer(-SMALLEST * size).is_empty)


def _convex_corners(slab: Slab, size: float) -> Iterator[Array]:
    """The corners (P, 3) of each convex part of a slab: of each convex piece of its widest outline,
    at every height what of it is there."""
    widest = max((outline for _, outline in slab), key=lambda outline: outline.area)
    for polygon in _convex_polygons(widest, size):
        corners = []
        for height, outline in slab:
            there = polygon if outline is widest else polygon & outline
            ring = shapely.get_coordinates(there.convex_hull)
            corners.append(np.column_stack([ring, np.full(len(ring), height)]))
        points = np.concatenate(corners)
        if np.ptp(points[:, 2]) > SMALLEST * size:
            yield points


def _convex_polygons(outline: Polygon, size: float) -> list[Polygon]:
    """Convex polygons that together are an outline, but for what TOLERANCE allows."""
    found = []
    for polygon in shapely.get_parts(outline):
        simple = _with_fewer_corners(polygon, TOLERANCE * size)
        pieces = [shapely.Polygon(corners) for corners in _convex_partition(simple)]
        found += [p for p in pieces if not p.buffer(-SMALLEST * size).is_empty]
    return found


def _with_fewer_corners(polygon: Polygon, tolerance: float) -> Polygon:
    """A polygon inside of `polygon` that loses at most about `tolerance` anywhere."""
    polygon = shapely.orient_polygons(polygon)  # the material is on the left of each ring
    rings = [polygon.exterior, *polygon.interiors]
    shell, *holes = (_simple_ring(shapely.get_coordinates(r)[:-1], tolerance) for r in rings)
    simple = shapely.Polygon(shell, [hole for hole in holes if len(hole) > 2])
    return simple if simple.is_valid and polygon.buffer(tolerance).covers(simple) else polygon


def _simple_ring(ring: Array, tolerance: float) -> Array:
    """A ring (R, 2) with fewer corners, material on its left. Corners that stick out are cut off;
    edges between two corners that stick in are moved into the material, to where their neighbours
    meet. The least loss goes first."""
    corners = list(map(np.asarray, ring))
    lost = [0.0] * len(corners)
    while len(corners) > 4:
        best = tolerance
        change: tuple[int, Array | None] | None = None
        for i in range(len(corners)):
            a, b, c, d = (corners[(i + k) % len(corners)] for k in range(-1, 3))
            near = max(lost[(i + k) % len(corners)] for k in range(2))
            if _turn(a, b, c) >= 0:  # b sticks out, or lies on a line
                loss = near + _distance(b, a, c)
                if loss <= best:
                    best, change = loss, (i, None)
            elif _turn(b, c, d) < 0 and (meeting := _meeting(a, b, c, d)) is not None:
                loss = near + _distance(meeting, b, c)
                if loss <= best:
                    best, change = loss, (i, meeting)
        if change is None:
            break
        i, meeting = change
        if meeting is not None:
            corners[i], lost[i] = meeting, best
            i = (i + 1) % len(corners)
        else:
            for k in (i - 1, (i + 1) % len(corners)):
                lost[k] = max(lost[k], best)
        del corners[i], lost[i]
    return np.array(corners)


def _turn(a: Array, b: Array, c: Array) -> float:
    """Positive where a, b, c turn left."""
    return float((b[0] - a[0]) * (c[1] - b[1]) - (b[1] - a[1]) * (c[0] - b[0]))


def _distance(point: Array, a: Array, b: Array) -> float:
    """From a point to the line through a and b."""
    return abs(_turn(a, b, point)) / max(float(np.hypot(*(b - a))), 1e-30)


def _meeting(a: Array, b: Array, c: Array, d: Array) -> Array | None:
    """Where a line from a beyond b meets one from d beyond c, if both lie ahead."""
    u, v = b - a, c - d
    cross = float(u[0] * v[1] - u[1] * v[0])
    if abs(cross) < 1e-30:
        return None
    w = c - b
    s, t = (w[0] * v[1] - w[1] * v[0]) / cross, (w[0] * u[1] - w[1] * u[0]) / cross
    return b + s * u if s > 0 and t > 0 else None


def _convex_partition(polygon: Polygon) -> list[Array]:
    """Corners (C, 2) of convex polygons that make up one with holes: triangles, of which those that
    are convex together are merged (Hertel and Mehlhorn, 1983)."""
    points: list[tuple[float, float]] = []
    number: dict[tuple[float, float], int] = {}
    loops: dict[int, Loop] = {}
    owner: dict[tuple[int, int], int] = {}  # of each directed edge
    triangles = shapely.get_parts(shapely.constrained_delaunay_triangles(polygon))
    for k, triangle in enumerate(triangles):
        ring = shapely.get_coordinates(shapely.orient_polygons(triangle))[:-1]
        loops[k] = []
        for corner in map(tuple, ring.tolist()):
            if corner not in number:
                number[corner] = len(points)
                points.append(corner)
            loops[k].append(number[corner])
        owner |= dict.fromkeys(_edges(loops[k]), k)
    at = np.array(points)
    shared = [(i, j) for i, j in owner if i < j and (j, i) in owner]
    shared.sort(key=lambda edge: -float(np.hypot(*(at[edge[0]] - at[edge[1]]))))
    for i, j in shared:
        one, other = owner[i, j], owner[j, i]
        if one == other:
            continue
        a, b = _starting(loops[one], j), _starting(loops[other], i)  # j ... i and i ... j
        if _turn(at[a[-2]], at[i], at[b[1]]) < 0 or _turn(at[b[-2]], at[j], at[a[1]]) < 0:
            continue
        loops[one] = a + b[1:-1]
        del loops[other]
        owner |= dict.fromkeys(_edges(loops[one]), one)
    return [at[loop] for loop in loops.values()]


def _edges(loop: Loop) -> list[tuple[int, int]]:
    return list(zip(loop, loop[1:] + loop[:1], strict=True))


def _starting(loop: Loop, first: int) -> Loop:
    """A loop from `first` on."""
    k = loop.index(first)
    return loop[k:] + loop[:k]
