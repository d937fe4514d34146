"""isaacgym: what hands from MJCF files need: a root that the file turns, fixed tendons, names with
colons. Two carts on a tendon have closed forms; a cube rests in a tray that stands for a palm."""

import math

import numpy as np
import pytest
import torch

import isaacgym.physics
from isaac import GYM, World, options, pose
from isaacgym import gymapi, gymtorch
from phalanx.errors import PhalanxError

H = 0.01
CARTS = """<mujoco><worldbody><body name="rail">
  <geom size="0.01" contype="0" conaffinity="0"/>
  <body name="c:0"><joint name="c:0" type="slide" axis="1 0 0"/><geom size="0.1" mass="2"/></body>
  <body name="c:1" pos="0 3 0"><joint name="c:1" type="slide" axis="1 0 0"/>
    <geom size="0.1" mass="2"/></body>
  </body></worldbody>
  <tendon><fixed name="t:0" limited="{limited}" range="-0.05 0.05" stiffness="{stiffness}"
    damping="{damping}"><joint joint="c:0" coef="1"/><joint joint="c:1" coef="-1"/></fixed>
  </tendon></mujoco>"""
# The file turns the mount a quarter about x, so the tray, which is square to the mount's z,
# stands upright; a program that turns the mount back lays it flat.
TRAY = """<mujoco><worldbody><body name="h:mount" pos="1 1 0.2" euler="90 0 0">
  <geom type="box" size=".02 .02 .02" contype="0" conaffinity="0"/>
  <body name="h:palm" pos="0 0 0.3"><joint name="h:j" axis="1 0 0" limited="true" range="-1 1"
    stiffness="1000" damping="50"/>
    <geom type="box" size=".1 .1 .01"/>
    <geom type="box" size=".1 .01 .03" pos="0 -.11 .02"/>
    <geom type="box" size=".1 .01 .03" pos="0 .11 .02"/>
  </body></body></worldbody></mujoco>"""


@pytest.fixture(params=["mujoco", "warp"])
def engine(request, monkeypatch):
    """Both engines, on the CPU."""
    monkeypatch.setattr(isaacgym.physics, "ENGINE", request.param)


def carts(tmp_path, limited="false", stiffness=0.0, damping=0.0, stacked=False):
    world = World(gravity=0.0, dt=H)
    text = CARTS.format(limited=limited, stiffness=stiffness, damping=damping)
    if stacked:  # the second cart on the first
        text = text.replace('mass="2"/></body>', 'mass="2"/>', 1)
        text = text.replace("</body>", "</body></body>", 1)
    asset = world.load(tmp_path, "carts.xml", text, fix_base_link=True, disable_gravity=True)
    for k in range(2):
        env = world.env()
        GYM.create_actor(env, asset, pose(), "carts", k, 0, 0)
        props = GYM.get_actor_dof_properties(env, 0)
        props["driveMode"] = gymapi.DOF_MODE_EFFORT
        GYM.set_actor_dof_properties(env, 0, props)
    return world, asset


def test_a_tendon_is_an_implicit_spring_and_damper_between_its_joints(tmp_path, engine):
    """The second cart rides on the first, so M = [[4, 2], [2, 2]] kg; with J = (1, -1) a step of
    h gives (M + (h d + h^2 k) J J^T) v = -h k r J, where r is the length beyond the rest."""
    world, asset = carts(tmp_path, stiffness=400.0, damping=30.0, stacked=True)
    assert [GYM.get_asset_tendon_count(asset), GYM.get_asset_tendon_name(asset, 0)] == [1, "t:0"]
    assert GYM.find_asset_tendon_index(asset, "t:0") == 0
    assert GYM.get_asset_fixed_tendon_joint_coefficients(asset, 0) == [1, -1]
    assert GYM.get_asset_fixed_tendon_joint_name(asset, 0, 1) == "c:1"
    GYM.prepare_sim(world.sim)
    dofs = world.tensor("dof_state")
    dofs.view(2, 2, 2)[:, 0, 0] = 0.1
    expected = []
    for k, (stiffness, rest) in enumerate([(400.0, 0.0), (900.0, 0.04)]):
        if k:  # at run time, in one environment
            properties = GYM.get_actor_tendon_properties(world.envs[k], 0)
            properties[0].stiffness, properties[0].fixed_spring_rest_length = stiffness, rest
            GYM.set_actor_tendon_properties(world.envs[k], 0, properties)
        J = np.array([1.0, -1.0])
        inertia = [[4, 2], [2, 2]] + (H * 30 + H * H * stiffness) * np.outer(J, J)
        expected.append(np.linalg.solve(inertia, -H * stiffness * (0.1 - rest) * J).tolist())
    GYM.set_dof_state_tensor(world.sim, gymtorch.unwrap_tensor(dofs))
    world.step()
    speeds = world.tensor("dof_state").view(2, 2, 2)[..., 1]
    torch.testing.assert_close(speeds, torch.tensor(expected), rtol=1e-4, atol=0)


def test_a_limited_tendon_takes_the_other_joint_along(tmp_path, engine):
    """A force of 8 N on the first of two carts of 2 kg: once the tendon is at its limit both
    accelerate by 2 m/s^2, with 0.05 m between them. An offset shortens the play."""
    world, asset = carts(tmp_path, limited="true")
    properties = GYM.get_asset_tendon_properties(asset)
    assert properties[0].is_fixed_limited
    assert properties[0].num_joints == 2
    GYM.set_actor_tendon_offset(world.envs[1], 0, 0, 0.03)
    assert GYM.get_actor_tendon_offset(world.envs[1], 0, 0) == pytest.approx(0.03)
    GYM.prepare_sim(world.sim)
    push = torch.tensor([8.0, 0.0, 8.0, 0.0])
    GYM.set_dof_actuation_force_tensor(world.sim, gymtorch.unwrap_tensor(push))
    world.step(100)
    before = world.tensor("dof_state").clone().view(2, 2, 2)
    world.step(50)
    after = world.tensor("dof_state").view(2, 2, 2)
    assert (after[..., 1] - before[..., 1]) / 0.5 == pytest.approx(2.0, rel=1e-2)
    play = (after[:, 0, 0] - after[:, 1, 0]).tolist()
    assert play == pytest.approx([0.05, 0.02], abs=2e-3)


def test_tendons_that_nothing_names_are_refused(tmp_path):
    world, asset = carts(tmp_path)
    assert GYM.find_asset_tendon_index(asset, "t:1") == -1
    assert GYM.get_actor_tendon_offset(world.envs[0], 0, 1) == gymapi.FLT_MAX
    with pytest.raises(PhalanxError, match="tendon 1; there are 1"):
        GYM.get_asset_tendon_name(asset, 1)
    with pytest.raises(PhalanxError, match="0 properties for 1 tendons"):
        GYM.set_asset_tendon_properties(asset, [])
    properties = GYM.get_actor_tendon_properties(world.envs[0], 0)
    properties[0].damping = -1.0
    with pytest.raises(PhalanxError, match="given damping"):
        GYM.set_actor_tendon_properties(world.envs[0], 0, properties)
    with pytest.raises(PhalanxError, match=r"was called after gym\.create_actor"):
        GYM.set_asset_fixed_tendon_joint_coefficients(asset, 0, [1.0, -2.0])


def test_coefficients_of_a_tendon_count(tmp_path):
    """With a tendon q0 - 2 q1 held at zero, the second cart goes half as far."""
    world = World(gravity=0.0, dt=H)
    text = CARTS.format(limited="true", stiffness=0, damping=0).replace("0.05", "1e-4")
    asset = world.load(tmp_path, "carts.xml", text, fix_base_link=True)
    assert GYM.set_asset_fixed_tendon_joint_coefficients(asset, 0, [1.0, -2.0])
    GYM.create_actor(world.env(), asset, pose(), "carts", 0, 0, 0)
    props = GYM.get_actor_dof_properties(world.envs[0], 0)
    props["driveMode"] = gymapi.DOF_MODE_EFFORT
    GYM.set_actor_dof_properties(world.envs[0], 0, props)
    GYM.prepare_sim(world.sim)
    push = torch.tensor([8.0, 0.0])
    GYM.set_dof_actuation_force_tensor(world.sim, gymtorch.unwrap_tensor(push))
    world.step(100)
    first, second = world.tensor("dof_state")[:, 0].tolist()
    assert second == pytest.approx(first / 2, rel=1e-2)
    # With q1 = q0 / 2 the inertia is 2 + 2/4 kg: 3.2 m/s^2 for 1 s.
    assert first == pytest.approx(1.6, rel=3e-2)


def test_the_rotation_of_a_root_in_the_file_is_kept_and_a_cube_rests_in_the_palm(tmp_path):
    """The palm is 0.3 m along the mount's z, which the file turns to -y. A program that turns the
    mount about x by a quarter back has the palm above it, and the cube of 0.05 m, which starts a
    little higher, comes to rest with its centre 0.01 + 0.025 m above the palm's. With the palm
    upside down it falls."""
    world = World(dt=0.005)
    asset = world.load(tmp_path, "tray.xml", TRAY, fix_base_link=True)
    cube = GYM.create_box(world.sim, 0.05, 0.05, 0.05, options())
    back = gymapi.Quat.from_euler_zyx(-math.pi / 2, 0, 0)
    over = gymapi.Quat.from_euler_zyx(math.pi / 2, 0, 0)
    for k, turn in enumerate([None, back, over]):
        env = world.env()
        GYM.create_actor(env, asset, pose(z=0.5, r=turn), "tray", k, 0, 0)
        GYM.create_actor(env, cube, pose(z=0.5 + (0.34 if k == 1 else -0.34)), "cube", k, 0, 0)
    early = GYM.get_rigid_transform(world.envs[0], 1).p
    assert [*early] == pytest.approx([0, -0.3, 0.5], abs=1e-6)
    GYM.prepare_sim(world.sim)
    contact = world.tensor("net_contact_force").view(3, 3, 3)
    bodies = world.tensor("rigid_body_state").view(3, 3, 13)
    palms = [[0, -0.3, 0.5], [0, 0, 0.8], [0, 0, 0.2]]
    np.testing.assert_allclose(bodies[:, 1, :3], palms, atol=1e-6)
    root = world.tensor("actor_root_state").view(3, 2, 13)[0, 0, 3:7].tolist()
    assert root == pytest.approx([math.sin(math.pi / 4), 0, 0, math.cos(math.pi / 4)], abs=1e-6)
    world.step(200)
    world.tensor("net_contact_force")
    height = world.tensor("rigid_body_state").view(3, 3, 13)[:, 2, 2]
    assert height[1] == pytest.approx(0.8 + 0.035, abs=1.5e-3)
    assert contact[1, 2, 2] == pytest.approx(1000 * 0.05**3 * 9.81, rel=1e-2)
    assert height[2] < -2  # it fell for a second
