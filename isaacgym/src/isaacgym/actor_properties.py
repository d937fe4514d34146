"""Properties of the actors of all environments, as arrays with a row for each environment.

There is a single row if all environments agree, as in most programs.
"""

from collections.abc import Callable

import numpy as np

from isaacgym.asset import Asset
from isaacgym.enums import RIGID_BODY_DISABLE_GRAVITY
from isaacgym.properties import BODY_PROPERTIES, SHAPE_PROPERTIES
from isaacgym.tendons import TENDON_PROPERTIES
from isaacgym.values import DOF_PROPERTIES
from isaacgym.world import Actor, World


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
    """Factors of lengths, (N or 1, A)."""
    scales = np.array([[a.scale for a in env.actors] for env in world.envs])
    return scales[:1] if (scales == scales[:1]).all() else scales


def of_assets(world: World, of: Callable[[Asset], np.ndarray]) -> np.ndarray:
    """What `of` gives for the assets of all actors, (rows, ...) each, one after the other: (N or 1,
    rows, ...)."""
    return together([of_slot(world, k, of) for k in range(len(world.envs[0].actors))])


def of_slot(world: World, k: int, of: Callable[[Asset], np.ndarray]) -> np.ndarray:
    """What `of` gives for the asset of actor `k`, (N or 1, rows, ...)."""
    assets, which = world.assets[k]
    values = np.stack([of(asset) for asset in assets])
    return values[:1] if (values == values[:1]).all() else values[which]


def together(parts: list[np.ndarray]) -> np.ndarray:
    """Arrays (N or 1, rows, ...) one after the other, (N or 1, all rows, ...)."""
    n = max(len(part) for part in parts)
    return np.concatenate([np.broadcast_to(part, (n, *part.shape[1:])) for part in parts], 1)


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
        # Comparing bytes takes a hundredth of the time of comparing records.
        different = {a.tobytes(): a for a in arrays}
        if len(different) == 1 or all(np.array_equal(a, first) for a in different.values()):
            arrays = arrays[:1]
        parts.append(np.stack(arrays) if len(first) else np.zeros((1, 0), dtype))
    return together(parts)
