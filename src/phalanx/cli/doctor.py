"""`phalanx doctor`: checks what a repository written for Isaac Gym needs to run today.

    phalanx doctor ~/legged_gym
    phalanx doctor ~/legged_gym all=true json=report.json

It parses the files without importing or running them. It does not find names that are built at run
time, nor names that one file of the repository imports from another with `import *`.
"""

import json
from dataclasses import dataclass
from pathlib import Path

from phalanx.cli.console import Lines
from phalanx.cli.doctor_api import installed_support
from phalanx.cli.doctor_read import read
from phalanx.cli.doctor_report import examine
from phalanx.cli.doctor_show import show, show_all
from phalanx.errors import PhalanxError
from phalanx.files import write_atomically


@dataclass(frozen=True)
class DoctorOptions:
    """Options of `phalanx doctor`."""

    all: bool = False
    """Also list every Isaac Gym name, every problem and every version that differs."""
    json: str | None = None
    """File for the whole report as JSON; - writes it to stdout instead of the tables."""


def doctor(arguments: list[str]) -> int:
    """Print the report. Returns 0 if the repository should run, 1 if something needs attention.
    Raises PhalanxError for a path that does not exist or has no Python file."""
    root, options = _read(arguments)
    sources, unreadable = read(root)
    if not sources and not unreadable:
        raise PhalanxError(f"there is no Python file in {root}")
    report = examine(root, sources, unreadable, installed_support())
    file = options.json
    if file == "-":
        print(json.dumps(report, indent=1))
    else:
        console = Lines()
        (show_all if options.all else show)(console, report)
        if file:
            write_atomically(Path(file), (json.dumps(report, indent=1) + "\n").encode())
            console.print(f"written: {file}")
    return 0 if report["will_run"] else 1


def _read(arguments: list[str]) -> tuple[Path, DoctorOptions]:
    paths = [a for a in arguments if "=" not in a and not a.startswith("-")]
    files = [a.removeprefix("json=") for a in arguments if a.startswith("json=")]
    wholes = [a for a in arguments if a in ("all=true", "all=false")]
    others = set(arguments) - set(paths) - set(wholes) - {f"json={f}" for f in files}
    if others:
        raise PhalanxError(
            f"doctor takes a path, all=true and json=<file>, but {others.pop()!r} was given"
        )
    if len(paths) != 1:
        raise PhalanxError("doctor needs one path, as in phalanx doctor ~/legged_gym")
    root = Path(paths[0]).expanduser()
    if not root.exists():
        raise PhalanxError(f"there is no file or folder {root}")
    if files and files[-1] != "-" and not Path(files[-1]).parent.is_dir():
        raise PhalanxError(f"cannot write {files[-1]}: there is no folder {Path(files[-1]).parent}")
    if files and Path(files[-1]).is_dir():
        raise PhalanxError(f"cannot write {files[-1]}: it is a folder; give a file in it")
    return root, DoctorOptions("all=true" in wholes[-1:], files[-1] if files else None)
