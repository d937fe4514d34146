"""AMP on a GPU: two graphs an iteration, equal to eager code; nothing waits, nothing stale is read.

CI has no GPU and says that these skip; they run on one with `pytest tests/test_amp_cuda.py`.
"""

import pytest
import torch

import orbit
from captured import (
    agent_of,
    graph,
    is_captured,
    iterate,
    no_waiting,
    snapshot,
    step_as_captured,
    undo,
)
from phalanx import tasks
from phalanx.cli.config import compose_config, train_params

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")


def orbiting(folder, **changes):
    plain = {"device": "cuda:0", "torch_compile": False, "save_replay_buffer": True}
    return agent_of(orbit.params(folder, **{**plain, **changes}))


def humanoid(folder, *overrides):
    arguments = ["task=HumanoidAMP", f"train_dir={folder}", "sim_device=cuda:0", "num_envs=256"]
    params = train_params(compose_config([*arguments, "experiment=x", *overrides]))
    params["config"] |= {"amp_obs_demo_buffer_size": 5000, "amp_replay_buffer_size": 20000}
    return agent_of(params)


def captured(agent):
    """The agent after some iterations, the last of which replayed its graphs."""
    iterate(agent)
    assert is_captured(agent, "collect")
    assert is_captured(agent, "learn")
    return agent


def own_tensors(agent):
    """What an update of AMP reads and writes besides what PPO's does."""
    tensors = [agent.discriminator.amp_obs, *agent.discriminator.normalizer.state_dict().values()]
    for buffer in (agent.discriminator.demos, agent.discriminator.replay):
        tensors += [buffer.rows, buffer.stored]
    return tensors


def assert_captured_update_equals_eager(agent):
    before = snapshot(agent, *own_tensors(agent))
    results = []
    for update in (graph(agent, "learn"), agent.learn):
        undo(before)
        torch.cuda.manual_seed(7)  # the same rows are drawn
        update()
        left = {k: v.clone() for k, v in agent.model.state_dict().items()}
        left |= {"losses": agent.losses.clone(), "disc": agent.discriminator.sums.clone()}
        left |= {"normaliser": agent.discriminator.normalizer.running_mean.clone()}
        left |= {
            "replay": agent.discriminator.replay.rows[:-1].clone(),
            "demos": agent.discriminator.demos.rows[:-1].clone(),
        }
        results.append(left)
    for name, value in results[1].items():
        torch.testing.assert_close(results[0][name], value, rtol=1e-3, atol=1e-4, msg=name)


def test_captured_update_equals_eager_update(tmp_path):
    assert_captured_update_equals_eager(captured(orbiting(tmp_path)))


def test_captured_update_of_the_humanoid_equals_eager_update(tmp_path):
    agent = captured(humanoid(tmp_path))
    assert_captured_update_equals_eager(agent)
    assert not agent.warnings


def test_captured_training_equals_eager_training(tmp_path):
    weights = []
    for captures in (True, False):
        agent = orbiting(tmp_path, max_epochs=12)
        assert agent.captures
        agent.captures = agent.captures_update = captures
        agent.train()
        assert is_captured(agent, "learn") == captures
        weights.append({k: v.clone() for k, v in agent.model.state_dict().items()})
    for name, value in weights[0].items():
        torch.testing.assert_close(value, weights[1][name], rtol=1e-3, atol=1e-4, msg=name)


def test_gradient_penalty_acts_within_the_graph(tmp_path):
    penalties = []
    for weight in (0.0, 50.0):
        agent = orbiting(tmp_path, disc_grad_penalty=weight, max_epochs=60)
        agent.train()
        penalties.append(float(agent.discriminator.sums[5]))
    assert penalties[1] < 0.3 * penalties[0]


def test_captured_rollout_leaves_no_stale_buffer(tmp_path):
    agent = captured(humanoid(tmp_path))
    r = agent.rollout
    poisoned = [r.obs, r.reached, r.reached_values, r.actions, r.rewards, r.values, r.dones]
    poisoned += [*r.policy.values(), *agent.dataset.values(), r.advantages, r.last_values]
    poisoned += [agent.discriminator.amp_obs, agent.discriminator.reward_spread]
    for tensor in poisoned:
        tensor.fill_(float("inf"))
    graph(agent, "collect")()
    graph(agent, "learn")()
    for tensor in poisoned:
        assert torch.isfinite(tensor).all()
    assert (agent.discriminator.amp_obs[:, 0] != agent.discriminator.amp_obs[:, -1]).any()
    # The older half of what the discriminator sees is the newer half of the step before.
    same = agent.discriminator.amp_obs[:, 1:, 105:] == agent.discriminator.amp_obs[:, :-1, :105]
    going = r.dones[:, :-1] == 0
    assert same.all(-1)[going].all()


def test_captured_update_reads_no_unwritten_row(tmp_path):
    agent = orbiting(tmp_path)
    agent.init_tensors()
    agent.reset(agent.hooked_env)
    for _ in range(4):
        agent.update_epoch()
        agent.train_epoch()
        for buffer in (agent.discriminator.demos, agent.discriminator.replay):
            buffer.rows[min(int(buffer.stored), buffer.capacity) :] = float("nan")
    assert all(x.isfinite().all() for x in agent.statistics().values())
    for value in agent.model.state_dict().values():
        assert torch.isfinite(value).all()


def test_no_step_or_update_waits_for_the_device(tmp_path):
    agent = captured(orbiting(tmp_path))
    env = tasks.make("HumanoidAMP", num_envs=64, device="cuda:0")
    env.reset()
    step_as_captured(env)
    actions = torch.zeros(64, 28, device="cuda:0")
    env.step(actions)
    env.fetch_amp_obs_demo(64)
    with no_waiting():
        agent.collect(agent.hooked_env)
        agent.update()
        env.step(actions)
        env.fetch_amp_obs_demo(64)


def test_humanoid_runs_captured_and_resumes_on_the_gpu(tmp_path):
    agent = humanoid(tmp_path, "max_iterations=20")
    agent.train()
    assert agent.last_stats["info/disc_demo_acc"] > 0.5
    again = humanoid(tmp_path, "max_iterations=24")
    again.restore(tmp_path / "x" / "nn" / "last_HumanoidAMP.pth")
    torch.testing.assert_close(again.vec_env.amp_frames, agent.vec_env.amp_frames, rtol=0, atol=0)
    torch.testing.assert_close(again.obs["obs"], agent.obs["obs"], rtol=0, atol=0)
    again.train()
    assert again.epoch_num == 24
