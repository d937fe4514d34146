"""A user's own folder: made by `phalanx new`, its tasks found by name, its mistakes in words."""

import os
import re
import sys
import threading
from pathlib import Path

import pytest
import torch

import command_line
from phalanx import tasks
from phalanx.cli.config import compose_config
from phalanx.cli.main import main
from phalanx.errors import PhalanxError

CPU = ["sim_device=cpu", "num_envs=32"]
TASK = "tasks/twip/twip.py"


@pytest.fixture
def project(tmp_path, monkeypatch, capsys):
    """A new project as the working folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(threading, "excepthook", threading.excepthook)
    monkeypatch.setattr(sys, "path", [*sys.path])
    main(["new", "my_robots"])
    capsys.readouterr()
    monkeypatch.chdir(tmp_path / "my_robots")
    yield tmp_path / "my_robots"
    sys.modules.pop("phalanx_project_twip", None)


def edit(file, old, new):
    path = Path(file)
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


def sentence(capsys, *arguments):
    """See `command_line`; the project is read again."""
    sys.modules.pop("phalanx_project_twip", None)
    return command_line.sentence(capsys, *arguments)


def test_new_makes_a_folder_and_overwrites_nothing(project, capsys, monkeypatch):
    files = {str(p.relative_to(project)) for p in project.rglob("*") if p.is_file()}
    assert {TASK, "cfg/task/Twip.yaml", "cfg/train/TwipPPO.yaml", "README.md"} <= files
    assert {"tasks/twip/assets/twip.urdf", "tasks/twip/assets/meshes/wheel.obj"} <= files
    assert not any("pycache" in f for f in files)
    monkeypatch.chdir(project.parent)
    (project / TASK).write_text("mine")
    assert "already exists" in sentence(capsys, "new", "my_robots")
    assert (project / TASK).read_text() == "mine"
    Path("other/cfg/task").mkdir(parents=True)
    Path("other/cfg/task/Twip.yaml").write_text("mine")
    assert "other/cfg/task/Twip.yaml already exists" in sentence(capsys, "new", "other")
    assert not Path("other/tasks").exists()
    Path("a_file").touch()
    assert "a_file already exists" in sentence(capsys, "new", "a_file")
    for arguments in ([], ["a", "b"], ["name=x"]):
        assert "new takes the name of a folder" in sentence(capsys, "new", *arguments)
    main(["new", "bipeds"])
    assert Path("bipeds/README.md").read_text().startswith("# bipeds\n")


def test_tasks_are_found_from_anywhere_inside(project, capsys, monkeypatch):
    monkeypatch.chdir(project / "tasks" / "twip" / "assets")
    assert tasks.find("Twip").__name__ == "Twip"
    main(["list"])
    printed = capsys.readouterr().out
    assert "tasks/twip/twip.py" in printed
    assert str(project) in printed
    assert "Cartpole" in printed
    monkeypatch.chdir(project.parent)
    with pytest.raises(PhalanxError, match=r"unknown task 'Twip'.* inside its folder"):
        tasks.find("Twip")


def test_a_checkpoint_inside_a_project_brings_its_task(project, monkeypatch):
    (project / "runs/Twip/nn").mkdir(parents=True)
    monkeypatch.chdir(project.parent)
    checkpoint = f"checkpoint={project}/runs/Twip/nn/Twip.pth"
    assert compose_config(["task=Twip", checkpoint, *CPU], "play").task.name == "Twip"
    with pytest.raises(PhalanxError, match="unknown task 'Twip'"):
        compose_config(["task=Twip", *CPU], "train")


def test_a_second_task_needs_no_list(project):
    folder = Path("tasks/two_legs")
    folder.mkdir()
    text = Path(TASK).read_text().replace("class Twip(Task)", "class TwoLegs(Task)")
    (folder / "two_legs.py").write_text(text)
    assert "TwoLegs" in tasks.names()
    assert tasks.settings("TwoLegs") == {}
    assert tasks.find("TwoLegs").num_obs == 7


@pytest.mark.parametrize("control", ["effort", "velocity"])
@pytest.mark.parametrize("engine", ["mujoco", "warp"])
def test_twip_falls_when_nobody_balances_it(project, engine, control):
    task = tasks.make("Twip", 4, "cpu", engine, control=control, randomize=False)
    task.reset()
    for _ in range(100):
        obs, reward, terminated, _truncated, infos = task.step(torch.zeros(4, 2))
        if terminated.any():
            break
    assert terminated.any()
    assert (reward[terminated] == -5).all()
    assert infos["terminal"]["obs"][terminated, 0].abs().min() > 0.6  # the pitch
    assert obs["obs"][terminated, 0].abs().max() < 0.21
    terms = task.observation_layout()
    assert sum(t.size for t in terms) == task.num_obs
    assert task.action_layout().kind == control


def test_twips_observations_equal_the_measurements_of_an_imu(project):
    task = tasks.make("Twip", 2, "cpu", randomize=False)
    task.reset()
    half = 0.1  # leaning forward by 0.2, turned left by 90 degrees
    turn, lean = torch.tensor([0.5**0.5, 0, 0, 0.5**0.5]), torch.tensor([half, 0.0]).cos()
    quat = torch.zeros(2, 4)
    for env, angle in enumerate((half, 0.0)):
        c, s = torch.tensor(angle).cos(), torch.tensor(angle).sin()
        # turn * (c, 0, s, 0)
        quat[env] = torch.stack([turn[0] * c, -turn[3] * s, turn[0] * s, turn[3] * c])
    assert lean.shape == (2,)
    task.twip.root_quat.copy_(quat)
    task.twip.root_ang_vel_b.copy_(torch.tensor([0.1, 0.5, -0.3]))
    task.twip.joint_vel.copy_(torch.tensor([2.0, 3.0]))
    obs = task.compute_observations()
    torch.testing.assert_close(obs[:, 0], torch.tensor([0.2, 0.0]), atol=1e-5, rtol=0)
    torch.testing.assert_close(obs[0, 1:5], torch.tensor([0.1, -0.06, 0.08, 0.12]))


def test_it_trains_plays_and_is_listed_by_name(project, capsys, one_thread):
    main(["train", "task=Twip", *CPU, "max_iterations=2"])
    printed = capsys.readouterr().out
    for words in ("randomised", "twip body mass", "0.08 .. 0.9", "0.064 .. 1.125",
                  "kg", "at the start", "m/s2", "latency", "every 2 .. 5 s"):  # fmt: skip
        assert words in printed
    assert Path("runs/Twip/nn/last_Twip.pth").is_file()
    main(["play", "checkpoint=runs/Twip", "games=4"])
    assert "over 4 episodes" in capsys.readouterr().out
    main(["train", "checkpoint=runs/Twip", "max_iterations=3", "sim_device=cpu"])
    assert "continuing at iteration 2" in capsys.readouterr().out


def test_yaml_overrides_the_task_and_the_command_line_overrides_yaml(project):
    edit("cfg/task/Twip.yaml", "control: effort ", "max_effort: 0.4\n  control: velocity ")
    config = compose_config(["task=Twip", "task.env.substeps=3"])
    assert config.task.config.max_effort == 0.4
    assert config.task.config.control == "velocity"
    assert config.task.config.substeps == 3
    assert config.task.config.randomize
    assert tasks.make("Twip", 2, "cpu").config.max_effort == 0.4
    key = "task.randomization_params.actor_params.twip.rigid_body_properties.mass.range"
    config = compose_config(["task=Twip", f"{key}=[1,1]", "task.randomize=false"])
    mass = config.task.config.randomization_params["actor_params"]["twip"]["rigid_body_properties"]
    assert mass["mass"] == {
        "range": [1, 1], "operation": "scaling", "distribution": "uniform", "setup_only": True
    }  # fmt: skip
    assert not config.task.config.randomize
    # as IsaacGymEnvs writes it
    Path("cfg/task/Twip.yaml").write_text("task: {randomize: True, randomization_params: {a: 1}}")
    assert tasks.settings("Twip") == {"randomize": True, "randomization_params": {"a": 1}}
    assert not compose_config(["task=Twip", "task.task.randomize=False"]).task.config.randomize


def test_a_train_config_of_the_project_comes_first(project):
    text = Path("cfg/train/TwipPPO.yaml").read_text()
    Path("cfg/train/CartpolePPO.yaml").write_text(text)
    assert compose_config(["task=Cartpole"]).train.params.config["horizon_length"] == 24
    config = compose_config(["task=Twip", "train=CartpoleLSTM"])
    assert "rnn" in config.train.params.network


@pytest.mark.parametrize(
    ("file", "old", "new", "words"),
    [
        (TASK, "def init_buffers(self)", "def init_buffers(self", f"{TASK}, line "),
        (TASK, "import torch\n", "import torhc\n", "ModuleNotFoundError: No module named 'torhc'"),
        (TASK, "RATE_SCALE = 0.2", "RATE_SCALE = 1 / 0", "ZeroDivisionError: division by zero"),
        (TASK, "class Twip(Task)", "class Twop(Task)", "defines no class Twip"),
        (TASK, "class Twip(Task)", "class Twip", "is not a subclass of phalanx.tasks.Task"),
        (TASK, "Config = TwipConfig", "Config = dict", "Config is not a subclass"),
        (TASK, "def compute_reward", "def compute_rewards", "needs the method compute_reward"),
        (TASK, "    num_obs = 7\n", "", "needs num_obs"),
        (TASK, "num_obs = 7", "num_obs = 8", "7 numbers (pitch 1, pitch_rate 1, "),
        ("cfg/task/Twip.yaml", "env:\n", "env\n", "Twip.yaml, line "),
        ("cfg/task/Twip.yaml", "  control:", "  contrl:", "env.contrl; did you mean 'control'?"),
        ("cfg/task/Twip.yaml", "randomize: true", "randomise: true", "did you mean 'randomize'"),
        ("cfg/task/Twip.yaml", "control: effort", "control: torque", "control is 'torque'; it"),
        ("cfg/task/Twip.yaml", "    twip:\n", "    twpi:\n", "no actor 'twpi' in the simulation"),
        ("cfg/train/TwipPPO.yaml", "params:", "parms:", "is not a mapping with the key params"),
        (
            "cfg/train/TwipPPO.yaml",
            "params:",
            "params: 1\nparams:",
            "the key 'params' is there twice",
        ),
        ("cfg/train/TwipPPO.yaml", "gamma:", "gama:", "did you mean 'gamma'?"),
        ("tasks/twip/assets/twip.urdf", '<child link="left_wheel"/>', "", "twip.urdf"),
    ],
)
def test_every_mistake_is_one_sentence(project, capsys, file, old, new, words):
    edit(file, old, new)
    said = sentence(capsys, "train", "task=Twip", *CPU)
    assert words in said
    assert not os.path.exists("runs")
    if (file == TASK and ", line" in words) or "Error" in words:
        line = int(re.search(r"twip.py, line (\d+)", said)[1])
        assert 25 < line < 90


def test_a_yaml_file_must_be_a_mapping(project, capsys):
    Path("cfg/task/Twip.yaml").write_text("- 1\n")
    assert "Twip.yaml is [1]; it must be a mapping" in sentence(capsys, "train", "task=Twip")
    Path("cfg/task/Twip.yaml").write_text("env: 3\n")
    assert "Twip.yaml: env is 3; it must be a mapping" in sentence(capsys, "train", "task=Twip")
    said = sentence(capsys, "train", "task=Twip", "train=TwipPO")
    assert "unknown train config 'TwipPO'; did you mean 'TwipPPO'?" in said
    Path("cfg/task/Twip.yaml").unlink()
    said = sentence(capsys, "train", "task=Twip", "task.randomize=true", *CPU)
    assert "Twip has no randomization_params" in said
    said = sentence(capsys, "train", "task=Twip", "task.env.randomize=true")
    assert "task.env.randomize is set by task.randomize" in said


def test_list_leaves_out_numbers_that_follow_from_a_robot(project, capsys):
    edit(TASK, "num_obs = 7", "num_obs = 0")
    main(["list"])
    (line,) = (x for x in capsys.readouterr().out.splitlines() if x.startswith("Twip "))
    assert re.search(r" {5}2 +tasks/twip", line), line


def test_list_says_which_task_cannot_be_used(project, capsys):
    edit(TASK, "def init_buffers(self)", "def init_buffers(self")
    sys.modules.pop("phalanx_project_twip", None)
    main(["list"])
    printed = capsys.readouterr().out
    assert "cannot be used" in printed
    assert "Cartpole" in printed
