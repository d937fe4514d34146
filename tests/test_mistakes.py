"""Sixty-four mistakes of a new user; each gets one sentence that says what to do instead."""

import dataclasses
import os
import re
import shlex
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

import phalanx
from command_line import sentence
from phalanx import tasks
from phalanx.cli import console
from phalanx.cli.commands import COMMANDS
from phalanx.cli.config import compose_config
from phalanx.cli.main import main
from phalanx.cli.options import TrainOptions
from phalanx.cli.program import as_called
from phalanx.errors import PhalanxError
from phalanx.rl import Runner
from phalanx.rl.saved_run import OTHERS, TAKEN
from phalanx.tasks import cartpole

TYPED = {
    # what is typed after `phalanx`: words of the answer
    "trian": "did you mean 'train'?",
    "train fast": "not of the form key=value, as in num_envs=64",
    "train --task=Ant": "keys have no dashes here; write task=Ant",
    "train --num_envs 64": "keys have no dashes here; write num_envs=<value>",
    "train --max-epochs=5": "give max_iterations=",
    "train task=Cartpol": "did you mean 'Cartpole'?",
    "train task=Isaac-Ant-v0": "did you mean 'Ant'?",
    "train task=Mjlab-Velocity-Flat-Unitree-G1": "did you mean 'G1Velocity'?",
    "train train=CartpolPPO": "did you mean 'CartpolePPO'?",
    "train num_env=3": "did you mean 'num_envs'?",
    "train num_actors=64": "give num_envs=",
    "train lr=1e-3": "give train.params.config.learning_rate=",
    "train learning_rate=1e-3": "did you mean train.params.config.learning_rate=?",
    "train max_epochs=10": "give max_iterations=",
    "train total_timesteps=1000000": "give max_iterations=",
    "train episode_length=5": "did you mean task.env.episode_length=?",
    "train device=cuda": "give sim_device= and rl_device=",
    "train sim_device=gpu": "accepted: auto, cpu, cuda, cuda:<index>",
    "train test=True": "`phalanx play` plays a checkpoint",
    "train resume=True": "give checkpoint=, a run folder or a file",
    "train load_run=-1": "give checkpoint=, a run folder or a file",
    "train track=True": "give wandb=true or mlflow=true",
    "train capture_video=True": "`phalanx play video=true` writes a video",
    "train gama=0.9": "did you mean train.params.config.gamma=?",
    "train train.params.config.gama=0.9": "did you mean 'gamma'?",
    "train train.params.config.gamma=2": "at most 1",
    "train train.params.config.learning_rate=-1": "it must be above 0",
    "train train.params.config.minibatch_size=100 num_envs=64": "use 128",
    "train train.params.network.mlp.units=64": "it must be a list",
    "train train.params.network.mlp.activation=relo": "did you mean 'relu'?",
    "train train.params.network.mlp.units=[64": "quote",
    "train train.params.config.use_action_masks=true": "its actions are continuous",
    "train seed=abc": "it must be a whole number",
    "train seed=1,2": "`phalanx train -m` runs one after the other",
    "train num_envs=0": "it must be at least 1",
    "train task.env.dt=0": "it must be above 0",
    "train task.env.asset=robot.xml": "no file robot.xml",
    "train checkpoint=runs/Cartpole/nn/Cartpole.pth": "no checkpoint at runs/Cartpole/nn/",
    "train train_dir=/dev/null": "choose another place with train_dir=",
    "play checkpoint=none.pth": "no checkpoint at none.pth",
    "play games=3 max_iterations=5": "it is an option of `phalanx train`",
    "export": "export needs a checkpoint=",
    "sim2sim Ant.pth": "Ant.pth is a checkpoint; `phalanx export checkpoint=Ant.pth`",
    "list all": "list takes no options",
    "new": "new takes the name of a folder",
    "robot": "as in `phalanx robot go2.xml`",
    "motion walk": "`phalanx motion show FILE`",
}
WORDS_OF_OTHERS = {
    # the same, of users who come from elsewhere
    "train task=ShadowHand": "IsaacGymEnvs' tasks run from its own repository",
    "train task=AnymalTerrain": "see docs/isaacgym.md",
    "train Ant": "as in task=Ant",
    "train hydra.run.dir=x": "give train_dir=",
    "train --config-name=x": "give train=",
    "train force_render=False": "without it nothing is drawn",
    "Ant": "`phalanx train task=Ant` trains this task",
    "test task=Ant": "`phalanx play` does it",
    "watch": "`phalanx play view=true`",
    "play episodes=3": "give games=",
    "play task=Cartpole window=true": "give view=",
    "sim2sim Ant.onnx games=3": "give episodes=",
    "sim2sim Ant.onnx --games 3": "give episodes=",
    "sim2sim Ant.onnx view=true": "give browser=",
    "sim2sim Ant.onnx window=true browser=true": "give only one",
    "sim2sim Ant.onnx num_envs=3": "it is an option of `phalanx train`",
    "robot go2.xml games=3": "it is an option of `phalanx play`",
    "motion show walk games=3": "it is an option of `phalanx play`",
    "train task=Ant robot=x.xml": "'robot'; task.env.asset=FILE_OR_NAME takes another robot; `ph",
    "train task=Ant task.env.asset=unitree_go3": "of that name in MuJoCo Menagerie; did you mean",
    "train task=go2.urdf": "`phalanx new my_robots robot=go2.urdf` writes a task around it",
    "train 'task=my go2.urdf'": "robot='my go2.urdf'` writes a task around it",
    "train TASK=Ant": "did you mean 'task'?",
    "train train=my.yaml": "put the file into cfg/train of a project, and give train=my",
    "tune n_trials=3": "give samples=",
    "tune sample=3": "did you mean 'samples'?",
    "bench plot=no/x.png": "no is not a writable folder",
    "bench plot=x.doc": "it must end in .png, .svg or .pdf",
    "motion show walk out=/dev/null/x.mp4": "/dev/null is not a writable folder",
    "motion show walk out=walk.gif": "the film walk.gif must end in .mp4",
    "motion show walk end=5": "end=5 s is after its end; the motion is 1.02 s long",
    "motion convert walk /dev/null/x/y.json": "/dev/null is not a writable folder",
    "robot go2.xml picture=/dev/null/x.png": "/dev/null is not a writable folder",
}
EMPTY = (
    *("train task=", "train checkpoint=", "train max_iterations=", "play games="),
    *("tune study=", "tune task=", "bench task=", "sim2sim x.onnx out=", "robot go2.xml out="),
    *("new ''", "new x robot=", "motion show walk out=", "motion show ''", "doctor ''"),
    *("robot ''", "sim2sim ''", "doctor . json=", "train -m seed=1,"),
    *("""train checkpoint='""'""", """train experiment="' '" """),
)
"""What a shell makes of a variable that is not set."""
WRITTEN = {
    # what is written in the task file: words of the answer
    ("def reset_envs", "def reset_idx"): "write reset_envs(mask), with a boolean mask (N,)",
    ("def reset_envs", "def reset_env"): "did you mean reset_envs?",
    ("def reset_envs(self, mask: Tensor)", "def reset_envs(self)"): "must take the argument mask",
    ("def compute_reward", "def rewards"): "needs the method compute_reward",
    ("return torch.stack([pos[:, 0], ",
     "return torch.stack(["): "(4, 3); with num_obs = 4 it must be (4, 4)",
    ("return torch.where(out | down, -2.0, reward), out | down",
     "return reward[:, None], out | down"): "returns a reward of shape (4, 1)",
    ("return torch.where(out | down, -2.0, reward), out | down",
     "return reward, down.float()"): "must be boolean, as in height < 0.3",
    ("self.sim.ctrl.copy_(actions)",
     "self.sim.ctrl.copy_(actions[:, :3].T)"): "pole.py, line",
    ("class Pole(Task)", "class Pole(Task"): "pole.py, line",
    ("return torch.stack([pos[:, 0]",
     "vel *= 0.1; return torch.stack([pos[:, 0]"): "compute_observations writes into sim.qvel in",
    ("return torch.where(out | down, -2.0, reward), out",
     "pos[:, 1].abs_(); return torch.where(out | down, -2.0, reward), out"):
     "compute_reward writes into sim.qpos in place",
    ("write_rows(pos, mask, 0.2 * torch.rand_like(pos) - 0.1)",
     "pos.uniform_(-0.1, 0.1)"): "reset_envs changes sim.qpos of environments outside of its mask",
}  # fmt: skip
CALLED = {
    # what a Python program does: words of the answer
    "env.step(torch.zeros(4, 2))": "must be a torch tensor of shape (4, 1) on cpu",
    "env.step(np.zeros((4, 1)))": "got ndarray as actions; it must be a torch tensor",
    "env.step([[0.0]] * 4)": "got list as actions; it must be a torch tensor",
    "tasks.make('Cartpole', num_env=4)": "did you mean 'num_envs'?",
    "Runner().load({'params': {}})": "params.algo.name is missing",
}


@pytest.fixture
def cwd(tmp_path, monkeypatch):
    """An empty working folder."""
    monkeypatch.setattr(threading, "excepthook", threading.excepthook)
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_run_s_folder_alone_is_answered_with_what_takes_it(capsys, cwd):
    Path("runs/Ant/nn").mkdir(parents=True)
    said = sentence(capsys, "sim2sim", "runs/Ant")
    assert "runs/Ant is a run's folder; `phalanx export checkpoint=runs/Ant` exports" in said
    assert "key=value, as in checkpoint=runs/Ant" in sentence(capsys, "play", "runs/Ant")


def test_there_are_sixty_four():
    assert len(TYPED) + len(WRITTEN) + len(CALLED) == 64


@pytest.mark.parametrize("line", [*TYPED, *WORDS_OF_OTHERS])
def test_mistake_on_the_command_line(line, capsys, cwd):
    arguments = shlex.split(line)
    if arguments[0] == "train" and "num_envs=" not in line:
        arguments += ["num_envs=16"]
    assert (TYPED | WORDS_OF_OTHERS)[line] in sentence(capsys, *arguments)
    assert os.listdir(cwd) == []


@pytest.mark.parametrize("line", EMPTY)
def test_an_empty_value_is_not_the_default(line, capsys, cwd):
    assert "is empty" in sentence(capsys, *shlex.split(line))
    assert os.listdir(cwd) == []


def test_commands_in_messages_quote_what_users_named():
    """A command with a name or a path in it can be copied as it is."""
    loose = re.compile(rf"phalanx (?:{'|'.join(COMMANDS)})\b[^`\"$]*\{{(?!shlex)")
    for file in Path(phalanx.__file__).parent.rglob("*.py"):
        for number, line in enumerate(file.read_text().splitlines(), 1):
            if "{played}" not in line:  # quoted above
                assert not loose.search(line), f"{file}, line {number}: {line.strip()}"


def test_options_without_effect_are_named():
    idle = compose_config(["wandb_project=x", "mlflow_experiment=y", "view_envs=3"]).idle
    assert idle == [
        "wandb_project= needs wandb=true",
        "mlflow_experiment= needs mlflow=true",
        "view_envs= needs view=true",
    ]
    assert compose_config(["headless=false", "view_envs=3", "wandb_activate=true"]).idle == []


@pytest.mark.parametrize("edit", WRITTEN, ids=lambda e: e[1][:40])
def test_mistake_in_a_task_file(edit, capsys, cwd):
    asset = str(Path(cartpole.__file__).parent / "assets" / "cartpole.xml")
    text = Path(cartpole.__file__).read_text()
    text = text.replace('str(Path(__file__).parent / "assets" / "cartpole.xml")', repr(asset))
    text = text.replace("class Cartpole(Task)", "class Pole(Task)")
    old, new = edit
    assert old in text
    Path("tasks/pole").mkdir(parents=True)
    Path("tasks/pole/pole.py").write_text(text.replace(old, new))
    Path("cfg").mkdir()
    small = ["num_envs=4", "sim_device=cpu", "max_iterations=1"]
    try:
        said = sentence(capsys, "train", "task=Pole", "train=CartpolePPO", *small)
    finally:
        sys.modules.pop("phalanx_project_pole", None)
    assert WRITTEN[edit] in said


@pytest.mark.parametrize("code", CALLED)
def test_mistake_in_a_program(code):
    env = tasks.make("Cartpole", num_envs=4, device="cpu") if "env." in code else None
    with pytest.raises(PhalanxError, match=re.escape(CALLED[code])):
        eval(code, {"env": env, "torch": torch, "np": np, "tasks": tasks, "Runner": Runner})


def test_choices_are_integers():
    env = tasks.make("Cartpole", num_envs=4, device="cpu", discrete_actions=3)
    env.step(torch.ones(4, dtype=torch.long))
    with pytest.raises(PhalanxError, match=r"its actions are choices, so they must be integers"):
        env.step(torch.full((4,), 0.5))


def test_actions_that_are_not_numbers_are_counted_and_reported():
    env = tasks.make("Cartpole", num_envs=4, device="cpu")
    actions = torch.zeros(4, 1)
    actions[2] = torch.nan
    _, reward, terminated, *_ = env.step(actions)
    assert terminated.tolist() == [False, False, True, False]
    assert reward[2] == 0
    assert "an environment diverged and was reset: environment 2 in step 1, by ctrl" in env.report()


def test_messages_repeat_the_program_as_it_was_called(capsys, cwd, monkeypatch):
    for variable, argv0, program, curves in (
        ({"UV_RUN_RECURSION_DEPTH": "1"}, "/x/bin/phalanx", "uv run phalanx", "uv run tensorboard"),
        ({}, "/x/phalanx/__main__.py", "python -m phalanx", "python -m tensorboard.main"),
        ({}, "/x y/bin/phalanx", "'/x y/bin/phalanx'", "'/x y/bin/tensorboard'"),
    ):
        with monkeypatch.context() as patched:
            for key, value in variable.items():
                patched.setenv(key, value)
            patched.setattr(sys, "argv", [argv0])
            assert as_called(as_called("phalanx play x")) == f"{program} play x"
            assert as_called(as_called("tensorboard --logdir x")) == f"{curves} --logdir x"
            assert f"`{program} play` plays a" in sentence(capsys, "train", "test=True")
            main(["--help"])
            console.Lines().print("continue: phalanx tune study=x")
            said = capsys.readouterr().out
            assert f"usage: {program} <command>" in said
            assert f"continue: {program} tune study=x" in said
            main(["new", f"p{len(program)}"])
            assert f"&& {program} train task=Twip" in capsys.readouterr().out


def test_a_name_that_is_not_utf_8_is_one_sentence(cwd, capsys):
    for words in (["train", "train_dir=r\udcfcns"], ["new", "r\udcfcns"], ["robot", "r\udcfc.xml"]):
        assert r"r\udcfc" in (said := sentence(capsys, *words))
        assert "is not UTF-8" in said


def test_texts_are_utf_8_whatever_the_language_of_the_system():
    """A file written in Latin-1 cannot be read by those who have another language."""
    for path in Path(phalanx.__file__).parent.rglob("*.py"):
        if "fused" not in path.parts:  # which reads its own C sources
            text = path.read_text("utf-8")
            found = re.search(r"\.read_text\((errors.*)?\)|\.write_text\((?!.*utf-8).*", text)
            assert found is None, f"{path}: {found[0]}"


def test_a_program_runs_again_what_a_run_left(cwd):
    small = ["num_envs=16", "sim_device=cpu", "max_iterations=1", "task.env.reach=2.5", "seed=7"]
    main(["train", *small, "train.params.config.minibatch_size_per_env=8"])
    for given in ("runs/Cartpole", Path("runs/Cartpole/config.yaml"),
                  yaml.safe_load(Path("runs/Cartpole/config.yaml").read_text())):  # fmt: skip
        runner = Runner()
        runner.load(given)
        assert runner.seed == 7
        player = runner.create_player()
        assert player.env.config.reach == 2.5
        assert player.env.num_envs == 16
    assert runner.run({"play": True, "checkpoint": "runs/Cartpole"}).games > 0
    assert runner.run({"train": True})[1] == 1
    given["num_env"] = 32
    with pytest.raises(PhalanxError, match=r"unknown key num_env; did you mean 'num_envs'\?"):
        runner.load(given)
    del given["num_env"]
    given["train"]["parms"] = {}
    with pytest.raises(PhalanxError, match=r"unknown key train\.parms; did you mean 'params'\?"):
        runner.load(given)


def test_programs_know_every_setting_that_a_run_writes():
    assert {f.name for f in dataclasses.fields(TrainOptions)} == {*TAKEN, *OTHERS}
    assert set(TrainOptions.RESUMED) == set(TAKEN)
