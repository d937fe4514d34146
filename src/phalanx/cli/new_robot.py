"""`phalanx new <folder> robot=<file> task=<Name>`: writes a task around a robot, numbers filled in.

A robot with legs gets a task that follows velocity commands, any other with a free base one that
stands still, and one with a fixed base one that moves its joints to commanded positions.
"""

import ast
import keyword
import math
import re
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

import mujoco
import numpy as np

from phalanx.cli.new_walker import Walker, quoted, walks
from phalanx.errors import PhalanxError, printable
from phalanx.robot import Drop, HeldRobot, Pose, RobotFile, default_pose, drop, read_robot
from phalanx.robot.base import falling_roots
from phalanx.robot.drives import (
    HINGE,
    SLIDE,
    SOFT,
    STIFF,
    STIFFEST,
    Drive,
    driven_joints,
    limits_of,
)
from phalanx.robot.drop import SECONDS
from phalanx.robot.file import Progress
from phalanx.robot.pose import lowest_points
from phalanx.robot.write import whole_spec, write_mjcf
from phalanx.tasks import TASKS

MOVE, STAND, REACH = (
    "Follow commanded velocities.",
    "Stand still.",
    "Move the joints to commanded positions.",
)
SCALE = 0.5  # [rad] how far an action of 1 moves a hinge's target, at most; half of its range
UNLIMITED = 1.5  # [rad or m] range, to both sides, of an arm's joint that has no limits
FROUDE = 0.2  # v^2 / (g h) of the fastest command; walking is comfortable up to 0.25
CONTROL_DT = 1 / 50  # [s]
DEFLECTIONS = (SOFT, 0.5, 0.25, STIFF)  # [rad] at which servos give all their effort
SUBSTEPS = (4, 10, 20)  # physics steps in a control step; the first that is stable
SUNK = 0.8  # of the height of its centre of mass, below which a robot has sunk into its legs
MOMENT = 0.4  # [s] before a robot on two feet falls
NEAR = 1e-3  # [m] above the lowest point that still touches the ground
ACTIONS = 0.7  # standard deviation of the actions with which stability is tried
NO_JOINTS = "JOINTS: dict[str, Joint] = {}"
COMMENT = "  # the effort limit is a guess: the file has none"


@dataclass(frozen=True)
class RobotTask:
    """A task to be written."""

    name: str
    """Of its class."""
    goal: str
    files: dict[str, str]
    """Content by path in the project."""
    asset: str
    """Path of the robot's file in the project."""
    spec: mujoco.MjSpec
    """What that file contains."""
    remarks: list[str]
    """What the user should know, a sentence each."""

    def write_asset(self, folder: Path) -> None:
        """Write the robot into the project at `folder`. Raises PhalanxError."""
        write_mjcf(self.spec, folder / self.asset)


def robot_task(
    source: str,
    name: str | None,
    fixed_base: bool | None,
    root: str | None,
    on_progress: Progress | None,
) -> RobotTask:
    """The task for a robot's file, or its name in MuJoCo Menagerie. fixed_base, root: as for
    `load_robot`. Raises PhalanxError."""
    robot = read_robot(source, fixed_base, root, on_progress)
    remarks: list[str] = []
    roots = [body.name for body in robot.spec.worldbody.bodies]
    if len(roots) > 1 and not robot.is_fixed:
        rooted = robot.model.body_rootid[robot.model.jnt_bodyid[driven_joints(robot.model)]]
        falling = sorted(falling_roots(robot.model) & set(rooted.tolist()))
        if len(falling) != 1:
            raise PhalanxError(
                f"{robot.path} has {len(roots)} bodies below the world; choose the robot's with"
                f" root=, one of: {', '.join(roots)}"
            )
        own = robot.model.body(falling[0]).name
        robot = read_robot(source, fixed_base, own, on_progress)
        remarks.append(
            f"of its {len(roots)} bodies below the world, the task has {own!r}, the only free one"
            " with joints to drive"
        )
    if robot.base_kind == "guided":
        raise PhalanxError(
            f"the base of {robot.path} moves on joints that nothing drives; `phalanx new` writes"
            " tasks for robots with a free or a fixed base, so remove these joints or drive them"
        )
    if robot.base_kind == "tied":
        raise PhalanxError(
            f"the base of {robot.path} is tied to the world by an equality or a tendon; `phalanx"
            " new` writes tasks for robots with a free or a fixed base, so remove it, or fix the"
            " base with fixed_base=true"
        )
    pose = default_pose(robot)
    if robot.format == "URDF" and fixed_base is None and not pose.feet and not _rolls(robot, pose):
        robot = read_robot(source, True)
        pose = default_pose(robot)
        remarks.append(
            "it has neither legs nor wheels, so its base is fixed; fixed_base=false gives it a free"
            " one"
        )
    name = name or "".join(w.capitalize() for w in re.findall("[A-Za-z0-9]+", robot.path.stem))
    _check_name(name)
    held, substeps, result = _standing(robot)
    if not held.drives:
        raise PhalanxError(
            f"{robot.path} has no joint that could be driven, so there is nothing to train"
        )
    remarks += _said_of_file(robot)
    if held.apart:
        remarks.append(
            "pairs of bodies that overlap in its default pose, and so do not collide:"
            f" {len(held.apart)}"
        )
    falls_on_two = result.verdict == "falls" and len(pose.feet) == 2
    why = " in the end, as most do on two feet that no policy moves" if falls_on_two else ""
    remarks.append(f"in its default pose, held by the servos of the task, it {result.verdict}{why}")
    if any(d.guessed for d in held.drives):
        remarks.append("its file has no effort limits, so they are guesses from its weights")
    if soft := sum(d.softened for d in held.drives):
        remarks.append(
            f"its file's servos of {soft} joints give all their effort within {STIFFEST:g} rad, too"
            " stiff to learn to walk with, so the task's are softer"
        )
    goal = REACH if robot.is_fixed else MOVE if pose.feet else STAND
    folder = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).lower()
    names = {"MyTask": name, "my_task": folder, "my_robot.xml": f"{folder}.xml"}
    # The templates alone: what is filled in later may have a name that they use.
    files = {name: _renamed(_template(name), names) for name in ("README.md", ".gitignore")}
    spec = _spec(held)
    if walks(robot, held):
        walker = Walker(robot, held)
        walker.add_feet(spec)
        walker.add_armatures(spec, remarks)
        template = _renamed(_template("walking.py"), names)
        task = _with(template, walker.settings() | _common(robot, substeps))
        task = _with(task, {NO_JOINTS: walker.joints()})
        files[f"cfg/task/{name}.yaml"] = walker.randomization(
            _renamed(_template("walking.yaml"), names)
        )
        files[f"cfg/train/{name}PPO.yaml"] = walker.train()
    else:
        template = _renamed(_template("fixed.py" if robot.is_fixed else "moving.py"), names)
        task = _filled(template, robot, held, goal, substeps)
        train = (resources.files("phalanx.cfg") / "train" / "ContinuousPPO.yaml").read_text("utf-8")
        train = re.sub("^#.*", "# PPO, in RL Games' format.", train, count=1)
        files[f"cfg/train/{name}PPO.yaml"] = train
    files = {f"tasks/{folder}/{folder}.py": task.replace("MY_GOAL", goal), **files}
    return RobotTask(name, goal, files, f"tasks/{folder}/assets/{folder}.xml", spec, remarks)


def _said_of_file(robot: RobotFile) -> list[str]:
    """What was added to the file or mended in it, one line for each kind."""
    kinds: dict[str, list[str]] = {}
    for note in robot.robot.notes:
        if note.kind in ("added", "mended"):
            kinds.setdefault(note.text, []).append(note.item)
    return [
        f"{text}: {items[0]}" + (f" and {len(items) - 1} more" if items[1:] else "")
        for text, items in kinds.items()
    ]


def _rolls(robot: RobotFile, pose: Pose) -> bool:
    """Whether something that touches the ground turns on a hinge without limits."""
    heights = lowest_points(robot.model, pose.qpos)
    low = robot.model.body_weldid[heights <= heights.min() + NEAR]
    hinges = np.isin(robot.model.jnt_bodyid, low) & (robot.model.jnt_type == HINGE)
    return bool((hinges & (robot.model.jnt_limited == 0)).any())


def _check_name(name: str) -> None:
    if not re.fullmatch("[A-Z][A-Za-z0-9]*", name):
        raise PhalanxError(
            f"task={name} cannot be the name of a class; give letters and digits that begin with a"
            " capital, as in task=Go2Walk"
        )
    if name in TASKS:
        raise PhalanxError(f"task={name} is a task of Phalanx; choose another name")
    if name in _used_by_templates() or keyword.iskeyword(name):
        raise PhalanxError(
            f"task={name} is a name that the task's own code uses; choose another name, as in"
            f" task={name}Robot"
        )


def _used_by_templates() -> set[str]:
    """Names in the code of tasks, which a class of the same name would hide."""
    used = set()
    for file in ("fixed.py", "moving.py", "walking.py"):
        for node in ast.walk(ast.parse(_template(file))):
            names = (getattr(node, key, None) for key in ("id", "name"))  # of uses, of definitions
            used |= {name for name in names if isinstance(name, str)}
    return used - {"MyTask", "MyTaskConfig"}


def _standing(robot: RobotFile) -> tuple[HeldRobot, int, Drop]:
    """The robot held by servos that are as soft as they can be without letting it fall or sink, the
    physics steps that this needs, and how it stands; by the softest if it falls with all of
    them. On two feet it falls without a policy, so that only the first moment counts."""
    tried = []
    for deflection in DEFLECTIONS:
        held, substeps = _stable(robot, deflection)
        held.reset()
        height = float(held.data.subtree_com[0, 2])
        verdict = drop(held, MOMENT if len(held.pose.feet) == 2 else SECONDS).verdict
        sunk = not robot.is_fixed and held.data.subtree_com[0, 2] < SUNK * height
        fallen = verdict in ("falls", "bursts")
        tried.append((fallen, sunk, held, substeps))
        if not fallen and not sunk:
            break
    _, _, held, substeps = min(tried, key=lambda t: t[:2])  # the first, of several alike
    return held, substeps, drop(held)


def _stable(robot: RobotFile, deflection: float) -> tuple[HeldRobot, int]:
    """The robot held as the task will hold it, and the physics steps that this needs."""
    pose = default_pose(robot)
    for substeps in SUBSTEPS:
        timestep = CONTROL_DT / substeps
        held = HeldRobot(robot, pose, 0.0, deflection, timestep, for_task=True)
        if _survives(held, substeps):
            break
    return held, substeps


def _survives(held: HeldRobot, substeps: int) -> bool:
    """Whether nothing bursts in two seconds of random actions."""
    random = np.random.default_rng(0)
    low, high = held.targets - SCALE, held.targets + SCALE
    for _ in range(round(2 / CONTROL_DT)):
        noise = ACTIONS * SCALE * random.standard_normal(len(held.targets))
        held.targets[:] = np.clip(held.start[held.joint_qpos] + noise, low, high)
        for _ in range(substeps):
            held.step()
        if held.burst:
            return False
    return True


def _filled(template: str, robot: RobotFile, held: HeldRobot, goal: str, substeps: int) -> str:
    """The template with the robot's numbers."""
    joints = [robot.model.joint(d.joint).id for d in held.drives]
    fill = {NO_JOINTS: _joints(robot, held, joints, goal)} | _common(robot, substeps)
    fill |= {"num_actions = 0": f"num_actions = {len(joints)}"}
    held.reset()
    mass_height = float(held.data.subtree_com[0, 2])  # the base's frame may lie on the ground
    per_joint, others = (4, 0) if goal == REACH else (3, 12)
    fill["num_obs = 0"] = f"num_obs = {others + per_joint * len(joints)}"
    if goal != REACH:
        feet = [robot.model.body(f).name for f in held.pose.feet]
        fill["FEET: tuple[str, ...] = ()"] = f"FEET: tuple[str, ...] = {_tuple(feet)}"
        fill["BASE_HEIGHT = 1.0"] = f"BASE_HEIGHT = {held.start[2]:.4f}"
        fill["MASS_HEIGHT = 1.0"] = f"MASS_HEIGHT = {mass_height:.4f}"
    if goal == MOVE:
        speed = math.sqrt(FROUDE * 9.81 * mass_height)
        fill["speed: float = 0.0"] = f"speed: float = {speed:.1f}"
        fill["turn: float = 0.0"] = "turn: float = 1.0"
    return _with(template, fill)


def _common(robot: RobotFile, substeps: int) -> dict[str, str]:
    """What all templates have."""
    return {
        "substeps: int = 4": f"substeps: int = {substeps}",
        "MY_SOURCE": printable(robot.path.name).replace('"', "'").replace("\\", "/"),
    }


def _with(template: str, fill: dict[str, str]) -> str:
    for old, new in fill.items():
        assert old in template, old
        template = template.replace(old, new)
    return template


def _joints(robot: RobotFile, held: HeldRobot, joints: list[int], goal: str) -> str:
    """The dictionary of the joints, one line each."""
    lines = []
    for drive, joint, adr in zip(held.drives, joints, held.joint_qpos, strict=True):
        low, high = _range(robot.model, joint, float(held.start[adr]))
        if goal == REACH:
            first = (low, high)
        else:
            slide = robot.model.jnt_type[joint] == SLIDE
            scale = min(0.25 * (high - low), math.inf if slide else SCALE)
            first = (float(held.start[adr]), scale)
        lines.append(f"    {quoted(drive.joint)}: Joint({_numbers(*first, *_gains(drive))}),")
        lines[-1] += COMMENT if drive.guessed and len(lines) == 1 else ""
    what = "low, high" if goal == REACH else "default, scale"
    head = f"JOINTS: dict[str, Joint] = {{  # {what}, stiffness, damping, effort"
    return "\n".join([head, *lines, "}"])


def _gains(drive: Drive) -> tuple[float, float, float]:
    return drive.stiffness, drive.damping, drive.effort


def _range(model: mujoco.MjModel, joint: int, default: float) -> tuple[float, float]:
    return limits_of(model, joint) or (default - UNLIMITED, default + UNLIMITED)


def _spec(held: HeldRobot) -> mujoco.MjSpec:
    """The robot at the origin in the task's attitude, without actuators and sensors, with its
    default pose as keyframe `home`, and without contacts of bodies that overlap in it."""
    spec = whole_spec(held.file)
    for element in [*spec.sensors, *spec.actuators, *spec.keys]:
        spec.delete(element)
    root, qpos = spec.worldbody.first_body(), held.start.copy()
    if not held.file.is_fixed:
        root.pos, root.quat = np.zeros(3), held.start[3:7]
        root.alt.type = mujoco.mjtOrientation.mjORIENTATION_QUAT
        qpos[:3] = (0, 0, held.start[2])
    for first, second in held.apart:
        spec.add_exclude(bodyname1=first, bodyname2=second)
    spec.add_key(name="home", qpos=qpos)
    return spec


def _template(name: str) -> str:
    return (resources.files("phalanx.templates") / "robot" / name).read_text("utf-8")


def _renamed(text: str, names: dict[str, str]) -> str:
    for old, new in names.items():
        text = text.replace(old, new)
    return text


def _numbers(*values: float) -> str:
    return ", ".join(repr(float(f"{v:.4g}")) for v in values)


def _tuple(names: list[str]) -> str:
    """A tuple of texts as Python writes it."""
    text = ", ".join(map(quoted, names))
    return f"({text},)" if len(names) == 1 else f"({text})"
