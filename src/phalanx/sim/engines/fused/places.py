"""Where slots and bodies are, made from model fields: see `placing.py` for its tensors.

    places = Places(structure, on)
    places(field)                        # of all slots and bodies
    pos, turn = places.of(bodies)(field)
    pos, turn = frames(places, "geom", geoms)(field)

What has the same value in all environments is computed once.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from phalanx.sim.engines.fused.placing import (
    Device,
    Fields,
    conjugate,
    matrices,
    product,
    quaternions,
    turned,
    with_axis_z,
)
from phalanx.sim.engines.fused.structure import BASE, FREE, HINGE, SLIDE, Structure


class Placed(NamedTuple):
    """Where slots are in the frames of those that they move with, and bodies in the frames of the
    slots that carry them; or either in the world's."""

    slot_pos: Tensor
    """(E, slots, 3) [m]."""
    slot_turn: Tensor
    """(E, slots, 3, 3)."""
    slot_quat: Tensor
    """(E, slots, 4), with the sign that MuJoCo's products give."""
    pos: Tensor
    """(E, bodies, 3) [m]."""
    turn: Tensor
    """(E, bodies, 3, 3)."""
    quat: Tensor
    """(E, bodies, 4), with the sign that MuJoCo's products give."""


class Places:
    """Makes `Placed` of a structure from model fields."""

    def __init__(self, s: Structure, on: Device) -> None:
        m, slots = s.model, s.slots
        self.structure, self.on = s, on
        self._fields: list[Tensor] = []
        self._placed: Placed | None = None
        kinds = np.array([slot.kind for slot in slots])
        joints = [slot.joint for slot in slots]
        firsts = [slot.axis == 0 and slot.joint == m.body_jntadr[slot.body] for slot in slots]
        self._joints, self._bodies = on.index(joints), on.index([slot.body for slot in slots])
        self._before = on.index([max(0, k - 1) for k in range(len(slots))])
        self._has_axis = on(np.isin(kinds, (HINGE, SLIDE)))[:, None, None] > 0
        self._posed = on(np.isin(kinds, (FREE, BASE)))[:, None] > 0
        self._first = on(firsts)[:, None] > 0
        self._carriers, self._last = on.index(list(s.last)), on.index(list(s.last.values()))
        self._parents = on.index(m.body_parentid.tolist())
        self._levels = [on.index(some) for some in _welded(s)]
        self._still, self._one = on(np.eye(3)), on([1.0, 0, 0, 0])

    def __call__(self, field: Fields) -> Placed:
        """See `Placed`."""
        fields = [field(name) for name in ("body_pos", "body_quat", "jnt_pos", "jnt_axis")]
        if not self._placed or any(a is not b for a, b in zip(fields, self._fields, strict=True)):
            self._fields, self._placed = fields, self._make(*fields)
        return self._placed

    def of(self, bodies: Sequence[int]) -> Callable[[Fields], tuple[Tensor, Tensor]]:
        """Gives positions (E, n, 3) and rotations (E, n, 3, 3) of `bodies`."""
        at = self.on.index(bodies)
        made: list[tuple[Placed, tuple[Tensor, Tensor]]] = []

        def make(field: Fields) -> tuple[Tensor, Tensor]:
            placed = self(field)
            if not made or made[0][0] is not placed:
                made[:] = [(placed, (placed.pos[:, at], placed.turn[:, at]))]
            return made[0][1]

        return make

    def _make(
        self, body_pos: Tensor, body_quat: Tensor, jnt_pos: Tensor, jnt_axis: Tensor
    ) -> Placed:
        envs = max(map(len, (body_pos, body_quat, jnt_pos, jnt_axis)))
        body_turn = matrices(body_quat)
        along = with_axis_z(jnt_axis[:, self._joints])
        frame = torch.where(self._has_axis, along, self._still).expand(envs, -1, -1, -1)
        frame_quat = quaternions(frame)
        at = torch.where(self._posed, 0.0, jnt_pos[:, self._joints]).expand(envs, -1, -1)
        # From the origin of each slot's frame to that of its body's
        back, back_quat = frame.transpose(-1, -2), conjugate(frame_quat)
        arm = -turned(back, at)
        many = len(self._parents)
        pos = torch.zeros_like(self._still[0]).expand(envs, many, -1)
        turn, quat = self._still.expand(envs, many, -1, -1), self._one.expand(envs, many, -1)
        pos = pos.index_copy(1, self._carriers, arm[:, self._last])
        turn = turn.index_copy(1, self._carriers, back[:, self._last])
        quat = quat.index_copy(1, self._carriers, back_quat[:, self._last])

        def hung(bodies: Tensor) -> tuple[Tensor, Tensor, Tensor]:
            """Bodies without what their joints do, where their parents' are."""
            up = self._parents[bodies]
            return (
                pos[:, up] + turned(turn[:, up], body_pos[:, bodies]),
                turn[:, up] @ body_turn[:, bodies],
                product(quat[:, up], body_quat[:, bodies]),
            )

        for bodies in self._levels:
            places = hung(bodies)
            pos, turn, quat = (
                x.index_copy(1, bodies, own)
                for x, own in zip((pos, turn, quat), places, strict=True)
            )
        base, base_turn, base_quat = hung(self._bodies)
        before = self._before
        base = torch.where(self._first, base, arm[:, before])
        base_turn = torch.where(self._first[..., None], base_turn, back[:, before])
        base_quat = torch.where(self._first, base_quat, back_quat[:, before])
        free, one = self._posed, self._one
        return Placed(
            torch.where(free, 0.0, base + turned(base_turn, at)),
            torch.where(free[..., None], self._still, base_turn @ frame),
            torch.where(free, one, product(base_quat, frame_quat)),
            pos, turn, quat,
        )  # fmt: skip


def _welded(s: Structure) -> list[list[int]]:
    """Bodies that are welded to others, those after those that they are welded to."""
    depth = dict.fromkeys((0, *s.last), 0)
    for b in range(1, s.model.nbody):
        if b not in depth:
            depth[b] = depth[int(s.model.body_parentid[b])] + 1
    return [[b for b, own in depth.items() if own == n] for n in range(1, max(depth.values()) + 1)]


def frames(
    places: Places, kind: str, ids: Sequence[int]
) -> Callable[[Fields], tuple[Tensor, Tensor]]:
    """Gives positions (E, n, 3) and rotations (E, n, 3, 3) in their slots' frames, or the world's,
    of geoms, sites or cameras (kind: geom, site or cam)."""
    owners = getattr(places.structure.model, f"{kind}_bodyid")
    of_bodies = places.of([int(owners[i]) for i in ids])
    at = places.on.index(ids)

    def make(field: Fields) -> tuple[Tensor, Tensor]:
        (origin, turn), pos = of_bodies(field), field(f"{kind}_pos")[:, at]
        return origin + turned(turn, pos), turn @ matrices(field(f"{kind}_quat")[:, at])

    return make
