"""`phalanx robot`: shows what a robot's file contains and how it behaves on the ground."""

import dataclasses
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn

from phalanx.cli.console import Lines
from phalanx.cli.keys import without_effect
from phalanx.cli.overrides import read_words
from phalanx.config import ranged, read
from phalanx.errors import PhalanxError
from phalanx.files import check_place

TEXTS = ("robot", "root", "keyframe", "decompose", "out", "picture", "host")
"""Keys whose values are taken as typed."""


@dataclass(frozen=True)
class RobotOptions:
    """Options of `phalanx robot`."""

    robot: str
    """MJCF or URDF file, or a name of MuJoCo Menagerie; the only argument without a key."""
    fixed_base: bool | None = None
    """Whether the base is bolted to the world; null follows the file (a URDF says free)."""
    root: str | None = None
    """Body of the robot, in an MJCF with several below the world; null takes them all."""
    keyframe: str | None = None
    """Keyframe to start from; null takes one called home or stand, or the file's initial pose."""
    self_collisions: bool | Literal["except_overlaps"] = True
    """Whether bodies of the robot may touch; except_overlaps turns off the pairs that overlap at
    the initial pose."""
    density: float | None = ranged(None, at_least=0)
    """Density of links of a URDF that have collision shapes but no mass [kg/m^3]; null takes 1000,
    except where a link that is fixed to them has their mass, and 0 leaves them without."""
    armature: float | None = ranged(None, at_least=0)
    """Armature of hinges and slides for which the file has none [kg m^2 or kg]."""
    collapse_fixed_joints: bool = False
    """Merge bodies without joints into their parents."""
    decompose: bool | str = False
    """Split collision meshes into convex parts: true, names of meshes with commas between them, or
    sdf for those of a URDF that have an <sdf>; otherwise a mesh collides as its convex hull."""
    out: str | None = None
    """MJCF file to write, with the robot as Phalanx reads it and its meshes beside it."""
    picture: str | None = None
    """PNG file to write, with the robot in its initial pose."""
    json: bool = False
    """Print JSON instead of tables."""
    view: bool = False
    """Show the robot in a web page, with a slider for each joint, until Ctrl-C."""
    host: str = "127.0.0.1"
    """Address at which the page is served; 0.0.0.0 lets other machines in."""
    port: int | None = ranged(None, at_least=1, at_most=65535)
    """Port of the page; null takes the first free one from 8080."""


def robot(arguments: list[str]) -> None:
    """Show a robot. Raises PhalanxError."""
    options = _options(arguments)
    console = Lines()
    errors = Lines(stderr=True)
    if idle := without_effect(options, {"view": options.view}):
        errors.print(f"options without effect: {', '.join(idle)}", style="dim")
    if options.view:
        from phalanx.viewer import require_viewer

        require_viewer()  # before anything is downloaded
    from phalanx.robot import HeldRobot, default_pose, drop, facts_of, read_robot

    split: bool | str | list[str] = options.decompose
    if isinstance(split, str) and split != "sdf":
        split = split.split(",")
    with downloads(errors) as on_progress:
        loaded = read_robot(
            options.robot,
            options.fixed_base,
            options.root,
            on_progress,
            keyframe=options.keyframe,
            self_collisions=options.self_collisions,
            density=options.density,
            armature=options.armature,
            collapse_fixed_joints=options.collapse_fixed_joints,
            decompose=split,
        )
    held = HeldRobot(loaded, default_pose(loaded, options.keyframe))
    if options.out:
        from phalanx.robot.write import whole_spec, write_mjcf

        said = f"MJCF: {write_mjcf(whole_spec(loaded), Path(options.out))}"
        (errors if options.json else console).print(said)
    if options.picture:
        from phalanx.video import render_picture

        said = f"picture: {render_picture(held.model, held.start, options.picture)}"
        (errors if options.json else console).print(said)
    if options.view:
        from phalanx.viewer import view_robot

        view_robot(held, options.host, options.port)
        return
    with errors.status("two seconds on the ground"):
        facts, dropped = facts_of(loaded, held.pose.qpos), drop(held)
    if options.json:
        print(json.dumps({**dataclasses.asdict(facts), "drop": dataclasses.asdict(dropped)}))
    else:
        from phalanx.cli.robot_tables import show

        show(console, facts, dropped)


def _options(arguments: list[str]) -> RobotOptions:
    values = read_words(arguments, RobotOptions, "robot", "robot", TEXTS)
    if not values.get("robot"):
        raise PhalanxError(
            "robot needs a file or a name of MuJoCo Menagerie, as in `phalanx robot go2.xml` or"
            " `phalanx robot unitree_go2`"
        )
    options = read(RobotOptions, values, "")
    for key, file, ends in (
        ("out", options.out, (".xml", ".mjcf")),
        ("picture", options.picture, (".png",)),
    ):
        if file and Path(file).suffix.lower() not in ends:
            raise PhalanxError(f"{key} is {file!r}; it must end in {' or '.join(ends)}")
        if file:
            check_place(Path(file), f"{key}=", makes_folders=True)
    if options.out and Path(options.out).resolve() == Path(options.robot).resolve():
        raise PhalanxError(f"out is {options.out!r}, the robot's own file; choose another name")
    return options


@contextmanager
def downloads(console: Console) -> Iterator[Callable[[str, int, int], None]]:
    """A function of a robot's name, the bytes downloaded and all bytes, which shows them."""
    progress = Progress(
        TextColumn("downloading {task.description}", markup=False),
        BarColumn(),
        DownloadColumn(),
        console=console,
        transient=True,
    )

    def on_progress(name: str, done: int, total: int) -> None:
        if not progress.tasks:
            progress.start()
            progress.add_task(name)
        progress.update(progress.task_ids[0], completed=done, total=total or None)

    try:
        yield on_progress
    finally:
        if progress.tasks:
            progress.stop()
