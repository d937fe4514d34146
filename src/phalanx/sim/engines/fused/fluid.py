"""Drag of a fluid around bodies, each as the box that has its inertia; mj_inertiaBoxFluidModel."""

import math

import mujoco
import torch

from phalanx.sim.engines.fused.places import Places
from phalanx.sim.engines.fused.placing import Fields, Make, held
from phalanx.sim.engines.fused.solref import MINVAL


def has_fluid(m: mujoco.MjModel) -> bool:
    """Whether something resists the motion of bodies: MuJoCo has no drag without passive forces."""
    off = mujoco.mjtDisableBit.mjDSBL_SPRING | mujoco.mjtDisableBit.mjDSBL_DAMPER
    passive = (m.opt.disableflags & off) != off
    return bool(passive and (m.opt.density or m.opt.viscosity))


def tables(places: Places, bodies: list[int]) -> dict[str, Make]:
    """Makers of `wind`, the fluid's velocity, (E, 1, 3), and of `drag` of `bodies`, (E, bodies, 8):
    torque over angular and force over linear velocity, then torques and forces over their squares,
    along the axes of inertia. None without a fluid."""
    s, on = places.structure, places.on
    m = s.model
    if not has_fluid(m):
        return {}
    at = on.index(bodies)

    def drag(field: Fields) -> torch.Tensor:
        mass, inertia = field("body_mass")[:, at, None], field("body_inertia")[:, at]
        square = (inertia.sum(-1, keepdim=True) - 2 * inertia).clamp_min(MINVAL)
        box = (6 * square / mass.clamp_min(MINVAL)).sqrt()
        diameter = box.mean(-1, keepdim=True)
        one, two = box.roll(-1, -1), box.roll(-2, -1)  # the other two sides
        values = torch.cat([
            math.pi * m.opt.viscosity * diameter**3, 3 * math.pi * m.opt.viscosity * diameter,
            m.opt.density * box * (one**4 + two**4) / 64, m.opt.density * one * two / 2,
        ], -1)  # fmt: skip
        return torch.where(mass < MINVAL, 0.0, values)

    return {"drag": drag, **held(on, {"wind": m.opt.wind[None]})}
