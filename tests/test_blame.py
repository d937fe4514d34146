"""A number that is not finite is blamed on its origin, in training on real tasks."""

import math
import re

import pytest
import torch

from phalanx import tasks
from phalanx.errors import PhalanxError
from phalanx.rl import Runner, vecenv
from phalanx.rl.absurd import AbsurdRewards

N, HORIZON, ITERATIONS = 16, 8, 4
ENV, STEP = 3, 13  # the fifth step of the second iteration, or the last one with LAST
LAST = 16


def broken(name, origin, step):
    """Task `name` whose environment 3 goes wrong in a step, counted from 1."""

    class Broken(tasks.find(name)):
        def now(self):
            return int(self.sim.steps) == step

        def pre_physics_step(self, actions):
            super().pre_physics_step(actions)
            if int(self.sim.steps) == step - 1:
                if origin == "state":
                    self.sim.qvel[ENV, 0] = math.nan
                if origin == "applied force":
                    self.sim.xfrc_applied[ENV, 1, 0] = math.nan
                if origin == "joint force":
                    self.sim.qfrc_applied[ENV, 0] = math.inf
                if origin == "mass":
                    self.sim.model_field("body_mass")[ENV, 1] = math.nan

        def compute_observations(self):
            observations = super().compute_observations()
            if self.now() and origin == "observation":
                observations[ENV, 1] = math.nan
            if self.now() and origin == "terminal observation" and not self.ended:
                observations[ENV, 1] = math.nan
            return observations

        def compute_reward(self):
            reward, terminated = super().compute_reward()
            if self.now() and origin == "reward":
                reward[ENV] = math.inf
            if self.now() and isinstance(origin, float):
                reward[ENV] = origin
            return reward, terminated

        ended = False

        def post_physics_step(self):
            if self.now() and origin == "terminal observation":
                self.progress_buf[ENV] = self.config.episode_length
            super().post_physics_step()

        def reset_envs(self, mask):
            self.ended = True  # what is observed from here on is of new episodes
            super().reset_envs(mask)

        def _before_physics(self, actions):
            self.ended = False
            super()._before_physics(actions)

    return Broken(Broken.Config(num_envs=N), device="cpu")


def trained(tmp_path, name, origin, step=STEP, algorithm=None, **changes):
    vecenv.register("broken_task", lambda num_envs, device, **options: broken(name, origin, step))
    config = {
        "name": "broken", "env_name": "broken_task", "device": "cpu", "train_dir": str(tmp_path),
        "horizon_length": HORIZON, "mini_epochs": 1, "minibatch_size": N * HORIZON,
        "max_epochs": ITERATIONS, "value_bootstrap": "reached", **changes,
    }  # fmt: skip
    network = {"name": "actor_critic", "mlp": {"units": [8]}, "space": {"continuous": {}}}
    params = {"seed": 0, "algo": {"name": "a2c_continuous"}, "network": network, "config": config}
    params |= algorithm or {}
    runner = Runner()
    runner.load({"params": params})
    agent = runner.algo_factory.create(runner.algo_name, base_name="run", params=runner.params)
    agent.train()
    return agent


@pytest.mark.parametrize("step", [STEP, LAST])
@pytest.mark.parametrize("name", ["Cartpole", "Ant"])
@pytest.mark.parametrize(
    ("origin", "words"),
    [
        ("reward", "the rewards of environment 3 in step {step} of the run are not finite"),
        # An observation is used in the step after.
        ("observation", "the observations of environment 3 in step {after} of the run are not"),
        ("terminal observation", "the terminal observations of environment 3 in step {step} of"),
    ],
)
def test_bad_values_returned_by_the_task_are_blamed_on_it(tmp_path, name, origin, words, step):
    said = words.format(step=step, after=step + 1)
    with pytest.raises(PhalanxError, match=said):
        trained(tmp_path, name, origin, step)


SAC = {"algo": {"name": "sac"}, "network": {"name": "soft_actor_critic", "mlp": {"units": [8]}}}
SAC_SIZES = {"num_steps_per_episode": HORIZON, "num_warmup_steps": 1, "replay_buffer_size": 4096}


@pytest.mark.parametrize("algorithm", [None, SAC])
def test_one_absurd_reward_counts_as_zero_and_is_named(tmp_path, algorithm):
    def run(folder, reward):
        own = (
            {}
            if algorithm is None
            else SAC_SIZES
            | {
                "name": "broken",
                "env_name": "broken_task",
                "device": "cpu",
                "train_dir": str(tmp_path / folder),
                "max_epochs": ITERATIONS,
            }
        )
        changed = algorithm and algorithm | {"config": own}
        return trained(tmp_path / folder, "Cartpole", reward, algorithm=changed)

    zero, absurd = run("zero", 0.0), run("absurd", -1e12)
    assert absurd.last_mean_rewards == zero.last_mean_rewards
    expected = zero.model.state_dict()
    for name, weights in absurd.model.state_dict().items():
        assert torch.equal(weights, expected[name]), name
    said = [sentence for sentence in absurd.warnings if "reward of" in sentence]
    assert len(said) == 1
    assert "environment 3 gave a reward of -1e+12 in iteration 2 (step 13 of the run)" in said[0]
    assert not any("reward of" in sentence for sentence in zero.warnings)


def test_large_rewards_are_ordinary_where_they_are_frequent():
    torch.manual_seed(0)
    seldom, always, often = (AbsurdRewards(512, torch.device("cpu")) for _ in range(3))
    for step in range(2000):
        ordinary = torch.rand(512)
        assert seldom.without(ordinary, ordinary)[1] is ordinary
        millions = 1e6 * ordinary
        assert torch.equal(always.without(millions, millions)[1], millions)
        glitch = ordinary.clone()
        glitch[7] = 1e6
        if step % 200 == 199:  # 1 in 100,000 rewards
            assert seldom.without(glitch, glitch)[1][7] == 0
        if step % 2 == 1:  # 1 in 1,000
            last = often.without(glitch, glitch)[1]
    assert torch.equal(last, glitch)
    assert "environment 7 gave a reward of 1e+06" in seldom.report(1, 1, 1)
    assert not always.report(1, 1, 1)


def test_a_shaper_is_blamed_itself(tmp_path):
    with pytest.raises(PhalanxError, match=r"rewards are finite, but after params\.config\.rewar"):
        trained(tmp_path, "Cartpole", "", reward_shaper={"scale_value": -1, "log_val": True})


@pytest.mark.parametrize("name", ["Cartpole", "Ant"])
@pytest.mark.parametrize(
    ("origin", "cause"),
    [
        ("state", "qpos|qvel"),  # MuJoCo adds the velocity to the position
        ("applied force", "xfrc_applied"),
        ("joint force", "qfrc_applied"),
        ("mass", "the model's body_mass, which is not finite there"),
    ],
)
def test_a_bad_input_of_the_simulation_is_named_and_ends_only_its_episode(
    tmp_path, monkeypatch, name, origin, cause
):
    monkeypatch.chdir(tmp_path)  # MuJoCo writes its warnings into MUJOCO_LOG.TXT
    agent = trained(tmp_path, name, origin)
    said = f"environment {ENV} in step {STEP}, by ({cause})$"
    assert any(re.search(said, sentence) for sentence in agent.warnings), agent.warnings
    assert all(p.isfinite().all() for p in agent.model.parameters())


@pytest.mark.parametrize("name", sorted(tasks.TASKS))
def test_an_environment_that_diverges_gives_finite_rows_to_the_learner(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)  # MuJoCo writes its warnings into MUJOCO_LOG.TXT
    torch.manual_seed(0)
    task = tasks.make(name, 4, device="cpu")
    task.reset()
    for k in range(4):
        if k == 1:
            task.sim.qvel[2] = math.nan
        obs, reward, terminated, _, infos = task.step(torch.zeros(4, task.num_actions))
        rows = [obs["obs"], reward, infos["terminal"]["obs"], infos.get("amp_obs", reward)]
        assert all(x.isfinite().all() for x in rows)
        assert terminated[2] == (k == 1)
    assert "environment 2 in step 2, by q" in task.report()


def test_looking_for_absurd_rewards_asks_nothing_of_the_device():
    """On a GPU that would wait, and could not be captured; tensors without values refuse it."""
    rewards = torch.zeros(8, device="meta")
    found = AbsurdRewards(8, rewards.device).without(rewards, rewards)
    assert [x.shape for x in found] == [(8,), (8,)]
