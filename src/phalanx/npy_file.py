"""Parses NumPy's .npy format without trusting a size in it."""

import ast
import io
import math
from typing import Any

import numpy as np

from phalanx.gate import show

MAX_HEADER = 10_000


def read_header(file: io.BytesIO) -> tuple[tuple[int, ...], np.dtype[Any], bool]:
    """Shape, type and whether columns come first, from the beginning of a file. Raises ValueError
    for anything else than .npy."""
    try:
        version = np.lib.format.read_magic(file)
        size = int.from_bytes(file.read(2 if version == (1, 0) else 4), "little")
        if size > MAX_HEADER:
            raise ValueError("header")
        header = ast.literal_eval(file.read(size).decode("latin1").strip())
        shape = tuple(header["shape"])
        if not all(type(n) is int and 0 <= n < 2**48 for n in shape):
            raise ValueError("shape")
        return shape, np.dtype(header["descr"]), header["fortran_order"] is True
    except Exception as error:  # literal_eval and dtype raise many kinds of errors
        raise ValueError("it is not a .npy file") from error


def read_numbers(data: bytes) -> np.ndarray:
    """The array of numbers in a .npy file. Raises ValueError for another file, or for one whose
    content has another length than its shape."""
    file = io.BytesIO(data)
    shape, dtype, columns_first = read_header(file)
    if dtype.kind not in "biuf" or dtype.itemsize > 8:
        raise ValueError(f"it holds {str(dtype)[:60]}, not numbers")
    content = file.read()
    if len(content) != math.prod(shape) * dtype.itemsize:
        raise ValueError(f"it holds {len(content)} bytes for a shape of {show(shape)}")
    values = np.frombuffer(content, dtype)
    return values.reshape(shape, order="F" if columns_first else "C")
