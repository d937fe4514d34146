"""`phalanx train -m seed=1,2,3`: one run for each combination of values, then a summary.

The runs follow each other in one process. Each has its own run folder and seed, and gives the same
result as if it had been started alone.
"""

import dataclasses
import gc
import math
from typing import Any

from rich.console import Console
from rich.table import Table

from phalanx.cli.config import compose_config
from phalanx.cli.console import Lines
from phalanx.cli.devices import check_start
from phalanx.cli.options import TrainOptions
from phalanx.cli.overrides import jobs, split, split_at_commas
from phalanx.errors import PhalanxError
from phalanx.rl import ranks

FAILED, INTERRUPTED = 2, 130
"""Exit codes."""


def train_each(arguments: list[str]) -> int | None:
    """Train once for every combination; returns the exit code. Raises PhalanxError for a mistake
    in any of them, before the first run starts."""
    from phalanx.cli import train
    from phalanx.cli.main import sentence_of

    console = Lines()
    swept = [key for key, text in map(split, arguments) if len(split_at_commas(text)) > 1]
    runs = _runs(arguments)
    rows: list[list[str]] = []
    code = None
    try:
        for k, (values, options) in enumerate(runs, 1):
            chosen = [values[key] for key in swept]
            about = ", ".join(f"{key}={value}" for key, value in zip(swept, chosen, strict=True))
            console.print(f"\nrun {k} of {len(runs)}{about and f': {about}'}", style="bold")
            interrupted = False
            try:
                agent = train.run(options)
                rows.append([*chosen, *_result(agent)])
                interrupted = agent.stop_reason == train.INTERRUPTED
                del agent
            except Exception as error:
                why = sentence_of(error)
                # Other ranks would wait in this run for one that alone has no memory.
                alone = ranks.size() > 1 and not isinstance(error, PhalanxError)
                if alone or not why:  # without a sentence it is a fault in Phalanx
                    raise
                console.print(f"failed: {why}")
                rows.append([*chosen, "failed", "", "", why])
                code = FAILED
            if interrupted:
                code = INTERRUPTED
                break
            gc.collect()  # frees CUDA graphs and environments before the next run
    finally:
        _summary(console, swept, rows)
    return code


def _runs(arguments: list[str]) -> list[tuple[dict[str, str], TrainOptions]]:
    """The values of each run by key, and its options."""
    runs = []
    todo = jobs(arguments)
    for k, job in enumerate(todo, 1):
        options = compose_config(job)
        assert isinstance(options, TrainOptions)
        check_start(options)
        if options.devices > 1:
            raise PhalanxError(
                "-m trains one run after the other in one process, so it cannot have devices=;"
                " start it with torchrun and multi_gpu=true instead"
            )
        if len(todo) > 1 and options.experiment:
            options = dataclasses.replace(options, experiment=f"{options.experiment}_{k}")
        elif len(todo) > 1 and options.checkpoint:
            raise PhalanxError(
                "-m makes a new folder for each run; with checkpoint=, also give a name for them"
                " with experiment="
            )
        runs.append((dict(map(split, job)), options))
    return runs


def _result(agent: Any) -> list[str]:
    seen = agent.mean_rewards.size > 0
    speed = agent.frame / agent.total_time if agent.total_time else math.nan
    return [
        f"{agent.mean_rewards.mean:.2f}" if seen else "-",
        str(agent.epoch_num),
        f"{speed:,.0f}",
        str(agent.experiment_dir),
    ]


def _summary(console: Console, swept: list[str], rows: list[list[str]]) -> None:
    table = Table(box=None, pad_edge=False)
    for heading in (*swept, "return", "iterations", "steps/s", "run folder"):
        table.add_column(heading, overflow="fold")
    for row in rows:
        table.add_row(*row)
    console.print()
    console.print(table)
