"""Adversarial motion priors: PPO that is rewarded for moving like demonstrations.

    loss = actor + critic_coef * value - entropy_coef * entropy + bounds_loss_coef * bounds
           + disc_coef * discriminator

A discriminator learns to distinguish the policy's motion over a few steps (`infos["amp_obs"]`) from
demonstrations (`fetch_amp_obs_demo`); the reward is high where it takes the policy's motion for a
demonstration. Losses, reward, buffers and order of operations are those of IsaacGymEnvs, with two
differences: every minibatch draws new rows from the buffers, with replacement; and
`save_replay_buffer` can save the buffers in checkpoints. Source: arXiv:2104.02180.

The discriminator's loss contains a gradient. With ReLU, as here, it is a product of weights and
masks, so that torch.compile can fuse the loss, which it cannot with torch.autograd inside.
"""

from typing import Any, ClassVar

import torch
from torch import Tensor

from phalanx.errors import PhalanxError
from phalanx.fits import mapping
from phalanx.rl import checkpoint
from phalanx.rl.amp_buffer import AMPBuffer
from phalanx.rl.config import AMPConfig
from phalanx.rl.formulas import clip_fraction, discriminator_loss, style_reward
from phalanx.rl.normalize import RunningMeanStd
from phalanx.rl.part import Part
from phalanx.rl.ppo_continuous import ContinuousPPO

MEAN_TAGS = (
    "losses/disc_loss",
    "info/disc_agent_acc",
    "info/disc_demo_acc",
    "info/disc_agent_logit",
    "info/disc_demo_logit",
    "info/disc_grad_penalty",
    "info/disc_logit_loss",
)
"""Tags of the means that `Discriminator.disc_loss` accumulates."""


class Discriminator(Part):
    """The discriminator as a part of PPO. Override `prediction_loss` and `style_reward` for another
    objective."""

    name = "discriminator"

    def __init__(self, learner: Any, env: Any) -> None:
        c: AMPConfig = learner.config
        self.config, self.env, device = c, env, learner.device
        self.network = learner.model.a2c_network
        self.plain = getattr(self.network, "disc_is_plain", False)
        self._check(c, learner)
        (width,) = env.amp_observation_space.shape
        self.rows = c.amp_minibatch(env.num_envs)
        """Rows per minibatch of the policy, of the replay and of demonstrations, each."""
        self.normalizer = amp_normalizer(c, (width,), device)
        self.amp_obs = torch.zeros(env.num_envs, c.horizon_length, width, device=device)
        self.sums = torch.zeros(len(MEAN_TAGS), device=device)
        self.clipped = torch.zeros((), device=device)
        self.reward_spread = torch.zeros(2, device=device)
        """Mean and standard deviation of the discriminator's reward over the rollout."""
        self.minibatches = learner.batch_size // learner.minibatch_size
        self.replay = AMPBuffer(c.amp_replay_buffer_size, width, device)
        self.demos = AMPBuffer(c.amp_obs_demo_buffer_size, width, device)
        for _ in range(-(-c.amp_obs_demo_buffer_size // c.amp_batch_size)):
            self.demos.store(env.fetch_amp_obs_demo(c.amp_batch_size))

    def _check(self, c: AMPConfig, learner: Any) -> None:
        if not hasattr(self.network, "eval_disc"):
            raise PhalanxError("the algorithm amp_continuous needs params.network.name: amp")
        if learner.batch_size > c.amp_replay_buffer_size:
            raise PhalanxError(
                f"params.config.amp_replay_buffer_size {c.amp_replay_buffer_size} is less than the"
                f" {learner.batch_size} observations of an iteration; give more"
            )
        if c.amp_batch_size > c.amp_obs_demo_buffer_size:
            raise PhalanxError(
                f"params.config.amp_obs_demo_buffer_size {c.amp_obs_demo_buffer_size} is less than"
                f" amp_batch_size {c.amp_batch_size}; give more"
            )

    # -- objective ---------------------------------------------------------------------------------

    def prediction_loss(self, agent_logit: Tensor, demo_logit: Tensor) -> Tensor:
        """The loss, a scalar, for logits of the policy (A, 1) and of demonstrations (B, 1)."""
        return discriminator_loss(agent_logit, demo_logit)

    @staticmethod
    def style_reward(logit: Tensor, scale: float) -> Tensor:
        """Rewards (B, 1) for logits (B, 1)."""
        return style_reward(logit, scale)

    def rewards(self, amp_obs: Tensor) -> Tensor:
        """Rewards (B, 1) for observations of the policy's motion, (B, D)."""
        logits = self.network.eval_disc(self.normalized(amp_obs))
        return self.style_reward(logits, self.config.disc_reward_scale)

    def disc_loss(self, agent: Tensor, demo: Tensor) -> Tensor:
        """The discriminator's loss, a scalar, for the policy's motion (A, D) and demonstrations
        (B, D), both normalised; adds to the means of `MEAN_TAGS`."""
        c, network = self.config, self.network
        agent_logit = network.eval_disc(agent)
        if self.plain:
            demo_logit, slope = network.eval_disc_and_slope(demo)
        else:
            demo = demo.requires_grad_()
            demo_logit = network.eval_disc(demo)
            (slope,) = torch.autograd.grad(demo_logit.sum(), demo, create_graph=True)
        prediction = self.prediction_loss(agent_logit, demo_logit)
        logit_loss = network.get_disc_logit_weights().square().sum()
        penalty = slope.square().sum(-1).mean()
        decay = torch.cat(network.get_disc_weights()).square().sum()
        loss = prediction + c.disc_logit_reg * logit_loss + c.disc_grad_penalty * penalty
        loss = loss + c.disc_weight_decay * decay
        with torch.no_grad():
            accuracies = (agent_logit < 0).float().mean(), (demo_logit > 0).float().mean()
            logits = agent_logit.mean(), demo_logit.mean()
            self.sums.add_(torch.stack([loss, *accuracies, *logits, penalty, logit_loss]))
        return loss

    def normalized(self, amp_obs: Tensor, learn: bool = False) -> Tensor:
        """`amp_obs` (B, D) normalised; with `learn` the statistics are updated with it first."""
        if self.normalizer is None:
            return amp_obs.clone()
        if learn:
            self.normalizer.update(amp_obs)
        return self.normalizer(amp_obs)

    def inputs(self, agent: Tensor, replay: Tensor, demo: Tensor) -> tuple[Tensor, Tensor]:
        """The inputs of `disc_loss`, in this order seen by the normaliser."""
        agent, replay, demo = (self.normalized(x, learn=True) for x in (agent, replay, demo))
        return torch.cat([agent, replay]), demo

    # -- as a part ---------------------------------------------------------------------------------

    def fused_methods(self) -> tuple[str, ...]:
        """See `Part`."""
        own = type(self).disc_loss is Discriminator.disc_loss and self.plain
        return ("inputs", "disc_loss") if own else ("inputs",)

    def change_config(self, config: Any) -> None:
        """See `Part`."""
        self.config = config

    def store(self, t: int, infos: dict[str, Any]) -> None:
        """See `Part`."""
        self.amp_obs[:, t] = infos["amp_obs"]

    def batch_reward(self, rewards: Tensor) -> None:
        """Replace the task's rewards (N, T, V) by the weighted sum with the discriminator's."""
        c = self.config
        own = self.rewards(self.amp_obs.flatten(0, 1)).view_as(rewards)
        self.reward_spread.copy_(torch.stack([own.mean(), own.std()]))
        rewards.copy_(c.task_reward_w * rewards + c.disc_reward_w * own)

    def fit(self, dataset: dict[str, Any]) -> None:
        """Store new demonstrations; the discriminator learns with the policy's optimiser."""
        self.sums.zero_()
        self.clipped.zero_()
        self.demos.store(self.env.fetch_amp_obs_demo(self.config.amp_batch_size))

    def extend(self, batch: dict[str, Any], rows: Tensor) -> None:
        """Add the first rows of the minibatch, rows of the replay, and demonstrations, (M, D)
        each."""
        n = self.rows
        own = self.amp_obs.flatten(0, 1)[rows[:n]]
        batch["amp_obs"] = own
        batch["amp_obs_replay"] = torch.where(self.replay.stored > 0, self.replay.sample(n), own)
        batch["amp_obs_demo"] = self.demos.sample(n)

    def loss(self, loss: Tensor, batch: dict[str, Any]) -> Tensor:
        """See `Part`."""
        kinds = ("amp_obs", "amp_obs_replay", "amp_obs_demo")
        inputs = self.inputs(*(batch[kind] for kind in kinds))
        return loss + self.config.disc_coef * self.disc_loss(*inputs)

    def after_minibatch(self, mini_epoch: int, batch: dict[str, Any], result: Any) -> None:
        """See `Part`."""
        old, new = batch["neglogpacs"], result["prev_neglogp"].detach()
        self.clipped.add_(clip_fraction(old, new, self.config.e_clip))

    def after_update(self) -> None:
        """Store the policy's motion in the replay."""
        self.replay.store(self.amp_obs.flatten(0, 1), self.config.amp_replay_keep_prob)
        steps = self.config.mini_epochs * self.minibatches
        self.sums.div_(steps)
        self.clipped.div_(steps)

    def statistics(self) -> dict[str, Tensor]:
        """See `Part`."""
        found = dict(zip(MEAN_TAGS, self.sums, strict=True))
        mean, spread = self.reward_spread
        found |= {"info/disc_reward_mean": mean, "info/disc_reward_std": spread}
        return found | {"info/clip_frac": self.clipped}

    def blame(self) -> dict[str, Any]:
        """See `Part`."""
        return {"amp_obs": self.amp_obs}

    # -- checkpoints -------------------------------------------------------------------------------

    def weights(self) -> dict[str, Any]:
        """The normaliser; the network is part of the policy's model."""
        if self.normalizer is None:
            return {}
        return {"amp_input_mean_std": self.normalizer.state_dict()}

    def check_weights(self, weights: dict[str, Any], source: object) -> None:
        """See `Part`."""
        if self.normalizer is not None and "amp_input_mean_std" in weights:
            checkpoint.check_weights(self.normalizer, weights["amp_input_mean_std"], source)

    def load_weights(self, weights: dict[str, Any], source: object) -> None:
        """See `Part`."""
        load_amp_normalizer(self.normalizer, weights, source)

    def state_dict(self) -> dict[str, Any]:
        """Both buffers with save_replay_buffer, otherwise only their fill levels."""
        whole = self.config.save_replay_buffer
        return {
            name: buffer.state_dict() if whole else {"stored": buffer.stored.clone()}
            for name, buffer in (("demos", self.demos), ("replay", self.replay))
        }

    def check_state(self, state: Any) -> None:
        """See `Part`."""
        for name, buffer in (("demos", self.demos), ("replay", self.replay)):
            buffer.check_state(mapping(state, self.name).get(name), f"{self.name}.{name}")

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """See `Part`."""
        for name, buffer in (("demos", self.demos), ("replay", self.replay)):
            if "rows" in state[name]:
                buffer.load_state_dict(state[name])
            elif int(buffer.stored) >= int(state[name]["stored"]):
                # Back to the restart point within a run: rows overwritten since then stay.
                buffer.stored.copy_(state[name]["stored"])
            elif name == "replay":
                raise PhalanxError(
                    "the checkpoint has no replay buffer (save_replay_buffer: true keeps it), so"
                    " the discriminator forgets the policy's earlier motion"
                )


class AMP(ContinuousPPO):
    """PPO with a discriminator, whose minibatches are in random order."""

    Config = AMPConfig
    ALIASES: ClassVar[dict[str, str]] = {
        "performance/total_fps": "performance/step_inference_rl_update_fps",
        "performance/step_fps": "performance/step_inference_fps",
        "performance/update_time": "performance/rl_update_time",
        "performance/play_time": "performance/step_inference_time",
        "rewards/frame": "rewards/step",
        "episode_lengths/frame": "episode_lengths/step",
    }
    """IsaacGymEnvs' tags, and RL Games' tags for the same values."""
    CHANGEABLE = (
        *ContinuousPPO.CHANGEABLE,
        *("task_reward_w", "disc_reward_w", "disc_reward_scale", "disc_coef", "disc_grad_penalty"),
        *("disc_logit_reg", "disc_weight_decay"),
    )
    Discriminator = Discriminator
    adapts_per_update = True
    soft_bound = 1.0
    value_scale = 1.0

    def make_parts(self, env: Any) -> list[Part]:
        self.discriminator = self.Discriminator(self, env)
        self.order = torch.arange(self.batch_size, device=self.device)
        return [*super().make_parts(env), self.discriminator]

    def rows(self, i: int) -> Any:
        """Minibatch `i`: M rows of the dataset in random order, each row once per pass."""
        if i == 0:
            self.order.copy_(torch.rand(self.batch_size, device=self.device).argsort())
        return self.order[i * self.minibatch_size : (i + 1) * self.minibatch_size]


def amp_normalizer(
    config: AMPConfig, shape: tuple[int, ...], device: torch.device
) -> RunningMeanStd | None:
    """The normaliser of the discriminator's inputs, if configured; only `update` changes its
    statistics."""
    if not config.normalize_amp_input:
        return None
    return RunningMeanStd(shape).to(device).eval()


def load_amp_normalizer(
    normalizer: RunningMeanStd | None, state: dict[str, Any], source: object
) -> None:
    """Restore the normaliser's statistics from a checkpoint, if it has any. Raises PhalanxError if
    they do not fit."""
    if normalizer is not None and "amp_input_mean_std" in state:
        checkpoint.load_weights(normalizer, state["amp_input_mean_std"], source)
