"""An environment without chance, behind Phalanx' interface and behind RL Games'."""

import gymnasium
import numpy as np
import torch
from rl_games.common import env_configurations
from rl_games.common import vecenv as their_vecenv
from rl_games.common.ivecenv import IVecEnv

from phalanx.rl import Runner, vecenv
from phalanx.spaces import Box, Discrete

N = 16


class Clockwork:
    """x' = x + 0.1 a, reward -|x'|^2; terminations and time-outs come by the clock."""

    num_envs = N
    device = torch.device("cpu")
    observation_space = Box((3,))

    def __init__(self, high: float = 1.0, discrete: bool = False) -> None:
        self.action_space = Discrete(3) if discrete else Box((2,), -high, high)
        self.start = torch.linspace(-1, 1, N * 3).reshape(N, 3)
        self.reset()

    @property
    def observations(self):
        return {"obs": self.x}

    def reset(self):
        self.t = 0
        self.x = self.start.clone()
        return self.observations

    def step(self, actions):
        if isinstance(self.action_space, Discrete):
            actions = torch.stack([actions - 1.0, 1.0 - actions], 1)
        self.t += 1
        x = self.x.clone()
        x[:, :2] += 0.1 * actions
        x[:, 2] = torch.sin(x[:, 0] + 0.1 * self.t)
        clock = torch.arange(N) + self.t
        terminated = clock % 11 == 0
        truncated = (clock % 7 == 0) & ~terminated
        self.x = torch.where((terminated | truncated)[:, None], self.start, x)
        reward = -x.square().sum(-1)
        return self.observations, reward, terminated, truncated, {"terminal": {"obs": x}}

    def state_dict(self):
        return {"t": self.t, "x": self.x.clone()}

    def load_state_dict(self, state):
        self.t, self.x = state["t"], state["x"].clone()


class Theirs(IVecEnv):
    """The same behind RL Games' interface."""

    def __init__(self, high: float = 1.0) -> None:
        self.env = Clockwork(high)

    def reset(self):
        return self.env.reset()["obs"]

    def step(self, actions):
        obs, reward, terminated, truncated, _ = self.env.step(actions)
        return obs["obs"], reward, terminated | truncated, {"time_outs": truncated}

    def get_number_of_agents(self):
        return 1

    def get_env_info(self):
        high = self.env.action_space.high
        return {
            "observation_space": gymnasium.spaces.Box(-np.inf, np.inf, (3,)),
            "action_space": gymnasium.spaces.Box(-high, high, (2,)),
        }


vecenv.register("clockwork", lambda name, num_envs, device, **options: Clockwork(**options))
their_vecenv.register("CLOCKWORK", lambda name, num, seed=0, **options: Theirs(**options))
env_configurations.register(
    "clockwork",
    {"vecenv_type": "CLOCKWORK", "env_creator": lambda seed=0, **options: Theirs(**options)},
)


def same(a, b):
    """Equal to the bit, within mappings and lists too; wall-clock times aside."""
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[k], b[k]) for k in a if k != "total_time")
    if isinstance(a, (list, tuple)):
        return len(a) == len(b) and all(same(x, y) for x, y in zip(a, b, strict=True))
    return torch.equal(a, b) if isinstance(a, torch.Tensor) else a == b


def make_agent(params, runner=Runner):
    """An agent as the runner of ours, or RL Games' given as `runner`, makes it."""
    runner = runner()
    runner.load({"params": params})
    return runner, runner.algo_factory.create(
        runner.algo_name, base_name="run", params=runner.params
    )
