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
    """(N, 6, nv), linear above angular. cdof (N, nv, 6): motions, angular first, about the tree's
    centre of mass; arm (N, 3): from there to the point [m]; moving (nv,): from `moving_dofs`."""
    angular = cdof[..., :3]
    linear = cdof[..., 3:] + torch.linalg.cross(angular, arm[:, None].expand_as(angular))
    return (torch.cat([linear, angular], -1) * moving[:, None]).transpose(1, 2)
