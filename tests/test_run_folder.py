"""A run folder has one owner, and whatever happens to it during a run ends in one sentence."""

import os
import re
import shutil
import signal
import subprocess

import pytest
import torch

from forked import server
from interrupted import QUICK, SAVE_ALWAYS, SMALL, wait_until
from phalanx.cli.config import compose_config, resolved
from phalanx.cli.run_folders import run_folder
from phalanx.errors import PhalanxError
from phalanx.rl import checkpoint
from phalanx.rl.run_folder import RunFolder


@pytest.fixture
def cwd(tmp_path):
    folder = tmp_path / "work"
    folder.mkdir()
    return folder


def test_a_run_folder_has_one_owner(cwd, tmp_path):
    """A second process that would write into the folder is refused; when the first is killed, the
    folder is free."""
    first = server().start(["train", *SMALL, *QUICK, "max_iterations=100000"], cwd)
    folder = cwd / "runs/Cartpole"
    wait_until((folder / "nn/last_Cartpole.pth").exists)
    options = [f"checkpoint={folder}", "max_iterations=100001"]
    second = server().start(["train", *options], cwd, logs=tmp_path / "second")
    assert second.wait() == 2
    assert f"is in use by process {first.pid}, which writes its checkpoints" in second.err
    os.kill(first.pid, signal.SIGKILL)
    assert first.wait() == -signal.SIGKILL
    options = [f"checkpoint={folder}", "max_iterations=1"]
    third = server().start(["train", *options], cwd, logs=tmp_path / "third")
    assert third.wait() == 0, third.err
    assert not (folder / ".owner").exists()


def replace_by(make):
    """Something that moves the folder away and puts another thing in its place."""

    def change(folder):
        folder.rename(folder.with_name("moved"))
        make(folder)

    return change


def read_only(folder):
    """As a disk becomes after an error: the files that are open stay open."""
    nn = str(folder / "nn")
    try:
        for options in (["--bind", nn, nn], ["-o", "remount,bind,ro", nn]):
            subprocess.run(["mount", *options], check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("mounting takes root")


HAPPENS = {
    "removed": shutil.rmtree,
    "renamed": replace_by(lambda folder: None),
    "replaced by a file": replace_by(lambda folder: folder.write_text("mine")),
    "replaced by another run": replace_by(lambda folder: (folder / "nn").mkdir(parents=True)),
    "replaced by a link": replace_by(lambda folder: folder.symlink_to("/dev/null")),
    "without its owner": lambda folder: (folder / ".owner").unlink(),
    "without nn": lambda folder: shutil.rmtree(folder / "nn"),
    "without summaries": lambda folder: shutil.rmtree(folder / "summaries"),
    "without curves": lambda folder: next((folder / "summaries").iterdir()).unlink(),
    "without its settings": lambda folder: (folder / "config.yaml").unlink(),
    "checkpoint is a folder": lambda folder: (folder / "nn/last.pth").mkdir(),
    "nn is a file": lambda folder: ((folder / "nn").rmdir(), (folder / "nn").touch()),
    "read-only": read_only,
}


@pytest.mark.parametrize("what", HAPPENS)
def test_whatever_happens_to_a_folder_that_is_written_to_is_one_sentence(tmp_path, what):
    """And nothing is written into what somebody else has put there."""
    folder = RunFolder(tmp_path / "run", torch.device("cpu"))

    def write():
        with folder.opened(0):
            (folder.path / "config.yaml").write_text("task: {}")
            folder.log({"a": 0.0}, 0)
            folder.flush()
            folder.writer.flush()  # its thread would make the file again
            HAPPENS[what](folder.path)
            folder.log({"a": 1.0}, 1)
            folder.keep("last", {"model": {"a": torch.zeros(1)}})
            folder.flush()

    try:
        with pytest.raises(PhalanxError, match=r"^[^\n]*(cannot write|has been)[^\n]*$") as raised:
            write()
    finally:
        if what == "read-only":
            subprocess.run(["umount", str(folder.nn_dir)], capture_output=True, check=False)
    print(raised.value)
    assert "intact" not in str(raised.value)
    if what == "replaced by another run":
        assert not list(folder.path.rglob("*.pth"))


@pytest.mark.parametrize("what", ["a folder", "a pipe"])
def test_what_was_put_in_the_place_of_a_failed_runs_folder_stays(tmp_path, what):
    """A run without a checkpoint removes its folder, and nobody else's."""
    options = resolved(compose_config(["task=Cartpole", f"train_dir={tmp_path / 'runs'}"]))

    def fail():
        with run_folder(options, None) as folder:
            folder.rename(tmp_path / "moved")
            if what == "a pipe":
                os.mkfifo(folder)  # which nobody writes to
            else:
                folder.mkdir()
                (folder / "thesis.tex").touch()
            raise PhalanxError("as at the end of the disk")

    with pytest.raises(PhalanxError, match="end of the disk"):
        fail()
    place = tmp_path / "runs" / "Cartpole"
    assert place.is_fifo() if what == "a pipe" else (place / "thesis.tex").is_file()
    place.rename(tmp_path / "theirs")
    with pytest.raises(PhalanxError), run_folder(options, None):
        raise PhalanxError("at once")
    assert not (tmp_path / "runs" / "Cartpole").exists()


@pytest.mark.parametrize("gone", ["", "nn"])
def test_a_save_whose_folder_disappears_meanwhile_says_so(tmp_path, monkeypatch, gone):
    (tmp_path / "run").mkdir()
    folder, save = RunFolder(tmp_path / "run", torch.device("cpu")), checkpoint.save

    def late(path, state):
        (tmp_path / "run" / gone).rename(tmp_path / "moved")
        save(path, state)

    with folder.opened(0):
        monkeypatch.setattr(checkpoint, "save", late)
        with pytest.raises(PhalanxError, match="has been removed"):
            folder.save(folder.nn_dir / "last", {})


@pytest.mark.parametrize("gone", ["", "summaries", "nn"])
def test_a_folder_that_disappears_during_a_run_is_one_sentence(cwd, gone):
    options = [*SMALL, *QUICK, "max_iterations=100000"]
    run = server().start(["train", *options], cwd, agent=SAVE_ALWAYS)
    folder = cwd / "runs/Cartpole"
    wait_until((folder / "nn/last_Cartpole.pth").exists)
    wait_until(lambda: any((folder / "summaries").glob("events*")))
    (folder / gone).rename(cwd / "moved")
    assert run.wait() == 2
    assert re.fullmatch(r"phalanx: [^\n]* has been removed[^\n]*\n", run.err), run.err
