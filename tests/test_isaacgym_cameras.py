"""isaacgym: camera sensors; matrices against points whose place in the picture is known."""

import math

import numpy as np
import pytest

from isaac import GYM, PENDULUM, World, options, pose
from isaacgym import gymapi
from phalanx.errors import PhalanxError


def lens(width=200, height=100, fov=90.0, **others):
    held = gymapi.CameraProperties()
    held.width, held.height, held.horizontal_fov = width, height, fov
    for name, value in others.items():
        setattr(held, name, value)
    return held


def boxes(count=2, spacing=10.0):
    """A world with a box in each environment, 1 m high."""
    world = World()
    box = GYM.create_box(world.sim, 0.2, 0.2, 0.2, options())
    for k in range(count):
        GYM.create_actor(world.env(spacing), box, pose(z=1), "box", k, 0, 3)
    return world


def seen(world, env, camera, point):
    """Picture coordinates of a point in the world: right, up, near over depth, depth."""
    view = GYM.get_camera_view_matrix(world.sim, env, camera)
    projection = GYM.get_camera_proj_matrix(world.sim, env, camera)
    x, y, z, w = np.array([*point, 1.0]) @ view @ projection
    return [x / w, y / w, z / w, w]


def test_a_camera_that_nobody_reads_works_without_a_graphics_device():
    """As base tasks of legged robots create one in every headless run."""
    world = boxes()
    GYM.render_all_camera_sensors(world.sim)
    camera = GYM.create_camera_sensor(world.envs[1], lens())
    assert camera == 0
    GYM.set_camera_location(camera, world.envs[1], gymapi.Vec3(1, 2, 3), gymapi.Vec3(0, 0, 0))
    world.step()
    GYM.step_graphics(world.sim)
    GYM.render_all_camera_sensors(world.sim)
    GYM.destroy_camera_sensor(world.sim, world.envs[1], camera)
    with pytest.raises(PhalanxError, match="camera 0, which was destroyed"):
        GYM.get_camera_transform(world.sim, world.envs[1], camera)


def test_a_point_is_where_its_pixel_is():
    """The second environment's origin is at x = 10. A camera looks along +y from (1, 2, 3) there;
    a point 2 m ahead, 0.5 m to the right and 0.25 m up has tangents 0.25 and 0.125, of 1 at the
    side and, with half as many rows, 0.5 at the top."""
    world = boxes()
    env = world.envs[1]
    camera = GYM.create_camera_sensor(env, lens(near_plane=0.1))
    GYM.set_camera_location(camera, env, gymapi.Vec3(1, 2, 3), gymapi.Vec3(1, 9, 3))
    point = (10 + 1 + 0.5, 2 + 2, 3 + 0.25)
    assert seen(world, env, camera, point) == pytest.approx([0.25, 0.25, 0.05, 2.0], abs=1e-6)
    # Back from the pixel, as point clouds are made: depths are negative.
    view = GYM.get_camera_view_matrix(world.sim, env, camera)
    projection = GYM.get_camera_proj_matrix(world.sim, env, camera)
    depth = -2.0
    x = -0.25 * depth / projection[0, 0]
    y = -0.25 * depth / projection[1, 1]
    back = np.array([x, y, depth, 1.0]) @ np.linalg.inv(view)
    assert back[:3].tolist() == pytest.approx(point, abs=1e-5)


@pytest.mark.parametrize("height", [5.0, -5.0])
def test_a_camera_may_look_straight_up_or_down(height):
    world = boxes()
    camera = GYM.create_camera_sensor(world.envs[0], lens())
    position = gymapi.Vec3(0, 0, height)
    GYM.set_camera_location(camera, world.envs[0], position, gymapi.Vec3())
    middle = seen(world, world.envs[0], camera, (0, 0, 0))
    assert middle == pytest.approx([0, 0, 0.002, 5], abs=1e-6)


def test_a_camera_follows_a_body_with_or_without_its_rotation(tmp_path):
    """The rod is turned a quarter about y, so what was ahead (x) is below. A camera 0.5 m ahead of
    it that turns with it looks down; one that keeps its direction looks ahead."""
    world = World(gravity=0.0)
    asset = world.load(tmp_path, "p.urdf", PENDULUM, fix_base_link=True)
    env = world.env()
    GYM.create_actor(env, asset, pose(z=2), "p", 0, 0, 0)
    GYM.set_actor_dof_states(env, 0, np.array([(math.pi / 2, 0)], gymapi.DofState.dtype), 1)
    ahead, below = (1.5, 0, 2), (0, 0, 0.5)
    for prepared in (False, True):
        if prepared:
            GYM.prepare_sim(world.sim)
        for mode, point in (
            (gymapi.FOLLOW_TRANSFORM, below),
            (gymapi.FOLLOW_POSITION, ahead),
        ):
            camera = GYM.create_camera_sensor(env, lens())
            GYM.attach_camera_to_body(camera, env, 1, pose(0.5, 0, 0), mode)
            assert seen(world, env, camera, point) == pytest.approx([0, 0, 0.01, 1], abs=1e-5)
    tilted = pose(r=gymapi.Quat.from_euler_zyx(0, math.radians(30), 0))
    GYM.set_camera_transform(camera, env, tilted)  # a positive turn about y looks down
    assert GYM.get_camera_transform(world.sim, env, camera).r.rotate(gymapi.Vec3(1, 0, 0)).z < 0


def test_pictures_that_cannot_be_are_refused():
    world = boxes()
    for bad in (lens(width=0), lens(fov=180.0), lens(near_plane=0.0)):
        with pytest.raises(PhalanxError, match=r"gym\.create_camera_sensor was given"):
            GYM.create_camera_sensor(world.envs[0], bad)
    camera = GYM.create_camera_sensor(world.envs[0], lens())
    with pytest.raises(PhalanxError, match="the same position and target"):
        GYM.set_camera_location(camera, world.envs[0], gymapi.Vec3(), gymapi.Vec3())
    with pytest.raises(PhalanxError, match="body 1; there are 1"):
        GYM.attach_camera_to_body(camera, world.envs[0], 1, pose(), gymapi.FOLLOW_POSITION)
