"""A window on one environment: MuJoCo's viewer."""

import contextlib
import logging
import os
import sys
from typing import Any

import mujoco
import numpy as np

from isaacgym.enums import KeyboardInput
from isaacgym.params import CameraProperties
from isaacgym.values import ActionEvent, Quat, Transform, Vec3
from isaacgym.world import Env, Sim

log = logging.getLogger(__name__)


class Viewer:
    """Opened lazily, at the first drawing, because the model is complete only then."""

    def __init__(self, sim: Sim, properties: CameraProperties) -> None:
        self.sim = sim
        self.size = (properties.width, properties.height)
        self.closed = False
        self.lines: list[tuple[np.ndarray, np.ndarray]] = []
        self._env = 0
        self._position, self._target = Vec3(3.0, 3.0, 2.0), Vec3()
        self._actions: dict[int, str] = {}
        self._events: list[ActionEvent] = []
        self._window: Any = None
        self._data: Any = None

    @classmethod
    def open(cls, sim: Sim, properties: CameraProperties) -> "Viewer | None":
        """None, with a warning, where no window can be opened."""
        on_screen = sys.platform != "linux" or any(
            os.environ.get(name) for name in ("DISPLAY", "WAYLAND_DISPLAY")
        )
        if not on_screen:
            log.warning("no display, so gym.create_viewer returns None; run headless")
            return None
        return cls(sim, properties)

    def close(self) -> None:
        """Close the window."""
        self.closed = True
        if self._window is not None:
            self._window.close()

    def draw(self) -> None:
        """Show the present poses of the environment."""
        if self.closed or self.sim.physics is None:
            return
        physics = self.sim.physics
        engine = physics.ready()
        if self._window is None:
            self._open(physics.model)
        if not self._window.is_running():
            self.closed = True
            return
        data, e = self._data, self._env
        with self._window.lock():
            data.qpos[:] = engine.qpos[e].cpu().numpy()
            if data.mocap_pos.size:
                data.mocap_pos[:] = engine.mocap_pos[e].cpu().numpy()
                data.mocap_quat[:] = engine.mocap_quat[e].cpu().numpy()
            mujoco.mj_forward(physics.model, data)
            self._draw_lines()
        self._window.sync()

    def subscribe(self, key: int, action: str) -> None:
        """Note `action` whenever `key` is pressed."""
        code = _key_code(_KEY_NAMES[int(key)])
        if code is not None:
            self._actions[code] = action

    def take_events(self) -> list[ActionEvent]:
        """Actions since the last call."""
        events, self._events = self._events, []
        return events

    def look_at(self, env: Env | None, position: Vec3, target: Vec3) -> None:
        """Place the camera; positions of another environment are moved to the one shown."""
        if env is not None:
            self._env = env.index
        shift = self._shift(env)
        self._position, self._target = position + shift, target + shift
        self._aim()

    def camera_transform(self, env: Env | None) -> Transform:
        """Pose of the camera, which looks along its z axis, in the frame of `env`."""
        forward = (self._target - self._position).normalize()
        z = np.array([0.0, 0.0, 1.0])
        axis, cosine = np.cross(z, [*forward]), float(np.dot(z, [*forward]))
        turn = (
            Quat(axis[0], axis[1], axis[2], 1.0 + cosine).normalize()
            if cosine > -0.9999
            else Quat(1.0, 0, 0, 0)
        )
        return Transform(self._position - self._shift(env), turn)

    def add_lines(self, env: Env | None, count: int, vertices: Any, colors: Any) -> None:
        """Lines until cleared, given in the frame of `env`."""
        ends = _floats(vertices).reshape(-1, 2, 3)[:count] + np.array([*self._shift(env)])
        self.lines.append((ends, _floats(colors).reshape(-1, 3)[:count]))

    def _shift(self, env: Env | None) -> Vec3:
        """From the frame of `env`, or the world, to the coordinates of the window."""
        physics = self.sim.physics
        offset = np.zeros(3)
        if physics is not None:
            offset = physics.offset[self._env, 0].cpu().numpy().astype(float)
        if env is None:
            offset = offset - self.sim.envs[self._env].origin if self.sim.envs else offset
        return Vec3(*offset)

    def _open(self, model: Any) -> None:
        import mujoco.viewer

        for actor in self.sim.envs[self._env].actors:
            for body, color in actor.colors.items():
                geoms = model.geom_bodyid == actor.first_body + body + 1
                model.geom_rgba[geoms, :3] = [*color]
                model.geom_matid[geoms] = -1
        self._data = mujoco.MjData(model)
        self._window = mujoco.viewer.launch_passive(
            model, self._data, key_callback=self._pressed, show_left_ui=False, show_right_ui=False
        )
        self._aim()

    def _aim(self) -> None:
        if self._window is None:
            return
        away = np.array([*(self._position - self._target)])
        distance = float(np.linalg.norm(away)) or 1.0
        camera = self._window.cam
        camera.lookat[:] = [*self._target]
        camera.distance = distance
        camera.azimuth = np.degrees(np.arctan2(-away[1], -away[0]))
        camera.elevation = -np.degrees(np.arcsin(np.clip(away[2] / distance, -1, 1)))

    def _pressed(self, code: int) -> None:
        if code in self._actions:
            self._events.append(ActionEvent(self._actions[code], 1.0))
            self._events.append(ActionEvent(self._actions[code], 0.0))

    def _draw_lines(self) -> None:
        drawn = self._window.user_scn
        drawn.ngeom = 0
        for ends, colors in self.lines:
            for (start, end), color in zip(ends, colors, strict=False):
                if drawn.ngeom == drawn.maxgeom:
                    return
                geom = drawn.geoms[drawn.ngeom]
                kind = mujoco.mjtGeom.mjGEOM_LINE
                rgba = np.array([*color, 1.0], np.float32)
                mujoco.mjv_initGeom(geom, kind, np.zeros(3), np.zeros(3), np.zeros(9), rgba)
                mujoco.mjv_connector(geom, kind, 2.0, start.astype(float), end.astype(float))
                drawn.ngeom += 1


def _floats(values: Any) -> np.ndarray:
    array = np.asarray(values)
    return array.view("f4") if array.dtype.names else array.astype(float)


_KEY_NAMES = [key.name.removeprefix("KEY_") for key in KeyboardInput]  # type: ignore[attr-defined]
_SPECIAL_KEYS = {
    "SPACE": 32, "APOSTROPHE": 39, "COMMA": 44, "MINUS": 45, "PERIOD": 46, "SLASH": 47,
    "SEMICOLON": 59, "EQUAL": 61, "LEFT_BRACKET": 91, "BACKSLASH": 92, "RIGHT_BRACKET": 93,
    "GRAVE_ACCENT": 96, "ESCAPE": 256, "ENTER": 257, "TAB": 258, "BACKSPACE": 259, "INSERT": 260,
    "DEL": 261, "RIGHT": 262, "LEFT": 263, "DOWN": 264, "UP": 265, "PAGE_UP": 266,
    "PAGE_DOWN": 267, "HOME": 268, "END": 269,
}  # fmt: skip


def _key_code(name: str) -> int | None:
    """GLFW's code of a key."""
    if len(name) == 1:
        return ord(name)
    if name.startswith("F") and name[1:].isdigit():
        return 289 + int(name[1:])
    with contextlib.suppress(KeyError):
        return _SPECIAL_KEYS[name]
    return None
