"""Formulas of learning as functions on tensors: rewards, advantages, losses, KL, schedules.

In shapes, B is samples of a minibatch, N environments, T steps, V value heads, A actions. Constants
and the order of operations are those of RL Games 1.6.5; docstrings say where they differ from the
papers.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from phalanx.rl.config import RewardShaper

# -- distributions -------------------------------------------------------------------------------


def log_std(raw: Tensor, kind: str, least: float, bounds: tuple[float, float] | None) -> Tensor:
    """Log standard deviation from a network's output `raw`, (B, A).

    exp: `raw` is the logarithm, clamped to `bounds` if given. softplus: the deviation is
    softplus(raw). Both plus `least`. linear, or scalar: the deviation is `raw`, held smoothly
    above max(least, 1e-3). Source: RL Games after 1.6.5.
    """
    if kind == "softplus":
        return (F.softplus(raw) + least).log()
    if kind in ("linear", "scalar"):
        floor = max(least, 1e-3)
        return (floor + F.softplus(raw - floor)).log()
    if bounds is not None:
        raw = raw.clamp(*bounds)
    return (raw.exp() + least).log() if least > 0 else raw


# -- rewards and advantages --------------------------------------------------------------------


def shape_reward(reward: Tensor, shaper: RewardShaper) -> Tensor:
    """Rewards (...,) after RL Games' reward_shaper: shift, scale, clamp, logarithm."""
    shaped = (reward + shaper.shift_value) * shaper.scale_value
    shaped = shaped.clamp(shaper.min_val, shaper.max_val)
    return shaped.log() if shaper.log_val else shaped


def gae(
    rewards: Tensor,
    values: Tensor,
    last_values: Tensor,
    dones: Tensor,
    gamma: float,
    lam: float,
    out: Tensor,
) -> None:
    """Generalised advantage estimates into `out`, (N, T, V).

    rewards, values (N, T, V), values in reward units; last_values (N, V): of the state after the
    last step; dones (N, T): 1 where the episode ended with the step. Rewards already include the
    bootstrap of time-outs. Source: arXiv:1506.02438, equation 16.
    """
    running = torch.zeros_like(last_values)
    next_values = last_values
    for t in reversed(range(rewards.shape[1])):
        alive = 1.0 - dones[:, t, None]
        delta = rewards[:, t] + gamma * next_values * alive - values[:, t]
        running = delta + gamma * lam * alive * running
        out[:, t] = running
        next_values = values[:, t]


def standardized(x: Tensor, mean: Tensor, std: Tensor) -> Tensor:
    """`x` (B,) shifted and scaled to mean 0 and standard deviation 1, from these, scalars."""
    return (x - mean) / (std + 1e-8)


# -- PPO: losses and KL ------------------------------------------------------------------------


def surrogate_loss(
    old: Tensor, new: Tensor, advantage: Tensor, clip: float, smooth: bool = False
) -> Tensor:
    """PPO's clipped surrogate, a scalar.

    old, new (B,): negative log probabilities of the actions under the policy that acted and the
    current one. Source: arXiv:1707.06347, equation 7; `smooth` is RL Games' use_smooth_clamp.
    """
    ratio = torch.exp(old - new)
    clamp = smooth_clamp if smooth else torch.clamp
    bounded = clamp(ratio, 1 - clip, 1 + clip)
    return torch.max(-advantage * ratio, -advantage * bounded).mean()


def policy_gradient_loss(new: Tensor, advantage: Tensor) -> Tensor:
    """The plain policy gradient (A2C), a scalar, from negative log probabilities (B,)."""
    return (new * advantage).mean()


def smooth_clamp(x: Tensor, low: float, high: float) -> Tensor:
    """RL Games' smooth replacement of clamp, a logistic function; same shape as `x`."""
    return low + (high - low) / (1 + torch.exp(4 * (0.5 - (x - low) / (high - low))))


def value_loss(value: Tensor, old: Tensor, target: Tensor, clip: float | None) -> Tensor:
    """Mean squared error of (B, V), a scalar; with `clip`, the larger of the squared errors of the
    value and of the value clipped to within `clip` of `old`."""
    loss = (value - target) ** 2
    if clip is not None:
        near = old + (value - old).clamp(-clip, clip)
        loss = torch.max(loss, (near - target) ** 2)
    return loss.mean()


def bound_loss(mu: Tensor, soft_bound: float) -> Tensor:
    """Mean over (B, A) of the squared excess of |mu| over `soft_bound`, summed over actions."""
    return (mu.abs() - soft_bound).clamp(min=0.0).square().sum(-1).mean()


def gaussian_kl(mu: Tensor, sigma: Tensor, old_mu: Tensor, old_sigma: Tensor) -> Tensor:
    """Mean KL(new || old) of independent Gaussians (B, A), RL Games' formula with its epsilons."""
    kl = torch.log(old_sigma / sigma + 1e-5) - 0.5
    kl = kl + (sigma**2 + (old_mu - mu) ** 2) / (2 * (old_sigma**2 + 1e-5))
    return kl.sum(-1).mean()


def squared_log_ratio_kl(old: Tensor, new: Tensor) -> Tensor:
    """RL Games' estimate of the KL of discrete policies: half the mean squared change of the
    negative log probabilities (B,)."""
    return 0.5 * (old - new).square().mean()


def clip_fraction(old: Tensor, new: Tensor, clip: float) -> Tensor:
    """Fraction of samples whose probability ratio is outside [1 - clip, 1 + clip], a scalar; old,
    new (B,) are negative log probabilities."""
    ratio = torch.exp(old - new)
    return ((ratio < 1.0 - clip) | (ratio > 1.0 + clip)).float().mean()


def explained_variance(value: Tensor, target: Tensor) -> Tensor:
    """1 - Var(target - value) / Var(target) over all of (B, V), a scalar; 1 is a perfect value."""
    return 1.0 - (target - value).var(correction=0) / target.var(correction=0)


# -- AMP ---------------------------------------------------------------------------------------


def discriminator_loss(agent_logit: Tensor, demo_logit: Tensor) -> Tensor:
    """Mean of two binary cross entropies, a scalar: logits of the policy (A, 1) are labelled 0,
    those of demonstrations (B, 1) are labelled 1. Source: arXiv:2104.02180, as in IsaacGymEnvs."""
    agent = F.binary_cross_entropy_with_logits(agent_logit, torch.zeros_like(agent_logit))
    demo = F.binary_cross_entropy_with_logits(demo_logit, torch.ones_like(demo_logit))
    return 0.5 * (agent + demo)


def style_reward(logit: Tensor, scale: float) -> Tensor:
    """-log(1 - p) * scale, same shape as `logit`; p, the probability of being a demonstration, is
    clamped to at most 0.9999. Source: arXiv:2104.02180, as in IsaacGymEnvs."""
    return -torch.log((1 - logit.sigmoid()).clamp(min=1e-4)) * scale


# -- SAC and DQN -------------------------------------------------------------------------------


def soft_target(
    rewards: Tensor, discounts: Tensor, value: Tensor, log_prob: Tensor, alpha: Tensor
) -> Tensor:
    """The critics' target, (B,): rewards plus the discounted soft value of the next state.

    discounts: gamma^n, 0 where the episode terminated. With n > 1 the entropies of the steps in
    between are left out, as in FastSAC. Source: arXiv:1812.05905, equation 6.
    """
    return rewards + discounted(discounts, value - alpha * log_prob)


def discounted(discounts: Tensor, value: Tensor) -> Tensor:
    """discounts * value, (B,) each; 0 where the discount is 0, even if the value is NaN, because
    the last observation of a terminated episode may be anything."""
    return torch.where(discounts > 0, discounts * value, 0.0)


def values_of(q_values: Tensor, actions: Tensor) -> Tensor:
    """The Q values (B,) of the actions (B,), from those of all n actions (B, n)."""
    return q_values.gather(-1, actions[:, None]).squeeze(-1)


def soft_update(target: nn.Module, source: nn.Module, tau: float) -> None:
    """target += tau (source - target), parameter by parameter."""
    with torch.no_grad():
        torch._foreach_lerp_(list(target.parameters()), list(source.parameters()), tau)


# -- schedules ---------------------------------------------------------------------------------


def adaptive_lr(lr: Tensor, kl: Tensor, threshold: float, low: float, high: float) -> Tensor:
    """The next learning rate, a scalar on the device: divided by 1.5 if `kl` is above twice
    `threshold`, multiplied by 1.5 if it is below half of it, clamped to [low, high]."""
    slower = (lr / 1.5).clamp(min=low)
    faster = (lr * 1.5).clamp(max=high)
    adapted = torch.where(kl > 2.0 * threshold, slower, lr)
    return torch.where(kl < 0.5 * threshold, faster, adapted)


def linear_decay(start: float, floor: float, done: float, total: float) -> float:
    """Linear decay from `start` to `floor` as `done` goes from 0 to `total`; constant if `total` is
    0 or less."""
    left = max(0.0, (total - done) / total) if total > 0 else 1.0
    return floor + (start - floor) * left
