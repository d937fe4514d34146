"""Damping and bounds of velocities, which PhysX applies in every substep.

A joint above its limit gets an impulse that acts on both of its links, as in PhysX, so a robot
keeps its momentum. Linear and angular velocity of a free root are scaled down to their bounds, like
those of a rigid body in PhysX. In both cases the position is corrected to match the new velocity.
"""

import numpy as np
import torch
from torch import Tensor

from isaacgym.rotations import turned
from isaacgym.state import State
from isaacgym.values import FLT_MAX

MAX_DOF_SPEED = 100.0  # [rad/s or m/s] where a file says nothing, as PhysX
SLOWEST = 1e-12  # [m/s or rad/s] what is slower is zero
STIFF = 1e6  # how many times its own inertia a joint at its limit gets
OUTSIDE = 1.001  # part of a bound from which on a joint is outside of it
LOOSE = 0.01  # part of it, with which float32 still shows which way the impulse of a limit acts


class VelocityLimits:
    """fastest: bounds (N, nv) [m/s or rad/s]; those of a free root are for the length of its linear
    and of its angular velocity. keep: (nv,) factor of each velocity in a substep."""

    def __init__(self, state: State, timestep: float) -> None:
        self._state, self._timestep = state, timestep
        nv = state.layout.nv
        self.fastest = torch.zeros(state.num_envs, nv, device=state.device)
        self._slow = torch.zeros_like(self.fastest)
        """Velocities (N, nv) up to which nothing is bounded: three such components of a root's
        vector are as long as its bound."""
        self._longest = torch.zeros(state.num_envs, 2 * len(state.free), 1, device=state.device)
        """Bounds (N, 2 F, 1) of the linear and the angular velocities of free roots."""
        self.keep = torch.ones(nv, device=state.device)
        self.damps = False
        self.bounding = False
        """Whether a velocity may have been above its bound in the last substep, where known: not on
        a GPU."""
        self._nowhere = torch.zeros(state.num_envs, dtype=torch.bool, device=state.device)
        self._stiffness = torch.zeros(nv, device=state.device)
        """Inertia (nv,) that holds a joint at its limit [kg or kg m^2]; 0 for roots."""
        self._held = self._stiffness > 0
        """(nv,) bool: degrees of freedom with such an inertia."""
        self._lowest = -self.fastest

    def begin(self) -> None:
        """Have the steps of a new engine keep what an impulse needs. On a GPU the next one may be
        captured, so they do from the start; on a CPU, once a velocity is above its bound."""
        state = self._state
        if state.device.type == "cuda" and len(state.dof_v):
            state.engine.solve_m(*torch.zeros(2, *state.engine.qvel.shape, device=state.device))

    def update(self, props: np.ndarray) -> None:
        """Set the bounds from DOF_PROPERTIES (N or 1, D) and from the options of assets."""
        state, h = self._state, self._timestep
        layout = state.layout
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
        stiffness = np.zeros(layout.nv)
        stiffness[layout.dof_v] = STIFF * np.maximum(state.engine.model.dof_M0[layout.dof_v], 1e-9)
        self.fastest.copy_(state.tensor(fastest))
        self._slow.copy_(self.fastest)
        if len(state.free):
            of_roots = state.root_v.of(self.fastest)
            self._longest.copy_(of_roots.reshape(len(of_roots), -1, 3)[..., :1])
            state.root_v.write(self._slow, of_roots / 3**0.5)
        self.keep.copy_(state.tensor(keep))
        self._stiffness.copy_(state.tensor(stiffness))
        self._held.copy_(self._stiffness > 0)
        self._lowest.copy_(-self.fastest)
        damps = bool((keep < 1).any())
        if damps != self.damps:
            state.change_step()
        self.damps = damps

    def apply(self) -> Tensor:
        """After a substep: damp by v *= 1 - c h, as PhysX does, then bound. Returns the
        environments (N,) bool in which a bound was exceeded."""
        state, engine = self._state, self._state.engine
        v = engine.qvel
        if self.damps:
            v.mul_(self.keep)
        if state.device.type == "cpu":  # checking would synchronise a GPU
            self.bounding = not bool((v.abs() <= self._slow).all())
            if not self.bounding:
                return self._nowhere
        excess = v - torch.clamp(v, self._lowest, self.fastest)  # (N, nv)
        if len(state.free):
            roots = state.root_v.of(v).reshape(len(v), -1, 3)
            speed = torch.linalg.vector_norm(roots, dim=-1, keepdim=True)
            kept = (self._longest / speed.clamp_min(SLOWEST)).clamp_max(1.0)
            state.root_v.write(excess, (roots * (1 - kept)).flatten(1))
        bounded = excess.any(1)
        change = -excess.masked_fill(self._held, 0.0)
        if len(state.dof_v):
            change -= self._held_back(excess)
        v += change
        self._move(change * self._timestep, bounded)
        return bounded

    def _held_back(self, excess: Tensor) -> Tensor:
        """What impulses at the joints above their limits take from all velocities (N, nv). A limit
        only holds back: a joint that is above it because others were not held yet gets no impulse
        that would push it along. Where one that is let go would leave its limits on either side,
        all are held: which ones to hold is known only after several attempts."""
        engine, over = self._state.engine, excess != 0
        loose = LOOSE * over * self._stiffness
        left = excess - engine.solve_m(loose * excess, loose)
        holds = over & (left * excess > 0)
        added = holds * self._stiffness
        v = engine.qvel - engine.solve_m(added * excess, added)
        lost = (over & self._held & (v.abs() > self.fastest * OUTSIDE)).any(1, keepdim=True)
        added = torch.where(lost, over, holds) * self._stiffness
        return engine.solve_m(added * excess, added)

    def _move(self, change: Tensor, where: Tensor) -> None:
        """Move positions by `change` (N, nv) [m or rad] in environments `where` (N,) bool."""
        state = self._state
        qpos = state.engine.qpos
        state.dof_q.write(qpos, state.dof_q.of(qpos) + state.dof_v.of(change))
        if len(state.free):
            old = state.root_q.of(qpos).view(len(qpos), -1, 7)
            step = state.root_v.of(change).view(len(qpos), -1, 6)
            new = torch.cat([old[..., :3] + step[..., :3], turned(old[..., 3:], step[..., 3:])], -1)
            new = torch.where(where[:, None, None], new, old)
            state.root_q.write(qpos, new.flatten(1))
