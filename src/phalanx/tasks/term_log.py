"""What a task says about its steps, by name: terms of the reward, causes of ends, other numbers.

    self.log_terms(rewards={"up": up}, ends={"fallen": fallen}, numbers={"level": level})   # Task

Sums stay on the device until they are read, so that a CUDA graph may hold `add`. A name gets its
place when it first occurs, which is before anything is captured.
"""

from collections.abc import Collection, Mapping
from typing import Any

import torch
from torch import Tensor

from phalanx.errors import PhalanxError
from phalanx.fits import check_tensor, mapping

TAGS = ("reward/", "ends/", "")
"""What stands before the names of rewards, ends and numbers."""
ROOM = 256
"""Names at most."""


class TermLog:
    """Means since the last reading, by tag: `reward/<term>`, `ends/<cause>`, or a number's name."""

    def __init__(self, device: torch.device) -> None:
        self._places: dict[str, int] = {}
        self._sums = torch.zeros(2, ROOM, device=device)  # of the values, and their count
        self.latest: dict[str, Tensor] | None = None
        """The last step's values by tag, for a viewer that has set it to {}."""

    @property
    def empty(self) -> bool:
        """Whether nothing has been logged yet, as in a task's first step."""
        return not self._places

    def has(self, *named: Collection[str]) -> bool:
        """Whether an earlier step has logged these rewards, ends and numbers; looks at the first
        name of each."""
        for tag, names in zip(TAGS, named, strict=True):
            if names and tag + str(next(iter(names))) not in self._places:
                return False
        return True

    def add(
        self,
        rewards: Mapping[str, Tensor],
        ends: Mapping[str, Tensor],
        numbers: Mapping[str, Tensor],
        diverged: Tensor | None = None,
    ) -> None:
        """Add one step: values (N,), or () where they are the same everywhere. Environments of
        `diverged`, (N,) bool, are left out: one NaN would be the mean of all."""
        given = zip(TAGS, (rewards, ends, numbers), strict=True)
        tagged = {f"{tag}{name}": value for tag, named in given for name, value in named.items()}
        if not tagged:
            return
        size = max(value.numel() for value in tagged.values())
        first = self._place(list(tagged))
        rows = [value.expand(size) for value in tagged.values()]
        rows = [row if row.dtype == torch.float32 else row.float() for row in rows]
        sums, counts = self._sums[:, first : first + len(rows)]
        if diverged is None or size != len(diverged):
            sums += torch.stack(rows).sum(1)
            counts += size
        else:
            sums += torch.where(diverged, 0.0, torch.stack(rows)).sum(1)
            counts += size - diverged.sum()
        if self.latest is not None:
            self.latest = tagged

    def _place(self, tags: list[str]) -> int:
        """The place of the first of these tags; the others follow it."""
        if tags[0] not in self._places:
            known = len(self._places)
            if known + len(tags) > ROOM:
                raise PhalanxError(f"a task can log {ROOM} numbers, this one logs more: {tags[-1]}")
            self._places |= {tag: known + k for k, tag in enumerate(tags)}
        first = self._places[tags[0]]
        if [self._places.get(tag) for tag in tags] != list(range(first, first + len(tags))):
            raise PhalanxError(
                f"log_terms got other names than in an earlier step: {', '.join(tags)}; give the"
                " same ones in every step"
            )
        return first

    def read(self) -> dict[str, float]:
        """Means of rewards and numbers, and the share of each cause in the ends, since the last
        call; only what there was. Waits for the device."""
        if not self._places:
            return {}
        sums, counts = self._sums.tolist()
        self._sums.zero_()
        found = {tag: (sums[k], counts[k]) for tag, k in self._places.items() if counts[k]}
        ended = sum(s for tag, (s, _) in found.items() if _is_end(tag))
        values = {tag: s / n for tag, (s, n) in found.items() if not _is_end(tag)}
        if ended:
            values |= {tag: s / ended for tag, (s, _) in found.items() if _is_end(tag)}
        return values

    def state_dict(self) -> dict[str, Tensor]:
        """Sum and count, (2,), by tag."""
        return {tag: self._sums[:, k].clone() for tag, k in self._places.items()}

    def check_state(self, state: Any) -> None:
        """Raise PhalanxError unless `state` is one of `state_dict`."""
        for tag, value in mapping(state, "it, in its log").items():
            check_tensor(value, f"it, in its log's {tag}", (2,), torch.float32)

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Restore what `state_dict` returned; a tag that is not in it starts at zero."""
        self._sums.zero_()
        for tag, value in state.items():
            if tag in self._places:
                self._sums[:, self._places[tag]] = value


def _is_end(tag: str) -> bool:
    return tag.startswith("ends/")
