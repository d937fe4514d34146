"""Physics engines: what `Sim` needs from one, and the choice between them.

An engine runs `num_envs` copies of one `mujoco.MjModel` and shows MuJoCo's fields, under MuJoCo's
names, as float32 torch tensors `(num_envs, ...)` on its device. The interface is small on purpose:
a third engine is to fit behind it one day.
"""

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any, Literal, Protocol

import mujoco
import torch
from torch import Tensor

from phalanx.errors import PhalanxError, did_you_mean

ENGINES = ("mujoco", "warp")
Until = Literal["state", "forces", "derived"]
"""What is current after a step: the state and accelerations, also forces and acceleration sensors
of the last substep, also derived fields of the state reached."""
STATE_FIELDS = ("time", "qpos", "qvel", "act", "mocap_pos", "mocap_quat", "eq_active")
INPUT_FIELDS = ("ctrl", "qfrc_applied", "xfrc_applied")
# Forces and accelerations: what a step leaves behind, of its last substep; a pass over positions
# and velocities does not compute.
ACCELERATION_FIELDS = {
    "act_dot", "actuator_force", "cacc", "cfrc_ext", "cfrc_int", "qDeriv", "qH", "qHDiagInv", "qLU",
    "qacc", "qacc_smooth", "qfrc_actuator", "qfrc_adhesion", "qfrc_constraint", "qfrc_inverse",
    "qfrc_smooth", "solver_fwdinv", "solver_niter", "solver_nnz",
}  # fmt: skip


def left_by_step(name: str, model: mujoco.MjModel) -> bool:
    """Whether a derived field is what a step itself leaves behind. All others need a pass over
    the new state after every step, a third of its time."""
    acc = model.sensor_needstage == mujoco.mjtStage.mjSTAGE_ACC
    return name in ACCELERATION_FIELDS or (name == "sensordata" and bool(acc.all()))


class CompilesScene(Protocol):
    """What an engine needs of a scene: its model, with a given size of physics memory."""

    def compile(self, memory: int = -1) -> mujoco.MjModel:
        """The model; memory [bytes] for contacts and constraints, -1 for MuJoCo's choice."""


class Engine(Protocol):
    """`num_envs` copies of `model`. Tensors it returns keep their address for its whole life."""

    name: str
    model: mujoco.MjModel
    num_envs: int
    device: torch.device
    failed: Tensor
    """(N,) bool: environments in which the last step raised an error and did not advance."""

    def field(self, name: str, as_left: bool = False) -> Tensor:
        """MjData field `name` of every environment, (N, ...). State and inputs may be written.
        as_left: a derived field as the last substep left it, for free; if nobody asks for it
        otherwise, that is from before the substep's integration.
        Raises KeyError for a name that the engine does not have."""

    def model_field(self, name: str) -> Tensor:
        """MjModel field `name` (or `opt.<name>`) with a value per environment, (N, ...), writable.
        Raises KeyError for a name that the engine does not have."""

    def set_const(self, mask: Tensor) -> None:
        """Recompute, in environments `mask` (N,) bool at least, the constants that follow from
        written model fields."""

    def model_of(self, env: int) -> mujoco.MjModel:
        """A copy of the model with the values that one environment has."""

    def step(self, substeps: int, until: Until = "derived") -> None:
        """Advance every environment, then make current what `until` says."""

    def derive(self, mask: Tensor) -> None:
        """Make the derived fields that were asked for current in environments `mask` (N,) bool;
        forces and accelerations stay those of the last substep."""

    def forward(self, mask: Tensor) -> None:
        """Make the derived fields current in environments `mask` (N,) bool after a state write;
        acceleration-stage sensors read zero there until the next step."""

    def reset(self, mask: Tensor) -> None:
        """Put environments `mask` (N,) bool into the model's initial state, inputs zero."""

    def capture(self) -> AbstractContextManager[None]:
        """Inside, calls are recorded into the CUDA graph that torch is capturing."""

    def grow(self) -> str | None:
        """Enlarge contact or constraint buffers that have overflowed since the last call and say
        so in one sentence; None when nothing had. Captured graphs are stale after a sentence."""

    def state_dict(self) -> dict[str, Any]:
        """Everything that decides the next steps, exact to the bit."""

    def load_state_dict(self, state: dict[str, Any], model_fields: bool) -> None:
        """Take back what `state_dict` gave; the model's fields stay unless `model_fields`."""


MakeEngine = Callable[[CompilesScene, int], Engine]
"""From a scene and `num_envs` to an engine: `plain.PlainEngine`, or one of your own."""


def make_engine(
    name: str | MakeEngine,
    scene: CompilesScene,
    num_envs: int,
    device: torch.device,
    threads: int,
) -> Engine:
    """Engine `name`: "mujoco" (C, CPU), "warp" (GPU; also on the CPU, for tests) or "auto"; or
    what a function makes.
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
        name = "warp" if device.type == "cuda" else "mujoco"
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
    from phalanx.sim.engines.warp import WarpEngine

    return WarpEngine(scene, num_envs, device)
