"""Isaac Gym's Python API on Phalanx: programs written for Isaac Gym run as they are.

    from isaacgym import gymapi, gymtorch, gymutil

Unlike the original, this package may be imported before or after `torch`.
"""

import os

import phalanx  # noqa: F401  before torch: it tells OpenMP not to spin for long

if os.environ.get("ISAACGYM_COMPAT", "0") not in ("", "0"):
    from isaacgym import compat

    compat.activate()
