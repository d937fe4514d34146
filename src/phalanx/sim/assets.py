"""Loads a robot from an MJCF or URDF file, ready to be attached into a scene.

    robot = load_robot("ant.xml")                         # robot.spec has one root body
    scene = mujoco.MjSpec()
    frame = scene.worldbody.add_frame(pos=[0, 0, 1])
    frame.attach_body(robot.spec.worldbody.first_body(), "ant/", "")

Files are read as Isaac Gym's users expect. From an MJCF the robot, defaults, assets, actuators,
sensors and contact rules are kept; floor, lights, cameras, keyframes, custom fields and physics
options are dropped, since the scene has its own. `phalanx.sim.urdf` has the URDF rules. References
to materials, textures and classes that a file never defines are dropped. All of this is in the
robot's notes, and logged as one warning. Surprises:

- The root body keeps the position that the file gives it.
- Bodies joined to a fixed root do not collide with it. MuJoCo excludes contacts between parent
  and child except where the parent is welded to the world; here the contact is excluded as well.
- A body without a name gets one, `body<i>`.
"""

import logging
import os
from pathlib import Path

import mujoco
import numpy as np

from phalanx.errors import PhalanxError, did_you_mean
from phalanx.sim.mjcf import mujoco_error, read_mjcf
from phalanx.sim.robot import Note, Robot, summary
from phalanx.sim.urdf import UrdfReader
from phalanx.sim.xml_file import read_xml

log = logging.getLogger(__name__)

EXTENSIONS = (".xml", ".mjcf", ".urdf")
LEAST_MASS = 1e-3  # [kg] of a moving link that has neither mass nor shapes
LEAST_INERTIA = 1.5e-8  # [kg m^2] of a ball of water of that mass


def load_robot(
    path: str | os.PathLike[str],
    *,
    fixed_base: bool | None = None,
    density: float = 1000.0,
    collapse_fixed_joints: bool = False,
    drop_root_joints: bool = False,
) -> Robot:
    """The robot of a file. Its spec has exactly one body below the world.

    fixed_base: True removes a free joint from the root, False adds one, None keeps what the file
    says (a URDF says free, unless its root link is "world"). For URDF only: `density` [kg/m^3] of
    links that have collision shapes but no mass, and whether links on fixed joints merge into their
    parents. drop_root_joints: the root loses its hinges and slides before that, so that any root
    can be fixed or free.
    The spec has been compiled once, so attaching it can fail only because of the scene.
    Raises PhalanxError, naming file, line and element, for anything that cannot be read.
    """
    file = Path(path)
    if not 0 <= density < float("inf"):
        raise PhalanxError(f"density {density:g} is not 0 or positive; give it in kg/m^3")
    root = read_xml(_checked(file))
    if root.tag == "robot":
        where = {e.line: e.where for e in reversed(list(root.iter()))}
        urdf = UrdfReader(root, file.resolve(), density, collapse_fixed_joints)
        urdf.read()
        spec, notes = urdf.spec, urdf.notes
        fixed_base = urdf.fixed if fixed_base is None else fixed_base
    elif root.tag == "mujoco":
        spec, notes, where = read_mjcf(root, file)
    else:
        hint = "convert it from SDF to URDF or MJCF" if root.tag == "sdf" else "give MJCF or URDF"
        root.fail(f"the root element is neither <mujoco> nor <robot>; {hint}")

    bodies = spec.worldbody.bodies
    if len(bodies) != 1:
        names = ", ".join(repr(b.name) for b in bodies) or "none"
        raise PhalanxError(
            f"{file}: an asset has one body directly below the world, this file has {len(bodies)}"
            f" ({names}); put one robot in a file, below one root body"
        )
    for i, body in enumerate(spec.bodies):
        body.name = body.name or f"body{i}"
    for joint in bodies[0].joints if drop_root_joints else []:
        if joint.type != mujoco.mjtJoint.mjJNT_FREE:
            notes.append(Note("dropped", "dropped joints of the root", repr(joint.name)))
            spec.delete(joint)
    _set_base(spec, bodies[0], fixed_base, file)
    _exclude_contacts_with_fixed_root(spec, bodies[0])
    if root.tag == "robot":
        notes += _add_missing_mass(spec)
    try:
        model = spec.copy().compile()
    except ValueError as error:
        raise mujoco_error(file, error, where) from None
    if bodies[0].frame:
        _take_root_out_of_frames(spec, bodies[0], model)
    if notes:
        log.warning("%s: %s", file, summary(notes))
    return Robot(spec, file, notes)


def _checked(file: Path) -> Path:
    """`file`, if it exists and has an accepted extension. Raises PhalanxError otherwise."""
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


def _set_base(
    spec: mujoco.MjSpec, root: mujoco.MjsBody, fixed_base: bool | None, file: Path
) -> None:
    free = [j for j in root.joints if j.type == mujoco.mjtJoint.mjJNT_FREE]
    if fixed_base is True:
        for joint in free:
            spec.delete(joint)
    elif fixed_base is False and not free:
        if root.joints:
            raise PhalanxError(
                f"{file}: root body {root.name!r} moves on joint {root.joints[0].name!r}, so it"
                " cannot have a free joint as well; load it with fixed_base=True or None"
            )
        root.add_freejoint()


def _take_root_out_of_frames(
    spec: mujoco.MjSpec, root: mujoco.MjsBody, model: mujoco.MjModel
) -> None:
    """Give the root its pose in the world: attach_body would drop the <frame> around it."""
    root.set_frame(spec.worldbody.add_frame())
    root.pos, root.quat = model.body_pos[1], model.body_quat[1]
    root.alt.type = mujoco.mjtOrientation.mjORIENTATION_QUAT


def _exclude_contacts_with_fixed_root(spec: mujoco.MjSpec, root: mujoco.MjsBody) -> None:
    """Exclude contacts between a fixed root (and bodies welded to it) and the next links."""
    if root.joints:
        return
    welded, moving = _weld_group(root)
    for joint_child in moving:
        for body in _weld_group(joint_child)[0]:
            for other in welded:
                if _collides(body) and _collides(other):
                    spec.add_exclude(bodyname1=other.name, bodyname2=body.name)


def _add_missing_mass(spec: mujoco.MjSpec) -> list[Note]:
    """Give moving bodies LEAST_MASS, where neither they nor the bodies welded to them have mass."""
    notes = []
    for body in spec.bodies[1:]:
        if body.joints and not any(member.mass for member in _weld_group(body)[0]):
            body.mass, body.inertia = LEAST_MASS, np.full(3, LEAST_INERTIA)
            text = f"added {LEAST_MASS:g} kg to moving links without mass"
            notes.append(Note("added", text, repr(body.name), body.info))
    return notes


def _weld_group(body: mujoco.MjsBody) -> tuple[list[mujoco.MjsBody], list[mujoco.MjsBody]]:
    """The bodies rigidly joined to `body` from below, and the first moving bodies below those."""
    welded: list[mujoco.MjsBody] = [body]
    moving: list[mujoco.MjsBody] = []
    for member in welded:  # grows during the loop
        for child in member.bodies:
            (moving if child.joints else welded).append(child)
    return welded, moving


def _collides(body: mujoco.MjsBody) -> bool:
    return any(g.contype or g.conaffinity for g in body.geoms)
