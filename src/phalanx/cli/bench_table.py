"""Rows of `phalanx bench` as a table, and as curves over the number of environments."""

from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from phalanx.cli.figures import write_figure
from phalanx.errors import PhalanxError
from phalanx.gate import MB
from phalanx.json_text import read_json

Row = dict[str, Any]
"""Keys of a row: `task`, `num_envs`, `trainer`, `measures`; then `unit`, `values`, `median` and
`spread`, or the reason why it `failed`."""


def load(file: str) -> list[Row]:
    """The rows of a file that an earlier call wrote. Raises PhalanxError for any other file."""
    content = read_json(file, 64 * MB)
    rows = content.get("rows") if isinstance(content, dict) else None
    if not isinstance(rows, list) or not rows or not all(map(_is_row, rows)):
        raise PhalanxError(f"{file} was not written by `phalanx bench out=`")
    return rows


TEXTS = ("task", "trainer", "measures", "unit", "failed", "note", "engine", "device")
FIGURES = (
    "median", "spread", "memory_gb", "outside_physics", "phalanx_over_this", "over_first_engine",
)  # fmt: skip


def _is_row(row: Any) -> bool:
    """Whether `cells` and `growth` find what they need."""
    if not isinstance(row, dict):
        return False
    values = row.get("values", [])
    needed = {"task", "num_envs", "trainer", "measures"}
    needed |= {"failed"} if "failed" in row else {"unit", "median", "spread", "values"}
    return (
        needed <= row.keys()
        and all(isinstance(row[key], str) for key in TEXTS if key in row)
        and type(row["num_envs"]) is int
        and isinstance(values, list)
        and all(map(_is_figure, [*values, *(row[key] for key in FIGURES if key in row)]))
        and (row.get("unit") == "s" or "failed" in row or row["median"] is not None)
    )


def _is_figure(value: Any) -> bool:
    return value is None or (type(value) in (int, float) and abs(value) < 1e15)


def cells(row: Row) -> list[str]:
    """The cells of a row in the table."""
    who = row["trainer"] + (" eager" if row.get("device") != "cpu" and "captured" in row
                            and not row["captured"] else "")  # fmt: skip
    who += f", {row['engine']}" if "engine" in row and row["trainer"] == "phalanx" else ""
    head = [row["task"], str(row["num_envs"]), who, row["measures"]]
    if "failed" in row:
        return [*head, "failed", "", "", row["failed"]]
    median, notes = row["median"], [row["note"]] if "note" in row else []
    if row["unit"] == "s":
        value = "not reached" if median is None else f"{median:.1f} s"
        several = len(row["values"]) > 1
        if several:
            notes.append(", ".join("-" if v is None else f"{v:.1f}" for v in row["values"]))
    else:
        value, several = f"{median:,.0f} /s", True
    if row.get("outside_physics") is not None:
        notes.append(f"{row['outside_physics']:.0%} of the time outside physics")
    if row.get("phalanx_over_this") is not None:
        notes.append(f"Phalanx {row['phalanx_over_this']:.2f} x")
    if row.get("over_first_engine") is not None:
        notes.append(f"{row['over_first_engine']:.2f} x the first engine")
    spread = "" if row["spread"] is None or not several else f"{row['spread']:.0%}"
    memory = f"{row['memory_gb']:.2f} GB" if row.get("memory_gb") is not None else ""
    return [*head, value, spread, memory, "; ".join(notes)]


def print_table(console: Console, rows: list[Row]) -> None:
    """Print all rows; task and number of environments only where they change."""
    table = Table(box=None, pad_edge=False)
    headings = ("task", "environments", "trainer", "measures", "median", "spread", "memory", "")
    for heading in headings:
        right = heading in ("environments", "median", "spread", "memory")
        table.add_column(heading, justify="right" if right else "left", no_wrap=heading != "")
    for k, row in enumerate(rows):
        pair = (row["task"], row["num_envs"])
        new = k == 0 or pair != (rows[k - 1]["task"], rows[k - 1]["num_envs"])
        words = cells(row)
        table.add_row(*(words if new else ["", "", *words[2:]]))
    console.print(table)


def growth(rows: list[Row], file: Path) -> None:
    """Draw speed and memory over the number of environments."""
    from matplotlib import pyplot
    from matplotlib.ticker import EngFormatter, LogLocator

    figure, (speed, memory) = pyplot.subplots(1, 2, figsize=(9, 3.6))
    ours = [r for r in rows if r["trainer"] == "phalanx" and r.get("unit") == "steps/s"]
    best = [r for r in ours if r.get("captured") or r.get("device") == "cpu"]
    sizes = sorted({r["num_envs"] for r in best})
    for k, task in enumerate(dict.fromkeys(r["task"] for r in best)):
        for measures, line in (("physics", ":"), ("environment", "--"), ("training", "-")):
            chosen = [r for r in best if (r["task"], r["measures"]) == (task, measures)]
            chosen.sort(key=lambda r: r["num_envs"])
            counts = [r["num_envs"] for r in chosen]
            style = {"color": f"C{k}", "linestyle": line, "marker": "."}
            speed.plot(counts, [r["median"] for r in chosen], label=f"{task}, {measures}", **style)
            if measures == "training":
                memory.plot(counts, [r.get("memory_gb") for r in chosen], label=task, **style)
    for axis, title in ((speed, "environment steps/s"), (memory, "memory while training [GB]")):
        axis.set(xscale="log", yscale="log", xlabel="environments", title=title)
        axis.set_xticks(sizes, [str(n) for n in sizes], minor=False)
        axis.set_xticks([], minor=True)
        axis.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axis.yaxis.set_major_formatter(EngFormatter())
        axis.yaxis.set_minor_locator(LogLocator(subs=()))
        axis.grid(alpha=0.3)
        axis.legend(fontsize=7)
    figure.tight_layout()
    write_figure(figure, file)
