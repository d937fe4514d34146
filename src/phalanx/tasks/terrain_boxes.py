"""Ground with vertical edges: cells of a map that are level, as few boxes.

    boxes = cover(heights, (80, 80))        # of cells (n, m) [m], the first of which is that one
    bury(field, tops)

Boxes stand on one bottom, so that the highest at a place is the ground. A box may go on below
higher ones: stairs that lead down are nested boxes, and no seam runs through a step.
"""

import numpy as np

from phalanx.errors import PhalanxError
from phalanx.tasks.terrain_kinds import DEEP

Array = np.ndarray
Corner = tuple[int, int]
Rectangle = tuple[Corner, Corner, float]
"""First cell, last cell + 1 and height [m] of a box."""

MOST = 30_000
"""Boxes of a map; MuJoCo takes seconds for more."""


def cover(heights: Array, corner: Corner) -> list[Rectangle]:
    """Rectangles of cells of which the highest at each cell, and only one, has its height."""
    found = []
    for height in np.unique(heights):
        left = heights == height
        while left.any():
            room = left | (heights > height)
            i, j = np.argwhere(left)[0].tolist()
            along, (n, m) = _grown(room[i:, j:]), _grown(room[i:, j:].T)
            own = max((left[i : i + a, j : j + b] for a, b in (along, (m, n))), key=np.sum)
            # less the edges that lie below higher ground
            rows, columns = (np.flatnonzero(own.any(axis)) for axis in (1, 0))
            first = (corner[0] + i + int(rows[0]), corner[1] + j + int(columns[0]))
            last = (corner[0] + i + int(rows[-1]) + 1, corner[1] + j + int(columns[-1]) + 1)
            found.append((first, last, float(height)))
            own[:] = False
    return found


def _grown(room: Array) -> Corner:
    """Rows and columns of the rectangle in `room` (n, m) bool that begins in its corner and is as
    wide as it can be, then as high."""
    wide = _run(room[:1])
    return _run(room[:, :wide].T), wide


def _run(yes: Array) -> int:
    """How many columns of (n, m) bool are all true before the first that is not."""
    return int(np.append(yes.all(0), False).argmin())


def check_number(boxes: list[Rectangle]) -> None:
    """Raise PhalanxError for too many."""
    if len(boxes) > MOST:
        raise PhalanxError(
            f"the terrain's edges need more than {MOST} boxes; set its sharp_edges to false, or"
            " make its rows, columns or tile smaller"
        )


def bury(field: Array, tops: Array) -> None:
    """Lower samples (nx, ny) of a height field amid boxes, whose tops those of cells (nx, ny) are
    [m], so far below them that the field is steep where it comes up. tops: -inf without a box."""
    boxes = np.isfinite(tops)
    amid = boxes[1:, 1:] & boxes[:-1, 1:] & boxes[1:, :-1] & boxes[:-1, :-1]
    field[1:, 1:][amid] = min(field.min(), tops.min(where=boxes, initial=0.0)) - DEEP
