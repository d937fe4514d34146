"""`phalanx --help` and `phalanx <command> --help`: every key with its default, unit and meaning.

Keys are read from the sources of the dataclasses (`fields.py`), values of the chosen task and train
config from their YAML files. Nothing slow is imported.
"""

import shutil
import textwrap
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from phalanx import tasks
from phalanx.cli.commands import ALGORITHMS, COMMANDS, NETWORKS
from phalanx.cli.fields import ClassSource, Field, fields, find_class, source
from phalanx.cli.keys import DECIDED
from phalanx.cli.settings import GENERAL_TRAIN, own_train, train_file
from phalanx.config import merged
from phalanx.errors import PhalanxError
from phalanx.yaml_file import read_yaml

WIDTH = 110
KEY, DEFAULT = 30, 16
"""Widths of the first two columns; longer entries get a separate line."""
SECTIONS = ("randomize", "randomization_params", "actuators")
HIDDEN = {*DECIDED, "env_config", "features"}
"""Keys of train.params.config that are set by options or by keys below task.env."""


def overview() -> str:
    """The output of `phalanx --help`."""
    lines = ["usage: phalanx <command> [key=value ...]", ""]
    lines += [f"  {name:<12}{command.goal}" for name, command in COMMANDS.items()]
    lines += [
        "",
        "phalanx <command> --help    list its keys, with default and meaning",
        "phalanx --version           print the version",
    ]
    return "\n".join(lines) + "\n"


def of_command(name: str, arguments: Iterable[str]) -> str:
    """The output of `phalanx <name> <arguments> --help`. Raises PhalanxError for an unknown task or
    train config in the arguments."""
    command = COMMANDS[name]
    lines = [f"usage: phalanx {name} {command.usage}".rstrip(), "", f"{command.goal}", ""]
    lines += [f"  phalanx {example}" for example in command.examples]
    given = dict(a.split("=", 1) for a in arguments if "=" in a)
    task = given.get("task", "Cartpole").split(",")[0]
    train = given.get("train") or own_train(task) or GENERAL_TRAIN["Box"]
    if command.options:
        keys = fields(find_class(command.options), nested=False)
        shown = {"task": task, "train": train} if "options:" in command.options else {}
        lines += _table("key", keys, shown)
    if command.takes_task:
        file, params = read_train(train)
        lines += _of_task(task, params)
        lines += _of_train(file, params)
        lines += ["", f"For another task or algorithm: phalanx {name} task=Ant train=AntSAC --help"]
    return "\n".join(lines) + "\n"


def _of_task(name: str, params: Mapping[str, Any]) -> list[str]:
    """The keys below `task.`; `params` are those of the train config."""
    found = config_class(name)
    if found is None:
        return ["", f"The keys of task {name} cannot be read from {tasks.source_file(name)}."]
    values = tasks.settings(name)
    trained_with = merged(values.get("env", {}), params["config"].get("env_config") or {})
    config = fields(found)
    env = [f for f in config if f.name.split(".")[0] not in SECTIONS]
    outside = [f for f in config if f.name in SECTIONS]
    file = tasks.settings_file(name)
    head = f"Task {name}, with the values of {file}" if file.is_file() else f"Task {name}"
    return [
        *("", f"{head}:"),
        *_table("task.<key>", outside, values),
        *_table("task.env.<key>", env, trained_with),
    ]


def config_class(task: str) -> ClassSource | None:
    """The Config dataclass of a task."""
    file = tasks.source_file(task)
    try:
        cls = source(file).find(task)
    except (OSError, SyntaxError) as error:
        raise PhalanxError(f"cannot read {file}: {error}") from error
    config = cls.constant("Config") if cls else None
    for owner in cls.lineage() if cls and config else ():
        found = owner.file.find(getattr(config, "id", ""))
        if found:
            return found
    return None


def read_train(name: str) -> tuple[Path, dict[str, Any]]:
    """The file of a train config and its `params`."""
    file = train_file(name)
    values = read_yaml(file)
    params = values.get("params") if isinstance(values, dict) else None
    for section in ("algo", "network", "config"):
        if not isinstance(params, dict) or not isinstance(params.get(section), dict):
            raise PhalanxError(f"{file} has no mapping params.{section}")
    assert isinstance(params, dict)
    return file, params


def _of_train(file: Path, params: Mapping[str, Any]) -> list[str]:
    """The keys below `train.params`."""
    algorithm, network = (params[section].get("name") for section in ("algo", "network"))
    lines = ["", f"Algorithm {algorithm} and network {network}, with the values of {file}:"]
    if algorithm in ALGORITHMS:
        keys = [f for f in fields(find_class(ALGORITHMS[algorithm])) if f.name not in HIDDEN]
        lines += _table("train.params.config.<key>", keys, params["config"])
    if network in NETWORKS:
        keys = fields(find_class(NETWORKS[network]))
        lines += _table("train.params.network.<key>", keys, params["network"])
    return lines


def _table(heading: str, keys: list[Field], values: Mapping[str, Any]) -> list[str]:
    """Lines for all keys, with `values` instead of defaults where given."""
    width = min(shutil.get_terminal_size((WIDTH, 24)).columns, WIDTH)
    lines = ["", f"{heading:<{KEY}}{'default':<{DEFAULT}}meaning"]
    for key in keys:
        if key.is_section:
            continue  # its keys follow
        shown = default_in(values, key)
        head = f"{key.name:<{KEY - 1}} {shown:<{DEFAULT - 1}} "
        if len(head) > KEY + DEFAULT and key.meaning:
            lines.append(head.rstrip())
            head = " " * (KEY + DEFAULT)
        text = textwrap.wrap(key.meaning, max(width - KEY - DEFAULT, 30)) or [""]
        lines.append((head + text[0]).rstrip())
        lines += [" " * (KEY + DEFAULT) + line for line in text[1:]]
    return lines


def default_in(values: Mapping[str, Any], key: Field) -> str:
    """What a key is if nobody sets it, shortened to 40 characters: its value in the mappings of a
    YAML file, or else its class's."""
    shown = _as_typed(_lookup(values, key.name)) if is_in(values, key) else key.default
    return shown if len(shown) <= 40 else f"{shown[:37]}..."


def is_in(values: Mapping[str, Any], key: Field) -> bool:
    """Whether the mappings of a YAML file have the key `a.b`."""
    outer, _, last = key.name.rpartition(".")
    inside = _lookup(values, outer) if outer else values
    return isinstance(inside, Mapping) and last in inside


def _lookup(values: Mapping[str, Any], name: str) -> Any:
    """The value at `a.b`; {} where there is none."""
    value: Any = values
    for part in name.split("."):
        value = value.get(part, {}) if isinstance(value, Mapping) else {}
    return value


def _as_typed(value: Any) -> str:
    """A YAML value as typed on the command line."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, Mapping):
        inner = ", ".join(f"{k}: {_as_typed(v)}" for k, v in value.items())
        return f"{{{inner}}}"
    if isinstance(value, list):
        return f"[{', '.join(map(_as_typed, value))}]"
    return "null" if value is None else str(value)
