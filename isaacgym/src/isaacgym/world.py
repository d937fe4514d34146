"""The description that a program gives before it simulates: environments and their actors.

Creating an environment or an actor only records it, so thousands take seconds. `structure.py` then
finds the environments that are copies of one model. Nothing here simulates."""

import functools
from collections.abc import Iterator
from typing import Final

import mujoco
import numpy as np
import torch

from isaacgym.asset import NO_FILTER, Asset, Read
from isaacgym.cameras import Camera
from isaacgym.geometry import Transform, Vec3
from isaacgym.ground import Ground, settle
from isaacgym.params import SimParams
from isaacgym.properties import bits
from isaacgym.property_structs import AttractorProperties
from phalanx.errors import PhalanxError

NO_GROUP = -1  # collides with all groups


class Actor:
    """One asset in one environment. A property that is None is that of the asset."""

    __slots__ = (
        "asset", "bodies", "colors", "dof_props", "filter", "first_body", "first_dof", "group",
        "handle", "name", "pos", "quat", "root_velocity", "scale", "segmentation",
        "segmentation_id", "sensors", "shapes", "start", "tendon_props", "textures",
    )  # fmt: skip

    def __init__(
        self, asset: Asset, pose: Transform, name: str, group: int, filter: int, env: "Env"
    ) -> None:
        self.asset = asset
        self.name = name
        self.group = group
        self.filter = filter = bits(filter, "gym.create_actor's filter")
        self.pos = np.array([pose.p.x, pose.p.y, pose.p.z])
        quat = np.array([pose.r.w, pose.r.x, pose.r.y, pose.r.z])
        length = np.linalg.norm(quat)
        self.quat = quat / length if length > 0 else np.array([1.0, 0.0, 0.0, 0.0])
        if asset.turned:
            mujoco.mju_mulQuat(self.quat, self.quat.copy(), asset.root_quat)
        self.root_velocity = np.zeros(6)
        """Of the root's centre of mass, linear and angular, if set before `prepare_sim`."""
        self.handle = len(env.actors)
        self.first_body = env.num_bodies
        self.first_dof = env.num_dofs
        self.scale = 1.0
        self.segmentation_id = 0
        self.segmentation: dict[int, int] = {}
        """Numbers in segmentation images, of the actor and of bodies that have their own."""
        self.dof_props: np.ndarray | None = None
        self.bodies: np.ndarray | None = None
        self.tendon_props = asset.tendon_props
        self.sensors = asset.sensors
        self.shapes = asset.shapes
        if filter != NO_FILTER:
            self.shapes = asset.shapes.copy()
            self.shapes["filter"] = filter
        self.colors: dict[int, Vec3] = {}
        self.textures: dict[int, int] = {}
        """Colours and textures that the program set, by body."""
        self.start: dict[str, np.ndarray] = {}
        """What the program set before the simulation was prepared, (dofs,) each: "pos" and "vel"
        of its joints, and commands under their names in `Drives`."""


class Env:
    """One environment: its origin [m] in the world, and its actors in order."""

    __slots__ = (
        "actors",
        "attractors",
        "cameras",
        "destroyed",
        "first",
        "group",
        "index",
        "num_bodies",
        "num_dofs",
        "num_sensors",
        "origin",
        "row",
        "sim",
    )

    def __init__(self, sim: "World", index: int, origin: np.ndarray) -> None:
        self.sim = sim
        self.index = index
        self.destroyed = False
        self.origin = origin
        self.actors: list[Actor] = []
        self.attractors: list[AttractorProperties] = []
        self.cameras: list[Camera | None] = []
        self.num_bodies = 0
        self.num_dofs = 0
        self.num_sensors = 0
        self.first = {
            "actors": sim.num_actors,
            "bodies": sim.num_bodies,
            "dofs": sim.num_dofs,
            "sensors": sim.num_sensors,
        }
        """Numbers of actors, bodies, ... in the environments before this one."""
        self.group: int
        self.row: int
        """Number of its group, and its row in it; see `structure.py`. An environment without actors
        has none."""

    def actor(self, handle: int, call: str) -> Actor:
        """The actor with this handle. Raises PhalanxError naming the call."""
        if not 0 <= handle < len(self.actors):
            raise PhalanxError(
                f"gym.{call} was given actor handle {handle}; environment {self.index} has"
                f" {len(self.actors)} actors, counted from 0"
            )
        return self.actors[handle]


class World:
    """Everything a program has described: parameters, ground, environments and their actors."""

    def __init__(self, params: SimParams, device: torch.device) -> None:
        self.params: Final = params
        """Changed in place: groups of environments refer to the same object."""
        self.device = device
        self.read: Read = {}
        self.envs: list[Env] = []
        self.grounds: list[Ground] = []
        self.frozen = False
        self.num_actors = 0
        self.num_bodies = 0
        self.num_dofs = 0
        self.num_sensors = 0

    @property
    def timestep(self) -> float:
        """Duration of one substep [s]; a `simulate` takes `substeps` of them."""
        return self.params.dt / self.params.substeps

    @functools.cached_property
    def assets(self) -> list[tuple[list[Asset], np.ndarray]]:
        """For each actor of an environment, its different assets and which of them each environment
        (N,) has. For environments of one structure that is fixed."""
        slots = []
        for k in range(len(self.envs[0].actors)):
            own = [env.actors[k].asset for env in self.envs]
            places: dict[int, int] = {}
            which = [places.setdefault(id(asset), len(places)) for asset in own]
            different = {id(asset): asset for asset in own}
            slots.append((list(different.values()), np.array(which)))
        return slots

    def create_env(self, lower: Vec3, upper: Vec3, per_row: int) -> Env:
        """The next environment of a grid with `per_row` cells in a row, each of size
        `upper - lower` [m]."""
        if per_row < 1:
            raise PhalanxError(
                f"gym.create_env was given num_per_row {per_row}, it must be 1 or more"
            )
        self.check_open("create_env")
        index = len(self.envs)
        origin = np.zeros(3)
        first, second = (0, 2) if self.params.up_axis == 0 else (0, 1)
        cell = np.array([upper.x - lower.x, upper.y - lower.y, upper.z - lower.z])
        origin[first] = cell[first] * (index % per_row)
        origin[second] = cell[second] * (index // per_row)
        env = Env(self, index, origin)
        self.envs.append(env)
        return env

    def destroy_env(self, env: Env) -> None:
        """Remove the environment that was created last. Raises PhalanxError for another one, after
        which all would have to be numbered again."""
        if not self.envs or env is not self.envs[-1]:
            raise PhalanxError(
                f"gym.destroy_env was called for environment {env.index} of {len(self.envs)};"
                " before gym.prepare_sim only the last one can be removed"
            )
        self.envs.pop().destroyed = True
        self.num_actors -= len(env.actors)
        self.num_bodies -= env.num_bodies
        self.num_dofs -= env.num_dofs
        self.num_sensors -= env.num_sensors

    def create_actor(
        self, env: Env, asset: Asset, pose: Transform, name: str, group: int, filter: int
    ) -> Actor:
        """The next actor of `env`, which must be the last environment created."""
        self.check_open("create_actor")
        self.check_last(env, "create_actor", "actors")
        actor = Actor(asset, pose, name, group, filter, env)
        env.actors.append(actor)
        env.num_bodies += asset.num_bodies
        env.num_dofs += asset.num_dofs
        env.num_sensors += len(asset.sensors)
        self.num_actors += 1
        self.num_bodies += asset.num_bodies
        self.num_dofs += asset.num_dofs
        self.num_sensors += len(asset.sensors)
        asset.placed = True
        return actor

    def check_last(self, env: Env, call: str, parts: str) -> None:
        """Raise PhalanxError unless `env` is the environment that was created last, whose `parts`
        then have the last rows of tensors."""
        if env is not self.envs[-1]:
            raise PhalanxError(
                f"gym.{call} was called for environment {env.index} after environment"
                f" {len(self.envs) - 1} had been created; create all {parts} of one first"
            )

    def check_open(self, call: str) -> None:
        """Raise PhalanxError if the structure is already fixed."""
        if self.frozen:
            raise PhalanxError(
                f"gym.{call} was called after gym.prepare_sim or the first gym.acquire_*_tensor,"
                " which fix the content of the simulation; call it before"
            )

    def freeze(self) -> None:
        """Fix the structure, which gives tensors their sizes. Raises PhalanxError if there are no
        actors, and for ground that cannot be seen from above."""
        if not self.num_actors:
            raise PhalanxError(
                "the simulation has no actors; call gym.create_env and gym.create_actor before"
                " gym.prepare_sim or gym.acquire_*_tensor"
            )
        for piece in self.grounds:
            settle(piece, self.params)
        self.frozen = True

    def actors(self) -> Iterator[tuple[Env, Actor]]:
        """All actors in the order of tensor rows."""
        for env in self.envs:
            for actor in env.actors:
                yield env, actor
