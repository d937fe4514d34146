"""Other trainers for `phalanx bench against=`, each used as in its own documentation.

rl_games and rsl_rl train in the same Phalanx environment, through `phalanx.adapters`, with the
hyperparameters of the same train config: rl_games reads the file itself, rsl_rl gets a translation.
rsl_rl does not normalise values and has separate networks for actor and critic; use
`train.params.config.normalize_value=false train.params.network.separate=true` for an equal
comparison. mjlab includes task, physics and trainer, so it trains its own task; only the number of
environments is the same.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch

from phalanx.cli.instruments import StopTrainer, Windows
from phalanx.errors import PhalanxError

MJLAB_TASKS = {"Cartpole": "Mjlab-Cartpole-Balance"}


@dataclass(frozen=True)
class Peer:
    """`train(params, device, folder, windows)` trains until the windows are full."""

    train: Callable[[dict[str, Any], torch.device, str, Windows], None]
    module: str
    package: str
    """Its name for pip."""
    note: str = ""
    brings: tuple[str, ...] = ()
    """Other packages that affect its speed."""


def rl_games(
    params: dict[str, Any], device: torch.device, folder: str, windows: Windows, compiled: bool
) -> None:
    """RL Games' own Runner; `compiled`: with torch.compile, which is its default."""
    from rl_games.common.algo_observer import AlgoObserver
    from rl_games.torch_runner import Runner

    import phalanx.adapters.rl_games  # noqa: F401, registers the tasks

    class Marks(AlgoObserver):
        def after_print_stats(self, frame: int, epoch_num: int, total_time: float) -> None:
            if windows.mark(frame):
                raise StopTrainer

    config = {k: v for k, v in params["config"].items() if k != "sim_device"}
    config |= {"env_name": config["name"], "device": str(device), "torch_compile": compiled}
    config["env_config"] = {**config["env_config"], "device": str(device)}
    if config.get("value_bootstrap", "reached") == "reached":  # only Phalanx has this value
        config["value_bootstrap"] = True
    runner = Runner(Marks())
    runner.load({"params": {**params, "config": config}})
    runner.run({"train": True})


def rsl_rl(params: dict[str, Any], device: torch.device, folder: str, windows: Windows) -> None:
    """rsl_rl's OnPolicyRunner."""
    from rsl_rl.runners import OnPolicyRunner

    from phalanx.adapters.rsl_rl import RslRlVecEnv
    from phalanx.rl.config import PPOConfig

    if params["algo"]["name"] != "a2c_continuous" or "rnn" in params["network"]:
        raise PhalanxError(
            "against=rsl_rl supports only PPO with continuous actions and without memory"
        )
    given = params["config"]
    c = {**{f: x.default for f, x in PPOConfig.__dataclass_fields__.items()}, **given}
    n, horizon = c["num_actors"], c["horizon_length"]
    minibatch = c["minibatch_size"] or c["minibatch_size_per_env"] * n
    mlp = {
        "class_name": "MLPModel",
        "hidden_dims": params["network"]["mlp"]["units"],
        "activation": params["network"]["mlp"]["activation"],
        "obs_normalization": c["normalize_input"],
    }
    gaussian = {"class_name": "GaussianDistribution", "init_std": 1.0}
    config = {
        "num_steps_per_env": horizon,
        "save_interval": 10**9,
        "obs_groups": {"actor": ["policy"], "critic": ["policy"]},
        "algorithm": {
            "class_name": "PPO",
            "learning_rate": c["learning_rate"],
            "schedule": "adaptive" if c["lr_schedule"] == "adaptive" else "fixed",
            "desired_kl": c["kl_threshold"],
            "num_learning_epochs": c["mini_epochs"],
            "num_mini_batches": n * horizon // minibatch,
            "clip_param": c["e_clip"],
            "value_loss_coef": c["critic_coef"] / 2,
            "use_clipped_value_loss": c["clip_value"],
            "entropy_coef": c["entropy_coef"],
            "gamma": c["gamma"],
            "lam": c["tau"],
            "max_grad_norm": c["grad_norm"] if c["truncate_grads"] else float("inf"),
        },
        "actor": {**mlp, "distribution_cfg": gaussian},
        "critic": mlp,
    }
    env = RslRlVecEnv(c["name"], num_envs=n, device=str(device), **c["env_config"])
    _learn(OnPolicyRunner(env, config, folder, device=str(device)), n * horizon, windows)


def mjlab(params: dict[str, Any], device: torch.device, folder: str, windows: Windows) -> None:
    """mjlab 1.6's task and runner, as in its `mjlab.scripts.train`."""
    from dataclasses import asdict

    import mjlab.tasks  # noqa: F401, registers the tasks
    from mjlab.envs import ManagerBasedRlEnv
    from mjlab.rl import MjlabOnPolicyRunner, RslRlVecEnvWrapper
    from mjlab.tasks.registry import load_env_cfg, load_rl_cfg, load_runner_cls
    from mjlab.utils.torch import configure_torch_backends

    task = MJLAB_TASKS[params["config"]["name"]]
    configure_torch_backends()
    env_cfg, agent_cfg = load_env_cfg(task), load_rl_cfg(task)
    n = env_cfg.scene.num_envs = params["config"]["num_actors"]
    env_cfg.seed = agent_cfg.seed = params["seed"]
    agent_cfg.logger, agent_cfg.upload_model = "tensorboard", False
    agent_cfg.save_interval = 10**9
    wrapped = ManagerBasedRlEnv(cfg=env_cfg, device=str(device))
    env = RslRlVecEnvWrapper(wrapped, clip_actions=agent_cfg.clip_actions)
    runner_class = load_runner_cls(task) or MjlabOnPolicyRunner
    runner = runner_class(env, asdict(agent_cfg), folder, str(device))
    _learn(runner, n * agent_cfg.num_steps_per_env, windows)


def _learn(runner: Any, steps: int, windows: Windows) -> None:
    """Train with rsl_rl's runner; an iteration has `steps` environment steps."""
    log, frames = runner.logger.log, 0

    def log_and_mark(*args: Any, **kwargs: Any) -> None:
        nonlocal frames
        log(*args, **kwargs)
        frames += steps
        if windows.mark(frames):
            raise StopTrainer

    runner.logger.log = log_and_mark
    runner.learn(10**9, init_at_random_ep_len=True)


PEERS = {
    "rl_games": Peer(partial(rl_games, compiled=True), "rl_games", "rl-games"),
    "rl_games_eager": Peer(partial(rl_games, compiled=False), "rl_games", "rl-games"),
    "rsl_rl": Peer(rsl_rl, "rsl_rl", "rsl-rl-lib"),
    "mjlab": Peer(
        mjlab,
        "mjlab",
        "mjlab",
        note="made for GPUs; its own task, 5 physics steps per environment step",
        brings=("rsl-rl-lib",),
    ),
}
