"""Properties of the actors of all environments, as arrays with a row for each environment.

There is a single row if all environments agree, as in most programs.
"""

from collections.abc import Callable

import numpy as np

from isaacgym.enums import RIGID_BODY_DISABLE_GRAVITY
from isaacgym.properties import BODY_PROPERTIES, SHAPE_PROPERTIES
from isaacgym.tendons import TENDON_PROPERTIES
from isaacgym.values import DOF_PROPERTIES
from isaacgym.world import Actor, World
from phalanx.errors import PhalanxError


def dof_properties(world: World) -> np.ndarray:
    """(N or 1, D) of DOF_PROPERTIES."""
    return _stack(world, DOF_PROPERTIES, lambda a: _own(a.dof_props, a.asset.dof_props))


def dry_friction(world: World) -> np.ndarray:
    """Dry friction that the program set, (N or 1, D) [N or N m]. Friction in a URDF is not used: it
    is a coefficient of PhysX, not a force."""
    return _stack(
        world,
        np.dtype("f4"),
        lambda a: (
            np.zeros(a.asset.num_dofs, "f4") if a.dof_props is None else a.dof_props["friction"]
        ),
    )


def body_properties(world: World) -> np.ndarray:
    """(N or 1, B) of BODY_PROPERTIES."""
    return _stack(world, BODY_PROPERTIES, lambda a: _own(a.bodies, a.asset.bodies))


def shape_properties(world: World) -> np.ndarray:
    """(N or 1, shapes) of SHAPE_PROPERTIES."""
    return _stack(world, SHAPE_PROPERTIES, lambda a: a.shapes)


def tendon_properties(world: World) -> np.ndarray:
    """(N or 1, tendons) of TENDON_PROPERTIES."""
    return _stack(world, TENDON_PROPERTIES, lambda a: a.tendon_props)


def actor_scales(world: World) -> np.ndarray:
    """Factors of lengths, (N or 1, A). Raises PhalanxError if they differ for an actor with meshes
    that collide; drawn ones have the size of the first environment's."""
    scales = np.array([[a.scale for a in env.actors] for env in world.envs])
    if (scales == scales[:1]).all():
        return scales[:1]
    for a, actor in enumerate(world.envs[0].actors):
        if actor.asset.collides_as_mesh and (scales[:, a] != scales[0, a]).any():
            raise PhalanxError(
                f"gym.set_actor_scale: actor {actor.name!r} collides as a mesh, which must have the"
                " same scale in all environments"
            )
    return scales


def weightless_bodies(world: World) -> set[int]:
    """Bodies, counted in the environment, that have no gravity in at least one environment."""
    flags = body_properties(world)["flags"] & RIGID_BODY_DISABLE_GRAVITY
    return set(np.flatnonzero(flags.any(0)).tolist())


def _own(properties: np.ndarray | None, default: np.ndarray) -> np.ndarray:
    return default if properties is None else properties


def _stack(world: World, dtype: np.dtype, of: Callable[[Actor], np.ndarray]) -> np.ndarray:
    """Properties of all actors of each environment in one row; a single row if all environments
    agree."""
    parts = []
    for k in range(len(world.envs[0].actors)):
        arrays = [of(env.actors[k]) for env in world.envs]
        first = arrays[0]
        if all(a is first or np.array_equal(a, first) for a in arrays):
            arrays = arrays[:1]
        parts.append(np.stack(arrays) if len(first) else np.zeros((1, 0), dtype))
    n = max(len(p) for p in parts)
    return np.concatenate([np.broadcast_to(p, (n, p.shape[1])) for p in parts], 1)
