"""Deterministic runs on a GPU: torch's part of it; the simulation has its own switch."""

import os

import torch


def make_deterministic() -> None:
    """Make torch use deterministic algorithms only, in the whole process. Call it before the first
    matrix product on a GPU. Operations without such an algorithm raise errors."""
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # read when cuBLAS starts
    torch.use_deterministic_algorithms(True)
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    import torch._inductor.config as inductor

    # Benchmark mode chooses kernels by timing, and kernels may sum in different orders.
    if hasattr(inductor, "deterministic"):
        inductor.deterministic = True
