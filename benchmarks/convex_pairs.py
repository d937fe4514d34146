"""Robots with many pairs of convex shapes: the fused engine beside MuJoCo C on one core.

    uv pip install --target /tmp/robots --no-deps robosuite robosuite-models dm_control \\
        gymnasium-robotics
    python benchmarks/convex_pairs.py /tmp/robots/robosuite/models/assets/robots/panda/robot.xml ...

Prints a line of JSON a file: control steps per second of the process's own time (two substeps,
random targets that change every tenth step), and why `engine=auto` takes MuJoCo, or null.
"""

import json
import sys
import time
from pathlib import Path

import mujoco
import torch

from phalanx.sim import Sim
from phalanx.sim.engines.fused.structure import Structure
from phalanx.sim.engines.fused.support import slower
from phalanx.sim.engines.fused.touches import CONVEX, pair_kind

ENVS, STEPS, UNCOUNTED, EACH = 32, 20, 5, 10


class File:
    """A scene that is an MJCF file."""

    actors: dict = {}  # noqa: RUF012

    def __init__(self, path: str) -> None:
        self.spec = mujoco.MjSpec.from_file(path)

    def compile(self, memory: int = -1) -> mujoco.MjModel:
        return self.spec.compile()


def measure(path: str, engine: str) -> tuple[Sim, int]:
    """The simulation after its steps, and steps per second."""
    sim = Sim(File(path), ENVS, "cpu", engine=engine, threads=1, substeps=2)
    generator = torch.Generator().manual_seed(0)
    low, high = torch.tensor(sim.model.actuator_ctrlrange).float().unbind(1)
    spent = 0.0
    for k in range(STEPS):
        if k % EACH == 0:
            sim.ctrl[:] = low + (high - low) * torch.rand(sim.ctrl.shape, generator=generator)
        begin = time.process_time()
        sim.step()
        spent += (k >= UNCOUNTED) * (time.process_time() - begin)
    return sim, round(ENVS * (STEPS - UNCOUNTED) / spent)


def main() -> None:
    """Measure the files of the command line."""
    for path in sys.argv[1:]:
        (sim, mujoco_c), (_, fused) = (measure(path, name) for name in ("mujoco", "fused"))
        s = Structure(sim.model)
        pairs = s.pairs + s.obstacles
        row = {
            "file": "/".join(Path(path).parts[-3:]), "mujoco": mujoco_c, "fused": fused,
            "ratio": round(fused / mujoco_c, 2), "diverged": int(sim.diverged.sum()),
            "convex_pairs": sum(pair_kind(s, pair) in CONVEX for pair in pairs),
            "auto_takes_mujoco": slower(s, "cpu"),
        }  # fmt: skip
        print(json.dumps(row), flush=True)


if __name__ == "__main__":
    main()
