"""What `deterministic=true` costs on a GPU: training steps/s with and without, in one process each.

uv run python benchmarks/deterministic_cost.py num_envs=4096 out=cost.json
"""

import json
import statistics
import subprocess
import sys
import time

ITERATIONS, WARM_UP = 200, 40

CHILD = """
import sys, tempfile, time, torch
from phalanx.cli.config import compose_config, train_params
from phalanx.rl import AlgoObserver, Runner

class Times(AlgoObserver):
    def __init__(self):
        self.marks = []
    def after_print_stats(self, frame, epoch_num, total_time):
        self.marks.append((time.perf_counter(), frame))

times = Times()
with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
    params = train_params(compose_config([*sys.argv[1:], f"train_dir={folder}", "experiment=x"]))
    runner = Runner(times)
    runner.load({"params": params})
    runner.run({"train": True})
(t0, f0), (t1, f1) = times.marks[WARM_UP // 8], times.marks[-1]
print("STEPS", (f1 - f0) / (t1 - t0), torch.cuda.get_device_name())
""".replace("WARM_UP", str(WARM_UP))


def measure(task: str, num_envs: str, deterministic: bool) -> tuple[float, str]:
    """Training steps/s after warm-up, and the card."""
    arguments = [f"task={task}", f"num_envs={num_envs}", f"max_iterations={ITERATIONS}"]
    arguments.append(f"deterministic={deterministic}".lower())
    done = subprocess.run(
        [sys.executable, "-c", CHILD, *arguments], capture_output=True, text=True, check=False
    )
    if done.returncode:
        sys.exit(done.stderr)
    line = next(x for x in done.stdout.splitlines() if x.startswith("STEPS"))
    _, steps, card = line.split(maxsplit=2)
    return float(steps), card


def main(arguments: list[str]) -> None:
    options = {"num_envs": "4096", "repeats": "1", "out": ""}
    options |= dict(a.split("=", 1) for a in arguments)
    rows = []
    for task in ("Ant", "Humanoid"):
        speeds: dict[bool, list[float]] = {False: [], True: []}
        card = ""
        for _ in range(int(options["repeats"])):
            for kind, found in speeds.items():
                steps, card = measure(task, options["num_envs"], kind)
                found.append(steps)
        free, fixed = (statistics.median(x) for x in speeds.values())
        rows.append({"task": task, "num_envs": int(options["num_envs"]), "card": card})
        rows[-1] |= {"steps_per_s": speeds[False], "deterministic_steps_per_s": speeds[True]}
        print(f"{task}: {free:,.0f} steps/s, deterministic {fixed:,.0f}, cost {free / fixed:.2f} x")
    if options["out"]:
        with open(options["out"], "w") as file:
            json.dump({"date": time.strftime("%Y-%m-%d"), "rows": rows}, file, indent=1)


if __name__ == "__main__":
    main(sys.argv[1:])
