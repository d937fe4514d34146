"""What PPO computes in compiled functions on a CPU instead of by torch: perceptrons, normalisation,
Adam's steps, and the common case of a Gaussian policy's loss."""

from typing import Any

import torch

from phalanx.compute.perceptron import supported_products
from phalanx.rl.models import ContinuousLogStdNetwork

FEWEST = 1_000_000
"""Multiplications for a minibatch; fewer do not repay compiling."""
FORMULAS = ("calc_losses", "bounds_loss", "policy_kl")
"""Methods of a learner whose results the compiled loss has; a program may override them."""


def compile_on_cpu(learner: Any) -> None:
    """Compile what is known of a PPO learner's networks and optimisers. Raises PhalanxError if it
    fails to compile."""
    if learner.minibatch_size * learner.torch_weights < FEWEST:
        return
    half = learner.config.mixed_precision and "half" in supported_products()
    # Split, more precise than the TF32 of GPUs, and with tiles faster than floats
    products = "half" if half else "split" if "split" in supported_products() else "float"
    threads = torch.get_num_threads()
    for part in (learner, learner.critic):
        if hasattr(part, "optimizer") and part.model.compile_on_cpu(threads, products):
            part.optimizer.compile_on_cpu()
            learner.half_products = half
            if part is learner:
                learner.torch_weights = 0


def compiled_loss(learner: Any) -> Any:
    """The loss of a `ContinuousPPO` whose network is compiled, as `compute.ppo_loss.PPOLoss`; None
    if it is not the common case."""
    from phalanx.rl.ppo_continuous import ContinuousPPO

    if learner.torch_weights:  # its network is not compiled, or a program's own
        return None
    c, network = learner.config, learner.model.a2c_network
    own = all(getattr(type(learner), x) is getattr(ContinuousPPO, x) for x in FORMULAS)
    own = own and type(learner.model) is ContinuousLogStdNetwork and network.fixed_sigma
    plain = c.ppo and not c.use_smooth_clamp and learner.rollout.values.shape[-1] == 1
    if learner.parts or not (own and plain):
        return None
    from phalanx.compute.ppo_loss import PPOLoss

    return PPOLoss(
        clip=c.e_clip,
        clip_value=c.e_clip if c.clip_value else None,
        value_weight=learner.critic_weight,
        bounds_weight=c.bounds_loss_coef or 0.0,
        soft_bound=learner.soft_bound if c.bound_loss_type == "bound" else 0.0,
        threads=torch.get_num_threads(),
    )


def compiled_update(learner: Any) -> Any:
    """The gradients of a `ContinuousPPO` that has a compiled loss, as
    `compute.ppo_update.PPOUpdate`; None if its means and value are not of one perceptron."""
    from phalanx.rl.networks import ActorCritic
    from phalanx.rl.normalize import RunningMeanStd
    from phalanx.rl.ppo_continuous import ContinuousPPO

    loss, model = learner.compiled_loss, learner.model
    if loss is None or not loss.value_weight or type(learner).loss_of is not ContinuousPPO.loss_of:
        return None
    network, scale = model.a2c_network, model.running_mean_std
    known = type(network) is ActorCritic and not network.separate
    known = known and type(scale) in (RunningMeanStd, type(None))
    known = known and isinstance(learner.rollout.obs, torch.Tensor)  # not several by name
    linear = (network.mu_act, network.value_act)
    if not (known and all(isinstance(x, torch.nn.Identity) for x in linear)):
        return None
    from phalanx.compute.ppo_update import PPOUpdate

    return PPOUpdate(network.perceptrons[0], loss)
