"""Cartpole: balance a pole on a cart that a force pushes along a rail.

    reward = 1 - angle^2 - 0.01 |cart velocity| - 0.005 |pole velocity|
             -2 instead, if the cart is out of range or the pole below the horizontal

An episode ends in those two cases, or after 500 steps. The rail is 8 m long, the pole 1 m; the
action in [-1, 1] is scaled to a force of +-400 N, at 60 Hz. `discrete_actions=n` offers n evenly
spaced forces instead. Constants and reward are those of IsaacGymEnvs' Cartpole, which
minimal-isaac-gym also uses.

| observation   | unit  |
|---------------|-------|
| cart position | m     |
| cart velocity | m/s   |
| pole angle    | rad   |
| pole velocity | rad/s |
"""

import math
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from phalanx.compute.rows import write_rows
from phalanx.config import ranged
from phalanx.errors import PhalanxError
from phalanx.layout import ActionLayout, Term
from phalanx.sim import Scene
from phalanx.spaces import ActionSpace, Box, Discrete
from phalanx.tasks.task import Task, TaskConfig


@dataclass(frozen=True)
class CartpoleConfig(TaskConfig):
    """Settings of `Cartpole`."""

    episode_length: int = 500
    max_force: float = 400.0
    """Force on the cart at action 1 [N]."""
    reach: float = ranged(3.0, above=0)
    """Cart position at which an episode ends [m]."""
    discrete_actions: int = ranged(0, at_least=0, at_most=10_000)
    """Number of evenly spaced forces to choose from; 0 for a continuous force."""
    asset: str = str(Path(__file__).parent / "assets" / "cartpole.xml")
    """MJCF or URDF file with joints slider_to_cart and cart_to_pole."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.discrete_actions == 1:
            raise PhalanxError(
                "task.env.discrete_actions is 1; it must be 2 or more, or 0 for a continuous force"
            )


class Cartpole(Task):
    """Balance a pole on a cart pushed along a rail."""

    Config = CartpoleConfig
    config: CartpoleConfig
    num_obs = 4
    num_actions = 1

    def create_scene(self) -> Scene:
        scene = Scene(timestep=self.config.dt / self.config.substeps)
        scene.add_ground()
        scene.add_actor(
            "cartpole", self.config.asset, pos=(0, 0, 2), fixed_base=True, self_collisions=False
        )
        scene.add_motor("cartpole", "slider_to_cart", effort=self.config.max_force)
        return scene

    def init_buffers(self) -> None:
        self.cartpole = self.sim.actor("cartpole")

    @property
    def action_space(self) -> ActionSpace:
        n = self.config.discrete_actions
        return Discrete(n) if n else Box((1,), -1.0, 1.0)

    def pre_physics_step(self, actions: Tensor) -> None:
        if self.config.discrete_actions:
            actions = 2 * actions[:, None] / (self.config.discrete_actions - 1) - 1
        self.sim.ctrl.copy_(actions)

    def compute_observations(self) -> Tensor:
        pos, vel = self.cartpole.joint_pos, self.cartpole.joint_vel
        return torch.stack([pos[:, 0], vel[:, 0], pos[:, 1], vel[:, 1]], dim=1)

    def compute_reward(self) -> tuple[Tensor, Tensor]:
        pos, vel = self.cartpole.joint_pos, self.cartpole.joint_vel
        out, down = pos[:, 0].abs() > self.config.reach, pos[:, 1].abs() > math.pi / 2
        reward = 1 - pos[:, 1] ** 2 - 0.01 * vel[:, 0].abs() - 0.005 * vel[:, 1].abs()
        self.log_terms(ends={"out of reach": out, "pole down": down & ~out})
        return torch.where(out | down, -2.0, reward), out | down

    def reset_envs(self, mask: Tensor) -> None:
        """In environments `mask` (N,) bool, draw positions uniform in +-0.1 m and rad, velocities
        in +-0.25 m/s and rad/s."""
        pos, vel = self.cartpole.joint_pos, self.cartpole.joint_vel
        write_rows(pos, mask, 0.2 * torch.rand_like(pos) - 0.1)
        write_rows(vel, mask, 0.5 * torch.rand_like(vel) - 0.25)

    def observation_layout(self) -> tuple[Term, ...]:
        cart, pole = [(name,) for name in self.cartpole.joint_names]
        return (
            Term("cart_pos", "joint_pos", cart, unit="m"),
            Term("cart_vel", "joint_vel", cart, unit="m/s"),
            Term("pole_pos", "joint_pos", pole, unit="rad"),
            Term("pole_vel", "joint_vel", pole, unit="rad/s"),
        )

    def action_layout(self) -> ActionLayout:
        force, n = self.config.max_force, self.config.discrete_actions
        choices = tuple((force * (2 * k / (n - 1) - 1),) for k in range(n))
        return ActionLayout(
            "effort",
            self.cartpole.joint_names[:1],
            scale=force,
            low=-force,
            high=force,
            choices=(choices,) if n else (),
        )
