"""The doctor on small repositories: what it finds, where, and that it runs nothing of them."""

import ast
import dataclasses
import importlib
import json
import operator
import os
import sys
from pathlib import Path

import numpy as np
import pytest

from phalanx.cli import doctor as command
from phalanx.cli import doctor_assets, doctor_install
from phalanx.cli import doctor_rot as rot
from phalanx.cli.doctor_api import calls, installed_support
from phalanx.cli.doctor_install import refused
from phalanx.cli.doctor_read import Source, parse
from phalanx.cli.doctor_rot import NAMES, SHIM
from phalanx.cli.main import main

SUPPORT = {
    "Gym.create_sim": "supported",
    "Gym.simulate": "supported",
    "Gym.create_camera_sensor": "refused: cameras are not there yet",
    "gymapi.Vec3": "supported",
    "gymapi.SIM_PHYSX": "supported",
    "gymapi.SIM_FLEX": "for comparisons only",
    "gymapi.acquire_gym": "supported",
    "torch_utils.quat_mul": "supported",
    "torch_utils.normalize": "supported",
}


@pytest.fixture
def examine(tmp_path, capsys, monkeypatch):
    """Write a repository, run the doctor on it with the table above; its report and exit code."""

    def run(files, support=SUPPORT):
        monkeypatch.setattr(command, "installed_support", lambda: support)
        for name, text in files.items():
            path = tmp_path / "repo" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        with pytest.raises(SystemExit) as stop:
            main(["doctor", str(tmp_path / "repo"), "json=-"])
        return json.loads(capsys.readouterr().out), stop.value.code

    return run


def found(report):
    """What breaks, by its first words."""
    return {p["what"].split(",")[0]: p["places"] for p in report["problems"] if p["breaks"]}


GOOD = """\
from isaacgym import gymapi
gym = gymapi.acquire_gym()
sim = gym.create_sim(0, 0, gymapi.SIM_PHYSX)
"""


def test_a_repository_that_only_makes_supported_calls_should_run(examine):
    report, code = examine({"a.py": GOOD + "gym.simulate(sim)\ngym.simulate(sim)\n"})
    assert code == 0
    assert report["calls"]["Gym.simulate"] == {
        "state": "supported",
        "count": 2,
        "places": ["a.py:4"],
    }
    assert report["install"] == report["problems"] == []


def test_a_refused_and_an_unknown_call_need_attention(examine):
    more = "gym.create_camera_sensor(1)\ngym.make_coffee()\ngymapi.Vec3(0, 0, gymapi.Vec5)\n"
    report, code = examine({"a.py": GOOD + more})
    assert code == 1
    states = {name: use["state"] for name, use in report["calls"].items()}
    assert states["Gym.create_camera_sensor"] == "refused: cameras are not there yet"
    assert states["Gym.make_coffee"] == states["gymapi.Vec5"] == "no such name"
    assert states["gymapi.Vec3"] == "supported"


def test_without_the_drop_in_states_are_unknown_and_it_is_to_be_installed(examine):
    report, code = examine({"a.py": GOOD}, support=None)
    assert code == 1
    assert {use["state"] for use in report["calls"].values()} == {"unknown"}
    assert "isaacgym" in report["install"][0]


@pytest.mark.parametrize(
    ("text", "name", "count"),
    [
        ("from isaacgym import gymapi as api\nx = api.Vec3.dtype\n", "gymapi.Vec3", 1),
        ("import isaacgym.gymapi\nx = isaacgym.gymapi.Vec3()\n", "gymapi.Vec3", 1),
        ("from isaacgym.gymapi import Vec3 as V\nV()\nV()\n", "gymapi.Vec3", 2),
        ("from isaacgym.torch_utils import *\nquat_mul(a, b)\n", "torch_utils.quat_mul", 1),
        ("import isaacgym\nself.env.gym.simulate(1)\n", "Gym.simulate", 1),
        ("import isaacgym\ndef f(gym):\n    setter = gym.simulate\n", "Gym.simulate", 1),
        ("import isaacgym as i\ng = i.acquire_gym()\ng.simulate()\n", "Gym.simulate", 1),
        ("import isaacgym, gym\ndef f(gym):\n    gym.simulate()\n", "Gym.simulate", 1),
    ],
)  # fmt: skip
def test_every_way_to_name_a_call_is_seen(text, name, count):
    assert calls([parse("a.py", text.encode())], SUPPORT)[name].count == count


@pytest.mark.parametrize(
    "text",
    [
        "import gym\ngym.make('CartPole-v1')\n",  # no Isaac Gym
        "import isaacgym, gym\ngym.make('CartPole-v1')\nx = gym.spaces.Box\n",
        "from isaacgym.torch_utils import *\ndef normalize(x):\n    return x\nnormalize(1)\n",
    ],
)
def test_names_that_only_look_like_calls_are_ignored(text):
    assert calls([parse("a.py", text.encode())], SUPPORT) == {}


def test_each_kind_of_rot_is_one_line_with_its_places(examine):
    report, code = examine(
        {
            "a.py": "import numpy as np\nx = np.float(1)\ny = np.Inf\nz = [np.float, np.float32]\n",
            "b.py": "from isaacgym.torch_utils import *\nx = np.float(1)\n",
            "c.py": "from collections import Mapping\nimport yaml\nyaml.load(x)\nyaml.load(x, y)\n",
            "d.py": "from torch._six import inf\nimport torch\ntorch.symeig(a)\nx.as_dcm()\n",
            "e.py": "import imp\nimport distutils.core\nimport importlib\nimport gym.spaces\n",
        }
    )
    assert code == 1
    assert found(report) == {
        "np.float": ["a.py:2", "b.py:2"],
        "np.Inf": ["a.py:3"],
        "collections.Mapping": ["c.py:1"],
        "yaml.load without a loader": ["c.py:3"],
        "torch._six": ["d.py:1"],
        "torch.symeig": ["d.py:3"],
        ".as_dcm()": ["d.py:4"],
        "gym": ["e.py:4"],
        **({"imp": ["e.py:1"], "distutils": ["e.py:2"]} if sys.version_info >= (3, 12) else {}),
    }
    assert next(p["count"] for p in report["problems"] if p["what"].startswith("np.float")) == 3
    assert report["install"][-1] == f"export {SHIM}"


def test_a_dataclass_as_default_breaks_unless_it_has_a_hash(examine):
    head = "from dataclasses import dataclass\n@dataclass\nclass A:\n    x: int = 0\n"
    frozen = "@dataclass(frozen=True)\nclass B:\n    x: int = 0\n"
    user = "@dataclass\nclass C:\n    a: A = A()\n    b: B = B()\n    n: int = int()\n"
    report, _ = examine({"a.py": head + frozen + user})
    assert [*found(report).values()] == [["a.py:10"]]


def test_a_name_that_a_file_puts_back_itself_is_no_problem(examine):
    report, code = examine({"a.py": GOOD + "import numpy as np\nnp.float = float\nnp.float(1)\n"})
    assert (found(report), code) == ({}, 0)


def test_problems_that_may_still_run_are_listed_but_do_not_count(examine):
    text = 'import torch\ntorch.load("x")\ntorch.load("x", weights_only=True)\nx = "\\d"\n'
    report, code = examine({"a.py": text})
    assert code == 0
    assert [p["places"] for p in report["problems"]] == [["a.py:2"], ["a.py:4"]]


def test_versions_that_cannot_be_had_are_named_and_left_out_of_the_install(examine):
    setup = (
        "from distutils.core import setup\nNEEDS = ['numpy==1.20', 'torch', 'pysdf==0.1.9']\n"
        "setup(install_requires=NEEDS, python_requires='>=3.6')\n"
    )
    files = {
        "setup.py": setup,
        "requirements.txt": "torch==1.8.1  # old\nnumpy>=1.16\n-r other.txt\n",
        "pyproject.toml": '[project]\nrequires-python = "<3.9"\ndependencies = ["numpy<1.24"]\n',
        "a.py": "import numpy\n",
    }
    report, code = examine(files)
    assert code == 1
    assert found(report) == {}  # pip gives a setup.py its distutils
    unmet = {f: [x.split(" (")[0] for x in v] for f, v in report["unmet_requirements"].items()}
    assert unmet == {
        "setup.py": ["numpy==1.20", "pysdf==0.1.9"],
        "requirements.txt": ["torch==1.8.1"],
        "pyproject.toml": ["python<3.9", "numpy<1.24"],
    }
    assert any(
        line.startswith("pip install --no-deps --ignore-requires-python -e")
        for line in report["install"]
    )


@pytest.mark.parametrize(
    ("text", "stops"),
    [
        ("from urdfpy import URDF\n", []),
        ("from urdfpy import URDF\nx = URDF.load(x).links[0].collision_mesh\n", []),
        ("from urdfpy import URDF\nself.x = URDF.load(x)\nself.x.joints\n", ["urdfpy's joints"]),
        ("import urdfpy\nurdfpy.URDF.load(x).show(1)\n", ["urdfpy's show"]),
        ("import urdfpy\nx = urdfpy.Joint(1)\n", ["urdfpy's Joint"]),
        ("from pysdf import SDF\nf = SDF(x, y)\nf(z), f.contains(z)\n", []),
        ("from pysdf import SDF\nf = SDF(x, y)\nf.nn(z)\n", ["pysdf's nn"]),
    ],
)
def test_a_program_stops_where_a_stand_in_does_not_do(examine, text, stops):
    report, _ = examine({"a.py": GOOD + text + "main()\n"})
    assert [stop["what"] for stop in report["programs"][0]["stops"]] == stops
    assert "export ISAACGYM_COMPAT=1" in report["install"]


def test_the_doctor_knows_what_stand_ins_have():
    stand_ins = importlib.import_module("isaacgym.mesh_stand_ins")
    for module in ("pysdf", "urdfpy"):
        for name in doctor_install.SHIMMED[module]:
            made = getattr(stand_ins.URDF([]), name, None) is not None
            assert made or hasattr(stand_ins.SDF, name) or operator.attrgetter(name)(stand_ins)


def test_a_part_that_a_python_lacks_is_missing(examine, monkeypatch):
    monkeypatch.setattr(doctor_install, "installed", lambda module: module != "_tkinter")
    report, _ = examine({"a.py": GOOD + "from tkinter import W\nimport sqlite3\n"})
    assert report["by_hand"] == {"tkinter": "it comes with Python, on Ubuntu as python3-tk"}
    assert report["install"] == ["export ISAACGYM_COMPAT=1"]
    assert not report["programs"][0]["stops"]
    report, _ = examine({"a.py": GOOD + "import tkinter\ntkinter.Tk()\n"})
    assert report["programs"][0]["stops"][0]["what"] == "tkinter's Tk"


def test_packages_at_both_depths_of_a_repository_are_installed(examine):
    setup = "from setuptools import setup\nsetup()\n"
    places = ("low/setup.py", "third/skrl/setup.py", "low/own/setup.py", "low/part/setup.py")
    program = {"a.py": GOOD + "import apart\nimport low.part\nimport skrl\n"}
    files = {"low/part/__init__.py": "", "third/skrl/skrl/__init__.py": ""}
    files |= {"low/other/setup.py": setup, "low/other/apart/__init__.py": "", **program}
    places += ("third/unused/setup.py",)
    report, _ = examine(files | dict.fromkeys(places, setup))
    ends = [line.rpartition("/")[2] for line in report["install"]]
    assert ends == ["low", "other", "skrl"]  # other is needed, and no part of low


def test_packages_of_a_repository_without_programs_are_installed(examine):
    setup = "from setuptools import setup\nsetup()\n"
    files = {"a/setup.py": setup, "a/a.py": "x = 1\n", "b/setup.py": setup, "b/b.py": "x = 1\n"}
    report, _ = examine(files)
    assert [line.rpartition("/")[2] for line in report["install"]] == ["a", "b"]
    report, _ = examine(files | {"train.py": GOOD + "gym.simulate(sim)\n"})
    assert report["install"] == []
    # utils, where train.py finds it, has a copy of the module that it imports from b.
    more = {"utils/rl/__init__.py": "", "b/rl/__init__.py": "", "utils/go.py": "import rl\n"}
    report, _ = examine(more | {"train.py": GOOD + "import utils.go\ngym.simulate(sim)\n"})
    assert [line.rpartition("/")[2] for line in report["install"]] == ["b"]


@pytest.mark.parametrize("folder", ["logs", "runs", "outputs"])
def test_copies_that_runs_keep_are_no_programs(examine, folder):
    files = {"train.py": GOOD + "gym.simulate(sim)\n"}
    report, code = examine(files | {f"{folder}/a/train.py": GOOD + "gym.no(sim)\n"})
    assert [program["file"] for program in report["programs"]] == ["train.py"]
    assert code == 0


def test_packages_that_are_missing_are_listed_once_by_their_own_name(examine):
    text = (
        "import cv3, os, mine.part, rl_games_x\n"
        "import cv3.sub\n"
        "try:\n    import horovod_x\nexcept ImportError:\n    pass\n"
        "def f():\n    import pandas_x\n"
    )
    report, code = examine({"a.py": text, "lib/mine/part.py": ""})
    assert code == 1
    assert report["missing_packages"] == ["cv3", "rl_games_x"]
    assert report["install"] == []  # a package of that name may belong to anybody
    assert [*report["by_hand"]] == ["cv3", "rl_games_x"]


@pytest.mark.parametrize("line", ["rsl-rl", "rsl_rl==1.0.2"])
def test_rsl_rl_is_wanted_as_it_was_if_the_repository_asks_for_its_old_name(examine, line):
    files = {"requirements.txt": f"{line}\n", "a.py": "from rsl_rl.runners import OnPolicyRunner\n"}
    report, code = examine(files)  # rsl-rl-lib is installed here
    assert code == 1
    assert report["install"][0].endswith("rsl_rl@v1.0.2")


def test_a_program_stops_at_what_it_meets_first(examine):
    """train imports the package, whose task imports a module from elsewhere before it comes to a
    line that is gone; only a function of play makes a refused call. A library is no program."""
    files = {
        "pkg/__init__.py": "from .tasks.ant import Ant\n",
        "pkg/tasks/ant.py": "from pkg.base import Base\nimport torch\nA = torch.symeig\n"
        "class Ant(Base):\n    def reset(self):\n        torch.lstsq(1)\n",
        "pkg/base.py": "import nowhere_x\nfrom isaacgym import gymapi\nclass Base:\n    pass\n",
        "scripts/train.py": 'import pkg\nif __name__ == "__main__":\n    pkg.Ant()\n',
        "scripts/play.py": "import isaacgym\ndef main(gym):\n    gym.create_camera_sensor(1)\n"
        "main(isaacgym.acquire_gym())\n",
        "scripts/plot.py": "import torch\nprint(torch.eig)\n",
        "tests/test_a.py": "import isaacgym\nisaacgym.run()\n",
    }
    report, code = examine(files)
    assert code == 1
    programs = {program["file"]: program["stops"] for program in report["programs"]}
    assert programs.keys() == {"scripts/train.py", "scripts/play.py"}
    train = [(stop["at"], stop["in"], stop["at_import"]) for stop in programs["scripts/train.py"]]
    assert train == [
        ("pkg/base.py:1", "", True),
        ("pkg/tasks/ant.py:3", "", True),
        ("pkg/tasks/ant.py:6", "Ant", False),
    ]
    assert programs["scripts/train.py"][0]["what"] == "nowhere_x, which is not installed"
    assert [stop["at"] for stop in programs["scripts/play.py"]] == ["scripts/play.py:3"]


@pytest.mark.parametrize(
    ("file", "text", "line"),
    [
        ("requirement.txt", "numpy_x_y==1.2\n", "pip install numpy_x_y"),
        ("sub/requirements.txt", "Numpy.X-Y>=2\n", "pip install 'Numpy.X-Y>=2'"),
        ("requirements.txt", "git+https://h.org/a/NumpyXY.git@m\n",
         "pip install git+https://h.org/a/NumpyXY.git@m"),
        ("environment.yml", "dependencies:\n  - numpy-x-y=1.2=py37\n", None),  # is Conda's name
        ("environment.yml", "dependencies:\n  - numpy-x-y\n  - pip:\n    - good-numpy-x-y\n",
         "pip install good-numpy-x-y"),
        ("environment.yml", "dependencies:\n- pip:\n  - a\n- numpy-x-y\n", None),
        ("environment.yml", "dependencies:\n- pip:\n  - numpy-x-y\n", "pip install numpy-x-y"),
        ("README.md", "```\npip install numpy-x-y -U  # it\n```\n", "pip install numpy-x-y"),
        ("README.md", "pip install 'numpy-x-y @ git+https://h.org/a'\n",
         "pip install git+https://h.org/a"),
        ("a/setup.py", "setup(install_requires=['numpy_x_y'])\n", "pip install numpy_x_y"),
        ("pyproject.toml", "[tool.poetry.dependencies]\nnumpy_x_y = '*'\n",
         "pip install numpy_x_y"),
        ("pyproject.toml", "[tool.poetry.dependencies]\nnumpy_x_y = {path = '../it'}\n", None),
        ("pyproject.toml", "[tool.poetry.dependencies]\nnumpy_x_y = {url = 'https://h.org/a'}\n",
         "pip install https://h.org/a"),
        ("pyproject.toml", "[tool.poetry.dependencies]\nnumpy_x_y = {git = 'ssh://h.org/a#12'}\n",
         "pip install git+ssh://h.org/a@12"),
        ("pyproject.toml",
         "[tool.poetry.dependencies]\nnumpy_x_y = {git = 'g@h.org:a/b.git', branch = 'c'}\n",
         "pip install git+ssh://g@h.org/a/b.git@c"),
        ("pyproject.toml", "[project]\ndependencies = ['numpy_x_y>2']\n"
         "[tool.uv.sources]\nnumpy_x_y = {git = 'https://h.org/a'}\n",
         "pip install git+https://h.org/a"),
        ("pyproject.toml", "[project]\ndependencies = ['numpy_x_y>2']\n"
         "[tool.uv.sources]\nnumpy_x_y = {index = 'it'}\n", "pip install 'numpy_x_y>2'"),
        ("pyproject.toml", "[project]\ndependencies = ['numpy_x_y']\n"
         "[tool.uv.sources]\nnumpy_x_y = {workspace = true}\n", None),
        ("requirements.txt", "numpy_x_y==1\nnumpy_x_y @ file:///home/me/it\n", None),
        ("requirements.txt", "good-numpy.x-y>=2\n", "pip install good-numpy.x-y"),
        ("requirements.txt", "good-numpy-x-y\nother-numpy-x-y\n", None),  # which of them?
        ("none.txt", "", None),
    ],
)  # fmt: skip
def test_only_packages_that_the_repository_names_are_given_to_pip(examine, file, text, line):
    report, _ = examine({file: text, "a.py": "import numpy_x_y, numpy_x_y.sub\n"})
    assert report["missing_packages"] == ["numpy_x_y"]
    assert [said for said in report["install"] if " -e " not in said] == ([line] if line else [])


def test_a_package_that_two_things_need_is_installed_once(examine, monkeypatch):
    """setuptools, for a module that is not here and for one that is gone from Python."""
    monkeypatch.setattr(doctor_install, "installed", lambda module: module != "pkg_resources")
    for module in ("pkg_resources", "distutils"):
        gone = dataclasses.replace(rot.MODULES[module], breaks=True)
        monkeypatch.setitem(rot.MODULES, module, gone)
    report, _ = examine({"a.py": GOOD + "import distutils.util, pkg_resources\n"})
    assert report["install"] == ["pip install 'setuptools<82'"]


def test_what_conda_provides_is_said_to_come_from_it(examine):
    files = {"environment.yml": "dependencies:\n  - numpy-x-y=1.2\n  - torch=1.8\n"}
    report, _ = examine(files | {"a.py": "import numpy_x_y\n"})
    assert report["by_hand"] == {"numpy_x_y": "environment.yml takes it from Conda"}
    assert report["unmet_requirements"]["environment.yml"][0].startswith("torch==1.8 (here")


@pytest.mark.parametrize("asked", ["", "clip==1.0\n", "clip @ file:///home/me/CLIP\n"])
def test_a_name_that_a_registry_gives_to_another_package_is_not_given_to_pip(examine, asked):
    report, _ = examine({"a.py": GOOD + "import clip\n", "requirements.txt": asked})
    assert report["install"] == ["pip install git+https://github.com/openai/CLIP.git"]


@pytest.mark.parametrize("asked", ["", "git+https://github.com/ZhengyiLuo/SMPLSim.git@master\n"])
def test_a_package_in_no_registry_is_installed_from_its_repository(examine, asked):
    report, _ = examine({"a.py": GOOD + "import smpl_sim\n", "requirements.txt": asked})
    assert report["install"] == ["pip install git+https://github.com/ZhengyiLuo/SMPLSim.git@master"]
    assert not report["by_hand"]


def test_packages_whose_later_versions_lack_what_is_imported_keep_a_bound(examine):
    """Version 3 of params-proto has no PrefixProto, 2.10 no neo_proto, and ml-logger 0.9 no
    upload_file(once=...): walk-these-ways pins both, rapid-locomotion-rl neither."""
    needs = "setup(install_requires=['params_proto{}', 'ml_logger{}'])\n"
    code = "import ml_logger\nfrom params_proto{} import PrefixProto\n"
    for pins, module, wanted in (
        (("==2.10.5", "==0.8.117"), "", "ml_logger==0.8.117 params_proto==2.10.5"),
        (("", ""), "", "ml_logger 'params_proto<3'"),
        (("", ""), ".neo_proto", "ml_logger 'params-proto<2.10'"),
    ):
        report, _ = examine({"setup.py": needs.format(*pins), "a.py": code.format(module)})
        assert f"pip install {wanted}" in report["install"]


@pytest.mark.parametrize(
    ("files", "version"),
    [
        ({"requirements.txt": "rl-games==1.1.4\n"}, "1.1.4"),
        ({"b.py": "runner.model_builder.model_factory.register_builder(1)\n"}, "1.1.4"),
        ({"requirements.txt": "rl-games\n"}, None),
    ],
)
def test_rl_games_is_wanted_in_the_version_that_the_repository_means(examine, files, version):
    pytest.importorskip("rl_games", reason="1.6.5 must be installed")
    report, _ = examine({"a.py": "from rl_games.torch_runner import Runner\n"} | files)
    said = [line for line in report["install"] if "rl-games" in line]
    assert said == ([f"pip install --no-deps rl-games=={version}"] if version else [])


def test_names_that_the_program_can_do_without_are_no_problem(examine):
    text = (
        "try:\n    from collections import Mapping\nexcept ImportError:\n"
        "    from collections.abc import Mapping\n"
        "try:\n    import torch._six as six\nexcept Exception:\n    six = None\n"
        "from lxml import etree\netree.parse('a').getroot().getchildren()\n"
    )
    assert found(examine({"a.py": text})[0]) == {}
    text = "import xml.etree.ElementTree as e\ne.parse('a').getroot().getchildren()\n"
    assert [*found(examine({"a.py": text})[0])] == [".getchildren()"]


@pytest.mark.parametrize("first", ["gym", "isaacgym"])
def test_gym_before_isaacgym_must_be_gym_itself(examine, first):
    second = {"gym": "isaacgym", "isaacgym": "gym"}[first]
    report, _ = examine({"train.py": f"import {first}\nimport {second}\n{second}.start()\n"})
    assert any("pip install gym==0.23.1" in line for line in report["install"]) == (first == "gym")
    assert (f"export {SHIM}" in report["install"]) == (first == "isaacgym")
    (problem,) = report["problems"]
    assert problem["reached"] == ([] if first == "gym" else ["train.py:2"])


def test_cuda_without_a_choice_is_named_where_there_is_no_gpu(examine, monkeypatch):
    text = (
        "import torch\nfrom isaacgym.torch_utils import *\ndef f(device='cuda:0'):\n"
        "    torch.zeros(3, device=device)\nto_torch([1], device=f)\n"
        "to_torch([1])\ntorch.zeros(3, device='cuda:0')\nf().cuda()\ndef g(gpu=0):\n"
        "    f(sim_device='cuda:0', rl_device=gpu)\n    f(device=f'cuda:{gpu}')\n"
        "torch.device('cuda')\ntorch.device('cuda' if gpu else 'cpu')\n"
    )
    for has_gpu, count in ((True, 0), (False, 6)):
        monkeypatch.setattr(rot, "HAS_GPU", has_gpu)
        report, _ = examine({"a.py": text})
        uses = [p["count"] for p in report["problems"] if p["what"].startswith("CUDA")]
        assert uses == ([count] if count else [])


def test_the_switch_for_a_cpu_is_for_what_programs_reach(examine, monkeypatch):
    """A file that no program imports does not count, nor does a comparison of kinds of devices."""
    monkeypatch.setattr(rot, "HAS_GPU", False)
    files = {
        "train.py": "import isaacgym, torch, used\n"
        "def f(a):\n    return a.type == torch.device('cuda').type\nf(used)\n",
        "used.py": "import torch\nA = torch.zeros(1, device='cuda')\n",
        "robot/run.py": "import torch\nA = torch.zeros(1, device='cuda')\n",
    }
    report, _ = examine(files)
    assert report["cuda"] == ["used.py:2"]


@pytest.mark.parametrize(
    "text",
    [
        "d = torch.device('cuda:0') if a.x else torch.device('cpu')\n",
        "x = x.cuda() if use_gpu else x\n",
        "def f(device=torch.device('cuda')):\n    go(device)\nf()\n",
        "def f(x):\n    if not torch.cuda.is_available():\n        return x\n    x.cuda()\nf(1)\n",
        "try:\n    x = x.cuda()\nexcept RuntimeError:\n    pass\n",
        "torch.cuda.is_available() and x.cuda()\n",
        "if torch.cuda.is_available():\n    x = x.cuda()\n",
        "if a.device == 'cpu':\n    pass\nelse:\n    x = f(x.cuda())\n",
    ],
)
def test_cuda_that_a_program_chose_is_not_named(examine, monkeypatch, text):
    monkeypatch.setattr(rot, "HAS_GPU", False)
    assert examine({"train.py": GOOD + "import torch\n" + text})[0]["cuda"] == []


@pytest.mark.parametrize(
    "text",
    [
        "if a.x:\n    x.cuda()\n",
        "\nd = torch.device('cuda:0') if a else torch.device('cuda:1')\n",
        "try:\n    x.cuda()\nexcept KeyboardInterrupt:\n    pass\n",
        "if not torch.cuda.is_available(): raise OSError\nx.cuda()\n",
    ],
)
def test_cuda_that_a_program_needs_is_named(examine, monkeypatch, text):
    monkeypatch.setattr(rot, "HAS_GPU", False)
    assert examine({"train.py": GOOD + "import torch\n" + text})[0]["cuda"] == ["train.py:6"]


@pytest.mark.parametrize(
    "text",
    [
        "def f():\n" + "    if cpu: return\n" * 300,
        "if cpu: x()\n" + "elif cpu: x()\n" * 60,
        "x = " + "cpu and (" * 60 + "y" + ")" * 60,
    ],
    ids=["returns", "elif", "and"],
)
def test_what_a_program_chose_is_walked_once(text, monkeypatch):
    tree, visits, children = ast.parse(text), [], ast.iter_child_nodes
    source = Source("a.py", tree, list(ast.walk(tree)), {}, [], [])
    monkeypatch.setattr(ast, "iter_child_nodes", lambda n: visits.append(n) or children(n))
    assert rot._chosen(source)
    assert len(visits) <= len(source.nodes)


def test_the_main_block_of_a_file_that_others_import_does_not_count(examine, monkeypatch):
    monkeypatch.setattr(rot, "HAS_GPU", False)
    main = 'if __name__ == "__main__":\n'
    rotten = "    import nowhere_x, deep, torch\n    x.cuda()\n    torch.symeig(x)\n    gym.no(x)\n"
    files = {
        "net.py": "import isaacgym\nX = 1\n" + main + rotten,
        "deep.py": "import far_x\n",
        "train.py": GOOD + main + "    import net\n",
    }
    report, code = examine(files)
    assert code == 0
    assert [p["file"] for p in report["programs"]] == ["train.py"]
    assert report["cuda"] == report["install"] == report["missing_packages"] == []
    assert report["programs"][0]["stops"] == []
    report, _ = examine(files | {"train.py": GOOD + main + rotten})
    assert report["cuda"]
    assert report["missing_packages"] == ["far_x", "nowhere_x"]
    assert [s["what"].split(",")[0] for s in report["programs"][0]["stops"]] == [
        *("nowhere_x", "far_x", "torch.symeig", "Gym.no")
    ]


UNUSED = """
def first(x):
    import nowhere_x
    return second(x.cuda(), np.Inf)
def second(x):
    gym.no(x, torch.symeig)
"""


def test_functions_that_are_found_with_eval_count(examine):
    program = GOOD + "from algos.all import *\neval(f'make_{name}')(1)\n"
    algos = "from isaacgym import gymapi\ndef make_ppo(x):\n    gym.no(x)\n"
    report, _ = examine({"train.py": program, "algos/all.py": algos})
    assert [s["at"] for s in report["programs"][0]["stops"]] == ["algos/all.py:3"]


@pytest.mark.parametrize(
    ("more", "used"),
    [
        ("", False),
        ("first(1)\n", True),
        ("go('first')\n", True),
        ("globals()[name](1)\n", True),
        ("import util\ngetattr(util, name)(1)\n", True),
        ("getattr(self, name)(1)\n", False),
        ("class A:\n    def f(self):\n        util.first()\n", True),
        ("def third():\n    first()\n", False),
    ],
)
def test_functions_that_nothing_names_do_not_count(examine, monkeypatch, more, used):
    """They are in files that others import: much is copied with such files."""
    monkeypatch.setattr(rot, "HAS_GPU", False)
    monkeypatch.setattr(doctor_install, "installed", lambda module: True)
    util = "import torch, numpy as np\nfrom isaacgym import gymapi\n" + UNUSED
    program = GOOD + "import util\ngym.simulate(sim)\n"
    report, code = examine({"util.py": util + more, "train.py": program})
    assert code == used
    assert bool(report["cuda"]) == used
    assert [s["what"] for s in report["programs"][0]["stops"][-1:]] == ["Gym.no"] * used
    assert (f"export {SHIM}" in report["install"]) == used


def test_all_functions_of_a_library_count(examine):
    files = {"setup.py": "import Cython_x\n"}
    files["lib/util.py"] = "import isaacgym\ndef f(gym):\n    gym.no()\n"
    report, code = examine(files)
    assert not report["missing_packages"]  # pip gives a setup.py what it needs
    assert code == 1
    assert [s["what"] for s in report["programs"][0]["stops"]] == ["Gym.no"]


def test_what_the_switch_is_for_is_what_programs_reach(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(command, "installed_support", lambda: SUPPORT)
    text = "import numpy as np\nx = np.Inf\n"
    for name, more in (("a_plot.py", ""), ("train.py", "import isaacgym, mid\n"), ("mid.py", "")):
        (tmp_path / name).write_text(text + more + "mid.start()\n" * bool(more))
    with pytest.raises(SystemExit):
        main(["doctor", str(tmp_path)])
    assert "# for np.Inf (mid.py:2)" in capsys.readouterr().out


@pytest.mark.parametrize(
    "text",
    [
        "cfg.gym.seed = 1\n    print(cfg.gym.sim.dt, cfg.gym.get('x'))\n",
        "from mine import gym\n    gym.start()\n",
        "self.gym = make('Ant')\n    self.gym.reset()\n",
    ],
)
def test_other_things_that_are_called_gym_are_no_calls(examine, text):
    files = {
        "mine/gym.py": "",
        "train.py": GOOD.replace("gym =", "api =").replace("gym.c", "api.c"),
    }
    files["train.py"] += "def f(cfg):\n    " + text + "f(1)\n"
    report, code = examine(files)
    assert code == 0
    assert [n for n in report["calls"] if n.startswith("Gym.")] == ["Gym.create_sim"]


@pytest.mark.parametrize(
    ("call", "stops"),
    [
        ("gym.create_sim(0, 0, gymapi.SIM_FLEX, p)", True),
        ("gym.create_sim(type=gymapi.SimType.SIM_FLEX)", True),
        ("gym.create_sim(0, 0)", True),  # its default
        ("gym.create_sim(0, 0, engine, p)", False),
        ("gym.create_sim(*options)", False),
        ("gym.create_sim(0, **options)", False),
        ("if engine == gymapi.SIM_FLEX:\n    gym.create_sim(0, 0, gymapi.SIM_FLEX)", False),
        ("task.create_sim()", False),
    ],
)
def test_a_program_stops_where_it_asks_for_flex(examine, call, stops):
    head = "from isaacgym import gymapi\ngym = gymapi.acquire_gym()\n"
    support = SUPPORT | {"gymapi.SimType": "supported"}
    report, code = examine({"train.py": f"{head}{call}\n"}, support)
    assert [s["at"] for s in report["programs"][0]["stops"]] == ["train.py:3"] * stops
    assert code == stops


def test_isaacgymenvs_is_wanted_as_it_was_by_programs_that_register_its_resolvers(examine):
    files = {"train.py": "from omegaconf import OmegaConf\nimport isaacgym, isaacgymenvs\n"}
    for line, old in (("", False), ("OmegaConf.register_new_resolver('eq', max)\n", True)):
        report, _ = examine({"train.py": files["train.py"] + line})
        (clone,) = [text for text in report["install"] if "git clone" in text]
        assert ("checkout 9656bac" in clone) == old


def test_programs_that_come_through_others_are_said_to(examine, capsys, tmp_path):
    _, code = examine({"train.py": "import isaacgymenvs\nisaacgymenvs.make(1)\n"})
    assert code == 1
    with pytest.raises(SystemExit):
        main(["doctor", str(tmp_path / "repo")])
    assert "Isaac Gym through isaacgymenvs" in capsys.readouterr().out


HYDRA = """import hydra, isaacgym
@hydra.main(config_path='cfg', config_name='x')
def main(c):
    hydra.utils.instantiate(c)
main()
"""
INITIALIZE = """import isaacgym
from hydra import initialize, utils
initialize(config_path='cfg')
make = utils.instantiate
"""
TARGET = "simulator:\n  _target_: mine.gym.Sim  # {_target_: mine.no.Sim}\n"
ATTRIBUTE = "class Sim:\n    _target_: str = 'mine.gym.Sim'\ngo(dict(_target_='mine.no'))\n"


@pytest.mark.parametrize(
    ("program", "setting"),
    [
        (HYDRA, TARGET),
        (HYDRA.replace("cfg", "../run/./cfg"), TARGET.replace("mine.gym.Sim", "'mine.gym.Sim'")),
        (HYDRA, "- {_target_: mine.gym.Sim, x: 1}\n"),
        (INITIALIZE, TARGET),
        ("import isaacgym\nfrom hydra.utils import get_class\nget_class('mine.gym.Sim')\n", ""),
        ("import isaacgym\ngo({'_target_': 'mine.gym.Sim'})\n", ""),
        ("import isaacgym\n" + ATTRIBUTE, ""),
        ("import isaacgym, importlib\nimportlib.import_module('mine.gym')\n", ""),
        ("import isaacgym, pydoc\npydoc.locate(f'mine.{name}.Sim')\n", ""),
    ],
)  # fmt: skip
def test_names_in_strings_are_followed_as_imports(examine, program, setting):
    """What such a class lacks is missing, and what stops it stops the program that gets there; one
    for another simulator is a choice that nobody makes here."""
    report, code = examine(
        {
            "run/train.py": program,
            "run/cfg/sim/gym.yaml": setting,
            "run/cfg/sim/lab.yaml": "_target_: mine.lab.Sim\n# _target_: mine.no.Sim\n",
            "run/cfg/sim/other.yaml": "_target_: ${x}\n",
            "run/view.py": HYDRA.replace("hydra.utils.instantiate", "print"),
            "run/cfg/.hydra/old.yaml": "_target_: mine.no.Sim\n",
            "run/other/no.yaml": "_target_: mine.no.Sim\n",
            "mine/__init__.py": "",
            "mine/gym.py": "import isaacgym, vedo\n\nimport torch._six\n",
            "mine/lab.py": "import omni.isaac.lab, plotly, wandb\n",
            "mine/no/__init__.py": "import omni, mediapipe\n",
        }
    )
    assert code == 1
    assert {*report["missing_packages"]} - {"hydra"} == {"vedo"}  # Hydra may be here, or not
    found = {
        p["file"]: [(s["at"], s["at_import"], s["choice"]) for s in p["stops"]]
        for p in report["programs"]
    }
    assert found == {"run/train.py": [("mine/gym.py:3", False, True)], "run/view.py": []}


URDF = (
    '<robot name="r"><link name="a"><visual><geometry><mesh filename="no.stl"/></geometry></visual>'
    '<collision><geometry><mesh filename="package://r/{}"/></geometry></collision></link></robot>'
)


def test_robot_files_that_the_code_names_are_looked_into(examine):
    files = {
        "a.py": "import isaacgym, note\n"
        "files = ['good.urdf', 'bad.urdf', 'lfs.urdf', 'template.urdf', 'none.urdf']\n"
        "if __name__ == '__main__':\n    main()\n",
        "x/urdf/good.urdf": URDF.format("m/a.stl"),
        "x/urdf/bad.urdf": URDF.format("m/b.stl"),
        "x/urdf/lfs.urdf": URDF.format("m/c.stl"),
        "x/urdf/unused.urdf": URDF.format("m/b.stl"),
        "x/urdf/template.urdf": URDF.format("$mesh$"),
        "x/urdf/tested.urdf": URDF.format("m/b.stl"),
        "tests/test_a.py": "file = 'tested.urdf'\n",  # which no program imports
        "note.py": "'''old.urdf'''\nx = 1  # 'old.urdf'\nfile = 'my_old.urdf'\n",
        "cfg.yaml": "file: good.urdf  # was old.urdf\n",
        "x/urdf/none.urdf": " ",
        "x/urdf/old.urdf": URDF.format("m/b.stl"),
        "x/m/a.stl": "solid",
        "x/m/c.stl": "version https://git-lfs.github.com/spec/v1\n",
    }
    report, code = examine(files)
    assert code == 1
    assert report["assets"] == {
        "x/urdf/bad.urdf": "its collision mesh package://r/m/b.stl is missing",
        "x/urdf/none.urdf": "it is empty",
        "x/urdf/lfs.urdf": "its mesh package://r/m/c.stl is a pointer of Git LFS;"
        " run `git lfs pull`",
    }


def test_splitting_that_the_code_asks_for_needs_a_package(examine, monkeypatch):
    monkeypatch.setattr(doctor_assets, "installed", lambda module: False)
    robot = URDF.replace("</collision>", "<sdf/></collision>").format("a.stl")
    files = {"x.urdf": robot, "a.stl": "solid"}
    report, code = examine(files | {"a.py": GOOD + "# options.vhacd_enabled = True\n"})
    assert (report["install"], code) == ([], 0)
    for text, place in (("options.vhacd_enabled = True\n", "a.py:4"), ("'x.urdf'\n", "x.urdf")):
        report, code = examine(files | {"a.py": GOOD + "x = " * ("'" in text) + text})
        assert [f"({place})" in line for line in report["install"]] == [True]
        assert "pip install 'phalanx[decompose]'" in report["install"][0]
        assert code == 1


def test_python_2_is_listed_and_copies_of_others_are_not_read(examine):
    rotten = "import numpy as np\nnp.float\n"
    report, code = examine(
        {
            "old.py": "print 'hello'\n",
            "null.py": "\0",
            "good.py": "x = 1\n",
            "venv/pyvenv.cfg": "",
            "venv/lib/a.py": rotten,
            ".hidden/a.py": rotten,
            "python/isaacgym/gymapi.py": rotten,
            "python/isaacgym/deep/a.py": rotten,
        }
    )
    assert code == 0
    assert report["files"] == 1
    assert set(report["unreadable"]) == {"old.py", "null.py"}


def test_a_program_stops_at_a_file_that_is_too_large(examine):
    large = "x = 1\n" + "#" * (2 << 20)
    report, _ = examine({"large.py": large, "run.py": GOOD + "import large\n"})
    (program,) = report["programs"]
    assert [s["what"] for s in program["stops"]] == ["a file that is too large to be read"]


def test_a_program_stops_at_a_file_that_python_cannot_read(examine):
    files = {"old.py": "x = 1\nprint 'hello'\n", "run.py": GOOD + "import old\nold.x()\n"}
    report, code = examine(files)
    assert code == 1
    (program,) = report["programs"]
    (stop,) = program["stops"]
    assert (stop["at"], stop["at_import"]) == ("old.py:2", True)
    assert "not Python 3: line 2" in stop["fix"]
    assert not report["missing_packages"]


@pytest.mark.parametrize(
    ("files", "words"),
    [
        ({"run.py": GOOD + "gym.simulate()\n"}, "should run: 1 file, 4 Isaac Gym names"),
        ({"run.py": "from isaacgym import gymapi\ngymapi.Vec3()\n"}, "1 file, 1 Isaac Gym name "),
        ({"run.py": GOOD + "def f():\n    gym.no()\nf()\n"}, "should run, up to the places above"),
        ({"run.py": GOOD + "gym.no()\n"}, "needs attention: 1 file,"),
        ({"old.py": "\0"}, "needs attention: 0 files"),
        (
            {"run.py": GOOD + "gym.simulate()\n", "requirements.txt": "torch==0.4\n"},
            "should run: 1 file, 4 Isaac Gym names, 1 required version differs from what is",
        ),
    ],
)
def test_the_verdict_promises_no_more_than_was_found(tmp_path, capsys, monkeypatch, files, words):
    monkeypatch.setattr(command, "installed_support", lambda: SUPPORT)
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    with pytest.raises(SystemExit):
        main(["doctor", str(tmp_path)])
    assert words in " ".join(capsys.readouterr().out.split())


def test_requirements_of_windows_are_read(examine):
    files = {"run.py": GOOD}
    report, _ = examine(files)
    assert not report["unmet_requirements"]
    for kind in ("utf-16", "utf-8-sig"):
        (Path(report["path"]) / "requirements.txt").write_bytes("torch==0.4\r\n".encode(kind))
        report, _ = examine(files)
        assert [
            line.split(" (")[0] for line in report["unmet_requirements"]["requirements.txt"]
        ] == ["torch==0.4"]


def test_what_is_no_file_or_no_program_is_left_out_with_a_reason(tmp_path, capsys):
    """Neither a pipe, a device, a tree of thousands of levels, a wrong type in pyproject.toml nor
    an escape code in a name ends or disturbs the report."""
    os.mkfifo(tmp_path / "pipe.py")
    os.mkfifo(tmp_path / "requirements-a.txt")
    (tmp_path / "zero.py").symlink_to("/dev/zero")
    (tmp_path / "deep.py").write_text("a" + ".b" * 900)
    (tmp_path / "red\x1b[31m[bold].py").write_text("from isaacgym import gymapi\ngymapi.Vec3\n")
    (tmp_path / "pyproject.toml").write_text("project = 3")
    with pytest.raises(SystemExit):
        main(["doctor", str(tmp_path), "all=true", f"json={tmp_path / 'report.json'}"])
    left_out = json.loads((tmp_path / "report.json").read_text())["unreadable"]
    assert left_out.keys() == {
        *("pipe.py", "zero.py", "deep.py", "requirements-a.txt", "pyproject.toml")
    }
    assert "a pipe or a device" in left_out["pipe.py"]
    assert "nested more than 250 deep" in left_out["deep.py"]
    assert "project is 3; it must be a table" in left_out["pyproject.toml"]
    said = capsys.readouterr().out
    assert "\x1b" not in said
    assert r"red\x1b[31m[bold].py:2" in said
    assert "left out: pipe.py: " not in said  # the sentence has the name
    assert "left out: deep.py: nested" in said


def test_nothing_of_the_repository_runs(examine, tmp_path):
    bomb = f"open({str(tmp_path / 'ran')!r}, 'w')\n"
    examine({"setup.py": bomb, "conftest.py": bomb, "a.py": "import isaacgym\n" + bomb})
    assert not (tmp_path / "ran").exists()


def test_a_file_alone_is_read_too_and_the_tables_are_for_people(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(command, "installed_support", lambda: SUPPORT)
    file = tmp_path / "one.py"
    file.write_text(GOOD + "gym.create_camera_sensor(1)\nimport numpy as np\nnp.float\n")
    with pytest.raises(SystemExit) as stop:
        main(["doctor", str(file), f"json={tmp_path / 'report.json'}"])
    assert stop.value.code == 1
    said = capsys.readouterr().out
    for words in (
        "cameras are not there yet",
        "one.py:4",
        "np.float",
        "one.py:6",
        "needs attention",
    ):
        assert words in said
    assert json.loads((tmp_path / "report.json").read_text())["files"] == 1


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "doctor needs a path"),
        (["a", "b"], "path is given twice, as 'a' and 'b'"),
        (["/nowhere"], "there is no file or folder /nowhere"),
        ([".", "jsn=x"], "did you mean 'json'?"),
        (["."], "there is no Python file in ."),
        ([".", "json=/nowhere/x.json"], "/nowhere is not a writable folder"),
        ([".", "json=."], "cannot write .: it is a folder"),
    ],
)
def test_mistake_gives_one_sentence(arguments, words, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as stop:
        main(["doctor", *arguments])
    assert stop.value.code == 2
    said = capsys.readouterr().err
    assert words in said
    assert said.count("\n") == 1


def test_the_table_is_read_without_importing_the_drop_in(tmp_path, monkeypatch):
    package = tmp_path / "isaacgym"
    package.mkdir()
    (package / "__init__.py").write_text("raise RuntimeError('imported')\n")
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    for name in [m for m in sys.modules if m.split(".")[0] == "isaacgym"]:
        monkeypatch.delitem(sys.modules, name)
    assert installed_support() is None
    (package / "support.py").write_text('SUPPORT = {"simulate": "supported"}\n')
    (package / "gymapi.py").write_text(
        "from isaacgym.enums import *\nfrom isaacgym.gym import Sim\n"
    )
    (package / "enums.py").write_text("import enum\nKeys = enum.Enum('Keys', 'KEY_A KEY_B')\n")
    (package / "torch_utils.py").write_text("import torch\ndef quat_mul(a, b):\n    ...\n")
    found = {key for key in installed_support() if not key.endswith("enum")}
    assert found == {
        *("Gym.simulate", "gymapi.Sim", "gymapi.Keys", "gymapi.KEY_A", "gymapi.KEY_B"),
        "torch_utils.quat_mul",
    }


def test_the_drop_ins_own_table_says_what_it_has():
    from isaacgym import gymapi, gymtorch, gymutil, terrain_utils, torch_utils

    modules = {m.__name__.split(".")[1]: m for m in (gymapi, gymtorch, gymutil, terrain_utils)}
    modules["torch_utils"] = torch_utils
    table = installed_support()
    assert table["Gym.simulate"] == "supported"
    assert table["Gym.create_cloth_grid"].startswith("refused")
    assert "refuses" in table["gymapi.SIM_FLEX"]
    for key in table:
        module, _, name = key.partition(".")
        assert module in ("Gym", "rlgpu") or hasattr(modules[module], name), key
    for name in ("gymapi.Vec3", "gymapi.KEY_ESCAPE", "gymtorch.wrap_tensor", "gymutil.draw_lines"):
        assert table[name] == "supported"
    typing = {"NoReturn", "Iterator"}
    public = {n for n in vars(gymapi) if n[0].isupper()} - typing
    assert {n for n in public if f"gymapi.{n}" not in table} == set()


def test_the_doctor_promises_the_shim_for_what_it_brings_back():
    from isaacgym.compat import NUMPY

    promised = {n.removeprefix("numpy.") for n, p in NAMES.items() if SHIM in p.fix}
    assert promised <= set(NUMPY)


def test_the_documented_table_of_calls_is_the_drop_ins():
    table = importlib.import_module("isaacgym.support").table(plain=False)
    assert table in (Path(__file__).parents[1] / "docs" / "isaacgym.md").read_text()


@pytest.mark.parametrize("marker", ["'3.9' < '3.10'", "python_version ~= 'x'", "extra == 'x'"])
def test_a_requirement_whose_marker_has_no_meaning_asks_for_nothing(marker):
    assert refused([f"numpy==1.0; {marker}", "numpy==1.0"]) == [
        f"numpy==1.0 (here {np.__version__})"
    ]
