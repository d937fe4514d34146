"""Plays an AMP policy in its environments, and reports the discriminator's judgement."""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from phalanx.rl import checkpoint
from phalanx.rl.amp import amp_normalizer, load_amp_normalizer, style_reward
from phalanx.rl.config import AMPConfig
from phalanx.rl.players import PlayResult, PpoPlayerContinuous


class AMPPlayerContinuous(PpoPlayerContinuous):
    """Plays AMP's policy; registered as the player `amp_continuous`. `run` adds the discriminator's
    mean reward over all environments and steps."""

    Config = AMPConfig
    config: AMPConfig

    def __init__(self, params: dict[str, Any]) -> None:
        super().__init__(params)
        shape = self.env.amp_observation_space.shape
        self.amp_input_mean_std = amp_normalizer(self.config, shape, self.device)
        self._disc_rewards: list[Tensor] = []

    def restore(self, fn: str | Path) -> None:
        super().restore(fn)
        load_amp_normalizer(self.amp_input_mean_std, checkpoint.load(fn), fn)

    def run(self) -> PlayResult:
        self._disc_rewards.clear()
        return super().run()

    @torch.no_grad()
    def post_step(self, infos: dict[str, Any]) -> None:
        logits = self.disc_logits(infos["amp_obs"])
        rewards = self.disc_rewards(logits)
        self._disc_rewards.append(rewards.mean())
        if self.config.print_disc_prediction:
            print(f"disc_pred: {float(logits[0]):.3f} {float(rewards[0]):.3f}")

    def measures(self) -> dict[str, float]:
        return {"discriminator reward": float(torch.stack(self._disc_rewards).mean())}

    def disc_logits(self, amp_obs: Tensor) -> Tensor:
        """The discriminator's logits (N, 1) for unnormalised observations (N, D)."""
        if self.amp_input_mean_std is not None:
            amp_obs = self.amp_input_mean_std(amp_obs)
        logits: Tensor = self.model.a2c_network.eval_disc(amp_obs)
        return logits

    def disc_rewards(self, logits: Tensor) -> Tensor:
        """Rewards (N, 1) for logits (N, 1)."""
        return style_reward(logits, self.config.disc_reward_scale)
