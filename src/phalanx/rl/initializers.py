"""Weight initialisers by their names in RL Games' YAML: `{name: orthogonal, gain: 1.4}`."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from phalanx.errors import PhalanxError, did_you_mean
from phalanx.gate import show


def _keep(weight: Tensor, **options: Any) -> None:
    """Keep PyTorch's default initialisation. Like RL Games, ignore options; its files have some."""


def _variance_scaling(weight: Tensor, mode: str = "fan_in", scale: float = 2.0) -> None:
    """Truncated normal of standard deviation sqrt(scale / fan), cut at +-2."""
    fan_in, fan_out = nn.init._calculate_fan_in_and_fan_out(weight)
    fans = {"fan_in": fan_in, "fan_out": fan_out, "fan_avg": (fan_in + fan_out) / 2}
    if mode not in fans:
        raise TypeError(f"mode is {mode!r}; it must be fan_in, fan_out or fan_avg")
    nn.init.trunc_normal_(weight, 0.0, (scale / fans[mode]) ** 0.5)


def _constant(weight: Tensor, val: float = 0.0, value: float | None = None) -> None:
    """Fill with a constant; `value` is newer RL Games' name of `val`."""
    nn.init.constant_(weight, val if value is None else value)


def _normalized_columns(weight: Tensor, std: float = 1.0) -> None:
    """Normally distributed, scaled to norm `std` for each output. Used by older RL Games files;
    source: `normc_initializer` of OpenAI's baselines."""
    drawn = torch.randn(weight.shape, device=weight.device)
    inputs = tuple(range(1, weight.dim()))
    weight.copy_(std * drawn / drawn.square().sum(inputs, keepdim=True).sqrt())


INITIALIZERS: dict[str, Callable[..., Any]] = {
    "default": _keep,
    "const_initializer": _constant,
    "normc_initializer": _normalized_columns,
    "orthogonal_initializer": nn.init.orthogonal_,
    "orthogonal": nn.init.orthogonal_,
    "glorot_normal_initializer": nn.init.xavier_normal_,
    "glorot_uniform_initializer": nn.init.xavier_uniform_,
    "variance_scaling_initializer": _variance_scaling,
    "random_uniform_initializer": nn.init.uniform_,
    "kaiming_normal": nn.init.kaiming_normal_,
}


@torch.no_grad()
def initialize(weight: Tensor, config: dict[str, Any]) -> None:
    """Initialise `weight`, of any shape, by `config`, which `check_initializer` has checked."""
    options = {k: _number(v) for k, v in config.items() if k != "name"}
    INITIALIZERS[config.get("name", "default")](weight, **options)


def check_initializer(config: dict[str, Any], where: str) -> None:
    """Raise PhalanxError unless `config`, the value of key `where`, has the name of an initializer
    and valid options for it."""
    name = config.get("name", "default")
    if not isinstance(name, str) or name not in INITIALIZERS:
        raise PhalanxError(
            f"{where}.name is {show(name)}{did_you_mean(name, INITIALIZERS)};"
            f" accepted: {', '.join(INITIALIZERS)}"
        )
    try:
        with torch.random.fork_rng(devices=[]):  # the trial must not advance the generator
            initialize(torch.empty(2, 2), config)
    except (TypeError, ValueError, RuntimeError) as error:
        raise PhalanxError(f"{where}: {name!r} does not take these options: {error}") from error


IS_INITIALIZER = {"check": check_initializer}
"""Metadata of a dataclass field whose value is an initialiser."""


def _number(value: Any) -> Any:
    """PyYAML reads 1e-2, without a dot, as a string."""
    try:
        return float(value) if isinstance(value, str) else value
    except ValueError:
        return value
