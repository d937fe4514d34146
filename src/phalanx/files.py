"""Atomic file writes."""

import contextlib
import errno
import os
from pathlib import Path

from phalanx.errors import PhalanxError

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def check_place(path: Path, option: str, makes_folders: bool = False) -> None:
    """Raise PhalanxError if a file cannot be written to `path`, before the work for it begins.
    option: what names the file, for the message; empty if nothing does. makes_folders: the writer
    makes those missing."""
    folder = path.parent
    while makes_folders and not os.path.lexists(folder):
        folder = folder.parent
    if path.is_dir():
        cure = f"give {option} a file in it" if option else "give it another name"
        raise PhalanxError(f"cannot write {path}: it is a folder; {cure}")
    if not folder.is_dir() or not os.access(folder, os.W_OK | os.X_OK):
        cure = f"make it, or choose another with {option}" if option else "make it one"
        raise PhalanxError(f"cannot write {path}: {folder} is not a writable folder; {cure}")


def write_atomically(path: Path, content: bytes, option: str = "") -> None:
    """Replace the file at `path` by `content` atomically. `option` is the option for another
    folder, for the message. Raises PhalanxError if it cannot be written."""
    # The name contains the process id, so that two processes do not write to the same file.
    temporary = path.with_name(f".{os.getpid()}.{path.name}.tmp")
    try:
        with open(temporary, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError as error:
        with contextlib.suppress(OSError):
            temporary.unlink()
        reason = (error.strerror or str(error)).lower()
        free = "free some space or " if error.errno in FULL else ""
        named = f" ({option})" if option else ""
        intact = "; the earlier file is intact" if path.is_file() else ""
        raise PhalanxError(
            f"cannot write {path}: {reason}; {free}choose another folder{named}{intact}"
        ) from error
