"""PPO as RL Games defines it; `ppo_continuous.py` and `ppo_discrete.py` add the kinds of actions.

    loss = actor + critic_coef * value / 2 - entropy_coef * entropy + bounds_loss_coef * bounds

`collect` fills the rollout; `learn` computes values and advantages and passes over the batch.
Neither waits for the device, so on CUDA each is one graph. Source: arXiv:1707.06347; constants and
order of operations are those of RL Games 1.6.5. Comments say where they differ from the paper.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, ClassVar

import torch
from torch import Tensor

from phalanx.compute.graphs import Graphs
from phalanx.compute.threads import threads_for
from phalanx.errors import PhalanxError
from phalanx.rl import compiled, formulas, ranks
from phalanx.rl.build import check_actions, check_masks
from phalanx.rl.config import PPOConfig
from phalanx.rl.critic import CentralValue, Critic, PolicyCritic
from phalanx.rl.memory import Memory
from phalanx.rl.models import minibatch_moments
from phalanx.rl.nested import nested
from phalanx.rl.normalize import MovingMeanStd
from phalanx.rl.optimizer import adam
from phalanx.rl.part import Part
from phalanx.rl.policy_learner import PolicyLearner
from phalanx.rl.ppo_parts import ppo_parts
from phalanx.rl.rollout import Rollout
from phalanx.rl.schedule import Schedule
from phalanx.rl.statistics import EpisodeSums
from phalanx.rl.step_graphs import StepGraphs

LOSSES = ("a_loss", "c_loss", "entropy", "bounds_loss")
BETWEEN_STEPS = (
    "collect", "play_steps", "begin_step", "end_step", "end_steps", "act", "preprocess_actions",
    "shape_and_count", "get_values",
)  # fmt: skip
"""Methods that a graph between two steps replaces. A program's own may do something else in each
call, so they are called."""
MAX_VALUED_SAMPLES = 65536  # samples, or one minibatch if that is larger
MAX_FUSED_STEPS = 64  # steps


class PPO(PolicyLearner):
    """PPO without the parts that depend on the kind of actions."""

    Config = PPOConfig
    FUSED = ("act", "shape_and_count", "policy_terms", "obs_moments", "loss_of", "policy_kl")
    CHANGEABLE: ClassVar[tuple[str, ...]] = (
        *("gamma", "tau", "e_clip", "clip_value", "critic_coef", "bounds_loss_coef"),
        *("entropy_coef", "truncate_grads", "grad_norm", "mini_epochs"),
        *("learning_rate", "kl_threshold", "min_lr", "max_lr"),
    )
    is_discrete: ClassVar[bool]
    adapts_per_minibatch: ClassVar[bool]
    """With schedule_type legacy, the learning rate changes after every minibatch."""
    adapts_per_update = False
    """With schedule_type standard_epoch, it changes after every update if true, otherwise never."""
    trains_own_value: ClassVar[bool]
    """Default for training the policy network's own value if there is a central value."""
    soft_bound = 1.1
    """Absolute mean action above which bounds_loss applies."""
    value_scale = 0.5
    """Weight of the value loss, times critic_coef."""

    def __init__(self, config: PPOConfig, env: Any, model: Any) -> None:
        super().__init__(config, env, model)
        c, n, device = config, env.num_envs, self.device
        c.check_sizes(n, model.is_rnn())
        if n * c.horizon_length * ranks.size() == 1 and c.normalize_advantage:
            raise PhalanxError(
                "params.config.horizon_length 1 with one environment is a batch of one sample,"
                " whose advantage cannot be normalised; raise horizon_length, or set"
                " normalize_advantage: false"
            )
        self.env = env
        self.horizon_length = c.horizon_length
        self.minibatch_size = c.minibatch(n)
        self.optimizer = adam(
            model.parameters(), c.learning_rate, device, weight_decay=c.weight_decay
        )
        # Tensors, so that the schedule can change them without the host.
        self.lr: Tensor = self.optimizer.param_groups[0]["lr"]
        self.schedule = Schedule(c, self.lr, self.adapts_per_minibatch, self.adapts_per_update)
        self.entropy_coef = self.schedule.entropy_coef
        self.memory = Memory(model, n, c, device)
        self.critic: Critic = PolicyCritic(model, self.memory)
        self.advantage_mean_std: MovingMeanStd | None = None
        if c.normalize_rms_advantage:
            self.advantage_mean_std = MovingMeanStd((), c.adv_rms_momentum).to(device)
        self.parts: list[Part] = self.make_parts(env)
        self.critic_weight = self._weight_of_value()
        self.torch_weights = sum(p.numel() for p in model.parameters())
        """Weights by which torch multiplies, which decides on its threads."""
        self.defers_values = device.type != "cpu"
        """Whether values and the policy's terms are computed in large passes over the batch instead
        of with every action: fewer kernels for a GPU, but twice the matrix products."""
        self.rollout = Rollout(env, c, self.policy_fields(env), self.critic)
        self.dataset = self.rollout.dataset()
        self.episodes = EpisodeSums(n, c.horizon_length, device)
        self.losses = torch.zeros(len(LOSSES), device=device)
        self.kl = torch.zeros((), device=device)
        self.known_moments: list[tuple[Tensor, Tensor]] | None = None
        self.step_graphs = StepGraphs(self)
        self._states: Any = None, None

    def _weight_of_value(self) -> float:
        own = self.config.use_experimental_cv
        own = self.trains_own_value if own is None else own
        trained = self.critic.model is self.model or own
        return float(self.value_scale * self.config.critic_coef * trained)

    def make_parts(self, env: Any) -> list[Part]:
        """The parts that the config asks for; a central value becomes the critic."""
        parts = ppo_parts(self, env)
        self.critic = next((p for p in parts if isinstance(p, CentralValue)), self.critic)
        return parts

    # -- one iteration: the rollout ----------------------------------------------------------------

    def begin_iteration(self, epoch: int, frame: int) -> None:
        self.schedule.begin_iteration(epoch, frame)
        super().begin_iteration(epoch, frame)

    def collect(self, env: Any) -> None:
        """Take T steps in every environment and store them in `rollout`."""
        self._collect(partial(self.play_steps, env))

    def collect_between_steps(self, env: Any, graphs: Graphs) -> None:
        if self._needs_no_host():
            self._collect(partial(self.step_graphs.play_steps, env, graphs))
        else:
            self.collect(env)

    @torch.no_grad()
    def _collect(self, play_steps: Callable[[], None]) -> None:
        self.model.eval()
        with threads_for(self.num_actors * self.torch_weights, self.device):
            play_steps()

    def _needs_no_host(self) -> bool:
        """Whether all that is between two steps of an environment can be one graph, which leaves
        nothing to the next one but what is in buffers."""
        methods = [getattr(type(self), name) for name in BETWEEN_STEPS]
        methods += [type(part).step_reward for part in self.parts]
        ours = all(method.__module__.startswith("phalanx.") for method in methods)
        recurrent = self.memory.recurrent or self.critic.memory.recurrent
        asks = recurrent or self.config.use_action_masks
        return ours and not asks and all(type(p).store is Part.store for p in self.parts)

    def play_steps(self, env: Any) -> None:
        """The loop of `collect`."""
        for t in range(self.horizon_length):
            actions = self.begin_step(env, t)
            self.end_step(t, *env.step(actions))
        self.end_steps()

    def begin_step(self, env: Any, t: int) -> Tensor:
        """What precedes step t of the environment; returns the actions (N, A) for it."""
        self._store_inputs(env, t)
        result = self.act(self.obs)
        states = result.get("rnn_states")
        self._states = states, self.critic.next_states(self.obs, states)
        self.rollout.actions[:, t] = result["actions"]
        if not self.defers_values:
            self._store_policy(t, result)
        return self.preprocess_actions(result["actions"])

    def end_step(
        self,
        t: int,
        obs: dict[str, Any],
        reward: Tensor,
        terminated: Tensor,
        truncated: Tensor,
        infos: dict[str, Any],
    ) -> None:
        """Store what step t of the environment returned."""
        r, reached = self.rollout, infos["terminal"]
        states, critic_states = self._states
        self.obs = obs
        shaped, done, self.episodes.finished[t] = self.shape_and_count(
            reward, terminated, truncated, reached
        )
        r.rewards[:, t, 0] = shaped
        r.dones[:, t] = done
        r.truncated[:, t] = truncated & ~terminated
        self._store_reached(t, reached, critic_states)
        for part in self.parts:
            part.store(t, infos)
        self.memory.advance(states, done)
        self.critic.advance(critic_states, done)

    def end_steps(self) -> None:
        """Value the observations after the last step."""
        self.rollout.last_values.copy_(self.get_values(self.obs, self.critic.memory.states))

    def get_values(self, obs: dict[str, Any], states: Any = ()) -> Tensor:
        """Values (B, V) in reward units for observations (B, ...); a recurrent critic's `states`
        are only read."""
        return self.critic.values(self.critic.inputs(obs), states)

    def act(self, obs: dict[str, Any]) -> dict[str, Any]:
        """Sampled "actions" for observations (N, ...), the "rnn_states" after them and, unless
        values are deferred, "values" and the `policy_fields`."""
        inputs: dict[str, Any] = {"is_train": False, "policy_only": self.defers_values}
        inputs |= {"obs": obs["obs"], **self.memory.step_inputs()}
        if self.config.use_action_masks:
            inputs["action_masks"] = self.env.get_action_masks()
        result: dict[str, Any] = self.model(inputs)
        return result

    def shape_and_count(
        self, reward: Tensor, terminated: Tensor, truncated: Tensor, reached: dict[str, Any]
    ) -> tuple[Tensor, Tensor, Tensor]:
        """A step's shaped rewards (N,), `done` (N,), 1.0 where it ended an episode, and the step's
        row of `EpisodeSums.finished`, (4,)."""
        shaped = formulas.shape_reward(reward, self.config.reward_shaper)
        for part in self.parts:
            shaped = part.step_reward(shaped, reached)
        reward, shaped = self.absurd.without(reward, shaped)
        done = (terminated | truncated).float()
        return shaped, done, self.episodes.add(reward, shaped, done)

    def _store_inputs(self, env: Any, t: int) -> None:
        r = self.rollout
        nested(lambda buffer, x: buffer[:, t].copy_(x), r.obs, self.obs["obs"])
        if r.states is not None:
            nested(lambda buffer, x: buffer[:, t].copy_(x), r.states, self.obs["states"])
        if r.action_masks is not None:
            r.action_masks[:, t] = env.get_action_masks()
        self.memory.store(t)
        if self.critic.memory is not self.memory:
            self.critic.memory.store(t)

    def _store_policy(self, t: int, result: dict[str, Any]) -> None:
        r = self.rollout
        for name, buffer in r.policy.items():
            buffer[:, t] = result[name]
        r.values[:, t] = result["values"]

    def _store_reached(self, t: int, reached: dict[str, Any], critic_states: Any) -> None:
        r = self.rollout
        # Values of states reached are for time-outs only. To ask a GPU would synchronise.
        if self.device.type == "cpu" and not r.truncated[:, t].any():
            return
        if r.reached is not None:
            seen = self.critic.inputs(reached)
            nested(lambda buffer, x: buffer[:, t].copy_(x), r.reached, seen)
        elif r.reached_values is not None:
            r.reached_values[:, t] = self.get_values(reached, critic_states)

    # -- one iteration: the dataset ----------------------------------------------------------------

    @torch.no_grad()
    def prepare_batch(self) -> None:
        """Turn the rollout into the dataset."""
        self.model.eval()
        for part in self.parts:
            part.batch_reward(self.rollout.rewards)
        self.value_batch()
        self.prepare_dataset()

    def value_batch(self) -> None:
        """Compute values of every step and of the states reached, and the old policy's terms,
        unless the rollout has stored them; then bootstrap time-outs."""
        r, c, m = self.rollout, self.config, self.minibatch_size
        values = r.values.flatten(0, 1)
        at_once = m * max(1, MAX_VALUED_SAMPLES // m)
        for start in range(0, self.batch_size, at_once):
            rows = slice(start, min(start + at_once, self.batch_size))
            batch = self.samples(rows)
            if self.defers_values:
                result = self.policy_terms(batch)
                for name in r.policy:
                    batch[name].copy_(result[name])
                values[rows] = result["values"]
            self.critic.value_rows(values[rows], batch, rows)
            if r.reached is not None and r.reached_values is not None:
                self._value_reached(r.reached, r.reached_values.flatten(0, 1), rows)
        bootstrap = r.values if c.value_bootstrap is True else r.reached_values
        if bootstrap is not None:
            # Only for time-outs: the last observation of a terminated episode may be anything.
            r.rewards.add_(torch.where(r.truncated[..., None] > 0, c.gamma * bootstrap, 0.0))

    def _value_reached(self, reached: Any, values: Tensor, rows: Any) -> None:
        """Of the steps `rows` of the batch, write values (B, V) of the states reached. Those of
        time-outs count; only on a CPU is asking which they are free."""
        if self.device.type == "cpu":
            start, timed_out = rows.start, self.rollout.truncated.flatten()[rows]
            rows = start + timed_out.nonzero()[:, 0]
            if not len(rows):
                return
        values[rows] = self.critic.values(nested(lambda x: x.flatten(0, 1)[rows], reached))

    def policy_terms(self, batch: dict[str, Any]) -> dict[str, Tensor]:
        """The model's results for a batch (B, ...) of observations and actions, with values in
        reward units."""
        result = self.model({**batch, "is_train": True, "prev_actions": batch["actions"]})
        values = self.model.denorm_value(result["values"])
        return {**result, "neglogpacs": result["prev_neglogp"], "values": values}

    def prepare_dataset(self) -> None:
        """Write advantages and normalised values and returns into `dataset`, (N * T, ...) each."""
        r, c, d = self.rollout, self.config, self.dataset
        formulas.gae(r.rewards, r.values, r.last_values, r.dones, c.gamma, c.tau, out=r.advantages)
        values, returns = r.values.flatten(0, 1), (r.advantages + r.values).flatten(0, 1)
        advantages = r.advantages.flatten(0, 1).sum(-1)
        normalizer: Any = self.critic.model.value_mean_std
        if normalizer is not None:
            # The statistics are updated with the old values, then the returns, as in RL Games.
            normalizer.train()
            values, returns = normalizer(values), normalizer(returns)
            normalizer.eval()
        if self.advantage_mean_std is not None:
            advantages = self.advantage_mean_std(advantages)
        elif c.normalize_advantage:
            advantages = formulas.standardized(advantages, *ranks.mean_and_std(advantages))
        d["old_values"].copy_(values)
        d["returns"].copy_(returns)
        d["advantages"].copy_(advantages)

    # -- one iteration: the update -----------------------------------------------------------------

    def learn(self) -> None:
        """Prepare the dataset and pass over it mini_epochs times, in minibatches."""
        self.prepare_batch()
        self.update()

    def update(self) -> None:
        """Pass over the dataset mini_epochs times."""
        c = self.config
        self.model.train()
        self.losses.zero_()
        self.kl.zero_()
        for part in self.parts:
            part.fit(self.dataset)
        minibatches = self.batch_size // self.minibatch_size
        self.known_moments = self.obs_moments(self.dataset["obs"])
        for mini_epoch in range(c.mini_epochs):
            pass_kl = torch.zeros_like(self.kl)
            for i in range(minibatches):
                self.schedule.last_lr.copy_(self.lr)
                kl = self.train_actor_critic(self.minibatch(i), mini_epoch)
                self.schedule.after("minibatch", kl)
                pass_kl += kl / minibatches
            self.schedule.after("pass", pass_kl)
            self.kl += pass_kl / c.mini_epochs
        self.known_moments = None  # a captured graph's memory, which another one may use
        self.schedule.after("update", self.kl)
        self.losses.div_(c.mini_epochs * minibatches)
        for part in self.parts:
            part.after_update()

    def minibatch(self, i: int) -> dict[str, Any]:
        """Minibatch i of a pass: rows of the dataset, extended by the parts."""
        rows = self.rows(i)
        batch = self.samples(rows)
        own = batch["obs"]
        for part in self.parts:
            part.extend(batch, rows)
        if self.known_moments is not None and batch["obs"] is own:
            batch["obs_moments"] = self.known_moments[i]
        return batch

    def obs_moments(self, obs: Any) -> list[tuple[Tensor, Tensor]] | None:
        """Of each minibatch of the dataset's observations; None where passes differ in them."""
        own = type(self)
        if own.rows is not PPO.rows or own.samples is not PPO.samples:
            return None
        return minibatch_moments(self.model, obs, self.minibatch_size)

    def rows(self, i: int) -> Any:
        """Rows i * M to (i + 1) * M of the dataset; whole sequences if the network is recurrent."""
        return slice(i * self.minibatch_size, (i + 1) * self.minibatch_size)

    def samples(self, rows: Any) -> dict[str, Any]:
        """The entries of the dataset at `rows`, in the order of the rollout; views for a slice."""
        batch: dict[str, Any] = nested(lambda x: x[rows], self.dataset)
        batch |= self.memory.sequence_inputs(rows)
        return batch

    def train_actor_critic(self, batch: dict[str, Any], mini_epoch: int = 0) -> Tensor:
        """One gradient step on a minibatch; returns its KL from the old policy, a scalar."""
        with threads_for(self.minibatch_size * self.torch_weights, self.device):
            result = self.fill_gradients(batch)
        with torch.no_grad(), threads_for(100 * self.torch_weights, self.device):
            c = self.config
            kl = self.policy_kl(batch, result)
            self.optimizer.clip_and_step(c.grad_norm if c.truncate_grads else None, kl)
            for part in self.parts:
                part.after_minibatch(mini_epoch, batch, result)
            return kl

    def fill_gradients(self, batch: dict[str, Any]) -> dict[str, Tensor]:
        """Set the parameters' gradients of a minibatch's loss; returns the model's results."""
        loss, result = self.loss_of(batch)
        for part in self.parts:
            loss = part.loss(loss, batch)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        return result

    def loss_of(self, batch: dict[str, Any]) -> tuple[Tensor, dict[str, Tensor]]:
        """The policy's loss of a minibatch, a scalar, and the model's results."""
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.mixed_precision):
            result = self.model({**batch, "is_train": True, "prev_actions": batch["actions"]})
        return self.calc_losses(batch, result), result

    def calc_losses(self, batch: dict[str, Tensor], result: dict[str, Tensor]) -> Tensor:
        """The loss, a scalar; its terms are added to `losses`."""
        c = self.config
        old, new = batch["neglogpacs"], result["prev_neglogp"]
        if c.ppo:
            a_loss = formulas.surrogate_loss(
                old, new, batch["advantages"], c.e_clip, c.use_smooth_clamp
            )
        else:
            a_loss = formulas.policy_gradient_loss(new, batch["advantages"])
        clip = c.e_clip if c.clip_value else None
        c_loss = formulas.value_loss(result["values"], batch["old_values"], batch["returns"], clip)
        entropy = result["entropy"].mean()
        b_loss = self.bounds_loss(result)
        with torch.no_grad():
            self.losses.add_(torch.stack([a_loss, c_loss, entropy, b_loss]))
        loss = a_loss - self.entropy_coef * entropy + (c.bounds_loss_coef or 0.0) * b_loss
        # With a weight of zero, weight decay would still change the critic.
        return loss + self.critic_weight * c_loss if self.critic_weight else loss

    # -- as a learner ------------------------------------------------------------------------------

    @classmethod
    def check_spaces(cls, env: Any, config: Any) -> None:
        check_actions(env.action_space, cls.is_discrete, config.name)
        if config.use_action_masks:
            check_masks(env, config.name)

    @property
    def batch_size(self) -> int:
        return int(self.num_actors * self.horizon_length)

    def resets_in(self, epoch: int) -> bool:
        period = self.config.epochs_between_resets
        return bool(period) and epoch % period == 0

    def fused_methods(self) -> tuple[str, ...]:
        if self.memory.recurrent:
            return ()
        short = self.horizon_length <= MAX_FUSED_STEPS  # its loop over time is unrolled
        return (*self.FUSED, "prepare_dataset") if short else self.FUSED

    def compile_on_cpu(self) -> None:
        compiled.compile_on_cpu(self)

    def change_config(self, config: Any) -> None:
        super().change_config(config)
        self.schedule.change_config(config)
        self.critic_weight = self._weight_of_value()

    def restart_episodes(self) -> None:
        super().restart_episodes()
        self.memory.restart()
        self.critic.memory.restart()

    def statistics(self) -> dict[str, Tensor]:
        found = {f"losses/{name}": self.losses[k] for k, name in enumerate(LOSSES)}
        found |= {"info/kl": self.kl, "info/last_lr": self.schedule.last_lr}
        return found | super().statistics() | {"finished": self.episodes.finished}

    def scalars(self, values: dict[str, list[float]]) -> dict[str, float]:
        fixed = {"info/e_clip": self.config.e_clip, "info/lr_mul": 1.0}
        return super().scalars(values) | fixed

    def blame(self) -> dict[str, Any]:
        r = self.rollout
        found = {"observations": r.obs, "states": r.states, "rewards": r.rewards}
        return found | {"terminal observations": r.reached} | super().blame()

    def stateful(self) -> dict[str, Any]:
        found: dict[str, Any] = {"schedule": self.schedule}
        if self.advantage_mean_std is not None:
            found["advantage_mean_std"] = self.advantage_mean_std
        return found | super().stateful()

    def episodic(self) -> dict[str, Any]:
        memories = {"memory": self.memory, "critic_memory": self.critic.memory}
        return super().episodic() | memories
