"""The engine that `engine=auto` takes: the fused one, until something needs MuJoCo's own.

The fused engine does not step every model, some of them not sooner, and does not show every field.
Whatever it leaves goes to MuJoCo C on a CPU and to MuJoCo Warp on a GPU: from the start, or from
the moment at which the program asks for it. Tensors that the program holds stay the same objects.
"""

from collections.abc import Callable
from typing import Any, Protocol, TypeVar

import torch
from mujoco.batch import MODEL_FIELDS
from torch import Tensor

from phalanx.errors import PhalanxError
from phalanx.sim.engines import CompilesScene, Engine, Until
from phalanx.sim.engines.fields import refusal
from phalanx.sim.engines.fused import FusedEngine
from phalanx.sim.engines.fused.values import DoesNotFit

T = TypeVar("T")
FEWEST = 64
"""Environments: compiling a step takes seconds, which fewer do not repay."""


class OtherEngine(Engine, Protocol):
    """What steps whatever the fused engine does not."""

    def take_over(self, other: FusedEngine) -> None:
        """Continue its simulation, with its tensors."""


class AutoEngine:
    """See `phalanx.sim.engines.Engine`; methods that are not here are those of the engine in
    use."""

    def __init__(
        self,
        scene: CompilesScene,
        num_envs: int,
        device: torch.device,
        other: str,
        make_other: Callable[[], OtherEngine],
        threads: int = 0,
    ) -> None:
        self._make = make_other
        self._other = other
        self.reason = ""
        """Why it is not the fused engine, in one sentence; empty if it is, or if there are few
        environments."""
        if num_envs < FEWEST:
            self._engine: FusedEngine | OtherEngine = self._make()
            return
        try:
            self._engine = FusedEngine(scene, num_envs, device, threads, if_faster=True)
        except (PhalanxError, OSError) as error:  # refused, or not compiled: no room, no rights
            self.reason = str(error).removesuffix("; use another engine")
            self._engine = self._make()

    def __getattr__(self, name: str) -> Any:
        if name == "_engine":  # not made yet, as in a copy
            raise AttributeError(name)
        return getattr(self._engine, name)

    def field(self, name: str, stale: bool = False) -> Tensor:
        """See `Engine.field`."""
        try:
            return self._engine.field(name, stale)
        except PhalanxError as error:
            if refusal(name, self._other, self._engine.model):
                raise
            self._leave_fused(error)
            return self._engine.field(name, stale)

    def model_field(self, name: str) -> Tensor:
        """See `Engine.model_field`."""
        try:
            return self._engine.model_field(name)
        except (KeyError, PhalanxError) as error:
            if name not in MODEL_FIELDS:
                raise
            if isinstance(error, KeyError):
                why = f"the fused engine has no {name} of each environment's own"
                error = PhalanxError(why)
            self._leave_fused(error)
            return self._engine.model_field(name)

    def step(self, substeps: int, until: Until = "derived") -> None:
        """See `Engine.step`."""
        self._fitting(lambda: self._engine.step(substeps, until))

    def derive(self, mask: Tensor) -> None:
        """See `Engine.derive`."""
        self._fitting(lambda: self._engine.derive(mask))

    def forward(self, mask: Tensor) -> None:
        """See `Engine.forward`."""
        self._fitting(lambda: self._engine.forward(mask))

    def grow(self) -> str | None:
        """See `Engine.grow`."""
        return self._fitting(lambda: self._engine.grow())

    def load_state_dict(self, state: dict[str, Any], model_fields: bool) -> None:
        """See `Engine.load_state_dict`."""
        try:
            self._engine.load_state_dict(state, model_fields)
        except DoesNotFit as error:
            self._leave_fused(error)  # with what has been loaded, but derived fields of before
            own = self._engine.state_dict()
            own["derived"] = {k: v for k, v in own["derived"].items() if k in state["derived"]}
            self._engine.load_state_dict(own, model_fields=True)

    def update_tables(self) -> None:
        """See `Sim.take_model_fields`."""
        try:
            if update := getattr(self._engine, "update_tables", None):
                update()
        except DoesNotFit as error:
            self._leave_fused(error)

    def _fitting(self, call: Callable[[], T]) -> T:
        """`call` the engine, and leave the fused one if it refuses the values of a model field."""
        try:
            return call()
        except DoesNotFit as error:
            self._leave_fused(error)
            return call()

    def match(self, name: str) -> None:
        """Become engine `name`, which saved a state that is to be loaded, if this one can."""
        if name == self._other and self._engine.name == FusedEngine.name:
            self._leave_fused(PhalanxError(f"the run that it continues began with engine {name}"))

    def _leave_fused(self, error: Exception) -> None:
        """Continue with the other engine because of `error`; raises it if that runs already, or if
        a CUDA graph has steps of the fused one."""
        if not isinstance(self._engine, FusedEngine) or self._engine.captured:
            raise error
        engine = self._make()
        engine.take_over(self._engine)
        self.model = self._engine.model  # stays the one that the program may hold
        self._engine = engine
        self.reason = str(error).removesuffix("; use another engine")
