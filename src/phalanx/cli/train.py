"""`phalanx train`: learn a task, show how it goes, leave a run folder behind."""

import contextlib
import dataclasses
import signal
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import Any

from rich.console import Console

from phalanx.cli.config import RunConfig, train_params
from phalanx.cli.display import TrainingDisplay
from phalanx.cli.result import ResultFile, device_name
from phalanx.errors import PhalanxError
from phalanx.rl import AlgoObserver, Runner
from phalanx.rl.observer import Observers
from phalanx.sim import resolve_device


def train(config: RunConfig) -> None:
    """Train until the end or Ctrl-C. Raises PhalanxError for bad input, before writing anything."""
    console = Console(highlight=False)
    checkpoint = resolve_checkpoint(config.checkpoint) if config.checkpoint else None
    experiment = config.experiment or _run_folder(config, checkpoint)
    config = dataclasses.replace(config, experiment=experiment)
    check_writable(Path(config.train_dir) / experiment)
    params = train_params(config)
    if resolve_device(config.sim_device).type == "cuda":
        console.print("loading GPU kernels (the first start compiles them, a minute or two) ...")

    header = _Header(console)
    result = ResultFile(dataclasses.asdict(config), params["seed"])
    with TrainingDisplay(console) as display:
        runner = Runner(Observers([header, result, display]))
        runner.load({"params": params})
        with _stop_on_signals(display):
            runner.run({"train": True, "checkpoint": checkpoint})
    result.write()
    _closing_words(console, display.agent, config)


class _Header(AlgoObserver):
    """The first line: what runs where."""

    def __init__(self, console: Console) -> None:
        self.console = console

    def after_init(self, algo: Any) -> None:
        engine = algo.vec_env.sim.engine
        threads = f" on {engine.threads} threads" if hasattr(engine, "threads") else ""
        self.console.print(
            f"[bold]phalanx[/bold] {algo.name}: {algo.num_actors} environments,"
            f" physics {engine.name}{threads}, learning on {device_name(algo.device)},"
            f" run folder {algo.experiment_dir}",
            soft_wrap=True,
        )
        if algo.frame:
            self.console.print(f"continuing at iteration {algo.epoch_num}, frame {algo.frame}")
        if algo.no_effect:
            self.console.print(
                f"keys of the train config that have no effect: {', '.join(algo.no_effect)}",
                style="dim",
            )


def resolve_checkpoint(given: str) -> Path:
    """The file that `checkpoint=` means: itself, or the last one of a run folder."""
    path = Path(given)
    if path.is_dir():
        found = sorted(path.glob("nn/last_*.pth"), key=lambda p: p.stat().st_mtime)
        if not found:
            raise PhalanxError(f"the folder {path} holds no nn/last_<task>.pth to continue from")
        return found[-1]
    return path


def check_writable(folder: Path) -> None:
    """Raise PhalanxError where `folder` could not be made or written; makes nothing itself."""
    import os

    there = folder
    while not there.exists():
        there = there.parent
    if not there.is_dir():
        raise PhalanxError(f"cannot make the run folder {folder}: {there} is not a folder")
    if not os.access(there, os.W_OK | os.X_OK):
        raise PhalanxError(
            f"cannot write to {there}, where the run folder {folder} would be;"
            " choose another with train_dir="
        )


def _run_folder(config: RunConfig, checkpoint: Path | None) -> str:
    """The checkpoint's own run folder, or a new one named after the task."""
    root = Path(config.train_dir)
    if checkpoint is not None and checkpoint.parent.name == "nn":
        run = checkpoint.parent.parent
        if run.parent.resolve() == root.resolve():
            return run.name
    name, k = config.task.name, 1
    while (root / name).exists():
        k += 1
        name = f"{config.task.name}_{k}"
    return name


@contextlib.contextmanager
def _stop_on_signals(display: TrainingDisplay) -> Iterator[None]:
    """Ctrl-C and SIGTERM end the run after the running iteration; a second one at once."""

    def stop(signum: int, frame: FrameType | None) -> None:
        for s in (signal.SIGINT, signal.SIGTERM):
            signal.signal(s, signal.default_int_handler)
        if display.agent is None:
            raise KeyboardInterrupt
        display.agent.request_stop("interrupted")

    before = {s: signal.signal(s, stop) for s in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for s, handler in before.items():
            signal.signal(s, handler)


def _closing_words(console: Console, agent: Any, config: RunConfig) -> None:
    out = lambda text: console.print(text, soft_wrap=True)  # noqa: E731
    last, best = agent.nn_dir / f"last_{agent.name}.pth", agent.nn_dir / f"{agent.name}.pth"
    if agent.stop_reason == "interrupted":
        out(f"\nstopped at iteration {agent.epoch_num}; everything is saved in {last}")
        out(f"continue:  phalanx train task={agent.name} checkpoint={last}")
        return
    seen = agent.mean_rewards.size > 0
    mean = f"{agent.mean_rewards.mean:.2f}" if seen else "none, no episode ended"
    length = f", episode length {agent.mean_lengths.mean:.1f}" if seen else ""
    speed = agent.frame / agent.total_time if agent.total_time else 0.0
    out(
        f"\n[bold]done[/bold]: {agent.stop_reason}; final return [bold]{mean}[/bold]{length};"
        f" {agent.frame:,} steps in {agent.total_time:.1f} s ({speed:,.0f} steps/s)"
    )
    out(f"checkpoint:  {best}")
    out(f"watch it:    phalanx play task={agent.name} checkpoint={best} video=true")
    out(f"curves:      tensorboard --logdir {agent.summaries_dir}")
