"""Repositories of others, which `phalanx doctor` reads."""

import io
import itertools
import json
import os

from rich.console import Console

from fuzz import mutate
from phalanx.cli.doctor_api import installed_support
from phalanx.cli.doctor_read import read
from phalanx.cli.doctor_report import examine
from phalanx.cli.doctor_show import show, show_all

PROGRAM = b"""
import numpy as np, torch, gym
from isaacgym import gymapi, gymtorch
from isaacgym.torch_utils import *

class Env:
    def __init__(self, cfg, x: int = 3):
        self.gym = gymapi.acquire_gym()
        self.sim = self.gym.create_sim(0, 0, gymapi.SIM_PHYSX, gymapi.SimParams())
        self.dt = np.float(0.01) + cfg["dt"] * -1
        self.text = "env.urdf"
        self.text = "\\d [red] %s" % (x,)

    def step(self):
        self.gym.simulate(self.sim)
        return quat_mul(to_torch([0, 0, 0, 1]), torch.load("a.pth"))
"""
FILES = {
    "env.py": PROGRAM,
    "setup.py": b'from setuptools import setup\nreq = ["torch>=1.8", "numpy==1.20"]\n'
    b'setup(name="a", install_requires=req, python_requires=">=3.6,<3.9")\n',
    "setup.cfg": b"[options]\npython_requires = >=3.7\ninstall_requires =\n  gym==0.21\n  torch\n",
    "pyproject.toml": b'[project]\nname = "a"\nrequires-python = ">=3.8"\n'
    b'dependencies = ["numpy<2; python_version < \'3.9\'", "torch"]\n',
    "environment.yml": b"name: a\ndependencies:\n  - python=3.8\n  - pip:\n    - torch==1.8.1\n",
    "README.md": b"```\npip install -e . numpy torch==1.8 'gym>=0.2' # now\n```\n",
    "env.urdf": b'<robot name="env.urdf"><link name="a"><collision><geometry>'
    b'<mesh filename="package://a/b.stl"/></geometry></collision></link></robot>',
    "requirements.txt": b"torch==1.8.1 # old\n-e .\nrl-games>=1.1 ; sys_platform == 'linux'\n",
}
NAMES = (
    "a\x1b[31m.py",
    "[red].py",
    "[ red].py",
    "a\nb.py",
    "ü.py",
    "-x.py",
    os.fsdecode(b"\xff.py"),
)
DEEP = (b"-" * 5000 + b"1", b"a" + b".b" * 3000, b"1" + b"+1" * 3000, b"[" * 150 + b"]" * 150)


class Doctor:
    """A small repository; the report has no escape codes."""

    def __init__(self, folder):
        self.folders = (folder / str(k) for k in itertools.count())
        self.support = installed_support()

    def case(self, rng):
        files = dict(FILES)
        for _ in range(rng.choice((1, 1, 2))):
            name = rng.choice(list(files))
            files[name] = mutate.of_text(rng, files[name])
        if rng.randrange(4) == 0:
            files[rng.choice(NAMES)] = PROGRAM
        if rng.randrange(10) == 0:
            files["deep.py"] = rng.choice(DEEP)
        return files, rng.choice((None, None, None, None, "pipe", "zero", "folder", "loop"))

    def __call__(self, argument):
        files, special = argument
        root = next(self.folders)
        root.mkdir()
        for name, content in files.items():
            (root / name).write_bytes(content)
        place = root / "requirements-x.txt"
        match special:
            case "pipe":
                os.mkfifo(place)
                os.mkfifo(root / "x.py")
            case "zero":
                place.symlink_to("/dev/zero")
                (root / "x.py").symlink_to("/dev/zero")
            case "folder":
                (root / "x.py").mkdir()
                place.mkdir()
            case "loop":
                (root / "x.py").symlink_to("x.py")
                (root / "y").symlink_to(root)
        report = examine(root, *read(root), self.support)
        json.dumps(report)
        console = Console(file=io.StringIO(), width=160)
        show(console, report)
        show_all(console, report)
        assert "\x1b" not in console.file.getvalue(), "an escape code reaches the terminal"
