"""isaacgym: camera sensors; matrices against points whose place in the picture is known."""

import gc
import math
import weakref
import zlib

import numpy as np
import pytest
import torch

from isaac import GYM, PENDULUM, World, options, pose
from isaacgym import gymapi, gymtorch
from phalanx.errors import PhalanxError


def lens(width=200, height=100, fov=90.0, **others):
    held = gymapi.CameraProperties()
    held.width, held.height, held.horizontal_fov = width, height, fov
    for name, value in others.items():
        setattr(held, name, value)
    return held


def boxes(count=2, spacing=10.0, ground=None, **kwargs):
    """A world with a box in each environment, 1 m high."""
    world = World(**kwargs)
    if ground is not None:
        plane = gymapi.PlaneParams()
        plane.normal, plane.segmentation_id = gymapi.Vec3(0, 0, 1), ground
        GYM.add_ground(world.sim, plane)
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


def test_programs_take_tensors_of_pictures_while_they_create_environments():
    """AirGym makes a camera and takes its tensor before the environment has an actor."""
    world = World()
    env = world.env()
    camera = GYM.create_camera_sensor(env, lens(9, 7, enable_tensors=True))
    GYM.set_camera_location(camera, env, gymapi.Vec3(-2, 0, 1), gymapi.Vec3(0, 0, 1))
    ask = GYM.get_camera_image_gpu_tensor
    depth = gymtorch.wrap_tensor(ask(world.sim, env, camera, gymapi.IMAGE_DEPTH))
    with pytest.raises(PhalanxError, match=r"sensors was called before gym.prepare_sim; call"):
        GYM.render_all_camera_sensors(world.sim)
    with pytest.raises(PhalanxError, match=r"image was called before gym.prepare_sim; call"):
        GYM.get_camera_image(world.sim, env, camera, gymapi.IMAGE_DEPTH)
    box = GYM.create_box(world.sim, 0.2, 0.2, 0.2, options(density=-1))
    GYM.create_actor(env, box, pose(z=1), "box", 0, 0, 0)
    GYM.prepare_sim(world.sim)
    GYM.render_all_camera_sensors(world.sim)
    assert depth.shape == (7, 9)
    assert depth.max() == pytest.approx(-1.9, abs=0.01)
    assert GYM.get_actor_rigid_body_properties(env, 0)[0].mass == pytest.approx(8.0)  # 1000 kg/m^3


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


W, H = 200, 100


def front(world, env, **lens_settings):
    """A camera 2 m in front of the box, at its height, that looks along x."""
    camera = GYM.create_camera_sensor(env, lens(W, H, **lens_settings))
    GYM.set_camera_location(camera, env, gymapi.Vec3(-2, 0, 1), gymapi.Vec3(0, 0, 1))
    return camera


def test_depths_are_distances_along_the_view_and_numbers_are_those_of_bodies():
    """The face of the box is 1.9 m away and its edge, at 0.1 m, a tangent of 1/19 from the middle.
    The ground, 1 m below, is 1 m over the tangent of a row away, which is 0.5 at the lower side of
    the picture. The horizon and the sky are at infinity."""
    world = boxes(ground=7, gravity=0.0)
    env = world.envs[1]
    camera = front(world, env)
    GYM.prepare_sim(world.sim)
    GYM.render_all_camera_sensors(world.sim)
    depth = GYM.get_camera_image(world.sim, env, camera, gymapi.IMAGE_DEPTH)
    assert (depth.shape, depth.dtype) == ((H, W), np.float32)
    edge = 100 / 19  # pixels
    box = slice(50 - int(edge), 50 + int(edge)), slice(100 - int(edge), 100 + int(edge))
    np.testing.assert_allclose(depth[box], -1.9, rtol=1e-5)
    below = np.arange(70, 100)
    tangents = (below + 0.5 - 50) / 50 * 0.5
    np.testing.assert_allclose(depth[below, 10], -1 / tangents, rtol=1e-4)
    assert np.isneginf(depth[:40]).all()
    numbers = GYM.get_camera_image(world.sim, env, camera, gymapi.IMAGE_SEGMENTATION)
    assert (numbers.shape, numbers.dtype) == ((H, W), np.uint32)
    assert set(np.unique(numbers)) == {0, 3, 7}
    assert (numbers[box] == 3).all()
    assert (numbers == 3).sum() == pytest.approx((2 * edge) ** 2, rel=0.1)
    assert (numbers[70:, 10] == 7).all()
    assert (numbers[:40] == 0).all()
    GYM.set_rigid_body_segmentation_id(env, 0, 0, 40)
    GYM.render_all_camera_sensors(world.sim)
    again = GYM.get_camera_image(world.sim, env, camera, gymapi.IMAGE_SEGMENTATION)
    assert (again[box] == 40).all()


def test_points_and_pixels_agree_through_the_matrices():
    """The centre of the box, turned off the middle of the picture, is where the matrices say."""
    world = boxes(gravity=0.0)
    env = world.envs[1]
    camera = GYM.create_camera_sensor(env, lens(W, H, 70.0))
    GYM.set_camera_location(camera, env, gymapi.Vec3(-2, -1, 2), gymapi.Vec3(0.3, 0.2, 1.4))
    GYM.prepare_sim(world.sim)
    numbers = GYM.get_camera_image(world.sim, env, camera, gymapi.IMAGE_SEGMENTATION)
    x, y, _, _ = seen(world, env, camera, (10, 0, 1))
    rows, columns = np.nonzero(numbers == 3)
    assert columns.mean() + 0.5 == pytest.approx((x + 1) / 2 * W, abs=1.0)
    assert rows.mean() + 0.5 == pytest.approx((1 - y) / 2 * H, abs=1.0)


def test_pictures_show_colours_textures_and_what_moves(tmp_path):
    world = boxes(gravity=-10.0, dt=0.1)
    env = world.envs[0]
    camera = front(world, env, enable_tensors=True)
    red, white = gymapi.Vec3(1, 0, 0), np.full(4 * 4 * 4, 255, np.uint8)
    white[2::4] = 0  # no blue: yellow
    GYM.set_rigid_body_color(env, 0, 0, gymapi.MESH_VISUAL, red)
    GYM.prepare_sim(world.sim)
    middle = H // 2, W // 2

    def color():
        GYM.render_all_camera_sensors(world.sim)
        image = GYM.get_camera_image(world.sim, env, camera, gymapi.IMAGE_COLOR)
        assert (image.shape, image.dtype) == ((H, 4 * W), np.uint8)
        return image.reshape(H, W, 4)[middle].astype(int)

    shown = color()
    assert shown[0] > 2 * max(shown[1], shown[2])
    assert shown[3] == 255
    texture = GYM.create_texture_from_buffer(world.sim, 4, 4, white)
    GYM.set_rigid_body_texture(env, 0, 0, gymapi.MESH_VISUAL, texture)
    shown = color()
    assert shown[1] == pytest.approx(shown[0], abs=10)
    assert shown[2] < shown[0] / 2
    depth = gymtorch.wrap_tensor(
        GYM.get_camera_image_gpu_tensor(world.sim, env, camera, gymapi.IMAGE_DEPTH)
    )
    numbers = gymtorch.wrap_tensor(
        GYM.get_camera_image_gpu_tensor(world.sim, env, camera, gymapi.IMAGE_SEGMENTATION)
    )
    assert (numbers.shape, numbers.dtype) == ((H, W), torch.int32)
    GYM.render_all_camera_sensors(world.sim)
    assert depth[middle] == pytest.approx(-1.9, abs=1e-4)
    world.step(10)  # it falls 5 m, out of sight
    assert depth[middle] == pytest.approx(-1.9, abs=1e-4)  # until it is drawn again
    GYM.render_all_camera_sensors(world.sim)
    GYM.start_access_image_tensors(world.sim)
    assert depth[middle] == -math.inf
    assert numbers[middle] == 0
    GYM.end_access_image_tensors(world.sim)
    GYM.write_camera_image_to_file(
        world.sim, env, camera, gymapi.IMAGE_COLOR, str(tmp_path / "a.png")
    )
    assert (tmp_path / "a.png").read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"


def test_cameras_see_the_sizes_structures_and_terrain_of_their_environment():
    """A field at 0.5 m, on which the environments stand apart. A ball or a larger box in front of
    the same camera: its nearest point is 2 m minus its half extent away."""
    world = World(gravity=0.0)
    held = gymapi.HeightFieldParams()
    held.nbRows = held.nbColumns = 41
    held.row_scale = held.column_scale = 1.0
    held.vertical_scale = 0.5
    held.segmentation_id = 2
    held.transform.p = gymapi.Vec3(-5, -5, 0)
    GYM.add_heightfield(world.sim, np.ones((41, 41), np.int16), held)
    ball = GYM.create_sphere(world.sim, 0.3, options())
    box = GYM.create_box(world.sim, 1.0, 0.2, 0.2, options())
    small = GYM.create_box(world.sim, 0.2, 0.2, 0.2, options())
    cameras = []
    for k, (asset, scale) in enumerate([(small, 1.0), (ball, 1.0), (box, 1.0), (small, 3.0)]):
        env = world.env(10.0)
        GYM.create_actor(env, asset, pose(z=1), "o", k, 0, 3)
        GYM.set_actor_scale(env, 0, scale)
        cameras.append(front(world, env))
    GYM.prepare_sim(world.sim)
    nearest = []
    for env, camera in zip(world.envs, cameras, strict=True):
        depth = GYM.get_camera_image(world.sim, env, camera, gymapi.IMAGE_DEPTH)
        nearest.append(-float(depth[50, 100]))
        np.testing.assert_allclose(depth[99, 10], -0.5 / (0.99 * 0.5), rtol=1e-3)
    assert nearest == pytest.approx([1.9, 1.7, 1.5, 1.7], abs=2e-3)
    GYM.render_all_camera_sensors(world.sim)
    GYM.set_actor_scale(world.envs[1], 0, 2.0)
    GYM.acquire_net_contact_force_tensor(world.sim)  # takes new engines, whose models are drawn
    GYM.render_all_camera_sensors(world.sim)
    depth = GYM.get_camera_image(world.sim, world.envs[1], cameras[1], gymapi.IMAGE_DEPTH)
    assert -depth[50, 100] == pytest.approx(1.4, abs=2e-3)


def test_pictures_and_assets_are_freed_with_cameras_and_simulations():
    world = boxes(1)
    env = world.envs[0]
    camera = GYM.create_camera_sensor(env, lens(enable_tensors=True))
    GYM.get_rigid_transform(env, 0)
    GYM.prepare_sim(world.sim)
    picture = GYM.get_camera_image_gpu_tensor(world.sim, env, camera, gymapi.IMAGE_DEPTH).torch
    picture = weakref.ref(picture)
    assert picture() is not None
    GYM.destroy_camera_sensor(world.sim, env, camera)
    gc.collect()
    assert picture() is None
    asset = weakref.ref(GYM.get_actor_asset(env, 0))
    world.step()
    GYM.destroy_sim(world.sim)
    del world, env
    gc.collect()
    assert asset() is None


def test_attached_cameras_are_drawn_from_where_their_body_is(tmp_path):
    """Rods with a plate 1 m ahead of their hinge. In the second environment the rod is turned a
    quarter about y, so its plate is 1 m below. A camera that turns with the rod sees the plate at
    0.9 m in both, one that keeps its direction only in the first."""
    plate = PENDULUM.replace(
        '<link name="rod">',
        '<link name="rod"><visual><origin xyz="1 0 0"/><geometry><box size="0.2 1 1"/></geometry>'
        "</visual>",
    )
    world = World(gravity=0.0)
    asset = world.load(tmp_path, "p.urdf", plate, fix_base_link=True)
    for k in range(2):
        env = world.env(5.0)
        GYM.create_actor(env, asset, pose(z=2), "p", k, 0, 0)
        turn = np.array([(k * math.pi / 2, 0)], gymapi.DofState.dtype)
        GYM.set_actor_dof_states(env, 0, turn, 1)
        for mode in (gymapi.FOLLOW_TRANSFORM, gymapi.FOLLOW_POSITION):
            camera = GYM.create_camera_sensor(env, lens(9, 9, enable_tensors=True))
            GYM.attach_camera_to_body(camera, env, 1, pose(), mode)
    GYM.prepare_sim(world.sim)
    depths = [
        gymtorch.wrap_tensor(
            GYM.get_camera_image_gpu_tensor(world.sim, env, camera, gymapi.IMAGE_DEPTH)
        )
        for env in world.envs
        for camera in range(2)
    ]
    GYM.render_all_camera_sensors(world.sim)
    middles = [float(depth[4, 4]) for depth in depths]
    assert middles == pytest.approx([-0.9, -0.9, -0.9, -math.inf], abs=1e-5)


def test_a_viewer_writes_what_it_sees(tmp_path):
    """A red ball at the window's target; the window itself is never opened."""
    world = World()
    ball = GYM.create_sphere(world.sim, 0.5)
    env = world.env()
    GYM.create_actor(env, ball, pose(z=2.0), "ball", 0, 0, 0)
    GYM.set_rigid_body_color(env, 0, 0, gymapi.MESH_VISUAL, gymapi.Vec3(1, 0, 0))
    properties = gymapi.CameraProperties()
    properties.width, properties.height = 16, 8
    viewer = gymapi.Viewer(world.sim, properties)
    GYM.write_viewer_image_to_file(None, str(tmp_path / "none.png"))
    assert not list(tmp_path.iterdir())
    GYM.prepare_sim(world.sim)
    GYM.viewer_camera_look_at(viewer, env, gymapi.Vec3(3, 0, 2), gymapi.Vec3(0, 0, 2))
    for _ in range(2):
        GYM.write_viewer_image_to_file(viewer, str(tmp_path / "a.png"))
    data = (tmp_path / "a.png").read_bytes()
    start = data.index(b"IDAT") + 4
    rows = np.frombuffer(zlib.decompress(data[start : data.index(b"IEND") - 8]), np.uint8)
    picture = rows.reshape(8, 1 + 16 * 4)[:, 1:].reshape(8, 16, 4)
    red, green, _ = picture[4, 8, :3].astype(int)
    assert red > 2 * green
    assert picture[0, 0, :3].tolist() != picture[4, 8, :3].tolist()


def place(world, env, x=0.0, y=0.0, z=1.0, r=None):
    """Put an environment's box somewhere, without a step."""
    GYM.set_rigid_transform(env, 0, pose(x, y, z, r))


def test_optical_flow_is_how_far_each_point_moved_in_the_picture():
    """The whole width is 2 tangents of 45 degrees or 2**15 units, so a point at 1.9 m that moves d
    to the right moves d / 1.9 * 2**14; the height is half of the width, so upwards twice that. The
    points of a box that turns by 30 degrees about the view turn with it."""
    world = boxes(ground=7, gravity=0.0)
    first, env = world.envs
    cameras = [front(world, env, enable_tensors=True) for env in world.envs]
    GYM.prepare_sim(world.sim)
    held = GYM.get_camera_image_gpu_tensor(world.sim, first, cameras[0], gymapi.IMAGE_OPTICAL_FLOW)
    flow = gymtorch.wrap_tensor(held)
    assert (flow.shape, flow.dtype) == ((H, W, 2), torch.int16)
    where = held.data_ptr, held.device, int(held.dtype)
    other = gymtorch.wrap_tensor_impl(*where, (*held.shape, 2), (0, 0, 0), (H, W, 2))
    assert (other.shape, other.data_ptr()) == (flow.shape, flow.data_ptr())
    with pytest.raises(TypeError, match=r"shape \(100, 200\)"):
        gymtorch.wrap_tensor_impl(*where, held.shape, (0, 0), held.shape)
    with pytest.raises(TypeError, match=r"offsets \(0, 0\) and counts"):
        gymtorch.wrap_tensor_impl(*where, (*held.shape, 2), (0, 0), (H, W, 2))
    del held  # the address is enough, as the camera has the picture
    gymtorch.wrap_tensor_impl(*where, (H, W, 2), (0, 0, 0), (H, W, 2))
    with pytest.raises(TypeError, match=r"no gymapi\.Tensor"):
        gymtorch.wrap_tensor_impl(1, *where[1:], (H, W, 2), (0, 0, 0), (H, W, 2))

    def moved():
        GYM.render_all_camera_sensors(world.sim)
        image = GYM.get_camera_image(world.sim, env, cameras[1], gymapi.IMAGE_OPTICAL_FLOW)
        assert (image.shape, image.dtype) == ((H, 2 * W), np.int16)
        return image.reshape(H, W, 2)

    assert not moved().any()  # nothing before the first picture
    unit = 2**14 / 1.9
    place(world, env, y=0.1, z=1.05)  # y is to the left
    image = moved()
    assert image[48, 95].tolist() == pytest.approx([-0.1 * unit, -0.05 * 2 * unit], abs=1)
    assert not image[70:].any()  # the ground
    assert not image[:20].any()  # the sky
    assert not flow.any()  # the other environment
    assert not moved().any()

    place(world, env)
    moved()
    GYM.get_camera_image(world.sim, env, cameras[1], gymapi.IMAGE_DEPTH)  # one more to draw
    place(world, env, r=gymapi.Quat.from_axis_angle(gymapi.Vec3(1, 0, 0), math.radians(30)))
    image = moved()
    right, up = 2.5 / 100, 2.5 / 100  # of pixel (47, 102) from the middle, in tangents
    cos, sin = math.cos(math.radians(30)), math.sin(math.radians(30))
    # About x, which is ahead, y (left) turns to z (up): clockwise in the picture.
    was = right * cos - up * sin, right * sin + up * cos
    expected = [(right - was[0]) * 2**14, -(up - was[1]) * 2 * 2**14]
    assert image[47, 102].tolist() == pytest.approx(expected, abs=1.5)

    place(world, env)
    moved()
    GYM.set_camera_location(cameras[1], env, gymapi.Vec3(-2, 0.1, 1), gymapi.Vec3(0, 0.1, 1))
    image = moved()
    assert image[50, 105].tolist() == pytest.approx([0.1 * unit, 0], abs=1)
    depth = 1 / (49.5 / 50 * 0.5)  # of the ground in the last row
    assert image[99, 20].tolist() == pytest.approx([0.1 / depth * 2**14, 0], abs=1)
    place(world, env, x=-9.0)  # behind the camera, then back
    moved()
    place(world, env)
    assert not moved()[50, 105].any()
