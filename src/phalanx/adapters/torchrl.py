"""Phalanx tasks for TorchRL.

    env = TorchRLEnv("Cartpole", num_envs=64, device="cpu")
    collector = Collector(env, policy, frames_per_batch=64 * 32, total_frames=100_000)

The batch of environments is one environment of TorchRL with the batch size (N,). TorchRL resets
environments itself, after their step; here they are reset within it. So `step` gives the
observations reached, before any reset, and `reset` of those that have ended gives the first ones of
their new episodes. `terminated` and `truncated` are kept apart: TorchRL's GAE bootstraps from the
state reached.
"""

from typing import Any

import torch

from phalanx import tasks
from phalanx.errors import PhalanxError
from phalanx.spaces import Box, Discrete

try:
    from tensordict import TensorDict, TensorDictBase
    from torchrl.data import Binary, Bounded, Categorical, Composite, Unbounded
    from torchrl.envs import EnvBase
except ImportError as error:
    raise PhalanxError(
        "phalanx.adapters.torchrl needs the package torchrl;"
        " install it with `pip install 'phalanx[adapters]'`"
    ) from error


class TorchRLEnv(EnvBase):
    """A task, or the name of one followed by the arguments of `tasks.make`."""

    def __init__(self, task: str | tasks.Task, num_envs: int | None = None, **kwargs: Any) -> None:
        self.task = tasks.make(task, num_envs, **kwargs) if isinstance(task, str) else task
        n, device = self.task.num_envs, self.task.device
        super().__init__(device=device, batch_size=(n,))
        obs, actions = self.task.observation_space, self.task.action_space
        self.observation_spec = Composite(
            observation=Unbounded((n, *obs.shape), device=device), shape=(n,)
        )
        if isinstance(actions, Box):
            self.action_spec = Bounded(-1.0, 1.0, (n, *actions.shape), device, torch.float32)
        elif isinstance(actions, Discrete):
            self.action_spec = Categorical(actions.n, shape=(n,), device=device)
        else:
            raise PhalanxError(f"the adapter for TorchRL has no actions of the kind {actions}")
        self._ended = torch.zeros(n, 1, dtype=torch.bool, device=device)  # and begun again
        self.reward_spec = Unbounded((n, 1), device=device)
        flag = Binary(1, shape=(n, 1), dtype=torch.bool, device=device)
        self.done_spec = Composite(
            done=flag, terminated=flag.clone(), truncated=flag.clone(), shape=(n,)
        )

    def _reset(self, tensordict: TensorDictBase | None, **kwargs: Any) -> TensorDictBase:
        """Begin all episodes; those of "_reset", (N, 1), that have just ended have begun."""
        chosen = None if tensordict is None else tensordict.get("_reset", None)
        if chosen is None or (chosen.all() and not self._ended.all()):
            self.task.reset()
            self._ended = torch.zeros_like(self._ended)
        elif (chosen & ~self._ended).any():
            raise PhalanxError("environments whose episodes go on can only be reset all together")
        return self._out(observation=self.task.observations["obs"].clone())

    def _step(self, tensordict: TensorDictBase) -> TensorDictBase:
        with torch.no_grad():
            _, reward, terminated, truncated, infos = self.task.step(tensordict["action"])
        self._ended = (terminated | truncated)[:, None]
        return self._out(
            observation=infos["terminal"]["obs"].clone(),
            reward=reward[:, None].clone(),
            terminated=terminated[:, None].clone(),
            truncated=truncated[:, None].clone(),
            done=self._ended.clone(),
        )

    def _set_seed(self, seed: int | None) -> None:
        """Seed torch's global generators, from which tasks draw."""
        if seed is not None:
            torch.manual_seed(seed)

    def _out(self, **values: torch.Tensor) -> TensorDictBase:
        return TensorDict(values, batch_size=self.batch_size, device=self.device)
