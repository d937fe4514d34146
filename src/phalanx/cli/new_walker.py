"""The task of `phalanx new robot=` for a robot that walks: `phalanx.tasks.velocity`, its numbers.

Sizes are scaled from `Go2Velocity`, which walks: speeds and strides as animals of other sizes have
them (equal Froude numbers), costs of efforts by what the robot weighs.
"""

import json
import math
from importlib import resources

import mujoco
import numpy as np

from phalanx.motion.robot import geom_points
from phalanx.robot import HeldRobot, RobotFile
from phalanx.robot.drives import HINGE, Array, chain_of, limits_of
from phalanx.robot.pose import lowest_points

UPRIGHT = 0.995  # cosine of the largest tilt of a base whose z axis counts as the vertical
FROUDE = {2: 0.12, 4: 0.35}  # v^2 / (g h) of the fastest command, from so many feet on
FASTEST = 1.0  # [m/s] of commands, as in the tasks of Phalanx, whose rewards have one width
GO2_HEIGHT, GO2_WEIGHT = 0.29, 15 * 9.81  # [m] of the centre of mass, [N]
ARMATURE = 2e-4  # [s^2] of a joint over its largest effort: Go1 1.7e-4 to 2.6e-4, G1 about 1.6e-4
HIGH = 0.15  # share of the centre of mass's height from which a body's origin is no foot's
AROUND = 0.5  # share of its depth below its origin that a wheel or a ball, a foot, has above it
ALIKE = 0.02  # the same, above the lowest point of a foot, for points that belong to it


def walks(robot: RobotFile, held: HeldRobot) -> bool:
    """Whether `Velocity` fits: legs, an upright base, and a servo on every joint."""
    model, start = robot.model, held.start
    joints = [model.joint(j).name for j in range(1, model.njnt)]
    return (
        len(held.pose.feet) >= 2
        and model.jnt_type[0] == mujoco.mjtJoint.mjJNT_FREE
        and joints == [drive.joint for drive in held.drives]
        and bool((model.jnt_type[1:] == HINGE).all())
        and 1 - 2 * (start[4] ** 2 + start[5] ** 2) > UPRIGHT
    )


class Walker:
    """What the task of a robot needs to know; all in its pose on the ground, its x axis ahead."""

    def __init__(self, robot: RobotFile, held: HeldRobot) -> None:
        self.robot, self.held, self.model = robot, held, robot.model
        held.reset()
        self.mass_height = float(held.data.subtree_com[0, 2])
        self.data = mujoco.MjData(self.model)
        self.data.qpos[:] = held.start
        mujoco.mj_kinematics(self.model, self.data)
        self.lowest = lowest_points(self.model, held.start)
        self.feet = [self._foot(body) for body in held.pose.feet]
        self.base = self.model.body(robot.base).name
        weld = self.model.body_weldid
        chains = {int(weld[b]) for f in held.pose.feet for b in chain_of(self.model, f)}
        self.legs = np.flatnonzero(np.isin(weld, list(chains - {int(weld[robot.base])})))
        """Bodies that move with a leg, or are rigidly joined to one."""

    def _foot(self, body: int) -> tuple[str, list[int], Array]:
        """Name of a foot, the places among its body's shapes of those to give to it (none if a body
        of the file is the foot), and its centre (3,) in the world [m]."""
        name, origin = self.model.body(body).name, self.data.xpos[body]
        if origin[2] < HIGH * self.mass_height:
            return name, [], origin
        first, points, heights, tops = int(self.model.body_geomadr[body]), [], [], []
        own = np.flatnonzero(self.model.geom_bodyid == body).tolist()
        own = [g for g in own if self.model.geom_contype[g] or self.model.geom_conaffinity[g]]
        for g in own:
            local, radius = geom_points(self.model, g)
            points.append(self.data.geom_xpos[g] + local @ self.data.geom_xmat[g].reshape(3, 3).T)
            heights.append(points[-1][:, 2] - radius)
            tops.append(points[-1][:, 2].max() + radius)
        if max(tops) - origin[2] > AROUND * (origin[2] - min(h.min() for h in heights)):
            return name, [], origin
        bottom = min(h.min() for h in heights) + ALIKE * self.mass_height
        low = [g - first for g, h in zip(own, heights, strict=True) if h.min() <= bottom]
        centre = np.concatenate([p[h <= bottom] for p, h in zip(points, heights, strict=True)])
        return f"{name}_foot", low, centre.mean(axis=0)

    def settings(self) -> dict[str, str]:
        """Lines of the template, and with the robot's numbers."""
        height, model, on_two = self.mass_height, self.model, len(self.feet) < 4
        froude = FROUDE[2 if on_two else 4]
        speed = min(math.sqrt(froude * 9.81 * height), FASTEST)
        weight = 9.81 * float(model.body_mass.sum())
        moment = GO2_WEIGHT * GO2_HEIGHT / (weight * height)
        power = GO2_WEIGHT * math.sqrt(GO2_HEIGHT) / (weight * math.sqrt(height))
        values = {
            "lin_vel_x": (f"({-speed:.1f}, {speed:.1f})", "(-1.0, 1.0)"),
            "lin_vel_y": (f"({-0.6 * speed:.1f}, {0.6 * speed:.1f})", "(-0.6, 0.6)"),
            "torque": (f"{-1e-4 * moment**2:.1e}", "-1.0"),
            "power": (f"{-1e-3 * power:.1e}", "-1.0"),
        }
        found = {f"{key}={old}": f"{key}={new}" for key, (new, old) in values.items()}
        hz = min(max((2 if on_two else 3) * math.sqrt(GO2_HEIGHT / height), 1.0), 4.0)
        lift = min((0.13 if on_two else 0.26) * height, 0.12)
        radius = float(np.mean([centre[2] for _, _, centre in self.feet]))
        lines = {
            "gait_hz: float = 2.0": f"{hz:.1f}",
            "gait_offsets: tuple[float, ...] = ()": repr(self.offsets()),
            "stance: float = 0.55": "0.6" if on_two else "0.55",
            "foot_height: float = 0.08": f"{lift:.2f}",
            "fall_tilt: float = 70.0": "50.0" if on_two else "70.0",
            "reset_joint_pos: float = 0.1": "0.05" if on_two else "0.1",
            "scan_offset: float = 0.3": f"{self.held.start[2]:.2f}",
            "feet: tuple[str, ...] = ()": _texts([name for name, _, _ in self.feet]),
            "foot_radius: float = 0.0": f"{radius:.3f}",
            "falls_on: tuple[str, ...] = ()": _texts(self.falls_on()),
            "not_to_touch: tuple[str, ...] = ()": _texts(self.not_to_touch()),
        }
        return found | {k: f"{k.partition(' = ')[0]} = {new}" for k, new in lines.items()}

    def offsets(self) -> tuple[float, ...]:
        """Phases of the feet: neighbours on a side, and opposite feet, half a stride apart; a walk
        on two feet, a trot on four, a tripod gait on six."""
        where = np.array([centre[:2] for _, _, centre in self.feet]) - self.data.xpos[1, :2]
        phases = np.zeros(len(where))
        for side in (True, False):
            own = [i for i in range(len(where)) if (where[i, 1] > 0) == side]
            own.sort(key=lambda i: -where[i, 0])
            for place, i in enumerate(own):
                phases[i] = 0.5 * ((place + (not side)) % 2)
        return tuple(float(p) for p in phases)

    def falls_on(self) -> list[str]:
        """Colliding bodies that are part of no leg."""
        found = [self.model.body(b).name for b in self._colliding() if b not in self.legs]
        return found or [self.base]

    def not_to_touch(self) -> list[str]:
        """Colliding bodies of the legs that are well above the ground."""
        high = self.lowest > 0.2 * self.mass_height
        return [self.model.body(b).name for b in self._colliding() if b in self.legs and high[b]]

    def _colliding(self) -> list[int]:
        return [b for b in range(1, self.model.nbody) if np.isfinite(self.lowest[b])]

    def joints(self) -> str:
        """The dictionary of the joints, one line each."""
        lines = []
        for j, drive in enumerate(self.held.drives, 1):
            at = float(self.held.start[self.model.jnt_qposadr[j]])
            low, high = limits_of(self.model, j) or (at - math.pi, at + math.pi)
            push = drive.effort / drive.stiffness
            numbers = (low - push, high + push, drive.stiffness, drive.damping, drive.effort)
            words = ", ".join(repr(float(f"{x:.4g}") + 0.0) for x in numbers)
            lines.append(f"    {quoted(drive.joint)}: Joint({words}),")
        if any(drive.guessed for drive in self.held.drives):
            lines[0] += "  # efforts: guesses, the file has none"
        head = "JOINTS: dict[str, Joint] = {  # low, high, stiffness, damping, effort"
        return "\n".join([head, *lines, "}"])

    def add_feet(self, spec: mujoco.MjSpec) -> None:
        """Give feet that are only shapes of a shank a body of their own, at their centre."""
        for (name, shapes, centre), body in zip(self.feet, self.held.pose.feet, strict=True):
            if not shapes:
                continue
            shank = spec.body(self.model.body(body).name)
            frame = self.data.xmat[body].reshape(3, 3)
            place = frame.T @ (centre - self.data.xpos[body])
            foot = shank.add_body(name=name, pos=place)
            for old in [g for i, g in enumerate(list(shank.geoms)) if i in shapes]:
                geom = foot.add_geom()
                for key in dir(old):
                    if not key.startswith("_") and key not in NOT_COPIED:
                        setattr(geom, key, getattr(old, key))
                ends = np.asarray(old.fromto)  # NaN without; MuJoCo takes them or a position
                if np.isnan(ends).any():
                    geom.pos = np.asarray(old.pos) - place
                else:
                    geom.fromto = ends - np.tile(place, 2)
                if shank.explicitinertial:  # which has the foot's mass already
                    geom.mass, geom.density = 0.0, 0.0
                own = old.name
                spec.delete(old)
                geom.name = own

    def add_armatures(self, spec: mujoco.MjSpec, remarks: list[str]) -> None:
        """Give joints of a file without armatures the rotor inertia of usual motors, without which
        legs are so light that contacts become soft."""
        if self.model.dof_armature[6:].any():
            return
        for drive in self.held.drives:
            spec.joint(drive.joint).armature = float(f"{ARMATURE * drive.effort:.2g}")
        remarks.append("its file has no armatures, so they are guesses from the effort limits")

    def randomization(self, template: str) -> str:
        """The task's YAML."""
        return template.replace("MY_BASE", quoted(self.base))

    def train(self) -> str:
        """The training's YAML: of a task that walks on as many feet."""
        name = "G1VelocityPPO" if len(self.feet) < 4 else "AnymalVelocityPPO"
        text = (resources.files("phalanx.cfg") / "train" / f"{name}.yaml").read_text("utf-8")
        return f"# PPO, in RL Games' format.\n{text}"


WIDTH = 88
"""Of the lines of a tuple."""
NOT_COPIED = frozenset(
    "name id signature parent frame set_frame compiler classname plugin info".split()
)


def quoted(text: str) -> str:
    """A text as Python and YAML write it, whatever characters a file has in its names."""
    return json.dumps(text, ensure_ascii=False)


def _texts(names: list[str]) -> str:
    """A tuple of texts as Python writes it, on several lines if it is long."""
    text = ", ".join(map(quoted, names)) + "," * (len(names) == 1)
    if len(text) < 60:
        return f"({text})"
    lines = [""]
    for word in (f"{quoted(name)}," for name in names):  # a name may have spaces
        if lines[-1] and len(lines[-1]) + len(word) >= WIDTH:
            lines.append("")
        lines[-1] += f" {word}" if lines[-1] else word
    return "\n".join(["(", *(f"        {line}" for line in lines), "    )"])
