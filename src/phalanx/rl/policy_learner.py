"""A learner of one policy: which of its methods depend on the kind of its actions."""

from typing import Any

from torch import Tensor

from phalanx.rl.one_optimizer import OneOptimizer
from phalanx.rl.schedule import Schedule


class PolicyLearner(OneOptimizer):
    """A learner with a `schedule` of its learning rate."""

    schedule: Schedule

    def policy_fields(self, env: Any) -> dict[str, tuple[int, ...]]:
        """The outputs of the policy that the rollout stores, with their shapes."""
        raise NotImplementedError

    def preprocess_actions(self, actions: Tensor) -> Tensor:
        """Sampled actions (N, A), in the environment's units."""
        raise NotImplementedError

    def policy_kl(self, batch: dict[str, Tensor], result: dict[str, Tensor]) -> Tensor:
        """Mean KL of the minibatch between the old policy and the new one, a scalar."""
        raise NotImplementedError

    def bounds_loss(self, result: dict[str, Tensor]) -> Tensor:
        """Penalty on mean actions, a scalar."""
        raise NotImplementedError

    def load_weights(self, weights: dict[str, Any], source: object) -> list[str]:
        lacks = super().load_weights(weights, source)
        if "optimizer" in weights:
            self.schedule.load_lr(float(weights["optimizer"]["param_groups"][0]["lr"]))
        return lacks
