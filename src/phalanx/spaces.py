"""What an environment's observations and actions look like.

Three shapes are enough for a batched environment; `gymnasium` is not needed to describe them.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Box:
    """Real vectors or arrays of `shape`, without the environment dimension."""

    shape: tuple[int, ...]
    low: float = -float("inf")
    high: float = float("inf")


@dataclass(frozen=True)
class Discrete:
    """One integer in 0 .. n-1."""

    n: int


@dataclass(frozen=True)
class MultiDiscrete:
    """Several integers, the k-th in 0 .. nvec[k]-1."""

    nvec: tuple[int, ...]


ActionSpace = Box | Discrete | MultiDiscrete
