"""Twip: a two-wheeled robot keeps its balance.

    reward =  1     * alive          1
            - 2     * pitch^2        [rad]
            - 0.2   * speed^2        of the wheels' rims, mean [m/s]
            - 0.02  * yaw_rate^2     [rad/s]
            - 0.1   * change^2       of the actions, mean
            -5 instead, if it has fallen: pitch or roll above 0.6 rad

An episode ends with a fall, or after 1000 steps, which are 20 s. The actions in [-1, 1] are the
wheels' torques (`control: effort`, up to 0.4 N m) or the target speeds of their servos (`control:
velocity`, up to 15 rad/s). An IMU in the body can measure pitch and rates.

| observation     | width | unit  | scale |
|-----------------|-------|-------|-------|
| pitch           | 1     | rad   | 1     |
| pitch rate      | 1     | rad/s | 0.2   |
| yaw rate        | 1     | rad/s | 0.2   |
| wheel speeds    | 2     | rad/s | 0.04  |
| previous action | 2     | -     | 1     |
"""

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal

import torch
from torch import Tensor

from phalanx.layout import ActionLayout, Term
from phalanx.sim import Scene
from phalanx.tasks import Task, TaskConfig

WHEEL_RADIUS = 0.05  # [m]
RATE_SCALE = 0.2
SPEED_SCALE = 0.04


@dataclass(frozen=True)
class TwipConfig(TaskConfig):
    dt: float = 1 / 50
    substeps: int = 2
    control: Literal["velocity", "effort"] = "effort"
    """Meaning of an action: torque or speed of its wheel."""
    max_speed: float = 15.0
    """Speed of a wheel at action 1, with velocity control [rad/s]."""
    servo_damping: float = 0.04
    """Gain of the speed servos, with velocity control [N m s/rad]."""
    max_effort: float = 0.4
    """Torque limit of a motor; with effort control the torque at action 1 [N m]."""
    fallen: float = 0.6
    """Pitch or roll at which an episode ends [rad]."""
    start_pitch: float = 0.2
    """Largest pitch at the start of an episode [rad]."""
    asset: str = str(Path(__file__).parent / "assets" / "twip.urdf")


class Twip(Task):
    """Keep the balance on two wheels."""

    Config = TwipConfig
    config: TwipConfig
    default_num_envs: ClassVar[dict[str, int]] = {"cpu": 256, "cuda": 4096}
    num_obs = 7
    num_actions = 2

    def create_scene(self) -> Scene:
        config = self.config
        scene = Scene(timestep=config.dt / config.substeps)
        scene.add_ground()
        scene.add_actor("twip", config.asset, pos=(0, 0, WHEEL_RADIUS), fixed_base=False)
        for wheel in ("left_wheel_joint", "right_wheel_joint"):
            if config.control == "velocity":
                speeds = (-config.max_speed, config.max_speed)
                scene.add_servo("twip", wheel, 0.0, config.servo_damping, config.max_effort, speeds)
            else:
                scene.add_motor("twip", wheel, effort=config.max_effort)
        return scene

    def init_buffers(self) -> None:
        self.twip = self.sim.actor("twip")
        no_actions = torch.zeros(self.num_envs, self.num_actions, device=self.device)
        self.actions = self.state("actions", no_actions)
        self.change = self.state("change", torch.zeros(self.num_envs, device=self.device))

    def pre_physics_step(self, actions: Tensor) -> None:
        # A servo's control is the speed itself, a motor's control is a fraction of its effort.
        velocity = self.config.control == "velocity"
        self.sim.ctrl.copy_(actions * self.config.max_speed if velocity else actions)
        self.change.copy_(((actions - self.actions) ** 2).mean(1))
        self.actions.copy_(actions)

    def compute_observations(self) -> Tensor:
        ang_vel = self.twip.root_ang_vel_b
        return torch.cat(
            [
                pitch_of(self.twip.root_quat)[:, None],
                ang_vel[:, 1:2] * RATE_SCALE,
                ang_vel[:, 2:3] * RATE_SCALE,
                self.twip.joint_vel * SPEED_SCALE,
                self.previous_actions,
            ],
            dim=1,
        )

    def compute_reward(self) -> tuple[Tensor, Tensor]:
        pitch, roll = pitch_of(self.twip.root_quat), roll_of(self.twip.root_quat)
        fallen = (pitch.abs() > self.config.fallen) | (roll.abs() > self.config.fallen)
        speed = self.twip.joint_vel.mean(1) * WHEEL_RADIUS
        yaw_rate = self.twip.root_ang_vel_b[:, 2]
        reward = 1 - 2 * pitch**2 - 0.2 * speed**2 - 0.02 * yaw_rate**2 - 0.1 * self.change
        return torch.where(fallen, -5.0, reward), fallen

    def reset_envs(self, mask: Tensor) -> None:
        """Start leaning forward or backward, with any yaw and wheel speeds within 1 rad/s."""
        pitch = self.config.start_pitch * (2 * torch.rand(self.num_envs, device=self.device) - 1)
        yaw = torch.pi * (2 * torch.rand_like(pitch) - 1)
        z, y = 0.5 * yaw, 0.5 * pitch
        quat = torch.stack(
            [z.cos() * y.cos(), -z.sin() * y.sin(), z.cos() * y.sin(), z.sin() * y.cos()], 1
        )
        vel = 2 * torch.rand_like(self.twip.joint_vel) - 1
        mask = mask[:, None]
        self.twip.root_quat.copy_(torch.where(mask, quat, self.twip.root_quat))
        self.twip.joint_vel.copy_(torch.where(mask, vel, self.twip.joint_vel))
        self.actions.masked_fill_(mask, 0.0)

    def observation_layout(self) -> tuple[Term, ...]:
        wheels = self.twip.joint_names
        return (
            Term("pitch"),
            Term("pitch_rate", "base_ang_vel", ("y",), scale=RATE_SCALE),
            Term("yaw_rate", "base_ang_vel", ("z",), scale=RATE_SCALE),
            Term("wheel_vel", "joint_vel", wheels, unit="rad/s", scale=SPEED_SCALE),
            Term("previous_action", elements=wheels),
        )

    def action_layout(self) -> ActionLayout:
        velocity = self.config.control == "velocity"
        most = self.config.max_speed if velocity else self.config.max_effort
        kind = self.config.control
        return ActionLayout(kind, self.twip.joint_names, scale=most, low=-most, high=most)


def pitch_of(quat: Tensor) -> Tensor:
    """Pitch (N,) [rad], positive forward, of quaternions (w, x, y, z), (N, 4): the angle about y'
    of a rotation z, y', x''."""
    w, x, y, z = quat.unbind(1)
    return torch.asin((2 * (w * y - z * x)).clamp(-1, 1))


def roll_of(quat: Tensor) -> Tensor:
    """Roll (N,) [rad], positive to the right: the angle about x'' of the same rotation."""
    w, x, y, z = quat.unbind(1)
    return torch.atan2(2 * (w * x + y * z), 1 - 2 * (x**2 + y**2))
