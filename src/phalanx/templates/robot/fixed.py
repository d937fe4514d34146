"""MyTask: MY_GOAL

    reward =  1    * reached       1 / (1 + (distance / 0.1)^2), mean of the joints; distance from
                                   the command in units of half of the joint's range
            - 0.1  * change^2      of the actions, mean
            - 0.1  * effort^2      of the servos, as a share of their limits, mean

An episode lasts 250 steps, which are 5 s; the command changes with each. An action of -1 to 1 moves
the target of a joint's servo through its range.

| observation        | width  | unit            | frame                                        |
|--------------------|--------|-----------------|----------------------------------------------|
| command            | joints | -               | share of the range, -1 to 1                  |
| joint positions    | joints | -               | share of the range, -1 to 1                  |
| joint velocities   | joints | rad/s or m/s    |                                              |
| previous actions   | joints | -               |                                              |
"""

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


class Joint(NamedTuple):
    """The servo of a joint: effort = stiffness * (target - position) - damping * velocity."""

    low: float
    """Position that an action of -1 asks for [rad or m]."""
    high: float
    """Position that an action of 1 asks for [rad or m]."""
    stiffness: float
    damping: float
    effort: float
    """Largest effort [N m or N]."""


# `phalanx new` has filled this in from the robot's file (MY_SOURCE).
JOINTS: dict[str, Joint] = {}


@dataclass(frozen=True)
class MyTaskConfig(TaskConfig):
    """Settings of `MyTask`."""

    dt: float = 1 / 50
    substeps: int = 4
    episode_length: int = 250
    clip_observations: float = 20.0
    reach: float = 0.8
    """Share of each joint's range from which commands are drawn."""
    asset: str = str(Path(__file__).parent / "assets" / "my_robot.xml")


class MyTask(Task):
    """MY_GOAL"""

    Config = MyTaskConfig
    config: MyTaskConfig
    num_obs = 0
    num_actions = 0

    def create_scene(self) -> Scene:
        scene = Scene(self.config.dt / self.config.substeps, iterations=20, ls_iterations=20)
        scene.add_actor("robot", self.config.asset, keyframe="home")
        for name, j in JOINTS.items():
            scene.add_servo("robot", name, j.stiffness, j.damping, j.effort, (j.low, j.high))
        return scene

    def init_buffers(self) -> None:
        numbers = torch.tensor(list(JOINTS.values()), device=self.device)  # (J, 5)
        low, high, _, _, self.effort = numbers.unbind(1)
        self.middle, self.half = (low + high) / 2, (high - low) / 2
        joints = [self.sim.model.joint(f"robot/{name}") for name in JOINTS]
        self.q = torch.tensor([int(j.qposadr[0]) for j in joints], device=self.device)
        self.v = torch.tensor([int(j.dofadr[0]) for j in joints], device=self.device)
        zeros = torch.zeros(self.num_envs, self.num_actions, device=self.device)
        self.command = self.state("command", zeros)
        self.is_given = False  # the command, from outside
        self.actions = self.state("actions", zeros.clone())
        self.change = self.state("change", zeros[:, 0].clone())

    def pre_physics_step(self, actions: Tensor) -> None:
        self.sim.ctrl.copy_(self.middle + self.half * actions)
        self.change.copy_(((actions - self.actions) ** 2).mean(1))
        self.actions.copy_(actions)

    def compute_observations(self) -> Tensor:
        self.pos = (self.sim.qpos[:, self.q] - self.middle) / self.half
        vel = self.sim.qvel[:, self.v]
        return torch.cat([self.command, self.pos, vel, self.previous_actions], dim=1)

    def compute_reward(self) -> tuple[Tensor, Tensor]:
        distance = self.pos - self.command
        effort = (self.sim.actuator_force / self.effort).square().mean(1)
        terms = {
            "reached": (1 / (1 + (distance / 0.1).square())).mean(1),  # falls off slowly
            "change": -0.1 * self.change,
            "effort": -0.1 * effort,
        }
        self.log_terms(terms)
        return torch.stack(list(terms.values())).sum(0), torch.zeros_like(self.terminated)

    def give_command(self, values: Sequence[float]) -> None:
        """Let all robots move their joints to these shares of their ranges, -1 to 1."""
        given = torch.tensor(values, device=self.device)
        if given.shape != self.half.shape or (given.abs() > 1).any():
            count = len(self.half)
            raise PhalanxError(f"command={list(values)} must be {count} numbers from -1 to 1")
        self.command.copy_(given.expand_as(self.command))
        self.is_given = True

    def reset_envs(self, mask: Tensor) -> None:
        """Start anywhere in the range of commands, at rest, with a new command."""
        rows, reach = mask[:, None], self.config.reach
        start = reach * (2 * torch.rand_like(self.command) - 1)
        command = reach * (2 * torch.rand_like(self.command) - 1)
        pos = torch.where(rows, self.middle + self.half * start, self.sim.qpos[:, self.q])
        self.sim.qpos[:, self.q] = pos
        self.actions.copy_(torch.where(rows, start, self.actions))
        if not self.is_given:
            self.command.copy_(torch.where(rows, command, self.command))

    def observation_layout(self) -> tuple[Term, ...]:
        joints = tuple(JOINTS)
        scale = 1 / self.half
        return (
            Term("command", elements=joints, unit="1"),
            Term("joint_pos", elements=joints, offset=self.middle, scale=scale),
            Term("joint_vel", elements=joints),
            Term("previous_action", elements=joints),
        )

    def action_layout(self) -> ActionLayout:
        return ActionLayout("position", tuple(JOINTS), self.half, self.middle)
