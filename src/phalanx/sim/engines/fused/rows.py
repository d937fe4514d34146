"""Rows of `rows.h`: equalities, limits and friction of tendons, limits of ball joints; and tendons.

Their numbers are tables as in `numbers.py`, their structure is constants.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import mujoco
import numpy as np
import torch
from torch import Tensor

from phalanx.sim.engines.fused.places import Places, frames
from phalanx.sim.engines.fused.placing import Device, Fields, Make, columns, product, turned
from phalanx.sim.engines.fused.solref import reference
from phalanx.sim.engines.fused.structure import BALL, Structure

EQ, TYPES = mujoco.mjtEq, (
    "JOINTS", "TENDONS", "TENDON_LIMIT", "TENDON_FRICTION", "BALL_LIMIT", "CONNECT", "WELD", "REST",
)  # fmt: skip
EQUALITIES = ("JOINTS", "TENDONS", "CONNECT", "WELD", "REST")
WIDTH, DATA = 16, 9
"""Columns of the table of rows, and where those of the row's type begin."""


@dataclass
class Row:
    """One constraint row; `id`: of its equality, tendon or joint."""

    type: str
    id: int
    first: int = -1
    """Slot of the first body, or what the row's type reads: a slot, a tendon, a ball joint."""
    second: int = -1
    terms: list[tuple[int, float]] = field(default_factory=list)
    """Slots and their coefficients, those of `first` before those of `second`."""
    split: int = 0
    """How many terms belong to `first`."""
    axis: int = -1
    """Which row of a connect or weld."""
    bodies: tuple[int, int] = (-1, -1)


class Rows:
    """All rows of a structure, and its tendons."""

    def __init__(self, s: Structure) -> None:
        m = s.model
        self.structure = s
        self.tendons = [tendon_terms(s, t) for t in range(m.ntendon)]
        self.rows: list[Row] = []
        off = m.opt.disableflags
        flags = mujoco.mjtDisableBit
        if off & flags.mjDSBL_CONSTRAINT:
            return
        if not off & flags.mjDSBL_EQUALITY:
            for i in np.flatnonzero(m.eq_active0 | s.switched).tolist():
                self._add_equality(i)
        if not off & flags.mjDSBL_FRICTIONLOSS:
            for t in np.flatnonzero(m.tendon_frictionloss > 0).tolist():
                self.rows.append(Row("TENDON_FRICTION", t, t, terms=self.tendons[t]))
        if off & flags.mjDSBL_LIMIT:
            return
        for k, slot in enumerate(s.slots):
            if slot.kind == BALL and slot.axis == 0 and m.jnt_limited[slot.joint]:
                terms = [(k + i, 1.0) for i in range(3)]
                self.rows.append(Row("BALL_LIMIT", slot.joint, s.balls.index(k), terms=terms))
        for t in np.flatnonzero(m.tendon_limited).tolist():
            self.rows.append(Row("TENDON_LIMIT", t, t, terms=self.tendons[t]))

    def _add_equality(self, i: int) -> None:
        m, s = self.structure.model, self.structure
        one, two, kind = int(m.eq_obj1id[i]), int(m.eq_obj2id[i]), EQ(int(m.eq_type[i]))
        if kind == EQ.mjEQ_JOINT:
            slot_of = [slot.joint for slot in s.slots].index
            ends = [slot_of(j) for j in (one, two) if j >= 0]
            terms = [(k, 1.0) for k in ends]
            self.rows.append(Row("JOINTS", i, ends[0], ends[1] if two >= 0 else -1, terms, 1))
        elif kind == EQ.mjEQ_TENDON:
            first, second = self.tendons[one], self.tendons[two] if two >= 0 else []
            self.rows.append(Row("TENDONS", i, one, two, first + second, len(first)))
        else:
            bodies = self._ends(i)
            if all(m.body_treeid[b] < 0 for b in bodies):  # no joint moves either: no row
                return
            first_slot, second_slot = (s.slot_of_body(b) for b in bodies)
            weld = kind == EQ.mjEQ_WELD
            for axis in range(6 if weld else 3):
                name = "REST" if axis else "WELD" if weld else "CONNECT"
                row = Row(name, i, first_slot, second_slot, axis=axis, bodies=bodies)
                self.rows.append(row)

    def _ends(self, i: int) -> tuple[int, int]:
        """The bodies of a connect or weld."""
        m = self.structure.model
        ends = int(m.eq_obj1id[i]), int(m.eq_obj2id[i])
        if m.eq_objtype[i] == mujoco.mjtObj.mjOBJ_SITE:
            return int(m.site_bodyid[ends[0]]), int(m.site_bodyid[ends[1]])
        return ends

    def damped(self) -> list[list[int]]:
        """Parts of tendons whose damping changes accelerations, with implicitfast: terms, counted
        over all tendons, of slots that carry each other. MuJoCo leaves out what damping couples
        beyond the pattern of the mass matrix."""
        m, s = self.structure.model, self.structure
        parts: list[list[int]] = []
        first, slowed = 0, damped_tendons(m)
        for t, terms in enumerate(self.tendons):
            own: list[list[int]] = []
            for n, (k, _) in enumerate(terms if t in slowed else []):
                part = next((x for x in own if s.carries(k, terms[x[0] - first][0])), None)
                part.append(first + n) if part else own.append([first + n])
            parts += own
            first += len(terms)
        return parts

    def branching(self) -> int:
        """A tendon whose damping couples slots only some of which carry each other, or -1."""
        s, slots = self.structure, [k for terms in self.tendons for k, _ in terms]
        owners = [t for t, terms in enumerate(self.tendons) for _ in terms]
        parts = self.damped()
        for part in parts:
            for other in (p for p in parts if owners[p[0]] == owners[part[0]]):
                pairs = [(slots[i], slots[j]) for i in part for j in other]
                if any(s.carries(*pair) != (part is other) for pair in pairs):
                    return owners[part[0]]
        return -1

    def trees(self, row: Row) -> list[int]:
        """The trees that a row moves, by number, at least one."""
        slots = [k for k, _ in row.terms]
        if row.axis >= 0:
            slots = [k for k in (row.first, row.second) if k >= 0]
        return sorted({self.structure.tree_of(k) for k in slots}) or [0]

    def numbers(self) -> dict[str, int]:
        """Constants of C."""
        types = {f"ROW_{name}": i for i, name in enumerate(TYPES)}
        return types | {
            "NROW": len(self.rows),
            "NROW_TERM": sum(len(row.terms) for row in self.rows),
            "NROW_BODY": sum(row.axis >= 0 for row in self.rows),
            "SWITCHED": int(self.structure.switched),
            "NEQ": self.structure.model.neq,
            "NWELD": sum(row.type == "WELD" for row in self.rows),
            "NTENDON": len(self.tendons),
            "NDAMPED": len(self.damped()),
        }

    def arrays(self) -> dict[str, Sequence[int]]:
        """Arrays of C."""
        rows = self.rows
        of_bodies = [row for row in rows if row.axis >= 0]
        welds = [row for row in rows if row.type == "WELD"]
        starts = np.cumsum([0, *(len(row.terms) for row in rows)]).tolist()
        terms = [term for tendon in self.tendons for term in tendon]
        owners, damped = [t for t, x in enumerate(self.tendons) for _ in x], self.damped()
        return {
            "ROW_TYPE": [TYPES.index(row.type) for row in rows],
            "ROW_EQ": [row.id if row.type in EQUALITIES else -1 for row in rows],
            "ROW_FIRST": [row.first for row in rows],
            "ROW_SECOND": [row.second for row in rows],
            "ROW0": starts,
            "ROW_SPLIT": [start + row.split for start, row in zip(starts, rows, strict=False)],
            "ROW_SLOT": [k for row in rows for k, _ in row.terms],
            "ROW_BODY": [of_bodies.index(row) if row.axis >= 0 else -1 for row in rows],
            "ROW_AXIS": [row.axis for row in rows],
            "ROW_BODY1": [row.bodies[0] for row in rows],
            "ROW_BODY2": [row.bodies[1] for row in rows],
            "ROW_WELD_OF": [welds.index(row) if row in welds else -1 for row in rows],
            "ROW_TREE1": [self.trees(row)[0] for row in rows],
            "ROW_TREE2": [self.trees(row)[-1] for row in rows],
            "TENDON0": np.cumsum([0, *(len(t) for t in self.tendons)]).tolist(),
            "TENDON_SLOT": [k for k, _ in terms],
            "DAMPED_TENDON": [owners[part[0]] for part in damped],
            "DAMPED_TREE": [self.structure.tree_of(terms[part[0]][0]) for part in damped],
            "DAMPED0": np.cumsum([0, *(len(part) for part in damped)]).tolist(),
            "DAMPED_TERM": [n for part in damped for n in part],
        }

    def tables(self, places: Places) -> dict[str, Make]:
        """Makers of (E, rows, columns)."""
        on = places.on
        m, flags = self.structure.model, mujoco.mjtDisableBit
        spring, damper = (int(not m.opt.disableflags & flag)
                          for flag in (flags.mjDSBL_SPRING, flags.mjDSBL_DAMPER))  # fmt: skip
        makers = [self._numbers(row, places) for row in self.rows]
        none = on(np.zeros((1, 0, WIDTH)))
        terms = on(np.array([c for row in self.rows for _, c in row.terms]).reshape(1, -1, 1))
        tendon_terms = on(np.array([c for t in self.tendons for _, c in t]).reshape(1, -1, 1))
        welds = [self._weld(row, places) for row in self.rows if row.type == "WELD"]
        no_welds = on(np.zeros((1, 0, 8)))

        def tendon(field: Fields) -> Tensor:
            rest = field("tendon_lengthspring")
            stiffness, damping = field("tendon_stiffness"), field("tendon_damping")
            return columns(spring * stiffness, rest[..., 0], rest[..., 1], damper * damping)

        return {
            "row": lambda field: stacked([make(field) for make in makers]) if makers else none,
            "row_term": lambda field: terms,
            "tendon": tendon,
            "tendon_term": lambda field: tendon_terms,
            "weld": lambda field: stacked([make(field) for make in welds]) if welds else no_welds,
        }

    def _numbers(self, row: Row, places: Places) -> Make:
        """(E, WIDTH) of one row."""
        m, i, on = self.structure.model, row.id, places.on
        friction, limit = row.type == "TENDON_FRICTION", row.type == "TENDON_LIMIT"
        prefix, end = (
            ("tendon_", "_fri" if friction else "_lim") if friction or limit else ("eq_", "")
        )
        if row.type == "BALL_LIMIT":
            prefix = "jnt_"
        weight, anchors = self._weight(row, on), self._anchors(row, places)
        zeros = on(np.zeros(1))
        coupled, zero = row.type in ("JOINTS", "TENDONS"), "tendon_length0"
        ends = [int(m.eq_obj1id[i]), int(m.eq_obj2id[i])] if coupled else []
        if row.type == "JOINTS":
            zero, ends = "qpos0", [int(m.jnt_qposadr[j]) if j >= 0 else -1 for j in ends]

        def make(field: Fields) -> Tensor:
            solref, solimp = (field(f"{prefix}{name}{end}")[:, i] for name in ("solref", "solimp"))
            numbers = [*reference(m, solref, solimp), solimp[:, 4].clamp_min(1), weight(field)]
            margin, own = zeros, [zeros] * (WIDTH - DATA)
            if friction:
                dmin, inverse = numbers[2], numbers[7].clamp_min(1e-15)
                own[:2] = field("tendon_frictionloss")[:, i], dmin / ((1 - dmin) * inverse)
            elif limit:
                margin, own[:2] = (
                    field("tendon_margin")[:, i],
                    field("tendon_range")[:, i].unbind(1),
                )
            elif row.type == "BALL_LIMIT":
                margin, own[0] = field("jnt_margin")[:, i], field("jnt_range")[:, i].amax(1)
            elif row.axis >= 0:
                scale = field("eq_data")[:, i, 10]
                own[:7] = [*(x for at in anchors(field) for x in at.unbind(-1)), scale]
            elif coupled:
                own[:5] = field("eq_data")[:, i, :5].unbind(1)
                own[5:7] = [field(zero)[:, k] if k >= 0 else zeros for k in ends]
            return torch.stack(torch.broadcast_tensors(*numbers, margin, *own), -1)

        return make

    def _weight(self, row: Row, on: Device) -> Make:
        """(E,) mj_diagApprox."""
        m, i = self.structure.model, row.id
        of_equality = row.axis >= 0 or row.type in ("JOINTS", "TENDONS")
        ends = (m.eq_obj1id[i], m.eq_obj2id[i]) if of_equality else ()
        targets = [int(x) for x in ends if x >= 0]
        if row.axis >= 0:
            bodies, part = on.index(row.bodies), int(row.axis > 2)
            return lambda field: field("body_invweight0")[:, bodies, part].sum(1)
        if row.type == "JOINTS":
            dofs = on.index(m.jnt_dofadr[targets].tolist())
            return lambda field: field("dof_invweight0")[:, dofs].sum(1)
        if row.type == "TENDONS":
            at = on.index(targets)
            return lambda field: field("tendon_invweight0")[:, at].sum(1)
        if row.type == "BALL_LIMIT":
            dof = int(m.jnt_dofadr[i])
            return lambda field: field("dof_invweight0")[:, dof]
        return lambda field: field("tendon_invweight0")[:, i]

    def _anchors(self, row: Row, places: Places) -> Callable[[Fields], list[Tensor]]:
        """The two points of a connect or weld, (E, 3) each in its slot's frame or the world's."""
        m, i = self.structure.model, row.id
        if row.axis < 0:
            return lambda field: []
        if m.eq_objtype[i] == mujoco.mjtObj.mjOBJ_SITE:
            place = frames(places, "site", [int(m.eq_obj1id[i]), int(m.eq_obj2id[i])])
            return lambda field: [*place(field)[0].unbind(1)]
        bodies = places.of(row.bodies)
        first, second = (3, 0) if m.eq_type[i] == EQ.mjEQ_WELD else (0, 3)

        def make(field: Fields) -> list[Tensor]:
            (pos, turn), data = bodies(field), field("eq_data")[:, i]
            points = torch.stack([data[:, first : first + 3], data[:, second : second + 3]], 1)
            return [*(pos + turned(turn, points)).unbind(1)]

        return make

    def _weld(self, row: Row, places: Places) -> Make:
        """(E, 8) quaternions in the slots' frames whose difference is a weld's error."""
        m, i, on = self.structure.model, row.id, places.on
        bodies, of_sites = on.index(row.bodies), m.eq_objtype[i] == mujoco.mjtObj.mjOBJ_SITE
        sites = on.index([int(m.eq_obj1id[i]), int(m.eq_obj2id[i])])
        none = on([1.0, 0, 0, 0])

        def make(field: Fields) -> Tensor:
            if of_sites:
                own = field("site_quat")[:, sites]
            else:
                relative = field("eq_data")[:, i, 6:10]
                own = torch.stack([relative, none.expand_as(relative)], 1)
            return product(places(field).quat[:, bodies], own).flatten(-2)

        return make


def damped_tendons(m: mujoco.MjModel) -> set[int]:
    """Tendons with damping, their own or that of actuators, if implicitfast takes it into
    account."""
    if m.opt.integrator != mujoco.mjtIntegrator.mjINT_IMPLICITFAST:
        return set()
    pulls = (m.actuator_trntype == mujoco.mjtTrn.mjTRN_TENDON) & (m.actuator_biasprm[:, 2] != 0)
    return {*np.flatnonzero(m.tendon_damping).tolist(), *m.actuator_trnid[pulls, 0].tolist()}


def may_be_damped(m: mujoco.MjModel, name: str) -> bool:
    """Whether model field `name` could damp a tendon for which the step has no `damped` part."""
    if m.opt.integrator != mujoco.mjtIntegrator.mjINT_IMPLICITFAST:
        return False
    pulls = m.actuator_trntype == mujoco.mjtTrn.mjTRN_TENDON
    pulled = {*m.actuator_trnid[pulls, 0].tolist()}
    others = {"tendon_damping": {*range(m.ntendon)}, "actuator_biasprm": pulled}.get(name, set())
    return not others <= damped_tendons(m)


def stacked(rows: Sequence[Tensor]) -> Tensor:
    """(E, rows, columns) from (E or 1, columns) each."""
    return torch.stack(torch.broadcast_tensors(*rows), 1)


def tendon_terms(s: Structure, t: int) -> list[tuple[int, float]]:
    """Slots and coefficients of a fixed tendon."""
    m = s.model
    slot_of = [slot.joint for slot in s.slots].index
    first = int(m.tendon_adr[t])
    wraps = range(first, first + int(m.tendon_num[t]))
    return [(slot_of(int(m.wrap_objid[n])), float(m.wrap_prm[n])) for n in wraps]
