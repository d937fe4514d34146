"""Solves linear systems with the mass matrix, which MuJoCo stores as a sparse lower triangle
`M`."""

import mujoco
import numpy as np
import torch
from torch import Tensor


def diagonal(model: mujoco.MjModel) -> Tensor:
    """Indices (nv,) of the diagonal elements in `M`."""
    return torch.from_numpy((model.M_rowadr + model.M_rownnz - 1).astype(np.int64))


def dense_places(model: mujoco.MjModel) -> Tensor:
    """Index in `M` of each element of the full matrix, (nv, nv); nC for elements that are zero."""
    row, column = np.repeat(np.arange(model.nv), model.M_rownnz), model.M_colind
    places = np.full((model.nv, model.nv), model.nC)
    places[row, column] = places[column, row] = np.arange(model.nC)
    return torch.from_numpy(places)


def solve_rows(mass: Tensor, places: Tensor, force: Tensor, added: Tensor, rows: Tensor) -> Tensor:
    """(M + diag(added))^-1 force (N, nv) in environments `rows` (N,) bool, zero in the others.
    mass: the `M` of these environments, (rows, nC). places: `dense_places`."""
    dense = torch.nn.functional.pad(mass, (0, 1))[:, places]
    dense.diagonal(dim1=1, dim2=2).add_(added[rows])
    # Unlike `cholesky`, `cholesky_ex` raises no error for an environment that has diverged.
    factors, _ = torch.linalg.cholesky_ex(dense)
    solved = torch.cholesky_solve(force[rows, :, None].to(mass.dtype), factors)
    solution = torch.zeros_like(force)
    solution[rows] = solved[..., 0].to(force.dtype)
    return solution
