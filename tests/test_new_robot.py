"""`phalanx new robot=`: a task around a robot's file, which trains as it is; tasks without a train
config of their own."""

import ast
import errno
import logging
import os
import re
import sys
import threading
from pathlib import Path

import mujoco
import numpy as np
import pytest
import torch
import yaml

from command_line import sentence
from phalanx import tasks
from phalanx.cli import new_robot, new_walker
from phalanx.cli.config import compose_config, train_params
from phalanx.cli.main import main
from phalanx.cli.settings import say_how_to_write_train
from phalanx.errors import PhalanxError
from phalanx.rl import Runner
from phalanx.robot import HeldRobot, default_pose, read_robot
from recorder import Recorder
from small_robots import ARM, BOX, QUADRUPED, biped

WHEELED = """
<robot name="cart">
  <link name="body"><inertial><mass value="4"/><inertia ixx=".05" iyy=".05" izz=".05"/></inertial>
    <collision><geometry><box size="0.4 0.2 0.1"/></geometry></collision></link>
  {wheels}
</robot>
"""
WHEEL = """
  <link name="wheel{i}"><inertial><mass value="0.3"/><inertia ixx=".001" iyy=".001" izz=".001"/></inertial>
    <collision><geometry><sphere radius="0.08"/></geometry></collision></link>
  <joint name="axle{i}" type="continuous"><parent link="body"/><child link="wheel{i}"/>
    <origin xyz="{x} {y} -0.04"/><axis xyz="0 1 0"/><limit effort="2" velocity="20"/></joint>
"""  # noqa: E501


@pytest.fixture
def cwd(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(threading, "excepthook", threading.excepthook)
    monkeypatch.setattr(sys, "path", [*sys.path])
    wheels = [WHEEL.format(i=i, x=0.15 * x, y=0.12 * y) for i, (x, y) in enumerate(CORNERS)]
    robots = {"dog.xml": QUADRUPED, "arm.xml": ARM, "box.xml": BOX}
    robots["cart.urdf"] = WHEELED.format(wheels="".join(wheels))
    for name, text in robots.items():
        (tmp_path / name).write_text(text)
    yield tmp_path
    for name in [n for n in sys.modules if n.startswith("phalanx_project_")]:
        del sys.modules[name]


CORNERS = [(1, 1), (1, -1), (-1, 1), (-1, -1)]


def test_a_task_has_the_numbers_of_the_robot(cwd, capsys, monkeypatch):
    main(["new", "mine", "robot=dog.xml", "task=DogWalk"])
    said = capsys.readouterr().out
    assert "the task DogWalk for dog.xml: follow commanded velocities" in said
    assert "it stands" in said
    assert "phalanx train task=DogWalk" in said
    monkeypatch.chdir("mine")
    env = tasks.make("DogWalk", 4, "cpu", engine="mujoco")
    assert (env.num_obs, env.num_actions) == (14 + 3 * 8, 8)
    model = env.sim.model
    assert env.action_scale == 0.5  # rad, of all robots that walk
    assert model.nu == 8  # servos in place of the motors, whose effort limit is kept
    np.testing.assert_array_equal(model.actuator_forcerange, [[-20, 20]] * 8)
    env.reset()
    lowest = env.sim.xpos[:, [model.body(f"robot/{leg}_foot").id for leg in ("FL", "RR")], 2]
    assert (lowest - 0.03).abs().max() < 0.02  # the feet, balls of 3 cm, are on the ground
    for _ in range(50):
        _, reward, terminated, _, _ = env.step(torch.zeros(4, 8))
        assert not terminated.any()
    assert torch.isfinite(reward).all()
    assert sum(t.size for t in env.observation_layout()) == env.num_obs
    assert env.action_layout().kind == "position"
    assert set(tasks.names()) >= {"DogWalk", "Ant"}


@pytest.mark.parametrize(("robot", "good", "bad"), [
    ("dog.xml", [0.2, 0, 0.1], [9, 0, 0]), ("arm.xml", [0.5, -0.5], [0.5]),
])  # fmt: skip
def test_a_written_task_takes_a_command(cwd, capsys, monkeypatch, robot, good, bad):
    main(["new", "mine", f"robot={robot}", "task=Mine"])
    monkeypatch.chdir("mine")
    env = tasks.make("Mine", 2, "cpu", engine="mujoco")
    env.give_command(good)
    env.reset()
    for _ in range(3):
        env.step(torch.zeros(2, env.num_actions))
    command = env.commands.values if hasattr(env, "commands") else env.command
    torch.testing.assert_close(command, torch.tensor([good, good], dtype=torch.float32))
    with pytest.raises(PhalanxError, match=r"must be|trained within"):
        env.give_command(bad)


@pytest.mark.parametrize(("load", "stiffness"), [(0.1, 20), (8, 40)])
def test_servos_are_as_stiff_as_it_takes_to_stand(cwd, monkeypatch, load, stiffness):
    """With 8 kg on it the dog sinks to 75 % of its height while its servos are soft."""
    rider = f'<freejoint/><geom size=".05" pos="0 0 .1" mass="{load}"/>'
    (cwd / "loaded.xml").write_text(QUADRUPED.replace("<freejoint/>", rider))
    main(["new", "mine", "robot=loaded.xml"])
    monkeypatch.chdir("mine")
    model = tasks.make("Loaded", 2, "cpu").sim.model
    np.testing.assert_array_equal(model.actuator_gainprm[:, 0], [stiffness] * 8)
    np.testing.assert_array_equal(model.actuator_forcerange, [[-20, 20]] * 8)


def test_feet_that_are_capsules_between_two_points_stay_where_they_are(cwd, monkeypatch):
    """MuJoCo takes a shape's two ends or its position, not both."""
    text = re.sub(
        r'<geom [^>]*/>\s*<body name="\w\w_foot" pos="0 0 -0.2">\s*<geom [^>]*/>\s*</body>',
        '<geom type="capsule" fromto="0 0.01 0 0 0 -0.2" size="0.03" mass="0.3"/>',
        QUADRUPED,
    )
    assert "_foot" not in text
    (cwd / "capsules.xml").write_text(text)
    main(["new", "mine", "robot=capsules.xml"])
    written = mujoco.MjModel.from_xml_path("mine/tasks/capsules/assets/capsules.xml")
    models = [read_robot("capsules.xml").model, written]
    places = []
    for model in models:
        data = mujoco.MjData(model)
        mujoco.mj_kinematics(model, data)
        places.append(data.geom_xpos - data.xpos[1])
    np.testing.assert_allclose(places[1], places[0], atol=1e-6)


def test_feet_that_are_shapes_of_a_shank_get_bodies_of_their_own(cwd, monkeypatch):
    """With the dog's masses, at the places of its feet."""
    text = re.sub(
        r'<body name="\w\w_foot" pos="0 0 -0.2">\s*<geom (type="sphere" [^>]*)/>\s*</body>',
        r'<geom \1 pos="0 0 -0.2"/>',
        QUADRUPED,
    )
    assert "_foot" not in text
    (cwd / "footless.xml").write_text(text)
    for robot in ("dog", "footless"):
        main(["new", "mine", f"robot={robot}.xml", f"task={robot.capitalize()}Walk"])
    monkeypatch.chdir("mine")
    still = {"engine": "mujoco", "randomize": False, "reset_joint_pos": 0.0, "reset_velocity": 0.0}
    dog, own = (tasks.make(name, 2, "cpu", **still) for name in ("DogWalk", "FootlessWalk"))
    assert own.config.feet == tuple(f"{leg}_shank_foot" for leg in ("FL", "FR", "RL", "RR"))
    assert own.config.gait_offsets == dog.config.gait_offsets == (0.0, 0.5, 0.5, 0.0)  # a trot
    assert own.config.foot_radius == pytest.approx(0.03, abs=1e-3)
    assert own.config.falls_on == ("trunk",)
    assert own.sim.model.body_mass.sum() == pytest.approx(7.2)
    for env in (dog, own):
        env.reset()
        for _ in range(50):
            _, _, terminated, _, _ = env.step(torch.zeros(2, 8))
            assert not terminated.any()
    torch.testing.assert_close(dog.feet.height, own.feet.height, atol=2e-3, rtol=0)
    assert own.feet.contact.all()


def test_a_wheel_at_the_end_of_a_leg_is_a_foot_as_a_whole(cwd, monkeypatch):
    """Not the shape of it that is lowest just now, which would turn with it."""
    foot = re.compile(
        r'(<body name="(\w\w)_foot" pos="0 0 -0.2">)\s*<geom type="sphere" size="0.03"'
    )
    wheel = (
        r'\1<joint name="\2_spin" axis="0 1 0"/><geom type="cylinder" zaxis="0 1 0" size=".1 .02"'
    )
    motors = "".join(f'<motor joint="{leg}_spin" gear="5"/>' for leg in ("FL", "FR", "RL", "RR"))
    text = foot.sub(wheel, QUADRUPED).replace("</actuator>", f"{motors}</actuator>")
    (cwd / "rover.xml").write_text(text)
    main(["new", "mine", "robot=rover.xml"])
    monkeypatch.chdir("mine")
    config = tasks.make("Rover", 1, "cpu", engine="mujoco").config
    assert config.feet == ("FL_foot", "FR_foot", "RL_foot", "RR_foot")
    assert config.foot_radius == pytest.approx(0.1, abs=1e-3)


def test_what_is_rigidly_joined_to_the_base_falls_and_what_is_joined_to_a_leg_does_not(
    cwd, monkeypatch
):
    """As in URDFs whose root link is empty, and whose links have fixed parts."""
    text = QUADRUPED.replace(
        '<geom type="box" size="0.25 0.1 0.05" mass="5"/>',
        '<geom size=".01" mass=".1" contype="0" conaffinity="0"/>'
        '<body name="shell"><geom type="box" size="0.25 0.1 0.05" mass="5"/></body>',
    )
    knee = re.compile(r'(<body name="(\w\w)_shank")')
    text = knee.sub(r'<body name="\2_cap"><geom size=".03" mass=".01"/></body>\1', text)
    (cwd / "shells.xml").write_text(text)
    main(["new", "mine", "robot=shells.xml"])
    monkeypatch.chdir("mine")
    config = tasks.make("Shells", 1, "cpu", engine="mujoco").config
    assert config.falls_on == ("shell",)
    assert {"FL_cap", "FL_thigh"} <= set(config.not_to_touch)


def test_what_the_file_has_beside_the_robot_is_no_part_of_it(cwd, capsys, monkeypatch):
    """Unitree's H1, R1 and G1 carry unused bodies 20 m above the ground; what hangs lower than the
    feet does not lift them."""
    (cwd / "alone.xml").write_text(biped())
    joint = '<joint name="{0}" axis="0 0 1"/><inertial pos="0 0 0" mass=".1" diaginertia="1 1 1"/>'
    beside = f'<body name="unused" pos="0 0 20">{joint.format("spin")}</body>'
    beside += '<body name="pit" pos="9 0 -5"><geom size=".1" mass="1"/></body>'
    (cwd / "h1.xml").write_text(biped().replace("</worldbody>", f"{beside}</worldbody>"))
    alone, robot = read_robot("alone.xml"), read_robot("h1.xml")
    held = [HeldRobot(file, default_pose(file)) for file in (alone, robot)]
    for file, h in zip((alone, robot), held, strict=True):
        assert [file.model.body(f).name for f in h.pose.feet] == ["l_foot", "r_foot"]
    np.testing.assert_allclose(held[1].start[: alone.model.nq], held[0].start, atol=1e-6)
    ball = '<body name="ball" pos="9 0 1"><freejoint/><geom size=".1" mass="1"/></body>'
    (cwd / "h1.xml").write_text((cwd / "h1.xml").read_text().replace(beside, beside + ball))
    main(["new", "mine", "robot=h1.xml"])
    said = "of its 4 bodies below the world, the task has 'hips', the only free one with joints to"
    assert said in capsys.readouterr().out
    monkeypatch.chdir("mine")
    assert tasks.make("H1", 1, "cpu", engine="mujoco").config.feet == ("l_foot", "r_foot")


ARMS = """
<body name="shoulder" pos="0 .25 .3"><joint name="swing" axis="0 1 0" range="-1 1"/>
  <geom size=".02" mass=".1"/>
  <body name="hand"><joint name="fold" axis="1 0 0" range="-1 1"/>
    <geom type="capsule" fromto="0 0 0 0 0 -.25" size=".03" mass=".5"/></body></body>"""
CROSSED = {
    "dog": (QUADRUPED, {"FL_hip": 1.4, "FL_knee": 0, "RL_hip": -1.5, "RL_knee": 0}, "FL_thigh"),
    "biped": (biped(arms=ARMS), {"fold": -0.8}, "hips"),
}


@pytest.mark.parametrize("robot", CROSSED)
def test_bodies_of_a_robot_that_walks_pass_through_each_other(cwd, monkeypatch, robot):
    """Else a leg that touches another one costs reward, and a hand on the own hips is a fall; who
    has them touch gets neither."""
    text, crossed, body = CROSSED[robot]
    (cwd / "walker.xml").write_text(text)
    main(["new", "mine", "robot=walker.xml"])
    monkeypatch.chdir("mine")
    for own, given in ((False, {}), (True, {"self_collisions": True})):
        env = tasks.make("Walker", 2, "cpu", engine="mujoco", randomize=False, **given)
        env.reset()
        env.sim.qpos[:, 2] += 1  # away from the ground
        for joint, angle in crossed.items():
            env.sim.qpos[:, int(env.sim.model.joint(f"robot/{joint}").qposadr[0])] = angle
        felt = torch.zeros(2, len(env.robot.contact_body_names))
        counts = felt.clone()
        for _ in range(8):
            env.sim.advance(1)
            felt += env.robot.contact_force.norm(dim=-1)
            counts = torch.maximum(counts, env.pressing().norm(dim=-1))
        assert (felt[:, env.robot.contact_body_names.index(body)] > 1).tolist() == [own] * 2
        assert own or not felt.any()
        assert counts.max() < 1e-3  # away from the ground, nothing is a fall or costs


def test_servos_of_a_file_that_hardly_damp_are_damped(cwd, monkeypatch):
    """Menagerie's ANYmals have a stiffness of 100 and joints that damp with 1."""
    servos = re.sub(
        r'<motor ([^>]*)gear="20" ctrlrange="-1 1"/>', r'<position \1kp="100"/>', QUADRUPED
    )
    (cwd / "loose.xml").write_text(servos.replace('range="-2.5 0"', 'range="-2.5 0" damping="1"'))
    main(["new", "mine", "robot=loose.xml"])
    monkeypatch.chdir("mine")
    model = tasks.make("Loose", 1, "cpu", engine="mujoco").sim.model
    np.testing.assert_array_equal(model.actuator_gainprm[:, 0], [100] * 8)
    np.testing.assert_array_equal(-model.actuator_biasprm[:, 2], [2.5, 1.5] * 4)


@pytest.mark.parametrize(("kp", "stiffness", "softer"), [(500, 20, 8), (60, 60, 0)])
def test_servos_of_a_file_that_are_too_stiff_to_learn_with_are_softer(
    cwd, capsys, monkeypatch, kp, stiffness, softer
):
    """Menagerie's G1 has servos of 500 N m/rad, which give all their effort, here 20, at once."""
    position = rf'<position \1kp="{kp}" forcerange="-20 20"/>'
    servos = re.sub(r'<motor ([^>]*)gear="20" ctrlrange="-1 1"/>', position, QUADRUPED)
    (cwd / "stiff.xml").write_text(servos)
    main(["new", "mine", "robot=stiff.xml"])
    assert (f"servos of {softer} joints" in capsys.readouterr().out) == bool(softer)
    monkeypatch.chdir("mine")
    model = tasks.make("Stiff", 1, "cpu", engine="mujoco").sim.model
    np.testing.assert_array_equal(model.actuator_gainprm[:, 0], [stiffness] * 8)


def test_the_kind_of_robot_decides_the_goal(cwd, capsys, monkeypatch):
    main(["new", "mine", "robot=cart.urdf"])
    assert "the task Cart for cart.urdf: stand still" in capsys.readouterr().out
    (cwd / "bolted.urdf").write_text((cwd / "cart.urdf").read_text().replace("continuous", "fixed"))
    assert "no joint that could be driven" in sentence(capsys, "new", "mine", "robot=bolted.urdf")
    text = (cwd / "cart.urdf").read_text().replace("-0.04", "0.1")  # the wheels are in the air
    (cwd / "hands.urdf").write_text(text)
    main(["new", "mine", "robot=hands.urdf"])
    said = capsys.readouterr().out
    assert "neither legs nor wheels, so its base is fixed" in said
    assert "move the joints" in said
    main(["new", "mine", "robot=arm.xml"])
    assert "the task Arm for arm.xml: move the joints" in capsys.readouterr().out
    monkeypatch.chdir("mine")
    for name in ("Cart", "Arm"):
        env = tasks.make(name, 4, "cpu")
        env.reset()
        for _ in range(10):
            _, reward, _, _, _ = env.step(2 * torch.rand(4, env.num_actions) - 1)
        assert torch.isfinite(reward).all()
        assert sum(t.size for t in env.observation_layout()) == env.num_obs


def test_a_base_whose_frame_lies_on_the_ground_has_not_sunk(cwd, capsys, monkeypatch):
    text = (cwd / "cart.urdf").read_text().replace("-0.04", "0.08")
    for part in ("inertial", "collision"):
        text = text.replace(f"<{part}>", f'<{part}><origin xyz="0 0 0.12"/>', 1)
    (cwd / "low.urdf").write_text(text)
    main(["new", "mine", "robot=low.urdf", "fixed_base=false"])
    monkeypatch.chdir("mine")
    env = tasks.make("Low", 2, "cpu")
    env.reset()
    for _ in range(5):
        _, _, terminated, _, _ = env.step(torch.zeros(2, env.num_actions))
        assert not terminated.any()
    assert env.robot.root_pos[:, 2].abs().max() < 0.01


def test_huge_limits_are_none_and_locked_joints_are_not_driven(cwd, capsys, monkeypatch):
    text = ARM.replace('range="-2 2"', 'range="-1e16 1e16"', 1).replace("-2 2", "0 0.00001")
    (cwd / "odd.xml").write_text(re.sub("(?s)<actuator>.*</actuator>", "", text))
    main(["new", "mine", "robot=odd.xml"])
    monkeypatch.chdir("mine")
    env = tasks.make("Odd", 4, "cpu")
    assert env.num_actions == 1
    assert (env.middle - env.half).item() == pytest.approx(-1.5)
    env.reset()
    _, reward, _, _, _ = env.step(torch.ones(4, 1))
    assert torch.isfinite(reward).all()


def test_arms_track_their_commands_if_the_action_is_the_command(cwd, capsys, monkeypatch):
    main(["new", "mine", "robot=arm.xml"])
    monkeypatch.chdir("mine")
    env = tasks.make("Arm", 16, "cpu")
    env.reset()
    for _ in range(100):
        _, reward, _, _, _ = env.step(env.command.clone())
    assert reward.min() > 0.9


def train(tmp_path, *arguments):
    """The mean return of each iteration, once episodes have ended."""
    recorder = Recorder()
    runner = Runner(recorder)
    config = compose_config([*arguments, "seed=1", "sim_device=cpu", f"train_dir={tmp_path}"])
    runner.load({"params": train_params(config)})
    runner.run({"train": True})
    return [row[3] for row in recorder.rows if recorder.lengths[row[0] - 1]]


def test_it_trains_at_the_first_try(cwd, capsys, monkeypatch, one_thread):
    main(["new", "mine", "robot=arm.xml", "task=ArmReach"])
    monkeypatch.chdir("mine")
    returns = train(cwd, "task=ArmReach", "num_envs=128", "max_iterations=45")
    assert returns[-1] > returns[0] + 50


def test_a_dog_learns_not_to_fall(cwd, capsys, monkeypatch, one_thread):
    main(["new", "mine", "robot=dog.xml", "task=DogWalk"])
    monkeypatch.chdir("mine")
    returns = train(cwd, "task=DogWalk", "num_envs=64", "max_iterations=30")
    assert returns[-1] > min(returns[:5]) + 1, returns  # first episodes are parts of one


def test_a_task_without_a_train_config_gets_a_general_one(cwd, monkeypatch, caplog, one_thread):
    main(["new", "mine", "robot=arm.xml"])
    monkeypatch.chdir("mine")
    Path("cfg/train/ArmPPO.yaml").unlink()
    say_how_to_write_train.cache_clear()
    with caplog.at_level(logging.WARNING):
        config = compose_config(["task=Arm"])
    assert config.train.params.algo["name"] == "a2c_continuous"
    own = cwd / "mine" / "cfg" / "train" / "ArmPPO.yaml"
    assert "Arm has no train config of its own and takes ContinuousPPO" in caplog.text
    assert f"to {own}" in caplog.text
    task = Path("tasks/arm/arm.py")
    spaces = {
        "Discrete(5)": ("a2c_discrete", "discrete"),
        "MultiDiscrete((3, 5))": ("a2c_discrete", "multi_discrete"),
    }
    written = task.read_text()
    for space, (algorithm, kind) in spaces.items():
        property_ = f"    @property\n    def action_space(self):\n        return {space}\n\n"
        text = written.replace("    def create_scene", property_ + "    def create_scene")
        task.write_text("from phalanx.spaces import Discrete, MultiDiscrete\n" + text)
        del sys.modules["phalanx_project_arm"]
        config = compose_config(["task=Arm"])
        assert config.train.params.algo["name"] == algorithm
        assert list(config.train.params.network["space"]) == [kind]
    main(["train", "task=Arm", "--help"])
    Path("cfg/train/ArmPPO.yaml").write_text("params: {algo: {name: sac}, network: {}, config: {}}")
    assert compose_config(["task=Arm"]).train.params.algo["name"] == "sac"


def test_general_train_configs_fit_their_spaces(cwd, one_thread):
    for train_config, discrete in (("ContinuousPPO", 0), ("DiscretePPO", 3)):
        returns = train(
            cwd, f"train={train_config}", f"task.env.discrete_actions={discrete}", "num_envs=16",
            "max_iterations=2",
        )  # fmt: skip
        assert returns


def test_every_mistake_is_one_sentence(cwd, capsys):
    assert "no file dg.xml; did you mean 'dog.xml'?" in sentence(
        capsys, "new", "mine", "robot=dg.xml"
    )
    assert "task= needs the robot's file" in sentence(capsys, "new", "mine", "task=Dog")
    assert "unknown key 'robt'; did you mean 'robot'?" in sentence(
        capsys, "new", "mine", "robt=dog.xml"
    )
    said = sentence(capsys, "new", "mine", "robot=dog.xml", "task=dog-walk")
    assert "task=dog-walk cannot be the name of a class" in said
    assert "Ant is a task of Phalanx" in sentence(
        capsys, "new", "mine", "robot=dog.xml", "task=Ant"
    )
    Path("scene.xml").write_text(ARM)
    for name in ("robot=scene.xml", "robot=arm.xml task=True", "robot=arm.xml task=Joint"):
        said = sentence(capsys, "new", "mine", *name.split())
        assert "is a name that the task's own code uses; choose another name, as in task=" in said
    assert "no joint that could be driven" in sentence(capsys, "new", "mine", "robot=box.xml")
    assert not Path("mine").exists()
    main(["new", "mine", "robot=dog.xml"])
    capsys.readouterr()
    before = Path("mine/tasks/dog/dog.py").read_text()
    assert "dog.py already exists" in sentence(capsys, "new", "mine", "robot=dog.xml")
    assert Path("mine/tasks/dog/dog.py").read_text() == before


def test_no_name_of_a_file_or_a_joint_becomes_code(cwd, monkeypatch):
    """Names may have quotes, line breaks, spaces, and words that stand for others in templates."""
    joints = iter(("my_task MyTask &quot;&quot;&quot;&#10;x", "my_robot.xml\\"))
    text = re.sub('joint name="[^"]*"', lambda _: f'joint name="{next(joints, "y")}"', ARM)
    file = 'a""";raise SystemExit;"""\nraise SystemExit.xml'
    Path(file).write_text(text)
    main(["new", "my_robots", f"robot={file}", "task=Mine"])
    monkeypatch.chdir("my_robots")
    names = list(tasks.find("Mine").create_scene.__globals__["JOINTS"])
    assert names == ['my_task MyTask """\nx', "my_robot.xml\\"]
    Path("dog.xml").write_text(QUADRUPED.replace("trunk", "my_task"))
    main(["new", ".", "robot=dog.xml"])
    config = yaml.safe_load(Path("cfg/task/Dog.yaml").read_text())["randomization_params"]
    (actor,) = config["actor_params"].values()
    assert actor["rigid_body_properties"]["com"]["bodies"] == ["my_task"]
    long = [f"left foot {k} of the robot" for k in range(9)]
    assert ast.literal_eval(new_walker._texts(long)) == tuple(long)


def test_nothing_is_left_of_a_project_that_could_not_be_written(cwd, capsys, monkeypatch):
    monkeypatch.setattr("phalanx.cli.new_robot.write_mjcf", full)
    assert "cannot write a.xml: no space left" in sentence(capsys, "new", "mine", "robot=arm.xml")
    assert not (cwd / "mine").exists()


def test_nothing_is_left_of_a_project_whose_robot_mujoco_refuses(cwd, capsys, monkeypatch):
    def spoil(held):
        spec = _spec(held)
        spec.bodies[-1].add_geom()  # a sphere without a size
        return spec

    _spec = new_robot._spec
    monkeypatch.setattr(new_robot, "_spec", spoil)
    (cwd / "mine" / "tasks").mkdir(parents=True)
    said = sentence(capsys, "new", "mine", "robot=arm.xml")
    assert "MuJoCo cannot compile what is to be written to mine/tasks/arm/assets/arm.xml" in said
    assert [p.name for p in (cwd / "mine").rglob("*")] == ["tasks"]


def full(spec, path):
    folder = path.with_name("arm_assets")
    folder.mkdir(parents=True)
    (folder / "a.stl").touch()
    path.touch()
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "a.xml")


def test_overlapping_bodies_of_the_pose_do_not_collide(cwd, capsys, monkeypatch):
    text = QUADRUPED.replace('name="FL_thigh" pos="0.2 0.1 0"', 'name="FL_thigh" pos="0.2 -0.09 0"')
    (cwd / "close.xml").write_text(text)
    main(["new", "mine", "robot=close.xml"])
    said = capsys.readouterr().out
    assert "overlap in its default pose, and so do not collide: 7" in said
    robot = read_robot("close.xml")
    for for_task in (False, True):  # what is said of its stand is said of the task
        held = HeldRobot(robot, default_pose(robot), 0.0, for_task=for_task)
        pushed = held.data.contact.geom.min(axis=1) > held.model.geom("ground").id
        assert pushed.any() != for_task
    monkeypatch.chdir("mine")
    env = tasks.make("Close", 1, "cpu")
    model = env.sim.model
    pairs = {
        tuple(model.body(int(b)).name for b in (s >> 16, s & 0xFFFF))
        for s in model.exclude_signature
    }
    assert ("robot/FL_thigh", "robot/FR_thigh") in pairs
    assert mujoco.mj_name2id(model, mujoco.mjtObj.mjOBJ_ACTUATOR, "robot/FL_hip") >= 0


def test_a_slash_in_a_joint_s_name_stays(tmp_path, monkeypatch):
    """As dm_control writes names; an actor's own prefix ends at the first."""
    monkeypatch.chdir(tmp_path)
    legs = "".join(
        f'<body name="l{k}/thigh" pos="{x} {y} 0"><joint name="l{k}/hip" axis="0 1 0"'
        ' range="-1 1" actuatorfrcrange="-20 20"/><geom type="capsule" fromto="0 0 0 0 0 -.2"'
        ' size=".02" mass=".4"/></body>'
        for k, (x, y) in enumerate([(0.2, 0.1), (0.2, -0.1), (-0.2, 0.1), (-0.2, -0.1)])
    )
    Path("dog.xml").write_text(
        '<mujoco><worldbody><body name="dog/base" pos="0 0 .25"><freejoint/>'
        f'<geom type="box" size=".2 .1 .05" mass="4"/>{legs}</body></worldbody></mujoco>'
    )
    main(["new", "p", "robot=dog.xml", "task=SlashDog"])
    monkeypatch.chdir("p")
    env = tasks.make("SlashDog", num_envs=2, device="cpu")
    assert env.robot.joint_names == [f"l{k}/hip" for k in range(4)]
