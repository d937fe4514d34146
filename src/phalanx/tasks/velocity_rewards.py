"""The terms of the reward of `velocity.py`, by name; `velocity_settings.py` has their weights."""

from collections.abc import Callable
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from phalanx.tasks import gait_rewards as gait
from phalanx.tasks import rays
from phalanx.tasks.locomotion import Base

if TYPE_CHECKING:
    from phalanx.tasks.velocity import Velocity


def reward_terms(task: "Velocity", base: Base, pressed: Tensor) -> dict[str, Tensor]:
    """Each (N,), not weighted, by the names of `Weights`; of the `further_terms` those that have a
    weight. pressed: (N, C) bool, which of the bodies with contact sensors touch something."""
    config, robot, feet, command = task.config, task.robot, task.feet, task.commands.values
    low, high = robot.joint_limits.unbind(1)
    outside = (1 - config.soft_limits) / 2
    inside = (outside * (high - low)).nan_to_num(posinf=0.0)  # of joints without limits
    torque, moving = task.sim.actuator_force, task.commands.moving
    off = robot.joint_pos - task.default_pos
    width, swing = config.tracking_width, task.clock.swing(moving)
    terms = {
        "track_lin_vel": gait.tracking(command[:, :2], base.lin_vel_b[:, :2], width),
        "track_ang_vel": gait.tracking(command[:, 2:], base.ang_vel_b[:, 2:], width),
        "lin_vel_z": base.lin_vel_b[:, 2].square(),
        "ang_vel_xy": gait.squared(base.ang_vel_b[:, :2]),
        "upright": upright(task, base),
        "pose": gait.squared(off),
        "stand_still": off.abs().sum(1) * ~moving,
        "at_limit": gait.beyond(robot.joint_pos, low + inside, high - inside),
        "torque": gait.squared(torque),
        "power": gait.power(torque, robot.joint_vel),
        "action_rate": gait.squared(task.actions - task.last_actions),
        "slip": gait.slip(feet.speed, feet.contact),
        "contact": pressed[:, task.not_to_touch].sum(1),
    }
    if config.gait_clock:
        terms["in_step"] = gait.in_step(feet.contact, swing)
        rise = feet.rise(task.terrain, config.foot_reach) if task.terrain else 0.0
        terms["swing_height"] = gait.swing_height(feet.height, swing, config.foot_height + rise)
    more = further_terms(task, base)
    return terms | {k: term() for k, term in more.items() if getattr(config.rewards, k, 0.0)}


def upright(task: "Velocity", base: Base) -> Tensor:
    """(N,) squared sine of the base's tilt, on rough ground against the ground around it."""
    if not task.terrain:
        return gait.squared(base.gravity_b[:, :2])
    slope = rays.ground_slope(task.terrain, task.robot.root_pos, base.yaw, task.slope_points)
    return gait.tilt(base.gravity_b, slope)


def further_terms(task: "Velocity", base: Base) -> dict[str, Callable[[], Tensor]]:
    """Terms that have no weight at first, each computed only on demand, (N,)."""
    config, robot, feet = task.config, task.robot, task.feet

    return {
        "alive": lambda: torch.ones_like(base.height),
        "air_time": lambda: (
            gait.air_time(feet.air_time, feet.landed, config.swing_time) * task.commands.moving
        ),
        "foot_clearance": lambda: gait.foot_clearance(feet.height, feet.speed, config.foot_height),
        "landing": lambda: (feet.forces(robot.contact_force).norm(dim=-1) * feet.landed).sum(1),
        "base_height": lambda: (task.above_ground() - task.wanted_height).square(),
        "joint_vel": lambda: gait.squared(robot.joint_vel),
    }
