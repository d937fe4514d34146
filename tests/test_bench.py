"""`phalanx bench`: its rows, its error messages, and that one failure does not affect other
rows."""

import dataclasses
import json
import os
import re
import time

import pytest

import command_line
from phalanx.cli import bench, bench_rows, measure
from phalanx.cli.instruments import WINDOWS
from phalanx.cli.main import main
from phalanx.errors import PhalanxError

TINY = ["num_envs=8", "seconds=0.01", "sim_device=cpu"]
TINY += ["train.params.config.horizon_length=4", "train.params.config.minibatch_size_per_env=4"]
SPEEDS = ["physics", "environment", "rollout", "training"]


def run_here(job):
    """Runs a job in this process instead of its own."""
    rows = []
    job = dataclasses.replace(job, started=time.monotonic())
    try:
        measure.run(job, rows.append)
    except PhalanxError as error:
        rows.append({"measures": "speed", "failed": str(error)})
    return rows


@pytest.fixture
def here(monkeypatch, one_thread):
    monkeypatch.setattr(bench_rows, "run", run_here)


def results(*arguments, tmp_path):
    file = tmp_path / "bench.json"
    main(["bench", *TINY, f"out={file}", *arguments])
    return json.loads(file.read_text())


def test_each_row_says_what_it_measures(here, tmp_path, capsys):
    result = results(tmp_path=tmp_path)
    rows = result["rows"]
    assert [r["measures"] for r in rows] == ["start-up", *SPEEDS]
    assert result.keys() == {
        "command", "date", "hardware", "versions", "git_commit", "rows"
    }  # fmt: skip
    assert result["command"].startswith("phalanx bench num_envs=8 seconds=0.01")
    for row in rows:
        assert (row["task"], row["num_envs"], row["trainer"]) == ("Cartpole", 8, "phalanx")
        assert (row["device"], row["engine"], row["captured"]) == ("cpu", "mujoco", False)
        assert row["physics_steps_per_step"] == 2
        assert row["memory_gb"] > 0.05
    assert rows[0]["unit"] == "s"
    for row in rows[1:]:
        assert row["unit"] == "steps/s"
        assert len(row["values"]) == WINDOWS
        assert row["median"] == sorted(row["values"])[WINDOWS // 2]
        assert row["spread"] >= 0
    training, physics = rows[-1]["median"], sorted(rows[-1]["physics_alone"])
    share = 1 - training / physics[WINDOWS // 2]
    assert rows[-1]["outside_physics"] == pytest.approx(share)
    table = capsys.readouterr().out
    for measures in SPEEDS:
        assert re.search(rf"{measures} +[\d,]+ /s +\d+% +\d\.\d\d GB", table)
    assert "of the time outside physics" in table


def test_engines_are_compared_in_one_call(here, tmp_path, capsys):
    rows = results("engine=mujoco,auto", "num_envs=64", tmp_path=tmp_path)["rows"]
    engines = [r["engine"] for r in rows]
    assert engines == ["mujoco"] * 5 + ["fused"] * 5
    fused, mujoco = rows[-1], rows[4]
    assert fused["over_first_engine"] == fused["median"] / mujoco["median"]
    assert "over_first_engine" not in mujoco
    assert "x the first engine" in capsys.readouterr().out


def test_time_to_a_return_is_one_row_of_all_seeds(here, tmp_path, capsys):
    options = ["returns=-1e6", "seeds=3,4", "max_iterations=40"]
    options += ["train.params.config.games_to_track=2"]
    rows = results(*options, tmp_path=tmp_path)["rows"]
    row = rows[-1]
    assert (row["measures"], row["unit"], row["seeds"]) == ("time to return -1e+06", "s", [3, 4])
    assert len(row["values"]) == len(row["frames"]) == len(row["final_return"]) == 2
    assert all(v > 0 for v in row["values"])


def test_a_return_that_is_not_reached_is_reported(here, tmp_path, capsys):
    rows = results("returns=1e9", "max_iterations=2", tmp_path=tmp_path)["rows"]
    assert rows[-1]["values"] == [None]
    assert rows[-1]["median"] is rows[-1]["spread"] is None
    assert re.search(r"time to return 1e\+09 +not reached", capsys.readouterr().out)


def test_agents_that_replay_are_measured_too(here, tmp_path):
    options = ["train=CartpoleDQN", "train.params.config.num_warmup_steps=2"]
    rows = []
    job = measure.Job("phalanx", ["num_envs=8", "sim_device=cpu", *options], 0.01)
    measure.run(job, rows.append)
    assert [r["measures"] for r in rows] == ["start-up", *SPEEDS]


@pytest.mark.parametrize("name", ["rl_games_eager", "rsl_rl"])
def test_peers_train_in_the_same_environment(here, tmp_path, name, monkeypatch):
    monkeypatch.chdir(tmp_path)
    row = results(f"against={name}", tmp_path=tmp_path)["rows"][-1]
    assert (row["trainer"], row["measures"], row["unit"]) == (name, "training", "steps/s")
    assert len(row["values"]) == WINDOWS
    assert row["phalanx_over_this"] > 0


CHILD = """
import json, os, sys
job = json.load(sys.stdin)
print(json.dumps({"measures": "physics", "unit": "steps/s", "values": [1.0], "device": "cpu",
                  "captured": False, "memory_gb": 0.1}), flush=True)
if job["arguments"][0] == "task=Ant":
    os.kill(os.getpid(), 9)
if job["arguments"][0] == "task=Humanoid":
    sys.exit("no more room")
"""


def test_one_failure_does_not_lose_the_others(tmp_path, monkeypatch):
    """Processes that take a fraction of a second, two of which end too early."""
    monkeypatch.setattr(bench_rows, "CHILD", CHILD)
    rows = results("task=Ant,Humanoid,Cartpole", tmp_path=tmp_path)["rows"]
    said = [(r["task"], r.get("failed", r.get("median"))) for r in rows]
    assert said == [
        *(("Ant", 1.0), ("Ant", "killed by signal 9, perhaps out of memory")),
        *(("Humanoid", 1.0), ("Humanoid", "no more room"), ("Cartpole", 1.0)),
    ]


@pytest.mark.slow
def test_a_job_runs_in_its_own_process():
    """Ant has no discrete actions for DQN."""
    bad = measure.Job("phalanx", ["task=Ant", "num_envs=4", "train=CartpoleDQN"], 0.01)
    good = measure.Job("phalanx", ["task=Cartpole", *TINY[:1], *TINY[2:]], 0.01)
    failed = list(bench_rows.run(bad))
    assert "unknown key task.env.discrete_actions" in failed[-1]["failed"]
    assert [r["measures"] for r in bench_rows.run(good)] == ["start-up", *SPEEDS]


def test_if_everything_fails_the_error_is_printed(here, capsys):
    with pytest.raises(SystemExit) as stop:
        main(["bench", *TINY, "train.params.config.minibatch_size=7"])
    assert stop.value.code == 2
    said = capsys.readouterr().err
    assert "nothing could be measured: params.config.minibatch_size 7 does not divide" in said


def test_files_of_earlier_calls_are_shown_and_drawn(here, tmp_path, capsys):
    results(tmp_path=tmp_path)
    first = capsys.readouterr().out
    main(["bench", f"results={tmp_path}/bench.json"])
    again = capsys.readouterr().out
    headings = "task environments trainer measures median spread memory"
    assert again.splitlines()[0].split() == headings.split()
    assert set(again.splitlines()) <= set(first.splitlines())
    pytest.importorskip("matplotlib")
    main(["bench", f"results={tmp_path}/bench.json", f"plot={tmp_path}/growth.png"])
    assert (tmp_path / "growth.png").read_bytes()[1:4] == b"PNG"


MISTAKES = [
    ("fast", "'fast' is not of the form key=value, as in num_envs=64,256"),
    ("num_env=3", "unknown key 'num_env'; did you mean 'num_envs'?"),
    ("video=true", "unknown key 'video'; accepted: task, num_envs, seconds"),
    ("task=Cartpole,Atn", "unknown task 'Atn'; did you mean 'Ant'?"),
    ("task=", "task= is empty; give a value"),
    ("returns=3 seeds=", "seeds= is empty; give a value"),
    ("num_envs=8,many", "num_envs[1] is 'many'; it must be a whole number"),
    ("num_envs=8,0", "num_envs[1] is 0; it must be at least 1"),
    ("seconds=0", "seconds is 0.0; it must be above 0"),
    ("seeds=-1", "seeds[0] is -1; it must be at least 0"),
    ("returns=1,2", "returns has 2 values for 1 tasks"),
    ("eager=true sim_device=cpu", "eager=true compares with CUDA graphs, but on the CPU"),
    ("against=rl_gams", "unknown trainer 'rl_gams' in against=; did you mean 'rl_games'?"),
    ("--against=mjlab", "against=mjlab needs the package mjlab; install it with `pip install"),
    ("--against mjlab", "against=mjlab needs the package mjlab; install it with `pip install"),
    ("out=/tmp", "cannot write /tmp: it is a folder; give out= a file in it"),
    ("results=none.json", "phalanx: cannot read none.json: no such file or directory"),
    ("out=/nowhere/x.json", "cannot write /nowhere/x.json: /nowhere is not a writable folder"),
    ("results=/nowhere.json", "cannot read /nowhere.json: no such file or directory"),
    ("task.env.epsiode_length=3", "task.env.epsiode_length; did you mean 'episode_length'?"),
]


@pytest.mark.parametrize(("line", "words"), MISTAKES, ids=[m[0] for m in MISTAKES])
def test_a_mistake_gets_one_sentence_before_anything_is_measured(
    line, words, capsys, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(bench_rows, "run", lambda job: pytest.fail("measured"))
    find = bench.importlib.util.find_spec
    monkeypatch.setattr(
        bench.importlib.util, "find_spec", lambda name: None if name == "mjlab" else find(name)
    )
    assert words in command_line.sentence(capsys, "bench", *line.split())
    assert os.listdir(tmp_path) == []


def test_mjlab_supports_its_own_cartpole_only(monkeypatch):
    monkeypatch.setattr(bench.importlib.util, "find_spec", lambda name: True)
    with pytest.raises(PhalanxError, match="mjlab supports Cartpole only, not Ant"):
        bench._check_peer("mjlab", "Ant")
