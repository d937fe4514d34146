"""Distillation: a student learns to act as a teacher that sees more. DAgger (arXiv:1011.0686).

    params.algo.name: distillation
    params.config.teacher: {checkpoint: runs/Teacher/nn/Go2Velocity.pth, network: {...}}

The teacher is a policy of PPO on the environment's `states`; the student, any network of PPO, also
a recurrent one that remembers, sees `obs`. The student acts, with its noise, so that it meets the
states to which its own mistakes lead, and learns there the teacher's mean action:

    loss = mean over samples of |student's mean action - teacher's mean action|^2

The rollout, minibatches, sequences and checkpoints are those of PPO; rewards are only logged. Its
keys that have no effect here are those of advantages, values and losses.
"""

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from phalanx.compute.threads import threads_for
from phalanx.config import read
from phalanx.errors import PhalanxError
from phalanx.rl import checkpoint, registry
from phalanx.rl.config import DistillationConfig
from phalanx.rl.ppo_continuous import ContinuousPPO


@dataclass(frozen=True)
class TeacherConfig:
    """`params.config.teacher`."""

    checkpoint: str
    """A checkpoint of PPO whose observations were the states."""
    network: dict[str, Any] = field(default_factory=dict)
    """Its section `network`; empty for the student's."""
    model: str = "continuous_a2c_logstd"
    """Its `model.name`."""
    normalize_input: bool = True
    """Whether its observations were normalised in training."""
    normalize_value: bool = True
    """Whether its values were normalised in training."""


class Distillation(ContinuousPPO):
    """See the module."""

    Config = DistillationConfig
    params: dict[str, Any]
    """The YAML's, which the agent has."""

    def __init__(self, config: Any, env: Any, model: Any) -> None:
        space = getattr(env, "state_space", None)
        if space is None:
            raise PhalanxError(
                "distillation needs an environment with states, which its teacher sees; of the"
                " walking tasks, task.env.privileged=true"
            )
        if config.teacher is None:
            raise PhalanxError(
                "params.config.teacher is missing; it names the teacher's checkpoint"
            )
        if config.lr_schedule == "adaptive":
            raise PhalanxError(
                "params.config.lr_schedule is adaptive, which needs PPO's KL; take linear or"
                " constant"
            )
        for key in ("central_value_config", "rnd_config", "symmetry_config", "use_diagnostics"):
            if getattr(config, key) not in (None, False):
                raise PhalanxError(
                    f"params.config.{key} is for PPO's rewards and values, of which distillation"
                    " learns nothing; remove it"
                )
        super().__init__(config, env, model)
        self.teacher = self._teacher(config, env, space)
        self.states = self.rollout.zeros(*space.shape)
        """(N, T, ...) what the teacher sees."""
        self.wanted = self.rollout.zeros(*env.action_space.shape).flatten(0, 1)
        """(N * T, A) the teacher's mean actions."""

    def _teacher(self, config: Any, env: Any, space: Any) -> Any:
        own = read(TeacherConfig, config.teacher, "params.config.teacher")
        network = own.network or self.params["network"]
        builder = registry.networks.create(network.get("name", "actor_critic"))
        builder.load(network)
        model = registry.models.create(own.model, network=builder).build(
            {
                "actions_num": env.action_space.shape[0],
                "input_shape": space.shape,
                "num_seqs": env.num_envs,
                "value_size": 1,
                "normalize_value": own.normalize_value,
                "normalize_input": own.normalize_input,
            }
        )
        if model.is_rnn():
            raise PhalanxError("params.config.teacher: a recurrent teacher cannot be distilled")
        checkpoint.load_weights(model, checkpoint.load(own.checkpoint)["model"], own.checkpoint)
        return model.to(self.device).eval().requires_grad_(False)

    def _store_inputs(self, env: Any, t: int) -> None:
        super()._store_inputs(env, t)
        self.states[:, t] = self.obs["states"]

    def _store_reached(self, t: int, reached: dict[str, Any], critic_states: Any) -> None:
        """Values of states reached are not needed."""

    @torch.no_grad()
    def prepare_batch(self) -> None:
        """Ask the teacher."""
        states = self.states.flatten(0, 1)
        with threads_for(self.minibatch_size * self.torch_weights, self.device):
            for start in range(0, self.batch_size, self.minibatch_size):
                rows = slice(start, start + self.minibatch_size)
                self.wanted[rows] = self.teacher.run({"obs": states[rows]})[0]

    def fused_methods(self) -> tuple[str, ...]:
        return () if self.memory.recurrent else ("act", "shape_and_count")

    def minibatch(self, i: int) -> dict[str, Any]:
        return super().minibatch(i) | {"wanted": self.wanted[self.rows(i)]}

    def loss_of(self, batch: dict[str, Any]) -> tuple[Tensor, dict[str, Tensor]]:
        result = self.model({**batch, "is_train": True, "prev_actions": batch["actions"]})
        loss = (result["mus"] - batch["wanted"]).square().sum(-1).mean()
        self.losses[0] += loss.detach()
        return loss, result

    def policy_kl(self, batch: dict[str, Tensor], result: dict[str, Tensor]) -> Tensor:
        """Zero: nothing is bounded."""
        return torch.zeros_like(self.kl)

    def statistics(self) -> dict[str, Tensor]:
        found = super().statistics()
        loss = found.pop("losses/a_loss")
        for name in ("c_loss", "entropy", "bounds_loss"):
            found.pop(f"losses/{name}")
        return found | {"losses/distillation": loss}
