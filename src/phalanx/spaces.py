"""What an environment's observations and actions look like.

Four shapes are enough for a batched environment; `gymnasium` is not needed to describe them.
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
    """One bound for all elements, or one for each in the order of the flattened array."""
    high: float | tuple[float, ...] = float("inf")

    def rescale(self, actions: Tensor) -> Tensor:
        """Actions (N, *shape) in -1 .. 1, mapped onto low .. high. Raises PhalanxError where there
        are no bounds. RL Games' `rescale_actions`."""
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
    """Observations by name."""

    spaces: "Mapping[str, Box | Dict]"

    @property
    def shape(self) -> dict[str, object]:
        """Shapes by name, what a network for such observations is told as `input_shape`."""
        return {name: space.shape for name, space in self.spaces.items()}


ActionSpace = Box | Discrete | MultiDiscrete
ObservationSpace = Box | Dict


def boxes(space: ObservationSpace) -> object:
    """The Box, or dictionaries of them that are nested like the space."""
    if isinstance(space, Dict):
        return {name: boxes(s) for name, s in space.spaces.items()}
    return space


@functools.lru_cache(maxsize=64)
def _scale_and_middle(space: Box, device: torch.device) -> tuple[Tensor, Tensor]:
    """Half the range and its middle, scalars or `space.shape`; made once, so that nothing is
    copied to the device in every step."""
    low, high = (torch.tensor(x, device=device) for x in (space.low, space.high))
    if not all(math.isfinite(x) for bound in (low, high) for x in bound.flatten().tolist()):
        raise PhalanxError(
            "the action space has no bounds that actions could be rescaled to;"
            " set params.config.clip_actions: false"
        )
    shape = space.shape if low.ndim or high.ndim else ()
    scale, middle = (high - low) / 2, (high + low) / 2
    return scale.reshape(shape), middle.reshape(shape)
