"""Finds modules that a program names in strings: in calls such as `import_module("tasks.hand")`,
and as `_target_` of the YAML files in the folder that it gives to Hydra.

Only strings that stand in the code or in those files; of `f"tasks.{name}"`, whatever is in `tasks`.
"""

import ast
import os
import re
from collections.abc import Iterator
from pathlib import Path

from phalanx.cli.doctor_read import SKIPPED, Source
from phalanx.errors import PhalanxError
from phalanx.gate import MB, read_bytes

CALLS = {
    "importlib.import_module", "pydoc.locate",
    "hydra.utils.get_class", "hydra.utils.get_method", "hydra.utils.get_object",
}  # fmt: skip
"""Functions whose first argument is the name of a module, or of something in one."""
FOLDERS = {"hydra.main", "hydra.initialize", "hydra.experimental.initialize"}
"""Functions that take `config_path`, relative to the program's folder."""
MAKERS = CALLS | {"hydra.utils.instantiate", "hydra.utils.call"}
"""What a program uses that makes the classes of that folder; others only read its values."""
TARGET = re.compile(r"""^[^#\n]*?(?<!\w)_target_["']?\s*:\s*["']?([A-Za-z_][\w.]*)""", re.MULTILINE)
NAME = re.compile(r"\.*[A-Za-z_][\w.]*$")
MAX_FILE, MAX_FILES = MB // 4, 2000
Named = tuple[str, int]
"""A name, and the line of the program that leads to it. If it ends with a dot, the rest is not
known; if it begins with dots, it is relative to the program's package."""


def named(root: Path, sources: list[Source]) -> dict[str, list[Named]]:
    """The names in strings of each file, as far as any folder of Hydra's is below `root`."""
    targets: dict[Path, list[str]] = {}
    found = {}
    for source in sources:
        names = list(_in_code(source))
        for path, line in _folders(source) if MAKERS & _used(source) else ():
            folder = Path(os.path.normpath(root / source.file / ".." / path))
            if folder not in targets:
                targets[folder] = _targets(folder) if folder.is_relative_to(root) else []
            names += [(name, line) for name in targets[folder]]
        found[source.file] = names
    return found


def _in_code(source: Source) -> Iterator[Named]:
    for node in source.nodes:
        for value in _values(node, source):
            if name := _known(value):
                yield name, value.lineno


def _values(node: ast.AST, source: Source) -> Iterator[ast.expr]:
    """What names a module: an argument of `CALLS`, or `_target_` in a dict, a call or a class."""
    if isinstance(node, ast.Call) and source.dotted(node.func) in CALLS:
        yield from node.args[:1]
    elif isinstance(node, ast.keyword) and node.arg == "_target_":
        yield node.value
    elif isinstance(node, ast.AnnAssign) and ast.unparse(node.target) == "_target_":
        yield from [node.value] if node.value else []
    elif isinstance(node, ast.Dict):
        for key, value in zip(node.keys, node.values, strict=True):
            if isinstance(key, ast.Constant) and key.value == "_target_":
                yield value


def _known(node: ast.expr) -> str:
    """The string, or what is known of it up to a dot; "" if nothing is."""
    pieces = node.values if isinstance(node, ast.JoinedStr) else [node]
    first = pieces[0] if pieces else None
    text = first.value if isinstance(first, ast.Constant) else ""
    if not isinstance(text, str) or not NAME.match(text):
        return ""
    return text if first is node else text[: text.rfind(".") + 1]


def _used(source: Source) -> set[str]:
    """Full names of the imported names that a file uses."""
    return {source.dotted(n) for n in source.nodes if isinstance(n, ast.Name | ast.Attribute)}


def _folders(source: Source) -> Iterator[tuple[str, int]]:
    for node in source.nodes:
        if isinstance(node, ast.Call) and source.dotted(node.func) in FOLDERS:
            given = [k.value for k in node.keywords if k.arg == "config_path"] or node.args[:1]
            for value in given:
                if isinstance(value, ast.Constant) and isinstance(value.value, str):
                    yield value.value, node.lineno


def _targets(folder: Path) -> list[str]:
    """The `_target_` names of all YAML files in a folder, each once."""
    names: dict[str, None] = {}
    read = 0
    for here, inner, files in os.walk(folder):
        inner[:] = sorted(n for n in inner if not n.startswith(".") and n not in SKIPPED)
        for file in sorted(files):
            if file.endswith((".yaml", ".yml")) and read < MAX_FILES:
                read += 1
                try:
                    text = read_bytes(Path(here, file), MAX_FILE).decode("utf8", "replace")
                except PhalanxError:
                    continue
                names |= dict.fromkeys(TARGET.findall(text))
    return list(names)
