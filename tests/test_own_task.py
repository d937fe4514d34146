"""The second tutorial as its page says it, from `phalanx new` to films: two of its tasks learn."""

import os
import re
import shlex
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from phalanx.cli import play
from phalanx.cli.main import main

pytestmark = pytest.mark.usefixtures("one_thread")

ROOT = Path(__file__).parents[1]
SHORTER = {
    # beginnings of the page's commands: what makes them short
    "train task=DoublePendulum": ["sim_device=cpu", "num_envs=512", "max_iterations=40"],
    "train task=Hopper": ["sim_device=cpu", "num_envs=512", "max_iterations=60"],
    "train task=Walker": ["sim_device=cpu", "num_envs=64", "max_iterations=2"],
    "play": ["num_envs=32", "sim_device=cpu"],
}
LEAST = {"DoublePendulum": 60.0, "Hopper": 300.0, "Walker": -100.0}
"""About half of the return with seed 42; a policy that does nothing gets 0 and 40. The walker has
no time to learn here."""


def steps():
    """(file or None, text) of each block of the page: a file's content, or lines for a shell."""
    text = (ROOT / "docs/own_task.md").read_text()
    for block in re.finditer(r"^```(\w+)\n(.*?)^```", text, re.M | re.S):
        if block[1] == "bash":
            yield None, block[2]
        else:
            before = text[: block.start()].rstrip()
            yield re.search(r"[Ss]ave this as\s`([^`]+)`[^`]*$", before)[1], block[2]


def run(line):
    """One line of the page's shell."""
    word, *words = shlex.split(line, comments=True)
    if word == "cd":
        os.chdir(words[0])
    elif word == "phalanx":
        for start, more in SHORTER.items():
            words += more if " ".join(words).startswith(start) else []
        main(words)
    else:
        subprocess.run([word, *words], check=True)


def test_the_page_leads_to_tasks_that_learn_and_to_their_films(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(threading, "excepthook", threading.excepthook)
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.setattr(play, "VIDEO_SECONDS", 0.5)
    monkeypatch.chdir(tmp_path)
    for file, text in steps():
        if file is None:
            for line in filter(None, text.splitlines()):
                run(line)
            continue
        Path(file).parent.mkdir(parents=True, exist_ok=True)
        Path(file).write_text(text)
    returns = re.findall(r"^(\w+): return (\S+)", capsys.readouterr().out, re.M)
    assert [name for name, _ in returns] == list(LEAST)
    assert all(float(value) > LEAST[name] for name, value in returns), returns
    for name in LEAST:
        assert (tmp_path / f"my_tasks/runs/{name}/videos/last_{name}.mp4").stat().st_size > 3_000
