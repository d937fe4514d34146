"""Loads a robot from an MJCF or URDF file, ready to be attached into a scene.

    robot = load_robot("ant.xml")
    scene = mujoco.MjSpec()
    scene.attach(robot.spec, frame=scene.worldbody.add_frame(pos=[0, 0, 1]), prefix="ant/")

Files mean here what they mean in MuJoCo, PyBullet and Isaac Gym. Of an MJCF the robot, defaults,
assets, actuators, sensors, tendons and contact rules are kept; floor, lights, cameras of the world
and custom fields are dropped, since the scene has its own. Physics options and keyframes are data
of the robot, which the scene uses. `phalanx.sim.urdf` has the URDF rules. Whatever was dropped,
added or mended is in the robot's notes, and logged as one warning. Surprises:

- The root body keeps the position that the file gives it.
- Bodies joined to a fixed root do not collide with it. MuJoCo excludes contacts between parent
  and child except where the parent is welded to the world; here the contact is excluded as well.
- A body without a name gets one, `body<i>`, and a joint `joint<i>`.
"""

import logging
import os
import shlex
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import mujoco

from phalanx.errors import PhalanxError, did_you_mean
from phalanx.gate import check_name
from phalanx.sim import bodies
from phalanx.sim.compiling import MUJOCO_WARNS, compile_spec, too_large
from phalanx.sim.decompose import Splitting
from phalanx.sim.decompose import decompose as split_meshes
from phalanx.sim.mjcf import mujoco_error, read_mjcf
from phalanx.sim.mjcf_assets import find_files, mend, swap_limits
from phalanx.sim.mjcf_parts import (
    apply_compiler,
    attached,
    choose_root,
    drop_dangling,
    strip_scenery,
    take_keyframes,
    take_options,
    unused_parts,
    without_dropped_actuators,
)
from phalanx.sim.mujoco_warnings import count_warnings
from phalanx.sim.robot import Note, Pose, Robot, place_of, summary
from phalanx.sim.urdf import UrdfReader
from phalanx.sim.xml_file import Element, read_xml

log = logging.getLogger(__name__)

EXTENSIONS = (".xml", ".mjcf", ".urdf")
ROOTS = {
    "sdf": "convert it from SDF to URDF or MJCF",
    "mujocoinclude": "it is a part of another file; give the file that includes it",
}
"""What to do about files with another root element."""
OFFERS_KEYFRAMES = "keyframes that keyframe= starts from"
MILLIMETRES = (
    "light for its size, so lengths may be millimetres where metres are due (a mesh takes"
    ' scale="0.001 0.001 0.001", other lengths are to be divided by 1000)'
)
HUGE = 20.0
"""Metres; a robot that is longer is looked at."""
LIGHT = 0.3
"""Kilograms per metre, which a robot in metres always has and one in millimetres never."""
SelfCollisions = bool | Literal["except_overlaps"]


def load_robot(
    path: str | os.PathLike[str],
    *,
    fixed_base: bool | None = None,
    root: str | None = None,
    keyframe: str | None = None,
    self_collisions: SelfCollisions = True,
    density: float | None = None,
    armature: float | None = None,
    collapse_fixed_joints: bool = False,
    decompose: bool | Sequence[str] = False,
    splitting: Splitting | None = None,
    drop_root_joints: bool = False,
    drop_unknown: bool = False,
) -> Robot:
    """The robot of a file.

    fixed_base: True removes a free joint from the root, False adds one, None keeps what the file
    says (a URDF says free, unless its root link is "world"). root: of an MJCF with several bodies
    below the world, the one to take; None takes all as one robot. keyframe: the one of an MJCF to
    start from. self_collisions: whether bodies of the robot may touch; "except_overlaps" turns off
    the pairs that overlap at the initial pose. density [kg/m^3], for URDF only: of links that have
    collision shapes but no mass; None is 1000, except where a link without shapes is fixed to
    them and has their mass. armature [kg m^2 or kg]: of hinges and slides for
    which the file has none. collapse_fixed_joints merges bodies without joints into their parents.
    decompose: names of collision meshes to split into convex parts, True for all, "sdf" for those
    of a URDF that have an <sdf>; without that, a mesh collides as its convex hull. splitting: how
    finely, if not as usual.
    drop_root_joints: the root loses its hinges and slides, so that any root can be fixed or free.
    drop_unknown: attributes of an MJCF that MuJoCo does not know are dropped, not refused, and so
    are links of a URDF that have the name of an earlier one, joints that have name and child of an
    earlier one, and links that no joint connects to the robot.

    The spec has been compiled once, so attaching it can fail only because of the scene.
    Raises PhalanxError, naming file, line and element, for anything that cannot be read.
    """
    count_warnings()  # of MuJoCo, instead of printing them
    file = Path(path)
    if self_collisions not in (True, False, "except_overlaps"):
        raise PhalanxError(
            f"self_collisions is {self_collisions!r}; accepted: True, False, 'except_overlaps'"
        )
    if density is not None and not 0 <= density < float("inf"):
        raise PhalanxError(f"density {density:g} is not 0 or positive; give it in kg/m^3")
    xml = read_xml(_checked(file))
    options: dict[str, Any] = {}
    poses: dict[str, Pose] = {}
    if xml.tag == "robot":
        _only_for("MJCF", file, root=root)
        urdf = UrdfReader(xml, file.resolve(), density, collapse_fixed_joints, drop_unknown)
        urdf.read()
        spec, notes = urdf.spec, urdf.notes
        fixed_base = urdf.fixed if fixed_base is None else fixed_base
    elif xml.tag == "mujoco":
        _only_for("URDF", file, density=density)
        spec, notes = read_mjcf(xml, file, drop_unknown)
        bodies.name_all(spec)
        options, poses = take_options(spec), take_keyframes(spec)
        actuators = [(a.name, a.target) for a in spec.actuators]
        notes += drop_dangling(spec, "what the file does not have")
        notes += unused_parts(xml) + strip_scenery(spec)
        notes += drop_dangling(spec, "the file's lights or cameras")
        find_files(spec, file)
        notes += swap_limits(spec)
        try:
            compile_spec(spec.copy())
        except ValueError:
            notes += mend(spec, file)
            _compiled(spec, xml, file)  # or a sentence
        apply_compiler(spec)
        notes += drop_dangling(spec, "nothing but the world's body", attached)
        notes = _placed(notes, xml) + choose_root(spec, root, file)
        if collapse_fixed_joints or spec.compiler.fusestatic:
            bodies.fuse_static(spec)
        left = [(a.name, a.target) for a in spec.actuators]
        without_dropped_actuators(poses, actuators, left)
    else:
        hint = ROOTS.get(xml.tag, "give MJCF or URDF")
        xml.fail(f"the root element is neither <mujoco> nor <robot>; {hint}")

    with_sdf = urdf.shapes.sdf if xml.tag == "robot" else []
    if chosen := with_sdf if decompose == "sdf" else decompose:
        notes += split_meshes(spec, chosen, file, splitting)
    elif with_sdf:
        text = "collide as convex hulls, not as an <sdf>; CoACD (phalanx[decompose]) splits them"
        places = {g.meshname: place_of(g) for g in spec.geoms if g.contype}
        notes += [Note("dropped", text, repr(name), places[name]) for name in with_sdf]
    if drop_root_joints:
        notes += bodies.drop_root_joints(spec)
    bodies.set_base(spec, fixed_base, file)
    if xml.tag == "robot":
        notes += bodies.add_missing_mass(spec)
    if armature is not None:
        bodies.set_armature(spec, armature)
    if self_collisions is False:
        bodies.exclude_all_contacts(spec)
    else:
        bodies.exclude_contacts_with_fixed_roots(spec)
    model, warned = _compiled(spec, xml, file)
    said = {note.item for note in notes}
    notes += [Note("doubt", MUJOCO_WARNS, text) for text in warned if text not in said]
    mass, extent = model.body_mass.sum(), model.stat.extent
    if model.nv and extent > HUGE and 0 < mass < LIGHT * extent:
        notes.append(Note("doubt", MILLIMETRES, f"{mass:.3g} kg and {extent:.3g} m"))

    robot = Robot(spec, file, notes, options, poses)
    robot.initial = _keyframe(poses, keyframe, file)
    if poses and keyframe is None:
        notes += [Note("offer", OFFERS_KEYFRAMES, repr(name)) for name in poses]
    if self_collisions:
        robot.overlaps = bodies.overlaps(model, robot.initial_qpos(model))
    for first, second, depth in robot.overlaps:
        item = f"{first!r} and {second!r} by {1e3 * depth:.4g} mm"
        if self_collisions is True:
            notes.append(Note("overlap", "overlap at the initial pose", item))
        else:
            spec.add_exclude(bodyname1=first, bodyname2=second)
            notes.append(Note("mended", "no contacts, since they overlap at first", item))
    # A scene says what a file offers.
    if logged := [note for note in notes if note.kind not in ("offer", "unused")]:
        log.warning("%s: %s", file, summary(logged))
    return robot


def _compiled(spec: mujoco.MjSpec, xml: Element, file: Path) -> tuple[mujoco.MjModel, list[str]]:
    """The model, and what MuJoCo warned about. Raises PhalanxError with the place in the file."""
    try:
        model, warned = compile_spec(spec.copy())
    except ValueError as error:
        raise mujoco_error(file, error, xml) from None
    if what := too_large(model):
        raise PhalanxError(
            f"{file}: its numbers make {what} too large for any computation; correct them"
        )
    return model, warned


def _placed(notes: list[Note], xml: Element) -> list[Note]:
    """The notes, with the places of named elements in included files, which MuJoCo does not
    know."""
    places: dict[str, list[str]] = {}
    for element in xml.iter():
        places.setdefault(repr(element.attrib.get("name")), []).append(element.place_in(xml))
    found = []
    for note in notes:
        place = places.get(note.item.removeprefix("plane "), [])
        found.append(replace(note, place=place[0]) if len(place) == 1 and not note.place else note)
    return found


def _keyframe(poses: dict[str, Pose], name: str | None, file: Path) -> Pose | None:
    if name is None:
        return None
    if name not in poses:
        raise no_keyframe(file, name, poses)
    return poses[name]


def no_keyframe(file: Path, name: str, own: Iterable[str]) -> PhalanxError:
    """The error for a keyframe that a robot's file lacks, where it has those named `own`."""
    names = list(own)
    cure = f'add <keyframe><key name="{name}" qpos="..."/></keyframe> to it'
    if file.suffix.lower() == ".urdf":
        new = f"phalanx new my_robots robot={shlex.quote(str(file))}"
        cure = f"a URDF cannot have one; `{new}` writes an MJCF with one, `home`"
    return PhalanxError(
        f"{file} has no keyframe {name!r}{did_you_mean(name, names)};"
        f" it has: {', '.join(map(repr, names)) or 'none'}; {cure}"
    )


def _only_for(kind: str, file: Path, **given: object) -> None:
    for name, value in given.items():
        if value is not None:
            raise PhalanxError(f"{file}: {name}= is for {kind} files; leave it out")


def _checked(file: Path) -> Path:
    """`file`, if it exists and has an accepted extension. Raises PhalanxError otherwise."""
    check_name(file)
    if file.is_dir():
        inside = sorted(f.name for f in file.iterdir() if f.suffix.lower() in EXTENSIONS)
        raise PhalanxError(
            f"{file} is a folder; give a robot file in it: {', '.join(inside) or 'it has none'}"
        )
    if not file.exists():
        if not file.parent.is_dir():
            raise PhalanxError(f"no file {file}: its folder does not exist; check the path")
        near = did_you_mean(file.name, (f.name for f in file.parent.iterdir()))
        raise PhalanxError(f"no file {file}{near or '; check the path'}")
    if file.suffix.lower() not in EXTENSIONS:
        hint = "; run xacro on it and load the output" if file.suffix == ".xacro" else ""
        raise PhalanxError(
            f"{file} has the extension {file.suffix!r}; accepted: {', '.join(EXTENSIONS)}{hint}"
        )
    return file
