"""What ptxas makes of the fused step: threads of a warp have enough places to wait for each other.

It needs NVRTC, and one test nvdisasm, but no GPU."""

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from phalanx import tasks
from phalanx.sim import Sim
from phalanx.sim.engines.fused import cpu, cuda, engine, spreading
from phalanx.sim.engines.fused.machine_code import places_used_twice
from test_fused import TASKS, Text
from test_fused_boxes import CONVEX as ROUND
from test_fused_boxes import ROBOTS, SHAPES, free, model_of, robot
from test_fused_convex import MESHES
from test_fused_convex import MODELS as CONVEX

pytest.importorskip("cuda.bindings.nvrtc", reason="needs NVRTC")


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


ALL = SHAPES | ROUND
MIXED = [("hulls",), ("boxes", "hulls"), ("spheres", "capsules", "boxes"), tuple(ALL)]


def on_boxes(kinds):
    return scene(model_of("".join(free(ALL[k][0]) for k in kinds), assets=MESHES))


def on_a_height_field(kinds):
    field = '<hfield name="ground" nrow="9" ncol="9" size="2 2 .3 .1"/></asset>'
    shapes = "".join(free(ALL[k][0]) for k in kinds)
    return scene(f"""<mujoco>{MESHES.replace("</asset>", field)}<worldbody>
      <geom type="hfield" hfield="ground"/>{shapes}</worldbody></mujoco>""")


STEPS = {
    **{f"{k} on boxes": on_boxes([k]) for k in ALL},
    **{f"{' and '.join(kinds)} on boxes": on_boxes(kinds) for kinds in MIXED[1:]},
    **{f"{' and '.join(kinds)} on a height field": on_a_height_field(kinds) for kinds in MIXED},
    **{f"convex {k}": scene(xml.replace("<worldbody>", f"{MESHES}<worldbody>", 1))
       for k, (_, xml, *_rest) in CONVEX.items()},
    **{f"{k} on boxes": (lambda k=k: robot(k, 64)) for k in ROBOTS},
    **{k: task(k) for k in TASKS},
    **{f"{k} on rough ground": task(k, terrain="rough") for k in ("Go2Velocity", "G1Velocity")},
}  # fmt: skip


@pytest.mark.parametrize("name", STEPS)
def test_ptxas_has_a_place_for_each_wait_of_a_step(name, monkeypatch):
    assert not places_used_twice(cuda.compile_cubin(text_of(STEPS[name], monkeypatch), "sm_90"))


def nested(count):
    """CUDA text of `count` functions, each of which calls the one before in a branch of a loop."""
    call = "__device__ __noinline__ int"
    text = f"{call} f0(int x, const int *p) {{ return p[x & 255]; }}\n"
    for k in range(1, count):
        text += f"""{call} f{k}(int x, const int *p) {{
          int s = x;
          for (int i = 0; i < p[x + {k} & 255]; i++) if (p[s & 255] > {k}) s += f{k - 1}(s + i, p);
          return s;
        }}\n"""
    return f"""{text}extern "C" __global__ void run(int *p) {{
      p[threadIdx.x] = f{count - 1}(p[threadIdx.x], p);
    }}"""


def disassembler():
    """nvdisasm, which comes with CUDA and with Triton."""
    try:
        import triton

        own = Path(triton.__file__).parent / "backends/nvidia/bin"
    except ImportError:
        own = Path("/")
    found = shutil.which("nvdisasm", path=f"{os.environ.get('PATH', '')}:/usr/local/cuda/bin:{own}")
    return found or pytest.skip("needs nvdisasm")


@pytest.mark.parametrize("gpu", ["sm_75", "sm_80", "sm_90", "sm_100", "sm_120"])
def test_places_used_twice_are_those_that_nvdisasm_shows(gpu, tmp_path):
    program, cubin = disassembler(), tmp_path / "nested.cubin"
    for count in (2, 9):
        cubin.write_bytes(cuda.compile_cubin(nested(count), gpu))
        code = subprocess.run([program, "-c", cubin], capture_output=True, text=True, check=True)
        shown = len(re.findall(r"BMOV\.32 B\d+, R", code.stdout))
        assert places_used_twice(cubin.read_bytes()) == shown
        assert "BSSY" in code.stdout  # places, as these programs name them
    assert shown
