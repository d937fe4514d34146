"""How this processor multiplies bfloat16: by tiles (Intel's AMX, in servers since 2023), by vectors
(AVX512_BF16, in AMD's processors since 2022 and in Intel's servers), or not at all."""

import ctypes
import functools
import platform
from pathlib import Path

_ARCH_PRCTL, _ASK, _TILE_DATA = 158, 0x1023, 18
"""Linux on x86-64: a process asks once for the tiles' registers, before it uses them."""


@functools.cache
def _words() -> frozenset[str]:
    """The words of Linux's description of an x86-64 processor; none elsewhere."""
    if platform.system() != "Linux" or platform.machine() != "x86_64":
        return frozenset()
    try:
        return frozenset(Path("/proc/cpuinfo").read_text("utf-8").split())
    except OSError:
        return frozenset()


def has_vectors() -> bool:
    """Whether its vectors multiply pairs of bfloat16."""
    return "avx512_bf16" in _words()


@functools.cache
def has_tiles() -> bool:
    """Whether it has tiles, and the system lets this process use them."""
    if not {"amx_bf16", "avx512_bf16"} <= _words():
        return False
    return bool(ctypes.CDLL(None).syscall(_ARCH_PRCTL, _ASK, _TILE_DATA) == 0)
