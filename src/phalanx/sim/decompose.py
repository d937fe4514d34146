"""Splits collision meshes into convex parts, on request.

    decompose(spec, ["hull"], file)          # or True: every mesh that collides and is not convex

MuJoCo collides with the convex hull of a mesh; a cup becomes a plug. A mesh made of layers is split
exactly (`layered.py`). For others CoACD (arXiv:2205.02961; both need the extra `decompose`)
finds convex parts, in seconds to minutes, of which `merging.py` makes a few; the meshes of one file
are split at the same time, each on a core. The parts are kept in `runs/hulls/`, beside the runs,
under a hash of the mesh, so that this happens once. A mesh that takes more than half of
`PHALANX_SPLIT_SECONDS` (300 if it is not set) is split coarsely; if that takes as long, it stays
one convex hull, with a warning.
"""

import hashlib
import importlib.metadata
import importlib.util
import io
import json
import logging
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mujoco
import numpy as np

from phalanx.errors import PhalanxError, did_you_mean
from phalanx.files import write_atomically
from phalanx.sim.mesh_files import Array, Faces, MeshProblem, read_mesh
from phalanx.sim.robot import Note, place_of

log = logging.getLogger(__name__)

NEEDS = ("coacd", "shapely", "scipy")
FOLDER = Path("runs") / "hulls"
SECONDS = "PHALANX_SPLIT_SECONDS"
LARGE = 2000  # triangles from which a closed mesh is searched less
LARGE_GRID = 8000  # the same for a mesh with holes, whose surface on the grid counts
SEARCH = {"mcts_iterations": 60, "mcts_nodes": 10, "resolution": 1000}  # 4 times as fast as CoACD's
QUICK = {"mcts_iterations": 5, "mcts_nodes": 5, "mcts_max_depth": 1, "resolution": 500}
"""Options for a large mesh, so that 30,000 triangles take 13 s."""
COARSEST = 30  # cells along a mesh with holes, which becomes a surface of up to 50,000 triangles
LOOSER = 3  # a third of concavity times size: merging keeps about as many parts as CoACD then
FILLED = 0.98  # share of its hull that a convex mesh fills, bevels and rounding included
EXACT = 0.9995  # the same for a mesh that is chosen by name, which may have a small hole
Parts = list[tuple[Array, Faces]]


@dataclass(frozen=True)
class Splitting:
    """How finely CoACD splits meshes."""

    concavity: float = 0.0
    """Parts may differ from their hulls by this, relative to the size of the mesh; 0.01 to 1, or 0
    for CoACD's 0.05, and 0.1 for a large mesh with holes in its surface."""
    max_parts: int = -1
    """Parts are merged until there are no more than this; -1 for no limit."""
    max_vertices: int = 0
    """Of a part; 0 for no limit."""
    cells: int = 50
    """A mesh with holes is first made whole on a grid with this many cells along it; 20 to 100."""

    def options(self, closed: bool, large: bool) -> dict[str, Any]:
        """CoACD's options for a mesh that is closed or has holes in its surface."""
        options: dict[str, Any] = dict(QUICK if large else SEARCH)
        if large:
            options["preprocess_mode"] = "off" if closed else "on"
        coarse = large and not closed
        options["preprocess_resolution"] = min(self.cells, COARSEST) if coarse else self.cells
        options["threshold"] = self.concavity or (0.1 if coarse else 0.05)
        return options | {"merge": False, "seed": 0}


def decompose(
    spec: mujoco.MjSpec,
    meshes: bool | Sequence[str],
    file: Path,
    splitting: Splitting | None = None,
) -> list[Note]:
    """Replace geoms of these meshes by geoms of their convex parts. The first part keeps the geom's
    name. Raises PhalanxError for a mesh that does not exist."""
    users: dict[str, list[tuple[mujoco.MjsBody, mujoco.MjsGeom]]] = {}
    for body in spec.bodies:
        for geom in body.geoms:
            if geom.type == mujoco.mjtGeom.mjGEOM_MESH and (geom.contype or geom.conaffinity):
                users.setdefault(geom.meshname, []).append((body, geom))
    if isinstance(meshes, str):
        meshes = [meshes]
    names = list(users) if meshes is True else list(meshes or ())
    filled = FILLED if meshes is True else EXACT
    concave = {}
    for name in names:
        if name not in users:
            raise PhalanxError(
                f"{file}: no collision mesh {name!r} to decompose{did_you_mean(name, users)};"
                f" there is: {', '.join(users) or 'none'}"
            )
        vertices, faces = mesh_content(spec, name, file)
        if not _is_convex(vertices, faces, filled):
            concave[name] = vertices, faces
    notes = []
    for name, parts in zip(concave, _split(concave, file, splitting or Splitting()), strict=True):
        item, place = f"{name!r} into {len(parts)}", place_of(users[name][0][1])
        notes.append(Note("mended", "split collision meshes into convex parts", item, place))
        _replace(spec, name, users[name], parts)
    return notes


def _split(meshes: dict[str, tuple[Array, Faces]], file: Path, splitting: Splitting) -> list[Parts]:
    """The parts of each mesh, several at the same time."""
    ended = threading.Event()
    with ThreadPoolExecutor(max(1, min(len(meshes), os.cpu_count() or 1))) as threads:
        jobs = [
            threads.submit(convex_parts, *mesh, name, file, splitting, ended)
            for name, mesh in meshes.items()
        ]
        try:
            return [job.result() for job in jobs]
        except BaseException:  # Ctrl-C among them; nobody waits for the rest
            ended.set()
            threads.shutdown(wait=False, cancel_futures=True)
            raise


def convex_parts(
    vertices: Array,
    faces: Faces,
    name: str,
    file: Path,
    splitting: Splitting,
    ended: threading.Event | None = None,
) -> Parts:
    """Convex meshes that together stand for one: its layers', else those that CoACD finds, from the
    cache if it was split before. Its hull, with a warning, if CoACD fails or takes too long. Raises
    PhalanxError once `ended` is set."""
    if missing := [name for name in NEEDS if importlib.util.find_spec(name) is None]:
        raise PhalanxError(
            f"decomposing meshes needs {' and '.join(missing)}; install it with:"
            " pip install 'phalanx[decompose]'"
        )
    import trimesh

    from phalanx.sim.layered import layered_parts
    from phalanx.sim.merging import merged

    parts = layered_parts(vertices, faces)
    if parts and (splitting.max_parts < 0 or len(parts) <= splitting.max_parts):
        return parts
    mesh = trimesh.Trimesh(vertices, faces, process=False)
    closed = bool(mesh.is_watertight)
    on_grid = 2 * mesh.area / (mesh.extents.max() / splitting.cells) ** 2  # triangles, two a square
    large = len(faces) > LARGE if closed else on_grid > LARGE_GRID
    options = splitting.options(closed, large)
    key = hashlib.sha256(f"{importlib.metadata.version('coacd')} {options} {splitting}".encode())
    key.update(vertices.tobytes() + faces.tobytes())
    cached = FOLDER / f"{key.hexdigest()[:32]}.npz"
    if not (parts := _load(cached)):
        log.warning(
            "%s: splitting mesh %r of %d triangles into convex parts, once; %s limits the time",
            *(file, name, len(faces), SECONDS),
        )
        started = time.monotonic()
        coarse = splitting.options(closed=False, large=True)
        searches = [options] if options == coarse else [options, coarse]
        for search in searches:
            if parts := _run_coacd(vertices, faces, search, 1 / len(searches), ended):
                tolerance = search["threshold"] * mesh.extents.max() / LOOSER
                parts = merged(parts, tolerance, splitting.max_parts, splitting.max_vertices)
                break
        parts = parts or [_hull(vertices, faces)]
        _save(cached, parts)
        log.warning(
            "%s: mesh %r has %d convex parts, found in %.0f s",
            *(file, name, len(parts), time.monotonic() - started),
        )
    if len(parts) < 2 and not _is_convex(vertices, faces, FILLED):
        log.warning(
            "%s: mesh %r is not split but collides as its convex hull, since CoACD found no parts"
            " in time; to try again, delete %s and set %s",
            *(file, name, cached, SECONDS),
        )
    return parts


def _run_coacd(
    vertices: Array,
    faces: Faces,
    options: dict[str, Any],
    share: float,
    ended: threading.Event | None = None,
) -> Parts:
    """The parts that CoACD finds; none if it fails or takes more than this share of the time.
    Raises PhalanxError if it was `ended`, which is no answer to keep."""
    ended = ended or threading.Event()
    try:
        seconds = share * float(os.environ.get(SECONDS, 300))
    except ValueError:
        raise PhalanxError(
            f"the environment variable {SECONDS} is {os.environ[SECONDS]!r}; give it a number"
        ) from None
    with tempfile.TemporaryDirectory() as folder:
        mesh, found = Path(folder) / "mesh.npz", Path(folder) / "parts.npz"
        np.savez(mesh, vertices0=vertices, faces0=faces)
        # In a process of its own, since nothing else stops it. -P keeps our folder off its path.
        command = [sys.executable, "-P", str(Path(__file__).with_name("coacd_process.py"))]
        command += [str(mesh), json.dumps(options), str(found)]
        path = os.pathsep.join(entry for entry in sys.path if entry)
        with open(Path(folder) / "log", "wb") as said:
            process = subprocess.Popen(
                command, env={**os.environ, "PYTHONPATH": path}, stdin=subprocess.DEVNULL,
                stdout=said, stderr=said, start_new_session=True,  # Ctrl-C is for `_split`
            )  # fmt: skip
        last = time.monotonic() + seconds
        try:
            while process.poll() is None and time.monotonic() < last and not ended.wait(0.02):
                pass
        finally:
            process.kill()
            process.wait()
        if ended.is_set():
            raise PhalanxError("splitting a mesh was interrupted")
        if process.returncode == 0:
            return _load(found)
        words = (Path(folder) / "log").read_text("utf-8", "replace")[-500:]
        log.debug("CoACD ended with %s: %s", process.returncode, words)
        return []


def _hull(vertices: Array, faces: Faces) -> tuple[Array, Faces]:
    import trimesh

    hull = trimesh.Trimesh(vertices, faces, process=False).convex_hull
    return np.array(hull.vertices, float), np.array(hull.faces, np.int64)


def mesh_content(spec: mujoco.MjSpec, name: str, file: Path) -> tuple[Array, Faces]:
    """Vertices and faces of a mesh, with equal vertices merged, which CoACD needs."""
    import trimesh

    mesh = spec.mesh(name)
    try:
        if mesh.file:
            vertices, faces = read_mesh(Path(mesh.file))
        else:
            vertices = np.array(mesh.uservert, float).reshape(-1, 3)
            faces = np.array(mesh.userface, np.int64).reshape(-1, 3)
    except MeshProblem as problem:
        raise PhalanxError(f"{file}: mesh {name!r} cannot be decomposed: {problem}") from None
    merged = trimesh.Trimesh(vertices, faces, process=True)
    return np.array(merged.vertices, float), np.array(merged.faces, np.int64)


def _is_convex(vertices: Array, faces: Faces, filled: float) -> bool:
    """Whether a closed mesh fills at least this share of its hull."""
    import trimesh

    mesh = trimesh.Trimesh(vertices, faces, process=False)
    return bool(mesh.is_watertight and mesh.volume > filled * mesh.convex_hull.volume)


def _replace(
    spec: mujoco.MjSpec,
    name: str,
    users: list[tuple[mujoco.MjsBody, mujoco.MjsGeom]],
    parts: Parts,
) -> None:
    scale = spec.mesh(name).scale
    taken = {mesh.name for mesh in spec.meshes}
    volumes = [_volume(*part) for part in parts]
    names = []
    for vertices, faces in parts:
        free = (f"{name}_part{i}" for i in range(len(taken) + 1))
        names.append(next(n for n in free if n not in taken))
        taken.add(names[-1])
        spec.add_mesh(
            name=names[-1], uservert=vertices.ravel(), userface=faces.ravel(), scale=scale
        )
    for body, geom in users:
        for number, part in enumerate(names):
            copy = body.add_geom()
            if geom.frame is not None:
                copy.set_frame(geom.frame)
            for key in dir(geom):
                if not key.startswith("_") and key not in _OWN:
                    setattr(copy, key, getattr(geom, key))
            copy.meshname, copy.mass = part, geom.mass * volumes[number] / sum(volumes)
            own_name = geom.name and f"{geom.name}_{number}"
            if number == 0:
                own_name, geom.name = geom.name, ""
            copy.name = own_name
        spec.delete(geom)


_OWN = frozenset(  # what a geom does not share with a copy
    "name id signature parent frame set_frame mass meshname compiler classname plugin".split()
)


def _volume(vertices: Array, faces: Faces) -> float:
    a, b, c = (vertices[faces[:, i]] for i in range(3))
    return float(abs((a * np.cross(b, c)).sum() / 6.0))


def _load(file: Path) -> Parts:
    """Parts that were saved; none if there is no such file, or it is damaged."""
    try:
        with np.load(file, allow_pickle=False) as saved:
            count = len(saved.files) // 2
            parts = [(saved[f"vertices{i}"], saved[f"faces{i}"]) for i in range(count)]
    except Exception:  # zipfile, zlib and NumPy raise many kinds for a damaged file
        return []
    return parts if all(_is_part(*part) for part in parts) else []


def _is_part(vertices: Array, faces: Faces) -> bool:
    """Whether arrays of a file are a mesh."""
    if vertices.dtype.kind != "f" or faces.dtype.kind not in "iu":
        return False
    if vertices.ndim != 2 or faces.ndim != 2 or vertices.shape[1] != 3 or faces.shape[1] != 3:
        return False
    inside = faces.size > 0 and faces.min() >= 0 and faces.max() < len(vertices)
    return bool(inside and np.isfinite(vertices).all())


def _save(file: Path, parts: Parts) -> None:
    arrays: dict[str, Any] = {}
    for i, (vertices, faces) in enumerate(parts):
        arrays[f"vertices{i}"], arrays[f"faces{i}"] = vertices, faces
    content = io.BytesIO()
    np.savez(content, **arrays)
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(file, content.getvalue())
    except (OSError, PhalanxError) as error:
        log.warning("convex parts are not kept: %s", error)
