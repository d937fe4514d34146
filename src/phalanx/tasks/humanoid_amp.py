"""HumanoidAMP: a humanoid of 28 hinges imitates a motion clip, at 30 Hz.

    reward = 1 in every step; the policy learns the motion from a discriminator
             (`train=HumanoidAMPPPO`)

An episode ends when a body other than `contact_bodies` touches the ground, or after 300 steps. The
action in [-1, 1] is the target of a joint's position servo: +-180 degrees about each axis of a
joint of three hinges, and 1.4 times the range of an elbow or knee, centred on its middle.

A step also returns `infos["amp_obs"]`, the input of the discriminator: the last `num_amp_obs_steps`
observations, newest first, from before any reset. `fetch_amp_obs_demo` returns the same for random
times of the clips.

An episode starts (`state_init`) Default: upright, arms stretched out to the sides; Start: at the
clip's first pose; Random: at any time of a clip; Hybrid: Random with `hybrid_init_prob`, else
Default. A start in a clip takes pose, velocities and earlier observations from it; a pose whose
feet are below the ground is raised.

Robot, observation, servos, times and starts are those of IsaacGymEnvs' HumanoidAMP, with these
differences: three hinges in one point are angles about x, then y, then z, not an exponential map;
the root's rotation is observed from its heading (`local_root_obs: false` as there); a fall is a
contact with the ground (there also with another body, while any body is below 0.5 m); and the
default pose has its arms stretched out (there the angles have the opposite sign, beyond the joints'
limits).

| observation           | width | unit       | frame                                               |
|-----------------------|-------|------------|-----------------------------------------------------|
| root height           | 1     | m          | world                                               |
| root's x and z axis   | 6     | -          | heading                                             |
| root velocity         | 3     | m/s        | heading                                             |
| root angular velocity | 3     | rad/s      | heading                                             |
| joint positions       | 52    | - or rad   | joint; for three hinges the rotated x and z axis    |
| joint velocities      | 28    | rad/s      | joint                                               |
| hands, feet           | 12    | m          | heading, relative to the root; right before left    |

The heading frame is the world frame, rotated about z to the direction of the root's x axis.
"""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from phalanx.config import ranged
from phalanx.errors import PhalanxError
from phalanx.motion import MotionLibrary
from phalanx.sim import Scene
from phalanx.sim.assets import load_robot
from phalanx.spaces import Box
from phalanx.tasks.locomotion import check_bodies, rotation_matrix
from phalanx.tasks.task import Task, TaskConfig

KEY_BODIES = ("right_hand", "left_hand", "right_foot", "left_foot")
ARMS_OUT = {"right_shoulder_x": -math.pi / 2, "left_shoulder_x": math.pi / 2}
"""Angles of the default pose [rad], others 0."""


@dataclass(frozen=True)
class HumanoidAMPConfig(TaskConfig):
    """Settings of `HumanoidAMP`."""

    episode_length: int = 300
    clip_observations: float = 100.0
    dt: float = 1 / 30
    substeps: int = 4
    motion_file: str | tuple[str, ...] = "walk"
    """Clips to imitate: `walk` or `run`, which are shipped, or files."""
    state_init: Literal["Default", "Start", "Random", "Hybrid"] = "Random"
    """How an episode starts."""
    hybrid_init_prob: float = ranged(0.5, at_least=0, at_most=1)
    """Fraction of episodes that start in a clip, with Hybrid."""
    num_amp_obs_steps: int = ranged(2, at_least=2, at_most=1000)
    """Observations that the discriminator sees at once."""
    local_root_obs: bool = True
    """Observe the root's rotation from its heading; false: from the world, so that the
    discriminator also sees in which direction the clip goes."""
    enable_early_termination: bool = True
    """A fall ends the episode."""
    contact_bodies: tuple[str, ...] = ("right_foot", "left_foot")
    """Bodies that may touch the ground."""
    asset: str = str(Path(__file__).parent / "assets" / "humanoid_amp.xml")
    """MJCF file with 28 position servos in the order of the joints."""


class HumanoidAMP(Task):
    """Move like a motion clip."""

    Config = HumanoidAMPConfig
    config: HumanoidAMPConfig
    num_obs = 105
    num_actions = 28

    def create_scene(self) -> Scene:
        # Enough for a converged solution: in 960 steps of random actions velocities were those of
        # 100 iterations. With at most 8, one step in 1000 is wrong, with 6 one in 90, with 5 one in
        # 23.
        scene = Scene(self.config.dt / self.config.substeps, iterations=10, ls_iterations=20)
        scene.add_ground()
        scene.add_actor("humanoid", self.config.asset, pos=(0, 0, 0.89))
        check_bodies(scene, "humanoid", contact_bodies=self.config.contact_bodies)
        return scene

    def init_buffers(self) -> None:
        config, device = self.config, self.device
        self.humanoid = self.sim.actor("humanoid")
        self.joints = Joints(self.humanoid.joint_names, device)
        self.action_middle, self.action_scale = self._servo_targets()
        self.shapes = Shapes(self.sim, self.humanoid, config.contact_bodies)
        keys = [self.humanoid.body_names.index(b) for b in KEY_BODIES]
        self.key_ids = torch.tensor(keys, device=device)
        files = config.motion_file
        self.clips = MotionLibrary(
            [files] if isinstance(files, str) else list(files),
            load_robot(config.asset).compile(),
            list(KEY_BODIES),
            device=str(device),
        )
        self.moments = -config.dt * torch.arange(config.num_amp_obs_steps, device=device)
        first = torch.zeros(self.num_envs, dtype=torch.long, device=device)
        self.motion_ids = self.state("motion_ids", first)
        self.motion_times = self.state("motion_times", torch.zeros(self.num_envs, device=device))
        """(N,) time in clip `motion_ids` at which the episode started [s]; -1 for a default
        start."""
        self._make_default_state()
        k = config.num_amp_obs_steps
        frames = self.default_obs.expand(self.num_envs, k, -1).clone()
        self.amp_frames = self.state("amp_frames", frames)
        self.amp_obs_buf = self.state("amp_obs_buf", frames.flatten(1).clone())
        self.infos["amp_obs"] = self.amp_obs_buf

    @property
    def amp_observation_space(self) -> Box:
        """The space of `infos["amp_obs"]`, without the environment dimension."""
        return Box((self.amp_obs_buf.shape[1],))

    def fetch_amp_obs_demo(self, num_samples: int) -> Tensor:
        """Values of `infos["amp_obs"]` at random times of the clips, (num_samples, D)."""
        return self._observe_clips(*self._sample_clip_times(num_samples))[0].flatten(1)

    def pre_physics_step(self, actions: Tensor) -> None:
        self.sim.ctrl.copy_(self.action_middle + self.action_scale * actions)

    def compute_observations(self) -> Tensor:
        robot = self.humanoid
        rotation = rotation_matrix(robot.root_quat)
        return observe(
            robot.root_pos,
            rotation,
            robot.root_lin_vel_w,
            (rotation @ robot.root_ang_vel_b[..., None])[..., 0],
            self.joints.features(robot.joint_pos),
            robot.joint_vel,
            robot.body_pos[:, self.key_ids],
            self.config.local_root_obs,
        )

    def compute_reward(self) -> tuple[Tensor, Tensor]:
        before = self.amp_frames[:, :-1]
        latest = self.terminal_obs_buf[:, None, -self.obs_size :]  # of its history
        self.amp_frames.copy_(torch.cat([latest, before], 1))
        self.amp_obs_buf.copy_(self.amp_frames.flatten(1))
        fallen = self.shapes.touch_ground() & self.config.enable_early_termination
        return torch.ones_like(self.rew_buf), fallen

    def reset_envs(self, mask: Tensor) -> None:
        """In environments `mask` (N,) bool, start in a clip, with the observations before that
        time, or in the default pose."""
        share = {"Default": 0.0, "Hybrid": self.config.hybrid_init_prob}
        in_clip = torch.rand_like(self.rew_buf) < share.get(self.config.state_init, 1.0)
        ids, times = self._sample_clip_times(self.num_envs)
        if self.config.state_init == "Start":
            times = torch.zeros_like(times)
        frames, qpos, qvel = self._observe_clips(ids, times)

        def start(there: Tensor, clip: Tensor, default: Tensor) -> None:
            shape = (-1, *[1] * (there.ndim - 1))
            new = torch.where(in_clip.view(shape), clip, default)
            there.copy_(torch.where(mask.view(shape), new, there))

        start(self.sim.qpos, qpos, self.default_qpos)
        start(self.sim.qvel, qvel, torch.zeros_like(qvel))
        start(self.amp_frames, frames, self.default_obs)
        start(self.motion_ids, ids, torch.zeros_like(ids))
        start(self.motion_times, times, torch.full_like(times, -1.0))

    # -- parts -----------------------------------------------------------------------------------

    def _sample_clip_times(self, n: int) -> tuple[Tensor, Tensor]:
        """Random clips and times [s], (n,) each, with a complete history before them."""
        ids = self.clips.sample_motions(n)
        past = -float(self.config.dt * (self.config.num_amp_obs_steps - 1))
        length = self.clips.lengths[ids]
        return ids, self.clips.sample_times(ids) * (1 + past / length).clamp(min=0) - past

    def _observe_clips(self, ids: Tensor, times: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """At `times` [s] of clips `ids`, (n,) both: the last K observations (n, K, num_obs), newest
        first, and the state, qpos (n, nq) and qvel (n, nv)."""
        k = len(self.moments)
        at = (times[:, None] + self.moments).flatten()
        s = self.clips.state(ids[:, None].expand(-1, k).flatten(), at)
        rotation = rotation_matrix(s.root_quat)
        frames = observe(
            s.root_pos,
            rotation,
            s.root_lin_vel,
            s.root_ang_vel,
            self.joints.features(s.joint_pos),
            s.joint_vel,
            s.key_pos,
            self.config.local_root_obs,
        ).clamp(-self.config.clip_observations, self.config.clip_observations)
        ang_vel_b = (rotation.mT @ s.root_ang_vel[..., None])[..., 0]
        height = s.root_pos[:, 2:] - s.lowest[:, None].clamp(max=0)  # not below the ground
        qpos = torch.cat([s.root_pos[:, :2], height, s.root_quat, s.joint_pos], 1)
        qvel = torch.cat([s.root_lin_vel, ang_vel_b, s.joint_vel], 1)
        return frames.view(-1, k, self.obs_size), qpos[::k], qvel[::k]

    def _servo_targets(self) -> tuple[Tensor, Tensor]:
        """Middle and scale of the targets, (28,) each [rad]."""
        lower, upper = self.humanoid.joint_limits.unbind(1)
        middle, scale = (lower + upper) / 2, 0.7 * (upper - lower)
        middle[self.joints.triples] = 0.0
        scale[self.joints.triples] = math.pi
        return middle, scale

    def _make_default_state(self) -> None:
        """Put every environment into the default pose; store it and its observation."""
        self.sim.reset()
        for name, angle in ARMS_OUT.items():
            self.humanoid.joint_pos[:, self.humanoid.joint_names.index(name)] = angle
        self.sim.forward()
        self.default_qpos = self.sim.qpos[0].clone()
        self.default_obs = self._observe()[0, -self.obs_size :].clone()


def observe(
    root_pos: Tensor,
    rotation: Tensor,
    lin_vel_w: Tensor,
    ang_vel_w: Tensor,
    joint_features: Tensor,
    joint_vel: Tensor,
    key_pos: Tensor,
    local_root: bool,
) -> Tensor:
    """The observation, (n, 105), of roots at root_pos (n, 3) with rotation (n, 3, 3), body to
    world, and velocities (n, 3); joints as in the table above; key bodies at key_pos (n, 4, 3),
    world frame."""
    axes = rotation.mT[:, ::2]  # x and z axis, (n, 2, 3)
    yaw = torch.atan2(rotation[:, 1, 0], rotation[:, 0, 0])
    c, s = yaw.cos()[:, None], yaw.sin()[:, None]
    vectors = torch.stack([lin_vel_w, ang_vel_w], 1)
    x, y, z = torch.cat([axes, vectors, key_pos - root_pos[:, None]], 1).unbind(2)
    local = torch.stack([c * x + s * y, c * y - s * x, z], 2)  # (n, 8, 3)
    if not local_root:
        local = torch.cat([axes, local[:, 2:]], 1)
    root, keys = local[:, :4].flatten(1), local[:, 4:].flatten(1)
    return torch.cat([root_pos[:, 2:], root, joint_features, joint_vel, keys], 1)


class Joints:
    """Finds the joints of three hinges in one point: `triples` (T, 3) holds their columns, about x,
    y and z."""

    def __init__(self, names: list[str], device: torch.device) -> None:
        first = [i for i, name in enumerate(names) if name.endswith("_x")]
        single = [i for i, name in enumerate(names) if name[-2:] not in ("_x", "_y", "_z")]
        self.triples = torch.tensor([[i, i + 1, i + 2] for i in first], device=device)
        self.single = torch.tensor(single, device=device)
        # Puts features into the order of the joints; all triples are computed first.
        where = {i: range(6 * k, 6 * k + 6) for k, i in enumerate(first)}
        where |= {
            i: range(6 * len(first) + k, 6 * len(first) + k + 1) for k, i in enumerate(single)
        }
        self.order = torch.tensor([f for i in sorted(where) for f in where[i]], device=device)

    def features(self, joint_pos: Tensor) -> Tensor:
        """(n, 6 T + single hinges) for angles (n, J) [rad]: the x and z axis rotated by each three
        hinges, R = Rx Ry Rz, and the angles of single hinges."""
        (cx, cy, cz), (sx, sy, sz) = (
            f(joint_pos[:, self.triples]).unbind(2) for f in (torch.cos, torch.sin)
        )
        turned_x = [cy * cz, cx * sz + sx * sy * cz, sx * sz - cx * sy * cz]
        turned_z = [sy, -sx * cy, cx * cy]
        axes = torch.stack(turned_x + turned_z, 2).flatten(1)
        return torch.cat([axes, joint_pos[:, self.single]], 1)[:, self.order]


class Shapes:
    """The spheres, capsules and boxes of an actor, except those of the bodies `without`."""

    def __init__(self, sim: Any, actor: Any, without: tuple[str, ...]) -> None:
        model = sim.model
        self.centres = sim.geom_xpos
        self.axes = sim.geom_xmat.view(sim.num_envs, -1, 3, 3)
        bodies = dict(zip(actor.body_ids, actor.body_names, strict=True))
        owner = model.geom_bodyid.tolist()
        ids = [g for g, b in enumerate(owner) if b in bodies and bodies[b] not in without]
        kinds = {2: "sphere", 3: "capsule", 6: "box"}  # mjtGeom
        extents, radii = [], []
        for g in ids:
            size = model.geom_size[g].tolist()
            kind = kinds.get(int(model.geom_type[g]))
            if kind is None:
                raise PhalanxError(
                    f"task.env.asset: shape {model.geom(g).name!r} must be a sphere, capsule or box"
                )
            extents.append({"sphere": [0, 0, 0], "capsule": [0, 0, size[1]], "box": size}[kind])
            radii.append(0.0 if kind == "box" else size[0])
        self.ids = torch.tensor(ids, device=sim.device)
        self.extents = torch.tensor(extents, device=sim.device)  # (G, 3) half lengths [m]
        self.radii = torch.tensor(radii, device=sim.device)

    def touch_ground(self) -> Tensor:
        """(N,) bool: the lowest point of a shape is below z = 0."""
        vertical = self.axes[:, self.ids, 2]
        reach = (vertical.abs() * self.extents).sum(2) + self.radii
        return (self.centres[:, self.ids, 2] < reach).any(1)
