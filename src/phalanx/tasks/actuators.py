"""Actuator models: convert a command to a motor's effort, in each physics step.

    actuators:                      # in cfg/task/<Task>.yaml, or task.actuators.legs.model=...
      legs:                         # any name for the group
        actor: ant
        joints: [hip_1, ankle_1]    # optional, all of the actor's motors otherwise
        model: dc_motor             # pd, dc_motor or network
        command: position           # meaning of the task's control: position, velocity or effort
        scale: 0.5                  # command at a control of 1 [rad, m; rad/s, m/s; N m, N]
        stiffness: 20.0             # [N m/rad or N/m]
        damping: 0.5                # [N m s/rad or N s/m]
        effort: 12.0                # effort limit [N m or N]; by default, and at most, the motor's
        stall_effort: 15.0          # dc_motor: largest effort at standstill [N m or N]
        no_load_speed: 30.0         # dc_motor: speed at which no effort is left [rad/s or m/s]
        file: legs.npz              # network

The joints have torque motors or servos, and the task writes `sim.ctrl` as usual. A control of a
servo is its target, so that `scale` has no place there, and its own gains are the defaults of
`stiffness` and `damping`. Before each physics step the command is converted to an effort:

    pd         position command: stiffness (command - position) - damping velocity, with positions
               relative to the joint's initial one, but of a servo as they are; velocity command:
               damping (command - velocity); effort command: the command. Clamped to +-effort.
    dc_motor   the same, also clamped to the motor's limit at its current speed:
               +-stall_effort (1 -+ velocity / no_load_speed); beyond the no-load speed it
               only brakes
    network    a network trained on a real motor, of position errors and velocities

A network is an `.npz` or `.safetensors` file, which holds arrays and no code: weights and biases of
linear layers in order, named `<name>.weight` and `<name>.bias` as in a torch state_dict, with
`activation` between them; optionally preceded by an LSTM's `weight_ih_l0` and so on. All joints
share the network. The inputs of a multilayer perceptron are the position errors, then the
velocities, of each physics step in `history`; an LSTM takes the current ones and keeps a state.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import mujoco
import numpy as np
import torch
from torch import Tensor

from phalanx.config import ranged, read
from phalanx.errors import PhalanxError, did_you_mean
from phalanx.randomization.random_fields import Drive
from phalanx.sim import Sim
from phalanx.sim.engines.initial import initial_data
from phalanx.tasks.actuator_networks import Network, read_network
from phalanx.tasks.taken_servos import Servo

WHERE = "task.actuators"


@dataclass(frozen=True)
class ActuatorSettings:
    """One group of joints; the module's docstring has units."""

    actor: str
    model: Literal["pd", "dc_motor", "network"]
    joints: tuple[str, ...] = ()
    command: Literal["position", "velocity", "effort"] = "position"
    scale: float = 1.0
    stiffness: float | None = ranged(None, at_least=0)
    damping: float | None = ranged(None, at_least=0)
    effort: float | None = ranged(None, above=0)
    stall_effort: float | None = ranged(None, above=0)
    no_load_speed: float | None = ranged(None, above=0)
    file: str | None = None
    activation: Literal["elu", "relu", "softsign", "tanh"] = "softsign"
    history: tuple[int, ...] = ranged((0,), at_least=0, at_most=1000)
    """Ages of a multilayer perceptron's inputs, in physics steps."""
    pos_scale: float = 1.0
    """Factor on position errors [rad or m] before they enter a network."""
    vel_scale: float = 1.0
    """Factor on velocities before they enter a network."""
    effort_scale: float = 1.0
    """Factor from a network's output to an effort [N m or N]."""


def make_actuators(
    sim: Sim, groups: Mapping[str, Any], servos: Mapping[int, Servo] | None = None
) -> list["Actuator"]:
    """One `Actuator` for each group of the YAML. servos: by the motor's id, those that it takes
    the place of, from `take_servos`. Raises PhalanxError for an invalid group."""
    made: list[Actuator] = []
    for name, values in groups.items():
        where = f"{WHERE}.{name}"
        actuator = Actuator(sim, read(ActuatorSettings, values, where), where, servos or {})
        twice = {m for other in made for m in other.motors} & set(actuator.motors)
        if twice:
            motor = sim.model.actuator(min(twice)).name
            raise PhalanxError(f"{where}: the motor {motor!r} already belongs to another group")
        made.append(actuator)
    return made


class Actuator:
    """J motors of one actor, in the order of the model's actuators."""

    def __init__(
        self, sim: Sim, settings: ActuatorSettings, where: str, servos: Mapping[int, Servo]
    ) -> None:
        self.sim, self.settings = sim, settings
        model, s = sim.model, settings
        self.motors, self.joints = _motors(sim, s, where)
        joint_ids = [int(model.actuator_trnid[m, 0]) for m in self.motors]
        device, count = sim.device, len(self.motors)
        self._ctrl = torch.tensor(self.motors, device=device)
        self._q = torch.tensor(model.jnt_qposadr[joint_ids], dtype=torch.long, device=device)
        self._v = torch.tensor(model.jnt_dofadr[joint_ids], dtype=torch.long, device=device)
        per_control = model.actuator_gear[self.motors, 0] * model.actuator_gainprm[self.motors, 0]
        self._per_control = torch.tensor(per_control, dtype=torch.float32, device=device)
        most = _motor_efforts(model, self.motors)
        self.motor_effort = torch.tensor(most, dtype=torch.float32, device=device)
        """(J,) largest effort of the model's motors [N m or N]; infinite without a limit."""
        if s.effort is not None:
            weak = int(most.argmin())
            if s.effort > most[weak] * (1 + 1e-6):
                raise PhalanxError(
                    f"{where}.effort is {s.effort:g}, but the motor of joint"
                    f" {self.joints[weak]!r} gives at most {most[weak]:g}; lower it, or widen the"
                    " motor's range in the robot's file"
                )
            most = np.full(count, s.effort)

        def row(values: Any) -> Tensor:
            return torch.as_tensor(values, dtype=torch.float32, device=device).expand(count)

        def gain(values: Any) -> Tensor:
            return row(values).expand(sim.num_envs, count).clone()

        held = [servos.get(m) for m in self.motors]
        self._check_servos(held, where)
        self.of_servos = [m for m in self.motors if m in servos]
        """Motors in the place of servos, whose controls are targets as they are."""
        stiff, damp = (
            [getattr(x, k) if x else 0.0 for x in held] for k in ("stiffness", "damping")
        )
        self.stiffness = gain(stiff if s.stiffness is None else s.stiffness)
        self.damping = gain(damp if s.damping is None else s.damping)
        self.effort = gain(most)
        """(N, J) effort limit [N m or N]; like the gains, it may be randomised."""
        rows = torch.stack([self.stiffness[0], self.damping[0], self.effort[0]], 1).tolist()
        self.as_set = {joint: tuple(row) for joint, row in zip(self.joints, rows, strict=True)}
        """By joint: stiffness, damping and effort limit, not randomised."""
        qpos = initial_data(model).qpos
        start = torch.tensor(qpos[model.jnt_qposadr[joint_ids]], dtype=torch.float32)
        # (J,) [rad or m] what is added to a position command, which of a servo is the target itself
        self.default_pos = start.to(device) * row([x is None for x in held])
        self.bounds: tuple[Tensor, Tensor] | None = None
        """(J,) lowest and highest control of servos."""
        if any(held):
            ends = [(x.low, x.high) if x else (-float("inf"), float("inf")) for x in held]
            low, high = zip(*ends, strict=True)
            self.bounds = row(low), row(high)
        self.command = torch.zeros(sim.num_envs, count, device=device)
        """(N, J) command of this control step, in its unit."""
        if s.model == "dc_motor":
            if s.stall_effort is None or s.no_load_speed is None:
                raise PhalanxError(f"{where}: a dc_motor needs stall_effort and no_load_speed")
            self.no_load_speed = gain(s.no_load_speed)
        self.network: Network | None = None
        if s.model == "network":
            if s.command == "effort":
                raise PhalanxError(f"{where}: a network takes a position or velocity command")
            self.network = read_network(s, sim.num_envs * count, device, where)
        elif s.command != "effort":
            name = "stiffness" if s.command == "position" else "damping"
            for joint, value in zip(self.joints, getattr(self, name)[0].tolist(), strict=True):
                if not value:
                    raise PhalanxError(
                        f"{where}: a {s.command} command needs a {name} above 0 for the joint"
                        f" {joint!r}"
                    )
        self.reset(torch.ones(sim.num_envs, dtype=torch.bool, device=device))

    def _check_servos(self, held: Sequence[Servo | None], where: str) -> None:
        """Raise PhalanxError unless the settings fit the servos that the motors were."""
        for joint, servo in zip(self.joints, held, strict=True):
            if servo is None:
                continue
            of = f"the joint {joint!r} has a servo, whose control is a target {servo.command}"
            if self.settings.command != servo.command:
                raise PhalanxError(f"{where}.command is {self.settings.command!r}, but {of}")
            if self.settings.scale != 1:
                raise PhalanxError(f"{where}.scale is {self.settings.scale:g}, but {of}; remove it")

    def read_command(self) -> None:
        """Begin a control step: take the command from `sim.ctrl`."""
        command = self.sim.ctrl[:, self._ctrl] * self.settings.scale
        if self.bounds is not None:
            command = command.clamp(*self.bounds)
        if self.settings.command == "position":
            command = command + self.default_pos
        self.command.copy_(command)

    def write_effort(self) -> None:
        """Begin a physics step: write the effort into `sim.ctrl`."""
        effort = self.compute(self.sim.qpos[:, self._q], self.sim.qvel[:, self._v])
        self.sim.ctrl.index_copy_(1, self._ctrl, effort / self._per_control)

    def compute(self, pos: Tensor, vel: Tensor) -> Tensor:
        """Efforts (N, J) [N m or N] at these joint positions and velocities, (N, J) each."""
        s = self.settings
        if self.network is not None:
            error = self.command - (pos if s.command == "position" else vel)
            effort = self.network(error.reshape(-1), vel.reshape(-1)).view_as(pos)
        elif s.command == "effort":
            effort = self.command
        elif s.command == "position":
            effort = self.stiffness * (self.command - pos) - self.damping * vel
        else:
            effort = self.damping * (self.command - vel)
        effort = torch.maximum(torch.minimum(effort, self.effort), -self.effort)
        if s.model == "dc_motor":
            assert s.stall_effort is not None
            part = vel / self.no_load_speed
            forward = (s.stall_effort * (1 - part)).clamp(min=0)
            backward = (s.stall_effort * (1 + part)).clamp(min=0)
            effort = torch.maximum(torch.minimum(effort, forward), -backward)
        return effort

    def reset(self, mask: Tensor) -> None:
        """Clear the history in environments `mask` (N,) bool, and the control, which at first is a
        servo's target and no effort."""
        control = self.sim.ctrl[:, self._ctrl].masked_fill(mask[:, None], 0.0)
        self.sim.ctrl.index_copy_(1, self._ctrl, control)
        if self.network is not None:
            self.network.reset(mask.repeat_interleave(len(self.motors)))

    def gains(self) -> dict[str, Drive]:
        """The quantities that domain randomisation may change, by their names in
        `dof_properties`."""
        gains = {"effort": Drive(self.joints, self.effort, self.motor_effort)}
        if self.network is None:
            gains["stiffness"] = Drive(self.joints, self.stiffness)
            gains["damping"] = Drive(self.joints, self.damping)
        if self.settings.model == "dc_motor":
            gains["velocity"] = Drive(self.joints, self.no_load_speed)
        return gains

    def state_dict(self) -> dict[str, Tensor]:
        """The state that persists between control steps."""
        return {} if self.network is None else {k: v.clone() for k, v in self.network.state.items()}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Restore what `state_dict` returned."""
        for name, value in state.items():
            if self.network is not None and name in self.network.state:
                self.network.state[name].copy_(value)


def _motors(sim: Sim, s: ActuatorSettings, where: str) -> tuple[list[int], list[str]]:
    """Ids of the torque motors of a group, and the names of their joints."""
    actor, model = sim.actor(s.actor), sim.model
    for name in s.joints:
        if name not in actor.joint_names:
            raise PhalanxError(
                f"{where}.joints: no joint {name!r} in actor {actor.name!r}"
                f"{did_you_mean(name, actor.joint_names)}; it has: {', '.join(actor.joint_names)}"
            )
    motors, joints = [], []
    for m in range(model.nu):
        if model.actuator_trntype[m] != mujoco.mjtTrn.mjTRN_JOINT:
            continue
        owner, _, joint = model.jnt(model.actuator_trnid[m, 0]).name.partition("/")
        if owner != s.actor or (s.joints and joint not in s.joints):
            continue
        if model.actuator_biastype[m] != mujoco.mjtBias.mjBIAS_NONE:
            raise PhalanxError(
                f"{where}: the actuator of joint {joint!r} cannot be replaced by an actuator model:"
                " it must be a torque motor, or a servo with gear 1, kv instead of dampratio, no"
                " filter and no inheritrange"
            )
        motors.append(m)
        joints.append(joint)
    missing = [name for name in s.joints if name not in joints]
    if missing or not motors:
        which = f"joint {missing[0]!r}" if missing else f"actor {s.actor!r}"
        raise PhalanxError(f"{where}: {which} has no motor")
    return motors, joints


def _motor_efforts(model: Any, motors: list[int]) -> np.ndarray:
    """(J,) largest efforts [N m or N] of motors at their joints, from their control and force
    ranges and the joints' own; infinite without a limit."""
    gear, gain = np.abs(model.actuator_gear[motors, 0]), np.abs(model.actuator_gainprm[motors, 0])
    joints = model.actuator_trnid[motors, 0]

    def most(limited: np.ndarray, ranges: np.ndarray, unit: np.ndarray | float) -> np.ndarray:
        return np.where(limited, np.abs(ranges).max(1) * unit, np.inf)

    control = model.actuator_ctrllimited[motors], model.actuator_ctrlrange[motors], gear * gain
    force = model.actuator_forcelimited[motors], model.actuator_forcerange[motors], gear
    joint = model.jnt_actfrclimited[joints], model.jnt_actfrcrange[joints], 1.0
    return np.minimum(np.minimum(most(*control), most(*force)), most(*joint))
