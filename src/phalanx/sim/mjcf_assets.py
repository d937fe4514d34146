"""Mends what MuJoCo rejects in a spec: files that it does not find or read, undefined names,
limits without room.

    notes = find_files(spec, file)           # always: paths become absolute
    notes += swap_limits(spec)               # always: MuJoCo takes swapped ones as none
    notes += mend(spec, file)                # only if the spec does not compile
"""

from pathlib import Path
from typing import Any

import mujoco
import numpy as np

from phalanx.errors import PhalanxError
from phalanx.sim.compiling import compile_spec
from phalanx.sim.mesh_files import MeshProblem, check_content, find_mesh, read_mesh
from phalanx.sim.meshes import fill, mesh_problem
from phalanx.sim.robot import Note, place_of

MUJOCOS = (".stl", ".obj", ".msh")  # formats of which MuJoCo says better what is wrong
EMPTY_RANGE = 1e-5  # [rad or m] distance put between limits that are equal
TINY = (1e-3, 1e-6)  # [kg], [kg m^2] of a body whose only shape cannot be read


def find_files(spec: mujoco.MjSpec, file: Path) -> None:
    """Make the paths of files that exist absolute, looking for them as `find_mesh` does."""
    for element in (*spec.meshes, *spec.hfields, *spec.skins, *spec.textures):
        folder = spec.texturedir if element in spec.textures else spec.meshdir
        if element.file:
            element.file = _absolute(element.file, file, folder, spec.strippath)
        if isinstance(element, mujoco.MjsTexture):
            cube = [f and _absolute(f, file, folder, spec.strippath) for f in element.cubefiles]
            element.cubefiles = cube


def swap_limits(spec: mujoco.MjSpec) -> list[Note]:
    """Swap the limits of joints that are in the wrong order, and widen those without room."""
    notes = []
    for joint in spec.joints:
        low, high = joint.range
        asked = joint.limited == mujoco.mjtLimited.mjLIMITED_TRUE
        if joint.limited and (low > high or (low == high and asked)):
            room = EMPTY_RANGE * (180 / np.pi if spec.compiler.degree else 1)
            joint.range = (high, low) if low > high else (low, low + room)
            text = "corrected the range of joints"
            notes.append(Note("mended", text, repr(joint.name), place_of(joint)))
    return notes


def mend(spec: mujoco.MjSpec, file: Path) -> list[Note]:
    """Drop what is missing and not needed, and read the meshes that MuJoCo cannot."""
    _check_files(spec, file)
    return (
        _drop_undefined(spec)
        + _drop_textures(spec)
        + _read_meshes(spec, file)
        + _take_undecided_limits(spec)
    )


def _take_undecided_limits(spec: mujoco.MjSpec) -> list[Note]:
    """Where autolimits is off, a range alone is no limit, as in older versions of MuJoCo."""
    auto, off = mujoco.mjtLimited.mjLIMITED_AUTO, mujoco.mjtLimited.mjLIMITED_FALSE
    notes = []
    for joint in [] if spec.compiler.autolimits else spec.joints:
        if joint.limited == auto and any(joint.range):
            joint.limited = off
            text = "left joints without limits, which have a range but not limited=, by autolimits"
            notes.append(Note("mended", text, repr(joint.name), place_of(joint)))
    return notes


def _absolute(name: str, robot: Path, folder: str, strip: bool) -> str:
    try:
        return str(find_mesh(Path(name).name if strip else name, robot, folder))
    except MeshProblem:
        return name  # `mend` says so, if it matters


def _check_files(spec: mujoco.MjSpec, robot: Path) -> None:
    """Raise PhalanxError for a file that is missing, empty or not fetched, of what collides or
    moves."""
    for kind, elements in (("hfield", spec.hfields), ("skin", spec.skins)):
        for element in (e for e in elements if e.file):
            try:
                check_content(find_mesh(element.file, robot, spec.meshdir))
            except MeshProblem as problem:
                where = ", ".join(filter(None, (str(robot), place_of(element))))
                what = f"<{kind} file={element.file!r}>"
                raise PhalanxError(f"{where}, {what}: {problem}; supply the file") from None


def _drop_textures(spec: mujoco.MjSpec) -> list[Note]:
    """Drop textures that are missing or cannot be read, since they are only drawn."""
    notes = []
    for texture in list(spec.textures):
        files = [Path(f) for f in (texture.file, *texture.cubefiles) if f]
        if missing := next((f for f in files if not f.is_file()), None):
            text, item = "dropped textures without a file", repr(str(missing))
        elif problem := _texture_problem(texture, files):
            text, item = "dropped textures that cannot be read", f"{files[0]} ({problem})"
        else:
            text = ""
        if text:
            notes.append(Note("dropped", text, item, place_of(texture)))
            name = texture.name
            spec.delete(texture)
            for material in spec.materials:
                material.textures = ["" if t == name else t for t in material.textures]
    return notes


def _texture_problem(texture: mujoco.MjsTexture, files: list[Path]) -> str:
    """Why MuJoCo cannot read the files of a texture; empty if it can."""
    if not files:
        return ""
    try:
        for file in files:
            check_content(file)
        alone = mujoco.MjSpec()
        copy = alone.add_texture(name="texture")
        for key in _OF_TEXTURE:
            setattr(copy, key, getattr(texture, key))
        compile_spec(alone)
    except MeshProblem as problem:
        return str(problem)
    except ValueError as error:
        return str(error).splitlines()[0].removeprefix("Error: ").replace(f" file '{files[0]}'", "")
    return ""


_OF_TEXTURE = "type file cubefiles content_type gridsize gridlayout nchannel hflip vflip".split()


def _drop_undefined(spec: mujoco.MjSpec) -> list[Note]:
    """Drop references to materials and textures that are not defined."""
    notes: list[Note] = []

    def drop(what: str, element: Any) -> None:
        text = "dropped references to undefined names"
        if not any(note.item == what for note in notes):
            notes.append(Note("dropped", text, what, place_of(element)))

    materials = {m.name for m in spec.materials}
    users = (*spec.geoms, *spec.sites, *spec.tendons, *spec.skins, *spec.meshes, *spec.flexes)
    for element in users:
        if element.material and element.material not in materials:
            drop(f"material {element.material!r}", element)
            element.material = ""
    textures = {t.name for t in spec.textures}
    for material in spec.materials:
        for name in material.textures:
            if name and name not in textures:
                drop(f"texture {name!r}", material)
        material.textures = [t if t in textures else "" for t in material.textures]
    return notes


def _read_meshes(spec: mujoco.MjSpec, robot: Path) -> list[Note]:
    """Read meshes that MuJoCo cannot; drop those that only visual geoms use and nobody can read."""
    notes = []
    for mesh in list(spec.meshes):
        if not mesh.file:
            continue
        users = [g for g in spec.geoms if g.meshname == mesh.name]
        collides = any(g.contype or g.conaffinity for g in users)
        try:
            _read(mesh, robot, collides, spec.meshdir)
        except MeshProblem as problem:
            if collides:
                place = ", ".join(filter(None, (str(robot), place_of(mesh))))
                cure = "save it again, or give the body another shape"
                if not Path(mesh.file).is_file():  # else its path is absolute, see `find_files`
                    cure = "supply the file or correct meshdir"
                raise PhalanxError(
                    f"{place}, <mesh name={mesh.name!r}>: {problem}; {cure}"
                ) from None
            text = "skipped visual meshes that cannot be read"
            item = f"{mesh.file} ({problem})"
            notes.append(Note("dropped", text, item, place_of(mesh)))
            for geom in users:
                body = geom.parent
                spec.delete(geom)
                if not body.geoms and not body.explicitinertial:
                    body.mass, body.inertia = TINY[0], np.full(3, TINY[1])
                    body.explicitinertial = True
            spec.delete(mesh)
    return notes


def _read(mesh: mujoco.MjsMesh, robot: Path, collides: bool, folder: str) -> None:
    """Leave a mesh to MuJoCo, or give it the vertices that we read. Raises MeshProblem."""
    file = find_mesh(mesh.file, robot, folder)
    check_content(file)
    scale = np.array(mesh.scale)
    problem = mesh_problem(file, None, scale, collides, [])
    if problem is None:
        return
    try:
        content = read_mesh(file)
    except MeshProblem as own:
        if file.suffix.lower() not in MUJOCOS:
            problem = f"{file.name}: {own}"
        raise MeshProblem(problem) from None
    if problem := mesh_problem(file, content, scale, collides, []):
        raise MeshProblem(problem)
    fill(mesh, file, content)
