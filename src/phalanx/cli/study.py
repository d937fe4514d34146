"""A study: many runs of one task with other settings, and its folder.

    study.yaml          the command line, and the settings of each trial when it began
    trials/000.json     what trial 0 has reached: settings, curve, last checkpoint
    runs/000_0/         the run folder of its first start, 000_1 of the second, ...
    taken/              what a trial of a population takes from another, until it saves itself

These plain files are all that a study needs to continue, at whatever moment it was killed.
"""

import json
import math
import re
import shlex
import shutil
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import yaml

from phalanx.cli.keys import TEXTS
from phalanx.cli.overrides import split, split_at_commas
from phalanx.config import read
from phalanx.errors import PhalanxError
from phalanx.files import write_atomically
from phalanx.gate import reason
from phalanx.json_text import read_json
from phalanx.yaml_file import read_yaml

COLUMNS = ("iteration", "frames", "return", "length", "seconds")
"""What a row of a trial's curve has."""
DRAWS = ("uniform", "loguniform", "randint", "choice")
DRAW = re.compile(rf"({'|'.join(DRAWS)})\((.*)\)")


@dataclass
class Record:
    """What a trial has reached."""

    number: int
    values: dict[str, Any]
    """Settings by key; population based training changes them."""
    checkpoint: str | None = None
    """File to continue from."""
    curve: list[list[float]] = field(default_factory=list)
    """Rows of `COLUMNS`."""
    state: str = "waiting"
    """waiting, running, done, stopped (by ASHA) or failed."""
    reason: str = ""
    """Why it failed."""
    starts: int = 0
    change: str = ""
    """Name of the last change that population based training made."""

    @property
    def ended(self) -> bool:
        """Whether it trains no further; one that failed is tried again when the study continues."""
        return self.state in ("done", "stopped")


class Study:
    """The folder `path`. Raises PhalanxError if it holds anything but a study."""

    def __init__(self, path: Path) -> None:
        self.given, self.path = path, path.absolute()  # as in messages; in every process
        self.file = self.path / "study.yaml"
        self.taken = self.path / "taken"
        if self.path.exists() and not self.file.exists() and any(self.path.iterdir()):
            raise PhalanxError(f"{path} is not empty and not a study; choose another with study=")

    def begin(self, arguments: list[str], trials: list[dict[str, Any]]) -> None:
        """Write the study's file, or check that it is of this command line."""
        if self.check(arguments):
            return
        try:
            (self.path / "trials").mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise PhalanxError(
                f"cannot write the study {self.given}: {reason(error)}; choose another folder with"
                " study="
            ) from error
        text = yaml.safe_dump({"arguments": arguments, "trials": trials}, sort_keys=False)
        write_atomically(self.file, text.encode(), "study=")

    def check(self, arguments: list[str]) -> bool:
        """Whether the study is there. Raises PhalanxError if it is of another command line."""
        if not self.file.exists():
            return False
        there = self.arguments()
        if there != arguments:
            began = f"phalanx tune {shlex.join(there)}"
            raise PhalanxError(
                f"{self.given} is a study of another command, `{began}`;"
                f" continue it with `{self.command}`, or choose another folder with study="
            )
        return True

    @property
    def command(self) -> str:
        """What continues the study."""
        word = f"study={self.given}"
        return f"phalanx tune {shlex.quote(word)}"

    def arguments(self) -> list[str]:
        """The command line that began the study."""
        return [str(word) for word in self._read()["arguments"]]

    def trials(self) -> list[Record]:
        """Every trial, as far as it has come."""
        return [self.trial(k, values) for k, values in enumerate(self._read()["trials"])]

    def trial(self, number: int, values: dict[str, Any] | None = None) -> Record:
        """One trial; without a file it has not begun, and has `values`."""
        file = self._file(number)
        if not file.exists():
            return Record(number, dict(values or {}))
        return read_record(read_json(file), file)

    def write(self, record: Record) -> None:
        """Replace the trial's file."""
        write_atomically(self._file(record.number), json.dumps(asdict(record)).encode(), "study=")

    def take(self, number: int) -> tuple[Record, str | None]:
        """A trial, and a copy of its last checkpoint, which stays when the trial goes on."""
        for left in (True, False):
            record = self.trial(number)
            if record.checkpoint is None:
                break
            copy = self.taken / f"{uuid.uuid4().hex}.pth"
            self.taken.mkdir(exist_ok=True)
            try:
                shutil.copyfile(record.checkpoint, copy)
                return record, str(copy)
            except FileNotFoundError:  # it has just written another
                if not left:
                    raise
        return record, None

    def _file(self, number: int) -> Path:
        return self.path / "trials" / f"{number:03}.json"

    def _read(self) -> dict[str, Any]:
        found = read_yaml(self.file)
        fits = isinstance(found, dict) and all(
            isinstance(found.get(key), list) for key in ("arguments", "trials")
        )
        if not fits or not all(map(_is_setting, found["trials"])):
            raise PhalanxError(f"{self.file} is not a study's: it needs arguments and trials")
        return found


def _is_setting(values: Any) -> bool:
    return isinstance(values, dict) and all(isinstance(key, str) for key in values)


def read_record(values: Any, file: Path) -> Record:
    """A trial from its file's content. Raises PhalanxError for wrong content."""
    record = read(Record, values, str(file))
    if any(len(row) != len(COLUMNS) for row in record.curve):
        raise PhalanxError(f"{file} is damaged: a row of its curve is not {', '.join(COLUMNS)}")
    return record


def as_arguments(values: dict[str, Any]) -> list[str]:
    """A trial's settings as arguments of `phalanx train`, which reads the same values from them."""

    def text(value: Any) -> str:
        return yaml.safe_dump([value], default_flow_style=True, width=math.inf)[1:-2]

    return [f"{key}={v if key in TEXTS else text(v)}" for key, v in values.items()]


def settings_of_trials(arguments: Sequence[str], samples: int, seed: int) -> list[dict[str, str]]:
    """The settings of every trial by key, as texts: each combination of the values that commas
    separate, `samples` times if anything is drawn, as in loguniform(1e-5, 1e-3)."""
    import numpy as np

    rng = np.random.default_rng(seed)
    grid: list[dict[str, str]] = [{}]
    for argument in arguments:
        key, text = split(argument)
        parts = split_at_commas(text)
        if len(parts) > 1 or DRAW.fullmatch(text):
            grid = [{**values, key: part} for values in grid for part in parts]
    drawn = any(DRAW.fullmatch(text) for values in grid for text in values.values())
    repeats = samples if drawn or grid == [{}] else 1
    return [dict(_drawn(values, rng)) for _ in range(repeats) for values in grid]


def _drawn(values: dict[str, str], rng: Any) -> Iterator[tuple[str, str]]:
    from ray import tune

    for key, text in values.items():
        match = DRAW.fullmatch(text)
        if match is None:
            yield key, text
            continue
        kind, inside = match[1], [part.strip() for part in split_at_commas(match[2])]
        try:
            if kind == "choice":
                domain = tune.choice(inside)
            else:
                number = int if kind == "randint" else float
                domain = getattr(tune, kind)(*map(number, inside))
            yield key, str(domain.sample(random_state=rng))
        except (ValueError, TypeError, AssertionError) as error:
            raise PhalanxError(
                f"cannot draw {key} from {text}: {error}; give two numbers, as in"
                " loguniform(1e-5, 1e-3), or choice(a, b)"
            ) from error
