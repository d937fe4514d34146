"""The examples run as they are, and learn."""

import importlib.util
from pathlib import Path

import pytest
import torch

from phalanx import environments
from phalanx.rl import Runner
from phalanx.spaces import Box

pytestmark = pytest.mark.usefixtures("one_thread")

EXAMPLES = Path(__file__).parent.parent / "examples"


def load(name):
    spec = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("name", ["custom_agent", "custom_network"])
def test_example_trains(tmp_path, name):
    arguments = ["num_envs=128", "max_iterations=25", f"train_dir={tmp_path}", "sim_device=cpu"]
    best = load(name).main([*arguments, "train.params.config.save_best_after=1"])
    assert best > 25  # a random policy gets about 1


def test_the_custom_amp_example_trains_and_plays(tmp_path):
    arguments = ["task=HumanoidAMP", "num_envs=16", "max_iterations=4", "experiment=own"]
    config = ["amp_obs_demo_buffer_size=1000", "amp_replay_buffer_size=1000", "disc_reward_scale=1"]
    arguments += [f"train.params.config.{line}" for line in config]
    arguments += [f"train_dir={tmp_path}", "sim_device=cpu"]
    arguments.append("train.params.config.player.games_num=16")
    result = load("custom_amp_agent").main(arguments)
    assert result.mean_length > 2
    assert 0 <= result.measures["discriminator reward"] <= 1


class Walker:
    """Stands in for the humanoid of the tutorial below: 33 observations, 12 actions."""

    num_envs = 4096
    device = torch.device("cpu")
    observation_space = Box((33,))
    action_space = Box((12,), -1.0, 1.0)

    def __init__(self):
        self.x = torch.zeros(self.num_envs, 33)

    @property
    def observations(self):
        return {"obs": self.x}

    def reset(self):
        return self.observations

    def step(self, actions):
        self.x = torch.randn(self.num_envs, 33)
        ends = torch.zeros(self.num_envs, dtype=torch.bool)
        return (
            self.observations,
            -actions.square().sum(1),
            ends,
            ends,
            {"terminal": {"obs": self.x}},
        )

    def state_dict(self):
        return {}


def test_a_configuration_as_isaac_gym_tutorials_print_it_trains_unchanged(tmp_path, monkeypatch):
    """A Python dict without `model` and `seed`, `sigma_init` for a fixed sigma, `seq_len`."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(environments._creators, "rlgpu", lambda **kwargs: Walker())
    network = {
        "name": "actor_critic",
        "separate": False,
        "space": {
            "continuous": {
                "mu_activation": "None",
                "sigma_activation": "None",
                "mu_init": {"name": "default"},
                "sigma_init": {"name": "const_initializer", "val": 0},
                "fixed_sigma": True,
            }
        },
        "mlp": {
            "units": [256, 128, 64],
            "activation": "elu",
            "d2rl": False,
            "initializer": {"name": "default"},
        },
    }
    config = {
        "name": "Humanoid",
        "env_name": "rlgpu",
        "multi_gpu": False,
        "ppo": True,
        "mixed_precision": True,
        "normalize_input": True,
        "normalize_value": True,
        "value_bootstrap": True,
        "num_actors": 4096,
        "reward_shaper": {},
        "normalize_advantage": True,
        "gamma": 0.99,
        "tau": 0.95,
        "learning_rate": 3e-4,
        "lr_schedule": "adaptive",
        "kl_threshold": 0.008,
        "score_to_win": 20000,
        "max_epochs": 2000,
        "save_best_after": 100,
        "save_frequency": 50,
        "grad_norm": 1.0,
        "entropy_coef": 0.0,
        "truncate_grads": True,
        "e_clip": 0.2,
        "horizon_length": 16,
        "minibatch_size": 32768,
        "mini_epochs": 5,
        "critic_coef": 4,
        "clip_value": True,
        "seq_len": 4,
        "bounds_loss_coef": 0.0001,
    }
    runner = Runner()
    runner.load(
        {"params": {"algo": {"name": "a2c_continuous"}, "network": network, "config": config}}
    )
    runner.reset()
    runner.params["config"]["max_epochs"] = 1  # of its 2000
    runner.params["config"]["mini_epochs"] = 1  # of its 5: bfloat16 is slow on a CPU
    runner.run({})
    (run,) = (tmp_path / "runs").iterdir()
    assert run.name.startswith("Humanoid_")
    assert (run / "nn" / "Humanoid.pth").exists()
