"""Go2Backflip: Unitree's Go2 crouches, jumps, turns over backwards and lands on its feet, in 2 s.

The stages follow a clock: crouch until 0.5 s, push off until 0.75 s, turn until 1 s, land and stand
from 1.4 s on. The reward's terms are those of stage-wise shaping (arXiv:2409.15755):

    turn          rate of turning backwards, up to 7.2 rad/s, from 0.5 to 1 s
    jump          velocity upwards, up to 3 m/s, from 0.5 to 0.75 s
    orientation   squared distance of gravity from where a steady turn from 0.5 to 1 s has it
    height        squared distance from standing, before 0.4 s and after 1.4 s
    feet_up       height of the feet before 0.5 s
    pose          squared distance of the joints from the pose `home`, after 1.4 s
    straight      squared sideways tilt; yaw  |rate about z|; action_rate, symmetry of the legs

An action in [-1, 1] moves the target of a joint's servo by up to `action_scale` from `home`, the
pose of the robot's file. No episode ends early. The log shows `ends/landed`, the share that
turned over once and ends upright at 80 % of the height or more.

| observation           | unit  | frame                                              |
|-----------------------|-------|----------------------------------------------------|
| base angular velocity | rad/s | base                                               |
| projected gravity     | -     | base; (0, 0, -1) upright                           |
| joint positions       | rad   | joint, relative to the pose `home`                 |
| joint velocities      | rad/s | joint                                              |
| previous action       | -     |                                                    |
| clock                 | -     | sine and cosine of pi t / 2 s and of 2 pi t / 2 s  |
"""

import math
from dataclasses import dataclass, field

import torch
from torch import Tensor

from phalanx.layout import Term
from phalanx.sim import Scene
from phalanx.tasks import gait_rewards as gait
from phalanx.tasks import locomotion
from phalanx.tasks.feet import Feet, check_feet
from phalanx.tasks.go2_skill import Go2Skill, Go2SkillConfig
from phalanx.tasks.mirror import joint_mirror

DURATION = 2.0
"""Of an episode [s]."""


@dataclass(frozen=True)
class Weights:
    """Weights of the terms of the reward, per second."""

    turn: float = 5.0
    jump: float = 20.0
    orientation: float = -1.0
    height: float = -10.0
    feet_up: float = -30.0
    pose: float = -10.0
    straight: float = -10.0
    yaw: float = -1.0
    symmetry: float = -0.1
    action_rate: float = -0.001


@dataclass(frozen=True)
class Go2BackflipConfig(Go2SkillConfig):
    """Settings of `Go2Backflip`."""

    episode_length: int = 100
    rewards: Weights = field(default_factory=Weights)
    feet: tuple[str, ...] = ("FL_foot", "FR_foot", "RL_foot", "RR_foot")
    """Bodies that are feet."""
    foot_radius: float = 0.022
    """Radius of a foot [m]."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_feet(self.feet)


class Go2Backflip(Go2Skill):
    """Unitree's Go2 does a backflip."""

    Config = Go2BackflipConfig
    config: Go2BackflipConfig
    num_obs = 46

    def create_scene(self) -> Scene:
        scene = super().create_scene()
        self.num_obs += 4
        locomotion.check_bodies(scene, "robot", feet=self.config.feet)
        scene.add_contact_force_sensors("robot", self.config.feet)
        return scene

    def init_buffers(self) -> None:
        super().init_buffers()
        self.feet = Feet(self, "robot", self.config.feet, self.config.foot_radius)
        self.mirror = joint_mirror(self.robot)
        self.turned = self.state("turned", torch.zeros(self.num_envs, device=self.device))
        """(N,) how far the base has turned backwards [rad]."""

    def pre_physics_step(self, actions: Tensor) -> None:
        self.sim.ctrl.copy_(self.targets(actions))

    def compute_observations(self) -> Tensor:
        time = math.pi / DURATION * self.config.dt * self.progress_buf[:, None]
        clock = [time.sin(), time.cos(), (2 * time).sin(), (2 * time).cos()]
        return torch.cat([*self.observed(), *clock], 1)

    def compute_reward(self) -> tuple[Tensor, Tensor]:
        base, actions = self.base, self.previous_actions
        self.feet.update(self.robot.contact_force)
        time = self.config.dt * self.progress_buf
        backwards = -base.ang_vel_b[:, 1]
        self.turned += self.config.dt * backwards
        # gravity of a base that has turned backwards, about -y, by this angle
        angle = 4 * math.pi * (time - 0.5).clamp(0, 0.5)
        wanted = torch.stack([-angle.sin(), torch.zeros_like(angle), -angle.cos()], 1)
        off = base.height - self.standing_height
        terms = {
            "turn": backwards.clamp(-7.2, 7.2) * ((time > 0.5) & (time < 1.0)),
            "jump": self.robot.root_lin_vel_w[:, 2].clamp(max=3) * ((time > 0.5) & (time < 0.75)),
            "orientation": gait.squared(base.gravity_b - wanted),
            "height": off.square() * ((time < 0.4) | (time > 1.4)),
            "feet_up": self.feet.height.clamp(min=0).sum(1) * (time < 0.5),
            "pose": gait.squared(self.robot.joint_pos - self.default_pos) * (time > 1.4),
            "straight": base.gravity_b[:, 1].square(),
            "yaw": base.ang_vel_b[:, 2].abs(),
            "symmetry": gait.squared(actions - self.mirror(actions)),
            "action_rate": gait.squared(self.change),
        }
        over = self.progress_buf >= self.config.episode_length
        landed = (self.turned - 2 * math.pi).abs() < 0.5
        landed &= (base.up > 0.9) & (base.height > 0.8 * self.standing_height)
        weighted = self.reward(terms)
        self.log_terms(weighted, {"landed": over & landed, "missed": over & ~landed})
        return self.reward.total(weighted), torch.zeros_like(over)

    def reset_envs(self, mask: Tensor) -> None:
        """In environments `mask` (N,) bool, stand near the pose `home`, facing anywhere."""
        locomotion.reset_near(self.robot, mask, self.default_pos, 0.05, 0.05)
        for values in (self.last_actions, self.change):
            values.masked_fill_(mask[:, None], 0.0)
        self.turned.masked_fill_(mask, 0.0)
        self.feet.begin(mask)

    def observation_layout(self) -> tuple[Term, ...]:
        clock = Term("clock", elements=("sin", "cos", "sin_twice", "cos_twice"))
        return (*super().observation_layout(), clock)
