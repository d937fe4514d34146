"""A run that is killed at random moments, again and again, ends with the same bits as one that is
not: every learner, and physics that is drawn anew for each environment."""

import os
import random
import re
import signal
import time

import pytest

from forked import server
from interrupted import (
    QUICK,
    SAVE_ALWAYS,
    SMALL,
    assert_nothing_half_written,
    assert_same,
    wait_for_another_save,
    wait_until,
    without_times,
)
from phalanx.rl import checkpoint

KILLS = int(os.environ.get("PHALANX_TEST_KILLS", "10"))
SECONDS = float(os.environ.get("PHALANX_TEST_KILL_SECONDS", "8"))
"""Of one kind of run, in which as many of the kills as fit are tried, and at least one of each."""
MOMENTS = 4
CONFIG = "train.params.config."
REPLAY = [f"{CONFIG}save_replay_buffer=true", f"{CONFIG}replay_buffer_size=2000"]
REPLAY += [f"{CONFIG}num_warmup_frames=320", f"{CONFIG}batch_size=64"]
AMP = [f"{CONFIG}amp_minibatch_size_per_env=8", f"{CONFIG}save_replay_buffer=true"]
LATENCY = "task.randomization_params.latency={actions: [0, 2]}"
RUNS = {
    "ppo": (200, SMALL + QUICK),
    "lstm": (120, ["num_envs=16", "train=CartpoleLSTM", f"{CONFIG}minibatch_size_per_env=8"]),
    "sac": (300, ["num_envs=16", "train=CartpoleSAC", *REPLAY]),
    "dqn": (300, ["num_envs=16", "train=CartpoleDQN", *REPLAY]),
    "amp": (60, ["num_envs=8", "task=HumanoidAMP", *QUICK, *AMP]),
    "ant": (120, ["num_envs=16", "task=Ant", "task.randomize=true", LATENCY, *QUICK]),
}


@pytest.mark.parametrize("kind", RUNS)
def test_killed_again_and_again_it_ends_where_an_uninterrupted_run_does(tmp_path, kind):
    iterations, options = RUNS[kind]
    iterations *= max(1, KILLS // 10)  # no run ends by itself before
    options = ["train", "sim_device=cpu", *options, f"max_iterations={iterations}"]
    cwd = tmp_path / "work"
    cwd.mkdir()
    folder, rng, end = cwd / "runs" / "killed", random.Random(0), time.monotonic() + SECONDS
    saved, kills, mid_write = None, 0, 0
    for k in range(KILLS):
        if k >= MOMENTS and time.monotonic() > end and saved is not None:
            break
        start = (
            [*options, "experiment=killed"] if saved is None else ["train", f"checkpoint={folder}"]
        )
        run = server().start(start, cwd, agent=SAVE_ALWAYS)
        if k % MOMENTS == 0:  # start-up: building the model, reading the checkpoint
            time.sleep(rng.uniform(0.0, 0.4))
        elif k % MOMENTS == 1:  # the first moments of training
            wait_until(run.says("run folder"), 240)
            time.sleep(rng.uniform(0.0, 0.05))
        elif k % MOMENTS == 2:  # while a checkpoint is written
            wait_until(run.says("run folder"), 240)
            wait_until(lambda: any(p.endswith(".tmp") for p in os.listdir(folder / "nn")))
        else:
            wait_until(run.says("run folder"), 240)
            wait_until(lambda: any(folder.glob("nn/last_*.pth")))
            last = next(folder.glob("nn/last_*.pth"))
            for _ in range(rng.randint(2, 12)):
                wait_for_another_save(last)
        os.kill(run.pid, signal.SIGKILL)
        assert run.wait(240) == -signal.SIGKILL, f"kill {k}: it had ended: {run.out} {run.err}"
        kills += 1
        before, continued = saved, re.search(r"continuing at iteration (\d+)", run.out)
        if folder.exists():
            mid_write += bool(list(folder.rglob(".*.tmp")))
            saved = assert_nothing_half_written(folder, temporaries=1)
        if before is not None:
            assert saved >= before
            assert not continued or int(continued[1]) == before
        if saved is None:
            refused = server().start(["train", f"checkpoint={folder}"], cwd)
            assert refused.wait(240) == 2
            assert re.fullmatch(r"phalanx: [^\n]*no checkpoint[^\n]*\n", refused.err)
    print(f"\n{kind}: {kills} kills, {mid_write} while writing; saved iteration {saved}")
    last = server().start(["train", f"checkpoint={folder}"], cwd, agent=SAVE_ALWAYS)
    assert last.wait(240) == 0, last.err
    assert assert_nothing_half_written(folder, temporaries=0) == iterations
    assert kills >= 1

    whole = server().start([*options, "experiment=whole"], cwd)
    assert whole.wait(240) == 0
    for name in (p.name for p in (cwd / "runs/whole/nn").glob("*.pth")):
        killed, never = (checkpoint.load(f / "nn" / name) for f in (folder, cwd / "runs/whole"))
        assert_same(without_times(killed), without_times(never), name)
