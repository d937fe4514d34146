"""examples/minimal learns, ends by itself, and answers a mistake with one sentence."""

import importlib.util
import os
import re
import runpy
import subprocess
import sys
from pathlib import Path

import pytest
import torch

pytestmark = pytest.mark.usefixtures("one_thread")  # puts back what trainer.py sets

MINIMAL = Path(__file__).parent.parent / "examples" / "minimal"


def load(name):
    spec = importlib.util.spec_from_file_location(name, MINIMAL / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def train(*arguments):
    """What trainer.py prints, and the mean episode length of each of its lines."""
    command = [sys.executable, MINIMAL / "trainer.py", "--sim_device", "cpu", *arguments]
    environ = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, env=environ, timeout=120)
    assert done.returncode == 0, done.stderr
    lengths = [float(x) for x in re.findall(r"length +([\d.]+) ", done.stdout)]
    return done.stdout, lengths


@pytest.mark.parametrize("method", ["ppo", "dqn"])
def test_episodes_get_longer(method):
    output, lengths = train("--method", method, "--num_envs", "64", "--steps", "450", "--headless")
    assert len(lengths) == 5  # every 100 steps and at the end
    assert 5 < lengths[0] < 50  # it begins by falling
    assert lengths[-1] > 75  # more than 100 in eight seeds, less than 30 without learning
    assert "Not solved in 450 steps" in output


def test_it_ends_by_itself_when_solved():
    output, lengths = train("--method", "ppo_d", "--num_envs", "64")
    assert 5 < lengths[0] < 50
    assert lengths[-1] >= 490 > max(lengths[:-1])
    assert output.splitlines()[-1].startswith("Solved in ")


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--method", "sac"], "invalid choice: 'sac'"),
        (["--num_envs", "0"], "num_envs is 0; it must be 1 or more"),
        (["--sim_device", "cuda:99"], "device cuda:99 was requested"),
        (["--steps", "0"], "--steps must be 1 or more"),
    ],
)
def test_a_mistake_gets_one_sentence(arguments, sentence, monkeypatch, capsys):
    monkeypatch.syspath_prepend(MINIMAL)  # as for a script that Python runs
    monkeypatch.setattr(sys, "argv", ["trainer.py", *arguments])
    with pytest.raises(SystemExit) as exit_:
        runpy.run_path(str(MINIMAL / "trainer.py"), run_name="__main__")
    assert exit_.value.code == 2
    out, err = capsys.readouterr()
    assert sentence in err
    assert err.count("\n") == 1
    assert out == ""


@pytest.mark.parametrize("name", ["ppo", "ppo_discrete"])
def test_advantages_stop_at_the_end_of_an_episode(name):
    ppo = load(name)
    ppo.GAMMA, ppo.LAMBDA = 0.5, 0.5
    delta = torch.tensor([[4.0], [8.0], [16.0]])
    done = torch.tensor([[False], [True], [False]])
    # 4 + 8/4, 8 alone because its episode ends there, 16 because the rollout does.
    assert ppo.gae(delta, done).flatten().tolist() == [6.0, 8.0, 16.0]


def test_replayed_returns_stop_at_the_end_of_an_episode():
    """Two environments, a ring of six steps that has been written eight times: steps 2 to 7 are
    there. Environment 0 terminates at step 4; environment 1 runs out of time at step 5."""
    dqn = load("dqn")
    dqn.REPLAY_STEPS, dqn.N_STEP, dqn.GAMMA = 6, 3, 0.5
    replay = dqn.Replay(num_envs=2, num_obs=1, device=torch.device("cpu"))
    for t in range(8):
        obs = torch.tensor([[float(t)], [100.0 + t]])
        terminated, truncated = torch.tensor([t == 4, False]), torch.tensor([False, t == 5])
        reward = torch.full((2,), 2.0**t)  # halved a step, so each adds as much as the first
        replay.write(obs, obs[:, 0].long(), reward, obs + 0.5, terminated, terminated | truncated)

    obs, action, returns, reached, weight = replay.sample(500)
    assert torch.equal(obs[:, 0].long(), action)
    rows = torch.stack([obs[:, 0], returns, reached[:, 0], weight], dim=1)
    assert {tuple(row) for row in rows.tolist()} == {
        (2, 12, 4.5, 0),
        (3, 16, 4.5, 0),
        (4, 16, 4.5, 0),
        (5, 96, 7.5, 0.125),
        (102, 12, 104.5, 0.125),
        (103, 24, 105.5, 0.125),
        (104, 32, 105.5, 0.25),
        (105, 32, 105.5, 0.5),
    }
