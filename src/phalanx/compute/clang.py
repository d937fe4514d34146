"""C++ source to callable functions at run time, by the clang inside Warp: no compiler is needed.

These are the private calls that Warp's own CPU kernels go through; `tests/test_fused.py` notices if
a Warp changes them.
"""

import ctypes
import hashlib
import os
import platform
import tempfile
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import warp as wp

from phalanx.compute.cache import NotCompiled, kept, set_aside
from phalanx.compute.start_warp import init_warp
from phalanx.errors import PhalanxError

FLAGS = "-fno-threadsafe-statics -w"
# This machine's own instructions if the compiler knows them, else those of any of its kind.
NATIVE = ("-march=native", "")
_loaded: set[bytes] = set()


def functions(
    source: str, signatures: Mapping[str, tuple[Any, ...]], fast_math: bool = False
) -> dict[str, Any]:
    """The C functions of `source` by name; signatures: result type, then argument types. fast_math:
    as if every number were finite, and sums could be taken in any order.
    Raises PhalanxError if Warp has no compiler for CPUs, and with the place of the source if that
    does not compile it."""
    from warp._src import context

    init_warp()
    llvm = context.runtime.llvm
    if llvm is None:
        raise PhalanxError("this Warp came without its compiler for CPUs")
    flags = f"-ffast-math {FLAGS}" if fast_math else FLAGS
    about = f"// {wp.__version__} {flags} {_processor()}"
    code = kept(f"{about}\n{source}", platform.machine(), partial(_compile, flags))
    handle = f"phalanx_{hashlib.sha256(code).hexdigest()[:16]}".encode()
    if handle not in _loaded:
        with tempfile.NamedTemporaryFile(suffix=".o") as file:
            file.write(code)
            file.flush()
            if llvm.wp_load_obj(os.fsencode(file.name), handle, False) != 0:
                raise PhalanxError("Warp does not load what its clang has compiled")
        _loaded.add(handle)
    llvm.wp_lookup.restype = ctypes.c_uint64
    return {
        name: ctypes.CFUNCTYPE(*types)(llvm.wp_lookup(handle, name.encode()))
        for name, types in signatures.items()
    }


def address(function: Any) -> int:
    """Where a function of `functions` is, for other C functions to call it."""
    found = ctypes.cast(function, ctypes.c_void_p).value
    assert found
    return found


def _compile(flags: str, source: str, _target: str) -> bytes:
    from warp._src import build

    code = set_aside(source, "code.cpp")
    built = code.with_suffix(".o")
    for native in NATIVE:
        both = f"{flags} {native}".strip()
        try:
            build.build_cpu(str(built), str(code), fast_math="-ffast" in flags, extra_flags=both)
            done = built.read_bytes()
        except Exception:
            continue
        for file in (built, code):
            file.unlink()
        code.parent.rmdir()
        return done
    raise NotCompiled("Warp's clang", code)


def _processor() -> str:
    """What compiled code depends on besides its source."""
    try:
        lines = Path("/proc/cpuinfo").read_text("utf-8").splitlines()
    except OSError:
        return platform.processor()
    named = (x for x in lines if x.lower().startswith(("flags", "features", "model name")))
    return " ".join(sorted(set(named)))
