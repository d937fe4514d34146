"""Trains HumanoidAMP for a given time, then measures how well it imitates its clip.

    uv run python benchmarks/amp.py task.env.motion_file=<clip> seconds=180 out=walk.json
    uv run python benchmarks/amp.py checkpoint=runs/HumanoidAMP/nn/last_HumanoidAMP.pth \\
        task.env.motion_file=<clip>                            # evaluates only

Other arguments are those of `phalanx train`; `video=<file>.mp4` records the first episode. Seconds
count from the first iteration on, as everywhere; start-up is reported separately.

The evaluation plays 64 episodes of 10 s in parallel, deterministically, from random times of the
clip. Every half second of them is compared with the half second of the clip that fits best: AMP
does not follow the clip's phase over 10 s, but a figure that stands, or moves at another pace, fits
no half second of the clip. The error is the mean distance of the 14 bodies' origins from the
clip's, relative to the root and in its heading frame. The same error is given for hands and feet
alone, and both for a figure that holds the clip's mean pose. A fall is a contact of the ground with
a body other than the feet; the time after a fall is not evaluated.
"""

import dataclasses
import json
import sys
import tempfile
import time
from pathlib import Path

STARTED = time.perf_counter()

import phalanx  # noqa: E402, F401, I001  before torch, as in the commands: it sets up its threads
import torch  # noqa: E402
from torch import Tensor  # noqa: E402

from phalanx.cli.config import compose_config, resolved, train_params  # noqa: E402
from phalanx.cli.play import record  # noqa: E402
from phalanx.cli.result import device_name, git_commit, versions  # noqa: E402
from phalanx.motion import MotionLibrary  # noqa: E402
from phalanx.rl import AlgoObserver, Runner  # noqa: E402
from phalanx.sim.assets import load_robot  # noqa: E402
from phalanx.tasks.humanoid_amp import KEY_BODIES  # noqa: E402
from phalanx.tasks.locomotion import rotation_matrix  # noqa: E402

EPISODES, SECONDS = 64, 10.0
WINDOW = 0.5  # s


class Curve(AlgoObserver):
    """Records seconds, steps, discriminator reward and episode length; ends training in time."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self.points: list[tuple[float, int, float, float]] = []

    def after_init(self, algo) -> None:
        self.algo, self.start = algo, time.perf_counter()

    def after_print_stats(self, frame: int, epoch_num: int, total_time: float) -> None:
        self.wall = time.perf_counter() - self.start
        self.frames, self.iterations = frame, epoch_num
        if not self.points or self.wall > self.points[-1][0] * 1.03 + 0.5:
            reward = self.algo.last_stats["info/disc_reward_mean"]
            length = self.algo.mean_lengths.mean
            self.points.append((round(self.wall, 1), frame, round(reward, 3), round(length, 1)))
            print(self.points[-1], flush=True)
        if self.wall > self.seconds:
            self.algo.request_stop("time is up")


def in_heading_frame(points: Tensor, root_pos: Tensor, root_quat: Tensor) -> Tensor:
    """World points (n, B, 3) relative to roots (n, 3), (n, 4), rotated about z to their heading."""
    rotation = rotation_matrix(root_quat)
    yaw = torch.atan2(rotation[:, 1, 0], rotation[:, 0, 0])[:, None]
    x, y, z = (points - root_pos[:, None]).unbind(2)
    c, s = yaw.cos(), yaw.sin()
    return torch.stack([c * x + s * y, c * y - s * x, z], 2)


def window_errors(played: Tensor, clip: Tensor) -> Tensor:
    """Each body's mean distance [m], (W, B), between played windows (W, K, B, 3) and the closest of
    the clip's windows (S, K, B, 3), by the mean over bodies."""
    each = torch.stack([(played - window).norm(dim=3).mean(1) for window in clip])  # (S, W, B)
    nearest = each.mean(2).argmin(0)
    return each[nearest, torch.arange(len(played), device=played.device)]


def clip_windows(env) -> tuple[Tensor, Tensor, float]:
    """All windows of the clips (S, K, B, 3), the mean pose (B, 3), mean horizontal speed [m/s]."""
    files = env.config.motion_file
    robot = load_robot(env.config.asset).compile()
    names = env.humanoid.body_names[1:]
    files = [files] if isinstance(files, str) else list(files)
    library = MotionLibrary(files, robot, names, device=str(env.device))
    dt, windows, speeds = env.config.dt, [], []
    steps = dt * torch.arange(round(WINDOW / dt), device=env.device)
    for clip in range(library.num_motions):
        last = float(library.lengths[clip]) - WINDOW * (not library.clips[clip].loop)
        starts = torch.arange(0.0, max(last, dt), dt / 4, device=env.device)
        times = (starts[:, None] + steps).flatten()
        ids = torch.full_like(times, clip, dtype=torch.long)
        state = library.state(ids, times)
        local = in_heading_frame(state.key_pos, state.root_pos, state.root_quat)
        windows.append(local.view(len(starts), len(steps), len(names), 3))
        speeds.append(float(state.root_lin_vel[:, :2].norm(dim=1).mean()))
    every = torch.cat(windows)
    return every, every.mean((0, 1)), sum(speeds) / len(speeds)


@torch.no_grad()
def judge(player) -> dict[str, float]:
    """Play one episode of `SECONDS` in every environment, and compute all errors."""
    env = player.env
    obs = env.reset()["obs"]
    alive = torch.ones(env.num_envs, dtype=torch.bool, device=env.device)
    fell = torch.zeros_like(alive)
    poses, living, speeds, rewards = [], [], [], []
    for _ in range(round(SECONDS / env.config.dt)):
        observations, _, terminated, truncated, infos = env.step(player.get_action(obs))
        obs = observations["obs"]
        rewards.append(player.disc_rewards(player.disc_logits(infos["amp_obs"]))[:, 0][alive])
        fell |= alive & terminated
        alive = alive & ~(terminated | truncated)
        robot = env.humanoid
        poses.append(in_heading_frame(robot.body_pos[:, 1:], robot.root_pos, robot.root_quat))
        speeds.append(robot.root_lin_vel_w[:, :2].norm(dim=1)[alive])
        living.append(alive)
    clip, mean_pose, clip_speed = clip_windows(env)
    size = clip.shape[1]
    whole = len(poses) // size * size
    played = torch.stack(poses[:whole], 1).unflatten(1, (-1, size)).flatten(0, 1)
    judged = torch.stack(living[:whole], 1).unflatten(1, (-1, size)).all(2).flatten()
    errors = (
        window_errors(played[judged], clip)
        if judged.any()
        else torch.full((1, clip.shape[2]), torch.nan)
    )
    still = window_errors(mean_pose.expand(1, *clip.shape[1:]).contiguous(), clip)
    lengths = torch.stack(living).sum(0).float() * env.config.dt
    ends = [env.humanoid.body_names.index(name) - 1 for name in KEY_BODIES]
    return {
        "pose_error_m": round(float(errors.mean()), 4),
        "pose_error_worst_percent_m": round(float(errors.mean(1).quantile(0.99)), 4),
        "pose_error_of_the_mean_pose_m": round(float(still.mean()), 4),
        "hands_feet_error_m": round(float(errors[:, ends].mean()), 4),
        "hands_feet_error_of_the_mean_pose_m": round(float(still[:, ends].mean()), 4),
        "windows": int(judged.sum()),
        "episodes": env.num_envs,
        "falls": int(fell.sum()),
        "mean_seconds": round(float(lengths.mean()), 2),
        "disc_reward": round(float(torch.cat(rewards).mean()), 3),
        "root_speed_m_s": round(float(torch.cat(speeds).mean()), 3),
        "clip_speed_m_s": round(clip_speed, 3),
    }


def main() -> None:
    options = dict(a.split("=", 1) for a in sys.argv[1:])
    seconds = float(options.pop("seconds", 180))
    out, video = options.pop("out", ""), options.pop("video", "")
    checkpoint = options.pop("checkpoint", "")
    arguments = ["task=HumanoidAMP", *(f"{k}={v}" for k, v in options.items() if k != "task")]
    with tempfile.TemporaryDirectory() as folder:
        if "train_dir" not in options:
            arguments.append(f"train_dir={folder}")
        if "experiment" not in options:
            arguments.append("experiment=amp")
        config = resolved(compose_config(arguments))
        result: dict = {"command": "benchmarks/amp.py " + " ".join(sys.argv[1:])}
        if not checkpoint:
            curve = Curve(seconds)
            runner = Runner(curve)
            runner.load({"params": train_params(config)})
            runner.run({"train": True})
            nn = Path(config.train_dir) / str(config.experiment) / "nn"
            checkpoint = str(nn / "last_HumanoidAMP.pth")
            result |= {
                "start_up_s": round(curve.start - STARTED, 1),
                "train_s": round(curve.wall, 1),
                "frames": curve.frames,
                "iterations": curve.iterations,
                "train_fps": round(curve.frames / curve.wall),
                "num_envs": curve.algo.num_actors,
                "warnings": curve.algo.warnings,
                "curve_s_frames_discreward_length": curve.points,
            }
        params = train_params(dataclasses.replace(config, num_envs=EPISODES))
        # Longer than the evaluation, so that no episode is truncated.
        params["config"]["env_config"]["episode_length"] = round(SECONDS * 60)
        runner = Runner()
        runner.load({"params": params})
        torch.manual_seed(0)
        player = runner.create_player()
        player.restore(checkpoint)
        result |= judge(player)
        if video:
            record(player, Path(video))
    env = player.env
    result |= {
        "motion_file": env.config.motion_file,
        "device": device_name(env.device),
        "date": time.strftime("%Y-%m-%d"),
        "versions": versions(),
        "git_commit": git_commit(),
    }
    shown = {k: v for k, v in result.items() if not k.startswith("curve")}
    print(json.dumps(shown, indent=2))
    if out:
        Path(out).write_text(json.dumps(result) + "\n")


if __name__ == "__main__":
    main()
