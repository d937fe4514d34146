"""How learning rates follow the KL or the time, as in RL Games 1.6.5."""

import torch
from torch import Tensor

from phalanx.rl.config import PPOConfig


def adapt_lr(lr: Tensor, kl: Tensor, config: PPOConfig) -> None:
    """If that is configured, steer the KL of an update towards `kl_threshold`, on the device; both
    are scalars."""
    if config.lr_schedule != "adaptive":
        return
    slower = (lr / 1.5).clamp(min=config.min_lr)
    faster = (lr * 1.5).clamp(max=config.max_lr)
    adapted = torch.where(kl > 2.0 * config.kl_threshold, slower, lr)
    lr.copy_(torch.where(kl < 0.5 * config.kl_threshold, faster, adapted))


def linear(start: float, floor: float, done: float, total: float) -> float:
    """From `start` to `floor` when `done` reaches `total`; without a total it stays."""
    left = max(0.0, (total - done) / total) if total > 0 else 1.0
    return floor + (start - floor) * left
