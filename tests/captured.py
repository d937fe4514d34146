"""Helpers to compare an agent's CUDA graphs with eager code."""

import contextlib

import torch

from phalanx.cli.config import compose_config, train_params
from phalanx.rl import Runner


def agent_of(params):
    """The agent for these `params`."""
    runner = Runner()
    runner.load({"params": params})
    return runner.algo_factory.create(runner.algo_name, base_name="run", params=runner.params)


def make_agent(folder, *overrides, **env):
    """The agent of `phalanx train` with these arguments and, by default, 256 environments.
    env: settings that replace the task's own."""
    arguments = [f"train_dir={folder}", "sim_device=cuda:0", "num_envs=256", "experiment=x"]
    params = train_params(compose_config([*arguments, *overrides]))
    params["config"]["env_config"] |= env
    return agent_of(params)


def iterate(agent, iterations=4):
    """The agent after its first iterations: two run eagerly, the third captures, later ones
    replay."""
    agent.reset(agent.hooked_env)
    for _ in range(iterations):
        agent.update_epoch()
        agent.train_epoch()
    return agent


def graph(agent, what):
    """The `Graph` of the agent's next "collect" or "learn"; None if it has none."""
    return agent.run.graphs.get((what, getattr(agent, f"{what}_variant")))


def is_captured(agent, what):
    """Whether that graph has been captured."""
    return graph(agent, what) is not None and graph(agent, what)._graph is not None


def snapshot(agent, *more):
    """(tensor, copy) of everything that an update reads and writes; see `undo`."""
    tensors = [*agent.model.state_dict().values(), agent.lr, *agent.dataset.values(), *more]
    tensors.append(agent.rollout.rewards)  # `learn` adds to them
    for state in agent.optimizer.state.values():
        tensors += [v for v in state.values() if isinstance(v, torch.Tensor)]
    return [(t, t.clone()) for t in tensors]


def undo(before):
    """Write back what `snapshot` saw."""
    for tensor, value in before:
        tensor.copy_(value)


@contextlib.contextmanager
def no_waiting():
    """Inside, a call that waits for the device raises an error."""
    torch.cuda.set_sync_debug_mode("error")
    try:
        yield
    finally:
        torch.cuda.set_sync_debug_mode("default")


def step_as_captured(env):
    """Make the engine run its captured form of a step: its eager step waits to check for
    overflow."""
    env.sim.engine.step = env.sim.engine._advance
