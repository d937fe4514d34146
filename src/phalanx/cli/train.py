"""`phalanx train`: learn a task, show how it goes, leave a run folder behind."""

import contextlib
import dataclasses
import itertools
import shlex
import shutil
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import Any

from rich.console import Console

from phalanx.cli.config import RunConfig, resolved, run_folder_of, train_params
from phalanx.cli.display import TrainingDisplay, show_randomization
from phalanx.cli.result import ResultFile, device_name
from phalanx.cli.warmup import loading_shown
from phalanx.errors import PhalanxError
from phalanx.rl import AlgoObserver, Runner
from phalanx.rl.observer import Observers

INTERRUPTED = "interrupted"


def train(config: RunConfig) -> None:
    """Train until the end or Ctrl-C. Raises PhalanxError for bad input, before writing anything."""
    console = Console(highlight=False)
    checkpoint = resolve_checkpoint(config.checkpoint) if config.checkpoint else None
    config = resolved(config)
    with run_folder(config, checkpoint) as folder:
        config = dataclasses.replace(config, train_dir=str(folder.parent), experiment=folder.name)
        params = train_params(config)
        result = ResultFile(dataclasses.asdict(config), params["seed"])
        showing = TrainingDisplay(console)
        with showing as display, _stop_on_signals(display), loading_shown(console):
            runner = Runner(Observers([_Header(console), result, display]))
            runner.load({"params": params})
            runner.run({"train": True, "checkpoint": checkpoint})
        result.write()
    _closing_words(console, display.agent)
    if display.agent.stop_reason == INTERRUPTED:
        sys.exit(130)


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
        show_randomization(self.console, algo.vec_env)
        if algo.frame:
            self.console.print(f"continuing at iteration {algo.epoch_num}, frame {algo.frame}")
        if algo.no_effect:
            self.console.print(
                f"keys of the train config that have no effect: {', '.join(algo.no_effect)}",
                style="dim",
            )


def given_checkpoint(config: RunConfig, command: str) -> Path:
    """The checkpoint that a command cannot do without. Raises PhalanxError if none is named."""
    if not config.checkpoint:
        raise PhalanxError(
            f"{command} needs a checkpoint=, as in checkpoint=runs/{config.task.name}/nn/"
            f"{config.task.name}.pth"
        )
    return resolve_checkpoint(config.checkpoint)


def resolve_checkpoint(given: str) -> Path:
    """The file that `checkpoint=` means: itself, or the last one of a run folder."""
    path = Path(given)
    if path.is_dir():
        found = sorted(path.glob("nn/last_*.pth"), key=lambda p: p.stat().st_mtime)
        if not found:
            raise PhalanxError(
                f"the folder {path} holds no checkpoint nn/last_<task>.pth to continue from;"
                " a run that ended before its first one has to be started anew"
            )
        return found[-1]
    return path


@contextlib.contextmanager
def run_folder(config: RunConfig, checkpoint: Path | None) -> Iterator[Path]:
    """The checkpoint's own run folder, or a new one that no other run has.

    It is made at once, so that two runs that start together do not share it, and taken away again
    if this run fails before its first checkpoint. Raises PhalanxError where it cannot be made.
    """
    root = Path(config.train_dir)
    own = run_folder_of(checkpoint) if checkpoint else None
    named = root / config.experiment if config.experiment else None
    elsewhere = config.train_dir != RunConfig.train_dir and own and not _same(root, own.parent)
    if own and not elsewhere and (named is None or _same(named, own)):
        for leftover in own.glob(".*.tmp"):  # of a run that was killed
            leftover.unlink(missing_ok=True)
        yield own
        return
    folder, made = _new_folder(root, config)
    try:
        yield folder
    except BaseException as error:
        if not any(folder.glob("nn/*.pth")):
            if folder in made:
                shutil.rmtree(folder, ignore_errors=True)
            for parent in made:
                with contextlib.suppress(OSError):  # it is gone, or somebody else's by now
                    parent.rmdir()
        elif isinstance(error, KeyboardInterrupt):
            raise KeyboardInterrupt(f"continue:  {_resume_command(folder)}") from None
        raise


def _new_folder(root: Path, config: RunConfig) -> tuple[Path, list[Path]]:
    """A new run folder and what had to be made for it, innermost first."""
    folder = root / (config.experiment or config.task.name)
    made = [p for p in folder.parents if not p.exists()]
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        for k in itertools.count(2):
            try:
                folder.mkdir()
                made.insert(0, folder)
                break
            except FileExistsError:
                if config.experiment and not _left_without_checkpoint(folder):
                    raise PhalanxError(
                        f"{folder} is taken; continue that run with checkpoint={folder}"
                        " or choose another name with experiment="
                    ) from None
                if config.experiment:
                    break
                folder = root / f"{config.task.name}_{k}"
    except OSError as error:
        no_folder = isinstance(error, (FileExistsError, NotADirectoryError))
        reason = f"{error.filename} is not a folder" if no_folder else str(error.strerror).lower()
        raise PhalanxError(
            f"cannot make the run folder {folder}: {reason}; choose another place with train_dir="
        ) from error
    return folder, made


def _left_without_checkpoint(folder: Path) -> bool:
    """Whether a run that ended before its first checkpoint is all that was ever there."""
    if not folder.is_dir():
        return False
    ours = {"config.yaml", "result.json", "summaries", "nn"}
    found = {p.name for p in folder.iterdir() if not p.match(".*.tmp")}
    return found <= ours and not any(folder.glob("nn/*.pth"))


def _same(a: Path, b: Path) -> bool:
    return a.resolve() == b.resolve()


def _resume_command(folder: Path) -> str:
    return f"phalanx train {shlex.quote(f'checkpoint={folder}')}"


@contextlib.contextmanager
def _stop_on_signals(display: TrainingDisplay) -> Iterator[None]:
    """Ctrl-C and SIGTERM end the run after the running iteration; a second one at once."""

    def stop(signum: int, frame: FrameType | None) -> None:
        for s in (signal.SIGINT, signal.SIGTERM):
            signal.signal(s, signal.default_int_handler)
        if display.agent is None:
            raise KeyboardInterrupt
        display.agent.request_stop(INTERRUPTED)

    before = {s: signal.signal(s, stop) for s in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for s, handler in before.items():
            signal.signal(s, handler)


def _closing_words(console: Console, agent: Any) -> None:
    out = lambda text: console.print(text, soft_wrap=True, markup=False)  # noqa: E731
    last, best = agent.nn_dir / f"last_{agent.name}.pth", agent.nn_dir / f"{agent.name}.pth"
    if agent.stop_reason == INTERRUPTED:
        out(f"\nstopped at iteration {agent.epoch_num}; everything is saved in {last}")
        out(f"continue:    {_resume_command(agent.experiment_dir)}")
        return
    seen = agent.mean_rewards.size > 0
    mean = f"{agent.mean_rewards.mean:.2f}" if seen else "none, no episode ended"
    length = f", episode length {agent.mean_lengths.mean:.1f}" if seen else ""
    speed = agent.frame / agent.total_time if agent.total_time else 0.0
    console.print(
        f"\n[bold]done[/bold]: {agent.stop_reason}; final return [bold]{mean}[/bold]{length};"
        f" {agent.frame:,} steps in {agent.total_time:.1f} s ({speed:,.0f} steps/s)",
        soft_wrap=True,
    )
    played = f"task={agent.name} {shlex.quote(f'checkpoint={best}')}"
    out(f"checkpoint:  {best}")
    out(f"watch it:    phalanx play {played} video=true")
    out(f"curves:      tensorboard --logdir {shlex.quote(str(agent.summaries_dir))}")
