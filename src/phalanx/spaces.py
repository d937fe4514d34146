"""Spaces of an environment's observations and actions.

Four kinds are enough for batched environments, and `gymnasium` is not needed.
"""

import functools
import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from phalanx.errors import PhalanxError


@dataclass(frozen=True)
class Box:
    """Real vectors or arrays of `shape`, without the environment dimension."""

    shape: tuple[int, ...]
    low: float | tuple[float, ...] = -float("inf")
    """One bound for all elements, or one for each, in the order of the flattened array."""
    high: float | tuple[float, ...] = float("inf")

    def rescale(self, actions: Tensor) -> Tensor:
        """Map actions (N, *shape) from -1 .. 1 to low .. high. Raises PhalanxError if there are no
        bounds. RL Games' `rescale_actions`."""
        if (self.low, self.high) == (-1.0, 1.0):
            return actions
        scale, middle = _scale_and_middle(self, actions.device)
        return actions * scale + middle


@dataclass(frozen=True)
class Discrete:
    """One integer in 0 .. n-1."""

    n: int


@dataclass(frozen=True)
class MultiDiscrete:
    """Several integers, the k-th in 0 .. nvec[k]-1."""

    nvec: tuple[int, ...]


@dataclass(frozen=True)
class Dict:
    """Observations by name, as a dictionary."""

    spaces: "Mapping[str, Box | Dict]"

    @property
    def shape(self) -> dict[str, object]:
        """Shapes by name, the `input_shape` of a network for these observations."""
        return {name: space.shape for name, space in self.spaces.items()}


ActionSpace = Box | Discrete | MultiDiscrete
ObservationSpace = Box | Dict


def boxes(space: ObservationSpace) -> object:
    """The Box itself, or dictionaries of Boxes nested like the space."""
    if isinstance(space, Dict):
        return {name: boxes(s) for name, s in space.spaces.items()}
    return space


@functools.lru_cache(maxsize=64)
def _scale_and_middle(space: Box, device: torch.device) -> tuple[Tensor, Tensor]:
    """Half the range and its middle, scalars or of `space.shape`; cached, so that nothing is copied
    to the device in every step."""
    low, high = (torch.tensor(x, device=device) for x in (space.low, space.high))
    if not all(math.isfinite(x) for bound in (low, high) for x in bound.flatten().tolist()):
        raise PhalanxError(
            "actions cannot be rescaled, because the action space has no bounds;"
            " set params.config.clip_actions: false"
        )
    shape = space.shape if low.ndim or high.ndim else ()
    scale, middle = (high - low) / 2, (high + low) / 2
    return scale.reshape(shape), middle.reshape(shape)
