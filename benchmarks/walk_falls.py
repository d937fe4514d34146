"""On which ground robots fall: plays the weights of a training on rough ground, tile by tile.

    uv run python benchmarks/walk_falls.py walk_AnymalVelocity/seed1_230s.pth [episodes=5]

Reads the training's arguments from the folder's `result.jsonl`, as `walk_seeds.py` writes it, and
plays `episodes` whole episodes from each tile of the map on the engine that trains, on the CPU,
with noise, latency, pushes and randomised robots, but without exploration. All other arguments,
such as task.randomize=false, are those of `phalanx play`. Prints one line of JSON: by kind of
ground, and for all kinds, a list by row of [episodes, falls, speed_error [m/s]]. An episode counts
where it begins.
"""

import json
import sys
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from phalanx.cli.config import compose_config
from phalanx.cli.export import make_player
from phalanx.cli.result import git_commit


def falls(weights: Path, episodes: int, changes: list[str]) -> dict[str, Any]:
    rows = map(json.loads, weights.with_name("result.jsonl").read_text().splitlines())
    arguments = [row["arguments"] for row in rows if "arguments" in row][-1]
    arguments = [a for a in arguments if "_device=" not in a]  # of where it was trained
    options = compose_config([*arguments, *changes], "export")
    ground = make_player(options, num_envs=1).env.map.settings
    tiles = ground.rows * ground.columns
    player = make_player(options, num_envs=episodes * tiles)
    player.restore(weights)
    task = player.env
    # Columns go with the environments in blocks, see `Terrain`; rows change within a block.
    task.terrain.row.copy_(torch.arange(task.num_envs) % ground.rows)
    torch.manual_seed(1)
    obs = task.reset()["obs"]
    row, column = task.terrain.row.clone(), task.terrain.column
    live = torch.ones(task.num_envs, dtype=torch.bool)
    fell, missed, steps = torch.zeros(3, task.num_envs)
    while live.any():
        wanted = task.commands.values[:, :2].clone()
        obs = task.step(player.get_action(obs))[0]["obs"]
        fell += live & task.terminated
        live &= ~(task.terminated | task.truncated)  # their state is that of a new episode
        missed += live * (wanted - task.base.lin_vel_b[:, :2]).norm(dim=1)
        steps += live

    def figures(own: Tensor) -> list[float]:
        error = float(missed[own].sum() / steps[own].sum())
        return [int(own.sum()), int(fell[own].sum()), round(error, 4)]

    kinds = {}
    for kind in dict.fromkeys(task.map.columns):
        here = torch.tensor([k == kind for k in task.map.columns])[column]
        kinds[kind] = [figures(here & (row == r)) for r in range(ground.rows)]
    kinds["all"] = [figures(row == r) for r in range(ground.rows)]
    return {"weights": str(weights), "engine": task.sim.engine.name, "by_kind_and_row": kinds}


if __name__ == "__main__":
    given = dict(a.split("=", 1) for a in sys.argv[2:])
    episodes = int(given.pop("episodes", 5))
    found = falls(Path(sys.argv[1]), episodes, [f"{k}={v}" for k, v in given.items()])
    print(json.dumps(found | {"git_commit": git_commit()}))
