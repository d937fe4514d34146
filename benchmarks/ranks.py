"""Measures how training on several GPUs of one machine scales.

    uv run python benchmarks/ranks.py task=Ant devices=1,2 seeds=1,2,3 returns=7000 out=ant.json
    uv run python benchmarks/ranks.py task=Humanoid devices=1,2 max_iterations=200

Trains the task with its own config once for each number of devices, every device with num_envs
environments, each time in new processes. One line and one entry of the JSON file each: for each
seed the seconds until the mean return is first reached and training steps/s in the second half of
the run, and the medians of both; of the last seed the milliseconds of an iteration in that half, of
each rank: rollout, update, and `between`, when the device waits for the host. Then, measured apart:
physics, the rollout's steps with random actions, and communication, what the ranks exchange in an
iteration, replayed from a CUDA graph of its own, its calls and bytes. `files` is what the host
writes between two readings of the statistics while the device works, the median.
"""

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import Any

import torch

import phalanx  # noqa: F401  before torch, as in the commands: it sets up its threads
from phalanx.cli.config import compose_config, resolved, train_params
from phalanx.cli.result import device_name, git_commit, versions
from phalanx.compute.graphs import EAGER_CALLS, Graph
from phalanx.rl import AlgoObserver, Runner, ranks
from phalanx.rl.run import Run
from phalanx.rl.statistics import Clock

REPEATS = 50


class Timer(AlgoObserver):
    """Notes when each return was first reached, and the frames by second."""

    def __init__(self, returns: list[float]) -> None:
        self.returns, self.reached = returns, {}
        self.marks: list[tuple[float, int]] = []

    def after_init(self, algo) -> None:
        self.algo, self.start = algo, time.perf_counter()

    def after_print_stats(self, frame: int, epoch_num: int, total_time: float) -> None:
        now = time.perf_counter() - self.start
        self.marks.append((now, frame))
        for level in self.returns:
            if self.algo.mean_rewards.mean >= level:
                self.reached.setdefault(level, {"seconds": round(now, 2), "frames": frame})


class Marks(Clock):
    """A clock that remembers every iteration."""

    def __init__(self, device: torch.device) -> None:
        super().__init__(device)
        self.all: list[tuple[str, Any, Any]] = []

    def stop(self, name: str, repeats: int = 1) -> None:
        super().stop(name, repeats)
        begin, end, _ = self._marks[name]
        self.all.append((name, begin, end))

    def of_second_half(self) -> dict[str, float]:
        """Mean milliseconds of an iteration by name."""
        half = self.all[len(self.all) // 4 * 2 :]
        count = sum(name == "update" for name, _, _ in half)

        def took(begin: Any, end: Any) -> float:
            return begin.elapsed_time(end) if self._cuda else 1e3 * (end - begin)

        found = dict.fromkeys(("rollout", "update", "between"), 0.0)
        for name, begin, end in half:
            found[name] += took(begin, end) / count
        for (_, _, end), (_, begin, _) in pairwise(half):
            found["between"] += took(end, begin) / count
        return found


def main() -> None:
    options = dict(a.split("=", 1) for a in sys.argv[1:])
    out = options.pop("out", "")
    counts = [int(n) for n in options.pop("devices", "1,2").split(",")]
    if ranks.started_by_torchrun():
        work(options, out)
        return
    rows = []
    for count in counts:
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "row.json"
            command = [
                "torch.distributed.run",
                "--rdzv-backend=c10d",
                "--rdzv-endpoint=127.0.0.1:0",
            ]
            command += ["--local-addr=127.0.0.1", f"--nproc_per_node={count}"]
            own = [__file__, *(f"{k}={v}" for k, v in options.items()), f"out={file}"]
            subprocess.run([sys.executable, "-m", *command, *own], check=True)
            rows.append(json.loads(file.read_text()))
        rows[-1]["of_one_device"] = rows[-1]["steps_per_s"] / rows[0]["steps_per_s"]
        print(json.dumps(rows[-1]), flush=True)
    if out:
        Path(out).write_text(json.dumps(rows, indent=1) + "\n")


def work(options: dict[str, str], out: str) -> None:
    """Train in this rank and measure; rank 0 writes the row."""
    returns = [float(r) for r in options.pop("returns", "").split(",") if r]
    seeds = options.pop("seeds", options.pop("seed", "1")).split(",")
    host: dict[str, list[float]] = {}
    time_of(Run, "write_files", host)
    with tempfile.TemporaryDirectory() as folder:
        timers = []
        for seed in seeds:
            agent = None  # frees the one before
            timers.append(timer := Timer(returns))
            arguments = [f"{k}={v}" for k, v in options.items()]
            arguments += [f"seed={seed}", f"train_dir={folder}/{seed}", "multi_gpu=true"]
            runner = Runner(timer)
            runner.load({"params": train_params(resolved(compose_config(arguments)))})
            agent = runner.algo_factory.create(
                runner.algo_name, base_name="run", params=runner.params
            )
            agent.run.journal.clock = Marks(agent.device)
            agent.train()
        speeds = [second_half(t.marks) for t in timers]
        times = ranks.from_all(agent.run.journal.clock.of_second_half())
        row = {
            "task": agent.name,
            "devices": ranks.size(),
            "num_envs": agent.num_actors,
            "steps_per_s": median(speeds),
            "seeds": seeds,
            "steps_per_s_of_seeds": speeds,
            "reached": [t.reached for t in timers],
            "median_seconds": {r: median_time(timers, r) for r in returns},
            "return": agent.mean_rewards.mean,
            "iterations": agent.epoch_num,
            "ms": {
                "iteration": 1e3 * agent.run.frames_per_iteration / speeds[-1],
                **{name: [of[name] for of in times] for name in times[0]},
                "files": median(host["write_files"]),
            },
        }
        on_gpu = agent.device.type == "cuda"
        if on_gpu:
            row["ms"]["physics"] = physics(agent)
        row |= communication(agent, Graph if on_gpu else (lambda call: call))
        row |= {"device": device_name(agent.device), "commit": git_commit(), **versions()}
        if ranks.rank() == 0:
            Path(out).write_text(json.dumps(row))
    ranks.from_all("done")  # rank 0 must not leave while others measure
    ranks.leave()


def median_time(timers: list[Timer], level: float) -> float | None:
    """Seconds until `level`; None if the median seed did not reach it."""
    seconds = median(t.reached.get(level, {"seconds": float("inf")})["seconds"] for t in timers)
    return seconds if seconds < float("inf") else None


def time_of(owner: type, method: str, found: dict[str, list[float]]) -> None:
    """Note the milliseconds of each call of a method."""
    real = getattr(owner, method)

    def timed(*args, **options):
        begin = time.perf_counter()
        result = real(*args, **options)
        found.setdefault(method, []).append(1e3 * (time.perf_counter() - begin))
        return result

    setattr(owner, method, timed)


def second_half(marks: list[tuple[float, int]]) -> float:
    """Frames per second from the middle of the run on."""
    middle, last = marks[len(marks) // 2], marks[-1]
    return (last[1] - middle[1]) / (last[0] - middle[0])


def physics(agent) -> float:
    """Milliseconds of the environment steps of one iteration."""
    env = agent.run.env
    steps = agent.batch_size // agent.num_actors
    shape = (agent.num_actors, *env.action_space.shape)
    actions = torch.empty(shape, device=env.device).uniform_(-1.0, 1.0)

    def roll() -> None:
        for _ in range(steps):
            env.step(actions)

    return timed(Graph(roll, env.capture))


def communication(agent, captured: Callable) -> dict:
    """What the ranks exchange in an iteration, and the milliseconds that it takes alone."""
    sizes: list[torch.Tensor] = []
    joined = ranks._joined
    if joined:
        real = joined.sum

        def counting(x: torch.Tensor) -> None:
            sizes.append(torch.zeros_like(x))
            real(x)

        joined.sum = torch.compiler.disable(counting)
        agent.collect(agent.hooked_env)  # eagerly
        agent.learn()
        joined.sum = real

    def exchange() -> None:
        for x in sizes:
            joined.sum(x)

    found = {"exchanges": len(sizes), "exchanged_bytes": sum(x.nbytes for x in sizes)}
    found["largest_exchange_bytes"] = max((x.nbytes for x in sizes), default=0)
    milliseconds = timed(captured(exchange)) if sizes else 0.0
    return found | {"communication_ms": milliseconds}


def timed(call: Callable[[], None]) -> float:
    """Milliseconds of one call."""
    wait = torch.cuda.synchronize if torch.cuda.is_available() else (lambda: None)
    for _ in range(EAGER_CALLS + 2):
        call()
    wait()
    begin = time.perf_counter()
    for _ in range(REPEATS):
        call()
    wait()
    return 1e3 * (time.perf_counter() - begin) / REPEATS


if __name__ == "__main__":
    main()
