"""An exported policy on a robot in plain MuJoCo C, with its task as the referee.

    trial = Sim2Sim("runs/Ant/nn/Ant.pth.onnx", episodes=64)
    while trial.running.any():
        trial.step()

Each robot is a `mujoco.MjModel` and an `MjData` of its own that `mj_step` advances, and a `Policy`
that sees named state and gives named targets: what a program on the real robot would do. The task,
built anew from its name and settings in the metadata, takes no part in that. It chooses the initial
state, computes reward, end of episode and custom terms from the robots' states, and what it
randomises of the model (masses, frictions, ...) or pushes, the robots get.

drive="task" instead passes observations and controls through the task, with the noise, latency
and actuator models that it may have.
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

from phalanx import tasks
from phalanx.deploy.policy import Command, Latency, Policy
from phalanx.deploy.robot import Robot
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
        self.drive = drive if about.action.joints else "task"
        self.endless = endless
        self.robots = [Robot(self._model(), about) for _ in range(episodes)]
        self.policies = [policy.twin() for _ in self.robots]
        self.running = np.ones(episodes, bool)
        self.returns, self.lengths = np.zeros(episodes), np.zeros(episodes, int)
        self.fell = np.zeros(episodes, bool)
        self.saturated = np.zeros(len(about.action.joints) or about.action.size)
        self.steps = 0
        self.trace, self._tracing = Trace(), True
        self.observation_gap: dict[str, float] = {}
        """Largest difference between robot 0's observation and the task's, by term."""
        self.control_gap = 0.0
        """Largest difference between robot 0's controls and the task's."""
        self._engine = cast(Any, task.sim.engine)
        self._engine.step = self._physics
        self._state, self._inputs = (
            {n: self._engine.field(n).numpy() for n in names if n != "time"}
            for names in (STATE_FIELDS, INPUT_FIELDS)
        )
        self._seen: dict[str, Array] = {}
        """Fields of the task's simulation, as the robots have taken or given them."""
        self._commands: list[Command] = [None] * episodes  # type: ignore[list-item]
        task.reset()
        self._pull()

    def step(self) -> None:
        """One control step of every robot whose episode runs."""
        task, kind = self.task, self.about.policy.kind
        clean = task.compute_observations().numpy()
        actions = np.zeros((len(self.robots), self.about.action.size))
        for i in np.flatnonzero(self.running).tolist():
            self._commands[i] = self._decide(i, clean[i])
            actions[i] = self._commands[i].action
        chosen = torch.from_numpy(actions).to(torch.float if kind == "continuous" else torch.long)
        chosen = chosen[:, 0] if kind == "discrete" else chosen
        _, reward, terminated, truncated, _ = task.step(chosen)
        live = self.running.copy()
        self.returns[live] += reward.numpy()[live]
        self.lengths[live] += 1
        done = (terminated | truncated).numpy() & live
        self.fell |= terminated.numpy() & live
        self._tracing = self._tracing and not done[0]
        for i in np.flatnonzero(done).tolist():
            self.policies[i].reset()
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
            "saturation": dict(
                zip(moved, (self.saturated / max(self.steps, 1)).tolist(), strict=True)
            ),
            "latency_ms": dataclasses.asdict(latency),
            "observation_gap": self.observation_gap,
            "control_gap": self.control_gap,
        }

    def latency(self) -> Latency:
        """Of the robot that played longest."""
        return max((p.latency() for p in self.policies if p.steps), key=lambda x: x.steps)

    # -- policies --------------------------------------------------------------------------------

    def _decide(self, i: int, clean: Array) -> Command:
        """The command of robot i, whose observation without noise is `clean` for the task."""
        robot, policy = self.robots[i], self.policies[i]
        if self.drive == "task":
            return policy.act(self.task.obs_buf[i].numpy())
        state = {**robot.state(), **self._terms_of_the_task(clean)}
        if i == 0:
            self._compare(policy.observe(state), clean)
        return policy.update(robot.data.time, state)

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
        """In place of the engine's step: each robot alone, with mj_step, at our own timestep."""
        self._pull()
        derived = {n: t.numpy() for n, t in self._engine.derived_in_use.items()}
        clock = self._engine.field("time").numpy()
        for i in np.flatnonzero(self.running).tolist():
            robot, command = self.robots[i], self._commands[i]
            if self.drive == "robot":
                robot.advance(command.targets, self.substeps)
            else:
                robot.coast(self.substeps)
            self.steps += 1
            self.saturated += robot.at_limit(command)
            if i == 0:
                self._note(command)
            robot.refresh()
            for name, values in self._state.items():
                values[i] = getattr(robot.data, name)
            for name, values in derived.items():
                values[i] = getattr(robot.data, name)
            clock[i] = robot.data.time
        for name, values in self._state.items():
            np.copyto(self._seen[name], values)
        self._engine.failed.zero_()

    def _note(self, command: Command) -> None:
        """Robot 0's step, for plots and video."""
        robot = self.robots[0]
        if self.drive == "robot" and robot.model.nu:
            apart = np.abs(self._inputs["ctrl"][0] - robot.data.ctrl)
            self.control_gap = max(self.control_gap, float(apart.max()))
        if self._tracing:
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
