"""Trains a legged task with several seeds, each for a limited time, and judges the policies.

    uv run python benchmarks/walk_seeds.py task=Go2Velocity seeds=1,2,3 limit=60 at=10,20,60
    uv run python benchmarks/walk_seeds.py judge=walk_Go2Velocity        # on any machine, later

Writes `out/seed<S>_<T>s.pth`, the weights after T seconds, for each T of `at` and for the limit,
and `out/seed<S>_curve.jsonl`, both while it trains: a run that is killed keeps what it had. The
clock starts with the first iteration; start-up, with compiling on a GPU, is apart. `returns=40,60`
prints when the mean return of the last 100 episodes reached these. `limit=8M at=4M,6M` count
million environment steps instead, which other programs on the machine do not change; `cores` says
how many cores the training had, as a mean.

With `judge=now`, the weights are exported and judged afterwards by `walk_judge.py`, in processes of
one thread, as many as there are cores; `judge=<folder>` only judges what is not judged yet.
A linear learning rate keeps its iterations: `limit=` must come before their end, as limit=196M does
for VelocityRoughPPO with 4096 environments.
Training needs no onnx, so that it may run elsewhere. `out=` is walk_<task>; all other arguments are
those of `phalanx train`. Prints lines of JSON, also to `out/result.jsonl`.
"""

import io
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
from phalanx.cli.result import device_name, git_commit, versions  # noqa: E402
from phalanx.errors import PhalanxError  # noqa: E402
from phalanx.files import write_atomically  # noqa: E402
from phalanx.rl import AlgoObserver, Runner  # noqa: E402


class Clock(AlgoObserver):
    """Writes the weights at given times, and the curve; ends the run at the limit."""

    def __init__(self, at: list[str], limit: str, returns: list[float], out: Path) -> None:
        self.due, self.limit, self.out = list(dict.fromkeys([*at, limit])), limit, out
        self.reached: dict[str, float | None] = {f"{r:g}": None for r in returns}
        self.noted = -1.0

    def after_init(self, algo: Any) -> None:
        self.algo, self.start, self.cpu_start = algo, time.perf_counter(), time.process_time()
        self.curve = Path(f"{self.out}_curve.jsonl")
        self.curve.unlink(missing_ok=True)

    def after_print_stats(self, frame: int, epoch_num: int, total_time: float) -> None:
        now = time.perf_counter() - self.start
        rewards, lengths = self.algo.mean_rewards, self.algo.mean_lengths
        self.frames, self.seconds, self.mean = frame, now, rewards.mean if rewards.size else None
        for level, at in self.reached.items():
            if self.mean is not None and self.mean >= float(level) and at is None:
                self.reached[level] = round(now, 2)
        if now > self.noted * 1.03 + 0.1:
            self.noted = now
            row = {"s": round(now, 2), "frames": frame, "return": self.mean}
            row |= {"length": lengths.mean if lengths.size else None, "reached": self.reached}
            row |= {k: round(v, 4) for k, v in self.algo.task_scalars.items()}
            with self.curve.open("a") as file:
                file.write(json.dumps(row) + "\n")
        for mark in [m for m in self.due if self.passed(m)]:
            self.due.remove(mark)
            path = Path(f"{self.out}_{mark if mark.endswith('M') else f'{mark}s'}.pth")
            model = self.algo.get_weights()["model"]
            torch.save({"model": model}, content := io.BytesIO())
            write_atomically(path, content.getvalue())
        if self.passed(self.limit):
            self.cores = (time.process_time() - self.cpu_start) / now
            self.algo.request_stop("time is over")

    def passed(self, mark: str) -> bool:
        """Whether so many seconds, or million steps, are over."""
        if mark.endswith("M"):
            return self.frames >= 1e6 * float(mark[:-1])
        return self.seconds >= float(mark)


def train(arguments: list[str], seed: int, clock: Clock) -> dict[str, Any]:
    """One seed; returns its figures."""
    began = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        options = compose_config([*arguments, f"seed={seed}", f"train_dir={folder}"])
        runner = Runner(clock)
        runner.load({"params": train_params(options)})
        runner.run({})
    sim = clock.algo.vec_env.sim
    return {
        "seed": seed,
        "start_up_s": round(clock.start - began, 2),
        "wall_s": round(clock.seconds, 2),
        "cores": round(clock.cores, 2),
        "frames": clock.frames,
        "train_steps_per_s": round(clock.frames / clock.seconds),
        "return": clock.mean,
        "seconds_to_return": clock.reached,
        "num_envs": clock.algo.num_actors,
        "engine": sim.engine.name,
        "not_fused": getattr(sim.engine, "reason", ""),
        "device": device_name(clock.algo.device),
    }


def exported(weights: Path, arguments: list[str]) -> str:
    """Write the policy next to its weights; returns an error, or nothing."""
    from phalanx.cli.export import make_player
    from phalanx.deploy.export import export

    try:
        export(make_player(compose_config(arguments, "export"), 1), weights)
    except PhalanxError as error:
        return json.dumps({"policy": str(weights), "error": str(error)})
    return ""


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
    results = out / "result.jsonl"

    def write(line: str) -> None:
        print(line, flush=True)
        with results.open("a") as file:
            file.write(line + "\n")

    if judge in ("", "now"):
        seeds = [int(s) for s in options.pop("seeds", "1").split(",")]
        limit = options.pop("limit", "60")
        at = [mark for mark in options.pop("at", "").split(",") if mark]
        returns = [float(r) for r in options.pop("returns", "").split(",") if r]
        arguments = [f"{k}={v}" for k, v in options.items()]
        schedule = train_params(compose_config(arguments))["config"].get("lr_schedule")
        if schedule != "linear" and "train.params.config.max_epochs" not in options:
            arguments.append("train.params.config.max_epochs=1000000")  # time is the limit
        write(json.dumps({"arguments": arguments, **versions(), "git_commit": git_commit()}))
        for seed in seeds:
            clock = Clock(at, limit, returns, out / f"seed{seed}")
            write(json.dumps(train(arguments, seed, clock)))
    if judge:
        rows = [json.loads(line) for line in results.read_text().splitlines()]
        arguments = [row["arguments"] for row in rows if "arguments" in row][-1]
        arguments = [a for a in arguments if "_device=" not in a]  # of where it was trained
        done = {row.get("policy") for row in rows if "error" not in row}
        todo = [w for w in sorted(out.glob("seed*.pth")) if f"{w}.onnx" not in done]
        for error in filter(None, [exported(weights, arguments) for weights in todo]):
            write(error)
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            ready = [path for w in todo if (path := Path(f"{w}.onnx")).exists()]
            for line in pool.map(judged, ready):
                write(line)


if __name__ == "__main__":
    main()
