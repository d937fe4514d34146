"""`phalanx train ... view=true`: hands the states of a few environments to a page.

The page is a process of its own, `python -m phalanx.cli.watch_page FOLDER`. In the folder are the
model, what the page has to know (`about.json`), the states and the curves (`viewer/states.py`,
`viewer/source.py`). Training writes there and never waits, and writes states only while somebody
looks: on a GPU they leave the device at the end of a rollout, up to 20 times a second, by a copy
that the next rollout does not wait for.
"""

import contextlib
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from phalanx.errors import PhalanxError
from phalanx.rl import AlgoObserver
from phalanx.sim.latest import LatestStates
from phalanx.viewer.source import CURVES
from phalanx.viewer.states import StateWriter

SECONDS_BETWEEN_POINTS = 0.5


class Watch(AlgoObserver):
    """The page of a training run."""

    share = 0.004
    """Of the machine that the page may take while training is shown: 4 pictures a second of nine
    Ants on two cores."""

    def __init__(self, console: Any, num_envs: int, host: str, port: int | None) -> None:
        self.console, self.num_envs = console, num_envs
        self.host, self.port = host, port
        self._page: subprocess.Popen[bytes] | None = None
        self._written = 0.0
        self._said = False

    def before_training(self, algo: Any) -> None:
        self.agent, task = algo, algo.vec_env
        if not hasattr(task, "watchers"):
            raise PhalanxError(f"view=true shows Phalanx's own tasks only; {algo.name} is none")
        self.states = LatestStates(task, self.num_envs)
        _, shown, width = self.states.recorder.ring.shape
        self.writer = StateWriter(self.folder, shown, width)
        (self.folder / CURVES).touch()
        model = task.sim.model_of(0)
        save_model(model, self.folder)
        about = {"title": algo.name, "dt": task.sim.dt, "run": str(algo.experiment_dir.resolve())}
        about |= {"host": self.host, "port": self.port, "share": self.share}
        (self.folder / "about.json").write_text(json.dumps(about), "utf-8")
        self._page = start_page(self.folder)

    @contextlib.contextmanager
    def opened(self) -> Iterator["Watch"]:
        """The page ends with this block at the latest."""
        with tempfile.TemporaryDirectory(prefix="phalanx-view-") as folder:
            self.folder = Path(folder)
            try:
                yield self
            finally:
                if self._page is not None:
                    self._page.terminate()
                    self._page.wait()

    def after_steps(self) -> None:
        wanted = self.writer.wanted
        self.states.keep(wanted)
        if wanted and (rows := self.states.read()) is not None:
            self.writer.append(rows[0].numpy(), rows[1])

    def after_print_stats(self, frame: int, epoch_num: int, total_time: float) -> None:
        self._say()
        now = time.perf_counter()
        if now - self._written < SECONDS_BETWEEN_POINTS:
            return
        self._written = now
        values = {k: v for k, v in self.agent.task_scalars.items() if k.startswith("reward/")}
        if self.agent.mean_rewards.size:
            values["return"] = self.agent.mean_rewards.mean
        with (self.folder / CURVES).open("a", encoding="utf-8") as file:
            file.write(json.dumps({"iteration": epoch_num, "values": values}) + "\n")

    def _say(self) -> None:
        """The address, once the page is there; or that it has ended."""
        if self._page is None or self._said:
            return
        if self._page.poll() is not None:
            log = (
                (self.folder / "page.log").read_text("utf-8", errors="replace").strip().splitlines()
            )
            reason = log[-1] if log else f"exit status {self._page.returncode}"
            self.console.print(f"warning: the view has ended: {reason}", style="yellow")
            self._said = True
        elif (self.folder / "address").is_file():
            address = (self.folder / "address").read_text("utf-8")
            self.console.print(f"watch:  {address}")
            self._said = True


def save_model(model: Any, folder: Path) -> None:
    """Write a model to `folder`/model.mjb."""
    import mujoco
    import numpy as np

    data = np.empty(mujoco.mj_sizeModel(model), np.uint8)
    mujoco.mj_saveModel(model, None, data)
    data.tofile(folder / "model.mjb")


def start_page(folder: Path) -> "subprocess.Popen[bytes]":
    """The page's process, for the states in `folder`."""
    command = [sys.executable, "-m", "phalanx.cli.watch_page", str(folder)]
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1"}
    with (folder / "page.log").open("wb") as log:
        return subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            env=environment,
            start_new_session=True,  # Ctrl-C is for training, which ends the page
        )
