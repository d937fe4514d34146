"""Ant against values worked out by hand: observations, reward terms, resets; its robot against
Isaac Gym's; both engines."""

import math

import pytest
import torch

from phalanx import tasks
from phalanx.tasks.locomotion import observe_torso
from robots import (
    ISAAC_MJCF,
    assert_same_robot,
    assert_solved_exactly,
    engines_apart,
    needs_isaac_gyms_files,
)


def make(num_envs=4, **env):
    torch.manual_seed(0)
    task = tasks.make("Ant", num_envs=num_envs, device="cpu", **env)
    task.reset()
    return task


def rest(task):
    """Every ant upright in the middle of its joints' limits, without any motion."""
    task.sim.qpos.zero_()
    task.sim.qvel.zero_()
    task.sim.qpos[:, 2] = 0.5
    task.sim.qpos[:, 3] = 1.0
    task.ant.joint_pos.copy_(task.ant.joint_limits.mean(1).expand_as(task.ant.joint_pos))
    task.sim.forward()


def test_observation_of_a_turned_and_tilted_ant_worked_out_by_hand():
    task = make(num_envs=2)
    rest(task)
    # Environment 0: turned left by 90 degrees about z, then rolled by 30 about its own x, at
    # (3, 4), moving at 2 m/s along the world's y, which is its own forward direction, and at
    # 1 m/s upwards.
    half = (math.pi / 4, math.pi / 12)
    cz, sz, cx, sx = math.cos(half[0]), math.sin(half[0]), math.cos(half[1]), math.sin(half[1])
    task.sim.qpos[0, :7] = torch.tensor([3.0, 4.0, 0.6, cz * cx, cz * sx, sz * sx, sz * cx])
    task.sim.qvel[0, :6] = torch.tensor([0.0, 2.0, 1.0, 0.1, 0.2, 0.3])
    task.ant.joint_pos[0, 1] = math.radians(30)  # ankle_1 at its lower limit
    task.ant.joint_vel[0, 2] = 10.0
    task.previous_actions[0, 3] = -0.5
    obs = task.compute_observations()[0]
    to_target = math.atan2(-4.0, 997.0)
    distance = math.hypot(997.0, 4.0)
    expected = [
        *[0.6],
        # The vertical speed of 1 m/s, seen from a torso that is rolled by 30 degrees.
        *[2.0, math.sin(math.pi / 6), math.cos(math.pi / 6)],
        *[0.1, 0.2, 0.3],
        *[math.pi / 2, math.pi / 6, to_target - math.pi / 2],
        *[math.cos(math.pi / 6), -4.0 / distance],
        *[0.0, -1.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0],
        *[0.0, 0.0, 2.0, 0.0, 0.0, 0.0, 0.0, 0.0],
        *[0.0] * 24,
        *[0.0, 0.0, 0.0, -0.5, 0.0, 0.0, 0.0, 0.0],
    ]
    torch.testing.assert_close(obs, torch.tensor(expected), rtol=0, atol=1e-5)


def test_foot_forces_carry_the_weight_of_a_standing_ant():
    task = make(num_envs=1)
    for _ in range(120):
        task.step(torch.zeros(1, 8))
    forces = task.obs_buf[0, 28:52].view(4, 6)[:, :3] / task.config.contact_force_scale
    mass = torch.tensor(task.sim.model.body_mass)
    shank = mass[task.ant.body_ids[2]]
    # Site frames are turned to the world through hip and ankle; what counts is the length.
    carried = forces.norm(dim=1).sum()
    weight = 9.81 * (mass.sum() - 4 * shank)
    assert carried > 0.95 * weight
    assert carried < 2 * weight  # legs that brace against each other add to it


def test_reward_terms_worked_out_by_hand():
    task = make(num_envs=4)
    rest(task)
    half = math.radians(60) / 2  # turned by 60 degrees: cosine 0.5
    task.sim.qpos[1, 3], task.sim.qpos[1, 6] = math.cos(half), math.sin(half)
    half = math.radians(25) / 2  # rolled by 25 degrees: cosine 0.906
    task.sim.qpos[2, 3], task.sim.qpos[2, 4] = math.cos(half), math.sin(half)
    task.sim.qpos[3, 2] = 0.30
    task.distance.fill_(1000.05)  # 0.05 m further away one step of 1/60 s ago: 3 m/s
    task.actions[0, 0] = 1.0
    task.actions[0, 1] = -0.5
    task.ant.joint_vel[0, 1] = 10.0
    task.ant.joint_pos[0, 2] = math.radians(40)  # at the upper limit
    task.ant.joint_pos[0, 4] = math.radians(-40)  # at the lower, which costs nothing
    terms = task.reward_terms(observe_torso(task.ant))
    expected = {
        "progress": [3.0, 3.0, 3.0, 3.0],
        "alive": [0.5, 0.5, 0.5, 0.5],
        "upright": [0.1, 0.1, 0.0, 0.1],
        "facing": [0.5, 0.5 * 0.5 / 0.8, 0.5, 0.5],
        "effort": [-0.005 * 1.25, 0.0, 0.0, 0.0],
        "power": [-0.05 * 0.5 * 0.2 * 10, 0.0, 0.0, 0.0],
        "at_limit": [-0.1, 0.0, 0.0, 0.0],
    }
    assert list(terms) == list(expected)
    for name, values in expected.items():
        # progress is a difference of two float32 of 1000 m, whose last digit is 6e-5 m
        atol = 60 * 6.2e-5 if name == "progress" else 1e-5
        torch.testing.assert_close(
            terms[name].float(), torch.tensor(values), rtol=0, atol=atol, msg=name
        )
    task.compute_observations()
    reward, terminated = task.compute_reward()
    sums = [sum(v[i] for v in expected.values()) for i in range(3)]
    torch.testing.assert_close(reward, torch.tensor([*sums, -2.0]), rtol=0, atol=5e-3)
    assert terminated.tolist() == [False, False, False, True]
    again, _ = task.compute_reward()  # no progress since
    torch.testing.assert_close(again[:3], reward[:3] - 3.0, rtol=0, atol=5e-3)


def test_reset_touches_masked_environments_only_and_starts_them_as_described():
    task = make(num_envs=200)
    for _ in range(5):
        task.step(2 * torch.rand(200, 8) - 1)
    mask = torch.arange(200) < 150
    before = [x.clone() for x in (task.sim.qpos, task.sim.qvel, task.sim.sensordata, task.distance)]
    task._reset(mask)
    after = (task.sim.qpos, task.sim.qvel, task.sim.sensordata, task.distance)
    for old, new in zip(before, after, strict=True):
        assert torch.equal(old[~mask], new[~mask])
    pos, vel = task.ant.joint_pos[mask], task.ant.joint_vel[mask]
    start = torch.tensor([0, 30, 0, -30, 0, -30, 0, 30]).deg2rad()
    lower, upper = task.ant.joint_limits.unbind(1)
    # Hips within 0.2 rad of zero, ankles within 0.2 rad of a limit and half of them at it.
    assert (pos - start).abs().max() <= 0.2 + 1e-6
    assert ((pos >= lower - 1e-6) & (pos <= upper + 1e-6)).all()
    assert (pos[:, ::2].min(0).values < -0.18).all()
    assert (pos[:, ::2].max(0).values > 0.18).all()
    assert (pos[:, 1::2] - start[1::2]).abs().lt(1e-6).float().mean().sub(0.5).abs() < 0.15
    assert vel.abs().max() <= 0.1
    assert vel.std(0).sub(0.2 / math.sqrt(12)).abs().max() < 0.01  # uniform
    assert (task.sim.qpos[mask, :7] == torch.tensor([0, 0, 0.44, 1, 0, 0, 0])).all()
    assert (task.sim.qvel[mask, :6] == 0).all()
    assert (task.sim.sensordata[mask] == 0).all()
    assert (task.sim.sensordata[~mask] != 0).any()
    assert (task.actions[mask] == 0).all()
    assert (task.distance[mask] == 1000).all()


def test_fallen_ant_ends_its_episode_and_shows_where_it_fell():
    task = make(num_envs=2)
    task.sim.qpos[0, 2] = 0.25
    for buffer in (task.obs_buf, task.terminal_obs_buf, task.rew_buf):
        buffer.fill_(torch.inf)
    actions = torch.full((2, 8), 0.25)
    obs, reward, terminated, truncated, infos = task.step(actions)
    assert terminated.tolist() == [True, False]
    assert not truncated.any()
    assert reward[0] == -2.0
    terminal = infos["terminal"]["obs"]
    assert terminal[0, 0] < 0.31
    assert torch.equal(terminal[:, -8:], actions)
    assert obs["obs"][0, 0] == pytest.approx(0.44)
    assert (obs["obs"][0, -8:] == 0).all()
    assert torch.equal(obs["obs"][1], terminal[1])
    # The next step's progress counts from the start of the new episode.
    _, reward, *_ = task.step(torch.zeros(2, 8))
    assert reward.abs().max() < 3


def test_episode_is_truncated_after_1000_steps():
    task = make(num_envs=2)
    task.progress_buf[0] = 999
    *_, truncated, _ = task.step(torch.zeros(2, 8))
    assert truncated.tolist() == [True, False]


def test_saved_task_continues_bit_for_bit():
    task = make()
    for _ in range(10):
        task.step(2 * torch.rand(4, 8) - 1)
    state = task.state_dict()
    actions = 2 * torch.rand(5, 4, 8) - 1
    first = [task.step(a)[1].clone() for a in actions]
    other = make(num_envs=4)
    other.load_state_dict(state)
    second = [other.step(a)[1].clone() for a in actions]
    assert torch.equal(torch.stack(first), torch.stack(second))


@needs_isaac_gyms_files
def test_robot_has_isaac_gyms_bodies_joints_motors_and_shapes():
    assert_same_robot(tasks.find("Ant").Config.asset, ISAAC_MJCF / "nv_ant.xml")


def test_both_engines_give_the_same_observations_and_rewards():
    obs, reward = engines_apart("Ant")
    # Warp turns the friction pyramid of a steep leg differently from MuJoCo C, which one step in
    # ten shows; in all others float32 is the difference.
    assert obs.amax(2).quantile(0.8) < 1e-4
    assert reward.quantile(0.8) < 1e-4
    assert obs.quantile(0.999) < 1.0


def test_solver_iterations_suffice_for_the_exact_solution():
    assert_solved_exactly("Ant")
