"""Promises of a run: continued, it is the same run; what changed is said; a NaN has an origin."""

import copy
import math

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from clockwork import Clockwork, N, make_agent, same
from phalanx.errors import PhalanxError
from phalanx.rl import checkpoint, compiled, saving, vecenv
from phalanx.rl.formulas import gaussian_kl
from phalanx.spaces import Box
from test_rl_games import configuration, in_folder, our_agent, their_agent

pytestmark = pytest.mark.usefixtures("one_thread")

CRITIC = {
    "network": {
        "name": "actor_critic",
        "central_value": True,
        "mlp": {"units": [16, 8], "activation": "elu", "initializer": {"name": "default"}},
    },
    "minibatch_size": 64,
    "mini_epochs": 2,
    "learning_rate": 2e-3,
    "normalize_input": True,
    "clip_value": True,
    "truncate_grads": True,
    "grad_norm": 0.5,
}
LSTM = {"rnn": {"name": "lstm", "units": 8, "layers": 1, "before_mlp": False}}
RECURRENT_CRITIC = copy.deepcopy(CRITIC)
RECURRENT_CRITIC["network"] |= LSTM


def asymmetric(folder, **changes):
    return configuration(folder, env={"states": True}, central_value_config=CRITIC, **changes)


def test_growing_counts_are_said_once_and_at_the_end(tmp_path):
    class Counting(Clockwork):
        reports_made = 0

        def reports(self):
            self.reports_made += 1
            return {"diverged": f"{self.reports_made} environments diverged"}

    vecenv.register("counting", lambda **_: Counting())
    _, agent = make_agent(configuration(tmp_path, max_epochs=20, env_name="counting"))
    agent.train()
    assert agent.warnings == ["1 environments diverged", "20 environments diverged"]


# -- as RL Games -----------------------------------------------------------------------------------


def test_a_critics_normaliser_learns_from_its_updates_alone(tmp_path):
    _, ours = our_agent(asymmetric(tmp_path, max_epochs=1))
    _, theirs = their_agent(asymmetric(tmp_path, max_epochs=1))
    ours.train()
    theirs.train()
    seen = ours.central_value_net.model.running_mean_std.count
    assert float(seen) == float(theirs.central_value_net.model.running_mean_std.count)


def rates(agent):
    """The learning rate of every gradient step of a whole run."""
    seen, step = [], agent.optimizer.step

    def remember(*args):
        seen.append(float(agent.optimizer.param_groups[0]["lr"]))
        return step(*args)

    agent.optimizer.step = remember
    agent.train()
    return seen


@pytest.mark.parametrize("actions", ["continuous", "discrete"])
@pytest.mark.parametrize("kind", ["legacy", "standard"])
def test_linear_rates_are_those_of_rl_games(tmp_path, actions, kind):
    changes = {"lr_schedule": "linear", "max_epochs": 3, "mini_epochs": 2, "schedule_type": kind}
    config = configuration(tmp_path, actions, **changes)
    ours, theirs = rates(our_agent(config)[1]), rates(their_agent(config)[1])
    assert ours == pytest.approx(theirs, rel=1e-5)


def tags(folder):
    events = EventAccumulator(str(folder))
    events.Reload()
    return events, set(events.Tags()["scalars"])


def test_every_tag_and_final_file_of_rl_games_is_written(tmp_path):
    changes = {"use_diagnostics": True, "max_epochs": 8, "games_to_track": 20}
    config = asymmetric(tmp_path, **changes)
    _, ours = our_agent(config)
    _, theirs = their_agent(config)
    used = rates(ours)
    theirs.train()
    events, own = tags(tmp_path / "ours" / "summaries")
    assert tags(tmp_path / "theirs" / "summaries")[1] - own == set()
    logged = [point.value for point in events.Scalars("info/last_lr")]
    steps = len(used) // 8
    assert logged == pytest.approx([used[steps * (k + 1) - 1] for k in range(8)])
    for name in ("theirs", "ours"):
        assert len(list((tmp_path / name / "nn").glob("last_t_ep_8_rew_*.pth"))) == 1


@pytest.mark.parametrize("captures", [False, True])
def test_the_best_is_that_moments_state_although_it_is_written_later(
    tmp_path, monkeypatch, captures
):
    """On a GPU a reading copies the state, and it is written after the next work was given out."""
    real = saving.Saving.due

    def due(self, epoch, returns):
        returns.mean, returns.size = [1.0, 3.0, 2.0, 5.0, 4.0, 0.0][epoch - 1], 1
        return real(self, epoch, returns)

    monkeypatch.setattr(saving.Saving, "due", due)
    files = {}
    for name, seconds in (("at once", 0.0), ("later", 1e9)):
        monkeypatch.setattr(saving, "SECONDS_BETWEEN_CHECKPOINTS", seconds)
        config = configuration(tmp_path / name, max_epochs=6, save_best_after=0)
        _, agent = make_agent(config)
        agent.run.captures, agent.run.env.capture = captures, None
        agent.run.graphs.launch = lambda key, call, *_: call()
        monkeypatch.setattr(agent.run.observer, "after_save", files.setdefault(name, []).append)
        agent.train()
    names = {name: [p.stem.partition("_ep_")[0] for p in own] for name, own in files.items()}
    assert names["at once"].count("t") == 3
    assert names["later"] == ["last_t", "t", "last_t", "last_t"]
    now, later = (checkpoint.load(own[1]) for own in files.values())
    assert now["epoch"] == 4
    assert same(now, later)


# -- continue means continue -----------------------------------------------------------------------

RUNS = {
    "central value": {"env": {"states": True}, "central_value_config": CRITIC},
    "recurrent central value": {"env": {"states": True}, "central_value_config": RECURRENT_CRITIC},
    "recurrent": {"network": LSTM, "value_bootstrap": "reached"},
    "moving advantages": {"normalize_rms_advantage": True},
    "curiosity": {"rnd_config": {"learning_rate": 1e-3}},
    "linear": {"lr_schedule": "linear", "schedule_entropy": True, "max_epochs": 8},
    "resets": {"epochs_between_resets": 3},
    "compiled": {},
    "compiled central value": {"env": {"states": True}, "central_value_config": CRITIC},
}


@pytest.mark.parametrize("name", RUNS)
def test_a_continued_run_is_the_uninterrupted_one(tmp_path, name, monkeypatch):
    if "compiled" in name:
        monkeypatch.setattr(compiled, "FEWEST", 0)
    config = configuration(tmp_path, **{"max_epochs": 8} | RUNS[name])
    _, whole = make_agent(in_folder(config, "whole"))
    whole.train()
    first = in_folder(config, "first")
    _, agent = make_agent(first)
    epochs = agent.update_epoch
    agent.update_epoch = lambda: agent.request_stop("half") if epochs() == 4 else None
    agent.train()
    torch.manual_seed(99)
    _, rest = make_agent(in_folder(config, "rest"))
    rest.restore(tmp_path / "first" / "nn" / "last_t.pth")
    rest.train()
    assert rest.epoch_num == whole.epoch_num == 8
    assert not rest.warnings
    assert same(rest.get_full_state_weights(), whole.get_full_state_weights())


def test_compiled_networks_train_as_torch_does(tmp_path, monkeypatch):
    monkeypatch.setattr(compiled, "FEWEST", 0)
    weights = []
    for quick in (True, False):
        config = configuration(tmp_path, torch_compile=quick, max_epochs=3)
        _, agent = make_agent(in_folder(config, f"{quick}"))
        assert bool(agent.model.a2c_network.perceptrons) == quick
        assert (
            (agent.compiled_update is not None) == (agent.optimizer.compiled is not None) == quick
        )
        agent.train()
        weights.append(agent.model.state_dict())
    for name, value in weights[0].items():
        torch.testing.assert_close(value, weights[1][name], rtol=1e-3, atol=1e-4)


class Forgetful(Clockwork):
    """Cannot be taken back to a state."""

    def state_dict(self):
        return {}

    def load_state_dict(self, state):
        raise PhalanxError("clocks cannot be turned back")


vecenv.register("forgetful", lambda name, num_envs, device, **options: Forgetful(**options))


def test_an_environment_without_state_costs_its_episodes_only(tmp_path):
    config = configuration(
        tmp_path, env_name="forgetful", normalize_rms_advantage=True, max_epochs=4
    )
    _, first = make_agent(in_folder(config, "a"))
    first.train()
    config["config"]["max_epochs"] = 5
    _, second = make_agent(in_folder(config, "b"))
    second.restore(tmp_path / "a" / "nn" / "last_t.pth")
    assert same(second.advantage_mean_std.state_dict(), first.advantage_mean_std.state_dict())
    assert float(second.lr) == float(first.lr)
    assert (second.episodes.running[:, 2] == 0).all()
    [warning] = second.warnings
    assert "clocks cannot be turned back; the network is restored, new episodes start" in (warning)
    second.train()


def off_policy(folder, name, env_name, **changes):
    return {
        "seed": 1,
        "algo": {"name": "sac"},
        "network": {"name": "soft_actor_critic", "mlp": {"units": [8], "activation": "relu"}},
        "config": {
            "name": "t",
            "env_name": env_name,
            "num_warmup_steps": 3,
            "batch_size": 8,
            "max_epochs": 12,
            "replay_buffer_size": 100 * N,
            "save_replay_buffer": True,
            "train_dir": str(folder),
            "full_experiment_name": name,
            **changes,
        },
    }


def test_an_environment_without_state_leaves_the_replay_buffer(tmp_path):
    _, first = make_agent(off_policy(tmp_path, "a", "forgetful"))
    first.train()
    _, second = make_agent(off_policy(tmp_path, "b", "forgetful", max_epochs=13))
    second.restore(tmp_path / "a" / "nn" / "last_t.pth")
    assert (second.replay.steps, second.updates) == (first.replay.steps, first.updates) == (12, 10)
    assert torch.equal(second.replay.rows["obs"][:12], first.replay.rows["obs"][:12])
    second.train()


def test_changed_settings_take_effect_with_a_warning(tmp_path):
    config = configuration(tmp_path, lr_schedule=None, learning_rate=1e-2, max_epochs=2)
    _, first = make_agent(in_folder(config, "a"))
    first.train()
    config["config"] |= {"learning_rate": 7e-5, "entropy_coef": 0.5, "gamma": 0.9, "max_epochs": 3}
    _, second = make_agent(in_folder(config, "b"))
    second.restore(tmp_path / "a" / "nn" / "last_t.pth")
    [warning] = second.warnings
    for words in ("learning_rate 7e-05 (was 0.01)", "entropy_coef 0.5 (was 0.01)", "gamma 0.9"):
        assert words in warning
    assert "max_epochs" not in warning
    second.train()
    assert float(second.lr) == pytest.approx(7e-5)
    assert float(second.entropy_coef) == 0.5


def test_an_adaptive_rate_continues_unless_its_start_was_changed(tmp_path):
    config = configuration(tmp_path, max_epochs=3)
    _, first = make_agent(in_folder(config, "a"))
    first.train()
    assert float(first.lr) != pytest.approx(1e-3)
    for start, expected in ((1e-3, float(first.lr)), (5e-4, 5e-4)):
        config["config"]["learning_rate"] = start
        _, second = make_agent(in_folder(config, "b"))
        second.restore(tmp_path / "a" / "nn" / "last_t.pth")
        assert float(second.lr) == pytest.approx(expected)


def test_env_state_is_handed_back_or_missed(tmp_path):
    class Curriculum(Clockwork):
        level = 0

        def get_env_state(self):
            return {"level": self.level}

        def set_env_state(self, state):
            self.level = state["level"]

    vecenv.register("curriculum", lambda name, num_envs, device, **options: Curriculum(**options))
    config = configuration(tmp_path, env_name="curriculum", max_epochs=1)
    _, first = make_agent(in_folder(config, "a"))
    first.vec_env.level = 5
    first.train()
    saved = tmp_path / "a" / "nn" / "last_t.pth"
    _, second = make_agent(in_folder(config, "b"))
    second.restore(saved)
    assert second.vec_env.level == 5
    _, third = make_agent(in_folder(configuration(tmp_path, max_epochs=1), "c"))
    third.restore(saved)
    assert any("has an env_state, but the environment" in w for w in third.warnings)


def test_settings_can_be_changed_during_a_run(tmp_path):
    _, agent = make_agent(in_folder(configuration(tmp_path, lr_schedule=None), "a"))
    agent.set_param("entropy_coef", 0.25)
    agent.set_param("mini_epochs_num", 1)
    agent.set_param("learning_rate", 2e-4)
    assert (agent.get_param("entropy_coef"), agent.get_param("mini_epochs_num")) == (0.25, 1)
    assert agent.get_param("learning_rate") == pytest.approx(2e-4)
    assert (float(agent.entropy_coef), float(agent.lr)) == (0.25, pytest.approx(2e-4))
    with pytest.raises(PhalanxError, match="no setting 'entropy'"):
        agent.set_param("entropy", 1.0)
    with pytest.raises(PhalanxError, match="horizon_length cannot change during a run; these can"):
        agent.set_param("horizon_length", 8)
    _, adaptive = make_agent(in_folder(configuration(tmp_path), "b"))
    with pytest.raises(PhalanxError, match="learning_rate cannot be set, because lr_schedule"):
        adaptive.set_param("learning_rate", 1e-3)


def test_parts_follow_a_changed_setting(tmp_path):
    changes = {"lr_schedule": None, "use_diagnostics": True, "max_epochs": 2}
    _, agent = make_agent(in_folder(configuration(tmp_path, **changes), "a"))
    agent.set_param("mini_epochs_num", 5)
    agent.train()
    assert "diagnostics/clip_frac/4" in agent.statistics()


def test_what_other_environments_return_as_numbers_is_converted(tmp_path):
    params = configuration(tmp_path, max_epochs=3)
    _, expected = make_agent(in_folder(params, "a"))
    expected.train()
    _, agent = make_agent(in_folder(configuration(tmp_path, max_epochs=3, env_name="numbers"), "b"))
    agent.train()
    for own, other in zip(agent.model.parameters(), expected.model.parameters(), strict=True):
        torch.testing.assert_close(own, other, rtol=1e-3, atol=1e-5)


def test_a_batch_of_one_sample_is_refused(tmp_path):
    class One(Clockwork):
        num_envs = 1

    vecenv.register("one", lambda **_: One())
    sizes = {"num_actors": 1, "horizon_length": 1, "minibatch_size": 1}
    with pytest.raises(PhalanxError, match="a batch of one sample, whose advantage cannot be norm"):
        make_agent(configuration(tmp_path, env_name="one", **sizes))


def test_a_step_that_terminates_is_no_time_out(tmp_path):
    class Both(Clockwork):
        def step(self, actions):
            obs, reward, terminated, truncated, infos = super().step(actions)
            return obs, reward, terminated, truncated | terminated, infos

    vecenv.register("both", lambda **_: Both())
    rewards = []
    for name in ("clockwork", "both"):
        _, agent = make_agent(in_folder(configuration(tmp_path, max_epochs=2, env_name=name), name))
        agent.train()
        rewards.append(agent.rollout.rewards)
    assert torch.equal(*rewards)


# -- blame -----------------------------------------------------------------------------------------


class Broken(Clockwork):
    """Environment 3 gives a NaN in step 13, which is the fifth of the second iteration."""

    def __init__(self, where, **options):
        self.where = where
        super().__init__(**options)

    def step(self, actions):
        obs, reward, terminated, truncated, infos = super().step(actions)
        if self.t == 13:
            if self.where == "reward":
                reward[3] = math.nan
            if self.where == "observation":
                obs["obs"][3, 1] = math.inf
            if self.where == "time-out":
                truncated[3], infos["terminal"]["obs"][3] = True, math.nan
            if self.where == "termination":
                terminated[3], truncated[3] = True, False
                infos["terminal"]["obs"][3] = math.nan
        return obs, reward, terminated, truncated, infos


vecenv.register("broken", lambda name, num_envs, device, **options: Broken(**options))


@pytest.mark.parametrize(
    ("where", "words"),
    [
        ("reward", "iteration 2 .*: the rewards of environment 3 in step 13 of the run are not"),
        # It is acted on in the step after.
        ("observation", "iteration 2 .*: the observations of environment 3 in step 14 of the run"),
        ("time-out", "iteration 2 .*: the terminal observations of environment 3 in step 13 of"),
    ],
)
def test_a_nan_is_blamed_on_its_origin(tmp_path, where, words):
    config = configuration(tmp_path, env_name="broken", value_bootstrap="reached")
    config["config"]["env_config"] = {"where": where}
    with pytest.raises(PhalanxError, match=words):
        make_agent(in_folder(config, "a"))[1].train()


@pytest.mark.parametrize("algo", ["ppo", "sac"])
def test_the_last_observation_of_a_terminated_episode_may_be_anything(tmp_path, algo):
    if algo == "ppo":
        changes = {"value_bootstrap": "reached", "max_epochs": 4}
        params = in_folder(configuration(tmp_path, env_name="broken", **changes), "a")
    else:
        params = off_policy(tmp_path, "a", "broken", max_epochs=20, batch_size=1024)
    params["config"]["env_config"] = {"where": "termination"}
    _, agent = make_agent(params)
    agent.train()
    assert all(p.isfinite().all() for p in agent.model.parameters())


def test_a_shaper_that_breaks_finite_rewards_is_blamed_itself(tmp_path):
    config = configuration(tmp_path, reward_shaper={"log_val": True})
    words = (
        "rewards are finite, but after params.config.reward_shaper the reward of environment 0 in"
    )
    with pytest.raises(PhalanxError, match=words):
        make_agent(in_folder(config, "a"))[1].train()


def test_a_learning_rate_that_is_too_high_is_blamed_itself(tmp_path):
    config = configuration(
        tmp_path, lr_schedule=None, learning_rate=1e30, truncate_grads=False, normalize_value=False
    )
    with pytest.raises(PhalanxError, match="try a lower learning rate"):
        make_agent(in_folder(config, "a"))[1].train()


# -- formulas whose direction shows ----------------------------------------------------------------


def test_kl_is_of_the_new_policy_from_the_old_one():
    new, old = (torch.tensor([[x]]) for x in (1.0, 3.0))
    # KL(N(0, 1) || N(0, 9)) = ln 3 + 1/18 - 1/2; the reverse is 2.9
    kl = gaussian_kl(torch.zeros(1, 1), new, torch.zeros(1, 1), old)
    assert float(kl) == pytest.approx(math.log(3) + 1 / 18 - 0.5, abs=1e-4)


def test_the_schedule_sees_the_kl_of_the_new_policy_from_the_old_one(tmp_path):
    _, agent = make_agent(in_folder(configuration(tmp_path), "a"))
    old = {"mus": torch.zeros(5, 2), "sigmas": torch.full((5, 2), 3.0)}
    new = {"mus": torch.zeros(5, 2), "sigmas": torch.ones(5, 2)}
    kl = agent.policy_kl(old, new)
    assert float(kl) == pytest.approx(2 * (math.log(3) + 1 / 18 - 0.5), abs=1e-3)  # two actions
    assert torch.equal(old["sigmas"], new["sigmas"])  # the next pass's reference


def test_the_schedule_does_not_see_how_asymmetric_a_policy_is(tmp_path):
    _, agent = make_agent(in_folder(configuration(tmp_path), "a"))
    own, sigmas = agent.minibatch_size, torch.ones(2 * agent.minibatch_size, 2)
    old = {"mus": torch.zeros(2 * own, 2), "sigmas": sigmas}
    new = {"mus": torch.zeros(2 * own, 2), "sigmas": sigmas}
    new["mus"][own:] = 5.0  # of the mirror images
    assert float(agent.policy_kl(old, new)) == pytest.approx(0.0, abs=1e-4)


def test_an_agent_steps_through_its_own_env_step(tmp_path):
    _, agent = make_agent(in_folder(configuration(tmp_path, max_epochs=1), "a"))
    steps, env_step = [], agent.env_step
    agent.env_step = lambda actions: steps.append(actions) or env_step(actions)
    agent.train()
    assert len(steps) == 8
    assert isinstance(agent.vec_env.action_space, Box)
