"""A run that is stopped, by whatever means, continues as if it had not been."""

import copy
import dataclasses
import errno
import json
import os
import re
import shlex
import signal
import subprocess
import time

import pytest
import torch
import yaml

from forked import server
from interrupted import (
    QUICK,
    SAVE_ALWAYS,
    SMALL,
    assert_nothing_half_written,
    assert_same,
    wait_until,
    without_times,
)
from phalanx.cli.config import compose_config, resolved, train_params
from phalanx.compute.recorded import Recorded
from phalanx.rl import Runner, checkpoint, ranks, run_state
from phalanx.tasks.task import FEWEST_RECORDED
from recorder import Recorder


@pytest.fixture
def cwd(tmp_path):
    folder = tmp_path / "work"
    folder.mkdir()
    return folder


# in one process -----------------------------------------------------------------------------------


def train(tmp_path, name, iterations, *more, continue_from=None):
    arguments = [*SMALL, f"max_iterations={iterations}", f"train_dir={tmp_path}", *more]
    arguments[1:1] = QUICK
    config = dataclasses.replace(resolved(compose_config(arguments)), experiment=name)
    recorder = Recorder()
    runner = Runner(recorder)
    runner.load({"params": train_params(config)})
    runner.run({"train": True, "checkpoint": continue_from})
    return recorder


@pytest.fixture
def threads(request):
    """Threads for the network; the default costs seconds where other programs hold the cores."""
    before = torch.get_num_threads()
    torch.set_num_threads(request.param or before)
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize(
    ("more", "threads"),
    [(["seed=0"], None), (["train=CartpoleDiscretePPO"], 1)],
    indirect=["threads"],
    ids=["continuous, seed 0", "discrete"],
)
@pytest.mark.usefixtures("threads")
def test_resumed_run_equals_uninterrupted_one_bit_for_bit(tmp_path, more):
    whole = train(tmp_path, "whole", 20, *more)
    again = train(tmp_path, "again", 20, *more)
    assert whole.rows == again.rows, "the same seed gave another run"
    first = train(tmp_path, "parts", 10, *more)
    torch.manual_seed(99)  # the random state must come from the checkpoint
    last = tmp_path / "parts" / "nn" / "last_Cartpole.pth"
    second = train(tmp_path, "parts", 20, *more, continue_from=last)
    assert [row[0] for row in second.rows] == list(range(11, 21))
    assert first.rows + second.rows == whole.rows
    states = [r.agent.get_full_state_weights() for r in (whole, again, second)]
    assert states[0]["epoch"] == 20
    assert states[0]["frame"] == 20 * 64 * 8
    assert not torch.equal(
        states[0]["model"]["a2c_network.value.weight"],
        first.agent.model.state_dict()["a2c_network.value.weight"],
    )
    for state in states[1:]:
        assert_same(without_times(state), without_times(states[0]))
    assert_same(second.agent.obs, whole.agent.obs, "observations")


def test_compiled_steps_and_full_buffers_continue_bit_for_bit(tmp_path):
    """With as many environments as it takes to compile observations, rewards and resets; all
    episodes begin again in each half, and AMP's buffers have been full before the checkpoint."""
    config, network = "train.params.config", "train.params.network"
    more = ["task=HumanoidAMP", f"num_envs={FEWEST_RECORDED}", "task.env.episode_length=5"]
    more += [f"{config}.{x}" for x in ("save_replay_buffer=true", "amp_obs_demo_buffer_size=600")]
    more += [f"{config}.amp_replay_buffer_size={8 * FEWEST_RECORDED}"]
    more += [f"{network}.{part}.units=[32]" for part in ("mlp", "disc")]
    whole = train(tmp_path, "whole", 4, *more)
    assert isinstance(whole.agent.env.post_physics_step, Recorded)
    first = train(tmp_path, "parts", 2, *more)
    torch.manual_seed(99)
    last = tmp_path / "parts" / "nn" / "last_HumanoidAMP.pth"
    second = train(tmp_path, "parts", 4, *more, continue_from=last)
    assert first.rows + second.rows == whole.rows
    one, other = (without_times(r.agent.get_full_state_weights()) for r in (whole, second))
    assert_same(one, other)


def test_rehearsal_leaves_no_trace(tmp_path):
    def iterate(rehearses):
        params = train_params(compose_config([*SMALL, f"train_dir={tmp_path}"]))
        runner = Runner()
        runner.load({"params": params})
        agent = runner.algo_factory.create("a2c_continuous", base_name="run", params=runner.params)
        agent.init_tensors()
        agent.reset(agent.hooked_env)
        if rehearses:
            agent.run.rehearse()
            moment = next(iter(agent.optimizer.state.values()))["exp_avg"]
            assert moment.abs().sum() == 0  # it has learnt and forgotten
            assert next(iter(agent.optimizer.state.values()))["exp_avg"] is moment
        for _ in range(3):
            agent.train_epoch()
        return agent.get_full_state_weights()

    assert_same(iterate(True), iterate(False))


def test_another_seed_gives_another_run(tmp_path):
    a, b = (train(tmp_path, f"seed{s}", 1, f"seed={s}") for s in (0, 1))
    assert a.rows != b.rows


def test_a_run_continues_otherwise_with_another_seed(tmp_path):
    first = train(tmp_path, "first", 1, "seed=5")
    last = tmp_path / "first" / "nn" / "last_Cartpole.pth"
    assert first.rows
    same, other = (train(tmp_path, f"to{s}", 2, f"seed={s}", continue_from=last) for s in (5, 6))
    assert same.rows != other.rows
    assert not same.agent.warnings
    assert "continues with changed settings: seed 6 (was 5)" in other.agent.warnings[0]


def test_resuming_a_finished_run_trains_no_further(tmp_path):
    whole = train(tmp_path, "run", 3)
    last = tmp_path / "run" / "nn" / "last_Cartpole.pth"
    again = train(tmp_path, "run", 2, continue_from=last)
    assert again.agent.epoch_num == whole.agent.epoch_num == 3
    assert again.agent.stop_reason == "iteration 3 was the last"


def test_another_number_of_environments_keeps_the_network_with_a_warning(tmp_path):
    first = train(tmp_path, "run", 3)
    last = tmp_path / "run" / "nn" / "last_Cartpole.pth"
    second = train(tmp_path, "run", 5, "num_envs=32", continue_from=last)
    assert [row[0] for row in second.rows] == [4, 5]
    assert "made with 64 environments" in second.agent.warnings[0]
    assert second.rows[-1][1] == first.agent.frame + 2 * 32 * 8


def test_changed_settings_of_run_and_task_are_listed(tmp_path):
    train(tmp_path, "run", 1)
    last = tmp_path / "run" / "nn" / "last_Cartpole.pth"
    assert not train(tmp_path, "run", 2, "num_envs=64", continue_from=last).agent.warnings
    changes = ["task.env.max_force=300", "task.randomize=true", "train.params.config.gamma=0.9"]
    changes += ["task.randomization_params.frequency=9"]
    (said, *_) = train(tmp_path, "run", 3, *changes, continue_from=last).agent.warnings
    assert said.endswith(
        "continues with changed settings: gamma 0.9 (was 0.99), task.env.max_force 300.0 (was"
        " 400.0), task.randomize True (was False), task.randomization_params.frequency 9 (was 500)"
    )


def test_a_changed_task_starts_new_episodes_with_a_warning(tmp_path):
    first = train(tmp_path, "run", 3)
    state = first.agent.get_full_state_weights()
    for name, shape in (("gone", (64,)), ("obs_buf", (64, 5))):
        changed = copy.deepcopy(state)
        changed["phalanx"]["env"]["task"][name] = torch.ones(shape)
        agent = train(tmp_path, "second", 1).agent
        agent.set_full_state_weights(changed, source="old.pth")
        words = f"old.pth: made when the shape of Cartpole's state '{name}' was ({shape[0]}"
        assert words in agent.warnings[-1]
        assert "new episodes start" in agent.warnings[-1]
        assert agent.epoch_num == 3


def test_schedules_go_on_where_new_episodes_start(tmp_path):
    """With another number of environments, and on other ground, whose rows are fewer."""
    env, commands = "task.env.", "task.env.commands."
    more = ["task=Go2Velocity", f"{commands}first_part=0.1", f"{commands}grow_steps=100"]
    ground = [f"{env}height_scan=false", f"{env}terrain_settings.columns=4"]
    first = train(tmp_path, "run", 1, *more, *ground, f"{env}terrain=slope_up").agent.env
    first.terrain.row.copy_(torch.arange(64) // 8)
    last = tmp_path / "run" / "nn" / "last_Go2Velocity.pth"
    state = checkpoint.load(last)
    state["phalanx"]["env"] = first.state_dict()
    assert float(first.commands._steps) == 8
    terrain = (f"{env}terrain=slope_up", "num_envs=16"), (f"{env}terrain=slope_down", "rows=3")
    for (kind, change), why in zip(terrain, ("made with 64", "the ground"), strict=True):
        change = change.replace("rows", f"{env}terrain_settings.rows")
        again = train(tmp_path, "again", 1, *more, *ground, kind, change).agent
        again.env.reset()
        again.set_full_state_weights(copy.deepcopy(state), source="old.pth")
        assert f"old.pth: {why}" in again.warnings[-1]
        assert "any schedules of the task are restored, new episodes start" in again.warnings[-1]
        assert float(again.env.commands._steps) == float(again.env.reward._steps) == 8
        assert int(again.env.randomizer.step) == 8
        again.env.reset()
        row, own = again.env.terrain.row, torch.arange(64) // 8
        assert row.tolist() == (own[::4] if len(row) == 16 else own.clamp(max=2)).tolist()
        above = again.env.robot.root_pos[:, 2] - again.env.terrain.height(
            again.env.robot.root_pos[:, :2]
        )
        assert above.min() > 0.1


def test_a_rank_that_a_run_did_not_have_takes_the_schedules_of_the_first(monkeypatch):
    whole = {"env": {"task": {}}, "episodes": {}, "generators": {}, "learner": {}, "others": []}
    monkeypatch.setattr(ranks, "rank", lambda: 1)
    own = run_state.of_this_rank({"phalanx": whole})["phalanx"]
    assert own == {"env": {"task": {}}, "learner": {}}


# Ctrl-C -------------------------------------------------------------------------------------------


def test_ctrl_c_saves_and_the_printed_command_continues(cwd):
    last = cwd / "runs" / "my run" / "nn" / "last_Cartpole.pth"
    options = [*SMALL, *QUICK, "seed=0", "train=CartpoleDiscretePPO", "experiment=my run"]
    run = server().start(["train", *options, "max_iterations=100000"], cwd)
    wait_until(run.says("iteration "))
    os.kill(run.pid, signal.SIGINT)
    assert run.wait() == 130
    assert run.err == ""
    stopped = int(re.search(r"stopped at iteration (\d+)", run.out)[1])
    assert "runs/my run/nn/last_Cartpole.pth" in run.out
    assert checkpoint.load(last)["epoch"] == stopped
    assert json.loads((cwd / "runs/my run/result.json").read_text())["stopped"] == "interrupted"

    command = shlex.split(re.search(r"continue: +phalanx (.*)", run.out)[1])
    resumed = server().start([*command, f"max_iterations={stopped + 3}"], cwd)
    assert resumed.wait() == 0, resumed.err
    assert f"continuing at iteration {stopped}," in resumed.out
    state = checkpoint.load(last)
    assert state["epoch"] == stopped + 3
    settings = yaml.safe_load((cwd / "runs/my run/config.yaml").read_text())
    assert (settings["seed"], settings["num_envs"]) == (0, 64)
    assert state["phalanx"]["env"]["num_envs"] == 64
    assert os.listdir(cwd / "runs") == ["my run"]


def test_second_ctrl_c_ends_at_once(cwd):
    # An iteration of many thousand updates: the first Ctrl-C alone would take minutes.
    slow = ["train.params.config.minibatch_size=1", "train.params.config.mini_epochs=100"]
    run = server().start(["train", *SMALL, *slow], cwd)
    wait_until(lambda: (cwd / "runs/Cartpole/nn/last_Cartpole.pth").exists())
    os.kill(run.pid, signal.SIGINT)
    time.sleep(1)  # less on a busy machine, and both would be one signal
    os.kill(run.pid, signal.SIGINT)
    assert run.wait(30) == 130
    assert run.err == "phalanx: interrupted; continue:  phalanx train checkpoint=runs/Cartpole\n"
    assert checkpoint.load(cwd / "runs/Cartpole/nn/last_Cartpole.pth")["epoch"] == 0


# full disk ----------------------------------------------------------------------------------------


def assert_ended_for_want_of_space(run, reason):
    assert run.wait() == 2
    assert re.fullmatch(rf"phalanx: cannot write [^\n]*{reason}[^\n]*\n", run.err), run.err


def test_disk_full_at_the_start_leaves_nothing(cwd):
    run = server().start(["train", *SMALL], cwd, file_size=2000)
    assert_ended_for_want_of_space(run, os.strerror(errno.EFBIG).lower())
    assert os.listdir(cwd) == []


@pytest.mark.parametrize("what_fills_up", ["checkpoints", "curves"])
def test_disk_full_while_training_keeps_the_last_checkpoint(cwd, what_fills_up):
    if what_fills_up == "curves":  # they outgrow the limit; checkpoints keep their size
        run = server().start(["train", *SMALL, *QUICK, "max_iterations=5000"], cwd, file_size=60000)
        assert_ended_for_want_of_space(run, "file too large")
    else:
        try:
            mount = ["mount", "-t", "tmpfs", "-o", "size=200k", "tmpfs", str(cwd)]
            subprocess.run(mount, check=True, capture_output=True)
        except (OSError, subprocess.CalledProcessError):
            pytest.skip("mounting a small file system takes root")
        try:
            run = server().start(
                ["train", *SMALL, *QUICK, "train.params.config.save_frequency=1"],
                cwd,
                agent=SAVE_ALWAYS,
            )
            assert_ended_for_want_of_space(run, "no space left on device")
            assert_nothing_half_written(cwd / "runs/Cartpole", temporaries=0)
        finally:
            subprocess.run(["umount", str(cwd)], check=True)
        return
    assert_nothing_half_written(cwd / "runs/Cartpole", temporaries=0)
    resumed = server().start(["train", "checkpoint=runs/Cartpole", "max_iterations=1"], cwd)
    assert resumed.wait() == 0, resumed.err
