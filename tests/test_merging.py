"""Merging of convex parts, on boxes whose hulls are known."""

import numpy as np
import pytest

trimesh = pytest.importorskip("trimesh", reason="needs phalanx[decompose]")
pytest.importorskip("scipy", reason="needs phalanx[decompose]")
merged = pytest.importorskip("phalanx.sim.merging").merged


def box(low, high):
    mesh = trimesh.creation.box(bounds=[low, high])
    return np.array(mesh.vertices), np.array(mesh.faces)


def volumes(parts):
    return sorted(trimesh.Trimesh(*part).volume for part in parts)


# A bar of three boxes along x, and one that stands on its end: an L with legs of 0.3 and 0.3 m.
BAR = [box((0.1 * k, 0, 0), (0.1 * (k + 1), 0.1, 0.1)) for k in range(3)]
ELL = [*BAR, box((0, 0, 0.1), (0.1, 0.1, 0.3))]


def test_boxes_in_a_row_become_one_and_a_corner_stays_open():
    assert volumes(merged(BAR, 1e-6, -1, 0)) == pytest.approx([0.003])
    assert volumes(merged(ELL, 1e-6, -1, 0)) == pytest.approx([0.002, 0.003])


def test_a_corner_is_filled_if_its_depth_is_tolerated_or_there_may_be_one_part():
    """The hull adds a triangle with legs of 0.2 m, whose middle, on the line from (0.3, 0.1) to
    (0.1, 0.3), is 0.1 m from each box."""
    assert len(merged(ELL, 0.08, -1, 0)) == 2
    for tolerance, most in ((0.11, -1), (1e-6, 1)):
        filled = 0.005 + 0.2 * 0.2 / 2 * 0.1
        assert volumes(merged(ELL, tolerance, most, 0)) == pytest.approx([filled])


def test_parts_that_do_not_touch_stay_two_unless_there_may_be_one():
    apart = [BAR[0], BAR[2]]
    assert len(merged(apart, 0.01, -1, 0)) == 2
    assert volumes(merged(apart, 0.01, 1, 0)) == pytest.approx([0.003])


def test_a_part_without_volume_is_left_out_and_a_limit_of_corners_holds():
    flat = np.array([[0.0, 0, 0], [1, 0, 0], [0, 1, 0], [1, 1, 0]]), np.array([[0, 1, 2]])
    assert volumes(merged([flat, BAR[0]], 1e-6, -1, 0)) == pytest.approx([0.001])
    ball = trimesh.creation.icosphere(subdivisions=3, radius=0.1)
    ((points, faces),) = merged([(ball.vertices, ball.faces)], 1e-6, -1, 32)
    assert len(points) <= 32
    assert trimesh.Trimesh(points, faces).volume > 0.7 * ball.volume  # 32 corners on a sphere
