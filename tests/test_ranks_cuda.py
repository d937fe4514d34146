"""Several ranks on GPUs: learning by NCCL inside CUDA graphs. Needs two GPUs; run it there with
`pytest tests/test_ranks_cuda.py`."""

import json
import os
import re
import signal
import subprocess
import sys
import time

import pytest
import torch

from interrupted import wait_until
from phalanx.rl import checkpoint

pytestmark = pytest.mark.skipif(torch.cuda.device_count() < 2, reason="needs two CUDA devices")

CONFIG = "train.params.config."
SMALL = ["num_envs=256", "max_iterations=40"]
REPLAY = [f"{CONFIG}save_replay_buffer=true", f"{CONFIG}replay_buffer_size=20000"]
REPLAY += [f"{CONFIG}num_warmup_frames=2560", f"{CONFIG}batch_size=512"]
KINDS = {
    "ant": ["task=Ant"],
    "humanoid": ["task=Humanoid"],
    "discrete": ["task=Cartpole", "train=CartpoleDiscretePPO"],
    "lstm": ["task=Cartpole", "train=CartpoleLSTM"],
    "curious": ["task=Cartpole", f"{CONFIG}rnd_config={{mini_epochs: 1}}"],
    "sac": ["task=Cartpole", "train=CartpoleSAC", *REPLAY],
    "dqn": ["task=Cartpole", "train=CartpoleDQN", *REPLAY],
    "amp": ["task=HumanoidAMP"],
}


def start(folder, arguments):
    command = [sys.executable, "-m", "phalanx", "train", *arguments]
    with open(folder / "out", "w") as out, open(folder / "err", "w") as err:
        return subprocess.Popen(command, cwd=folder, stdout=out, stderr=err)


def trained(folder, arguments):
    code = start(folder, arguments).wait(400)
    out, err = (folder / "out").read_text(), (folder / "err").read_text()
    assert code == 0, f"{out[-2000:]}\n{err[-4000:]}"
    return out


@pytest.mark.parametrize("kind", KINDS)
def test_ranks_stay_equal_in_cuda_graphs(tmp_path, kind):
    """Every checkpoint compares the ranks' weights, bit for bit."""
    out = trained(tmp_path, [*SMALL, *KINDS[kind], "devices=2", "experiment=x"])
    assert "on each of 2 ranks" in out
    assert "without CUDA graphs" not in out
    assert "cannot fuse" not in out
    (file,) = (p for p in (tmp_path / "runs/x/nn").glob("last_*.pth") if "_ep_" not in p.name)
    state = checkpoint.load(file)
    assert state["epoch"] == 40
    assert len(state["phalanx"]["others"]) == 1
    more = trained(tmp_path, ["checkpoint=runs/x", "max_iterations=48", "devices=2"])
    assert "continuing at iteration 40" in more
    alone = trained(tmp_path, ["checkpoint=runs/x", "max_iterations=56"])
    assert "continuing at iteration 48" in alone


def test_a_run_on_the_second_gpu_alone_learns(tmp_path):
    second = ["sim_device=cuda:1", "rl_device=cuda:1", "experiment=x"]
    out = trained(tmp_path, ["task=Cartpole", "num_envs=1024", "max_iterations=60", *second])
    assert "without CUDA graphs" not in out
    assert json.loads((tmp_path / "runs/x/result.json").read_text())["mean_return"] > 200


def test_a_killed_rank_ends_all_within_a_minute(tmp_path):
    run = start(tmp_path, ["task=Ant", "num_envs=1024", "max_iterations=100000", "devices=2"])
    file = tmp_path / "runs/Ant/nn/last_Ant.pth"
    wait_until(lambda: "iteration" in (tmp_path / "out").read_text(), 300)
    children = subprocess.run(["pgrep", "-P", str(run.pid)], capture_output=True, text=True)
    ranks = [int(pid) for pid in children.stdout.split()]
    by_rank = {}
    for pid in ranks:
        with open(f"/proc/{pid}/environ") as environment:
            found = re.search(r"\0RANK=(\d+)\0", environment.read())
        if found:
            by_rank[int(found[1])] = pid
    os.kill(by_rank[1], signal.SIGKILL)
    begin = time.monotonic()
    assert run.wait(90) != 0
    print(f"ended after {time.monotonic() - begin:.1f} s")
    assert time.monotonic() - begin < 60
    err = (tmp_path / "err").read_text()
    assert len(re.findall(r"^phalanx: ", err, re.MULTILINE)) == 1, err
    assert checkpoint.load(file)["epoch"] >= 0
    assert json.loads((tmp_path / "runs/Ant/result.json").read_text())["stopped"] == "running"


def test_more_ranks_than_gpus_are_refused(tmp_path):
    more = torch.cuda.device_count() + 1
    assert start(tmp_path, ["task=Ant", f"devices={more}"]).wait(120) == 2
    assert f"devices={more}, but this machine has" in (tmp_path / "err").read_text()
