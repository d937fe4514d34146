"""README and pages: links lead somewhere, commands exist, examples are those of their files."""

import json
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from phalanx.cli.commands import COMMANDS
from phalanx.cli.completion import _keys
from phalanx.errors import PhalanxError

ROOT = Path(__file__).parents[1]
PAGES = sorted([ROOT / "README.md", ROOT / "benchmarks/README.md", *(ROOT / "docs").rglob("*.md")])
NOTEBOOK = ROOT / "examples/colab.ipynb"


def test_the_table_of_results_is_made_from_the_files():
    script = ROOT / "benchmarks/results_table.py"
    printed = subprocess.run([sys.executable, script], capture_output=True, text=True, check=True)
    assert printed.stdout in (ROOT / "README.md").read_text()


def test_readme_is_short_and_has_the_two_commands_and_a_moving_picture():
    text = (ROOT / "README.md").read_text()
    assert len(text.splitlines()) <= 150
    for command in ("train task=Cartpole", "pytest"):
        start = "uv run phalanx " if command != "pytest" else "uv run "
        assert f"\npip install uv && {start}{command}\n" in text
    (picture,) = re.findall(r"!\[[^]]*\]\((.*?\.webp)\)", text)
    assert (ROOT / picture).stat().st_size < 3e6


@pytest.mark.parametrize("page", PAGES, ids=lambda p: str(p.relative_to(ROOT)))
def test_links_lead_somewhere(page):
    generated = {ROOT / "docs/tasks/index.md", ROOT / "docs/benchmarks.md"}
    for target in re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", page.read_text()):
        if not target.startswith(("http", "mailto")):
            place = (page.parent / target).resolve()
            assert place.exists() or place in generated, f"{page}: {target}"


def commands(page):
    """Commands of phalanx in blocks of a page and in code within sentences, or in a notebook."""
    text = page.read_text()
    if page.suffix == ".ipynb":
        cells = ("".join(c["source"]) for c in json.loads(text)["cells"])
        yield from re.findall(r"^!phalanx (.*?)(?: \||$)", "\n".join(cells), re.M)
        return
    for block in re.findall(r"^```(?:bash|sh)?\n(.*?)^```", text, re.M | re.S):
        for line in block.replace("\\\n", " ").splitlines():
            if found := re.match(
                r"\s*(?:\$ )?(?:uv run )?phalanx (.*)", line.split("#")[0].split("&&")[-1]
            ):
                yield found[1].strip()
    yield from re.findall(r"`phalanx ([a-z][^`]*)`", text)


@pytest.mark.parametrize("page", [*PAGES, NOTEBOOK], ids=lambda p: str(p.relative_to(ROOT)))
def test_commands_in_pages_exist_with_their_keys(page):
    for command in commands(page):
        name, *words = shlex.split(command)
        if name.startswith("-"):
            continue
        assert name in COMMANDS, command
        given = dict(w.split("=", 1) for w in words if "=" in w)
        try:
            known = _keys(name, {k: v for k, v in given.items() if k in ("task", "train")})
        except PhalanxError:  # a task or file of the page's own project
            known = _keys(name, {})
        if name == "tune":  # it takes what `train` does
            known = {**known, **_keys("train", {})}
        for key in given:
            own = key.startswith(("task.", "train.params."))
            assert own or not known or key in known, f"{command}: {key}"


@pytest.mark.parametrize("name", ["double_pendulum.py", "assets/double_pendulum.xml"])
def test_the_tutorials_files_are_those_of_the_example(name):
    file = ROOT / "examples/own_tasks/tasks/double_pendulum" / name
    assert file.read_text() in (ROOT / "docs/own_task.md").read_text()


def test_the_tutorials_hopper_is_that_of_the_example():
    text, folder = (ROOT / "docs/own_task.md").read_text(), ROOT / "examples/own_tasks/tasks/hopper"
    assert (folder / "assets/hopper.xml").read_text() in text
    hopper = (folder / "hopper.py").read_text()
    start, end = hopper.index("    def compute_observations"), hopper.index("    def reset_envs")
    shown = " ".join(text.split())  # the page's blocks are formatted on their own
    assert " ".join(hopper[start:end].split()) in shown
