"""`Part`: an extension of a PPO learner beyond actor and critic.

Curiosity, a discriminator, diagnostics and a central value are parts. The learner holds them in a
list and calls the same hooks on each, in this order within an iteration:

    begin_iteration          on the host
    store, step_reward       in every step of the rollout
    batch_reward             once the rollout is complete, before values and advantages
    fit                      before the policy learns, for a part with its own optimiser
    extend, loss, after_minibatch      around every gradient step of the policy
    after_update             after all gradient steps

All except `begin_iteration` run inside captured CUDA graphs: fixed shapes, no host sync.
"""

from typing import Any

from torch import Tensor

from phalanx.fits import check_fits


class Part:
    """A part that does nothing; override the hooks you need."""

    name: str
    """Key of `state_dict` in checkpoints."""

    def fused_methods(self) -> tuple[str, ...]:
        """Methods whose small kernels torch.compile may fuse on CUDA."""
        return ()

    def change_config(self, config: Any) -> None:
        """Continue with these settings, see `Learner.change_config`."""

    def begin_iteration(self, epoch: int, frame: int) -> None:
        """Begin iteration `epoch`, counted from 1, after `frame` environment steps."""

    def store(self, t: int, infos: dict[str, Any]) -> None:
        """After step t of the rollout; `infos` are the environment's."""

    def step_reward(self, reward: Tensor, reached: dict[str, Any]) -> Tensor:
        """The rewards of a step, (N,), from the shaped rewards and the observations reached."""
        return reward

    def batch_reward(self, rewards: Tensor) -> None:
        """Change the rewards of the rollout, (N, T, V), in place."""

    def fit(self, dataset: dict[str, Any]) -> None:
        """Learn from the dataset, (N * T, ...) each, with the part's own optimiser."""

    def extend(self, batch: dict[str, Any], rows: Any) -> None:
        """Add the inputs of `loss` to a minibatch, which consists of `rows` of the dataset."""

    def loss(self, loss: Tensor, batch: dict[str, Any]) -> Tensor:
        """The total loss of a minibatch, a scalar, from the loss so far."""
        return loss

    def after_minibatch(self, mini_epoch: int, batch: dict[str, Any], result: Any) -> None:
        """After a gradient step; `result` is the model's output for the minibatch."""

    def after_update(self) -> None:
        """After all passes over the batch."""

    def statistics(self) -> dict[str, Tensor]:
        """Results of the iteration by TensorBoard tag: scalars on the device."""
        return {}

    def blame(self) -> dict[str, Tensor]:
        """Rollout buffers (N, T, ...) by name in which a NaN may have originated."""
        return {}

    def weights(self) -> dict[str, Any]:
        """Entries of the checkpoint, in RL Games' layout if it has them."""
        return {}

    def check_weights(self, weights: dict[str, Any], source: object) -> None:
        """Raise PhalanxError unless `load_weights` can load these entries."""

    def load_weights(self, weights: dict[str, Any], source: object) -> None:
        """Load these entries from a checkpoint, if it has them. Raises PhalanxError if they do not
        fit."""

    def state_dict(self) -> dict[str, Any]:
        """State for exact continuation besides `weights`."""
        return {}

    def check_state(self, state: Any) -> None:
        """Raise PhalanxError unless `state` has the structure of what `state_dict` returns."""
        check_fits(self.state_dict(), state, self.name)

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what `state_dict` returned. Raises PhalanxError with a sentence about what is
        lost."""
