"""What a study prints while it runs."""

import time
from typing import Any

from ray.tune import Callback
from ray.tune.progress_reporter import TrialProgressCallback

from phalanx.cli.console import Lines
from phalanx.cli.study import Study

SECONDS_BETWEEN_LINES = 10.0


class Watcher(Callback):
    """Prints how trials come along, and notes which ones a scheduler stops."""

    def __init__(self, study: Study, metric: str) -> None:
        self.study, self.metric = study, metric
        self._printed = 0.0

    def on_trial_result(
        self, iteration: int, trials: Any, trial: Any, result: dict[str, Any], **_: Any
    ) -> None:
        """At most one line in a while."""
        has_row = self.metric in result  # one that ends before its first has none
        if has_row and time.monotonic() - self._printed > SECONDS_BETWEEN_LINES:
            self._printed = time.monotonic()
            self._say(trial, f"iteration {result['iteration']:.0f}  {result[self.metric]:.2f}")

    def on_trial_complete(self, iteration: int, trials: Any, trial: Any, **_: Any) -> None:
        """It has ended by itself, or a scheduler has stopped it."""
        record = self.study.trial(number_of(trial))
        if record.state in ("waiting", "running"):
            record.state = "stopped"
            self.study.write(record)
        self._say(trial, ": ".join(filter(None, (record.state, record.reason))))

    def on_trial_error(self, iteration: int, trials: Any, trial: Any, **_: Any) -> None:
        """Its process has ended, or there is a fault in Phalanx."""
        record = self.study.trial(number_of(trial))
        record.state, record.reason = "failed", f"see {trial.error_file}"
        self.study.write(record)
        self._say(trial, f"failed: {record.reason}")

    def _say(self, trial: Any, words: str) -> None:
        Lines().print(f"trial {number_of(trial)}  {words}")


class Silence(TrialProgressCallback):
    """Takes the place of the callback by which Ray prints."""

    def _print(self, msg: str) -> None:
        pass

    def log_result(self, trial: Any, result: dict[str, Any], error: bool = False) -> None:
        """Nothing."""


def number_of(trial: Any) -> int:
    """The trial's number in the study."""
    return int(trial.config["trial"]["number"])
