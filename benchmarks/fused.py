"""Physics of the fused engine beside the other engines of the same device, in one call.

    python benchmarks/fused.py                         # the GPU if there is one, else the CPU
    python benchmarks/fused.py --device cpu --tasks Ant Humanoid --envs 1024

A control step is a task's substeps with its sensors written in the last one, under random actions
and the task's own resets of fallen robots. All engines start from one state and take the same
actions. On a GPU sixteen control steps are a CUDA graph. Prints the median of seven passes in
thousand control steps a second, and the ratio to the first engine, one JSON line a row.
"""

import argparse
import json
import statistics
import time

import torch

from phalanx import tasks
from phalanx.errors import PhalanxError

STEPS = 16
PASSES = 7


def prepare(name, engine, num_envs, device, settle):
    """A simulation whose robots have moved for `settle` control steps, with its sensors read."""
    task = tasks.make(name, num_envs=num_envs, device=device, engine=engine)
    torch.manual_seed(0)
    task.reset()
    for _ in range(settle):
        task.step(2 * torch.rand(num_envs, task.num_actions, device=device) - 1)
    return task.sim


def timed(sim, run, start):
    """Seconds a control step."""
    for name, value in start.items():
        getattr(sim, name).copy_(value)
    if sim.device.type == "cuda":
        torch.cuda.synchronize()
    begin = time.perf_counter()
    run()
    if sim.device.type == "cuda":
        torch.cuda.synchronize()
    return (time.perf_counter() - begin) / STEPS


def main():
    """Print a row for each task, number of environments and engine."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    cuda = torch.cuda.is_available()
    parser.add_argument("--device", default="cuda" if cuda else "cpu")
    parser.add_argument(
        "--tasks", nargs="*", default=["Ant", "Humanoid", "HumanoidWalk", "Cartpole"]
    )
    parser.add_argument("--envs", nargs="*", type=int)
    parser.add_argument("--settle", type=int, default=24)
    options = parser.parse_args()
    device = options.device
    on_gpu = torch.device(device).type == "cuda"
    envs = options.envs or ([4096, 16384, 65536] if on_gpu else [1024])
    engines = ("warp", "fused") if on_gpu else ("mujoco", "fused")
    for name in options.tasks:
        for num_envs in envs:
            compare(name, num_envs, device, engines, options.settle)


def compare(name, num_envs, device, engines, settle):
    """Rows of one task; the engines' passes alternate, so that they share what else happens."""
    sims, built = {}, {}
    for engine in engines:
        begin = time.perf_counter()
        try:
            sims[engine] = prepare(name, engine, num_envs, device, settle)
        except PhalanxError as error:
            print(json.dumps({"task": name, "engine": engine, "error": str(error)}), flush=True)
        built[engine] = round(time.perf_counter() - begin, 1)
    first = next(iter(sims.values()))
    start = {k: getattr(first, k).clone() for k in ("qpos", "qvel")}
    shape = (STEPS, *first.ctrl.shape)
    low, high = torch.tensor(first.model.actuator_ctrlrange, device=device).float().unbind(1)
    actions = low + (high - low) * torch.rand(shape, device=device)
    runs = {}
    for engine, sim in sims.items():

        def steps(sim=sim):
            for action in actions:
                sim.ctrl.copy_(action)
                sim.advance()

        runs[engine] = steps
        steps()
        if torch.device(device).type == "cuda":
            graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(graph), sim.engine.capture():
                steps()
            runs[engine] = graph.replay
    seconds = {engine: [] for engine in sims}
    for _ in range(PASSES):
        for engine, sim in sims.items():
            seconds[engine].append(timed(sim, runs[engine], start))
    medians = {engine: statistics.median(values) for engine, values in seconds.items()}
    for engine, median in medians.items():
        row = {
            "task": name, "num_envs": num_envs, "engine": engine,
            "k_steps_per_s": round(num_envs / median / 1e3, 1),
            "us_per_step": round(median * 1e6, 1),
            "ratio": round(next(iter(medians.values())) / median, 2),
            "started_in_s": built[engine],
            "lost": int((~torch.isfinite(sims[engine].qpos).all(1)).sum()),
            "device": torch.cuda.get_device_name() if sims[engine].device.type == "cuda" else "cpu",
        }  # fmt: skip
        print(json.dumps(row), flush=True)


if __name__ == "__main__":
    main()
