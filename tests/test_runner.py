"""The Runner takes RL Games' files as they are, and says what it does not take."""

import math
import random
import warnings

import numpy as np
import pytest
import torch

from clockwork import IMAGE, Clockwork, N
from phalanx import environments
from phalanx.errors import PhalanxError, PhalanxWarning
from phalanx.rl import AlgoObserver, DefaultAlgoObserver, IsaacAlgoObserver, Runner, vecenv
from phalanx.rl.agents import A2CAgent
from phalanx.rl.initializers import initialize
from phalanx.rl.params import keys_without_effect
from test_rl_games import configuration, our_agent
from test_rl_games_checkpoints import CRITIC, STATES, image

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture
def made(monkeypatch):
    """What an environment `seen`, with a creator of its own, was made with."""
    found = {}

    def make(num_envs, device, seed=None, **options):
        found.update(options, num_envs=num_envs, seed=seed)
        return Clockwork()

    monkeypatch.setitem(environments._creators, "seen", make)
    return found


def test_the_creator_gets_any_key_of_env_config_and_the_seed(tmp_path, made):
    given = {"env_name": "Ant-v4", "name": "Ant", "frame_skip": 2}
    our_agent(configuration(tmp_path, env_name="seen", env_config=given, num_actors=-1))
    assert made == {**given, "num_envs": None, "seed": 7}
    our_agent(configuration(tmp_path, env_name="seen", env_config={"seed": 3}))
    assert made["seed"] == 3


def test_a_seed_reaches_torch_numpy_and_python(tmp_path):
    def drawn(seed):
        Runner().load({"params": {**configuration(tmp_path), "seed": seed}})
        return float(torch.rand(())), float(np.random.rand()), random.random()  # noqa: NPY002

    first, second = drawn(5), drawn(6)
    assert drawn(5) == first
    assert all(a != b for a, b in zip(first, second, strict=True))
    assert drawn(0) == drawn(0)  # a seed like any other


def refusal(tmp_path, top=None, **changes):
    with pytest.raises(PhalanxError) as caught:
        our_agent(configuration(tmp_path, **changes) | (top or {}))
    return str(caught.value)


@pytest.mark.parametrize(
    ("top", "words"),
    [
        ({"sed": 3}, "unknown key params.sed; did you mean 'seed'?"),
        ({"seed": "abc"}, "params.seed is 'abc'; it must be a whole number"),
        ({"seed": -2}, "params.seed is -2; it must be at least -1"),
        ({"algo": {}}, "params.algo.name is missing"),
        ({"algo": {"name": {"a": 1}}}, "params.algo.name is {'a': 1}; it must be a name"),
        ({"model": 3}, "params.model is 3; it must be"),
    ],
)
def test_wrong_keys_of_params_itself_are_named(tmp_path, top, words):
    assert words in refusal(tmp_path, top)


@pytest.mark.parametrize("model", [None, "continuous_a2c_logstd", {}])
def test_a_model_may_be_named_by_a_name_alone_or_not_at_all(tmp_path, model):
    _, agent = our_agent(configuration(tmp_path) | {"model": model})
    assert type(agent.model).__name__ == "ContinuousLogStdNetwork"


def test_models_of_older_files_bring_their_memory(tmp_path):
    config = configuration(tmp_path)
    config["model"] = {"name": "continuous_a2c_lstm_logstd"}
    config["network"]["lstm"] = {"units": 6, "concated": False}
    _, agent = our_agent(config)
    assert type(agent.model).__name__ == "ContinuousLogStdNetwork"
    assert agent.model.a2c_network.rnn.rnn.hidden_size == 6


def test_values_without_effect_are_named_too(tmp_path, monkeypatch):
    rnd = {"episodic": True, "network": {"name": "rnd_curiosity", "mlp": {"units": [4]}}}
    config = configuration(
        tmp_path, multi_gpu=True, lr_schedule="polynom_decay", rnd_config=rnd, device_name="cpu"
    )
    assert {"multi_gpu", "lr_schedule", "rnd_config.episodic"} <= set(
        keys_without_effect(config, A2CAgent.Config)
    )
    our_agent(config)
    for name, value in {"RANK": "1", "LOCAL_RANK": "1", "WORLD_SIZE": "2"}.items():
        monkeypatch.setenv(name, value)
    assert "the environment has no MASTER_ADDR" in refusal(tmp_path, multi_gpu=True)


def test_initializers_fill_what_their_options_say():
    weight = torch.empty(5, 3, 2)
    initialize(weight, {"name": "const_initializer", "value": 0.5})
    assert (weight == 0.5).all()
    initialize(weight, {"name": "normc_initializer", "std": 0.1})
    torch.testing.assert_close(weight.flatten(1).norm(dim=1), torch.full((5,), 0.1))


@pytest.mark.parametrize(
    ("space", "deviation"),
    [
        ({"min_sigma": 0.2}, math.exp(-0.5) + 0.2),
        ({"logstd_bounds": [-0.3, 2.0]}, math.exp(-0.3)),
        ({"sigma_parametrization": "softplus"}, math.log(1 + math.exp(-0.5))),
        (
            {"sigma_parametrization": "scalar", "min_sigma": 0.1},
            0.1 + math.log(1 + math.exp(-0.6)),
        ),
    ],
)
def test_the_standard_deviation_by_its_parametrization(tmp_path, space, deviation):
    config = configuration(tmp_path)
    config["network"]["space"]["continuous"] |= space
    _, agent = our_agent(config)
    result = agent.model(
        {"is_train": False, "obs": torch.zeros(N, *Clockwork().observation_space.shape)}
    )
    torch.testing.assert_close(result["sigmas"], torch.full_like(result["mus"], deviation))


def test_wrong_values_of_config_are_named(tmp_path):
    said = refusal(tmp_path, self_play_config={"update_score": 1})
    assert "self play, which Phalanx does not support" in said
    assert "num_actors is 0" in refusal(tmp_path, num_actors=0)
    assert "params.config.device: unknown device 'gpu'" in refusal(tmp_path, device="gpu")
    if not torch.cuda.is_available():
        assert "PyTorch finds no CUDA device" in refusal(tmp_path, device="cuda:0")
    said = refusal(tmp_path, network={"mlp": {"units": [8], "activation": "eluu"}})
    assert "params.network.mlp.activation is 'eluu'; did you mean 'elu'?" in said
    start = {"units": [8], "initializer": {"name": "orthogonal", "gian": 2}}
    said = refusal(tmp_path, network={"mlp": start})
    assert "params.network.mlp.initializer: 'orthogonal' does not take these options" in said


def test_faults_of_a_critic_name_its_own_section(tmp_path):
    def said(**changes):
        critic = {**CRITIC, **changes}
        return refusal(tmp_path, **{**STATES, "central_value_config": critic})

    where = "params.config.central_value_config.network"
    network = CRITIC["network"]
    wrong_rnn = {**network, "rnn": {"name": "lstm", "units": 4, "depth": 1}}
    assert f"unknown key {where}.rnn.depth" in said(network=wrong_rnn)
    model = {"name": "continuous_a2c_logstd"}
    assert f"{where} belongs to a critic, so its model must be central_value" in said(model=model)


def test_faults_of_images_name_the_layout(tmp_path):
    big = image("conv2d")
    convs = [{"filters": 4, "kernel_size": 7, "strides": 1, "padding": 0}]
    big["network"]["cnn"] = {**big["network"]["cnn"], "convs": convs, "permute_input": False}
    said = refusal(tmp_path, **big)
    assert f"images of shape {IMAGE} with channels first (permute_input: false)" in said


def test_max_steps_is_max_frames(tmp_path):
    _, agent = our_agent(configuration(tmp_path, max_steps=3 * 8 * N, max_epochs=-1))
    agent.train()
    assert agent.frame == 3 * 8 * N


class Bytes(Clockwork):
    """Its image comes as bytes."""

    def see(self, x):
        return {k: ((v + 1) * 127).to(torch.uint8) for k, v in super().see(x).items()}


def test_images_as_bytes_are_divided_by_255(tmp_path, monkeypatch):
    create = lambda name, num_envs, device, image=False: Bytes(image=image)  # noqa: E731
    monkeypatch.setitem(environments._creators, "bytes", create)
    network, env = image("conv2d")["network"], {"env_name": "bytes", "normalize_input": False}
    config = configuration(tmp_path, network=network, max_epochs=1, **env)
    config["config"]["env_config"] = {"image": True}
    _, agent = our_agent(config)
    seen = agent.vec_env.reset()["obs"]
    assert torch.equal(seen, Bytes(image=True).reset()["obs"].float() / 255)
    agent.train()
    config = configuration(tmp_path, max_epochs=1, **env)
    config["config"]["env_config"] = {}
    with pytest.raises(PhalanxError, match=r"observations are bytes \(torch.uint8\)"):
        our_agent(config)[1].train()


def test_an_unknown_key_of_env_config_is_named():
    create = lambda name, num_envs: Clockwork()  # noqa: E731
    vecenv.register("plain", create)
    with pytest.raises(PhalanxError, match="env_config does not fit the environment 'plain'"):
        vecenv.create("plain", name="t", num_envs=2, colour="red")


def test_a_name_that_gymnasium_knows_runs_in_gymnasium(tmp_path):
    env = vecenv.create("CartPole-v1", name="t", num_envs=2, device="cpu", seed=1)
    assert env.observation_space.shape == (4,)
    env.close()
    with pytest.raises(PhalanxError, match=r"env_name: gymnasium.*id: Pendulum-v1"):
        vecenv.create("envpool", name="t", num_envs=2, device="cpu", env_name="Pendulum-v1")
    with pytest.raises(PhalanxError, match="register your own with"):
        vecenv.create("smac", name="3m", num_envs=2, device="cpu")


def test_keys_without_effect_are_named_from_python(tmp_path):
    config = configuration(tmp_path, self_play=True, max_epochs=1)
    config["network"]["mlp"]["regularizer"] = {"name": "None"}
    config["load_path"] = ""
    runner = Runner()
    runner.load({"params": config, "pbt": {"enabled": False}})
    with pytest.warns(PhalanxWarning, match="without effect: device_name, load_path, net.*pbt"):
        runner.run({"train": True})
    assert keys_without_effect(config, A2CAgent.Config) == [
        *("device_name", "load_path", "network.mlp.regularizer", "player.use_vecenv", "self_play")
    ]


def test_an_observer_that_shows_warnings_is_left_to_it(tmp_path):
    class Shows(AlgoObserver):
        shows_warnings = True

    runner = Runner(Shows())
    runner.load({"params": configuration(tmp_path, self_play=True, max_epochs=1)})
    with warnings.catch_warnings():
        warnings.simplefilter("error", PhalanxWarning)
        runner.run({"train": True})


class Writer:
    def __init__(self):
        self.points = {}

    def add_scalar(self, tag, value, at):
        self.points[tag] = (float(value), at)


class Algo:
    def __init__(self):
        self.writer = Writer()
        self.config = type("Config", (), {"games_to_track": 3})()
        self.games_to_track, self.ppo_device, self.device, self.num_agents = 3, "cpu", "cpu", 1


STEPS = [
    {"scores": torch.tensor([1.0, 2.0]), "episode": {"a": torch.tensor([1.0, 3.0])}, "x": 2},
    {"scores": torch.tensor([5.0, 9.0]), "episode": {"a": 5.0}, "x": torch.tensor(4.0)},
]


@pytest.mark.parametrize("name", ["DefaultAlgoObserver", "IsaacAlgoObserver"])
def test_observers_log_what_those_of_rl_games_log(name):
    from rl_games.common import algo_observer as theirs

    def logged(observer):
        algo = Algo()
        observer.after_init(algo)
        for infos in STEPS:
            copied = {k: dict(v) if isinstance(v, dict) else v for k, v in infos.items()}
            observer.process_infos(copied, torch.tensor([[1]]))
        observer.after_print_stats(64, 3, 1.5)
        return algo.writer.points

    ours = {"DefaultAlgoObserver": DefaultAlgoObserver, "IsaacAlgoObserver": IsaacAlgoObserver}
    expected = logged(getattr(theirs, name)())
    assert expected
    assert logged(ours[name]()) == expected
