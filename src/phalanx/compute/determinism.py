"""The same bits in every run on a GPU: torch's side of it; the simulation has its own switch."""

import os

import torch


def make_deterministic() -> None:
    """From now on torch takes only algorithms that repeat bit for bit, in the whole process. Call
    it before the first product on a GPU. Operations without such an algorithm raise errors."""
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # read when cuBLAS starts
    torch.use_deterministic_algorithms(True)
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    import torch._inductor.config as inductor

    # Timing decides between kernels, and kernels may sum in different orders.
    if hasattr(inductor, "deterministic"):
        inductor.deterministic = True
