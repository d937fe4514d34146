"""Observers that also log a run to Weights & Biases or MLflow, through their own libraries.

    Runner(Observers([WandbTracker(settings, project="ant"), ...]))

Both get the settings, every scalar over environment steps, films and, when training ends, the best
and the last checkpoint. A run that continues continues there, too: its id is in `tracking.json` of
the run folder. Where to log, and whether offline, the libraries' own variables say (`WANDB_MODE`,
`MLFLOW_TRACKING_URI`, ...).

A tracker that does not start ends the run at once; one that fails later gets no more of it, with a
warning, and training goes on.
"""

import importlib.util
import json
import re
import time
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from phalanx.errors import PhalanxError, PhalanxWarning
from phalanx.files import write_atomically
from phalanx.gate import reason
from phalanx.json_text import read_json
from phalanx.rl import ranks
from phalanx.rl.observer import AlgoObserver
from phalanx.rl.statistics import OTHER_AXES

FILE = "tracking.json"
FILMS = "videos/*.mp4"
MOST_PARAMS = 100
"""Settings that MLflow takes at once."""
NOT_IN_NAMES = re.compile(r"[^\w\-. :/]")
"""What MLflow does not take in names of metrics and settings."""
LONGEST_NAME = 250
"""Of MLflow's names."""


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
        self._lost = False

    def after_init(self, algo: Any) -> None:
        self.algo, self.folder = algo, Path(algo.experiment_dir)
        if ranks.rank():  # the first logs for all
            self._lost = True
            return
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
        algo.run.folder.ending.push(self._ended)
        write_atomically(file, json.dumps(ids).encode(), "train_dir=")
        algo.run.folder.listeners.append(self._scalars)
        self._films = {*self.folder.glob(FILMS)}  # earlier ones are of other frames

    def _scalars(self, scalars: dict[str, float], step: float) -> None:
        own = {tag: x for tag, x in scalars.items() if tag not in OTHER_AXES}
        if own:
            self._attempt(lambda: self.log(own, int(step)))

    def after_print_stats(self, frame: int, epoch_num: int, total_time: float) -> None:
        for film in sorted({*self.folder.glob(FILMS)} - self._films):
            self._films.add(film)
            self._attempt(lambda film=film: self.film(film, frame))  # type: ignore[misc]

    def after_training(self) -> None:
        a = self.algo
        self.after_print_stats(a.frame, a.epoch_num, a.total_time)
        names = (f"{a.name}.pth", f"last_{a.name}.pth")
        kept = [a.nn_dir / name for name in names if (a.nn_dir / name).exists()]
        self._attempt(lambda: self.files(kept))

    def _ended(self, kind: type[BaseException] | None, *_: object) -> None:
        """The run has ended, by an error of that kind if there is one."""
        self._attempt(lambda: self.end(failed=kind is not None))

    def _attempt(self, work: Callable[[], None]) -> None:
        """Do what a server may refuse: hours of training are worth more than their log."""
        if self._lost:
            return
        try:
            work()
        except Exception as error:  # of many kinds, see above
            self._lost = True
            warnings.warn(
                f"{self.package} gets no more of this run: {reason(error)}; training goes on, and"
                f" TensorBoard's files in {self.algo.summaries_dir} have everything",
                PhalanxWarning,
                stacklevel=2,
            )

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

    def end(self, failed: bool) -> None:
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

    def end(self, failed: bool) -> None:
        """See `Tracker`."""
        self.run.finish(exit_code=int(failed))


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
        params = [Param(_name(key), value) for key, value in flat(self.settings).items()]
        for k in range(0, len(params), MOST_PARAMS):
            self.client.log_batch(self.run, params=params[k : k + MOST_PARAMS])
        return str(self.run)

    def log(self, scalars: dict[str, float], frame: int) -> None:
        """See `Tracker`."""
        from mlflow.entities import Metric

        now = int(time.time() * 1000)
        metrics = [Metric(_name(tag), float(x), now, frame) for tag, x in scalars.items()]
        self.client.log_batch(self.run, metrics=metrics)

    def film(self, file: Path, frame: int) -> None:
        """See `Tracker`."""
        self.client.log_artifact(self.run, str(file), "videos")

    def files(self, checkpoints: list[Path]) -> None:
        """See `Tracker`."""
        for file in checkpoints:
            self.client.log_artifact(self.run, str(file), "checkpoints")

    def end(self, failed: bool) -> None:
        """See `Tracker`."""
        self.client.set_terminated(self.run, "FAILED" if failed else "FINISHED")


def _name(name: str) -> str:
    """A name as MLflow takes it: `speed _m/s_` for `speed [m/s]`."""
    return NOT_IN_NAMES.sub("_", name)[:LONGEST_NAME]


def flat(settings: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    """Nested settings as text by dotted key, of at most 500 characters, MLflow's limit."""
    found: dict[str, str] = {}
    for key, value in settings.items():
        if isinstance(value, Mapping):
            found |= flat(value, f"{prefix}{key}.")
        else:
            found[f"{prefix}{key}"] = str(value)[:500]
    return found
