"""Reads a URDF robot into a `mujoco.MjSpec`, following Isaac Gym's rules.

    urdf = UrdfReader(root, path, density=1000.0, collapse_fixed_joints=False)
    urdf.read()
    urdf.spec, urdf.notes, urdf.fixed

MuJoCo's own URDF reader merges the root link into the world, drops or refuses links without mass,
and fails on the first mesh it cannot read. This reader therefore builds the spec link by link. Its
differences from the URDF specification:

- Children of a link are in byte-wise order of their joint's name, not in file order. This is Isaac
  Gym's body and joint order, and DOF indices of existing policies depend on it.
- A collision mesh is its convex hull, for contact and for inertia.
- <transmission>, <gazebo>, <safety_controller> and <mujoco> have no effect, except that <mujoco>
  says where meshes are.
- A root link called "world", or one with a plane, is bolted to the world. "world" becomes
  "world_link" in the spec, because MuJoCo reserves that name; a scene gives it its name back.
- An empty root link from which the robot floats is the world, and is left out.
- Links with neither mass nor collision shapes are frames, and weigh nothing.

`urdf_joints.py` and `urdf_shapes.py` have the rules for joints and shapes.
"""

import re
from collections.abc import Iterable
from pathlib import Path

import mujoco
import numpy as np

from phalanx.errors import did_you_mean
from phalanx.sim.compiling import MUJOCO_WARNS
from phalanx.sim.robot import Kind, Note
from phalanx.sim.urdf_inertia import NOTHING, Weld, set_inertias
from phalanx.sim.urdf_joints import add_joints, add_mimic
from phalanx.sim.urdf_shapes import Shapes
from phalanx.sim.urdf_values import (
    Array,
    Inertia,
    numbers_of,
    origin_of,
    quat_of,
)
from phalanx.sim.xml_file import Element
from phalanx.sim.xml_gate import check_urdf

WATER = 1000.0  # [kg/m^3]
LEAST = 0.05  # share of what a link of water weighs that a link without shapes has at least
WORLD = "world_link"  # in the spec, what the file calls "world"


class UrdfReader:
    """Builds one spec from the <robot> element of one file; use once.

    density [kg/m^3] is for links without mass; None is 1000, but not for links whose mass is in
    another that is fixed to them. collapse_fixed_joints merges a link on a fixed joint
    into its parent, except where the joint says dont_collapse="true". drop_wrong: links with the
    name of an earlier one, joints with name and child of an earlier one, and links that no joint
    connects to the robot, which is the largest tree, are dropped, not refused.
    """

    def __init__(
        self,
        robot: Element,
        path: Path,
        density: float | None,
        collapse_fixed_joints: bool,
        drop_wrong: bool = False,
    ):
        self.robot = robot
        self.drop_wrong = drop_wrong
        self.density = density
        self.collapse = collapse_fixed_joints
        self.notes: list[Note] = []
        self.fixed = False
        """Whether the file bolts its root to the world."""
        self.spec = mujoco.MjSpec()
        self.spec.modelname = robot.attrib.get("name", path.stem)
        self.spec.compiler.degree = False
        self.shapes = Shapes(self.spec, robot, path, self.say)

    def say(self, kind: Kind, text: str, item: str, element: Element) -> None:
        """Make a note on an element."""
        self.notes.append(Note(kind, text, item, element.place))

    def read(self) -> None:
        """Fill `spec`, with its root body fixed, and `notes` on everything ignored or changed."""
        for element in self.robot.iter():
            if element.tag.startswith("xacro:"):
                element.fail("this is a xacro macro; run xacro on the file and load its output")
        self._mend_numbers()
        check_urdf(self.robot)
        self.links = self._named("link")
        if not self.links:
            self.robot.fail("the robot has no <link>; add at least one")
        self.joints = self._named("joint")
        self.joints_below = self._tree()  # link name -> its child joints, by joint name
        root, pose = self._base()
        pending: list[tuple[Element, mujoco.MjsBody, Element | None, Array]]
        pending = [(root, self.spec.worldbody, None, pose)]
        welds: dict[
            str, tuple[Weld, Array]
        ] = {}  # of a body, with its rotation (3, 3) to the first
        while pending:
            link, parent, joint, pose = pending.pop()
            name = link.attrib["name"]
            body = parent.add_body(name=WORLD if name == "world" else name, info=link.place)
            body.pos, body.quat = pose[:3, 3], quat_of(pose)
            if joint is not None:
                add_joints(body, joint, self.say)
            weld, placed = [], np.eye(4)
            if joint is not None and not body.joints:
                weld, placed = welds[parent.name][0], welds[parent.name][1] @ pose
            welds[body.name] = (weld, placed)
            hanging, inertia = self._fill(body, link, welded=bool(weld))
            weld.append((body, inertia, placed))
            pending += [(child, body, below, origin) for child, below, origin in hanging]
        for weld, _ in welds.values():
            self.notes += set_inertias(weld)
            weld.clear()  # bodies of one weld share the list
        add_mimic(self.spec, self.joints, self.say)
        self._say_unused()
        warned = dict.fromkeys(self.shapes.meshes.warned)
        self.notes += [Note("doubt", MUJOCO_WARNS, text) for text in warned]

    def _say_unused(self) -> None:
        """Make a note on every element that has no effect."""
        for element in (self.robot, *self.links.values(), *self.joints.values()):
            for child in element.children:
                if child.tag not in _USED[element.tag]:
                    names = (child.attrib.get("name"), child.attrib.get("reference"))
                    name = next(filter(None, (*names, element.attrib.get("name"))), "")
                    if child.tag == "loop_joint":
                        self.say("dropped", "left loops open, as MuJoCo does", repr(name), child)
                    else:
                        self.say("unused", f"<{child.tag}> without effect", repr(name), child)
        for texture in self.robot.iter():
            if texture.tag == "texture" and (file := texture.attrib.get("filename")):
                self.say("unused", "textures that are not drawn", repr(file), texture)
        for mujoco_own in self.robot.findall("mujoco"):
            for setting in mujoco_own.children:
                for key in sorted(setting.attrib.keys() - {"meshdir"}):
                    item = f"{key} of <{setting.tag}>"
                    self.say("unused", "settings in <mujoco> without effect", item, setting)

    def _mend_numbers(self) -> None:
        """Take what PyBullet takes: `lower=""`, which older exporters write, as a missing one;
        the first three numbers of a vector of more; commas between the numbers of a vector, and
        `1.57.` as 1.57. Of `$(optenv NAME 0 0 1)`, which xacro resolves, the default counts."""
        for element in self.robot.iter():
            for key in sorted(_NUMBERS & element.attrib.keys()):
                item = f"{key}={element.attrib[key]!r} of <{element.tag}>"
                for text, pattern, new in _MENDED:
                    mended = re.sub(pattern, new, element.attrib[key])
                    if mended != element.attrib[key]:
                        self.say("mended", text, item, element)
                        element.attrib[key] = mended
                words = element.attrib[key].split()
                item = f"{key} of <{element.tag}>"
                if not words:
                    del element.attrib[key]
                    self.say("mended", "took empty attributes as missing", item, element)
                elif len(words) > 3 and key in _VECTORS and "$" not in words[0]:
                    element.attrib[key] = " ".join(words[:3])
                    self.say("mended", "took the first 3 numbers of vectors", item, element)

    # The tree ---------------------------------------------------------------------------------

    def _named(self, tag: str) -> dict[str, Element]:
        """Elements of one kind by name; fails on a missing name, and on a repeated one unless it is
        to be dropped. Another joint of that name, with a child of its own, is never dropped."""
        named: dict[str, Element] = {}
        for element in self.robot.findall(tag):
            name = element.attrib.get("name", "")
            if not name:
                element.fail(f"a <{tag}> needs a name")
            same = name in named and _link_at(named[name], "child") == _link_at(element, "child")
            if same and self.drop_wrong:
                text = "left out links and joints with the name of an earlier one"
                self.say("dropped", text, repr(name), element)
                continue
            if name in named:
                element.fail(f"the name is taken in line {named[name].line}; rename one of them")
            named[name] = element
        return named

    def _tree(self) -> dict[str, list[Element]]:
        """Child joints of each link. Sets `root`. Fails unless links and joints form one tree."""
        below: dict[str, list[Element]] = {name: [] for name in self.links}
        parent_joint: dict[str, Element] = {}
        for joint in self._by_name(self.joints.values()):
            parent, child = (self._joint_link(joint, end) for end in ("parent", "child"))
            if child in parent_joint:
                joint.fail(
                    f"link {child!r} is already the child of joint"
                    f" {parent_joint[child].attrib['name']!r}; a link has one parent"
                )
            parent_joint[child] = joint
            below[parent].append(joint)
        roots = [name for name in self.links if name not in parent_joint]
        if len(roots) > 1 and not self.drop_wrong:
            names = ", ".join(map(repr, roots))
            self.robot.fail(f"links {names} have no parent; connect all but one to the tree")
        trees = [self._hanging(root, below) for root in roots]
        reached = max(trees, key=len, default=[])  # the first of equals
        for tree in trees:
            if tree is not reached:
                self._drop(tree, below)
        if lost := next((name for name in self.links if name not in reached), None):
            parent_joint[lost].fail(f"link {lost!r} is part of a cycle; remove one of its joints")
        self.root = self.links[reached[0]]
        return below

    def _hanging(self, root: str, below: dict[str, list[Element]]) -> list[str]:
        """Link `root` and all that hangs on it."""
        names = [root]
        for name in names:  # grows during the loop
            names += [self._joint_link(joint, "child") for joint in below[name]]
        return names

    def _drop(self, names: list[str], below: dict[str, list[Element]]) -> None:
        text = "left out links that no joint connects to the robot"
        for name in names:
            self.say("dropped", text, repr(name), self.links.pop(name))
            for joint in below.pop(name):
                del self.joints[joint.attrib["name"]]

    def _joint_link(self, joint: Element, end: str) -> str:
        """The link at the "parent" or "child" end of a joint; fails unless it exists."""
        name = _link_at(joint, end)
        if not name:
            joint.fail(f'it has no <{end} link="...">; name its {end} link')
        if name not in self.links:
            joint.fail(f"its {end} link {name!r} does not exist{did_you_mean(name, self.links)}")
        return name

    def _base(self) -> tuple[Element, Array]:
        """The link that becomes the root body, and its pose (4, 4). Sets `fixed`."""
        name = self.root.attrib["name"]
        below = self.joints_below[name]
        empty = not {c.tag for c in self.root.children} & {"inertial", "visual", "collision"}
        if empty and len(below) == 1 and below[0].attrib.get("type") == "floating":
            self.say("mended", "left out empty roots of floating bases", repr(name), self.root)
            return self.links[self._joint_link(below[0], "child")], origin_of(below[0])
        planes = [c for c in self.root.findall("collision") for g in c.children if g.find("plane")]
        self.fixed = name == "world" or bool(planes)
        return self.root, np.eye(4)

    @staticmethod
    def _by_name(joints: Iterable[Element]) -> list[Element]:
        return sorted(joints, key=lambda joint: joint.attrib["name"].encode())

    # One body ---------------------------------------------------------------------------------

    def _fill(
        self, body: mujoco.MjsBody, link: Element, welded: bool
    ) -> tuple[list[tuple[Element, Element, Array]], Inertia]:
        """Give `body` the shapes of `link` and of the links that collapse into it. welded: whether
        it hangs on a fixed joint.

        Returns child links as (link, its joint, pose (4, 4) in the body's frame), and the inertia.
        """
        hanging = []
        total: Inertia | None = None
        merged = [(link, np.eye(4))]
        for link, pose in merged:  # grows during the loop
            self.shapes.add_to(body, link, pose)
            part = self._inertia(link, welded or link is not merged[0][0]).moved(pose)
            total = part if total is None else total + part
            for joint in self.joints_below[link.attrib["name"]]:
                child = self.links[self._joint_link(joint, "child")]
                origin = pose @ origin_of(joint)
                kept = joint.attrib.get("dont_collapse", "").lower() == "true"
                if self.collapse and joint.attrib.get("type") == "fixed" and not kept:
                    merged.append((child, origin))
                else:
                    hanging.append((child, joint, origin))
        assert total is not None
        # The caller pops from the end, so the last entry becomes the first child.
        hanging.sort(key=lambda item: item[1].attrib["name"].encode(), reverse=True)
        return hanging, total

    # Mass -------------------------------------------------------------------------------------

    def _inertia(self, link: Element, welded: bool) -> Inertia:
        """The inertia in <inertial>, completed from the collision geometry; none for a frame. A
        welded link may have mass without inertia, or inertia without mass."""
        inertial = link.find("inertial")
        mass = numbers_of(inertial.find("mass") if inertial else None, "value", 1, (0.0,))[0]
        filled = self._filled(link) if mass == 0 else None
        if not inertial or (filled and filled.mass):
            return filled or NOTHING
        pose = origin_of(inertial)
        element = inertial.find("inertia")
        xx, yy, zz, xy, xz, yz = (
            numbers_of(element, key, 1, (0.0,))[0]
            for key in ("ixx", "iyy", "izz", "ixy", "ixz", "iyz")
        )
        if xx or yy or zz or (welded and element) or mass == 0:
            tensor = np.array([[xx, xy, xz], [xy, yy, yz], [xz, yz, zz]])
            return Inertia(mass, np.zeros(3), tensor).moved(pose)
        shape = self.shapes.inertia(link, density=1000.0)
        text = "computed the inertia of links whose file gives a mass, but no inertia or 0"
        self.say("added", text, repr(link.attrib["name"]), inertial)
        if shape is None:
            return Inertia(mass, pose[:3, 3], np.zeros((3, 3)))
        com = pose[:3, 3] if inertial.find("origin") else shape.com
        return Inertia(mass, com, shape.tensor * (mass / shape.mass))

    def _filled(self, link: Element) -> Inertia:
        """The collision geometry of a link without mass, filled with the density in its <inertial>,
        which objects made for Isaac Gym have, or else with `density`."""
        inertial = link.find("inertial")
        given = inertial.find("density") if inertial else None
        default = WATER if self.density is None else self.density
        density = numbers_of(given, "value", 1, (default,))[0]
        shape = self.shapes.inertia(link, density) if density > 0 else None
        if shape is None:
            return NOTHING
        if (
            self.density is None
            and not given
            and self._mass_of_fixed_links(link) > LEAST * shape.mass
        ):
            return NOTHING
        text = f"filled collision shapes of links without mass with {density:g} kg/m^3"
        self.say("added", text, f"{link.attrib['name']!r} {shape.mass:.4g} kg", link)
        return shape

    def _mass_of_fixed_links(self, link: Element) -> float:
        """Mass [kg] of links without shapes that are fixed to `link`: KDL wants a root without
        inertia, so that many files for ROS have a link more for the mass of their base."""
        mass = 0.0
        for joint in self.joints_below[link.attrib["name"]]:
            child = self.links[self._joint_link(joint, "child")]
            if joint.attrib.get("type") != "fixed" or child.find("collision") is not None:
                continue
            inertial = child.find("inertial") if child.find("visual") is None else None
            found = inertial.find("mass") if inertial else None
            mass += numbers_of(found, "value", 1, (0.0,))[0]
        return mass


def _link_at(joint: Element, end: str) -> str:
    """The name of the link at the "parent" or "child" end of a joint; empty without one."""
    element = joint.find(end)
    return element.attrib.get("link", "") if element else ""


_USED = {
    "robot": {"link", "joint", "material", "mujoco"},
    "link": {"inertial", "visual", "collision"},
    "joint": {"parent", "child", "origin", "axis", "limit", "dynamics", "mimic"},
}
"""Elements that have an effect, by the element that they are in."""
_MENDED = (
    ("took the defaults of $(optenv ...)", r"^\s*\$\(optenv \S+ ([^()$]*)\)\s*$", r"\1"),
    (
        "took commas between numbers as spaces",
        r"^\s*([^\s,]+)\s*,\s*([^\s,]+)\s*,\s*([^\s,]+)\s*$",
        r"\1 \2 \3",
    ),
    ("dropped a second point of numbers", r"(\d\.\d+)\.(?=\s|$)", r"\1"),
)
"""What was mended, where it is found in a number, and what takes its place."""
_VECTORS = frozenset(("xyz", "rpy", "scale"))
_NUMBERS = frozenset(
    "xyz rpy value ixx iyy izz ixy ixz iyz lower upper effort velocity damping friction multiplier"
    " offset scale rgba".split()
)
