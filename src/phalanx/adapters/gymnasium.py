"""Phalanx tasks as Gymnasium vector environments.

    import gymnasium, phalanx.adapters.gymnasium  # registers phalanx/<task>-v0 for every task
    env = gymnasium.make_vec("phalanx/Cartpole-v0", num_envs=64, device="cpu")
    env = gymnasium.make("phalanx/Cartpole-v0", render_mode="rgb_array")      # a single one

When an episode ends, the environment is reset within the step (`AutoresetMode.SAME_STEP`). The
observation from before the reset is infos["final_obs"], valid where infos["_final_obs"] is True.
For `output="numpy"` it is an array with an observation or None per environment, present only if an
episode ended, as in Gymnasium's own environments. For `output="torch"` it is always the tensor (N,
...), so that nothing waits for the GPU. Source: gymnasium/vector/sync_vector_env.py 1.4.

With `render_mode="rgb_array"`, `render()` gives a picture of each environment, which is drawn when
it is looked at: with RecordVideo's `record_first_only=True`, only that of the first is.
"""

import multiprocessing
from collections.abc import Callable, Sequence
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from phalanx import tasks
from phalanx.errors import PhalanxError
from phalanx.frames import FrameRenderer
from phalanx.sim.recorder import states_of
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

    metadata: dict[str, Any] = {  # noqa: RUF012
        "autoreset_mode": AutoresetMode.SAME_STEP,
        "render_modes": ["rgb_array"],
    }

    def __init__(
        self,
        task: str | tasks.Task,
        num_envs: int | None = None,
        device: str = "auto",
        output: Literal["numpy", "torch"] = "numpy",
        render_mode: str | None = None,
        **env: Any,
    ) -> None:
        _check_render_mode(render_mode)
        if output not in ("numpy", "torch"):
            raise PhalanxError(f"output is {output!r}; it must be 'numpy' or 'torch'")
        self.task = tasks.make(task, num_envs, device, **env) if isinstance(task, str) else task
        self.output, self.render_mode = output, render_mode
        self.metadata = {**self.metadata, "render_fps": round(1 / self.task.sim.dt)}
        self._renderer: FrameRenderer | None = None
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

    def render(self) -> "Pictures | None":  # type: ignore[override]
        """A picture (240, 320, 3) uint8 of each environment; None without a `render_mode`."""
        if self.render_mode is None:
            return None
        self._renderer = self._renderer or FrameRenderer(self.task.sim.model_of(0))
        return Pictures(self._renderer, states_of(self.task.sim), self.task.sim.model_of)

    def close_extras(self, **kwargs: Any) -> None:
        """End the process that draws."""
        if self._renderer is not None:
            self._renderer.close()

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


class PhalanxEnv(gymnasium.Env[Any, Any]):
    """One environment of a task as a `gymnasium.Env`; arguments as for `PhalanxVectorEnv`. As usual
    in Gymnasium, the caller resets it when an episode has ended. Raises PhalanxError for several
    environments."""

    metadata: dict[str, Any] = {"render_modes": ["rgb_array"]}  # noqa: RUF012

    def __init__(self, task: str, render_mode: str | None = None, **kwargs: Any) -> None:
        if multiprocessing.parent_process() is not None:  # AsyncVectorEnv's, which may have forked:
            torch.set_num_threads(1)  # threads of the parent, for which torch would wait, are gone
        if (count := kwargs.pop("num_envs", 1)) != 1:
            raise PhalanxError(
                f"num_envs is {count!r}, but gymnasium.make makes one environment; use"
                " gymnasium.make_vec"
            )
        self._vector = PhalanxVectorEnv(task, num_envs=1, render_mode=render_mode, **kwargs)
        self.task, self.render_mode = self._vector.task, render_mode
        self.metadata = {**self.metadata, "render_fps": self._vector.metadata["render_fps"]}
        self.observation_space = self._vector.single_observation_space
        self.action_space = self._vector.single_action_space

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        """Start an episode."""
        super().reset(seed=seed)
        obs, infos = self._vector.reset(seed=seed, options=options)
        return obs[0], infos

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        """The observation is the one that was reached, also where the episode ended."""
        obs, reward, terminated, truncated, infos = self._vector.step(np.asarray(action)[None])
        ended = bool(terminated[0] or truncated[0])
        reached = infos["final_obs"][0] if ended else obs[0]
        return reached, float(reward[0]), bool(terminated[0]), bool(truncated[0]), {}

    def render(self) -> Any:
        """A picture (240, 320, 3) uint8; None without a `render_mode`."""
        pictures = self._vector.render()
        return None if pictures is None else pictures[0]

    def close(self) -> None:
        """End the process that draws."""
        self._vector.close()


class Pictures(Sequence[np.ndarray]):
    """Pictures of states (N, width), each drawn when it is taken, with the sizes and colours that
    its environment then has: of `model_of(env)`."""

    def __init__(
        self, renderer: FrameRenderer, states: np.ndarray, model_of: Callable[[int], Any]
    ) -> None:
        self._renderer, self._states, self._model_of = renderer, states, model_of

    def __len__(self) -> int:
        return len(self._states)

    def __getitem__(self, env: Any) -> Any:
        if isinstance(env, slice):
            return [self[k] for k in range(*env.indices(len(self)))]
        env = range(len(self))[env]  # from the end, too
        return self._renderer.draw(self._states[env], self._model_of(env))


def _check_render_mode(render_mode: str | None) -> None:
    if render_mode not in (None, "rgb_array"):
        raise PhalanxError(
            f"render_mode is {render_mode!r}; it must be 'rgb_array', or None for no pictures"
        )


for _name in tasks.TASKS:
    gymnasium.register(
        f"{NAMESPACE}/{_name}-v0",
        entry_point="phalanx.adapters.gymnasium:PhalanxEnv",
        vector_entry_point="phalanx.adapters.gymnasium:PhalanxVectorEnv",
        kwargs={"task": _name},
    )
