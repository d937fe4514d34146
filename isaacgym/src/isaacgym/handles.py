"""The simulation as programs hold it, and checks of the handles that they pass back."""

import time
from typing import Any, TypeVar

import torch

from isaacgym.enums import IndexDomain
from isaacgym.params import SimParams
from isaacgym.physics import Physics
from isaacgym.world import Actor, Env, World
from phalanx.errors import PhalanxError

T = TypeVar("T")


class Sim(World):
    """What a program describes, and `physics`, which runs it once its structure is fixed."""

    def __init__(self, params: SimParams, device: torch.device, graphics: int) -> None:
        super().__init__(params, device)
        self.graphics = graphics
        self.physics: Physics | None = None
        self.prepared = False
        self.destroyed = False
        self.frame_count = 0
        self.started = time.monotonic()
        self.last_frame: float | None = None

    def fix(self) -> Physics:
        """Fix the structure, if it is not yet; from here on tensors have a size. Raises
        PhalanxError if it cannot be simulated."""
        if self.physics is None:
            self.freeze()
            self.physics = Physics(self)
        return self.physics


def checked(value: Any, kind: type[T], call: str) -> T:
    """`value`, which is a `kind`. Raises TypeError naming the call."""
    if not isinstance(value, kind):
        shown = "None, as a call that failed returns" if value is None else type(value).__name__
        raise TypeError(f"gym.{call} takes what is of type {kind.__name__}, not {shown}")
    if isinstance(value, Sim) and value.destroyed:
        raise PhalanxError(f"gym.{call} came after gym.destroy_sim; create a new simulation")
    return value


def physics_of(sim: Any, call: str) -> Physics:
    """The physics of a simulation that has been prepared. Raises PhalanxError if it has not."""
    sim = checked(sim, Sim, call)
    if sim.physics is None:
        raise PhalanxError(
            f"gym.{call} came before gym.prepare_sim; call gym.prepare_sim(sim) first"
        )
    return sim.physics


def env_physics(env: Any, call: str) -> Physics:
    """The physics of an environment's simulation, as `physics_of`."""
    return physics_of(checked(env, Env, call).sim, call)


def within(index: int, count: int, what: str, call: str) -> int:
    """`index`, which is in 0 to count - 1. Raises PhalanxError naming the call."""
    if not 0 <= int(index) < count:
        raise PhalanxError(
            f"gym.{call} was given {what} {index}; there are {count}, counted from 0"
        )
    return int(index)


def place(names: list[str], name: str) -> int:
    """Where `name` is in a list, -1 if nowhere, as Isaac Gym's find_* calls."""
    return names.index(name) if name in names else -1


def actor_of(env: Any, handle: Any, call: str) -> Actor:
    """The actor with this handle. Raises TypeError or PhalanxError naming the call."""
    return checked(env, Env, call).actor(int(handle), call)


def before(env: Env, what: str) -> int:
    """Actors, bodies or DOFs in the environments before this one, which are all like the first."""
    first = env.sim.envs[0]
    return env.index * (len(first.actors) if what == "actors" else getattr(first, what))


def in_domain(env: Env, index: int, first: int, count: str, domain: IndexDomain) -> int:
    if domain == IndexDomain.DOMAIN_ACTOR:
        return index
    if domain == IndexDomain.DOMAIN_SIM:
        first += before(env, count)
    return first + index


def note_change(env: Env) -> None:
    sim = checked(env.sim, Sim, "set_actor_properties")
    if sim.physics is not None:
        sim.physics.dirty = True
