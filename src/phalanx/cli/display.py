"""The display during training: a live panel in a terminal, plain lines elsewhere."""

import dataclasses
import sys
import time
from typing import Any

from rich.console import Console, Group
from rich.live import Live
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn
from rich.table import Table
from rich.text import Text

from phalanx.cli.console import SECONDS_BETWEEN_LINES, Lines
from phalanx.rl import AlgoObserver


def show_randomization(console: Console, env: Any) -> None:
    """Print a table of the quantities that `env` randomises: nominal value, range, unit and
    time."""
    randomizer = getattr(env, "randomizer", None)
    if randomizer is None:
        return
    table = Table(box=None, pad_edge=False, header_style="dim")
    for heading in ("randomised", "from", "by", "to", "unit", "when"):
        table.add_column(heading, no_wrap=heading == "randomised")
    for row in randomizer.table():
        table.add_row(*(Text(text) for text in dataclasses.astuple(row)))
    console.print(table)


class TrainingDisplay(AlgoObserver):
    """Shows an agent's progress; a context manager around the run."""

    shows_warnings = True

    def __init__(self, console: Console | None = None) -> None:
        self.console = console or Lines()
        self.agent: Any = None
        self._live: Live | None = None
        self._progress = Progress(
            TextColumn("[bold]{task.description}"), BarColumn(None), TaskProgressColumn()
        )
        self._shown_warnings = 0
        self._line_at = 0.0

    def __enter__(self) -> "TrainingDisplay":
        return self

    def __exit__(self, *exc: object) -> None:
        if self._live is not None:
            self._live.stop()

    def after_init(self, algo: Any) -> None:
        self.agent = algo
        self.first_frame, self._started = algo.frame, time.perf_counter()
        self._bar = self._progress.add_task("training", total=self._total() or None)
        if self.console.is_terminal:
            self._live = Live(self._panel(), console=self.console, refresh_per_second=4)
            self._live.start()

    def after_print_stats(self, frame: int, epoch_num: int, total_time: float) -> None:
        for sentence in self.agent.warnings[self._shown_warnings :]:
            self.console.print(f"warning: {sentence}", style="yellow")
        self._shown_warnings = len(self.agent.warnings)
        if self._live is not None:
            self._progress.update(self._bar, completed=frame)
            self._live.update(self._panel())
        elif time.perf_counter() - self._line_at > SECONDS_BETWEEN_LINES or self.agent.stop_reason:
            self._line_at = time.perf_counter()
            cells = "  ".join(f"{name} {value}" for name, value in self._figures())
            self.console.print(cells)
            sys.stdout.flush()

    def _panel(self) -> Group:
        table = Table.grid(padding=(0, 2))
        figures = self._figures()
        for i in range(0, len(figures), 4):
            row = figures[i : i + 4]
            table.add_row(
                *(Text.assemble((name, "dim"), " ", (value, "bold")) for name, value in row)
            )
        terms = Text("  ".join(words_of(self.agent.task_scalars)), style="dim")
        return Group(self._progress, table, terms, Text("Ctrl-C saves and stops", style="dim"))

    def _figures(self) -> list[tuple[str, str]]:
        a = self.agent
        elapsed = time.perf_counter() - self._started
        total, done = self._total(), a.frame - self.first_frame
        left = elapsed / done * (total - a.frame) if total and done else float("nan")
        return [
            ("iteration", str(a.epoch_num)),
            ("frames", _short(a.frame) + (f"/{_short(total)}" if total else "")),
            ("steps/s", _short(a.fps["total"])),
            ("rollout steps/s", _short(a.fps["rollout"])),
            ("return", f"{a.mean_rewards.mean:.2f}" if a.mean_rewards.size else "-"),
            ("length", f"{a.mean_lengths.mean:.1f}" if a.mean_lengths.size else "-"),
            *([("kl", f"{a.last_stats['info/kl']:.4f}")] if "info/kl" in a.last_stats else []),
            ("lr", f"{a.last_lr:.1e}"),
            ("elapsed", _clock(elapsed)),
            ("left", _clock(left)),
        ]

    def _total(self) -> int:
        """Frames at the end of the run, 0 if it has no limit. Iterations before this run may have
        had another number of frames."""
        a, c = self.agent, self.agent.config
        left = max(c.max_epochs - a.epoch_num, 0) * a.run.frames_per_iteration
        ends = [a.frame + left] if c.max_epochs != -1 else []
        ends += [max(c.max_frames, a.frame)] if c.max_frames != -1 else []
        return min(ends, default=0)


def words_of(scalars: dict[str, float]) -> list[str]:
    """What a task logged, in words: reward up 0.5, ends fallen 20 %, level 3."""
    words = []
    for tag, value in scalars.items():
        kind, _, name = tag.partition("/")
        if kind == "ends":
            words.append(f"ends {name} {value:.0%}")
        else:
            words.append(f"{f'reward {name}' if kind == 'reward' else tag} {value:.3g}")
    return words


def _short(number: float) -> str:
    for limit, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if number >= limit:
            return f"{number / limit:.2f} {unit}"
    return f"{number:.0f}"


def _clock(seconds: float) -> str:
    if seconds != seconds:  # not a number: no end is known
        return "-"
    minutes, seconds = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{seconds:02d}" if hours else f"{minutes}:{seconds:02d}"
