"""`phalanx play`: evaluates a policy, shows it in a web page, and records a video of it."""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
from rich.text import Text

from phalanx.cli.config import compose_config, resolved, train_params
from phalanx.cli.console import Lines
from phalanx.cli.display import show_randomization
from phalanx.cli.options import PlayOptions
from phalanx.cli.play_source import PlaySource, without_policy
from phalanx.cli.run_folders import given_checkpoint
from phalanx.cli.warmup import loading_shown
from phalanx.errors import PhalanxError
from phalanx.rl import Runner
from phalanx.sim.recorder import states_of

VIDEO_SECONDS = 10.0


def play(arguments: list[str]) -> None:
    """Print mean return and length over `games` episodes; with `video` write an mp4; with `view`
    show a page instead, until Ctrl-C."""
    console = Lines()
    options = compose_config(arguments, "play")
    assert isinstance(options, PlayOptions)
    actions = options.actions or ("policy" if options.checkpoint else "random")
    path = given_checkpoint(options, "play") if actions == "policy" else None
    _check_page(options)
    film = _film_path(path, options.task.name, actions) if options.video else None
    if options.num_envs is None:
        most = options.view_envs if options.watched else min(options.games, 256)
        options = dataclasses.replace(options, num_envs=most)
    options = resolved(options)
    runner = Runner()
    runner.load({"params": train_params(options)})
    with loading_shown(console):
        player = runner.create_player()
    if path is None:
        console.print(f"no policy plays: {actions} actions")
        without_policy(player, actions)
    else:
        player.restore(path)
    if options.command is not None:
        if not hasattr(player.env, "give_command"):
            raise PhalanxError(f"{options.task.name} takes no commands; remove command=")
        player.env.give_command(options.command)
    if path is not None and str(path) != options.checkpoint:  # a run folder was given
        console.print(f"checkpoint: {path}")
    show_randomization(console, player.env)
    if options.idle:
        console.print(f"options without effect: {', '.join(options.idle)}", style="dim")
    if options.watched:
        _show(player, path, options)
        return
    with console.progress() as show:
        player.on_step = lambda ended, games, step: show(
            f"{ended} of {games} episodes, step {step}"
        )
        result = player.run()
    console.print(
        Text.assemble(
            f"{options.task.name}: return ",
            (f"{result.mean_return:.2f}", "bold"),
            f" +- {result.std_return:.2f}, episode length {result.mean_length:.1f},"
            f" over {result.games} episodes",
            *(f", {name} {value:.3f}" for name, value in result.measures.items()),
        )
    )
    if film:
        with console.progress() as show:
            show("playing for the video")
            video = record(player, film, lambda k, n: show(f"video: frame {k} of {n}"))
        console.print(f"video: {video}")


def _check_page(options: PlayOptions) -> None:
    """Raise PhalanxError for a page without viser or with a wrong host or port, before anything
    takes time."""
    if not options.watched:
        return
    from phalanx.viewer import require_viewer

    require_viewer()
    from phalanx.viewer.server import free_port

    free_port(options.host, options.port)


def _show(player: Any, path: Path | None, options: PlayOptions) -> None:
    from phalanx.viewer.live_view import LiveView
    from phalanx.viewer.server import close, open_server, serve

    source = PlaySource(player, path)
    server = open_server(options.task.name, options.host, options.port)
    try:
        serve(LiveView(server, player.env.sim.model_of(0), source, options.task.name))
    finally:
        close(server)


def record(player: Any, path: Path, on_frame: Any = None) -> Path:
    """Play from a reset and render the first environment to `path`."""
    from phalanx.video import poses, render_video, thinned, with_cheaper_light

    env = player.env
    player.reset()
    obs = env.reset()["obs"]
    states = [states_of(env.sim, 1)]
    for _ in range(round(VIDEO_SECONDS / env.sim.dt)):
        stepped = env.step(player.act(obs))
        obs = stepped[0]["obs"]
        player.reset_states(stepped[2] | stepped[3])
        states.append(states_of(env.sim, 1))
    shown, fps = thinned(np.stack(states), 1 / env.sim.dt)
    model = with_cheaper_light(env.sim.model_of(0))
    return render_video(model, path=path, fps=fps, on_frame=on_frame, **poses(model, shown))


def _film_path(checkpoint: Path | None, task: str, actions: str) -> Path:
    """Where the film goes. Raises PhalanxError if it cannot be written there."""
    from phalanx.video import check_film

    path = Path(f"{task}_{actions}.mp4")
    if checkpoint is not None:
        run = checkpoint.parent.parent if checkpoint.parent.name == "nn" else checkpoint.parent
        path = run / "videos" / f"{checkpoint.stem}.mp4"
    check_film(path)
    return path
