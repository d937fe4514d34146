"""The numbers of a model in the form that the fused step reads, made from model fields by torch.

    numbers = Numbers(structure, device)
    numbers.make(field)                    # {"inertia": (E, rows, columns), ...}, float64
    numbers.make(field, ["armature"])      # some of them

`field` gives MuJoCo's model fields, float64, with a leading dimension E: 1, or N where
environments differ. A table is as wide as the fields that it is made from. Shapes are fixed and
nothing waits for the device, so tables can be made inside of a CUDA graph.
"""

from collections.abc import Iterable

import mujoco
import numpy as np
import torch
from torch import Tensor

from phalanx.sim.engines.fused import boxfields, contact_numbers, fluid, hulls, thrust
from phalanx.sim.engines.fused.gains import has_affine_gains
from phalanx.sim.engines.fused.masses import SIX, static_masses
from phalanx.sim.engines.fused.places import Places
from phalanx.sim.engines.fused.placing import (
    Device,
    Fields,
    Make,
    columns,
    held,
    joined,
    matrices,
    sources,
    turned,
)
from phalanx.sim.engines.fused.rows import Rows
from phalanx.sim.engines.fused.sensors import Sensors, actuators_of
from phalanx.sim.engines.fused.solref import MINVAL, reference
from phalanx.sim.engines.fused.structure import BASE, FREE, Structure

NONE = 1e30
"""A range that never ends."""


class Numbers:
    """The tables of one structure on `device`."""

    def __init__(self, s: Structure, device: torch.device) -> None:
        on = Device(device)
        self.places = Places(s, on)
        self._made: dict[str, Make] = {
            **held(on, _options(s)), **_slots(self.places), **held(on, _surfaces(s)),
            **_bodies(self.places), **_joints(s, on), **_actuators(s, on),
            **contact_numbers.tables(self.places), **Rows(s).tables(self.places),
            **Sensors(s).tables(self.places), **fluid.tables(self.places, placed_bodies(s)),
            **thrust.tables(self.places),
        }  # fmt: skip

    @property
    def names(self) -> list[str]:
        """All tables, in the order of the step's memory."""
        return list(self._made)

    def make(self, field: Fields, names: Iterable[str] | None = None) -> dict[str, Tensor]:
        """Tables, all or those of `names`, (E, rows, columns) each."""
        wanted = self.names if names is None else names
        return {name: self._made[name](field) for name in wanted}

    def sources(self, field: Fields) -> dict[str, set[str]]:
        """The model fields that each table is made from."""
        return {name: sources(make, field) for name, make in self._made.items()}


def model_fields(model: mujoco.MjModel, device: torch.device) -> Fields:
    """The fields of one model, E = 1."""
    held: dict[str, Tensor] = {}

    def field(name: str) -> Tensor:
        if name not in held:
            owner = model.opt if name.startswith("opt.") else model
            value = np.asarray(getattr(owner, name.removeprefix("opt.")), float)[None]
            held[name] = torch.from_numpy(value.copy()).to(device)
        return held[name]

    return field


def is_on(m: mujoco.MjModel, flag: mujoco.mjtDisableBit) -> int:
    """Whether `flag` does not disable something, 0 or 1."""
    return int(not m.opt.disableflags & flag)


def actuators_by_slot(s: Structure) -> list[list[int]]:
    """Actuators of every slot's joint."""
    return [actuators_of(s.model, slot.joint) for slot in s.slots]


def actuators_by_tendon(m: mujoco.MjModel) -> list[list[int]]:
    """Actuators of every tendon."""
    pulls = m.actuator_trntype == mujoco.mjtTrn.mjTRN_TENDON
    return [
        np.flatnonzero(pulls & (m.actuator_trnid[:, 0] == t)).tolist() for t in range(m.ntendon)
    ]


def placed_bodies(s: Structure) -> list[int]:
    """Bodies that slots carry."""
    return [b for b in range(1, s.model.nbody) if s.slot_of_body(b) >= 0]


def _options(s: Structure) -> dict[str, np.ndarray]:
    m = s.model
    scale = [1 / (m.stat.meaninertia * max(1, m.nv)), m.opt.tolerance]
    return {"timestep": np.array([[m.opt.timestep]]), "scale": np.array([scale])}


def _surfaces(s: Structure) -> dict[str, np.ndarray]:
    """Hulls, height fields and box fields."""
    m = s.model
    ids = [int(m.geom_dataid[g]) for g in contact_numbers.hfields(s)]
    heights = [m.hfield_data[m.hfield_adr[i] :][: m.hfield_nrow[i] * m.hfield_ncol[i]]
               * m.hfield_size[i, 2] for i in ids]  # fmt: skip
    grids = {"hfield": m.hfield_size[ids], "height": np.concatenate([*heights, np.zeros(0)])}
    arrays = hulls.tables(s) | grids | boxfields.tables(s)
    return {n: a.reshape(len(a), -1 if len(a) else 1) for n, a in arrays.items()}


def _slots(places: Places) -> dict[str, Make]:
    s, on = places.structure, places.on
    m, slots = s.model, s.slots
    at = on.index([int(m.jnt_qposadr[slot.joint]) for slot in slots])
    balls = on.index([int(m.jnt_qposadr[slots[k].joint]) + i for k in s.balls for i in range(4)])
    bodies, groups, mass = on.index(placed_bodies(s)), s.groups, static_masses(places)
    # What a tree without a free joint or base is computed about: where its root is
    roots = [s.root_of(k) for k in range(len(slots))]
    root, posed = on.index(roots), on([slots[k].kind in (FREE, BASE) for k in roots])[:, None] > 0
    is_root = on([k == root for k, root in enumerate(roots)])[:, None] > 0
    of_group = on(np.array([m.body_rootid == g for g in groups]).reshape(-1, m.nbody))

    def body(field: Fields) -> Tensor:
        there = places(field)
        return joined(there.pos[:, bodies], there.turn[:, bodies].flatten(-2))

    return {
        "rotation": lambda field: places(field).slot_turn.flatten(-2),
        "offset": lambda field: torch.where(is_root, 0.0, places(field).slot_pos),
        "origin": lambda field: torch.where(posed, 0.0, places(field).slot_pos[:, root]),
        "quat": lambda field: places(field).slot_quat,
        "qpos0": lambda field: field("qpos0")[:, at, None],
        "ball": lambda field: field("qpos_spring")[:, balls].unflatten(1, (len(s.balls), 4)),
        "body": body,
        "body_quat": lambda field: places(field).quat[:, bodies],
        "static_mass": mass,
        "group": lambda field: of_group @ mass(field),
    }


def _bodies(places: Places) -> dict[str, Make]:
    s, on = places.structure, places.on
    bodies = placed_bodies(s)
    at, slots, of_bodies = on.index(bodies), [s.slot_of_body(b) for b in bodies], places.of(bodies)
    together = np.zeros((len(s.slots), len(bodies)))  # no index_add: a GPU adds in any order
    together[slots, range(len(bodies))] = 1
    gather, slot_of, eye, (row, column) = on(together), on.index(slots), on(np.eye(3)), (
        on.index(SIX[0]), on.index(SIX[1]))  # fmt: skip

    def centres(field: Fields) -> Tensor:  # (E, B, 3)
        origin, turn = of_bodies(field)
        return origin + turned(turn, field("body_ipos")[:, at])

    def axes(field: Fields) -> Tensor:  # (E, B, 3, 3)
        return of_bodies(field)[1] @ matrices(field("body_iquat")[:, at])

    def inertia(field: Fields) -> Tensor:
        """(E, slots, 10) of a body with what is welded to it, in its last slot's frame: inertia
        about the centre of mass, the centre, the mass; zero for other slots."""
        mass, centre, own = field("body_mass")[:, at], centres(field), axes(field)
        total = (gather @ mass[..., None])[..., 0]
        com = gather @ (mass[..., None] * centre) / total.clamp_min(MINVAL)[..., None]
        arm = centre - com[:, slot_of]
        square = (arm * arm).sum(-1)[..., None, None] * eye
        tensor = (own * field("body_inertia")[:, at, None]) @ own.transpose(-1, -2)
        spread = square - arm[..., None] * arm[..., None, :]
        tensor = tensor + mass[..., None, None] * spread
        sums = (gather @ tensor.flatten(-2)).unflatten(-1, (3, 3))
        return joined(sums[..., row, column], com, total[..., None])

    def gravcomp(field: Fields) -> Tensor:
        return (field("body_mass") * field("body_gravcomp"))[:, at, None]

    falls = is_on(s.model, mujoco.mjtDisableBit.mjDSBL_GRAVITY)
    return {
        "gravity": lambda field: field("opt.gravity")[:, None] * falls,
        "inertia": inertia,
        "inertial": lambda field: joined(centres(field), axes(field).flatten(-2)),
        "body_mass": lambda field: field("body_mass")[:, at, None],
        "gravcomp": gravcomp,
        "body_inertia": lambda field: field("body_inertia")[:, at],
    }


def _joints(s: Structure, on: Device) -> dict[str, Make]:
    m, flags = s.model, mujoco.mjtDisableBit
    dofs, joints = on.index(s.dofs), on.index([slot.joint for slot in s.slots])
    places = on.index([int(m.jnt_qposadr[slot.joint]) for slot in s.slots])
    free = [int(m.jnt_dofadr[x.joint]) + i for x in s.slots if x.kind == FREE for i in range(6)]
    of_free = on.index(free)
    damper, spring = is_on(m, flags.mjDSBL_DAMPER), is_on(m, flags.mjDSBL_SPRING)
    ids = [slot.joint for slot in s.slots]
    limited, force_limited = (on(x[ids]) > 0 for x in (m.jnt_limited, m.jnt_actfrclimited))

    def friction(field: Fields, at: Tensor) -> Tensor:
        """Loss, 1 / R, damping of the reference."""
        _, damping, dmin, *_ = reference(m, field("dof_solref")[:, at], field("dof_solimp")[:, at])
        weight = field("dof_invweight0")[:, at].clamp_min(MINVAL)
        return columns(field("dof_frictionloss")[:, at], dmin / ((1 - dmin) * weight), damping)

    def free_joint(field: Fields) -> Tensor:
        """(E, joints, 30) of the six degrees of freedom: armature, damping, then `friction`."""
        armature, damping = field("dof_armature")[:, of_free], field("dof_damping")[:, of_free]
        parts = joined(armature[..., None], damper * damping[..., None], friction(field, of_free))
        six = parts.unflatten(1, (len(free) // 6, 6)).transpose(-1, -2)
        return six.flatten(-2)

    def limit(field: Fields) -> Tensor:
        """Low, high, margin, `reference`, invweight, power."""
        solref, solimp = field("jnt_solref")[:, joints], field("jnt_solimp")[:, joints]
        span, margin = field("jnt_range")[:, joints], field("jnt_margin")[:, joints]
        weight, power = field("dof_invweight0")[:, dofs], solimp[..., 4].clamp_min(1)
        numbers = reference(m, solref, solimp)
        return columns(*ranged(span, limited), margin, *numbers, weight, power)

    def springs(field: Fields) -> Tensor:
        stiffness = field("jnt_stiffness")[:, joints] * spring
        return columns(stiffness, field("qpos_spring")[:, places])

    return {
        "armature": lambda field: field("dof_armature")[:, dofs, None],
        "damping": lambda field: field("dof_damping")[:, dofs, None] * damper,
        "spring": springs,
        "free_joint": free_joint,
        "limit": limit,
        "friction": lambda field: friction(field, dofs),
        "force_range": lambda field: columns(
            *ranged(field("jnt_actfrcrange")[:, joints], force_limited)
        ),
    }


def ranged(values: Tensor, on: Tensor) -> list[Tensor]:
    """Low and high ends, (E, n) each, of ranges (E, n, 2) that are `on`, else far away."""
    ends = zip((-NONE, NONE), values.unbind(-1), strict=True)
    return [torch.where(on, own, end) for end, own in ends]


def _actuators(s: Structure, on: Device) -> dict[str, Make]:
    m, flags = s.model, mujoco.mjtDisableBit
    groups = (*actuators_by_slot(s), *actuators_by_tendon(m), thrust.thrusters(m))
    ids = [i for some in groups for i in some]
    at, works = on.index(ids), is_on(m, flags.mjDSBL_ACTUATION)
    clamped = on(m.actuator_ctrllimited[ids] * is_on(m, flags.mjDSBL_CLAMPCTRL)) > 0
    limited = on(m.actuator_forcelimited[ids]) > 0
    affine = on(works * (m.actuator_biastype[ids] == mujoco.mjtBias.mjBIAS_AFFINE))
    sloping = on(m.actuator_gaintype[ids] == mujoco.mjtGain.mjGAIN_AFFINE)
    slopes = has_affine_gains(m)  # torch.compile follows no look into the model
    none = np.array([-NONE, NONE])
    clipped = works * m.actuator_actlimited[ids, None]
    act = on(np.where(clipped, m.actuator_actrange[ids], none).T)
    grow, decay = on(works * np.array([_activation(m, i) for i in ids]).reshape(-1, 2).T)

    def make(field: Fields) -> Tensor:
        """Gear, gain, bias, of length, of velocity, lowest and highest control, force and
        activation; what a step adds to the activation: this times the control, less that times
        itself; if any gain is affine, the gain's parts of length and of velocity."""
        gain, bias = field("actuator_gainprm")[:, at, :3], field("actuator_biasprm")[:, at, :3]
        gain, *more = (works * gain).unbind(-1)
        return columns(
            field("actuator_gear")[:, at, 0], gain, *(affine[:, None] * bias).unbind(-1),
            *ranged(field("actuator_ctrlrange")[:, at], clamped),
            *ranged(field("actuator_forcerange")[:, at], limited), *act, grow, decay,
            *([sloping * part for part in more] if slopes else []),
        )  # fmt: skip

    return {"actuator": make}


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
