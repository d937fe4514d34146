"""`phalanx warmup`: compile the physics of tasks before their first run."""

import contextlib
import tempfile
import time
from collections.abc import Iterator

from rich.console import Console

from phalanx import tasks
from phalanx.cli.config import compose_config, resolved, train_params
from phalanx.cli.console import Lines
from phalanx.rl import Runner
from phalanx.sim.engines import kernels

ITERATIONS = 3
"""Number of iterations; with PPO's rehearsal before them, they load every kernel."""


def warmup(arguments: list[str]) -> None:
    """Train each task for a few iterations; print how long that took and what was compiled."""
    console = Lines()
    every = "task=all" in arguments
    given = [a for a in arguments if a != "task=all"]
    runs = [[f"task={name}", *given] for name in sorted(tasks.names())] if every else [given]
    each = [resolved(compose_config(run, "warmup")) for run in runs]
    for options in each:
        start, before = time.perf_counter(), kernels.cached_modules()
        with tempfile.TemporaryDirectory() as folder, loading_shown(console):
            params = train_params(options)
            params["config"] |= {"train_dir": folder, "max_epochs": ITERATIONS}
            runner = Runner()
            runner.load({"params": params})
            runner.run({"train": True})
        new, seconds = kernels.cached_modules() - before, time.perf_counter() - start
        what = (
            f"{new} module{'s' * (new > 1)} of code compiled"
            if new
            else "everything was compiled already"
        )
        console.print(
            f"{options.task.name}: {what}, ready after {seconds:.1f} s with {options.num_envs}"
            " environments",
        )


@contextlib.contextmanager
def loading_shown(console: Console) -> Iterator[None]:
    """Inside, show the number of compiled kernels on one line: live in a terminal, otherwise at the
    beginning and the end."""
    status = console.status("")
    start = shown_at = 0.0

    def show(loaded: int, modules: int) -> None:
        nonlocal start, shown_at
        now = time.perf_counter()
        if not loaded:
            start, shown_at = now, 0.0
        elif now - start > kernels.QUICK_S and not shown_at:
            shown_at = now
            console.print(f"compiling kernels of MuJoCo Warp; {kernels.CACHED}")
            status.start()
        status.update(f"{loaded} of {modules} modules of kernels")
        if loaded == modules:
            status.stop()
            if shown_at:
                console.print(f"{modules} modules of kernels loaded in {now - start:.0f} s")

    try:
        with kernels.progress(show):
            yield
    finally:
        status.stop()
