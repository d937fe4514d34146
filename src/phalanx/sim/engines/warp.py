"""MuJoCo Warp: every environment on one GPU; also runs on the CPU, for tests with a few of them.

Tensors are zero-copy views of Warp's arrays, so a write is the state at the next step. Called
eagerly, a step checks for overflowing contact buffers and repeats itself in larger ones; inside a
captured CUDA graph nothing may wait for the host, so an overflow is recorded until `grow` is
called.

A derived field costs nothing until it is first read. If the last step did not compute it, the step
is repeated to get its first value.
"""

import contextlib
import dataclasses
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import mujoco
import mujoco_warp as mjw
import numpy as np
import torch
import warp as wp
from torch import Tensor

from phalanx.compute.start_warp import init_warp
from phalanx.errors import PhalanxError
from phalanx.sim.engines import (
    CompilesScene,
    Until,
    canonical_order,
    copy_with,
    kernels,
    read_only,
    refuse_after_capture,
)
from phalanx.sim.engines.fields import (
    ACCELERATION_FIELDS,
    BODY_FORCE_FIELDS,
    INPUT_FIELDS,
    LEFT_OUT_FIELDS,
    STAGE_FIELDS,
    STATE_FIELDS,
    SUBTREE_FIELDS,
    left_by_step,
    refusal,
)
from phalanx.sim.engines.initial import KEYFRAME_FIELDS, initial_data
from phalanx.sim.engines.mass_matrix import diagonal
from phalanx.sim.engines.warp_step import Stepper

if TYPE_CHECKING:
    from phalanx.sim.engines.fused import FusedEngine

# Overflows that larger buffers resolve. MuJoCo Warp's other overflows (contacts of one height field
# pair, the horizon of its convex collider) come from fixed sizes in its kernels.
_CURABLE = int(
    mjw.OverflowType.NEFC
    | mjw.OverflowType.NJMAX_NNZ
    | mjw.OverflowType.BROADPHASE
    | mjw.OverflowType.NARROWPHASE
    | mjw.OverflowType.CCD
    | mjw.OverflowType.CONTACT_MATCH
)
_SENSOR_FULL = int(mjw.OverflowType.CONTACT_MATCH)
# Fields that set_const writes; each needs a value per environment.
_CONSTANTS = (
    "body_subtreemass", "geom_size", "geom_aabb", "geom_rbound", "tendon_length0", "eq_data",
    "cam_pos0", "cam_poscom0", "cam_mat0", "light_pos0", "light_poscom0", "light_dir0",
    "dof_invweight0", "body_invweight0", "tendon_invweight0", "actuator_acc0",
)  # fmt: skip
# Fields that place what is fixed to the world, and those whose zeros let MuJoCo Warp leave a part
# out, with its flag: it looks at both only when it makes its model.
_PLACES = ("body_pos", "body_quat", "geom_pos", "geom_quat")
_LEFT_OUT = {
    "opt.density": "has_fluid", "opt.viscosity": "has_fluid", "opt.wind": "has_fluid",
    "geom_surfacevel": "flg_surfacevel", "geom_adhesion": "flg_adhesion",
    "pair_adhesion": "flg_adhesion",
}  # fmt: skip
# Fields that a step computes only once they have been read.
_ONLY_IF_READ = BODY_FORCE_FIELDS | {"sensordata", "qacc_smooth"}
# Fields that need contacts, constraint rows or the mass matrix of the current state, and sensors
# that read them; the rest of STAGE_FIELDS needs transmission and the velocity stage only.
_WHOLE_POSITION_STAGE = {"crb", "M", "ne", "nf", "nl", "nefc", "energy"}
_WHOLE_POSITION_SENSORS = (
    mujoco.mjtSensor.mjSENS_JOINTLIMITPOS,
    mujoco.mjtSensor.mjSENS_JOINTLIMITVEL,
    mujoco.mjtSensor.mjSENS_TENDONLIMITPOS,
    mujoco.mjtSensor.mjSENS_TENDONLIMITVEL,
    mujoco.mjtSensor.mjSENS_CONTACT,
    mujoco.mjtSensor.mjSENS_E_KINETIC,
)
_TRANSMISSION_SENSORS = (
    mujoco.mjtSensor.mjSENS_ACTUATORPOS,
    mujoco.mjtSensor.mjSENS_ACTUATORVEL,
    mujoco.mjtSensor.mjSENS_TENDONVEL,
)

# Most contacts that two kinds of geoms make in MuJoCo; other pairs make at most 8.
_MOST_CONTACTS = 8
_FEWER_CONTACTS = {
    ("PLANE", "SPHERE"): 1, ("PLANE", "ELLIPSOID"): 1, ("PLANE", "CAPSULE"): 2,
    ("PLANE", "CYLINDER"): 4, ("PLANE", "BOX"): 4, ("SPHERE", "SPHERE"): 1,
    ("SPHERE", "CAPSULE"): 1, ("SPHERE", "ELLIPSOID"): 1, ("SPHERE", "CYLINDER"): 1,
    ("SPHERE", "BOX"): 1, ("SPHERE", "MESH"): 1, ("CAPSULE", "CAPSULE"): 2, ("CAPSULE", "BOX"): 2,
}  # fmt: skip
_USUAL_CONTACTS = 2  # of one geom at a time
_MOST_GEOMS = 10_000  # MuJoCo Warp lists all their pairs, 150 bytes each while it does
_LOOPS_PAY_FROM = 7  # solver iterations; with fewer, ending a loop early costs more than it saves
_MOST_DOUBLINGS = 10  # in one step, so that useless growth ends before it exhausts the memory


class WarpEngine:
    """See `phalanx.sim.engines.Engine`."""

    name = "warp"

    def __init__(
        self,
        scene: CompilesScene,
        num_envs: int,
        device: torch.device,
        deterministic: bool = False,
    ) -> None:
        init_warp()
        self.model = model = read_only(scene.compile())
        if model.ngeom > _MOST_GEOMS:
            raise PhalanxError(
                f"the scene has {model.ngeom} shapes, and MuJoCo Warp lists all their pairs, which"
                f" takes {model.ngeom**2 * 75 / 2**30:.0f} GiB; use another engine, or a smaller"
                " terrain, or task.env.terrain_settings.sharp_edges=false"
            )
        self.num_envs = num_envs
        self.device = device
        self.failed = torch.zeros(num_envs, dtype=torch.bool, device=device)
        self._contacts, self._rows = _buffer_sizes(model)
        self._wp_device = wp.device_from_torch(device)
        self._capture_stream: Any = None
        with self._stream():
            self._m = _put_model(model)
            _weigh_what_only_turns(self._m)
            self._m.opt.warn_overflow = 0
            self._m.opt.graph_conditional = self._m.opt.iterations >= _LOOPS_PAY_FROM
            if deterministic:
                canonical_order.check(self._m)
                canonical_order.install()
                self._m.opt.deterministic = True
            self._d = self._make_data()
        self._stepper = Stepper(self._m, device)
        self._views: dict[str, Tensor] = {}
        self._model_views: dict[str, Tensor] = {}
        self._shared: dict[str, Tensor] = {}
        self._read: set[str] = set()  # derived fields that have been read
        self._fresh: set[str] = set()  # of these, the ones to compute again after a step
        acc = model.sensor_needstage == mujoco.mjtStage.mjSTAGE_ACC
        moving = model.sensor_type[~acc]
        self._whole_position_sensors = bool(np.isin(moving, _WHOLE_POSITION_SENSORS).any())
        self._transmission_sensors = bool(np.isin(moving, _TRANSMISSION_SENSORS).any())
        self._has_acc_sensors = bool(acc.any())
        self._acc_sensors = torch.from_numpy(np.repeat(acc, model.sensor_dim)).to(device)
        self._overflow = wp.to_torch(self._d.overflow)
        self._diagonal = diagonal(model).to(device)
        self.captured = False
        """Whether a step is in a CUDA graph."""
        self._grown: str | None = None
        self._scratch: dict[str, Any] = {}
        self._stepped = False
        self._solves = False  # whether the kernels of `solve_m` are loaded
        self._settles = False  # whether those of `set_const` are
        self._before: dict[str, Tensor] = {}  # the last step, if it was an eager one
        self._substeps = 0  # of the last step
        self._unstepped = torch.ones_like(self.failed)  # environments reset since the last step
        present = (k for k in (*STATE_FIELDS, *INPUT_FIELDS) if hasattr(self._d, k))
        self._initial = {k: self._view(k)[:1].clone() for k in present}
        initial = initial_data(model)
        for name in set(KEYFRAME_FIELDS) & self._initial.keys():
            value = torch.from_numpy(np.array(getattr(initial, name)))
            self._initial[name].copy_(value.view(self._initial[name].shape))
        kernels.load_together(self._launch_all, self._m.opt)  # compiled in a first start
        self._advance(1)
        self.reset(torch.ones_like(self.failed))

    def field(self, name: str, stale: bool = False) -> Tensor:
        if reason := refusal(name, self.name, self.model):
            raise PhalanxError(reason)
        view = self._view(name)
        if name in STATE_FIELDS or name in INPUT_FIELDS:
            return view
        free = left_by_step(name, self.model) or (stale and name not in LEFT_OUT_FIELDS)
        if name not in self._read or not (free or name in self._fresh):
            refuse_after_capture(self.captured, f"sim.{name}")
            self._register(name, not free)
        return view

    def model_field(self, name: str) -> Tensor:
        if name not in self._model_views:
            owner, key = self._place(name)
            shared = getattr(owner, key, None)
            if not isinstance(shared, wp.array) or not getattr(shared, "_is_batched", False):
                raise KeyError(name)
            refuse_after_capture(self.captured, f"model field {name}")
            with self._stream():
                values = np.repeat(shared.numpy()[:1], self.num_envs, axis=0)
                own = wp.array(values, dtype=shared.dtype)
            own._is_batched = True
            setattr(owner, key, own)
            self._model_views[name] = wp.to_torch(own)
            self._shared[name] = self._model_views[name][:1].clone()
            if name in _PLACES:
                with self._stream():
                    self._stepper.place_fixed()
            if name in _LEFT_OUT:
                setattr(self._m, _LEFT_OUT[name], True)
                self._stepper.look_again()
        return self._model_views[name]

    def forget_graphs(self) -> None:
        """See `Sim.forget_graphs`."""
        self.captured = False

    def set_const(self, mask: Tensor) -> None:
        for name in _CONSTANTS:
            if getattr(self._m, name).size:
                self.model_field(name)
        if not self._settles:  # and of a step where these fields differ between environments
            kernels.load_together(self._settle_and_launch_all, self._m.opt)
            self._settles = True
        self._settle()

    def _settle(self) -> None:
        with self._stream():
            mjw.set_const(self._m, self._d)  # in all environments: it takes no mask

    def _settle_and_launch_all(self) -> None:
        self._settle()
        self._launch_all()

    def model_of(self, env: int) -> mujoco.MjModel:
        values = {k: v[env].cpu().numpy() for k, v in self._model_views.items()}
        return copy_with(self.model, values, settled="body_subtreemass" in values)

    def step(self, substeps: int, until: Until = "derived") -> None:
        self._stepped = True
        if self._capture_stream is not None:
            self._before = {}
            self._advance(substeps, until)
            return
        before = self._saved()
        self._before, self._substeps = before, substeps
        self._advance(substeps, until)
        doublings = 0
        while grown := self._enlarge():
            self._grown = grown
            doublings += 1
            if doublings > _MOST_DOUBLINGS:
                raise PhalanxError(
                    f"one step overflowed {self._contacts} contacts per environment; look for"
                    " bodies that start inside each other"
                )
            self._restore(before)
            self._advance(substeps, until)

    def derive(self, mask: Tensor) -> None:
        if self._fresh:
            self._refresh(self._fresh)

    def forward(self, mask: Tensor) -> None:
        self.derive(mask)
        self._note_unstepped(mask)
        self._clear_acceleration_sensors(mask)

    def take_over(self, other: "FusedEngine") -> None:
        """Continue the simulation of `other`. Its tensors become those of this engine."""
        saved = other.state_dict()
        for name in saved["model"]:
            self.model_field(name)
            owner, key = self._place(name)
            self._model_views[name] = self._hold(owner, key, other.model_field(name))
            getattr(owner, key)._is_batched = True
        if other.settled:  # more follows from these than the fused engine has fields for
            self.set_const(torch.ones_like(self.failed))
            for name, value in saved["model"].items():
                self._model_views[name].copy_(value)
        self._substeps = other.rewind()
        for name in saved["state"]:
            self._views[name] = self._hold(self._d, name, other.field(name))
        self._stepped = bool(self._substeps)
        self._before = self._saved() if self._substeps else {}
        self._restore(saved["state"])
        self._unstepped.copy_(other.unstepped)
        for name, value in saved["derived"].items():
            fresh = name in saved["fresh"]
            tensor = other.field(name, stale=not fresh)
            self._register(name, fresh)
            self._views[name] = self._hold(self._d, name, tensor.copy_(value))

    def _place(self, name: str) -> tuple[Any, str]:
        """Which object has model field `name`, and as which attribute."""
        return (self._m.opt, name[4:]) if name.startswith("opt.") else (self._m, name)

    def _hold(self, owner: Any, name: str, tensor: Tensor) -> Tensor:
        """Let `tensor` be the memory of the array `name` from now on."""
        array = getattr(owner, name)
        shaped = tensor.view(wp.to_torch(array).shape)
        setattr(owner, name, wp.from_torch(shaped, dtype=array.dtype))
        return tensor

    def solve_m(self, force: Tensor, added: Tensor) -> Tensor:
        mass = self._view("M").index_add(1, self._diagonal, added)
        solution = torch.empty_like(force)
        d = dataclasses.replace(self._d, M=wp.from_torch(mass))

        def launch() -> None:
            # The factors overwrite those of the last step, which no later step reads.
            mjw.factor_m(self._m, d)
            mjw.solve_m(self._m, d, wp.from_torch(solution), wp.from_torch(force.contiguous()))

        with self._stream():
            if not self._solves:  # a module for each size of tree, slow to compile one by one
                kernels.load_together(launch, self._m.opt)
                self._solves = True
            launch()
        return solution

    def reset(self, mask: Tensor) -> None:
        self._note_unstepped(mask)
        for name, initial in self._initial.items():
            view = self._view(name)
            at = mask.view(-1, *(1,) * (view.dim() - 1))
            view.copy_(torch.where(at, initial, view))

    @contextlib.contextmanager
    def capture(self) -> Iterator[None]:
        # One stream wrapper for the whole capture: Warp does not recognise a second one.
        self._capture_stream = wp.stream_from_torch(torch.cuda.current_stream(self.device))
        wp.capture_begin(stream=self._capture_stream, external=True)
        try:
            yield
        finally:
            wp.capture_end(stream=self._capture_stream)
            self._capture_stream = None
            self.captured = True

    def grow(self) -> str | None:
        grown = self._enlarge() or self._grown
        self._grown = None
        return grown

    def _enlarge(self) -> str | None:
        """Double the buffers if any has overflowed, and return a sentence that says so."""
        if not int(torch.bitwise_and(self._overflow, _CURABLE).max()):
            return None
        if int(torch.bitwise_and(self._overflow, _SENSOR_FULL).max()):
            self._m.opt.contact_sensor_maxmatch *= 2
        self._overflow.zero_()
        self.captured = False  # what there are of graphs is invalid
        self._contacts *= 2
        self._rows *= 2
        with self._stream():
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
            f" {self._rows} constraint rows per environment"
        )

    def state_dict(self) -> dict[str, Any]:
        return {
            "state": self._saved(),
            "model": {k: v.clone() for k, v in self._model_views.items()},
            "derived": {k: self._view(k).clone() for k in sorted(self._read)},
            "fresh": sorted(self._fresh),
        }

    def load_state_dict(self, state: dict[str, Any], model_fields: bool) -> None:
        derived = state.get("derived", {})  # not in files of before this was saved
        for name in derived:
            if refusal(name, self.name, self.model) is None:
                self.field(name, stale=name not in state["fresh"])
        self._restore(state["state"])
        if model_fields:
            for name in {*self._model_views, *state["model"]}:
                field = self.model_field(name)
                field.copy_(state["model"].get(name, self._shared[name]))
        self._stepped, self._before = False, {}
        self._unstepped.fill_(True)
        same = {k for k in self._read & derived.keys() if derived[k].shape == self._view(k).shape}
        if self._read - same:
            self._compute(self._read - same)
        for name in same:
            self._view(name).copy_(derived[name])

    def _saved(self) -> dict[str, Tensor]:
        return {k: self._view(k).clone() for k in self._initial}

    def _restore(self, state: dict[str, Tensor]) -> None:
        for name, value in state.items():
            self._view(name).copy_(value)

    def _view(self, name: str) -> Tensor:
        if name not in self._views:
            view = wp.to_torch(getattr(self._d, name))
            # MuJoCo's shape: a rotation matrix is 9 numbers there and 3 x 3 in Warp.
            shape = (self.num_envs, *np.shape(getattr(mujoco.MjData(self.model), name)))
            self._views[name] = view.view(shape)
        return self._views[name]

    def _register(self, name: str, fresh: bool) -> None:
        """Provide derived field `name` from now on; fresh: make it current after every step."""
        self._read.add(name)
        if fresh:
            self._fresh.add(name)
        self._m.opt.run_rne_postconstraint |= name in BODY_FORCE_FIELDS
        if name == "qacc_smooth":
            self._stepper.compute_qacc_smooth()
        self._compute({name})

    def _compute(self, names: set[str]) -> None:
        """Set fields that the last step did not compute to the values that it would have given."""
        if names & _ONLY_IF_READ or not self._stepped:
            now = self._saved()
            if self._before:
                self._restore(self._before)
                self._advance(self._substeps)
            else:
                forces = (ACCELERATION_FIELDS | _ONLY_IF_READ) - names
                shown = (k for k in forces if refusal(k, self.name, self.model) is None)
                kept = {k: self._view(k).clone() for k in shown} if self._stepped else {}
                with self._stream():
                    self._stepper.before_stages(self._d)
                    mjw.forward(self._m, self._d)
                self._restore(kept)
            self._restore(now)
        if self._fresh:
            self._refresh(self._fresh)
        if "sensordata" in names:
            self._clear_acceleration_sensors(self._unstepped)

    def _note_unstepped(self, mask: Tensor) -> None:
        if self._has_acc_sensors and "sensordata" not in self._read:
            self._unstepped |= mask

    def _clear_acceleration_sensors(self, mask: Tensor) -> None:
        """Zero until the next step, in environments `mask` (N,) bool."""
        if self._has_acc_sensors and "sensordata" in self._read:
            sensordata = self._view("sensordata")
            sensordata.copy_(torch.where(mask[:, None] & self._acc_sensors, 0.0, sensordata))

    def _advance(self, substeps: int, until: Until = "derived") -> None:
        if self._has_acc_sensors and "sensordata" not in self._read:
            self._unstepped.zero_()
        sensors = until != "state" and bool(self._read & {"sensordata", *BODY_FORCE_FIELDS})
        with self._stream():
            for k in range(substeps):
                self._stepper.step(self._d, sensors=sensors and k == substeps - 1)
        if self._fresh and until == "derived":
            self._refresh(self._fresh)

    def _launch_all(self) -> None:
        with self._stream():
            self._stepper.step(self._d, sensors=True)
        self._refresh({"sensordata"})

    def _refresh(self, fresh: set[str]) -> None:
        """Compute derived fields `fresh` at the current state."""
        m, d = self._m, self._d
        sensors = "sensordata" in fresh
        if self._read & BODY_FORCE_FIELDS:  # the velocity stage uses them as scratch memory
            if not self._scratch:  # kept: a graph would go on writing to memory that is freed
                with self._stream():
                    self._scratch = {k: wp.empty_like(d.cacc) for k in ("cacc", "cfrc_int")}
            d = dataclasses.replace(d, **self._scratch)
        with self._stream():
            if fresh & _WHOLE_POSITION_STAGE or (sensors and self._whole_position_sensors):
                self._stepper.before_stages(d)
                mjw.fwd_position(m, d, factorize=False)
                mjw.fwd_velocity(m, d)
            elif fresh & STAGE_FIELDS or (sensors and self._transmission_sensors):
                self._stepper.kinematics(d)
                mjw.transmission(m, d)
                mjw.fwd_velocity(m, d)
            else:
                self._stepper.kinematics(d)
                mjw.com_vel(m, d)
            if sensors:
                mjw.sensor_pos(m, d)
                mjw.sensor_vel(m, d)
            if fresh & SUBTREE_FIELDS:
                mjw.subtree_vel(m, d)
            if "energy" in fresh:
                mjw.energy_pos(m, d)
                mjw.energy_vel(m, d)

    @contextlib.contextmanager
    def _stream(self) -> Iterator[None]:
        """Have Warp launch kernels, and make arrays, in PyTorch's current stream. Warp has a stream
        of its own, for which others do not wait: it would zero arrays after a step wrote there."""
        if self.device.type != "cuda":
            with wp.ScopedDevice(self._wp_device):
                yield
            return
        stream = self._capture_stream or wp.stream_from_torch(
            torch.cuda.current_stream(self.device)
        )
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


def _weigh_what_only_turns(warp_model: Any) -> None:
    """Give a body that can only turn about its centre of mass, or only slide, one of its inverse
    weights for both. MuJoCo has 0 for the other: touching something fixed, such a body gets a
    stiffness of 1e16, next to which nothing else of its environment counts in float32."""
    weights = wp.to_torch(warp_model.body_invweight0)
    weights.copy_(torch.where(weights < mujoco.mjMINVAL, weights.flip(-1), weights))


def _buffer_sizes(model: mujoco.MjModel) -> tuple[int, int]:
    """Initial contacts and constraint rows per environment: the most the model can ever produce,
    or the usual number if that is less; `grow` doubles it as needed. Every row costs time, used or
    not."""
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
    """Most contacts of all geom pairs that the collision masks allow, and of explicit pairs."""
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
