"""README and pages: numbers are those of result files, links lead somewhere, commands exist."""

import json
import re
import shlex
import statistics
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
WATCHING = json.loads((ROOT / "benchmarks/results/watching_cpu_2026-11-29.json").read_text())
INSTALL = json.loads((ROOT / "benchmarks/results/install_2026-11-28.json").read_text())
INSTALL_CPU = json.loads((ROOT / "benchmarks/results/install_cpu_2026-11-28.json").read_text())


def result(name):
    return json.loads((ROOT / "benchmarks/results" / f"{name}.json").read_text())


def training(name, trainer):
    """Training steps/s of a trainer in a file of `phalanx bench against=`."""
    rows = result(name)["rows"]
    return next(
        r["median"] for r in rows if r["trainer"] == trainer and r["measures"] == "training"
    )


def fused(task, engine):
    rows = result("fused_blocks_h200_2026-11-28")["physics"]
    return next(r["k_steps_per_s"] for r in rows if (r["task"], r["engine"]) == (task, engine))


def deterministic(task, key):
    rows = result("deterministic_h200_2026-11-27")["rows"]
    return max(next(r[key] for r in rows if r["task"] == task)) / 1e6


def dropped_in(trainer):
    return result("drop_in_Ant_h200_2026-11-21")["trainers"][trainer]["train_fps"] / 1e6


def unilab(name):
    """Steps/s, and times UniLab's, as a row of the table ends."""
    rows = result("walk_peers_cpu_2026-11-29")
    return f"{rows['median_steps_per_s'][name]:.0f} | {rows['times_unilab'][name]} times"


def unilab_learns():
    """Part of UniLab's training time that is not collection [%]."""
    rows = [r for r in result("walk_peers_cpu_2026-11-29")["rows"] if r["trains"] == "unilab"]
    parts = [1 - r["train_steps_per_s"] / r["collect_steps_per_s"] for r in rows]
    return 100 * sum(parts) / len(parts)


def bfloat16(task):
    """Training steps/s in bfloat16 over those in float32, medians of rows taken in turn."""
    rows = [r for r in result("bfloat16_cpu_2026-11-29")["rows"] if r["task"] == task]
    speeds = {half: [r["train_steps_per_s"] for r in rows if r["mixed_precision"] == half
                     and r["iterations"] > 20] for half in (True, False)}  # fmt: skip
    return statistics.median(speeds[True]) / statistics.median(speeds[False])


PEERS = "ant_peers_compiled_cpu_2026-11-28"
OURS = training(PEERS, "phalanx")
QUOTED = [
    # page, words with {} for the number, its format, the number in a result file
    ("README.md", "the Ant's\npolicy keeps {} % of its return", ".1f",
     100 * result("finer_physics_Ant_2026-11-22")["return_kept"]),
    ("README.md", "and the Humanoid's {} %.", ".1f",
     100 * result("finer_physics_Humanoid_2026-11-21")["return_kept"]),
    ("README.md", "{} times as fast as with RL Games", ".2f", OURS / training(PEERS, "rl_games")),
    ("README.md", "and {} times as fast as with rsl_rl", ".2f", OURS / training(PEERS, "rsl_rl")),
    ("README.md", "in one function: {} M\n", ".0f", fused("Ant", "fused") / 1e3),
    ("README.md", "one H200, {} times MuJoCo Warp's", ".0f",
     fused("Ant", "fused") / fused("Ant", "warp")),
    ("README.md", "walks {} m in 20 s", ".1f",
     result("finer_physics_HumanoidWalk_2026-11-21")["as_trained"]["median_distance_m"]),
    ("docs/conventions.md", "Ant trains at {} M instead", ".2f",
     deterministic("Ant", "deterministic_steps_per_s")),
    ("docs/conventions.md", "instead of {} M steps/s and Humanoid", ".2f",
     deterministic("Ant", "steps_per_s")),
    ("README.md", "one H200 at {} M steps/s with RL Games", ".2f", dropped_in("rl_games")),
    ("README.md", "at {} M with our Runner", ".2f", dropped_in("phalanx")),
    ("README.md", "stays within {} and", ".2f",
     100 * result("amp_cmu_walk_h200_2026-11-21")["pose_error_m"]),
    ("README.md", "and {} cm of the clips", ".2f",
     100 * result("amp_cmu_run_h200_2026-11-21")["pose_error_m"]),
    ("docs/learning.md", "Humanoid then trains {} times", ".2f", bfloat16("Humanoid")),
    ("docs/learning.md", "and Ant {} times", ".2f", bfloat16("Ant")),
    ("docs/walking.md", "the same task and PPO | {}", "", unilab("Go2JoystickUnilab")),
    ("docs/walking.md", "with its own PPO | {}", "", unilab("Go2Velocity")),
    ("docs/walking.md", "UniLab learned during {} % of", ".0f", unilab_learns()),
    ("docs/walking.md", "ran, {} of the judge's 64 robots did", ".0f",
     64 * result("recovery_cpu_2026-11-29")["judged"][-1]["ends/standing"]),
    ("docs/walking.md", "on two cores, in {} s while", ".0f",
     result("recovery_cpu_2026-11-29")["training"]["wall_s"]),
    ("docs/own_task.md", "programs ran, it was {}:", ".0f",
     result("own_tasks_cpu_2026-11-28")["DoublePendulum"]["played"]["mean_return"]),
    ("docs/own_task.md", "with a return of {};", ".0f",
     result("own_tasks_cpu_2026-11-28")["Hopper"]["played"]["mean_return"]),
    ("docs/watching.md", "at most {} % of its steps/s", ".1f", WATCHING["most_percent"]),
    ("docs/watching.md", "standard error of {} %", ".1f", WATCHING["most_standard_error_percent"]),
    ("docs/watching.md", "nobody looks at costs at most {} %", ".1f", WATCHING["unseen_percent"]),
    ("docs/watching.md", "lose {} % x", ".2f", WATCHING["page_percent"]),
    ("docs/watching.md", "x (1 + {})", ".2f", WATCHING["slowed"]),
    ("docs/watching.md", "the page | {} s of training", ".2f", WATCHING["slowed"]),
    ("docs/watching.md", "over | {} % of an iteration", ".2f", WATCHING["handed_percent"]),
    ("docs/install.md", "minutes | | {} GB |", ".1f", INSTALL["folder_gb"]),
    ("docs/install.md", "| {} s | 14 minutes", ".0f", INSTALL_CPU["uv"]["seconds"]),
    ("docs/install.md", "77 s | {} minutes", ".0f", INSTALL_CPU["pip"]["seconds"] / 60),
    ("docs/install.md", "14 minutes | {} GB", ".1f", INSTALL_CPU["uv"]["folder_mb"] / 1000),
    ("docs/install.md", "bytecode {} GB", ".1f", INSTALL_CPU["pip"]["folder_mb"] / 1000),
    ("docs/install.md", "Triton are {} GB", ".1f",
     (INSTALL["largest_mb"]["nvidia"] + INSTALL["largest_mb"]["triton"]) / 1000),
    ("docs/install.md", "GB | {} minutes | |", ".0f", INSTALL["seconds"] / 60),
]  # fmt: skip


@pytest.mark.parametrize("case", QUOTED, ids=lambda c: c[1].strip()[:40])
def test_a_quoted_number_is_in_a_result_file(case):
    page, words, how, number = case
    text = " ".join((ROOT / page).read_text().split())
    assert " ".join(words.format(format(number, how)).split()) in text


def test_the_robots_differ_from_the_makers_files_as_the_page_says():
    row = r"\| `(\w+)\.xml` \| .* \| ([\d.]+), ([\d.]+) \| ([\d.]+) % \|"
    shown = re.findall(row, (ROOT / "docs/walking.md").read_text())
    assert shown == [
        (
            r["robot"],
            f"{r['mass']:.3f}",
            f"{r['their_mass']:.3f}",
            f"{100 * r['mass_matrix_apart']:.4f}",
        )
        for r in result("robot_figures_2026-11-28")["rows"]
    ]


def test_ppo_and_fast_sac_on_two_cores_are_those_of_the_file():
    page = (ROOT / "docs/walking.md").read_text()
    for r in result("walk_fast_sac_cpu_2026-11-29")["rows"]:
        ran, judged = r["training"], r["judged_after_150_s"]
        errors = f"{judged['speed_error']:.3f}, {judged['settled_speed_error']:.3f}"
        falls = round(judged["falls"] * judged["episodes"])
        assert f"| {ran['frames']} | {ran['return']:.1f} | {falls} | {errors} |" in page


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
