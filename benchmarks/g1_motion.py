"""Makes the clip that `G1Tracking` follows by default: the G1 goes into its knees and lifts its
arms.

    uv run python benchmarks/g1_motion.py src/phalanx/tasks/assets/g1_squat.json

The feet stay on the ground: hips and knees of both legs bend as a chain of two links, the ankles
keep the soles level. All follows one raised cosine of 2.5 s with half a second of standing at both
ends. No recording is used.
"""

import sys

import mujoco
import numpy as np

from phalanx.motion.clip import Clip
from phalanx.motion.json_file import write_json
from phalanx.motion.robot import Robot
from phalanx.tasks.g1_velocity import G1VelocityConfig

FPS, STAND, DOWN, LOWER = 25, 0.5, 2.5, 0.12
"""Frames per second; times of standing and of the movement [s]; depth of the squat [m]."""


def main(path: str) -> None:
    model = mujoco.MjModel.from_xml_path(G1VelocityConfig.asset)
    robot, home = Robot(model), np.array(model.key("home").qpos)
    time = np.arange(round((DOWN + 2 * STAND) * FPS) + 1) / FPS
    share = 0.5 - 0.5 * np.cos(2 * np.pi * np.clip((time - STAND) / DOWN, 0, 1))
    rows = np.tile(home, (len(time), 1))
    data = mujoco.MjData(model)

    def places(qpos: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        data.qpos[:] = qpos
        mujoco.mj_kinematics(model, data)
        return data.body("left_hip_pitch_link").xpos.copy(), data.body("left_ankle_roll_link").xpos

    def at(name: str) -> int:
        return int(model.joint(f"{name}_joint").qposadr[0])

    hip, foot = places(home)
    reach = float(hip[2] - foot[2])
    ahead = float(foot[0] - hip[0])
    pitches = [home[at(f"left_{j}")] for j in ("hip_pitch", "knee", "ankle_pitch")]
    level = sum(pitches)  # kept, so that the soles stay level
    for row, s in zip(rows, share, strict=True):
        row[2] -= LOWER * s
        best = None
        for bend in np.linspace(pitches[1], 2.2, 400):  # of the knee, until the ankle is in place
            for name in ("left", "right"):
                row[at(f"{name}_knee")] = bend
                row[at(f"{name}_hip_pitch")] = pitches[0] - 0.5 * (bend - pitches[1])
            hip, foot = places(row)
            off = abs(float(hip[2] - foot[2]) - (reach - LOWER * s))
            if best is None or off < best[0]:
                best = off, bend
        for name in ("left", "right"):
            row[at(f"{name}_knee")] = best[1]
            row[at(f"{name}_hip_pitch")] = pitches[0] - 0.5 * (best[1] - pitches[1])
            turn = row[at(f"{name}_hip_pitch")] + row[at(f"{name}_knee")]
            row[at(f"{name}_ankle_pitch")] = level - turn
            row[at(f"{name}_shoulder_pitch")] -= 1.2 * s
            row[at(f"{name}_elbow")] += 0.3 * s
        hip, foot = places(row)
        row[0] += ahead - float(foot[0] - hip[0])
    joints = rows[:, [at(j.removesuffix("_joint")) for j in robot.joints]]
    source = "benchmarks/g1_motion.py of Phalanx"
    parts = rows[:, :3], rows[:, 3:7], tuple(robot.joints), joints, source
    clip = Clip("g1_squat", FPS, False, *parts)
    write_json(clip, path)


if __name__ == "__main__":
    main(sys.argv[1])
