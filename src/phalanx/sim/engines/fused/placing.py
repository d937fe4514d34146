"""Tensors for the tables of the fused step: constants on a device, rows and columns, rotations."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

Fields = Callable[[str], Tensor]
"""Gives a model field by name, (E, ...)."""
Make = Callable[[Fields], Tensor]
"""A table (E, rows, columns) from model fields."""


class Device:
    """Makes constants on a device: a CUDA graph can only use those that were there before it."""

    def __init__(self, device: torch.device) -> None:
        self._device = device

    def __call__(self, values: Any) -> Tensor:
        """A float64 tensor."""
        return torch.tensor(np.array(values, float), device=self._device)

    def index(self, values: Sequence[int]) -> Tensor:
        """An int64 tensor."""
        return torch.tensor(list(values), dtype=torch.long, device=self._device)


def columns(*parts: Tensor) -> Tensor:
    """(E, rows, columns) from (E or 1, rows) or (rows,) each."""
    wide = torch.broadcast_tensors(*parts)
    stacked = torch.stack(wide, -1)
    return stacked if stacked.dim() == 3 else stacked[None]


def joined(*parts: Tensor) -> Tensor:
    """(E, rows, columns) from (E or 1, rows, some columns) each."""
    envs = max(len(part) for part in parts)
    return torch.cat([part.expand(envs, *part.shape[1:]) for part in parts], -1)


def matrices(quat: Tensor) -> Tensor:
    """Rotations (..., 3, 3) of quaternions (..., 4), w x y z."""
    w, x, y, z = (quat / quat.norm(dim=-1, keepdim=True)).unbind(-1)
    rows = [
        torch.stack([1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)], -1),
        torch.stack([2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)], -1),
        torch.stack([2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)], -1),
    ]
    return torch.stack(rows, -2)


def product(a: Tensor, b: Tensor) -> Tensor:
    """The product (..., 4) of quaternions."""
    (w, x, y, z), (p, q, r, s) = a.unbind(-1), b.unbind(-1)
    parts = (w * p - x * q - y * r - z * s, w * q + x * p + y * s - z * r,
             w * r - x * s + y * p + z * q, w * s + x * r - y * q + z * p)  # fmt: skip
    return torch.stack(parts, -1)


def quaternions(turn: Tensor) -> Tensor:
    """Unit quaternions (..., 4), w x y z, of rotations (..., 3, 3), with either sign."""
    (xx, xy, xz), (yx, yy, yz), (zx, zy, zz) = (row.unbind(-1) for row in turn.unbind(-2))
    times = (  # the quaternion times 4 w, 4 x, 4 y and 4 z, of which the largest keeps its digits
        (1 + xx + yy + zz, zy - yz, xz - zx, yx - xy),
        (zy - yz, 1 + xx - yy - zz, xy + yx, xz + zx),
        (xz - zx, xy + yx, 1 - xx + yy - zz, yz + zy),
        (yx - xy, xz + zx, yz + zy, 1 - xx - yy + zz),
    )
    four = torch.stack([torch.stack(row, -1) for row in times], -2)
    best = four.diagonal(dim1=-2, dim2=-1).argmax(-1)
    quat = torch.take_along_dim(four, best[..., None, None], -2)[..., 0, :]
    return quat / quat.norm(dim=-1, keepdim=True)


def conjugate(quat: Tensor) -> Tensor:
    return torch.cat([quat[..., :1], -quat[..., 1:]], -1)


def with_axis_z(axis: Tensor) -> Tensor:
    """Rotations (..., 3, 3) whose third columns are along `axis` (..., 3)."""
    z = axis / axis.norm(dim=-1, keepdim=True)
    across = torch.eye(3, dtype=z.dtype, device=z.device)[z.abs().argmin(-1)]
    x = torch.linalg.cross(across, z)
    x = x / x.norm(dim=-1, keepdim=True)
    return torch.stack([x, torch.linalg.cross(z, x), z], -1)


def turned(turn: Tensor, pos: Tensor) -> Tensor:
    """Rotations (..., 3, 3) times vectors (..., 3)."""
    return (turn @ pos[..., None])[..., 0]


def sources(make: Make, field: Fields) -> set[str]:
    """The model fields that a table is made from."""
    seen: set[str] = set()

    def noted(name: str) -> Tensor:
        seen.add(name)
        return field(name)

    make(noted)
    return seen


def held(on: Device, arrays: Mapping[str, np.ndarray]) -> dict[str, Make]:
    """Tables (1, rows, columns) that are the same whatever the model fields."""

    def make(rows: Tensor) -> Make:
        return lambda field: rows

    return {name: make(on(rows)[None]) for name, rows in arrays.items()}


def starts(counts: Sequence[int]) -> list[int]:
    """Where each owner's items begin, and the end; `counts`: of the items of each owner."""
    return [0, *np.cumsum(counts).tolist()]
