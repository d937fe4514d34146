"""Parts of PPO's loss that stand alone."""

import torch
from torch import Tensor

from phalanx.rl.config import PPOConfig


def value_loss(value: Tensor, old: Tensor, target: Tensor, clip: float | None) -> Tensor:
    """Mean squared error, or the larger of it and that of the value kept within `clip` of old."""
    loss = (value - target) ** 2
    if clip is not None:
        near = old + (value - old).clamp(-clip, clip)
        loss = torch.max(loss, (near - target) ** 2)
    return loss.mean()


def smooth_clamp(x: Tensor, low: float, high: float) -> Tensor:
    """RL Games' logistic stand-in for clamp, smooth at both ends."""
    return low + (high - low) / (1 + torch.exp(4 * (0.5 - (x - low) / (high - low))))


def actor_loss(old: Tensor, new: Tensor, advantage: Tensor, config: PPOConfig) -> Tensor:
    """The clipped surrogate, a scalar, from negative log probabilities of the actions under the
    policy that acted and the present one, (B,) both; or without PPO the plain policy gradient."""
    if not config.ppo:
        return (new * advantage).mean()
    ratio = torch.exp(old - new)
    clamp = smooth_clamp if config.use_smooth_clamp else torch.clamp
    bounded = clamp(ratio, 1 - config.e_clip, 1 + config.e_clip)
    return torch.max(-advantage * ratio, -advantage * bounded).mean()


def gaussian_kl(mu: Tensor, sigma: Tensor, old_mu: Tensor, old_sigma: Tensor) -> Tensor:
    """Mean KL(new || old) of independent Gaussians (B, A), RL Games' formula with its epsilons."""
    kl = torch.log(old_sigma / sigma + 1e-5) - 0.5
    kl = kl + (sigma**2 + (old_mu - mu) ** 2) / (2 * (old_sigma**2 + 1e-5))
    return kl.sum(-1).mean()
