"""Robot files: Isaac Gym's rules on numbers worked by hand, one clear sentence for each fault."""

import logging
import struct
from pathlib import Path

import mujoco
import numpy as np
import pytest

from phalanx.errors import PhalanxError
from phalanx.sim import Scene
from phalanx.sim.assets import load_robot

SHARED = Path(__file__).parents[2] / "shared" / "assets" / "isaacgymenvs"

# A unit cube as triangles (12, 3, 3); its convex hull at density 1000 weighs 1000 kg.
CORNERS = np.array([[x, y, z] for x in (0, 1) for y in (0, 1) for z in (0, 1)], float)
FACES = "0 1 3  0 3 2  4 6 7  4 7 5  0 4 5  0 5 1  2 3 7  2 7 6  0 2 6  0 6 4  1 5 7  1 7 3"
CUBE = CORNERS[np.array(FACES.split(), int).reshape(12, 3)]


@pytest.fixture
def write(tmp_path):
    def write_file(name: str, text: str) -> Path:
        file = tmp_path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
        return file

    return write_file


def write_stl(file: Path, triangles: np.ndarray) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    rows = [struct.pack("<12fH", 0, 0, 0, *t.ravel(), 0) for t in triangles]
    file.write_bytes(b"\0" * 80 + struct.pack("<I", len(rows)) + b"".join(rows))


def scene_with(robot: mujoco.MjSpec) -> mujoco.MjModel:
    scene = mujoco.MjSpec()
    scene.worldbody.add_geom(name="ground", type=mujoco.mjtGeom.mjGEOM_PLANE, size=[0, 0, 1])
    scene.attach(robot, frame=scene.worldbody.add_frame(pos=[0, 0, 0.5]), prefix="robot/")
    return scene.compile()


def names(model: mujoco.MjModel, kind: str) -> list[str]:
    count = {"body": model.nbody, "joint": model.njnt, "mesh": model.nmesh}[kind]
    return [getattr(model, kind)(i).name for i in range(count)]


def joint(name: str, kind: str, parent: str, child: str, inner: str = "") -> str:
    return (
        f'<joint name="{name}" type="{kind}"><parent link="{parent}"/><child link="{child}"/>'
        f"{inner}</joint>"
    )


def collision(shape: str, origin: str = "") -> str:
    return f"<collision>{origin}<geometry>{shape}</geometry></collision>"


BALL = collision('<sphere radius="0.1"/>')


# URDF -------------------------------------------------------------------------------------------


def test_urdf_inertia_is_taken_from_the_file_in_its_own_frame(write):
    urdf = write(
        "arm.urdf",
        """<robot name="arm"><link name="base"><inertial>
        <origin xyz="1 2 3" rpy="0 0 1.5707963267948966"/><mass value="4"/>
        <inertia ixx="1" iyy="2" izz="2.5" ixy="0" ixz="0" iyz="0"/></inertial></link></robot>""",
    )
    model = load_robot(urdf).compile()
    assert model.body_mass[1] == 4
    np.testing.assert_allclose(model.body_ipos[1], [1, 2, 3])
    # Turned by 90 degrees about z: link x sees the file's iyy, link y its ixx.
    np.testing.assert_allclose(link_inertia(model, 1), np.diag([2, 1, 2.5]), atol=1e-9)


def link_inertia(model: mujoco.MjModel, body: int) -> np.ndarray:
    rot = np.zeros(9)
    mujoco.mju_quat2Mat(rot, model.body_iquat[body])
    rot = rot.reshape(3, 3)
    return rot @ np.diag(model.body_inertia[body]) @ rot.T


def test_urdf_missing_inertia_comes_from_collision_geometry(write):
    box = collision('<box size="1 2 3"/>', '<origin xyz="0 0 0.5"/>')
    mass = '<inertial><mass value="12"/></inertial>'
    placed = '<inertial><mass value="12"/><origin xyz="0 0 7"/></inertial>'
    zero = '<inertial><mass value="0"/></inertial>'
    links = {"a": mass, "b": placed, "c": "", "d": zero}
    text = "".join(f'<link name="{n}">{inertial}{box}</link>' for n, inertial in links.items())
    text += '<link name="e"/>'
    text += "".join(joint(n, "fixed", "a", n) for n in "bcde")
    model = load_robot(write("boxes.urdf", f'<robot name="r">{text}</robot>')).compile()
    # Box of 12 kg, sides 1 x 2 x 3: m/12 (b^2 + c^2, ...) = (13, 10, 5). At 1000 kg/m^3: 6000 kg.
    np.testing.assert_allclose(model.body_mass[1:6], [12, 12, 6000, 6000, 0])
    np.testing.assert_allclose(model.body_ipos[1:6, 2], [0.5, 7, 0.5, 0.5, 0])
    for body, scale in ((1, 1), (2, 1), (3, 500), (4, 500)):
        expected = scale * np.diag([13.0, 10.0, 5.0])
        np.testing.assert_allclose(link_inertia(model, body), expected, atol=1e-9)
    light = load_robot(write("light.urdf", f'<robot name="r">{text}</robot>'), density=1).compile()
    assert light.body_mass[3] == pytest.approx(6)


@pytest.mark.parametrize(
    "inertia",
    ['ixx="0" iyy="0" izz="0"', 'ixx="1e-30" iyy="1e-30" izz="1e-30"', 'ixx="1" iyy="1" izz="9"'],
)
def test_urdf_impossible_inertia_becomes_valid(write, inertia):
    link = f'<link name="b"><inertial><mass value="1"/><inertia {inertia}/></inertial></link>'
    hinge = joint("j", "continuous", "a", "b")
    robot = write("r.urdf", f'<robot name="r"><link name="a">{BALL}</link>{link}{hinge}</robot>')
    small, middle, large = sorted(load_robot(robot).compile().body_inertia[2])
    assert small > 0
    assert small + middle >= large


def test_urdf_joints_keep_axis_origin_range_effort_velocity_and_dynamics(write):
    inner = (
        '<origin xyz="1 2 3" rpy="1.5707963267948966 0 0"/><axis xyz="0 0 2"/>'
        '<limit lower="-1" upper="2" effort="30" velocity="4"/><dynamics damping="5" friction="6"/>'
    )
    unlimited = '<limit effort="0" velocity="8" lower="-1" upper="1"/>'
    text = "".join(f'<link name="{n}">{BALL}</link>' for n in "abcde")
    text += joint("slide", "prismatic", "a", "b", inner) + joint(
        "hinge", "revolute", "b", "c", inner
    )
    text += joint("wheel", "continuous", "c", "d", unlimited) + joint("free", "revolute", "d", "e")
    model = load_robot(
        write("r.urdf", f'<robot name="r">{text}</robot>'), fixed_base=True
    ).compile()
    assert names(model, "body") == ["world", "a", "b", "c", "d", "e"]
    assert names(model, "joint") == ["slide", "hinge", "wheel", "free"]
    slide, hinge = mujoco.mjtJoint.mjJNT_SLIDE, mujoco.mjtJoint.mjJNT_HINGE
    assert model.jnt_type.tolist() == [slide, hinge, hinge, hinge]
    np.testing.assert_allclose(model.jnt_axis, [[0, 0, 1], [0, 0, 1], [1, 0, 0], [1, 0, 0]])
    np.testing.assert_allclose(model.body_pos[2], [1, 2, 3])
    np.testing.assert_allclose(model.body_quat[2], [0.5**0.5, 0.5**0.5, 0, 0])  # 90 degrees about x
    assert model.jnt_limited.tolist() == [1, 1, 0, 0]
    np.testing.assert_allclose(model.jnt_range[:2], [[-1, 2], [-1, 2]])  # radians, not degrees
    assert model.jnt_actfrclimited.tolist() == [1, 1, 0, 0]
    np.testing.assert_allclose(model.jnt_actfrcrange[0], [-30, 30])
    assert model.jnt_user[:, 0].tolist() == [4, 4, 8, 0]
    np.testing.assert_allclose(model.dof_damping, [5, 5, 0, 0])
    np.testing.assert_allclose(model.dof_frictionloss, [6, 6, 0, 0])


def test_urdf_rpy_turns_about_fixed_axes(write):
    inner = '<origin rpy="1.5707963267948966 0 1.5707963267948966"/>'
    text = f'<link name="a">{BALL}</link><link name="b"/>{joint("j", "fixed", "a", "b", inner)}'
    model = load_robot(write("r.urdf", f'<robot name="r">{text}</robot>')).compile()
    # Roll takes z to -y, then yaw takes -y to x. (Rotating axes would give -y.)
    z_axis = np.zeros(3)
    mujoco.mju_rotVecQuat(z_axis, np.array([0.0, 0.0, 1.0]), model.body_quat[2])
    np.testing.assert_allclose(z_axis, [1, 0, 0], atol=1e-9)


def test_urdf_children_come_in_order_of_joint_name(write):
    links = "".join(f'<link name="{n}">{BALL}</link>' for n in ("root", "rf", "lh", "lf", "foot"))
    hinges = [("RF", "rf"), ("LH", "lh"), ("LF", "lf")]
    text = links + "".join(joint(j, "continuous", "root", child) for j, child in hinges)
    text += joint("toe", "continuous", "lf", "foot")
    model = load_robot(
        write("r.urdf", f'<robot name="r">{text}</robot>'), fixed_base=True
    ).compile()
    assert names(model, "joint") == ["LF", "toe", "LH", "RF"]
    assert names(model, "body") == ["world", "root", "lf", "foot", "lh", "rf"]


def test_urdf_collapsing_fixed_joints_adds_mass_and_keeps_marked_links(write):
    ball = '<inertial><mass value="1"/><inertia ixx="1" iyy="1" izz="1"/></inertial>'
    text = "".join(
        f'<link name="{n}">{ball}{BALL}</link>' for n in ("base", "mount", "arm", "foot")
    )
    text += joint("m", "fixed", "base", "mount", '<origin xyz="0 0 2"/>')
    text += joint("a", "continuous", "mount", "arm", '<origin xyz="1 0 0"/>')
    text += joint("f", "fixed", "arm", "foot").replace('"fixed"', '"fixed" dont_collapse="true"')
    robot = write("r.urdf", f'<robot name="r">{text}</robot>')
    assert names(load_robot(robot).compile(), "body")[1:] == ["base", "mount", "arm", "foot"]
    model = load_robot(robot, collapse_fixed_joints=True).compile()
    assert names(model, "body")[1:] == ["base", "arm", "foot"]
    # 1 kg at z = 0 and 1 kg at z = 2: centre 1, and each adds m d^2 = 1 about x and y.
    np.testing.assert_allclose(model.body_mass[1:], [2, 1, 1])
    np.testing.assert_allclose(model.body_ipos[1], [0, 0, 1])
    np.testing.assert_allclose(link_inertia(model, 1), np.diag([4, 4, 2]), atol=1e-9)
    np.testing.assert_allclose(model.body_pos[2], [1, 0, 2])
    assert model.geom_pos[model.geom_bodyid == 1][:, 2].tolist() == [0, 2]


def test_urdf_visuals_are_drawn_and_collisions_collide(write):
    shapes = (
        '<box size="2 4 6"/>',
        '<cylinder radius="1" length="4"/>',
        '<capsule radius="1" length="4"/>',
    )
    text = "".join(collision(s) for s in shapes)
    visual = (
        '<visual><geometry><sphere radius="3"/></geometry><material name="red"/></visual>'
        '<visual><geometry><mesh filename="nowhere.dae"/></geometry></visual>'
    )
    red = '<material name="red"><color rgba="1 0 0 1"/></material>'
    robot = write("r.urdf", f'<robot name="r">{red}<link name="a">{text}{visual}</link></robot>')
    model = load_robot(robot).compile()
    kind = mujoco.mjtGeom
    sphere, box = kind.mjGEOM_SPHERE, kind.mjGEOM_BOX
    assert model.geom_type.tolist() == [sphere, box, kind.mjGEOM_CYLINDER, kind.mjGEOM_CAPSULE]
    # half extents; radius and half length
    np.testing.assert_allclose(model.geom_size, [[3, 0, 0], [1, 2, 3], [1, 2, 0], [1, 2, 0]])
    assert model.geom_contype.tolist() == model.geom_conaffinity.tolist() == [0, 1, 1, 1]
    assert model.geom_group.tolist() == [2, 3, 3, 3]
    assert model.geom_rgba[0].tolist() == [1, 0, 0, 1]
    # without a visual to draw, the collision shapes are what a renderer shows
    bare = write("bare.urdf", f'<robot name="r"><link name="a">{text}</link></robot>')
    assert load_robot(bare).compile().geom_group.tolist() == [0, 0, 0]


def test_urdf_package_mesh_is_found_above_the_file_and_hulled(write, tmp_path):
    write_stl(tmp_path / "meshes" / "cube.stl", CUBE)
    shape = '<mesh filename="package://robot_pkg/meshes/cube.stl" scale="1 1 2"/>'
    visual = f"<visual><geometry>{shape}</geometry></visual>"
    robot = write(
        "urdf/deep/r.urdf",
        f'<robot name="r"><link name="a">{visual}{collision(shape)}</link></robot>',
    )
    model = load_robot(robot).compile()
    assert model.nmesh == 1
    assert model.ngeom == 2
    assert model.body_mass[1] == pytest.approx(2000)  # 1 x 1 x 2 m of water
    np.testing.assert_allclose(model.body_ipos[1], [0.5, 0.5, 1], atol=1e-6)
    assert names(scene_with(load_robot(robot).spec), "mesh") == ["robot/cube"]


def test_urdf_flat_visual_mesh_is_drawn(write, tmp_path, caplog):
    write_stl(tmp_path / "label.stl", CUBE[:2])  # the face x = 0
    visual = '<visual><geometry><mesh filename="label.stl"/></geometry></visual>'
    robot = write("r.urdf", f'<robot name="r"><link name="a">{visual}{BALL}</link></robot>')
    model = load_robot(robot).compile()
    assert "skipped" not in caplog.text
    assert model.geom_type[0] == mujoco.mjtGeom.mjGEOM_MESH
    assert model.body_mass[1] == pytest.approx(4000 / 3 * np.pi * 0.1**3)  # the ball alone


def test_urdf_unreadable_visual_meshes_are_skipped_with_one_warning(write, caplog):
    write("body.dae", "<COLLADA/>")
    visual = '<visual><geometry>\n<mesh filename="{}"/></geometry></visual>'
    text = visual.format("body.dae") * 2 + visual.format("gone.stl") + BALL
    robot = write("r.urdf", f'<robot name="r"><link name="a">{text}</link></robot>')
    with caplog.at_level(logging.WARNING):
        assert load_robot(robot).compile().ngeom == 1
    (message,) = caplog.messages
    assert str(robot) in message
    assert "body.dae (it cannot be read as COLLADA) (line 2), gone.stl (no file" in message


def test_urdf_root_is_free_unless_fixed(write):
    for name, unsaid in (("base", 6), ("world", 0)):
        robot = write("r.urdf", f'<robot name="r"><link name="{name}">{BALL}</link></robot>')
        for fixed_base, nv in ((None, unsaid), (False, 6), (True, 0)):
            assert load_robot(robot, fixed_base=fixed_base).compile().nv == nv
    scene = Scene()
    scene.add_actor("robot", robot)
    assert names(scene.compile(), "body") == ["world", "robot/world"]


@pytest.mark.parametrize("fixed_base", [True, False])
def test_joined_links_do_not_collide_and_others_do(write, fixed_base):
    # base - shell (fixed), base - arm (hinge), arm - hand (hinge): all four balls overlap
    text = "".join(f'<link name="{n}">{BALL}</link>' for n in ("base", "shell", "arm", "hand"))
    text += joint("s", "fixed", "base", "shell") + joint("a", "continuous", "base", "arm")
    text += joint("h", "continuous", "arm", "hand")
    robot = load_robot(write("r.urdf", f'<robot name="r">{text}</robot>'), fixed_base=fixed_base)
    model = scene_with(robot.spec)
    data = mujoco.MjData(model)
    mujoco.mj_forward(model, data)
    touching = {tuple(sorted(model.geom_bodyid[list(c.geom)])) for c in data.contact}
    hand = names(model, "body").index("robot/hand")
    base, shell = (names(model, "body").index(f"robot/{n}") for n in ("base", "shell"))
    assert touching == {tuple(sorted((hand, base))), tuple(sorted((hand, shell)))}


# MJCF -------------------------------------------------------------------------------------------

MESSY_MJCF = """<mujoco>
<compiler angle="degree" settotalmass="7"/><option timestep="0.5"/><size njmax="3"/>
<custom><numeric name="n" data="1"/></custom>
<asset><texture name="gone" type="2d" file="gone.png"/><material name="skin" texture="gone"/>
</asset><default><geom density="500" material="undefined"/></default>
<worldbody>
  <geom name="floor" type="plane" size="1 1 1" material="grid"/><light name="sun"/><camera/>
  <body name="torso" pos="0 0 2"><freejoint/><camera name="eye"/>
    <geom name="ball" size=".1" class="unknown"/>
    <body pos="0 0 .3"><joint name="knee" range="-90 90"/><geom size=".1" material="skin"/></body>
  </body>
</worldbody>
<contact><pair geom1="ball" geom2="floor"/></contact>
<actuator><motor joint="knee"/></actuator>
<keyframe><key qpos="0 0 2 1 0 0 0 0"/></keyframe>
</mujoco>"""


def test_mjcf_keeps_the_robot_and_drops_scenery_options_and_dangling_references(write, caplog):
    file = write("robot.xml", MESSY_MJCF)
    with caplog.at_level(logging.WARNING):
        robot = load_robot(file)
    (message,) = caplog.messages
    for part in ("gone.png", "'undefined' (line 9)", "class 'unknown' (line 9)"):
        assert part in message
    model = scene_with(robot.spec)
    assert names(model, "body") == ["world", "robot/torso", "robot/body2"]
    assert (model.nv, model.nu, model.nkey, model.nnumeric, model.npair) == (7, 1, 0, 0, 0)
    assert (model.ngeom, model.nlight, model.ncam) == (3, 0, 1)  # the scene's plane and two balls
    assert model.opt.timestep == 0.002
    np.testing.assert_allclose(model.body_mass[1:], 3.5, rtol=1e-6)  # settotalmass="7"
    np.testing.assert_allclose(model.jnt_range[1], [-np.pi / 2, np.pi / 2])  # so do its degrees


def test_mjcf_fixed_base_decides_over_the_file(write):
    free = write("free.xml", MESSY_MJCF)
    assert [load_robot(free, fixed_base=f).compile().nv for f in (None, True, False)] == [7, 1, 7]
    fixed = write("fixed.xml", MESSY_MJCF.replace("<freejoint/>", ""))
    assert [load_robot(fixed, fixed_base=f).compile().nv for f in (None, True, False)] == [1, 1, 7]
    hinged = write("hinged.xml", MESSY_MJCF.replace("<freejoint/>", '<joint name="root"/>'))
    assert load_robot(hinged, fixed_base=True).compile().nv == 2
    with pytest.raises(PhalanxError, match=r"hinged.xml.*'torso' moves on joint 'root'"):
        load_robot(hinged, fixed_base=False)


def test_mjcf_files_are_relative_to_the_main_file_and_meshdir(write, tmp_path):
    write_stl(tmp_path / "robot" / "stl" / "cube.stl", CUBE)
    write("robot/parts/assets.xml", '<mujoco><asset><mesh file="cube.stl"/></asset></mujoco>')
    body = '<body name="a"><geom type="mesh" mesh="cube"/></body>'
    robot = write(
        "robot/r.xml",
        f'<mujoco><compiler meshdir="stl"/><include file="parts/assets.xml"/>'
        f"<worldbody>{body}</worldbody></mujoco>",
    )
    assert scene_with(load_robot(robot).spec).body_mass[1] == pytest.approx(1000)


def test_mjcf_root_inside_a_frame_keeps_its_pose(write):
    body = '<body name="a" pos="1 0 0"><geom size=".1"/></body>'
    frame = f'<frame pos="0 0 1" euler="0 0 90"><geom size="1"/>{body}</frame>'
    file = write("r.xml", f"<mujoco><worldbody>{frame}</worldbody></mujoco>")
    model = scene_with(load_robot(file).spec)
    # turned by 90 degrees about z, x points along y; the scene adds 0.5 m in z
    np.testing.assert_allclose(model.body_pos[1], [0, 1, 1.5], atol=1e-9)
    np.testing.assert_allclose(model.body_quat[1], [0.5**0.5, 0, 0, 0.5**0.5])


# Errors -----------------------------------------------------------------------------------------


def urdf(inner: str) -> str:
    return f'<robot name="r">\n{inner}</robot>'


def shaped(shape: str) -> str:
    return urdf(f'<link name="a">{collision(shape)}</link>')


def mjcf(inner: str) -> str:
    return f"<mujoco>\n<worldbody>{inner}</worldbody></mujoco>"


LINKS = '<link name="a"/><link name="b"/>'

FAULTS = {
    "syntax": ("r.xml", "<mujoco>\n<worldbody>\n</mujoco>", r"line 3: not well-formed.*mismatched"),
    "empty": ("r.xml", "", r"is empty; give a robot file"),
    "encoding": ("r.xml", '<?xml version="1.0" encoding="klingon"?><mujoco/>', "save it as UTF-8"),
    "root element": ("r.xml", "<sdf/>", "line 1, <sdf>: .*neither <mujoco> nor <robot>"),
    "part of a file": ("r.xml", "<mujocoinclude/>", "give the file that includes it"),
    "extension": ("r.usd", "", r"'\.usd'; accepted: \.xml, \.mjcf, \.urdf"),
    "xacro": ("r.urdf", urdf('<xacro:arm name="x"/>'), "line 2, <xacro:arm name='x'>.*run xacro"),
    "entity bomb": (
        "r.urdf",
        '<!DOCTYPE r [<!ENTITY a "aa"><!ENTITY b "&a;&a;">]>\n<robot name="&b;"/>',
        "line 1: a DOCTYPE is not accepted",
    ),
    "depth": ("r.xml", mjcf("<body>" * 500 + "</body>" * 500), "nested more than 400 deep"),
    "mjcf keyword": (
        "r.xml",
        mjcf('\n<body name="b">\n<geom type="blob"/></body>'),
        "line 4, <geom>.*'blob'",
    ),
    "mjcf compile": (
        "r.xml",
        mjcf('\n<body name="b">\n<geom name="g" size="0"/></body>'),
        "line 4, <geom name='g'>: .*number 1 of its size must be positive",
    ),
    "mjcf names": (
        "r.xml",
        mjcf('<body name="a"><geom size="1"/>\n<body name="a"><geom size="1"/></body></body>'),
        "<body name='a'>: MuJoCo cannot use this: repeated name 'a' in body",
    ),
    "mjcf no body": ("r.xml", mjcf('<geom size="1"/>'), "no body below the world"),
    "mjcf include": (
        "r.xml",
        '<mujoco><include file="x.xml"/></mujoco>',
        "line 1, <include file='x.xml'>",
    ),
    "mjcf mesh": (
        "r.xml",
        '<mujoco><asset>\n<mesh file="arm.stl"/></asset><worldbody><body><geom type="mesh"'
        ' mesh="arm"/></body></worldbody></mujoco>',
        "line 2, <mesh name='arm'>: no file .*arm.stl.*; supply the file or correct meshdir",
    ),
    "no links": ("r.urdf", urdf(""), "has no <link>"),
    "unnamed link": ("r.urdf", urdf("<link/>"), "line 2, <link>: .*needs a name"),
    "same name": ("r.urdf", urdf('<link name="a"/><link name="a"/>'), "name is taken in line 2"),
    "two roots": ("r.urdf", urdf(LINKS), "links 'a', 'b' have no parent"),
    "no parent": (
        "r.urdf",
        urdf('<link name="arm"/>' + joint("j", "fixed", "arn", "arm")),
        "<joint name='j'>: its parent link 'arn' does not exist; did you mean 'arm'",
    ),
    "two parents": (
        "r.urdf",
        urdf(LINKS + joint("j", "fixed", "a", "b") + joint("k", "fixed", "a", "b")),
        "<joint name='k'>: link 'b' is already the child of joint 'j'",
    ),
    "cycle": (
        "r.urdf",
        urdf(LINKS + joint("j", "fixed", "a", "b") + joint("k", "fixed", "b", "a")),
        "part of a cycle",
    ),
    "joint type": (
        "r.urdf",
        urdf(LINKS + joint("j", "Revolute", "a", "b")),
        "'Revolute' is not supported; did you mean 'revolute'",
    ),
    "axis": (
        "r.urdf",
        urdf(LINKS + joint("j", "continuous", "a", "b", '<axis xyz="0 0 0"/>')),
        "axis is zero",
    ),
    "number": (
        "r.urdf",
        shaped('<box size="1 nan 1"/>'),
        "<box>: size='1 nan 1' is not finite",
    ),
    "size": (
        "r.urdf",
        shaped('<sphere radius="-1"/>'),
        "positive",
    ),
    "shape": (
        "r.urdf",
        shaped("<cone/>"),
        "<cone>: the <collision> of link 'a' has no supported shape",
    ),
    "mass": (
        "r.urdf",
        urdf('<link name="a"><inertial><mass value="-1"/></inertial></link>'),
        "<mass>: value='-1' is negative",
    ),
    "collision mesh": (
        "r.urdf",
        shaped('<mesh filename="package://p/arm.stl"/>'),
        "collision mesh of link 'a' cannot be used: no file 'package://p/arm.stl'",
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_is_one_sentence_naming_file_and_place(write, fault):
    name, text, expected = FAULTS[fault]
    file = write(name, text)
    with pytest.raises(PhalanxError, match=expected) as raised:
        load_robot(file)
    assert str(file) in str(raised.value)
    assert "\n" not in str(raised.value)


def test_collada_collision_mesh_is_an_error(write):
    write("arm.dae", "<COLLADA/>")
    file = write("r.urdf", shaped('<mesh filename="arm.dae"/>'))
    with pytest.raises(
        PhalanxError, match=r"line 2, <mesh filename='arm.dae'>.*cannot be read as COLLADA"
    ):
        load_robot(file)


def test_error_for_a_missing_file_lists_existing_files(write, tmp_path):
    write("ant.xml", MESSY_MJCF)
    with pytest.raises(PhalanxError, match=r"antt\.xml; did you mean 'ant\.xml'"):
        load_robot(tmp_path / "antt.xml")
    with pytest.raises(PhalanxError, match=r"is a folder; give a robot file in it: ant\.xml"):
        load_robot(tmp_path)
    with pytest.raises(PhalanxError, match="its folder does not exist"):
        load_robot(tmp_path / "nowhere" / "ant.xml")


# Isaac Gym's own robots -------------------------------------------------------------------------


def shared(name: str) -> Path:
    if not SHARED.is_dir():
        pytest.skip(f"robot files are not in {SHARED}")
    return SHARED / name


ANYMAL = "urdf/anymal_c/urdf/"


@pytest.mark.parametrize(
    ("name", "bodies", "dofs"),
    [
        # links or bodies and joints in the files; Isaac Gym reports the same for the MJCF ones
        ("urdf/cartpole.urdf", 3, 2),
        ("mjcf/nv_ant.xml", 9, 8),
        ("mjcf/nv_humanoid.xml", 16, 21),
        ("mjcf/amp_humanoid.xml", 15, 28),
        (f"{ANYMAL}anymal.urdf", 78, 12),
        (f"{ANYMAL}anymal_minimal.urdf", 76, 12),
    ],
)
def test_real_robots_load_and_simulate(name, bodies, dofs):
    model = scene_with(load_robot(shared(name), fixed_base=False).spec)
    assert (model.nbody - 1, model.nv - 6) == (bodies, dofs)
    assert np.isfinite(model.body_mass).all()
    moving = model.body_weldid[1:] == np.arange(1, model.nbody)
    assert (model.body_mass[1:][moving] > 0).all()
    assert (model.body_inertia[1:][moving] > 0).all()
    data = mujoco.MjData(model)
    for _ in range(100):
        mujoco.mj_step(model, data)
    assert np.isfinite(data.qpos).all()
    assert np.isfinite(data.qvel).all()
    assert data.warning.number.sum() == 0


def test_cartpole_is_isaac_gyms():
    robot = load_robot(shared("urdf/cartpole.urdf"), fixed_base=True)
    model = robot.compile()
    assert [note.item for note in robot.notes] == ["'slider' 7.2 kg", "'cart'", "'pole'"]
    assert names(model, "body")[1:] == ["slider", "cart", "pole"]
    assert names(model, "joint") == ["slider_to_cart", "cart_to_pole"]
    np.testing.assert_allclose(model.jnt_axis, [[0, 1, 0], [1, 0, 0]])
    assert model.jnt_limited.tolist() == [1, 0]
    np.testing.assert_allclose(model.jnt_range[0], [-4, 4])
    np.testing.assert_allclose(model.body_mass[2:], [1, 1])
    np.testing.assert_allclose(model.body_ipos[3], [0, 0, 0.47])
    # 1 kg of 0.04 x 0.06 x 1 m: (0.06^2 + 1, 0.04^2 + 1, 0.04^2 + 0.06^2) / 12
    expected = np.diag([1.0036, 1.0016, 0.0052]) / 12
    np.testing.assert_allclose(link_inertia(model, 3), expected, atol=1e-9)


def test_anymal_has_isaac_gyms_joint_order():
    file = shared(f"{ANYMAL}anymal_minimal.urdf")
    model = load_robot(file, fixed_base=True, collapse_fixed_joints=True).compile()
    legs = [f"{leg}_{j}" for leg in ("LF", "LH", "RF", "RH") for j in ("HAA", "HFE", "KFE")]
    assert names(model, "joint") == legs


def test_attributes_of_older_mujoco_and_taken_names_are_mended_with_a_note(tmp_path, caplog):
    """As in OpenAI's Shadow hand and DexterousHands' pot; Isaac Gym skips what it does not know."""
    path = tmp_path / "r.xml"
    path.write_text("""<mujoco><option apirate="200" mpr_iterations="7" timestep="0.003">
      <flag passive="disable"/></option><worldbody><body name="a" friction="1 1 1">
      <geom name="g" size="0.1"/><geom name="g" size="0.2"/></body></worldbody></mujoco>""")
    with pytest.raises(PhalanxError, match=r"unrecognized attribute: 'friction'"):
        load_robot(path)  # a mistake of the user
    robot = load_robot(path, drop_unknown=True)
    assert [g.name for g in robot.spec.geoms] == ["g", "g_1"]
    assert robot.options["timestep"] == 0.003
    assert robot.options["ccd_iterations"] == 7
    for part in ("apirate of <option>", "friction of <body> (line 2)", "name was taken: 'g'"):
        assert part in caplog.text


def test_what_a_urdf_has_too_much_is_left_out_with_a_note(tmp_path, caplog):
    """dribblebot's go1.urdf has a link and a joint twice; others have links that nothing joins."""
    links = "".join(f'<link name="{name}"/>' for name in ("base", "leg", "tool", "tip"))
    path = tmp_path / "r.urdf"
    path.write_text(
        urdf(
            links
            + joint("hip", "fixed", "base", "leg")
            + joint("hip", "fixed", "tool", "leg")
            + '<link name="leg"><visual/></link>'
            + joint("grip", "revolute", "tool", "tip", "<limit effort='1' velocity='1'/>")
        )
    )
    model = load_robot(path, fixed_base=True, drop_unknown=True).compile()
    assert names(model, "body")[1:] == ["base", "leg"]
    assert model.njnt == 0
    assert "left out links and joints with the name of an earlier one: 'leg'" in caplog.text
    assert "left out links that no joint connects to the robot: 'tool'" in caplog.text


def test_a_link_that_nothing_joins_does_not_take_the_robots_place(tmp_path, caplog):
    path = tmp_path / "r.urdf"
    links = "".join(f'<link name="{name}"/>' for name in ("marker", "base", "leg", "arm"))
    limit = "<limit effort='1' velocity='1'/>"
    hip = joint("hip", "revolute", "base", "leg", limit)
    path.write_text(urdf(links + hip + joint("shoulder", "revolute", "base", "arm", limit)))
    robot = load_robot(path, fixed_base=True, drop_unknown=True)
    assert names(robot.compile(), "body")[1:] == ["base", "leg", "arm"]
    assert "connects to the robot: 'marker'" in caplog.text
    path.write_text(urdf(links + hip + joint("hip", "revolute", "base", "arm", limit)))
    with pytest.raises(PhalanxError, match="the name is taken in line"):
        load_robot(path, drop_unknown=True)  # a limb would be missing


def test_malformed_mjcf_of_isaac_gym_is_corrected_with_a_note(tmp_path, caplog):
    """What IsaacGymEnvs' Ingenuity has: joints of one name, limits without room, visual meshes of
    a kind that MuJoCo cannot read, a body of such a mesh alone, a hinge at the root."""
    (tmp_path / "prop.glb").write_bytes(b"glTF\x02")
    path = tmp_path / "r.xml"
    path.write_text("""<mujoco><asset><mesh name="prop" file="prop.glb"/></asset><worldbody>
      <body name="hull"><joint name="root" limited="true" range="0 0"/><geom size="0.1"/>
        <body name="a"><joint name="roll" limited="true" range="2 -1"/><geom size="0.1"/></body>
        <body name="b"><joint name="roll"/>
          <geom type="mesh" mesh="prop" contype="0" conaffinity="0"/></body>
      </body></worldbody></mujoco>""")
    model = load_robot(path, fixed_base=False, drop_root_joints=True).compile()
    assert names(model, "body")[1:] == ["hull", "a", "b"]
    assert names(model, "joint")[1:] == ["roll", "roll_1"]
    assert model.jnt_type[0] == mujoco.mjtJoint.mjJNT_FREE
    np.testing.assert_allclose(np.degrees(model.jnt_range[1]), [-1, 2])
    assert 0 < model.body_mass[3] < 0.01
    note = caplog.text
    for part in (
        "prop.glb",
        "name was taken: 'roll'",
        "joints of the root: 'root'",
        "corrected the range",
    ):
        assert part in note
    # Where the mesh collides, nothing can stand in for it.
    path.write_text(path.read_text().replace('contype="0" conaffinity="0"', ""))
    with pytest.raises(PhalanxError, match=r"prop\.glb"):
        load_robot(path)
