"""Hopper: hop forwards on one leg.

    reward = speed [m/s], up to 3  +  1 for not having fallen  -  0.05 * sum of squared actions

An episode ends when the torso is lower than 0.75 m or leans by more than 0.8 rad, or after 10 s.
The action in [-1, 1] is the torque of hip, knee and ankle, +-90, 90 and 40 N m.
"""

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from phalanx.sim import Scene
from phalanx.tasks import Task, TaskConfig


@dataclass(frozen=True)
class HopperConfig(TaskConfig):
    """Settings of `Hopper`."""

    dt: float = 1 / 50
    substeps: int = 4
    episode_length: int = 500
    lowest: float = 0.75
    """Height of the torso below which it has fallen [m]."""
    asset: str = str(Path(__file__).parent / "assets" / "hopper.xml")
    """MJCF with the joints x, z and pitch, then hip, knee and ankle."""


class Hopper(Task):
    """Hop forwards on one leg."""

    Config = HopperConfig
    config: HopperConfig
    num_obs = 11
    num_actions = 3

    def create_scene(self) -> Scene:
        scene = Scene(timestep=self.config.dt / self.config.substeps)
        scene.add_ground()
        scene.add_actor("hopper", self.config.asset)
        return scene

    def init_buffers(self) -> None:
        self.hopper = self.sim.actor("hopper")

    def pre_physics_step(self, actions: Tensor) -> None:
        self.sim.ctrl.copy_(actions)

    def compute_observations(self) -> Tensor:
        # Everything but the distance: joint 0 is x.
        return torch.cat([self.hopper.joint_pos[:, 1:], 0.2 * self.hopper.joint_vel], dim=1)

    def compute_reward(self) -> tuple[Tensor, Tensor]:
        height = 1.15 + self.hopper.joint_pos[:, 1]  # z is measured from the pose in the file
        lean, speed = self.hopper.joint_pos[:, 2], self.hopper.joint_vel[:, 0]
        effort = (self.sim.ctrl**2).sum(1)
        reward = speed.clamp(max=3.0) + 1 - 0.05 * effort
        return reward, (height < self.config.lowest) | (lean.abs() > 0.8)

    def reset_envs(self, mask: Tensor) -> None:
        position = self.hopper.joint_pos
        noise = 0.05 * torch.rand_like(position) - 0.025
        position.copy_(torch.where(mask[:, None], noise, position))
