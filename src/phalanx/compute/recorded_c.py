"""C for torch operations that compute each row from that row, for `recorded.py`.

A statement is a loop over the rows [first, last) of a block, and over the numbers of a row. Memory
is named by its address, `AT(<address>)`; `source_of` gives it a place in a table, or in the block's
scratch memory.
"""

import re
from collections import defaultdict
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

BLOCK = 64
"""Rows that go through all operations together."""
_TYPES = {
    torch.float32: "float",
    torch.float64: "double",
    torch.bool: "bool",
    torch.int64: "long",
    torch.int32: "int",
}
_UNARY = {
    "neg": "-{0}",
    "abs": "({0} < 0 ? -{0} : {0})",
    "square": "{0} * {0}",
    "sign": "({0} > 0) - ({0} < 0)",
    "bitwise_not": "!{0}",
    "logical_not": "!{0}",
    "isnan": "{0} != {0}",
    "reciprocal": "1 / {0}",
    "copy": "{0}",
} | {n: f"__builtin_{n}f({{0}})" for n in "exp sin cos sqrt log log1p tanh floor".split()}
_BINARY = {
    "add": "{0} + {1}",
    "sub": "{0} - {1}",
    "rsub": "{1} - {0}",
    "mul": "{0} * {1}",
    "div": "{0} / {1}",
    "remainder": "{0} - {1} * __builtin_floorf({0} / {1})",
    "atan2": "__builtin_atan2f({0}, {1})",
    "maximum": "({0} > {1} || {0} != {0} ? {0} : {1})",
    "minimum": "({0} < {1} || {0} != {0} ? {0} : {1})",
    "bitwise_and": "({0} & {1})",
    "bitwise_or": "({0} | {1})",
    "logical_and": "({0} && {1})",
    "logical_or": "({0} || {1})",
}
_COMPARISONS = {"lt": "<", "le": "<=", "gt": ">", "ge": ">=", "eq": "==", "ne": "!="}
_BINARY |= {name: f"{{0}} {sign} {{1}}" for name, sign in _COMPARISONS.items()}
_FILLED = "copy to_copy clone fill zero zeros_like ones_like full_like scalar_tensor".split()
_ALONE = {*_UNARY, *_BINARY, *_FILLED, *"masked_fill where clamp clamp_min nan_to_num".split()}
"""Names of operations on elements, whose arguments broadcast to the result."""


class View:
    """Where a tensor's numbers are."""

    def __init__(self, tensor: Tensor) -> None:
        self.type, self.size = tensor.dtype, tensor.element_size()
        storage = tensor.untyped_storage()
        self.at, self.bytes = storage.data_ptr(), storage.nbytes()
        self.start = tensor.storage_offset()
        self.shape, self.strides = tuple(tensor.shape), tuple(tensor.stride())

    def row_step(self, axis: int, rows: int, inside: Sequence[tuple[int, int]] = ()) -> int | None:
        """Bytes from a row to the next along dimension `axis`; None if the view reads or writes in
        a row what, by that step, lies in another. inside: further (length, stride) of a row."""
        step = self.strides[axis]
        if not step:
            return None
        whole, reach = step * rows, self.start % (step * rows)
        dims = zip(self.shape, self.strides, strict=True)
        for size, stride in (*(d for k, d in enumerate(dims) if k != axis), *inside):
            reach += (size - 1) * stride if stride % whole else 0
        return step * self.size if reach < step else None

    def by_row(self, rows: int) -> bool:
        """Whether each row has a piece of the memory, one after the other."""
        ahead = self.bytes // rows // self.size
        at = [s for s, n in zip(self.strides, self.shape, strict=True) if n == rows]
        whole = self.bytes == ahead * rows * self.size and len(at) == 1 and at[0] == ahead
        return bool(whole and self.start < ahead)


class _Other(Exception):
    """Not an operation on rows."""


def called(function: Any) -> tuple[str, bool]:
    """The name of one of torch's operations, and whether it writes into an argument."""
    name, _, variant = function.name().split("::")[1].partition(".")
    return name, variant == "out" or (name.endswith("_") and not name.endswith("__"))


@dataclass
class Statement:
    """C for rows, and how it goes through memory: for each address that it reads, and that it
    writes, the results of `View.row_step`."""

    text: str
    reads: dict[int, set[int | None]]
    writes: dict[int, set[int | None]]


def statement(
    function: Any, args: Any, kwargs: Any, out: Any, rows: int, written: Collection[int] = ()
) -> Statement | None:
    """One operation on rows, None if it is another. written: addresses of all memory that any of
    the operations writes to."""
    writer = _Writer(rows, written)
    try:
        text = writer.write(function, args, dict(kwargs), out)
    except _Other:
        return None
    for at, steps in writer.writes.items():
        if at in writer.reads and not together(steps, writer.reads[at]):
            return None
    return Statement(text, writer.reads, writer.writes)


def together(*steps: set[int | None]) -> bool:
    """Whether row n of all these accesses to one memory is the same part of it."""
    every = set().union(*steps)
    return len(every) == 1 and None not in every


def statement_alone(function: Any, args: Any, kwargs: Any, out: Any) -> str | None:
    """The C of one operation on a few numbers that all rows share, as if they were the only row;
    None if torch must do it."""
    name = called(function)[0].removesuffix("_").lstrip("_")
    few = isinstance(out, Tensor) and 0 < out.numel() <= BLOCK
    if not few or name not in _ALONE:
        return None
    try:
        return _Writer(1, ()).write(function, args, dict(kwargs), out.unsqueeze(0))
    except _Other:
        return None


class _Writer:
    def __init__(self, rows: int, written: Collection[int]) -> None:
        self.rows, self.written = rows, written
        self.reads: dict[int, set[int | None]] = defaultdict(set)
        self.writes: dict[int, set[int | None]] = defaultdict(set)

    def write(self, function: Any, args: Any, kwargs: Any, out: Any) -> str:
        name, in_place = called(function)
        if in_place and not name.endswith("_"):
            raise _Other
        name = name.removesuffix("_")
        if not isinstance(out, Tensor) or out.dtype not in _TYPES:
            raise _Other
        special = getattr(self, f"_{name.lstrip('_')}", None)
        if special is not None:
            return str(special(out, *args, **kwargs))
        if name in ("bitwise_not", "logical_not") and out.dtype != torch.bool:
            raise _Other
        if name in _UNARY and len(args) == 1 and not kwargs:
            return self._each(out, _UNARY[name], [args[0]], name)
        if name in _BINARY and len(args) == 2 and kwargs.keys() <= {"alpha"}:
            if kwargs.get("alpha", 1) != 1:
                raise _Other
            return self._each(out, _BINARY[name], list(args), name)
        raise _Other

    # -- operations on elements ------------------------------------------------------------------

    def _each(self, out: Tensor, formula: str, values: list[Any], name: str = "") -> str:
        """out = formula of `values`, tensors or numbers that broadcast to it."""
        kind = out.dtype
        if name in _COMPARISONS or name == "isnan":
            kind = torch.result_type(*values) if len(values) == 2 else values[0].dtype
        if (
            name in ("remainder", "atan2", *_UNARY)
            and "__builtin" in formula
            and kind != torch.float32
        ):
            raise _Other
        return self._loops(out, lambda terms: f"{{o}} = {formula.format(*terms)};", values, kind)

    def _copy(self, out: Tensor, _to: Tensor, source: Tensor, *_: Any) -> str:
        return self._each(out, "{0}", [source])

    def _to_copy(self, out: Tensor, source: Tensor, **_: Any) -> str:
        return self._each(out, "{0}", [source])

    def _clone(self, out: Tensor, source: Tensor, **_: Any) -> str:
        return self._each(out, "{0}", [source])

    def _fill(self, out: Tensor, _to: Tensor, value: Any) -> str:
        return self._each(out, "{0}", [value])

    def _zero(self, out: Tensor, _to: Tensor) -> str:
        return self._each(out, "{0}", [0.0])

    def _zeros_like(self, out: Tensor, *_: Any, **__: Any) -> str:
        return self._each(out, "{0}", [0.0])

    def _ones_like(self, out: Tensor, *_: Any, **__: Any) -> str:
        return self._each(out, "{0}", [1.0])

    def _full_like(self, out: Tensor, _like: Tensor, value: float, **__: Any) -> str:
        return self._each(out, "{0}", [value])

    def _scalar_tensor(self, out: Tensor, value: float, **_: Any) -> str:
        return self._each(out, "{0}", [value])

    def _nan_to_num(
        self, out: Tensor, x: Tensor, nan: Any = None, posinf: Any = None, neginf: Any = None
    ) -> str:
        if out.dtype != torch.float32:
            raise _Other
        most = torch.finfo(out.dtype).max
        high, low = (most if posinf is None else posinf), (-most if neginf is None else neginf)
        formula = "({0} != {0} ? {1} : {0} > {4} ? {2} : {0} < -{4} ? {3} : {0})"
        return self._each(out, formula, [x, nan or 0.0, high, low, most])

    def _masked_fill(self, out: Tensor, to: Tensor, mask: Tensor, value: Any) -> str:
        return self._where(out, mask, value, to)

    def _where(self, out: Tensor, mask: Tensor, a: Any, b: Any) -> str:
        return self._each(out, "({0} ? {1} : {2})", [_Flag(mask), a, b])

    def _clamp(self, out: Tensor, x: Tensor, low: Any = None, high: Any = None) -> str:
        bounds = [b for b in (low, high) if b is not None]
        formula = "{0}"
        if low is not None:
            formula = "({0} < {1} ? {1} : {0})"
        if high is not None:
            formula = f"({formula} > {{{len(bounds)}}} ? {{{len(bounds)}}} : {formula})"
        return self._each(out, formula, [x, *bounds])

    def _clamp_min(self, out: Tensor, x: Tensor, low: Any) -> str:
        return self._clamp(out, x, low)

    def _pow(self, out: Tensor, x: Tensor, power: Any) -> str:
        if isinstance(power, Tensor) or power != 2:
            raise _Other
        return self._each(out, "{0} * {0}", [x])

    def _cat(self, out: Tensor, parts: Sequence[Tensor], dim: int = 0) -> str:
        start, text = 0, []
        for part in parts:
            if part.dim() != out.dim():
                raise _Other
            piece = out.narrow(dim, start, part.shape[dim])
            text.append(self._each(piece, "{0}", [part]) if part.numel() else "")
            start += part.shape[dim]
        return "\n".join(text)

    def _stack(self, out: Tensor, parts: Sequence[Tensor], dim: int = 0) -> str:
        return "\n".join(self._each(out.select(dim, k), "{0}", [p]) for k, p in enumerate(parts))

    # -- sums and choices within a row -----------------------------------------------------------

    def _reduce(self, out: Tensor, x: Tensor, dims: Any, keep: bool, text: str, kind: Any) -> str:
        """text: of the accumulator {a} with the element {0}; its start, and its end."""
        dims = [dims] if isinstance(dims, int) else dims
        dims = sorted(d % x.dim() for d in (range(x.dim()) if dims is None or dims == [] else dims))
        if not x.numel() or any(x.shape[d] == self.rows for d in dims):
            raise _Other
        target = out
        for d in dims if not keep else ():
            target = target.unsqueeze(d)
        inner = View(x)
        loops = [(f"r{d}", inner.shape[d], inner.strides[d]) for d in dims]
        start, add, end = text.split(";")
        more = "".join(f" + {v} * {s}" for v, _, s in loops)
        opening = "".join(f"for (long {v} = 0; {v} < {n}; {v}++) " for v, n, _ in loops)

        def body(terms: list[str]) -> str:
            element = terms[0].replace("/*more*/", more)
            return (
                f"{_TYPES[kind]} a = {start}; {opening}{{ {add.format(element)}; }}"
                f" {{o}} = {end.strip()};"
            )

        first = x
        for d in dims:
            first = first.narrow(d, 0, 1)
        inside = [[(n, s) for _, n, s in loops]]
        return self._loops(target, body, [first], kind, inside)

    def _sum(
        self, out: Tensor, x: Tensor, dim: Any = None, keepdim: bool = False, **kw: Any
    ) -> str:
        return self._reduce(out, x, dim, keepdim, "0; a += {0}; a", out.dtype)

    def _mean(
        self, out: Tensor, x: Tensor, dim: Any = None, keepdim: bool = False, **kw: Any
    ) -> str:
        count = x.numel() // max(1, out.numel())
        return self._reduce(out, x, dim, keepdim, f"0; a += {{0}}; a / {count}", out.dtype)

    def _any(self, out: Tensor, x: Tensor, dim: Any = None, keepdim: bool = False) -> str:
        return self._reduce(out, x, dim, keepdim, "0; a |= {0}; a", torch.bool)

    def _all(self, out: Tensor, x: Tensor, dim: Any = None, keepdim: bool = False) -> str:
        return self._reduce(out, x, dim, keepdim, "1; a &= {0}; a", torch.bool)

    def _linalg_vector_norm(
        self,
        out: Tensor,
        x: Tensor,
        ord: float = 2,
        dim: Any = None,
        keepdim: bool = False,
        **_: Any,
    ) -> str:
        if ord != 2 or out.dtype != torch.float32:
            raise _Other
        text = "0; a += {0} * {0}; __builtin_sqrtf(a)"
        return self._reduce(out, x, dim, keepdim, text, out.dtype)

    def _bmm(self, out: Tensor, a: Tensor, b: Tensor) -> str:
        # (N, I, 1, K) * (N, 1, J, K), summed over K
        product = [a.unsqueeze(2), b.transpose(1, 2).unsqueeze(1)]
        shape = (*out.shape, a.shape[2])
        left, right = (t.expand(shape) for t in product)
        k = f"for (long k = 0; k < {a.shape[2]}; k++) "
        at = [View(t).strides[3] for t in (left, right)]

        def body(terms: list[str]) -> str:
            both = " * ".join(
                t.replace("/*more*/", f" + k * {s}") for t, s in zip(terms, at, strict=True)
            )
            return f"float a = 0; {k}a += {both}; {{o}} = a;"

        inside = [[(a.shape[2], s)] for s in at]
        return self._loops(out, body, [left[..., 0], right[..., 0]], out.dtype, inside)

    def _mv(self, out: Tensor, a: Tensor, b: Tensor) -> str:
        return self._bmm(out.view(-1, 1, 1), a[:, None], b[None, :, None].expand(len(a), -1, 1))

    def _linalg_cross(self, out: Tensor, a: Tensor, b: Tensor, *, dim: int = -1) -> str:
        a, b = torch.broadcast_tensors(a, b)
        text = []
        for k in range(3):
            one, two = (k + 1) % 3, (k + 2) % 3
            parts = [a.select(dim, one), b.select(dim, two), a.select(dim, two), b.select(dim, one)]
            text.append(self._each(out.select(dim, k), "{0} * {1} - {2} * {3}", parts))
        return "\n".join(text)

    def _gather(self, out: Tensor, x: Tensor, dim: int, index: Tensor, **_: Any) -> str:
        if x.shape[dim] == self.rows:
            raise _Other
        first = x.narrow(dim, 0, 1).expand(out.shape)
        return self._at(out, first, x.shape[dim], View(x).strides[dim], index)

    def _at(self, out: Tensor, first: Tensor, size: int, step: int, index: Tensor) -> str:
        """The element `index` times `step` after the `first`, of `size`; from the end if it is
        negative. All of the shape of `out`."""

        def body(terms: list[str]) -> str:
            # What torch refuses reads the nearest number instead of other memory.
            inside = f"k < 0 ? 0 : k < {size} ? k : {size - 1}"
            place = terms[0].replace("/*more*/", f" + ({inside}) * {step}")
            return f"long k = {terms[1]}; k += k < 0 ? {size} : 0; {{o}} = {place};"

        inside = [[(size, step)], []]
        return self._loops(out, body, [first, _Place(index)], out.dtype, inside)

    def _index(self, out: Tensor, x: Tensor, index: Sequence[Tensor | None]) -> str:
        given = [(d, i) for d, i in enumerate(index) if i is not None]
        if len(given) != 1 or given[0][1].dtype != torch.long:
            raise _Other
        dim, places = given[0]
        if dim == 0 and self.rows in places.shape:
            return self._from_table(out, x, places)
        if places.dim() != 1:
            raise _Other
        shape = [1] * out.dim()
        shape[dim] = len(places)
        return self._gather(out, x, dim, places.view(shape).expand(out.shape))

    def _from_table(self, out: Tensor, table: Tensor, index: Tensor) -> str:
        """table[index]; each row reads anywhere, so nothing may write there meanwhile."""
        if View(table).at in self.written:
            raise _Other
        places = index.view(*index.shape, *(1,) * (table.dim() - 1)).expand(out.shape)
        first = table[0].expand(out.shape)
        return self._at(out, first, len(table), View(table).strides[0], places)

    # -- loops -----------------------------------------------------------------------------------

    def _loops(
        self,
        out: Tensor,
        body: Callable[[list[str]], str],
        values: list[Any],
        kind: torch.dtype,
        inside: Sequence[Sequence[tuple[int, int]]] | None = None,
    ) -> str:
        """Loops over `out`, with `body` of the terms for `values`, each of type `kind`. inside:
        where `body` itself loops, (length, stride) of what it reads of each of the values."""
        scalar = inside is not None
        if self.rows != 1 and list(out.shape).count(self.rows) != 1:
            raise _Other
        axis = list(out.shape).index(self.rows)
        tensors = [v.tensor if isinstance(v, _Flag) else v for v in values]
        views: list[View | None] = []
        for value in tensors:
            if isinstance(value, Tensor):
                if value.dtype not in _TYPES:
                    raise _Other
                value = View(value.expand(out.shape))
                more = inside[len(views)] if inside else ()
                self.reads[value.at].add(value.row_step(axis, self.rows, more))
            views.append(value if isinstance(value, View) else None)
        target = View(out)
        self.writes[target.at].add(target.row_step(axis, self.rows))
        order = [axis, *(d for d in range(out.dim()) if d != axis)]
        sizes = [out.shape[d] for d in order]
        every = [target, *(v for v in views if v)]
        strides = [[v.strides[d] for d in order] for v in every]
        loops, strides = _merged(sizes, strides) if not scalar else (sizes, strides)
        names = ["n", *(f"i{k}" for k in range(1, len(loops)))]
        opening = ""
        per_row = loops[0] // self.rows
        for k, (name, size) in enumerate(zip(names, loops, strict=True)):
            begin, end = ("first", "last") if not k else ("0", f"{size}")
            times = f" * {per_row}" if not k and per_row > 1 else ""
            opening += (_PRAGMA if k == len(loops) - 1 and not scalar and size >= 8 else "") + (
                f"for (long {name} = {begin}{times}; {name} < {end}{times}; {name}++)\n"
            )

        def place(view: View, steps: list[int]) -> str:
            index = [f"{n} * {s}" for n, s in zip(names, steps, strict=True) if s]
            first = f"({_TYPES[view.type]} *)AT({view.at}, {view.start * view.size})"
            return f"({first})[{' + '.join(index) or '0'}/*more*/]"

        terms, k = [], 1
        for value, view in zip(values, views, strict=True):
            own = "bool" if isinstance(value, _Flag) else _TYPES[kind]
            own = "long" if isinstance(value, _Place) else own
            if view is None:
                terms.append(_number(value, kind))
                continue
            text = place(view, strides[k])
            k += 1
            terms.append(f"({own}){text}")
        text = body(terms).replace("{o}", place(target, strides[0]))
        return f"{opening}{{ {text} }}{_END}"


class _Flag:
    """A term that stays a boolean."""

    def __init__(self, tensor: Tensor) -> None:
        self.tensor = tensor


class _Place(_Flag):
    """A term that stays an integer."""


_END = "/*end*/"
_PLACE = re.compile(r"AT\((\d+), (\d+)\)")
_PRAGMA = "\n#pragma clang loop vectorize(assume_safety) interleave_count(1)\n"


def _number(value: Any, kind: torch.dtype) -> str:
    if not isinstance(value, bool | int | float):
        raise _Other
    if isinstance(value, float) and value in (float("inf"), -float("inf")):
        return f"({'-' if value < 0 else ''}__builtin_inff())"
    if isinstance(value, float) and value != value:
        return '__builtin_nanf("")'
    return f"(({_TYPES[kind]}){float(value).hex() if kind.is_floating_point else int(value)})"


def _merged(sizes: list[int], strides: list[list[int]]) -> tuple[list[int], list[list[int]]]:
    """Loops of the same effect, fewer where memory goes on from one dimension to the next."""
    sizes, strides = list(sizes), [list(s) for s in strides]
    for d in reversed(range(1, len(sizes))):
        if sizes[d] == 1 or all(s[d - 1] == s[d] * sizes[d] for s in strides):
            if sizes[d] != 1:
                for s in strides:
                    s[d - 1] = s[d]
            sizes[d - 1] *= sizes[d]
            del sizes[d]
            for s in strides:
                del s[d]
    return sizes, strides


def source_of(
    phases: Mapping[int, Sequence[str]], shared: Sequence[int], local: Mapping[int, int]
) -> tuple[str, int]:
    """The C++ of functions `phase_<k>(table, own, begin, end)`, one for each of `phases`, and the
    bytes of scratch memory `own`. shared: the addresses in the table; local: bytes of a row, by
    address, of what lies in scratch memory."""
    offsets, scratch, places_of = {}, 0, {at: k for k, at in enumerate(shared)}
    for at, size in local.items():
        offsets[at] = scratch
        scratch += size * BLOCK + 64

    functions: dict[str, str] = {}  # the names of loops by their text: many differ in memory only
    text = ""
    for k, statements in phases.items():
        text += (
            f'extern "C" void phase_{k}(char *const *table, char *own, long begin, long end) {{\n'
            f"for (long start = begin; start < end; start += {BLOCK}) {{\n"
            f"const long first = start, last = start + {BLOCK} < end ? start + {BLOCK} : end;\n"
        )
        for loop in "\n".join(statements).split(_END):
            places = list(dict.fromkeys(_PLACE.findall(loop)))
            if not places:
                continue
            arguments = ["first, last"]
            for i, (at, start) in enumerate(places):
                loop = loop.replace(f"AT({at}, {start})", f"p{i}")
                memory = int(at)
                own = (
                    f"own + {offsets[memory]} - start * {local[memory]}" if memory in local else ""
                )
                arguments.append(f"{own or f'table[{places_of[memory]}]'} + {start}")
            taken = "".join(f", char *p{i}" for i in range(len(places)))
            name = functions.setdefault(
                f"(long first, long last{taken}) {{{loop}}}", f"f{len(functions)}"
            )
            text += f"{name}({', '.join(arguments)});\n"
        text += "}}\n"
    own_functions = "#pragma clang fp contract(off)\n" + "".join(
        f"static void {n}{body}\n" for body, n in functions.items()
    )
    return own_functions.replace("static", "__attribute__((noinline)) static") + text, scratch
