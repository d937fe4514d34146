"""Checkpoints of RL Games 1.6.5 here, and ours there: they play, value and learn the same.

Both packages write a real file; both then read both files. SAC's are in `test_sac.py`.
"""

import functools
import zipfile

import numpy as np
import pytest
import torch

from clockwork import SEVERAL, N
from phalanx.errors import PhalanxError
from phalanx.rl import checkpoint
from phalanx.rl.optimizer import adam, load_optimizer, optimizer_state
from test_rl_games import configuration, our_agent, their_agent

pytestmark = pytest.mark.usefixtures("one_thread")

EPOCHS = 2
LSTM = {"name": "lstm", "units": 6, "layers": 1}
GRU = {**LSTM, "name": "gru"}
CONCAT = {"concat_input": True, "concat_output": True, "layer_norm": True}
CONVS = [
    {"filters": 4, "kernel_size": 3, "strides": 1, "padding": 1},
    {"filters": 3, "kernel_size": 3, "strides": 2, "padding": 0},
]
RESNET = {"name": "resnet_actor_critic", "cnn": {"conv_depths": [3, 2], "activation": "relu"}}
DENSE = {"units": [16, 8], "activation": "tanh", "initializer": {"name": "default"}}
HEAD = {
    "mu_activation": "tanh",
    "sigma_activation": "None",
    "mu_init": {"name": "default"},
    "sigma_init": {"name": "default"},
    "fixed_sigma": False,
}
CRITIC = {
    "network": {"name": "actor_critic", "central_value": True, "mlp": DENSE},
    "minibatch_size": 64,
    "mini_epochs": 2,
    "learning_rate": 2e-3,
    "normalize_input": True,
    "clip_value": True,
    "truncate_grads": True,
    "grad_norm": 0.5,
}
STATES = {"env": {"states": True}, "central_value_config": CRITIC}


def recurrent_critic(rnn):
    critic = {**CRITIC, "network": {**CRITIC["network"], "rnn": rnn}}
    return {"env": {"states": True}, "central_value_config": critic}


def image(kind, **network):
    cnn = {"type": kind, "activation": "relu", "convs": CONVS, "initializer": {"name": "default"}}
    return {"env": {"image": True}, "network": {"cnn": cnn, **network}}


KINDS = {
    "continuous": {},
    "discrete": {"actions": "discrete"},
    "lstm": {"network": {"rnn": LSTM}},
    "separate_lstm": {
        "network": {"rnn": {**LSTM, "layers": 2}, "separate": True, "space": {"continuous": HEAD}}
    },
    "lstm_before": {"network": {"rnn": {**LSTM, "before_mlp": True, "concat_output": True}}},
    "lstm_concat": {"network": {"rnn": {**LSTM, **CONCAT}}},
    "gru_concat": {"network": {"rnn": {**GRU, **CONCAT}}},
    "separate_gru": {
        "actions": "discrete",
        "network": {"rnn": {**GRU, "layer_norm": True, "before_mlp": True}},
    },
    "central_value": STATES,
    "lstm_central_value": {"network": {"rnn": LSTM}, **STATES},
    "discrete_central_value": {"actions": "discrete", **STATES},
    # Beside a policy without memory, RL Games' recurrent critic never forgets; ours does.
    "recurrent_central_value": {"network": {"rnn": GRU}, **recurrent_critic(LSTM)},
    "recurrent_before": {
        "network": {"rnn": LSTM},
        **recurrent_critic({**GRU, "before_mlp": True, "layer_norm": True}),
    },
    "several_lstm": {"actions": "several", "network": {"rnn": LSTM}},
    "d2rl": {"network": {"mlp": {**DENSE, "d2rl": True}, "normalization": "layer_norm"}},
    "conv2d": image("conv2d"),
    "conv2d_separate": image("conv2d", separate=True, normalization="batch_norm", rnn=LSTM),
    "coord_conv2d": image("coord_conv2d"),
    "softargmax": image("conv2d_spatial_softargmax"),
    "resnet_lstm": {"env": {"image": True}, "network": {**RESNET, "mlp": DENSE, "rnn": LSTM}},
}


def train(agent):
    """Iterations with given actions: the two sample by different methods."""
    generator = torch.Generator().manual_seed(agent.epoch_num)
    name = "act" if hasattr(agent, "act") else "get_action_values"  # RL Games'
    sample = getattr(agent, name)

    def act(obs):
        result = sample(obs)
        actions, log_prob = given(result, generator)
        return {**result, "actions": actions, "neglogpacs": -log_prob}

    setattr(agent, name, act)
    agent.train()


def given(result, generator):
    """Actions drawn from `generator`, and their log probability under the policy of `result`."""
    if "mus" in result:
        policy = torch.distributions.Normal(result["mus"], result["sigmas"])
        actions = torch.randn(N, 2, generator=generator)
        return actions, policy.log_prob(actions).sum(-1)
    heads = logits(result)
    actions = [torch.randint(h.shape[1], (N, 1), generator=generator) for h in heads]
    log_prob = [h.log_softmax(-1).gather(1, a) for h, a in zip(heads, actions, strict=True)]
    actions = torch.cat(actions, 1)
    return actions if len(heads) > 1 else actions[:, 0], torch.cat(log_prob, 1).sum(1)


def logits(result):
    """By action, as RL Games has them if there are several."""
    both = result["logits"]
    if isinstance(both, list):
        return both
    return list(both.split(SEVERAL, -1)) if both.shape[1] == sum(SEVERAL) else [both]


def outputs(model, steps):
    """What the model says to each of `steps`: policy if it has one, value and recurrent state. The
    state is carried on; after the second step every third environment forgets it."""
    model.eval()
    found, states = [], None
    if model.is_rnn():
        cells = [m for m in model.modules() if isinstance(m, (torch.nn.LSTM, torch.nn.GRU))]
        kept = [c for c in cells for _ in range(1 + isinstance(c, torch.nn.LSTM))]
        states = [torch.zeros(c.num_layers, N, c.hidden_size) for c in kept]
    for k, obs in enumerate(steps):
        with torch.no_grad():
            result = model({"is_train": False, "obs": obs, "rnn_states": states})
        found += [result[key] for key in ("mus", "sigmas", "values") if key in result]
        found += logits(result) if "logits" in result else []
        if states is not None:
            states = [s.clone() for s in result["rnn_states"]]
            found += [s.clone() for s in states]
            for s in states:
                s[:, ::3] *= float(k != 1)
    return found


def play(runner, file):
    """The actions, by step, that a player takes in an environment of its own."""
    player = runner.create_player()
    player.restore(str(file))
    player.run()
    return torch.stack(getattr(player.env, "env", player.env).played)


def central_model(agent):
    """The central value's model, or None."""
    critic = getattr(agent, "central_value_net", None) or getattr(agent, "central_value", None)
    return critic and critic.model


def learned(agent):
    """All that a checkpoint has of networks and optimisers, by name or number."""
    weights = agent.get_full_state_weights()
    found = dict(weights["model"]) | weights.get("assymetric_vf_nets", {})
    for name in ("optimizer", "assymetric_vf_optimizer"):
        for k, moments in weights.get(name, {"state": {}})["state"].items():
            found |= {f"{name} {k} {key}": v for key, v in moments.items()}
    return found


@pytest.mark.parametrize("kind", KINDS)
def test_checkpoints_play_value_and_train_the_same_in_both(tmp_path, kind):
    options = {"mini_epochs": 2, "lr_schedule": "constant", **KINDS[kind]}
    options["player"] = {"use_vecenv": True, "games_num": 3 * N, "print_stats": False}
    params = functools.partial(configuration, tmp_path, **options)
    theirs, ours = (make(params(max_epochs=EPOCHS))[1] for make in (their_agent, our_agent))
    train(theirs)
    train(ours)
    their_file = next((tmp_path / "theirs" / "nn").glob("last_t_ep_2*.pth"))
    our_file, weights = tmp_path / "ours.pth", tmp_path / "weights.pth"
    (tmp_path / "ours" / "nn" / "last_t.pth").rename(our_file)
    state = checkpoint.load(our_file)
    del state["phalanx"]  # with it we go on within the episodes, where RL Games begins new ones
    checkpoint.save(weights, state)

    steps = torch.randn(5, N, *ours.vec_env.observation_space.shape)
    states = torch.randn(3, N, 4)
    close = functools.partial(torch.testing.assert_close, rtol=1e-6, atol=1e-6)
    for file, without_episodes in ((their_file, their_file), (our_file, weights)):
        their_runner, theirs = their_agent(params(max_epochs=EPOCHS + 1))
        our_runner, ours = our_agent(params(max_epochs=EPOCHS + 1))
        played, expected = play(our_runner, file), play(their_runner, file)
        n = min(len(played), len(expected))
        assert n > 11
        assert expected.float().std() > 1e-3
        close(played[:n], expected[:n])

        theirs.restore(str(file))
        ours.restore(without_episodes)
        assert (ours.epoch_num, ours.frame) == (theirs.epoch_num, theirs.frame)
        close(outputs(ours.model, steps), outputs(theirs.model, steps))
        if central_model(theirs) is not None:
            close(outputs(central_model(ours), states), outputs(central_model(theirs), states))
        before = learned(ours)
        assert all(torch.equal(before[name], v) for name, v in learned(theirs).items())
        before = {k: v.clone() for k, v in before.items()}
        train(theirs)
        train(ours)
        after, expected = learned(ours), learned(theirs)
        for name, value in expected.items():
            torch.testing.assert_close(after[name], value, rtol=1e-4, atol=2e-6, msg=name)
        assert sum(not torch.equal(v, before[k]) for k, v in expected.items()) > len(before) / 2


def test_a_file_of_a_compiled_network_loads(tmp_path):
    params = configuration(tmp_path, network={"rnn": LSTM}, **STATES)
    _, theirs = their_agent(params)
    critic = theirs.central_value_net
    plain = theirs.model, critic.model
    theirs.model, critic.model = (torch.compile(m) for m in plain)  # as `torch_compile: true` does
    theirs.save(str(tmp_path / "compiled"))
    saved = torch.load(tmp_path / "compiled.pth")
    assert all(k.startswith("_orig_mod.") for k in saved["model"])
    assert all(k.startswith("model._orig_mod.") for k in saved["assymetric_vf_nets"])
    _, ours = our_agent(params)
    ours.restore(tmp_path / "compiled.pth")
    for own, their in zip((ours.model, central_model(ours)), plain, strict=True):
        for name, value in their.state_dict().items():
            assert torch.equal(own.state_dict()[name], value), name


def renamed(file, old, new):
    """A copy of a checkpoint whose pickle names `new` instead of `old`."""
    copied = file.with_name("renamed.pth")
    with zipfile.ZipFile(file) as source, zipfile.ZipFile(copied, "w") as target:
        for name in source.namelist():
            content = source.read(name)
            target.writestr(name, content.replace(old, new) if name.endswith(".pkl") else content)
    return copied


@pytest.mark.parametrize("names", [b"numpy.core.multiarray", b"numpy._core.multiarray"])
def test_numpy_numbers_of_every_numpy_load(tmp_path, names):
    """RL Games' best reward; NumPy 1 wrote other module names into pickles than NumPy 2."""
    file = tmp_path / "numbers.pth"
    numbers = {"last_mean_rewards": np.float32(12.5), "count": np.int64(3), "rows": np.ones((2, 3))}
    torch.save({"model": {"w": torch.ones(2)}, **numbers}, file)
    state = checkpoint.load(renamed(file, b"numpy._core.multiarray", names))
    assert (state["last_mean_rewards"], state["count"]) == (12.5, 3)
    assert state["rows"].tolist() == [[1.0] * 3] * 2
    with pytest.raises(PhalanxError, match="it was not loaded"):
        checkpoint.load(renamed(file, b"numpy._core.multiarray\nscalar", b"numpy\nfromfile"))


def test_normalisers_saved_outside_the_model_are_loaded(tmp_path):
    """As rl-games 1.1 and 1.2 wrote them."""
    _, agent = our_agent(configuration(tmp_path, max_epochs=1))
    agent.train()
    model = agent.model.state_dict()
    old = {"model": {k: v for k, v in model.items() if "mean_std" not in k}}
    for key, prefix in (("running_mean_std", "running_mean_std."), ("reward_mean_std", "value_m")):
        part = {k: v for k, v in model.items() if k.startswith(prefix)}
        old[key] = {k.partition(".")[2]: v for k, v in part.items()}
    torch.save(old, tmp_path / "old.pth")
    loaded = checkpoint.load(tmp_path / "old.pth")["model"]
    assert loaded.keys() == model.keys()
    assert all(torch.equal(loaded[k], v) for k, v in model.items())


def test_an_optimiser_of_parameters_in_another_order_is_refused():
    first, second = (
        adam([torch.zeros(n, requires_grad=True) for n in sizes], 1e-3, torch.device("cpu"))
        for sizes in ((2, 3), (3, 2))
    )
    for parameter in first.param_groups[0]["params"]:
        parameter.grad = torch.ones_like(parameter)
    first.step()
    with pytest.raises(PhalanxError, match="another order"):
        load_optimizer(second, optimizer_state(first))
