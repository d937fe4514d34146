"""What tests of interrupted runs share: small runs, waiting, equality to the bit."""

import json
import time

import torch
import yaml

from phalanx.rl import checkpoint

SMALL = ["num_envs=64", "sim_device=cpu"]
QUICK = ["train.params.config.horizon_length=8", "train.params.config.mini_epochs=2"]
QUICK += ["train.params.config.minibatch_size_per_env=8"]
SAVE_ALWAYS = {"SECONDS_BETWEEN_CHECKPOINTS": 0.0}


def wait_until(condition, seconds=60.0):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.002)


def assert_same(a, b, at="state"):
    """Equal to the bit, tensors within mappings and lists included."""
    assert type(a) is type(b), at
    if isinstance(a, torch.Tensor):
        assert a.dtype == b.dtype, at
        assert a.shape == b.shape, at
        bits = a.contiguous().numpy().tobytes() == b.contiguous().numpy().tobytes()
        assert bits, f"{at}: {a} is not {b}"
    elif isinstance(a, dict):
        assert a.keys() == b.keys(), at
        for k in a:
            assert_same(a[k], b[k], f"{at}.{k}")
    elif isinstance(a, (list, tuple)):
        assert len(a) == len(b), at
        for i, (x, y) in enumerate(zip(a, b, strict=True)):
            assert_same(x, y, f"{at}[{i}]")
    else:
        assert a == b, at


def without_times(state):
    return {**state, "phalanx": {k: v for k, v in state["phalanx"].items() if k != "total_time"}}


def assert_nothing_half_written(folder, temporaries):
    """Every file of a run folder under a final name is whole, and the best checkpoint is the best
    that the last one knows of; returns the iteration of the last checkpoint."""
    files = [p for p in folder.rglob("*") if p.is_file()]
    left = [p for p in files if p.name.endswith(".tmp")]
    assert len(left) <= temporaries, left
    epoch, returns = None, {"best": -1e9, "last": -1e9}
    for file in files:
        if file.suffix == ".pth":
            state = checkpoint.load(file)
            of_last = file.name.startswith("last_")
            if of_last:
                epoch = state["epoch"]
            if "_ep_" not in file.name:
                returns["last" if of_last else "best"] = state["last_mean_rewards"]
        elif file.name == "result.json":
            json.loads(file.read_text())
        elif file.name == "config.yaml":
            assert yaml.safe_load(file.read_text())["task"]["name"]
    assert returns["last"] <= returns["best"]
    return epoch


def wait_for_another_save(file):
    before = file.stat().st_mtime_ns
    wait_until(lambda: file.stat().st_mtime_ns != before)
