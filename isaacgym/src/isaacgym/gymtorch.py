"""Conversion between Isaac Gym's tensor descriptors and PyTorch tensors, without copies.

root_states = gymtorch.wrap_tensor(gym.acquire_actor_root_state_tensor(sim))   # (actors, 13)
gym.set_actor_root_state_tensor(sim, gymtorch.unwrap_tensor(root_states))
"""

import math
from collections.abc import Sequence

import torch

from isaacgym import descriptor

__all__ = ["torch", "unwrap_tensor", "wrap_tensor", "wrap_tensor_impl"]
# `Tensor` is left out: after a star import, TorchScript's type comments mean torch's `Tensor`.


def wrap_tensor(
    gym_tensor: descriptor.Tensor,
    offsets: tuple[int, ...] | None = None,
    counts: tuple[int, ...] | None = None,
) -> torch.Tensor | None:
    """The PyTorch tensor behind `gym_tensor`: the same memory, shape and device; from each
    dimension `counts` entries from `offsets` on, if they are given. None for the DOF states of a
    simulation without DOFs.

    Raises TypeError if it is not a `gymapi.Tensor`, or for entries that are not there.
    """
    if not isinstance(gym_tensor, descriptor.Tensor):
        raise TypeError(
            "gymtorch.wrap_tensor takes the result of gym.acquire_*_tensor, not a"
            f" {type(gym_tensor).__name__}"
        )
    if gym_tensor.absent:
        return None
    held = gym_tensor.torch
    if offsets is None and counts is None:
        return held
    first = (0,) * held.dim() if offsets is None else offsets
    rest = [n - at for n, at in zip(held.shape, first, strict=False)]
    return _part(held, first, rest if counts is None else counts, "wrap_tensor")


def wrap_tensor_impl(
    data: int,
    device: int,
    dtype: int,
    shape: tuple[int, ...],
    offsets: tuple[int, ...],
    counts: tuple[int, ...],
) -> torch.Tensor:
    """The PyTorch tensor at the address `data` that a `gymapi.Tensor` gave, as `shape`; from each
    dimension `counts` entries from `offsets` on. Some programs wrap optical flow by it, since that
    descriptor's shape leaves out the two values of a pixel.

    Raises TypeError if no descriptor gave the address, or for another size, type or device, or
    entries that are not there.
    """
    held = descriptor.at_address(data)
    if (math.prod(shape), int(dtype), device) != (held.torch.numel(), held.dtype, held.device):
        raise TypeError(
            f"gymtorch.wrap_tensor_impl was given shape {tuple(shape)}, dtype {int(dtype)} and"
            f" device {device} for {held.torch.numel()} elements of dtype {int(held.dtype)} on"
            f" device {held.device}"
        )
    return _part(held.torch.view(shape), offsets, counts, "wrap_tensor_impl")


def _part(
    whole: torch.Tensor, offsets: Sequence[int], counts: Sequence[int], call: str
) -> torch.Tensor:
    """From each dimension of a tensor `counts` entries from `offsets` on."""
    ends = [at + count for at, count in zip(offsets, counts, strict=False)]
    each = len(offsets) == len(counts) == whole.dim()
    if not each or any(
        not 0 <= at <= end <= n for at, end, n in zip(offsets, ends, whole.shape, strict=False)
    ):
        raise TypeError(
            f"gymtorch.{call} was given offsets {tuple(offsets)} and counts"
            f" {tuple(counts)} for shape {tuple(whole.shape)}; give both for each dimension, within"
            " it"
        )
    return whole[tuple(slice(*row) for row in zip(offsets, ends, strict=True))]


def unwrap_tensor(torch_tensor: torch.Tensor) -> descriptor.Tensor:
    """A descriptor of the memory of `torch_tensor` for Isaac Gym's setters.

    Raises TypeError for anything but a contiguous tensor of float32, int32, int64, uint8 or int16.
    """
    try:
        return descriptor.Tensor(torch_tensor)
    except TypeError as error:
        raise TypeError(f"gymtorch.unwrap_tensor: {error}") from None
