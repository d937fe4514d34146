"""Phalanx tasks for Stable-Baselines3.

    env = SB3VecEnv("Cartpole", num_envs=64, device="cpu")
    PPO("MlpPolicy", env, n_steps=32, batch_size=512).learn(100_000)

Stable-Baselines3 works with numpy arrays on the host, so on a GPU every step waits for the device.
It takes one flag `done` for both kinds of ends, and in the infos of an environment that has ended
`TimeLimit.truncated` and `terminal_observation`, from which its PPO bootstraps
(common/on_policy_algorithm.py).
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from phalanx import tasks
from phalanx.errors import PhalanxError

try:
    from stable_baselines3.common.vec_env import VecEnv
except ImportError as error:
    raise PhalanxError(
        "phalanx.adapters.stable_baselines3 needs the package stable-baselines3;"
        " install it with `pip install stable-baselines3`"
    ) from error

from phalanx.adapters.gymnasium import to_gymnasium


class SB3VecEnv(VecEnv):
    """A task, or the name of one followed by the arguments of `tasks.make`."""

    def __init__(self, task: str | tasks.Task, num_envs: int | None = None, **kwargs: Any) -> None:
        self.task = tasks.make(task, num_envs, **kwargs) if isinstance(task, str) else task
        self._actions = np.zeros(0)
        self.render_mode = None
        spaces = self.task.observation_space, self.task.action_space
        super().__init__(self.task.num_envs, *map(to_gymnasium, spaces))

    def reset(self) -> np.ndarray:
        """Reset all environments; observations (N, num_obs)."""
        self.reset_infos = [{} for _ in range(self.num_envs)]
        return self._out(self.task.reset()["obs"])

    def seed(self, seed: int | None = None) -> list[int | None]:
        """Seed torch's global generators, from which tasks draw."""
        if seed is not None:
            torch.manual_seed(seed)
        return [seed] * self.num_envs

    def step_async(self, actions: np.ndarray) -> None:
        """Keep the actions of the next step."""
        self._actions = actions

    def step_wait(self) -> tuple[np.ndarray, np.ndarray, np.ndarray, list[dict[str, Any]]]:
        """Observations (N, num_obs), reward (N,), done (N,), infos of each environment."""
        actions = torch.as_tensor(self._actions, device=self.task.device)
        obs, reward, terminated, truncated, infos = self.task.step(actions)
        done = self._out(terminated | truncated)
        said: list[dict[str, Any]] = [{} for _ in range(self.num_envs)]
        if done.any():
            reached, timed_out = self._out(infos["terminal"]["obs"]), self._out(truncated)
            for k in done.nonzero()[0]:
                said[k] = {
                    "terminal_observation": reached[k],
                    "TimeLimit.truncated": bool(timed_out[k]),
                }
        return self._out(obs["obs"]), self._out(reward), done, said

    def close(self) -> None:
        """Nothing to close."""

    def get_attr(self, attr_name: str, indices: Any = None) -> list[Any]:
        """An attribute of the task, or of this adapter, once for each environment."""
        holder = self if attr_name in ("render_mode", "spec") else self.task
        value = getattr(holder, attr_name, None) if holder is self else getattr(holder, attr_name)
        return [value] * len(self._chosen(indices))

    def set_attr(self, attr_name: str, value: Any, indices: Any = None) -> None:
        """Raises PhalanxError: the environments are one task."""
        raise PhalanxError(f"{attr_name} cannot be set by environment; set it in the task")

    def env_method(self, method_name: str, *args: Any, indices: Any = None, **kw: Any) -> list[Any]:
        """Raises PhalanxError: the environments are one task."""
        raise PhalanxError(f"{method_name} cannot be called by environment; call it on the task")

    def env_is_wrapped(self, wrapper_class: Any, indices: Any = None) -> list[bool]:
        """False: nothing is wrapped."""
        return [False] * len(self._chosen(indices))

    def _chosen(self, indices: Any) -> Sequence[int]:
        if indices is None:
            return range(self.num_envs)
        return [indices] if isinstance(indices, int) else list(indices)

    def _out(self, x: torch.Tensor) -> np.ndarray:
        return x.cpu().numpy().copy()
