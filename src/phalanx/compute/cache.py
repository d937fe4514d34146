"""What has been compiled, kept on disk for the next start."""

import hashlib
import os
import tempfile
from collections.abc import Callable
from pathlib import Path

from phalanx.compute.start_warp import init_warp, warn_not_kept
from phalanx.errors import PhalanxError


class NotCompiled(PhalanxError):
    """A compiler refuses code that was generated; it is kept in the file `code`."""

    def __init__(self, compiler: str, code: Path, log: str = "") -> None:
        super().__init__(f"{compiler} does not compile {code}{log and f' ({log[:500]})'}")
        self.code = code


def set_aside(text: str, name: str) -> Path:
    """Write code to a file `name` in a new temporary folder."""
    path = Path(tempfile.mkdtemp(prefix="phalanx-")) / name
    path.write_text(text, "utf-8")
    return path


def kept(text: str, target: str, build: Callable[[str, str], bytes]) -> bytes:
    """`build(text, target)`, from the cache if it is there. Without a cache that can be written, it
    is built at every start, with one warning. Processes that start together may each build; a file
    is never half written."""
    key = hashlib.sha256(f"{text}\n{target}".encode()).hexdigest()[:32]
    path = folder() / f"{key}.{target.split()[0]}"
    try:
        return path.read_bytes()
    except OSError:
        pass
    built = build(text, target)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=path.parent, delete=False) as file:
            file.write(built)
        os.replace(file.name, path)
    except OSError as error:
        warn_not_kept(str(path.parent), str(error.strerror))
    return built


def folder() -> Path:
    """Beside Warp's kernels."""
    import warp as wp

    init_warp()
    return Path(wp.config.kernel_cache_dir) / "phalanx"
