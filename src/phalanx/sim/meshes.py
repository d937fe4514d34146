"""Mesh files of one robot as meshes of its spec.

    meshes = Meshes(robot_file)
    name = meshes.add(spec, "package://go2/meshes/base.dae", np.ones(3), collides=True, note=print)

A mesh that collides stands for its convex hull, in contacts and in the inertia it is given. A flat
one gets a thickness of FLAT. Every file is read and tried out once.
"""

from collections.abc import Callable
from pathlib import Path

import mujoco
import numpy as np

from phalanx.sim.compiling import compile_spec
from phalanx.sim.mesh_files import (
    Array,
    Faces,
    MeshProblem,
    check_content,
    find_mesh,
    has_parts,
    read_mesh,
    thicken,
)

FLAT = 1e-3  # [m] thickness of a collision mesh whose vertices lie in a plane
MAX_EXTENT = 1e6  # [m] inertia grows with the fifth power, and float32 must hold it
Content = tuple[Array, Faces] | None  # None: MuJoCo reads the file itself
Tell = Callable[[str, str], None]


class Meshes:
    """Adds each mesh file at each scale once to a spec. meshdir: a folder to search as well."""

    def __init__(self, robot: Path, meshdir: str = "") -> None:
        self.robot = robot
        self.meshdir = meshdir
        self.warned: list[str] = []
        """What MuJoCo warned about."""
        self._tried: dict[tuple[Path, tuple[float, ...], bool], Content | MeshProblem] = {}
        self._read: dict[Path, tuple[Array, Faces]] = {}

    def add(
        self, spec: mujoco.MjSpec, filename: str, scale: Array, collides: bool, note: Tell
    ) -> str:
        """The name in `spec` of a mesh file at `scale` (3,). note(text, item) is told what was
        mended. Raises MeshProblem."""
        file = find_mesh(filename, self.robot, self.meshdir)
        content = self._content(file, scale, collides, note)
        source = f"{file} {'' if content is None else len(content[0])}".strip()
        for mesh in spec.meshes:
            if mesh.info == source and np.array_equal(mesh.scale, scale):
                break
        else:
            taken = {mesh.name for mesh in spec.meshes}
            names = [file.stem, *(f"{file.stem}_{i}" for i in range(1, len(taken) + 1))]
            mesh = spec.add_mesh(name=next(n for n in names if n not in taken), scale=scale)
            fill(mesh, file, content)
            mesh.inertia = mujoco.mjtMeshInertia.mjMESH_INERTIA_SHELL  # flat visuals are fine
            mesh.info = source
        if collides:
            mesh.inertia = mujoco.mjtMeshInertia.mjMESH_INERTIA_CONVEX
        return str(mesh.name)

    def _content(self, file: Path, scale: Array, collides: bool, note: Tell) -> Content:
        key = (file, tuple(scale), collides)
        if key not in self._tried:
            try:
                self._tried[key] = self._try(file, scale, collides, note)
            except MeshProblem as problem:
                self._tried[key] = problem
        content = self._tried[key]
        if isinstance(content, MeshProblem):
            raise content
        return content

    def _try(self, file: Path, scale: Array, collides: bool, note: Tell) -> Content:
        check_content(file)
        kind = file.suffix.lower()
        if kind in (".stl", ".msh") or (kind == ".obj" and not has_parts(file)):
            problem = mesh_problem(file, None, scale, collides, self.warned)
            if problem is None:
                return None
            if kind == ".msh":
                raise MeshProblem(problem)
        if file not in self._read:
            self._read[file] = read_mesh(file)
        vertices, faces = self._read[file]
        if problem := too_wide(vertices * scale):
            raise MeshProblem(problem)
        problem = mesh_problem(file, (vertices, faces), scale, collides, self.warned)
        if problem and collides and "coplanar" in problem:
            note(f"gave flat collision meshes a thickness of {1e3 * FLAT:g} mm", file.name)
            vertices, faces = thicken(vertices, faces, FLAT / float(np.abs(scale).max()))
            problem = mesh_problem(file, (vertices, faces), scale, collides, self.warned)
        if problem:
            raise MeshProblem(problem)
        return vertices, faces


def fill(mesh: mujoco.MjsMesh, file: Path, content: Content) -> None:
    """Let `mesh` have the vertices and faces that were read, or MuJoCo read the file."""
    if content is None:
        mesh.file = str(file)
    else:
        mesh.file = ""
        mesh.uservert, mesh.userface = content[0].ravel(), content[1].ravel()


def mesh_problem(
    file: Path, content: Content, scale: Array, collides: bool, warned: list[str]
) -> str | None:
    """MuJoCo's error message about a mesh scaled by `scale` (3,), or None. What it warns about is
    added to `warned`; MuJoCo says it only when it first reads a file."""
    spec = mujoco.MjSpec()
    inertia = mujoco.mjtMeshInertia
    mesh = spec.add_mesh(name=file.stem or "mesh", scale=scale)
    fill(mesh, file, content)
    mesh.inertia = inertia.mjMESH_INERTIA_CONVEX if collides else inertia.mjMESH_INERTIA_SHELL
    geom = spec.worldbody.add_body().add_geom(type=mujoco.mjtGeom.mjGEOM_MESH, meshname=mesh.name)
    if not collides:
        geom.contype, geom.conaffinity = 0, 0
    try:
        model, said = compile_spec(spec)
    except ValueError as error:
        return str(error).splitlines()[0].removeprefix("Error: ")
    if problem := too_wide(model.mesh_vert):
        return problem
    warned += said
    return None


def too_wide(vertices: Array) -> str | None:
    """The problem of a mesh with these vertices (V, 3) [m] that is absurdly large, or None."""
    extent = float(np.ptp(vertices.astype(float), axis=0).max())
    return (
        None
        if extent < MAX_EXTENT
        else f"it extends over {extent:g} m; correct its vertices or scale"
    )
