"""isaacgym: what client repositories expect in corners: no DOFs, no such body, flat boxes, states
before the start, moved attractors, removed environments, textures."""

import logging
import math

import numpy as np
import pytest
import torch

import isaacgym.physics
from isaac import GYM, PENDULUM, World, options, pose
from isaacgym import gymapi, gymtorch
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


def test_only_the_last_environment_can_be_removed():
    world = World()
    ball = GYM.create_sphere(world.sim, 0.1)
    for k in range(3):
        GYM.create_actor(world.env(), ball, pose(), "ball", k, 0, 0)
    with pytest.raises(PhalanxError, match="environment 0 of 3"):
        GYM.destroy_env(world.envs[0])
    GYM.destroy_env(world.envs[2])
    assert (GYM.get_env_count(world.sim), GYM.get_sim_actor_count(world.sim)) == (2, 2)
    world.step()
    GYM.destroy_env(world.envs[0])  # at the end of a program
    assert world.tensor("actor_root_state").shape == (2, 13)


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
