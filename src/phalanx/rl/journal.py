"""The log of a run: statistics, which stay on the device and are read every few iterations, meters
and speed."""

import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from phalanx.errors import PhalanxError
from phalanx.rl import ranks
from phalanx.rl.run_folder import RunFolder
from phalanx.rl.statistics import Clock, Meters, performance, with_tags


class Journal:
    """Times, meters and the newest scalars of a run; `total_time` is its seconds of training."""

    def __init__(self, config: Any, device: torch.device) -> None:
        self.clock = Clock(device)
        self.meters = Meters(config.games_to_track)
        self.total_time = 0.0
        self.last_stats: dict[str, float] = {}
        """Scalars of the last iteration that was read, by TensorBoard tag."""
        self.last_lr = config.learning_rate
        self.fps = {"total": 0.0, "rollout": 0.0}
        self._unread: list[tuple[int, int, Tensor]] = []
        self._sizes: dict[str, int] = {}
        self._read_at = 0.0

    def start(self) -> None:
        """Start the clock: training begins."""
        self._read_at = time.perf_counter()

    def record(self, epoch: int, frame: int, statistics: dict[str, Tensor]) -> None:
        """Store a copy of an iteration's `Learner.statistics`, as one vector on the device."""
        self._sizes = {name: x.numel() for name, x in statistics.items()}
        row = torch.cat([x.reshape(-1) for x in statistics.values()])
        self._unread.append((epoch, frame, row))

    def discard_unread(self) -> None:
        """Discard the statistics since the last reading, because those iterations are repeated."""
        self._unread.clear()

    def read(self, learner: Any, folder: RunFolder, why: Callable[[], str], saved: Path) -> None:
        """Copy the unread statistics to the host and log them. If they are not finite, raises
        PhalanxError with the reason that `why` returns; `saved` is the last good checkpoint."""
        rows = ranks.total(torch.stack([row for _, _, row in self._unread])).tolist()
        now = time.perf_counter()
        seconds = max(now - self._read_at, 0.0) / len(rows)  # a clock may be set back
        self._read_at = now
        times = self.clock.read() | learner.hooked_env.seconds_per_iteration(len(rows))
        speed = performance(learner.batch_size * ranks.size(), seconds, times)
        self.fps = {
            "total": speed["performance/step_inference_rl_update_fps"],
            "rollout": speed["performance/step_inference_fps"],
        }
        for (epoch, frame, _), row in zip(self._unread, rows, strict=True):
            if not all(map(math.isfinite, row)):
                raise PhalanxError(
                    f"in iteration {epoch} the losses became NaN or infinite: {why()};"
                    f" the checkpoint before that is {saved}"
                )
            self.total_time += seconds
            values = self._by_name(row)
            self.meters.add(values.pop("finished"))
            scalars = learner.scalars(values) | speed
            self.last_lr = scalars.get("info/last_lr", self.last_lr)
            at = {"step": frame, "iter": epoch, "time": self.total_time}
            points = with_tags(scalars, self.meters, at)
            own = points["step"]
            own |= {name: own[tag] for name, tag in learner.ALIASES.items() if tag in own}
            for axis, point in points.items():
                folder.log(point, at[axis])
            self.last_stats = scalars
        self._unread.clear()

    def _by_name(self, row: list[float]) -> dict[str, list[float]]:
        values, start = {}, 0
        for name, size in self._sizes.items():
            values[name] = row[start : start + size]
            if name != "finished":  # a sum over all ranks; others are means over them
                values[name] = [x / ranks.size() for x in values[name]]
            start += size
        return values
