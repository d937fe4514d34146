"""Against RL Games 1.6.5 itself: same environment, same weights, same random numbers.

Our PPO must compute what RL Games computes, and files of either must work in the other.
"""

import copy
from typing import ClassVar

import gymnasium
import numpy as np
import pytest
import torch
from rl_games.common import env_configurations
from rl_games.common import vecenv as their_vecenv
from rl_games.common.ivecenv import IVecEnv
from rl_games.torch_runner import Runner as TheirRunner

from phalanx.rl import Runner, vecenv
from phalanx.spaces import Box, Discrete

pytestmark = pytest.mark.usefixtures("one_thread")

N = 16


class Arithmetic:
    """x' = x + 0.1 a; terminations and time-outs come by the clock, so that nothing is random."""

    num_envs = N
    device = torch.device("cpu")
    observation_space = Box((3,))

    def __init__(self, discrete: bool) -> None:
        self.discrete = discrete
        self.action_space = Discrete(4) if discrete else Box((2,), -1.0, 1.0)
        self.start = torch.linspace(-1, 1, N * 3).reshape(N, 3)
        self.reset()

    @property
    def observations(self):
        return {"obs": self.x}

    def reset(self):
        self.t = 0
        self.x = self.start.clone()
        return self.observations

    def step(self, actions):
        if self.discrete:
            actions = torch.stack([actions.float() - 1.5, 1.5 - actions.float()], 1)
        self.t += 1
        x = self.x.clone()
        x[:, :2] += 0.1 * actions
        x[:, 2] = torch.sin(x[:, 0] + 0.1 * self.t)
        reward = -x.square().sum(-1)
        clock = torch.arange(N) + self.t
        terminated = clock % 11 == 0
        truncated = (clock % 7 == 0) & ~terminated
        self.x = torch.where((terminated | truncated)[:, None], self.start, x)
        return self.observations, reward, terminated, truncated, {"terminal": {"obs": x}}

    def state_dict(self):
        return {}


class Theirs(IVecEnv):
    """The same environment behind RL Games' interface."""

    discrete: ClassVar[bool] = False

    def __init__(self, *args, **kwargs) -> None:
        self.env = Arithmetic(self.discrete)

    def reset(self):
        return self.env.reset()["obs"]

    def step(self, actions):
        obs, reward, terminated, truncated, _ = self.env.step(actions)
        return obs["obs"], reward, terminated | truncated, {"time_outs": truncated}

    def get_number_of_agents(self):
        return 1

    def get_env_info(self):
        actions = gymnasium.spaces.Box(-1, 1, (2,))
        return {
            "observation_space": gymnasium.spaces.Box(-np.inf, np.inf, (3,)),
            "action_space": gymnasium.spaces.Discrete(4) if self.discrete else actions,
        }


their_vecenv.register("ARITHMETIC", lambda name, num, **kwargs: Theirs())
env_configurations.register(
    "arithmetic", {"vecenv_type": "ARITHMETIC", "env_creator": lambda **kwargs: Theirs()}
)


def configuration(folder, discrete, **changes):
    continuous = {
        "mu_activation": "None",
        "sigma_activation": "None",
        "mu_init": {"name": "default"},
        "sigma_init": {"name": "const_initializer", "val": -0.5},
        "fixed_sigma": True,
    }
    config = {
        "name": "t",
        "env_name": "arithmetic",
        "num_actors": N,
        "reward_shaper": {"scale_value": 0.5, "shift_value": 0.1},
        "normalize_input": True,
        "normalize_value": True,
        "normalize_advantage": True,
        "value_bootstrap": True,
        "gamma": 0.99,
        "tau": 0.95,
        "learning_rate": 1e-3,
        "lr_schedule": "adaptive",
        "kl_threshold": 0.008,
        "e_clip": 0.2,
        "clip_value": True,
        "critic_coef": 4,
        "entropy_coef": 0.01,
        "bounds_loss_coef": 0.001,
        "grad_norm": 1.0,
        "truncate_grads": True,
        "weight_decay": 1e-4,
        "horizon_length": 8,
        "minibatch_size": 32,
        "mini_epochs": 3,
        "max_epochs": 12,
        "save_best_after": 1000,
        "device": "cpu",
        "train_dir": str(folder),
        "torch_compile": False,
        "player": {"use_vecenv": True},
    }
    return {
        "params": {
            "seed": 7,
            "torch_threads": 1,
            "algo": {"name": "a2c_discrete" if discrete else "a2c_continuous"},
            "model": {"name": "discrete_a2c" if discrete else "continuous_a2c_logstd"},
            "network": {
                "name": "actor_critic",
                "separate": discrete,
                "space": {"discrete": {}} if discrete else {"continuous": continuous},
                "mlp": {"units": [16, 8], "activation": "elu", "initializer": {"name": "default"}},
            },
            "config": {**config, **changes},
        }
    }


def their_agent(config, discrete):
    Theirs.discrete = discrete
    config = copy.deepcopy(config)
    config["params"]["config"]["full_experiment_name"] = "theirs"
    runner = TheirRunner()
    runner.load(config)
    return runner, runner.algo_factory.create(
        runner.algo_name, base_name="run", params=runner.params
    )


def our_agent(config, discrete):
    vecenv.register("arithmetic", lambda **kwargs: Arithmetic(discrete))
    config = copy.deepcopy(config)
    config["params"]["config"]["full_experiment_name"] = "ours"
    runner = Runner()
    runner.load(config)
    return runner, runner.algo_factory.create(
        runner.algo_name, base_name="run", params=runner.params
    )


@pytest.mark.parametrize(
    ("discrete", "changes"),
    [
        (False, {"schedule_type": "legacy"}),
        (False, {"schedule_type": "standard", "clip_value": False, "bound_loss_type": "bound"}),
        (False, {"lr_schedule": "constant", "use_smooth_clamp": True, "normalize_value": False}),
    ],
    ids=["legacy", "standard", "constant"],
)
def test_twelve_iterations_of_ppo_are_those_of_rl_games(tmp_path, discrete, changes):
    config = configuration(tmp_path, discrete, **changes)
    _, theirs = their_agent(config, discrete)
    _, ours = our_agent(config, discrete)
    assert list(ours.model.state_dict()) == list(theirs.model.state_dict())
    ours.model.load_state_dict(copy.deepcopy(theirs.model.state_dict()))

    torch.manual_seed(3)
    theirs.train()

    # RL Games also samples actions where it only needs the last value; draw the same numbers.
    values = ours.get_values

    def values_after_sampling(*args):
        torch.randn(N, 2)
        return values(*args)

    ours.get_values = values_after_sampling
    torch.manual_seed(3)
    ours.train()

    expected = theirs.model.state_dict()
    for name, value in ours.model.state_dict().items():
        # float32 rounding, amplified by 144 Adam steps
        torch.testing.assert_close(value, expected[name], rtol=1e-4, atol=2e-6, msg=name)
    assert float(ours.lr) == pytest.approx(theirs.last_lr, rel=1e-5)
    assert ours.mean_rewards.mean == pytest.approx(theirs.game_rewards.get_mean()[0], rel=1e-5)
    assert ours.mean_lengths.mean == pytest.approx(theirs.game_lengths.get_mean(), rel=1e-6)
    assert ours.frame == theirs.frame


def test_a_discrete_update_is_that_of_rl_games(tmp_path):
    """Actions are sampled by another method, so both learn from the same, given rollout."""
    config = configuration(tmp_path, True, max_epochs=1)
    _, theirs = their_agent(config, True)
    _, ours = our_agent(config, True)
    ours.model.load_state_dict(copy.deepcopy(theirs.model.state_dict()))
    given = torch.randint(0, 4, (8, N), generator=torch.Generator().manual_seed(0))

    def play_given(agent, method):
        step, model = iter(given), agent.model

        def play(obs):
            with torch.no_grad():
                result = model({"is_train": False, "obs": obs["obs"], "prev_actions": None})
                actions = next(step)
                log_prob = torch.log_softmax(result["logits"], -1)
                result["actions"] = actions
                result["neglogpacs"] = -log_prob.gather(-1, actions[:, None]).squeeze(-1)
            return result

        setattr(agent, method, play)

    play_given(theirs, "get_action_values")
    play_given(ours, "act")
    theirs.train()
    ours.train()
    expected = theirs.model.state_dict()
    for name, value in ours.model.state_dict().items():
        torch.testing.assert_close(value, expected[name], rtol=1e-4, atol=2e-6, msg=name)
    assert float(ours.lr) == pytest.approx(theirs.last_lr, rel=1e-5)


@pytest.mark.parametrize("discrete", [False, True], ids=["continuous", "discrete"])
def test_checkpoints_play_the_same_actions_in_both(tmp_path, discrete):
    config = configuration(tmp_path, discrete, max_epochs=3)
    their_runner, theirs = their_agent(config, discrete)
    our_runner, ours = our_agent(config, discrete)
    theirs.train()
    ours.train()
    their_file = next((tmp_path / "theirs" / "nn").glob("last_t_ep_3*.pth"))
    our_file = tmp_path / "ours" / "nn" / "last_t.pth"
    obs = torch.randn(32, 3)
    for file in (their_file, our_file):
        their_runner.params["config"]["device_name"] = "cpu"
        their_player = their_runner.create_player()
        their_player.restore(str(file))
        their_player.has_batch_dimension = True
        our_player = our_runner.create_player()
        our_player.restore(file)
        torch.testing.assert_close(
            our_player.get_action(obs, True),
            their_player.get_action(obs, True),
            rtol=0,
            atol=1e-6,
        )
    # and each trains on from the other's
    _, again = our_agent(config, discrete)
    again.restore(their_file)
    assert (again.epoch_num, again.frame) == (3, 3 * 8 * N)
    _, their_again = their_agent(config, discrete)
    their_again.restore(str(our_file))
    assert their_again.epoch_num == 3
