"""Cartpole against values worked out by hand: reward, ends of episodes, resets; Isaac Gym's robot
file against ours."""

import math
from pathlib import Path

import pytest
import torch

from phalanx import tasks
from phalanx.errors import PhalanxError
from phalanx.spaces import Discrete

ISAAC_URDF = (
    Path(__file__).parents[2] / "shared" / "assets" / "isaacgymenvs" / "urdf" / "cartpole.urdf"
)

# The pole is a box of 1 kg: (b^2 + c^2) / 12 about each axis [kg m^2].
IXX, IYY, IZZ = (0.06**2 + 1.0) / 12, (0.04**2 + 1.0) / 12, (0.04**2 + 0.06**2) / 12
URDF = f"""<robot name="cartpole">
  <link name="slider"/>
  <link name="cart"><inertial><mass value="1"/><inertia ixx="0.01" iyy="0.01" izz="0.01"
    ixy="0" ixz="0" iyz="0"/></inertial></link>
  <link name="pole"><inertial><origin xyz="0 0 0.47"/><mass value="1"/>
    <inertia ixx="{IXX}" iyy="{IYY}" izz="{IZZ}" ixy="0" ixz="0" iyz="0"/></inertial></link>
  <joint name="slider_to_cart" type="prismatic"><axis xyz="0 1 0"/><parent link="slider"/>
    <child link="cart"/><limit lower="-4" upper="4" effort="1000" velocity="100"/></joint>
  <joint name="cart_to_pole" type="continuous"><axis xyz="1 0 0"/><origin xyz="0.12 0 0"/>
    <parent link="cart"/><child link="pole"/><limit effort="1000" velocity="8"/></joint>
</robot>"""


@pytest.fixture(autouse=True)
def _mujoco_log_goes_elsewhere(tmp_path, monkeypatch):
    """MuJoCo writes its warnings about bad states into MUJOCO_LOG.TXT where it is."""
    monkeypatch.chdir(tmp_path)


def make(num_envs=4, **env):
    torch.manual_seed(0)
    task = tasks.make("Cartpole", num_envs=num_envs, device="cpu", **env)
    task.reset()
    return task


def put(task, states):
    """States (N, 4) as (cart position, cart velocity, pole angle, pole velocity)."""
    states = torch.tensor(states)
    task.cartpole.joint_pos.copy_(states[:, [0, 2]])
    task.cartpole.joint_vel.copy_(states[:, [1, 3]])


def test_reward_of_states_worked_out_by_hand():
    task = make(num_envs=5)
    put(
        task,
        [
            [0.0, 0.0, 0.0, 0.0],  # 1
            [1.0, -2.0, 0.5, 4.0],  # 1 - 0.25 - 0.02 - 0.02 = 0.71
            [-2.99, 0.0, -1.5, 0.0],  # 1 - 2.25 = -1.25
            [3.01, 0.0, 0.0, 0.0],  # out of reach
            [0.0, 0.0, -1.58, 0.0],  # below the horizontal: pi / 2 = 1.5708
        ],
    )
    reward, terminated = task.compute_reward()
    torch.testing.assert_close(reward, torch.tensor([1.0, 0.71, -1.25, -2.0, -2.0]))
    assert terminated.tolist() == [False, False, False, True, True]


def test_observation_is_position_velocity_angle_velocity_clamped():
    task = make(num_envs=2)
    put(task, [[0.1, 0.2, 0.3, 0.4], [1.0, 7.0, -1.0, -9.0]])
    expected = torch.tensor([[0.1, 0.2, 0.3, 0.4], [1.0, 5.0, -1.0, -5.0]])
    assert torch.equal(task._observe(), expected)


def test_termination_at_three_metres_and_at_the_horizontal():
    task = make(num_envs=4)
    # One step of 1/60 s at 1 m/s or 1 rad/s crosses the limit, or does not yet.
    put(task, [[2.99, 1.0, 0, 0], [2.9, 1.0, 0, 0], [0, 0, 1.56, 1.0], [0, 0, 1.4, 0.0]])
    _, reward, terminated, truncated, _ = task.step(torch.zeros(4, 1))
    assert terminated.tolist() == [True, False, True, False]
    assert reward[[0, 2]].tolist() == [-2.0, -2.0]
    assert (reward[[1, 3]] > -2).all()
    assert not truncated.any()


def test_terminal_observation_is_the_state_before_the_reset_and_obs_the_one_after():
    task = make(num_envs=2)
    put(task, [[2.99, 1.0, 0.0, 0.0], [0.5, 0.0, 0.0, 0.0]])
    task.progress_buf.fill_(7)
    for buffer in (task.obs_buf, task.terminal_obs_buf, task.rew_buf):
        buffer.fill_(torch.inf)
    obs, _, terminated, _, infos = task.step(torch.zeros(2, 1))
    assert terminated.tolist() == [True, False]
    terminal = infos["terminal"]["obs"]
    assert terminal[0, 0] > 3.0
    assert obs["obs"][0].abs().max() <= 0.25
    assert torch.equal(obs["obs"][1], terminal[1])  # no reset there: one and the same state
    assert task.progress_buf.tolist() == [0, 8]
    assert task.sim.ctrl[0] == 0


def test_observations_do_not_depend_on_ends_of_other_environments():
    class Counting(tasks.find("Cartpole")):
        """Observes a number that its reward changes."""

        def init_buffers(self):
            super().init_buffers()
            self.rewarded = torch.zeros(self.num_envs)

        def compute_observations(self):
            return torch.cat([super().compute_observations()[:, :3], self.rewarded[:, None]], 1)

        def compute_reward(self):
            self.rewarded += 1
            return super().compute_reward()

    seen = []
    for position in (0.0, 2.99):  # of environment 0, which ends or does not
        task = Counting(Counting.Config(num_envs=2), device="cpu")
        task.reset()
        put(task, [[position, 1.0, 0.0, 0.0], [0.5, 0.0, 0.1, 0.0]])
        obs, _, terminated, _, _ = task.step(torch.zeros(2, 1))
        assert terminated[0] == (position > 0)
        seen.append(obs["obs"].clone())
    assert torch.equal(seen[0][1], seen[1][1])
    assert seen[0][1, 3] == 0  # as the step reached it
    assert seen[1][0, 3] == 1  # a new episode


def test_truncation_after_exactly_500_steps():
    task = make(num_envs=2)
    for step in range(1, 502):
        put(task, [[0.1, 0.0, 0.0, 0.0]] * 2)  # balanced by hand
        _, _, terminated, truncated, infos = task.step(torch.zeros(2, 1))
        assert not terminated.any()
        assert truncated.all() == (step == 500)
        assert truncated.any() == (step == 500)
        if step == 500:
            assert (infos["terminal"]["obs"][:, 0] == 0.1).all()
            assert (task.obs_buf[:, 0] != 0.1).all()
    assert task.progress_buf.tolist() == [1, 1]


def test_termination_on_the_last_step_is_no_truncation():
    task = make(num_envs=2)
    task.progress_buf.fill_(499)
    put(task, [[2.99, 1.0, 0.0, 0.0], [0.0, 0.0, 0.0, 0.0]])
    _, _, terminated, truncated, _ = task.step(torch.zeros(2, 1))
    assert terminated.tolist() == [True, False]
    assert truncated.tolist() == [False, True]


def test_initial_states_differ_and_lie_in_their_ranges():
    task = make(num_envs=256)
    pos, vel = task.cartpole.joint_pos, task.cartpole.joint_vel
    for values, limit in ((pos, 0.1), (vel, 0.25)):
        assert values.abs().max() <= limit
        assert values.abs().max() > 0.9 * limit
        assert (values > 0).float().mean(0).sub(0.5).abs().max() < 0.15  # both signs
        assert all(len(column.unique()) > 250 for column in values.T)


def test_same_seed_gives_the_same_rollout():
    def rollout(seed):
        task = make(num_envs=8)
        torch.manual_seed(seed)
        task.reset()
        steps = []
        for _ in range(60):
            obs, reward, terminated, *_ = task.step(2 * torch.rand(8, 1) - 1)
            steps.append(torch.cat([obs["obs"], reward[:, None], terminated[:, None]], 1).clone())
        return torch.stack(steps)

    first = rollout(1)
    assert first[..., 5].any()  # some episodes ended, so resets are in it
    assert torch.equal(first, rollout(1))
    assert not torch.equal(first, rollout(2))


def test_discrete_forces_are_evenly_spaced_from_end_to_end():
    task = make(num_envs=5, discrete_actions=5)
    assert task.action_space == Discrete(5)
    task.pre_physics_step(torch.arange(5))
    assert task.sim.ctrl[:, 0].tolist() == [-1.0, -0.5, 0.0, 0.5, 1.0]
    for wrong in (-1, 5):
        with pytest.raises(PhalanxError, match=f"got the action {wrong}; .* and there are 5"):
            task.step(torch.tensor([0, 1, wrong, 2, 3]))


def test_action_one_pushes_with_400_newtons():
    task = make(num_envs=3)
    put(task, [[0.0, 0.0, 0.0, 0.0]] * 3)
    task.step(torch.tensor([[1.0], [-1.0], [50.0]]))  # clamped to +-1
    # Upright pole with its centre of mass 0.47 m above the hinge, moments about that:
    # (M + m) a + m l alpha = F and m l a + (I + m l^2) alpha = 0 (angle positive against the push)
    inertia = (0.06**2 + 1.0) / 12 + 0.47**2
    acceleration = 400 / (2 - 0.47**2 / inertia)
    velocity = task.terminal_obs_buf[:, 1]
    assert velocity[0] == 5.0 == -velocity[1] == velocity[2]  # clamped observations
    task.sim.reset()
    task.sim.ctrl.copy_(torch.tensor([[0.01], [-0.01], [0.0]]))
    task.sim.step()
    speed = 0.01 * acceleration / 60
    torch.testing.assert_close(
        task.cartpole.joint_vel[:, 0], torch.tensor([speed, -speed, 0.0]), rtol=2e-3, atol=1e-6
    )


def trajectories(task, steps=100):
    """(steps, N, 4) from the same initial states under the same forces, without resets."""
    task.sim.reset()
    put(task, [[0.0, 0.0, 0.1, 0.0], [0.5, -0.2, -0.3, 1.0], [-1.0, 0.0, 0.0, 0.0]])
    generator = torch.Generator().manual_seed(4)
    seen = []
    for _ in range(steps):
        task.sim.ctrl.copy_(0.05 * (2 * torch.rand(3, 1, generator=generator) - 1))
        task.sim.step()
        seen.append(torch.cat([task.cartpole.joint_pos, task.cartpole.joint_vel], 1).clone())
    return torch.stack(seen)


def test_isaac_style_urdf_behaves_as_our_mjcf(tmp_path):
    path = tmp_path / "cartpole.urdf"
    path.write_text(URDF)
    ours = trajectories(make(num_envs=3))
    assert ours[-1, :, 1].abs().max() > 1  # poles have fallen: the comparison covers large angles
    urdf = trajectories(make(num_envs=3, asset=str(path)))
    torch.testing.assert_close(urdf, ours, rtol=1e-6, atol=1e-6)


@pytest.mark.skipif(not ISAAC_URDF.exists(), reason=f"Isaac Gym's assets are not at {ISAAC_URDF}")
def test_isaac_gyms_own_urdf_behaves_as_our_mjcf():
    ours = trajectories(make(num_envs=3))
    theirs = trajectories(make(num_envs=3, asset=str(ISAAC_URDF)))
    torch.testing.assert_close(theirs, ours, rtol=1e-6, atol=1e-6)


def test_nan_in_one_environment_ends_its_episode_and_harms_no_other():
    task, untouched = make(), make()
    for t in range(20):
        actions = 0.02 * torch.randn(4, 1)
        # The same random initial states follow in both, whoever is reset.
        results = []
        for each in (task, untouched):
            if each is task and t == 10:
                each.sim.qvel[2, 1] = torch.nan
            torch.manual_seed(t)
            results.append([x.clone() for x in flat(each.step(actions))])
        mine, theirs = results
        for a, b in zip(mine, theirs, strict=True):
            keep = torch.tensor([True, True, False, True]) if t >= 10 else torch.ones(4).bool()
            assert torch.equal(a[keep], b[keep])
            assert a.isfinite().all()
        if t == 10:
            obs, reward, terminated, truncated, terminal = mine
            assert reward[2] == 0
            assert terminated.tolist() == [False, False, True, False]
            assert not truncated.any()
            assert (terminal[2] == 0).all()
            assert obs[2].abs().max() <= 0.25
            assert task.sim.diverged.tolist() == [False, False, True, False]
    said = "an environment diverged and was reset: environment 2 in step 11, by qpos"
    assert task.report() == said
    assert untouched.report() == ""


def flat(result):
    obs, reward, terminated, truncated, infos = result
    return obs["obs"], reward, terminated, truncated, infos["terminal"]["obs"]


@pytest.mark.parametrize("value", [1e6, 1e20, 3e38, math.inf])
def test_absurd_velocities_end_the_episode_with_finite_numbers(value):
    task = make()
    task.sim.qvel[1, 1] = value
    for t in range(5):
        for x in flat(task.step(torch.zeros(4, 1))):
            assert x.isfinite().all()
        assert task.terminated.tolist() == [False, t == 0, False, False]


def test_nan_action_is_counted_as_such():
    task = make()
    task.step(torch.tensor([[0.0], [torch.nan], [0.0], [0.0]]))
    assert task.terminated.tolist() == [False, True, False, False]
    assert "by ctrl" in task.report()
    assert task.obs_buf.isfinite().all()
