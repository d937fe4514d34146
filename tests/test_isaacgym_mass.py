"""isaacgym: masses, centres of mass and inertias that a program sets, against rigid-body motion."""

import pytest
import torch

import isaacgym.physics
from isaac import GYM, World, pose
from isaacgym import gymapi, gymtorch
from phalanx.errors import PhalanxError

BALL = """<robot name="ball"><link name="ball"><inertial><mass value="2"/>
  <inertia ixx="0.1" iyy="0.2" izz="0.3" ixy="0" ixz="0" iyz="0"/></inertial>
  <collision><geometry><sphere radius="0.04"/></geometry></collision></link></robot>"""
H = 0.01


def set_body(env, com=(0, 0, 0), inertia=None, mass=2.0):
    bodies = GYM.get_actor_rigid_body_properties(env, 0)
    bodies[0].com = gymapi.Vec3(*com)
    bodies[0].mass = mass
    if inertia is not None:
        for axis, value in zip("xyz", inertia, strict=True):
            setattr(getattr(bodies[0].inertia, axis), axis, value)
    GYM.set_actor_rigid_body_properties(env, 0, bodies, False)


@pytest.mark.parametrize("mass", [-0.4, 0.0])
def test_a_mass_that_no_body_has_is_named_with_its_environment(tmp_path, mass):
    world = World()
    ball = world.load(tmp_path, "ball.urdf", BALL)
    for _ in range(2):
        GYM.create_actor(world.env(), ball, pose(z=1), "toy", len(world.envs), 0, 0)
    words = rf"mass of {mass:g} kg for the body 'ball' of the actor 'toy' in environment 1; it must"
    with pytest.raises(PhalanxError, match=words):
        set_body(world.envs[1], mass=mass)
    assert GYM.get_actor_rigid_body_properties(world.envs[1], 0)[0].mass == 2.0


@pytest.mark.parametrize("engine", ["mujoco", "warp"])
def test_a_torque_turns_a_body_about_the_centre_of_mass_that_was_set(tmp_path, monkeypatch, engine):
    monkeypatch.setattr(isaacgym.physics, "ENGINE", engine)
    world = World(gravity=0.0, dt=H)
    ball = world.load(tmp_path, "ball.urdf", BALL)
    for _ in range(4):
        GYM.create_actor(world.env(), ball, pose(z=1), "ball", len(world.envs), 0, 0)
    set_body(world.envs[1], com=(0.1, 0, 0))
    set_body(world.envs[2], inertia=(0.1, 0.4, 0.3))
    GYM.prepare_sim(world.sim)
    world.step()
    set_body(world.envs[3], com=(-0.1, 0, 0), inertia=(0.3, 0.4, 0.5), mass=5.0)  # at run time
    turn = torch.tensor([0.0, 1.0, 0.0]).repeat(4, 1)
    GYM.apply_rigid_body_force_tensors(world.sim, None, gymtorch.unwrap_tensor(turn))
    world.step()
    roots = world.tensor("actor_root_state")
    omega = torch.tensor([H / 0.2, H / 0.2, H / 0.4, H / 0.4])  # torque times time over inertia
    torch.testing.assert_close(roots[:, 11], omega, rtol=1e-5, atol=0)
    assert roots[:, 7:10].abs().max() < 1e-5  # the centre of mass stays
    # so the origin, which is 0.1 m from it, moves by h times omega times 0.1
    moved = torch.tensor([0, 1, 0, -1]) * H * omega * 0.1
    torch.testing.assert_close(roots[:, 2] - 1, moved, rtol=0, atol=2e-7)


def test_a_body_falls_without_turning_wherever_its_centre_of_mass_is(tmp_path):
    world = World(dt=H)
    ball = world.load(tmp_path, "ball.urdf", BALL)
    for x in (0.0, 0.3):
        env = world.env()
        GYM.create_actor(env, ball, pose(z=1), "ball", len(world.envs), 0, 0)
        GYM.set_actor_scale(env, 0, 0.5)
        set_body(env, com=(x, 0, 0.1), inertia=(0.2, 0.3, 0.4))
    GYM.prepare_sim(world.sim)
    world.step(10)
    roots = world.tensor("actor_root_state")
    fallen = 9.81 * H * H * 55
    torch.testing.assert_close(roots[:, 2], torch.full((2,), 1 - fallen), rtol=0, atol=1e-5)
    assert roots[:, 10:].abs().max() < 1e-5
