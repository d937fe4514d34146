"""Which slots of a structure each lane of a GPU gets; `lanes.py` says what lanes are."""

import math
from functools import cache

from phalanx.sim.engines.fused.lanes import GAP, Lanes, sensor_lanes
from phalanx.sim.engines.fused.rows import Rows
from phalanx.sim.engines.fused.sensors import Sensors
from phalanx.sim.engines.fused.structure import Structure
from phalanx.sim.engines.fused.thrust import thrusters

COUNTS = (2, 4, 8)
WORTH = 0.8
"""Twice the lanes must leave at most this part of the work to a lane."""


def spread(s: Structure, most: int = COUNTS[-1]) -> Lanes:
    """The lanes that step `s` soonest: the fewest of which more would not pay."""
    best = alone(s)
    if _needs_one_lane(s):
        return best
    for count in COUNTS:
        if count > most:
            break
        lanes = _spread(s, count)
        if lanes.length <= WORTH * best.length and _apart(s, lanes):
            best = lanes
    return best


def alone(s: Structure) -> Lanes:
    """One lane."""
    return Lanes([], [list(range(len(s.slots)))])


def _spread(s: Structure, count: int) -> Lanes:
    """The trunk that leaves the least to a lane. It begins as the free joints; then the root of the
    largest limb joins it, as long as something hangs from that root."""
    below = {k: [j for j in range(len(s.slots)) if _hangs(s, j, k)] for k in range(len(s.slots))}
    trunk = list(s.posed)
    best = None
    while True:
        tops = [k for k, slot in enumerate(s.slots)
                if k not in trunk and (slot.up < 0 or slot.up in trunk)]  # fmt: skip
        limbs: list[list[int]] = [[] for _ in range(count)]
        for top in sorted(tops, key=lambda k: -len(below[k])):
            min(limbs, key=len).extend(below[top])
        lanes = Lanes(sorted(trunk), _with_gaps(s, [sorted(limb) for limb in limbs]))
        if best is None or lanes.length < best.length:
            best = lanes
        largest = max(tops, key=lambda k: len(below[k]), default=None)
        if largest is None or len(below[largest]) == 1:
            return best
        trunk.append(largest)


def _with_gaps(s: Structure, limbs: list[list[int]]) -> list[list[int]]:
    """Chains of the length of the longest, with gaps where that leaves the fewest slots at which
    some lane has a body. Limbs that branch, or hang from the world, stay as they are."""
    for limb in limbs:
        ups = [s.slots[k].up for k in limb]
        if ups[:1] == [-1] or ups[1:] != limb[:-1]:
            return limbs
    longest = max(limbs, key=len)
    kinds = [s.slots[k].kind for k in longest]
    bodies = [_is_last(s, k) for k in longest]

    def placed(limb: list[int]) -> list[int]:
        @cache
        def rest(i: int, at: int) -> tuple[float, tuple[int, ...]]:
            """Where slots i, ... of the limb go from place `at` on, and what that costs."""
            if i == len(limb):
                return 0, ()
            if at == len(longest):
                return math.inf, ()
            k = limb[i]
            cost, others = rest(i + 1, at + 1)
            cost += (_is_last(s, k) > bodies[at]) + 9 * (s.slots[k].kind != kinds[at])
            return min((cost, (at, *others)), rest(i, at + 1))

        places = rest(0, 0)[1]
        return [limb[places.index(i)] if i in places else GAP for i in range(len(longest))]

    out = []
    for limb in limbs:
        out.append(placed(limb))
        bodies = [b or (k != GAP and _is_last(s, k)) for b, k in zip(bodies, out[-1], strict=True)]
    return out


def _is_last(s: Structure, k: int) -> bool:
    return s.last[s.slots[k].body] == k


def _hangs(s: Structure, k: int, top: int) -> bool:
    while k > top:
        k = s.slots[k].up
    return k == top


def _needs_one_lane(s: Structure) -> bool:
    """Whether `s` has what couples slots in other ways than limbs, trunk and contacts do."""
    m, coupled = s.model, Rows(s)
    return bool(
        coupled.rows or coupled.tendons or s.balls or m.na
        or len({s.root_of(k) for k in range(len(s.slots))}) > 1 or len(s.groups) > 1
        or "TOUCH" in Sensors(s).kinds or Sensors(s).of_fixed_contacts or Sensors(s).parts
        or len(s.slots) == 1 or thrusters(m)
    )  # fmt: skip


def _apart(s: Structure, lanes: Lanes) -> bool:
    """Whether every sensor reads from one lane."""
    return all(len(owners) <= 1 for owners in sensor_lanes(s, Sensors(s), lanes))
