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
from phalanx.deploy.export import find_joint
from phalanx.deploy.metadata import Metadata
from phalanx.deploy.policy import Command, Latency, Policy
from phalanx.errors import PhalanxError
from phalanx.sim.engines import INPUT_FIELDS, STATE_FIELDS

Array = NDArray[Any]


class Robot:
    """One robot in plain MuJoCo, seen as a robot's program sees it."""

    def __init__(self, model: mujoco.MjModel, about: Metadata) -> None:
        self.model, self.data = model, mujoco.MjData(model)
        self.action = about.action
        self._scratch = mujoco.MjData(model)
        self.joints = [find_joint(model, j.name) for j in about.joints]
        self.names = [j.name for j in about.joints]
        self.qpos = model.jnt_qposadr[self.joints]
        self.qvel = model.jnt_dofadr[self.joints]
        self.moved = [self.names.index(name) for name in about.action.joints]
        body = int(model.jnt_bodyid[self.joints[0]]) if self.joints else 1
        self._root = int(model.body_rootid[body])
        free = [
            i
            for i in range(model.njnt)
            if model.jnt_type[i] == mujoco.mjtJoint.mjJNT_FREE
            and model.body_rootid[model.jnt_bodyid[i]] == self._root
        ]
        self._free = (
            (int(model.jnt_qposadr[free[0]]), int(model.jnt_dofadr[free[0]])) if free else ()
        )
        self._actuators = [_actuator(model, self.joints[k]) for k in self.moved]
        gains = [about.joints[k] for k in self.moved]
        self._kp = np.array([g.stiffness for g in gains])
        self._kd = np.array([g.damping for g in gains])
        self._effort = np.array(
            [np.inf if g.effort_limit is None else g.effort_limit for g in gains]
        )

    def state(self) -> dict[str, Any]:
        """What `phalanx.deploy.observe` calls a robot's state; the base is the root body."""
        d = self.data
        known: dict[str, Any] = {"joint_pos": d.qpos[self.qpos], "joint_vel": d.qvel[self.qvel]}
        if self._free:
            q, v = self._free
            quat = d.qpos[q + 3 : q + 7]
            rotation = np.zeros(9)
            mujoco.mju_quat2Mat(rotation, quat)
            known["base_height"] = d.qpos[q + 2]
            known["base_quat"] = quat
            known["base_lin_vel"] = d.qvel[v : v + 3] @ rotation.reshape(3, 3)
            known["base_ang_vel"] = d.qvel[v + 3 : v + 6]
        else:
            known["base_height"] = d.xpos[self._root, 2]
            known["base_quat"] = d.xquat[self._root]
            known["base_lin_vel"] = known["base_ang_vel"] = np.zeros(3)
        return known

    def apply(self, command: Command) -> None:
        """Targets to servos at their joints; where there is none, the effort of a PD controller
        with the metadata's gains to the motor, or else to the joint itself."""
        efforts = self._efforts(command.targets)
        for k, actuator in enumerate(self._actuators):
            if actuator is None:
                self.data.qfrc_applied[self.qvel[self.moved[k]]] = efforts[k]
            elif self.action.kind != "effort" and _is_servo(self.model, actuator, self.action.kind):
                self.data.ctrl[actuator] = command.targets[k]
            else:
                gear, gain = self.model.actuator_gear, self.model.actuator_gainprm
                self.data.ctrl[actuator] = efforts[k] / (gear[actuator, 0] * gain[actuator, 0])

    def measured(self) -> Array:
        """(J,) what the targets ask for, as it is: position, velocity or the actuators' effort."""
        if self.action.kind == "position":
            return self.data.qpos[self.qpos[self.moved]]
        if self.action.kind == "velocity":
            return self.data.qvel[self.qvel[self.moved]]
        return self.efforts()

    def efforts(self) -> Array:
        """(J,) of the moved joints' actuators [N or N m]."""
        dofs = self.qvel[self.moved]
        return self.data.qfrc_actuator[dofs] + self.data.qfrc_applied[dofs]

    def at_limit(self, command: Command) -> Array:
        """(J,) bool: the target is at its limit, or the motor gives all it can."""
        strong = np.abs(self.efforts()) >= self._effort * (1 - 1e-6)
        return command.saturated | strong if self.moved else command.saturated

    def take_model_fields(self, fields: dict[str, Array]) -> None:
        """Model fields of this robot alone, as a task randomises them; constants follow."""
        changed = False
        for name, values in fields.items():
            *path, last = name.split(".")
            owner = self.model
            for part in path:
                owner = getattr(owner, part)
            own = getattr(owner, last)
            if not np.array_equal(np.asarray(own, np.float32), values.astype(np.float32)):
                if isinstance(own, np.ndarray):
                    own[...] = values
                else:
                    setattr(owner, last, type(own)(values))
                changed = True
        if changed:
            mujoco.mj_setConst(self.model, self._scratch)

    def _efforts(self, targets: Array) -> Array:
        pos, vel = self.data.qpos[self.qpos[self.moved]], self.data.qvel[self.qvel[self.moved]]
        if self.action.kind == "position":
            wanted = self._kp * (targets - pos) - self._kd * vel
        elif self.action.kind == "velocity":
            wanted = self._kd * (targets - vel)
        else:
            wanted = targets
        return np.clip(wanted, -self._effort, self._effort)


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
        names = (*STATE_FIELDS, *INPUT_FIELDS)
        self._fields = {n: self._engine.field(n).numpy() for n in names if n != "time"}
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
            robot, command, d = self.robots[i], self._commands[i], self.robots[i].data
            for _ in range(self.substeps):
                if self.drive == "robot":
                    command = self.policies[i].update(d.time, robot.state)  # holds its command
                    robot.apply(command)
                mujoco.mj_step(robot.model, d)
            self.steps += 1
            self.saturated += robot.at_limit(command)
            if i == 0:
                self._note(command)
            # What the task reads is of the state reached; forces stay those of the last step.
            mujoco.mj_fwdPosition(robot.model, d)
            mujoco.mj_sensorPos(robot.model, d)
            mujoco.mj_fwdVelocity(robot.model, d)
            mujoco.mj_sensorVel(robot.model, d)
            for name, values in self._fields.items():
                if name in STATE_FIELDS:
                    values[i] = getattr(d, name)
            for name, values in derived.items():
                values[i] = getattr(d, name)
            clock[i] = d.time
        self._engine.failed.zero_()

    def _note(self, command: Command) -> None:
        """Robot 0's step, for plots and video."""
        robot = self.robots[0]
        if self.drive == "robot" and robot.model.nu:
            apart = np.abs(self._fields["ctrl"][0] - robot.data.ctrl)
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
        model_fields = {n: t.numpy() for n, t in self._engine.model_fields_in_use.items()}
        for i in np.flatnonzero(self.running).tolist():
            robot = self.robots[i]
            robot.take_model_fields({n: v[i] for n, v in model_fields.items()})
            moved = False
            for name, values in self._fields.items():
                own = getattr(robot.data, name)
                if name == "ctrl" and self.drive == "robot":
                    continue
                # Compared as float32, so that what nobody wrote keeps its digits.
                written = own.astype(values.dtype) != values[i]
                if written.any():
                    own[written] = values[i][written]
                    moved = moved or name in STATE_FIELDS
            if moved:
                mujoco.mj_forward(robot.model, robot.data)

    def _model(self) -> mujoco.MjModel:
        model = copy.copy(self.task.sim.model)
        model.opt.timestep = self.timestep
        # Training bounds the solver, so that no environment waits for another; here it is exact.
        model.opt.iterations, model.opt.ls_iterations = 100, 50
        return model


def _actuator(model: mujoco.MjModel, joint: int) -> int | None:
    """The first that acts on the joint."""
    for i in range(model.nu):
        on_joint = model.actuator_trntype[i] == mujoco.mjtTrn.mjTRN_JOINT
        if on_joint and model.actuator_trnid[i, 0] == joint:
            return i
    return None


def _is_servo(model: mujoco.MjModel, actuator: int, kind: str) -> bool:
    """Whether the actuator's control is a position, or a velocity."""
    _, stiffness, damping = model.actuator_biasprm[actuator, :3]
    affine = model.actuator_biastype[actuator] == mujoco.mjtBias.mjBIAS_AFFINE
    return bool(affine and (stiffness != 0) == (kind == "position") and (stiffness or damping))
