"""The C++ files of the fused step as one text, and how much memory it has for contacts."""

from dataclasses import dataclass
from pathlib import Path

_HERE = Path(__file__).parent


@dataclass(frozen=True)
class Sizes:
    """Contacts between bodies, rows of theirs, and contacts of a geom with a height field or box
    field, that a world has memory for."""

    pairs: int
    rows: int
    ground: int = 6

    @property
    def doubled(self) -> "Sizes":
        return Sizes(2 * self.pairs, 2 * self.rows, 2 * self.ground)


def read(name: str) -> str:
    """A source file of this folder with those that it includes."""
    lines = (_HERE / name).read_text("utf-8").splitlines(keepends=True)
    mark = '#include "'
    return "".join(read(x[len(mark) : -2]) if x.startswith(mark) else x for x in lines)
