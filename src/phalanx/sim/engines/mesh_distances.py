"""Distances from points to the surface of a closed mesh, by Warp.

distances = MeshDistances(vertices, faces)
inside = distances(points) > 0
"""

import numpy as np
import warp as wp

from phalanx.compute.start_warp import init_warp

FAR = 1e6  # [m] no surface is looked for beyond


class MeshDistances:
    """vertices: (V, 3) [m]. faces: (F, 3), counter-clockwise seen from outside. On the CPU."""

    def __init__(self, vertices: np.ndarray, faces: np.ndarray) -> None:
        init_warp()
        self._mesh = wp.Mesh(
            points=wp.array(np.asarray(vertices, np.float32), dtype=wp.vec3, device="cpu"),
            indices=wp.array(np.asarray(faces, np.int32).ravel(), dtype=wp.int32, device="cpu"),
            support_winding_number=True,
        )

    def __call__(self, points: np.ndarray) -> np.ndarray:
        """(P,) [m], of points (P, 3) in the mesh's frame: positive inside, negative outside."""
        where = wp.array(np.asarray(points, np.float32).reshape(-1, 3), dtype=wp.vec3, device="cpu")
        found = wp.zeros(len(where), dtype=float, device="cpu")
        wp.launch(
            _distance, dim=len(where), inputs=[self._mesh.id, where], outputs=[found], device="cpu"
        )
        distances: np.ndarray = found.numpy()
        return distances


@wp.kernel(enable_backward=False)
def _distance(
    mesh: wp.uint64,
    points: wp.array(dtype=wp.vec3),  # type: ignore[valid-type]
    found: wp.array(dtype=float),  # type: ignore[valid-type]
) -> None:
    k = wp.tid()
    query = wp.mesh_query_point_sign_winding_number(mesh, points[k], FAR)
    nearest = wp.mesh_eval_position(mesh, query.face, query.u, query.v)
    found[k] = -query.sign * wp.length(points[k] - nearest)
