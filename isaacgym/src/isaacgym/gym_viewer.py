"""Gym's calls on the viewer.

Without a display there is no viewer: `create_viewer` returns None, and calls that are given None do
nothing.
"""

import time
from typing import Any

from isaacgym.geometry import Int2, Transform, Vec2, Vec3
from isaacgym.handles import Sim, checked
from isaacgym.property_structs import CameraProperties
from isaacgym.values import ActionEvent
from isaacgym.viewer import Viewer
from isaacgym.world import Env


class ViewerCalls:
    """One window shows the environments at their origins: all of them, or the nearest ones."""

    def create_viewer(self, sim: Sim, properties: CameraProperties) -> Viewer | None:
        """A window, or None without a display."""
        return Viewer.open(checked(sim, Sim, "create_viewer"), properties)

    def destroy_viewer(self, viewer: Viewer | None) -> None:
        """Close the window."""
        if viewer is not None:
            viewer.close()

    def step_graphics(self, sim: Sim) -> None:
        """Nothing to do: `draw_viewer` fetches the poses itself."""
        checked(sim, Sim, "step_graphics")

    def draw_viewer(self, viewer: Viewer | None, sim: Sim, render_collision: bool = True) -> None:
        """Show the current poses."""
        if viewer is not None:
            viewer.draw()

    def sync_frame_time(self, sim: Sim) -> None:
        """Wait until one `dt` of real time has passed since the last call."""
        sim = checked(sim, Sim, "sync_frame_time")
        now, last = time.monotonic(), sim.last_frame
        if last is not None:
            time.sleep(max(0.0, last + sim.params.dt - now))
        sim.last_frame = time.monotonic()

    def poll_viewer_events(self, viewer: Viewer | None) -> None:
        """Nothing to do: the window has a thread of its own."""

    def query_viewer_has_closed(self, viewer: Viewer | None) -> bool:
        """Whether the user has closed the window."""
        return viewer is not None and viewer.has_closed()

    def query_viewer_action_events(self, viewer: Viewer | None) -> list[ActionEvent]:
        """Subscribed actions since the last query."""
        return [] if viewer is None else viewer.take_events()

    def subscribe_viewer_keyboard_event(self, viewer: Viewer | None, key: int, action: str) -> bool:
        """Report `action` whenever `key` is pressed."""
        if viewer is not None:
            viewer.subscribe(key, action)
        return True

    def subscribe_viewer_mouse_event(self, viewer: Viewer | None, event: int, action: str) -> bool:
        """Accepted without effect: the mouse moves MuJoCo's camera."""
        return True

    def viewer_camera_look_at(
        self, viewer: Viewer | None, env: Env | None, position: Vec3, target: Vec3
    ) -> None:
        """Place the camera; position and target [m] are in the frame of `env`, None for the
        world."""
        if viewer is not None:
            viewer.look_at(env, position, target)

    def get_viewer_camera_transform(self, viewer: Viewer | None, env: Env | None) -> Transform:
        """Pose of the camera in the frame of `env`, None for the world. It looks along its z
        axis."""
        return Transform() if viewer is None else viewer.camera_transform(env)

    def get_viewer_size(self, viewer: Viewer | None) -> Int2:
        """Width and height [pixels]."""
        return Int2(0, 0) if viewer is None else Int2(*viewer.size)

    def get_viewer_mouse_position(self, viewer: Viewer | None) -> Vec2:
        """(0, 0): the window does not report it."""
        return Vec2(0.0, 0.0)

    def get_viewer_camera_handle(self, viewer: Viewer | None) -> int:
        """-1, which is no camera's handle."""
        return -1

    def add_lines(
        self, viewer: Viewer | None, env: Env | None, num_lines: int, vertices: Any, colors: Any
    ) -> None:
        """Draw lines until `clear_lines`. vertices: both ends of each line [m], in the frame of
        `env`, None for the world; colors: red, green, blue of each, 0 to 1."""
        if viewer is not None:
            viewer.add_lines(env, int(num_lines), vertices, colors)

    def clear_lines(self, viewer: Viewer | None) -> None:
        """Remove all lines."""
        if viewer is not None:
            viewer.lines.clear()
