"""Plays an exported policy on robots in plain MuJoCo C, scored by its task (`phalanx sim2sim`).

    trial = Trial("runs/Ant/nn/Ant.pth.onnx", episodes=64)
    while trial.running.any():
        trial.step()

The task is rebuilt from its name and settings in the metadata and runs on the plain engine, so each
environment has its own `MjModel` and `MjData`, advanced by `mj_step`. The task chooses the initial
state, computes reward, custom terms and the end of the episode, and randomises as in training.
`Trial` is the task's `Onboard`: it takes the place of the robot's own program. Each environment has
a `Policy`, which builds its observation from named state and returns named targets, and a
`SimulatedRobot`, which drives the joints to those targets before each physics step. The task's
noise and latency apply between the two, to observations before the policy and to actions after it.

drive="task" passes the task's own observations to the policy and the task's own controls to the
joints. "robot" does the same if actions have no names, or if actuator models convert them.
"""

import dataclasses
import functools
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import mujoco
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from phalanx import tasks
from phalanx.deploy.metadata import Metadata
from phalanx.deploy.policy import Command, Latency, Policy
from phalanx.deploy.simulated_robot import SimulatedRobot, targets_of
from phalanx.errors import PhalanxError
from phalanx.sim.engines.plain import PlainEngine

Array = NDArray[Any]


@dataclass
class Trace:
    """Robot 0's first episode, one row per control step."""

    time: list[float] = field(default_factory=list)
    states: list[Array] = field(default_factory=list)
    """As `sim.recorder` has them: qpos, then mocap_pos and mocap_quat."""
    targets: list[Array] = field(default_factory=list)
    measured: list[Array] = field(default_factory=list)
    joint_pos: list[Array] = field(default_factory=list)


class Trial:
    """`episodes` robots, one episode each; with `endless` they start another instead of stopping.

    timestep: physics timestep [s], None for the task's; it must divide the policy's control_dt.
    env: fields of the task's Config that replace those in the metadata. command: for all robots,
    instead of those that the task draws.
    Raises PhalanxError for a file that is not an exported policy, for an unknown task and for a
    task that no longer fits the policy.
    """

    def __init__(
        self,
        path: str | Path,
        episodes: int = 64,
        timestep: float | None = None,
        drive: str = "robot",
        endless: bool = False,
        env: dict[str, Any] | None = None,
        seed: int = 42,
        command: Sequence[float] | None = None,
    ) -> None:
        policy = Policy(path)
        self.about = about = policy.metadata
        torch.manual_seed(seed)
        self.task = task = tasks.make(
            about.task,
            num_envs=episodes,
            device="cpu",
            engine=functools.partial(PlainEngine, timestep=_timestep(about, timestep)),
            config=tasks.config_of(about.task, about.env, env or {}),
        )
        if task.num_obs != about.observation.size or abs(task.sim.dt / about.control_dt - 1) > 1e-6:
            changed = f" with {', '.join(env)} as given" if env else ""
            instead = "leave that as it was, or use" if env else "use"
            raise PhalanxError(
                f"{path} observes {about.observation.size} numbers every {about.control_dt:.4g} s,"
                f" but this version of the task {about.task}{changed} has {task.num_obs} every"
                f" {task.sim.dt:.4g} s; {instead} the version that the policy was trained with"
            )
        self.engine = cast(PlainEngine, task.sim.engine)
        self.timestep = float(self.engine.models[0].opt.timestep)
        self.substeps = self.engine.steps(task.sim.substeps)
        if task.actuators and self.substeps % task.sim.substeps:
            raise PhalanxError(
                f"timestep is {timestep}, but the task's actuator models run every"
                f" {task.sim.model.opt.timestep:.4g} s; choose a timestep that divides that"
            )
        self.drive = "task" if task.actuators or not about.action.joints else drive
        self.endless = endless
        self.robots = [
            SimulatedRobot(model, data, about, task.sim.model)
            for model, data in zip(self.engine.models, self.engine.datas, strict=True)
        ]
        self.policies = [policy.clone() for _ in self.robots]
        self.running = np.ones(episodes, bool)
        self.returns, self.lengths = np.zeros(episodes), np.zeros(episodes, int)
        self.fell = np.zeros(episodes, bool)
        self.saturated = np.zeros(len(about.action.joints) or about.action.size)
        self.steps = 0
        self.trace, self.tracing = Trace(), True
        """Robot 0's first episode, and whether it is still running."""
        self.observation_gap: dict[str, float] = {}
        """Largest difference between robot 0's observation and the task's, by term."""
        self.control_gap = 0.0
        """Largest difference between robot 0's controls and the task's."""
        self.observed = np.zeros((episodes, task.obs_size), np.float32)
        """(N, obs_size) the policies' observations, built from the robots' named states."""
        self._commands: list[Command] = [None] * episodes  # type: ignore[list-item]
        self._targets = np.zeros((episodes, len(about.action.joints)))
        self._limp = np.zeros(episodes, bool)
        randomizer = task.randomizer
        self._actions_change = randomizer is not None and (
            "actions" in randomizer.noise or "actions" in randomizer.delay
        )
        task.onboard = self
        if self.drive == "robot":
            self.engine.control = self._control
        task.end_schedules()
        if command is not None:
            task.give_command(command)
        torch.manual_seed(seed)  # initial states must not depend on earlier draws
        task.reset()

    def step(self) -> None:
        """Take one control step with every robot whose episode is running."""
        task, kind = self.task, self.about.policy.kind
        observations = task.obs_buf.numpy()
        actions = np.zeros((len(self.robots), self.about.action.size))
        for i in self._running():
            self._commands[i] = self.policies[i].act(observations[i])
            actions[i] = self._commands[i].action
        chosen = torch.from_numpy(actions).to(torch.float if kind == "continuous" else torch.long)
        chosen = chosen[:, 0] if kind == "discrete" else chosen
        _, reward, terminated, truncated, _ = task.step(chosen)
        live = self.running.copy()
        self.returns[live] += reward.numpy()[live]
        self.lengths[live] += 1
        done = (terminated | truncated).numpy() & live
        self.fell |= terminated.numpy() & live
        self.tracing = self.tracing and not done[0]
        self.running &= ~done | self.endless
        self.engine.active[:] = self.running

    # -- the task's Onboard ----------------------------------------------------------------------

    def act(self, actions: Tensor) -> None:
        """Make the actions that arrive at the robots, (N, num_actions), the joints' targets."""
        arrived, limp = actions.numpy(), self.task.limp()
        if limp is not None:
            self._limp[:] = limp.numpy()
        for i in self._running():
            self._targets[i] = (
                targets_of(self.about.action, arrived[i])
                if self._actions_change
                else self._commands[i].targets
            )

    def observe(self, observations: Tensor, begun: Tensor | None) -> Tensor:
        """Observations (N, obs_size) that the policies build from the robots' named states; the
        task's own with drive="task"."""
        if begun is None:
            self._note_step()
        else:
            for i in self._running(begun.numpy()):
                self.policies[i].reset()
                self.robots[i].begin()
        if self.drive == "task":
            return observations
        of_task = observations.numpy()
        for i in self._running(None if begun is None else begun.numpy()):
            state = self._state(i, of_task[i])
            self.observed[i] = self.policies[i].observe(state)
            if i == 0:
                self._compare(self.observed[0], of_task[0])
        return torch.from_numpy(self.observed.copy())

    def _running(self, among: Array | None = None) -> list[int]:
        return np.flatnonzero(self.running if among is None else self.running & among).tolist()

    def _control(self, env: int) -> None:
        """Drive a robot before a physics step."""
        if self._limp[env]:
            self.robots[env].data.ctrl[:] = self.task.sim.ctrl[env].numpy()
        else:
            self.robots[env].apply(self._targets[env])

    def _state(self, env: int, of_task: Array) -> dict[str, Any]:
        """What a robot's program knows, for the task's observation (obs_size,)."""
        robot, bias = self.robots[env], self.task.encoder_bias
        state = robot.state()
        if bias is not None:
            state["joint_pos"][robot.moved] += bias[env].numpy()
        return state | self._terms_of_the_task(of_task)

    def _terms_of_the_task(self, observation: Array) -> dict[str, Array]:
        """Values of the custom terms, recovered from the task's observation."""
        known, at = {}, 0
        for term in self.about.observation.terms:
            if term.quantity in ("custom", "command"):
                scale = np.array(term.scale)
                part = observation[at : at + term.size]
                known[term.name] = part / np.where(scale == 0, 1, scale) + np.array(term.offset)
            at += term.size
        return known

    def _compare(self, ours: Array, theirs: Array) -> None:
        clip, at = self.about.observation.clip, 0
        for term in self.about.observation.terms:
            part = slice(at, at + term.size)
            at += term.size
            if term.quantity in ("custom", "command"):
                continue
            gap = np.abs(ours[part] - theirs[part].clip(-clip, clip))
            if term.quantity in ("roll", "pitch", "yaw"):  # -pi and pi are the same
                turn = 2 * np.pi * np.abs(term.scale)
                gap = np.minimum(gap, np.abs(turn - gap))
            self.observation_gap[term.name] = max(
                self.observation_gap.get(term.name, 0.0), float(gap.max())
            )

    def _note_step(self) -> None:
        """Record a control step for the report and the video."""
        for i in self._running():
            self.steps += 1
            self.saturated += self.robots[i].at_limit(self._commands[i])
        if not self.running[0]:
            return
        robot, command = self.robots[0], self._commands[0]
        if self.drive == "robot" and robot.model.nu:
            apart = np.abs(self.task.sim.ctrl[0].numpy() - robot.data.ctrl)
            self.control_gap = max(self.control_gap, float(apart.max()))
        if self.tracing:
            trace = self.trace
            trace.time.append(len(trace.time) * self.about.control_dt)
            d = robot.data
            trace.states.append(np.concatenate([d.qpos, d.mocap_pos.flat, d.mocap_quat.flat]))
            trace.targets.append(command.targets.copy())
            trace.measured.append(robot.measured())
            trace.joint_pos.append(robot.data.qpos[robot.qpos].copy())

    # -- what a report is made of ----------------------------------------------------------------

    def figures(self) -> dict[str, Any]:
        """The figures of the report, as plain numbers and strings."""
        moved = list(self.about.action.joints) or [
            f"action {k}" for k in range(len(self.saturated))
        ]
        return {
            "task": self.about.task,
            "checkpoint": self.about.policy.checkpoint,
            "phalanx": self.about.phalanx,
            "mujoco": mujoco.__version__,
            "episodes": len(self.robots),
            "mean_return": float(self.returns.mean()),
            "std_return": float(self.returns.std()),
            "returns": self.returns.tolist(),
            "mean_length": float(self.lengths.mean()),
            "lengths": self.lengths.tolist(),
            "falls": int(self.fell.sum()),
            "control_hz": self.about.control_hz,
            "timestep": self.timestep,
            "drive": self.drive,
            "randomised": [
                [r.what, r.change, r.result, r.unit, r.when]
                for r in (self.task.randomizer.table() if self.task.randomizer else [])
            ],
            "saturation": dict(
                zip(moved, (self.saturated / max(self.steps, 1)).tolist(), strict=True)
            ),
            "latency_ms": dataclasses.asdict(self.latency()),
            "observation_gap": self.observation_gap,
            "control_gap": self.control_gap,
        }

    def latency(self, steps: int = 2000) -> Latency:
        """Latency of a policy alone on one core, as on a robot. During the trial the physics of
        many robots would leave its cache cold."""
        policy = self.policies[0].clone()
        of_task = self.task.compute_observations().numpy()
        states = [self._state(env, row) for env, row in enumerate(of_task)]
        for k in range(steps):
            if self.drive == "robot":
                policy.step(states[k % len(states)])
            else:
                policy.act(self.task.obs_buf[0].numpy())
        return policy.latency()


def _timestep(about: Metadata, timestep: float | None) -> float | None:
    """`timestep` [s], adjusted so that a whole number of steps makes a control step. Raises
    PhalanxError if it is not close to such a value."""
    if timestep is None:
        return None
    steps = round(about.control_dt / timestep)
    if steps < 1 or abs(steps * timestep / about.control_dt - 1) > 1e-3:
        raise PhalanxError(
            f"timestep is {timestep}, which does not divide the policy's control_dt"
            f" {about.control_dt:.4g} s"
        )
    return about.control_dt / steps
