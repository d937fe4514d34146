"""Shared by robots that walk or run: the root body's state, reward terms, resets.

Pure functions on tensors, with N environments first; tasks are built from them.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from phalanx.compute.rows import write_rows
from phalanx.errors import PhalanxError, did_you_mean
from phalanx.layout import ActionLayout, Term
from phalanx.sim import Actor, Scene, Sim
from phalanx.tasks.actuators import Actuator

TARGET_DISTANCE = 1000.0
"""Distance of the target from the start of an episode, along x [m]."""


@dataclass(frozen=True)
class Base:
    """State of the root body."""

    height: Tensor
    """(N,) above z = 0 [m]; on ground that is not flat, see `Terrain.height`."""
    lin_vel_b: Tensor
    """(N, 3) [m/s], its own frame."""
    ang_vel_b: Tensor
    """(N, 3) [rad/s], its own frame."""
    gravity_b: Tensor
    """(N, 3) direction of gravity, of length 1, its own frame: (0, 0, -1) upright."""
    yaw: Tensor
    """(N,) about z, in [-pi, pi] [rad]."""
    up: Tensor
    """(N,) cosine between its z axis and the vertical: 1 upright, -1 upside down."""


@dataclass(frozen=True)
class Torso(Base):
    """The same, and relative to the target; angles in [-pi, pi] [rad]."""

    roll: Tensor
    """(N,) about x; yaw, pitch and roll are the angles of a rotation z, y', x''."""
    angle_to_target: Tensor
    """(N,) horizontal direction of the target, relative to the yaw."""
    heading: Tensor
    """(N,) cosine between the torso's x axis and the horizontal direction of the target."""
    distance: Tensor
    """(N,) horizontal distance of the target [m]."""


def observe_base(robot: Actor) -> Base:
    """The root body of a robot with a free base."""
    return Base(**_base(robot, rotation_matrix(robot.root_quat)))


def observe_torso(robot: Actor) -> Torso:
    """The torso of a robot with a free base and the target at (`TARGET_DISTANCE`, 0)."""
    pos, rotation = robot.root_pos, rotation_matrix(robot.root_quat)
    base = _base(robot, rotation)
    to_x, to_y = TARGET_DISTANCE - pos[:, 0], -pos[:, 1]
    distance = torch.sqrt(to_x**2 + to_y**2)
    return Torso(
        **base,
        roll=torch.atan2(rotation[:, 2, 1], rotation[:, 2, 2]),
        angle_to_target=wrap_angle(torch.atan2(to_y, to_x) - base["yaw"]),
        heading=(rotation[:, 0, 0] * to_x + rotation[:, 1, 0] * to_y) / distance,
        distance=distance,
    )


def _base(robot: Actor, rotation: Tensor) -> dict[str, Tensor]:
    return {
        "height": robot.root_pos[:, 2],
        "lin_vel_b": (robot.root_lin_vel_w[:, None] @ rotation)[:, 0],  # v^T R = (R^T v)^T
        "ang_vel_b": robot.root_ang_vel_b,
        "gravity_b": -rotation[:, 2],
        "yaw": torch.atan2(rotation[:, 1, 0], rotation[:, 0, 0]),
        "up": rotation[:, 2, 2],
    }


def rotation_matrix(quat: Tensor) -> Tensor:
    """Rotation matrices (N, 3, 3), body to world, of unit quaternions (w, x, y, z), (N, 4)."""
    w, x, y, z = (quat * math.sqrt(2)).unbind(1)  # doubles each product below
    xx, yy, zz = x * x, y * y, z * z
    xy, xz, yz = x * y, x * z, y * z
    wx, wy, wz = w * x, w * y, w * z
    rows = [
        *(1 - (yy + zz), xy - wz, xz + wy),
        *(xy + wz, 1 - (xx + zz), yz - wx),
        *(xz - wy, yz + wx, 1 - (xx + yy)),
    ]
    return torch.stack(rows, 1).view(-1, 3, 3)


def wrap_angle(angle: Tensor) -> Tensor:
    """Angles (...,) wrapped to [-pi, pi) [rad]."""
    return torch.remainder(angle + math.pi, 2 * math.pi) - math.pi


def scaled_to_limits(pos: Tensor, limits: Tensor) -> Tensor:
    """Joint positions (N, J) scaled to -1 at the lower limit and 1 at the upper; limits (J, 2)."""
    lower, upper = limits.unbind(1)
    return (2 * pos - upper - lower) / (upper - lower)


def torso_and_joint_terms(
    joints: Sequence[str], limits: Tensor, ang_vel_scale: float, joint_vel_scale: float
) -> tuple[Term, ...]:
    """The first terms of Ant's and Humanoid's observations, for their layouts; limits (J, 2)."""
    lower, upper = limits.double().unbind(1)
    return (
        Term("base_height"),
        Term("base_lin_vel"),
        Term("base_ang_vel", scale=ang_vel_scale),
        Term("yaw"),
        Term("roll"),
        Term("angle_to_target", unit="rad"),
        Term("up", "projected_gravity", ("z",), scale=-1),
        Term("heading", unit="1"),
        Term("joint_pos", "", joints, scale=2 / (upper - lower), offset=(upper + lower) / 2),
        Term("joint_vel", "", joints, scale=joint_vel_scale),
    )


def foot_terms(sim: Sim, scale: float) -> tuple[Term, ...]:
    """Force and torque sensors at the feet as a term of a layout."""
    names = [sim.model.sensor(i).name.split("/", 1)[-1] for i in range(sim.model.nsensor)]
    elements = [f"{name}_{axis}" for name in names for axis in "xyz"]
    return (Term("foot_wrenches", elements=elements, unit="N or N m", scale=scale),)


def motor_layout(robot: Actor) -> ActionLayout:
    """The layout of actions in [-1, 1] that are the controls of motors, one per joint, in order."""
    torque = robot.sim.model.actuator_gear[:, 0]
    return ActionLayout("effort", robot.joint_names, scale=torque, low=-torque, high=torque)


def check_robot(
    robot: Actor, file: str, actuators: Sequence[Actuator] = (), motors: bool = False
) -> None:
    """Raise PhalanxError unless a robot has a free base, and the scene's actuators are servos that
    bring its joints to angles, one each, in their order. file: the robot's, for the message;
    actuators: the task's, which have taken the place of servos; motors: accepted as well."""
    model = robot.sim.model
    if not robot.is_free:
        raise PhalanxError(
            f"{file}: the robot is fixed to the world; give its first body a <freejoint/>"
        )
    driven = [model.joint(int(j)).name.split("/", 1)[-1] for j in model.actuator_trnid[:, 0]]
    if driven != list(robot.joint_names):
        without = [j for j in robot.joint_names if j not in driven]
        what = f"none on {without[0]!r}" if without else f"the first on {driven[0]!r}"
        raise PhalanxError(
            f"{file} must have one servo on each joint, in the joints' order; it has {what}"
        )
    gear, gain = model.actuator_gear[:, 0], model.actuator_gainprm[:, 0]
    stiffness = -model.actuator_biasprm[:, 1] * gear
    taken = [m for a in actuators for m in a.of_servos]
    for i in [] if motors else sorted(set(np.flatnonzero(stiffness == 0).tolist()) - set(taken)):
        name = model.actuator(i).name.split("/", 1)[-1]
        raise PhalanxError(
            f"{file}: actuator {name!r} is no position servo, and actions are angles; make it one,"
            f' as in <position joint="{driven[i]}" kp="40" kv="1"/>'
        )
    off = (stiffness != 0) & (np.abs(gain - stiffness) > 1e-6 * np.abs(stiffness))
    for i in np.flatnonzero(off).tolist():
        name = model.actuator(i).name.split("/", 1)[-1]
        raise PhalanxError(
            f"{file}: servo {name!r} does not bring its joint to the angle that it is told: its"
            f" gain is {gain[i]:g}, its stiffness times gear {stiffness[i]:g}; make them equal,"
            " best with a gear of 1"
        )


def effort_scale(robot: Actor, file: str, part: float) -> Tensor:
    """(J,) angles at which servos exert `part` of their limits of force [rad]. Raises PhalanxError
    for a servo without a limit."""
    model = robot.sim.model
    limit, kp = model.actuator_forcerange[:, 1], model.actuator_gainprm[:, 0]
    for i in np.flatnonzero((limit <= 0) | (model.actuator_forcelimited == 0)).tolist():
        name = model.actuator(i).name.split("/", 1)[-1]
        raise PhalanxError(
            f"{file}: servo {name!r} has no forcerange, of which actions are a part; give it one,"
            ' as in forcerange="-60 60"'
        )
    return torch.tensor(part * limit / kp, dtype=torch.float32, device=robot.sim.device)


def check_bodies(scene: Scene, actor: str, **settings: Sequence[str]) -> None:
    """Raise PhalanxError unless an actor has the bodies that a task names in its settings:
    `check_bodies(scene, "robot", feet=config.feet)`."""
    start, file = f"{actor}/", scene.actors[actor].path
    own = [b.name.removeprefix(start) for b in scene.spec.bodies if b.name.startswith(start)]
    for key, names in settings.items():
        for name in names:
            if name not in own:
                raise PhalanxError(
                    f"task.env.{key}: no body {name!r} in {file}{did_you_mean(name, own)}; set it"
                    f" to bodies of that file: {', '.join(own)}"
                )


def facing(heading: Tensor) -> Tensor:
    """(N,) 1 within 37 degrees of the target (cosine 0.8), falling linearly to -1.25 behind."""
    return (heading / 0.8).clamp(max=1.0)


def upright(up: Tensor) -> Tensor:
    """(N,) 1 where the torso tilts less than 21 degrees (cosine 0.93), else 0."""
    return (up > 0.93).float()


def reset_joints_uniform(robot: Actor, mask: Tensor, pos: float, vel: float) -> None:
    """Draw new joint states in environments `mask` (N,) bool: positions uniform within `pos` [rad]
    of zero, or of the limit nearest to it, inside their limits; velocities uniform within `vel`
    [rad/s]."""
    lower, upper = robot.joint_limits.unbind(1)
    joint_pos, joint_vel = robot.joint_pos, robot.joint_vel
    middle = torch.zeros_like(lower).clamp(lower, upper)
    new_pos = (middle + pos * (2 * torch.rand_like(joint_pos) - 1)).clamp(lower, upper)
    new_vel = vel * (2 * torch.rand_like(joint_vel) - 1)
    write_rows(joint_pos, mask, new_pos)
    write_rows(joint_vel, mask, new_vel)


def reset_near(
    robot: Actor,
    mask: Tensor,
    home: Tensor,
    noise: float,
    speed: float,
    origins: Tensor | None = None,
) -> None:
    """In environments `mask` (N,) bool, start near the joint positions `home` (J,) [rad], each
    within `noise` [rad] and its limits, facing any direction, the base moving at up to `speed`
    along and about each axis [m/s or rad/s]. origins: of the bases, (N, 3) [m]; None for that of
    the model."""
    n, device = len(mask), mask.device
    lower, upper = robot.joint_limits.unbind(1)
    off = noise * (2 * torch.rand_like(robot.joint_pos) - 1)
    half = math.pi * (torch.rand(n, device=device) - 0.5)
    none = torch.zeros_like(half)
    vel = speed * (2 * torch.rand(n, 6, device=device) - 1)
    write_rows(robot.joint_pos, mask, (home + off).clamp(lower, upper))
    write_rows(robot.root_quat, mask, torch.stack([half.cos(), none, none, half.sin()], 1))
    write_rows(robot.root_lin_vel_w, mask, vel[:, :3])
    write_rows(robot.root_ang_vel_b, mask, vel[:, 3:])
    if origins is not None:
        write_rows(robot.root_pos, mask, origins)
