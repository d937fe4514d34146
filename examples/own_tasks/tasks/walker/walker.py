"""Walker: Unitree's Go2 walks at commanded velocities on rough ground, which it sees."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor

from phalanx import tasks
from phalanx.sim import Scene
from phalanx.tasks import Task, TaskConfig, gait_rewards, locomotion, rays
from phalanx.tasks.commands import CommandSettings, VelocityCommands
from phalanx.tasks.feet import Feet
from phalanx.tasks.gait_clock import GaitClock
from phalanx.tasks.terrain import Terrain, TerrainMap, TerrainSettings
from phalanx.tasks.weighted_terms import WeightedTerms

FEET = ("FL_foot", "FR_foot", "RL_foot", "RR_foot")
HILLS = {"slope_up": 1.0, "slope_down": 1.0, "waves": 1.0, "uneven": 1.0}
TROT = (0.0, 0.5, 0.5, 0.0)
"""When in a stride each foot begins to stand."""
WEIGHTS = {"track": 2.0, "turn": 1.0, "in_step": 1.0, "swing": 0.5}
WEIGHTS |= {"pose": -0.3, "slip": -0.1, "torque": -1e-4, "fall": -50.0}


@dataclass(frozen=True)
class WalkerConfig(TaskConfig):
    """Settings of `Walker`."""

    dt: float = 1 / 50
    substeps: int = 4
    commands: CommandSettings = field(default_factory=CommandSettings)
    terrain: TerrainSettings = field(default_factory=lambda: TerrainSettings(kinds=HILLS))
    asset: str = str(Path(tasks.__file__).parent / "assets" / "go2.xml")
    """MJCF with a servo on each joint and a keyframe `home`."""


class Walker(Task):
    """Walk on rough ground."""

    Config = WalkerConfig
    config: WalkerConfig
    num_obs = 50 + 17 * 11
    num_actions = 12

    def create_scene(self) -> Scene:
        scene = Scene(self.config.dt / self.config.substeps)
        self.map = TerrainMap(self.config.terrain)
        self.map.add_to(scene)
        scene.add_actor("robot", self.config.asset, keyframe="home", self_collisions=False)
        scene.add_contact_force_sensors("robot", FEET)
        return scene

    def init_buffers(self) -> None:
        self.robot = self.sim.actor("robot")
        start = torch.tensor(self.sim.model.key("initial").qpos, dtype=torch.float32)
        self.stand, self.home = start[:3].to(self.device), start[7:].to(self.device)
        self.commands = VelocityCommands(self, self.config.commands, rough=True)
        self.feet = Feet(self, "robot", FEET, radius=0.022)
        self.clock = GaitClock(self, hz=3.0, offsets=TROT, stance=0.55)
        self.terrain = Terrain(self, self.map)
        self.points = rays.scan_grid((1.6, 1.0), 0.1, self.device)
        self.reward = WeightedTerms(self, WEIGHTS)

    def pre_physics_step(self, actions: Tensor) -> None:
        self.sim.ctrl.copy_(self.home + 0.5 * actions)

    def compute_observations(self) -> Tensor:
        robot = self.robot
        self.base = base = locomotion.observe_base(robot)
        below = rays.height_scan(self.terrain, robot.root_pos, base.yaw, self.points)
        parts = [base.lin_vel_b, base.ang_vel_b, base.gravity_b]
        parts += [robot.joint_pos - self.home, robot.joint_vel, self.previous_actions]
        parts += [self.commands.values, self.clock.observe(self.commands.moving)]
        return torch.cat([*parts, below - self.stand[2]], 1)

    def compute_reward(self) -> tuple[Tensor, Tensor]:
        base, feet, wanted = self.base, self.feet, self.commands.values
        feet.update(self.robot.contact_force, self.terrain)
        swing, fallen = self.clock.swing(self.commands.moving), base.up < 0.3
        terms = {
            "track": gait_rewards.tracking(wanted[:, :2], base.lin_vel_b[:, :2], 0.5),
            "turn": gait_rewards.tracking(wanted[:, 2:], base.ang_vel_b[:, 2:], 0.5),
            "in_step": gait_rewards.in_step(feet.contact, swing),
            "swing": gait_rewards.swing_height(feet.height, swing, 0.08),
            "pose": gait_rewards.squared(self.robot.joint_pos - self.home),
            "slip": gait_rewards.slip(feet.speed, feet.contact),
            "torque": gait_rewards.squared(self.sim.actuator_force),
            "fall": fallen.float(),
        }
        outside = self.terrain.outside(self.robot.root_pos) & ~fallen
        self.progress_buf.masked_fill_(outside, self.config.episode_length)  # its time is over
        weighted = self.reward(terms)
        self.log_terms(weighted, {"tilt": fallen, "edge": outside})
        self.terrain.step(self.robot.root_pos, base.yaw, wanted[:, :2])
        self.clock.step(self.commands.moving)
        self.commands.step(base.yaw)  # observed from the next step on
        return self.reward.total(weighted), fallen

    def reset_envs(self, mask: Tensor) -> None:
        self.terrain.begin(mask)
        origins = self.terrain.start + self.stand
        locomotion.reset_near(self.robot, mask, self.home, 0.1, 0.3, origins)
        self.commands.begin(mask)
        self.clock.begin(mask)
        self.feet.begin(mask)

    def give_command(self, values: Sequence[float]) -> None:
        self.commands.give(values)
