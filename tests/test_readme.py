"""Programs in the README run as they are; those in other pages compile, and their imports exist."""

import ast
import importlib
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[1]
SHORT = ["max_iterations=2", "num_envs=16", "sim_device=cpu", "engine=mujoco"]


def programs(path):
    """(line, text) of each block of Python in a page."""
    text = path.read_text()
    for block in re.finditer(r"^```python\n(.*?)^```", text, re.M | re.S):
        yield text[: block.start()].count("\n") + 1, block[1]


PAGES = sorted([ROOT / "README.md", *(ROOT / "docs").rglob("*.md")])


def test_programs_in_the_readme_run(tmp_path):
    command = [sys.executable, "-m", "phalanx", "train", "task=Cartpole", *SHORT]
    subprocess.run(command, cwd=tmp_path, check=True, capture_output=True)
    settings = yaml.safe_load((tmp_path / "runs" / "Cartpole" / "config.yaml").read_text())
    params = settings["train"]["params"]
    params["config"] |= {"max_epochs": 2, "env_name": "rlgpu", "name": "Cartpole", "device": "cpu"}
    params["config"] |= {"num_actors": 16, "train_dir": "other"}
    (tmp_path / "my_run.yaml").write_text(yaml.safe_dump({"params": params}))
    found = list(programs(ROOT / "README.md"))
    assert found
    code = "\n".join(text for _, text in found)
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert float(done.stdout.split()[-1])


@pytest.mark.parametrize("page", PAGES, ids=lambda p: str(p.relative_to(ROOT)))
def test_programs_in_pages_compile_and_import_what_there_is(page):
    for line, text in programs(page):
        for node in ast.walk(ast.parse(text, f"{page.name}:{line}")):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("phalanx"):
                module = importlib.import_module(node.module)
                for alias in node.names:
                    here = hasattr(module, alias.name)
                    assert here or importlib.import_module(f"{node.module}.{alias.name}"), line
