"""Gym's calls that place single bodies, and the frames and values of single joints.

They handle one environment at a time, through the host; use the tensor calls for many. Only the
root of an actor can be placed, as in Isaac Gym: joints place the other bodies.
"""

import logging
from collections.abc import Iterator
from typing import Any

import mujoco
import numpy as np
import torch

from isaacgym.enums import STATE_POS, STATE_VEL
from isaacgym.geometry import Quat, Transform, Vec3
from isaacgym.gym_states import StateCalls, _body_rows, _physics
from isaacgym.handles import Sim, actor_of, checked, checked_index
from isaacgym.values import DofFrame, RigidBodyState
from isaacgym.world import Actor, Env
from phalanx.errors import PhalanxError

log = logging.getLogger(__name__)


class BodyCalls(StateCalls):
    """Poses and velocities are in the environment's frame unless a call says otherwise."""

    def set_actor_rigid_body_states(
        self, env: Env, handle: int, states: np.ndarray, flags: int
    ) -> bool:
        """Place the root of an actor. states: (bodies,) of RigidBodyState, of which the root's
        counts; flags: STATE_POS, STATE_VEL or both."""
        call = "set_actor_rigid_body_states"
        actor = actor_of(env, handle, call)
        rows = _rows(states, actor.asset.num_bodies, call)
        return _place([(env, actor, rows[0])], flags, call)

    def set_env_rigid_body_states(self, env: Env, states: np.ndarray, flags: int) -> bool:
        """Place the roots of all actors; states (bodies,) as `get_env_rigid_body_states` gives."""
        call = "set_env_rigid_body_states"
        rows = _rows(states, checked(env, Env, call).num_bodies, call)
        return _place([(env, a, rows[a.first_body]) for a in env.actors], flags, call)

    def set_sim_rigid_body_states(self, sim: Sim, states: np.ndarray, flags: int) -> bool:
        """Place the roots of all actors of all environments; states (bodies,) in the world frame,
        as `get_sim_rigid_body_states` gives."""
        call = "set_sim_rigid_body_states"
        envs = checked(sim, Sim, call).envs
        rows = _rows(states, sum(env.num_bodies for env in envs), call)
        places, first = [], 0
        for env in envs:
            rows[first : first + env.num_bodies, :3] -= env.origin
            places += [(env, a, rows[first + a.first_body]) for a in env.actors]
            first += env.num_bodies
        return _place(places, flags, call)

    def set_rigid_transform(self, env: Env, body: int, transform: Transform) -> bool:
        """Set the pose of an actor's root, the body with this handle."""
        row = np.zeros(13)
        row[:7] = [*transform.p, *transform.r]
        return _place_body(env, body, row, slice(0, 7), "set_rigid_transform")

    def set_rigid_linear_velocity(self, env: Env, body: int, velocity: Vec3) -> bool:
        """Set the velocity of the centre of mass [m/s] of an actor's root."""
        row = np.array([0.0] * 7 + [*velocity] + [0.0] * 3)
        return _place_body(env, body, row, slice(7, 10), "set_rigid_linear_velocity")

    def set_rigid_angular_velocity(self, env: Env, body: int, velocity: Vec3) -> bool:
        """Set the angular velocity [rad/s] of an actor's root."""
        row = np.array([0.0] * 10 + [*velocity])
        return _place_body(env, body, row, slice(10, 13), "set_rigid_angular_velocity")

    def get_actor_dof_frames(self, env: Env, handle: int) -> np.ndarray:
        """Where the degrees of freedom act, (dofs,) of DofFrame."""
        call = "get_actor_dof_frames"
        actor = actor_of(env, handle, call)
        rows, joints = _body_rows(env, call), actor.asset.dof_joints
        frames = [_joint_frame(actor, int(j), rows) for j in joints]
        result = np.zeros(len(frames), DofFrame.dtype)
        result.view("f4").reshape(-1, 6)[:] = np.array([[*p, *a] for p, a in frames]).reshape(-1, 6)
        return result

    def get_dof_frame(self, env: Env, dof: int) -> DofFrame:
        """Where the degree of freedom with this handle acts: a point [m] and a unit axis."""
        call = "get_dof_frame"
        at = checked_index(dof, checked(env, Env, call).num_dofs, "DOF", call)
        actor = next(a for a in reversed(env.actors) if a.first_dof <= at)
        joint = int(actor.asset.dof_joints[at - actor.first_dof])
        origin, axis = _joint_frame(actor, joint, _body_rows(env, call))
        return DofFrame(Vec3(*origin), Vec3(*axis))

    def get_actor_joint_transforms(self, env: Env, handle: int) -> np.ndarray:
        """Poses of the joints, fixed ones included, (joints,) of Transform: the point where a joint
        acts, and the rotation of the body that it moves."""
        call = "get_actor_joint_transforms"
        actor = actor_of(env, handle, call)
        rows = _body_rows(env, call)
        result = np.zeros(len(actor.asset.joints), Transform.dtype)
        flat = result.view("f4").reshape(-1, 7)
        for k, (body, joint) in enumerate(_joints(actor)):
            flat[k] = rows[actor.first_body + body, :7]
            if joint is not None:
                flat[k, :3] = _joint_frame(actor, joint, rows)[0]
        return result

    def get_joint_transform(self, env: Env, joint: int) -> Transform:
        """Pose of the joint with this handle; see `get_actor_joint_transforms`."""
        actor, k = _joint(env, joint, "get_joint_transform")
        pose = self.get_actor_joint_transforms(env, actor.handle).view("f4").reshape(-1, 7)[k]
        return Transform(Vec3(*pose[:3]), Quat(*pose[3:]))

    def get_joint_position(self, env: Env, joint: int) -> float:
        """Position [m or rad] of the joint with this handle, 0 of a fixed one."""
        dof = _dof_of_joint(env, joint, "get_joint_position")
        return 0.0 if dof is None else self.get_dof_position(env, dof)

    def get_joint_velocity(self, env: Env, joint: int) -> float:
        """Velocity [m/s or rad/s] of the joint with this handle, 0 of a fixed one."""
        dof = _dof_of_joint(env, joint, "get_joint_velocity")
        return 0.0 if dof is None else self.get_dof_velocity(env, dof)

    def get_joint_target_position(self, env: Env, joint: int) -> float:
        """Position target [m or rad] of the joint with this handle, 0 of a fixed one."""
        dof = _dof_of_joint(env, joint, "get_joint_target_position")
        return 0.0 if dof is None else self.get_dof_target_position(env, dof)

    def get_joint_target_velocity(self, env: Env, joint: int) -> float:
        """Velocity target [m/s or rad/s] of the joint with this handle, 0 of a fixed one."""
        dof = _dof_of_joint(env, joint, "get_joint_target_velocity")
        return 0.0 if dof is None else self.get_dof_target_velocity(env, dof)

    def set_joint_target_position(self, env: Env, joint: int, target: float) -> bool:
        """Set the position target [m or rad] of a joint; False for a fixed one."""
        dof = _dof_of_joint(env, joint, "set_joint_target_position")
        return dof is not None and self.set_dof_target_position(env, dof, target)

    def set_joint_target_velocity(self, env: Env, joint: int, target: float) -> bool:
        """Set the velocity target [m/s or rad/s] of a joint; False for a fixed one."""
        dof = _dof_of_joint(env, joint, "set_joint_target_velocity")
        return dof is not None and self.set_dof_target_velocity(env, dof, target)


def _rows(states: Any, count: int, call: str) -> np.ndarray:
    """States (count,) of RigidBodyState as a copy (count, 13)."""
    array = np.asarray(states)
    if array.dtype != RigidBodyState.dtype or array.size != count:
        raise PhalanxError(
            f"gym.{call} takes {count} of gymapi.RigidBodyState.dtype, as the call that reads them"
            f" gives; got {array.size} of {', '.join(array.dtype.names or [str(array.dtype)])}"
        )
    rows: np.ndarray = np.ascontiguousarray(array).view("f4").reshape(-1, 13).astype(float)
    if not np.isfinite(rows).all():
        raise PhalanxError(f"gym.{call} was given states that are not finite")
    return rows


def _place_body(env: Env, body: int, row: np.ndarray, part: slice, call: str) -> bool:
    """Set the columns `part` of a root's state (13,); a warning and False for another body."""
    at = checked_index(body, checked(env, Env, call).num_bodies, "body", call)
    actor = next(a for a in reversed(env.actors) if a.first_body <= at)
    if at != actor.first_body:
        log.warning(
            "gym.%s was given %s of actor %r; only its root can be placed, so nothing happens",
            call, actor.asset.body_names[at - actor.first_body], actor.name,
        )  # fmt: skip
        return False
    whole = _body_rows(env, call)[at].astype(float)
    whole[part] = row[part]
    return _place([(env, actor, whole)], STATE_POS if part.start == 0 else STATE_VEL, call)


def _place(places: list[tuple[Env, Actor, np.ndarray]], flags: int, call: str) -> bool:
    """Set poses, velocities or both of the roots of actors to states (13,) each."""
    wanted: dict[int, list[tuple[Env, Actor, np.ndarray]]] = {}
    for place in places:
        env, actor, row = place
        if _physics(env, call) is None:
            if flags & STATE_POS:
                actor.pos, actor.quat = row[:3].copy(), _unit(row[[6, 3, 4, 5]])
            if flags & STATE_VEL and not actor.asset.fixed:
                actor.root_velocity = row[7:].copy()
        else:
            wanted.setdefault(env.group, []).append(place)
    for group in wanted.values():
        physics = _physics(group[0][0], call)
        assert physics is not None
        physics.ready()
        n, actors = physics.num_envs, len(group[0][0].actors)
        current = physics.rows("rigid_body_state").reshape(n, -1, 13)
        states, mask = np.zeros((n, actors, 13), np.float32), np.zeros((n, actors), bool)
        for env, actor, row in group:
            held = states[env.row, actor.handle]
            held[:] = current[env.row, actor.first_body]
            if flags & STATE_POS:
                held[:7] = row[:7]
            if flags & STATE_VEL:
                held[7:] = row[7:]
            mask[env.row, actor.handle] = True
        new, chosen = torch.from_numpy(states), torch.from_numpy(mask)
        physics.setters.set_root_states(new.to(physics.device), chosen.to(physics.device))
    return True


def _unit(quat: np.ndarray) -> np.ndarray:
    length = np.linalg.norm(quat)
    return quat / length if length > 0 else np.array([1.0, 0.0, 0.0, 0.0])


def _joint_frame(actor: Actor, joint: int, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Where a joint of the actor's model acts: a point [m] and a unit axis. rows: states of the
    environment's bodies, (bodies, 13)."""
    model = actor.asset.model
    body = rows[actor.first_body + int(model.jnt_bodyid[joint]) - 1].astype(float)
    quat, arm, axis = _unit(body[[6, 3, 4, 5]]), np.zeros(3), np.zeros(3)
    mujoco.mju_rotVecQuat(arm, model.jnt_pos[joint] * actor.scale, quat)
    mujoco.mju_rotVecQuat(axis, model.jnt_axis[joint], quat)
    return body[:3] + arm, axis


def _joints(actor: Actor) -> Iterator[tuple[int, int | None]]:
    """Body of the actor and joint of its model, None for a fixed one, in the order of
    `asset.joints`."""
    model = actor.asset.model
    for body in range(2, model.nbody):
        first = int(model.body_jntadr[body])
        own = range(first, first + int(model.body_jntnum[body]))
        for joint in own:
            yield body - 1, joint
        if not own:
            yield body - 1, None


def _joint(env: Env, joint: int, call: str) -> tuple[Actor, int]:
    """The actor that has the joint with this handle, and its number there."""
    k = checked_index(
        joint, sum(len(a.asset.joints) for a in checked(env, Env, call).actors), "joint", call
    )
    for actor in env.actors:
        if k < len(actor.asset.joints):
            break
        k -= len(actor.asset.joints)
    return actor, k


def _dof_of_joint(env: Env, joint: int, call: str) -> int | None:
    """Handle of a joint's degree of freedom, None for a fixed one."""
    actor, k = _joint(env, joint, call)
    own = [j for _, j in _joints(actor)][k]
    dofs = [int(j) for j in actor.asset.dof_joints]
    return actor.first_dof + dofs.index(own) if own in dofs else None
