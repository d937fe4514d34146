"""`phalanx robot`: what it says of a robot's file, how the robot falls, and mistakes in words."""

import dataclasses
import inspect
import json
import math
import re
import shutil
from pathlib import Path

import mujoco
import mujoco_menagerie
import numpy as np
import pytest
import trimesh

import command_line
from phalanx import tasks
from phalanx.cli.main import main
from phalanx.cli.robot import RobotOptions
from phalanx.errors import PhalanxError
from phalanx.robot import HeldRobot, default_pose, drop, facts_of, read_robot
from phalanx.robot.drives import drives_of
from phalanx.robot.write import whole_spec, write_mjcf
from phalanx.sim import Scene
from small_robots import ARM, BOX, LEG, LEGS, MOTORS, QUADRUPED, biped


@pytest.fixture
def cwd(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "80")
    for name, text in {"dog": QUADRUPED, "arm": ARM, "box": BOX}.items():
        (tmp_path / f"{name}.xml").write_text(text)
    return tmp_path


def held(source, **options):
    robot = read_robot(str(source), **options)
    return HeldRobot(robot, default_pose(robot))


def sentence(capsys, *arguments):
    """What `phalanx robot` says of a mistake."""
    return command_line.sentence(capsys, "robot", *arguments)


def test_a_robot_above_a_table_of_its_file_stays_there_and_one_with_room_stands_on_the_ground(cwd):
    for x, base in ((0, 0.35), (5, 0.06)):
        table = f'<body name="table" pos="{x} 0 .1"><geom type="box" size="1 1 .1"/></body>'
        (cwd / "box.xml").write_text(
            '<mujoco><worldbody><body name="box" pos="0 0 .35"><freejoint/>'
            f'<geom type="box" size=".05 .05 .05"/></body>{table}</worldbody></mujoco>'
        )
        box = held("box.xml")
        assert box.start[2] == pytest.approx(base)
        assert drop(box).highest_speed < 1.5


@pytest.mark.parametrize("toe", [0.04, -0.03])
def test_bent_legs_stand_on_flat_soles_under_the_weight(cwd, toe):
    (cwd / "biped.xml").write_text(biped(toe))
    robot = read_robot("biped.xml")
    pose = default_pose(robot)
    assert pose.name == "its legs bent by Phalanx"
    data = mujoco.MjData(robot.model)
    data.qpos[:] = pose.qpos
    mujoco.mj_forward(robot.model, data)
    soles = [data.geom(g).xpos[0] for g in np.flatnonzero(robot.model.geom_size[:, 0] == 0.11)]
    tilts = [data.body(f).xmat[6] for f in pose.feet]
    assert np.abs(tilts).max() < 2e-3  # a sole of 22 cm is flat within half a millimetre
    assert np.abs(np.array(soles) - data.subtree_com[0, 0]).max() < 5e-3
    assert drop(HeldRobot(robot, pose)).verdict == "stands"


def test_facts_are_those_of_the_file(cwd):
    facts = facts_of(read_robot("dog.xml"))
    assert (facts.name, facts.format, facts.base) == ("dog", "MJCF", "free")
    assert facts.mass == pytest.approx(7.2)
    assert [b.name for b in facts.bodies[:4]] == ["trunk", "FL_thigh", "FL_shank", "FL_foot"]
    assert [b.depth for b in facts.bodies[:4]] == [0, 1, 2, 3]
    thigh = facts.bodies[1]
    assert (thigh.parent, thigh.mass, thigh.com) == ("trunk", 0.3, (0, 0, -0.1))
    assert (thigh.collision_shapes, thigh.drawn_shapes) == (1, 0)
    free, hip = facts.joints[:2]
    assert (free.type, free.axis, free.effort) == ("free", (), None)
    assert (hip.type, hip.axis, hip.lower, hip.upper) == ("hinge", (0, 1, 0), -1.5, 1.5)
    assert (hip.effort, hip.armature, hip.velocity) == (20, 0.01, None)
    motor = facts.actuators[0]
    assert (motor.type, motor.target, motor.control, motor.gear) == ("motor", "FL_hip", (-1, 1), 20)
    assert [(s.name, s.type, s.on, s.size) for s in facts.sensors] == [("gyro", "gyro", "imu", 3)]
    servo = facts_of(read_robot("arm.xml")).actuators[0]
    assert (servo.type, servo.force) == ("position", (-60, 60))
    assert (servo.stiffness, servo.damping) == (200, 10)


def test_what_was_mended_and_what_overlaps_is_said(cwd):
    text = ARM.replace("-2 2", "2 -2", 1).replace('pos="0 0 0.3"', 'pos="0 0 -0.06"')
    (cwd / "bad.xml").write_text(text.replace("<geom", '<geom material="gold"', 1))
    facts = facts_of(read_robot("bad.xml"))
    assert any("line 8" in note.place for note in facts.notes)
    assert any("'gold'" in note.item for note in facts.notes)
    overlap = facts.overlaps[0]
    assert {overlap.first, overlap.second} == {"base", "lower"}
    assert overlap.depth == pytest.approx(0.03)  # base's top 0.05, lower end of the arm 0.02
    assert facts_of(read_robot("arm.xml")).overlaps == []


def test_a_box_lands_with_the_speed_of_a_free_fall(cwd):
    result = drop(held("box.xml"))
    assert result.verdict == "stands"
    assert result.highest_speed == pytest.approx(math.sqrt(2 * 9.81 * 0.01), rel=0.05)
    assert set(result.force_between) == {"box", "the ground"}
    assert result.highest_force > 2 * 9.81 / 4  # at rest, each corner carries a quarter
    assert (result.fastest_body, result.fastest_joint, result.feet) == ("box", "", ())


GROUND = {"contype": 1, "conaffinity": 1, "condim": 3, "friction": [1, 0.005, 0.0001]}


def plain_drop(path, held):
    """Highest speed of a body [m/s] and the base's height at the end [m] in plain MuJoCo, from the
    file itself; of `held` only the servos' numbers, the pose, time step and
    integrator."""
    spec = mujoco.MjSpec.from_file(str(path))
    for element in [*spec.actuators, *spec.keys, *spec.sensors]:
        spec.delete(element)
    for option in ("timestep", "integrator", "disableflags"):
        setattr(spec.option, option, getattr(held.model.opt, option))
    if not held.file.is_fixed:
        spec.worldbody.add_geom(type=mujoco.mjtGeom.mjGEOM_PLANE, size=[0, 0, 1], **GROUND)
    for d in held.drives:
        spec.add_actuator(
            name=d.joint, target=d.joint, trntype=mujoco.mjtTrn.mjTRN_JOINT,
            biastype=mujoco.mjtBias.mjBIAS_AFFINE, gainprm=[d.stiffness] + [0] * 9,
            biasprm=[0, -d.stiffness, -d.damping] + [0] * 7, forcerange=[-d.effort, d.effort],
        )  # fmt: skip
    model = spec.compile()
    data = mujoco.MjData(model)
    data.qpos[:] = held.start
    joints = [model.joint(d.joint).qposadr[0] for d in held.drives]
    highest, velocity = 0.0, np.zeros(6)
    for _ in range(round(2 / model.opt.timestep)):
        data.ctrl[:] = held.start[joints]
        mujoco.mj_step(model, data)
        for body in range(1, model.nbody):
            mujoco.mj_objectVelocity(model, data, mujoco.mjtObj.mjOBJ_XBODY, body, velocity, 0)
            highest = max(highest, float(np.linalg.norm(velocity[3:])))
    return highest, float(data.xpos[1, 2])


@pytest.mark.parametrize("robot", ["box", "dog", "arm", "go1", "anymal_c", "g1"])
def test_a_drop_is_that_of_plain_mujoco(cwd, robot):
    assets = Path(tasks.__file__).parent / "assets"
    path = cwd / f"{robot}.xml" if robot in ("box", "dog", "arm") else assets / f"{robot}.xml"
    file = read_robot(str(path))
    held_robot = HeldRobot(file, default_pose(file))
    result = drop(held_robot)
    height = float(held_robot.data.xpos[1, 2])
    highest, rest = plain_drop(path, held_robot)
    assert result.seconds == 2
    assert result.highest_speed == pytest.approx(highest, rel=1e-6, abs=1e-9)
    assert height == pytest.approx(rest, abs=1e-9)


def test_verdicts(cwd):
    pole = BOX.replace('size="0.1 0.1 0.1"', 'size="0.02 0.02 0.5" euler="0 10 0"')
    (cwd / "pole.xml").write_text(pole)
    assert drop(held("pole.xml")).verdict == "falls"
    (cwd / "ghost.xml").write_text(BOX.replace("mass=", 'contype="0" conaffinity="0" mass='))
    assert drop(held("ghost.xml")).verdict == "falls through"
    egg = 'type="ellipsoid" size="0.3 0.3 0.1" euler="0 15 0"'
    (cwd / "egg.xml").write_text(BOX.replace('type="box" size="0.1 0.1 0.1"', egg))
    assert drop(held("egg.xml")).verdict == "moves"
    rails = '<joint name="x" type="slide" axis="1 0 0"/><joint name="z" type="slide" axis="0 0 1"/>'
    (cwd / "plane.xml").write_text(QUADRUPED.replace("<freejoint/>", rails))
    plane = read_robot("plane.xml")
    assert plane.base_kind == "guided"
    assert drop(HeldRobot(plane, default_pose(plane))).verdict == "stands"
    spring = ARM.replace('damping="0.1"', 'stiffness="1e9" springref="1"')
    (cwd / "spring.xml").write_text(spring)
    result = drop(held("spring.xml"))
    assert result.verdict == "bursts"
    assert result.seconds < 2
    result = drop(held("arm.xml"))
    assert (result.verdict, result.at_effort_limit) == ("holds", ())
    (cwd / "weak.xml").write_text(ARM.replace("-60 60", "-0.5 0.5").replace("-2 2", "0.5 2"))
    result = drop(held("weak.xml"))
    assert result.at_effort_limit == ("shoulder",)


HOOK = '<site name="hook" pos="0 0 2"/>'
TIES = {
    "a weld": ("", '<equality><weld name="tie" body1="box"/></equality>', "tied"),
    "a connect": ("", '<equality><connect name="tie" body1="box" body2="world" anchor="0 0 0"/>'
                  "</equality>", "tied"),
    "a weld to a mocap body": ('<body name="hand" mocap="true"/>', '<equality><weld name="tie"'
                               ' body1="hand" body2="box"/></equality>', "tied"),
    "a tendon": (HOOK, '<tendon><spatial name="tie" range="0 0.9"><site site="hook"/>'
                 '<site site="top"/></spatial></tendon>', "tied"),
    "a slack tendon": (HOOK, '<tendon><spatial name="tie"><site site="hook"/>'
                       '<site site="top"/></spatial></tendon>', "free"),
    "a weld that is off": ("", '<equality><weld name="tie" body1="box" active="false"/>'
                           "</equality>", "free"),
}  # fmt: skip


@pytest.mark.parametrize("tie", TIES)
def test_what_ties_a_robot_to_the_world_keeps_it_where_its_file_has_it(cwd, capsys, tie):
    """On the ground, a metre below, the same tie would throw it about."""
    beside, tied, kind = TIES[tie]
    box = BOX.replace('name="box">', 'name="box" pos="0 0 1">', 1)
    box = box.replace("</body>", f'<site name="top" pos="0 0 0.1"/></body>{beside}')
    (cwd / "tied.xml").write_text(box.replace("</worldbody>", f"</worldbody>{tied}"))
    facts = facts_of(read_robot("tied.xml"))
    assert facts.base == kind
    assert [c.name for c in facts.constraints] == ["tie"]
    hanging = held("tied.xml")
    result = drop(hanging)
    assert result.verdict == ("holds" if kind == "tied" else "stands")
    assert hanging.data.body("robot/box").xpos[2] == pytest.approx(
        1 if kind == "tied" else 0.1, abs=0.02
    )
    if kind == "tied":
        assert "tied to the world" in command_line.sentence(capsys, "new", "p", "robot=tied.xml")


def test_options_of_the_file_are_shown_with_those_that_a_scene_decides(cwd, capsys):
    option = '<option timestep="0.001" gravity="0 0 0" cone="elliptic" impratio="10"/><worldbody>'
    (cwd / "space.xml").write_text(BOX.replace("<worldbody>", option))
    assert facts_of(read_robot("space.xml")).options["gravity"] == "0 0 0"
    main(["robot", "space.xml"])
    text = capsys.readouterr().out
    assert "hold in a scene: impratio 10, cone elliptic" in text
    assert "left to the scene: timestep 0.001, gravity 0 0 0" in text


def test_a_dog_on_straight_legs_gets_bent_ones_and_stands(cwd):
    robot = read_robot("dog.xml")
    pose = default_pose(robot)
    names = [robot.model.body(f).name for f in pose.feet]
    assert names == ["FL_foot", "FR_foot", "RL_foot", "RR_foot"]
    hips, knees = pose.qpos[7::2], pose.qpos[8::2]
    # cosine rule: thigh and shank of 0.2 m between points 0.7 * 0.4 m apart
    np.testing.assert_allclose(knees, -2 * math.acos(0.7), atol=0.03)
    np.testing.assert_allclose(hips, math.acos(0.7), atol=0.1)  # the legs' own weight shifts it
    result = drop(HeldRobot(robot, pose))
    assert result.verdict == "stands"
    assert result.feet == ("FL_foot", "FR_foot", "RL_foot", "RR_foot")


def test_straight_legs_whose_parts_lie_side_by_side_are_bent_too(cwd):
    """As ANYmal's, in which hip, thigh and shank are beside each other."""
    roll = '<joint name="{name}_roll" axis="1 0 0" range="-.7 .7"/><geom size=".03" mass=".3"/>'
    leg = LEG.replace('pos="{x} {y} 0"', 'pos=".06 .08 0"').replace("0 0 -0.2", "0 0.1 -0.2", 2)
    leg = f'<body name="{{name}}_roll" pos="{{x}} {{y}} 0">{roll}{leg}</body>'
    dog = QUADRUPED.replace(MOTORS, "")
    for name, (x, y) in LEGS.items():
        dog = dog.replace(LEG.format(name=name, x=x, y=y), leg.format(name=name, x=x, y=y))
    (cwd / "wide.xml").write_text(dog)
    assert default_pose(read_robot("wide.xml")).name == "its legs bent by Phalanx"


def test_a_keyframe_named_home_is_the_pose(cwd):
    numbers = "0 0 0.35 1 0 0 0" + " 0.7 -1.4" * 4
    keys = (
        f'<keyframe><key name="home" qpos="{numbers}"/><key name="x" qpos="{numbers}"/></keyframe>'
    )
    (cwd / "key.xml").write_text(QUADRUPED.replace("<sensor>", f"{keys}<sensor>"))
    robot = read_robot("key.xml")
    assert default_pose(robot).name == "keyframe 'home'"
    np.testing.assert_allclose(default_pose(robot, "x").qpos[7:], [0.7, -1.4] * 4)
    with pytest.raises(PhalanxError, match="has no keyframe 'hme'; did you mean 'home'"):
        default_pose(robot, "hme")


def test_servos_follow_the_file(cwd):
    motors = drives_of(read_robot("dog.xml").model)
    assert [(d.stiffness, d.damping, d.effort, d.guessed) for d in motors] == [
        (20, 0.5, 20, False)
    ] * 8
    shoulder = drives_of(read_robot("arm.xml").model)[0]
    assert (shoulder.stiffness, shoulder.damping, shoulder.effort) == (200, 10, 60)
    (cwd / "bare.xml").write_text(re.sub(r"<actuator>.*</actuator>", "", QUADRUPED))
    bare = drives_of(read_robot("bare.xml").model)
    assert [d.joint for d in bare] == [d.joint for d in motors]
    assert all(d.guessed and 2 < d.effort < 50 for d in bare)


def test_what_six_digits_would_make_impossible_is_written(cwd):
    plate = '<inertial pos="0 0 0" mass="1" diaginertia="0.1234564 0.1234564 0.2469128"/>'
    text = BOX.replace("<freejoint/>", f"<freejoint/>{plate}")
    text = text.replace("<worldbody>", '<default><geom material="none"/></default><worldbody>')
    (cwd / "plate.xml").write_text(text)
    robot = read_robot("plate.xml")
    write_mjcf(whole_spec(robot), cwd / "again.xml")
    again = read_robot("again.xml")
    np.testing.assert_array_equal(again.model.body_inertia, robot.model.body_inertia)


def test_the_written_file_is_the_same_robot_wherever_it_is_moved(cwd):
    (cwd / "meshes").mkdir()
    corners = [(x, y, z) for x in (0, 1) for y in (0, 1) for z in (0, 1)]
    lines = "".join(f"v {x} {y} {z}\n" for x, y, z in corners)
    for folder in ("meshes", "."):
        (cwd / folder / "cube.obj").write_text(lines + "f 1 2 3\nf 2 4 3\nf 5 7 6\nf 6 7 8\n"
            "f 1 5 2\nf 2 5 6\nf 3 4 7\nf 4 8 7\nf 1 3 5\nf 3 7 5\nf 2 6 4\nf 4 6 8\n")  # fmt: skip
    assets = (
        '<asset><mesh name="a" file="meshes/cube.obj" scale=".1 .1 .1"/>'
        '<mesh name="b" file="cube.obj" scale=".2 .1 .1"/></asset>'
    )
    text = BOX.replace("<worldbody>", f"{assets}<worldbody>").replace(
        "</body>", '<geom type="mesh" mesh="a"/><geom type="mesh" mesh="b"/></body>'
    )
    (cwd / "cubes.xml").write_text(text)
    robot = read_robot("cubes.xml")
    write_mjcf(whole_spec(robot), cwd / "out" / "clean.xml")
    shutil.move(cwd / "out", cwd / "moved")
    shutil.rmtree(cwd / "meshes")
    again = mujoco.MjModel.from_xml_path(str(cwd / "moved" / "clean.xml"))
    assert sorted(p.name for p in (cwd / "moved" / "clean_assets").iterdir()) == [
        "cube.obj",
        "cube_1.obj",
    ]
    for field in ("body_mass", "body_inertia", "geom_pos", "mesh_vert", "jnt_type"):
        np.testing.assert_allclose(getattr(again, field), getattr(robot.model, field), rtol=1e-5)


def test_options_and_keyframes_are_written_too(cwd):
    extra = (
        '<option cone="elliptic" impratio="10" timestep="0.001"><flag gravity="disable"/></option>'
    )
    keys = '<key name="bent" qpos="1 -1" ctrl="1 -1" mpos="0 0 2" mquat="0 1 0 0" time="1.5"/>'
    keys = f"<keyframe>{keys}</keyframe>"
    text = ARM.replace("<worldbody>", f'{extra}<worldbody><body name="aim" mocap="true"/>')
    text = text.replace("</mujoco>", f"{keys}</mujoco>")
    (cwd / "arm.xml").write_text(text)
    main(["robot", "arm.xml", "out=new/again.xml", "keyframe=bent"])
    first, second = (mujoco.MjModel.from_xml_path(f) for f in ("arm.xml", "new/again.xml"))
    for name in ("cone", "impratio", "timestep", "disableflags"):
        assert getattr(first.opt, name) == getattr(second.opt, name)
    np.testing.assert_array_equal(first.key_qpos, second.key_qpos)
    for name in ("ctrl", "mpos", "mquat", "time"):
        np.testing.assert_array_equal(*(getattr(m, f"key_{name}") for m in (first, second)))
    assert second.key(0).name == "bent"


def test_several_bodies_below_the_world_are_one_robot_or_one_is_chosen(cwd, capsys):
    box = BOX[BOX.index("<body") : BOX.index("</worldbody>")]
    crate = box.replace('<body name="box"', '<body name="crate" pos="1 0 0"')
    pair = BOX.replace("</worldbody>", f"{crate}</worldbody>")
    (cwd / "pair.xml").write_text(pair)
    facts = facts_of(read_robot("pair.xml"))
    assert [b.name for b in facts.bodies] == ["box", "crate"]
    assert facts.mass == 4
    assert drop(held("pair.xml")).verdict == "stands"
    assert [b.name for b in facts_of(read_robot("pair.xml", root="crate")).bodies] == ["crate"]
    main(["robot", "pair.xml", "root=crate"])
    assert "2 kg" in capsys.readouterr().out


def test_the_tables_fit_80_columns_and_json_has_the_same(cwd, capsys):
    main(["robot", "dog.xml"])
    text = capsys.readouterr().out
    assert max(map(len, text.splitlines()[2:])) <= 80  # below two sentences
    for words in ("7.2 kg, free base", "FL_thigh", "hinge y", "-1.5 .. 1.5", "gyro", "it stands"):
        assert words in text
    main(["robot", "dog.xml", "json=true"])
    facts = json.loads(capsys.readouterr().out)
    assert facts["mass"] == pytest.approx(7.2)
    assert facts["joints"][1]["upper"] == 1.5
    assert facts["drop"]["verdict"] == "stands"


def test_every_option_of_add_actor_is_a_key(cwd, capsys):
    options = set(inspect.signature(Scene.add_actor).parameters)
    options -= {"self", "name", "path", "pos", "quat"}
    assert options <= {field.name for field in dataclasses.fields(RobotOptions)}
    shapes = '<collision><geometry><box size=".1 .1 .1"/></geometry></collision>'
    shapes += '<collision><geometry><mesh filename="cup.stl"/></geometry></collision>'
    links = f'<link name="base">{shapes}</link><link name="arm">{shapes}</link><link name="tip"/>'
    joints = "".join(
        f'<joint name="{child}" type="{kind}"><parent link="{parent}"/><child link="{child}"/>'
        "</joint>"
        for kind, parent, child in (("continuous", "base", "arm"), ("fixed", "arm", "tip"))
    )
    (cwd / "r.urdf").write_text(f'<robot name="r">{links}{joints}</robot>')
    trimesh.creation.annulus(0.03, 0.05, 0.1).export(cwd / "cup.stl")

    def facts(*arguments):
        main(["robot", "r.urdf", "json=true", *arguments])
        return json.loads(capsys.readouterr().out)

    plain = facts("fixed_base=true")
    heavy = facts("fixed_base=true", "density=2000", "armature=0.5", "collapse_fixed_joints=true")
    assert heavy["mass"] == pytest.approx(2 * plain["mass"], rel=1e-4)
    assert [j["armature"] for j in heavy["joints"]] == [0.5]
    assert [b["name"] for b in heavy["bodies"]] == ["base", "arm"]
    assert sum(b["collision_shapes"] for b in plain["bodies"]) == 4
    split = facts("fixed_base=true", "decompose=cup")
    assert sum(b["collision_shapes"] for b in split["bodies"]) > 6
    (cwd / "low.xml").write_text(ARM.replace('pos="0 0 0.3"', 'pos="0 0 -0.06"'))
    for choice, overlaps in (("true", 1), ("false", 0), ("except_overlaps", 1)):
        main(["robot", "low.xml", f"self_collisions={choice}"])
        said = capsys.readouterr().out
        assert ("no contacts, since they overlap" in said) == (choice == "except_overlaps")
        assert ("mm" in said) == bool(overlaps)
    assert "root= is for MJCF files" in sentence(capsys, "r.urdf", "root=base")
    assert "density= is for URDF files" in sentence(capsys, "dog.xml", "density=1")
    assert "density is -1.0; it must be at least 0" in sentence(capsys, "r.urdf", "density=-1")
    assert "a URDF cannot have one; `phalanx new" in sentence(capsys, "r.urdf", "keyframe=home")
    assert "no collision mesh 'cip' to decompose; did you mean 'cup'?" in sentence(
        capsys, "r.urdf", "decompose=cip"
    )


def test_picture_and_file_are_written(cwd, capsys):
    main(["robot", "dog.xml", "picture=dog.png", "out=clean/dog.xml"])
    said = capsys.readouterr().out
    assert "picture: dog.png" in said
    assert (cwd / "dog.png").read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
    assert (cwd / "dog.png").stat().st_size > 20_000  # a single colour has 3 kB
    assert facts_of(read_robot("clean/dog.xml")).joints == facts_of(read_robot("dog.xml")).joints


def test_every_mistake_is_one_sentence(cwd, capsys, monkeypatch):
    assert "robot needs a file or a name" in sentence(capsys)
    assert "no file dg.xml; did you mean 'dog.xml'?" in sentence(capsys, "dg.xml")
    (cwd / "broken.xml").write_text("<mujoco><worldbody></mujoco>")
    assert "broken.xml, line 1" in sentence(capsys, "broken.xml")
    assert "did you mean 'unitree_go2'?" in sentence(capsys, "unitre_go2")
    assert "no keyframe 'home'; it has: none; add <keyframe><key" in sentence(
        capsys, "dog.xml", "keyframe=home"
    )
    assert "must end in .png" in sentence(capsys, "dog.xml", "picture=dog.gif")
    assert "must end in .xml or .mjcf" in sentence(capsys, "dog.xml", "out=dog.urdf")
    assert "the robot's own file" in sentence(
        capsys, "dog.xml", "out=.././" + cwd.name + "/dog.xml"
    )
    assert "cannot write" in sentence(capsys, "dog.xml", "out=dog.xml/x.xml")
    assert "unknown key 'pictur'; did you mean 'picture'?" in sentence(
        capsys, "dog.xml", "pictur=a"
    )
    assert "robot is given twice" in sentence(capsys, "dog.xml", "arm.xml")
    monkeypatch.setenv("MENAGERIE_CACHE_DIR", str(cwd / "cache"))
    monkeypatch.setenv("MENAGERIE_BASE_URL", (cwd / "nowhere").as_uri())
    said = sentence(capsys, "unitree_go2")
    assert "cannot download unitree_go2 of MuJoCo Menagerie" in said
    assert "MENAGERIE_ROOT" in said
    said = sentence(capsys, "unitree_go2/goo2")
    assert "unitree_go2 has no model 'goo2'; did you mean 'go2'?" in said


def test_a_name_of_the_menagerie_is_a_file_in_its_cache(cwd, capsys, monkeypatch):
    robot = mujoco_menagerie.get("unitree_go2")
    (cwd / "menagerie" / "unitree_go2").mkdir(parents=True)
    file = cwd / "menagerie" / "unitree_go2" / robot.entry(robot.default_model).file
    file.write_text(QUADRUPED)
    monkeypatch.setenv("MENAGERIE_ROOT", str(cwd / "menagerie"))
    for name in ("unitree_go2", "robot=unitree_go2", f"unitree_go2/{robot.default_model}"):
        main(["robot", name])
        assert "dog: MJCF file" in capsys.readouterr().out
