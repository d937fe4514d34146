"""Stand-ins for CUDA's graphs: operations of torch, recorded on a CPU and done again on the same
memory; and a mode that refuses what a graph cannot capture."""

import torch
from torch.utils._python_dispatch import TorchDispatchMode


class Recorded(TorchDispatchMode):
    """A `Graph` that runs its function once; later calls do again what torch did then."""

    def __init__(self, function, device):
        super().__init__()
        self.function, self.calls = function, []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        assert func.overloadpacket.__name__ != "_local_scalar_dense", "it depends on a value"
        out = func(*args, **(kwargs or {}))
        self.calls.append((func, args, kwargs or {}, out))
        return out

    def __call__(self):
        if not self.calls:
            with self:
                self.function()
            return
        for func, args, kwargs, out in self.calls:
            again = func(*args, **kwargs)
            if isinstance(out, torch.Tensor) and again.data_ptr() != out.data_ptr():
                out.copy_(again)


class NoNumbersOfPython(TorchDispatchMode):
    """Inside, torch must not make a tensor of Python's numbers, as indexing with a list does: on a
    GPU that is a copy from the host, which a graph cannot capture."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        assert func.overloadpacket.__name__ != "lift_fresh", "a tensor is made of Python's numbers"
        return func(*args, **(kwargs or {}))
