"""Makes the pictures of a legged task's page: a film of its policy, and its curve.

    uv run python benchmarks/task_picture.py film=POLICY.pth.onnx out=docs/images/go2_velocity.webp
    uv run --with matplotlib python benchmarks/task_picture.py curve=walk_Go2Velocity out=curve.png

The film shows an exported policy in plain MuJoCo, with the task's noise, latency, pushes and
randomised robots. Robots that walk get a list of commands, one after the other. The curve is that
of `walk_seeds.py`, return and tracking over time, or with `x=frames` over environment steps, a line
for each seed. `seconds=`, `robots=` and `width=` change the film.
"""

import json
import subprocess
import sys
import tempfile
from pathlib import Path

import imageio_ffmpeg
import numpy as np

from phalanx.deploy.trial import Trial
from phalanx.tasks.velocity import Velocity
from phalanx.video import render_video, with_cheaper_light

COMMANDS = [(0.8, 0, 0), (0, 0.4, 0), (0.5, 0, 0.8), (-0.5, 0, 0)]
"""Forward, to the left, in a curve, backwards [m/s, m/s, rad/s]."""
FPS = 12


def film(policy: str, out: Path, seconds: float, robots: int, width: int) -> None:
    """Play `policy`, an .onnx file, with `robots` robots and write `out`, a .webp."""
    trial = Trial(policy, robots, endless=True)
    task, poses = trial.task, []
    steps = round(seconds / task.sim.dt)
    for k in range(steps):
        if isinstance(task, Velocity):
            command = np.array(COMMANDS[k * len(COMMANDS) // steps])
            low, high = task.commands.low.numpy(), task.commands.high.numpy()
            task.give_command(command.clip(low, high).tolist())
        poses.append(task.sim.qpos.numpy().copy())
        trial.step()
    qpos = np.stack(poses)[:: round(1 / (FPS * task.sim.dt))]
    model = with_cheaper_light(task.sim.model_of(0))
    with tempfile.TemporaryDirectory() as folder:
        made = render_video(
            model, qpos, Path(folder, "film.mp4"), fps=FPS, width=width, height=width * 3 // 4
        )
        command = [imageio_ffmpeg.get_ffmpeg_exe(), "-y", "-i", str(made), "-c:v", "libwebp"]
        command += ["-quality", "45", "-loop", "0", str(out)]
        subprocess.run(command, check=True, capture_output=True)
    print(f"{out}: {out.stat().st_size / 1e3:.0f} kB, {len(qpos)} pictures")


def curve(folder: Path, out: Path, x: str) -> None:
    """Draw return and tracking of the seeds in `folder` over `x`: s or frames."""
    from matplotlib import pyplot

    label_x, unit = {
        "s": ("seconds since the first iteration", 1),
        "frames": ("million environment steps", 1e6),
    }[x]
    shown = {"return": "mean return", "reward/track_lin_vel": "tracking of velocity [1/s]"}
    seeds = [
        [json.loads(line) for line in file.read_text().splitlines()]
        for file in sorted(folder.glob("seed*_curve.jsonl"))
    ]
    if not any("reward/track_lin_vel" in row for row in seeds[0]):
        shown.pop("reward/track_lin_vel")
    size = (4.2 * len(shown), 3.0)
    figure, axes = pyplot.subplots(1, len(shown), figsize=size, squeeze=False, layout="constrained")
    for axis, (key, label) in zip(axes[0], shown.items(), strict=True):
        for k, rows in enumerate(seeds):
            points = [(row[x] / unit, row[key]) for row in rows if row.get(key) is not None]
            axis.plot(*zip(*points, strict=True), label=f"seed {k + 1}", linewidth=1.3)
        axis.set(xlabel=label_x, ylabel=label, xlim=(0, None))
        axis.grid(alpha=0.3)
    axes[0][0].legend(fontsize=7)
    figure.savefig(out, dpi=90)


def main() -> None:
    given = dict(a.split("=", 1) for a in sys.argv[1:])
    out = Path(given["out"])
    if "curve" in given:
        curve(Path(given["curve"]), out, given.get("x", "s"))
        return
    seconds, robots = float(given.get("seconds", 8)), int(given.get("robots", 1))
    film(given["film"], out, seconds, robots, int(given.get("width", 320)))


if __name__ == "__main__":
    main()
