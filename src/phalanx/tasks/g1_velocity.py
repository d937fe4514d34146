"""G1Velocity: Unitree's G1, a humanoid of 29 joints, walks at a commanded velocity.

Reward, observation and commands are described in `velocity.py`; the robot is in `assets/g1.xml`.
"""

from dataclasses import dataclass
from pathlib import Path

from phalanx.tasks.velocity import Velocity
from phalanx.tasks.velocity_settings import VelocityConfig


@dataclass(frozen=True)
class G1VelocityConfig(VelocityConfig):
    """Settings of `G1Velocity`."""

    clip_actions: float = 100.0
    action_effort: float = 0.25
    gait_hz: float = 1.5
    gait_offsets: tuple[float, ...] = (0.0, 0.5)
    stance: float = 0.6
    foot_height: float = 0.09
    fall_tilt: float = 50.0
    reset_joint_pos: float = 0.05
    self_collisions: bool = True
    feet: tuple[str, ...] = ("left_ankle_roll_link", "right_ankle_roll_link")
    foot_radius: float = 0.035
    falls_on: tuple[str, ...] = ("pelvis", "torso_link", "left_elbow_link", "right_elbow_link")
    not_to_touch: tuple[str, ...] = ("left_knee_link", "right_knee_link")
    asset: str = str(Path(__file__).parent / "assets" / "g1.xml")


class G1Velocity(Velocity):
    """Unitree's G1 walks on two legs at a commanded velocity."""

    Config = G1VelocityConfig
    num_obs = 101  # with the base's velocity
    num_actions = 29
