"""The state in which environments begin, the same for every engine.

It is the model's: qpos0 and zeros. A model whose keyframe INITIAL was made by `Scene` begins there.
"""

import mujoco

INITIAL = "initial"
KEYFRAME_FIELDS = ("time", "qpos", "qvel", "act", "ctrl", "mocap_pos", "mocap_quat")


def reset_data(model: mujoco.MjModel, data: mujoco.MjData) -> None:
    """Put `data` into the initial state, with inputs that are zero or the keyframe's."""
    key = mujoco.mj_name2id(model, mujoco.mjtObj.mjOBJ_KEY, INITIAL)
    if key < 0:
        mujoco.mj_resetData(model, data)
    else:
        mujoco.mj_resetDataKeyframe(model, data, key)


def initial_data(model: mujoco.MjModel) -> mujoco.MjData:
    """A new MjData in the initial state."""
    data = mujoco.MjData(model)
    reset_data(model, data)
    return data
