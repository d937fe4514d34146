"""isaacgym's value types: what they keep, share, accept and refuse."""

import copy
import math
import pickle
import re
import subprocess
import sys
from functools import partial
from pathlib import Path

import mujoco
import numpy as np
import pytest
import torch

import isaacgym
from isaac import GYM, TWO_LINKS, World, options, pose
from isaacgym import gymapi, gymtorch, gymutil, rlgpu
from isaacgym.structs import Struct
from isaacgym.values import DOF_PROPERTIES
from phalanx.errors import PhalanxError

SINGLE = 1e-6  # rounding of single precision

AXIS, ANGLE = (0.3, -1.2, 2.0), 0.7
ROLL, PITCH, YAW = 0.3, -0.8, 2.1


def wxyz(q):
    """MuJoCo's order."""
    return np.array([q.w, q.x, q.y, q.z])


def mujoco_rotation(axis, angle):
    q = np.zeros(4)
    axis = np.array(axis) / np.linalg.norm(axis)
    mujoco.mju_axisAngle2Quat(q, axis, angle)
    return q


def imported(code):
    run = [sys.executable, "-c", code]
    return subprocess.run(run, capture_output=True, text=True, check=True).stdout.split()


def test_importing_the_package_alone_loads_no_torch():
    code = "import isaacgym, sys; print('torch' in sys.modules, 'mujoco' in sys.modules)"
    assert imported(code) == ["False", "False"]


def test_importing_its_modules_loads_no_mujoco_warp_which_takes_seconds():
    code = "from isaacgym import gymapi; import sys; print('mujoco_warp' in sys.modules)"
    assert imported(code) == ["False"]


def test_reading_a_struct_is_live_and_assigning_one_copies():
    p = gymapi.SimParams()
    gravity = p.gravity
    given = gymapi.Vec3(1, 2, 3)
    p.gravity = given
    given.x = 9
    assert tuple(gravity) == (1, 2, 3)  # the earlier reference sees it, the source is apart
    gravity.z = -9.81
    p.physx.use_gpu = True
    assert p.gravity.z == np.float32(-9.81)
    assert p.physx.use_gpu is True
    assert gymapi.SimParams().physx.use_gpu is False  # defaults are not shared

    pose = gymapi.Transform()
    pose.p += gymapi.Vec3(1, 0, 0)
    mesh = gymapi.TriangleMeshParams()
    mesh.transform = pose
    mesh.transform.p.x = -20
    assert pose.p.x == 1
    assert mesh.transform.p.x == -20


@pytest.mark.parametrize(
    "value",
    [2, 2.0, np.float64(2), np.array([2.0]), torch.tensor(2.0), torch.tensor([[2]]), True + 1],
)
def test_numbers_come_in_every_shape(value):
    body = gymapi.RigidBodyProperties()
    body.mass = value
    body.com.x = value
    body.flags = value
    assert (body.mass, body.com.x, body.flags) == (2, 2, 2)
    assert tuple(gymapi.Vec3(*torch.tensor([1.0, 2.0, 3.0]))) == (1, 2, 3)


def test_enums_are_integers_that_print_their_names():
    assert str(gymapi.SIM_PHYSX) == f"{gymapi.SIM_PHYSX}" == "SimType.SIM_PHYSX"
    assert str(gymapi.SIM_PHYSX).split("_")[-1] == "PHYSX"
    assert gymapi.DOF_MODE_POS is gymapi.DofDriveMode.DOF_MODE_POS
    assert gymapi.UpAxis(1) == gymapi.UP_AXIS_Z == 1
    assert gymapi.ContactCollection.__members__["CC_LAST_SUBSTEP"] == 1
    assert gymapi.AXIS_X | gymapi.AXIS_Y | gymapi.AXIS_Z == gymapi.AXIS_TRANSLATION
    assert pickle.loads(pickle.dumps(gymapi.KEY_ESCAPE)) is gymapi.KeyboardInput.KEY_ESCAPE
    options = gymapi.AssetOptions()
    options.default_dof_drive_mode = 3
    assert options.default_dof_drive_mode is gymapi.DOF_MODE_EFFORT


def test_dof_properties_are_reached_by_name_row_and_number():
    props = np.zeros(3, DOF_PROPERTIES)
    props["driveMode"] = gymapi.DOF_MODE_EFFORT
    props["stiffness"] = torch.tensor([1.0, 2.0, 3.0])
    props["driveMode"][0] = gymapi.DOF_MODE_NONE
    props[1]["upper"] = 0.5
    props[2][4] = 7  # velocity, effort, stiffness, damping are numbers 4 to 7
    assert props["driveMode"].tolist() == [0, 3, 3]
    assert (props["upper"][1], props["velocity"][2], props[2][6]) == (0.5, 7, 3)
    assert DOF_PROPERTIES.itemsize == 40


def test_structured_arrays_have_the_sizes_of_the_original():
    sizes = [
        getattr(gymapi, name).dtype.itemsize
        for name in "Vec3 Quat Transform Velocity RigidBodyState DofState".split()
    ]
    assert sizes == [12, 16, 28, 24, 52, 8]
    pose = gymapi.Transform.from_buffer(np.arange(7, dtype=np.float32))
    assert (*pose.p, *pose.r) == (0, 1, 2, 3, 4, 5, 6)


STRUCTS = [
    kind
    for kind in vars(gymapi).values()
    if isinstance(kind, type) and issubclass(kind, Struct) and kind is not Struct
]


@pytest.mark.parametrize("kind", STRUCTS, ids=lambda kind: kind.__name__)
def test_every_struct_can_be_listed_copied_and_pickled(kind):
    struct = kind()
    listed = {name: getattr(struct, name) for name in dir(struct)}
    assert listed.keys() >= kind._fields.keys()
    for other in (pickle.loads(pickle.dumps(struct)), copy.copy(struct), copy.deepcopy(struct)):
        assert repr(other) == repr(struct)
        for name, field in kind._fields.items():
            if issubclass(field, Struct):
                assert getattr(other, name) is not getattr(struct, name)


def test_rotations_agree_with_mujoco():
    q = gymapi.Quat.from_axis_angle(gymapi.Vec3(*AXIS), ANGLE)
    truth = mujoco_rotation(AXIS, ANGLE)
    np.testing.assert_allclose(wxyz(q), truth, atol=SINGLE)

    e = gymapi.Quat().from_euler_zyx(ROLL, PITCH, YAW)
    expected = np.zeros(4)
    mujoco.mju_euler2Quat(expected, [ROLL, PITCH, YAW], "XYZ")  # about fixed axes: x, then y, z
    np.testing.assert_allclose(wxyz(e), expected, atol=SINGLE)
    np.testing.assert_allclose(e.to_euler_zyx(), (ROLL, PITCH, YAW), atol=SINGLE)

    product, turned, v = np.zeros(4), np.zeros(3), [0.5, -2.0, 1.0]
    mujoco.mju_mulQuat(product, truth, expected)
    np.testing.assert_allclose(wxyz(q * e), product, atol=SINGLE)
    mujoco.mju_rotVecQuat(turned, v, truth)
    np.testing.assert_allclose(tuple(q.rotate(gymapi.Vec3(*v))), turned, atol=SINGLE)


def test_poses_compose_and_invert():
    a = gymapi.Transform(gymapi.Vec3(1, 2, 3), gymapi.Quat.from_euler_zyx(ROLL, PITCH, YAW))
    b = gymapi.Transform(p=gymapi.Vec3(-1, 0, 4), r=gymapi.Quat.from_euler_zyx(YAW, ROLL, PITCH))
    v = gymapi.Vec3(0.5, -2.0, 1.0)
    one_by_one = tuple(a.transform_point(b.transform_point(v)))
    np.testing.assert_allclose(tuple((a * b).transform_point(v)), one_by_one, atol=1e-5)
    back = (a * a.inverse()).transform_point(v)
    np.testing.assert_allclose(tuple(back), tuple(v), atol=1e-5)

    many = np.array([[tuple(v)] * 3] * 2, gymapi.Vec3.dtype)
    moved = a.transform_points(many)
    assert moved.shape == (2, 3)
    np.testing.assert_allclose(moved[1, 2].tolist(), tuple(a.transform_point(v)), atol=1e-5)
    assert tuple(gymapi.Transform(gymapi.Vec3(1, 0, 0), None).r) == (0, 0, 0, 1)


def test_vectors_calculate():
    a, b = gymapi.Vec3(1, 2, 3), gymapi.Vec3(-2, 0, 5)
    assert tuple(a + b) == (-1, 2, 8)
    assert tuple(a - b) == (3, 2, -2)
    assert tuple(-a * 2 / 4) == (-0.5, -1, -1.5)
    assert a.dot(b) == 13
    assert tuple(a.cross(b)) == (10, -11, 4)
    assert a.length() == math.sqrt(14)
    assert b.normalize().length() == pytest.approx(1)


def test_a_descriptor_shares_the_memory_of_its_tensor():
    states = torch.zeros(4, 13)
    descriptor = gymtorch.unwrap_tensor(states)
    gymtorch.wrap_tensor(descriptor)[2, 5] = 7.0
    assert states[2, 5] == 7.0
    assert (descriptor.shape, descriptor.ndim, descriptor.device) == ((4, 13), 2, -1)
    assert descriptor.dtype == gymapi.TensorDataType.DTYPE_FLOAT32
    assert descriptor.data_address == states.data_ptr()
    assert gymtorch.wrap_tensor(gymtorch.unwrap_tensor(torch.zeros(0, 13))).shape == (0, 13)


def assign(struct, name, value):
    return lambda: setattr(struct, name, value)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (assign(gymapi.PhysXParams(), "use_gpus", 1), AttributeError, "did you mean 'use_gpu'"),
        (lambda: gymapi.SimParams().gravty, AttributeError, "did you mean 'gravity'"),
        (lambda: gymapi.SimParms, AttributeError, "did you mean 'SimParams'"),
        (assign(gymapi.SimParams(), "dt", "1/60"), TypeError, "SimParams.dt takes a number"),
        (assign(gymapi.SimParams(), "dt", None), TypeError, "SimParams.dt takes a number"),
        (assign(gymapi.SimParams(), "gravity", (0, 0, 1)), TypeError, "takes a Vec3"),
        (assign(gymapi.SimParams(), "substeps", 1.5), TypeError, "a whole number"),
        (assign(gymapi.SimParams(), "use_gpu_pipeline", "False"), TypeError, "True or False"),
        (assign(gymapi.SimParams(), "up_axis", 7), TypeError, "UP_AXIS_Y, UP_AXIS_Z"),
        (assign(gymapi.SimParams(), "dt", torch.zeros(2)), TypeError, "takes a number"),
        (assign(gymapi.TendonProperties(), "type", 1), AttributeError, "read only"),
        (lambda: gymapi.Vec3(1, 2, 3, 4), TypeError, "x, y, z; got 4"),
        (lambda: gymapi.Vec3(1, x=2), TypeError, "x twice"),
        (lambda: gymapi.SoftMaterial, NotImplementedError, "soft bodies are not provided"),
        (rlgpu.create_task_gpu, NotImplementedError, "rlgpu.create_task_gpu"),
        (lambda: gymtorch.unwrap_tensor(torch.zeros(2, 3).T), TypeError, ".contiguous()"),
        (lambda: gymtorch.unwrap_tensor(torch.zeros(2).double()), TypeError, "torch.float64"),
        (lambda: gymtorch.unwrap_tensor(np.zeros(2)), TypeError, "got ndarray"),
        (lambda: gymtorch.wrap_tensor(torch.zeros(2)), TypeError, "acquire_"),
    ],
)
def test_mistakes_are_named(call, error, message):
    with pytest.raises(error) as caught:
        call()
    assert message in str(caught.value)
    assert not isinstance(caught.value, PhalanxError)  # what programs catch is the builtin one


# arguments of calls -------------------------------------------------------------------------------


@pytest.fixture
def held(tmp_path):
    """A world with a robot of two joints: the world, the environment, the DOF properties."""
    world = World()
    asset = world.load(tmp_path, "two.urdf", TWO_JOINTS)
    env = world.env()
    GYM.create_actor(env, asset, pose(), "two")
    return world, env, GYM.get_actor_dof_properties(env, 0)


@pytest.mark.parametrize(
    ("call", "arguments", "words"),
    [
        ("get_actor_dof_count", ["a"], "handle 'a'; it must be a whole number"),
        ("get_actor_dof_count", [0.5], "handle 0.5; it must be a whole number"),
        ("get_actor_dof_count", [None], "handle None"),
        ("get_actor_dof_count", [2**70], "it must be a whole number of 64 bits"),
        ("set_actor_scale", [0, "x"], "scale 'x'; it must be a finite number"),
        ("set_actor_scale", [0, float("nan")], "scale nan; it must be a finite number"),
        ("find_actor_dof_index", [0, 3, gymapi.DOMAIN_ENV], "name 3; it must be a text"),
        ("find_actor_dof_index", [0, "a", 77], "domain 77; it must be one of DOMAIN_ACTOR"),
        ("set_rigid_body_color", [0, 0, 0, 5], "color 5; it must be a gymapi.Vec3"),
        ("set_actor_dof_position_targets", [0, ["x", 1]], "it must be 2 numbers"),
        ("set_actor_dof_position_targets", [0, [1.0]], "given 1 values of degrees of freedom"),
        ("set_actor_dof_velocity_targets", [0, [1.0, np.nan]], "that are not finite"),
        ("set_dof_target_position", [0, np.inf], "target inf; it must be a finite number"),
        ("set_dof_target_position", [0, 1e300], "target 1e+300; it must be a finite number"),
        ("set_actor_dof_position_targets", [0, [1e300, 0.0]], "that are not finite: [inf"),
        ("set_actor_rigid_body_properties", [0, 5], "properties 5; it must be a list"),
        ("set_actor_rigid_body_properties", [0, [], np.zeros(2)], "it must be true or false"),
        ("set_actor_rigid_body_properties", [0, [1, 2, 3]], "takes one RigidBodyProperties, not"),
    ],
)
def test_a_wrong_argument_is_named(held, call, arguments, words):
    with pytest.raises((PhalanxError, TypeError)) as error:
        getattr(GYM, call)(held[1], *arguments)
    assert str(error.value).startswith(f"gym.{call} ")
    assert words in str(error.value)


@pytest.mark.parametrize(
    ("field", "value", "words"),
    [
        ("lower", np.nan, "given limits nan .. 1.0 for DOF 'a'; both must be numbers"),
        ("upper", np.nan, "limits -1.0 .. nan"),
        ("effort", -1.0, "the largest effort [-1.0, 5.0], which must not be negative or NaN"),
        ("velocity", np.nan, "the largest velocity [nan"),
        ("stiffness", np.nan, "given stiffness [nan"),
        ("damping", np.inf, "which must be finite and not negative"),
        ("driveMode", 9, "given driveMode [9"),
    ],
)
def test_properties_that_no_joint_has_are_refused(held, field, value, words):
    _, env, properties = held
    properties[field][0] = value
    with pytest.raises(PhalanxError) as error:
        GYM.set_actor_dof_properties(env, 0, properties)
    assert words in str(error.value)


def test_shape_properties_of_another_actor_count_as_far_as_they_go(caplog):
    """In-hand-rotation gives its object, of one shape, those of the hand."""
    sim = GYM.create_sim(0, -1, gymapi.SIM_PHYSX, gymapi.SimParams())
    asset = GYM.create_box(sim, 1, 1, 1, gymapi.AssetOptions())
    env = GYM.create_env(sim, gymapi.Vec3(), gymapi.Vec3(), 1)
    GYM.create_actor(env, asset, gymapi.Transform(), "box", 0, 0)
    given = [gymapi.RigidShapeProperties() for _ in range(3)]
    given[0].friction, given[1].friction = 0.3, 0.4
    assert GYM.set_actor_rigid_shape_properties(env, 0, given)
    (taken,) = GYM.get_actor_rigid_shape_properties(env, 0)
    assert taken.friction == pytest.approx(0.3)
    assert "was given 3 properties for 1 shapes; only the first 1 count" in caplog.text
    with pytest.raises(PhalanxError, match="was given 0 properties for 1 shapes"):
        GYM.set_actor_rigid_shape_properties(env, 0, [])
    GYM.destroy_sim(sim)


def test_limits_in_the_wrong_order_are_swapped_with_a_warning(held, caplog):
    """In-hand-rotation holds its arm with equal limits, to which IsaacGymEnvs' noise is added."""
    _, env, properties = held
    properties["hasLimits"][:] = True
    properties["lower"][0], properties["upper"][0] = 1.1831, 1.1829
    assert GYM.set_actor_dof_properties(env, 0, properties)
    assert properties["lower"][0] > properties["upper"][0]  # the program's own array stays
    taken = GYM.get_actor_dof_properties(env, 0)
    assert (taken["lower"][0], taken["upper"][0]) == (
        properties["upper"][0],
        properties["lower"][0],
    )
    assert taken["lower"][1] == properties["lower"][1]
    assert "gym.set_actor_dof_properties: swapped limits in the wrong order: a" in caplog.text


@pytest.mark.parametrize(
    ("field", "value"),
    [("dt", 0.0), ("dt", -1.0), ("dt", np.inf), ("substeps", 0), ("substeps", 2**40)],
)
def test_times_that_no_simulation_can_have_are_refused_wherever_they_are_given(field, value):
    """2^40 substeps would not end."""
    params = gymapi.SimParams()
    sim = GYM.create_sim(0, -1, gymapi.SIM_PHYSX, params)
    setattr(params, field, value)
    for call in (
        partial(GYM.create_sim, 0, -1, gymapi.SIM_PHYSX),
        partial(GYM.set_sim_params, sim),
    ):
        with pytest.raises(PhalanxError, match="dt must be positive and substeps 1 to"):
            call(params)


def test_numbers_may_be_arrays_and_tensors_of_one_element(held):
    world, env, properties = held
    assert GYM.get_actor_dof_count(env, np.int64(0)) == 2
    assert GYM.get_actor_dof_count(env, torch.tensor([0])) == 2
    assert GYM.set_actor_scale(env, 0.0, torch.tensor(2.0))
    assert GYM.get_actor_scale(env, handle=0) == 2
    GYM.set_actor_dof_properties(env, 0, properties)
    GYM.set_rigid_body_color(env, 0, 0, gymapi.MESH_VISUAL, (1.0, 0.0, 0.5))
    assert list(GYM.get_rigid_body_color(env, 0, 0, gymapi.MESH_VISUAL)) == [1.0, 0.0, 0.5]
    GYM.simulate(world.sim)


def test_numbers_of_more_than_32_bits_are_refused_wherever_they_are_given():
    world = World()
    box = GYM.create_box(world.sim, 0.1, 0.1, 0.1)
    env = world.env()
    GYM.create_actor(env, box, pose(), "a", 0, 2**31, 2**32 - 1)
    shapes = GYM.get_actor_rigid_shape_properties(env, 0)
    assert shapes[0].filter % 2**32 == 2**31
    shapes[0].filter = 2**32
    plane, body = gymapi.PlaneParams(), GYM.get_actor_rigid_body_properties(env, 0)
    plane.segmentation_id, body[0].flags = 2**40, 2**32
    for call in (
        lambda: GYM.create_actor(env, box, pose(), "b", 0, 2**32),
        lambda: GYM.create_actor(env, box, pose(), "b", 0, 0, 2**32),
        lambda: GYM.set_rigid_body_segmentation_id(env, 0, 0, -(2**32)),
        lambda: GYM.set_actor_rigid_shape_properties(env, 0, shapes),
        lambda: GYM.set_actor_rigid_body_properties(env, 0, body),
        lambda: GYM.add_ground(world.sim, plane),
    ):
        with pytest.raises(PhalanxError, match="it has 32 bits"):
            call()
    assert GYM.get_actor_count(env) == 1


def test_a_setting_that_nothing_reads_is_in_the_docs_or_refused(caplog):
    """Of what programs set to have another simulation."""
    package = Path(isaacgym.__file__).parent
    read = "".join(
        file.read_text()
        for file in package.glob("*.py")
        if file.name not in ("params.py", "property_structs.py")
    )
    docs = (Path(__file__).parents[1] / "docs" / "isaacgym.md").read_text()
    structs = [gymapi.AssetOptions, gymapi.PhysXParams, gymapi.RigidShapeProperties]
    structs += [gymapi.CameraProperties]
    for name in (name for struct in structs for name in struct._fields):
        assert re.search(rf"\b{name}\b", docs) or re.search(rf"\.{name}\b", read), name
    world = World()
    box = GYM.create_box(
        world.sim, 1, 1, 1, options(use_physx_armature=False, enable_gyroscopic_forces=False)
    )
    assert "AssetOptions.use_physx_armature, enable_gyroscopic_forces" in caplog.text
    GYM.create_actor(world.env(), box, pose())
    body = GYM.get_actor_rigid_body_properties(world.envs[0], 0)
    body[0].flags = gymapi.RIGID_BODY_DISABLE_SIMULATION
    with pytest.raises(PhalanxError, match=r"flags 2; of RIGID_BODY_\* only DISABLE_GRAVITY"):
        GYM.set_actor_rigid_body_properties(world.envs[0], 0, body)
    body[0].flags = gymapi.RIGID_BODY_ENABLE_GYROSCOPIC_FORCES | gymapi.RIGID_BODY_DISABLE_GRAVITY
    assert GYM.set_actor_rigid_body_properties(world.envs[0], 0, body)


def test_a_vector_has_three_numbers_and_a_wrapped_tensor_the_part_that_is_asked_for():
    for short in ([0, 0], [0, 0, 0, 0], 1.0):
        with pytest.raises(TypeError, match="gravity takes three numbers"):
            gymutil.parse_sim_config({"gravity": short}, gymapi.SimParams())
        with pytest.raises(PhalanxError, match=r"it must be a gymapi\.Vec3"):
            GYM.create_env(World().sim, short, gymapi.Vec3(), 1)
    assert len(GYM.get_sim_rigid_body_states(World().sim, gymapi.STATE_ALL)) == 0
    held = torch.arange(12.0).view(3, 4)
    tensor = gymtorch.unwrap_tensor(held)
    part = gymtorch.wrap_tensor(tensor, (1, 0), (2, 3))
    assert part.tolist() == held[1:3, :3].tolist()
    assert part.data_ptr() == held[1].data_ptr()
    assert torch.equal(gymtorch.wrap_tensor(tensor, offsets=(0, 1)), held[:, 1:])
    with pytest.raises(TypeError, match="give both for each dimension"):
        gymtorch.wrap_tensor(tensor, (2, 0), (2, 4))


def test_before_the_simulation_bodies_are_where_it_starts(tmp_path):
    """The elbow may not be straight: it starts at the nearest limit, 0.5 rad."""
    world = World(gravity=0.0)
    arm = world.load(tmp_path, "arm.urdf", TWO_LINKS, fix_base_link=True)
    env = world.env()
    GYM.create_actor(env, arm, pose(), "arm")
    props = GYM.get_actor_dof_properties(env, 0)
    props["hasLimits"][1], props["lower"][1], props["upper"][1] = True, 0.5, 1.0
    GYM.set_actor_dof_properties(env, 0, props)
    before = GYM.get_rigid_transform(env, 2).r
    assert before.z == pytest.approx(np.sin(0.25))
    GYM.prepare_sim(world.sim)
    assert GYM.get_rigid_transform(env, 2).r.z == pytest.approx(before.z, abs=1e-6)


TWO_JOINTS = """
<robot name="two">
  <link name="base"/>
  <link name="x"><inertial><mass value="1"/>
    <inertia ixx="1" iyy="1" izz="1" ixy="0" ixz="0" iyz="0"/></inertial></link>
  <link name="y"><inertial><mass value="1"/>
    <inertia ixx="1" iyy="1" izz="1" ixy="0" ixz="0" iyz="0"/></inertial></link>
  <joint name="a" type="revolute"><parent link="base"/><child link="x"/><axis xyz="0 0 1"/>
    <limit lower="-1" upper="1" effort="5" velocity="3"/></joint>
  <joint name="b" type="revolute"><parent link="x"/><child link="y"/><axis xyz="0 0 1"/>
    <limit lower="-1" upper="1" effort="5" velocity="3"/></joint>
</robot>
"""
