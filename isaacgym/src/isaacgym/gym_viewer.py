"""Gym's calls on the viewer and on what only a viewer or camera would show.

Without a display there is no viewer: `create_viewer` returns None, and calls with that None do
nothing. Colours are shown by the viewer; segmentation ids are taken and given back.
"""

import time
from typing import Any

from isaacgym.geometry import Int2, Transform, Vec2, Vec3
from isaacgym.handles import Sim, actor_of, checked
from isaacgym.property_structs import CameraProperties
from isaacgym.values import ActionEvent
from isaacgym.viewer import Viewer
from isaacgym.world import Env


class ViewerCalls:
    """One window shows all environments, or the nearest, at their origins."""

    def create_viewer(self, sim: Sim, properties: CameraProperties) -> Viewer | None:
        """A window, or None without a display."""
        return Viewer.open(checked(sim, Sim, "create_viewer"), properties)

    def destroy_viewer(self, viewer: Viewer | None) -> None:
        """Close the window."""
        if viewer is not None:
            viewer.close()

    def step_graphics(self, sim: Sim) -> None:
        """Nothing to do: `draw_viewer` takes the poses itself."""
        checked(sim, Sim, "step_graphics")

    def draw_viewer(self, viewer: Viewer | None, sim: Sim, render_collision: bool = True) -> None:
        """Show the present poses."""
        if viewer is not None:
            viewer.draw()

    def sync_frame_time(self, sim: Sim) -> None:
        """Wait until as much time has passed as was simulated since the last call."""
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
        """Have a key start an action."""
        if viewer is not None:
            viewer.subscribe(key, action)
        return True

    def subscribe_viewer_mouse_event(self, viewer: Viewer | None, event: int, action: str) -> bool:
        """The mouse moves MuJoCo's camera; no action ever comes from it."""
        return True

    def viewer_camera_look_at(
        self, viewer: Viewer | None, env: Env | None, position: Vec3, target: Vec3
    ) -> None:
        """Place the camera, in the frame of `env`; None is the world."""
        if viewer is not None:
            viewer.look_at(env, position, target)

    def get_viewer_camera_transform(self, viewer: Viewer | None, env: Env | None) -> Transform:
        """Pose of the camera, which looks along its z axis."""
        return Transform() if viewer is None else viewer.camera_transform(env)

    def get_viewer_size(self, viewer: Viewer | None) -> Int2:
        """Width and height [pixels]."""
        return Int2(0, 0) if viewer is None else Int2(*viewer.size)

    def get_viewer_mouse_position(self, viewer: Viewer | None) -> Vec2:
        """(0, 0): the window does not tell."""
        return Vec2(0.0, 0.0)

    def add_lines(
        self, viewer: Viewer | None, env: Env | None, num_lines: int, vertices: Any, colors: Any
    ) -> None:
        """Draw lines until `clear_lines`; without a viewer, nothing."""
        if viewer is not None:
            viewer.add_lines(env, int(num_lines), vertices, colors)

    def clear_lines(self, viewer: Viewer | None) -> None:
        """Remove all lines."""
        if viewer is not None:
            viewer.lines.clear()

    # Appearance -------------------------------------------------------------------------------

    def set_rigid_body_color(
        self, env: Env, handle: int, body: int, mesh_type: int, color: Vec3
    ) -> None:
        """Red, green, blue, 0 to 1; shown by a viewer."""
        actor_of(env, handle, "set_rigid_body_color").colors[int(body)] = Vec3(*color)

    def get_rigid_body_color(self, env: Env, handle: int, body: int, mesh_type: int) -> Vec3:
        """As set, white if it never was."""
        held = actor_of(env, handle, "get_rigid_body_color").colors.get(int(body))
        return held or Vec3(1.0, 1.0, 1.0)

    def set_rigid_body_segmentation_id(self, env: Env, handle: int, body: int, value: int) -> None:
        """Kept; only cameras would show it."""
        actor_of(env, handle, "set_rigid_body_segmentation_id").segmentation_id = int(value)

    def get_rigid_body_segmentation_id(self, env: Env, handle: int, body: int) -> int:
        """As set."""
        return actor_of(env, handle, "get_rigid_body_segmentation_id").segmentation_id

    def set_light_parameters(
        self, sim: Sim, index: int, intensity: Vec3, ambient: Vec3, direction: Vec3
    ) -> None:
        """The viewer keeps its own light."""
        checked(sim, Sim, "set_light_parameters")
