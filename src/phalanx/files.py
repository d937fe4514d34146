"""Atomic file writes."""

import contextlib
import errno
import os
from pathlib import Path

from phalanx.errors import PhalanxError

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


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
