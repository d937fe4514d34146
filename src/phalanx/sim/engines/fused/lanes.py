"""How the slots of a structure are spread over the lanes of a GPU that step one world together.

Every lane computes the trunk, with the same bits. Each limb, a part of the tree that hangs from
the trunk, belongs to one lane. A lane numbers its slots from the trunk on; constants and tables of
the fused step use these local numbers. A single lane has no trunk: all of its slots are limbs.

The lanes of a warp run together, so what one of them does takes the time of all. Constants are the
same for all lanes where they can be: a shorter limb has gaps, slots that do not move, and what one
lane has at a slot, a body or a limit, all have there, with numbers that do nothing.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from phalanx.sim.engines.fused.sensors import SUBTREES, Sensors, actuators_of
from phalanx.sim.engines.fused.structure import Structure

TRUNK = -1
"""Instead of a lane: all of them."""
TOGETHER = -2
"""Instead of a lane: all of them, each with its part."""
GAP = -1
"""Instead of a slot, where a lane has none."""

SLOT_TABLES = frozenset({
    "rotation", "offset", "origin", "quat", "qpos0", "inertia", "armature", "damping", "spring",
    "limit", "friction", "force_range",
})  # fmt: skip
"""Tables with a row for each slot."""
BY_COLUMN = frozenset({"pair"})
"""Tables of which lanes look at one number of every row, most of the time."""
OF_GAPS = {"POSE_OF": -1, "TREE_POSE": -1, "QPOS": -1, "DOF": -1, "BALL_OF": -1, "BALL_AXIS": -1}
"""Constants of gaps; others are 0, but for KIND and UP."""
SHARED = frozenset({"BODY", "LIMITED", "FRICTION", "FORCE_LIMITED", "ACTUATED"})
"""What all lanes have at a slot if one has."""
HEAVY = 1e30
NUMBERS_OF_GAPS: dict[str, dict[int, float]] = {
    "rotation": {0: 1, 4: 1, 8: 1}, "quat": {0: 1}, "armature": {0: HEAVY},
    "limit": {0: -HEAVY, 1: HEAVY},
}  # fmt: skip
"""Columns of the tables that are not 0. What hangs from a gap moves with what that hangs from."""


@dataclass(frozen=True)
class Lanes:
    """`trunk`: slots of all lanes; `limbs`: of each lane, with GAPs; parents before children."""

    trunk: list[int]
    limbs: list[list[int]]
    places: dict[torch.device, Tensor] = field(default_factory=dict, repr=False, compare=False)
    """(length, lanes) slots, on devices where tables have been arranged."""

    @property
    def count(self) -> int:
        return len(self.limbs)

    @property
    def length(self) -> int:
        """Slots of a lane."""
        return len(self.trunk) + max(len(limb) for limb in self.limbs)

    def slots(self, lane: int) -> list[int]:
        """Slots of a lane in the order of its local numbers, with GAPs."""
        own = self.trunk + self.limbs[lane]
        return own + [GAP] * (self.length - len(own))

    def lane_of(self, slot: int) -> int:
        """The lane of a slot; TRUNK for those of all lanes and for what never moves (-1)."""
        for lane, limb in enumerate(self.limbs):
            if slot in limb:
                return lane
        return TRUNK

    def local(self, slot: int) -> int:
        """The local number of a slot, -1 of what never moves."""
        if slot < 0:
            return -1
        return self.slots(max(0, self.lane_of(slot))).index(slot)

    def by_slot(self, name: str, values: Sequence[int]) -> str:
        """The declaration of a constant of each slot."""
        some = [[OF_GAPS.get(name, 0) if k == GAP else int(values[k]) for k in self.slots(lane)]
                for lane in range(self.count)]  # fmt: skip
        for i in range(self.length):
            there = [row[i] for lane, row in enumerate(some) if self.slots(lane)[i] != GAP]
            for lane, row in enumerate(some):
                if name in SHARED:
                    row[i] = max(there)
                elif name == "KIND" and self.slots(lane)[i] == GAP:
                    row[i] = there[0]
        return laned(name, some)

    def ups(self, lane: int, s: Structure) -> list[int]:
        """What each slot of a lane hangs from, in local numbers; a gap, from the slot before it."""
        slots, begin, out = self.slots(lane), len(self.trunk), []
        for i in range(len(slots)):
            if i > begin and GAP in slots[i - 1 : i + 1]:
                out.append(i - 1)
            else:
                real = next((j for j in slots[i:] if j != GAP), GAP)
                out.append((0 if begin else GAP) if real == GAP else self.local(s.slots[real].up))
        return out

    def hanging(self, s: Structure) -> list[str]:
        """Declarations of what each slot hangs from, of which ones hang from the slot before them,
        from which others hang, and on which of the trunk lanes act."""
        ups = [self.ups(lane, s) for lane in range(self.count)]
        begin = len(self.trunk)
        chained = [(i != begin or self.count == 1) and all(row[i] == i - 1 >= 0 for row in ups)
                   for i in range(self.length)]  # fmt: skip
        joined = {row[i] for row in ups for i in range(self.length) if not chained[i]}
        trunk = range(begin if self.count > 1 else 0)
        joins = [i in joined or i in trunk for i in range(self.length)]
        hung = {row[i] for row in ups for i in range(begin, self.length)}
        bodies = {self.local(k) for k in s.last.values()}
        gathers = [i in hung or i in bodies for i in range(self.length)]
        lines = [laned(name, [values]) for name, values in
                 (("CHAINED", chained), ("JOINS", joins), ("GATHERS", gathers))]  # fmt: skip
        if self.count == 1:
            return [laned("UP", ups), *lines]
        each = ", ".join(f"{{{_list(row)}}}" for row in ups)
        same = [len({row[i] for row in ups}) == 1 for i in range(self.length)]
        all_ups = f"TABLE int UP_OF_LANE[][{self.length}] = {{{each}}};"
        return [all_ups, laned("UP_SAME", [same]), *lines]

    def ranges(self, name: str, starts: Sequence[int]) -> str:
        """The declaration of where each slot's items begin and end. Of the trunk's, lanes take
        parts if they are points or obstacles, which count once."""
        first, last = [], []
        for lane in range(self.count):
            first.append([0] * self.length)
            last.append([0] * self.length)
            for local, k in enumerate(self.slots(lane)):
                if k < 0:
                    continue
                begin, end = starts[k], starts[k + 1]
                if self.count > 1 and k in self.trunk and name in ("POINT", "STATIC"):
                    size = end - begin
                    begin, end = (begin + size * i // self.count for i in (lane, lane + 1))
                first[-1][local], last[-1][local] = begin, end
        return laned(f"{name}0", first) + "\n" + laned(f"{name}1", last)

    def items(self, name: str, owners: Sequence[int]) -> str:
        """The declaration of which items each lane has; the trunk's go to the lanes in turns.
        `owners`: the lane of each item; none has what they do TOGETHER."""
        own: list[list[int]] = [[] for _ in range(self.count)]
        for i, owner in enumerate(owners):
            if owner != TOGETHER:
                own[owner if owner >= 0 else i % self.count].append(i)
        longest = max(len(row) for row in own)
        return laned(f"ONE_{name}", [[*row, *[-1] * (longest - len(row) + 1)] for row in own])

    def arranged(self, name: str, values: Tensor) -> Tensor:
        """A table (E, rows, columns); if it is one of slots, with the rows of the lanes side by
        side, so that one load serves all lanes: (E, length, columns x lanes). One BY_COLUMN has
        its columns as rows."""
        if self.count > 1 and name in BY_COLUMN:
            return values.transpose(1, 2)
        if self.count == 1 or name not in SLOT_TABLES:
            return values
        if values.device not in self.places:
            rows = torch.tensor([self.slots(lane) for lane in range(self.count)])
            self.places[values.device] = rows.T.contiguous().to(values.device)
        none = torch.zeros_like(values[:, :1])
        for column, number in NUMBERS_OF_GAPS.get(name, {}).items():
            none[..., column] = number
        own = torch.cat([values, none], 1)[:, self.places[values.device]]
        return own.transpose(-1, -2).flatten(2)


def laned(name: str, rows: Sequence[Sequence[int]]) -> str:
    """An array of constants that lanes may have values of their own for. If they are all the same,
    the compiler knows it, whatever the index."""
    if len(same := {int(value) for row in rows for value in row}) == 1:
        return f"#define {name} (Same<{same.pop()}>{{}})"
    if all(list(row) == list(rows[0]) for row in rows):
        return f"TABLE int {name}[] = {{{_list(rows[0])}}};"
    each = ", ".join(f"{{{_list(row)}}}" for row in rows)
    return (
        f"TABLE int {name}_OF_LANE[][{len(rows[0])}] = {{{each}}};\n"
        f"#define {name} {name}_OF_LANE[LANE]"
    )


def _list(values: Sequence[int]) -> str:
    return ", ".join(str(int(v)) for v in values) or "0"


def _is_unrolled(s: Structure, lanes: Lanes) -> bool:
    """Whether loops over slots are unrolled outside the solver, too. On an H200 that saved a tenth
    of a Humanoid's step, which has 142 pairs of shapes, and cost a G1, which has 4, as much."""
    return _in_registers(s, lanes) or (lanes.count > 1 and len(s.pairs) >= 32)


def _in_registers(s: Structure, lanes: Lanes) -> bool:
    """Whether a lane has so little that the step keeps it in registers."""
    return lanes.count > 1 and lanes.length <= 4 and not s.pairs and not s.obstacles


def sensor_lanes(s: Structure, sensors: Sensors, lanes: Lanes) -> list[set[int]]:
    """Lanes from which each sensor reads, without the trunk."""
    m, frames = s.model, sensors.frame_slots()
    out = []
    for i, row in zip(sensors.ids, sensors.rows, strict=True):
        name = sensors.kinds[sensors.ids.index(i)]
        if name == "ACTUATORFRC":
            slots = [k for k, slot in enumerate(s.slots)
                     if int(m.sensor_objid[i]) in actuators_of(m, slot.joint)]  # fmt: skip
        elif name == "CONTACT":
            slots = [s.slot_of_body(int(m.sensor_objid[i]))]
        elif name in SUBTREES:
            slots = []
        elif row["FRAME"] < 0:
            slots = [row["SLOT"]]
        else:
            slots = [frames[f] for f in (row["FRAME"], row["REF"]) if f >= 0]
        out.append({lanes.lane_of(k) for k in slots} - {TRUNK})
    return out


def declared(s: Structure, lanes: Lanes, arrays: Mapping[str, Sequence[int]], sensors: Sensors,
             is_by_slot: Callable[[str], bool]) -> list[str]:  # fmt: skip
    """C declarations of `arrays`, those of slots by lanes, and of what belongs to each lane."""
    lines = []
    for name, values in arrays.items():
        if is_by_slot(name):
            lines.append(lanes.by_slot(name, values))
        elif name in ("ACTUATOR0", "POINT0", "GEOM0", "STATIC0", "BODIES0"):
            lines.append(lanes.ranges(name[:-1], values))
        elif name.endswith("_SLOT") and name != "TENDON_SLOT":
            lines.append(laned(name, [[lanes.local(k) for k in values]]))
        else:
            lines.append(laned(name, [values]))
    owner = lanes.lane_of
    of_sensors = zip(sensors.kinds, sensor_lanes(s, sensors, lanes), strict=True)
    reading = [TOGETHER if name in SUBTREES else min(some, default=TRUNK)
               for name, some in of_sensors]  # fmt: skip
    acting = [TRUNK] * s.model.nu
    for k, slot in enumerate(s.slots):
        for i in actuators_of(s.model, slot.joint):
            acting[i] = owner(k)
    first = len(sensors.of_state)
    lines += [
        f"#define LANES {lanes.count}",
        f"#define NTRUNK {len(lanes.trunk)}",
        f"#define IN_REGISTERS {int(_in_registers(s, lanes))}",
        f"#define UNROLLED {int(_is_unrolled(s, lanes))}",
        *lanes.hanging(s),
        laned("GEOM_LANE", [[owner(k) for k in arrays["GEOM_SLOT"]]]),
        laned("PLACE_BODY_LANE", [[owner(k) for k in arrays["PLACE_BODY_SLOT"]]]),
        lanes.items("ACTUATORS", acting),
        lanes.items("PLACE_BODY", [owner(k) for k in arrays["PLACE_BODY_SLOT"]]),
        lanes.items("PLACE_GEOM", [owner(k) for k in arrays["PLACE_GEOM_SLOT"]]),
        lanes.items("PLACE_SITE", [owner(k) for k in arrays["PLACE_SITE_SLOT"]]),
        lanes.items("SENSORS_OF_STATE", reading[:first]),
        lanes.items("SENSORS_OF_FORCES", reading[first:]),
    ]
    return lines
