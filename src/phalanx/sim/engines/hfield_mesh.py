"""Height fields as triangles for MuJoCo Warp's renderer.

MuJoCo Warp merges cells of one plane in a loop over all cells in Python, which takes minutes for
the terrains of walking robots. Here arrays do, with the same triangles for cells that are not flat.
"""

import contextlib
from collections.abc import Iterator
from typing import Any

import numpy as np
from mujoco_warp._src import bvh

SAME = 1e-6  # of the height field's height: what differs by less lies in one plane
LONGEST = 64  # cells of a merged rectangle, along either edge, so that differences do not add up


def triangles(
    heights: np.ndarray, x_half: float, y_half: float, z_scale: float
) -> tuple[np.ndarray, np.ndarray]:
    """Vertices (V, 3) [m] and indices (3 T,) of heights (rows, columns) over a rectangle with these
    half edges [m]; two triangles for each rectangle of cells that lie in one plane."""
    rows, columns = heights.shape
    z = heights.astype(np.float64)
    along_x, along_y = z[:-1, 1:] - z[:-1, :-1], z[1:, :-1] - z[:-1, :-1]
    flat = np.abs(z[1:, 1:] - z[1:, :-1] - along_x) < SAME  # (rows - 1, columns - 1)

    def one_plane(these: tuple[np.ndarray, ...], those: tuple[np.ndarray, ...]) -> np.ndarray:
        slopes = (np.abs(a[these] - a[those]) < SAME for a in (along_x, along_y))
        same: np.ndarray = flat[these] & flat[those] & np.logical_and(*slopes)
        return same

    # Runs of cells in a row, then equal runs of rows below each other.
    row, column = np.ogrid[: rows - 1, : columns - 1]
    begins = (column % LONGEST == 0) | ~one_plane((row, column), (row, column - 1))
    top, left = np.nonzero(begins)
    right = np.append(left[1:], 0)
    right[right == 0] = columns - 1
    run = np.full(flat.shape, -1)
    run[top, left] = np.arange(len(top))
    above = run[top - 1, left]
    joins = (top % LONGEST > 0) & (above >= 0) & (right[above] == right)
    joins &= one_plane((top, left), (top - 1, left))
    first = np.where(joins, above, np.arange(len(top)))
    for _ in range(LONGEST.bit_length()):  # from each run to the first of its rectangle
        first = first[first]
    high = np.bincount(first, minlength=len(top))
    top, left, right, high = (a[high > 0] for a in (top, left, right, high))

    corners = [(top, left), (top, right), (top + high, right), (top + high, left)]
    quads = np.stack([r * columns + c for r, c in corners], -1)
    used = np.zeros(rows * columns, bool)
    used[quads] = True
    places = np.flatnonzero(used)
    indices = (np.cumsum(used) - 1)[quads[:, [0, 1, 2, 0, 2, 3]]]
    y, x = np.divmod(places, columns)
    points = np.stack([
        x_half * (2 * x / max(columns - 1, 1) - 1),
        y_half * (2 * y / max(rows - 1, 1) - 1),
        z.ravel()[places] * z_scale,
    ], -1)  # fmt: skip
    return points.astype(np.float32), indices.ravel().astype(np.int32)


@contextlib.contextmanager
def quick_hfields() -> Iterator[None]:
    """Inside, MuJoCo Warp makes its triangles of height fields by `triangles`."""

    def ours(heights: np.ndarray, *args: Any) -> tuple[np.ndarray, np.ndarray]:
        _, _, x_half, y_half, z_scale, *_ = args  # after the numbers of rows and columns
        return triangles(heights, x_half, y_half, z_scale)

    theirs = bvh._optimize_hfield_mesh
    bvh._optimize_hfield_mesh = ours
    try:
        yield
    finally:
        bvh._optimize_hfield_mesh = theirs
