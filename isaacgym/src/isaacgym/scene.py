"""The first environment as a MuJoCo model, and where its actors, bodies and joints are in it.

Structure (bodies, joints, shapes, who may touch whom) comes from the first environment. Numbers
that may differ between environments (gains, masses, frictions, ...) come from `model_fields`: the
compiled model gets those of the first environment, `physics.py` writes the others' where they
differ.

Every degree of freedom has one actuator, the implicit PD drive of PhysX:

    force = kp (target - q') + kd (target velocity - v') + effort

with q' and v' at the end of the step. With q' = q + h v' and v' = v + h a that is a force of

    kp (target - q) + kd target velocity + effort - (kd + h kp) v - (h kd + h^2 kp) a

so the last factor is added to the joint's inertia and the rest is the actuator. Contacts are then
solved for the same acceleration as the drives, whatever the gains. Where the force would exceed
the limit of the drive, `physics.py` takes the inertia away and bounds the actuator instead.
"""

import functools
import operator
from collections.abc import Sequence
from typing import Any

import mujoco
import numpy as np

from isaacgym import ground
from isaacgym.asset import BODY_PROPERTIES, NO_FILTER, SHAPE_PROPERTIES
from isaacgym.contact_points import contact_points
from isaacgym.enums import AXIS_TRANSLATION, RIGID_BODY_DISABLE_GRAVITY, DofDriveMode
from isaacgym.params import FLT_MAX
from isaacgym.values import DOF_PROPERTIES
from isaacgym.world import NO_GROUP, Actor, Env, Ground, Sim
from phalanx.errors import PhalanxError
from phalanx.sim import Scene

UNLIMITED = 1e30  # [N or N m] bound of a drive that has none
MOST_CLASSES = 30  # of shapes with the same collision rules: bits of a mask, one is the ground's
SLIDING = (0.005, 0.0001)  # MuJoCo's torsional and rolling friction, without effect here
HIDDEN = 5  # group of geoms that no viewer shows unless asked to


class Layout:
    """Where the parts of one environment are in tensors (rows) and in MuJoCo's arrays."""

    def __init__(self, env: Env, grounds: list[Ground]) -> None:
        self.actors: list[Actor] = env.actors
        self.num_bodies, self.num_dofs = env.num_bodies, env.num_dofs
        self.free = np.array([not a.asset.fixed for a in self.actors])
        bodies, dofs, q, v = [], [], 0, 0
        dof_q: list[int] = []
        dof_v: list[int] = []
        self.root_q: list[int] = []  # of free actors, -1 for the others
        self.root_v: list[int] = []
        self.mocap: list[int] = []  # of fixed actors, -1 for the others
        for a, actor in enumerate(self.actors):
            model = actor.asset.model
            bodies += [a] * actor.asset.num_bodies
            dofs += [a] * actor.asset.num_dofs
            self.root_q.append(q if self.free[a] else -1)
            self.root_v.append(v if self.free[a] else -1)
            self.mocap.append(-1 if self.free[a] else int((~self.free[:a]).sum()))
            dof_q += (q + model.jnt_qposadr[actor.asset.dof_joints]).tolist()
            dof_v += (v + model.jnt_dofadr[actor.asset.dof_joints]).tolist()
            q, v = q + model.nq, v + model.nv
        self.nq, self.nv = q, v
        self.actor_of_body, self.actor_of_dof = np.array(bodies, int), np.array(dofs, int)
        self.dof_q, self.dof_v = np.array(dof_q, int), np.array(dof_v, int)
        self.root_body = np.array([a.first_body for a in self.actors])
        self.sensors = [
            (actor.first_body + body, pose, props)
            for actor in self.actors
            for body, pose, props in actor.asset.sensors
        ]
        has_terrain = any(piece.kind != "plane" for piece in grounds)
        self.points = contact_points(self.actors if has_terrain else [])
        self._number_geoms(len(grounds))

    def _number_geoms(self, grounds: int) -> None:
        """The world's geoms are the grounds and a plane for each contact point; a body's are those
        of its asset, then its points."""
        points = self.points
        self.ground_geoms = slice(0, grounds)
        first = grounds + len(points)
        self.plane_geoms = slice(grounds, first)
        self.point_geoms = np.zeros(len(points), int)
        self.actor_geoms: list[np.ndarray] = []  # of each actor, for each geom of its asset
        for a, actor in enumerate(self.actors):
            own = actor.asset.model.geom_bodyid
            at = np.flatnonzero(points.actor == a)
            body = points.body[at] - actor.first_body + 1
            self.actor_geoms.append(
                first + np.arange(len(own)) + np.searchsorted(body, own, side="left")
            )
            self.point_geoms[at] = (
                first + np.arange(len(at)) + np.searchsorted(own, body, side="right")
            )
            first += len(own) + len(at)
        shapes = [
            g[a.asset.shape_geoms] for g, a in zip(self.actor_geoms, self.actors, strict=True)
        ]
        self.shape_geoms = np.concatenate(shapes).astype(int)
        """The geom of each shape."""


class ActorScene(Scene):
    """The first environment of `sim`. contact_forces: measure them on every body with shapes."""

    def __init__(self, sim: Sim, layout: Layout, contact_forces: bool, force_sensors: bool) -> None:
        params = sim.params
        super().__init__(
            sim.timestep,
            tuple(params.gravity),
            "euler",
            iterations=10,  # with elliptic cones 6 leave errors, even for a ball
            ls_iterations=20,
        )
        # With MuJoCo's defaults feet creep: legged_gym's ANYmal stands at 0.41 m after two seconds,
        # with these at 0.51, for the same time of a step.
        self.spec.option.cone = mujoco.mjtCone.mjCONE_ELLIPTIC
        self.spec.option.impratio = 10.0
        # Joints have no damping of MuJoCo's kind, so there is nothing to be implicit about.
        self.spec.option.disableflags |= mujoco.mjtDisableBit.mjDSBL_EULERDAMP
        self._sim = sim
        self._layout = layout
        for piece in sim.grounds:
            ground.add(self.spec, piece)
        self.weightless = weightless_bodies(sim)
        for actor in layout.actors:
            self._add(actor)
        self._add_contact_points()
        self.measures_contacts, self.measures_accelerations = contact_forces, force_sensors
        shaped = sorted({a.first_body + int(b) for a in layout.actors for b in a.asset.shape_body})
        self.contact_bodies = shaped if contact_forces else []
        names = [b.name for b in self.spec.bodies[1:]]
        for b in self.contact_bodies:
            actor, body = names[b].split("/", 1)
            self.add_contact_force_sensors(actor, [body])
        self.accelerated_bodies = sorted({b for b, _, _ in layout.sensors}) if force_sensors else []
        for b in self.accelerated_bodies:
            for kind in (mujoco.mjtSensor.mjSENS_FRAMELINACC, mujoco.mjtSensor.mjSENS_FRAMEANGACC):
                self.spec.add_sensor(
                    name=f"{names[b]}:{kind}",
                    type=kind,
                    objtype=mujoco.mjtObj.mjOBJ_BODY,
                    objname=names[b],
                )
        self._add_attractors(names)

    def compile(self, memory: int = -1) -> mujoco.MjModel:
        model = super().compile(memory)
        layout = self._layout
        assert (model.nbody - 1, model.nq, model.nv) == (layout.num_bodies, layout.nq, layout.nv)
        _set_collisions(model, self._sim.grounds, layout)
        for name, values in model_fields(self._sim, layout, model).items():
            getattr(model, name)[...] = values[0]
        mujoco.mj_setConst(model, mujoco.MjData(model))
        return model

    def _add(self, actor: Actor) -> None:
        asset = actor.asset
        robot = asset.spec.copy()
        root = robot.worldbody.first_body()
        root.mocap = asset.fixed
        root.pos, root.quat = [0, 0, 0], [1, 0, 0, 0]
        root.alt.type = mujoco.mjtOrientation.mjORIENTATION_QUAT
        for k, body in enumerate(robot.bodies[1:], actor.first_body):
            body.gravcomp = float(k in self.weightless)
        for mesh in robot.meshes:
            mesh.scale = np.asarray(mesh.scale) * actor.scale
        name = f"{actor.handle}"
        self.attach(name, robot, path=asset.name)
        for joint in asset.dof_names:
            drive = self.spec.add_actuator(name=f"{name}/{joint}", target=f"{name}/{joint}")
            drive.trntype = mujoco.mjtTrn.mjTRN_JOINT
            drive.gaintype = mujoco.mjtGain.mjGAIN_FIXED
            drive.biastype = mujoco.mjtBias.mjBIAS_AFFINE
            drive.gainprm[0] = 1.0
            drive.ctrllimited = drive.forcelimited = mujoco.mjtLimited.mjLIMITED_FALSE

    def _add_contact_points(self) -> None:
        """Spheres and their planes, which `terrain.py` lays."""
        points = self._layout.points
        names = [b.name for b in self.spec.bodies[1:]]
        for k in range(len(points)):
            sphere = self.spec.body(names[points.body[k]]).add_geom(
                self.spec.default,
                name=f"point {k}",
                type=mujoco.mjtGeom.mjGEOM_SPHERE,
                size=[points.radius[k], 0, 0],
                pos=points.pos[k],
            )
            plane = self.spec.worldbody.add_geom(
                name=f"plane {k}",
                type=mujoco.mjtGeom.mjGEOM_PLANE,
                size=[1, 1, 1],
                pos=[0, 0, -1],  # a pose of its own, which MuJoCo does not take for the world's
                quat=[1, 0.1, 0, 0],
            )
            for geom in (sphere, plane):
                geom.contype = geom.conaffinity = 0
                geom.mass = 0.0
                geom.group, geom.rgba = HIDDEN, [0, 0, 0, 0]
            self.spec.add_pair(
                name=f"point {k}", geomname1=plane.name, geomname2=sphere.name, condim=3
            )

    def _add_attractors(self, names: list[str]) -> None:
        """A stiff attractor is a weld of a point of the body to its target."""
        env = self._sim.envs[0]
        for k, attractor in enumerate(env.attractors):
            assert attractor.axes == AXIS_TRANSLATION
            anchor, target = attractor.offset.p, attractor.target.p
            for name, body, p in (
                (f"attractor{k}:body", names[attractor.rigid_handle], anchor),
                (f"attractor{k}:target", "world", target),
            ):
                parent = self.spec.worldbody if body == "world" else self.spec.body(body)
                parent.add_site(name=name, pos=list(p))
            self.spec.add_equality(
                name=f"attractor{k}",
                type=mujoco.mjtEq.mjEQ_CONNECT,
                objtype=mujoco.mjtObj.mjOBJ_SITE,
                name1=f"attractor{k}:body",
                name2=f"attractor{k}:target",
            )


def model_fields(sim: Sim, layout: Layout, model: mujoco.MjModel) -> dict[str, np.ndarray]:
    """MjModel fields that follow from actors' properties, (environments or 1, ...) each: 1 where
    all environments agree."""
    fields = _drive_fields(sim, layout, model)
    fields |= _body_fields(sim, layout, model)
    fields |= _shape_fields(sim, layout, model)
    return fields


def dof_properties(sim: Sim) -> np.ndarray:
    """(environments or 1, dofs) of DOF_PROPERTIES."""
    return _stack(sim, DOF_PROPERTIES, lambda a: _own(a.dof_props, a.asset.dof_props))


def body_properties(sim: Sim) -> np.ndarray:
    """(environments or 1, bodies) of BODY_PROPERTIES."""
    return _stack(sim, BODY_PROPERTIES, lambda a: _own(a.bodies, a.asset.bodies))


def rest_positions(props: np.ndarray) -> np.ndarray:
    """Where joints are unless the program sets them: at zero or the nearest limit."""
    lower = np.minimum(props["lower"], props["upper"])
    upper = np.maximum(props["lower"], props["upper"])
    return np.where(props["hasLimits"], np.clip(0.0, lower, upper), 0.0)


def weightless_bodies(sim: Sim) -> set[int]:
    """Bodies (rows of an environment) without gravity in some environment."""
    flags = body_properties(sim)["flags"] & RIGID_BODY_DISABLE_GRAVITY
    return set(np.flatnonzero(flags.any(0)).tolist())


def implicit_inertia(props: np.ndarray, h: float) -> np.ndarray:
    """What an implicit drive adds to the inertia of its joint; see the module's docstring."""
    return h * props["damping"].astype(float) + h * h * props["stiffness"].astype(float)


def drive_limits(props: np.ndarray) -> np.ndarray:
    """Most force of each drive; a commanded effort is not limited."""
    driven = np.isin(props["driveMode"], (DofDriveMode.DOF_MODE_POS, DofDriveMode.DOF_MODE_VEL))
    finite = driven & (props["effort"] > 0) & (props["effort"] < 0.5 * FLT_MAX)
    return np.where(finite, props["effort"], UNLIMITED)


def _own(properties: np.ndarray | None, default: np.ndarray) -> np.ndarray:
    return default if properties is None else properties


def _drive_fields(sim: Sim, layout: Layout, model: mujoco.MjModel) -> dict[str, np.ndarray]:
    h = sim.timestep
    props = dof_properties(sim)
    n, v = len(props), layout.dof_v
    kp, kd = props["stiffness"].astype(float), props["damping"].astype(float)
    zeros = np.zeros((n, layout.nv))
    armature, friction = zeros.copy(), zeros.copy()
    armature[:, v] = props["armature"] + implicit_inertia(props, h)
    # A URDF's friction is a coefficient of PhysX's; only what a program sets itself counts here.
    of_file = np.concatenate([a.asset.dof_props["friction"] for a in layout.actors])
    friction[:, v] = np.where(props["friction"] == of_file, 0.0, props["friction"])
    bias = np.zeros((n, model.nu, model.actuator_biasprm.shape[1]))
    bias[..., 1], bias[..., 2] = -kp, -(kd + h * kp)
    joint = model.dof_jntid[v]
    limits = np.zeros((n, model.njnt, 2))
    limits[:, joint, 0] = np.minimum(props["lower"], props["upper"])
    limits[:, joint, 1] = np.maximum(props["lower"], props["upper"])
    limits[:, joint] = np.where(props["hasLimits"][..., None], limits[:, joint], [-1e6, 1e6])
    limited = np.zeros((1, model.njnt), bool)
    limited[:, joint] = props["hasLimits"].any(0)
    return {
        "dof_armature": armature,
        "dof_frictionloss": friction,
        "dof_damping": zeros[:1],
        "jnt_stiffness": np.zeros((1, model.njnt)),
        "jnt_actfrclimited": np.zeros((1, model.njnt), bool),
        "jnt_range": np.clip(limits, -1e6, 1e6),
        "jnt_limited": limited,
        "jnt_margin": np.zeros((1, model.njnt)),
        "actuator_biasprm": bias,
        "actuator_forcerange": np.tile([-UNLIMITED, UNLIMITED], (1, model.nu, 1)),
        "actuator_forcelimited": np.any(drive_limits(props) < UNLIMITED, axis=0, keepdims=True),
    }


def _body_fields(sim: Sim, layout: Layout, model: mujoco.MjModel) -> dict[str, np.ndarray]:
    rows = body_properties(sim)
    scales = _scales(sim)[:, layout.actor_of_body]  # (environments or 1, bodies)
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
            inertia[e, b] *= ratio[used][0]  # the same axes, so that nothing else changes
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
        world = np.broadcast_to(getattr(model, name)[:1], (len(values), 1, *values.shape[2:]))
        full[name] = np.concatenate([world, values], 1)
    # MuJoCo takes short cuts for centred and aligned inertias, which hold for all environments,
    # and for joints that move nothing but their own body, whose inertia it computes only once.
    moved = (ipos != base["body_ipos"]).any((0, 2)) | (iquat != base["body_iquat"]).any((0, 2))
    sameframe, simple = model.body_sameframe.copy(), model.body_simple.copy()
    sameframe[1:][moved] = simple[1:][moved] = 0
    simple[model.jnt_bodyid[model.dof_jntid[layout.dof_v]]] = 0
    full["body_simple"], full["body_sameframe"] = simple[None], sameframe[None]
    simple_dofs = np.where(simple[model.dof_bodyid] == 0, 0, model.dof_simplenum)
    full["dof_simplenum"] = simple_dofs[None]
    flags = (rows["flags"] & RIGID_BODY_DISABLE_GRAVITY) != 0
    full["body_gravcomp"] = np.pad(flags.astype(float), ((0, 0), (1, 0)))
    of_actor = _scales(sim)[:, :, None, None]
    full["jnt_pos"] = np.concatenate(
        [of_actor[:, a] * actor.asset.model.jnt_pos for a, actor in enumerate(layout.actors)], 1
    )
    return full


def _shape_fields(sim: Sim, layout: Layout, model: mujoco.MjModel) -> dict[str, np.ndarray]:
    shapes = _stack(sim, SHAPE_PROPERTIES, lambda a: a.shapes)
    points = layout.points
    friction = shapes["friction"].astype(float)
    if sim.grounds:  # PhysX averages the two materials
        friction = (friction + ground.friction(sim.grounds)) / 2
    friction = np.maximum(friction, 1e-5)
    fields = {
        name: np.broadcast_to(getattr(model, name), (n, *getattr(model, name).shape)).copy()
        for name, n in (("geom_friction", len(shapes)), ("pair_friction", len(shapes)))
    }
    fields["geom_friction"][:, layout.shape_geoms, 0] = friction
    fields["geom_friction"][:, layout.shape_geoms, 1:] = SLIDING
    pairs = [model.pair(f"point {k}").id for k in range(len(points))]
    fields["pair_friction"][:, pairs, :2] = friction[:, points.shape, None]
    fields["pair_friction"][:, pairs, 2:] = (SLIDING[0], SLIDING[1], SLIDING[1])
    scales = _scales(sim)
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
    radius = point_sizes(sim, layout)
    fields["geom_size"][:, layout.point_geoms, 0] = radius
    fields["geom_rbound"][:, layout.point_geoms] = radius
    fields["geom_aabb"][:, layout.point_geoms, 3:] = radius[..., None]
    fields["geom_pos"][:, layout.point_geoms] = scales[:, points.actor, None] * points.pos
    return fields


def point_sizes(sim: Sim, layout: Layout) -> np.ndarray:
    """Radii (environments or 1, points) of the contact points [m]."""
    return _scales(sim)[:, layout.points.actor] * layout.points.radius


def _scales(sim: Sim) -> np.ndarray:
    """(environments or 1, actors)"""
    scales = np.array([[a.scale for a in env.actors] for env in sim.envs])
    if (scales == scales[:1]).all():
        return scales[:1]
    for a, actor in enumerate(sim.envs[0].actors):
        if actor.asset.model.nmesh and (scales[:, a] != scales[0, a]).any():
            raise PhalanxError(
                f"gym.set_actor_scale: actor {actor.name!r} has meshes, which must have the same"
                " scale in all environments"
            )
    return scales


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


def _stack(sim: Sim, dtype: np.dtype, of: Any) -> np.ndarray:
    """Properties of all actors of an environment side by side, one row if all environments
    agree."""
    parts = []
    for k in range(len(sim.envs[0].actors)):
        arrays = [of(env.actors[k]) for env in sim.envs]
        first = arrays[0]
        if all(a is first or np.array_equal(a, first) for a in arrays):
            arrays = arrays[:1]
        parts.append(np.stack(arrays) if len(first) else np.zeros((1, 0), dtype))
    n = max(len(p) for p in parts)
    return np.concatenate([np.broadcast_to(p, (n, p.shape[1])) for p in parts], 1)


def _set_collisions(model: mujoco.MjModel, grounds: list[Ground], layout: Layout) -> None:
    """Softness of contacts and limits, and masks that say who touches whom."""
    geoms = layout.shape_geoms
    model.geom_condim[:] = 3
    model.geom_margin[:] = model.geom_gap[:] = 0.0
    plain = mujoco.MjModel.from_xml_string(_PLAIN)  # for MuJoCo's own softness
    model.geom_solref[:], model.geom_solimp[:] = plain.geom_solref[0], plain.geom_solimp[0]
    model.jnt_solref[:], model.jnt_solimp[:] = plain.jnt_solref[0], plain.jnt_solimp[0]
    model.dof_solref[:], model.dof_solimp[:] = plain.dof_solref[0], plain.dof_solimp[0]
    model.geom_solmix[:] = 1.0
    model.geom_priority[:] = 0
    model.geom_priority[geoms] = 1  # their friction is the average with the ground's already
    model.geom_contype[:] = model.geom_conaffinity[:] = 0
    model.geom_contype[layout.ground_geoms] = [piece.kind == "plane" for piece in grounds]
    contype, conaffinity = collision_masks(layout)
    model.geom_contype[geoms], model.geom_conaffinity[geoms] = contype, conaffinity
    for b in range(model.nbody):
        own = np.flatnonzero(model.geom_bodyid == b)
        model.body_contype[b] = np.bitwise_or.reduce(model.geom_contype[own], initial=0)
        model.body_conaffinity[b] = np.bitwise_or.reduce(model.geom_conaffinity[own], initial=0)
        model.body_margin[b] = 0.0


_PLAIN = """<mujoco><worldbody><body><joint/><geom size="1"/></body></worldbody></mujoco>"""


def collision_masks(layout: Layout) -> tuple[np.ndarray, np.ndarray]:
    """contype and conaffinity of each shape; bit 0 is the ground. Two shapes touch if their groups
    are equal or one is -1, and their filter words have no bit in common; shapes of one actor that
    keep their file's masks (filter -1) touch if those say so."""
    kinds: list[tuple[Any, ...]] = []
    of_shape = []
    for a, actor in enumerate(layout.actors):
        model = actor.asset.model
        for g, word in zip(actor.asset.shape_geoms, actor.shapes["filter"], strict=True):
            kind: tuple[Any, ...] = (actor.group, int(word), None)
            if actor.filter == NO_FILTER and word == 0:
                masks = int(model.geom_contype[g]), int(model.geom_conaffinity[g])
                kind = (actor.group, 0, (a, *masks))
            if kind not in kinds:
                kinds.append(kind)
            of_shape.append(kinds.index(kind))
    touch = np.array([[_touch(i, j) for j in kinds] for i in kinds], bool)
    touch = touch.reshape(len(kinds), len(kinds))
    bits: dict[int, int] = {}  # of kinds that touch another or themselves
    for i in np.flatnonzero(touch.any(1)):
        twin = next((j for j in bits if (touch[i] == touch[j]).all()), None)
        bits[int(i)] = bits[twin] if twin is not None else 2 << len(set(bits.values()))
    if len(set(bits.values())) > MOST_CLASSES:
        raise PhalanxError(
            f"the actors of an environment have {len(set(bits.values()))} different combinations of"
            f" collision group and filter; {MOST_CLASSES} can be told apart"
        )
    contype = [bits.get(i, 0) for i in of_shape]
    conaffinity = [
        functools.reduce(operator.or_, (bits[int(j)] for j in np.flatnonzero(touch[i])), 1)
        for i in of_shape
    ]
    return np.array(contype, np.int32), np.array(conaffinity, np.int32)


def _touch(i: Sequence[Any], j: Sequence[Any]) -> bool:
    if i[0] != j[0] and NO_GROUP not in (i[0], j[0]):
        return False
    if i[1] & j[1]:
        return False
    if i[2] and j[2] and i[2][0] == j[2][0]:
        return bool(i[2][1] & j[2][2] | j[2][1] & i[2][2])
    return True
