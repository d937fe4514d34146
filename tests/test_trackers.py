"""A run is logged to Weights & Biases and MLflow, offline, with their own libraries."""

import json

import pytest

from interrupted import QUICK, SMALL
from phalanx.cli.main import main
from phalanx.errors import PhalanxError
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
    assert found == {"checkpoints/Cartpole.pth", "checkpoints/last_Cartpole.pth", "videos/1.mp4"}

    (file,) = (tmp_path / "runs/Cartpole/wandb").glob(f"offline-run-*/run-{ids['wandb']}.wandb")
    logged = file.read_bytes()
    for word in (b"losses/a_loss", b"horizon_length", b"last_Cartpole.pth", b"media/videos"):
        assert word in logged, word

    train("checkpoint=runs/Cartpole", "max_iterations=6", "mlflow=true")
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
