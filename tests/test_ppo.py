"""PPO's parts against numbers worked out by hand; `test_rl_games.py` has the whole."""

import math

import pytest
import torch

from phalanx.rl import Runner, vecenv
from phalanx.rl.agents import A2CAgent
from phalanx.rl.config import PPOConfig, RewardShaper
from phalanx.rl.formulas import gae, shape_reward, smooth_clamp
from phalanx.rl.models import ContinuousLogStdNetwork
from phalanx.rl.normalize import RunningMeanStd
from phalanx.rl.statistics import EpisodeSums, Meter
from phalanx.spaces import Box

pytestmark = pytest.mark.usefixtures("one_thread")


def test_gae_by_hand():
    # gamma 0.5, lambda 0.5; the first environment ends after step 1, the second never.
    rewards = torch.tensor([[1.0, 2.0, 3.0], [1.0, 0.0, 0.0]])[..., None]
    values = torch.tensor([[0.5, 1.0, 2.0], [0.0, 0.0, 4.0]])[..., None]
    dones = torch.tensor([[0.0, 1.0, 0.0], [0.0, 0.0, 0.0]])
    last = torch.tensor([[4.0], [8.0]])
    out = torch.full((2, 3, 1), math.inf)
    gae(rewards, values, last, dones, gamma=0.5, lam=0.5, out=out)
    # env 0: A2 = 3 + .5*4 - 2 = 3; A1 = 2 - 1 = 1 (ended); A0 = 1 + .5*1 - .5 + .25*1 = 1.25
    # env 1: A2 = 0 + .5*8 - 4 = 0; A1 = 0 + .5*4 - 0 + .25*0 = 2; A0 = 1 + 0 - 0 + .25*2 = 1.5
    expected = torch.tensor([[1.25, 1.0, 3.0], [1.5, 2.0, 0.0]])[..., None]
    torch.testing.assert_close(out, expected)


class TwoSteps:
    """Observation 1, then 2, then 1 ...; every second step is a time-out that reached 5."""

    num_envs = 2
    device = torch.device("cpu")
    observation_space = Box((1,))
    action_space = Box((1,), -1.0, 1.0)

    def __init__(self):
        self.x = torch.ones(2, 1)

    @property
    def observations(self):
        return {"obs": self.x}

    def reset(self):
        self.x = torch.ones(2, 1)
        return self.observations

    def step(self, actions):
        ends = self.x[:, 0] == 2
        reached = torch.where(ends[:, None], 5.0, self.x + 1)
        self.x = torch.where(ends[:, None], 1.0, self.x + 1)
        infos = {"terminal": {"obs": reached}}
        return self.observations, torch.ones(2), torch.zeros(2, dtype=torch.bool), ends, infos

    def state_dict(self):
        return {}


@pytest.mark.parametrize(
    ("rule", "bonus"),
    [("reached", 0.5 * 50.0), (True, 0.5 * 20.0), (False, 0.0)],
)
def test_a_time_out_bootstraps_from_the_state_that_the_rule_names(tmp_path, rule, bonus):
    vecenv.register("two_steps", lambda **kwargs: TwoSteps())
    runner = Runner()
    runner.load(
        {
            "seed": 0,
            "algo": {"name": "a2c_continuous"},
            "network": {
                "name": "actor_critic",
                "mlp": {"units": []},
                "space": {"continuous": {}},
            },
            "config": {
                "name": "t",
                "env_name": "two_steps",
                "horizon_length": 4,
                "gamma": 0.5,
                "tau": 0.0,
                "normalize_input": False,
                "value_bootstrap": rule,
                "train_dir": str(tmp_path),
            },
        }
    )
    agent = runner.algo_factory.create("a2c_continuous", base_name="run", params=runner.params)
    with torch.no_grad():  # V(x) = 10 x
        agent.model.a2c_network.value.weight.fill_(10.0)
    agent.init_tensors()
    agent.reset(agent.hooked_env)
    agent.collect(agent.hooked_env)
    agent.prepare_batch()
    r = agent.rollout
    torch.testing.assert_close(r.rewards[0, :, 0], torch.tensor([1.0, 1 + bonus, 1.0, 1 + bonus]))
    # lambda 0: A = r + gamma V' - V, and nothing flows across the time-out
    expected = torch.tensor([1 + 10.0 - 10, 1 + bonus - 20, 1 + 10.0 - 10, 1 + bonus - 20])
    torch.testing.assert_close(r.advantages[0, :, 0], expected)


class Shifted(A2CAgent):
    """Trains on other observations than the rollout's."""

    def samples(self, rows):
        batch = super().samples(rows)
        return batch | {"obs": batch["obs"] + 10.0}


class Halved(ContinuousLogStdNetwork):
    """Normalises in its own way."""

    def norm_obs(self, obs):
        return super().norm_obs(0.5 * obs)


@pytest.mark.parametrize(
    ("agent_class", "model_class", "mean"),
    [
        (A2CAgent, ContinuousLogStdNetwork, 1.5),
        (Shifted, ContinuousLogStdNetwork, 11.5),
        (A2CAgent, Halved, 0.75),
    ],
)
def test_statistics_are_of_what_the_network_learns_from(tmp_path, agent_class, model_class, mean):
    """The moments of minibatches are found before the passes over them, unless a subclass trains
    on something else."""
    vecenv.register("two_steps", lambda **kwargs: TwoSteps())
    network = {"name": "actor_critic", "mlp": {"units": []}, "space": {"continuous": {}}}
    config = {"name": "t", "env_name": "two_steps", "horizon_length": 8, "mini_epochs": 2}
    config |= {"train_dir": str(tmp_path), "minibatch_size": 8, "max_epochs": 20}
    runner = Runner()
    runner.load(
        {"seed": 0, "algo": {"name": "a2c_continuous"}, "network": network, "config": config}
    )
    agent = runner.algo_factory.create("a2c_continuous", base_name="run", params=runner.params)
    agent.__class__ = agent_class
    agent.model.__class__ = model_class
    agent.train()
    assert agent.model.running_mean_std.running_mean.item() == pytest.approx(mean, abs=0.02 * mean)


def test_adaptive_learning_rate_steers_and_stays_in_bounds(tmp_path):
    vecenv.register("two_steps", lambda **kwargs: TwoSteps())
    runner = Runner()
    config = {
        "name": "t",
        "env_name": "two_steps",
        "lr_schedule": "adaptive",
        "kl_threshold": 0.01,
        "learning_rate": 9e-3,
    }
    network = {"name": "actor_critic", "mlp": {"units": []}, "space": {"continuous": {}}}
    runner.load({"algo": {"name": "a2c_continuous"}, "network": network, "config": config})
    agent = runner.algo_factory.create("a2c_continuous", base_name="run", params=runner.params)
    agent.schedule.after("minibatch", torch.tensor(0.021))
    assert float(agent.lr) == pytest.approx(6e-3)
    agent.schedule.after("minibatch", torch.tensor(0.01))
    assert float(agent.lr) == pytest.approx(6e-3)
    agent.schedule.after("minibatch", torch.tensor(0.004))
    assert float(agent.lr) == pytest.approx(9e-3)
    agent.schedule.after("minibatch", torch.tensor(0.004))
    assert float(agent.lr) == pytest.approx(1e-2)
    agent.lr.fill_(1.2e-6)
    agent.schedule.after("minibatch", torch.tensor(1.0))
    assert float(agent.lr) == pytest.approx(1e-6)


def test_running_statistics_are_those_of_all_data_seen():
    x = torch.randn(50, 3, dtype=torch.float64).float() * 2 + 1
    rms = RunningMeanStd((3,))
    for part in (x[:7], x[7:30], x[30:]):
        rms(part)
    # It starts as if one sample of mean 0 and variance 1 had been seen.
    n, mean, square = 51.0, x.double().sum(0) / 51, (x.double() ** 2).sum(0)
    var = (square + 1.0) / n - mean**2
    torch.testing.assert_close(rms.running_mean, mean, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(rms.running_var, var, rtol=1e-5, atol=1e-6)
    rms.eval()
    before = rms.running_mean.clone()
    y = rms(x)
    assert torch.equal(before, rms.running_mean)
    torch.testing.assert_close(rms(y, denorm=True), x, rtol=1e-4, atol=1e-4)


def test_reward_shaper_shifts_scales_clamps_then_takes_the_logarithm():
    reward = torch.tensor([0.0, 1.0, 100.0])
    shaper = RewardShaper(scale_value=2.0, shift_value=1.0, min_val=3.0, max_val=10.0, log_val=True)
    expected = torch.tensor([3.0, 4.0, 10.0]).log()
    torch.testing.assert_close(shape_reward(reward, shaper), expected)


def test_smooth_clamp_is_centred_and_bounded():
    x = torch.tensor([-10.0, 1.0, 12.0])
    torch.testing.assert_close(smooth_clamp(x, 0.8, 1.2), torch.tensor([0.8, 1.0, 1.2]))


def test_meter_forgets_what_its_window_cannot_hold():
    meter = Meter(10)
    meter.add([4.0, 0.0, 8.0], [4.0, 0.0, 2.0])
    assert (meter.mean, meter.size) == (2.0, 6)
    meter.add([0.0], [8.0])  # two of the six old ones stay: (2 * 2 + 8 * 0) / 10
    assert (meter.mean, meter.size) == (pytest.approx(0.4), 10)
    meter.add([350.0], [50.0])
    assert (meter.mean, meter.size) == (7.0, 10)


def test_episode_sums_count_each_episode_once():
    sums = EpisodeSums(2, 3, torch.device("cpu"))
    ends = [[0, 0], [1, 0], [0, 1]]
    for t, done in enumerate(ends):
        now = torch.tensor([1.0, 10.0]), torch.tensor([0.5, 5.0]), torch.tensor(done).float()
        sums.finished[t] = sums.add(*now)
    expected = torch.tensor([[0, 0, 0, 0], [2, 1, 2, 1], [30, 15, 3, 1]]).float()
    torch.testing.assert_close(sums.finished, expected)
    torch.testing.assert_close(sums.running[0], torch.tensor([1.0, 0.5, 1.0, 1.0]))


def test_minibatch_must_divide_the_batch_and_the_message_names_one_that_does():
    config = PPOConfig(name="t", minibatch_size=1000, horizon_length=16)
    with pytest.raises(ValueError, match=r"use 1024, or set minibatch_size_per_env"):
        config.minibatch(512)
    assert PPOConfig(name="t", minibatch_size_per_env=4).minibatch(512) == 2048
