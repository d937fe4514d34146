"""A robot's bodies and hinges by name, and its forward kinematics, for motions.

    robot = Robot(model)                       # any mujoco.MjModel with a free root and hinges
    pose = robot.kinematics(root_pos, root_quat, joint_pos)
    pose.lowest.min()                          # height of the lowest point over all frames

Names are those of the robot's file, without a scene's prefix: body `humanoid/pelvis` is `pelvis`.
Joint angles are in the order of the robot's hinges, as in `sim.actor(...).joint_pos`.
"""

import itertools
from dataclasses import dataclass

import mujoco
import numpy as np

from phalanx.errors import PhalanxError, did_you_mean
from phalanx.motion.rotation import Array, conjugate, hinge_angles, multiply

GROUND_TYPES = (mujoco.mjtGeom.mjGEOM_PLANE, mujoco.mjtGeom.mjGEOM_HFIELD)


@dataclass(frozen=True)
class Kinematics:
    """MuJoCo's poses of the B bodies in T frames, world frame."""

    pos: Array
    """(T, B, 3) [m], origins of the bodies."""
    quat: Array
    """(T, B, 4), w, x, y, z."""
    lowest: Array
    """(T,) [m], height of the lowest point of any geom."""


class Robot:
    """Bodies and hinges of the robot in a model, which is the first free body with hinges below it.

    bodies: names, root first. joints: names of the hinges. limits: (J, 2) [rad], infinite for a
    hinge without limits. Raises PhalanxError for a model without such a robot, or one with other
    joints.
    """

    def __init__(self, model: mujoco.MjModel) -> None:
        self.model = model
        self._data = mujoco.MjData(model)
        root, joint_ids = self._find(model)
        self.body_ids = np.flatnonzero(model.body_rootid == root)
        self.bodies = [_short(model.body(i).name) for i in self.body_ids]
        self.joints = [_short(model.joint(i).name) for i in joint_ids]
        limited = model.jnt_limited[joint_ids].astype(bool)[:, None]
        self.limits = np.where(limited, model.jnt_range[joint_ids], [-np.inf, np.inf])
        self._root_adr = model.jnt_qposadr[model.body_jntadr[root]]
        self._joint_adr = model.jnt_qposadr[joint_ids]
        self._rest = model.qpos0[self._joint_adr]
        index = {b: i for i, b in enumerate(self.body_ids)}
        self.parents = [-1] + [index[model.body_parentid[b]] for b in self.body_ids[1:]]
        self.hinges = [np.flatnonzero(model.jnt_bodyid[joint_ids] == b) for b in self.body_ids]
        """Indices in `joints` of each body's hinges, the one nearest to the parent first."""
        self._axes = model.jnt_axis[joint_ids]
        self.offset_quat = model.body_quat[self.body_ids]
        """(B, 4) rotation of each body in its parent with its hinges at zero."""
        for body, hinges in zip(self.bodies, self.hinges, strict=True):
            across = self._axes[hinges] @ self._axes[hinges].T
            if len(hinges) > 3 or not np.allclose(across, np.eye(len(hinges)), atol=1e-4):
                raise PhalanxError(
                    f"body {body!r} has {len(hinges)} hinges whose axes are not at right angles;"
                    " motions need robots with at most three orthogonal hinges per body"
                )

    @staticmethod
    def _find(model: mujoco.MjModel) -> tuple[int, list[int]]:
        free, hinge = mujoco.mjtJoint.mjJNT_FREE, mujoco.mjtJoint.mjJNT_HINGE
        for j in np.flatnonzero(model.jnt_type == free):
            root = int(model.jnt_bodyid[j])
            own = np.flatnonzero(model.body_rootid[model.jnt_bodyid] == root)
            others = [int(i) for i in own if i != j]
            if others and all(model.jnt_type[i] == hinge for i in others):
                return root, others
        raise PhalanxError(
            "the model has no robot for a motion: a body with a free joint and only hinges below it"
        )

    def body(self, name: str) -> int:
        """The index of a body in `bodies`. Raises PhalanxError for an unknown name."""
        short = _short(name)
        if short not in self.bodies:
            raise PhalanxError(
                f"no body {name!r} in the robot{did_you_mean(short, self.bodies)};"
                f" bodies: {', '.join(self.bodies)}"
            )
        return self.bodies.index(short)

    def axis(self, body: int) -> Array:
        """Axis (3,) of a body's single hinge, in the body's frame."""
        return self._axes[self.hinges[body][0]]

    def qpos(self, root_pos: Array, root_quat: Array, joint_pos: Array) -> Array:
        """MuJoCo's qpos (T, nq); everything else in the model stays in its initial pose. root_pos
        (T, 3) [m], root_quat (T, 4), joint_pos (T, J) [rad]."""
        qpos = np.tile(self.model.qpos0, (len(root_pos), 1))
        qpos[:, self._root_adr : self._root_adr + 3] = root_pos
        qpos[:, self._root_adr + 3 : self._root_adr + 7] = root_quat
        qpos[:, self._joint_adr] = joint_pos
        return qpos

    def kinematics(self, root_pos: Array, root_quat: Array, joint_pos: Array) -> Kinematics:
        """MuJoCo's forward kinematics. root_pos (T, 3) [m], root_quat (T, 4), joint_pos (T, J)
        [rad]."""
        data, ids = self._data, self.body_ids
        pos, quat, lowest = [], [], []
        for qpos in self.qpos(root_pos, root_quat, joint_pos):
            data.qpos[:] = qpos
            mujoco.mj_kinematics(self.model, data)
            pos.append(data.xpos[ids])
            quat.append(data.xquat[ids])
            lowest.append(self._lowest())
        return Kinematics(np.array(pos), np.array(quat), np.array(lowest))

    def joint_angles(self, local_quat: Array) -> Array:
        """Angles (T, J) [rad] that give each body the rotation `local_quat`, (T, B, 4), in its
        parent; see `hinge_angles` for bodies with fewer than three hinges."""
        turn = multiply(conjugate(self.offset_quat), local_quat)
        angles = np.zeros((len(local_quat), len(self.joints)))
        for b, hinges in enumerate(self.hinges):
            if len(hinges):
                limits = self.limits[hinges] - self._rest[hinges, None]
                angles[:, hinges] = hinge_angles(turn[:, b], self._axes[hinges], limits)
        return angles + self._rest

    def rest(self) -> Kinematics:
        """One frame, T = 1: root at the origin without rotation, all joints at the file's pose."""
        return self.kinematics(np.zeros((1, 3)), np.array([[1.0, 0, 0, 0]]), self._rest[None])

    def _lowest(self) -> float:
        return min((self._geom_points(g)[:, 2].min() for g in self.geoms), default=0.0)

    @property
    def geoms(self) -> list[int]:
        """Ids of the robot's colliding geoms, or of all if none collides."""
        model = self.model
        own = [g for g in range(model.ngeom) if model.geom_bodyid[g] in self.body_ids]
        own = [g for g in own if model.geom_type[g] not in GROUND_TYPES]
        return [g for g in own if model.geom_contype[g] or model.geom_conaffinity[g]] or own

    def _geom_points(self, geom: int) -> Array:
        """Points (P, 3) [m], world frame, that include the geom's lowest point."""
        local, radius = geom_points(self.model, geom)
        points = self._data.geom_xpos[geom] + local @ self._data.geom_xmat[geom].reshape(3, 3).T
        return points - [0.0, 0.0, radius]


def geom_points(model: mujoco.MjModel, geom: int) -> tuple[Array, float]:
    """A geom as the convex hull of balls: their centres (P, 3) [m] in the geom's frame, and their
    radius [m]. Accurate to a millimetre for cylinders and ellipsoids."""
    kind, size = model.geom_type[geom], model.geom_size[geom]
    if kind == mujoco.mjtGeom.mjGEOM_SPHERE:
        return np.zeros((1, 3)), size[0]
    if kind == mujoco.mjtGeom.mjGEOM_CAPSULE:
        return np.array([[0, 0, size[1]], [0, 0, -size[1]]]), size[0]
    if kind == mujoco.mjtGeom.mjGEOM_MESH:
        mesh = model.geom_dataid[geom]
        start = model.mesh_vertadr[mesh]
        return model.mesh_vert[start : start + model.mesh_vertnum[mesh]].astype(float), 0.0
    if kind == mujoco.mjtGeom.mjGEOM_CYLINDER:
        angle = np.linspace(0, 2 * np.pi, 48, endpoint=False)
        rim: Array = np.stack([size[0] * np.cos(angle), size[0] * np.sin(angle), 0 * angle], -1)
        return np.concatenate([rim + size[1] * np.eye(3)[2], rim - size[1] * np.eye(3)[2]]), 0.0
    if kind == mujoco.mjtGeom.mjGEOM_ELLIPSOID:
        i = np.arange(500) + 0.5
        height, turn = 1 - i / 250, np.pi * (1 + 5**0.5) * i
        ring = np.sqrt(1 - height**2)
        ball = np.stack([ring * np.cos(turn), ring * np.sin(turn), height], -1)
        return np.asarray(ball * size), 0.0
    corners = np.array(list(itertools.product((-1.0, 1.0), repeat=3)))
    return corners * size, 0.0


def _short(name: str) -> str:
    return name.rsplit("/", 1)[-1]
