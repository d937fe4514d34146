"""`phalanx bench`: speed and memory on this machine, by task and number of environments.

    phalanx bench task=Ant,Humanoid num_envs=256,1024,4096 seconds=5 out=bench.json

Every measurement runs in its own process, one after the other: each pair of a task and a number of
environments, each seed of a time to a return, and each other trainer (`measure.py` explains the
rows). If one fails, its row gives the reason and the others continue.
"""

import dataclasses
import importlib.metadata
import importlib.util
import itertools
import json
import os
import platform
import shlex
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console

from phalanx.cli import bench_rows
from phalanx.cli.bench_table import Row, cells, growth, load, print_table
from phalanx.cli.config import compose_config, resolved, train_params
from phalanx.cli.console import Lines
from phalanx.cli.measure import Job
from phalanx.cli.overrides import check_given
from phalanx.cli.peers import MJLAB_TASKS, PEERS
from phalanx.cli.result import device_name, git_commit, versions
from phalanx.config import ranged, read
from phalanx.errors import PhalanxError, did_you_mean
from phalanx.files import check_place, write_atomically
from phalanx.sim import resolve_device


@dataclass(frozen=True)
class BenchOptions:
    """Options of `phalanx bench`; lists are written with commas."""

    task: tuple[str, ...] = ("Cartpole",)
    """Tasks to measure."""
    num_envs: tuple[int, ...] = ranged((), at_least=1, at_most=2**24)
    """Numbers of environments to measure each task with; by default the task's number for the
    device."""
    seconds: float = ranged(5.0, above=0, at_most=3600)
    """Time to measure each speed for [s]."""
    eager: bool = False
    """Measure without CUDA graphs as well; on a GPU only."""
    returns: tuple[float | None, ...] = ()
    """Measure the time to this mean return, one value per task; None skips a task."""
    seeds: tuple[int, ...] = ranged((0,), at_least=0)
    """Seeds of the runs to that return."""
    engine: tuple[str, ...] = ("auto",)
    """Physics engines to measure; further ones are compared with the first."""
    against: tuple[str, ...] = ()
    """Other trainers to measure: rl_games, rl_games_eager, rsl_rl, mjlab."""
    out: str | None = None
    """JSON file to write the rows to."""
    results: tuple[str, ...] = ()
    """JSON files of earlier calls, shown instead of measuring."""
    plot: str | None = None
    """Image file for curves of speed and memory over the number of environments."""
    train: str | None = None
    """Train config; None takes <task>PPO."""
    sim_device: str = "auto"
    """Device of the simulation, as for `phalanx train`."""
    rl_device: str = "auto"
    """Device of the network, as for `phalanx train`."""
    max_iterations: int | None = ranged(None, at_least=1)
    """Iterations after which a return counts as not reached."""

    def __post_init__(self) -> None:
        for key in ("task", "seeds", "engine"):
            if not getattr(self, key):
                raise PhalanxError(f"{key} is empty; give at least one")
        if self.returns and len(self.returns) != len(self.task):
            raise PhalanxError(
                f"returns has {len(self.returns)} values for {len(self.task)} tasks; give one per"
                " task, None to skip a task"
            )


PASSED_ON = ("sim_device", "rl_device", "train", "max_iterations")
"""Options that are passed on to every measurement, as are the keys below `task.` and `train.`"""


def bench(arguments: list[str]) -> None:
    """Measure, print a table, write the file. Raises PhalanxError, before anything is measured."""
    config, passed_on = _read(arguments)
    console = Lines()
    _check_places(config)
    if config.results:
        rows = [row for file in config.results for row in load(file)]
    else:
        rows = _measure_all(console, config, passed_on, ["phalanx", "bench", *arguments])
    print_table(console, rows)
    if all("failed" in row for row in rows):
        raise PhalanxError(f"nothing could be measured: {rows[0]['failed']}")
    if config.plot:
        growth(rows, Path(config.plot))
    for file in filter(None, (config.out, config.plot)):
        console.print(f"written: {file}")


def _measure_all(
    console: Console, config: BenchOptions, passed_on: list[str], command: list[str]
) -> list[Row]:
    plan = list(_plan(config, passed_on))
    first = plan[0][1][0]
    device = resolve_device(compose_config(first.arguments).sim_device)
    packages = [p for x in config.against for p in (PEERS[x].package, *PEERS[x].brings)]
    rows: list[Row] = []
    result = {
        "command": shlex.join(command),
        "date": time.strftime("%Y-%m-%d"),
        "hardware": _hardware(device_name(device)),
        "versions": versions() | {p: importlib.metadata.version(p) for p in packages},
        "git_commit": git_commit(),
        "rows": rows,
    }
    for about, jobs in plan:
        what = f"{about['task']}, {about['num_envs']} environments, {about['trainer']}"
        with console.status(f"measuring {what} ..."):
            new = bench_rows.run(jobs[0]) if jobs[0].target is None else bench_rows.run_seeds(jobs)
            for row in new:
                rows.append(bench_rows.with_median({**about, **row}))
                if not console.is_terminal:
                    console.print("  ".join(cells(rows[-1])))
        bench_rows.derive(rows)
        if config.out:
            text = json.dumps(result, indent=1) + "\n"
            write_atomically(Path(config.out), text.encode())
    return rows


def _read(arguments: list[str]) -> tuple[BenchOptions, list[str]]:
    """The options, and the arguments to pass on to every measurement."""
    fields = {f.name: f for f in dataclasses.fields(BenchOptions)}
    own: dict[str, Any] = {}
    passed_on = []
    words = iter(arguments)
    for word in words:
        if word == "--against":
            word = f"against={next(words, '')}"
        key, equals, text = word.removeprefix("--against=").partition("=")
        if word.startswith("--against="):
            key, equals, text = "against", "=", key
        if not equals or key.startswith("-"):
            raise PhalanxError(f"{word!r} is not of the form key=value, as in num_envs=64,256")
        check_given(key, text)
        if key in fields:
            many = isinstance(fields[key].default, tuple)
            own[key] = [x for x in text.strip("[]").split(",") if x] if many else text
        elif not key.startswith(("task.", "train.")):
            accepted = f"; accepted: {', '.join(fields)}, task.env.<field>, train.<key>"
            raise PhalanxError(f"unknown key {key!r}{did_you_mean(key, fields) or accepted}")
        if key in PASSED_ON or "." in key:
            passed_on.append(word)
    return read(BenchOptions, own, ""), passed_on


def _plan(config: BenchOptions, passed_on: list[str]) -> Iterator[tuple[Row, list[Job]]]:
    """The jobs of each row or group of rows, with their common columns; several jobs are the seeds
    of one row. Raises PhalanxError for errors that can be detected before anything is built."""
    speed_only = [a for a in passed_on if not a.startswith("max_iterations=")]
    sizes = [[f"num_envs={n}"] for n in config.num_envs] or [[]]
    for k, task in enumerate(config.task):
        target = config.returns[k] if config.returns else None
        for size, engine in itertools.product(sizes, config.engine):
            first = engine == config.engine[0]
            base = [f"task={task}", *size, *([] if engine == "auto" else [f"engine={engine}"])]
            run = resolved(compose_config([*base, *passed_on]))
            train_params(run)
            if config.eager and resolve_device(run.sim_device).type == "cpu":
                raise PhalanxError(
                    "eager=true compares with CUDA graphs, but on the CPU every step is eager;"
                    " remove it"
                )
            about = {"task": task, "num_envs": run.num_envs, "trainer": "phalanx"}
            job = Job("phalanx", [*base, *speed_only], config.seconds)
            yield about, [job]
            if config.eager:
                yield about, [dataclasses.replace(job, eager=True)]
            for name in config.against if first else ():
                _check_peer(name, task)
                note = {"note": PEERS[name].note} if PEERS[name].note else {}
                yield about | {"trainer": name} | note, [dataclasses.replace(job, trainer=name)]
            if target is not None:
                seeds = [
                    Job("phalanx", [*base, *passed_on, f"seed={seed}"], target=target)
                    for seed in config.seeds
                ]
                yield about | {"seeds": list(config.seeds), "engine": engine}, seeds


def _check_peer(name: str, task: str) -> None:
    if name not in PEERS:
        near = did_you_mean(name, PEERS) or f"; accepted: {', '.join(PEERS)}"
        raise PhalanxError(f"unknown trainer {name!r} in against={near}")
    if importlib.util.find_spec(PEERS[name].module) is None:
        raise PhalanxError(
            f"against={name} needs the package {PEERS[name].package};"
            f" install it with `pip install {PEERS[name].package}`"
        )
    if name == "mjlab" and task not in MJLAB_TASKS:
        raise PhalanxError(f"against=mjlab supports {', '.join(MJLAB_TASKS)} only, not {task}")


def _check_places(config: BenchOptions) -> None:
    for option, file in (("out=", config.out), ("plot=", config.plot)):
        if file:
            check_place(Path(file), option)
    if config.plot and Path(config.plot).suffix not in (".png", ".svg", ".pdf"):
        raise PhalanxError(f"plot is {config.plot!r}; it must end in .png, .svg or .pdf")
    if config.plot and importlib.util.find_spec("matplotlib") is None:
        raise PhalanxError("plot= needs matplotlib; install it with `pip install matplotlib`")


def _hardware(device: str) -> Row:
    cpu = platform.processor()
    if Path("/proc/cpuinfo").exists():
        lines = Path("/proc/cpuinfo").read_text("utf-8").splitlines()
        cpu = next((x.split(":")[1].strip() for x in lines if x.startswith("model name")), cpu)
    return {"device": device, "cpu": cpu, "cores": os.cpu_count(), "system": platform.platform()}
