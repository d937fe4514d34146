"""Reads YAML of others: plain values only, nothing shared, of bounded size.

    values = read_yaml(path)
    value = parse_yaml("[1, 2]", "the option x")

PyYAML's safe loader runs nothing, but aliases of aliases stand for more values than any memory has,
and dates, sets and bytes come out of it.
"""

import math
import re
from collections.abc import Mapping
from typing import Any

import yaml

from phalanx.errors import PhalanxError
from phalanx.gate import MAX_INTEGER, MB, Where, read_text, reason, show

MAX_YAML = MB
MAX_PARTS = 100_000
"""Values in a YAML file, with each alias counted as all that it stands for."""
MAX_DEPTH = 50
MAX_WORD = 4000
"""Characters of a number or of a text without quotes: Python converts no longer numbers."""


def read_yaml(path: Where) -> Any:
    """The values in a YAML file: mappings, lists, texts, numbers, booleans and None.

    Raises PhalanxError, with the line where there is one, for other values, keys given twice,
    deep nesting and aliases that stand for too much.
    """
    return parse_yaml(read_text(path, MAX_YAML), str(path))


def parse_yaml(text: str, where: str, any_number: bool = False) -> Any:
    """The same for a text; `where` begins the message. any_number: also NaN, and whole numbers of
    more than 64 bits, for a reader that refuses them with its own words."""
    try:
        _check_events(text, where)
        return _plain(yaml.load(text, Loader=_Loader), where, any_number)
    except yaml.YAMLError as error:
        raise PhalanxError(_problem(text, where, error)) from error
    except PhalanxError:
        raise
    except Exception as error:  # a date like 2001-99-99 or a number of 5000 digits
        raise PhalanxError(f"{where}: {reason(error)}") from error


def _problem(text: str, where: str, error: yaml.YAMLError) -> str:
    """What PyYAML says, in the words of a user."""
    mark = getattr(error, "problem_mark", None)
    line = f", line {mark.line + 1}" if mark else ""
    if isinstance(error, yaml.reader.ReaderError):  # its words name its own buffers
        line = f", line {text[: error.position].count(chr(10)) + 1}"
        return f"{where}{line}: character {show(chr(error.character))} is not accepted in YAML"
    problem = str(getattr(error, "problem", None) or reason(error))
    tag = re.search(r"constructor for the tag '([^']*)'", problem)
    if tag:
        return f"{where}{line}: the tag {show(tag[1])} is not accepted; give plain values"
    return f"{where}{line}: {problem}"


def _check_events(text: str, where: str) -> None:
    """Raise PhalanxError before aliases are followed: they may stand for each other."""
    parts_of: dict[str, int] = {}
    open_parts = [0]  # parts so far of each open collection; the outermost is the document
    anchors: list[str | None] = [None]
    for event in yaml.parse(text, Loader=_Loader):
        parts = 1
        name = getattr(event, "anchor", None)
        if isinstance(event, yaml.AliasEvent):
            if name in anchors:
                raise PhalanxError(f"{_line(where, event)}: *{name} contains itself")
            parts = parts_of.get(str(name), 1)
        elif isinstance(event, yaml.CollectionStartEvent):
            open_parts.append(0)
            anchors.append(name)
            if len(open_parts) > MAX_DEPTH:
                raise PhalanxError(f"{_line(where, event)}: nested more than {MAX_DEPTH} deep")
            continue
        elif isinstance(event, yaml.CollectionEndEvent):
            parts, name = open_parts.pop() + 1, anchors.pop()
        elif isinstance(event, yaml.ScalarEvent):
            if not event.style and len(event.value) > MAX_WORD:
                raise PhalanxError(
                    f"{_line(where, event)}: a value of {len(event.value)} characters without"
                    " quotes; the file is damaged"
                )
        else:
            continue
        if name and not isinstance(event, yaml.AliasEvent):
            parts_of[name] = parts
        open_parts[-1] += parts
        if open_parts[-1] > MAX_PARTS:
            raise PhalanxError(
                f"{_line(where, event)}: more than {MAX_PARTS} values, those that aliases stand"
                " for included"
            )


def _line(where: str, event: Any) -> str:
    return f"{where}, line {event.start_mark.line + 1}"


_TIME = "tag:yaml.org,2002:timestamp"
_FLOAT = "tag:yaml.org,2002:float"
_EXPONENT = re.compile(r"[-+]?(?:[0-9][0-9_]*\.?[0-9_]*|\.[0-9][0-9_]*)[eE][-+]?[0-9]+\Z")


class _Loader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]
    """Reads 1e-3 as a number, as YAML 1.2 does, leaves dates as texts and refuses a key given
    twice."""

    yaml_implicit_resolvers = {  # noqa: RUF012
        first: [(tag, pattern) for tag, pattern in resolvers if tag != _TIME]
        for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }

    def construct_mapping(self, node: Any, deep: bool = False) -> Any:
        keys = [key for key, _ in node.value] if isinstance(node, yaml.MappingNode) else []
        seen: set[str] = set()
        for key in keys:
            if isinstance(key, yaml.ScalarNode) and key.value in seen:
                raise yaml.constructor.ConstructorError(
                    None, None, f"the key {key.value[:60]!r} is there twice", key.start_mark
                )
            if isinstance(key, yaml.ScalarNode):
                seen.add(key.value)
        return super().construct_mapping(node, deep)


_Loader.add_implicit_resolver(_FLOAT, _EXPONENT, list("-+.0123456789"))


def _plain(value: Any, where: str, any_number: bool, key: str = "") -> Any:
    """A copy of `value` in which nothing is shared. Raises PhalanxError, naming the key, for
    anything but plain values."""
    if isinstance(value, Mapping):
        copy = {}
        for name, inner in value.items():
            if not isinstance(name, (str, int)):
                raise PhalanxError(f"{where}: the key {show(name)} is not a text")
            copy[name] = _plain(inner, where, any_number, f"{key}.{name}" if key else str(name))
        return copy
    if isinstance(value, list):
        return [_plain(v, where, any_number, f"{key}[{i}]") for i, v in enumerate(value)]
    named = f"{where}: {key or 'its value'} is {show(value)}"
    if value is not None and not isinstance(value, (str, bool, int, float)):
        raise PhalanxError(f"{named}; a {type(value).__name__} is not accepted")
    if any_number:
        return value
    if isinstance(value, float) and math.isnan(value):
        raise PhalanxError(f"{named}, which is not a number")
    if isinstance(value, int) and not -MAX_INTEGER <= value <= MAX_INTEGER:
        raise PhalanxError(f"{named}, which has more than 64 bits")
    return value
