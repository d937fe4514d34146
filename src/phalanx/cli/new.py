"""`phalanx new`: a folder for a user's own robots, with a worked example or a task for a robot."""

import contextlib
import os
import shlex
from collections.abc import Callable
from dataclasses import dataclass
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any

from phalanx.cli.console import Lines
from phalanx.cli.overrides import read_words
from phalanx.config import read
from phalanx.errors import PhalanxError

TEMPLATE_NAME = "my_robots"
"""The project's name in the template, replaced by the real one."""
KEPT = ("README.md", ".gitignore")
"""Files that a task for a robot does not overwrite in a project that has them."""


@dataclass(frozen=True)
class NewOptions:
    """Options of `phalanx new`."""

    folder: str
    """The project; the only argument without a key. With robot= it may exist."""
    robot: str | None = None
    """MJCF or URDF file, or a name of MuJoCo Menagerie, to write a task for; null writes Twip, a
    worked example."""
    task: str | None = None
    """Name of that task's class; null takes the file's name."""
    root: str | None = None
    """Body of the robot, in an MJCF with several below the world."""
    fixed_base: bool | None = None
    """Whether the robot's base is bolted to the world; null follows the file, and bolts a URDF
    without legs."""


def new(arguments: list[str]) -> None:
    """Write a project, or a task for a robot into one. Raises PhalanxError, before anything is
    written, if one of its files already exists."""
    options = _options(arguments)
    folder = Path(options.folder)
    if options.robot is None:
        files = dict(_files(resources.files("phalanx.templates") / "project"))
        _check_free(folder, files)
        _write(folder, files)
        about, task = "an example task, Twip, a robot that balances on two wheels:", "Twip"
        _say(folder, about, sorted(files), [], task)
        return
    from phalanx.cli.new_robot import robot_task
    from phalanx.cli.robot import downloads

    with downloads(Lines(stderr=True)) as on_progress:
        made = robot_task(
            options.robot, options.task, options.fixed_base, options.root, on_progress
        )
    files = {k: v for k, v in made.files.items() if k not in KEPT or not (folder / k).exists()}
    _check_free(folder, [*files, made.asset])
    _write(folder, files, made.write_asset, (folder / made.asset).parent)
    goal = made.goal[0].lower() + made.goal[1:].rstrip(".")
    about = f"the task {made.name} for {options.robot}: {goal}"
    _say(folder, about, [*sorted(files), made.asset], made.remarks, made.name)


def _options(arguments: list[str]) -> NewOptions:
    words = [a for a in arguments if "=" not in a]
    if len(words) != 1 or words[0].startswith("-"):
        given = f", not {' '.join(words)!r}" if words else ""
        raise PhalanxError(
            f"new takes the name of a folder, as in `phalanx new my_robots`{given}; and, to write a"
            " task for a robot, robot=<file> and task=<Name>"
        )
    texts = ("robot", "task", "root")
    options = read(NewOptions, read_words(arguments, NewOptions, "new", "folder", texts), "")
    for key in ("task", "root", "fixed_base"):
        if getattr(options, key) is not None and options.robot is None:
            raise PhalanxError(f"{key}= needs the robot's file as well, as in robot=go2.xml")
    return options


def _check_free(folder: Path, names: Any) -> None:
    taken = [folder / name for name in names if os.path.lexists(folder / name)]
    if taken or (folder.exists() and not folder.is_dir()):
        raise PhalanxError(
            f"{taken[0] if taken else folder} already exists and was not changed; choose another"
            " folder"
        )


def _write(
    folder: Path,
    files: dict[str, str],
    more: Callable[[Path], None] = lambda folder: None,
    into: Path | None = None,
) -> None:
    """Write texts by path, and what `more` writes below `into`. If that fails nothing is left, no
    folder either, so that one can try again."""
    written: list[Path] = []
    before = set(into.rglob("*")) if into else set()
    paths = [folder / name for name in files] + ([into / "file"] if into else [])
    folders = {parent for path in paths for parent in path.parents}
    made = sorted((p for p in folders if not os.path.exists(p)), reverse=True)
    try:
        for name, content in files.items():
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            written.append(path)
            own = folder.resolve().name if path.name == "README.md" else TEMPLATE_NAME
            path.write_text(content.replace(TEMPLATE_NAME, own), "utf-8")
        more(folder)
    except BaseException as error:
        for path in written:
            path.unlink(missing_ok=True)
        more_written = set(into.rglob("*")) - before if into else set()
        for path in sorted(more_written, reverse=True):  # what is in a folder, then the folder
            path.rmdir() if path.is_dir() else path.unlink(missing_ok=True)
        for path in made:
            with contextlib.suppress(OSError):  # not made yet, or with a file of another program
                path.rmdir()
        if not isinstance(error, OSError):
            raise
        reason = str(error.strerror).lower()
        raise PhalanxError(
            f"cannot write {error.filename or folder}: {reason}; choose another folder"
        ) from error


def _say(folder: Path, about: str, files: list[str], remarks: list[str], task: str) -> None:
    out = Lines().print
    out(f"{folder} has {about}", style="bold")
    for line in [*files, *remarks]:
        out(f"  {line}")
    there = "" if folder.resolve() == Path.cwd() else f"cd {shlex.quote(str(folder))} && "
    out(f"next:  {there}phalanx train task={shlex.quote(task)}")


def _files(folder: Traversable, prefix: str = "") -> list[tuple[str, str]]:
    """Paths in the template folder, and the files' text."""
    found: list[tuple[str, str]] = []
    for entry in folder.iterdir():
        if entry.is_dir() and entry.name != "__pycache__":
            found += _files(entry, f"{prefix}{entry.name}/")
        elif entry.is_file():
            found.append((prefix + entry.name, entry.read_text("utf-8")))
    return found
