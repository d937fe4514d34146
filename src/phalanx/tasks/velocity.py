"""A robot with legs walks at a commanded velocity: `Go2Velocity`, ... at 50 Hz for 20 s.

A command is a velocity over the ground and a rate of turning, see `commands.py`. The reward of a
step is the sum of the terms in `reward_terms`, times their weights and the time of a step. Their
functions are in `gait_rewards.py`, their weights in `velocity_settings.py`; the log shows each mean
per second, as `reward/<term>`.

An episode ends when the base tilts by more than `fall_tilt`, or when a body of `falls_on` touches
anything; the log shows the share of each cause, as `ends/<cause>`. An action in [-1, 1] moves the
target of a joint's servo by up to `action_scale` from the pose `home` of the robot's file.

| observation           | unit       | frame                                                 |
|-----------------------|------------|-------------------------------------------------------|
| base velocity         | m/s        | base; only with `observe_lin_vel`                     |
| base angular velocity | rad/s      | base                                                  |
| projected gravity     | -          | base; (0, 0, -1) upright                              |
| joint positions       | rad        | joint, relative to the pose `home`                    |
| joint velocities      | rad/s      | joint                                                 |
| previous action       | -          |                                                       |
| command               | m/s, rad/s | velocity along the base's x and y, rate about z       |
| gait clock            | -          | sine and cosine of the stride's phase, 0 while still  |

Noise, latency, pushes and other randomisation are on by default, see `cfg/task/<Task>.yaml`.
"""

import math
from collections.abc import Sequence
from dataclasses import fields
from typing import ClassVar

import torch
from torch import Tensor

from phalanx.layout import ActionLayout, Term
from phalanx.sim import Scene
from phalanx.tasks import gait_rewards as gait
from phalanx.tasks import locomotion
from phalanx.tasks.commands import VelocityCommands
from phalanx.tasks.feet import TOUCHES, Feet
from phalanx.tasks.gait_clock import GaitClock
from phalanx.tasks.task import Task
from phalanx.tasks.term_log import TermLog
from phalanx.tasks.velocity_settings import VelocityConfig


class Velocity(Task):
    """Walk at a commanded velocity."""

    Config = VelocityConfig
    config: VelocityConfig
    num_obs = 0  # both follow from the robot's file
    num_actions = 0
    default_num_envs: ClassVar[dict[str, int]] = {"cpu": 1024, "cuda": 4096}

    def create_scene(self) -> Scene:
        config = self.config
        scene = Scene(config.dt / config.substeps, iterations=10, ls_iterations=20)
        scene.add_ground()
        robot = scene.add_actor("robot", config.asset, keyframe="home", self_collisions=False)
        scene.add_contact_force_sensors(
            "robot", dict.fromkeys((*config.feet, *config.falls_on, *config.not_to_touch))
        )
        self.num_actions = len(robot.spec.actuators)
        self.num_obs = 11 + 3 * config.observe_lin_vel + 3 * self.num_actions
        return scene

    def init_buffers(self) -> None:
        config, self.robot = self.config, self.sim.actor("robot")
        start = torch.tensor(self.sim.model.key("initial").qpos, dtype=torch.float32)
        self.default_pos = start[7:].to(self.device)
        self.commands = VelocityCommands(self, config.commands)
        self.feet = Feet(self, "robot", config.feet, config.foot_radius)
        self.clock = GaitClock(self, config.gait_hz, config.gait_offsets, config.stance)
        place = self.robot.contact_body_names.index
        # tensors, since a CUDA graph cannot copy a list from the host
        self.falls_on = torch.tensor(
            [place(b) for b in config.falls_on], dtype=torch.long, device=self.device
        )
        self.not_to_touch = torch.tensor(
            [place(b) for b in config.not_to_touch], dtype=torch.long, device=self.device
        )
        no_actions = torch.zeros(self.num_envs, self.num_actions, device=self.device)
        self.actions = self.state("actions", no_actions)
        self.last_actions = self.state("last_actions", no_actions.clone())
        self.weights = {f.name: getattr(config.rewards, f.name) for f in fields(config.rewards)}
        self.log = TermLog(self, list(self.weights), ["tilt", "contact", "time"])

    def pre_physics_step(self, actions: Tensor) -> None:
        self.last_actions.copy_(self.actions)
        self.actions.copy_(self.previous_actions)
        self.sim.ctrl.copy_(self.default_pos + self.config.action_scale * actions)

    def compute_observations(self) -> Tensor:
        robot = self.robot
        base = self.base = locomotion.observe_torso(robot)
        parts = [base.lin_vel_b] if self.config.observe_lin_vel else []
        parts += [base.ang_vel_b, base.gravity_b, robot.joint_pos - self.default_pos]
        parts += [robot.joint_vel, self.previous_actions, self.commands.values]
        parts += [self.clock.observe(self.commands.moving)]
        return torch.cat(parts, dim=1)

    def compute_reward(self) -> tuple[Tensor, Tensor]:
        base, force = self.base, self.robot.contact_force  # in the state that was just observed
        self.feet.update(force)
        pressed = force.norm(dim=-1) > TOUCHES
        ends = {
            "tilt": base.up < math.cos(math.radians(self.config.fall_tilt)),
            "contact": pressed[:, self.falls_on].any(1),
        }
        fallen = ends["tilt"] | ends["contact"]
        terms = self.reward_terms(base, pressed) | {"fall": fallen.float()}
        terms = {name: self.weights[name] * terms[name] for name in self.weights}
        ends["time"] = ~fallen & (self.progress_buf >= self.config.episode_length)
        self.log.add(terms, ends)
        self.clock.step(self.commands.moving)
        self.commands.step(base.yaw)  # observed from the next step on
        return self.config.dt * torch.stack(list(terms.values())).sum(0), fallen

    def reward_terms(self, base: locomotion.Torso, pressed: Tensor) -> dict[str, Tensor]:
        """Each (N,), not weighted, by the names of `Weights`. pressed: (N, C) bool, which of the
        bodies with contact sensors touch something."""
        config, robot, feet, command = self.config, self.robot, self.feet, self.commands.values
        low, high = robot.joint_limits.unbind(1)
        inside = 0.05 * (high - low)
        torque, moving = self.sim.actuator_force, self.commands.moving
        off = robot.joint_pos - self.default_pos
        width, swing = config.tracking_width, self.clock.swing(moving)
        return {
            "track_lin_vel": gait.tracking(command[:, :2], base.lin_vel_b[:, :2], width),
            "track_ang_vel": gait.tracking(command[:, 2:], base.ang_vel_b[:, 2:], width),
            "lin_vel_z": base.lin_vel_b[:, 2].square(),
            "ang_vel_xy": gait.squared(base.ang_vel_b[:, :2]),
            "upright": gait.squared(base.gravity_b[:, :2]),
            "pose": gait.squared(off),
            "stand_still": off.abs().sum(1) * ~moving,
            "at_limit": gait.beyond(robot.joint_pos, low + inside, high - inside),
            "torque": gait.squared(torque),
            "power": gait.power(torque, robot.joint_vel),
            "action_rate": gait.squared(self.actions - self.last_actions),
            "in_step": gait.in_step(feet.contact, swing),
            "swing_height": gait.swing_height(feet.height, swing, config.foot_height),
            "slip": gait.slip(feet.speed, feet.contact),
            "contact": pressed[:, self.not_to_touch].sum(1),
        }

    def reset_envs(self, mask: Tensor) -> None:
        """In environments `mask` (N,) bool, start near the pose `home`, in any direction, slowly
        moving."""
        robot, config, n = self.robot, self.config, self.num_envs
        noise = config.reset_joint_pos * (2 * torch.rand_like(robot.joint_pos) - 1)
        lower, upper = robot.joint_limits.unbind(1)
        new_pos = (self.default_pos + noise).clamp(lower, upper)
        half = math.pi * (torch.rand(n, device=self.device) - 0.5)
        none = torch.zeros_like(half)
        new_quat = torch.stack([half.cos(), none, none, half.sin()], 1)
        new_vel = config.reset_velocity * (2 * torch.rand(n, 6, device=self.device) - 1)
        at = mask[:, None]
        robot.joint_pos.copy_(torch.where(at, new_pos, robot.joint_pos))
        robot.root_quat.copy_(torch.where(at, new_quat, robot.root_quat))
        self.sim.qvel[:, :6].copy_(torch.where(at, new_vel, self.sim.qvel[:, :6]))
        self.actions.masked_fill_(at, 0.0)
        self.last_actions.masked_fill_(at, 0.0)
        self.commands.begin(mask)
        self.clock.begin(mask)
        self.feet.begin(mask)

    def end_schedules(self) -> None:
        """See `Task`; commands come from their whole ranges."""
        super().end_schedules()
        self.commands.end_schedules()

    def give_command(self, values: Sequence[float]) -> None:
        """Velocity along the base's x and y [m/s] and rate of turning [rad/s], see `Task`."""
        self.commands.give(values)

    def scalars(self) -> dict[str, float]:
        """Means of the terms of the reward and shares of the causes of ends since the last call."""
        return self.log.read()

    def observation_layout(self) -> tuple[Term, ...]:
        joints = self.robot.joint_names
        return (
            *((Term("base_lin_vel"),) if self.config.observe_lin_vel else ()),
            Term("base_ang_vel"),
            Term("projected_gravity"),
            Term("joint_pos", elements=joints, offset=self.default_pos),
            Term("joint_vel", elements=joints),
            Term("previous_action", size=self.num_actions),
            self.commands.term(),
            Term("gait_clock", elements=("sin", "cos")),
        )

    def action_layout(self) -> ActionLayout:
        joints, scale = self.robot.joint_names, self.config.action_scale
        return ActionLayout("position", joints, scale=scale, offset=self.default_pos)
