"""Reads and checks one entry of the randomisation YAML, and draws samples from it."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, Literal, TypeVar

import torch
from torch import Tensor

from phalanx.config import read
from phalanx.errors import PhalanxError
from phalanx.gate import show

MAX_SAMPLE = 1e9


@dataclass(frozen=True)
class Variation:
    """The randomisation of one quantity."""

    range: tuple[float, ...]
    operation: Literal["additive", "scaling"]
    distribution: Literal["uniform", "loguniform", "gaussian"]
    schedule: Literal["linear", "constant"] | None = None
    schedule_steps: int | None = None
    setup_only: bool = False

    NO_EFFECT = ("num_buckets",)  # a limit of PhysX that MuJoCo does not have

    @property
    def neutral(self) -> float:
        """The sample that has no effect: 0 for additive, 1 for scaling."""
        return 1.0 if self.operation == "scaling" else 0.0

    def effect(self, step: Tensor) -> Tensor | float:
        """Strength of the effect, 0 .. 1, after `step` (0-d) environment steps."""
        if self.setup_only or self.schedule is None or self.schedule_steps is None:
            return 1.0
        if self.schedule == "linear":
            return (step / self.schedule_steps).clamp(max=1.0)
        return (step >= self.schedule_steps).float()

    def sample(self, shape: Sequence[int], step: Tensor) -> Tensor:
        """Samples of shape `shape`; step: 0-d, environment steps so far, on the device."""
        samples = draw_samples(self.range, self.distribution, shape, step.device)
        effect = self.effect(step)
        if isinstance(effect, float):  # the full one: no schedule
            return samples
        return self.neutral + effect * (samples - self.neutral)

    def apply(self, original: Tensor, sample: Tensor) -> Tensor:
        """The randomised values; original and sample (N, K), or broadcastable to it."""
        return original * sample if self.operation == "scaling" else original + sample

    def words(self) -> str:
        """For display: `x 0.5 .. 1.5 uniform`."""
        low, high = (f"{v:.4g}" for v in self.range)
        sign = "x" if self.operation == "scaling" else "+"
        spread = f"{low} +- {high}" if self.distribution == "gaussian" else f"{low} .. {high}"
        return f"{sign} {spread} {self.distribution}"

    def bounds(self) -> tuple[float, float]:
        """Lower and upper bound of samples; for gaussian, two standard deviations from the mean."""
        low, high = self.range
        return (low - 2 * high, low + 2 * high) if self.distribution == "gaussian" else (low, high)

    def pace(self, frequency: int) -> str:
        """For display: how often a new value is drawn, and the schedule."""
        if self.setup_only:
            return "at the start"
        words = f"at resets, every {frequency} steps" if frequency > 1 else "at resets"
        if self.schedule == "linear":
            words += f"; grows over {self.schedule_steps} steps"
        elif self.schedule == "constant":
            words += f"; from step {self.schedule_steps} on"
        return words


@dataclass(frozen=True)
class ActorVariation(Variation):
    """The randomisation of a quantity of an actor's bodies, shapes or joints."""

    bodies: tuple[str, ...] = ()
    """Only these bodies and their shapes; empty for all."""
    joints: tuple[str, ...] = ()
    """Only these joints; empty for all."""
    shared: bool = False
    """Whether these bodies, shapes or joints have one sample for all, not one each."""


V = TypeVar("V", bound=Variation)


def read_variation(values: Any, where: str, cls: type[V] = Variation) -> V:  # type: ignore[assignment]
    """Read one entry of the YAML. Raises PhalanxError, naming `where`, for an invalid one."""
    variation = read(cls, values, where)
    for f in fields(variation):
        if f.name == "range" or (f.name.startswith("range") and getattr(variation, f.name)):
            _check_range(getattr(variation, f.name), variation, f"{where}.{f.name}")
    if variation.schedule and (variation.schedule_steps or 0) < 1:
        raise PhalanxError(
            f"{where} has the schedule {variation.schedule!r}, which needs schedule_steps of 1 or"
            " more"
        )
    if variation.schedule_steps is not None and not variation.schedule:
        raise PhalanxError(f"{where} has schedule_steps; say which schedule: linear or constant")
    return variation


def _check_range(values: tuple[float, ...], variation: Variation, where: str) -> None:
    if len(values) != 2 or not all(abs(v) <= MAX_SAMPLE for v in values):
        raise PhalanxError(
            f"{where} is {show(list(values))}; it must be two numbers, as in [0.5, 1.5], of at most"
            f" {MAX_SAMPLE:g}"
        )
    low, high = values
    if variation.distribution == "gaussian":
        if high < 0:
            raise PhalanxError(
                f"{where} is {list(values)}; for gaussian the second number is the"
                " standard deviation, which cannot be negative"
            )
    elif low > high:
        raise PhalanxError(f"{where} is {list(values)}; the lower end must come first")
    elif variation.distribution == "loguniform" and low <= 0:
        raise PhalanxError(f"{where} is {list(values)}; for loguniform both must be above 0")


def draw_samples(
    bounds: Sequence[float], distribution: str, shape: Sequence[int], device: torch.device
) -> Tensor:
    """Samples of shape `shape` from a distribution given by two bounds (uniform, loguniform), or by
    mean and standard deviation (gaussian)."""
    a, b = bounds
    if distribution == "gaussian":
        return torch.randn(*shape, device=device).mul_(b).add_(a)
    if distribution == "uniform":
        return torch.rand(*shape, device=device).mul_(b - a).add_(a)
    low, high = math.log(a), math.log(b)
    return torch.exp(low + (high - low) * torch.rand(*shape, device=device))


def mapping(value: Any, where: str) -> Mapping[str, Any]:
    """`value`, {} for None. Raises PhalanxError, naming `where`, if it is not a mapping."""
    if value is not None and not isinstance(value, Mapping):
        raise PhalanxError(f"{where} is {show(value)}; it must be a mapping")
    return value or {}
