"""The mp4 writer, end to end: real renderer process, real ffmpeg, the file decoded again."""

import re
import subprocess
import sys
from pathlib import Path

import imageio_ffmpeg
import mujoco
import numpy as np
import pytest

from phalanx import video
from phalanx.errors import PhalanxError
from phalanx.frames import FrameRenderer
from phalanx.video import render_video
from phalanx.video_renderer import crop

PENDULUM = """
<mujoco>
  <asset>
    <texture name="sky" type="skybox" builtin="gradient" rgb1=".62 .74 .86" rgb2=".95 .97 1"
             width="64" height="64"/>
    <texture name="ground" type="2d" builtin="checker" rgb1=".8 .82 .84" rgb2=".72 .74 .77"
             width="64" height="64"/>
    <material name="ground" texture="ground" texuniform="true"/>
  </asset>
  <worldbody>
    <light type="directional" pos="0 0 10" dir=".35 .45 -.82"/>
    <geom type="plane" size="0 0 1" material="ground"/>
    <body pos="0 0 1">
      <joint type="hinge" axis="0 1 0"/>
      <geom type="capsule" fromto="0 0 0 .7 0 0" size=".05" rgba="1 0 0 1"/>
    </body>
    <body name="target" mocap="true" pos="0 0 .3">
      <geom type="sphere" size=".1" rgba="0 0 1 1"/>
    </body>
  </worldbody>
</mujoco>
"""
WIDTH, HEIGHT = 160, 120


@pytest.fixture(scope="module")
def model() -> mujoco.MjModel:
    return mujoco.MjModel.from_xml_string(PENDULUM)


@pytest.fixture(scope="module")
def falling(model: mujoco.MjModel) -> np.ndarray:
    """(12, 1, 1) [rad], half a second of the pendulum falling from the horizontal."""
    data = mujoco.MjData(model)
    qpos = []
    for _ in range(12):
        qpos.append(data.qpos.copy())
        mujoco.mj_step(model, data, nstep=20)
    return np.stack(qpos)[:, None]


@pytest.fixture(scope="module")
def needs_gl(
    model: mujoco.MjModel, falling: np.ndarray, tmp_path_factory: pytest.TempPathFactory
) -> None:
    try:
        render_video(model, falling[:1], tmp_path_factory.mktemp("gl") / "probe.mp4", fps=30)
    except PhalanxError as error:
        if str(error).startswith("no OpenGL"):
            pytest.skip(str(error))
        raise


def decoded(path: Path) -> np.ndarray:
    """Every frame of the file, (T, height, width, 3), as signed numbers that can be subtracted."""
    reader = imageio_ffmpeg.read_frames(str(path))
    width, height = next(reader)["size"]
    frames = [np.frombuffer(frame, np.uint8).reshape(height, width, 3) for frame in reader]
    return np.stack(frames).astype(np.int16)


def red(frame: np.ndarray) -> np.ndarray:
    """Where the red pendulum is seen in a frame, (height, width)."""
    return (frame[..., 0] > 80) & (frame[..., 0] > 2 * frame[..., 1:].max(axis=-1))


@pytest.mark.usefixtures("needs_gl")
def test_a_falling_pendulum_is_seen_falling(model, falling, tmp_path):
    progress = []
    path = render_video(
        model,
        falling,
        tmp_path / "new folder" / "fall.mp4",
        fps=25,
        width=WIDTH,
        height=HEIGHT,
        on_frame=lambda done, total: progress.append((done, total)),
    )
    assert [p.name for p in path.parent.iterdir()] == ["fall.mp4"]
    assert progress == [(i, 12) for i in range(1, 13)]
    frames = decoded(path)
    assert frames.shape == (12, HEIGHT, WIDTH, 3)
    first, last = red(frames[0]), red(frames[-1])
    assert first.sum() > 100  # well framed: some percent of the picture
    assert last.sum() > 100
    # The pendulum swings down: the middle of what is red moves down, rows count from the top.
    assert np.argwhere(last)[:, 0].mean() > np.argwhere(first)[:, 0].mean() + 10


@pytest.mark.usefixtures("needs_gl")
def test_environments_stand_side_by_side(model, tmp_path):
    hanging = np.full((2, 2, 1), np.pi / 2)  # (T, K, nq): both the same, so one hides no other
    hidden = np.full((2, 2, 1, 3), -9.0)  # the mocap spheres are below the ground
    path = render_video(
        model, hanging, tmp_path / "two.mp4", fps=25, mocap_pos=hidden, width=WIDTH, height=HEIGHT
    )
    frame = decoded(path)[0]
    columns = np.flatnonzero(red(frame).any(axis=0))
    assert (np.diff(columns) > 3).sum() == 1  # two red things with a gap between them
    blue = (frame[..., 2] > 100) & (frame[..., 2] > 2 * frame[..., 0])
    assert not blue.any()


@pytest.mark.usefixtures("needs_gl")
def test_of_robots_far_apart_on_one_map_the_first_is_followed(tmp_path):
    ground = '<geom type="hfield" hfield="hills"/>'
    asset = '<asset><hfield name="hills" nrow="3" ncol="3" size="60 60 1 1"/></asset>'
    robot = '<body><freejoint/><geom type="box" size=".3 .2 .1" rgba="1 0 0 1"/></body>'
    xml = f"<mujoco>{asset}<worldbody>{ground}{robot}</worldbody></mujoco>"
    qpos = np.zeros((3, 2, 7))
    qpos[..., 2], qpos[..., 3] = 0.1, 1.0
    qpos[:, :, 0] = [-40, 40]
    path = render_video(
        mujoco.MjModel.from_xml_string(xml),
        qpos, tmp_path / "far.mp4", fps=10, width=WIDTH, height=HEIGHT,
    )  # fmt: skip
    assert red(decoded(path)[-1]).mean() > 0.05


@pytest.mark.usefixtures("needs_gl")
def test_a_camera_of_the_model_sees_all_of_a_map(tmp_path):
    """A red box 40 m from the robot, next to the camera."""
    xml = """<mujoco><asset><hfield name="hills" nrow="3" ncol="3" size="60 60 1 1"/></asset>
    <worldbody><geom type="hfield" hfield="hills"/>
    <camera name="far" pos="40 -3 1" xyaxes="1 0 0 0 0 1"/>
    <geom type="box" pos="40 0 1" size="1 1 1" rgba="1 0 0 1"/><light pos="40 -9 9" dir="0 1 -1"/>
    <body><freejoint/><geom type="box" size=".3 .2 .1"/></body></worldbody></mujoco>"""
    qpos = np.zeros((2, 1, 7))
    qpos[..., 2], qpos[..., 3] = 0.1, 1.0
    path = render_video(
        mujoco.MjModel.from_xml_string(xml),
        qpos, tmp_path / "far.mp4", fps=10, width=WIDTH, height=HEIGHT, camera="far",
    )  # fmt: skip
    assert red(decoded(path)[-1]).mean() > 0.05


@pytest.mark.usefixtures("needs_gl")
def test_a_killed_renderer_leaves_nothing_behind(model, falling, tmp_path, monkeypatch):
    monkeypatch.setattr(video.tempfile, "tempdir", str(tmp_path))
    started = []
    popen = subprocess.Popen

    def recording_popen(command, **options):
        started.append(popen(command, **options))
        return started[-1]

    def kill_renderer(done: int, total: int) -> None:
        if done == 2:
            next(p for p in started if "phalanx.video_renderer" in p.args).kill()

    monkeypatch.setattr(subprocess, "Popen", recording_popen)
    with pytest.raises(PhalanxError, match=r"stopped after \d+ of 120 frames: killed by signal 9"):
        render_video(
            model, np.tile(falling, (10, 1, 1)), tmp_path / "x.mp4", fps=25, on_frame=kill_renderer
        )
    assert list(tmp_path.iterdir()) == []
    assert all(p.returncode is not None for p in started)


def test_without_opengl_one_sentence_says_what_to_install(model, falling, tmp_path, monkeypatch):
    monkeypatch.setenv("PYOPENGL_PLATFORM", "none")  # every try to load a GL library now fails
    monkeypatch.setenv("MUJOCO_GL", "disable")
    with pytest.raises(PhalanxError) as caught:
        render_video(model, falling, tmp_path / "x.mp4", fps=25)
    sentence = str(caught.value)
    assert "`apt-get install libegl1 libgl1` or `apt-get install libosmesa6`" in sentence
    assert "\n" not in sentence
    assert re.search(r"\(egl: .*; osmesa: .*\)$", sentence)  # both were tried, each says why
    assert list(tmp_path.iterdir()) == []


def test_an_existing_video_survives_a_failed_one(model, falling, tmp_path, monkeypatch):
    monkeypatch.setenv("PYOPENGL_PLATFORM", "none")
    monkeypatch.setenv("MUJOCO_GL", "egl")
    path = tmp_path / "x.mp4"
    path.write_bytes(b"the old one")
    with pytest.raises(PhalanxError):
        render_video(model, falling, path, fps=25)
    assert path.read_bytes() == b"the old one"


def test_a_folder_that_cannot_be_written_is_named(model, falling, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(PhalanxError, match=r"cannot write the video .*File exists"):
        render_video(model, falling, tmp_path / "file" / "x.mp4", fps=25)
    with pytest.raises(PhalanxError, match="it is a folder"):
        render_video(model, falling, tmp_path, fps=25)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"qpos": np.zeros((3, 1, 2))}, r"qpos has shape \(3, 1, 2\); it must be \(3, 1, 1\)"),
        ({"qpos": np.zeros((3, 17, 1))}, "1 to 16 environments"),
        ({"qpos": np.full((3, 1, 1), np.nan)}, "not finite in frame 0 of environment 0"),
        ({"width": 161}, "width 161"),
        ({"camera": "side"}, "no camera 'side' in the model; cameras: none"),
    ],
)
def test_bad_arguments_are_named(model, falling, tmp_path, change, sentence):
    arguments = {"qpos": falling, "path": tmp_path / "x.mp4", "fps": 25, **change}
    with pytest.raises(PhalanxError, match=sentence):
        render_video(model, **arguments)
    assert list(tmp_path.iterdir()) == []


def test_a_state_that_cannot_be_drawn_is_refused_instead_of_waited_for(model):
    with FrameRenderer(model) as renderer:
        with pytest.raises(PhalanxError, match="the state has 1 numbers, 1 of them finite; a pict"):
            renderer.draw(np.zeros(1))  # without the target
        with pytest.raises(PhalanxError, match="the state has 8 numbers, 7 of them finite"):
            renderer.draw(np.r_[np.nan, np.zeros(7)])


def test_pictures_of_a_map_show_the_ground_wherever_the_robot_is():
    """Only what is around it is drawn: 20 m."""
    spec = mujoco.MjSpec()
    spec.add_hfield(name="h", nrow=9, ncol=201, size=[50, 2, 1, 1], userdata=np.zeros(9 * 201))
    spec.worldbody.add_geom(type=mujoco.mjtGeom.mjGEOM_HFIELD, hfieldname="h")
    spec.worldbody.add_light(pos=[0, 0, 1], dir=[0, 0, -1], type=1)
    body = spec.worldbody.add_body(pos=[0, 0, 0.2])
    body.add_freejoint()
    body.add_geom(type=mujoco.mjtGeom.mjGEOM_BOX, size=[0.2, 0.2, 0.2])
    model = spec.compile()
    with FrameRenderer(model) as renderer:
        here, there, beyond = (
            renderer.draw(np.r_[x, model.qpos0[1:]]).astype(int) for x in (0, 25, 90)
        )
    assert np.abs(here - there).mean() < 2
    assert np.abs(here - beyond).mean() > 10


def test_the_renderer_process_never_loads_torch():
    code = "import sys, phalanx.video; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_a_cropped_map_is_the_same_where_it_is_left():
    """By rays from above; shapes and ground outside are not drawn."""
    rng = np.random.default_rng(0)
    spec = mujoco.MjSpec()
    spec.add_hfield(
        name="h", nrow=61, ncol=81, size=[8, 6, 1, 1], userdata=rng.random(61 * 81).astype("f")
    )
    add = spec.worldbody.add_geom
    add(name="ground", type=mujoco.mjtGeom.mjGEOM_HFIELD, hfieldname="h", pos=[1, -2, 0.5])
    solid = [[0, 0, 0], [0.1, 0, 0], [0, 0.1, 0], [0, 0, 0.1]]
    spec.add_mesh(name="m", uservert=np.ravel(solid))  # has the height field's number
    add(name="mesh", type=mujoco.mjtGeom.mjGEOM_MESH, meshname="m", pos=[0, 0, 4])
    add(name="near", type=mujoco.mjtGeom.mjGEOM_BOX, size=[0.1, 0.1, 0.1], pos=[0, 0, 3])
    add(name="far", type=mujoco.mjtGeom.mjGEOM_BOX, size=[0.1, 0.1, 0.1], pos=[5, 0, 3])
    model = spec.compile()
    data = mujoco.MjData(model)

    def down(x, y):
        start, groups = np.array([x, y, 9.0]), np.array([1, 0, 0, 0, 0, 0], np.uint8)
        args = np.array([0, 0, -1.0]), groups, 1, -1, np.zeros(1, np.int32), None
        return mujoco.mj_ray(model, data, start, *args)

    places = rng.uniform(-2, 2, (200, 2))
    mujoco.mj_kinematics(model, data)
    before = [down(x, y) for x, y in places]
    crop(model, data, np.ones(4, bool), np.array([-2.0, -2.0]), np.array([2.0, 2.0]))
    mujoco.mj_kinematics(model, data)
    np.testing.assert_allclose([down(x, y) for x, y in places], before, atol=1e-6)
    assert down(3, 0) == -1
    assert model.hfield_nrow[0] * model.hfield_ncol[0] < 50**2
    assert model.geom_group.tolist() == [0, 0, 0, 3]
