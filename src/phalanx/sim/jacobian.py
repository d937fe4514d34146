"""Jacobians of points from what engines show of the degrees of freedom; mj_jac."""

import mujoco
import torch
from torch import Tensor


def moving_dofs(m: mujoco.MjModel, body: int) -> Tensor:
    """(nv,) 1 where a degree of freedom moves the body, else 0."""
    chain = set()
    while body > 0:
        chain.add(body)
        body = int(m.body_parentid[body])
    return torch.tensor([float(b in chain) for b in m.dof_bodyid.tolist()])


def point_jacobian(cdof: Tensor, arm: Tensor, moving: Tensor) -> Tensor:
    """(..., 6, D) of points (...), linear above angular. cdof (..., D, 6): motions of degrees of
    freedom, angular first, about the tree's centre of mass; arm (..., 3): from there to the point
    [m]; moving (..., D): from `moving_dofs`. They broadcast."""
    angular = cdof[..., :3]
    linear = cdof[..., 3:] + torch.linalg.cross(angular, arm[..., None, :])
    rows = torch.cat([linear, angular.expand_as(linear)], -1) * moving[..., None]
    return rows.transpose(-1, -2)
