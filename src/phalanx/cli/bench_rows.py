"""Rows of `phalanx bench`: each job runs in its own process; medians and ratios are added."""

import dataclasses
import json
import math
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from typing import Any

from phalanx.cli.bench_table import Row
from phalanx.cli.measure import Job

CHILD = "from phalanx.cli.measure import main; main()"


def run(job: Job) -> Iterator[Row]:
    """Yield the rows of a job as they arrive; if it fails, the last row gives the reason."""
    command = [sys.executable, "-c", CHILD]
    pipe = subprocess.PIPE
    with tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as said:
        process = subprocess.Popen(
            command, stdin=pipe, stdout=pipe, stderr=said, encoding="utf-8", errors="replace"
        )
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            job = dataclasses.replace(job, started=time.monotonic())
            process.stdin.write(json.dumps(dataclasses.asdict(job)))
            process.stdin.close()
            row: Row = {}
            for line in process.stdout:
                row = json.loads(line)
                yield {"measures": goal(job), **row}
            code = process.wait()
        finally:
            process.kill()
            process.wait()
        if code and "failed" not in row:
            said.seek(0)
            last = (said.read().strip().splitlines() or ["no error message"])[-1]
            why = f"killed by signal {-code}, perhaps out of memory" if code < 0 else last
            yield {"measures": goal(job), "failed": why}


def run_seeds(jobs: list[Job]) -> list[Row]:
    """One row with the values of all seeds."""
    each = [list(run(job))[-1] for job in jobs]
    failed = [row["failed"] for row in each if "failed" in row]
    if failed:
        return [{"measures": goal(jobs[0]), "failed": failed[0]}]
    lists = {k: [x for row in each for x in row[k]] for k, v in each[0].items() if type(v) is list}
    return [each[0] | lists]


def goal(job: Job) -> str:
    return "speed" if job.target is None else f"time to return {job.target:g}"


def with_median(row: Row) -> Row:
    """The row with the median of its values and their spread, (largest - smallest) / median."""
    if "failed" in row:
        return row
    values = [math.inf if v is None else v for v in row["values"]]
    median, most = statistics.median(values), max(values)
    return row | {
        "median": None if median == math.inf else median,
        "spread": None if most == math.inf else (most - min(values)) / median,
    }


def derive(rows: list[Row]) -> None:
    """Add the fractions and ratios that are computed from several rows of a task and size."""
    first: dict[Any, Row] = {}  # phalanx's own, with the first engine, captured if possible
    for row in (r for r in rows if "failed" not in r and r["trainer"] == "phalanx"):
        key = (row["task"], row["num_envs"], row["measures"])
        best = first.setdefault(key, row)
        if row.get("captured") and not best.get("captured"):
            first[key] = row
    for row in (r for r in rows if "failed" not in r):
        best = first.get((row["task"], row["num_envs"], row["measures"]), row)
        if "physics_alone" in row:
            row["outside_physics"] = 1 - row["median"] / statistics.median(row["physics_alone"])
        if best is row or best["median"] is None or row["median"] is None:
            continue
        if row["trainer"] == "phalanx" and row["engine"] != best["engine"]:
            ratio = row["median"] / best["median"]
            row["over_first_engine"] = ratio if row["unit"] == "steps/s" else 1 / ratio
        elif row["unit"] == "steps/s":
            row["phalanx_over_this"] = best["median"] / row["median"]
