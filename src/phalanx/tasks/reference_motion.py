"""Motion clips as tables of a robot's whole state, a row for each control step.

    self.reference = ReferenceMotion(config.motion_file, model, "robot", BODIES, dt, device)
    row = self.reference.rows(frame)            # joint_pos, body_pos, ... of frames (N,)

Made once from the clips of `phalanx.motion`, by MuJoCo's kinematics; looking rows up has fixed
shapes and does not wait for the device.
"""

import os
from collections.abc import Sequence
from typing import NamedTuple

import mujoco
import numpy as np
import torch
from torch import Tensor

from phalanx.errors import PhalanxError
from phalanx.motion.library import MotionLibrary
from phalanx.sim.assets import load_robot
from phalanx.tasks.locomotion import rotation_matrix


class Rows(NamedTuple):
    """States at n frames, world frame, z up; B bodies and J joints."""

    qpos: Tensor
    """(n, 7 + J) of the robot: position [m], quaternion w, x, y, z, joint angles [rad]."""
    qvel: Tensor
    """(n, 6 + J), as in MuJoCo: turning is in the frame of the root."""
    body_pos: Tensor
    """(n, B, 3) [m]."""
    body_mat: Tensor
    """(n, B, 3, 3), body to world."""
    body_lin_vel: Tensor
    """(n, B, 3) [m/s], of the bodies' origins."""
    body_ang_vel: Tensor
    """(n, B, 3) [rad/s], world frame."""


class ReferenceMotion:
    """All frames of all clips, one after the other. Raises PhalanxError for a file that cannot be
    read or does not fit the robot, and for a body that it does not have."""

    def __init__(
        self,
        files: Sequence[str | os.PathLike[str]],
        asset: str,
        joints: Sequence[str],
        bodies: Sequence[str],
        dt: float,
        device: torch.device,
    ) -> None:
        model = load_robot(asset).compile()
        library = MotionLibrary(files, model, bodies[:1])
        if missing := [j for j in joints if j not in library.joint_names]:
            raise PhalanxError(f"the motion has no joint {missing[0]!r} of the robot")
        order = [library.joint_names.index(j) for j in joints]
        ids = [library.robot.body_ids[library.robot.body(b)] for b in bodies]
        data, tables = mujoco.MjData(model), []
        lengths = []
        for clip in range(library.num_motions):
            lengths.append(int(library.lengths[clip] / dt + 1e-6) + 1)
            times = torch.arange(lengths[-1]) * dt
            state = library.state(torch.full((lengths[-1],), clip), times)
            turn = rotation_matrix(state.root_quat).transpose(1, 2) @ state.root_ang_vel[..., None]
            pos = torch.cat([state.root_pos, state.root_quat, state.joint_pos[:, order]], 1)
            vel = torch.cat([state.root_lin_vel, turn[:, :, 0], state.joint_vel[:, order]], 1)
            for qpos, qvel in zip(pos.double().numpy(), vel.double().numpy(), strict=True):
                tables.append([qpos, qvel, *_kinematics(model, data, qpos, qvel, ids)])
        self._tables = [
            torch.tensor(np.array(column), dtype=torch.float32, device=device)
            for column in zip(*tables, strict=True)
        ]
        ends = np.cumsum(lengths)
        self.num_frames = int(ends[-1])
        last = np.repeat(ends - 1, lengths)
        self.last = torch.tensor(last, dtype=torch.long, device=device)
        """(F,) the last frame of the clip to which a frame belongs."""

    def rows(self, frames: Tensor) -> Rows:
        """The states at frames (n,)."""
        return Rows(*(table[frames] for table in self._tables))


def _kinematics(
    model: mujoco.MjModel, data: mujoco.MjData, qpos: np.ndarray, qvel: np.ndarray, ids: list[int]
) -> list[np.ndarray]:
    """Positions, matrices, velocities and rates of bodies `ids`, as in `Rows`."""
    data.qpos[:], data.qvel[:] = qpos, qvel
    mujoco.mj_kinematics(model, data)
    mujoco.mj_comPos(model, data)
    mujoco.mj_comVel(model, data)
    velocity, both = np.zeros((len(ids), 6)), np.zeros(6)
    for k, body in enumerate(ids):
        mujoco.mj_objectVelocity(model, data, mujoco.mjtObj.mjOBJ_XBODY, body, both, 0)
        velocity[k] = both
    mat = data.xmat[ids].reshape(-1, 3, 3).copy()
    return [data.xpos[ids].copy(), mat, velocity[:, 3:].copy(), velocity[:, :3].copy()]
