"""Checkpoint files: written atomically, and loaded without executing code."""

import errno
import os
import random
from pathlib import Path

import numpy as np
import pytest
import torch

from phalanx import files
from phalanx.errors import PhalanxError
from phalanx.rl import checkpoint


def state(value: float = 1.0) -> dict:
    return {"model": {"w": torch.full((3, 2), value), "b": torch.zeros(3)}, "epoch": 5, "frame": 80}


def test_saved_state_is_restored_bit_for_bit(tmp_path):
    given = state() | {"phalanx": {"generator": torch.get_rng_state(), "meters": [[0.1, 3]]}}
    given["model"]["w"][0, 0] = float("nan")
    checkpoint.save(tmp_path / "a.pth", given)
    loaded = checkpoint.load(tmp_path / "a.pth")
    assert loaded["model"]["w"].numpy().tobytes() == given["model"]["w"].numpy().tobytes()
    assert torch.equal(loaded["phalanx"]["generator"], given["phalanx"]["generator"])
    assert loaded["phalanx"]["meters"] == [[0.1, 3]]
    assert (loaded["epoch"], loaded["frame"]) == (5, 80)
    assert os.listdir(tmp_path) == ["a.pth"]


def test_rl_games_file_loads(tmp_path):
    # RL Games' best reward is a NumPy scalar, and torch.compile prefixes its weights.
    file = {"model": {"_orig_mod.w": torch.ones(2)}, "last_mean_rewards": np.float32(7.5)}
    torch.save(file | {"epoch": 3, "frame": 48}, tmp_path / "a.pth")
    loaded = checkpoint.load(tmp_path / "a.pth")
    assert list(loaded["model"]) == ["w"]
    assert float(loaded["last_mean_rewards"]) == 7.5


def test_weights_alone_count_from_zero(tmp_path):
    torch.save({"model": {"w": torch.ones(2)}}, tmp_path / "a.pth")
    loaded = checkpoint.load(tmp_path / "a.pth")
    assert (loaded["epoch"], loaded["frame"]) == (0, 0)


class FullDisk:
    """A file that takes the first half of what is written to it."""

    def __init__(self, file):
        self.file = file

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        self.file.close()

    def write(self, content):
        self.file.write(content[: len(content) // 2])
        self.file.flush()
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_full_disk_leaves_the_earlier_file_and_nothing_else(tmp_path, monkeypatch):
    path = tmp_path / "a.pth"
    checkpoint.save(path, state(1.0))
    opened = open
    with monkeypatch.context() as m:
        m.setattr(files, "open", lambda *a: FullDisk(opened(*a)), raising=False)
        with pytest.raises(PhalanxError, match=r"cannot write .*a\.pth: no space left on device; "):
            checkpoint.save(path, state(2.0))
    assert os.listdir(tmp_path) == ["a.pth"]
    assert checkpoint.load(path)["model"]["w"][0, 0] == 1.0


def test_content_is_flushed_before_the_rename(tmp_path, monkeypatch):
    path, order = tmp_path / "a.pth", []
    sync, replace = os.fsync, os.replace

    def watched_sync(fd):
        order.append("sync")
        sync(fd)

    def watched_replace(source, target):
        order.append("replace")
        assert Path(source).parent == path.parent, "a rename is atomic within one file system only"
        assert checkpoint.load(source)["epoch"] == 5
        replace(source, target)

    monkeypatch.setattr(os, "fsync", watched_sync)
    monkeypatch.setattr(os, "replace", watched_replace)
    checkpoint.save(path, state())
    assert order == ["sync", "replace"]


def test_unwritable_folder_is_named(tmp_path):
    with pytest.raises(PhalanxError, match=r"cannot write .*gone/a\.pth: no such file"):
        checkpoint.save(tmp_path / "gone" / "a.pth", state())


def test_damaged_files_are_refused_or_load_unchanged(tmp_path):
    """Cut anywhere or with any byte changed, a file is refused or loads with the same content."""
    path, rng = tmp_path / "a.pth", random.Random(0)
    checkpoint.save(path, state())
    whole = path.read_bytes()
    damaged = [whole[: rng.randrange(len(whole))] for _ in range(40)]
    for _ in range(200):
        at = rng.randrange(len(whole))
        damaged.append(whole[:at] + bytes([whole[at] ^ (1 << rng.randrange(8))]) + whole[at + 1 :])
    refused = 0
    for content in damaged:
        path.write_bytes(content)
        try:
            loaded = checkpoint.load(path)
        except PhalanxError:
            refused += 1
        else:
            assert torch.equal(loaded["model"]["w"], torch.ones(3, 2))
            assert loaded["epoch"] == 5
    assert refused >= 100


@pytest.mark.parametrize(
    "content",
    [[1, 2], {"epoch": 1}, {"model": torch.ones(2)}, {"model": {"w": 3}}, torch.ones(2), None],
    ids=str,
)
def test_file_of_another_kind_is_refused(tmp_path, content):
    torch.save(content, tmp_path / "a.pth")
    with pytest.raises(PhalanxError, match="is not a Phalanx or RL Games checkpoint"):
        checkpoint.load(tmp_path / "a.pth")


def test_missing_file_offers_the_nearest(tmp_path):
    for name in ("Cartpole.pth", "last_Cartpole.pth"):
        checkpoint.save(tmp_path / name, state())
    with pytest.raises(PhalanxError, match=r"did you mean 'Cartpole\.pth'\?; it holds: Cartpole"):
        checkpoint.load(tmp_path / "Cartpol.pth")
    with pytest.raises(PhalanxError, match="there is no folder"):
        checkpoint.load(tmp_path / "nn" / "Cartpole.pth")


def test_weights_that_do_not_fit_are_named_and_nothing_is_loaded():
    module = torch.nn.Linear(2, 3)
    before = module.weight.clone()
    fitting = {"weight": torch.zeros(3, 2), "bias": torch.zeros(3)}
    for wrong, words in (
        ({"bias": torch.zeros(4)}, r"bias is \(4,\) there and \(3,\) here; use the task"),
        ({"extra": torch.zeros(1)}, "extra is unknown here"),
        ({"weight": torch.zeros(3, 5), "bias": torch.zeros(1)}, "and 1 more"),
    ):
        with pytest.raises(PhalanxError, match=words):
            checkpoint.load_weights(module, fitting | wrong, "a.pth")
    with pytest.raises(PhalanxError, match=r"a\.pth does not fit .*: weight is missing"):
        checkpoint.load_weights(module, {"bias": torch.zeros(3)}, "a.pth")
    assert torch.equal(module.weight, before)
