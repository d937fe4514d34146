"""Starts Warp quietly."""

import os
import sys
import tempfile

import torch
import warp as wp

NO_DRIVER = b"Could not find or load the NVIDIA CUDA driver"
_started = False


def init_warp() -> None:
    """Start Warp without its greeting, and on a machine without a GPU without the warning that it
    has none, which Warp's library writes to standard error by itself."""
    global _started
    wp.config.log_level = wp.LOG_WARNING
    if torch.cuda.is_available() or _started:
        wp.init()
        return
    _started = True
    sys.stderr.flush()
    own = os.dup(2)
    with tempfile.TemporaryFile() as said:
        os.dup2(said.fileno(), 2)
        try:
            wp.init()
        finally:
            os.dup2(own, 2)
            os.close(own)
            said.seek(0)
            rest = [line for line in said if NO_DRIVER not in line]
            os.write(2, b"".join(rest))
