"""Whether a saved state has the structure of the one that it shall replace.

    check_fits(task.state_dict(), saved, "the environments")     # raises, before anything is set

A state is made of tensors, numbers and texts in dictionaries and lists.
"""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from phalanx.errors import PhalanxError
from phalanx.gate import show

MAX_COUNT = 2**53
FLOAT32 = torch.finfo(torch.float32)


def check_fits(own: Any, saved: Any, where: str) -> None:
    """Raise PhalanxError, naming the place, unless `saved` has every part of `own`, of the same
    kind and shape, and without NaN. Parts that only `saved` has are allowed."""
    if isinstance(own, Tensor):
        check_tensor(saved, where, own.shape, own.dtype)
    elif isinstance(own, Mapping):
        saved = mapping(saved, where)
        for key, value in own.items():
            if key not in saved:
                raise PhalanxError(f"{where} has no {key}")
            check_fits(value, saved[key], f"{where}.{key}")
    elif isinstance(own, (list, tuple)):
        if not isinstance(saved, (list, tuple)) or len(saved) != len(own):
            raise PhalanxError(f"{where} is {show(saved)}; it must be a list of {len(own)}")
        for k, (value, part) in enumerate(zip(own, saved, strict=True)):
            check_fits(value, part, f"{where}[{k}]")
    elif isinstance(own, (bool, str)) or own is None:
        if type(saved) is not type(own):
            raise PhalanxError(f"{where} is {show(saved)}; it must be like {show(own)}")
    elif isinstance(own, int):
        count(saved, where)
    else:
        number(saved, where)


def check_tensor(
    saved: Any, where: str, shape: tuple[int, ...], dtype: torch.dtype | None = None
) -> None:
    """Raise PhalanxError unless `saved` is a tensor of this shape and type, without NaN. Without
    `dtype`, any type of decimal numbers is accepted."""
    if not isinstance(saved, Tensor):
        raise PhalanxError(f"{where} is {show(saved)}; it must be a tensor")
    if saved.shape != shape:
        raise PhalanxError(f"{where} has shape {tuple(saved.shape)}; it must be {tuple(shape)}")
    if saved.dtype != dtype and (dtype is not None or not saved.is_floating_point()):
        raise PhalanxError(f"{where} holds {saved.dtype}; it must be {dtype or 'decimal numbers'}")
    if saved.is_floating_point() and saved.isnan().any():
        raise PhalanxError(f"{where} holds NaN")


def check_finite(saved: Any, where: str) -> None:
    """Raise PhalanxError if a tensor of decimal numbers holds infinity or NaN."""
    if saved.is_floating_point() and not saved.isfinite().all():
        raise PhalanxError(f"{where} holds numbers that are not finite")


def mapping(saved: Any, where: str) -> Mapping[Any, Any]:
    """`saved`, which must be a dictionary. Raises PhalanxError."""
    if not isinstance(saved, Mapping):
        raise PhalanxError(f"{where} is {show(saved)}; it must be a dictionary")
    return saved


def count(saved: Any, where: str) -> int:
    """`saved`, which must be a whole number from 0 on. Raises PhalanxError."""
    value = _single(saved)
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= MAX_COUNT:
        raise PhalanxError(f"{where} is {show(saved)}; it must be a whole number from 0 on")
    return value


def number(saved: Any, where: str, least: float = -math.inf) -> float:
    """`saved`, which must be a number, `least` or more, and not NaN, positive infinity, a whole
    number beyond MAX_COUNT or what float32 cannot hold. Raises PhalanxError."""
    value = _single(saved)
    right = isinstance(value, float) or (
        isinstance(value, int) and not isinstance(value, bool) and abs(value) <= MAX_COUNT
    )
    if not right or not least <= value <= FLOAT32.max or -math.inf < value < FLOAT32.min:
        wanted = "a number" if least == -math.inf else f"a number from {least:g} on"
        raise PhalanxError(f"{where} is {show(saved)}; it must be {wanted}")
    return float(value)


def _single(saved: Any) -> Any:
    """The number in a tensor or array of one, anything else unchanged."""
    if isinstance(saved, Tensor):
        return saved.item() if saved.numel() == 1 else saved
    return saved.item() if isinstance(saved, np.ndarray) and saved.size == 1 else saved
