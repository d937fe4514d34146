"""Shapes of URDF links as geoms, and the inertia that shapes have when they are filled.

shapes = Shapes(spec, robot, path, say)
shapes.add_to(body, link, pose)          # visuals and collisions, in file order
shapes.inertia(link, density)            # of the collisions; None without any
"""

from pathlib import Path

import mujoco
import numpy as np

from phalanx.errors import PhalanxError
from phalanx.sim.compiling import compile_spec
from phalanx.sim.mesh_files import MeshProblem
from phalanx.sim.meshes import Meshes
from phalanx.sim.urdf_joints import Say
from phalanx.sim.urdf_values import Array, Inertia, numbers_of, origin_of, quat_of, size_of
from phalanx.sim.xml_file import Element

VISUAL_GROUP = 2  # drawn by MuJoCo's renderers
COLLISION_GROUP = 3  # hidden by MuJoCo's renderers; used where a link has readable visuals

SHAPES = {
    "box": mujoco.mjtGeom.mjGEOM_BOX,
    "sphere": mujoco.mjtGeom.mjGEOM_SPHERE,
    "cylinder": mujoco.mjtGeom.mjGEOM_CYLINDER,
    "capsule": mujoco.mjtGeom.mjGEOM_CAPSULE,
    "plane": mujoco.mjtGeom.mjGEOM_PLANE,  # PyBullet's
    "mesh": mujoco.mjtGeom.mjGEOM_MESH,
}


class Shapes:
    """Adds the shapes of one URDF file's links to bodies."""

    def __init__(self, spec: mujoco.MjSpec, robot: Element, path: Path, say: Say) -> None:
        self.spec = spec
        self.say = say
        self.colors = {
            m.attrib.get("name", ""): color
            for m in robot.findall("material")
            if (color := m.find("color")) is not None
        }
        # MuJoCo's own element in a URDF says where meshes are.
        compiler = next((c for m in robot.findall("mujoco") for c in m.findall("compiler")), None)
        meshdir = compiler.attrib.get("meshdir", "") if compiler else ""
        self.meshes = Meshes(path, meshdir)
        self.skipped: set[str] = set()  # visual meshes, as the file names them
        self.sdf: list[str] = []  # meshes in the spec whose <collision> has an <sdf>

    def add_to(self, body: mujoco.MjsBody, link: Element, pose: Array) -> None:
        """Add the link's visuals and collisions at `pose` (4, 4) in the body's frame."""
        drawn = False
        for visual in link.findall("visual"):
            settings = {"contype": 0, "conaffinity": 0, "group": VISUAL_GROUP}
            drawn |= self._add(body, link, visual, pose, rgba=self._rgba(visual), **settings)
        for collision in link.findall("collision"):
            self._add(body, link, collision, pose, group=COLLISION_GROUP if drawn else 0)

    def inertia(self, link: Element, density: float) -> Inertia | None:
        """The inertia of the link's collision shapes filled with `density` [kg/m^3], or None if
        they have no volume."""
        spec = mujoco.MjSpec()
        body = spec.worldbody.add_body()
        for collision in link.findall("collision"):
            self._add(body, link, collision, np.eye(4), spec, density=density)
        if not any(g.type != mujoco.mjtGeom.mjGEOM_PLANE for g in body.geoms):
            return None
        try:
            model, _ = compile_spec(spec)
        except ValueError as error:
            link.fail(
                f"the volume of its shapes cannot be computed: {error}; give it an <inertial>"
            )
        flat = np.zeros(9)
        mujoco.mju_quat2Mat(flat, model.body_iquat[1])
        axes = flat.reshape(3, 3)
        tensor = axes @ np.diag(model.body_inertia[1]) @ axes.T
        if not np.isfinite(tensor).all():
            link.fail(
                "its shapes are too thin for an inertia; correct their size or scale, or give it an"
                " <inertial>"
            )
        return Inertia(float(model.body_mass[1]), model.body_ipos[1].copy(), tensor)

    def _add(
        self,
        body: mujoco.MjsBody,
        link: Element,
        element: Element,
        pose: Array,
        trial: mujoco.MjSpec | None = None,
        **settings: object,
    ) -> bool:
        """Add the geom of a <visual> or <collision>; False if there is nothing to add. trial: the
        spec of the body if it is another than the robot's, about which nothing is said."""
        say = self.say if trial is None else lambda *_: None
        collides = element.tag == "collision"
        geometry = element.find("geometry")
        shape = next((c for c in geometry.children if c.tag in SHAPES), None) if geometry else None
        name = link.attrib["name"]
        if shape is None:
            if not collides or geometry is None:  # an exporter's empty <collision>
                say("dropped", f"skipped {element.tag}s without a shape", f"of {name!r}", element)
                return False
            found = geometry.children[0] if geometry and geometry.children else element
            found.fail(
                f"the <{element.tag}> of link {name!r} has no supported shape;"
                f" its <geometry> needs one of {', '.join(SHAPES)}"
            )
        pose = pose @ origin_of(element)
        place = {"pos": pose[:3, 3], "quat": quat_of(pose), "info": shape.place}
        if shape.tag == "mesh":
            mesh = self._mesh(trial or self.spec, shape, link, collides)
            if mesh is None:
                return False
            if collides and element.find("sdf") and trial is None and mesh not in self.sdf:
                self.sdf.append(mesh)
            body.add_geom(type=SHAPES["mesh"], meshname=mesh, **place, **settings)
            return True
        if shape.tag == "plane":
            normal = numbers_of(shape, "normal", 3, (0.0, 0.0, 1.0))
            quat = np.zeros(4)
            mujoco.mju_quatZ2Vec(quat, normal)
            mujoco.mju_mulQuat(place["quat"], quat_of(pose), quat)
            size = [0.0, 0.0, 1.0]
        else:
            size = size_of(shape)
            if not all(size[: _LENGTHS[shape.tag]]):
                text = f"skipped <{element.tag}> shapes of size 0"
                say("dropped", text, f"{shape.tag} of {name!r}", shape)
                return False
        body.add_geom(type=SHAPES[shape.tag], size=size, **place, **settings)
        return True

    def _mesh(
        self, spec: mujoco.MjSpec, shape: Element, link: Element, collides: bool
    ) -> str | None:
        """The name in `spec` of a mesh file at its scale; None for a visual that is unreadable."""
        filename = shape.attrib.get("filename", "")
        scale = self._scale(shape)
        try:
            return self.meshes.add(
                spec,
                filename,
                scale,
                collides,
                lambda text, item: self.say("mended", text, item, shape),
            )
        except MeshProblem as problem:
            if collides:
                shape.fail(
                    f"the collision mesh of link {link.attrib['name']!r} cannot be used: {problem};"
                    " supply a file that can be read, or another shape in its place"
                )
            if filename not in self.skipped:
                self.skipped.add(filename)
                text = "skipped <visual> meshes that cannot be read"
                self.say("dropped", text, f"{filename} ({problem})", shape)
            return None

    @staticmethod
    def _scale(shape: Element) -> Array:
        words = shape.attrib.get("scale", "1 1 1").split()
        scale = numbers_of(shape, "scale", len(words) if len(words) == 1 else 3, (1.0, 1.0, 1.0))
        scale = np.resize(scale, 3)  # one number scales all three axes
        if not scale.all():
            shape.fail("its scale has a 0; give positive factors")
        return scale

    def _rgba(self, visual: Element) -> Array:
        """The colour of a visual (4,), MuJoCo's grey where the file has none that can be read."""
        material = visual.find("material")
        color = material.find("color") if material else None
        if color is None and material:
            color = self.colors.get(material.attrib.get("name", ""))
        grey = np.array([0.5, 0.5, 0.5, 1.0])
        if color is None or "rgba" not in color.attrib:
            return grey
        try:
            count = len(color.attrib["rgba"].split())
            rgba = numbers_of(color, "rgba", 3 if count == 3 else 4)
        except PhalanxError:
            rgba = np.array([np.nan])
        if not np.isfinite(rgba).all():
            self.say("dropped", "ignored colours", color.attrib["rgba"], color)
            return grey
        if rgba.max() > 1:  # of 0 to 255
            rgba[:3] /= 255.0
        return np.clip(np.append(rgba, 1.0)[:4], 0.0, 1.0)


_LENGTHS = {"box": 3, "sphere": 1, "cylinder": 2, "capsule": 2}  # numbers that give the size
