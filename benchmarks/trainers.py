"""Training steps/s of three trainers that drive the very same Phalanx environment.

    uv run python benchmarks/trainers.py num_envs=512 iterations=60 rounds=3 out=FILE.json

Phalanx, rl-games and rsl_rl run PPO on Cartpole with the same network (an actor and a critic of two
layers of 32), horizon, minibatches, passes, normalisation, clipping and adaptive learning rate, by
turns, each in a process of its own on all cores. Counted are frames over wall-clock time from a
third of the iterations to the end; start-up and compilation are not in it. rl-games runs with
its default torch.compile and without; its better figure counts in the ratio.
"""

import importlib.metadata
import json
import subprocess
import sys
import tempfile
import time

HORIZON, EPOCHS, UNITS, LR = 16, 8, [32, 32], 3e-4
TRAINERS = ("phalanx", "rl_games", "rl_games_compiled", "rsl_rl")


def params(num_envs: int, iterations: int, folder: str) -> dict:
    """RL Games' format, which Phalanx reads too."""
    continuous = {
        "mu_activation": "None",
        "sigma_activation": "None",
        "mu_init": {"name": "default"},
        "sigma_init": {"name": "const_initializer", "val": 0},
        "fixed_sigma": True,
    }
    return {
        "seed": 0,
        "algo": {"name": "a2c_continuous"},
        "model": {"name": "continuous_a2c_logstd"},
        "network": {
            "name": "actor_critic",
            "separate": True,
            "space": {"continuous": continuous},
            "mlp": {"units": UNITS, "activation": "elu", "initializer": {"name": "default"}},
        },
        "config": {
            "name": "Cartpole",
            "env_name": "Cartpole",
            "env_config": {"device": "cpu"},
            "device": "cpu",
            "num_actors": num_envs,
            "normalize_input": True,
            "normalize_value": False,
            "normalize_advantage": True,
            "value_bootstrap": True,
            "reward_shaper": {"scale_value": 1.0},
            "gamma": 0.99,
            "tau": 0.95,
            "learning_rate": LR,
            "lr_schedule": "adaptive",
            "kl_threshold": 0.01,
            "e_clip": 0.2,
            "clip_value": True,
            "critic_coef": 2,
            "entropy_coef": 0.0,
            "bounds_loss_coef": 0.0,
            "truncate_grads": True,
            "grad_norm": 1.0,
            "horizon_length": HORIZON,
            "minibatch_size": HORIZON * num_envs,
            "mini_epochs": EPOCHS,
            "max_epochs": iterations,
            "save_best_after": 10**6,
            "train_dir": folder,
            "full_experiment_name": "run",
        },
    }


def phalanx(num_envs: int, iterations: int, folder: str) -> list[float]:
    from phalanx import tasks
    from phalanx.rl import AlgoObserver, Runner, vecenv

    class Clock(AlgoObserver):
        def __init__(self):
            self.marks = []

        def after_print_stats(self, *args):
            self.marks.append(time.perf_counter())

    vecenv.register(
        "Cartpole", lambda num_envs, device, **kwargs: tasks.make("Cartpole", num_envs, device)
    )
    p = params(num_envs, iterations, folder)
    del p["config"]["env_config"]
    clock = Clock()
    runner = Runner(clock)
    runner.load({"params": p})
    runner.run({"train": True})
    return clock.marks


def rl_games(num_envs: int, iterations: int, folder: str, compiled: bool = False) -> list[float]:
    from rl_games.common.algo_observer import AlgoObserver
    from rl_games.torch_runner import Runner

    import phalanx.adapters.rl_games  # noqa: F401, registers the task

    class Clock(AlgoObserver):
        def __init__(self):
            self.marks = []

        def after_print_stats(self, *args):
            self.marks.append(time.perf_counter())

    p = params(num_envs, iterations, folder)
    if not compiled:
        p["config"]["torch_compile"] = False
    clock = Clock()
    runner = Runner(clock)
    runner.load({"params": p})
    runner.run({"train": True})
    return clock.marks


def rsl_rl(num_envs: int, iterations: int, folder: str) -> list[float]:
    from rsl_rl.runners import OnPolicyRunner

    from phalanx.adapters.rsl_rl import RslRlVecEnv

    mlp = {
        "class_name": "MLPModel",
        "hidden_dims": UNITS,
        "activation": "elu",
        "obs_normalization": True,
    }
    gaussian = {"class_name": "GaussianDistribution", "init_std": 1.0}
    config = {
        "num_steps_per_env": HORIZON,
        "save_interval": 10**6,
        "obs_groups": {"actor": ["policy"], "critic": ["policy"]},
        "algorithm": {
            "class_name": "PPO",
            "learning_rate": LR,
            "schedule": "adaptive",
            "desired_kl": 0.01,
            "num_learning_epochs": EPOCHS,
            "num_mini_batches": 1,
            "clip_param": 0.2,
            "value_loss_coef": 1.0,
            "use_clipped_value_loss": True,
            "entropy_coef": 0.0,
            "gamma": 0.99,
            "lam": 0.95,
            "max_grad_norm": 1.0,
        },
        "actor": {**mlp, "distribution_cfg": gaussian},
        "critic": mlp,
    }
    runner = OnPolicyRunner(
        RslRlVecEnv("Cartpole", num_envs=num_envs, device="cpu"), config, folder, device="cpu"
    )
    marks = []
    log = runner.logger.log

    def log_and_mark(*args, **kwargs):
        log(*args, **kwargs)
        marks.append(time.perf_counter())

    runner.logger.log = log_and_mark
    runner.learn(iterations)
    return marks


def one(trainer: str, num_envs: int, iterations: int) -> float:
    """Training steps/s of one run in this process."""
    with tempfile.TemporaryDirectory() as folder:
        if trainer == "rl_games_compiled":
            marks = rl_games(num_envs, iterations, folder, compiled=True)
        else:
            run = {"phalanx": phalanx, "rl_games": rl_games, "rsl_rl": rsl_rl}[trainer]
            marks = run(num_envs, iterations, folder)
    assert len(marks) == iterations, (len(marks), iterations)
    first = iterations // 3
    return (iterations - 1 - first) * HORIZON * num_envs / (marks[-1] - marks[first])


def main() -> None:
    options = dict(a.split("=", 1) for a in sys.argv[1:])
    num_envs, iterations = int(options.get("num_envs", 512)), int(options.get("iterations", 60))
    if "trainer" in options:
        print(f"steps/s {one(options['trainer'], num_envs, iterations)}")
        return
    speeds: dict[str, list[int]] = {trainer: [] for trainer in TRAINERS}
    for _ in range(int(options.get("rounds", 3))):
        for trainer in TRAINERS:
            size = [f"num_envs={num_envs}", f"iterations={iterations}"]
            command = [sys.executable, __file__, f"trainer={trainer}", *size]
            done = subprocess.run(command, capture_output=True, text=True)
            if done.returncode:
                sys.exit(f"{trainer} failed:\n{done.stdout[-500:]}\n{done.stderr[-2000:]}")
            speeds[trainer].append(round(float(done.stdout.rsplit("steps/s", 1)[1])))
            print(trainer, speeds[trainer][-1], flush=True)

    from phalanx.cli.result import device_name, git_commit, versions

    best = {trainer: max(values) for trainer, values in speeds.items()}
    theirs = max(best["rl_games"], best["rl_games_compiled"])
    result = {
        "command": "benchmarks/trainers.py " + " ".join(sys.argv[1:]),
        "task": "Cartpole",
        "num_envs": num_envs,
        "device": device_name(__import__("torch").device("cpu")),
        "date": time.strftime("%Y-%m-%d"),
        "git_commit": git_commit(),
        "versions": versions()
        | {p: importlib.metadata.version(p) for p in ("rl-games", "rsl-rl-lib")},
        "train_steps_per_s": speeds,
        "best": best,
        "ratio_to_rl_games": round(best["phalanx"] / theirs, 2),
        "ratio_to_rsl_rl": round(best["phalanx"] / best["rsl_rl"], 2),
    }
    print(json.dumps(result, indent=2))
    if "out" in options:
        with open(options["out"], "w") as file:
            file.write(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
