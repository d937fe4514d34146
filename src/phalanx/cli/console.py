"""Where commands print."""

import contextlib
import os
import time
from collections.abc import Callable, Iterator
from typing import Any

from rich.console import Console
from rich.status import Status
from rich.text import Text

from phalanx.cli.program import as_called

SECONDS_BETWEEN_LINES = 3.0


class Lines(Console):
    """rich's Console for words that are not ours alone, such as names of files: a string is printed
    as it is, on one line, and so are those in tables and in lines that change; rich's markup means
    nothing, a `Text` has styles. Only commands in it become those that the user would type. Tables
    are as wide as the terminal; a file has room for them."""

    def __init__(self, **options: Any) -> None:
        super().__init__(highlight=False, markup=False, **options)
        if not self.is_terminal and "COLUMNS" not in os.environ:
            self.width = 200

    @property
    def is_terminal(self) -> bool:
        """Whether this is one: FORCE_COLOR, which notebooks set, makes no terminal of a pipe."""
        return super().is_terminal and self.file.isatty()

    def print(self, *objects: Any, **options: Any) -> None:
        """As rich does, otherwise."""
        text = all(isinstance(x, str | Text) for x in objects)
        words = [as_called(x) if isinstance(x, str) else x for x in objects]
        super().print(*words, **{"soft_wrap": text, **options})

    def status(self, status: Any, **options: Any) -> Status:
        """As rich does, otherwise."""
        return super().status(Text(status), **options)

    @contextlib.contextmanager
    def progress(self) -> Iterator[Callable[[str], None]]:
        """A function that shows how far something is: in a terminal on one line that changes, in a
        file on a new line every few seconds."""
        if self.is_terminal:
            with self.status("") as status:
                yield lambda words: status.update(Text(words))
            return
        shown = time.perf_counter()

        def show(words: str) -> None:
            nonlocal shown
            if time.perf_counter() - shown > SECONDS_BETWEEN_LINES:
                shown = time.perf_counter()
                self.print(words)
                self.file.flush()

        yield show
