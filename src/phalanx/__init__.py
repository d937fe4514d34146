"""Phalanx: thousands of robots learning in parallel, on MuJoCo and PyTorch."""

import os

__version__ = "0.1.0"

# Physics threads and PyTorch's share the cores, often with other programs. PyTorch's OpenMP threads
# spin while they wait unless told otherwise before torch is imported; on two cores with a third
# busy program that made training four times slower.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
