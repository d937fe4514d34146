"""Takes the robot out of the scene that an MJCF file describes.

    options = take_options(spec)             # what the file says in <option>
    poses = take_keyframes(spec)             # {"home": Pose}, in terms of joints
    notes = strip_scenery(spec)
    notes += choose_root(spec, "pelvis", file)

A scene has its own floor, lights, cameras and visual settings, so those of the file go. Sites of
the world stay: tendons hang from them. Options and keyframes are returned as data.
"""

from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import mujoco
import numpy as np

from phalanx.errors import PhalanxError, did_you_mean
from phalanx.sim.robot import Note, Pose, name_of, place_of
from phalanx.sim.xml_file import Element

# Fields of mjOption in the order of the bits that say which of them a file gives.
_OPTIONS = (
    "timestep impratio tolerance ls_tolerance noslip_tolerance ccd_tolerance sleep_tolerance"
    " gravity wind magnetic density viscosity o_margin o_solref o_solimp o_friction integrator cone"
    " jacobian solver iterations ls_iterations noslip_iterations ccd_iterations disableflags"
    " enableflags disableactuator sdf_initpoints sdf_iterations"
).split()
_MESHES = (mujoco.mjtGeom.mjGEOM_MESH, mujoco.mjtGeom.mjGEOM_SDF)
_WRAPPED = (mujoco.mjtWrap.mjWRAP_SPHERE, mujoco.mjtWrap.mjWRAP_CYLINDER)
_FLAGS = ("disableflags", "enableflags", "disableactuator")
_WIDTHS = {mujoco.mjtJoint.mjJNT_FREE: (7, 6), mujoco.mjtJoint.mjJNT_BALL: (4, 3)}


def take_options(spec: mujoco.MjSpec) -> dict[str, Any]:
    """The physics options that the file gives, under MuJoCo's names; a flag is "flag NAME": bool.
    The spec gets MuJoCo's defaults for these and for visual settings and sizes."""
    authored = spec.authored
    given: dict[str, Any] = {}
    for bit, name in enumerate(_OPTIONS):
        if authored.option >> bit & 1 and name not in _FLAGS:
            value = getattr(spec.option, name)
            given[name] = value.tolist() if isinstance(value, np.ndarray) else value
    for kind, prefix, on in (
        ("disableflags", "mjDSBL_", False),
        ("enableflags", "mjENBL_", True),
    ):
        bits = mujoco.mjtDisableBit if kind == "disableflags" else mujoco.mjtEnableBit
        for name, member in bits.__members__.items():
            if name.startswith(prefix) and getattr(authored, kind) & int(member):
                set_bit = bool(getattr(spec.option, kind) & int(member))
                given[f"flag {name.removeprefix(prefix).lower()}"] = set_bit == on
    if spec.option.disableactuator:
        given["disableactuator"] = int(spec.option.disableactuator)
    default = mujoco.MjSpec()
    for name in ("option", "visual", "stat"):
        setattr(spec, name, getattr(default, name))
    for name in _SIZES:
        setattr(spec, name, getattr(default, name))
    for name in dir(authored):
        if not name.startswith("_"):
            setattr(spec.authored, name, 0)
    return given


def take_keyframes(spec: mujoco.MjSpec) -> dict[str, Pose]:
    """The keyframes of the file by name, or by number where they have none. Joints and mocap bodies
    must be named. The spec loses them, since they hold as long as the robot has all of the file's
    joints."""
    poses = {}
    for number, key in enumerate(list(spec.keys)):
        pose = Pose(ctrl=list(key.ctrl) or None, act=list(key.act) or None, time=key.time)
        for values, width, target in ((key.qpos, 0, pose.qpos), (key.qvel, 1, pose.qvel)):
            rest = list(values)
            for joint in spec.joints if rest else []:
                count = _WIDTHS.get(joint.type, (1, 1))[width]
                target[joint.name], rest = rest[:count], rest[count:]
        mocap = [body.name for body in spec.bodies if body.mocap]
        for values, count, target in (
            (key.mpos, 3, pose.mocap_pos),
            (key.mquat, 4, pose.mocap_quat),
        ):
            rows = np.array(values).reshape(-1, count).tolist()
            target.update(zip(mocap, rows, strict=False))
        poses[key.name or str(number)] = pose
        spec.delete(key)
    return poses


_PREFIX = "attached/"
_REFERRING = ("actuators", "sensors", "tendons", "equalities", "excludes", "pairs")
_TARGETS = "target objname refname name1 name2 bodyname1 bodyname2 geomname1 geomname2".split()


def attached(spec: mujoco.MjSpec) -> mujoco.MjSpec:
    """A scene of the robot alone."""
    scene = mujoco.MjSpec()
    scene.attach(spec.copy(), frame=scene.worldbody.add_frame(), prefix=_PREFIX)
    return scene


def drop_dangling(
    spec: mujoco.MjSpec,
    what: str,
    copy: Callable[[mujoco.MjSpec], mujoco.MjSpec] = mujoco.MjSpec.copy,
) -> list[Note]:
    """Remove what refers to joints, bodies, shapes, ... that are not there; `what` they are, for
    the notes. MuJoCo rejects such a file, but `copy` leaves such elements out and says nothing:
    that of a spec, or `attached`."""
    notes: list[Note] = []
    while True:
        copied, lost = copy(spec), 0
        for kind in _REFERRING:
            left = Counter(map(_identity, getattr(copied, kind)))
            for element in list(getattr(spec, kind)):
                left[_identity(element)] -= 1
                if left[_identity(element)] < 0:
                    text = f"dropped {kind} that refer to {what}"
                    notes.append(Note("dropped", text, name_of(element), place_of(element)))
                    spec.delete(element)
                    lost += 1
        if not lost:
            return notes


def _identity(element: Any) -> tuple[str, ...]:
    names = (element.name, *(str(getattr(element, a, "")) for a in _TARGETS))
    return (element.info, *(name.removeprefix(_PREFIX) for name in names))


def without_dropped_actuators(
    poses: dict[str, Pose], before: list[tuple[str, str]], left: list[tuple[str, str]]
) -> None:
    """Take the controls of actuators that loading dropped out of the poses; names and targets of
    the actuators that were read, and of those that are left."""
    kept = [i for i, names in enumerate(before) if names in left]
    for pose in poses.values():
        if pose.ctrl is not None and not len(kept) == len(before) == len(pose.ctrl):
            # Of a file that MuJoCo rejects, some may not have been read: then all begin at 0.
            fits = len(pose.ctrl) == len(before)
            pose.ctrl = [pose.ctrl[i] for i in kept] if fits else None
            pose.act = None


_SECTIONS = ("visual", "statistic", "size", "custom")
_OWN = "left out, since a scene has its own"


def unused_parts(root: Element) -> list[Note]:
    """Notes on the parts of a file that are about its own scene, but for planes."""
    text, notes = "sections without effect", []
    for section in root.children:
        if section.tag in _SECTIONS:
            notes.append(Note("unused", text, f"<{section.tag}>", section.place_in(root)))
        for element in _of_world(section) if section.tag == "worldbody" else ():
            if element.tag in ("light", "camera"):
                name = element.attrib.get("name")
                item = f"{element.tag} {name!r}" if name else f"{element.tag} without a name"
                notes.append(Note("unused", _OWN, item, element.place_in(root)))
    return notes


def _of_world(section: Element) -> Iterable[Element]:
    """What is in <worldbody>, but bodies and what is in them."""
    for element in section.children:
        yield element
        if element.tag in ("frame", "replicate"):
            yield from _of_world(element)


def strip_scenery(spec: mujoco.MjSpec) -> list[Note]:
    """Remove what belongs to the world: shapes, lights, cameras, and contact pairs with them. A
    shape that a sensor or a tendon needs stays."""
    world = spec.worldbody
    notes = []
    gone = set()
    geom_type = mujoco.mjtObj.mjOBJ_GEOM
    needed = {s.objname for s in spec.sensors if s.objtype == geom_type}
    needed |= {s.refname for s in spec.sensors if s.reftype == geom_type}
    needed |= {w.target.name for t in spec.tendons for w in t.path if w.type in _WRAPPED}
    for geom in list(world.geoms):
        if geom.name and geom.name in needed:
            continue
        if geom.type == mujoco.mjtGeom.mjGEOM_PLANE:
            notes.append(Note("unused", _OWN, name_of(geom, "plane"), place_of(geom)))
        else:
            text = "dropped shapes that are fixed to the world"
            notes.append(Note("dropped", text, name_of(geom), place_of(geom)))
        gone.add(geom.name)
        spec.delete(geom)
    for element in (*world.lights, *world.cameras):
        spec.delete(element)
    for pair in list(spec.pairs):
        if {pair.geomname1, pair.geomname2} & (gone - {""}):
            text = "dropped contact pairs with shapes that are fixed to the world"
            item = f"{pair.geomname1!r} and {pair.geomname2!r}"
            notes.append(Note("dropped", text, item, place_of(pair)))
            spec.delete(pair)
    for element in (*spec.numerics, *spec.texts, *spec.tuples):
        spec.delete(element)
    return notes


def choose_root(spec: mujoco.MjSpec, root: str | None, file: Path) -> list[Note]:
    """Keep the body `root` below the world, or all of them if it is None."""
    roots = list(spec.worldbody.bodies)
    names = [body.name for body in roots]
    if root is not None:
        if root not in names:
            raise PhalanxError(
                f"{file}: no body {root!r} below the world{did_you_mean(root, names)};"
                f" there is: {', '.join(map(repr, names)) or 'none'}"
            )
        for body in roots:
            if body.name != root:
                _delete_followers(spec, {b.name for b in _subtree(body)})
                spec.delete(body)
        return []
    if not roots:
        raise PhalanxError(f"{file}: no body below the world; a robot needs at least one <body>")
    if len(roots) == 1:
        return []
    text = "all bodies below the world are one robot; root= takes one of them"
    return [Note("offer", text, name) for name in map(repr, names)]


def apply_compiler(spec: mujoco.MjSpec) -> None:
    """Apply what MuJoCo forgets of <compiler> when it attaches a robot to a scene, but for
    fusestatic: discardvisual, fitaabb and settotalmass."""
    if spec.compiler.discardvisual:
        spec.discard_visual()
    if spec.compiler.fitaabb:
        _fit_to_boxes(spec)
    if spec.compiler.settotalmass > 0:
        _scale_to_total_mass(spec)


def _fit_to_boxes(spec: mujoco.MjSpec) -> None:
    """Give shapes that stand for a mesh the sizes that fit its bounding box."""
    fitted = spec.copy()
    model = fitted.compile()
    for geom, same in zip(spec.geoms, fitted.geoms, strict=True):
        if geom.meshname and geom.type not in _MESHES:
            geom.size, geom.pos, geom.quat = (
                getattr(model, f"geom_{field}")[same.id] for field in ("size", "pos", "quat")
            )
            geom.alt.type = mujoco.mjtOrientation.mjORIENTATION_QUAT
            geom.meshname = ""


def _scale_to_total_mass(spec: mujoco.MjSpec) -> None:
    total = spec.compiler.settotalmass
    spec.compiler.settotalmass = -1
    factor = total / float(spec.copy().compile().body_mass.sum())
    spec.compiler.boundmass *= factor  # which come first
    spec.compiler.boundinertia *= factor
    for body in spec.bodies[1:]:
        body.mass *= factor
        body.inertia *= factor
        body.fullinertia *= factor
        for geom in body.geoms:
            geom.mass *= factor  # NaN where the density counts
            geom.density *= factor


def _subtree(body: mujoco.MjsBody) -> Iterable[mujoco.MjsBody]:
    yield body
    for child in body.bodies:
        yield from _subtree(child)


def _delete_followers(spec: mujoco.MjSpec, bodies: set[str]) -> None:
    """Delete excludes that name one of these bodies, which MuJoCo does not do by itself."""
    for exclude in list(spec.excludes):
        if {exclude.bodyname1, exclude.bodyname2} & bodies:
            spec.delete(exclude)


_SIZES = (
    "memory nemax nuserdata nuser_body nuser_jnt nuser_geom nuser_site nuser_cam nuser_tendon"
    " nuser_actuator nuser_sensor nkey njmax nconmax nstack"
).split()
