"""PPO as RL Games defines it, for continuous and for discrete actions.

    loss = actor + critic_coef * value / 2 - entropy_coef * entropy + bounds_loss_coef * bounds

`play_steps` collects a batch, `prepare_dataset` turns it into what the losses need, `update`
passes over it. None of them waits for the device or allocates what outlives it, so on CUDA
`train_epoch` replays each as a graph. Source: arXiv:1707.06347; constants and order of operations
as in RL Games 1.6.5, which differ from the paper where the comments say.
"""

import contextlib
import copy
from typing import Any

import torch
from torch import Tensor, nn

from phalanx.rl.agent import Agent
from phalanx.rl.capture import Graph
from phalanx.rl.config import PPOConfig, RewardShaper
from phalanx.rl.observer import AlgoObserver
from phalanx.rl.rollout import EpisodeSums, Rollout, gae
from phalanx.spaces import Box

LOSSES = ("a_loss", "c_loss", "entropy", "bounds_loss")


class A2CAgent(Agent):
    """PPO with continuous actions; what `a2c_continuous` names."""

    Config = PPOConfig

    def __init__(self, base_name: str, params: dict[str, Any]) -> None:
        super().__init__(base_name, params)
        c = self.config
        self.horizon_length = c.horizon_length
        self.minibatch_size = c.minibatch(self.num_actors)
        # A tensor, so that the adaptive schedule can change it without the host.
        self.lr = torch.tensor(c.learning_rate, device=self.device)
        self.entropy_coef = torch.tensor(c.entropy_coef, device=self.device)
        self.optimizer = torch.optim.Adam(
            self.model.parameters(),
            lr=self.lr,
            eps=1e-8,
            weight_decay=c.weight_decay,
            fused=True,
            capturable=self.device.type == "cuda",
        )
        self.rollout: Rollout | None = None
        self.obs: dict[str, Tensor] = {}
        eager = type(self.observer).process_infos is not AlgoObserver.process_infos
        on_cuda = self.device.type == "cuda" and hasattr(self.vec_env, "capture")
        self.captures = on_cuda and not eager
        capture = getattr(self.vec_env, "capture", contextlib.nullcontext)
        self._play_graph = Graph(self._collect, capture)
        self._update_graph = Graph(self.update)

    # -- one iteration ---------------------------------------------------------------------------

    def train_epoch(self) -> None:
        """Collect a batch, learn from it."""
        self._schedule_by_epoch()
        self.model.eval()
        self._clock.start()
        (self._play_graph if self.captures else self._collect)()
        self._clock.stop("rollout")
        self.observer.after_steps()
        self.model.train()
        self._clock.start()
        (self._update_graph if self.captures else self.update)()
        self._clock.stop("update")

    def _collect(self) -> None:
        with torch.no_grad():
            self.play_steps()
            self.prepare_dataset()

    def play_steps(self) -> None:
        """T steps of the policy in every environment, into `rollout`."""
        r, c = self.buffers, self.config
        for t in range(self.horizon_length):
            result = self.get_action_values(self.obs)
            r.obs[:, t] = self.obs["obs"]
            r.actions[:, t] = result["actions"]
            r.values[:, t] = result["values"]
            for name, buffer in r.policy.items():
                buffer[:, t] = result[name]

            self.obs, reward, terminated, truncated, infos = self.env_step(result["actions"])

            shaped = shape_reward(reward, c.reward_shaper)
            if c.value_bootstrap is True:  # RL Games' rule: the value before the step
                shaped = shaped + c.gamma * result["values"][:, 0] * truncated
            if r.terminal_obs is not None:
                r.terminal_obs[:, t] = infos["terminal"]["obs"]
            done = (terminated | truncated).float()
            r.rewards[:, t, 0] = shaped
            r.dones[:, t] = done
            r.truncated[:, t] = truncated.float()
            self.episodes.add(t, reward, shaped, done)
        r.last_values.copy_(self.get_values(self.obs["obs"]))
        if r.terminal_obs is not None:
            # One pass over all states reached is cheaper than T small ones.
            reached = self.get_values(r.terminal_obs.flatten(0, 1)).view_as(r.rewards)
            r.rewards.add_(c.gamma * reached * r.truncated[..., None])

    def prepare_dataset(self) -> None:
        """Advantages and normalised values and returns into `dataset`, (N * T, ...) each."""
        r, c, d = self.buffers, self.config, self.dataset
        gae(r.rewards, r.values, r.last_values, r.dones, c.gamma, c.tau, out=r.advantages)
        values, returns = r.values.flatten(0, 1), (r.advantages + r.values).flatten(0, 1)
        advantages = r.advantages.flatten(0, 1).sum(-1)
        if self.model.value_mean_std is not None:
            # The statistics see the old values, then the returns, as in RL Games.
            normalizer: Any = self.model.value_mean_std
            normalizer.train()
            values, returns = normalizer(values), normalizer(returns)
            normalizer.eval()
        if c.normalize_advantage:
            advantages = (advantages - advantages.mean()) / (advantages.std() + 1e-8)
        d["old_values"].copy_(values)
        d["returns"].copy_(returns)
        d["advantages"].copy_(advantages)

    def update(self) -> None:
        """mini_epochs passes over the dataset in minibatches."""
        c = self.config
        self.losses.zero_()
        self.kl.zero_()
        minibatches = self.batch_size // self.minibatch_size
        for _ in range(c.mini_epochs):
            pass_kl = torch.zeros_like(self.kl)
            for i in range(minibatches):
                rows = slice(i * self.minibatch_size, (i + 1) * self.minibatch_size)
                kl = self.train_actor_critic({k: v[rows] for k, v in self.dataset.items()})
                pass_kl += kl / minibatches
                if c.schedule_type in ("legacy", "per_minibatch") and self.adapts_per_minibatch:
                    self.adapt_lr(kl)
            if c.schedule_type == "standard" or not self.adapts_per_minibatch:
                self.adapt_lr(pass_kl)
            self.kl += pass_kl / c.mini_epochs
        self.losses.div_(c.mini_epochs * minibatches)

    def train_actor_critic(self, batch: dict[str, Tensor]) -> Tensor:
        """One gradient step on a minibatch; returns its KL from the old policy, a scalar."""
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.config.mixed_precision):
            result = self.model(
                {"is_train": True, "obs": batch["obs"], "prev_actions": batch["actions"]}
            )
        loss = self.calc_losses(batch, result)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        if self.config.truncate_grads:
            nn.utils.clip_grad_norm_(self.model.parameters(), self.config.grad_norm)
        self.optimizer.step()
        with torch.no_grad():
            return self.policy_kl(batch, result)

    def calc_losses(self, batch: dict[str, Tensor], result: dict[str, Tensor]) -> Tensor:
        """The loss, a scalar; its parts are summed into `losses`."""
        c = self.config
        advantage = batch["advantages"]
        ratio = torch.exp(batch["neglogpacs"] - result["prev_neglogp"])
        clipped = smooth_clamp if c.use_smooth_clamp else torch.clamp
        bounded = clipped(ratio, 1 - c.e_clip, 1 + c.e_clip)
        a_loss = torch.max(-advantage * ratio, -advantage * bounded).mean()

        value, old, target = result["values"], batch["old_values"], batch["returns"]
        c_loss = (value - target) ** 2
        if c.clip_value:
            near = old + (value - old).clamp(-c.e_clip, c.e_clip)
            c_loss = torch.max(c_loss, (near - target) ** 2)
        c_loss = c_loss.mean()

        entropy = result["entropy"].mean()
        b_loss = self.bounds_loss(result)
        with torch.no_grad():
            self.losses.add_(torch.stack([a_loss, c_loss, entropy, b_loss]))
        return (
            a_loss
            + 0.5 * c.critic_coef * c_loss
            - self.entropy_coef * entropy
            + (c.bounds_loss_coef or 0.0) * b_loss
        )

    # -- what distinguishes continuous actions ---------------------------------------------------

    adapts_per_minibatch = True
    """With schedule_type legacy, the learning rate adapts after every minibatch."""

    def policy_fields(self) -> dict[str, tuple[int, ...]]:
        """What the rollout keeps of the policy's output, and its shape."""
        actions = self.vec_env.action_space.shape
        return {"neglogpacs": (), "mus": actions, "sigmas": actions}

    def preprocess_actions(self, actions: Tensor) -> Tensor:
        """Samples, (N, A), as the environment takes them."""
        space = self.vec_env.action_space
        if not self.config.clip_actions:
            return actions
        actions = actions.clamp(-1.0, 1.0)
        if (space.low, space.high) == (-1.0, 1.0):
            return actions
        return actions * (space.high - space.low) / 2 + (space.high + space.low) / 2

    def policy_kl(self, batch: dict[str, Tensor], result: dict[str, Tensor]) -> Tensor:
        """Mean KL(new || old) of the minibatch, RL Games' formula with its epsilons; then the
        new policy becomes the old one, so that the next pass measures from here."""
        mu0, sigma0, mu1, sigma1 = result["mus"], result["sigmas"], batch["mus"], batch["sigmas"]
        kl = torch.log(sigma1 / sigma0 + 1e-5) - 0.5
        kl = kl + (sigma0**2 + (mu1 - mu0) ** 2) / (2 * (sigma1**2 + 1e-5))
        kl = kl.sum(-1).mean()
        mu1.copy_(mu0)
        sigma1.copy_(sigma0)
        return kl

    def bounds_loss(self, result: dict[str, Tensor]) -> Tensor:
        """Penalty on means beyond +-1.1, or on all of them, summed over actions."""
        mu = result["mus"]
        if self.config.bound_loss_type == "bound":
            return (mu.abs() - 1.1).clamp(min=0.0).square().sum(-1).mean()
        return mu.square().sum(-1).mean()

    def frames_per_iteration(self) -> int:
        return self.num_actors * self.config.horizon_length

    # -- parts -----------------------------------------------------------------------------------

    def get_action_values(self, obs: dict[str, Tensor]) -> dict[str, Tensor]:
        """The policy's actions and values for (N, ...) observations."""
        return self.model({"is_train": False, "obs": obs["obs"]})

    def get_values(self, obs: Tensor) -> Tensor:
        """(B, V) in reward units."""
        return self.model.get_values(obs)

    def env_reset(self) -> None:
        self.obs = self.vec_env.reset()

    def env_step(self, actions: Tensor) -> Any:
        """Step the environments; see `VecEnv.step`."""
        step = self.vec_env.step(self.preprocess_actions(actions))
        if type(self.observer).process_infos is not AlgoObserver.process_infos:
            done_indices = (step[2] | step[3]).nonzero()
            self.observer.process_infos(step[4], done_indices)
        return step

    def adapt_lr(self, kl: Tensor) -> None:
        """RL Games' adaptive schedule, on the device: steer the KL towards kl_threshold."""
        c = self.config
        if c.lr_schedule == "adaptive":
            slower = (self.lr / 1.5).clamp(min=c.min_lr)
            faster = (self.lr * 1.5).clamp(max=c.max_lr)
            lr = torch.where(kl > 2.0 * c.kl_threshold, slower, self.lr)
            self.lr.copy_(torch.where(kl < 0.5 * c.kl_threshold, faster, lr))

    def _schedule_by_epoch(self) -> None:
        c = self.config
        if c.lr_schedule != "linear":
            return
        total, done = c.max_epochs, self.epoch_num
        if total == -1:
            total, done = c.max_frames, self.frame
        left = max(0.0, (total - done) / total) if total > 0 else 1.0
        self.lr.fill_(c.min_lr + (c.learning_rate - c.min_lr) * left)
        if c.schedule_entropy:
            self.entropy_coef.fill_(1e-4 + (c.entropy_coef - 1e-4) * left)

    def init_tensors(self) -> None:
        if self.rollout is not None:
            return
        n, t, device = self.num_actors, self.horizon_length, self.device
        space = self.vec_env.action_space
        continuous = isinstance(space, Box)
        r = self.rollout = Rollout(
            n,
            t,
            self.vec_env.observation_space.shape,
            space.shape if continuous else (),
            torch.float32 if continuous else torch.long,
            self.policy_fields(),
            self.config.value_bootstrap == "reached",
            getattr(self.vec_env, "value_size", 1),
            device,
        )
        self.episodes = EpisodeSums(n, t, device)
        self.losses = torch.zeros(len(LOSSES), device=device)
        self.kl = torch.zeros((), device=device)
        flat = {k: v.flatten(0, 1) for k, v in r.policy.items()}
        self.dataset = {
            "obs": r.obs.flatten(0, 1),
            "actions": r.actions.flatten(0, 1),
            "old_values": torch.zeros_like(r.values).flatten(0, 1),
            "returns": torch.zeros_like(r.values).flatten(0, 1),
            "advantages": torch.zeros(n * t, device=device),
            **flat,
        }

    @property
    def buffers(self) -> Rollout:
        """The rollout's buffers, once `init_tensors` has made them."""
        assert self.rollout is not None
        return self.rollout

    def statistics(self) -> Tensor:
        head = torch.stack([*self.losses, self.kl, self.lr])
        return torch.cat([head, self.episodes.finished.flatten()])

    def log_statistics(self, values: list[float]) -> dict[str, float]:
        n = len(LOSSES)
        scalars = {f"losses/{name}": values[k] for k, name in enumerate(LOSSES)}
        self.last_lr = values[n + 1]
        scalars |= {"info/kl": values[n], "info/last_lr": self.last_lr}
        scalars |= {"info/e_clip": self.config.e_clip, "info/lr_mul": 1.0}
        finished = values[n + 2 :]
        for t in range(self.horizon_length):
            *sums, count = finished[4 * t : 4 * t + 4]
            for meter, total in zip(self._meters(), sums, strict=True):
                meter.add(total / max(count, 1.0), int(count))
        return scalars

    def forget_graphs(self) -> None:
        self._play_graph.reset()
        self._update_graph.reset()

    def load_optimizer(self, state: dict[str, Any]) -> None:
        flags = [{k: v for k, v in g.items() if k != "params"} for g in self.optimizer.param_groups]
        self.lr.fill_(float(state["param_groups"][0]["lr"]))
        self.optimizer.load_state_dict(copy.deepcopy(state))  # it would keep these tensors
        for group, own in zip(self.optimizer.param_groups, flags, strict=True):
            group.update(own)

    def extra_state(self) -> dict[str, Any]:
        return {"lr": self.lr.clone(), "running": self.episodes.running.clone()}

    def load_extra_state(self, state: dict[str, Any]) -> None:
        self.lr.copy_(state["lr"])
        self.episodes.running.copy_(state["running"])
        self.obs = self.vec_env.observations


class DiscreteA2CAgent(A2CAgent):
    """PPO with one discrete action; what `a2c_discrete` names."""

    adapts_per_minibatch = False

    def policy_fields(self) -> dict[str, tuple[int, ...]]:
        return {"neglogpacs": ()}

    def preprocess_actions(self, actions: Tensor) -> Tensor:
        return actions

    def policy_kl(self, batch: dict[str, Tensor], result: dict[str, Tensor]) -> Tensor:
        """RL Games' estimate: half the mean squared change of the log probabilities."""
        return 0.5 * (batch["neglogpacs"] - result["prev_neglogp"]).square().mean()

    def bounds_loss(self, result: dict[str, Tensor]) -> Tensor:
        return torch.zeros((), device=self.device)


def shape_reward(reward: Tensor, shaper: RewardShaper) -> Tensor:
    """RL Games' reward_shaper: shift, scale, clamp, logarithm."""
    shaped = (reward + shaper.shift_value) * shaper.scale_value
    shaped = shaped.clamp(shaper.min_val, shaper.max_val)
    return shaped.log() if shaper.log_val else shaped


def smooth_clamp(x: Tensor, low: float, high: float) -> Tensor:
    """RL Games' logistic stand-in for clamp, smooth at both ends."""
    return low + (high - low) / (1 + torch.exp(4 * (0.5 - (x - low) / (high - low))))
