"""Pictures of a model's states one by one, drawn by a process of its own without a display.

    with FrameRenderer(model) as renderer:
        picture = renderer.draw(qpos)              # (height, width, 3) uint8

`video.py` draws whole films; here a program wants each picture at once, as Gymnasium's `render()`.
The process starts with the first picture. It draws the robot from its front right.
"""

import contextlib
import copy
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import mujoco
import numpy as np
from numpy.typing import NDArray

from phalanx.errors import PhalanxError
from phalanx.video import BACKENDS, GL_OFF, poses, with_cheaper_light
from phalanx.video_renderer import (
    AROUND,
    AZIMUTH,
    ELEVATION,
    MAX_GEOMS,
    box,
    crop,
    place,
    robot_geoms,
    shared_world,
)

READY = b"ready\n"
LOOKS = ("body_pos", "body_quat", "geom_pos", "geom_quat", "geom_size", "geom_rgba")
"""Fields of a model that are drawn and may differ between environments."""


class FrameRenderer:
    """Draws states of `model`, as Recorder has them: qpos, mocap_pos and mocap_quat."""

    def __init__(self, model: mujoco.MjModel, width: int = 320, height: int = 240) -> None:
        self.model, self.width, self.height = model, width, height
        self._size = model.nq + 7 * model.nmocap
        self._process: subprocess.Popen[bytes] | None = None
        self._folder: tempfile.TemporaryDirectory[str] | None = None

    def draw(self, state: NDArray[Any], model: mujoco.MjModel | None = None) -> NDArray[np.uint8]:
        """A picture (height, width, 3). model: whose sizes, places and colours it has, of the same
        scene; None for the renderer's. Raises PhalanxError for a state of another size or with
        numbers that are not finite, and without OpenGL."""
        values = np.ascontiguousarray(state, np.float64)
        if values.size != self._size or not np.isfinite(values).all():
            raise PhalanxError(
                f"the state has {values.size} numbers, {np.isfinite(values).sum()} of them finite;"
                f" a picture needs {self._size}: qpos, mocap_pos and mocap_quat"
            )
        process = self._process or self._start()
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            looks = [getattr(model or self.model, name).ravel() for name in LOOKS]
            process.stdin.write(np.concatenate([values.ravel(), *looks]).tobytes())
            process.stdin.flush()
        except BrokenPipeError:
            pass  # the answer is short, too
        size = 3 * self.width * self.height
        picture = process.stdout.read(size)
        if len(picture) < size:
            raise PhalanxError(f"the renderer has ended: {self._last_words()}")
        return np.frombuffer(picture, np.uint8).reshape(self.height, self.width, 3)

    def close(self) -> None:
        """End the process."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            for pipe in (self._process.stdin, self._process.stdout):
                with contextlib.suppress(BrokenPipeError):
                    pipe.close()  # type: ignore[union-attr]
            self._process = None
        if self._folder is not None:
            self._folder.cleanup()
            self._folder = None

    def __enter__(self) -> "FrameRenderer":
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def _start(self) -> "subprocess.Popen[bytes]":
        self._folder = tempfile.TemporaryDirectory(prefix="phalanx-frames-")
        file = Path(self._folder.name, "model.mjb")
        model = with_cheaper_light(self.model)
        data = np.empty(mujoco.mj_sizeModel(model), np.uint8)
        mujoco.mj_saveModel(model, None, data)
        data.tofile(file)
        chosen = os.environ.get("MUJOCO_GL", "").lower().strip()
        reasons = []
        for backend in BACKENDS if chosen in GL_OFF else (chosen,):
            command = [sys.executable, "-m", "phalanx.frames", str(file)]
            with file.with_name("log").open("wb") as log:
                process = subprocess.Popen(
                    [*command, str(self.width), str(self.height)],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=log,
                    env={**os.environ, "MUJOCO_GL": backend},
                    start_new_session=True,
                )
            self._process = process
            assert process.stdout is not None
            if process.stdout.readline() == READY:
                return process
            process.wait()
            reasons.append(f"{backend}: {self._last_words()}")
        self.close()
        raise PhalanxError(
            "no OpenGL to draw pictures with; install it, on Debian or Ubuntu with"
            f" `apt-get install libegl1 libgl1` ({'; '.join(reasons)})"
        )

    def _last_words(self) -> str:
        assert self._folder is not None
        lines = (
            Path(self._folder.name, "log").read_text("utf-8", errors="replace").strip().splitlines()
        )
        return lines[-1] if lines else "without a word"


class Around:
    """Draws `model`, of a map only what is around the robot. Raises what OpenGL does."""

    def __init__(self, model: mujoco.MjModel, width: int, height: int) -> None:
        self.whole, self.data = model, mujoco.MjData(model)
        self.size = height, width
        self.robot = robot_geoms(model)
        self.camera = mujoco.MjvCamera()
        self.camera.azimuth, self.camera.elevation = AZIMUTH, ELEVATION
        self.camera.distance = 0.0
        self.world = shared_world(model, np.ones(3))  # on a map, all that does not move
        self.fields = self.world & (model.geom_type == mujoco.mjtGeom.mjGEOM_HFIELD)
        self.is_map = bool(self.fields.any())
        self.model, self.near, self.middle = model, self.data, np.zeros(2)
        if self.is_map:
            mujoco.mj_kinematics(model, self.data)
            self.crop(self.middle)
        self.renderer = mujoco.Renderer(self.model, *self.size, MAX_GEOMS)

    def crop(self, middle: NDArray[Any]) -> None:
        """Leave of the map what is around `middle` (x, y) [m]."""
        self.middle, self.model = middle, copy.copy(self.whole)
        crop(self.model, self.data, self.world, middle - AROUND, middle + AROUND)
        self.places = self.model.geom_pos[self.fields].copy()
        self.near = mujoco.MjData(self.model)

    def draw(self, state: NDArray[Any], looks: list[NDArray[Any]]) -> bytes:
        """A picture; state: as of `FrameRenderer`, looks: values of LOOKS."""
        self.show(self.whole, self.data, state, looks)
        low, high = box(self.whole, self.data, self.robot)
        self.camera.lookat = middle = (low + high) / 2
        most = 2.0 * float(np.linalg.norm(high - low))
        self.camera.distance = max(self.camera.distance, most)
        if self.is_map:
            if np.abs(middle[:2] - self.middle).max() > AROUND / 2:
                self.renderer.close()
                self.crop(middle[:2])
                self.renderer = mujoco.Renderer(self.model, *self.size, MAX_GEOMS)
            self.show(self.model, self.near, state, looks)
        self.renderer.update_scene(self.near, self.camera)
        return self.renderer.render().tobytes()

    def show(
        self,
        model: mujoco.MjModel,
        data: mujoco.MjData,
        state: NDArray[Any],
        looks: list[NDArray[Any]],
    ) -> None:
        """Give a model and its data a state."""
        for name, pose in poses(model, state).items():
            getattr(data, name)[:] = pose
        for name, values in zip(LOOKS, looks, strict=True):
            getattr(model, name).flat = values
        if model is not self.whole:
            model.geom_pos[self.fields] = self.places
        place(model, data)


def main(file: str, width: int, height: int) -> None:
    """Draw the states that come in until there are no more."""
    states, pictures = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # stdout is for pictures only
    model = mujoco.MjModel.from_binary_path(file)
    model.vis.global_.offwidth, model.vis.global_.offheight = width, height
    ends = np.cumsum([model.nq + 7 * model.nmocap, *(getattr(model, n).size for n in LOOKS)])
    drawing = Around(model, width, height)
    pictures.write(READY)
    pictures.flush()
    while len(state := states.read(8 * int(ends[-1]))) == 8 * ends[-1]:
        shown, *looks = np.split(np.frombuffer(state), ends[:-1])
        pictures.write(drawing.draw(shown, looks))
        pictures.flush()


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
