"""The fused step on all CPU cores: chunks of eight worlds, on threads that hold no GIL."""

import ctypes
import os
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from phalanx.compute import clang, team
from phalanx.compute.cache import NotCompiled
from phalanx.errors import PhalanxError
from phalanx.sim.engines.fused.source import Sizes, read

WORLDS = 8
"""Worlds a vector, as in `cpu.h`. Sixteen gain nothing where vectors are that wide."""
SIZES = Sizes(pairs=256, rows=512)
"""More than a robot has; only what is used takes memory."""
_PER_THREAD = 2 * WORLDS
"""Fewer worlds than this are not worth waking another thread for."""


class CpuStep:
    """The step of one structure. `constants`: its C declarations; see `tables.constants`."""

    def __init__(self, constants: str, threads: int) -> None:
        word, size = ctypes.c_void_p, ctypes.c_long
        functions = _compiled(
            source(constants),
            {
                "memory_size": (size,),
                "run": (None, word, word, size, size),
                "solve_m": (None, word, word, size, size),
            },
        )
        self._run = clang.address(functions["run"])
        self._solve_m = clang.address(functions["solve_m"])
        self.threads = min(threads or len(os.sched_getaffinity(0)), team.MOST + 1)
        total = functions["memory_size"]() // 64 * 64 + 64
        self._memory = [torch.zeros(total + 64, dtype=torch.uint8) for _ in range(self.threads)]
        # From whole cache lines on, so that vectors are aligned
        starts = [(x.data_ptr() + -x.data_ptr() % 64, 0, 0) for x in self._memory]
        self._parts = np.array(starts, np.int64)

    def varied(self, rows: int, worlds: int) -> Tensor:
        """Memory for the numbers that differ between worlds, (rows, vectors, worlds in a vector),
        float32: those of a vector lie together, from a whole cache line on."""
        vectors = -(-worlds // WORLDS)
        memory = torch.zeros(vectors * rows * WORLDS + 16)
        start = -memory.data_ptr() % 64 // 4
        own = memory[start : start + vectors * rows * WORLDS]
        return own.view(vectors, rows, WORLDS).permute(1, 0, 2)

    def bind(self, fields: Mapping[str, Tensor | None]) -> np.ndarray:
        """`fields` as `run` takes them, for as long as the tensors exist."""
        pointers = [0 if t is None else t.data_ptr() for t in fields.values()]
        return np.array([*pointers, 0], dtype=np.int64)

    def run(
        self,
        bound: np.ndarray,
        shared: Tensor,
        varied: Tensor,
        worlds: int,
        substeps: int,
        flags: tuple[bool, int],
        mask: Tensor | None = None,
    ) -> None:
        """Advance and derive; bound: from `bind`; flags: whether to write forces, and which
        positions (see `run` in `cpu_entry.h`)."""
        bound[-1] = flags[0]
        where = 0 if mask is None else mask.data_ptr()
        model = (shared.data_ptr(), varied.data_ptr(), worlds)
        self._on_threads(self._run, bound, *model, substeps, flags[1], where, 0, 0, 0)

    def solve_m(
        self,
        bound: np.ndarray,
        shared: Tensor,
        varied: Tensor,
        worlds: int,
        force: Tensor,
        added: Tensor,
    ) -> Tensor:
        """(M + diag(added))^-1 force at the positions of `bound`, (N, nv) each, float32."""
        out = torch.empty_like(force)
        model = (shared.data_ptr(), varied.data_ptr(), worlds)
        vectors = (force.data_ptr(), added.data_ptr(), out.data_ptr())
        self._on_threads(self._solve_m, bound, *model, 0, 0, 0, *vectors)
        return out

    def _on_threads(
        self, function: int, bound: np.ndarray, shared: int, varied: int, worlds: int, *rest: int
    ) -> None:
        """rest: of `struct Task`, from the substeps on."""
        task = np.array([0, bound.ctypes.data, shared, varied, worlds, *rest], np.int64)
        threads = min(self.threads, -(-worlds // _PER_THREAD))
        team.run(function, task.ctypes.data, self._parts[:threads])


def _compiled(text: str, signatures: Mapping[str, tuple[Any, ...]]) -> dict[str, Any]:
    try:
        return clang.functions(text, signatures, fast_math=True)
    except NotCompiled:
        raise
    except PhalanxError as error:
        raise PhalanxError(f"{error}; use another engine") from error


def source(constants: str) -> str:
    """The whole C++ text of one structure's step."""
    text = read("cpu.h") + constants + read("step.h") + read("cpu_entry.h")
    return f"#define TABLE static const\n{text}"
