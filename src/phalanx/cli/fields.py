"""Reads the fields of a dataclass from its source: name, default, range, unit and meaning.

    for field in fields("phalanx.rl.config:PPOConfig"): ...

The source is parsed, not imported: `phalanx train --help` must neither wait for PyTorch nor run a
user's task file.
"""

import ast
import dataclasses
import functools
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import phalanx

ROOT = Path(phalanx.__file__).parents[1]
WORDS = {"None": "null", "True": "true", "False": "false"}


@dataclass(frozen=True)
class Field:
    """One key that a user can set."""

    name: str
    """`player.games_num` for a field of a dataclass inside a dataclass."""
    default: str
    """As typed on the command line; empty for a required key."""
    meaning: str
    """The docstring under the field, with its unit in brackets, and its range."""
    is_section: bool = False
    """Whether it is itself a dataclass, whose fields follow."""


@dataclass(frozen=True)
class ClassSource:
    """A class statement and the file that it stands in."""

    file: "Source"
    node: ast.ClassDef

    def docstring(self) -> str:
        """The class's docstring, empty if it has none."""
        return ast.get_docstring(self.node) or ""

    def constant(self, name: str) -> ast.expr | None:
        """The value that the class, or a base, assigns to `name`."""
        for cls in self.lineage():
            for statement in cls.node.body:
                if _target(statement) == name:
                    return statement.value  # type: ignore[attr-defined]
        return None

    def lineage(self) -> list["ClassSource"]:
        """The class and its bases, nearest first, if their sources are available."""
        found = [self]
        for base in self.node.bases:
            cls = self.file.find(ast.unparse(base))
            found += cls.lineage() if cls else []
        return found


class Source:
    """A parsed Python file. Raises OSError, or SyntaxError if it is not Python."""

    def __init__(self, path: Path) -> None:
        self.path = path
        body = ast.parse(path.read_bytes(), str(path)).body
        self.classes = {n.name: n for n in body if isinstance(n, ast.ClassDef)}
        self.imports = {
            alias.asname or alias.name: (node.module, alias.name)
            for node in body
            if isinstance(node, ast.ImportFrom) and node.module
            for alias in node.names
        }
        self.constants = {
            name: n.value  # type: ignore[attr-defined]
            for n in body
            if (name := _target(n))
        }

    def find(self, name: str) -> ClassSource | None:
        """The class of that name, if it is defined here or imported from Phalanx or from this
        file's project."""
        if name in self.classes:
            return ClassSource(self, self.classes[name])
        module, original = self.imports.get(name, ("", ""))
        source = _of_module(module, self.path) if module else None
        return source.find(original) if source else None


@functools.cache
def source(path: Path) -> Source:
    """The parsed file at `path`."""
    return Source(path)


def _of_module(module: str, importer: Path) -> Source | None:
    parts = Path(*module.split("."))
    for root in (ROOT, *importer.parents[:4]):
        for path in (root / parts.with_suffix(".py"), root / parts / "__init__.py"):
            if path.is_file():
                return source(path)
    return None


def find_class(place: str) -> ClassSource:
    """The class at "module:Name", of Phalanx."""
    module, _, name = place.partition(":")
    file = _of_module(module, ROOT)
    found = file.find(name) if file else None
    assert found is not None, place
    return found


def fields(cls: ClassSource, prefix: str = "", nested: bool = True) -> list[Field]:
    """The fields of a dataclass in their order, those of its bases first. With `nested`, a field
    that is itself a dataclass, or read by one, is followed by its fields, as `outer.inner`."""
    found: dict[str, list[Field]] = {}
    docs: dict[str, str] = {}
    for owner in reversed(cls.lineage()):
        for statement, doc in _declared(owner.node):
            name = prefix + statement.target.id  # type: ignore[union-attr]
            docs[name] = doc or docs.get(name, "")  # a subclass may only change the default
            found[name] = [_field(name, statement, docs[name], owner.file)]
            for word in ast.walk(statement.annotation) if nested else ():
                inner = _class_of(word, owner.file)
                if inner and _is_dataclass(inner.node):
                    first, *rest = found[name]
                    first = dataclasses.replace(first, is_section=first.default != "null")
                    own = _with_given(fields(inner, f"{name}."), name, statement, owner.file)
                    if name == prefix + "rewards":
                        own = [_of_a_term(field) for field in own]
                    found[name] = [first, *rest, *own]
    return [field for group in found.values() for field in group]


def _class_of(word: ast.AST, file: Source) -> ClassSource | None:
    """The class that a part of an annotation names, as itself or as "module:Name"."""
    if isinstance(word, ast.Constant) and re.fullmatch(r"phalanx[\w.]*:\w+", str(word.value)):
        return find_class(str(word.value))
    return file.find(word.id) if isinstance(word, ast.Name) else None


def _with_given(own: list[Field], name: str, statement: ast.AnnAssign, file: Source) -> list[Field]:
    """The fields of the part `name` with the defaults that the outer class gives it, as in
    `field(default_factory=lambda: Weights(torque=-1e-5))`."""
    calls = [n for n in ast.walk(statement) if isinstance(n, ast.Call)]
    made = [k for call in calls for k in call.keywords if _name(call) not in ("field", "ranged")]
    given = {f"{name}.{k.arg}": _text(k.value, file) for k in made if k.arg}
    return [dataclasses.replace(f, default=given.get(f.name, f.default)) for f in own]


def _of_a_term(field: Field) -> Field:
    """A weight of a reward, which has a meaning even where its dataclass gives none."""
    term = field.name.rpartition(".")[2].replace("_", " ")
    return field if field.meaning else dataclasses.replace(field, meaning=f"Weight of {term}.")


def _declared(node: ast.ClassDef) -> Iterator[tuple[ast.AnnAssign, str]]:
    """Annotated names of a class, each with the docstring under it."""
    for k, statement in enumerate(node.body):
        if not isinstance(statement, ast.AnnAssign):
            continue
        if "ClassVar" in ast.unparse(statement.annotation) or not _is_dataclass(node):
            continue
        after = node.body[k + 1] if k + 1 < len(node.body) else None
        text = after.value if isinstance(after, ast.Expr) else None
        doc = text.value if isinstance(text, ast.Constant) else ""
        yield statement, " ".join(str(doc).split())


def _is_dataclass(node: ast.ClassDef) -> bool:
    return any("dataclass" in ast.unparse(d) for d in node.decorator_list)


def _field(name: str, statement: ast.AnnAssign, doc: str, file: Source) -> Field:
    value, bounds = statement.value, ""
    if isinstance(value, ast.Call) and ast.unparse(value.func).split(".")[-1] in (
        "ranged",
        "field",
    ):
        options = {k.arg: k.value for k in value.keywords}
        bounds = ", ".join(
            f"{k.replace('_', ' ')} {_text(options[k], file)}"
            for k in ("above", "at_least", "at_most")
            if k in options
        )
        factory = options.get("default_factory")
        if isinstance(factory, ast.Lambda):
            value = factory.body
        elif factory is not None:
            value = ast.Dict([], []) if ast.unparse(factory) == "dict" else None
        else:
            value = value.args[0] if value.args else options.get("default")
    choices = _choices(statement.annotation)
    allowed = " or ".join([*choices, *([f"({bounds})"] if bounds and choices else [])]) or bounds
    meaning = f"{doc} ({allowed})".lstrip() if allowed else doc
    for python, yaml in WORDS.items():  # as it is typed
        meaning = re.sub(rf"\b{python}\b", yaml, meaning)
    return Field(name, "" if value is None else _text(value, file), meaning)


def _choices(annotation: ast.expr) -> list[str]:
    """The values of a Literal in the annotation."""
    for node in ast.walk(annotation):
        if isinstance(node, ast.Subscript) and ast.unparse(node.value) == "Literal":
            options = node.slice.elts if isinstance(node.slice, ast.Tuple) else [node.slice]
            return [str(o.value) for o in options if isinstance(o, ast.Constant)]
    return []


def _text(value: ast.expr, file: Source) -> str:
    """A default value as typed on the command line."""
    if isinstance(value, ast.Name) and value.id in file.constants:
        return _text(file.constants[value.id], file)
    if isinstance(value, ast.Constant):
        return str(value.value) if isinstance(value.value, str) else WORDS.get(
            ast.unparse(value), ast.unparse(value)
        )  # fmt: skip
    if isinstance(value, ast.Tuple | ast.List):
        return f"[{', '.join(_text(v, file) for v in value.elts)}]"
    if isinstance(value, ast.Call) and not value.args and file.find(_name(value)):
        return ""  # a dataclass; its fields are listed below it
    if isinstance(value, ast.Call) and _name(value) == "str":
        return _text(value.args[0], file)
    if "__file__" in ast.unparse(value):  # a path below the source: show its last part
        return next(str(n.value) for n in ast.walk(value) if isinstance(n, ast.Constant))
    return ast.unparse(value).replace("'", "").replace("float(inf)", "inf").replace(" ** ", "^")


def _name(call: ast.Call) -> str:
    return ast.unparse(call.func)


def _target(statement: ast.stmt) -> str:
    """The name that a statement assigns to; empty if it is not a single name."""
    if isinstance(statement, ast.AnnAssign) and statement.value is not None:
        return ast.unparse(statement.target)
    if isinstance(statement, ast.Assign) and len(statement.targets) == 1:
        return ast.unparse(statement.targets[0])
    return ""
