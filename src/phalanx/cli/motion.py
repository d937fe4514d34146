"""`phalanx motion`: show, check and convert motion clips.

phalanx motion show run.npy out=run.mp4       a table, and a video of the robot following it
phalanx motion check run.npy                  only the faults; exit code 1 if there are any
phalanx motion convert 07_01.bvh walk.json start=0.5 end=3
"""

import sys
from dataclasses import dataclass
from pathlib import Path

import mujoco
import numpy as np
from rich.table import Table

from phalanx import tasks
from phalanx.cli.console import Lines
from phalanx.cli.overrides import check_given, read_words
from phalanx.config import ranged, read
from phalanx.errors import PhalanxError, did_you_mean
from phalanx.files import check_place
from phalanx.motion import Clip, Robot, load_clip, write_json
from phalanx.motion.library import sinking_depth, velocities
from phalanx.sim import Scene
from phalanx.yaml_file import read_yaml

ROBOT = Path(tasks.__file__).parent / "assets" / "humanoid_amp.xml"
TEXTS = ("robot", "out", "names", "up")
ACTIONS = ("show", "check", "convert")
COUNTS_FOR = {
    "names": (".bvh", ".npz"),
    "up": (".bvh",),
    "scale": (".bvh", ".npz"),
    "fps": (".csv", ".npy"),
}
"""Options that only some kinds of files need."""
SECONDS, FPS = 10.0, 30  # of the video
BEYOND = 0.5  # joints beyond their limits by more than this are reported [degrees]
DEEP, FLOATING = 0.01, 0.05  # feet deeper below the ground, or always higher, are reported [m]
LOW = 0.5  # part of the root's height at rest; a clip that is always below is reported
FAST = 40.0  # too fast for a joint [rad/s]; a runner's fastest joints reach 15
APART = 0.01  # larger distances between the file's and the robot's bodies are reported [m]


@dataclass(frozen=True)
class MotionOptions:
    """Options of `phalanx motion`."""

    robot: str = str(ROBOT)
    """MJCF or URDF file of the robot for the clip."""
    out: str | None = None
    """Video to write, with show."""
    names: str | None = None
    """BVH, AMASS: YAML or JSON file that maps each body of the robot to a joint of the clip."""
    up: str | None = None
    """BVH: axis that points up, y or z; None finds it."""
    scale: float | None = ranged(None, above=0)
    """BVH, AMASS: metres per unit of the file; None derives it from the length of the legs."""
    fps: float | None = ranged(None, above=0, at_most=100_000)
    """CSV and arrays: frames per second, which they do not say; None is 30."""
    start: float = ranged(0.0, at_least=0)
    """Start of the part of the clip to use [s]."""
    end: float | None = ranged(None, above=0)
    """End of that part [s]; None is the end of the clip."""


def motion(arguments: list[str]) -> None:
    """Show, check or convert a clip. Raises PhalanxError for a faulty file."""
    words = [a for a in arguments if "=" not in a]
    action, files = (words[0], words[1:]) if words else ("", [])
    if action not in ACTIONS:
        found = f"has no action {action!r}{did_you_mean(action, ACTIONS)}"
        raise PhalanxError(
            f"motion {found if action else 'needs an action'}; use"
            " `phalanx motion show FILE`, `check FILE` or `convert FILE OUT.json`"
        )
    if len(files) != 1 + (action == "convert"):
        wanted = "two files, from and to" if action == "convert" else "one file, or walk or run"
        raise PhalanxError(f"motion {action} takes {wanted}, but {len(files)} were given")
    for file in files:
        check_given("", file)
    keys = [a for a in arguments if "=" in a]
    config = read(MotionOptions, read_words(keys, MotionOptions, "motion", texts=TEXTS), "")
    if config.out and action == "show":
        from phalanx.video import check_film

        check_film(Path(config.out), "out=")
    if action == "convert":
        check_place(Path(files[1]), "OUT.json", makes_folders=True)
        if Path(files[1]).suffix != ".json":
            raise PhalanxError(
                f"motion convert writes Phalanx's JSON format; {files[1]} must end in .json"
            )
    if idle := _without_effect(config, action, Path(files[0])):
        Lines(stderr=True).print(f"options without effect: {', '.join(idle)}", style="dim")
    model = _model(config.robot)
    robot = Robot(model)
    clip = load_clip(
        files[0],
        robot,
        names=_names(config.names),
        up=config.up,
        scale=config.scale,
        fps=config.fps,
    )
    if config.start or config.end is not None:
        clip = clip.cut(config.start, clip.length if config.end is None else config.end)
    console = Lines()
    if action == "convert":
        write_json(clip, files[1])
        console.print(f"{files[1]}: {clip.num_frames} frames, {clip.length:.2f} s")
        return
    faults = find_faults(clip, robot)
    if action == "show":
        console.print(_table(clip, robot))
    for fault in faults:
        console.print(f"- {fault}")
    if not faults:
        console.print(f"{clip.name}: no problems found")
    if action == "show" and config.out:
        part = "" if clip.loop or clip.length <= SECONDS else f", its first {SECONDS:g} s"
        console.print(f"video: {_video(clip, robot, Path(config.out))}{part}")
    if action == "check" and faults:
        sys.exit(1)


def _without_effect(config: MotionOptions, action: str, file: Path) -> list[str]:
    """Options that are given and have no effect, with what they are for."""
    found = [
        f"{name}= is for files that end in {' or '.join(ends)}"
        for name, ends in COUNTS_FOR.items()
        if getattr(config, name) is not None and file.suffix.lower() not in ends
    ]
    return found + ["out= is for show"] * (config.out is not None and action != "show")


def find_faults(clip: Clip, robot: Robot) -> list[str]:
    """A sentence for each fault that keeps the robot from following the clip well."""
    faults = []
    degrees = np.degrees(clip.joint_pos)
    for j, name in enumerate(clip.joints):
        low, high = np.degrees(robot.limits[j])
        over = np.maximum(low - degrees[:, j], degrees[:, j] - high)
        if over.max() > BEYOND:
            faults.append(
                f"joint {name} goes {over.max():.1f} degrees beyond its limits ({low:.0f} to"
                f" {high:.0f}), worst in frame {over.argmax()}, in {np.mean(over > BEYOND):.0%} of"
                " all frames"
            )
    speed = np.abs(np.diff(clip.joint_pos, axis=0)) * clip.fps
    for j in np.flatnonzero(speed.max(axis=0) > FAST).tolist():
        frame = int(speed[:, j].argmax())
        turned = degrees[frame + 1, j] - degrees[frame, j]
        faults.append(
            f"joint {clip.joints[j]} jumps by {turned:.0f} degrees after frame {frame}, at"
            f" {speed[frame, j]:.0f} rad/s; this can be unavoidable where the middle one of three"
            " hinges is near 90 degrees"
        )
    pose = robot.kinematics(clip.root_pos, clip.root_quat, clip.joint_pos)
    depth = sinking_depth(clip, robot)
    if depth > DEEP:
        faults.append(
            f"the feet are {1000 * depth:.0f} mm below the ground, at worst"
            f" {-1000 * pose.lowest.min():.0f} mm in frame {pose.lowest.argmin()}; a motion library"
            f" raises the clip by {1000 * depth:.0f} mm"
        )
    if pose.lowest.min() > FLOATING:
        faults.append(
            f"the robot never touches the ground; it floats {pose.lowest.min():.2f} m above it"
        )
    high, stands = float(clip.root_pos[:, 2].max()), float(-robot.rest().lowest[0])
    if high < LOW * stands:
        faults.append(
            f"the root is never higher than {high:.2f} m; where the robot stands it is at"
            f" {stands:.2f} m: it lies or sits throughout, or the file has another axis up or unit"
        )
    apart = _largest_distance(clip, robot)
    if apart is not None and apart > APART:
        faults.append(
            f"the robot's bodies are up to {1000 * apart:.0f} mm from their positions in the file:"
            " its hinges or sizes differ from those of the clip's figure"
        )
    return faults


def _largest_distance(clip: Clip, robot: Robot) -> float | None:
    """Largest distance between a body and its position in the file [m]; None if the file has no
    positions."""
    if clip.measured is None:
        return None
    pose = robot.kinematics(clip.root_pos, clip.root_quat, clip.joint_pos)
    return float(np.nanmax(np.linalg.norm(pose.pos - clip.measured, axis=-1)))


def _table(clip: Clip, robot: Robot) -> Table:
    pose = robot.kinematics(clip.root_pos, clip.root_quat, clip.joint_pos)
    way = np.linalg.norm((clip.root_pos[-1] - clip.root_pos[0])[:2])
    over = np.degrees(
        np.maximum(robot.limits[:, 0] - clip.joint_pos, clip.joint_pos - robot.limits[:, 1])
    )
    beyond = int(np.sum(over.max(axis=0) > BEYOND))
    fastest = np.abs(velocities(clip)[2]).max()
    table = Table(box=None, show_header=False, pad_edge=False)
    rows = {
        "motion": clip.name + (", a loop" if clip.loop else ""),
        "source": clip.source or "unknown",
        "frames": f"{clip.num_frames} at {clip.fps:g} a second",
        "length": f"{clip.length:.3f} s",
        "speed": f"{way / clip.length:.2f} m/s over {way:.2f} m",
        "root height": f"{clip.root_pos[:, 2].min():.3f} to {clip.root_pos[:, 2].max():.3f} m",
        "lowest point": f"{round(1000 * pose.lowest.min())} mm, in half of all frames below"
        f" {round(1000 * np.median(pose.lowest))} mm",
        "joints": f"{len(clip.joints)}, fastest {fastest:.1f} rad/s, {beyond} beyond limits",
    }
    if clip.loop:
        gap = np.abs(clip.joint_pos[-1] - clip.joint_pos[0]).max()
        rows["loop closes to"] = f"{np.degrees(gap):.3f} degrees"
    if (apart := _largest_distance(clip, robot)) is not None:
        rows["bodies"] = f"within {1000 * apart:.3f} mm of their positions in the file"
    for key, value in rows.items():
        table.add_row(key, value)
    return table


def _video(clip: Clip, robot: Robot, path: Path) -> Path:
    """Render the robot following the clip; a loop is repeated for ten seconds."""
    from phalanx.video import render_video

    seconds = SECONDS if clip.loop else min(clip.length, SECONDS)
    position = np.arange(0, seconds, 1 / FPS) * clip.fps
    last = clip.num_frames - 1
    cycle = position // last if clip.loop else 0 * position
    frame = np.rint(position - cycle * last).astype(int)
    root_pos = clip.root_pos[frame] + cycle[:, None] * clip.advance
    qpos = robot.qpos(root_pos, clip.root_quat[frame], clip.joint_pos[frame])
    return render_video(robot.model, qpos[:, None], path, fps=FPS, caption=clip.name)


def _model(path: str) -> mujoco.MjModel:
    scene = Scene()
    scene.add_ground()
    scene.add_actor("robot", path)
    return scene.compile()


def _names(path: str | None) -> dict[str, str] | None:
    if path is None:
        return None
    names = read_yaml(path)
    if not isinstance(names, dict) or not all(isinstance(n, str) for n in names.values()):
        raise PhalanxError(f"names={path} must map bodies of the robot to names of joints")
    return names
