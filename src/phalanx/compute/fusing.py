"""Small GPU kernels of a function merged into few by torch.compile."""

from collections.abc import Callable
from typing import Any

import torch

COMPILING = "first_compiled_call"
"""The name of the frame in which torch.compile works; `graphs` looks for it in a stack."""


def fused(function: Callable[..., Any], warn: Callable[[str], None]) -> Callable[..., Any]:
    """`function`, compiled on its second call, once lazy state exists; if that fails, it stays
    eager and `warn` gets the reason."""
    compiled = torch.compile(function, dynamic=False)

    def first_compiled_call(*args: Any) -> Any:
        try:
            result = compiled(*args)
            chosen.append(compiled)
        except Exception as error:
            reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error)
            warn(f"torch.compile cannot merge the kernels of {function.__name__}: {reason}")
            chosen.append(function)
            result = function(*args)
        return result

    chosen: list[Callable[..., Any]] = []
    trials = iter((function, first_compiled_call))

    def call(*args: Any) -> Any:
        return (chosen[0] if chosen else next(trials))(*args)

    return call
