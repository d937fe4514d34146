"""Numbers of constraint rows from MuJoCo's solref and solimp; mj_makeImpedance."""

import mujoco
import torch
from torch import Tensor

MINVAL = 1e-15
MINIMP, MAXIMP = 1e-4, 0.9999


def reference(m: mujoco.MjModel, solref: Tensor, solimp: Tensor) -> tuple[Tensor, ...]:
    """Stiffness, damping, dmin, dmax, 1 / width, midpoint, (...) each. solref: (..., 2); solimp:
    (..., 5)."""
    mixed = (solref[..., 0] > 0) != (solref[..., 1] > 0)
    first = torch.where(mixed, 0.02, solref[..., 0])
    second = torch.where(mixed, 1.0, solref[..., 1])
    dmin, dmax = (solimp[..., i].clamp(MINIMP, MAXIMP) for i in (0, 1))
    width, midpoint = solimp[..., 2].clamp_min(0), solimp[..., 3].clamp(MINIMP, MAXIMP)
    time = first
    if not m.opt.disableflags & mujoco.mjtDisableBit.mjDSBL_REFSAFE:
        time = first.clamp_min(2 * m.opt.timestep)
    standard = first > 0
    spring = 1 / ((dmax * time * second) ** 2).clamp_min(MINVAL)
    damper = 2 / (dmax * time).clamp_min(MINVAL)
    stiffness = torch.where(standard, spring, -first / dmax**2)
    damping = torch.where(standard, damper, -second / dmax)
    flat = width <= MINVAL
    mean = (dmin + dmax) / 2
    dmin, dmax = torch.where(flat, mean, dmin), torch.where(flat, mean, dmax)
    return stiffness, damping, dmin, dmax, 1 / torch.where(flat, 1.0, width), midpoint
