"""Domain randomisation on a GPU: drawn inside the graph of the rollout, constants included.

CI has no GPU and says that these skip; they run on one with `pytest tests/test_randomize_cuda.py`.
"""

import mujoco
import pytest
import torch

from captured import is_captured, iterate, make_agent, no_waiting, step_as_captured
from phalanx import tasks

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")


def uniform(low, high):
    return {"range": [low, high], "operation": "scaling", "distribution": "uniform"}


EVERYTHING = {
    "frequency": 1,
    "observations": {
        "range": [0, 0.002],
        "range_correlated": [0, 0.001],
        "operation": "additive",
        "distribution": "gaussian",
        "schedule": "linear",
        "schedule_steps": 40,
    },
    "actions": {"range": [0, 0.02], "operation": "additive", "distribution": "gaussian"},
    "sim_params": {"gravity": uniform(0.9, 1.1)},
    "actor_params": {
        "ant": {
            "scale": uniform(0.9, 1.1),
            "color": True,
            "rigid_body_properties": {"mass": uniform(0.5, 1.5)},
            "rigid_shape_properties": {
                "friction": uniform(0.5, 1.5),
                "restitution": {
                    "range": [0, 0.5],
                    "operation": "additive",
                    "distribution": "uniform",
                },
            },
            "dof_properties": {
                name: uniform(0.8, 1.2)
                for name in ("stiffness", "damping", "lower", "upper", "effort", "armature")
            },
        }
    },
    "pushes": {"ant": {"interval_s": [0.1, 0.3], "lin_vel": [-0.5, 0.5], "ang_vel": [-1, 1]}},
    "latency": {"actions": [0, 2], "observations": [0, 1]},
}


@pytest.mark.parametrize("compiled", [True, False])
def test_everything_is_drawn_anew_inside_the_graph(tmp_path, compiled):
    compile_ = f"train.params.config.torch_compile={compiled}"
    agent = make_agent(tmp_path, "task=Ant", compile_, episode_length=24, randomize=True,
                       randomization_params=EVERYTHING)  # fmt: skip
    iterate(agent)
    assert is_captured(agent, "collect")
    assert agent.warnings == []
    sim = agent.vec_env.sim
    fields = "body_mass geom_friction geom_solref dof_damping dof_armature jnt_range geom_rgba"
    before = {name: sim.model_field(name).clone() for name in (*fields.split(), "opt.gravity")}
    for _ in range(2):  # of 16 steps each: every episode has ended once
        agent.update_epoch()
        agent.train_epoch()
    for name, values in before.items():
        now = sim.model_field(name)
        assert (now != values).flatten(1).any(1).all(), name
        assert (now[1:] != now[:-1]).flatten(1).any(1).all(), name
    assert torch.isfinite(agent.rollout.obs).all()
    for env in (0, 100):
        model, expected = sim.model_of(env), sim.model_of(env)
        mujoco.mj_setConst(expected, mujoco.MjData(expected))
        for name in ("body_subtreemass", "dof_invweight0", "body_invweight0", "geom_rbound"):
            derived, wanted = (torch.tensor(getattr(m, name)) for m in (model, expected))
            torch.testing.assert_close(derived, wanted, rtol=1e-3, atol=1e-5, msg=name)


def test_no_step_waits_for_the_device():
    env = tasks.make(
        "Ant", 64, "cuda:0", randomize=True, randomization_params=EVERYTHING, episode_length=3
    )
    env.reset()
    step_as_captured(env)
    actions = torch.zeros(64, 8, device="cuda:0")
    for _ in range(4):
        env.step(actions)
    with no_waiting():
        for _ in range(4):
            env.step(actions)


def test_a_randomised_ant_learns_captured(tmp_path):
    agent = make_agent(
        tmp_path, "task=Ant", "task.randomize=true", "num_envs=2048", "max_iterations=150"
    )
    agent.train()
    assert is_captured(agent, "collect")
    assert agent.warnings == []
    assert agent.mean_rewards.mean > 2000


def test_the_origin_of_a_nan_is_noted_inside_the_graph(tmp_path):
    agent = make_agent(tmp_path, "task=Cartpole", "engine=warp")
    sim = agent.vec_env.sim
    mass, force = sim.model_field("body_mass"), sim.xfrc_applied  # before anything is captured
    iterate(agent)
    assert is_captured(agent, "collect")
    assert agent.vec_env.report() == ""
    step = int(sim.steps)
    mass[200, 1] = torch.nan
    agent.update_epoch()
    agent.train_epoch()
    said = agent.vec_env.report()
    assert f"environment 200 in step {step + 1}, by the model's body_mass" in said
    force[100, 1, 0] = torch.nan
    agent.update_epoch()
    agent.train_epoch()
    assert "1 by xfrc_applied" in agent.vec_env.report()
    assert torch.isfinite(agent.rollout.obs).all()
    assert torch.isfinite(agent.rollout.rewards).all()


def test_late_choices_begin_with_the_first_one_inside_the_graph():
    env = tasks.make(
        "Cartpole", 8, "cuda:0", discrete_actions=3, randomize=True,
        randomization_params={"latency": {"actions": [1, 1]}},
    )  # fmt: skip
    env.reset()
    step_as_captured(env)
    choices = torch.full((8,), 2, device="cuda:0")
    for _ in range(2):
        env.step(choices)
    with no_waiting():
        env._reset(torch.ones_like(env.terminated))
        choices.fill_(1)
        env.step(choices)
    assert (env.sim.ctrl == 0).all()
