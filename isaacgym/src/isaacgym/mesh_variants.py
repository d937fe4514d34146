"""Meshes that differ between environments of one structure: other files, or other sizes of one.

The model has the meshes of all environments, and `geom_dataid` says which of them a geom has in
which environment. Those of the first environment are added by `scene.py`, with its actors.
"""

from dataclasses import dataclass

import mujoco
import numpy as np

from isaacgym.asset import Asset
from isaacgym.world import World

MESH = mujoco.mjtGeom.mjGEOM_MESH


@dataclass
class Variants:
    """The different meshes of one actor. kinds: assets and scales that have them, that of the first
    environment first. which: the kind of each environment (N,)."""

    kinds: list[tuple[Asset, float]]
    which: np.ndarray

    @property
    def keys(self) -> list[tuple[tuple[bytes, ...], float]]:
        """What tells the kinds apart."""
        return [(asset.meshes, scale) for asset, scale in self.kinds]


def variants_of(world: World) -> list[Variants]:
    """The variants of each actor of an environment."""
    found = []
    for k in range(len(world.envs[0].actors)):
        own = [(env.actors[k].asset, env.actors[k].scale) for env in world.envs]
        first = own[0][0]
        if not (first.model.geom_type == MESH).any():
            own = own[:1]
        places: dict[tuple[tuple[bytes, ...], float], int] = {}
        kinds: list[tuple[Asset, float]] = []
        which = []
        for asset, scale in own:
            key = (asset.meshes, scale)
            if key not in places:
                places[key] = len(kinds)
                kinds.append((asset, scale))
            which.append(places[key])
        found.append(Variants(kinds, np.resize(np.array(which), len(world.envs))))
    return found


def add_meshes(spec: mujoco.MjSpec, handle: int, variants: Variants) -> None:
    """Add the meshes of an actor that its first environment does not have."""
    for k, (asset, scale) in enumerate(variants.kinds[1:], 1):
        model = asset.model
        for geom in np.flatnonzero(model.geom_type == MESH):
            mesh = int(model.geom_dataid[geom])
            collides = bool(model.geom_contype[geom] | model.geom_conaffinity[geom])
            inertia = mujoco.mjtMeshInertia
            added = spec.add_mesh(
                name=_name(handle, k, int(geom)),
                uservert=_rows(model, "vert", mesh) * scale,
                userface=_rows(model, "face", mesh),
                # MuJoCo finds the hull of a mesh that no geom of the model has only for its inertia
                inertia=inertia.mjMESH_INERTIA_CONVEX if collides else inertia.mjMESH_INERTIA_SHELL,
            )
            if model.mesh_texcoordadr[mesh] >= 0:
                added.usertexcoord = _rows(model, "texcoord", mesh)
                first, count = model.mesh_faceadr[mesh], model.mesh_facenum[mesh]
                added.userfacetexcoord = model.mesh_facetexcoord[first : first + count].flatten()


def mesh_fields(
    variants: Variants, handle: int, geoms: np.ndarray, model: mujoco.MjModel
) -> dict[str, np.ndarray]:
    """What the meshes of each environment decide, for the geoms `geoms` (G,) of the model: which
    they are, the pose of each in the frame of its asset's mesh, and their sizes, (N, G, ...) each.
    Rows of geoms without a mesh count for nothing."""
    kinds = len(variants.kinds)
    ids = np.repeat(model.geom_dataid[geoms][None], kinds, 0)
    pos, quat = np.zeros((kinds, len(geoms), 3)), np.zeros((kinds, len(geoms), 4))
    quat[..., 0] = 1.0
    size, aabb = np.zeros((kinds, len(geoms), 3)), np.zeros((kinds, len(geoms), 6))
    for k, (asset, scale) in enumerate(variants.kinds):
        for g in np.flatnonzero(asset.model.geom_type == MESH):
            if k == 0:
                size[0, g] = model.geom_size[geoms[g]]
                aabb[0, g] = scale * asset.model.geom_aabb[g]
                continue
            mesh = model.mesh(_name(handle, k, int(g))).id
            ids[k, g] = mesh
            pos[k, g], quat[k, g] = model.mesh_pos[mesh], model.mesh_quat[mesh]
            vertices = _rows(model, "vert", mesh).reshape(-1, 3)
            low, high = vertices.min(0), vertices.max(0)
            aabb[k, g] = [*(low + high) / 2, *(high - low) / 2]
            size[k, g] = np.maximum(abs(low), abs(high))
    rbound = np.linalg.norm(size, axis=-1)
    values = {"id": ids, "pos": pos, "quat": quat, "size": size, "rbound": rbound, "aabb": aabb}
    return {name: rows[variants.which] for name, rows in values.items()}


def placed(
    pos: np.ndarray, quat: np.ndarray, own_pos: np.ndarray, own_quat: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Poses (own_pos, own_quat) given in frames (pos, quat), in the frame of those; (..., 3) and
    (..., 4), w first."""
    w, axis = quat[..., :1], quat[..., 1:]
    own_w, own_axis = own_quat[..., :1], own_quat[..., 1:]
    t = 2 * np.cross(axis, own_pos)
    moved = pos + own_pos + w * t + np.cross(axis, t)
    real = w * own_w - (axis * own_axis).sum(-1, keepdims=True)
    imaginary = w * own_axis + own_w * axis + np.cross(axis, own_axis)
    return moved, np.concatenate([real, imaginary], -1)


def _name(handle: int, kind: int, geom: int) -> str:
    return f"{handle}:{kind}/{geom}"  # actors of the first environment have names without a colon


def _rows(model: mujoco.MjModel, what: str, mesh: int) -> np.ndarray:
    """The "vert", "face" or "texcoord" numbers of a mesh, one after the other."""
    first = int(getattr(model, f"mesh_{what}adr")[mesh])
    count = int(getattr(model, f"mesh_{what}num")[mesh])
    rows: np.ndarray = getattr(model, f"mesh_{what}")[first : first + count].flatten()
    return rows
