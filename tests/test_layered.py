"""Meshes made of layers: their convex parts, against volumes and holes known by hand [mm]."""

import numpy as np
import pytest
import trimesh

pytest.importorskip("coacd", reason="needs phalanx[decompose]")
pytest.importorskip("shapely", reason="needs phalanx[decompose]")

from isaac import GYM, World, options, pose
from phalanx.sim.layered import layered_parts


def ring(half, corners, square=False):
    """Points (corners, 2) at equal angles, on a circle of radius `half` or a square's outline."""
    angles = 2 * np.pi * np.arange(corners) / corners
    points = np.stack([np.cos(angles), np.sin(angles)], 1)
    return half * points / (np.abs(points).max(1, keepdims=True) if square else 1.0)


def solid(rows):
    """A closed mesh with a hole, from heights and rings around its section, in order."""
    count = len(rows[0][1])
    vertices = np.concatenate([np.column_stack([xy, np.full(count, z)]) for z, xy in rows])
    faces = []
    for row in range(len(rows)):
        for k in range(count):
            a, b = row * count + k, row * count + (k + 1) % count
            c, d = ((row + 1) % len(rows) * count + n for n in (k, (k + 1) % count))
            faces += [(a, b, d), (a, d, c)]
    return vertices, np.array(faces)


def plate(hole, corners, square, chamfer=0.0):
    """40 x 40 x 10 mm, with a hole through it that a chamfer widens in the upper 2 mm."""
    outer = ring(20.0, corners, square=True)
    rows = [(0.0, outer), (10.0, outer), (10.0, ring(hole + chamfer, corners, square))]
    if chamfer:
        rows.append((8.0, ring(hole, corners, square)))
    return solid([*rows, (0.0, ring(hole, corners, square))])


def reach(parts):
    """How near the parts come to the axis, at heights below 8."""
    nearest = np.inf
    for vertices, faces in parts:
        mesh = trimesh.Trimesh(vertices, faces, process=False)
        for height in (1.0, 5.0, 7.0):
            lines = trimesh.intersections.mesh_plane(mesh, [0, 0, 1], [0, 0, height])[..., :2]
            a, along = lines[:, 0], lines[:, 1] - lines[:, 0]
            share = np.clip(-(a * along).sum(1) / np.maximum((along**2).sum(1), 1e-12), 0, 1)
            nearest = min(nearest, *np.linalg.norm(a + share[:, None] * along, axis=1), np.inf)
    return nearest


def volume(parts):
    return sum(trimesh.Trimesh(*part, process=False).volume for part in parts)


def turned(vertices, axis):
    """The same with z along another axis."""
    return np.roll(vertices, axis + 1, 1)


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_a_square_hole_keeps_its_corners(axis):
    vertices, faces = plate(5.0, 8, square=True)
    parts = layered_parts(turned(vertices, axis), faces)
    assert len(parts) == 4
    assert volume(parts) == pytest.approx(40 * 40 * 10 - 10 * 10 * 10, rel=1e-6)
    assert all(trimesh.Trimesh(*part, process=False).is_convex for part in parts)


@pytest.mark.parametrize("chamfer", [0.0, 1.0])
def test_a_round_hole_becomes_no_narrower(chamfer):
    """A circle of 256 corners gets fewer, each at most 40 mm / 1000 further out; a chamfer is a
    frustum of (5^2 + 5 * 6 + 6^2) / 3 mm^2 on the average."""
    parts = layered_parts(*plate(5.0, 256, square=False, chamfer=chamfer))
    assert 16 < len(parts) < 64
    circle = 128 * np.sin(2 * np.pi / 256)  # area of the polygon over that of its radius squared
    mean = (25 + 30 + 36) / 3 if chamfer else 25
    expected = 16000 - circle * (8 * 25 + 2 * mean)
    assert 0.995 * expected < volume(parts) < 1.0005 * expected
    assert 5 * np.cos(np.pi / 256) - 0.004 <= reach(parts) <= 5.05


def test_levels_within_sides_and_overlapping_bodies_change_nothing():
    """A mesh that is refined, with a post that stands in the plate as a body of its own."""
    vertices, faces = plate(5.0, 8, square=True)
    post = trimesh.creation.box([4.0, 4.0, 20.0]).apply_translation([14.0, 0.0, 10.0])
    both = trimesh.util.concatenate([trimesh.Trimesh(vertices, faces), post]).subdivide()
    parts = layered_parts(np.array(both.vertices), np.array(both.faces))
    assert volume(parts) == pytest.approx(15000 + 4 * 4 * 10, rel=1e-4)
    assert len(parts) < 20


def test_what_is_not_made_of_layers_is_left_alone():
    ball = trimesh.creation.icosphere(2)
    open_box = trimesh.Trimesh(*plate(5.0, 8, square=True))
    open_box.update_faces(np.arange(len(open_box.faces)) > 3)
    for mesh in (ball, open_box):
        assert layered_parts(np.array(mesh.vertices), np.array(mesh.faces)) == []


HOLE = """<robot name="p"><link name="p"><collision><geometry>
  <mesh filename="plate.obj" scale="0.001 0.001 0.001"/></geometry><sdf resolution="64"/>
  </collision></link></robot>"""


def test_what_is_narrower_than_a_hole_falls_through_and_what_is_wider_does_not(tmp_path):
    """A plate from 0 to 10 mm with a square hole of 10 mm: a peg of 9.8 mm falls through it, one of
    11 mm and 30 mm length stands on it with its centre at 25 mm. On a round hole of radius 5 mm a
    ball of 6 mm has its centre sqrt(6^2 - 5^2) = 3.32 mm above the edge."""
    world = World(dt=1 / 120, substeps=4)
    plates = []
    for square in (True, False):
        (tmp_path / str(square)).mkdir()
        mesh = trimesh.Trimesh(*plate(5.0, 64, square))
        (tmp_path / str(square) / "plate.obj").write_text(trimesh.exchange.obj.export_obj(mesh))
        held = world.load(tmp_path / str(square), "plate.urdf", HOLE, fix_base_link=True)
        plates.append(held)
    things = [GYM.create_box(world.sim, d, d, 0.03, options()) for d in (0.0098, 0.011)]
    things += [GYM.create_sphere(world.sim, r, options()) for r in (0.0049, 0.006)]
    for k, thing in enumerate(things):
        GYM.create_actor(world.env(), plates[k // 2], pose(), "plate", k, 0, 0)
        GYM.create_actor(world.envs[k], thing, pose(z=(0.0251, 0.0134)[k // 2]), "thing", k, 0, 0)
    world.step(40)
    heights = world.tensor("actor_root_state")[1::2, 2].tolist()
    assert max(heights[0], heights[2]) < -0.1
    assert [heights[1], heights[3]] == pytest.approx([0.025, 0.01332], abs=5e-4)
