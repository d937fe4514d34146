"""The base of the API's structs.

A struct is a class with annotated fields: numbers, enums, strings or other structs.

    class Pose(Struct):
        p: Vec3 = Vec3()
        scale: float = 1.0

Structs are values, as in Isaac Gym's C++ core. Assigning a struct to a field copies it. Reading one
gives a live reference into its parent, so `params.gravity.z = -9.81` changes `params`. Numbers have
single precision. A field takes a Python number, a NumPy scalar, or an array or tensor of one
element on any device. Reading or assigning an unknown field raises AttributeError."""

import ctypes
import inspect
import operator
from typing import TYPE_CHECKING, Any, ClassVar, Self, dataclass_transform

import numpy as np

from phalanx.errors import did_you_mean


@dataclass_transform(eq_default=False)
class Struct:
    """Base of the API's structs."""

    dtype: ClassVar[np.dtype]  # of a NumPy array of such structs, where there is one
    _fields: ClassVar[dict[str, type]] = {}  # in the constructor's order
    _read_only: ClassVar[tuple[str, ...]] = ()  # fields that only the constructor sets

    def __init_subclass__(cls) -> None:
        cls._fields = inspect.get_annotations(cls)
        for name, kind in cls._fields.items():
            if kind is float:
                setattr(cls, name, single(getattr(cls, name)))

    if not TYPE_CHECKING:  # type checkers take the arguments from the fields

        def __init__(self, *args, **kwargs):
            cls = type(self)
            for name in cls._fields:
                self.__dict__[name] = _own(getattr(cls, name))  # its default
            if len(args) > len(cls._fields):
                raise TypeError(
                    f"{cls.__name__} takes {', '.join(cls._fields)}; got {len(args)} values"
                )
            given = dict(zip(cls._fields, args, strict=False))
            if twice := given.keys() & kwargs.keys():
                raise TypeError(f"{cls.__name__} got {', '.join(twice)} twice")
            for name, value in (given | kwargs).items():
                if value is None and isinstance(getattr(cls, name, None), Struct):
                    continue  # Transform(p, None) is allowed
                self._set(name, value)

        def __getattr__(self, name):
            raise self._unknown(name)

        def __setattr__(self, name, value):
            if name in self._read_only:
                raise AttributeError(f"{type(self).__name__}.{name} can be read only")
            self._set(name, value)

    def _set(self, name: str, value: Any) -> None:
        kind = self._fields.get(name)
        if kind is None:
            raise self._unknown(name)
        if issubclass(kind, Struct):
            if not isinstance(value, kind):
                raise TypeError(
                    f"{type(self).__name__}.{name} takes a {kind.__name__}, not {_show(value)}"
                )
            held = self.__dict__[name]  # references to it stay live
            for field in kind._fields:
                held._set(field, getattr(value, field))
            return
        try:
            self.__dict__[name] = _convert(value, kind)
        except (TypeError, ValueError, RuntimeError):  # torch: more than one element
            takes = _TAKES.get(kind) or f"one of {', '.join(kind.__members__)}"  # type: ignore[attr-defined]
            raise TypeError(
                f"{type(self).__name__}.{name} takes {takes}, not {_show(value)}"
            ) from None

    def _unknown(self, name: str) -> AttributeError:
        kind = type(self).__name__
        if name.startswith("__"):  # Python looks for optional methods
            return AttributeError(f"{kind} has no {name}")
        fields = ", ".join(self._fields)
        return AttributeError(
            f"{kind} has no field {name!r}{did_you_mean(name, self._fields)}; it has {fields}"
        )

    def __copy__(self) -> Self:
        other = object.__new__(type(self))
        for name, value in self.__dict__.items():
            other.__dict__[name] = _own(value)
        return other

    def __deepcopy__(self, memo: dict) -> Self:
        return self.__copy__()

    def __repr__(self) -> str:
        fields = ", ".join(f"{name}={getattr(self, name)!r}" for name in self._fields)
        return f"{type(self).__name__}({fields})"

    @classmethod
    def from_buffer(cls, buffer: Any) -> Self:
        """The struct at the start of `buffer`, bytes or an array laid out as `cls.dtype`."""
        return cls._from_record(np.frombuffer(buffer, cls.dtype, count=1)[0])

    @classmethod
    def _from_record(cls, record: Any) -> Self:
        return cls(
            *(
                kind._from_record(record[name]) if issubclass(kind, Struct) else record[name]
                for name, kind in cls._fields.items()
            )
        )


def single(value: Any) -> float:
    """`value`, a number or a one-element array or tensor, rounded to single precision."""
    return ctypes.c_float(value.item() if hasattr(value, "item") else value).value


def _own(value: Any) -> Any:
    """`value` itself if it is immutable, else a copy."""
    return value.__copy__() if isinstance(value, Struct) else value


def _convert(value: Any, kind: type) -> Any:
    if hasattr(value, "item"):  # NumPy and torch; raises if there is not one element
        value = value.item()
    if kind is float:
        return ctypes.c_float(value).value
    if kind is str:
        if not isinstance(value, str):
            raise TypeError
        return value
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return kind(operator.index(value))  # int, bool or an enum


_TAKES = {float: "a number", int: "a whole number", bool: "True or False", str: "a string"}


def _show(value: Any) -> str:
    text = repr(value)
    return text if len(text) < 60 else f"a {type(value).__name__}"
