"""Runs exported policies on a robot, with numpy and onnxruntime alone.

    policy = Policy("Ant.pth.onnx")
    command = policy.update(time, {"base_quat": ..., "joint_pos": {"hip_1": 0.1, ...}, ...})
    for joint, target in command.by_joint().items():
        ...

Neither torch nor mujoco is imported here; `phalanx.deploy.export` and `phalanx.deploy.trial`, which
need them, must be imported explicitly. `docs/deploy.md` describes the robot's state.
"""

from phalanx.deploy.metadata import Metadata
from phalanx.deploy.policy import Command, Latency, Policy

__all__ = ["Command", "Latency", "Metadata", "Policy"]
