"""HumanoidWalk by hand: observation, reward terms, resets, falls; its servos; both engines."""

import math

import pytest
import torch

from phalanx import tasks
from phalanx.tasks.locomotion import observe_base
from robots import assert_solved_exactly, engines_apart


def make(num_envs=4, **env):
    torch.manual_seed(0)
    task = tasks.make("HumanoidWalk", num_envs=num_envs, device="cpu", **env)
    task.reset()
    return task


def stand(task):
    """Every humanoid upright in the default pose, just above the ground, without any motion."""
    task.sim.qpos.zero_()
    task.sim.qvel.zero_()
    task.sim.qpos[:, 2] = 0.8
    task.sim.qpos[:, 3] = 1.0
    task.humanoid.joint_pos.copy_(task.default_pos.expand_as(task.humanoid.joint_pos))
    task.sim.forward()


def joints(task, **values):
    """One number per joint, 0 where none is given."""
    return [values.get(name, 0.0) for name in task.humanoid.joint_names]


def column(task, joint):
    return task.humanoid.joint_names.index(joint)


def test_observation_of_a_turned_and_tilted_humanoid_worked_out_by_hand():
    task = make(num_envs=2)
    stand(task)
    # Environment 0: turned left by 90 degrees about z, then pitched by 30 degrees about its own y,
    # nose down, moving at 2 m/s along the world's y and at 1 m/s upwards.
    cz = sz = math.cos(math.pi / 4)
    cy, sy = math.cos(math.pi / 12), math.sin(math.pi / 12)
    task.sim.qpos[0, 3:7] = torch.tensor([cz * cy, -sz * sy, cz * sy, sz * cy])
    task.sim.qvel[0, :6] = torch.tensor([0.0, 2.0, 1.0, 0.1, 0.2, 0.3])
    task.humanoid.joint_pos[0, column(task, "left_knee")] = 0.9
    task.humanoid.joint_pos[0, column(task, "right_hip_pitch")] = 0.1
    task.humanoid.joint_vel[0, column(task, "right_ankle_roll")] = 7.0
    obs = task.compute_observations()
    c, s = math.cos(math.pi / 6), math.sin(math.pi / 6)
    expected = [
        # Forward is 2 m/s horizontally; x points 30 degrees down, z 30 degrees to the front.
        *[2 * c - 1 * s, 0.0, 2 * s + 1 * c],
        *[0.1, 0.2, 0.3],
        *joints(task, left_knee=0.3, right_hip_pitch=0.4),
        *joints(task, right_ankle_roll=7.0),
        *[s, 0.0, -c],
    ]
    torch.testing.assert_close(obs[0], torch.tensor(expected), rtol=0, atol=1e-5)
    torch.testing.assert_close(obs[1], torch.tensor([0.0] * 32 + [-1.0]), rtol=0, atol=1e-6)


def test_reward_terms_worked_out_by_hand():
    task = make(num_envs=3, turn_cost=0.5)
    stand(task)
    half = math.radians(30) / 2  # rolled by 30 degrees: sine 0.5
    task.sim.qpos[1, 3], task.sim.qpos[1, 4] = math.cos(half), math.sin(half)
    task.sim.qvel[0, 0] = 1.5
    task.sim.qvel[1, 1] = 1.5  # sideways
    task.sim.qvel[2, 0] = -0.5
    task.sim.qvel[2, 5] = 2.0  # turning left
    task.sim.actuator_force.zero_()
    task.sim.actuator_force[0, column(task, "left_knee")] = 60.0  # 6 units of 10 N m
    task.sim.actuator_force[0, column(task, "right_ankle_roll")] = -30.0
    terms = task.reward_terms(observe_base(task.humanoid))
    expected = {
        "forward": [1.5, 0.0, -0.5],
        "alive": [1.0, 1.0, 1.0],
        "effort": [-0.01 * (36 + 9), 0.0, 0.0],
        "tilt": [0.0, -0.25, 0.0],
        "turn": [0.0, 0.0, -0.5 * 4],
    }
    assert list(terms) == list(expected)
    for name, values in expected.items():
        torch.testing.assert_close(terms[name], torch.tensor(values), rtol=0, atol=1e-6, msg=name)
    task.compute_observations()
    reward, terminated = task.compute_reward()
    sums = [sum(v[i] for v in expected.values()) for i in range(3)]
    torch.testing.assert_close(reward, torch.tensor(sums), rtol=0, atol=1e-5)
    assert not terminated.any()


def test_it_has_fallen_when_low_or_tilted():
    task = make(num_envs=4)
    stand(task)
    for env, degrees in ((1, 59.0), (2, 61.0)):
        half = math.radians(degrees) / 2
        task.sim.qpos[env, 3], task.sim.qpos[env, 5] = math.cos(half), math.sin(half)
    task.sim.qpos[3, 2] = 0.54
    task.compute_observations()
    _, terminated = task.compute_reward()
    assert terminated.tolist() == [False, False, True, True]


def test_actions_move_the_targets_of_servos_within_their_limits():
    task = make(num_envs=2)
    stand(task)
    task.step(torch.zeros(2, 12))
    torch.testing.assert_close(task.sim.ctrl, task.default_pos.expand(2, 12))
    stand(task)
    task.sim.qpos[:, 2] = 2.0  # in the air
    task.sim.forward()
    actions = torch.zeros(2, 12)
    actions[0, column(task, "left_knee")] = 1.0
    actions[1, column(task, "left_knee")] = 100.0  # clamped
    for _ in range(15):
        task.step(actions)
        assert (task.sim.actuator_force.abs() <= task.torque_limit * (1 + 1e-6)).all()
    bent = task.humanoid.joint_pos - task.default_pos
    assert 0.35 < bent[0, column(task, "left_knee")] < 0.65
    assert bent[0, column(task, "right_knee")].abs() < 0.1
    assert torch.equal(task.sim.qpos[0], task.sim.qpos[1])


def test_it_stands_on_its_feet_in_the_default_pose():
    task = make(num_envs=1)
    stand(task)
    for _ in range(15):  # 0.3 s; without a policy it falls after a second
        task.step(torch.zeros(1, 12))
    assert task.sim.qpos[0, 2] == pytest.approx(0.78, abs=0.03)
    # Each foot at the ground with both of its edges, under the body, flat.
    foot = task.humanoid.body_pos[0, [task.humanoid.body_names.index("left_foot")]]
    assert foot[0, 2] == pytest.approx(0.07, abs=0.01)
    assert abs(foot[0, 0] - task.sim.qpos[0, 0]) < 0.05


def test_reset_touches_masked_environments_only_and_starts_them_as_described():
    task = make(num_envs=400)
    for _ in range(5):
        task.step(2 * torch.rand(400, 12) - 1)
    mask = torch.arange(400) < 300
    before = [task.sim.qpos.clone(), task.sim.qvel.clone()]
    task._reset(mask)
    for old, new in zip(before, (task.sim.qpos, task.sim.qvel), strict=True):
        assert torch.equal(old[~mask], new[~mask])
    offset = (task.humanoid.joint_pos - task.default_pos)[mask]
    assert offset.abs().max() <= 0.1 + 1e-6
    assert (offset.min(0).values < -0.095).all()
    assert (offset.max(0).values > 0.095).all()
    velocity = task.sim.qvel[mask]
    assert velocity.abs().max() <= 0.2
    assert velocity.std(0).sub(0.4 / math.sqrt(12)).abs().max() < 0.01  # uniform
    assert (task.sim.qpos[mask, :7] == torch.tensor([0, 0, 0.8, 1, 0, 0, 0])).all()
    # No foot starts deep in the ground.
    assert task.sim.geom_xpos[mask][:, -4:, 2].min() > 0.0


def test_episode_is_truncated_after_20_seconds():
    task = make(num_envs=2)
    assert task.config.episode_length * task.config.dt == pytest.approx(20)
    task.progress_buf[0] = task.config.episode_length - 1
    *_, terminated, truncated, _ = task.step(torch.zeros(2, 12))
    assert truncated.tolist() == [True, False]
    assert not terminated.any()


def test_both_engines_give_the_same_observations_and_rewards():
    obs, reward = engines_apart("HumanoidWalk")
    assert obs.amax(2).quantile(0.9) < 1e-3
    assert reward.quantile(0.9) < 1e-4
    assert obs.max() < 1.0


def test_solver_iterations_suffice_for_the_exact_solution():
    assert_solved_exactly("HumanoidWalk", steps=40)
