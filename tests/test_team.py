"""Threads that share a C function's rows: every row is computed once, however threads wait."""

import ctypes
import os
import random
import signal
import threading
import time

import numpy as np
import pytest

from phalanx.compute import clang, team

SOURCE = """
// Counts each row in `task`, after as many steps of work as `memory` says, which none can skip.
extern "C" void count(long *task, long *memory, long first, long last) {
  volatile long work = 0;
  for (long k = 0; k < *memory; k++) work += k;
  for (long i = first; i < last; i++) task[i]++;
}
"""
WORD, LONG = ctypes.c_void_p, ctypes.c_long


class Counting:
    def __init__(self, threads: int, own_work: int = 0, helpers_work: int = 0) -> None:
        self.function = clang.functions(SOURCE, {"count": (None, WORD, WORD, LONG, LONG)})["count"]
        self.rows = np.zeros(64, np.int64)
        self.work = np.array([own_work, *(threads - 1) * [helpers_work]], np.int64)
        ends = [64 * i // threads for i in range(threads + 1)]
        at = [self.work[i:].ctypes.data for i in range(threads)]
        self.parts = np.array(list(zip(at, ends, ends[1:], strict=False)), np.int64)

    def run(self) -> None:
        team.run(clang.address(self.function), self.rows.ctypes.data, self.parts)


@pytest.mark.parametrize("threads", [1, 2, 7])
def test_each_row_is_computed_once_by_helpers_awake_asleep_and_late(threads):
    counting, rng = Counting(threads, 100, 1000), random.Random(0)
    pauses = [0.0, 0.0, 0.0, team.AWAKE_S, 3 * team.AWAKE_S]
    for calls in range(300):
        counting.run()
        assert (counting.rows == calls + 1).all()
        time.sleep(rng.choice(pauses))


def test_callers_on_several_threads_take_turns():
    countings = [Counting(3, 50, 50) for _ in range(4)]
    threads = [
        threading.Thread(target=lambda c=c: [c.run() for _ in range(200)]) for c in countings
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all((c.rows == 200).all() for c in countings)


def test_a_caller_that_is_interrupted_leaves_no_helper_at_work():
    def interrupt(*_):
        raise KeyboardInterrupt

    def run_and_wait():
        counting.run()
        time.sleep(5)

    counting = Counting(2, 0, 200_000_000)  # a helper works for tenths of a second
    Counting(2).run()  # awake
    before = signal.signal(signal.SIGALRM, interrupt)
    signal.setitimer(signal.ITIMER_REAL, 0.05)
    try:
        with pytest.raises(KeyboardInterrupt):
            run_and_wait()
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert (counting.rows == 1).all()
    counting.work[:] = 0
    counting.run()
    assert (counting.rows == 2).all()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork on this system")
def test_a_forked_process_has_helpers_of_its_own():
    counting = Counting(3)
    counting.run()
    child = os.fork()
    if child == 0:
        counting.run()
        os._exit(0 if (counting.rows == 2).all() else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
