"""What is different about PPO with discrete actions."""

import torch
from torch import Tensor

from phalanx.rl.ppo import A2CAgent


class DiscreteA2CAgent(A2CAgent):
    """PPO with one or several discrete actions; what `a2c_discrete` names."""

    is_discrete = True
    adapts_per_minibatch = False
    trains_own_value = False

    def policy_fields(self) -> dict[str, tuple[int, ...]]:
        return {"neglogpacs": ()}

    def preprocess_actions(self, actions: Tensor) -> Tensor:
        return actions

    def policy_kl(self, batch: dict[str, Tensor], result: dict[str, Tensor]) -> Tensor:
        """RL Games' estimate: half the mean squared change of the log probabilities."""
        return 0.5 * (batch["neglogpacs"] - result["prev_neglogp"]).square().mean()

    def bounds_loss(self, result: dict[str, Tensor]) -> Tensor:
        return torch.zeros((), device=self.device)
