"""What a page of `phalanx train view=true` costs.

python benchmarks/watching.py task=Ant num_envs=1024 sim_device=cpu seconds=300 out=watching.json

Trains once with a page that somebody looks at. By turns of a few iterations each, the page is
stopped (SIGSTOP) and asks for no states, and goes on. The turns of a pair follow each other at
once, and which comes first alternates: the speed of a machine drifts more slowly than that.

Steps/s depend on what else runs there, processor time hardly does. So this measures processor time:

- `page_percent`: what the page takes, of one processor.
- `handed_percent`: what training takes longer to hand states over, of an iteration's time with all
  processors busy.
- `slowed`: what training takes longer for every second that the page takes, for they share caches;
  a mean over the pairs, less the highest and the lowest fifth, with its standard error. With
  `share=1` the page draws 30 pictures a second, and the error is smaller by as much.

If training stood still while the page or the handing over runs, and were slowed down as well, it
would lose `page_percent` x (1 + `slowed`) + `handed_percent` of its steps/s; that is the most.
`unseen_percent` is the same before anybody looks.

In place of a browser, a process takes everything that the page sends and draws nothing: a browser
would take time of the same cores. It needs the extra `view`, Linux and a CPU engine.
"""

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from phalanx.cli import watch
from phalanx.cli.main import main as phalanx
from phalanx.viewer.states import StateReader

UNSEEN = 15.0
"""Time from the page's address to the first look [s]."""
SETTLE = 5.0
"""Time from the first look to the first turn: the page sends its shapes [s]."""
LOOK = """
import sys
import msgspec
from importlib.metadata import version
from websockets.sync.client import connect

camera = {
    "type": "ViewerCameraMessage", "wxyz": (1, 0, 0, 0), "position": (3, 3, 2), "fov": 1.0,
    "near": 0.01, "far": 1000.0, "image_height": 600, "image_width": 800,
    "look_at": (0, 0, 0), "up_direction": (0, 0, 1),
}
url, protocol = sys.argv[1].replace("http", "ws"), f"viser-v{version('viser')}"
with connect(url, subprotocols=[protocol], max_size=None, compression=None) as line:
    line.send(msgspec.msgpack.encode(camera))
    for _ in line:
        pass
"""


class Measured(watch.Watch):
    """A page that is looked at by turns, and what each turn took."""

    seconds, iterations = 300, 5
    turns: list[dict[str, float]]
    unseen: dict[str, float]

    def before_training(self, algo: Any) -> None:
        super().before_training(algo)
        assert self._page is not None
        self.page, self.handed = self._page.pid, 0.0
        watchers = algo.vec_env.watchers
        watchers[-1] = self.timed(watchers[-1])
        self.states.keep = self.timed(self.states.keep)  # type: ignore[method-assign]
        self.writer.append = self.timed(self.writer.append)  # type: ignore[method-assign]
        self.states.read = self.timed(self.states.read)  # type: ignore[method-assign]
        Measured.turns, self.script = [], self.measure()

    def timed(self, call: Callable[..., Any]) -> Callable[..., Any]:
        """The same, a part of `handed`, the time that training spends on handing states over."""

        def run(*given: Any) -> Any:
            begin = time.thread_time()
            try:
                return call(*given)
            finally:
                self.handed += time.thread_time() - begin

        return run

    def after_steps(self) -> None:
        super().after_steps()
        next(self.script, None)

    def measure(self) -> Iterator[None]:
        """Goes on by a line after each iteration of training."""
        while not (self.folder / "address").is_file():
            yield
        before = self.used()
        yield from self.wait(UNSEEN)
        Measured.unseen = self.since(before)
        address = (self.folder / "address").read_text()
        looker = subprocess.Popen([sys.executable, "-c", LOOK, address])
        yield from self.wait(SETTLE)
        end = time.perf_counter() + self.seconds
        while time.perf_counter() < end:
            first = len(self.turns) % 4 == 0
            for looked in (first, not first):
                self.let_look(looked)
                yield  # the first iteration has the change in it
                before = self.used()
                for _ in range(self.iterations):
                    yield
                self.turns.append({"looked": looked, **self.since(before)})
        self.let_look(True)
        looker.kill()
        self.agent.request_stop("measured")

    def wait(self, seconds: float) -> Iterator[None]:
        """Iterations, for a while."""
        end = time.perf_counter() + seconds
        while time.perf_counter() < end:
            yield

    def let_look(self, looked: bool) -> None:
        """Let the page go on, or stop it."""
        os.kill(self.page, signal.SIGCONT if looked else signal.SIGSTOP)
        StateReader(self.folder).want(looked)

    def used(self) -> dict[str, float]:
        """Seconds so far: of the clock, and of processors, see proc(5)."""
        user, nice, system, _, _, *rest = Path("/proc/stat").read_text().splitlines()[0].split()[1:]
        tick = 1 / os.sysconf("SC_CLK_TCK")
        return {
            "seconds": time.perf_counter(),
            "training": time.process_time(),
            "handed": self.handed,
            "page": cpu_seconds(self.page),
            "all": tick * sum(map(int, [user, nice, system, *rest[:3]])),
        }

    def since(self, before: dict[str, float]) -> dict[str, float]:
        """Seconds from then on; `others`, which are not ours, in place of all."""
        now = self.used()
        taken = {k: now[k] - before[k] for k in now}
        taken["others"] = taken.pop("all") - taken["training"] - taken["page"]
        return {k: round(s, 5) for k, s in taken.items()}


def cpu_seconds(pid: int) -> float:
    """Of a process's threads."""
    tasks = Path(f"/proc/{pid}/task").glob("*/schedstat")
    return sum(int(t.read_text().split()[0]) for t in tasks) / 1e9


def trimmed(values: ArrayLike) -> tuple[float, float]:
    """Mean without a fifth at either end, and its standard error, from the winsorised deviation
    (Tukey and McLaughlin, 1963)."""
    values = np.sort(values)
    cut = len(values) // 5
    kept = values[cut : len(values) - cut]
    deviation = np.clip(values, kept[0], kept[-1]).std(ddof=1) * len(values) / len(kept)
    return float(kept.mean()), float(deviation / np.sqrt(len(values)))


def compare(turns: list[dict[str, float]], unseen: dict[str, float]) -> dict[str, Any]:
    """The cost, see above."""
    columns = {
        k: np.array([[t[k] for t in turns if t["looked"] is looked] for looked in (False, True)])
        for k in ("seconds", "training", "handed", "page")
    }  # (without and with a look, pairs)
    handed, training, page = (columns[k] for k in ("handed", "training", "page"))
    slower = (training[1] - handed[1]) - (training[0] - handed[0])
    mean, error = trimmed(slower)
    cores = os.cpu_count() or 1
    page_part = page[1].sum() / columns["seconds"][1].sum()
    handed_part = (handed[1] - handed[0]).mean() / (training[0].mean() / cores)
    result = {
        "pairs": len(slower),
        "page_percent": 100 * page_part,
        "handed_percent": 100 * handed_part,
        "slowed": mean / page[1].mean(),
        "slowed_standard_error": error / page[1].mean(),
        "unseen_percent": 100 * (unseen["page"] + unseen["handed"]) / unseen["seconds"],
    }
    result["most_percent"] = result["page_percent"] * (1 + result["slowed"]) + 100 * handed_part
    return {k: round(float(v), 3) for k, v in result.items()}


def main() -> None:
    """Measure and print."""
    given = dict(a.partition("=")[::2] for a in sys.argv[1:])
    out = given.pop("out", None)
    for name in ("seconds", "iterations"):
        setattr(Measured, name, int(given.pop(name, getattr(Measured, name))))
    Measured.share = float(given.pop("share", Measured.share))
    arguments = [f"{k}={v}" for k, v in given.items()]
    watch.Watch = Measured  # type: ignore[misc]
    with tempfile.TemporaryDirectory() as folder:
        phalanx(["train", *arguments, "view=true", "max_iterations=1000000", f"train_dir={folder}"])
    cost = compare(Measured.turns, Measured.unseen)
    print(cost)
    if out:
        columns = {k: [t[k] for t in Measured.turns] for k in Measured.turns[0]}
        result = {"arguments": arguments, "share": Measured.share, **cost}
        Path(out).write_text(json.dumps({**result, "unseen": Measured.unseen, "turns": columns}))


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", str(os.cpu_count()))
    main()
