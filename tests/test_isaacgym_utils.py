"""torch_utils, terrain_utils and gymutil against MuJoCo's mathematics and values worked by hand."""

import math
import types
import xml.etree.ElementTree as ET

import mujoco
import numpy as np
import pytest
import torch

from isaacgym import gymapi, gymutil, terrain_utils, torch_utils
from phalanx.errors import PhalanxError

SINGLE = 1e-5  # rounding of single precision in short products
N = 16


def unit_quats(n=N, seed=0):
    """Random rotations (n, 4), x y z w."""
    q = torch.randn(n, 4, generator=torch.Generator().manual_seed(seed))
    return q / q.norm(dim=-1, keepdim=True)


def vectors(n=N, seed=1):
    return torch.randn(n, 3, generator=torch.Generator().manual_seed(seed))


def by_mujoco(function, size, *columns):
    """Rows that a mju_ function computes from rows of the columns, in float64."""
    rows = []
    for inputs in zip(*columns, strict=True):
        out = np.zeros(size)
        function(out, *(np.asarray(x, dtype=np.float64) for x in inputs))
        rows.append(out)
    return torch.tensor(np.array(rows), dtype=torch.float)


def wxyz(q):
    return q[:, [3, 0, 1, 2]]


def xyzw(q):
    return q[:, [1, 2, 3, 0]]


def close(a, b):
    torch.testing.assert_close(a, b, rtol=0, atol=SINGLE)


def test_products_and_rotations_agree_with_mujoco():
    a, b, v = unit_quats(), unit_quats(seed=2), vectors()
    turned = by_mujoco(mujoco.mju_rotVecQuat, 3, v, wxyz(a))
    back = by_mujoco(mujoco.mju_rotVecQuat, 3, v, wxyz(torch_utils.quat_conjugate(a)))
    product = xyzw(by_mujoco(mujoco.mju_mulQuat, 4, wxyz(a), wxyz(b)))

    close(torch_utils.quat_mul(a, b), product)
    for rotate in (
        torch_utils.quat_apply,
        torch_utils.quat_rotate,
        torch_utils.get_basis_vector,
        torch_utils.tf_vector,
    ):
        close(rotate(a, v), turned)
    close(torch_utils.quat_rotate_inverse(a, v), back)
    # Leading dimensions are flattened: legged_gym passes (N * P, 4) with (N, P, 3).
    close(torch_utils.quat_apply(a, v.view(4, 4, 3)), turned.view(4, 4, 3))


def test_angle_axis_and_euler_angles_agree_with_mujoco():
    axis, angles = vectors(), 3 * vectors(seed=3)
    unit = axis / axis.norm(dim=-1, keepdim=True)
    truth = by_mujoco(lambda q, u, w: mujoco.mju_axisAngle2Quat(q, u, w), 4, unit, angles[:, 0])
    close(torch_utils.quat_from_angle_axis(angles[:, 0], axis), xyzw(truth))

    q = torch_utils.quat_from_euler_xyz(*angles.T)
    fixed_axes = by_mujoco(lambda q, e: mujoco.mju_euler2Quat(q, e, "XYZ"), 4, angles)
    close(q, xyzw(fixed_axes))
    euler = torch.stack(torch_utils.get_euler_xyz(q))
    assert ((euler >= 0) & (euler < 2 * math.pi)).all()
    again = torch_utils.quat_from_euler_xyz(*euler)
    close((again * q).sum(-1).abs(), torch.ones(N))  # the same rotation, up to the sign
    close(
        torch_utils.normalize_angle(torch.tensor([3.5, -3.5])),
        torch.tensor([3.5, -3.5]) - 2 * math.pi * torch.tensor([1.0, -1.0]),
    )


def test_transforms_combine_and_invert():
    q1, t1, q2, t2, v = (
        unit_quats(),
        vectors(),
        unit_quats(seed=4),
        vectors(seed=5),
        vectors(seed=6),
    )
    q, t = torch_utils.tf_combine(q1=q1, t1=t1, q2=q2, t2=t2)
    moved = torch_utils.tf_apply(q, t, v)
    close(moved, torch_utils.tf_apply(q1, t1, torch_utils.tf_apply(q2, t2, v)))
    close(torch_utils.tf_apply(*torch_utils.tf_inverse(q, t), moved), v)


def reward(q, p, v, angle):
    """Calls everything that takes tensors, as the reward functions of programs do."""
    q = torch_utils.quat_mul(torch_utils.quat_unit(q), torch_utils.quat_conjugate(p))
    v = torch_utils.quat_rotate(q, torch_utils.quat_rotate_inverse(q, torch_utils.normalize(v)))
    v = torch_utils.quat_apply(q, torch_utils.get_basis_vector(p, v))
    q, v = torch_utils.tf_combine(q, v, p, v)
    q, v = torch_utils.tf_inverse(q, v)
    v = torch_utils.tf_apply(q, v, torch_utils.tf_vector(p, v))
    roll, pitch, yaw = torch_utils.get_euler_xyz(q)
    angle = torch_utils.normalize_angle(angle) + torch_utils.copysign(0.5, angle)
    q = torch_utils.quat_mul(torch_utils.quat_from_euler_xyz(roll, pitch, yaw), q)
    q = torch_utils.quat_mul(q, torch_utils.quat_from_angle_axis(angle, v))
    lower, upper = -torch.ones_like(v), torch.ones_like(v) * 2.0
    v = torch_utils.unscale(torch_utils.scale(v, lower, upper), lower, upper)
    noise = torch_utils.torch_rand_float(-1.0, 1.0, (4, 3), "cpu")
    assert noise.abs().max() <= 1.0
    assert torch_utils.torch_random_dir_2((4, 1), "cpu").shape[1] == 2
    return q, torch_utils.tensor_clamp(v, lower, upper)


def test_everything_on_tensors_compiles_to_torchscript():
    inputs = unit_quats(), unit_quats(seed=7), vectors(), vectors()[:, 0]
    for compiled, plain in zip(torch.jit.script(reward)(*inputs), reward(*inputs), strict=True):
        close(compiled, plain)


def test_small_helpers():
    close(
        torch_utils.scale(torch.tensor(0.5), torch.tensor(2.0), torch.tensor(6.0)),
        torch.tensor(5.0),
    )
    assert torch_utils.unscale_np(np.array(5.0), 2.0, 6.0) == 0.5
    assert torch_utils.get_axis_params(1.0, 2) == [0, 0, 1]
    assert torch_utils.get_axis_params(1.0, 0, x_value=3) == [3, 0, 0]  # as the original
    close(torch_utils.copysign(-2.0, torch.tensor([3.0, 0.0, -1.0])), torch.tensor([2.0, 0, -2.0]))
    x = torch.ones(2)
    y = torch_utils.to_torch(x, device="cpu", requires_grad=True)
    y.data += 1
    assert x.tolist() == [1, 1]
    assert torch_utils.to_torch(np.arange(2), dtype=torch.long, device="cpu").tolist() == [0, 1]
    everything = {}
    exec("from isaacgym.torch_utils import *", everything)
    assert everything["np"] is np
    assert everything["torch"] is torch


def terrain(width=40, length=40):
    """4 x 4 m, one unit of height is 0.01 m."""
    return terrain_utils.SubTerrain(
        width=width, length=length, vertical_scale=0.01, horizontal_scale=0.1
    )


def test_regular_terrains_have_the_heights_they_say():
    stairs = terrain_utils.stairs_terrain(terrain(), step_width=1.0, step_height=0.2)
    assert stairs.height_field_raw[[0, 9, 10, 39], 7].tolist() == [20, 20, 40, 80]

    pyramid = terrain_utils.pyramid_stairs_terrain(terrain(), 0.5, -0.1, platform_size=1.0)
    line = pyramid.height_field_raw[20]
    # 40 samples, then 30, 20 and 10 within: at 10 the platform is reached.
    assert line[[0, 4, 5, 9, 10, 14, 15, 24, 25, 39]].tolist() == [
        0, 0, -10, -10, -20, -20, -30, -30, -20, 0,
    ]  # fmt: skip
    np.testing.assert_array_equal(pyramid.height_field_raw, pyramid.height_field_raw.T)

    slope = terrain_utils.sloped_terrain(terrain(), slope=0.5)
    np.testing.assert_array_equal(slope.height_field_raw[:, 3], 5 * np.arange(40))

    hill = terrain_utils.pyramid_sloped_terrain(terrain(), slope=0.5, platform_size=1.0)
    heights = hill.height_field_raw.copy()
    assert heights[0].max() == heights[:, 0].max() == 0
    assert heights[10, 20] == 50  # half way up in x, in the middle in y
    assert (heights[17:24, 17:24] == heights.max()).all()
    terrain_utils.pyramid_sloped_terrain(hill, slope=0.5, platform_size=1.0)  # adds
    np.testing.assert_array_equal(hill.height_field_raw, 2 * heights)
    pit = terrain_utils.pyramid_sloped_terrain(terrain(), slope=-0.5, platform_size=1.0)
    np.testing.assert_array_equal(pit.height_field_raw, -heights)

    wave = terrain_utils.wave_terrain(terrain(), num_waves=2, amplitude=1.0).height_field_raw
    assert wave[0, 0] == 50
    assert wave[5, 0] == 100  # a quarter of a wave of 20 samples
    assert terrain_utils.wave_terrain(terrain(), num_waves=0).height_field_raw.any() == 0


def test_random_terrains_stay_within_their_bounds_and_repeat():
    def rough():
        return terrain_utils.random_uniform_terrain(terrain(40, 60), -0.1, 0.1, 0.05, 0.4)

    np.random.seed(5)  # noqa: NPY002
    first = rough().height_field_raw
    np.random.seed(5)  # noqa: NPY002
    np.testing.assert_array_equal(first, rough().height_field_raw)
    assert (first.min(), first.max()) == (-10, 10)
    assert first.shape == (40, 60)
    every_sample = terrain_utils.random_uniform_terrain(terrain(), -0.1, 0.1, 0.05)
    assert set(np.unique(every_sample.height_field_raw)) == {-10, -5, 0, 5, 10}

    blocks = terrain_utils.discrete_obstacles_terrain(terrain(), 0.21, 0.5, 1.5, 40, 1.0)
    assert set(np.unique(blocks.height_field_raw)) == {-21, -11, 0, 10, 21}
    assert not blocks.height_field_raw[15:25, 15:25].any()

    stones = terrain_utils.stepping_stones_terrain(terrain(), 0.4, 0.2, 0.1, 1.0, depth=-2)
    heights = stones.height_field_raw
    assert heights.min() == -200
    assert set(np.unique(heights)) <= {-200, *range(-11, 10)}
    assert (heights[:, 4:6] == -200)[[*range(15), *range(25, 40)]].all()  # between two rows
    assert not heights[15:25, 15:25].any()


def area_and_volume(vertices, triangles):
    """Area of the triangles seen from above, and the volume between them and z = 0."""
    a, b, c = (vertices[triangles[:, i]].astype(np.float64) for i in range(3))
    area = np.cross(b - a, c - a)[:, 2] / 2  # negative where a triangle faces down
    return area, (area * (a + b + c)[:, 2] / 3).sum()


def test_a_height_field_becomes_triangles_that_face_up():
    heights = np.arange(12, dtype=np.int16).reshape(3, 4)
    vertices, triangles = terrain_utils.convert_heightfield_to_trimesh(heights, 0.5, 0.1)
    assert (vertices.dtype, vertices.shape) == (np.float32, (12, 3))
    assert (triangles.dtype, triangles.shape) == (np.uint32, (12, 3))
    np.testing.assert_allclose(vertices[6], (0.5, 1.0, 0.6), atol=1e-6)  # row 1, column 2
    area, volume = area_and_volume(vertices, triangles)
    np.testing.assert_allclose(area, 0.125)
    assert volume == pytest.approx(0.55 * 1.5)  # a plane: its mean height times its area


def test_steep_steps_become_walls():
    heights = np.zeros((6, 6), np.int16)
    heights[2:4, 2:4] = 10  # a block 1 m high, 2 x 2 samples of 0.5 m
    slanted = terrain_utils.convert_heightfield_to_trimesh(heights, 0.5, 0.1, slope_threshold=None)
    upright = terrain_utils.convert_heightfield_to_trimesh(heights, 0.5, 0.1, slope_threshold=0.75)
    # Without walls the block is a frustum on a square of 1.5 m; with them a box as wide as its
    # top, 0.5 m.
    assert area_and_volume(*slanted)[1] > 0.5
    area, volume = area_and_volume(*upright)
    assert volume == pytest.approx(0.5**2)
    assert area.min() >= 0
    assert area.sum() == pytest.approx(2.5**2)
    gentle = terrain_utils.convert_heightfield_to_trimesh(heights, 0.5, 0.1, slope_threshold=2.1)
    np.testing.assert_array_equal(gentle[0], slanted[0])


def parsed(monkeypatch, line, **options):
    monkeypatch.setattr("sys.argv", ["program", *line.split()])
    return gymutil.parse_arguments("test", **options)


def test_command_line_defaults(monkeypatch):
    args = parsed(monkeypatch, "")
    assert vars(args) == {
        "sim_device": "cuda:0",
        "sim_device_type": "cuda",
        "compute_device_id": 0,
        "pipeline": "gpu",
        "use_gpu": True,
        "use_gpu_pipeline": True,
        "graphics_device_id": 0,
        "flex": False,
        "physx": False,
        "physics_engine": gymapi.SIM_PHYSX,
        "num_threads": 0,
        "subscenes": 0,
        "slices": 0,
    }


def test_command_line_of_a_program(monkeypatch, capsys):
    custom = [
        {"name": "--task", "type": str, "default": "anymal_c_flat", "help": "which"},
        {"name": "--headless", "action": "store_true", "default": False},
        {"name": "--seed", "type": int},
        {"name": "run", "type": str},
    ]
    line = "--sim_device cpu --subscenes 3 --headless --seed 4 here"
    args = parsed(monkeypatch, line, custom_parameters=custom)
    assert (args.task, args.headless, args.seed, args.run) == ("anymal_c_flat", True, 4, "here")
    assert (args.sim_device_type, args.use_gpu, args.slices) == ("cpu", False, 3)
    assert (args.pipeline, args.use_gpu_pipeline) == ("cpu", False)  # follows the physics
    assert "--pipeline cpu" in capsys.readouterr().out

    args = parsed(monkeypatch, "--sim_device cuda:2 --pipeline cpu --nographics", no_graphics=True)
    assert (args.compute_device_id, args.use_gpu_pipeline, args.headless) == (2, False, True)
    assert parsed(monkeypatch, "--flex", headless=True).physics_engine == gymapi.SIM_FLEX


def test_command_line_mistakes(monkeypatch, capsys):
    with pytest.raises(PhalanxError, match="'type' or 'action'"):
        parsed(monkeypatch, "", custom_parameters=[{"name": "--seed"}])
    for line in ("--physx --flex", "--pipeline tpu", "--nonsense"):
        with pytest.raises(SystemExit):
            parsed(monkeypatch, line)
    assert "'tpu'; use cpu, gpu or cuda" in capsys.readouterr().err
    for device in ("gpu", "cuda:", "cuda:x", "cpu:0", ""):
        with pytest.raises(PhalanxError, match="cuda:N"):
            gymutil.parse_device_str(device)
    assert gymutil.parse_device_str("CUDA") == ("cuda", 0)
    assert gymutil.parse_bool("Yes") is True
    assert gymutil.parse_bool("0") is False
    with pytest.raises(PhalanxError, match="neither"):
        gymutil.parse_bool("maybe")


def test_sim_config_from_mappings_and_from_classes():
    class Physx:  # walk-these-ways passes a class here
        num_threads = 10
        contact_collection = 1

    config = {
        "dt": 0.005,
        "up_axis": 1,
        "gravity": [0.0, 0.0, -9.81],
        "num_envs": 4096,  # configs hold more than physics
        "flex": {"relaxation": 0.5, "unheard_of": 1},
        "substeps": None,
    }
    for physx in (Physx, vars(Physx), types.SimpleNamespace(**vars(Physx))):
        params = gymapi.SimParams()
        gymutil.parse_sim_config(config | {"physx": physx}, params)
        assert params.dt == np.float32(0.005)
        assert params.substeps == 2
        assert params.up_axis is gymapi.UP_AXIS_Z
        assert params.gravity.z == np.float32(-9.81)
        assert params.physx.num_threads == 10
        assert params.physx.contact_collection is gymapi.CC_LAST_SUBSTEP
        assert params.flex.relaxation == 0.5
    with pytest.raises(TypeError, match=r"PhysXParams\.num_threads takes a whole number"):
        gymutil.parse_sim_config({"physx": {"num_threads": "many"}}, gymapi.SimParams())


class Lines:
    """Stands where the Gym object does and keeps what is drawn."""

    def add_lines(self, viewer, env, count, vertices, colors):
        self.drawn = vertices.view(np.float32).reshape(count, 2, 3)
        self.colors = colors.view(np.float32).reshape(count, 3)


def drawn(geometry, pose=None):
    gym = Lines()
    gymutil.draw_lines(geometry, gym, None, None, pose or gymapi.Transform())
    return gym.drawn, gym.colors


def test_wireframes():
    up = gymapi.Transform(gymapi.Vec3(0, 0, 5))
    quarter = gymapi.Quat.from_axis_angle(gymapi.Vec3(0, 0, 1), math.pi / 2)
    lines, colors = drawn(gymutil.AxesGeometry(2.0, up), gymapi.Transform(r=quarter))
    np.testing.assert_allclose(lines[:, 0], [[0, 0, 5]] * 3, atol=1e-6)
    np.testing.assert_allclose(lines[:, 1], [[0, 2, 5], [-2, 0, 5], [0, 0, 7]], atol=1e-6)
    np.testing.assert_array_equal(colors, np.eye(3))

    lines, _ = drawn(gymutil.WireframeBoxGeometry(1, 2, 3))
    lengths = np.linalg.norm(lines[:, 0] - lines[:, 1], axis=-1)
    assert sorted(lengths) == [1] * 4 + [2] * 4 + [3] * 4
    np.testing.assert_array_equal(np.abs(lines), np.broadcast_to((0.5, 1, 1.5), (12, 2, 3)))
    lines, _ = drawn(gymutil.WireframeBBoxGeometry([(0, 0, 0), (1, 2, 3)]))
    assert lines.min() == 0
    assert lines.max(axis=(0, 1)).tolist() == [1, 2, 3]

    sphere = gymutil.WireframeSphereGeometry(0.02, 4, 6, None, color=(1, 1, 0))
    lines, colors = drawn(sphere)
    assert sphere.num_lines() == len(lines) == 2 * 4 * 6
    np.testing.assert_allclose(np.linalg.norm(lines, axis=-1), 0.02, atol=1e-6)
    assert (colors == (1, 1, 0)).all()

    gym = Lines()
    p1, p2 = gymapi.Vec3(1, 2, 3), gymapi.Vec3(4, 5, 6)
    gymutil.draw_line(p1, p2, gymapi.Vec3(0, 1, 0), gym, None, None)
    assert gym.drawn.tolist() == [[[1, 2, 3], [4, 5, 6]]]


def uniform(low, high, **more):
    return {"range": [low, high], "distribution": "uniform", "operation": "scaling", **more}


def test_random_samples_follow_range_operation_and_schedule():
    samples = gymutil.generate_random_samples
    x = samples(uniform(0.5, 1.5), 1000, 0)
    assert 0.5 <= x.min() < 0.6
    assert 1.4 < x.max() <= 1.5
    linear = uniform(2, 2, schedule="linear", schedule_steps=10)
    assert [samples(linear, 1, step)[0] for step in (0, 5, 20)] == [1, 1.5, 2]
    late = uniform(2, 2, operation="additive", schedule="constant", schedule_steps=10)
    assert [samples(late, 1, step)[0] for step in (9, 10)] == [0, 2]
    log = samples(uniform(0.01, 100, distribution="loguniform"), 2000, 0)
    assert abs(np.log(log).mean()) < 0.3  # the middle of the logarithms; spread 2.7 / sqrt(2000)
    normal = samples(uniform(3, 0.5, distribution="gaussian", operation="additive"), 2000, 0)
    assert abs(normal.mean() - 3) < 0.1
    assert abs(normal.std() - 0.5) < 0.1
    assert samples(linear, 1, 5, extern_sample=np.array([3.0])) == 2
    for key in ("distribution", "operation", "schedule"):
        with pytest.raises(PhalanxError, match=f"unknown {key} 'linea'"):
            samples(uniform(0, 1, **{key: "linea", "schedule_steps": 1}), 1, 0)


def test_random_samples_are_applied_to_the_original_values():
    double = uniform(2, 2)
    shape = gymapi.RigidShapeProperties()
    original = {name: getattr(shape, name) for name in dir(shape)}
    for _ in range(2):  # from the original each time, not on top of each other
        gymutil.apply_random_samples(shape, original, "friction", double, 0)
    assert shape.friction == 2

    dofs = np.zeros(3, [("damping", "<f4")])
    gymutil.apply_random_samples(dofs, {"damping": np.array([1.0, 2, 3])}, "damping", double, 0)
    assert dofs["damping"].tolist() == [2, 4, 6]

    params = gymapi.SimParams()
    plus = uniform(1, 1, operation="additive")
    original = {"gravity": gymapi.Vec3(0, 0, -10)}
    gymutil.apply_random_samples(params, original, "gravity", plus, 0)
    assert tuple(params.gravity) == (1, 1, -9)
    gymutil.apply_random_samples(params, original, "rest_offset", uniform(0.25, 0.25), 0)
    assert params.physx.rest_offset == 0.25
    with pytest.raises(PhalanxError, match=r"sim_params\.dt cannot"):
        gymutil.apply_random_samples(params, original, "dt", plus, 0)


def test_buckets():
    params = uniform(0, 1, num_buckets=4)
    values = np.array([-0.3, 0.0, 0.24, 0.26, 0.99, 1.7])
    assert gymutil.get_bucketed_val(values, params).tolist() == [0, 0, 0, 0.25, 0.75, 0.75]
    bell = uniform(1, 0.25, distribution="gaussian", num_buckets=2)
    assert gymutil.get_bucketed_val(np.array([0.9, 1.1]), bell).tolist() == [0, 1]

    class Actors:
        def get_actor_count(self, env):
            return 2

        def get_actor_handle(self, env, i):
            return i

        def get_actor_name(self, env, handle):
            return ("hand", "goal")[handle]

        def get_actor_rigid_shape_count(self, env, handle):
            return 8000

    def dr(**friction):
        shapes = {"rigid_shape_properties": {"friction": friction}}
        return {"actor_params": {"hand": shapes, "goal": {"color": True}}}

    gymutil.check_buckets(Actors(), range(8), dr())
    with pytest.raises(AssertionError, match="72000 shapes"):
        gymutil.check_buckets(Actors(), range(9), dr())
    gymutil.check_buckets(Actors(), range(9), dr(num_buckets=250))
    with pytest.raises(AssertionError, match="64001 buckets"):
        gymutil.check_buckets(Actors(), range(9), dr(num_buckets=64001))


def test_maps_of_property_calls_name_the_calls():
    calls = [
        f"{verb}_actor_{kind}_properties"
        for verb in ("get", "set")
        for kind in ("dof", "tendon", "rigid_body", "rigid_shape")
    ]
    gym = types.SimpleNamespace(**{c: c for c in [*calls, "get_sim_params", "set_sim_params"]})
    setters = gymutil.get_property_setter_map(gym)
    getters = gymutil.get_property_getter_map(gym)
    args = gymutil.get_default_setter_args(gym)
    assert setters.keys() == getters.keys() == args.keys()
    assert setters["rigid_body_properties"] == "set_actor_rigid_body_properties"
    assert getters["sim_params"] == "get_sim_params"
    assert [name for name, extra in args.items() if extra] == ["rigid_body_properties"]


def test_xml_is_laid_out():
    root = ET.fromstring("<a><b/><c><d/></c></a>")
    gymutil._indent_xml(root)
    assert ET.tostring(root) == b"<a>\n\t<b />\n\t<c>\n\t\t<d />\n\t</c>\n</a>"
