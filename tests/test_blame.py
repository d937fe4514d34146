"""A number that is not finite is blamed on its origin, in training on real tasks."""

import math
import re

import pytest
import torch

from phalanx import tasks
from phalanx.errors import PhalanxError
from phalanx.rl import Runner, vecenv

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


def trained(tmp_path, name, origin, step=STEP, **changes):
    vecenv.register("broken_task", lambda num_envs, device, **options: broken(name, origin, step))
    config = {
        "name": "broken", "env_name": "broken_task", "device": "cpu", "train_dir": str(tmp_path),
        "horizon_length": HORIZON, "mini_epochs": 1, "minibatch_size": N * HORIZON,
        "max_epochs": ITERATIONS, "value_bootstrap": "reached", **changes,
    }  # fmt: skip
    network = {"name": "actor_critic", "mlp": {"units": [8]}, "space": {"continuous": {}}}
    params = {"seed": 0, "algo": {"name": "a2c_continuous"}, "network": network, "config": config}
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
