"""Studies of many runs: what they try, how they continue, what a population changes."""

import contextlib
import fcntl
import os
import random
import signal
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

pytest.importorskip("ray")

from interrupted import wait_until
from phalanx.cli import trial, tune
from phalanx.cli.console import Lines
from phalanx.cli.dexpbt import MUTATIONS, DexPBT, PBTOptions, large_gap, mutated
from phalanx.cli.main import main
from phalanx.cli.overrides import split
from phalanx.cli.study import Record, Study, as_arguments, settings_of_trials
from phalanx.errors import PhalanxError

CONFIG = "train.params.config."
RATE = f"{CONFIG}learning_rate"
CRITIC = "{minibatch_size: 7, network: {mlp: {units: [8], activation: elu}}}"


def test_a_grid_has_every_combination_once_and_draws_are_repeated():
    grid = settings_of_trials([f"{RATE}=1e-3,1e-4", "task=Cartpole", "seed=1,2"], 8, 0)
    assert grid == [{RATE: r, "seed": s} for r in ("1e-3", "1e-4") for s in ("1", "2")]
    drawn = settings_of_trials([f"{RATE}=loguniform(1e-5, 1e-3)", "seed=1,2"], 50, 0)
    assert len(drawn) == 100
    rates = sorted(float(values[RATE]) for values in drawn)
    assert 1e-5 <= rates[0] < rates[50] < rates[-1] <= 1e-3
    assert 3e-5 < rates[50] < 3e-4  # the middle on a logarithmic scale is 1e-4
    assert drawn == settings_of_trials([f"{RATE}=loguniform(1e-5, 1e-3)", "seed=1,2"], 50, 0)
    choices = settings_of_trials(["task.env.x=choice([1, 2], 3)"], 20, 0)
    assert {values["task.env.x"] for values in choices} == {"[1, 2]", "3"}


def test_mutations_are_dexpbts():
    rng = random.Random(0)
    options = PBTOptions(mutation={"x": "mutate_float"}, mutation_rate=0.15)
    factors = [mutated({"x": 1.0, "other": 5}, options, rng)["x"] for _ in range(4000)]
    changed = [max(f, 1 / f) for f in factors if f != 1.0]
    assert 0.13 < len(changed) / 4000 < 0.17
    assert 1.1 <= min(changed) < max(changed) <= 1.5
    assert 0.4 < sum(f > 1 for f in factors) / len(changed) < 0.6
    gammas = [MUTATIONS["mutate_discount"](0.99, 1.1, 1.5, rng) for _ in range(200)]
    assert 1 - 0.012 <= min(gammas) < max(gammas) <= 1 - 0.01 / 1.2
    clips = [MUTATIONS["mutate_eps_clip"](0.29, 1.1, 1.5, rng) for _ in range(200)]
    assert max(clips) == 0.3
    epochs = {MUTATIONS["mutate_mini_epochs"](x, 1.1, 1.5, rng) for x in (1, 8) for _ in range(50)}
    assert epochs == {1, 2, 7, 8}


def test_weights_are_taken_only_over_a_large_gap():
    scores = [0.0, 90.0, 95.0, 100.0, 105.0]  # without the lowest fifth they spread by 5.6
    assert large_gap(105.0, 0.0, scores, PBTOptions())
    assert not large_gap(105.0, 103.0, scores, PBTOptions())
    assert not large_gap(105.0, 100.0, scores, PBTOptions())  # under 5 %
    assert not large_gap(105.0, 0.0, scores, PBTOptions(replace_threshold_frac_std=100.0))


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["sampels=3"], "unknown key 'sampels'"),
        ([f"{RATE}=loguniform(1)"], f"cannot draw {RATE} from loguniform(1)"),
        (["train.params.config.gama=0.9,0.99"], "did you mean 'gamma'?"),
        (["scheduler=asa"], "scheduler is 'asa'"),
        (["scheduler=pbt", "pbt.mutation={gamma: mutate_it}"], "is 'mutate_it'; accepted"),
        (["scheduler=pbt", "pbt.intervall=3"], "did you mean 'interval_steps'?"),
        (["scheduler=pbt", "samples=1"], "scheduler=pbt needs two trials or more"),
        (["scheduler=pbt", "task=Cartpole,Ant"], "with scheduler=pbt all trials have one task"),
        (
            ["scheduler=pbt", "train.params.network.mlp.units=[32],[64]"],
            "have one train.params.network.mlp.units",
        ),
        (["experiment=x"], "experiment= is not for phalanx tune"),
        (["wandb_project=x"], "wandb_project= is not for phalanx tune, whose trials"),
        (["study=elsewhere"], "there is no study in elsewhere"),
        (["num_envs=16", f"{CONFIG}minibatch_size_per_env=8,7"], "112 does not divide the batch"),
        (["train=CartpoleLSTM", f"{CONFIG}seq_length=4,3"], "seq_length 3 does not divide"),
        (["task=HumanoidAMP", f"{CONFIG}amp_minibatch_size_per_env=9999"], "larger than the minib"),
        (["task=HumanoidAMP", "seed=1,2", f"{CONFIG}central_value_config={CRITIC}"], "size 7 does"),
        (["address=127.0.0.1:1", "num_envs=16"], "no Ray cluster answers at 127.0.0.1:1"),
    ],
)
def test_mistakes_are_found_before_a_trial_starts(tmp_path, monkeypatch, capsys, arguments, words):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(tune, "START_TRIES", 1)
    with pytest.raises(SystemExit) as ended:
        main(["tune", *arguments])
    assert ended.value.code == 2
    err = capsys.readouterr().err
    assert words in err.splitlines()[-1]


def test_a_study_of_another_command_is_refused(tmp_path):
    study = Study(tmp_path / "s")
    study.begin(["task=Ant", "seed=1,2"], [{"seed": 1}, {"seed": 2}])
    Study(tmp_path / "s").begin(["task=Ant", "seed=1,2"], [])
    with pytest.raises(PhalanxError, match="is a study of another command, `phalanx tune task=Ant"):
        Study(tmp_path / "s").begin(["task=Humanoid", "seed=1,2"], [])
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "file").touch()
    with pytest.raises(PhalanxError, match="is not empty and not a study"):
        Study(tmp_path / "other")
    study.write(Record(1, {"seed": 2}, curve=[[1.0, 2.0, 3.0, 4.0, 5.0]], state="done"))
    waiting, done = Study(tmp_path / "s").trials()
    assert (waiting.state, waiting.values, done.ended) == ("waiting", {"seed": 1}, True)
    study._file(1).write_text('{"number": "a"}')
    with pytest.raises(PhalanxError, match=r"001\.json"):
        study.trials()


class Running:
    """A trial of Ray's, as far as the scheduler looks at it."""

    status = "RUNNING"

    def __init__(self, number, values):
        self.config = {"trial": {"number": number, "values": values}}

    def set_config(self, config):
        self.config = config


class Controller:
    """Ray's, of `trials`."""

    def __init__(self, trials):
        self.trials = trials

    def get_trials(self):
        return self.trials

    def pause_trial(self, trial, should_checkpoint):
        trial.status = "PAUSED"


TAU = "train.params.config.tau"


def population(folder, scores, **options):
    """A scheduler, its controller and trials with these scores, by whose end none has reported."""
    study = Study(folder / "s")
    settings = [{RATE: k + 1.0, TAU: 0.9 + k / 100, "seed": k} for k in range(len(scores))]
    study.begin(["task=Cartpole"], settings)
    for k in range(len(scores)):
        file = folder / f"{k}.pth"
        file.write_text(str(k))
        study.write(Record(k, settings[k], checkpoint=str(file), state="running"))
    kinds = {RATE: "mutate_float", TAU: "mutate_discount"}
    given = {"mutation": kinds, "interval_steps": 100, "start_after": 0, "initial_delay": 100}
    scheduler = DexPBT(PBTOptions(**{**given, **options}), study, seed=0)
    scheduler.set_search_properties("return", "max")
    trials = [Running(k, values) for k, values in enumerate(settings)]
    for trial_ in trials:
        scheduler.on_trial_add(None, trial_)
    return scheduler, Controller(trials)


def report(scheduler, controller, number, frames, score):
    row = {"frames": frames, "return": score}
    decision = scheduler.on_trial_result(controller, controller.trials[number], row)
    if decision == scheduler.CONTINUE and frames >= 100:  # as the trial does before it reports
        record = scheduler.study.trial(number)
        record.curve.append([3.0, frames, score, 10.0, 1.0])
        scheduler.study.write(record)
    return decision


def test_a_trial_among_the_worst_waits_for_most_others_and_may_have_been_good_a_moment_ago(
    tmp_path,
):
    scheduler, controller = population(tmp_path, [0.0] * 8)
    for k in range(7, 3, -1):
        assert report(scheduler, controller, k, 100, 10.0 * k) == scheduler.CONTINUE
    # The lowest of five, but three have not come that far, and are below it.
    assert report(scheduler, controller, 3, 100, 30.0) == scheduler.CONTINUE
    for k in (2, 1):
        assert report(scheduler, controller, k, 100, 10.0 * k) == scheduler.CONTINUE
    assert report(scheduler, controller, 0, 90, 60.0) == scheduler.CONTINUE  # as the best do
    assert report(scheduler, controller, 0, 100, 0.0) == scheduler.CONTINUE
    assert report(scheduler, controller, 0, 190, 20.0) == scheduler.CONTINUE  # no interval
    assert report(scheduler, controller, 0, 200, 0.0) == scheduler.NOOP
    assert report(scheduler, controller, 1, 200, 10.0) == scheduler.PAUSE  # for the one that waits


def test_a_trial_has_time_after_its_start_and_after_a_change(tmp_path):
    scheduler, controller = population(tmp_path, [0.0] * 3, start_after=200, initial_delay=300)
    for frames in (100, 200):
        for k in (2, 1, 0):
            assert report(scheduler, controller, k, frames, 10.0 * k) == scheduler.CONTINUE
    for k, decision in ((2, "CONTINUE"), (1, "CONTINUE"), (0, "NOOP")):
        assert report(scheduler, controller, k, 300, 10.0 * k) == decision
    controller.trials[0].status = "RUNNING"
    assert report(scheduler, controller, 0, 400, 0.0) == scheduler.CONTINUE
    assert report(scheduler, controller, 0, 500, 0.0) == scheduler.NOOP


def test_a_trial_is_not_changed_at_its_last_report_and_nan_is_the_worst_return(tmp_path):
    scheduler, controller = population(tmp_path, [0.0] * 4, mutation_rate=1.0)
    for k in (3, 2, 1):
        report(scheduler, controller, k, 100, 10.0 * k)
    last = {"frames": 100, "return": 0.0, "last": True}
    assert scheduler.on_trial_result(controller, controller.trials[0], last) == scheduler.CONTINUE
    assert controller.trials[0].config["trial"]["values"][RATE] == 1.0
    assert report(scheduler, controller, 0, 200, float("nan")) == scheduler.NOOP
    assert controller.trials[0].config["trial"]["checkpoint"].startswith(str(scheduler.study.taken))


@pytest.mark.parametrize("scores", [[0.0, 50.0, 100.0, 104.0], [100.0, 101.0, 102.0, 103.0]])
def test_a_trial_among_the_worst_becomes_like_one_of_the_best(tmp_path, monkeypatch, scores):
    scheduler, controller = population(tmp_path, scores, mutation_rate=0.0)
    study = scheduler.study
    for k in (3, 2, 1):
        report(scheduler, controller, k, 100, scores[k])
    assert report(scheduler, controller, 0, 100, scores[0]) == scheduler.NOOP
    for file in tmp_path.glob("[0-3].pth"):  # the donor, which goes on, keeps its last ones only
        file.unlink()
    chosen = {"trial": controller.trials[0].config["trial"]}
    number = int(Path(chosen["trial"]["checkpoint"]).read_text())
    assert number in (2, 3) if scores[0] == 0.0 else number == 0
    values = chosen["trial"]["values"]
    # All settings that mutate are of one trial; others stay.
    assert values[RATE] in (1.0, number + 1.0)
    assert values == {RATE: values[RATE], TAU: 0.9 + (values[RATE] - 1) / 100, "seed": 0}

    def train(config, record, reporter):
        seen.append((record.values, record.checkpoint, record.curve))

    seen = []
    monkeypatch.setattr(trial, "_train", train)
    place = {"study": str(study.path), "folder": str(tmp_path), "arguments": []}
    trial.trial({**chosen, **place, "every": 3, "replays": False})
    assert seen == [tuple(chosen["trial"][key] for key in ("values", "checkpoint", "curve"))]
    assert study.trial(0).change == chosen["trial"]["change"]


def test_the_checkpoint_just_written_is_kept_though_the_clock_was_set_back(tmp_path):
    study = Study(tmp_path / "s")
    study.begin(["task=Cartpole"], [{}])
    record = study.trial(0)
    reporter = trial.Reporter(study, record, 1, False)
    reporter.report = lambda row, last: None
    mean = SimpleNamespace(mean=1.0, size=1)
    algo = SimpleNamespace(
        epoch_num=0, nn_dir=tmp_path, stop_reason="", mean_rewards=mean, mean_lengths=mean
    )

    def save(name):
        file = name.with_suffix(".pth")
        file.touch()
        os.utime(file, (1e9 - algo.epoch_num, 1e9 - algo.epoch_num))
        return file

    algo.save = save
    reporter.after_init(algo)
    for epoch in range(1, 9):
        algo.epoch_num = epoch
        reporter.after_print_stats(epoch, epoch, 1.0)
        assert Path(record.checkpoint).name == f"trial_{epoch}.pth"
        assert Path(record.checkpoint).exists()
        assert len(list(tmp_path.glob("trial_*.pth"))) == min(epoch, trial.KEPT)


def test_a_study_that_is_killed_continues_and_a_trial_that_fails_leaves_others_alone(tmp_path):
    options = ["task=Cartpole", "sim_device=cpu", "num_envs=16", "max_iterations=150", "study=s"]
    options += ["train.params.config.horizon_length=8", "report_every=3"]
    options += [f"{CONFIG}minibatch_size_per_env=8", f"{RATE}=1e-4,1e30"]  # of which one cannot be
    environment = {**os.environ, "RAY_worker_niceness": "0", "OMP_NUM_THREADS": "1"}
    study = Study(tmp_path / "s")

    def start(arguments):
        command = [sys.executable, "-m", "phalanx", "tune", *arguments]
        with (tmp_path / "out").open("w") as out:
            return subprocess.Popen(command, cwd=tmp_path, env=environment, stdout=out, stderr=out)

    def begun():
        return study.file.exists() and len(study.trials()[0].curve) > 2

    def end(run, number, more):
        try:
            wait_until(lambda: begun() and len(study.trials()[0].curve) > more, 400)
        finally:
            run.send_signal(number)
            status = run.wait(100)
        assert study.trials()[0].state == "running"
        return status

    assert end(start(options), signal.SIGTERM, 2) == 130
    told = (tmp_path / "out").read_text()
    assert "continue: " in told
    assert not {"SIGTERM", "Traceback"} & {*told.replace(":", " ").split()}
    end(start(["study=s"]), signal.SIGKILL, len(study.trials()[0].curve))
    before = study.trials()[0]
    assert start(["study=s"]).wait(400) == 2
    out = (tmp_path / "out").read_text()
    done, failed = study.trials()
    assert (done.state, done.curve[-1][0], done.starts) == ("done", 150, 3), out
    assert done.curve[: len(before.curve)] == before.curve
    assert failed.state == "failed"
    assert "the losses became NaN or infinite" in failed.reason
    assert "the losses became NaN or infinite" in out
    assert (tmp_path / "s/curves.png").stat().st_size > 1000


def test_trials_run_with_this_python_after_uv_run(tmp_path):
    """Ray looks for a process "uv run" among those that began this one."""
    code = """
from rich.console import Console
from phalanx.cli import tune
with tune._ray(tune.TuneOptions(), Console()):
    import ray
    print("env:", ray.get_runtime_context().runtime_env.to_dict())
"""
    begin = f"import subprocess; subprocess.run({[sys.executable, '-c', code]}, check=True)"
    (tmp_path / "run").write_text(begin)
    told = subprocess.run(
        ["uv", "run"], executable=sys.executable, cwd=tmp_path, capture_output=True, text=True
    )
    assert "env: {}" in told.stdout, told.stderr[-2000:]


def test_a_trial_reads_the_values_that_were_given():
    values = {
        "a": None,
        "b": "1",
        "c": 1e-05,
        "d": float("inf"),
        "e": [1, None],
        "f": {"x": "a, b"},
    }
    values |= {"g": True, "h": "é", "task": "Ant", "i": "null", "j": "~", "sim_device": "cpu"}
    words = as_arguments(values)
    assert {k: tune._value(k, text) for k, text in map(split, words)} == values
    own, given = tune._read(["task=Cartpole", "max_iterations=null,1000"])
    (first, _) = tune._settings(own, given[:1], given)
    tune._check([*given[:1], *as_arguments({k: tune._value(k, v) for k, v in first.items()})])


def test_what_trials_have_no_use_for_may_be_off_or_of_a_study_that_is_there():
    off = ["wandb_activate=False", "video_every=0", "view=false", "mlflow=false", "wandb=null"]
    assert tune._read([*off, "seed=1"])[1] == ["seed=1"]
    old = ["wandb=true", "video_every=5", "view=true"]
    assert tune._read(old, begun=True)[1] == []
    for word in old:
        with pytest.raises(PhalanxError, match="is not for phalanx tune, whose trials"):
            tune._read([word])


def test_asha_ends_no_trial_before_its_own_last_iteration(tmp_path):
    scheduler = tune._scheduler(tune.TuneOptions(scheduler="asha"), Study(tmp_path / "s"))
    scheduler.set_search_properties("return", "max")
    running = SimpleNamespace(trial_id="0")
    scheduler.on_trial_add(None, running)
    row = {"iteration": 100_000, "return": 1.0}
    assert scheduler.on_trial_result(None, running, row) == scheduler.CONTINUE


def test_trials_that_this_machine_has_no_room_for_are_refused(capsys):
    has = {"CPU": 2.0}
    tune._check_room(tune.TuneOptions(cpus=2.0), 0.0, has, Lines())
    for options, gpus, words in (({"cpus": 2.5}, 0.0, "cpus=2.5, but this machine has 2;"),
                                 ({}, 0.5, "gpus=0.5, but this machine has 0;")):  # fmt: skip
        with pytest.raises(PhalanxError, match=words):
            tune._check_room(tune.TuneOptions(**options), gpus, has, Lines())
    tune._check_room(tune.TuneOptions(address="auto"), 1.0, has, Lines())
    assert "gpus=1, but the cluster has 0: it waits" in capsys.readouterr().out


def test_a_study_that_cannot_be_written_is_one_sentence(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(PhalanxError, match=r"cannot write the study .*/file/s: not a directory; "):
        Study(tmp_path / "file/s").begin([], [])


def test_a_study_that_runs_is_left_alone_and_one_continues_elsewhere(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    arguments = ["task=Cartpole", "num_envs=16", "seed=1,2"]
    with monkeypatch.context() as patched:
        patched.setattr(tune, "_connect", lambda address: None)
        patched.setattr("ray.cluster_resources", lambda: {"CPU": 2.0})
        with pytest.raises(SystemExit):
            main(["tune", *arguments, "study=s", "cpus=3", "address=local"])
    assert "cpus=3, but this machine has 2; give at most that" in capsys.readouterr().err
    assert not Path("s").exists()  # so that the command can be given with another number
    monkeypatch.setattr(tune, "_run", lambda own, *rest: seen.append((own.address, own.cpus)))
    monkeypatch.setattr(tune, "_ray", lambda *own: contextlib.nullcontext())
    seen = []
    main(["tune", *arguments, "study=s"])
    main(["tune", "study=s", "address=auto", "cpus=2"])
    assert seen == [(None, 1), ("auto", 2)]
    with (tmp_path / "s/.owner").open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        held.write("77")
        held.flush()
        with pytest.raises(SystemExit):
            main(["tune", "study=s"])
    assert "s is in use by process 77, which" in capsys.readouterr().err
