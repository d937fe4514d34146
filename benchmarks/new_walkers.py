"""Robots' files that learn to walk at the first try: `phalanx new robot=`, a training, the speeds.

    uv run python benchmarks/new_walkers.py go1.xml a1.urdf limit=600 seed=1 out=walkers.json

For each file it writes the task into a folder of its own, trains it for `limit` seconds, or million
environment steps (`limit=60M`), with the settings that are written, and lets 64 robots follow each
of `COMMANDS` for 8 s on the CPU, without noise, pushes and other randomisation. Prints, and writes
to `out`, one line of JSON per robot: mean velocities from 2 s on along the base's x and y [m/s],
mean rate of turning [rad/s], and the share of robots that fell. `folder=` keeps the projects there;
`NAME=file.xml` names a robot. Other arguments are those of `phalanx train`.
"""

import json
import os
import sys
import tempfile
from datetime import date
from pathlib import Path
from typing import Any

import torch
import walk_seeds

from phalanx.cli.config import compose_config, resolved, train_params
from phalanx.cli.main import main as phalanx
from phalanx.cli.result import git_commit, versions
from phalanx.rl import Runner

COMMANDS = {
    "ahead 0.5": (0.5, 0.0, 0.0),
    "ahead 1.0": (1.0, 0.0, 0.0),
    "left 0.4": (0.0, 0.4, 0.0),
    "turn 0.8": (0.0, 0.0, 0.8),
}
SECONDS, SETTLED, ROBOTS = 8.0, 2.0, 64


def speeds(arguments: list[str], weights: Path) -> dict[str, Any]:
    """What the policy of `weights` does at each command, or as much of it as its task allows."""
    still = ["task.randomize=false", f"num_envs={ROBOTS}", "seed=42"]
    still += ["sim_device=cpu", "rl_device=cpu"]
    options = resolved(compose_config([*arguments, *still], "play"))
    runner = Runner()
    runner.load({"params": train_params(options)})
    player = runner.create_player()
    player.restore(weights)
    env, found = player.env, dict[str, Any]()
    for name, command in COMMANDS.items():
        low, high = env.commands.low, env.commands.high
        given = torch.tensor(command).clamp(low, high)
        env.give_command(given)
        obs, fell, seen = env.reset()["obs"], torch.zeros(ROBOTS, dtype=torch.bool), []
        for k in range(round(SECONDS / env.sim.dt)):
            obs, _, terminated, _, _ = env.step(player.get_action(obs))
            obs = obs["obs"]
            fell |= terminated
            if k * env.sim.dt >= SETTLED:
                base = env.base
                seen.append(torch.cat([base.lin_vel_b[:, :2], base.ang_vel_b[:, 2:]], 1))
        mean = torch.stack(seen).mean((0, 1)).tolist()
        found[name] = {
            "command": [round(x, 2) for x in given.tolist()],
            "velocity": [round(x, 3) for x in mean],
            "fell": round(float(fell.float().mean()), 3),
        }
    return found


def walker(name: str, file: str, folder: Path, limit: str, seed: int, more: list[str]) -> Any:
    """Write, train and measure one robot."""
    task = name[0].upper() + name[1:]
    project = folder / name
    if not project.exists():
        phalanx(["new", str(project), f"robot={file}", f"task={task}"])
    os.chdir(project)
    arguments = [f"task={task}", *more]
    clock = walk_seeds.Clock([], limit, [], project / "trained")
    weights = project / f"trained_{limit}{'' if limit.endswith('M') else 's'}.pth"
    long = [] if any("max_epochs" in a for a in more) else ["max_iterations=1000000"]
    trained = walk_seeds.train([*arguments, *long], seed, clock)
    return trained | {"speeds": speeds(arguments, weights)}


def main() -> None:
    words = sys.argv[1:]
    options = {"limit": "600", "seed": "1", "out": "", "folder": ""}
    robots, more = dict[str, str](), list[str]()
    for word in words:
        key, equals, text = word.partition("=")
        if not equals:
            robots[Path(word).stem] = str(Path(word).resolve())
        elif key in options:
            options[key] = text
        elif Path(text).suffix in (".xml", ".urdf"):
            robots[key] = str(Path(text).resolve())
        else:
            more.append(word)
    out = Path(options["out"]).resolve() if options["out"] else None
    about = {"date": str(date.today()), "command": f"new_walkers.py {' '.join(words)}"}
    lines = [
        json.dumps({**about, **versions(), "git_commit": git_commit(), "cores": os.cpu_count()})
    ]
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(options["folder"] or temporary).resolve()
        for name, file in robots.items():
            row = walker(name, file, folder, options["limit"], int(options["seed"]), more)
            lines.append(json.dumps({"robot": name, "file": Path(file).name, **row}))
            print(lines[-1], flush=True)
            if out:
                out.write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
