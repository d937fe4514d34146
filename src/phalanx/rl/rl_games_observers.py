"""RL Games' own observers, with its names and TensorBoard tags.

    runner = Runner(IsaacAlgoObserver())  # or `algo_observer: isaac` in params.config

Both read the infos of every step, so on a GPU steps run without CUDA graphs.
"""

from collections import deque
from typing import Any

import torch
from torch import Tensor

from phalanx.errors import PhalanxError
from phalanx.rl.observer import AlgoObserver


class Scores:
    """The last `size` scores and their mean."""

    def __init__(self, size: int) -> None:
        self._values: deque[float] = deque(maxlen=size)

    @property
    def current_size(self) -> int:
        """Number of scores."""
        return len(self._values)

    def update(self, values: Any) -> None:
        """Add each of `values`."""
        self._values.extend(torch.as_tensor(values, dtype=torch.float64).flatten().tolist())

    def get_mean(self) -> float:
        """Mean of the stored scores; 0 if there are none."""
        return sum(self._values) / max(1, len(self._values))

    def clear(self) -> None:
        """Remove all scores."""
        self._values.clear()


class DefaultAlgoObserver(AlgoObserver):
    """Logs `scores/*`, the mean of infos["scores"] or infos["battle_won"], (N,), over the last
    episodes. With infos["lives"], (N,), an episode counts only once no life is left."""

    def after_init(self, algo: Any) -> None:
        self.algo, self.writer = algo, algo.writer
        self.game_scores = Scores(algo.config.games_to_track)

    def process_infos(self, infos: dict[str, Any], done_indices: Tensor) -> None:
        scores = infos.get("scores", infos.get("battle_won"))
        if scores is None:
            return
        ended = done_indices.flatten()
        if "lives" in infos:
            ended = (torch.as_tensor(infos["lives"]) == 0).nonzero().flatten()
        self.game_scores.update(torch.as_tensor(scores)[ended.cpu()])

    def after_clear_stats(self) -> None:
        self.game_scores.clear()

    def after_print_stats(self, frame: int, epoch_num: int, total_time: float) -> None:
        if self.game_scores.current_size:
            log(self.writer, "scores", self.game_scores.get_mean(), frame, epoch_num, total_time)


class IsaacAlgoObserver(AlgoObserver):
    """Logs `Episode/<key>`, the mean of infos["episode"][key] since the last log, and as `<key>/*`
    every number in the infos of the last step."""

    def after_init(self, algo: Any) -> None:
        self.algo, self.writer = algo, algo.writer
        self.mean_scores = Scores(algo.config.games_to_track)
        self.ep_infos: list[dict[str, Any]] = []
        self.direct_info: dict[str, Any] = {}

    def process_infos(self, infos: dict[str, Any], done_indices: Tensor) -> None:
        if not isinstance(infos, dict):
            raise PhalanxError(
                f"IsaacAlgoObserver needs infos as a dictionary; the environment gives {infos!r}"
            )
        if "episode" in infos:
            self.ep_infos.append(dict(infos["episode"]))
        self.direct_info = {k: v for k, v in infos.items() if _is_number(v)}

    def after_clear_stats(self) -> None:
        self.mean_scores.clear()

    def after_print_stats(self, frame: int, epoch_num: int, total_time: float) -> None:
        for key in self.ep_infos[0] if self.ep_infos else ():
            values = [torch.as_tensor(infos[key]).flatten().float() for infos in self.ep_infos]
            self.writer.add_scalar(f"Episode/{key}", float(torch.cat(values).mean()), epoch_num)
        self.ep_infos.clear()
        for key, value in self.direct_info.items():
            log(self.writer, key, float(value), frame, epoch_num, total_time, first="frame")
        if self.mean_scores.current_size:
            log(self.writer, "scores", self.mean_scores.get_mean(), frame, epoch_num, total_time)


OBSERVERS: dict[str, type[AlgoObserver]] = {
    "default": DefaultAlgoObserver,
    "isaac": IsaacAlgoObserver,
}
"""Observers by their names in `params.config.algo_observer`."""


def log(
    writer: Any, tag: str, value: float, frame: int, epoch: int, seconds: float, first: str = "mean"
) -> None:
    """Log one value over environment steps (as <tag>/<first>), iterations and seconds."""
    writer.add_scalar(f"{tag}/{first}", value, frame)
    writer.add_scalar(f"{tag}/iter", value, epoch)
    writer.add_scalar(f"{tag}/time", value, seconds)


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) or (isinstance(value, Tensor) and value.dim() == 0)
