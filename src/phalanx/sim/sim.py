"""N copies of a `Scene` on one device, as torch tensors.

    sim = Sim(scene, num_envs=4096, device="cuda:0", substeps=2)
    sim.ctrl.copy_(actions)
    sim.step()
    robot = sim.actor("ant")
    height = robot.root_pos[:, 2]

MjData fields are attributes under MuJoCo's names: `sim.qpos` is (N, nq), `sim.xpos` (N, nbody, 3),
float32, on the simulation's device. The tensor is the same object for the life of the simulation:
write into it, never rebind it. A field that an engine cannot show raises AttributeError with the
reason; `engines/fields.py` lists all fields.

What is current when
- State (`time qpos qvel act mocap_pos mocap_quat`) and inputs (`ctrl qfrc_applied xfrc_applied`):
  always. A write takes effect at the next `step`, `forward` or `reset`. Inputs stay until changed.
- Derived fields (`xpos xquat cvel sensordata ...`): current after every `step`. A field costs
  nothing until it is first read, and its values do not depend on when it is first read. After a
  state write they are stale until `forward(mask)`.
- Forces and accelerations (`actuator_force`, `cfrc_ext`, `contact_force`, sensors of those kinds):
  those of the last substep of the last `step`. Their sensors read zero before the first step and
  after `reset` and `forward`.
- `reset(mask)` restores the model's initial state in those environments. To start elsewhere, write
  the state afterwards and call `forward(mask)`.

Surprises: a free joint's `qvel` has its linear part in the world frame and its angular part in the
body frame, as in MuJoCo. The CPU engine keeps the state in float64: the values you read are
rounded, and values you do not write keep full precision.
"""

from collections.abc import Mapping, Sequence
from typing import Any, SupportsIndex

import mujoco
import numpy as np
import torch
from torch import Tensor

from phalanx.compute.devices import make_current, resolve_device
from phalanx.errors import PhalanxError, did_you_mean, no_attribute
from phalanx.fits import check_fits, check_tensor, mapping
from phalanx.gate import show
from phalanx.sim.actor import Actor
from phalanx.sim.engines import MakeEngine, Until, make_engine
from phalanx.sim.fixed_shapes import fixed_shapes, same_shapes
from phalanx.sim.jacobian import moving_dofs, point_jacobian
from phalanx.sim.mujoco_warnings import count_warnings, warnings_report
from phalanx.sim.saved_fields import thinned, whole
from phalanx.sim.scene import Scene

ELSEWHERE = {
    "data": "its fields belong to sim itself, as in sim.qpos",
    "timestep": "it is sim.model.opt.timestep, and sim.dt the time of a step",
    "physics_dt": "it is sim.model.opt.timestep",
    "actors": "it is actor_names and actor(name)",
    "num_actors": "it is len(sim.actor_names)",
    "articulations": "it is actor(name)",
    "joint_pos": "it is sim.actor(name).joint_pos, or qpos of all actors",
    "joint_vel": "it is sim.actor(name).joint_vel, or qvel of all actors",
    "dof_pos": "it is sim.actor(name).joint_pos, or qpos of all actors",
    "dof_vel": "it is sim.actor(name).joint_vel, or qvel of all actors",
    "gravity": "it is sim.model.opt.gravity",
    "simulate": "it is step()",
    "reset_idx": "it is reset(mask), with a mask, bool (N,)",
    "render": "phalanx.video.render_video draws states",
}
"""Names of other frameworks, and what to write here."""


def check_count(name: str, value: object) -> None:
    """Raise PhalanxError unless `value` is a whole number from 1 on, such as 4096."""
    if isinstance(value, bool | torch.Tensor) or not isinstance(value, SupportsIndex):
        raise PhalanxError(f"{name} is {value!r}; it must be a whole number")
    if value.__index__() < 1:
        raise PhalanxError(f"{name} is {value}; it must be 1 or more")


class Sim:
    """`num_envs` copies of `scene`; each `step` takes `substeps` physics steps of its timestep.

    device: "cpu", "cuda:N" or "auto". threads: CPU threads, 0 for all cores. engine: "auto",
    "fused", "mujoco" (C, CPU), "warp" (CUDA; on the CPU for tests), or a function that makes one.
    deterministic: the same bits in every run, which is slower on a GPU; the CPU engine is always
    deterministic.
    """

    def __init__(
        self,
        scene: Scene,
        num_envs: int,
        device: str | torch.device = "auto",
        substeps: int = 1,
        threads: int = 0,
        engine: str | MakeEngine = "auto",
        deterministic: bool = False,
    ) -> None:
        check_count("num_envs", num_envs)
        check_count("substeps", substeps)
        self._warned_before = count_warnings()
        self.device = resolve_device(device)
        make_current(self.device)
        self.engine = make_engine(engine, scene, num_envs, self.device, threads, deterministic)
        self.model: mujoco.MjModel = self.engine.model
        """The model of one environment. Its arrays are read-only, because engines copy the model
        when they start. `model_field` gives values per environment, `model_of` a writable copy."""
        self.num_envs = num_envs
        self.substeps = substeps
        self.dt = self.model.opt.timestep * substeps
        """Time one `step` advances [s]."""
        self.diverged = torch.zeros(num_envs, dtype=torch.bool, device=self.device)
        """(N,) bool: environments whose state became NaN, infinite or too large in the last `step`:
        a velocity above 1e4 [m/s or rad/s], anything else above MuJoCo's limit of 1e10."""
        self.divergences = torch.zeros(len(_QUANTITIES), dtype=torch.long, device=self.device)
        """Number of divergences so far, by first bad quantity, in the order of `_QUANTITIES`."""
        self.steps = torch.zeros((), dtype=torch.long, device=self.device)
        """Calls of `step` so far."""
        self.lost_at = torch.zeros(num_envs, dtype=torch.long, device=self.device)
        """(N,) the step, counted from 1, in which an environment first diverged; 0 for never."""
        self.lost_by = torch.zeros_like(self.lost_at)
        """(N,) the first bad quantity in that step, a place in `_QUANTITIES`."""
        self._states = {name: self.engine.field(name) for name in _STATES}
        self._model_fields: dict[str, Tensor] = {}
        self._kept: list[Tensor] = []
        self._bodies = {self.model.body(i).name: i for i in range(self.model.nbody)}
        self._moving: dict[int, Tensor] = {}  # of bodies whose Jacobian was asked for
        self._watch_inputs(["ctrl"])
        self._all = torch.ones_like(self.diverged)
        self._actors = {a.name: Actor(self, a.name, a.fixed_base) for a in scene.actors.values()}

    def __getattr__(self, name: str) -> Tensor:
        # Python calls this only for names that are not set yet: MjData fields, stored once read.
        if name.startswith("_") or name == "engine":
            raise AttributeError(name)
        try:
            tensor = self.engine.field(name)
        except PhalanxError as error:
            if name in ELSEWHERE:
                raise no_attribute(self, name, ELSEWHERE) from None
            raise AttributeError(str(error)) from None
        object.__setattr__(self, name, tensor)
        if name in _INPUTS and name != "ctrl":  # nobody writes what nobody has read
            self._watch_inputs([*self._inputs, name])
        return tensor

    def __setattr__(self, name: str, value: Any) -> None:
        held = self.__dict__.get(name)
        field = isinstance(held, Tensor) or hasattr(mujoco.MjData, name)
        if field and value is not held and "_actors" in self.__dict__:
            raise AttributeError(
                f"sim.{name} cannot be rebound, because others hold the same tensor; write into it:"
                f" sim.{name}.copy_(...)"
            )
        object.__setattr__(self, name, value)

    def stale(self, name: str) -> Tensor:
        """Derived MjData field (N, ...) from inside the last substep, before its integration. It
        is free, whereas `sim.<name>` costs a pass over the new state after every step. If
        `sim.<name>` is read as well, both are current. Raises PhalanxError with the reason if the
        engine does not provide the field."""
        return self.engine.field(name, stale=True)

    @property
    def actor_names(self) -> list[str]:
        """Names of the scene's actors, in the order in which they were added."""
        return list(self._actors)

    def actor(self, name: str) -> Actor:
        """Views of one actor. Raises PhalanxError for a name that the scene does not have."""
        if name not in self._actors:
            raise PhalanxError(
                f"no actor {name!r} in the simulation{did_you_mean(name, self._actors)}"
            )
        return self._actors[name]

    def model_field(self, name: str, by_torch: bool = False) -> Tensor:
        """MjModel field with a value per environment, (N, ...), writable: masses, frictions, ...

        The first call, which must come before any CUDA graph is captured, gives every environment
        its own copy. Call `set_const` after writing what mj_setConst reads: masses, inertias,
        places of bodies, shapes and sites, armature, gravity compensation, the zero position.
        Floats are float32, other types MuJoCo's. by_torch: only torch's operations write to it, not
        NumPy's on its memory; then steps on a CPU need not look for writes.
        """
        try:
            field = self._model_fields[name] = self.engine.model_field(name)
            if not by_torch and (compare := getattr(self.engine, "compare", None)):
                compare(name)
            return field
        except KeyError:
            options = [f"opt.{key}" for key in dir(mujoco.MjOption)]
            known, engine = [*dir(mujoco.MjModel), *options], self.engine.name
            hint = "" if name in known else did_you_mean(name, known)
            if engine == "fused" and not hint:
                hint = "; engine=auto goes on with an engine that has it, if one does"
            raise PhalanxError(
                f"no per-environment model field {name!r} on the {engine} engine{hint}"
            ) from None

    def take_model_fields(self) -> None:
        """Bring what was written to model fields into the step, which does so itself, but not where
        it is replayed in a CUDA graph: call this after writes from outside of the graph."""
        if take := getattr(self.engine, "update_tables", None):
            take()

    def forget_graphs(self) -> None:
        """CUDA graphs of steps that a program captured are no longer used: what must come before a
        capture may come again."""
        if forget := getattr(self.engine, "forget_graphs", None):
            forget()

    def set_const(self, mask: Tensor | None = None) -> None:
        """Recompute constants that depend on model fields you changed, in environments `mask` (N,)
        bool, None for all. As for `model_field`, the first call must come before any CUDA graph is
        captured. On a GPU it takes a few hundred small kernels, about as many as a step.
        Raises PhalanxError, on a CPU without MuJoCo Warp, if a body that MuJoCo compiled as simple
        (its centre of mass and axes are those of its frame) has got others."""
        mask = self._mask("set_const", mask)
        if self.engine.name != "warp" and self.device.type == "cpu":  # a GPU would have to wait
            self._check_simple_bodies(mask)
        self.engine.set_const(mask)

    def _check_simple_bodies(self, mask: Tensor) -> None:
        moved = self._model_fields.keys() & {"body_ipos", "body_iquat"}
        bodies = np.flatnonzero(self.model.body_simple[1:]) + 1  # the world has no mass
        if not moved or not len(bodies):
            return
        simple: Tensor | bool = True
        if (own := self._model_fields.get("body_simple")) is not None:
            simple = own[:, bodies] > 0
        for name in sorted(moved):
            field, model = self._model_fields[name][:, bodies], getattr(self.model, name)[bodies]
            given = torch.tensor(model, dtype=field.dtype)
            off = (field - given).abs().amax(-1)
            if name == "body_iquat":  # a quaternion turns as its negative does
                off = torch.minimum(off, (field + given).abs().amax(-1))
            found = ((off >= 1e-6) & simple & mask[:, None]).nonzero()  # MuJoCo's own bound
            if len(found):
                env, at = found[0].tolist()
                called = self.model.body(bodies[at]).name
                raise PhalanxError(
                    f"{name} of body {called!r} in environment {env} is not the model's, but MuJoCo"
                    ' compiled the body as simple; give it <body simple="false">, or'
                    f" scene.spec.body({called!r}).simple = False before the simulation is made"
                )

    def model_of(self, env: int) -> mujoco.MjModel:
        """A writable copy of the model with environment `env`'s values. Waits for the GPU."""
        return self.engine.model_of(env)

    def step(self) -> None:
        """Advance every environment by `dt` and mark those that diverged."""
        self.advance()
        self.mark_diverged()

    def advance(self, substeps: int | None = None, until: Until = "derived") -> None:
        """Advance the physics without checking for divergence, by the substeps of a `step` unless
        `substeps` is given. until: the fields that must be current afterwards. "state" is enough
        before another `advance`, "forces" before a state write and `derive`."""
        self.engine.step(self.substeps if substeps is None else substeps, until)

    def mark_diverged(self) -> None:
        """Set `diverged` and count in `divergences`; `step` does this after `advance`."""
        self.steps += 1
        if self.device.type == "cpu":  # checking would synchronise a GPU
            watched = {"ctrl": self._inputs["ctrl"], **self._states}
            # False where the maximum is NaN; a scene without joints has no states
            fine = all(v.abs().max() <= _limit(k) for k, v in watched.items() if v.numel())
            if fine and not self.engine.failed.any():
                self.diverged.zero_()
                return
        inputs = [v.flatten(1) for v in self._inputs.values()]
        states = torch.cat([inputs[0], *(v.flatten(1) for v in self._states.values())], 1)
        bad = ~(torch.cat([*inputs[1:], states], 1).abs() <= self._limits)  # NaN is not <= either
        named = torch.cat([bad.float() @ self._owners > 0, self.engine.failed[:, None]], 1)
        self.diverged.copy_(named.any(1))
        first = named & (named.cumsum(1) == 1)
        self.divergences += first.sum(0)
        new = self.diverged & (self.lost_at == 0)
        self.lost_at.copy_(torch.where(new, self.steps, self.lost_at))
        self.lost_by.copy_(torch.where(new, first.long().argmax(1), self.lost_by))

    def _watch_inputs(self, names: list[str]) -> None:
        """Name these inputs, with `ctrl` among them, if they make an environment diverge."""
        self._inputs = {name: self.engine.field(name) for name in _INPUTS if name in names}
        rest = [n for n in self._inputs if n != "ctrl"]
        watched = {n: self._inputs[n] for n in (*rest, "ctrl")} | self._states
        widths = torch.tensor([v.flatten(1).shape[1] for v in watched.values()])
        places = torch.tensor([_QUANTITIES.index(n) for n in watched])
        owner = torch.repeat_interleave(places, widths)
        one_hot = torch.nn.functional.one_hot(owner, len(_QUANTITIES) - 1)
        limits = torch.repeat_interleave(torch.tensor([_limit(n) for n in watched]), widths)
        object.__setattr__(self, "_owners", one_hot.float().to(self.device))
        object.__setattr__(self, "_limits", limits.to(self.device))
        self._kept += [self._owners, self._limits]  # a CUDA graph may hold earlier ones

    def derive(self, mask: Tensor | None = None) -> None:
        """Like `forward`, but forces and acceleration sensors stay those of the last substep."""
        self.engine.derive(self._mask("derive", mask))

    def forward(self, mask: Tensor | None = None) -> None:
        """Make derived fields current after a state write, in environments `mask` (N,) bool, None
        for all."""
        self.engine.forward(self._mask("forward", mask))

    def solve_m(self, force: Tensor, added: Tensor) -> Tensor:
        """(M + diag(added))^-1 force, (N, nv) each, with the mass matrix M of the last substep:
        the accelerations [m/s^2 or rad/s^2] from generalized forces, or the velocity changes from
        impulses. `added` [kg or kg m^2] is additional inertia of each degree of freedom."""
        return self.engine.solve_m(force, added)

    def jacobian(self, body: str, at: Tensor | None = None) -> Tensor:
        """(N, 6, nv): the linear velocity [m/s] of a point of the body, then the body's angular
        velocity [rad/s], both along the world's axes, of each velocity in `qvel`; mj_jac. at:
        (N, 3) where the point is [m, world], None for the body's origin. Of the new state after a
        step; the first call must come before any CUDA graph is captured. Raises PhalanxError for a
        body that the scene does not have."""
        if body not in self._bodies:
            raise PhalanxError(
                f"no body {body!r} in the simulation{did_you_mean(str(body), self._bodies)}"
            )
        number = self._bodies[body]
        if number not in self._moving:
            self._moving[number] = moving_dofs(self.model, number).to(self.device)
        point = self.xpos[:, number] if at is None else at
        if point.shape != (self.num_envs, 3) or point.dtype != torch.float32:
            raise PhalanxError(
                f"sim.jacobian takes points as float32 of shape {(self.num_envs, 3)}; `at` is"
                f" {point.dtype} of shape {tuple(point.shape)}"
            )
        centre = self.subtree_com[:, int(self.model.body_rootid[number])]
        return point_jacobian(self.cdof, point - centre, self._moving[number])

    def reset(self, mask: Tensor | None = None) -> None:
        """Restore the initial state and zero inputs in environments `mask` (N,) bool, None for
        all."""
        self.engine.reset(self._mask("reset", mask))

    def _mask(self, method: str, mask: Tensor | None) -> Tensor:
        """`mask`, (N,) bool. Raises PhalanxError for indices, which would choose others."""
        if mask is None:
            return self._all
        given = ""
        if not isinstance(mask, Tensor):
            given = type(mask).__name__
        elif mask.dtype != torch.bool or mask.shape != self._all.shape:
            given = f"a tensor of {mask.dtype}, of shape {tuple(mask.shape)}"
        if given:
            raise PhalanxError(
                f"sim.{method} got {given}; it takes a mask, bool of shape {(self.num_envs,)}, not"
                " indices; to make one: mask = torch.zeros_like(sim.diverged); mask[env_ids] = True"
            )
        return mask

    def engine_report(self) -> str:
        """Why engine "auto" does not take the fused engine, in one sentence; empty if it
        does, or would not gain from it."""
        reason = getattr(self.engine, "reason", "")
        return f"physics runs on engine {self.engine.name}: {reason}" if reason else ""

    def divergence_report(self, numbers: Sequence[int] | None = None) -> str:
        """One sentence about the environments that diverged so far, empty if none did. Waits for
        the GPU. numbers: what the environments are called, (N,); None for 0 to N - 1."""
        counts = dict(zip(_QUANTITIES, self.divergences.tolist(), strict=True))
        lost = [f"{n} by {name}" for name, n in counts.items() if n]
        if not lost:
            return ""
        number, step, cause = self._first_divergence(numbers)
        times = sum(counts.values())  # more often than there are environments, perhaps
        first = f"environment {number} in step {step}, by {cause}"
        if times == 1:
            return f"an environment diverged and was reset: {first}"
        return (
            f"environments diverged {times} times and were reset (first bad quantity:"
            f" {', '.join(lost)}); the first was {first}"
        )

    def warnings_report(self) -> str:
        """One sentence about MuJoCo's own warnings since this simulation was made, empty if there
        were none."""
        return warnings_report(self._warned_before)

    def _first_divergence(self, numbers: Sequence[int] | None) -> tuple[int, int, str]:
        """What the environment is called, its step, and what diverged."""
        at = self.lost_at.cpu()
        env = int(torch.where(at > 0, at, at.max() + 1).argmin())
        cause = _QUANTITIES[int(self.lost_by[env])]
        for name, values in self._model_fields.items():
            if not values[env].isfinite().all():
                cause = f"the model's {name}, which is not finite there"
        number = env if numbers is None else numbers[env]
        return number, int(at[env]), cause

    def state_dict(self) -> dict[str, Any]:
        """Everything that determines the next steps, and the derived fields in use, bit for
        bit."""
        state = self.engine.state_dict()
        scene = {k: torch.from_numpy(_original(self.model, k)) for k in state["model"]}
        return {
            **state,
            "engine": self.engine.name,
            "num_envs": self.num_envs,
            "sizes": self._sizes(),
            "fixed": fixed_shapes(self.model),
            "counts": {k: getattr(self, k).clone() for k in _COUNTS},
            "model": {k: thinned(v, scene[k]) for k, v in state["model"].items()},
            "originals": scene,
        }

    def load_state_dict(self, state: dict[str, Any], model_fields: bool = True) -> None:
        """Restore what `state_dict` returned, on the same engine with the same `num_envs`; the
        model's fields only if `model_fields`. Derived fields are those of the saved simulation.
        Raises PhalanxError, before anything has changed, for another engine, size or scene, and for
        a damaged state."""
        check_fits({"engine": "", "num_envs": 0, "model": {}}, state, "the saved simulation")
        self.match_engine(state["engine"])
        for name, here in (("engine", self.engine.name), ("num_envs", self.num_envs)):
            if state[name] != here:
                raise PhalanxError(
                    f"the saved simulation has {name} {state[name]}, this one has {here};"
                    f" start it with {name}={state[name]}"
                )
        self._check_scene(state)
        state = state | {"model": self._whole(state["model"])}
        self._check_state(state)
        for name in _COUNTS if "counts" in state else ():  # older states have none
            getattr(self, name).copy_(state["counts"][name])
        self.engine.load_state_dict(state, model_fields)

    def _whole(self, fields: Any) -> dict[str, Any]:
        """Saved model fields with all rows of those that were thinned."""
        where, found = "the saved simulation", {}
        for name, value in mapping(fields, f"{where}'s model").items():
            thin = isinstance(value, Mapping) and _is_float_field(self.model, name)
            scene = torch.from_numpy(_original(self.model, name)) if thin else torch.empty(())
            found[name] = whole(value, scene, self.num_envs, f"{where}'s {name}")
        return found

    def _check_state(self, state: dict[str, Any]) -> None:
        """Raise PhalanxError unless every tensor of `state` has the shape of the one here."""
        where = "the saved simulation"
        own = self.engine.state_dict()
        check_fits(own["state"], state.get("state"), f"{where}'s state")
        counts = {name: getattr(self, name) for name in _COUNTS}
        check_fits(counts if "counts" in state else {}, state.get("counts", {}), where)
        for name, value in state["model"].items():
            field = _original(self.model, name) if _is_float_field(self.model, name) else None
            if field is None:
                raise PhalanxError(f"{where} has values of {show(name)}, which is no decimal field")
            shape: Any = getattr(value, "shape", ())
            if len(shape) < 1 or (shape[0], value.numel()) != (n := self.num_envs, n * field.size):
                raise PhalanxError(f"{where}'s {name} does not fit {n} environments")
            check_tensor(value, f"{where}'s {name}", shape)  # engines differ in the shape of a row
        for name, value in mapping(state.get("derived", {}), where).items():
            if name in own.get("derived", {}):
                here = own["derived"][name]
                if not isinstance(value, Tensor) or (value.dtype, value.shape) != (
                    here.dtype,
                    here.shape,
                ):
                    raise PhalanxError(f"{where}'s {name} does not fit")

    def match_engine(self, name: str) -> None:
        """With engine "auto", continue on engine `name`, which saved a state, if that is
        possible."""
        if match := getattr(self.engine, "match", None):
            match(name)

    def changed_fields(self, state: dict[str, Any]) -> list[str]:
        """Model fields that environments of `state` have values of their own for, and whose value
        in the scene is another than it was then: the robot's file has changed. Raises PhalanxError
        for a damaged state."""
        self._check_scene(state)
        originals = mapping(state.get("originals", {}), "the scene's values")
        for name, then in originals.items():
            if not _is_float_field(self.model, name):
                raise PhalanxError(f"{show(name)} is no field of decimal numbers")
            check_tensor(then, name, _original(self.model, name).shape)
        return [
            "shapes" if name == "bvh_aabb" else name  # boxes around them, which nobody has written
            for name, then in originals.items()
            if not np.allclose(_original(self.model, name), then, rtol=1e-5, atol=1e-9)
        ]

    def _check_scene(self, state: dict[str, Any]) -> None:
        """Raise PhalanxError if a saved simulation has another number of anything, or another
        world, in whose ground robots may be."""
        # Older states do not have them.
        if "fixed" in state and not same_shapes(state["fixed"], fixed_shapes(self.model)):
            raise PhalanxError(
                "the ground, or another shape of the world, has changed since it was written"
            )
        there = mapping(state.get("sizes", {}), "the saved simulation's sizes")
        for name, here in self._sizes().items():
            if there.get(name, here) != here:
                raise PhalanxError(
                    f"the saved simulation is of another scene: it has {name}"
                    f" {show(there[name])}, this one has {here}"
                )

    def _sizes(self) -> dict[str, int]:
        return {name: int(getattr(self.model, name)) for name in _SIZES}


def _is_float_field(model: mujoco.MjModel, field: Any) -> bool:
    owner, name = (model.opt, field[4:]) if str(field).startswith("opt.") else (model, str(field))
    value = None if name.startswith("_") else getattr(owner, name, None)
    return isinstance(value, np.ndarray) and value.dtype.kind == "f"


def _original(model: mujoco.MjModel, field: str) -> np.ndarray:
    """A copy of the scene's value of a field that has a value per environment."""
    owner, name = (model.opt, field[4:]) if field.startswith("opt.") else (model, field)
    return np.array(getattr(owner, name))


def _limit(quantity: str) -> float:
    """Above which a quantity has diverged. Where an integrator blows up, velocities multiply from
    step to step; at MuJoCo's limit of 1e10, one reward with their square outweighs all others."""
    return 1e4 if quantity == "qvel" else mujoco.mjMAXVAL


_SIZES = ("nq", "nv", "na", "nu", "neq", "nmocap", "nbody", "njnt", "ngeom", "nsite", "ntendon")

# Inputs come first: engines differ in what a NaN in them does to the state.
_INPUTS = ("ctrl", "qfrc_applied", "xfrc_applied", "mocap_pos", "mocap_quat")
_STATES = ("qpos", "qvel", "act")
_QUANTITIES = (*_INPUTS, *_STATES, "engine error")
_COUNTS = ("divergences", "steps", "lost_at", "lost_by")
