"""Environments that an agent can train in, and where they are found by name.

An agent knows this protocol and nothing of physics. Register your own under the name that
`params.config.env_name` gives:

    vecenv.register("my_env", lambda num_envs, device, **env_config: MyEnv(...))
"""

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any, Protocol

import torch
from torch import Tensor

from phalanx import environments
from phalanx.environments import register
from phalanx.rl.nested import nested
from phalanx.spaces import ActionSpace, Box, ObservationSpace

__all__ = ["CapturableVecEnv", "ImitationVecEnv", "OnDevice", "VecEnv", "create", "register"]


class VecEnv(Protocol):
    """`num_envs` environments that reset themselves within the step in which they end."""

    num_envs: int
    device: torch.device
    observation_space: ObservationSpace
    action_space: ActionSpace

    @property
    def observations(self) -> dict[str, Any]:
        """What `reset` or `step` returned last."""

    def reset(self) -> dict[str, Any]:
        """Start everywhere; {"obs": (N, *observation_space.shape)}, or a dictionary of such."""

    def step(
        self, actions: Tensor
    ) -> tuple[dict[str, Any], Tensor, Tensor, Tensor, dict[str, Any]]:
        """Observations to act on next, reward (N,), terminated (N,), truncated (N,), infos.
        infos["terminal"] holds the observations that were reached, before any reset."""

    def state_dict(self) -> dict[str, Any]:
        """Everything a run needs to continue bit for bit."""

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take back what `state_dict` gave. Raises PhalanxError, unchanged, if it cannot."""


class ImitationVecEnv(VecEnv, Protocol):
    """One that a discriminator judges. The infos of its steps hold "amp_obs" (N, D): what was
    reached, before any reset, with what came before it."""

    amp_observation_space: Box

    def fetch_amp_obs_demo(self, num_samples: int) -> Tensor:
        """The same of random demonstrations, (num_samples, D)."""


class CapturableVecEnv(VecEnv, Protocol):
    """One whose steps may be captured in a CUDA graph."""

    def capture(self) -> AbstractContextManager[None]:
        """Steps inside are recorded into the graph that torch is capturing."""

    def grow(self) -> str | None:
        """Asked between iterations; a sentence means that captured graphs are stale."""


def create(env_name: str, /, **kwargs: Any) -> VecEnv:
    """The environment of that name, made with `kwargs`, which may hold any name, even `env_name`.
    Raises PhalanxError for an unknown one."""
    env: VecEnv = environments.find(env_name)(**kwargs)
    return env


class OnDevice:
    """An environment whose observations, rewards and flags are wanted on another device."""

    def __init__(self, env: VecEnv, device: torch.device) -> None:
        self.env = env
        self.device = device

    def __getattr__(self, name: str) -> Any:
        # Copying between devices cannot be part of a graph, and on a CPU nothing is compiled.
        if name in ("capture", "fuse"):
            raise AttributeError(name)
        return getattr(self.env, name)

    @property
    def observations(self) -> dict[str, Any]:
        """What `reset` or `step` returned last."""
        return self._moved(self.env.observations)

    def reset(self) -> dict[str, Any]:
        """See `VecEnv.reset`."""
        return self._moved(self.env.reset())

    def step(
        self, actions: Tensor
    ) -> tuple[dict[str, Any], Tensor, Tensor, Tensor, dict[str, Any]]:
        """See `VecEnv.step`."""
        obs, reward, terminated, truncated, infos = self.env.step(actions.to(self.env.device))
        flags = (x.to(self.device) for x in (reward, terminated, truncated))
        seen = {k: self._moved(v) for k, v in infos.items() if k in ("terminal", "amp_obs")}
        return self._moved(obs), *flags, seen

    @property
    def get_action_masks(self) -> Callable[[], Tensor]:
        """(N, n) bool; there only if the environment has it."""
        env: Any = self.env
        masks: Callable[[], Tensor] = env.get_action_masks
        return lambda: masks().to(self.device)

    def fetch_amp_obs_demo(self, num_samples: int) -> Tensor:
        """See `ImitationVecEnv.fetch_amp_obs_demo`."""
        env: Any = self.env
        demo: Tensor = env.fetch_amp_obs_demo(num_samples)
        return demo.to(self.device)

    def _moved(self, obs: Any) -> Any:
        return nested(lambda x: x.to(self.device), obs)
