"""Tables of contacts: planes, points on them, pairs and geoms. See `numbers.py`."""

from collections.abc import Sequence

import mujoco
import numpy as np
import torch
from torch import Tensor

from phalanx.sim.engines.fused.places import Places, frames
from phalanx.sim.engines.fused.placing import Device, Fields, Make, columns, joined
from phalanx.sim.engines.fused.solref import MINVAL, reference
from phalanx.sim.engines.fused.structure import Pair, Structure

GEOM = mujoco.mjtGeom
FAR = 1e9
SLIPPERY = 0.03
"""Below this friction a pyramid's weights are those of this friction. They grow with its inverse
square, and in float32 the error of a step's velocities with them: 4e-4 here, 0.05 at 0.003. Here a
contact already gives way by only 5e-5 of what its force would move. What holds it sideways, less
than this part of the force, creeps faster."""
_ROUND = tuple(
    int(kind) for kind in (GEOM.mjGEOM_SPHERE, GEOM.mjGEOM_CAPSULE, GEOM.mjGEOM_CYLINDER,
                           GEOM.mjGEOM_ELLIPSOID, GEOM.mjGEOM_BOX)
)  # fmt: skip


def tables(places: Places) -> dict[str, Make]:
    """Makers of the tables."""
    s, on = places.structure, places.on
    m = s.model
    on_planes, mixed_pairs = [p.pair for p in s.points], list(s.pairs)
    geoms = [g for g in range(m.ngeom) if s.slot_of_geom(g) >= 0]
    sites = [i for i in range(m.nsite) if s.slot_of_body(int(m.site_bodyid[i])) >= 0]
    at_points = _contact(m, [*on_planes, *s.obstacles], on)
    at_pairs, points = _contact(m, mixed_pairs, on), _points(places)
    near_obstacles, near = _reach(s, s.obstacles, on), _reach(s, mixed_pairs, on)
    count, still = len(s.points), on(np.zeros((1, len(s.obstacles), 6)))

    def point(field: Fields) -> Tensor:
        """Centre, radius and axis of a point, or the reach of an obstacle; then `_contact`."""
        contact = at_points(field)
        reach = near_obstacles(field) + contact[:, count:, 0]
        shapes = points(field), joined(reach[..., None], still)
        envs = max(len(x) for x in shapes)
        both = torch.cat([x.expand(envs, *x.shape[1:]) for x in shapes], 1)
        return joined(both, contact)

    def pair(field: Fields) -> Tensor:
        """Reach, then `_contact`."""
        contact = at_pairs(field)
        return joined((near(field) + contact[..., 0])[..., None], contact)

    return {
        "plane": _planes(places), "point": point, "geom": _geoms(places), "solid": _solids(places),
        "pair": pair, "geom_place": _places(places, "geom", geoms),
        "site_place": _places(places, "site", sites),
    }  # fmt: skip


def has_powers(s: Structure) -> bool:
    """Whether a constraint's solimp has another power than 2."""
    m, pairs = s.model, [*(p.pair for p in s.points), *s.pairs, *s.obstacles]
    geoms = sorted({g for pair in pairs if pair.explicit < 0 for g in pair[:2]})
    explicit = [pair.explicit for pair in pairs if pair.explicit >= 0]
    joints = [x.joint for x in s.slots if x.joint >= 0 and m.jnt_limited[x.joint]]
    rows = m.geom_solimp[geoms], m.pair_solimp[explicit], m.jnt_solimp[joints], m.eq_solimp
    return any((row[:, 4] != 2).any() for row in (*rows, m.tendon_solimp_lim))


def contact_dim(m: mujoco.MjModel, pair: Pair) -> int:
    """condim of a contact; mj_contactParam."""
    a, b, explicit = pair
    if explicit >= 0:
        return int(m.pair_dim[explicit])
    if m.geom_priority[a] != m.geom_priority[b]:
        return int(m.geom_condim[a if m.geom_priority[a] > m.geom_priority[b] else b])
    return int(max(m.geom_condim[a], m.geom_condim[b]))


def solids(s: Structure) -> list[int]:
    """Geoms of `s.geoms` whose rotation counts."""
    round_ = [int(kind) for kind in (GEOM.mjGEOM_PLANE, GEOM.mjGEOM_SPHERE, GEOM.mjGEOM_CAPSULE)]
    return [g for g in s.geoms if int(s.model.geom_type[g]) not in round_]


def hfields(s: Structure) -> list[int]:
    """Height fields of `s.geoms`."""
    return [g for g in s.geoms if s.model.geom_type[g] == GEOM.mjGEOM_HFIELD]


def grids(s: Structure) -> list[tuple[int, int]]:
    """Samples and columns of each of `hfields`."""
    m, ids = s.model, [int(s.model.geom_dataid[g]) for g in hfields(s)]
    return [(int(m.hfield_nrow[i] * m.hfield_ncol[i]), int(m.hfield_ncol[i])) for i in ids]


def _contact(m: mujoco.MjModel, pairs: Sequence[Pair], on: Device) -> Make:
    """Margin, `reference`, invweight, five frictions and power of contacts, (E, pairs, 14);
    mj_contactParam and the pyramid's rows of mj_diagApprox."""
    a, b = on.index([p.a for p in pairs]), on.index([p.b for p in pairs])
    bodies = [on.index([int(m.geom_bodyid[p[i]]) for p in pairs]) for i in (0, 1)]
    explicit = [p.explicit for p in pairs]
    own, rows = on(np.array(explicit) >= 0) > 0, on.index([max(0, i) for i in explicit])
    first = on([np.sign(m.geom_priority[p.a] - m.geom_priority[p.b]) for p in pairs])
    weight = on([_mix(m, p) for p in pairs])
    pyramid = m.opt.cone == mujoco.mjtCone.mjCONE_PYRAMIDAL
    spread = on([pyramid and contact_dim(m, p) > 1 for p in pairs]) > 0

    def make(field: Fields) -> Tensor:
        friction, solref, solimp = (field(f"geom_{n}") for n in ("friction", "solref", "solimp"))
        one, two = friction[:, a], friction[:, b]
        chosen = torch.where(first[:, None] > 0, one, two)
        mu = torch.where(first[:, None] == 0, torch.maximum(one, two), chosen)
        mu5 = [mu[..., i] for i in (0, 0, 1, 2, 2)]
        one, two, part = solref[:, a], solref[:, b], weight[:, None]
        standard = (one[..., :1] > 0) & (two[..., :1] > 0) | (first[:, None] != 0)
        ref = torch.where(standard, part * one + (1 - part) * two, torch.minimum(one, two))
        imp = part * solimp[:, a] + (1 - part) * solimp[:, b]
        margin = field("geom_margin")[:, a] + field("geom_margin")[:, b]  # a gap adds no force
        if any(i >= 0 for i in explicit):
            mine = field("pair_friction")[:, rows].unbind(-1)
            mu5 = [torch.where(own, x, y) for x, y in zip(mine, mu5, strict=True)]
            ref = torch.where(own[:, None], field("pair_solref")[:, rows], ref)
            imp = torch.where(own[:, None], field("pair_solimp")[:, rows], imp)
            margin = torch.where(own, field("pair_margin")[:, rows], margin)
        mu5 = [x.clamp_min(1e-5) for x in mu5]
        translation = sum(field("body_invweight0")[:, at, 0] for at in bodies)
        slide = mu5[0].clamp_min(SLIPPERY) ** 2
        pushed = 2 * slide * (1 + slide) * translation / max(m.opt.impratio, MINVAL)
        translation = torch.where(spread, pushed, translation)
        power = imp[..., 4].clamp_min(1)
        return columns(margin, *reference(m, ref, imp), translation, *mu5, power)

    return make


def _mix(m: mujoco.MjModel, pair: Pair) -> float:
    """How much the first geom's solref and solimp count."""
    a, b = pair.a, pair.b
    if first := int(m.geom_priority[a]) - int(m.geom_priority[b]):
        return float(first > 0)
    mixes = m.geom_solmix[a], m.geom_solmix[b]
    if min(mixes) >= MINVAL:
        return float(mixes[0] / (mixes[0] + mixes[1]))
    return 0.5 if max(mixes) < MINVAL else float(mixes[0] >= MINVAL)


def _reach(s: Structure, pairs: Sequence[Pair], on: Device) -> Make:
    """(E, pairs) the distance of their centres beyond which geoms do not touch, less the margin."""
    m, fields = s.model, s.box_fields
    a, b = on.index([p.a for p in pairs]), on.index([p.b for p in pairs])
    wide = (int(GEOM.mjGEOM_PLANE), int(GEOM.mjGEOM_HFIELD))
    boxes = [p.a in fields or p.b in fields for p in pairs]
    flat = on([b or int(m.geom_type[p.a]) in wide for b, p in zip(boxes, pairs, strict=True)]) > 0
    return lambda field: torch.where(
        flat, FAR, field("geom_rbound")[:, a] + field("geom_rbound")[:, b]
    )


def bounding_radii(kinds: Sequence[int], size: Tensor) -> Tensor:
    """(N, ngeom) geom_rbound of primitives of `size`, geom_size (N, ngeom, 3), as mj_setConst has
    it; NaN where it does not follow from the size. `kinds`: geom_type."""
    x, y, _ = size.unbind(-1)
    return _by_kind(kinds, (x, x + y, torch.hypot(x, y), size.amax(-1), size.norm(dim=-1)))


def bounding_boxes(kinds: Sequence[int], size: Tensor) -> Tensor:
    """(N, ngeom, 6) geom_aabb, as `bounding_radii`."""
    x, y, z = size.unbind(-1)
    halves = (x, x, x), (x, x, x + y), (x, x, y), (x, y, z), (x, y, z)
    zero = torch.zeros_like(x)
    return _by_kind(kinds, [torch.stack((zero, zero, zero, *half), -1) for half in halves])


def _by_kind(kinds: Sequence[int], values: Sequence[Tensor]) -> Tensor:
    """(N, ngeom, ...) the values of each geom's own kind, in the order of `_ROUND`; else NaN."""
    of = dict(zip(_ROUND, values, strict=True))
    none = torch.full_like(values[0][:, 0], torch.nan)
    return torch.stack([of[k][:, g] if k in of else none for g, k in enumerate(kinds)], 1)


def _points(places: Places) -> Make:
    """Centre, radius and axis, (E, points, 7): of a capsule, or from a box's centre to a corner."""
    on, m, points = places.on, places.structure.model, places.structure.points
    geoms = [p.pair.b for p in points]
    place, at = frames(places, "geom", geoms), on.index(geoms)
    side = on(np.array([p.side for p in points]).reshape(-1, 3))
    kinds = m.geom_type[geoms]
    box, capsule = on(kinds == GEOM.mjGEOM_BOX), on(kinds == GEOM.mjGEOM_CAPSULE)

    def make(field: Fields) -> Tensor:
        pos, turn = place(field)
        size = field("geom_size")[:, at]
        reach = torch.where(box[:, None] > 0, size, size[..., 1:2])
        arm = (turn @ (side * reach)[..., None])[..., 0]
        axis = torch.where(box[:, None] > 0, arm, capsule[:, None] * turn[..., 2])
        return joined(pos + arm, (size[..., 0] * (1 - box))[..., None], axis)

    return make


def _planes(places: Places) -> Make:
    """Normal, height and the tangent that MuJoCo gives a contact without a direction."""
    place = frames(places, "geom", places.structure.planes)
    y, z = places.on([0.0, 1, 0]), places.on([0.0, 0, 1])

    def make(field: Fields) -> Tensor:
        pos, turn = place(field)
        normal = turn[..., 2]
        side = torch.where(normal[..., 1:2].abs() < 0.5, y, z)
        side = side - normal * (normal * side).sum(-1, keepdim=True)
        height = (normal * pos).sum(-1, keepdim=True)
        return joined(normal, height, side / side.norm(dim=-1, keepdim=True))

    return make


def _geoms(places: Places) -> Make:
    """Centre, half axis, or a plane's normal, and radius, in its slot's frame or the world's."""
    s, on = places.structure, places.on
    place, at = frames(places, "geom", s.geoms), on.index(s.geoms)
    kinds = s.model.geom_type[s.geoms]
    long = on((kinds == GEOM.mjGEOM_CAPSULE) | (kinds == GEOM.mjGEOM_CYLINDER))
    flat = on(kinds == GEOM.mjGEOM_PLANE)
    placed = on([g not in s.box_fields for g in s.geoms])[:, None]

    def make(field: Fields) -> Tensor:
        (pos, turn), size = place(field), field("geom_size")[:, at]
        pos = pos * placed  # a box field is where the world's origin is
        half = turn[..., 2] * (long * size[..., 1] + flat)[..., None]
        return joined(pos, half, size[..., :1])

    return make


def _solids(places: Places) -> Make:
    """Rotation in its slot's frame and half sizes."""
    some = solids(places.structure)
    place, at = frames(places, "geom", some), places.on.index(some)
    return lambda field: joined(place(field)[1].flatten(-2), field("geom_size")[:, at])


def _places(places: Places, kind: str, ids: Sequence[int]) -> Make:
    """Positions and rotations in their slots' frames."""
    place = frames(places, kind, ids)

    def make(field: Fields) -> Tensor:
        pos, turn = place(field)
        return joined(pos, turn.flatten(-2))

    return make
