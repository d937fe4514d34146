"""An exported policy on a robot in plain MuJoCo C, with its task as the referee.

    trial = Sim2Sim("runs/Ant/nn/Ant.pth.onnx", episodes=64)
    while trial.running.any():
        trial.step()

Each robot is a `mujoco.MjModel` and an `MjData` of its own that `mj_step` advances, and a `Policy`
that sees named state and gives named targets: what a program on the real robot would do. The task,
built anew from its name and settings in the metadata, is the world around it. It chooses the
initial state and computes reward, end of episode and custom terms from the robots' states; and all
that it randomises reaches the robots: the model, pushes, noise and latency of observations on their
way to the policy, and of actions on their way to the joints. For that, four of its methods are
replaced by ones of `Sim2Sim`, see there.

drive="task" instead passes the task's own observations to the policy and the task's own controls to
the joints. It is what happens, too, where actions have no names or actuator models make of them
what joints get.
"""

import copy
import dataclasses
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import mujoco
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from phalanx import tasks
from phalanx.deploy.policy import Command, Latency, Policy
from phalanx.deploy.robot import Robot, targets_of
from phalanx.errors import PhalanxError
from phalanx.sim.engines import INPUT_FIELDS, STATE_FIELDS

Array = NDArray[Any]


@dataclass
class Trace:
    """Robot 0's first episode, a row a control step."""

    time: list[float] = field(default_factory=list)
    qpos: list[Array] = field(default_factory=list)
    targets: list[Array] = field(default_factory=list)
    measured: list[Array] = field(default_factory=list)
    joint_pos: list[Array] = field(default_factory=list)


class Sim2Sim:
    """`episodes` robots, one episode each; `endless` begins new ones instead of stopping.

    timestep: of the physics [s], the task's if None; it must divide the policy's control_dt.
    env: fields of the task's Config that take the place of the metadata's.
    Raises PhalanxError for a file that is no exported policy, an unknown task, or one that no
    longer fits the policy.
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
    ) -> None:
        policy = Policy(path)
        self.about = about = policy.metadata
        torch.manual_seed(seed)
        settings = {**about.env, **(env or {})}
        self.task = task = tasks.make(about.task, num_envs=episodes, device="cpu", **settings)
        if task.num_obs != about.observation.size or abs(task.sim.dt / about.control_dt - 1) > 1e-6:
            raise PhalanxError(
                f"{path} observes {about.observation.size} numbers every {about.control_dt:.4g} s,"
                f" but the task {about.task} here {task.num_obs} every {task.sim.dt:.4g} s; use the"
                " version of the task that it was trained with"
            )
        self.timestep = timestep or task.sim.model.opt.timestep
        self.substeps = round(about.control_dt / self.timestep)
        if self.substeps < 1 or abs(self.substeps * self.timestep / about.control_dt - 1) > 1e-3:
            raise PhalanxError(
                f"timestep is {timestep}, which does not divide the policy's control_dt"
                f" {about.control_dt:.4g} s"
            )
        self.timestep = about.control_dt / self.substeps
        self.drive = "task" if task.actuators or not about.action.joints else drive
        own = round(self.substeps / task.sim.substeps)
        if task.actuators and own * task.sim.substeps != self.substeps:
            raise PhalanxError(
                f"timestep is {timestep}, but the task's actuator models run every"
                f" {about.control_dt / task.sim.substeps:.4g} s; choose a whole part of that"
            )
        self.endless = endless
        self.robots = [Robot(self._model(), about) for _ in range(episodes)]
        self.policies = [policy.twin() for _ in self.robots]
        self.running = np.ones(episodes, bool)
        self.returns, self.lengths = np.zeros(episodes), np.zeros(episodes, int)
        self.fell = np.zeros(episodes, bool)
        self.saturated = np.zeros(len(about.action.joints) or about.action.size)
        self.steps = 0
        self.trace, self.tracing = Trace(), True
        """Robot 0's first episode, and whether it still goes on."""
        self.observation_gap: dict[str, float] = {}
        """Largest difference between robot 0's observation and the task's, by term."""
        self.control_gap = 0.0
        """Largest difference between robot 0's controls and the task's."""
        self._take_over()
        task.end_schedules()
        torch.manual_seed(seed)  # initial states that do not depend on what was drawn before
        task.reset()
        self._pull()

    def _take_over(self) -> None:
        """Put methods of ours in the place of the task's and its engine's."""
        task, n = self.task, len(self.robots)
        self._engine = cast(Any, task.sim.engine)
        self._state, self._inputs = (
            {name: self._engine.field(name).numpy() for name in names}
            for names in (STATE_FIELDS, INPUT_FIELDS)
        )
        self._clock = self._state.pop("time")
        self._seen: dict[str, Array] = {}
        """Fields of the task's simulation, as the robots have taken or given them."""
        self._commands: list[Command] = [None] * n  # type: ignore[list-item]
        self._unobserved = np.ones(n, bool)
        self._observed = np.zeros((n, task.num_obs), np.float32)
        self._substep = 0
        noise, delay = getattr(task.randomizer, "noise", {}), getattr(task.randomizer, "delay", {})
        self._actions_change = "actions" in noise or "actions" in delay
        self._of_task = task.compute_observations, task.pre_physics_step, task.reset_envs
        self._engine.step = self._physics
        task.reset_envs = self._begin  # type: ignore[method-assign]
        if self.drive == "robot":
            task.compute_observations = self._observe  # type: ignore[method-assign]
            task.pre_physics_step = self._act  # type: ignore[method-assign]

    def step(self) -> None:
        """One control step of every robot whose episode runs."""
        task, kind = self.task, self.about.policy.kind
        observations = task.obs_buf.numpy()
        actions = np.zeros((len(self.robots), self.about.action.size))
        for i in np.flatnonzero(self.running).tolist():
            self._commands[i] = self.policies[i].act(observations[i])
            actions[i] = self._commands[i].action
        chosen = torch.from_numpy(actions).to(torch.float if kind == "continuous" else torch.long)
        chosen = chosen[:, 0] if kind == "discrete" else chosen
        self._substep = 0
        _, reward, terminated, truncated, _ = task.step(chosen)
        live = self.running.copy()
        self.returns[live] += reward.numpy()[live]
        self.lengths[live] += 1
        done = (terminated | truncated).numpy() & live
        self.fell |= terminated.numpy() & live
        self.tracing = self.tracing and not done[0]
        self.running &= ~done | self.endless
        self._pull()

    def figures(self) -> dict[str, Any]:
        """What a report is made of: plain numbers and texts."""
        latency = self.latency()
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
            "latency_ms": dataclasses.asdict(latency),
            "observation_gap": self.observation_gap,
            "control_gap": self.control_gap,
        }

    def latency(self, steps: int = 2000) -> Latency:
        """Of a policy that has a core to itself, as on a robot, on the states that the robots are
        in now; between steps of the physics of many robots it would find its memory gone."""
        policy = self.policies[0].twin()
        of_task = self._of_task[0]().numpy()
        states = [
            robot.state() | self._terms_of_the_task(row)
            for robot, row in zip(self.robots, of_task, strict=True)
        ]
        for k in range(steps):
            if self.drive == "robot":
                policy.step(states[k % len(states)])
            else:
                policy.act(self.task.obs_buf[0].numpy())
        return policy.latency()

    # -- in place of the task's methods ----------------------------------------------------------

    def _begin(self, mask: Tensor) -> None:
        """reset_envs: an episode begins in environments `mask`, for the policies too."""
        self._of_task[2](mask)
        for i in np.flatnonzero(mask.numpy() & self.running).tolist():
            self.policies[i].reset()
            if self.endless:
                self.robots[i].data.time = 0.0
        self._unobserved |= mask.numpy()

    def _observe(self) -> Tensor:
        """compute_observations: (N, num_obs) as the policies' runtime builds them from the robots'
        named states; noise and latency of the task come after it."""
        of_task = self._of_task[0]().numpy()
        self._pull()
        for i in np.flatnonzero(self._unobserved & self.running).tolist():
            state = self.robots[i].state() | self._terms_of_the_task(of_task[i])
            observation = self.policies[i].observe(state)
            self._observed[i] = observation
            if i == 0:
                self._compare(observation, of_task[0])
        self._unobserved[:] = False
        return torch.from_numpy(self._observed.copy())

    def _act(self, actions: Tensor) -> None:
        """pre_physics_step: what arrives of the actions, which become the joints' targets."""
        self._of_task[1](actions)
        self._arrived = actions.numpy()

    def _targets(self, i: int) -> Array:
        """(J,) of robot i: its policy's, unless noise or latency has changed the action."""
        if self._actions_change:
            return targets_of(self.about.action, self._arrived[i])
        return self._commands[i].targets

    def _terms_of_the_task(self, observation: Array) -> dict[str, Array]:
        """Values of the terms that only the task knows, taken out of its observation."""
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

    # -- physics ---------------------------------------------------------------------------------

    def _physics(self, substeps: int) -> None:
        """The engine's step: each robot alone, with mj_step, at our own timestep. substeps: of the
        task's."""
        self._pull()
        derived = {n: t.numpy() for n, t in self._engine.derived_in_use.items()}
        self._substep += substeps
        control_step_ends = self._substep >= self.task.sim.substeps
        steps = self.substeps * substeps // self.task.sim.substeps
        for i in np.flatnonzero(self.running).tolist():
            robot, command = self.robots[i], self._commands[i]
            if self.drive == "robot":
                robot.advance(self._targets(i), steps)
            else:
                robot.coast(steps)
            if control_step_ends:
                self.steps += 1
                self.saturated += robot.at_limit(command)
                if i == 0:
                    self._note(command)
            robot.refresh()
            for name, values in self._state.items():
                values[i] = getattr(robot.data, name)
            for name, values in derived.items():
                values[i] = getattr(robot.data, name)
            self._clock[i] = robot.data.time
        for name, values in self._state.items():
            np.copyto(self._seen[name], values)
        self._unobserved[:] = True
        self._engine.failed.zero_()

    def _note(self, command: Command) -> None:
        """Robot 0's step, for plots and video."""
        robot = self.robots[0]
        if self.drive == "robot" and robot.model.nu:
            apart = np.abs(self._inputs["ctrl"][0] - robot.data.ctrl)
            self.control_gap = max(self.control_gap, float(apart.max()))
        if self.tracing:
            trace = self.trace
            trace.time.append(len(trace.time) * self.about.control_dt)
            trace.qpos.append(robot.data.qpos.copy())
            trace.targets.append(command.targets.copy())
            trace.measured.append(robot.measured())
            trace.joint_pos.append(robot.data.qpos[robot.qpos].copy())

    def _pull(self) -> None:
        """What the task has written since the last step into the robots: resets, pushes, model."""
        model = {n: t.numpy() for n, t in self._engine.model_fields_in_use.items()}
        for i in self._written(model):
            self.robots[i].take_model_fields({n: v[i] for n, v in model.items()})
        inputs = self._inputs
        if self.drive == "robot":
            inputs = {n: v for n, v in inputs.items() if n != "ctrl"}
        for i in self._written(inputs):
            self.robots[i].take_fields({n: v[i] for n, v in inputs.items()})
        for i in self._written(self._state):
            robot = self.robots[i]
            if robot.take_fields({n: v[i] for n, v in self._state.items()}):
                mujoco.mj_forward(robot.model, robot.data)

    def _written(self, fields: dict[str, Array]) -> list[int]:
        """Running robots one of whose `fields` is not what was seen last. Copying all of them in
        every step would take most of the time."""
        rows = np.zeros(len(self.robots), bool)
        for name, values in fields.items():
            seen = self._seen.get(name)
            if seen is None:
                self._seen[name] = values.copy()
                rows[:] = True
            elif not np.array_equal(seen, values):
                rows |= (seen != values).reshape(len(rows), -1).any(1)
                np.copyto(seen, values)
        return np.flatnonzero(rows & self.running).tolist()

    def _model(self) -> mujoco.MjModel:
        model = copy.copy(self.task.sim.model)
        model.opt.timestep = self.timestep
        # Training bounds the solver, so that no environment waits for another; here it is exact.
        model.opt.iterations, model.opt.ls_iterations = 100, 50
        return model
