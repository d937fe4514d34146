"""The numbers of a model in the form that the fused step reads, and its structure as C constants.

    numbers = tables(structure, fields)   # {"inertia": (E, rows, columns), ...}

`fields` gives MuJoCo's model fields with a leading dimension E: 1, or N where environments differ.
A table is as wide as the fields that it is made from.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from functools import partial

import mujoco
import numpy as np

from phalanx.sim.engines.fused.lanes import SLOT_TABLES, Lanes, declared
from phalanx.sim.engines.fused.rows import Rows
from phalanx.sim.engines.fused.sensors import Sensors, actuators_of
from phalanx.sim.engines.fused.source import Sizes
from phalanx.sim.engines.fused.structure import (
    BALL,
    BASE,
    FREE,
    HINGE,
    SLIDE,
    Pair,
    Structure,
    matrices,
)

Array = np.ndarray
Fields = Callable[[str], Array]

TOUCHES = {
    ("SPHERE", "SPHERE"): 1, ("SPHERE", "CAPSULE"): 1, ("CAPSULE", "CAPSULE"): 1,
    ("SPHERE", "BOX"): 1, ("CAPSULE", "BOX"): 2, ("BOX", "BOX"): 8, ("SPHERE", "CYLINDER"): 1,
    ("PLANE", "CYLINDER"): 4,
}  # fmt: skip
"""The most contacts of two geoms, by their shapes in MuJoCo's order."""
KINDS = list(TOUCHES)
OUTPUTS = (
    "xpos", "xquat", "xmat", "xipos", "ximat", "geom_xpos", "geom_xmat", "site_xpos", "site_xmat",
    "cvel", "cdof", "subtree_com", "qacc", "actuator_force", "qfrc_actuator", "qfrc_constraint",
    "cfrc_ext", "cfrc_int", "sensordata",
)  # fmt: skip
INPUTS = (
    "qpos", "qvel", "act", "ctrl", "qfrc_applied", "xfrc_applied", "mocap_pos", "mocap_quat",
)  # fmt: skip

# Model fields from which tables are made: these may differ between environments.
VARIABLE = frozenset({
    "opt.gravity", "body_gravcomp", "body_mass", "body_inertia", "body_ipos", "body_iquat",
    "body_invweight0",
    "dof_damping", "dof_armature", "dof_frictionloss", "dof_invweight0", "dof_solref", "dof_solimp",
    "jnt_stiffness", "jnt_range", "jnt_solref", "jnt_solimp", "jnt_margin", "jnt_actfrcrange",
    "qpos_spring", "actuator_gainprm", "actuator_biasprm", "actuator_gear", "actuator_ctrlrange",
    "actuator_forcerange", "geom_friction", "geom_solref", "geom_solimp", "geom_margin", "geom_gap",
    "tendon_stiffness", "tendon_damping", "tendon_lengthspring", "tendon_range", "tendon_margin",
    "tendon_invweight0", "tendon_solref_lim", "tendon_solimp_lim", "tendon_solref_fri",
    "tendon_solimp_fri", "eq_solref", "eq_solimp", "pair_friction", "pair_solref", "pair_solimp",
    "pair_margin", "pair_gap",
})  # fmt: skip

DRAWN = re.compile("(geom|site|mat|tendon)_(rgba|emission|specular|shininess|reflectance)|light_.*")
"""Model fields that only pictures show: they may differ, too, and change nothing in a step."""

BY_SLOT = frozenset({
    "UP", "KIND", "BODY", "BODY_ID", "ALONE", "POSE_OF", "GROUP", "TREE", "TREE_POSE", "QPOS",
    "DOF", "MOCAP", "BALL_OF", "BALL_AXIS", "LIMITED", "FRICTION", "FORCE_LIMITED",
})  # fmt: skip
"""Constants with a value for each slot."""

MINVAL = 1e-15
_NO_GRAVITY = mujoco.mjtDisableBit.mjDSBL_GRAVITY
MINIMP, MAXIMP = 1e-4, 0.9999


def model_fields(model: mujoco.MjModel) -> Fields:
    """The fields of one model, E = 1."""

    def field(name: str) -> Array:
        owner = model.opt if name.startswith("opt.") else model
        return np.asarray(getattr(owner, name.removeprefix("opt.")), float)[None]

    return field


def tables(s: Structure, field: Fields) -> dict[str, Array]:
    """Every table, (E, rows, columns)."""
    m = s.model
    joints = [slot.joint for slot in s.slots]
    dofs = s.dofs
    balls = s.balls
    coordinates = [int(m.jnt_qposadr[j]) for j in joints]
    bodies = range(1, m.nbody)
    placed_geoms = [g for g in range(m.ngeom) if s.slot_of_geom(g) >= 0]
    placed_sites = [g for g in range(m.nsite) if s.slot_of_body(int(m.site_bodyid[g])) >= 0]
    placed_bodies = [b for b in bodies if s.slot_of_body(b) >= 0]
    static = _static_masses(s)
    origin = [tree_origin(s, k) for k in range(len(s.slots))]
    out = {
        "powers": _powers(s, field),
        "gravity": field("opt.gravity")[:, None],
        "timestep": [[[m.opt.timestep]]],
        "scale": [[[1 / (m.stat.meaninertia * max(1, m.nv)), m.opt.tolerance]]],
        "rotation": [[slot.rotation.ravel() for slot in s.slots]],
        "offset": [
            [
                slot.offset if slot.up >= 0 or k in s.posed else slot.offset - origin[k]
                for k, slot in enumerate(s.slots)
            ]
        ],
        "origin": [origin],
        "quat": [[s.slot_quat(k) for k in range(len(s.slots))]],
        "qpos0": m.qpos0[coordinates][None, :, None],
        "inertia": _inertia(s, field),
        "armature": field("dof_armature")[:, dofs, None],
        "damping": field("dof_damping")[:, dofs, None] * _on(m, mujoco.mjtDisableBit.mjDSBL_DAMPER),
        "spring": _together(
            field("jnt_stiffness")[:, joints] * _on(m, mujoco.mjtDisableBit.mjDSBL_SPRING),
            field("qpos_spring")[:, coordinates],
        ),
        "ball": [[m.qpos_spring[coordinates[k] : coordinates[k] + 4] for k in balls]],
        "free_joint": _free_joints(s, field),
        "limit": _limits(m, field, joints, dofs),
        "friction": _friction(m, field, dofs),
        "force_range": field("jnt_actfrcrange")[:, joints],
        "actuator": _actuators(m, field, actuators_by_slot(s) + actuators_by_tendon(m)),
        **Rows(s).tables(field, partial(_reference, m)),
        "plane": [[_plane(m, g) for g in s.planes]],
        "point": _points(s, field),
        "geom": [[_capsule(s, g) for g in s.geoms]],
        "solid": [[_solid(s, g) for g in solids(s)]],
        "pair": _pairs(s, field),
        "body": [[_place(s, b, np.zeros(3), np.array([1.0, 0, 0, 0])) for b in placed_bodies]],
        "body_quat": [[s.placed_quat(b, np.array([1.0, 0, 0, 0])) for b in placed_bodies]],
        "inertial": _inertial(s, field, placed_bodies),
        "body_mass": field("body_mass")[:, placed_bodies, None],
        "gravcomp": (field("body_mass") * field("body_gravcomp"))[:, placed_bodies, None],
        "static_mass": static[None],
        "group": [[_below(m, g, static) for g in s.groups]],
        "geom_place": [
            [_place(s, int(m.geom_bodyid[g]), m.geom_pos[g], m.geom_quat[g]) for g in placed_geoms]
        ],
        "site_place": [
            [_place(s, int(m.site_bodyid[g]), m.site_pos[g], m.site_quat[g]) for g in placed_sites]
        ],
        "body_inertia": field("body_inertia")[:, placed_bodies],
        **Sensors(s).tables(field, static),
    }
    arrays = {name: np.asarray(values, float) for name, values in out.items()}
    return {n: a if a.ndim == 3 else a.reshape(len(a), -1, 1) for n, a in arrays.items()}


def constants(
    s: Structure,
    varies: Callable[[str], bool],
    shapes: Mapping[str, Sequence[int]],
    sizes: Sizes,
    lanes: Lanes,
) -> str:
    """C declarations of the structure; `shapes`: (rows, columns) of every table, arranged."""
    m, slots = s.model, s.slots
    free, posed = [k for k, slot in enumerate(slots) if slot.kind == FREE], s.posed
    acts, pulling = actuators_by_slot(s), actuators_by_tendon(m)
    balls, coupled = s.balls, Rows(s)
    free_dofs = [int(m.jnt_dofadr[slots[k].joint]) + i for k in free for i in range(6)]
    limited = _constrains(m, mujoco.mjtDisableBit.mjDSBL_LIMIT) * m.jnt_limited
    lossy = _constrains(m, mujoco.mjtDisableBit.mjDSBL_FRICTIONLOSS)
    floss = (m.dof_frictionloss > 0) * lossy
    if varies("friction"):
        floss = np.full(m.nv, lossy)
    groups = s.groups
    root = [s.root_of(k) for k in range(len(slots))]
    trees = sorted(set(root))  # each is a range of slots
    placed_bodies = [b for b in range(1, m.nbody) if s.slot_of_body(b) >= 0]
    placed_geoms = [g for g in range(m.ngeom) if s.slot_of_geom(g) >= 0]
    placed_sites = [g for g in range(m.nsite) if s.slot_of_body(int(m.site_bodyid[g])) >= 0]
    sensors = Sensors(s)
    powers = int(varies("powers") or _powers(s, model_fields(m)).any())
    with_world = [p.pair for p in s.points] + s.obstacles
    point_dim = [contact_dim(m, pair) for pair in with_world]
    pair_dim = [contact_dim(m, pair) for pair in s.pairs]
    kinds, fixed_kinds = ([pair_kind(m, pair) for pair in some] for some in (s.pairs, s.obstacles))
    touches, fixed_touches = ([TOUCHES[kind] for kind in some] for some in (kinds, fixed_kinds))
    pairs = min(sum(touches), sizes.pairs)
    each = [1 if d == 1 else 2 * (d - 1) for d in pair_dim]
    rows = min(sum(n * most for n, most in zip(each, touches, strict=True)), sizes.rows)
    rows += len(coupled.rows)
    joints = [slot.joint for slot in slots]
    hinges = [k for k, slot in enumerate(slots) if slot.kind not in (FREE, BASE)]
    implicit_fast = m.opt.integrator == mujoco.mjtIntegrator.mjINT_IMPLICITFAST
    free_loss, free_damped = (bool(x[free_dofs].any()) for x in (floss, m.dof_damping))
    extras = bool(m.dof_armature[free_dofs].any()) or free_loss or free_damped
    extras = extras or (bool(free) and varies("free_joint"))
    damped = any(m.dof_damping[s.dofs[k]] > 0 for k in hinges) or varies("damping") or free_damped
    velocity_gain = bool((m.actuator_biasprm[:, 2] != 0).any()) or varies("actuator")
    euler_damp = _on(m, mujoco.mjtDisableBit.mjDSBL_EULERDAMP) and damped
    implicit = (damped or velocity_gain) if implicit_fast else euler_damp
    alone = [int(implicit_fast and slot.kind == FREE and is_alone(m, slot.body)) for slot in slots]
    levels = all(np.allclose(_plane(m, g)[:3], [0, 0, 1], atol=1e-12) for g in s.planes)
    numbers = {
        "NSLOT": lanes.length, "NFREE": len(free), "NBASE": len(posed) - len(free),
        "NMOCAP": m.nmocap, "NQ": m.nq, "NV": m.nv,
        "NU": m.nu, "NA": m.na,
        "NBODY": m.nbody, "NGEOM": m.ngeom, "NSITE": m.nsite,
        "NSENSORDATA": m.nsensordata,
        "MAXCON": _most_contacts(s, lanes, fixed_touches), "NPOINT": len(s.points),
        "NSTATIC": len(s.obstacles), "POWERS": powers, "NBASIS": max([1, *point_dim]),
        "NGEOM_": len(s.geoms), "NPAIR": len(s.pairs), "MAXPAIR": max(1, pairs),
        "PBASIS": max([1, *pair_dim]), "MAXROW": max(1, rows),
        "ITERATIONS": m.opt.iterations, "LS_ITERATIONS": m.opt.ls_iterations,
        "ELLIPTIC": int(m.opt.cone == mujoco.mjtCone.mjCONE_ELLIPTIC),
        "INVERSE_SQRT_IMPRATIO": f"{max(m.opt.impratio, MINVAL) ** -0.5:.9e}f",
        "LONERS": int(any(alone)),
        "IMPLICIT": int(implicit), "IMPLICIT_FAST": int(implicit_fast), "PLANES_LEVEL": int(levels),
        "NPLACE_BODY": len(placed_bodies), "NPLACE_GEOM": len(placed_geoms),
        "NPLACE_SITE": len(placed_sites), **sensors.numbers(),
        "FREE": FREE, "SLIDE": SLIDE, "HINGE": HINGE, "BALL": BALL, "BASE": BASE,
        "NBALL": len(balls),
        "BALL_SPRINGS": int(any(m.jnt_stiffness[joints[k]] for k in balls) or varies("spring")),
        "FREE_EXTRAS": int(extras), "FREE_FRICTION": int(free_loss and extras),
        "GRAVCOMP": int(m.ngravcomp > 0 and not m.opt.disableflags & _NO_GRAVITY),
        **{"_".join(kind): i for i, kind in enumerate(KINDS)},
        "MAXTOUCH": max([1, *touches, *fixed_touches]), "HAS_SOLIDS": int(bool(solids(s))),
        "NSOLID": len(solids(s)),
        "HAS_CYLINDERS": int(("PLANE", "CYLINDER") in fixed_kinds),
        "FIXED_FORCES": int(len(posed) > len(free) or sensors.of_fixed_contacts),
        "NTREE": len(trees), "ACROSS_TREES": int(any(
            root[s.slot_of_geom(a)] != root[s.slot_of_geom(b)] for a, b, _ in s.pairs)
            or any(len(coupled.trees(row)) > 1 for row in coupled.rows)),
        **coupled.numbers(), "NJOINT_ACTUATOR": sum(len(a) for a in acts),
    }  # fmt: skip
    by_slot = range(len(slots))
    carried = [[n for n, b in enumerate(placed_bodies) if s.slot_of_body(b) == k] for k in by_slot]
    is_last = [s.last[slot.body] == k for k, slot in enumerate(slots)]
    arrays: dict[str, Sequence[int]] = {
        "UP": [slot.up for slot in slots],
        "KIND": [slot.kind for slot in slots],
        "BODY": [int(x) for x in is_last],
        "BODY_ID": [slot.body for slot in slots],
        "ALONE": alone,
        "POSE_OF": [posed.index(k) if k in posed else -1 for k in by_slot],
        "MOCAP": [int(m.body_mocapid[slot.body]) for slot in slots],
        "GROUP": [groups.index(int(m.body_rootid[slot.body])) for slot in slots],
        "HAS_MASS": [int(x > MINVAL) for x in m.body_subtreemass],
        "TREE": [trees.index(r) for r in root],
        "TREE0": [0, lanes.length] if lanes.count > 1 else _starts([root.count(r) for r in trees]),
        "TREE_POSE": [posed.index(r) if r in posed else -1 for r in root],
        "QPOS": [int(m.jnt_qposadr[j]) if j >= 0 else -1 for j in joints],
        "DOF": s.dofs,
        "BALL_OF": [balls.index(k - slot.axis) if slot.kind == BALL else -1
                    for k, slot in enumerate(slots)],
        "BALL_AXIS": [slot.axis if slot.kind == BALL else -1 for slot in slots],
        "LIMITED": [int(limited[x.joint]) if x.kind not in (BALL, BASE) else 0 for x in slots],
        "FRICTION": [int(floss[dof]) if k in hinges else 0 for k, dof in enumerate(s.dofs)],
        "FORCE_LIMITED": [int(j >= 0 and m.jnt_actfrclimited[j]) for j in joints],
        "ACTUATOR0": _starts([len(a) for a in acts]),
        "BODIES0": _starts([len(some) for some in carried]),
        "SLOT_BODY": [n for some in carried for n in some],
        "ACTUATOR": [i for a in acts + pulling for i in a],
        "ACT": [int(m.actuator_actadr[i]) for a in acts + pulling for i in a],
        "ACT_EARLY": [int(m.actuator_actearly[i]) for a in acts + pulling for i in a],
        "TENDON_ACTUATOR0": _starts([len(a) for a in pulling]),
        **coupled.arrays(),
        "POINT0": _starts([sum(p.slot == k for p in s.points) for k in by_slot]),
        "POINT_PLANE": [p.plane for p in s.points],
        "POINT_CORNER": [int(p.corner) for p in s.points],
        "POINT_DIM": point_dim,
        "POINT_BODY": [int(m.geom_bodyid[moving]) for moving, _ in moving_first(s, with_world)],
        "POINT_OTHER_SLOT": [s.slot_of_geom(fixed) for _, fixed in moving_first(s, with_world)],
        "POINT_OTHER": [int(m.geom_bodyid[fixed]) for _, fixed in moving_first(s, with_world)],
        "GEOM_BODY": [int(m.geom_bodyid[g]) for g in s.geoms],
        "GEOM0": _starts([sum(s.slot_of_geom(g) == k for g in s.geoms) for k in by_slot]),
        "GEOM_SLOT": [s.slot_of_geom(g) for g in s.geoms],
        "PAIR_GEOM1": [s.geoms.index(pair.a) for pair in s.pairs],
        "PAIR_GEOM2": [s.geoms.index(pair.b) for pair in s.pairs],
        "STATIC0": _starts([sum(s.slot_of_obstacle(p) == k for p in s.obstacles) for k in by_slot]),
        "STATIC_GEOM1": [s.geoms.index(pair.a) for pair in s.obstacles],
        "STATIC_GEOM2": [s.geoms.index(pair.b) for pair in s.obstacles],
        "STATIC_FIXED": [s.geoms.index(fixed) for _, fixed in moving_first(s, s.obstacles)],
        "STATIC_KIND": [KINDS.index(kind) for kind in fixed_kinds],
        "SOLID_OF": [solids(s).index(g) if g in solids(s) else -1 for g in s.geoms],
        "PAIR_KIND": [KINDS.index(kind) for kind in kinds],
        "PAIR_DIM": pair_dim,
        "PARENT_BODY": m.body_parentid.tolist(),
        "PLACE_BODY_SLOT": [s.slot_of_body(b) for b in placed_bodies],
        "PLACE_BODY_ID": placed_bodies,
        "PLACE_GEOM_SLOT": [s.slot_of_geom(g) for g in placed_geoms],
        "PLACE_GEOM_ID": placed_geoms,
        "PLACE_SITE_SLOT": [s.slot_of_body(int(m.site_bodyid[g])) for g in placed_sites],
        "PLACE_SITE_ID": placed_sites,
        **sensors.arrays(placed_bodies),
    }  # fmt: skip
    lines = [f"#define {name} {value}" for name, value in numbers.items()]
    lines += declared(s, lanes, arrays, sensors, BY_SLOT.__contains__)
    start = {False: 0, True: 0}
    for name, (height, width) in shapes.items():
        wide, own = varies(name), lanes.count > 1 and name in SLOT_TABLES
        columns = width // lanes.count if own else width
        at = f"({start[wide]} + ((r) * {columns} + (c))"
        at += " * LANES + LANE)" if own else ")"
        lines.append(f"#define AT_{name}(r, c) {at}\n#define VARIES_{name} {int(wide)}")
        start[wide] += height * width
    lines.append(f"#define VARIED_ROWS {start[True]}L")
    pointers = "".join(f"float *{name}; " for name in (*INPUTS, *OUTPUTS))
    lines.append(f"struct Fields {{ {pointers}int *overflow; long forces; }};")
    return "\n".join(lines) + "\n"


def _most_contacts(s: Structure, lanes: Lanes, touches: list[int]) -> int:
    """The most contacts with the world that a lane has; `touches`: of each of `s.obstacles`."""
    many = [0] * lanes.count
    for k in range(len(s.slots)):
        own = sum(p.slot == k for p in s.points)
        fixed = [n for n, pair in zip(touches, s.obstacles, strict=True)
                 if s.slot_of_obstacle(pair) == k]  # fmt: skip
        for lane in range(lanes.count):
            if k in lanes.trunk:
                many[lane] += -(-own // lanes.count)
                many[lane] += max(touches, default=0) * -(-len(fixed) // lanes.count)
            elif lanes.lane_of(k) == lane:
                many[lane] += own + sum(fixed)
    return max(1, *many)


def actuators_by_slot(s: Structure) -> list[list[int]]:
    """Actuators of every slot's joint."""
    return [actuators_of(s.model, slot.joint) for slot in s.slots]


def is_alone(m: mujoco.MjModel, body: int) -> bool:
    """Whether a body with a free joint has no others, and nothing with mass hangs from it."""
    tree = m.dof_treeid[m.jnt_dofadr[m.body_jntadr[body]]]
    return bool(m.tree_dofnum[tree] == 6 and m.body_subtreemass[body] == m.body_mass[body])


def actuators_by_tendon(m: mujoco.MjModel) -> list[list[int]]:
    """Actuators of every tendon."""
    pulls = m.actuator_trntype == mujoco.mjtTrn.mjTRN_TENDON
    return [
        np.flatnonzero(pulls & (m.actuator_trnid[:, 0] == t)).tolist() for t in range(m.ntendon)
    ]


def pair_kind(m: mujoco.MjModel, pair: Pair) -> tuple[str, str]:
    """A key of TOUCHES if the fused step finds the contacts of these geoms."""
    shapes = [mujoco.mjtGeom(int(m.geom_type[g])).name for g in pair[:2]]
    return shapes[0].removeprefix("mjGEOM_"), shapes[1].removeprefix("mjGEOM_")


def solids(s: Structure) -> list[int]:
    """Boxes and cylinders of `s.geoms`."""
    kinds = (int(mujoco.mjtGeom.mjGEOM_BOX), int(mujoco.mjtGeom.mjGEOM_CYLINDER))
    return [g for g in s.geoms if int(s.model.geom_type[g]) in kinds]


def moving_first(s: Structure, pairs: Sequence[Pair]) -> list[tuple[int, int]]:
    """The geoms of pairs of which one has no joints."""
    return [(p.a, p.b) if s.moves(p.a) else (p.b, p.a) for p in pairs]


def contact_dim(m: mujoco.MjModel, pair: Pair) -> int:
    """condim of a contact; mj_contactParam."""
    a, b, explicit = pair
    if explicit >= 0:
        return int(m.pair_dim[explicit])
    if m.geom_priority[a] != m.geom_priority[b]:
        return int(m.geom_condim[a if m.geom_priority[a] > m.geom_priority[b] else b])
    return int(max(m.geom_condim[a], m.geom_condim[b]))


def _powers(s: Structure, field: Fields) -> Array:
    """(E, 1, 1) whether a constraint's solimp has another power than 2."""
    m, pairs = s.model, [*(p.pair for p in s.points), *s.pairs, *s.obstacles]
    geoms = {g for pair in pairs if pair.explicit < 0 for g in pair[:2]}
    rows = {
        "geom_solimp": sorted(geoms),
        "pair_solimp": [pair.explicit for pair in pairs if pair.explicit >= 0],
        "jnt_solimp": [slot.joint for slot in s.slots if m.jnt_limited[slot.joint]],
        "eq_solimp": list(range(m.neq)), "tendon_solimp_lim": list(range(m.ntendon)),
    }  # fmt: skip
    others = [(field(name)[:, some, 4] != 2).any(1) for name, some in rows.items()]
    return np.stack(np.broadcast_arrays(*others)).any(0).reshape(-1, 1, 1)


def tree_origin(s: Structure, k: int) -> Array:
    """(3,) the fixed point about which a tree without a free joint or base is computed [m]."""
    root = s.slots[s.root_of(k)]
    return np.zeros(3) if root.kind in (FREE, BASE) else np.array(root.offset)


def _on(m: mujoco.MjModel, flag: mujoco.mjtDisableBit) -> int:
    return int(not m.opt.disableflags & flag)


def _constrains(m: mujoco.MjModel, flag: mujoco.mjtDisableBit) -> int:
    return _on(m, flag) * _on(m, mujoco.mjtDisableBit.mjDSBL_CONSTRAINT)


def _starts(counts: Sequence[int]) -> list[int]:
    return [0, *np.cumsum(counts).tolist()]


def _together(*columns: Array) -> Array:
    """(E, rows, columns) from arrays (E or 1, rows)."""
    return np.stack(np.broadcast_arrays(*columns), -1)


def _place(s: Structure, body: int, pos: Array, quat: Array) -> Array:
    at, rotation = s.placed(body, pos, quat)
    return np.concatenate([at, rotation.ravel()])


def _inertial(s: Structure, field: Fields, bodies: list[int]) -> Array:
    """(E, bodies, 12): the centre of mass and the axes of inertia in the slot's frame."""
    ipos, iquat, rows = field("body_ipos"), field("body_iquat"), []
    for b in bodies:
        origin, turn = s.placed(b, np.zeros(3), np.array([1.0, 0, 0, 0]))
        axes = (turn @ matrices(iquat[:, b])).reshape(-1, 9)
        at = origin + ipos[:, b] @ turn.T
        envs = max(len(at), len(axes))
        parts = [np.broadcast_to(x, (envs, x.shape[1])) for x in (at, axes)]
        rows.append(np.concatenate(parts, 1))
    return _stacked(rows, 12)


def _static_masses(s: Structure) -> Array:
    """(bodies, 4) mass x centre and mass of what never moves; the world's own is none."""
    m, data = s.model, mujoco.MjData(s.model)
    mujoco.mj_kinematics(m, data)
    out = np.concatenate([m.body_mass[:, None] * data.xipos, m.body_mass[:, None]], 1)
    out[[b == 0 or s.slot_of_body(b) >= 0 for b in range(m.nbody)]] = 0
    return out


def _below(m: mujoco.MjModel, root: int, masses: Array) -> Array:
    """(4,) the sum of `masses` over the bodies whose outermost one is `root`."""
    return masses[m.body_rootid == root].sum(0)


def _plane(m: mujoco.MjModel, g: int) -> Array:
    """Normal, height and the tangent that MuJoCo gives a contact without a direction."""
    data = mujoco.MjData(m)
    mujoco.mj_kinematics(m, data)
    normal = data.geom_xmat[g].reshape(3, 3)[:, 2]
    y = np.array([0.0, 1, 0]) if abs(normal[1]) < 0.5 else np.array([0.0, 0, 1])
    y -= normal * (normal @ y)
    return np.concatenate([normal, [normal @ data.geom_xpos[g]], y / np.linalg.norm(y)])


def _capsule(s: Structure, g: int) -> Array:
    """Centre, half axis, or a plane's normal, and radius, in its slot's frame or the world's."""
    m, kinds = s.model, mujoco.mjtGeom
    pos, rotation = s.placed(int(m.geom_bodyid[g]), m.geom_pos[g], m.geom_quat[g])
    long = {kinds.mjGEOM_CAPSULE: m.geom_size[g, 1], kinds.mjGEOM_CYLINDER: m.geom_size[g, 1],
            kinds.mjGEOM_PLANE: 1.0}  # fmt: skip
    half = long.get(kinds(int(m.geom_type[g])), 0.0)
    return np.concatenate([pos, rotation[:, 2] * half, m.geom_size[g, :1]])


def _solid(s: Structure, g: int) -> Array:
    """Rotation in its slot's frame and half sizes."""
    m = s.model
    _, rotation = s.placed(int(m.geom_bodyid[g]), m.geom_pos[g], m.geom_quat[g])
    return np.concatenate([rotation.ravel(), m.geom_size[g]])


def _inertia(s: Structure, field: Fields) -> Array:
    """(E, slots, 10) of a body with what is welded to it, in its last slot's frame: inertia about
    the centre of mass xx yy zz xy xz yz, the centre, the mass; zero for other slots."""
    m = s.model
    mass, diagonal, ipos = field("body_mass"), field("body_inertia"), field("body_ipos")
    iquat = field("body_iquat")
    envs = max(len(mass), len(diagonal), len(ipos), len(iquat))
    out = np.zeros((envs, len(s.slots), 10))
    for body, k in s.last.items():
        group = [b for b in range(1, m.nbody) if s.carrier(b) == body]
        parts = []
        for b in group:
            origin, turn = s.placed(b, np.zeros(3), np.array([1.0, 0, 0, 0]))
            own = turn @ matrices(iquat[:, b])
            centre = origin + ipos[:, b] @ turn.T  # (E, 3)
            tensor = (own * diagonal[:, b, None]) @ own.transpose(0, 2, 1)
            parts.append((mass[:, b], centre, tensor))
        total = np.sum([p[0] for p in parts], 0)
        some = np.maximum(total, MINVAL)[:, None]  # a base may have none
        com = np.sum([p[0][:, None] * p[1] for p in parts], 0) / some
        tensor = np.zeros((envs, 3, 3))
        for weight, centre, own in parts:
            arm = centre - com
            square = (arm * arm).sum(-1)[:, None, None] * np.eye(3)
            tensor = (
                tensor + own + weight[:, None, None] * (square - arm[:, :, None] * arm[:, None])
            )
        out[:, k, :6] = tensor[:, [0, 1, 2, 0, 0, 1], [0, 1, 2, 1, 2, 2]]
        out[:, k, 6:9], out[:, k, 9] = com, total
    return out


def _reference(m: mujoco.MjModel, solref: Array, solimp: Array) -> tuple[Array, ...]:
    """Stiffness, damping, dmin, dmax, 1 / width, midpoint of constraint rows; mj_makeImpedance."""
    mixed = (solref[..., :1] > 0) != (solref[..., 1:] > 0)
    solref = np.where(mixed, [0.02, 1.0], solref)
    dmin, dmax = (np.clip(solimp[..., i], MINIMP, MAXIMP) for i in (0, 1))
    width, midpoint = np.maximum(solimp[..., 2], 0), np.clip(solimp[..., 3], MINIMP, MAXIMP)
    flat = width <= MINVAL
    mean = (dmin + dmax) / 2
    standard = solref[..., 0] > 0
    time = solref[..., 0]
    if _on(m, mujoco.mjtDisableBit.mjDSBL_REFSAFE):
        time = np.maximum(time, 2 * m.opt.timestep)
    ratio = solref[..., 1]
    with np.errstate(divide="ignore", invalid="ignore"):
        k = np.where(
            standard, 1 / np.maximum(MINVAL, (dmax * time * ratio) ** 2), -solref[..., 0] / dmax**2
        )
        b = np.where(standard, 2 / np.maximum(MINVAL, dmax * time), -solref[..., 1] / dmax)
    dmin, dmax = np.where(flat, mean, dmin), np.where(flat, mean, dmax)
    return k, b, dmin, dmax, 1 / np.where(flat, 1.0, width), midpoint


def _limits(m: mujoco.MjModel, field: Fields, joints: list[int], dofs: list[int]) -> Array:
    """Low, high, margin, stiffness, damping, dmin, dmax, 1 / width, midpoint, invweight, power."""
    reference = _reference(m, field("jnt_solref")[:, joints], field("jnt_solimp")[:, joints])
    span = field("jnt_range")[:, joints]
    margin = field("jnt_margin")[:, joints]
    weight = field("dof_invweight0")[:, dofs]
    power = np.maximum(field("jnt_solimp")[:, joints, 4], 1)
    return _together(span[..., 0], span[..., 1], margin, *reference, weight, power)


def _free_joints(s: Structure, field: Fields) -> Array:
    """(E, joints, 30) of the six degrees of freedom: armature, damping, then `_friction`."""
    m, rows = s.model, []
    for slot in s.slots:
        if slot.kind != FREE:
            continue
        dofs = [int(m.jnt_dofadr[slot.joint]) + i for i in range(6)]
        damping = field("dof_damping")[:, dofs] * _on(m, mujoco.mjtDisableBit.mjDSBL_DAMPER)
        friction = _friction(m, field, dofs)
        columns = [field("dof_armature")[:, dofs], damping, *np.moveaxis(friction, -1, 0)]
        envs = max(len(c) for c in columns)
        rows.append(np.concatenate([np.broadcast_to(c, (envs, 6)) for c in columns], 1))
    return _stacked(rows, 30)


def _friction(m: mujoco.MjModel, field: Fields, dofs: list[int]) -> Array:
    """Loss, 1 / R, damping of the reference."""
    solref, solimp = field("dof_solref")[:, dofs], field("dof_solimp")[:, dofs]
    _, damping, dmin, *_ = _reference(m, solref, solimp)
    weight = np.maximum(field("dof_invweight0")[:, dofs], MINVAL)
    return _together(field("dof_frictionloss")[:, dofs], dmin / ((1 - dmin) * weight), damping)


def _actuators(m: mujoco.MjModel, field: Fields, by_slot: list[list[int]]) -> Array:
    """Gear, gain, bias, of length, of velocity, lowest and highest control, force and activation;
    what a step adds to the activation: this times the control, less that times itself."""
    ids = [i for some in by_slot for i in some]
    gain, bias = field("actuator_gainprm")[:, ids], field("actuator_biasprm")[:, ids]
    control, force = field("actuator_ctrlrange")[:, ids], field("actuator_forcerange")[:, ids]
    clamps = m.actuator_ctrllimited[ids].astype(bool) * _on(
        m, mujoco.mjtDisableBit.mjDSBL_CLAMPCTRL
    )
    none = np.array([-1e30, 1e30])
    control = np.where(clamps.astype(bool)[:, None], control, none)
    force = np.where(m.actuator_forcelimited[ids].astype(bool)[:, None], force, none)
    affine = m.actuator_biastype[ids] == mujoco.mjtBias.mjBIAS_AFFINE
    bias = np.where(affine[:, None], bias, 0.0)
    on = _on(m, mujoco.mjtDisableBit.mjDSBL_ACTUATION)
    limits = np.where(m.actuator_actlimited[ids, None], m.actuator_actrange[ids], none)
    grow, decay = np.array([_activation(m, i) for i in ids]).reshape(-1, 2).T
    gear = field("actuator_gear")[:, ids, 0]
    return _together(
        gear, on * gain[..., 0], *(on * bias[..., i] for i in range(3)),
        control[..., 0], control[..., 1], force[..., 0], force[..., 1],
        *limits.T[:, None], grow[None], decay[None],
    )  # fmt: skip


def _activation(m: mujoco.MjModel, i: int) -> tuple[float, float]:
    """Part of the control that a step adds to actuator i's activation, and part of itself that it
    takes away; mj_nextActivation."""
    kinds, h = mujoco.mjtDyn, m.opt.timestep
    kind, time = kinds(int(m.actuator_dyntype[i])), max(m.actuator_dynprm[i, 0], MINVAL)
    if kind == kinds.mjDYN_INTEGRATOR:
        return h, 0.0
    if kind == kinds.mjDYN_FILTER:
        return h / time, h / time
    part = 1 - float(np.exp(-h / time)) if kind == kinds.mjDYN_FILTEREXACT else 0.0
    return part, part


def _contact(m: mujoco.MjModel, field: Fields, pair: Pair) -> list[Array]:
    """Margin, stiffness, damping, dmin, dmax, 1 / width, midpoint, invweight, five frictions and
    power of a contact, (E,) each; mj_contactParam and the pyramid's rows of mj_diagApprox."""
    a, b, explicit = pair
    if explicit >= 0:
        named = (field(f"pair_{n}")[:, explicit] for n in ("friction", "solref", "solimp"))
        mu5, ref, imp = named
        margin = field("pair_margin")[:, explicit]
    else:
        mu, ref, imp = _mixed(m, field, a, b)
        margin = field("geom_margin")[:, a] + field("geom_margin")[:, b]  # a gap adds no force
        mu5 = mu[:, [0, 0, 1, 2, 2]]
    mu5 = np.maximum(mu5, 1e-5)
    weight = field("body_invweight0")
    translation = weight[:, m.geom_bodyid[a], 0] + weight[:, m.geom_bodyid[b], 0]
    if contact_dim(m, pair) > 1 and m.opt.cone == mujoco.mjtCone.mjCONE_PYRAMIDAL:
        slide = mu5[:, 0]
        translation = 2 * slide**2 * (1 + slide**2) * translation / max(m.opt.impratio, MINVAL)
    return [margin, *_reference(m, ref, imp), translation, *mu5.T, np.maximum(imp[..., 4], 1)]


def _mixed(m: mujoco.MjModel, field: Fields, a: int, b: int) -> tuple[Array, Array, Array]:
    """Friction (E, 3), solref and solimp of two geoms."""
    friction, solref, solimp = (field(f"geom_{n}") for n in ("friction", "solref", "solimp"))
    first = m.geom_priority[a] - m.geom_priority[b]
    if first:
        g = a if first > 0 else b
        mu, ref, imp = friction[:, g], solref[:, g], solimp[:, g]
    else:
        mu = np.maximum(friction[:, a], friction[:, b])
        mixes = m.geom_solmix[a], m.geom_solmix[b]
        if min(mixes) >= MINVAL:
            mix = mixes[0] / (mixes[0] + mixes[1])
        elif max(mixes) < MINVAL:
            mix = 0.5
        else:
            mix = float(mixes[0] >= MINVAL)
        standard = (solref[:, a, :1] > 0) & (solref[:, b, :1] > 0)
        mean = mix * solref[:, a] + (1 - mix) * solref[:, b]
        ref = np.where(standard, mean, np.minimum(solref[:, a], solref[:, b]))
        imp = mix * solimp[:, a] + (1 - mix) * solimp[:, b]
    return mu, ref, imp


def _points(s: Structure, field: Fields) -> Array:
    """Centre, radius and axis of a point, or the reach of an obstacle; then `_contact`."""
    rows = []
    for p in s.points:
        shape = np.concatenate([p.centre, [p.radius], p.axis])
        rows.append(_row([*shape, *_contact(s.model, field, p.pair)]))
    for pair in s.obstacles:
        contact = _contact(s.model, field, pair)
        rows.append(_row([_reach(s.model, pair, contact[0]), *np.zeros(6), *contact]))
    return _stacked(rows, 21)


def _pairs(s: Structure, field: Fields) -> Array:
    """Reach, then `_contact`."""
    rows = []
    for pair in s.pairs:
        contact = _contact(s.model, field, pair)
        rows.append(_row([_reach(s.model, pair, contact[0]), *contact]))
    return _stacked(rows, 15)


def _reach(m: mujoco.MjModel, pair: Pair, margin: Array) -> Array:
    """Beyond this distance of their centres two geoms do not touch."""
    if m.geom_type[pair.a] == mujoco.mjtGeom.mjGEOM_PLANE:
        return np.full_like(margin, 1e9)
    return m.geom_rbound[pair.a] + m.geom_rbound[pair.b] + margin


def _row(numbers: Sequence[Array]) -> Array:
    return _together(*(np.atleast_1d(x) for x in numbers))


def _stacked(rows: list[Array], width: int) -> Array:
    """(E, rows, columns) from arrays (E or 1, columns)."""
    if not rows:
        return np.zeros((1, 0, width))
    return np.stack(np.broadcast_arrays(*rows), 1)
