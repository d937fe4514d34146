"""PPO as RL Games defines it, for continuous and for discrete actions.

    loss = actor + critic_coef * value / 2 - entropy_coef * entropy + bounds_loss_coef * bounds

`play_steps` collects a batch, `evaluate` and `prepare_dataset` turn it into what the losses need,
`update` passes over it. None of them waits for the device or allocates what outlives it, so on
CUDA `train_epoch` replays them as two graphs. Source: arXiv:1707.06347; constants and order of
operations as in RL Games 1.6.5, which differ from the paper where the comments say.
"""

import contextlib
from collections.abc import Callable
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from phalanx.compute.fusing import fused
from phalanx.compute.graphs import EAGER_CALLS, Graph
from phalanx.compute.threads import threads_for
from phalanx.config import read
from phalanx.rl.agent import Agent
from phalanx.rl.build import check_actions, check_masks
from phalanx.rl.central_value import CentralValue
from phalanx.rl.config import PPOConfig
from phalanx.rl.curiosity import Curiosity, RNDConfig
from phalanx.rl.losses import actor_loss, gaussian_kl, value_loss
from phalanx.rl.memory import Memory
from phalanx.rl.nested import nested
from phalanx.rl.normalize import MovingMeanStd
from phalanx.rl.optimizer import adam, load_optimizer
from phalanx.rl.rollout import Rollout, gae, shape_reward
from phalanx.rl.schedules import adapt_lr, linear
from phalanx.rl.statistics import EpisodeSums
from phalanx.spaces import Box, MultiDiscrete

LOSSES = ("a_loss", "c_loss", "entropy", "bounds_loss")
Memories = list[tuple[Memory, tuple[Tensor, ...]]]  # each with its states after a step
EVALUATED_AT_ONCE = 65536  # samples, or one minibatch if that is larger
LONGEST_FUSED = 64  # steps


class A2CAgent(Agent):
    """PPO with continuous actions; what `a2c_continuous` names."""

    Config = PPOConfig
    FUSED: ClassVar[tuple[str, ...]] = ("act", "count", "assess", "loss_of", "policy_kl")
    """Methods whose kernels torch.compile merges."""

    def __init__(self, base_name: str, params: dict[str, Any]) -> None:
        super().__init__(base_name, params)
        c = self.config
        self.horizon_length = c.horizon_length
        self.minibatch_size = c.minibatch(self.num_actors)
        self.entropy_coef = torch.tensor(c.entropy_coef, device=self.device)
        self.optimizer = adam(
            self.model.parameters(), c.learning_rate, self.device, weight_decay=c.weight_decay
        )
        # A tensor, so that the adaptive schedule can change it without the host.
        self.lr: Tensor = self.optimizer.param_groups[0]["lr"]
        self.rollout: Rollout | None = None
        self.memory: Memory | None = None
        if self.model.is_rnn():
            c.check_sequences(self.minibatch_size, "params.config")
            self.memory = Memory(self.model.a2c_network, self.num_actors, c, self.device)
        self.advantage_mean_std: MovingMeanStd | None = None
        if c.normalize_rms_advantage:
            self.advantage_mean_std = MovingMeanStd((), c.adv_rms_momentum).to(self.device)
        self.central_value: CentralValue | None = None
        if c.central_value_config is not None:
            self.central_value = CentralValue(c, self.vec_env, self.device)
        self.curiosity: Curiosity | None = None
        if c.rnd_config is not None:
            rnd = read(RNDConfig, c.rnd_config, "params.config.rnd_config")
            self.curiosity = Curiosity(rnd, self.vec_env.observation_space.shape, self.device)
        own = c.use_experimental_cv
        own = self.trains_own_value if own is None else own
        self.critic_weight = 0.5 * c.critic_coef * (self.central_value is None or own)
        self._weights = sum(p.numel() for p in self.model.parameters())
        self.assesses_later = self.device.type != "cpu"
        """Values and the policy's numbers come from large passes over the batch, not with every
        action: fewer kernels for a GPU, but twice the products."""
        capture = getattr(self.vec_env, "capture", contextlib.nullcontext)
        self._play_graph = Graph(self._collect, capture)
        self._digest_graph = Graph(self._digest)  # where steps cannot be captured
        self._update_graph = Graph(self.update)
        self._graphs = self._play_graph, self._digest_graph, self._update_graph
        if self.captures_update and c.torch_compile and self.memory is None:
            self._fuse()

    # -- one iteration ---------------------------------------------------------------------------

    def train_epoch(self) -> None:
        """Collect a batch, learn from it."""
        self._schedule_by_epoch()
        period = self.config.epochs_between_resets
        if period and self.epoch_num % period == 0:
            self._begin_anew()
        self._iterate(self.observer.after_steps)

    def rehearse(self) -> None:
        for _ in range(EAGER_CALLS + 1):  # eagerly, then captured
            self._iterate(lambda: None)

    def _iterate(self, after_steps: Callable[[], None]) -> None:
        self.model.eval()
        self._clock.start()
        (self._play_graph if self.captures else self._collect)()
        self._clock.stop("rollout")
        after_steps()
        self.model.train()
        self._clock.start()
        (self._update_graph if self.captures_update else self.update)()
        self._clock.stop("update")
        for line in filter(None, (graph.obstacle for graph in self._graphs)):
            self.warn(f"runs without CUDA graphs, much slower: {line} waits for the GPU; use masks")

    def _fuse(self) -> None:
        """Let torch.compile merge what lies between physics and matrix products."""
        names = list(self.FUSED)
        if self.horizon_length <= LONGEST_FUSED:
            names.append("prepare_dataset")  # whose loop over time is unrolled
        for name in names:
            setattr(self, name, fused(getattr(self, name), self.warn))
        if hasattr(self.vec_env, "fuse"):
            self.vec_env.fuse(lambda function: fused(function, self.warn))

    def _begin_anew(self) -> None:
        self.env_reset()
        self.episodes.restart()
        for memory in filter(None, (self.memory, self._critic_memory())):
            memory.restart()

    def _collect(self) -> None:
        with torch.no_grad():
            with threads_for(self.num_actors * self._weights, self.device):
                self.play_steps()
            apart = self.captures_update and not self.captures
            (self._digest_graph if apart else self._digest)()

    @torch.no_grad()
    def _digest(self) -> None:
        self.evaluate()
        self.prepare_dataset()

    def play_steps(self) -> None:
        """T steps of the policy in every environment, into `rollout`."""
        r = self.buffers
        for t in range(self.horizon_length):
            self._store_inputs(t)
            result = self.act(self.obs)
            memories = self._next_memories(result)
            r.actions[:, t] = result["actions"]
            if not self.assesses_later:
                self._store_assessment(t, result)

            self.obs, reward, terminated, truncated, infos = self.env_step(result["actions"])

            shaped, done, self.episodes.finished[t] = self.count(
                reward, terminated, truncated, infos["terminal"]
            )
            r.rewards[:, t, 0] = shaped
            r.dones[:, t] = done
            r.truncated[:, t] = truncated
            self._store_reached(t, infos, memories)
            for memory, states in memories:
                memory.advance(states, done)
        critic = self._critic_memory()
        r.last_values.copy_(self.get_values(self.obs, critic.states if critic else ()))

    def evaluate(self) -> None:
        """Values of every step and of what it reached, and what the losses need of the policy that
        acted, as far as the steps have not left them."""
        r, c, m = self.buffers, self.config, self.minibatch_size
        values = r.values.flatten(0, 1)
        at_once = m * max(1, EVALUATED_AT_ONCE // m)
        timed_out = self.device.type != "cpu" or bool(r.truncated.any())  # a GPU would wait to know
        for start in range(0, self.batch_size, at_once):
            rows = slice(start, min(start + at_once, self.batch_size))
            batch = self.samples(rows)
            if self.assesses_later:
                result = self.assess(batch)
                for name in r.policy:
                    batch[name].copy_(result[name])
                values[rows] = result["values"]
            if self.central_value is not None:
                values[rows] = self.central_value.sample_values(batch["states"], rows)
            if r.reached is not None and r.reached_values is not None and timed_out:
                reached = nested(lambda x, rows=rows: x.flatten(0, 1)[rows], r.reached)
                r.reached_values.flatten(0, 1)[rows] = self._values(reached, ())
        worth = r.values if c.value_bootstrap is True else r.reached_values
        if worth is not None:
            r.rewards.add_(c.gamma * worth * r.truncated[..., None])

    def assess(self, batch: dict[str, Any]) -> dict[str, Tensor]:
        """What the policy says of (B, ...) observations and actions, values in reward units."""
        result = self.model({**batch, "is_train": True, "prev_actions": batch["actions"]})
        values = self.model.denorm_value(result["values"])
        return {**result, "neglogpacs": result["prev_neglogp"], "values": values}

    def prepare_dataset(self) -> None:
        """Advantages and normalised values and returns into `dataset`, (N * T, ...) each."""
        r, c, d = self.buffers, self.config, self.dataset
        gae(r.rewards, r.values, r.last_values, r.dones, c.gamma, c.tau, out=r.advantages)
        values, returns = r.values.flatten(0, 1), (r.advantages + r.values).flatten(0, 1)
        advantages = r.advantages.flatten(0, 1).sum(-1)
        critic: Any = self.central_value or self
        normalizer: Any = critic.model.value_mean_std
        if normalizer is not None:
            # The statistics see the old values, then the returns, as in RL Games.
            normalizer.train()
            values, returns = normalizer(values), normalizer(returns)
            normalizer.eval()
        if self.advantage_mean_std is not None:
            advantages = self.advantage_mean_std(advantages)
        elif c.normalize_advantage:
            advantages = (advantages - advantages.mean()) / (advantages.std() + 1e-8)
        d["old_values"].copy_(values)
        d["returns"].copy_(returns)
        d["advantages"].copy_(advantages)

    def update(self) -> None:
        """mini_epochs passes over the dataset in minibatches."""
        c = self.config
        self.losses.zero_()
        self.kl.zero_()
        if self.central_value is not None:
            self.central_value.train(self.dataset)
        if self.curiosity is not None:
            self.curiosity.fit(self.dataset["obs"])
        minibatches = self.batch_size // self.minibatch_size
        for _ in range(c.mini_epochs):
            pass_kl = torch.zeros_like(self.kl)
            for i in range(minibatches):
                kl = self.train_actor_critic(self.minibatch(i))
                pass_kl += kl / minibatches
                if c.schedule_type in ("legacy", "per_minibatch") and self.adapts_per_minibatch:
                    adapt_lr(self.lr, kl, c)
            if c.schedule_type == "standard" or not self.adapts_per_minibatch:
                adapt_lr(self.lr, pass_kl, c)
            self.kl += pass_kl / c.mini_epochs
        self.losses.div_(c.mini_epochs * minibatches)

    def minibatch(self, i: int) -> dict[str, Any]:
        """Rows i * M to (i + 1) * M of the dataset; whole sequences if the network is recurrent."""
        return self.samples(slice(i * self.minibatch_size, (i + 1) * self.minibatch_size))

    def samples(self, rows: slice) -> dict[str, Any]:
        """Those of the dataset, (N * T, ...) in the order of the rollout, as views."""
        batch: dict[str, Any] = nested(lambda x: x[rows], self.dataset)
        return batch if self.memory is None else batch | self.memory.inputs(rows)

    def train_actor_critic(self, batch: dict[str, Any]) -> Tensor:
        """One gradient step on a minibatch; returns its KL from the old policy, a scalar."""
        with threads_for(self.minibatch_size * self._weights, self.device):
            loss, result = self.loss_of(batch)
            self.optimizer.zero_grad(set_to_none=True)
            loss.backward()
        with torch.no_grad(), threads_for(100 * self._weights, self.device):
            if self.config.truncate_grads:
                nn.utils.clip_grad_norm_(self.model.parameters(), self.config.grad_norm)
            self.optimizer.step()
            return self.policy_kl(batch, result)

    def loss_of(self, batch: dict[str, Any]) -> tuple[Tensor, dict[str, Tensor]]:
        """The loss of a minibatch, a scalar, and what the model gave for it."""
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.mixed_precision):
            result = self.model({**batch, "is_train": True, "prev_actions": batch["actions"]})
        return self.calc_losses(batch, result), result

    def calc_losses(self, batch: dict[str, Tensor], result: dict[str, Tensor]) -> Tensor:
        """The loss, a scalar; its parts are summed into `losses`."""
        c = self.config
        old, new = batch["neglogpacs"], result["prev_neglogp"]
        a_loss = actor_loss(old, new, batch["advantages"], c)
        clip = c.e_clip if c.clip_value else None
        c_loss = value_loss(result["values"], batch["old_values"], batch["returns"], clip)
        entropy = result["entropy"].mean()
        b_loss = self.bounds_loss(result)
        with torch.no_grad():
            self.losses.add_(torch.stack([a_loss, c_loss, entropy, b_loss]))
        loss = a_loss - self.entropy_coef * entropy + (c.bounds_loss_coef or 0.0) * b_loss
        # A weight of zero would still let weight decay move the critic.
        return loss + self.critic_weight * c_loss if self.critic_weight else loss

    # -- what distinguishes continuous actions ---------------------------------------------------

    is_discrete = False
    adapts_per_minibatch = True
    """With schedule_type legacy, the learning rate adapts after every minibatch."""

    soft_bound = 1.1
    """Mean actions may be so large without a penalty."""

    trains_own_value = True
    """With a central value, the policy network's own value is trained too, unless configured."""

    def policy_fields(self) -> dict[str, tuple[int, ...]]:
        """What the rollout keeps of the policy's output, and its shape."""
        actions = self.vec_env.action_space.shape
        return {"neglogpacs": (), "mus": actions, "sigmas": actions}

    def preprocess_actions(self, actions: Tensor) -> Tensor:
        """Samples, (N, A), as the environment takes them."""
        if not self.config.clip_actions:
            return actions
        return self.vec_env.action_space.rescale(actions.clamp(-1.0, 1.0))

    def policy_kl(self, batch: dict[str, Tensor], result: dict[str, Tensor]) -> Tensor:
        """Mean KL(new || old) of the minibatch; then the new policy becomes the old one, so that
        the next pass measures from here."""
        kl = gaussian_kl(result["mus"], result["sigmas"], batch["mus"], batch["sigmas"])
        batch["mus"].copy_(result["mus"])
        batch["sigmas"].copy_(result["sigmas"])
        return kl

    def bounds_loss(self, result: dict[str, Tensor]) -> Tensor:
        """Penalty on means beyond +-`soft_bound`, or on all of them, summed over actions."""
        mu = result["mus"]
        if self.config.bound_loss_type == "bound":
            return (mu.abs() - self.soft_bound).clamp(min=0.0).square().sum(-1).mean()
        return mu.square().sum(-1).mean()

    def check_spaces(self) -> None:
        check_actions(self.vec_env.action_space, self.is_discrete, self.name)
        if self.config.use_action_masks:
            check_masks(self.vec_env, self.name)

    def frames_per_iteration(self) -> int:
        return self.num_actors * self.config.horizon_length

    # -- parts -----------------------------------------------------------------------------------

    def act(self, obs: dict[str, Any]) -> dict[str, Any]:
        """Sampled "actions" for (N, ...) observations, "rnn_states" after them and, unless the
        batch is assessed later, their "values" and what `policy_fields` names."""
        inputs: dict[str, Any] = {"is_train": False, "policy_only": self.assesses_later}
        inputs["obs"] = obs["obs"]
        if self.memory is not None:
            inputs["rnn_states"] = self.memory.states
        if self.config.use_action_masks:
            inputs["action_masks"] = self.vec_env.get_action_masks()
        result: dict[str, Any] = self.model(inputs)
        return result

    def count(
        self, reward: Tensor, terminated: Tensor, truncated: Tensor, reached: dict[str, Any]
    ) -> tuple[Tensor, Tensor, Tensor]:
        """A step's shaped reward and 1.0 where it ended an episode, (N,) each, and what
        `EpisodeSums.add` says of those."""
        shaped = shape_reward(reward, self.config.reward_shaper)
        if self.curiosity is not None:
            shaped = shaped + self.curiosity.reward(reached["obs"])
        done = (terminated | truncated).float()
        return shaped, done, self.episodes.add(reward, shaped, done)

    def get_values(self, obs: dict[str, Any], states: tuple[Tensor, ...] = ()) -> Tensor:
        """(B, V) in reward units for (B, ...) observations; a recurrent critic's `states` are only
        read."""
        return self._values(self._seen_by_critic(obs), states)

    def _values(self, seen: Any, states: tuple[Tensor, ...]) -> Tensor:
        critic: Any = self.model if self.central_value is None else self.central_value.model
        values: Tensor = critic.get_values({"obs": seen, "rnn_states": states})
        return values

    def _seen_by_critic(self, obs: dict[str, Any]) -> Any:
        return obs["obs"] if self.central_value is None else obs["states"]

    def _critic_memory(self) -> Memory | None:
        return self.memory if self.central_value is None else self.central_value.memory

    def _next_memories(self, result: dict[str, Any]) -> Memories:
        """Each memory and its states after the step, the critic's last."""
        memories = [] if self.memory is None else [(self.memory, result["rnn_states"])]
        if self.central_value is not None and self.central_value.memory is not None:
            after = self.central_value.step(self.obs["states"])
            memories.append((self.central_value.memory, after))
        return memories

    def _store_inputs(self, t: int) -> None:
        """What the policy and a central value act on in step t."""
        r = self.buffers
        nested(lambda buffer, x: buffer[:, t].copy_(x), r.obs, self.obs["obs"])
        if r.states is not None:
            nested(lambda buffer, x: buffer[:, t].copy_(x), r.states, self.obs["states"])
        if r.action_masks is not None:
            r.action_masks[:, t] = self.vec_env.get_action_masks()
        if self.memory is not None:
            self.memory.store(t)
        if self.central_value is not None and self.central_value.memory is not None:
            self.central_value.memory.store(t)

    def _store_assessment(self, t: int, result: dict[str, Any]) -> None:
        r = self.buffers
        for name, buffer in r.policy.items():
            buffer[:, t] = result[name]
        r.values[:, t] = result["values"]

    def _store_reached(self, t: int, infos: dict[str, Any], memories: Memories) -> None:
        """What time-outs bootstrap from; `evaluate` values it, unless that takes the recurrent
        state of this step."""
        r, reached = self.buffers, infos["terminal"]
        if r.reached is not None:
            seen = self._seen_by_critic(reached)
            nested(lambda buffer, x: buffer[:, t].copy_(x), r.reached, seen)
        elif r.reached_values is not None:
            r.reached_values[:, t] = self.get_values(reached, memories[-1][1])

    def env_step(self, actions: Tensor) -> Any:
        return super().env_step(self.preprocess_actions(actions))

    def _schedule_by_epoch(self) -> None:
        c = self.config
        if self.central_value is not None:
            self.central_value.schedule(self.epoch_num, c.max_epochs)
        if c.lr_schedule == "linear":
            by_epochs = self.epoch_num, c.max_epochs
            past = by_epochs if c.max_epochs != -1 else (self.frame, c.max_frames)
            self.lr.fill_(linear(c.learning_rate, c.min_lr, *past))
            if c.schedule_entropy:
                self.entropy_coef.fill_(linear(c.entropy_coef, 1e-4, *past))

    def init_tensors(self) -> None:
        if self.rollout is not None:
            return
        n, t, device = self.num_actors, self.horizon_length, self.device
        c, env, space = self.config, self.vec_env, self.vec_env.action_space
        r = self.rollout = Rollout(n, t, getattr(env, "value_size", 1), device)
        r.obs = r.observations(env.observation_space)
        if isinstance(space, Box):
            r.actions = r.zeros(*space.shape)
        else:
            width = (len(space.nvec),) if isinstance(space, MultiDiscrete) else ()
            r.actions = r.zeros(*width, dtype=torch.long)
        r.policy = {name: r.zeros(*shape) for name, shape in self.policy_fields().items()}
        if self.central_value is not None:
            r.states = r.observations(env.state_space)
        if c.value_bootstrap == "reached":
            r.reached_values = torch.zeros_like(r.values)
            if self._critic_memory() is None:
                seen = env.observation_space if self.central_value is None else env.state_space
                r.reached = r.observations(seen)
        if c.use_action_masks:
            r.action_masks = r.zeros(env.get_action_masks().shape[1], dtype=torch.bool)
        self.episodes = EpisodeSums(n, t, device)
        self.losses = torch.zeros(len(LOSSES), device=device)
        self.kl = torch.zeros((), device=device)
        batch: dict[str, Any] = {"obs": r.obs, "actions": r.actions, **r.policy}
        batch |= {"states": r.states, "action_masks": r.action_masks}
        batch = {k: v for k, v in batch.items() if v is not None}
        self.dataset: dict[str, Any] = {
            **nested(lambda x: x.flatten(0, 1), batch),
            "old_values": torch.zeros_like(r.values).flatten(0, 1),
            "returns": torch.zeros_like(r.values).flatten(0, 1),
            "advantages": torch.zeros(n * t, device=device),
        }

    def remembered(self) -> dict[str, Any]:
        r = self.buffers
        seen = {"rewards": r.rewards, "observations": r.obs, "states": r.states}
        return {name: x for name, x in seen.items() if x is not None}

    @property
    def buffers(self) -> Rollout:
        """The rollout's buffers, once `init_tensors` has made them."""
        assert self.rollout is not None
        return self.rollout

    def statistics(self) -> Tensor:
        none = torch.zeros_like(self.kl)
        central = self.central_value.loss if self.central_value is not None else none
        curious = self.curiosity.loss if self.curiosity is not None else none
        head = torch.stack([*self.losses, self.kl, self.lr, central, curious])
        return torch.cat([head, self.episodes.finished.flatten()])

    def log_statistics(self, values: list[float]) -> dict[str, float]:
        n = len(LOSSES)
        scalars = {f"losses/{name}": values[k] for k, name in enumerate(LOSSES)}
        self.last_lr = values[n + 1]
        scalars |= {"info/kl": values[n], "info/last_lr": self.last_lr}
        if self.central_value is not None:
            scalars["losses/cval_loss"] = values[n + 2]
        if self.curiosity is not None:
            scalars["losses/rnd_loss"] = values[n + 3]
        scalars |= {"info/e_clip": self.config.e_clip, "info/lr_mul": 1.0}
        finished = values[n + 4 :]
        for t in range(self.horizon_length):
            *sums, count = finished[4 * t : 4 * t + 4]
            for meter, total in zip(self._meters(), sums, strict=True):
                meter.add(total / max(count, 1.0), int(count))
        return scalars

    def forget_graphs(self) -> None:
        for graph in self._graphs:
            graph.reset()

    def load_optimizer(self, state: dict[str, Any]) -> None:
        load_optimizer(self.optimizer, state)

    def extra_state(self) -> dict[str, Any]:
        state: dict[str, Any] = {"lr": self.lr, "running": self.episodes.running}
        state |= {name: part.state_dict() for name, part in self._extra_parts().items()}
        return state

    def load_extra_state(self, state: dict[str, Any]) -> None:
        self.lr.copy_(state["lr"])
        self.episodes.running.copy_(state["running"])
        for name, part in self._extra_parts().items():
            part.load_state_dict(state[name])
        self.obs = self.vec_env.observations

    def _extra_parts(self) -> dict[str, Any]:
        """What only continuing a run needs, apart from the weights."""
        central = None if self.central_value is None else self.central_value.memory
        parts = {
            "memory": self.memory,
            "central_memory": central,
            "advantage_mean_std": self.advantage_mean_std,
        }
        return {name: part for name, part in parts.items() if part is not None}

    def get_full_state_weights(self) -> dict[str, Any]:
        state = super().get_full_state_weights()
        for part in (self.central_value, self.curiosity):
            state |= {} if part is None else part.checkpoint()
        return state

    def set_full_state_weights(
        self, weights: dict[str, Any], set_epoch: bool = True, source: object = "the checkpoint"
    ) -> None:
        super().set_full_state_weights(weights, set_epoch, source)
        for part in (self.central_value, self.curiosity):
            if part is not None:
                part.restore(weights, source)
