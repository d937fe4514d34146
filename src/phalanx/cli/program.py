"""What the user types to start `phalanx`, for commands in messages: each can be copied as it is."""

import os
import re
import shlex
import shutil
import sys
from pathlib import Path

from phalanx.cli.commands import COMMANDS

_COMMAND = re.compile(
    rf"(?<![\w./-])(?<!-m )(?<!uv run )phalanx (?=(?:{'|'.join(COMMANDS)})\b|--|<command>)"
)


def program() -> str:
    """How this process was called: `phalanx`, `uv run phalanx`, `python -m phalanx` or a path."""
    if "UV_RUN_RECURSION_DEPTH" in os.environ:  # uv run sets it
        return "uv run phalanx"
    called = Path(sys.argv[0])
    if called.name == "__main__.py" and called.parent.name == "phalanx":
        return "python -m phalanx"
    found = shutil.which("phalanx")
    if called.stem != "phalanx" or (found and Path(found).absolute() == called.absolute()):
        return "phalanx"
    return shlex.quote(str(called))


def as_called(text: str) -> str:
    """`text` with `phalanx <command>` as the user would type it."""
    return _COMMAND.sub(f"{program()} ".replace("\\", r"\\"), text)
