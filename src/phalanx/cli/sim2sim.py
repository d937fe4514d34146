"""`phalanx sim2sim`: plays an exported policy in plain MuJoCo, with a report, a video or a
window."""

import contextlib
import dataclasses
import json
import shlex
import threading
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from rich.console import Console
from rich.text import Text

from phalanx import tasks
from phalanx.cli.config import compose_config
from phalanx.cli.console import Lines
from phalanx.cli.export import make_player
from phalanx.cli.keys import without_effect
from phalanx.cli.options import TaskChoice
from phalanx.cli.overrides import Override, put, read_words
from phalanx.cli.sim2sim_viewer import in_browser, in_window
from phalanx.config import ranged, read
from phalanx.errors import PhalanxError
from phalanx.files import check_place, write_atomically
from phalanx.rl.checkpoint import load

VIDEO_SECONDS = 5.0
FAR = 0.01
"""Difference from the task's observations and controls that rounding does not explain."""


@dataclass(frozen=True)
class Sim2SimOptions:
    """Options of `phalanx sim2sim`."""

    policy: str
    """The .onnx file; the only argument without a key."""
    episodes: int = ranged(64, at_least=1, at_most=100_000)
    """Episodes to play, one per robot."""
    timestep: float | None = ranged(None, above=0.0, at_most=1)
    """Physics step [s]; None takes the task's."""
    drive: Literal["robot", "task"] = "robot"
    """robot: the policy's runtime builds observations from named state and returns named targets.
    task: the task's own observations and controls. Both have the task's noise and latency."""
    window: bool = False
    """Show one robot in MuJoCo's viewer, in real time."""
    browser: bool = False
    """Show one robot in a web page, in real time."""
    video: bool = True
    """Record a video of the first robot's first seconds for the report."""
    out: str | None = None
    """Folder of the report; None takes `sim2sim` in the run folder, or a folder next to the
    file."""
    seed: int = ranged(42, at_least=0, at_most=2**63 - 1)
    """Seed of the initial states, noise and randomisation."""
    command: tuple[float, ...] | None = None
    """Command to all robots, as in [0.5,0,0]; null draws them as in training. In the window,
    arrow keys, Home and End change it, in the page sliders and W A S D Q E."""
    task: dict[str, Any] = dataclasses.field(default_factory=dict)
    """Fields of the task's Config, as in task.env.episode_length=500."""

    def __post_init__(self) -> None:
        if self.window and self.browser:
            raise PhalanxError("window=true and browser=true show the same robot; give only one")


def sim2sim(arguments: list[str]) -> None:
    """Play and report. Raises PhalanxError."""
    from phalanx.deploy.trial import Trial

    console = Lines()
    config = _config(arguments)
    watched = config.window or config.browser
    if idle := without_effect(config, {"window": config.window, "browser": config.browser}):
        console.print(f"options without effect: {', '.join(idle)}", style="dim")
    if config.browser:
        from phalanx.viewer import require_viewer

        require_viewer()
    trial = Trial(
        config.policy,
        1 if watched else config.episodes,
        config.timestep,
        config.drive,
        endless=watched,
        env=config.task.get("env"),
        seed=config.seed,
        command=config.command,
    )
    if watched:
        (in_browser if config.browser else in_window)(trial)
        return
    film: Future[Path | None] | None = None
    wanted, steps = round(VIDEO_SECONDS * trial.about.control_hz), 0
    folder = _make_folder(config)
    # Another process renders the first robot's video while the other robots play on.
    # It ends with the block: a Ctrl-C does not wait for the rest of it.
    with (
        console.progress() as show,
        ThreadPoolExecutor(1) as pool,
        contextlib.ExitStack() as filming,
    ):
        ended = threading.Event()
        filming.callback(ended.set)
        while trial.running.any():
            trial.step()
            steps += 1
            show(f"{int((~trial.running).sum())} of {config.episodes} episodes, step {steps}")
            complete = len(trial.trace.states) >= wanted or not trial.tracing
            if config.video and complete and film is None:
                film = pool.submit(_video, trial, folder, console, ended)
        show("the training player, for comparison")
        figures = trial.figures() | {"policy": config.policy}
        figures["training"] = _training(config, trial, figures, console)
        if film:
            show("video")
        video = film.result() if film else None
    _say(console, figures)
    from phalanx.deploy.report import report

    write_atomically(folder / "report.json", json.dumps(figures, indent=1).encode())
    page = report(figures, trial.about, trial.trace, video)
    write_atomically(folder / "report.html", page.encode())
    console.print(f"report: {folder / 'report.html'}")


def _config(arguments: list[str]) -> Sim2SimOptions:
    if named := next((a for a in arguments if a.startswith("task=")), None):
        raise PhalanxError(
            f"the policy's metadata names its task, so {named!r} cannot be given; remove it"
        )
    values = read_words(arguments, Sim2SimOptions, "sim2sim", "policy", ("policy", "out"))
    for key in [k for k in values if k.startswith("task.env.")]:
        put(values, Override(key, values.pop(key)))
    if "policy" not in values:
        raise PhalanxError("sim2sim needs an exported policy, as in `phalanx sim2sim Ant.pth.onnx`")
    given = Path(values["policy"])
    if given.suffix == ".pth" or (given / "nn").is_dir():
        kind = "checkpoint" if given.suffix == ".pth" else "run's folder"
        word = f"checkpoint={given}"
        raise PhalanxError(
            f"{given} is a {kind}; `phalanx export {shlex.quote(word)}` exports its policy"
        )
    tasks.look_beside(given)
    return read(Sim2SimOptions, values, "")


def _training(
    config: Sim2SimOptions, trial: Any, figures: dict[str, Any], console: Console
) -> dict[str, Any]:
    """Figures to compare with: the training player's return over the same number of episodes, if
    the policy's checkpoint is in its folder, and the best return in training."""
    checkpoint, about = Path(config.policy.removesuffix(".onnx")), trial.about
    known: dict[str, Any] = {"best_return": about.policy.training_return, "player_return": None}
    if not checkpoint.is_file() or checkpoint.suffix != ".pth":
        return known
    try:
        player = _player(checkpoint, config, trial)
    except PhalanxError as error:  # what has been played is worth a report in any case
        console.print(f"no comparison with training: {error}", style="yellow")
        return known
    torch.manual_seed(config.seed)  # the initial states of sim2sim
    played = player.run()
    known |= {"player_return": played.mean_return, "player_std": played.std_return}
    known["player_length"] = played.mean_length
    if played.mean_return:
        known["share"] = figures["mean_return"] / played.mean_return
        # Standard error of the ratio of the two means; episodes that end in a fall make it
        # large.
        errors = [figures["std_return"], played.std_return]
        known["share_error"] = float(np.hypot(*errors)) / np.sqrt(config.episodes)
        known["share_error"] /= abs(played.mean_return)
    return known


def _player(checkpoint: Path, config: Sim2SimOptions, trial: Any) -> Any:
    """The player of the trial's policy, in the trial's task. Raises PhalanxError if the checkpoint
    is of other weights, or does not fit the settings that are known of its run."""
    policy, saved = trial.about.policy, load(checkpoint)
    if (saved["epoch"], saved["frame"]) != (policy.epoch, policy.frame):
        raise PhalanxError(
            f"{checkpoint} is of iteration {saved['epoch']} and the policy of {policy.epoch};"
            " export it again"
        )
    words = [f"task={trial.about.task}", f"checkpoint={checkpoint}", f"games={config.episodes}"]
    task = TaskChoice(trial.about.task, trial.task.config)
    options = dataclasses.replace(compose_config(words, "play"), task=task)
    player = make_player(options, config.episodes)
    player.restore(checkpoint)
    if config.command is not None:
        player.env.give_command(config.command)
    return player


def _make_folder(config: Sim2SimOptions) -> Path:
    """Create the folder of the report."""
    policy = Path(config.policy)
    if config.out:
        folder = Path(config.out)
    elif policy.parent.name == "nn":
        folder = policy.parent.parent / "sim2sim"
    else:
        folder = policy.with_name(f"{policy.name.removesuffix('.onnx')}_sim2sim")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise PhalanxError(
            f"cannot create the folder {folder}: {str(error.strerror).lower()}; choose another out="
        ) from error
    for name in ("report.json", "report.html"):
        check_place(folder / name, "out=")
    return folder


def _video(trial: Any, folder: Path, console: Console, ended: threading.Event) -> Path | None:
    from phalanx.video import poses, render_video, thinned, with_cheaper_light

    def go_on(done: int, total: int) -> None:
        if ended.is_set():
            raise CancelledError

    hz = trial.about.control_hz
    states = np.array(trial.trace.states[: round(VIDEO_SECONDS * hz)])[:, None]
    shown, fps = thinned(states, hz)
    model = with_cheaper_light(trial.robots[0].model)
    try:
        path = folder / "video.mp4"
        return render_video(model, path=path, fps=fps, on_frame=go_on, **poses(model, shown))
    except PhalanxError as error:
        console.print(f"no video: {error}")
        return None


def _say(console: Console, figures: dict[str, Any]) -> None:
    training, latency = figures["training"], figures["latency_ms"]
    ratio = ""
    if "share" in training:
        share, error = 100 * training["share"], 100 * training["share_error"]
        ratio = f", {share:.1f} +- {error:.1f} % of training's"
    console.print(
        Text.assemble(
            f"{figures['task']} in plain MuJoCo: return ",
            (f"{figures['mean_return']:.2f}", "bold"),
            f" +- {figures['std_return']:.2f}{ratio}, episode length {figures['mean_length']:.1f},"
            f" {figures['falls']} of {figures['episodes']} episodes ended in a fall",
        )
    )
    gaps = {f"{name!r} as it observes it": gap for name, gap in figures["observation_gap"].items()}
    for what, gap in (gaps | {"controls": figures["control_gap"]}).items():
        if gap > FAR:
            console.print(
                f"warning: by the policy's metadata, the first robot differs from its task in"
                f" {what}, by up to {gap:.2g}; see that the task's layouts say what it does",
                style="yellow",
            )
    if figures["randomised"]:
        console.print(
            f"randomised at full strength: {', '.join(r[0] for r in figures['randomised'])}",
        )
    console.print(
        f"latency: median {latency['median']:.3f} ms, p99 {latency['p99']:.3f} ms; of the network"
        f" {latency['network_median']:.3f} ms",
    )
