"""Reads YAML mappings into frozen, typed dataclasses.

    @dataclass(frozen=True)
    class Config:
        horizon_length: int = ranged(16, at_least=1)

    config = read(Config, {"horizon_length": "32"}, where="params.config")

The dataclass declares a field's default, type and range together; a subclass that only changes a
default keeps the range. Its metadata may also hold a "check", a function of value and path that
raises PhalanxError. Numbers written as strings, as
PyYAML reads `5e-5`, become numbers; the string "None" becomes None if the field may be None. A
value of the wrong type or range, a missing key and an unknown key raise `PhalanxError` with a
sentence that names the key and, for an unknown key, the nearest name.
"""

import dataclasses
import math
import types
import typing
from collections.abc import Collection, Mapping
from dataclasses import MISSING
from typing import Any, Literal, TypeVar

from phalanx.errors import PhalanxError, did_you_mean
from phalanx.gate import MAX_INTEGER, show

T = TypeVar("T")
MAX_FLOAT = 3.4e38
"""Larger numbers are infinite in a float32 tensor."""


def ranged(
    default: Any = MISSING,
    *,
    above: float | None = None,
    at_least: float | None = None,
    at_most: float | None = None,
    infinite: bool = False,
) -> Any:
    """A dataclass field whose number, or each number of its tuple, must be in a range. Infinity is
    accepted only with `infinite`, or if it is the default."""
    bounds = {"above": above, "at_least": at_least, "at_most": at_most}
    metadata = {k: v for k, v in bounds.items() if v is not None}
    return dataclasses.field(default=default, metadata={**metadata, "infinite": infinite})


def read(
    cls: type[T], values: Any, where: str, no_effect: Collection[str] = (), base: T | None = None
) -> T:
    """Convert `values` to a `cls`; `where` is the path in messages, as in "params.config" or "".
    base: what fields have that are not in `values`, instead of the class's defaults.

    Keys in `no_effect`, or in the class's NO_EFFECT, are accepted and dropped. Raises PhalanxError
    for any other unknown key.
    """
    no_effect = {*no_effect, *getattr(cls, "NO_EFFECT", ())}
    if not isinstance(values, Mapping):
        raise PhalanxError(f"{where} is {show(values)}; it must be a mapping of keys to values")
    hints = typing.get_type_hints(cls)
    fields = {f.name: f for f in dataclasses.fields(cls) if f.init}  # type: ignore[arg-type]
    prefix = f"{where}." if where else ""
    taken: dict[str, Any] = {}
    for key, value in values.items():
        if key in no_effect:
            continue
        if key not in fields:
            near = did_you_mean(str(key), fields)
            accepted = near or f"; accepted: {', '.join(sorted(fields))}"
            raise PhalanxError(f"unknown key {prefix}{key}{accepted}")
        usual = getattr(base, key) if base is not None else default_of(fields[key])
        if isinstance(value, Mapping) and dataclasses.is_dataclass(usual):
            # The rest of it is what this class says, not what the class of the part says.
            taken[key] = read(type(usual), value, prefix + key, base=usual)
        else:
            taken[key] = _value(hints[key], value, prefix + key)
        _check_field(cls, fields[key], taken[key], prefix + key)
    for name, field in fields.items():
        if name in taken:
            continue
        if base is not None:
            taken[name] = getattr(base, name)
        elif field.default is field.default_factory is MISSING:
            raise PhalanxError(f"the key {prefix}{name} is missing and has no default")
    try:
        return cls(**taken)
    except BadSetting as error:
        raise BadSetting(where, error.key, error.wrong) from None


class BadSetting(PhalanxError):
    """For `__post_init__` of settings: what is wrong with `key` of `owner`: the class, until
    `read` names the section of the task that has them."""

    def __init__(self, owner: str, key: str, wrong: str) -> None:
        super().__init__(f"{owner}.{key} {wrong}" if owner else f"{key} {wrong}")
        self.key, self.wrong = key, wrong


def check_made(settings: Any, where: str) -> None:
    """Convert and check the values of a frozen dataclass that a program has made, as `read` does
    with those of a file. For its `__post_init__`; where: as for `read`."""
    hints = typing.get_type_hints(type(settings))
    for field in dataclasses.fields(settings):
        name = f"{where}.{field.name}"
        value = _value(hints[field.name], _plain(getattr(settings, field.name)), name)
        object.__setattr__(settings, field.name, value)
        _check_field(type(settings), field, value, name)


def check_ranges(settings: Any, where: str) -> None:
    """Check values that a program has given against the ranges that their fields declare; other
    fields and defaults are as their class wants them."""
    for field in dataclasses.fields(settings):
        value = _plain(getattr(settings, field.name))
        if metadata_of(type(settings), field.name) and value != _plain(default_of(field)):
            value = tuple(value) if isinstance(value, list) else value
            _check_field(type(settings), field, value, f"{where}.{field.name}")


def checked(hint: Any, value: Any, where: str, **bounds: float) -> Any:
    """`value`, which a program has given, as the type `hint`; bounds: of its numbers, as for
    `ranged`. Numbers and lists may be NumPy's or tensors. where: what it is, in messages. Raises
    PhalanxError for another type or a number outside of the bounds."""
    value = _value(hint, _plain(value), where)
    _check_range(value, bounds, False, where)
    return value


def _plain(value: Any) -> Any:
    if isinstance(value, (list, tuple)):
        return [_plain(v) for v in value]
    if isinstance(value, Mapping):
        return {k: _plain(v) for k, v in value.items()}
    return value.tolist() if hasattr(value, "tolist") else value


def merged(old: Any, new: Any) -> Any:
    """`new`, or if both are mappings what `old` has besides, at every depth."""
    if not isinstance(old, Mapping) or not isinstance(new, Mapping):
        return new
    return {**old, **{key: merged(old.get(key), value) for key, value in new.items()}}


def default_of(field: "dataclasses.Field[Any]") -> Any:
    """The default of a dataclass's field, None without one."""
    if field.default_factory is not MISSING:
        return field.default_factory()
    return None if field.default is MISSING else field.default


def without_effect(cls: type, values: Mapping[str, Any], prefix: str = "") -> list[str]:
    """Keys of `values` that `read` drops, those of nested mappings as `a.b`."""
    hints = typing.get_type_hints(cls)
    found = []
    for key, value in values.items():
        hint = hints.get(key)
        kinds = [k for k in (hint, *typing.get_args(hint)) if dataclasses.is_dataclass(k)]
        if key in getattr(cls, "NO_EFFECT", ()):
            found.append(prefix + key)
        elif kinds and isinstance(value, Mapping):
            found += without_effect(typing.cast(type, kinds[0]), value, f"{prefix}{key}.")
    return sorted(found)


def _value(hint: Any, value: Any, where: str) -> Any:
    """Convert `value` to the type `hint`."""
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if hint is Any:
        return value
    if origin in (types.UnionType, typing.Union):
        return _one_of(args, value, where)
    if origin is Literal:
        if value not in args or type(value) not in {type(a) for a in args}:
            raise _wrong(where, value, " or ".join(show(a) for a in args))
        return value
    if dataclasses.is_dataclass(hint):
        if isinstance(value, typing.cast(type, hint)):
            return value  # already converted
        if not isinstance(value, Mapping):
            raise _wrong(where, value, "a mapping of keys to values")
        return read(typing.cast(type, hint), value, where)
    if origin is tuple:
        if not isinstance(value, (list, tuple)):
            raise _wrong(where, value, "a list")
        if Ellipsis not in args and len(value) != len(args):
            raise _wrong(where, value, f"a list of {len(args)} values")
        return tuple(_value(args[0], v, f"{where}[{i}]") for i, v in enumerate(value))
    if origin is list:
        if not isinstance(value, (list, tuple)):
            raise _wrong(where, value, "a list")
        return [_value(args[0], v, f"{where}[{i}]") for i, v in enumerate(value)]
    if origin is dict or hint is dict:
        if not isinstance(value, Mapping):
            raise _wrong(where, value, "a mapping")
        return dict(value)
    if hint is bool:
        if isinstance(value, bool):
            return value
        if str(value).lower() in ("true", "false"):
            return str(value).lower() == "true"
        raise _wrong(where, value, "true or false")
    if hint in (int, float):
        return _number(hint, value, where)
    if hint is str and not (isinstance(value, str) and "\0" not in value):
        raise _wrong(where, value, "a text without zero bytes" if "\0" in str(value) else "a text")
    return value


def _one_of(args: tuple[Any, ...], value: Any, where: str) -> Any:
    if value in (None, "None", "null"):
        if type(None) in args:
            return None
        raise _wrong(where, value, "a value")
    wanted, inside = [], None
    for arg in args:
        if arg is not type(None):
            try:
                return _value(arg, value, where)
            except _WrongType as error:
                if error.where == where:
                    wanted.append(error.wanted)
                else:  # the type is right, but the value contains an error
                    inside = inside or error
    raise inside or _wrong(where, value, " or ".join(wanted))


def _number(hint: type, value: Any, where: str) -> Any:
    kind = "a whole number" if hint is int else "a number"
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        raise _wrong(where, value, kind)
    try:
        if hint is int and not isinstance(value, float):
            try:
                return int(value)  # not through float, which has only 53 bits
            except ValueError:  # "1e3" is a whole number too
                value = float(value)
        number = float(value)
    except (ValueError, OverflowError):
        raise _wrong(where, value, kind) from None
    if hint is int and not number.is_integer():
        raise _wrong(where, value, kind)
    return hint(number)


def metadata_of(cls: type, name: str) -> Mapping[str, Any]:
    """Metadata of a field, or of the base class's field that it replaces."""
    declared = (vars(base).get("__dataclass_fields__", {}).get(name) for base in cls.__mro__)
    return next((field.metadata for field in declared if field and field.metadata), {})


def _check_range(value: Any, about: Mapping[str, Any], endless: bool, where: str) -> None:
    if isinstance(value, tuple):
        for i, part in enumerate(value):
            _check_range(part, about, endless, f"{where}[{i}]")
        return
    if value is None or not isinstance(value, (int, float)) or isinstance(value, bool):
        return
    tests = {
        "above": lambda limit: value > limit,
        "at_least": lambda limit: value >= limit,
        "at_most": lambda limit: value <= limit,
    }
    bounds = {name: about[name] for name in tests if name in about}
    if not all(tests[name](limit) for name, limit in bounds.items()):
        words = " and ".join(f"{n.replace('_', ' ')} {limit}" for n, limit in bounds.items())
        raise PhalanxError(f"{where} is {show(value)}; it must be {words}")
    if value != value or (abs(value) > MAX_FLOAT and not (endless and math.isinf(value))):
        raise PhalanxError(f"{where} is {show(value)}; it must be finite, at most {MAX_FLOAT:g}")
    if isinstance(value, int) and abs(value) > MAX_INTEGER:
        raise PhalanxError(f"{where} is {show(value)}; it must be below 2^63")


def _check_field(cls: type, field: "dataclasses.Field[Any]", value: Any, where: str) -> None:
    about = metadata_of(cls, field.name)
    endless = about.get("infinite") or field.default in (math.inf, -math.inf)
    _check_range(value, about, endless, where)
    if check := about.get("check"):
        check(value, where)


class _WrongType(PhalanxError):
    """`where` is the path of the value, `wanted` describes the required type."""

    def __init__(self, where: str, value: Any, wanted: str) -> None:
        shown = "empty" if value is None else show(value)
        super().__init__(f"{where} is {shown}; it must be {wanted}")
        self.where, self.wanted = where, wanted


_wrong = _WrongType
