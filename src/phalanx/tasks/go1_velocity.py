"""Go1Velocity: Unitree's Go1, a quadruped of 12 joints, walks at a commanded velocity.

Reward, observation and commands are described in `velocity.py`; the robot is in `assets/go1.xml`.
"""

from dataclasses import dataclass
from pathlib import Path

from phalanx.tasks.velocity import Velocity
from phalanx.tasks.velocity_settings import VelocityConfig


@dataclass(frozen=True)
class Go1VelocityConfig(VelocityConfig):
    """Settings of `Go1Velocity`."""

    feet: tuple[str, ...] = ("FR_foot", "FL_foot", "RR_foot", "RL_foot")
    foot_radius: float = 0.023
    falls_on: tuple[str, ...] = ("trunk",)
    asset: str = str(Path(__file__).parent / "assets" / "go1.xml")


class Go1Velocity(Velocity):
    """Unitree's Go1 walks on four legs at a commanded velocity."""

    Config = Go1VelocityConfig
    num_obs = 50  # with the base's velocity
    num_actions = 12
