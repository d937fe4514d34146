"""Observations are tensors, or dictionaries of them to any depth."""

from collections.abc import Callable
from typing import Any


def nested(f: Callable[..., Any], x: Any, *others: Any) -> Any:
    """`f` of each tensor in `x` and those at the same place in `others`, arranged like `x`."""
    if isinstance(x, dict):
        return {k: nested(f, v, *(o[k] for o in others)) for k, v in x.items()}
    return f(x, *others)
