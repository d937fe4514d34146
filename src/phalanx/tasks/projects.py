"""Tasks of a user's own project, found by name.

    my_robots/
      tasks/twip/twip.py      class Twip(Task); the class has the name of its folder
      cfg/task/Twip.yaml      values that differ from the class's Config; may be missing
      cfg/train/TwipPPO.yaml

A project is the nearest folder, from the working folder upwards, with a `cfg` and such a task.
There is no list to edit. A task file is read only when its task is asked for.
"""

import ast
import importlib.util
import sys
import traceback
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from phalanx.errors import PhalanxError, did_you_mean
from phalanx.gate import check_name, show
from phalanx.yaml_file import read_yaml

if TYPE_CHECKING:
    from phalanx.tasks.task import Task

SIZES = ("num_envs", "num_obs", "num_actions")
SECTIONS = ("env", "randomize", "randomization_params", "actuators")


@dataclass(frozen=True)
class Project:
    """A user's project folder."""

    root: Path
    tasks: dict[str, Path]
    """Task files by the name of their class."""


_beside: list[Path] = []


def look_beside(file: Path) -> None:
    """Where the working folder is in no project, find tasks in the project that contains `file`,
    a checkpoint or a policy. Raises PhalanxError for a name that the system refuses."""
    check_name(file)
    _beside[:] = [file.absolute()]


def find_project() -> Project | None:
    """The project that contains the working folder, or the file of `look_beside`; None if there is
    none."""
    try:
        here = [Path.cwd()]
    except OSError:  # the working folder is gone
        here = []
    found = (_project_around(place.resolve()) for place in [*here, *_beside])
    return next((project for project in found if project), None)


def _project_around(start: Path) -> Project | None:
    for root in (start, *start.parents):
        if (root / "cfg").is_dir() and (root / "tasks").is_dir():
            files = [p for p in sorted(root.glob("tasks/*/*.py")) if p.stem == p.parent.name]
            if files:
                return Project(root, {_task_name(file): file for file in files})
    return None


def _task_name(file: Path) -> str:
    """The class with the name of its file, which is `two_legs` or `twolegs` for `TwoLegs`."""
    wanted = file.stem.replace("_", "").lower()
    try:
        body = ast.parse(file.read_bytes()).body
    except (SyntaxError, ValueError, OSError):  # reported when the task is loaded
        body = []
    names = [n.name for n in body if isinstance(n, ast.ClassDef) and n.name.lower() == wanted]
    return names[0] if names else "".join(part.capitalize() for part in file.stem.split("_"))


def load_task(name: str, project: Project) -> "type[Task]":
    """The class of a project's task. Raises PhalanxError, with file and line, for a file that
    cannot be imported or a class that is no task."""
    from phalanx.tasks.task import Task, TaskConfig  # imports PyTorch, which finding tasks avoids

    file = project.tasks[name]
    cls = getattr(_module(file, project.root), name, None)
    if cls is None:
        raise PhalanxError(f"{file} defines no class {name}")
    if not (isinstance(cls, type) and issubclass(cls, Task)):
        raise PhalanxError(f"{file}: {name} is not a subclass of phalanx.tasks.Task")
    if not issubclass(cls.Config, TaskConfig):
        raise PhalanxError(f"{file}: {name}.Config is not a subclass of phalanx.tasks.TaskConfig")
    return cls


def _module(file: Path, root: Path) -> ModuleType:
    name = f"phalanx_project_{file.stem}"
    loaded = sys.modules.get(name)
    if loaded is not None and loaded.__file__ == str(file):
        return loaded
    if str(root) not in sys.path:  # so that a task file can import its neighbours
        sys.path.insert(0, str(root))
    spec = importlib.util.spec_from_file_location(name, file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException as error:
        del sys.modules[name]
        if isinstance(error, PhalanxError) or not isinstance(error, Exception):
            raise
        raise PhalanxError(_where_and_why(error, file)) from error
    return module


def _where_and_why(error: Exception, file: Path) -> str:
    if isinstance(error, SyntaxError) and error.filename:
        return f"{error.filename}, line {error.lineno}: {error.msg}"
    frames = traceback.extract_tb(error.__traceback__)
    lines = [f.lineno for f in frames if f.filename == str(file)]
    return f"{file}, line {lines[-1] if lines else 1}: {_words(error)}"


def fault_in_project(error: BaseException) -> str:
    """Where in the project's own files an exception arose while a task ran, and with which sizes,
    as one sentence; empty if it passed through none of them."""
    project = find_project()
    if project is None:
        return ""
    found = ""
    for frame, line in traceback.walk_tb(error.__traceback__):
        file, task = Path(frame.f_code.co_filename), frame.f_locals.get("self")
        if file not in project.tasks.values():
            continue
        found = f"{file}, line {line}, in {frame.f_code.co_name}: {_words(error)}"
        sizes = [f"{k} = {getattr(task, k)}" for k in SIZES if hasattr(task, k)]
        found += f" ({', '.join(sizes)})" if sizes else ""
    return found


def _words(error: BaseException) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())}"


def read_settings(file: Path) -> dict[str, Any]:
    """A `cfg/task/<Task>.yaml`: {"env": {...}, "randomize": ..., ...}, {} where there is no file.

    IsaacGymEnvs' `task: {randomize, randomization_params}` is accepted as well. Raises
    PhalanxError, naming the file, for anything but a mapping of these keys.
    """
    if not file.is_file():
        return {}
    values = dict(_mapping(read_yaml(file), str(file)))
    values |= _mapping(values.pop("task", {}), f"{file}: task")
    for key in values:
        if key not in SECTIONS:
            near = did_you_mean(str(key), SECTIONS) or f"; accepted: {', '.join(SECTIONS)}"
            raise PhalanxError(f"{file}: unknown key {key}{near}")
    for key in set(SECTIONS) - {"randomize"}:
        if key in values:
            values[key] = dict(_mapping(values[key], f"{file}: {key}"))
    return values


def _mapping(value: Any, what: str) -> Mapping[str, Any]:
    if value is not None and not isinstance(value, Mapping):
        raise PhalanxError(f"{what} is {show(value)}; it must be a mapping of keys to values")
    return value or {}
