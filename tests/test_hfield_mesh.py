"""Triangles of height fields, against MuJoCo Warp's own."""

import mujoco
import numpy as np
import pytest
from mujoco_warp._src import bvh

from phalanx.sim.engines import hfield_mesh
from phalanx.sim.engines.hfield_mesh import quick_hfields, triangles

HALF = (1.0, 2.0)


def height(points, indices, at):
    """Height of the surface over `at` (K, 2)."""
    corners = points[indices.reshape(-1, 3)].astype(float)
    a, ab, ac = corners[:, 0], corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]
    found = []
    for point in at:
        u, v = np.linalg.solve(np.stack([ab[:, :2], ac[:, :2]], -1), (point - a[:, :2])[..., None])[
            ..., 0
        ].T
        (inside,) = np.nonzero((u >= -1e-9) & (v >= -1e-9) & (u + v <= 1 + 1e-9))
        found.append(
            a[inside[0], 2] + u[inside[0]] * ab[inside[0], 2] + v[inside[0]] * ac[inside[0], 2]
        )
    return np.array(found)


def terrain(kind):
    rng = np.random.default_rng(0)
    rough = rng.random((30, 20))
    x, y = np.linspace(0, 0.5, 150), np.linspace(0, 0.5, 140)[:, None]
    return {
        "rough": rough,
        "steps": np.kron(rng.integers(0, 3, (6, 4)) / 2, np.ones((5, 5))),
        "slope": x + y,
        "flat": np.zeros((140, 150)),
        "one row of cells": rough[:2],
    }[kind].astype(np.float32)


@pytest.mark.parametrize(
    ("kind", "most"),  # triangles: of 29 x 19 cells, of plates and walls, of 3 x 3 rectangles
    [("rough", 1102), ("steps", 600), ("slope", 18), ("flat", 18), ("one row of cells", 38)],
)
def test_the_surface_is_that_of_the_heights(kind, most):
    heights = terrain(kind)
    rows, columns = heights.shape
    points, indices = triangles(heights, *HALF, 3.0)
    their_points, their_indices = bvh._optimize_hfield_mesh(
        heights, rows, columns, *HALF, 3.0, (columns - 1) / 2, (rows - 1) / 2
    )
    at = np.random.default_rng(1).uniform(-1, 1, (100, 2)) * HALF
    theirs = height(their_points, their_indices, at)
    assert height(points, indices, at) == pytest.approx(theirs, abs=2e-5)
    assert len(indices) / 3 <= most
    normal = np.cross(*(points[indices[k]] - points[indices[0]] for k in (1, 2)))
    their = np.cross(
        *(their_points[their_indices[k]] - their_points[their_indices[0]] for k in (1, 2))
    )
    assert np.sign(normal[2]) == np.sign(their[2])


def test_mujoco_warp_takes_them(monkeypatch):
    asked = []
    monkeypatch.setattr(hfield_mesh, "triangles", lambda *a: asked.append(a) or triangles(*a))
    spec = mujoco.MjSpec()
    heights = terrain("rough")
    spec.add_hfield(name="h", nrow=30, ncol=20, size=[1, 2, 3, 0.1], userdata=heights.ravel())
    spec.worldbody.add_geom(type=mujoco.mjtGeom.mjGEOM_HFIELD, hfieldname="h")
    with quick_hfields():
        mesh, half = bvh.build_hfield_bvh(spec.compile(), 0)
    assert len(asked) == 1
    assert len(mesh.points) == 600
    assert np.array(half)[:2] == pytest.approx(HALF)
