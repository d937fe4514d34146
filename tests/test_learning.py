"""Training must make it better, and as well as it should."""

import pytest

from phalanx.cli.config import compose_config, train_params
from phalanx.rl import Runner
from recorder import Recorder


@pytest.mark.parametrize("train", ["CartpolePPO", "CartpoleDiscretePPO"])
def test_cartpole_learns_to_balance(tmp_path, train):
    recorder = Recorder()
    runner = Runner(recorder)
    # The best of 100 iterations balances in three seeds of four; with others its mean action, which
    # is played, still drifts off the track.
    arguments = [f"train={train}", "seed=4", "max_iterations=100", f"train_dir={tmp_path}"]
    runner.load({"params": train_params(compose_config([*arguments, "sim_device=cpu"]))})
    runner.run({"train": True})
    assert recorder.lengths[2] < 60
    assert max(recorder.lengths) >= 490  # at these learning rates it drops now and then
    runner.params["config"]["player"] = {"games_num": 64}
    result = runner.run({"play": True, "checkpoint": recorder.agent.nn_dir / "Cartpole.pth"})
    assert result.games == 512  # as many in every environment, so that short ones do not count more
    assert result.mean_length >= 490
    assert result.mean_return >= 450  # of 500: standing off the middle costs a little
