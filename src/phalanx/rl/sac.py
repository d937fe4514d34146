"""Soft actor-critic.

    critic   y = r + gamma^n (min(Q1', Q2')(s', a') - alpha log pi(a'|s')),  a' ~ pi(s')
             loss = (mean (Q1 - y)^2 + mean (Q2 - y)^2) / 2, clipped gradient
    actor    mean(max(alpha, min_alpha) log pi(a|s) - min(Q1, Q2)(s, a)),  every policy_frequency
             updates
    alpha    mean(-alpha (log pi(a|s) + target entropy)), with the actor

Source: arXiv:1812.05905. Constants, order of operations and checkpoints are those of RL Games
1.6.5, with these differences: a time-out bootstraps from the state that was reached (RL Games: from
the one before the step); alpha is saved; the target critic starts equal to the critic; the
normaliser is updated once with each observation. For thousands of environments see `n_step`,
`utd_ratio`, `clipped_double_q`, the network's `normalization`, and `cfg/train/CartpoleFastSAC.yaml`
(arXiv:2505.22642, arXiv:2512.01996).
"""

import math
from typing import Any

import torch
from torch import Tensor

from phalanx.errors import PhalanxError
from phalanx.fits import check_finite, check_tensor
from phalanx.rl import checkpoint
from phalanx.rl.config import SACConfig
from phalanx.rl.formulas import soft_target, soft_update
from phalanx.rl.off_policy import OffPolicy
from phalanx.rl.optimizer import ClippedAdam, adam, check_optimizer, load_optimizer, optimizer_state
from phalanx.rl.replay import Replay
from phalanx.rl.sac_network import SACNetwork
from phalanx.spaces import Box


class SAC(OffPolicy):
    """SAC with continuous, bounded actions."""

    Config = SACConfig
    LOGGED = (
        "losses/c1_loss",
        "losses/c2_loss",
        "losses/a_loss",
        "losses/entropy",
        "losses/alpha_loss",
        "info/alpha",
    )

    CHANGEABLE = (
        *("gamma", "actor_lr", "critic_lr", "alpha_lr", "critic_tau", "critic_grad_clip"),
        *("clipped_double_q", "learnable_temperature", "min_alpha"),
    )

    def __init__(self, config: SACConfig, env: Any, model: Any) -> None:
        super().__init__(config, env, model)
        c = config
        self.period = c.policy_frequency
        self.target_entropy = -c.target_entropy_coef * env.action_space.shape[0]
        self.network: SACNetwork = self.model.sac_network
        self.log_alpha = torch.tensor(math.log(c.init_alpha), device=self.device)
        self.log_alpha.requires_grad_()
        self.actor_optimizer = self._adam(self.network.actor.parameters(), c.actor_lr, "actor")
        self.critic_optimizer = self._adam(self.network.critic.parameters(), c.critic_lr, "critic")
        self.log_alpha_optimizer = self._adam([self.log_alpha], c.alpha_lr, "alphas")
        self.optimizer = self.actor_optimizer
        self.lr: Tensor = self.optimizer.param_groups[0]["lr"]

    def change_config(self, config: Any) -> None:
        super().change_config(config)
        self.actor_optimizer.param_groups[0]["lr"].fill_(config.actor_lr)
        self.critic_optimizer.param_groups[0]["lr"].fill_(config.critic_lr)
        self.log_alpha_optimizer.param_groups[0]["lr"].fill_(config.alpha_lr)

    # -- the update ------------------------------------------------------------------------------

    def update(self, phase: int) -> None:
        c = self.config
        for k in range(phase + 1, phase + 1 + self.updates_per_step):
            batch = self.replay.sample(c.batch_size)
            batch["obs"] = self.model.norm_obs(batch["obs"])
            batch["next_obs"] = self.model.norm_obs(batch["next_obs"])
            self.update_critic(batch)
            if k % c.policy_frequency == 0:
                self.update_actor_and_alpha(batch["obs"])
            soft_update(self.network.critic_target, self.network.critic, c.critic_tau)

    def update_critic(self, batch: dict[str, Tensor]) -> None:
        """Take one gradient step of both critics on a batch (B, ...) with normalised
        observations."""
        with torch.no_grad(), self._autocast():
            actions, log_prob = self.network.actor.sample(batch["next_obs"])
            q1, q2 = self.network.critic_target(batch["next_obs"], self.rescale(actions))
            target = soft_target(
                batch["rewards"], batch["discounts"], self.combine_q(q1, q2), log_prob, self.alpha
            )
        with self._autocast():
            q1, q2 = self.network.critic(batch["obs"], batch["actions"])
        c1_loss, c2_loss = (q1 - target).square().mean(), (q2 - target).square().mean()
        self.critic_optimizer.zero_grad(set_to_none=True)
        (0.5 * (c1_loss + c2_loss)).backward()
        self.critic_optimizer.clip_and_step(self.config.critic_grad_clip or None)
        self.record("losses/c1_loss", c1_loss, c2_loss)

    def update_actor_and_alpha(self, obs: Tensor) -> None:
        """Take one gradient step of the actor, on normalised observations (B, D), and of alpha
        towards the target entropy."""
        c = self.config
        with self._autocast():
            actions, log_prob = self.network.actor.sample(obs)
            q1, q2 = self.network.critic(obs, self.rescale(actions))
        weight = self.alpha.detach().clamp(min=c.min_alpha)
        a_loss = (weight * log_prob - self.combine_q(q1, q2)).mean()
        alpha_loss = -(self.alpha * (log_prob.detach() + self.target_entropy)).mean()
        self.actor_optimizer.zero_grad(set_to_none=True)
        self.log_alpha_optimizer.zero_grad(set_to_none=True)
        learned = [*self.network.actor.parameters(), self.log_alpha]
        (a_loss + alpha_loss).backward(inputs=learned)  # leaves the critic's gradients unchanged
        self.actor_optimizer.clip_and_step(None)
        if c.learnable_temperature:
            self.log_alpha_optimizer.clip_and_step(None)
        self.record("losses/a_loss", a_loss, -log_prob.mean(), alpha_loss, self.alpha)

    @property
    def alpha(self) -> Tensor:
        """Weight of the entropy, a scalar."""
        return self.log_alpha.exp()

    def combine_q(self, q1: Tensor, q2: Tensor) -> Tensor:
        """The smaller of two values (B,); their mean without clipped_double_q."""
        return torch.minimum(q1, q2) if self.config.clipped_double_q else 0.5 * (q1 + q2)

    # -- acting ----------------------------------------------------------------------------------

    def explore(self, obs: Tensor) -> Tensor:
        return self.rescale(self.model({"obs": obs})["actions"])

    def random_actions(self) -> Tensor:
        space = self.action_space
        actions = torch.rand(self.num_actors, *space.shape, device=self.device)
        return self.rescale(2 * actions - 1)

    def rescale(self, actions: Tensor) -> Tensor:
        """Actions (N, A) rescaled from (-1, 1) to the bounds of the environment."""
        rescaled: Tensor = self.action_space.rescale(actions)
        return rescaled

    @classmethod
    def check_spaces(cls, env: Any, config: Any) -> None:
        space = env.action_space
        bounds = (space.low, space.high) if isinstance(space, Box) else (math.inf,)
        if not all(torch.tensor(bound).isfinite().all() for bound in bounds):
            if isinstance(space, Box):
                remedy = "give its Box finite low and high, as in -1 and 1"
            else:
                remedy = "for discrete actions use dqn or a2c_discrete"
            raise PhalanxError(
                f"sac needs bounded actions, but this environment has {space}; {remedy}"
            )

    # -- parts -----------------------------------------------------------------------------------

    def make_replay(self, env: Any) -> Replay:
        c = self.config
        return Replay(
            c.replay_buffer_size,
            self.num_actors,
            env.observation_space.shape,
            env.action_space.shape,
            torch.float32,
            self.device,
            c.n_step,
            c.gamma,
        )

    def _adam(self, parameters: Any, lr: float, name: str) -> ClippedAdam:
        return adam(parameters, lr, self.device, betas=getattr(self.config, f"{name}_betas"))

    def _autocast(self) -> Any:
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.mixed_precision)

    # -- checkpoints -----------------------------------------------------------------------------

    @property
    def optimizers(self) -> dict[str, torch.optim.Optimizer]:
        """Optimisers by their names in a checkpoint."""
        return {
            "actor_optimizer": self.actor_optimizer,
            "critic_optimizer": self.critic_optimizer,
            "log_alpha_optimizer": self.log_alpha_optimizer,
        }

    def weights(self) -> dict[str, Any]:
        """RL Games' layout for SAC, and `log_alpha`, which 1.6.5 omits and 2.0 has."""
        return {
            **checkpoint.split_sac_weights(self.model.state_dict()),
            **{name: optimizer_state(optimizer) for name, optimizer in self.optimizers.items()},
            "log_alpha": self.log_alpha.detach().clone(),
        }

    def check_weights(self, weights: dict[str, Any], source: object) -> None:
        model = weights.get("model") or checkpoint.join_sac_weights(weights)
        checkpoint.check_weights(self.model, model, source)
        for name, optimizer in self.optimizers.items():
            if name in weights:
                check_optimizer(optimizer, weights[name])
        if "log_alpha" in weights:
            check_tensor(weights["log_alpha"], "log_alpha", self.log_alpha.shape)
            check_finite(weights["log_alpha"], "log_alpha")
        super().check_weights(weights, source)

    def load_weights(self, weights: dict[str, Any], source: object) -> list[str]:
        model = weights.get("model") or checkpoint.join_sac_weights(weights)
        checkpoint.load_weights(self.model, model, source)
        for name, optimizer in self.optimizers.items():
            if name in weights:
                load_optimizer(optimizer, weights[name])
        lacks = super().load_weights(weights, source)
        if "log_alpha" not in weights:
            return [*lacks, "it has no log_alpha, so alpha starts from init_alpha again"]
        with torch.no_grad():
            self.log_alpha.copy_(weights["log_alpha"])
        return lacks
