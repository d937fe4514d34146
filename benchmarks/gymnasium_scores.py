"""Scores of Phalanx and RL Games on Gymnasium's MuJoCo tasks, with the same configuration.

    uv run python benchmarks/gymnasium_scores.py run=hopper_ppo trainer=phalanx seed=0 out=FOLDER
    uv run python benchmarks/gymnasium_scores.py summary=FOLDER out=FILE.json plot=FILE.png

The first form trains and writes one file with the return of every finished episode. A wrapper of
the environment, the same for both trainers, records the returns, so neither trainer reports its own
score. Further options change the configuration of a run (num_actors=4 horizon_length=512), frames=N
ends it sooner, and shuffle=true makes Phalanx shuffle the samples of minibatches, like CleanRL and
unlike RL Games. The second form summarises a folder of runs: the mean return of the last 100
training episodes (with sampled actions, as reported by CleanRL), and a curve; the plot needs
matplotlib.
"""

import importlib.metadata
import json
import sys
import tempfile
import time
from pathlib import Path

import gymnasium
import numpy as np
import torch

from phalanx.cli.result import device_name, git_commit, versions
from phalanx.rl import A2CAgent, Runner, vecenv
from phalanx.rl.gymnasium_env import GymnasiumEnv
from phalanx.rl.gymnasium_env import make as make_gymnasium

# CleanRL's hyperparameters (docs.cleanrl.dev, ppo_continuous_action.py and
# sac_continuous_action.py), in RL Games' terms. PPO runs 16 environments for 128 steps where
# CleanRL runs one for 2048.
PPO = {
    "algo": {"name": "a2c_continuous"},
    "model": {"name": "continuous_a2c_logstd"},
    "network": {
        "name": "actor_critic",
        "separate": True,
        "space": {
            "continuous": {
                "mu_activation": "None",
                "sigma_activation": "None",
                "mu_init": {"name": "orthogonal_initializer", "gain": 0.01},
                "sigma_init": {"name": "const_initializer", "val": 0.0},
                "fixed_sigma": True,
            }
        },
        "mlp": {
            "units": [64, 64],
            "activation": "tanh",
            "initializer": {"name": "orthogonal_initializer", "gain": 2**0.5},
        },
    },
    "config": {
        "num_actors": 16,
        "horizon_length": 128,
        "minibatch_size": 64,
        "mini_epochs": 10,
        "learning_rate": 3e-4,
        "lr_schedule": "linear",
        "schedule_type": "standard",
        "kl_threshold": 0.008,
        "max_epochs": 489,
        "gamma": 0.99,
        "tau": 0.95,
        "e_clip": 0.2,
        "clip_value": True,
        "critic_coef": 0.5,
        "entropy_coef": 0.0,
        "bounds_loss_coef": 0.0,
        "truncate_grads": True,
        "grad_norm": 0.5,
        "normalize_input": True,
        "normalize_value": True,
        "normalize_advantage": True,
        "value_bootstrap": True,
        "reward_shaper": {"scale_value": 1.0},
        "clip_actions": True,
    },
}
SAC = {
    "algo": {"name": "sac"},
    "model": {"name": "soft_actor_critic"},
    "network": {
        "name": "soft_actor_critic",
        "separate": True,
        "space": {"continuous": None},
        "mlp": {"units": [256, 256], "activation": "relu", "initializer": {"name": "default"}},
        "log_std_bounds": [-5, 2],
    },
    "config": {
        "num_actors": 1,
        "num_steps_per_episode": 50,
        "num_warmup_steps": 100,
        "max_epochs": 2000,
        "gamma": 0.99,
        "batch_size": 256,
        "replay_buffer_size": 1_000_000,
        "actor_lr": 3e-4,
        "critic_lr": 1e-3,
        "alpha_lr": 1e-3,
        "critic_tau": 0.005,
        "init_alpha": 1.0,
        "learnable_temperature": True,
        "normalize_input": False,
        "reward_shaper": {"scale_value": 1.0},
    },
}
RUNS = {
    "hopper_ppo": ("Hopper-v5", PPO, {"CleanRL ppo_continuous_action": 2741}),
    "halfcheetah_ppo": ("HalfCheetah-v5", PPO, {"CleanRL ppo_continuous_action": 2637}),
    "hopper_sac": ("Hopper-v5", SAC, {}),
}


class Returns(gymnasium.Wrapper):
    """Records (frame of this environment, return, length) of every finished episode."""

    def __init__(self, env: gymnasium.Env, log: list) -> None:
        super().__init__(env)
        self.log, self.frame = log, 0

    def reset(self, **kwargs):
        self.total, self.length = 0.0, 0
        return self.env.reset(**kwargs)

    def step(self, action):
        obs, reward, terminated, truncated, info = self.env.step(action)
        self.total, self.length, self.frame = self.total + reward, self.length + 1, self.frame + 1
        if terminated or truncated:
            self.log.append((self.frame, round(float(self.total), 2), self.length))
        return obs, reward, terminated, truncated, info


class ShuffledAgent(A2CAgent):
    """Minibatches of samples drawn from all environments and steps."""

    def minibatch(self, i: int) -> dict:
        if i == 0:
            self.order = torch.randperm(self.batch_size)
        rows = self.order[i * self.minibatch_size : (i + 1) * self.minibatch_size]
        return {k: v[rows] for k, v in self.dataset.items()}


def train_phalanx(params: dict, make) -> None:
    vecenv.register("logged", lambda num_envs=None, **kwargs: make(num_envs))
    runner = Runner()
    runner.algo_factory.register_builder("shuffled", lambda **kwargs: ShuffledAgent(**kwargs))
    runner.load({"params": params})
    runner.run({"train": True})


def train_rl_games(params: dict, make) -> None:
    from rl_games.common import env_configurations
    from rl_games.common import vecenv as their_vecenv
    from rl_games.common.ivecenv import IVecEnv
    from rl_games.torch_runner import Runner as TheirRunner

    class Theirs(IVecEnv):
        """The same environment; actions are already rescaled to its bounds."""

        def __init__(self, num: int) -> None:
            self.env: GymnasiumEnv = make(num)

        def reset(self):
            return self.env.reset()["obs"]

        def step(self, actions):
            obs, reward, terminated, truncated, _ = self.env.step(torch.as_tensor(actions))
            return obs["obs"], reward, terminated | truncated, {"time_outs": truncated}

        def get_number_of_agents(self):
            return 1

        def get_env_info(self):
            env = self.env.env
            return {
                "observation_space": gymnasium.spaces.Box(
                    -np.inf, np.inf, env.single_observation_space.shape, np.float32
                ),
                "action_space": env.single_action_space,
            }

    their_vecenv.register("LOGGED", lambda name, num, **kwargs: Theirs(num))
    env_configurations.register("logged", {"vecenv_type": "LOGGED", "env_creator": None})
    params["config"]["torch_compile"] = False
    runner = TheirRunner()
    runner.load({"params": params})
    runner.run({"train": True, "play": False})


def train(
    run: str, trainer: str, seed: int, out: Path, frames: int | None, shuffle: bool, changes: dict
) -> None:
    torch.set_num_threads(1)
    env_id, recipe, _ = RUNS[run]
    params = json.loads(json.dumps(recipe))
    params |= {"seed": seed, "torch_threads": 1}
    c = params["config"]
    unknown = set(changes) - set(c)
    if unknown:
        sys.exit(f"{run} has no option {', '.join(unknown)}; it has {', '.join(c)}")
    c |= changes
    if shuffle:
        params["algo"] = {"name": "shuffled"}
        changes = {"shuffle": True, **changes}
    per_epoch = c["num_actors"] * c.get("horizon_length", c.get("num_steps_per_episode"))
    if frames:
        c["max_epochs"] = -(-frames // per_epoch)
    log: list = []

    def make(num_envs: int) -> GymnasiumEnv:
        wrappers = [lambda env: Returns(env, log)]
        return make_gymnasium("logged", num_envs, "cpu", env_id, "sync", wrappers, seed=seed)

    start = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        c |= {
            "name": run,
            "env_name": "logged",
            "device": "cpu",
            "save_best_after": 10**6,
            "save_frequency": 0,
            "train_dir": folder,
            "full_experiment_name": "run",
        }
        {"phalanx": train_phalanx, "rl_games": train_rl_games}[trainer](params, make)
    wall = time.perf_counter() - start
    n = c["num_actors"]
    del c["train_dir"], c["full_experiment_name"]
    result = {
        "command": "benchmarks/gymnasium_scores.py " + " ".join(sys.argv[1:]),
        "run": " ".join([run, *(f"{k}={json.dumps(v)}" for k, v in changes.items())]),
        "env": env_id,
        "trainer": trainer,
        "seed": seed,
        "frames": c["max_epochs"] * per_epoch,
        "wall_s": round(wall, 1),
        "date": time.strftime("%Y-%m-%d"),
        "device": device_name(torch.device("cpu")),
        "git_commit": git_commit(),
        "versions": versions()
        | {p: importlib.metadata.version(p) for p in ("gymnasium", "rl-games")},
        "params": params,
        # environments step together, so this counts the frames of all of them
        "episodes": [(frame * n, ret, length) for frame, ret, length in log],
    }
    out.mkdir(parents=True, exist_ok=True)
    file = out / f"{result['run'].replace(' ', '_')}-{trainer}-{seed}.json"
    file.write_text(json.dumps(result) + "\n")
    print(f"{file}: {score(result):.0f} after {result['frames']} frames in {wall:.0f} s")


def score(result: dict, frame: float = float("inf")) -> float:
    """Mean return of the last 100 episodes that ended before `frame`."""
    returns = [r for f, r, _ in result["episodes"] if f <= frame]
    return float(np.mean(returns[-100:])) if returns else float("nan")


def draw(runs: dict, file: Path) -> None:
    """Plot every seed's curve, with one panel for each configuration that both trainers ran."""
    from matplotlib import pyplot

    shared = {name: run for name, run in runs.items() if len(run["trainers"]) > 1}
    figure, axes = pyplot.subplots(1, len(shared), figsize=(4.5 * len(shared), 3.5))
    for axis, (name, run) in zip(np.atleast_1d(axes), shared.items(), strict=True):
        for trainer, colour in (("phalanx", "tab:blue"), ("rl_games", "tab:orange")):
            for k, seed in enumerate(run["trainers"].get(trainer, [])):
                label = None if k else {"rl_games": "RL Games 1.6.5"}.get(trainer, "Phalanx")
                axis.plot(*zip(*seed["curve"], strict=True), color=colour, alpha=0.8, label=label)
        for source, published in run["published"].items():
            axis.axhline(published, color="grey", linestyle=":", label=source.split()[0])
        axis.set_title(f"{run['env']}, {name.split('_')[1].upper()}")
        axis.set_xlabel("frames")
        axis.set_ylabel("return of the last 100 episodes")
        axis.legend()
    figure.tight_layout()
    figure.savefig(file, dpi=90)


def summarize(folder: Path, out: Path, plot: str | None) -> None:
    """Write one file with the scores and a curve of 20 points for every run."""
    results = [json.loads(f.read_text()) for f in sorted(folder.glob("*-*-*.json"))]
    runs: dict = {}
    for r in results:
        run = runs.setdefault(
            r["run"],
            {
                "env": r["env"],
                "frames": r["frames"],
                "published": RUNS[r["run"].split()[0]][2],
                "params": {k: v for k, v in r["params"].items() if k != "seed"},
                "trainers": {},
            },
        )
        marks = np.linspace(0, r["frames"], 21)[1:]
        run["trainers"].setdefault(r["trainer"], []).append(
            {
                "seed": r["seed"],
                "score": round(score(r), 1),
                "wall_s": r["wall_s"],
                "curve": [[round(m), round(score(r, m))] for m in marks],
            }
        )
    for name, run in runs.items():
        for trainer, seeds in run["trainers"].items():
            scores = [s["score"] for s in seeds]
            print(f"{name:16} {trainer:9} {np.mean(scores):7.0f}  {scores}")
    summary = {
        "command": "benchmarks/gymnasium_scores.py " + " ".join(sys.argv[1:]),
        "score": "mean return of the last 100 training episodes, actions sampled",
        "device": results[0]["device"],
        "date": results[0]["date"],
        "versions": results[0]["versions"],
        "runs": runs,
    }
    out.write_text(json.dumps(summary, indent=1) + "\n")
    if plot:
        draw(runs, Path(plot))


def main() -> None:
    options = dict(a.split("=", 1) for a in sys.argv[1:])
    if "summary" in options:
        summarize(Path(options["summary"]), Path(options["out"]), options.get("plot"))
        return
    run, trainer, seed, out = (options.pop(k) for k in ("run", "trainer", "seed", "out"))
    frames = int(options.pop("frames", 0)) or None
    shuffle = json.loads(options.pop("shuffle", "false"))
    changes = {k: json.loads(v) for k, v in options.items()}
    train(run, trainer, int(seed), Path(out), frames, shuffle, changes)


if __name__ == "__main__":
    main()
