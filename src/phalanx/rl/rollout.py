"""The buffers of a rollout, and the dataset that PPO learns from.

Buffers are (N, T, ...), environment first, so that flattening them to (N * T, ...) is a view in
RL Games' order: a minibatch holds whole trajectories of neighbouring environments.
"""

from typing import Any

import torch
from torch import Tensor

from phalanx.rl.config import PPOConfig
from phalanx.rl.critic import CentralValue, Critic
from phalanx.rl.nested import nested
from phalanx.spaces import Box, MultiDiscrete, ObservationSpace, boxes


class Rollout:
    """T steps of N environments, allocated once; buffers that a run does not need are None.

    obs, states: inputs of the policy and of a central value, (N, T, *shape) or a dictionary.
    actions; action_masks (N, T, n) bool; policy: other outputs of the acting policy that the losses
    need, by name, (N, T, ...).
    rewards (N, T, V), shaped; values (N, T, V) in reward units; last_values (N, V).
    dones, truncated (N, T): 1.0 where the step ended the episode, or timed it out.
    reached: the critic's inputs after each step, before any reset;
    reached_values (N, T, V): their values, for the bootstrap of time-outs.
    """

    def __init__(
        self, env: Any, config: PPOConfig, fields: dict[str, tuple[int, ...]], critic: Critic
    ) -> None:
        self._sizes = (env.num_envs, config.horizon_length)
        self._device = torch.device(env.device)
        value_size = getattr(env, "value_size", 1)
        self.obs: Any = self.observations(env.observation_space)
        self.states: Any = None
        self.reached: Any = None
        self.reached_values: Tensor | None = None
        self.action_masks: Tensor | None = None
        space = env.action_space
        if isinstance(space, Box):
            self.actions = self.zeros(*space.shape)
        else:
            width = (len(space.nvec),) if isinstance(space, MultiDiscrete) else ()
            self.actions = self.zeros(*width, dtype=torch.long)
        self.policy = {name: self.zeros(*shape) for name, shape in fields.items()}
        self.rewards = self.zeros(value_size)
        self.values = self.zeros(value_size)
        self.advantages = self.zeros(value_size)
        self.last_values = torch.zeros(env.num_envs, value_size, device=self._device)
        self.dones = self.zeros()
        self.truncated = self.zeros()
        if isinstance(critic, CentralValue):
            self.states = self.observations(env.state_space)
        if config.use_action_masks:
            self.action_masks = self.zeros(env.get_action_masks().shape[1], dtype=torch.bool)
        if config.value_bootstrap == "reached":
            self.reached_values = torch.zeros_like(self.values)
            if not critic.memory.recurrent:  # otherwise its value needs the state of that step
                self.reached = self.observations(critic.space(env))

    def zeros(self, *shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
        """A buffer (N, T, *shape)."""
        return torch.zeros(*self._sizes, *shape, dtype=dtype, device=self._device)

    def observations(self, space: ObservationSpace) -> Any:
        """A buffer for observations of that space."""
        return nested(lambda box: self.zeros(*box.shape), boxes(space))

    def dataset(self) -> dict[str, Any]:
        """Entries (N * T, ...): views of the filled buffers, and memory for "old_values", "returns"
        and "advantages"."""
        batch: dict[str, Any] = {"obs": self.obs, "actions": self.actions, **self.policy}
        batch |= {"states": self.states, "action_masks": self.action_masks}
        batch = {name: x for name, x in batch.items() if x is not None}
        return {
            **nested(lambda x: x.flatten(0, 1), batch),
            "old_values": torch.zeros_like(self.values).flatten(0, 1),
            "returns": torch.zeros_like(self.values).flatten(0, 1),
            "advantages": torch.zeros_like(self.dones).flatten(0, 1),
        }
