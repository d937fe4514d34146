"""Settings of the tasks in which a robot walks at a commanded velocity, see `velocity.py`."""

from dataclasses import dataclass, field, fields, replace
from pathlib import Path

from phalanx.config import default_of, ranged
from phalanx.errors import PhalanxError, did_you_mean
from phalanx.tasks.commands import CommandSettings
from phalanx.tasks.feet import check_feet
from phalanx.tasks.task import TaskConfig
from phalanx.tasks.terrain import TerrainSettings
from phalanx.tasks.terrain_kinds import KINDS
from phalanx.tasks.weighted_terms import CostSettings


@dataclass(frozen=True)
class Weights:
    """Weights of the terms of the reward, per second."""

    track_lin_vel: float = 3.0
    """exp(-(error / `tracking_width`)^2) of the horizontal velocity."""
    track_ang_vel: float = 1.5
    """exp(-(error / `tracking_width`)^2) of the rate of turning."""
    lin_vel_z: float = -2.0
    """Squared velocity along the base's z [m^2/s^2]."""
    ang_vel_xy: float = -0.05
    """Squared rates of roll and pitch [rad^2/s^2]."""
    upright: float = -2.0
    """Squared sine of the base's tilt; on rough ground against the plane nearest to the ground
    around it, as a base that stays level on steep stairs touches them."""
    pose: float = -0.3
    """Squared distance of the joints from the pose `home` [rad^2]."""
    stand_still: float = -0.5
    """Distance of the joints from the pose `home` [rad], while the command is to stand."""
    at_limit: float = -1.0
    """How far joints are outside of the middle part, `soft_limits`, of their ranges [rad]."""
    torque: float = -1e-4
    """Squared torques [N^2 m^2]."""
    power: float = -1e-3
    """|torque x velocity| of the joints [W]."""
    action_rate: float = -0.02
    """Squared change of the actions."""
    in_step: float = 0.6
    """Share of the feet that stand or swing as the gait clock says."""
    swing_height: float = 0.8
    """For each foot that swings, how close it is to an arc of height `foot_height`, 0 to 1."""
    slip: float = -0.1
    """Squared speed of the feet on the ground [m^2/s^2]."""
    contact: float = -1.0
    """Number of the bodies `not_to_touch` that touch something."""
    fall: float = -100.0
    """1 in the step of a fall."""

    # Not in use at first.
    alive: float = 0.0
    """1."""
    air_time: float = 0.0
    """For each foot that lands while the robot moves, how much longer than `swing_time` it was in
    the air [s]."""
    foot_clearance: float = 0.0
    """Distance of the feet from `foot_height`, times their speed [m^2/s]."""
    landing: float = 0.0
    """Force on feet in the step in which they land [N]."""
    base_height: float = 0.0
    """Squared distance of the base's height above the ground from `base_height` [m^2]."""
    joint_vel: float = 0.0
    """Squared velocities of the joints [rad^2/s^2]."""


@dataclass(frozen=True)
class VelocityConfig(TaskConfig):
    """Settings of all these tasks."""

    clip_observations: float = 100.0
    spread_starts: bool = True
    dt: float = 1 / 50
    substeps: int = 4
    commands: CommandSettings = field(default_factory=CommandSettings)
    rewards: Weights = field(default_factory=Weights)
    costs: CostSettings = field(default_factory=CostSettings)
    terrain: str = "flat"
    """flat, rough for the kinds of `terrain_settings`, or the name of one kind."""
    terrain_settings: TerrainSettings = field(default_factory=TerrainSettings)
    height_scan: bool | None = None
    """Whether the heights of the ground around the robot are observed; null: where it is not
    flat."""
    scan_size: tuple[float, ...] = ranged((1.6, 1.0), above=0, at_most=10)
    """Length and width of the scan [m], every 0.1 m."""
    scan_offset: float | None = None
    """Height of the base above flat ground [m], at which the scan observes 0; null: that of the
    pose `home`."""
    privileged: bool = False
    """Whether there are states, for a central value or a teacher: the base's velocity, the
    observation without noise, the scan if there is terrain, and the feet."""
    teacher: bool = False
    """Whether the policy itself sees the states, as the teacher of a distillation."""
    tracking_width: float = ranged(0.5, above=0)
    """Error of velocity or rate at which the tracking terms are 1/e [m/s or rad/s]."""
    soft_limits: float = ranged(0.9, at_least=0, at_most=1)
    """Middle part of the joints' ranges outside of which the term `at_limit` costs."""
    base_height: float | None = ranged(None, above=0)
    """Height of the base above the ground that the term of that name wants [m]; null: that of the
    pose `home`."""
    swing_time: float = ranged(0.25, at_least=0)
    """Time in the air beyond which the term `air_time` is positive [s]."""
    gait_clock: bool = True
    """Whether there is a gait clock: observed, and compared with the feet by the terms `in_step`
    and `swing_height`, which are left out without one."""
    gait_hz: float = ranged(3.0, above=0)
    """Strides per second."""
    gait_offsets: tuple[float, ...] = (0.0, 0.5, 0.5, 0.0)
    """Of the feet's phases, in strides; here a trot."""
    stance: float = ranged(0.55, above=0, at_most=0.95)
    """Part of a stride in which a foot stands."""
    foot_height: float = ranged(0.08, above=0)
    """Height of a foot in the middle of a swing [m]."""
    foot_reach: float = ranged(0.25, at_least=0)
    """Higher ground at eight points this far [m] from a foot, such as the next step of a stair,
    raises the arc of its swing by as much; 0: the arc is that over flat ground."""
    action_scale: float = 0.5
    """How far an action of 1 moves a servo's target [rad]."""
    action_effort: float = ranged(0.0, at_least=0, at_most=10)
    """If above 0, instead: until the servo pulls with this part of its largest torque, from rest in
    the pose `home`."""
    observe_lin_vel: bool = True
    """Whether the base's velocity is observed."""
    fall_tilt: float = ranged(70.0, above=0, at_most=180)
    """Angle between the base's z and the vertical above which the robot has fallen [degrees]."""
    reset_joint_pos: float = ranged(0.1, at_least=0)
    """Largest initial distance of a joint from the pose `home` [rad]."""
    reset_velocity: float = ranged(0.3, at_least=0)
    """Largest initial velocity of the base along and about each axis [m/s or rad/s]."""
    asset: str = str(Path(__file__).parent / "assets" / "go2.xml")
    """MJCF file with a position servo on each joint, in their order, and a keyframe `home`."""
    self_collisions: bool = False
    """Whether the robot's bodies touch each other, where its file lets them."""
    feet: tuple[str, ...] = ("FL_foot", "FR_foot", "RL_foot", "RR_foot")
    """Bodies whose origins are the centres of the feet."""
    foot_radius: float = ranged(0.022, at_least=0)
    """Distance of a foot's origin from its sole [m]."""
    foot_place: tuple[float, ...] = (0.0, 0.0, 0.0)
    """Point of a foot's body whose height and speed count [m], in the body's frame."""
    falls_on: tuple[str, ...] = ("base",)
    """Bodies that touch the ground only in a fall."""
    not_to_touch: tuple[str, ...] = ("FL_thigh", "FR_thigh", "RL_thigh", "RR_thigh")
    """Bodies whose contact costs the weight `contact`."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_feet(self.feet)
        if len(self.gait_offsets) != len(self.feet):
            raise PhalanxError(
                f"task.env.gait_offsets has {len(self.gait_offsets)} numbers, but the robot has"
                f" {len(self.feet)} feet; give one number for each foot"
            )
        if len(self.foot_place) != 3:
            raise PhalanxError(
                f"task.env.foot_place is {list(self.foot_place)}; it must be x, y and z, as in"
                " [0.04, 0, -0.037]"
            )
        if len(self.scan_size) != 2:
            raise PhalanxError(
                f"task.env.scan_size is {list(self.scan_size)}; it must be length and width, as in"
                " [1.6, 1.0]"
            )

    def only_as_defined(self, task: str) -> None:
        """Raise PhalanxError for other ground than a plane, which `task` does not define, and for
        settings of the observation and the reward, which it defines itself."""
        only = f"{task} is defined on flat ground only"
        if self.terrain != "flat":
            raise PhalanxError(f"task.env.terrain is {self.terrain!r}; {only}")
        if self.height_scan:
            raise PhalanxError(f"task.env.height_scan is true; {only}")
        seen = ("observe_lin_vel", "gait_clock", "teacher")
        for name in (*seen, "soft_limits", "swing_time", "base_height"):
            if (value := getattr(self, name)) != getattr(VelocityConfig, name):
                part = "an observation" if name in seen else "a reward"
                raise PhalanxError(
                    f"task.env.{name} is {str(value).lower()}; {task} has {part} of its own"
                )

    def ground(self) -> TerrainSettings | None:
        """The settings of the ground, None for a plane. Raises PhalanxError for an unknown kind."""
        if self.terrain == "flat":
            return None
        if self.terrain == "rough":
            return self.terrain_settings
        if self.terrain not in KINDS:
            raise PhalanxError(
                f"task.env.terrain is {self.terrain!r}"
                f"{did_you_mean(self.terrain, ['rough', *KINDS])}; it may be rough, a mixture,"
                f" or one of {', '.join(KINDS)}"
            )
        return replace(self.terrain_settings, kinds={self.terrain: 1.0})

    def idle_keys(self) -> list[str]:
        """See `TaskConfig`."""
        flat, usual = self.terrain == "flat", {f.name: default_of(f) for f in fields(self)}
        needs: dict[str, str] = {}
        if flat:
            needs = dict.fromkeys(("scan_size", "scan_offset", "foot_reach"), "terrain=rough")
        elif not self.privileged and not self.scans():
            needs = dict.fromkeys(("scan_size", "scan_offset"), "height_scan=true")
        if not self.privileged:
            needs["states_history"] = "privileged=true"
        if self.teacher and not flat and self.height_scan is False:
            needs["height_scan"] = "teacher=false"
        found = [k for k in needs if getattr(self, k) != usual[k]]
        own, ground = self.terrain_settings, usual["terrain_settings"]
        for name in (f.name for f in fields(own)):
            if getattr(own, name) != getattr(ground, name):
                key = f"terrain_settings.{name}"
                if flat or (name == "kinds" and self.terrain != "rough"):
                    needs[key] = "terrain=rough"
                elif name == "first_rows" and not own.curriculum:
                    needs[key] = "terrain_settings.curriculum=true"
                found += [key] if key in needs else []
        return [f"task.env.{key}= needs task.env.{needs[key]}" for key in found]

    def scans(self) -> bool:
        """Whether the ground is scanned. Raises PhalanxError where there is nothing to scan."""
        if self.height_scan and self.terrain == "flat":
            raise PhalanxError(
                "task.env.height_scan is true, but task.env.terrain is flat; a scan needs terrain,"
                " as in task.env.terrain=rough"
            )
        rough = self.terrain != "flat"
        return rough if self.height_scan is None or self.teacher else self.height_scan
