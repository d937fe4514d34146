"""The machine code that ptxas makes of a step: whether threads of a warp wait for each other."""

import struct

import numpy as np

_READ_BACK = 0x356
"""BMOV.32, the lower 12 bits of its 16 bytes, from sm_75 to sm_120, NVIDIA's GPUs of 2018 to 2025.
`tests/test_fused_text_cuda.py` compares what is found with nvdisasm."""


def places_used_twice(cubin: bytes) -> int:
    """How often a place where threads wait for each other is read back from a register, as another
    wait had it meanwhile. More branches, loops and calls then lie around a call than a GPU has
    places for, and threads may go ahead of others; see `convex.h`. A place that a function gives
    back to its caller counts, too. cubin: an ELF file."""
    (start,) = struct.unpack_from("<Q", cubin, 0x28)
    size, count, names = struct.unpack_from("<HHH", cubin, 0x3A)
    # Of each section: name, type, flags, address, offset, size
    sections = [struct.unpack_from("<IIQQQQ", cubin, start + k * size) for k in range(count)]
    found = 0
    for name, _, _, _, offset, length in sections:
        if cubin.startswith(b".text.", sections[names][4] + name):
            halves = np.frombuffer(cubin, "<u2", length // 2, offset)
            found += int(((halves[::8] & 0xFFF) == _READ_BACK).sum())
    return found
