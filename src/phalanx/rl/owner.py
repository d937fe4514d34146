"""A run folder has one owner: the process that writes into it.

    with owned(folder): ...            # PhalanxError if another process is the owner

The owner holds a lock on the folder's file `.owner`, which has its process id. The system releases
the lock when the process ends, however it ends.
"""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from phalanx.errors import PhalanxError
from phalanx.gate import reason

try:
    import fcntl
except ImportError:  # Windows has no such locks
    fcntl = None  # type: ignore[assignment]

FILE = ".owner"

_own: dict[Path, int] = {}
"""Folders of this process, with the number of its users there."""


@contextlib.contextmanager
def owned(folder: Path) -> Iterator[None]:
    """Be the folder's owner inside. A process may own a folder several times over. Raises
    PhalanxError, with the owner's process id, if another process owns it."""
    place = folder.resolve()
    if fcntl is None or place in _own:
        _own[place] = _own.get(place, 0) + 1
        try:
            yield
        finally:
            _own[place] -= 1
        return
    with _locked(folder):
        _own[place] = 1
        try:
            yield
        finally:
            del _own[place]


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[None]:
    number = _open(folder)
    try:
        os.ftruncate(number, 0)
        os.pwrite(number, f"{os.getpid()}\n".encode(), 0)
        yield
    finally:
        with contextlib.suppress(OSError):  # the folder may be gone
            os.unlink(folder / FILE)
        os.close(number)


def _open(folder: Path) -> int:
    """The descriptor of the folder's file, locked."""
    while True:
        try:
            number = os.open(folder / FILE, os.O_RDWR | os.O_CREAT, 0o644)
        except OSError as error:
            raise PhalanxError(
                f"cannot write to the run folder {folder}: {reason(error)}; choose another one with"
                " train_dir="
            ) from error
        try:
            fcntl.flock(number, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            owner = os.pread(number, 20, 0).decode("ascii", "replace").strip()
            os.close(number)
            who = f"process {owner}" if owner.isdecimal() else "another process"
            raise PhalanxError(
                f"{folder} is in use by {who}, which writes its checkpoints there; wait until it"
                " has ended, or choose another name with experiment="
            ) from None
        except OSError:  # a file system without locks
            return number
        with contextlib.suppress(OSError):
            # The owner before may have removed the file after it was opened here.
            if os.path.samestat(os.fstat(number), os.stat(folder / FILE)):
                return number
        os.close(number)
