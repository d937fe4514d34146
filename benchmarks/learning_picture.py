"""Makes docs/images/ant.webp: robots at several moments of one training, side by side.

phalanx train task=Ant max_iterations=160 train.params.config.save_frequency=20
python benchmarks/learning_picture.py run=runs/Ant iterations=20,80,160 out=ant.webp
"""

import re
import subprocess
import sys
import tempfile
from pathlib import Path

import imageio_ffmpeg
import numpy as np

from phalanx.rl import Runner
from phalanx.video import render_video, with_cheaper_light

ROBOTS, SECONDS, FPS, WIDTH, HEIGHT = 4, 4.0, 15, 304, 228


def main() -> None:
    given = dict(a.split("=", 1) for a in sys.argv[1:])
    run, out = Path(given["run"]), Path(given["out"])
    with tempfile.TemporaryDirectory() as folder:
        films = []
        for number in given["iterations"].split(","):
            (checkpoint,) = run.glob(f"nn/last_*_ep_{number}_rew_*.pth")
            films.append(film(run, checkpoint, number, Path(folder, f"{number}.mp4")))
        inputs = [x for f in films for x in ("-i", str(f))]
        beside = "".join(f"[{k}]" for k in range(len(films))) + f"hstack={len(films)}"
        command = [imageio_ffmpeg.get_ffmpeg_exe(), "-y", *inputs, "-filter_complex", beside]
        command += ["-c:v", "libwebp", "-quality", "55", "-loop", "0", str(out)]
        subprocess.run(command, check=True, capture_output=True)
    print(f"{out}: {out.stat().st_size / 1e6:.2f} MB")


def film(run: Path, checkpoint: Path, number: str, path: Path) -> Path:
    """Film of some robots with the policy of one checkpoint."""
    runner = Runner()
    runner.load(run)
    runner.params["config"]["num_actors"] = ROBOTS
    player = runner.create_player()
    player.restore(checkpoint)
    env = player.env
    player.reset()
    obs, poses = env.reset()["obs"], []
    for _ in range(round(SECONDS / env.sim.dt)):
        poses.append(env.sim.qpos.cpu().numpy().copy())
        obs = env.step(player.get_action(obs))[0]["obs"]
    qpos = np.stack(poses)[:: round(1 / (FPS * env.sim.dt))]
    reward = re.search(r"_rew_(-?[\d.]+)\.pth", checkpoint.name)
    caption = f"iteration {number}, return {float(reward[1]):.0f}" if reward else number
    model = with_cheaper_light(env.sim.model_of(0))
    return render_video(model, qpos, path, fps=FPS, width=WIDTH, height=HEIGHT, caption=caption)


if __name__ == "__main__":
    main()
