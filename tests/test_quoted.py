"""Numbers that README and pages quote are those of result files.

A paragraph or table of measured numbers follows a line that a reader does not see:

    <!-- numbers: walk_h200_2026-11-28 walk_judge_2026-11-28; not measured: 64 4096 -->

Each of its numbers is then in one of these files of `benchmarks/results`, in its own unit and
rounded, or among those that were not measured (settings, sizes). Numbers that follow from others,
such as ratios, are computed in QUOTED. A test in place of a file shows what its sentences say.
"""

import bisect
import functools
import json
import math
import re
import statistics
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks" / "results"
PAGES = sorted(
    [ROOT / "README.md", *(ROOT / "benchmarks").glob("*.md"), *(ROOT / "docs").rglob("*.md")]
)
WATCHING = json.loads((RESULTS / "watching_cpu_2026-11-29.json").read_text())
INSTALL = json.loads((RESULTS / "install_2026-11-28.json").read_text())
INSTALL_CPU = json.loads((RESULTS / "install_cpu_2026-11-28.json").read_text())


def result(name):
    return json.loads((RESULTS / f"{name}.json").read_text())


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


def rounded_costs(which):
    return round(which(row["cost"] for row in result("deterministic_h200_2026-11-27")["rows"]), 1)


def dropped_in(trainer):
    measured = result("drop_in_Ant_scripts_h200_2026-11-30")["trainers"]
    return measured[trainer]["train_fps"] / 1e6


def below_published():
    """How far README's tasks of IsaacGymEnvs stay below the published returns, at most [%]."""
    runs = result("drop_in_clients_h200_2026-11-21")["runs"]
    published = {"Cartpole": 494, "Anymal": 61.9, "BallBalance": 288}
    ours = {task: runs[f"IsaacGymEnvs {task}"]["final_return"] for task in published}
    ours["Ant"] = result("drop_in_Ant_h200_2026-11-21")["trainers"]["rl_games"]["final_return"]
    published["Ant"] = 5466
    return 100 * max(1 - ours[task] / published[task] for task in published)


def unilab(name):
    """Steps/s, and times UniLab's, with 1024 and 4096 environments, as a row of the table ends."""
    by_number = result("walk_peers_cpu_2026-11-29")["by_num_envs"].values()
    return " | ".join(
        f"{row['steps_per_s'][name]:.0f}, {row['times_unilab'][name]} times" for row in by_number
    )


def unilab_learns():
    """Part of UniLab's training time with 1024 environments that is not collection [%]."""
    row = result("walk_peers_cpu_2026-11-29")["rows"][0]
    assert (row["trains"], row["num_envs"]) == ("unilab", 1024)
    return 100 * (1 - row["train_steps_per_s"] / row["collect_steps_per_s"])


def trained_amp(best):
    """Training steps/s of the four runs on an H200, in ten thousands."""
    clips = ("cmu_walk", "cmu_run", "walk", "run")
    speeds = [result(f"amp_{clip}_h200_2026-11-21")["train_fps"] for clip in clips]
    return round(best(speeds) / 1e3, -1)


def start_up(which, *names):
    """Of the process of each file: its first run, since the others find all compiled [s]."""
    return which(result(name)["runs"][0]["start_up_s"] for name in names)


ON_CPU = (*(f"cartpole_cpu_{name}_2026-11-21" for name in ("PPO", "DQN", "DiscretePPO", "SAC")),
          *(f"{name}_cpu_2026-11-22" for name in ("ant", "humanoid")),
          *(f"{n}_cpu_2026-11-30" for n in ("humanoid_update", "ant", "humanoid_walk")),
          )  # fmt: skip
ROUGH = result("walk_rough_seeds_h200_2026-11-30")["runs"][1]  # the second one on its machine
HUMANOID = result("humanoid_h200_2026-11-30")["of_these_runs"]
SLOW = HUMANOID["lowest_final_returns"]
ON_GPU = ("cartpole_h200_16384_2026-11-21", "cartpole_h200_2026-11-21", "humanoid_h200_2026-11-21")
ROBOT_FILES = result("robot_files_2026-11-28")["summary"]
EQUAL = sum(ROBOT_FILES[f"all {kind}"]["equal"] for kind in ("robots", "objects"))
ALL = sum(ROBOT_FILES[f"all {kind}"]["files"] for kind in ("robots", "objects"))
RANKS = result("ranks_ant_h200x2_2026-11-29")["rows"]


def filmed(task):
    """Million environment steps of the policy in the film of a task's page."""
    pages = result("task_pages_h200_2026-11-29")["tasks"]
    return pages[task]["training"][0]["frames"] / 1e6


PEERS = "ant_peers_cpu_2026-11-30"
OURS = training(PEERS, "phalanx")
QUOTED = [
    # page, words with {} for the number, its format, the number in a result file
    ("README.md", "the Ant's\npolicy keeps {} % of its return", ".1f",
     100 * result("finer_physics_Ant_2026-11-22")["return_kept"]),
    ("README.md", "and the Humanoid's {} %.", ".1f",
     100 * result("finer_physics_Humanoid_cpu_2026-11-30")["return_kept"]),
    ("README.md", "{} times as fast as with RL Games", ".2f", OURS / training(PEERS, "rl_games")),
    ("README.md", "and {} times as fast as with rsl_rl", ".2f", OURS / training(PEERS, "rsl_rl")),
    ("README.md", "in one function: {} M\n", ".0f", fused("Ant", "fused") / 1e3),
    ("README.md", "one H200, {} times MuJoCo Warp's", ".0f",
     fused("Ant", "fused") / fused("Ant", "warp")),
    ("README.md", "walks {} m in 20 s", ".1f",
     result("finer_physics_HumanoidWalk_2026-11-21")["as_trained"]["median_distance_m"]),
    ("docs/conventions.md", "Ants train at {} M instead", ".2f",
     deterministic("Ant", "deterministic_steps_per_s")),
    ("docs/conventions.md", "instead of {} M steps/s and as many", ".2f",
     deterministic("Ant", "steps_per_s")),
    ("README.md", "one H200 at {} M to", ".2f", dropped_in("rl_games_other_host")),
    ("README.md", "M to {} M steps/s with RL Games", ".2f", dropped_in("rl_games")),
    ("README.md", "at {} M with our Runner", ".2f", dropped_in("phalanx")),
    ("README.md", "within {} % of the published", ".0f", math.ceil(below_published())),
    ("README.md", "on average {} and", ".2f",
     100 * result("amp_cmu_walk_h200_2026-11-21")["pose_error_m"]),
    ("README.md", "and {} cm from the clips", ".2f",
     100 * result("amp_cmu_run_h200_2026-11-21")["pose_error_m"]),
    ("docs/walking.md", "the same task and PPO | {}", "", unilab("Go2JoystickUnilab")),
    ("docs/walking.md", "with its own PPO | {}", "", unilab("Go2Velocity")),
    ("docs/walking.md", "UniLab learned during {} % of", ".0f", unilab_learns()),
    ("benchmarks/walking.md", "Before, {} of 64 stood up", ".0f",
     64 * result("recovery_cpu_2026-11-29")["judged"][-1]["ends/standing"]),
    ("docs/own_task.md", "programs ran, it was {}:", ".0f",
     result("own_tasks_cpu_2026-11-28")["DoublePendulum"]["played"]["mean_return"]),
    ("docs/own_task.md", "with a return of {};", ".0f",
     result("own_tasks_cpu_2026-11-28")["Hopper"]["played"]["mean_return"]),
    ("README.md", "trains it at {} M steps/s. Eight", ".1f", next(
        r["median"] / 1e6 for r in result("training_h200_2026-11-28")["bench"]["rows"]
        if (r["task"], r["engine"], r["measures"]) == ("Cartpole", "fused", "training"))),
    ("README.md", "Start-up adds {} to", ".0f", start_up(min, *ON_CPU)),
    ("README.md", "to {} s on two cores", ".0f", start_up(max, *ON_CPU)),
    ("README.md", "and {} to", ".0f", start_up(min, *ON_GPU)),
    ("README.md", "to {} s on a GPU with", ".0f", ROUGH["start_up_s"]),
    ("README.md", "gait ({} and", ".0f", SLOW[0]),
    ("README.md", "and {} after 300", ".0f", SLOW[1]),
    ("README.md", "the median is {})", ".0f", HUMANOID["median_final_return_of_13"]),
    ("benchmarks/README.md", "So {} % of all files are equal", ".1f", 100 * EQUAL / ALL),
    ("benchmarks/README.md", "1.9 ms: {} 000 images/s", ".0f",
     result("cameras_h200_2026-11-28")["images_per_second"] / 1e3),
    ("docs/amp.md", "one run each, at {} k to", ".0f", trained_amp(min)),
    ("docs/amp.md", "to {} k training steps/s", ".0f", trained_amp(max)),
    ("docs/conventions.md", "training takes {} to", "", rounded_costs(min)),
    ("docs/conventions.md", "to {} times as long", "", rounded_costs(max)),
    ("docs/conventions.md", "Humanoids at {} M", ".2f",
     deterministic("Humanoid", "deterministic_steps_per_s")),
    ("docs/conventions.md", "instead of {} M. Scenes", ".2f",
     deterministic("Humanoid", "steps_per_s")),
    ("docs/scale.md", "nothing else runs, {} us each", ".0f",
     1e3 * RANKS[1]["communication_ms"] / RANKS[1]["exchanges"]),
    ("docs/scale.md", "grows by {} ms", ".2f", RANKS[1]["ms"]["update"] - RANKS[0]["ms"]["update"]),
    ("docs/install.md", "PyTorch itself is {} GB", ".1f", INSTALL_CPU["largest_mb"]["torch"] / 1e3),
    ("docs/install.md", "Warp {} GB", ".1f", INSTALL_CPU["largest_mb"]["warp"] / 1e3),
    ("docs/_site/hooks.py", '"go2_backflip": "After {} M steps', ".0f", filmed("Go2Backflip")),
    ("docs/_site/hooks.py", '"The squat, after {} M steps', ".0f", filmed("G1Tracking")),
    ("docs/_site/hooks.py", '"humanoid": "After {} M steps', ".0f", filmed("Humanoid")),
    ("docs/_site/hooks.py", 'unilab": f"{{WALKS}}, after {} M', ".0f", filmed("Go2JoystickUnilab")),
    ("docs/_site/hooks.py", '"g1_velocity_mjlab": f"{{WALKS}}, after {} M', ".0f",
     filmed("G1VelocityMjlab")),
    ("docs/_site/hooks.py", '"go1_velocity_mjlab": f"{{WALKS}}, after {} M', ".0f",
     filmed("Go1VelocityMjlab")),
    ("docs/watching.md", "takes at most {} % of the steps/s", ".1f", WATCHING["most_percent"]),
    ("docs/watching.md", "nobody looks at takes at most {} %", ".1f", WATCHING["unseen_percent"]),
    ("docs/install.md", "minutes | not measured | {} GB |", ".1f", INSTALL["folder_gb"]),
    ("docs/install.md", "| {} s | 14 minutes", ".0f", INSTALL_CPU["uv"]["seconds"]),
    ("docs/install.md", "77 s | {} minutes", ".0f", INSTALL_CPU["pip"]["seconds"] / 60),
    ("docs/install.md", "14 minutes | {} GB", ".1f", INSTALL_CPU["uv"]["folder_mb"] / 1000),
    ("docs/install.md", "bytecode {} GB", ".1f", INSTALL_CPU["pip"]["folder_mb"] / 1000),
    ("docs/install.md", "Triton are {} GB", ".1f",
     (INSTALL["largest_mb"]["nvidia"] + INSTALL["largest_mb"]["triton"]) / 1000),
    ("docs/install.md", "GB | {} minutes | not measured |", ".0f", INSTALL["seconds"] / 60),
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
    page = (ROOT / "benchmarks/walking.md").read_text()
    for r in result("walk_fast_sac_cpu_2026-11-29")["rows"]:
        ran, judged = r["training"], r["judged_after_150_s"]
        errors = f"{judged['speed_error']:.3f}, {judged['settled_speed_error']:.3f}"
        falls = round(judged["falls"] * judged["episodes"])
        assert f"| {ran['frames']} | {ran['return']:.1f} | {falls} | {errors} |" in page


MARK = re.compile(r"<!-- (?:numbers: ([\w./ -]+?))?(?:; )?(?:not measured: ([\d., ]+))? -->")
LEFT_OUT = re.compile(
    r"`[^`]*`|\]\([^)]*\)|\d{4}-\d\d-\d\d|\d+\.\d+\.\d[\w.]*|(?:Python|PyTorch|NumPy|mjlab|rsl_rl|skrl"
    r"|UniLab|Stable-Baselines3|RL Games|rl_games|rl-games|MuJoCo)(?:'s)? \d+\.\d+"
)
"""Code, links, dates and versions."""
NUMBER = re.compile(
    r"(?<![\w.,/^-])(\d{1,3}(?:[ ,]\d{3})+|\d+)(\.\d+)?"
    r"(?:\s?(%|(?:k|M|s|ms|us|min|minutes|cm|GB|MB)\b))?(?![\w^])"
)
SCALES = {
    "k": (1e-3,),
    "M": (1e-6, 1e-3, 1),
    "%": (1, 100),
    "min": (1 / 60,),
    "minutes": (1 / 60,),
    "ms": (1, 1e3),
    "us": (1, 1e3, 1e6),
    "cm": (100, 1),
    "GB": (1, 1e-3),
}
"""By how much the number of a file, in its own unit, may be multiplied."""
MEASURED = re.compile(
    r"\d (?:(?:k|M|ms|us|GB|min|minutes)\b|%)|(?:steps|images|frames)/s\b|\d times (?:as|UniLab)"
    r"|\d\.\d+ s\b|\d\.\d+ cm\b|\d\d+ s (?:on|of training|after)\b|(?:after|took|in) \d\d+ s\b"
)
"""Words of what was measured."""
MADE = "| task | hardware |"
"""README's table is made by a script; test_site.py compares it."""


def blocks(page):
    """(its mark or None, text) of each paragraph and table of a page, without code."""
    text = re.sub(r"^```.*?^```|^#.*?$", "\n", page.read_text(), flags=re.M | re.S)
    mark = None
    for block in re.split(r"\n\s*\n", text):
        if found := MARK.fullmatch(block.strip()):
            mark = found
        elif block.strip():
            yield mark, LEFT_OUT.sub(" ", block)
            mark = None


def numbers(text):
    """(value, digits behind the point, unit) of each number in a text."""
    for whole, part, unit in NUMBER.findall(text):
        value = float(re.sub("[ ,]", "", whole) + part)
        if unit or part or value >= 10:
            yield value, max(len(part) - 1, 0), unit


def in_it(x):
    """All numbers in a result, those in its words too, and medians and means of its rows."""
    if isinstance(x, str):
        yield from (value for value, _, _ in numbers(x.replace("_", " ")))
    elif isinstance(x, dict):
        yield from in_it([*x, *x.values()])
        if {"falls", "episodes"} <= x.keys():
            yield round(x["falls"] * x["episodes"])
    elif isinstance(x, list):
        for value in x:
            yield from in_it(value)
        yield from middles(x)
    elif isinstance(x, int | float) and not isinstance(x, bool):
        yield float(x)


def middles(rows):
    """Medians and means of numbers, or of each number in a list of rows."""
    if rows and all(isinstance(r, int | float) for r in rows):
        yield from (statistics.median(rows), statistics.mean(rows))
    elif rows and all(isinstance(r, dict) for r in rows):
        for key in rows[0]:
            yield from middles([r[key] for r in rows if r.get(key) is not None])


@functools.cache
def known(names):
    """Numbers of result files, ordered."""
    return sorted(x for name in names for x in in_it(result(name)))


def is_known(value, digits, unit, names):
    half = 0.5000001 * 10**-digits
    for scale in SCALES.get(unit, (1,)):
        low = bisect.bisect_left(known(names), (value - half) / scale)
        if low < len(known(names)) and known(names)[low] <= (value + half) / scale:
            return True
    return False


@pytest.mark.parametrize("page", PAGES, ids=lambda p: str(p.relative_to(ROOT)))
def test_measured_numbers_come_from_the_files_that_a_page_names(page):
    computed = {
        number
        for name, words, how, value in QUOTED
        if ROOT / name == page
        for number, _, _ in numbers(words.format(format(value, how)))
    }
    for mark, text in blocks(page):
        if text.startswith(MADE) or (mark is None and not MEASURED.search(text)):
            continue
        names, other = [(mark and mark[k]) or "" for k in (1, 2)]
        tests = [ROOT / name for name in names.split() if name.startswith("tests/")]
        files = tuple(name for name in names.split() if not name.startswith("tests/"))
        allowed = computed | {float(x.replace(",", "")) for x in other.split()}
        missing = [x for x in numbers(text) if x[0] not in allowed and not is_known(*x, files)]
        assert all(test.exists() for test in tests)
        assert tests or not missing, text
