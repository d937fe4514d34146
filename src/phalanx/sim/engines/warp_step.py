"""One physics step of MuJoCo Warp, arranged for thousands of small robots.

`mujoco_warp.step` runs a hundred small kernels one after the other. With a few thousand
environments a kernel spends most of its time waiting for the one before. Here, independent stages
run in parallel on two streams, which a captured CUDA graph keeps as two branches:

    kinematics -+- mass matrix, contacts, constraint rows -+- solver -+- integration ---+-
                +- actuators, velocities, bias forces -----+          +- force sensors -+

The stages are MuJoCo Warp's own functions, in its order within a branch. Models with features that
make one branch depend on the other use MuJoCo Warp's `step`. Arrays that live for one step come
from an `Arena`, because in a graph each allocation and each release is a node to wait for.
"""

import contextlib
import dataclasses
from collections.abc import Iterator
from typing import Any

import mujoco_warp as mjw
import torch
import warp as wp

_LATE_FLAGS = mjw.EnableBit.SLEEP | mjw.EnableBit.ENERGY


class Stepper:
    """Steps `model` on its device; `step` may be recorded into a CUDA graph."""

    def __init__(self, model: Any, device: torch.device) -> None:
        self._model = model
        self._device = wp.device_from_torch(device)
        self._forks = can_fork(model)
        # Newton starts from the last acceleration, so the unconstrained one is not computed.
        model.opt.run_qacc_smooth = not self._forks
        on_gpu = device.type == "cuda"
        self._side = wp.Stream(self._device) if on_gpu and self._forks else None
        self._arena = Arena(device) if on_gpu else None
        self._weldid: wp.array | None = None

    def place_fixed(self) -> None:
        """From now on, also place shapes that are fixed to the world in every step: MuJoCo Warp
        does so once, when it makes its data."""
        with wp.ScopedDevice(self._device):
            self._weldid = wp.ones(self._model.nbody, dtype=int)

    def kinematics(self, data: Any) -> None:
        """Place bodies, shapes and all that hangs on them."""
        welded = self._model.body_weldid
        if self._weldid is not None:  # what kinematics looks at to leave such shapes out
            self._model.body_weldid = self._weldid
        try:
            mjw.fwd_kinematics(self._model, data)
        finally:
            self._model.body_weldid = welded

    def before_stages(self, data: Any) -> None:
        """To call before stages of MuJoCo Warp that begin with kinematics of their own."""
        if self._weldid is not None:
            self.kinematics(data)

    def look_again(self) -> None:
        """The model has got a feature: see whether its step can still run in two branches."""
        if self._forks and not can_fork(self._model):
            self.compute_qacc_smooth()

    def compute_qacc_smooth(self) -> None:
        """Compute the unconstrained acceleration as well, from the next step on."""
        self._forks = False
        self._model.opt.run_qacc_smooth = True

    def step(self, data: Any, sensors: bool) -> None:
        """Advance by one timestep. sensors: evaluate force and acceleration sensors."""
        with self._scratch():
            if self._forks:
                self._forked(data, sensors)
            else:
                self.before_stages(data)
                mjw.step(self._model, data)

    def _forked(self, data: Any, sensors: bool) -> None:
        model, opt = self._model, self._model.opt
        self.kinematics(data)
        with self._second_branch():
            mjw.transmission(model, data)
            mjw.fwd_velocity(model, data)
            mjw.fwd_actuation(model, data)
            mjw.fwd_acceleration(model, data)
        mjw.crb(model, data)
        mjw.collision(model, data)
        mjw.make_constraint(model, data)
        self._join()
        mjw.solve(model, data)
        if sensors:
            # They read the velocity, which integration overwrites.
            before = dataclasses.replace(data, qvel=wp.clone(data.qvel))
            with self._second_branch():
                data.sensordata.zero_()
                if model.sensor_rne_postconstraint or opt.run_rne_postconstraint:
                    mjw.rne_postconstraint(model, before)
                mjw.sensor_acc(model, before, skip_rne_postconstraint=True)
        integrate = mjw.euler if opt.integrator == mjw.IntegratorType.EULER else mjw.implicit
        integrate(model, data)
        if sensors:
            self._join()

    @contextlib.contextmanager
    def _second_branch(self) -> Iterator[None]:
        """Inside, work goes to the second branch, which first waits for the first branch."""
        if self._side is None:
            yield
            return
        self._side.wait_stream(self._device.stream)
        with wp.ScopedStream(self._side, sync_enter=False, sync_exit=False):
            yield

    def _join(self) -> None:
        """Make the first branch wait for the second."""
        if self._side is not None:
            self._device.stream.wait_stream(self._side)

    @contextlib.contextmanager
    def _scratch(self) -> Iterator[None]:
        if self._arena is None:
            yield
            return
        self._arena.restart()
        wp.set_device_allocator(self._device, self._arena)
        try:
            yield
        finally:
            wp.set_device_allocator(self._device, None)


class Arena:
    """Memory for arrays that live no longer than one step: Warp's allocator interface.

    Every step asks for the same sizes in the same order, and gets the same blocks. No block is used
    twice within a step, so the two branches never share one.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._blocks: list[torch.Tensor] = []
        self._next = 0

    def restart(self) -> None:
        """Begin a new step: hand out blocks from the first one again."""
        self._next = 0

    def allocate(self, size_in_bytes: int) -> int:
        k = self._next
        self._next += 1
        if k == len(self._blocks):
            self._blocks.append(torch.empty(0, dtype=torch.uint8, device=self._device))
        if self._blocks[k].numel() < size_in_bytes:
            self._blocks[k] = torch.empty(size_in_bytes, dtype=torch.uint8, device=self._device)
        return self._blocks[k].data_ptr()

    def deallocate(self, ptr: int, size_in_bytes: int) -> None:
        """Does nothing: the next step reuses the block."""


def can_fork(model: Any) -> bool:
    """Whether a Warp model's step can run in two branches: it has no feature that makes contacts or
    the solver depend on the second branch."""
    opt = model.opt
    integrators = (mjw.IntegratorType.EULER, mjw.IntegratorType.IMPLICITFAST)
    newton = opt.solver == mjw.SolverType.NEWTON and opt.iterations > 0
    warmstart = not opt.disableflags & mjw.DisableBit.WARMSTART
    special = (
        *(model.neq, model.ntendon, model.nflex, model.nhistory, model.flg_surfacevel),
        *(opt.enableflags & _LATE_FLAGS, opt.noslip_iterations),
        *(f is not None for f in dataclasses.astuple(model.callback)),
    )
    return opt.integrator in integrators and newton and bool(warmstart) and not any(special)
