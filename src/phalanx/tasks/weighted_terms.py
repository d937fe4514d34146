"""A reward as the weighted sum of named terms, with a curriculum of the weights.

self.reward = WeightedTerms(self, {"upright": 1.0, "torque": -1e-4}, config.costs)
weighted = self.reward(terms)               # once per step, in Task.compute_reward
self.log_terms(weighted)
return self.reward.total(weighted), terminated
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from phalanx.config import check_made, checked, ranged
from phalanx.errors import PhalanxError, did_you_mean
from phalanx.tasks.checks import check_named

if TYPE_CHECKING:
    from phalanx.tasks.task import Task


@dataclass(frozen=True)
class CostSettings:
    """A curriculum of the costs, which are the terms with negative weights, and of single terms."""

    first_part: float = ranged(1.0, at_least=0, at_most=1)
    """Part of their weights that counts at first; it grows to 1 over `grow_steps`."""
    grow_steps: int = ranged(0, at_least=0)
    """Environment steps, each of all environments, over which that part grows."""
    terms: dict[str, tuple[float, ...]] = field(default_factory=dict)
    """Of single terms, rewards as well as costs: the part of the weight that counts at first, that
    in the end and the environment steps between, as in {slip: [0, 1, 2000]}."""

    def __post_init__(self) -> None:
        check_made(self, "task.env.costs")
        for name, schedule in self.terms.items():
            three = isinstance(schedule, (list, tuple)) and len(schedule) == 3
            numbers = three and all(_is_number(v) for v in schedule)
            if not numbers or not all(0 <= v < math.inf for v in schedule) or schedule[2] < 1:
                raise PhalanxError(
                    f"task.env.costs.terms.{name} is {schedule!r}; it must be the part of the"
                    " weight at first, that in the end and the steps between, as in [0, 1, 2000]"
                )


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


class WeightedTerms:
    """weights: of the terms, per second. name: of its state, another one for each of several."""

    def __init__(
        self,
        task: "Task",
        weights: Mapping[str, float],
        costs: CostSettings | None = None,
        name: str = "reward",
    ) -> None:
        self.costs, self.dt = costs or CostSettings(), task.sim.dt
        self.weights = {
            term: checked(float, weight, f"the reward's weight {term!r}")
            for term, weight in checked(dict, weights, "the table of the reward's weights").items()
        }
        if not self.weights:
            raise PhalanxError(
                "the reward has no weights; give one or more, as in {'upright': 1.0}"
            )
        self._like, self._of, self._checked = task.terminated, type(task).__name__, False
        for term in self.costs.terms:
            if term not in self.weights:
                raise PhalanxError(
                    f"task.env.costs.terms: no weight {term!r}{did_you_mean(term, self.weights)};"
                    f" weights: {', '.join(self.weights)}"
                )
        self._steps = task.state(f"{name}_steps", torch.zeros((), device=task.device))
        task.schedule_ends.append(self.end_schedules)

    def __call__(self, terms: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """One step passes: the terms, (N,) each, by their weights; those without a weight are left
        out. Raises PhalanxError for a weight without a term, unless it is 0, and in the first step
        for terms of another shape."""
        if not self._checked:
            self._check(terms)
            self._checked = True
        for name, weight in self.weights.items():
            if weight and name not in terms:
                raise PhalanxError(
                    f"the reward has the weight {name!r}, but no such term"
                    f"{did_you_mean(name, [k for k in terms if k not in self.weights])}; terms:"
                    f" {', '.join(terms)}"
                )
        self._steps += 1
        part = self.cost_part if self.costs.first_part < 1 else 1.0
        weights = {k: w for k, w in self.weights.items() if k in terms}
        parts = {k: part for k, w in weights.items() if w < 0} | self._parts()
        return {k: parts.get(k, 1.0) * w * terms[k] for k, w in weights.items()}

    def _check(self, terms: Mapping[str, Tensor]) -> None:
        check_named(self._like, f"the reward of {self._of} gets", "term", terms)
        if not self.weights.keys() & terms.keys():
            raise PhalanxError(
                f"no term of the reward has a weight; terms: {', '.join(terms)}; weights:"
                f" {', '.join(self.weights)}"
            )

    def _parts(self) -> dict[str, Tensor]:
        """0-d, by name of a term with a schedule of its own: the part of its weight that counts."""
        return {
            name: first + (last - first) * (self._steps / steps).clamp(max=1.0)
            for name, (first, last, steps) in self.costs.terms.items()
        }

    def total(self, weighted: Mapping[str, Tensor]) -> Tensor:
        """The reward of a step, (N,), from what a call returned."""
        return self.dt * torch.stack(list(weighted.values())).sum(0)

    @property
    def cost_part(self) -> Tensor:
        """0-d: the part of the costs that counts now."""
        first, grown = self.costs.first_part, self._steps / max(1, self.costs.grow_steps)
        return first + (1 - first) * grown.clamp(max=1.0)

    def end_schedules(self) -> None:
        """Weights are as at the end of training from now on."""
        ends = [self.costs.grow_steps, *(int(s[2]) for s in self.costs.terms.values())]
        self._steps.fill_(max(ends) + 1)
