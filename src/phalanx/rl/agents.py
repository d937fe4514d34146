"""RL Games' agents: learners with the methods and attributes that RL Games programs use.

    runner.algo_factory.register_builder("mine", lambda **kwargs: MyAgent(**kwargs))

`A2CAgent(base_name, params)` builds its `Run` (environment, loop, files), has the attributes of RL
Games' agent (`vec_env`, `frame`, `epoch_num`, `writer`, ...) and learns like `PPO`. Override a hook
of the run (`train_epoch`, `env_step`, `init_tensors`, ...) or of the learner (`calc_losses`, ...).
"""

import dataclasses
import time
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor

from phalanx.compute.fusing import fused
from phalanx.errors import PhalanxError
from phalanx.rl import checkpoint, ranks, run_state
from phalanx.rl.amp import AMP
from phalanx.rl.build import build_model, with_default_model
from phalanx.rl.critic import CentralValue
from phalanx.rl.distillation import Distillation
from phalanx.rl.dqn import DQN
from phalanx.rl.learner import Learner
from phalanx.rl.part import Part
from phalanx.rl.ppo_continuous import ContinuousPPO
from phalanx.rl.ppo_discrete import DiscretePPO
from phalanx.rl.run import Run
from phalanx.rl.sac import SAC


def _attribute(path: str) -> Any:
    """A property that reads and writes `path`, as in "run.frame", of the agent."""
    *holders, name = path.split(".")

    def holder(agent: Any) -> Any:
        for part in holders:
            agent = getattr(agent, part)
        return agent

    return property(
        lambda agent: getattr(holder(agent), name),
        lambda agent, value: setattr(holder(agent), name, value),
    )


class Agent(Learner):
    """RL Games' names; a subclass adds the learner as a second base."""

    default_model = ""
    """Name of the model if the YAML gives none; empty for the default of the action space."""

    def __init__(self, base_name: str, params: dict[str, Any]) -> None:
        if self.default_model:
            params = with_default_model(params, self.default_model)
        self.params = params
        self.run = Run(self, base_name, params)
        env = self.run.env
        model = build_model(params, self.run.config, env).to(env.device)
        self.hooked_env = HookedEnv(self)
        super().__init__(self.run.config, env, model)
        if ranks.size() > 1:  # seeds differ, so initial weights would, too
            first = ranks.from_first(run_state.on_host(self.weights()))
            self.load_weights(first, "rank 0")
        if getattr(self.config, "torch_compile", False):
            self.fuse()
        if self.config.mixed_precision and not (self.mixed_precision or self.half_products):
            self.run.no_effect = sorted([*self.run.no_effect, "mixed_precision"])

    @property
    def central_value_net(self) -> CentralValue | None:
        """The critic, if it is a central value."""
        critic = getattr(self, "critic", None)
        return critic if isinstance(critic, CentralValue) else None

    @property
    def has_central_value(self) -> bool:
        """Whether the critic is a central value."""
        return self.central_value_net is not None

    def fuse(self) -> None:
        """Let torch.compile fuse the kernels between physics and matrix products on a GPU; on a CPU
        compile the learner's functions."""
        warn = self.run.warn
        if not self.run.captures_update:
            try:
                self.compile_on_cpu()
            except (PhalanxError, OSError) as error:  # no room, no rights, another Warp
                warn(f"torch computes what compiled functions do not: {error}")
            return
        owners: list[Learner | Part] = [self, *self.parts]
        for owner in owners:
            for name in owner.fused_methods():
                setattr(owner, name, fused(getattr(owner, name), warn))
        if hasattr(self.run.env, "fuse"):
            self.run.env.fuse(lambda function: fused(function, warn))

    vec_env = _attribute("run.env")
    observer = algo_observer = _attribute("run.observer")
    name = _attribute("run.config.name")
    experiment_name = _attribute("run.experiment_name")
    experiment_dir = _attribute("run.folder.path")
    nn_dir = _attribute("run.folder.nn_dir")
    summaries_dir = _attribute("run.folder.summaries_dir")
    writer = _attribute("run.folder.writer")
    epoch_num = _attribute("run.epoch_num")
    frame = _attribute("run.frame")
    total_time = _attribute("run.journal.total_time")
    last_lr = _attribute("run.journal.last_lr")
    last_stats = _attribute("run.journal.last_stats")
    task_scalars = _attribute("run.task_scalars")
    fps = _attribute("run.journal.fps")
    mean_rewards = game_rewards = _attribute("run.journal.meters.rewards")
    mean_shaped_rewards = game_shaped_rewards = _attribute("run.journal.meters.shaped_rewards")
    mean_lengths = game_lengths = _attribute("run.journal.meters.lengths")
    games_to_track = _attribute("run.config.games_to_track")
    last_mean_rewards = _attribute("run.saving.best")
    warnings = _attribute("run.warnings")
    no_effect = _attribute("run.no_effect")
    stop_reason = _attribute("run.stop_reason")
    captures = _attribute("run.captures")
    captures_update = _attribute("run.captures_update")
    ppo_device = _attribute("device")
    num_agents = 1
    global_rank = rank = property(lambda agent: ranks.rank())
    local_rank = property(lambda agent: ranks.local_rank())
    world_size = property(lambda agent: ranks.size())

    # -- the loop ----------------------------------------------------------------------------------

    def train(self) -> tuple[float, int]:
        """Train until a limit is reached; returns the best mean return and the number of
        iterations."""
        self.init_tensors()
        return self.run.train()

    def init_tensors(self) -> None:
        """Called before the first iteration; override it to allocate buffers."""

    def update_epoch(self) -> int:
        """Count the iteration."""
        self.run.epoch_num += 1
        return int(self.run.epoch_num)

    def train_epoch(self) -> None:
        """One iteration, rollout and update, without waiting for the device."""
        self.run.iterate(self.run.observer.after_steps)

    def env_reset(self) -> dict[str, Any]:
        """Start an episode in every environment; returns the observations."""
        obs: dict[str, Any] = self.run.env.reset()
        return obs

    def env_step(self, actions: Tensor) -> Any:
        """Step the environments; see `VecEnv.step`."""
        step = self.run.env.step(actions)
        if self.run.watched:
            self.run.observer.process_infos(step[4], ((step[2] > 0) | (step[3] > 0)).nonzero())
        return step

    def request_stop(self, reason: str) -> None:
        """Save and stop after the current iteration."""
        self.run.request_stop(reason)

    def warn(self, sentence: str) -> None:
        """Add a sentence to `warnings`, which observers show once each."""
        self.run.warn(sentence)

    # -- checkpoints -------------------------------------------------------------------------------

    def save(self, fn: str | Path) -> Path:
        """Write a checkpoint to `fn` + ".pth", atomically."""
        path = self.run.folder.save(Path(fn), self.get_full_state_weights())
        self.run.observer.after_save(path)
        return path

    def restore(self, fn: str | Path, set_epoch: bool = True) -> None:
        """Continue from the checkpoint at `fn`. Raises PhalanxError, before anything has changed,
        for one that is damaged or does not fit."""
        state = run_state.of_this_rank(checkpoint.load(fn))
        run_state.check(self.run, state, fn)
        self.set_full_state_weights(state, set_epoch, source=fn)

    def get_full_state_weights(self) -> dict[str, Any]:
        """Everything that a checkpoint holds; see `run_state`."""
        return run_state.collect(self.run)

    def set_full_state_weights(
        self, weights: dict[str, Any], set_epoch: bool = True, source: object = "the checkpoint"
    ) -> None:
        """Restore what `get_full_state_weights` returned, or the weights and optimiser of an RL
        Games file."""
        run_state.restore(self.run, weights, set_epoch, source)

    def get_weights(self) -> dict[str, Any]:
        """The model's weights, including its normalisers."""
        return {"model": self.model.state_dict()}

    def set_weights(self, weights: dict[str, Any]) -> None:
        """Restore what `get_weights` returned."""
        checkpoint.load_weights(self.model, weights["model"], "the weights")

    # -- population based training -----------------------------------------------------------------

    PARAMS: ClassVar[dict[str, str]] = {"mini_epochs_num": "mini_epochs"}
    """RL Games' names of settings that have another name in the config."""

    def get_param(self, param_name: str) -> Any:
        """A setting that may change during a run, by RL Games' name."""
        if param_name == "learning_rate":
            return float(self.lr)
        return getattr(self.config, self._key(param_name))

    def set_param(self, param_name: str, param_value: Any) -> None:
        """Change a setting during a run; graphs are captured again. Raises PhalanxError for a
        setting that is not one of `CHANGEABLE`, and a learning rate that a schedule sets."""
        key = self._key(param_name)
        if key not in self.CHANGEABLE:
            raise PhalanxError(
                f"{param_name} cannot change during a run; these can: {', '.join(self.CHANGEABLE)}"
            )
        if key == "learning_rate" and getattr(self.config, "lr_schedule", None) == "adaptive":
            raise PhalanxError("learning_rate cannot be set, because lr_schedule is adaptive")
        self.change_config(dataclasses.replace(self.config, **{key: param_value}))
        self.run.graphs.forget()

    def _key(self, name: str) -> str:
        key = self.PARAMS.get(name, name)
        if key not in {field.name for field in dataclasses.fields(self.config)}:
            raise PhalanxError(f"no setting {name!r} to get or set")
        return key


class A2CAgent(Agent, ContinuousPPO):
    """PPO with continuous actions; registered as `a2c_continuous`."""


class DiscreteA2CAgent(Agent, DiscretePPO):
    """PPO with one or several discrete actions; registered as `a2c_discrete`."""


class AMPAgent(Agent, AMP):
    """PPO with adversarial motion priors; registered as `amp_continuous`."""


class DistillationAgent(Agent, Distillation):
    """A student of a policy that sees more; registered as `distillation`."""


class SACAgent(Agent, SAC):
    """SAC with continuous, bounded actions; registered as `sac`."""

    default_model = "soft_actor_critic"


class DQNAgent(Agent, DQN):
    """DQN with one discrete action; registered as `dqn`."""

    default_model = "dqn"


class HookedEnv:
    """The environment of an agent's learner. It calls `env_step` and `env_reset` of the agent, so
    that a subclass can override them and observers see every step."""

    def __init__(self, agent: Agent) -> None:
        self._agent = agent
        self._times = agent.run.env.device == torch.device("cpu")
        self._seconds = 0.0

    def reset(self) -> dict[str, Any]:
        """See `VecEnv.reset`."""
        return self._agent.env_reset()

    def step(self, actions: Tensor) -> Any:
        """See `VecEnv.step`; flags that are numbers become booleans."""
        start = time.perf_counter()
        obs, reward, terminated, truncated, infos = self._agent.env_step(actions)
        self._seconds += time.perf_counter() - start
        flags = (x if x.dtype == torch.bool else x > 0 for x in (terminated, truncated))
        return obs, reward, *flags, infos

    def get_action_masks(self) -> Tensor:
        """(N, n) bool."""
        masks: Tensor = self._agent.run.env.get_action_masks()
        return masks

    def seconds_per_iteration(self, iterations: int) -> dict[str, float]:
        """{"step": seconds of steps per iteration} since the last call; empty on a GPU, whose steps
        the host cannot time."""
        seconds, self._seconds = self._seconds, 0.0
        return {"step": seconds / iterations} if self._times else {}
