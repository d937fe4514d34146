"""`Run`: one training run, with its environment, loop, limits and files.

Read `Run.train` and `Run.iterate` first; then `PPO.collect` and `PPO.learn` in `ppo.py`, with the
buffers of `rollout.py`. These three files contain one whole iteration.
"""

from collections.abc import Callable
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any

import torch

from phalanx.compute.determinism import make_deterministic
from phalanx.compute.graphs import EAGER_CALLS, Graphs
from phalanx.config import read
from phalanx.rl import ranks, run_state
from phalanx.rl.blame import why_not_finite
from phalanx.rl.build import make_env
from phalanx.rl.journal import Journal
from phalanx.rl.observer import AlgoObserver, overrides_process_infos
from phalanx.rl.params import keys_without_effect
from phalanx.rl.restart import RestartPoint
from phalanx.rl.run_folder import of_this_rank
from phalanx.rl.saving import Saving

ITERATIONS_BETWEEN_READS = {"cpu": 1, "cuda": 8}
"""Iterations between two reads of the device's statistics: each read waits for the device. Several
ranks on CUDA also wait for each other, and read every other time; not more seldom, as they only
stop when they read."""


class Run:
    """One training run of `agent`, an `Agent`: a learner with RL Games' methods, of which a
    subclass may override `train_epoch`, `env_step`, `get_full_state_weights`, ...

    params: the YAML's `params` mapping.
    """

    def __init__(self, agent: Any, base_name: str, params: dict[str, Any]) -> None:
        self.agent = agent
        raw = params.get("config", {})
        self.config = c = read(agent.Config, raw, "params.config")
        self.no_effect = keys_without_effect(params, agent.Config)
        stamp = datetime.now().strftime("%d-%H-%M-%S")
        self.experiment_name = c.full_experiment_name or f"{c.name}_{stamp}"
        self.observer: AlgoObserver = c.features.get("observer") or AlgoObserver()
        self.observer.before_init(base_name, raw, self.experiment_name)
        if c.deterministic:
            make_deterministic()
        self.env: Any = make_env(c)
        agent.check_spaces(self.env, c)
        device = torch.device(self.env.device)
        self.folder = of_this_rank(Path(c.train_dir) / self.experiment_name, device)
        # TF32 products, 10 bits of mantissa, as RL Games had with Isaac Gym's PyTorch.
        torch.backends.cuda.matmul.allow_tf32 = True

        self.watched = overrides_process_infos(self.observer)
        self.captures_update = device.type == "cuda"
        """Whether learning runs as captured CUDA graphs."""
        can = self.captures_update and hasattr(self.env, "capture")
        self.captures = can and not self.watched
        """Whether environment steps run as captured CUDA graphs, too."""
        self.seed: int | None = None if params.get("seed") in (None, -1) else int(params["seed"])
        """Seed of the first rank, None if nobody gave one."""
        self.epoch_num = 0
        self.frame = 0
        reads = ITERATIONS_BETWEEN_READS[device.type]
        if device.type == "cuda" and ranks.size() > 1:
            reads *= 2
        self.journal = Journal(c, device)
        self.saving = Saving(c, reads)
        self.task_scalars: dict[str, float] = {}
        """The latest of each number that the environment's `scalars` returned."""
        self.warnings: list[str] = []
        self._subjects: set[str] = set()
        self._absurd_reward = ""
        self.stop_reason = ""
        self.episodes_restored = False
        self._reads = reads
        self._stop_request = ""
        self._restart = RestartPoint(self)
        self.graphs = Graphs(self.warn, device)

    # -- the loop ----------------------------------------------------------------------------------

    @property
    def frames_per_iteration(self) -> int:
        """Environment steps per iteration, of all ranks together."""
        return int(self.agent.batch_size * ranks.size())

    def train(self) -> tuple[float, int]:
        """Train until a limit is reached; returns best mean return and number of iterations."""
        with ranks.naming_what_is_left(self.folder.nn_dir / f"{self.saving.last}.pth"):
            return self._train()

    def _train(self) -> tuple[float, int]:
        agent, journal, c = self.agent, self.journal, self.config
        self.observer.before_training(agent)
        if not self.episodes_restored:
            agent.reset(agent.hooked_env)
        if self.captures:
            self.rehearse()
        elif getattr(c, "torch_compile", False) and hasattr(self.env, "compile_on_cpu"):
            self.env.compile_on_cpu(self.warn)
        with self.folder.opened(self.frame):
            self.observer.after_init(agent)
            journal.start()
            self._save(self.saving.last)
            self._restart.save(best=False, due=[])
            self.stop_reason = c.limit_reached(
                self.epoch_num, self.frame
            )  # a finished run trains no further
            while not self.stop_reason:
                agent.update_epoch()
                agent.train_epoch()
                self.frame += self.frames_per_iteration
                journal.record(self.epoch_num, self.frame, agent.statistics())
                reads = self.epoch_num % self._reads == 0
                ends = c.limit_reached(self.epoch_num, self.frame)
                if reads or ranks.size() == 1:
                    ends = ranks.from_any(self._stop_request) or ends
                if ends or reads:
                    self.write_files()  # the last reading's, while the device works
                    if self._restart.repeat_after_overflow():
                        continue
                    self.stop_reason = ends
                    self._read_statistics()
                    best, due, won = self.saving.due(self.epoch_num, journal.meters.rewards)
                    self.stop_reason = self.stop_reason or won
                    self._restart.save(best, due)
            self.write_files(at_end=True)
            self._save(*self.saving.final(self, self.folder.nn_dir))
            self.observer.after_training()
        return self.saving.best, self.epoch_num

    def iterate(self, after_steps: Callable[[], None]) -> None:
        """Run one iteration of the learner, without waiting for the device."""
        learner, clock = self.agent, self.journal.clock
        learner.begin_iteration(self.epoch_num, self.frame)
        if learner.resets_in(self.epoch_num):
            learner.reset(learner.hooked_env)
        for k in range(learner.rounds):
            clock.start()
            self.collect()
            learner.collected(k)
            clock.stop("rollout", learner.rounds)
            after_steps()
            clock.start()
            if learner.ready:
                if self.captures_update:
                    self.graphs.launch(("learn", learner.learn_variant), learner.learn)
                else:
                    learner.learn()
                learner.learned()
            clock.stop("update", learner.rounds)

    def collect(self) -> None:
        """Run one round of the learner's environment steps."""
        learner, env = self.agent, self.agent.hooked_env
        if self.captures:
            key = ("collect", learner.collect_variant)
            self.graphs.launch(key, lambda: learner.collect(env), self.env.capture)
        elif self.captures_update:
            learner.collect_between_steps(env, self.graphs)
        else:
            learner.collect(env)

    def rehearse(self) -> None:
        """Iterate until kernels are compiled and graphs captured, then restore everything. The
        run's clock starts afterwards."""
        before = run_state.copied(self.agent.get_full_state_weights())
        for _ in range(EAGER_CALLS + 1):  # eagerly, then captured
            self.iterate(lambda: None)
        self.agent.set_full_state_weights(before)

    # -- limits and messages -----------------------------------------------------------------------

    def request_stop(self, reason: str) -> None:
        """Save and stop after the current iteration; with several ranks, after the next reading of
        the statistics."""
        self._stop_request = reason

    def warn(self, sentence: str) -> None:
        """Add a sentence to `warnings`, which observers show once each."""
        if sentence and sentence not in self.warnings:
            self.warnings.append(sentence)

    def _warn_of_env(self) -> None:
        """Say what the environment reports: on each subject the first sentence and, when the run
        ends, the last, since counts in it grow all the time."""
        if hasattr(self.env, "reports"):
            for subject, sentence in self.env.reports().items():
                if subject not in self._subjects or self.stop_reason:
                    self._subjects.add(subject)
                    self.warn(sentence)
        elif hasattr(self.env, "report"):
            self.warn(self.env.report())

    def _warn_of_rewards(self) -> None:
        if self._absurd_reward:  # once in a run
            return
        own = self.agent.num_actors * ranks.size()
        steps = self.agent.batch_size // self.agent.num_actors
        sentence = self.agent.absurd.report(self.epoch_num, steps, self.frame // own)
        self._absurd_reward = ranks.from_any(sentence)  # the first rank alone is heard
        self.warn(self._absurd_reward)

    def _read_statistics(self) -> None:
        last = self.folder.nn_dir / f"{self.saving.last}.pth"
        blame = partial(why_not_finite, self, self._restart.state, self._reads)
        self.journal.read(self.agent, self.folder, blame, last)
        if hasattr(self.env, "scalars"):
            scalars = ranks.mean_of(self.env.scalars())
            self.task_scalars |= scalars
            self.folder.log(scalars, self.frame)
        self._warn_of_env()
        self._warn_of_rewards()
        self.observer.after_print_stats(self.frame, self.epoch_num, self.journal.total_time)

    # -- files -------------------------------------------------------------------------------------

    def _save(self, *names: str) -> None:
        """Write the current state to checkpoints nn/<name>.pth."""
        state = run_state.of_all_ranks(self.agent.get_full_state_weights())
        for name in names:
            path = self.folder.save(self.folder.nn_dir / name, state)
            if ranks.rank() == 0:
                self.observer.after_save(path)

    def write_files(self, at_end: bool = False) -> None:
        """Write what the folder has queued; see `RunFolder.flush`."""
        for path in self.folder.flush(at_end):
            self.observer.after_save(path)
