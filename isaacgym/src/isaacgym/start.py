"""Positions of actors and joints when the simulation starts."""

import mujoco
import numpy as np

from isaacgym.asset import Asset
from isaacgym.ground import Ground
from isaacgym.world import Actor, World

MOST_KEPT = 64


def body_poses(actor: Actor) -> tuple[np.ndarray, np.ndarray]:
    """Positions (bodies, 3) [m] and quaternions (bodies, 4), w x y z, of the bodies of an actor in
    its environment before `prepare_sim`: degrees of freedom are as the program set them, otherwise
    at zero or the nearest limit."""
    props = actor.asset.dof_props if actor.dof_props is None else actor.dof_props
    joints = actor.start.get("pos", rest_positions(props))
    at_rest, turns = rest_poses(actor.asset, tuple(joints.tolist()))
    pos, quat = np.zeros_like(at_rest), np.zeros_like(turns)
    for b in range(actor.asset.num_bodies):
        mujoco.mju_rotVecQuat(pos[b], at_rest[b] * actor.scale, actor.quat)
        mujoco.mju_mulQuat(quat[b], actor.quat, turns[b])
    return pos + actor.pos, quat


def rest_poses(asset: Asset, joints: tuple[float, ...]) -> tuple[np.ndarray, np.ndarray]:
    """Positions (bodies, 3) [m] and quaternions (bodies, 4), w x y z, of all bodies in the root's
    frame, with degrees of freedom at `joints`. The asset keeps `MOST_KEPT`, for which many actors
    ask by turns."""
    kept = asset.rest_poses
    if joints in kept:
        return kept[joints]
    data = mujoco.MjData(asset.model)
    data.qpos[asset.model.jnt_qposadr[asset.dof_joints]] = joints
    mujoco.mj_kinematics(asset.model, data)
    inverse = np.zeros(4)
    mujoco.mju_negQuat(inverse, data.xquat[1])
    pos, quat = np.zeros((asset.num_bodies, 3)), np.zeros((asset.num_bodies, 4))
    for b in range(asset.num_bodies):
        mujoco.mju_rotVecQuat(pos[b], data.xpos[b + 1] - data.xpos[1], inverse)
        mujoco.mju_mulQuat(quat[b], inverse, data.xquat[b + 1])
    if len(kept) == MOST_KEPT:
        del kept[next(iter(kept))]  # the oldest
    kept[joints] = (pos, quat)
    return pos, quat


def rest_positions(props: np.ndarray) -> np.ndarray:
    """Positions [m or rad] of degrees of freedom that the program does not set: zero, or the limit
    nearest to it.

    props: DOF_PROPERTIES of any shape, which is also the shape of the result."""
    lower = np.minimum(props["lower"], props["upper"])
    upper = np.maximum(props["lower"], props["upper"])
    return np.where(props["hasLimits"], np.clip(0.0, lower, upper), 0.0)


def set_before(world: World, name: str, otherwise: np.ndarray | float = 0.0) -> np.ndarray:
    """(N, D): the values that the program set under `name` before `prepare_sim`, or `otherwise`."""
    values = np.empty((len(world.envs), world.envs[0].num_dofs))
    values[:] = otherwise
    for row, env in enumerate(world.envs):
        for actor in env.actors:
            if name in actor.start:
                own = slice(actor.first_dof, actor.first_dof + actor.asset.num_dofs)
                values[row, own] = actor.start[name]
    return values


def root_poses(world: World) -> np.ndarray:
    """(N, A, 7): positions [m] and quaternions w, x, y, z given to `create_actor`."""
    return np.array([[np.concatenate([a.pos, a.quat]) for a in env.actors] for env in world.envs])


def root_velocities(world: World) -> np.ndarray:
    """(N, A, 6): velocities of centres of mass and angular velocities of roots, along world axes,
    that the program set before `prepare_sim`."""
    return np.array([[a.root_velocity for a in env.actors] for env in world.envs])


def env_offsets(world: World) -> np.ndarray:
    """(N, 3) [m] from the physics frame of each environment to the frame that programs see: its
    place in the world if the ground is not flat, else zero, which is best for single precision."""
    origins = np.array([env.origin for env in world.envs])
    flat = all(_is_flat(piece, origins) for piece in world.grounds)
    return np.zeros_like(origins) if flat else origins


def _is_flat(piece: Ground, origins: np.ndarray) -> bool:
    """Whether the ground looks the same from all origins."""
    return piece.kind == "plane" and not (origins @ list(piece.params.normal)).any()
