"""PhysX's implicit PD drive as a MuJoCo actuator and armature for each degree of freedom.

    force = kp (target - q') + kd (target velocity - v') + effort

with q' and v' at the end of the step. Inserting q' = q + h v' and v' = v + h a gives

    kp (target - q) + kd target velocity + effort - (kd + h kp) v - (h kd + h^2 kp) a

The factor of a is added to the joint's inertia; the rest is the force of the actuator. Contacts and
drives are then solved for the same acceleration, whatever the gains. `drives.py` deals with drives
at their force limit.
"""

import mujoco
import numpy as np

from isaacgym.actor_properties import dof_properties, dry_friction
from isaacgym.enums import DofDriveMode
from isaacgym.layout import Layout
from isaacgym.values import FLT_MAX
from isaacgym.world import World

UNLIMITED = 1e30  # [N or N m] limit of a drive that has none


def implicit_inertia(props: np.ndarray, h: float) -> np.ndarray:
    """Inertia [kg m^2 or kg] that drives with DOF_PROPERTIES `props` add to their joints, in
    substeps of h [s]."""
    return h * props["damping"].astype(float) + h * h * props["stiffness"].astype(float)


def drive_limits(props: np.ndarray) -> np.ndarray:
    """Largest force of each drive [N or N m]; a commanded effort is not limited."""
    driven = np.isin(props["driveMode"], (DofDriveMode.DOF_MODE_POS, DofDriveMode.DOF_MODE_VEL))
    finite = driven & (props["effort"] > 0) & (props["effort"] < 0.5 * FLT_MAX)
    return np.where(finite, props["effort"], UNLIMITED)


def drive_fields(world: World, layout: Layout, model: mujoco.MjModel) -> dict[str, np.ndarray]:
    """MjModel fields of drives and joints by name, (N or 1, ...) each."""
    h = world.timestep
    props, dry = dof_properties(world), dry_friction(world)
    n, v = len(props), layout.dof_v
    kp, kd = props["stiffness"].astype(float), props["damping"].astype(float)
    zeros = np.zeros((n, layout.nv))
    armature = zeros.copy()
    armature[:, v] = props["armature"] + implicit_inertia(props, h)
    friction = np.zeros((len(dry), layout.nv))
    friction[:, v] = dry
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
