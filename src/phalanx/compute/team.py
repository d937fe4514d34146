"""Threads that share a function's work on the CPU. The functions are C, which holds no GIL."""

import queue
import threading
import weakref
from collections.abc import Callable


class Team:
    """`size` threads that wait for work, kept alive between calls."""

    def __init__(self, size: int) -> None:
        self._tasks: list[queue.SimpleQueue] = [queue.SimpleQueue() for _ in range(size)]
        self._done: queue.SimpleQueue = queue.SimpleQueue()
        threads = [
            threading.Thread(target=_serve, args=(tasks, self._done, i + 1), daemon=True)
            for i, tasks in enumerate(self._tasks)
        ]
        for thread in threads:
            thread.start()
        # Also when the program ends: a thread that still waits then can abort the process.
        weakref.finalize(self, _dismiss, self._tasks, threads)

    def run(self, work: Callable[[int], object], size: int) -> None:
        """`work(i)` for i in 0 ... size - 1, each on a thread of its own, the first on this one."""
        helpers = self._tasks[: size - 1]
        for tasks in helpers:
            tasks.put(work)
        try:
            work(0)
        finally:
            errors = [self._done.get() for _ in helpers]
        for error in filter(None, errors):
            raise error


def _serve(tasks: "queue.SimpleQueue", done: "queue.SimpleQueue", number: int) -> None:
    while (work := tasks.get()) is not None:
        error = None
        try:
            work(number)
        except Exception as raised:
            error = raised
        del work  # it holds its owner, and with it the team
        done.put(error)


def _dismiss(tasks: "list[queue.SimpleQueue]", threads: list[threading.Thread]) -> None:
    for each in tasks:
        each.put(None)
    for thread in threads:
        if thread is not threading.current_thread():
            thread.join()
