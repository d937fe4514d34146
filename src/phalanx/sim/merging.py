"""Merges neighbouring convex parts of a split mesh, while their common hull adds little.

    merged(parts, tolerance=0.001, most=64, vertices=0)

The search for parts cuts a mesh into many more than are needed. CoACD's own merging compares
samples of every pair of parts, which takes most of its time; this one computes how far the hull of
two neighbours lies outside them, from their planes.
"""

import heapq
import itertools

import numpy as np
from scipy.spatial import ConvexHull, QhullError

from phalanx.sim.mesh_files import Array, Faces

SAMPLES = np.array([[1, 1, 1], [1.5, 1.5, 0], [1.5, 0, 1.5], [0, 1.5, 1.5]]) / 3
"""Barycentric coordinates on each triangle of a hull where its distance is computed."""
DIRECTIONS = np.array([*itertools.product((-1, 1), repeat=3), *np.eye(3), *-np.eye(3)])
"""Where a part's furthest corners are looked for, to see at once that two parts do not fit."""


class _Part:
    """A convex body. points (V, 3), planes (F, 4) with normals outwards, ends (E, 3)."""

    def __init__(self, points: Array) -> None:
        hull = ConvexHull(points)
        self.points = points[hull.vertices]
        self.planes = np.unique(hull.equations.round(9), axis=0)
        self.corners = points[hull.simplices]  # (F, 3, 3)
        self.ends = self.points[np.unique((self.points @ DIRECTIONS.T).argmax(0))]
        self.low, self.high = self.points.min(0), self.points.max(0)

    def outside(self, points: Array) -> Array:
        """How far points (N, 3) are outside (N,), at least; negative inside."""
        return np.asarray((points @ self.planes[:, :3].T + self.planes[:, 3]).max(1))


def merged(
    parts: list[tuple[Array, Faces]], tolerance: float, most: int, vertices: int
) -> list[tuple[Array, Faces]]:
    """Fewer convex meshes. Two neighbours are merged while their hull is no further than tolerance
    [m] outside them, the closest first; if there are still more than `most` (-1: no limit), more
    than that, too. vertices: most of a part, furthest first, or 0 for no limit."""
    solid = [points for points, _ in parts if _volume(points) > 0]
    bodies = {k: _Part(points) for k, points in enumerate(solid)}
    numbers = itertools.count(len(solid))
    queue = _pairs(bodies, tolerance)
    hulls: dict[tuple[int, int], _Part] = {}
    while True:
        too_many = 0 < most < len(bodies)
        if too_many and not queue:
            queue = _pairs(bodies, np.inf)
        if not queue or (queue[0][0] > tolerance and not too_many):
            return [_mesh(body.points, vertices) for body in bodies.values()]
        _, a, b = heapq.heappop(queue)
        if a not in bodies or b not in bodies:
            continue
        if (a, b) not in hulls:  # what is known of the distance so far is less
            hulls[a, b] = hull = _Part(np.vstack([bodies[a].points, bodies[b].points]))
            points = (SAMPLES @ hull.corners).reshape(-1, 3)
            heapq.heappush(queue, (_distance(points, bodies[a], bodies[b]), a, b))
            continue
        del bodies[a], bodies[b]
        whole, number = hulls.pop((a, b)), next(numbers)
        for k, body in bodies.items():
            if _near(body, whole, tolerance):
                heapq.heappush(queue, (_least(body, whole), k, number))
        bodies[number] = whole


def _pairs(bodies: dict[int, _Part], gap: float) -> list[tuple[float, int, int]]:
    """Parts no further apart than a gap [m], each pair with the least that its distance can be."""
    queue = [
        (_least(bodies[a], bodies[b]), a, b)
        for a, b in itertools.combinations(bodies, 2)
        if _near(bodies[a], bodies[b], gap)
    ]
    heapq.heapify(queue)
    return queue


def _volume(points: Array) -> float:
    """Of their hull [m^3]; 0 if they are in a plane."""
    try:
        return float(ConvexHull(points).volume)
    except QhullError:
        return 0.0


def _near(a: _Part, b: _Part, gap: float) -> bool:
    return bool((a.low <= b.high + gap).all() and (b.low <= a.high + gap).all())


def _distance(points: Array, a: _Part, b: _Part) -> float:
    """How far the furthest of the points is outside two parts [m]."""
    return float(np.minimum(a.outside(points), b.outside(points)).max())


def _least(a: _Part, b: _Part) -> float:
    """The same of the middles between corners of the parts, which are in their hull."""
    return _distance((a.ends[:, None] + b.ends).reshape(-1, 3) / 2, a, b)


def _mesh(points: Array, vertices: int) -> tuple[Array, Faces]:
    """The hull of points, with no more than so many vertices."""
    import trimesh

    if 0 < vertices < len(points):
        points = points[ConvexHull(points, qhull_options=f"Qt TA{vertices - 4}").vertices]
    hull = trimesh.convex.convex_hull(points)
    return np.array(hull.vertices, float), np.array(hull.faces, np.int64)
