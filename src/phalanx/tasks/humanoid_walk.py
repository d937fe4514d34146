"""HumanoidWalk: a humanoid of 12 joints, all in its legs, walks forward for 20 s at 50 Hz.

    reward =  1    * forward        the base's velocity along its own x axis [m/s]
            + 1    * alive          1
            - 0.01 * effort         sum of squared torques, in units of 10 N m
            - 1    * tilt           squared sine of the angle between the base's z and the vertical

An episode ends when the base sinks below 0.55 m or tilts by more than 60 degrees (the reward of
that step still counts), or after 1000 steps. The action in [-1, 1] moves the target of a joint's
position servo by up to 0.5 rad from the default pose, in which the legs are slightly bent; see the
robot's file for gains. The reward prescribes no direction or speed: forward is where the base
faces.

Reward, observation and number of actions are those of an exercise for Isaac Gym and RL Games that
leaves the robot and the torques' unit open. With torques in N m the formula would reward a quick
fall (standing takes 1000 to 2000 N^2 m^2). With torques as fractions of their limits, 30 to 120 N
m, effort costs next to nothing: after 3 M training steps the humanoid shuffled in circles, at six
footsteps a second. Torques are those of the last physics step before the observation.

| observation           | width | unit       | scale | frame                                    |
|-----------------------|-------|------------|-------|------------------------------------------|
| base velocity         | 3     | m/s        | 1     | base                                     |
| base angular velocity | 3     | rad/s      | 1     | base                                     |
| joint positions       | 12    | rad        | 1     | joint, relative to the default pose      |
| joint velocities      | 12    | rad/s      | 1     | joint                                    |
| projected gravity     | 3     | -          | -     | base; (0, 0, -1) upright                 |
"""

import math
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from phalanx.compute.rows import write_rows
from phalanx.layout import ActionLayout, Term
from phalanx.sim import Scene
from phalanx.tasks import locomotion
from phalanx.tasks.task import Task, TaskConfig

DEFAULT_POSE = {"hip_pitch": -0.3, "knee": 0.6, "ankle_pitch": -0.3}
"""Angles of both legs' joints [rad], others 0: the feet are flat below the hips."""


@dataclass(frozen=True)
class HumanoidWalkConfig(TaskConfig):
    """Settings of `HumanoidWalk`."""

    clip_observations: float = 100.0
    dt: float = 1 / 50
    substeps: int = 4
    forward_weight: float = 1.0
    """Weight of the speed forwards."""
    alive_weight: float = 1.0
    """Weight of being alive."""
    torque_cost: float = 0.01
    """Weight of the torques."""
    tilt_cost: float = 1.0
    """Weight of the torso's tilt."""
    turn_cost: float = 0.0
    """Weight of the squared yaw rate [rad^2/s^2]; the exercise has no such term."""
    torque_unit: float = 10.0
    """Unit of the torques in the reward [N m]."""
    action_scale: float = 0.5
    """How far an action of 1 moves a servo's target from the default pose [rad]."""
    termination_height: float = 0.55
    """Height of the base below which the humanoid has fallen [m]; it stands at 0.80 m."""
    termination_tilt: float = 60.0
    """Angle between the base's z axis and the vertical above which it has fallen [degrees]."""
    reset_joint_pos: float = 0.1
    """Largest initial distance of a joint from the default pose [rad]."""
    reset_velocity: float = 0.2
    """Largest initial velocity of every degree of freedom [m/s or rad/s]."""
    asset: str = str(Path(__file__).parent / "assets" / "walker.xml")
    """MJCF file with 12 position servos in the order of the joints, left leg first."""


class HumanoidWalk(Task):
    """Walk forward on two legs of six joints."""

    Config = HumanoidWalkConfig
    config: HumanoidWalkConfig
    num_obs = 33
    num_actions = 12

    def create_scene(self) -> Scene:
        # Enough for a converged solution: in 30,000 physics steps with random actions the solver
        # never took more than 7 iterations. With at most 6 the worst velocity error is 0.1 rad/s,
        # with 5 it is 1.1, with 4 it is 2.5 (one step in 30 is off by more than a percent).
        scene = Scene(self.config.dt / self.config.substeps, iterations=8, ls_iterations=16)
        scene.add_ground()
        scene.add_actor("humanoid", self.config.asset, pos=(0, 0, 0.80))
        return scene

    def init_buffers(self) -> None:
        self.humanoid = self.sim.actor("humanoid")
        self.default_pos = torch.tensor(
            [DEFAULT_POSE.get(n.split("_", 1)[1], 0.0) for n in self.humanoid.joint_names],
            device=self.device,
        )
        limits = torch.tensor(self.sim.model.actuator_forcerange[:, 1], dtype=torch.float32)
        self.torque_limit = limits.to(self.device)

    def pre_physics_step(self, actions: Tensor) -> None:
        self.sim.ctrl.copy_(self.default_pos + self.config.action_scale * actions)

    def compute_observations(self) -> Tensor:
        robot = self.humanoid
        base = self.base = locomotion.observe_base(robot)
        return torch.cat(
            [
                base.lin_vel_b,
                base.ang_vel_b,
                robot.joint_pos - self.default_pos,
                robot.joint_vel,
                base.gravity_b,
            ],
            dim=1,
        )

    def compute_reward(self) -> tuple[Tensor, Tensor]:
        base = self.base  # in the state that was just observed
        terms = self.reward_terms(base)
        reward = torch.stack(list(terms.values())).sum(0)
        low = base.height < self.config.termination_height
        tilted = base.up < math.cos(math.radians(self.config.termination_tilt))
        self.log_terms(terms, {"low": low, "tilted": tilted & ~low})
        return reward, low | tilted

    def reward_terms(self, base: locomotion.Base) -> dict[str, Tensor]:
        """Each (N,), weighted; their sum is the reward."""
        config = self.config
        torque = self.sim.actuator_force / config.torque_unit
        return {
            "forward": config.forward_weight * base.lin_vel_b[:, 0],
            "alive": torch.full_like(base.up, config.alive_weight),
            "effort": -config.torque_cost * (torque**2).sum(1),
            "tilt": -config.tilt_cost * (base.gravity_b[:, :2] ** 2).sum(1),
            "turn": -config.turn_cost * base.ang_vel_b[:, 2] ** 2,
        }

    def reset_envs(self, mask: Tensor) -> None:
        """In environments `mask` (N,) bool, start near the default pose and almost at rest, with
        the feet on the ground or just above it."""
        robot, config = self.humanoid, self.config
        lower, upper = robot.joint_limits.unbind(1)
        noise = config.reset_joint_pos * (2 * torch.rand_like(robot.joint_pos) - 1)
        new_pos = (self.default_pos + noise).clamp(lower, upper)
        new_vel = config.reset_velocity * (2 * torch.rand_like(self.sim.qvel) - 1)
        write_rows(robot.joint_pos, mask, new_pos)
        write_rows(self.sim.qvel, mask, new_vel)

    def observation_layout(self) -> tuple[Term, ...]:
        joints = self.humanoid.joint_names
        return (
            Term("base_lin_vel"),
            Term("base_ang_vel"),
            Term("joint_pos", elements=joints, offset=self.default_pos),
            Term("joint_vel", elements=joints),
            Term("projected_gravity"),
        )

    def action_layout(self) -> ActionLayout:
        joints, scale = self.humanoid.joint_names, self.config.action_scale
        return ActionLayout("position", joints, scale=scale, offset=self.default_pos)
