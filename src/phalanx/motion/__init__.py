"""Motion clips for robots to imitate, as tensors; two clips are shipped."""

from phalanx.motion.clip import Clip
from phalanx.motion.json_file import write_json
from phalanx.motion.library import MotionLibrary, MotionState, load_clip
from phalanx.motion.robot import Robot

__all__ = ["Clip", "MotionLibrary", "MotionState", "Robot", "load_clip", "write_json"]
