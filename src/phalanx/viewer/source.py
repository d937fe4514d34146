"""What a live page shows: states of a few environments, and curves.

`TrainingSource` plays what a training run hands over; it can only be looked at. Sources that
simulate (`touchable`) can be reset, pushed and commanded.
"""

import json
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from phalanx.viewer.states import StateReader

CURVES = "curves.jsonl"
PIECE_S = 4.0
"""Length of a piece of training that is shown without a cut, where training is faster [s]."""
MOST_POINTS = 1000


class Curves:
    """Series of numbers over one horizontal axis."""

    def __init__(self, axis: str) -> None:
        self.axis = axis
        self.x: list[float] = []
        self.series: dict[str, list[float]] = {}

    def add(self, x: float, values: dict[str, float]) -> None:
        """Add a point; a series that begins late has no values before."""
        for name in values:  # in their order, which decides their colours
            self.series.setdefault(name, [math.nan] * len(self.x))
        self.x.append(x)
        for name, series in self.series.items():
            series.append(values.get(name, math.nan))
        if len(self.x) > MOST_POINTS:
            for column in (self.x, *self.series.values()):
                del column[1::2]

    def clear(self) -> None:
        """Begin again."""
        self.x.clear()
        self.series.clear()


class Source:
    """States to show: `states` (num_envs, width) as `sim.recorder` has them, `dt` seconds apart."""

    name: ClassVar[str]
    touchable: ClassVar[bool] = False
    dt: float
    num_envs: int
    states: NDArray[Any]
    curves: Curves
    command_names: Sequence[str] = ()
    command_ranges: Sequence[tuple[float, float]] = ()
    command: Sequence[float] = ()
    """What all robots are told, as far as they are; else what is nearest to standing still."""

    def advance(self, steps: int, until: Callable[[], bool] = lambda: False) -> None:
        """Go on by up to `steps` steps, fewer if `until` says so or there are no more."""
        raise NotImplementedError

    def watched(self, watched: bool) -> None:
        """Whether somebody looks from now on."""

    def status(self) -> str:
        """A few words on what is shown; also reads the curves."""
        raise NotImplementedError

    def reset(self) -> None:
        """Begin new episodes."""

    def push(self, env: int, velocity: Sequence[float], body: int | None = None) -> None:
        """Change the velocity of a body of an environment by this much, (3,) [m/s], world frame;
        None is the robot's first."""

    def give_command(self, values: Sequence[float]) -> None:
        """Give this command to all robots."""

    def newest(self) -> str:
        """The newest checkpoint, empty if it is the one that plays."""
        return ""

    def take_newest(self) -> None:
        """Play the newest checkpoint from now on."""


class TrainingSource(Source):
    """What a training run hands over into `folder`, see `states.py`. Where training is faster than
    real time, pieces of it are shown, with a cut between them."""

    name = "training"

    def __init__(self, folder: Path, dt: float) -> None:
        self.dt = dt
        self.curves = Curves("iteration")
        self._reader = StateReader(folder)
        self.num_envs = self._reader.num_envs
        self._lines = (folder / CURVES).open(encoding="utf-8")
        self._status = "training begins"
        self._rows = self._reader.take(1)
        self.states = np.zeros(self._reader.shape, np.float32)

    @property
    def begun(self) -> bool:
        """Whether there are states to show."""
        return self._reader.written > 0

    def advance(self, steps: int, until: Callable[[], bool] = lambda: False) -> None:
        """Go on by up to `steps` steps, or by as many as there are."""
        if len(self._rows) < steps:
            more = self._reader.take(max(steps, round(PIECE_S / self.dt)))
            self._rows = np.concatenate([self._rows, more])
        steps = min(steps, len(self._rows))
        if steps:
            self.states = self._rows[steps - 1]
            self._rows = self._rows[steps:]

    def watched(self, watched: bool) -> None:
        """States are handed over only while somebody looks."""
        self._reader.want(watched)

    def status(self) -> str:
        """Where training is."""
        while line := self._lines.readline():
            if not line.endswith("\n"):  # the rest of it is being written
                self._lines.seek(self._lines.tell() - len(line))
                break
            point = json.loads(line)
            self.curves.add(point["iteration"], point["values"])
            self._status = f"training, iteration {point['iteration']}"
        return self._status
