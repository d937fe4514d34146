"""SAC and DQN on a GPU: graphs equal to eager code to the bit, and nothing waits for the device.

CI has no GPU and says that these skip. They need no physics, so they run wherever torch does.
"""

import contextlib

import pytest
import torch

from captured import no_waiting
from phalanx.rl import Runner, vecenv
from phalanx.spaces import Box, Discrete

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")


class Drift:
    """x' = x + 0.1 a; an episode terminates far from the origin and times out after 50 steps."""

    observation_space = Box((8,))

    def __init__(self, num_envs, discrete):
        self.num_envs, self.device = num_envs, torch.device("cuda:0")
        self.action_space = Discrete(4) if discrete else Box((3,), -2.0, 2.0)
        self.x = torch.zeros(num_envs, 8, device=self.device)
        self.t = torch.arange(num_envs, device=self.device) % 50
        self.reached, self.reward = self.x.clone(), self.x[:, 0].clone()
        self.terminated = torch.zeros(num_envs, dtype=torch.bool, device=self.device)
        self.truncated = self.terminated.clone()

    @property
    def observations(self):
        return {"obs": self.x}

    def reset(self):
        self.x.normal_()
        return self.observations

    def step(self, actions):
        if isinstance(self.action_space, Discrete):
            actions = torch.nn.functional.one_hot(actions, 4)[:, :3].float()
        self.t += 1
        self.reached.copy_(self.x)
        self.reached[:, :3] += 0.1 * actions
        self.reward.copy_(-self.reached.square().sum(-1))
        self.terminated.copy_(self.reached[:, 0].abs() > 3)
        self.truncated.copy_((self.t >= 50) & ~self.terminated)
        done = self.terminated | self.truncated
        self.x.copy_(torch.where(done[:, None], torch.randn_like(self.x), self.reached))
        self.t.masked_fill_(done, 0)
        infos = {"terminal": {"obs": self.reached}}
        return self.observations, self.reward, self.terminated, self.truncated, infos

    def state_dict(self):
        return {"x": self.x.clone(), "t": self.t.clone()}

    def load_state_dict(self, state):
        self.x.copy_(state["x"])
        self.t.copy_(state["t"])

    def capture(self):
        return contextlib.nullcontext()


def make_agent(folder, algo, **changes):
    vecenv.register("drift", lambda name, num_envs, device, **options: Drift(num_envs, **options))
    network = {"mlp": {"units": [64, 64], "activation": "swish"}, "normalization": "layer_norm"}
    config = {
        "name": "t",
        "env_name": "drift",
        "env_config": {"discrete": algo == "dqn"},
        "num_actors": 512,
        "normalize_input": True,
        "batch_size": 1024,
        "n_step": 3,
        "num_updates_per_step": 8,
        "replay_buffer_size": 512 * 20,
        "num_warmup_steps": 5,
        "max_epochs": 48,
        "train_dir": str(folder),
    }
    name = {"sac": "soft_actor_critic", "dqn": "q_network"}[algo]
    runner = Runner()
    runner.load(
        {
            "seed": 1,
            "algo": {"name": algo},
            "network": {"name": name, **network},
            "config": {**config, **changes},
        }
    )
    return runner.algo_factory.create(algo, base_name="run", params=runner.params)


VARIANTS = [
    ("sac", {"policy_frequency": 3}),
    ("dqn", {}),
    ("dqn", {"replay_buffer_type": "prioritized"}),
]


@pytest.mark.parametrize(("algo", "changes"), VARIANTS, ids=["sac", "dqn", "prioritised"])
def test_captured_training_equals_eager_training(tmp_path, algo, changes):
    weights = []
    for captures in (True, False):
        agent = make_agent(tmp_path, algo, **changes)
        assert agent.captures
        agent.captures = agent.captures_update = captures
        agent.train()
        # 8 updates a step: their pattern repeats after as many steps as the actor's frequency
        learning = [g for (what, _), g in agent.run.graphs.items() if what == "learn"]
        assert len(learning) == (agent.period if captures else 0)
        assert all(g._graph is not None for g in learning)
        weights.append({k: v.clone() for k, v in agent.model.state_dict().items()})
    for name, value in weights[0].items():
        assert torch.equal(value, weights[1][name]), name


@pytest.mark.parametrize(("algo", "changes"), VARIANTS, ids=["sac", "dqn", "prioritised"])
def test_no_step_or_update_waits_for_the_device(tmp_path, algo, changes):
    agent = make_agent(tmp_path, algo, **changes)
    agent.train()
    with no_waiting():
        agent.collect(agent.hooked_env)
        agent.update(0)
