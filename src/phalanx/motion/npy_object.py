"""Reads the object in a .npy file without executing code.

    content = read_npy_object(Path("amp_humanoid_walk.npy"))

NumPy stores an object as a pickle, and a pickle can execute any program. First, the file's opcodes
are checked: their count and arguments are bounded, because a few bytes can request gigabytes. Then
an unpickler with only four permitted names loads it; arrays are rebuilt from their bytes here, not
by NumPy. Any other name is refused before it is looked up.
"""

import ast
import io
import math
import pickle
import pickletools
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np

from phalanx.errors import PhalanxError
from phalanx.motion.rotation import Array

MAX_OPCODES = 1_000_000
"""Most opcodes of a pickle; the longest clip of IsaacGymEnvs has a few hundred."""
COPYING = ("DUP", "MEMOIZE", "PUT", "BINPUT", "LONG_BINPUT")


def read_npy_object(path: Path) -> Any:
    """The object in a .npy file, made of dictionaries, lists, numbers, strings and arrays of
    numbers. Raises PhalanxError for a file that is not .npy, does not hold one object, is damaged
    or contains anything else."""
    data = path.read_bytes()
    file = io.BytesIO(data)
    shape, dtype = _header(file, path)
    if not dtype.hasobject or math.prod(shape) != 1:
        raise PhalanxError(
            f"{path} is not a motion: it is an array of {dtype} with shape {shape}, and must be the"
            " dictionary of a poselib SkeletonMotion"
        )
    try:
        _check_opcodes(data[file.tell() :])
        return _plain(_ArraysOnly(file).load())
    except _Refused as refused:
        raise PhalanxError(
            f"{path} was not loaded: it contains {refused}, a program that loading would execute;"
            " get the motion from a source you trust"
        ) from refused
    except EOFError as error:
        raise PhalanxError(f"{path} is cut short; copy or download it again") from error
    except Exception as error:  # a damaged pickle may raise anything
        words = " ".join(str(error).split()) or type(error).__name__
        raise PhalanxError(f"{path} is damaged or cut short: {words}") from error


def _header(file: io.BytesIO, path: Path) -> tuple[tuple[int, ...], np.dtype[Any]]:
    """Shape and type of the file's array. Raises PhalanxError for a file that is not .npy."""
    try:
        version = np.lib.format.read_magic(file)
        size = int.from_bytes(file.read(2 if version == (1, 0) else 4), "little")
        header = ast.literal_eval(file.read(size).decode("latin1").strip())
        shape = tuple(header["shape"])
        if not all(type(n) is int and n >= 0 for n in shape):
            raise ValueError("shape")
        return shape, np.dtype(header["descr"])
    except Exception as error:  # literal_eval and dtype raise many kinds of errors
        raise PhalanxError(f"{path} is not a motion: it is not a .npy file") from error


def _check_opcodes(data: bytes) -> None:
    """Raise ValueError for a pickle that could take much more memory or time than its size."""
    for count, (opcode, argument, _) in enumerate(pickletools.genops(data)):
        if count > MAX_OPCODES:
            raise ValueError(f"more than {MAX_OPCODES} parts")
        if opcode.name in COPYING and isinstance(argument, int) and argument > MAX_OPCODES:
            raise ValueError(f"a place {argument} for a part")
        if isinstance(argument, int) and argument.bit_length() > 64:
            raise ValueError("a number of more than 64 bits")


class _Refused(Exception):
    """A pickle references a class or function that motion files never use."""


class _ArraysOnly(pickle.Unpickler):
    """Loads dictionaries, lists, numbers, strings and arrays of numbers; executes nothing."""

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) == ("collections", "OrderedDict"):
            return OrderedDict
        if module in ("numpy.core.multiarray", "numpy._core.multiarray"):
            if name == "_reconstruct":
                return _Array
            if name == "scalar":
                return _scalar
        if (module, name) == ("numpy", "ndarray"):
            return _Array  # an unused argument of _reconstruct
        if (module, name) == ("numpy", "dtype"):
            return _DType
        raise _Refused(f"{module}.{name}")


class _DType:
    """An array's type in a pickle: only plain numbers, booleans and objects."""

    def __init__(self, code: str, *_: object) -> None:
        if code != "O8" and not (code[:1] in "biuf" and code[1:] in ("1", "2", "4", "8")):
            raise ValueError(f"an array of type {code!r}")
        self.code = code
        self.order = "<"

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        self.order = ">" if state[1] == ">" else "<"

    def values(self, data: Any) -> Array:
        if self.code == "O8" and isinstance(data, list):
            items = np.empty(len(data), object)
            items[:] = data
            return items
        if self.code == "O8" or not isinstance(data, bytes):
            raise ValueError(f"the content of an array is of type {type(data).__name__}")
        return np.frombuffer(data, self.order + self.code)


class _Array:
    """An array while it is being loaded."""

    def __init__(self, *_: object) -> None:
        self.value = np.empty(0)

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        _, shape, dtype, column_major, data = state
        self.value = dtype.values(data).reshape(shape, order="F" if column_major else "C")


def _scalar(dtype: _DType, data: bytes) -> Any:
    return dtype.values(data)[0].item()


def _plain(value: Any, depth: int = 0) -> Any:
    """`value` with `_Array` replaced by NumPy arrays. Raises ValueError for deeper nesting than a
    motion needs, since shared parts could expand exponentially."""
    if depth > 5:
        raise ValueError("its parts are nested too deep")
    if isinstance(value, _Array):
        whole = value.value
        return _plain(whole.item(), depth + 1) if whole.dtype == object else whole
    if isinstance(value, dict):
        if len(value) > 30:
            raise ValueError(f"a dictionary of {len(value)} entries")
        return {key: _plain(item, depth + 1) for key, item in value.items()}
    return value
