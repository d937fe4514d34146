"""Motions: hinge angles, blending and velocities against closed forms, files of three formats and
what is wrong with bad ones, gaits whose feet must stand still."""

import importlib.util
import json
import os
import re
import sys
import time
from collections import OrderedDict
from dataclasses import replace
from pathlib import Path

import mujoco
import numpy as np
import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from phalanx import tasks
from phalanx.cli.main import main
from phalanx.errors import PhalanxError
from phalanx.motion import Clip, MotionLibrary, Robot, load_clip, write_json
from phalanx.motion import rotation as rot
from phalanx.motion.json_file import read_json
from phalanx.motion.library import CLIPS, sinking_depth
from phalanx.sim.assets import load_robot

HUMANOID = Path(tasks.__file__).parent / "assets" / "humanoid_amp.xml"
RECORDED = Path(__file__).parents[2] / "shared" / "assets" / "isaacgymenvs" / "amp" / "motions"
needs_clips = pytest.mark.skipif(not RECORDED.exists(), reason=f"no clips at {RECORDED}")
KEYS = ("right_hand", "left_foot")

ARM = """
<mujoco>
  <worldbody>
    <body name="root" pos="0 0 1">
      <freejoint/>
      <geom size=".1"/>
      <body name="upper" pos="0 0 .2" quat=".8 0 .6 0">
        <joint name="x" axis="1 0 0"/>
        <joint name="z" axis="0 0 1"/>
        <joint name="y" axis="0 -1 0"/>
        <geom size=".1"/>
        <body name="lower" pos="0 0 .5">
          <joint name="bend" axis="0 1 0" range="-2.5 2.5" limited="true"/>
          <geom size=".1" pos="0 0 .3"/>
        </body>
      </body>
    </body>
  </worldbody>
</mujoco>
"""


@pytest.fixture(scope="module")
def arm() -> mujoco.MjModel:
    return mujoco.MjModel.from_xml_string(ARM)


@pytest.fixture(scope="module")
def humanoid() -> mujoco.MjModel:
    return load_robot(HUMANOID).compile()


def turning(loop: bool = False) -> Clip:
    """Over 2 s at 10 Hz: moves at (1, 0.5, 0) m/s and rises unless a loop, turns about the vertical
    at 1 rad/s unless a loop, its joints at 0.1, 0.2, 0.3, 0.4 rad/s unless a loop."""
    t = np.arange(21) / 10
    steady = 0.0 if loop else 1.0
    return Clip(
        name="turning",
        fps=10.0,
        loop=loop,
        root_pos=np.stack([t, 0.5 * t, 1 + 0.2 * steady * t], axis=-1),
        root_quat=rot.about(np.array([0, 0, 1.0]), steady * t),
        joints=("x", "z", "y", "bend"),
        joint_pos=np.outer(t, [0.1, 0.2, 0.3, 0.4]) * steady
        + (1 - steady) * np.outer(np.sin(np.pi * t), [1, 0, 0, 0]),
    )


def library_of(clip: Clip, model: mujoco.MjModel, folder: Path, keys=("lower",)) -> MotionLibrary:
    write_json(clip, folder / f"{clip.name}.json")
    return MotionLibrary([folder / f"{clip.name}.json"], model, keys, fit_height=False)


# hinges -------------------------------------------------------------------------------------------


def test_hinge_angles_make_the_very_rotation(arm):
    robot = Robot(arm)
    rng = np.random.default_rng(0)
    pose = rng.uniform(-3, 3, (200, 4))
    pose[50, 1] = np.pi / 2  # the outer two hinges turn as one
    quat = rng.normal(size=(200, 4))
    there = robot.kinematics(np.zeros((200, 3)), quat / np.linalg.norm(quat, axis=1)[:, None], pose)
    local = there.quat.copy()
    for b in (1, 2):
        local[:, b] = rot.multiply(rot.conjugate(there.quat[:, robot.parents[b]]), there.quat[:, b])
    found = robot.joint_angles(local)
    again = robot.kinematics(np.zeros((200, 3)), there.quat[:, 0], found)
    error = rot.rotation_vector(rot.multiply(again.quat, rot.conjugate(there.quat)))
    assert np.abs(error).max() < 1e-6


def test_hinge_angles_do_not_jump():
    axes, limits = np.eye(3), np.array([[-1.0, 1], [-3, 3], [-1, 1]])
    t = np.linspace(0, 1, 200)[:, None]
    pose = t * [0.5, -2.5, 0.3] + [0.1, 0.0, 0.2]  # the middle hinge goes through -90 degrees
    quat = rot.about(axes[0], pose[:, 0])
    for k in (1, 2):
        quat = rot.multiply(quat, rot.about(axes[k], pose[:, k]))
    quat[::3] *= -1  # the same rotations
    np.testing.assert_allclose(rot.hinge_angles(quat, axes, limits), pose, atol=1e-9)
    whole = rot.about(axes[2], 9 * t[:, 0])  # more than a turn
    free = np.array([[-np.inf, np.inf]])
    one = rot.hinge_angles(whole, axes[2:], free)[:, 0]
    np.testing.assert_allclose(one - one[0], 9 * t[:, 0], atol=1e-9)


# the library --------------------------------------------------------------------------------------


def test_states_between_frames_follow_the_closed_form(arm, tmp_path):
    library = library_of(turning(), arm, tmp_path)
    times = torch.tensor([0.0, 0.033, 0.5, 1.234, 1.999, 2.0])
    state = library.state(torch.zeros(6, dtype=torch.long), times)
    t = times.numpy()[:, None]
    np.testing.assert_allclose(state.root_pos, t * [1, 0.5, 0.2] + [0, 0, 1], atol=1e-5)
    np.testing.assert_allclose(state.root_quat[:, 0], np.cos(t[:, 0] / 2), atol=1e-5)
    np.testing.assert_allclose(state.root_quat[:, 3], np.sin(t[:, 0] / 2), atol=1e-5)
    np.testing.assert_allclose(state.joint_pos, t * [0.1, 0.2, 0.3, 0.4], atol=1e-5)
    for value, constant in (
        (state.root_lin_vel, [1, 0.5, 0.2]),
        (state.root_ang_vel, [0, 0, 1]),
        (state.joint_vel, [0.1, 0.2, 0.3, 0.4]),
    ):
        np.testing.assert_allclose(value, np.tile(constant, (6, 1)), atol=1e-4)


def test_one_shot_clips_stay_at_their_ends(arm, tmp_path):
    library = library_of(turning(), arm, tmp_path)
    ids = torch.zeros(2, dtype=torch.long)
    outside, ends = (
        library.state(ids, torch.tensor(t)) for t in ([-1.0, 9.0], [0.0, library.lengths[0]])
    )
    for a, b in zip(outside, ends, strict=True):
        assert torch.equal(a, b)


def test_loops_go_on_over_the_ground(arm, tmp_path):
    library = library_of(turning(loop=True), arm, tmp_path)
    ids = torch.zeros(4, dtype=torch.long)
    times = torch.tensor([0.25, 1.0, 1.9, 1.999])
    here = library.state(ids, times)
    for cycles in (-1, 1, 3):
        there = library.state(ids, times + cycles * 2.0)
        moved = torch.tensor([2.0, 1.0, 0.0]) * cycles
        torch.testing.assert_close(there.root_pos, here.root_pos + moved, atol=1e-4, rtol=0)
        torch.testing.assert_close(there.key_pos, here.key_pos + moved, atol=1e-4, rtol=0)
        torch.testing.assert_close(there.joint_vel, here.joint_vel, atol=1e-3, rtol=0)
    # no seam: over the end of a cycle everything is as smooth as within it
    across = library.state(ids[:1].expand(81), torch.linspace(1.6, 2.4, 81))
    assert across.joint_pos.diff(dim=0).abs().max() < 0.04  # pi rad/s over 0.01 s
    assert across.joint_vel.diff(dim=0).abs().max() < 0.2


def test_key_bodies_are_where_mujoco_has_them(humanoid):
    library = MotionLibrary(["run"], humanoid, KEYS)
    clip = library.clips[0]
    frame = torch.tensor([0, 17, 60])
    state = library.state(torch.zeros(3, dtype=torch.long), frame / clip.fps)
    data = mujoco.MjData(humanoid)
    for i in range(3):
        parts = (state.root_pos[i], state.root_quat[i], state.joint_pos[i])
        data.qpos[:] = torch.cat(parts)
        mujoco.mj_kinematics(humanoid, data)
        wanted = np.stack([data.body(name).xpos for name in KEYS])
        np.testing.assert_allclose(state.key_pos[i], wanted, atol=2e-5)


@pytest.mark.parametrize("gait", CLIPS)
def test_velocities_are_those_of_the_positions(gait, humanoid):
    library = MotionLibrary([gait], humanoid, KEYS)
    times = torch.linspace(0, float(library.lengths[0]), 2001)
    state = library.state(torch.zeros(2001, dtype=torch.long), times)
    dt = float(times[1])
    for pos, vel in ((state.root_pos, state.root_lin_vel), (state.joint_pos, state.joint_vel)):
        middle = (vel[1:] + vel[:-1]) / 2
        gone = torch.cumsum(middle * dt, 0)
        # a joint at 14 rad/s that turns round within the 1/60 s to both sides is off for a moment
        torch.testing.assert_close(pos[1:] - pos[0], gone, atol=0.06, rtol=0)
        torch.testing.assert_close(pos[-1] - pos[0], gone[-1], atol=2e-3, rtol=0)
    # in MuJoCo's qvel the same motion: a root that turns as root_ang_vel says
    turn = rot.multiply(
        state.root_quat[1:].numpy(), rot.conjugate(state.root_quat[:-1].numpy().astype(float))
    )
    gone = np.cumsum(rot.rotation_vector(turn), axis=0)
    wanted = np.cumsum(state.root_ang_vel[:-1].numpy() * dt, axis=0)
    np.testing.assert_allclose(gone, wanted, atol=0.01)


def test_clips_and_times_are_drawn_by_weight(arm, tmp_path):
    write_json(turning(), tmp_path / "a.json")
    write_json(turning().cut(0, 0.5), tmp_path / "b.json")
    files = [tmp_path / "a.json", tmp_path / "b.json", tmp_path / "a.json"]
    library = MotionLibrary(files, arm, ("lower",), weights=[3, 1, 0])
    torch.manual_seed(0)
    ids = library.sample_motions(4000)
    times = library.sample_times(ids)
    assert library.num_motions == 3
    assert torch.bincount(ids, minlength=3)[2] == 0
    assert abs((ids == 1).float().mean() - 0.25) < 0.03
    assert 0.45 < times[ids == 1].max() <= 0.5  # uniform up to its own length
    assert abs(times[ids == 0].mean() - 1.0) < 0.05
    for bad in ([1, 2], [0, 0, 0], [1, -1, 1]):
        with pytest.raises(PhalanxError, match="weights"):
            MotionLibrary(files, arm, ("lower",), weights=bad)


def test_nothing_waits_for_the_device(humanoid):
    """Fake tensors hold no numbers: reading one on the host, or a shape that depends on one,
    raises."""
    library = MotionLibrary(["walk", "run"], humanoid, KEYS)
    with FakeTensorMode(allow_non_fake_inputs=True):
        ids = library.sample_motions(64)
        state = library.state(ids, library.sample_times(ids))
    assert ids.dtype == torch.int64
    shapes = {name: tuple(value.shape[1:]) for name, value in state._asdict().items()}
    assert shapes == {
        "root_pos": (3,),
        "root_quat": (4,),
        "root_lin_vel": (3,),
        "root_ang_vel": (3,),
        "joint_pos": (28,),
        "joint_vel": (28,),
        "key_pos": (2, 3),
        "lowest": (),
    }


# IsaacGymEnvs' clips ------------------------------------------------------------------------------


@needs_clips
@pytest.mark.parametrize("name", ["walk", "run", "hop", "dance", "cartwheel", "backflip"])
def test_isaacgymenvs_clips_are_followed_exactly(name, humanoid):
    robot = Robot(humanoid)
    clip = load_clip(RECORDED / f"amp_humanoid_{name}.npy", robot)
    pose = robot.kinematics(clip.root_pos, clip.root_quat, clip.joint_pos)
    assert np.abs(pose.pos - clip.measured).max() < 1e-6  # [m], all bodies, all frames


@needs_clips
def test_a_clip_in_the_ground_is_raised(humanoid):
    file = RECORDED / "amp_humanoid_run.npy"
    clip = load_clip(file, Robot(humanoid))
    library = MotionLibrary([file], humanoid, KEYS)
    raised = library.clips[0].root_pos[:, 2] - clip.root_pos[:, 2]
    assert 0.05 < raised.min() < 0.065
    assert sinking_depth(library.clips[0], library.robot) < 0.006


def skeleton(arm: mujoco.MjModel, frames: int = 4) -> dict:
    """What poselib would save of the arm: the same turn of every node, 0.1 rad a frame about y."""
    angle = 0.05 * np.arange(frames)
    y_turn = np.stack([0 * angle, np.sin(angle), 0 * angle, np.cos(angle)], -1)  # x, y, z, w
    offset = np.array([0, 0.6, 0, 0.8])  # the file's own turn of the upper arm
    turns = np.stack([y_turn, np.tile(offset, (frames, 1)), y_turn], 1)

    def array(values, dtype):
        return {"arr": np.asarray(values, dtype), "context": {"dtype": dtype}}

    tree = OrderedDict(
        node_names=["root", "upper", "lower"],
        parent_indices=array([-1, 0, 1], "int64"),
        local_translation=array([[0, 0, 1], [0, 0, 0.2], [0, 0, 0.5]], "float32"),
    )
    return OrderedDict(
        rotation=array(turns, "float64"),
        root_translation=array(np.ones((frames, 3)), "float32"),
        skeleton_tree=tree,
        is_local=True,
        fps=np.array(30, "int32"),
        __name__="SkeletonMotion",
    )


def save(content: object, path: Path) -> Path:
    np.save(path, np.array(content, dtype=object), allow_pickle=True)
    return path


def test_an_npy_file_gives_the_angles_it_was_made_of(arm, tmp_path):
    robot = Robot(arm)
    content = skeleton(arm)
    clip = load_clip(save(content, tmp_path / "a.npy"), robot)
    wanted = np.outer(0.1 * np.arange(4), [0, 0, 0, 1])
    np.testing.assert_allclose(clip.joint_pos, wanted, atol=1e-7)
    np.testing.assert_allclose(clip.root_quat[:, 2], np.sin(0.05 * np.arange(4)), atol=1e-7)
    assert clip.fps == 30
    quat = content["rotation"]["arr"][..., [3, 0, 1, 2]]
    turned = quat.copy()
    for i in (1, 2):
        turned[:, i] = rot.multiply(turned[:, i - 1], quat[:, i])
    content |= {"is_local": False, "fps": 30.0}
    content["rotation"]["arr"] = turned[..., [1, 2, 3, 0]].astype(">f8")
    world = load_clip(save(content, tmp_path / "b.npy"), robot)
    np.testing.assert_allclose(world.joint_pos, wanted, atol=1e-7)


def test_turns_of_nodes_that_the_robot_lacks_count(arm, tmp_path):
    content = skeleton(arm)
    tree, turns = content["skeleton_tree"], content["rotation"]["arr"]
    tree["node_names"] = ["root", "upper", "between", "lower"]
    tree["parent_indices"]["arr"] = np.array([-1, 0, 1, 2])
    places = tree["local_translation"]["arr"]
    tree["local_translation"]["arr"] = np.insert(places, 2, [0, 0, 0.1], axis=0)
    content["rotation"]["arr"] = np.insert(turns, 2, turns[:, 2], axis=1)  # as the lower arm's
    clip = load_clip(save(content, tmp_path / "a.npy"), Robot(arm))
    wanted = np.outer(0.1 * np.arange(4), [0, 0, 0, 2])
    np.testing.assert_allclose(clip.joint_pos, wanted, atol=1e-7)


class Malice:
    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self):
        return os.mkdir, (str(self.mark),)


class Sly:
    """Nothing but NumPy, which has functions that run other code."""

    def __reduce__(self):
        return np.testing.assert_allclose, (0, 1)


@pytest.mark.parametrize("kind", ["whole", "part", "sly"])
def test_no_npy_file_runs_code(kind, arm, tmp_path):
    mark, content = tmp_path / "mark", skeleton(arm)
    evil = Sly() if kind == "sly" else Malice(mark)
    content["fps"] = evil
    file = save(evil if kind == "whole" else content, tmp_path / "evil.npy")
    with pytest.raises(PhalanxError, match=r"evil\.npy was not loaded: .* a program") as refused:
        load_clip(file, Robot(arm))
    assert "\n" not in str(refused.value)
    assert not mark.exists()
    mark.mkdir()
    with pytest.raises((FileExistsError, AssertionError)):
        np.load(file, allow_pickle=True)  # the file is as bad as it says


def pickled(body: bytes) -> bytes:
    """A .npy file of one object whose pickle is `body`."""
    header = b"{'descr': '|O', 'fortran_order': False, 'shape': (), }"
    header = header.ljust(117) + b"\n"
    return b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header + body


@pytest.mark.parametrize(
    "body",
    [
        b"\x80\x04Nr\x00\x46\xc3\x23.",  # a memo of 600 million places
        b"\x80\x04\x8e\x00\x00\x00\x00\x00\x01\x00\x00.",  # 2**40 bytes follow
        b"\x80\x04N" + b"2" * 1_000_001 + b".",  # a million copies
        b"\x80\x04" + b"}" + b"".join(b"q\x00}(K\x00h\x00K\x01h\x00u" for _ in range(60)) + b".",
        b"\x80\x04cnumpy\nndarray\n)\x81(K\x01K\x01\x85cnumpy\ndtype\n\x8c\x02f8\x85R\x89"
        b"\x8a\x05\x00\x00\x00\x00\x10tb.",  # an array whose content is the number 2**36
    ],
)
def test_a_small_npy_file_takes_little_memory(body, arm, tmp_path):
    file = tmp_path / "a.npy"
    file.write_bytes(pickled(body))
    start = time.perf_counter()
    with pytest.raises(PhalanxError, match=r"a\.npy.*(damaged|not a motion)"):
        load_clip(file, Robot(arm))
    assert time.perf_counter() - start < 5


def damaged(key: str, value: object) -> object:
    def change(content: dict) -> None:
        part = content
        for k in key.split("/")[:-1]:
            part = part[k]
        part[key.split("/")[-1]] = value

    return change


BAD_NPY = {
    "has no 'rotation'": lambda c: c.pop("rotation"),
    "fps is 0": damaged("fps", 0),
    "shape (3, 3)": damaged("root_translation/arr", np.ones((3, 3))),
    "has no node 'lower'": damaged("skeleton_tree/node_names", ["root", "upper", "lowr"]),
    "frame 2: root_translation y is nan": lambda c: c["root_translation"]["arr"].__setitem__(
        (2, 1), np.nan
    ),
    "frame 1: the quaternion of node upper has length 2": lambda c: c["rotation"][
        "arr"
    ].__setitem__((1, 1), 1),
    "it must be the dictionary": damaged("__name__", "SkeletonState"),
    "must be an array of 3 dimensions": damaged("rotation/arr", np.ones(3)),
}


@pytest.mark.parametrize("words", BAD_NPY)
def test_a_bad_npy_file_is_named_with_its_fault(words, arm, tmp_path):
    content = skeleton(arm)
    BAD_NPY[words](content)
    with pytest.raises(PhalanxError, match=r"a\.npy.*" + re.escape(words)):
        load_clip(save(content, tmp_path / "a.npy"), Robot(arm))


def test_files_that_are_no_npy_motions(arm, tmp_path):
    robot, file = Robot(arm), tmp_path / "a.npy"
    whole = save(skeleton(arm), file).read_bytes()
    for content, words in (
        (whole[:300], "damaged or cut short|is cut short"),
        (whole[:5], "not a .npy file"),
        (b"hello", "not a .npy file"),
    ):
        file.write_bytes(content)
        with pytest.raises(PhalanxError, match=words):
            load_clip(file, robot)
    np.save(file, np.zeros((3, 4, 5)))
    with pytest.raises(PhalanxError, match="an array of float64 with shape"):
        load_clip(file, robot)
    save(skeleton(arm, frames=1), file)
    with pytest.raises(PhalanxError, match=r"has 1 frame; a motion needs two or more"):
        load_clip(file, robot)
    with pytest.raises(PhalanxError, match="no such file"):
        load_clip(tmp_path / "none.npy", robot)
    with pytest.raises(PhalanxError, match="'wlk' is not a motion; did you mean 'walk'"):
        load_clip("wlk", robot)


# our own format -----------------------------------------------------------------------------------


def test_json_keeps_a_clip(arm, tmp_path):
    clip = turning()
    write_json(clip, tmp_path / "a.json")
    again = load_clip(tmp_path / "a.json", Robot(arm))
    for field in ("root_pos", "root_quat", "joint_pos"):
        np.testing.assert_allclose(getattr(again, field), getattr(clip, field), atol=1e-6)
    assert (again.fps, again.loop, again.joints) == (10.0, False, clip.joints)
    content = json.loads((tmp_path / "a.json").read_text())  # joints in another order
    content["joints"] = content["joints"][::-1]
    content["joint_pos"] = [row[::-1] for row in content["joint_pos"]]
    (tmp_path / "a.json").write_text(json.dumps(content))
    swapped = load_clip(tmp_path / "a.json", Robot(arm))
    np.testing.assert_array_equal(swapped.joint_pos, again.joint_pos)


BAD_JSON = {
    "fps is -3": damaged("fps", -3),
    "fps is nan": damaged("fps", float("nan")),
    "fps is 1e+300": damaged("fps", 1e300),
    "root_pos contains a number that is too large": lambda c: c["root_pos"][2].__setitem__(
        0, 10**400
    ),
    "frame 2: root position x is 1e+300": lambda c: c["root_pos"][2].__setitem__(0, 1e300),
    "has no 'root_quat'": lambda c: c.pop("root_quat"),
    "frame 3: joint_pos has 3 numbers; it must have 4": lambda c: c["joint_pos"][3].pop(),
    "frame 3: joint bend is nan": lambda c: c["joint_pos"][3].__setitem__(3, float("nan")),
    "frame 2: root_pos has a value that is not a number": lambda c: c["root_pos"][2].__setitem__(
        0, "1"
    ),
    "frame 4: the quaternion of root has length 0": lambda c: c["root_quat"].__setitem__(
        4, 4 * [0]
    ),
    "no angles for joint 'bend' of the robot; did you mean 'bent'": lambda c: c[
        "joints"
    ].__setitem__(3, "bent"),
    "the robot has no joint 'more'": lambda c: (
        c["joints"].append("more"),
        [row.append(0) for row in c["joint_pos"]],
    ),
    "numbers of frames differ": lambda c: c["root_pos"].pop(),
    "root_pos has no frames": damaged("root_pos", []),
    "version is 2": damaged("version", 2),
    '"format" must be': damaged("format", "bvh"),
    "marked as a loop, but in the last frame joint bend is 0.800 rad": damaged("loop", True),
}


@pytest.mark.parametrize("words", BAD_JSON)
def test_a_bad_json_file_is_named_with_its_fault(words, arm, tmp_path):
    file = tmp_path / "a.json"
    write_json(turning(), file)
    content = json.loads(file.read_text())
    BAD_JSON[words](content)
    file.write_text(json.dumps(content))
    with pytest.raises(PhalanxError, match=r"a\.json.*" + re.escape(words)):
        load_clip(file, Robot(arm))


def test_a_json_file_cut_short_says_where(arm, tmp_path):
    file = tmp_path / "a.json"
    write_json(turning(), file)
    lines = file.read_text().splitlines()
    file.write_text("\n".join(lines[:20]))
    with pytest.raises(PhalanxError, match=r"a\.json: line 20: .* cut short"):
        load_clip(file, Robot(arm))


# BVH ----------------------------------------------------------------------------------------------


def bvh(frames: list[dict[str, float]], fps: float = 50.0) -> str:
    """A figure in a T pose facing z, legs of 80 units; frames give channels by `joint channel`."""
    lines = ["HIERARCHY", "ROOT Hips", "{", "OFFSET 0 90 0"]
    channels = [f"Hips {axis}position" for axis in "XYZ"]

    def rotations(joint: str, order: str) -> str:
        channels.extend(f"{joint} {axis}rotation" for axis in order)
        return " ".join(f"{axis}rotation" for axis in order)

    lines.append(f"CHANNELS 6 Xposition Yposition Zposition {rotations('Hips', 'ZYX')}")

    def chain(joints: list[tuple[str, str, str]], inside: list[list] = ()) -> None:
        name, offset, order = joints[0]
        lines.extend([f"JOINT {name}", "{", f"OFFSET {offset}"])
        lines.append(f"CHANNELS 3 {rotations(name, order)}")
        if joints[1:]:
            chain(joints[1:])
        for other in inside:
            chain(other)
        if not joints[1:] and not inside:
            lines.extend(["End Site", "{", "OFFSET 0 1 0", "}"])
        lines.append("}")

    arms = [
        [
            (f"{side}Arm", f"{sign * 15} 22 0", "XYZ"),
            (f"{side}ForeArm", f"{sign * 28} 0 0", "ZXY"),
            (f"{side}Hand", f"{sign * 25} 0 0", "YXZ"),
        ]
        for side, sign in (("Left", 1), ("Right", -1))
    ]
    chain([("Spine1", "0 20 0", "YXZ")], [[("Head", "0 25 0", "ZYX")], *arms])
    for side, sign in (("Left", 1), ("Right", -1)):
        chain(
            [
                (f"{side}UpLeg", f"{sign * 9} 0 0", "ZYX"),
                (f"{side}Leg", "0 -40 0", "XYZ"),
                (f"{side}Foot", "0 -40 0", "ZYX"),
            ]
        )
    lines += ["}", "MOTION", f"Frames: {len(frames)}", f"Frame Time: {1 / fps:.8f}"]
    lines += [" ".join(f"{frame.get(c, 0):g}" for c in channels) for frame in frames]
    return "\n".join(lines) + "\n"


def at_rest(**more: float) -> dict[str, float]:
    """Standing with arms hanging, the left arm turned down by -90 degrees about z."""
    hang = {"LeftArm Zrotation": -90, "RightArm Zrotation": 90, "Hips Yposition": 90}
    return hang | {key.replace("_", " "): value for key, value in more.items()}


def test_bvh_gives_the_angles_and_the_way_worked_by_hand(humanoid, tmp_path):
    robot = Robot(humanoid)
    file = tmp_path / "a.bvh"
    file.write_text(
        bvh(
            [
                at_rest(),
                at_rest(LeftLeg_Xrotation=60, RightUpLeg_Xrotation=-30, Hips_Zposition=16),
                at_rest(Hips_Yrotation=90, Hips_Xposition=8, LeftForeArm_Yrotation=-40),
            ]
        )
    )
    clip = load_clip(file, robot)
    degrees = {j: np.degrees(clip.joint_pos[:, i]) for i, j in enumerate(clip.joints)}
    wanted = {
        "left_knee": [0, 60, 0],
        "right_hip_y": [0, -30, 0],  # forward
        "left_elbow": [0, 0, -40],  # forward, as the arm hangs
    }
    for joint, values in degrees.items():
        np.testing.assert_allclose(values, wanted.get(joint, [0, 0, 0]), atol=1e-4, err_msg=joint)
    unit = (0.421546 + 0.40987) / 80  # the robot's legs over the file's
    np.testing.assert_allclose(clip.root_pos[1, :2], [16 * unit, 0], atol=1e-6)
    np.testing.assert_allclose(clip.root_pos[2, :2], [0, 8 * unit], atol=1e-6)
    half = np.sqrt(0.5)
    np.testing.assert_allclose(clip.root_quat[2], [half, 0, 0, half], atol=1e-6)
    assert clip.fps == pytest.approx(50)
    pose = robot.kinematics(clip.root_pos, clip.root_quat, clip.joint_pos)
    assert abs(pose.lowest[0]) < 0.01  # it stands
    metres = load_clip(file, robot, scale=0.01)
    np.testing.assert_allclose(metres.root_pos[1, 0], 0.16, atol=1e-6)


def test_a_bvh_knee_bends_where_its_thigh_is_turned_to(humanoid, tmp_path):
    """In the file the shin goes outward by its own joint; the robot's knee cannot, its hip can."""
    robot = Robot(humanoid)
    file = tmp_path / "a.bvh"
    file.write_text(bvh([at_rest(LeftLeg_Zrotation=50), at_rest(LeftLeg_Zrotation=50)]))
    clip = load_clip(file, robot)
    pose = robot.kinematics(clip.root_pos, clip.root_quat, clip.joint_pos)
    shin = pose.pos[0, robot.body("left_foot")] - pose.pos[0, robot.body("left_shin")]
    wanted = [0, np.sin(np.radians(50)), -np.cos(np.radians(50))]
    np.testing.assert_allclose(shin / np.linalg.norm(shin), wanted, atol=1e-6)
    assert np.degrees(clip.joint_pos[0, clip.joints.index("left_knee")]) == pytest.approx(50)


def test_a_bvh_figure_is_moved_by_every_joint_above_its_hips(humanoid, tmp_path):
    """The hips hang on a root that moves by 40 units and turns by 90 degrees about y."""
    text = bvh([at_rest(), at_rest(Hips_Zposition=10)])
    head, motion = text.split("MOTION")
    above = "ROOT Above\n{\nOFFSET 0 0 0\nCHANNELS 4 Xposition Yposition Zposition Yrotation\n"
    head = head.replace("ROOT Hips", f"{above}JOINT Hips").rstrip() + "\n}\n"
    rows = motion.splitlines()
    rows[3:] = [f"0 0 0 90 {rows[3]}", f"40 0 0 90 {rows[4]}"]
    file = tmp_path / "a.bvh"
    file.write_text(head + "MOTION" + "\n".join(rows) + "\n")
    clip = load_clip(file, Robot(humanoid), scale=0.01)
    # x is the figure's left, our y; its z turned by 90 degrees is x as well: 0.4 + 0.1 m
    np.testing.assert_allclose(clip.root_pos[1, :2], [0, 0.5], atol=1e-6)


@pytest.mark.parametrize(
    ("turn", "words"),
    [
        (
            "0 40 0",
            "with y or z up the figure's legs point down neither in the rest pose nor in any",
        ),
        ("0 0 0", "the leg of the figure has no length"),
    ],
)
def test_a_bvh_figure_that_never_stands_is_refused(turn, words, humanoid, tmp_path):
    file = tmp_path / "a.bvh"
    file.write_text(bvh([at_rest(), at_rest()]).replace("0 -40 0", turn))
    with pytest.raises(PhalanxError, match=words):
        load_clip(file, Robot(humanoid))


def without(text: str, old: str, new: str = "") -> str:
    assert old in text
    return text.replace(old, new, 1)


BAD_BVH = {
    "begins with HIERARCHY": lambda t: "<html>",
    "declares 2 frames but has 1": lambda t: "\n".join(t.splitlines()[:-1]),
    "the frame time is 0 s": lambda t: without(t, "Frame Time: 0.02000000", "Frame Time: 0"),
    "line 9: unknown channel 'Xrotatoin'; did you mean 'Xrotation'": lambda t: without(
        t, "3 Yrotation Xrotation", "3 Yrotation Xrotatoin"
    ),
    "no joint 'LeftLeg' for the robot's body 'left_shin'": lambda t: without(
        t, "JOINT LeftLeg", "JOINT LeftShank"
    ),
    "numbers; it must have 48": lambda t: t.rstrip()[:-2] + "\n",
    "could not convert string to float: 'x'": lambda t: t.rstrip()[:-1] + "x\n",
    "frame 1: channel RightFoot Xrotation is nan": lambda t: t.rstrip()[:-1] + "nan\n",
    "line 2: '{' is not expected": lambda t: t.replace("ROOT", "{\nROOT"),
    "declares nan frames": lambda t: t.replace("Frames: 2", "Frames: nan"),
    "has no MOTION": lambda t: t.split("MOTION")[0],
}


@pytest.mark.parametrize("words", BAD_BVH)
def test_a_bad_bvh_file_is_named_with_its_fault(words, humanoid, tmp_path):
    file = tmp_path / "a.bvh"
    file.write_text(BAD_BVH[words](bvh([at_rest(), at_rest()])))
    with pytest.raises(PhalanxError, match=r"a\.bvh.*" + re.escape(words)):
        load_clip(file, Robot(humanoid))


# gaits --------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def gaits():
    """`benchmarks/gaits.py`, which makes the clips."""
    file = Path(__file__).parents[1] / "benchmarks" / "gaits.py"
    spec = importlib.util.spec_from_file_location("gaits", file)
    sys.modules["gaits"] = module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("name", CLIPS)
def test_the_script_makes_the_clips_that_are_shipped(name, gaits, humanoid):
    made, shipped = gaits.synthesize(gaits.GAITS[name], Robot(humanoid)), read_json(CLIPS[name])
    for field in ("root_pos", "root_quat", "joint_pos"):
        np.testing.assert_allclose(getattr(made, field), getattr(shipped, field), atol=2e-6)
    assert (made.name, made.joints, made.loop) == (name, shipped.joints, True)
    assert made.fps == pytest.approx(shipped.fps)


def sole(corners: np.ndarray, robot: Robot, clip: Clip, side: str) -> np.ndarray:
    """(T, 4, 3) [m], the corners of a foot's sole."""
    pose = robot.kinematics(clip.root_pos, clip.root_quat, clip.joint_pos)
    foot = robot.body(f"{side}_foot")
    return np.stack(
        [
            pose.pos[:, foot] + rot.rotate(pose.quat[:, foot], np.tile(c, (clip.num_frames, 1)))
            for c in corners
        ],
        axis=1,
    )


@pytest.mark.parametrize(("name", "speed", "stance"), [("walk", 1.3, 0.62), ("run", 3.0, 0.38)])
def test_a_gait_stands_on_its_feet(name, speed, stance, gaits, humanoid):
    robot = Robot(humanoid)
    clip = load_clip(name, robot)
    pose = robot.kinematics(clip.root_pos, clip.root_quat, clip.joint_pos)
    assert clip.advance[0] / clip.length == pytest.approx(speed, rel=1e-6)
    assert pose.lowest.min() > -1e-5
    for side in ("right", "left"):
        points = sole(gaits.sole(robot, f"{side}_foot"), robot, clip, side)
        lowest = np.argmin(points[..., 2], axis=1)
        frame = np.arange(clip.num_frames)
        on_ground = points[frame, lowest, 2] < 1e-4
        assert np.mean(on_ground) == pytest.approx(stance, abs=0.03)
        both = on_ground[:-1] & on_ground[1:]
        slip = points[frame[1:], lowest[:-1], :2] - points[frame[:-1], lowest[:-1], :2]
        assert np.linalg.norm(slip, axis=1)[both].sum() < 0.002  # [m], over all of stance
    np.testing.assert_array_equal(clip.joint_pos[-1], clip.joint_pos[0])
    np.testing.assert_allclose(clip.root_pos[-1], clip.root_pos[0] + clip.advance, atol=1e-12)
    assert (clip.joint_pos >= robot.limits[:, 0]).all()
    assert (clip.joint_pos <= robot.limits[:, 1]).all()


@pytest.mark.parametrize(("name", "near"), [("walk", 4.0), ("run", 6.0)])
def test_a_gait_is_near_the_measured_angles(name, near, gaits, humanoid):
    robot = Robot(humanoid)
    clip, gait = load_clip(name, robot), gaits.GAITS[name]
    phase = np.arange(clip.num_frames) / (clip.num_frames - 1)
    for joint, values, sign in (("knee", gait.knee, 1), ("ankle_y", gait.ankle, -1)):
        measured = sign * np.degrees(gaits.periodic_angles(values, phase))
        own = np.degrees(clip.joint_pos[:, robot.joints.index(f"right_{joint}")])
        assert np.sqrt(np.mean((own - measured) ** 2)) < near, joint
    every = np.arange(20) / 20  # the curve goes near the tabulated points
    table = np.degrees(gaits.periodic_angles(gait.knee, every))
    np.testing.assert_allclose(table, gait.knee, atol=0.5)


def test_a_runner_in_flight_falls_freely(gaits, humanoid):
    robot = Robot(humanoid)
    clip = load_clip("run", robot)
    pose = robot.kinematics(clip.root_pos, clip.root_quat, clip.joint_pos)
    mass = gaits.centre_of_mass(robot, clip.root_pos, clip.root_quat, clip.joint_pos)[:, 2]
    fall = np.diff(mass, 2) * clip.fps**2
    flying = pose.lowest > 1e-4
    middle = flying[:-2] & flying[1:-1] & flying[2:]
    assert middle.sum() > 10
    np.testing.assert_allclose(fall[middle], -9.81, atol=0.2)  # differences over 8 ms
    assert clip.root_pos[:, 2].max() - clip.root_pos[:, 2].min() < 0.08


def test_gaits_are_for_humanoids(arm):
    with pytest.raises(PhalanxError, match=r"'walk', made for humanoid_.* no angles for joint 'x'"):
        load_clip("walk", Robot(arm))


def test_a_robot_needs_a_free_root_and_a_known_body(humanoid):
    fixed = mujoco.MjModel.from_xml_string(ARM.replace("<freejoint/>", ""))
    with pytest.raises(PhalanxError, match="no robot for a motion"):
        Robot(fixed)
    with pytest.raises(PhalanxError, match=r"no body 'left_fot'.*did you mean 'left_foot'"):
        MotionLibrary(["walk"], humanoid, ["left_fot"])


# the command --------------------------------------------------------------------------------------


def test_motion_show_reports_and_check_fails_for_faults(capsys, humanoid, tmp_path):
    main(["motion", "show", "walk"])
    shown = capsys.readouterr().out
    assert "1.30 m/s" in shown
    assert "no problems found" in shown
    main(["motion", "convert", "walk", str(tmp_path / "w.json"), "end=0.5"])
    clip = load_clip(tmp_path / "w.json", Robot(humanoid))
    assert clip.length == pytest.approx(0.5, abs=0.01)
    bent = clip.joint_pos.copy()
    bent[7, clip.joints.index("left_knee")] = -0.5
    write_json(replace(clip.raised(-0.05), joint_pos=bent), tmp_path / "w.json")
    capsys.readouterr()
    with pytest.raises(SystemExit) as stop:
        main(["motion", "check", str(tmp_path / "w.json")])
    found = capsys.readouterr().out
    assert stop.value.code == 1
    assert (
        "joint left_knee goes 28.6 degrees beyond its limits (0 to 160), worst in frame 7" in found
    )
    assert "the feet are 50 mm below the ground" in found


def test_motion_names_options_without_effect(tmp_path, capsys):
    options = ["out=a.mp4", "up=z", "scale=2", "fps=60"]
    main(["motion", "convert", "walk", str(tmp_path / "w.json"), *options])
    said = " ".join(capsys.readouterr().err.split())
    for word in ("up= is for files that end in .bvh", "scale=", "fps=", "out= is for show"):
        assert word in said
    main(["motion", "show", "walk"])
    assert not capsys.readouterr().err


def test_motion_makes_the_folder_of_what_it_writes(tmp_path, monkeypatch):
    monkeypatch.setattr("phalanx.cli.motion._video", lambda clip, robot, path: path)
    main(["motion", "show", "walk", f"out={tmp_path}/new/er/a.mp4"])
    main(["motion", "convert", "walk", f"{tmp_path}/new/er/w.json", "end=0.5"])
    assert os.listdir(tmp_path / "new/er") == ["w.json"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["shw", "walk"], "did you mean 'show'"),
        (["show"], "takes one file"),
        (["show", "none.json"], "cannot read none.json"),
        (["show", "walk", "robt=a.xml"], "unknown key 'robt'; did you mean 'robot'"),
        (["show", "walk", "start=0.5", "end=0.4"], "fewer than two frames"),
        (["convert", "walk", "a.npy"], "a.npy must end in .json"),
        (["convert", "walk", "."], "cannot write .: it is a folder"),
    ],
)
def test_wrong_arguments_of_motion_give_one_sentence(
    arguments, words, capsys, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as stop:
        main(["motion", *arguments])
    said = capsys.readouterr().err
    assert stop.value.code == 2
    assert words in said
    assert said.count("\n") == 1
