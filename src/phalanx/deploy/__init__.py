"""Exported policies on a robot: numpy and onnxruntime are all it takes.

    policy = Policy("Ant.pth.onnx")
    command = policy.update(time, {"base_quat": ..., "joint_pos": {"hip_1": 0.1, ...}, ...})
    for joint, target in command.by_joint().items():
        ...

Neither torch nor mujoco is imported here; `phalanx.deploy.export` and `phalanx.deploy.trial`,
which need them, are imported by themselves. `docs/deploy.md` says what a robot's state holds.
"""

from phalanx.deploy.metadata import Metadata
from phalanx.deploy.policy import Command, Latency, Policy

__all__ = ["Command", "Latency", "Metadata", "Policy"]
