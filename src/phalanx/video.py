"""Renders recorded poses to an mp4 or a PNG, without a display, in a separate process.

    qpos = np.stack(recorded)                       # (T, K, nq), K environments of one model
    render_video(model, qpos, "run.mp4", fps=60)
    render_picture(model, qpos[0, 0], "start.png")

`render_video` starts `python -m phalanx.video_renderer JOB`, which draws and writes raw RGB frames
to its stdout; this process counts them and passes them to ffmpeg. So OpenGL and CUDA are never in
one process, and a crash in a graphics driver becomes an error message and does not end a training
run.

Surprises: several environments are drawn next to each other in one picture and share only the
ground; if the ground is not flat, they keep their positions, and the camera follows the first one.
The picture shows `model` itself, without randomisation per environment. Skins and flexes are drawn
only for the first environment.
"""

import contextlib
import copy
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import imageio_ffmpeg
import mujoco
import numpy as np
from numpy.typing import NDArray

from phalanx.errors import PhalanxError, did_you_mean
from phalanx.files import check_place

BACKENDS = ("egl", "osmesa")  # values of MUJOCO_GL to try if the user did not set it
# Values of MUJOCO_GL with which MuJoCo uses no OpenGL in this process.
GL_OFF = ("", "disable", "disabled", "off", "false", "0")
MAX_ENVS = 16
FPS = 30
"""Approximate frame rate of films that nobody needs smoother [1/s]."""
MP4 = (
    # browsers need yuv420p and the index in front; bt709 keeps the colours correct
    *("-c:v", "libx264", "-crf", "18", "-vf", "scale=out_color_matrix=bt709"),
    *("-pix_fmt", "yuv420p", "-colorspace", "bt709", "-color_primaries", "bt709"),
    *("-color_trc", "bt709", "-movflags", "+faststart", "-f", "mp4"),
)
PNG = ("-frames:v", "1", "-c:v", "png", "-f", "image2", "-update", "1")

Array = NDArray[np.float64]


def render_video(
    model: mujoco.MjModel,
    qpos: NDArray[Any],
    path: str | os.PathLike[str],
    *,
    fps: int,
    mocap_pos: NDArray[Any] | None = None,
    mocap_quat: NDArray[Any] | None = None,
    width: int = 640,
    height: int = 480,
    camera: str | None = None,
    caption: str = "",
    on_frame: Callable[[int, int], None] | None = None,
) -> Path:
    """Write T frames of K environments (1 to 16) to `path`, an h264 mp4; returns `path`.

    qpos: (T, K, nq) [m or rad]. mocap_pos: (T, K, nmocap, 3) [m] and mocap_quat:
    (T, K, nmocap, 4), w, x, y, z; without them mocap bodies stay at the model's poses. fps [1/s];
    width, height [pixels], even. camera: a camera of the model, in the first environment; None is a
    free camera that frames the robots and follows them if they travel.
    caption: text in the upper left corner. on_frame(done, T) is called after each frame.

    Creates missing folders; replaces a file at `path`, and only by a complete video. MUJOCO_GL
    selects the renderer; if it is not set, egl is tried, then osmesa.
    Raises PhalanxError for bad arguments, without OpenGL or ffmpeg, if the folder cannot be
    written, if the disk is full, or if the renderer or ffmpeg fails.
    """
    arrays = _checked_arrays(model, qpos, mocap_pos, mocap_quat)
    if width < 16 or height < 16 or width % 2 or height % 2 or fps < 1:
        raise PhalanxError(
            f"the video's width {width} and height {height} must be even numbers from 16 up and"
            f" its fps {fps} at least 1"
        )
    cameras = [model.camera(i).name for i in range(model.ncam)]
    if camera is not None and camera not in cameras:
        raise PhalanxError(
            f"no camera {camera!r} in the model{did_you_mean(camera, cameras)};"
            f" cameras: {', '.join(cameras) or 'none'}"
        )
    arrays |= {"fps": fps, "width": width, "height": height}
    arrays |= {"camera": camera or "", "caption": caption}
    return _render(model, arrays, Path(path), "the video", MP4, on_frame)


def check_film(path: Path, option: str = "") -> None:
    """Raise PhalanxError if no film can be written to `path`, before the work for it begins.
    option: what names the file, for the message; empty if nothing does."""
    if path.suffix.lower() != ".mp4":
        raise PhalanxError(f"the film {path} must end in .mp4")
    check_place(path, option, makes_folders=True)
    ffmpeg_path()


def ffmpeg_path() -> str:
    """The program that encodes films. Raises PhalanxError if there is none."""
    with contextlib.suppress(RuntimeError):
        if found := shutil.which(imageio_ffmpeg.get_ffmpeg_exe()):
            return found
    raise PhalanxError(
        "no ffmpeg to write films with; install it, or set IMAGEIO_FFMPEG_EXE to its path"
    )


def poses(model: mujoco.MjModel, states: NDArray[Any]) -> dict[str, Any]:
    """What `render_video` draws of states (..., width), which are as `sim.recorder` has them: qpos
    and, if the model has mocap bodies, mocap_pos and mocap_quat, by name."""
    qpos, pos, quat = np.split(states, [model.nq, model.nq + 3 * model.nmocap], axis=-1)
    if not model.nmocap:
        return {"qpos": qpos}
    pos, quat = (x.reshape(*x.shape[:-1], model.nmocap, -1) for x in (pos, quat))
    return {"qpos": qpos, "mocap_pos": pos, "mocap_quat": quat}


def thinned(states: NDArray[Any], hz: float) -> tuple[NDArray[Any], int]:
    """About FPS states per second of the states (T, ...), which are `hz` per second, and the number
    per second that is left. Without a GPU, rendering is slow."""
    stride = max(1, round(hz / FPS))
    return states[::stride], max(1, round(hz / stride))


def with_cheaper_light(model: mujoco.MjModel) -> mujoco.MjModel:
    """A copy of `model` that is drawn in about half of the time without a GPU, with coarser shadows
    and edges."""
    model = copy.copy(model)
    model.vis.quality.shadowsize, model.vis.quality.offsamples = 1024, 2
    return model


def render_picture(
    model: mujoco.MjModel,
    qpos: NDArray[Any],
    path: str | os.PathLike[str],
    *,
    width: int = 960,
    height: int = 720,
) -> Path:
    """Write one pose, (nq,) [m or rad], to `path`, a PNG file; returns `path`. Raises PhalanxError
    as `render_video` does."""
    path = Path(path)
    if path.suffix.lower() != ".png":
        raise PhalanxError(f"the picture {path} must end in .png")
    arrays = _checked_arrays(model, np.asarray(qpos)[None, None], None, None)
    arrays |= {"fps": 1, "width": width, "height": height, "camera": "", "caption": ""}
    return _render(model, arrays, path, "the picture", PNG, None)


def _render(
    model: mujoco.MjModel,
    job: dict[str, Any],
    path: Path,
    what: str,
    encoder: Sequence[str],
    on_frame: Callable[[int, int], None] | None,
) -> Path:
    """Render the poses in `job` and encode them to `path`, which messages call `what`."""
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    if path.is_dir():
        raise PhalanxError(f"cannot write {what} {path}: it is a folder; give a file in it")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        partial.touch()
    except OSError as error:
        raise PhalanxError(f"cannot write {what} {path}: {error}") from error
    try:
        with tempfile.TemporaryDirectory(prefix="phalanx-video-") as folder:
            file = Path(folder, "job.npz")
            np.savez(file, **job)
            model_bytes = np.empty(mujoco.mj_sizeModel(model), np.uint8)
            mujoco.mj_saveModel(model, None, model_bytes)
            model_bytes.tofile(file.with_name("model.mjb"))

            chosen = os.environ.get("MUJOCO_GL", "").lower().strip()
            backends = BACKENDS if chosen in GL_OFF else (chosen,)
            reasons = []
            fps, width, height = job["fps"], job["width"], job["height"]
            encode = _ffmpeg_command(partial, fps, width, height, encoder)
            frames = len(job["qpos"])
            for backend in backends:
                reason = _render_with(backend, file, encode, frames, 3 * width * height, on_frame)
                if reason is None:
                    partial.replace(path)
                    return path
                reasons.append(f"{backend}: {reason}")
    except OSError as error:
        raise PhalanxError(f"cannot write {what} {path}: {error}") from error
    finally:
        partial.unlink(missing_ok=True)
    raise PhalanxError(
        f"no OpenGL to render {what} with; install it, on Debian or Ubuntu with"
        " `apt-get install libegl1 libgl1` or `apt-get install libosmesa6`"
        f" ({'; '.join(reasons)})"
    )


def _checked_arrays(
    model: mujoco.MjModel,
    qpos: NDArray[Any],
    mocap_pos: NDArray[Any] | None,
    mocap_quat: NDArray[Any] | None,
) -> dict[str, Any]:
    """The recorded poses by name, float64. Raises PhalanxError for a wrong shape or a number that
    is not finite."""
    leading = np.shape(qpos)[:2]
    if len(leading) < 2 or leading[0] < 1 or not 1 <= leading[1] <= MAX_ENVS:
        raise PhalanxError(
            f"qpos has shape {np.shape(qpos)}; a video needs (frames, environments, {model.nq})"
            f" with at least 1 frame and 1 to {MAX_ENVS} environments"
        )
    given = {
        "qpos": (qpos, (model.nq,)),
        "mocap_pos": (mocap_pos, (model.nmocap, 3)),
        "mocap_quat": (mocap_quat, (model.nmocap, 4)),
    }
    arrays = {}
    for name, (values, trailing) in given.items():
        if values is None:
            continue
        array = np.asarray(values, np.float64)
        if array.shape != leading + trailing:
            raise PhalanxError(f"{name} has shape {array.shape}; it must be {leading + trailing}")
        if not np.isfinite(array).all():
            frame, env = np.argwhere(~np.isfinite(array))[0][:2]
            raise PhalanxError(f"{name} is not finite in frame {frame} of environment {env}")
        arrays[name] = array
    return arrays


def _ffmpeg_command(
    partial: Path, fps: int, width: int, height: int, encoder: Sequence[str]
) -> list[str]:
    """The command that encodes raw RGB frames on stdin to a file at `partial`."""
    return [
        ffmpeg_path(),
        *("-y", "-v", "error", "-f", "rawvideo", "-pix_fmt", "rgb24"),
        *("-s", f"{width}x{height}", "-r", str(fps), "-i", "-", "-an"),
        *encoder,
        str(partial),
    ]


def _render_with(
    backend: str,
    job: Path,
    encode: list[str],
    total: int,
    frame_bytes: int,
    on_frame: Callable[[int, int], None] | None,
) -> str | None:
    """Pipe the renderer with this MUJOCO_GL into `encode`. Returns None, or the reason why its
    OpenGL does not work.

    If the renderer ends before its first frame, OpenGL does not work, since everything else has
    been checked. If it ends later, or ffmpeg fails, raises PhalanxError.
    """
    ffmpeg_log, renderer_log = job.with_name("ffmpeg.log"), job.with_name("renderer.log")
    render = [sys.executable, "-m", "phalanx.video_renderer", str(job)]
    environment = {**os.environ, "MUJOCO_GL": backend}
    with (
        _process(encode, ffmpeg_log, stdin=subprocess.PIPE) as ffmpeg,
        _process(render, renderer_log, stdout=subprocess.PIPE, env=environment) as renderer,
    ):
        assert ffmpeg.stdin is not None
        assert renderer.stdout is not None
        for done in range(total):
            frame = renderer.stdout.read(frame_bytes)
            if len(frame) < frame_bytes:
                reason = _last_line(renderer_log, renderer.wait())
                if done == 0:
                    return reason
                raise PhalanxError(
                    f"the renderer (MUJOCO_GL={backend}) stopped after {done} of {total} frames:"
                    f" {reason}"
                )
            try:
                ffmpeg.stdin.write(frame)
            except BrokenPipeError:
                break  # ffmpeg has ended; its log has the reason
            if on_frame is not None:
                on_frame(done + 1, total)
        with contextlib.suppress(BrokenPipeError):
            ffmpeg.stdin.close()
        if ffmpeg.wait() != 0:
            reason = _last_line(ffmpeg_log, ffmpeg.returncode)
            raise PhalanxError(f"ffmpeg could not write the video: {reason}")
    return None


@contextlib.contextmanager
def _process(command: list[str], log: Path, **options: Any) -> Iterator[subprocess.Popen[bytes]]:
    """A process that ends with the block at the latest. Its stderr goes to `log`; it does not
    receive Ctrl-C."""
    with log.open("wb") as stderr:
        options = {"stdin": subprocess.DEVNULL, "start_new_session": True, **options}
        process = subprocess.Popen(command, stderr=stderr, **options)
    try:
        yield process
    finally:
        process.kill()
        process.wait()
        for pipe in (process.stdin, process.stdout):
            if pipe is not None:
                with contextlib.suppress(BrokenPipeError):
                    pipe.close()


def _last_line(log: Path, returncode: int) -> str:
    lines = [
        line.strip()
        for line in log.read_text("utf-8", errors="replace").splitlines()
        if line.strip()
    ]
    if returncode < 0:
        return f"killed by signal {-returncode}" + (f" after {lines[-1]!r}" if lines else "")
    return lines[-1] if lines else f"exit status {returncode}"
