"""Whether this processor multiplies matrices of bfloat16 by tiles: Intel's AMX, in servers since
2023."""

import ctypes
import functools
import platform
from pathlib import Path

_ARCH_PRCTL, _ASK, _TILE_DATA = 158, 0x1023, 18
"""Linux on x86-64: a process asks once for the tiles' registers, before it uses them."""


@functools.cache
def has_tiles() -> bool:
    """True if it does, and the system lets this process use them."""
    if platform.system() != "Linux" or platform.machine() != "x86_64":
        return False
    try:
        flags = Path("/proc/cpuinfo").read_text("utf-8")
    except OSError:
        return False
    if "amx_bf16" not in flags or "avx512_bf16" not in flags:
        return False
    return bool(ctypes.CDLL(None).syscall(_ARCH_PRCTL, _ASK, _TILE_DATA) == 0)
