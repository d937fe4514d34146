"""Checks of the arguments of setters: tensors of the whole simulation, and indices of actors."""

import math
from typing import Any

import torch
from torch import Tensor

from isaacgym.descriptor import Tensor as Descriptor
from phalanx.errors import PhalanxError


class Arguments:
    """On a GPU, indices out of range are ignored, and `check` reports them later, since checking
    at once would wait for the device."""

    def __init__(self, num_actors: int, device: torch.device) -> None:
        """num_actors: in all environments together."""
        self._num_actors, self._device = num_actors, device
        self._bad_index = torch.zeros((), dtype=torch.bool, device=device)
        self._chosen = torch.zeros(num_actors + 1, dtype=torch.bool, device=device)
        """The actors that an index tensor lists; the last place stands for those that do not
        exist."""
        self.chosen = self._chosen[:num_actors]
        """(actors,) bool: the actors of the last `choose`, until `forget`."""
        self._bounds = [torch.tensor([k], device=device) for k in (-1, num_actors)]

    def check(self) -> None:
        """Raise PhalanxError if an index was out of range. Waits for the device."""
        if self._bad_index.item():
            self._bad_index.zero_()
            raise PhalanxError(
                "one of the last calls of an indexed setter had actor indices outside 0 to"
                f" {self._num_actors - 1}, which were ignored; actor indices count over all"
                " environments (gym.get_actor_index(env, actor, gymapi.DOMAIN_SIM))"
            )

    def rows(self, descriptor: Any, shape: tuple[int, ...], call: str) -> Tensor:
        """The float32 tensor of a setter in `shape`, whose first number is that of rows in all
        environments. Raises PhalanxError or TypeError if it has another type, size or device."""
        tensor = _unwrapped(descriptor, call)
        if tensor.dtype != torch.float32:
            raise PhalanxError(f"gym.{call} takes a tensor of float32, not of {tensor.dtype}")
        self._check_device(tensor, call)
        if tensor.numel() != math.prod(shape):
            raise PhalanxError(
                f"gym.{call} takes the tensor of the whole simulation, {shape}, not one of shape"
                f" {tuple(tensor.shape)}"
            )
        return tensor.view(shape)

    def listed(self, descriptor: Any, count: Any, call: str) -> Tensor | None:
        """The (count,) int32 of an index tensor (DOMAIN_SIM); None, without a count, for all
        actors. Raises PhalanxError or TypeError if it has another type, size or device."""
        if descriptor is None and count is None:
            return None
        index = _unwrapped(descriptor, call)
        if index.dtype != torch.int32:
            raise PhalanxError(
                f"gym.{call} takes actor indices of int32, not of {index.dtype};"
                " convert them with .to(torch.int32)"
            )
        self._check_device(index, call)
        if not 0 <= int(count) <= index.numel():
            raise PhalanxError(
                f"gym.{call} was given count {int(count)} for {index.numel()} actor indices"
            )
        return index.flatten()[: int(count)]

    def choose(self, index: Tensor, call: str) -> None:
        """Mark the actors of an index tensor in `chosen`. Raises PhalanxError on a CPU if one does
        not exist."""
        total = self._num_actors
        # As int64, as the bounds are; -1 is the last place as well.
        self._chosen.index_fill_(0, torch.clamp(index, *self._bounds), True)
        if self._device.type == "cpu" and self._chosen[total]:
            self._chosen.zero_()
            bad = index[(index < 0) | (index >= total)]
            raise PhalanxError(
                f"gym.{call} was given actor index {int(bad[0])}; the simulation has"
                f" {total} actors, counted from 0 over all environments"
            )

    def forget(self) -> None:
        """Choose no actors any more."""
        if self._device.type != "cpu":
            self._bad_index |= self._chosen[-1]
        self._chosen.zero_()

    def _check_device(self, tensor: Tensor, call: str) -> None:
        if tensor.device != self._device:
            raise PhalanxError(
                f"gym.{call} was given a tensor on {tensor.device}; this simulation's are on"
                f" {self._device}"
            )


def _unwrapped(descriptor: Any, call: str) -> Tensor:
    if not isinstance(descriptor, Descriptor):
        raise TypeError(
            f"gym.{call} takes gymtorch.unwrap_tensor(tensor), not a {type(descriptor).__name__}"
        )
    return descriptor.torch
