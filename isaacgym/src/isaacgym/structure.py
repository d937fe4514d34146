"""What environments must have in common to be copies of one model, and groups of those that do.

Environments of one structure are simulated together; meshes and numbers that differ between them
are model fields. A world with environments of several structures is simulated group by group.
"""

from bisect import bisect_left
from typing import Any

import torch
from torch import Tensor

from isaacgym.world import NO_GROUP, Env, World


class Group(World):
    """The environments of a world that have one structure, in its order: the part of a world that
    one model describes."""

    def __init__(self, whole: World, envs: list[Env]) -> None:
        super().__init__(whole.params, whole.device)
        self.envs, self.grounds, self.frozen = envs, whole.grounds, True
        self.num_actors = sum(len(env.actors) for env in envs)
        self.num_bodies = sum(env.num_bodies for env in envs)
        self.num_dofs = sum(env.num_dofs for env in envs)
        self.num_sensors = sum(env.num_sensors for env in envs)

    def size(self, unit: str) -> int:
        """Number of actors, bodies, dofs or sensors in each environment; 1 for envs."""
        env = self.envs[0]
        if unit == "envs":
            return 1
        return len(env.actors) if unit == "actors" else int(getattr(env, f"num_{unit}"))

    def rows(self, unit: str) -> Tensor:
        """Places of this group's actors, bodies, dofs, sensors or envs among those of the whole
        world, (environments * size,). Environments without actors do not count."""
        if unit == "envs":
            seated = [env.index for env in self.envs[0].sim.envs if env.actors]
            first = [bisect_left(seated, env.index) for env in self.envs]
        else:
            first = [env.first[unit] for env in self.envs]
        places = torch.tensor(first)[:, None] + torch.arange(self.size(unit))
        return places.flatten().to(self.device)


def groups_of(world: World) -> list[Group]:
    """The groups of a world, in the order of their first environments. Gives each environment its
    group and its row in it. Environments without actors are in none."""
    # Contact points of shapes on terrain are part of a model, so sizes must agree there.
    exact = any(piece.kind != "plane" for piece in world.grounds)
    by_structure: dict[Any, list[Env]] = {}
    sensors: dict[int, str] = {}
    for env in world.envs:
        if env.actors:
            by_structure.setdefault(_structure(env, exact, sensors), []).append(env)
    groups = [Group(world, envs) for envs in by_structure.values()]
    for number, group in enumerate(groups):
        for row, env in enumerate(group.envs):
            env.group, env.row = number, row
    return groups


def _structure(env: Env, exact: bool, sensors: dict[int, str]) -> Any:
    """Equal for environments of one structure. sensors: texts of lists of sensors, kept by id."""
    numbers: dict[int, int] = {}  # of collision groups, in the order in which they appear
    actors = []
    for actor in env.actors:
        asset, group = actor.asset, actor.group
        if group != NO_GROUP:
            group = numbers.setdefault(group, len(numbers))
        filters = tuple(actor.shapes["filter"].tolist())
        key: Any = asset.structure
        if exact:  # points of a mesh keep their places, so its size must agree too
            key = (asset.key, actor.scale if asset.collides_as_mesh else None)
        own = id(actor.sensors)
        if own not in sensors:
            sensors[own] = repr(actor.sensors)
        actors.append((key, group, actor.filter, filters, sensors[own]))
    held = tuple((a.rigid_handle, a.axes) for a in env.attractors)
    return tuple(actors), held
