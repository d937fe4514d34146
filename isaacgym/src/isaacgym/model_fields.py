"""MuJoCo's model fields that follow from the properties of actors.

The compiled model gets those of the first environment; `physics.py` gives the engine those of the
others where they differ.
"""

import mujoco
import numpy as np

from isaacgym.actor_properties import (
    actor_scales,
    body_properties,
    shape_properties,
    tendon_properties,
)
from isaacgym.enums import RIGID_BODY_DISABLE_GRAVITY
from isaacgym.implicit_pd import drive_fields
from isaacgym.layout import Layout
from isaacgym.tendons import tendon_fields
from isaacgym.world import World
from phalanx.errors import PhalanxError

SPINNING = (0.005, 0.0001)  # torsional and rolling friction, without effect for condim 3


def model_fields(world: World, layout: Layout, model: mujoco.MjModel) -> dict[str, np.ndarray]:
    """MjModel fields that follow from the properties of actors, by name, (N or 1, ...) each: one
    row if all environments agree."""
    fields = drive_fields(world, layout, model)
    if model.ntendon:
        fields |= tendon_fields(tendon_properties(world), world.timestep)
    fields |= _body_fields(world, layout, model)
    fields |= _shape_fields(world, layout, model)
    return fields


def point_sizes(world: World, layout: Layout) -> np.ndarray:
    """Radii of the contact points, (N or 1, P) [m]."""
    return actor_scales(world)[:, layout.points.actor] * layout.points.radius


def _body_fields(world: World, layout: Layout, model: mujoco.MjModel) -> dict[str, np.ndarray]:
    rows = body_properties(world)
    scales = actor_scales(world)[:, layout.actor_of_body]  # (environments or 1, bodies)
    base = {
        name: np.concatenate([getattr(a.asset.model, name)[1:] for a in layout.actors])
        for name in ("body_mass", "body_ipos", "body_iquat", "body_inertia", "body_pos")
    }
    base["body_pos"][layout.root_body] = 0.0
    of_asset = np.concatenate([a.asset.bodies for a in layout.actors])
    inertia = np.broadcast_to(base["body_inertia"], (len(rows), *base["body_inertia"].shape)).copy()
    iquat = np.broadcast_to(base["body_iquat"], (len(rows), *base["body_iquat"].shape)).copy()
    mass = np.where(rows["mass"] == of_asset["mass"], base["body_mass"], rows["mass"])
    same_com = (rows["com"] == of_asset["com"]).all(-1, keepdims=True)
    ipos = np.where(same_com, base["body_ipos"], rows["com"])
    changed = (rows["inertia"] != of_asset["inertia"]).any((-1, -2))
    for e, b in zip(*np.nonzero(changed), strict=True):
        ratio = rows["inertia"][e, b] / np.where(of_asset["inertia"][b], of_asset["inertia"][b], 1)
        used = of_asset["inertia"][b] != 0
        if used.any() and np.allclose(ratio[used], ratio[used][0], rtol=1e-5):
            inertia[e, b] *= ratio[used][0]  # the axes stay, so nothing else changes
        else:
            inertia[e, b], iquat[e, b] = _principal(rows["inertia"][e, b], layout, b)
    s = scales[..., None]
    fields = {
        "body_mass": mass * scales**3,
        "body_ipos": ipos * s,
        "body_iquat": iquat,
        "body_inertia": inertia * s**5,
        "body_pos": base["body_pos"] * s,
    }
    full = {}
    for name, values in fields.items():
        first = np.broadcast_to(getattr(model, name)[:1], (len(values), 1, *values.shape[2:]))
        full[name] = np.concatenate([first, values], 1)
    flags = (rows["flags"] & RIGID_BODY_DISABLE_GRAVITY) != 0
    full["body_gravcomp"] = np.pad(flags.astype(float), ((0, 0), (1, 0)))
    of_actor = actor_scales(world)[:, :, None, None]
    full["jnt_pos"] = np.concatenate(
        [of_actor[:, a] * actor.asset.model.jnt_pos for a, actor in enumerate(layout.actors)], 1
    )
    return full


def off_centre_bodies(world: World, layout: Layout) -> set[int]:
    """Bodies, counted in the environment, that cannot have MuJoCo's short cuts for centred and
    aligned inertias: those whose centre of mass or inertia the program has set in any environment,
    and those on joints, whose armature changes while the simulation runs."""
    rows = body_properties(world)
    of_asset = np.concatenate([a.asset.bodies for a in layout.actors])
    moved = (rows["com"] != of_asset["com"]).any((0, 2))
    moved |= (rows["inertia"] != of_asset["inertia"]).any((0, 2, 3))
    first = 0
    for actor in layout.actors:
        moved[first + actor.asset.model.jnt_bodyid[actor.asset.dof_joints] - 1] = True
        first += actor.asset.num_bodies
    return set(np.flatnonzero(moved).tolist())


def _shape_fields(world: World, layout: Layout, model: mujoco.MjModel) -> dict[str, np.ndarray]:
    shapes = shape_properties(world)
    points = layout.points
    friction = shapes["friction"].astype(float)
    if world.grounds:  # PhysX averages the two materials; the last ground's is used
        friction = (friction + world.grounds[-1].params.dynamic_friction) / 2
    friction = np.maximum(friction, 1e-5)
    fields = {
        name: np.broadcast_to(getattr(model, name), (n, *getattr(model, name).shape)).copy()
        for name, n in (("geom_friction", len(shapes)), ("pair_friction", len(shapes)))
    }
    fields["geom_friction"][:, layout.shape_geoms, 0] = friction
    fields["geom_friction"][:, layout.shape_geoms, 1:] = SPINNING
    pairs = [model.pair(f"point {k}").id for k in range(len(points))]
    fields["pair_friction"][:, pairs, :2] = friction[:, points.shape, None]
    fields["pair_friction"][:, pairs, 2:] = (SPINNING[0], SPINNING[1], SPINNING[1])
    scales = actor_scales(world)
    for name in ("geom_size", "geom_pos", "geom_rbound", "geom_aabb"):
        values = getattr(model, name)
        fields[name] = np.broadcast_to(values, (len(scales), *values.shape)).copy()
    for a, actor in enumerate(layout.actors):
        own, geoms, s = actor.asset.model, layout.actor_geoms[a], scales[:, a, None, None]
        mesh = own.geom_type == mujoco.mjtGeom.mjGEOM_MESH
        compiled = model.geom_size[geoms]
        fields["geom_size"][:, geoms] = np.where(mesh[:, None], compiled, s * own.geom_size)
        fields["geom_pos"][:, geoms] = s * own.geom_pos
        fields["geom_rbound"][:, geoms] = s[..., 0] * own.geom_rbound
        fields["geom_aabb"][:, geoms] = s * own.geom_aabb.reshape(len(geoms), 6)
    radius = point_sizes(world, layout)
    fields["geom_size"][:, layout.point_geoms, 0] = radius
    fields["geom_rbound"][:, layout.point_geoms] = radius
    fields["geom_aabb"][:, layout.point_geoms, 3:] = radius[..., None]
    fields["geom_pos"][:, layout.point_geoms] = scales[:, points.actor, None] * points.pos
    return fields


def _principal(tensor: np.ndarray, layout: Layout, body: int) -> tuple[np.ndarray, np.ndarray]:
    moments, axes = np.linalg.eigh(tensor.astype(float))
    if not np.isfinite(moments).all() or moments[0] <= 0:
        names = [name for actor in layout.actors for name in actor.asset.body_names]
        raise PhalanxError(
            f"gym.set_actor_rigid_body_properties: the inertia of body {names[body]!r} has moments"
            f" {moments.tolist()}; all must be positive"
        )
    axes[:, 2] *= np.sign(np.linalg.det(axes))
    quat = np.zeros(4)
    mujoco.mju_mat2Quat(quat, axes.flatten())
    return moments, quat
