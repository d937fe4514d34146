"""CUDA graphs around functions that read and write fixed buffers.

    rollout = Graph(agent.play_steps, env)
    rollout()        # first call runs eagerly and loads kernels, the second captures, later replay

The eager function is what people read and test; this file only wraps it. A function can be
captured if it has fixed shapes, does not wait for the device, and rebinds no tensor that it reads
again: everything that survives a call lives in a buffer that is written in place.
"""

import contextlib
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager

import torch


class Graph:
    """`function()` captured once and replayed; `context` is entered while capturing."""

    def __init__(
        self,
        function: Callable[[], None],
        context: Callable[[], AbstractContextManager[None]] = contextlib.nullcontext,
    ) -> None:
        self._function = function
        self._context = context
        self._graph: torch.cuda.CUDAGraph | None = None
        self._warm = False

    def __call__(self) -> None:
        if self._graph is not None:
            self._graph.replay()
        elif not self._warm:
            self._warm = True
            self._run_on_side_stream()
        else:
            self._graph = self._capture()
            self._graph.replay()

    def reset(self) -> None:
        """Forget what was captured, because a buffer has moved; the next calls capture again."""
        self._graph = None

    def _run_on_side_stream(self) -> None:
        # Loads every kernel and makes lazily allocated state (optimiser moments), as capture needs.
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            self._function()
        torch.cuda.current_stream().wait_stream(side)

    def _capture(self) -> torch.cuda.CUDAGraph:
        torch.cuda.synchronize()
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph), self._context():
            self._function()
        return graph


@contextlib.contextmanager
def threads_for(products: int, device: torch.device) -> Iterator[None]:
    """Inside, torch takes one CPU thread for steps of so few multiplications, where waking another
    costs more than it saves; measured on two cores."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1 if device.type == "cpu" and products < 8_000_000 else threads)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
