"""Which models the fused engine steps, and why it does not step the others: one sentence that names
feature and element."""

from collections.abc import Set
from typing import Any

import mujoco
import numpy as np
import torch

from phalanx.sim.engines.fused import gains, rangefinders, sensors, thrust, values
from phalanx.sim.engines.fused.fluid import has_fluid
from phalanx.sim.engines.fused.hulls import has_hull
from phalanx.sim.engines.fused.numbers import model_fields
from phalanx.sim.engines.fused.rows import EQUALITIES, Rows
from phalanx.sim.engines.fused.slower import OBSTACLES, slower
from phalanx.sim.engines.fused.structure import Structure
from phalanx.sim.engines.fused.touches import (
    CONVEX,
    ON_BOXES,
    PRISMS,
    TOUCHES,
    pair_kind,
)
from phalanx.sim.engines.fused.values import name_of

JOINT, GEOM, OBJ = mujoco.mjtJoint, mujoco.mjtGeom, mujoco.mjtObj
INTEGRATOR = mujoco.mjtIntegrator
_COUNTS = {"nplugin": "plugins", "nplastic": "plastic deformation", "nhistory": "delays"}
"""Parts of a model that have no names of their own."""
_PLUGGED = ("body", "geom", "actuator", "sensor")
_OPTIONS = {
    "noslip_iterations": "the noslip solver", "disableactuator": "disabled groups of actuators",
}  # fmt: skip
_BESIDES = tuple(
    getattr(mujoco.mjtEnableBit, f"mjENBL_{x}") for x in ("ENERGY", "FWDINV", "INVDISCRETE")
)
"""Enabled options that change nothing in a step."""
_ZERO = {
    "jnt_stiffnesspoly": ("joint", "a polynomial spring"),
    "jnt_springyield": ("joint", "a yielding spring"),
    "dof_dampingpoly": ("joint", "polynomial damping"),
    "actuator_dampingpoly": ("actuator", "polynomial damping"),
    "actuator_damping": ("actuator", "damping of its own"),
    "actuator_armature": ("actuator", "armature of its own"),
    "actuator_delay": ("actuator", "a delay"),
    "tendon_stiffnesspoly": ("tendon", "a polynomial spring"),
    "tendon_dampingpoly": ("tendon", "polynomial damping"),
    "tendon_springyield": ("tendon", "a yielding spring"),
    "tendon_armature": ("tendon", "armature"),
    "tendon_actfrclimited": ("tendon", "a limit of its actuators' force"),
    "geom_adhesion": ("geom", "adhesion"),
    "pair_adhesion": ("pair", "adhesion"),
    "geom_surfacevel": ("geom", "a surface velocity"),
    "sensor_delay": ("sensor", "a delay"),
    "sensor_interval": ("sensor", "an interval"),
}


def why_not(model: mujoco.MjModel) -> str | None:
    """Why the fused engine does not step `model`, in one sentence; None if it does."""
    found = examined(model)
    return found if isinstance(found, str) else None


def examined(model: mujoco.MjModel) -> Structure | str:
    """The structure of a model that the fused engine steps, or `why_not`'s sentence."""
    parts = (_options, _parts, _joints, _equalities, _tendons, _actuators, _sensors)
    reason = next((said for part in parts if (said := part(model))), None)
    if not reason:
        structure = Structure(model)
        own = model_fields(model, torch.device("cpu"))
        reason = refused_rows(structure) or _contacts(structure)
        reason = reason or values.refused(model, values.rules_of(structure), own)
    return f"the fused engine does not have {reason}" if reason else structure


def one_by_one(s: Structure, fields: Set[int], device: str, if_faster: bool) -> Structure | None:
    """The structure in which boxes of some box fields are obstacles one by one; None if they are
    too many, or slower than another engine if that counts."""
    sizes = {g: len(s.box_fields[g]) for g in fields}
    if sum(max(sizes.get(g, 1) for g in pair[:2]) for pair in s.obstacles) > OBSTACLES:
        return None
    single = s.single.union(*(s.box_fields[g] for g in fields))
    found = Structure(s.model, s.switched, s.shows_welds, single)
    return None if _contacts(found) or (if_faster and slower(found, device)) else found


def _options(m: mujoco.MjModel) -> str | None:
    for name, what in _OPTIONS.items():
        if getattr(m.opt, name):
            return f"{what} (option {name})"
    for bit in mujoco.mjtEnableBit.__members__.values():
        if m.opt.enableflags & bit and bit not in (*_BESIDES, mujoco.mjtEnableBit.mjNENABLE):
            name = bit.name.removeprefix("mjENBL_").lower()
            return f"an enabled option (option flag {name})"
    if has_fluid(m):
        if _is(m.opt.integrator, INTEGRATOR.mjINT_IMPLICITFAST):
            return "a fluid with implicitfast; use Euler or RK4 (option integrator)"
        for geom in np.flatnonzero(m.geom_fluid[:, 0] > 0).tolist():
            return f"a fluid around ellipsoids, fluidshape (geom {name_of(m, 'geom', geom)})"
    known = (INTEGRATOR.mjINT_EULER, INTEGRATOR.mjINT_IMPLICITFAST, INTEGRATOR.mjINT_RK4)
    if not _is(m.opt.integrator, *known):
        return "other integrators than Euler, implicitfast and RK4 (option integrator)"
    if m.opt.integrator == INTEGRATOR.mjINT_RK4 and m.na:
        return "activations of actuators with RK4 (option integrator)"
    return None


def _parts(m: mujoco.MjModel) -> str | None:
    """What is nowhere supported, of the first element that has it."""
    elliptic = m.opt.cone == mujoco.mjtCone.mjCONE_ELLIPTIC
    own = {"pair_solreffriction": ("pair", "a solref of friction of its own")} if elliptic else {}
    for name, (kind, what) in (_ZERO | own).items():
        values = np.atleast_1d(getattr(m, name))
        for row in np.flatnonzero(values.reshape(len(values), values[:1].size).any(1)).tolist():
            row = int(m.dof_jntid[row]) if name.startswith("dof_") else row
            return f"{what} ({kind} {name_of(m, kind, row)})"
    if m.nflex:
        return f"flexible bodies (flex {name_of(m, 'flex', 0)})"
    for kind in _PLUGGED:
        for i in np.flatnonzero(getattr(m, f"{kind}_plugin") >= 0).tolist():
            return f"plugins ({kind} {name_of(m, kind, i)})"
    for name, what in _COUNTS.items():
        if getattr(m, name, 0):
            return f"{what} ({name} is {getattr(m, name)})"
    return None


def _joints(m: mujoco.MjModel) -> str | None:
    if m.nv == 0:
        return "a model in which nothing moves"
    for j in range(m.njnt):
        if m.jnt_actgravcomp[j]:
            return f"gravity compensation by actuators (joint {name_of(m, 'joint', j)})"
    return None


def _actuators(m: mujoco.MjModel) -> str | None:
    for i in range(m.nactuator):
        name = f"(actuator {name_of(m, 'actuator', i)})"
        kinds = mujoco.mjtTrn
        at_tendon = _is(m.actuator_trntype[i], kinds.mjTRN_TENDON)
        at_joint = _is(m.actuator_trntype[i], kinds.mjTRN_JOINT, kinds.mjTRN_JOINTINPARENT)
        at_site = _is(m.actuator_trntype[i], kinds.mjTRN_SITE)
        if not at_joint and not at_tendon and not at_site:
            return f"transmissions to other things than joints, tendons and sites {name}"
        if m.actuator_ctrlnum[i] != 1 or m.actuator_outnum[i] != 1:
            return f"actuators with several controls or forces {name}"
        joint = m.jnt_type[m.actuator_trnid[i, 0]] if at_joint else JOINT.mjJNT_HINGE
        if not _is(joint, JOINT.mjJNT_HINGE, JOINT.mjJNT_SLIDE):
            return f"actuators of other joints than hinges and slides {name}"
        dyn = mujoco.mjtDyn
        known = (dyn.mjDYN_NONE, dyn.mjDYN_INTEGRATOR, dyn.mjDYN_FILTER, dyn.mjDYN_FILTEREXACT)
        if not _is(m.actuator_dyntype[i], *known) or m.actuator_actnum[i] > 1:
            return f"other activations than integrators and filters {name}"
        fixed_or_affine = (mujoco.mjtGain.mjGAIN_FIXED, mujoco.mjtGain.mjGAIN_AFFINE)
        if not _is(m.actuator_gaintype[i], *fixed_or_affine):
            return f"other gains than fixed and affine ones {name}"
        if not _is(
            m.actuator_biastype[i], mujoco.mjtBias.mjBIAS_NONE, mujoco.mjtBias.mjBIAS_AFFINE
        ):
            return f"other biases than affine ones {name}"
        by_speed = gains.depends_on_speed(m)[i]
        if at_tendon and by_speed and _is(m.opt.integrator, INTEGRATOR.mjINT_IMPLICITFAST):
            return f"gains by the speed of a tendon with implicitfast; use Euler {name}"
    return thrust.refused(m)


def _equalities(m: mujoco.MjModel) -> str | None:
    kinds = mujoco.mjtEq
    for i in range(m.neq):
        kind, name = kinds(int(m.eq_type[i])), f"(equality {name_of(m, 'equality', i)})"
        known = (kinds.mjEQ_CONNECT, kinds.mjEQ_WELD, kinds.mjEQ_JOINT, kinds.mjEQ_TENDON)
        if not _is(kind, *known):
            return f"equalities of kind {kind.name.removeprefix('mjEQ_').lower()} {name}"
    return None


def _tendons(m: mujoco.MjModel) -> str | None:
    for t in range(m.ntendon):
        wraps = m.wrap_type[m.tendon_adr[t] : m.tendon_adr[t] + m.tendon_num[t]]
        if (wraps != mujoco.mjtWrap.mjWRAP_JOINT).any():
            return f"tendons through points of space (tendon {name_of(m, 'tendon', t)})"
    return None


def refused_rows(s: Structure) -> str | None:
    """Which row couples more trees than two, or branches of one, if any."""
    rows = Rows(s)
    if (t := rows.branching()) >= 0:
        name = name_of(s.model, "tendon", t)
        return f"damping of tendons along branches with implicitfast; use Euler (tendon {name})"
    for row in rows.rows:
        if len(rows.trees(row)) > 2:
            kind = "equality" if row.type in EQUALITIES else "tendon"
            name = name_of(s.model, kind, row.id)
            return f"tendons and equalities that couple three trees ({kind} {name})"
    return None


def _contacts(s: Structure) -> str | None:
    m = s.model
    for plane in s.planes:
        if s.slot_of_geom(plane) >= 0:
            return f"planes that move (geom {name_of(m, 'geom', plane)})"
    for pair in (*s.pairs, *s.obstacles):
        kind, ground = pair_kind(s, pair), {"PLANE", "HFIELD"}
        meshes = [g for g in pair[:2] if m.geom_type[g] == GEOM.mjGEOM_MESH]
        for geom in meshes:
            if not has_hull(m, geom):
                return f"meshes without a convex hull (geom {name_of(m, 'geom', geom)})"
        by_points = kind in CONVEX + PRISMS + ON_BOXES
        if by_points and m.opt.disableflags & mujoco.mjtDisableBit.mjDSBL_NATIVECCD:
            return "contacts of convex shapes by libccd (option flag nativeccd)"
        if kind not in TOUCHES or (pair in s.pairs and kind[0] in ground):
            shapes = " and a ".join(_word(GEOM(int(m.geom_type[g]))) for g in pair[:2])
            names = " and ".join(name_of(m, "geom", g) for g in pair[:2])
            return f"contacts of a {shapes} (geoms {names})"
    return None


def _sensors(m: mujoco.MjModel) -> str | None:
    rays = rangefinders.of(m)
    for i in range(m.nsensor):
        kind, name = sensors.kind(m, i), f"(sensor {name_of(m, 'sensor', i)})"
        if i in rays:
            if not rangefinders.is_plain(m, i):
                return f"rangefinders of anything but the distance from a site {name}"
            if (geom := rangefinders.unknown(m)) is not None:
                shape = _word(GEOM(int(m.geom_type[geom])))
                return f"rangefinders that may see a {shape} (geom {name_of(m, 'geom', geom)})"
            continue
        if kind not in sensors.OF_STATE | sensors.OF_FORCES:
            return f"{kind.lower()} sensors {name}"
        if kind == "CONTACT" and not _is_net_force(m, i):
            return f"contact sensors of anything but the net force on one body {name}"
        objects = [(int(m.sensor_objtype[i]), int(m.sensor_objid[i]))]
        objects.append((int(m.sensor_reftype[i]), int(m.sensor_refid[i])))
        for what, which in objects:
            if (
                what == OBJ.mjOBJ_CAMERA
                and m.cam_mode[which] != mujoco.mjtCamLight.mjCAMLIGHT_FIXED
            ):
                return f"sensors of cameras that track something {name}"
        if "LIMIT" in kind and m.jnt_type[m.sensor_objid[i]] == JOINT.mjJNT_BALL:
            return f"sensors of a ball joint's limit {name}"
        if kind in sensors.FORCES and m.site_bodyid[m.sensor_objid[i]] == 0:
            return f"the force on the world {name}"
        if kind == "TOUCH" and sensors.site_shape(m, int(m.sensor_objid[i])) not in sensors.SHAPES:
            return f"touch sensors of other shapes {name}"
    return None


def _is_net_force(m: mujoco.MjModel, i: int) -> bool:
    """Of all contacts, or of those with the body's own robot, which must not be fixed."""
    body, other = int(m.sensor_objid[i]), int(m.sensor_refid[i])
    whole = m.sensor_objtype[i] == OBJ.mjOBJ_BODY and body != 0
    if m.sensor_reftype[i] == OBJ.mjOBJ_XBODY:
        whole = whole and other == m.body_rootid[body] and m.body_weldid[other] != 0
    else:
        whole = whole and other < 0 and m.sensor_reftype[i] == OBJ.mjOBJ_UNKNOWN
    return bool(whole and m.sensor_intprm[i, :3].tolist() == sensors.NET_FORCE)


def _is(value: Any, *kinds: Any) -> bool:
    return int(value) in [int(k) for k in kinds]


def _word(kind: mujoco.mjtGeom) -> str:
    return kind.name.removeprefix("mjGEOM_").lower()
