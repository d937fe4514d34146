"""Gymnasium's vector environments, to train in; what `env_name: gymnasium` is registered to.

    params.config:
      env_name: gymnasium
      env_config: {id: HalfCheetah-v5, vectorization_mode: async}
      num_actors: 8

An episode that ends is reset within the step, which is Gymnasium's `AutoresetMode.SAME_STEP`; sync
and async environments are made so. An environment with an entry point of its own may do otherwise:

- DISABLED: it is reset here, by `reset(options={"reset_mask": ended})`, in the same step.
- NEXT_STEP: it would reset itself in the next step, ignore the action and return reward 0, and
  that dead step would be learnt from like any other. So it too is reset here by `reset_mask`; one
  that does not know the mask and resets every episode is noticed and refused.

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
    vectorization_mode: sync, async or vector_entry_point; None takes sync where there is one.
    wrappers: around each environment: a callable, or a name in `gymnasium.wrappers`.
    Raises PhalanxError for what Gymnasium cannot make.
    """
    if id is None:
        raise PhalanxError("params.config.env_config.id is missing, as in `id: HalfCheetah-v5`")
    if num_envs is None:
        raise PhalanxError(f"params.config.num_actors is missing: how many {id} shall run at once")
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

    A Dict of observations with an entry "obs" is passed on as it is, so that "states" beside it
    may feed a central value; one without becomes {"obs": {name: (N, ...)}}, as in RL Games.
    device: auto is the GPU if there is one. seed: of the first reset; None takes one from torch.
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
        """What `reset` or `step` returned last."""
        return self._obs

    def reset(self) -> dict[str, Any]:
        """Start everywhere; {"obs": (N, *observation_space.shape)}."""
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
        """Empty: Gymnasium has no way to ask an environment for its state."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Raises PhalanxError: there is nothing to continue from."""
        raise PhalanxError(f"the state of Gymnasium's {self._name} cannot be saved")

    def close(self) -> None:
        """End the processes of an async environment."""
        self.env.close()

    # -- resets ----------------------------------------------------------------------------------

    def _reached(self, obs: Any, infos: dict[str, Any], ended: np.ndarray) -> Any:
        """`obs` with the rows of episodes that ended as they were before the reset."""
        if "final_obs" not in infos:
            raise PhalanxError(
                f"{self._name} says that it resets itself in the same step, but its infos have no"
                " final_obs"
            )
        reached, final = nested(torch.clone, obs), infos["final_obs"]
        if isinstance(final, np.ndarray) and final.dtype == object:  # one observation a row
            for row in ended.nonzero()[0]:
                _put(reached, row, final[row])
        else:  # batched like the observations
            rows = torch.as_tensor(ended, device=self.device).nonzero()[:, 0]
            _put(reached, rows, nested(lambda x: x[rows], _tensors(final, self.device)))
        return reached

    def _reset_ended(self, reached: Any, ended: np.ndarray) -> Any:
        """Start new episodes where one ended; all observations after that."""
        raw, _ = self.env.reset(options={"reset_mask": ended.copy()})
        obs = _tensors(raw, self.device)
        kept = torch.as_tensor(~ended, device=self.device).nonzero()[:, 0]
        if not _equal(_rows(obs, kept), _rows(reached, kept)):
            raise PhalanxError(
                f"{self._name} resets itself only in the step after an episode's end and ignores"
                " reset(options={'reset_mask': ...}), so a step without meaning would be learnt"
                " from; use vectorization_mode: sync or async"
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
            f"{self._name} observes {space}, a network needs a Box or a Dict of them;"
            " flatten it with env_config.wrappers: [FlattenObservation]"
        )

    def _action_space(self, space: gymnasium.Space) -> ActionSpace:
        """Ours for theirs; `_to_env` is the way back. Arrays of actions become vectors."""
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
            f"{self._name} acts by {space}, an agent can by Box (of reals), Discrete, MultiDiscrete"
            " or a Tuple of Discrete"
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
        raise PhalanxError(f"env_config.wrappers has {name!r}, which gymnasium.wrappers has not")
    return wrapper


def _bound(values: np.ndarray) -> float | tuple[float, ...]:
    """One number if all are the same."""
    flat = values.astype(float).flatten().tolist()
    return flat[0] if len(set(flat)) == 1 else tuple(flat)


def _tensor(x: Any, device: torch.device) -> Tensor:
    """A float32 copy on `device` of what may be numpy's, torch's or another library's; bytes, as
    images have them, become 0 .. 1."""
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
