"""The shapes of a model in a page, with switches for what is drawn.

mjviser draws MuJoCo's shapes, contacts, forces and inertias. Files use the geoms' groups as they
like, so groups are assigned again here: shapes that are only drawn, shapes that collide, and shapes
that do both.
"""

import copy
from collections.abc import Callable

import mujoco
import numpy as np
import viser
from mjviser import ViserMujocoScene
from numpy.typing import NDArray

Array = NDArray[np.float64]

GROUND, DRAWN, BOTH, COLLIDES, NEITHER = range(5)
"""Groups of geoms: the world's; shapes that are only drawn; those that collide, of a body that has
no others; those that collide, of a body with drawn ones; those that the file hides."""
COLLISION_RGBA = (0.95, 0.55, 0.15, 1.0)
VISIBLE_GROUPS = 3
"""Groups of a file from 0 on that MuJoCo's own viewers show."""
DIRECTION = np.array([1.0, -1.2, 0.6])
"""From the robot to the camera: it shows a robot that faces +x from its front right."""


class SceneView:
    """The page's scene. `show` may be called from one thread only."""

    def __init__(self, server: viser.ViserServer, model: mujoco.MjModel, num_envs: int = 1) -> None:
        drawn = copy.copy(model)  # mjviser changes sizes and colours
        drawn.geom_group[:] = groups(model)
        drawn.geom_rgba[drawn.geom_group == COLLIDES] = COLLISION_RGBA
        drawn.geom_matid[drawn.geom_group == COLLIDES] = -1
        self.server = server
        self.scene = ViserMujocoScene(server, drawn, num_envs)
        self.scene.camera_tracking_enabled = False
        self.scene.show_contact_points = self.scene.show_contact_forces = True
        self.scene.geom_groups_visible = [True, True, True, False, False, False]
        self.changed = True
        """Whether a switch was used since the last `show`."""

    def show(self, data: mujoco.MjData) -> None:
        """Draw this state."""
        self.changed = False
        self.scene.update_from_mjdata(data)

    def look_at(self, center: Array, extent: float) -> None:
        """Point the cameras of new pages at `center` (3,) [m], so that `extent` [m] is seen."""
        direction = DIRECTION / np.linalg.norm(DIRECTION)
        self.server.initial_camera.look_at = center
        self.server.initial_camera.position = center + 1.7 * extent * direction

    def add_switches(self) -> None:
        """Add the switches to the page, where the caller's folder or tab is open."""

        def group(index: int, on: bool) -> None:
            self.scene.geom_groups_visible[index] = on

        def frames(on: bool) -> None:
            self.scene.frame_mode = "Body" if on else "None"

        def follow(on: bool) -> None:
            self.scene.camera_tracking_enabled = on

        scene = self.scene
        self._switch("Drawn shapes", True, lambda on: group(DRAWN, on))
        self._switch("Collision shapes", False, lambda on: group(COLLIDES, on))
        self._switch("Inertia boxes", False, lambda on: setattr(scene, "show_inertia", on))
        self._switch("Body frames", False, frames)
        self._switch("Contact points", True, lambda on: setattr(scene, "show_contact_points", on))
        self._switch("Contact forces", True, lambda on: setattr(scene, "show_contact_forces", on))
        self._switch("Follow the robot", False, follow)

    def _switch(self, name: str, on: bool, use: Callable[[bool], None]) -> None:
        box = self.server.gui.add_checkbox(name, initial_value=on)

        @box.on_update
        def _(_: object) -> None:
            use(box.value)
            # Setting this property applies the groups' visibility; mjviser has no method for that.
            self.scene.show_convex_hull = self.scene.show_convex_hull
            self.changed = True


def groups(model: mujoco.MjModel) -> NDArray[np.int32]:
    """(ngeom,) the group of each geom, as above."""
    collides = (model.geom_contype != 0) | (model.geom_conaffinity != 0)
    shown = (model.geom_group < VISIBLE_GROUPS) & (model.geom_rgba[:, 3] > 0)
    has_drawn = np.zeros(model.nbody, bool)
    has_drawn[model.geom_bodyid[shown & ~collides]] = True
    result = np.where(shown, DRAWN, NEITHER)
    result[collides] = np.where(has_drawn[model.geom_bodyid[collides]], COLLIDES, BOTH)
    result[model.geom_bodyid == 0] = GROUND
    return result.astype(np.int32)
