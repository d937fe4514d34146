"""Humanoid against values worked out by hand: observations, reward terms, resets; its robot against
Isaac Gym's; both engines.

What Ant shares with it (truncation, continuing from saved state) is tested there.
"""

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

GEARS = [67.5] * 3 + [45, 45, 135, 90, 22.5, 22.5] * 2 + [67.5, 67.5, 45] * 2
"""Torque at action 1 of each joint [N m]; the strongest is the hips' y."""


def make(num_envs=4, **env):
    torch.manual_seed(0)
    task = tasks.make("Humanoid", num_envs=num_envs, device="cpu", **env)
    task.reset()
    return task


def rest(task):
    """Every humanoid upright in the air, in the middle of its joints' limits, without motion."""
    task.sim.qpos.zero_()
    task.sim.qvel.zero_()
    task.sim.qpos[:, 2] = 1.5
    task.sim.qpos[:, 3] = 1.0
    robot = task.humanoid
    robot.joint_pos.copy_(robot.joint_limits.mean(1).expand_as(robot.joint_pos))
    task.sim.forward()


def column(task, joint):
    return task.humanoid.joint_names.index(joint)


def joints(task, **values):
    """One number per joint, 0 where none is given."""
    return [values.get(name, 0.0) for name in task.humanoid.joint_names]


def test_observation_of_a_turned_and_tilted_humanoid_worked_out_by_hand():
    task = make(num_envs=2)
    rest(task)
    # Environment 0: turned left by 90 degrees about z, then rolled by 30 about its own x, at
    # (3, 4), moving at 2 m/s along the world's y, which is its own forward direction, and at
    # 1 m/s upwards.
    half = (math.pi / 4, math.pi / 12)
    cz, sz, cx, sx = math.cos(half[0]), math.sin(half[0]), math.cos(half[1]), math.sin(half[1])
    task.sim.qpos[0, :7] = torch.tensor([3.0, 4.0, 1.3, cz * cx, cz * sx, sz * sx, sz * cx])
    task.sim.qvel[0, :6] = torch.tensor([0.0, 2.0, 1.0, 0.4, 0.8, 1.2])
    task.humanoid.joint_pos[0, column(task, "right_knee")] = math.radians(-160)  # lower limit
    task.humanoid.joint_vel[0, column(task, "left_elbow")] = 10.0
    task.actions[0, column(task, "left_hip_y")] = -0.5  # as it arrived
    task.previous_actions[0, column(task, "left_hip_y")] = -0.6  # as the policy wanted it
    task.sim.qfrc_constraint[0, 6 + column(task, "left_hip_y")] = 30.0
    task.sim.qfrc_constraint[0, 6 + column(task, "abdomen_x")] = -20.0
    task.progress_buf[0] = 1
    task.sim.sensordata[0] = torch.arange(12.0)
    obs = task.compute_observations()
    to_target = math.atan2(-4.0, 997.0)
    expected = [
        *[1.3],
        # The vertical speed of 1 m/s, seen from a torso that is rolled by 30 degrees.
        *[2.0, math.sin(math.pi / 6), math.cos(math.pi / 6)],
        *[0.1, 0.2, 0.3],
        *[math.pi / 2, math.pi / 6, to_target - math.pi / 2],
        *[math.cos(math.pi / 6), -4.0 / math.hypot(997.0, 4.0)],
        *joints(task, right_knee=-1.0),
        *joints(task, left_elbow=1.0),
        *joints(task, left_hip_y=(-0.5 * 135 + 30) * 0.01, abdomen_x=-0.2),
        *[0.01 * i for i in range(12)],
        *joints(task, left_hip_y=-0.6),
    ]
    torch.testing.assert_close(obs[0], torch.tensor(expected), rtol=0, atol=1e-5)
    assert (obs[1, 54:75] == 0).all()  # no torque is known before the first step


def test_feet_feel_the_weight_of_the_humanoid_that_lands_on_them():
    task = make(num_envs=1)
    task.humanoid.joint_pos.zero_()
    task.humanoid.joint_vel.zero_()
    task.sim.forward()
    carried = []
    for _ in range(20):  # it lands after 7 steps and stands for half a second
        task.step(torch.zeros(1, 21))
        forces = task.obs_buf[0, 75:87].view(2, 2, 3)[:, 0] / task.config.contact_force_scale
        carried.append(forces.norm(dim=1))
    mass = torch.tensor(task.sim.model.body_mass)
    feet = [task.humanoid.body_names.index(f"{side}_foot") for side in ("left", "right")]
    weight = 9.81 * (mass.sum() - mass[[task.humanoid.body_ids[i] for i in feet]].sum())
    assert torch.stack(carried[:5]).abs().max() < 1e-6  # in the air, nothing pulls on the feet
    left, right = torch.stack(carried[-5:]).mean(0).tolist()
    assert left == pytest.approx(right, rel=1e-3)
    assert 0.9 * weight < left + right < 1.1 * weight


def test_reward_terms_worked_out_by_hand():
    task = make(num_envs=4)
    rest(task)
    half = math.radians(60) / 2  # turned by 60 degrees: cosine 0.5
    task.sim.qpos[1, 3], task.sim.qpos[1, 6] = math.cos(half), math.sin(half)
    half = math.radians(25) / 2  # rolled by 25 degrees: cosine 0.906
    task.sim.qpos[2, 3], task.sim.qpos[2, 4] = math.cos(half), math.sin(half)
    task.sim.qpos[3, 2] = 0.79
    task.distance.fill_(1000.05)  # 0.05 m further away one step of 1/60 s ago: 3 m/s
    task.actions[0, column(task, "right_hip_y")] = 1.0
    task.actions[0, column(task, "left_knee")] = -0.5
    task.humanoid.joint_vel[0, column(task, "left_knee")] = 10.0
    # Both limits count, here the last degree, half a percent, of 160 + 2: 1 - 2 / 162 is 0.98765.
    task.humanoid.joint_pos[0, column(task, "right_knee")] = math.radians(1)
    task.humanoid.joint_pos[0, column(task, "left_ankle_y")] = math.radians(-50)
    terms = task.reward_terms(observe_torso(task.humanoid))
    near = (1 - 2 / 162 - 0.98) / 0.02
    expected = {
        "progress": [3.0, 3.0, 3.0, 3.0],
        "alive": [2.0, 2.0, 2.0, 2.0],
        "upright": [0.1, 0.1, 0.0, 0.1],
        "facing": [0.5, 0.5 * 0.5 / 0.8, 0.5, 0.5],
        "effort": [-0.01 * 1.25, 0.0, 0.0, 0.0],
        "power": [-0.05 * 0.5 * 0.1 * 10 * 90 / 135, 0.0, 0.0, 0.0],
        "at_limit": [-0.25 * (near * 90 / 135 + 22.5 / 135), 0.0, 0.0, 0.0],
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
    torch.testing.assert_close(reward, torch.tensor([*sums, -1.0]), rtol=0, atol=5e-3)
    assert terminated.tolist() == [False, False, False, True]


def test_reset_touches_masked_environments_only_and_starts_them_as_described():
    task = make(num_envs=200)
    for _ in range(10):
        task.step(2 * torch.rand(200, 21) - 1)
    mask = torch.arange(200) < 150
    before = [x.clone() for x in (task.sim.qpos, task.sim.qvel, task.sim.sensordata, task.distance)]
    task._reset(mask)
    after = (task.sim.qpos, task.sim.qvel, task.sim.sensordata, task.distance)
    for old, new in zip(before, after, strict=True):
        assert torch.equal(old[~mask], new[~mask])
    pos, vel = task.humanoid.joint_pos[mask], task.humanoid.joint_vel[mask]
    lower, upper = task.humanoid.joint_limits.unbind(1)
    # Uniform within 0.2 rad of zero, but no knee bends further than 2 degrees to the front.
    knees = [column(task, f"{side}_knee") for side in ("right", "left")]
    others = [i for i in range(21) if i not in knees]
    assert ((pos >= lower - 1e-6) & (pos <= upper + 1e-6)).all()
    assert pos.abs().max() <= 0.2
    assert (pos[:, others].min(0).values < -0.18).all()
    assert (pos[:, others].max(0).values > 0.18).all()
    torch.testing.assert_close(pos[:, knees].amax(0), torch.full((2,), math.radians(2)))
    assert vel.abs().max() <= 0.1
    assert vel.std(0).sub(0.2 / math.sqrt(12)).abs().max() < 0.01
    assert (task.sim.qpos[mask, :7] == torch.tensor([0, 0, 1.34, 1, 0, 0, 0])).all()
    assert (task.sim.qvel[mask, :6] == 0).all()
    assert (task.actions[mask] == 0).all()
    assert (task.distance[mask] == 1000).all()
    # What the last episode's step left in forces is not part of the new one's first observation.
    obs = task.compute_observations()
    assert (obs[mask, 54:87] == 0).all()
    assert (obs[~mask, 54:87].abs().amax(1) > 0).all()


def test_fallen_humanoid_ends_its_episode_and_shows_where_it_fell():
    task = make(num_envs=2)
    task.sim.qpos[0, :7] = torch.tensor([0, 0, 0.5, math.sqrt(0.5), math.sqrt(0.5), 0, 0])  # lying
    for buffer in (task.obs_buf, task.terminal_obs_buf, task.rew_buf):
        buffer.fill_(torch.inf)
    actions = torch.full((2, 21), 0.25)
    obs, reward, terminated, truncated, infos = task.step(actions)
    assert terminated.tolist() == [True, False]
    assert not truncated.any()
    assert reward[0] == -1.0
    terminal = infos["terminal"]["obs"]
    assert terminal[0, 0] < 0.8
    assert torch.equal(terminal[:, -21:], actions)
    assert obs["obs"][0, 0] == pytest.approx(1.34)
    assert (obs["obs"][0, -21:] == 0).all()
    assert torch.equal(obs["obs"][1], terminal[1])
    # The next step's progress counts from the start of the new episode.
    _, reward, *_ = task.step(torch.zeros(2, 21))
    assert reward.abs().max() < 4


@needs_isaac_gyms_files
def test_robot_has_isaac_gyms_bodies_joints_motors_and_shapes():
    assert_same_robot(tasks.find("Humanoid").Config.asset, ISAAC_MJCF / "nv_humanoid.xml")


def test_torque_at_full_action_is_the_gear_of_each_joint():
    task = make(num_envs=1)
    task.step(torch.ones(1, 21))
    torque = task.sim.qfrc_actuator[0, 6:]
    torch.testing.assert_close(torque, torch.tensor(GEARS))
    torch.testing.assert_close(task.max_torque, torch.tensor(GEARS))


def test_both_engines_give_the_same_observations_and_rewards():
    obs, reward = engines_apart("Humanoid")
    # float32 is the difference; a limb that just touches another can be a contact in one only.
    assert obs.amax(2).quantile(0.95) < 1e-3
    assert reward.quantile(0.95) < 1e-4
    assert obs.max() < 1.0


def test_solver_iterations_suffice_for_the_exact_solution():
    assert_solved_exactly("Humanoid")
