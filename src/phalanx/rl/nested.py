"""Observations are tensors or nested dictionaries of tensors."""

from collections.abc import Callable
from typing import Any


def nested(f: Callable[..., Any], x: Any, *others: Any) -> Any:
    """Apply `f` to each tensor in `x` and its counterparts in `others`; returns the structure of
    `x`."""
    if isinstance(x, dict):
        return {k: nested(f, v, *(o[k] for o in others)) for k, v in x.items()}
    return f(x, *others)
