"""Recurrent, masked, multi-discrete, image and asymmetric PPO: each learns what it is for."""

import pytest
import torch

from phalanx.errors import PhalanxError
from phalanx.rl import Runner, checkpoint, vecenv
from phalanx.rl.layers import Recurrent
from phalanx.rl.network_config import RNNConfig, read_config
from phalanx.rl.networks import ActorCritic
from phalanx.rl.normalize import MovingMeanStd
from phalanx.spaces import Box, Dict, Discrete, MultiDiscrete

pytestmark = pytest.mark.usefixtures("one_thread")

N = 64


class Guess:
    """One number in 0 .. n-1 is right; what shows it, and when, is the subclass's business.

    An episode lasts `steps` steps; the last one pays 1 for the right action.
    """

    num_envs = N
    device = torch.device("cpu")
    n = 4
    steps = 1

    def __init__(self):
        self.observation_space = Box(self.show().shape[1:])
        self.action_space = Discrete(self.n)
        self.t = 0

    def new(self):
        self.right = torch.randint(self.n, (N,))

    def show(self):
        self.new()
        self.t = 0
        return self.observe()

    @property
    def observations(self):
        return {"obs": self.obs}

    def reset(self):
        self.new()
        self.t = 0
        self.obs = self.observe()
        return self.observations

    def step(self, actions):
        self.t += 1
        reached = self.observe()
        ends = self.t == self.steps
        reward = self.pay(actions) * float(ends)
        terminated = torch.full((N,), ends)
        infos = {"terminal": {"obs": reached}}
        if ends:
            self.reset()
        else:
            self.obs = reached
        return self.observations, reward, terminated, torch.zeros_like(terminated), infos

    def pay(self, actions):
        return (actions == self.right).float()

    def state_dict(self):
        return {}

    def load_state_dict(self, state):
        raise PhalanxError("its state is not kept")


class Remember(Guess):
    """The number is shown in the first of three steps only, so that only a memory can tell."""

    steps = 3

    def observe(self):
        shown = torch.nn.functional.one_hot(self.right, self.n).float() * float(self.t == 0)
        return torch.cat([shown, torch.full((N, 1), float(self.t))], 1)


class Image(Guess):
    """The number is the quarter of a picture, (height, width, channels), that is bright."""

    def observe(self):
        picture = torch.zeros(N, 8, 8, 1)
        for k in range(4):
            rows, columns = (
                slice(4 * (k // 2), 4 * (k // 2) + 4),
                slice(4 * (k % 2), 4 * (k % 2) + 4),
            )
            picture[self.right == k, rows, columns] = 1.0
        return picture


class Quarters(Guess):
    """The number is shown as it is."""

    def observe(self):
        return torch.nn.functional.one_hot(self.right, self.n).float()


class Several(Guess):
    """Three numbers at once, of different ranges, each pays a third."""

    nvec = (2, 3, 5)

    def __init__(self):
        super().__init__()
        self.action_space = MultiDiscrete(self.nvec)

    def new(self):
        self.right = torch.stack([torch.randint(k, (N,)) for k in self.nvec], 1)

    def observe(self):
        heads = [
            torch.nn.functional.one_hot(self.right[:, i], k).float()
            for i, k in enumerate(self.nvec)
        ]
        return torch.cat(heads, 1)

    def pay(self, actions):
        return (actions == self.right).float().mean(1)


class Masked(Guess):
    """Nothing is shown; masks leave two actions, the higher of which is right."""

    def observe(self):
        return torch.ones(N, 1)

    def get_action_masks(self):
        masks = torch.zeros(N, self.n, dtype=torch.bool)
        masks[:, 0] = True
        return masks.scatter(1, self.right.clamp(min=1)[:, None], True)

    def new(self):
        self.right = torch.randint(1, self.n, (N,))

    def step(self, actions):
        assert self.get_action_masks().gather(1, actions[:, None]).all()
        return super().step(actions)


class Asymmetric(Guess):
    """The reward is mostly a number that only the critic sees, times the policy's right answer."""

    def __init__(self):
        super().__init__()
        self.state_space = Box((2,))

    def observe(self):
        self.luck = torch.randint(2, (N,)).float() * 10
        return torch.nn.functional.one_hot(self.right, self.n).float()

    @property
    def observations(self):
        return {"obs": self.obs, "states": torch.stack([self.luck, self.right.float()], 1)}

    def step(self, actions):
        luck = self.luck
        obs, reward, terminated, truncated, infos = super().step(actions)
        infos["terminal"]["states"] = torch.zeros(N, 2)
        return obs, reward + luck, terminated, truncated, infos


class Foretold(Remember):
    """The reward is mostly a number that the critic is told at the start of three steps."""

    def __init__(self):
        super().__init__()
        self.state_space = Dict({"luck": Box((1,)), "time": Box((1,))})

    def new(self):
        super().new()
        self.luck = torch.randint(2, (N,)).float() * 10

    @property
    def observations(self):
        return {"obs": self.obs, "states": self.states()}

    def states(self):
        told = self.luck * float(self.t == 0)
        return {"luck": told[:, None], "time": torch.full((N, 1), float(self.t))}

    def step(self, actions):
        luck, reached = self.luck * float(self.t + 1 == self.steps), self.states()
        obs, reward, terminated, truncated, infos = super().step(actions)
        infos["terminal"]["states"] = reached
        return obs, reward + luck, terminated, truncated, infos


CNN = {"convs": [{"filters": 4, "kernel_size": 3}], "activation": "relu", "type": "conv2d"}


class Named(Guess):
    """One of the two bits is in a picture, the other in a vector, observed by name."""

    def __init__(self):
        super().__init__()
        self.observation_space = Dict({"word": Box((2,)), "picture": Box((4, 4, 1))})

    def show(self):
        return torch.zeros(N, 1)

    def observe(self):
        picture = (self.right % 2).float()[:, None, None, None].expand(N, 4, 4, 1)
        return {
            "word": torch.nn.functional.one_hot(self.right // 2, 2).float(),
            "picture": picture.clone(),
        }


def configuration(folder, network, algo="a2c_discrete", model="discrete_a2c", **config):
    return {
        "params": {
            "seed": 1,
            "algo": {"name": algo},
            "model": {"name": model},
            "network": {
                "name": "actor_critic",
                "space": {"discrete": {}},
                "mlp": {"units": [32], "activation": "elu"},
                **network,
            },
            "config": {
                "name": "guess",
                "env_name": "guess",
                "horizon_length": 12,
                "seq_length": 6,
                "mini_epochs": 4,
                "learning_rate": 3e-3,
                "normalize_value": True,
                "max_epochs": 60,
                "train_dir": str(folder),
                "full_experiment_name": "x",
                **config,
            },
        }
    }


def train(env, config):
    vecenv.register("guess", lambda **kwargs: env())
    runner = Runner()
    runner.load(config)
    agent = runner.algo_factory.create(runner.algo_name, base_name="run", params=runner.params)
    agent.train()
    runner.params["config"]["player"] = {"games_num": 640}
    played = runner.run({"play": True, "checkpoint": agent.nn_dir / "last_guess.pth"})
    return agent, played


@pytest.mark.parametrize("cell", ["lstm", "gru"])
@pytest.mark.parametrize("separate", [False, True], ids=["shared", "separate"])
@pytest.mark.parametrize("before", [False, True], ids=["after_mlp", "before_mlp"])
def test_recurrent_policies_remember(tmp_path, cell, separate, before):
    rnn = {"name": cell, "units": 32, "layers": 1, "before_mlp": before, "layer_norm": True}
    _, played = train(Remember, configuration(tmp_path, {"rnn": rnn, "separate": separate}))
    assert played.mean_return > 0.9  # guessing gives 0.25


def test_without_memory_the_task_cannot_be_solved(tmp_path):
    _, played = train(Remember, configuration(tmp_path, {}))
    assert played.mean_return < 0.4


@pytest.mark.parametrize(
    "kind", ["conv2d", "coord_conv2d", "conv2d_spatial_softargmax", "conv2d_flatten"]
)
def test_convolutions_see(tmp_path, kind):
    convs = [{"filters": 8, "kernel_size": 3, "strides": 2, "padding": 1}]
    cnn = {"type": kind, "activation": "relu", "convs": convs}
    _, played = train(Image, configuration(tmp_path, {"cnn": cnn}, normalize_input=False))
    assert played.mean_return > 0.9


def test_residual_network_sees(tmp_path):
    network = {"name": "resnet_actor_critic", "cnn": {"conv_depths": [8], "activation": "relu"}}
    config = configuration(tmp_path, network, normalize_input=False, max_epochs=30)
    agent, played = train(Image, config)
    assert played.mean_return > 0.9
    assert "a2c_network.cnn.0.res_block1.conv1.conv.weight" in agent.model.state_dict()


@pytest.mark.parametrize(
    "mlp",
    [
        {"mlp": {"units": [32, 32], "d2rl": True}, "normalization": "layer_norm"},
        {"mlp": {"units": [32, 32], "normalization": "batch_norm"}},
        {"mlp": {"units": [32], "initializer": {"name": "orthogonal_initializer", "gain": 1.4}}},
        {"mlp": {"units": [32], "initializer": {"name": "variance_scaling_initializer"}}},
    ],
    ids=["d2rl", "batch_norm", "orthogonal", "variance_scaling"],
)
def test_several_discrete_actions_are_learnt_by_every_kind_of_perceptron(tmp_path, mlp):
    network = {"space": {"multi_discrete": {}}, **mlp}
    _, played = train(Several, configuration(tmp_path, network, model="multi_discrete_a2c"))
    assert played.mean_return > 0.9  # guessing gives 0.34


def test_masked_actions_are_never_taken_and_the_rest_is_learnt(tmp_path):
    _, played = train(Masked, configuration(tmp_path, {}, use_action_masks=True))
    assert played.mean_return > 0.9  # the environment itself asserts the masks


def test_central_value_sees_what_the_policy_does_not(tmp_path):
    critic = {
        "network": {"name": "actor_critic", "central_value": True, "mlp": {"units": [32]}},
        "minibatch_size": 256,
        "mini_epochs": 4,
        "learning_rate": 3e-3,
    }
    with_states, _ = train(Asymmetric, configuration(tmp_path, {}, central_value_config=critic))
    chosen = with_states.model({"is_train": False, "obs": torch.eye(4)})["logits"].argmax(-1)
    assert torch.equal(chosen, torch.arange(4))
    without, _ = train(Asymmetric, configuration(tmp_path / "without", {}))
    # The luck is half the variance that a critic without it cannot explain.
    assert explained(with_states) > 0.95
    assert explained(without) < 0.5

    again_runner = Runner()
    again_runner.load(configuration(tmp_path, {}, central_value_config=critic))
    again = again_runner.algo_factory.create(
        "a2c_discrete", base_name="run", params=again_runner.params
    )
    vecenv.register("guess", lambda **kwargs: Asymmetric())
    again.restore(with_states.nn_dir / "last_guess.pth")
    for a, b in zip(
        again.central_value_net.model.parameters(),
        with_states.central_value_net.model.parameters(),
        strict=True,
    ):
        assert torch.equal(a, b)


def test_a_recurrent_central_value_remembers(tmp_path):
    network = {
        "name": "actor_critic",
        "central_value": True,
        "mlp": {"units": [32]},
        "rnn": {"name": "lstm", "units": 16, "before_mlp": True},
    }
    own = {"network": network, "minibatch_size": 384, "learning_rate": 3e-3, "mini_epochs": 4}
    config = configuration(tmp_path, {}, central_value_config=own, seq_length=3, max_epochs=80)
    agent, _ = train(Foretold, config)
    assert explained(agent) > 0.95
    del network["rnn"]
    without, _ = train(Foretold, configuration(tmp_path, {}, central_value_config=own))
    assert explained(without) < 0.6

    own["network"]["rnn"] = {"name": "lstm", "units": 16}
    odd = configuration(tmp_path, {}, central_value_config={**own, "minibatch_size": 64})
    with pytest.raises(PhalanxError, match=r"central_value_config.minibatch_size of 64"):
        train(Foretold, odd)


def test_observations_by_name_go_where_they_belong(tmp_path):
    agent, played = train(Named, configuration(tmp_path, {"cnn": CNN, "separate": True}))
    assert played.mean_return > 0.9
    mean = agent.model.running_mean_std.running_mean_std["word"].running_mean
    torch.testing.assert_close(mean.float(), torch.full((2,), 0.5), rtol=0, atol=0.1)
    with pytest.raises(PhalanxError, match=r"observations 'picture' of shape .* need a `cnn`"):
        train(Named, configuration(tmp_path, {}))


def test_advantages_by_moving_statistics(tmp_path):
    config = configuration(tmp_path, {}, normalize_rms_advantage=True, adv_rms_momentum=0.75)
    agent, played = train(Quarters, config)
    assert played.mean_return > 0.9
    statistics = MovingMeanStd((), momentum=0.75)
    first, second = torch.tensor([1.0, 3.0]), torch.tensor([4.0, 4.0])
    torch.testing.assert_close(statistics(first), torch.tensor([-1.0, 1.0]))
    # weights 0.25 * 0.75 and 0.25: mean (3 * 2 + 4 * 4) / 7, variance (3 * 1 + 4 * 0) / 7
    torch.testing.assert_close(
        statistics(second), torch.full((2,), (4 - 22 / 7) / (3 / 7) ** 0.5), rtol=1e-4, atol=0
    )
    assert "mean" in agent.get_full_state_weights()["phalanx"]["learner"]["advantage_mean_std"]


def test_episodes_begin_anew_every_so_many_iterations(tmp_path):
    class Counted(Remember):
        resets = 0

        def reset(self):
            Counted.resets += 1
            return super().reset()

    # 12 steps are four episodes of three
    config = configuration(tmp_path, {}, epochs_between_resets=2, max_epochs=6)
    train(Counted, config)
    during_training = 1 + 3 + 6 * 4
    assert Counted.resets == during_training + 1 + 10  # and the player's 640 games of 64


def explained(agent):
    """Share of the variance of the last rollout's returns that its values explain."""
    r = agent.rollout
    returns = r.advantages + r.values
    return float(1 - (returns - r.values).var() / returns.var())


class Corridor(Guess):
    """Sixteen steps to the right, one after the other, pay 1; nothing on the way says so, and every
    step to the left begins again."""

    length = 16
    steps = 17

    def __init__(self):
        super().__init__()
        self.action_space = Discrete(2)

    def new(self):
        self.place = torch.zeros(N, dtype=torch.long)

    def observe(self):
        return torch.nn.functional.one_hot(self.place, self.length + 1).float()

    def step(self, actions):
        onward = (self.place + 1).clamp(max=self.length)
        self.place = torch.where(actions == 1, onward, 0)
        return super().step(actions)

    def pay(self, actions):
        return (self.place == self.length).float()


def test_curiosity_finds_states_that_chance_does_not(tmp_path):
    common = {"horizon_length": 18, "seq_length": 9, "max_epochs": 100, "normalize_input": False}
    widths = {"rnd": {"units": [64, 32]}, "net": {"units": [64, 64]}}
    network = {"name": "rnd_curiosity", "mlp": widths}
    rnd = {"learning_rate": 1e-3, "scale_value": 0.1, "mini_epochs": 2, "network": network}
    curious = configuration(tmp_path, {}, rnd_config=rnd, entropy_coef=0.01, **common)
    agent, played = train(Corridor, curious)
    assert played.mean_return > 0.9  # chance finds it in one of 43 690 episodes, of 6776 here
    places = torch.eye(17)
    [curiosity] = [part for part in agent.parts if part.name == "curiosity"]
    never, often = curiosity.reward(-3 * places), curiosity.reward(places)
    assert never.mean() > 3 * often.mean()
    # Where nothing is ever paid, normalised advantages are noise that moves the policy anywhere.
    plain = configuration(tmp_path / "without", {}, normalize_advantage=False, **common)
    _, played = train(Corridor, plain)
    assert played.mean_return < 0.5


def test_curiosity_about_dictionaries_of_observations_is_refused(tmp_path):
    with pytest.raises(PhalanxError, match="rnd_curiosity needs vector observations"):
        train(Named, configuration(tmp_path, {"cnn": CNN}, rnd_config={}))


def test_recurrent_state_is_zeroed_exactly_where_an_episode_begins():
    torch.manual_seed(0)
    layer = Recurrent(3, RNNConfig("lstm", units=5))
    x = torch.randn(2, 4, 3)
    states = (torch.randn(1, 2, 5), torch.randn(1, 2, 5))
    begins = torch.tensor([[0.0, 0.0, 1.0, 0.0], [1.0, 0.0, 0.0, 0.0]])
    out, _ = layer(x.flatten(0, 1), states, 4, begins.flatten())
    out = out.view(2, 4, 5)
    zero = (torch.zeros(1, 1, 5), torch.zeros(1, 1, 5))
    # the first sequence: its own state for two steps, then afresh; the second: afresh at once
    first = tuple(s[:, :1].contiguous() for s in states)
    torch.testing.assert_close(out[0, :2], layer.rnn(x[0, :2, None], first)[0][:, 0])
    torch.testing.assert_close(out[0, 2:], layer.rnn(x[0, 2:, None], zero)[0][:, 0])
    torch.testing.assert_close(out[1], layer.rnn(x[1, :, None], zero)[0][:, 0])


def test_a_head_for_sigma_starts_at_its_constant_everywhere():
    config = read_config(
        {
            "name": "actor_critic",
            "mlp": {"units": [8]},
            "space": {
                "continuous": {
                    "fixed_sigma": False,
                    "sigma_init": {"name": "const_initializer", "val": -1.0},
                }
            },
        }
    )
    network = ActorCritic(config, (3,), actions_num=2)
    sigma = network({"obs": torch.randn(10, 3)})[1]
    torch.testing.assert_close(sigma, torch.full((10, 2), -1.0))


def test_sequences_that_do_not_divide_the_horizon_are_refused(tmp_path):
    rnn = {"name": "lstm", "units": 8}
    config = configuration(tmp_path, {"rnn": rnn}, seq_length=5)
    with pytest.raises(PhalanxError, match=r"seq_length 5 does not divide .*horizon_length of 12"):
        train(Remember, config)


@pytest.mark.parametrize(
    ("where", "expected"),
    [
        ("reward", "the rewards of environment 3 in step"),
        ("obs", "the observations of environment 3 in step"),
        ("nowhere", "rewards and observations are finite; try a lower learning rate"),
    ],
)
def test_numbers_that_are_not_finite_end_it_with_a_sentence(tmp_path, where, expected):
    class Broken(Quarters):
        count = 0

        def step(self, actions):
            self.count += 1
            obs, reward, *rest = super().step(actions)
            if self.count == 20:
                reward[3] += float("nan") if where == "reward" else 0.0
                self.obs[3] += float("nan") if where == "obs" else 0.0
            return obs, reward, *rest

    wild = {"learning_rate": 1e30} if where == "nowhere" else {}
    with pytest.raises(PhalanxError, match=expected):
        train(Broken, configuration(tmp_path, {}, **wild))
    weights = checkpoint.load(tmp_path / "x" / "nn" / "last_guess.pth")["model"]
    assert all(v.isfinite().all() for v in weights.values())


def test_without_ppo_the_plain_policy_gradient_learns(tmp_path):
    _, played = train(Quarters, configuration(tmp_path, {}, ppo=False, mini_epochs=1))
    assert played.mean_return > 0.9
