"""Which models MuJoCo's own engines step sooner than the fused one, and why. `engine=auto` asks;
`docs/physics.md` has the measurements."""

from collections.abc import Iterator, Sequence

import mujoco
import numpy as np

from phalanx.sim.engines.fused import rangefinders
from phalanx.sim.engines.fused.structure import FREE, Pair, Structure
from phalanx.sim.engines.fused.touches import CONVEX, GROUNDS, ROUND, pair_kind
from phalanx.sim.engines.initial import initial_data

JOINT = mujoco.mjtJoint
MANY = {"cpu": 10, "cuda": 3}
"""Pairs of convex shapes (`CONVEX`) of free bodies with others, which may all touch at a time."""
TOUCHING = 1.0
"""Other pairs that touch at a time, on average over the joints' ranges."""
NEAR = 3
"""Other pairs that are near each other in one or another of WARP worlds, on a GPU: each takes the
time of all of them."""
WARP = 32
POSES = 16
RAYS = 64
"""Rangefinders times geoms that they may see, which torch looks at one by one on a CPU."""
OBSTACLES = 10000
"""Pairs with what never moves, but for planes, which a step looks at one by one on a CPU: with as
many it was as fast as MuJoCo C or faster. A GPU was not measured."""


def slower(s: Structure, device: str) -> str | None:
    """Why MuJoCo's own engine would step this sooner, in one sentence; None if it would not.
    device: "cpu" or "cuda".

    Hulls that are deep in each other cost about 0.1 ms a pair on a CPU, many times as much as in
    MuJoCo C; shapes that do not overlap, next to nothing. On a height field they nearly always
    overlap; boxes have a formula. On a GPU one thread brings a world's shapes together, MuJoCo Warp
    one for each pair."""
    if reason := _on_cpu(s) if device == "cpu" else None:
        return reason
    convex = [p for p in s.pairs + s.obstacles if pair_kind(s, p) in CONVEX]
    loose = [p for p in convex if _come_together(s, p)]
    if len(loose) > (most := MANY[device]):
        return (
            f"the fused engine is slower with {len(loose)} pairs of convex shapes, more than {most}"
        )
    if device == "cuda" and len(convex) > NEAR and (near := _near(s, convex)) > NEAR:
        many = f"{near} of {len(convex)} pairs of convex shapes are near each other in some world"
        return f"the fused engine is slower on a GPU where {many} of {WARP}, more than {NEAR}"
    if len(convex) > MANY["cpu"] and (touching := _touching(s, convex)) > TOUCHING:
        many = f"{touching:.1f} of {len(convex)} pairs of convex shapes touch"
        return f"the fused engine is slower where {many} on average, more than {TOUCHING:.0f}"
    return None


def _on_cpu(s: Structure) -> str | None:
    m, kinds = s.model, {pair_kind(s, p) for p in s.obstacles}
    for ground, name in zip(GROUNDS, ("a height field", "many fixed boxes"), strict=True):
        if round_ := {b for a, b in kinds if a == ground} & ROUND.keys():
            shapes = " and ".join(sorted(ROUND[kind] for kind in round_))
            return f"the fused engine is slower on a CPU with {shapes} on {name}"
    if len(s.obstacles) > OBSTACLES:
        fixed = f"{len(s.obstacles)} pairs of geoms of which one is fixed"
        return f"the fused engine is slower on a CPU with {fixed}, more than {OBSTACLES}"
    rays, seen = rangefinders.of(m).size, rangefinders.visible(m).sum()
    if rays * seen > RAYS:
        return f"the fused engine is slower on a CPU with {rays} rangefinders among {seen} geoms"
    return None


def _come_together(s: Structure, pair: Pair) -> bool:
    """Whether both move, in two trees of which one is free."""
    slots = [k for g in pair[:2] if (k := s.slot_of_geom(g)) >= 0]
    roots = {s.root_of(k) for k in slots}
    return len(roots) > 1 and any(s.slots[k].kind == FREE for k in roots)


def _poses(m: mujoco.MjModel, count: int) -> Iterator[mujoco.MjData]:
    """Poses anywhere in the joints' ranges, without what follows from them."""
    data, rng = initial_data(m), np.random.default_rng(0)
    hinges = np.flatnonzero(np.isin(m.jnt_type, (JOINT.mjJNT_HINGE, JOINT.mjJNT_SLIDE)))
    low, high = np.where(m.jnt_limited[hinges, None] > 0, m.jnt_range[hinges], (-1, 1)).T
    for _ in range(count):
        data.qpos[m.jnt_qposadr[hinges]] = rng.uniform(low, high)
        yield data


def _touching(s: Structure, pairs: Sequence[Pair]) -> float:
    """How many of `pairs` touch, on average."""
    own, found = {frozenset(pair[:2]) for pair in pairs}, 0
    for data in _poses(s.model, POSES):
        mujoco.mj_fwdPosition(s.model, data)
        found += len({frozenset(c) for c in data.contact.geom.tolist()} & own)
    return found / POSES


def _near(s: Structure, pairs: Sequence[Pair]) -> int:
    """Of how many of `pairs` the boxes around both geoms overlap in one or another of WARP poses,
    as `boxes_apart` in convex_pairs.h has it."""
    m, found = s.model, np.zeros(len(pairs), bool)
    geoms = np.array([pair[:2] for pair in pairs])
    for data in _poses(m, WARP):
        mujoco.mj_kinematics(m, data)
        R, half = data.geom_xmat.reshape(-1, 3, 3)[geoms], m.geom_aabb[geoms, 3:]
        centre = data.geom_xpos[geoms] + np.einsum("pgij,pgj->pgi", R, m.geom_aabb[geoms, :3])
        between = centre[:, 0] - centre[:, 1]
        line = between / np.maximum(np.linalg.norm(between, axis=1, keepdims=True), 1e-9)
        axes = np.concatenate((R[:, 0], R[:, 1], line[:, :, None]), axis=2)  # columns
        reach = np.einsum("pgi,pgia->pa", half, np.abs(np.swapaxes(R, 2, 3) @ axes[:, None]))
        found |= (np.abs(np.einsum("pi,pia->pa", between, axes)) <= reach).all(1)
    return int(found.sum())
