"""Means of a task's named terms for the log, summed on the device."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from phalanx.tasks.task import Task


class TermLog:
    """Terms of the reward by name, and the causes for which episodes end."""

    def __init__(self, task: "Task", rewards: Sequence[str], ends: Sequence[str]) -> None:
        self._rewards, self._ends = list(rewards), list(ends)
        size = len(self._rewards) + len(self._ends) + 1
        # sums of the terms, counts of the ends, count of environment steps
        self._sums = task.state("term_sums", torch.zeros(size, device=task.device))

    def add(self, rewards: Mapping[str, Tensor], ends: Mapping[str, Tensor]) -> None:
        """Add one step: terms (N,), and whether an episode ends for a cause, (N,) bool."""
        terms = torch.stack([rewards[name] for name in self._rewards])
        causes = torch.stack([ends[name] for name in self._ends])
        count = torch.full_like(self._sums[:1], terms.shape[1])
        self._sums += torch.cat([terms.sum(1), causes.sum(1).float(), count])

    def read(self) -> dict[str, float]:
        """`reward/<term>`, the mean of each term, and `ends/<cause>`, its share of the ends, since
        the last call; empty if no step was taken. Waits for the device."""
        *sums, steps = self._sums.tolist()
        self._sums.zero_()
        if not steps:
            return {}
        causes = sums[len(self._rewards) :]
        ended = max(sum(causes), 1.0)
        means = {f"reward/{n}": s / steps for n, s in zip(self._rewards, sums, strict=False)}
        return means | {f"ends/{n}": c / ended for n, c in zip(self._ends, causes, strict=True)}
