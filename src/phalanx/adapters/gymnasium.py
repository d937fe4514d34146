"""Phalanx tasks as Gymnasium vector environments.

    import gymnasium, phalanx.adapters.gymnasium  # registers phalanx/<task> for every task
    env = gymnasium.make_vec("phalanx/Cartpole", num_envs=64, device="cpu")

When an episode ends, the environment is reset within the step (`AutoresetMode.SAME_STEP`). The
observation from before the reset is infos["final_obs"], valid where infos["_final_obs"] is True.
For `output="numpy"` it is an array with an observation or None per environment, present only if an
episode ended, as in Gymnasium's own environments. For `output="torch"` it is always the tensor (N,
...), so that nothing waits for the GPU. Source: gymnasium/vector/sync_vector_env.py 1.4.
"""

from typing import Any, ClassVar, Literal

import numpy as np
import torch
from torch import Tensor

from phalanx import tasks
from phalanx.errors import PhalanxError
from phalanx.spaces import Box, Discrete, MultiDiscrete

try:
    import gymnasium
    from gymnasium.vector import AutoresetMode, VectorEnv
    from gymnasium.vector.utils import batch_space
except ImportError as error:
    raise PhalanxError(
        "phalanx.adapters.gymnasium needs the package gymnasium 1.1 or newer;"
        " install it with `pip install 'phalanx[gymnasium]'`"
    ) from error

NAMESPACE = "phalanx"


def to_gymnasium(space: Any) -> gymnasium.Space:
    """The Gymnasium space of one environment for our space."""
    if isinstance(space, Discrete):
        return gymnasium.spaces.Discrete(space.n)
    if isinstance(space, MultiDiscrete):
        return gymnasium.spaces.MultiDiscrete(list(space.nvec))
    if isinstance(space, Box):
        low, high = (np.array(x, np.float32) for x in (space.low, space.high))
        low, high = (
            x.reshape(space.shape) if x.ndim else np.full(space.shape, x) for x in (low, high)
        )
        return gymnasium.spaces.Box(low, high, dtype=np.float32)
    raise PhalanxError(f"there is no Gymnasium space for {space}")


class PhalanxVectorEnv(VectorEnv):
    """A task as a `gymnasium.vector.VectorEnv`.

    task: a `Task`, or the name of one, followed by num_envs, device, engine and fields of its
    config. output: whether `reset` and `step` return numpy arrays or torch tensors on the task's
    device; actions may be either.
    """

    metadata: ClassVar[dict[str, Any]] = {"autoreset_mode": AutoresetMode.SAME_STEP}  # type: ignore[misc]

    def __init__(
        self,
        task: str | tasks.Task,
        num_envs: int | None = None,
        device: str = "auto",
        output: Literal["numpy", "torch"] = "numpy",
        **env: Any,
    ) -> None:
        if output not in ("numpy", "torch"):
            raise PhalanxError(f"output is {output!r}; it must be 'numpy' or 'torch'")
        self.task = tasks.make(task, num_envs, device, **env) if isinstance(task, str) else task
        self.output = output
        self.num_envs = self.task.num_envs
        self.device = self.task.device
        self.single_observation_space = to_gymnasium(self.task.observation_space)
        self.single_action_space = to_gymnasium(self.task.action_space)
        self.observation_space = batch_space(self.single_observation_space, self.num_envs)
        self.action_space = batch_space(self.single_action_space, self.num_envs)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        """Reset all environments. A seed sets torch's global generators, which tasks draw from."""
        if options:
            raise PhalanxError(
                f"a Phalanx task takes no reset options, but got {', '.join(map(str, options))};"
                " episodes that end are reset within the step"
            )
        super().reset(seed=seed)
        if seed is not None:
            torch.manual_seed(seed)
        return self._out(self.task.reset()["obs"]), {}

    def step(self, actions: Any) -> tuple[Any, Any, Any, Any, dict[str, Any]]:
        """Observations (N, ...), reward (N,), terminated (N,), truncated (N,), infos."""
        obs, reward, terminated, truncated, infos = self.task.step(
            torch.as_tensor(actions, device=self.device)
        )
        return (
            self._out(obs["obs"]),
            self._out(reward),
            self._out(terminated),
            self._out(truncated),
            self._final(infos["terminal"]["obs"], terminated | truncated),
        )

    def _final(self, reached: Tensor, ended: Tensor) -> dict[str, Any]:
        """Infos about the episodes that ended; reached (N, ...), ended (N,)."""
        final_obs, mask = self._out(reached), self._out(ended)
        if self.output == "numpy":
            if not mask.any():
                return {}
            rows, final_obs = final_obs, np.full(self.num_envs, None, dtype=object)
            for i in mask.nonzero()[0]:
                final_obs[i] = rows[i]
        return {
            "final_obs": final_obs,
            "_final_obs": mask,
            "final_info": {},
            "_final_info": self._out(ended),
        }

    def _out(self, x: Tensor) -> Any:
        return x.clone() if self.output == "torch" else x.cpu().numpy().copy()


for _name in tasks.TASKS:
    gymnasium.register(
        f"{NAMESPACE}/{_name}",
        vector_entry_point="phalanx.adapters.gymnasium:PhalanxVectorEnv",
        kwargs={"task": _name},
    )
