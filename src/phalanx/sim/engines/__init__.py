"""Physics engines: the protocol that `Sim` uses, and the choice of an engine.

An engine runs `num_envs` copies of one `mujoco.MjModel` and provides MuJoCo's fields, under
MuJoCo's names, as float32 torch tensors `(num_envs, ...)` on its device. The interface is small on
purpose, so that further engines can implement it. `fields.py` lists the fields.
"""

import copy
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from typing import Any, Literal, Protocol, cast

import mujoco
import numpy as np
import torch
from torch import Tensor

from phalanx.errors import PhalanxError, did_you_mean
from phalanx.sim.engines.fields import ACCELERATION_FIELDS, INPUT_FIELDS, STATE_FIELDS
from phalanx.sim.engines.midphase import TREE_FIELDS, without_trees

ENGINES = ("mujoco", "warp", "fused")
Until = Literal["state", "forces", "derived"]
"""What is current after a step: the state and accelerations; also forces and acceleration sensors
of the last substep; also derived fields of the new state."""

__all__ = [
    "ACCELERATION_FIELDS", "ENGINES", "INPUT_FIELDS", "STATE_FIELDS", "CompilesScene", "Engine",
    "MakeEngine", "Until", "copy_with", "make_engine", "read_only",
    "refuse_after_capture", "write_fields",
]  # fmt: skip


class CompilesScene(Protocol):
    """The part of a scene that engines use: it compiles to a model with a given physics memory."""

    spec: mujoco.MjSpec

    def compile(self, memory: int = -1) -> mujoco.MjModel:
        """The model of `spec`; memory [bytes] for contacts and constraints, -1 for MuJoCo's
        choice."""


class Engine(Protocol):
    """`num_envs` copies of `model`. Tensors it returns keep their address for its whole life."""

    name: str
    model: mujoco.MjModel
    """The model of one environment, the same object for the engine's whole life; see
    `read_only`."""
    num_envs: int
    device: torch.device
    failed: Tensor
    """(N,) bool: environments in which the last step raised an error and did not advance."""

    def field(self, name: str, stale: bool = False) -> Tensor:
        """MjData field `name` of every environment, (N, ...). State and inputs may be written.

        The value does not depend on when the field is first read, and reading one never changes
        the physics. stale: the value from inside the last substep (before its integration) is
        good enough, which costs nothing; if the field is also read without `stale`, the value is
        current. Raises PhalanxError with the reason if the engine does not provide the field, or if
        a CUDA graph was captured that does not compute it."""

    def model_field(self, name: str) -> Tensor:
        """MjModel field `name` (or `opt.<name>`) with a value per environment, (N, ...), writable.
        Raises KeyError for a name that the engine does not have."""

    def set_const(self, mask: Tensor) -> None:
        """Recompute the constants that depend on model fields you changed, at least in environments
        `mask` (N,) bool."""

    def model_of(self, env: int) -> mujoco.MjModel:
        """A copy of the model with the values of environment `env`."""

    def step(self, substeps: int, until: Until = "derived") -> None:
        """Advance every environment, then make the fields current that `until` names."""

    def derive(self, mask: Tensor) -> None:
        """Make the derived fields that have been read current in environments `mask` (N,) bool;
        forces and accelerations stay those of the last substep."""

    def forward(self, mask: Tensor) -> None:
        """Make the derived fields current in environments `mask` (N,) bool after a state write;
        acceleration-stage sensors read zero there until the next step."""

    def solve_m(self, force: Tensor, added: Tensor) -> Tensor:
        """(M + diag(added))^-1 force, (N, nv) each, with the mass matrix M of the last substep. On
        a GPU the first call must come before a CUDA graph is captured."""

    def reset(self, mask: Tensor) -> None:
        """Put environments `mask` (N,) bool into the model's initial state, inputs zero."""

    def capture(self) -> AbstractContextManager[None]:
        """Inside, calls are recorded into the CUDA graph that torch is capturing."""

    def grow(self) -> str | None:
        """Enlarge contact or constraint buffers that have overflowed since the last call and
        return a sentence that says so; None if none had. After growing, captured graphs are
        invalid."""

    def state_dict(self) -> dict[str, Any]:
        """Everything that decides the next steps, and the derived fields that have been read,
        exact to the bit."""

    def load_state_dict(self, state: dict[str, Any], model_fields: bool) -> None:
        """Restore what `state_dict` returned; the model's fields only if `model_fields`."""


MakeEngine = Callable[[CompilesScene, int], Engine]
"""From a scene and `num_envs` to an engine: `plain.PlainEngine`, or your own."""


def make_engine(
    name: str | MakeEngine,
    scene: CompilesScene,
    num_envs: int,
    device: torch.device,
    threads: int = 0,
    deterministic: bool = False,
) -> Engine:
    """Engine `name`: "mujoco" (C, CPU), "warp" (GPU; also on the CPU, for tests), "fused" (one
    function a step; see `fused.why_not`) or "auto"; or the engine that a function makes. "auto" is
    fused where that is possible, otherwise warp on a GPU and mujoco on a CPU.
    deterministic: the same bits in every run; the CPU engine always gives them.
    Raises PhalanxError for another name, or a device that the engine does not run on."""
    if not isinstance(name, str):
        engine = name(scene, num_envs)
        if engine.device != device:
            raise PhalanxError(
                f"engine {engine.name} runs on {engine.device}, not on {device}; use"
                f" sim_device={engine.device}"
            )
        return engine
    if name == "auto":
        from phalanx.sim.engines.auto import AutoEngine

        other = "warp" if device.type == "cuda" else "mujoco"

        def make_other() -> Any:
            return make_engine(other, scene, num_envs, device, threads, deterministic)

        return cast(Engine, AutoEngine(scene, num_envs, device, other, make_other, threads))
    if name not in ENGINES:
        raise PhalanxError(
            f"unknown engine {name!r}{did_you_mean(name, ENGINES)};"
            f" accepted: auto, {', '.join(ENGINES)}"
        )
    if name == "mujoco" and device.type != "cpu":
        raise PhalanxError(
            f"engine mujoco runs on the CPU, not on {device}; use engine=warp or sim_device=cpu"
        )
    if name == "mujoco":
        from phalanx.sim.engines.cpu import CpuEngine

        return CpuEngine(scene, num_envs, threads)
    if name == "fused":
        from phalanx.sim.engines.fused import FusedEngine

        return FusedEngine(scene, num_envs, device, threads)
    from phalanx.sim.engines.warp import WarpEngine

    return WarpEngine(scene, num_envs, device, deterministic)


def refuse_after_capture(captured: bool, what: str) -> None:
    """Raise PhalanxError if there is a CUDA graph of a step, which knows nothing of `what`."""
    if captured:
        raise PhalanxError(
            f"{what} is used for the first time after a CUDA graph was captured, which would not"
            " see it; use it once before, in init_buffers"
        )


def read_only(model: mujoco.MjModel) -> mujoco.MjModel:
    """`model` with arrays that refuse writes: engines copy the model when they start, so a later
    edit would have no effect. Raises PhalanxError for features that no engine supports."""
    carried = mujoco.mjtEnableBit.mjENBL_SLEEP | mujoco.mjtEnableBit.mjENBL_IPC
    if model.opt.enableflags & carried:
        raise PhalanxError(
            "the scene's option flags enable sleep or ipc, whose bookkeeping is not part of an"
            " environment's state; disable them"
        )
    for owner in (model, model.opt):
        for name in dir(owner):
            value = None if name.startswith("_") else getattr(owner, name)
            if isinstance(value, np.ndarray):
                value.flags.writeable = False
    return model


def copy_with(
    model: mujoco.MjModel, fields: Mapping[str, np.ndarray], settled: bool = False
) -> mujoco.MjModel:
    """A writable copy of `model` with other values in `fields`, by name or as `opt.<name>`.
    settled: and with what mj_setConst derives from them, but for `fields` themselves."""
    model = copy.copy(model)
    write_fields(model, fields)
    if not TREE_FIELDS.isdisjoint(fields):
        without_trees(model)
    if settled:
        mujoco.mj_setConst(model, mujoco.MjData(model))
        write_fields(model, fields)
    return model


def write_fields(model: mujoco.MjModel, fields: Mapping[str, np.ndarray]) -> None:
    """Write values into `model`, by name or as `opt.<name>`."""
    for name, values in fields.items():
        owner, key = (model.opt, name[4:]) if name.startswith("opt.") else (model, name)
        own = getattr(owner, key)
        if isinstance(own, np.ndarray):
            own.reshape(-1)[: values.size] = values.reshape(-1)  # bvh_aabb: bodies', then meshes'
        else:
            setattr(owner, key, values.item())
