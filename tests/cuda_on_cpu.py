"""The fused step's text for GPUs, compiled by g++ and run on the CPU, a lane after the other."""

import ctypes
import hashlib
import shutil
import subprocess
from pathlib import Path

import pytest
import torch

from phalanx.sim.engines.fused import cpu, cuda, engine, spreading
from phalanx.sim.engines.fused.source import read

ENTRY = """
extern "C" void launch_run(Fields *f, const float *shared, const float *varied, long worlds,
                           int substeps, int positions, const unsigned char *mask) {
  on_lanes(worlds, [=] { run(*f, shared, varied, worlds, substeps, positions, mask); });
}
extern "C" void launch_solve_m(Fields *f, const float *shared, const float *varied, long worlds,
                               const float *force, const float *added, float *out) {
  on_lanes(worlds, [=] { solve_m(*f, shared, varied, worlds, force, added, out); });
}
"""


@pytest.fixture
def lanes_on_cpu(monkeypatch, tmp_path_factory):
    """Fused engines of device "cpu" step a world with as many lanes as those of a GPU."""
    if shutil.which("g++") is None:
        pytest.skip("needs g++ to compile the text for GPUs")
    folder = tmp_path_factory.mktemp("cuda_on_cpu")
    monkeypatch.setattr(cpu, "CpuStep", lambda text, threads: Step(text, folder))
    monkeypatch.setattr(engine, "alone", spreading.spread)


class Step:
    """See `CudaStep`."""

    threads = 1
    varied = cuda.CudaStep.varied
    _device = "cpu"
    bind = cuda.CudaStep.bind

    def __init__(self, constants: str, folder: Path) -> None:
        count = constants.split("#define LANES ")[1].split()[0]
        self._lanes = int(count)
        text = (
            f"#define THREADS {count}\n{(Path(__file__).parent / 'cuda_on_cpu.h').read_text()}"
            f"#define TABLE static const\n{constants}"
            f"{read('cuda.h')}{read('step.h')}{read('cuda_entry.h')}{ENTRY}"
        )
        library = folder / f"{hashlib.sha256(text.encode()).hexdigest()[:16]}.so"
        if not library.exists():
            source = library.with_suffix(".cpp")
            source.write_text(text)
            command = ["g++", "-O0", "-w", "-shared", "-fPIC", "-o", str(library), str(source)]
            subprocess.run(command, check=True)
        self._library = ctypes.CDLL(str(library))

    def run(self, bound, shared, varied, worlds, substeps, flags, mask=None):
        bound[len(bound) - 1] = int(flags[0])
        where = ctypes.c_void_p(None if mask is None else mask.data_ptr())
        rest = (ctypes.c_long(worlds), substeps, flags[1], where)
        self._library.launch_run(bound, *_pointers(shared, varied), *rest)

    def solve_m(self, bound, shared, varied, worlds, force, added):
        out = torch.empty_like(force)
        rest = (ctypes.c_long(worlds), *_pointers(force, added, out))
        self._library.launch_solve_m(bound, *_pointers(shared, varied), *rest)
        return out


def _pointers(*tensors):
    return [ctypes.c_void_p(t.data_ptr()) for t in tensors]
