"""Finds mesh files and reads those that MuJoCo cannot.

    file = find_mesh("package://go2/meshes/base.dae", robot.urdf)    # Missing if there is none
    vertices, faces = read_mesh(file)                                # in metres, z up

MuJoCo reads binary STL (at most 200 000 faces), OBJ of one object and MSH itself. `trimesh` reads
COLLADA (.dae), glTF (.glb), PLY, text STL, other OBJ and larger meshes; scenes in these files
become one mesh, with the pose of every node applied. Lengths become metres and z points up, as
those formats define it: a .glb has y up, a .dae says its unit and up axis. One exception: MeshLab
writes "y up" into every .dae and does not turn the mesh, so its files are taken as they are.
"""

import io
import re
from pathlib import Path
from urllib.parse import unquote

import numpy as np
from numpy.typing import NDArray

from phalanx.errors import PhalanxError, did_you_mean
from phalanx.gate import LFS, read_bytes

Array = NDArray[np.float64]
Faces = NDArray[np.int64]

FORMATS = {".stl": "STL", ".obj": "OBJ", ".dae": "COLLADA", ".glb": "binary glTF", ".ply": "PLY"}
# Columns: where the file's x, y and z point in a frame with z up. COLLADA 1.4.1, <up_axis>.
TO_Z_UP = {
    "X_UP": np.array([[0.0, -1, 0], [0, 0, -1], [1, 0, 0]]),
    "Y_UP": np.array([[1.0, 0, 0], [0, 0, -1], [0, 1, 0]]),
    "Z_UP": np.eye(3),
}
MATERIALS = (b"bind_material", b"library_images", b"library_effects", b"library_materials")


class MeshProblem(Exception):
    """Why a mesh cannot be used, as the end of a sentence."""


def find_mesh(filename: str, robot: Path, meshdir: str = "") -> Path:
    """The file that `filename` in the robot file `robot` means. Raises MeshProblem.

    A plain path is relative to the robot's folder, to `meshdir` in it, or to a folder above it,
    nearest first. package://NAME/x, model://NAME/x and $(find NAME)/x are NAME/x or x in one of
    these folders.
    """
    name = re.sub(r"^(file://)?\$\(find ([^)]*)\)", r"package://\2", filename.strip())
    scheme, separator, rest = name.partition("://")
    folder = robot.resolve().parent
    if scheme == "file" and separator:
        candidates = [Path(unquote(rest))]
    elif separator:
        rest = rest.replace("\\", "/")
        names = [n for n in (rest, rest.partition("/")[2]) if n]
        candidates = [up / n for up in (folder, *folder.parents) for n in names]
        candidates += [folder / meshdir / Path(rest).name] if meshdir else []
    else:
        path = name if (folder / name).is_file() else name.replace("\\", "/")
        part, last = Path(path).parent, Path(path).name
        near = [folder / path, folder / meshdir / path, folder / meshdir / last]
        near += [folder / part / meshdir / last]  # of an included file
        candidates = near + [up / path for up in folder.parents]
    for candidate in candidates:
        if candidate.is_file():
            return candidate.resolve()
    if not Path(name).name:
        raise MeshProblem("it names no file")
    for candidate in candidates:
        if candidate.parent.is_dir():
            close = did_you_mean(candidate.name, (f.name for f in candidate.parent.iterdir()))
            if close:
                raise MeshProblem(f"no file {filename!r}{close}")
    where = f"at {candidates[0]}" if scheme == "file" and separator else f"from {folder} upwards"
    raise MeshProblem(f"no file {filename!r} {where}")


def check_content(file: Path) -> None:
    """Raise MeshProblem for a file that is empty or stands for one that Git has not fetched."""
    with file.open("rb") as opened:
        start = opened.read(64)
    if not start:
        raise MeshProblem("the file is empty")
    if start.startswith(LFS):
        raise MeshProblem("the file is a Git LFS pointer; run 'git lfs pull' in its folder")


def has_parts(file: Path) -> bool:
    """Whether an OBJ file has faces in several objects or groups: MuJoCo takes the first one's."""
    parts, begins = 0, True
    try:
        lines = read_bytes(file).splitlines()
    except PhalanxError as error:
        raise MeshProblem(str(error)) from None
    for line in lines:
        if line.startswith((b"o ", b"g ")):
            begins = True
        elif begins and line.startswith(b"f "):
            parts, begins = parts + 1, False
    return parts > 1


def read_mesh(file: Path) -> tuple[Array, Faces]:
    """Vertices (V, 3) [m], z up, and triangles (F, 3) of a file. Raises MeshProblem."""
    import trimesh  # only robots with such meshes need it

    kind = file.suffix.lower()
    if kind not in FORMATS:
        raise MeshProblem(f"its format is not one of {', '.join(FORMATS)}, .msh")
    try:
        data = read_bytes(file)
    except PhalanxError as error:
        raise MeshProblem(str(error)) from None
    if kind == ".dae":
        if re.search(rb"<!(DOCTYPE|ENTITY)", data):
            raise MeshProblem("a DOCTYPE is not accepted; remove it")
        for part in MATERIALS:  # a shape whose picture is missing would be left out
            data = re.sub(rb"<%s\b.*?</%s>" % (part, part), b"", data, flags=re.DOTALL)
    try:
        # A stream instead of a path: the file cannot make trimesh open others.
        scene = trimesh.load_scene(io.BytesIO(data), file_type=kind[1:], process=False)
        mesh = scene.to_mesh()
        with np.errstate(all="ignore"):  # vertices beyond all integers
            mesh.merge_vertices()
        mesh.update_faces(mesh.unique_faces())
        vertices, faces = np.array(mesh.vertices, float), np.array(mesh.faces, int)
    except Exception:  # readers of damaged files fail in every way
        raise MeshProblem(f"it cannot be read as {FORMATS[kind]}") from None
    if not len(vertices) or not len(faces):
        raise MeshProblem("it has no triangles")
    if vertices.shape[1:] != (3,) or faces.shape[1:] != (3,):
        raise MeshProblem("its vertices or faces do not have three numbers each")
    if not np.isfinite(vertices).all():
        raise MeshProblem("a vertex in it is not finite")
    if kind == ".glb":
        vertices = vertices @ TO_Z_UP["Y_UP"].T
    elif kind == ".dae":
        unit, up = _collada_frame(data)
        vertices = unit * vertices @ up.T
    return vertices, faces


def thicken(vertices: Array, faces: Faces, thickness: float) -> tuple[Array, Faces]:
    """A flat mesh twice, `thickness` [m] apart along its normal."""
    normal = np.linalg.svd(vertices - vertices.mean(0), full_matrices=False)[2][2]
    half = 0.5 * thickness * normal
    both = np.concatenate([vertices - half, vertices + half])
    return both, np.concatenate([faces[:, ::-1], faces + len(vertices)])


def _collada_frame(data: bytes) -> tuple[float, Array]:
    """Metres per unit of length, and the rotation (3, 3) to z up, of a COLLADA file."""
    head = data[: data.find(b"</asset>")].decode("utf-8", "replace")
    unit = re.search(r"<unit\b[^>]*\bmeter\s*=\s*[\"']([^\"']*)", head)
    up = re.search(r"<up_axis>\s*(\w+)", head)
    try:
        metres = float(unit[1]) if unit else 1.0
    except ValueError:
        metres = 1.0
    if not 0 < metres < np.inf:
        raise MeshProblem(f"its unit of {metres:g} m is not positive")
    axis = "Z_UP" if "MeshLab" in head or up is None else up[1]
    return metres, TO_Z_UP.get(axis, TO_Z_UP["Z_UP"])
