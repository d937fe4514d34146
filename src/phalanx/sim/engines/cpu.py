"""MuJoCo's C engine on all CPU cores (`mujoco.batch`), bit-identical to a loop over `MjData`.

The batch keeps each environment's state as a float64 row. The tensors are float32 mirrors of it.
They are refreshed after every call; before the next call, the elements that were written are copied
back, so all others keep their float64 values.

A derived field costs nothing until it is first read. The last step is then repeated to get its
first value, so the value does not depend on when the field is first read.
"""

import contextlib
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import mujoco
import numpy as np
import torch
from mujoco.batch import MODEL_FIELDS, Batch, SimulationError
from torch import Tensor

from phalanx.errors import PhalanxError
from phalanx.sim.engines import CompilesScene, Until, copy_with, read_only
from phalanx.sim.engines.fields import (
    ACCELERATION_FIELDS,
    BODY_FORCE_FIELDS,
    INPUT_FIELDS,
    LEFT_OUT_FIELDS,
    STATE_FIELDS,
    SUBTREE_FIELDS,
    left_by_step,
    refusal,
)
from phalanx.sim.engines.initial import KEYFRAME_FIELDS, initial_data
from phalanx.sim.engines.mass_matrix import dense_places, solve_rows
from phalanx.sim.engines.midphase import TREE_FIELDS, without_trees

if TYPE_CHECKING:
    from phalanx.sim.engines.fused import FusedEngine

NO_STAGE = int(mujoco.mjtStage.mjSTAGE_NONE)
VEL_STAGE = int(mujoco.mjtStage.mjSTAGE_VEL)
_FULL = (int(mujoco.mjtWarning.mjWARN_CONTACTFULL), int(mujoco.mjtWarning.mjWARN_CNSTRFULL))
_FORCES = ACCELERATION_FIELDS | BODY_FORCE_FIELDS

# Sensors that make MuJoCo compute fields that a step otherwise skips.
_WORLD_ACCELERATION = {
    "type": mujoco.mjtSensor.mjSENS_FRAMELINACC, "objtype": mujoco.mjtObj.mjOBJ_XBODY,
    "objname": "world",
}  # fmt: skip
_WORLD_MOMENTUM = {
    "type": mujoco.mjtSensor.mjSENS_SUBTREELINVEL, "objtype": mujoco.mjtObj.mjOBJ_BODY,
    "objname": "world",
}  # fmt: skip
_SENSORS_FOR = (
    (BODY_FORCE_FIELDS, (_WORLD_ACCELERATION,)),
    (SUBTREE_FIELDS, (_WORLD_MOMENTUM,)),
    (
        {"energy"},
        (
            {"type": mujoco.mjtSensor.mjSENS_E_POTENTIAL},
            {"type": mujoco.mjtSensor.mjSENS_E_KINETIC},
        ),
    ),
)


class _Mirror:
    """A tensor that follows a batch array: float32 for float64, otherwise of the same type."""

    def __init__(self, array: np.ndarray) -> None:
        kind = np.float32 if array.dtype.kind == "f" else array.dtype
        self.array = array
        self.values = np.empty(array.shape, kind)
        self._pulled = np.empty(array.shape, kind)
        self.pull()
        self.tensor = torch.from_numpy(self.values)

    def pull(self, rows: Any = slice(None)) -> None:
        """Array to tensor, in environments `rows`."""
        with np.errstate(over="ignore"):  # too large for float32 is inf; Sim reports a divergence
            self.values[rows] = self.array[rows]
        self._pulled[rows] = self.values[rows]

    def hold(self, tensor: Tensor) -> None:
        """Use `tensor` from now on; where it differs from the old one, it counts as written."""
        self.tensor, self.values = tensor, tensor.numpy()

    def push(self) -> None:
        """Copy the elements that were written since the last `pull` from tensor to array.

        They are found by comparison: the tensor's version counter misses writes through `.data`
        and NumPy.
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
        self._memory = -1
        self._trees = True  # whether MuJoCo's hold, see `midphase.py`
        self._sensors: list[dict[str, Any]] = []  # added to the batch's model, not to `model`
        self.model = model = read_only(self._compile())
        self.num_envs = num_envs
        self.failed = torch.zeros(num_envs, dtype=torch.bool)
        self._threads = threads
        self._batch = Batch(model, num_envs, threads)
        self.threads = self._batch.nthread
        initial = initial_data(model)
        for name in KEYFRAME_FIELDS:
            if np.size(value := getattr(initial, name)):
                self._bind(name)[:] = value
        self._initial = self._batch.state[:1].copy()
        self._before = _copy_apart(self._batch.state)  # the last step
        self._substeps = 0  # of the last step; 0 if there was none
        self._unstepped = np.ones(num_envs, bool)  # environments reset since the last step
        self._warnings = self._batch.warning[:, _FULL, 1].copy()
        self._data: dict[str, _Mirror] = {}  # state and inputs, written back
        self._derived: dict[str, _Mirror] = {}
        self._fresh: set[str] = set()  # derived fields to compute again after a step
        self._model_fields: dict[str, _Mirror] = {}
        self._grown: str | None = None
        self._stage = NO_STAGE
        acc = model.sensor_needstage == mujoco.mjtStage.mjSTAGE_ACC
        self._acc_sensors = np.repeat(acc, model.sensor_dim)
        self._dense_places = dense_places(model)

    def field(self, name: str, stale: bool = False) -> Tensor:
        if reason := refusal(name, self.name, self.model):
            raise PhalanxError(reason)
        if name in STATE_FIELDS or name in INPUT_FIELDS:
            if name not in self._data:
                self._data[name] = _Mirror(self._bind(name))
            return self._data[name].tensor
        free = left_by_step(name, self.model) or (stale and name not in LEFT_OUT_FIELDS)
        if name not in self._derived or not (free or name in self._fresh):
            self._register(name, not free)
        return self._derived[name].tensor

    def model_field(self, name: str) -> Tensor:
        if name not in MODEL_FIELDS:
            raise KeyError(name)
        if self._trees and name in TREE_FIELDS:
            self._push()
            self._trees = False
            self._rebuild(self._batch.state.copy(), self._expanded())
        if name not in self._model_fields:
            self._model_fields[name] = _Mirror(self._expand(name))
        return self._model_fields[name].tensor

    def set_const(self, mask: Tensor) -> None:
        if mask.any():
            self._push()
            self._batch.set_const(mask.numpy())
            for mirror in self._model_fields.values():
                mirror.pull()

    def model_of(self, env: int) -> mujoco.MjModel:
        self._push()
        return copy_with(self.model, {k: v[env] for k, v in self._expanded().items()})

    def step(self, substeps: int, until: Until = "derived") -> None:
        self._push()
        stage = self._stage if until == "derived" else NO_STAGE
        np.copyto(self._before, self._batch.state)
        self._substeps = substeps
        self._unstepped[:] = False
        self._run(lambda: self._batch.step(nstep=substeps, stage=stage), self._before)
        for name, mirror in self._data.items():
            if name not in INPUT_FIELDS:  # a step only reads those
                mirror.pull()
        for name, mirror in self._derived.items():
            if until != "state" or name in ACCELERATION_FIELDS:
                mirror.pull()

    def derive(self, mask: Tensor) -> None:
        if self._stage == NO_STAGE or not mask.any():
            return
        rows = mask.numpy()
        everywhere = bool(rows.all())
        ids = None if everywhere else rows
        self._push()
        self._run(lambda: self._batch.forward(ids=ids, stage=self._stage))
        for name, mirror in self._derived.items():
            if name == "sensordata":
                mirror.pull(np.ix_(rows, ~self._acc_sensors))
            elif name not in _FORCES:
                mirror.pull(slice(None) if everywhere else rows)

    def forward(self, mask: Tensor) -> None:
        if mask.any():
            self.derive(mask)
            self._unstepped |= mask.numpy()
            self._clear_acceleration_sensors(mask.numpy())

    def reset(self, mask: Tensor) -> None:
        if mask.any():
            self._push()
            self._unstepped |= mask.numpy()
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
        return {
            "state": torch.from_numpy(self._batch.state.copy()),
            "model": {k: torch.from_numpy(v) for k, v in self._expanded().items()},
            "derived": {k: m.tensor.clone() for k, m in self._derived.items()},
            "fresh": sorted(self._fresh),
        }

    def load_state_dict(self, state: dict[str, Any], model_fields: bool) -> None:
        derived = state.get("derived", {})  # not in files of before this was saved
        for name in derived:
            if refusal(name, self.name, self.model) is None:
                self.field(name, stale=name not in state["fresh"])
        self._push()
        saved = {k: v.numpy() for k, v in state["model"].items()}
        self._rebuild(state["state"].numpy(), saved if model_fields else self._expanded())
        for mirror in (*self._data.values(), *self._model_fields.values()):
            mirror.pull()
        self._substeps = 0
        self._unstepped[:] = True
        for name, mirror in self._derived.items():
            if name in derived and derived[name].shape == mirror.tensor.shape:
                mirror.tensor.copy_(derived[name])
            else:
                self._compute(name)

    def take_over(self, other: "FusedEngine") -> None:
        """Continue the simulation of `other`. Its tensors become those of this engine."""
        saved = other.state_dict()
        for name in saved["model"]:
            self.model_field(name)
            self._model_fields[name].hold(other.model_field(name))
        if other.settled:  # more follows from these than the fused engine has fields for
            self.set_const(torch.ones(self.num_envs, dtype=torch.bool))
            for name, value in saved["model"].items():
                self._model_fields[name].tensor.copy_(value)
        for name in saved["state"]:
            self.field(name)
            self._data[name].hold(other.field(name))
        self._substeps = other.rewind()
        self._push()
        np.copyto(self._before, self._batch.state)
        for name, value in saved["state"].items():
            self.field(name).copy_(value)
        self._unstepped[:] = other.unstepped.numpy()
        for name, value in saved["derived"].items():
            fresh = name in saved["fresh"]
            tensor = other.field(name, stale=not fresh)
            self._register(name, fresh)
            self._derived[name].hold(tensor.copy_(value))

    def solve_m(self, force: Tensor, added: Tensor) -> Tensor:
        self.field("M", stale=True)
        rows = force.any(1)
        mass = torch.from_numpy(self._derived["M"].array[rows.numpy()])
        return solve_rows(mass, self._dense_places, force, added, rows)

    def _register(self, name: str, fresh: bool) -> None:
        """Provide derived field `name` from now on; fresh: make it current after every step."""
        self._push()
        wanted = [s for fields, sensors in _SENSORS_FOR if name in fields for s in sensors]
        if missing := [s for s in wanted if s not in self._sensors]:
            self._sensors += missing
            self._rebuild(self._batch.state.copy(), self._expanded())
        if name not in self._derived:
            self._derived[name] = _Mirror(self._bind(name))
        if fresh:
            self._stage = VEL_STAGE
            self._fresh.add(name)
        self._compute(name)

    def _compute(self, name: str) -> None:
        """Set a field that the last step did not compute to the value that it would have given."""
        mirror, now, failed = self._derived[name], self._batch.state.copy(), self.failed.clone()
        if self._substeps:
            np.copyto(self._batch.state, self._before)
            self._run(lambda: self._batch.step(nstep=self._substeps), self._before)
        else:
            self._run(lambda: self._batch.forward())
        mirror.pull()
        np.copyto(self._batch.state, now)
        if name in self._fresh and self._substeps:  # the state may have been written since
            self._run(lambda: self._batch.forward(stage=VEL_STAGE))
            everywhere = np.ones(self.num_envs, bool)
            forces = name == "sensordata"
            mirror.pull(np.ix_(everywhere, ~self._acc_sensors) if forces else everywhere)
        self.failed.copy_(failed)
        self._clear_acceleration_sensors(self._unstepped)

    def _clear_acceleration_sensors(self, rows: np.ndarray) -> None:
        """Zero until the next step, in environments `rows` (N,) bool."""
        if "sensordata" in self._derived:
            self._derived["sensordata"].values[np.ix_(rows, self._acc_sensors)] = 0.0

    def _push(self) -> None:
        for mirror in (*self._data.values(), *self._model_fields.values()):
            mirror.push()

    def _run(self, call: Callable[[], None], before: np.ndarray | None = None) -> None:
        """`call` the batch, and repeat it with more memory while contacts do not fit.
        before: the state to repeat it from; None if the call does not change the state."""
        self._call(call)
        while self._memory_was_full():
            self._enlarge(self._batch.state.copy() if before is None else before)
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
        if full:
            self._warnings = now.copy()
        if not self.failed.any():
            return full
        failed = self.failed.nonzero()[:, 0].tolist()
        return full or any("out of memory" in self._batch.error(i) for i in failed)

    def _enlarge(self, state: np.ndarray) -> None:
        """Double the memory for contacts and constraints, and restore `state`."""
        self._memory = 2 * self._batch.model.narena
        self._rebuild(state, self._expanded())
        self._grown = (
            f"contacts filled the physics memory; it was enlarged to {self._memory / 2**20:.3g} MiB"
            " per thread and the step was repeated; no contact was dropped"
        )

    def _compile(self) -> mujoco.MjModel:
        """The scene's model with `_memory` and, after its own sensors, `_sensors`."""
        spec = self._scene.spec
        added = [spec.add_sensor(**sensor) for sensor in self._sensors]
        try:
            model = _prepared(self._scene.compile(self._memory))
            if not self._trees:
                without_trees(model)
            return model
        finally:
            for sensor in added:
                spec.delete(sensor)

    def _bind(self, name: str) -> np.ndarray:
        values = self._batch.bind(name)
        return values[:, : self.model.nsensordata] if name == "sensordata" else values

    def _expand(self, name: str) -> np.ndarray:
        return self._of_own_sensors(name, self._batch.expand(name))

    def _of_own_sensors(self, name: str, values: np.ndarray) -> np.ndarray:
        return values[:, : self.model.nsensor] if name.startswith("sensor_") else values

    def _expanded(self) -> dict[str, np.ndarray]:
        """Model fields that differ between environments, and the constants derived from them."""
        fields = {name: self._batch.expanded(name) for name in sorted(MODEL_FIELDS)}
        return {k: self._of_own_sensors(k, v).copy() for k, v in fields.items() if v is not None}

    def _rebuild(self, state: np.ndarray, model_fields: dict[str, np.ndarray]) -> None:
        """Make a new batch and connect all existing tensors to it."""
        self._batch = Batch(self._compile(), self.num_envs, self._threads)
        self._batch.state[:] = state
        for name, values in model_fields.items():
            self._expand(name)[...] = values
        for name, mirror in (*self._data.items(), *self._derived.items()):
            mirror.array = self._bind(name)
        for name, mirror in self._model_fields.items():
            mirror.array = self._expand(name)
        self._warnings = self._batch.warning[:, _FULL, 1].copy()


def _copy_apart(array: np.ndarray) -> np.ndarray:
    """A copy whose memory starts half a page further into a page than usual. Copying between arrays
    at nearly the same offset in a page takes seven times as long (4K aliasing)."""
    half_page = 2048 // array.itemsize
    copy = np.empty(half_page + array.size, array.dtype)[half_page:].reshape(array.shape)
    np.copyto(copy, array)
    return copy


def _prepared(model: mujoco.MjModel) -> mujoco.MjModel:
    # MuJoCo would silently reset diverged environments; `Sim` counts, reports and resets them.
    flags = int(mujoco.mjtDisableBit.mjDSBL_AUTORESET)
    if model.ntree < 2 and model.opt.solver == mujoco.mjtSolver.mjSOL_NEWTON:
        # A moving robot's contacts come and go: from the unconstrained acceleration the solver
        # takes fewer steps to the same solution than from the last one (Ant 1.3 instead of 2.1).
        flags |= int(mujoco.mjtDisableBit.mjDSBL_WARMSTART)
    model.opt.disableflags |= flags
    return model
