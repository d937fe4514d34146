"""`phalanx doctor`: checks what a repository written for Isaac Gym needs to run today.

    phalanx doctor ~/legged_gym
    phalanx doctor ~/legged_gym all=true json=report.json

It parses the files without importing or running them. It does not find names that are built at run
time, nor names that one file of the repository imports from another with `import *`.
"""

import json
from dataclasses import dataclass
from pathlib import Path

from phalanx import config
from phalanx.cli.console import Lines
from phalanx.cli.doctor_api import installed_support
from phalanx.cli.doctor_read import read
from phalanx.cli.doctor_report import examine
from phalanx.cli.doctor_show import show, show_all
from phalanx.cli.overrides import read_words
from phalanx.errors import PhalanxError
from phalanx.files import check_place, write_atomically


@dataclass(frozen=True)
class DoctorOptions:
    """Options of `phalanx doctor`."""

    path: str
    """Repository, folder or file; the only argument without a key."""
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
    values = read_words(arguments, DoctorOptions, "doctor", "path", ("json",))
    if "path" not in values:
        raise PhalanxError("doctor needs a path, as in phalanx doctor ~/legged_gym")
    options = config.read(DoctorOptions, values, "")
    root = Path(options.path).expanduser()
    if not root.exists():
        raise PhalanxError(f"there is no file or folder {root}")
    if options.json not in (None, "-"):
        check_place(Path(options.json), "json=")
    return root, options
