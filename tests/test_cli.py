"""The command line: one sentence for every mistake; the output and files of a run."""

import contextlib
import dataclasses
import importlib
import importlib.metadata
import json
import os
import pickle
import pty
import re
import shlex
import shutil
import signal
import subprocess
import sys
import threading
import time
import weakref
from pathlib import Path

import pytest
import torch
import yaml

import command_line
import phalanx.cli.list
from phalanx import tasks
from phalanx.__main__ import main as phalanx_program
from phalanx.cli.commands import ALGORITHMS, COMMANDS, NETWORKS
from phalanx.cli.config import compose_config
from phalanx.cli.fields import fields, find_class
from phalanx.cli.help import config_class
from phalanx.cli.main import _interruptible as interruptible
from phalanx.cli.main import main
from phalanx.cli.sweep import train_each
from phalanx.compute.perceptron import supported_products
from phalanx.errors import PhalanxError
from phalanx.rl import compiled
from phalanx.tasks.cartpole import CartpoleConfig

SMALL = ["num_envs=64", "sim_device=cpu"]
QUICK = ["train.params.config.horizon_length=8", "train.params.config.mini_epochs=2"]
QUICK += ["train.params.config.minibatch_size_per_env=8"]
PARAMS = "train.params"
CONFIG = "train.params.config"


@pytest.fixture(autouse=True)
def restore_hooks(monkeypatch):
    monkeypatch.setattr(threading, "excepthook", threading.excepthook)


@pytest.fixture
def cwd(tmp_path, monkeypatch):
    """An empty working folder."""
    folder = tmp_path / "work"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """The folder of a short run."""
    root = tmp_path_factory.mktemp("runs")
    main(["train", *SMALL, *QUICK, "max_iterations=8", "seed=7", f"train_dir={root}"])
    return root / "Cartpole"


def test_an_interrupt_while_the_command_itself_is_imported_is_quiet(capsys, monkeypatch):
    class Interrupts:
        def find_spec(self, name, path, target=None):
            if name == "phalanx.cli.main":
                raise KeyboardInterrupt

    monkeypatch.delitem(sys.modules, "phalanx.cli.main")
    monkeypatch.setattr(sys, "meta_path", [Interrupts(), *sys.meta_path])
    with pytest.raises(SystemExit) as ended:
        phalanx_program()
    assert (ended.value.code, capsys.readouterr().err) == (130, "phalanx: interrupted\n")


def test_an_interrupt_that_an_import_hides_is_still_an_interrupt(capsys, monkeypatch):
    """Some packages turn a Ctrl-C while they are imported into an ImportError."""

    def hides(arguments):
        try:
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(5)
        except KeyboardInterrupt:
            raise ImportError("cannot import name 'x' from partially initialized module") from None

    monkeypatch.setattr(phalanx.cli.list, "list_tasks", hides)
    with pytest.raises(SystemExit) as stop:
        main(["list"])
    assert stop.value.code == 130
    assert capsys.readouterr().err == "phalanx: interrupted\n"
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


# bad input ----------------------------------------------------------------------------------------


def sentence(capsys, arguments, cwd):
    """The message of `phalanx` for bad arguments: one line, exit code 2, nothing on disk."""
    said = command_line.sentence(capsys, *arguments)
    assert "Traceback" not in said
    assert os.listdir(cwd) == []
    return said


MISTAKES = [
    ("trian", "unknown command 'trian'; did you mean 'train'?"),
    ("list all", "list takes no options", "'all'"),
    ("play actions=policy", "play needs a checkpoint="),
    ("train fast", "'fast' is not of the form key=value"),
    ("train --headless", "'--headless': keys have no dashes here; write headless=<value>"),
    ("train -h=3", "'-h=3' is not of the form key=value"),
    ("train ~seed=3", "'~seed=3' is not of the form key=value"),
    ("train task=Cartpol", "unknown task 'Cartpol'; did you mean 'Cartpole'?"),
    ("train task=null", "unknown task"),
    ("train train=CartpolPPO", "unknown train config 'CartpolPPO'; did you mean 'CartpolePPO'?"),
    # keys
    ("train num_env=3", "unknown key 'num_env'; did you mean 'num_envs'?"),
    ("train hydra.run.dir=x", "unknown key 'hydra.run.dir'; give train_dir="),
    ("train seed=abc", "seed is 'abc'; it must be a whole number"),
    (f"train {PARAMS}.model=null", "train.params.model is empty; it must be a mapping"),
    (f"train {PARAMS}.model=dqn", "train.params.model is 'dqn'; it must be a mapping"),
    (f"train {PARAMS}.sed=3", "unknown key train.params.sed; did you mean 'seed'?"),
    (f"train {PARAMS}.network.rnn.name=identity {PARAMS}.network.rnn.units=4",
     "network.rnn.name is 'identity'; it must be 'lstm' or 'gru'"),
    ("train video=true", "unknown key 'video'; video_every= films training, and `phalanx play"),
    ("play view=true video=true", "view=true shows a page and video=true writes a film; give only"),
    ("train games=3", "unknown key 'games'; it is an option of `phalanx play`"),
    ("play max_iterations=3", "it is an option of `phalanx train`"),
    ("train learning_rate=1e-3", "did you mean train.params.config.learning_rate=?"),
    ("train lr=1e-3", "give train.params.config.learning_rate="),
    ("train episode_length=5", "did you mean task.env.episode_length=?"),
    ("train max_epochs=5", "unknown key 'max_epochs'; give max_iterations="),
    ("train test=True", "unknown key 'test'; `phalanx play` plays a checkpoint"),
    ("train train.params.seed=3", "train.params.seed is set by seed="),
    (f"train {PARAMS}.load_checkpoint=true", "name the file with checkpoint= instead"),
    (f"train {CONFIG}.env_name=gymnasium", f"{CONFIG}.env_name is set by task="),
    ("train train.parms.config.gamma=1", "unknown key train.parms; did you mean 'params'?"),
    ("train task.evn.reach=1", "unknown key task.evn; did you mean 'env'?"),
    ("train task.env.epsiode_length=3", "task.env.epsiode_length; did you mean 'episode_length'?"),
    (f"train {PARAMS}.netwrk.name=x", "train.params.netwrk; did you mean 'network'?"),
    (f"train {PARAMS}.network.mlp.activaton=elu", "mlp.activaton; did you mean 'activation'?"),
    (f"train {CONFIG}.gama=1", "unknown key params.config.gama; did you mean 'gamma'?"),
    (f"train {CONFIG}.player.games=3", "params.config.player.games; did you mean 'games_num'?"),
    (f"train {CONFIG}.env_config.raech=1", "task.env.raech; did you mean 'reach'?"),
    (f"train {CONFIG}.train_dir=x", f"{CONFIG}.train_dir is set by train_dir="),
    (f"train {CONFIG}.use_action_masks=true", "Cartpole, but its actions are continuous"),
    (
        f"train train=CartpoleDiscretePPO {CONFIG}.use_action_masks=true",
        "use_action_masks is true for Cartpole, but the environment has no get_action_masks()",
    ),
    # types
    ("train num_envs=many", "num_envs is 'many'; it must be a whole number"),
    ("train num_envs=1.5", "num_envs is 1.5; it must be a whole number"),
    ("train num_envs=nan", "num_envs is 'nan'; it must be a whole number"),
    ("train max_iterations=.nan", "max_iterations is nan; it must be a whole number"),
    ("train num_envs=[1]", "num_envs is [1]; it must be a whole number"),
    ("play video=2", "video is 2; it must be true or false"),
    ("train task.env=3", "task.env is 3; it must be a mapping"),
    (f"train {PARAMS}=3", "train.params is 3; it must be a mapping"),
    (f"train {PARAMS}.model=3", "train.params.model is 3; it must be a mapping"),
    (f"train {CONFIG}.player=3", "params.config.player is 3; it must be a mapping"),
    (f"train {CONFIG}.env_config=3", "env_config is 3; it must be a mapping"),
    (f"train {CONFIG}.value_bootstrap=maybe", "'maybe'; it must be 'reached' or true or false"),
    (f"train {PARAMS}.network.mlp.units=3", "params.network.mlp.units is 3; it must be a list"),
    # ranges
    ("train num_envs=0", "num_envs is 0; it must be at least 1"),
    ("train num_envs=-3", "num_envs is -3; it must be at least 1"),
    ("train num_envs=1e12", "num_envs is 1000000000000; it must be at least 1 and at most"),
    ("train max_iterations=0", "max_iterations is 0; it must be at least 1"),
    ("train seed=-2", "seed is -2; it must be at least -1"),
    ("train seed=99999999999999999999", "seed is 99999999999999999999; it must be", "at most"),
    ("train task.env.num_envs=0", "task.env.num_envs is 0; it must be at least 1"),
    ("train task.env.dt=0", "task.env.dt is 0.0; it must be above 0"),
    ("train task.env.discrete_actions=1", "task.env.discrete_actions is 1; it must be 2 or more"),
    (f"train {CONFIG}.horizon_length=-1", "params.config.horizon_length is -1", "at least 1"),
    (f"train {CONFIG}.learning_rate=-1", "learning_rate is -1.0; it must be above 0"),
    (f"train {CONFIG}.gamma=2", "params.config.gamma is 2.0", "at most 1"),
    (f"train {CONFIG}.gamma=nan", "params.config.gamma is nan", "at most 1"),
    (f"train {CONFIG}.minibatch_size=100 num_envs=64", "minibatch_size 100 does not divide",
     "1024 samples", "use 128"),
    # names
    (f"train {PARAMS}.algo.name=a2c_continous", "unknown algorithm", "mean 'a2c_continuous'?"),
    (f"train {PARAMS}.model.name=discrete_a2", "unknown model", "did you mean 'discrete_a2c'?"),
    (f"train {PARAMS}.network.name=actor_critc", "unknown network", "did you mean 'actor_critic'?"),
    (f"train {PARAMS}.network.mlp.activation=relo", "activation is 'relo'", "did you mean 'relu'?"),
    # devices
    ("train sim_device=gpu", "unknown device 'gpu'; accepted: auto, cpu, cuda, cuda:<index>"),
    ("train rl_device=banana", "rl_device: unknown device 'banana'"),
    # grammar
    ("train num_envs=[1", "cannot read 'num_envs=[1'", "quote"),
    ("train seed=1,2", "'seed=1,2' is a sweep over several values", "phalanx train -m"),
    ("train task.actuators.leg={kp:3}", "write a space after the colon, as in {kp: 3}"),
    ("train num_envs=${there}", "Interpolation key 'there' not found"),
    # places
    ("train checkpoint=none.pth", "no checkpoint at none.pth"),
    ("train checkpoint=/nowhere/x.pth", "no checkpoint at /nowhere/x.pth", "no folder /nowhere"),
    ("train experiment=../x", "experiment is '../x'; it must be a name inside the folder runs"),
    ("train experiment=/tmp/x", "experiment is '/tmp/x'; it must be a name inside the folder"),
    ("train train_dir=/proc/x", "cannot create the run folder /proc/x/Cartpole"),
    ("train train_dir=/dev/null", "run folder /dev/null/Cartpole: /dev/null is not a folder"),
    ("train task.env.asset=/nowhere/robot (2).xml", "no file /nowhere/robot (2).xml"),
]  # fmt: skip


@pytest.mark.parametrize("case", MISTAKES, ids=lambda c: c[0])
def test_mistake_gives_one_sentence_and_leaves_nothing(case, capsys, cwd):
    line, *words = case
    arguments = (
        re.split(r" (?=[\w.]+=)| (?=\S+$)", line) if "(2)" not in line else line.split(" ", 1)
    )
    if not any("num_envs" in a for a in arguments):
        arguments += ["num_envs=16"] if arguments[0] == "train" else []
    said = sentence(capsys, arguments, cwd)
    for word in words:
        assert word in said


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
@pytest.mark.parametrize("key", ["sim_device", "rl_device"])
def test_cuda_without_a_gpu_is_refused(key, capsys, cwd):
    other = {"sim_device", "rl_device"} - {key}
    said = sentence(capsys, ["train", f"{key}=cuda:0", f"{other.pop()}=cpu"], cwd)
    words = "device cuda:0 was requested, but PyTorch finds no CUDA device here; use cpu or auto"
    assert f"{key}: {words}" in said


XML = '<mujoco><worldbody><body name="cart">\n<joint name="slider_to_cart" type="slide"/>'
LINK = '<link name="{}"><inertial><mass value="1"/></inertial></link>\n'
ASSETS = {
    "broken.xml": ("<mujoco>\n<worldbody>\n</mujoco>", "broken.xml, line 3"),
    "unknown.xml": ('<mujoco><worldbody>\n<body><goem size="1"/></body></worldbody></mujoco>',
                    "unknown.xml, line 2"),
    "value.xml": (f'{XML}\n<geom size="big"/></body></worldbody></mujoco>', "value.xml, line 3"),
    "mesh.xml": ('<mujoco><asset>\n<mesh name="m" file="gone.stl"/></asset><worldbody><body>'
                 '<geom type="mesh" mesh="m"/></body></worldbody></mujoco>', "gone.stl"),
    "broken.urdf": ('<robot name="r">\n<link name="a">\n</robot>', "broken.urdf, line 3"),
    "parent.urdf": (f'<robot name="r">\n{LINK.format("a")}<joint name="j" type="revolute">'
                    '<parent link="b"/><child link="a"/></joint></robot>', "parent.urdf, line 3"),
    "mesh.urdf": ('<robot name="r"><link name="a">\n<collision><geometry>'
                  '<mesh filename="gone.stl"/></geometry></collision></link></robot>', "gone.stl"),
    "joints.urdf": (f'<robot name="r">{LINK.format("a")}{LINK.format("b")}'
                    '<joint name="slider" type="prismatic"><parent link="a"/><child link="b"/>'
                    '<limit lower="-1" upper="1" effort="1" velocity="1"/></joint></robot>',
                    "no joint 'slider_to_cart' in"),
    "binary.xml": ("\0\1\2", "binary.xml"),
    "empty.urdf": ("", "empty.urdf"),
}  # fmt: skip


@pytest.mark.parametrize("name", ASSETS)
def test_robot_file_that_cannot_be_used_is_named(name, capsys, cwd, tmp_path):
    file = tmp_path / name
    content, words = ASSETS[name]
    file.write_text(content)
    said = sentence(capsys, ["train", "num_envs=16", f"task.env.asset={file}"], cwd)
    assert words in said
    assert name in said


class Code:
    """What it pickles to calls os.system."""

    def __init__(self, command):
        self.command = command

    def __reduce__(self):
        return os.system, (self.command,)


@pytest.mark.parametrize("command", ["train", "play"])
@pytest.mark.parametrize("kind", ["truncated", "flipped", "text", "empty", "no model",
                                  "shape", "pickle", "zip", "typo"])  # fmt: skip
def test_foreign_checkpoint_is_refused(kind, command, capsys, cwd, tmp_path, run):
    good = run / "nn" / "last_Cartpole.pth"
    file, ran, more = tmp_path / "policy.pth", tmp_path / "ran", []
    content, words = good.read_bytes(), "policy.pth is damaged or not a checkpoint"
    if kind == "truncated":
        file.write_bytes(content[: len(content) // 2])
    elif kind == "flipped":
        at = content.index(torch.load(good)["model"]["a2c_network.mu.weight"].numpy().tobytes())
        file.write_bytes(content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :])
    elif kind == "text":
        file.write_text("these are not weights\n" * 100)
    elif kind == "empty":
        file.touch()
    elif kind == "no model":
        torch.save({"epoch": 3, "weights": {}}, file)
        words = "it has no `model` with tensors by name (it holds epoch, weights)"
    elif kind == "shape":
        file.write_bytes(content)
        more = ["train.params.network.mlp.units=[8]"]
        words = "does not fit this task and network: a2c_network."
    elif kind == "typo":
        (tmp_path / "polcy.pth").write_bytes(content)
        words = "did you mean 'polcy.pth'?"
    else:
        state = {"model": {"w": Code(f"touch {ran}")}}
        file.write_bytes(pickle.dumps(state, 2)) if kind == "pickle" else torch.save(state, file)
        words = "policy.pth contains objects other than tensors and numbers (posix.system)"
        if kind == "pickle":
            words = "policy.pth is damaged or not a checkpoint, which is a ZIP archive"
    said = sentence(capsys, [command, "num_envs=16", f"checkpoint={file}", *more], cwd)
    assert words in said
    assert str(file) in said
    assert not ran.exists()


def test_code_of_the_checkpoint_test_would_run(tmp_path):
    """The control of the test above: loaded without care, that file does run its code."""
    torch.save({"model": Code(f"touch {tmp_path / 'ran'}")}, tmp_path / "policy.pth")
    torch.load(tmp_path / "policy.pth", weights_only=False)
    assert (tmp_path / "ran").exists()


def test_folder_without_a_checkpoint_is_named(capsys, cwd, tmp_path):
    said = sentence(capsys, ["train", f"checkpoint={tmp_path}"], cwd)
    assert f"the folder {tmp_path} has no checkpoint nn/last_<task>.pth to continue from" in said


def test_the_run_near_a_folder_that_is_none_is_named(capsys, cwd, run):
    for near in (run.parent, run / "nn"):
        said = sentence(capsys, ["play", f"checkpoint={near}"], cwd)
        assert f"{near} is not the folder of one run, as these are: {run}\n" in said


def test_name_of_another_run_is_refused(capsys, cwd, run):
    before = {p: p.read_bytes() for p in run.rglob("*") if p.is_file()}
    options = [f"train_dir={run.parent}", f"experiment={run.name}"]
    assert f"{run} is taken" in sentence(capsys, ["train", *SMALL, *options], cwd)
    assert {p: p.read_bytes() for p in run.rglob("*") if p.is_file()} == before


def test_somebody_elses_folder_is_neither_used_nor_removed(capsys, cwd, tmp_path):
    theirs = tmp_path / "thesis" / "thesis.tex"
    theirs.parent.mkdir()
    theirs.write_text("work of years")
    options = [f"train_dir={tmp_path}", "experiment=thesis"]
    assert "thesis is taken" in sentence(capsys, ["train", *SMALL, *options], cwd)
    assert theirs.read_text() == "work of years"


def test_a_new_process_exits_with_2_and_one_line(cwd):
    command = [Path(sys.executable).with_name("phalanx"), "trian"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 2
    assert re.fullmatch(r"phalanx: unknown command 'trian'; did you mean [^\n]+\n", done.stderr)
    assert done.stdout == ""
    assert os.listdir(cwd) == []


def test_a_way_to_draw_that_mujoco_does_not_have_is_one_sentence(cwd, capsys, monkeypatch):
    """MuJoCo's import fails then, in whatever command imports it first."""

    def command(arguments):
        file = "site-packages/mujoco/rendering/classic/gl_context.py"
        exec(compile("raise RuntimeError('invalid value')", file, "exec"))

    monkeypatch.setattr("phalanx.cli.robot.robot", command)
    with pytest.raises(RuntimeError):
        main(["robot", "go2"])
    monkeypatch.setenv("MUJOCO_GL", "elg")
    said = command_line.sentence(capsys, "robot", "go2")
    assert "cannot draw with MUJOCO_GL=elg on this machine; unset it" in said


# what a run leaves and shows ----------------------------------------------------------------------


def test_run_folder_holds_the_resolved_settings(run):
    settings = yaml.safe_load((run / "config.yaml").read_text())
    assert settings["num_envs"] == 64
    assert settings["seed"] == 7
    assert settings["task"]["env"]["episode_length"] == CartpoleConfig.episode_length
    assert settings["train"]["params"]["config"]["horizon_length"] == 8
    assert settings["max_iterations"] == 8


def test_settings_chosen_by_the_program_are_written_out(cwd):
    main(["train", *QUICK, "sim_device=cpu", "seed=-1", "max_iterations=1"])
    settings = yaml.safe_load(Path("runs/Cartpole/config.yaml").read_text())
    assert settings["num_envs"] == 512
    assert settings["seed"] >= 0
    assert json.loads(Path("runs/Cartpole/result.json").read_text())["seed"] == settings["seed"]


def test_result_file_has_what_a_table_needs(run):
    result = json.loads((run / "result.json").read_text())
    assert result["task"] == "Cartpole"
    assert (result["seed"], result["num_envs"]) == (7, 64)
    assert result["frames"] == 8 * 8 * 64
    assert result["device"].startswith("cpu")
    assert result["train_fps"] == pytest.approx(result["frames"] / result["wall_seconds"], rel=0.05)
    assert 0 < result["mean_episode_length"] <= 64
    assert -2 <= result["mean_return"] <= result["mean_episode_length"]
    assert "best_return" in result
    assert {"phalanx", "torch", "mujoco", "mujoco-warp", "python"} <= result["versions"].keys()
    assert "git_commit" in result
    assert result["stopped"] == "iteration 8 was the last"


def test_summaries_have_rl_games_tags_and_the_common_ones(run):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(run / "summaries"))
    events.Reload()
    tags = {"losses/a_loss", "losses/c_loss", "losses/entropy", "losses/bounds_loss"}
    tags |= {"info/kl", "info/last_lr", "info/epochs", "info/e_clip", "info/lr_mul"}
    tags |= {"performance/step_inference_rl_update_fps", "performance/step_inference_fps"}
    tags |= {f"{x}/{y}" for x in ("rewards", "shaped_rewards", "episode_lengths")
             for y in ("step", "iter", "time")}  # fmt: skip
    tags |= {"ep_rew_mean", "ep_len_mean", "approxkl"}
    assert tags <= set(events.Tags()["scalars"])
    assert [e.step for e in events.Scalars("info/kl")] == [512 * k for k in range(1, 9)]
    assert [e.value for e in events.Scalars("info/epochs")] == list(range(1, 9))
    result = json.loads((run / "result.json").read_text())
    last = events.Scalars("ep_len_mean")[-1].value
    assert last == pytest.approx(result["mean_episode_length"], rel=1e-6)


def test_output_is_plain_lines_and_a_second_run_takes_another_folder(cwd, capsys, run, monkeypatch):
    monkeypatch.setenv("FORCE_COLOR", "1")  # as in a notebook, which is no terminal
    for _ in range(2):
        main(["train", *SMALL, *QUICK, "max_iterations=2"])
        out = capsys.readouterr().out
    assert "\x1b" not in out
    first, *lines = out.splitlines()
    assert re.fullmatch(
        r"phalanx Cartpole: 64 environments, physics fused on \d+ threads?, learning on cpu"
        r" \(\d+ threads\), run folder runs/Cartpole_2",
        first,
    )
    for word in ("frames", "steps/s", "return", "length", "kl", "lr", "elapsed", "left"):
        assert f"{word} " in lines[0]
    assert any(x.startswith("done: iteration 2 was the last; final return ") for x in lines)
    assert "checkpoint:  runs/Cartpole_2/nn/Cartpole.pth" in lines
    names = {"config.yaml", "result.json", "nn", "summaries"}
    for folder in ("runs/Cartpole", "runs/Cartpole_2"):
        assert set(os.listdir(folder)) == names
        final = {p.name for p in Path(folder, "nn").glob("last_Cartpole_ep_2_rew_*.pth")}
        assert set(os.listdir(f"{folder}/nn")) == {"Cartpole.pth", "last_Cartpole.pth", *final}


def test_printed_play_command_works(cwd, capsys):
    # A run whose settings differ from the defaults: play must take them from its folder.
    main(["train", *SMALL, *QUICK, "train=CartpoleDiscretePPO", "max_iterations=1",
          "task.env.discrete_actions=5", "train_dir=my runs (a=b)"])  # fmt: skip
    printed = re.search(r"watch it: +phalanx (.*)", capsys.readouterr().out)[1]
    main([*shlex.split(printed), "video=false", "games=20"])
    out = capsys.readouterr().out
    assert re.fullmatch(
        r"Cartpole: return -?\d+\.\d\d \+- \d+\.\d\d, episode length \d+\.\d, over 20 episodes\n",
        out,
    )


def test_progress_after_a_change_of_the_number_of_environments(cwd, capsys):
    main(["train", *SMALL, *QUICK, "max_iterations=2"])
    capsys.readouterr()
    fewer = ["num_envs=16", "max_iterations=4"]
    main(["train", "checkpoint=runs/Cartpole", "sim_device=cpu", *fewer])
    # 2 iterations of 64 x 8 steps, then 2 of 16 x 8
    assert re.search(r"frames 1\.28 k/1\.28 k .* left 0:00\n", capsys.readouterr().out)


def test_continuing_a_finished_run_explains_how_to_train_further(cwd, capsys):
    main(["train", *SMALL, *QUICK, "max_iterations=2"])
    assert "already ended" not in capsys.readouterr().out
    files = [Path("runs/Cartpole", name) for name in ("config.yaml", "result.json")]
    before = [file.read_text() for file in files]
    main(["train", "checkpoint=runs/Cartpole", "sim_device=cpu", "max_iterations=1"])
    said = capsys.readouterr().out
    assert "to continue training, give max_iterations= above 2" in said
    assert "checkpoint:  runs/Cartpole/nn/Cartpole.pth" in said  # relative, as it was given
    assert [file.read_text() for file in files] == before


def test_list_shows_each_task_in_one_line(capsys):
    main(["list"])
    assert re.search(r"^Cartpole +Balance a pole .* 4 +1", capsys.readouterr().out, re.MULTILINE)


# help, configuration and sweeps -------------------------------------------------------------------


def test_help_and_list_import_nothing_heavy(cwd):
    """In a new process: PyTorch alone takes seconds."""
    calls = [["list"], ["--help"], ["train", "task=Ant", "train=AntSAC", "--help"], ["--version"]]
    code = (
        "import sys; from phalanx.cli.main import main\n"
        f"for arguments in {calls}: main(arguments)\n"
        "heavy = {'torch', 'mujoco', 'warp', 'numpy'} & set(sys.modules)\n"
        "sys.exit(f'imported: {heavy}' if heavy else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


def shown(capsys, *arguments):
    main([*arguments])
    return capsys.readouterr().out


def test_usage_names_the_commands_and_the_version(capsys):
    assert shown(capsys) == shown(capsys, "--help")
    for command in COMMANDS:
        assert f"\n  {command} " in shown(capsys)
    assert shown(capsys, "--version") == f"phalanx {importlib.metadata.version('phalanx')}\n"


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_explains_its_keys(command, capsys):
    out = shown(capsys, command, "--help")
    assert out.startswith(f"usage: phalanx {command}")
    place = COMMANDS[command].options
    if place:
        module, _, name = place.partition(":")
        for field in dataclasses.fields(getattr(importlib.import_module(module), name)):
            entry = re.search(rf"^{field.name} .*(\n  .*)?", out, re.MULTILINE)[0]
            assert len(entry.split()) > 3, entry


@pytest.mark.parametrize(
    ("task", "train"),
    [("Ant", "AntPPO"), ("Cartpole", "CartpoleFastSAC"), ("Cartpole", "CartpoleDQN")],
)
def test_help_lists_the_keys_of_a_task_and_its_training(task, train, capsys):
    """Help itself imports none of these classes."""
    out = shown(capsys, "train", f"task={task}", f"train={train}", "--help")
    env, config = out.split("task.env.<key>")[1].split("train.params.config.<key>")
    settings = compose_config([f"task={task}", f"train={train}"])
    values = dataclasses.asdict(settings.task.config)
    for name in ("randomize", "randomization_params", "actuators"):
        del values[name]
    used = settings.train.params.config
    for name, value in values.items():
        assert re.search(rf"^{name} +{re.escape(as_typed(name, value))}(?= |$)", env, re.MULTILINE)
    for name, value in used.items():
        if not isinstance(value, dict):
            assert re.search(rf"^{name} +{re.escape(as_typed(name, value))}(?= |$)", config, re.M)


def test_help_has_what_a_task_says_of_the_rest_of_a_part():
    """G1VelocityMjlab gives three of MjlabWeights other defaults, and has no YAML for them."""
    used = compose_config(["task=G1VelocityMjlab"]).task.config.rewards
    shown = {f.name: f.default for f in fields(config_class("G1VelocityMjlab"))}
    for name, value in dataclasses.asdict(used).items():
        assert shown[f"rewards.{name}"] == str(value), name


def test_every_term_of_a_reward_is_explained():
    for task in tasks.TASKS:
        described = tasks.source_file(task).read_text().split('"""')[1]
        for key in fields(config_class(task)):
            if key.meaning.startswith("Weight of "):
                term = key.name.rpartition(".")[2]
                assert key.name == term or term in described, f"{task}: {key.name}"


def test_every_key_has_a_meaning():
    classes = [config_class(task) for task in tasks.TASKS]
    classes += [find_class(place) for place in {**ALGORITHMS, **NETWORKS}.values()]
    for cls in classes:
        words = {f.name: re.sub(r"\([^()]*\)$", "", f.meaning).strip() for f in fields(cls)}
        unexplained = [f.name for f in fields(cls) if not words[f.name] and not f.is_section]
        assert not unexplained, cls.node.name


def as_typed(name, value):
    if name == "dt":
        return f"1 / {round(1 / value)}"
    if name == "asset":
        return Path(value).name
    return {True: "true", False: "false", None: "null"}.get(value, str(value)) if not isinstance(
        value, (int, float)) or isinstance(value, bool) else str(value)  # fmt: skip


def test_cfg_job_prints_the_configuration_that_a_run_would_save(cwd, capsys, run):
    out = shown(capsys, "train", "--cfg", "job", *SMALL, *QUICK, "max_iterations=8", "seed=7")
    printed, saved = yaml.safe_load(out), yaml.safe_load((run / "config.yaml").read_text())
    for settings in (printed, saved):
        del settings["train_dir"], settings["experiment"]
    assert printed == saved
    assert os.listdir(cwd) == []
    assert "as in phalanx train --cfg task=Ant" in sentence(capsys, ["list", "--cfg"], cwd)
    cartpole = yaml.safe_load(shown(capsys, "train", "seed=3", "--cfg"))
    assert (cartpole["task"]["name"], cartpole["seed"]) == ("Cartpole", 3)


def test_a_sweep_makes_one_run_for_each_combination_and_sums_up(cwd, capsys):
    small = [*SMALL, *QUICK, "max_iterations=1"]
    out = shown(capsys, "train", "-m", "seed=1,2", "task.env.reach=2.0,3.0", *small)
    _, *rows = out[out.index("seed  task.env.reach") :].splitlines()
    places = [row.split()[-1] for row in rows]
    assert places == ["runs/Cartpole", *(f"runs/Cartpole_{k}" for k in (2, 3, 4))]
    assert [row.split()[:2] for row in rows] == [
        ["1", "2.0"],
        ["1", "3.0"],
        ["2", "2.0"],
        ["2", "3.0"],
    ]
    saved = [yaml.safe_load(Path(p, "config.yaml").read_text()) for p in places]
    assert [s["seed"] for s in saved] == [1, 1, 2, 2]
    assert [s["task"]["env"]["reach"] for s in saved] == [2.0, 3.0, 2.0, 3.0]
    # A run in a sweep learns what it would have learnt alone.
    main(["train", *small, "seed=2", "task.env.reach=3.0", "experiment=alone"])
    alone, third = (
        torch.load(Path("runs", p, "nn", "last_Cartpole.pth"))["model"]
        for p in ("alone", "Cartpole_4")
    )
    assert all(torch.equal(alone[k], third[k]) for k in alone)


def test_a_sweep_continues_after_a_failure_and_checks_all_runs_first(cwd, capsys):
    said = sentence(capsys, ["train", "-m", "task=Cartpole,Cartpol", *SMALL], cwd)
    assert "unknown task 'Cartpol'" in said
    options = [*SMALL, "train.params.config.minibatch_size=100,512", "max_iterations=1"]
    with pytest.raises(SystemExit) as stop:
        main(["train", "-m", *options, "experiment=two"])
    out = capsys.readouterr().out
    assert stop.value.code == 2
    assert "failed: params.config.minibatch_size 100 does not divide" in out
    assert os.listdir("runs") == ["two_2"]


def test_a_sweep_sums_up_what_there_was_before_a_fault_and_after_what_the_system_refuses(
    cwd, capsys, monkeypatch
):
    errors = iter(((MemoryError, ""), (PhalanxError, "wrong"), (ValueError, "a fault in Phalanx")))
    environments = []

    def run(options):
        assert not any(ref() for ref in environments)  # those of the run before are freed
        environment = type("Environment", (), {})()
        environment.itself = environment
        environments.append(weakref.ref(environment))
        kind, words = next(errors)
        raise kind(words)

    monkeypatch.setattr("phalanx.cli.train.run", run)
    with pytest.raises(ValueError, match="a fault"):
        main(["train", "-m", *SMALL, "seed=1,2,3,4"])
    out = capsys.readouterr().out
    assert "failed: not enough memory for this number of environments" in out
    rows = [line.split()[:2] for line in out.splitlines()]
    assert ["1", "failed"] in rows
    assert ["2", "failed"] in rows


def test_a_rank_that_alone_has_no_memory_ends_a_sweep_for_all(cwd, capsys, monkeypatch):
    def run(options):
        runs.append(options)
        raise MemoryError

    runs = []
    monkeypatch.setattr("phalanx.cli.train.run", run)
    monkeypatch.setattr("phalanx.rl.ranks.size", lambda: 2)
    with pytest.raises(MemoryError):  # for which `main` ends the others
        train_each([*SMALL, "seed=1,2"])
    assert len(runs) == 1


@contextlib.contextmanager
def terminal(monkeypatch):
    """A terminal as standard output; a list of what was printed there, without its controls, when
    the block ends."""
    ours, theirs = pty.openpty()
    seen, texts = [], []

    def read():
        with contextlib.suppress(OSError):  # the other end is closed
            while data := os.read(ours, 4096):
                seen.append(data)

    reader = threading.Thread(target=read, daemon=True)
    reader.start()
    with open(theirs, "w") as file, monkeypatch.context() as patched:
        for name, value in {"TERM": "xterm-256color", "COLUMNS": "120", "LINES": "30"}.items():
            patched.setenv(name, value)
        patched.setattr(sys, "stdout", file)
        yield texts
    reader.join(5)
    os.close(ours)
    raw = b"".join(seen).decode()
    assert "\x1b[" in raw
    texts.append(re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", raw))


def test_a_terminal_shows_a_live_panel_and_words_as_they_are(cwd, monkeypatch):
    with terminal(monkeypatch) as said:
        main(["train", *SMALL, *QUICK, "max_iterations=20", "experiment=a[dim]b"])
        main(["play", "checkpoint=runs/a[dim]b", "games=64"])
    for figure in (r"training \S+ 100%", "iteration 20 ", r"frames 10\.24 k/10\.24 k",
                   r"rollout steps/s [\d.]+ ", r"return [\d.]+ ", r"length [\d.]+ ",
                   r"kl -?0\.\d+ ", r"lr [\de.-]+ ", r"elapsed 0:\d\d", "left 0:00",
                   "Ctrl-C saves and stops"):  # fmt: skip
        assert re.search(figure, said[0]), figure
    assert "done: iteration 20 was the last" in said[0]
    assert "[" not in said[0].replace("a[dim]b", "")


@pytest.mark.parametrize("products", [("float",), ("float", "half")])
def test_mixed_precision_that_does_nothing_is_named(products, cwd, capsys, monkeypatch):
    if not set(products) <= set(supported_products()):
        pytest.skip("this processor does not multiply bfloat16")
    monkeypatch.setattr(compiled, "FEWEST", 0)
    monkeypatch.setattr(compiled, "supported_products", lambda: products)
    asked = "train.params.config.mixed_precision=true"
    main(["train", *SMALL, *QUICK, "max_iterations=1", asked, "train_dir=runs"])
    assert ("no effect: mixed_precision" in capsys.readouterr().out) == ("half" not in products)


def test_play_writes_a_video(run, capsys, cwd, monkeypatch):
    from phalanx.cli import play

    monkeypatch.setattr(play, "VIDEO_SECONDS", 0.2)
    try:
        main(["play", "games=4", f"checkpoint={run}/nn/Cartpole.pth", "video=true"])
    except SystemExit:
        said = capsys.readouterr().err
        assert "no OpenGL to render the video with; install it" in said
        pytest.skip(said)
    file = Path(re.findall(r"video: (.*)", capsys.readouterr().out)[-1])  # after its progress
    assert file == run / "videos" / "Cartpole.mp4"
    assert b"ftyp" in file.read_bytes()[:12]


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("play video=true games=2", "run/videos is not a writable folder; make it one"),
        ("export out=run/videos/x.onnx", "choose another with out="),
    ],
)
def test_places_are_checked_before_the_work_begins(line, words, run, cwd, capsys, monkeypatch):
    shutil.copytree(run, "run", ignore=shutil.ignore_patterns("videos"))
    Path("run/videos").touch()
    monkeypatch.setattr("phalanx.rl.Runner.create_player", lambda _: 1 / 0)
    checkpoint = "checkpoint=run/nn/Cartpole.pth"
    assert words in command_line.sentence(capsys, *line.split(), checkpoint)


@pytest.mark.parametrize(
    "line",
    ["play video=true", "train video_every=1", "motion show walk out=walk.mp4"],
)
def test_without_ffmpeg_no_film_is_begun(line, cwd, capsys, monkeypatch):
    monkeypatch.setenv("IMAGEIO_FFMPEG_EXE", "/nowhere/ffmpeg")
    monkeypatch.setattr("phalanx.rl.Runner.create_player", lambda _: 1 / 0)
    said = sentence(capsys, line.split(), cwd)
    assert "no ffmpeg to write films with; install it" in said


def told_to_end():
    with interruptible():
        assert signal.getsignal(signal.SIGTERM) != signal.SIG_DFL
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(5)


def test_sigterm_ends_a_command_where_a_shell_has_it_ignore_ctrl_c():
    """As of background jobs; what is half done is cleared away on the way out."""
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with pytest.raises(KeyboardInterrupt):
            told_to_end()
        assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
        assert signal.getsignal(signal.SIGINT) == signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, before)
