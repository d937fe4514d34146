"""Measures the time until a task is solved: wall-clock seconds from the first iteration on.

    uv run python benchmarks/time_to_solve.py task=Cartpole length=490 seeds=0,1,2,3,4
    uv run python benchmarks/time_to_solve.py task=Ant returns=3000,7000 seeds=0,1,2,3,4

Trains each seed with the task's own config, in one process, and writes one JSON file: time and
frames until the mean length of the last `games_to_track` episodes reaches `length`, or their mean
return reaches each of `returns`; the curve of returns; training steps/s over the whole run and in
its steady second half; peak memory, hardware, versions. Start-up (imports, kernels, first
iterations) is reported separately.
"""

import json
import resource
import sys
import tempfile
import time

STARTED = time.perf_counter()

import phalanx  # noqa: E402, F401, I001  before torch, as in the commands: it sets up its threads
import torch  # noqa: E402

from phalanx.cli.config import compose_config, train_params  # noqa: E402
from phalanx.cli.result import device_name, git_commit, versions  # noqa: E402
from phalanx.rl import AlgoObserver, Runner  # noqa: E402


class Timer(AlgoObserver):
    """Records when the episode length and the returns were first reached, and the curve."""

    def __init__(self, length: float, returns: list[float]) -> None:
        self.length = length
        self.returns = returns
        self.reached: dict[float, float] = {}
        self.curve: list[tuple[float, int, float]] = []
        self.solved: tuple[float, int] | None = None
        self.marks: list[tuple[float, int]] = []

    def after_init(self, algo) -> None:
        self.algo = algo
        self.start = time.perf_counter()

    def after_print_stats(self, frame: int, epoch_num: int, total_time: float) -> None:
        now = time.perf_counter() - self.start
        self.marks.append((now, frame))
        mean = self.algo.mean_rewards.mean
        if not self.curve or now > self.curve[-1][0] * 1.03 + 0.02:
            self.curve.append((round(now, 2), frame, round(mean, 2)))
        for level in self.returns:
            if mean >= level:
                self.reached.setdefault(level, round(now, 2))
        if self.solved is None and self.algo.mean_lengths.mean >= self.length:
            self.solved = (now, frame)


def main() -> None:
    options = dict(a.split("=", 1) for a in sys.argv[1:])
    length = float(options.pop("length", 490))
    returns = [float(r) for r in options.pop("returns", "").split(",") if r]
    seeds = [int(s) for s in options.pop("seeds", "0,1,2,3,4").split(",")]
    out = options.pop("out", "")
    arguments = [f"{k}={v}" for k, v in options.items()]
    runs = []
    for seed in seeds:
        with tempfile.TemporaryDirectory() as folder:
            config = compose_config([*arguments, f"seed={seed}", f"train_dir={folder}"])
            timer = Timer(length, returns)
            runner = Runner(timer)
            runner.load({"params": train_params(config)})
            made = time.perf_counter()
            runner.run({})
        a, marks = timer.algo, timer.marks
        half = len(marks) // 2
        steady = (marks[-1][1] - marks[half][1]) / (marks[-1][0] - marks[half][0])
        runs.append(
            {
                "seed": seed,
                "start_up_s": round(timer.start - (STARTED if not runs else made), 2),
                "seconds_to_return": {f"{r:g}": timer.reached.get(r) for r in returns},
                "solved_s": round(timer.solved[0], 2) if timer.solved else None,
                "solved_frames": timer.solved[1] if timer.solved else None,
                "final_length": round(a.mean_lengths.mean, 1),
                "final_return": round(a.mean_rewards.mean, 2),
                "wall_s": round(marks[-1][0], 2),
                "train_fps": round(marks[-1][1] / marks[-1][0]),
                "steady_train_fps": round(steady),
            }
        )
        print(runs[-1], flush=True)
        runs[-1]["curve_s_frames_return"] = timer.curve
    result = {
        "command": "benchmarks/time_to_solve.py " + " ".join(sys.argv[1:]),
        "device": device_name(a.device),
        "num_envs": a.num_actors,
        "solved_at_length": length,
        "peak_rss_gb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20, 2),
        "peak_gpu_gb": round(torch.cuda.max_memory_allocated() / 2**30, 2)
        if a.device.type == "cuda"
        else None,
        "date": time.strftime("%Y-%m-%d"),
        "versions": versions(),
        "git_commit": git_commit(),
        "runs": runs,
    }
    text = json.dumps(result)
    if out:
        with open(out, "w") as file:
            file.write(text + "\n")


if __name__ == "__main__":
    main()
