"""Threads that share a C function's work on the CPU: the caller's and, for all, the same helpers.

    run(function, task, parts)

calls `function(task, memory, first, last)` for each row of `parts`, of which the first is this
thread's. Between calls that follow each other closely, helpers wait awake (`team.h`); woken by the
system, each call would take some 50 microseconds longer, and an iteration of PPO makes hundreds.
"""

import ctypes
import os
import queue
import threading
import time
import weakref
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from phalanx.compute import clang
from phalanx.errors import PhalanxError

MOST = 1024
"""Helpers."""
AWAKE_S = 300e-6
"""How long a helper waits for the next call before it sleeps. A caller waits a tenth of it for
helpers, then sleeps. Where other programs use the same cores, helpers wait less."""
_SLEEP_S = 1e-4
_WORDS, _STATE, _PATIENCE = 16, 0, 1  # of `struct Helper`
_SLEEPS = 1


class Team:
    """Helpers, as many as the largest call needs. Raises PhalanxError if Warp's clang does not
    compile `team.h`."""

    def __init__(self) -> None:
        word, long = ctypes.c_void_p, ctypes.c_long
        compiled = clang.functions(
            Path(__file__).with_name("team.h").read_text("utf-8"),
            {
                "spend": (None, long),
                "share": (long, word, long, word, word, word, long),
                "unfinished": (long, word, long, long),
                "serve": (None, word, long),
            },
        )
        self._share, self._unfinished = compiled["share"], compiled["unfinished"]
        self._serve = compiled["serve"]
        self._patience = round(1000 * AWAKE_S / min(_seconds(compiled["spend"]) for _ in range(10)))
        self._lock = threading.RLock()  # a signal's handler may call within a call
        self._staff: list[tuple[queue.SimpleQueue, threading.Thread]] = []
        memory = np.zeros((MOST + 1) * _WORDS, np.int64)
        helpers = memory[-memory.ctypes.data % 128 // 8 :][: MOST * _WORDS]
        self._helpers = helpers.reshape(MOST, _WORDS)
        self._helpers[:, _STATE], self._helpers[:, _PATIENCE] = _SLEEPS, self._patience
        self._states = self._helpers[:, _STATE]
        self._at = self._helpers.ctypes.data
        # Also when the program ends: a thread that still waits then can abort the process.
        weakref.finalize(self, _dismiss, self._staff)

    def run(self, function: int, task: int, parts: np.ndarray) -> None:
        """function, task: addresses; parts: (threads, 3) int64, address of a memory, first and end
        of the rows, of which all have been computed when this returns. At most MOST + 1 threads."""
        count = len(parts) - 1
        with self._lock:
            while len(self._staff) < count:
                self._hire()
            for k in range(count):
                if self._states[k] == _SLEEPS and (wake := self._staff[k][0]).empty():
                    wake.put(True)
            try:
                arguments = (self._at, count, function, task, parts.ctypes.data)
                working = self._share(*arguments, self._patience)
                while working:
                    time.sleep(_SLEEP_S)
                    working = self._unfinished(self._at, count, 0)
            finally:  # an interrupted caller may free what helpers write to
                self._unfinished(self._at, count, -1)

    def _hire(self) -> None:
        if len(self._staff) == MOST:
            raise PhalanxError(f"at most {MOST + 1} threads share one call; set OMP_NUM_THREADS")
        wake: queue.SimpleQueue = queue.SimpleQueue()
        at = self._at + self._helpers.strides[0] * len(self._staff)
        arguments = (wake, self._serve, at, self._patience, self._helpers)
        thread = threading.Thread(target=_help, args=arguments, daemon=True)
        thread.start()
        self._staff.append((wake, thread))


def _help(wake: "queue.SimpleQueue", serve: Any, at: int, most: int, _memory: np.ndarray) -> None:
    while wake.get():
        serve(at, most)


def _dismiss(staff: "list[tuple[queue.SimpleQueue, threading.Thread]]") -> None:
    for wake, _ in staff:
        wake.put(False)
    for _, thread in staff:
        if thread is not threading.current_thread():
            thread.join()


def _seconds(spend: Any) -> float:
    began = time.perf_counter()
    spend(1000)
    return time.perf_counter() - began


def parts(rows: int, memories: Sequence[int], step: int = 1) -> np.ndarray:
    """`rows` in equal parts, whole steps each, as `run` takes them: one for each of the addresses
    `memories`."""
    count = len(memories)
    part = -(-rows // (count * step)) * step
    ends = [min(i * part, rows) for i in range(count + 1)]
    return np.array(list(zip(memories, ends, ends[1:], strict=False)), np.int64)


_team: Team | None = None


def run(function: int, task: int, parts: np.ndarray) -> None:
    """See `Team.run`."""
    global _team
    if _team is None:
        _team = Team()
    _team.run(function, task, parts)


def _forget() -> None:
    global _team
    _team = None


os.register_at_fork(after_in_child=_forget)  # threads stay with the parent
