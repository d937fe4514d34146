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

from phalanx.config import read
from phalanx.errors import PhalanxError
from phalanx.rl import checkpoint, registry, vecenv
from phalanx.rl.config import AgentConfig
from phalanx.rl.nested import nested
from phalanx.rl.observer import AlgoObserver, watches_steps
from phalanx.rl.optimizer import optimizer_state
from phalanx.rl.rollout import Meter
from phalanx.spaces import Box, Discrete

SECONDS_BETWEEN_CHECKPOINTS = 10.0
FORMAT = 2
"""Of the `phalanx` section of a checkpoint; raised when what it holds changes."""
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
        self.config = read(self.Config, raw, "params.config", self.Config.NO_EFFECT)
        self.no_effect = sorted(self.Config.NO_EFFECT & set(raw))
        self.name = self.config.name
        stamp = datetime.now().strftime("%d-%H-%M-%S")
        self.experiment_name = self.config.full_experiment_name or f"{self.name}_{stamp}"
        self.experiment_dir = Path(self.config.train_dir) / self.experiment_name
        self.nn_dir = self.experiment_dir / "nn"
        self.summaries_dir = self.experiment_dir / "summaries"
        self.observer: AlgoObserver = self.config.features.get("observer") or AlgoObserver()
        self.observer.before_init(base_name, raw, self.experiment_name)

        self.vec_env: Any = make_env(self.config)
        self.check_spaces()
        self.num_actors = self.vec_env.num_envs
        self.device = torch.device(self.vec_env.device)
        self.batch_size = self.frames_per_iteration()
        self.model = build_model(params, self.config, self.vec_env).to(self.device)

        self.obs: dict[str, Tensor] = {}
        self._watched = watches_steps(self.observer)
        self.captures = self.device.type == "cuda" and hasattr(self.vec_env, "capture")
        """Whether iterations run as captured CUDA graphs."""
        self.captures &= not self._watched

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
        self.writer: Any = None
        self._unread: list[tuple[int, int, Tensor]] = []
        self._clock = _Clock(self.device)
        self._read_at = self._saved_at = 0.0
        self._restored_env = False
        self._reads = ITERATIONS_BETWEEN_READS[self.device.type]

    # -- the loop --------------------------------------------------------------------------------

    def train(self) -> tuple[float, int]:
        """Train until a limit is reached; returns best mean return and number of iterations."""
        self.init_tensors()
        if not self._restored_env:
            self.env_reset()
        self._open_run_folder()
        self.observer.after_init(self)
        self._read_at = time.perf_counter()
        self.save(self.nn_dir / f"last_{self.name}")
        self._keep_restart_point()
        self.stop_reason = self._limit_reached()  # a finished run that is resumed trains no further
        while not self.stop_reason:
            self.update_epoch()
            self.train_epoch()
            self.frame += self.batch_size
            self._unread.append((self.epoch_num, self.frame, self.statistics().clone()))
            ends = self._stop_request or self._limit_reached()
            if ends or self.epoch_num % self._reads == 0:
                if self._repeat_after_overflow():
                    continue
                self.stop_reason = ends
                self._read_statistics()
                self._save_what_is_due()
                self._keep_restart_point()
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
        times = self._clock.read()
        self.fps = {
            "total": self.batch_size / max(seconds, 1e-9),
            "rollout": self.batch_size / max(times["rollout"], 1e-9),
        }
        for (epoch, frame, _), row in zip(self._unread, rows, strict=True):
            if not all(map(math.isfinite, row)):
                raise PhalanxError(self._why_not_finite(epoch))
            self.total_time += seconds
            scalars = self.log_statistics(row)
            scalars["performance/step_inference_rl_update_fps"] = self.fps["total"]
            scalars["performance/step_inference_fps"] = self.fps["rollout"]
            scalars["performance/rl_update_time"] = times["update"]
            scalars["performance/step_inference_time"] = times["rollout"]
            if "step" in times:
                scalars["performance/step_fps"] = self.batch_size / max(times["step"], 1e-9)
                scalars["performance/step_time"] = times["step"]
            self._write(scalars, epoch, frame)
            self.last_stats = scalars
        self._unread.clear()
        self._check_environments()
        self.observer.after_print_stats(self.frame, self.epoch_num, self.total_time)

    def remembered(self) -> dict[str, Any]:
        """What the environments gave and learning used, by name, the environment first."""
        return {}

    def _why_not_finite(self, epoch: int) -> str:
        """A sentence on where numbers stopped being finite; nothing has been saved since."""
        found = f"in iteration {epoch} the losses became NaN or infinite"
        saved = f"; the checkpoint before that is {self.nn_dir / f'last_{self.name}.pth'}"
        for name, values in self.remembered().items():
            bad: list[Tensor] = []
            nested(lambda x, bad=bad: bad.append(~x.isfinite().flatten(1).all(1)), values)
            envs = torch.stack(bad).any(0).nonzero()[:, 0].tolist()
            if envs:
                return (
                    f"{found}: the {name} of {len(envs)} of {self.num_actors} environments, first"
                    f" of environment {envs[0]}, are not finite; correct the environment{saved}"
                )
        return f"{found}, rewards and observations are finite: try a lower learning rate{saved}"

    def _write(self, scalars: dict[str, float], epoch: int, frame: int) -> None:
        for tag, value in scalars.items():
            self.writer.add_scalar(tag, value, frame)
        self.writer.add_scalar("info/epochs", epoch, frame)
        if not self.mean_rewards.size:
            return
        for tag, meter in (
            ("rewards", self.mean_rewards),
            ("shaped_rewards", self.mean_shaped_rewards),
            ("episode_lengths", self.mean_lengths),
        ):
            for axis, x in (("step", frame), ("iter", epoch), ("time", self.total_time)):
                self.writer.add_scalar(f"{tag}/{axis}", meter.mean, x)
        # Names that other trainers' tools look for.
        self.writer.add_scalar("ep_rew_mean", self.mean_rewards.mean, frame)
        self.writer.add_scalar("ep_len_mean", self.mean_lengths.mean, frame)
        self.writer.add_scalar("approxkl", scalars.get("info/kl", 0.0), frame)

    def _keep_restart_point(self) -> None:
        """Where captured steps cannot look for overflow, keep what it takes to repeat them."""
        if self.captures:
            self._restart_point = copy.deepcopy(self.get_full_state_weights())

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

    def _check_environments(self) -> None:
        report = self.vec_env.report() if hasattr(self.vec_env, "report") else ""
        if report:
            self.warn(report)

    def forget_graphs(self) -> None:
        """Captured graphs are stale: capture them again."""

    def warn(self, sentence: str) -> None:
        """Something the user should know; observers show `warnings`, each sentence once."""
        if sentence not in self.warnings:
            self.warnings.append(sentence)

    # -- checkpoints -----------------------------------------------------------------------------

    def _save_what_is_due(self) -> None:
        c, mean = self.config, self.mean_rewards
        stem = f"last_{self.name}_ep_{self.epoch_num}_rew_{mean.mean:.4f}"
        period = c.save_frequency
        if period and self.epoch_num // period > (self.epoch_num - self._reads) // period:
            self.save(self.nn_dir / stem)
        if mean.size and mean.mean > self.last_mean_rewards and self.epoch_num >= c.save_best_after:
            self.last_mean_rewards = mean.mean
            self.save(self.nn_dir / self.name)
            if self.last_mean_rewards > c.score_to_win:
                self.stop_reason = self.stop_reason or f"score_to_win {c.score_to_win:g} exceeded"
        if time.perf_counter() - self._saved_at > SECONDS_BETWEEN_CHECKPOINTS:
            self.save(self.nn_dir / f"last_{self.name}")

    def save(self, fn: str | Path) -> Path:
        """Write a checkpoint to `fn` + ".pth", whole or not at all."""
        path = Path(f"{fn}.pth")
        checkpoint.save(path, self.get_full_state_weights())
        if path.name.startswith("last_"):
            self._saved_at = time.perf_counter()
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
                "format": FORMAT,
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
        if own and own.get("format") != FORMAT:
            raise PhalanxError(
                f"{source} was written by another version of Phalanx (format {own.get('format')},"
                f" this one reads {FORMAT}); play it there, or train anew"
            )
        if own and own["name"] != self.name:
            raise PhalanxError(
                f"{source} is a checkpoint of {own['name']!r}, not of {self.name!r};"
                f" use task={own['name']}"
            )
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

    def _open_run_folder(self) -> None:
        from torch.utils.tensorboard import SummaryWriter

        try:
            self.nn_dir.mkdir(parents=True, exist_ok=True)
            for leftover in self.nn_dir.glob(".*.pth.tmp"):  # of a run that was killed
                leftover.unlink()
            # Points after the checkpoint, of a run that was killed later, are replaced.
            self.writer = SummaryWriter(str(self.summaries_dir), purge_step=self.frame or None)
        except OSError as error:
            reason = (error.strerror or str(error)).lower()
            raise PhalanxError(
                f"cannot write to the run folder {self.experiment_dir}: {reason};"
                " choose another with train_dir="
            ) from error


def make_env(config: AgentConfig) -> Any:
    """The environment that a config names, on the device where the network is."""
    own = {"name": config.name, "num_envs": config.num_actors}
    own["device"] = config.sim_device or config.device
    env = vecenv.create(config.env_name, **{**own, **config.env_config})
    device = torch.device(env.device if config.device == "auto" else config.device)
    return env if device == env.device else vecenv.OnDevice(env, device)


def build_model(params: dict[str, Any], config: AgentConfig, env: Any) -> Any:
    """The model that `params` names, for the spaces of `env`."""
    space = env.action_space
    actions: Any
    if isinstance(space, Box):
        default, actions = "continuous_a2c_logstd", space.shape[0]
    elif isinstance(space, Discrete):
        default, actions = "discrete_a2c", space.n
    else:
        default, actions = "multi_discrete_a2c", space.nvec
    network = params.get("network")
    if not isinstance(network, dict) or "name" not in network:
        raise PhalanxError("params.network is missing or has no `name`, as in `name: actor_critic`")
    builder = registry.networks.create(network["name"])
    builder.load(network)
    model = registry.models.create(params.get("model", {}).get("name", default), network=builder)
    return model.build(
        {
            "actions_num": actions,
            "input_shape": env.observation_space.shape,
            "num_seqs": env.num_envs,
            "value_size": getattr(env, "value_size", 1),
            "normalize_value": config.normalize_value,
            "normalize_input": config.normalize_input,
        }
    )


class _Clock:
    """Seconds of the last rollout and update, on the device where they run."""

    def __init__(self, device: torch.device) -> None:
        self._cuda = device.type == "cuda"
        self._marks: dict[str, tuple[Any, Any, int]] = {}
        self._start: Any = None

    def start(self) -> None:
        self._start = self._now()

    def stop(self, name: str, repeats: int = 1) -> None:
        """What ran since `start` was one of `repeats` that an iteration takes."""
        self._marks[name] = (self._start, self._now(), repeats)

    def read(self) -> dict[str, float]:
        """Seconds by name; on CUDA after the device has been waited for."""
        if self._cuda:
            return {n: k * a.elapsed_time(b) / 1e3 for n, (a, b, k) in self._marks.items()}
        return {n: k * (b - a) for n, (a, b, k) in self._marks.items()}

    def _now(self) -> Any:
        if not self._cuda:
            return time.perf_counter()
        event = torch.cuda.Event(enable_timing=True)
        event.record()
        return event
