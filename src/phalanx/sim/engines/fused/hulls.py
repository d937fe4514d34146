"""Convex hulls of meshes as tables: corners with their neighbours, and faces with their corners."""

import mujoco
import numpy as np

from phalanx.sim.engines.fused.placing import starts
from phalanx.sim.engines.fused.structure import Structure

MESH = mujoco.mjtGeom.mjGEOM_MESH
CORNER, FACE = 6, 5
"""Columns of the tables of corners and faces."""
OCTANTS = 8


def hulls(s: Structure) -> list[int]:
    """Meshes of `s.geoms`."""
    m = s.model
    return sorted({int(m.geom_dataid[g]) for g in s.geoms if m.geom_type[g] == MESH})


def has_hull(m: mujoco.MjModel, geom: int) -> bool:
    """Whether MuJoCo made a hull of a mesh geom."""
    return bool(m.mesh_graphadr[m.geom_dataid[geom]] >= 0)


def tables(s: Structure) -> dict[str, np.ndarray]:
    """All hulls, one after the other; corners and faces are numbered within their own.

    hull_corner: place [m], where its neighbours begin, where its faces begin and how many they are.
    hull_neighbour: lists that end with -1. hull_face: normal, where its corners begin, how many.
    """
    m = s.model
    parts: dict[str, list[np.ndarray]] = {name: [np.zeros((0, n))] for name, n in _WIDTHS.items()}
    many = dict.fromkeys(parts, 0)
    for mesh in hulls(s):
        for name, rows in _hull(m, mesh, many).items():
            parts[name].append(rows)
        many = {name: sum(len(rows) for rows in some) for name, some in parts.items()}
    return {name: np.concatenate(some) for name, some in parts.items()}


_WIDTHS = {"hull_corner": CORNER, "hull_neighbour": 1, "hull_corner_face": 1, "hull_face": FACE,
           "hull_face_corner": 1}  # fmt: skip


def _hull(m: mujoco.MjModel, mesh: int, many: dict[str, int]) -> dict[str, np.ndarray]:
    graph, first = m.mesh_graph[m.mesh_graphadr[mesh] :], m.mesh_vertadr[mesh]
    count, faces = int(graph[0]), int(graph[1])
    begins, ids, neighbours = np.split(graph[2 : 2 + 3 * count + 3 * faces], [count, 2 * count])
    local = {int(vertex): i for i, vertex in enumerate(ids)}
    met = [m.mesh_polymap[a : a + n] for a, n in zip(
        m.mesh_polymapadr[first + ids], m.mesh_polymapnum[first + ids], strict=True)]  # fmt: skip
    polygons = range(m.mesh_polyadr[mesh], m.mesh_polyadr[mesh] + m.mesh_polynum[mesh])
    corners = [
        [local[int(v)] for v in m.mesh_polyvert[m.mesh_polyvertadr[k] :][: m.mesh_polyvertnum[k]]]
        for k in polygons
    ]
    many_met = [len(some) for some in met]
    corner_rows = [
        [*m.mesh_vert[first + v], start + many["hull_neighbour"], at + many["hull_corner_face"], n]
        for v, start, at, n in zip(ids, begins, starts(many_met), many_met, strict=False)
    ]
    face_rows = [
        [*m.mesh_polynormal[k], at + many["hull_face_corner"], len(own)]
        for k, at, own in zip(polygons, starts(list(map(len, corners))), corners, strict=False)
    ]
    return {
        "hull_corner": np.array(corner_rows, float).reshape(-1, CORNER),
        "hull_neighbour": neighbours[:, None].astype(float),
        "hull_corner_face": np.concatenate([*met, np.zeros(0)])[:, None],
        "hull_face": np.array(face_rows, float).reshape(-1, FACE),
        "hull_face_corner": np.concatenate([*map(np.array, corners), np.zeros(0)])[:, None],
    }


def constants(s: Structure) -> tuple[dict[str, int], dict[str, list[int]]]:
    """Numbers of the hulls, and of each of `s.geoms` its type, where its corners and faces begin,
    and its farthest corners along (-1, -1, -1), (1, -1, -1), ... (1, 1, 1)."""
    m, ids = s.model, hulls(s)
    corners = [int(m.mesh_graph[m.mesh_graphadr[i]]) for i in ids]
    faces = [int(m.mesh_polynum[i]) for i in ids]
    sides, meeting = [16], [3]  # of a cylinder's face; at a box's corner
    for i in ids:
        first, at = m.mesh_vertadr[i], m.mesh_polyadr[i]
        sides += m.mesh_polyvertnum[at : at + m.mesh_polynum[i]].tolist()
        meeting += m.mesh_polymapnum[first : first + m.mesh_vertnum[i]].tolist()
    begins = dict(zip(ids, zip(starts(corners), starts(faces), strict=True), strict=False))
    farthest = {i: _farthest(m, i) for i in ids} | {-1: OCTANTS * [0]}
    meshes = _meshes(s)
    of_geoms = [begins.get(mesh, (0, 0)) for mesh in meshes]
    numbers = {"HAS_HULLS": int(bool(ids)), "SIDES": max(sides), "MEETING": max(meeting),
               "CORNER": CORNER, "FACE": FACE, "OCTANTS": OCTANTS}  # fmt: skip
    return numbers, {
        "GEOM_SHAPE": [int(m.geom_type[g]) for g in s.geoms],
        "HULL_CORNER0": [corner for corner, _ in of_geoms],
        "HULL_FACE0": [face for _, face in of_geoms],
        "HULL_FARTHEST": [corner for mesh in meshes for corner in farthest[mesh]],
    }


def _farthest(m: mujoco.MjModel, mesh: int) -> list[int]:
    """A hull's corner that is farthest in the middle of each octant."""
    graph = m.mesh_graph[m.mesh_graphadr[mesh] :]
    count = int(graph[0])
    places = m.mesh_vert[m.mesh_vertadr[mesh] + graph[2 + count : 2 + 2 * count]]
    signs = [[1 if k >> j & 1 else -1 for j in range(3)] for k in range(OCTANTS)]
    return [int(k) for k in (places @ np.transpose(signs)).argmax(0)]


def many_faces(s: Structure) -> list[int]:
    """How many each of `s.geoms` has, 0 if it is not a hull."""
    return [int(s.model.mesh_polynum[i]) if i >= 0 else 0 for i in _meshes(s)]


def _meshes(s: Structure) -> list[int]:
    """The mesh of each of `s.geoms`, -1 if it is none."""
    m = s.model
    return [int(m.geom_dataid[g]) if m.geom_type[g] == MESH else -1 for g in s.geoms]
