"""Data parallel training: ranks, processes that each train with environments of their own and stay
equal, because they share every mean that changes a weight.

    ranks.join("cuda")         # in each process that torchrun has started
    ranks.average(gradients)   # in place, the mean over all ranks

With one rank every function here does nothing, and learners need not know how many there are. All
ranks must call the same functions in the same order. Tensors travel by NCCL on GPUs, also inside
CUDA graphs, and by gloo on CPUs; what the hosts tell each other always travels by gloo. Results of
a sum have the same bits on all ranks.
"""

import contextlib
import datetime
import os
import pickle
import re
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from phalanx.compute import graphs
from phalanx.errors import PhalanxError

SECONDS_TO_MEET = 50
"""Within which all ranks must have found each other."""
SECONDS_TO_ANSWER = 1200
"""Within which a rank must answer later; one may compile kernels while the others wait."""
SECONDS_TO_ASK = 2.0
"""For which rank 0, which may hold the store, stays there at its end so that others can ask it."""
SECONDS_TO_FIND = 1.0
"""Within which torchrun's store must answer a rank that has met no other."""
LETTER = 4096
"""Bytes of a value that hosts tell each other in one exchange."""
THIS_MACHINE = "127.0.0.1"
VARIABLES = ("MASTER_ADDR", "MASTER_PORT", "RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE")


class RankLost(PhalanxError):
    """Another rank has ended or cannot be reached."""


@contextlib.contextmanager
def naming_what_is_left(checkpoint: Path) -> Iterator[None]:
    """Add to a `RankLost` where the run's last checkpoint is, if there is one."""
    try:
        yield
    except RankLost as error:
        if not checkpoint.exists():
            raise
        raise RankLost(f"{error}; everything up to then is saved in {checkpoint}") from error


class _Joined:
    """The connection to the other ranks."""

    def __init__(self, rank: int, size: int, local: int, store: Any, group: Any) -> None:
        self.rank, self.size, self.local = rank, size, local
        self.store, self.group = store, group
        # torch.compile leaves collectives out of what it fuses.
        self.sum: Callable[[Tensor], None] = torch.compiler.disable(self._sum)

    def _sum(self, x: Tensor) -> None:
        _talk(lambda: dist.all_reduce(x, group=self.group))


_joined: _Joined | None = None


def rank() -> int:
    """This process' rank; 0 without others."""
    return _joined.rank if _joined else 0


def size() -> int:
    """Number of ranks."""
    return _joined.size if _joined else 1


def local_rank() -> int:
    """This process' rank on its machine."""
    return _joined.local if _joined else 0


def started_by_torchrun() -> bool:
    """Whether torchrun, or devices=, has started this process, alone or with others."""
    return all(os.environ.get(name) for name in ("RANK", "LOCAL_RANK", "WORLD_SIZE"))


def others_started() -> bool:
    """Whether this process is one of several that torchrun has started."""
    return started_by_torchrun() and os.environ["WORLD_SIZE"] != "1"


def _number(name: str, below: int | None = None) -> int:
    """The whole number in a variable that torchrun sets, from 0 up to `below`."""
    text = os.environ[name]
    if not text.isdecimal() or (below is not None and int(text) >= below):
        wanted = "a whole number" if below is None else f"a whole number below {below}"
        raise PhalanxError(
            f"the environment has {name}={text!r}; it must be {wanted}: unset it, or start training"
            " with torchrun or with devices="
        )
    return int(text)


# -- meeting ---------------------------------------------------------------------------------------


def join(device: str) -> None:
    """Meet the other ranks that torchrun has started; `device` is "cpu" or "cuda". Does nothing the
    second time, or with a single rank. Raises PhalanxError if they cannot be reached, or if this
    machine has fewer GPUs than ranks."""
    global _joined
    if _joined or not others_started():
        return
    if missing := [name for name in VARIABLES if not os.environ.get(name)]:
        raise PhalanxError(
            f"the environment has no {', '.join(missing)}, which torchrun sets; start training with"
            " torchrun or with devices="
        )
    count, here = _number("WORLD_SIZE"), _number("LOCAL_WORLD_SIZE")
    own, local = _number("RANK", count), _number("LOCAL_RANK", here)
    if here == count:  # else they look for an address of its name, which may lead nowhere
        os.environ["MASTER_ADDR"] = THIS_MACHINE
        for library in ("GLOO", "NCCL") if sys.platform == "linux" else ():
            os.environ.setdefault(f"{library}_SOCKET_IFNAME", "lo")
    store = _meet(own, count)
    _joined = _Joined(own, count, local, store, None)  # from here on, say_once works
    if device == "cuda":
        if here > (gpus := torch.cuda.device_count()):
            raise PhalanxError(
                f"{here} ranks were started on this machine, which has {gpus}"
                f" GPU{'s' * (gpus != 1)}; start one for each GPU, or use sim_device=cpu"
            )
        torch.cuda.set_device(local)
    else:
        _share_cores(local, here)
    soon = datetime.timedelta(seconds=SECONDS_TO_MEET)
    backend = "cpu:gloo,cuda:nccl" if device == "cuda" else "gloo"
    try:
        dist.init_process_group(backend, store=store, rank=own, world_size=count, timeout=soon)
        later = datetime.timedelta(seconds=SECONDS_TO_ANSWER)
        _joined.group = dist.new_group(timeout=later)
        dist.all_reduce(torch.zeros(1))
    except RuntimeError as error:
        raise RankLost(
            f"rank {own} of {count} found the others at {_address()}, but cannot talk to them:"
            f" {first_line(error)}; check firewalls, and name the network with GLOO_SOCKET_IFNAME"
            " and NCCL_SOCKET_IFNAME"
        ) from error


def leave() -> None:
    """Part from the other ranks at the end of training. Discards captured CUDA graphs, since NCCL
    waits until none is left that contains an exchange."""
    global _joined
    if _joined and dist.is_initialized():
        if torch.cuda.is_initialized():
            torch.cuda.synchronize()
            graphs.discard_all()
        dist.destroy_process_group()
    _joined = None


def _meet(own: int, count: int) -> Any:
    """The store of keys that all ranks share, once all of them are there."""
    soon = datetime.timedelta(seconds=SECONDS_TO_MEET)
    end = time.monotonic() + SECONDS_TO_MEET
    try:
        with _without_stderr():
            store, _, _ = next(dist.rendezvous("env://", timeout=soon))
        store = dist.PrefixStore("phalanx", store)
        store.set(f"here{own}", "")
    except (RuntimeError, ValueError, OSError) as error:
        taken = "EADDRINUSE" in str(error) or "already in use" in str(error)
        why = "the port is taken; give another --master-port" if taken else first_line(error)
        raise RankLost(
            f"rank {own} of {count} cannot meet the others at {_address()}: {why}"
        ) from error
    for other in range(count):
        left = max(end - time.monotonic(), 0.1)
        try:
            store.wait([f"here{other}"], datetime.timedelta(seconds=left))
        except RuntimeError as error:
            raise RankLost(
                f"rank {own} of {count} waited {SECONDS_TO_MEET} s at {_address()} for rank"
                f" {other}, which has not come; start all ranks with the same command"
            ) from error
    return store


@contextlib.contextmanager
def _without_stderr() -> Iterator[None]:
    """Inside, hide what PyTorch's C++ prints, dozens of lines, before it raises the same as an
    error."""
    sys.stderr.flush()
    before, nothing = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nothing, 2)
    try:
        yield
    finally:
        os.dup2(before, 2)
        os.close(before)
        os.close(nothing)


def _address() -> str:
    return f"{os.environ['MASTER_ADDR']}:{os.environ['MASTER_PORT']}"


def _share_cores(local: int, here: int) -> None:
    """On a CPU, use this rank's part of the cores, so that ranks do not wait for each other."""
    cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
    if len(cores) >= here:
        part = len(cores) // here
        os.sched_setaffinity(0, cores[local * part : (local + 1) * part])
        torch.set_num_threads(min(torch.get_num_threads(), part))


# -- tensors, also inside CUDA graphs --------------------------------------------------------------


def average(tensors: Iterable[Tensor]) -> None:
    """Replace each tensor by its mean over all ranks, in one exchange."""
    if _joined is None:
        return
    own = list(tensors)
    flat = torch.cat([x.reshape(-1) for x in own])
    _joined.sum(flat)
    flat /= _joined.size
    parts = flat.split([x.numel() for x in own])
    torch._foreach_copy_(own, [p.view_as(x) for p, x in zip(parts, own, strict=True)])


def total(x: Tensor) -> Tensor:
    """The sum of `x` over all ranks."""
    if _joined is None:
        return x
    x = x.clone()
    _joined.sum(x)
    return x


def moments(mean: Tensor, var: Tensor, about: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and population variance of the batches of all ranks together, from those of this rank's
    batch; batches have one size. about: a value near the mean, the same on all ranks, so that
    squares lose no digits. Source: Chan, Golub and LeVeque 1979."""
    if _joined is None:
        return mean, var
    shift = mean.double() - about
    sums = torch.stack([shift, var + shift.square()])
    _joined.sum(sums)
    first, second = sums / _joined.size
    return about + first, second - first.square()


def mean_and_std(x: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and sample standard deviation of the batches (B,) of all ranks together, scalars."""
    if _joined is None:
        return x.mean(), x.std()
    mean, var = moments(x.mean(), x.var(correction=0), torch.zeros((), device=x.device))
    count = x.numel() * _joined.size
    return mean.float(), (var * count / (count - 1)).sqrt().float()


# -- what the hosts tell each other ----------------------------------------------------------------


def from_first(value: Any) -> Any:
    """Rank 0's `value`."""
    return from_all(value if rank() == 0 else None)[0]


def from_all(value: Any) -> list[Any]:
    """The values of all ranks, in order."""
    if _joined is None:
        return [value]
    values: list[Any] = [None] * _joined.size
    # PyTorch's own call exchanges lengths first. Small values, those of every reading while the
    # device waits, travel with their length at once.
    data = pickle.dumps(value)
    letter = len(data).to_bytes(8, "little") + data[:LETTER]
    own = torch.frombuffer(bytearray(letter.ljust(8 + LETTER, b"\0")), dtype=torch.uint8)
    letters = [torch.empty_like(own) for _ in values]
    _talk(lambda: dist.all_gather(letters, own, group=_joined.group))
    theirs = [bytes(x.numpy()) for x in letters]
    lengths = [int.from_bytes(x[:8], "little") for x in theirs]
    if max(lengths) <= LETTER:
        return [pickle.loads(x[8 : 8 + n]) for x, n in zip(theirs, lengths, strict=True)]
    _talk(lambda: dist.all_gather_object(values, value, group=_joined.group))
    return values


def to_first(value: Any) -> list[Any]:
    """On rank 0 the values of all ranks, in order, which may be large; on others nothing."""
    if _joined is None:
        return [value]
    own = torch.frombuffer(bytearray(pickle.dumps(value)), dtype=torch.uint8)
    lengths = from_all(own.numel())
    own = torch.nn.functional.pad(own, (0, max(lengths) - own.numel()))
    theirs = [torch.empty_like(own) for _ in lengths] if rank() == 0 else None
    _talk(lambda: dist.gather(own, theirs, dst=0, group=_joined.group))
    return [pickle.loads(x[:n].numpy().data) for x, n in zip(theirs or [], lengths, strict=False)]


def from_any(text: str) -> str:
    """The first text that is not empty, in the order of ranks."""
    return next(filter(None, from_all(text)), "")


def mean_of(scalars: dict[str, float]) -> dict[str, float]:
    """Values by name, each the mean over the ranks that have it."""
    found: dict[str, list[float]] = {}
    for theirs in from_all(scalars):
        for name, value in theirs.items():
            found.setdefault(name, []).append(value)
    return {name: sum(values) / len(values) for name, values in found.items()}


def check_same(values: dict[str, str]) -> None:
    """Raise PhalanxError if a value differs from rank 0's."""
    first, *others = from_all(values)
    for other, theirs in enumerate(others, 1):
        for key in {**first, **theirs}:
            here, there = first.get(key, "nothing"), theirs.get(key, "nothing")
            if here != there:
                raise PhalanxError(
                    f"rank 0 has {key} {here}, but rank {other} has {there}; start all ranks with"
                    " the same command and files"
                )


def say_once(sentence: str) -> None:
    """Print the error that ends this rank, unless another rank has printed one: the others end
    because of the first. Ranks that have not met print what none of them has printed."""
    own, store, key = str(rank()), _joined.store if _joined else None, "said"
    if others_started() and _joined is None:
        own, store, key = os.environ["RANK"], _launchers_store(), f"said {sentence}"
    try:
        first = store is None or store.compare_set(key, "", own) == own.encode()
    except RuntimeError:  # rank 0 held the store and has been killed
        first = own == "1"
    if first:
        print(sentence, file=sys.stderr, flush=True)
    if _joined is None or store is None:
        return
    with contextlib.suppress(RuntimeError):
        asked = store.add("asked", 1)
        end = time.monotonic() + SECONDS_TO_ASK
        while own == "0" and asked < _joined.size and time.monotonic() < end:
            time.sleep(0.01)
            asked = store.add("asked", 0)


def _launchers_store() -> Any:
    """The store of torchrun, which outlives its ranks; None if none answers."""
    if os.environ.get("TORCHELASTIC_USE_AGENT_STORE") != "True":
        return None
    soon = datetime.timedelta(seconds=SECONDS_TO_FIND)
    try:
        with _without_stderr():
            host, port = (os.environ[name] for name in VARIABLES[:2])
            return dist.TCPStore(host, int(port), None, False, soon)
    except (RuntimeError, ValueError, KeyError):
        return None


def _talk(exchange: Callable[[], Any]) -> None:
    try:
        exchange()
    except RuntimeError as error:
        raise RankLost(
            f"rank {rank()} has lost the others, because one of them has ended or hangs"
            f" ({first_line(error)})"
        ) from error


def first_line(error: BaseException) -> str:
    """PyTorch's message, without the place in its source and what is typically the cause."""
    line = (str(error).strip().splitlines() or [type(error).__name__])[0]
    return re.sub(r"^\[\S+:\d+\] ", "", line).split(". This is")[0].rstrip(".")[:200]
