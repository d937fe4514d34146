"""Phalanx: thousands of robots learning in parallel, on MuJoCo and PyTorch."""

import os

from phalanx import environments

__version__ = "0.1.0"

# Physics threads and PyTorch's share the cores, often with other programs. PyTorch's OpenMP threads
# spin for milliseconds while they wait, unless told otherwise before torch is imported; on two
# cores with a third busy program that halved the speed of training. Not to spin at all costs a
# recurrent network a third, since waking a thread takes longer than most of its work. So: 0.2 ms.
if "OMP_WAIT_POLICY" not in os.environ:
    os.environ.setdefault("GOMP_SPINCOUNT", "12000")

# The environments that come with Phalanx. They are registered here, where every layer is known: the
# learner asks for an environment by name and needs to know none of them.
environments.register("rlgpu", "phalanx.tasks:make_from_config")  # the name in IsaacGymEnvs' files
environments.register("gymnasium", "phalanx.rl.gymnasium_env:make")
environments.register("isaacgymenvs", "phalanx.adapters.isaacgymenvs:make")
