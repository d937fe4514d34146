"""Phalanx: thousands of robots learning in parallel, on MuJoCo and PyTorch."""

import os

from phalanx import environments

__version__ = "0.1.0"

# Physics threads and PyTorch's threads share the cores, often with other programs. PyTorch's OpenMP
# threads spin for milliseconds while they wait, unless this is changed before torch is imported. On
# two cores with a third busy program that halved the training speed. Without spinning, a recurrent
# network is a third slower, since waking a thread takes longer than most of its work. So: 0.2 ms.
if "OMP_WAIT_POLICY" not in os.environ:
    os.environ.setdefault("GOMP_SPINCOUNT", "12000")

# The environments that come with Phalanx. They are registered here, the one module that knows every
# layer: the learner finds environments by name and does not depend on them.
environments.register("rlgpu", "phalanx.tasks:make_from_config")  # the name in IsaacGymEnvs' files
environments.register("gymnasium", "phalanx.rl.gymnasium_env:make")
environments.register("isaacgymenvs", "phalanx.adapters.isaacgymenvs:make")
