"""The mass matrix from what the step shows of its bodies, in MuJoCo's sparse layout; mj_crb."""

import mujoco
import numpy as np
import torch
from torch import Tensor

from phalanx.sim.engines.fused.numbers import Fields

NEEDS = ("cdof", "xipos", "ximat", "subtree_com")


class MassMatrix:
    """That of one model on `device`."""

    def __init__(self, m: mujoco.MjModel, device: torch.device) -> None:
        below = np.eye(m.nbody)
        for body in range(m.nbody - 1, 0, -1):
            below[m.body_parentid[body]] += below[body]
        rows = np.repeat(np.arange(m.nv), m.M_rownnz)
        self._below = torch.tensor(below, dtype=torch.float64, device=device)

        def on(values: np.ndarray) -> Tensor:
            return torch.tensor(values, dtype=torch.long, device=device)

        self._roots, self._bodies = on(m.body_rootid), on(m.dof_bodyid)
        self._rows, self._columns = on(rows), on(m.M_colind)
        self._diagonal = on(m.M_rowadr + m.M_rownnz - 1)

    def find(
        self, field: Fields, cdof: Tensor, xipos: Tensor, ximat: Tensor, com: Tensor
    ) -> Tensor:
        """M, (N, nC). field: the model's; cdof (N, nv, 6); xipos, subtree_com (N, bodies, 3) and
        ximat (N, bodies, 9) of the same state."""
        mass, armature = (field(x).float() for x in ("body_mass", "dof_armature"))
        turn, own = ximat.unflatten(-1, (3, 3)), field("body_inertia").float()[:, :, None, None]
        own = (turn[:, :, :, None] * own * turn[:, :, None]).sum(-1)  # `@` may be TF32 on a GPU
        arm = xipos - com[:, self._roots]
        # Inertia about the tree's centre of mass, mass x arm and mass of all that hangs from a body
        square = (arm * arm).sum(-1)[..., None, None] * torch.eye(3, device=arm.device)
        spread = square - arm[..., None] * arm[..., None, :]
        own = (own + mass[..., None, None] * spread).flatten(-2)
        parts = own, mass[..., None] * arm, mass.expand(len(arm), -1)[..., None]
        all_below = (self._below @ torch.cat(parts, -1).double()).float()[:, self._bodies]
        inertia = all_below[..., :9].unflatten(-1, (3, 3))
        moment, total = all_below[..., 9:12], all_below[..., 12:]
        spin, line = cdof[..., :3], cdof[..., 3:]
        angular = (inertia * spin[:, :, None]).sum(-1) + torch.linalg.cross(moment, line)
        linear = total * line - torch.linalg.cross(moment, spin)
        momentum = torch.cat([angular, linear], -1)  # (N, nv, 6)
        matrix = (momentum[:, self._rows] * cdof[:, self._columns]).sum(-1)
        return matrix.index_add(1, self._diagonal, armature.expand(len(arm), -1))
