"""Rows of tensors that a mask chooses."""

import torch
from torch import Tensor


def write_rows(target: Tensor, mask: Tensor, values: Tensor | float) -> None:
    """target[i] = values[i] for the rows i at which `mask`, (N,) bool, is true, without waiting for
    a GPU; target (N, ...), values a number or a tensor that broadcasts to that shape."""
    if target.device.type != "cpu":
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
