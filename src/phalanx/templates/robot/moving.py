"""MyTask: MY_GOAL

    reward =  2     * velocity      exp(-(error / 0.25 m/s)^2) of the base's horizontal velocity
            + 1     * turning       exp(-(error / 0.25 rad/s)^2) of its yaw rate
            - 1     * tilt          squared sine of the angle between the base's z and the vertical
            - 1     * bounce^2      vertical velocity of the base [m/s]
            - 0.05  * roll_rate^2   angular velocity about the base's x and y [rad/s]
            - 0.2   * change^2      of the actions, mean
            - 0.3   * effort^2      of the servos, as a share of their limits, mean
            + 1     * swing         time in the air of a foot that lands, above 0.2 s [s]

An episode ends when the base tilts by more than 60 degrees or sinks by half of the height of the
robot's centre of mass, or after 1000 steps, which are 20 s. An action of 1 moves the target of a
joint's servo by `scale` from its default position.

| observation        | width  | unit            | frame                                        |
|--------------------|--------|-----------------|----------------------------------------------|
| base velocity      | 3      | m/s             | base                                         |
| base angular vel.  | 3      | rad/s           | base                                         |
| projected gravity  | 3      | -               | base; (0, 0, -1) upright                     |
| command            | 3      | m/s, rad/s      | base: forward, to the left, yaw rate         |
| joint positions    | joints | rad or m        | relative to the default pose                 |
| joint velocities   | joints | rad/s or m/s    |                                              |
| previous actions   | joints | -               |                                              |
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from phalanx.errors import PhalanxError
from phalanx.layout import ActionLayout, Term
from phalanx.sim import Scene
from phalanx.tasks import Task, TaskConfig
from phalanx.tasks.locomotion import rotation_matrix


class Joint(NamedTuple):
    """The servo of a joint: effort = stiffness * (target - position) - damping * velocity."""

    default: float
    """Position that an action of 0 asks for [rad or m]."""
    scale: float
    """Distance from there that an action of 1 asks for [rad or m]."""
    stiffness: float
    damping: float
    effort: float
    """Largest effort [N m or N]."""


# `phalanx new` has filled this in from the robot's file (MY_SOURCE).
JOINTS: dict[str, Joint] = {}
FEET: tuple[str, ...] = ()
"""Bodies that it stands on."""
BASE_HEIGHT = 1.0
"""Height of the base's origin in the default pose [m]."""
MASS_HEIGHT = 1.0
"""Height of the robot's centre of mass in the default pose [m]."""


@dataclass(frozen=True)
class MyTaskConfig(TaskConfig):
    """Settings of `MyTask`."""

    dt: float = 1 / 50
    substeps: int = 4
    clip_observations: float = 20.0
    speed: float = 0.0
    """Largest commanded velocity, forward and backward; half of it sideways [m/s]."""
    turn: float = 0.0
    """Largest commanded yaw rate [rad/s]."""
    standing: float = 0.2
    """Share of commands that ask it to stand still."""
    command_s: float = 5.0
    """Time after which a command changes [s]."""
    joint_noise: float = 0.1
    """Largest distance of a joint from the default pose at the start, in units of its scale."""
    asset: str = str(Path(__file__).parent / "assets" / "my_robot.xml")


class MyTask(Task):
    """MY_GOAL"""

    Config = MyTaskConfig
    config: MyTaskConfig
    num_obs = 0
    num_actions = 0

    def create_scene(self) -> Scene:
        scene = Scene(self.config.dt / self.config.substeps, iterations=20, ls_iterations=20)
        scene.add_ground()
        scene.add_actor("robot", self.config.asset, keyframe="home")
        for name, j in JOINTS.items():
            targets = (j.default - 3 * j.scale, j.default + 3 * j.scale)
            scene.add_servo("robot", name, j.stiffness, j.damping, j.effort, targets)
        if FEET:
            scene.add_contact_force_sensors("robot", FEET)
        return scene

    def init_buffers(self) -> None:
        self.robot = self.sim.actor("robot")
        numbers = torch.tensor(list(JOINTS.values()), device=self.device)  # (J, 5)
        self.default_pos, self.scale, _, _, self.effort = numbers.unbind(1)
        joints = [self.sim.model.joint(f"robot/{name}") for name in JOINTS]
        self.q = torch.tensor([int(j.qposadr[0]) for j in joints], device=self.device)
        self.v = torch.tensor([int(j.dofadr[0]) for j in joints], device=self.device)

        def zeros(*shape: int) -> Tensor:
            return torch.zeros(self.num_envs, *shape, device=self.device)

        speed, turn = self.config.speed, self.config.turn
        self.most = torch.tensor([speed, speed / 2, turn], device=self.device)
        self.command = self.state("command", zeros(3))
        self.is_given = False  # the command, from outside
        self.actions = self.state("actions", zeros(self.num_actions))
        self.change = self.state("change", zeros())
        self.air_time = self.state("air_time", zeros(len(FEET)))

    def pre_physics_step(self, actions: Tensor) -> None:
        self.sim.ctrl.copy_(self.default_pos + self.scale * actions)
        self.change.copy_(((actions - self.actions) ** 2).mean(1))
        self.actions.copy_(actions)

    def compute_observations(self) -> Tensor:
        robot = self.robot
        to_world = rotation_matrix(robot.root_quat)  # (N, 3, 3)
        self.lin_vel = (robot.root_lin_vel_w[:, None] @ to_world)[:, 0]  # in the base's frame
        self.gravity = -to_world[:, 2]
        return torch.cat(
            [
                self.lin_vel,
                robot.root_ang_vel_b,
                self.gravity,
                self.command,
                self.sim.qpos[:, self.q] - self.default_pos,
                self.sim.qvel[:, self.v],
                self.previous_actions,
            ],
            dim=1,
        )

    def compute_reward(self) -> tuple[Tensor, Tensor]:
        ang_vel = self.robot.root_ang_vel_b
        error = (self.lin_vel[:, :2] - self.command[:, :2]).square().sum(1)
        turn_error = (ang_vel[:, 2] - self.command[:, 2]).square()
        effort = (self.sim.actuator_force / self.effort).square().mean(1)
        terms = {
            "velocity": 2 * torch.exp(-error / 0.25**2),
            "turning": torch.exp(-turn_error / 0.25**2),
            "tilt": -self.gravity[:, :2].square().sum(1),
            "bouncing": -self.lin_vel[:, 2].square(),
            "rolling": -0.05 * ang_vel[:, :2].square().sum(1),
            "change": -0.2 * self.change,
            "effort": -0.3 * effort,
            "swing": self.swing(),
        }
        reward = torch.stack(list(terms.values())).sum(0)
        upright = -self.gravity[:, 2] > math.cos(math.radians(60))
        low = self.robot.root_pos[:, 2] < BASE_HEIGHT - 0.5 * MASS_HEIGHT
        self.log_terms(terms, {"tilted": ~upright, "low": low & upright})
        self.draw_commands(self.progress_buf % round(self.config.command_s / self.sim.dt) == 0)
        return reward, ~upright | low

    def swing(self) -> Tensor:
        """(N,) [s] time in the air above 0.2 s of feet that land now, 0 where it shall stand."""
        if not FEET:
            return torch.zeros_like(self.change)
        touching = self.robot.contact_force.square().sum(2) > 1.0  # more than 1 N
        landed = touching & (self.air_time > 0)
        time = ((self.air_time - 0.2) * landed).sum(1)
        self.air_time.copy_(torch.where(touching, 0.0, self.air_time + self.sim.dt))
        return time * (self.command.abs().sum(1) > 0)

    def draw_commands(self, mask: Tensor) -> None:
        """New commands in environments `mask` (N,) bool, unless one is given."""
        if self.is_given:
            return
        command = self.most * (2 * torch.rand_like(self.command) - 1)
        command *= torch.rand_like(command[:, :1]) > self.config.standing
        self.command.copy_(torch.where(mask[:, None], command, self.command))

    def give_command(self, values: Sequence[float]) -> None:
        """Let all robots follow this command: forward, to the left [m/s], yaw rate [rad/s]."""
        given = torch.tensor(values, device=self.device)
        if given.shape != self.most.shape or (given.abs() > self.most + 1e-6).any():
            most = ", ".join(f"{m:.3g}" for m in self.most.tolist())
            raise PhalanxError(f"command={list(values)} must be three numbers, at most +-({most})")
        self.command.copy_(given.expand_as(self.command))
        self.is_given = True

    def reset_envs(self, mask: Tensor) -> None:
        """Start near the default pose, facing anywhere."""
        robot, rows = self.robot, mask[:, None]
        yaw = math.pi * (2 * torch.rand_like(self.change) - 1)
        turn = torch.stack([(yaw / 2).cos(), 0 * yaw, 0 * yaw, (yaw / 2).sin()], 1)
        noise = self.config.joint_noise * self.scale * (2 * torch.rand_like(self.actions) - 1)
        pos = torch.where(rows, self.default_pos + noise, self.sim.qpos[:, self.q])
        self.sim.qpos[:, self.q] = pos
        quat = multiply(turn, robot.root_quat)
        robot.root_quat.copy_(torch.where(rows, quat, robot.root_quat))
        self.actions.masked_fill_(rows, 0.0)
        self.air_time.masked_fill_(rows, 0.0)
        self.draw_commands(mask)

    def observation_layout(self) -> tuple[Term, ...]:
        return (
            Term("base_lin_vel"),
            Term("base_ang_vel"),
            Term("projected_gravity"),
            Term("command", elements=("forward", "left", "turn"), unit="m/s or rad/s"),
            Term("joint_pos", elements=tuple(JOINTS), offset=self.default_pos),
            Term("joint_vel", elements=tuple(JOINTS)),
            Term("previous_action", elements=tuple(JOINTS)),
        )

    def action_layout(self) -> ActionLayout:
        return ActionLayout("position", tuple(JOINTS), self.scale, self.default_pos)


def multiply(a: Tensor, b: Tensor) -> Tensor:
    """The rotation a after b, quaternions (w, x, y, z), (N, 4) each."""
    w, v = a[:, :1], a[:, 1:]
    real = w * b[:, :1] - (v * b[:, 1:]).sum(1, keepdim=True)
    rest = w * b[:, 1:] + b[:, :1] * v + torch.linalg.cross(v, b[:, 1:])
    return torch.cat([real, rest], 1)
