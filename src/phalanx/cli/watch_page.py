"""The process that serves the page of a training run; see `watch.py`.

python -m phalanx.cli.watch_page FOLDER
"""

import json
import os
import sys
import time
from pathlib import Path

import mujoco

from phalanx.errors import PhalanxError
from phalanx.viewer.live_view import LiveView, serve
from phalanx.viewer.server import address, close, open_server
from phalanx.viewer.source import Source, TrainingSource

NICENESS = 10
"""Training comes first, but a page has to appear on busy cores, too."""
FRAME = 1 / 12
"""Time between two pictures [s]; nine Ants take 2 % of a core while somebody looks."""


def main(folder: Path) -> None:
    """Serve the page until the process that started this one ends."""
    os.nice(NICENESS)
    parent = os.getppid()
    about = json.loads((folder / "about.json").read_text())
    source = TrainingSource(folder, about["dt"])
    while not source.begun and os.getppid() == parent:
        time.sleep(0.1)
    model = mujoco.MjModel.from_binary_path(str(folder / "model.mjb"))

    def policy() -> Source:
        from phalanx.cli.play_source import source_of_run  # takes seconds

        return source_of_run(Path(about["run"]), source.num_envs)

    server = open_server(about["title"], about["host"], about["port"])
    others = {"newest policy": policy}
    view = LiveView(server, model, source, about["title"], others, FRAME)
    partial = folder / ".address"
    partial.write_text(address(server))
    partial.replace(folder / "address")
    serve(view, until=lambda: os.getppid() != parent)
    close(server)


if __name__ == "__main__":
    try:
        main(Path(sys.argv[1]))
    except PhalanxError as error:
        sys.exit(str(error))
