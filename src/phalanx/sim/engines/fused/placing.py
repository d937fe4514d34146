"""Tensors for the tables of the fused step: constants on a device, and frames in those of slots."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from phalanx.sim.engines.fused.structure import Structure

Make = Callable[[Callable[[str], Tensor]], Tensor]
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


def placed_at(s: Structure, bodies: Sequence[int], on: Device) -> tuple[Tensor, Tensor]:
    """Origins (B, 3) and rotations (B, 3, 3) of bodies in their slots' frames, or the world's."""
    places = [s.placed(b, np.zeros(3), np.array([1.0, 0, 0, 0])) for b in bodies]
    origin = np.array([p for p, _ in places]).reshape(-1, 3)
    return on(origin), on(np.array([r for _, r in places]).reshape(-1, 3, 3))


def frames(
    s: Structure, kind: str, ids: Sequence[int], on: Device
) -> Callable[[Callable[[str], Tensor]], tuple[Tensor, Tensor]]:
    """Gives positions (E, n, 3) and rotations (E, n, 3, 3) in their slots' frames, or the world's,
    of geoms, sites or cameras (kind: geom, site or cam)."""
    owners = getattr(s.model, f"{kind}_bodyid")
    origin, turn = placed_at(s, [int(owners[i]) for i in ids], on)
    at = on.index(ids)

    def make(field: Callable[[str], Tensor]) -> tuple[Tensor, Tensor]:
        pos, quat = field(f"{kind}_pos")[:, at], field(f"{kind}_quat")[:, at]
        return origin + (turn @ pos[..., None])[..., 0], turn @ matrices(quat)

    return make


def starts(counts: Sequence[int]) -> list[int]:
    """Where each owner's items begin, and the end; `counts`: of the items of each owner."""
    return [0, *np.cumsum(counts).tolist()]
