"""Gymnasium's vector environments, to train in; registered as `env_name: gymnasium`.

    params.config:
      env_name: gymnasium
      env_config: {id: HalfCheetah-v5, vectorization_mode: async}
      num_actors: 8

When an episode ends, the environment is reset within the step. Sync and async environments are made
with Gymnasium's `AutoresetMode.SAME_STEP`. An environment with its own vector entry point may have
another mode:

- DISABLED: this class resets it with `reset(options={"reset_mask": ended})` in the same step.
- NEXT_STEP: by itself it would reset in the next step, ignore the action and return reward 0, and
  the agent would learn from that step. So it is also reset here with `reset_mask`. An environment
  that ignores the mask and resets every episode is detected and refused.

Source: https://farama.org/Vector-Autoreset-Mode and gymnasium/vector/sync_vector_env.py (1.1-1.4).
"""

import importlib
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from phalanx.errors import PhalanxError
from phalanx.rl.nested import nested
from phalanx.spaces import ActionSpace, Box, Dict, Discrete, MultiDiscrete, ObservationSpace

try:
    import gymnasium
    from gymnasium.vector import AutoresetMode, VectorEnv
except ImportError as error:
    raise PhalanxError(
        "Gymnasium environments need the package gymnasium 1.1 or newer;"
        " install it with `pip install 'phalanx[gymnasium]'`"
    ) from error

Wrapper = Callable[[gymnasium.Env], gymnasium.Wrapper]


def make(
    name: str,
    num_envs: int | None = None,
    device: str = "auto",
    id: str | None = None,
    vectorization_mode: str | None = None,
    wrappers: Sequence[str | Wrapper] = (),
    vector_kwargs: dict[str, Any] | None = None,
    seed: int | None = None,
    **kwargs: Any,
) -> "GymnasiumEnv":
    """`gymnasium.make_vec(id, num_envs, ...)` for an agent; kwargs go to the environment.

    id: as registered, or "module:Id-v0" to import the module that registers it first.
    vectorization_mode: sync, async or vector_entry_point; None takes sync if available.
    wrappers: wrappers of each environment, callables or names in `gymnasium.wrappers`.
    Raises PhalanxError if Gymnasium cannot make the environment.
    """
    if id is None:
        raise PhalanxError("params.config.env_config.id is missing, as in `id: HalfCheetah-v5`")
    if num_envs is None:
        raise PhalanxError(f"params.config.num_actors is missing: the number of copies of {id}")
    vector_kwargs = dict(vector_kwargs or {})
    try:
        module, _, env_id = id.rpartition(":")
        if module:
            importlib.import_module(module)
        one = gymnasium.spec(env_id).entry_point
        mode = vectorization_mode or ("sync" if one else "vector_entry_point")
        if mode in ("sync", "async"):
            vector_kwargs.setdefault("autoreset_mode", AutoresetMode.SAME_STEP)
        env = gymnasium.make_vec(
            env_id,
            num_envs,
            mode,
            vector_kwargs,
            [_wrapper(w) if isinstance(w, str) else w for w in wrappers],
            **kwargs,
        )
    except (gymnasium.error.Error, ImportError, TypeError, ValueError) as error:
        if isinstance(error, PhalanxError):
            raise
        raise PhalanxError(f"cannot make the Gymnasium environment {id!r}: {error}") from error
    return GymnasiumEnv(env, device, seed)


class GymnasiumEnv:
    """A `gymnasium.vector.VectorEnv` as a `VecEnv`: float32 tensors on `device`.

    A Dict of observations with an entry "obs" is passed on unchanged, so that an entry "states" may
    feed a central value; a Dict without it becomes {"obs": {name: (N, ...)}}, as in RL Games.
    device: auto is the GPU if there is one. seed: seed of the first reset; None draws one from
    torch.
    """

    observation_space: ObservationSpace
    action_space: ActionSpace
    state_space: ObservationSpace | None = None

    def __init__(self, env: VectorEnv, device: str = "auto", seed: int | None = None) -> None:
        self.env = env
        self.num_envs = env.num_envs
        if device == "auto":
            device = "cuda" if torch.cuda.is_available() else "cpu"
        self.device = torch.device(device)
        self.autoreset_mode = env.metadata.get("autoreset_mode", AutoresetMode.NEXT_STEP)
        self._name = env.spec.id if env.spec else type(env.unwrapped).__name__
        self._seed = int(torch.randint(2**31 - env.num_envs, ())) if seed is None else seed
        self._is_seeded = False
        space = self._observation_space(env.single_observation_space)
        self._has_obs = isinstance(space, Dict) and "obs" in space.spaces
        if isinstance(space, Dict) and self._has_obs:
            self.observation_space = space.spaces["obs"]
            self.state_space = space.spaces.get("states")
        else:
            self.observation_space = space
        self.action_space = self._action_space(env.single_action_space)
        self._obs: dict[str, Any] = {}

    @property
    def observations(self) -> dict[str, Any]:
        """The observations that `reset` or `step` returned last."""
        return self._obs

    def reset(self) -> dict[str, Any]:
        """Reset every environment; returns {"obs": (N, *observation_space.shape)}."""
        obs, _ = self.env.reset(seed=None if self._is_seeded else self._seed)
        self._is_seeded = True
        self._obs = self._named(_tensors(obs, self.device))
        return self._obs

    def step(
        self, actions: Tensor
    ) -> tuple[dict[str, Any], Tensor, Tensor, Tensor, dict[str, Any]]:
        """See `VecEnv.step`; infos are Gymnasium's and "terminal"."""
        raw, reward, terminated, truncated, infos = self.env.step(self._to_env(actions))
        terminated = _tensor(terminated, self.device) > 0
        truncated = (_tensor(truncated, self.device) > 0) & ~terminated
        ended = (terminated | truncated).cpu().numpy()
        obs = reached = _tensors(raw, self.device)
        if ended.any() and self.autoreset_mode is AutoresetMode.SAME_STEP:
            reached = self._reached(obs, infos, ended)
        elif ended.any():
            obs = self._reset_ended(reached, ended)
        self._obs = self._named(obs)
        infos = {**infos, "terminal": self._named(reached)}
        return self._obs, _tensor(reward, self.device), terminated, truncated, infos

    def state_dict(self) -> dict[str, Any]:
        """Empty: Gymnasium has no interface for an environment's state."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Raises PhalanxError: the state cannot be restored."""
        raise PhalanxError(f"the state of Gymnasium's {self._name} cannot be saved")

    def close(self) -> None:
        """End the processes of an async environment."""
        self.env.close()

    # -- resets ----------------------------------------------------------------------------------

    def _reached(self, obs: Any, infos: dict[str, Any], ended: np.ndarray) -> Any:
        """`obs`, with the observations before the reset in rows whose episode ended."""
        if "final_obs" not in infos:
            raise PhalanxError(
                f"{self._name} says that it resets itself in the same step, but its infos have no"
                " final_obs"
            )
        reached, final = nested(torch.clone, obs), infos["final_obs"]
        if isinstance(final, np.ndarray) and final.dtype == object:  # one observation per row
            for row in ended.nonzero()[0]:
                _put(reached, row, final[row])
        else:  # batched like the observations
            rows = torch.as_tensor(ended, device=self.device).nonzero()[:, 0]
            _put(reached, rows, nested(lambda x: x[rows], _tensors(final, self.device)))
        return reached

    def _reset_ended(self, reached: Any, ended: np.ndarray) -> Any:
        """Reset environments whose episode ended; returns all observations after that."""
        raw, _ = self.env.reset(options={"reset_mask": ended.copy()})
        obs = _tensors(raw, self.device)
        kept = torch.as_tensor(~ended, device=self.device).nonzero()[:, 0]
        if not _equal(_rows(obs, kept), _rows(reached, kept)):
            raise PhalanxError(
                f"{self._name} resets itself only in the step after an episode's end and ignores"
                " reset(options={'reset_mask': ...}), so the agent would learn from a meaningless"
                " step; use vectorization_mode: sync or async"
            )
        return obs

    def _named(self, obs: Any) -> dict[str, Any]:
        return obs if self._has_obs else {"obs": obs}

    # -- spaces ----------------------------------------------------------------------------------

    def _observation_space(self, space: gymnasium.Space) -> ObservationSpace:
        if isinstance(space, gymnasium.spaces.Box):
            if space.dtype == np.uint8:
                return Box(space.shape, 0.0, 1.0)
            return Box(space.shape, _bound(space.low), _bound(space.high))
        if isinstance(space, gymnasium.spaces.Dict):
            return Dict({name: self._observation_space(s) for name, s in space.items()})
        raise PhalanxError(
            f"{self._name} has the observation space {space}; a network needs a Box or a Dict of"
            " Boxes, so flatten it with env_config.wrappers: [FlattenObservation]"
        )

    def _action_space(self, space: gymnasium.Space) -> ActionSpace:
        """Our space for a Gymnasium space; `_to_env` converts actions back. Arrays of actions
        become vectors."""
        if isinstance(space, gymnasium.spaces.Box) and np.issubdtype(space.dtype, np.floating):
            return Box((int(np.prod(space.shape)),), _bound(space.low), _bound(space.high))
        if isinstance(space, gymnasium.spaces.Discrete):
            return Discrete(int(space.n))
        if isinstance(space, gymnasium.spaces.MultiDiscrete) and space.nvec.ndim == 1:
            return MultiDiscrete(tuple(int(n) for n in space.nvec))
        if isinstance(space, gymnasium.spaces.Tuple) and all(
            isinstance(s, gymnasium.spaces.Discrete) for s in space
        ):
            return MultiDiscrete(tuple(int(s.n) for s in space))
        raise PhalanxError(
            f"{self._name} has the action space {space}; agents support Box (of reals), Discrete,"
            " MultiDiscrete and a Tuple of Discrete"
        )

    def _to_env(self, actions: Tensor) -> Any:
        """Actions (N, A), or (N,) integers if discrete, as the environment takes them."""
        space = self.env.single_action_space
        a = actions.detach().cpu().numpy()
        if isinstance(space, gymnasium.spaces.Box):
            return a.astype(space.dtype).reshape(self.num_envs, *space.shape)
        if isinstance(space, gymnasium.spaces.Tuple):
            return tuple(a[:, k].astype(s.dtype) + s.start for k, s in enumerate(space))
        return a.astype(space.dtype) + space.start  # type: ignore[attr-defined]


def _wrapper(name: str) -> Wrapper:
    wrapper = getattr(gymnasium.wrappers, name, None)
    if wrapper is None:
        raise PhalanxError(f"env_config.wrappers: gymnasium.wrappers has no {name!r}")
    return wrapper


def _bound(values: np.ndarray) -> float | tuple[float, ...]:
    """Bounds as a tuple, or as one number if all are the same."""
    flat = values.astype(float).flatten().tolist()
    return flat[0] if len(set(flat)) == 1 else tuple(flat)


def _tensor(x: Any, device: torch.device) -> Tensor:
    """A float32 copy on `device` of an array of numpy, torch or another library; bytes, as in
    images, become 0 .. 1."""
    if not isinstance(x, Tensor):
        x = torch.from_numpy(np.array(x))
    copy = x.to(device, torch.float32, copy=True)
    return copy / 255.0 if x.dtype == torch.uint8 else copy


def _tensors(x: Any, device: torch.device) -> Any:
    return nested(lambda leaf: _tensor(leaf, device), x)


def _put(x: Any, rows: Any, values: Any) -> None:
    nested(lambda own, new: own.__setitem__(rows, _tensor(new, own.device)), x, values)


def _rows(x: Any, rows: Tensor) -> Any:
    return nested(lambda leaf: leaf[rows].nan_to_num(), x)


def _equal(a: Any, b: Any) -> bool:
    if isinstance(a, dict):
        return all(_equal(a[k], b[k]) for k in a)
    return torch.equal(a, b)
