"""The process that draws the pictures of cameras; `pictures.py` starts it and talks to it.

It reads messages from stdin and answers each on stdout. A message is a line of JSON, which names
arrays, followed by their bytes. So OpenGL and CUDA are never in one process, and a crash in a
graphics driver does not end a training run.
"""

import json
import math
import os
import sys
from typing import IO, Any

import mujoco
import numpy as np

MAX_GEOMS = 20_000

Arrays = dict[str, np.ndarray]


def send(stream: IO[bytes], header: dict[str, Any], arrays: Arrays) -> None:
    """Write a message."""
    shapes = {name: [str(a.dtype), list(a.shape)] for name, a in arrays.items()}
    stream.write(json.dumps(header | {"arrays": shapes}).encode() + b"\n")
    for array in arrays.values():
        stream.write(np.ascontiguousarray(array).tobytes())
    stream.flush()


def receive(stream: IO[bytes]) -> tuple[dict[str, Any], Arrays] | None:
    """Read a message; None if the other end has closed."""
    line = stream.readline()
    if not line:
        return None
    header = json.loads(line)
    arrays = {}
    for name, (dtype, shape) in header.pop("arrays").items():
        size = np.dtype(dtype).itemsize * math.prod(shape)
        data = stream.read(size)
        if len(data) < size:
            return None
        arrays[name] = np.frombuffer(data, dtype).reshape(shape).copy()
    return header, arrays


class Scenery:
    """One model, and what it takes to draw it."""

    def __init__(self, path: str, width: int, height: int) -> None:
        self.model = model = mujoco.MjModel.from_binary_path(path)
        model.vis.global_.offwidth, model.vis.global_.offheight = width, height
        self.data = mujoco.MjData(model)
        self.context = mujoco.MjrContext(model, mujoco.mjtFontScale.mjFONTSCALE_100)
        self.context.readDepthMap = mujoco.mjtDepthMap.mjDEPTH_ZEROFAR
        self.scene = mujoco.MjvScene(model, MAX_GEOMS)
        self.option = mujoco.MjvOption()
        for flag in (mujoco.mjtVisFlag.mjVIS_TENDON, mujoco.mjtVisFlag.mjVIS_RANGEFINDER):
            self.option.flags[flag] = 0
        collides = (model.geom_contype | model.geom_conaffinity) != 0
        self.groups = {
            False: model.geom_group.copy(),
            True: np.where(collides | (model.geom_bodyid == 0), 0, mujoco.mjNGROUP - 1),
        }
        """Groups of geoms, of which 0 to 2 are drawn, by whether collision geometry is wanted."""
        hidden = model.geom_group == mujoco.mjNGROUP - 1
        self.groups[True][hidden] = mujoco.mjNGROUP - 1

    def pose(self, arrays: Arrays, row: int, collision: bool) -> None:
        """Show the environment of a row of the message."""
        model, data = self.model, self.data
        for key, values in arrays.items():
            owner, _, name = key.partition(".")
            if owner in ("model", "data"):
                held = getattr(model if owner == "model" else data, name)
                held[...] = values[row].reshape(held.shape)
        model.geom_group[:] = self.groups[collision]
        mujoco.mj_kinematics(model, data)
        mujoco.mj_comPos(model, data)
        mujoco.mj_camlight(model, data)
        everything = mujoco.mjtCatBit.mjCAT_ALL
        camera = mujoco.MjvCamera()
        mujoco.mjv_updateScene(model, data, self.option, None, camera, everything, self.scene)

    def draw(
        self, camera: dict[str, Any], pos: np.ndarray, axes: np.ndarray, ids: np.ndarray
    ) -> np.ndarray:
        """The picture of a camera at `pos` with `axes` forward, left and up, (3, 3). ids: numbers
        of the geoms in segmentation images."""
        width, height = camera["width"], camera["height"]
        near, far = camera["near"], camera["far"]
        side = near * math.tan(math.radians(camera["fov"]) / 2)
        top = side * height / width
        for view in self.scene.camera:
            view.pos, view.forward, view.up = pos, axes[0], axes[2]
            view.frustum_center, view.frustum_width = 0.0, side
            view.frustum_bottom, view.frustum_top = -top, top
            view.frustum_near, view.frustum_far = near, far
            view.orthographic = 0
        for light in self.scene.lights[: self.scene.nlight]:
            if light.headlight:
                light.pos, light.dir = pos, axes[0]
        if width > self.context.offWidth or height > self.context.offHeight:
            size = max(width, self.context.offWidth), max(height, self.context.offHeight)
            mujoco.mjr_resizeOffscreen(*size, self.context)
        color = camera["type"] == "color"
        for flag in (mujoco.mjtRndFlag.mjRND_SEGMENT, mujoco.mjtRndFlag.mjRND_IDCOLOR):
            self.scene.flags[flag] = not color  # smooths nothing, so depths are exact too
        rect = mujoco.MjrRect(0, 0, width, height)
        mujoco.mjr_setBuffer(mujoco.mjtFramebuffer.mjFB_OFFSCREEN, self.context)  # each has its own
        mujoco.mjr_render(rect, self.scene, self.context)
        pixels = np.empty((height, width, 3), np.uint8)
        if color:
            mujoco.mjr_readPixels(pixels, None, rect, self.context)
            return np.dstack([pixels[::-1], np.full((height, width), 255, np.uint8)])
        depth = np.empty((height, width), np.float32)
        mujoco.mjr_readPixels(pixels, depth, rect, self.context)
        if camera["type"] == "depth":
            share = depth[::-1].astype(float)
            away = near * far / (near + share * (far - near))
            return np.where(share > 0, -away, -np.inf).astype(np.float32)
        return self._numbers(pixels[::-1].astype(np.int64), ids)

    def _numbers(self, pixels: np.ndarray, ids: np.ndarray) -> np.ndarray:
        """Segmentation ids (height, width) from colours that number the geoms of the scene."""
        place = pixels[..., 0] + 256 * pixels[..., 1] + 65536 * pixels[..., 2]
        numbers = np.zeros(self.scene.ngeom + 1, np.uint32)
        for geom in self.scene.geoms[: self.scene.ngeom]:
            if geom.objtype == mujoco.mjtObj.mjOBJ_GEOM and geom.segid >= 0:
                numbers[geom.segid + 1] = ids[geom.objid]
        return numbers[np.where(place < len(numbers), place, 0)]


def serve(stream: IO[bytes], answers: IO[bytes]) -> None:
    """Answer messages until the other end closes."""
    context = None
    sceneries: dict[int, Scenery] = {}
    while (message := receive(stream)) is not None:
        header, arrays = message
        if context is None:
            context = mujoco.GLContext(16, 16)
            context.make_current()
        if header["do"] == "load":
            scenery = Scenery(header["path"], header["width"], header["height"])
            sceneries[header["group"]] = scenery
            send(answers, {}, {})
            continue
        images: Arrays = {}
        scenery, shown = sceneries[header["group"]], None
        for k, camera in enumerate(header["cameras"]):
            wanted = camera["row"], camera["collision"]
            if wanted != shown:
                scenery.pose(arrays, *wanted)
                shown = wanted
            ids = arrays["ids"][camera["row"]]
            images[str(k)] = scenery.draw(camera, arrays["pos"][k], arrays["axes"][k], ids)
        send(answers, {}, images)


if __name__ == "__main__":
    # stdout is for messages only; output of graphics libraries goes to stderr instead.
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    serve(sys.stdin.buffer, answers)
    os._exit(0)  # skips GL's destructors, which print errors
