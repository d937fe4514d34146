"""Trains an unmodified IsaacGymEnvs task on our `isaacgym`, with RL Games and with our Runner.

    python benchmarks/drop_in_task.py path=/path/to/IsaacGymEnvs task=Ant num_envs=4096 \\
        device=cuda:0 iterations=200 out=ant.json

Both use the task's own train config, one after the other in separate processes: the repository's
`train.py` with the installed rl-games, then our Runner with `isaacgymenvs.make`. Figures are read
from the TensorBoard files that both write: the median speed over the second half of the iterations,
and the final mean return.
"""

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from phalanx.cli.result import git_commit, versions

SPEED = "performance/step_inference_rl_update_fps"


def train_here(path: str, task: str, num_envs: int, device: str, iterations: int) -> None:
    """Our Runner with the repository's own configuration."""
    import isaacgym  # noqa: F401, I001  first, as the repository's own scripts do
    import isaacgymenvs  # noqa: F401  registers resolvers
    from hydra import compose, initialize_config_dir
    from omegaconf import OmegaConf

    from phalanx.rl import Runner

    with initialize_config_dir(f"{path}/isaacgymenvs/cfg", version_base="1.1"):
        config = compose("config", [f"task={task}", f"num_envs={num_envs}"])
    params = OmegaConf.to_container(config.train, resolve=True)["params"]
    params["config"] |= {
        "env_name": "isaacgymenvs",
        "env_config": {"task": task},
        "num_actors": num_envs,
        "device": device,
        "sim_device": device,
        "max_epochs": iterations,
        "train_dir": "runs",
    }
    runner = Runner()
    runner.load({"params": params})
    runner.run({"train": True})


def figures(folder: Path) -> dict[str, object]:
    """Figures from the TensorBoard file below `folder`."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    [file] = folder.rglob("events.out.tfevents.*")
    events = EventAccumulator(str(file), size_guidance={"scalars": 0})
    events.Reload()
    speeds = [e.value for e in events.Scalars(SPEED)]
    returns = [(e.step, round(e.value, 2)) for e in events.Scalars("rewards/iter")]
    return {
        "iterations": len(speeds),
        "train_fps": round(statistics.median(speeds[len(speeds) // 2 :])),
        "final_return": returns[-1][1] if returns else None,
        "returns_by_iteration": returns[:: max(1, len(returns) // 40)],
    }


def main() -> None:
    options = dict(a.split("=", 1) for a in sys.argv[1:])
    path = str(Path(options.pop("path")).resolve())
    task = options.pop("task", "Ant")
    num_envs, iterations = int(options.pop("num_envs", 4096)), int(options.pop("iterations", 200))
    device, out = options.pop("device", "cuda:0"), options.pop("out", "")
    if options.pop("ours", ""):
        train_here(path, task, num_envs, device, iterations)
        return
    train_py = [f"{path}/isaacgymenvs/train.py", "headless=True", f"max_iterations={iterations}"]
    train_py += [f"task={task}", f"num_envs={num_envs}", f"sim_device={device}"]
    train_py += [f"rl_device={device}", f"pipeline={'cpu' if device == 'cpu' else 'gpu'}"]
    commands = {"rl_games": train_py, "phalanx": [__file__, *sys.argv[1:], "ours=1"]}
    commands["phalanx"][1] = f"path={path}"
    rows = {}
    for name, command in commands.items():
        with tempfile.TemporaryDirectory() as folder:
            env = {**os.environ, "PYTHONPATH": os.pathsep.join([path, *sys.path[1:]])}
            start = time.perf_counter()
            done = subprocess.run([sys.executable, *command], cwd=folder, env=env)
            if done.returncode:
                sys.exit(f"{name} failed with exit code {done.returncode}")
            rows[name] = {"wall_s": round(time.perf_counter() - start, 1)} | figures(Path(folder))
        print(name, {k: v for k, v in rows[name].items() if k != "returns_by_iteration"})
    result = {
        "command": "benchmarks/drop_in_task.py " + " ".join(sys.argv[1:]),
        "task": task,
        "num_envs": num_envs,
        "device": device,
        "date": time.strftime("%Y-%m-%d"),
        "versions": versions(),
        "git_commit": git_commit(),
        "trainers": rows,
    }
    if out:
        Path(out).write_text(json.dumps(result) + "\n")


if __name__ == "__main__":
    main()
