"""The descriptor by which Isaac Gym's calls take and return PyTorch tensors."""

import weakref

import torch

from isaacgym.enums import TensorDataType

_DATA_TYPES = {
    torch.float32: TensorDataType.DTYPE_FLOAT32,
    torch.int32: TensorDataType.DTYPE_UINT32,
    torch.int64: TensorDataType.DTYPE_UINT64,
    torch.uint8: TensorDataType.DTYPE_UINT8,
    torch.int16: TensorDataType.DTYPE_INT16,
}


class Tensor:
    """A descriptor of the memory of a PyTorch tensor.

    It keeps the tensor alive, so a descriptor of a temporary tensor stays valid. absent: whether
    `gymtorch.wrap_tensor` gives None, as Isaac Gym does for a simulation without any DOFs. pairs:
    whether `shape` leaves out the last dimension, as Isaac Gym's does for optical flow.
    """

    def __init__(self, tensor: torch.Tensor, absent: bool = False, pairs: bool = False) -> None:
        """Raises TypeError unless it is a contiguous tensor of a supported element type."""
        if not isinstance(tensor, torch.Tensor):
            raise TypeError(f"expected a torch.Tensor, got {type(tensor).__name__}")
        if tensor.dtype not in _DATA_TYPES:
            accepted = ", ".join(str(dtype) for dtype in _DATA_TYPES)
            raise TypeError(
                f"a tensor of {tensor.dtype} cannot be handed to Isaac Gym, only {accepted};"
                " convert it first, as .float() or .to(torch.int32) does"
            )
        if not tensor.is_contiguous():
            raise TypeError(
                f"a tensor of shape {tuple(tensor.shape)} that is not contiguous cannot be handed"
                " to Isaac Gym; pass its .contiguous()"
            )
        self.torch = tensor.detach()
        self.absent = absent
        self._pairs = pairs

    @property
    def device(self) -> int:
        """Number of the CUDA device; -1 is the CPU."""
        device = self.torch.device
        return -1 if device.type == "cpu" else device.index

    @property
    def dtype(self) -> TensorDataType:
        """Type of the elements; int32 and int64 are reported as the unsigned kinds."""
        return _DATA_TYPES[self.torch.dtype]

    @property
    def shape(self) -> tuple[int, ...]:
        """Sizes of the dimensions."""
        return tuple(self.torch.shape[: -1 if self._pairs else None])

    @property
    def ndim(self) -> int:
        """Number of dimensions."""
        return len(self.shape)

    @property
    def data_address(self) -> int:
        """Address of the first element; `at_address` knows it while this descriptor lives."""
        address = self.torch.data_ptr()
        _at_address[address] = self
        return address

    data_ptr = data_address

    @property
    def own_data(self) -> bool:
        """False: the memory belongs to the PyTorch tensor."""
        return False

    def __repr__(self) -> str:
        return f"Tensor(shape={self.shape}, dtype={self.dtype}, device={self.device})"


_at_address: "weakref.WeakValueDictionary[int, Tensor]" = weakref.WeakValueDictionary()


def at_address(address: int) -> Tensor:
    """The living descriptor that gave this address. Raises TypeError if there is none."""
    if (held := _at_address.get(address)) is None:
        raise TypeError("no gymapi.Tensor that is still referred to gave this address as data_ptr")
    return held
