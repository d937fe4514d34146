"""The latest states of a few environments, kept on the device for a viewer or a film.

    recorder = Recorder(sim, num_envs=4)
    task.watchers.append(recorder.record)       # before anything is captured
    rows, last = recorder.ring, sim.steps       # read both together, see `rows_since`

`record` is part of the step: it has fixed shapes and never waits, so a CUDA graph may hold it.
"""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from phalanx.sim.sim import Sim

ROWS = 512
"""Steps that are kept."""


class Recorder:
    """States of the first `num_envs` environments in the last `ROWS` steps, as
    `ring` (ROWS, num_envs, width): `qpos`, then `mocap_pos` and `mocap_quat`, flattened."""

    def __init__(self, sim: Sim, num_envs: int) -> None:
        self.sim = sim
        self.num_envs = min(num_envs, sim.num_envs)
        self._parts = _parts(sim, self.num_envs)
        width = self._row().shape[-1]
        self.ring = torch.zeros(ROWS, self.num_envs, width, device=sim.device)
        self._on_host: list[tuple[NDArray[Any], NDArray[Any]]] = []
        if sim.device.type == "cpu":  # places in the ring, and what goes there; views, too
            self._steps = sim.steps.numpy()
            ends = np.cumsum([p.shape[1] for p in self._parts])[:-1]
            places = np.split(self.ring.numpy(), ends, axis=2)
            self._on_host = [(p, part.numpy()) for p, part in zip(places, self._parts, strict=True)]
        self.resting = False
        """Whether nothing is kept for now; a captured step goes on as it was captured."""

    def record(self) -> None:
        """Keep the present state, as that of step `sim.steps`."""
        if self.resting:
            return
        if self._on_host:  # a tenth of what torch's calls take
            row = int(self._steps) % ROWS
            for place, part in self._on_host:
                place[row] = part
        else:
            self.ring.index_copy_(0, self.sim.steps.remainder(ROWS)[None], self._row()[None])

    def _row(self) -> Tensor:
        """(num_envs, width)."""
        return torch.cat(self._parts, 1) if len(self._parts) > 1 else self._parts[0]


def states_of(sim: Sim, num_envs: int | None = None) -> NDArray[Any]:
    """(num_envs, width) a copy of the present states of the first environments, None for all, as
    `Recorder` has them."""
    return torch.cat(_parts(sim, num_envs), 1).cpu().numpy().copy()


def _parts(sim: Sim, num_envs: int | None) -> list[Tensor]:
    """Views of all that is drawn of a state: (num_envs, width) each."""
    names = ("qpos", "mocap_pos", "mocap_quat") if sim.model.nmocap else ("qpos",)
    return [getattr(sim, name)[:num_envs].flatten(1) for name in names]


def rows_since(ring: Tensor, last: int, seen: int) -> tuple[Tensor, bool]:
    """Rows of steps seen + 1 to last, (T, num_envs, width), the oldest first, from a copy of `ring`
    that was made after step `last`; and whether they begin there. If some of them are lost, or time
    was set back, these are the latest rows that there are."""
    follows = 0 <= last - seen <= ROWS
    count = last - seen if follows else min(last, ROWS)
    at = np.arange(last - count + 1, last + 1) % ROWS
    return torch.from_numpy(ring.numpy()[at]), follows
