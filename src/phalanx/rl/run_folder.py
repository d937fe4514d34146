"""A run's folder: checkpoints in `nn/`, TensorBoard events in `summaries/`.

Writing files takes longer than a GPU needs for an iteration. So `log` and `keep` only queue;
`flush` writes, and the run calls it after it has given the device its next work. While returns
rise, every reading of the statistics has a new best checkpoint; it waits for others, and only the
last of those that wait is written.
"""

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch

from phalanx.errors import PhalanxError
from phalanx.gate import reason
from phalanx.rl import checkpoint, ranks
from phalanx.rl.owner import Ownership, owned
from phalanx.rl.run_state import of_all_ranks

Scalars = dict[str, float]


class RunFolder:
    """The folder `path`, created by `opened`. `writer` is TensorBoard's; observers may use it."""

    def __init__(self, path: Path, device: torch.device) -> None:
        self.path = path
        self.nn_dir = path / "nn"
        self.summaries_dir = path / "summaries"
        self.writer: Any = None
        self._ownership: Ownership | None = None
        self._kept: set[Path] = set()
        self.listeners: list[Callable[[Scalars, float], None]] = []
        """Get all that is logged, values by tag and their place on the horizontal axis."""
        self.ending = contextlib.ExitStack()
        """What ends with the run, also with one that fails; observers may add to it."""
        self._scalars: list[tuple[Scalars, float]] = []
        self._checkpoints: dict[str, tuple[dict[str, Any], bool]] = {}
        # Copies queued checkpoints while the device works, instead of waiting for that work.
        self._stream = torch.cuda.Stream(device) if device.type == "cuda" else None

    @contextlib.contextmanager
    def opened(self, frame: int) -> Iterator[None]:
        """Create the folder and own it inside; the run starts or continues at `frame`. Raises
        PhalanxError if it cannot be written, or if another process owns it."""
        from torch.utils.tensorboard import SummaryWriter  # takes a second

        try:
            self.nn_dir.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise self._cannot_write(error) from error
        with owned(self.path) as self._ownership, self.ending:
            try:
                for leftover in self.nn_dir.glob(".*.pth.tmp"):  # of a run that was killed
                    leftover.unlink()
                # If the run was killed after the checkpoint, later points are replaced. Those over
                # iterations and seconds stay, because TensorBoard only compares frames.
                self.writer = SummaryWriter(str(self.summaries_dir), purge_step=frame or None)
                self.writer.flush()  # a thread of its own creates the file
                self._kept = set(self.summaries_dir.glob("events.*"))
            except OSError as error:
                raise self._cannot_write(error) from error
            yield
            try:
                self.writer.close()
            except OSError as error:
                raise self._cannot_write(error) from error

    def _cannot_write(self, error: OSError) -> PhalanxError:
        return PhalanxError(
            f"cannot write to the run folder {self.path}: {reason(error)}; choose another one with"
            " train_dir="
        )

    def check(self) -> None:
        """Raise PhalanxError if something has happened to the folder while it was open."""
        if self._ownership is not None:
            self._ownership.check()
        for path in (self.nn_dir, self.summaries_dir):
            if not path.is_dir():
                raise PhalanxError(f"cannot write to {path}: it has been removed or moved")
        self._kept |= set(self.path.glob("config.yaml"))  # which an observer writes
        if lost := next((path for path in self._kept if not path.is_file()), None):
            raise PhalanxError(f"{lost} has been removed or moved while the run needed it")

    def log(self, scalars: Scalars, step: float) -> None:
        """Queue values by tag, at `step` on the horizontal axis."""
        self._scalars.append((scalars, step))

    def keep(self, stem: str, state: dict[str, Any], waits: bool = False) -> None:
        """Queue a checkpoint nn/<stem>.pth of `state`, which must not change before it is written.
        waits: until one is queued that does not wait, or the run ends."""
        self._checkpoints[stem] = state, waits
        if self._stream is not None:
            self._stream.wait_stream(torch.cuda.current_stream(self._stream.device))

    def flush(self, at_end: bool = False) -> list[Path]:
        """Write everything queued, in that order, but checkpoints that wait only with others or
        `at_end`; returns the paths of the checkpoints. All ranks call it with the same checkpoints
        queued."""
        from tensorboard.compat.proto.summary_pb2 import Summary

        if self._scalars:
            self.check()
        try:
            for scalars, step in self._scalars:
                values = [Summary.Value(tag=tag, simple_value=x) for tag, x in scalars.items()]
                self.writer.file_writer.add_summary(Summary(value=values), step)
                for listener in self.listeners:
                    listener(scalars, step)
        except OSError as error:
            raise self._cannot_write(error) from error
        self._scalars.clear()
        if not at_end and all(waits for _, waits in self._checkpoints.values()):
            return []
        kept, self._checkpoints = self._checkpoints, {}
        with torch.cuda.stream(self._stream):
            whole = {id(state): of_all_ranks(state) for state, _ in kept.values()}
            return [
                self.save(self.nn_dir / stem, whole[id(state)]) for stem, (state, _) in kept.items()
            ]

    def save(self, stem: Path, state: dict[str, Any]) -> Path:
        """Write a checkpoint now, atomically; `stem` has no ".pth"."""
        path = Path(f"{stem}.pth")
        own = path.parent == self.nn_dir
        if own:
            self.check()
        try:
            checkpoint.save(path, state)
        except PhalanxError:
            if own:  # has something happened to the folder meanwhile?
                self.check()
            raise
        return path


class NoFolder(RunFolder):
    """The run folder in all ranks but the first: they know where it is and write nothing."""

    @contextlib.contextmanager
    def opened(self, frame: int) -> Iterator[None]:
        """Nothing to create; see `RunFolder`."""
        self.writer = _NoWriter()
        yield

    def log(self, scalars: Scalars, step: float) -> None:
        """See `RunFolder`."""

    def flush(self, at_end: bool = False) -> list[Path]:
        """Send rank 0 this rank's part of the checkpoints; see `RunFolder`."""
        super().flush(at_end)
        return []

    def save(self, stem: Path, state: dict[str, Any]) -> Path:
        """See `RunFolder`."""
        return Path(f"{stem}.pth")


class _NoWriter:
    """A TensorBoard writer that writes nothing."""

    def __getattr__(self, name: str) -> Any:
        return lambda *args, **kwargs: None


def of_this_rank(path: Path, device: torch.device) -> RunFolder:
    """The run folder `path` as this rank has it."""
    return NoFolder(path, device) if ranks.rank() else RunFolder(path, device)
