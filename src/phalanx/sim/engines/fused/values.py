"""Values that the fused step does not have, of model fields that may differ between environments:
the same are refused in the model and, on a CPU, in an environment. A GPU would have to wait."""

from collections.abc import Callable, Iterator, Sequence, Set
from typing import NamedTuple

import mujoco
import numpy as np
import torch
from torch import Tensor

from phalanx.errors import PhalanxError
from phalanx.sim.engines.fused import boxfields
from phalanx.sim.engines.fused.placing import Device, Fields
from phalanx.sim.engines.fused.structure import Structure
from phalanx.sim.engines.fused.touches import CONVEX, ON_BOXES, pair_kind


class DoesNotFit(PhalanxError):
    """The fused engine refuses values of an environment's model fields, or a step as large as they
    or contacts ask for; it did not step."""


class Rule(NamedTuple):
    """What `bad` finds in `fields`, (E, ids) bool, is refused of elements `ids`."""

    fields: tuple[str, ...]
    kind: str
    ids: Sequence[int]
    bad: Callable[[Fields, Sequence[int]], Tensor]
    what: str
    box_field: int = -1
    """Of which it is a rule, by its first box."""


def broken(
    rules: Sequence[Rule], field: Fields, changed: Set[str] | None = None
) -> Iterator[tuple[Rule, int]]:
    """Rules that the values of `field` break in any environment, with the first element that does.
    changed: the fields to look at, None for all. Waits for the device."""
    for rule in rules:
        if changed is None or not changed.isdisjoint(rule.fields):
            bad = rule.bad(field, rule.ids).any(0)
            if bad.any():
                yield rule, rule.ids[int(bad.nonzero()[0, 0])]


def sentence(m: mujoco.MjModel, rule: Rule, element: int) -> str:
    """What the step does not have, with the element's name."""
    return f"{rule.what} ({rule.kind} {name_of(m, rule.kind, element)})"


def refused(m: mujoco.MjModel, rules: Sequence[Rule], field: Fields) -> str | None:
    """What the step does not have of the values of `field`, in any environment."""
    return next((sentence(m, *found) for found in broken(rules, field)), None)


def rules_of(s: Structure) -> list[Rule]:
    """What is refused of a model with this structure."""
    return [rule for rule in _rules(s) if rule.ids]


def rules_of_boxes(s: Structure, on: Device) -> Iterator[Rule]:
    """Boxes of a box field stay where its grid has them, and touch alike in an environment. Nothing
    waits for the device."""
    m, places, touch = s.model, boxfields.PLACES, boxfields.TOUCH
    for first, own in s.box_fields.items():
        if first not in s.geoms:
            continue
        for name, word in places.items():
            yield Rule((name,), "geom", own, _moved(m, on, name, own),
                       f"another {word} of one of many fixed boxes", first)  # fmt: skip
        for name, word in touch.items():
            what = f"another {word} of one of many fixed boxes than of the others"
            yield Rule((name,), "geom", own, _unlike_first(on, name, own), what, first)
        carriers = boxfields.bodies(m, own)
        for name in ("body_pos", "body_quat") if carriers else ():
            yield Rule((name,), "body", carriers, _moved(m, on, name, carriers),
                       "another place of many fixed boxes", first)  # fmt: skip


def name_of(m: mujoco.MjModel, kind: str, i: int) -> str:
    """The name of an element in quotes, else its number."""
    name = mujoco.mj_id2name(m, getattr(mujoco.mjtObj, f"mjOBJ_{kind.upper()}"), i)
    return repr(name) if name else str(i)


def _rules(s: Structure) -> Iterator[Rule]:
    m, joints = s.model, mujoco.mjtJoint
    free = m.jnt_type == joints.mjJNT_FREE
    limited = (m.jnt_limited > 0) & ~free & (m.jnt_type != joints.mjJNT_BALL)
    yield Rule(
        ("jnt_stiffness",), "joint", _places(free), _is_set("jnt_stiffness"),
        "a spring on a free joint",
    )  # fmt: skip
    for kind, ids in (("jnt", _places(limited)), ("tendon", _places(m.tendon_limited > 0))):
        fields = (f"{kind}_range", f"{kind}_margin")
        word = "joint" if kind == "jnt" else kind
        yield Rule(fields, word, ids, _overlap(*fields), "limits that overlap")
    if m.opt.integrator == mujoco.mjtIntegrator.mjINT_IMPLICITFAST:
        pulls = _places(m.actuator_trntype == mujoco.mjtTrn.mjTRN_TENDON)
        yield Rule(
            ("actuator_biasprm",), "actuator", pulls,
            lambda field, ids: field("actuator_biasprm")[:, ids, 2] > 0,
            "actuators that push a tendon the faster it moves, with implicitfast",
        )  # fmt: skip
    yield from rules_of_boxes(s, Device(torch.device("cpu")))
    hills = [p for p in s.obstacles if pair_kind(s, p)[0] == "HFIELD" and not s.moves(p.a)]
    by_points = (*CONVEX, *ON_BOXES)
    convex = [p for p in (*s.pairs, *s.obstacles) if pair_kind(s, p) in by_points]
    on_hills = "margins of contacts with a height field"
    # MuJoCo takes them for a depth and cuts contacts of faces short.
    negative = "negative margins of shapes whose contacts have no formula"
    for pairs, what, bad in ((hills, on_hills, _is_set), (convex, negative, _is_negative)):
        geoms = sorted({geom for p in pairs if p.explicit < 0 for geom in p[:2]})
        yield Rule(("geom_margin",), "geom", geoms, bad("geom_margin"), what)
        explicit = [p.explicit for p in pairs if p.explicit >= 0]
        yield Rule(("pair_margin",), "pair", explicit, bad("pair_margin"), what)


def _places(where: np.ndarray) -> list[int]:
    return [int(i) for i in np.flatnonzero(where)]


def _columns(on: Device, ids: Sequence[int]) -> slice | Tensor:
    """`ids`, in rising order: as a range if they are one, of which no copy is made."""
    whole = ids[-1] - ids[0] + 1 == len(ids)
    return slice(ids[0], ids[-1] + 1) if whole else on.index(ids)


def _moved(
    m: mujoco.MjModel, on: Device, name: str, ids: Sequence[int]
) -> Callable[[Fields, Sequence[int]], Tensor]:
    own, at = on(getattr(m, name)[list(ids)]).float(), _columns(on, ids)
    return lambda field, _: (field(name)[:, at].float() != own).any(-1)


def _unlike_first(
    on: Device, name: str, ids: Sequence[int]
) -> Callable[[Fields, Sequence[int]], Tensor]:
    at, first = _columns(on, ids), _columns(on, ids[:1])

    def bad(field: Fields, _: Sequence[int]) -> Tensor:
        values = field(name)
        other = values[:, at] != values[:, first]
        return other.flatten(2).any(-1) if other.dim() > 2 else other

    return bad


def _is_set(name: str) -> Callable[[Fields, Sequence[int]], Tensor]:
    return lambda field, ids: field(name)[:, ids] != 0


def _is_negative(name: str) -> Callable[[Fields, Sequence[int]], Tensor]:
    return lambda field, ids: field(name)[:, ids] < 0


def _overlap(span: str, margin: str) -> Callable[[Fields, Sequence[int]], Tensor]:
    def bad(field: Fields, ids: Sequence[int]) -> Tensor:
        low, high = field(span)[:, ids].unbind(-1)
        return high - low <= 2 * field(margin)[:, ids].clamp(min=0)

    return bad
