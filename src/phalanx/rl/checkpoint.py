"""Reads and writes checkpoints: writes are atomic, and loading never executes code in a file."""

import io
import os
from pathlib import Path
from typing import Any

import torch

from phalanx.errors import PhalanxError, did_you_mean
from phalanx.files import write_atomically
from phalanx.fits import check_finite, count, mapping, number
from phalanx.gate import check_name, listed, show
from phalanx.pth_file import read_pth

FORMAT = 3
"""Version of a checkpoint's `phalanx` section; increased when its content changes."""


def save(path: Path, state: dict[str, Any]) -> None:
    """Write `state` under a temporary name, flush it to disk, rename it to `path`.

    Raises PhalanxError if that fails; an earlier file at `path` then stays intact.
    """
    buffer = io.BytesIO()
    torch.save(state, buffer)
    write_atomically(path, buffer.getvalue(), "train_dir=")


def load(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Read a checkpoint onto the CPU. Raises PhalanxError for any other file."""
    path = Path(path)
    check_name(path)
    if not path.is_file():
        raise PhalanxError(f"no checkpoint at {path}{_nearby(path)}")
    try:
        state = read_pth(path)
    except PhalanxError as error:
        raise PhalanxError(f"{error}{_best_instead(path)}") from error
    if isinstance(state, dict) and "actor" in state and "model" not in state:
        state["model"] = join_sac_weights(state)
    if isinstance(state, dict) and isinstance(state.get("model"), dict):
        for part, prefix in SEPARATE_NORMALIZERS.items():  # rl-games 1.1 and 1.2
            state["model"] |= {f"{prefix}{k}": v for k, v in _dictionary(state, part).items()}
    model = state.get("model") if isinstance(state, dict) else None
    if not isinstance(model, dict) or not all(isinstance(v, torch.Tensor) for v in model.values()):
        keys = listed(state) if isinstance(state, dict) else type(state).__name__
        raise PhalanxError(
            f"{path} is not a Phalanx or RL Games checkpoint: it has no `model`"
            f" with tensors by name (it holds {keys or 'nothing'})"
        )
    try:
        for key in ("epoch", "frame"):  # a file with weights only is accepted
            state[key] = count(state.get(key, 0), key)
        if "last_mean_rewards" in state:
            state["last_mean_rewards"] = number(state["last_mean_rewards"], "last_mean_rewards")
        if state.get("phalanx") is not None:
            own = mapping(state["phalanx"], "phalanx")
            count(own.get("format", 0), "phalanx.format")
            if not isinstance(own.get("name", ""), str):
                raise PhalanxError(f"phalanx.name is {show(own['name'])}; it must be a text")
    except PhalanxError as error:
        raise PhalanxError(f"{path} is damaged: {error}") from error
    state["model"] = {str(k).replace("_orig_mod.", ""): v for k, v in state["model"].items()}
    return state


NOT_NEGATIVE = ("running_var", "count")
"""Buffers of a normaliser that are below 0 in no run."""
SAC_PARTS = {
    "actor": "sac_network.actor.",
    "critic": "sac_network.critic.",
    "critic_target": "sac_network.critic_target.",
    "running_mean_std": "running_mean_std.",
}
"""Keys of the parts of RL Games' SAC model in a checkpoint, and their prefixes in the model."""


SEPARATE_NORMALIZERS = {
    "running_mean_std": "running_mean_std.",
    "reward_mean_std": "value_mean_std.",
}
"""Keys of normalisers in checkpoints of rl-games 1.1 and 1.2, and their prefixes in later
models."""


def join_sac_weights(state: dict[str, Any]) -> dict[str, Any]:
    """The weights of the whole model from an SAC checkpoint, which stores them part by part."""
    return {
        f"{prefix}{name}": value
        for part, prefix in SAC_PARTS.items()
        for name, value in _dictionary(state, part).items()
    }


def _dictionary(state: dict[str, Any], part: str) -> dict[str, Any]:
    value = state.get(part)
    return value if isinstance(value, dict) else {}


def split_sac_weights(model: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """The inverse of `join_sac_weights`."""
    parts = {
        part: {k.removeprefix(prefix): v for k, v in model.items() if k.startswith(prefix)}
        for part, prefix in SAC_PARTS.items()
    }
    return {part: weights for part, weights in parts.items() if weights}


def load_weights(module: torch.nn.Module, weights: dict[str, Any], path: object) -> None:
    """Load `weights` into `module`. Raises PhalanxError, before anything has changed, that names
    the first mismatch."""
    check_weights(module, weights, path)
    module.load_state_dict(weights)


def check_weights(module: torch.nn.Module, weights: Any, path: object) -> None:
    """Raise PhalanxError, naming the first mismatch, unless `weights` fit `module` and are
    finite."""
    own = module.state_dict()
    if not isinstance(weights, dict) or not all(
        isinstance(v, torch.Tensor) for v in weights.values()
    ):
        raise PhalanxError(f"{path} has no tensors by name where the weights must be")
    problems = [f"{k} is missing" for k in own if k not in weights]
    problems += [f"{k} is unknown here" for k in weights if k not in own]
    problems += [
        f"{k} is {tuple(weights[k].shape)} there and {tuple(v.shape)} here"
        for k, v in own.items()
        if k in weights and weights[k].shape != v.shape
    ]
    if problems:
        more = f" and {len(problems) - 1} more" if len(problems) > 1 else ""
        raise PhalanxError(
            f"{path} does not fit this task and network: {problems[0]}{more};"
            " use the task and train config that it was made with"
        )
    for name, value in own.items():
        saved, where = weights[name], f"{path}: {name}"
        if saved.is_floating_point() != value.is_floating_point():
            raise PhalanxError(f"{where} holds {saved.dtype}; it must be {value.dtype}")
        check_finite(saved, where)
        if name.rpartition(".")[2] in NOT_NEGATIVE and (saved < 0).any():
            raise PhalanxError(f"{where} holds negative numbers")


def _best_instead(path: Path) -> str:
    """The end of the message for a damaged last checkpoint, if the run's best one is intact."""
    best = path.with_name(path.name.removeprefix("last_"))
    try:
        if best == path or not best.is_file():
            return ""
        read_pth(best)
    except (PhalanxError, OSError):
        return ""
    return f"; {best}, saved at the run's best return, is intact"


def _nearby(path: Path) -> str:
    if saved := sorted(p for p in path.rglob("*.pth")) if path.is_dir() else []:
        return f": it is a folder; name a file in it, such as {saved[0]}"
    folder = path.parent
    if not folder.is_dir():
        return f": there is no folder {folder}"
    names = sorted(p.name for p in folder.glob("*.pth"))
    if not names:
        return f": the folder {folder} has no .pth file"
    return f"{did_you_mean(path.name, names)}; it holds: {', '.join(names[:8])}"
