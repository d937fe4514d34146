"""States on their way from the process that simulates to the one that shows them.

    writer = StateWriter(folder, num_envs=4, width=15)
    writer.append(rows)                                 # (T, 4, 15), whenever there are some
    reader = StateReader(folder)
    reader.take(120)                                    # at most 120 steps of (4, 15)

They meet in a file that both map into memory. The writer never waits for the reader; a reader that
is too slow continues with the newest states, and one that needs none says so.
"""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

FILE = "states.npy"
ROWS = 1024
"""Steps that the file holds."""

Rows = NDArray[np.float32]


class StateWriter:
    """The end that simulates."""

    def __init__(self, folder: Path, num_envs: int, width: int) -> None:
        file = np.lib.format.open_memmap(
            folder / FILE, "w+", dtype=_row_type(num_envs, width), shape=(ROWS + 1,)
        )
        self._states, last = file["state"], file[ROWS:]
        self._written, self._began, self._wanted = (last[k] for k in ("count", "begin", "wanted"))
        self._count = 0
        self._wanted[0] = True  # the first state says that training has begun

    @property
    def wanted(self) -> bool:
        """Whether the reader wants states now."""
        return bool(self._wanted[0])

    def append(self, rows: NDArray[Any], follows: bool = True) -> None:
        """Add rows (T, num_envs, width). follows: whether they continue the last ones."""
        rows = rows[-ROWS // 2 :]  # the others are lost to a reader in any case
        if not follows:
            self._began[0] = self._count
        at = np.arange(self._count, self._count + len(rows)) % ROWS
        self._states[at] = rows
        self._count += len(rows)
        self._written[0] = self._count  # last, so that what is counted is there


class StateReader:
    """The end that shows."""

    def __init__(self, folder: Path) -> None:
        self._file = np.lib.format.open_memmap(folder / FILE, "r+")
        self._next = 0

    @property
    def shape(self) -> tuple[int, int]:
        """(num_envs, width) of a state."""
        return self._file["state"].shape[1:]

    @property
    def num_envs(self) -> int:
        """Number of environments."""
        return self.shape[0]

    @property
    def written(self) -> int:
        """Steps that there have been."""
        return int(self._file[ROWS]["count"])

    def want(self, wanted: bool) -> None:
        """Ask for states from now on, or for none."""
        self._file[ROWS]["wanted"] = wanted

    def take(self, most: int) -> Rows:
        """The next steps, at most `most`, (T, num_envs, width); T is 0 if there are none. If the
        next ones are lost, these are the newest."""
        for _ in range(3):
            count, begin = int(self._file[ROWS]["count"]), int(self._file[ROWS]["begin"])
            if self._next < max(begin, count - ROWS // 2):
                self._next = max(begin, count - most)
            end = min(count, self._next + most)
            rows = self._file["state"][np.arange(self._next, end) % ROWS].copy()
            if int(self._file[ROWS]["count"]) - ROWS <= self._next:  # none was overwritten
                self._next = end
                return rows
        return rows[:0]


def _row_type(num_envs: int, width: int) -> np.dtype[Any]:
    """A row of the file: a state, or in the last row how many states there have been, which of them
    is the first after a gap, and whether more are wanted."""
    counts = [("count", np.int64), ("begin", np.int64), ("wanted", np.bool_)]
    return np.dtype([("state", np.float32, (num_envs, width)), *counts])
