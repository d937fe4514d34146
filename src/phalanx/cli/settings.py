"""The YAML files behind a command line: train configs, and the settings of an earlier run."""

import dataclasses
import functools
import importlib
import logging
from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from typing import Any

from phalanx import tasks
from phalanx.cli.commands import ALGORITHMS, NETWORKS
from phalanx.config import read
from phalanx.errors import PhalanxError, did_you_mean
from phalanx.gate import check_name, show
from phalanx.yaml_file import read_yaml

log = logging.getLogger(__name__)


def train_file(name: str) -> Path:
    """`cfg/train/<name>.yaml` of the project or of Phalanx. Raises PhalanxError if neither has
    it."""
    files = _train_files()
    if name in files:
        return files[name]
    project = tasks.find_project()
    if name.endswith((".yaml", ".yml")):
        folder = project.root / "cfg" / "train" if project else "cfg/train of a project"
        raise PhalanxError(
            f"train= takes a name, not the file {name!r}; put the file into {folder}, and give"
            f" train={Path(name).stem}"
        )
    own = project.root / "cfg" / "train" / f"{name}.yaml" if project else None
    raise PhalanxError(
        f"unknown train config {name!r}{did_you_mean(name, files)};"
        f" accepted: {', '.join(sorted(files))}; choose one with train="
        + (f", or write {own}" if own else "")
    )


def train_names() -> list[str]:
    """The names that `train=` takes."""
    return sorted(_train_files())


def _train_files() -> dict[str, Path]:
    """The train configs of Phalanx and of the project, by name; the project's come first."""
    project = tasks.find_project()
    folders = [Path(str(resources.files("phalanx.cfg")))]
    folders = [project.root / "cfg", *folders] if project else folders
    return {p.stem: p for f in reversed(folders) for p in f.glob("train/*.yaml")}


GENERAL_TRAIN = {
    "Box": "ContinuousPPO",
    "Discrete": "DiscretePPO",
    "MultiDiscrete": "MultiDiscretePPO",
}
"""The train config of a task without one of its own, by the kind of its actions."""


def own_train(task: str) -> str | None:
    """The name of a task's own train config, None if it has none."""
    name = f"{task}PPO"
    return name if name in _train_files() else None


@functools.cache
def say_how_to_write_train(task: str, general: str) -> None:
    """Log, once, that a task takes a general train config, and how to give it its own."""
    project = tasks.find_project()
    folder = project.root / "cfg" / "train" if project else Path("cfg", "train")
    log.warning(
        "%s has no train config of its own and takes %s; to write its own, copy %s to %s",
        *(task, general, train_file(general), folder / f"{task}PPO.yaml"),
    )


def load_train(name: str) -> Any:
    """The train config of that name, a mapping with the key `params`. Raises PhalanxError, naming
    the file, for anything else."""
    file = train_file(name)
    values = read_yaml(file)
    if not isinstance(values, dict) or "params" not in values:
        raise PhalanxError(f"{file} is not a mapping with the key params")
    return values


def saved_settings(checkpoint: str) -> tuple[dict[str, Any], Path]:
    """What `config.yaml` of the run folder that contains a checkpoint holds, and that file; {} if
    there is none, or if another program wrote it. Raises PhalanxError, naming the file, if it
    cannot be read, if it has unknown keys or lacks the task or the train config, or if it refers
    to anything outside itself: a run's settings are resolved."""
    from phalanx.cli.options import RUN_OPTIONS

    folder = run_folder_of(Path(checkpoint))
    if folder is None:
        return {}, Path()
    file = folder / "config.yaml"
    try:
        saved = read_yaml(file)
    except PhalanxError as error:
        raise PhalanxError(f"cannot read the settings of the run in {error}") from error
    known = {f.name for kind in RUN_OPTIONS.values() for f in dataclasses.fields(kind)}
    if not (folder / "result.json").is_file() and _is_of_another_program(saved):
        return {}, file
    if not isinstance(saved, dict):
        raise PhalanxError(f"{file} is not a mapping with the settings of a run")
    for key in saved.keys() - known:
        raise PhalanxError(f"{file}: unknown key {key}{did_you_mean(key, known)}")
    task = saved.get("task")
    for key in ("task", "train", "task.name"):
        inside = task if "." in key else saved
        if not isinstance(inside, dict) or key.removeprefix("task.") not in inside:
            raise PhalanxError(f"{file}: the key {key} is missing; every run writes it")
    if text := _reference_in(saved):
        raise PhalanxError(f"{file} holds {show(text)}, which the settings of a run never do")
    return saved, file


def _is_of_another_program(settings: Any) -> bool:
    """Whether RL Games, IsaacGymEnvs or another program wrote these; ours also writes a
    result.json."""
    ours = isinstance(settings, dict) and {"task", "train"} & set(settings)
    return not ours or "physics_engine" in settings


def check_train(values: Mapping[str, Any]) -> None:
    """Raise PhalanxError for a wrong key or value in `params.config` or `params.network` of a
    train config."""
    from phalanx.rl import registry
    from phalanx.rl.params import with_current_names

    params = with_current_names(values["params"])
    name = (params.get("algo") or {}).get("name")
    if name in ALGORITHMS:
        module, cls = ALGORITHMS[name].split(":")
        config = {"name": "", **params["config"]}
        read(getattr(importlib.import_module(module), cls), config, "params.config")
    network = params.get("network") or {}
    if network.get("name") in NETWORKS:
        registry.networks.create(network["name"]).load(network)


def _reference_in(value: Any) -> str:
    """The first `${...}` in a value, empty if there is none."""
    if isinstance(value, str):
        return value if "${" in value else ""
    inside = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return next((text for inner in inside if (text := _reference_in(inner))), "")


def run_folder_of(checkpoint: Path) -> Path | None:
    """The run folder that `checkpoint` is, or that contains it; None for a file from elsewhere.
    Raises PhalanxError for a name that the system refuses."""
    check_name(checkpoint)
    here = Path.cwd()
    for folder in (checkpoint, *checkpoint.absolute().parents[:2]):
        if (folder / "nn").is_dir() and (folder / "config.yaml").is_file():
            inside = not checkpoint.is_absolute() and folder.is_relative_to(here)
            return folder.relative_to(here) if inside and folder.is_absolute() else folder
    return None
