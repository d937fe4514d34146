"""Adversarial motion priors: PPO whose reward says how much the policy moves like demonstrations.

    loss = actor + critic_coef * value - entropy_coef * entropy + bounds_loss_coef * bounds
           + disc_coef * discriminator

A discriminator learns to tell what the policy looks like over a few steps (`infos["amp_obs"]`) from
demonstrations (`fetch_amp_obs_demo`); the better the policy passes for one, the higher its reward.
Losses, reward, buffers and order of operations are those that IsaacGymEnvs gives RL Games, with
two differences: rows are drawn from the buffers anew for every minibatch, with replacement; and
`save_replay_buffer` can keep the buffers in checkpoints. Source: arXiv:2104.02180.

As in PPO, nothing waits for the device: an iteration is two CUDA graphs. The discriminator's loss
is a gradient's gradient, which torch.compile cannot merge; in the graph it is as good.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from phalanx.errors import PhalanxError
from phalanx.rl import checkpoint
from phalanx.rl.amp_buffer import AMPBuffer
from phalanx.rl.config import AMPConfig
from phalanx.rl.nested import nested
from phalanx.rl.normalize import RunningMeanStd
from phalanx.rl.ppo import A2CAgent, Memories
from phalanx.rl.schedules import adapt_lr

AMP_STATISTICS = (
    "losses/disc_loss",
    "info/disc_agent_acc",
    "info/disc_demo_acc",
    "info/disc_agent_logit",
    "info/disc_demo_logit",
    "info/disc_grad_penalty",
    "info/disc_logit_loss",
)
"""Tags of what `disc_loss` notes."""
ALIASES = {
    "performance/total_fps": "performance/step_inference_rl_update_fps",
    "performance/step_fps": "performance/step_inference_fps",
    "performance/update_time": "performance/rl_update_time",
    "performance/play_time": "performance/step_inference_time",
    "rewards/frame": "rewards/step",
    "episode_lengths/frame": "episode_lengths/step",
}
"""IsaacGymEnvs' tags, and RL Games' for the same."""


class AMPAgent(A2CAgent):
    """PPO that imitates; what `amp_continuous` names."""

    Config = AMPConfig
    FUSED = ("act", "count", "assess", "policy_loss_of", "policy_kl")

    def __init__(self, base_name: str, params: dict[str, Any]) -> None:
        super().__init__(base_name, params)
        c = self.config
        if not hasattr(self.model.a2c_network, "eval_disc"):
            raise PhalanxError("the algorithm amp_continuous needs params.network.name: amp")
        if self.num_actors * self.horizon_length > c.amp_replay_buffer_size:
            raise PhalanxError(
                f"params.config.amp_replay_buffer_size {c.amp_replay_buffer_size} is less than the"
                f" {self.batch_size} observations of an iteration; give more"
            )
        if c.amp_batch_size > c.amp_obs_demo_buffer_size:
            raise PhalanxError(
                f"params.config.amp_obs_demo_buffer_size {c.amp_obs_demo_buffer_size} is less than"
                f" amp_batch_size {c.amp_batch_size}; give more"
            )
        self.critic_weight = c.critic_coef
        self.amp_minibatch_size = c.amp_minibatch(self.num_actors)
        shape = self.vec_env.amp_observation_space.shape
        self.amp_input_mean_std = amp_normalizer(c, shape, self.device)

    # -- the discriminator -----------------------------------------------------------------------

    def disc_loss(self, agent: Tensor, demo: Tensor) -> Tensor:
        """The discriminator's loss, a scalar, for what the policy looked like (A, D) and
        demonstrations (B, D), both normalised; notes `AMP_STATISTICS`."""
        c, network = self.config, self.model.a2c_network
        demo = demo.requires_grad_()
        agent_logit, demo_logit = network.eval_disc(agent), network.eval_disc(demo)
        prediction = self.disc_prediction_loss(agent_logit, demo_logit)
        logit_loss = network.get_disc_logit_weights().square().sum()
        (gradient,) = torch.autograd.grad(demo_logit.sum(), demo, create_graph=True)
        penalty = gradient.square().sum(-1).mean()
        decay = torch.cat(network.get_disc_weights()).square().sum()
        loss = prediction + c.disc_logit_reg * logit_loss + c.disc_grad_penalty * penalty
        loss = loss + c.disc_weight_decay * decay
        with torch.no_grad():
            accuracies = (agent_logit < 0).float().mean(), (demo_logit > 0).float().mean()
            logits = agent_logit.mean(), demo_logit.mean()
            self.amp_sums.add_(torch.stack([loss, *accuracies, *logits, penalty, logit_loss]))
        return loss

    def disc_prediction_loss(self, agent_logit: Tensor, demo_logit: Tensor) -> Tensor:
        """How wrong the discriminator is, a scalar, from logits (A, 1) and (B, 1)."""
        return prediction_loss(agent_logit, demo_logit)

    def disc_rewards(self, amp_obs: Tensor) -> Tensor:
        """(B, 1) for how the policy looks, (B, D) as observed."""
        logits = self.model.a2c_network.eval_disc(self.preprocess_amp_obs(amp_obs))
        return style_reward(logits, self.config.disc_reward_scale)

    def combine_rewards(self, task_rewards: Tensor, disc_rewards: Tensor) -> Tensor:
        """What PPO maximises, from shaped rewards and the discriminator's, (N, T, 1) each."""
        c = self.config
        return c.task_reward_w * task_rewards + c.disc_reward_w * disc_rewards

    def preprocess_amp_obs(self, amp_obs: Tensor, learn: bool = False) -> Tensor:
        """(B, D) normalised; with `learn` the statistics see it first."""
        normalizer = self.amp_input_mean_std
        if normalizer is None:
            return amp_obs.clone()
        if learn:
            normalizer.update(amp_obs)
        return normalizer(amp_obs)

    # -- one iteration, where it differs from PPO's ----------------------------------------------

    def evaluate(self) -> None:
        r = self.buffers
        disc = self.disc_rewards(self.amp_obs.flatten(0, 1)).view_as(r.rewards)
        self.reward_spread.copy_(torch.stack([disc.mean(), disc.std()]))
        r.rewards.copy_(self.combine_rewards(r.rewards, disc))
        super().evaluate()

    def update(self) -> None:
        c = self.config
        self.amp_sums.zero_()
        self.clipped.zero_()
        self.demos.store(self.vec_env.fetch_amp_obs_demo(c.amp_batch_size))
        super().update()
        if c.schedule_type == "standard_epoch":
            adapt_lr(self.lr, self.kl, c)
        self.replay.store(self.amp_obs.flatten(0, 1), c.amp_replay_keep_prob)
        steps = c.mini_epochs * (self.batch_size // self.minibatch_size)
        self.amp_sums.div_(steps)
        self.clipped.div_(steps)

    def minibatch(self, i: int) -> dict[str, Any]:
        """M rows of the dataset in random order, every row once in a pass; and for the
        discriminator the first of them, rows of the replay and demonstrations."""
        if i == 0:
            self.order.copy_(torch.rand(self.batch_size, device=self.device).argsort())
        rows = self.order[i * self.minibatch_size : (i + 1) * self.minibatch_size]
        batch: dict[str, Any] = nested(lambda x: x[rows], self.dataset)
        n = self.amp_minibatch_size
        own = self.amp_obs.flatten(0, 1)[rows[:n]]
        replay = torch.where(self.replay.stored > 0, self.replay.sample(n), own)
        return batch | {
            "amp_obs": own,
            "amp_obs_replay": replay,
            "amp_obs_demo": self.demos.sample(n),
        }

    def loss_of(self, batch: dict[str, Any]) -> tuple[Tensor, dict[str, Tensor]]:
        amp = [batch.pop(f"amp_obs{kind}") for kind in ("", "_replay", "_demo")]
        loss, result = self.policy_loss_of(batch)
        agent, replay, demo = (self.preprocess_amp_obs(x, learn=True) for x in amp)
        loss = loss + self.config.disc_coef * self.disc_loss(torch.cat([agent, replay]), demo)
        return loss, result

    def policy_loss_of(self, batch: dict[str, Any]) -> tuple[Tensor, dict[str, Tensor]]:
        """PPO's part of the loss, and what the model gave for it."""
        return super().loss_of(batch)

    def calc_losses(self, batch: dict[str, Tensor], result: dict[str, Tensor]) -> Tensor:
        with torch.no_grad():
            ratio = torch.exp(batch["neglogpacs"] - result["prev_neglogp"])
            self.clipped.add_(((ratio - 1).abs() > self.config.e_clip).float().mean())
        return super().calc_losses(batch, result)

    # -- parts -----------------------------------------------------------------------------------

    soft_bound = 1.0

    def init_tensors(self) -> None:
        if self.rollout is not None:
            return
        super().init_tensors()
        c, device = self.config, self.device
        (width,) = self.vec_env.amp_observation_space.shape
        self.amp_obs = self.buffers.zeros(width)  # (N, T, D)
        self.order = torch.arange(self.batch_size, device=device)
        self.amp_sums = torch.zeros(len(AMP_STATISTICS), device=device)
        self.clipped = torch.zeros((), device=device)
        self.reward_spread = torch.zeros(2, device=device)
        self.replay = AMPBuffer(c.amp_replay_buffer_size, width, device)
        self.demos = AMPBuffer(c.amp_obs_demo_buffer_size, width, device)
        for _ in range(-(-c.amp_obs_demo_buffer_size // c.amp_batch_size)):
            self.demos.store(self.vec_env.fetch_amp_obs_demo(c.amp_batch_size))

    def _store_reached(self, t: int, infos: dict[str, Any], memories: Memories) -> None:
        super()._store_reached(t, infos, memories)
        self.amp_obs[:, t] = infos["amp_obs"]

    def statistics(self) -> Tensor:
        own = [self.amp_sums, self.reward_spread, self.clipped[None]]
        return torch.cat([super().statistics(), *own])

    def log_statistics(self, values: list[float]) -> dict[str, float]:
        tags = [*AMP_STATISTICS, "info/disc_reward_mean", "info/disc_reward_std", "info/clip_frac"]
        own = dict(zip(tags, values[-len(tags) :], strict=True))
        return super().log_statistics(values[: -len(tags)]) | own

    def points(
        self, scalars: dict[str, float], at: dict[str, float]
    ) -> dict[str, dict[str, float]]:
        points = super().points(scalars, at)
        own = points["step"]
        own |= {alias: own[tag] for alias, tag in ALIASES.items() if tag in own}
        return points

    def remembered(self) -> dict[str, Any]:
        return {"amp_obs": self.amp_obs} | super().remembered()

    # -- checkpoints -----------------------------------------------------------------------------

    def extra_state(self) -> dict[str, Any]:
        state = super().extra_state()
        for name, buffer in (("demos", self.demos), ("replay", self.replay)):
            whole = self.config.save_replay_buffer
            state[name] = buffer.state_dict() if whole else {"stored": buffer.stored.clone()}
        return state

    def load_extra_state(self, state: dict[str, Any]) -> None:
        super().load_extra_state(state)
        for name, buffer in (("demos", self.demos), ("replay", self.replay)):
            if "rows" in state[name]:
                buffer.load_state_dict(state[name])
            elif int(buffer.stored) >= int(state[name]["stored"]):
                # Back to the restart point within a run: what has been overwritten since stays.
                buffer.stored.copy_(state[name]["stored"])
            elif name == "replay":
                self.warn(
                    "the checkpoint has no replay buffer (save_replay_buffer: true keeps it), so"
                    " the discriminator forgets what the policy looked like before"
                )

    def get_full_state_weights(self) -> dict[str, Any]:
        state = super().get_full_state_weights()
        if self.amp_input_mean_std is not None:
            state["amp_input_mean_std"] = self.amp_input_mean_std.state_dict()
        return state

    def set_full_state_weights(
        self, weights: dict[str, Any], set_epoch: bool = True, source: object = "the checkpoint"
    ) -> None:
        super().set_full_state_weights(weights, set_epoch, source)
        load_amp_normalizer(self.amp_input_mean_std, weights, source)


def prediction_loss(agent_logit: Tensor, demo_logit: Tensor) -> Tensor:
    """Mean of two binary cross entropies: the policy's rows (A, 1) are none, the others (B, 1)
    are demonstrations."""
    agent = F.binary_cross_entropy_with_logits(agent_logit, torch.zeros_like(agent_logit))
    demo = F.binary_cross_entropy_with_logits(demo_logit, torch.ones_like(demo_logit))
    return 0.5 * (agent + demo)


def style_reward(logit: Tensor, scale: float) -> Tensor:
    """-log(1 - p) * scale, p the probability of being a demonstration and at most 0.9999."""
    return -torch.log((1 - logit.sigmoid()).clamp(min=1e-4)) * scale


def amp_normalizer(
    config: AMPConfig, shape: tuple[int, ...], device: torch.device
) -> RunningMeanStd | None:
    """What normalises rows for the discriminator, if that is configured; its statistics learn only
    from `update`."""
    if not config.normalize_amp_input:
        return None
    return RunningMeanStd(shape).to(device).eval()


def load_amp_normalizer(
    normalizer: RunningMeanStd | None, state: dict[str, Any], source: object
) -> None:
    """Its statistics from a checkpoint, where that has any. Raises PhalanxError for what does not
    fit."""
    if normalizer is not None and "amp_input_mean_std" in state:
        checkpoint.load_weights(normalizer, state["amp_input_mean_std"], source)
