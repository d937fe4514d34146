"""Go2JoystickUnilab: the Go2 walks at a commanded velocity as UniLab 1.5 defines it, to compare.

Observations, actions, gains, reward, commands, ends, resets and randomisation are those of UniLab's
`go2_joystick_flat` with PPO, from its published wheel: two physics steps of 10 ms in a control
step, one command for an episode, a trot at 2 Hz. The robot's shapes are ours: spheres and a
capsule, where UniLab has 13 cylinders and 5 boxes; its masses are the maker's, 15.02 kg, not 15.21.
"""

from dataclasses import dataclass, field

import mujoco
import torch
from torch import Tensor

from phalanx.compute.rows import write_rows
from phalanx.layout import Term
from phalanx.sim import Scene
from phalanx.tasks import gait_rewards as gait
from phalanx.tasks import locomotion
from phalanx.tasks.commands import CommandSettings
from phalanx.tasks.velocity import Velocity
from phalanx.tasks.velocity_settings import VelocityConfig

HEIGHT = 0.3
"""Of the base at the start, and as the reward wants it [m]."""
POSES = {leg: (0.0, 0.8 if leg[0] == "F" else 1.0, -1.5) for leg in ("FL", "FR", "RL", "RR")}
"""Hip, thigh and calf of each leg in the default pose [rad]."""


@dataclass(frozen=True)
class UnilabWeights:
    """UniLab's weights, per second."""

    track_lin_vel: float = 1.0
    """exp(-error^2 / 0.5) of the horizontal velocity [m/s]."""
    track_ang_vel: float = 0.2
    """exp(-error^2 / 0.5) of the rate of turning [rad/s]."""
    lin_vel_z: float = -5.0
    """Squared velocity along the base's z [m^2/s^2]."""
    ang_vel_xy: float = -0.1
    """Squared rates of roll and pitch [rad^2/s^2]."""
    base_height: float = -100.0
    """Squared distance of the base's height from 0.3 m [m^2]."""
    action_rate: float = -0.005
    """Squared change of the actions."""
    pose: float = -0.1
    """Distance of the joints from the default pose [rad]."""
    in_step: float = 0.24
    """Share of the feet that stand or swing as the gait clock says."""
    swing_height: float = 4.0
    """How close swinging feet are to `foot_height`, 0 to 1."""


@dataclass(frozen=True)
class Go2JoystickUnilabConfig(VelocityConfig):
    """Settings of `Go2JoystickUnilab`."""

    clip_actions: float = 100.0
    substeps: int = 2
    commands: CommandSettings = field(
        default_factory=lambda: CommandSettings(
            *((-0.6, 1.0), (-0.4, 0.4), (-0.8, 0.8), (1e6, 1e6)), standing=0.0, heading=0.0
        )
    )
    rewards: UnilabWeights = field(default_factory=UnilabWeights)  # type: ignore[assignment]
    privileged: bool = True
    stance: float = 0.6
    foot_height: float = 0.1
    action_scale: float = 0.25
    fall_tilt: float = 60.0
    reset_joint_pos: float = 0.0
    reset_velocity: float = 0.5
    falls_on: tuple[str, ...] = ()
    not_to_touch: tuple[str, ...] = ()


class Go2JoystickUnilab(Velocity):
    """Go2 at a commanded velocity, for comparison with UniLab."""

    Config = Go2JoystickUnilabConfig
    config: Go2JoystickUnilabConfig
    num_obs = 49
    num_actions = 12

    def create_scene(self) -> Scene:
        self.config.only_as_defined(type(self).__name__)
        scene = super().create_scene()
        option = scene.spec.option
        option.integrator = mujoco.mjtIntegrator.mjINT_EULER
        option.cone, option.impratio = mujoco.mjtCone.mjCONE_ELLIPTIC, 100.0
        for joint in scene.spec.joints:
            if joint.type == mujoco.mjtJoint.mjJNT_HINGE:
                joint.armature, joint.damping[0], joint.frictionloss = 0.01, 0.5, 0.2
        for actuator in scene.spec.actuators:
            actuator.gainprm[0], actuator.biasprm[1:3] = 35.0, [-35.0, -0.5]
            limit = 45.43 if "calf" in actuator.name else 23.7
            actuator.forcerange[:] = [-limit, limit]
        for geom in scene.spec.geoms:
            if geom.conaffinity and geom.name != "ground":
                foot = geom.parent.name.endswith("_foot")
                geom.condim, geom.priority = (3, 1) if foot else (1, 0)
                geom.friction[:] = [0.4, 0.02, 0.01]
        self.num_obs, self.num_states = 49, 52
        return scene

    def init_buffers(self) -> None:
        super().init_buffers()
        pose = [angle for joint in self.robot.joint_names[::3] for angle in POSES[joint[:2]]]
        self.default_pos = torch.tensor(pose, device=self.device)

    def compute_observations(self) -> Tensor:
        robot, base = self.robot, locomotion.observe_base(self.robot)
        self.base = base
        phases = torch.remainder(self.clock.phase[:, None] + self.clock.offsets, 1.0)
        parts = [base.ang_vel_b, base.gravity_b, robot.joint_pos - self.default_pos]
        parts += [robot.joint_vel, self.previous_actions, self.commands.values, phases]
        self.seen = torch.cat(parts, 1)
        return self.seen

    def compute_states(self) -> Tensor:
        """The observation and the base's velocity [m/s]."""
        return torch.cat([self.seen, self.base.lin_vel_b], 1)

    def reward_terms(self, base: locomotion.Base, pressed: Tensor) -> dict[str, Tensor]:
        feet, command = self.feet, self.commands.values
        everywhere = torch.ones_like(self.terminated)
        swings = self.clock.swing(everywhere) > 0
        high = feet.height + self.config.foot_radius
        near = torch.exp(-(high - self.config.foot_height).square() / 0.01) * swings
        width = 0.5**0.5
        return {
            "track_lin_vel": gait.tracking(command[:, :2], base.lin_vel_b[:, :2], width),
            "track_ang_vel": gait.tracking(command[:, 2:], base.ang_vel_b[:, 2:], width),
            "lin_vel_z": base.lin_vel_b[:, 2].square(),
            "ang_vel_xy": gait.squared(base.ang_vel_b[:, :2]),
            "base_height": (base.height - HEIGHT).square(),
            "action_rate": gait.squared(self.actions - self.last_actions),
            "pose": (self.robot.joint_pos - self.default_pos).abs().sum(1),
            "in_step": (feet.contact != swings).float().mean(1),
            "swing_height": near.sum(1) / swings.sum(1).clamp(min=1),
        }

    def reset_envs(self, mask: Tensor) -> None:
        """In environments `mask` (N,) bool, start in the default pose, slowly moving."""
        super().reset_envs(mask)
        write_rows(self.robot.root_pos[:, 2], mask, HEIGHT)

    def observation_layout(self) -> tuple[Term, ...]:
        return (*super().observation_layout()[1:-1], Term("gait_phases", elements=self.config.feet))
