"""What SAC and DQN share: act, remember, learn from what is remembered.

One iteration is `num_steps_per_episode` times: one step of every environment into the replay, then
`updates_per_step` updates from it. Nothing waits for the device, so on CUDA the step and the
updates are each replayed as a graph, as in `ppo.py`.

Continuing a run. What is remembered is left out of checkpoints unless `save_replay_buffer: true`;
only with it is a continued run the same, bit for bit, as an uninterrupted one. Without it the
policy acts, unlearning, until there is as much to remember as the warm-up gave, and then goes on.
"""

import contextlib
import copy
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from phalanx.compute.graphs import Graph
from phalanx.rl.agent import Agent
from phalanx.rl.config import OffPolicyConfig
from phalanx.rl.replay import Replay
from phalanx.rl.rollout import shape_reward
from phalanx.rl.statistics import EpisodeSums


class OffPolicyAgent(Agent):
    """Base of SAC and DQN, which give the methods that raise NotImplementedError here."""

    Config = OffPolicyConfig
    default_model: ClassVar[str]
    """Name of the model where the YAML gives none."""
    LOGGED: ClassVar[tuple[str, ...]]
    """Tags of what `record` takes, in its order."""
    period = 1
    """Updates after which their pattern repeats."""

    def __init__(self, base_name: str, params: dict[str, Any]) -> None:
        super().__init__(base_name, with_default_model(params, self.default_model))
        c = self.config
        self.model.eval()
        self.updates_per_step = c.updates_per_step(self.num_actors)
        self.warmup_epochs = c.warmup_epochs(self.num_actors)
        self.updates = 0
        """Updates since the beginning of training."""
        self._replay: Replay | None = None
        capture = getattr(self.vec_env, "capture", contextlib.nullcontext)
        self._step_graph = Graph(self.play_step, capture)
        self._update_graphs: dict[int, Graph] = {}

    # -- one iteration ---------------------------------------------------------------------------

    def train_epoch(self) -> None:
        """Steps and updates in turn."""
        repeats = self.config.num_steps_per_episode
        self.schedule()
        self.sums.zero_()
        self.counts.zero_()
        for step in range(repeats):
            self._clock.start()
            if self.epoch_num < self.warmup_epochs:
                self.play_step(random=True)
            else:
                (self._step_graph if self.captures else self.play_step)()
            self.replay.steps += 1
            self.finished[step] = self.episodes.finished[0]
            self._clock.stop("rollout", repeats)
            self._clock.start()
            if self.replay.steps >= self.steps_to_learn:
                self._learn()
            self._clock.stop("update", repeats)
        self.observer.after_steps()

    @torch.no_grad()
    def play_step(self, random: bool = False) -> None:
        """One step of every environment into the replay; `random` acts regardless of what is seen.

        The normaliser sees every observation once, when it is acted on; RL Games 1.6.5 shows it
        those of every batch instead, whose mean is not that of the observations met.
        """
        c, replay, obs = self.config, self.replay, self.obs["obs"]
        if self.model.running_mean_std is not None:
            self.model.running_mean_std.update(obs)
        actions = self.random_actions() if random else self.explore(obs)
        replay.write(obs=obs, actions=actions)
        self.obs, reward, terminated, truncated, infos = self.env_step(actions)
        shaped = shape_reward(reward, c.reward_shaper)
        ended = terminated | truncated
        replay.write(
            rewards=shaped,
            next_obs=infos["terminal"]["obs"],
            terminated=terminated if c.value_bootstrap else ended,
            ended=ended,
        )
        replay.advance()
        self.episodes.finished[0] = self.episodes.add(reward, shaped, ended.float())

    def _learn(self) -> None:
        phase = self.updates % self.period
        if self.captures_update:
            if phase not in self._update_graphs:
                self._update_graphs[phase] = Graph(lambda: self.update(phase))
            self._update_graphs[phase]()
        else:
            self.update(phase)
        self.updates += self.updates_per_step

    # -- what a subclass gives -------------------------------------------------------------------

    def update(self, phase: int) -> None:
        """`updates_per_step` updates, the first of them number `phase` of the period."""
        raise NotImplementedError

    def explore(self, obs: Tensor) -> Tensor:
        """Actions to learn from, as the environment takes them."""
        raise NotImplementedError

    def random_actions(self) -> Tensor:
        """Uniform actions, as the environment takes them."""
        raise NotImplementedError

    def make_replay(self) -> Replay:
        """An empty replay for this agent's actions."""
        raise NotImplementedError

    def schedule(self) -> None:
        """Called before every iteration: write what changes with time into its tensors."""

    # -- parts -----------------------------------------------------------------------------------

    def frames_per_iteration(self) -> int:
        return int(self.num_actors * self.config.num_steps_per_episode)

    @property
    def replay(self) -> Replay:
        """The replay, once `init_tensors` has made it."""
        assert self._replay is not None
        return self._replay

    def init_tensors(self) -> None:
        if self._replay is not None:
            return
        c = self.config
        self._replay = self.make_replay()
        warm = (self.warmup_epochs - 1) * c.num_steps_per_episode + 1
        self.steps_to_learn = min(max(warm, c.n_step), self._replay.capacity)
        """Steps to remember before learning from them."""
        self.episodes = EpisodeSums(self.num_actors, 1, self.device)
        self.finished = torch.zeros(c.num_steps_per_episode, 4, device=self.device)
        self.sums = torch.zeros(len(self.LOGGED), device=self.device)
        self.counts = torch.zeros_like(self.sums)

    def record(self, first: str, *values: Tensor) -> None:
        """Scalars to log, for the tags from `first` on; each is averaged over its own updates."""
        k = self.LOGGED.index(first)
        part = slice(k, k + len(values))
        self.sums[part] += torch.stack(values).detach()
        self.counts[part] += 1

    def remembered(self) -> dict[str, Any]:
        rows = self.replay.rows
        return {name: rows[name].transpose(0, 1) for name in ("rewards", "obs")}

    def statistics(self) -> Tensor:
        return torch.cat([self.sums, self.counts, self.finished.flatten()])

    def log_statistics(self, values: list[float]) -> dict[str, float]:
        n = len(self.LOGGED)
        sums, counts, finished = values[:n], values[n : 2 * n], values[2 * n :]
        for t in range(0, len(finished), 4):
            *totals, episodes = finished[t : t + 4]
            for meter, total in zip(self._meters(), totals, strict=True):
                meter.add(total / max(episodes, 1.0), int(episodes))
        # What was not computed in this iteration has no point in its curve, not a zero.
        return {
            tag: total / count
            for tag, total, count in zip(self.LOGGED, sums, counts, strict=True)
            if count
        }

    def forget_graphs(self) -> None:
        self._step_graph.reset()
        for graph in self._update_graphs.values():
            graph.reset()

    # -- checkpoints -----------------------------------------------------------------------------

    def extra_state(self) -> dict[str, Any]:
        state: dict[str, Any] = {
            "running": self.episodes.running.clone(),
            "updates": self.updates,
            "steps": self.replay.steps,
        }
        if self.config.save_replay_buffer:
            state["replay"] = self.replay.state_dict()
        return state

    def load_extra_state(self, state: dict[str, Any]) -> None:
        self.episodes.running.copy_(state["running"])
        self.updates = state["updates"]
        self.obs = self.vec_env.observations
        if "replay" in state:
            self.replay.load_state_dict(state["replay"])
        elif self.replay.steps >= state["steps"]:
            # Back to the restart point within a run: the steps to repeat are written anew.
            self.replay.rewind(state["steps"])
        else:
            self.warn(
                "the checkpoint has no replay buffer (save_replay_buffer: true keeps it), so"
                f" learning goes on after {self.steps_to_learn} steps to remember"
            )


def soft_update(target: nn.Module, source: nn.Module, tau: float) -> None:
    """target += tau (source - target), parameter by parameter."""
    with torch.no_grad():
        torch._foreach_lerp_(list(target.parameters()), list(source.parameters()), tau)


def load_keeping_flags(optimizer: torch.optim.Optimizer, state: dict[str, Any]) -> None:
    """The moments of `state`, but this run's own learning rates and flags."""
    own = [{k: v for k, v in g.items() if k != "params"} for g in optimizer.param_groups]
    optimizer.load_state_dict(copy.deepcopy(state))  # it would keep these tensors
    for group, flags in zip(optimizer.param_groups, own, strict=True):
        group.update(flags)


def with_default_model(params: dict[str, Any], name: str) -> dict[str, Any]:
    """`params` whose model is `name` if it gives none."""
    return {**params, "model": {"name": name, **(params.get("model") or {})}}
