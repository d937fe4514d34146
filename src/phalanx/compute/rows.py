"""Rows of tensors that a mask chooses."""

import contextlib
from collections.abc import Iterator

import torch
from torch import Tensor

_by_masks = False


@contextlib.contextmanager
def by_masks() -> Iterator[None]:
    """Inside, what `write_rows` does depends on no value: it is being recorded."""
    global _by_masks
    _by_masks = True
    try:
        yield
    finally:
        _by_masks = False


def write_rows(target: Tensor, mask: Tensor, values: Tensor | float) -> None:
    """target[i] = values[i] for the rows i at which `mask`, (N,) bool, is true, without waiting for
    a GPU; target (N, ...), values a number or a tensor that broadcasts to that shape."""
    if target.device.type != "cpu" or _by_masks:
        at = mask.view(-1, *(1,) * (target.dim() - 1))
        target.copy_(torch.where(at, values, target))
        return
    rows = mask.nonzero()[:, 0]  # on a CPU mostly faster than to write all of them
    if not len(rows):
        return
    if isinstance(values, Tensor):
        target[rows] = values.expand_as(target)[rows]
    else:
        target[rows] = values
