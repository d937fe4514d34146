"""SAC's parts against closed forms, the whole against RL Games 1.6.5 itself."""

import copy
import math
from pathlib import Path

import pytest
import rl_games
import torch
import yaml
from rl_games.torch_runner import Runner as TheirRunner

from clockwork import N, make_agent, same
from phalanx.cli.config import compose_config, train_params
from phalanx.errors import PhalanxError
from phalanx.rl import Runner, checkpoint
from phalanx.rl.formulas import soft_target, soft_update
from phalanx.rl.sac_network import squashed_log_prob
from recorder import Recorder


@pytest.fixture(autouse=True)
def _one_thread():
    """Small networks on busy cores: several threads would wait for each other."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def parameters(folder, name="ours", high=1.0, initializer="default", **changes):
    config = {
        "name": "t",
        "env_name": "clockwork",
        "env_config": {"high": high},
        "num_actors": N,
        "reward_shaper": {"scale_value": 0.5},
        "normalize_input": False,
        "gamma": 0.95,
        "init_alpha": 0.5,
        "learnable_temperature": True,
        "actor_lr": 1e-3,
        "critic_lr": 2e-3,
        "alpha_lr": 3e-3,
        "critic_tau": 0.02,
        "batch_size": 32,
        "replay_buffer_size": 20 * N,
        "num_warmup_steps": 4,
        "value_bootstrap": False,
        "max_epochs": 30,
        "save_best_after": 1000,
        "device": "cpu",
        "train_dir": str(folder),
        "full_experiment_name": name,
        "player": {"use_vecenv": True},
    }
    return {
        "seed": 7,
        "torch_threads": 1,
        "algo": {"name": "sac"},
        "model": {"name": "soft_actor_critic"},
        "network": {
            "name": "soft_actor_critic",
            "separate": True,
            "space": {"continuous": None},
            "mlp": {"units": [16, 8], "activation": "relu", "initializer": {"name": initializer}},
            "log_std_bounds": [-5, 2],
        },
        "config": {**config, **changes},
    }


# parts --------------------------------------------------------------------------------------------


def test_log_probability_of_a_squashed_gaussian():
    # a = tanh(u), u ~ N(mu, s): log p(a) = log N(u) - log(1 - a^2), here by the textbook.
    mu, s, u = 0.3, 0.5, -0.7
    normal = -0.5 * ((u - mu) / s) ** 2 - math.log(s * math.sqrt(2 * math.pi))
    expected = normal - math.log(1 - math.tanh(u) ** 2)
    log_std = torch.tensor([[math.log(s)]])
    ours = squashed_log_prob(torch.tensor([[u]]), torch.tensor([[mu]]), log_std)
    assert float(ours) == pytest.approx(expected, abs=1e-6)
    # Where tanh has saturated in float32: 1 - tanh(u)^2 = 4 exp(-2u) / (1 + exp(-2u))^2.
    ours = squashed_log_prob(torch.tensor([[20.0]]), torch.tensor([[20.0]]), log_std)
    expected = -math.log(s * math.sqrt(2 * math.pi)) - (math.log(4) - 40)
    assert float(ours) == pytest.approx(expected, abs=1e-5)
    # and it integrates to one over the actions
    a = torch.linspace(-1, 1, 100_001, dtype=torch.float64)[1:-1, None]
    density = squashed_log_prob(a.atanh(), torch.full_like(a, mu), log_std.double().expand_as(a))
    assert float(density.exp().sum() * 2 / 100_000) == pytest.approx(1, abs=1e-4)


def test_soft_targets_by_hand():
    target = soft_target(
        rewards=torch.tensor([1.0, 2.0]),
        discounts=torch.tensor([0.81, 0.0]),  # two steps of gamma 0.9; terminated
        value=torch.tensor([10.0, 10.0]),
        log_prob=torch.tensor([-3.0, -3.0]),
        alpha=torch.tensor(0.5),
    )
    torch.testing.assert_close(target, torch.tensor([1 + 0.81 * 11.5, 2.0]))


def test_soft_update_moves_the_target_by_tau():
    source, target = torch.nn.Linear(2, 1), torch.nn.Linear(2, 1)
    with torch.no_grad():
        for p, q in zip(source.parameters(), target.parameters(), strict=True):
            p.fill_(4.0)
            q.fill_(2.0)
    soft_update(target, source, 0.25)
    assert all((p == 4).all() for p in source.parameters())
    assert all((q == 2.5).all() for q in target.parameters())


def test_log_std_is_squashed_between_its_bounds(tmp_path):
    _, agent = make_agent(parameters(tmp_path))
    actor, obs = agent.network.actor, torch.zeros(1, 3)
    for raw, expected in ((0.0, -1.5), (0.5, -5 + 3.5 * (math.tanh(0.5) + 1)), (50.0, 2.0)):
        with torch.no_grad():
            actor.trunk[-1].weight.zero_()
            actor.trunk[-1].bias.fill_(raw)
        torch.testing.assert_close(actor(obs)[1], torch.full((1, 2), expected))


def test_the_target_starts_equal_to_the_critic_with_any_initializer(tmp_path):
    _, agent = make_agent(parameters(tmp_path, initializer="orthogonal_initializer"))
    critic, target = agent.network.critic.state_dict(), agent.network.critic_target.state_dict()
    assert all(torch.equal(critic[k], target[k]) for k in critic)
    assert not torch.equal(critic["Q1.0.weight"], critic["Q2.0.weight"])


@pytest.mark.parametrize("bootstrap", [True, False])
def test_a_time_out_is_remembered_with_the_state_it_reached(tmp_path, bootstrap):
    _, agent = make_agent(parameters(tmp_path, value_bootstrap=bootstrap))
    agent.init_tensors()
    agent.reset(agent.hooked_env)
    start = agent.vec_env.start
    agent.collect(agent.hooked_env)
    row = {k: v[0] for k, v in agent.replay.rows.items()}
    ends = torch.arange(N) + 1
    timed_out = (ends % 7 == 0) & (ends % 11 != 0)
    terminated = ends % 11 == 0
    assert torch.equal(row["ended"], timed_out | terminated)
    assert torch.equal(row["terminated"], terminated if bootstrap else timed_out | terminated)
    reached = start[:, :2] + 0.1 * row["actions"]
    torch.testing.assert_close(row["next_obs"][:, :2], reached)  # no start of a new episode in it
    assert torch.equal(row["obs"], start)
    torch.testing.assert_close(row["rewards"], -0.5 * row["next_obs"].square().sum(-1))


def test_what_is_not_computed_is_not_logged(tmp_path):
    recorder = Recorder()
    params = parameters(tmp_path, max_epochs=8, policy_frequency=2)
    _, agent = make_agent(params, lambda: Runner(recorder))
    agent.train()
    critic = {"losses/c1_loss", "losses/c2_loss"}
    actor = {"losses/a_loss", "losses/entropy", "losses/alpha_loss", "info/alpha"}
    shown = ("losses", "info")
    rows = [{k for k in values if k.startswith(shown)} for _, _, values, _ in recorder.rows]
    assert rows == [set()] * 3 + [critic, critic | actor] * 2 + [critic]


def test_updates_scale_with_the_number_of_environments(tmp_path):
    _, agent = make_agent(parameters(tmp_path, utd_ratio=0.25))
    assert agent.updates_per_step == 4
    _, agent = make_agent(parameters(tmp_path, utd_ratio=0.001))
    assert agent.updates_per_step == 1


def test_the_temperature_steers_towards_the_target_entropy(tmp_path):
    _, agent = make_agent(parameters(tmp_path, target_entropy_coef=1.0))
    obs = torch.zeros(64, 3)
    for bias, sign in ((-2.0, 1), (0.7, -1)):  # narrower, wider than entropy -2 of two actions
        with torch.no_grad():
            agent.network.actor.trunk[-1].weight.zero_()
            agent.network.actor.trunk[-1].bias.copy_(torch.tensor([0, 0, bias, bias]))
        before = agent.log_alpha.item()
        agent.log_alpha_optimizer.state.clear()
        agent.init_tensors()
        agent.update_actor_and_alpha(obs)
        assert math.copysign(1, agent.log_alpha.item() - before) == sign


def test_discrete_actions_are_refused_with_a_sentence(tmp_path):
    params = parameters(tmp_path)
    params["config"]["env_config"] = {"actions": "discrete"}
    with pytest.raises(PhalanxError, match="for discrete actions use dqn"):
        make_agent(params)


# against RL Games ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("high", "changes"),
    [
        (1.0, {}),
        (2.0, {"num_updates_per_step": 4, "policy_frequency": 2, "critic_grad_clip": 0.0}),
        (1.0, {"num_steps_per_episode": 2, "learnable_temperature": False, "policy_frequency": 1}),
        (1.0, {"init_alpha": 0.002}),  # below what the actor's loss takes
    ],
    ids=["defaults", "bounds and updates", "steps", "small alpha"],
)
def test_thirty_iterations_of_sac_are_those_of_rl_games(tmp_path, high, changes):
    params = parameters(tmp_path, high=high, **changes)
    theirs_params = copy.deepcopy(params)
    theirs_params["config"]["full_experiment_name"] = "theirs"
    _, theirs = make_agent(theirs_params, TheirRunner)
    _, ours = make_agent(params)
    assert list(ours.model.state_dict()) == list(theirs.model.state_dict())
    ours.model.load_state_dict(copy.deepcopy(theirs.model.state_dict()))
    torch.manual_seed(3)
    theirs.train()

    ours.init_tensors()

    def draw(batch_size):  # the same numbers; our own draw does not need the host to know the size
        row = torch.randint(0, int(ours.replay.size) * N, (batch_size,))
        return row // N, row % N

    ours.replay.draw = draw
    torch.manual_seed(3)
    ours.train()

    expected = theirs.model.state_dict()
    for name, value in ours.model.state_dict().items():
        # float32 rounding, amplified by up to a hundred Adam steps
        torch.testing.assert_close(value, expected[name], rtol=1e-4, atol=2e-5, msg=name)
    torch.testing.assert_close(ours.log_alpha, theirs.log_alpha, rtol=1e-4, atol=1e-6)
    assert ours.frame == theirs.frame
    assert ours.mean_shaped_rewards.mean == pytest.approx(
        float(theirs.game_rewards.get_mean()), rel=1e-5
    )


@pytest.mark.parametrize("normalize", [False, True], ids=["plain", "normalised"])
def test_checkpoints_play_the_same_actions_in_both(tmp_path, normalize):
    params = parameters(tmp_path, normalize_input=normalize, max_epochs=12)
    theirs_params = copy.deepcopy(params)
    theirs_params["config"]["full_experiment_name"] = "theirs"
    their_runner, theirs = make_agent(theirs_params, TheirRunner)
    our_runner, ours = make_agent(params)
    theirs.train()
    ours.train()
    their_file = next((tmp_path / "theirs" / "nn").glob("last_t_ep_12*.pth"))
    our_file = tmp_path / "ours" / "nn" / "last_t.pth"
    obs = 2 * torch.randn(32, 3)
    for file in (their_file, our_file):
        their_runner.params["config"]["device_name"] = "cpu"
        their_player = their_runner.create_player()
        their_player.restore(str(file))
        their_player.has_batch_dimension = True
        our_player = our_runner.create_player()
        our_player.restore(file)
        actions = our_player.get_action(obs, True)
        assert actions.std() > 1e-3
        torch.testing.assert_close(
            actions, their_player.get_action(obs, True).detach(), rtol=0, atol=1e-6
        )
    # and each trains on from the other's
    _, again = make_agent(params)
    again.restore(their_file)
    assert (again.epoch_num, again.frame) == (12, 12 * N)
    assert "no log_alpha" in again.warnings[0]
    moments = again.critic_optimizer.state_dict()["state"][0]
    torch.testing.assert_close(
        moments["exp_avg"], theirs.critic_optimizer.state_dict()["state"][0]["exp_avg"]
    )
    _, their_again = make_agent(theirs_params, TheirRunner)
    their_again.restore(str(our_file))
    assert their_again.epoch_num == 12
    torch.testing.assert_close(
        their_again.critic_optimizer.state_dict()["state"][0]["exp_avg"],
        ours.critic_optimizer.state_dict()["state"][0]["exp_avg"],
    )


PUBLISHED = sorted(Path(rl_games.__file__).parent.glob("configs/*/sac_*.yaml"))


@pytest.mark.parametrize("file", PUBLISHED, ids=lambda f: f.stem)
def test_published_files_load_unchanged(tmp_path, file):
    params = yaml.safe_load(file.read_text())["params"]
    here = {"env_name": "clockwork", "env_config": {}, "train_dir": str(tmp_path), "device": "cpu"}
    params["config"] |= here
    _, agent = make_agent(params)
    assert agent.config.batch_size == params["config"]["batch_size"]
    assert agent.warmup_epochs == params["config"].get("num_warmup_steps", math.ceil(5000 / N))


def test_a_file_of_isaacgymenvs_loads_and_says_what_has_no_effect(tmp_path):
    params = parameters(tmp_path, num_seed_steps=5, num_steps_per_episode=8, max_env_steps=1000)
    params |= {"load_checkpoint": False, "load_path": "nn/Ant.pth"}
    _, agent = make_agent(params)
    unused = {
        "max_env_steps",
        "num_seed_steps",
        "player.use_vecenv",
        "load_checkpoint",
        "load_path",
    }
    assert unused <= set(agent.no_effect)


# checkpoints of our own ---------------------------------------------------------------------------


def test_resumed_run_equals_uninterrupted_one_bit_for_bit(tmp_path):
    options = {"save_replay_buffer": True, "n_step": 3, "normalize_input": True}
    options |= {"num_updates_per_step": 3, "replay_buffer_size": 8 * N}

    def train(name, epochs, continue_from=None):
        params = parameters(tmp_path, name, max_epochs=epochs, **options)
        _, agent = make_agent(params)
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
    assert not second.warnings


def test_alpha_survives_and_an_empty_replay_is_refilled_before_learning(tmp_path):
    _, first = make_agent(parameters(tmp_path, "first", max_epochs=12))
    first.train()
    assert first.log_alpha.item() != pytest.approx(math.log(0.5))
    state = checkpoint.load(tmp_path / "first" / "nn" / "last_t.pth")
    assert "replay" not in state["phalanx"]
    _, again = make_agent(parameters(tmp_path, "again", max_epochs=14))
    again.restore(tmp_path / "first" / "nn" / "last_t.pth")
    assert again.log_alpha.item() == first.log_alpha.item()
    assert "save_replay_buffer" in again.warnings[0]
    before = {k: v.clone() for k, v in again.model.state_dict().items()}
    again.train()  # two steps; learning takes four
    assert all(torch.equal(v, before[k]) for k, v in again.model.state_dict().items())
    _, later = make_agent(parameters(tmp_path, "later", max_epochs=18))
    later.restore(tmp_path / "again" / "nn" / "last_t.pth")
    later.train()
    assert any(not torch.equal(v, before[k]) for k, v in later.model.state_dict().items())


# learning -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("train", ["CartpoleSAC", "CartpoleFastSAC"])
def test_it_learns_to_balance(tmp_path, train):
    recorder = Recorder()
    arguments = [f"train={train}", "seed=0", f"train_dir={tmp_path}", "sim_device=cpu"]
    arguments += ["num_envs=64", "max_iterations=200"]
    arguments += ["train.params.config.games_to_track=20"]
    runner = Runner(recorder)
    runner.load({"params": train_params(compose_config(arguments))})
    runner.run({"train": True})
    assert recorder.lengths[10] < 40
    assert recorder.lengths[-1] > 120


@pytest.mark.parametrize("normalize", [False, True])
def test_numbers_of_other_types_are_converted(tmp_path, normalize):
    changes = {"env_name": "numbers", "max_epochs": 8, "normalize_input": normalize}
    _, agent = make_agent(parameters(tmp_path, **changes))
    agent.train()
    assert agent.replay.rows["obs"].dtype == torch.float32


def test_rates_and_the_discount_can_be_changed_during_a_run(tmp_path):
    _, agent = make_agent(parameters(tmp_path))
    for name in ("actor", "critic", "alpha"):
        agent.set_param(f"{name}_lr", 1e-5)
    agent.set_param("gamma", 0.5)
    optimizers = (agent.actor_optimizer, agent.critic_optimizer, agent.log_alpha_optimizer)
    assert [float(o.param_groups[0]["lr"]) for o in optimizers] == pytest.approx([1e-5] * 3)
    assert agent.replay.gamma == 0.5
    with pytest.raises(PhalanxError, match="n_step cannot change during a run; these can: gamma"):
        agent.set_param("n_step", 3)
