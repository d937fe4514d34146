"""Points of shapes that touch height fields and meshes of the ground; see `terrain.py`.

Each is a sphere inside a shape that touches the shape's surface:

    sphere, capsule    spheres of its own radius, along the axis
    box                corners and points of the edges
    cylinder           points of both rims and of rings between them
    mesh               corners of its hull, far from each other
    ellipsoid          14 points of its surface

A limb thinner than `THIN` is a row of spheres of its own thickness. Points are at most `SPACING`
apart, unless that takes more than `MOST_ALONG` in a row. Narrower tips of the ground may reach
between them.
"""

import dataclasses

import mujoco
import numpy as np

from isaacgym.asset import Asset, rotation
from isaacgym.world import Actor

SPACING = 0.15  # [m] along edges and axes
MOST_ALONG = 5
THIN = 0.02  # [m] from the middle to the surface
POINT = 0.001  # [m] radius of a corner
MERGED = 0.005  # [m] half length that is treated as zero
RIPPLE = 0.002  # [m] by which a rolling cylinder rises and falls; large ones do so more
FEWEST_AROUND, MOST_AROUND = 6, 16  # points of a rim
MOST_OF_MESH = 16
CLOSE = 0.02  # [m] distance of corners of a mesh at which one point serves both

Spheres = tuple[np.ndarray, float]
"""Centres (points, 3) in the frame of the shape, and their radius [m]."""


@dataclasses.dataclass
class ContactPoints:
    """The P contact points of one environment."""

    actor: np.ndarray
    """(P,) number of the actor in the environment."""
    body: np.ndarray
    """(P,) row among the bodies of the environment."""
    shape: np.ndarray
    """(P,) row among the shapes of the environment."""
    pos: np.ndarray
    """(P, 3) in the frame of the body [m], at scale 1."""
    radius: np.ndarray
    """(P,) [m], at scale 1."""

    def __len__(self) -> int:
        return len(self.actor)


def contact_points(actors: list[Actor]) -> ContactPoints:
    """Points of all shapes that can move."""
    columns: list[list[np.ndarray]] = [[] for _ in dataclasses.fields(ContactPoints)]
    first_shape = 0
    for a, actor in enumerate(actors):
        asset = actor.asset
        for shape in np.argsort(asset.shape_body, kind="stable"):
            geom = int(asset.shape_geoms[shape])
            body = int(asset.shape_body[shape])
            if asset.model.body_weldid[body + 1] == 0:
                continue
            pos, radius = points_of(asset, geom)
            rows = (a, actor.first_body + body, first_shape + shape)
            values = [*(np.full(len(pos), row) for row in rows), pos, np.full(len(pos), radius)]
            for column, value in zip(columns, values, strict=True):
                column.append(value)
        first_shape += len(asset.shape_geoms)
    empty = [np.zeros(0, int)] * 3 + [np.zeros((0, 3)), np.zeros(0)]
    return ContactPoints(
        *(np.concatenate([none, *column]) for none, column in zip(empty, columns, strict=True))
    )


def points_of(asset: Asset, geom: int) -> Spheres:
    """Centres (points, 3) in the frame of the body, and radius [m], for a geom of the asset."""
    model = asset.model
    size = model.geom_size[geom]
    match model.geom_type[geom]:
        case mujoco.mjtGeom.mjGEOM_SPHERE:
            pos, radius = np.zeros((1, 3)), size[0]
        case mujoco.mjtGeom.mjGEOM_CAPSULE:
            pos, radius = _row(size[1]), size[0]
        case mujoco.mjtGeom.mjGEOM_CYLINDER:
            pos, radius = _cylinder(size[0], size[1])
        case mujoco.mjtGeom.mjGEOM_ELLIPSOID:
            corners = np.array(np.meshgrid(*[[-1, 1]] * 3)).reshape(3, -1).T / np.sqrt(3)
            pos, radius = np.concatenate([np.eye(3), -np.eye(3), corners]) * (size - POINT), POINT
        case mujoco.mjtGeom.mjGEOM_MESH:
            pos, radius = _mesh(model, int(model.geom_dataid[geom]))
        case _:
            pos, radius = _box(size)
    turn = rotation(model.geom_quat[geom])
    return pos @ turn.T + model.geom_pos[geom], float(radius)


def _along(half: float) -> np.ndarray:
    """Coordinates from -half to half, `SPACING` apart or less if that takes not too many."""
    if half < MERGED:
        return np.zeros(1)
    return np.linspace(-half, half, min(int(np.ceil(2 * half / SPACING)) + 1, MOST_ALONG))


def _row(half: float) -> np.ndarray:
    z = _along(half)
    return np.stack([0 * z, 0 * z, z], -1)


def _rounding(half: float) -> float:
    """Radius [m] of the spheres in a shape of this half thickness [m]."""
    return half if half <= THIN else POINT


def _box(size: np.ndarray) -> Spheres:
    radius = _rounding(min(size))
    axes = [_along(half) for half in size - radius]
    grid = np.stack(np.meshgrid(*axes, indexing="ij"), -1).reshape(-1, 3)
    ends = np.isclose(np.abs(grid), [abs(axis[-1]) for axis in axes])
    return grid[ends.sum(1) >= 2], radius


def _cylinder(radius: float, half: float) -> Spheres:
    if radius <= THIN:
        rounding = min(radius, half)
        return _row(half - rounding), rounding
    rounding = _rounding(half)
    ring = radius - rounding
    wanted = int(np.ceil(np.pi / np.arccos(1 - min(RIPPLE / radius, 0.5))))
    angles = np.linspace(0, 2 * np.pi, np.clip(wanted, FEWEST_AROUND, MOST_AROUND) + 1)[:-1]
    x, y = ring * np.cos(angles), ring * np.sin(angles)
    rings = [np.stack([x, y, np.full_like(x, z)], -1) for z in _along(half - rounding)]
    return np.concatenate(rings), rounding


def _mesh(model: mujoco.MjModel, mesh: int) -> Spheres:
    """Corners of the hull: first the one farthest from the centre, then always the one farthest
    from those before."""
    first, count = model.mesh_vertadr[mesh], model.mesh_vertnum[mesh]
    corners = model.mesh_vert[first : first + count].astype(float)
    hull = model.mesh_graphadr[mesh]
    if hull >= 0:
        number = model.mesh_graph[hull]
        ids = model.mesh_graph[hull + 2 + number : hull + 2 + 2 * number]
        corners = corners[ids]
    distance = np.linalg.norm(corners, axis=1)
    chosen = [int(distance.argmax())]
    distance = np.full(len(corners), np.inf)
    while len(chosen) < MOST_OF_MESH:
        distance = np.minimum(distance, np.linalg.norm(corners - corners[chosen[-1]], axis=1))
        if distance.max() < CLOSE:
            break
        chosen.append(int(distance.argmax()))
    pos = corners[chosen]
    length = np.linalg.norm(pos, axis=1, keepdims=True)
    return pos * (1 - POINT / np.maximum(length, POINT)), POINT
