"""Functions in TorchScript (`@torch.jit.script`) on a GPU, each call of them as one captured graph.

    activate()

Tasks of IsaacGymEnvs compute observations and rewards in such functions, in some two hundred
operations, and each takes a GPU's host as long as a whole graph. A graph does the same operations
on the same memory, so results are the same. It replaces a call only if the function does nothing
but compute new tensors from tensors and numbers, without waiting for the device. Other functions,
and calls that need a gradient, are as they were.
"""

import threading
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor

from phalanx.compute.graphs import Graph

FIRST = 0
"""Number of the first device of which graphs are captured; a CPU is -1."""
WATCHED = 3
"""Calls of a function with the same kind of arguments before it is captured. TorchScript compiles
in the first ones."""
MOST_FORMS = 32
"""Kinds of arguments, from the first on, with which a function may be captured. With others it is
called as it is, as where shapes follow from the number of environments that are reset."""
TYPES = {"float": None, "int": torch.int64}
"""The type of a tensor made from a number of TorchScript's type; None is torch's default."""


def activate() -> str:
    """Replace the call of functions in TorchScript from now on; returns what was done."""
    kind: Any = torch.jit.ScriptFunction
    original, thread = kind.__call__, threading.get_ident()
    done = "functions in TorchScript as graphs on a GPU"
    if hasattr(original, "replays"):
        return done

    def call(self: Any, *args: Any, **kwargs: Any) -> Any:
        script = getattr(self, "_script", None)
        if script is None:
            script = self._script = Script(self, original)
        if script.eager or kwargs or threading.get_ident() != thread:
            return original(self, *args, **kwargs)
        return script(args)

    call.replays = True  # type: ignore[attr-defined]
    kind.__call__ = call
    return done


def make_numbers_on_device(graph: Any) -> None:
    """Have the device write numbers, as in `x[:, 2] = 0.0` and `torch.tensor([0.0, 1.0],
    device=...)`. It waited for each of them to come from the host's memory."""
    for node in graph.findAllNodes("aten::tensor", True):
        numbers, dtype, device, gradient = node.inputs()
        several = numbers.node().kind() == "prim::ListConstruct"
        if several and len(numbers.uses()) > 1:  # which may change it
            continue
        if dtype.type().kind() == "OptionalType":
            continue
        each = list(numbers.node().inputs()) if several else [numbers]
        kinds = {str(number.type()) for number in each}
        if len(kinds) != 1 or not kinds <= TYPES.keys() or gradient.toIValue() is not False:
            continue
        before = _Before(node, graph)
        default = TYPES[kinds.pop()]
        if dtype.type().kind() == "NoneType" and default is not None:
            dtype = before.constant(default)
        nothing, kind = before.constant(None), torch._C.TensorType.get()
        made = [
            before.make("aten::scalar_tensor", [number, dtype, nothing, device, nothing], kind)
            for number in each
        ]
        result = made[0]
        if several:
            row = before.make("prim::ListConstruct", made, torch._C.ListType.ofTensors())
            result = before.make("aten::stack", [row, before.constant(0)], kind)
        node.output().replaceAllUsesWith(result)
        node.destroy()


class _Before:
    """Adds to a graph of TorchScript what runs right before a node."""

    def __init__(self, node: Any, graph: Any) -> None:
        self._node, self._graph = node, graph

    def constant(self, value: Any) -> Any:
        made = self._graph.insertConstant(value)
        made.node().moveBefore(self._node)
        return made

    def make(self, kind: str, inputs: list[Any], result: Any) -> Any:
        made = self._graph.create(kind, inputs, 1)
        made.output().setType(result)
        made.insertBefore(self._node)
        return made.output()


def _nodes(block: Any) -> Iterator[Any]:
    for node in block.nodes():
        yield node
        for inner in node.blocks():
            yield from _nodes(inner)


class Script:
    """What is known of one function."""

    def __init__(self, function: Any, original: Callable[..., Any]) -> None:
        self._call = lambda args: original(function, *args)
        graph = function.inlined_graph
        aliases = graph.alias_db()
        self.eager = any(map(aliases.has_writers, graph.inputs())) or any(
            node.kind() == "prim::Print" or node.isNondeterministic() for node in _nodes(graph)
        )
        """Whether it is called as it is, since it writes to arguments, prints or draws numbers, or
        for what calls have shown."""
        self._forms: dict[tuple[Any, ...], Form] = {}
        self._seen = 0

    def __call__(self, args: tuple[Any, ...]) -> Any:
        """Call the function, or replay its graph."""
        key = _kinds(args)
        if key is None:
            return self._call(args)
        form = self._forms.get(key)
        if form is None:
            if self._seen == MOST_FORMS:
                return self._call(args)
            self._seen += 1
            form = self._forms[key] = Form(self._call, key[0])
            if self._seen == MOST_FORMS:
                self._forms = {key: form for key, form in self._forms.items() if form.watched}
                self.eager = not self._forms
        result = form(args)
        if form.eager:
            self.eager = True
            self._forms.clear()
        return result


class Form:
    """A function with arguments of the same kinds in each call: the same numbers, and tensors of
    the same shapes."""

    def __init__(self, call: Callable[[tuple[Any, ...]], Any], stream: Any) -> None:
        self.eager = False
        """Whether no graph can do what the function does."""
        self._call, self._stream = call, stream
        self._calls = 0
        self._places: list[int | None] = []
        """Where each tensor is, in all calls so far. Those that are somewhere else in each, None,
        are copied to where the graph reads them."""
        self._own: dict[int, Tensor] = {}
        self._args: list[Any] = []
        self._several = False
        self._same: list[int | None] = []
        """Of each result, the number of the argument that it is; None if it is new."""
        self._results: Any = ()
        self._graph: Graph | None = None

    @property
    def watched(self) -> bool:
        """Whether there have been enough calls to capture it."""
        return self._calls == WATCHED

    def __call__(self, args: tuple[Any, ...]) -> Any:
        places = [value.data_ptr() if type(value) is Tensor else None for value in args]
        if self._moved(places):
            self._graph = None
        if not self.watched:
            self._calls += 1
            return self._watch(args)
        graph = self._graph = self._graph or self._begin(args)
        self._args = list(args)
        for k, own in self._own.items():
            own.copy_(args[k])
            self._args[k] = own
        try:
            graph()
        except RuntimeError:  # a capture that fails leaves its own stream the current one
            torch.cuda.set_stream(self._stream)
            self.eager = True
            return self._call(args)
        self._args = []  # a program may free them
        results = [
            result.clone() if k is None else args[k]
            for result, k in zip(self._results, self._same, strict=True)
        ]
        return tuple(results) if self._several else results[0]

    def _moved(self, places: list[int | None]) -> bool:
        """Whether a tensor is elsewhere that had not moved before."""
        known = self._places = self._places or places
        if all(a is None or a == b for a, b in zip(known, places, strict=True)):
            return False
        self._places = [a if a == b else None for a, b in zip(known, places, strict=True)]
        return True

    def _begin(self, args: tuple[Any, ...]) -> Graph:
        with torch.inference_mode(False):  # later calls may come from outside of that mode
            self._own = {
                k: torch.empty_like(value)
                for k, (value, place) in enumerate(zip(args, self._places, strict=True))
                if type(value) is Tensor and place is None
            }
        device = next(value.device for value in args if type(value) is Tensor)
        return Graph(self._run, device=device)

    def _run(self) -> None:
        result = self._call(tuple(self._args))
        self._results = result if self._several else (result,)

    def _watch(self, args: tuple[Any, ...]) -> Any:
        """Call the function as it is, and see whether a graph can do the same."""
        if self.watched:
            try:
                return _without_waiting(lambda: self._call(args))
            except Waits:
                self.eager = True
                return self._call(args)
        result = self._call(args)
        self._several = type(result) is tuple
        results = result if self._several else (result,)
        tensors = [value for value in args if type(value) is Tensor]
        if not all(type(value) is Tensor and value.get_device() >= FIRST for value in results):
            self.eager = True
            return result
        self._same = [
            next((k for k, given in enumerate(args) if given is value), None) for value in results
        ]
        own = [value for value, k in zip(results, self._same, strict=True) if k is None]
        memory = [value.untyped_storage().data_ptr() for value in own if value.numel()]
        taken = {value.untyped_storage().data_ptr() for value in tensors if value.numel()}
        shared = len({*memory, *taken}) < len(memory) + len(taken)
        twice = len(own) < len(results) and len(set(map(id, tensors))) < len(tensors)
        self.eager = shared or twice or any(value.requires_grad for value in own)
        return result


class Waits(Exception):
    """A function waits for the device."""


def _without_waiting(function: Callable[[], Any]) -> Any:
    """Call a function. Raises `Waits` if it waits for the device, and stops there."""
    mode = torch.cuda.get_sync_debug_mode()
    torch.cuda.set_sync_debug_mode("error")
    try:
        return function()
    except RuntimeError as error:
        if "synchronizing" not in str(error):
            raise
        raise Waits from None
    finally:
        torch.cuda.set_sync_debug_mode(mode)


def _kinds(args: tuple[Any, ...]) -> tuple[Any, ...] | None:
    """What calls have in common that one graph can replace, the stream first; None for a call that
    none can."""
    kinds: list[Any] = []
    index = None
    for value in args:
        if type(value) is Tensor:
            index = value.get_device()
            if index < FIRST or value.requires_grad:
                return None
            kinds += (value.shape, value.stride(), value.dtype, index)
        elif value is None or isinstance(value, (int, float, str)):
            kinds += (type(value), value or repr(value))  # -0.0 is another number than 0.0
        elif type(value) is dict and all(type(held) is float for held in value.values()):
            kinds += (dict, repr(value))
        else:
            return None
    return None if index is None or (stream := _stream(index)) is None else (stream, *kinds)


def _stream(index: int) -> torch.cuda.Stream | None:
    """The stream that a call goes to; None where it must stay as it is: while operations are
    traced, mapped, cast or captured."""
    changed = torch._C._get_tracing_state() or torch._C._functorch.peek_interpreter_stack()
    if changed or torch.is_autocast_enabled("cuda") or torch.cuda.is_current_stream_capturing():
        return None
    return torch.cuda.current_stream(index)
