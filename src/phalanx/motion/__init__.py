"""Recorded motions for robots to imitate: clips from files and built-in gaits, as tensors."""

from phalanx.motion.clip import Clip, write_json
from phalanx.motion.library import MotionLibrary, MotionState, load_clip
from phalanx.motion.robot import Robot

__all__ = ["Clip", "MotionLibrary", "MotionState", "Robot", "load_clip", "write_json"]
