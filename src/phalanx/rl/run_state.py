"""The content of a checkpoint, and how a run restores it, part by part.

The layout is RL Games': weights and optimisers of the learner, `epoch`, `frame`,
`last_mean_rewards`, `env_state`. The section `phalanx` has the rest of the state that exact
continuation needs:

    settings      the config, to report settings that the user has changed
    learner       state beyond episodes: schedule, replay buffer, ...
    env, episodes state of the environments and of running episodes; restored together or not at all
    generators    random-number generators of torch, CUDA, NumPy and Python, which a run with
                  another seed does not take
    others        with several ranks: the sections learner, env, episodes and generators of the
                  ranks after the first, whose are the ones above

If an environment's state cannot be restored, only its episodes are lost: schedules and curricula
of its task go on (`Task.load_progress`).
"""

import copy
import dataclasses
import hashlib
import random
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import torch

from phalanx.errors import PhalanxError
from phalanx.fits import check_fits, count, mapping, number
from phalanx.gate import reason, show
from phalanx.rl import checkpoint, ranks
from phalanx.rl.learner import load_each

NO_SETTINGS = frozenset(
    {
        *("name", "env_name", "env_config", "device", "sim_device", "features", "player"),
        *("max_epochs", "max_frames", "score_to_win", "save_best_after", "save_frequency"),
        *("games_to_track", "train_dir", "full_experiment_name", "torch_compile", "num_actors"),
        *("use_diagnostics", "save_replay_buffer", "deterministic"),
        *("task.env.num_envs", "task.env.deterministic"),
    }
)
"""Keys of the config, and of an environment's settings, that do not affect learning."""

OF_A_RANK = ("learner", "env", "episodes", "generators")
"""Sections of which every rank has its own."""


def collect(run: Any) -> dict[str, Any]:
    """The run's current state as a checkpoint; its tensors are the run's own, not copies."""
    learner, env = run.agent, run.env
    return {
        **learner.weights(),
        "epoch": run.epoch_num,
        "frame": run.frame,
        "last_mean_rewards": float(run.saving.best),
        "env_state": env.get_env_state() if hasattr(env, "get_env_state") else None,
        "phalanx": {
            "format": checkpoint.FORMAT,
            "name": run.config.name,
            "settings": _all_settings(run),
            "total_time": run.journal.total_time,
            "meters": run.journal.meters.state_dict(),
            "generators": _generators(),
            "learner": learner.state_dict(),
            "env": env.state_dict(),
            "episodes": {name: x.state_dict() for name, x in learner.episodic().items()},
        },
    }


def of_all_ranks(state: dict[str, Any]) -> dict[str, Any]:
    """On rank 0 the checkpoint of the whole run, from the `collect` of each rank. Raises
    PhalanxError if their weights have become different."""
    if ranks.size() == 1:
        return state
    learnt = {k: v for k, v in state.items() if k not in ("phalanx", "env_state")}
    ranks.check_same({"weights with the digest": _digest(on_host(learnt))})
    own = {key: state["phalanx"][key] for key in OF_A_RANK}
    others = ranks.to_first(on_host(own))[1:]
    return {**state, "phalanx": {**state["phalanx"], "others": others}}


def _digest(learnt: Any) -> str:
    """A number for nested mappings and lists of tensors, which differs if any bit does."""
    digest = hashlib.sha256()

    def add(value: Any) -> None:
        if isinstance(value, torch.Tensor):
            digest.update(value.contiguous().numpy().tobytes())
        elif isinstance(value, (dict, list)):
            for inner in value.values() if isinstance(value, dict) else value:
                add(inner)
        else:
            digest.update(repr(value).encode())

    add(learnt)
    return digest.hexdigest()[:12]


def of_this_rank(state: dict[str, Any]) -> dict[str, Any]:
    """What this rank restores of a run's checkpoint. A rank beyond those of that run starts new
    episodes, and its learner and its task's schedules continue from rank 0's. Raises PhalanxError
    for wrong structure."""
    whole = state.get("phalanx")
    if not isinstance(whole, dict):
        return state
    others = whole.get("others", [])
    if not isinstance(others, list):
        raise PhalanxError(f"its phalanx.others is {show(others)}")
    mine = {k: v for k, v in whole.items() if k != "others"}
    rank = ranks.rank()
    if rank > len(others):
        mine = {k: v for k, v in mine.items() if k not in ("episodes", "generators")}
    elif rank:
        mine |= mapping(others[rank - 1], f"others[{rank - 1}]")
    return {**state, "phalanx": mine}


def copied(value: Any) -> Any:
    """A copy of nested mappings and lists with tensors, which stay on their device. As deep as
    `copy.deepcopy`, but with a tenth of the host's time for each tensor, in which the device
    waits."""
    if isinstance(value, torch.Tensor):
        return value.detach().clone()
    if isinstance(value, dict):
        return {k: copied(v) for k, v in value.items()}
    return [copied(v) for v in value] if isinstance(value, list) else copy.deepcopy(value)


def on_host(value: Any) -> Any:
    """A copy of nested mappings and lists with all tensors on the host."""
    if isinstance(value, torch.Tensor):
        return value.detach().cpu()
    if isinstance(value, dict):
        return {k: on_host(v) for k, v in value.items()}
    return [on_host(v) for v in value] if isinstance(value, list) else value


def check(run: Any, state: dict[str, Any], source: object) -> None:
    """Raise PhalanxError unless `restore` can restore all of `state`, which `checkpoint.load` has
    read, except the environments and their episodes: these may belong to another task, engine or
    number of environments."""
    own = state.get("phalanx") or {}
    name, saved_name = run.config.name, own.get("name", run.config.name)
    try:
        run.agent.check_weights(state, source)
    except PhalanxError as error:
        if saved_name == name:
            raise
        raise PhalanxError(
            f"{source} is a checkpoint of {show(saved_name)}, not of {name!r}; use"
            f" task={saved_name}"
        ) from error
    try:
        if own and own.get("format") == checkpoint.FORMAT:
            _check_own(run, own)
    except PhalanxError as error:
        raise PhalanxError(f"{source} is damaged: {error}") from error


def _check_own(run: Any, own: dict[str, Any]) -> None:
    meters = run.journal.meters.state_dict()
    check_fits({"name": "", "total_time": 0.0, "meters": meters}, own, "phalanx")
    number(own["total_time"], "total_time", least=0)
    for mean, size in own["meters"]:
        number(mean, "a mean of episodes")
        count(size, "a number of episodes")
    for key, value in mapping(own.get("settings"), "settings").items():
        if value is not None and not isinstance(value, (bool, int, float, str)):
            raise PhalanxError(f"settings.{key} is {show(value)}")
    if ranks.rank() == 0 or "episodes" in own:
        mapping(own.get("episodes"), "episodes")
        if "env" not in own:
            raise PhalanxError("it has no env")
        _check_generators(mapping(own.get("generators"), "generators"))
    run.agent.check_state(dict(mapping(own.get("learner"), "learner")))


def _check_generators(states: Mapping[str, Any]) -> None:
    here, python = _generators(), states.get("python")
    if not isinstance(python, list) or len(python) != 3:
        raise PhalanxError(f"generators.python is {show(python)}")
    numpy = [here["numpy"][0], [0.0, 0.0, 0.0]]
    wanted = {"cpu": here["cpu"], "numpy": numpy, "python": [0, here["python"][1]]}
    check_fits(wanted, {**states, "python": python[:2]}, "generators")
    if python[2] is not None:
        number(python[2], "generators.python[2]")
    if not 0 <= states["numpy"][1][0] <= len(states["numpy"][0]):  # NumPy would read beyond it
        raise PhalanxError(f"generators.numpy is at place {states['numpy'][1][0]}")
    try:
        torch.Generator().set_state(states["cpu"])
        np.random.RandomState().set_state(_of_numpy(states))
        random.Random().setstate(_of_python(states))
    except Exception as error:  # many kinds, by generator
        raise PhalanxError(f"generators do not fit: {reason(error)}") from error


def restore(run: Any, state: dict[str, Any], set_epoch: bool, source: object) -> None:
    """Restore `state`, with `run.warnings` about lost parts and changed settings. If it comes from
    a file, `check` must have accepted it."""
    own = state.get("phalanx") or {}
    name, saved_name = run.config.name, own.get("name", run.config.name)
    run.agent.absurd.restart()
    for sentence in run.agent.load_weights(state, source):
        run.warn(f"{source}: {sentence}")
    if set_epoch:
        run.epoch_num, run.frame = int(state.get("epoch", 0)), int(state.get("frame", 0))
    run.saving.best = float(state.get("last_mean_rewards", -1e9))
    if state.get("env_state") is not None:
        _restore_env_state(run, state["env_state"], source)
    if not own:
        return
    if own.get("format") != checkpoint.FORMAT:
        run.warn(
            f"{source} was written by another version of Phalanx: weights, optimiser and counters"
            " are restored, everything else starts again"
        )
        return
    if saved_name != name:
        run.warn(f"{source} is a checkpoint of {saved_name!r}; its weights are used for {name!r}")
    _warn_changes(run, own["settings"], source)
    run.journal.total_time = own["total_time"]
    run.journal.meters.load_state_dict(own["meters"])
    for sentence in run.agent.load_state_dict(own["learner"]):
        run.warn(f"{source}: {sentence}")
    if "episodes" not in own:  # of a rank that the run did not have
        _restore_progress(run, own)
        return
    _restore_episodes(run, own, source)
    if run.seed is None or own["settings"].get("seed", run.seed) == run.seed:
        _set_generators(own["generators"])


def _restore_episodes(run: Any, own: dict[str, Any], source: object) -> None:
    run.episodes_restored = False
    try:
        if own["name"] != run.config.name:
            raise PhalanxError(f"its episodes belong to {own['name']!r}")
        run.env.load_state_dict(own["env"])
        episodic = run.agent.episodic()
        # Older files do not know which rewards were usual.
        episodes = {"usual_rewards": run.agent.absurd.state_dict(), **own["episodes"]}
        for name in episodic.keys() & episodes.keys():
            check_fits(episodic[name].state_dict(), episodes[name], name.replace("_", " "))
        if lost := load_each(episodic, episodes):
            raise PhalanxError(lost[0])
    except Exception as error:  # an environment of others may raise any kind for a damaged state
        why = reason(error)
        kept = " and any schedules of the task are" if _restore_progress(run, own) else " is"
        run.warn(f"{source}: {why}; the network{kept} restored, new episodes start")
        run.agent.restart_episodes()
        return
    run.agent.obs = run.env.observations
    run.episodes_restored = True


def _restore_progress(run: Any, own: dict[str, Any]) -> bool:
    """Restore what outlasts episodes, as curricula do, of environments whose episodes are lost, if
    they can and it is of the same task. Returns whether that was so."""
    if own.get("name") != run.config.name or not hasattr(run.env, "load_progress"):
        return False
    try:
        run.env.load_progress(own["env"])
    except Exception:  # what is damaged was said of the episodes already
        return False
    return True


def _restore_env_state(run: Any, env_state: Any, source: object) -> None:
    if hasattr(run.env, "set_env_state"):
        run.env.set_env_state(env_state)
    else:
        run.warn(
            f"{source} has an env_state, but the environment has no set_env_state(); it is ignored"
        )


def _all_settings(run: Any) -> dict[str, Any]:
    """Those of the run and of its environment, if that says them (`Task.settings_by_key`), and the
    seed, if one was given."""
    say = getattr(run.env, "settings_by_key", dict)
    seed = {} if run.seed is None else {"seed": run.seed}
    return dict([*_settings(run.config), *_settings(say())]) | seed


def _settings(config: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Settings that affect learning, by dotted key, as numbers and strings, which a checkpoint can
    hold."""
    values = vars(config) if dataclasses.is_dataclass(config) else config
    for key, value in values.items():
        if f"{prefix}{key}" in NO_SETTINGS:
            continue
        if isinstance(value, dict) or dataclasses.is_dataclass(value):
            yield from _settings(value, f"{prefix}{key}.")
        elif value is None or isinstance(value, (bool, int, float, str)):
            yield f"{prefix}{key}", value
        else:
            yield f"{prefix}{key}", str(value)


def _warn_changes(run: Any, saved: dict[str, Any], source: object) -> None:
    now = _all_settings(run)
    changed = [key for key in now if saved.get(key, now[key]) != now[key]]
    changes = [f"{key} {now[key]} (was {show(saved[key])})" for key in changed]
    if changes:
        run.warn(f"{source} continues with changed settings: {', '.join(changes)}")


def _generators() -> dict[str, Any]:
    _, keys, *rest = np.random.get_state()  # noqa: NPY002
    version, words, gauss = random.getstate()
    states: dict[str, Any] = {
        "cpu": torch.get_rng_state(),
        "numpy": [torch.from_numpy(np.asarray(keys, np.int64)), [float(x) for x in rest]],
        "python": [version, torch.tensor(words), gauss],
    }
    if torch.cuda.is_initialized():
        states["cuda"] = torch.cuda.get_rng_state()
    return states


def _set_generators(states: Mapping[str, Any]) -> None:
    torch.set_rng_state(states["cpu"])
    if torch.cuda.is_initialized() and "cuda" in states:
        torch.cuda.set_rng_state(states["cuda"])
    np.random.set_state(_of_numpy(states))  # noqa: NPY002
    random.setstate(_of_python(states))


def _of_numpy(states: Mapping[str, Any]) -> tuple[Any, ...]:
    keys, (position, has_gauss, cached) = states["numpy"]
    return "MT19937", keys.numpy().astype(np.uint32), int(position), int(has_gauss), cached


def _of_python(states: Mapping[str, Any]) -> tuple[Any, ...]:
    version, words, gauss = states["python"]
    return version, tuple(words.tolist()), gauss
