"""Reads what a pickle in a motion file holds, without executing code."""

from pathlib import Path
from typing import IO, Any

from phalanx.errors import PhalanxError
from phalanx.pickles import NUMPY_NAMES, Refused, read_pickle


def read_motion_pickle(file: IO[bytes], path: Path, cure: str) -> Any:
    """Dictionaries, lists, numbers, strings and arrays from the open `file`. Raises PhalanxError,
    which names `path`, if it is damaged, or holds anything else: then with `cure`, what to do."""
    try:
        return read_pickle(file, NUMPY_NAMES)
    except Refused as refused:
        raise PhalanxError(
            f"{path} was not loaded: it contains {refused}, a program that loading would execute;"
            f" {cure}"
        ) from refused
    except Exception as error:  # a damaged pickle may raise anything
        raise PhalanxError(f"{path} is damaged or cut short; get it again") from error
