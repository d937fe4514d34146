"""AnymalVelocity: ANYbotics' ANYmal C, a quadruped of 12 joints, walks at a commanded velocity.

Reward, observation and commands are described in `velocity.py`; the robot is in
`assets/anymal_c.xml`.
"""

from dataclasses import dataclass
from pathlib import Path

from phalanx.tasks.velocity import Velocity
from phalanx.tasks.velocity_settings import VelocityConfig


@dataclass(frozen=True)
class AnymalVelocityConfig(VelocityConfig):
    """Settings of `AnymalVelocity`."""

    clip_actions: float = 100.0
    gait_hz: float = 2.5  # without a clock it makes 2.6 to 3.2 on rough ground
    gait_offsets: tuple[float, ...] = (0.0, 0.5, 0.5, 0.0)
    foot_height: float = 0.12
    feet: tuple[str, ...] = ("LF_FOOT", "LH_FOOT", "RF_FOOT", "RH_FOOT")
    foot_radius: float = 0.03
    not_to_touch: tuple[str, ...] = ("LF_THIGH", "LH_THIGH", "RF_THIGH", "RH_THIGH")
    asset: str = str(Path(__file__).parent / "assets" / "anymal_c.xml")


class AnymalVelocity(Velocity):
    """ANYmal C walks on four legs at a commanded velocity."""

    Config = AnymalVelocityConfig
    num_obs = 50  # with the base's velocity
    num_actions = 12
