"""Bounds and damping of velocities, which PhysX applies in every substep."""

import numpy as np
import torch
from torch import Tensor

from isaacgym.params import FLT_MAX, SimParams
from isaacgym.state import State

MAX_DOF_SPEED = 100.0  # [rad/s or m/s] where a file says nothing, as PhysX


class VelocityLimits:
    """fastest: (N, nv) [m/s or rad/s]. keep: (nv,) factor of each velocity in a substep."""

    def __init__(self, state: State) -> None:
        nv = state.layout.nv
        self.fastest = torch.zeros(state.num_envs, nv, device=state.device)
        self.keep = torch.ones(nv, device=state.device)
        self.slows = False

    def update(self, props: np.ndarray, params: SimParams, state: State) -> None:
        """Take over properties, (N or 1, D) of DOF_PROPERTIES, and those of assets."""
        layout, h = state.layout, params.dt / params.substeps
        keep, fastest = np.ones(layout.nv), np.full((len(props), layout.nv), MAX_DOF_SPEED)
        speeds = props["velocity"]
        stated = (speeds > 0) & (speeds < 0.5 * FLT_MAX)
        fastest[:, layout.dof_v] = np.where(stated, speeds, MAX_DOF_SPEED)
        for actor, k in zip(layout.actors, layout.root_v, strict=True):
            if k < 0:
                continue
            options = actor.asset.options
            fastest[:, k : k + 3] = options.max_linear_velocity
            fastest[:, k + 3 : k + 6] = options.max_angular_velocity
            if actor.asset.num_bodies == 1:
                keep[k : k + 3] = max(0.0, 1 - options.linear_damping * h)
                keep[k + 3 : k + 6] = max(0.0, 1 - options.angular_damping * h)
        self.fastest.copy_(state.tensor(fastest))
        self.keep.copy_(state.tensor(keep))
        slows = bool((keep < 1).any())
        state.step_changed |= slows != self.slows
        self.slows = slows

    def apply(self, qvel: Tensor) -> None:
        """After a substep: v *= 1 - c h, as PhysX, then bound; qvel (N, nv) is written."""
        if self.slows:
            qvel.mul_(self.keep)
        torch.clamp(qvel, -self.fastest, self.fastest, out=qvel)
