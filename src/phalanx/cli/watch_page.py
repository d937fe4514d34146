"""The process that serves the page of a training run; see `watch.py`.

python -m phalanx.cli.watch_page FOLDER
"""

import contextlib
import json
import os
import sys
import time
from pathlib import Path

import mujoco

from phalanx.errors import PhalanxError
from phalanx.viewer.live_view import LiveView
from phalanx.viewer.server import address, close, open_server, serve
from phalanx.viewer.source import Source, TrainingSource

NICENESS = 10
"""Until the page is there: it has to appear on busy cores, too."""


def main(folder: Path) -> None:
    """Serve the page until the process that started this one ends."""
    os.nice(NICENESS)
    parent = os.getppid()
    about = json.loads((folder / "about.json").read_text("utf-8"))
    source = TrainingSource(folder, about["dt"])
    while not source.begun and os.getppid() == parent:
        time.sleep(0.1)
    model = mujoco.MjModel.from_binary_path(str(folder / "model.mjb"))

    def policy() -> Source:
        from phalanx.cli.play_source import source_of_run  # takes seconds

        return source_of_run(Path(about["run"]), source.num_envs)

    server = open_server(about["title"], about["host"], about["port"])
    others = {"newest policy": policy}
    view = LiveView(server, model, source, about["title"], others, about["share"] * cores())
    partial = folder / ".address"
    partial.write_text(address(server), "utf-8")
    partial.replace(folder / "address")
    give_way()
    serve(view, until=lambda: os.getppid() != parent)
    close(server)


def cores() -> int:
    """That this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def give_way() -> None:
    """Run from now on only where a core has nothing else to do: a thread of training that has work
    gets the core at once."""
    if not hasattr(os, "SCHED_IDLE"):  # not on Linux
        os.nice(19)
        return
    for thread in Path("/proc/self/task").iterdir():  # a thread's own; new ones take it over
        with contextlib.suppress(OSError):
            os.sched_setscheduler(int(thread.name), os.SCHED_IDLE, os.sched_param(0))


if __name__ == "__main__":
    try:
        main(Path(sys.argv[1]))
    except PhalanxError as error:
        sys.exit(str(error))
