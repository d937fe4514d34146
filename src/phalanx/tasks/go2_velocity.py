"""Go2Velocity: Unitree's Go2, a quadruped of 12 joints, walks at a commanded velocity.

Reward, observation and commands are described in `velocity.py`; the robot is in `assets/go2.xml`.
"""

from phalanx.tasks.velocity import Velocity
from phalanx.tasks.velocity_settings import VelocityConfig


class Go2Velocity(Velocity):
    """Unitree's Go2 walks on four legs at a commanded velocity."""

    Config = VelocityConfig
    num_obs = 50  # with the base's velocity
    num_actions = 12
