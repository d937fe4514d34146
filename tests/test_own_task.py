"""The second tutorial's project: both of its tasks learn, with a general train config."""

import shutil
import sys
import threading
from pathlib import Path

import pytest

from phalanx.cli.main import main

PROJECT = Path(__file__).parents[1] / "examples" / "own_tasks"


@pytest.mark.parametrize(
    ("task", "iterations", "least"),
    # About half of what was seen with seed 42; a policy that does nothing gets 0 and 40.
    [("DoublePendulum", 40, 60.0), ("Hopper", 60, 300.0)],
)
def test_a_task_of_ones_own_learns(task, iterations, least, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(threading, "excepthook", threading.excepthook)
    monkeypatch.setattr(sys, "path", [*sys.path])
    shutil.copytree(PROJECT, tmp_path / "p", ignore=shutil.ignore_patterns("runs"))
    monkeypatch.chdir(tmp_path / "p")
    small = ["sim_device=cpu", f"max_iterations={iterations}", "num_envs=512"]
    main(["train", f"task={task}", *small])
    capsys.readouterr()
    main(["play", f"checkpoint=runs/{task}", "games=32", "num_envs=32"])
    out = capsys.readouterr().out
    assert float(out.split("return ")[1].split()[0]) > least
