"""G1VelocityMjlab: the G1 walks on flat ground by mjlab's definition.

Observations, actions and reward are described in `mjlab_velocity.py`.
"""

from dataclasses import dataclass, field
from pathlib import Path

from phalanx.tasks.mjlab_velocity import MjlabConfig, MjlabVelocity, MjlabWeights

STD = {
    "hip_pitch": (0.05, 0.3, 0.5),
    "hip_roll": (0.05, 0.15, 0.2),
    "hip_yaw": (0.05, 0.15, 0.2),
    "knee": (0.05, 0.35, 0.6),
    "ankle_pitch": (0.05, 0.25, 0.35),
    "ankle_roll": (0.05, 0.1, 0.15),
    "waist_yaw": (0.05, 0.2, 0.3),
    "waist_roll": (0.05, 0.08, 0.08),
    "waist_pitch": (0.05, 0.1, 0.2),
    "shoulder_pitch": (0.05, 0.15, 0.5),
    "shoulder_roll": (0.05, 0.15, 0.2),
    "shoulder_yaw": (0.05, 0.1, 0.15),
    "elbow": (0.05, 0.15, 0.35),
    "wrist": (0.05, 0.3, 0.3),
}
"""mjlab's widths of the term `pose` [rad] when standing, walking and running."""


@dataclass(frozen=True)
class G1VelocityMjlabConfig(MjlabConfig):
    """Settings of `G1VelocityMjlab`."""

    rewards: MjlabWeights = field(
        default_factory=lambda: MjlabWeights(
            body_ang_vel=-0.05, angular_momentum=-0.02, self_collision=-1.0
        )
    )
    gait_offsets: tuple[float, ...] = (0.0, 0.5)
    self_collisions: bool = True
    feet: tuple[str, ...] = ("left_ankle_roll_link", "right_ankle_roll_link")
    foot_radius: float = 0.0
    foot_place: tuple[float, ...] = (0.04, 0.0, -0.037)  # mjlab's sites, 2 mm below the soles
    not_to_touch: tuple[str, ...] = ("left_knee_link", "right_knee_link")
    start_height: float = 0.76
    upright_body: str = "torso_link"
    elliptic: bool = False
    asset: str = str(Path(__file__).parent / "assets" / "g1.xml")
    pose_std: dict[str, tuple[float, ...]] = field(default_factory=lambda: dict(STD))


class G1VelocityMjlab(MjlabVelocity):
    """G1 at a commanded velocity, for comparison with mjlab."""

    Config = G1VelocityMjlabConfig
    num_obs = 99
    num_actions = 29
