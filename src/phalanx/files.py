"""Files that are never half-written."""

import contextlib
import os
from pathlib import Path

from phalanx.errors import PhalanxError


def write_atomically(path: Path, content: bytes, option: str = "") -> None:
    """Replace the file at `path` by `content`, all of it or not at all; `option` names what chooses
    another folder. Raises PhalanxError."""
    # Named after the process: two that write the same file must not write into each other's.
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
        named = f" ({option})" if option else ""
        raise PhalanxError(
            f"cannot write {path}: {reason}; free some space or choose another folder{named}, what"
            " was written before is intact"
        ) from error
