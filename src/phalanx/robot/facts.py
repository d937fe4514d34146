"""What a robot's file contains, as plain data: `dataclasses.asdict(facts_of(robot))` is JSON.

SI units, angles in radians; vectors are in the frame of their body, quaternions (w, x, y, z).
"""

from dataclasses import dataclass
from typing import Any

import mujoco
import numpy as np

from phalanx.robot.drives import Array, effort_limit, is_motor
from phalanx.robot.file import RobotFile
from phalanx.sim.bodies import overlaps
from phalanx.sim.robot import Note
from phalanx.sim.scene_options import shown

Vector = tuple[float, ...]


@dataclass(frozen=True)
class BodyFacts:
    """One body."""

    name: str
    parent: str
    """Empty for the root."""
    depth: int
    """Bodies between this one and the root, plus one; 0 for the root."""
    mass: float
    """[kg]."""
    com: Vector
    """Centre of mass [m]."""
    inertia: Vector
    """Principal moments about the centre of mass [kg m^2]."""
    collision_shapes: int
    drawn_shapes: int
    """Shapes that do not collide."""


@dataclass(frozen=True)
class JointFacts:
    """One joint; a number is None where the file sets no limit."""

    name: str
    body: str
    type: str
    """free, ball, hinge or slide."""
    axis: Vector
    """Of length 1; empty for a free or ball joint."""
    lower: float | None
    """[rad or m]."""
    upper: float | None
    effort: float | None
    """Largest effort [N m or N]."""
    velocity: float | None
    """Largest velocity, from a URDF [rad/s or m/s]. MuJoCo does not enforce it."""
    armature: float
    """[kg m^2 or kg]."""
    damping: float
    """[N m s/rad or N s/m]."""
    friction: float
    """[N m or N]."""


@dataclass(frozen=True)
class ActuatorFacts:
    """One actuator."""

    name: str
    type: str
    """motor, position, velocity or general, or the name of MuJoCo's gain."""
    target: str
    """What it moves: a joint, tendon, site or body."""
    control: Vector | None
    """Smallest and largest control, None if it is not limited."""
    force: Vector | None
    """Smallest and largest force [N or N m], before the gear."""
    gear: float
    stiffness: float
    """Of a position actuator, per unit of its target."""
    damping: float


@dataclass(frozen=True)
class SensorFacts:
    """One sensor."""

    name: str
    type: str
    on: str
    """The element it is at, empty if it has none."""
    size: int
    """Numbers that it gives."""


@dataclass(frozen=True)
class ConstraintFacts:
    """An equality or a tendon."""

    name: str
    type: str
    """connect, weld, joint or another kind of equality; fixed tendon or spatial tendon."""
    between: tuple[str, ...]
    """Bodies or sites, joints or tendons that it joins, in order; "world" is what cannot move."""
    limits: Vector | None
    """Shortest and longest length of a tendon [m, or m and rad summed], None if not limited."""
    active: bool
    """False for an equality that the file turns off."""


@dataclass(frozen=True)
class OverlapFacts:
    """Two bodies that overlap in the initial pose and push each other apart."""

    first: str
    second: str
    depth: float
    """How deep they are in each other [m]."""


@dataclass(frozen=True)
class RobotFacts:
    """One robot."""

    name: str
    file: str
    format: str
    """MJCF or URDF."""
    base: str
    """free, fixed, guided: on slides and hinges that nothing drives, or tied: to the world."""
    mass: float
    """[kg]."""
    size: Vector
    """Of the box around it in the initial pose [m]."""
    bodies: list[BodyFacts]
    joints: list[JointFacts]
    actuators: list[ActuatorFacts]
    constraints: list[ConstraintFacts]
    sensors: list[SensorFacts]
    keyframes: list[str]
    options: dict[str, str]
    """Physics options that the file gives, in its words."""
    outside: list[str]
    """Joints whose position is outside of their limits when all are at zero, or at their ref."""
    overlaps: list[OverlapFacts]
    notes: list[Note]
    """What was dropped, added or mended on reading."""


def facts_of(robot: RobotFile, qpos: Array | None = None) -> RobotFacts:
    """Everything above, of one robot. qpos: (nq,) the initial pose, by default the file's."""
    model = robot.model
    data = mujoco.MjData(model)
    initial = model.qpos0 if qpos is None else qpos
    data.qpos[:] = initial
    mujoco.mj_kinematics(model, data)
    joints = [_joint(model, j, robot.format == "URDF") for j in range(model.njnt)]
    return RobotFacts(
        name=robot.spec.modelname,
        file=str(robot.path),
        format=robot.format,
        base=robot.base_kind,
        mass=_short(model.body_mass.sum()),
        size=_size(model, data),
        bodies=[_body(model, b) for b in range(1, model.nbody)],
        joints=joints,
        actuators=[_actuator(model, a) for a in range(model.nu)],
        constraints=[
            *(_equality(model, e) for e in range(model.neq)),
            *(_tendon(model, t) for t in range(model.ntendon)),
        ],
        sensors=[_sensor(model, s) for s in range(model.nsensor)],
        keyframes=list(robot.robot.keyframes),
        options={name: shown(name, value) for name, value in robot.robot.options.items()},
        outside=[
            facts.name
            for j, facts in enumerate(joints)
            if facts.lower is not None
            and facts.upper is not None
            and not facts.lower <= model.qpos0[model.jnt_qposadr[j]] <= facts.upper
        ],
        overlaps=[OverlapFacts(a, b, _short(d)) for a, b, d in overlaps(model, initial)],
        notes=robot.robot.notes,
    )


def _body(model: mujoco.MjModel, body: int) -> BodyFacts:
    first = model.body_geomadr[body]
    geoms = range(first, first + model.body_geomnum[body])
    collide = sum(bool(model.geom_contype[g] or model.geom_conaffinity[g]) for g in geoms)
    parent = int(model.body_parentid[body])
    depth, above = 0, parent
    while above:
        depth, above = depth + 1, int(model.body_parentid[above])
    return BodyFacts(
        name=model.body(body).name,
        parent=model.body(parent).name if parent else "",
        depth=depth,
        mass=_short(model.body_mass[body]),
        com=_vector(model.body_ipos[body]),
        inertia=_vector(model.body_inertia[body]),
        collision_shapes=collide,
        drawn_shapes=len(geoms) - collide,
    )


def _joint(model: mujoco.MjModel, joint: int, urdf: bool) -> JointFacts:
    kind = mujoco.mjtJoint(int(model.jnt_type[joint]))
    scalar = kind in (mujoco.mjtJoint.mjJNT_HINGE, mujoco.mjtJoint.mjJNT_SLIDE)
    dof = model.jnt_dofadr[joint]
    limited = scalar and model.jnt_limited[joint]
    # In an MJCF these are the user's own numbers.
    velocity = float(model.jnt_user[joint, 0]) if urdf and model.nuser_jnt else 0.0
    return JointFacts(
        name=model.joint(joint).name,
        body=model.body(model.jnt_bodyid[joint]).name,
        type=kind.name.removeprefix("mjJNT_").lower(),
        axis=_vector(model.jnt_axis[joint]) if scalar else (),
        lower=_short(model.jnt_range[joint, 0]) if limited else None,
        upper=_short(model.jnt_range[joint, 1]) if limited else None,
        effort=_maybe(effort_limit(model, joint)),
        velocity=velocity or None,
        armature=_short(model.dof_armature[dof]),
        damping=_short(model.dof_damping[dof].flat[0]),
        friction=_short(model.dof_frictionloss[dof]),
    )


def _actuator(model: mujoco.MjModel, a: int) -> ActuatorFacts:
    bias = model.actuator_biasprm[a]
    affine = model.actuator_biastype[a] == mujoco.mjtBias.mjBIAS_AFFINE
    gain = mujoco.mjtGain(int(model.actuator_gaintype[a]))
    if is_motor(model, a):
        kind = "motor"
    elif gain == mujoco.mjtGain.mjGAIN_FIXED and affine:
        kind = "position" if bias[1] else "velocity" if bias[2] else "general"
    else:
        kind = gain.name.removeprefix("mjGAIN_").lower()
    return ActuatorFacts(
        name=model.actuator(a).name or f"actuator{a}",
        type=kind,
        target=_target(model, a),
        control=_range(model.actuator_ctrlrange[a], model.actuator_ctrllimited[a]),
        force=_range(model.actuator_forcerange[a], model.actuator_forcelimited[a]),
        gear=_short(model.actuator_gear[a, 0]),
        stiffness=_short(-bias[1]) if affine else 0.0,
        damping=_short(0.0 - bias[2]) if affine else 0.0,
    )


def _target(model: mujoco.MjModel, a: int) -> str:
    kind, target = mujoco.mjtTrn(int(model.actuator_trntype[a])), int(model.actuator_trnid[a, 0])
    if kind in (mujoco.mjtTrn.mjTRN_JOINT, mujoco.mjtTrn.mjTRN_JOINTINPARENT):
        return str(model.joint(target).name)
    if kind == mujoco.mjtTrn.mjTRN_TENDON:
        return f"tendon {model.tendon(target).name}"
    if kind == mujoco.mjtTrn.mjTRN_BODY:
        return f"body {model.body(target).name}"
    return f"site {model.site(target).name}"


def _equality(model: mujoco.MjModel, e: int) -> ConstraintFacts:
    kind = mujoco.mjtEq(int(model.eq_type[e]))
    on = mujoco.mjtObj(int(model.eq_objtype[e]))
    ends = (int(model.eq_obj1id[e]), int(model.eq_obj2id[e]))
    return ConstraintFacts(
        name=model.equality(e).name or f"equality{e}",
        type=kind.name.removeprefix("mjEQ_").lower(),
        between=tuple(mujoco.mj_id2name(model, on, end) or "" for end in ends if end >= 0),
        limits=None,
        active=bool(model.eq_active0[e]),
    )


def _tendon(model: mujoco.MjModel, t: int) -> ConstraintFacts:
    first = int(model.tendon_adr[t])
    wraps = range(first, first + int(model.tendon_num[t]))
    fixed = model.wrap_type[first] == mujoco.mjtWrap.mjWRAP_JOINT
    return ConstraintFacts(
        name=model.tendon(t).name or f"tendon{t}",
        type="fixed tendon" if fixed else "spatial tendon",
        between=tuple(n for n in (_wrapped(model, w) for w in wraps) if n),
        limits=_range(model.tendon_range[t], model.tendon_limited[t]),
        active=True,
    )


def _wrapped(model: mujoco.MjModel, wrap: int) -> str:
    """What a tendon passes there; empty for a pulley."""
    kind, element = int(model.wrap_type[wrap]), int(model.wrap_objid[wrap])
    on = _WRAPPED.get(kind)
    return "" if on is None else mujoco.mj_id2name(model, on, element) or ""


_WRAPPED = {
    int(mujoco.mjtWrap.mjWRAP_JOINT): mujoco.mjtObj.mjOBJ_JOINT,
    int(mujoco.mjtWrap.mjWRAP_SITE): mujoco.mjtObj.mjOBJ_SITE,
    int(mujoco.mjtWrap.mjWRAP_SPHERE): mujoco.mjtObj.mjOBJ_GEOM,
    int(mujoco.mjtWrap.mjWRAP_CYLINDER): mujoco.mjtObj.mjOBJ_GEOM,
}


def _sensor(model: mujoco.MjModel, s: int) -> SensorFacts:
    kind = mujoco.mjtSensor(int(model.sensor_type[s])).name.removeprefix("mjSENS_").lower()
    on, element = mujoco.mjtObj(int(model.sensor_objtype[s])), int(model.sensor_objid[s])
    known = on != mujoco.mjtObj.mjOBJ_UNKNOWN and element >= 0
    return SensorFacts(
        name=model.sensor(s).name or f"sensor{s}",
        type=kind,
        on=(mujoco.mj_id2name(model, on, element) or "") if known else "",
        size=int(model.sensor_dim[s]),
    )


def _size(model: mujoco.MjModel, data: mujoco.MjData) -> Vector:
    if not model.ngeom:
        return (0.0, 0.0, 0.0)
    mat = data.geom_xmat.reshape(-1, 3, 3)
    middle = data.geom_xpos + np.einsum("gij,gj->gi", mat, model.geom_aabb[:, :3])
    reach = np.einsum("gij,gj->gi", np.abs(mat), model.geom_aabb[:, 3:])
    return _vector((middle + reach).max(axis=0) - (middle - reach).min(axis=0))


def _range(values: Array, limited: Any) -> Vector | None:
    return _vector(values) if limited else None


def _vector(values: Array) -> Vector:
    return tuple(_short(v) for v in values)


def _maybe(value: float | None) -> float | None:
    return None if value is None else _short(value)


def _short(value: Any) -> float:
    """The number with six digits; the file has no more."""
    return float(f"{float(value):.6g}")
