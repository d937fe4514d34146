"""Reads a robot from an MJCF file.

    spec, notes, where = read_mjcf(root, file)

Keeps the robot, drops the scenery and corrects common mistakes, with notes on all changes.
"""

import re
from collections.abc import Mapping
from pathlib import Path
from xml.sax.saxutils import quoteattr

import mujoco
import numpy as np

from phalanx.errors import PhalanxError, did_you_mean
from phalanx.sim.meshes import mesh_problem
from phalanx.sim.robot import Note
from phalanx.sim.xml_file import Element, read_xml

EMPTY_RANGE = 1e-5  # distance put between limits that are equal, in the file's units
SCENE_SECTIONS = ("option", "size", "visual", "statistic", "custom", "keyframe")
SCENERY = ("geom", "light", "camera", "site")
MESH_LIKE = ("mesh", "hfield", "skin", "flexcomp")  # their files are relative to meshdir


def read_mjcf(root: Element, file: Path) -> tuple[mujoco.MjSpec, list[Note], dict[int, str]]:
    """The spec, what was changed, and MuJoCo's line number -> place in a file."""
    _expand_includes(root, file, {file.resolve()})
    root.children = [e for e in root.children if e.tag not in SCENE_SECTIONS]
    removed = [e for world in root.findall("worldbody") for e in _strip_scenery(world)]
    names = {e.attrib.get("name") for e in removed if e.tag == "geom"}
    for contact in root.findall("contact"):  # pairs with the floor
        contact.children = [
            e
            for e in contact.children
            if not names & {e.attrib.get("geom1", ""), e.attrib.get("geom2", "")}
        ]
    notes = _drop_unreadable_visuals(root, file)
    notes += _resolve_files(root, file)
    notes += _drop_undefined(root)
    notes += _make_joint_names_unique(root)
    notes += _correct_ranges(root)
    xml, where = _to_xml(root)
    try:
        return mujoco.MjSpec.from_string(xml), notes, where
    except ValueError as error:
        raise mujoco_error(file, error, where) from None


def _expand_includes(element: Element, main: Path, seen: set[Path]) -> None:
    """Put the children of an included file where the <include> was, as MuJoCo does. Paths are
    relative to the main file or, failing that, to the including one."""
    children: list[Element] = []
    for child in element.children:
        if child.tag != "include":
            _expand_includes(child, main, seen)
            children.append(child)
            continue
        name = child.attrib.get("file", "")
        candidates = [main.parent / name, Path(child.file).parent / name]
        found = next((c for c in candidates if c.is_file()), None)
        if found is None:
            child.fail(f"no file {candidates[0]}; correct the path")
        if found.resolve() in seen:
            child.fail("this file is already included; a file can be included only once")
        seen.add(found.resolve())
        included = read_xml(found)
        _expand_includes(included, main, seen)
        children += included.children
    element.children = children


def _strip_scenery(element: Element) -> list[Element]:
    """Remove geoms, lights, cameras and sites outside of bodies; returns what was removed."""
    removed = [e for e in element.children if e.tag in SCENERY]
    element.children = [e for e in element.children if e.tag not in SCENERY]
    for frame in element.children:
        if frame.tag in ("frame", "replicate"):
            removed += _strip_scenery(frame)
    return removed


def _drop_unreadable_visuals(root: Element, file: Path) -> list[Note]:
    """Drop meshes that only visual geoms use and that MuJoCo cannot read, with those geoms. A body
    that loses its last geom gets a tiny mass."""
    folder = Path()
    for compiler in root.findall("compiler"):
        folder = Path(compiler.attrib.get("meshdir", compiler.attrib.get("assetdir", folder)))
    used = [e for e in root.iter() if e.tag == "geom" and "mesh" in e.attrib]
    colliding = {e.attrib["mesh"] for e in used if not _is_visual(e)}
    dropped = {}
    for assets in root.findall("asset"):
        for mesh in assets.findall("mesh"):
            path = Path(mesh.attrib.get("file", ""))
            name = mesh.attrib.get("name", path.stem)
            target = file.resolve().parent / folder / path
            if name in colliding or not target.is_file():
                continue
            if mesh_problem(target, None, np.ones(3), collides=False) is not None:
                text = "skipped visual meshes that MuJoCo cannot read"
                dropped[name] = Note("dropped", text, mesh.attrib["file"], f"line {mesh.line}")
                assets.children.remove(mesh)
    for body in [e for e in root.iter() if e.tag in ("body", "worldbody")] if dropped else []:
        lost = [e for e in body.findall("geom") if e.attrib.get("mesh") in dropped]
        body.children = [e for e in body.children if e not in lost]
        if lost and not body.find("geom") and not body.find("inertial"):
            size = {"pos": "0 0 0", "mass": "0.001", "diaginertia": "1e-6 1e-6 1e-6"}
            body.children.append(Element("inertial", size, body.file, body.line))
    return list(dropped.values())


def _is_visual(geom: Element) -> bool:
    return geom.attrib.get("contype") == "0" and geom.attrib.get("conaffinity") == "0"


def _make_joint_names_unique(root: Element) -> list[Note]:
    """Rename joints whose name is taken; references mean the first joint of that name."""
    joints = [
        e
        for world in root.findall("worldbody")
        for e in world.iter()
        if e.tag in ("joint", "freejoint") and "name" in e.attrib
    ]
    taken = {joint.attrib["name"] for joint in joints}
    seen: set[str] = set()
    notes = []
    for joint in joints:
        name = joint.attrib["name"]
        if name in seen:
            free = (f"{name}_{i}" for i in range(1, len(joints) + 1))
            joint.attrib["name"] = next(n for n in free if n not in taken)
            taken.add(joint.attrib["name"])
            text = "renamed joints whose name was taken"
            notes.append(Note("mended", text, repr(name), f"line {joint.line}"))
        seen.add(name)
    return notes


def _correct_ranges(root: Element) -> list[Note]:
    """Swap limits in the wrong order, and widen limits that are equal by EMPTY_RANGE."""
    notes = []
    for joint in (e for e in root.iter() if e.tag == "joint" and "range" in e.attrib):
        try:
            low, high = (float(word) for word in joint.attrib["range"].split())
        except ValueError:
            continue  # MuJoCo says what is wrong
        if low >= high and joint.attrib.get("limited") != "false":
            low, high = (high, low) if low > high else (low, low + EMPTY_RANGE)
            joint.attrib["range"] = f"{low:.9g} {high:.9g}"
            item = repr(joint.attrib.get("name", ""))
            text = "corrected the range of joints"
            notes.append(Note("mended", text, item, f"line {joint.line}"))
    return notes


def _resolve_files(root: Element, file: Path) -> list[Note]:
    """Make every file name absolute. A missing texture is dropped, anything else must exist."""
    settings: dict[str, str] = {}
    notes = []
    for compiler in root.findall("compiler"):
        settings |= compiler.attrib
        for key in ("meshdir", "texturedir", "assetdir", "strippath"):
            compiler.attrib.pop(key, None)
        if compiler.attrib.pop("settotalmass", None):  # MuJoCo drops it on attaching
            notes.append(Note("dropped", "ignored settotalmass", "", f"line {compiler.line}"))
    asset_dir = settings.get("assetdir", "")
    mesh_dir = settings.get("meshdir", asset_dir)
    texture_dir = settings.get("texturedir", asset_dir)
    for element in root.iter():
        if element.tag == "texture":
            folder, keys = texture_dir, [k for k in element.attrib if k.startswith("file")]
        else:
            folder, keys = (mesh_dir if element.tag in MESH_LIKE else ""), ["file"]
        for key in [k for k in keys if k in element.attrib]:
            name = element.attrib[key]
            if settings.get("strippath") == "true":
                name = Path(name).name
            target = file.resolve().parent / folder / name
            if target.is_file():
                element.attrib[key] = str(target)
            elif element.tag == "texture":
                place = f"line {element.line}"
                notes.append(Note("dropped", "dropped textures without a file", repr(name), place))
                element.tag = "missing"
            else:
                near = ""
                if target.parent.is_dir():
                    near = did_you_mean(target.name, (f.name for f in target.parent.iterdir()))
                element.fail(f"no file {target}{near or '; supply it or correct meshdir'}")
    for assets in root.findall("asset"):
        assets.children = [e for e in assets.children if e.tag != "missing"]
    return notes


def _drop_undefined(root: Element) -> list[Note]:
    """Drop references to materials, textures and classes that are not defined."""
    materials, textures, classes = set(), set(), {"main"}
    for element in root.iter():
        name = element.attrib.get("name", Path(element.attrib.get("file", "")).stem)
        if element.tag == "default":
            classes.add(element.attrib.get("class", "main"))
        elif element.tag == "material":
            materials.add(name)
        elif element.tag == "texture":
            textures.add(name)
    dropped: dict[str, int] = {}  # what -> first line
    for element in root.iter():
        for key, defined in (
            ("material", materials),
            ("texture", textures),
            ("class", classes),
            ("childclass", classes),
        ):
            if element.attrib.get(key) not in {None, *defined}:
                what = f"{'class' if key == 'childclass' else key} {element.attrib.pop(key)!r}"
                dropped.setdefault(what, element.line)
        element.children = [e for e in element.children if not _empty_layer(e, textures)]
    text = "dropped references to undefined names"
    return [Note("dropped", text, what, f"line {line}") for what, line in dropped.items()]


def _empty_layer(element: Element, textures: set[str]) -> bool:
    """Whether this is the <layer> of a material whose texture does not exist."""
    return element.tag == "layer" and element.attrib.get("texture") not in textures


def _to_xml(root: Element) -> tuple[str, dict[int, str]]:
    """XML with one element per line, and line -> where that element came from."""
    lines: list[str] = []
    where: dict[int, str] = {}

    def write(element: Element) -> None:
        attributes = "".join(f" {k}={quoteattr(v)}" for k, v in element.attrib.items())
        lines.append(f"<{element.tag}{attributes}>")
        where[len(lines)] = element.where
        for child in element.children:
            write(child)
        lines[-1] += f"</{element.tag}>"

    write(root)
    return "\n".join(lines), where


def mujoco_error(
    file: Path, error: Exception, where: Mapping[int, str] | None = None
) -> PhalanxError:
    """MuJoCo's error about a file, on one line that starts with file, line and element.

    where: line that MuJoCo reports -> "file, line, <element>"; for other lines, the file alone.
    """
    text = " ".join(str(error).split())
    text = re.sub(r"^((XML )?Error: |Schema violation: )+", "", text)
    line = re.search(r",? line (\d+)$", text)
    place = (where or {}).get(int(line[1])) if line else None
    if line and place:
        text = re.sub(r" Element .*$", "", text)
    return PhalanxError(f"{place or file}: MuJoCo cannot use this: {text}; correct it there")
