"""Checkpoint files: written atomically, and loaded without executing code."""

import errno
import io
import os
import random
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch

from phalanx import files
from phalanx.cli.config import compose_config, resolved, train_params
from phalanx.errors import PhalanxError
from phalanx.rl import Runner, checkpoint


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


def test_a_damaged_last_checkpoint_is_answered_with_an_intact_best_one(tmp_path):
    last, best = tmp_path / "last_Ant.pth", tmp_path / "Ant.pth"
    checkpoint.save(best, state())
    whole = best.read_bytes()
    for content, intact in ((whole, True), (whole[:300], False)):
        best.write_bytes(content)
        last.write_bytes(whole[:200])
        with pytest.raises(PhalanxError, match="is damaged") as said:
            checkpoint.load(last)
        end = f"; {best}, saved at the run's best return, is intact"
        assert str(said.value).endswith(end) == intact
        assert str(said.value).count("Ant.pth") == 1 + intact


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


# files that ask for more than they are ------------------------------------------------------------


def rewritten(path, change, method=zipfile.ZIP_STORED):
    """The archive with `change` applied to its parts by name."""
    with zipfile.ZipFile(path) as archive:
        parts = {m.filename: archive.read(m) for m in archive.infolist()}
    change(parts)
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in parts.items():
            archive.writestr(name, content, method)


def longer(parts):
    """The pickle says that the first tensor has 1000 numbers; it has 6."""
    pickled = parts["archive/data.pkl"]
    at = pickled.index(b"K\x06", pickled.index(b"storage"))
    parts["archive/data.pkl"] = pickled[:at] + b"M\xe8\x03" + pickled[at + 2 :]


def wider(parts):
    """Its shape says (30, 2) with 6 numbers."""
    parts["archive/data.pkl"] = parts["archive/data.pkl"].replace(
        b"K\x03K\x02\x86", b"K\x1eK\x02\x86", 1
    )


def endless(parts):
    """A list that contains itself."""
    parts["archive/data.pkl"] = b"\x80\x02]q\x00h\x00a."


def multiplied(parts):
    """2**60 parts out of 60."""
    steps = b"".join(b"q\x00]h\x00ah\x00a" for _ in range(60))
    parts["archive/data.pkl"] = b"\x80\x02]" + steps + b"."


def reserved(parts):
    """torch.load makes this object of 10 GB."""
    parts["archive/data.pkl"] = b"\x80\x02cbuiltins\nbytearray\n\x8a\x05\x00\xe4\x0b\x54\x02\x85R."


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (longer, "24 bytes for 1000 numbers of torch.float32"),
        (wider, "a tensor of 60 numbers in a part of 6"),
        (endless, "nested too deep"),
        (multiplied, "too many parts"),
        (reserved, "objects other than tensors and numbers (builtins.bytearray)"),
        (lambda parts: parts.pop("archive/data/0"), "it has no 'data/0'"),
        (lambda parts: parts.update({"archive/byteorder": b"big"}), "in another byte order"),
    ],
)
def test_sizes_in_a_file_are_not_believed(tmp_path, change, words):
    path = tmp_path / "a.pth"
    checkpoint.save(path, state())
    rewritten(path, change)
    with pytest.raises(PhalanxError) as error:
        checkpoint.load(path)
    assert words in str(error.value)


def test_a_compressed_file_is_not_unpacked(tmp_path):
    """A few kilobytes of deflated zeros are gigabytes of weights; torch never compresses."""
    path = tmp_path / "a.pth"
    checkpoint.save(path, {"model": {"w": torch.zeros(3_000_000)}})
    rewritten(path, lambda parts: None, zipfile.ZIP_DEFLATED)
    assert path.stat().st_size < 20_000
    with pytest.raises(PhalanxError, match="has compressed parts"):
        checkpoint.load(path)


# files that do not fit ----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def agent(tmp_path_factory):
    """An agent of two iterations, and the file with its state."""
    folder = tmp_path_factory.mktemp("agent")
    arguments = ["num_envs=4", "sim_device=cpu", f"train_dir={folder}"]
    arguments += [f"train.params.config.{s}" for s in ("horizon_length=8", "minibatch_size=16")]
    runner = Runner()
    runner.load({"params": train_params(resolved(compose_config(arguments)))})
    made = runner.algo_factory.create(runner.algo_name, base_name="run", params=runner.params)
    made.reset(made.hooked_env)
    for _ in range(2):
        made.run.epoch_num += 1
        made.run.iterate(lambda: None)
    made.save(folder / "a")
    return made, folder / "a.pth"


def bits(value):
    buffer = io.BytesIO()
    torch.save(value, buffer)
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("place", "value", "words"),
    [
        ("model/value_mean_std.count", torch.tensor(-1.0), "count holds negative numbers"),
        ("model/a2c_network.value.bias", torch.tensor([np.nan]), "numbers that are not finite"),
        ("model/a2c_network.value.bias", torch.tensor([1]), "holds torch.int64"),
        ("optimizer", 3, "the optimiser's state is 3; it must be a dictionary"),
        ("optimizer/param_groups", [], "no param_groups that fit"),
        ("optimizer/param_groups/0/lr", -1.0, "its learning rate is -1.0"),
        ("optimizer/param_groups/0/lr", 1e300, "its learning rate is 1e+300"),
        ("optimizer/state/1/step", None, "[1].step is None; it must be a number"),
        ("optimizer/state/1/step", 2**63, "[1].step is 9223372036854775808; it must be a number"),
        ("optimizer/state/1/exp_avg", "x", "[1].exp_avg is 'x'; it must be a tensor"),
        ("optimizer/state/0/exp_avg_sq", torch.tensor([-1.0]), "holds negative numbers"),
        ("optimizer/state", {99: {}}, "belongs to other parameters"),
        ("epoch", -1, "epoch is -1; it must be a whole number"),
        ("frame", 2**60, "must be a whole number"),
        ("last_mean_rewards", float("nan"), "last_mean_rewards is nan"),
        ("phalanx", torch.zeros(2), "phalanx is tensor([0., 0.]); it must be a dictionary"),
        ("phalanx/format", torch.zeros(2), "phalanx.format is tensor([0., 0.]); it must"),
        ("phalanx/name", torch.zeros(2), "phalanx.name is tensor([0., 0.]); it must be a text"),
        ("phalanx/meters", [[0.0, 1]], "meters is [[0.0, 1]]; it must be a list of 3"),
        ("phalanx/total_time", -5.0, "total_time is -5.0"),
        ("phalanx/settings/gamma", [1], "settings.gamma is [1]"),
        ("phalanx/learner/schedule/lr", torch.tensor(-1.0), "schedule.lr is"),
        ("phalanx/learner", None, "learner is None; it must be a dictionary"),
        ("phalanx/generators/cpu", torch.zeros(5056, dtype=torch.uint8), "generators do not fit"),
        ("phalanx/generators/numpy/1", [10_000.0, 0.0, 0.0], "generators.numpy is at place"),
        ("phalanx/generators/python", 3, "generators.python is 3"),
    ],
)  # fmt: skip
def test_a_file_with_one_wrong_value_changes_nothing(agent, tmp_path, place, value, words):
    made, good = agent
    content = torch.load(good, weights_only=True)
    *way, last = [int(key) if key.isdecimal() else key for key in place.split("/")]
    part = content
    for key in way:
        part = part[key]
    assert last in (part if isinstance(part, dict) else range(len(part)))
    part[last] = value
    torch.save(content, tmp_path / "bad.pth")
    before = bits(made.get_full_state_weights())
    with pytest.raises(PhalanxError) as error:
        made.restore(tmp_path / "bad.pth")
    assert words in str(error.value)
    assert bits(made.get_full_state_weights()) == before
    made.restore(good)
