"""Reads a robot from an MJCF file.

    spec, notes = read_mjcf(root, file)

MuJoCo reads the file. Only what it rejects is read again as text, with three things mended: classes
that are never defined, names that are taken, and attributes that only older versions of MuJoCo
have. `mjcf_parts.py` then takes the robot out of its scene, and `mjcf_assets.py` mends its files.
"""

import re
from pathlib import Path
from xml.sax.saxutils import quoteattr

import mujoco

from phalanx.errors import PhalanxError
from phalanx.gate import check_file
from phalanx.sim.robot import Note
from phalanx.sim.xml_file import Element, read_xml
from phalanx.sim.xml_gate import check_mjcf

MOST_FILES = 200
OLD_ATTRIBUTES: dict[str, dict[str, str]] = {
    "option": {
        "apirate": "",
        "realtime": "",
        "collision": "",
        "algorithm": "solver",
        "mpr_tolerance": "ccd_tolerance",
        "mpr_iterations": "ccd_iterations",
    },
    "compiler": {"convexhull": "", "exactmeshinertia": ""},
    "flag": {"passive": "", "sensornoise": ""},
}
"""Element -> attribute of an older MuJoCo -> its name today, empty if it is gone."""


def read_mjcf(
    root: Element, file: Path, drop_unknown: bool = False
) -> tuple[mujoco.MjSpec, list[Note]]:
    """The spec of a file, as MuJoCo reads it, and notes on what was mended first. Puts included
    elements into `root`. drop_unknown: drop attributes that MuJoCo does not know."""
    _expand_includes(root, file, {file.resolve()})
    check_mjcf(root, file)
    try:
        return mujoco.MjSpec.from_file(str(file.resolve())), []
    except (ValueError, RuntimeError):
        notes = _drop_undefined_classes(root) + _make_names_unique(root)
        notes += _renew_old_attributes(root)
    while True:
        try:
            spec = mujoco.MjSpec.from_string(_to_xml(root, file))
        except (ValueError, RuntimeError) as error:
            unknown = _unknown_attribute(error, root) if drop_unknown else None
            if unknown is None:
                raise mujoco_error(file, error, root) from None
            element, key = unknown
            del element.attrib[key]
            text = "dropped attributes that MuJoCo does not know"
            notes.append(Note("dropped", text, f"{key} of <{element.tag}>", element.place_in(root)))
        else:
            spec.modelfiledir = f"{file.resolve().parent}/"
            return spec, notes


def _renew_old_attributes(root: Element) -> list[Note]:
    """Rename or drop what only older versions of MuJoCo read."""
    notes = []
    for element in root.iter():
        for key, now in OLD_ATTRIBUTES.get(element.tag, {}).items():
            if key not in element.attrib:
                continue
            value = element.attrib.pop(key)
            if key == "passive":  # one flag for what are two today
                element.attrib |= {"spring": value, "damper": value}
            elif now:
                element.attrib.setdefault(now, value)
            else:
                text = "dropped attributes that MuJoCo no longer has"
                item = f"{key} of <{element.tag}>"
                notes.append(Note("dropped", text, item, element.place_in(root)))
    return notes


def _unknown_attribute(error: Exception, root: Element) -> tuple[Element, str] | None:
    """The element and attribute that MuJoCo complains about, if it is about one of this file."""
    text = " ".join(str(error).split())
    found = re.search(r"unrecognized attribute: '([^']+)' Element '([^']+)', line (\d+)", text)
    if found is None:
        return None
    key, tag, line = found[1], found[2], int(found[3])
    having = [e for e in root.iter() if e.tag == tag and key in e.attrib]
    return next(((e, key) for e in having if e.line == line), None) or (
        (having[0], key) if having else None
    )


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
        there = [c for c in candidates if c.exists()]
        if not there:
            child.fail(f"no file {candidates[0]}; correct the path")
        found = next((c for c in there if c.is_file()), there[0])
        try:
            check_file(found)
        except PhalanxError as error:
            child.fail(str(error))
        if found.resolve() in seen:
            child.fail("this file is already included; a file can be included only once")
        if len(seen) > MOST_FILES:
            child.fail(f"more than {MOST_FILES} files are included; put them together")
        seen.add(found.resolve())
        included = read_xml(found)
        _expand_includes(included, main, seen)
        children += included.children
    element.children = children


def _drop_undefined_classes(root: Element) -> list[Note]:
    """Drop references to classes that are not defined."""
    defined = {e.attrib.get("class", "main") for e in root.iter() if e.tag == "default"} | {"main"}
    dropped: dict[str, str] = {}  # what -> first place
    for element in root.iter():
        for key in ("class", "childclass"):
            if element.attrib.get(key) not in {None, *defined}:
                dropped.setdefault(f"class {element.attrib.pop(key)!r}", element.place_in(root))
    text = "dropped references to undefined names"
    return [Note("dropped", text, what, place) for what, place in dropped.items()]


def _make_names_unique(root: Element) -> list[Note]:
    """Rename joints, geoms and sites whose name is taken; references mean the first of a name."""
    notes = []
    bodies = [e for world in root.findall("worldbody") for e in world.iter() if "name" in e.attrib]
    for kind, tags in (
        ("joints", ("joint", "freejoint")),
        ("geoms", ("geom",)),
        ("sites", ("site",)),
    ):
        elements = [e for e in bodies if e.tag in tags]
        taken = {e.attrib["name"] for e in elements}
        seen: set[str] = set()
        for element in elements:
            name = element.attrib["name"]
            if name in seen:
                free = (f"{name}_{i}" for i in range(1, len(elements) + 1))
                element.attrib["name"] = next(n for n in free if n not in taken)
                taken.add(element.attrib["name"])
                text = f"renamed {kind} whose name was taken"
                notes.append(Note("mended", text, repr(name), element.place_in(root)))
            seen.add(name)
    return notes


def _to_xml(root: Element, file: Path) -> str:
    """XML in which each element of the main file is in its own line of that file, so that MuJoCo's
    messages and notes name it. Included elements are in the line where they were included."""
    parts: list[str] = []
    line = 1

    def write(element: Element) -> None:
        nonlocal line
        if element.file == str(file) and element.line > line:
            parts.append("\n" * (element.line - line))
            line = element.line
        attributes = "".join(f" {k}={quoteattr(v)}" for k, v in element.attrib.items())
        parts.append(f"<{element.tag}{attributes}>")
        for child in element.children:
            write(child)
        parts.append(f"</{element.tag}>")

    write(root)
    return "".join(parts)


def mujoco_error(file: Path, error: Exception, root: Element) -> PhalanxError:
    """MuJoCo's error about a file, on one line that starts with file, line and element.

    root: the file's root element with its includes in place, where the line that MuJoCo reports is
    looked up. It knows no line of an included file; there the name of the element may tell.
    """
    text = " ".join(str(error).split())
    text = re.sub(r"^((XML )?Error: |Schema violation: )+", "", text)
    text = re.sub(r"^size (\d) must", lambda n: f"number {int(n[1]) + 1} of its size must", text)
    line = re.search(r",? line (\d+)$", text)
    name = re.search(r"Element (?:name )?'([^']+)'", text)
    elements = list(root.iter())
    place = None
    if line and int(line[1]):
        inside = [e for e in elements if e.line == int(line[1]) and e.file == str(file)]
        tagged = [e for e in inside if name and name[1] in (e.tag, e.attrib.get("name"))]
        place = next((e.where for e in tagged + inside), None)
    elif name:
        place = next((e.where for e in elements if e.attrib.get("name") == name[1]), None)
    if place:
        text = re.sub(r" Element .*$", "", text)
    text = text.rstrip(".")
    return PhalanxError(f"{place or file}: MuJoCo cannot use this: {text}; correct it there")
