"""A central value: a critic on privileged states, beside a policy that does not see them.

Its value replaces the policy network's in the rollout; it learns from the same returns, before the
policy does, with an optimiser of its own. Source: arXiv:1710.06542; formulas as in RL Games 1.6.5.
"""

from typing import Any

import torch
from torch import Tensor, nn

from phalanx.errors import PhalanxError
from phalanx.rl import checkpoint, registry
from phalanx.rl.config import CentralValueConfig, PPOConfig, minibatch_size
from phalanx.rl.losses import value_loss
from phalanx.rl.memory import Memory
from phalanx.rl.nested import nested
from phalanx.rl.optimizer import adam, load_optimizer, optimizer_state
from phalanx.rl.schedules import linear


class CentralValue:
    """The network, its optimiser and its training; `loss` is the mean of the last iteration."""

    def __init__(self, config: PPOConfig, env: Any, device: torch.device) -> None:
        own = config.central_value_config
        space = getattr(env, "state_space", None)
        if own is None or space is None:
            raise PhalanxError(
                "params.config.central_value_config is given, but the environment has no states"
            )
        self.config: CentralValueConfig = own
        self.batch = env.num_envs * config.horizon_length
        self.minibatch = minibatch_size(
            own, env.num_envs, config.horizon_length, "params.config.central_value_config"
        )
        builder = registry.networks.create(own.network.get("name", "actor_critic"))
        builder.load({"name": "actor_critic", **own.network, "central_value": True})
        model = registry.models.create(own.model.get("name", "central_value"), network=builder)
        self.model = model.build(
            {
                "input_shape": space.shape,
                "value_size": getattr(env, "value_size", 1),
                "normalize_value": config.normalize_value,
                "normalize_input": own.normalize_input,
            }
        ).to(device)
        self.memory: Memory | None = None
        if self.model.is_rnn():
            config.check_sequences(self.minibatch, "params.config.central_value_config")
            self.memory = Memory(self.model.a2c_network, env.num_envs, config, device)
        self.optimizer = adam(
            self.model.parameters(), own.learning_rate, device, weight_decay=own.weight_decay
        )
        self.lr: Tensor = self.optimizer.param_groups[0]["lr"]
        self.loss = torch.zeros((), device=device)

    def step(self, states: Any) -> tuple[Tensor, ...]:
        """A recurrent one's memory after it has seen `states`, (N, ...)."""
        assert self.memory is not None
        inputs = {"is_train": False, "obs": states, "rnn_states": self.memory.states}
        after: tuple[Tensor, ...] = self.model(inputs)["rnn_states"]
        return after

    def sample_values(self, states: Any, rows: slice) -> Tensor:
        """(B, V) in reward units for samples `rows` of the rollout, whose states are given."""
        return self.model.get_values({"obs": states, **self._sequences(rows)})

    def _sequences(self, rows: slice) -> dict[str, Any]:
        return {} if self.memory is None else self.memory.inputs(rows)

    def train(self, dataset: dict[str, Any]) -> None:
        """mini_epochs passes over "states", "old_values" and "returns", all (N * T, ...), values in
        normalised units."""
        c = self.config
        self.loss.zero_()
        if c.freeze_critic:
            return
        self.model.train()
        for _ in range(c.mini_epochs):
            for start in range(0, self.batch, self.minibatch):
                rows = slice(start, start + self.minibatch)
                states = nested(lambda x, rows=rows: x[rows], dataset["states"])
                inputs = {"is_train": True, "obs": states, **self._sequences(rows)}
                value = self.model(inputs)["values"]
                old, target = dataset["old_values"][rows], dataset["returns"][rows]
                loss = value_loss(value, old, target, c.e_clip if c.clip_value else None)
                self.optimizer.zero_grad(set_to_none=True)
                loss.backward()
                if c.truncate_grads:
                    nn.utils.clip_grad_norm_(self.model.parameters(), c.grad_norm)
                self.optimizer.step()
                self.loss += loss.detach()
        self.model.eval()
        self.loss /= c.mini_epochs * (self.batch // self.minibatch)

    def schedule(self, epoch: int, max_epochs: int) -> None:
        """Linear decay, if configured."""
        if self.config.lr_schedule == "linear":
            self.lr.fill_(linear(self.config.learning_rate, 1e-6, epoch, max_epochs))

    def checkpoint(self) -> dict[str, Any]:
        """Its part of a checkpoint, spelt as RL Games spells it."""
        model = {f"model.{k}": v for k, v in self.model.state_dict().items()}
        state = optimizer_state(self.optimizer)
        return {"assymetric_vf_nets": model, "assymetric_vf_optimizer": state}

    def restore(self, weights: dict[str, Any], source: object) -> None:
        """Take back what a checkpoint has of it. Raises PhalanxError for what does not fit."""
        own = weights.get("assymetric_vf_nets", {})
        model = {k.replace("_orig_mod.", "").removeprefix("model."): v for k, v in own.items()}
        if model:
            checkpoint.load_weights(self.model, model, source)
        if "assymetric_vf_optimizer" in weights:
            load_optimizer(self.optimizer, weights["assymetric_vf_optimizer"])
