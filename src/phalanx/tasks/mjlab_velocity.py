"""Velocity tracking as mjlab 1.6 defines it, for `Go1VelocityMjlab` and `G1VelocityMjlab`.

Observations, actions, gains, reward, commands, ends, resets and randomisation are those of mjlab's
flat tasks, from its published wheel; the robots are ours. Different from mjlab:

- shapes: feet, knees, hips and trunk touch the ground, with mjlab's friction and solver settings;
  a G1's foot has four corners, not seven capsules; a Go1 does not touch itself (mjlab's is 30
  shapes that do), a G1's shins and feet touch those of the other leg (mjlab's 33 shapes all do);
- contacts of feet are looked at once in a control step, and touching begins at 1 N; a
  self-collision is counted by the force between the legs in the last of its four physics steps;
- reward and ends are of the state after the last physics step, mjlab's of the one before it;
- the base's velocity is observed at its origin, mjlab's at the IMU, up to 10 cm away;
- the critic sees how long a foot was last in the air while it stands, too;
- pushes turn about the base's axes, mjlab's about the world's;
- the ranges of commands do not grow after 5000 iterations.

The critic's states are the observation without noise, and the feet; no gait clock is observed.
"""

from dataclasses import dataclass, field

import mujoco
import torch
from torch import Tensor

from phalanx.compute.rows import write_rows
from phalanx.errors import PhalanxError
from phalanx.layout import Term
from phalanx.sim import Scene
from phalanx.tasks import gait_rewards as gait
from phalanx.tasks import locomotion
from phalanx.tasks.commands import CommandSettings
from phalanx.tasks.velocity import Velocity
from phalanx.tasks.velocity_settings import VelocityConfig

STANDS, RUNS = 0.05, 1.5
"""Sizes of a command [m/s + rad/s] below which it is to stand, and from which it is to run."""


@dataclass(frozen=True)
class MjlabWeights:
    """mjlab's weights, per second."""

    track_lin_vel: float = 2.0
    """exp(-error^2 / 0.25) of the velocity [m/s], the vertical one included."""
    track_ang_vel: float = 2.0
    """exp(-error^2 / 0.5) of the rate of turning [rad/s], roll and pitch included."""
    upright: float = 1.0
    """exp(-sine^2 / 0.2) of the tilt of `upright_body`."""
    pose: float = 1.0
    """exp(-mean square) of the joints' distances from the pose `home`, in units of `pose_std`."""
    at_limit: float = -1.0
    """How far joints are outside of the middle 90 % of their ranges [rad]."""
    action_rate: float = -0.1
    """Squared change of the actions."""
    foot_clearance: float = -2.0
    """Distance of the feet from `foot_height`, times their speed [m^2/s]."""
    swing_height: float = -0.25
    """Squared error of a swing's greatest height, as a part of `foot_height`, when it ends."""
    slip: float = -0.1
    """Squared speed of the feet on the ground [m^2/s^2]."""
    soft_landing: float = -1e-5
    """Force on a foot in the step in which it lands [N]."""
    body_ang_vel: float = 0.0
    """Squared rates of `upright_body` about the world's x and y [rad^2/s^2]."""
    angular_momentum: float = 0.0
    """Squared angular momentum of the robot [kg^2 m^4/s^2]."""
    self_collision: float = 0.0
    """`substeps` while bodies of the robot press on each other with more than 10 N, else 0."""


def mjlab_commands() -> CommandSettings:
    """mjlab's commands of its first 5000 iterations."""
    return CommandSettings(
        *((-1.0, 1.0), (-1.0, 1.0), (-0.5, 0.5), (3.0, 8.0)),
        standing=0.1,
        heading=0.27,  # mjlab's 0.3 of those that do not stand
        heading_gain=0.5,
        forward=0.2,
    )


@dataclass(frozen=True)
class MjlabConfig(VelocityConfig):
    """Settings of mjlab's tasks."""

    clip_actions: float = 100.0
    action_effort: float = 0.25
    commands: CommandSettings = field(default_factory=mjlab_commands)
    rewards: MjlabWeights = field(default_factory=MjlabWeights)  # type: ignore[assignment]
    privileged: bool = True
    foot_height: float = 0.1
    reset_joint_pos: float = 0.0
    reset_velocity: float = 0.0
    falls_on: tuple[str, ...] = ()
    not_to_touch: tuple[str, ...] = ()
    start_height: float = 0.278
    """Of the base [m], to which 1 to 5 cm are added."""
    upright_body: str = "trunk"
    """Body whose tilt and turning the reward looks at."""
    elliptic: bool = True
    """Whether friction cones are elliptic, with impratio 10, the robot's shapes are harder, and its
    feet resist rolling."""
    pose_std: dict[str, tuple[float, ...]] = field(default_factory=dict)
    """Widths of the term `pose` [rad] when standing, walking and running, by part of a joint's
    name; the first that fits counts."""


class MjlabVelocity(Velocity):
    """A robot walks at a commanded velocity, as in mjlab."""

    Config = MjlabConfig
    config: MjlabConfig

    def create_scene(self) -> Scene:
        self.config.only_as_defined(type(self).__name__)
        scene, config = super().create_scene(), self.config
        locomotion.check_bodies(scene, "robot", upright_body=[config.upright_body])
        option = scene.spec.option
        if config.elliptic:
            option.cone, option.impratio = mujoco.mjtCone.mjCONE_ELLIPTIC, 10.0
        for actuator in scene.spec.actuators:
            armature = float(scene.spec.joint(actuator.target).armature)
            kp, kd = (armature * k for k in ((20 * torch.pi) ** 2, 80 * torch.pi))
            actuator.gainprm[0], actuator.biasprm[1:3] = kp, [-kp, -kd]
        if config.not_to_touch:
            scene.add_self_contact_sensors("robot", config.not_to_touch)
        soles = [f"robot/{name}" for name in config.feet]
        for geom in scene.spec.geoms:
            if geom.name != "ground" and (geom.contype or geom.conaffinity):
                geom.solref[0] = 0.01 if config.elliptic else 0.02
                if geom.parent.name in soles:
                    geom.condim, geom.priority = (6 if config.elliptic else 3), 1
                    geom.friction[:] = [1.0, 5e-3, 5e-4] if config.elliptic else [0.6, 5e-3, 1e-4]
                else:
                    geom.condim = 1
        scene.spec.add_sensor(
            name="angular_momentum",
            type=mujoco.mjtSensor.mjSENS_SUBTREEANGMOM,
            objtype=mujoco.mjtObj.mjOBJ_BODY,
            objname=f"robot/{scene.spec.worldbody.bodies[0].name.split('/')[-1]}",
        )
        self.num_obs = 12 + 3 * self.num_actions
        self.num_states = self.num_obs + 6 * len(config.feet)
        return scene

    def init_buffers(self) -> None:
        super().init_buffers()
        model, robot, n = self.sim.model, self.robot, self.num_envs
        std = [self._std_of(name) for name in robot.joint_names]
        self.pose_std = torch.tensor(std, device=self.device).T.contiguous()  # (3, J)
        self.body = robot.body_id(self.config.upright_body)
        self.momentum_at = int(model.sensor("angular_momentum").adr[0])
        bias = 0.015 * (2 * torch.rand(n, self.num_actions, device=self.device) - 1)
        self.encoder_bias = self.state("encoder_bias", bias)

    def _std_of(self, joint: str) -> tuple[float, ...]:
        fits = (std for part, std in self.config.pose_std.items() if part in joint)
        std = tuple(next(fits, (0.05, 0.3, 0.3)))
        if len(std) != 3:
            raise PhalanxError(
                f"task.env.pose_std has {len(std)} numbers for the joint {joint!r}; it needs three:"
                " standing, walking, running"
            )
        return std

    def compute_observations(self) -> Tensor:
        robot, base = self.robot, locomotion.observe_base(self.robot)
        self.base = base
        off = robot.joint_pos - self.default_pos
        start = [base.lin_vel_b, base.ang_vel_b, base.gravity_b]
        end = [robot.joint_vel, self.previous_actions, self.commands.values]
        self.seen = torch.cat([*start, off, *end], 1)
        return torch.cat([*start, off + self.encoder_bias, *end], 1)

    def reward_terms(self, base: locomotion.Base, pressed: Tensor) -> dict[str, Tensor]:
        robot, feet, sim, command = self.robot, self.feet, self.sim, self.commands.values
        size = command[:, :2].norm(dim=1) + command[:, 2].abs()
        moves, wanted = (size > STANDS).float(), self.config.foot_height
        pace = (size >= STANDS).long() + (size >= RUNS).long()
        low, high = robot.joint_limits.unbind(1)
        inside = 0.05 * (high - low)
        up = locomotion.rotation_matrix(sim.xquat[:, self.body])[:, 2, :2]
        momentum = sim.sensordata[:, self.momentum_at : self.momentum_at + 3]
        own = robot.self_contact_force.norm(dim=-1) if self.config.not_to_touch else command[:, :0]
        impact = (feet.forces(robot.contact_force).norm(dim=-1) * feet.landed).sum(1)
        lin = (command[:, :2] - base.lin_vel_b[:, :2]).square().sum(1)
        turn = (command[:, 2] - base.ang_vel_b[:, 2]).square()
        off = (robot.joint_pos - self.default_pos) / self.pose_std[pace]
        return {
            "track_lin_vel": torch.exp(-(lin + base.lin_vel_b[:, 2].square()) / 0.25),
            "track_ang_vel": torch.exp(-(turn + gait.squared(base.ang_vel_b[:, :2])) / 0.5),
            "upright": torch.exp(-up.square().sum(1) / 0.2),
            "pose": torch.exp(-off.square().mean(1)),
            "at_limit": gait.beyond(robot.joint_pos, low + inside, high - inside),
            "action_rate": gait.squared(self.actions - self.last_actions),
            "foot_clearance": ((feet.height - wanted).abs() * feet.speed).sum(1) * moves,
            "swing_height": ((feet.peak / wanted - 1).square() * feet.landed).sum(1) * moves,
            "slip": gait.slip(feet.speed, feet.contact) * moves,
            "soft_landing": impact * moves,
            "body_ang_vel": gait.squared(sim.cvel[:, self.body, :2]),
            "angular_momentum": gait.squared(momentum),
            "self_collision": self.config.substeps * (own > 10).any(1),
        }

    def reset_envs(self, mask: Tensor) -> None:
        """In environments `mask` (N,) bool, start in the pose `home`, a few cm above the ground."""
        super().reset_envs(mask)
        height = self.config.start_height + 0.01 + 0.04 * torch.rand_like(self.rew_buf)
        write_rows(self.robot.root_pos[:, 2], mask, height)

    def observation_layout(self) -> tuple[Term, ...]:
        return super().observation_layout()[:-1]  # without gait clock
