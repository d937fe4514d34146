"""Runs CoACD on one mesh, in a process of its own: only so can it be stopped.

    python -P coacd_process.py MESH.npz '{"threshold": 0.05, ...}' PARTS.npz

Both files hold arrays `vertices0`, `faces0`, ...: one mesh, or the parts of it. It imports nothing
of Phalanx, so it starts in a second.
"""

import json
import sys
from typing import Any

import coacd
import numpy as np


def main() -> None:
    source, options, target = sys.argv[1:]
    coacd.set_log_level("error")
    with np.load(source, allow_pickle=False) as saved:
        mesh = coacd.Mesh(saved["vertices0"], saved["faces0"])
    arrays: dict[str, Any] = {}
    for i, (vertices, faces) in enumerate(coacd.run_coacd(mesh, **json.loads(options))):
        arrays[f"vertices{i}"] = np.array(vertices, float)
        arrays[f"faces{i}"] = np.array(faces, np.int64)
    np.savez(target, **arrays)


if __name__ == "__main__":
    main()
