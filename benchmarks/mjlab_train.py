"""Trains mjlab's flat velocity task of the Go1 or the G1 and measures it, to compare with Phalanx.

    python benchmarks/mjlab_train.py task=go1 num_envs=4096 seconds=60 out=mjlab_go1.json

runs in an environment with mjlab 1.6 what its own script does,
`train Mjlab-Velocity-Flat-Unitree-Go1 --env.scene.num-envs 4096 --agent.logger tensorboard
--agent.upload-model False`, on the first GPU, else on the CPU. Nothing of mjlab or rsl_rl is
replaced: the clock is read where rsl_rl logs an iteration. The first ten iterations are not
measured; then it trains for `seconds`. mjlab writes its logs into the folder `logs`.

Prints one line of JSON and writes it to `out`. Ours, on the same machine, with the PPO of the same
settings: `phalanx bench task=Go1VelocityMjlab num_envs=4096`.
"""

import datetime
import json
import platform
import statistics
import sys
import time
from contextlib import suppress
from importlib.metadata import version
from itertools import pairwise
from typing import Any

import mjlab.tasks  # noqa: F401  registers the tasks
import rsl_rl.utils.logger
import torch
import warp
from mjlab.envs import ManagerBasedRlEnv
from mjlab.scripts.train import TrainConfig, launch_training

TASKS = {"go1": "Mjlab-Velocity-Flat-Unitree-Go1", "g1": "Mjlab-Velocity-Flat-Unitree-G1"}
SKIPPED = 10
"""Iterations at the start that are not measured."""


class Enough(Exception):
    """Ends a training."""


class Clock:
    """Reads the clock where rsl_rl logs an iteration, and ends the training after `seconds`."""

    def __init__(self, seconds: float) -> None:
        self.collect, self.learn, self.ends = [], [], []
        self.reward: float | None = None
        log = rsl_rl.utils.logger.Logger.log

        def timed(logger: Any, *args: Any, **values: Any) -> None:
            log(logger, *args, **values)
            self.collect.append(values["collect_time"])
            self.learn.append(values["learn_time"])
            self.ends.append(time.perf_counter())
            if len(self.ends) > SKIPPED and self.ends[-1] - self.ends[SKIPPED - 1] >= seconds:
                self.reward = statistics.mean(logger.rewbuffer) if logger.rewbuffer else None
                raise Enough

        rsl_rl.utils.logger.Logger.log = timed

    def times(self, steps: int) -> dict[str, float]:
        """Of the measured iterations, each of `steps` environment steps."""
        ends, own = self.ends[SKIPPED - 1 :], slice(SKIPPED, None)
        walls = [b - a for a, b in pairwise(ends)]
        both = [c + u for c, u in zip(self.collect[own], self.learn[own], strict=True)]
        return {
            "iterations": len(walls),
            # by the wall clock, median with logging, and of the whole time with checkpoints
            "steps_per_second": round(steps / statistics.median(walls)),
            "steps_per_second_whole": round(steps * len(walls) / (ends[-1] - ends[0])),
            # as rsl_rl prints it, of collection and learning only
            "steps_per_second_rsl_rl": round(steps / statistics.median(both)),
            "iteration_s": statistics.median(walls),
            "collection_s": statistics.median(self.collect[own]),
            "learning_s": statistics.median(self.learn[own]),
        }


def main() -> None:
    began = time.perf_counter()
    given = dict(arg.split("=", 1) for arg in sys.argv[1:])
    task, num_envs = TASKS[given["task"]], int(given["num_envs"])
    cuda = torch.cuda.is_available()
    config = TrainConfig.from_task(task)
    if not cuda:
        config = TrainConfig(env=config.env, agent=config.agent, gpu_ids=None)
    config.env.scene.num_envs = num_envs
    config.agent.logger, config.agent.upload_model = "tensorboard", False

    made: list[ManagerBasedRlEnv] = []
    load = ManagerBasedRlEnv.load_managers

    def kept(env: ManagerBasedRlEnv) -> None:
        made.append(env)
        load(env)

    ManagerBasedRlEnv.load_managers = kept
    clock = Clock(float(given["seconds"]))
    with suppress(Enough):
        launch_training(task, config)

    (env,), agent = made, config.agent
    packages = ("mjlab", "mujoco", "mujoco-warp", "rsl-rl-lib", "numpy")
    result = {
        "date": str(datetime.date.today()),
        "command": f"python benchmarks/mjlab_train.py {' '.join(sys.argv[1:])}",
        "hardware": torch.cuda.get_device_name() if cuda else f"{platform.machine()}, CPU",
        "versions": {
            **{p: version(p) for p in packages},
            "warp": warp.config.version,
            "torch": torch.__version__,
            "python": platform.python_version(),
        },
        "task": task,
        "num_envs": num_envs,
        **clock.times(num_envs * agent.num_steps_per_env),
        "first_iteration_after_s": clock.ends[0] - began,
        "mean_return_at_the_end": clock.reward,
        "control_dt_s": env.step_dt,
        "physics_dt_s": env.physics_dt,
        "physics_steps_per_control_step": env.cfg.decimation,
        "cuda_graphs": bool(env.sim.use_cuda_graph and env.sim.step_graph),
        "cuda_driver": ".".join(map(str, warp.get_cuda_driver_version())) if cuda else None,
        "observations": {k: v[0] for k, v in env.observation_manager.group_obs_dim.items()},
        "colliding_shapes": int((env.sim.mj_model.geom_contype > 0).sum()),
        "steps_per_iteration_and_environment": agent.num_steps_per_env,
        "epochs": agent.algorithm.num_learning_epochs,
        "minibatches": agent.algorithm.num_mini_batches,
        "hidden": list(agent.actor.hidden_dims),
    }
    line = json.dumps(result)
    with open(given["out"], "w") as file:
        file.write(line + "\n")
    print(line)


if __name__ == "__main__":
    main()
