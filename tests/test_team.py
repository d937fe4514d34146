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
struct Memory { long steps, may_go, begun; };
// Counts each row in `task`, after as many steps of work as `memory` says, once it may go.
extern "C" void count(long *task, Memory *memory, long first, long last) {
  volatile long work = 0;
  memory->begun = 1;
  for (long k = 0; k < memory->steps; k++) work += k;
  while (!__atomic_load_n(&memory->may_go, __ATOMIC_ACQUIRE)) {}
  for (long i = first; i < last; i++) task[i]++;
}
"""
WORD, LONG = ctypes.c_void_p, ctypes.c_long


class Counting:
    def __init__(self, threads: int, own_steps: int = 0, helpers_steps: int = 0) -> None:
        self.function = clang.functions(SOURCE, {"count": (None, WORD, WORD, LONG, LONG)})["count"]
        self.rows = np.zeros(64, np.int64)
        self.memory = np.array([[own_steps, 1, 0], *(threads - 1) * [[helpers_steps, 1, 0]]])
        self.parts = team.parts(64, [own.ctypes.data for own in self.memory])

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


def wait_for(condition):
    """Two seconds at most: a helper that just fell asleep does not come, by design, and the caller
    does its part."""
    end = time.monotonic() + 2
    while not condition() and time.monotonic() < end:
        time.sleep(1e-3)


class Signals:
    """Sends SIGALRM while the caller of `counting` and its helper work; 0.2 s later, when the
    caller has come back from C, the helper may go on."""

    def __init__(self, counting: Counting, handler) -> None:
        self.counting, self.handler = counting, handler
        counting.memory[:, 1] = 0

    def __enter__(self):
        self.before = signal.signal(signal.SIGALRM, lambda *_: self.handler())
        self.thread = threading.Thread(target=self.send)
        self.thread.start()

    def send(self):
        wait_for(lambda: self.counting.memory[:, 2].all())
        os.kill(os.getpid(), signal.SIGALRM)
        self.counting.memory[0, 1] = 1
        time.sleep(0.2)
        self.counting.memory[1:, 1] = 1

    def __exit__(self, *_):
        self.thread.join()
        signal.signal(signal.SIGALRM, self.before)


def test_a_caller_that_is_interrupted_leaves_no_helper_at_work():
    def interrupt():
        raise KeyboardInterrupt

    def rows_when_interrupted():
        try:
            counting.run()
        except KeyboardInterrupt:
            return counting.rows.copy()

    counting = Counting(2)
    with Signals(counting, interrupt):
        rows = rows_when_interrupted()
    assert rows is not None
    assert (rows == 1).all()
    counting.run()
    assert (counting.rows == 2).all()


def test_a_signals_handler_may_call_within_a_call():
    counting, inner = Counting(2), Counting(3)
    with Signals(counting, inner.run):
        counting.run()
    assert (counting.rows == 1).all()
    assert (inner.rows == 1).all()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork on this system")
def test_a_forked_process_has_helpers_of_its_own():
    counting = Counting(3)
    counting.run()
    child = os.fork()
    if child == 0:
        try:
            counting.run()
        finally:
            os._exit(0 if (counting.rows == 2).all() else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_helpers_that_do_not_come_wait_less_and_those_that_come_longer_again():
    crew, counting = team.Team(), Counting(2)
    arguments = (clang.address(counting.function), counting.rows.ctypes.data)
    state, patience = (crew._helpers[:1, k] for k in (0, 1))
    for _ in range(20):
        state[0] = 0  # as if it were awake; but nobody has been hired
        crew._share(crew._at, 1, *arguments, counting.parts.ctypes.data, crew._patience)
    assert patience[0] < crew._patience / 1000

    def release(calls):  # the caller, once the helper has done its part
        wait_for(lambda: counting.rows[-1] == calls)
        counting.memory[0, 1] = 1

    state[0] = 1  # asleep
    seen = []
    for calls in (21, 22, 23, 24):
        seen.append(patience[0])
        counting.memory[0, 1] = 0
        thread = threading.Thread(target=release, args=[calls])
        thread.start()
        crew.run(*arguments, counting.parts)
        thread.join()
    assert patience[0] > seen[0]
    assert (counting.rows == 24).all()
