"""Training on several devices: `phalanx train devices=2` starts the ranks that torchrun would."""

import contextlib
import logging
import os
import signal
import sys
import threading
import uuid
from collections.abc import Iterator

import torch

from phalanx.cli.options import TrainOptions
from phalanx.errors import PhalanxError
from phalanx.rl import ranks
from phalanx.sim import resolve_device

SECONDS_TO_STOP = 15.0
"""After a signal, before a rank that still waits for another one is ended."""
SECONDS_BETWEEN_LOOKS = 1.0
"""At whether the process that started the ranks is still there."""
SECONDS_TO_SAVE = 120
"""After a signal, before ranks that have not stopped are killed."""


def kind_of_device(options: TrainOptions) -> str:
    """ "cuda" if simulation or learning use a GPU, otherwise "cpu"."""
    kinds = {resolve_device(name).type for name in (options.sim_device, options.rl_device)}
    return "cuda" if "cuda" in kinds else "cpu"


def check_start(options: TrainOptions) -> None:
    """Raise PhalanxError if this process is not what the options say: one of several, or alone."""
    if options.devices > 1 and ranks.started_by_torchrun():
        raise PhalanxError(
            f"devices={options.devices} starts its own processes; with torchrun, which has started"
            " this one, give multi_gpu=true instead"
        )
    if options.multi_gpu and options.devices == 1 and not ranks.started_by_torchrun():
        raise PhalanxError(
            "multi_gpu=true trains with the processes that torchrun has started, and it has started"
            " none; use `torchrun --standalone --nproc_per_node=2 -m phalanx train ..."
            " multi_gpu=true`, or give devices=2 instead"
        )
    if ranks.others_started() and not options.multi_gpu:
        raise PhalanxError(
            f"torchrun has started {os.environ['WORLD_SIZE']} processes, which would all train the"
            " same run; add multi_gpu=true to train it together"
        )
    if options.devices > 1 and kind_of_device(options) == "cuda":
        count = torch.cuda.device_count()
        if options.devices > count:
            raise PhalanxError(
                f"devices={options.devices}, but this machine has {count} GPU{'s' * (count != 1)};"
                " give at most that, or sim_device=cpu"
            )


def start_ranks(count: int, arguments: list[str]) -> int | None:
    """Run `phalanx train` with these arguments in `count` processes; returns the exit code. Ctrl-C
    and SIGTERM stop them all after their iteration."""
    from torch.distributed.elastic.multiprocessing.api import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.elastic.rendezvous.api import RendezvousError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    logging.getLogger("torch.distributed").setLevel(logging.CRITICAL)  # the ranks say why they end
    config = LaunchConfig(
        min_nodes=1,
        max_nodes=1,
        nproc_per_node=count,
        run_id=uuid.uuid4().hex,
        rdzv_backend="c10d",
        rdzv_configs={"is_host": True, "read_timeout": ranks.SECONDS_TO_MEET},
        rdzv_endpoint=f"{ranks.THIS_MACHINE}:0",
        local_addr=ranks.THIS_MACHINE,  # its name may lead nowhere
        max_restarts=0,
        monitor_interval=0.2,
    )
    config.shutdown_timeout = SECONDS_TO_SAVE  # no argument in torch 2.11, which waits for 30 s
    own = [a for a in arguments if not a.startswith(("devices=", "multi_gpu="))]
    command = ["-m", "phalanx", "train", *own, "multi_gpu=true"]
    try:
        elastic_launch(config, sys.executable)(*command)
    except SignalException as stopped:
        return 128 + int(stopped.sigval)
    except ChildFailedError as error:
        codes = [failure.exitcode for failure in error.failures.values()]
        if len(codes) == count and max(codes) < 0:  # none is left that could say it
            name = signal.Signals(-codes[0]).name
            raise PhalanxError(f"all {count} ranks were killed ({name})") from None
        return max(*codes, 1)
    except (RendezvousError, RuntimeError, OSError) as error:  # before any rank has begun
        raise PhalanxError(
            f"{count} processes cannot be started and meet at {ranks.THIS_MACHINE}:"
            f" {ranks.first_line(error.__cause__ or error)}; let processes of this machine"
            " talk to each other, or leave devices= out"
        ) from error
    return None


@contextlib.contextmanager
def ended_if_stuck() -> Iterator[None]:
    """Inside, end this process if it has been told to stop but still waits for another rank, in a
    call that no signal interrupts: NCCL on a GPU does not see that a rank has ended."""
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    over = threading.Event()

    def watch() -> None:
        told = os.read(reading, 1)  # Python writes the number of a signal here, whatever runs
        if not told or over.wait(SECONDS_TO_STOP):
            return
        ranks.say_once(
            f"phalanx: rank {ranks.rank()} waits in vain for another rank, which has ended or"
            " hangs; the last checkpoint is intact"
        )
        os._exit(2)

    before = signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
    threading.Thread(target=watch, daemon=True).start()
    try:
        yield
    finally:
        over.set()
        signal.set_wakeup_fd(before)
        os.close(writing)


@contextlib.contextmanager
def ended_with_launcher() -> Iterator[None]:
    """Inside, stop as SIGTERM does once the process that has started the ranks is gone: one that is
    killed cannot tell them. Only for `devices=` and torchrun: ranks started by hand outlive the
    shell."""
    launcher, over = os.getppid(), threading.Event()

    def watch() -> None:
        while not over.wait(SECONDS_BETWEEN_LOOKS):
            if os.getppid() != launcher:
                os.kill(os.getpid(), signal.SIGTERM)
                return

    if "TORCHELASTIC_RUN_ID" in os.environ:
        threading.Thread(target=watch, daemon=True).start()
    try:
        yield
    finally:
        over.set()
