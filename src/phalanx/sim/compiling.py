"""Compiles a spec without letting MuJoCo's warnings show lines of our source."""

import contextlib
import functools
import os
import threading
import warnings
from collections.abc import Iterator

import mujoco
import numpy as np

MOST = 1e30
"""Engines and tensors compute in float32, which ends at 3e38."""
MUJOCO_WARNS = "MuJoCo warns"


def compile_spec(spec: mujoco.MjSpec) -> tuple[mujoco.MjModel, list[str]]:
    """The model, and what MuJoCo warned about, one line each. Raises its ValueError, also where
    MuJoCo knows no reason, as when memory runs out."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            with _silent() if spec.meshes else contextlib.nullcontext():
                model = spec.compile()
        except ValueError as error:
            if "qhull error" not in str(error):
                raise
            flat = "its hull cannot be computed, for it is too flat for its size; correct its scale"
            raise ValueError(str(error).replace("qhull error", flat)) from None
        except RuntimeError as error:
            raise ValueError(f"it fails or does not fit into memory ({error})") from None
    texts = [" ".join(str(warning.message).split()) for warning in caught]
    return model, list(dict.fromkeys(texts))


_lock = threading.Lock()
_silenced: list[tuple[int, int]] = []
_compiling = 0


@contextlib.contextmanager
def _silent() -> Iterator[None]:
    """Without what Qhull writes to the terminal, pages about a mesh that is nearly flat. Several
    threads may be inside."""
    global _compiling
    with _lock:
        _compiling += 1
        if _compiling == 1:
            nothing = os.open(os.devnull, os.O_WRONLY)
            for number in (1, 2):
                with contextlib.suppress(OSError):  # there may be no standard output
                    _silenced.append((number, os.dup(number)))
                    os.dup2(nothing, number)
            os.close(nothing)
    try:
        yield
    finally:
        with _lock:
            _compiling -= 1
            while not _compiling and _silenced:
                number, before = _silenced.pop()
                os.dup2(before, number)
                os.close(before)


def too_large(model: mujoco.MjModel) -> str:
    """The first quantity of a model with a number that is not finite or beyond MOST, as "body_mass
    of 'arm'"; empty if there is none."""
    for field in _float_fields():
        values = getattr(model, field)
        good = np.abs(values) <= MOST  # False for NaN
        if not good.all():
            kind, row = field.partition("_")[0], int(np.argwhere(~good)[0][0])
            if kind == "dof":
                kind, row = "jnt", int(model.dof_jntid[row])
            name = getattr(model, kind)(row).name if kind in _NAMED else ""
            return f"{field} of {name!r}" if name else field
    return ""


@functools.cache
def _float_fields() -> tuple[str, ...]:
    empty = mujoco.MjSpec().compile()
    values = ((name, getattr(empty, name)) for name in dir(empty) if not name.startswith("_"))
    return tuple(n for n, v in values if isinstance(v, np.ndarray) and v.dtype.kind == "f")


_NAMED = ("body", "jnt", "geom", "site", "cam", "light", "tendon", "actuator", "sensor", "mesh")
