"""What has been compiled, kept on disk for the next start."""

import hashlib
import os
import tempfile
from collections.abc import Callable
from pathlib import Path

from phalanx.compute.start_warp import init_warp


def kept(text: str, target: str, build: Callable[[str, str], bytes]) -> bytes:
    """`build(text, target)`, from the cache if it is there. Without a cache that can be written, it
    is built at every start. Processes that start together may each build; a file is never half
    written."""
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
    except OSError:
        pass
    return built


def folder() -> Path:
    """Beside Warp's kernels."""
    import warp as wp

    init_warp()
    return Path(wp.config.kernel_cache_dir) / "phalanx"
