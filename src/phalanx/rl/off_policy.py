"""The base of SAC and DQN: act, store transitions in the replay, learn from samples of it.

One iteration is `num_steps_per_episode` rounds: one step of every environment into the replay, then
`updates_per_step` updates from it. Nothing waits for the device, so on CUDA the step and the
updates are each replayed as a graph, as in `ppo.py`.

Continuing a run: checkpoints hold the replay only with `save_replay_buffer: true`; only then is a
continued run bit-identical to an uninterrupted one. Otherwise the policy acts without learning
until the replay holds as many steps as after the warm-up.
"""

from typing import Any, ClassVar

import torch
from torch import Tensor

from phalanx.errors import PhalanxError
from phalanx.fits import count, mapping
from phalanx.rl.config import OffPolicyConfig
from phalanx.rl.formulas import shape_reward
from phalanx.rl.learner import Learner
from phalanx.rl.normalize import as_floats
from phalanx.rl.replay import Replay
from phalanx.rl.statistics import EpisodeSums


class OffPolicy(Learner):
    """Base of SAC and DQN, which override the methods that raise NotImplementedError here."""

    Config = OffPolicyConfig
    LOGGED: ClassVar[tuple[str, ...]]
    """Tags of the scalars that `record` takes, in order."""
    period = 1
    """Number of updates after which their pattern repeats."""

    def __init__(self, config: OffPolicyConfig, env: Any, model: Any) -> None:
        super().__init__(config, env, model)
        c, device = config, self.device
        self.action_space = env.action_space
        self.model.eval()
        self.rounds = c.num_steps_per_episode
        self.updates_per_step = c.updates_per_step(self.num_actors)
        self.warmup_epochs = c.warmup_epochs(self.num_actors)
        self.updates = 0
        """Updates since the beginning of training."""
        self.random = True
        """Whether actions are random in this iteration."""
        self.replay = self.make_replay(env)
        warm = (self.warmup_epochs - 1) * c.num_steps_per_episode + 1
        self.steps_to_learn = min(max(warm, c.n_step), self.replay.capacity)
        """Steps that the replay must hold before learning starts."""
        self.episodes = EpisodeSums(self.num_actors, 1, device)
        self.finished = torch.zeros(c.num_steps_per_episode, 4, device=device)
        self.sums = torch.zeros(len(self.LOGGED), device=device)
        self.counts = torch.zeros_like(self.sums)

    def change_config(self, config: Any) -> None:
        super().change_config(config)
        self.replay.gamma = config.gamma

    def restart_episodes(self) -> None:
        super().restart_episodes()
        self.replay.end_episodes()

    # -- one iteration -----------------------------------------------------------------------------

    def begin_iteration(self, epoch: int, frame: int) -> None:
        super().begin_iteration(epoch, frame)
        self.random = epoch < self.warmup_epochs
        self.sums.zero_()
        self.counts.zero_()

    @torch.no_grad()
    def collect(self, env: Any) -> None:
        """Take one step in every environment and store it in the replay.

        The normaliser is updated once with every observation, when it is acted on. RL Games 1.6.5
        updates it with every batch instead, whose mean differs from that of the observations.
        """
        c, replay, obs = self.config, self.replay, as_floats(self.obs["obs"])
        if self.model.running_mean_std is not None:
            self.model.running_mean_std.update(obs)
        actions = self.random_actions() if self.random else self.explore(obs)
        replay.write(obs=obs, actions=actions)
        self.obs, reward, terminated, truncated, infos = env.step(actions)
        shaped = shape_reward(reward, c.reward_shaper)
        reward, shaped = self.absurd.without(reward, shaped)
        ended = terminated | truncated
        replay.write(
            rewards=shaped,
            next_obs=infos["terminal"]["obs"],
            terminated=terminated if c.value_bootstrap else ended,
            ended=ended,
        )
        replay.advance()
        self.episodes.finished[0] = self.episodes.add(reward, shaped, ended.float())

    @property
    def collect_variant(self) -> bool:
        """Whether actions are random."""
        return self.random

    def collected(self, k: int) -> None:
        self.replay.steps += 1
        self.finished[k] = self.episodes.finished[0]

    @property
    def ready(self) -> bool:  # type: ignore[override]
        return self.replay.steps >= self.steps_to_learn

    def learn(self) -> None:
        """`updates_per_step` updates."""
        self.update(self.learn_variant)

    @property
    def learn_variant(self) -> int:
        """Number of the next update within its period."""
        return self.updates % self.period

    def learned(self) -> None:
        self.updates += self.updates_per_step

    # -- what a subclass gives ---------------------------------------------------------------------

    def update(self, phase: int) -> None:
        """Do `updates_per_step` updates; `phase` is the first one's number within the period."""
        raise NotImplementedError

    def explore(self, obs: Tensor) -> Tensor:
        """Exploratory actions for observations (N, D), (N, A) or (N,) integers, in the
        environment's units."""
        raise NotImplementedError

    def random_actions(self) -> Tensor:
        """Uniform random actions, (N, A) or (N,) integers, in the environment's units."""
        raise NotImplementedError

    def make_replay(self, env: Any) -> Replay:
        """An empty replay for this learner's actions."""
        raise NotImplementedError

    # -- logging -----------------------------------------------------------------------------------

    @property
    def batch_size(self) -> int:
        return int(self.num_actors * self.config.num_steps_per_episode)

    def record(self, first: str, *values: Tensor) -> None:
        """Log scalars, for the tags from `first` on; each is averaged over its own updates."""
        k = self.LOGGED.index(first)
        part = slice(k, k + len(values))
        self.sums[part] += torch.stack(values).detach()
        self.counts[part] += 1

    def statistics(self) -> dict[str, Tensor]:
        return {"sums": self.sums, "counts": self.counts, "finished": self.finished}

    def scalars(self, values: dict[str, list[float]]) -> dict[str, float]:
        # A value that was not computed in this iteration is left out of its curve.
        return {
            tag: total / count
            for tag, total, count in zip(self.LOGGED, values["sums"], values["counts"], strict=True)
            if count
        }

    def blame(self) -> dict[str, Any]:
        replay = self.replay
        newest = torch.arange(replay.steps - self.rounds, replay.steps) % replay.capacity
        names = {"obs": "observations", "next_obs": "terminal observations", "rewards": "rewards"}
        return {
            text: replay.rows[name][newest.to(self.device)].transpose(0, 1)
            for name, text in names.items()
        }

    # -- checkpoints -------------------------------------------------------------------------------

    def stateful(self) -> dict[str, Any]:
        return {"replay": _ReplayState(self)} | super().stateful()


class _ReplayState:
    """The replay and its counters, for checkpoints."""

    def __init__(self, learner: OffPolicy) -> None:
        self.learner = learner

    def state_dict(self) -> dict[str, Any]:
        replay = self.learner.replay
        state: dict[str, Any] = {"updates": self.learner.updates, "steps": replay.steps}
        if self.learner.config.save_replay_buffer:
            state["replay"] = replay.state_dict()
        return state

    def check_state(self, state: Any) -> None:
        """Raise PhalanxError unless `state` is what `state_dict` returned, with a replay of any
        length."""
        for key in ("updates", "steps"):
            count(mapping(state, "replay").get(key), f"replay.{key}")
        if "replay" in state:
            actions = getattr(self.learner.action_space, "n", None)
            self.learner.replay.check_state(state["replay"], actions)

    def load_state_dict(self, state: dict[str, Any]) -> None:
        learner, replay = self.learner, self.learner.replay
        learner.updates = state["updates"]
        if "replay" in state:
            replay.load_state_dict(state["replay"])
        elif replay.steps >= state["steps"]:
            # Back to the restart point within a run: the steps to repeat are written again.
            replay.rewind(state["steps"])
        else:
            raise PhalanxError(
                "the checkpoint has no replay buffer (save_replay_buffer: true keeps it), so"
                f" learning resumes once {learner.steps_to_learn} new steps are collected"
            )
