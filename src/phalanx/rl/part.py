"""`Part`: what a PPO learner may have besides actor and critic.

Curiosity, a discriminator, diagnostics and a central value are parts. The learner holds them in a
list and calls the same hooks on each, in this order of an iteration:

    begin_iteration          on the host
    store, step_reward       in every step of the rollout
    batch_reward             once the rollout is complete, before values and advantages
    fit                      before the policy learns, for a part with an optimiser of its own
    extend, loss, after_minibatch      around every gradient step of the policy
    after_update             when all of them are done

Everything but `begin_iteration` runs inside captured CUDA graphs: fixed shapes, no waiting.
"""

from typing import Any

from torch import Tensor


class Part:
    """A part that does nothing; override what it is for."""

    name: str
    """Key of `state_dict` in checkpoints."""

    def begin_iteration(self, epoch: int, frame: int) -> None:
        """Iteration `epoch`, counted from 1, begins after `frame` environment steps."""

    def store(self, t: int, infos: dict[str, Any]) -> None:
        """Step t of the rollout was taken; `infos` are the environment's."""

    def step_reward(self, reward: Tensor, reached: dict[str, Any]) -> Tensor:
        """The reward of a step, (N,), from the shaped one and the observations it reached."""
        return reward

    def batch_reward(self, rewards: Tensor) -> None:
        """Change the rewards of the rollout, (N, T, V), in place."""

    def fit(self, dataset: dict[str, Any]) -> None:
        """Learn from the dataset, (N * T, ...) each, with an optimiser of its own."""

    def extend(self, batch: dict[str, Any], rows: Any) -> None:
        """Add to a minibatch what `loss` needs; `rows` of the dataset are in it."""

    def loss(self, loss: Tensor, batch: dict[str, Any]) -> Tensor:
        """The loss of a minibatch, a scalar, from that of the policy."""
        return loss

    def after_minibatch(self, mini_epoch: int, batch: dict[str, Any], result: Any) -> None:
        """A gradient step was taken; `result` is what the model gave for the minibatch."""

    def after_update(self) -> None:
        """The policy has learnt from the whole batch."""

    def statistics(self) -> dict[str, Tensor]:
        """Scalars of the iteration by TensorBoard's tag, on the device."""
        return {}

    def blame(self) -> dict[str, Tensor]:
        """Rollout buffers (N, T, ...) by name in which a NaN may have entered."""
        return {}

    def weights(self) -> dict[str, Any]:
        """Entries of the checkpoint, in the layout that other trainers read."""
        return {}

    def load_weights(self, weights: dict[str, Any], source: object) -> None:
        """Take back entries of a checkpoint that has them. Raises PhalanxError if they do not
        fit."""

    def state_dict(self) -> dict[str, Any]:
        """What exact continuation needs besides `weights`."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what `state_dict` returned. Raises PhalanxError with a sentence on
        what is lost."""
