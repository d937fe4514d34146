"""Lets `torch.where` take whole numbers as its condition, as PyTorch did on a GPU until 2022,
`torch.load` read NumPy's numbers, as it did before 2.6, and recurrent networks have sizes from
NumPy, such as `np.prod(shape)`, as before 2.11.

    activate()

RL Games' checkpoints hold the best return as a number of NumPy. IsaacGymEnvs' population based
training catches the refusal and never replaces a policy. Nothing in a file runs: what is read are
numbers of fixed types.

In functions compiled with TorchScript (DeXtreme's rewards), which call no Python, a comparison with
zero goes before each `where` whose condition does not come from a comparison; the others stay as
they are.
"""

from typing import Any

import numpy as np
import torch
from torch.jit import _builtins

from isaacgym.scripts import make_numbers_on_device

NUMBERS = (np.bool_, np.int32, np.int64, np.float32, np.float64)
COMPARISONS = {f"aten::{name}" for name in ("gt", "lt", "ge", "le", "eq", "ne")}


def activate() -> str:
    """Replace `torch.where` and `torch.jit.script` from now on, and let `torch.load` read NumPy's
    numbers and recurrent networks take them; returns what was done."""
    if hasattr(torch.serialization, "add_safe_globals"):
        _read_numbers()
    _recurrent_sizes()
    original, script = torch.where, torch.jit.script

    def where(condition: Any, *values: Any, **options: Any) -> Any:
        if values and isinstance(condition, torch.Tensor) and condition.dtype is not torch.bool:
            condition = condition != 0
        return original(condition, *values, **options)

    def script_and_compare(
        obj: Any, optimize: Any = None, _frames_up: int = 0, _rcb: Any = None, **options: Any
    ) -> Any:
        done = script(obj, optimize, _frames_up + 1, _rcb, **options)
        if isinstance(done, torch.jit.ScriptFunction):
            _compare(done.graph)
            make_numbers_on_device(done.graph)
        return done

    _builtins._register_builtin(where, "aten::where")  # for TorchScript it is the original
    names: Any = torch.jit
    torch.where, names.script = where, script_and_compare
    return (
        "numbers as conditions of torch.where, NumPy's numbers in torch.load and as sizes of"
        " recurrent networks"
    )


def _read_numbers() -> None:
    scalar: Any = np.float64(0).__reduce__()[0]
    names: list[Any] = [(scalar, f"numpy.{core}.multiarray.scalar") for core in ("core", "_core")]
    kinds = [type(np.dtype(number)) for number in NUMBERS]
    torch.serialization.add_safe_globals([*names, np.dtype, *kinds])


def _recurrent_sizes() -> None:
    kind: Any = torch.nn.RNNBase  # other layers, single cells included, still take them
    build = kind.__init__

    def build_from_numbers(self: Any, *given: Any, **options: Any) -> None:
        build(self, *map(_plain, given), **{name: _plain(v) for name, v in options.items()})

    kind.__init__ = build_from_numbers


def _plain(value: Any) -> Any:
    return int(value) if isinstance(value, np.integer) else value


def _compare(graph: Any) -> None:
    """Compare conditions with zero that may be numbers."""
    for node in graph.findAllNodes("aten::where", True):
        condition = next(node.inputs())
        if len(list(node.inputs())) < 3 or condition.node().kind() in COMPARISONS:
            continue
        zero = graph.insertConstant(0)
        zero.node().moveBefore(node)
        compared = graph.create("aten::ne", [condition, zero], 1)
        compared.output().setType(torch._C.TensorType.get())
        compared.insertBefore(node)
        node.replaceInput(0, compared.output())
