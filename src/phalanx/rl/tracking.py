"""Observers that also log a run to Weights & Biases or MLflow, through their own libraries.

    Runner(Observers([WandbTracker(settings, project="ant"), ...]))

Both get the settings, every scalar over environment steps, films and, when training ends, the best
and the last checkpoint. A run that continues continues there, too: its id is in `tracking.json` of
the run folder. Where to log, and whether offline, the libraries' own variables say (`WANDB_MODE`,
`MLFLOW_TRACKING_URI`, ...).
"""

import importlib.util
import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from phalanx.errors import PhalanxError
from phalanx.files import write_atomically
from phalanx.gate import reason
from phalanx.json_text import read_json
from phalanx.rl.observer import AlgoObserver

FILE = "tracking.json"
MOST_PARAMS = 100
"""Settings that MLflow takes at once."""
OTHER_AXES = ("/iter", "/time")
"""Ends of the tags that repeat a value over iterations and seconds."""


class Tracker(AlgoObserver):
    """Base of both. A subclass starts a run, logs, and ends it."""

    package = ""

    def __init__(self, settings: Mapping[str, Any]) -> None:
        if importlib.util.find_spec(self.package) is None:
            raise PhalanxError(
                f"{self.package}=true needs the package {self.package}; install it with"
                f" `pip install 'phalanx[{self.package}]'`"
            )
        self.settings = dict(settings)
        self._films: set[Path] = set()

    def after_init(self, algo: Any) -> None:
        self.algo, self.folder = algo, Path(algo.experiment_dir)
        file = self.folder / FILE
        ids = read_json(file) if file.exists() else {}
        if not isinstance(ids, dict) or not all(isinstance(i, str) for i in ids.values()):
            raise PhalanxError(f"{file} is damaged: it must have a run's id for each tracker")
        try:
            ids[self.package] = self.start(ids.get(self.package))
        except Exception as error:  # of many kinds: no login, no network, a server's refusal
            raise PhalanxError(
                f"{self.package} does not start: {reason(error)}; leave {self.package}=true"
                f" out, or work offline with {self.offline}"
            ) from error
        write_atomically(file, json.dumps(ids).encode(), "train_dir=")
        algo.run.folder.listeners.append(self._scalars)

    def _scalars(self, scalars: dict[str, float], step: float) -> None:
        own = {tag: x for tag, x in scalars.items() if not tag.endswith(OTHER_AXES)}
        if own:
            self.log(own, int(step))

    def after_print_stats(self, frame: int, epoch_num: int, total_time: float) -> None:
        for film in sorted({*self.folder.glob("videos/*.mp4")} - self._films):
            self._films.add(film)
            self.film(film, frame)

    def after_training(self) -> None:
        a = self.algo
        self.after_print_stats(a.frame, a.epoch_num, a.total_time)
        names = (f"{a.name}.pth", f"last_{a.name}.pth")
        self.files([a.nn_dir / name for name in names if (a.nn_dir / name).exists()])
        self.end()

    offline = ""
    """What to set to work without a server."""

    def start(self, run: str | None) -> str:
        """Start a run, or continue the one of that id; returns its id."""
        raise NotImplementedError

    def log(self, scalars: dict[str, float], frame: int) -> None:
        """Log values by tag after `frame` environment steps."""
        raise NotImplementedError

    def film(self, file: Path, frame: int) -> None:
        """Log a film."""
        raise NotImplementedError

    def files(self, checkpoints: list[Path]) -> None:
        """Keep checkpoints."""
        raise NotImplementedError

    def end(self) -> None:
        """End the run."""
        raise NotImplementedError


class WandbTracker(Tracker):
    """Weights & Biases. `options` are those of `wandb.init`: project, entity, group, name, tags."""

    package, offline = "wandb", "WANDB_MODE=offline"

    def __init__(self, settings: Mapping[str, Any], **options: Any) -> None:
        super().__init__(settings)
        self.options = {"project": "phalanx", **options}

    def start(self, run: str | None) -> str:
        """See `Tracker`."""
        import wandb

        given = {"name": self.folder.name, **{k: v for k, v in self.options.items() if v}}
        self.run = wandb.init(
            config=self.settings, dir=str(self.folder), id=run, resume="allow", **given
        )
        self.run.define_metric("frames")
        self.run.define_metric("*", step_metric="frames")
        return str(self.run.id)

    def log(self, scalars: dict[str, float], frame: int) -> None:
        """See `Tracker`."""
        self.run.log({**scalars, "frames": frame})

    def film(self, file: Path, frame: int) -> None:
        """See `Tracker`."""
        import wandb

        self.run.log({"video": wandb.Video(str(file), format="mp4"), "frames": frame})

    def files(self, checkpoints: list[Path]) -> None:
        """See `Tracker`."""
        import wandb

        artifact = wandb.Artifact(f"{self.algo.name}-{self.run.id}", type="model")
        for file in checkpoints:
            artifact.add_file(str(file))
        self.run.log_artifact(artifact)

    def end(self) -> None:
        """See `Tracker`."""
        self.run.finish()


class MLflowTracker(Tracker):
    """MLflow. experiment: its name there, None takes the task's."""

    package, offline = "mlflow", "MLFLOW_TRACKING_URI=file:mlruns"

    def __init__(self, settings: Mapping[str, Any], experiment: str | None = None) -> None:
        super().__init__(settings)
        self.experiment = experiment

    def start(self, run: str | None) -> str:
        """See `Tracker`."""
        from mlflow.entities import Param
        from mlflow.tracking import MlflowClient

        self.client = MlflowClient()
        if run is not None:
            self.client.set_terminated(run, "RUNNING")
            self.run = run
            return run
        name = self.experiment or self.algo.name
        found = self.client.get_experiment_by_name(name)
        experiment = found.experiment_id if found else self.client.create_experiment(name)
        made = self.client.create_run(experiment, run_name=self.folder.name)
        self.run = made.info.run_id
        params = [Param(key, value) for key, value in flat(self.settings).items()]
        for k in range(0, len(params), MOST_PARAMS):
            self.client.log_batch(self.run, params=params[k : k + MOST_PARAMS])
        return str(self.run)

    def log(self, scalars: dict[str, float], frame: int) -> None:
        """See `Tracker`."""
        from mlflow.entities import Metric

        now = int(time.time() * 1000)
        metrics = [Metric(tag, float(x), now, frame) for tag, x in scalars.items()]
        self.client.log_batch(self.run, metrics=metrics)

    def film(self, file: Path, frame: int) -> None:
        """See `Tracker`."""
        self.client.log_artifact(self.run, str(file), "videos")

    def files(self, checkpoints: list[Path]) -> None:
        """See `Tracker`."""
        for file in checkpoints:
            self.client.log_artifact(self.run, str(file), "checkpoints")

    def end(self) -> None:
        """See `Tracker`."""
        self.client.set_terminated(self.run)


def flat(settings: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    """Nested settings as text by dotted key, of at most 500 characters, MLflow's limit."""
    found: dict[str, str] = {}
    for key, value in settings.items():
        if isinstance(value, Mapping):
            found |= flat(value, f"{prefix}{key}.")
        else:
            found[f"{prefix}{key}"] = str(value)[:500]
    return found
