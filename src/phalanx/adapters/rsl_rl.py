"""Phalanx tasks for rsl_rl 5 (`rsl-rl-lib` on PyPI).

    env = RslRlVecEnv("Cartpole", num_envs=64, device="cpu")
    OnPolicyRunner(env, train_cfg, log_dir, device="cpu").learn(100)

Observations are a TensorDict with the group "policy", so `obs_groups` of the runner's config is
{"actor": ["policy"], "critic": ["policy"]}. rsl_rl takes one flag `dones` for both kinds of ends,
and extras["time_outs"], (N,), for the time-outs among them. It adds gamma V(s), the value *before*
the step, to their reward (algorithms/ppo.py 154); it never uses the observation reached.
"""

import dataclasses
from typing import Any

import torch
from torch import Tensor

from phalanx import tasks
from phalanx.errors import PhalanxError
from phalanx.spaces import Box

try:
    from rsl_rl.env import VecEnv
    from tensordict import TensorDict
except ImportError as error:
    raise PhalanxError(
        "phalanx.adapters.rsl_rl needs the package rsl-rl-lib 5 or newer;"
        " install it with `pip install 'phalanx[adapters]'`"
    ) from error


class RslRlVecEnv(VecEnv):
    """A task, or the name of one followed by the arguments of `tasks.make`."""

    def __init__(self, task: str | tasks.Task, num_envs: int | None = None, **kwargs: Any) -> None:
        self.task = tasks.make(task, num_envs, **kwargs) if isinstance(task, str) else task
        space = self.task.action_space
        if not isinstance(space, Box):
            raise PhalanxError(f"rsl_rl supports continuous actions only; this task has {space}")
        self.num_envs = self.task.num_envs
        self.num_actions = space.shape[0]
        self.max_episode_length = self.task.config.episode_length
        self.device = self.task.device
        self.cfg = dataclasses.asdict(self.task.config)
        self.task.reset()

    @property
    def episode_length_buf(self) -> Tensor:
        """Steps into each episode, (N,)."""
        return self.task.progress_buf

    @episode_length_buf.setter
    def episode_length_buf(self, lengths: Tensor) -> None:
        """Set by the runner to random values, so that episodes do not all end together."""
        self.task.progress_buf.copy_(lengths)

    def get_observations(self) -> TensorDict:
        """{"policy": (N, num_obs)}, the observations to act on next."""
        obs = {"policy": self.task.observations["obs"].clone()}
        return TensorDict(obs, batch_size=[self.num_envs], device=self.device)

    def step(self, actions: Tensor) -> tuple[TensorDict, Tensor, Tensor, dict[str, Any]]:
        """Observations, reward (N,), dones (N,), extras with "time_outs" (N,)."""
        _, reward, terminated, truncated, _ = self.task.step(actions.to(self.device))
        extras = {"time_outs": truncated.to(torch.float32)}
        dones = (terminated | truncated).to(torch.long)
        return self.get_observations(), reward.clone(), dones, extras
