"""Gym's tensor calls: `acquire_*`, `refresh_*` and setters, on `tensors.py` and `setters.py`."""

from typing import Any

from isaacgym.descriptor import Tensor
from isaacgym.enums import CoordinateSpace
from isaacgym.handles import Sim, checked, physics_of
from isaacgym.messages import say_once


class TensorCalls:
    """Acquire and wrap a tensor once, then refresh it: it keeps its memory as long as the
    simulation lives."""

    def _acquire(self, sim: Any, name: str, call: str) -> Tensor:
        return checked(sim, Sim, call).fix().acquire(name)

    def _refresh(self, sim: Any, kind: str, call: str) -> bool:
        physics_of(sim, call).refresh(kind)
        return True

    def acquire_actor_root_state_tensor(self, sim: Any) -> Tensor:
        """(actors, 13): position in the environment's frame, quaternion x y z w, velocity of the
        centre of mass, angular velocity; velocities along world axes."""
        return self._acquire(sim, "root_state", "acquire_actor_root_state_tensor")

    def acquire_dof_state_tensor(self, sim: Any) -> Tensor:
        """(dofs, 2): position [m or rad] and velocity [m/s or rad/s]."""
        return self._acquire(sim, "dof_state", "acquire_dof_state_tensor")

    def acquire_rigid_body_state_tensor(self, sim: Any) -> Tensor:
        """(bodies, 13), like root states."""
        return self._acquire(sim, "rigid_body_state", "acquire_rigid_body_state_tensor")

    def acquire_net_contact_force_tensor(self, sim: Any) -> Tensor:
        """(bodies, 3) [N]: sum of contact forces on each body in the last substep, world axes."""
        return self._acquire(sim, "net_contact_force", "acquire_net_contact_force_tensor")

    def acquire_dof_force_tensor(self, sim: Any) -> Tensor:
        """(dofs,) [N or N m]: force of each drive in the last substep."""
        return self._acquire(sim, "dof_force", "acquire_dof_force_tensor")

    def acquire_force_sensor_tensor(self, sim: Any) -> Tensor:
        """(sensors, 6): net force [N] on the sensor's body and torque [N m] about the sensor, in
        its frame."""
        return self._acquire(sim, "force_sensor", "acquire_force_sensor_tensor")

    def acquire_jacobian_tensor(self, sim: Any, name: str) -> Tensor:
        """Jacobians of the actor with this name in every environment with actors, (environments,
        links, 6, dofs); if only the first has the name, of the actors in its place. With a fixed
        base the root link is left out; with a free base all links are there, and 6 columns of the
        base come first."""
        return self._acquire(sim, f"jacobian:{name}", "acquire_jacobian_tensor")

    def acquire_mass_matrix_tensor(self, sim: Any, name: str) -> Tensor:
        """Mass matrices of the actors of `acquire_jacobian_tensor`, with the columns of their
        Jacobians."""
        return self._acquire(sim, f"mass_matrix:{name}", "acquire_mass_matrix_tensor")

    def refresh_actor_root_state_tensor(self, sim: Any) -> bool:
        """Fill the tensor with the current state."""
        return self._refresh(sim, "root_state", "refresh_actor_root_state_tensor")

    def refresh_dof_state_tensor(self, sim: Any) -> bool:
        """Fill the tensor with the current state."""
        return self._refresh(sim, "dof_state", "refresh_dof_state_tensor")

    def refresh_rigid_body_state_tensor(self, sim: Any) -> bool:
        """Fill the tensor with the current state; unlike in PhysX, also after a setter."""
        return self._refresh(sim, "rigid_body_state", "refresh_rigid_body_state_tensor")

    def refresh_net_contact_force_tensor(self, sim: Any) -> bool:
        """Fill the tensor with the forces of the last substep."""
        return self._refresh(sim, "net_contact_force", "refresh_net_contact_force_tensor")

    def refresh_dof_force_tensor(self, sim: Any) -> bool:
        """Fill the tensor with the forces of the last substep."""
        return self._refresh(sim, "dof_force", "refresh_dof_force_tensor")

    def refresh_force_sensor_tensor(self, sim: Any) -> bool:
        """Fill the tensor with the forces of the last substep."""
        return self._refresh(sim, "force_sensor", "refresh_force_sensor_tensor")

    def refresh_jacobian_tensors(self, sim: Any) -> bool:
        """Fill all Jacobians at the current state."""
        return self._refresh(sim, "jacobian", "refresh_jacobian_tensors")

    def refresh_mass_matrix_tensors(self, sim: Any) -> bool:
        """Fill all mass matrices at the current state."""
        return self._refresh(sim, "mass_matrix", "refresh_mass_matrix_tensors")

    # States -----------------------------------------------------------------------------------

    def set_actor_root_state_tensor(self, sim: Any, states: Tensor) -> bool:
        """Set poses and velocities of all roots, (actors, 13). A fixed base takes the pose only."""
        call = "set_actor_root_state_tensor"
        physics_of(sim, call).set_root_states(states, None, None, call)
        return True

    def set_actor_root_state_tensor_indexed(
        self, sim: Any, states: Tensor, indices: Tensor, count: int
    ) -> bool:
        """Set root states of the listed actors. states: of all actors; indices: int32,
        DOMAIN_SIM."""
        call = "set_actor_root_state_tensor_indexed"
        physics_of(sim, call).set_root_states(states, indices, count, call)
        return True

    def set_dof_state_tensor(self, sim: Any, states: Tensor) -> bool:
        """Set positions and velocities of all degrees of freedom, (dofs, 2)."""
        call = "set_dof_state_tensor"
        physics_of(sim, call).set_dof_states(states, None, None, call)
        return True

    def set_dof_state_tensor_indexed(
        self, sim: Any, states: Tensor, indices: Tensor, count: int
    ) -> bool:
        """Set DOF states of the listed actors. states: of all actors; indices: of actors, int32,
        DOMAIN_SIM."""
        call = "set_dof_state_tensor_indexed"
        physics_of(sim, call).set_dof_states(states, indices, count, call)
        return True

    # Commands ---------------------------------------------------------------------------------

    def set_dof_position_target_tensor(self, sim: Any, targets: Tensor) -> bool:
        """Set targets (dofs,) [m or rad] of DOFs in position mode, which stay until set again."""
        call = "set_dof_position_target_tensor"
        physics_of(sim, call).set_commands("dof_target_pos", targets, None, None, call)
        return True

    def set_dof_position_target_tensor_indexed(
        self, sim: Any, targets: Tensor, indices: Tensor, count: int
    ) -> bool:
        """Set position targets of the listed actors. targets: of all actors."""
        call = "set_dof_position_target_tensor_indexed"
        physics_of(sim, call).set_commands("dof_target_pos", targets, indices, count, call)
        return True

    def set_dof_velocity_target_tensor(self, sim: Any, targets: Tensor) -> bool:
        """Set targets (dofs,) [m/s or rad/s] of DOFs in velocity and position mode, which stay
        until set again."""
        call = "set_dof_velocity_target_tensor"
        physics_of(sim, call).set_commands("dof_target_vel", targets, None, None, call)
        return True

    def set_dof_velocity_target_tensor_indexed(
        self, sim: Any, targets: Tensor, indices: Tensor, count: int
    ) -> bool:
        """Set velocity targets of the listed actors. targets: of all actors."""
        call = "set_dof_velocity_target_tensor_indexed"
        physics_of(sim, call).set_commands("dof_target_vel", targets, indices, count, call)
        return True

    def set_rigid_body_state_tensor(self, sim: Any, states: Tensor) -> bool:
        """Nothing, with a warning: with PhysX, too, joints place the bodies."""
        physics_of(sim, "set_rigid_body_state_tensor")
        say_once(
            "gym.set_rigid_body_state_tensor changes nothing, as with PhysX; use"
            " gym.set_actor_root_state_tensor and gym.set_dof_state_tensor"
        )
        return False

    def set_dof_actuation_force_tensor(self, sim: Any, efforts: Tensor) -> bool:
        """Set efforts (dofs,) [N or N m] of DOFs in effort mode, which stay until set again."""
        call = "set_dof_actuation_force_tensor"
        physics_of(sim, call).set_commands("dof_effort", efforts, None, None, call)
        return True

    def set_dof_actuation_force_tensor_indexed(
        self, sim: Any, efforts: Tensor, indices: Tensor, count: int
    ) -> bool:
        """Set efforts of the listed actors. efforts: of all actors."""
        call = "set_dof_actuation_force_tensor_indexed"
        physics_of(sim, call).set_commands("dof_effort", efforts, indices, count, call)
        return True

    def apply_rigid_body_force_tensors(
        self,
        sim: Any,
        forceTensor: Tensor | None = None,
        torqueTensor: Tensor | None = None,
        space: CoordinateSpace = CoordinateSpace.ENV_SPACE,
    ) -> bool:
        """Apply forces [N] at the centres of mass and torques [N m], (bodies, 3), for the next
        `simulate`. Several calls add up."""
        call = "apply_rigid_body_force_tensors"
        physics_of(sim, call).apply_forces(forceTensor, torqueTensor, int(space), call)
        return True

    def apply_rigid_body_force_at_pos_tensors(
        self,
        sim: Any,
        forceTensor: Tensor,
        posTensor: Tensor | None = None,
        space: CoordinateSpace = CoordinateSpace.ENV_SPACE,
    ) -> bool:
        """Apply forces [N] at positions [m], (bodies, 3), for the next `simulate`."""
        call = "apply_rigid_body_force_at_pos_tensors"
        physics_of(sim, call).apply_forces_at(forceTensor, posTensor, int(space), call)
        return True
