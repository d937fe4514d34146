"""`phalanx doctor`: checks what a repository written for Isaac Gym needs to run today.

    phalanx doctor ~/legged_gym
    phalanx doctor ~/legged_gym json=report.json

It parses the files without importing or running them. It does not find names that are built at run
time, nor names that one file of the repository imports from another with `import *`.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from phalanx.cli.doctor_api import (
    NO_SUCH_NAME,
    UNKNOWN,
    Support,
    calls,
    installed_support,
    works,
)
from phalanx.cli.doctor_install import (
    BY_HAND,
    SHIMMED,
    commands,
    installed,
    missing,
    refused,
    requirements,
)
from phalanx.cli.doctor_read import Source, local_names, read
from phalanx.cli.doctor_rot import ONNX, SHIM, problems
from phalanx.errors import PhalanxError
from phalanx.files import write_atomically

PLACES = 3
"""Number of places shown for each problem; json= has one for every file."""


@dataclass(frozen=True)
class DoctorOptions:
    """Options of `phalanx doctor`."""

    json: str | None = None
    """File for the whole report as JSON; - writes it to stdout instead of the tables."""


Report = dict[str, Any]


def doctor(arguments: list[str]) -> int:
    """Print the report. Returns 0 if the repository should run, 1 if something needs attention.
    Raises PhalanxError for a path that does not exist or has no Python file."""
    root, file = _read(arguments)
    sources, unreadable = read(root)
    if not sources and not unreadable:
        raise PhalanxError(f"there is no Python file in {root}")
    report = examine(root, sources, unreadable, installed_support())
    if file == "-":
        print(json.dumps(report, indent=1))
    else:
        console = Console(highlight=False)
        if not console.is_terminal:
            console.width = 160  # files have no width limit
        show(console, report)
        if file:
            write_atomically(Path(file), (json.dumps(report, indent=1) + "\n").encode())
            console.print(f"written: {file}", soft_wrap=True)
    return 0 if report["will_run"] else 1


def _read(arguments: list[str]) -> tuple[Path, str | None]:
    paths = [a for a in arguments if "=" not in a and not a.startswith("-")]
    files = [a.removeprefix("json=") for a in arguments if a.startswith("json=")]
    others = set(arguments) - set(paths) - {f"json={f}" for f in files}
    if others:
        raise PhalanxError(f"doctor takes a path and json=<file>, but {others.pop()!r} was given")
    if len(paths) != 1:
        raise PhalanxError("doctor needs one path, as in phalanx doctor ~/legged_gym")
    root = Path(paths[0]).expanduser()
    if not root.exists():
        raise PhalanxError(f"there is no file or folder {root}")
    if files and files[-1] != "-" and not Path(files[-1]).parent.is_dir():
        raise PhalanxError(f"cannot write {files[-1]}: there is no folder {Path(files[-1]).parent}")
    if files and Path(files[-1]).is_dir():
        raise PhalanxError(f"cannot write {files[-1]}: it is a folder; give a file in it")
    return root, files[-1] if files else None


def examine(
    root: Path, sources: list[Source], unreadable: dict[str, str], support: Support | None
) -> Report:
    """The whole report, ready for JSON. `support` is None without a drop-in."""
    local = local_names(root, sources)
    used = calls(sources, support or {})
    states = {n: UNKNOWN if support is None else support.get(n, NO_SUCH_NAME) for n in used}
    found = problems(sources, local)
    asked, left_out = requirements(root)
    unmet = {file: bad for file, lines in asked.items() if (bad := refused(lines))}
    needs = missing(sources, local, [line for lines in asked.values() for line in lines])
    if support is None and used and "isaacgym" not in needs:
        needs.insert(0, "isaacgym")  # another package of that name is installed
    by_hand = {n: BY_HAND[n] for n in needs if n in BY_HAND}
    shimmed = [p for p in found if SHIM in p.fix] or set(by_hand) & set(SHIMMED)
    if ONNX in found and not installed("onnxscript"):
        needs += ["onnx", "onnxscript"]
    install = commands(root, needs, pinned=bool(unmet))
    return {
        "path": str(root),
        "files": len(sources),
        "unreadable": unreadable | left_out,
        "calls": {
            n: {"state": states[n], "count": uses.count, "places": uses.places}
            for n, uses in used.items()
        },
        "problems": [
            {
                "what": p.what,
                "fix": p.fix,
                "breaks": p.breaks,
                "count": uses.count,
                "places": uses.places,
            }
            for p, uses in found.items()
        ],
        "unmet_requirements": unmet,
        "missing_packages": needs,
        "by_hand": by_hand,
        "install": install + ([f"export {SHIM}"] if shimmed else []),
        "will_run": not any(p.breaks for p in found)
        and not needs
        and not unmet
        and all(map(works, states.values())),
    }


def show(console: Console, report: Report) -> None:
    """Print the report as tables, followed by the verdict."""
    used = report["calls"]
    _show_calls(console, used)
    for file, why in report["unreadable"].items():
        console.print(f"left out: {file}: {why}", soft_wrap=True, markup=False)
    if report["problems"]:
        console.print("\n[bold]What no longer works with today's Python and packages[/bold]")
        table = _table("uses", "what", "fix", "where")
        for p in report["problems"]:
            mark = "" if p["breaks"] else " (may still run)"
            cells = (str(p["count"]), p["what"] + mark, p["fix"], _places(p["places"]))
            table.add_row(*map(Text, cells))
        console.print(table)
    if report["unmet_requirements"]:
        console.print("\n[bold]Required versions that are not available here[/bold]")
        for file, lines in report["unmet_requirements"].items():
            console.print(f"{file}: {', '.join(lines)}", markup=False)
    for name, why in report["by_hand"].items():
        shim = f"; {SHIM} makes it importable" if name in SHIMMED else ""
        console.print(f"{name} {why}{shim}", markup=False)
    if report["install"]:
        console.print("\n[bold]To install[/bold]")
        for line in report["install"]:
            console.print(f"  {line}", soft_wrap=True, markup=False)
    console.print(f"\n{_verdict(report)}", soft_wrap=True)


def _show_calls(console: Console, used: Report) -> None:
    if not used:
        console.print("It makes no Isaac Gym calls.")
        return
    table = _table("Isaac Gym name", "uses", "first", "state")
    for name, use in sorted(used.items(), key=lambda item: works(item[1]["state"])):
        table.add_row(*map(Text, (name, str(use["count"]), use["places"][0], use["state"])))
    console.print(table)


def _verdict(report: Report) -> str:
    used = report["calls"].values()
    states = [use["state"] for use in used]
    words = [f"{report['files']} files"]
    if used:
        words.append(f"{len(used)} Isaac Gym names")
        refused = sum(not works(state) for state in states)
        words += [f"{refused} of them refused where they are reached"] if refused else []
        if UNKNOWN in states:
            words[-1] = "their state is unknown until the drop-in is installed"
    broken = sum(p["breaks"] for p in report["problems"])
    if broken:
        words.append(f"{broken} other things break" if broken > 1 else "1 other thing breaks")
    verdict = (
        "[green]should run[/green]" if report["will_run"] else "[yellow]needs attention[/yellow]"
    )
    return f"[bold]{verdict}[/bold]: {', '.join(words)}"


def _table(*headings: str) -> Table:
    table = Table(box=None, pad_edge=False)
    for heading in headings:
        right = heading == "uses"
        whole = heading in ("uses", "Isaac Gym name")
        table.add_column(
            heading, justify="right" if right else "left", no_wrap=whole, overflow="fold"
        )
    return table


def _places(places: list[str]) -> str:
    more = len(places) - PLACES
    return ", ".join(places[:PLACES]) + (f" and in {more} more files" if more > 0 else "")
