"""Clipping of gradients and Adam's step for all parameters in one compiled function on a CPU. In
torch these are a dozen calls for a few microseconds of work each."""

import ctypes
from pathlib import Path

import numpy as np
import torch

from phalanx.compute import clang

_SOURCE = Path(__file__).with_name("adam.h")
_STATE = ("exp_avg", "exp_avg_sq", "step")


class Adam:
    """Steps for `optimizer`, whose state and settings they use. Raises PhalanxError if Warp's clang
    does not compile it."""

    def __init__(self, optimizer: torch.optim.Adam) -> None:
        self._optimizer = optimizer
        number = ctypes.c_double
        arguments = (ctypes.c_void_p, ctypes.c_long, *(number,) * 6)
        self._run = clang.functions(_SOURCE.read_text("utf-8"), {"adam": (None, *arguments)})[
            "adam"
        ]

    @torch.no_grad()
    def step(self, most: float | None) -> None:
        """Scale the gradients to a norm of at most `most`, then take a step. Gradients themselves
        are not changed."""
        for group in self._optimizer.param_groups:
            changed, table = [], []
            for p in group["params"]:
                if p.grad is None:
                    continue
                state = self._optimizer.state[p]
                if not state:
                    state["step"] = torch.zeros(())
                    state["exp_avg"], state["exp_avg_sq"] = (torch.zeros_like(p) for _ in range(2))
                gradient = p.grad.contiguous()
                changed += [p, gradient]
                places = (x.data_ptr() for x in (p, gradient, *(state[k] for k in _STATE)))
                table.append((p.numel(), *places))
            rows = np.array(table, np.int64)
            numbers = (float(group["lr"]), *group["betas"], group["eps"], group["weight_decay"])
            limit = -1.0 if most is None else most
            self._run(rows.ctypes.data, len(table), *numbers, limit)
            torch.autograd.graph.increment_version(changed[::2])
