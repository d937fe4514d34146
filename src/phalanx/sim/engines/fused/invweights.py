"""The constants of MuJoCo's constraints that follow from masses, for all environments at once and
without waiting: what mj_setConst computes for one model on the host."""

from collections.abc import Callable

import mujoco
import numpy as np
import torch
from torch import Tensor

from phalanx.sim.engines.fused.rows import tendon_terms
from phalanx.sim.engines.fused.solref import MINVAL
from phalanx.sim.engines.fused.structure import Structure

NAMES = ("body_invweight0", "dof_invweight0", "tendon_invweight0")
LENGTHS = ("tendon_length0",)
"""What follows from qpos0, too."""


class Invweights:
    """Those of one structure on `device`."""

    def __init__(self, s: Structure, device: torch.device) -> None:
        m = s.model
        moved = np.zeros((m.nbody, m.nv))
        for b in range(1, m.nbody):
            above = b
            while above:
                first = m.body_dofadr[above]
                moved[b, first : first + m.body_dofnum[above]] = 1
                above = int(m.body_parentid[above])
        together = np.eye(m.nv)  # the three of a ball, and those of a free joint, have their mean
        for j in range(m.njnt):
            first = int(m.jnt_dofadr[j])
            blocks = {mujoco.mjtJoint.mjJNT_FREE: 2, mujoco.mjtJoint.mjJNT_BALL: 1}
            for n in range(blocks.get(mujoco.mjtJoint(int(m.jnt_type[j])), 0)):
                own = slice(first + 3 * n, first + 3 * n + 3)
                together[own, own] = 1 / 3
        tendons, coordinates = np.zeros((m.ntendon, m.nv)), np.zeros((m.ntendon, m.nq))
        for t in range(m.ntendon):
            for k, coefficient in tendon_terms(s, t):
                tendons[t, s.dofs[k]] += coefficient
                coordinates[t, m.jnt_qposadr[s.slots[k].joint]] += coefficient

        def on(values: np.ndarray) -> Tensor:
            return torch.tensor(values, dtype=torch.float32, device=device)

        self._moved, self._together, self._tendons = on(moved), on(together), on(tendons)
        self._coordinates = on(coordinates)
        self._roots = torch.tensor(m.body_rootid, dtype=torch.long, device=device)
        self._units = on(np.eye(m.nv))

    def lengths(self, qpos0: Tensor) -> Tensor:
        """Lengths (N, tendons) at qpos0 (N, nq)."""
        return qpos0 @ self._coordinates.T

    def find(
        self, solve: Callable[[Tensor], Tensor], cdof: Tensor, xipos: Tensor, com: Tensor
    ) -> dict[str, Tensor]:
        """`NAMES` at qpos0, (N, ...) each. solve: M^-1 times (N, nv); cdof (N, nv, 6), xipos and
        subtree_com (N, bodies, 3), all there."""
        n = len(cdof)
        inverse = torch.stack([solve(unit.expand(n, -1)) for unit in self._units], 1)  # (N, nv, nv)
        diagonal = inverse.diagonal(dim1=1, dim2=2) @ self._together
        arm = (xipos - com[:, self._roots])[:, :, None]  # (N, B, 1, 3)
        arm = arm.expand(-1, -1, cdof.shape[1], 3)
        turn = cdof[:, None, :, :3].expand_as(arm)
        part = []
        for motion in (cdof[:, None, :, 3:] + torch.linalg.cross(turn, arm), turn):
            own = (motion * self._moved[..., None]).transpose(2, 3)  # (N, B, 3, nv)
            part.append((own @ inverse[:, None] * own).sum(-1).mean(-1))
        line, spin = part
        some = torch.stack([torch.where(line < MINVAL, spin, line),
                            torch.where(spin < MINVAL, line, spin)], -1)  # fmt: skip
        tendon = (self._tendons @ inverse * self._tendons).sum(-1)
        return dict(zip(NAMES, (some, diagonal, tendon), strict=True))
