"""Figures of matplotlib as files."""

import io
from pathlib import Path
from typing import TYPE_CHECKING

from phalanx.files import write_atomically

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def write_figure(figure: "Figure", file: Path) -> None:
    """Write a figure in the format of the file's ending. Raises PhalanxError if the system refuses,
    for which matplotlib has tracebacks."""
    content = io.BytesIO()
    figure.savefig(content, format=file.suffix[1:], dpi=110)
    write_atomically(file, content.getvalue())
