"""The shapes of the world, such as the ground, as a few numbers that show if they have changed.

saved = fixed_shapes(model)
same_shapes(saved, fixed_shapes(other))     # whether states of the one fit the other
"""

from typing import Any

import mujoco
import numpy as np
import torch
from torch import Tensor

MOST_SHAPES, MOST_HEIGHTS = 512, 4096
"""Of those that are looked at, evenly taken from all: a map may have millions of samples."""
CLOSE = 1e-4
"""Difference of numbers that are the same, computed on another machine."""


def fixed_shapes(model: mujoco.MjModel) -> Tensor:
    """(K,) places and sizes of shapes of the world itself, and samples of height fields."""
    own = _some(np.flatnonzero(model.geom_bodyid == 0), MOST_SHAPES)
    fields = (model.geom_pos, model.geom_quat, model.geom_size, model.geom_aabb)
    parts = [model.geom_type[own], *(field[own] for field in fields)]
    parts += [model.hfield_size, model.hfield_nrow, _some(model.hfield_data, MOST_HEIGHTS)]
    return torch.tensor(np.concatenate([np.ravel(part) for part in parts]), dtype=torch.float32)


def same_shapes(saved: Any, here: Tensor) -> bool:
    """Whether `saved`, of a file, is what `fixed_shapes` has returned here."""
    fits = isinstance(saved, Tensor) and saved.shape == here.shape and saved.dtype == here.dtype
    return fits and torch.allclose(saved.cpu(), here, rtol=CLOSE, atol=CLOSE)


def _some(values: np.ndarray, most: int) -> np.ndarray:
    n = len(values)
    return values[np.linspace(0, n - 1, min(n, most)).astype(int)]
