"""The state of a recurrent network between the steps of a rollout."""

from typing import Any

import torch
from torch import Tensor

from phalanx.errors import PhalanxError
from phalanx.rl.config import PPOConfig


class Memory:
    """Recurrent state during a rollout, and at the start of each training sequence.

    states: a tuple of (L, N, U); begins (N,): 1.0 where the next step is the first of an episode.
    Sequences are `seq_length` steps of one environment, in the order of the flattened batch.
    The memory of a network that is not recurrent has no states, and its methods do nothing.
    """

    def __init__(self, model: Any, num_envs: int, config: PPOConfig, device: torch.device) -> None:
        self.seq_length = config.seq_length
        self.forgets = config.zero_rnn_on_done
        self.states: tuple[Tensor, ...] = ()
        if model.is_rnn():
            self.states = model.a2c_network.get_default_rnn_state(num_envs, device)
        self.begins = torch.ones(num_envs, device=device)
        self._begins = torch.ones(num_envs, config.horizon_length, device=device)
        sequences = config.horizon_length // config.seq_length
        self._starts = tuple(
            torch.zeros(s.shape[0], num_envs, sequences, s.shape[2], device=device)
            for s in self.states
        )

    @property
    def recurrent(self) -> bool:
        """Whether the network is recurrent."""
        return bool(self.states)

    def restart(self) -> None:
        """Zero the state, because new episodes begin in all environments."""
        for state in self.states:
            state.zero_()
        self.begins.fill_(1.0)

    def store(self, t: int) -> None:
        """Record the state that step t starts from."""
        if not self.recurrent:
            return
        self._begins[:, t] = self.begins
        if t % self.seq_length == 0:
            for start, state in zip(self._starts, self.states, strict=True):
                start[:, :, t // self.seq_length] = state

    def advance(self, states: Any, done: Tensor) -> None:
        """Store the states after a step, zeroed where the episode ended; done (N,) is 1.0 or
        0.0."""
        if not self.recurrent:
            return
        alive = 1.0 - done[None, :, None] if self.forgets else torch.ones_like(done)[None, :, None]
        for own, after in zip(self.states, states, strict=True):
            own.copy_(after * alive)
        self.begins.copy_(done)

    def step_inputs(self) -> dict[str, Any]:
        """The network's recurrent inputs for the next step of all environments."""
        return {"rnn_states": self.states} if self.recurrent else {}

    def sequence_inputs(self, rows: slice) -> dict[str, Any]:
        """The network's recurrent inputs for samples `rows` of the flattened batch, whole
        sequences."""
        if not self.recurrent:
            return {}
        sequences = slice(rows.start // self.seq_length, rows.stop // self.seq_length)
        inputs: dict[str, Any] = {
            "rnn_states": tuple(s.flatten(1, 2)[:, sequences] for s in self._starts),
            "seq_length": self.seq_length,
        }
        if self.forgets:
            inputs["episode_begins"] = self._begins.flatten()[rows]
        return inputs

    def state_dict(self) -> dict[str, Any]:
        """The state between two steps."""
        return {"rnn_states": list(self.states), "begins": self.begins}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what `state_dict` returned. Raises PhalanxError for states of other shapes."""
        saved = state["rnn_states"]
        if [s.shape for s in saved] != [s.shape for s in self.states]:
            raise PhalanxError("its recurrent states have other shapes")
        self.begins.copy_(state["begins"])
        for own, value in zip(self.states, saved, strict=True):
            own.copy_(value)
