"""Statistics of a batch's columns, and the batch normalised by them, compiled for a CPU.

torch takes a pass over memory for each operation."""

import ctypes
from pathlib import Path

import torch
from torch import Tensor

from phalanx.compute import clang

_SOURCE = Path(__file__).with_name("normalize.h")


class Normalize:
    """Functions of float32 batches (B, D). Raises PhalanxError if Warp's clang does not compile
    them."""

    def __init__(self) -> None:
        word, long = ctypes.c_void_p, ctypes.c_long
        compiled = clang.functions(
            _SOURCE.read_text("utf-8"),
            {
                "moments": (None, word, long, long, word, word, word),
                "normalize": (None, word, long, long, word, word, ctypes.c_float, word),
            },
        )
        self._moments, self._normalize = compiled["moments"], compiled["normalize"]

    def moments(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and variance over the first dimension, (D,) each, float64."""
        x = x.contiguous()
        rows, width = x.shape
        part = torch.empty(2 * width)
        mean, variance = torch.empty(2, width, dtype=torch.float64)
        places = [t.data_ptr() for t in (part, mean, variance)]
        self._moments(x.data_ptr(), rows, width, *places)
        return mean, variance

    def __call__(self, x: Tensor, mean: Tensor, factor: Tensor, limit: float) -> Tensor:
        """(x - mean) * factor, clamped to +-limit; mean, factor (D,) float32."""
        x = x.contiguous()
        out = torch.empty_like(x)
        rows, width = x.shape
        given = (mean.data_ptr(), factor.data_ptr(), limit)
        self._normalize(x.data_ptr(), rows, width, *given, out.data_ptr())
        return out
