"""`phalanx train`: trains a policy, shows progress and writes a run folder."""

import contextlib
import dataclasses
import shlex
import signal
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import Any

from rich.console import Console
from rich.text import Text

from phalanx.cli.config import as_settings, compose_config, resolved, train_params
from phalanx.cli.console import Lines
from phalanx.cli.devices import (
    check_start,
    ended_if_stuck,
    ended_with_launcher,
    kind_of_device,
    start_ranks,
)
from phalanx.cli.display import TrainingDisplay, show_randomization, words_of
from phalanx.cli.options import TrainOptions
from phalanx.cli.result import ResultFile, device_name
from phalanx.cli.run_folders import resume_command, run_folder
from phalanx.cli.warmup import loading_shown
from phalanx.compute.cache import keep_refused_in
from phalanx.rl import AlgoObserver, Runner, ranks
from phalanx.rl.observer import Observers
from phalanx.rl.saved_run import resolve_checkpoint

INTERRUPTED = "interrupted"
SWEEP = {"-m", "--multirun"}


def train(arguments: list[str]) -> int | None:
    """Train once, or with `-m` once for every combination of values. Returns the exit code."""
    if SWEEP & set(arguments):
        from phalanx.cli.sweep import train_each

        return train_each([a for a in arguments if a not in SWEEP])
    options = compose_config(arguments)
    assert isinstance(options, TrainOptions)
    check_start(options)
    if options.devices > 1:
        return start_ranks(options.devices, arguments)
    agent = run(options)
    ranks.leave()
    return 130 if agent.stop_reason == INTERRUPTED else None


def run(options: TrainOptions) -> Any:
    """Train until the end or Ctrl-C, and return the agent. Raises PhalanxError for bad input,
    before anything is written."""
    if options.multi_gpu:
        ranks.join(kind_of_device(options))
    console = Lines(quiet=ranks.rank() > 0)
    checkpoint = resolve_checkpoint(options.checkpoint) if options.checkpoint else None
    options = resolved(options)
    with _run_folder(options, checkpoint) as folder:
        keep_refused_in(folder.parent)
        options = dataclasses.replace(options, train_dir=str(folder.parent), experiment=folder.name)
        params = train_params(options)
        result = ResultFile(as_settings(options), params["seed"])
        showing = TrainingDisplay(console)
        first = ranks.rank() == 0
        header = _Header(console, options.idle)
        observers: list[AlgoObserver] = [header, *([result] if first else []), showing]
        with contextlib.ExitStack() as stack:
            display = stack.enter_context(showing)
            stack.enter_context(_stop_on_signals(display))
            stack.enter_context(loading_shown(console))
            if options.watched and first:
                observers.append(stack.enter_context(_watch(console, options)))
            if options.video_every and first:
                from phalanx.cli.films import Films

                films = Films(console, options.video_every)
                stack.callback(films.stop)
                observers.append(films)
            if first:
                observers += _trackers(options)
            runner = Runner(Observers(observers))
            runner.load({"params": params})
            runner.run({"train": True, "checkpoint": checkpoint})
        if first:
            result.end()
    _closing_words(console, display.agent)
    if display.agent.frame == display.first_frame:
        console.print(
            f"this run had already ended; to continue training, give max_iterations= above"
            f" {display.agent.epoch_num}",
        )
    return display.agent


def _trackers(options: TrainOptions) -> list[AlgoObserver]:
    """The observers of wandb=true and mlflow=true."""
    from phalanx.rl.tracking import MLflowTracker, WandbTracker

    settings, found = as_settings(options), list[AlgoObserver]()
    if options.wandb or options.wandb_activate:
        names = ("project", "entity", "group", "name", "tags")
        chosen = {name: getattr(options, f"wandb_{name}") for name in names}
        found.append(WandbTracker(settings, **chosen))
    if options.mlflow:
        found.append(MLflowTracker(settings, options.mlflow_experiment))
    return found


def _watch(console: Console, options: TrainOptions) -> contextlib.AbstractContextManager[Any]:
    """The page of view=true. Raises PhalanxError without viser, and for a wrong host or port."""
    from phalanx.viewer import require_viewer

    require_viewer()
    from phalanx.cli.watch import Watch
    from phalanx.viewer.server import free_port

    free_port(options.host, options.port)  # the page takes its own; a mistake is said now
    return Watch(console, options.view_envs, options.host, options.port).opened()


@contextlib.contextmanager
def _run_folder(options: TrainOptions, checkpoint: Path | None) -> Iterator[Path]:
    """The run's folder, which rank 0 makes and owns."""
    if ranks.rank():
        yield Path(ranks.from_first(""))
        return
    with run_folder(options, checkpoint) as folder:
        ranks.from_first(str(folder))
        yield folder


class _Header(AlgoObserver):
    """Prints the first lines: task, devices, run folder, and keys without effect."""

    def __init__(self, console: Console, idle: list[str]) -> None:
        self.console, self.idle = console, idle

    def after_init(self, algo: Any) -> None:
        engine = algo.vec_env.sim.engine
        threads = f" on {engine.threads} threads" if getattr(engine, "threads", 0) else ""
        self.console.print(
            f"phalanx {algo.name}: {algo.num_actors} environments"
            f"{f' on each of {algo.world_size} ranks' if algo.world_size > 1 else ''},"
            f" physics {engine.name}{threads}, learning on {device_name(algo.device)},"
            f" run folder {algo.experiment_dir}",
        )
        show_randomization(self.console, algo.vec_env)
        if algo.frame:
            self.console.print(f"continuing at iteration {algo.epoch_num}, frame {algo.frame}")
        if self.idle:
            self.console.print(f"options without effect: {', '.join(self.idle)}", style="dim")
        if algo.no_effect:
            self.console.print(
                f"keys of the train config that have no effect: {', '.join(algo.no_effect)}",
                style="dim",
            )


@contextlib.contextmanager
def _stop_on_signals(display: TrainingDisplay) -> Iterator[None]:
    """Ctrl-C and SIGTERM end the run after the current iteration; a second one ends it at once. One
    of several ranks that ends with an error ignores them from then on: who has started it ends it,
    too, and it must have said why."""

    def stop(signum: int, frame: FrameType | None) -> None:
        for s in (signal.SIGINT, signal.SIGTERM):
            signal.signal(s, signal.default_int_handler)
        if display.agent is None:
            raise KeyboardInterrupt
        display.agent.request_stop(INTERRUPTED)

    before: dict[int, Any] = {s: signal.signal(s, stop) for s in (signal.SIGINT, signal.SIGTERM)}
    try:
        with contextlib.ExitStack() as stack:
            if ranks.size() > 1:
                stack.enter_context(ended_if_stuck())
                stack.enter_context(ended_with_launcher())
            yield
    except Exception:
        if ranks.size() > 1:
            before = dict.fromkeys(before, signal.SIG_IGN)
        raise
    finally:
        for s, handler in before.items():
            signal.signal(s, handler)


def _closing_words(console: Console, agent: Any) -> None:
    out = console.print
    last, best = agent.nn_dir / f"last_{agent.name}.pth", agent.nn_dir / f"{agent.name}.pth"
    if agent.stop_reason == INTERRUPTED:
        out(f"\nstopped at iteration {agent.epoch_num}; everything is saved in {last}")
        out(f"continue:    {resume_command(agent.experiment_dir)}")
        return
    seen = agent.mean_rewards.size > 0
    mean = f"{agent.mean_rewards.mean:.2f}" if seen else "unknown, no episode ended"
    length = f", episode length {agent.mean_lengths.mean:.1f}" if seen else ""
    speed = agent.frame / agent.total_time if agent.total_time else 0.0
    out(
        Text.assemble(
            ("\ndone", "bold"),
            f": {agent.stop_reason}; final return ",
            (mean, "bold"),
            f"{length}; {agent.frame:,} steps in {agent.total_time:.1f} s ({speed:,.0f} steps/s)",
        )
    )
    for kind in ("reward", "ends"):
        said = {k: v for k, v in agent.task_scalars.items() if k.startswith(f"{kind}/")}
        if said:
            out(f"{kind + ':':<13}{', '.join(w.partition(' ')[2] for w in words_of(said))}")
    played = f"task={agent.name} {shlex.quote(f'checkpoint={best}')}"
    out(f"checkpoint:  {best}")
    out(f"watch it:    phalanx play {played} video=true")
    out(f"curves:      tensorboard --logdir {shlex.quote(str(agent.summaries_dir))}")
