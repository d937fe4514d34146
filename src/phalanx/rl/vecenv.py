"""The protocol of environments that an agent can train in, and their creation by name.

Agents use this protocol and know nothing about physics. Register your own environment under the
name given in `params.config.env_name`:

    vecenv.register("my_env", lambda num_envs, device, **env_config: MyEnv(...))
"""

import functools
import inspect
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from typing import Any, Protocol

import torch
from torch import Tensor

from phalanx import environments
from phalanx.environments import register
from phalanx.errors import PhalanxError
from phalanx.rl.nested import nested
from phalanx.spaces import ActionSpace, Box, Dict, ObservationSpace

__all__ = ["CapturableVecEnv", "ConvertedEnv", "ImitationVecEnv", "VecEnv", "create", "register"]


class VecEnv(Protocol):
    """`num_envs` environments, which reset themselves within the step that ends an episode."""

    num_envs: int
    device: torch.device
    observation_space: ObservationSpace
    action_space: ActionSpace

    @property
    def observations(self) -> dict[str, Any]:
        """The observations that `reset` or `step` returned last."""

    def reset(self) -> dict[str, Any]:
        """Reset all environments; returns {"obs": (N, *observation_space.shape)}, or {"obs": {name:
        ...}} for several observations."""

    def step(
        self, actions: Tensor
    ) -> tuple[dict[str, Any], Tensor, Tensor, Tensor, dict[str, Any]]:
        """Observations to act on next, reward (N,), terminated (N,), truncated (N,), infos.
        infos["terminal"] holds the observations that were reached, before any reset."""

    def state_dict(self) -> dict[str, Any]:
        """Everything that a run needs to continue bit for bit."""

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what `state_dict` returned. If that is not possible, raises PhalanxError without
        changing anything."""


class ImitationVecEnv(VecEnv, Protocol):
    """An environment for AMP. The infos of its steps hold "amp_obs" (N, D): the last observations,
    including the one reached, before any reset."""

    amp_observation_space: Box

    def fetch_amp_obs_demo(self, num_samples: int) -> Tensor:
        """Values of "amp_obs" for random demonstrations, (num_samples, D)."""


class CapturableVecEnv(VecEnv, Protocol):
    """An environment whose steps may be captured in a CUDA graph."""

    def capture(self) -> AbstractContextManager[None]:
        """Inside, steps are recorded into the graph that torch is capturing."""

    def grow(self) -> str | None:
        """Called between iterations. Enlarges buffers that have overflowed and returns a sentence
        that says so, otherwise None; after growing, captured graphs are invalid."""


def create(env_name: str, /, **kwargs: Any) -> VecEnv:
    """Make the environment `env_name` with `kwargs`, which may contain any name, even `env_name`.
    Raises PhalanxError for an unknown name, or arguments that the environment does not take."""
    make = creator(env_name, kwargs)
    try:
        inspect.signature(make).bind(**kwargs)
    except TypeError as error:
        raise PhalanxError(
            f"params.config.env_config does not fit the environment {env_name!r}: {error}"
        ) from error
    env: VecEnv = make(**kwargs)
    return env


def creator(env_name: str, env_config: Mapping[str, Any]) -> environments.Creator:
    """The creator of an environment: the registered one, or Gymnasium's for a name that only
    Gymnasium knows. Raises PhalanxError for an unknown name."""
    if not environments.is_registered(env_name) and gymnasium_knows(env_name):
        return functools.partial(environments.find("gymnasium"), id=env_name)
    try:
        return environments.find(env_name)
    except PhalanxError as error:
        for key in ("id", "env_name", "name"):
            if gymnasium_knows(name := env_config.get(key)):
                raise PhalanxError(
                    f"{error}; Gymnasium has {name}: `env_name: gymnasium`,"
                    f" `env_config: {{id: {name}}}`"
                ) from error
        raise


def takes_seed(env_name: str, env_config: Mapping[str, Any]) -> bool:
    """Whether the creator of that environment has a parameter `seed`; False for an unknown name."""
    try:
        return environments.takes(creator(env_name, env_config), "seed")
    except PhalanxError:
        return False


def gymnasium_knows(env_id: Any) -> bool:
    """Whether Gymnasium is installed and has that environment, in any version."""
    try:
        import gymnasium
    except ImportError:
        return False
    try:
        gymnasium.spec(env_id)
    except (gymnasium.error.VersionNotFound, gymnasium.error.DeprecatedEnv):
        return True
    except (gymnasium.error.Error, TypeError, AttributeError, ImportError):
        return False
    return True


class ConvertedEnv:
    """Converts an environment's observations: moves them to another device, and divides images of
    bytes by 255, as in RL Games."""

    def __init__(self, env: VecEnv, device: torch.device) -> None:
        self.env = env
        self.device = device
        self._moves = device != env.device

    def __getattr__(self, name: str) -> Any:
        # Copies between devices cannot be part of a graph, and nothing is compiled on a CPU.
        if name == "env" or (name in ("capture", "fuse") and self._moves):
            raise AttributeError(name)
        return getattr(self.env, name)

    @property
    def observations(self) -> dict[str, Any]:
        """The observations that `reset` or `step` returned last."""
        return self._converted(self.env.observations)

    def reset(self) -> dict[str, Any]:
        """See `VecEnv.reset`."""
        return self._converted(self.env.reset())

    def step(
        self, actions: Tensor
    ) -> tuple[dict[str, Any], Tensor, Tensor, Tensor, dict[str, Any]]:
        """See `VecEnv.step`; of the infos, only "terminal" and "amp_obs" change device."""
        obs, reward, terminated, truncated, infos = self.env.step(actions.to(self.env.device))
        flags = (x.to(self.device) for x in (reward, terminated, truncated))
        seen = {k: self._converted(infos[k]) for k in ("terminal", "amp_obs") if k in infos}
        return self._converted(obs), *flags, {**infos, **seen}

    @property
    def get_action_masks(self) -> Callable[[], Tensor]:
        """Action masks (N, n) bool; exists only if the environment has it."""
        env: Any = self.env
        masks: Callable[[], Tensor] = env.get_action_masks
        return lambda: masks().to(self.device)

    def fetch_amp_obs_demo(self, num_samples: int) -> Tensor:
        """See `ImitationVecEnv.fetch_amp_obs_demo`."""
        env: Any = self.env
        demo: Tensor = env.fetch_amp_obs_demo(num_samples)
        return demo.to(self.device)

    def _converted(self, obs: Any) -> Any:
        return nested(lambda x: image_to_float(x.to(self.device)), obs)


def image_to_float(x: Tensor) -> Tensor:
    """`x` (N, ...) unchanged, or for bytes of an image, divided by 255."""
    return x.float() / 255.0 if x.dtype == torch.uint8 else x


def has_image(space: ObservationSpace | None) -> bool:
    """Whether the observations contain an array of three dimensions."""
    if isinstance(space, Dict):
        return any(has_image(s) for s in space.spaces.values())
    return space is not None and len(space.shape) == 3
