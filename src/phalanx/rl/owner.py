"""A run folder, or a study's, has one owner: the process that writes into it.

    with owned(folder) as ownership:   # PhalanxError if another process is the owner
        ownership.check()              # PhalanxError if the folder is gone or another's by now

The owner holds a lock on the folder's file `.owner`, which has its process id. The system releases
the lock when the process ends, however it ends.
"""

import contextlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from phalanx.errors import PhalanxError
from phalanx.gate import reason

try:
    import fcntl
except ImportError:  # Windows has no such locks
    fcntl = None  # type: ignore[assignment]

FILE = ".owner"
OTHERS = {"run folder": ("train_dir=", "experiment="), "study": ("study=", "study=")}
"""What is owned, and the options that choose another place and another name."""


@dataclass
class Ownership:
    """Of a folder by this process."""

    folder: Path
    users: int = 1
    """How often this process owns it."""
    lock: int | None = None
    """Descriptor of the folder's file, which keeps its identity; None where there are no locks."""

    def check(self) -> None:
        """Raise PhalanxError if the folder has been removed, moved or replaced."""
        if self.lock is None:
            return
        with contextlib.suppress(OSError):
            if os.path.samestat(os.fstat(self.lock), os.stat(self.folder / FILE)):
                return
        what = "has been removed, moved or replaced"
        if (self.folder / "nn").is_dir() and not (self.folder / FILE).exists():
            what += f", or its file {FILE}, which keeps other runs out"
        raise PhalanxError(
            f"the run folder {self.folder} {what}; if its checkpoints are elsewhere now, continue"
            " with checkpoint= and that folder"
        )


_own: dict[Path, Ownership] = {}
"""Folders of this process."""


@contextlib.contextmanager
def owned(folder: Path, what: str = "run folder") -> Iterator[Ownership]:
    """Be the folder's owner inside. A process may own a folder several times over. what: of
    `OTHERS`. Raises PhalanxError, with the owner's process id, if another process owns it."""
    place = folder.resolve()
    if place in _own:
        _own[place].users += 1
        try:
            yield _own[place]
        finally:
            _own[place].users -= 1
        return
    with _locked(folder, what) as lock:
        _own[place] = Ownership(folder, lock=lock)
        try:
            yield _own[place]
        finally:
            del _own[place]


@contextlib.contextmanager
def _locked(folder: Path, what: str) -> Iterator[int | None]:
    if fcntl is None:
        yield None
        return
    number = _open(folder, what)
    try:
        os.ftruncate(number, 0)
        os.pwrite(number, f"{os.getpid()}\n".encode(), 0)
        yield number
    finally:
        with contextlib.suppress(OSError):  # the folder may be gone, or another's
            if os.path.samestat(os.fstat(number), os.stat(folder / FILE)):
                os.unlink(folder / FILE)
        os.close(number)


def _open(folder: Path, what: str) -> int:
    """The descriptor of the folder's file, locked."""
    place, name = OTHERS[what]
    while True:
        try:
            number = os.open(folder / FILE, os.O_RDWR | os.O_CREAT, 0o644)
        except OSError as error:
            raise PhalanxError(
                f"cannot write to the {what} {folder}: {reason(error)}; choose another one with"
                f" {place}"
            ) from error
        try:
            fcntl.flock(number, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            owner = os.pread(number, 20, 0).decode("ascii", "replace").strip()
            os.close(number)
            who = f"process {owner}" if owner.isdecimal() else "another process"
            raise PhalanxError(
                f"{folder} is in use by {who}, which writes its checkpoints there; wait until it"
                f" has ended, or choose another name with {name}"
            ) from None
        except OSError:  # a file system without locks
            return number
        with contextlib.suppress(OSError):
            # The owner before may have removed the file after it was opened here.
            if os.path.samestat(os.fstat(number), os.stat(folder / FILE)):
                return number
        os.close(number)
