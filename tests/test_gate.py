"""What every file of others passes through: sizes, kinds, levels, aliases, types."""

import ast
import os
import time
import zipfile
from functools import partial
from pathlib import Path

import mujoco
import pytest

from phalanx import gate
from phalanx.config import read
from phalanx.deploy import Policy
from phalanx.errors import PhalanxError
from phalanx.motion import Robot, load_clip
from phalanx.rl import checkpoint
from phalanx.sim.assets import load_robot
from phalanx.tasks.ant import AntConfig
from phalanx.yaml_file import parse_yaml, read_yaml
from small_robots import QUADRUPED


def refused(path_or_call, words):
    call = path_or_call if callable(path_or_call) else lambda: gate.read_bytes(path_or_call)
    start = time.perf_counter()
    with pytest.raises(PhalanxError, match=words) as error:
        call()
    assert time.perf_counter() - start < 20  # a pipe would wait for ever
    assert "\n" not in str(error.value)


def test_only_regular_files_of_bounded_size_are_read(tmp_path):
    pipe, large, link = tmp_path / "pipe", tmp_path / "large", tmp_path / "link"
    os.mkfifo(pipe)  # opening it would wait for a writer
    with open(large, "wb") as file:
        file.truncate(2**40)  # a sparse file
    link.symlink_to("/dev/zero")
    refused(pipe, "pipe is a pipe or a device")
    refused(link, "link is a pipe or a device")
    refused(tmp_path, "is a folder, not a file")
    refused(tmp_path / "none", "cannot read .*none: no such file")
    refused("a\0b", "cannot read")
    refused(large, "large is larger than 256 MB")
    good = tmp_path / "good"
    good.write_bytes(b"\xef\xbb\xbfgr\xc3\xbcn")
    assert gate.read_text(good) == "grün"
    good.write_bytes(b"a\xff")
    refused(lambda: gate.read_text(good), "good is not text in UTF-8: byte 1")


def test_a_file_that_git_has_not_fetched_is_called_so(tmp_path):
    """In every format: repositories of others keep robots, motions and policies in Git LFS."""
    pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n"
    dog = Robot(mujoco.MjModel.from_xml_string(QUADRUPED))
    load_motion = partial(load_clip, robot=dog)
    motions = ("walk.npy", "walk.npz", "walk.csv", "walk.pkl", "walk.bvh", "walk.json")
    loaders = {"robot.xml": load_robot, "robot.urdf": load_robot, "policy.pth": checkpoint.load}
    loaders |= {"policy.onnx": Policy, "settings.yaml": read_yaml}
    loaders |= dict.fromkeys(motions, load_motion)
    for name, load in loaders.items():
        (tmp_path / name).write_text(pointer)
        refused(partial(load, tmp_path / name), f"{name} is a Git LFS pointer.*git lfs pull")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a: &x [*x]", r"f\.yaml, line 1: \*x contains itself"),
        (
            "a0: &a0 [x, x]\n"
            + "".join(f"a{i}: &a{i} [*a{i - 1}, *a{i - 1}]\n" for i in range(1, 30)),
            "line 15: more than 100000 values, those that aliases stand for included",
        ),
        (
            "a0: &a0 {k: 1}\n"
            + "".join(f"a{i}: &a{i} {{<<: [*a{i - 1}, *a{i - 1}]}}\n" for i in range(1, 30)),
            "more than 100000 values",
        ),
        ("[" * 10_000, "nest"),
        ("{a: " * 10_000, "nested more than 50 deep"),
        ("a: " + "1:" * 1900 + "1", "number of .* bits"),
        ("a: " + "9" * 5000, "5000 characters without quotes"),
        ("a: 0x" + "f" * 17, "which has more than 64 bits"),
        ("a:\n- {b: .nan}", r"f\.yaml: a\[0\]\.b is nan, which is not a number"),
        ("a: 1\nb: 2\na: 3", "line 3: the key 'a' is there twice"),
        ("a: !!python/object/apply:os.system [ls]", "line 1: the tag .* is not accepted"),
        ("a: !!set {b}", "a set is not accepted"),
        ("a: !!binary aGVsbG8=", "a bytes is not accepted"),
        ("? [1]\n: 2", "unhashable key"),
        ("1.5: 2", "the key 1.5 is not a text"),
        ("a: !!timestamp 2001-99-99", r"f\.yaml"),
        ("a: [1, 2", r"f\.yaml, line \d: "),
        ("a: \x00", r"f\.yaml, line 1: character '.x00' is not accepted"),
    ],
)  # fmt: skip
def test_what_a_yaml_file_may_not_hold_is_refused_with_its_place(text, words):
    refused(lambda: parse_yaml(text, "f.yaml"), words)


def test_yaml_values_are_plain_and_not_shared():
    text = "a: &x {b: 1e-3, c: [1, .inf]}\nd: *x\ne: 2001-01-01\nf: {<<: *x, c: null}"
    values = parse_yaml(text, "f.yaml")
    part = {"b": 0.001, "c": [1, float("inf")]}
    assert values == {"a": part, "d": part, "e": "2001-01-01", "f": {"b": 0.001, "c": None}}
    assert values["a"] is not values["d"]


def test_a_zip_file_that_unpacks_to_more_than_its_size_is_not_unpacked(tmp_path):
    bomb, plain = tmp_path / "bomb.npz", tmp_path / "plain.npz"
    with zipfile.ZipFile(bomb, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("zeros", bytes(20 * gate.MB))
    with zipfile.ZipFile(plain, "w") as archive:
        archive.writestr("ones", b"1" * 1000)
    with zipfile.ZipFile(bomb) as archive:
        refused(
            lambda: gate.check_zip(archive, bomb, 10 * gate.MB, True), "unpacks to more than 10"
        )
        refused(lambda: gate.check_zip(archive, bomb, 30 * gate.MB, False), "has compressed parts")
    with zipfile.ZipFile(plain) as archive:
        gate.check_zip(archive, plain, gate.MB, compressed=False)


@pytest.mark.parametrize("name", ["A" * 5000, "b/" * 3000 + "c", "a\0b"])
@pytest.mark.parametrize("load", [load_robot, checkpoint.load])
def test_a_name_that_the_system_refuses_is_one_short_sentence(load, name):
    with pytest.raises(PhalanxError, match="cannot read") as said:
        load(name)
    assert len(str(said.value)) < 200


def test_a_setting_with_a_zero_byte_is_refused():
    with pytest.raises(PhalanxError, match=r"asset is 'a.*must be a text without zero bytes"):
        read(AntConfig, {"asset": "a\0b"}, "")


OPENERS = {"open": 0, "fdopen": 1, "TemporaryFile": 0, "NamedTemporaryFile": 0}
"""Places of the mode among the arguments of methods and of functions in modules."""


def opens_text(call):
    """Whether a call in a source file opens text in whatever encoding the computer has."""
    function, given = call.func, {k.arg: k.value for k in call.keywords}
    name = getattr(function, "attr", getattr(function, "id", ""))
    of = getattr(getattr(function, "value", None), "id", "")
    if "encoding" in given:
        return False
    if name in ("read_text", "write_text") and isinstance(function, ast.Attribute):
        return len(call.args) <= (name == "write_text")
    if of == "subprocess":
        return "text" in given
    if name not in OPENERS or (of in ("os", "Viewer") and name == "open"):
        return False
    at = OPENERS[name] if isinstance(function, ast.Attribute) else 1
    mode = given.get("mode", call.args[at] if len(call.args) > at else None)
    return "b" not in (mode.value if mode else "b" if name.endswith("File") else "r")


def test_text_is_utf8_on_every_computer():
    root = Path(__file__).parents[1]
    found = [
        f"{file.relative_to(root)}:{node.lineno}"
        for source in (root / "src", root / "isaacgym" / "src")
        for file in source.rglob("*.py")
        for node in ast.walk(ast.parse(file.read_text("utf-8")))
        if isinstance(node, ast.Call) and opens_text(node)
    ]
    assert not found, "give encoding='utf-8'"
