"""The shims for old clients: only when asked for, and what they bring back means what it meant."""

import os
import subprocess
import sys

import pytest

CLIENT = """
import isaacgym
import numpy as np
from gym import spaces
import gym.wrappers
from pysdf import SDF
from urdfpy import URDF
from rl_games.common.a2c_common import A2CBase
agent = A2CBase()
low = -np.Inf * np.ones(2)
print(spaces.Box(low, -low).shape, np.float is float, isinstance(np.float64(1), np.float_))
print(np.product([2, 3]), np.in1d([[1, 2]], [2]).tolist(), gym.Space.__module__, agent.seq_len)
from rl_games.torch_runner import Runner
Runner().run({"play": True})
Runner().run({"checkpoint": "b.pth"})
for use in (lambda: SDF(1), lambda: URDF.load("a.urdf")):
    try:
        use()
    except ImportError as error:
        print(error)
"""


RUNNER = """
class Runner:
    params = {"load_checkpoint": True, "load_path": "a.pth"}
    def run(self, args):
        print(args)
"""


def rl_games(folder, body):
    """A stand-in that is quicker to import than the real one."""
    common = folder / "rl_games" / "common"
    common.mkdir(parents=True)
    for package in (common.parent, common):
        (package / "__init__.py").touch()
    (common / "a2c_common.py").write_text(f"class A2CBase:\n    {body}\n")
    (common.parent / "torch_runner.py").write_text(RUNNER)


def client(code, **environment):
    """What a process of its own says."""
    environ = {k: v for k, v in os.environ.items() if k != "ISAACGYM_COMPAT"} | environment
    command = [sys.executable, "-c", code]
    return subprocess.run(command, capture_output=True, text=True, env=environ)


@pytest.mark.parametrize("setting", [{}, {"ISAACGYM_COMPAT": "0"}, {"ISAACGYM_COMPAT": ""}])
def test_nothing_is_done_unasked(setting):
    code = "import isaacgym, sys, numpy; print('Inf' in vars(numpy), 'pysdf' in sys.modules)"
    done = client(code, **setting)
    assert done.stdout.split() == ["False", "False"], done.stderr


def test_shims_are_named_in_one_line_and_mean_what_they_meant(tmp_path):
    rl_games(tmp_path, "seq_length = 7")
    done = client(CLIENT, ISAACGYM_COMPAT="1", PYTHONPATH=str(tmp_path))
    first, *lines = done.stdout.splitlines()
    assert first.startswith("isaacgym.compat: ")
    for words in ("names back in NumPy", "gym is Gymnasium", "stand-ins for pysdf and urdfpy"):
        assert words in first
    assert lines[:2] == ["(2,) True True", "6 [False, True] gymnasium.spaces.space 7"]
    # a stand-in can be imported, and says what it is when it is used
    assert lines[2:4] == ["{'checkpoint': 'a.pth', 'play': True}", "{'checkpoint': 'b.pth'}"]
    assert lines[4].startswith("pysdf.SDF needs pysdf, which is not installed;")
    assert lines[5].startswith("urdfpy.URDF needs urdfpy, which is not installed;")


def test_what_is_there_is_not_replaced(tmp_path):
    (tmp_path / "gym.py").write_text("mine = True\n")
    (tmp_path / "pysdf.py").write_text("SDF = 3\n")
    rl_games(tmp_path, "seq_len = 4")
    code = "import isaacgym, gym, pysdf, numpy; from rl_games.common.a2c_common import A2CBase as A"
    code += "; print(gym.mine, pysdf.SDF, A.seq_len, numpy.bool)"
    done = client(code, ISAACGYM_COMPAT="1", PYTHONPATH=str(tmp_path))
    first, last = done.stdout.splitlines()
    for name in ("Gymnasium", "pysdf", "rl_games"):
        assert name not in first
    assert last.startswith("True 3 4 <class 'numpy.bool'>")
