"""Reads the object in a .npy file, which is a pickle, without executing code.

content = read_npy_object(Path("amp_humanoid_walk.npy"))
"""

import io
import math
from pathlib import Path
from typing import Any

from phalanx.errors import PhalanxError
from phalanx.gate import read_bytes, show
from phalanx.motion.clip import MAX_FILE
from phalanx.motion.pickled import read_motion_pickle
from phalanx.npy_file import read_header


def holds_numbers(path: Path) -> bool:
    """Whether a .npy file holds a table of numbers instead of an object."""
    try:
        shape, dtype, _ = read_header(io.BytesIO(read_bytes(path, MAX_FILE)))
    except ValueError:
        return False
    return not dtype.hasobject and dtype.kind in "iuf" and len(shape) == 2


def read_npy_object(path: Path) -> Any:
    """The object in a .npy file, made of dictionaries, lists, numbers, strings and arrays of
    numbers. Raises PhalanxError for a file that is not .npy, does not hold one object, is damaged
    or contains anything else."""
    file = io.BytesIO(read_bytes(path, MAX_FILE))
    try:
        shape, dtype, _ = read_header(file)
    except ValueError as error:
        raise PhalanxError(f"{path} is not a motion: {error}") from error
    if not dtype.hasobject or math.prod(shape) != 1:
        raise PhalanxError(
            f"{path} is not a motion: it is an array of {str(dtype)[:60]} with shape"
            f" {show(shape)}, and must be the dictionary of a poselib SkeletonMotion"
        )
    return read_motion_pickle(file, path, "get the motion from a source you trust")
