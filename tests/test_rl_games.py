"""Against RL Games 1.6.5 itself: same environment, same weights, same random numbers.

Our PPO must compute what RL Games computes; for files of either see `test_rl_games_checkpoints.py`.
"""

import copy

import pytest
import torch
from rl_games.torch_runner import Runner as TheirRunner

from clockwork import N, make_agent
from phalanx.rl import Runner

pytestmark = pytest.mark.usefixtures("one_thread")


def configuration(folder, actions="continuous", env=None, network=None, **changes):
    """`params` with all that RL Games insists on; `env` are options of Clockwork, `network` of the
    network, `changes` of the rest."""
    kind = "multi_discrete" if actions == "several" else actions
    continuous = {
        "mu_activation": "None",
        "sigma_activation": "None",
        "mu_init": {"name": "default"},
        "sigma_init": {"name": "const_initializer", "val": -0.5},
        "fixed_sigma": True,
    }
    config = {
        "name": "t",
        "env_name": "clockwork",
        "env_config": {"actions": actions, **(env or {})},
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
        "device_name": "cpu",
        "train_dir": str(folder),
        "torch_compile": False,
        "player": {"use_vecenv": True},
    }
    return {
        "seed": 7,
        "torch_threads": 1,
        "algo": {"name": "a2c_continuous" if actions == "continuous" else "a2c_discrete"},
        "model": {
            "name": "continuous_a2c_logstd" if actions == "continuous" else f"{kind}_a2c",
        },
        "network": {
            "name": "actor_critic",
            "separate": actions == "discrete",
            "space": {kind: continuous if actions == "continuous" else {}},
            "mlp": {"units": [16, 8], "activation": "elu", "initializer": {"name": "default"}},
            **(network or {}),
        },
        "config": {**config, **changes},
    }


def their_agent(params):
    """RL Games' runner and agent, which writes into the folder `theirs`."""
    return make_agent(in_folder(params, "theirs"), TheirRunner)


def our_agent(params):
    """Our runner and agent, which writes into the folder `ours`."""
    return make_agent(in_folder(params, "ours"), Runner)


def in_folder(params, name):
    return {**params, "config": {**copy.deepcopy(params["config"]), "full_experiment_name": name}}


@pytest.mark.parametrize(
    "changes",
    [
        {"schedule_type": "legacy"},
        {"schedule_type": "standard", "clip_value": False, "bound_loss_type": "bound"},
        {"lr_schedule": "constant", "use_smooth_clamp": True, "normalize_value": False},
    ],
    ids=["legacy", "standard", "constant"],
)
def test_twelve_iterations_of_ppo_are_those_of_rl_games(tmp_path, changes):
    config = configuration(tmp_path, **changes)
    _, theirs = their_agent(config)
    _, ours = our_agent(config)
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
    config = configuration(tmp_path, "discrete", max_epochs=1)
    _, theirs = their_agent(config)
    _, ours = our_agent(config)
    ours.model.load_state_dict(copy.deepcopy(theirs.model.state_dict()))
    given = torch.randint(0, 3, (8, N), generator=torch.Generator().manual_seed(0))

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
