"""The `phalanx` command.

Exit codes: 0 success, 1 a fault in Phalanx or a finding of `doctor` or `motion check`, 2 bad input
(one sentence on stderr), 130 interrupted. With PHALANX_TRACEBACK=1, a traceback instead of the
sentence.
"""

import contextlib
import errno
import importlib
import os
import shlex
import signal
import sys
import threading
import traceback
import warnings
from collections.abc import Callable, Iterator
from types import FrameType
from typing import NoReturn

import phalanx
from phalanx.cli.commands import COMMANDS
from phalanx.cli.keys import COMMANDS_ELSEWHERE
from phalanx.cli.program import as_called
from phalanx.errors import PhalanxError, PhalanxWarning, did_you_mean, printable

# Only light modules are imported here: a command imports its modules when it runs.


def main(arguments: list[str] | None = None) -> None:
    """Run one command; `arguments` default to the process's own."""
    arguments = sys.argv[1:] if arguments is None else arguments
    threading.excepthook = _on_thread_error
    warnings.formatwarning = _format_warning
    try:
        with _interruptible():
            code = _run(arguments)
    except Exception as error:
        sentence = sentence_of(error)
        if not sentence or "PHALANX_TRACEBACK" in os.environ:
            raise
        _end(f"phalanx: {as_called(sentence)}", 2)
    except KeyboardInterrupt as interrupt:
        words = as_called("; ".join(map(str, interrupt.args)))
        _end(f"phalanx: interrupted{words and '; '}{words}", 130)
    if code is not None:
        sys.exit(code)


def _format_warning(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    line: str | None = None,
    *,
    usual: Callable[..., str] = warnings.formatwarning,
) -> str:
    """Ours are for users, without the place in the code."""
    if issubclass(category, PhalanxWarning):
        return f"warning: {as_called(str(message))}\n"
    return usual(message, category, filename, lineno, line)


def _end(words: str, code: int) -> NoReturn:
    """Print the reason and end the process. One of several ranks prints for all, and does not wait
    for a GPU that may wait for a rank that has ended."""
    if os.environ.get("WORLD_SIZE", "1") != "1":  # also for errors before it was needed
        importlib.import_module("phalanx.rl.ranks")
    ranks = sys.modules.get("phalanx.rl.ranks")
    if ranks is None:
        print(words, file=sys.stderr, flush=True)
    else:
        ranks.say_once(words)
        if ranks.size() > 1:
            sys.stdout.flush()
            os._exit(code)
    sys.exit(code)


def _run(arguments: list[str]) -> int | None:
    """Run the command in the arguments; returns its exit code, None for success."""
    from phalanx.cli import help

    name, *rest = arguments or ["--help"]
    if name in ("--version", "-V", "version"):
        print(f"phalanx {phalanx.__version__}")
        return None
    for word in arguments:
        if any("\ud800" <= c <= "\udfff" for c in word):  # as Python writes bytes that are not
            raise PhalanxError(
                f"{printable(word)} is not UTF-8; give the file or folder another name, or use a"
                " terminal whose language (LANG) has UTF-8"
            )
    if name == "help" and rest and rest[0] in COMMANDS:
        name, rest = rest[0], ["--help"]
    if name in ("--help", "-h", "help"):
        print(as_called(help.overview()), end="")
        return None
    if name not in COMMANDS:
        raise PhalanxError(f"unknown command {name!r}{_command_meant(name)}")
    if {"--help", "-h"} & set(rest):
        print(as_called(help.of_command(name, rest)), end="")
        return None
    if {"--cfg", "-c"} & set(rest):
        from phalanx.cli.config import print_config

        print_config(name, rest)
        return None
    module, function = COMMANDS[name].function.split(":")
    code: int | None = getattr(importlib.import_module(module), function)(rest)
    return code


def _command_meant(name: str) -> str:
    """What to type instead of an unknown command, as the end of a sentence."""
    from phalanx import tasks

    if name in COMMANDS_ELSEWHERE:
        return f"; {COMMANDS_ELSEWHERE[name]} does it"
    if name in tasks.names():
        return f"; `phalanx train task={shlex.quote(name)}` trains this task"
    return f"{did_you_mean(name, COMMANDS)}; commands: {', '.join(COMMANDS)}"


@contextlib.contextmanager
def _interruptible() -> Iterator[None]:
    """Whatever an interrupt becomes inside is a KeyboardInterrupt outside: some packages turn one
    that comes while they are imported into an ImportError."""
    came = False

    def interrupt(number: int, frame: FrameType | None) -> None:
        nonlocal came
        came = True
        signal.default_int_handler(number, frame)

    # SIGTERM ends like Ctrl-C: half-written films, temporary folders and other processes go, too. A
    # shell has its background jobs ignore SIGINT, which stays so.
    usual = {signal.SIGINT: signal.default_int_handler, signal.SIGTERM: signal.SIG_DFL}
    before = {s: handler for s, handler in usual.items() if signal.getsignal(s) == handler}
    if threading.current_thread() is not threading.main_thread():
        before = {}
    for s in before:
        signal.signal(s, interrupt)
    try:
        yield
    except Exception as error:
        if came:
            raise KeyboardInterrupt from error
        raise
    finally:
        for s, handler in before.items():
            if signal.getsignal(s) == interrupt:  # the command may have set its own for its end
                signal.signal(s, handler)


def sentence_of(error: Exception) -> str:
    """The message for a mistake, or for what the system refuses; empty for a fault of Phalanx."""
    if isinstance(error, PhalanxError):
        return str(error)
    known = _of_system(error) if isinstance(error, OSError) else _out_of_memory(error)
    if known := known or _of_opengl(error):
        return printable(known)
    from phalanx.tasks.projects import fault_in_project

    found = fault_in_project(error)
    return printable(f"{found}; PHALANX_TRACEBACK=1 shows the way there") if found else ""


def _of_system(error: OSError) -> str:
    """A message for an error of the system that no caller has handled: a name that cannot be, or a
    write error such as TensorBoard's. Empty for another kind."""
    if error.errno in (errno.ENAMETOOLONG, errno.ELOOP, errno.EACCES, errno.EPERM, errno.ENOTDIR):
        return f"cannot open {error.filename}: {os.strerror(error.errno).lower()}"
    if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EIO):
        return ""
    place = f" {error.filename}" if error.filename else " to the run folder"
    return (
        f"cannot write{place}: {os.strerror(error.errno).lower()}; free some space or choose"
        " another folder (train_dir=); the last checkpoint is intact"
    )


def _out_of_memory(error: Exception) -> str:
    """A message for lack of memory. Empty for another kind."""
    words = ("can't allocate memory", "out of memory")
    told = isinstance(error, RuntimeError) and any(word in str(error) for word in words)
    if not told and not isinstance(error, MemoryError):
        return ""
    return "not enough memory for this number of environments; choose a smaller one with num_envs="


def _of_opengl(error: Exception) -> str:
    """A message for a MUJOCO_GL with which MuJoCo cannot be imported. Empty for another kind."""
    frames = traceback.extract_tb(error.__traceback__)
    chosen = os.environ.get("MUJOCO_GL")
    if chosen is None or not any(f.filename.endswith("gl_context.py") for f in frames):
        return ""
    return (
        f"MuJoCo cannot draw with MUJOCO_GL={chosen} on this machine; unset it, and Phalanx looks"
        " for a way to draw that works"
    )


def _on_thread_error(failed: threading.ExceptHookArgs) -> None:
    """Ignore errors in TensorBoard's thread, which raises them again at the next write."""
    if not isinstance(failed.exc_value, OSError):
        threading.__excepthook__(failed)
