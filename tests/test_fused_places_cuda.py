"""What ptxas makes of the fused step: threads of a warp have enough places to wait for each other.

It needs NVRTC and nvdisasm, but no GPU."""

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from phalanx import tasks
from phalanx.sim import Sim
from phalanx.sim.engines.fused import cpu, cuda, engine, spreading
from test_fused import TASKS, Text
from test_fused_boxes import CONVEX as ROUND
from test_fused_boxes import ROBOTS, SHAPES, free, model_of, robot
from test_fused_convex import MESHES
from test_fused_convex import MODELS as CONVEX

pytest.importorskip("cuda.bindings.nvrtc", reason="needs NVRTC")
SPILLED = re.compile(r"BMOV\.32\S* B\d+, R")
"""A place that is read back from a register, as another wait had it meanwhile."""


def disassembler():
    """nvdisasm, which comes with CUDA and with Triton."""
    try:
        import triton

        own = Path(triton.__file__).parent / "backends/nvidia/bin"
    except ImportError:
        own = Path()
    found = shutil.which("nvdisasm", path=f"{os.environ['PATH']}:/usr/local/cuda/bin:{own}")
    return found or pytest.skip("needs nvdisasm")


class Seen(Exception):
    """The text is there; nothing else is built."""


def text_of(make, monkeypatch):
    """The text for a GPU of the step that `make` builds."""

    def step(constants, _threads):
        raise Seen(cuda.source(constants))

    monkeypatch.setattr(cpu, "CpuStep", step)
    monkeypatch.setattr(cpu, "SIZES", cuda.SIZES)
    monkeypatch.setattr(engine, "alone", spreading.spread)
    with pytest.raises(Seen) as seen:
        make()
    return str(seen.value)


def scene(xml):
    return lambda: Sim(Text(xml), 64, "cpu", engine="fused")


def task(name, **options):
    return lambda: tasks.make(name, num_envs=64, device="cpu", engine="fused", **options)


STEPS = {
    **{f"{k} on boxes": scene(model_of("".join(map(free, geoms)), assets=MESHES))
       for k, geoms in (SHAPES | ROUND).items()},
    **{f"convex {k}": scene(xml.replace("<worldbody>", f"{MESHES}<worldbody>", 1))
       for k, (_, xml, *_rest) in CONVEX.items()},
    **{f"{k} on boxes": (lambda k=k: robot(k, 64)) for k in ROBOTS},
    **{k: task(k) for k in TASKS},
    **{f"{k} on rough ground": task(k, terrain="rough") for k in ("Go2Velocity", "G1Velocity")},
}  # fmt: skip


@pytest.mark.parametrize("name", STEPS)
def test_ptxas_has_a_place_for_each_wait_of_a_step(name, monkeypatch, tmp_path):
    program = disassembler()
    cubin = tmp_path / "step.cubin"
    cubin.write_bytes(cuda.compile_cubin(text_of(STEPS[name], monkeypatch), "sm_90"))
    code = subprocess.run([program, "-c", cubin], capture_output=True, text=True, check=True).stdout
    assert "BSSY" in code  # places, as these programs name them
    assert not SPILLED.findall(code)
