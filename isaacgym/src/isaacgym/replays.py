"""Calls that take several operations of torch, on a GPU as one captured graph each.

    replays = Replays(device)
    replays.run("name", function, tensor)    # function(tensor)

An operation takes a GPU's host as long as a graph of thirty does. On a CPU functions are called as
they are.
"""

from collections.abc import Callable, Hashable
from functools import partial

import torch
from torch import Tensor

from phalanx.compute.graphs import Graph


class Replays:
    """`captures`: whether calls become graphs; on a GPU they do."""

    def __init__(self, device: torch.device) -> None:
        self._device, self.captures = device, device.type == "cuda"
        self._graphs: dict[Hashable, tuple[list[Tensor], Graph]] = {}

    def run(self, key: Hashable, function: Callable[..., None], *inputs: Tensor) -> None:
        """`function(*inputs)`, which must do the same in each call with this key until `forget`, on
        inputs of the same shapes: all else that it reads or writes keeps its address, and nothing
        in it depends on values or waits for the device."""
        if not self.captures:
            function(*inputs)
            return
        if key not in self._graphs:
            with torch.inference_mode(False):  # later calls may come from outside of that mode
                held = [torch.empty_like(given) for given in inputs]
            self._graphs[key] = held, Graph(partial(function, *held), device=self._device)
        held, graph = self._graphs[key]
        for own, given in zip(held, inputs, strict=True):
            own.copy_(given)
        graph()

    def forget(self) -> None:
        """Have functions run eagerly again before they are captured, as an address has changed, or
        what one of them does."""
        self._graphs.clear()
