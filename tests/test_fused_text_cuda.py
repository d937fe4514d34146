"""What CUDA's compilers make of the fused step, as far as a machine without a GPU can tell.

It needs NVRTC, and one test nvdisasm, but no GPU."""

import os
import re
import shutil
import subprocess
from pathlib import Path

import mujoco
import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from phalanx import tasks
from phalanx.sim import Sim
from phalanx.sim.engines.fused import cpu, cuda, engine, spreading
from phalanx.sim.engines.fused.invweights import Invweights
from phalanx.sim.engines.fused.machine_code import places_used_twice
from phalanx.sim.engines.fused.numbers import Numbers, model_fields
from phalanx.sim.engines.fused.spreading import spread
from phalanx.sim.engines.fused.structure import Structure
from phalanx.sim.engines.fused.tables import VARIABLE, constants
from ptx import compiled, kept_unset
from test_fused import ARMS, TASKS, Text
from test_fused import MODELS as TRUTHS
from test_fused_boxes import CONVEX as ROUND
from test_fused_boxes import ROBOTS, SHAPES, free, model_of, robot
from test_fused_convex import MESHES
from test_fused_convex import MODELS as CONVEX
from test_fused_fluid import FLUIDS, SWIMMER
from test_fused_ground import BALLS, CORNERED, hills, rolling
from test_fused_ground import ROUND as ROLLING
from test_fused_rows import ROWS
from test_fused_rows import model_of as with_rows
from test_fused_sensors import SENSORS, WELDED, WORLD
from test_fused_thrust import DRONE, OPTIONS

pytest.importorskip("cuda.bindings.nvrtc", reason="needs NVRTC, from torch's CUDA build")

ALL = SHAPES | ROUND
MIXED = [("hulls",), ("boxes", "hulls"), ("spheres", "capsules", "boxes"), tuple(ALL)]


def with_meshes(xml):
    return xml.replace("<worldbody>", f"{MESHES}<worldbody>", 1)


def on_boxes(kinds):
    return model_of("".join(free(ALL[k][0]) for k in kinds), assets=MESHES)


def on_a_height_field(kinds):
    field = '<hfield name="ground" nrow="9" ncol="9" size="2 2 .3 .1"/></asset>'
    shapes = "".join(free(ALL[k][0]) for k in kinds)
    return f"""<mujoco>{MESHES.replace("</asset>", field)}<worldbody>
      <geom type="hfield" hfield="ground"/>{shapes}</worldbody></mujoco>"""


def scene(xml):
    return lambda: Sim(Text(xml), 64, "cpu", engine="fused")


def task(name, **options):
    return lambda: tasks.make(name, num_envs=64, device="cpu", engine="fused", **options)


STEPS = {
    **{f"{k} on boxes": scene(on_boxes([k])) for k in ALL},
    **{f"{' and '.join(some)} on boxes": scene(on_boxes(some)) for some in MIXED[1:]},
    **{f"{' and '.join(some)} on a height field": scene(on_a_height_field(some)) for some in MIXED},
    **{f"convex {k}": scene(with_meshes(xml)) for k, (_, xml, *_rest) in CONVEX.items()},
    **{f"{k} on boxes": (lambda k=k: robot(k, 64)) for k in ROBOTS},
    **{k: task(k) for k in TASKS},
    **{f"{k} on rough ground": task(k, terrain="rough") for k in ("Go2Velocity", "G1Velocity")},
}  # fmt: skip
VARYING = {  # with numbers of their own in each world
    "joints": TRUTHS["implicitfast"][1],
    "balls": TRUTHS["balls and free joints"][1],
    "points": TRUTHS["on a plane"][1],
    "trees": TRUTHS["contacts between trees"][1],
    "obstacles": TRUTHS["fixed obstacles"][1],
    "hills": hills(bodies=BALLS + "".join(map(rolling, ROLLING.values()))),
    "cornered on hills": hills(bodies="".join(map(rolling, CORNERED.values())), assets=MESHES),
    "many boxes": model_of("".join(free(own) for some in SHAPES.values() for own in some)),
    "round on many boxes": on_boxes(ROUND),
    "convex": with_meshes(CONVEX["on what is fixed"][1]),
    "lanes": f"<mujoco><worldbody>{ARMS}</worldbody></mujoco>",
    "rows": with_rows(ROWS),
    "RK4": TRUTHS["RK4"][1],
    "lanes, RK4": f'<mujoco><option integrator="RK4"/><worldbody>{ARMS}</worldbody></mujoco>',
    "fluid": SWIMMER(**FLUIDS["RK4"]),
    "drone": DRONE(**OPTIONS["implicitfast"]),
    "welded": WELDED.format(""),
    "sensors": WORLD.format("".join(SENSORS.values())),
}


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


def varying_text_of(xml):
    structure = Structure(mujoco.MjModel.from_xml_string(xml))
    lanes, host = spread(structure), torch.device("cpu")
    made = Numbers(structure, host).make(model_fields(structure.model, host))
    shapes = {name: lanes.arranged(name, values).shape[1:] for name, values in made.items()}
    wide = {"inertia", "limit", "point", "pair"}
    return cuda.source(constants(structure, {"body_mass"}, wide, shapes, cuda.SIZES, lanes))


@pytest.mark.parametrize("name", [*STEPS, *(f"varying {k}" for k in VARYING)])
def test_compilers_cannot_go_wrong_on_a_step(name, monkeypatch):
    """Threads have a place for each wait, and loops keep nothing that was not set."""
    if name in STEPS:
        text = text_of(STEPS[name], monkeypatch)
    else:
        text = varying_text_of(VARYING[name.removeprefix("varying ")])
    cubin, ptx = compiled(text)
    assert not places_used_twice(cubin)
    lines = [text.splitlines()[line - 1].strip() for line in kept_unset(ptx)]
    assert not [line for line in lines if not line.startswith(READ_BY_NOBODY)]


READ_BY_NOBODY = ("total += gear", "w.tau[k] += total", "derivative += gear", "if (IMPLICIT_FAST)")
"""Of a joint without actuators: NVRTC drops the zero in front of its loop."""

KEEPS = """extern "C" __global__ void run(const float *x, float *out, int n) {
  float best = 1e30f, kept[2] UNSET;
  for (int i = 0; i < n; i++) if (x[i] < best) best = x[i], kept[0] = x[i + 1], kept[1] = x[i + 2];
  if (best < 1e30f) out[0] = kept[0], out[1] = kept[1];
}"""


def test_what_a_loop_keeps_unset_is_found():
    assert kept_unset(compiled(KEEPS.replace("UNSET", ""))[1])
    assert not kept_unset(compiled(KEEPS.replace("UNSET", "= {}"))[1])


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
    found = shutil.which("nvdisasm", path=f"{own}:{os.environ.get('PATH', '')}:/usr/local/cuda/bin")
    return found or pytest.skip("needs nvdisasm")


@pytest.mark.parametrize("gpu", ["sm_75", "sm_80", "sm_90", "sm_100", "sm_120"])
def test_places_used_twice_are_those_that_nvdisasm_shows(gpu, tmp_path):
    program, cubin = disassembler(), tmp_path / "nested.cubin"
    for count in (2, 9):
        cubin.write_bytes(cuda.compile_cubin(nested(count), gpu))
        code = subprocess.run([program, "-c", cubin], capture_output=True, text=True)
        if code.returncode:
            pytest.skip(f"{program} does not know {gpu}: {code.stderr.strip()[-200:]}")
        shown = len(re.findall(r"BMOV\.32 B\d+, R", code.stdout))
        assert places_used_twice(cubin.read_bytes()) == shown
        assert "BSSY" in code.stdout  # places, as these programs name them
    assert shown


@pytest.mark.parametrize("name", ["Ant", "Go2Velocity"])
def test_numbers_are_made_on_the_gpu_without_waiting(name):
    """Fake tensors know their device and have no values: what mixes devices or waits, fails."""
    if not torch.backends.cuda.is_built():
        pytest.skip("torch's build for CPUs alone makes no fake tensors of a GPU")
    model = tasks.make(name, num_envs=2, device="cpu", engine="mujoco").sim.model
    gpu = torch.device("cuda")
    with FakeTensorMode(allow_non_fake_inputs=True):
        structure = Structure(model)
        lanes, numbers = spread(structure), Numbers(structure, gpu)
        shared = model_fields(model, gpu)

        def own(name):
            value = shared(name)
            return value.expand(8, *value.shape[1:]) if name in VARIABLE else value

        for field, envs in ((shared, 1), (own, 8)):
            made = {k: lanes.arranged(k, v) for k, v in numbers.make(field).items()}
            assert {v.device.type for v in made.values()} == {"cuda"}
            assert max(len(v) for v in made.values()) == envs
        zeros = [torch.zeros(8, *n, device=gpu) for n in ((model.nv, 6), *[(model.nbody, 3)] * 2)]
        found = Invweights(structure, gpu).find(torch.zeros_like, *zeros)
        assert found["body_invweight0"].shape == (8, model.nbody, 2)
        assert {x.device.type for x in found.values()} == {"cuda"}
