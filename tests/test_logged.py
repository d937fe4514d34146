"""What a task logs by name, and where a run shows it; films of training."""

import json
import tempfile
import types
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from browser import wait_for
from phalanx import tasks
from phalanx.cli.films import Films
from phalanx.cli.main import main
from phalanx.errors import PhalanxError
from phalanx.tasks.term_log import TermLog


def test_means_of_terms_and_shares_of_ends_since_the_last_reading():
    log = TermLog(torch.device("cpu"))
    assert log.read() == {}
    yes, no = torch.tensor([True, True, False, False]), torch.zeros(4, dtype=torch.bool)
    for up in (1.0, 3.0):
        rewards = {"up": torch.tensor([up, up, 0, 0]), "alive": torch.tensor(0.5)}
        log.add(rewards, {"fallen": yes, "time": no}, {"terrain/level": torch.tensor(7)})
    log.add({}, {}, {"late": torch.tensor([2.0, 4.0, 6.0, 8.0])})  # a second call in a step
    expected = {"reward/up": 1.0, "reward/alive": 0.5, "terrain/level": 7.0, "late": 5.0}
    assert log.read() == expected | {"ends/fallen": 1.0, "ends/time": 0.0}
    assert log.read() == {}
    log.add({}, {"fallen": no, "time": no}, {})
    assert log.read() == {}  # no end, no shares


def test_one_environment_logs_numbers_that_are_the_same_everywhere():
    log = TermLog(torch.device("cpu"))
    log.add({"up": torch.tensor([2.0])}, {}, {"part": torch.tensor(0.5)})
    assert log.read() == {"reward/up": 2.0, "part": 0.5}


def test_other_names_in_a_later_step_are_a_sentence():
    log = TermLog(torch.device("cpu"))
    one = torch.ones(3)
    log.add({"a": one, "b": one}, {}, {})
    with pytest.raises(PhalanxError, match="other names than in an earlier step: reward/a"):
        log.add({"a": one}, {}, {"c": one})
    with pytest.raises(PhalanxError, match="a task can log 256 numbers"):
        log.add({}, {}, {f"n{k}": one for k in range(300)})


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"ends": ["tilt"]}, "Cartpole.log_terms gets a list as ends; it must be a dict of names"),
        ({"ends": {"tilt": torch.ones(2) > 0}}, r"the end 'tilt' as a Tensor of shape \(2,\); it"),
        ({"ends": {"tilt": torch.ones(4)}}, "the end 'tilt' as torch.float32; it must be boolean"),
        ({"ends": {"time": torch.ones(4) > 0}}, "the end 'time', a name that Phalanx gives itself"),
        (
            {"rewards": {"up": torch.ones(4, 4)}},
            r"the reward 'up' as .*\(4,\), or \(\) if it is the",
        ),
        ({"numbers": {"level": 1.0}}, "the number 'level' as a float; it must be a tensor of one"),
    ],
)
def test_what_cannot_be_logged_is_one_sentence(given, words):
    task = tasks.make("Cartpole", 4, "cpu", engine="mujoco")
    with pytest.raises(PhalanxError, match=words):
        task.log_terms(**given)


class Named(tasks.find("Cartpole")):
    def compute_reward(self) -> tuple[Tensor, Tensor]:
        reward, ended = super().compute_reward()
        self.log_terms({"half": 0.5 * reward})
        return reward, ended


def test_environments_that_diverged_are_not_in_the_means():
    task = tasks.make("Ant", 4, "cpu", engine="mujoco")
    task.reset()
    actions = torch.zeros(4, task.num_actions)
    task.step(actions)
    sound = task.scalars()
    task.sim.qvel[1:] = float("nan")
    task.sim.qvel[3] = 1e30
    task.step(actions)
    found = task.scalars()
    assert task.sim.divergences.sum() == 3
    assert all(abs(found[k] - v) < 1 for k, v in sound.items() if k.startswith("reward/")), found


def test_sums_go_on_from_a_checkpoint_and_never_leave_the_device_in_a_step():
    def make():
        torch.manual_seed(0)
        task = Named(Named.Config(num_envs=4), device="cpu", engine="mujoco")
        task.reset()
        return task

    def walk(task, steps):
        for _ in range(steps):
            task.step(torch.ones(4, 1))

    whole, first, second = make(), make(), make()
    walk(whole, 30)
    walk(first, 20)
    state = first.state_dict()
    walk(second, 1)
    second.load_state_dict(state)
    torch.manual_seed(1)
    walk(second, 10)
    totals = [task.scalars() for task in (whole, second)]
    assert totals[0].keys() == totals[1].keys() >= {"reward/half", "ends/pole down"}
    steps = second.terms._sums  # read, so it is empty now
    assert not steps.any()
    state["log"] = {"reward/half": torch.zeros(3)}
    with pytest.raises(PhalanxError, match="log's reward/half has shape"):
        second.load_state_dict(state)


def test_a_run_shows_what_its_task_logs_and_films_it(tmp_path, monkeypatch, capsys):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    monkeypatch.chdir(tmp_path)
    settings = ["num_envs=64", "sim_device=cpu", "engine=mujoco", "max_iterations=24"]
    main(["train", "task=Ant", *settings, "video_every=1", "task.env.episode_length=60"])
    said = capsys.readouterr().out
    assert "\nreward:      progress " in said
    assert "ends:        fallen " in said
    run = tmp_path / "runs" / "Ant"
    terms = json.loads((run / "result.json").read_text())["terms"]
    assert terms["reward/alive"] == pytest.approx(0.5)
    assert terms["ends/fallen"] + terms["ends/time"] == pytest.approx(1.0)
    film = next((run / "videos").glob("iteration_*.mp4"))
    assert f"film:  {film.relative_to(tmp_path)}" in said
    assert film.stat().st_size > 10_000
    events = EventAccumulator(str(run / "summaries")).Reload()
    assert len(events.Scalars("reward/progress")) == 24
    assert {"ends/time", "reward/power"} <= set(events.Tags()["scalars"])
    assert events.Images("film")[0].encoded_image_string.startswith(b"GIF89a")
    text = events.Tensors("config/text_summary")[0].tensor_proto.string_val[0].decode()
    assert "episode_length: 60" in text
    hparams = events.summary_metadata["_hparams_/session_start_info"].plugin_data.content
    assert b"config.learning_rate" in hparams


def test_a_run_that_fails_leaves_no_half_of_a_film(tmp_path, monkeypatch):
    films, scratch = Films(None, every=1), tmp_path / "scratch"
    scratch.mkdir()
    monkeypatch.setenv("TMPDIR", str(scratch))
    monkeypatch.setattr(tempfile, "tempdir", str(scratch))
    task = tasks.make("Ant", num_envs=1, device="cpu", engine="mujoco")
    run = types.SimpleNamespace(vec_env=task, epoch_num=0, name="Ant", experiment_dir=tmp_path)
    films.before_training(run)
    films._iteration = 1
    films._start(np.repeat(task.sim.qpos[None], 600, 0))
    half = lambda: [*tmp_path.glob("videos/.*.partial")]  # noqa: E731
    drawing = lambda: any(p.exists() and p.stat().st_size for p in half())  # noqa: E731
    wait_for(lambda: drawing() or films._process.poll() is not None, 300)
    log = (Path(films._job.name) / "log").read_text("utf-8")
    if "no OpenGL" in log:
        films.stop()
        pytest.skip("no OpenGL to draw with")
    assert drawing(), log
    films.stop()
    assert half() == [*scratch.iterdir()] == []
