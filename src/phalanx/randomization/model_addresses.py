"""Finds the fields and ids of MuJoCo's model that hold a quantity, by names of bodies and
joints."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import mujoco

from phalanx.errors import PhalanxError, did_you_mean
from phalanx.sim.sim import Actor


@dataclass(frozen=True)
class Address:
    """The place of a quantity in the model: `field[:, ids]`, or one component of it."""

    field: str
    ids: list[int]
    component: int | None = None
    factor: tuple[float, ...] = ()
    """Factor from field to quantity, for each id; empty means 1."""
    columns: tuple[int, ...] = ()
    """The element of the quantity for each id; empty means all, in order."""


def bodies_of(actor: Actor, names: Sequence[str], where: str) -> list[int]:
    """Ids of the actor's bodies, or of those named. Raises PhalanxError for an unknown one."""
    for name in names:
        if name not in actor.body_names:
            raise PhalanxError(
                f"{where}.bodies: no body {name!r} in actor {actor.name!r}"
                f"{did_you_mean(name, actor.body_names)}; it has: {', '.join(actor.body_names)}"
            )
    pairs = zip(actor.body_ids, actor.body_names, strict=True)
    return [i for i, name in pairs if not names or name in names]


def shapes_of(actor: Actor, names: Sequence[str], where: str) -> list[int]:
    """Ids of the colliding geoms of the actor's bodies. Raises PhalanxError if there are none."""
    model, bodies = actor.sim.model, bodies_of(actor, names, where)
    collide = (model.geom_contype | model.geom_conaffinity) != 0
    found = [i for i in range(model.ngeom) if model.geom_bodyid[i] in bodies and collide[i]]
    if not found:
        raise PhalanxError(f"{where}: none of these bodies has a colliding shape")
    return found


def joints_of(actor: Actor, names: Sequence[str], where: str) -> list[int]:
    """Ids of the actor's joints, or of those named, without a free joint. Raises PhalanxError for
    an unknown one."""
    model = actor.sim.model
    for name in names:
        if name not in actor.joint_names:
            raise PhalanxError(
                f"{where}.joints: no joint {name!r} in actor {actor.name!r}"
                f"{did_you_mean(name, actor.joint_names)}; it has: {', '.join(actor.joint_names)}"
            )
    own = [f"{actor.name}/{name}" for name in names or actor.joint_names]
    if not own:
        raise PhalanxError(f"{where}: actor {actor.name!r} has no joints")
    return [i for i in range(model.njnt) if model.jnt(i).name in own]


def joint_addresses(model: Any, joints: list[int], name: str, where: str) -> list[Address]:
    """Addresses of a property of joints. Gains are those of MuJoCo's servos if the joints have
    servos, otherwise the joints' own spring and damper. The effort limit is the force range of the
    actuators, otherwise that of the joints, or a motor's effort at its largest control if that is
    smaller."""
    dofs = [
        int(model.jnt_dofadr[j]) + k
        for j in joints
        for k in range(3 if model.jnt_type[j] == mujoco.mjtJoint.mjJNT_BALL else 1)
    ]
    driven = [
        a
        for a in range(model.nu)
        if model.actuator_trntype[a] == mujoco.mjtTrn.mjTRN_JOINT
        and model.actuator_trnid[a, 0] in joints
    ]
    if name in ("lower", "upper"):
        limited = [j for j in joints if model.jnt_limited[j]]
        if not limited:
            raise PhalanxError(f"{where}: these joints have no limits")
        return [Address("jnt_range", limited, int(name == "upper"))]
    if name in ("friction", "armature"):
        return [Address("dof_frictionloss" if name == "friction" else "dof_armature", dofs)]
    if name == "velocity":
        raise PhalanxError(
            f"{where} cannot be randomised: only actuator models (task.actuators) have a velocity"
            " limit, MuJoCo's joints do not"
        )
    if name == "effort":
        return [_effort(model, joints, driven, where)]
    component = 1 if name == "stiffness" else 2
    bias, gain = model.actuator_biasprm, model.actuator_gainprm
    servos = [a for a in driven if _is_servo(model, a) and bias[a, component] != 0]
    if not servos:
        return [
            Address("jnt_stiffness", joints) if component == 1 else Address("dof_damping", dofs)
        ]
    addresses = [Address("actuator_biasprm", servos, component, (-1.0,) * len(servos))]
    # A position servo multiplies its command by its stiffness; a velocity servo, which has no
    # stiffness, by its damping. Other gains keep their ratio, and so the meaning of a command.
    leads = [
        k for k, a in enumerate(servos) if gain[a, 0] != 0 and (component == 1 or bias[a, 1] == 0)
    ]
    if leads:
        commanded = [servos[k] for k in leads]
        ratios = tuple(float(-bias[a, component] / gain[a, 0]) for a in commanded)
        addresses.append(Address("actuator_gainprm", commanded, 0, ratios, tuple(leads)))
    return addresses


def _is_servo(model: Any, actuator: int) -> bool:
    """Whether an actuator's force is gain * control + bias, with a bias linear in position and
    velocity; muscles and others store other numbers in the same fields."""
    fixed = model.actuator_gaintype[actuator] == mujoco.mjtGain.mjGAIN_FIXED
    affine = model.actuator_biastype[actuator] == mujoco.mjtBias.mjBIAS_AFFINE
    return bool(fixed and affine)


def _effort(model: Any, joints: list[int], driven: list[int], where: str) -> Address:
    limited = [a for a in driven if model.actuator_forcelimited[a]]
    if limited:
        return Address("actuator_forcerange", limited)
    held = [j for j in joints if model.jnt_actfrclimited[j]]
    motors = [
        a
        for a in driven
        if model.actuator_ctrllimited[a]
        and model.actuator_biastype[a] == mujoco.mjtBias.mjBIAS_NONE
    ]
    most = {
        a: float(abs(model.actuator_gainprm[a, 0]) * abs(model.actuator_ctrlrange[a]).max())
        for a in motors
    }
    # A motor that cannot reach its joint's limit determines the effort limit.
    weak = all(
        abs(model.actuator_gear[a, 0]) * m <= model.jnt_actfrcrange[model.actuator_trnid[a, 0], 1]
        for a, m in most.items()
        if model.actuator_trnid[a, 0] in held
    )
    if held and not (motors and weak):
        return Address("jnt_actfrcrange", held)
    if not motors:
        raise PhalanxError(f"{where}: these joints have no effort limit")
    # A gear may be negative, but the effort never is.
    signed = tuple(-m if model.actuator_gear[a, 0] < 0 else m for a, m in most.items())
    return Address("actuator_gear", motors, 0, signed)
