"""`phalanx tune`: many runs of a task on Ray Tune, to find good settings.

    phalanx tune task=Ant train.params.config.learning_rate=1e-4,3e-4,1e-3 seed=1,2
    phalanx tune task=Ant "train.params.config.gamma=uniform(0.97, 0.999)" samples=16 scheduler=asha
    phalanx tune task=Ant scheduler=pbt samples=8
    phalanx tune study=studies/Ant

The settings of all trials are drawn and checked before the first starts.
"""

import contextlib
import dataclasses
import importlib
import importlib.util
import os
import signal
import socket
import threading
import time
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any, Literal

from rich.console import Console

from phalanx.cli.commands import ALGORITHMS
from phalanx.cli.config import as_settings, compose_config, resolved, train_params
from phalanx.cli.console import Lines
from phalanx.cli.keys import TEXTS
from phalanx.cli.options import TrainOptions
from phalanx.cli.overrides import check_given, check_key, split
from phalanx.cli.study import (
    DRAW,
    Record,
    Study,
    as_arguments,
    settings_of_trials,
    split_at_commas,
)
from phalanx.cli.sweep import FAILED, INTERRUPTED
from phalanx.config import ranged, read
from phalanx.errors import PhalanxError
from phalanx.rl.owner import owned
from phalanx.yaml_file import parse_yaml

ENVIRONMENT = {
    "RAY_AIR_NEW_OUTPUT": "0",  # we print
    "RAY_CHDIR_TO_TRIAL_DIR": "0",  # paths are relative to the folder of the command
    # Trials run with this Python and its packages. After `uv run`, Ray would pack the working
    # folder, runs and all, and let uv make an environment of it, which may lack Ray.
    "RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0",
    "RAY_USAGE_STATS_ENABLED": "0",
    "TUNE_DISABLE_STRICT_METRIC_CHECKING": "1",  # a trial may end before it has a return
}

WHERE = ("study=", "address=")
"""What says where a study is, and not what it tries."""

HERE = (None, "local")
"""Addresses of this machine."""

ROOM = ("cpus=", "gpus=")
"""What a study that continues may have otherwise than before, on another machine."""

NETWORK = tuple(f"train.params.{part}." for part in ("network", "model", "algo"))
"""Beginnings of keys that decide which weights there are."""

LONGEST = 10**9
"""Iterations of a trial, for ASHA's rungs: settings may limit them, and each trial differently."""

OWN_FOLDER = ("experiment", "train_dir", "checkpoint", "devices", "multi_gpu")
UNSEEN = ("view", "host", "port", "video_every", "wandb", "mlflow")
"""Beginnings of options of `phalanx train` that a trial has no use for, unless they are off."""
OFF = (None, False)  # and 0, which is equal to False

START_TRIES = 4
"""On a busy machine Ray's half a minute for its own start may not do."""


@dataclass(frozen=True)
class TuneOptions:
    """Options of `phalanx tune`. Every option and key of `phalanx train` may have several values
    with commas between them, or be drawn: uniform(a, b), loguniform(a, b), randint(a, b) or
    choice(x, y)."""

    study: str | None = None
    """Folder of the study; null is studies/<task>. One that is there continues."""
    samples: int = ranged(8, at_least=1, at_most=100_000)
    """How often values are drawn; with scheduler=pbt the number of trials."""
    scheduler: Literal["none", "asha", "pbt"] = "none"
    """asha stops trials that are behind; pbt replaces them by copies of others with mutated
    settings."""
    metric: Literal["return", "length"] = "return"
    """What the best trial has most of: mean return or episode length."""
    cpus: float = ranged(1.0, above=0)
    """Cores for each trial; may be a fraction."""
    gpus: float | None = ranged(None, at_least=0)
    """GPUs for each trial; may be a fraction. Null is 1 if this machine has any, otherwise 0."""
    address: str | None = None
    """Address of a Ray cluster that is running, as in auto or ray://host:10001; null uses this
    machine. The study's folder must be on a disk that all its machines share."""
    report_every: int = ranged(10, at_least=1)
    """Iterations between two reports and checkpoints of a trial."""
    draw_seed: int = ranged(0, at_least=0, at_most=2**63 - 1)
    """Seed of the values that are drawn and of mutations."""
    grace: int = ranged(50, at_least=1, at_most=1_000_000)
    """With scheduler=asha: iterations before a trial may be stopped."""
    reduction: int = ranged(4, at_least=2, at_most=1000)
    """With scheduler=asha: at each rung, one trial in this many trains on."""
    pbt: dict[str, Any] = dataclasses.field(default_factory=dict)
    """With scheduler=pbt: DexPBT's settings, as in {interval_steps: 2000000}."""


def tune(arguments: list[str]) -> int | None:
    """Run or continue a study, print its table and write its plot. Returns the exit code."""
    if importlib.util.find_spec("ray") is None:
        raise PhalanxError("tune needs Ray; install it with `pip install 'phalanx[tune]'`")
    own, passed_on = _read(arguments)
    if own.study and all(a.startswith((*WHERE, *ROOM)) for a in arguments):
        study = Study(Path(own.study))
        given = {split(a)[0]: getattr(own, split(a)[0]) for a in arguments}
        if not study.file.exists():
            raise PhalanxError(f"there is no study in {own.study}; begin one with task=")
        arguments = study.arguments()
        own, passed_on = _read(arguments, begun=True)
        own = dataclasses.replace(own, **given)
    else:
        study = Study(Path(own.study or f"studies/{_task(passed_on)}"))
    fixed = [a for a in passed_on if not _varies(a)]
    trials = [
        {key: _value(key, text) for key, text in values.items()}
        for values in _settings(own, fixed, passed_on)
    ]
    for values in trials:
        _check([*fixed, *as_arguments(values)])
    command = [a for a in arguments if not a.startswith(WHERE)]
    study.check(command)
    console = Lines()
    if idle := _without_effect(arguments, own, passed_on):
        console.print(f"options without effect: {', '.join(idle)}", style="dim")
    ended = study.file.exists() and all(r.ended for r in study.trials())
    with contextlib.nullcontext() if ended else _ray(own, console):
        study.begin(command, trials)
        with owned(study.path, "study"):
            failed = _run(own, study, fixed, console)
    from phalanx.cli.tune_table import plot, table

    records = study.trials()
    table(console, records, own.metric)
    plot(records, own.metric, study.path / "curves.png")
    console.print(f"curves:   {study.given / 'curves.png'}")
    console.print(f"continue: {study.command}")
    return failed


def _without_effect(arguments: list[str], own: TuneOptions, passed_on: list[str]) -> list[str]:
    """Options that are given and have no effect, with what they need."""
    drawn = any(DRAW.fullmatch(split(word)[1]) for word in passed_on)
    needs = {
        "samples": (drawn or own.scheduler == "pbt", "a key that is drawn, as in uniform(a,b)"),
        "draw_seed": (drawn or own.scheduler == "pbt", "a key that is drawn, as in uniform(a,b)"),
        "grace": (own.scheduler == "asha", "scheduler=asha"),
        "reduction": (own.scheduler == "asha", "scheduler=asha"),
        "pbt": (own.scheduler == "pbt", "scheduler=pbt"),
    }
    given = {split(word)[0].split(".")[0] for word in arguments}
    return [f"{k}= needs {what}" for k, (there, what) in needs.items() if k in given and not there]


def _check(arguments: list[str]) -> None:
    """Raise PhalanxError if `phalanx train` does not take these arguments."""
    options = compose_config(arguments)
    place = ALGORITHMS.get(str(options.train.params.algo.get("name")))
    if place:
        module, _, name = place.partition(":")
        kind = getattr(importlib.import_module(module), name)
        options = resolved(options)  # with the number of environments
        config = read(kind, train_params(options)["config"], "params.config")
        config.check_sizes(options.num_envs, bool(options.train.params.network.get("rnn")))


def _run(own: TuneOptions, study: Study, fixed: list[str], console: Console) -> int | None:
    records = study.trials()
    left = [r for r in records if not r.ended]
    ended = f"{len(records) - len(left)} of {len(records)} trials"
    console.print(f"phalanx: {ended} have ended, study {study.given}")
    if not left:
        return None
    import ray
    from ray import tune as ray_tune

    from phalanx.cli.trial import trial
    from phalanx.cli.tune_watch import Silence, Watcher

    replays = own.scheduler == "asha"
    first = records if replays else left
    config = {
        "trial": ray_tune.grid_search(
            [_start(r) for r in sorted(first, key=lambda r: not r.ended)]
        ),
        "study": str(study.path),
        "folder": os.getcwd(),
        "arguments": fixed,
        "every": own.report_every,
        "replays": replays,
    }
    scheduler = _scheduler(own, study)
    tuner = ray_tune.Tuner(
        ray_tune.with_resources(trial, {"cpu": own.cpus, "gpu": _gpus(own)}),
        param_space=config,
        tune_config=ray_tune.TuneConfig(
            metric=own.metric,
            mode="max",
            scheduler=scheduler,
            trial_dirname_creator=lambda t: str(t.trial_id),
        ),
        run_config=ray_tune.RunConfig(
            name=time.strftime("%Y%m%d-%H%M%S"),
            storage_path=str(study.path / "ray"),
            verbose=0,
            callbacks=[Watcher(study, own.metric), Silence()],
        ),
    )
    try:
        tuner.fit()
    finally:
        ray.shutdown()  # while no other process may have the study
    trials = study.trials()
    if not all(r.ended or r.state == "failed" for r in trials):
        return INTERRUPTED
    return FAILED if any(r.state == "failed" for r in trials) else None


@contextlib.contextmanager
def _ray(own: TuneOptions, console: Console) -> Iterator[None]:
    """Ray, with room for a trial. Raises PhalanxError."""
    for name, value in ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    import ray

    warnings.filterwarnings("ignore", message="Consider boosting PBT performance")
    _connect(own.address)
    try:
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, _as_ctrl_c)
        _check_room(own, _gpus(own), ray.cluster_resources(), console)
        yield
    finally:
        ray.shutdown()


def _start(record: Record) -> dict[str, Any]:
    return {"number": record.number, "values": record.values}


def _connect(address: str | None) -> None:
    import ray

    elsewhere = address not in HERE
    if address is not None and elsewhere and address != "auto":
        host, _, port = address.removeprefix("ray://").rpartition(":")
        try:
            socket.create_connection((host, int(port)), timeout=10).close()
        except (OSError, ValueError, OverflowError) as error:
            raise PhalanxError(f"no Ray cluster answers at {address}: {error}") from error
    for left in range(START_TRIES, 0, -1):
        try:
            ray.init(
                address=address, include_dashboard=False, log_to_driver=False, logging_level="ERROR"
            )
            return
        except Exception as error:  # Ray raises many kinds, Exception itself among them
            ray.shutdown()
            if elsewhere or left == 1:
                where = f"no Ray cluster answers at {address}" if elsewhere else "Ray cannot start"
                token = "; it may ask for a token, see Ray's RAY_AUTH_MODE" if elsewhere else ""
                raise PhalanxError(f"{where}: {error}{token}") from error


def _check_room(own: TuneOptions, gpus: float, has: dict[str, float], console: Console) -> None:
    """Raise PhalanxError if no trial fits into this machine, since Ray would wait for ever. A
    cluster, which may grow, is waited for."""
    for key, wanted, name in (("cpus", own.cpus, "CPU"), ("gpus", gpus, "GPU")):
        if wanted <= (there := has.get(name, 0.0)):
            continue
        words = f"a trial needs {key}={wanted:g}"
        if own.address in HERE:
            raise PhalanxError(f"{words}, but this machine has {there:g}; give at most that")
        console.print(f"{words}, but the cluster has {there:g}: it waits until there are more")


def _as_ctrl_c(number: int, frame: FrameType | None) -> None:
    """Ends a study as Ctrl-C does; Ray would end it, and print a stack of its own."""
    signal.raise_signal(signal.SIGINT)


def _scheduler(own: TuneOptions, study: Study) -> Any:
    if own.scheduler == "asha":
        from ray.tune.schedulers import ASHAScheduler

        return ASHAScheduler(
            time_attr="iteration",
            max_t=LONGEST,
            grace_period=own.grace,
            reduction_factor=own.reduction,
        )
    if own.scheduler == "pbt":
        from phalanx.cli.dexpbt import DexPBT

        return DexPBT(_pbt(own), study, own.draw_seed)
    return None


def _pbt(own: TuneOptions) -> Any:
    from phalanx.cli.dexpbt import MUTATIONS, PBTOptions

    options = read(PBTOptions, own.pbt, "pbt")
    for key, kind in options.mutation.items():
        if kind not in MUTATIONS:
            raise PhalanxError(f"pbt.mutation.{key} is {kind!r}; accepted: {', '.join(MUTATIONS)}")
    full = {_full(key): kind for key, kind in options.mutation.items()}
    return dataclasses.replace(options, mutation=full)


def _full(key: str) -> str:
    return key if "." in key else f"train.params.config.{key}"


def _read(arguments: list[str], begun: bool = False) -> tuple[TuneOptions, list[str]]:
    """The options, and the arguments that are for `phalanx train`. begun: they are of a study that
    is there, and may have what is refused today but changes nothing."""
    names = [f.name for f in dataclasses.fields(TuneOptions)]
    own: dict[str, Any] = {}
    passed_on = []
    for word in arguments:
        key, text = split(word)
        name = key.split(".")[0]
        if name not in names:
            passed_on.append(word)
        elif name == "pbt" and "." in key:
            own.setdefault("pbt", {})[key.removeprefix("pbt.")] = _value(key, text)
        else:
            own[key] = _value(key, text)
    trains = [f.name for f in dataclasses.fields(TrainOptions)]
    for word in passed_on:
        key, text = split(word)
        check_key(key, [*names, *trains], "tune")
        if key in OWN_FOLDER:
            raise PhalanxError(
                f"{key}= is not for phalanx tune, which makes a run folder per trial"
            )
        if key.startswith(UNSEEN) and not begun and _value(key, text) not in OFF:
            raise PhalanxError(
                f"{key}= is not for phalanx tune, whose trials have TensorBoard's files only, in"
                " runs/ of the study's folder"
            )
    seen = [word for word in passed_on if not split(word)[0].startswith(UNSEEN)]
    return read(TuneOptions, own, ""), seen


def _value(key: str, text: str) -> Any:
    check_given(key, text)
    if key in (*TEXTS, "study", "address"):
        return text
    return parse_yaml(text, f"cannot read {key}={text}", any_number=True)


def _settings(own: TuneOptions, fixed: list[str], passed_on: list[str]) -> list[dict[str, str]]:
    trials = settings_of_trials(passed_on, own.samples, own.draw_seed)
    if own.scheduler != "pbt":
        return trials if trials != [{}] * len(trials) else [{}]
    import random

    from phalanx.cli.dexpbt import mutated

    options, rng = _pbt(own), random.Random(own.draw_seed)
    settings = as_settings(compose_config(fixed))
    now = {key: _at(settings, key) for key in options.mutation}
    now = {key: value for key, value in now.items() if isinstance(value, (int, float))}
    now = {key: value for key, value in now.items() if not isinstance(value, bool)}
    if not now:
        raise PhalanxError("the train config has no setting of pbt.mutation; give some there")
    for key in trials[0]:
        if key in ("task", "train") or key.startswith(NETWORK):
            raise PhalanxError(
                f"with scheduler=pbt all trials have one {key}, since they take weights from each"
                " other; give one value"
            )
    filled = [trials[k % len(trials)] for k in range(max(own.samples, len(trials)))]
    if len(filled) < 2:
        raise PhalanxError("scheduler=pbt needs two trials or more; give samples= above 1")
    begun = [mutated(now, options, rng) for _ in filled]  # as DexPBT does at the first start
    return [
        {key: str(value) for key, value in {**first, **given}.items()}
        for first, given in zip(begun, filled, strict=True)
    ]


def _at(settings: Any, key: str) -> Any:
    for part in key.split("."):
        settings = settings.get(part) if isinstance(settings, dict) else None
    return settings


def _varies(argument: str) -> bool:
    text = split(argument)[1]
    return len(split_at_commas(text)) > 1 or DRAW.fullmatch(text) is not None


def _task(arguments: list[str]) -> str:
    given = [text for key, text in map(split, arguments) if key == "task"]
    return given[0].replace(",", "_") if given else "Cartpole"


def _gpus(own: TuneOptions) -> float:
    import torch

    return own.gpus if own.gpus is not None else float(torch.cuda.is_available())
