"""What a page of `phalanx train view=true` costs.

python benchmarks/watching.py task=Ant pairs=20 seconds=5 out=watching.json

Trains once with a page. By turns, nobody looks at it and somebody does, `seconds` each, and the
steps/s of the two halves of each pair are compared; which half comes first alternates. The cost is
the mean over the pairs without the highest and the lowest fifth of them, with its standard error.
Pairs during which other programs took more than 3 % of the machine are repeated, up to `most` pairs
in all.

In place of a browser, a process takes everything that the page sends and draws nothing: a browser
would take time of the same cores. It needs the extra `view` and a quiet machine.
"""

import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np

from phalanx.cli import watch
from phalanx.cli.main import main as phalanx

WARM_UP = 15.0
"""Time from the page's address to the first window [s]."""
SETTLE = 1.0
"""At the beginning of a window, not measured: somebody comes or goes [s]."""
MOST_OTHERS = 0.03
"""Share of the machine that other programs may take in a pair that counts."""

LOOK = """
import sys, threading
import msgspec
from importlib.metadata import version
from websockets.sync.client import connect

camera = {
    "type": "ViewerCameraMessage", "wxyz": (1, 0, 0, 0), "position": (3, 3, 2), "fov": 1.0,
    "near": 0.01, "far": 1000.0, "image_height": 600, "image_width": 800,
    "look_at": (0, 0, 0), "up_direction": (0, 0, 1),
}
url, protocol = sys.argv[1].replace("http", "ws"), f"viser-v{version('viser')}"
def look(line):
    count = sum(1 for _ in line)
    print(count, flush=True)
while sys.stdin.readline():  # somebody comes
    with connect(url, subprotocols=[protocol], max_size=None, compression=None) as line:
        line.send(msgspec.msgpack.encode(camera))
        reader = threading.Thread(target=look, args=(line,))
        reader.start()
        sys.stdin.readline()  # and goes
    reader.join()
"""


class Measured(watch.Watch):
    """Notes when which frame was reached."""

    now: "Measured"

    def before_training(self, algo: Any) -> None:
        super().before_training(algo)
        self.reached: list[tuple[float, int]] = []
        Measured.now = self

    def after_steps(self) -> None:
        super().after_steps()
        self.reached.append((time.perf_counter(), self.agent.frame))

    def rate(self, begin: float, end: float) -> float:
        """Training steps/s between two times."""
        times, frames = np.array([r for r in self.reached if begin <= r[0] <= end]).T
        return float((frames[-1] - frames[0]) / (times[-1] - times[0]))


class Windows(threading.Thread):
    """Somebody looks and goes while training runs; `found` has a line per window."""

    def __init__(self, pairs: int, seconds: float, most: int) -> None:
        super().__init__(daemon=True)
        self.pairs, self.seconds, self.most = pairs, seconds, most
        self.found: list[dict[str, Any]] = []

    def run(self) -> None:
        while not hasattr(Measured, "now") or not (Measured.now.folder / "address").is_file():
            time.sleep(0.1)
        self.watch = Measured.now
        address = (self.watch.folder / "address").read_text()
        looker = subprocess.Popen(
            [sys.executable, "-c", LOOK, address],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            bufsize=1,
        )
        assert looker.stdin is not None
        assert looker.stdout is not None
        pids = {"training": os.getpid(), "page": self.watch._page.pid, "looker": looker.pid}
        self.processes = {k: Path(f"/proc/{pid}/stat") for k, pid in pids.items()}
        time.sleep(WARM_UP)
        for pair in range(self.most):
            if len(losses(self.found)) == self.pairs:
                break
            for looked in (False, True) if pair % 2 else (True, False):
                if looked:
                    looker.stdin.write("\n")
                time.sleep(SETTLE)
                self.found.append({"pair": pair, "looked": looked, **self.window()})
                if looked:
                    looker.stdin.write("\n")
                    self.found[-1]["messages"] = int(looker.stdout.readline())
                print(self.found[-1], flush=True)
        looker.kill()
        self.watch.agent.request_stop("measured")

    def window(self) -> dict[str, Any]:
        """Steps/s and shares of the machine's time, in `seconds` from now."""
        begin, before = time.perf_counter(), self.used()
        time.sleep(self.seconds)
        end, after = time.perf_counter(), self.used()
        whole = (end - begin) * (os.cpu_count() or 1)
        shares = {k: (after[k] - before[k]) / whole for k in after}
        shares["others"] = shares.pop("all") - sum(shares.values())
        return {"rate": self.watch.rate(begin, end), **{k: round(s, 4) for k, s in shares.items()}}

    def used(self) -> dict[str, float]:
        """CPU seconds so far, of all and of ours, see proc(5)."""
        user, nice, system, _, _, *rest = Path("/proc/stat").read_text().splitlines()[0].split()[1:]
        ticks = {"all": sum(map(int, [user, nice, system, *rest[:3]]))}
        for name, stat in self.processes.items():
            ticks[name] = sum(map(int, stat.read_text().rpartition(")")[2].split()[11:13]))
        return {k: t / os.sysconf("SC_CLK_TCK") for k, t in ticks.items()}


def main() -> None:
    """Measure and print."""
    given = dict(a.partition("=")[::2] for a in sys.argv[1:])
    pairs, seconds = int(given.pop("pairs", 20)), float(given.pop("seconds", 5))
    out = given.pop("out", None)
    windows = Windows(pairs, seconds, int(given.pop("most", 4 * pairs)))
    arguments = [f"{k}={v}" for k, v in given.items()]
    watch.Watch = Measured
    windows.start()
    with tempfile.TemporaryDirectory() as folder:
        phalanx(["train", *arguments, "view=true", "max_iterations=1000000", f"train_dir={folder}"])
    cost = compare(windows.found)
    print(cost)
    if out:
        result = {"arguments": arguments, "seconds": seconds, **cost, "windows": windows.found}
        Path(out).write_text(json.dumps(result, indent=1))


def losses(found: list[dict[str, Any]]) -> list[float]:
    """Loss of steps/s while somebody looks, of each pair that counts."""
    result = []
    for without, looked in zip(
        *([w for w in found if w["looked"] is x] for x in (False, True)), strict=True
    ):
        if max(without["others"], looked["others"]) <= MOST_OTHERS:
            result.append(1 - looked["rate"] / without["rate"])
    return result


def compare(found: list[dict[str, Any]]) -> dict[str, Any]:
    """Mean loss without the pairs at either end."""
    lost = losses(found)
    if len(lost) < 5:
        raise SystemExit("other programs ran all the time")
    cut = len(lost) // 5
    kept = np.sort(lost)[cut : len(lost) - cut]
    # Of a trimmed mean, from the winsorised deviation (Tukey and McLaughlin, 1963).
    deviation = np.clip(lost, kept[0], kept[-1]).std(ddof=1) * len(lost) / len(kept)
    error = deviation / np.sqrt(len(lost))
    page = np.mean([w["page"] for w in found if w["looked"]])
    return {
        "pairs": len(lost),
        "loss_percent": round(100 * float(kept.mean()), 2),
        "standard_error_percent": round(100 * float(error), 2),
        "page_percent_of_machine": round(100 * float(page), 2),
    }


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", str(os.cpu_count()))
    main()
