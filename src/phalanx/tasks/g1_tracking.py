"""G1Tracking: Unitree's G1 follows a motion clip, by the formulation of BeyondMimic.

    phalanx train task=G1Tracking task.env.motion_file=[dance.csv]

Terms, widths and weights are those of mjlab 1.6's task, see `tracking_rewards.py`. Starts are less
far from the clip, and instead of its term of self-collisions (-10) there is BeyondMimic's of
undesired contacts, which has no weight at first: without `self_collisions` this G1 does not touch
itself. With them its elbows and hands touch head, trunk, thighs, knees and each other, its shins
and feet those of the other leg.

An episode ends early when the height of the trunk, an ankle or a wrist is off by more than 25 cm,
or the trunk's tilt by more than 0.8 of gravity; at the end of a clip it is out of time. Episodes
begin anywhere in a clip, more often where the robot failed lately. An action moves a servo's target
from the pose `home`, by a quarter of the angle at which the torque reaches its limit.

| observation           | unit       | frame                                                |
|-----------------------|------------|------------------------------------------------------|
| reference             | rad, rad/s | joint positions and velocities of the reference      |
| anchor position       | m          | of the reference's trunk, in the robot's             |
| anchor orientation    | -          | of the same: first two columns of its matrix         |
| base velocity         | m/s        | base                                                 |
| base angular velocity | rad/s      | base                                                 |
| joint positions       | rad        | joint, relative to the pose `home`                   |
| joint velocities      | rad/s      | joint                                                |
| previous action       | -          |                                                      |

With `privileged` a central value sees the same without noise, then where the 14 bodies are, (14, 3)
[m], and the first two columns of their matrices, (14, 6), all in the frame of the robot's trunk:
286 numbers, as in mjlab.
"""

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import ClassVar

import torch
from torch import Tensor

from phalanx.compute.rows import write_rows
from phalanx.layout import ActionLayout, Term
from phalanx.sim import Scene
from phalanx.tasks import gait_rewards as gait
from phalanx.tasks import tracking_rewards as track
from phalanx.tasks.locomotion import check_robot, effort_scale
from phalanx.tasks.mirror import Mirror, joined, joint_mirror, layout_mirror, of_vectors
from phalanx.tasks.reference_motion import ReferenceMotion
from phalanx.tasks.start_frames import StartFrames
from phalanx.tasks.task import Task, TaskConfig
from phalanx.tasks.tracking_rewards import Weights
from phalanx.tasks.weighted_terms import WeightedTerms

ASSETS = Path(__file__).parent / "assets"
SIDES = ("hip_roll", "knee", "ankle_roll", "shoulder_roll", "elbow", "wrist_yaw")
BODIES = ("torso_link", "pelvis", *(f"{s}_{b}_link" for b in SIDES for s in ("left", "right")))
"""The bodies that follow the reference, the anchor first."""
ENDS = [k for k, b in enumerate(BODIES) if "ankle_roll" in b or "wrist_yaw" in b]
"""Bodies whose height ends an episode."""
ARMS = [f"{s}_{b}_link" for s in ("left", "right") for b in ("elbow", "wrist_yaw")]
ARM_BIT = 8
"""Of contype and conaffinity in `g1.xml`: of what an arm may touch."""


@dataclass(frozen=True)
class G1TrackingConfig(TaskConfig):
    """Settings of `G1Tracking`."""

    episode_length: int = 500
    clip_observations: float = 100.0
    spread_starts: bool = True
    clip_actions: float = 100.0
    dt: float = 1 / 50
    substeps: int = 4
    rewards: Weights = field(default_factory=Weights)
    motion_file: tuple[str, ...] = (str(ASSETS / "g1_squat.json"),)
    """Clips, in a format that `phalanx.motion` reads."""
    asset: str = str(ASSETS / "g1.xml")
    """MJCF file with a position servo on each joint, in their order, and a keyframe `home`."""
    self_collisions: bool = False
    """Whether the robot's bodies touch each other, where its file lets them."""
    privileged: bool = False
    """Whether there are states for a critic of its own, see `compute_states`."""


class G1Tracking(Task):
    """Unitree's G1 follows motion clips."""

    Config = G1TrackingConfig
    config: G1TrackingConfig
    num_obs = 160
    num_actions = 29
    default_num_envs: ClassVar[dict[str, int]] = {"cpu": 512, "cuda": 4096}

    def create_scene(self) -> Scene:
        config = self.config
        scene = Scene(config.dt / config.substeps, iterations=10, ls_iterations=20)
        scene.add_ground()
        own = config.self_collisions
        scene.add_actor("robot", config.asset, keyframe="home", self_collisions=own)
        shapes = [(g, g.parent.name.removeprefix("robot/")) for g in scene.spec.geoms]
        for shape, body in shapes if own else ():
            if body in ARMS:
                shape.contype |= shape.conaffinity & ARM_BIT
        if config.rewards.undesired_contacts:
            may = {"world", *(BODIES[k] for k in ENDS)}  # touch something
            bodies = dict.fromkeys(b for g, b in shapes if g.conaffinity and b not in may)
            scene.add_contact_force_sensors("robot", bodies)
        self.num_states = (self.num_obs + 9 * len(BODIES)) * config.privileged
        return scene

    def init_buffers(self) -> None:
        config, sim = self.config, self.sim
        self.robot = robot = sim.actor("robot")
        check_robot(robot, config.asset, self.actuators)
        home = torch.tensor(sim.model.key("initial").qpos, dtype=torch.float32)
        self.default_pos = home[7:].to(self.device)
        self.action_scale = effort_scale(robot, config.asset, 0.25)
        self.reference = ReferenceMotion(
            config.motion_file, config.asset, robot.joint_names, BODIES, sim.dt, self.device
        )
        places = [robot.body_names.index(b) for b in BODIES]
        self.places = torch.tensor(places, device=self.device)
        self.ends = torch.tensor(ENDS, device=self.device)
        self.ids = torch.tensor([robot.body_ids[k] for k in places], device=self.device)
        self.starts = StartFrames(self, self.reference.num_frames)
        self.frame = self.state("frame", self.terminated.long())
        """(N,) the reference's row that the robot should be in now."""
        self.last_actions = self.state("last_actions", torch.zeros_like(self.previous_actions))
        self.change = self.state("change", torch.zeros_like(self.previous_actions))
        self.reward = WeightedTerms(self, asdict(config.rewards))

    def pre_physics_step(self, actions: Tensor) -> None:
        self.change.copy_(self.previous_actions - self.last_actions)
        self.last_actions.copy_(self.previous_actions)
        self.sim.ctrl.copy_(self.default_pos + self.action_scale * actions)
        self.frame.copy_(torch.minimum(self.frame + 1, self.reference.last[self.frame]))

    def compute_observations(self) -> Tensor:
        robot, n = self.robot, self.num_envs
        self.wanted = wanted = self.reference.rows(self.frame)
        self.pos = self.sim.xpos[:, self.ids]
        self.mat = self.sim.xmat.view(n, -1, 3, 3)[:, self.ids]
        trunk = self.mat[:, 0].transpose(1, 2)
        off = (trunk @ (wanted.body_pos[:, 0] - self.pos[:, 0])[:, :, None])[:, :, 0]
        turn = (trunk @ wanted.body_mat[:, 0])[:, :, :2].flatten(1)
        lin = (robot.root_lin_vel_w[:, None] @ self.mat[:, 1])[:, 0]
        parts = [wanted.qpos[:, 7:], wanted.qvel[:, 6:], off, turn, lin, robot.root_ang_vel_b]
        parts += [robot.joint_pos - self.default_pos, robot.joint_vel, self.previous_actions]
        self.seen = torch.cat(parts, 1)
        return self.seen

    def compute_states(self) -> Tensor:
        """What was seen, without noise, and the bodies' places and orientations, relative to the
        trunk, (N, num_states)."""
        trunk = self.mat[:, :1].transpose(2, 3)
        places = (trunk @ (self.pos - self.pos[:, :1])[..., None]).flatten(1)
        turns = (trunk @ self.mat)[..., :2].flatten(1)
        return torch.cat([self.seen, places, turns], 1)

    def compute_reward(self) -> tuple[Tensor, Tensor]:
        robot, wanted, pos, mat = self.robot, self.wanted, self.pos, self.mat
        lin, ang = (v[:, self.places] for v in (robot.body_lin_vel_w, robot.body_ang_vel_w))
        to = track.moved_to(wanted.body_pos, wanted.body_mat, 0, pos[:, 0], mat[:, 0])
        low, high = robot.joint_limits.unbind(1)
        inside = 0.05 * (high - low)
        terms = {
            "anchor_pos": track.near(track.distance(pos[:, :1], wanted.body_pos[:, :1]), 0.3),
            "anchor_rot": track.near(track.angle(mat[:, :1], wanted.body_mat[:, :1]), 0.4),
            "body_pos": track.near(track.distance(pos, to[0]), 0.3),
            "body_rot": track.near(track.angle(mat, to[1]), 0.4),
            "body_lin_vel": track.near(track.distance(lin, wanted.body_lin_vel), 1.0),
            "body_ang_vel": track.near(track.distance(ang, wanted.body_ang_vel), 3.14),
            "action_rate": gait.squared(self.change),
            "at_limit": gait.beyond(robot.joint_pos, low + inside, high - inside),
        }
        if self.config.rewards.undesired_contacts:
            pressed = robot.contact_force.norm(dim=-1) > 1.0
            terms["undesired_contacts"] = pressed.float().sum(1)
        height = (pos[..., 2] - wanted.body_pos[..., 2]).abs()
        ends = {
            "height": height[:, 0] > 0.25,
            "tilt": (mat[:, 0, 2, 2] - wanted.body_mat[:, 0, 2, 2]).abs() > 0.8,
            "limbs": (height[:, self.ends] > 0.25).any(1),
        }
        failed = torch.stack(list(ends.values())).any(0)
        over = self.frame >= self.reference.last[self.frame]
        self.progress_buf.masked_fill_(over & ~failed, self.config.episode_length)
        weighted = self.reward(terms)
        self.log_terms(weighted, ends)
        self.starts.note(self.frame, failed)
        return self.reward.total(weighted), failed

    def reset_envs(self, mask: Tensor) -> None:
        """In environments `mask` (N,) bool, begin near a frame of the reference."""
        robot, n = self.robot, self.num_envs
        self.frame.copy_(torch.where(mask, self.starts.draw(n), self.frame))
        qpos, qvel, *_ = self.reference.rows(self.frame)  # copies
        qpos[:, :2] += 0.05 * (2 * torch.rand(n, 2, device=self.device) - 1)
        qvel[:, :6] += 0.3 * (2 * torch.rand(n, 6, device=self.device) - 1)
        noise = 0.1 * (2 * torch.rand_like(robot.joint_pos) - 1)
        qpos[:, 7:] = (qpos[:, 7:] + noise).clamp(*robot.joint_limits.unbind(1))
        write_rows(self.sim.qpos, mask, qpos)
        write_rows(self.sim.qvel, mask, qvel)
        for values in (self.last_actions, self.change):
            write_rows(values, mask, 0.0)

    def end_schedules(self) -> None:
        super().end_schedules()
        self.starts.from_the_first = True

    def mirrors(self) -> tuple[Mirror, Mirror]:
        joints, one = joint_mirror(self.robot), torch.zeros(1, dtype=torch.long, device=self.device)
        extra = {
            "reference": joined([joints, joints]),
            "anchor_pos": of_vectors(one, [1.0, -1.0, 1.0]),
            "anchor_rot": of_vectors(one, [1.0, -1.0, -1.0, 1.0, 1.0, -1.0]),  # of M R M
        }
        return layout_mirror(self.observation_layout(), joints, extra), joints

    def observation_layout(self) -> tuple[Term, ...]:
        joints = self.robot.joint_names
        return (
            Term("reference", elements=[f"{j}_{v}" for v in ("pos", "vel") for j in joints]),
            Term("anchor_pos", elements=("x", "y", "z"), unit="m"),
            Term("anchor_rot", size=6),
            Term("base_lin_vel"),
            Term("base_ang_vel"),
            Term("joint_pos", elements=joints, offset=self.default_pos),
            Term("joint_vel", elements=joints),
            Term("previous_action", size=self.num_actions),
        )

    def action_layout(self) -> ActionLayout:
        scale, home = self.action_scale, self.default_pos
        return ActionLayout("position", self.robot.joint_names, scale=scale, offset=home)
