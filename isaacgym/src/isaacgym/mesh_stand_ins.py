"""What IndustReal's tasks ask of pysdf and urdfpy, which do not install today; `compat.py` puts it
in their place.

    SDF(vertices, faces)(points)                     # distances [m], positive inside
    URDF.load("peg.urdf").links[0].collision_mesh    # a trimesh.Trimesh
"""

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np


class SDF:
    """Signed distances to the surface of a closed mesh: vertices (V, 3) [m], faces (F, 3)."""

    def __init__(self, vertices: np.ndarray, faces: np.ndarray) -> None:
        from phalanx.sim.engines.mesh_distances import MeshDistances

        self._distances = MeshDistances(vertices, faces)

    def __call__(self, points: np.ndarray) -> np.ndarray:
        """(P,) float32 [m] of points (P, 3): positive inside, negative outside."""
        return self._distances(points)

    def contains(self, points: np.ndarray) -> np.ndarray:
        """Whether points (P, 3) are inside, (P,) bool."""
        return self(points) > 0


class Link(NamedTuple):
    """A link of a URDF. collision_mesh: a trimesh.Trimesh of its collision meshes in the frame of
    the link, None if there are none."""

    name: str
    collision_mesh: Any


class URDF:
    """A robot file's links, in the order of the file."""

    def __init__(self, links: list[Link]) -> None:
        self.links = links

    @classmethod
    def load(cls, file_obj: str) -> "URDF":
        """Read a file. Raises PhalanxError, naming file and element."""
        import mujoco
        import trimesh

        from phalanx.sim.assets import load_robot
        from phalanx.sim.decompose import mesh_content
        from phalanx.sim.xml_file import read_xml

        path = Path(file_obj)
        spec = load_robot(path, drop_unknown=True).spec
        own: dict[str, Any] = {}
        for body in spec.bodies[1:]:
            meshes = []
            for geom in body.geoms:
                if geom.type != mujoco.mjtGeom.mjGEOM_MESH or not geom.contype | geom.conaffinity:
                    continue
                # The compiled model may hold only the hull of a mesh that collides.
                vertices, faces = mesh_content(spec, geom.meshname, path)
                turn = np.zeros(9)
                mujoco.mju_quat2Mat(turn, geom.quat)
                placed = vertices * spec.mesh(geom.meshname).scale @ turn.reshape(3, 3).T
                meshes.append(trimesh.Trimesh(placed + geom.pos, faces))
            if meshes:
                own[body.name] = trimesh.util.concatenate(meshes)
        names = [link.attrib.get("name", "") for link in read_xml(path).findall("link")]
        return cls([Link(name, own.get(name)) for name in names])
