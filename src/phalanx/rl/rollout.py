"""What a rollout leaves behind: its buffers, advantages and episode statistics.

Buffers are (N, T, ...), environment first, so that flattening them to (N * T, ...) is a view in
RL Games' order: a minibatch holds whole trajectories of neighbouring environments.
"""

import torch
from torch import Tensor

from phalanx.rl.config import RewardShaper


class Rollout:
    """Buffers of T steps of N environments, allocated once; those not needed are None or empty.

    obs (N, T, *shape): what was acted on; states: what a central value saw with it; terminal_*:
    what each step reached before a reset, where time-outs bootstrap from there.
    actions, rewards (N, T, V) shaped, values (N, T, V) in reward units, last_values (N, V).
    dones, truncated (N, T): 1.0 where the episode ended, or timed out, with the step; begins
    (N, T): where it began with the step. action_masks (N, T, n) bool.
    policy: what else the model said of each action, by name, (N, T, ...).
    rnn_states: the recurrent state at the start of every sequence, each (L, N, T / seq_length, U).
    """

    def __init__(self, num_envs: int, horizon: int, value_size: int, device: torch.device) -> None:
        self._sizes = (num_envs, horizon)
        self._device = device
        self.obs = self.actions = torch.empty(0)
        self.terminal_obs: Tensor | None = None
        self.states: Tensor | None = None
        self.terminal_states: Tensor | None = None
        self.action_masks: Tensor | None = None
        self.policy: dict[str, Tensor] = {}
        self.rnn_states: tuple[Tensor, ...] = ()
        self.rewards = self.zeros(value_size)
        self.values = self.zeros(value_size)
        self.advantages = self.zeros(value_size)
        self.last_values = torch.zeros(num_envs, value_size, device=device)
        self.dones = self.zeros()
        self.truncated = self.zeros()
        self.begins = self.zeros()

    def zeros(self, *shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
        """A buffer (N, T, *shape)."""
        return torch.zeros(*self._sizes, *shape, dtype=dtype, device=self._device)


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


class EpisodeSums:
    """Returns and lengths of the running episodes, and what those that ended sum up to.

    On the device and without synchronisation: `finished` (T, 4) has, per step of the rollout, the
    sums over ended episodes of return, shaped return and length, and their number.
    """

    def __init__(self, num_envs: int, horizon: int, device: torch.device) -> None:
        self.running = torch.zeros(num_envs, 4, device=device)
        self.running[:, 3] = 1.0
        self.finished = torch.zeros(horizon, 4, device=device)
        self._keep_count = torch.tensor([0.0, 0.0, 0.0, 1.0], device=device)

    def add(self, t: int, reward: Tensor, shaped: Tensor, done: Tensor) -> None:
        """Step t of the rollout; all (N,), done 1.0 or 0.0."""
        self.running[:, 0] += reward
        self.running[:, 1] += shaped
        self.running[:, 2] += 1.0
        torch.mv(self.running.t(), done, out=self.finished[t])
        self.running.copy_(torch.where(done[:, None] > 0, self._keep_count, self.running))


class Meter:
    """Mean over about the last `window` values, fed with means of groups of them.

    RL Games' formula: a group of k pushes out as many old ones as the window cannot hold.
    """

    def __init__(self, window: int) -> None:
        self.window = window
        self.mean = 0.0
        self.size = 0

    def add(self, mean: float, count: int) -> None:
        """A group of `count` values with that mean."""
        if count == 0:
            return
        count = min(count, self.window)
        old = min(self.window - count, self.size)
        self.size = old + count
        self.mean = (self.mean * old + mean * count) / self.size
