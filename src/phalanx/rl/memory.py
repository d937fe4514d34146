"""What a recurrent network remembers between the steps of a rollout."""

from typing import Any

import torch
from torch import Tensor

from phalanx.rl.config import PPOConfig


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

    def restart(self) -> None:
        """New episodes everywhere."""
        for state in self.states:
            state.zero_()
        self.begins.fill_(1.0)

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
