"""PTX, what NVRTC makes of the fused step before ptxas makes machine code of it."""

import re
from dataclasses import dataclass, field

from phalanx.sim.engines.fused import cuda

REGISTER = re.compile(r"%(?:p|rs|r|rd|f|fd)\d+\b")
WITHOUT_RESULT = ("st.", "bra", "brx", "ret", "exit", "bar", "call", "membar", "red.", "trap")


@dataclass
class Row:  # an instruction
    sets: set[str]
    reads: set[str]
    guarded: bool
    line: int  # of the text that was compiled
    next: list[int] = field(default_factory=list)
    live: set[str] = field(default_factory=set)  # read later, before they are set
    unset: set[str] | None = None  # may never have been set; None: not reached


def compiled(text: str) -> tuple[bytes, str]:
    """Machine code for sm_90 and PTX of a step's text for a GPU."""
    nvrtc, checked = cuda._bindings("nvrtc"), cuda._checked
    program = checked(nvrtc.nvrtcCreateProgram(text.encode(), b"step.cu", 0, [], []))
    flags = ("--gpu-architecture=sm_90", *cuda.FLAGS, "--generate-line-info")
    checked(nvrtc.nvrtcCompileProgram(program, len(flags), [f.encode() for f in flags]))
    cubin = b" " * checked(nvrtc.nvrtcGetCUBINSize(program))
    checked(nvrtc.nvrtcGetCUBIN(program, cubin))
    ptx = b" " * checked(nvrtc.nvrtcGetPTXSize(program))
    checked(nvrtc.nvrtcGetPTX(program, ptx))
    return cubin, ptx.decode()


def kept_unset(ptx: str) -> set[int]:
    """Lines of the compiled text with numbers that a loop keeps from turn to turn although they may
    not have been set before it.

    ptxas 13.0 gave such a number one register with another: it took the first number that the loop
    may give it for what it always is. So `T kept; for (...) if (better) kept = some;` was wrong on
    a GPU; `T kept = {};` is right. Predicates do not count: NVRTC itself leaves some unset that
    nobody reads."""
    return {line for body in _functions(ptx) for line in _lines_kept_unset(_rows(body))}


def _functions(ptx):
    for found in re.finditer(r"\.(?:func|entry)[^{;]*?\)\s*\{\n", ptx):
        yield ptx[found.end() : ptx.index("\n}", found.end())]


def _rows(body):
    rows, labels, tables, goals, line = [], {}, {}, [], 0
    for statement in re.sub(r"//.*", "", re.sub(r"(\.loc.*)", r"\1;", body)).split(";"):
        text = statement.strip("{} \t\n")
        while found := re.match(r"([$\w]+):[\s{}]*", text):
            labels[found[1]], text = len(rows), text[found.end() :]
            if text.startswith(".branchtargets"):
                tables[found[1]] = re.findall(r"\$\w+", text)
        if found := re.match(r"\.loc\s+\d+\s+(\d+)", text):
            line = int(found[1])
        if not text or text.startswith("."):
            continue
        guard = re.match(r"@!?(%p\d+)\s+", text)
        operation, *rest = text[guard.end() if guard else 0 :].split(maxsplit=1)
        rest = rest[0] if rest else ""
        result = re.match(r"\s*\{[^}]*\}|[^,]*", rest)[0]
        if operation.startswith(WITHOUT_RESULT):
            result = ""
        sets = REGISTER.findall(result)
        reads = set(REGISTER.findall(rest[len(result) :])) | ({guard[1]} if guard else set())
        rows.append(Row(set(sets), reads, bool(guard), line))
        goals.append((operation, rest.split(",")[-1].strip()))
    for k, (row, (operation, goal)) in enumerate(zip(rows, goals, strict=True)):
        if operation.startswith("bra"):
            row.next = [labels[goal]]
        elif operation.startswith("brx"):
            row.next = [labels[name] for name in tables[goal]]
        ends = operation.startswith(("bra", "brx", "ret", "exit", "trap")) and not row.guarded
        row.next += [] if ends or k + 1 == len(rows) else [k + 1]
    return rows


def _lines_kept_unset(rows):
    _mark_live(rows)
    _mark_unset(rows)
    lines = set()
    for loop in _loops(rows):
        own = set(loop)
        heads = {h for k, row in enumerate(rows) if k not in own for h in row.next if h in own}
        set_in_loop = set().union(*(rows[k].sets for k in loop))
        kept = set()
        for k in loop:
            if rows[k].unset is not None:
                left = rows[k].unset - (set() if rows[k].guarded else rows[k].sets)
                kept |= set().union(*(rows[h].live & left for h in rows[k].next if h in heads))
        kept = {name for name in kept & set_in_loop if not name.startswith("%p")}
        lines |= {rows[k].line for k in loop if rows[k].sets & kept}
    return lines


def _mark_live(rows):
    before = [[] for _ in rows]
    for k, row in enumerate(rows):
        for n in row.next:
            before[n].append(k)
    work = list(range(len(rows)))
    while work:
        row = rows[k := work.pop()]
        after = set().union(*(rows[n].live for n in row.next))
        live = (after - (set() if row.guarded else row.sets)) | row.reads
        if live != row.live:
            row.live = live
            work += before[k]


def _mark_unset(rows):
    rows[0].unset, work = set(rows[0].live), [0]
    while work:
        row = rows[work.pop()]
        left = row.unset - (set() if row.guarded else row.sets)
        for n in row.next:
            if rows[n].unset is None or not left <= rows[n].unset:
                rows[n].unset = (rows[n].unset or set()) | left
                work.append(n)


def _loops(rows):
    """Lists of rows that can reach each other, by Tarjan's algorithm."""
    number, low, stack, found = {}, {}, [], []
    waiting = set()
    for root in range(len(rows)):
        path = [] if root in number else [(root, iter(rows[root].next))]
        if path:
            number[root] = low[root] = len(number)
            stack.append(root), waiting.add(root)
        while path:
            k, rest = path[-1]
            for n in rest:
                if n not in number:
                    number[n] = low[n] = len(number)
                    stack.append(n), waiting.add(n)
                    path.append((n, iter(rows[n].next)))
                    break
                if n in waiting:
                    low[k] = min(low[k], number[n])
            else:
                path.pop()
                if path:
                    low[path[-1][0]] = min(low[path[-1][0]], low[k])
                if low[k] == number[k]:
                    at = stack.index(k)
                    found.append(stack[at:])
                    waiting -= set(stack[at:])
                    del stack[at:]
    return [loop for loop in found if len(loop) > 1 or loop[0] in rows[loop[0]].next]
