"""A learner of one policy with one optimizer: what a checkpoint holds of it, and which methods
depend on the kind of its actions."""

from typing import Any

from torch import Tensor

from phalanx.rl import checkpoint
from phalanx.rl.learner import Learner
from phalanx.rl.optimizer import check_optimizer, load_optimizer, optimizer_state
from phalanx.rl.schedule import Schedule


class PolicyLearner(Learner):
    """A learner with `model`, `optimizer` and the `schedule` of its learning rate."""

    optimizer: Any
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

    def weights(self) -> dict[str, Any]:
        own = {"model": self.model.state_dict(), "optimizer": optimizer_state(self.optimizer)}
        return own | super().weights()

    def check_weights(self, weights: dict[str, Any], source: object) -> None:
        checkpoint.check_weights(self.model, weights["model"], source)
        if "optimizer" in weights:
            check_optimizer(self.optimizer, weights["optimizer"])
        super().check_weights(weights, source)

    def load_weights(self, weights: dict[str, Any], source: object) -> list[str]:
        checkpoint.load_weights(self.model, weights["model"], source)
        if "optimizer" in weights:
            load_optimizer(self.optimizer, weights["optimizer"])
            self.schedule.load_lr(float(weights["optimizer"]["param_groups"][0]["lr"]))
        return super().load_weights(weights, source)
