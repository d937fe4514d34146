"""isaacgym: lists of contacts of a stack of boxes, whose forces are weights."""

import numpy as np
import pytest

import isaacgym.physics
from isaac import GYM, World, options, pose
from isaacgym import gymapi

G = 9.81


@pytest.mark.parametrize("engine", ["mujoco", "warp"])
def test_contacts_of_a_stack_carry_the_weights_above_them(monkeypatch, engine):
    """Boxes of 8 kg and 1 kg; the ground carries both, the lower box the upper one."""
    monkeypatch.setattr(isaacgym.physics, "ENGINE", engine)
    world = World(dt=0.005)
    world.ground(friction=0.6)
    for k in range(2):
        env = world.env(5.0)
        for edge, z in ((0.2, 0.1), (0.1, 0.25 + k)):  # in the second the upper one is in the air
            box = GYM.create_box(world.sim, edge, edge, edge, options())
            GYM.create_actor(env, box, pose(z=z), "box", k, 0, 0)
    GYM.prepare_sim(world.sim)
    world.tensor("net_contact_force")
    world.step(40)
    found = GYM.get_env_rigid_contacts(world.envs[0])
    ground, between = found[found["body0"] == -1], found[found["body0"] == 0]
    assert len(ground) + len(between) == len(found)
    assert set(ground["body1"]) == {0}
    assert set(between["body1"]) == {1}
    assert ground["lambda"].sum() == pytest.approx(9 * G, rel=5e-3)
    assert between["lambda"].sum() == pytest.approx(1 * G, rel=5e-3)
    np.testing.assert_allclose(ground["normal"]["z"], 1, atol=1e-4)
    np.testing.assert_allclose(between["normal"]["z"], 1, atol=1e-4)  # from body0 to body1
    np.testing.assert_allclose(ground["local_pos1"]["z"], -0.1, atol=1e-3)
    np.testing.assert_allclose(ground["local_pos0"]["z"], 0.0, atol=1e-3)
    np.testing.assert_allclose(between["local_pos0"]["z"], 0.1, atol=1e-3)
    np.testing.assert_allclose(between["local_pos1"]["z"], -0.05, atol=1e-3)
    assert ground["friction"] == pytest.approx(0.8, rel=1e-3)  # the mean of 1.0 and 0.6
    assert ground["env0"].tolist() == [-1] * len(ground)
    assert ground["env1"].tolist() == [0] * len(ground)
    everything = GYM.get_rigid_contacts(world.sim)
    second = everything[everything["env1"] == 1]
    assert second["lambda"].sum() == pytest.approx(8 * G, rel=5e-3)
    net = GYM.get_env_rigid_contact_forces(world.envs[0])
    assert net["z"].tolist() == pytest.approx([8 * G, 1 * G], rel=1e-2)
    assert GYM.get_rigid_contact_forces(world.sim).shape == (4,)
    assert GYM.get_vec_env_rigid_contact_forces(world.envs).shape == (2, 2)
    GYM.draw_env_rigid_contacts(None, world.envs[0], gymapi.Vec3(1, 0, 0), 0.1, False)
