"""Phalanx tasks for skrl 2.

    env = SkrlWrapper("Cartpole", num_envs=64, device="cpu")
    agent = PPO(models=..., cfg={..., "time_limit_bootstrap": True}, ...)
    SequentialTrainer(env=env, agents=bootstrap_from_final(agent), cfg=...).train()

skrl takes (N, 1) rewards and flags, separate `terminated` and `truncated`, and environments that
reset themselves. Its agents use the observation returned by `step` as the state reached, but after
a time-out that is the first observation of the next episode; `bootstrap_from_final` gives them the
right one. Without `time_limit_bootstrap` skrl's PPO ignores time-outs: its advantages continue into
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
        """Reset all environments; returns observations (N, num_obs) and empty infos."""
        return self._env.reset()["obs"].clone(), {}

    def step(self, actions: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor, dict[str, Any]]:
        """Observations (N, num_obs), reward, terminated, truncated (N, 1) each, and infos with
        "final_obs" (N, num_obs), the observations reached, before any reset."""
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
        """None: there are no privileged states."""

    def render(self, *args: Any, **kwargs: Any) -> None:
        """Does nothing: use `phalanx play video=true`."""

    def close(self) -> None:
        """Does nothing."""


def bootstrap_from_final(agent: Any) -> Any:
    """Make a skrl agent use, for every transition, the observation reached before any reset.
    Returns the same agent."""
    record = agent.record_transition

    def record_transition(*, next_observations: Tensor, infos: Any, **kwargs: Any) -> None:
        ended = kwargs["terminated"] | kwargs["truncated"]
        reached = torch.where(ended, infos["final_obs"], next_observations)
        record(next_observations=reached, infos=infos, **kwargs)

    agent.record_transition = record_transition
    return agent
