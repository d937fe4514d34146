"""AMP's memories: demonstrations, and what the policy looked like in the past.

    buffer = AMPBuffer(200_000, 210, device)
    buffer.store(rows)                       # (n, 210)
    rows = buffer.sample(4096)               # (4096, 210)

A ring on the device. Where it is written and how much it holds live in device tensors, and shapes
are fixed, so that storing and drawing can be captured in a CUDA graph.
"""

from typing import Any

import torch
from torch import Tensor

from phalanx.rl.replay import refit


class AMPBuffer:
    """The last `capacity` rows, (D,) each."""

    def __init__(self, capacity: int, width: int, device: torch.device) -> None:
        self.capacity = capacity
        # The last row takes what is not kept.
        self.rows = torch.zeros(capacity + 1, width, device=device)
        self.stored = torch.zeros((), dtype=torch.long, device=device)
        """Rows kept so far."""

    def store(self, rows: Tensor, keep_prob: float = 1.0) -> None:
        """Keep rows (n, D), n at most the capacity; of those that come after more rows than the
        capacity, each only with probability `keep_prob`."""
        keep = torch.rand(len(rows), device=rows.device) < keep_prob
        keep |= self.stored <= self.capacity
        place = (self.stored + keep.cumsum(0) - 1) % self.capacity
        self.rows.index_copy_(0, torch.where(keep, place, self.capacity), rows)
        self.stored += keep.sum()

    def sample(self, n: int) -> Tensor:
        """(n, D), uniformly and with replacement. Only zeros where nothing has been stored."""
        # Wider than any ring, so that the remainder is as good as uniform.
        number = torch.randint(0, 2**62, (n,), device=self.rows.device)
        return self.rows[number % self.stored.clamp(1, self.capacity)]

    def state_dict(self) -> dict[str, Any]:
        """The filled part, which is all that drawing depends on. Waits for the device."""
        filled = min(int(self.stored), self.capacity)
        return {"stored": self.stored.clone(), "rows": self.rows[:filled].clone()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what `state_dict` returned; of a larger ring, its last rows."""
        saved, stored = refit({"rows": state["rows"]}, int(state["stored"]), self.capacity)
        self.rows[: len(saved["rows"])].copy_(saved["rows"])
        self.stored.fill_(stored)
