"""A run is logged to Weights & Biases and MLflow, offline, with their own libraries."""

import json

import pytest

from interrupted import QUICK, SMALL
from phalanx.cli.main import main
from phalanx.errors import PhalanxError, PhalanxWarning
from phalanx.rl import tracking

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture
def train(tmp_path, monkeypatch):
    """`phalanx train` in a folder of its own, offline."""
    pytest.importorskip("wandb")
    pytest.importorskip("mlflow")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")

    def run(*more):
        main(["train", *SMALL, *QUICK, *more])

    return run


def test_settings_scalars_films_and_checkpoints_are_there(tmp_path, train, monkeypatch):
    from mlflow.tracking import MlflowClient

    film = tmp_path / "runs/Cartpole/videos/1.mp4"
    end = tracking.Tracker.after_training

    def filmed(self):
        film.parent.mkdir(exist_ok=True)
        film.write_bytes(b"a film")
        end(self)

    monkeypatch.setattr(tracking.Tracker, "after_training", filmed)
    train("max_iterations=4", "mlflow=true", "wandb_activate=True", "wandb_tags=[a, b]")
    monkeypatch.setattr(tracking.Tracker, "after_training", end)
    ids = json.loads((tmp_path / "runs/Cartpole/tracking.json").read_text())
    client = MlflowClient()
    run = client.get_run(ids["mlflow"])
    assert run.info.status == "FINISHED"
    assert run.data.params["task.name"] == "Cartpole"
    assert run.data.params["train.params.config.horizon_length"] == "8"
    frames = [m.step for m in client.get_metric_history(ids["mlflow"], "losses/a_loss")]
    assert frames == [512 * k for k in (1, 2, 3, 4)]
    found = {
        a.path
        for where in ("checkpoints", "videos")
        for a in client.list_artifacts(ids["mlflow"], where)
    }
    assert client.get_metric_history(ids["mlflow"], "ends/time")
    assert found == {"checkpoints/Cartpole.pth", "checkpoints/last_Cartpole.pth", "videos/1.mp4"}

    (file,) = (tmp_path / "runs/Cartpole/wandb").glob(f"offline-run-*/run-{ids['wandb']}.wandb")
    logged = file.read_bytes()
    for word in (b"losses/a_loss", b"horizon_length", b"last_Cartpole.pth", b"media/videos"):
        assert word in logged, word

    sent = []
    monkeypatch.setattr(tracking.MLflowTracker, "film", lambda self, file, frame: sent.append(file))
    train("checkpoint=runs/Cartpole", "max_iterations=6", "mlflow=true")
    assert not sent  # that film is of frames long gone
    assert json.loads((tmp_path / "runs/Cartpole/tracking.json").read_text()) == ids
    frames = [m.step for m in client.get_metric_history(ids["mlflow"], "losses/a_loss")]
    assert frames == [512 * k for k in range(1, 7)]


def test_a_library_that_is_missing_or_refuses_ends_with_one_sentence(
    tmp_path, train, monkeypatch, capsys
):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "nonsense://there")
    with pytest.raises(SystemExit):
        train("max_iterations=1", "mlflow=true")
    assert "phalanx: mlflow does not start: " in capsys.readouterr().err
    assert not any(tmp_path.glob("runs/*"))
    monkeypatch.setattr(tracking.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(PhalanxError, match=r"install it with `pip install 'phalanx\[wandb\]'`"):
        tracking.WandbTracker({})


class Unreachable(tracking.Tracker):
    """A tracker whose server goes away after the first values."""

    package = "torch"

    def start(self, run):
        self.calls = ["start"]
        return "id"

    def log(self, scalars, frame):
        self.calls.append("log")
        if self.calls.count("log") > 1:
            raise ConnectionError("nobody answers")

    def files(self, checkpoints):
        self.calls.append("files")

    def end(self, failed):
        self.calls.append(f"end, failed {failed}")


def test_training_goes_on_without_a_server_and_one_that_fails_is_told_so(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    tracker = Unreachable({})
    monkeypatch.setattr("phalanx.cli.train._trackers", lambda options: [tracker])
    with pytest.warns(PhalanxWarning, match="torch gets no more of this run: nobody answers; trai"):
        main(["train", *SMALL, *QUICK, "max_iterations=4"])
    assert tracker.calls == ["start", "log", "log"]

    tracker = Unreachable({})
    with pytest.raises(SystemExit):
        main(["train", *SMALL, *QUICK, "train.params.config.learning_rate=1e30"])
    assert tracker.calls == ["start", "end, failed True"]


def test_names_are_as_mlflow_takes_them():
    assert tracking._name("reward/speed [m/s]") == "reward/speed _m/s_"
    assert tracking._name("task.x.foot*") == "task.x.foot_"
    assert len(tracking._name("a" * 300)) == 250
