"""Phalanx tasks for RL Games 1.6: its own Runner trains them by name.

    import phalanx.adapters.rl_games  # registers every task
    params["config"] |= {"env_name": "Cartpole", "num_actors": 64, "env_config": {"device": "cpu"}}
    rl_games.torch_runner.Runner().load({"params": params})

RL Games takes one flag `done` for both kinds of ends, and infos["time_outs"], (N,), for the
time-outs among them. With `value_bootstrap: True` it adds gamma V(s), the value *before* the step,
to their reward (a2c_common.py 806); it never uses the observation reached.
"""

from typing import Any

import torch
from torch import Tensor

from phalanx import tasks
from phalanx.errors import PhalanxError
from phalanx.spaces import MultiDiscrete

try:
    from gymnasium import spaces
    from rl_games.common import env_configurations, vecenv
    from rl_games.common.ivecenv import IVecEnv
except ImportError as error:
    raise PhalanxError(
        "phalanx.adapters.rl_games needs the package rl-games; install it with"
        " `pip install rl-games`"
    ) from error

from phalanx.adapters.gymnasium import to_gymnasium

VECENV_TYPE = "PHALANX"


class PhalanxIVecEnv(IVecEnv):
    """Task `config_name` with `num_actors` environments; kwargs are those of `tasks.make`. RL Games
    also passes the seed, which is not needed: it has already seeded torch, from which tasks
    draw."""

    def __init__(self, config_name: str, num_actors: int | None = None, **kwargs: Any) -> None:
        kwargs.pop("seed", None)
        self.task = tasks.make(config_name, num_actors, **kwargs)
        self.observation_space = to_gymnasium(self.task.observation_space)
        self.action_space = _action_space(self.task.action_space)

    def reset(self) -> Tensor:
        """Reset all environments; returns observations (N, num_obs)."""
        return self.task.reset()["obs"].clone()

    def step(self, actions: Tensor) -> tuple[Tensor, Tensor, Tensor, dict[str, Any]]:
        """Observations (N, num_obs), reward (N,), done (N,), infos with "time_outs" (N,)."""
        device = self.task.device
        obs, reward, terminated, truncated, _ = self.task.step(torch.as_tensor(actions).to(device))
        infos = {"time_outs": truncated.clone()}
        return obs["obs"].clone(), reward.clone(), terminated | truncated, infos

    def get_env_info(self) -> dict[str, Any]:
        """Spaces for the agent and the player."""
        return {
            "observation_space": self.observation_space,
            "action_space": self.action_space,
            "agents": 1,
            "value_size": 1,
        }


def _action_space(space: Any) -> spaces.Space:
    """RL Games' space for our action space; several discrete actions are a Tuple of Discrete."""
    if isinstance(space, MultiDiscrete):
        return spaces.Tuple([spaces.Discrete(n) for n in space.nvec])
    return to_gymnasium(space)


def register(name: str) -> None:
    """Register the task `name` as `env_name: <name>` in RL Games."""

    def create(**kwargs: Any) -> PhalanxIVecEnv:  # a player without use_vecenv calls this
        return PhalanxIVecEnv(name, **kwargs)

    env_configurations.register(name, {"vecenv_type": VECENV_TYPE, "env_creator": create})


vecenv.register(VECENV_TYPE, PhalanxIVecEnv)
for _name in tasks.TASKS:
    register(_name)
