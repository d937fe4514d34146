"""One trial of a study, as Ray runs it: a run whose returns it reports."""

import json
import os
import tempfile
from pathlib import Path
from typing import Any

from phalanx.cli.study import COLUMNS, Record, Study, as_arguments
from phalanx.errors import PhalanxError
from phalanx.rl import AlgoObserver

KEPT = 4
"""Checkpoints of a trial that are kept; a population may still take one of them."""


def trial(config: dict[str, Any]) -> None:
    """Train, or continue, the trial that `config["trial"]` says. Runs in a process of Ray's."""
    about = config["trial"]
    os.chdir(config["folder"])
    study = Study(Path(config["study"]))
    record = study.trial(about["number"], about["values"])
    reporter = Reporter(study, record, config["every"], config["replays"])
    if about.get("change", record.change) != record.change:  # of population based training
        record.values, record.checkpoint = about["values"], about["checkpoint"]
        record.curve, record.change = list(about["curve"]), about["change"]
    elif config["replays"]:  # a scheduler of a study that continues learns what there was
        for row in record.curve:
            reporter.report(row)
    if record.ended:
        return
    try:
        _train(config, record, reporter)
        record.state = "done"
    except PhalanxError as error:
        record.state, record.reason = "failed", str(error)
    study.write(record)


def _train(config: dict[str, Any], record: Record, reporter: "Reporter") -> None:
    from phalanx.cli.config import as_settings, compose_config, resolved, train_params
    from phalanx.cli.options import TrainOptions
    from phalanx.cli.result import ResultFile
    from phalanx.rl import Runner
    from phalanx.rl.observer import Observers

    study = reporter.study
    own = as_arguments(record.values)
    place = [f"train_dir={study.path / 'runs'}", f"experiment={record.number:03}_{record.starts}"]
    options = resolved(compose_config([*config["arguments"], *own, *place]))
    assert isinstance(options, TrainOptions)
    record.starts += 1
    record.state, record.reason = "running", ""
    study.write(record)
    params = train_params(options)
    runner = Runner(Observers([ResultFile(as_settings(options), params["seed"]), reporter]))
    runner.load({"params": params})
    runner.run({"train": True, "checkpoint": record.checkpoint})


class Reporter(AlgoObserver):
    """Writes the trial's file and tells Ray, every `every` iterations."""

    shows_warnings = True  # in result.json's run; nobody reads a trial's terminal

    def __init__(self, study: Study, record: Record, every: int, replays: bool) -> None:
        self.study, self.record, self.every, self.replays = study, record, every, replays
        self._reported = 0

    def after_init(self, algo: Any) -> None:
        self.algo, self._reported = algo, algo.epoch_num

    def after_print_stats(self, frame: int, epoch_num: int, total_time: float) -> None:
        a = self.algo
        due = epoch_num - self._reported >= self.every or a.stop_reason
        if not due or not a.mean_rewards.size:
            return
        self._reported = epoch_num
        numbers = (epoch_num, frame, a.mean_rewards.mean, a.mean_lengths.mean, total_time)
        file = a.save(a.nn_dir / f"trial_{epoch_num}")
        others = [p for p in a.nn_dir.glob("trial_*.pth") if p.name != file.name]
        others.sort(key=lambda p: p.stat().st_mtime)  # by a clock that may have been set back
        for each in others[: 1 - KEPT]:
            each.unlink()
        begun_from = Path(self.record.checkpoint or "")
        self.record.checkpoint = str(file.absolute())
        self.record.curve.append([float(x) for x in numbers])
        self.study.write(self.record)
        if begun_from.parent == self.study.taken:
            begun_from.unlink(missing_ok=True)
        self.report(self.record.curve[-1], last=bool(a.stop_reason))

    def report(self, row: list[float], last: bool = False) -> None:
        """Tell Ray a row of the curve; a scheduler may end this process here. last: the trial ends
        with it."""
        from ray import tune

        metrics = dict(zip(COLUMNS, row, strict=True)) | {"file": self.record.checkpoint}
        metrics["last"] = last
        with tempfile.TemporaryDirectory() as folder:  # what Ray moves from trial to trial
            (Path(folder) / "metrics.json").write_text(json.dumps(metrics), "utf-8")
            tune.report(metrics, checkpoint=tune.Checkpoint.from_directory(folder))
