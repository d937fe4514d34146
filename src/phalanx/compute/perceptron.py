"""A perceptron on the CPU as one compiled function, forwards and backwards.

    perceptron = Perceptron(linears, heads, "elu", threads=2)
    mu, value = perceptron(observations)      # torch differentiates through it

torch takes a pass over memory, and hands over to its threads, for every product, bias and
activation. Here each thread takes some rows through all layers while they are in its cache:
`perceptron.h`. Products are of floats or, where the processor has instructions for that, of
bfloat16 (`halves.h`), by vectors (`products.h`) or by tiles (`tiled_products.h`); sums are floats
in any case.
"""

import ctypes
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from phalanx.compute import clang, team
from phalanx.compute.bfloat16 import has_tiles, has_vectors
from phalanx.errors import PhalanxError

ACTIVATIONS = {"elu": 1, "relu": 2, "tanh": 3}
MOST_LAYERS = 15
FEWEST_PRODUCTS = 4_000_000
"""Multiplications of a thread; fewer are not worth waking another one for."""
PARTS = {"float": 0, "split": 2, "half": 1}
"""How many bfloat16 stand for a float in products. Two are right to 2^-16, where a GPU's TF32 is to
2^-11; one is to 2^-8."""
ROW_STEP = 8


def supported_products() -> tuple[str, ...]:
    """The keys of `PARTS` that this processor has instructions for. Two parts are three products,
    which is faster than floats with tiles only."""
    if has_tiles():
        return tuple(PARTS)
    return ("float", "half") if has_vectors() else ("float",)


def _source(parts: int) -> str:
    products = "tiled_products.h" if parts and has_tiles() else "products.h"
    names = ["vectors.h", *(["halves.h"] if parts else []), products, "perceptron.h"]
    texts = [Path(__file__).with_name(name).read_text("utf-8") for name in names]
    return "\n".join([f"#define PARTS {parts}", *texts])


class Perceptron:
    """The layers `linears`, each with `activation`, a key of `ACTIVATIONS`, then `heads` without
    one. Weights stay the modules' own. products: one of `supported_products()`. Raises
    PhalanxError if Warp's clang does not compile it."""

    def __init__(
        self,
        linears: Sequence[nn.Linear],
        heads: Sequence[nn.Linear],
        activation: str,
        threads: int,
        products: str = "float",
    ) -> None:
        if products not in supported_products():
            raise PhalanxError(f"this processor has no instructions for products={products!r}")
        if len(linears) > MOST_LAYERS:
            raise PhalanxError(f"{len(linears)} layers; at most {MOST_LAYERS} are compiled")
        self.modules = [*linears, *heads]
        self._sizes = np.array([m.in_features for m in (*linears, heads[0])], np.int64)
        self._activation = ACTIVATIONS[activation]
        self._widths = np.array([m.out_features for m in heads], np.int64)
        self._products = sum(m.weight.numel() for m in self.modules)
        self.threads = threads
        word, long = ctypes.c_void_p, ctypes.c_long
        self.source = _source(PARTS[products])
        compiled = clang.functions(
            self.source,
            {
                "memory_size": (long, word),
                "row_size": (long, long),
                "forward": (None, word, word, long, long),
                "backward": (None, word, word, long, long),
                "add_up": (None, word, word, long),
            },
        )
        self._forward = clang.address(compiled["forward"])
        self._backward = clang.address(compiled["backward"])
        self._add_up = compiled["add_up"]
        self._hidden_sizes = [compiled["row_size"](m.out_features) for m in linears]
        size = compiled["memory_size"](Network(self, 0, None, [], []).address)
        self._memory = [torch.zeros(size // 4 + 16) for _ in range(threads)]
        # From whole cache lines on, so that vectors do not cross two
        self._memory_at = [m.data_ptr() + -m.data_ptr() % 64 for m in self._memory]
        self._memories = np.array(self._memory_at, np.int64)

    def __call__(self, x: Tensor) -> list[Tensor]:
        """The heads' outputs, (B, width) each, for `x` (B, D) float32, which needs no gradient."""
        weights = [m.weight for m in self.modules] + [m.bias for m in self.modules]
        if torch.is_grad_enabled():
            return list(_Differentiable.apply(self, x, *weights))
        return self.forward(x, keep=False)[0]

    def forward(self, x: Tensor, keep: bool) -> tuple[list[Tensor], Tensor]:
        """The outputs and, with `keep`, what `backward` needs of the hidden layers."""
        x = x.float().contiguous()
        rows = x.shape[0]
        outputs = [torch.empty(rows, w) for w in self._widths.tolist()]
        hidden = torch.empty(rows * sum(self._hidden_sizes) if keep else 0)
        network = Network(self, rows, x, outputs, [], hidden)
        self._on_threads(self._forward, network)
        return outputs, hidden

    def backward(
        self, x: Tensor, hidden: Tensor, gradients: Sequence[Tensor | None]
    ) -> list[Tensor | None]:
        """Gradients of all weights, then of all biases, from those of the outputs; None for an
        output that has none."""
        rows, heads = x.shape[0], self._widths.tolist()
        given = [
            torch.zeros(rows, w) if g is None else g.contiguous()
            for g, w in zip(gradients, heads, strict=True)
        ]
        own = [torch.empty_like(m.weight) for m in self.modules]
        own += [torch.empty_like(m.bias) for m in self.modules]
        network = Network(self, rows, x, given, own, hidden)
        threads = self._on_threads(self._backward, network)
        self._add_up(network.address, self._memories.ctypes.data, threads)
        trunk = [True] * (len(self.modules) - len(heads))
        used = 2 * [*trunk, *(g is not None for g in gradients)]
        return [g if u else None for g, u in zip(own, used, strict=True)]

    def threads_for(self, rows: int) -> int:
        """How many threads are worth waking."""
        worth = rows * self._products // FEWEST_PRODUCTS
        return max(1, min(self.threads, worth, rows // ROW_STEP))

    def _on_threads(self, function: int, network: "Network") -> int:
        """`function` for equal parts of the rows; returns their number."""
        rows = network.rows
        threads = self.threads_for(rows)
        parts = team.parts(rows, self._memory_at[:threads], ROW_STEP)
        team.run(function, network.address, parts)
        return threads


class Network:
    """`struct Network` of the C code; `address` is valid as long as this object exists."""

    def __init__(
        self,
        perceptron: Perceptron,
        rows: int,
        x: Tensor | None,
        outputs: Sequence[Tensor],
        gradients: Sequence[Tensor],
        hidden: Tensor | None = None,
    ) -> None:
        modules, self.rows = perceptron.modules, rows
        keep = hidden is not None and hidden.numel() > 0
        starts = [] if hidden is None else [hidden.data_ptr()]
        for size in perceptron._hidden_sizes if keep else ():
            starts.append(starts[-1] + 4 * rows * size)
        lists = (
            [m.weight.data_ptr() for m in modules],
            [m.bias.data_ptr() for m in modules],
            starts,
            [o.data_ptr() for o in outputs],
            [g.data_ptr() for g in gradients[: len(modules)]],
            [g.data_ptr() for g in gradients[len(modules) :]],
        )
        self._lists = [np.array(each, np.int64) for each in lists]
        heads = len(perceptron._widths)
        addresses = (perceptron._sizes, perceptron._widths, *self._lists)
        self._fields = np.array(
            [
                *(len(modules) - heads, heads, rows, perceptron._activation, keep),
                0 if x is None else x.data_ptr(),
                *(each.ctypes.data for each in addresses),
            ],
            np.int64,
        )
        self._kept = (x, outputs, gradients, hidden)
        self.address = self._fields.ctypes.data


class _Differentiable(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, perceptron: Perceptron, x: Tensor, *weights: Tensor) -> Any:
        x = x.float().contiguous()
        outputs, hidden = perceptron.forward(x, keep=True)
        ctx.set_materialize_grads(False)
        ctx.perceptron = perceptron
        ctx.save_for_backward(x, hidden, *weights)  # weights, so that a change is noticed
        return tuple(outputs)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor | None) -> Any:
        x, hidden, *_ = ctx.saved_tensors
        return None, None, *ctx.perceptron.backward(x, hidden, gradients)
