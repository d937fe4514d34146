"""`phalanx new`: a folder for a user's own robots, with a worked example."""

import os
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path

from rich.console import Console

from phalanx.errors import PhalanxError

TEMPLATE_NAME = "my_robots"
"""The project's name in the template, replaced by the real one."""


def new(arguments: list[str]) -> None:
    """Create the folder given as the only argument. Raises PhalanxError, before anything is
    written, if one of its files already exists."""
    if len(arguments) != 1 or "=" in arguments[0] or arguments[0].startswith("-"):
        given = f", not {' '.join(arguments)!r}" if arguments else ""
        raise PhalanxError(f"new takes the name of a folder, as in phalanx new my_robots{given}")
    folder = Path(arguments[0])
    files = dict(_files(resources.files("phalanx.templates") / "project"))
    taken = [folder / name for name in files if os.path.lexists(folder / name)]
    if taken or (folder.exists() and not folder.is_dir()):
        raise PhalanxError(
            f"{taken[0] if taken else folder} already exists and was not changed; choose another"
            " folder"
        )
    try:
        for name, content in files.items():
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(content.replace(TEMPLATE_NAME, folder.resolve().name))
    except OSError as error:
        raise PhalanxError(f"cannot write {error.filename}: {error.strerror}") from error
    out = Console(highlight=False, soft_wrap=True).print
    out(f"[bold]{folder}[/bold] has an example task, Twip, a robot that balances on two wheels:")
    for name in sorted(files):
        out(f"  {name}", markup=False)
    out(f"next:  cd {folder} && phalanx train task=Twip", markup=False)


def _files(folder: Traversable, prefix: str = "") -> list[tuple[str, str]]:
    """Paths in the template folder, and the files' text."""
    found: list[tuple[str, str]] = []
    for entry in folder.iterdir():
        if entry.is_dir() and entry.name != "__pycache__":
            found += _files(entry, f"{prefix}{entry.name}/")
        elif entry.is_file():
            found.append((prefix + entry.name, entry.read_text()))
    return found
