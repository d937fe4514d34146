"""Compiles MuJoCo Warp's kernels in parallel, and reports progress.

    load_together(lambda: mjw.step(m, d), m.opt)   # then the step finds every kernel loaded

Warp compiles a module of kernels when one of them is first launched, so a first step compiles
dozens, one after the other. Here a dry run of the step records the modules without launching
anything, and threads compile them (the compilers are C++ and release the GIL). If that takes long
and nobody listens to its progress, it is logged. Modules that only a step with other data launches
are still compiled at their first launch.
"""

import contextlib
import logging
import os
import time
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from pathlib import Path
from typing import Any

from phalanx.compute.start_warp import init_warp

log = logging.getLogger(__name__)
SECONDS_BETWEEN_WORDS = 0.5
QUICK_S = 1.0
"""Loading compiled kernels takes less than this time, compiling them takes longer [s]."""
CACHED = "Warp caches them for the next start"
_listeners: list[Callable[[int, int], None]] = []


@contextlib.contextmanager
def progress(listener: Callable[[int, int], None]) -> Iterator[None]:
    """Inside, `listener(loaded, modules)` is called with the number of modules loaded so far and
    their total: once at the start, then at every change and at least every half second."""
    _listeners.append(listener)
    try:
        yield
    finally:
        _listeners.remove(listener)


def load_together(step: Callable[[], None], opt: Any) -> None:
    """Load every module that `step` launches on a model with options `opt`, compiling at most one
    module per core at a time."""
    loads = _launched_by(step, opt)
    began, said = time.perf_counter(), bool(_listeners)
    _report_progress(0, len(loads))
    with ThreadPoolExecutor(max(1, min(len(loads), os.cpu_count() or 1))) as pool:
        pending = {pool.submit(module.load, device, dim) for module, device, dim in loads}
        try:
            while pending:
                done, pending = wait(pending, SECONDS_BETWEEN_WORDS, FIRST_COMPLETED)
                for future in done:
                    future.result()
                _report_progress(len(loads) - len(pending), len(loads))
                if pending and not said and time.perf_counter() - began > QUICK_S:
                    said = True
                    log.warning("compiling %d modules of kernels; %s", len(loads), CACHED)
        except BaseException:  # Ctrl-C among them; nobody waits for those that have not begun
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def _report_progress(loaded: int, modules: int) -> None:
    for listener in _listeners:
        listener(loaded, modules)


def cached_modules() -> int:
    """Modules in Warp's kernel cache on this machine, and steps of the fused engine."""
    import warp as wp

    init_warp()  # sets the location of the cache
    cache = Path(wp.config.kernel_cache_dir)
    return sum(1 for pattern in ("wp_*", "phalanx/*.*") for _ in cache.glob(pattern))


def _launched_by(step: Callable[[], None], opt: Any) -> list[tuple[Any, Any, Any]]:
    """(module, device, block_dim) of every launch in `step`, and of every kernel whose block size
    it asks for, without launching or compiling any. What takes longest to compile comes first."""
    import warp as wp
    from warp._src.context import Module

    noted: dict[tuple[Any, str, Any], tuple[Any, Any, Any]] = {}
    asked: set[Any] = set()

    def note(module: Any, device: Any, block_dim: Any = None, *rest: Any, **more: Any) -> None:
        block_dim = module.options["block_dim"] if block_dim is None else block_dim
        noted[module, str(device), block_dim] = (module, device, block_dim)
        # Returning None makes Warp skip the launch.

    def suggest(kernel: Any, device: Any = None) -> tuple[int, int]:
        """Instead of Warp's answer, for which it would compile the kernel, and which only sets the
        size of a launch. MuJoCo Warp asks about convex collisions, each 20 s of compiling."""
        device = wp.get_device(device)
        if device.is_cuda:
            note(kernel.module, device)
            asked.add(kernel.module)
        return 1, 1

    load, loop, iterations = Module.load, opt.graph_conditional, opt.iterations
    suggested = wp.get_suggested_block_size
    # The solver loops until its kernels report convergence; one pass is enough here.
    opt.graph_conditional, opt.iterations = False, min(1, iterations)
    Module.load, wp.get_suggested_block_size = note, suggest
    try:
        step()
    finally:
        Module.load, wp.get_suggested_block_size = load, suggested
        opt.graph_conditional, opt.iterations = loop, iterations
    return sorted(noted.values(), key=lambda at: (at[0] not in asked, -len(at[0].kernels)))
