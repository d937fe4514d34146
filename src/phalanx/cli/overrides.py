"""`key=value` arguments: their grammar, their keys, and sweeps over several values.

A value is YAML: `64`, `1e-3`, `true`, `null`, `[1, 2]`, `{name: adam}`. Paths are used as typed.
Hydra's `+key=` and `++key=` mean `key=`.
"""

import dataclasses
import difflib
import itertools
import os
import re
import shlex
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from phalanx import tasks
from phalanx.cli import fields
from phalanx.cli.commands import ALGORITHMS, COMMANDS
from phalanx.cli.keys import DECIDED, ELSEWHERE, SAME, TEXTS
from phalanx.config import merged
from phalanx.errors import PhalanxError, did_you_mean
from phalanx.tasks.projects import SECTIONS
from phalanx.yaml_file import parse_yaml


@dataclass(frozen=True)
class Override:
    """One argument."""

    key: str
    value: Any


def parse(argument: str, options: Collection[str], command: str) -> Override:
    """Read one argument. `options` are the keys that `command` takes without a dot. Raises
    PhalanxError for an unknown key and for a value that is not YAML."""
    if argument.startswith("--"):
        raise PhalanxError(_without_dashes(argument, options, command))
    key, text = split(argument)
    if len(split_at_commas(text)) > 1 and key not in TEXTS:
        raise PhalanxError(
            f"{argument!r} is a sweep over several values; `phalanx train -m` runs one after the"
            f" other, and a list has brackets, as in {key}=[1,2]"
        )
    check_key(key, options, command)
    check_given(key, text)
    if key in TEXTS:
        bare = text[1:-1] if len(text) > 1 and text[0] == text[-1] in "'\"" else text
        check_given(key, bare.strip())
        return Override(key, None if text in ("null", "None") else bare)
    try:
        value = parse_yaml(text, f"cannot read {argument!r}", any_number=True)
    except PhalanxError as error:
        raise PhalanxError(
            f"{error}; quote a value with special characters twice, as in {key}='\"[a]\"'"
        ) from error
    _check_mapping(value, argument)
    return Override(key, value)


def read_words(
    arguments: Iterable[str], kind: type, command: str, word: str = "", texts: Collection[str] = ()
) -> dict[str, Any]:
    """The values in the arguments of a command without a train config, by key. kind: the dataclass
    with its keys; word: the key of an argument without one; texts: keys whose value is used as
    typed. Raises PhalanxError for an unknown key, one that is given twice, and for a value that is
    not YAML."""
    names = [f.name for f in dataclasses.fields(kind)]
    values: dict[str, Any] = {}
    for argument in arguments:
        if argument.startswith("-"):
            raise PhalanxError(_without_dashes(argument, names, command))
        key, equals, text = argument.partition("=")
        if not equals:
            key, text = word, argument
        if key.split(".")[0] not in names:
            raise PhalanxError(f"unknown key {key!r}{_where_instead(key, names, command)}")
        if key in values:
            raise PhalanxError(f"{key} is given twice, as {values[key]!r} and {text!r}")
        check_given(key if equals else "", text)
        as_typed = key == word or key in texts
        where = f"cannot read {argument!r}"
        values[key] = text if as_typed else parse_yaml(text, where, any_number=True)
    return values


def check_given(key: str, text: str) -> None:
    """Raise PhalanxError for an empty value, as a shell makes it of a variable that is not set; a
    run with the default instead would not be what was meant. key: empty for an argument without."""
    if not text:
        raise PhalanxError(
            f"{key}= is empty; give a value, or leave {key}= out" if key else "an argument is empty"
        )


def put(root: dict[str, Any], override: Override) -> None:
    """Set the value at an override's key in nested mappings; a mapping is merged into the one that
    is there. Raises PhalanxError for a place beyond a list's end."""
    *way, last = [part for part in re.split(r"[.\[\]]", override.key) if part]
    holder: Any = root
    for part in way:
        key = _place(holder, part, override.key)
        inner = holder.get(key) if isinstance(holder, dict) else holder[key]
        if not isinstance(inner, (dict, list)):
            inner = holder[key] = {}
        holder = inner
    key = _place(holder, last, override.key)
    old = holder.get(key) if isinstance(holder, dict) else holder[key]
    holder[key] = merged(old, override.value)


def _place(holder: Any, part: str, where: str) -> Any:
    if isinstance(holder, dict):
        return part
    if not part.isdecimal() or int(part[:9]) >= len(holder):
        raise PhalanxError(f"{where}: {part!r} is no place in a list of {len(holder)} values")
    return int(part)


def split(argument: str) -> tuple[str, str]:
    """Key and text of `key=text`."""
    key, equals, text = argument.lstrip("+").partition("=")
    if not equals or not key or key.startswith(("~", "-")):
        example = f"task={argument}" if argument in tasks.names() else "num_envs=64"
        if argument.endswith(".pth") or os.path.isdir(os.path.join(argument, "nn")):
            example = shlex.quote(f"checkpoint={argument}")
        raise PhalanxError(f"{argument!r} is not of the form key=value, as in {example}")
    return key.replace("task.task.", "task.", 1), text  # IsaacGymEnvs' form


def split_at_commas(text: str, opening: str = "[{(", closing: str = "]})") -> list[str]:
    """The parts of `text` between commas outside brackets and quotes."""
    parts, depth, quote = [""], 0, ""
    for c in text:
        if quote:
            quote = "" if c == quote else quote
        elif c in "'\"":
            quote = c
        else:
            depth += (c in opening) - (c in closing)
        if c == "," and not depth and not quote:
            parts.append("")
        else:
            parts[-1] += c
    return parts


def jobs(arguments: Sequence[str]) -> list[list[str]]:
    """Every combination of the arguments' sweep values; the last one varies fastest."""
    values = []
    for argument in arguments:
        key, text = split(argument)
        texts = [text] if key in TEXTS else split_at_commas(text)
        values.append([f"{key}={value}" for value in texts])
    return [list(job) for job in itertools.product(*values)]


def check_key(key: str, options: Collection[str], command: str) -> None:
    """Raise PhalanxError for a key that `command` does not take, with what to type instead.
    options: the keys that it takes without a dot."""
    first = key.split(".")[0]
    if first not in options:
        raise PhalanxError(f"unknown key {key!r}{_where_instead(key, options, command)}")
    section = key.removeprefix("task.env.").split(".")[0]
    if key.startswith("task.env.") and section in SECTIONS:
        raise PhalanxError(f"{key} is set by task.{section}; give that instead")
    decided = DECIDED.get(key.removeprefix("train.params.config."))
    if decided in options and key not in options:
        raise PhalanxError(f"{key} is set by {decided}=; give that instead")
    if key == "train.params.seed":
        raise PhalanxError(f"{key} is set by seed=; give that instead")


def _where_instead(key: str, options: Collection[str], command: str) -> str:
    """What to type instead of an unknown key, as the end of a sentence."""
    key, trains = key.lower().replace("-", "_"), "train" in options
    if key in options:
        return f"; did you mean {key!r}?"
    for same in SAME:
        here = [name for name in same if name in options]
        if key in same and here:
            return f"; give {here[0]}="
    if trains and key in ELSEWHERE:
        return f"; {ELSEWHERE[key]}"
    for other, about in COMMANDS.items():
        if about.options and key in _names(about.options):
            return f"; it is an option of `phalanx {other}`"
    if near := did_you_mean(key, options):
        return near
    if not trains:
        return f"; accepted: {', '.join(options)} (`phalanx {command} --help` explains them)"
    places = {name: f"task.env.{name}" for name in _names("phalanx.tasks.task:TaskConfig")}
    for place in ALGORITHMS.values():
        places |= {name: f"train.params.config.{name}" for name in _names(place)}
    if close := difflib.get_close_matches(key, places, 1, cutoff=0.8):
        return f"; did you mean {places[close[0]]}=?"
    accepted = [*options, "task.env.<field>", "train.params.config.<key>"]
    return f"; accepted: {', '.join(accepted)} (`phalanx {command} --help` explains them)"


def _without_dashes(argument: str, options: Collection[str], command: str) -> str:
    """The message for an option as other programs write it: `--num_envs 64`."""
    name, _, value = argument.lstrip("-").partition("=")
    key = name.replace("-", "_")
    if key in options:
        return f"{argument!r}: keys have no dashes here; write {key}={value or '<value>'}"
    return f"unknown key {argument!r}{_where_instead(key, options, command)}"


def _names(place: str) -> set[str]:
    return {f.name for f in fields.fields(fields.find_class(place))}


def _check_mapping(value: Any, argument: str) -> None:
    """Refuse `{a:1}`, in which YAML sees the key "a:1" without a value."""
    if isinstance(value, dict):
        for key, inner in value.items():
            if inner is None and ":" in str(key):
                raise PhalanxError(
                    f"cannot read {argument!r}: write a space after the colon, as in"
                    f" {{{str(key).replace(':', ': ', 1)}}}"
                )
            _check_mapping(inner, argument)
    elif isinstance(value, list):
        for inner in value:
            _check_mapping(inner, argument)
