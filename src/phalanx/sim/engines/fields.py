"""Which `MjData` fields an engine provides, when each is computed, and why others are refused.

    reason = refusal("qH", "mujoco", model)   # a sentence, or None if the engine shows the field

A field that is not listed here is refused, so that a new field in MuJoCo cannot have wrong values.
"""

import mujoco

from phalanx.errors import did_you_mean

STATE_FIELDS = (
    "time", "qpos", "qvel", "act", "history", "plastic", "qacc_warmstart", "mocap_pos",
    "mocap_quat", "eq_active", "userdata", "plugin_state",
)  # fmt: skip
INPUT_FIELDS = ("ctrl", "qfrc_applied", "xfrc_applied")
# Functions of the state, which follow from kinematics and body velocities alone ...
KINEMATIC_FIELDS = frozenset({
    "xpos", "xquat", "xmat", "xipos", "xiquat", "ximat", "xanchor", "xaxis",
    "geom_xpos", "geom_xquat", "geom_xmat", "site_xpos", "site_xquat", "site_xmat",
    "cam_xpos", "cam_xmat", "light_xpos", "light_xdir", "subtree_com", "cdof", "cinert",
    "flexvert_xpos", "flexedge_J", "flexedge_length", "flexedge_velocity",
    "ten_J", "ten_length", "ten_wrapadr", "ten_wrapnum", "wrap_obj", "wrap_xpos",
    "cvel", "cdof_dot", "sensordata",
})  # fmt: skip
# ... and those that need more of the position and velocity stages.
STAGE_FIELDS = frozenset({
    "actuator_length", "actuator_moment", "actuator_velocity", "moment_rownnz", "moment_rowadr",
    "moment_colind", "ten_velocity", "crb", "M", "qLD", "qLDiagInv", "flexelem_aabb",
    "ncon", "ne", "nf", "nl", "nefc", "qfrc_bias", "qfrc_passive", "qfrc_spring", "qfrc_damper",
    "qfrc_gravcomp", "qfrc_fluid", "qfrc_adhesion",
})  # fmt: skip
# Forces and accelerations are those of the last substep: they do not follow from the state alone.
ACCELERATION_FIELDS = frozenset({
    "act_dot", "actuator_force", "qacc", "qacc_smooth", "qfrc_actuator", "qfrc_smooth",
    "qfrc_constraint", "solver_niter", "solver_nnz",
})  # fmt: skip
# MuJoCo skips these in a step unless a sensor needs them.
BODY_FORCE_FIELDS = frozenset({"cacc", "cfrc_int", "cfrc_ext"})
SUBTREE_FIELDS = frozenset({"subtree_linvel", "subtree_angmom"})
LEFT_OUT_FIELDS = BODY_FORCE_FIELDS | SUBTREE_FIELDS | {"energy"}

DERIVED_FIELDS = KINEMATIC_FIELDS | STAGE_FIELDS | ACCELERATION_FIELDS | LEFT_OUT_FIELDS

_IN_FUSED = frozenset({
    "xpos", "xquat", "xmat", "xipos", "ximat", "geom_xpos", "geom_xmat", "site_xpos", "site_xmat",
    "cvel", "cdof", "subtree_com", "qacc", "actuator_force", "qfrc_actuator", "qfrc_constraint",
    "cfrc_ext", "cfrc_int", "sensordata", "M",
})  # fmt: skip
_ARENA = ("contact", "efc_", "iefc_", "efm_", "island_", "map_", "iacc", "ifrc_", "tendon_efcadr")
_NOT_IN_WARP = {
    "xiquat": "ximat", "geom_xquat": "geom_xmat", "site_xquat": "site_xmat", "ncon": "nefc",
    "qLD": "M", "qLDiagInv": "M", "plugin_state": "", "flexelem_aabb": "flexvert_xpos",
    "solver_niter": "", "solver_nnz": "",
}  # fmt: skip


def left_by_step(name: str, model: mujoco.MjModel) -> bool:
    """Whether a step computes derived field `name` anyway, for its last substep. All others need a
    pass over the new state after every step, which takes a third of the step's time."""
    acc = model.sensor_needstage == mujoco.mjtStage.mjSTAGE_ACC
    forces = ACCELERATION_FIELDS | BODY_FORCE_FIELDS
    return name in forces or (name == "sensordata" and bool(acc.all()))


def refusal(name: str, engine: str, model: mujoco.MjModel) -> str | None:
    """Why `engine` does not provide MjData field `name`, in one sentence; None if it does."""
    if not hasattr(mujoco.MjData, name) or callable(getattr(mujoco.MjData, name)):
        hint = did_you_mean(name, (*STATE_FIELDS, *INPUT_FIELDS, *sorted(DERIVED_FIELDS)))
        return f"Sim has no field {name!r} on the {engine} engine{hint}"
    no = f"Sim does not show {name!r} on the {engine} engine: "
    if name in LEFT_OUT_FIELDS and model.opt.disableflags & mujoco.mjtDisableBit.mjDSBL_SENSOR:
        return f"{no}MuJoCo computes it with the sensors, which the scene's option flags disable"
    if engine == "plain" and name in LEFT_OUT_FIELDS:
        return f"{no}mj_step does not compute it; use engine=mujoco"
    if engine == "warp" and name in _NOT_IN_WARP:
        instead = f"; read {_NOT_IN_WARP[name]}" if _NOT_IN_WARP[name] else ""
        return f"{no}MuJoCo Warp lacks it or stores it in another layout{instead}"
    if engine == "fused" and name in DERIVED_FIELDS and name not in _IN_FUSED:
        return f"{no}its step does not compute it; use another engine"
    if name in DERIVED_FIELDS or name in STATE_FIELDS or name in INPUT_FIELDS:
        return None
    if name.startswith(_ARENA):
        return f"{no}its size changes from step to step; contact forces are sensors of the scene"
    if name in ("qfrc_inverse", "solver_fwdinv"):
        return f"{no}inverse dynamics is not part of a step; call mujoco.mj_inverse"
    return f"{no}it is working memory or bookkeeping of one MjData, which steps do not keep current"
