"""Lets a robot fall on flat ground for two seconds, with its joints held.

result = drop(HeldRobot(robot, default_pose(robot)))
result.verdict                              # "stands", "falls", "bursts", ...
"""

import math
from dataclasses import dataclass

import mujoco
import numpy as np

from phalanx.robot.drives import GRAVITY, Array
from phalanx.robot.held import NAME, HeldRobot
from phalanx.robot.pose import lowest_points

SECONDS = 2.0
FALLEN_TILT = 45.0  # [degrees] between the base's z axis now and at the start
FALLEN_HEIGHT = 0.6  # share of the centre of mass's height at the start
BURST = 4.0  # times the speed of a fall from the robot's height is more than any fall gives
AT_REST = 0.1  # [m/s] below which a robot stands still


@dataclass(frozen=True)
class Drop:
    """What happened in the two seconds."""

    verdict: str
    """stands; moves, if it has not fallen but is not at rest; falls; bursts; holds, for a fixed
    base; falls through, if nothing of the robot collides with the ground."""
    pose: str
    """The initial pose, in words."""
    feet: tuple[str, ...]
    """Bodies that it stands on; empty for a robot without legs."""
    seconds: float
    """Time simulated [s]; less than two seconds if it burst."""
    highest_speed: float
    """Of any body's origin [m/s]."""
    fastest_body: str
    """Empty if none moved."""
    highest_joint_speed: float
    """[rad/s or m/s]."""
    fastest_joint: str
    highest_force: float
    """Normal force of one contact [N]."""
    force_between: tuple[str, ...]
    """The two bodies of that contact; empty without any contact."""
    deepest: float
    """How deep a contact was at the end [m]."""
    at_effort_limit: tuple[str, ...]
    """Joints whose servo gives its largest effort at the end, so that it cannot hold them."""


def drop(held: HeldRobot, seconds: float = SECONDS) -> Drop:
    """Simulate; see above."""
    model, data = held.model, held.data
    held.reset()
    base = held.file.base
    root = model.body_rootid[base]
    start = data.xmat[base, 6:].copy()  # the vertical in the base's frame
    height = float(data.xpos[base, 2])
    centre = float(data.subtree_com[root, 2])  # a base's frame may lie on the ground
    span = float(np.linalg.norm(data.xpos[1:] - data.xpos[base], axis=1).max(initial=0.0))
    fall = math.sqrt(2 * GRAVITY * (abs(height) + span + 0.1))
    speed, joint_speed, force = _Highest(), _Highest(), _Highest()
    pair: tuple[str, ...] = ()
    on_ground = bool(np.isfinite(lowest_points(held.file.model, held.pose.qpos)).any())
    burst = False
    while not burst and data.time < seconds - 0.5 * model.opt.timestep:
        held.step()
        burst = held.burst
        if not burst:
            speed.see(body_speeds(model, data))
            joint_speed.see(np.abs(data.qvel[held.joint_dofs]))
            if force.see(held.contact_forces()):
                pair = _bodies_of(model, data.contact[force.index])
            # Gravity's part: something may fall beside or through the ground.
            burst = speed.value > BURST * fall + GRAVITY * data.time
    used = np.abs(data.actuator_force) / np.array([d.effort for d in held.drives])
    tilt = math.degrees(math.acos(np.clip(start @ data.xmat[base, 6:], -1, 1)))
    share = float(data.subtree_com[root, 2]) / centre if centre > 0 else 1.0
    return Drop(
        verdict=_verdict(held, burst, on_ground, tilt, share),
        pose=held.pose.name,
        feet=tuple(held.file.model.body(f).name for f in held.pose.feet),
        seconds=round(float(data.time), 3),
        highest_speed=speed.value,
        fastest_body=_name(model, speed.index) if speed.index else "",
        highest_joint_speed=joint_speed.value,
        fastest_joint=held.drives[joint_speed.index].joint if held.drives else "",
        highest_force=force.value,
        force_between=pair,
        deepest=max(0.0, -float(data.contact.dist.min())) if data.ncon else 0.0,
        at_effort_limit=tuple(
            d.joint for d, u in zip(held.drives, used, strict=True) if u > 0.999 and not burst
        ),
    )


def _verdict(held: HeldRobot, burst: bool, on_ground: bool, tilt: float, share: float) -> str:
    """tilt [degrees] and share of the centre of mass's height, now against the start."""
    if burst:
        return "bursts"
    still = float(body_speeds(held.model, held.data).max(initial=0.0)) < AT_REST
    if held.file.is_fixed:
        return "holds" if still else "moves"
    if not on_ground:
        return "falls through"
    if tilt > FALLEN_TILT or share < FALLEN_HEIGHT:
        return "falls"
    return "stands" if still else "moves"


class _Highest:
    """The highest of many values, and its place in them."""

    value, index = 0.0, 0

    def see(self, values: Array) -> bool:
        """Look at more values; returns whether one of them is the highest so far."""
        if not values.size or values.max() <= self.value:
            return False
        self.value, self.index = float(values.max()), int(values.argmax())
        return True


def _bodies_of(model: mujoco.MjModel, contact: mujoco.MjContact) -> tuple[str, ...]:
    return tuple(_name(model, int(model.geom_bodyid[g])) for g in contact.geom)


def _name(model: mujoco.MjModel, body: int) -> str:
    return str(model.body(body).name.removeprefix(f"{NAME}/")) if body else "the ground"


def body_speeds(model: mujoco.MjModel, data: mujoco.MjData) -> Array:
    """(nbody,) [m/s] speed of each body's origin."""
    arm = data.xpos - data.subtree_com[model.body_rootid]
    velocity = data.cvel[:, 3:] + np.cross(data.cvel[:, :3], arm)
    return np.linalg.norm(velocity, axis=1)
