"""A function's torch operations on a CPU, recorded once, then run as one compiled function.

    step = Recorded(function, N, 2)      # calls the function
    step()                               # does the same, compiled, for N rows on 2 threads

It is to a CPU what a CUDA graph is to a GPU: the function has fixed shapes, masks instead of
branches on values, and buffers that are written in place. Without this, hundreds of small
operations take most of the time, each on all rows and on one core. Compiled, a block of rows goes
through all of them while it is in a core's cache, and cores share the rows. `recorded_c.py` knows
the operations that compute each row from that row, or from a table that none of them writes to, and
those on a few numbers that all rows share; torch does the others, as random numbers, in between. An
index beyond its tensor, which torch refuses, reads the nearest element.
"""

import ctypes
import weakref
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from phalanx.compute import clang, team
from phalanx.compute.recorded_c import (
    BLOCK,
    Statement,
    View,
    called,
    source_of,
    statement,
    statement_alone,
    together,
)
from phalanx.compute.rows import by_masks

_BRANCHES = ("_local_scalar_dense", "nonzero", "masked_select", "equal", "is_nonzero", "item")
"""Operations whose results the host, or a shape, depends on."""


class NotRecordable(RuntimeError):
    """A function does something that the next call may do differently."""


_TORCH, _ALONE, _ROWS = range(3)
"""Who does an operation, in this order again and again: torch; C, on a few numbers that all rows
share; C, on each row by itself."""


@dataclass
class _Call:
    """One operation: `function(*args, **kwargs)`, which returned `out`."""

    function: Any
    in_place: bool
    args: Any
    kwargs: Any
    out: Any
    reads: set[int]  # memory by address
    writes: set[int]
    kind: int
    code: str | None
    rows: Statement | None
    phase: int = 0  # of 0, 3, 6, ... if torch does it, and so on


class _Recorder(TorchDispatchMode):
    def __init__(self) -> None:
        super().__init__()
        self.calls: list[tuple[Any, Any, Any, Any]] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name, _ = called(func)
        masks = name.startswith("index") and any(t.dtype == torch.bool for t in _tensors(args[1]))
        if name in _BRANCHES or masks:
            raise NotRecordable(f"{name}{' by a mask' * masks} makes the step depend on values")
        out = func(*args, **(kwargs or {}))
        self.calls.append((func, args, kwargs or {}, out))
        return out


class Recorded:
    """`function(*inputs)`, which is called once, to record it. Calls of this object do what it did
    with their own inputs, of the same shapes, and return its result, always in the same tensors.
    rows: the environments, which is the length of one dimension of most tensors. Raises
    NotRecordable, or PhalanxError if Warp's clang fails to compile it."""

    def __init__(
        self, function: Callable[..., Any], rows: int, threads: int, *inputs: Tensor
    ) -> None:
        self._rows, self._threads = rows, threads
        self._inputs = [x.clone() for x in inputs]
        recorder = _Recorder()
        with torch.no_grad(), by_masks(), recorder:
            self._result = function(*self._inputs)
        self._phases = self._compile(recorder)

    @torch.no_grad()
    def __call__(self, *inputs: Tensor) -> Any:
        for own, given in zip(self._inputs, inputs, strict=True):
            own.copy_(given)
        for phase in self._phases:
            phase()
        return self._result

    def _compile(self, recorder: _Recorder) -> list[Callable[[], object]]:
        """The phases in turn. Memory that the function made, that one phase of rows alone uses, and
        that nobody keeps, becomes a thread's own scratch."""
        rows = self._rows
        written = {at for call in recorder.calls for at in _written(*call)}
        calls = [c for c in (_described(*call, rows, written) for call in recorder.calls) if c]
        _order(calls)
        tensors = {id(t): t for call in recorder.calls for t in _tensors(call[1:])}
        made = {at for c in calls if not c.in_place for at in c.writes}
        phases = defaultdict(set)
        c: _Call | None = None  # which `del` below removes, also where there was no call
        for c in calls:
            for at in c.reads | c.writes:
                phases[at].add(c.phase)
        within = {at for at in made if len(phases[at]) == 1 and max(phases[at]) % 3 == _ROWS}
        within -= {_address(t) for t in tensors.values() if not View(t).by_row(rows)}
        kept = [t for t in tensors.values() if _address(t) not in within]
        perhaps = [t for t in tensors.values() if _address(t) in within]
        sizes = {_address(t): t.untyped_storage().nbytes() // rows for t in perhaps}
        watched = [weakref.ref(t) for t in perhaps]
        steps: list[list[Any]] = [[] for _ in range(1 + max((c.phase for c in calls), default=0))]
        changed: list[dict[int, Tensor]] = [{} for _ in steps]
        for c in calls:
            steps[c.phase].append(_again(c) if c.code is None else c.code)
            if c.code is not None and c.in_place:
                changed[c.phase] |= {_address(c.out): c.out} if not c.writes <= within else {}
        # What is still there after this is somebody's, and it may change in any step.
        recorder.calls.clear()
        del tensors, perhaps, calls, c
        kept += [t for ref in watched if (t := ref()) is not None]
        shared = list(dict.fromkeys(at for at in map(_address, kept) if at in phases))
        local = {at: n for at, n in sizes.items() if at not in set(shared)}
        self._kept = kept
        compiled = [k for k, texts in enumerate(steps) if k % 3 != _TORCH and texts]
        text, scratch = source_of({k: steps[k] for k in compiled}, shared, local)
        word, long = ctypes.c_void_p, ctypes.c_long
        names = {f"phase_{k}": (None, word, word, long, long) for k in compiled}
        functions = clang.functions(text, names)
        calling = self._calling(np.array(shared, np.int64), scratch)
        found: list[Callable[[], object]] = []
        for k in range(len(steps)):
            if k in compiled:
                function, writes = functions[f"phase_{k}"], list(changed[k].values())
                found.append(calling(function, k % 3 == _ROWS, writes))
            else:
                found += steps[k]
        return found

    def _calling(self, table: np.ndarray, scratch: int) -> Callable[..., Callable[[], None]]:
        """What makes a phase of a compiled function. on_rows: threads share the rows, whole blocks
        each; else it runs once. table: of addresses."""
        memories = [torch.zeros(scratch + 64, dtype=torch.uint8) for _ in range(self._threads)]
        own = [m.data_ptr() + -m.data_ptr() % 64 for m in memories]
        parts = team.parts(self._rows, own, BLOCK)
        on_threads = parts[parts[:, 1] < parts[:, 2]]
        once = np.array([[own[0], 0, 1]], np.int64)
        self._scratch = (table, memories)

        def phase(function: Any, on_rows: bool, changed: list[Tensor]) -> Callable[[], None]:
            at = clang.address(function)

            def run() -> None:
                team.run(at, table.ctypes.data, on_threads if on_rows else once)
                torch.autograd.graph.increment_version(changed)  # as torch's own writes do

            return run

        return phase


def _written(function: Any, args: Any, kwargs: Any, out: Any) -> set[int]:
    """The memory that a call writes to; none if its result is a view."""
    writes = {_address(t) for t in _tensors(out) if t.numel()}
    reads = {_address(t) for t in _tensors((args, kwargs)) if t.numel()}
    return writes if called(function)[1] or not writes <= reads else set()


def _described(
    function: Any, args: Any, kwargs: Any, out: Any, rows: int, written: set[int]
) -> _Call | None:
    """None for what moves no numbers."""
    writes = _written(function, args, kwargs, out)
    if not writes:
        return None
    reads = {_address(t) for t in _tensors((args, kwargs)) if t.numel()}
    in_place = called(function)[1]
    on_rows = statement(function, args, kwargs, out, rows, written)
    alone = None if on_rows else statement_alone(function, args, kwargs, out)
    kind = _ROWS if on_rows else _ALONE if alone else _TORCH
    code = on_rows.text if on_rows else alone
    return _Call(function, in_place, args, kwargs, out, reads, writes, kind, code, on_rows)


def _order(calls: list[_Call]) -> None:
    """Give each call the first phase in which all that it needs is there, from any row."""
    written: dict[int, int] = defaultdict(int)
    read: dict[int, int] = defaultdict(int)
    seen: dict[tuple[int, int], list[Statement]] = defaultdict(list)  # by phase and memory
    for c in calls:
        before = [written[at] for at in c.reads | c.writes] + [read[at] for at in c.writes]
        c.phase = max(before, default=0)
        c.phase += (c.kind - c.phase) % 3
        if c.rows:
            memories = c.reads | c.writes
            while any(_crosses(c.rows, seen[c.phase, at], at) for at in memories):
                c.phase += 3
            for at in memories:
                seen[c.phase, at].append(c.rows)
        for at in c.reads:
            read[at] = max(read[at], c.phase)
        for at in c.writes:
            written[at] = max(written[at], c.phase)


def _crosses(one: Statement, others: list[Statement], at: int) -> bool:
    """Whether a row of one statement needs what another row of the others writes, or the reverse,
    in the memory at `at`."""
    for other in others:
        writes = [s.writes[at] for s in (one, other) if at in s.writes]
        reads = [s.reads[at] for s in (one, other) if at in s.reads]
        if writes and not together(*writes, *reads):
            return True
    return False


def _again(call: _Call) -> Callable[[], Any]:
    """The call's operation with the same memory."""
    function, args, kwargs, out = call.function, call.args, call.kwargs, call.out
    if call.in_place:
        return lambda: function(*args, **kwargs)
    if function is torch.ops.aten.rand.default:
        return lambda: out.uniform_()
    if isinstance(out, Tensor):
        return lambda: out.copy_(function(*args, **kwargs))
    return lambda: [a.copy_(b) for a, b in zip(out, function(*args, **kwargs), strict=True)]


def _address(tensor: Tensor) -> int:
    return tensor.untyped_storage().data_ptr()


def _tensors(values: Any) -> list[Tensor]:
    if isinstance(values, Tensor):
        return [values]
    if isinstance(values, dict):
        values = list(values.values())
    return [t for v in values for t in _tensors(v)] if isinstance(values, list | tuple) else []
