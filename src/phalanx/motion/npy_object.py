"""Reads the object in a .npy file, which is a pickle, without executing code.

content = read_npy_object(Path("amp_humanoid_walk.npy"))
"""

import ast
import io
import math
from pathlib import Path
from typing import Any

import numpy as np

from phalanx.errors import PhalanxError
from phalanx.gate import read_bytes, reason, show
from phalanx.motion.clip import MAX_FILE
from phalanx.pickles import NUMPY_NAMES, Refused, read_pickle

MAX_HEADER = 10_000


def read_npy_object(path: Path) -> Any:
    """The object in a .npy file, made of dictionaries, lists, numbers, strings and arrays of
    numbers. Raises PhalanxError for a file that is not .npy, does not hold one object, is damaged
    or contains anything else."""
    file = io.BytesIO(read_bytes(path, MAX_FILE))
    shape, dtype = _header(file, path)
    if not dtype.hasobject or math.prod(shape) != 1:
        raise PhalanxError(
            f"{path} is not a motion: it is an array of {str(dtype)[:60]} with shape"
            f" {show(shape)}, and must be the dictionary of a poselib SkeletonMotion"
        )
    try:
        content = read_pickle(file, NUMPY_NAMES)
    except Refused as refused:
        raise PhalanxError(
            f"{path} was not loaded: it contains {refused}, a program that loading would execute;"
            " get the motion from a source you trust"
        ) from refused
    except Exception as error:  # a damaged pickle may raise anything
        raise PhalanxError(f"{path} is damaged or cut short: {reason(error)}") from error
    return content


def _header(file: io.BytesIO, path: Path) -> tuple[tuple[int, ...], np.dtype[Any]]:
    """Shape and type of the file's array. Raises PhalanxError for a file that is not .npy."""
    try:
        version = np.lib.format.read_magic(file)
        size = int.from_bytes(file.read(2 if version == (1, 0) else 4), "little")
        if size > MAX_HEADER:
            raise ValueError("header")
        header = ast.literal_eval(file.read(size).decode("latin1").strip())
        shape = tuple(header["shape"])
        if not all(type(n) is int and n >= 0 for n in shape):
            raise ValueError("shape")
        return shape, np.dtype(header["descr"])
    except Exception as error:  # literal_eval and dtype raise many kinds of errors
        raise PhalanxError(f"{path} is not a motion: it is not a .npy file") from error
