"""Phalanx tasks for skrl 2.

    env = SkrlWrapper("Cartpole", num_envs=64, device="cpu")
    agent = PPO(models=..., cfg={..., "time_limit_bootstrap": True}, ...)
    SequentialTrainer(env=env, agents=bootstrap_from_final(agent), cfg=...).train()

skrl wants (N, 1) rewards and flags, `terminated` and `truncated` apart, and lets environments
reset themselves. Its agents take what `step` returns for the state that was reached, which after a
time-out is the first of the next episode; `bootstrap_from_final` hands them the right one. Without
`time_limit_bootstrap` skrl's PPO takes no notice of time-outs at all: its advantages run on into
the next episode (agents/torch/ppo/ppo.py 49, 277).
"""

from typing import Any

import gymnasium
import torch
from torch import Tensor

from phalanx import tasks
from phalanx.errors import PhalanxError
from phalanx.spaces import Discrete

try:
    from skrl.envs.wrappers.torch import Wrapper
except ImportError as error:
    raise PhalanxError(
        "phalanx.adapters.skrl needs the package skrl 2 or newer;"
        " install it with `pip install 'phalanx[adapters]'`"
    ) from error

from phalanx.adapters.gymnasium import to_gymnasium


class SkrlWrapper(Wrapper):
    """A task, or the name of one followed by the arguments of `tasks.make`."""

    def __init__(self, task: str | tasks.Task, num_envs: int | None = None, **kwargs: Any) -> None:
        super().__init__(tasks.make(task, num_envs, **kwargs) if isinstance(task, str) else task)
        self._observation_space = to_gymnasium(self._env.observation_space)
        self._action_space = to_gymnasium(self._env.action_space)
        self._is_discrete = isinstance(self._env.action_space, Discrete)

    @property
    def observation_space(self) -> gymnasium.Space:
        """Of one environment."""
        return self._observation_space

    @property
    def action_space(self) -> gymnasium.Space:
        """Of one environment."""
        return self._action_space

    def reset(self) -> tuple[Tensor, dict[str, Any]]:
        """Start everywhere; (N, num_obs) and no infos."""
        return self._env.reset()["obs"].clone(), {}

    def step(self, actions: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor, dict[str, Any]]:
        """Observations (N, num_obs), reward, terminated, truncated (N, 1) each, and infos with
        "final_obs" (N, num_obs), what was reached before any reset."""
        with torch.no_grad():
            obs, reward, terminated, truncated, infos = self._env.step(
                actions.flatten() if self._is_discrete else actions
            )
        return (
            obs["obs"].clone(),
            reward[:, None].clone(),
            terminated[:, None].clone(),
            truncated[:, None].clone(),
            {"final_obs": infos["terminal"]["obs"].clone()},
        )

    def state(self) -> None:
        """There are no privileged states."""

    def render(self, *args: Any, **kwargs: Any) -> None:
        """Nothing: `phalanx play` renders."""

    def close(self) -> None:
        """Nothing to close."""


def bootstrap_from_final(agent: Any) -> Any:
    """The same skrl agent, told of every transition what it reached rather than what came next."""
    record = agent.record_transition

    def record_transition(*, next_observations: Tensor, infos: Any, **kwargs: Any) -> None:
        ended = kwargs["terminated"] | kwargs["truncated"]
        reached = torch.where(ended, infos["final_obs"], next_observations)
        record(next_observations=reached, infos=infos, **kwargs)

    agent.record_transition = record_transition
    return agent
