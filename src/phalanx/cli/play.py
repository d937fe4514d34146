"""`phalanx play`: evaluates a policy, and records a video of it."""

import dataclasses
from pathlib import Path
from typing import Any

import torch
from rich.console import Console

from phalanx.cli.config import compose_config, resolved, train_params
from phalanx.cli.display import show_randomization
from phalanx.cli.options import PlayOptions
from phalanx.cli.run_folders import given_checkpoint
from phalanx.errors import PhalanxError
from phalanx.rl import Runner

VIDEO_SECONDS = 10.0


def play(arguments: list[str]) -> None:
    """Print mean return and length over `games` episodes; with `video` write an mp4."""
    console = Console(highlight=False)
    options = compose_config(arguments, "play")
    assert isinstance(options, PlayOptions)
    path = given_checkpoint(options, "play")
    if options.num_envs is None:
        options = dataclasses.replace(options, num_envs=min(options.games, 256))
    options = resolved(options)
    runner = Runner()
    runner.load({"params": train_params(options)})
    player = runner.create_player()
    player.restore(path)
    if hasattr(player.env, "end_schedules"):
        player.env.end_schedules()
    if options.command is not None:
        if not hasattr(player.env, "give_command"):
            raise PhalanxError(f"{options.task.name} takes no commands; remove command=")
        player.env.give_command(options.command)
    if str(path) != options.checkpoint:  # a run folder was given
        console.print(f"checkpoint: {path}", soft_wrap=True)
    show_randomization(console, player.env)
    result = player.run()
    console.print(
        f"{options.task.name}: return [bold]{result.mean_return:.2f}[/bold]"
        f" +- {result.std_return:.2f}, episode length {result.mean_length:.1f},"
        f" over {result.games} episodes"
        + "".join(f", {name} {value:.3f}" for name, value in result.measures.items()),
        soft_wrap=True,
    )
    if options.video:
        with console.status("rendering the video"):
            video = record(player, _video_path(path))
        console.print(f"video: {video}", soft_wrap=True)


def record(player: Any, path: Path) -> Path:
    """Play from a reset and render the first environments to `path`."""
    from phalanx.video import render_video

    env = player.env
    shown = min(env.num_envs, 1)
    fps = round(1 / env.sim.dt)
    player.reset()
    obs = env.reset()["obs"]
    frames = [env.sim.qpos[:shown].cpu().clone()]
    for _ in range(round(VIDEO_SECONDS * fps)):
        stepped = env.step(player.get_action(obs))
        obs = stepped[0]["obs"]
        player.reset_states(stepped[2] | stepped[3])
        frames.append(env.sim.qpos[:shown].cpu().clone())
    return render_video(env.sim.model_of(0), torch.stack(frames).numpy(), path, fps=fps)


def _video_path(checkpoint: Path) -> Path:
    run = checkpoint.parent.parent if checkpoint.parent.name == "nn" else checkpoint.parent
    return run / "videos" / f"{checkpoint.stem}.mp4"
