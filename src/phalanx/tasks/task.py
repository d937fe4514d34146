"""`Task`: one Markov decision process on a `Sim`, for all environments at once.

A task file subclasses `Task` and gives a `Config` and the hooks below. If you know IsaacGymEnvs,
the hooks are the same, with two differences: a reset takes a boolean mask instead of indices, and
observations and rewards are returned instead of stored.

One `step(actions)`, for all N environments
 1. actions are clamped to +-`clip_actions`; `pre_physics_step(actions)` turns them into controls.
 2. Physics advances by `sim.dt`, in `substeps` steps.
 3. `post_physics_step()`:
    a. `progress_buf` counts the step;
    b. `compute_observations()` gives the observation of the state that was reached;
    c. `compute_reward()` gives the reward for reaching it and whether the episode `terminated`;
    d. an episode that did not terminate and has lasted `episode_length` steps is `truncated`.
 4. Episodes begin where others have ended; on a CPU, where checking needs no synchronisation, this
    is skipped if none has:
    a. `sim.reset(mask)`, then `reset_envs(mask)`;
    b. `compute_observations()` gives their first observation; the others keep that of (3b).
So where an episode has ended, the returned observation belongs to the new episode. The observation
of (3b) is in `infos["terminal"]`; time-outs bootstrap from its value. An environment that diverged
(NaN) has terminated with reward 0; its last observation is zero.

The step has fixed shapes and never waits for the device: masks and `torch.where` instead of
`nonzero()`, `.item()` or an `if` on a tensor. Buffers keep their address (write into them), so
that the whole step can be captured in a CUDA graph.

A tensor that one step writes and a later step reads is state, and is declared with `self.state`;
checkpoints hold it. All other attributes are constants, which a continued run takes from the
current task.
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Protocol

import torch
from torch import Tensor

from phalanx.compute.rows import write_rows
from phalanx.config import check_ranges, ranged
from phalanx.errors import PhalanxError, no_attribute
from phalanx.fits import check_fits
from phalanx.layout import ActionLayout, Term
from phalanx.randomization import Randomizer, prepare
from phalanx.randomization.random_fields import Drive
from phalanx.sim import Scene, Sim, check_count, resolve_device
from phalanx.sim.engines import MakeEngine
from phalanx.spaces import ActionSpace, Box
from phalanx.tasks.actuators import make_actuators
from phalanx.tasks.checks import (
    ELSEWHERE,
    action_shape,
    check_actions,
    check_class,
    check_logged,
    check_numbers,
    check_reward,
    checked_layout,
)
from phalanx.tasks.first_step import capturing, checked_hooks
from phalanx.tasks.history import History
from phalanx.tasks.progress import load_progress
from phalanx.tasks.projects import SECTIONS
from phalanx.tasks.taken_servos import take_servos
from phalanx.tasks.term_log import TermLog

FEWEST_RECORDED = 256
"""Environments; for fewer it does not repay compiling."""


@dataclass(frozen=True)
class TaskConfig:
    """Settings of every task; a task adds its own fields. `task.env.<field>=` overrides them."""

    num_envs: int | None = ranged(None, at_least=1, at_most=2**24)
    """Number of environments; None takes the default for the device (`Task.default_num_envs`)."""
    episode_length: int = ranged(1000, at_least=1, at_most=2**31 - 1)
    """Steps after which an episode is truncated."""
    clip_observations: float = ranged(5.0, above=0, infinite=True)
    """Observations are clamped to +- this value."""
    clip_actions: float = ranged(1.0, above=0, infinite=True)
    """Actions are clamped to +- this value."""
    dt: float = ranged(1 / 60, above=0, at_most=10)
    """Time between two actions [s]."""
    substeps: int = ranged(2, at_least=1, at_most=1000)
    """Physics steps between two actions."""
    history: int = ranged(1, at_least=1, at_most=100)
    """Observations that the policy gets: this step's and those before, the latest last."""
    states_history: int = ranged(1, at_least=1, at_most=100)
    """How many steps of states a central value gets, the latest last."""
    spread_starts: bool = False
    """Whether a training's first episodes begin at any age, so that not all of them end in the same
    step; without effect where a policy is played, and on an environment alone."""
    deterministic: bool = False
    """On a GPU, the same bits in every run, which is slower; `deterministic=` on the command line
    sets it for task and learner."""
    randomize: bool = False
    """Whether `randomization_params` take effect; on the command line `task.randomize=`."""
    randomization_params: dict[str, Any] = field(default_factory=dict)
    """Settings of the domain randomisation, see `phalanx.randomization.randomizer`."""
    actuators: dict[str, Any] = field(default_factory=dict)
    """Actuator models by name of a group of joints, see `phalanx.tasks.actuators`."""

    def __post_init__(self) -> None:
        for name in ("num_envs", "episode_length", "substeps"):
            if getattr(self, name) is not None:
                check_count(f"task.env.{name}", getattr(self, name))
        for name in ("dt", "clip_observations", "clip_actions"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, (int, float)):
                raise PhalanxError(f"task.env.{name} is {value!r}; it must be a number")
            if not value > 0:
                raise PhalanxError(f"task.env.{name} is {value}; it must be greater than 0")
        check_ranges(self, "task.env")

    def idle_keys(self) -> list[str]:
        """Settings that are not as usual and have no effect, with what they need."""
        return []


class Onboard(Protocol):
    """The robot's own program between the task and a policy, see `phalanx.deploy.trial`."""

    def observe(self, observations: Tensor, begun: Tensor | None) -> Tensor:
        """Observations (N, num_obs) that replace the task's, before noise and latency. begun: (N,)
        bool, environments whose episode begins; None for the observation that follows a step."""

    def act(self, actions: Tensor) -> None:
        """Take the actions after noise and latency, (N, num_actions), before `pre_physics_step`."""


class Task:
    """Base of all tasks; see the module's docstring for the order of a step."""

    Config: ClassVar[type[TaskConfig]] = TaskConfig
    default_num_envs: ClassVar[dict[str, int]] = {"cpu": 512, "cuda": 4096}
    num_obs: int
    num_actions: int
    optional_terms: ClassVar[tuple[str, ...]] = ()
    """Terms of the observation that a setting may leave out; noise on them then has no effect."""
    encoder_bias: Tensor | None = None
    """(N, A) what `compute_observations` adds to the positions of the joints that actions move, as
    their encoders would [rad or m]; robots of `phalanx sim2sim` have it, too."""
    num_states: int = 0
    """Numbers that only a central value sees, see `compute_states`; 0 for none."""

    def __init__(
        self,
        config: TaskConfig | None = None,
        device: str | torch.device = "auto",
        engine: str | MakeEngine = "auto",
    ) -> None:
        self.config = self.Config() if config is None else config
        self.device = resolve_device(device)
        self.num_envs = self.config.num_envs or self.default_num_envs[self.device.type]
        self.config = dataclasses.replace(self.config, num_envs=self.num_envs)
        self.config = _with_file(self.config)
        check_class(self, Task)
        scene = self.create_scene()
        servos = take_servos(scene.spec, self.config.actuators)
        if self.config.randomize:
            prepare(scene, self.config.randomization_params)
        self.sim = Sim(
            scene,
            self.num_envs,
            self.device,
            self.config.substeps,
            engine=engine,
            deterministic=self.config.deterministic,
        )
        self._state: dict[str, Tensor] = {}
        self.lasting: set[str] = set()
        """Names of state of environments that outlasts their episodes."""
        state, n, device_ = self.state, self.num_envs, self.device
        self.obs_size, self.states_size = self.num_obs, self.num_states
        """Numbers of one observation, and of the states of one step, without `history`."""
        self.num_obs = self.obs_size * self.config.history
        self.num_states = self.states_size * self.config.states_history
        self.obs_buf = state("obs_buf", torch.zeros(n, self.num_obs, device=device_))
        self.terminal_obs_buf = state("terminal_obs_buf", torch.zeros_like(self.obs_buf))
        self.rew_buf = state("rew_buf", torch.zeros(n, device=device_))
        never = torch.zeros(n, dtype=torch.bool, device=device_)
        self.terminated = state("terminated", never)
        self.truncated = state("truncated", never.clone())
        self.progress_buf = state("progress_buf", torch.zeros(n, dtype=torch.long, device=device_))
        self.infos: dict[str, Any] = {"terminal": {"obs": self.terminal_obs_buf}}
        if self.num_states:
            self.states_buf = state("states_buf", torch.zeros(n, self.num_states, device=device_))
            reached = state("terminal_states_buf", torch.zeros_like(self.states_buf))
            self.terminal_states_buf = self.infos["terminal"]["states"] = reached
        no_actions = torch.zeros(n, self.num_actions, device=device_)
        self.previous_actions = state("previous_actions", no_actions)
        """(N, num_actions) the policy's last actions, clamped, without noise or latency; 0 at the
        start of an episode. Continuous actions only."""
        self.actuators = make_actuators(self.sim, self.config.actuators, servos)
        self.randomizer: Randomizer | None = None
        self.onboard: Onboard | None = None
        self.each_substep: list[Callable[[int], None]] = []
        """Called after each physics step with its number in the control step, from 0."""
        self.history = self._history("obs_history", self.config.history, self.obs_size)
        states = self.config.states_history if self.num_states else 1
        self.critic_history = self._history("states_history", states, self.states_size)
        self.schedule_ends: list[Callable[[], None]] = []
        """What `end_schedules` calls; pieces with a curriculum put theirs here."""
        self.watchers: list[Callable[[], None]] = []
        """Called at the end of every step, with the state that it reached or, where an episode
        ended, the first of the next; as part of the step, they never wait for the device."""
        self.terms = TermLog(self.device)
        self.init_buffers()
        if self.config.randomize:
            self.randomizer = self._make_randomizer(checked_layout(self))
        self._check_bound()
        self._spreads = self.config.spread_starts and self.num_envs > 1  # one has none to part from
        self._notes: list[str] = []
        self._action_shape = action_shape(self)
        # Ours have tests, and may be compiled.
        self._hooks_to_check = not type(self).__module__.startswith("phalanx.tasks.")
        self._made = {k: v._version for k, v in vars(self).items() if isinstance(v, Tensor)}

    def __getattr__(self, name: str) -> Any:  # only for names that do not exist
        raise no_attribute(self, name, ELSEWHERE)

    # -- hooks -----------------------------------------------------------------------------------

    def create_scene(self) -> Scene:
        """The content of one environment."""
        raise NotImplementedError

    def init_buffers(self) -> None:
        """Allocate the task's own tensors, once: state with `self.state`, and constants."""

    def pre_physics_step(self, actions: Tensor) -> None:
        """Turn actions, (N, num_actions) or (N,) integers if discrete, into controls."""
        raise NotImplementedError

    def compute_observations(self) -> Tensor:
        """Observations (N, num_obs) of the current state, without those before."""
        raise NotImplementedError

    def compute_reward(self) -> tuple[Tensor, Tensor]:
        """Reward (N,) for the state reached and whether the episode terminated there, (N,) bool.
        The state is the one that `compute_observations` has just seen."""
        raise NotImplementedError

    def compute_states(self) -> Tensor:
        """What only the critic sees, (N, num_states), of the state that `compute_observations` has
        just seen, and what no robot can measure. Noise and latency come afterwards, if
        `randomization_params` say so. For tasks that set `num_states`; a `central_value_config` in
        the train config uses it."""
        raise NotImplementedError

    def mirrors(self) -> tuple[Callable[[Tensor], Tensor], Callable[[Tensor], Tensor]]:
        """Functions that exchange left and right in observations and in actions, for a
        `symmetry_config` in the train config; `phalanx.tasks.mirror` makes them."""
        raise PhalanxError(
            f"the task {type(self).__name__} does not say what its mirror image is; remove"
            " symmetry_config, or give the task the method mirrors"
        )

    def reset_envs(self, mask: Tensor) -> None:
        """Write the initial state of a new episode into environments `mask`, (N,) bool. The
        simulation is already in the model's initial state there, which may be enough."""

    def observation_layout(self) -> tuple[Term, ...]:
        """The meaning of an observation's numbers, in order, in the terms of `phalanx.layout`.
        Without this hook an exported policy takes the whole vector, as `obs`."""
        return (Term("obs", size=self.obs_size),)

    def action_layout(self) -> ActionLayout:
        """Which joints an action moves, and how. Without this hook an exported policy only outputs
        actions, and the robot's program must interpret them."""
        return ActionLayout()

    def limp(self) -> Tensor | None:
        """(N,) bool, environments whose robots do not follow the policy in this step, as while they
        fall; None if all do. Robots of `phalanx sim2sim` then get the task's own controls."""
        return None

    def scalars(self) -> dict[str, float]:
        """Numbers for the log, by tag, of the steps since the last call: what `log_terms` got. It
        may wait for the device; a task may add its own."""
        return self.terms.read()

    def give_command(self, values: Sequence[float]) -> None:
        """Take this command from outside, in all environments and from now on, in the order of the
        observation's term `command`. Raises PhalanxError for a task without commands, and for a
        command outside of the task's ranges."""
        raise PhalanxError(f"the task {type(self).__name__} takes no commands; remove command=")

    # -- what an agent calls ---------------------------------------------------------------------

    @property
    def observation_space(self) -> Box:
        """The space of `obs_buf`, without the environment dimension."""
        limit = self.config.clip_observations
        return Box((self.num_obs,), -limit, limit)

    @property
    def state_space(self) -> Box | None:
        """The space of `states_buf`, without the environment dimension; None if there are none."""
        limit = self.config.clip_observations
        return Box((self.num_states,), -limit, limit) if self.num_states else None

    @property
    def action_space(self) -> ActionSpace:
        """The space of the actions that `step` takes, without the environment dimension."""
        return Box((self.num_actions,), -1.0, 1.0)

    @property
    def observations(self) -> dict[str, Tensor]:
        """{"obs": (N, num_obs)}, the live buffer of the observations to act on next, and, if the
        task has states, "states" (N, num_states)."""
        return {"obs": self.obs_buf} | ({"states": self.states_buf} if self.num_states else {})

    def reset(self) -> dict[str, Tensor]:
        """Start a new episode everywhere; returns `observations`."""
        everywhere = torch.ones_like(self.terminated)
        self._reset(everywhere)
        if self._spreads:
            self.progress_buf.random_(self.config.episode_length)
        self.obs_buf.copy_(self._observe(everywhere))
        if self.num_states:
            self.states_buf.copy_(self._states(everywhere))
        return self.observations

    def step(
        self, actions: Tensor
    ) -> tuple[dict[str, Tensor], Tensor, Tensor, Tensor, dict[str, Any]]:
        """One step of every environment, in the order above.

        Returns {"obs": (N, num_obs)}, reward (N,), terminated (N,), truncated (N,) and infos, all
        live buffers that the next step overwrites. Raises PhalanxError for actions of another
        shape, kind or device.
        """
        check_actions(self, actions, self._action_shape)
        if self._hooks_to_check and not capturing():
            self._hooks_to_check = False
            with checked_hooks(self):
                return Task.step(self, actions)  # not the subclass's step, which has come here
        self._before_physics(actions)
        self._physics()
        self._after_physics()
        for watch in self.watchers:
            watch()
        return self.observations, self.rew_buf, self.terminated, self.truncated, self.infos

    def log_terms(
        self,
        rewards: Mapping[str, Tensor] | None = None,
        ends: Mapping[str, Tensor] | None = None,
        numbers: Mapping[str, Tensor] | None = None,
    ) -> None:
        """Log this step's values, for `compute_reward`: terms of the reward and other numbers as
        means, under `reward/<name>` and `<name>`; of causes of ends, bool, the share of each in all
        ends, under `ends/<name>`. Each is (N,), or () if it is the same everywhere; the names are
        the same in every step. The cause `time` is added to others; environments that diverged in
        this step are left out. Nothing waits for the device.
        TensorBoard, the display and `result.json` show the values."""
        if not self.terms.has(rewards or {}, ends or {}, numbers or {}):
            check_logged(self, rewards or {}, ends or {}, numbers or {})
        if ends:
            no_time_out = self.progress_buf < self.config.episode_length
            for cause in ends.values():
                no_time_out |= cause
            ends = {**ends, "time": ~no_time_out}
        self.terms.add(rewards or {}, ends or {}, numbers or {}, self.sim.diverged)

    def state(self, name: str, initial: Tensor, lasting: bool = False) -> Tensor:
        """Declare `initial` as the attribute `name`, which checkpoints save and restore, and return
        it. For `init_buffers`: self.actions = self.state("actions", torch.zeros(...)). lasting:
        values of environments, (N, ...), that outlast episodes, as the level of a curriculum."""
        if name in self._state:
            raise PhalanxError(
                f"{type(self).__name__} declares its state {name!r} twice; each"
                " needs a name of its own"
            )
        self._state[name] = initial
        if lasting:
            self.lasting.add(name)
        setattr(self, name, initial)
        return initial

    def fuse(self, compiled: Callable[[Callable[..., None]], Callable[..., None]]) -> None:
        """Replace the code before and after the physics by its compiled version, `compiled(f)`."""
        self._before_physics = compiled(self._before_physics)  # type: ignore[method-assign]
        self._after_physics = compiled(self._after_physics)  # type: ignore[method-assign]

    def compile_on_cpu(self, warn: Callable[[str], None]) -> None:
        """On a CPU, compile observations, rewards and resets, see `compute.recorded`; state stays
        as it is. Only of Phalanx's own tasks: what others compute in Python alone would not be
        repeated. Where that fails, torch goes on, and `warn` gets the reason."""
        own = type(self).__module__.startswith("phalanx.tasks.")
        if self.device.type != "cpu" or not own or self.num_envs < FEWEST_RECORDED:
            return
        from phalanx.compute.recorded import Recorded

        before, random = self.state_dict(), torch.get_rng_state()
        kind = torch.float32 if isinstance(self.action_space, Box) else torch.long
        try:
            self._before_physics(torch.zeros(self._action_shape, dtype=kind))
            self._physics()
            self._after_physics()  # fields that are read exist from now on
            # In the order of a step: resets may read what the last observation has left.
            for hook in ("post_physics_step", "reset_envs", "compute_observations"):
                inputs = [self.terminated] if hook == "reset_envs" else []
                function, threads = getattr(self, hook), torch.get_num_threads()
                setattr(self, hook, Recorded(function, self.num_envs, threads, *inputs))
        except (PhalanxError, RuntimeError, OSError) as error:
            warn(f"torch computes some of the rewards, observations and resets, slower: {error}")
        finally:
            self.load_state_dict(before)
            torch.set_rng_state(random)

    def _before_physics(self, actions: Tensor) -> None:
        continuous, limit = isinstance(self.action_space, Box), self.config.clip_actions
        if continuous:
            actions = actions.clamp(-limit, limit)
            self.previous_actions.copy_(actions)
        if self.randomizer is not None:
            actions = self.randomizer.noisy_actions(actions)
            actions = actions.clamp(-limit, limit) if continuous else actions
            actions = self.randomizer.disturb(actions)
        if self.onboard is not None:
            self.onboard.act(actions)
        self.pre_physics_step(actions)

    def _physics(self) -> None:
        if not self.actuators and not self.each_substep:
            self.sim.advance()
            return
        for actuator in self.actuators:
            actuator.read_command()
        for k in range(self.sim.substeps):
            for actuator in self.actuators:
                actuator.write_effort()
            self.sim.advance(1)
            for note in self.each_substep:
                note(k)

    def _after_physics(self) -> None:
        self.sim.mark_diverged()
        self.post_physics_step()
        self._begin_episodes()

    def post_physics_step(self) -> None:
        """Count, observe, reward: (3) above."""
        self.progress_buf += 1
        if self.randomizer is not None:
            self.randomizer.count()
        ok = ~self.sim.diverged
        self.terminal_obs_buf.copy_(self._observe())
        write_rows(self.terminal_obs_buf, self.sim.diverged, 0.0)
        if self.num_states:
            self.terminal_states_buf.copy_(self._states())
            write_rows(self.terminal_states_buf, self.sim.diverged, 0.0)
            self.states_buf.copy_(self.terminal_states_buf)
        reward, terminated = check_reward(self, self.compute_reward())
        self.rew_buf.copy_(torch.where(ok, reward, 0.0))
        self.terminated.copy_(terminated | ~ok)
        too_long = self.progress_buf >= self.config.episode_length
        self.truncated.copy_(too_long & ~self.terminated)
        self.obs_buf.copy_(self.terminal_obs_buf)

    def _begin_episodes(self) -> None:
        """Reset where episodes have ended, and observe: (4) above."""
        done = self.terminated | self.truncated
        if self.device.type == "cpu" and not done.any():  # on a GPU, checking would synchronise
            return
        self._reset(done)
        write_rows(self.obs_buf, done, self._observe(done))
        if self.num_states:
            write_rows(self.states_buf, done, self._states(done))

    def end_schedules(self) -> None:
        """Randomise at full strength from now on, whatever the schedules say, let the curricula of
        the task's pieces end, and begin episodes at their beginning."""
        self._spreads = False
        if self.randomizer is not None:
            self.randomizer.end_schedules()
        for end in self.schedule_ends:
            end()

    def capture(self) -> AbstractContextManager[None]:
        """Inside, steps are recorded into the CUDA graph that torch is capturing."""
        return self.sim.engine.capture()

    def grow(self) -> str | None:
        """See `Engine.grow`. Called between iterations; after growing, captured graphs are
        invalid."""
        return self.sim.engine.grow()

    def report(self) -> str:
        """Problems so far, for the log; empty if there are none."""
        return "; ".join(self.reports().values())

    def reports(self) -> dict[str, str]:
        """The same, a sentence by subject: of each, a run says the first and the last."""
        said = {note: note for note in self._notes}
        said |= {"engine": self.sim.engine_report(), "diverged": self.sim.divergence_report()}
        said["warned"] = self.sim.warnings_report()
        if names := self._undeclared():
            said[names[0]] = (
                f"{type(self).__name__}.{names[0]} changes while the task runs, but checkpoints do"
                f" not hold it: in init_buffers, declare it with self.state({names[0]!r}, ...)"
            )
        return {subject: sentence for subject, sentence in said.items() if sentence}

    def _check_bound(self) -> None:
        """Raise PhalanxError if state is no longer the attribute of its name."""
        for name, tensor in self._state.items():
            if (now := getattr(self, name)) is not tensor:
                what = "another tensor" if isinstance(now, Tensor) else f"a {type(now).__name__}"
                raise PhalanxError(
                    f"{type(self).__name__}.{name} is state and was bound to {what}; write into it:"
                    f" self.{name}.copy_(...)"
                )

    def _undeclared(self) -> list[str]:
        """Names of tensors from `init_buffers` that have been written since, but are not state.
        Views of the simulation's fields or of state are saved as part of these."""
        held = [*self._state.values(), *vars(self.sim).values()]
        saved = {t.untyped_storage().data_ptr() for t in held if isinstance(t, Tensor)}
        own = {k: v for k, v in vars(self).items() if k in self._made and isinstance(v, Tensor)}
        return [
            k
            for k, v in own.items()
            if v._version != self._made[k] and v.untyped_storage().data_ptr() not in saved
        ]

    def settings_by_key(self) -> dict[str, Any]:
        """The settings as in YAML: `task`, and in it `env`, `randomize`, ..."""
        env = {f.name: getattr(self.config, f.name) for f in dataclasses.fields(self.config)}
        sections = {name: env.pop(name) for name in SECTIONS if name != "env"}
        return {"task": {"env": env, **sections}}

    def state_dict(self) -> dict[str, Any]:
        """The state of the simulation and the declared state; a run continues from it bit for
        bit."""
        self._check_bound()
        tensors = {k: v.clone() for k, v in self._state.items()}
        state = {"num_envs": self.num_envs, "sim": self.sim.state_dict(), "task": tensors}
        state["log"] = self.terms.state_dict()
        if self.randomizer is not None:
            state["randomizer"] = self.randomizer.state_dict()
            state["randomization_params"] = self.config.randomization_params
        if self.actuators:
            state["actuators"] = [a.state_dict() for a in self.actuators]
        return state

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what `state_dict` returned. If the randomisation settings or the robot's numbers
        changed, models stay as they are now. Raises PhalanxError, before anything has changed, if
        it is of another engine, scene, number of environments or version of the task."""
        check_fits({"num_envs": 0, "sim": {"engine": ""}, "task": {}}, state, "it")
        self.sim.match_engine(state["sim"]["engine"])
        there = (state["num_envs"], state["sim"]["engine"])
        here = (self.num_envs, self.sim.engine.name)
        if there != here:
            raise PhalanxError(
                f"made with {there[0]} environments on engine {there[1]}; this run has {here[0]} on"
                f" {here[1]}"
            )
        changed = self.sim.changed_fields(state["sim"])
        own, past = self._state, state["task"]
        for name in own | past:
            now, then = (
                tuple(getattr(x[name], "shape", ("?",))) if name in x else "none"
                for x in (own, past)
            )
            if now != then:
                raise PhalanxError(
                    f"made when the shape of {type(self).__name__}'s state {name!r} was {then}, now"
                    f" it is {now}"
                )
        randomized = None if self.randomizer is None else self.config.randomization_params
        same = state.get("randomization_params") == randomized
        if changed:
            same = False
            self._notes.append(
                f"the robot's {', '.join(changed)} changed since the checkpoint was written; the"
                " run continues with the new values"
            )
        check_fits(own, past, "it, in its task")
        self.terms.check_state(state.get("log", {}))
        if self.randomizer is not None and "randomizer" in state:
            self.randomizer.check_state(state["randomizer"], same)
        actuators = [a.state_dict() for a in self.actuators] if "actuators" in state else []
        check_fits(actuators, state.get("actuators", []), "it, in its actuators")
        self.sim.load_state_dict(state["sim"], model_fields=same)
        for name, value in past.items():
            own[name].copy_(value)
        self.terms.load_state_dict(state.get("log", {}))
        if self.randomizer is not None and "randomizer" in state:
            self.randomizer.load_state_dict(state["randomizer"], same)
        for actuator, values in zip(self.actuators, state.get("actuators", []), strict=False):
            actuator.load_state_dict(values)

    def load_progress(self, state: dict[str, Any]) -> None:
        """Restore what outlasts episodes of what `state_dict` returned, see `tasks.progress`: for
        a run whose episodes cannot continue."""
        load_progress(self, self._state, state)

    def _observe(self, begun: Tensor | None = None) -> Tensor:
        """Observations (N, num_obs) as the policy receives them. begun: (N,) bool, environments
        whose episode begins; the others have already observed this state, `terminal_obs_buf`."""
        observations = self.compute_observations()
        check_numbers(self, "compute_observations", observations, "num_obs", self.obs_size)
        if self.onboard is not None:
            observations = self.onboard.observe(observations, begun)
        observations = self._disturbed("observations", observations, begun)
        limit = self.config.clip_observations
        return _with_past(self.history, observations.clamp(-limit, limit), begun)

    def _states(self, begun: Tensor | None = None) -> Tensor:
        limit, states = self.config.clip_observations, self.compute_states()
        check_numbers(self, "compute_states", states, "num_states", self.states_size)
        states = self._disturbed("states", states, begun)
        return _with_past(self.critic_history, states.clamp(-limit, limit), begun)

    def _disturbed(self, name: str, values: Tensor, begun: Tensor | None) -> Tensor:
        """Observations or states with noise and latency; begun as in `_observe`."""
        if self.randomizer is None:
            return values
        if begun is None:
            return self.randomizer.observe(values, name)
        return self.randomizer.observe_first(values, begun, name)

    def _history(self, name: str, length: int, width: int) -> History | None:
        return History(self, name, length, width) if length > 1 else None

    def _reset(self, mask: Tensor) -> None:
        self.progress_buf.masked_fill_(mask, 0)
        self.previous_actions.masked_fill_(mask[:, None], 0.0)
        self.sim.reset(mask)
        if self.randomizer is not None:
            self.randomizer.reset(mask)
        for actuator in self.actuators:
            actuator.reset(mask)
        self.reset_envs(mask)
        self.sim.forward(mask)

    def _make_randomizer(self, terms: tuple[Term, ...]) -> Randomizer:
        name, params = type(self).__name__, self.config.randomization_params
        if not params:
            raise PhalanxError(
                f"task.randomize is true, but {name} has no randomization_params; write them into"
                f" cfg/task/{name}.yaml"
            )
        if isinstance(self.action_space, Box):
            actions = torch.zeros(self.num_envs, self.num_actions, device=self.device)
        else:
            actions = torch.zeros(self.num_envs, dtype=torch.long, device=self.device)
        drives: dict[tuple[str, str], list[Drive]] = {}
        for actuator in self.actuators:
            for gain, drive in actuator.gains().items():
                drives.setdefault((actuator.settings.actor, gain), []).append(drive)
        optional = self.optional_terms
        observations = torch.zeros(self.num_envs, self.obs_size, device=self.device)
        shape = (self.num_envs, self.states_size)
        states = torch.zeros(shape, device=self.device) if self.num_states else None
        return Randomizer(self.sim, params, actions, observations, drives, terms, optional, states)


def _with_file(config: TaskConfig) -> TaskConfig:
    """The same with the file of a robot that is given by its name in MuJoCo Menagerie, in tasks
    whose field `asset` usually is a file."""
    asset, usual = (getattr(c, "asset", None) for c in (config, type(config)))
    if not isinstance(asset, str) or Path(asset).suffix or not Path(str(usual)).suffix:
        return config
    from phalanx.robot.file import find_file  # most tasks start without it

    found: dict[str, Any] = {"asset": str(find_file(asset))}
    return dataclasses.replace(config, **found)


def _with_past(history: History | None, values: Tensor, begun: Tensor | None) -> Tensor:
    if history is None:
        return values
    return history.add(values) if begun is None else history.begin(values, begun)
