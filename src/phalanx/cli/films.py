"""`phalanx train ... video_every=100`: a film of the first environment every 100 iterations.

A process of its own draws it, `python -m phalanx.cli.films JOB`, one film at a time. The film goes
to `videos/` in the run folder, and as a small moving picture to TensorBoard.
"""

import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from phalanx.errors import PhalanxError
from phalanx.rl import AlgoObserver
from phalanx.sim.latest import LatestStates

SECONDS = 5.0
"""Length of a film."""
NICENESS = 10
GIF = ("-vf", "fps=10,scale=320:-1:flags=area", "-loop", "0")


class Films(AlgoObserver):
    """Starts the films of a run, and logs them when they are there."""

    def __init__(self, console: Any, every: int) -> None:
        from phalanx.video import ffmpeg_path

        ffmpeg_path()  # or a sentence, before the run begins
        self.console, self.every = console, every
        self._rows: list[NDArray[Any]] | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._next = 0

    def before_training(self, algo: Any) -> None:
        self.agent, self.task = algo, algo.vec_env
        if not hasattr(self.task, "watchers"):
            raise PhalanxError(f"video_every= films Phalanx's own tasks only; {algo.name} is none")
        self._next = -(-(algo.epoch_num + 1) // self.every) * self.every
        self.states = LatestStates(self.task, 1)
        self.model = self.task.sim.model_of(0)  # here, since it waits for the device
        self._wanted = round(SECONDS / self.task.sim.dt)

    def after_steps(self) -> None:
        read = self.states.read()
        if read is not None and self._rows is not None:
            self._rows.append(read[0].numpy())

    def after_print_stats(self, frame: int, epoch_num: int, total_time: float) -> None:
        self._log_what_is_done(frame)
        if epoch_num >= self._next and self._rows is None and self._process is None:
            self._rows, self._iteration = [], epoch_num
            self._next = (epoch_num // self.every + 1) * self.every
        if self._rows and sum(map(len, self._rows)) >= self._wanted:
            self._start(np.concatenate(self._rows)[: self._wanted])
            self._rows = None

    def after_training(self) -> None:
        if self._rows and self._process is None:
            self._start(np.concatenate(self._rows))  # what there is of it
        if self._process is not None:
            self.console.print("waiting for the last film")
            self._process.wait()
            self._log_what_is_done(self.agent.frame)

    def stop(self) -> None:
        """End the process that draws, if the run has failed."""
        if self._process is not None:
            self._process.terminate()
            self._process.wait()
            self._job.cleanup()

    def _start(self, states: NDArray[Any]) -> None:
        from phalanx.cli.watch import save_model
        from phalanx.video import thinned, with_cheaper_light

        self._job = tempfile.TemporaryDirectory(prefix="phalanx-film-")
        folder = Path(self._job.name)
        save_model(with_cheaper_light(self.model), folder)
        states, fps = thinned(states, 1 / self.task.sim.dt)
        self.path = self.agent.experiment_dir / "videos" / f"iteration_{self._iteration:06d}.mp4"
        where, caption = str(self.path.resolve()), f"iteration {self._iteration}"
        np.savez(folder / "job.npz", states=states, fps=fps, path=where, caption=caption)
        command = [sys.executable, "-m", "phalanx.cli.films", str(folder)]
        with (folder / "log").open("wb") as log:
            self._process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
            )

    def _log_what_is_done(self, frame: int) -> None:
        if self._process is None or self._process.poll() is None:
            return
        folder = Path(self._job.name)
        if self._process.returncode == 0:
            self.console.print(f"film:  {self.path}")
            log_film(self.agent.writer, (folder / "film.gif").read_bytes(), frame)
        else:
            log = (folder / "log").read_text("utf-8", errors="replace").strip().splitlines()
            self.console.print(f"warning: no film: {log[-1] if log else ''}", style="yellow")
        self._process = None
        self._job.cleanup()


def log_film(writer: Any, gif: bytes, frame: int) -> None:
    """Log a moving picture to TensorBoard, under IMAGES."""
    from tensorboard.compat.proto.summary_pb2 import Summary

    width, height = (int.from_bytes(gif[k : k + 2], "little") for k in (6, 8))
    image = Summary.Image(height=height, width=width, colorspace=3, encoded_image_string=gif)
    value = Summary.Value(tag="film", image=image)
    writer.file_writer.add_summary(Summary(value=[value]), frame)


def main(folder: Path) -> None:
    """Draw the film of a job."""
    import mujoco

    from phalanx.video import ffmpeg_path, poses, render_video

    os.nice(NICENESS)
    with np.load(folder / "job.npz", allow_pickle=False) as archive:
        job = dict(archive)
    model = mujoco.MjModel.from_binary_path(str(folder / "model.mjb"))
    path = Path(str(job["path"]))
    fps, caption = int(job["fps"]), str(job["caption"])
    render_video(model, path=path, fps=fps, caption=caption, **poses(model, job["states"]))
    ffmpeg = [ffmpeg_path(), "-y", "-v", "error", "-i", str(path)]
    subprocess.run([*ffmpeg, *GIF, str(folder / "film.gif")], check=True)


if __name__ == "__main__":
    # As an error, so that `Films.stop` leaves nothing half-written.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("ended by training"))
    try:
        main(Path(sys.argv[1]))
    except PhalanxError as error:
        sys.exit(str(error))
