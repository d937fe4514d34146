"""A student learns from a teacher that sees more."""

import copy

import pytest
import torch
import yaml

from phalanx.errors import PhalanxError
from phalanx.rl import Runner, checkpoint
from phalanx.spaces import Box

N, T = 32, 8


class Hidden:
    """Two numbers: a new one, which the student sees, and that of the step before, which it has to
    remember."""

    num_envs, device = N, "cpu"
    observation_space, state_space, action_space = Box((1,)), Box((2,)), Box((1,), -1.0, 1.0)

    def __init__(self):
        self.now = torch.zeros(N, 2)

    def _seen(self):
        return {"obs": self.now[:, :1].clone(), "states": self.now.clone()}

    def reset(self):
        return self._seen()

    def state_dict(self):
        return {}

    def step(self, actions):
        self.now = torch.cat([2 * torch.rand(N, 1) - 1, self.now[:, :1]], 1)
        never = torch.zeros(N, dtype=torch.bool)
        return self._seen(), torch.zeros(N), never, never, {"terminal": self._seen()}


def params(tmp_path, rnn):
    network = {
        "name": "actor_critic",
        "separate": False,
        "mlp": {"units": [32], "activation": "elu"},
    }
    network["space"] = {"continuous": {"sigma_init": {"name": "const_initializer", "val": -2}}}
    network["space"]["continuous"]["fixed_sigma"] = True
    student = copy.deepcopy(network)
    if rnn:
        student["rnn"] = {"name": "gru", "units": 16, "layers": 1, "before_mlp": True}
    config = {
        "teacher": {"checkpoint": str(tmp_path / "teacher.pth"), "network": network},
        "name": "student",
        "env_name": "hidden",
        "device": "cpu",
        "train_dir": str(tmp_path),
        "normalize_input": True,
        "normalize_value": True,
        "horizon_length": T,
        "seq_length": T,
        "minibatch_size_per_env": 2,
        "mini_epochs": 2,
        "learning_rate": 1e-2,
        "gamma": 0.99,
        "tau": 0.95,
        "max_epochs": 60,
        "torch_compile": False,
    }
    model = {"name": "continuous_a2c_logstd"}
    return {"algo": {"name": "distillation"}, "model": model, "network": student, "config": config}


@pytest.fixture
def teacher(tmp_path):
    """A teacher with the weights it was born with; it sees both numbers."""
    from phalanx import environments

    environments.register("hidden", lambda **_: Hidden())
    given = params(tmp_path, rnn=False)
    given["algo"]["name"] = "a2c_continuous"
    config = {k: v for k, v in given["config"].items() if k != "teacher"}
    environments.register("open", lambda **_: Open())
    runner = Runner()
    runner.load({"params": {**given, "config": {**config, "env_name": "open", "name": "t"}}})
    agent = runner.algo_factory.create(runner.algo_name, base_name="run", params=runner.params)
    checkpoint.save(tmp_path / "teacher.pth", agent.get_weights())
    return agent.model.eval()


class Open(Hidden):
    """The teacher's own environment: it sees the states."""

    observation_space, state_space = Box((2,)), None

    def _seen(self):
        return {"obs": self.now.clone()}


def last_loss(tmp_path, rnn):
    torch.manual_seed(0)
    runner = Runner()
    runner.load({"params": params(tmp_path, rnn)})
    agent = runner.algo_factory.create(runner.algo_name, base_name="run", params=runner.params)
    agent.train()
    return float(agent.losses[0]), agent


def test_a_student_that_remembers_acts_as_the_teacher_that_sees_all(tmp_path, teacher):
    loss, agent = last_loss(tmp_path, rnn=True)
    spread = agent.wanted.var()
    assert loss < 0.2 * spread
    states = agent.states.flatten(0, 1)
    assert torch.allclose(agent.wanted, teacher.run({"obs": states})[0], atol=1e-5)


def test_what_is_missing_is_named(tmp_path, teacher):
    given = yaml.safe_load(yaml.safe_dump(params(tmp_path, rnn=False)))
    for change, sentence in (
        ({"teacher": None}, "teacher is missing"),
        ({"lr_schedule": "adaptive"}, "lr_schedule is adaptive, which needs PPO's KL"),
        ({"symmetry_config": {}}, "config.symmetry_config is for PPO's rewards and values, of whi"),
        ({"use_diagnostics": True}, "config.use_diagnostics is for PPO's rewards and values, of"),
        ({"env_name": "open"}, "distillation needs an environment with states"),
        ({"teacher": {"checkpoint": str(tmp_path / "no.pth")}}, "no checkpoint at .*no.pth"),
    ):
        runner = Runner()
        runner.load({"params": {**given, "config": {**given["config"], **change}}})
        with pytest.raises(PhalanxError, match=sentence):
            runner.algo_factory.create(runner.algo_name, base_name="run", params=runner.params)
