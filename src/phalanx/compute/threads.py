"""Chooses the number of CPU threads for a gradient step."""

import contextlib
from collections.abc import Iterator

import torch


@contextlib.contextmanager
def threads_for(products: int, device: torch.device) -> Iterator[None]:
    """Inside, torch uses one CPU thread if a step takes fewer than 8 million multiplications:
    waking a second thread would cost more than it saves (measured on two cores)."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1 if device.type == "cpu" and products < 8_000_000 else threads)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
