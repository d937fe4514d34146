"""Gym's calls on the state of single actors and bodies.

They handle one environment at a time, through the host; use the tensor calls for many."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from isaacgym.calls import numbers
from isaacgym.enums import STATE_POS, STATE_VEL, CoordinateSpace
from isaacgym.geometry import Quat, Transform, Vec3
from isaacgym.handles import Sim, actor_of, checked, checked_index, env_physics
from isaacgym.physics import Physics
from isaacgym.start import body_poses, rest_positions
from isaacgym.values import DofState, RigidBodyState
from isaacgym.world import Env
from phalanx.errors import PhalanxError

_FLAGS = {"pos": STATE_POS, "vel": STATE_VEL}


class StateCalls:
    """States and commands of one actor as (dofs,) or (bodies,) arrays, in the environment's frame.
    Joint states and commands can be set as soon as the actor exists."""

    def get_actor_dof_states(self, env: Env, handle: int, flags: int) -> np.ndarray:
        """Positions [m or rad] and velocities [m/s or rad/s], (dofs,) of DofState."""
        call = "get_actor_dof_states"
        actor = actor_of(env, handle, call)
        if (physics := _physics(env, call)) is None:
            props = actor.asset.dof_props if actor.dof_props is None else actor.dof_props
            pos = actor.start.get("pos", rest_positions(props))
            vel = actor.start.get("vel", np.zeros(len(pos)))
        else:
            pos, vel = physics.rows("dof_state", env.row)[_dofs(actor)].T
        states = np.zeros(actor.asset.num_dofs, DofState.dtype)
        if flags & STATE_POS:
            states["pos"] = pos
        if flags & STATE_VEL:
            states["vel"] = vel
        return states

    def set_actor_dof_states(self, env: Env, handle: int, states: Any, flags: int) -> bool:
        """Set positions, velocities or both, (dofs,) of DofState, by STATE_POS and STATE_VEL."""
        call = "set_actor_dof_states"
        actor = actor_of(env, handle, call)
        try:
            record = DofState.dtype
            pairs = isinstance(states, (list, tuple)) and all(
                (isinstance(s, tuple) and len(s) == 2) or getattr(s, "dtype", None) == record
                for s in states
            )
            if not pairs and np.asarray(states).dtype.names != DofState.dtype.names:
                raise TypeError  # NumPy would take a plain number as position and velocity
            states = np.asarray(states, DofState.dtype).reshape(-1)
        except (TypeError, ValueError, OverflowError):
            raise PhalanxError(f"gym.{call} takes an array of gymapi.DofState.dtype") from None
        if len(states) != actor.asset.num_dofs:
            raise PhalanxError(
                f"gym.{call} was given {len(states)} states for"
                f" {actor.asset.num_dofs} degrees of freedom"
            )
        for name in _FLAGS:
            numbers(states[name], len(states), call, f"states' {name}")
        chosen = {n: states[n].copy() for n, f in _FLAGS.items() if flags & f}
        if (physics := _physics(env, call)) is None:
            actor.start |= chosen
            return True
        engine, layout, state = physics.ready(), physics.layout, physics.state
        places = {"pos": (engine.qpos, layout.dof_q), "vel": (engine.qvel, layout.dof_v)}
        for name, column in chosen.items():
            field, index = places[name]
            field[env.row, index[_dofs(actor)]] = torch.from_numpy(column).to(field)
        state.note_change(None)
        return True

    def get_actor_rigid_body_states(self, env: Env, handle: int, flags: int) -> np.ndarray:
        """States of an actor's bodies, (bodies,) of RigidBodyState. Parts not in `flags` are
        zero."""
        call = "get_actor_rigid_body_states"
        actor = actor_of(env, handle, call)
        first = actor.first_body
        states = self.get_env_rigid_body_states(env, flags)
        return states[first : first + actor.asset.num_bodies]

    def get_env_rigid_body_states(self, env: Env, flags: int) -> np.ndarray:
        """States of the bodies of all actors, (bodies,) of RigidBodyState."""
        return _as_states(_body_rows(env, "get_env_rigid_body_states"), flags)

    def get_sim_rigid_body_states(self, sim: Any, flags: int) -> np.ndarray:
        """States of the bodies of all environments, (bodies,) of RigidBodyState, in the world
        frame."""
        call = "get_sim_rigid_body_states"
        envs = checked(sim, Sim, call).envs
        if sim.physics is None:
            rows = np.concatenate([np.zeros((0, 13)), *(_body_rows(env, call) for env in envs)])
        else:
            rows = sim.physics.rows("rigid_body_state")
        origins = np.array([env.origin for env in envs]).reshape(-1, 3)
        rows[:, :3] += np.repeat(origins, [env.num_bodies for env in envs], 0)
        return _as_states(rows, flags)

    def get_rigid_transform(self, env: Env, body: int) -> Transform:
        """Pose of the body with this handle. Before `prepare_sim` joints are where the
        program put them, otherwise at zero or the nearest limit."""
        row = _body_row(env, body, "get_rigid_transform")
        return Transform(Vec3(*row[:3]), Quat(*row[3:7]))

    def get_rigid_linear_velocity(self, env: Env, body: int) -> Vec3:
        """Velocity of a body's centre of mass [m/s], along world axes."""
        return Vec3(*_body_row(env, body, "get_rigid_linear_velocity")[7:10])

    def get_rigid_angular_velocity(self, env: Env, body: int) -> Vec3:
        """Angular velocity of a body [rad/s], along world axes."""
        return Vec3(*_body_row(env, body, "get_rigid_angular_velocity")[10:13])

    def get_dof_position(self, env: Env, dof: int) -> float:
        """Position [m or rad] of the degree of freedom with this handle."""
        actor, k = _dof(env, dof, "get_dof_position")
        return float(self.get_actor_dof_states(env, actor, STATE_POS)["pos"][k])

    def get_dof_velocity(self, env: Env, dof: int) -> float:
        """Velocity [m/s or rad/s] of the degree of freedom with this handle."""
        actor, k = _dof(env, dof, "get_dof_velocity")
        return float(self.get_actor_dof_states(env, actor, STATE_VEL)["vel"][k])

    def get_vec_actor_dof_states(
        self, envs: Sequence[Env], handles: Sequence[int], flags: int
    ) -> np.ndarray:
        """States of the joints of one actor in each of some environments, (environments, dofs) of
        DofState. Raises PhalanxError unless all have the same number."""
        call = "get_vec_actor_dof_states"
        if not envs or len(envs) != len(handles):
            raise PhalanxError(
                f"gym.{call} was given {len(envs)} environments and {len(handles)} actors; give one"
                " actor for each environment"
            )
        states = [
            self.get_actor_dof_states(e, a, flags) for e, a in zip(envs, handles, strict=True)
        ]
        if len({len(own) for own in states}) > 1:
            raise PhalanxError(f"gym.{call}: the actors have different numbers of joints")
        return np.stack(states)

    def get_actor_dof_forces(self, env: Env, handle: int) -> np.ndarray:
        """Forces of the drives in the last substep, (dofs,) [N or N m]."""
        call = "get_actor_dof_forces"
        actor, physics = actor_of(env, handle, call), env_physics(env, call)
        return physics.rows("dof_force", env.row)[_dofs(actor)].flatten()

    # Commands ---------------------------------------------------------------------------------

    def get_actor_dof_position_targets(self, env: Env, handle: int) -> np.ndarray:
        """Position targets, (dofs,) [m or rad]."""
        return _get_command(env, handle, "dof_target_pos", "get_actor_dof_position_targets")

    def set_actor_dof_position_targets(self, env: Env, handle: int, targets: Any) -> bool:
        """Set position targets, (dofs,) [m or rad], which stay until set again."""
        call = "set_actor_dof_position_targets"
        return _set_command(env, handle, "dof_target_pos", targets, call)

    def get_actor_dof_velocity_targets(self, env: Env, handle: int) -> np.ndarray:
        """Velocity targets, (dofs,) [m/s or rad/s]."""
        return _get_command(env, handle, "dof_target_vel", "get_actor_dof_velocity_targets")

    def set_actor_dof_velocity_targets(self, env: Env, handle: int, targets: Any) -> bool:
        """Set velocity targets, (dofs,) [m/s or rad/s], which stay until set again."""
        call = "set_actor_dof_velocity_targets"
        return _set_command(env, handle, "dof_target_vel", targets, call)

    def apply_actor_dof_efforts(self, env: Env, handle: int, efforts: Any) -> bool:
        """Set efforts, (dofs,) [N or N m], which stay until set again."""
        return _set_command(env, handle, "dof_effort", efforts, "apply_actor_dof_efforts")

    def get_dof_target_position(self, env: Env, dof: int) -> float:
        """Position target [m or rad] of the degree of freedom with this handle."""
        return _command_of_dof(env, dof, "dof_target_pos", "get_dof_target_position")

    def get_dof_target_velocity(self, env: Env, dof: int) -> float:
        """Velocity target [m/s or rad/s] of the degree of freedom with this handle."""
        return _command_of_dof(env, dof, "dof_target_vel", "get_dof_target_velocity")

    def set_dof_target_position(self, env: Env, dof: int, target: float) -> bool:
        """Set the position target [m or rad] of the degree of freedom with this handle."""
        return _command_dof(env, dof, "dof_target_pos", target, "set_dof_target_position")

    def set_dof_target_velocity(self, env: Env, dof: int, target: float) -> bool:
        """Set the velocity target [m/s or rad/s] of the degree of freedom with this handle."""
        return _command_dof(env, dof, "dof_target_vel", target, "set_dof_target_velocity")

    def apply_dof_effort(self, env: Env, dof: int, effort: float) -> bool:
        """Set the effort [N or N m] of the degree of freedom with this handle."""
        return _command_dof(env, dof, "dof_effort", effort, "apply_dof_effort")

    def apply_body_forces(
        self,
        env: Env,
        body: int,
        force: Vec3 | None = None,
        torque: Vec3 | None = None,
        space: CoordinateSpace = CoordinateSpace.ENV_SPACE,
    ) -> bool:
        """Apply a force [N] at the centre of mass and a torque [N m] to one body, for the next
        `simulate`."""
        call = "apply_body_forces"
        physics, (forces, torques) = _for_body(env, body, call, force, torque)
        physics.setters.apply_forces(forces, torques, int(space))
        return True

    def apply_body_force_at_pos(
        self,
        env: Env,
        body: int,
        force: Vec3,
        pos: Vec3 | None = None,
        space: CoordinateSpace = CoordinateSpace.ENV_SPACE,
    ) -> bool:
        """Apply a force [N] at a position [m] to one body, for the next `simulate`."""
        call = "apply_body_force_at_pos"
        physics, (forces, positions) = _for_body(env, body, call, force, pos)
        if positions is None:
            physics.setters.apply_forces(forces, None, int(space))
        else:
            assert forces is not None
            physics.setters.apply_forces_at(forces, positions, int(space))
        return True


def _dofs(actor: Any) -> slice:
    return slice(actor.first_dof, actor.first_dof + actor.asset.num_dofs)


def _physics(env: Env, call: str) -> Physics | None:
    """The physics of an environment, None if its simulation is not prepared yet."""
    physics = checked(checked(env, Env, call).sim, Sim, call).physics
    return None if physics is None or not env.actors else physics.of(env)


def _body_row(env: Env, body: int, call: str) -> np.ndarray:
    """The state (13,) of the body with this handle."""
    at = checked_index(body, checked(env, Env, call).num_bodies, "body", call)
    state: np.ndarray = _body_rows(env, call)[at]
    return state


def _body_rows(env: Env, call: str) -> np.ndarray:
    """States of an environment's bodies, (bodies, 13); before `prepare_sim` they are at rest, but
    for the velocities that the program gave to roots."""
    if (physics := _physics(env, call)) is not None:
        return physics.rows("rigid_body_state", env.row)
    rows = np.zeros((env.num_bodies, 13))
    for actor in env.actors:
        own = rows[actor.first_body : actor.first_body + actor.asset.num_bodies]
        pos, quat = body_poses(actor)
        own[:, :3], own[:, 3:7] = pos, quat[:, [1, 2, 3, 0]]
        own[0, 7:] = actor.root_velocity
    return rows


def _as_states(rows: np.ndarray, flags: int) -> np.ndarray:
    states = np.zeros(len(rows), RigidBodyState.dtype)
    flat = states.view("f4").reshape(-1, 13)
    if flags & STATE_POS:
        flat[:, :7] = rows[:, :7]
    if flags & STATE_VEL:
        flat[:, 7:] = rows[:, 7:]
    return states


def _get_command(env: Env, handle: int, what: str, call: str) -> np.ndarray:
    actor = actor_of(env, handle, call)
    if (physics := _physics(env, call)) is None:
        return actor.start.get(what, np.zeros(actor.asset.num_dofs, np.float32)).copy()
    values: np.ndarray = getattr(physics.drives, what)[env.row, _dofs(actor)].cpu().numpy().copy()
    return values


def _set_command(env: Env, handle: int, what: str, values: Any, call: str) -> bool:
    actor = actor_of(env, handle, call)
    values = numbers(values, actor.asset.num_dofs, call, "values of degrees of freedom")
    if (physics := _physics(env, call)) is None:
        actor.start[what] = values
    else:
        commands = getattr(physics.drives, what)
        commands[env.row, _dofs(actor)] = torch.from_numpy(values).to(commands)
    return True


def _dof(env: Env, dof: int, call: str) -> tuple[int, int]:
    """The actor that has the degree of freedom with this handle, and its number there."""
    at = checked_index(dof, checked(env, Env, call).num_dofs, "DOF", call)
    actor = next(a for a in reversed(env.actors) if a.first_dof <= at)
    return actor.handle, at - actor.first_dof


def _command_of_dof(env: Env, dof: int, what: str, call: str) -> float:
    actor, k = _dof(env, dof, call)
    return float(_get_command(env, actor, what, call)[k])


def _command_dof(env: Env, dof: int, what: str, value: float, call: str) -> bool:
    actor, k = _dof(env, dof, call)
    values = _get_command(env, actor, what, call)
    values[k] = value
    return _set_command(env, actor, what, values, call)


def _for_body(
    env: Env, body: int, call: str, *vectors: Vec3 | None
) -> tuple[Physics, list[torch.Tensor | None]]:
    """The physics, and each vector as a tensor of its bodies that is zero for the others."""
    checked_index(body, checked(env, Env, call).num_bodies, "body", call)
    physics = env_physics(env, call)
    tensors: list[torch.Tensor | None] = []
    for vector in vectors:
        if vector is None:
            tensors.append(None)
            continue
        tensor = torch.zeros(physics.num_envs, env.num_bodies, 3, device=physics.device)
        tensor[env.row, int(body)] = torch.tensor(list(vector))
        tensors.append(tensor)
    return physics, tensors
