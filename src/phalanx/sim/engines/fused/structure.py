"""What the fused step needs of an `MjModel`: its structure as constants, its numbers as tables.

Moving bodies, with all that is welded to them, are cut into slots, parents before children: a slot
is one degree of freedom of a hinge, slide or ball joint, or a free joint. A slot's frame has its
origin at the joint and the joint's axis as z. A body's last slot carries its inertia, its contact
points and its geoms. A mocap body is a slot, too, a base: it has a pose, but no degree of freedom.
"""

from collections.abc import Iterable, Set
from dataclasses import dataclass, field
from typing import NamedTuple

import mujoco
import numpy as np

from phalanx.sim.engines.fused import boxfields

FREE, SLIDE, HINGE, BALL, BASE = 0, 1, 2, 3, 4
GEOM, JOINT = mujoco.mjtGeom, mujoco.mjtJoint
KIND_OF_JOINT = {int(JOINT.mjJNT_FREE): FREE, int(JOINT.mjJNT_BALL): BALL,
                 int(JOINT.mjJNT_SLIDE): SLIDE, int(JOINT.mjJNT_HINGE): HINGE}  # fmt: skip
POINTED = {int(kind) for kind in (GEOM.mjGEOM_SPHERE, GEOM.mjGEOM_CAPSULE, GEOM.mjGEOM_BOX)}
"""Shapes that touch a plane with points of theirs."""


@dataclass
class Slot:
    """One degree of freedom, a free joint, or a base."""

    kind: int
    joint: int
    """-1 of a base."""
    body: int
    up: int
    """The slot it moves with, -1 for the world."""
    axis: int = 0
    """Of a ball joint, whose three slots turn about its body's axes."""


class Pair(NamedTuple):
    """Two geoms that may touch, in MuJoCo's order of their types."""

    a: int
    b: int
    explicit: int
    """The model's own pair, which has the parameters of the contact, or -1."""


@dataclass(frozen=True)
class Point:
    """A sphere fixed to a body that may touch a plane."""

    slot: int
    pair: Pair
    """The plane and the geom."""
    plane: int
    """In `Structure.planes`."""
    side: tuple[int, int, int]
    """Which end of a capsule or corner of a box, in the geom's axes: 1 or -1, or 0."""
    corner: bool


@dataclass
class Structure:
    """Slots, points and pairs of a model, in the order of the tables."""

    model: mujoco.MjModel
    switched: bool = False
    """Whether equalities are switched on and off while the simulation runs."""
    shows_welds: bool = False
    """Whether forces between welded bodies are shown, in `cfrc_int`."""
    single: frozenset[int] = frozenset()
    """Fixed boxes that are in no box field, as they differ between environments."""
    slots: list[Slot] = field(default_factory=list)
    last: dict[int, int] = field(default_factory=dict)
    """From a moving body or a mocap body to its last slot."""
    planes: list[int] = field(default_factory=list)
    points: list[Point] = field(default_factory=list)
    geoms: list[int] = field(default_factory=list)
    """Of pairs and obstacles, by slot, last those of the world."""
    pairs: list[Pair] = field(default_factory=list)
    """Of which both move."""
    obstacles: list[Pair] = field(default_factory=list)
    """Of which one has no joints, by the other's slot, without those that are points on planes."""
    box_fields: dict[int, list[int]] = field(default_factory=dict)
    """Many fixed boxes, by the first of them, which stands for all in pairs."""
    grids: dict[int, boxfields.Grid] = field(default_factory=dict)
    """Of the box fields."""

    def __post_init__(self) -> None:
        self._cut()
        m = self.model
        fixed = [g for g in range(m.ngeom) if self.slot_of_geom(g) < 0 and g not in self.single]
        self.box_fields = boxfields.found(m, fixed, self.shows_welds)
        count = len(self.box_fields)
        self.grids = {g: boxfields.Grid(m, own, count) for g, own in self.box_fields.items()}
        for pair in touching(m, {g for own in self.box_fields.values() for g in own[1:]}):
            self._add_pair(pair)
        self.points.sort(key=lambda p: p.slot)
        self.obstacles.sort(key=self.slot_of_obstacle)
        used = {g for pair in self.pairs + self.obstacles for g in pair[:2]}
        self.geoms = sorted(used, key=lambda g: (self.slot_of_geom(g) % (len(self.slots) + 1), g))

    @property
    def dofs(self) -> list[int]:
        """Of every slot, of a free joint the first, -1 of a base."""
        first = self.model.jnt_dofadr
        return [int(first[x.joint]) + x.axis if x.kind != BASE else -1 for x in self.slots]

    @property
    def posed(self) -> list[int]:
        """Slots that have a pose: free joints, then bases."""
        kinds = [[k for k, x in enumerate(self.slots) if x.kind == kind] for kind in (FREE, BASE)]
        return kinds[0] + kinds[1]

    @property
    def balls(self) -> list[int]:
        """First slots of ball joints."""
        return [k for k, x in enumerate(self.slots) if x.kind == BALL and x.axis == 0]

    def root_of(self, k: int) -> int:
        """The slot at the root of slot k's tree."""
        while self.slots[k].up >= 0:
            k = self.slots[k].up
        return k

    def carries(self, a: int, b: int) -> bool:
        """Whether slot a is b, or one of them moves with the other."""
        low, high = sorted((a, b))
        while high > low:
            high = self.slots[high].up
        return high == low

    def tree_of(self, k: int) -> int:
        """The number of slot k's tree; each tree is a range of slots."""
        return sorted({self.root_of(i) for i in range(len(self.slots))}).index(self.root_of(k))

    @property
    def groups(self) -> list[int]:
        """Outermost bodies with something that moves: velocities refer to their centre of mass."""
        return sorted({int(self.model.body_rootid[slot.body]) for slot in self.slots})

    def carrier(self, body: int) -> int:
        """The body with joints, mocap body or world that `body` is welded to."""
        m = self.model
        while body != m.body_weldid[body] and m.body_mocapid[body] < 0:
            body = int(m.body_parentid[body])
        return body

    @property
    def jointless(self) -> list[int]:
        """Bodies without joints: part of others, of the world, or mocap bodies."""
        return [b for b in range(1, self.model.nbody) if not self.model.body_jntnum[b]]

    def slot_of_body(self, body: int) -> int:
        """The last slot of the body that `body` is welded to, -1 if that is the world."""
        return self.last.get(self.carrier(body), -1)

    def slot_of_geom(self, geom: int) -> int:
        return self.slot_of_body(int(self.model.geom_bodyid[geom]))

    def moves(self, geom: int) -> bool:
        """Whether joints move it."""
        k = self.slot_of_geom(geom)
        return k >= 0 and self.slots[k].kind != BASE

    def slot_of_obstacle(self, pair: Pair) -> int:
        """The slot of the geom that moves."""
        return self.slot_of_geom(pair.a if self.moves(pair.a) else pair.b)

    def _cut(self) -> None:
        m = self.model
        for body in range(1, m.nbody):
            if m.body_mocapid[body] >= 0:
                self.last[body] = len(self.slots)
                self.slots.append(Slot(BASE, -1, body, -1))
            if m.body_weldid[body] != body:
                continue
            first = int(m.body_jntadr[body])
            up = self.slot_of_body(int(m.body_parentid[body]))
            for joint in range(first, first + int(m.body_jntnum[body])):
                kind = KIND_OF_JOINT[int(m.jnt_type[joint])]
                for axis in range(3 if kind == BALL else 1):
                    self.slots.append(Slot(kind, joint, body, up, axis))
                    up = len(self.slots) - 1
            self.last[body] = len(self.slots) - 1

    def _add_pair(self, pair: Pair) -> None:
        m, (a, b, _) = self.model, pair
        if not (self.moves(a) or self.moves(b)):
            return  # of mocap bodies and the world: nothing gives way
        kind = m.geom_type[b]
        if m.geom_type[a] != GEOM.mjGEOM_PLANE or int(kind) not in POINTED:
            fixed = not (self.moves(a) and self.moves(b))
            (self.obstacles if fixed else self.pairs).append(pair)
            return
        if a not in self.planes:
            self.planes.append(a)
        sides, box = [(0, 0, 0)], kind == GEOM.mjGEOM_BOX
        if kind == GEOM.mjGEOM_CAPSULE:
            sides = [(0, 0, 1), (0, 0, -1)]
        elif box:
            sides = [(x, y, z) for z in (-1, 1) for y in (-1, 1) for x in (-1, 1)]
        slot, plane = self.slot_of_geom(b), self.planes.index(a)
        self.points += [Point(slot, pair, plane, side, bool(box)) for side in sides]


def touching(m: mujoco.MjModel, without: Set[int] = frozenset()) -> Iterable[Pair]:
    """Geoms that may touch, by MuJoCo's filters; those of two static bodies never do. `without`:
    geoms to leave out."""
    if m.opt.disableflags & (
        mujoco.mjtDisableBit.mjDSBL_CONTACT | mujoco.mjtDisableBit.mjDSBL_CONSTRAINT
    ):
        return
    weld, parent = m.body_weldid, m.body_weldid[m.body_parentid]
    filter_parent = not m.opt.disableflags & mujoco.mjtDisableBit.mjDSBL_FILTERPARENT
    excluded = set(m.exclude_signature.tolist())
    explicit = {}
    for i in range(m.npair):
        geoms = int(m.pair_geom1[i]), int(m.pair_geom2[i])
        explicit[frozenset(geoms)] = i
        if weld[m.geom_bodyid[geoms[0]]] != weld[m.geom_bodyid[geoms[1]]]:
            yield _pair(m, *geoms, i)
    some = np.array([g for g in range(m.ngeom) if g not in without], int)
    kind, affinity, own_weld = m.geom_contype, m.geom_conaffinity, weld[m.geom_bodyid]
    for i, a in enumerate(some.tolist()):
        others = some[i + 1 :]
        meets = ((kind[a] & affinity[others]) | (kind[others] & affinity[a])) != 0
        for b in others[meets & (own_weld[a] != own_weld[others])].tolist():
            bodies = sorted((int(m.geom_bodyid[a]), int(m.geom_bodyid[b])))
            welds = [int(weld[body]) for body in bodies]
            if (bodies[0] << 16) + bodies[1] in excluded:
                continue
            up = [int(parent[w]) for w in welds]
            if filter_parent and 0 not in welds and (up[0] == welds[1] or up[1] == welds[0]):
                continue
            if frozenset((a, b)) not in explicit:
                yield _pair(m, a, b, -1)


def _pair(m: mujoco.MjModel, a: int, b: int, explicit: int) -> Pair:
    first = m.geom_type[a] <= m.geom_type[b]
    return Pair(a, b, explicit) if first else Pair(b, a, explicit)
