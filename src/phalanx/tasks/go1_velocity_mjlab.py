"""Go1VelocityMjlab: the Go1 walks on flat ground by mjlab's definition.

Observations, actions and reward are described in `mjlab_velocity.py`.
"""

from dataclasses import dataclass, field
from pathlib import Path

from phalanx.tasks.mjlab_velocity import MjlabConfig, MjlabVelocity


@dataclass(frozen=True)
class Go1VelocityMjlabConfig(MjlabConfig):
    """Settings of `Go1VelocityMjlab`."""

    feet: tuple[str, ...] = ("FR_foot", "FL_foot", "RR_foot", "RL_foot")
    foot_radius: float = 0.0  # heights are those of the feet's centres
    asset: str = str(Path(__file__).parent / "assets" / "go1.xml")
    pose_std: dict[str, tuple[float, ...]] = field(
        default_factory=lambda: {"calf": (0.1, 0.6, 0.6), "": (0.05, 0.3, 0.3)}
    )


class Go1VelocityMjlab(MjlabVelocity):
    """Go1 at a commanded velocity, for comparison with mjlab."""

    Config = Go1VelocityMjlabConfig
    num_obs = 48
    num_actions = 12
