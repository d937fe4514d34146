"""Several ranks train as one: they stay equal, to the bit, and see what one process would see."""

import os
import re
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import torch
import torch.distributed as dist

from forked import server
from interrupted import QUICK, SAVE_ALWAYS, assert_same, wait_until
from phalanx.cli import devices
from phalanx.cli.options import TrainOptions
from phalanx.errors import PhalanxError
from phalanx.rl import checkpoint, ranks
from ports import free_port

CONFIG = "train.params.config."
TOGETHER = ["train", "sim_device=cpu", "multi_gpu=true"]
REPLAY = [f"{CONFIG}save_replay_buffer=true", f"{CONFIG}replay_buffer_size=200"]
REPLAY += [f"{CONFIG}num_warmup_frames=320", f"{CONFIG}batch_size=64"]


PATIENT = {"SECONDS_TO_ASK": 60.0}
"""For ranks that say one sentence together, however slow the machine is."""


@pytest.fixture
def cwd(tmp_path):
    folder = tmp_path / "work"
    folder.mkdir()
    return folder


def start(cwd, arguments, count=2, present=None, port=None, **options):
    """Processes with what torchrun gives its own; `present`: the ranks to start, `arguments` may be
    a list for each."""
    port = port or free_port()
    found = []
    for rank in present or range(count):
        env = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": count, "LOCAL_WORLD_SIZE": count}
        env = {k: str(v) for k, v in env.items()} | {"MASTER_ADDR": "127.0.0.1"}
        env = {**env, "MASTER_PORT": str(port), **options.get("environment", {})}
        own = arguments[rank] if isinstance(arguments[0], list) else arguments
        logs = cwd.with_name(f"{cwd.name}-rank{rank}")
        rest = {k: v for k, v in options.items() if k != "environment"}
        found.append(server().start(own, cwd, env=env, logs=logs, **rest))
    return found


def end(processes, seconds=240):
    codes = [p.wait(seconds) for p in processes]
    return codes, "".join(p.err for p in processes)


def trained(cwd, arguments, count=2, **options):
    processes = start(cwd, [*TOGETHER, *arguments], count, **options)
    codes, err = end(processes)
    assert codes == [0] * count, err
    assert not any(p.out for p in processes[1:]), "only rank 0 has something to say"
    return processes[0].out


def test_together_they_learn_what_one_process_does(tmp_path, cwd):
    program = (Path(__file__).parent / "equal_batches.py").read_text()
    alone = server().start(["", str(tmp_path / "one")], cwd, program=program)
    both = start(cwd, ["", str(tmp_path / "two")], program=program)
    codes, err = end([alone, *both])
    assert codes == [0, 0, 0], err
    assert "compiled frames 1536 compiled True" in both[0].out
    assert both[0].out == alone.out
    for name in ("plain", "compiled", "lstm", "central", "curious"):
        one, two = (
            checkpoint.load(tmp_path / way / name / "nn" / f"last_{name}.pth")
            for way in ("one", "two")
        )
        learnt = ("model", "assymetric_vf_nets", "rnd_nets")
        ours, theirs = ({key: state.get(key, {}) for key in learnt} for state in (two, one))
        torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=2e-5)
        rates = [state["phalanx"]["learner"]["schedule"]["lr"] for state in (one, two)]
        assert rates[0] == rates[1] != 3e-4
        meters = [state["phalanx"]["meters"] for state in (one, two)]
        torch.testing.assert_close(*map(torch.tensor, meters), rtol=1e-4, atol=1e-4)


KINDS = {
    "ppo": (20, ["num_envs=32", *QUICK]),
    "lstm": (3, ["num_envs=16", "train=CartpoleLSTM", f"{CONFIG}minibatch_size_per_env=8"]),
    "sac": (26, ["num_envs=16", "train=CartpoleSAC", *REPLAY]),
    "dqn": (26, ["num_envs=16", "train=CartpoleDQN", *REPLAY]),
    "amp": (3, ["num_envs=8", "task=HumanoidAMP", *QUICK, f"{CONFIG}amp_minibatch_size_per_env=8"]),
    "ant": (3, ["num_envs=16", "task=Ant", "task.randomize=true", *QUICK]),
}


CONTINUED = ("ppo", "sac")
"""Those that a test continues, and so need none of their own."""


@pytest.mark.parametrize("kind", [k for k in KINDS if k not in CONTINUED])
def test_ranks_stay_equal(cwd, kind):
    """Every checkpoint compares the ranks' weights, bit for bit."""
    iterations, options = KINDS[kind]
    assert "on each of 2 ranks" in trained(cwd, [*options, f"max_iterations={iterations}"])
    state = last(next(cwd.glob("runs/*")))
    assert state["epoch"] == iterations
    assert len(state["phalanx"]["others"]) == 1


@pytest.mark.parametrize("kind", CONTINUED)
def test_a_continued_run_is_the_same_run(cwd, kind):
    iterations, options = KINDS[kind]
    trained(cwd, [*options, f"max_iterations={iterations}", "experiment=whole"])
    half = f"max_iterations={iterations // 2}"
    trained(cwd, [*options, half, "experiment=halves"])
    second = trained(cwd, ["checkpoint=runs/halves", f"max_iterations={iterations}"])
    assert f"continuing at iteration {iterations // 2}" in second
    once, twice = (last(cwd / "runs" / name) for name in ("whole", "halves"))
    for state in (once, twice):
        state["phalanx"].pop("total_time")
    assert_same(once, twice)
    assert (once["epoch"], len(once["phalanx"]["others"])) == (iterations, 1)
    one, two = once["phalanx"]["episodes"], once["phalanx"]["others"][0]["episodes"]
    assert not torch.equal(one["episode_sums"]["running"], two["episode_sums"]["running"])


def test_ranks_that_start_together_fill_an_empty_cache(tmp_path, cwd):
    cache = tmp_path / "cache"
    options = ["task=Cartpole", "engine=fused", "num_envs=64", *QUICK, "max_iterations=2"]
    environment = {"WARP_CACHE_PATH": str(cache)}
    first = trained(cwd, [*options, "experiment=a"], environment=environment)
    files = {p.name: p.read_bytes() for p in cache.rglob("phalanx/*")}
    assert files
    assert all(len(name.partition(".")[0]) == 32 for name in files), "nothing half written is left"
    again = trained(cwd, [*options, "experiment=b"], environment=environment)
    assert {p.name: p.read_bytes() for p in cache.rglob("phalanx/*")} == files
    assert "physics fused" in first and "physics fused" in again  # noqa: PT018


def last(folder):
    (file,) = (p for p in folder.glob("nn/last_*.pth") if "_ep_" not in p.name)
    return checkpoint.load(file)


def test_ranks_that_have_become_different_are_found(cwd):
    program = """
import sys, torch
from phalanx.rl import ranks, agents
from phalanx.cli.main import main
update = agents.A2CAgent.update
def wrong(self):
    update(self)
    if ranks.rank() == 1:
        with torch.no_grad():
            next(self.model.parameters()).view(-1)[0] += 1e-6
agents.A2CAgent.update = wrong
main(sys.argv)
"""
    arguments = [*TOGETHER, "num_envs=16", *QUICK, "max_iterations=2"]
    codes, err = end(start(cwd, arguments, program=program, agent=PATIENT))
    assert codes == [2, 2]
    assert "rank 0 has weights with the digest" in err
    assert len(err.splitlines()) == 1


def test_a_killed_rank_ends_all_and_any_number_continues(cwd):
    arguments = [*TOGETHER, "num_envs=16", *QUICK, "max_iterations=100000"]
    one, two = start(cwd, arguments, agent=SAVE_ALWAYS)
    wait_until(one.says("run folder"), 240)
    file = cwd / "runs/Cartpole/nn/last_Cartpole.pth"
    wait_until(lambda: file.exists() and checkpoint.load(file)["epoch"] > 3, 240)
    os.kill(two.pid, signal.SIGKILL)
    codes, err = end([one, two], 60)
    assert codes == [2, -signal.SIGKILL]
    assert len(err.splitlines()) == 1
    assert "lost the others" in err
    assert f"saved in {file.relative_to(cwd)}" in err
    epoch, frame = (last(cwd / "runs/Cartpole")[key] for key in ("epoch", "frame"))
    assert frame == epoch * 2 * 16 * 8
    for count in (3, 1):
        more = ["checkpoint=runs/Cartpole", f"max_iterations={epoch + 2}"]
        out = trained(cwd, more, count)
        assert f"continuing at iteration {epoch}, frame {frame}" in out
        state = last(cwd / "runs/Cartpole")
        assert state["frame"] == frame + 2 * count * 16 * 8
        assert len(state["phalanx"].get("others", [])) == count - 1
        epoch, frame = state["epoch"], state["frame"]


def test_a_killed_rank_of_devices_is_one_sentence(cwd):
    """Who started the ranks ends the other one, which says why before."""
    train = "train task=Cartpole num_envs=16 sim_device=cpu max_iterations=100000 devices=2"
    command = [sys.executable, "-m", "phalanx", *train.split(), *QUICK]
    with open(cwd / "out", "w") as out, open(cwd / "err", "w") as err:
        run = subprocess.Popen(command, cwd=cwd, stdout=out, stderr=err)
    wait_until(lambda: "iteration" in (cwd / "out").read_text(), 240)
    children = subprocess.run(["pgrep", "-P", str(run.pid)], capture_output=True, text=True)
    of_rank = {}
    for pid in map(int, children.stdout.split()):
        if found := re.search(r"\0RANK=(\d)\0", Path(f"/proc/{pid}/environ").read_text()):
            of_rank[int(found[1])] = pid
    os.kill(of_rank[1], signal.SIGKILL)
    assert run.wait(60) == 2
    said = (cwd / "err").read_text()
    assert len(said.splitlines()) == 1, said
    assert "rank 0 has lost the others" in said


def test_a_signal_to_one_rank_stops_all_after_the_same_iteration(cwd):
    arguments = [*TOGETHER, "num_envs=16", *QUICK, "max_iterations=100000"]
    one, two = start(cwd, arguments)
    wait_until(lambda: "iteration" in one.out, 240)
    os.kill(two.pid, signal.SIGTERM)
    codes, err = end([one, two], 60)
    assert (codes, err) == ([130, 130], "")
    assert "everything is saved" in one.out


def test_a_rank_that_waits_for_one_that_hangs_is_ended(cwd):
    arguments = [*TOGETHER, "num_envs=16", *QUICK, "max_iterations=100000"]
    program = """
import sys
from phalanx.cli import devices
from phalanx.cli.main import main
devices.SECONDS_TO_STOP = 1.0
main(sys.argv)
"""
    one, two = start(cwd, arguments, program=program)
    wait_until(lambda: "iteration" in one.out, 240)
    os.kill(two.pid, signal.SIGSTOP)
    os.kill(one.pid, signal.SIGTERM)
    assert one.wait(60) == 2
    assert "waits in vain for another rank" in one.err
    os.kill(two.pid, signal.SIGKILL)
    two.wait(60)


LATE = """
import sys, time
from phalanx.cli.main import main
from phalanx.rl import ranks
real = ranks.say_once
def late(sentence):
    time.sleep(0.5 * ranks.rank())
    real(sentence)
ranks.say_once = late
main(sys.argv)
"""
"""Rank 1 has its error when rank 0 has said it."""


@pytest.mark.parametrize(
    ("second", "words"),
    [
        (f"{CONFIG}gamma=0.5", "rank 0 has config.gamma 0.99, but rank 1 has 0.5"),
        ("task=Ant", "rank 0 has the task 'Cartpole', but rank 1 has 'Ant'"),
        ("num_envs=16", "rank 0 has config.num_actors 32, but rank 1 has 16"),
    ],
)
def test_ranks_with_different_settings_end_with_one_sentence(cwd, second, words):
    arguments = [*TOGETHER, *QUICK, "max_iterations=1", "num_envs=32"]
    processes = start(cwd, [arguments, [*arguments, second]], program=LATE, agent=PATIENT)
    codes, err = end(processes)
    assert codes == [2, 2]
    assert words in err
    assert len(err.splitlines()) == 1
    assert not any(cwd.glob("runs/*"))


def test_a_rank_whose_others_do_not_come_says_so(cwd):
    soon = {"SECONDS_TO_MEET": 5}
    options = [*TOGETHER, "num_envs=16"]
    waiting = [start(cwd, options, present=[alone], agent=soon) for alone in (0, 1)]
    for alone in (0, 1):  # with and without the one that all others connect to
        codes, err = end(waiting[alone])
        assert codes == [2]
        assert len(err.splitlines()) == 1
        assert (
            "1/2 clients joined" if alone == 0 else "cannot meet the others at 127.0.0.1:"
        ) in err


def test_a_taken_port_is_named(cwd):
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        soon = {"SECONDS_TO_MEET": 1}
        codes, err = end(start(cwd, [*TOGETHER], present=[0], port=port, agent=soon))
    assert codes == [2]
    assert f"at 127.0.0.1:{port}: the port is taken; give another --master-port" in err


def test_a_machine_whose_own_name_leads_nowhere_trains(cwd):
    """As in many containers; PyTorch asks for the address of the machine's name."""
    alone = ["unshare", "--uts", "sh", "-c"]
    if subprocess.run([*alone, "hostname nowhere"], capture_output=True, check=False).returncode:
        pytest.skip("renaming the machine takes root")
    train = "train task=Cartpole num_envs=32 sim_device=cpu max_iterations=2 devices=2"
    command = f"hostname nowhere && exec {sys.executable} -m phalanx {train}"
    done = subprocess.run(
        [*alone, command], cwd=cwd, capture_output=True, text=True, timeout=100, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert "done: iteration 2 was the last" in done.stdout


@pytest.mark.parametrize("mistake", ["multi_gpu=false", "taks=Cartpole", "experiment=../x"])
def test_what_is_wrong_before_ranks_meet_is_said_once(cwd, mistake):
    store = dist.TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    environment = {"TORCHELASTIC_USE_AGENT_STORE": "True"}
    arguments = [*TOGETHER, mistake]
    soon = {"SECONDS_TO_FIND": 60.0}
    processes = start(cwd, arguments, port=store.port, environment=environment, agent=soon)
    codes, err = end(processes)
    assert codes == [2, 2]
    assert len(err.splitlines()) == 1, err


AS_TORCHRUN = {"RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "2"}


@pytest.mark.parametrize(
    ("options", "environment", "gpus", "words"),
    [
        ({"multi_gpu": True}, {}, 0, "torchrun has started, and it has started none"),
        ({"devices": 2, "multi_gpu": True}, AS_TORCHRUN, 0, "devices=2 starts its own processes"),
        ({}, AS_TORCHRUN, 0, "2 processes, which would all train the same run; add multi_gpu=true"),
        ({"devices": 3}, {}, 2, "devices=3, but this machine has 2 GPUs"),
        ({"devices": 2}, {}, 1, "devices=2, but this machine has 1 GPU;"),
    ],
)
def test_a_wrong_start_is_one_sentence(monkeypatch, options, environment, gpus, words):
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(devices, "kind_of_device", lambda _: "cuda" if gpus else "cpu")
    monkeypatch.setattr(torch.cuda, "device_count", lambda: gpus)
    with pytest.raises(PhalanxError, match=re.escape(words)):
        devices.check_start(TrainOptions(task=None, train=None, **options))


ADDRESS = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "1", "LOCAL_WORLD_SIZE": "2"}


@pytest.mark.parametrize(
    ("variables", "words"),
    [
        ({"WORLD_SIZE": "x"}, "WORLD_SIZE='x'; it must be a whole number:"),
        ({"RANK": "2"}, "RANK='2'; it must be a whole number below 2:"),
        ({"LOCAL_RANK": "-1"}, "LOCAL_RANK='-1'; it must be a whole number below 2:"),
        ({"LOCAL_WORLD_SIZE": ""}, "the environment has no LOCAL_WORLD_SIZE, which torchrun"),
    ],
)
def test_numbers_of_ranks_that_cannot_be_are_one_sentence(monkeypatch, capsys, variables, words):
    for name, value in {**ADDRESS, **AS_TORCHRUN, **variables}.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(PhalanxError, match=re.escape(words)):
        ranks.join("cpu")
    ranks.say_once("why")
    assert capsys.readouterr().err == "why\n"
    monkeypatch.setenv("WORLD_SIZE", "")  # a variable of a script that is not set
    assert not ranks.others_started()


def test_a_rank_stops_when_the_process_that_started_it_has_been_killed(monkeypatch):
    monkeypatch.setattr(devices, "SECONDS_BETWEEN_LOOKS", 0.01)
    told, parents = threading.Event(), iter([5, 5])
    monkeypatch.setattr(devices.os, "getppid", lambda: next(parents, 1))
    before = signal.signal(signal.SIGTERM, lambda *_: told.set())
    try:
        with devices.ended_with_launcher():
            assert not told.wait(0.2)  # started by hand
        parents = iter([5, 5])
        monkeypatch.setenv("TORCHELASTIC_RUN_ID", "x")
        with devices.ended_with_launcher():
            assert told.wait(20)
    finally:
        signal.signal(signal.SIGTERM, before)


def test_ranks_that_cannot_be_started_are_one_sentence(monkeypatch):
    from torch.distributed.elastic.rendezvous.api import RendezvousConnectionError
    from torch.distributed.launcher import api

    def launch(config, program):
        raise RendezvousConnectionError("see inner exception") from RuntimeError("No network.\nat")

    monkeypatch.setattr(api, "elastic_launch", launch)
    with pytest.raises(PhalanxError, match=r"^2 processes cannot be started and .*: No network; "):
        devices.start_ranks(2, [])


def test_ranks_that_a_machine_has_no_gpus_for_are_refused(monkeypatch):
    monkeypatch.setattr(ranks, "_meet", lambda own, count: None)
    monkeypatch.setattr(ranks, "_Joined", lambda *_: None)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    for name, value in {**AS_TORCHRUN, "MASTER_ADDR": "x", "MASTER_PORT": "1"}.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(PhalanxError, match="has no LOCAL_WORLD_SIZE, which torchrun sets"):
        ranks.join("cuda")
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")
    for name in ("GLOO_SOCKET_IFNAME", "NCCL_SOCKET_IFNAME"):
        monkeypatch.setenv(name, "lo")
    with pytest.raises(
        PhalanxError, match="2 ranks were started on this machine, which has 1 GPU;"
    ):
        ranks.join("cuda")
