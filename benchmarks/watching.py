"""What a page of `phalanx train view=true` costs.

python benchmarks/watching.py task=Ant max_iterations=2000 rounds=3 out=watching.json

Trains the same run without a page, with a page that nobody looks at, and with one that a browser
shows, by turns, and compares their mean steps/s. In place of a browser, a process takes everything
that the page sends and draws nothing: a browser would take time of the same cores. It needs the
extra `view` and a quiet machine.
"""

import json
import os
import re
import subprocess
import sys
import tempfile
import threading
from typing import Any

KINDS = ("no page", "nobody looks", "somebody looks")
STEPS = re.compile(r"([\d,]+) steps in ([\d.]+) s")

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
    for count, _ in enumerate(line):
        if count == 100:
            print("looking", flush=True)
"""


def main() -> None:
    """Measure and print."""
    given = dict(a.partition("=")[::2] for a in sys.argv[1:])
    rounds, out = int(given.pop("rounds", 3)), given.pop("out", None)
    arguments = [f"{k}={v}" for k, v in given.items()]
    rates: dict[str, list[float]] = {kind: [] for kind in KINDS}
    for _ in range(rounds):
        for kind in KINDS:
            rates[kind].append(train(arguments, kind))
            print(f"{kind}: {rates[kind][-1]:,.0f} steps/s", flush=True)
    means = {kind: sum(r) / len(r) for kind, r in rates.items()}
    for kind, mean in means.items():
        print(f"{kind}: mean {mean:,.0f} steps/s, {mean / means[KINDS[0]] - 1:+.2%}")
    if out:
        with open(out, "w") as file:
            json.dump({"arguments": arguments, "steps_per_second": rates}, file, indent=1)


def train(arguments: list[str], kind: str) -> float:
    """Mean steps/s of a whole run."""
    view = [] if kind == KINDS[0] else ["view=true"]
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "phalanx", "train", *arguments, *view]
        command += [f"train_dir={folder}"]
        run = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, bufsize=1)
        looker: subprocess.Popen[Any] | None = None
        last = ""
        assert run.stdout is not None
        for line in run.stdout:
            if line.startswith("watch:") and kind == KINDS[2]:
                looker = subprocess.Popen(
                    [sys.executable, "-c", LOOK, line.split()[1]], stdout=subprocess.PIPE, text=True
                )
                threading.Thread(target=say, args=(looker,), daemon=True).start()
            last = line if STEPS.search(line) else last
        if looker is not None:
            looker.kill()
        if run.wait():
            raise SystemExit(f"{' '.join(command)} failed")
    found = STEPS.search(last)
    assert found is not None
    return int(found[1].replace(",", "")) / float(found[2])


def say(looker: "subprocess.Popen[Any]") -> None:
    """Show that the page sends something."""
    for line in looker.stdout or ():
        print(f"  {line.strip()}", flush=True)


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", str(os.cpu_count()))
    main()
