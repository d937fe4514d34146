"""Phalanx: thousands of robots learning in parallel, on MuJoCo and PyTorch."""

import os

__version__ = "0.1.0"

# Physics threads and PyTorch's share the cores, often with other programs. PyTorch's OpenMP threads
# spin for milliseconds while they wait, unless told otherwise before torch is imported; on two
# cores with a third busy program that made training four times slower. Not to spin at all costs a
# fifth on idle cores, since waking a thread takes longer than most of torch's work. So: some 50 us.
if "OMP_WAIT_POLICY" not in os.environ:
    os.environ.setdefault("GOMP_SPINCOUNT", "3000")
