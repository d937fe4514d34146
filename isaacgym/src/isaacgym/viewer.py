"""MuJoCo's viewer, showing all environments.

The window's own model shows the ground. The robots are added to the scene, each environment at its
origin as in Isaac Gym. If there are too many for the window, those nearest to the camera's target
are shown."""

import atexit
import contextlib
import copy
import logging
import operator
import os
import sys
import threading
from typing import Any

import mujoco
import numpy as np

from isaacgym.enums import KeyboardInput
from isaacgym.geometry import Quat, Transform, Vec3
from isaacgym.handles import Sim
from isaacgym.property_structs import CameraProperties
from isaacgym.scene import HIDDEN
from isaacgym.values import ActionEvent
from isaacgym.world import Env
from phalanx.errors import PhalanxError

log = logging.getLogger(__name__)

MOST_GEOMS = 8000  # of robots; the window can show 10 000, lines included
AIMED_DRAWINGS = 10  # that set the camera, since the window also sets it while it loads


class Viewer:
    """The window opens at the first drawing, because only then is the model complete."""

    def __init__(self, sim: Sim, properties: CameraProperties) -> None:
        self.sim = sim
        self.size = (properties.width, properties.height)
        self.closed = False
        self.lines: list[tuple[np.ndarray, np.ndarray]] = []
        self.cameras: dict[int, int] = {}
        """Cameras that draw pictures in place of the window's, by environment."""
        self._position, self._target = Vec3(3.0, 3.0, 2.0), Vec3()
        self._actions: dict[int, str] = {}
        self._events: list[ActionEvent] = []
        self._window: Any = None
        self._threads: list[threading.Thread] = []
        self._drawings = 0
        self._models: list[Any] = []
        """Of the groups of environments, as they were when the window opened."""
        self._scenes: list[tuple[Any, Any]] = []
        """Model and data of each structure, with robots in a separate group of geoms."""
        self._origins = np.zeros((0, 3))
        self._untouched = mujoco.MjvPerturb()
        self._robots = mujoco.MjvOption()
        self._robots.geomgroup[:] = [g == HIDDEN for g in range(mujoco.mjNGROUP)]

    @classmethod
    def open(cls, sim: Sim, properties: CameraProperties) -> "Viewer | None":
        """A viewer, or None with a warning if no window can be opened."""
        on_screen = sys.platform != "linux" or any(
            os.environ.get(name) for name in ("DISPLAY", "WAYLAND_DISPLAY")
        )
        if not on_screen:
            log.warning("no display, so gym.create_viewer returns None; run headless")
            return None
        return cls(sim, properties)

    def close(self) -> None:
        """Close the window for good."""
        self.closed = True
        self._shut()

    def _shut(self) -> None:
        atexit.unregister(self.close)
        if self._window is not None:
            self._window.close()
        for thread in self._threads:  # they draw, and must have stopped when the display closes
            thread.join(timeout=5.0)

    def has_closed(self) -> bool:
        """Whether the user has closed the window, even if nothing was drawn since."""
        if self._window is not None and not self._window.is_running():
            self.closed = True
        return self.closed

    def draw(self) -> None:
        """Show the current poses."""
        if self.has_closed() or self.sim.physics is None:
            return
        groups = self.sim.physics.groups
        models = [group.model for group in groups]
        if self._window is not None and not all(map(operator.is_, models, self._models)):
            self._shut()  # it cannot take the shapes of the models of new engines
            self._window = None
        if self._window is None:
            self._open(models)
        # All at once, since every copy waits for the device.
        drawn = [(*g.drawn(), g.state.offset[:, 0].cpu().numpy()) for g in groups]
        if self.has_closed():
            return
        with self._window.lock():
            self._window.user_scn.ngeom = 0
            for e in self._nearest():
                env = self.sim.envs[e]
                if not env.actors:
                    continue
                data, own, offsets = drawn[env.group]
                for holder, fields in zip(self._scenes[env.group], (own, data), strict=True):
                    for name, values in fields.items():
                        held = getattr(holder, name)
                        held[:] = values[env.row].reshape(held.shape)
                self._draw_robots(env, self._origins[e] - offsets[env.row])
            self._draw_lines()
            if self._drawings < AIMED_DRAWINGS:
                self._drawings += 1
                self._aim()
        self._window.sync()

    def subscribe(self, key: int, action: str) -> None:
        """Record `action` whenever `key` is pressed."""
        code = _key_code(_KEY_NAMES[int(key)])
        if code is not None:
            self._actions[code] = action

    def take_events(self) -> list[ActionEvent]:
        """Actions since the last call."""
        events, self._events = self._events, []
        return events

    def look_at(self, env: Env | None, position: Vec3, target: Vec3) -> None:
        """Place the camera; position and target [m] are in the frame of `env`, None for the
        world."""
        origin = _origin(env)
        self._position, self._target = position + origin, target + origin
        if self._window is not None:
            with self._window.lock():
                self._aim()

    def view(self) -> tuple[Env, Vec3, Vec3]:
        """The environment with actors that is nearest to the camera's target, and in its frame the
        positions [m] of camera and target."""
        envs = [env for env in self.sim.envs if env.actors]
        origins = np.array([env.origin for env in envs])
        env = envs[int(np.linalg.norm(origins - [*self._target], axis=1).argmin())]
        return env, self._position - _origin(env), self._target - _origin(env)

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
        return Transform(self._position - _origin(env), turn)

    def add_lines(self, env: Env | None, count: int, vertices: Any, colors: Any) -> None:
        """Add lines [m], in the frame of `env`, None for the world. They stay until cleared."""
        ends = _floats(vertices).reshape(-1, 2, 3)[:count] + np.array([*_origin(env)])
        self.lines.append((ends, _floats(colors).reshape(-1, 3)[:count]))

    def _open(self, models: list[Any]) -> None:
        import mujoco.viewer

        self._models, self._scenes, self._drawings = models, [], 0
        for held in models:
            own = copy.copy(held)
            shown = own.geom_group < 3  # the window's default
            own.geom_group[(own.geom_bodyid > 0) & shown] = HIDDEN
            self._scenes.append((own, mujoco.MjData(own)))
        model = self._scenes[0][0]
        self._origins = np.array([env.origin for env in self.sim.envs])
        # The farthest environments must be visible, and near things must stay so.
        extent = model.stat.extent + np.ptp(self._origins, axis=0).max()
        model.vis.map.znear *= model.stat.extent / extent
        model.vis.map.shadowclip *= model.stat.extent / extent
        model.stat.extent = extent
        others = threading.enumerate()
        self._window = mujoco.viewer.launch_passive(
            model,
            mujoco.MjData(model),
            key_callback=self._pressed,
            show_left_ui=False,
            show_right_ui=False,
        )
        self._threads = [t for t in threading.enumerate() if t not in others]
        atexit.register(self.close)  # after each opening, whose own calls at exit must come later

    def _nearest(self) -> np.ndarray:
        """The environments to draw."""
        distances = np.linalg.norm(self._origins - [*self._target], axis=1)
        each = max(1, *(int((model.geom_group == HIDDEN).sum()) for model, _ in self._scenes))
        return np.argsort(distances, kind="stable")[: max(1, MOST_GEOMS // each)]

    def _draw_robots(self, env: Env, shift: np.ndarray) -> None:
        """Add the robots of an environment, whose poses are in the data, moved by `shift` [m]."""
        (model, data), scene = self._scenes[env.group], self._window.user_scn
        first = scene.ngeom
        mujoco.mj_kinematics(model, data)
        everything = mujoco.mjtCatBit.mjCAT_ALL
        mujoco.mjv_addGeoms(model, data, self._robots, self._untouched, everything, scene)
        colors = {
            actor.first_body + body + 1: color
            for actor in env.actors
            for body, color in actor.colors.items()
        }
        for geom in scene.geoms[first : scene.ngeom]:
            geom.pos += shift
            color = colors.get(int(model.geom_bodyid[geom.objid]))
            if color is not None:
                geom.rgba[:3] = [*color]
                geom.matid = -1

    def _aim(self) -> None:
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


def _origin(env: Env | None) -> Vec3:
    return Vec3() if env is None else Vec3(*env.origin)


def _floats(values: Any) -> np.ndarray:
    try:
        array = np.asarray(values)
        return array.view("f4") if array.dtype.names else array.astype(float)
    except (TypeError, ValueError, OverflowError):
        raise PhalanxError("gym.add_lines takes arrays of numbers") from None


_KEY_NAMES = [key.name.removeprefix("KEY_") for key in KeyboardInput]  # type: ignore[attr-defined]
_SPECIAL_KEYS = {
    "SPACE": 32, "APOSTROPHE": 39, "COMMA": 44, "MINUS": 45, "PERIOD": 46, "SLASH": 47,
    "SEMICOLON": 59, "EQUAL": 61, "LEFT_BRACKET": 91, "BACKSLASH": 92, "RIGHT_BRACKET": 93,
    "GRAVE_ACCENT": 96, "ESCAPE": 256, "ENTER": 257, "TAB": 258, "BACKSPACE": 259, "INSERT": 260,
    "DEL": 261, "RIGHT": 262, "LEFT": 263, "DOWN": 264, "UP": 265, "PAGE_UP": 266,
    "PAGE_DOWN": 267, "HOME": 268, "END": 269,
}  # fmt: skip


def _key_code(name: str) -> int | None:
    """GLFW's code of a key; None for keys that the window does not report."""
    if len(name) == 1:
        return ord(name)
    if name.startswith("F") and name[1:].isdigit():
        return 289 + int(name[1:])
    with contextlib.suppress(KeyError):
        return _SPECIAL_KEYS[name]
    return None
