"""Runs programs that name a CUDA device on the CPU, on request and where there is no GPU.

    ISAACGYM_COMPAT=cpu python train.py

Every function of PyTorch that is asked for a CUDA device gets the CPU: `torch.zeros(3,
device="cuda:0")`, `x.cuda()`, `module.to("cuda")`. Functions compiled with TorchScript are as they
are. `torch.cuda.synchronize`, `set_device` and others that programs call for their logs do nothing
or tell of the CPU; there is still no device to count. `torch.abs` takes truth values, as PyTorch's
does on a GPU only. This costs a few microseconds for each call of PyTorch.
"""

import os
from collections.abc import Callable
from typing import Any

import torch
from torch.overrides import TorchFunctionMode

CPU = torch.device("cpu")
_TO_CUDA = (torch.Tensor.cuda,)
_MAGNITUDE = (
    torch.abs,
    torch.absolute,
    torch.Tensor.abs,
    torch.Tensor.absolute,
    torch.Tensor.__abs__,
)


def _memory(*_: Any, **__: Any) -> tuple[int, int]:
    page = os.sysconf("SC_PAGE_SIZE")
    return page * os.sysconf("SC_AVPHYS_PAGES"), page * os.sysconf("SC_PHYS_PAGES")


def _nothing(*_: Any, **__: Any) -> None: ...


_REPORTS: dict[str, Callable[..., Any]] = {
    **dict.fromkeys(("synchronize", "set_device", "reset_peak_memory_stats"), _nothing),
    "current_device": lambda: 0,
    "get_device_name": lambda *_, **__: "CPU",
    "mem_get_info": _memory,
}
"""Functions of `torch.cuda` that fail without a GPU and that programs call to time and log."""


class OnTheCpu(TorchFunctionMode):
    """Replaces CUDA devices in the arguments of PyTorch's functions."""

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        if func in _TO_CUDA:
            return args[0]
        if func in _MAGNITUDE and args and args[0].dtype is torch.bool:
            return args[0].clone()
        kwargs = {} if kwargs is None else {k: _moved(v) for k, v in kwargs.items()}
        if func is torch.Tensor.to:
            args = tuple(_moved(value) for value in args)
        return func(*args, **kwargs)


def _moved(value: Any) -> Any:
    """`value`, or the CPU if it is a CUDA device."""
    if isinstance(value, torch.device):
        return CPU if value.type == "cuda" else value
    if isinstance(value, str):
        return CPU if value.partition(":")[0] == "cuda" else value
    return value


def activate() -> str:
    """Replace CUDA devices from now on, unless there is one; returns what was done."""
    if torch.cuda.is_available():
        return "CUDA as it is, since there is a GPU"
    OnTheCpu().__enter__()
    vars(torch.cuda).update(_REPORTS)
    torch.load = _on_the_cpu(torch.load)
    torch.jit.load = _on_the_cpu(torch.jit.load)
    return "the CPU for all CUDA devices"


def _on_the_cpu(load: Callable[..., Any]) -> Callable[..., Any]:
    def load_on_the_cpu(*args: Any, **kwargs: Any) -> Any:
        return load(*args, **{**kwargs, "map_location": CPU})

    return load_on_the_cpu
