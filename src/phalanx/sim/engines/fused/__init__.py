"""The fused engine: a whole physics step of a world in one function, on CPUs in vectors of worlds.

    sim = Sim(scene, num_envs=1024, device="cpu", engine="fused")

It solves MuJoCo's equations in float32, without forming a Jacobian or a mass matrix;
`docs/physics.md` explains how. It steps the models that `why_not` has nothing against.

`step.h` says the step in MuJoCo's order, `structure.py` and `tables.py` turn a model into
constants, `numbers.py` and `contact_numbers.py` its fields into numbers; `cpu.py` and `cuda.py`
compile and run it, `engine.py` is the engine.
"""

from phalanx.sim.engines.fused.engine import FusedEngine
from phalanx.sim.engines.fused.support import why_not

__all__ = ["FusedEngine", "why_not"]
