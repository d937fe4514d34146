"""Sensors that the fused step has: their constants, and tables as in `numbers.py`."""

from collections.abc import Sequence

import mujoco
import numpy as np
import torch
from torch import Tensor

from phalanx.sim.engines.fused.masses import inertias, static_masses
from phalanx.sim.engines.fused.places import Places
from phalanx.sim.engines.fused.placing import Fields, Make, held, matrices, product, starts, turned
from phalanx.sim.engines.fused.solref import MINVAL
from phalanx.sim.engines.fused.structure import Structure

SENSOR, OBJ = mujoco.mjtSensor, mujoco.mjtObj

JOINTS = frozenset({"JOINTPOS", "JOINTVEL", "JOINTLIMITPOS", "JOINTLIMITVEL"})
LENGTHS = frozenset({"ACTUATORPOS", "ACTUATORVEL"})
AXES = ("FRAMEXAXIS", "FRAMEYAXIS", "FRAMEZAXIS")
FRAMES = frozenset({
    "FRAMEPOS", "FRAMEQUAT", *AXES, "FRAMELINVEL", "FRAMEANGVEL", "GYRO", "VELOCIMETER",
    "MAGNETOMETER",
})  # fmt: skip
SUBTREES = frozenset({"SUBTREECOM", "SUBTREELINVEL", "SUBTREEANGMOM"})
TENDONS = frozenset({"TENDONPOS", "TENDONVEL"})
BALLS = frozenset({"BALLQUAT", "BALLANGVEL"})
OF_STATE = JOINTS | TENDONS | BALLS | LENGTHS | FRAMES | SUBTREES
ACCELERATIONS = frozenset({"ACCELEROMETER", "FRAMELINACC", "FRAMEANGACC"})
FORCES = frozenset({"FORCE", "TORQUE"})
OF_FORCES = ACCELERATIONS | FORCES | {
    "TOUCH", "CONTACT", "ACTUATORFRC", "JOINTACTFRC", "JOINTLIMITFRC"
}  # fmt: skip
NET_FORCE = [2, 3, 1]
"""intprm of the contact sensors that the step has: the force of all contacts together, with
anything or with the rest of the robot."""
SHAPES = ("SPHERE", "CAPSULE", "ELLIPSOID", "CYLINDER", "BOX")
"""Of sites with a touch sensor."""
NONE = np.float32(3e38)
"""A cutoff that never cuts."""


def kind(m: mujoco.MjModel, i: int) -> str:
    """A sensor's kind in MuJoCo's spelling, without mjSENS_."""
    return SENSOR(int(m.sensor_type[i])).name.removeprefix("mjSENS_")


class Sensors:
    """The sensors of a structure that a step computes: `ids`, those of the state first."""

    def __init__(self, s: Structure) -> None:
        m = s.model
        self.structure = s
        flags = mujoco.mjtDisableBit
        zero = {"ACTUATORVEL"} if m.opt.disableflags & flags.mjDSBL_ACTUATION else set()
        every = [i for i in range(m.nsensor) if kind(m, i) not in zero]
        every = [] if m.opt.disableflags & flags.mjDSBL_SENSOR else every
        self.of_state = [i for i in every if kind(m, i) in OF_STATE]
        self.ids = self.of_state + [i for i in every if kind(m, i) in OF_FORCES]
        self.kinds = [kind(m, i) for i in self.ids]
        self.frames: list[tuple[int, int]] = []
        self.subtrees: list[int] = []
        self.touching: list[int] = []  # sites
        self.parts: list[int] = []  # bodies without joints that pass on a force
        self.rows = [self._row(i) for i in self.ids]
        """What each sensor reads; FRAME and REF: in `frames`."""
        for body in s.jointless if s.shows_welds else ():
            _place(self.parts, body)

    @property
    def of_fixed_contacts(self) -> bool:
        """Whether one measures the contacts of a body that no joint moves."""
        s, ids = self.structure, zip(self.ids, self.kinds, strict=True)
        bodies = [int(s.model.sensor_objid[i]) for i, name in ids if name == "CONTACT"]
        return any(s.carrier(b) == 0 for b in bodies + self.parts)

    def _row(self, i: int) -> dict[str, int]:
        """What sensor `i` reads."""
        m, s = self.structure.model, self.structure
        name, target = kind(m, i), int(m.sensor_objid[i])
        row = {"SLOT": 0, "ROW": 0, "FRAME": -1, "REF": -1, "TOUCH": -1, "TENDON": -1, "PART": -1}
        if name.startswith(("JOINT", "BALL")):
            row["SLOT"] = [slot.joint for slot in s.slots].index(target)
        elif name in ("ACTUATORFRC", "CONTACT"):
            row["ROW"], row["REF"] = target, int(m.sensor_refid[i])
        elif name in LENGTHS:
            by_slot = [a for slot in s.slots for a in actuators_of(m, slot.joint)]
            on = int(m.actuator_trnid[target, 0])
            if target in by_slot:
                row["SLOT"] = [slot.joint for slot in s.slots].index(on)
                row["ROW"] = by_slot.index(target)
            else:
                by_tendon = sorted(set(range(m.nu)) - set(by_slot), key=lambda i: _tendon(m, i))
                row["SLOT"], row["TENDON"] = -1, on
                row["ROW"] = len(by_slot) + by_tendon.index(target)
        elif name in TENDONS:
            row["TENDON"] = target
        elif name in SUBTREES:
            row["ROW"] = _place(self.subtrees, target)
        else:
            row["ROW"] = row["FRAME"] = _place(self.frames, (int(m.sensor_objtype[i]), target))
            if m.sensor_refid[i] >= 0:
                other = int(m.sensor_reftype[i]), int(m.sensor_refid[i])
                row["REF"] = _place(self.frames, other)
            body = int(m.site_bodyid[target]) if name in FORCES else 0
            if s.carrier(body) != body:
                row["PART"] = _place(self.parts, body)
            if name == "TOUCH":
                row["TOUCH"] = _place(self.touching, target)
        return row

    def bodies_of_part(self, part: int) -> list[int]:
        """Body `part` and what is welded to it further out."""
        s = self.structure
        return [b for b in range(s.model.nbody)
                if _is_below(s.model, b, part) and s.carrier(b) == s.carrier(part)]  # fmt: skip

    def limbs_of_part(self, part: int) -> list[int]:
        """First slots of what hangs from `bodies_of_part`."""
        s, own = self.structure, self.bodies_of_part(part)
        up = s.slot_of_body(part)
        return [k for k, slot in enumerate(s.slots)
                if slot.up == up and int(s.model.body_parentid[slot.body]) in own]  # fmt: skip

    def _near(self, part: int) -> int:
        """A slot of the tree whose centre of mass the part's force is about; -1: none moves."""
        root = self.structure.model.body_rootid
        near = (k for k, x in enumerate(self.structure.slots) if root[x.body] == root[part])
        return next(near, -1)

    def frame_slots(self) -> list[int]:
        """The slot of each of `frames`."""
        s = self.structure
        return [s.slot_of_body(_body_of(s.model, *frame)) for frame in self.frames]

    def numbers(self) -> dict[str, int]:
        """Constants of C."""
        kinds, named = self.kinds, SENSOR.__members__
        numbers = {f"SENS_{n}": int(named[f"mjSENS_{n}"]) for n in sorted(OF_STATE | OF_FORCES)}
        numbers |= {f"SITE_{shape}": i for i, shape in enumerate(SHAPES)}
        return numbers | {
            "NSENSOR": len(self.ids),
            "NSENSOR_STATE": len(self.of_state),
            "CUTOFFS": int((self.structure.model.sensor_cutoff[self.ids] > 0).any()),
            "NSUBTREE_SENSOR": sum(name in SUBTREES for name in kinds),
            "QUAT_SENSORS": int("FRAMEQUAT" in kinds),
            "ACCELERATION_SENSORS": int(bool(ACCELERATIONS & set(kinds))),
            "FORCE_SENSORS": int(bool((FORCES | {"CONTACT"}) & set(kinds))),
            "CONTACT_SENSORS": int("CONTACT" in kinds),
            "NPART": len(self.parts),
            "SHOWS_WELDS": int(self.structure.shows_welds),
            "OWN_CONTACT_SENSORS": int(
                any(
                    name == "CONTACT" and row["REF"] >= 0
                    for name, row in zip(kinds, self.rows, strict=True)
                )
            ),
        }

    def arrays(self, placed_bodies: list[int]) -> dict[str, Sequence[int]]:
        """Arrays of C; `placed_bodies`: rows of the tables of bodies."""
        m = self.structure.model
        below = [[n for n, b in enumerate(placed_bodies) if _is_below(m, b, body)]
                 for body in self.subtrees]  # fmt: skip
        rows = {
            f"SENSOR_{name}": [row[name] for row in self.rows]
            for name in ("SLOT", "ROW", "REF", "TOUCH", "TENDON", "PART")
        }
        if self.structure.shows_welds:
            rows |= {"PART_ID": self.parts, "PART_NEAR": [self._near(p) for p in self.parts]}
        bodies = [self.bodies_of_part(part) for part in self.parts]
        limbs = [self.limbs_of_part(part) for part in self.parts]
        return rows | {
            "PART_SLOT": [self.structure.slot_of_body(part) for part in self.parts],
            "PART0": starts([len(some) for some in bodies]),
            "PART_BODY": [b for some in bodies for b in some],
            "PART_LIMB0": starts([len(some) for some in limbs]),
            "PART_LIMB": [k for some in limbs for k in some],
            "SENSOR_KIND": m.sensor_type[self.ids].tolist(),
            "SENSOR_ADR": m.sensor_adr[self.ids].tolist(),
            "FRAME_SLOT": self.frame_slots(),
            "SUBTREE_SENSOR": [n for n, name in enumerate(self.kinds) if name in SUBTREES],
            "SUBTREE0": [0, *np.cumsum([len(b) for b in below]).tolist()],
            "SUBTREE_BODY": [n for some in below for n in some],
            "TOUCH_BODY": [int(m.site_bodyid[site]) for site in self.touching],
            "TOUCH_SHAPE": [SHAPES.index(site_shape(m, site)) for site in self.touching],
        }

    def tables(self, places: Places) -> dict[str, Make]:
        """Makers of (E, rows, columns)."""
        m, on, static = self.structure.model, places.on, static_masses(places)
        cutoff, data = m.sensor_cutoff[self.ids], m.sensor_datatype[self.ids]
        real = data == mujoco.mjtDataType.mjDATATYPE_REAL
        positive = data == mujoco.mjtDataType.mjDATATYPE_POSITIVE
        high = np.where((cutoff > 0) & (real | positive), cutoff, NONE)
        low = np.where((cutoff > 0) & real, -cutoff, -NONE)
        below = [[_is_below(m, b, body) for b in range(m.nbody)] for body in self.subtrees]
        of_subtree = on(np.array(below).reshape(-1, m.nbody))
        frames, none = (
            [self._frame(places, *frame) for frame in self.frames],
            on(np.zeros((1, 0, 16))),
        )

        def frame(field: Fields) -> Tensor:
            rows = [make(field) for make in frames]
            return torch.stack(torch.broadcast_tensors(*rows), 1) if rows else none

        return {
            **held(on, {"cutoff": np.stack([low, high], 1)}),
            "subtree": lambda field: of_subtree @ static(field),
            "part": inertias(places, [b for part in self.parts for b in self.bodies_of_part(part)]),
            **held(on, {"touch": m.site_size[self.touching], "magnetic": m.opt.magnetic[None]}),
            "frame": frame,
            **({"part_tree": self._tree_centres(places)} if self.structure.shows_welds else {}),
        }

    def _tree_centres(self, places: Places) -> Make:
        """(E, parts, 3): the centre of mass of each part's tree, if nothing of it moves."""
        m, static = self.structure.model, static_masses(places)
        roots = m.body_rootid[self.parts]
        trees, own = places.on(m.body_rootid == roots[:, None]), inertias(places, roots.tolist())

        def make(field: Fields) -> Tensor:
            whole = trees @ static(field)
            mass = whole[..., 3:]
            centres = whole[..., :3] / mass.clamp(min=MINVAL)
            return torch.where(mass < MINVAL, own(field)[..., 6:9], centres)

        return make

    def _frame(self, places: Places, kind: int, i: int) -> Make:
        """(E, 16): origin, rotation and quaternion in a slot's frame, or in the world's."""
        on, body = places.on, _body_of(self.structure.model, kind, i)
        named = {OBJ.mjOBJ_GEOM: "geom_{}", OBJ.mjOBJ_SITE: "site_{}", OBJ.mjOBJ_CAMERA: "cam_{}",
                 OBJ.mjOBJ_BODY: "body_i{}"}  # fmt: skip
        name = named.get(OBJ(kind), "")
        still = on(np.zeros((1, 3))), on([[1.0, 0, 0, 0]])

        def make(field: Fields) -> Tensor:
            there = places(field)
            pos, quat = (field(name.format(x))[:, i] for x in ("pos", "quat")) if name else still
            turn = there.turn[:, body]
            at = there.pos[:, body] + turned(turn, pos)
            parts = [at, (turn @ matrices(quat)).flatten(-2), product(there.quat[:, body], quat)]
            envs = max(len(x) for x in parts)
            return torch.cat([x.expand(envs, x.shape[1]) for x in parts], 1)

        return make


def actuators_of(m: mujoco.MjModel, joint: int) -> list[int]:
    """That act on a joint."""
    kinds = (int(mujoco.mjtTrn.mjTRN_JOINT), int(mujoco.mjtTrn.mjTRN_JOINTINPARENT))
    at_joints = np.isin(m.actuator_trntype, kinds)
    return np.flatnonzero(at_joints & (m.actuator_trnid[:, 0] == joint)).tolist()


def _tendon(m: mujoco.MjModel, actuator: int) -> tuple[int, int]:
    return int(m.actuator_trnid[actuator, 0]), actuator


def site_shape(m: mujoco.MjModel, site: int) -> str:
    return mujoco.mjtGeom(int(m.site_type[site])).name.removeprefix("mjGEOM_")


def _body_of(m: mujoco.MjModel, kind: int, i: int) -> int:
    if kind in (OBJ.mjOBJ_BODY, OBJ.mjOBJ_XBODY):
        return i
    fields = {OBJ.mjOBJ_GEOM: m.geom_bodyid, OBJ.mjOBJ_SITE: m.site_bodyid}
    return int(fields.get(OBJ(kind), m.cam_bodyid)[i])


def _is_below(m: mujoco.MjModel, body: int, top: int) -> bool:
    """Whether `body` is `top` or hangs from it."""
    while body > top:
        body = int(m.body_parentid[body])
    return body == top


def _place(items: list, item: object) -> int:
    """Where `item` is in `items`, to which it is added if it is new."""
    if item not in items:
        items.append(item)
    return items.index(item)
