"""AMP's buffers: demonstrations, and the policy's past motion.

    buffer = AMPBuffer(200_000, 210, device)
    buffer.store(rows)                       # (n, 210)
    rows = buffer.sample(4096)               # (4096, 210)

A ring on the device. Its write position and fill level are device tensors, and shapes are fixed, so
that storing and sampling can be captured in a CUDA graph.
"""

from typing import Any

import torch
from torch import Tensor

from phalanx.errors import PhalanxError
from phalanx.fits import check_tensor, count, mapping
from phalanx.rl.replay import resize_ring


class AMPBuffer:
    """The last `capacity` rows, (D,) each."""

    def __init__(self, capacity: int, width: int, device: torch.device) -> None:
        self.capacity = capacity
        # The last row receives the rows that are not kept.
        self.rows = torch.zeros(capacity + 1, width, device=device)
        self.stored = torch.zeros((), dtype=torch.long, device=device)
        """Rows stored so far, 0-d."""

    def store(self, rows: Tensor, keep_prob: float = 1.0) -> None:
        """Store rows (n, D), n at most the capacity. Once the buffer has been full, each row is
        stored only with probability `keep_prob`."""
        keep = torch.rand(len(rows), device=rows.device) < keep_prob
        keep |= self.stored <= self.capacity
        place = (self.stored + keep.cumsum(0) - 1) % self.capacity
        self.rows.index_copy_(0, torch.where(keep, place, self.capacity), rows)
        self.stored += keep.sum()

    def sample(self, n: int) -> Tensor:
        """Rows (n, D), drawn uniformly with replacement; zeros if nothing has been stored."""
        # Much larger than any ring, so that the remainder is practically uniform.
        number = torch.randint(0, 2**62, (n,), device=self.rows.device)
        return self.rows[number % self.stored.clamp(1, self.capacity)]

    def state_dict(self) -> dict[str, Any]:
        """The filled part, which determines all samples. Waits for the device."""
        filled = min(int(self.stored), self.capacity)
        return {"stored": self.stored.clone(), "rows": self.rows[:filled].clone()}

    def check_state(self, state: Any, where: str) -> None:
        """Raise PhalanxError unless `state` is what `state_dict` returned, of any length, or only
        its count."""
        stored = count(mapping(state, where).get("stored"), f"{where}.stored")
        if "rows" not in state:
            return
        filled = len(state["rows"]) if getattr(state["rows"], "ndim", 0) == 2 else -1
        if not min(stored, 1) <= filled <= stored:
            raise PhalanxError(f"{where} has {filled} rows of {stored}")
        check_tensor(state["rows"], where, (filled, self.rows.shape[1]), self.rows.dtype)

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what `state_dict` returned; from a larger ring, only its last rows."""
        saved, stored = resize_ring({"rows": state["rows"]}, int(state["stored"]), self.capacity)
        self.rows[: len(saved["rows"])].copy_(saved["rows"])
        self.stored.fill_(stored)
