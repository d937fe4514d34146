"""MuJoCo's C engine on all CPU cores (`mujoco.batch`), bit-identical to a loop over `MjData`.

The batch keeps each environment's state as a float64 row. Tensors shown to the outside are float32
mirrors: refreshed after every call, and written back before the next one where they were written,
element by element, so that what nobody wrote keeps its float64 value.
"""

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import mujoco
import numpy as np
import torch
from mujoco.batch import DATA_FIELDS, MODEL_FIELDS, Batch, SimulationError
from torch import Tensor

from phalanx.sim.engines import (
    ACCELERATION_FIELDS,
    INPUT_FIELDS,
    STATE_FIELDS,
    CompilesScene,
    Until,
    left_by_step,
)

NO_STAGE = int(mujoco.mjtStage.mjSTAGE_NONE)
VEL_STAGE = int(mujoco.mjtStage.mjSTAGE_VEL)
_FULL = (int(mujoco.mjtWarning.mjWARN_CONTACTFULL), int(mujoco.mjtWarning.mjWARN_CNSTRFULL))


class _Mirror:
    """A tensor beside a batch array: float32 where that is float64, else of the same type."""

    def __init__(self, array: np.ndarray) -> None:
        kind = np.float32 if array.dtype.kind == "f" else array.dtype
        self.array = array
        self.values = np.empty(array.shape, kind)
        self._pulled = np.empty(array.shape, kind)
        self.pull()
        self.tensor = torch.from_numpy(self.values)

    def pull(self, rows: Any = slice(None)) -> None:
        """Array to tensor, in environments `rows`."""
        with np.errstate(over="ignore"):  # beyond float32 is inf, which Sim calls diverged
            self.values[rows] = self.array[rows]
        self._pulled[rows] = self.values[rows]

    def push(self) -> None:
        """What was written to the tensor, and only that, to the array.

        Found by comparing: the tensor's version counter misses writes through `.data` and numpy.
        """
        written = self.values != self._pulled
        if written.any():
            np.copyto(self.array, self.values, where=written)
            np.copyto(self._pulled, self.values)


class CpuEngine:
    """See `phalanx.sim.engines.Engine`."""

    name = "mujoco"
    device = torch.device("cpu")

    def __init__(self, scene: CompilesScene, num_envs: int, threads: int = 0) -> None:
        self._scene = scene
        self.model = model = _prepared(scene.compile())
        self.num_envs = num_envs
        self.failed = torch.zeros(num_envs, dtype=torch.bool)
        self._threads = threads
        self._batch = Batch(model, num_envs, threads)
        self.threads = self._batch.nthread
        self._initial = self._batch.state[:1].copy()
        self._before = self._batch.state.copy()
        self._warnings = self._batch.warning[:, _FULL, 1].copy()
        self._data: dict[str, _Mirror] = {}  # state and inputs, written back
        self._derived: dict[str, _Mirror] = {}
        self._fresh: set[str] = set()  # of those, the ones to compute anew after a step
        self._model_fields: dict[str, _Mirror] = {}
        self._grown: str | None = None
        self._stage = NO_STAGE
        acc = model.sensor_needstage == mujoco.mjtStage.mjSTAGE_ACC
        self._acc_sensors = np.repeat(acc, model.sensor_dim)

    def field(self, name: str, as_left: bool = False) -> Tensor:
        if name not in DATA_FIELDS:
            raise KeyError(name)
        if name in STATE_FIELDS or name in INPUT_FIELDS:
            if name not in self._data:
                self._data[name] = _Mirror(self._batch.bind(name))
            return self._data[name].tensor
        fresh = not as_left and not left_by_step(name, self.model)
        if name not in self._derived or (fresh and name not in self._fresh):
            if name not in self._derived:
                self._derived[name] = _Mirror(self._batch.bind(name))
            if fresh:
                self._stage = VEL_STAGE
                self._fresh.add(name)
            self._push()
            self._run(lambda: self._batch.forward())
            self._derived[name].pull()
        return self._derived[name].tensor

    def model_field(self, name: str) -> Tensor:
        if name not in MODEL_FIELDS:
            raise KeyError(name)
        if name not in self._model_fields:
            self._model_fields[name] = _Mirror(self._batch.expand(name))
        return self._model_fields[name].tensor

    def set_const(self, mask: Tensor) -> None:
        if mask.any():
            self._push()
            self._batch.set_const(mask.numpy())
            for mirror in self._model_fields.values():
                mirror.pull()

    def model_of(self, env: int) -> mujoco.MjModel:
        self._push()
        return self._batch.get_model(env)

    def step(self, substeps: int, until: Until = "derived") -> None:
        self._push()
        stage = self._stage if until == "derived" else NO_STAGE
        self._run(lambda: self._batch.step(nstep=substeps, stage=stage))
        for mirror in (*self._data.values(), *self._derived.values()):
            mirror.pull()

    def derive(self, mask: Tensor) -> None:
        if self._stage == NO_STAGE or not mask.any():
            return
        rows = mask.numpy()
        self._push()
        self._run(lambda: self._batch.forward(ids=rows, stage=self._stage))
        for name, mirror in self._derived.items():
            if name == "sensordata":
                mirror.pull(np.ix_(rows, ~self._acc_sensors))
            elif name not in ACCELERATION_FIELDS:
                mirror.pull(rows)

    def forward(self, mask: Tensor) -> None:
        self.derive(mask)
        if "sensordata" in self._derived:
            rows = mask.numpy()
            self._derived["sensordata"].values[np.ix_(rows, self._acc_sensors)] = 0.0

    def reset(self, mask: Tensor) -> None:
        if mask.any():
            self._push()
            self._batch.state[mask.numpy()] = self._initial
            for mirror in self._data.values():
                mirror.pull()

    @contextlib.contextmanager
    def capture(self) -> Iterator[None]:
        raise NotImplementedError("the CPU engine has no CUDA graphs")
        yield

    def grow(self) -> str | None:
        grown, self._grown = self._grown, None
        return grown

    def state_dict(self) -> dict[str, Any]:
        self._push()
        fields = {k: torch.from_numpy(v) for k, v in self._expanded().items()}
        return {"state": torch.from_numpy(self._batch.state.copy()), "model": fields}

    def load_state_dict(self, state: dict[str, Any], model_fields: bool) -> None:
        self._push()
        saved = {k: v.numpy() for k, v in state["model"].items()}
        self._rebuild(state["state"].numpy(), saved if model_fields else self._expanded())
        for mirror in (*self._data.values(), *self._model_fields.values()):
            mirror.pull()

    def _push(self) -> None:
        for mirror in (*self._data.values(), *self._model_fields.values()):
            mirror.push()

    def _run(self, call: Callable[[], None]) -> None:
        """`call` the batch, and again in larger memory for as long as contacts do not fit."""
        np.copyto(self._before, self._batch.state)
        self._call(call)
        while self._memory_was_full():
            self._enlarge()
            self._call(call)

    def _call(self, call: Callable[[], None]) -> None:
        self.failed.zero_()
        try:
            call()
        except SimulationError as error:
            self.failed[torch.from_numpy(error.ids.astype(np.int64))] = True

    def _memory_was_full(self) -> bool:
        """Whether the last call dropped contacts, with a warning, or gave up, with an error."""
        now = self._batch.warning[:, _FULL, 1]
        full = bool((now != self._warnings).any())
        self._warnings = now.copy()
        failed = self.failed.nonzero()[:, 0].tolist()
        return full or any("out of memory" in self._batch.error(i) for i in failed)

    def _enlarge(self) -> None:
        """Twice the memory for contacts and constraints, then the state from before the call."""
        memory = 2 * self.model.narena
        self.model = _prepared(self._scene.compile(memory))
        self._rebuild(self._before, self._expanded())
        self._grown = (
            f"contacts filled the physics memory; it was enlarged to {memory / 2**20:.3g} MiB a"
            " thread and the step repeated, no contact was dropped"
        )

    def _expanded(self) -> dict[str, np.ndarray]:
        """Model fields that differ between environments, and what set_const derived from them."""
        fields = {name: self._batch.expanded(name) for name in sorted(MODEL_FIELDS)}
        return {name: values.copy() for name, values in fields.items() if values is not None}

    def _rebuild(self, state: np.ndarray, model_fields: dict[str, np.ndarray]) -> None:
        """A new batch; every tensor handed out belongs to it from now on."""
        self._batch = Batch(self.model, self.num_envs, self._threads)
        self._batch.state[:] = state
        for name, values in model_fields.items():
            self._batch.expand(name)[...] = values
        for name, mirror in (*self._data.items(), *self._derived.items()):
            mirror.array = self._batch.bind(name)
        for name, mirror in self._model_fields.items():
            mirror.array = self._batch.expand(name)
        self._warnings = self._batch.warning[:, _FULL, 1].copy()


def _prepared(model: mujoco.MjModel) -> mujoco.MjModel:
    # MuJoCo resets what diverges silently; `Sim` counts, names and resets it instead.
    flags = int(mujoco.mjtDisableBit.mjDSBL_AUTORESET)
    if model.ntree < 2 and model.opt.solver == mujoco.mjtSolver.mjSOL_NEWTON:
        # A moving robot's contacts come and go: from the unconstrained acceleration the solver
        # takes fewer steps to the same solution than from the last one (Ant 1.3 instead of 2.1).
        flags |= int(mujoco.mjtDisableBit.mjDSBL_WARMSTART)
    model.opt.disableflags |= flags
    return model
