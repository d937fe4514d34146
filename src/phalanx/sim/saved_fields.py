"""How model fields with values per environment are saved: rows that all environments have from the
scene are left out where there are many, such as those of a terrain's boxes.

    saved = thinned(values, scene)          # values (N, G, ...), scene (G, ...)
    values = whole(saved, scene, num_envs, "the saved simulation's geom_friction")
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from phalanx.errors import PhalanxError

MANY = 256
"""Rows of a field from which on those are left out."""


def thinned(values: Tensor, scene: Tensor) -> Tensor | dict[str, Tensor]:
    """The numbers of the rows that differ, and their values; all values of a small field."""
    if values.dim() < 2 or values.shape[1] < MANY:
        return values
    same = scene.to(values).view(values.shape[1:])
    rows = (values != same).any(0).view(len(same), -1).any(1).nonzero()[:, 0]
    return {"rows": rows, "values": values[:, rows]}


def whole(saved: Any, scene: Tensor, num_envs: int, where: str) -> Any:
    """The values of all rows again; what is not thinned stays as it is. Raises PhalanxError."""
    if not isinstance(saved, Mapping):
        return saved
    rows, part = saved.get("rows"), saved.get("values")
    if (
        not isinstance(rows, Tensor)
        or not isinstance(part, Tensor)
        or (rows.dtype, rows.dim()) != (torch.int64, 1)
        or scene.dim() == 0
        or ((rows < 0) | (rows >= len(scene))).any()
        or part.shape[:2] != (num_envs, len(rows))
        or part.numel() != num_envs * len(rows) * scene[0].numel()
    ):
        raise PhalanxError(f"{where} does not fit {num_envs} environments")
    same = scene.to(part).view(len(scene), *part.shape[2:])
    values = same.expand(num_envs, *same.shape).clone()
    values[:, rows] = part
    return values
