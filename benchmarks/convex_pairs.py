"""Robots with many pairs of convex shapes: the fused engine compared with MuJoCo's own.

    uv pip install --target /tmp/robots --no-deps robosuite robosuite-models dm_control \\
        gymnasium-robotics
    python benchmarks/convex_pairs.py /tmp/robots/robosuite/models/assets/robots/panda/robot.xml ...
    python benchmarks/convex_pairs.py --device cuda --envs 4096 FILES

With MuJoCo C on one core of a CPU, by the process's own time; with MuJoCo Warp on a GPU, as a CUDA
graph of one control step. Prints a line of JSON a file: control steps per second (two
substeps, random targets that change every tenth step), and why `engine=auto` takes MuJoCo, or null.
A file is MJCF, or a zip file of `mujoco.MjSpec.to_zip`.
"""

import argparse
import json
import time
from pathlib import Path

import mujoco
import torch

from phalanx.compute.graphs import EAGER_CALLS, Graph
from phalanx.sim import Sim
from phalanx.sim.engines.fused.slower import slower
from phalanx.sim.engines.fused.structure import Structure
from phalanx.sim.engines.fused.touches import CONVEX, pair_kind

STEPS, UNCOUNTED, EACH = 20, 5, 10


class File:
    """A scene that is a file."""

    actors: dict = {}  # noqa: RUF012

    def __init__(self, path: str) -> None:
        read = mujoco.MjSpec.from_zip if path.endswith(".zip") else mujoco.MjSpec.from_file
        self.spec = read(path)

    def compile(self, memory: int = -1) -> mujoco.MjModel:
        return self.spec.compile()


def measure(path: str, engine: str, device: str, envs: int) -> tuple[Sim, int]:
    """The simulation after its steps, and steps per second."""
    sim = Sim(File(path), envs, device, engine=engine, threads=1, substeps=2)
    on_gpu = sim.device.type == "cuda"
    generator = torch.Generator().manual_seed(0)
    ranges = torch.tensor(sim.model.actuator_ctrlrange).float()
    low, high = ranges.unbind(1)

    def drive() -> None:
        noise = torch.rand(sim.ctrl.shape, generator=generator)
        sim.ctrl.copy_(low + (high - low) * noise)

    def now() -> float:
        if not on_gpu:
            return time.process_time()
        torch.cuda.synchronize()
        return time.perf_counter()

    advance = Graph(sim.advance, sim.engine.capture, sim.device) if on_gpu else sim.advance
    uncounted, steps = UNCOUNTED, STEPS
    if on_gpu:
        uncounted, steps = EACH * (EAGER_CALLS + 2), EACH * (EAGER_CALLS + 6)
        for k in range(4 * EACH):  # until the memory of contacts is large enough
            if k % EACH == 0:
                drive()
            sim.advance()
            sim.engine.grow()
    spent = 0.0
    for k in range(steps):
        if k % EACH == 0:
            drive()
        begin = now()
        advance()
        spent += (k >= uncounted) * (now() - begin)
    sim.mark_diverged()
    return sim, round(envs * (steps - uncounted) / spent)


def main() -> None:
    """Measure the files of the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("files", nargs="+")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--envs", type=int, default=32)
    options = parser.parse_args()
    device = torch.device(options.device).type
    other = "warp" if device == "cuda" else "mujoco"
    for path in options.files:
        found = [measure(path, name, options.device, options.envs) for name in (other, "fused")]
        (sim, mujocos), (fused_sim, fused) = found
        s = Structure(sim.model)
        pairs = s.pairs + s.obstacles
        row = {
            "file": "/".join(Path(path).parts[-3:]), "envs": options.envs, other: mujocos,
            "fused": fused, "ratio": round(fused / mujocos, 2),
            "diverged": [int(sim.diverged.sum()), int(fused_sim.diverged.sum())],
            "convex_pairs": sum(pair_kind(s, pair) in CONVEX for pair in pairs),
            "auto_takes_mujoco": slower(s, device),
        }  # fmt: skip
        print(json.dumps(row), flush=True)


if __name__ == "__main__":
    main()
