"""Devices by name."""

import operator
import re
from typing import SupportsIndex

import torch

from phalanx.errors import PhalanxError


def resolve_device(device: str | SupportsIndex | torch.device) -> torch.device:
    """The device for `auto`, `cpu`, `cuda`, `cuda:N`, N or what torch.device makes of them; `auto`
    is the first GPU if there is one. Raises PhalanxError if it does not exist."""
    if isinstance(device, SupportsIndex) and not isinstance(device, bool):
        device = f"cuda:{operator.index(device)}"
    device = str(device)
    if device == "auto":
        return torch.device("cuda:0" if torch.cuda.is_available() else "cpu")
    if re.fullmatch(r"cpu(:0)?", device):
        return torch.device("cpu")
    # torch.device stores an index in 8 bits, so cuda:256 would be cuda:0.
    cuda = re.fullmatch(r"cuda(:(\d+))?", device)
    if cuda is None:
        raise PhalanxError(f"unknown device {device!r}; accepted: auto, cpu, cuda, cuda:<index>")
    index = int(cuda[2] or 0)
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if index >= count:
        seen = f"only {count} CUDA device{'s' * (count != 1)}" if count else "no CUDA device"
        raise PhalanxError(
            f"device {device} was requested, but PyTorch finds {seen} here; use cpu or auto"
        )
    return torch.device("cuda", index)


def make_current(device: torch.device) -> None:
    """Have torch capture CUDA graphs on `device`, if it is a GPU; captured on another than the
    current one, they would be empty."""
    if device.type == "cuda":
        torch.cuda.set_device(device)
