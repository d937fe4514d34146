"""A rollout in an environment whose steps cannot be CUDA graphs: what is between two of them can.

A step of such an environment is a program of others, such as a task of IsaacGymEnvs. As the policy
and all that stores results are one graph between two steps, the host does little else than run it.
"""

from functools import partial
from typing import Any

import torch
from torch import Tensor

from phalanx.compute.graphs import Graphs
from phalanx.rl.nested import nested

RETURNED = ("obs", "reward", "terminated", "truncated")
"""What a step returns before the infos."""


class StepGraphs:
    """The loop of `PPO.play_steps` for `learner`, with a graph between the steps of the
    environment. A graph reads what a step returned from buffers of its own."""

    def __init__(self, learner: Any) -> None:
        self._learner = learner
        self._actions: Tensor | None = None
        self._held: dict[str, Any] = {}
        self._pool: Any = None

    def play_steps(self, env: Any, graphs: Graphs) -> None:
        """Take T steps; `graphs` holds the graphs."""
        learner = self._learner
        learner.obs = self._hold("obs", learner.obs)
        if ("step", 0) not in graphs:  # a pool ends with its graphs
            self._pool = torch.cuda.graph_pool_handle()
        graphs.launch(("step", 0), partial(self._begin, env, 0), pool=self._pool)
        for t in range(learner.horizon_length):
            assert self._actions is not None
            obs, *results, infos = env.step(self._actions.clone())  # which it may keep
            reached = infos["terminal"]
            same = reached is obs
            step = [self._hold(k, x) for k, x in zip(RETURNED, (obs, *results), strict=True)]
            step.append({"terminal": step[0] if same else self._hold("reached", reached)})
            graphs.launch(
                ("step", t + 1, same), partial(self._go_on, env, t, step), pool=self._pool
            )

    def _begin(self, env: Any, t: int) -> None:
        actions = self._learner.begin_step(env, t)
        if self._actions is None:
            self._actions = torch.empty_like(actions)
        self._actions.copy_(actions)

    def _go_on(self, env: Any, t: int, step: list[Any]) -> None:
        self._learner.end_step(t, *step)
        if t + 1 < self._learner.horizon_length:
            self._begin(env, t + 1)
        else:
            self._learner.end_steps()

    def _hold(self, name: str, value: Any) -> Any:
        """`value`, tensors by name, in the buffers of that name."""
        if name not in self._held:
            self._held[name] = nested(torch.empty_like, value)
        if value is not self._held[name]:
            nested(lambda own, new: own.copy_(new), self._held[name], value)
        return self._held[name]
