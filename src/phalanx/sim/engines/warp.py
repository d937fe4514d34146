"""MuJoCo Warp: every environment on one GPU; also runs on the CPU, for tests with a few of them.

Tensors are zero-copy views of Warp's arrays, so a write is the state at the next step. Called
eagerly, a step checks for overflowing contact buffers and repeats itself in larger ones; inside a
captured CUDA graph nothing may wait for the host, so overflow is remembered until `grow` is asked.
"""

import contextlib
import copy
import dataclasses
import math
from collections.abc import Iterator
from typing import Any

import mujoco
import mujoco_warp as mjw
import numpy as np
import torch
import warp as wp
from torch import Tensor

from phalanx.errors import PhalanxError
from phalanx.sim.engines import (
    INPUT_FIELDS,
    STATE_FIELDS,
    CompilesScene,
    Until,
    kernels,
    left_by_step,
)
from phalanx.sim.engines.warp_step import Stepper

# Overflows that larger buffers cure. MuJoCo Warp's others (contacts of one height field pair, the
# horizon of its convex collider) come from fixed sizes in its kernels.
_CURABLE = int(
    mjw.OverflowType.NEFC
    | mjw.OverflowType.NJMAX_NNZ
    | mjw.OverflowType.BROADPHASE
    | mjw.OverflowType.NARROWPHASE
    | mjw.OverflowType.CCD
    | mjw.OverflowType.CONTACT_MATCH
)
_SENSOR_FULL = int(mjw.OverflowType.CONTACT_MATCH)
_SAVED = (*STATE_FIELDS, *INPUT_FIELDS, "qacc_warmstart")
# What set_const writes: it needs room for a value per environment.
_CONSTANTS = (
    "body_subtreemass", "geom_size", "geom_aabb", "geom_rbound", "tendon_length0", "eq_data",
    "cam_pos0", "cam_poscom0", "cam_mat0", "light_pos0", "light_poscom0", "light_dir0",
    "dof_invweight0", "body_invweight0", "tendon_invweight0", "actuator_acc0",
)  # fmt: skip
_AFTER_CONSTRAINTS = {"cacc", "cfrc_int", "cfrc_ext"}
_UNCONSTRAINED = {"qacc_smooth", "qLD", "qLDiagInv"}
# What only transmission and the whole velocity stage make current, and the sensors that read it.
_TRANSMISSION = {
    "actuator_length", "actuator_moment", "actuator_velocity", "ten_velocity", "qfrc_bias",
    "qfrc_passive", "qfrc_spring", "qfrc_damper", "qfrc_gravcomp", "qfrc_fluid",
}  # fmt: skip
_TRANSMISSION_SENSORS = (
    mujoco.mjtSensor.mjSENS_ACTUATORPOS,
    mujoco.mjtSensor.mjSENS_ACTUATORVEL,
    mujoco.mjtSensor.mjSENS_TENDONVEL,
)

# Most contacts that two kinds of geoms make in MuJoCo; any others make at most 8.
_MOST_CONTACTS = 8
_FEWER_CONTACTS = {
    ("PLANE", "SPHERE"): 1, ("PLANE", "ELLIPSOID"): 1, ("PLANE", "CAPSULE"): 2,
    ("PLANE", "CYLINDER"): 4, ("PLANE", "BOX"): 4, ("SPHERE", "SPHERE"): 1,
    ("SPHERE", "CAPSULE"): 1, ("SPHERE", "ELLIPSOID"): 1, ("SPHERE", "CYLINDER"): 1,
    ("SPHERE", "BOX"): 1, ("SPHERE", "MESH"): 1, ("CAPSULE", "CAPSULE"): 2, ("CAPSULE", "BOX"): 2,
}  # fmt: skip
_USUAL_CONTACTS = 2  # of one geom at a time, with whatever it touches
_LOOPS_PAY_FROM = 7  # solver iterations; a loop that ends early costs more than a few in vain
_MOST_DOUBLINGS = 10  # in one step: growth that cures nothing ends before memory does


class WarpEngine:
    """See `phalanx.sim.engines.Engine`."""

    name = "warp"

    def __init__(self, scene: CompilesScene, num_envs: int, device: torch.device) -> None:
        wp.config.log_level = wp.LOG_WARNING
        wp.init()
        self.model = scene.compile()
        self.num_envs = num_envs
        self.device = device
        self.failed = torch.zeros(num_envs, dtype=torch.bool, device=device)
        self._contacts, self._rows = _buffer_sizes(self.model)
        self._wp_device = wp.device_from_torch(device)
        with wp.ScopedDevice(self._wp_device):
            self._m = _put_model(self.model)
            self._m.opt.warn_overflow = 0
            self._m.opt.graph_conditional = self._m.opt.iterations >= _LOOPS_PAY_FROM
            self._d = self._make_data()
        self._stepper = Stepper(self._m, device)
        self._views: dict[str, Tensor] = {}
        self._model_views: dict[str, Tensor] = {}
        self._shared: dict[str, Tensor] = {}
        self._read: set[str] = set()
        self._derived_needed = False
        self._transmission_needed = bool(
            np.isin(self.model.sensor_type, _TRANSMISSION_SENSORS).any()
        )
        self._overflow = wp.to_torch(self._d.overflow)
        self._capture_stream: Any = None
        self._grown: str | None = None
        self._initial = {k: self._view(k)[:1].clone() for k in _SAVED if hasattr(self._d, k)}
        acc = self.model.sensor_needstage == mujoco.mjtStage.mjSTAGE_ACC
        self._has_acc_sensors = bool(acc.any())
        self._acc_sensors = torch.from_numpy(np.repeat(acc, self.model.sensor_dim)).to(device)
        kernels.load_together(self._launch_all, self._m.opt)  # a first start compiles them
        self._step(1)
        self.reset(torch.ones_like(self.failed))

    def field(self, name: str, as_left: bool = False) -> Tensor:
        if not getattr(getattr(self._d, name, None), "_is_batched", False):
            raise KeyError(name)
        view = self._view(name)
        if as_left or name in STATE_FIELDS or name in INPUT_FIELDS or name in self._read:
            return view
        first = not self._read
        self._read.add(name)
        self._m.opt.run_rne_postconstraint |= name in _AFTER_CONSTRAINTS
        if name in _UNCONSTRAINED:
            self._stepper.keep_everything()
        self._transmission_needed |= name in _TRANSMISSION
        self._derived_needed |= not left_by_step(name, self.model)
        if first:
            with self._stream():
                mjw.forward(self._m, self._d)
        else:
            self._refresh()  # and leave the forces of the last step as they are
        return view

    def model_field(self, name: str) -> Tensor:
        if name not in self._model_views:
            owner, key = (self._m.opt, name[4:]) if name.startswith("opt.") else (self._m, name)
            shared = getattr(owner, key, None)
            if not isinstance(shared, wp.array) or not getattr(shared, "_is_batched", False):
                raise KeyError(name)
            values = np.repeat(shared.numpy()[:1], self.num_envs, axis=0)
            with wp.ScopedDevice(self._wp_device):
                own = wp.array(values, dtype=shared.dtype)
            own._is_batched = True
            setattr(owner, key, own)
            self._model_views[name] = wp.to_torch(own)
            self._shared[name] = self._model_views[name][:1].clone()
        return self._model_views[name]

    def set_const(self, mask: Tensor) -> None:
        for name in _CONSTANTS:
            if getattr(self._m, name).size:
                self.model_field(name)
        with self._stream():
            mjw.set_const(self._m, self._d)  # of all environments: it knows no mask

    def model_of(self, env: int) -> mujoco.MjModel:
        model = copy.copy(self.model)
        for name, values in self._model_views.items():
            owner, key = (model.opt, name[4:]) if name.startswith("opt.") else (model, name)
            own = np.asarray(getattr(owner, key))
            own[...] = values[env].cpu().numpy().reshape(own.shape)
        return model

    def step(self, substeps: int, until: Until = "derived") -> None:
        if self._capture_stream is not None:
            self._step(substeps, until)
            return
        before = {k: self._view(k).clone() for k in self._initial}
        self._step(substeps, until)
        doublings = 0
        while grown := self._enlarge():
            self._grown = grown
            doublings += 1
            if doublings > _MOST_DOUBLINGS:
                raise PhalanxError(
                    f"one step overflowed {self._contacts} contacts an environment; look for bodies"
                    " that start inside each other"
                )
            for key, value in before.items():
                self._view(key).copy_(value)
            self._step(substeps, until)

    def derive(self, mask: Tensor) -> None:
        if self._derived_needed:
            self._refresh()

    def forward(self, mask: Tensor) -> None:
        self.derive(mask)
        if "sensordata" in self._read and self._has_acc_sensors:
            sensordata = self._view("sensordata")
            stale = mask[:, None] & self._acc_sensors
            sensordata.copy_(torch.where(stale, 0.0, sensordata))

    def reset(self, mask: Tensor) -> None:
        for name, initial in self._initial.items():
            view = self._view(name)
            at = mask.view(-1, *(1,) * (view.dim() - 1))
            view.copy_(torch.where(at, initial, view))

    @contextlib.contextmanager
    def capture(self) -> Iterator[None]:
        # One wrapper of the stream for the whole capture: Warp does not recognise a second one.
        self._capture_stream = wp.stream_from_torch(torch.cuda.current_stream())
        wp.capture_begin(stream=self._capture_stream, external=True)
        try:
            yield
        finally:
            wp.capture_end(stream=self._capture_stream)
            self._capture_stream = None

    def grow(self) -> str | None:
        grown = self._enlarge() or self._grown
        self._grown = None
        return grown

    def _enlarge(self) -> str | None:
        """Twice the buffers if any has overflowed, with a sentence on it."""
        if not int(torch.bitwise_and(self._overflow, _CURABLE).max()):
            return None
        if int(torch.bitwise_and(self._overflow, _SENSOR_FULL).max()):
            self._m.opt.contact_sensor_maxmatch *= 2
        self._overflow.zero_()
        self._contacts *= 2
        self._rows *= 2
        with wp.ScopedDevice(self._wp_device):
            larger = self._make_data()
        # Only arrays whose size changed are new: every view handed out stays valid.
        for f in dataclasses.fields(larger):
            old = getattr(self._d, f.name)
            new = getattr(larger, f.name)
            if isinstance(old, wp.array) and old.shape == new.shape and old.dtype == new.dtype:
                setattr(larger, f.name, old)
        self._d = larger
        return (
            f"contact buffers overflowed and were enlarged to {self._contacts} contacts and"
            f" {self._rows} constraint rows an environment"
        )

    def state_dict(self) -> dict[str, Any]:
        return {
            "state": {k: self._view(k).clone() for k in self._initial},
            "model": {k: v.clone() for k, v in self._model_views.items()},
        }

    def load_state_dict(self, state: dict[str, Any], model_fields: bool) -> None:
        for name, value in state["state"].items():
            self._view(name).copy_(value)
        if not model_fields:
            return
        for name in {*self._model_views, *state["model"]}:
            field = self.model_field(name)
            field.copy_(state["model"].get(name, self._shared[name]))

    def _view(self, name: str) -> Tensor:
        if name not in self._views:
            view = wp.to_torch(getattr(self._d, name))
            # MuJoCo's shape: a rotation matrix is 9 numbers there and 3 x 3 in Warp.
            template = getattr(mujoco.MjData(self.model), name, ())
            shape = (self.num_envs, *np.shape(template))
            same = view.numel() == math.prod(shape)
            self._views[name] = view.view(shape) if same else view
        return self._views[name]

    def _step(self, substeps: int, until: Until = "derived") -> None:
        sensors = until != "state" and bool(self._read & {"sensordata", *_AFTER_CONSTRAINTS})
        with self._stream():
            for k in range(substeps):
                self._stepper.step(self._d, sensors=sensors and k == substeps - 1)
        if until == "derived" and self._derived_needed:
            self._refresh()

    def _launch_all(self) -> None:
        with self._stream():
            self._stepper.step(self._d, sensors=True)
        self._refresh()

    def _refresh(self) -> None:
        """Poses, velocities and the sensors that follow from them, at the present state."""
        with self._stream():
            mjw.fwd_kinematics(self._m, self._d)
            if self._transmission_needed:
                mjw.transmission(self._m, self._d)
                mjw.fwd_velocity(self._m, self._d)
            else:
                mjw.com_vel(self._m, self._d)
            mjw.sensor_pos(self._m, self._d)
            mjw.sensor_vel(self._m, self._d)

    @contextlib.contextmanager
    def _stream(self) -> Iterator[None]:
        if self.device.type != "cuda":
            with wp.ScopedDevice(self._wp_device):
                yield
            return
        stream = self._capture_stream or wp.stream_from_torch(torch.cuda.current_stream())
        with wp.ScopedStream(stream, sync_enter=False, sync_exit=False):
            yield

    def _make_data(self) -> Any:
        return mjw.make_data(
            self.model, nworld=self.num_envs, nconmax=self._contacts, njmax=self._rows
        )


def _put_model(model: mujoco.MjModel) -> Any:
    try:
        return mjw.put_model(model)
    except NotImplementedError as error:
        reason = " ".join(str(error).split()).rstrip(".")
        raise PhalanxError(
            f"MuJoCo Warp cannot simulate this scene: {reason}; change it or use engine=mujoco"
        ) from error


def _buffer_sizes(model: mujoco.MjModel) -> tuple[int, int]:
    """Contacts and constraint rows an environment to start with: the most the model can ever
    produce, or if that is more, what is usual; then `grow` doubles it as needed. Every row costs
    time, whether it is used or not."""
    collides = (model.geom_contype | model.geom_conaffinity) != 0
    moving = int((collides & (model.body_weldid[model.geom_bodyid] != 0)).sum())
    contacts = max(1, min(_most_contacts(model), _USUAL_CONTACTS * max(moving, 4)))
    condim = int(max([1, *model.geom_condim, *model.pair_dim]))
    pyramidal = model.opt.cone == mujoco.mjtCone.mjCONE_PYRAMIDAL
    rows_per_contact = max(1, 2 * (condim - 1) if pyramidal else condim)
    limits = int(model.jnt_limited.sum()) * 2 + int(model.tendon_limited.sum()) * 2
    friction = int((model.dof_frictionloss > 0).sum() + (model.tendon_frictionloss > 0).sum())
    other = limits + friction + 6 * int(model.neq)
    return contacts, max(1, other + contacts * rows_per_contact)


def _most_contacts(model: mujoco.MjModel) -> int:
    """Of all pairs of geoms that the collision masks let touch, and of explicit pairs."""
    con, aff = model.geom_contype, model.geom_conaffinity
    touch = ((con[:, None] & aff[None, :]) | (aff[:, None] & con[None, :])) != 0
    body = model.geom_bodyid
    weld = model.body_weldid[body]
    touch &= weld[:, None] != weld[None, :]
    low, high = np.minimum.outer(body, body), np.maximum.outer(body, body)
    signature = (low << 16) + high
    touch &= ~np.isin(signature, model.exclude_signature)
    kind = [mujoco.mjtGeom(k).name.removeprefix("mjGEOM_") for k in model.geom_type]
    pairs = [(kind[i], kind[j]) for i, j in np.argwhere(np.triu(touch, 1))]
    pairs += [(kind[i], kind[j]) for i, j in zip(model.pair_geom1, model.pair_geom2, strict=True)]
    contacts = (
        _FEWER_CONTACTS.get((a, b)) or _FEWER_CONTACTS.get((b, a), _MOST_CONTACTS) for a, b in pairs
    )
    return sum(contacts)
