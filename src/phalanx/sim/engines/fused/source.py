"""The C++ files of the fused step as one text, and how much memory it has for contacts."""

from dataclasses import dataclass
from pathlib import Path

_HERE = Path(__file__).parent


@dataclass(frozen=True)
class Sizes:
    """Most contacts between bodies, and rows of theirs, in a world; None for all that can be."""

    pairs: int | None = None
    rows: int | None = None

    @property
    def doubled(self) -> "Sizes":
        """Twice as much of what is bounded."""
        return Sizes(self.pairs and 2 * self.pairs, self.rows and 2 * self.rows)


def read(name: str) -> str:
    """A source file of this folder with those that it includes."""
    lines = (_HERE / name).read_text().splitlines(keepends=True)
    mark = '#include "'
    return "".join(read(x[len(mark) : -2]) if x.startswith(mark) else x for x in lines)
