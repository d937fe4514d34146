"""`Agent`: the training loop and what surrounds it: folders, logs, checkpoints, stopping.

Read `Agent.train` first; then, for PPO, `A2CAgent.play_steps` and `A2CAgent.update` in `ppo.py`
on the buffers of `rollout.py`. Those three files are one whole iteration.
"""

import copy
import math
import time
from datetime import datetime
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor

from phalanx.config import read, without_effect
from phalanx.errors import PhalanxError
from phalanx.rl import checkpoint
from phalanx.rl.build import build_model, make_env
from phalanx.rl.config import AgentConfig
from phalanx.rl.observer import AlgoObserver, watches_steps
from phalanx.rl.optimizer import optimizer_state
from phalanx.rl.run_folder import RunFolder
from phalanx.rl.statistics import Clock, Meter, named, performance, why_not_finite

SECONDS_BETWEEN_CHECKPOINTS = 10.0
ITERATIONS_BETWEEN_READS = {"cpu": 1, "cuda": 8}
"""Iterations between two reads of the device's statistics: each read waits for the device."""


class Agent:
    """Base of the algorithms. A subclass gives the methods that raise NotImplementedError here.

    params: the YAML's `params` mapping. Attributes that others read have RL Games' names: model,
    optimizer, vec_env, writer, frame, epoch_num, last_lr, mean_rewards, experiment_dir, ...
    """

    Config: ClassVar[type[AgentConfig]] = AgentConfig
    config: Any  # a `Config`

    model: Any  # a ModelNetwork, or what a registered model builds
    optimizer: torch.optim.Optimizer

    def __init__(self, base_name: str, params: dict[str, Any]) -> None:
        self.params = params
        raw = params.get("config", {})
        self.config = read(self.Config, raw, "params.config")
        self.no_effect = without_effect(self.Config, raw)
        self.name = self.config.name
        stamp = datetime.now().strftime("%d-%H-%M-%S")
        self.experiment_name = self.config.full_experiment_name or f"{self.name}_{stamp}"
        self.experiment_dir = Path(self.config.train_dir) / self.experiment_name
        self.observer: AlgoObserver = self.config.features.get("observer") or AlgoObserver()
        self.observer.before_init(base_name, raw, self.experiment_name)

        self.vec_env: Any = make_env(self.config)
        self.check_spaces()
        self.num_actors = self.vec_env.num_envs
        self.device = torch.device(self.vec_env.device)
        self.folder = RunFolder(self.experiment_dir, self.device)
        self.nn_dir, self.summaries_dir = self.folder.nn_dir, self.folder.summaries_dir
        # 10 bits of mantissa in a product, as RL Games under Isaac Gym's PyTorch had it.
        torch.backends.cuda.matmul.allow_tf32 = True
        # As in RL Games on CUDA alone: CPUs without bfloat16 take ten times as long with it.
        self.mixed_precision = self.config.mixed_precision and self.device.type == "cuda"
        self.batch_size = self.frames_per_iteration()
        self.model = build_model(params, self.config, self.vec_env).to(self.device)

        self.obs: dict[str, Tensor] = {}
        self._watched = watches_steps(self.observer)
        self.captures_update = self.device.type == "cuda"
        """Whether learning runs as captured CUDA graphs."""
        can = self.captures_update and hasattr(self.vec_env, "capture")
        self.captures = can and not self._watched
        """Whether steps of the environment do, too."""

        self.epoch_num = 0
        self.frame = 0
        self.total_time = 0.0
        self.last_mean_rewards = -1e9
        """Best mean return so far; `<name>.pth` holds it."""
        self.mean_rewards = Meter(self.config.games_to_track)
        self.mean_shaped_rewards = Meter(self.config.games_to_track)
        self.mean_lengths = Meter(self.config.games_to_track)
        self.last_stats: dict[str, float] = {}
        self.last_lr = self.config.learning_rate
        self.fps = {"total": 0.0, "rollout": 0.0}
        self.warnings: list[str] = []
        self.stop_reason = ""
        self._stop_request = ""
        self._restart_point: dict[str, Any] | None = None
        self._unread: list[tuple[int, int, Tensor]] = []
        self._clock = Clock(self.device)
        self._read_at = self._saved_at = 0.0
        self._restored_env = False
        self._reads = ITERATIONS_BETWEEN_READS[self.device.type]

    # -- the loop --------------------------------------------------------------------------------

    def train(self) -> tuple[float, int]:
        """Train until a limit is reached; returns best mean return and number of iterations."""
        self.init_tensors()
        if not self._restored_env:
            self.env_reset()
        if self.captures:
            before = copy.deepcopy(self.get_full_state_weights())
            self.rehearse()
            self.set_full_state_weights(before)
        self.folder.open(self.frame)
        self.writer = self.folder.writer
        self.observer.after_init(self)
        self._read_at = self._saved_at = time.perf_counter()
        self.save(self.nn_dir / f"last_{self.name}")
        self._keep_restart_point([])
        self.stop_reason = self._limit_reached()  # a finished run that is resumed trains no further
        while not self.stop_reason:
            self.update_epoch()
            self.train_epoch()
            self.frame += self.batch_size
            self._unread.append((self.epoch_num, self.frame, self.statistics().clone()))
            ends = self._stop_request or self._limit_reached()
            if ends or self.epoch_num % self._reads == 0:
                self._write_up()  # the last reading's, while the device works
                if self._repeat_after_overflow():
                    continue
                self.stop_reason = ends
                self._read_statistics()
                self._keep_restart_point(self._due_checkpoints())
        self._write_up()
        self.save(self.nn_dir / f"last_{self.name}")
        if not (self.nn_dir / f"{self.name}.pth").exists():
            self.save(self.nn_dir / self.name)
        self.writer.close()
        return self.last_mean_rewards, self.epoch_num

    def check_spaces(self) -> None:
        """Raise PhalanxError if the algorithm does not fit the environment's actions."""

    def frames_per_iteration(self) -> int:
        """Environment steps that one iteration takes, all environments together."""
        raise NotImplementedError

    def init_tensors(self) -> None:
        """Allocate buffers; called once, before the loop."""
        raise NotImplementedError

    def env_reset(self) -> None:
        """Start episodes everywhere."""
        self.obs = self.vec_env.reset()

    def env_step(self, actions: Tensor) -> Any:
        """Step the environments; see `VecEnv.step`."""
        step = self.vec_env.step(actions)
        if self._watched:
            self.observer.process_infos(step[4], (step[2] | step[3]).nonzero())
        return step

    def train_epoch(self) -> None:
        """One iteration, rollout and update, without waiting for the device."""
        raise NotImplementedError

    def rehearse(self) -> None:
        """Iterate on trial until kernels are compiled and graphs captured; `train` then puts
        everything back, and its clock starts."""

    def statistics(self) -> Tensor:
        """What the iteration left to log, one vector on the device."""
        raise NotImplementedError

    def log_statistics(self, values: list[float]) -> dict[str, float]:
        """`statistics` of one iteration, on the host: fill the meters, return scalars by tag."""
        raise NotImplementedError

    def update_epoch(self) -> int:
        """Count the iteration."""
        self.epoch_num += 1
        return self.epoch_num

    def request_stop(self, reason: str) -> None:
        """Let the loop end after the running iteration, with everything saved."""
        self._stop_request = reason

    def _limit_reached(self) -> str:
        c = self.config
        if c.max_epochs != -1 and self.epoch_num >= c.max_epochs:
            return f"max_epochs {c.max_epochs} reached"
        if c.max_frames != -1 and self.frame >= c.max_frames:
            return f"max_frames {c.max_frames} reached"
        return ""

    # -- logging ---------------------------------------------------------------------------------

    def _read_statistics(self) -> None:
        """Bring the unread iterations' statistics to the host, log them, tell observers."""
        rows = torch.stack([row for _, _, row in self._unread]).tolist()
        now = time.perf_counter()
        seconds = (now - self._read_at) / len(rows)
        self._read_at = now
        speed = performance(self.batch_size, seconds, self._clock.read())
        self.fps = {
            "total": speed["performance/step_inference_rl_update_fps"],
            "rollout": speed["performance/step_inference_fps"],
        }
        for (epoch, frame, _), row in zip(self._unread, rows, strict=True):
            if not all(map(math.isfinite, row)):
                why = why_not_finite(self.remembered())
                saved = self.nn_dir / f"last_{self.name}.pth"
                raise PhalanxError(
                    f"in iteration {epoch} the losses became NaN or infinite: {why};"
                    f" the checkpoint before that is {saved}"
                )
            self.total_time += seconds
            scalars = self.log_statistics(row) | speed
            at = {"step": frame, "iter": epoch, "time": self.total_time}
            for axis, values in self.points(scalars, at).items():
                self.folder.log(values, at[axis])
            self.last_stats = scalars
        self._unread.clear()
        if hasattr(self.vec_env, "report"):
            self.warn(self.vec_env.report())
        self.observer.after_print_stats(self.frame, self.epoch_num, self.total_time)

    def points(
        self, scalars: dict[str, float], at: dict[str, float]
    ) -> dict[str, dict[str, float]]:
        """One iteration's values by tag, for each horizontal axis of `at`; see `named`."""
        return named(scalars, self._meters(), at)

    def remembered(self) -> dict[str, Any]:
        """What the environments gave and learning used, by name, the environment first."""
        return {}

    def _keep_restart_point(self, due: list[str]) -> None:
        """Copy what it takes to repeat captured steps, which cannot look for overflow themselves;
        the checkpoints `due` are of this moment, too."""
        if self.captures:
            self._restart_point = copy.deepcopy(self.get_full_state_weights())
        state = self._restart_point or (self.get_full_state_weights() if due else {})
        for stem in due:
            self.folder.keep(stem, state)
        if not self.captures:  # the state goes on changing
            self._write_up()

    def _write_up(self) -> None:
        for path in self.folder.write_up():
            self.observer.after_save(path)

    def _repeat_after_overflow(self) -> bool:
        """If contacts overflowed their buffers since the restart point, enlarge them and go back
        there, so that no contact is dropped."""
        grown = self.vec_env.grow() if hasattr(self.vec_env, "grow") else None
        if not grown:
            return False
        self.warn(grown)
        if self._restart_point is None:  # eager steps have repeated themselves already
            return False
        self.forget_graphs()
        self._unread.clear()
        self.set_full_state_weights(self._restart_point)
        return True

    def forget_graphs(self) -> None:
        """Captured graphs are stale: capture them again."""

    def warn(self, sentence: str) -> None:
        """Something the user should know; observers show `warnings`, each sentence once."""
        if sentence and sentence not in self.warnings:
            self.warnings.append(sentence)

    # -- checkpoints -----------------------------------------------------------------------------

    def _due_checkpoints(self) -> list[str]:
        """Names of those to write now."""
        c, mean, due = self.config, self.mean_rewards, []
        period = c.save_frequency
        if period and self.epoch_num // period > (self.epoch_num - self._reads) // period:
            due.append(f"last_{self.name}_ep_{self.epoch_num}_rew_{mean.mean:.4f}")
        if mean.size and mean.mean > self.last_mean_rewards and self.epoch_num >= c.save_best_after:
            self.last_mean_rewards = mean.mean
            due.append(self.name)
            if self.last_mean_rewards > c.score_to_win:
                self.stop_reason = self.stop_reason or f"score_to_win {c.score_to_win:g} exceeded"
        now = time.perf_counter()
        if now - self._saved_at > SECONDS_BETWEEN_CHECKPOINTS:
            self._saved_at = now
            due.append(f"last_{self.name}")
        return due

    def save(self, fn: str | Path) -> Path:
        """Write a checkpoint to `fn` + ".pth", whole or not at all."""
        path = self.folder.save(Path(fn), self.get_full_state_weights())
        self.observer.after_save(path)
        return path

    def restore(self, fn: str | Path, set_epoch: bool = True) -> None:
        """Continue from the checkpoint at `fn`. Raises PhalanxError for what does not fit."""
        self.set_full_state_weights(checkpoint.load(fn), set_epoch, source=fn)

    def get_full_state_weights(self) -> dict[str, Any]:
        """RL Games' checkpoint layout, plus under `phalanx` what continuing bit for bit takes."""
        self.init_tensors()
        generators = {"cpu": torch.get_rng_state()}
        if torch.cuda.is_initialized():
            generators["cuda"] = torch.cuda.get_rng_state()
        return {
            "model": self.model.state_dict(),
            "epoch": self.epoch_num,
            "frame": self.frame,
            "optimizer": optimizer_state(self.optimizer),
            "last_mean_rewards": float(self.last_mean_rewards),
            "env_state": None,
            "phalanx": {
                "format": checkpoint.FORMAT,
                "name": self.name,
                "total_time": self.total_time,
                "generators": generators,
                "meters": [[m.mean, m.size] for m in self._meters()],
                "env": self.vec_env.state_dict(),
                **self.extra_state(),
            },
        }

    def set_full_state_weights(
        self, weights: dict[str, Any], set_epoch: bool = True, source: object = "the checkpoint"
    ) -> None:
        """Take back what `get_full_state_weights` gave, or the weights and optimiser of an RL
        Games file; episodes continue where the environments can take their state back."""
        own = weights.get("phalanx", {})
        if own:
            checkpoint.check_origin(own, self.name, source)
        checkpoint.load_weights(self.model, weights["model"], source)
        if "optimizer" in weights:
            self.load_optimizer(weights["optimizer"])
        if set_epoch:
            self.epoch_num, self.frame = int(weights["epoch"]), int(weights["frame"])
        self.last_mean_rewards = float(weights.get("last_mean_rewards", -1e9))
        if not own:
            return
        self.total_time = own["total_time"]
        for meter, (mean, size) in zip(self._meters(), own["meters"], strict=True):
            meter.mean, meter.size = mean, size
        self.init_tensors()
        try:
            self.vec_env.load_state_dict(own["env"])
        except PhalanxError as error:
            self.warn(f"{source}: {error}; the network continues, the episodes start afresh")
            return
        self.load_extra_state(own)
        self._restored_env = True
        torch.set_rng_state(own["generators"]["cpu"])
        if torch.cuda.is_initialized() and "cuda" in own["generators"]:
            torch.cuda.set_rng_state(own["generators"]["cuda"])

    def load_optimizer(self, state: dict[str, Any]) -> None:
        """Take back the optimiser's state, keeping this run's own flags."""
        raise NotImplementedError

    def extra_state(self) -> dict[str, Any]:
        """What a subclass needs besides to continue bit for bit."""
        return {}

    def load_extra_state(self, state: dict[str, Any]) -> None:
        """Take back what `extra_state` gave."""

    def _meters(self) -> tuple[Meter, Meter, Meter]:
        return self.mean_rewards, self.mean_shaped_rewards, self.mean_lengths
