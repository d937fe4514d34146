"""The results of a study: a table of its trials, and their curves."""

from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from phalanx.cli.figures import write_figure
from phalanx.cli.study import COLUMNS, Record


def best_first(records: list[Record], metric: str) -> list[Record]:
    """The trials by their last value, those without one last."""
    column = COLUMNS.index(metric)
    return sorted(records, key=lambda r: r.curve[-1][column] if r.curve else -1e30, reverse=True)


def table(console: Console, records: list[Record], metric: str) -> None:
    """Print the trials, the best first."""
    keys = list(dict.fromkeys(key for r in records for key in r.values))
    shown = Table(box=None, pad_edge=False)
    short = [key.rsplit(".", 1)[-1] for key in keys]
    for heading in ("trial", *short, "return", "length", "iterations", "state"):
        shown.add_column(heading, overflow="fold")
    for r in best_first(records, metric):
        last = r.curve[-1] if r.curve else None
        figures = (f"{last[2]:.2f}", f"{last[3]:.1f}", f"{last[0]:.0f}") if last else ("-",) * 3
        values = [_short(r.values.get(key, "")) for key in keys]
        state = f"{r.state}: {r.reason}" if r.reason else r.state
        shown.add_row(str(r.number), *values, *figures, state)
    console.print()
    console.print(shown)


def plot(records: list[Record], metric: str, file: Path) -> None:
    """Draw every trial's curve over frames."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(8, 5), layout="constrained")
    column = COLUMNS.index(metric)
    for rank, r in enumerate(best_first(records, metric)):
        if r.curve:
            style: dict[str, Any] = {"label": f"trial {r.number}"} if rank < 5 else {"color": "0.8"}
            axes.plot([p[1] for p in r.curve], [p[column] for p in r.curve], **style)
    axes.set(xlabel="environment steps", ylabel=metric)
    if axes.lines:
        axes.legend()
    write_figure(figure, file)
    pyplot.close(figure)


def _short(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
