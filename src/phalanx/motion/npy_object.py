"""Reads the object in a .npy file without executing code.

    content = read_npy_object(Path("amp_humanoid_walk.npy"))

NumPy stores an object as a pickle, which is a program for a small machine with a stack. Python's
own machine can call any function, and takes as much memory as a few bytes ask for. So the program
runs here, on a machine that knows only the instructions for dictionaries, lists, numbers, texts and
arrays of numbers. Its work and its results are bounded by the file's size and the limits below.
"""

import ast
import io
import math
import pickletools
from pathlib import Path
from typing import Any

import numpy as np

from phalanx.errors import PhalanxError
from phalanx.gate import read_bytes, reason, show
from phalanx.motion.clip import MAX_FILE
from phalanx.motion.rotation import Array

MAX_INSTRUCTIONS = 100_000
"""Of a pickle; the longest clip of IsaacGymEnvs has a few hundred."""
MAX_PARTS = 10_000
"""Values in the object, shared ones counted wherever they appear."""
MAX_DEPTH = 8
MAX_HEADER = 10_000

MADE_OF_ARGUMENT = """
BININT BININT1 BININT2 LONG1 BINFLOAT BINUNICODE SHORT_BINUNICODE BINUNICODE8 BINBYTES
SHORT_BINBYTES BINBYTES8
""".split()
CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
PREVIOUS = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}


def read_npy_object(path: Path) -> Any:
    """The object in a .npy file, made of dictionaries, lists, numbers, strings and arrays of
    numbers. Raises PhalanxError for a file that is not .npy, does not hold one object, is damaged
    or contains anything else."""
    data = read_bytes(path, MAX_FILE)
    file = io.BytesIO(data)
    shape, dtype = _header(file, path)
    if not dtype.hasobject or math.prod(shape) != 1:
        raise PhalanxError(
            f"{path} is not a motion: it is an array of {str(dtype)[:60]} with shape"
            f" {show(shape)}, and must be the dictionary of a poselib SkeletonMotion"
        )
    try:
        return _plain(_run(file), [MAX_PARTS])
    except _Refused as refused:
        raise PhalanxError(
            f"{path} was not loaded: it contains {refused}, a program that loading would execute;"
            " get the motion from a source you trust"
        ) from refused
    except Exception as error:  # a damaged pickle may raise anything
        raise PhalanxError(f"{path} is damaged or cut short: {reason(error)}") from error


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


class _Refused(Exception):
    """A pickle references a class or function that motion files never use."""


class _Mark:
    """Where a group of values begins on the stack."""


def _run(file: io.BytesIO) -> Any:
    """The value that a pickle leaves. Raises _Refused for a name that motion files never use, and
    other errors for a damaged one."""
    stack: list[Any] = []
    memo: dict[int, Any] = {}

    def group() -> list[Any]:
        """The values above the last mark, which leaves the stack with them."""
        for at in range(len(stack) - 1, -1, -1):
            if isinstance(stack[at], _Mark):
                values = stack[at + 1 :]
                del stack[at:]
                return values
        raise ValueError("a mark is missing")

    for count, (opcode, argument, _) in enumerate(pickletools.genops(file)):
        if count > MAX_INSTRUCTIONS:
            raise ValueError(f"more than {MAX_INSTRUCTIONS} instructions")
        match opcode.name:
            case "PROTO" | "FRAME":
                pass
            case name if name in MADE_OF_ARGUMENT:
                stack.append(argument)
            case name if name in CONSTANTS:
                stack.append(CONSTANTS[name])
            case "MARK":
                stack.append(_Mark())
            case "EMPTY_DICT":
                stack.append({})
            case "EMPTY_LIST":
                stack.append([])
            case "EMPTY_TUPLE":
                stack.append(())
            case "TUPLE":
                stack.append(tuple(group()))
            case "TUPLE1" | "TUPLE2" | "TUPLE3" as name:
                stack[-PREVIOUS[name] :] = [tuple(stack[-PREVIOUS[name] :])]
            case "APPEND":
                value = stack.pop()
                _of(list, stack[-1]).append(value)
            case "APPENDS":
                values = group()
                _of(list, stack[-1]).extend(values)
            case "SETITEM":
                value, key = stack.pop(), stack.pop()
                _of(dict, stack[-1])[_of(str, key)] = value
            case "SETITEMS":
                values = group()
                for key, value in zip(values[::2], values[1::2], strict=True):
                    _of(dict, stack[-1])[_of(str, key)] = value
            case "BINPUT" | "LONG_BINPUT":
                memo[_of(int, argument)] = stack[-1]
            case "MEMOIZE":
                memo[len(memo)] = stack[-1]
            case "BINGET" | "LONG_BINGET":
                stack.append(memo[_of(int, argument)])
            case "GLOBAL":
                stack.append(_named(*str(argument).split(" ", 1)))
            case "STACK_GLOBAL":
                name, module = stack.pop(), stack.pop()
                stack.append(_named(module, name))
            case "REDUCE":
                arguments, make = _of(tuple, stack.pop()), stack.pop()
                stack.append(_of(_Maker, make).function(*arguments))
            case "BUILD":
                state = _of(tuple, stack.pop())
                stack[-1].fill(*state)  # of an _Array or a _DType; others have no such method
            case "STOP":
                return stack.pop()
            case name:
                raise ValueError(f"the instruction {name}, which no motion has")
    raise ValueError("its end is missing")


def _of(kind: type, value: Any) -> Any:
    """`value`, which must be of exactly this type."""
    if type(value) is not kind:
        raise ValueError(f"a {type(value).__name__} in the place of a {kind.__name__}")
    return value


class _Array:
    """An array while it is being loaded."""

    def __init__(self, *_: object) -> None:
        self.value: Array = np.empty(0)

    def fill(self, _: object, shape: Any, dtype: Any, column_major: Any, data: Any) -> None:
        values = _of(_DType, dtype).values(data)
        self.value = values.reshape(shape, order="F" if column_major is True else "C")


class _DType:
    """An array's type in a pickle: only plain numbers, booleans and objects."""

    def __init__(self, code: Any, *_: object) -> None:
        if code != "O8" and not (_of(str, code)[:1] in "biuf" and code[1:] in ("1", "2", "4", "8")):
            raise ValueError(f"an array of type {show(code)}")
        self.code = code
        self.order = "<"

    def fill(self, _: object, order: Any, *__: object) -> None:
        self.order = ">" if order == ">" else "<"

    def values(self, data: Any) -> Array:
        if self.code == "O8":
            items = np.empty(len(_of(list, data)), object)
            items[:] = data
            return items
        return np.frombuffer(_of(bytes, data), self.order + self.code)


class _Maker:
    """A function that a pickle may call: one of those below, never one of the file's choice."""

    def __init__(self, function: Any) -> None:
        self.function = function


def _scalar(dtype: Any, data: Any) -> Any:
    return _of(_DType, dtype).values(data)[0].item()


def _dictionary() -> dict[str, Any]:
    return {}


_MAKERS = {
    "collections.OrderedDict": _Maker(_dictionary),
    "numpy.ndarray": _Maker(_Array),  # an unused argument of _reconstruct
    "numpy.dtype": _Maker(_DType),
    **{f"numpy.{core}.multiarray._reconstruct": _Maker(_Array) for core in ("core", "_core")},
    **{f"numpy.{core}.multiarray.scalar": _Maker(_scalar) for core in ("core", "_core")},
}


def _named(module: Any, name: Any) -> _Maker:
    key = f"{_of(str, module)}.{_of(str, name)}"
    if key not in _MAKERS:
        raise _Refused(show(key)[1:-1])
    return _MAKERS[key]


def _plain(value: Any, left: list[int], depth: int = 0) -> Any:
    """`value` with `_Array` replaced by NumPy arrays. Raises ValueError for more parts than are
    `left`, or deeper ones than a motion needs: shared parts could multiply."""
    left[0] -= 1
    if left[0] < 0 or depth > MAX_DEPTH:
        raise ValueError("it has too many parts, or they are nested too deep")
    if isinstance(value, _Array):
        whole = value.value
        if whole.dtype == object:
            return _plain(whole.item(), left, depth + 1)
        return whole
    if isinstance(value, dict):
        return {key: _plain(item, left, depth + 1) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item, left, depth + 1) for item in value]
    if value is not None and not isinstance(value, (str, bool, int, float)):
        raise ValueError(f"a {type(value).__name__} among its values")
    return value
