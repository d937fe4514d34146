"""The critic of a PPO rollout: the policy's own value head, or a central value.

`CentralValue` is a critic on privileged states, with its own network and optimiser. Its values
replace the policy network's in the rollout. It learns from the same returns, before the policy.
Source: arXiv:1710.06542; formulas as in RL Games 1.6.5.
"""

from typing import Any

import torch
from torch import Tensor

from phalanx.errors import PhalanxError
from phalanx.fits import mapping
from phalanx.rl import checkpoint, registry
from phalanx.rl.config import CentralValueConfig, PPOConfig, minibatch_size
from phalanx.rl.formulas import linear_decay, value_loss
from phalanx.rl.memory import Memory
from phalanx.rl.models import minibatch_moments
from phalanx.rl.nested import nested
from phalanx.rl.optimizer import adam, check_optimizer, load_optimizer, optimizer_state
from phalanx.rl.part import Part


class PolicyCritic:
    """The value head of the policy's own network."""

    def __init__(self, model: Any, memory: Memory) -> None:
        self.model, self.memory = model, memory

    def inputs(self, obs: dict[str, Any]) -> Any:
        """The critic's inputs, taken from an environment's observations."""
        return obs["obs"]

    def space(self, env: Any) -> Any:
        """The space of those inputs."""
        return env.observation_space

    def next_states(self, obs: dict[str, Any], policy_states: Any) -> Any:
        """Recurrent states after the step that acts on `obs`."""
        return policy_states

    def advance(self, states: Any, done: Tensor) -> None:
        """Store the recurrent states after a step; done (N,) is 1.0 or 0.0. Here the policy's
        memory has already done it."""

    def values(self, seen: Any, states: Any = ()) -> Tensor:
        """Values (B, V) in reward units for inputs (B, ...); recurrent `states` are only read."""
        values: Tensor = self.model.get_values({"obs": seen, "rnn_states": states})
        return values

    def value_rows(self, values: Tensor, batch: dict[str, Any], rows: slice) -> None:
        """Write the values of samples `rows`, (B, V) in reward units; here the policy's pass over
        the batch has already done it."""


class CentralValue(Part):
    """A critic on the environment's states: network, optimiser and training."""

    name = "central_value"

    def __init__(self, config: PPOConfig, env: Any) -> None:
        own = config.central_value_config
        space = getattr(env, "state_space", None)
        if own is None or space is None:
            raise PhalanxError(
                "params.config.central_value_config is given, but the environment has no states:"
                " num_states is 0; of the tasks with legs, task.env.privileged=true sets it"
            )
        where = "params.config.central_value_config"
        device = torch.device(env.device)
        self.config: CentralValueConfig = own
        self.max_epochs = config.max_epochs
        self.batch = env.num_envs * config.horizon_length
        self.minibatch = minibatch_size(own, env.num_envs, config.horizon_length, where)
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
        self.model.eval()  # its normaliser is updated in `fit` only
        self.memory = Memory(self.model, env.num_envs, config, device)
        self.optimizer = adam(
            self.model.parameters(), own.learning_rate, device, weight_decay=own.weight_decay
        )
        self.lr: Tensor = self.optimizer.param_groups[0]["lr"]
        self.mean_loss = torch.zeros((), device=device)

    # -- as a critic -------------------------------------------------------------------------------

    def inputs(self, obs: dict[str, Any]) -> Any:
        """See `PolicyCritic`."""
        return obs["states"]

    def space(self, env: Any) -> Any:
        """See `PolicyCritic`."""
        return env.state_space

    def next_states(self, obs: dict[str, Any], policy_states: Any) -> Any:
        """The critic's own recurrent states after the observation that the step acts on."""
        if not self.memory.recurrent:
            return ()
        inputs = {"is_train": False, "obs": obs["states"], **self.memory.step_inputs()}
        return self.model(inputs)["rnn_states"]

    def advance(self, states: Any, done: Tensor) -> None:
        """Store the recurrent states after a step; done (N,) is 1.0 or 0.0."""
        self.memory.advance(states, done)

    def values(self, seen: Any, states: Any = ()) -> Tensor:
        """See `PolicyCritic`."""
        values: Tensor = self.model.get_values({"obs": seen, "rnn_states": states})
        return values

    def value_rows(self, values: Tensor, batch: dict[str, Any], rows: slice) -> None:
        """Write the values of samples `rows`, (B, V) in reward units."""
        inputs = {"obs": batch["states"], **self.memory.sequence_inputs(rows)}
        values.copy_(self.model.get_values(inputs))

    # -- as a part ---------------------------------------------------------------------------------

    def fused_methods(self) -> tuple[str, ...]:
        """See `Part`."""
        return () if self.memory.recurrent else ("loss_of",)

    def begin_iteration(self, epoch: int, frame: int) -> None:
        """Apply the linear decay, if configured; RL Games steps it after each iteration."""
        if self.config.lr_schedule == "linear":
            self.lr.fill_(linear_decay(self.config.learning_rate, 1e-6, epoch - 1, self.max_epochs))

    def fit(self, dataset: dict[str, Any]) -> None:
        """Train for mini_epochs passes over "states", "old_values" and "returns", all (N * T, ...),
        values in normalised units."""
        c = self.config
        self.mean_loss.zero_()
        if c.freeze_critic:
            return
        self.model.train()
        moments = minibatch_moments(self.model, dataset["states"], self.minibatch)
        for _ in range(c.mini_epochs):
            for i in range(self.batch // self.minibatch):
                rows = slice(i * self.minibatch, (i + 1) * self.minibatch)
                states = nested(lambda x, rows=rows: x[rows], dataset["states"])
                inputs = {"is_train": True, "obs": states, **self.memory.sequence_inputs(rows)}
                inputs["obs_moments"] = moments[i] if moments else None
                loss = self.loss_of(inputs, dataset["old_values"][rows], dataset["returns"][rows])
                self.optimizer.zero_grad(set_to_none=True)
                loss.backward()
                self.optimizer.clip_and_step(c.grad_norm if c.truncate_grads else None)
                self.mean_loss += loss.detach()
        self.model.eval()
        self.mean_loss /= c.mini_epochs * (self.batch // self.minibatch)

    def loss_of(self, inputs: dict[str, Any], old: Tensor, target: Tensor) -> Tensor:
        """Of a minibatch, a scalar; old values and returns are (M, V)."""
        clip = self.config.e_clip if self.config.clip_value else None
        return value_loss(self.model(inputs)["values"], old, target, clip)

    def statistics(self) -> dict[str, Tensor]:
        """Mean loss and learning rate, scalars."""
        return {"losses/cval_loss": self.mean_loss, "info/cval_lr": self.lr}

    def weights(self) -> dict[str, Any]:
        """Weights and optimiser, under RL Games' (misspelt) keys."""
        model = {f"model.{k}": v for k, v in self.model.state_dict().items()}
        state = optimizer_state(self.optimizer)
        return {"assymetric_vf_nets": model, "assymetric_vf_optimizer": state}

    def check_weights(self, weights: dict[str, Any], source: object) -> None:
        """See `Part`."""
        if model := self._own(weights):
            checkpoint.check_weights(self.model, model, source)
        if "assymetric_vf_optimizer" in weights:
            check_optimizer(self.optimizer, weights["assymetric_vf_optimizer"])

    def _own(self, weights: dict[str, Any]) -> dict[str, Any]:
        own = mapping(weights.get("assymetric_vf_nets", {}), "assymetric_vf_nets")
        return {str(k).replace("_orig_mod.", "").removeprefix("model."): v for k, v in own.items()}

    def load_weights(self, weights: dict[str, Any], source: object) -> None:
        """See `Part`."""
        if model := self._own(weights):
            checkpoint.load_weights(self.model, model, source)
        if "assymetric_vf_optimizer" in weights:
            load_optimizer(self.optimizer, weights["assymetric_vf_optimizer"])
        self.lr.fill_(self.config.learning_rate)  # linear: written at the next iteration


Critic = PolicyCritic | CentralValue
