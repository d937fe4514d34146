"""DQN's parts against numbers worked out by hand; that it learns and continues."""

import math

import pytest
import torch

from clockwork import N, make_agent, same
from phalanx.cli.config import compose_config, train_params
from phalanx.errors import PhalanxError
from phalanx.rl import Runner
from phalanx.rl.replay import PrioritizedReplay
from recorder import Recorder


@pytest.fixture(autouse=True)
def _one_thread():
    """Small networks on busy cores: several threads would wait for each other."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def parameters(folder, name="ours", network=(), **changes):
    config = {
        "name": "t",
        "env_name": "clockwork",
        "env_config": {"actions": "discrete"},
        "gamma": 0.5,
        "batch_size": 32,
        "replay_buffer_size": 20 * N,
        "num_warmup_steps": 4,
        "max_epochs": 20,
        "save_best_after": 1000,
        "train_dir": str(folder),
        "full_experiment_name": name,
    }
    mlp = {"units": [16], "activation": "relu"}
    return {
        "seed": 7,
        "algo": {"name": "dqn"},
        "network": {"name": "q_network", "mlp": mlp, **dict(network)},
        "config": {**config, **changes},
    }


def tabular(tmp_path, **changes):
    """An agent whose network is linear in a one-hot observation: a table of Q values."""
    _, agent = make_agent(
        parameters(
            tmp_path,
            network={"mlp": {"units": []}},
            learning_rate=1e-9,
            target_tau=1e-9,
            **changes,
        )
    )
    with torch.no_grad():
        # Q(s, a), a row a state
        q = torch.tensor([[1.0, 2.0, 0.0], [0.0, 5.0, 4.0], [7.0, 0.0, 6.0]])
        target = torch.tensor([[1.0, 1.0, 1.0], [3.0, 10.0, 20.0], [30.0, 50.0, 40.0]])
        agent.model.q_network.advantage.weight.copy_(q.t())
        agent.model.target_network.advantage.weight.copy_(target.t())
    agent.init_tensors()
    return agent


BATCH = {
    "obs": torch.eye(3)[[0, 0, 1]],
    "actions": torch.tensor([0, 1, 2]),
    "rewards": torch.tensor([1.0, 1.0, 1.0]),
    "next_obs": torch.eye(3)[[1, 2, 2]],
    "discounts": torch.tensor([0.5, 0.25, 0.0]),
}


@pytest.mark.parametrize(
    ("is_double", "targets"),
    [
        # The target judges the network's choice: 10 of state 1, 30 of state 2.
        (True, [1 + 0.5 * 10, 1 + 0.25 * 30, 1.0]),
        # The target judges its own: 20 and 50.
        (False, [1 + 0.5 * 20, 1 + 0.25 * 50, 1.0]),
    ],
    ids=["double", "plain"],
)
def test_targets_by_hand(tmp_path, is_double, targets):
    agent = tabular(tmp_path, is_double=is_double)
    td_errors = agent.update_network(BATCH)
    q = torch.tensor([1.0, 2.0, 4.0])
    torch.testing.assert_close(td_errors, q - torch.tensor(targets))


def test_importance_weights_scale_the_loss(tmp_path):
    agent = tabular(tmp_path)
    agent.update_network({**BATCH, "weights": torch.tensor([1.0, 0.5, 0.0])})
    # Huber loss beyond 1 is |TD error| - 1/2: 1 - 6 and 2 - 8.5
    expected = (1.0 * 4.5 + 0.5 * 6.0 + 0.0) / 3
    assert float(agent.sums[0]) == pytest.approx(expected)


def test_transitions_with_large_td_errors_are_sampled_more_often(tmp_path):
    agent = tabular(tmp_path, replay_buffer_type="prioritized", priority_alpha=0.5)
    agent.reset(agent.hooked_env)
    for _ in range(3):
        agent.collect(agent.hooked_env)
        agent.replay.steps += 1
    assert isinstance(agent.replay, PrioritizedReplay)
    drawn = {}
    sample = agent.replay.sample

    def remember(batch_size):
        drawn.update(sample(batch_size))
        return drawn

    agent.replay.sample = remember
    agent.update(0)
    td_errors = agent.update_network(drawn)  # the learning rate changes nothing
    priorities = agent.replay.rows["priorities"].flatten()[drawn["rows"]]
    torch.testing.assert_close(priorities, (td_errors.abs() + 1e-6) ** 0.5, rtol=1e-4, atol=1e-5)


def test_the_target_network_follows_every_update(tmp_path):
    _, agent = make_agent(parameters(tmp_path, num_updates_per_step=2, target_tau=0.25))
    agent.init_tensors()
    agent.reset(agent.hooked_env)
    agent.collect(agent.hooked_env)
    before = agent.model.target_network.advantage.weight.clone()
    after = []
    update_network = agent.update_network

    def remember(batch):
        result = update_network(batch)
        after.append(agent.model.q_network.advantage.weight.clone())
        return result

    agent.update_network = remember
    agent.update(0)
    once = 0.75 * before + 0.25 * after[0]
    expected = 0.75 * once + 0.25 * after[1]
    torch.testing.assert_close(agent.model.target_network.advantage.weight, expected)
    assert not torch.equal(after[0], after[1])


def test_a_dueling_network_splits_value_and_advantages(tmp_path):
    _, agent = make_agent(parameters(tmp_path, network={"mlp": {"units": []}, "dueling": True}))
    with torch.no_grad():
        agent.model.q_network.value.weight.copy_(torch.tensor([[10.0, 0.0, 0.0]]))
        agent.model.q_network.advantage.weight.copy_(
            torch.tensor([[1.0], [2.0], [6.0]]).expand(3, 3)
        )
    q = agent.model({"obs": torch.tensor([[1.0, 0.0, 0.0]])})
    torch.testing.assert_close(q["q_values"], torch.tensor([[10 - 2.0, 10 - 1.0, 10 + 3.0]]))
    assert q["actions"].tolist() == [2]


def test_epsilon_and_beta_follow_the_frames(tmp_path):
    _, agent = make_agent(
        parameters(
            tmp_path,
            epsilon=0.9,
            min_epsilon=0.1,
            epsilon_decay_frames=1000,
            replay_buffer_type="prioritized",
            priority_beta=0.4,
            beta_decay_frames=2000,
        )
    )
    agent.init_tensors()
    for frame, epsilon, beta in ((0, 0.9, 0.4), (500, 0.5, 0.55), (4000, 0.1, 1.0)):
        agent.begin_iteration(1, frame)
        assert float(agent.epsilon) == pytest.approx(epsilon)
        assert float(agent.replay.beta) == pytest.approx(beta)


def test_a_share_epsilon_of_the_actions_is_random(tmp_path):
    agent = tabular(tmp_path)
    obs = torch.eye(3)[torch.zeros(N, dtype=torch.long)]  # the best action is 1
    agent.epsilon.fill_(0.0)
    assert agent.explore(obs).tolist() == [1] * N
    agent.epsilon.fill_(0.6)
    torch.manual_seed(0)
    counts = sum(torch.bincount(agent.explore(obs), minlength=3) for _ in range(500))
    shares = counts / counts.sum()
    torch.testing.assert_close(shares, torch.tensor([0.2, 0.6, 0.2]), rtol=0, atol=0.02)


def test_continuous_actions_are_refused_with_a_sentence(tmp_path):
    with pytest.raises(PhalanxError, match="dqn needs one discrete action"):
        make_agent(parameters(tmp_path, env_config={}))


@pytest.mark.parametrize("kind", ["normal", "prioritized"])
def test_resumed_run_equals_uninterrupted_one_bit_for_bit(tmp_path, kind):
    options = {"save_replay_buffer": True, "n_step": 3, "normalize_input": True}
    options |= {"replay_buffer_type": kind, "replay_buffer_size": 8 * N}
    options |= {"epsilon_decay_frames": 300, "beta_decay_frames": 300}

    def train(name, epochs, continue_from=None):
        _, agent = make_agent(parameters(tmp_path, name, max_epochs=epochs, **options))
        if continue_from:
            torch.manual_seed(99)
            agent.restore(continue_from)
        agent.train()
        return agent

    whole = train("whole", 20)
    train("first", 11)
    second = train("second", 20, tmp_path / "first" / "nn" / "last_t.pth")
    assert second.epoch_num == 20
    assert same(second.get_full_state_weights(), whole.get_full_state_weights())


def test_the_player_plays_the_best_action(tmp_path):
    params = parameters(tmp_path)
    runner, agent = make_agent(params)
    agent.train()
    player = runner.create_player()
    player.restore(tmp_path / "ours" / "nn" / "last_t.pth")
    obs = torch.randn(64, 3)
    best = agent.model({"obs": obs})["q_values"].argmax(-1)
    assert torch.equal(player.get_action(obs, True), best)
    torch.manual_seed(0)
    different = (player.get_action(obs.repeat(50, 1), False) != best.repeat(50)).float().mean()
    # min_epsilon 0.05, a third of the random ones are the best by chance
    assert float(different) == pytest.approx(0.05 * 2 / 3, abs=0.015)


@pytest.mark.parametrize("kind", ["normal", "prioritized"])
def test_it_learns_to_balance(tmp_path, kind):
    recorder = Recorder()
    arguments = ["train=CartpoleDQN", "seed=0", f"train_dir={tmp_path}", "sim_device=cpu"]
    arguments += ["num_envs=64", "max_iterations=150"]
    options = {"games_to_track": 20, "epsilon_decay_frames": 20_000, "replay_buffer_type": kind}
    arguments += [f"train.params.config.{k}={v}" for k, v in options.items()]
    runner = Runner(recorder)
    runner.load({"params": train_params(compose_config(arguments))})
    runner.run({"train": True})
    assert recorder.lengths[10] < 40
    assert recorder.lengths[-1] > 80
    assert not math.isnan(recorder.lengths[-1])
