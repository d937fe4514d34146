"""Resolves `${...}` in settings, as IsaacGymEnvs' YAML files use it.

    values = resolve({"seed": 3, "train": {"seed": "${..seed}", "name": "a_${seed}"}})

    ${a.b} ${a[0]}       the value at a path from the root
    ${.a} ${..a}         from the mapping that holds the text, from the one around it, ...
    ${eq:x,y}            a function of FUNCTIONS; an argument may be ${...} itself, or in quotes

Nothing else can be called, so a file cannot read the environment or other files. Each value is
resolved once, so files whose values stand for each other many times over take no longer.
"""

import re
from collections.abc import Callable
from typing import Any, NoReturn

from phalanx.cli.overrides import split_at_commas
from phalanx.errors import PhalanxError, did_you_mean
from phalanx.gate import show
from phalanx.yaml_file import MAX_PARTS

FUNCTIONS: dict[str, tuple[int, Callable[..., Any]]] = {
    "eq": (2, lambda a, b: str(a).lower() == str(b).lower()),
    "contains": (2, lambda a, b: str(a).lower() in str(b).lower()),
    "if": (3, lambda test, a, b: a if test else b),
    "resolve_default": (2, lambda default, value: default if value in ("", None) else value),
}
"""IsaacGymEnvs' functions, with the number of their arguments."""
MAX_TEXT = 10_000
MAX_LEVELS = 20
MAX_CHAIN = 100
WORDS = {"null": None, "none": None, "true": True, "false": False}
KEY = re.compile(r"[^.\[\]]+|\[[^\[\]]*\]")

Path = tuple[str | int, ...]


def resolve(root: dict[str, Any]) -> dict[str, Any]:
    """A copy of `root` with every `${...}` replaced by its value. Raises PhalanxError, naming the
    text, for a path that leads nowhere or in a circle, and for an unknown function."""
    resolver = _Resolver(root)
    value = resolver.at(())
    assert isinstance(value, dict)
    return resolver.copy(value)


def is_reference(value: Any) -> bool:
    """Whether a value is a text with `${...}`."""
    return isinstance(value, str) and "${" in value


class _Resolver:
    def __init__(self, root: dict[str, Any]) -> None:
        self._root = root
        self._done: dict[Path, Any] = {}
        self._open: set[Path] = set()
        self._left = MAX_PARTS

    def at(self, path: Path, text: str = "") -> Any:
        """The value at `path`; `text` asks for it."""
        if path in self._done:
            return self._done[path]
        if path in self._open or len(self._open) > MAX_CHAIN:
            raise PhalanxError(f"{text or _name(path)}: {_name(path)} is defined by itself")
        self._open.add(path)
        value = self._raw(path, text)
        if isinstance(value, dict):
            value = {key: self.at((*path, key)) for key in value}
        elif isinstance(value, list):
            value = [self.at((*path, i)) for i in range(len(value))]
        elif is_reference(value):
            value = self._text(value, path, 0)
        self._open.remove(path)
        self._done[path] = value
        return value

    def copy(self, value: Any) -> Any:
        """`value`, in which nothing is shared any more."""
        self._left -= 1
        if self._left < 0:
            raise PhalanxError(f"the settings have more than {MAX_PARTS} values")
        if isinstance(value, dict):
            return {key: self.copy(inner) for key, inner in value.items()}
        return [self.copy(inner) for inner in value] if isinstance(value, list) else value

    def _raw(self, path: Path, text: str) -> Any:
        value: Any = self._root
        for k, key in enumerate(path):
            if is_reference(value):
                value = self.at(path[:k], text)
            if isinstance(value, list) and isinstance(key, str) and key.isdecimal():
                key = int(key[:9])
            inside = isinstance(value, dict) and key in value
            if not inside and not (isinstance(value, list) and key in range(len(value))):
                raise PhalanxError(f"Interpolation key {_name(path)!r} not found, in {show(text)}")
            value = value[key]
        return value

    def _text(self, text: str, path: Path, level: int) -> Any:
        """The value of a text at `path`: of any type if it is one `${...}`, otherwise a text."""
        parts: list[Any] = []
        at = 0
        while (start := text.find("${", at)) >= 0:
            end = _end(text, start)
            if start > at:
                parts.append(text[at:start])
            parts.append(self._reference(text[start + 2 : end], path, text, level + 1))
            at = end + 1
        if at < len(text):
            parts.append(text[at:])
        if len(parts) == 1:
            return parts[0]
        for part in parts:
            if isinstance(part, (dict, list)):
                raise PhalanxError(f"{show(text)}: a mapping or list cannot be part of a text")
        whole = "".join(map(str, parts))
        if len(whole) > MAX_TEXT:
            raise PhalanxError(f"{show(text)} becomes a text of {len(whole)} characters")
        return whole

    def _reference(self, inner: str, path: Path, text: str, level: int) -> Any:
        """The value of `${inner}`."""
        if level > MAX_LEVELS:
            _fail(text, "nested too deep")
        name, colon, rest = inner.partition(":")
        if colon and "${" not in name:
            name = name.strip()
            if name not in FUNCTIONS:
                near = did_you_mean(name, FUNCTIONS) or f"; accepted: {', '.join(FUNCTIONS)}"
                _fail(text, f"unknown function {show(name)}{near}")
            arguments = [
                self._argument(part, path, level) for part in split_at_commas(rest, "{[", "}]")
            ]
            count, function = FUNCTIONS[name]
            if len(arguments) != count:
                _fail(text, f"{name} takes {count} arguments, not {len(arguments)}")
            return function(*arguments)
        if "${" in inner:
            inner = str(self._text(inner, path, level))
        keys = inner.strip().lstrip(".")
        dots = len(inner.strip()) - len(keys)
        if dots > len(path):
            _fail(text, "it has more dots than there are mappings around it")
        found: list[str | int] = [key.strip("[]") for key in KEY.findall(keys)]
        if not found:
            _fail(text, "a path is missing")
        base = path[:-dots] if dots else ()
        return self.at((*base, *found), text)

    def _argument(self, part: str, path: Path, level: int) -> Any:
        part = part.strip()
        if len(part) > 1 and part[0] == part[-1] and part[0] in "'\"":
            return self._text(part[1:-1], path, level)
        if "${" in part:
            return self._text(part, path, level)
        if part.lower() in WORDS:
            return WORDS[part.lower()]
        for kind in (int, float):
            try:
                return kind(part)
            except ValueError:
                pass
        return part


def _end(text: str, start: int) -> int:
    """The place of the brace that closes the one of the `${` at `start`."""
    depth = 0
    for i in range(start, len(text)):
        if text[i] == "{":
            depth += 1
        elif text[i] == "}":
            depth -= 1
            if depth == 0:
                return i
    _fail(text, "a closing brace is missing")


def _name(path: Path) -> str:
    return show(".".join(map(str, path)))[1:-1]


def _fail(text: str, why: str) -> NoReturn:
    raise PhalanxError(f"cannot resolve {show(text)}: {why}")
