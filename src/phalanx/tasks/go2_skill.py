"""What tasks share in which Unitree's Go2 learns one movement, without commands.

An action of 1 moves the target of a joint's servo by `action_scale` from `home`, the pose of the
robot's file. Nothing ends an episode before its time.
"""

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor

from phalanx.layout import ActionLayout, Term
from phalanx.sim import Scene
from phalanx.tasks import locomotion
from phalanx.tasks.mirror import Mirror, joint_mirror, layout_mirror, unchanged
from phalanx.tasks.task import Task, TaskConfig
from phalanx.tasks.weighted_terms import CostSettings, WeightedTerms


@dataclass(frozen=True)
class Go2SkillConfig(TaskConfig):
    """Settings of every such task; its own add `rewards`, the weights of its terms."""

    clip_observations: float = 100.0
    spread_starts: bool = True
    dt: float = 1 / 50
    substeps: int = 4
    action_scale: float = 1.0
    """How far an action of 1 moves a servo's target [rad]."""
    costs: CostSettings = field(default_factory=CostSettings)
    asset: str = str(Path(__file__).parent / "assets" / "go2.xml")
    """MJCF file with a position servo on each joint, in their order, and a keyframe `home`."""


class Go2Skill(Task):
    """A Go2 on flat ground whose servos' targets are the actions."""

    config: Any
    num_actions = 12
    default_num_envs: ClassVar[dict[str, int]] = {"cpu": 1024, "cuda": 4096}

    def create_scene(self) -> Scene:
        config = self.config
        scene = Scene(config.dt / config.substeps, iterations=10, ls_iterations=20)
        scene.add_ground()
        robot = scene.add_actor("robot", config.asset, keyframe="home", self_collisions=False)
        self.num_actions = len(robot.spec.actuators)
        self.num_obs = 6 + 3 * self.num_actions
        return scene

    def init_buffers(self) -> None:
        self.robot = self.sim.actor("robot")
        locomotion.check_robot(self.robot, self.config.asset, self.actuators)
        start = torch.tensor(self.sim.model.key("initial").qpos, dtype=torch.float32)
        self.default_pos, self.standing_height = start[7:].to(self.device), float(start[2])
        no_actions = torch.zeros(self.num_envs, self.num_actions, device=self.device)
        self.last_actions = self.state("last_actions", no_actions)
        self.change = self.state("change", no_actions.clone())
        """(N, A) of the actions, from the step before."""
        self.reward = WeightedTerms(self, asdict(self.config.rewards), self.config.costs)

    def targets(self, actions: Tensor) -> Tensor:
        """Of the servos (N, A) [rad], for `actions`; call it once per step, since it notes how the
        actions change."""
        self.change.copy_(self.previous_actions - self.last_actions)
        self.last_actions.copy_(self.previous_actions)
        targets: Tensor = self.default_pos + self.config.action_scale * actions
        return targets

    def observed(self) -> list[Tensor]:
        """The parts (N, ...) of the first terms of `observation_layout`."""
        robot, self.base = self.robot, locomotion.observe_base(self.robot)
        off = robot.joint_pos - self.default_pos
        angular, gravity = self.base.ang_vel_b, self.base.gravity_b
        return [angular, gravity, off, robot.joint_vel, self.previous_actions]

    def compute_observations(self) -> Tensor:
        return torch.cat(self.observed(), 1)

    def mirrors(self) -> tuple[Mirror, Mirror]:
        joints, clock = joint_mirror(self.robot), unchanged(4, self.device)
        return layout_mirror(self.observation_layout(), joints, {"clock": clock}), joints

    def observation_layout(self) -> tuple[Term, ...]:
        joints = self.robot.joint_names
        return (
            Term("base_ang_vel"),
            Term("projected_gravity"),
            Term("joint_pos", elements=joints, offset=self.default_pos),
            Term("joint_vel", elements=joints),
            Term("previous_action", size=self.num_actions),
        )

    def action_layout(self) -> ActionLayout:
        joints, scale = self.robot.joint_names, self.config.action_scale
        return ActionLayout("position", joints, scale=scale, offset=self.default_pos)
