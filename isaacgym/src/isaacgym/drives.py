"""The drives of all degrees of freedom: what the program commands, and the force that it makes.

A drive is an implicit PD controller (`implicit_pd.py`) whose force is bounded in every substep, as
PhysX does. Where its implicit force would exceed the limit, its part of the inertia is taken away
and the actuator is bounded instead.
"""

import dataclasses

import numpy as np
import torch
from torch import Tensor

from isaacgym.enums import DofDriveMode
from isaacgym.implicit_pd import UNLIMITED, drive_limits, implicit_inertia
from isaacgym.state import State

COMMANDS = ("dof_target_pos", "dof_target_vel", "dof_effort")
"""What the program sets, by name."""


@dataclasses.dataclass
class Drives:
    """All tensors are (N, D)."""

    dof_target_pos: Tensor
    """[rad or m] commanded to drives in position mode."""
    dof_target_vel: Tensor
    """[rad/s or m/s] commanded to drives in position and velocity mode."""
    dof_effort: Tensor
    """[N m or N] commanded to drives in effort mode."""
    kp: Tensor
    """Stiffness [N m/rad or N/m], which acts in every mode."""
    slope: Tensor
    """kd + h kp: how much less force a drive exerts for each unit of velocity."""
    spring: Tensor
    damper: Tensor
    push: Tensor
    """Factors of the three commands, 0 in modes that do not take them."""
    implicit: Tensor
    """What the PD adds to the inertia of its joint [kg m^2 or kg]."""
    implicit_now: Tensor
    """The same in the last substep: 0 while a drive is at its limit."""
    armature: Tensor
    """The program's own part of the inertia."""
    free_inertia: Tensor
    """What moves with a joint if the others are free, without the PD's part."""
    limit: Tensor
    """Largest force [N m or N]; UNLIMITED without."""
    timestep: float
    """[s] of a substep."""
    limited: bool
    """Whether any drive has a limit."""
    bounding: bool
    """Whether the model's fields hold the bound of a drive."""

    @classmethod
    def zeros(cls, num_envs: int, num_dofs: int, device: torch.device, timestep: float) -> "Drives":
        """Without commands; `update` gives the properties."""
        names = [f.name for f in dataclasses.fields(cls) if f.type is Tensor]
        tensors = {name: torch.zeros(num_envs, num_dofs, device=device) for name in names}
        return cls(timestep=timestep, limited=False, bounding=False, **tensors)

    def update(self, props: np.ndarray, state: State) -> None:
        """Take over properties, (N or 1, D) of DOF_PROPERTIES."""
        mode = props["driveMode"]
        pos, vel = mode == DofDriveMode.DOF_MODE_POS, mode == DofDriveMode.DOF_MODE_VEL
        model, v = state.engine.model, state.layout.dof_v
        implicit = implicit_inertia(props, self.timestep)
        moved = 1.0 / np.maximum(model.dof_invweight0[v], 1e-9)
        moved -= model.dof_armature[v] - props["armature"][0]
        for held, values in (
            (self.kp, props["stiffness"]),
            (self.slope, props["damping"] + self.timestep * props["stiffness"]),
            (self.spring, np.where(pos, props["stiffness"], 0.0)),
            (self.damper, np.where(pos | vel, props["damping"], 0.0)),
            (self.push, mode == DofDriveMode.DOF_MODE_EFFORT),
            (self.implicit, implicit),
            (self.implicit_now, implicit),
            (self.armature, props["armature"]),
            (self.free_inertia, np.maximum(moved, 1e-6)),
            (self.limit, drive_limits(props)),
        ):
            held.copy_(state.tensor(values))
        self.bounding = True  # until `bound` knows better
        limited = bool((drive_limits(props) < UNLIMITED).any())
        state.step_changed |= limited != self.limited
        self.limited = limited
        if limited:  # before a capture
            state.field("qacc")
            state.model_field("dof_armature")
            state.model_field("actuator_forcerange")

    def command(self, ctrl: Tensor) -> None:
        """Write what the commands make of the actuators' controls (N, D)."""
        torch.mul(self.push, self.dof_effort, out=ctrl)
        ctrl.addcmul_(self.spring, self.dof_target_pos)
        ctrl.addcmul_(self.damper, self.dof_target_vel)

    def bound(self, state: State) -> None:
        """Before a substep: bound the drives whose implicit force would exceed their limit, with
        the acceleration of a joint that nothing holds or with that of the last substep."""
        engine = state.engine
        q, v = engine.qpos[:, state.dof_q], engine.qvel[:, state.dof_v]
        force = engine.ctrl.addcmul(self.kp, q, value=-1).addcmul_(self.slope, v, value=-1)
        above = force.abs() > self.limit
        if state.device.type == "cpu":  # checking would synchronise a GPU
            if not self.bounding and not above.any():
                return
            self.bounding = bool(above.any())
        free = force * self.free_inertia / (self.free_inertia + self.implicit)
        last = force - self.implicit * state.field("qacc")[:, state.dof_v]
        beyond = (free.abs() > self.limit) | (last.abs() > self.limit)
        beyond &= above
        self.implicit_now.copy_(torch.where(beyond, 0.0, self.implicit))
        state.model_field("dof_armature").index_copy_(
            1, state.dof_v, self.armature + self.implicit_now
        )
        limit = torch.where(beyond, self.limit, UNLIMITED)
        state.model_field("actuator_forcerange").copy_(torch.stack([-limit, limit], -1))

    def force(self, state: State) -> Tensor:
        """(N, D) force of each drive in the last substep [N m or N]."""
        explicit = state.field("qfrc_actuator")[:, state.dof_v]
        return explicit - self.implicit_now * state.field("qacc")[:, state.dof_v]
