"""The gate for the numbers and file names in a robot file, before anything is made of them.

    check_mjcf(root, file)      # the root element, with its includes in their places
    check_urdf(root)

MuJoCo takes NaN for "not given" and negative damping as it is, makes a billion copies if a
<replicate> asks for them, and waits for a pipe to be written to. What does not pass raises
PhalanxError with file, line, element and attribute.
"""

import math
import re
from pathlib import Path

from phalanx.errors import PhalanxError
from phalanx.gate import check_file, show
from phalanx.sim.xml_file import Element, read_xml

MOST = 1e18
"""Products of two such numbers still fit into float32."""
NOT_FINITE = re.compile(r"[-+]?(nan|inf)", re.IGNORECASE)

NAMES = frozenset(
    "name class childclass model prefix frame content_type instance plugin key value joint joint1"
    " joint2 jointinparent body body1 body2 geom geom1 geom2 site site1 site2 cranksite slidersite"
    " refsite sidesite tendon tendon1 tendon2 actuator camera flex mesh material hfield texture"
    " target objname refname subtree1 subtree2 node meshdir texturedir assetdir".split()
)
"""Attributes of an MJCF that hold text; a body may well be called "nan"."""
FILES = frozenset("file fileback filedown filefront fileleft fileright fileup".split())
COLOURS_AND_SIZES = ("rgba", "scale")  # in <visual>, where `camera` and `actuator` are numbers

ACTUATORS = (
    "general motor position velocity intvelocity damper cylinder muscle adhesion dcmotor pid"
    " orientation plugin".split()
)
NOT_NEGATIVE = {
    "joint": "damping armature frictionloss",
    "geom": "mass density friction",
    "pair": "friction",
    "inertial": "mass diaginertia",
    "fixed": "damping armature frictionloss",
    "spatial": "damping armature frictionloss width",
    "tendon": "damping armature frictionloss width",
    "compiler": "boundmass boundinertia",
    "option": "timestep density viscosity impratio tolerance ls_tolerance noslip_tolerance"
    " ccd_tolerance o_friction iterations ls_iterations noslip_iterations ccd_iterations",
    "flexcomp": "mass radius",
    "flex": "radius",
    "contact": "friction",
    "edge": "damping stiffness",
    "elasticity": "young poisson damping thickness",
    **dict.fromkeys(ACTUATORS, "armature damping kv dampratio timeconst diameter area delay"),
}
"""Attributes of an MJCF, by element, that must not be negative."""
COUNTS = {
    ("flexcomp", "count"): 5000,
    ("flexcomp", "cellcount"): 1000,
    ("flex", "cellcount"): 1000,
    ("hfield", "nrow ncol"): 10_000_000,
    ("texture", "width height"): 70_000_000,
    ("texture", "gridsize"): 100,
    ("camera", "resolution"): 70_000_000,
    ("contact", "num"): 1000,
    ("user", "dim"): 100_000,
    ("mesh", "params"): 10_000,
    **{(tag, "actdim"): 1000 for tag in ACTUATORS},
}
"""Numbers of an MJCF that decide about memory: the most that their product may be."""
MOST_ELEMENTS = 10_000
"""Elements that <replicate> may make of the file's."""
MOST_SAMPLES = 100_000  # in nsample
MOST_STEPS = 100_000  # to find the range of a tendon's length

URDF_NUMBERS = {
    "origin": "xyz rpy",
    "mass": "value",
    "inertia": "ixx iyy izz ixy ixz iyz",
    "axis": "xyz",
    "dynamics": "damping friction",
    "limit": "lower upper effort velocity",
    "mimic": "multiplier offset",
    "box": "size",
    "sphere": "radius",
    "cylinder": "radius length",
    "capsule": "radius length",
    "plane": "normal",
    "mesh": "scale",
}
URDF_NOT_NEGATIVE = {
    "mass": "value",
    "dynamics": "damping friction",
    "limit": "effort velocity",
    "box": "size",
    "sphere": "radius",
    "cylinder": "radius length",
    "capsule": "radius length",
}


def check_mjcf(root: Element, file: Path, depth: int = 0) -> None:
    """Raise PhalanxError for the first number or file that does not pass. file: the main file."""
    in_visual = {id(e) for visual in root.findall("visual") for e in visual.iter()}
    for element in root.iter():
        names = NAMES if id(element) not in in_visual else NAMES - {"actuator", "camera"}
        others = names | FILES
        signless = NOT_NEGATIVE.get(element.tag, "").split()
        for key in element.attrib:  # in their order: the first that does not pass is named
            if key not in others and (element.tag, key) != ("text", "data"):
                _check_numbers(element, key, not_negative=key in signless)
        _check_counts(element)
    _check_replicas(root)
    _check_files(root, file, depth)


def check_urdf(root: Element) -> None:
    """The same for a URDF, in the elements that have an effect. Limits may be infinite there."""
    inside = [e for tag in ("link", "joint") for top in root.findall(tag) for e in top.iter()]
    for element in inside:
        signless = URDF_NOT_NEGATIVE.get(element.tag, "").split()
        for key in URDF_NUMBERS.get(element.tag, "").split():
            if key in element.attrib:
                _check_numbers(element, key, key in signless, endless=element.tag == "limit")


def _check_numbers(
    element: Element, key: str, not_negative: bool = False, endless: bool = False
) -> None:
    text = element.attrib[key]
    for word in text.split():
        try:
            number = float(word)
        except ValueError:
            if not NOT_FINITE.match(word):
                continue  # a word, which the reader knows or refuses
            number = math.nan
        shown = f"{key}={show(text)}" + ("" if len(text) <= 50 else f" has {word[:20]}, which")
        if math.isnan(number) or (math.isinf(number) and not endless):
            element.fail(f"{shown} is not finite; give a number, or leave the attribute out")
        if abs(number) > MOST and not endless:
            element.fail(f"{shown} is beyond {MOST:g}; no quantity of a robot is so large")
        if number < 0 and not_negative:
            element.fail(f"{shown} is negative; give 0 or a positive number")


def _numbers(element: Element, key: str) -> list[float]:
    """The numbers of an attribute; none where it is missing or has a word that is no number."""
    try:
        return [float(word) for word in element.attrib.get(key, "").split()]
    except ValueError:
        return []


def _check_counts(element: Element) -> None:
    for (tag, keys), most in COUNTS.items():
        if element.tag == tag:
            counts = [n for key in keys.split() for n in _numbers(element, key)]
            if math.prod(max(abs(n), 1.0) for n in counts) > most:
                given = " ".join(f"{k}={element.attrib.get(k, '')[:40]!r}" for k in keys.split())
                element.fail(f"{given} asks for more than {most} of them; give less")
    if element.tag == "lengthrange":
        seconds, step = (
            _numbers(element, k) or [d] for k, d in (("inttotal", 10.0), ("timestep", 0.01))
        )
        if seconds[0] > MOST_STEPS * step[0]:
            element.fail(f"inttotal is more than {MOST_STEPS} times timestep; make it shorter")
    if any(n > MOST_SAMPLES for n in _numbers(element, "nsample")):
        element.fail(f"nsample={element.attrib['nsample'][:40]!r} is above {MOST_SAMPLES}")


def _check_replicas(root: Element) -> None:
    """Raise PhalanxError if the elements of the file, with their copies, are too many."""

    def elements(element: Element) -> float:
        inside = 1 + sum(map(elements, element.children))
        if element.tag == "replicate":
            inside *= max([1.0, *_numbers(element, "count")])
            if inside > MOST_ELEMENTS:
                element.fail(
                    f"count={element.attrib['count'][:40]!r} makes {inside:g} elements, more than"
                    f" the {MOST_ELEMENTS} that a robot may have; give less"
                )
        return inside

    elements(root)


def _check_files(root: Element, file: Path, depth: int) -> None:
    """Raise PhalanxError for a file that is no regular one, which MuJoCo would wait for or read
    without end. Other robots' files, which <model> names, are checked as this one."""
    folders = {
        Path(c.attrib[k]) for c in root.findall("compiler") for k in _FOLDERS & c.attrib.keys()
    }
    for element in root.iter():
        for key in FILES & element.attrib.keys():
            name = element.attrib[key]
            if not name or "\0" in name:
                continue
            here = {file.resolve().parent, Path(element.file).resolve().parent}
            names = {Path(name), Path(Path(name).name)}
            for path in {a / b / c for a in here for b in {Path(), *folders} for c in names}:
                if not path.exists():
                    continue
                try:
                    check_file(path)
                    if element.tag == "model":
                        if depth > 8:
                            element.fail("models in models are nested more than 8 deep")
                        check_mjcf(read_xml(path), path, depth + 1)
                except PhalanxError as error:
                    element.fail(str(error))


_FOLDERS = {"meshdir", "texturedir", "assetdir"}
