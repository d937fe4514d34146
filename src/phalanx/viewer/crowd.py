"""A few environments of one model next to each other in a page.

On flat ground each has its own place in a grid; otherwise they share the ground and stay where they
are. The shapes of a body are one object of the page, with an instance per environment.
"""

import math
from collections import defaultdict
from typing import Any

import mujoco
import numpy as np
import viser
from mjviser.conversions import group_geoms_by_visual_compat, merge_geoms
from numpy.typing import NDArray

from phalanx.video import poses
from phalanx.video_renderer import box, robot_geoms, shared_world
from phalanx.viewer.scene import COLLIDES, COLLISION_RGBA, DRAWN, NEITHER, groups

Array = NDArray[np.float64]

FIXED = "/fixed"
"""What does not move is below this node, which moves against the robot that is followed. Robots are
not: browsers leave out instances of a shape that are far from where it was made."""
MOST_HEIGHTS = 500_000
"""Of a height field that are drawn; a browser takes seconds for more."""
GAP = 1.3
"""Width of a place over the robot's."""


class Crowd:
    """`num_envs` copies of `model`. `show` may be called from one thread only."""

    def __init__(self, server: viser.ViserServer, model: mujoco.MjModel, num_envs: int) -> None:
        self.server, self.model, self.num_envs = server, model, num_envs
        self.data = mujoco.MjData(model)
        mujoco.mj_resetDataKeyframe(model, self.data, 0) if model.nkey else None
        mujoco.mj_kinematics(model, self.data)
        self._robot = robot_geoms(model)
        low, high = box(model, self.data, self._robot)
        self.size = high - low
        """(3,) of one robot in its initial pose [m]."""
        self._world = shared_world(model, self.size)
        self.body = int(model.body_rootid[model.geom_bodyid[self._robot][0]])
        """The root body of the robot, at which cameras look."""
        self.offsets = self._places(low, high)
        """(num_envs, 3) of the environments in the page [m]."""
        self.positions = self.offsets + self.data.xpos[self.body]
        """(num_envs, 3) of the robots in the page [m]."""
        server.scene.configure_environment_map(environment_intensity=0.8)
        self._fixed = server.scene.add_frame(FIXED, show_axes=False)
        self.moving: list[tuple[viser.BatchedGlbHandle, int]] = []
        """Shapes that move, with their bodies; an instance's index is its environment."""
        self.changed = False
        """Whether shapes have appeared that `show` has not yet moved."""
        self._of_group: dict[int, list[Any]] = defaultdict(list)
        self._draw()

    def show(self, states: NDArray[Any], followed: int | None = None) -> None:
        """Draw states (num_envs, width), as `Recorder` has them. followed: the environment that
        stays in the middle of the page."""
        self.changed = False
        n, model, data = self.num_envs, self.model, self.data
        pos, quat = np.empty((n, model.nbody, 3)), np.empty((n, model.nbody, 4))
        for env, state in enumerate(states):
            for name, pose in poses(model, state).items():
                getattr(data, name)[:] = pose
            mujoco.mj_kinematics(model, data)
            pos[env], quat[env] = data.xpos, data.xquat
        pos += self.offsets[:, None]
        center = np.zeros(3)
        if followed is not None:
            center[:2] = pos[followed, self.body, :2]
        pos -= center
        self.positions = pos[:, self.body].copy()
        with self.server.atomic():
            self._fixed.position = -center
            for handle, body in self.moving:
                if handle.visible:
                    handle.batched_positions = pos[:, body]
                    handle.batched_wxyzs = quat[:, body]
        self.server.flush()

    def set_visible(self, group: int, visible: bool) -> None:
        """Show or hide the shapes of a group of `scene.groups`."""
        for handle in self._of_group[group]:
            handle.visible = visible
        self.changed = True

    @property
    def spread(self) -> float:
        """The largest distance that all robots together cover [m]."""
        return float(np.linalg.norm(np.ptp(self.offsets, axis=0) + self.size))

    def _places(self, low: Array, high: Array) -> Array:
        """Offsets (num_envs, 3) of the environments: a grid about the origin."""
        if not (self.model.geom_type[self._world] == mujoco.mjtGeom.mjGEOM_PLANE).all():
            return np.zeros((self.num_envs, 3))
        fixed = (self.model.body_weldid[self.model.geom_bodyid] == 0) & ~self._world
        if fixed.any():
            fixed_low, fixed_high = box(self.model, self.data, fixed)
            low, high = np.minimum(low, fixed_low), np.maximum(high, fixed_high)
        x, y = GAP * (high - low)[:2] + 0.3 * self.size.max()
        rows = int(np.clip(round(math.sqrt(self.num_envs * y / x)), 1, self.num_envs))
        columns = math.ceil(self.num_envs / rows)
        env = np.arange(self.num_envs)
        places = np.stack([env // columns * x, env % columns * y, 0.0 * env], -1)
        return places - (places.min(0) + places.max(0)) / 2

    def _draw(self) -> None:
        model, scene = self.model, self.server.scene
        drawn_as = groups(model)
        parts: dict[tuple[int, int, bool], list[int]] = defaultdict(list)
        for geom, group in enumerate(drawn_as):
            body = int(model.geom_bodyid[geom])
            if model.geom_type[geom] == mujoco.mjtGeom.mjGEOM_PLANE:
                scene.add_grid(
                    f"{FIXED}/ground{geom}",
                    infinite_grid=True,
                    fade_distance=max(50.0, 4 * self.spread),
                    shadow_opacity=0.2,
                    plane_opacity=0.4,
                    position=self.data.geom_xpos[geom],
                    wxyz=_quat(self.data.geom_xmat[geom]),
                )
            elif model.geom_type[geom] == mujoco.mjtGeom.mjGEOM_HFIELD:
                vertices, faces = hills(model, geom)
                scene.add_mesh_simple(
                    f"{FIXED}/ground{geom}",
                    vertices,
                    faces,
                    color=tuple(0.4 * model.geom_rgba[geom, :3]),  # the page's light is bright
                    flat_shading=True,
                    position=self.data.geom_xpos[geom],
                    wxyz=_quat(self.data.geom_xmat[geom]),
                )
            elif group != NEITHER and model.geom_rgba[geom, 3] > 0:
                parts[body, int(group), bool(self._world[geom])].append(geom)
        colours, materials = model.geom_rgba.copy(), model.geom_matid.copy()
        model.geom_rgba[drawn_as == COLLIDES] = COLLISION_RGBA
        model.geom_matid[drawn_as == COLLIDES] = -1
        for (body, group, shared), geoms in parts.items():
            for k, alike in enumerate(group_geoms_by_visual_compat(model, geoms)):
                offsets = np.zeros((1, 3)) if shared else self.offsets
                moves = model.body_weldid[body] != 0 or model.body_mocapid[body] >= 0
                handle = scene.add_batched_meshes_trimesh(
                    f"{'/robots' if moves else FIXED}/body{body}/{group}{'shared' * shared}{k}",
                    merge_geoms(model, alike),
                    batched_positions=offsets + self.data.xpos[body],
                    batched_wxyzs=np.tile(self.data.xquat[body], (len(offsets), 1)),
                    visible=group != COLLIDES,
                )
                self._of_group[group].append(handle)
                if moves:
                    self.moving.append((handle, body))
        model.geom_rgba[:], model.geom_matid[:] = colours, materials

    def add_switches(self) -> None:
        """Add the switches for kinds of shapes to the page."""
        for name, group, on in (
            ("Drawn shapes", DRAWN, True),
            ("Collision shapes", COLLIDES, False),
        ):
            switch = self.server.gui.add_checkbox(name, initial_value=on)
            switch.on_update(lambda event, group=group: self.set_visible(group, event.target.value))


def hills(model: mujoco.MjModel, geom: int) -> tuple[Array, NDArray[np.int32]]:
    """A height field's surface: vertices (V, 3) [m] in the geom's frame, and triangles (F, 3). Of
    large ones only every second or third height is drawn, or fewer, MOST_HEIGHTS in all."""
    field = model.geom_dataid[geom]
    rows, columns = int(model.hfield_nrow[field]), int(model.hfield_ncol[field])
    begin = model.hfield_adr[field]
    heights = model.hfield_data[begin : begin + rows * columns].reshape(rows, columns)
    apart = math.ceil(math.sqrt(heights.size / MOST_HEIGHTS))
    row, column = (np.union1d(np.arange(0, n, apart), n - 1) for n in (rows, columns))
    x_size, y_size, z_size, _ = model.hfield_size[field]
    x = x_size * (2 * column / (columns - 1) - 1)
    y = y_size * (2 * row / (rows - 1) - 1)
    z = z_size * heights[np.ix_(row, column)]
    vertices = np.stack([*np.meshgrid(x, y), z], -1).reshape(-1, 3)
    corner = np.arange(len(vertices), dtype=np.int32).reshape(z.shape)
    a, b, c, d = corner[:-1, :-1], corner[:-1, 1:], corner[1:, 1:], corner[1:, :-1]
    faces = np.stack([a, b, c, a, c, d], -1).reshape(-1, 3)
    return vertices, faces


def _quat(matrix: Array) -> Array:
    """(4,) w, x, y, z of a rotation matrix (9,)."""
    quat = np.empty(4)
    mujoco.mju_mat2Quat(quat, matrix)
    return quat
