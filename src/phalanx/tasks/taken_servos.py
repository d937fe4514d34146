"""Servos of a scene that actuator models take the place of.

    servos = take_servos(scene.spec, config.actuators)      # before the scene is compiled
    actuators = make_actuators(sim, config.actuators, servos)

A servo's joint keeps its control, a target [rad or m; rad/s or m/s], and its limits; MuJoCo's part
of it becomes a motor without a limit on its control, to which the model writes efforts.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import mujoco

LIMITED = mujoco.mjtLimited


@dataclass(frozen=True)
class Servo:
    """What a servo was."""

    command: str
    """Meaning of its control, position or velocity."""
    stiffness: float
    """[N m/rad or N/m]."""
    damping: float
    """[N m s/rad or N s/m]."""
    low: float
    high: float
    """Range of its control, infinite without one."""


def take_servos(spec: mujoco.MjSpec, groups: Mapping[str, Any]) -> dict[int, Servo]:
    """Turn the servos on joints of the groups, settings of actuator models, into motors; returns
    them by the actuator's id. Others stay: those with a gear, a filter or a range that is computed
    when the scene is compiled."""
    taken = {}
    for values in groups.values():
        actor = values.get("actor") if isinstance(values, Mapping) else None
        joints = values.get("joints") if isinstance(values, Mapping) else None
        for k, actuator in enumerate(spec.actuators):
            owner, _, joint = actuator.target.partition("/")
            if owner != actor or (joints and joint not in joints) or not _is_servo(actuator):
                continue
            _, stiffness, damping = (-float(v) for v in actuator.biasprm[:3])
            low, high = map(float, actuator.ctrlrange)
            auto = actuator.ctrllimited == LIMITED.mjLIMITED_AUTO and low < high
            if not auto and actuator.ctrllimited != LIMITED.mjLIMITED_TRUE:
                low, high = -float("inf"), float("inf")
            command = "position" if stiffness else "velocity"
            taken[k] = Servo(command, stiffness, damping, low, high)
            actuator.biastype, actuator.biasprm = mujoco.mjtBias.mjBIAS_NONE, [0.0] * 10
            actuator.ctrllimited = LIMITED.mjLIMITED_FALSE
    return taken


def _is_servo(actuator: Any) -> bool:
    """Whether force = gain control - stiffness position - damping velocity, and no more."""
    gain, stiffness, damping = actuator.gainprm[0], -actuator.biasprm[1], -actuator.biasprm[2]
    return bool(
        actuator.trntype == mujoco.mjtTrn.mjTRN_JOINT
        and actuator.gaintype == mujoco.mjtGain.mjGAIN_FIXED
        and actuator.biastype == mujoco.mjtBias.mjBIAS_AFFINE
        and actuator.dyntype == mujoco.mjtDyn.mjDYN_NONE
        and actuator.gear[0] == 1
        and not actuator.inheritrange
        and actuator.biasprm[0] == 0
        and damping >= 0
        and gain > 0
        and gain in (stiffness, damping)
        and (stiffness == gain or stiffness == 0)
    )
