"""What a rollout leaves behind: its buffers, shaped rewards and advantages.

Buffers are (N, T, ...), environment first, so that flattening them to (N * T, ...) is a view in
RL Games' order: a minibatch holds whole trajectories of neighbouring environments.
"""

from typing import Any

import torch
from torch import Tensor

from phalanx.rl.config import RewardShaper
from phalanx.rl.nested import nested
from phalanx.spaces import ObservationSpace, boxes


class Rollout:
    """Buffers of T steps of N environments, allocated once; those not needed are None or empty.

    obs: what was acted on, (N, T, *shape) or a dictionary of such; states: what a central value
    saw with it. reached: what each step reached before a reset, as the critic sees it, and
    reached_values (N, T, V) what that is worth, where time-outs bootstrap from there.
    actions, rewards (N, T, V) shaped, values (N, T, V) in reward units, last_values (N, V).
    dones, truncated (N, T): 1.0 where the episode ended, or timed out, with the step.
    action_masks (N, T, n) bool. policy: what else the losses need of the policy that acted, by
    name, (N, T, ...).
    """

    def __init__(self, num_envs: int, horizon: int, value_size: int, device: torch.device) -> None:
        self._sizes = (num_envs, horizon)
        self._device = device
        self.obs: Any = torch.empty(0)
        self.states: Any = None
        self.reached: Any = None
        self.reached_values: Tensor | None = None
        self.actions = torch.empty(0)
        self.action_masks: Tensor | None = None
        self.policy: dict[str, Tensor] = {}
        self.rewards = self.zeros(value_size)
        self.values = self.zeros(value_size)
        self.advantages = self.zeros(value_size)
        self.last_values = torch.zeros(num_envs, value_size, device=device)
        self.dones = self.zeros()
        self.truncated = self.zeros()

    def zeros(self, *shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
        """A buffer (N, T, *shape)."""
        return torch.zeros(*self._sizes, *shape, dtype=dtype, device=self._device)

    def observations(self, space: ObservationSpace) -> Any:
        """A buffer for observations of that space."""
        return nested(lambda box: self.zeros(*box.shape), boxes(space))


def gae(
    rewards: Tensor,
    values: Tensor,
    last_values: Tensor,
    dones: Tensor,
    gamma: float,
    lam: float,
    out: Tensor,
) -> None:
    """Generalised advantage estimates into `out`, (N, T, V).

    rewards, values (N, T, V), values in reward units; last_values (N, V): of the state after the
    last step; dones (N, T): 1 where the episode ended with the step. What a time-out bootstraps
    from is already part of its reward. Source: arXiv:1506.02438, equation 16.
    """
    running = torch.zeros_like(last_values)
    next_values = last_values
    for t in reversed(range(rewards.shape[1])):
        alive = 1.0 - dones[:, t, None]
        delta = rewards[:, t] + gamma * next_values * alive - values[:, t]
        running = delta + gamma * lam * alive * running
        out[:, t] = running
        next_values = values[:, t]


def shape_reward(reward: Tensor, shaper: RewardShaper) -> Tensor:
    """RL Games' reward_shaper: shift, scale, clamp, logarithm."""
    shaped = (reward + shaper.shift_value) * shaper.scale_value
    shaped = shaped.clamp(shaper.min_val, shaper.max_val)
    return shaped.log() if shaper.log_val else shaped
