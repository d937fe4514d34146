"""What the user types to start `phalanx`, for commands in messages: each can be copied as it is."""

import os
import re
import shlex
import shutil
import sys
from pathlib import Path

from phalanx.cli.commands import COMMANDS

_COMMAND = re.compile(
    r"(?<![\w./-])(?<!-m )(?<!uv run )(phalanx|tensorboard) "
    rf"(?=(?:{'|'.join(COMMANDS)})\b|--|<command>)"
)


def program(name: str = "phalanx") -> str:
    """How this process was called: `phalanx`, `uv run phalanx`, `python -m phalanx` or a path; or
    how to call `tensorboard`, which is installed next to it."""
    if "UV_RUN_RECURSION_DEPTH" in os.environ:  # uv run sets it
        return f"uv run {name}"
    called = Path(sys.argv[0])
    if called.name == "__main__.py" and called.parent.name == "phalanx":
        return "python -m phalanx" if name == "phalanx" else f"python -m {name}.main"
    found = shutil.which("phalanx")
    if called.stem != "phalanx" or (found and Path(found).absolute() == called.absolute()):
        return name
    return shlex.quote(str(called.with_name(name)))


def as_called(text: str) -> str:
    """`text` with `phalanx <command>` and `tensorboard --logdir` as the user would type them."""
    return _COMMAND.sub(lambda found: f"{program(found[1])} ", text)
