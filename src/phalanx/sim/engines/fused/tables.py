"""The structure of a model as C constants, and which numbers of it the fused step reads where."""

import re
from collections.abc import Mapping, Sequence, Set

import mujoco
import numpy as np

from phalanx.sim.engines.fused import boxfields, hulls, thrust
from phalanx.sim.engines.fused.contact_numbers import (
    contact_dim,
    grids,
    has_powers,
    hfields,
    solids,
)
from phalanx.sim.engines.fused.fluid import has_fluid
from phalanx.sim.engines.fused.gains import depends_on_speed, has_affine_gains
from phalanx.sim.engines.fused.lanes import BY_COLUMN, SLOT_TABLES, Lanes, declared
from phalanx.sim.engines.fused.numbers import (
    actuators_by_slot,
    actuators_by_tendon,
    is_on,
    placed_bodies,
)
from phalanx.sim.engines.fused.placing import starts
from phalanx.sim.engines.fused.rows import Rows
from phalanx.sim.engines.fused.sensors import Sensors
from phalanx.sim.engines.fused.solref import MINVAL
from phalanx.sim.engines.fused.source import Sizes
from phalanx.sim.engines.fused.structure import (
    BALL,
    BASE,
    FREE,
    HINGE,
    SLIDE,
    Pair,
    Structure,
)
from phalanx.sim.engines.fused.touches import (
    CONVEX,
    CORNERED,
    GROUNDS,
    KINDS,
    LOWEST,
    ON_BOXES,
    PRISMS,
    SOLID,
    TOUCHES,
    pair_kind,
)

OUTPUTS = (
    "xpos", "xquat", "xmat", "xipos", "ximat", "geom_xpos", "geom_xmat", "site_xpos", "site_xmat",
    "cvel", "cdof", "subtree_com", "qacc", "actuator_force", "qfrc_actuator", "qfrc_constraint",
    "cfrc_ext", "cfrc_int", "sensordata",
)  # fmt: skip
INPUTS = (
    "qpos", "qvel", "act", "ctrl", "qfrc_applied", "xfrc_applied", "mocap_pos", "mocap_quat",
    "eq_active",
)  # fmt: skip

# Model fields from which tables are made: these may differ between environments.
VARIABLE = frozenset({
    "opt.gravity", "body_pos", "body_quat", "jnt_pos", "jnt_axis", "qpos0", "body_gravcomp",
    "body_mass", "body_inertia", "body_ipos", "body_iquat", "body_invweight0", "geom_pos",
    "geom_quat", "geom_size", "geom_rbound", "site_pos", "site_quat", "dof_damping",
    "dof_armature", "dof_frictionloss", "dof_invweight0", "dof_solref", "dof_solimp",
    "jnt_stiffness", "jnt_range", "jnt_solref", "jnt_solimp", "jnt_margin", "jnt_actfrcrange",
    "qpos_spring", "actuator_gainprm", "actuator_biasprm", "actuator_gear",
    "actuator_ctrlrange", "actuator_forcerange", "geom_friction", "geom_solref", "geom_solimp",
    "geom_margin", "geom_gap", "tendon_stiffness", "tendon_damping", "tendon_lengthspring",
    "tendon_range", "tendon_margin", "tendon_invweight0", "tendon_length0", "eq_data",
    "cam_pos", "cam_quat", "tendon_solref_lim", "tendon_solimp_lim", "tendon_solref_fri",
    "tendon_solimp_fri", "eq_solref", "eq_solimp", "pair_friction", "pair_solref",
    "pair_solimp", "pair_margin", "pair_gap",
})  # fmt: skip

DRAWN = re.compile(
    "(geom|site|mat|tendon)_(rgba|emission|specular|shininess|reflectance)|light_.*"
    "|geom_aabb|(body|geom|site)_sameframe"
)
"""Model fields that change nothing in a step: those of pictures and of MuJoCo's short cuts."""

BY_SLOT = frozenset({
    "KIND", "BODY", "LAST", "BODY_ID", "ALONE", "POSE_OF", "GROUP", "TREE", "TREE_POSE", "QPOS",
    "DOF", "MOCAP", "BALL_OF", "BALL_AXIS", "LIMITED", "FRICTION", "FORCE_LIMITED", "ACTUATED",
})  # fmt: skip
"""Constants with a value for each slot."""

_NO_GRAVITY = mujoco.mjtDisableBit.mjDSBL_GRAVITY


def constants(
    s: Structure,
    varied: Set[str],
    wide: Set[str],
    shapes: Mapping[str, Sequence[int]],
    sizes: Sizes,
    lanes: Lanes,
) -> str:
    """C declarations of the structure. varied: model fields that differ between environments; wide:
    the tables made from any of them; shapes: (rows, columns) of every table, arranged."""
    m, slots = s.model, s.slots
    free, posed = [k for k, slot in enumerate(slots) if slot.kind == FREE], s.posed
    acts, pulling = actuators_by_slot(s), actuators_by_tendon(m)
    thrusting = [thrust.thrusters(m)]
    balls, coupled = s.balls, Rows(s)
    free_dofs = [int(m.jnt_dofadr[slots[k].joint]) + i for k in free for i in range(6)]
    limited = _constrains(m, mujoco.mjtDisableBit.mjDSBL_LIMIT) * m.jnt_limited
    lossy = _constrains(m, mujoco.mjtDisableBit.mjDSBL_FRICTIONLOSS)
    floss = (m.dof_frictionloss > 0) * lossy
    if "dof_frictionloss" in varied:  # not if only another number of the table does
        floss = np.full(m.nv, lossy)
    groups, bodies = s.groups, placed_bodies(s)
    root = [s.root_of(k) for k in range(len(slots))]
    trees = sorted(set(root))  # each is a range of slots
    placed_geoms = [g for g in range(m.ngeom) if s.slot_of_geom(g) >= 0]
    placed_sites = [g for g in range(m.nsite) if s.slot_of_body(int(m.site_bodyid[g])) >= 0]
    sensors = Sensors(s)
    with_world = [p.pair for p in s.points] + s.obstacles
    point_dim = [contact_dim(m, pair) for pair in with_world]
    pair_dim = [contact_dim(m, pair) for pair in s.pairs]
    kinds, fixed_kinds = ([pair_kind(s, pair) for pair in some] for some in (s.pairs, s.obstacles))
    touches, fixed_touches = (
        [TOUCHES[kind] * (sizes.ground if kind[0] in GROUNDS else 1) for kind in some]
        for some in (kinds, fixed_kinds)
    )
    fields, (hull_numbers, hull_arrays) = hfields(s), hulls.constants(s)
    on_boxes = any(kind in ON_BOXES for kind in fixed_kinds)
    convex = on_boxes or any(kind in CONVEX for kind in kinds + fixed_kinds)
    lowest, prisms, cornered = (
        any(kind in fixed_kinds for kind in some) for some in (LOWEST, PRISMS, CORNERED)
    )
    pairs = min(sum(touches), sizes.pairs)
    rows = min(sum(n * most for n, most in zip(pair_dim, touches, strict=True)), sizes.rows)
    rows += max(len(coupled.rows), len(coupled.damped()))
    joints = [slot.joint for slot in slots]
    hinges = [k for k, slot in enumerate(slots) if slot.kind not in (FREE, BASE)]
    implicit_fast = m.opt.integrator == mujoco.mjtIntegrator.mjINT_IMPLICITFAST
    runge_kutta = m.opt.integrator == mujoco.mjtIntegrator.mjINT_RK4
    free_loss, free_damped = (bool(x[free_dofs].any()) for x in (floss, m.dof_damping))
    extras = bool(m.dof_armature[free_dofs].any()) or free_loss or free_damped
    extras = extras or (bool(free) and bool({"dof_armature", "dof_damping"} & varied))
    # Euler counts positive damping alone, as MuJoCo's does; if there is any, all counts.
    slowed = m.dof_damping != 0 if implicit_fast else m.dof_damping > 0
    damped = any(slowed[s.dofs[k]] for k in hinges) or bool(slowed[free_dofs].any())
    damped = damped or "dof_damping" in varied
    affine_gains = has_affine_gains(m)
    velocity_gain = bool((m.actuator_biasprm[:, 2] != 0).any()) or "actuator_biasprm" in varied
    velocity_gain |= bool(depends_on_speed(m).any())
    velocity_gain |= affine_gains and "actuator_gainprm" in varied
    euler_damp = is_on(m, mujoco.mjtDisableBit.mjDSBL_EULERDAMP) and damped
    damped = damped or bool(coupled.damped())
    implicit = (damped or velocity_gain) if implicit_fast else euler_damp and not runge_kutta
    alone = [int(implicit_fast and slot.kind == FREE and is_alone(m, slot.body)) for slot in slots]
    levels = not {"geom_quat", "body_quat"} & varied and all(
        np.allclose(_normal(m, g), [0, 0, 1], atol=1e-12) for g in s.planes
    )
    numbers = {
        "NSLOT": lanes.length, "NFREE": len(free), "NBASE": len(posed) - len(free),
        "NMOCAP": m.nmocap, "NQ": m.nq, "NV": m.nv,
        "NU": m.nu, "NA": m.na,
        "NBODY": m.nbody, "NGEOM": m.ngeom, "NSITE": m.nsite,
        "NSENSORDATA": m.nsensordata,
        "MAXCON": _most_contacts(s, lanes, fixed_touches), "NPOINT": len(s.points),
        "NSTATIC": len(s.obstacles), "NBASIS": max([1, *point_dim]),
        "POWERS": int(any("solimp" in name for name in varied) or has_powers(s)),
        "NGEOM_": len(s.geoms), "NPAIR": len(s.pairs), "MAXPAIR": max(1, pairs),
        "PBASIS": max([1, *pair_dim]), "MAXROW": max(1, rows),
        "ITERATIONS": m.opt.iterations, "LS_ITERATIONS": m.opt.ls_iterations,
        "ELLIPTIC": int(m.opt.cone == mujoco.mjtCone.mjCONE_ELLIPTIC),
        "INVERSE_SQRT_IMPRATIO": f"{max(m.opt.impratio, MINVAL) ** -0.5:.9e}f",
        "LONERS": int(any(alone)),
        "IMPLICIT": int(implicit), "IMPLICIT_FAST": int(implicit_fast), "PLANES_LEVEL": int(levels),
        "RUNGE_KUTTA": int(runge_kutta),
        "NPLACE_BODY": len(bodies), "NPLACE_GEOM": len(placed_geoms),
        "NPLACE_SITE": len(placed_sites), **sensors.numbers(),
        "FREE": FREE, "SLIDE": SLIDE, "HINGE": HINGE, "BALL": BALL, "BASE": BASE,
        "NBALL": len(balls),
        "BALL_SPRINGS": int(
            any(m.jnt_stiffness[joints[k]] for k in balls) or "jnt_stiffness" in varied
        ),
        "FREE_EXTRAS": int(extras), "FREE_FRICTION": int(free_loss and extras),
        "FLUID": int(has_fluid(m)),
        "GRAVCOMP": int(m.ngravcomp > 0 and not m.opt.disableflags & _NO_GRAVITY),
        **{"_".join(kind): i for i, kind in enumerate(KINDS)},
        "MAXTOUCH": max([1, *touches, *fixed_touches]), "HAS_SOLIDS": int(bool(solids(s))),
        "NSOLID": len(solids(s)),
        "HAS_SOLID_PAIRS": int(any(kind in SOLID for kind in kinds + fixed_kinds)),
        "HAS_HFIELDS": int(bool(fields)),
        "HAS_BOX_FIELDS": int(any(g in s.box_fields for g in s.geoms)),
        "HAS_CONVEX_ON_BOXES": int(on_boxes),
        **hull_numbers, "HAS_CONVEX": int(convex), "HAS_LOWEST": int(lowest),
        "HAS_PRISMS": int(prisms), "HAS_GROUND_SOLIDS": int(cornered),
        "MULTICCD": is_on(m, mujoco.mjtDisableBit.mjDSBL_MULTICCD),
        "HAS_CYLINDERS": int(("PLANE", "CYLINDER") in fixed_kinds),
        "FIXED_FORCES": int(len(posed) > len(free) or sensors.of_fixed_contacts),
        "NTREE": len(trees), "ACROSS_TREES": int(any(
            root[s.slot_of_geom(a)] != root[s.slot_of_geom(b)] for a, b, _ in s.pairs)
            or any(len(coupled.trees(row)) > 1 for row in coupled.rows)),
        "AFFINE_GAINS": int(affine_gains),
        **coupled.numbers(), "NJOINT_ACTUATOR": sum(len(a) for a in acts),
        "NTHRUSTER": len(thrusting[0]), "FIRST_THRUSTER": sum(len(a) for a in acts + pulling),
    }  # fmt: skip
    by_slot, tree = range(len(slots)), m.body_rootid[m.geom_bodyid]
    carried = [[n for n, b in enumerate(bodies) if s.slot_of_body(b) == k] for k in by_slot]
    is_last = [s.last[slot.body] == k for k, slot in enumerate(slots)]
    arrays: dict[str, Sequence[int]] = {
        "KIND": [slot.kind for slot in slots],
        "BODY": [int(x) for x in is_last],
        "LAST": [int(x) for x in is_last],
        "BODY_ID": [slot.body for slot in slots],
        "ALONE": alone,
        "POSE_OF": [posed.index(k) if k in posed else -1 for k in by_slot],
        "MOCAP": [int(m.body_mocapid[slot.body]) for slot in slots],
        "GROUP": [groups.index(int(m.body_rootid[slot.body])) for slot in slots],
        "HAS_MASS": [int(x > MINVAL) for x in m.body_subtreemass],
        "TREE": [trees.index(r) for r in root],
        "TREE0": [0, lanes.length] if lanes.count > 1 else starts([root.count(r) for r in trees]),
        "TREE_POSE": [posed.index(r) if r in posed else -1 for r in root],
        "QPOS": [int(m.jnt_qposadr[j]) if j >= 0 else -1 for j in joints],
        "DOF": s.dofs,
        "BALL_OF": [balls.index(k - slot.axis) if slot.kind == BALL else -1
                    for k, slot in enumerate(slots)],
        "BALL_AXIS": [slot.axis if slot.kind == BALL else -1 for slot in slots],
        "LIMITED": [int(limited[x.joint]) if x.kind not in (BALL, BASE) else 0 for x in slots],
        "FRICTION": [int(floss[dof]) if k in hinges else 0 for k, dof in enumerate(s.dofs)],
        "FORCE_LIMITED": [int(j >= 0 and m.jnt_actfrclimited[j]) for j in joints],
        "ACTUATED": [len(a) for a in acts],
        "ACTUATOR0": starts([len(a) for a in acts]),
        "BODIES0": starts([len(some) for some in carried]),
        "SLOT_BODY": [n for some in carried for n in some],
        "ACTUATOR": [i for a in acts + pulling + thrusting for i in a],
        "ACT": [int(m.actuator_actadr[i]) for a in acts + pulling + thrusting for i in a],
        "ACT_EARLY": [int(m.actuator_actearly[i]) for a in acts + pulling + thrusting for i in a],
        **({"THRUST_SLOT": [s.slot_of_body(int(m.site_bodyid[i])) for i in thrust.sites(m)]}
           if thrust.thrusters(m) else {}),
        "TENDON_ACTUATOR0": starts([len(a) for a in pulling]),
        **coupled.arrays(),
        "POINT0": starts([sum(p.slot == k for p in s.points) for k in by_slot]),
        "POINT_PLANE": [p.plane for p in s.points],
        "POINT_CORNER": [int(p.corner) for p in s.points],
        "POINT_DIM": point_dim,
        "POINT_BODY": [int(m.geom_bodyid[moving]) for moving, _ in moving_first(s, with_world)],
        "POINT_OTHER_SLOT": [s.slot_of_geom(fixed) for _, fixed in moving_first(s, with_world)],
        "POINT_OTHER": [int(m.geom_bodyid[fixed]) for _, fixed in moving_first(s, with_world)],
        "GEOM_BODY": [int(m.geom_bodyid[g]) for g in s.geoms],
        "GEOM0": starts([sum(s.slot_of_geom(g) == k for g in s.geoms) for k in by_slot]),
        "GEOM_SLOT": [s.slot_of_geom(g) for g in s.geoms],
        "PAIR_GEOM1": [s.geoms.index(pair.a) for pair in s.pairs],
        "PAIR_GEOM2": [s.geoms.index(pair.b) for pair in s.pairs],
        "PAIR_OWN": [int(tree[pair.a] == tree[pair.b]) for pair in s.pairs],
        "STATIC0": starts([sum(s.slot_of_obstacle(p) == k for p in s.obstacles) for k in by_slot]),
        "STATIC_GEOM1": [s.geoms.index(pair.a) for pair in s.obstacles],
        "STATIC_GEOM2": [s.geoms.index(pair.b) for pair in s.obstacles],
        "STATIC_FIXED": [s.geoms.index(fixed) for _, fixed in moving_first(s, s.obstacles)],
        "STATIC_KIND": [KINDS.index(kind) for kind in fixed_kinds],
        "SOLID_OF": [solids(s).index(g) if g in solids(s) else -1 for g in s.geoms],
        **(hull_arrays if convex or lowest or prisms else {}),
        **({"HULL_FACES": hulls.many_faces(s)} if cornered else {}),
        "HFIELD_OF": [fields.index(g) if g in fields else -1 for g in s.geoms],
        "HFIELD_START": starts([n for n, _ in grids(s)])[:-1],
        "HFIELD_ROWS": [int(m.hfield_nrow[m.geom_dataid[g]]) for g in fields],
        "HFIELD_COLS": [cols for _, cols in grids(s)],
        **boxfields.constants(s),
        "PAIR_KIND": [KINDS.index(kind) for kind in kinds],
        "PAIR_DIM": pair_dim,
        "PARENT_BODY": m.body_parentid.tolist(),
        "PLACE_BODY_SLOT": [s.slot_of_body(b) for b in bodies],
        "PLACE_BODY_ID": bodies,
        "PLACE_GEOM_SLOT": [s.slot_of_geom(g) for g in placed_geoms],
        "PLACE_GEOM_ID": placed_geoms,
        "PLACE_SITE_SLOT": [s.slot_of_body(int(m.site_bodyid[g])) for g in placed_sites],
        "PLACE_SITE_ID": placed_sites,
        **sensors.arrays(bodies),
    }  # fmt: skip
    lines = [f"#define {name} {value}" for name, value in numbers.items()]
    lines += declared(s, lanes, arrays, sensors, BY_SLOT.__contains__)
    start = {False: 0, True: 0}
    for name, (height, width) in shapes.items():
        differs, own = name in wide, lanes.count > 1 and name in SLOT_TABLES
        columns = width // lanes.count if own else width
        at = f"({start[differs]} + ((r) * {columns} + (c))"
        at += " * LANES + LANE)" if own else ")"
        if lanes.count > 1 and name in BY_COLUMN:
            at = f"({start[differs]} + (c) * {width} + (r))"
        lines.append(f"#define AT_{name}(r, c) {at}\n#define VARIES_{name} {int(differs)}")
        start[differs] += height * width
    lines.append(f"#define NUMBERS {start[False]}\n#define VARIED_ROWS {start[True]}L")
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


def is_alone(m: mujoco.MjModel, body: int) -> bool:
    """Whether a body with a free joint has no others, and nothing with mass hangs from it."""
    tree = m.dof_treeid[m.jnt_dofadr[m.body_jntadr[body]]]
    return bool(m.tree_dofnum[tree] == 6 and m.body_subtreemass[body] == m.body_mass[body])


def moving_first(s: Structure, pairs: Sequence[Pair]) -> list[tuple[int, int]]:
    """The geoms of pairs of which one has no joints."""
    return [(p.a, p.b) if s.moves(p.a) else (p.b, p.a) for p in pairs]


def _constrains(m: mujoco.MjModel, flag: mujoco.mjtDisableBit) -> int:
    return is_on(m, flag) * is_on(m, mujoco.mjtDisableBit.mjDSBL_CONSTRAINT)


def _normal(m: mujoco.MjModel, plane: int) -> np.ndarray:
    data = mujoco.MjData(m)
    mujoco.mj_kinematics(m, data)
    normal: np.ndarray = data.geom_xmat[plane].reshape(3, 3)[:, 2]
    return normal
