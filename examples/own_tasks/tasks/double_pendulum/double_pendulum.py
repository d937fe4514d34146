"""DoublePendulum: swing two links up from a cart and hold them there.

    reward = height of the two links, 0 hanging to 1 upright, squared
             - 0.05 * (cart position)^2  - 0.002 * sum of (joint velocity)^2, while they are upright

An episode lasts 8 s. The action in [-1, 1] is a force of +-40 N on the cart.
"""

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from phalanx.sim import Scene
from phalanx.tasks import Task, TaskConfig


@dataclass(frozen=True)
class DoublePendulumConfig(TaskConfig):
    """Settings of `DoublePendulum`."""

    dt: float = 1 / 50
    substeps: int = 4
    episode_length: int = 400
    asset: str = str(Path(__file__).parent / "assets" / "double_pendulum.xml")
    """MJCF with the joints slide, shoulder and elbow."""


class DoublePendulum(Task):
    """Swing two links up from a cart and hold them there."""

    Config = DoublePendulumConfig
    config: DoublePendulumConfig
    num_obs = 8
    num_actions = 1

    def create_scene(self) -> Scene:
        scene = Scene(timestep=self.config.dt / self.config.substeps)
        scene.add_ground()
        scene.add_actor("pendulum", self.config.asset)
        return scene

    def init_buffers(self) -> None:
        self.pendulum = self.sim.actor("pendulum")

    def pre_physics_step(self, actions: Tensor) -> None:
        self.sim.ctrl.copy_(actions)

    def compute_observations(self) -> Tensor:
        position, velocity = self.pendulum.joint_pos, self.pendulum.joint_vel
        angles = position[:, 1:]
        parts = [position[:, :1], angles.sin(), angles.cos(), 0.2 * velocity]
        return torch.cat(parts, dim=1)  # (N, 8)

    def compute_reward(self) -> tuple[Tensor, Tensor]:
        position, velocity = self.pendulum.joint_pos, self.pendulum.joint_vel
        upper = position[:, 1]
        lower = upper + position[:, 2]  # the elbow's angle is relative to the upper link
        height = 0.5 - 0.25 * (upper.cos() + lower.cos())  # 0 hanging, 1 upright
        restless = (velocity**2).sum(1) * height
        reward = height**2 - 0.05 * position[:, 0] ** 2 - 0.002 * restless
        return reward, torch.zeros_like(self.terminated)

    def reset_envs(self, mask: Tensor) -> None:
        position = self.pendulum.joint_pos
        hanging = 0.2 * torch.rand_like(position) - 0.1
        position.copy_(torch.where(mask[:, None], hanging, position))
