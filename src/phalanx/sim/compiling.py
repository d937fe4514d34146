"""Compiles a spec without letting MuJoCo's warnings show lines of our source."""

import warnings

import mujoco

MUJOCO_WARNS = "MuJoCo warns"


def compile_spec(spec: mujoco.MjSpec) -> tuple[mujoco.MjModel, list[str]]:
    """The model, and what MuJoCo warned about, one line each. Raises its ValueError."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        model = spec.compile()
    texts = [" ".join(str(warning.message).split()) for warning in caught]
    return model, list(dict.fromkeys(texts))
