"""Cost of `deterministic=true` on a GPU, and whether two runs have the same bits.

    uv run python benchmarks/deterministic_cost.py num_envs=4096 repeats=2 out=cost.json

Each run is a separate process of 48 iterations; the first 12 are not counted. Training steps/s are
medians over the repeats; the hash is that of all weights after the last iteration.
"""

import json
import statistics
import subprocess
import sys
import time
from pathlib import Path

CHILD = """
import hashlib, sys, tempfile, time, torch
from phalanx.cli.config import compose_config, train_params
from phalanx.rl import AlgoObserver, Runner

ITERATIONS, WARM_UP = 48, 12

class Times(AlgoObserver):
    def __init__(self):
        self.marks = []
    def after_init(self, algo):
        self.algo = algo
    def after_print_stats(self, frame, epoch_num, total_time):
        torch.cuda.synchronize()
        self.marks.append((time.perf_counter(), epoch_num, frame))

times = Times()
with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
    given = [*sys.argv[1:], f"max_iterations={ITERATIONS}", f"train_dir={folder}", "experiment=x"]
    runner = Runner(times)
    runner.load({"params": train_params(compose_config(given))})
    runner.run({"train": True})
(t0, _, f0), (t1, _, f1) = next(m for m in times.marks if m[1] >= WARM_UP), times.marks[-1]
weights = [p.detach().cpu().numpy().tobytes() for p in times.algo.model.parameters()]
print("STEPS", (f1 - f0) / (t1 - t0), hashlib.sha256(b"".join(weights)).hexdigest()[:12])
print("CARD", torch.cuda.get_device_name())
"""


def measure(task: str, num_envs: str, deterministic: bool) -> tuple[float, str, str]:
    """Training steps/s, hash of the weights, and the card."""
    arguments = [f"task={task}", f"num_envs={num_envs}", f"deterministic={deterministic}".lower()]
    command = [sys.executable, "-c", CHILD, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(done.stdout[-2000:] + done.stderr[-4000:])
    lines = dict(
        x.split(maxsplit=1) for x in done.stdout.splitlines() if x[:5] in ("STEPS", "CARD ")
    )
    steps, weights = lines["STEPS"].split()
    return float(steps), weights, lines["CARD"]


def main(arguments: list[str]) -> None:
    options = {"num_envs": "4096", "repeats": "2", "out": "", "tasks": "Ant,Humanoid"}
    options |= dict(a.split("=", 1) for a in arguments)
    rows = []
    for task in options["tasks"].split(","):
        speeds: dict[bool, list[float]] = {False: [], True: []}
        hashes: dict[bool, list[str]] = {False: [], True: []}
        card = ""
        for _ in range(int(options["repeats"])):
            for kind in (True, False):
                steps, weights, card = measure(task, options["num_envs"], kind)
                speeds[kind].append(steps)
                hashes[kind].append(weights)
        free, fixed = statistics.median(speeds[False]), statistics.median(speeds[True])
        same = len(set(hashes[True])) == 1
        rows.append({
            "task": task, "num_envs": int(options["num_envs"]), "card": card,
            "steps_per_s": speeds[False], "deterministic_steps_per_s": speeds[True],
            "cost": round(free / fixed, 2), "weights": hashes[True], "same_bits": same,
        })  # fmt: skip
        print(
            f"{task}: {free:,.0f} steps/s, deterministic {fixed:,.0f}, cost {free / fixed:.2f} x,"
            f" weights {'equal' if same else 'DIFFER'}",
            flush=True,
        )
    if options["out"]:
        result = {"date": time.strftime("%Y-%m-%d"), "rows": rows}
        Path(options["out"]).write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main(sys.argv[1:])
