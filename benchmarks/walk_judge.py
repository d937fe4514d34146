"""Judges a policy that walks, by what it does and not by its reward.

    uv run python benchmarks/walk_judge.py runs/Go2Velocity/nn/Go2Velocity.pth.onnx [episodes=64]

Plays an exported policy in plain MuJoCo, one `mj_step` of 1 ms after the other, by the program of
`phalanx sim2sim`: 64 robots, an episode of 20 s each, commands drawn from the task's ranges, with
the task's noise, latency, pushes and randomised robots at full strength. Prints one line of JSON:

falls                    share of episodes that end in a fall
speed_error              mean of |commanded - actual velocity| over the ground [m/s]
yaw_error                mean of |commanded - actual rate of turning| [rad/s]
settled_...              the same from 1 s after a change of the command on
saturated                share of joints and steps with a torque at its limit
swing_height             mean of the largest height of a swing, by foot [m]
contact                  share of the time on the ground while the robot walks, by foot
base_height              mean height of the base above the ground [m]
touching_not_to          share of steps in which a body touches that should not (knees)
by_row                   on rough ground, by the row of the start: episodes, falls, speed_error

Of tasks without commands it prints falls, torques at their limits and the shares of `ends`, such as
those of a Go2Backflip that landed, as the task's log has them.
"""

import json
import sys

import numpy as np
import torch

from phalanx.cli.result import git_commit
from phalanx.deploy.trial import Trial
from phalanx.tasks.velocity import Velocity

SETTLED = 1.0
"""Time after a change of the command from which on the robot should follow it [s]."""


def judge(policy: str, episodes: int = 64, seed: int = 42, **env: object) -> dict[str, object]:
    """The figures of a policy, an .onnx file; `env` overrides settings of its task."""
    trial = Trial(policy, episodes, 0.001, env=dict(env), seed=seed)
    task = trial.task
    figures: dict[str, object] = {"policy": policy, "task": trial.about.task}
    if isinstance(task, Velocity):
        figures |= walk(trial, task)
    else:
        figures |= act(trial)
    figures |= {"falls": float(trial.fell.mean()), "return": float(trial.returns.mean())}
    return figures | {"episodes": episodes, "seed": seed}


def act(trial: Trial) -> dict[str, object]:
    """Play a task without commands."""
    task, at_limit, n = trial.task, 0.0, 0
    limits = torch.tensor(task.sim.model.actuator_forcerange[:, 1], dtype=torch.float32)
    while trial.running.any():
        live = torch.from_numpy(trial.running.copy())
        trial.step()
        torques = task.sim.actuator_force[live]
        at_limit += float((torques.abs() >= 0.99 * limits).float().mean(1).sum())
        n += int(live.sum())
    ends = {k: round(v, 4) for k, v in task.scalars().items() if k.startswith("ends/")}
    return {"saturated": round(at_limit / n, 4), **ends}


def walk(trial: Trial, task: Velocity) -> dict[str, object]:
    """Play a task with commands."""
    episodes = task.num_envs
    limits = torch.tensor(task.sim.model.actuator_forcerange[:, 1], dtype=torch.float32)
    since, missed, steps = torch.zeros(3, episodes)
    begun = task.terrain.row.clone() if task.terrain else None
    rows: dict[str, list[np.ndarray]] = {}
    while trial.running.any():
        live = torch.from_numpy(trial.running.copy())
        wanted, was = task.commands.values.clone(), task.feet.contact.clone()
        trial.step()
        live &= ~(task.terminated | task.truncated)  # their state is that of a new episode
        base, feet = task.base, task.feet
        moving = (wanted.abs() > 0.05).any(1)
        off = (wanted[:, :2] - base.lin_vel_b[:, :2]).norm(dim=1)
        missed += off * live
        steps += live
        seen = {
            "speed_error": off,
            "yaw_error": (wanted[:, 2] - base.ang_vel_b[:, 2]).abs(),
            "saturated": (task.sim.actuator_force.abs() >= 0.99 * limits).float().mean(1),
            "base_height": base.height - ground(task),
            "touching_not_to": task.robot.contact_force[:, task.not_to_touch]
            .norm(dim=2)
            .gt(1.0)
            .any(1)
            .float(),
        }
        for name, values in seen.items():
            rows.setdefault(name, []).append(values[live].numpy().copy())
            if name.endswith("error"):
                settled = live & (since > SETTLED)
                rows.setdefault(f"settled_{name}", []).append(values[settled].numpy().copy())
        walks = (live & moving).numpy()
        rows.setdefault("contact", []).append(feet.contact[walks].float().numpy())
        landed = feet.contact & ~was & (live & moving)[:, None]
        peaks = torch.where(landed, feet.peak, torch.nan)
        rows.setdefault("swing_height", []).append(peaks[walks].numpy())
        drawn = (task.commands.values[:, :2] != wanted[:, :2]).any(1)
        since = torch.where(drawn | ~live, 0.0, since + task.sim.dt)
    figures = {name: mean_of(np.concatenate(values)) for name, values in rows.items()}
    if begun is not None:
        figures["by_row"] = by_row(begun, torch.from_numpy(trial.fell), missed, steps)
    return figures


def by_row(
    begun: torch.Tensor, fell: torch.Tensor, missed: torch.Tensor, steps: torch.Tensor
) -> dict[str, list[float]]:
    """Episodes, falls and mean speed error [m/s], by row of the terrain. begun: (N,) the rows;
    missed, steps: (N,) sums of the errors and their numbers."""
    figures = {}
    for row in begun.unique().tolist():
        own = begun == row
        error = float(missed[own].sum() / steps[own].sum())
        figures[str(row)] = [int(own.sum()), int(fell[own].sum()), round(error, 4)]
    return figures


def mean_of(values: np.ndarray) -> object:
    """Over the rows (T,) or (T, F) without what is NaN; None where nothing is left, as JSON has no
    NaN."""
    some = ~np.isnan(values)
    total, count = np.where(some, values, 0.0).sum(0, dtype=float), some.sum(0)
    mean = np.where(count > 0, total / np.maximum(count, 1), np.nan)
    rounded = np.where(np.isnan(mean), None, np.round(mean, 4))
    return rounded.tolist()


def ground(task: Velocity) -> torch.Tensor | float:
    """Height of the ground below the bases, (N,) [m]."""
    return task.terrain.height(task.robot.root_pos[:, :2]) if task.terrain else 0.0


if __name__ == "__main__":
    options = dict(a.split("=", 1) for a in sys.argv[2:])
    print(
        json.dumps(
            judge(sys.argv[1], **{k: int(v) for k, v in options.items()})
            | {"git_commit": git_commit()}
        )
    )
