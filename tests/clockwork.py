"""A deterministic environment, with Phalanx' interface and with RL Games'."""

import math

import gymnasium
import numpy as np
import torch
from rl_games.common import env_configurations
from rl_games.common import vecenv as their_vecenv
from rl_games.common.ivecenv import IVecEnv

from phalanx.rl import Runner, vecenv
from phalanx.spaces import Box, Discrete, MultiDiscrete

N = 16
IMAGE = (6, 8, 2)  # not square, so that swapping height and width is detected
SEVERAL = (3, 2)


class Clockwork:
    """x' = x + 0.1 a, reward -|x'|^2; terminations and time-outs follow a clock.

    `actions` is continuous (to +-high), discrete or several. With `image`, x is observed as an
    image; with `states` a critic observes the clock. `played` stores the actions.
    """

    num_envs = N
    device = torch.device("cpu")

    def __init__(
        self,
        high: float = 1.0,
        actions: str = "continuous",
        image: bool = False,
        states: bool = False,
    ) -> None:
        spaces = {
            "continuous": Box((2,), -high, high),
            "discrete": Discrete(3),
            "several": MultiDiscrete(SEVERAL),
        }
        self.action_space = spaces[actions]
        self.observation_space = Box(IMAGE if image else (3,))
        self.state_space = Box((4,)) if states else None
        self.start = torch.linspace(-1, 1, N * 3).reshape(N, 3)
        self.played = []
        self.reset()

    @property
    def observations(self):
        return self.see(self.x)

    def see(self, x):
        seen = x
        if len(self.observation_space.shape) == 3:
            pixels = torch.arange(3 * math.prod(IMAGE)).reshape(3, -1).sin()
            seen = torch.sin(x @ pixels).reshape(N, *IMAGE)
        if self.state_space is None:
            return {"obs": seen}
        return {"obs": seen, "states": torch.cat([x, torch.full((N, 1), self.t % 5.0)], 1)}

    def reset(self):
        self.t = 0
        self.x = self.start.clone()
        return self.observations

    def step(self, actions):
        self.played.append(actions.clone())
        if isinstance(self.action_space, Discrete):
            actions = torch.stack([actions - 1.0, 1.0 - actions], 1)
        elif isinstance(self.action_space, MultiDiscrete):
            actions = actions - 0.5
        self.t += 1
        x = self.x.clone()
        x[:, :2] += 0.1 * actions
        x[:, 2] = torch.sin(x[:, 0] + 0.1 * self.t)
        clock = torch.arange(N) + self.t
        terminated = clock % 11 == 0
        truncated = (clock % 7 == 0) & ~terminated
        self.x = torch.where((terminated | truncated)[:, None], self.start, x)
        reward = -x.square().sum(-1)
        return self.observations, reward, terminated, truncated, {"terminal": self.see(x)}

    def state_dict(self):
        return {"t": self.t, "x": self.x.clone()}

    def load_state_dict(self, state):
        self.t, self.x = state["t"], state["x"].clone()


class Numbers(Clockwork):
    """The same in other types of numbers."""

    def step(self, actions):
        obs, reward, terminated, truncated, infos = super().step(actions)
        return obs, reward.double(), terminated.int(), truncated.float(), infos

    def see(self, x):
        return {name: seen.double() for name, seen in super().see(x).items()}


class Theirs(IVecEnv):
    """The same with RL Games' interface."""

    def __init__(self, **options) -> None:
        self.env = Clockwork(**options)

    def reset(self):
        return self.env.reset()

    def step(self, actions):
        obs, reward, terminated, truncated, _ = self.env.step(actions)
        return obs, reward, terminated | truncated, {"time_outs": truncated}

    def get_number_of_agents(self):
        return 1

    def get_env_info(self):
        env, spaces = self.env, gymnasium.spaces
        actions = env.action_space
        if isinstance(actions, Box):
            actions = spaces.Box(actions.low, actions.high, actions.shape)
        elif isinstance(actions, Discrete):
            actions = spaces.Discrete(actions.n)
        else:
            actions = spaces.Tuple([spaces.Discrete(n) for n in actions.nvec])
        info = {
            "observation_space": spaces.Box(-np.inf, np.inf, env.observation_space.shape),
            "action_space": actions,
        }
        if env.state_space is not None:
            info["state_space"] = spaces.Box(-np.inf, np.inf, env.state_space.shape)
        return info


vecenv.register("clockwork", lambda name, num_envs, device, **options: Clockwork(**options))
vecenv.register("numbers", lambda **_: Numbers())
their_vecenv.register("CLOCKWORK", lambda name, num, seed=0, **options: Theirs(**options))
env_configurations.register(
    "clockwork",
    {"vecenv_type": "CLOCKWORK", "env_creator": lambda seed=0, **options: Theirs(**options)},
)


def same(a, b):
    """Whether a and b are bit-identical, also within mappings and lists, except wall-clock
    times."""
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[k], b[k]) for k in a if k != "total_time")
    if isinstance(a, (list, tuple)):
        return len(a) == len(b) and all(same(x, y) for x, y in zip(a, b, strict=True))
    return torch.equal(a, b) if isinstance(a, torch.Tensor) else a == b


def make_agent(params, runner=Runner):
    """An agent made by our Runner, or by RL Games' if given as `runner`."""
    runner = runner()
    runner.load({"params": params})
    return runner, runner.algo_factory.create(
        runner.algo_name, base_name="run", params=runner.params
    )
