"""Robots with legs walk at a commanded velocity, at 50 Hz for 20 s.

A command is a velocity over the ground and a rate of turning, see `commands.py`. The reward of a
step is the sum of the terms in `velocity_rewards.py`, times their weights (`velocity_settings.py`)
and the time of a step; the log shows each mean per second, as `reward/<term>`.

An episode ends when the base tilts by more than `fall_tilt`, or when a body of `falls_on` touches
anything; the log shows the share of each cause, as `ends/<cause>`. An action of 1 moves the target
of a joint's servo by `action_scale` from the pose `home` of the robot's file, or so far that the
servo pulls with `action_effort` of its largest torque; actions stay within `clip_actions`.

With `terrain=rough` the ground is that of `terrain.py`, and a robot that comes to its end is out of
time.

| observation           | unit       | frame                                                 |
|-----------------------|------------|-------------------------------------------------------|
| base velocity         | m/s        | base; only with `observe_lin_vel`                     |
| base angular velocity | rad/s      | base                                                  |
| projected gravity     | -          | base; (0, 0, -1) upright                              |
| joint positions       | rad        | joint, relative to the pose `home`                    |
| joint velocities      | rad/s      | joint                                                 |
| previous action       | -          |                                                       |
| command               | m/s, rad/s | velocity along the base's x and y, rate about z       |
| gait clock            | -          | sine and cosine of the stride's phase, 0 while still; |
|                       |            | only with `gait_clock`                                |
| height scan           | m          | ground below the base, less `scan_offset`; rough only |

Noise, latency, pushes and other randomisation are on by default, see `cfg/task/<Task>.yaml`.
"""

import functools
import math
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any, ClassVar

import torch
from torch import Tensor

from phalanx.errors import PhalanxError
from phalanx.layout import ActionLayout, Term
from phalanx.sim import Scene
from phalanx.tasks import locomotion, rays
from phalanx.tasks.checks import check_free, check_named
from phalanx.tasks.commands import VelocityCommands
from phalanx.tasks.feet import TOUCHES, Feet
from phalanx.tasks.gait_clock import GaitClock
from phalanx.tasks.mirror import Mirror, walking_mirrors
from phalanx.tasks.task import Task
from phalanx.tasks.terrain import Terrain, TerrainMap
from phalanx.tasks.velocity_rewards import reward_terms
from phalanx.tasks.velocity_settings import VelocityConfig
from phalanx.tasks.weighted_terms import WeightedTerms


class Velocity(Task):
    """Walk at a commanded velocity."""

    Config: ClassVar[type[VelocityConfig]] = VelocityConfig
    config: VelocityConfig
    num_obs = 0  # both follow from the robot's file
    num_actions = 0
    optional_terms = ("base_lin_vel", "gait_clock", "height_scan")
    default_num_envs: ClassVar[dict[str, int]] = {"cpu": 1024, "cuda": 4096}

    def create_scene(self) -> Scene:
        config, ground = self.config, self.config.ground()
        scene = Scene(config.dt / config.substeps, iterations=10, ls_iterations=20)
        self.map = TerrainMap(ground) if ground else None
        self.map.add_to(scene) if self.map else scene.add_ground()
        self.num_actions = self.add_robot(scene)
        named = {k: getattr(config, k) for k in ("feet", "falls_on", "not_to_touch")}
        locomotion.check_bodies(scene, "robot", **named)
        bodies = dict.fromkeys(body for names in named.values() for body in names)
        scene.add_contact_force_sensors("robot", bodies)
        self.scan_points = rays.scan_grid(config.scan_size, 0.1, self.device)
        self.slope_points = rays.scan_grid((1.6, 1.0), 0.2, self.device)
        scan, blind = len(self.scan_points) * bool(ground), 3 * (not config.observe_lin_vel)
        rest = 12 + 2 * config.gait_clock + 3 * self.num_actions
        states = rest + scan + 6 * len(config.feet)
        self.own = slice(blind, rest + scan * config.scans())
        self.num_obs = states if config.teacher else self.own.stop - blind
        self.num_states = states * config.privileged
        return scene

    def add_robot(self, scene: Scene) -> int:
        """Put the actor `robot` into a scene, with a servo on each joint in the joints' order.
        Returns the number of servos."""
        config = self.config
        robot = scene.add_actor(
            "robot", config.asset, keyframe="home", self_collisions=config.self_collisions
        )
        return len(robot.spec.actuators)

    def init_buffers(self) -> None:
        config, self.robot = self.config, self.sim.actor("robot")
        own = type(self).pre_physics_step is not Velocity.pre_physics_step  # may command torques
        locomotion.check_robot(self.robot, config.asset, self.actuators, motors=own)
        start = torch.tensor(self.sim.model.key("initial").qpos, dtype=torch.float32)
        self.start_pos, _, self.default_pos = start.to(self.device).split([3, 4, len(start) - 7])
        offset = config.scan_offset
        self.scan_offset = float(self.start_pos[2]) if offset is None else offset
        self.action_scale: Tensor | float = config.action_scale
        if config.action_effort:
            part = config.action_effort
            self.action_scale = locomotion.effort_scale(self.robot, config.asset, part)
        self.commands = VelocityCommands(self, config.commands, self.map is not None)
        self.feet = Feet(self, "robot", config.feet, config.foot_radius, config.foot_place)
        self.terrain = Terrain(self, self.map) if self.map else None
        self.clock = GaitClock(self, config.gait_hz, config.gait_offsets, config.stance)
        self.falls_on, self.not_to_touch = map(self.places, (config.falls_on, config.not_to_touch))
        no_actions = torch.zeros(self.num_envs, self.num_actions, device=self.device)
        self.actions = self.state("actions", no_actions)
        self.last_actions = self.state("last_actions", no_actions.clone())
        home = float(self.start_pos[2])
        self.wanted_height = home if config.base_height is None else config.base_height
        weights = asdict(config.rewards)
        if not config.gait_clock:
            usual = asdict(type(config)().rewards)
            for name in ("in_step", "swing_height"):
                if (weight := weights.get(name, 0.0)) not in (0.0, usual.get(name)):
                    raise PhalanxError(
                        f"task.env.rewards.{name} is {weight:g}, but task.env.gait_clock is false;"
                        " this term needs the gait clock"
                    )
                weights[name] = 0.0
        self.reward = WeightedTerms(self, weights, config.costs)

    def places(self, bodies: Sequence[str]) -> Tensor:
        """Of bodies among those with contact sensors, on the device, as CUDA graphs need them."""
        places = self.robot.contact_places(bodies) if bodies else []
        return torch.tensor(places, dtype=torch.long, device=self.device)

    def pre_physics_step(self, actions: Tensor) -> None:
        self.last_actions.copy_(self.actions)
        self.actions.copy_(self.previous_actions)
        self.sim.ctrl.copy_(self.default_pos + self.action_scale * actions)

    def post_physics_step(self) -> None:
        self.feet.update(self.robot.contact_force, self.terrain)
        super().post_physics_step()

    def compute_observations(self) -> Tensor:
        robot = self.robot
        base = self.base = locomotion.observe_base(robot)
        parts = [base.lin_vel_b, base.ang_vel_b, base.gravity_b, robot.joint_pos - self.default_pos]
        parts += [robot.joint_vel, self.previous_actions, self.commands.values]
        if self.config.gait_clock:
            parts += [self.clock.observe(self.commands.moving)]
        if self.terrain:
            below = rays.height_scan(self.terrain, robot.root_pos, base.yaw, self.scan_points)
            parts += [(below - self.scan_offset).clamp(-1, 1)]
        self.seen = torch.cat(parts, dim=1)
        return self.compute_states() if self.config.teacher else self.seen[:, self.own]

    def compute_states(self) -> Tensor:
        """All that was seen, without noise, and the feet, (N, num_states)."""
        feet = self.feet.observe(self.robot.contact_force, self.terrain)
        return torch.cat([self.seen, feet], 1)

    def compute_reward(self) -> tuple[Tensor, Tensor]:
        base = self.base  # of the state that was just observed, as the forces are
        pressed = self.pressing().norm(dim=-1) > TOUCHES
        ends, terms = self.falls(base, pressed), self.reward_terms(base, pressed)
        if self.terms.empty:
            self._check_returned(ends, terms)
        causes = ends.values() or [torch.zeros_like(self.terminated)]
        fallen = functools.reduce(torch.logical_or, causes)
        terms = {**terms, "fall": fallen.float()}
        ends = {**ends, "edge": self.follow_terrain() & ~fallen}
        weighted = self.reward(terms)
        self.log_terms(weighted, ends, {"commands/part": self.commands.part})
        self.clock.step(self.commands.moving)
        self.commands.step(base.yaw, terms.get("track_lin_vel"))  # observed from the next step on
        return self.reward.total(weighted), fallen

    def falls(self, base: locomotion.Base, pressed: Tensor) -> dict[str, Tensor]:
        """What ends an episode as a fall, (N,) bool each, by the name of the cause. pressed: (N, C)
        bool, which of the bodies with contact sensors touch something."""
        return {
            "tilt": base.up < math.cos(math.radians(self.config.fall_tilt)),
            "contact": pressed[:, self.falls_on].any(1),
        }

    def _check_returned(self, ends: Any, terms: Any) -> None:
        """Raise PhalanxError for what `falls` and `reward_terms` of a subclass must not return."""
        falls, rewards = (
            f"{type(self).__name__}.{hook} returns" for hook in ("falls", "reward_terms")
        )
        check_named(self.terminated, falls, "cause", ends, boolean=True)
        check_free(f"{falls} the cause", ends, ["edge", "time"])
        check_named(self.terminated, rewards, "term", terms)
        check_free(f"{rewards} the term", terms, ["fall"])

    def pressing(self) -> Tensor:
        """(N, C, 3) [N], world frame: what counts for falls and costs of the forces on bodies with
        contact sensors."""
        return self.robot.contact_force

    def above_ground(self) -> Tensor:
        """(N,) how high the bases are above the ground below them [m]."""
        if not self.terrain:
            return self.base.height
        return self.base.height - self.terrain.height(self.robot.root_pos[:, :2])

    def follow_terrain(self) -> Tensor:
        """(N,) bool: at the end of the ground, where a robot's time is over."""
        if not self.terrain:
            return torch.zeros_like(self.terminated)
        self.terrain.step(self.robot.root_pos, self.base.yaw, self.commands.values[:, :2])
        outside = self.terrain.outside(self.robot.root_pos)
        self.progress_buf.masked_fill_(outside, self.config.episode_length)
        return outside

    def reward_terms(self, base: locomotion.Base, pressed: Tensor) -> dict[str, Tensor]:
        """(N,) each, not weighted, by the names of the weights; pressed as in `falls`."""
        return reward_terms(self, base, pressed)

    def reset_envs(self, mask: Tensor) -> None:
        """In environments `mask` (N,) bool, start near the pose `home`, facing anywhere, slowly."""
        origins, near = None, (self.config.reset_joint_pos, self.config.reset_velocity)
        if self.terrain:
            self.terrain.begin(mask)
            origins = self.terrain.start + self.start_pos
        locomotion.reset_near(self.robot, mask, self.default_pos, *near, origins)
        at = mask[:, None]
        self.actions.masked_fill_(at, 0.0)
        self.last_actions.masked_fill_(at, 0.0)
        for part in (self.commands, self.clock, self.feet):
            part.begin(mask)

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """See `Task`. How well commands are followed starts at 0 where `grow_at` is new, and is
        left out where it is null now."""
        name, past = "commands_followed", state.get("task")
        if isinstance(past, dict):
            past = {k: v for k, v in past.items() if k != name or name in self._state}
            new = {name: torch.zeros(())} if name in self._state else {}
            state = {**state, "task": new | past}
        super().load_state_dict(state)

    def give_command(self, values: Sequence[float]) -> None:
        self.commands.give(values)

    def scalars(self) -> dict[str, float]:
        """See `Task`."""
        return super().scalars() | (self.terrain.scalars() if self.terrain else {})

    def mirrors(self) -> tuple[Mirror, Mirror]:
        return walking_mirrors(self)

    def observation_layout(self) -> tuple[Term, ...]:
        joints, config, scan = self.robot.joint_names, self.config, len(self.scan_points)
        return (
            *((Term("base_lin_vel"),) if config.observe_lin_vel or config.teacher else ()),
            Term("base_ang_vel"),
            Term("projected_gravity"),
            Term("joint_pos", elements=joints, offset=self.default_pos),
            Term("joint_vel", elements=joints),
            Term("previous_action", size=self.num_actions),
            self.commands.term(),
            *((Term("gait_clock", elements=("sin", "cos")),) if config.gait_clock else ()),
            *((Term("height_scan", size=scan, unit="m"),) if config.scans() else ()),
            *((Term("feet", size=6 * len(config.feet)),) if config.teacher else ()),
        )

    def action_layout(self) -> ActionLayout:
        scale, home = self.action_scale, self.default_pos
        return ActionLayout("position", self.robot.joint_names, scale=scale, offset=home)
