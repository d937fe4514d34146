"""MuJoCo Warp's kernels compiled side by side, with word of how far that is.

    load_together(lambda: mjw.step(m, d), m.opt)   # then the step finds every kernel loaded

Warp compiles a module of kernels when one of them is first launched, so a first step compiles
dozens, one after the other. Here a step runs without launching anything, which notes the modules,
and threads compile them (the compilers are C++ and let go of Python's lock). What a step with other
data would launch besides is still compiled when that happens.
"""

import contextlib
import os
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from pathlib import Path
from typing import Any

SECONDS_BETWEEN_WORDS = 0.5
_listeners: list[Callable[[int, int], None]] = []


@contextlib.contextmanager
def progress(listener: Callable[[int, int], None]) -> Iterator[None]:
    """Inside, `listener(loaded, modules)` is told how many of the modules that load together are
    loaded: none at the beginning, then at every change and at least every half second."""
    _listeners.append(listener)
    try:
        yield
    finally:
        _listeners.remove(listener)


def load_together(step: Callable[[], None], opt: Any) -> None:
    """Load what `step` launches on a model with options `opt`, compiling at most one module a core
    at a time."""
    loads = _launched_by(step, opt)
    loads.sort(key=lambda load: -len(load[0].kernels))  # the longest first, so that none comes last
    _tell(0, len(loads))
    with ThreadPoolExecutor(max(1, min(len(loads), os.cpu_count() or 1))) as pool:
        pending = {pool.submit(module.load, device, dim) for module, device, dim in loads}
        while pending:
            done, pending = wait(pending, SECONDS_BETWEEN_WORDS, FIRST_COMPLETED)
            for future in done:
                future.result()
            _tell(len(loads) - len(pending), len(loads))


def _tell(loaded: int, modules: int) -> None:
    for listener in _listeners:
        listener(loaded, modules)


def compiled() -> int:
    """Modules in Warp's kernel cache on this machine."""
    import warp as wp

    wp.config.log_level = wp.LOG_WARNING
    wp.init()  # which decides where the cache is
    return sum(1 for path in Path(wp.config.kernel_cache_dir).glob("wp_*") if path.is_dir())


def _launched_by(step: Callable[[], None], opt: Any) -> list[tuple[Any, Any, Any]]:
    """(module, device, block_dim) of every launch in `step`, which launches nothing."""
    from warp._src.context import Module

    noted: dict[tuple[Any, str, Any], tuple[Any, Any, Any]] = {}

    def note(module: Any, device: Any, block_dim: Any = None, *rest: Any, **more: Any) -> Any:
        if device.is_cuda and block_dim is None:  # asked for its occupancy, not for a launch
            return load(module, device, block_dim, *rest, **more)
        # Returns nothing, whereupon Warp launches nothing.
        noted[module, str(device), block_dim] = (module, device, block_dim)
        return None

    load, loop, iterations = Module.load, opt.graph_conditional, opt.iterations
    # The solver's loop ends when its kernels say so; here one pass is all.
    opt.graph_conditional, opt.iterations = False, min(1, iterations)
    Module.load = note
    try:
        step()
    finally:
        Module.load = load
        opt.graph_conditional, opt.iterations = loop, iterations
    return list(noted.values())
