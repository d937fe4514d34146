"""AMP: the discriminator's losses, its buffers, the reward; runs continue and learn."""

import copy
import math

import pytest
import torch
import yaml

import orbit
from phalanx.cli.config import compose_config, train_params
from phalanx.errors import PhalanxError
from phalanx.rl import Runner
from phalanx.rl.amp_buffer import AMPBuffer
from phalanx.rl.formulas import discriminator_loss, style_reward
from phalanx.rl.normalize import RunningMeanStd
from recorder import Recorder

pytestmark = pytest.mark.usefixtures("one_thread")


def make_agent(folder, **changes):
    runner = Runner(Recorder())
    runner.load({"params": orbit.params(folder, **changes)})
    agent = runner.algo_factory.create("amp_continuous", base_name="run", params=runner.params)
    agent.init_tensors()
    agent.reset(agent.hooked_env)
    return agent


def train(params, checkpoint=None):
    recorder = Recorder()
    runner = Runner(recorder)
    runner.load({"params": params})
    runner.run({"train": True, "checkpoint": checkpoint})
    return recorder


# the discriminator --------------------------------------------------------------------------------


def disc_by_hand(network, x):
    """Logits (B,) of a perceptron of two hidden ReLU layers, from its weights."""
    a, b = (network._disc_mlp[i] for i in (0, 2))
    h = (x @ a.weight.T + a.bias).clamp(min=0)
    h = (h @ b.weight.T + b.bias).clamp(min=0)
    return (h @ network._disc_logits.weight.T + network._disc_logits.bias)[:, 0]


def loss_by_hand(network, c, agent, demo, eps=1e-6):
    """The loss written out, the gradient penalty by finite differences."""
    with torch.no_grad():
        none, some = disc_by_hand(network, agent), disc_by_hand(network, demo)
        prediction = 0.5 * ((1 + none.exp()).log().mean() + (1 + (-some).exp()).log().mean())
        penalty = 0.0
        for k in range(demo.shape[1]):
            step = eps * torch.eye(demo.shape[1], dtype=demo.dtype)[k]
            up, down = disc_by_hand(network, demo + step), disc_by_hand(network, demo - step)
            penalty = penalty + ((up - down) / (2 * eps)) ** 2
        weights = [network._disc_mlp[0].weight, network._disc_mlp[2].weight]
        last = network._disc_logits.weight
        decay = sum((w**2).sum() for w in [*weights, last])
        return (
            prediction
            + c.disc_logit_reg * (last**2).sum()
            + c.disc_grad_penalty * penalty.mean()
            + c.disc_weight_decay * decay
        )


@pytest.mark.parametrize("plain", [True, False])
def test_loss_is_the_formula_and_its_gradient_that_of_the_formula(tmp_path, plain):
    agent = make_agent(tmp_path, disc_weight_decay=0.01, disc_grad_penalty=3.0)
    assert agent.discriminator.plain
    agent.discriminator.plain = plain  # else its slope is torch.autograd's, as of other networks
    network = agent.model.a2c_network.double()
    agent.discriminator.sums = agent.discriminator.sums.double()
    rows, demo = torch.randn(50, 4).double(), torch.randn(40, 4).double()
    loss = agent.discriminator.disc_loss(rows, demo.clone())
    expected = loss_by_hand(network, agent.config, rows, demo)
    torch.testing.assert_close(loss.detach(), expected, rtol=1e-6, atol=0)
    loss.backward()
    eps = 1e-5
    for weight in (network._disc_mlp[0].weight, network._disc_mlp[2].weight):
        for at in [(0, 1), (5, 2), (9, 3)]:
            moved = []
            for sign in (1, -1):
                with torch.no_grad():
                    weight[at] += sign * eps
                    moved.append(loss_by_hand(network, agent.config, rows, demo))
                    weight[at] -= sign * eps
            slope = (moved[0] - moved[1]) / (2 * eps)
            torch.testing.assert_close(weight.grad[at], slope, rtol=1e-3, atol=1e-6)
    # Only the discriminator learns from it.
    assert network.actor_mlp[0].weight.grad is None


def test_accuracies_and_logits_are_logged(tmp_path):
    agent = make_agent(tmp_path, disc_grad_penalty=0.0)
    rows, demo = torch.randn(50, 4), torch.randn(40, 4)
    agent.discriminator.disc_loss(rows, demo)
    none, some = (disc_by_hand(agent.model.a2c_network, x).detach() for x in (rows, demo))
    noted = agent.discriminator.sums[1:5].tolist()
    expected = [(none < 0).float(), (some > 0).float(), none, some]
    assert noted == pytest.approx([float(x.mean()) for x in expected], rel=1e-5)


def test_prediction_loss_and_reward_of_known_logits():
    loss = discriminator_loss(torch.tensor([[0.0], [2.0]]), torch.tensor([[1.0]]))
    agent = (math.log(2) + math.log(1 + math.exp(2))) / 2
    assert float(loss) == pytest.approx((agent + math.log(1 + math.exp(-1))) / 2)
    reward = style_reward(torch.tensor([0.0, 100.0, -1.0]), 2.0)
    expected = [2 * math.log(2), -2 * math.log(1e-4), 2 * math.log(1 + math.exp(-1))]
    torch.testing.assert_close(reward, torch.tensor(expected), rtol=1e-3, atol=0)


def test_network_has_rl_games_names_and_a_deviation_that_stays(tmp_path):
    sigma = {"sigma_init": {"name": "const_initializer", "val": -1.5}}
    for learn in (False, True):
        network = {**orbit.NETWORK, "space": {"continuous": {**sigma, "learn_sigma": learn}}}
        agent = make_agent(tmp_path, network=network)
        own = agent.model.a2c_network
        names = [name for name, _ in own.named_parameters()]
        assert names[0] == "sigma"
        assert names[-6:] == [
            *(f"_disc_mlp.{k}.{kind}" for k in (0, 2) for kind in ("weight", "bias")),
            *(f"_disc_logits.{kind}" for kind in ("weight", "bias")),
        ]
        assert own._disc_logits.weight.abs().max() <= 1
        assert own._disc_logits.weight.abs().max() > 0.5
        agent.train_epoch()
        assert (own.sigma == -1.5).all() == (not learn)


# memories -----------------------------------------------------------------------------------------


def test_buffer_is_a_ring_and_samples_only_stored_rows():
    buffer = AMPBuffer(10, 1, torch.device("cpu"))
    buffer.rows.fill_(math.inf)  # poison
    buffer.store(torch.arange(4.0)[:, None])
    assert set(buffer.sample(500)[:, 0].tolist()) == {0, 1, 2, 3}
    buffer.store(torch.arange(4.0, 12)[:, None])
    assert set(buffer.sample(2000)[:, 0].tolist()) == set(range(2, 12))
    assert int(buffer.stored) == 12


@pytest.mark.parametrize("capacity", [4, 20])
def test_buffer_of_another_size_restores_the_last_rows(capacity):
    first, second = (AMPBuffer(n, 1, torch.device("cpu")) for n in (10, capacity))
    for start in (1, 9):
        first.store(torch.arange(start, start + 8.0)[:, None])
    second.load_state_dict(first.state_dict())
    drawn = set(second.sample(1000).flatten().tolist())
    assert drawn == set(range(17 - min(10, capacity), 17))


def test_a_full_buffer_stores_a_fraction_of_new_rows():
    torch.manual_seed(0)
    buffer = AMPBuffer(1000, 1, torch.device("cpu"))
    buffer.store(torch.zeros(1000, 1), 0.1)
    buffer.store(torch.ones(1, 1), 0.0)  # as many as the capacity, but not yet more
    assert int(buffer.stored) == 1001
    for value in range(2, 5):
        before = int(buffer.stored)
        rows = torch.full((1000, 1), float(value))
        buffer.store(rows, 0.1)
        kept = int(buffer.stored) - before
        assert 60 < kept < 140
        assert int((buffer.rows[:1000] == value).sum()) == kept
    assert (buffer.rows[0] == 1).all()
    assert (buffer.rows[1:51] == 2).all()


def test_replay_holds_past_motion_and_demonstrations_are_renewed(tmp_path):
    agent = make_agent(tmp_path)
    assert int(agent.discriminator.demos.stored) == 1024  # 16 fetches of 64 for 1000
    assert int(agent.discriminator.replay.stored) == 0
    agent.collect(agent.hooked_env)
    agent.prepare_batch()
    seen = []
    original = agent.discriminator.disc_loss
    agent.discriminator.disc_loss = lambda a, d: seen.append((a, d)) or original(a, d)
    agent.update()
    # In the first iteration the policy's own rows stand in for the replay.
    (rows, demo), own = seen[0], agent.discriminator.amp_obs.flatten(0, 1)
    assert rows.shape == (256, 4)
    assert demo.shape == (128, 4)
    torch.testing.assert_close(agent.discriminator.replay.rows[:512], own)
    assert int(agent.discriminator.demos.stored) == 1024 + 64
    batch = agent.minibatch(0)
    rows = (batch["amp_obs_replay"][:, None] == own).all(2).any(1)
    assert rows.all()
    radius = agent.discriminator.demos.sample(500)[:, :2].norm(dim=1)
    torch.testing.assert_close(radius, torch.ones(500))


def test_minibatches_are_shuffled_and_see_every_row_once(tmp_path):
    agent = make_agent(tmp_path)
    agent.collect(agent.hooked_env)
    agent.prepare_batch()
    agent.dataset["advantages"].copy_(torch.arange(512.0))
    passes = []
    for _ in range(2):
        batches = [agent.minibatch(i) for i in range(2)]
        rows = torch.cat([b["advantages"] for b in batches]).long()
        assert sorted(rows.tolist()) == list(range(512))
        own = agent.discriminator.amp_obs.flatten(0, 1)[rows[:128]]
        assert torch.equal(batches[0]["amp_obs"], own)
        passes.append(rows)
    assert not torch.equal(*passes)


def test_normaliser_sees_policy_replay_and_demonstrations_in_this_order(tmp_path):
    agent = make_agent(tmp_path)
    agent.collect(agent.hooked_env)
    agent.prepare_batch()
    batch = agent.minibatch(0)
    expected = RunningMeanStd((4,)).eval()
    for kind in ("", "_replay", "_demo"):
        expected.update(batch[f"amp_obs{kind}"])
    agent.discriminator.loss(torch.zeros(()), batch)
    for name, value in expected.state_dict().items():
        torch.testing.assert_close(agent.discriminator.normalizer.state_dict()[name], value)
    assert float(expected.count) == 1 + 3 * 128
    agent.discriminator.rewards(torch.randn(100, 4))  # looks, but does not learn
    assert float(agent.discriminator.normalizer.count) == 1 + 3 * 128


def test_what_the_discriminator_learns_from_is_normalised_after_the_statistics_learnt_it(tmp_path):
    disc = make_agent(tmp_path).discriminator
    width = disc.amp_obs.shape[-1]
    x = 10 + torch.randn(512, width, generator=torch.Generator().manual_seed(0))
    # The statistics start as one sample of mean 0 and variance 1. With 512 of mean m and variance
    # v, by the parallel formula:
    n, m, v = 512, x.mean(0), x.var(0)
    mean = n * m / (n + 1)
    var = (1 + n * v + m**2 * n / (n + 1)) / (n + 1)
    expected = ((x - mean) / torch.sqrt(var + 1e-5)).clamp(-5, 5)
    learnt = disc.normalized(x, learn=True)
    torch.testing.assert_close(learnt, expected, rtol=0.01, atol=0.01)
    torch.testing.assert_close(disc.normalized(x), learnt)  # reading them changes nothing


# the reward ---------------------------------------------------------------------------------------


def test_reward_mixes_task_and_discriminator_and_time_outs_bootstrap(tmp_path):
    agent = make_agent(tmp_path, task_reward_w=0.25, disc_reward_w=0.5, disc_reward_scale=3.0)
    agent.collect(agent.hooked_env)
    r = agent.rollout
    agent.discriminator.batch_reward(r.rewards)
    with torch.no_grad():
        agent.value_batch()
    normalised = agent.discriminator.normalizer(agent.discriminator.amp_obs.flatten(0, 1))
    logit = disc_by_hand(agent.model.a2c_network, normalised).detach()
    disc = -3.0 * (1 - 1 / (1 + (-logit).exp())).clamp(min=1e-4).log()
    expected = 0.25 + 0.5 * disc.view(64, 8)
    assert r.truncated.any()
    values = agent.get_values({"obs": r.reached.flatten(0, 1)}).view(64, 8)
    expected = expected + 0.99 * values * r.truncated
    torch.testing.assert_close(r.rewards[..., 0], expected, rtol=1e-4, atol=1e-5)
    mean, spread = agent.discriminator.reward_spread.tolist()
    assert mean == pytest.approx(float(disc.mean()), rel=1e-4)
    assert spread == pytest.approx(float(disc.std()), rel=1e-4)
    # Meters show the task's own reward.
    assert float(agent.episodes.running[:, 0].max()) <= 20


def test_critic_counts_in_full_and_means_are_bound_to_one(tmp_path):
    agent = make_agent(tmp_path, critic_coef=7.0, bounds_loss_coef=3.0)
    assert agent.critic_weight == 7.0
    result = {"mus": torch.tensor([[1.5, 0.9], [-2.0, 1.05]])}
    assert float(agent.bounds_loss(result)) == pytest.approx((0.25 + 1 + 0.0025) / 2)


# runs ---------------------------------------------------------------------------------------------


def test_it_learns_to_orbit(tmp_path):
    torch.manual_seed(0)
    quick = {"learning_rate": 2e-3, "gamma": 0.9, "mini_epochs": 6, "bounds_loss_coef": 1.0}
    sharp = {"disc_grad_penalty": 0.02, "disc_logit_reg": 0.001, "disc_weight_decay": 0.0}
    recorder = train(orbit.params(tmp_path, max_epochs=90, **quick, **sharp))
    agent = recorder.agent
    env = orbit.Orbit(256, "cpu")
    obs = env.reset()["obs"]
    radii, angles = [], []
    for _ in range(15):
        with torch.no_grad():
            mus = agent.model({"is_train": False, "obs": obs})["mus"]
        before = env.x.clone()
        env.t.zero_()
        obs = env.step(mus.clamp(-1, 1))[0]["obs"]
        after = env.reached
        cross = before[:, 0] * after[:, 1] - before[:, 1] * after[:, 0]
        angles.append(torch.atan2(cross, (before * after).sum(1)))
        radii.append(after.norm(dim=1))
    assert torch.cat(angles).mean() == pytest.approx(orbit.STEP, abs=0.1)
    assert torch.cat(radii).mean() == pytest.approx(1.0, abs=0.1)


@pytest.mark.parametrize("normalize", [True, False])
def test_resumed_run_equals_uninterrupted_one_bit_for_bit(tmp_path, normalize):
    changes = {"save_replay_buffer": True, "normalize_amp_input": normalize}
    whole = train(orbit.params(tmp_path / "a", max_epochs=8, **changes))
    train(orbit.params(tmp_path / "b", max_epochs=4, **changes))
    torch.manual_seed(99)
    last = tmp_path / "b" / "orbit" / "nn" / "last_orbit.pth"
    rest = train(orbit.params(tmp_path / "c", max_epochs=8, **changes), last)
    assert rest.rows == whole.rows[4:]
    one, other = (r.agent.get_full_state_weights() for r in (whole, rest))
    for name, value in one["model"].items():
        assert torch.equal(value, other["model"][name]), name
    assert ("amp_input_mean_std" in one) == normalize
    assert int(one["phalanx"]["learner"]["discriminator"]["replay"]["stored"]) > 1000
    buffers = [w["phalanx"]["learner"]["discriminator"]["replay"]["rows"] for w in (one, other)]
    torch.testing.assert_close(*buffers, rtol=0, atol=0)


def test_without_buffers_a_run_continues_with_a_warning(tmp_path):
    train(orbit.params(tmp_path, max_epochs=3))
    last = tmp_path / "orbit" / "nn" / "last_orbit.pth"
    rest = train(orbit.params(tmp_path, max_epochs=5), last)
    assert rest.agent.epoch_num == 5
    assert any("save_replay_buffer" in w for w in rest.agent.warnings)
    assert int(rest.agent.discriminator.replay.stored) == 2 * 512
    # Back to a point within the run, as after an overflow on a GPU.
    state = copy.deepcopy(rest.agent.get_full_state_weights())
    rest.agent.train_epoch()
    rest.agent.set_full_state_weights(state)
    assert int(rest.agent.discriminator.replay.stored) == 2 * 512


def test_all_of_isaacgymenvs_tags_are_written(tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    train(orbit.params(tmp_path, max_epochs=4))
    events = EventAccumulator(str(tmp_path / "orbit" / "summaries"))
    events.Reload()
    tags = set(events.Tags()["scalars"])
    assert tags >= {
        *(f"performance/{k}" for k in ("total_fps", "step_fps", "update_time", "play_time")),
        *(f"losses/{k}" for k in ("a_loss", "c_loss", "bounds_loss", "entropy", "disc_loss")),
        *(f"info/{k}" for k in ("epochs", "last_lr", "lr_mul", "e_clip", "clip_frac", "kl")),
        *(f"info/disc_{k}" for k in ("agent_acc", "demo_acc", "agent_logit", "demo_logit")),
        *(f"info/disc_{k}" for k in ("grad_penalty", "logit_loss", "reward_mean", "reward_std")),
        *(f"rewards/{k}" for k in ("frame", "iter", "time")),
        *(f"episode_lengths/{k}" for k in ("frame", "iter")),
    }


def test_player_restores_the_normaliser_and_shows_the_discriminators_reward(tmp_path, capsys):
    train(orbit.params(tmp_path, max_epochs=20))
    runner = Runner()
    shown = {"player": {"games_num": 64}, "print_disc_prediction": True}
    runner.load({"params": orbit.params(tmp_path, **shown)})
    player = runner.create_player()
    player.restore(tmp_path / "orbit" / "nn" / "last_orbit.pth")
    assert float(player.amp_input_mean_std.count) > 1000
    result = player.run()
    reward = result.measures["discriminator reward"]
    assert 0 < reward < 2 * 9.3
    lines = [line for line in capsys.readouterr().out.splitlines() if "disc_pred" in line]
    assert len(lines) >= 20
    logit, first = map(float, lines[0].split()[1:])
    assert first == pytest.approx(float(style_reward(torch.tensor(logit), 2.0)), abs=0.01)


ISAACGYMENVS_YAML = """
params:
  seed: 42
  algo:
    name: amp_continuous
  model:
    name: continuous_amp
  network:
    name: amp
    separate: True
    space:
      continuous:
        mu_activation: None
        sigma_activation: None
        mu_init:
          name: default
        sigma_init:
          name: const_initializer
          val: -2.9
        fixed_sigma: True
        learn_sigma: False
    mlp:
      units: [1024, 512]
      activation: relu
      d2rl: False
      initializer:
        name: default
      regularizer:
        name: None
    disc:
      units: [1024, 512]
      activation: relu
      initializer:
        name: default
  load_checkpoint: False
  load_path: ''
  config:
    name: HumanoidAMP
    full_experiment_name: HumanoidAMP
    env_name: rlgpu
    ppo: True
    multi_gpu: False
    mixed_precision: False
    normalize_input: True
    normalize_value: True
    value_bootstrap: True
    num_actors: 4096
    reward_shaper:
      scale_value: 1
    normalize_advantage: True
    gamma: 0.99
    tau: 0.95
    learning_rate: 5e-5
    lr_schedule: constant
    kl_threshold: 0.008
    score_to_win: 20000
    max_epochs: 5000
    save_best_after: 100
    save_frequency: 50
    print_stats: True
    grad_norm: 1.0
    entropy_coef: 0.0
    truncate_grads: False
    e_clip: 0.2
    horizon_length: 16
    minibatch_size: 32768
    mini_epochs: 6
    critic_coef: 5
    clip_value: False
    seq_len: 4
    bounds_loss_coef: 10
    amp_obs_demo_buffer_size: 200000
    amp_replay_buffer_size: 1000000
    amp_replay_keep_prob: 0.01
    amp_batch_size: 512
    amp_minibatch_size: 4096
    disc_coef: 5
    disc_logit_reg: 0.05
    disc_grad_penalty: 5
    disc_reward_scale: 2
    disc_weight_decay: 0.0001
    normalize_amp_input: True
    task_reward_w: 0.0
    disc_reward_w: 1.0
"""


def test_isaacgymenvs_file_loads_and_equals_ours(tmp_path):
    params = yaml.safe_load(ISAACGYMENVS_YAML)["params"]
    small = {"num_actors": 16, "train_dir": str(tmp_path), "max_epochs": 1, "device": "cpu"}
    small |= {"amp_obs_demo_buffer_size": 2000, "amp_replay_buffer_size": 2000}
    small |= {"minibatch_size": 128, "amp_minibatch_size": 16, "mini_epochs": 1}
    theirs = copy.deepcopy(params)
    theirs["config"] |= small
    recorder = train(theirs)
    agent = recorder.agent
    unused = "load_checkpoint load_path network.mlp.regularizer print_stats seq_len value_bootstrap"
    assert agent.no_effect == unused.split()
    assert agent.rollout.reached_values is not None
    shapes = {k: tuple(v.shape) for k, v in agent.model.state_dict().items()}
    assert shapes["a2c_network._disc_mlp.0.weight"] == (1024, 210)
    assert shapes["a2c_network.actor_mlp.0.weight"] == (1024, 105)
    assert shapes["a2c_network.sigma"] == (28,)
    runner = Runner()
    runner.load({"params": theirs})
    runner.create_player().restore(tmp_path / "HumanoidAMP" / "nn" / "last_HumanoidAMP.pth")
    # Ours differs in what depends on the number of environments, and in when files are written.
    ours = train_params(compose_config(["task=HumanoidAMP"]))
    ours["config"] |= {"name": "HumanoidAMP", "num_actors": 16, "device": "cpu"}
    own = type(agent.config)
    a, b = (read_config(own, p["config"]) for p in (params, ours))
    differing = {k for k in vars(a) if getattr(a, k) != getattr(b, k)}
    assert differing <= {
        *(
            "num_actors",
            "device",
            "sim_device",
            "full_experiment_name",
            "env_config",
            "player",
            "features",
        ),
        *("minibatch_size", "minibatch_size_per_env", "save_frequency", "score_to_win"),
        *("amp_minibatch_size", "amp_minibatch_size_per_env"),
    }
    assert b.minibatch(4096) == a.minibatch(4096) == 32768
    assert b.amp_minibatch(4096) == a.amp_minibatch(4096) == 4096


def read_config(cls, values):
    from phalanx.config import read

    return read(cls, values, "params.config", cls.NO_EFFECT)


def test_discriminator_tells_a_new_policy_from_the_clip(tmp_path):
    arguments = ["task=HumanoidAMP", "num_envs=16", "sim_device=cpu", f"train_dir={tmp_path}"]
    params = train_params(compose_config([*arguments, "max_iterations=6", "experiment=x"]))
    params["config"] |= {"amp_obs_demo_buffer_size": 2000, "amp_replay_buffer_size": 2000}
    recorder = train(params)
    _, _, last, _ = recorder.rows[-1]
    assert last["info/disc_agent_acc"] > 0.9
    assert last["info/disc_demo_acc"] > 0.9
    assert last["info/disc_demo_logit"] > last["info/disc_agent_logit"] + 1
    assert recorder.agent.mean_lengths.mean > 2


def test_bad_input_is_one_sentence(tmp_path):
    wrong = [
        ({"amp_minibatch_size": 512}, "amp_minibatch_size 512 is larger than the minibatch of 256"),
        ({"amp_replay_buffer_size": 100}, "less than the 512 observations of an iteration"),
        ({"amp_batch_size": 2000}, "amp_obs_demo_buffer_size 1000 is less than amp_batch_size"),
        ({"network": {**orbit.NETWORK, "separate": False}}, "needs separate: true"),
        ({"disc_reward_weight": 1}, "did you mean"),
    ]
    for changes, message in wrong:
        with pytest.raises(PhalanxError, match=message):
            make_agent(tmp_path, **changes)
    plain = {k: v for k, v in orbit.NETWORK.items() if k != "disc"} | {"name": "actor_critic"}
    with pytest.raises(PhalanxError, match=r"network.name: amp"):
        make_agent(tmp_path, network=plain)
    arguments = ["task=Cartpole", "train=HumanoidAMPPPO", "sim_device=cpu", "num_envs=16"]
    runner = Runner()
    runner.load({"params": train_params(compose_config(arguments))})
    with pytest.raises(PhalanxError, match="amp_observation_space"):
        runner.run({"train": True})
