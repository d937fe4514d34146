"""isaacgym: what client repositories expect in corners: no DOFs, no such body, flat boxes, states
before the start, moved attractors, removed environments, textures."""

import inspect
import logging
import math

import numpy as np
import pytest
import torch

import isaacgym.physics
from isaac import GYM, PENDULUM, SLIDER, World, options, params, pose
from isaacgym import gymapi, gymtorch
from isaacgym.structs import Struct
from phalanx.errors import PhalanxError


def test_a_simulation_without_dofs_has_no_dof_tensor():
    world = World()
    GYM.create_actor(world.env(), GYM.create_sphere(world.sim, 0.1), pose(), "ball", 0, 0, 0)
    GYM.prepare_sim(world.sim)
    descriptor = GYM.acquire_dof_state_tensor(world.sim)
    assert descriptor.shape == (0, 2)
    assert gymtorch.wrap_tensor(descriptor) is None
    assert GYM.refresh_dof_state_tensor(world.sim)
    sensors = gymtorch.wrap_tensor(GYM.acquire_force_sensor_tensor(world.sim))
    assert sensors.shape == (0, 6)
    assert gymtorch.wrap_tensor(GYM.acquire_actor_root_state_tensor(world.sim)).shape == (1, 13)


def test_rigid_things_have_no_soft_parts():
    world = World()
    env, ball = world.env(), GYM.create_sphere(world.sim, 0.1)
    GYM.create_actor(env, ball, pose(), "ball", 0, 0, 0)
    assert GYM.get_asset_soft_body_count(ball) == GYM.get_actor_soft_body_count(env, 0) == 0
    assert GYM.get_asset_soft_materials(ball) == GYM.get_actor_soft_materials(env, 0) == []
    assert GYM.set_actor_soft_materials(env, 0, []) is False
    assert GYM.get_sim_tetrahedra_count(world.sim) == GYM.get_sim_triangle_count(world.sim) == 0
    assert GYM.get_sim_tetrahedra(world.sim) == ([], [])
    assert GYM.get_sim_triangles(world.sim) == ([], [], [])
    GYM.draw_env_soft_contacts(None, env, gymapi.Vec3(1, 0, 0), 0.1, False, True)
    with pytest.raises(PhalanxError, match="get_actor_soft_materials"):
        GYM.get_actor_soft_materials(env, 1)


def test_a_sensor_on_a_body_that_does_not_exist_is_minus_one_and_said_once(caplog):
    world = World()
    ball = GYM.create_sphere(world.sim, 0.1)
    foot = GYM.find_asset_rigid_body_index(ball, "right_foot")
    with caplog.at_level(logging.WARNING):
        handles = [GYM.create_asset_force_sensor(ball, foot, pose()) for _ in range(2)]
    assert handles == [-1, -1]
    assert caplog.text.count("gets no sensor") == 1
    assert GYM.create_asset_force_sensor(ball, 0, pose()) == 0
    with pytest.raises(PhalanxError, match="body 1; there are 1"):
        GYM.create_asset_force_sensor(ball, 1, pose())


def test_a_box_without_height_lies_on_the_ground():
    world = World()
    world.ground()
    flat = GYM.create_box(world.sim, 0.3, 0.3, 0.0, options())
    GYM.create_actor(world.env(), flat, pose(z=0.01), "mat", 0, 0, 0)
    world.step(100)
    assert world.tensor("actor_root_state")[0, 2] == pytest.approx(0, abs=1e-3)
    with pytest.raises(PhalanxError, match="none may be negative"):
        GYM.create_box(world.sim, 0.3, -0.3, 0.1, options())


def test_states_before_the_start_are_where_joints_were_put(tmp_path):
    """The rod hangs 0.5 m below the pivot; the pivot is turned a quarter about x and moved."""
    world = World()
    asset = world.load(
        tmp_path, "p.urdf", PENDULUM.replace('xyz="0 0 -0.5"', ""), fix_base_link=True
    )
    turned = gymapi.Quat.from_euler_zyx(math.pi / 2, 0, 0)
    for spacing in (4.0, 4.0):
        GYM.create_actor(world.env(spacing), asset, pose(1, 0, 2, turned), "p", 0, 0, 0)
    env = world.envs[1]
    state = np.array([(math.pi / 2, 3.0)], gymapi.DofState.dtype)
    GYM.set_actor_dof_states(env, 0, state, gymapi.STATE_ALL)
    assert GYM.get_dof_position(env, 0) == pytest.approx(math.pi / 2)
    assert GYM.get_dof_velocity(env, 0) == 3.0
    GYM.set_dof_target_position(env, 0, 0.25)
    assert GYM.get_dof_target_position(env, 0) == 0.25
    before = GYM.get_actor_rigid_body_states(env, 0, gymapi.STATE_POS)
    assert [*before["pose"]["p"][1]] == pytest.approx([1, 0, 2])
    # a quarter about x, then a quarter about the hinge's y axis
    q = turned * gymapi.Quat.from_euler_zyx(0, math.pi / 2, 0)
    assert [*before["pose"]["r"][1]] == pytest.approx([*q], abs=1e-6)
    assert [*before["vel"]["linear"][1]] == [0, 0, 0]
    assert [*GYM.get_rigid_transform(world.envs[0], 1).r] == pytest.approx([*turned], abs=1e-6)
    everything = GYM.get_sim_rigid_body_states(world.sim, gymapi.STATE_POS)
    assert len(everything) == 4
    assert [*everything["pose"]["p"][3]] == pytest.approx([5, 0, 2])  # in the world
    GYM.prepare_sim(world.sim)
    after = GYM.get_actor_rigid_body_states(env, 0, gymapi.STATE_POS)
    for name in ("p", "r"):
        for a, b in zip(after["pose"][name], before["pose"][name], strict=True):
            assert [*a] == pytest.approx([*b], abs=1e-6)


def test_starts_that_are_read_by_turns_are_computed_once(tmp_path, monkeypatch):
    world = World()
    rod = world.load(tmp_path, "p.urdf", PENDULUM, fix_base_link=True)
    for k in range(2):
        GYM.create_actor(world.env(), rod, pose(), "p", k)
        state = np.array([(0.5 * k, 0.0)], gymapi.DofState.dtype)
        GYM.set_actor_dof_states(world.envs[k], 0, state, gymapi.STATE_POS)

    def tilts():
        states = [GYM.get_actor_rigid_body_states(e, 0, gymapi.STATE_POS) for e in world.envs]
        return [float(s["pose"]["r"]["y"][1]) for s in states]

    expected = [0.0, math.sin(0.25)]
    assert tilts() == pytest.approx(expected, abs=1e-6)
    monkeypatch.setattr("isaacgym.start.mujoco.mj_kinematics", None)
    assert tilts() == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("engine", ["mujoco", "warp"])
def test_an_attractor_takes_a_body_along_when_its_target_moves(monkeypatch, engine):
    monkeypatch.setattr(isaacgym.physics, "ENGINE", engine)
    world = World(dt=0.005)
    box = GYM.create_box(world.sim, 0.2, 0.2, 0.2, options())
    held = gymapi.AttractorProperties()
    held.stiffness, held.damping, held.axes = 5e5, 5e3, gymapi.AXIS_ALL
    held.rigid_handle = 0
    for k in range(2):
        env = world.env()
        GYM.create_actor(env, box, pose(z=1), "box", 0, 0, 0)
        held.target = pose(0.1 * k, 0, 1)
        assert GYM.create_rigid_body_attractor(env, held) == 0
    world.step(100)
    roots = world.tensor("actor_root_state")
    assert roots[:, 0].tolist() == pytest.approx([0, 0.1], abs=2e-3)
    target = pose(0.3, 0.2, 1.5, gymapi.Quat.from_euler_zyx(0, 0, 1.0))
    GYM.set_attractor_target(world.envs[1], 0, target)
    assert GYM.get_attractor_properties(world.envs[1], 0).target.p.x == pytest.approx(0.3)
    world.step(200)
    roots = world.tensor("actor_root_state")
    assert roots[0, :3].tolist() == pytest.approx([0, 0, 1], abs=2e-3)
    wanted = [0.3, 0.2, 1.5, 0, 0, math.sin(0.5), math.cos(0.5)]
    assert roots[1, :7].tolist() == pytest.approx(wanted, abs=3e-3)
    held.axes = gymapi.AXIS_TRANSLATION
    with pytest.raises(PhalanxError, match="cannot change the body or the axes"):
        GYM.set_attractor_properties(world.envs[0], 0, held)


@pytest.mark.parametrize("engine", ["mujoco", "warp", "fused"])
def test_an_attractor_without_stiffness_has_no_effect(monkeypatch, engine):
    """A box of each of three environments falls 0.5 g t (t + dt) while its attractor does not
    hold: that of the first never does, the second's does at last, the third's always."""
    monkeypatch.setattr(isaacgym.physics, "ENGINE", engine)
    world = World(dt=0.01)
    box = GYM.create_box(world.sim, 0.2, 0.2, 0.2, options())
    held = gymapi.AttractorProperties()
    held.damping, held.axes, held.rigid_handle, held.target = 5e3, gymapi.AXIS_ALL, 0, pose(z=1)
    for stiffness in (0.0, 0.0, 5e5):
        env = world.env()
        GYM.create_actor(env, box, pose(z=1), "box", 0, 0, 0)
        held.stiffness = stiffness
        GYM.create_rigid_body_attractor(env, held)
    world.step(10)
    heights = world.tensor("actor_root_state")[:, 2]
    fallen = 1 - 0.5 * 9.81 * 0.1 * 0.11
    assert heights.tolist() == pytest.approx([fallen, fallen, 1], abs=1e-3)
    GYM.set_attractor_properties(world.envs[1], 0, held)
    world.step(90)
    heights = world.tensor("actor_root_state")[:, 2]
    assert heights.tolist() == pytest.approx([1 - 0.5 * 9.81 * 1.01, 1, 1], abs=5e-3)


@pytest.mark.parametrize("engine", ["mujoco", "warp", "fused"])
def test_attractors_are_springs(monkeypatch, engine):
    """Boxes of two masses move as m x'' = -k x - d x' - m g and turn as i w' = -k w - d w, stepped
    with the force at the end of a substep; a stiff one is held, the soft ones sag by m g / k."""
    monkeypatch.setattr(isaacgym.physics, "ENGINE", engine)
    world = World(dt=0.01, substeps=2)
    springs = [
        *((200.0, 10.0, 1.0), (200.0, 10.0, 4.0), (5e2, 5e2, 1.0), (5e7, 5e3, 4.0)),
        (0.5, 0.0, 1.0),  # so soft that MuJoCo adds 1e-4 kg and kg m^2
    ]
    held = gymapi.AttractorProperties()
    held.axes, held.rigid_handle, held.target = gymapi.AXIS_ALL, 0, pose(z=1)
    for stiffness, damping, mass in springs:
        env = world.env()
        box = GYM.create_box(world.sim, 0.2, 0.2, 0.2, options(density=mass / 0.008))
        start = pose(0, 0, 1, gymapi.Quat.from_euler_zyx(0, 0, 0.1))
        GYM.create_actor(env, box, start, "box", 0, 0, 0)
        held.stiffness, held.damping = stiffness, damping
        GYM.create_rigid_body_attractor(env, held)
    k, d, m = torch.tensor(springs, dtype=torch.float64).T
    i, h = m * 0.04 / 6, 0.005
    x, v, turned, rate = (torch.zeros(len(springs), dtype=torch.float64) for _ in range(4))
    turned += 0.1
    for steps in (1, 4, 15, 180):
        world.step(steps)
        for _ in range(2 * steps):
            v = (m * v - h * (k * x + m * 9.81)) / (m + h * d + h * h * k)
            rate = (i * rate - h * k * turned) / (i + h * d + h * h * k)
            x, turned = x + h * v, turned + h * rate
        roots = world.tensor("actor_root_state")
        assert (roots[:, 2] - 1).tolist() == pytest.approx(x.tolist(), rel=2e-4, abs=2e-4)
        angle = 2 * torch.atan2(roots[:, 5], roots[:, 6])
        assert angle[:4].tolist() == pytest.approx(turned[:4].tolist(), abs=2e-4)


WHEEL = """<robot name="w"><link name="base"/><link name="wheel"><inertial>
<origin xyz="{x} 0 0"/><mass value="1"/><inertia ixx="0.01" iyy="0.01" izz="0.01" ixy="0" ixz="0"
iyz="0"/></inertial></link><joint name="j" type="continuous"><parent link="base"/>
<child link="wheel"/><axis xyz="0 0 1"/></joint></robot>"""


@pytest.mark.parametrize("x", [0.0, 0.01, 0.1])
@pytest.mark.parametrize("engine", ["mujoco", "warp", "fused"])
def test_an_attractor_turns_a_wheel_whose_centre_of_mass_is_on_its_axis(
    monkeypatch, tmp_path, engine, x
):
    """By a point 0.2 m from the axis, and by its frame, to 0.2 rad."""
    monkeypatch.setattr(isaacgym.physics, "ENGINE", engine)
    world = World(dt=1 / 60, substeps=2)
    wheel = world.load(tmp_path, "w.urdf", WHEEL.format(x=x), fix_base_link=True)
    held = gymapi.AttractorProperties()
    held.rigid_handle, held.stiffness, held.damping = 1, 10.0, 0.2
    held.axes, held.offset.p.x = gymapi.AXIS_TRANSLATION, 0.2
    held.target = pose(0.2 * math.cos(0.2), 0.2 * math.sin(0.2), 1)
    env = world.env()
    GYM.create_actor(env, wheel, pose(z=1), "w", 0, 0, 0)
    GYM.create_rigid_body_attractor(env, held)
    inertia, angle, rate, h = 0.01 + x**2, 0.0, 0.0, 1 / 120
    for _ in range(6):
        world.step(2)
        for _ in range(4):
            rate -= h * (10 * 0.04) * (angle - 0.2) / inertia
            rate /= 1 + h * (0.2 * 0.04 + h * 0.4) / inertia
            angle += h * rate
        assert world.tensor("dof_state")[0, 0].item() == pytest.approx(angle, abs=0.03 * 0.2)


def test_only_the_last_environment_can_be_removed():
    world = World()
    ball = GYM.create_sphere(world.sim, 0.1)
    for k in range(3):
        GYM.create_actor(world.env(), ball, pose(), "ball", k, 0, 0)
    with pytest.raises(PhalanxError, match="environment 0 of 3"):
        GYM.destroy_env(world.envs[0])
    gone = world.envs[2]
    GYM.destroy_env(gone)
    again = GYM.create_env(world.sim, gymapi.Vec3(), gymapi.Vec3(), 1)  # has its number
    for call in (
        lambda: GYM.create_actor(gone, ball, pose()),
        lambda: GYM.create_force_sensor(gone, 0),
        lambda: GYM.get_actor_count(gone),
        lambda: GYM.create_camera_sensor(gone, gymapi.CameraProperties()),
        lambda: GYM.destroy_env(gone),
    ):
        with pytest.raises(PhalanxError, match=r"an environment that gym\.destroy_env has removed"):
            call()
    GYM.destroy_env(again)
    assert (GYM.get_env_count(world.sim), GYM.get_sim_actor_count(world.sim)) == (2, 2)
    world.step()
    GYM.destroy_env(world.envs[0])  # at the end of a program
    assert world.tensor("actor_root_state").shape == (2, 13)
    GYM.destroy_sim(world.sim)
    for create in (
        lambda: GYM.create_actor(world.envs[0], ball, pose()),
        lambda: GYM.create_force_sensor(world.envs[0], 0),
    ):
        with pytest.raises(PhalanxError, match=r"was called after gym\.destroy_sim"):
            create()


def test_textures_and_numbers_in_segmentation_images_are_kept_for_each_body(tmp_path):
    world = World()
    asset = world.load(tmp_path, "p.urdf", PENDULUM, fix_base_link=True)
    env = world.env()
    GYM.create_actor(env, asset, pose(), "p", 0, 0, 7)
    white = np.full(4 * 2 * 3, 255, np.uint8)
    assert GYM.create_texture_from_file(world.sim, str(tmp_path / "no.png")) == -1
    texture = GYM.create_texture_from_buffer(world.sim, 2, 3, white)
    assert texture == 0
    with pytest.raises(PhalanxError, match="24 bytes for 3 times 3 pixels"):
        GYM.create_texture_from_buffer(world.sim, 3, 3, white)
    GYM.set_rigid_body_texture(env, 0, 1, gymapi.MESH_VISUAL, texture)
    GYM.set_rigid_body_texture(env, 0, 0, gymapi.MESH_VISUAL, -1)
    textures = [GYM.get_rigid_body_texture(env, 0, b, gymapi.MESH_VISUAL) for b in range(2)]
    assert textures == [-1, 0]
    GYM.reset_actor_materials(env, 0, gymapi.MESH_VISUAL)
    assert GYM.get_rigid_body_texture(env, 0, 1, gymapi.MESH_VISUAL) == -1
    GYM.set_rigid_body_segmentation_id(env, 0, 1, 9)
    assert [GYM.get_rigid_body_segmentation_id(env, 0, b) for b in range(2)] == [7, 9]
    with pytest.raises(PhalanxError, match="body 2; there are 2"):
        GYM.set_rigid_body_color(env, 0, 2, gymapi.MESH_VISUAL, gymapi.Vec3(1, 0, 0))
    assert torch.isfinite(world.tensor("dof_state")).all()


ARM = """<robot name="arm"><link name="base"/>
  <link name="upper"><inertial><mass value="1"/><origin xyz="0 0 -0.5"/>
    <inertia ixx="0.1" iyy="0.1" izz="0.1" ixy="0" ixz="0" iyz="0"/></inertial></link>
  <link name="tool"><inertial><mass value="1"/>
    <inertia ixx="0.1" iyy="0.1" izz="0.1" ixy="0" ixz="0" iyz="0"/></inertial></link>
  <joint name="shoulder" type="continuous"><parent link="base"/><child link="upper"/>
    <origin xyz="0 0 2"/><axis xyz="0 1 0"/></joint>
  <joint name="mount" type="fixed"><parent link="upper"/><child link="tool"/>
    <origin xyz="0 0 -1"/></joint></robot>"""


def test_frames_and_values_of_joints_follow_the_bodies(tmp_path):
    """The base is turned a quarter about z, so the shoulder's y axis is -x of the environment; at
    a quarter turn about it, the tool is 1 m from the shoulder along y, at its height."""
    world = World(gravity=0.0)
    asset = world.load(tmp_path, "a.urdf", ARM, fix_base_link=True, collapse_fixed_joints=False)
    env = world.env()
    turned = pose(1, 0, 0, gymapi.Quat.from_euler_zyx(0, 0, math.pi / 2))
    arm = GYM.create_actor(env, asset, turned, "arm", 0, 0, 0)
    states = np.array([(math.pi / 2, 0.0)], gymapi.DofState.dtype)
    GYM.set_actor_dof_states(env, arm, states, gymapi.STATE_ALL)
    for prepared in (False, True):
        if prepared:
            GYM.prepare_sim(world.sim)
        frame = GYM.get_dof_frame(env, 0)
        np.testing.assert_allclose([*frame.origin], [1, 0, 2], atol=1e-6)
        np.testing.assert_allclose([*frame.axis], [-1, 0, 0], atol=1e-6)
        assert GYM.get_actor_dof_frames(env, arm)["axis"]["x"][0] == pytest.approx(-1)
        places = GYM.get_actor_joint_transforms(env, arm)["p"]
        assert places["z"] == pytest.approx([2, 2], abs=1e-6)
        assert places["y"] == pytest.approx([0, -1], abs=1e-6)
        shoulder, mount = (GYM.get_joint_handle(env, "arm", n) for n in ("shoulder", "mount"))
        assert GYM.get_joint_transform(env, mount).p.y == pytest.approx(-1)
        assert GYM.get_joint_position(env, shoulder) == pytest.approx(math.pi / 2)
        assert GYM.get_joint_position(env, mount) == GYM.get_joint_velocity(env, mount) == 0
        assert GYM.set_joint_target_position(env, shoulder, 0.5)
        assert not GYM.set_joint_target_position(env, mount, 0.5)
        assert GYM.get_joint_target_position(env, shoulder) == 0.5


def test_states_of_bodies_put_roots_back_and_move_no_others(tmp_path, caplog):
    """A ball falls for 0.1 s and is put back; with z from `set_rigid_transform` and 2 m/s upwards,
    it is at 5.2 m after 0.1 s without gravity."""
    world = World(gravity=0.0)
    ball = GYM.create_sphere(world.sim, 0.1, options())
    arm = world.load(tmp_path, "a.urdf", ARM, fix_base_link=True)
    for _ in range(3):
        env = world.env(spacing=2.0)
        GYM.create_actor(env, arm, pose(0, 0, 0), "arm", 0, 0, 0)
        GYM.create_actor(env, ball, pose(1, 0, 3), "ball", 0, 0, 0)
    GYM.prepare_sim(world.sim)
    before = GYM.get_sim_rigid_body_states(world.sim, gymapi.STATE_ALL)
    env = world.envs[1]
    body = GYM.find_actor_rigid_body_handle(env, 1, "sphere")
    assert GYM.set_rigid_linear_velocity(env, body, gymapi.Vec3(0, 0, 2))
    assert GYM.set_rigid_angular_velocity(env, body, gymapi.Vec3(3, 0, 0))
    world.step(10)
    assert GYM.get_rigid_transform(env, body).p.z == pytest.approx(3.2, abs=1e-5)
    assert GYM.get_rigid_angular_velocity(env, body).x == pytest.approx(3, abs=1e-5)
    assert GYM.set_rigid_transform(env, body, pose(1, 0, 5))
    world.step(10)
    assert GYM.get_rigid_transform(env, body).p.z == pytest.approx(5.2, abs=1e-5)
    assert GYM.get_rigid_transform(world.envs[2], body).p.z == pytest.approx(3)
    assert GYM.set_sim_rigid_body_states(world.sim, before, gymapi.STATE_ALL)
    after = GYM.get_sim_rigid_body_states(world.sim, gymapi.STATE_ALL)
    for name in ("x", "y", "z"):
        np.testing.assert_allclose(after["pose"]["p"][name], before["pose"]["p"][name], atol=1e-6)
    assert GYM.get_rigid_linear_velocity(env, body).z == 0
    assert not GYM.set_rigid_transform(env, 1, pose())  # the arm's upper link
    assert "only its root can be placed" in caplog.text
    own = GYM.get_actor_rigid_body_states(env, 1, gymapi.STATE_ALL)
    own["pose"]["p"]["x"] = 0.5
    assert GYM.set_actor_rigid_body_states(env, 1, own, gymapi.STATE_POS)
    assert GYM.get_rigid_transform(env, body).p.x == 0.5
    with pytest.raises(
        PhalanxError, match=r"takes 4 of gymapi\.RigidBodyState\.dtype.* got 1 of pose, vel"
    ):
        GYM.set_env_rigid_body_states(env, own, gymapi.STATE_ALL)


def test_states_of_one_actor_in_several_environments(tmp_path):
    world = World()
    slider = world.load(tmp_path, "s.urdf", SLIDER.format(effort=0), fix_base_link=True)
    handles = [GYM.create_actor(world.env(), slider, pose(), "s", k, 0, 0) for k in range(2)]
    for env, position in zip(world.envs, (0.1, 0.2), strict=True):
        start = np.array([(position, 0.0)], gymapi.DofState.dtype)
        GYM.set_actor_dof_states(env, 0, start, gymapi.STATE_ALL)
    states = GYM.get_vec_actor_dof_states(world.envs, handles, gymapi.STATE_ALL)
    assert states["pos"].tolist() == [[pytest.approx(0.1)], [pytest.approx(0.2)]]
    with pytest.raises(PhalanxError, match="given 2 environments and 1 actors"):
        GYM.get_vec_actor_dof_states(world.envs, handles[:1], gymapi.STATE_ALL)


def test_what_physx_cannot_do_says_so_and_changes_nothing(tmp_path, caplog):
    world = World()
    asset = world.load(tmp_path, "pendulum.urdf", PENDULUM, fix_base_link=True)
    GYM.create_actor(world.env(), asset, pose(), "s", 0, 0, 0)
    GYM.prepare_sim(world.sim)
    states = world.tensor("rigid_body_state").clone()
    for _ in range(2):
        assert not GYM.set_rigid_body_state_tensor(world.sim, gymtorch.unwrap_tensor(states + 1))
    assert torch.equal(world.tensor("rigid_body_state"), states)
    assert caplog.text.count("use gym.set_actor_root_state_tensor") == 1
    camera = GYM.get_viewer_camera_handle(None)
    with pytest.raises(PhalanxError, match="camera -1"):
        GYM.get_camera_image(world.sim, world.envs[0], camera, gymapi.IMAGE_COLOR)


GIVEN = {
    "handle": 0, "index": 0, "body": 0, "dof": 0, "joint": 0, "tendon": 0, "attractor": 0,
    "flags": gymapi.STATE_ALL, "domain": gymapi.DOMAIN_SIM, "mesh_type": gymapi.MESH_VISUAL,
    "viewer": None, "handles": [0], "camera": 0, "actor_name": "a", "body_name": "arm",
    "joint_name": "elbow", "dof_type": gymapi.DOF_ROTATION, "joint_type": gymapi.JOINT_REVOLUTE,
    "image_type": gymapi.IMAGE_COLOR,
}  # fmt: skip
"""An argument for each parameter of the calls that get something."""
DRAW = ("get_camera_image", "get_camera_image_gpu_tensor")
"""They need a renderer; the second gives memory on purpose."""


def spoil(value):
    """Change all that can be changed of a result."""
    if isinstance(value, np.ndarray):
        value.reshape(-1).view(np.uint8)[:] = 7
    elif isinstance(value, list):
        for one in value:
            spoil(one)
        value.clear()
    elif isinstance(value, dict):
        value.clear()
    elif isinstance(value, Struct):
        for name, kind in value._fields.items():
            if issubclass(kind, Struct):
                spoil(getattr(value, name))
            elif kind is float and name not in value._read_only:
                setattr(value, name, 7.0)


def test_what_getters_return_belongs_to_the_program(tmp_path):
    """Whatever a program does to it, the next call returns the same as before."""
    robot = """<mujoco><worldbody><body><freejoint/><geom size=".1"/>
      <body pos=".2 0 0" name="arm"><joint name="elbow" axis="0 1 0"/><geom size=".1"/></body>
    </body></worldbody><tendon><fixed name="t"><joint joint="elbow" coef="1"/></fixed></tendon>
    <actuator><motor name="m" joint="elbow" gear="15"/></actuator></mujoco>"""
    world = World()
    world.ground()
    asset = world.load(tmp_path, "robot.xml", robot)
    GYM.create_asset_force_sensor(asset, 0, pose())
    env = world.env()
    GYM.create_actor(env, asset, pose(z=0.05), "a", 0, 0)
    GYM.set_rigid_body_color(env, 0, 0, gymapi.MESH_VISUAL, gymapi.Vec3(0.1, 0.2, 0.3))
    hold = gymapi.AttractorProperties()
    hold.rigid_handle, hold.axes = 0, gymapi.AXIS_TRANSLATION
    hold.stiffness, hold.damping = 1e3, 10.0
    GYM.create_rigid_body_attractor(env, hold)
    GYM.create_camera_sensor(env, gymapi.CameraProperties())
    world.step()
    given = GIVEN | {"sim": world.sim, "env": env, "envs": [env], "asset": asset}
    names = [name for name in dir(type(GYM)) if name.startswith("get_") and name not in DRAW]
    for name in names:
        call = getattr(GYM, name)
        parameters = list(inspect.signature(call).parameters)
        if name == "get_elapsed_time":
            continue
        found = call(*(given[p] for p in parameters))
        before = repr(found)
        spoil(found)
        assert repr(call(*(given[p] for p in parameters))) == before, name
    assert len(names) > 120


def test_velocities_of_roots_before_the_start_count(tmp_path):
    """A box that is 1 m/s fast and turns, in the second environment; a fixed base cannot move."""
    world = World(gravity=0.0)
    box = GYM.create_box(world.sim, 0.2, 0.2, 0.2, options())
    fixed = world.load(tmp_path, "p.urdf", PENDULUM, fix_base_link=True)
    for n in range(2):
        GYM.create_actor(world.env(4.0), fixed, pose(), "p", n, 0)
        GYM.create_actor(world.envs[n], box, pose(z=1), "box", n, 0)
    env = world.envs[1]
    handle = GYM.get_rigid_handle(env, "box", "box")
    GYM.set_rigid_linear_velocity(env, handle, gymapi.Vec3(1, 0, 0))
    GYM.set_rigid_angular_velocity(env, handle, gymapi.Vec3(0, 0, 2))
    assert GYM.get_rigid_linear_velocity(env, handle).x == 1.0
    GYM.set_rigid_linear_velocity(env, 0, gymapi.Vec3(1, 0, 0))
    assert GYM.get_rigid_linear_velocity(env, 0).x == 0.0
    GYM.prepare_sim(world.sim)
    roots = world.tensor("actor_root_state")
    expected = torch.zeros(4, 6)
    expected[3, 0], expected[3, 5] = 1.0, 2.0
    torch.testing.assert_close(roots[:, 7:], expected)
    world.step(10)
    assert world.tensor("actor_root_state")[3, 0] == pytest.approx(0.1, rel=1e-3)


def test_states_of_joints_are_pairs(tmp_path):
    """NumPy would take a plain number as both."""
    world = World()
    arm = world.load(tmp_path, "p.urdf", PENDULUM, fix_base_link=True)
    env = world.env()
    GYM.create_actor(env, arm, pose(), "p", 0, 0)
    assert GYM.set_actor_dof_states(env, 0, [(0.1, 0.2)], gymapi.STATE_ALL)
    lists = [0.3], [[0.3, 0.4]], [[0.3], [0.4]], [np.float32([0.3, 0.4])], [(0.3,)]
    for wrong in (*lists, np.float32([0.3]), np.float32([[0.3, 0.4]]), torch.zeros(1)):
        with pytest.raises(PhalanxError, match="takes an array of gymapi"):
            GYM.set_actor_dof_states(env, 0, wrong, gymapi.STATE_ALL)
    assert GYM.get_actor_dof_states(env, 0, gymapi.STATE_ALL)[0].tolist() == pytest.approx(
        (0.1, 0.2)
    )


def test_an_indexed_setter_without_indices_sets_nothing():
    world = World()
    GYM.create_actor(world.env(), GYM.create_sphere(world.sim, 0.1), pose(), "ball", 0, 0)
    roots = world.tensor("actor_root_state")
    with pytest.raises(TypeError, match="not a NoneType"):
        GYM.set_actor_root_state_tensor_indexed(
            world.sim, gymtorch.unwrap_tensor(roots + 1), None, 0
        )
    assert torch.equal(world.tensor("actor_root_state")[0, :3], torch.zeros(3))


def test_calls_on_the_look_of_a_body_that_is_not_there_say_so():
    world = World()
    env = world.env()
    GYM.create_actor(env, GYM.create_sphere(world.sim, 0.1), pose(), "ball", 0, 0)
    visual = gymapi.MESH_VISUAL
    for call in (
        lambda: GYM.get_rigid_body_color(env, 0, 1, visual),
        lambda: GYM.get_rigid_body_texture(env, 0, -1, visual),
        lambda: GYM.get_rigid_body_segmentation_id(env, 0, 1),
    ):
        with pytest.raises(PhalanxError, match="there are 1, counted from 0"):
            call()


def test_a_simulation_on_another_gpu_makes_it_the_current_one(monkeypatch):
    """CUDA graphs would otherwise be captured on the first, where nothing happens."""
    current = []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "set_device", current.append)
    sim = GYM.create_sim(1, -1, gymapi.SIM_PHYSX, params(gpu=True))
    assert sim.device == torch.device("cuda:1")
    assert current == [sim.device]
