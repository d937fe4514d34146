"""A program of tests/test_ranks.py: `equal_batches.py <folder>` trains several kinds of PPO, whose
environments and noise are shared among the ranks, so that together they see what one process sees.
Rank 0 writes the weights of each."""

import sys

import torch

from phalanx.rl import Runner, ranks, vecenv
from phalanx.spaces import Box

ALL = 32
NOISE = torch.randn(64, ALL, 2, generator=torch.Generator().manual_seed(0))


def mine():
    each = ALL // ranks.size()
    return slice(ranks.rank() * each, (ranks.rank() + 1) * each)


class Shared:
    """x' = x + 0.1 a, reward -|x|^2; this rank's environments of all 32."""

    device = torch.device("cpu")
    observation_space, state_space, action_space = Box((3,)), Box((4,)), Box((2,), -1.0, 1.0)

    def __init__(self):
        self.start = torch.linspace(-1, 1, ALL * 3).reshape(ALL, 3)[mine()]
        self.number = torch.arange(ALL)[mine()]
        self.num_envs = len(self.start)
        self.reset()

    @property
    def observations(self):
        seen = self.x.clone()
        return {"obs": seen, "states": torch.cat([seen, seen.prod(1, keepdim=True)], 1)}

    def reset(self):
        self.t, self.x = 0, self.start.clone()
        return self.observations

    def step(self, actions):
        self.t += 1
        self.x = self.x.clone()
        self.x[:, :2] += 0.1 * actions
        self.x[:, 2] = torch.sin(self.x[:, 0] + 0.1 * self.t)
        reached = self.observations
        ended = (self.number + self.t) % 7 == 0
        reward = -self.x.square().sum(-1)
        self.x[ended] = self.start[ended]
        never = torch.zeros_like(ended)
        return self.observations, reward, ended, never, {"terminal": reached}

    def state_dict(self):
        return {"t": self.t, "x": self.x}

    def load_state_dict(self, state):
        self.t, self.x = state["t"], state["x"]


def config(folder, name):
    network = {
        "name": "actor_critic",
        "mlp": {"units": [128, 64], "activation": "elu"},
        "space": {"continuous": {"fixed_sigma": True}},
    }
    settings = {
        "name": name,
        "env_name": "shared",
        "multi_gpu": True,
        "device": "cpu",
        "normalize_value": True,
        "lr_schedule": "adaptive",
        "kl_threshold": 0.004,
        "learning_rate": 3e-4,
        "e_clip": 0.2,
        "clip_value": True,
        "entropy_coef": 0.01,
        "horizon_length": 8,
        "mini_epochs": 3,
        "minibatch_size": 8 * ALL // ranks.size(),
        "max_epochs": 6,
        "train_dir": folder,
        "full_experiment_name": name,
    }
    if name == "plain":  # computed by torch; the others by compiled functions, as far as they fit
        settings["torch_compile"] = False
    if name == "lstm":
        network["rnn"] = {"name": "lstm", "units": 16, "layers": 1}
        settings["seq_length"] = 4
    if name == "central":
        own = {"minibatch_size": settings["minibatch_size"], "learning_rate": 1e-3}
        own |= {"mini_epochs": 2, "normalize_input": True}
        settings["central_value_config"] = {**own, "network": {"mlp": network["mlp"]}}
    if name == "curious":
        settings["rnd_config"] = {"mini_epochs": 2}
        settings["normalize_rms_advantage"] = True
    return {"seed": 5, "algo": {"name": "a2c_continuous"}, "network": network, "config": settings}


def main(folder):
    vecenv.register("shared", lambda **options: Shared())
    ranks.join("cpu")
    for name in ("plain", "compiled", "lstm", "central", "curious"):
        runner = Runner()
        runner.load({"params": config(folder, name)})
        agent = runner.algo_factory.create(runner.algo_name, base_name="run", params=runner.params)
        noise = iter(NOISE)
        torch.randn_like = lambda x, noise=noise: next(noise)[mine()]
        agent.train()
        compiled = getattr(agent, "compiled_loss", None) is not None
        print(name, "frames", agent.frame, "compiled", compiled, flush=True)


if __name__ == "__main__":
    main(sys.argv[1])
