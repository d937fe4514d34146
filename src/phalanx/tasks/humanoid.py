"""Humanoid: a robot of 21 joints runs on two legs towards a target 1000 m away along x, at 60 Hz.

    reward =  1    * progress       speed towards the target [m/s]
            + 2    * alive          1
            + 0.1  * upright        1 while the torso tilts less than 21 degrees
            + 0.5  * facing         1 within 37 degrees of the target, then falling to -1.25
            - 0.01 * effort         sum of squared actions
            - 0.05 * power          sum of |action * 0.1 joint velocity| * strength
            - 0.25 * at_limit       sum of the joints' progress through the last percent of their
                                    range (0 to 1, more beyond the limit) * strength
            -1 instead, if the torso is below 0.8 m

strength is a motor's torque divided by that of the strongest. An episode ends when the torso is
below 0.8 m, or after 1000 steps.
The action in [-1, 1] is a torque of +-22.5 (ankles) to +-135 N m (hips' y) at each joint.
Observations, reward and robot are those of IsaacGymEnvs' Humanoid, with these differences: the
direction of the target is the horizontal one (there z is used for y); and the forces are MuJoCo's.

| observation           | width | unit       | scale | frame                                    |
|-----------------------|-------|------------|-------|------------------------------------------|
| torso height          | 1     | m          | 1     | world                                    |
| torso velocity        | 3     | m/s        | 1     | torso                                    |
| torso angular velocity| 3     | rad/s      | 0.25  | torso                                    |
| yaw, roll             | 2     | rad        | 1     | world                                    |
| angle to target       | 1     | rad        | 1     | horizontal, from the yaw                 |
| up, heading           | 2     | cosine     | 1     | torso's z and vertical, x and target     |
| joint positions       | 21    | -          | -     | -1 at the lower limit, 1 at the upper    |
| joint velocities      | 21    | rad/s      | 0.1   | joint                                    |
| joint torques         | 21    | N m        | 0.01  | joint; of motor, limit and contacts      |
| foot forces, torques  | 2 x 6 | N, N m     | 0.01  | foot; transmitted to the shin            |
| actions               | 21    | -          | 1     | of the previous step, 0 after a reset    |
"""

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from phalanx.layout import ActionLayout, Term
from phalanx.sim import Scene
from phalanx.tasks import locomotion
from phalanx.tasks.task import Task, TaskConfig


@dataclass(frozen=True)
class HumanoidConfig(TaskConfig):
    """Settings of `Humanoid`."""

    clip_observations: float = 100.0
    alive_weight: float = 2.0
    """Weight of being alive, of the reward."""
    up_weight: float = 0.1
    """Weight of an upright torso."""
    heading_weight: float = 0.5
    """Weight of facing the target."""
    actions_cost: float = 0.01
    """Weight of the sum of squared actions."""
    energy_cost: float = 0.05
    """Weight of the joints' power."""
    joints_at_limit_cost: float = 0.25
    """Weight of joints near their upper limit."""
    death_cost: float = -1.0
    """Reward for the step in which the humanoid falls."""
    termination_height: float = 0.8
    """Torso height below which it has fallen [m]."""
    dof_velocity_scale: float = 0.1
    """Factor on joint velocities [rad/s] in observations and in the power."""
    angular_velocity_scale: float = 0.25
    """Factor on the torso's angular velocity [rad/s] in observations."""
    contact_force_scale: float = 0.01
    """Factor on forces [N] and torques [N m] in observations."""
    asset: str = str(Path(__file__).parent / "assets" / "humanoid.xml")
    """MJCF file with 21 motors in the order of the joints and 2 force and torque sensors."""


class Humanoid(Task):
    """Run on two legs towards a far target."""

    Config = HumanoidConfig
    config: HumanoidConfig
    num_obs = 108
    num_actions = 21

    def create_scene(self) -> Scene:
        # Enough for a converged solution: in 1440 steps of random torques the solver took 3
        # iterations on average and never more than 9. With at most 8 the worst velocity error is
        # 0.2 rad/s, with 6 it is 27 (one step in 50 is off by more than a percent).
        scene = Scene(self.config.dt / self.config.substeps, iterations=10, ls_iterations=20)
        scene.add_ground()
        scene.add_actor("humanoid", self.config.asset, pos=(0, 0, 1.34))
        return scene

    def init_buffers(self) -> None:
        self.humanoid = self.sim.actor("humanoid")
        no_actions = torch.zeros(self.num_envs, self.num_actions, device=self.device)
        self.actions = self.state("actions", no_actions)
        self.distance = self.state("distance", torch.zeros(self.num_envs, device=self.device))
        gears = torch.tensor(self.sim.model.actuator_gear[:, 0], dtype=torch.float32)
        self.max_torque = gears.to(self.device)
        self.strength = self.max_torque / gears.max()

    def pre_physics_step(self, actions: Tensor) -> None:
        self.actions.copy_(actions)
        self.sim.ctrl.copy_(actions)

    def compute_observations(self) -> Tensor:
        config, robot = self.config, self.humanoid
        torso = self.torso = locomotion.observe_torso(robot)
        angles = [torso.yaw, torso.roll, torso.angle_to_target, torso.up, torso.heading]
        torque = self.actions * self.max_torque + self.sim.qfrc_constraint[:, 6:]
        stepped = self.progress_buf[:, None] > 0  # at 0, forces are of another episode
        return torch.cat(
            [
                torso.height[:, None],
                torso.lin_vel_b,
                torso.ang_vel_b * config.angular_velocity_scale,
                torch.stack(angles, 1),
                locomotion.scaled_to_limits(robot.joint_pos, robot.joint_limits),
                robot.joint_vel * config.dof_velocity_scale,
                torch.where(stepped, torque * config.contact_force_scale, 0.0),
                self.sim.sensordata * config.contact_force_scale,
                self.previous_actions,
            ],
            dim=1,
        )

    def compute_reward(self) -> tuple[Tensor, Tensor]:
        torso = self.torso  # in the state that was just observed
        fallen = torso.height < self.config.termination_height
        terms = self.reward_terms(torso)
        reward = torch.stack(list(terms.values())).sum(0)
        self.log_terms(terms, {"fallen": fallen})
        self.distance.copy_(torso.distance)
        return torch.where(fallen, self.config.death_cost, reward), fallen

    def reward_terms(self, torso: locomotion.Torso) -> dict[str, Tensor]:
        """Each (N,), weighted; their sum is the reward while the humanoid stands."""
        config, actions, robot = self.config, self.actions, self.humanoid
        power = (actions * robot.joint_vel * config.dof_velocity_scale).abs() @ self.strength
        joint_pos = locomotion.scaled_to_limits(robot.joint_pos, robot.joint_limits)
        at_limit = ((joint_pos.abs() - 0.98) / 0.02).clamp(min=0) @ self.strength
        return {
            "progress": (self.distance - torso.distance) / config.dt,
            "alive": torch.full_like(torso.up, config.alive_weight),
            "upright": config.up_weight * locomotion.upright(torso.up),
            "facing": config.heading_weight * locomotion.facing(torso.heading),
            "effort": -config.actions_cost * (actions**2).sum(1),
            "power": -config.energy_cost * power,
            "at_limit": -config.joints_at_limit_cost * at_limit,
        }

    def reset_envs(self, mask: Tensor) -> None:
        """In environments `mask` (N,) bool, start with joints within 0.2 rad of zero, inside their
        limits and slow, otherwise at rest."""
        locomotion.reset_joints_uniform(self.humanoid, mask, pos=0.2, vel=0.1)
        self.actions.masked_fill_(mask[:, None], 0.0)
        self.distance.masked_fill_(mask, locomotion.TARGET_DISTANCE)

    def observation_layout(self) -> tuple[Term, ...]:
        config, joints, limits = self.config, self.humanoid.joint_names, self.humanoid.joint_limits
        scales = (config.angular_velocity_scale, config.dof_velocity_scale)
        return (
            *locomotion.torso_and_joint_terms(joints, limits, *scales),
            Term("joint_torques", "", joints, unit="N m", scale=config.contact_force_scale),
            *locomotion.foot_terms(self.sim, config.contact_force_scale),
            Term("previous_action", elements=joints),
        )

    def action_layout(self) -> ActionLayout:
        return locomotion.motor_layout(self.humanoid)
