"""Go2Recovery: Unitree's Go2 stands up, from however it fell. 6 s at 50 Hz, without commands.

It starts as it comes to lie: dropped from half a metre, turned any way, its joints anywhere between
their limits; during the first second it cannot act. Per second, with h the base's height over that
of standing and up the cosine of its tilt:

    reward = 1 + up + max(up, 0)^2 (2 min(h, 1) + 2 exp(-|q - home|^2 / 2)) - costs

The costs grow from a tenth to all over 30000 steps. At once they are as large as what being upright
is worth, since a first policy's noise moves all joints; robots then learn to lie still, and take
several times as long to get off their backs.

The log shows `ends/standing`, the share of episodes that end upright, at 80 % of the height or
more. Nothing ends an episode before its time. An action of 1 moves the target of a joint's servo by
`action_scale` from the pose `home` of the robot's file. Actions have no bounds: where they did,
robots on their backs held most of their joints at them, where noise changes nothing, and stayed.

| observation           | unit  | frame                                 |
|-----------------------|-------|---------------------------------------|
| base angular velocity | rad/s | base                                  |
| projected gravity     | -     | base; (0, 0, -1) upright              |
| joint positions       | rad   | joint, relative to the pose `home`    |
| joint velocities      | rad/s | joint                                 |
| previous action       | -     |                                       |
"""

from dataclasses import dataclass, field

import torch
from torch import Tensor

from phalanx.compute.rows import write_rows
from phalanx.tasks import gait_rewards as gait
from phalanx.tasks.go2_skill import Go2Skill, Go2SkillConfig
from phalanx.tasks.weighted_terms import CostSettings


@dataclass(frozen=True)
class Weights:
    """Weights of the terms of the reward, per second."""

    upright: float = 1.0
    """1 + the cosine of the base's tilt."""
    height: float = 2.0
    """The base's height over that of standing, at most 1, times the square of a positive cosine."""
    pose: float = 2.0
    """exp(-|q - home|^2 / 2) of the joints [rad], times the same."""
    torque: float = -5e-5
    """Squared torques [N^2 m^2]."""
    joint_vel: float = -1e-3
    """Squared velocities of the joints [rad^2/s^2]."""
    action_rate: float = -0.02
    """Squared change of the actions."""


@dataclass(frozen=True)
class Go2RecoveryConfig(Go2SkillConfig):
    """Settings of `Go2Recovery`."""

    episode_length: int = 300
    clip_actions: float = 100.0
    rewards: Weights = field(default_factory=Weights)
    costs: CostSettings = field(default_factory=lambda: CostSettings(0.1, 30000))
    action_scale: float = 1.2
    falling_s: float = 1.0
    """Time during which the robot falls and cannot act [s]."""
    drop: float = 0.5
    """Height from which it is dropped [m]."""


class Go2Recovery(Go2Skill):
    """Unitree's Go2 stands up after a fall."""

    Config = Go2RecoveryConfig
    config: Go2RecoveryConfig
    num_obs = 42

    def pre_physics_step(self, actions: Tensor) -> None:
        targets, falling = self.targets(actions), self.limp()[:, None]
        self.sim.ctrl.copy_(torch.where(falling, self.robot.joint_pos, targets))

    def limp(self) -> Tensor:
        return self.progress_buf * self.config.dt < self.config.falling_s

    def compute_reward(self) -> tuple[Tensor, Tensor]:
        base, robot = self.base, self.robot  # in the state that was just observed
        height = base.height / self.standing_height
        off = robot.joint_pos - self.default_pos
        stands = (base.up > 0.9) & (height > 0.8)
        upright = base.up.clamp(min=0).square()
        terms = {
            "upright": 1 + base.up,
            "height": height.clamp(0, 1) * upright,
            "pose": torch.exp(-gait.squared(off) / 2) * upright,
            "torque": gait.squared(self.sim.actuator_force),
            "joint_vel": gait.squared(robot.joint_vel),
            "action_rate": gait.squared(self.change),
        }
        weighted = self.reward(terms)
        over = self.progress_buf >= self.config.episode_length
        self.log_terms(weighted, {"standing": over & stands, "lying": over & ~stands})
        return self.reward.total(weighted), torch.zeros_like(over)

    def reset_envs(self, mask: Tensor) -> None:
        """In environments `mask` (N,) bool, drop the robot, turned any way."""
        robot, n = self.robot, self.num_envs
        quat = torch.randn(n, 4, device=self.device)
        low, high = robot.joint_limits.unbind(1)
        write_rows(robot.root_quat, mask, quat / quat.norm(dim=1, keepdim=True))
        write_rows(robot.root_pos[:, 2], mask, self.config.drop)
        write_rows(robot.joint_pos, mask, low + (high - low) * torch.rand_like(robot.joint_pos))
        write_rows(self.last_actions, mask, 0.0)
        write_rows(self.change, mask, 0.0)
