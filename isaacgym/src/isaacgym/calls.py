"""Checks what a program gives to the calls of `Gym`, by their annotations, before a call begins.

    check_calls(Gym)          # once, when the class exists

A whole number may be any number without fraction, and a number any finite one, also as an array or
tensor of one element; a name may be a path, and a vector any three numbers. A property struct or a
pose must not hold NaN.
"""

import enum
import functools
import inspect
import math
import operator
import os
import types
import typing
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from isaacgym.descriptor import Tensor
from isaacgym.geometry import Quat, Transform, Vec3
from isaacgym.handles import checked
from isaacgym.structs import Struct
from isaacgym.values import FLT_MAX
from phalanx.errors import PhalanxError

Reader = Callable[[Any, str, str], Any]
"""Converts a value; the other arguments are the names of the call and of the parameter."""


def check_calls(cls: type) -> None:
    """Have every public method of `cls` check its arguments."""
    for name in dir(cls):
        method = inspect.getattr_static(cls, name)
        if not name.startswith("_") and inspect.isfunction(method):
            setattr(cls, name, _with_checks(method))


def _with_checks(method: Callable[..., Any]) -> Callable[..., Any]:
    hints = typing.get_type_hints(method)
    names = list(inspect.signature(method).parameters)[1:]
    readers = {name: reader for name in names if (reader := _reader(hints.get(name)))}
    if not readers:
        return method
    in_order = [(readers.get(name), name) for name in names]
    call = method.__name__

    @functools.wraps(method)
    def checked_call(self: Any, *args: Any, **kwargs: Any) -> Any:
        given = [
            value if reader is None else reader(value, call, name)
            for value, (reader, name) in zip(args, in_order, strict=False)
        ]
        given += args[len(in_order) :]  # too many: Python says so
        for name in kwargs.keys() & readers.keys():
            kwargs[name] = readers[name](kwargs[name], call, name)
        return method(self, *given, **kwargs)

    return checked_call


def _reader(hint: Any) -> Reader | None:
    """What converts values for a parameter with this annotation; None if the call does it."""
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if origin in (types.UnionType, typing.Union) and types.NoneType in args:
        inner = _reader(next(arg for arg in args if arg is not types.NoneType))
        return inner and functools.partial(_optional, inner)
    if origin in (list, Sequence):
        inner = _reader(args[0])
        return inner and functools.partial(_several, inner)
    if not isinstance(hint, type):
        return None
    if hint in (int, float, str, bool):
        return {int: whole, float: number, str: _text, bool: _flag}[hint]
    if issubclass(hint, enum.Enum):
        return functools.partial(_member, hint)
    if hint is Vec3:
        return _vector
    if issubclass(hint, Struct):
        return functools.partial(_struct, hint)
    held = hint.__module__.startswith("isaacgym.") and hint is not Tensor  # has words of its own
    return functools.partial(_object, hint) if held else None


def _optional(reader: Reader, value: Any, call: str, name: str) -> Any:
    return None if value is None else reader(value, call, name)


def whole(value: Any, call: str, name: str) -> int:
    """`value` as an int. Raises PhalanxError if it has a fraction or is no number."""
    try:
        given = value.item() if hasattr(value, "item") else value
        if isinstance(given, float) and given.is_integer():
            given = int(given)
        result = operator.index(given)
    except (TypeError, ValueError, RuntimeError):  # torch: more than one element
        raise _wrong(value, call, name, "a whole number") from None
    if not -(2**63) <= result < 2**63:
        raise _wrong(value, call, name, "a whole number of 64 bits")
    return result


def number(value: Any, call: str, name: str) -> float:
    """`value` as a float. Raises PhalanxError if it is no number, or not finite in the single
    precision in which Isaac Gym holds it."""
    try:
        given = value.item() if hasattr(value, "item") else value
        result = math.nan if isinstance(given, (str, bytes)) else float(given)
    except (TypeError, ValueError, RuntimeError, OverflowError):
        result = math.nan
    if not abs(result) <= FLT_MAX:  # nor if it is NaN
        raise _wrong(value, call, name, "a finite number")
    return result


def numbers(values: Any, count: int, call: str, what: str) -> np.ndarray:
    """`values` as (count,) float32. Raises PhalanxError for another count and for anything that is
    no finite number."""
    try:
        with np.errstate(over="ignore"):  # what becomes infinite is refused below
            result = np.array(values.cpu() if hasattr(values, "cpu") else values, np.float32)
    except (TypeError, ValueError, RuntimeError, OverflowError):
        raise _wrong(values, call, what, f"{count} numbers") from None
    result = result.reshape(-1)
    if len(result) != count:
        raise PhalanxError(f"gym.{call} was given {len(result)} {what}; it takes {count}")
    if not np.isfinite(result).all():
        raise PhalanxError(f"gym.{call} was given {what} that are not finite: {result.tolist()}")
    return result


def _flag(value: Any, call: str, name: str) -> bool:
    try:
        return bool(value)
    except (TypeError, ValueError, RuntimeError):  # NumPy and torch: more than one element
        raise _wrong(value, call, name, "true or false") from None


def _object(kind: type, value: Any, call: str, name: str) -> Any:
    return checked(value, kind, call)


def _text(value: Any, call: str, name: str) -> str:
    if not isinstance(value, (str, os.PathLike)):
        raise _wrong(value, call, name, "a text")
    return os.fspath(value)


def _member(kind: type[enum.Enum], value: Any, call: str, name: str) -> Any:
    try:
        return value if isinstance(value, kind) else kind(whole(value, call, name))
    except ValueError:
        members = ", ".join(kind.__members__)
        raise _wrong(value, call, name, f"one of {members}") from None


def _vector(value: Any, call: str, name: str) -> Vec3:
    if not isinstance(value, Vec3):
        try:
            x, y, z = value
            value = Vec3(x, y, z)
        except (TypeError, ValueError):
            raise _wrong(value, call, name, "a gymapi.Vec3") from None
    return _struct(Vec3, value, call, name)


def _struct(kind: type[Struct], value: Any, call: str, name: str) -> Any:
    value = checked(value, kind, call)
    finite = isinstance(value, (Vec3, Quat, Transform))
    if wrong := _not_numbers(value, finite):
        must = "be finite" if finite else "not be NaN"
        raise PhalanxError(f"gym.{call} was given {name} with {wrong}; all its numbers must {must}")
    return value


def _not_numbers(struct: Struct, finite: bool) -> str:
    """The first field that is NaN, or not finite, as `com.x = nan`; empty if there is none."""
    for name, value in vars(struct).items():
        if isinstance(value, Struct):
            inner = _not_numbers(value, finite)
            if inner:
                return f"{name}.{inner}"
        elif isinstance(value, float) and not (math.isfinite(value) if finite else value == value):
            return f"{name} = {value}"
    return ""


def _several(reader: Reader, values: Any, call: str, name: str) -> list[Any]:
    if isinstance(values, (str, bytes)) or not hasattr(values, "__iter__"):
        raise _wrong(values, call, name, "a list")
    return [reader(value, call, f"{name}[{k}]") for k, value in enumerate(values)]


def _wrong(value: Any, call: str, name: str, wanted: str) -> PhalanxError:
    text = " ".join(repr(value).split())
    shown = text if len(text) <= 60 else f"a {type(value).__name__}"
    return PhalanxError(f"gym.{call} was given {name} {shown}; it must be {wanted}")
