"""MyTask: MY_GOAL

`phalanx.tasks.velocity` describes observations, actions, reward and ends, and
`phalanx.tasks.velocity_settings` has all settings with their meanings; those below are of this
robot. It is in `assets/my_robot.xml`, from MY_SOURCE, with its default pose as the keyframe `home`.
Noise, latency, pushes and other randomisation are in `cfg/task/MyTask.yaml`.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from torch import Tensor

from phalanx.sim import Scene
from phalanx.tasks.commands import CommandSettings
from phalanx.tasks.velocity import Velocity
from phalanx.tasks.velocity_settings import VelocityConfig, Weights


class Joint(NamedTuple):
    """The servo of a joint: effort = stiffness * (target - position) - damping * velocity."""

    low: float
    high: float
    """Range of its targets [rad or m]: the joint's, and what it takes to push against its ends."""
    stiffness: float
    damping: float
    effort: float
    """Largest effort [N m or N]."""


# `phalanx new` has filled in these numbers from the robot's file.
JOINTS: dict[str, Joint] = {}


@dataclass(frozen=True)
class MyTaskConfig(VelocityConfig):
    """Settings of `MyTask`."""

    substeps: int = 4
    commands: CommandSettings = field(
        default_factory=lambda: CommandSettings(
            lin_vel_x=(-1.0, 1.0), lin_vel_y=(-0.6, 0.6), ang_vel_z=(-1.0, 1.0)
        )
    )
    rewards: Weights = field(default_factory=lambda: Weights(torque=-1.0, power=-1.0))
    clip_actions: float = 100.0
    gait_hz: float = 2.0
    gait_offsets: tuple[float, ...] = ()
    stance: float = 0.55
    foot_height: float = 0.08
    fall_tilt: float = 70.0
    reset_joint_pos: float = 0.1
    scan_offset: float = 0.3
    self_collisions: bool = False
    feet: tuple[str, ...] = ()
    foot_radius: float = 0.0
    falls_on: tuple[str, ...] = ()
    not_to_touch: tuple[str, ...] = ()
    asset: str = str(Path(__file__).parent / "assets" / "my_robot.xml")


class MyTask(Velocity):
    """MY_GOAL"""

    Config = MyTaskConfig

    def create_scene(self) -> Scene:
        scene = super().create_scene()
        if self.config.self_collisions:
            bodies = [*self.config.feet, *self.config.falls_on, *self.config.not_to_touch]
            scene.add_self_contact_sensors("robot", dict.fromkeys(bodies))
        return scene

    def pressing(self) -> Tensor:
        """What the robot's bodies touch of each other is neither a fall nor a cost."""
        own = self.robot.self_contact_force if self.config.self_collisions else 0.0
        return self.robot.contact_force - own

    def add_robot(self, scene: Scene) -> int:
        super().add_robot(scene)
        for name, j in JOINTS.items():
            scene.add_servo("robot", name, j.stiffness, j.damping, j.effort, (j.low, j.high))
        return len(JOINTS)
