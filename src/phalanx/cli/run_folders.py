"""Run folders: finds the file that `checkpoint=` means, and the folder of a new run."""

import contextlib
import itertools
import os
import shlex
import shutil
from collections.abc import Iterator
from pathlib import Path

from phalanx.cli.options import RunOptions, TrainOptions
from phalanx.cli.settings import run_folder_of
from phalanx.errors import PhalanxError
from phalanx.rl.owner import FILE, owned
from phalanx.rl.saved_run import resolve_checkpoint


def given_checkpoint(options: RunOptions, command: str) -> Path:
    """The checkpoint that a command requires. Raises PhalanxError if none is given."""
    if not options.checkpoint:
        raise PhalanxError(
            f"{command} needs a checkpoint=, as in checkpoint=runs/{options.task.name}/nn/"
            f"{options.task.name}.pth"
        )
    return resolve_checkpoint(options.checkpoint)


@contextlib.contextmanager
def run_folder(options: TrainOptions, checkpoint: Path | None) -> Iterator[Path]:
    """The checkpoint's own run folder, or a new folder that no other run uses.

    A new folder is created at once, so that two runs that start together do not share it, and
    removed if this run fails before its first checkpoint and it is still the same folder. Inside,
    this process owns the folder.
    Raises PhalanxError if it cannot be created, or if another process owns it.
    """
    root = Path(options.train_dir)
    own = run_folder_of(checkpoint) if checkpoint else None
    named = root / options.experiment if options.experiment else None
    elsewhere = options.train_dir != TrainOptions.train_dir and own and not _same(root, own.parent)
    if own and not elsewhere and (named is None or _same(named, own)):
        with _owned_and_tidy(own):
            yield own
        return
    folder, made = _new_folder(root, options)
    try:
        with _owned_and_tidy(folder):
            yield folder
    except BaseException as error:
        if not any(folder.glob("nn/*.pth")):
            for path, status in made.items():
                with contextlib.suppress(OSError):  # already gone, or used by another run
                    if not os.path.samestat(status, path.lstat()):
                        continue  # somebody has put another in its place
                    shutil.rmtree(path) if path == folder else path.rmdir()
        elif isinstance(error, KeyboardInterrupt):
            raise KeyboardInterrupt(f"continue:  {resume_command(folder)}") from None
        raise


@contextlib.contextmanager
def _owned_and_tidy(folder: Path) -> Iterator[None]:
    """Be the owner of `folder`, without what a run that was killed left half-written in it."""
    with owned(folder):
        for leftover in folder.glob(".*.tmp"):
            leftover.unlink(missing_ok=True)
        yield


def resume_command(folder: Path) -> str:
    """The command that continues the run in `folder`."""
    word = f"checkpoint={folder}"
    return f"phalanx train {shlex.quote(word)}"


def _new_folder(root: Path, options: TrainOptions) -> tuple[Path, dict[Path, os.stat_result]]:
    """A new run folder, and the folders created for it, innermost first, with what tells each from
    another in its place."""
    name = Path(options.experiment or options.task.name)
    if name.is_absolute() or ".." in name.parts or not name.name or "\0" in str(name):
        raise PhalanxError(
            f"experiment is {options.experiment!r}; it must be a name inside the folder {root},"
            " which train_dir= sets"
        )
    folder = root / name
    made = [p for p in folder.parents if not p.exists()]
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        for k in itertools.count(2):
            try:
                folder.mkdir()
                made.insert(0, folder)
                break
            except FileExistsError:
                if options.experiment and not _left_without_checkpoint(folder):
                    raise PhalanxError(
                        f"{folder} is taken; continue that run with `{resume_command(folder)}`,"
                        " or choose another name with experiment="
                    ) from None
                if options.experiment:
                    break
                folder = root / f"{options.task.name}_{k}"
    except OSError as error:
        no_folder = isinstance(error, (FileExistsError, NotADirectoryError))
        reason = f"{error.filename} is not a folder" if no_folder else str(error.strerror).lower()
        raise PhalanxError(
            f"cannot create the run folder {folder}: {reason}; choose another place with train_dir="
        ) from error
    return folder, {path: path.lstat() for path in made}


def _left_without_checkpoint(folder: Path) -> bool:
    """Whether the folder contains only a run that ended before its first checkpoint."""
    if not folder.is_dir():
        return False
    ours = {"config.yaml", "result.json", "summaries", "nn", "tracking.json", "wandb"}
    found = {p.name for p in folder.iterdir() if not p.match(".*.tmp") and p.name != FILE}
    return found <= ours and not any(folder.glob("nn/*.pth"))


def _same(a: Path, b: Path) -> bool:
    return a.resolve() == b.resolve()
