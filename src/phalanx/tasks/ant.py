"""Ant: a four-legged robot runs towards a target 1000 m away along x, at 60 Hz.

    reward =  1     * progress       speed towards the target [m/s]
            + 0.5   * alive          1
            + 0.1   * upright        1 while the torso tilts less than 21 degrees
            + 0.5   * facing         1 within 37 degrees of the target, then falling to -1.25
            - 0.005 * effort         sum of squared actions
            - 0.05  * power          sum of |action * 0.2 joint velocity|
            - 0.1   * at_limit       joints in the last half percent before their upper limit
            -2 instead, if the torso is below 0.31 m

An episode ends when the torso is below 0.31 m, or after 1000 steps. The action in [-1, 1] is a
torque of +-15 N m at each joint. Observations, reward and robot are those of IsaacGymEnvs' Ant,
with these differences: all angles are in [-pi, pi] (there yaw and roll jump from 0 to 2 pi); the
direction of the target is the horizontal one (there z is used for y); and the feet's forces are
MuJoCo's.

| observation           | width | unit       | scale | frame                                    |
|-----------------------|-------|------------|-------|------------------------------------------|
| torso height          | 1     | m          | 1     | world                                    |
| torso velocity        | 3     | m/s        | 1     | torso                                    |
| torso angular velocity| 3     | rad/s      | 1     | torso                                    |
| yaw, roll             | 2     | rad        | 1     | world                                    |
| angle to target       | 1     | rad        | 1     | horizontal, from the yaw                 |
| up, heading           | 2     | cosine     | 1     | torso's z and vertical, x and target     |
| joint positions       | 8     | -          | -     | -1 at the lower limit, 1 at the upper    |
| joint velocities      | 8     | rad/s      | 0.2   | joint                                    |
| foot forces, torques  | 4 x 6 | N, N m     | 0.1   | foot; transmitted to the leg             |
| actions               | 8     | -          | 1     | of the previous step, 0 after a reset    |
"""

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import torch
from torch import Tensor

from phalanx.layout import ActionLayout, Term
from phalanx.sim import Scene
from phalanx.tasks import locomotion
from phalanx.tasks.task import Task, TaskConfig


@dataclass(frozen=True)
class AntConfig(TaskConfig):
    """Settings of `Ant`."""

    clip_observations: float = 100.0
    alive_weight: float = 0.5
    """Weight of being alive, of the reward."""
    up_weight: float = 0.1
    """Weight of an upright torso."""
    heading_weight: float = 0.5
    """Weight of facing the target."""
    actions_cost: float = 0.005
    """Weight of the sum of squared actions."""
    energy_cost: float = 0.05
    """Weight of the joints' power."""
    joints_at_limit_cost: float = 0.1
    """Weight of joints near their upper limit."""
    death_cost: float = -2.0
    """Reward for the step in which the ant falls."""
    termination_height: float = 0.31
    """Torso height below which it has fallen [m]."""
    dof_velocity_scale: float = 0.2
    """Factor on joint velocities [rad/s] in observations and in the power."""
    contact_force_scale: float = 0.1
    """Factor on forces [N] and torques [N m] in observations."""
    asset: str = str(Path(__file__).parent / "assets" / "ant.xml")
    """MJCF file with 8 motors in the order of the joints and 4 force and torque sensors."""


class Ant(Task):
    """Run on four legs towards a far target."""

    Config = AntConfig
    config: AntConfig
    num_obs = 60
    num_actions = 8
    default_num_envs: ClassVar[dict[str, int]] = {"cpu": 1024, "cuda": 4096}

    def create_scene(self) -> Scene:
        # Enough for a converged solution: in 1440 steps of random torques the solver took 2
        # iterations on average and never more than 6. With at most 5 the worst velocity error is
        # 0.003 rad/s, with 4 it is 2.4, with 3 it is 35. The motors' torque does not depend on
        # velocity, so Euler gives the same as implicitfast and takes 5 % less time on a CPU.
        timestep = self.config.dt / self.config.substeps
        scene = Scene(timestep, integrator="euler", iterations=6, ls_iterations=10)
        scene.add_ground()
        scene.add_actor("ant", self.config.asset, pos=(0, 0, 0.44), self_collisions=False)
        return scene

    def init_buffers(self) -> None:
        self.ant = self.sim.actor("ant")
        no_actions = torch.zeros(self.num_envs, self.num_actions, device=self.device)
        self.actions = self.state("actions", no_actions)
        self.distance = self.state("distance", torch.zeros(self.num_envs, device=self.device))

    def pre_physics_step(self, actions: Tensor) -> None:
        self.actions.copy_(actions)
        self.sim.ctrl.copy_(actions)

    def compute_observations(self) -> Tensor:
        torso = self.torso = locomotion.observe_torso(self.ant)
        angles = [torso.yaw, torso.roll, torso.angle_to_target, torso.up, torso.heading]
        return torch.cat(
            [
                torso.height[:, None],
                torso.lin_vel_b,
                torso.ang_vel_b,
                torch.stack(angles, 1),
                locomotion.scaled_to_limits(self.ant.joint_pos, self.ant.joint_limits),
                self.ant.joint_vel * self.config.dof_velocity_scale,
                self.sim.sensordata * self.config.contact_force_scale,
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
        """Each (N,), weighted; their sum is the reward while the ant stands."""
        config, actions = self.config, self.actions
        joint_pos = locomotion.scaled_to_limits(self.ant.joint_pos, self.ant.joint_limits)
        power = (actions * self.ant.joint_vel * config.dof_velocity_scale).abs().sum(1)
        return {
            "progress": (self.distance - torso.distance) / self.config.dt,
            "alive": torch.full_like(torso.up, config.alive_weight),
            "upright": config.up_weight * locomotion.upright(torso.up),
            "facing": config.heading_weight * locomotion.facing(torso.heading),
            "effort": -config.actions_cost * (actions**2).sum(1),
            "power": -config.energy_cost * power,
            "at_limit": -config.joints_at_limit_cost * (joint_pos > 0.99).sum(1),
        }

    def reset_envs(self, mask: Tensor) -> None:
        """In environments `mask` (N,) bool, start with joints slow and within 0.2 rad of zero or of
        the limit nearest to it, otherwise at rest."""
        locomotion.reset_joints_uniform(self.ant, mask, pos=0.2, vel=0.1)
        self.actions.masked_fill_(mask[:, None], 0.0)
        self.distance.masked_fill_(mask, locomotion.TARGET_DISTANCE)

    def observation_layout(self) -> tuple[Term, ...]:
        config, joints, limits = self.config, self.ant.joint_names, self.ant.joint_limits
        return (
            *locomotion.torso_and_joint_terms(joints, limits, 1.0, config.dof_velocity_scale),
            *locomotion.foot_terms(self.sim, config.contact_force_scale),
            Term("previous_action", elements=joints),
        )

    def action_layout(self) -> ActionLayout:
        return locomotion.motor_layout(self.ant)
