"""Reads a URDF robot into a `mujoco.MjSpec`, following Isaac Gym's rules.

    spec, notes = UrdfReader(root, path, density=1000.0, collapse_fixed_joints=False).read()

MuJoCo's own URDF reader merges the root link into the world, drops or refuses links without mass,
and fails on the first mesh it cannot read. This reader therefore builds the spec link by link. Its
differences from the URDF specification:

- Children of a link are in byte-wise order of their joint's name, not in file order. This is Isaac
  Gym's body and joint order, and DOF indices of existing policies depend on it.
- A collision mesh is its convex hull, for contact and for inertia.
- <mimic>, <transmission>, <gazebo>, <safety_controller> and <mujoco> have no effect.
- MuJoCo has no joint velocity limit; the number is stored in `joint.userdata[0]` (`jnt_user`).
- A link called "world" becomes "world_link": MuJoCo reserves that name for its own world body.
"""

from pathlib import Path
from urllib.parse import unquote

import mujoco
import numpy as np

from phalanx.errors import did_you_mean
from phalanx.sim.robot import Note
from phalanx.sim.urdf_values import (
    EMPTY_LINK_MASS,
    Array,
    Inertia,
    mesh_problem,
    numbers_of,
    origin_of,
    quat_of,
    size_of,
)
from phalanx.sim.xml_file import Element

VISUAL_GROUP = 2  # drawn by MuJoCo's renderers
COLLISION_GROUP = 3  # hidden by MuJoCo's renderers; used where a link has readable visuals
MIN_GYRATION = 1e-4  # [m] a body's radius of gyration is at least this about every axis

JOINT_TYPES = {
    "revolute": mujoco.mjtJoint.mjJNT_HINGE,
    "continuous": mujoco.mjtJoint.mjJNT_HINGE,
    "prismatic": mujoco.mjtJoint.mjJNT_SLIDE,
}
SHAPES = {
    "box": mujoco.mjtGeom.mjGEOM_BOX,
    "sphere": mujoco.mjtGeom.mjGEOM_SPHERE,
    "cylinder": mujoco.mjtGeom.mjGEOM_CYLINDER,
    "capsule": mujoco.mjtGeom.mjGEOM_CAPSULE,
    "mesh": mujoco.mjtGeom.mjGEOM_MESH,
}


class UrdfReader:
    """Builds one spec from the <robot> element of one file; use once.

    density [kg/m^3] is for links without mass. collapse_fixed_joints merges a link on a fixed joint
    into its parent, except where the joint says dont_collapse="true".
    """

    def __init__(self, robot: Element, path: Path, density: float, collapse_fixed_joints: bool):
        self.robot = robot
        self.path = path
        self.density = density
        self.collapse = collapse_fixed_joints
        self.notes: list[Note] = []
        self.mesh_problems: dict[tuple[str, bool], str | None] = {}
        self.skipped: set[str] = set()  # visual meshes, as the file names them
        self.colors = {
            m.attrib.get("name", ""): color
            for m in robot.findall("material")
            if (color := m.find("color")) is not None
        }
        self.spec = mujoco.MjSpec()
        self.spec.modelname = robot.attrib.get("name", path.stem)
        self.spec.compiler.degree = False

    def read(self) -> tuple[mujoco.MjSpec, list[Note]]:
        """The spec with its root body fixed, and notes on everything ignored or changed."""
        for element in self.robot.iter():
            if element.tag.startswith("xacro:"):
                element.fail("this is a xacro macro; run xacro on the file and load its output")
        self.links = self._named("link")
        if not self.links:
            self.robot.fail("the robot has no <link>; add at least one")
        self.joints_below = self._tree()  # link name -> its child joints, by joint name
        pending: list[tuple[Element, mujoco.MjsBody, Element | None, Array]]
        pending = [(self.root, self.spec.worldbody, None, np.eye(4))]
        while pending:
            link, parent, joint, pose = pending.pop()
            body = parent.add_body(name=self._body_name(link), info=f"line {link.line}")
            body.pos, body.quat = pose[:3, 3], quat_of(pose)
            if joint is not None:
                self._add_joint(body, joint)
            for child, below, origin in self._fill(body, link):
                pending.append((child, body, below, origin))
        return self.spec, self.notes

    # The tree ---------------------------------------------------------------------------------

    def _named(self, tag: str) -> dict[str, Element]:
        """Elements of one kind by name; fails on a missing or repeated name."""
        named: dict[str, Element] = {}
        for element in self.robot.findall(tag):
            name = element.attrib.get("name", "")
            if not name:
                element.fail(f"a <{tag}> needs a name")
            if name in named:
                element.fail(f"the name is taken in line {named[name].line}; rename one of them")
            named[name] = element
        return named

    def _tree(self) -> dict[str, list[Element]]:
        """Child joints of each link. Sets `root`. Fails unless links and joints form one tree."""
        below: dict[str, list[Element]] = {name: [] for name in self.links}
        parent_joint: dict[str, Element] = {}
        for _, joint in sorted(self._named("joint").items(), key=lambda item: item[0].encode()):
            parent, child = (self._joint_link(joint, end) for end in ("parent", "child"))
            if child in parent_joint:
                joint.fail(
                    f"link {child!r} is already the child of joint"
                    f" {parent_joint[child].attrib['name']!r}; a link has one parent"
                )
            parent_joint[child] = joint
            below[parent].append(joint)
        roots = [name for name in self.links if name not in parent_joint]
        if len(roots) > 1:
            names = ", ".join(map(repr, roots))
            self.robot.fail(f"links {names} have no parent; connect all but one to the tree")
        reached = list(roots)
        for name in reached:  # grows during the loop
            reached += [self._joint_link(joint, "child") for joint in below[name]]
        if lost := next((name for name in self.links if name not in reached), None):
            parent_joint[lost].fail(f"link {lost!r} is part of a cycle; remove one of its joints")
        self.root = self.links[roots[0]]
        return below

    def _joint_link(self, joint: Element, end: str) -> str:
        """The link at the "parent" or "child" end of a joint; fails unless it exists."""
        element = joint.find(end)
        name = element.attrib.get("link", "") if element else ""
        if name not in self.links:
            joint.fail(f"its {end} link {name!r} does not exist{did_you_mean(name, self.links)}")
        return name

    def _body_name(self, link: Element) -> str:
        name = link.attrib["name"]
        if name != "world":
            return name
        self.notes.append(Note("mended", "renamed link 'world' to 'world_link'"))
        return "world_link"

    # One body ---------------------------------------------------------------------------------

    def _fill(self, body: mujoco.MjsBody, link: Element) -> list[tuple[Element, Element, Array]]:
        """Give `body` the shapes and mass of `link` and of the links that collapse into it.

        Returns the child links: (link, its joint, pose (4, 4) in the body's frame).
        """
        hanging = []
        total: Inertia | None = None
        merged = [(link, np.eye(4))]
        for link, pose in merged:  # grows during the loop
            self._add_shapes(body, link, pose)
            part = self._inertia(link).moved(pose)
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
        self._set_inertia(body, total)
        # The caller pops from the end, so the last entry becomes the first child.
        return sorted(hanging, key=lambda item: item[1].attrib["name"].encode(), reverse=True)

    def _add_joint(self, body: mujoco.MjsBody, joint: Element) -> None:
        kind = joint.attrib.get("type", "")
        if kind == "fixed":
            return
        if kind not in JOINT_TYPES:
            accepted = (*JOINT_TYPES, "fixed")
            joint.fail(
                f"joint type {kind!r} is not supported{did_you_mean(kind, accepted)};"
                f" accepted: {', '.join(accepted)}"
            )
        axis = numbers_of(joint.find("axis"), "xyz", 3, (1.0, 0.0, 0.0))
        if not axis.any():
            joint.fail("its axis is zero; give it a direction")
        added = body.add_joint(
            name=joint.attrib["name"],
            type=JOINT_TYPES[kind],
            axis=axis,
            limited=False,
            actfrclimited=False,
            info=f"line {joint.line}",
        )
        dynamics = joint.find("dynamics")
        added.damping[0] = numbers_of(dynamics, "damping", 1, (0.0,))[0]
        added.frictionloss = numbers_of(dynamics, "friction", 1, (0.0,))[0]
        limit = joint.find("limit")
        effort = numbers_of(limit, "effort", 1, (0.0,))[0]
        if effort > 0:  # 0 or absent: unlimited
            added.actfrclimited, added.actfrcrange = True, [-effort, effort]
        added.userdata = numbers_of(limit, "velocity", 1, (0.0,))
        if kind != "continuous" and limit and {"lower", "upper"} & limit.attrib.keys():
            lower = numbers_of(limit, "lower", 1, (0.0,))[0]
            upper = numbers_of(limit, "upper", 1, (0.0,))[0]
            if lower >= upper:
                limit.fail(
                    f"lower {lower:g} is not below upper {upper:g} in joint"
                    f' {added.name!r}; swap them, or make the joint type="fixed"'
                )
            added.limited, added.range = True, [lower, upper]
        if joint.find("mimic"):
            self.notes.append(
                Note("dropped", "ignored <mimic> of joints", repr(added.name), f"line {joint.line}")
            )

    # Mass -------------------------------------------------------------------------------------

    def _inertia(self, link: Element) -> Inertia:
        """The inertia in <inertial>, completed from the collision geometry."""
        inertial = link.find("inertial")
        mass = numbers_of(inertial.find("mass") if inertial else None, "value", 1, (0.0,))[0]
        if mass < 0:
            link.fail(f"mass {mass:g} is negative; give the mass in kg")
        if not inertial or mass == 0:
            return self._shape_inertia(link)
        pose = origin_of(inertial)
        element = inertial.find("inertia")
        xx, yy, zz, xy, xz, yz = (
            numbers_of(element, key, 1, (0.0,))[0]
            for key in ("ixx", "iyy", "izz", "ixy", "ixz", "iyz")
        )
        if xx or yy or zz:
            tensor = np.array([[xx, xy, xz], [xy, yy, yz], [xz, yz, zz]])
            return Inertia(mass, np.zeros(3), tensor).moved(pose)
        shape = self._shape_inertia(link)
        com = pose[:3, 3] if inertial.find("origin") else shape.com
        return Inertia(mass, com, shape.tensor * (mass / shape.mass))

    def _shape_inertia(self, link: Element) -> Inertia:
        """Inertia of the collision geometry filled with `density`. A link without any gets that of
        a sphere of water of EMPTY_LINK_MASS."""
        spec = mujoco.MjSpec()
        body = spec.worldbody.add_body()
        for collision in link.findall("collision"):
            self._add_shape(spec, body, link, collision, np.eye(4), density=self.density)
        if not body.geoms:
            radius = (EMPTY_LINK_MASS / 1000.0 * 3.0 / (4.0 * np.pi)) ** (1.0 / 3.0)
            tensor = 0.4 * EMPTY_LINK_MASS * radius**2 * np.eye(3)
            return Inertia(EMPTY_LINK_MASS, np.zeros(3), tensor)
        model = spec.compile()
        flat = np.zeros(9)
        mujoco.mju_quat2Mat(flat, model.body_iquat[1])
        axes = flat.reshape(3, 3)
        tensor = axes @ np.diag(model.body_inertia[1]) @ axes.T
        return Inertia(float(model.body_mass[1]), model.body_ipos[1].copy(), tensor)

    def _set_inertia(self, body: mujoco.MjsBody, inertia: Inertia) -> None:
        """Write mass and principal inertia, raised to physically possible values if necessary.

        A rigid body has positive moments A <= B <= C with A + B >= C; MuJoCo refuses others.
        """
        asked, axes = np.linalg.eigh(inertia.tensor)  # ascending
        moments = np.maximum(asked, inertia.mass * MIN_GYRATION**2)
        missing = moments[2] - moments[0] - moments[1]
        if missing > 0:  # a rounding error must not break the inequality again
            moments[:2] += 0.5 * missing + 1e-9 * moments[2]
        if np.any(moments > asked + 1e-6 * moments[2]):
            text = "raised the inertia of links to the least that is physically possible"
            self.notes.append(Note("mended", text, repr(body.name), body.info))
        axes[:, 2] *= np.sign(np.linalg.det(axes))
        body.mass, body.ipos, body.inertia = inertia.mass, inertia.com, moments
        pose = np.eye(4)
        pose[:3, :3] = axes
        body.iquat = quat_of(pose)
        body.explicitinertial = True

    # Shapes -----------------------------------------------------------------------------------

    def _add_shapes(self, body: mujoco.MjsBody, link: Element, pose: Array) -> None:
        """Visuals and collisions of a link at `pose` (4, 4) in the body's frame, in file order."""
        drawn = False
        for visual in link.findall("visual"):
            drawn |= self._add_shape(
                self.spec,
                body,
                link,
                visual,
                pose,
                contype=0,
                conaffinity=0,
                group=VISUAL_GROUP,
                rgba=self._rgba(visual),
            )
        for collision in link.findall("collision"):
            group = COLLISION_GROUP if drawn else 0
            self._add_shape(self.spec, body, link, collision, pose, group=group)

    def _add_shape(
        self,
        spec: mujoco.MjSpec,
        body: mujoco.MjsBody,
        link: Element,
        element: Element,
        pose: Array,
        **settings: object,
    ) -> bool:
        """Add the geom of a <visual> or <collision>; False when its mesh was skipped."""
        geometry = element.find("geometry")
        shape = next((c for c in geometry.children if c.tag in SHAPES), None) if geometry else None
        if shape is None:
            found = geometry.children[0] if geometry and geometry.children else element
            found.fail(
                f"the <{element.tag}> of link {link.attrib['name']!r} has no supported shape;"
                f" its <geometry> needs one of {', '.join(SHAPES)}"
            )
        geom_type = SHAPES[shape.tag]
        if shape.tag == "mesh":
            mesh = self._mesh(spec, shape, link, collides=element.tag == "collision")
            if mesh is None:
                return False
            geom = body.add_geom(type=geom_type, meshname=mesh, **settings)
        else:
            geom = body.add_geom(type=geom_type, size=size_of(shape), **settings)
        pose = pose @ origin_of(element)
        geom.pos, geom.quat, geom.info = pose[:3, 3], quat_of(pose), f"line {shape.line}"
        return True

    def _rgba(self, visual: Element) -> Array:
        """The colour of a visual (4,), MuJoCo's grey where the file has none."""
        material = visual.find("material")
        color = material.find("color") if material else None
        if color is None and material:
            color = self.colors.get(material.attrib.get("name", ""))
        return numbers_of(color, "rgba", 4, (0.5, 0.5, 0.5, 1.0))

    def _mesh(
        self, spec: mujoco.MjSpec, shape: Element, link: Element, collides: bool
    ) -> str | None:
        """The name in `spec` of a mesh file at its scale; None for a visual that is unreadable."""
        filename = shape.attrib.get("filename", "")
        file = self._find_mesh(filename)
        scale = numbers_of(shape, "scale", 3, (1.0, 1.0, 1.0))
        if file is None:
            problem: str | None = (
                f"no file {filename!r} next to {self.path.name} or, for package://, in a folder"
                " above it"
            )
        else:
            key = (f"{file} {scale}", collides)
            if key not in self.mesh_problems:
                self.mesh_problems[key] = mesh_problem(file, scale, collides)
            problem = self.mesh_problems[key]
        if file is None or problem is not None:
            if collides:
                shape.fail(
                    f"the collision mesh of link {link.attrib['name']!r} cannot be used: {problem};"
                    " supply it as binary STL or OBJ"
                )
            if filename not in self.skipped:
                self.skipped.add(filename)
                text = "skipped <visual> meshes that MuJoCo cannot read"
                self.notes.append(Note("dropped", text, filename, f"line {shape.line}"))
            return None
        wanted = {"file": str(file), "scale": scale.tolist()}
        for mesh in spec.meshes:
            if mesh.file == wanted["file"] and mesh.scale.tolist() == wanted["scale"]:
                break
        else:
            taken = {mesh.name for mesh in spec.meshes}
            names = [file.stem, *(f"{file.stem}_{i}" for i in range(1, len(taken) + 1))]
            mesh = spec.add_mesh(name=next(n for n in names if n not in taken), **wanted)
            mesh.inertia = mujoco.mjtMeshInertia.mjMESH_INERTIA_SHELL  # flat visuals are fine
            mesh.info = f"line {shape.line}"
        if collides:
            mesh.inertia = mujoco.mjtMeshInertia.mjMESH_INERTIA_CONVEX
        return mesh.name

    def _find_mesh(self, filename: str) -> Path | None:
        """The path of a mesh file, None if there is none. A plain path is relative to the URDF;
        package://NAME/x is NAME/x or x in a folder above it, nearest first."""
        scheme, separator, rest = filename.partition("://")
        if not separator:
            candidates = [self.path.parent / filename]
        elif scheme == "file":
            candidates = [Path(unquote(rest))]
        else:
            inner = rest.partition("/")[2]
            candidates = [up / name for up in self.path.parents for name in (rest, inner) if name]
        return next((c.resolve() for c in candidates if c.is_file()), None)
