"""Gym's tensor calls: `acquire_*`, `refresh_*` and the setters; `tensors.py` and `setters.py` do
the work."""

from typing import Any

from isaacgym.descriptor import Tensor
from isaacgym.enums import CoordinateSpace
from isaacgym.handles import Sim, checked, physics_of


class TensorCalls:
    """Tensors keep their memory for the life of the simulation; acquire, wrap once, refresh."""

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
        """(dofs, 2): position and velocity."""
        return self._acquire(sim, "dof_state", "acquire_dof_state_tensor")

    def acquire_rigid_body_state_tensor(self, sim: Any) -> Tensor:
        """(bodies, 13), as root states."""
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
        """Of the actor with this name in every environment: (environments, links, 6, dofs); with a
        free base all links and 6 more columns in front, with a fixed one all but the root."""
        return self._acquire(sim, f"jacobian:{name}", "acquire_jacobian_tensor")

    def acquire_mass_matrix_tensor(self, sim: Any, name: str) -> Tensor:
        """Of the actor with this name in every environment, columns as in its Jacobian."""
        return self._acquire(sim, f"mass_matrix:{name}", "acquire_mass_matrix_tensor")

    def refresh_actor_root_state_tensor(self, sim: Any) -> bool:
        """Fill the tensor with the present state."""
        return self._refresh(sim, "root_state", "refresh_actor_root_state_tensor")

    def refresh_dof_state_tensor(self, sim: Any) -> bool:
        """Fill the tensor with the present state."""
        return self._refresh(sim, "dof_state", "refresh_dof_state_tensor")

    def refresh_rigid_body_state_tensor(self, sim: Any) -> bool:
        """Fill the tensor with the present state; after a setter too, unlike with PhysX."""
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
        """Fill all Jacobians at the present state."""
        return self._refresh(sim, "jacobian", "refresh_jacobian_tensors")

    def refresh_mass_matrix_tensors(self, sim: Any) -> bool:
        """Fill all mass matrices at the present state."""
        return self._refresh(sim, "mass_matrix", "refresh_mass_matrix_tensors")

    # States -----------------------------------------------------------------------------------

    def set_actor_root_state_tensor(self, sim: Any, states: Tensor) -> bool:
        """Poses and velocities of all roots; a fixed base moves, without velocity."""
        call = "set_actor_root_state_tensor"
        physics_of(sim, call).setters.set_root_states(states, None, None, call)
        return True

    def set_actor_root_state_tensor_indexed(
        self, sim: Any, states: Tensor, indices: Tensor, count: int
    ) -> bool:
        """Of the listed actors; `states` is the tensor of all, `indices` int32 in DOMAIN_SIM."""
        call = "set_actor_root_state_tensor_indexed"
        physics_of(sim, call).setters.set_root_states(states, indices, count, call)
        return True

    def set_dof_state_tensor(self, sim: Any, states: Tensor) -> bool:
        """Positions and velocities of all degrees of freedom."""
        call = "set_dof_state_tensor"
        physics_of(sim, call).setters.set_dof_states(states, None, None, call)
        return True

    def set_dof_state_tensor_indexed(
        self, sim: Any, states: Tensor, indices: Tensor, count: int
    ) -> bool:
        """Of the listed actors; `states` is the tensor of all, `indices` count actors."""
        call = "set_dof_state_tensor_indexed"
        physics_of(sim, call).setters.set_dof_states(states, indices, count, call)
        return True

    # Commands ---------------------------------------------------------------------------------

    def set_dof_position_target_tensor(self, sim: Any, targets: Tensor) -> bool:
        """For DOFs in position mode; kept until set again."""
        call = "set_dof_position_target_tensor"
        physics_of(sim, call).set_commands("dof_target_pos", targets, None, None, call)
        return True

    def set_dof_position_target_tensor_indexed(
        self, sim: Any, targets: Tensor, indices: Tensor, count: int
    ) -> bool:
        """Of the listed actors."""
        call = "set_dof_position_target_tensor_indexed"
        physics_of(sim, call).set_commands("dof_target_pos", targets, indices, count, call)
        return True

    def set_dof_velocity_target_tensor(self, sim: Any, targets: Tensor) -> bool:
        """For DOFs in velocity and position mode; kept until set again."""
        call = "set_dof_velocity_target_tensor"
        physics_of(sim, call).set_commands("dof_target_vel", targets, None, None, call)
        return True

    def set_dof_velocity_target_tensor_indexed(
        self, sim: Any, targets: Tensor, indices: Tensor, count: int
    ) -> bool:
        """Of the listed actors."""
        call = "set_dof_velocity_target_tensor_indexed"
        physics_of(sim, call).set_commands("dof_target_vel", targets, indices, count, call)
        return True

    def set_dof_actuation_force_tensor(self, sim: Any, efforts: Tensor) -> bool:
        """For DOFs in effort mode [N or N m]; kept until set again."""
        call = "set_dof_actuation_force_tensor"
        physics_of(sim, call).set_commands("dof_effort", efforts, None, None, call)
        return True

    def set_dof_actuation_force_tensor_indexed(
        self, sim: Any, efforts: Tensor, indices: Tensor, count: int
    ) -> bool:
        """Of the listed actors."""
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
        """Forces at centres of mass and torques on all bodies, for the next `simulate` only;
        several calls add up."""
        call = "apply_rigid_body_force_tensors"
        physics_of(sim, call).setters.apply_forces(forceTensor, torqueTensor, int(space), call)
        return True

    def apply_rigid_body_force_at_pos_tensors(
        self,
        sim: Any,
        forceTensor: Tensor,
        posTensor: Tensor | None = None,
        space: CoordinateSpace = CoordinateSpace.ENV_SPACE,
    ) -> bool:
        """Forces at positions on all bodies, for the next `simulate` only."""
        call = "apply_rigid_body_force_at_pos_tensors"
        physics_of(sim, call).setters.apply_forces_at(forceTensor, posTensor, int(space), call)
        return True
