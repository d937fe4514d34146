"""What a checkpoint holds of a learner that has one network and one optimizer."""

from typing import Any

from phalanx.rl import checkpoint
from phalanx.rl.learner import Learner
from phalanx.rl.optimizer import check_optimizer, load_optimizer, optimizer_state


class OneOptimizer(Learner):
    """A learner with `model` and `optimizer`."""

    optimizer: Any

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
        return super().load_weights(weights, source)
