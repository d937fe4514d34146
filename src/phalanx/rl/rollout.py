"""What a rollout leaves behind: its buffers, advantages and episode statistics.

Buffers are (N, T, ...), environment first, so that flattening them to (N * T, ...) is a view in
RL Games' order: a minibatch holds whole trajectories of neighbouring environments.
"""

from typing import Any

import torch
from torch import Tensor

from phalanx.rl.config import PPOConfig, RewardShaper
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


class Memory:
    """The state of a recurrent network: as the rollout goes on, and where its sequences start.

    states: a tuple of (L, N, U); begins (N,): 1.0 where the next step is the first of an episode.
    Sequences are `seq_length` steps of one environment, in the order of the flattened batch.
    """

    def __init__(
        self, network: Any, num_envs: int, config: PPOConfig, device: torch.device
    ) -> None:
        self.seq_length = config.seq_length
        self.forgets = config.zero_rnn_on_done
        self.states: tuple[Tensor, ...] = network.get_default_rnn_state(num_envs, device)
        self.begins = torch.ones(num_envs, device=device)
        self._begins = torch.ones(num_envs, config.horizon_length, device=device)
        sequences = config.horizon_length // config.seq_length
        self._starts = tuple(
            torch.zeros(s.shape[0], num_envs, sequences, s.shape[2], device=device)
            for s in self.states
        )

    def store(self, t: int) -> None:
        """What step t starts from."""
        self._begins[:, t] = self.begins
        if t % self.seq_length == 0:
            for start, state in zip(self._starts, self.states, strict=True):
                start[:, :, t // self.seq_length] = state

    def advance(self, states: tuple[Tensor, ...], done: Tensor) -> None:
        """Take over the states after a step, zero where the episode ended, done (N,) 1.0 or 0.0."""
        alive = 1.0 - done[None, :, None] if self.forgets else torch.ones_like(done)[None, :, None]
        for own, after in zip(self.states, states, strict=True):
            own.copy_(after * alive)
        self.begins.copy_(done)

    def inputs(self, rows: slice) -> dict[str, Any]:
        """What a network needs beside samples `rows` of the flattened batch, whole sequences."""
        sequences = slice(rows.start // self.seq_length, rows.stop // self.seq_length)
        inputs: dict[str, Any] = {
            "rnn_states": tuple(s.flatten(1, 2)[:, sequences] for s in self._starts),
            "seq_length": self.seq_length,
        }
        if self.forgets:
            inputs["episode_begins"] = self._begins.flatten()[rows]
        return inputs

    def state_dict(self) -> dict[str, Any]:
        """What continuing takes."""
        return {"rnn_states": list(self.states), "begins": self.begins}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take back what `state_dict` gave."""
        self.begins.copy_(state["begins"])
        for own, saved in zip(self.states, state["rnn_states"], strict=True):
            own.copy_(saved)


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
        self.restart()
        self.finished = torch.zeros(horizon, 4, device=device)
        self._keep_count = torch.tensor([0.0, 0.0, 0.0, 1.0], device=device)

    def restart(self) -> None:
        """New episodes everywhere."""
        self.running.zero_()
        self.running[:, 3] = 1.0

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
