"""Trains a walking task with several seeds, each for a limited time, and judges the policies.

    uv run python benchmarks/walk_seeds.py task=Go2Velocity seeds=1,2,3 limit=60 at=10,20,60
    uv run python benchmarks/walk_seeds.py judge=walk_Go2Velocity        # on any machine, later

Writes `out/seed<S>_<T>s.pth`, the weights after T seconds, for each T of `at`, and their .onnx; the
clock starts with the first iteration, start-up is apart. `returns=40,60` prints when the mean
return of the last 100 episodes reached these. With `judge=now`, the .onnx are judged afterwards by
`walk_judge.py`, in processes of one thread, as many as there are cores; `judge=<folder>` only
judges. `out=` is walk_<task>; all other arguments are those of `phalanx train`. Prints lines of
JSON, also to `out/result.jsonl`.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

JUDGE = Path(__file__).with_name("walk_judge.py")

import phalanx  # noqa: E402, F401, I001  before torch: it sets up its threads
import torch  # noqa: E402

from phalanx.cli.config import compose_config, train_params  # noqa: E402
from phalanx.cli.export import make_player  # noqa: E402
from phalanx.cli.result import device_name, git_commit, versions  # noqa: E402
from phalanx.deploy.export import export  # noqa: E402
from phalanx.rl import AlgoObserver, Runner  # noqa: E402


class Clock(AlgoObserver):
    """Keeps the weights at given times and ends the run at the limit."""

    def __init__(self, at: list[float], limit: float, returns: list[float]) -> None:
        self.at, self.limit, self.returns = sorted(at), limit, returns
        self.weights: dict[float, dict[str, Any]] = {}
        self.reached: dict[str, float | None] = {f"{r:g}": None for r in returns}
        self.curve: list[tuple[float, ...]] = []

    def after_init(self, algo: Any) -> None:
        self.algo, self.start = algo, time.perf_counter()

    def after_print_stats(self, frame: int, epoch_num: int, total_time: float) -> None:
        now = time.perf_counter() - self.start
        mean = self.algo.mean_rewards.mean
        if not self.curve or now > self.curve[-1][0] * 1.03 + 0.1:
            length = self.algo.mean_lengths.mean
            row = self.algo.task_scalars.get("terrain/row")  # of rough ground
            level = () if row is None else (round(row, 2),)
            self.curve.append((round(now, 2), frame, round(mean, 2), round(length, 1), *level))
        for level in self.returns:
            if self.algo.mean_rewards.size and mean >= level and self.reached[f"{level:g}"] is None:
                self.reached[f"{level:g}"] = round(now, 2)
        for due in [t for t in self.at if t <= now and t not in self.weights]:
            model = self.algo.get_weights()["model"]
            self.weights[due] = {k: v.detach().cpu().clone() for k, v in model.items()}
        self.frames, self.seconds = frame, now
        if now >= self.limit:
            self.algo.request_stop("time is over")


def train(arguments: list[str], seed: int, clock: Clock, out: Path) -> dict[str, Any]:
    """One seed; returns its figures and writes its policies."""
    began = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        options = compose_config([*arguments, f"seed={seed}", f"train_dir={folder}"])
        runner = Runner(clock)
        runner.load({"params": train_params(options)})
        runner.run({})
    for at, model in clock.weights.items():
        path = out / f"seed{seed}_{at:g}s.pth"
        torch.save({"model": model}, path)
        export(make_player(compose_config(arguments, "export"), 1), path)
    return {
        "seed": seed,
        "start_up_s": round(clock.start - began, 2),
        "wall_s": round(clock.seconds, 2),
        "frames": clock.frames,
        "train_steps_per_s": round(clock.frames / clock.seconds),
        "seconds_to_return": clock.reached,
        "curve_s_frames_return_length_row": clock.curve,
        "num_envs": clock.algo.num_actors,
        "device": device_name(clock.algo.device),
    }


def judged(policy: Path) -> str:
    """The line of `walk_judge.py`, or its error."""
    alone = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run(
        [sys.executable, str(JUDGE), str(policy)], env=alone, capture_output=True, text=True
    )
    return done.stdout.strip() or json.dumps({"policy": str(policy), "error": done.stderr[-500:]})


def main() -> None:
    options = dict(a.split("=", 1) for a in sys.argv[1:])
    judge = options.pop("judge", "")
    out = Path(options.pop("out", judge if judge not in ("", "now") else f"walk_{options['task']}"))
    out.mkdir(parents=True, exist_ok=True)
    with (out / "result.jsonl").open("a") as file:

        def write(line: str) -> None:
            print(line, flush=True)
            file.write(line + "\n")
            file.flush()

        if judge in ("", "now"):
            seeds = [int(s) for s in options.pop("seeds", "1").split(",")]
            limit = float(options.pop("limit", 60))
            at = [float(s) for s in options.pop("at", f"{limit}").split(",")]
            returns = [float(r) for r in options.pop("returns", "").split(",") if r]
            options.setdefault("train.params.config.max_epochs", "1000000")  # time is the limit
            arguments = [f"{k}={v}" for k, v in options.items()]
            write(json.dumps({"arguments": arguments, **versions(), "git_commit": git_commit()}))
            for seed in seeds:
                clock = Clock(at, limit, returns)
                write(json.dumps(train(arguments, seed, clock, out)))
        if judge:
            with ThreadPoolExecutor(os.cpu_count()) as pool:
                for line in pool.map(judged, sorted(out.glob("*.onnx"))):
                    write(line)


if __name__ == "__main__":
    main()
