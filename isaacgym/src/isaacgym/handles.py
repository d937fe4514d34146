"""Checks of the handles that programs pass back."""

from typing import Any, TypeVar

from isaacgym.world import Env, Sim
from phalanx.errors import PhalanxError

T = TypeVar("T")


def checked(value: Any, kind: type[T], call: str) -> T:
    """`value`, which is a `kind`. Raises TypeError naming the call."""
    if not isinstance(value, kind):
        shown = "None, as a call that failed returns" if value is None else type(value).__name__
        raise TypeError(f"gym.{call} takes what is of type {kind.__name__}, not {shown}")
    if isinstance(value, Sim) and value.destroyed:
        raise PhalanxError(f"gym.{call} came after gym.destroy_sim; create a new simulation")
    return value


def physics_of(sim: Any, call: str) -> Any:
    """The physics of a simulation that has been prepared. Raises PhalanxError if it has not."""
    sim = checked(sim, Sim, call)
    if sim.physics is None:
        raise PhalanxError(
            f"gym.{call} came before gym.prepare_sim; call gym.prepare_sim(sim) first"
        )
    return sim.physics


def env_physics(env: Any, call: str) -> Any:
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
