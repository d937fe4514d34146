"""Conversion between Isaac Gym's tensor descriptors and PyTorch tensors, without copies.

root_states = gymtorch.wrap_tensor(gym.acquire_actor_root_state_tensor(sim))   # (actors, 13)
gym.set_actor_root_state_tensor(sim, gymtorch.unwrap_tensor(root_states))
"""

import math

import torch

from isaacgym import descriptor

__all__ = ["torch", "unwrap_tensor", "wrap_tensor", "wrap_tensor_impl"]
# `Tensor` is left out: after a star import, TorchScript's type comments mean torch's `Tensor`.


def wrap_tensor(gym_tensor: descriptor.Tensor) -> torch.Tensor | None:
    """The PyTorch tensor behind `gym_tensor`: the same memory, shape and device. None for the DOF
    states of a simulation without DOFs.

    Raises TypeError if it is not a `gymapi.Tensor`.
    """
    if not isinstance(gym_tensor, descriptor.Tensor):
        raise TypeError(
            "gymtorch.wrap_tensor takes the result of gym.acquire_*_tensor, not a"
            f" {type(gym_tensor).__name__}"
        )
    return None if gym_tensor.absent else gym_tensor.torch


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
    ends = [at + count for at, count in zip(offsets, counts, strict=False)]
    whole = len(offsets) == len(counts) == len(shape)
    if not whole or any(
        not 0 <= at <= end <= n for at, end, n in zip(offsets, ends, shape, strict=False)
    ):
        raise TypeError(
            f"gymtorch.wrap_tensor_impl was given offsets {tuple(offsets)} and counts"
            f" {tuple(counts)} for shape {tuple(shape)}; give both for each dimension, within it"
        )
    return held.torch.view(shape)[tuple(slice(*row) for row in zip(offsets, ends, strict=True))]


def unwrap_tensor(torch_tensor: torch.Tensor) -> descriptor.Tensor:
    """A descriptor of the memory of `torch_tensor` for Isaac Gym's setters.

    Raises TypeError for anything but a contiguous tensor of float32, int32, int64, uint8 or int16.
    """
    try:
        return descriptor.Tensor(torch_tensor)
    except TypeError as error:
        raise TypeError(f"gymtorch.unwrap_tensor: {error}") from None
