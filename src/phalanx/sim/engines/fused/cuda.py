"""The fused step on a GPU: one kernel a step, compiled by NVRTC, launched on torch's stream.

NVRTC and the driver are called through `cuda.bindings`, which comes with torch's CUDA build.
"""

import ctypes
import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from phalanx.compute.cache import NotCompiled, kept
from phalanx.errors import PhalanxError
from phalanx.sim.engines.fused.machine_code import places_used_twice
from phalanx.sim.engines.fused.source import Sizes, read
from phalanx.sim.engines.fused.values import DoesNotFit

THREADS = (256, 128, 64, 32)
"""Of a block: as many as leave a block to nearly every multiprocessor. Warps of a block wait for
the same instructions together, which is most of what a step waits for."""
RESERVED = 1024
"""Bytes of shared memory that CUDA takes of each block."""
SIZES = Sizes(pairs=16, rows=32)
MOST_LOCAL = 0.5
"""Of the GPU's memory, for what threads keep there: CUDA sets it aside for as many threads as the
GPU holds."""
FLAGS = ("--std=c++17", "--use_fast_math", "--device-as-default-execution-space")


class CudaStep:
    """The step of one structure on `device`. `constants`: its C declarations, for `lanes` threads a
    world; worlds: the most that it will step."""

    threads = 0

    def __init__(self, constants: str, device: torch.device, lanes: int, worlds: int) -> None:
        self._device = device
        self._lanes = lanes
        cores = torch.cuda.get_device_properties(device).multi_processor_count
        self._block = block_size(worlds * lanes, cores)
        major, minor = torch.cuda.get_device_capability(device)
        text = source(constants, self._block)
        cubin = kept(f"// {FLAGS}\n{text}", f"sm_{major}{minor}", compile_cubin)
        if places_used_twice(cubin):
            raise DoesNotFit(
                "the fused step with these shapes is nested too deeply for a GPU: contacts could be"
                " wrong; use another engine"
            )
        driver = _bindings("driver")
        with torch.cuda.device(device):
            torch.cuda.current_stream().synchronize()  # makes torch's context current
            module = _checked(driver.cuModuleLoadData(cubin))
            self._kernel = _checked(driver.cuModuleGetFunction(module, b"run"))
            self._solve_m = _checked(driver.cuModuleGetFunction(module, b"solve_m"))
            blocks = -(-self._blocks(worlds) // cores)  # of a multiprocessor, if there is room
            try:
                for kernel in (self._kernel, self._solve_m):
                    _check_room(driver, kernel, device)
                    _share_little(driver, kernel, blocks, self._block)
            except DoesNotFit:
                _checked(driver.cuModuleUnload(module))
                raise
        self._launch = driver.cuLaunchKernel

    def varied(self, rows: int, worlds: int) -> Tensor:
        """Memory for the numbers that differ between worlds, (rows, warps, worlds of a warp),
        float32: those of a warp lie together."""
        width = 32 // self._lanes
        return torch.zeros(-(-worlds // width), rows, width, device=self._device).permute(1, 0, 2)

    def bind(self, fields: Mapping[str, Tensor | None]) -> Any:
        """See `CpuStep.bind`."""
        pointers = [0 if t is None else t.data_ptr() for t in fields.values()]
        return (ctypes.c_int64 * (len(pointers) + 1))(*pointers, 0)

    @torch.compiler.disable  # which could not follow the driver's calls, and would say so
    def run(
        self,
        bound: Any,
        shared: Tensor,
        varied: Tensor,
        worlds: int,
        substeps: int,
        flags: tuple[bool, int],
        mask: Tensor | None = None,
    ) -> None:
        """See `CpuStep.run`. Launches on torch's current stream, which may be capturing."""
        bound[len(bound) - 1] = int(flags[0])  # the launch copies all of it
        where = ctypes.c_void_p(None if mask is None else mask.data_ptr())
        rest = (ctypes.c_int(substeps), ctypes.c_int(flags[1]), where)
        self._start(self._kernel, bound, shared, varied, worlds, *rest)

    @torch.compiler.disable
    def solve_m(
        self, bound: Any, shared: Tensor, varied: Tensor, worlds: int, force: Tensor, added: Tensor
    ) -> Tensor:
        """See `CpuStep.solve_m`."""
        out = torch.empty_like(force)
        vectors = [ctypes.c_void_p(x.data_ptr()) for x in (force, added, out)]
        self._start(self._solve_m, bound, shared, varied, worlds, *vectors)
        return out

    def _start(
        self, kernel: Any, bound: Any, shared: Tensor, varied: Tensor, worlds: int, *rest: Any
    ) -> None:
        pointers = (ctypes.c_void_p(shared.data_ptr()), ctypes.c_void_p(varied.data_ptr()))
        values = (bound, *pointers, ctypes.c_int64(worlds), *rest)
        addresses = (ctypes.c_void_p * len(values))(*(ctypes.addressof(v) for v in values))
        stream = torch.cuda.current_stream(self._device).cuda_stream
        grid = (self._blocks(worlds), 1, 1, self._block, 1, 1, 0)
        _checked(self._launch(kernel, *grid, stream, ctypes.addressof(addresses), 0))

    def _blocks(self, worlds: int) -> int:
        return -(-worlds * self._lanes // self._block)


def _check_room(driver: Any, kernel: Any, device: torch.device) -> None:
    """Refuse a step whose threads keep more than `MOST_LOCAL`: many pairs, each with contacts."""
    name = driver.CUfunction_attribute.CU_FUNC_ATTRIBUTE_LOCAL_SIZE_BYTES
    gpu = torch.cuda.get_device_properties(device)
    threads = gpu.multi_processor_count * gpu.max_threads_per_multi_processor
    needed = int(_checked(driver.cuFuncGetAttribute(name, kernel))) * threads
    if needed > MOST_LOCAL * gpu.total_memory:
        raise DoesNotFit(
            f"the fused step would take {needed / 2**30:.0f} GiB of the GPU's memory, for its pairs"
            " of shapes; use another engine"
        )


def _share_little(driver: Any, kernel: Any, blocks: int, threads: int) -> None:
    """Ask for as much shared memory as `blocks` of `threads` on a multiprocessor use: left alone, a
    driver takes more, from the same memory as the cache."""
    own, device = driver.CUfunction_attribute, driver.CUdevice_attribute

    def of_kernel(attribute: Any) -> int:
        return int(_checked(driver.cuFuncGetAttribute(attribute, kernel)))

    def of_device(attribute: Any) -> int:
        return int(_checked(driver.cuDeviceGetAttribute(attribute, here)))

    here = _checked(driver.cuCtxGetDevice())
    registers = of_device(device.CU_DEVICE_ATTRIBUTE_MAX_REGISTERS_PER_MULTIPROCESSOR)
    shared = of_device(device.CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_MULTIPROCESSOR)
    room = registers // (of_kernel(own.CU_FUNC_ATTRIBUTE_NUM_REGS) * threads)
    used = max(1, min(blocks, room)) * (
        of_kernel(own.CU_FUNC_ATTRIBUTE_SHARED_SIZE_BYTES) + RESERVED
    )
    percent = min(100, math.ceil(100 * used / shared))
    name = own.CU_FUNC_ATTRIBUTE_PREFERRED_SHARED_MEMORY_CARVEOUT
    _checked(driver.cuFuncSetAttribute(kernel, name, percent))


def block_size(threads: int, multiprocessors: int) -> int:
    """Threads of a block where `threads` run in all."""
    nearly = 0.9 * multiprocessors
    return next((n for n in THREADS if threads >= n * nearly), THREADS[-1])


def source(constants: str, threads: int = THREADS[-1]) -> str:
    """The whole CUDA text of one structure's step, for blocks of `threads`."""
    head = f"#define TABLE __device__ const\n#define THREADS {threads}\n"
    return head + constants + read("cuda.h") + read("step.h") + read("cuda_entry.h")


def compile_cubin(text: str, architecture: str) -> bytes:
    """Machine code for `architecture`, as sm_90. Raises NotCompiled with NVRTC's log."""
    nvrtc = _bindings("nvrtc")
    program = _checked(nvrtc.nvrtcCreateProgram(text.encode(), b"step.cu", 0, [], []))
    options = [f"--gpu-architecture={architecture}".encode(), *(f.encode() for f in FLAGS)]
    (status,) = nvrtc.nvrtcCompileProgram(program, len(options), options)
    if int(status):
        log = b" " * _checked(nvrtc.nvrtcGetProgramLogSize(program))
        nvrtc.nvrtcGetProgramLog(program, log)
        raise NotCompiled("NVRTC", text, "code.cu", log.decode().strip("\0"))
    cubin = b" " * _checked(nvrtc.nvrtcGetCUBINSize(program))
    _checked(nvrtc.nvrtcGetCUBIN(program, cubin))
    return cubin


def _bindings(name: str) -> Any:
    try:
        import cuda.bindings.driver
        import cuda.bindings.nvrtc
    except ImportError as error:
        raise PhalanxError(
            "the fused engine needs the Python package cuda-bindings on a GPU, which torch's CUDA"
            " build brings; use engine=warp"
        ) from error
    return {"driver": cuda.bindings.driver, "nvrtc": cuda.bindings.nvrtc}[name]


def _checked(result: tuple[Any, ...]) -> Any:
    status, *values = result
    if int(status):
        raise PhalanxError(f"CUDA refuses the fused step: {status}")
    return values[0] if values else None
