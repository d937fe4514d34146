"""What the fused step needs of an `MjModel`: its structure as constants, its numbers as tables.

Moving bodies, with all that is welded to them, are cut into slots, parents before children: a slot
is one degree of freedom of a hinge, slide or ball joint, or a free joint. A slot's frame has its
origin at the joint and the joint's axis as z. A body's last slot carries its inertia, its contact
points and its geoms. A mocap body is a slot, too, a base: it has a pose, but no degree of freedom.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import NamedTuple

import mujoco
import numpy as np

FREE, SLIDE, HINGE, BALL, BASE = 0, 1, 2, 3, 4
GEOM, JOINT = mujoco.mjtGeom, mujoco.mjtJoint
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
    rotation: np.ndarray
    """(3, 3) of its frame in its parent's, at qpos0."""
    offset: np.ndarray
    """(3,) of its origin in its parent's frame [m]."""
    in_body: np.ndarray
    """(3, 3) of its frame in its body's."""
    anchor: np.ndarray
    """(3,) of its origin in its body's frame [m]."""
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

    def __post_init__(self) -> None:
        self._cut()
        for pair in touching(self.model):
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

    def placed(self, body: int, pos: np.ndarray, quat: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Origin and rotation in a slot's frame of what is at (pos, quat) in `body`'s."""
        m, rotation, carrier = self.model, matrix(quat), self.carrier(body)
        while body != carrier:
            turn = matrix(m.body_quat[body])
            pos, rotation = m.body_pos[body] + turn @ pos, turn @ rotation
            body = int(m.body_parentid[body])
        if body == 0:
            return pos, rotation
        slot = self.slots[self.last[body]]
        return slot.in_body.T @ (pos - slot.anchor), slot.in_body.T @ rotation

    def placed_quat(self, body: int, quat: np.ndarray) -> np.ndarray:
        """The rotation of `placed` as a quaternion, with the sign that MuJoCo's products give."""
        m, carrier = self.model, self.carrier(body)
        while body != carrier:
            quat, body = product(m.body_quat[body], quat), int(m.body_parentid[body])
        if body == 0:
            return quat
        return product(conjugate(quaternion(self.slots[self.last[body]].in_body)), quat)

    def slot_quat(self, k: int) -> np.ndarray:
        """Slot k's `rotation` as a quaternion, (4,)."""
        slot, m = self.slots[k], self.model
        own = quaternion(slot.in_body)
        if slot.joint == m.body_jntadr[slot.body] and slot.axis == 0:
            parent = int(m.body_parentid[slot.body])
            return product(self.placed_quat(parent, m.body_quat[slot.body]), own)
        return product(conjugate(quaternion(self.slots[slot.up].in_body)), own)

    def _cut(self) -> None:
        m, still, none = self.model, np.eye(3), np.zeros(3)
        for body in range(1, m.nbody):
            if m.body_mocapid[body] >= 0:
                self.last[body] = len(self.slots)
                self.slots.append(Slot(BASE, -1, body, -1, still, none, still, none))
            if m.body_weldid[body] != body:
                continue
            first = int(m.body_jntadr[body])
            up = self.slot_of_body(int(m.body_parentid[body]))
            base, turn = self.placed(
                int(m.body_parentid[body]), m.body_pos[body], m.body_quat[body]
            )
            in_body, anchor = np.eye(3), np.zeros(3)
            for joint in range(first, first + int(m.body_jntnum[body])):
                if m.jnt_type[joint] == JOINT.mjJNT_FREE:
                    self.slots.append(Slot(FREE, joint, body, -1, still, none, still, none))
                    continue
                ball = m.jnt_type[joint] == JOINT.mjJNT_BALL
                frame = np.eye(3) if ball else with_axis_z(m.jnt_axis[joint])
                at = m.jnt_pos[joint]
                if joint == first:
                    rotation, offset = turn @ frame, base + turn @ at
                else:
                    rotation, offset = in_body.T @ frame, in_body.T @ (at - anchor)
                    up = len(self.slots) - 1
                hinge = m.jnt_type[joint] == JOINT.mjJNT_HINGE
                kind = BALL if ball else HINGE if hinge else SLIDE
                in_body, anchor = frame, np.array(at)
                self.slots.append(Slot(kind, joint, body, up, rotation, offset, in_body, anchor))
                for axis in (1, 2) if ball else ():
                    up = len(self.slots) - 1
                    self.slots.append(
                        Slot(BALL, joint, body, up, still, none, in_body, anchor, axis)
                    )
            self.last[body] = len(self.slots) - 1

    def _add_pair(self, pair: Pair) -> None:
        m, (a, b, _) = self.model, pair
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


def touching(m: mujoco.MjModel) -> Iterable[Pair]:
    """Geoms that may touch, by MuJoCo's filters; those of two static bodies never do."""
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
    for a in range(m.ngeom):
        for b in range(a + 1, m.ngeom):
            if not (
                m.geom_contype[a] & m.geom_conaffinity[b]
                or m.geom_contype[b] & m.geom_conaffinity[a]
            ):
                continue
            bodies = sorted((int(m.geom_bodyid[a]), int(m.geom_bodyid[b])))
            welds = [int(weld[body]) for body in bodies]
            if welds[0] == welds[1] or (bodies[0] << 16) + bodies[1] in excluded:
                continue
            up = [int(parent[w]) for w in welds]
            if filter_parent and 0 not in welds and (up[0] == welds[1] or up[1] == welds[0]):
                continue
            if frozenset((a, b)) not in explicit:
                yield _pair(m, a, b, -1)


def _pair(m: mujoco.MjModel, a: int, b: int, explicit: int) -> Pair:
    first = m.geom_type[a] <= m.geom_type[b]
    return Pair(a, b, explicit) if first else Pair(b, a, explicit)


def matrix(quat: np.ndarray) -> np.ndarray:
    """(3, 3) of a quaternion (w, x, y, z)."""
    out = np.zeros(9)
    mujoco.mju_quat2Mat(out, np.asarray(quat, float))
    return out.reshape(3, 3)


def quaternion(rotation: np.ndarray) -> np.ndarray:
    """(w, x, y, z) of a rotation (3, 3)."""
    out = np.zeros(4)
    mujoco.mju_mat2Quat(out, np.ascontiguousarray(rotation).reshape(9))
    return out


def product(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    out = np.zeros(4)
    mujoco.mju_mulQuat(out, np.asarray(a, float), np.asarray(b, float))
    return out


def conjugate(quat: np.ndarray) -> np.ndarray:
    return quat * np.array([1, -1, -1, -1])


def with_axis_z(axis: np.ndarray) -> np.ndarray:
    """A rotation (3, 3) whose third column is `axis`."""
    z = axis / np.linalg.norm(axis)
    x = np.cross(np.eye(3)[np.argmin(np.abs(z))], z)
    x /= np.linalg.norm(x)
    return np.stack([x, np.cross(z, x), z], 1)
