"""A robot as read from a file, and notes on how it differs from the file.

    robot = load_robot("go2.urdf")
    robot.notes        # [Note("dropped", "dropped textures", "wood.png", "line 9"), ...]
    robot.compile()    # the robot alone, as a mujoco.MjModel

Notes are plain data: `summary` makes the sentence that is logged when a file is loaded, and
`phalanx robot` lists them.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import mujoco

Kind = Literal["dropped", "added", "mended", "overlap", "offer", "doubt"]


@dataclass(frozen=True)
class Note:
    """Something that the robot has other than its file, or that its user should know."""

    kind: Kind
    """"dropped", "added" or "mended": a difference from the file. "overlap": shapes that overlap at
    the initial pose. "offer": something in the file that counts only if it is asked for. "doubt":
    what was taken as it is, but is probably not meant."""
    text: str
    """What happened, the same for all notes of its sort: "dropped textures without a file"."""
    item: str = ""
    """What it happened to: "'wood.png'"."""
    place: str = ""
    """Where that is: "line 12", or "legs.xml, line 3"; empty where it has no single line."""

    def __str__(self) -> str:
        return f"{self.text}: {self._shown}" if self._shown else self.text

    @property
    def _shown(self) -> str:
        return f"{self.item} ({self.place})".strip() if self.place else self.item


@dataclass
class Robot:
    """A robot read from `path`: its spec, which a scene attaches, and notes on it."""

    spec: mujoco.MjSpec
    path: Path
    notes: list[Note] = field(default_factory=list)

    def compile(self) -> mujoco.MjModel:
        """The robot alone as a model, without a ground."""
        return self.spec.copy().compile()


def summary(notes: list[Note]) -> str:
    """All notes in one sentence; those of one sort share their text."""
    sorts: dict[str, list[str]] = {}
    for note in notes:
        sorts.setdefault(note.text, []).append(note._shown)
    return "; ".join(
        text + (f": {', '.join(filter(None, items))}" if any(items) else "")
        for text, items in sorts.items()
    )
