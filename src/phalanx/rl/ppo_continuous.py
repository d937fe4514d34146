"""PPO with continuous actions: a Gaussian policy."""

from typing import Any

import torch
from torch import Tensor

from phalanx.rl.compiled import compiled_loss
from phalanx.rl.formulas import bound_loss, gaussian_kl
from phalanx.rl.models import HALF_LOG_2PI
from phalanx.rl.ppo import PPO


class ContinuousPPO(PPO):
    """PPO with continuous actions."""

    compiled_loss: Any = None
    """On a CPU the common case of the loss, see `rl.compiled`."""

    is_discrete = False
    adapts_per_minibatch = True
    trains_own_value = True
    soft_bound = 1.1
    """Absolute mean action above which bounds_loss applies."""

    def policy_fields(self, env: Any) -> dict[str, tuple[int, ...]]:
        """The outputs of the policy that the rollout stores, with their shapes."""
        actions = env.action_space.shape
        return {"neglogpacs": (), "mus": actions, "sigmas": actions}

    def preprocess_actions(self, actions: Tensor) -> Tensor:
        """Sampled actions (N, A), in the environment's units."""
        if not self.config.clip_actions:
            return actions
        rescaled: Tensor = self.env.action_space.rescale(actions.clamp(-1.0, 1.0))
        return rescaled

    def policy_kl(self, batch: dict[str, Tensor], result: dict[str, Tensor]) -> Tensor:
        """Mean KL(new || old) of the minibatch, a scalar. Then the new policy becomes the old one,
        as the reference of the next pass."""
        kl = result.get("kl")
        if kl is None:
            # Mirror images, which come last, say how asymmetric it is, not how far it moved.
            own = slice(self.minibatch_size)
            new, old = result["mus"][own], batch["mus"][own]
            kl = gaussian_kl(new, result["sigmas"][own], old, batch["sigmas"][own])
        batch["mus"].copy_(result["mus"])
        batch["sigmas"].copy_(result["sigmas"])
        return kl

    def bounds_loss(self, result: dict[str, Tensor]) -> Tensor:
        """Penalty on means beyond +-`soft_bound`, or on all means, a scalar."""
        if self.config.bound_loss_type == "bound":
            return bound_loss(result["mus"], self.soft_bound)
        return result["mus"].square().sum(-1).mean()

    def change_config(self, config: Any) -> None:
        super().change_config(config)
        if self.compiled_loss is not None:
            self.compiled_loss = compiled_loss(self)

    def compile_on_cpu(self) -> None:
        super().compile_on_cpu()
        self.compiled_loss = compiled_loss(self)

    def loss_of(self, batch: dict[str, Any]) -> tuple[Tensor, dict[str, Tensor]]:
        if self.compiled_loss is None:
            return super().loss_of(batch)
        mu, _, value, _ = self.model.run(batch)
        network = self.model.a2c_network
        log_std = self.model.log_std(network.sigma_act(network.sigma))
        loss, (a_loss, c_loss, b_loss), kl = self.compiled_loss(mu, log_std, value, batch)
        entropy = (0.5 + HALF_LOG_2PI + log_std).sum()
        with torch.no_grad():
            self.losses.add_(torch.stack([a_loss, c_loss, entropy, b_loss]))
            sigma = log_std.exp().expand_as(mu)
        return loss - self.entropy_coef * entropy, {"mus": mu.detach(), "sigmas": sigma, "kl": kl}
