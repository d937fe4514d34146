"""Plain MuJoCo C: an `MjModel` and an `MjData` for each environment, and `mj_step`.

    sim = Sim(scene, num_envs=8, device="cpu", substeps=2, engine=PlainEngine)
    sim = Sim(scene, 8, "cpu", 2, engine=functools.partial(PlainEngine, timestep=0.001))

The simplest engine, and the slowest: every environment is simulated like in an ordinary MuJoCo
program. `phalanx sim2sim` uses it. How it differs from the other engines:

- The solver runs until it has converged. Training bounds its iterations, so that no environment
  waits for another.
- `timestep` [s] may be finer than the scene's. `step(substeps)` then covers the same time in more
  steps.
- `control`, if it is set, is called with the environment's index before each of its steps, like
  MuJoCo's `mjcb_control`, and may write `ctrl` and `qfrc_applied` of `datas[env]`. The tensors
  keep the values that the task has written.
- Environments that are not `active` do not step.
- `forward` makes all of `datas[env]` current, not only the fields shown as tensors.
"""

import contextlib
import copy
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import mujoco
import numpy as np
import torch
from mujoco.batch import MODEL_FIELDS
from numpy.typing import NDArray
from torch import Tensor

from phalanx.errors import PhalanxError
from phalanx.sim.engines import CompilesScene, Until, read_only
from phalanx.sim.engines.fields import (
    ACCELERATION_FIELDS,
    INPUT_FIELDS,
    STATE_FIELDS,
    left_by_step,
    refusal,
)
from phalanx.sim.engines.initial import initial_data, reset_data
from phalanx.sim.engines.mass_matrix import dense_places, solve_rows
from phalanx.sim.engines.midphase import TREE_FIELDS, without_trees

Array = NDArray[Any]
STATE = int(mujoco.mjtState.mjSTATE_INTEGRATION)
FULL = (mujoco.mjtWarning.mjWARN_CONTACTFULL, mujoco.mjtWarning.mjWARN_CNSTRFULL)


class _Field:
    """One field of all environments as a tensor, (N, ...): float32 where MuJoCo has float64."""

    def __init__(self, owners: Sequence[Any], name: str) -> None:
        self._owners, self._name = owners, name
        first = np.asarray(_read(owners[0], name))
        kind = np.float32 if first.dtype.kind == "f" else first.dtype
        self.values = np.empty((len(owners), *first.shape), kind)
        self._seen = np.empty_like(self.values)
        self.pull(range(len(owners)))
        self.tensor = torch.from_numpy(self.values)

    def pull(self, envs: Sequence[int]) -> None:
        """Copy MuJoCo's values to the tensor, in environments `envs`."""
        with np.errstate(over="ignore"):  # too large for float32 is inf; Sim reports a divergence
            for env in envs:
                self.values[env] = self._seen[env] = _read(self._owners[env], self._name)

    def push(self) -> None:
        """Copy the tensor elements that were written to MuJoCo; the others keep full precision."""
        written = self.values != self._seen
        if written.any():
            for env in np.flatnonzero(written.reshape(len(written), -1).any(1)).tolist():
                _write(self._owners[env], self._name, self.values[env], written[env])
            np.copyto(self._seen, self.values)


class PlainEngine:
    """See `phalanx.sim.engines.Engine`, and the top of this file for `timestep`.

    models, datas: the MjModel and MjData of each environment. `model` is the scene's.
    """

    name = "plain"
    device = torch.device("cpu")

    def __init__(self, scene: CompilesScene, num_envs: int, timestep: float | None = None) -> None:
        self.model = model = scene.compile()
        # MuJoCo would silently reset a diverged MjData; `Sim` counts, reports and resets it
        # instead.
        model.opt.disableflags |= int(mujoco.mjtDisableBit.mjDSBL_AUTORESET)
        read_only(model)
        exact = copy.copy(model)
        exact.opt.timestep = model.opt.timestep if timestep is None else timestep
        exact.opt.iterations = max(100, model.opt.iterations)
        exact.opt.ls_iterations = max(50, model.opt.ls_iterations)
        self._original = exact
        self.num_envs = num_envs
        self.models = [copy.copy(exact) for _ in range(num_envs)]
        self.datas = [initial_data(m) for m in self.models]
        self.control: Callable[[int], None] | None = None
        self.active = np.ones(num_envs, bool)
        self.failed = torch.zeros(num_envs, dtype=torch.bool)
        self._scratch = mujoco.MjData(exact)
        self._data: dict[str, _Field] = {}  # state and inputs
        self._derived: dict[str, _Field] = {}
        self._fresh = False  # whether a derived field must be current after a step
        self._model_fields: dict[str, _Field] = {}
        acc = model.sensor_needstage == mujoco.mjtStage.mjSTAGE_ACC
        self._acc_sensors = np.flatnonzero(np.repeat(acc, model.sensor_dim))

    def field(self, name: str, stale: bool = False) -> Tensor:
        if reason := refusal(name, self.name, self.model):
            raise PhalanxError(reason)
        if name in STATE_FIELDS or name in INPUT_FIELDS:
            if name not in self._data:
                self._data[name] = _Field(self.datas, name)
            return self._data[name].tensor
        fresh = not stale and not left_by_step(name, self.model)
        if name not in self._derived or (fresh and not self._fresh):
            self._fresh |= fresh
            self._push()
            for env in range(self.num_envs):
                self._refresh(env)
            if name not in self._derived:
                self._derived[name] = _Field(self.datas, name)
            self._derived[name].pull(range(self.num_envs))
        return self._derived[name].tensor

    def model_field(self, name: str) -> Tensor:
        if name not in MODEL_FIELDS:
            raise KeyError(name)
        if name not in self._model_fields:
            for model in self.models if name in TREE_FIELDS else ():
                without_trees(model)
            self._model_fields[name] = _Field(self.models, name)
        return self._model_fields[name].tensor

    def solve_m(self, force: Tensor, added: Tensor) -> Tensor:
        rows = force.any(1)
        mass = torch.from_numpy(np.stack([d.M for d in self.datas]))[rows]
        return solve_rows(mass, dense_places(self.model), force, added, rows)

    def set_const(self, mask: Tensor) -> None:
        self._push()
        envs = mask.nonzero()[:, 0].tolist()
        for env in envs:
            mujoco.mj_setConst(self.models[env], self._scratch)
        for field in self._model_fields.values():
            field.pull(envs)

    def model_of(self, env: int) -> mujoco.MjModel:
        self._push()
        return copy.copy(self.models[env])

    def steps(self, substeps: int) -> int:
        """Number of MuJoCo steps that cover `substeps` of the scene's timesteps. Raises
        PhalanxError if this engine's timestep does not divide that time."""
        span = substeps * self.model.opt.timestep
        steps = span / self.models[0].opt.timestep
        if round(steps) < 1 or abs(round(steps) / steps - 1) > 1e-3:
            raise PhalanxError(
                f"the timestep {self.models[0].opt.timestep:.4g} s does not divide {span:.4g} s,"
                " the time that one step of the simulation covers"
            )
        return round(steps)

    def step(self, substeps: int, until: Until = "derived") -> None:
        self._push()
        self.failed.zero_()
        steps, envs = self.steps(substeps), np.flatnonzero(self.active).tolist()
        for env in envs:
            try:
                self._advance(env, steps)
            except mujoco.FatalError:
                self.failed[env] = True
            if self._fresh and until == "derived":
                self._refresh(env)
        for name, field in (*self._data.items(), *self._derived.items()):
            if name not in INPUT_FIELDS:
                field.pull(envs)

    def derive(self, mask: Tensor) -> None:
        envs = mask.nonzero()[:, 0].tolist()
        self._push()
        for env in envs:
            self._refresh(env)
        for name, field in self._derived.items() if self._fresh else ():
            if name not in ACCELERATION_FIELDS:
                field.pull(envs)

    def forward(self, mask: Tensor) -> None:
        self.derive(mask)
        envs = mask.nonzero()[:, 0].tolist()
        if "sensordata" in self._derived:
            self._derived["sensordata"].values[np.ix_(envs, self._acc_sensors)] = 0.0

    def reset(self, mask: Tensor) -> None:
        envs = mask.nonzero()[:, 0].tolist()
        if envs:
            self._push()
            for env in envs:
                reset_data(self.models[env], self.datas[env])
            for field in self._data.values():
                field.pull(envs)

    @contextlib.contextmanager
    def capture(self) -> Iterator[None]:
        raise NotImplementedError("the plain engine has no CUDA graphs")
        yield

    def grow(self) -> str | None:
        return None  # a step that overflows raises, see `_advance`

    def state_dict(self) -> dict[str, Any]:
        self._push()
        rows = np.zeros((self.num_envs, mujoco.mj_stateSize(self.model, STATE)))
        for model, data, row in zip(self.models, self.datas, rows, strict=True):
            mujoco.mj_getState(model, data, row, STATE)
        fields = {}
        for name in sorted(MODEL_FIELDS):
            values = np.array([_read(model, name) for model in self.models])
            if (values != np.asarray(_read(self._original, name))).any():
                fields[name] = torch.from_numpy(values)
        return {"state": torch.from_numpy(rows), "model": fields}

    def load_state_dict(self, state: dict[str, Any], model_fields: bool) -> None:
        self._push()
        for env, row in enumerate(state["state"].numpy()):
            mujoco.mj_setState(self.models[env], self.datas[env], row, STATE)
            for name in MODEL_FIELDS if model_fields else ():
                saved = state["model"].get(name)
                value = _read(self._original, name) if saved is None else saved[env].numpy()
                _write(self.models[env], name, value)
        for field in (*self._data.values(), *self._model_fields.values()):
            field.pull(range(self.num_envs))
        self.derive(torch.ones_like(self.failed))

    def _push(self) -> None:
        for field in (*self._data.values(), *self._model_fields.values()):
            field.push()

    def _advance(self, env: int, steps: int) -> None:
        model, data = self.models[env], self.datas[env]
        if self.control is None:
            mujoco.mj_step(model, data, steps)
        else:
            for _ in range(steps):
                self.control(env)
                mujoco.mj_step(model, data)
        if any(data.warning[kind].number for kind in FULL):
            raise PhalanxError(
                f"the contacts of environment {env} do not fit into MuJoCo's memory of"
                f" {model.narena / 2**20:.3g} MiB, which the plain engine cannot enlarge; use"
                " another engine, or a scene with fewer contacts"
            )

    def _refresh(self, env: int) -> None:
        """Recompute everything that depends on the state alone; forces stay those of the last
        step."""
        model, data = self.models[env], self.datas[env]
        mujoco.mj_fwdPosition(model, data)
        mujoco.mj_sensorPos(model, data)
        mujoco.mj_fwdVelocity(model, data)
        mujoco.mj_sensorVel(model, data)


def _read(owner: Any, name: str) -> Any:
    """Field `name` of an MjModel or MjData, or `opt.gravity`: MuJoCo's array, or a number."""
    for part in name.split("."):
        owner = getattr(owner, part)
    return owner


def _write(owner: Any, name: str, value: Any, where: Any = ...) -> None:
    """Write `value` into field `name`; if it is an array, only into its elements `where`."""
    own = _read(owner, name)
    if isinstance(own, np.ndarray):
        own[where] = value if np.ndim(value) == 0 else value[where]
    else:
        path, _, last = name.rpartition(".")
        setattr(_read(owner, path) if path else owner, last, type(own)(value))
