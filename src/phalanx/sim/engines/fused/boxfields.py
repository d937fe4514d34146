"""Many fixed boxes as one ground, a box field, of which a step looks only at those near a geom.

Boxes of a model that never move, whose sides are along the world's axes and that touch alike, are
one ground if there are more than MANY. The first of them stands for all in pairs and parameters. A
grid over x and y has a list of the boxes over each of its cells: `box_ground.h` walks over the
cells under a geom.
"""

from collections.abc import Iterable
from typing import TYPE_CHECKING

import mujoco
import numpy as np

if TYPE_CHECKING:
    from phalanx.sim.engines.fused.structure import Structure

MANY = 32
"""Up to so many boxes are obstacles one by one."""
MOST_CELLS, MOST_ITEMS = 1 << 19, 1 << 20
"""Of all grids, and of all their lists; a grid of many small boxes far apart gets larger cells."""
CELLS_PER_BOX, ITEMS_PER_BOX = 64, 128
"""A grid has no more than so many for each of its boxes."""
FEW = 8
"""Up to so many boxes of a field are obstacles one by one if its cells are much smaller then."""
SLACK = 1e-3
"""Part of a cell by which boxes count as larger in the grid, so that no rounding loses one."""
FAR = 1e10
"""Where MuJoCo resets what moves [m]; boxes end there in the grid, so that no count overflows."""
PLACES = {"geom_pos": "place", "geom_quat": "rotation", "geom_size": "size"}
TOUCH = {"geom_friction": "friction", "geom_solref": "solref", "geom_solimp": "solimp",
         "geom_margin": "margin"}  # fmt: skip
"""Model fields that may differ between environments, as messages call them."""
_KINDS = ("geom_contype", "geom_conaffinity", "geom_condim", "geom_priority", "geom_solmix",
          "geom_gap", *TOUCH)  # fmt: skip
BOX, OBJ = mujoco.mjtGeom.mjGEOM_BOX, mujoco.mjtObj


def found(m: mujoco.MjModel, fixed: Iterable[int], by_body: bool) -> dict[int, list[int]]:
    """The boxes of each box field by the first of them. fixed: geoms that never move; by_body:
    whether it counts for every body what touches it."""
    of_pairs = {*m.pair_geom1.tolist(), *m.pair_geom2.tolist()}
    boxes = [g for g in fixed if m.geom_type[g] == BOX and g not in of_pairs]
    if len(boxes) <= MANY:
        return {}
    noted, some = _noted_bodies(m), np.array(boxes)
    turns = np.abs(_placed(m)[1][some])
    level = np.isclose(turns, turns.round(), rtol=0, atol=1e-7).all((1, 2))
    groups: dict[tuple[object, ...], list[int]] = {}
    for g in some[level].tolist():
        body = int(m.geom_bodyid[g])
        alike = (getattr(m, name)[g].tobytes() for name in _KINDS)
        groups.setdefault((body if by_body or body in noted else -1, *alike), []).append(g)
    many = [group for group in groups.values() if len(group) > MANY]
    fields = [_together(m, group, len(many)) for group in many]
    return {field[0]: field for field in fields}


def _together(m: mujoco.MjModel, geoms: list[int], fields: int) -> list[int]:
    """All boxes, but for the few that are so wide or so far from the others that cells would be
    large because of them. fields: how many there are."""
    low, high = _sides(m, geoms)
    middle = np.median((low + high) / 2, 0)
    far = np.maximum(high - middle, middle - low)
    order = np.argsort((far / np.median(far, 0)).max(1), kind="stable")
    size = np.maximum.accumulate(high[order]) - np.minimum.accumulate(low[order])
    few = min(FEW, len(geoms) // 8)
    # Of the finest grid without the farthest box, the farthest two, and so on.
    cells = (size / _width(low, high) + 2).prod(1)[::-1][: few + 1]
    enough = max(4 * cells[-1], _most(fields, len(geoms))[0])
    apart = int(np.argmax(cells <= enough))
    return [geoms[i] for i in sorted(order[: len(geoms) - apart].tolist())]


def _most(fields: int, boxes: int) -> tuple[int, int]:
    """Cells and items of the grid of one of the fields."""
    cells = min(MOST_CELLS // fields, CELLS_PER_BOX * boxes)
    items = min(MOST_ITEMS // fields, ITEMS_PER_BOX * boxes)
    return max(1, cells), max(items, 2 * boxes)


def _noted_bodies(m: mujoco.MjModel) -> set[int]:
    """Bodies for which it counts what touches them, or those welded to them: by exclusions and
    sensors."""
    signatures = m.exclude_signature.tolist()
    noted = {x for signature in signatures for x in (signature >> 16, signature & 0xFFFF)}
    for kinds, ids in ((m.sensor_objtype, m.sensor_objid), (m.sensor_reftype, m.sensor_refid)):
        for kind, i in zip(kinds.tolist(), ids.tolist(), strict=True):
            if kind in (int(OBJ.mjOBJ_BODY), int(OBJ.mjOBJ_XBODY)):
                noted.add(i)
            elif kind == int(OBJ.mjOBJ_SITE):
                noted.add(int(m.site_bodyid[i]))
    for body in range(1, m.nbody):
        if m.body_parentid[body] and m.body_parentid[body] in noted:
            noted.add(body)
    return noted


def bodies(m: mujoco.MjModel, geoms: list[int]) -> list[int]:
    """Which carry them, but for the world."""
    found: set[int] = set()
    for body in set(m.geom_bodyid[geoms].tolist()):
        while body and body not in found:
            found.add(body)
            body = int(m.body_parentid[body])
    return sorted(found)


def _placed(m: mujoco.MjModel) -> tuple[np.ndarray, np.ndarray]:
    """Positions (ngeom, 3) and rotations (ngeom, 3, 3) in the model's first state."""
    data = mujoco.MjData(m)
    mujoco.mj_kinematics(m, data)
    return data.geom_xpos, data.geom_xmat.reshape(-1, 3, 3)


def _solids(m: mujoco.MjModel, geoms: list[int]) -> tuple[np.ndarray, np.ndarray]:
    """Centres and half sizes along the world's axes."""
    pos, turn = (x[geoms] for x in _placed(m))
    return pos, (np.abs(turn).round() @ m.geom_size[geoms][..., None])[..., 0]


def _sides(m: mujoco.MjModel, geoms: list[int]) -> tuple[np.ndarray, np.ndarray]:
    """Least and largest x and y of each box."""
    pos, half = _solids(m, geoms)
    return (pos - half)[:, :2].clip(-FAR, FAR), (pos + half)[:, :2].clip(-FAR, FAR)


def _width(low: np.ndarray, high: np.ndarray) -> float:
    """Of the finest cells: that of most boxes."""
    return max(float(np.median((high - low).min(1))), 1e-6)


class Grid:
    """Of one box field. cell: side of the cells [m]; corner: (2,) where the first begins; shape:
    columns and rows; boxes (n, 8): centre, half sizes, first column and row; starts (cells + 1):
    where each cell's list begins in `items`; tops (cells + 1): of the highest box of each."""

    def __init__(self, m: mujoco.MjModel, geoms: list[int], fields: int = 1) -> None:
        """fields: how many share the memory."""
        (pos, half), (low, high) = _solids(m, geoms), _sides(m, geoms)
        self.cell = _width(low, high)
        most_cells, most_items = _most(fields, len(geoms))
        while True:  # in floats, as counts of cells that are too small overflow integers
            self.corner = low.min(0) - SLACK * self.cell
            first = np.floor((low - self.corner) / self.cell - SLACK).clip(0)
            last = np.floor((high - self.corner) / self.cell + SLACK)
            shape, many = last.max(0) + 1, (last - first + 1).prod(1)
            if shape.prod() <= most_cells and many.sum() <= most_items:
                break
            self.cell *= 1.25
        first, last, many, self.shape = (x.astype(int) for x in (first, last, many, shape))
        columns = int(self.shape[0])
        cells = [
            (np.arange(y0, y1 + 1)[:, None] * columns + np.arange(x0, x1 + 1)).ravel()
            for (x0, y0), (x1, y1) in zip(first.tolist(), last.tolist(), strict=True)
        ]
        cell, box = np.concatenate(cells), np.repeat(np.arange(len(geoms)), many)
        count, top = int(self.shape.prod()), pos[:, 2] + half[:, 2]
        order = np.argsort(cell, kind="stable")
        self.items = box[order]
        self.starts = np.concatenate([[0], np.cumsum(np.bincount(cell, minlength=count))])
        self.tops = np.full(count + 1, -1e30)
        np.maximum.at(self.tops, cell, top[box])
        self.tops += 1e-5 * np.abs(self.tops)
        self.boxes = np.concatenate([pos, half, first], 1)


def tables(s: "Structure") -> dict[str, np.ndarray]:
    """All grids, one after the other; lists and boxes are numbered throughout.

    box_field: the grid's corner [m], cells a metre. box_cell: where its list begins, and the height
    of its highest box [m]. box_item: numbers of boxes. box: see `Grid.boxes`."""
    parts = {n: [np.zeros((0, w))] for n, w in (("box_field", 3), ("box_cell", 2),
                                                ("box_item", 1), ("box", 8))}  # fmt: skip
    items = boxes = 0
    for grid in grids(s):
        rows = {
            "box_field": np.array([[*grid.corner, 1 / grid.cell]]),
            "box_cell": np.stack([grid.starts + items, grid.tops], 1),
            "box_item": (grid.items + boxes)[:, None],
            "box": grid.boxes,
        }
        items, boxes = items + len(grid.items), boxes + len(grid.boxes)
        for name, own in rows.items():
            parts[name].append(own)
    return {name: np.concatenate(some) for name, some in parts.items()}


def grids(s: "Structure") -> list[Grid]:
    """Of each box field in `s.geoms`."""
    return [s.grids[g] for g in s.geoms if g in s.grids]


def constants(s: "Structure") -> dict[str, list[int]]:
    """Of each of `s.geoms` its box field, and the sizes of their grids."""
    own = [g for g in s.geoms if g in s.box_fields]
    cells = [len(grid.starts) for grid in grids(s)]
    return {
        "BOX_FIELD_OF": [own.index(g) if g in own else -1 for g in s.geoms],
        "BOX_FIELD_CELL0": np.cumsum([0, *cells])[:-1].tolist(),
        "BOX_FIELD_COLS": [int(grid.shape[0]) for grid in grids(s)],
        "BOX_FIELD_ROWS": [int(grid.shape[1]) for grid in grids(s)],
    }
