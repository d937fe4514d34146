"""The simulation as programs hold it, and checks of the handles that they pass to calls."""

import time
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch

from isaacgym.enums import IndexDomain
from isaacgym.grouped import GroupedPhysics
from isaacgym.params import SimParams
from isaacgym.physics import Physics
from isaacgym.world import Actor, Env, World
from phalanx.errors import PhalanxError

T = TypeVar("T")


class Sim(World):
    """The description that a program gives, and `physics`, which runs it once its structure is
    fixed."""

    def __init__(self, params: SimParams, device: torch.device, graphics: int) -> None:
        super().__init__(params, device)
        self.graphics = graphics
        self.physics: GroupedPhysics | None = None
        self.prepared = False
        self.destroyed = False
        self.reads_sensors = False  # whether the program has a `ForceSensor`
        self.frame_count = 0
        self.started = time.monotonic()
        self.last_frame: float | None = None
        self.pictures: Any = None
        """The `Pictures` of its cameras, once one is asked for."""
        self.textures: list[Path | np.ndarray | None] = []
        """Files or pixels (height, width, 4) by handle; None once freed."""

    def add_texture(self, image: Path | np.ndarray) -> int:
        """Keep an image; returns its handle."""
        self.textures.append(image)
        return len(self.textures) - 1

    def fix(self) -> GroupedPhysics:
        """Fix the structure if it is not fixed yet, which gives tensors their sizes. Raises
        PhalanxError if it cannot be simulated."""
        if self.physics is None:
            self.freeze()
            self.physics = GroupedPhysics(self)
            if self.reads_sensors:
                self.physics.acquire("force_sensor")
        return self.physics


def checked(value: Any, kind: type[T], call: str) -> T:
    """`value`, if it is a `kind`. Raises TypeError naming the call if it is not."""
    if not isinstance(value, kind):
        shown = (
            "None, which failed calls return"
            if value is None
            else f"a value of type {type(value).__name__}"
        )
        raise TypeError(f"gym.{call} takes one {kind.__name__}, not {shown}")
    if isinstance(value, Sim) and value.destroyed:
        raise PhalanxError(f"gym.{call} was called after gym.destroy_sim; create a new simulation")
    if isinstance(value, Env) and value.destroyed:
        raise PhalanxError(
            f"gym.{call} was given an environment that gym.destroy_env has removed; use one that is"
            " there"
        )
    return value


def physics_of(sim: Any, call: str) -> GroupedPhysics:
    """The physics of a prepared simulation. Raises PhalanxError if it is not prepared."""
    sim = checked(sim, Sim, call)
    if sim.physics is None:
        raise PhalanxError(
            f"gym.{call} was called before gym.prepare_sim; call gym.prepare_sim(sim) first"
        )
    return sim.physics


def env_physics(env: Any, call: str) -> Physics:
    """The physics of an environment, where it has row `env.row`. Raises PhalanxError if its
    simulation is not prepared, and if it has no actors."""
    physics = physics_of(checked(env, Env, call).sim, call)
    if not env.actors:
        raise PhalanxError(
            f"gym.{call} was called for environment {env.index}, which has no actors; create one"
            " in it before gym.prepare_sim"
        )
    return physics.of(env)


def checked_index(index: int, count: int, what: str, call: str) -> int:
    """`index`, if it is in 0 to count - 1. Raises PhalanxError naming the call if it is not."""
    if not 0 <= int(index) < count:
        raise PhalanxError(
            f"gym.{call} was given {what} {index}; there are {count}, counted from 0"
        )
    return int(index)


def index_of(names: list[str], name: str) -> int:
    """The index of `name` in a list; -1 if it is not there, as in Isaac Gym's find_* calls."""
    return names.index(name) if name in names else -1


def actor_of(env: Any, handle: Any, call: str) -> Actor:
    """The actor with this handle. Raises TypeError or PhalanxError naming the call."""
    return checked(env, Env, call).actor(int(handle), call)


def in_domain(env: Env, index: int, first: int, unit: str, domain: IndexDomain) -> int:
    """An actor's `index` of a unit, "bodies" or "dofs", in a domain. first: where the actor starts
    in its environment."""
    if domain == IndexDomain.DOMAIN_ACTOR:
        return index
    if domain == IndexDomain.DOMAIN_SIM:
        first += env.first[unit]
    return first + index


def note_change(env: Env) -> None:
    """Have the next call that needs the engine update the properties of actors."""
    sim = checked(env.sim, Sim, "set_actor_properties")
    if sim.physics is not None:
        sim.physics.note_change(env)


def note_look(env: Env) -> None:
    """Have the next pictures look at cameras, colours and textures again."""
    sim = checked(env.sim, Sim, "set_camera_transform")
    if sim.pictures is not None:
        sim.pictures.note_change()
