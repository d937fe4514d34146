"""Checks whether a return exploits inaccurate physics: plays a policy in coarse and fine
simulation.

    uv run python benchmarks/finer_physics.py task=Ant checkpoint=runs/Ant games=64 out=ant.json

It plays the same episodes from the same starts on the CPU engine (MuJoCo's C code, float64): once
with the time step and solver iterations of training, once with a quarter of the time step, 100
solver and 50 line-search iterations. Prints both mean returns, their ratio and, for robots with a
free base, the distance covered in an episode.
"""

import json
import sys

import torch

from phalanx import tasks
from phalanx.cli.config import compose_config, train_params
from phalanx.cli.result import git_commit, versions
from phalanx.cli.run_folders import resolve_checkpoint
from phalanx.rl import Runner


def play(arguments: list[str], checkpoint: str, finer: int) -> dict[str, float]:
    """Mean return and median distance [m], with `finer` times the physics steps."""
    config = compose_config([*arguments, "sim_device=cpu"], "play")
    kind = tasks.find(config.task.name)
    create_scene = kind.create_scene

    def create_finer_scene(self):
        scene = create_scene(self)
        scene.spec.option.iterations, scene.spec.option.ls_iterations = 100, 50
        return scene

    if finer > 1:
        kind.create_scene = create_finer_scene
        substeps = config.task.config.substeps * finer
        arguments = [*arguments, f"task.env.substeps={substeps}"]
        config = compose_config([*arguments, "sim_device=cpu"], "play")
    runner = Runner()
    runner.load({"params": train_params(config)})
    player = runner.create_player()
    kind.create_scene = create_scene
    player.restore(resolve_checkpoint(checkpoint))
    torch.manual_seed(0)
    result = player.run()
    return {
        "mean_return": round(result.mean_return, 1),
        "std_return": round(result.std_return, 1),
        "mean_length": round(result.mean_length, 1),
        "median_distance_m": round(median_distance(player), 2),
        "timestep_s": player.env.sim.model.opt.timestep,
        "iterations": int(player.env.sim.model.opt.iterations),
    }


def median_distance(player) -> float:
    """Median horizontal distance [m] of the environments from their start at the end of their first
    episode."""
    env, sim = player.env, player.env.sim
    torch.manual_seed(1)
    player.reset()
    obs = env.reset()
    start, reached = sim.qpos[:, :2].clone(), sim.qpos[:, :2].clone()
    going = torch.ones(env.num_envs, dtype=torch.bool)
    for _ in range(env.config.episode_length):
        reached[going] = sim.qpos[going, :2]
        obs, _, terminated, truncated, _ = env.step(player.get_action(obs["obs"]))
        going &= ~(terminated | truncated)
    return float((reached - start).norm(dim=1).median())


def main() -> None:
    options = dict(a.split("=", 1) for a in sys.argv[1:])
    out = options.pop("out", "")
    checkpoint = options.pop("checkpoint")
    options.setdefault("games", "64")
    options.setdefault("num_envs", options["games"])
    arguments = [f"{k}={v}" for k, v in options.items()]
    trained, fine = (play(arguments, checkpoint, finer) for finer in (1, 4))
    ratio = fine["mean_return"] / trained["mean_return"]
    result = {
        "command": "benchmarks/finer_physics.py " + " ".join(sys.argv[1:]),
        "as_trained": trained,
        "finer": fine,
        "return_kept": round(ratio, 4),
        "versions": versions(),
        "git_commit": git_commit(),
    }
    print(json.dumps(result, indent=2))
    if out:
        with open(out, "w") as file:
            file.write(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
