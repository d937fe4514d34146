"""Decides when a run writes checkpoints, and their names."""

import time
from pathlib import Path
from typing import Any

from phalanx.rl import ranks
from phalanx.rl.statistics import Meter

SECONDS_BETWEEN_CHECKPOINTS = 10.0


class Saving:
    """Names, without ".pth", are RL Games'; a run continues from `last_<name>`."""

    def __init__(self, config: Any, reads: int) -> None:
        self.config = config
        self.last = f"last_{config.name}"
        self.best = -1e9
        """Best mean return so far. `<name>.pth` holds it as soon as any other checkpoint is
        written, so that none knows of a better one than is there."""
        self._reads = reads
        self._saved_at = time.perf_counter()

    def due(self, epoch: int, returns: Meter) -> tuple[bool, list[str], str]:
        """Whether the state after iteration `epoch` is the best so far, other names to write it
        to, and the reason to stop if score_to_win is exceeded; the first rank's on all of them,
        since their clocks differ."""
        c, rises, names, won = self.config, False, [], ""
        period = c.save_frequency
        if period and epoch // period > (epoch - self._reads) // period:
            names.append(f"{self.last}_ep_{epoch}_rew_{format_return(returns)}")
        if returns.size and returns.mean > self.best and epoch >= c.save_best_after:
            self.best, rises = returns.mean, True
            if self.best > c.score_to_win:
                won = f"score_to_win {c.score_to_win:g} exceeded"
                names.append(f"{c.name}_ep_{epoch}_rew_{format_return(returns)}")
        now = time.perf_counter()
        if now - self._saved_at > SECONDS_BETWEEN_CHECKPOINTS:
            self._saved_at = now
            names.append(self.last)
        return ranks.from_first((rises, names, won))

    def final(self, run: Any, folder: Path) -> list[str]:
        """Names to write into `folder` when `run` has ended."""
        names = [self.last]
        if not (folder / f"{self.config.name}.pth").exists():
            names.append(self.config.name)
        c = self.config
        if run.stop_reason == c.limit_reached(run.epoch_num, run.frame) != "":
            at_epoch = c.limit_reached(run.epoch_num, 0)
            progress = f"ep_{run.epoch_num}" if at_epoch else f"frame_{run.frame}"
            names.append(f"{self.last}_{progress}_rew_{format_return(run.journal.meters.rewards)}")
        return names


def format_return(returns: Meter) -> str:
    """A mean return as written in file names."""
    return f"{returns.mean:.4f}" if returns.size else "-inf"
