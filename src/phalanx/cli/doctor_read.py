"""Parses the Python files of a repository, without running them, and resolves names in them."""

import ast
import os
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from phalanx.errors import PhalanxError, printable
from phalanx.gate import MB, read_bytes, reason, size

MAX_FILE, MAX_TOTAL, MAX_FILES = 2 * MB, 30 * MB, 20_000
"""Bytes of a file and of all; a tree takes about fifty times as much."""
MAX_DEPTH = 250
"""Levels of a tree; Python's own library has up to 100."""
SKIPPED = {"node_modules", "site-packages", "__pycache__", "build", "dist"}


@dataclass
class Uses:
    """Number and places of something's occurrences."""

    count: int = 0
    places: list[str] = field(default_factory=list)
    """`file:line` of the first in each file."""
    everywhere: list[tuple[str, int]] = field(default_factory=list)
    """(file, line) of each."""

    def add(self, file: str, line: int) -> None:
        self.count += 1
        self.everywhere.append((file, line))
        if not self.places or self.places[-1].rpartition(":")[0] != file:
            self.places.append(f"{file}:{line}")


@dataclass
class Source:
    """One parsed file."""

    file: str
    """Path inside the repository."""
    tree: ast.Module
    nodes: list[ast.AST]
    """All of the tree, in the order of their lines."""
    names: dict[str, str]
    """Full names of imported names, anywhere in the file: `np` -> `numpy`."""
    stars: list[str]
    """Modules imported with `import *`."""
    escapes: list[int]
    """Lines with an invalid escape sequence such as `"\\d"`, which Python will reject one day."""
    text: str = ""

    def dotted(self, node: ast.AST) -> str:
        """`numpy.random.rand` for the node of `np.random.rand`; "" if it is not an imported
        name."""
        if isinstance(node, ast.Name):
            return self.names.get(node.id, "")
        if isinstance(node, ast.Attribute):
            base = self.dotted(node.value)
            return f"{base}.{node.attr}" if base else ""
        return ""


def python_files(root: Path) -> list[Path]:
    """Python files below a folder, or the file itself; without hidden folders, virtual environments
    and copies of the original isaacgym with its examples."""
    if root.is_file():
        return [root]
    files: list[Path] = []
    for folder, inner, names in os.walk(root):
        if len(files) > MAX_FILES:
            raise PhalanxError(
                f"{root} has more than {MAX_FILES} Python files; give one of its folders"
            )
        here = Path(folder)
        inner[:] = sorted(n for n in inner if not n.startswith(".") and n not in SKIPPED)
        original = here.name == "isaacgym" and "gymapi.py" in names
        original |= here.name == "python" and (here / "isaacgym" / "gymapi.py").exists()
        if original or "pyvenv.cfg" in names:
            inner.clear()
            continue
        files += [here / n for n in sorted(names) if n.endswith(".py")]
    return files


def read(root: Path) -> tuple[list[Source], dict[str, str]]:
    """All files that are Python 3, and the reason for each that is left out. Raises PhalanxError
    for more than can be examined at once."""
    sources, left_out, total = [], {}, 0
    for path in python_files(root):
        file = printable(path.name if path == root else path.relative_to(root).as_posix())
        try:
            text = read_bytes(path, MAX_FILE)
            sources.append(parse(file, text))
        except PhalanxError as error:
            left_out[file] = str(error)
            continue
        total += len(text)
        if total > MAX_TOTAL:
            raise PhalanxError(
                f"{root} has more than {size(MAX_TOTAL)} of Python; give one of its folders"
            )
    return sources, left_out


def tree_of(text: bytes, file: str) -> tuple[ast.Module, list[ast.AST]]:
    """A file's tree, and all of its nodes. Raises PhalanxError, with the reason alone, if it is not
    valid in this version of Python, or nested deeper than any program."""
    try:
        tree = ast.parse(text, file)
    except SyntaxError as error:  # without a line for a null byte or an unknown encoding
        line = f" line {error.lineno}:" if error.lineno else ""
        raise PhalanxError(f"not Python 3:{line} {error.msg}") from error
    except (ValueError, RecursionError, MemoryError) as error:  # a null byte, deep nesting
        raise PhalanxError(f"not Python 3: {reason(error)}") from error
    nodes: list[ast.AST] = []
    level: list[ast.AST] = [tree]
    depth = 0
    while level:
        depth += 1
        if depth > MAX_DEPTH:
            raise PhalanxError(f"nested more than {MAX_DEPTH} deep")
        nodes += level
        level = [child for node in level for child in ast.iter_child_nodes(node)]
    return tree, nodes


def parse(file: str, text: bytes) -> Source:
    """Parse one file. Raises PhalanxError, as `tree_of` does."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        tree, nodes = tree_of(text, file)
    escapes = sorted({w.lineno for w in caught if "invalid escape" in str(w.message)})
    nodes.sort(key=lambda n: getattr(n, "lineno", 0))
    names, stars = {}, []
    for node in nodes:
        if isinstance(node, ast.Import):
            for alias in node.names:
                top = alias.name.split(".")[0]
                names[alias.asname or top] = alias.name if alias.asname else top
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            for alias in node.names:
                if alias.name == "*":
                    stars.append(node.module)
                else:
                    names[alias.asname or alias.name] = f"{node.module}.{alias.name}"
    if "isaacgym.torch_utils" in stars:  # clients rely on these two
        names = {"np": "numpy", "torch": "torch"} | names
    return Source(file, tree, nodes, names, stars, escapes, text.decode("utf8", "replace"))


def imported(source: Source) -> Iterator[tuple[str, int, bool]]:
    """Each imported module, its line, and whether the import is at module level: not in a function,
    a `try` or an `if`. `from a import b` gives a and a.b."""
    later = (ast.FunctionDef, ast.AsyncFunctionDef, ast.Try, ast.If)

    def walk(node: ast.AST, at_once: bool) -> Iterator[tuple[str, int, bool]]:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.Import):
                yield from ((a.name, child.lineno, at_once) for a in child.names)
            elif isinstance(child, ast.ImportFrom) and child.module and not child.level:
                yield child.module, child.lineno, at_once
                for alias in child.names:
                    yield f"{child.module}.{alias.name}", child.lineno, at_once
            elif not isinstance(child, ast.expr):
                yield from walk(child, at_once and not isinstance(child, later))

    yield from walk(source.tree, True)


def unparsed(left_out: dict[str, str]) -> list[Source]:
    """The Python files among those left out, as files without content: others may import them."""
    empty = ast.Module([], [])
    return [Source(f, empty, [], {}, [], []) for f in left_out if f.endswith(".py")]


def local_names(root: Path, sources: list[Source]) -> set[str]:
    """Names of the repository's own modules and packages, anywhere in it."""
    parts = {part for s in sources for part in Path(s.file).with_suffix("").parts}
    return parts | {root.resolve().name}
