"""Physics of robots on flat ground, on a height field, and on one with thousands of boxes.

    python benchmarks/grounds.py                       # the GPU if there is one, else the CPU
    python benchmarks/grounds.py --device cpu --tasks Go2Velocity --engines fused mujoco

A control step is a task's substeps under one action, after random ones in which most robots fell.
Every pass begins with the same state. Prints the median of seven passes in microseconds a
physics step of an environment, one JSON line a row: on a CPU of the process's own time on all
cores, on a GPU of the time until it is done.
"""

import argparse
import json
import statistics
import time

import torch

from phalanx import tasks

GROUNDS = {
    "flat": {},
    "height field": {"terrain": "rough", "terrain_settings": {"sharp_edges": False}},
    "boxes": {"terrain": "rough"},
}
STEPS, PASSES, SETTLE = 16, 7, 100


def measured(name, ground, engine, num_envs, device):
    """A row."""
    torch.manual_seed(0)
    task = tasks.make(name, num_envs=num_envs, device=device, engine=engine, **GROUNDS[ground])
    task.reset()
    for _ in range(SETTLE):
        task.step(2 * torch.rand(num_envs, task.num_actions, device=device) - 1)
    sim, seconds = task.sim, []
    start = {key: getattr(sim, key).clone() for key in ("qpos", "qvel")}
    on_gpu = sim.device.type == "cuda"
    for _ in range(PASSES):
        for key, value in start.items():
            getattr(sim, key).copy_(value)
        if on_gpu:
            torch.cuda.synchronize()
        begin = time.perf_counter() if on_gpu else time.process_time()
        for _ in range(STEPS):
            sim.step()
        if on_gpu:
            torch.cuda.synchronize()
        seconds.append((time.perf_counter() if on_gpu else time.process_time()) - begin)
    step = statistics.median(seconds) / STEPS / sim.substeps / num_envs
    boxes = sum(sim.model.geom(g).name.startswith("ground_") for g in range(sim.model.ngeom))
    return {
        "task": name, "ground": ground, "engine": engine, "envs": num_envs, "boxes": boxes,
        "us_per_step": round(1e6 * step, 3),
    }  # fmt: skip


def main():
    """Print a row for each task, engine and ground."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    cuda = torch.cuda.is_available()
    parser.add_argument("--device", default="cuda" if cuda else "cpu")
    parser.add_argument("--tasks", nargs="*", default=["Go2Velocity", "AnymalVelocity"])
    parser.add_argument("--engines", nargs="*", default=["fused"])
    parser.add_argument("--envs", type=int)
    options = parser.parse_args()
    envs = options.envs or (16384 if options.device.startswith("cuda") else 1024)
    for name in options.tasks:
        for engine in options.engines:
            for ground in GROUNDS:
                row = measured(name, ground, engine, envs, options.device)
                print(json.dumps(row), flush=True)


if __name__ == "__main__":
    main()
