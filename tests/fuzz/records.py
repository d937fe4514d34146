"""Files that our own commands keep and read again: studies, trackers' ids, `bench out=`."""

import contextlib
import io
import json
import os
import types

import yaml
from rich.console import Console

from fuzz import mutate
from phalanx.cli import bench_table, tune_table
from phalanx.cli.study import Study
from phalanx.rl.tracking import FILE, Tracker

STUDY = {
    "arguments": ["task=Cartpole", "train.params.config.learning_rate=loguniform(1e-5, 1e-3)"],
    "trials": [{"train.params.config.learning_rate": "3e-4"}, {"seed": "1"}],
}
TRIAL = {
    "number": 0, "values": {"train.params.config.learning_rate": "3e-4"},
    "checkpoint": "runs/000_0/nn/last_Cartpole.pth", "curve": [[1, 128, 10.5, 20.0, 0.3]],
    "state": "done", "reason": "", "starts": 1, "change": "",
}  # fmt: skip
ROWS = {
    "rows": [
        {"task": "Ant", "num_envs": 64, "trainer": "phalanx", "measures": "training",
         "unit": "steps/s", "values": [1.0, 2.0], "median": 1.5, "spread": 0.1, "memory_gb": 1.0,
         "engine": "mujoco", "device": "cpu", "captured": False, "note": "a", "host": "h",
         "phalanx_over_this": 2.0},
        {"task": "Ant", "num_envs": 64, "trainer": "rsl_rl", "measures": "time to 100",
         "unit": "s", "values": [3.0, None], "median": None, "spread": None},
        {"task": "Ant", "num_envs": 64, "trainer": "skrl", "measures": "a", "failed": "no skrl"},
    ]
}  # fmt: skip


def of_document(rng, good, dump):
    """A broken copy of a JSON or YAML file, by its text or by its content."""
    if rng.randrange(2):
        return mutate.of_text(rng, dump(good).encode())
    try:
        return dump(mutate.of_structure(rng, good)).encode()
    except (TypeError, ValueError, yaml.YAMLError):
        return b"{}"


def as_json(value):
    return json.dumps(value, indent=1)


class Studies:
    """What `phalanx tune study=` reads before it continues: its table is printed."""

    def __init__(self, folder):
        self.folder = folder / "study"
        (self.folder / "trials").mkdir(parents=True)

    def case(self, rng):
        if rng.randrange(2):
            return "study.yaml", of_document(rng, STUDY, yaml.safe_dump)
        return "trials/000.json", of_document(rng, TRIAL, as_json)

    def __call__(self, argument):
        (self.folder / "study.yaml").write_text(yaml.safe_dump(STUDY))
        (self.folder / "trials/000.json").write_text(as_json(TRIAL))
        name, data = argument
        (self.folder / name).write_bytes(data)
        study = Study(self.folder)
        records = study.trials()
        assert all(isinstance(word, str) for word in study.arguments())
        tune_table.table(Console(file=io.StringIO(), width=160), records, "return")


class Ids(Tracker):
    """Trackers' ids of a run, read when it continues."""

    package = "json"

    def __init__(self, folder):
        super().__init__({})
        self.place = folder
        own = types.SimpleNamespace(listeners=[], ending=contextlib.ExitStack())
        self.algo = types.SimpleNamespace(
            experiment_dir=folder, run=types.SimpleNamespace(folder=own)
        )

    def case(self, rng):
        return of_document(rng, {"json": "a1b2", "wandb": "c3"}, as_json)

    def start(self, run):
        assert run is None or isinstance(run, str), f"the id is {run!r}"
        return run or "new"

    def __call__(self, data):
        (self.place / FILE).write_bytes(data)
        self.algo.run.folder.listeners.clear()
        self.algo.run.folder.ending.pop_all()
        self.after_init(self.algo)


class Bench:
    """Rows of `phalanx bench out=`, which `phalanx bench plot=` and others read."""

    def __init__(self, folder):
        self.file = folder / "a.json"
        os.environ["MPLBACKEND"] = "agg"

    def case(self, rng):
        return of_document(rng, ROWS, as_json)

    def __call__(self, data):
        self.file.write_bytes(data)
        rows = bench_table.load(str(self.file))
        bench_table.print_table(Console(file=io.StringIO(), width=200), rows)
