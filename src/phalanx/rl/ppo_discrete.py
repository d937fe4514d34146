"""PPO with discrete actions: a categorical policy."""

from typing import Any

import torch
from torch import Tensor

from phalanx.rl.formulas import squared_log_ratio_kl
from phalanx.rl.ppo import PPO


class DiscretePPO(PPO):
    """PPO with one or several discrete actions."""

    is_discrete = True
    adapts_per_minibatch = False
    trains_own_value = False

    def policy_fields(self, env: Any) -> dict[str, tuple[int, ...]]:
        return {"neglogpacs": ()}

    def preprocess_actions(self, actions: Tensor) -> Tensor:
        return actions

    def policy_kl(self, batch: dict[str, Tensor], result: dict[str, Tensor]) -> Tensor:
        """RL Games' estimate of the KL, a scalar; see `squared_log_ratio_kl`."""
        return squared_log_ratio_kl(batch["neglogpacs"], result["prev_neglogp"])

    def bounds_loss(self, result: dict[str, Tensor]) -> Tensor:
        return torch.zeros((), device=self.device)
