"""Training steps/s of UniLab's Go2 and of ours, in turn on the same cores.

    python -m venv unilab && unilab/bin/pip install torch==2.13.0+cpu "unilab[mujoco]==1.5.2"
    uv run python benchmarks/walk_peers.py unilab=unilab seconds=30 rounds=3 out=peers.json

`unilab` is a virtual environment; the robot's meshes must lie in its `unilab/assets/robots/go2`,
where UniLab puts them on first use. Each round trains UniLab's `go2_joystick_flat` with PPO, then
our `Go2JoystickUnilab`, which is the same task and the same PPO, and our `Go2Velocity`, for
`seconds` each, as it is and with `mixed_precision`, which counts on processors with tiles for
bfloat16; all with two physics threads, two of PyTorch, and `num_envs` environments. Of each
it writes training steps/s, from the second iteration on, and how many cores it had; other programs
on the machine take from both.
"""

import datetime
import json
import os
import platform
import re
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from phalanx.cli.result import versions

SEEDS = Path(__file__).with_name("walk_seeds.py")
NUMBER = {
    key: re.compile(rf"{key}\D*?([\d.]+)")
    for key in ("Total steps", "Collection time", "Learning time")
}
LONGEST = 600.0
"""Of a training, with its start-up [s]."""


def cpu_seconds(group: int) -> float:
    """That the running programs of a process group have used so far."""
    ticks = 0
    for file in Path("/proc").glob("[0-9]*/stat"):
        try:
            values = file.read_text().rpartition(")")[2].split()
        except OSError:  # it has just ended
            continue
        if int(values[2]) == group:
            ticks += int(values[11]) + int(values[12])  # of the user and of the system
    return ticks / os.sysconf("SC_CLK_TCK")


def unilab(venv: Path, num_envs: int, seconds: float) -> dict[str, Any]:
    """Train UniLab for `seconds` after its first iteration."""
    command = [str(venv.absolute() / "bin/train"), "--algo", "ppo", "--task", "go2_joystick_flat"]
    command += ["--sim", "mujoco", f"algo.num_envs={num_envs}", "training.device=cpu"]
    command += ["training.no_play=true", "algo.max_iterations=100000"]
    env = {**os.environ, "HF_HUB_OFFLINE": "1", "WANDB_MODE": "disabled", "PYTHONUNBUFFERED": "1"}
    env.pop("PYTHONPATH", None)
    (package,) = (venv.absolute() / "lib").glob("python*/site-packages/unilab")
    rows: list[dict[str, float]] = []
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "src").mkdir()  # its settings name src/unilab/assets
        Path(folder, "src/unilab").symlink_to(package)
        process = subprocess.Popen(
            command, cwd=folder, env=env, stdout=subprocess.PIPE, text=True, start_new_session=True
        )
        assert process.stdout is not None
        began, row = time.perf_counter(), {}
        for line in process.stdout:
            for key, number in NUMBER.items():
                if key in line and (found := number.search(line)):
                    row[key] = float(found[1])
            if len(row) == len(NUMBER):
                rows.append(row)
                row = {}
                if sum(r["Collection time"] + r["Learning time"] for r in rows[1:]) > seconds:
                    break
            if time.perf_counter() - began > LONGEST:
                break
        cores = cpu_seconds(process.pid) / (time.perf_counter() - began)
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    if len(rows) < 2:
        sys.exit("UniLab did not get to its second iteration; run it by hand: " + " ".join(command))
    steps = rows[-1]["Total steps"] - rows[0]["Total steps"]
    collecting, learning = (
        sum(r[k] for r in rows[1:]) for k in ("Collection time", "Learning time")
    )
    return {
        "train_steps_per_s": round(steps / (collecting + learning)),
        "collect_steps_per_s": round(steps / collecting),
        "cores": round(cores, 2),
        "frames": int(steps),
    }


OURS = {
    "Go2JoystickUnilab": ["task=Go2JoystickUnilab"],
    "Go2Velocity": ["task=Go2Velocity"],
    "Go2Velocity, bfloat16": ["task=Go2Velocity", "train.params.config.mixed_precision=true"],
}


def phalanx(arguments: list[str], num_envs: int, seconds: float) -> dict[str, Any]:
    """Train one of `OURS` for `seconds`."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, str(SEEDS), *arguments, f"num_envs={num_envs}"]
        command += ["sim_device=cpu", f"limit={seconds:g}", f"out={folder}"]
        subprocess.run(command, check=True, capture_output=True, cwd=folder)
        row = json.loads(Path(folder, "result.jsonl").read_text().splitlines()[-1])
    return {key: row[key] for key in ("train_steps_per_s", "cores", "frames", "engine")}


def main() -> None:
    given = dict(a.split("=", 1) for a in sys.argv[1:])
    venv, seconds = Path(given["unilab"]), float(given.get("seconds", 30))
    num_envs = int(given.get("num_envs", 1024))
    rows = []
    for _ in range(int(given.get("rounds", 3))):
        for who in ("unilab", *OURS):
            measured = (
                unilab(venv, num_envs, seconds)
                if who == "unilab"
                else phalanx(OURS[who], num_envs, seconds)
            )
            rows.append({"trains": who, "num_envs": num_envs, **measured})
            print(json.dumps(rows[-1]), flush=True)
    medians = {
        who: statistics.median(r["train_steps_per_s"] for r in rows if r["trains"] == who)
        for who in ("unilab", *OURS)
    }
    listing = [str(venv / "bin/pip"), "list", "--format=json"]
    theirs = json.loads(subprocess.run(listing, capture_output=True, text=True, check=True).stdout)
    kept = ("unilab", "torch", "mujoco", "mjbatch-uni", "rsl-rl-lib", "unisim-core")
    result = {
        "command": " ".join(["benchmarks/walk_peers.py", *sys.argv[1:]]),
        "date": f"{datetime.date.today()}",
        "hardware": {"cores": os.cpu_count(), "system": platform.platform()},
        "versions": versions(),
        "unilab_versions": {p["name"]: p["version"] for p in theirs if p["name"] in kept},
        "median_steps_per_s": medians,
        "times_unilab": {k: round(v / medians["unilab"], 1) for k, v in medians.items()},
        "rows": rows,
    }
    print(json.dumps(result["times_unilab"]))
    if "out" in given:
        Path(given["out"]).write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
