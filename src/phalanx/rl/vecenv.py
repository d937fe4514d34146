"""Environments that an agent can train in, and where they are found by name.

An agent knows this protocol and nothing of physics. Register your own under the name that
`params.config.env_name` gives:

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

__all__ = ["CapturableVecEnv", "Converted", "ImitationVecEnv", "VecEnv", "create", "register"]


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
        """Restore what `state_dict` returned. Raises PhalanxError, unchanged, if it cannot."""


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
    Raises PhalanxError for an unknown one, or arguments that it does not take."""
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
    """What makes that environment: the creator registered, or for a name that only Gymnasium knows,
    Gymnasium. Raises PhalanxError for an unknown name."""
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
    """Whether what makes that environment has a parameter `seed`; False for an unknown name."""
    try:
        return environments.takes(creator(env_name, env_config), "seed")
    except PhalanxError:
        return False


def gymnasium_knows(env_id: Any) -> bool:
    """Whether Gymnasium is installed and has that environment, in whatever version."""
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


class Converted:
    """An environment whose observations are wanted on another device, or whose images are bytes,
    which become 0 .. 1 as in RL Games."""

    def __init__(self, env: VecEnv, device: torch.device) -> None:
        self.env = env
        self.device = device
        self._moves = device != env.device

    def __getattr__(self, name: str) -> Any:
        # Copying between devices cannot be part of a graph, and on a CPU nothing is compiled.
        if name == "env" or (name in ("capture", "fuse") and self._moves):
            raise AttributeError(name)
        return getattr(self.env, name)

    @property
    def observations(self) -> dict[str, Any]:
        """What `reset` or `step` returned last."""
        return self._converted(self.env.observations)

    def reset(self) -> dict[str, Any]:
        """See `VecEnv.reset`."""
        return self._converted(self.env.reset())

    def step(
        self, actions: Tensor
    ) -> tuple[dict[str, Any], Tensor, Tensor, Tensor, dict[str, Any]]:
        """See `VecEnv.step`; only "terminal" and "amp_obs" of the infos change device."""
        obs, reward, terminated, truncated, infos = self.env.step(actions.to(self.env.device))
        flags = (x.to(self.device) for x in (reward, terminated, truncated))
        seen = {k: self._converted(infos[k]) for k in ("terminal", "amp_obs") if k in infos}
        return self._converted(obs), *flags, {**infos, **seen}

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

    def _converted(self, obs: Any) -> Any:
        return nested(lambda x: floats(x.to(self.device)), obs)


def floats(x: Tensor) -> Tensor:
    """`x`, or what bytes stand for in an image: 0 .. 1."""
    return x.float() / 255.0 if x.dtype == torch.uint8 else x


def has_image(space: ObservationSpace | None) -> bool:
    """Whether an array of three dimensions is among the observations."""
    if isinstance(space, Dict):
        return any(has_image(s) for s in space.spaces.values())
    return space is not None and len(space.shape) == 3
