"""One measurement of `phalanx bench`, in its own process, so that memory and failures are isolated.

It reads a `Job` from stdin and writes rows to stdout as they are ready, one JSON object per line;
output of libraries goes to stderr. The key `measures` of a row is one of:

- `start-up`: from the start of the process until the agent is built and physics has stepped once
  [s].
- `physics`: `sim.advance` alone, with the controls of one random action.
- `environment`: `task.step` with new random actions: physics, observations, rewards, resets.
- `rollout`: the agent's collection of a batch: policy, environment, storage, advantages.
- `training`: `agent.train()` as `phalanx train` runs it: rollouts, learning, logs, checkpoints;
  `physics_alone` is the speed of physics alone, from the states in which training ended.
- `time to return R`: from the first iteration until the mean return of the last `games_to_track`
  episodes is R [s]; None if training ended first.

Speeds are environment steps/s of all environments together, in each of `WINDOWS` time windows. On
CUDA physics and environment are captured as one graph with the number of steps of a rollout,
rollout and training are captured by the agent itself, and windows begin and end with a
synchronisation. Memory is the peak of the process up to that row: physical memory on the CPU; on
CUDA the memory in use on the device, including graphs, caches and Warp's buffers.
"""

import contextlib
import copy
import json
import os
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from phalanx.cli.config import compose_config, resolved, train_params
from phalanx.cli.instruments import (
    WARM_UP,
    WINDOWS,
    Memory,
    StopTrainer,
    Windows,
    speeds,
    synchronize,
)
from phalanx.compute.graphs import Graph
from phalanx.errors import PhalanxError
from phalanx.rl import AlgoObserver, Runner
from phalanx.sim import resolve_device
from phalanx.spaces import Box, Discrete

ENDLESS = ("max_iterations=1000000000", "train.params.config.score_to_win=1e30")


@dataclass(frozen=True)
class Job:
    """One measurement."""

    trainer: str
    """`phalanx`, or one of `peers.PEERS`."""
    arguments: list[str]
    """Arguments as for `phalanx train`, with one task and one number of environments."""
    seconds: float = 5.0
    """Total duration of all windows of one row [s]."""
    started: float = 0.0
    """`time.monotonic()`, which processes share, at the start of this one [s]."""
    eager: bool = False
    """Measure without CUDA graphs and fused kernels."""
    target: float | None = None
    """Measure the time to this return instead of speeds."""


Emit = Callable[[dict[str, Any]], None]


class _Trained(AlgoObserver):
    """Ends training after the last window."""

    def __init__(self, windows: Windows) -> None:
        self.windows = windows

    def after_init(self, algo: Any) -> None:
        self.agent = algo

    def after_print_stats(self, frame: int, epoch_num: int, total_time: float) -> None:
        if self.windows.mark(frame):
            self.agent.request_stop("measured")


class _Reached(AlgoObserver):
    """Ends training when the mean return is reached."""

    def __init__(self, target: float) -> None:
        self.target = target
        self.seconds: float | None = None

    def after_init(self, algo: Any) -> None:
        self.agent = algo
        self._start = time.perf_counter()

    def after_print_stats(self, frame: int, epoch_num: int, total_time: float) -> None:
        returns = self.agent.mean_rewards
        full = returns.size >= returns.window
        if self.seconds is None and full and returns.mean >= self.target:
            self.seconds = time.perf_counter() - self._start
            self.agent.request_stop("return reached")


def random_actions(space: Any, num_envs: int, device: torch.device) -> Tensor:
    """Uniformly random actions (N, A), or (N,) integers, for `task.step`."""
    if isinstance(space, Box):
        return torch.rand(num_envs, *space.shape, device=device) * 2 - 1
    if isinstance(space, Discrete):
        return torch.randint(space.n, (num_envs,), device=device)
    return torch.stack([torch.randint(n, (num_envs,), device=device) for n in space.nvec], 1)


def measure_speeds(job: Job, params: dict[str, Any], emit: Emit) -> None:
    """Rows of one agent and its environments; each row includes more than the one before."""
    device = resolve_device(params["config"]["sim_device"])
    memory = Memory(device)
    windows = Windows(job.seconds, device)
    agent = _agent(params, _Trained(windows))
    if job.eager:
        agent.captures = agent.captures_update = False
    task = getattr(agent.vec_env, "env", agent.vec_env)  # not the wrapper for rl_device
    n = task.num_envs
    about = {
        "device": str(device),
        "engine": task.sim.engine.name,
        "captured": agent.captures,
        "physics_steps_per_step": task.sim.substeps,
    }

    def row(measures: str, values: list[float], unit: str = "steps/s", **more: Any) -> None:
        emit({"measures": measures, "unit": unit, "values": values, "memory_gb": memory.read()}
             | about | more)  # fmt: skip

    def measure(measures: str, step: Callable[[], Any]) -> None:
        task.reset()
        in_a_call = agent.batch_size // n if agent.captures else 1

        def call() -> None:
            for _ in range(in_a_call):
                step()

        graph = Graph(call, task.capture)
        step_all = graph if agent.captures else call
        steps = in_a_call * n
        row(measures, _without_overflow(task, step_all, graph.reset, steps, job.seconds, device))

    row("start-up", [time.monotonic() - job.started], "s")
    with torch.no_grad():
        task.reset()
        task.pre_physics_step(random_actions(task.action_space, n, device))
        measure("physics", task.sim.advance)
        measure("environment", lambda: task.step(random_actions(task.action_space, n, device)))
    agent.reset(agent.hooked_env)
    steps = agent.batch_size // agent.rounds
    collect, forget = agent.run.collect, agent.run.graphs.forget
    row("rollout", _without_overflow(task, collect, forget, steps, job.seconds, device))
    agent.train()
    row("training", windows.speeds, physics_alone=_physics_alone(agent, task, device))


def measure_time(job: Job, params: dict[str, Any], emit: Emit) -> None:
    """One row: seconds until the mean return is reached."""
    assert job.target is not None
    reached = _Reached(job.target)
    agent = _agent(params, reached)
    agent.train()
    emit(
        {
            "measures": f"time to return {job.target:g}",
            "unit": "s",
            "values": [reached.seconds],
            "frames": [agent.frame],
            "final_return": [agent.mean_rewards.mean if agent.mean_rewards.size else None],
            "device": str(agent.device),
            "captured": agent.captures,
        }
    )


def measure_peer(job: Job, params: dict[str, Any], folder: str, emit: Emit) -> None:
    """One row: training of another trainer."""
    from phalanx.cli.peers import PEERS

    device = resolve_device(params["config"]["sim_device"])
    memory, windows = Memory(device), Windows(job.seconds, device)
    with contextlib.suppress(StopTrainer):
        PEERS[job.trainer].train(params, device, folder, windows)
    emit(
        {
            "measures": "training",
            "unit": "steps/s",
            "values": windows.speeds,
            "memory_gb": memory.read(),
            "device": str(device),
        }
    )


def _agent(params: dict[str, Any], observer: AlgoObserver) -> Any:
    runner = Runner(observer)
    runner.load({"params": params})
    return runner.algo_factory.create(runner.algo_name, base_name="bench", params=runner.params)


def _physics_alone(agent: Any, task: Any, device: torch.device) -> list[float]:
    """Steps/s of a rollout's physics steps, each time from the states at the end of training:
    moving robots take longer to simulate than robots that lie still."""
    steps = agent.batch_size // task.num_envs
    state = copy.deepcopy(task.sim.state_dict())

    def call() -> None:
        for _ in range(steps):
            task.sim.advance()

    physics = Graph(call, task.capture) if agent.captures else call
    values = []
    for _ in range(WARM_UP + WINDOWS):
        task.sim.load_state_dict(state)
        synchronize(device)
        start = time.perf_counter()
        physics()
        synchronize(device)
        values.append(agent.batch_size / (time.perf_counter() - start))
    return values[WARM_UP:]


def _without_overflow(
    task: Any, call: Any, forget: Callable[[], None], steps: int, seconds: float, device: Any
) -> list:
    """`speeds`, measured again if contacts overflowed their buffers; `forget` drops invalid
    graphs."""
    while True:
        values = speeds(call, steps, seconds, device)
        if not task.grow():
            return values
        forget()


def run(job: Job, emit: Emit) -> None:
    """Measure, and pass each row to `emit` when it is ready. Raises PhalanxError for bad input."""
    # A trainer that was interrupted may still be writing its summaries.
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        changes = ENDLESS if job.target is None else ENDLESS[1:]
        arguments = [*job.arguments, *changes, f"train_dir={folder}", "experiment=bench"]
        config = resolved(compose_config(arguments))
        params = train_params(config)
        if job.eager:
            params["config"]["torch_compile"] = False
        if job.trainer != "phalanx":
            measure_peer(job, params, folder, emit)
        elif job.target is not None:
            measure_time(job, params, emit)
        else:
            measure_speeds(job, params, emit)


def main() -> None:
    """Run the job on stdin. If it fails, the last row gives the reason, and the exit code is 1."""
    # stdout is for rows only; other output goes to stderr.
    rows = os.fdopen(os.dup(1), "w", buffering=1, encoding="utf-8")
    os.dup2(2, 1)
    emit: Emit = lambda row: print(json.dumps(row), file=rows)  # noqa: E731
    try:
        run(Job(**json.load(sys.stdin)), emit)
    except PhalanxError as error:
        emit({"failed": str(error)})
        sys.exit(1)
    except Exception as error:
        traceback.print_exc()
        emit({"failed": " ".join(f"{type(error).__name__}: {error}".split())})
        sys.exit(1)
