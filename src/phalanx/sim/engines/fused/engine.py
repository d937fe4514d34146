"""The fused engine behind `phalanx.sim.engines.Engine`.

State and inputs are the float32 tensors themselves: a write counts at the next step, and nothing
else is remembered between steps, so a restored state continues with the same bits.
"""

import contextlib
import copy
from collections.abc import Iterator
from typing import Any

import mujoco
import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import pad

from phalanx.compute.cache import NotCompiled
from phalanx.compute.rows import write_rows
from phalanx.errors import PhalanxError
from phalanx.sim.engines import (
    CompilesScene,
    Until,
    copy_with,
    read_only,
    refuse_after_capture,
    write_fields,
)
from phalanx.sim.engines.fields import (
    ACCELERATION_FIELDS,
    BODY_FORCE_FIELDS,
    INPUT_FIELDS,
    STATE_FIELDS,
    left_by_step,
    refusal,
)
from phalanx.sim.engines.fused import cpu, crb, rangefinders
from phalanx.sim.engines.fused.contact_numbers import bounding_boxes, bounding_radii, hfields
from phalanx.sim.engines.fused.gains import may_depend_on_speed
from phalanx.sim.engines.fused.invweights import LENGTHS, NAMES, Invweights
from phalanx.sim.engines.fused.numbers import Fields, Numbers, model_fields
from phalanx.sim.engines.fused.rows import may_be_damped
from phalanx.sim.engines.fused.slower import slower
from phalanx.sim.engines.fused.spreading import alone, spread
from phalanx.sim.engines.fused.statics import Statics
from phalanx.sim.engines.fused.structure import Structure
from phalanx.sim.engines.fused.support import examined, one_by_one, refused_rows
from phalanx.sim.engines.fused.tables import DRAWN, INPUTS, OUTPUTS, VARIABLE, constants
from phalanx.sim.engines.fused.thrust import may_depend_on_velocity
from phalanx.sim.engines.fused.values import (
    DoesNotFit,
    Rule,
    broken,
    rules_of,
    rules_of_boxes,
    sentence,
)
from phalanx.sim.engines.initial import initial_data

_FORCES = ACCELERATION_FIELDS | BODY_FORCE_FIELDS | {"sensordata"}
_AT_START = ("cdof", "xipos", "subtree_com")  # that invweights need
_ACC = mujoco.mjtStage.mjSTAGE_ACC
_ASKED = (
    "the fused engine does not have {}, which an environment's model fields ask for; use another"
    " engine"
)
_NO_POSITIONS, _STALE, _FRESH = 0, 1, 2


class FusedEngine:
    """See `phalanx.sim.engines.Engine`. if_faster: refuse models that another engine steps sooner,
    too."""

    name = "fused"

    def __init__(
        self,
        scene: CompilesScene,
        num_envs: int,
        device: torch.device,
        threads: int = 0,
        if_faster: bool = False,
    ) -> None:
        model = scene.compile()
        found = examined(model)
        reason = (
            found if isinstance(found, str) else slower(found, device.type) if if_faster else None
        )
        if isinstance(found, str) or reason:
            raise PhalanxError(f"{reason}; use another engine")
        self._if_faster = if_faster
        self.model = read_only(model)
        self._geom_types = model.geom_type.tolist()
        self.num_envs = num_envs
        self.device = device
        self.failed = torch.zeros(num_envs, dtype=torch.bool, device=device)
        self._shared_fields = model_fields(model, device)
        self._take(found)
        self._initials: dict[str, Tensor] = {}  # (1, ...) of what `reset` restores
        self._state = ("qpos", "qvel", "act") if model.na else ("qpos", "qvel")
        poses = ("mocap_pos", "mocap_quat") if model.nmocap else ()
        held = (*self._state, "ctrl", "time", *poses)
        self._data = {name: self._initial(name) for name in held}
        self._derived: dict[str, Tensor] = {}
        self._crb: crb.MassMatrix | None = None
        self._ranges: rangefinders.Rangefinders | None = None
        self._invweights: Invweights | None = None
        self._at_start: dict[str, Tensor] = {}
        self._bound: Any = None  # the tensors of both as the step takes them; None to bind again
        self._fresh: set[str] = set()  # derived fields to compute again after a step
        self._model_fields: dict[str, Tensor] = {}
        self._physical: dict[str, Tensor] = {}  # those that a step depends on
        self._scratch: tuple[mujoco.MjModel, mujoco.MjData] | None = None
        """A model for `set_const`; meshes and textures make copies of it large and slow."""
        self._seen: dict[str, Tensor] = {}  # their values in `_varied`
        self._by_version = device.type == "cuda"
        self._versions: dict[str, int] = {}  # of these, by which torch's writes show at no cost
        self._compared: set[str] = set()  # those that others than torch may write to
        self._threads = threads
        self._sizes = cpu.SIZES
        if device.type == "cuda":  # imported here, as it takes torch's compiler along: seconds
            from phalanx.sim.engines.fused import cuda

            self._sizes, self._cuda_step = cuda.SIZES, cuda.CudaStep
        self._grown: str | None = None
        self.captured = False
        """Whether a step is in a CUDA graph."""
        self._overflow = torch.zeros(num_envs, dtype=torch.int32, device=device)
        self._unfit = torch.zeros((), dtype=torch.bool, device=device)
        """Whether model fields break `_box_rules`, which are those of a GPU, that does not wait."""
        self._replayed = torch.zeros_like(self._unfit)
        """Whether a step has been replayed in a graph, as far as `_note_unfit` needs it."""
        self._build()
        self.threads = self._step.threads
        self._before = {k: self._data[k].clone() for k in self._state}  # the last step
        self._substeps = 0
        self._last = self._data["qpos"].clone()  # at the start of the last substep, if it is kept
        self._keeps_last = False
        self.unstepped = torch.ones_like(self.failed)
        """(N,) bool: environments that were reset since the last step."""
        acc = model.sensor_needstage == _ACC
        self._acc_sensors = torch.from_numpy(np.repeat(acc, model.sensor_dim)).to(device)
        self._left_by_forces = _FORCES - (set() if acc.all() else {"sensordata"})

    def _change_to(self, structure: Structure) -> None:
        """Step with another structure; raises PhalanxError with the one before if that cannot be
        built."""
        before = self._structure
        self._take(structure)
        try:
            self._build()
        except PhalanxError:
            self._take(before)
            self._build()
            raise

    def _take(self, structure: Structure) -> None:
        self._structure, gpu = structure, self.device.type == "cuda"
        self._lanes = spread(structure) if gpu else alone(structure)
        self._numbers = Numbers(structure, self.device)
        self._sources = self._numbers.sources(self._shared_fields)
        self._statics = Statics(self._numbers.places, self._shared_fields)
        on = self._numbers.places.on
        self._box_rules = list(rules_of_boxes(structure, on)) if gpu else []

    def field(self, name: str, stale: bool = False) -> Tensor:
        if reason := refusal(name, self.name, self.model):
            raise PhalanxError(reason)
        if name in STATE_FIELDS or name in INPUT_FIELDS:
            if name not in self._data:
                refuse_after_capture(self.captured, f"sim.{name}")
                if name == "eq_active" and self.model.neq:
                    self._rebuild(switched=True)
                self._data[name] = self._initial(name)
                self._bound = None
            return self._data[name]
        free = stale or left_by_step(name, self.model)
        new = name not in self._derived or not (free or name in self._fresh)
        if new:
            refuse_after_capture(self.captured, f"sim.{name}")
        if name == "cfrc_int" and self._structure.jointless and not self._structure.shows_welds:
            self._rebuild(shows_welds=True)
        if name == "M":
            return self._mass_matrix(stale)
        if name == "sensordata" and new and rangefinders.of(self.model).size:
            for needed in rangefinders.NEEDS:
                self.field(needed, stale)
            self._ranges = self._ranges or rangefinders.Rangefinders(self.model, self.device)
        if new:
            if name not in self._derived:
                self._derived[name] = self._initial(name)
                everywhere = slice(None)
                one, fields = {name: self._derived[name]}, self._fields_of(everywhere)
                self._statics.write(one, fields, everywhere, {*self._physical})
                self._bound = None
            if not free:
                self._fresh.add(name)
            self._compute(name)
        return self._derived[name]

    def _mass_matrix(self, stale: bool) -> Tensor:
        """M, which follows from fields that a step shows and is found again with them."""
        for name in crb.NEEDS:
            self.field(name, stale)
        if self._crb is None:
            self._crb = crb.MassMatrix(self.model, self.device)
            self._derived["M"] = torch.empty(self.num_envs, self.model.nC, device=self.device)
        if not stale:
            self._fresh.add("M")
        self._write_mass_matrix()
        return self._derived["M"]

    def _write_mass_matrix(self) -> None:
        if self._crb is not None:
            shown = (self._derived[name] for name in crb.NEEDS)
            self._derived["M"].copy_(self._crb.find(self._fields_of(slice(None)), *shown))

    def _write_ranges(self) -> None:
        if self._ranges is not None:
            data, *shown = (self._derived[n] for n in ("sensordata", *rangefinders.NEEDS))
            self._ranges.write(self._fields_of(slice(None)), data, *shown)

    def forget_graphs(self) -> None:
        """See `Sim.forget_graphs`."""
        self.captured = False
        self._replayed.zero_()

    def _rebuild(self, switched: bool = False, shows_welds: bool = False) -> None:
        """Build a step that also does what only some programs ask for, see `Structure`."""
        own = self._structure
        asked = switched or own.switched, shows_welds or own.shows_welds
        structure = Structure(self.model, *asked, own.single)
        if reason := refused_rows(structure):
            raise PhalanxError(f"the fused engine does not have {reason}; use another engine")
        self._change_to(structure)

    def model_field(self, name: str) -> Tensor:
        if name not in self._model_fields:  # torch.compile follows no look into the model
            self._make_model_field(name)
        return self._model_fields[name]

    def _make_model_field(self, name: str) -> None:
        drawn = DRAWN.fullmatch(name) is not None and hasattr(self.model, name)
        if name in ("geom_rgba", "mat_rgba") and rangefinders.of(self.model).size:
            raise KeyError(name)  # rays pass what is transparent in the model
        if name not in VARIABLE and not drawn:
            raise KeyError(name)
        for unknown in (may_be_damped, may_depend_on_velocity, may_depend_on_speed):
            if unknown(self.model, name):
                raise KeyError(name)
        if name == "body_gravcomp" and not self.model.ngravcomp:  # the step has no part for it
            raise KeyError(name)
        if not drawn:
            refuse_after_capture(self.captured, f"model field {name}")
        owner = self.model.opt if name.startswith("opt.") else self.model
        value = torch.tensor(np.asarray(getattr(owner, name.removeprefix("opt."))))
        value = value.float() if value.is_floating_point() else value
        own = value.to(self.device).expand(self.num_envs, *value.shape).clone()
        self._model_fields[name] = own
        if not drawn:
            self._physical[name] = own

    def compare(self, name: str) -> None:
        """Look for what was written to a model field by comparing it, which takes time, as well as
        by its version, which shows torch's writes only."""
        self._compared.add(name)

    def set_const(self, mask: Tensor) -> None:
        names = NAMES + LENGTHS if "qpos0" in self._physical and self.model.ntendon else NAMES
        targets = {name: self.model_field(name) for name in names}
        if "geom_size" in self._physical:
            size = self.model_field("geom_size")
            self._write_known("geom_rbound", mask, bounding_radii(self._geom_types, size))
            if "geom_aabb" in self._model_fields:
                self._write_known("geom_aabb", mask, bounding_boxes(self._geom_types, size))
        if self.device.type == "cuda":
            for name, values in self.invweights().items():
                if name in targets:
                    write_rows(targets[name], mask, values)
            return
        if self._scratch is None:
            self._scratch = copy.copy(self.model), mujoco.MjData(self.model)
        one, data = self._scratch
        for env in mask.nonzero()[:, 0].tolist():
            write_fields(one, self._values_of(env))
            mujoco.mj_setConst(one, data)
            for name, target in targets.items():
                target[env] = torch.from_numpy(getattr(one, name)).float()

    def invweights(self) -> dict[str, Tensor]:
        """What set_const derives, (N, ...) each, without waiting for the device."""
        self.update_tables()
        if self._invweights is None:
            self._invweights = Invweights(self._structure, self.device)
            self._at_start = {name: self._initial(name) for name in (*INPUTS, *_AT_START)}
        qpos0 = self._fields_of(slice(None))("qpos0")
        self._at_start["qpos"].copy_(qpos0.expand(self.num_envs, -1))
        start, model = self._at_start, (self._shared, self._varied, self.num_envs)
        bound = self._step.bind(
            {**{k: start.get(k) for k in (*INPUTS, *OUTPUTS)}, "overflow": self._overflow}
        )
        self._step.run(bound, *model, 0, (False, _FRESH))
        none = torch.zeros(self.num_envs, self.model.nv, device=self.device)
        found = self._invweights.find(
            lambda force: self._step.solve_m(bound, *model, force.contiguous(), none),
            *(start[name] for name in _AT_START),
        )
        return found | {"tendon_length0": self._invweights.lengths(start["qpos"])}

    def _write_known(self, name: str, mask: Tensor, found: Tensor) -> None:
        """Write the rows `mask` of a model field where `found` is a number."""
        own = self.model_field(name)
        write_rows(own, mask, torch.where(found.isnan(), own, found))

    @property
    def settled(self) -> bool:
        """Whether `set_const` has been called, also before a state was saved that is loaded."""
        return NAMES[0] in self._model_fields

    def model_of(self, env: int) -> mujoco.MjModel:
        return copy_with(self.model, self._values_of(env), self.settled)

    def _values_of(self, env: int) -> dict[str, np.ndarray]:
        return {k: v[env].cpu().numpy() for k, v in self._model_fields.items()}

    def step(self, substeps: int, until: Until = "derived") -> None:
        self.update_tables()
        capturing = self.device.type == "cuda" and torch.cuda.is_current_stream_capturing()
        self.captured |= capturing
        if capturing and self._box_rules:
            self._replayed.fill_(True)  # whenever it is replayed
        if not capturing:
            self._refuse_unfit()
        self._substeps = 0 if capturing else substeps
        if not capturing:
            for name, value in self._before.items():
                value.copy_(self._data[name])
        self.unstepped.zero_()
        self._advance(substeps, until)
        while not capturing and (grown := self._enlarge()):
            self._grown = grown
            for name, value in self._before.items():
                self._data[name].copy_(value)
            self._advance(substeps, until)
        self._data["time"] += substeps * self.model.opt.timestep

    def derive(self, mask: Tensor) -> None:
        if self._fresh and (self.device.type == "cuda" or mask.any()):
            self.update_tables()
            self._run(0, (False, _FRESH), mask)

    def forward(self, mask: Tensor) -> None:
        self.derive(mask)
        self.unstepped |= mask
        self._clear_acceleration_sensors(mask)

    def solve_m(self, force: Tensor, added: Tensor) -> Tensor:
        if not self._keeps_last:
            refuse_after_capture(self.captured, "sim.solve_m")
            self._keeps_last = True
            self._find_last()
        fields = {name: self._data.get(name) for name in INPUTS} | dict.fromkeys(OUTPUTS)
        fields |= {"qpos": self._last, "overflow": self._overflow}
        bound, numbers = self._step.bind(fields), (self._shared, self._varied, self.num_envs)
        solved: Tensor = self._step.solve_m(bound, *numbers, force.contiguous(), added.contiguous())
        return solved

    def _find_last(self) -> None:
        """Set `_last` to the positions at the start of the last substep."""
        now = {k: self._data[k].clone() for k in self._state}
        if self._substeps:
            for k, value in self._before.items():
                self._data[k].copy_(value)
            if self._substeps > 1:
                self._run(self._substeps - 1, (False, _NO_POSITIONS))
        self._last.copy_(self._data["qpos"])
        for k, value in now.items():
            self._data[k].copy_(value)

    def reset(self, mask: Tensor) -> None:
        self.unstepped |= mask
        for name, value in self._data.items():
            if name not in self._initials:
                self._initials[name] = self._initial(name, 1)
            initial = self._initials[name]
            write_rows(value, mask, initial)

    def rewind(self) -> int:
        """Write the positions and velocities of before the last step into the state; returns the
        substeps of that step, 0 if there was none."""
        for name, value in self._before.items() if self._substeps else ():
            self._data[name].copy_(value)
        return self._substeps

    @contextlib.contextmanager
    def capture(self) -> Iterator[None]:
        yield  # a step is a launch on torch's stream, which torch records

    def grow(self) -> str | None:
        self._refuse_unfit()
        grown, self._grown = self._enlarge() or self._grown, None
        return grown

    def _enlarge(self) -> str | None:
        """Twice the memory for contacts between bodies if a step had too little, and a sentence."""
        s = self._structure
        many = s.pairs or s.box_fields or hfields(s)
        if not many or not int(self._overflow.max()):
            return None
        sizes, self._sizes = self._sizes, self._sizes.doubled
        try:
            self._build()
        except PhalanxError:  # more than a GPU holds, or not compiled
            self._sizes = sizes
            self._build()
            self.rewind()
            raise
        self._overflow.zero_()
        self.forget_graphs()  # those that there are are invalid
        self.update_tables()
        return (
            "contacts filled their memory, which was enlarged to"
            f" {self._sizes.pairs} contacts between bodies, {self._sizes.rows} constraint rows and"
            f" {self._sizes.ground} contacts of a geom with a height field or many fixed boxes, an"
            " environment"
        )

    def state_dict(self) -> dict[str, Any]:
        return {
            "state": {k: v.clone() for k, v in self._data.items()},
            "model": {k: v.clone() for k, v in self._model_fields.items()},
            "derived": {k: v.clone() for k, v in self._derived.items()},
            "fresh": sorted(self._fresh),
            "single": sorted(self._structure.single),
        }

    def load_state_dict(self, state: dict[str, Any], model_fields: bool) -> None:
        single = frozenset(state.get("single", ()))  # older states have none
        if single != self._structure.single and not self.captured:
            now = self._structure  # for the same bits: the order of contacts is another
            self._change_to(Structure(self.model, now.switched, now.shows_welds, single))
        for name in state["derived"]:
            self.field(name, stale=name not in state["fresh"])
        for name, value in state["state"].items():
            self.field(name).copy_(value)
        for name in self._data.keys() - state["state"].keys():
            self._data[name].copy_(self._initial(name))
        if model_fields:
            for name in {*self._model_fields, *state["model"]}:
                saved = state["model"].get(name)
                field = self.model_field(name)
                owner = self.model.opt if name.startswith("opt.") else self.model
                own = torch.tensor(np.asarray(getattr(owner, name.removeprefix("opt."))))
                field.copy_(own if saved is None else saved)
        self._substeps = 0
        self.unstepped.fill_(True)
        for name, value in state["derived"].items():
            self._derived[name].copy_(value)
        self.update_tables()  # the last that may refuse
        for name in [k for k in self._derived if k not in state["derived"]]:
            self._compute(name)

    def _initial(self, name: str, num_envs: int | None = None) -> Tensor:
        """Field `name` in the model's initial state, (N, ...)."""
        data = initial_data(self.model)
        mujoco.mj_kinematics(self.model, data)
        mujoco.mj_comPos(self.model, data)
        value = torch.from_numpy(np.array(getattr(data, name)))
        value = value.float() if value.is_floating_point() or name == "eq_active" else value
        envs = self.num_envs if num_envs is None else num_envs
        return value.to(self.device).expand(envs, *value.shape).clone()

    def _build(self) -> None:
        """Compile the step for the model fields that differ between environments now."""
        self._rules = rules_of(self._structure)
        arrays = self._tables(self._shared_fields)
        self._wide = [n for n, fields in self._sources.items() if fields & self._physical.keys()]
        shapes = {name: values.shape[1:] for name, values in arrays.items()}
        varied, wide = set(self._physical), set(self._wide)
        text = constants(self._structure, varied, wide, shapes, self._sizes, self._lanes)
        try:
            if self.device.type == "cuda":
                self._step: Any = self._cuda_step(
                    text, self.device, self._lanes.count, self.num_envs
                )
            else:
                self._step = cpu.CpuStep(text, self._threads)
        except NotCompiled as error:
            model = error.code.with_name("model.mjb")
            mujoco.mj_saveModel(self.model, str(model))
            raise PhalanxError(f"{error}; its model is {model}; use another engine") from error
        shared = [a.flatten() for name, a in arrays.items() if name not in wide]
        self._shared = torch.cat(shared).float()
        self._starts, rows = {}, 0  # of each table in `_varied`
        for name in self._wide:
            self._starts[name] = rows
            rows += arrays[name][0].numel()
        self._varied = self._step.varied(max(1, rows), self.num_envs)
        self._bound = None
        self._seen = {k: torch.full_like(v, torch.nan) for k, v in self._physical.items()}
        self._versions = {}

    def _tables(self, field: Fields, names: list[str] | None = None) -> dict[str, Tensor]:
        """Tables of the step for model fields, as its lanes read them."""
        made = self._numbers.make(field, names)
        return {name: self._lanes.arranged(name, values) for name, values in made.items()}

    def _fields_of(self, envs: slice | Tensor, double: bool = True) -> Fields:
        """Model fields of some environments, each the same tensor as often as it is asked for."""
        own: dict[str, Tensor] = {}

        def field(name: str) -> Tensor:
            if name not in self._physical:
                return self._shared_fields(name)
            if name not in own:
                values = self._physical[name][envs]
                own[name] = values.double() if double else values
            return own[name]

        return field

    def update_tables(self) -> None:
        """Bring what was written into model fields into the step's numbers. A step does so, too,
        but not where it is replayed in a CUDA graph: writes from outside of the graph count there
        after this."""
        if not self._physical:
            return
        if self._seen.keys() != self._physical.keys():
            self._build()
        changed, envs = self._changes()
        if not changed:
            return
        fields, width = self._fields_of(envs), self._varied.shape[2]
        as_stored = self._fields_of(envs, double=False)  # rules compare, also all of many boxes
        broke = [] if self._by_version else list(broken(self._rules, as_stored, changed))
        if broke:
            self._part(broke)
            return
        if any(not changed.isdisjoint(rule.fields) for rule in self._box_rules):
            self._note_unfit(as_stored)
        self._statics.write(self._derived, fields, envs, changed)
        names = [n for n in self._wide if self._sources[n] & changed]
        for name, table in self._tables(fields, names).items():
            rows = table.flatten(1).T.float()
            own = self._varied[self._starts[name] : self._starts[name] + len(rows)]
            if isinstance(envs, Tensor):
                own[:, envs // width, envs % width] = rows
            else:
                rows = rows.expand(-1, self.num_envs)
                missing = own.shape[1] * width - self.num_envs  # worlds of the last warp
                own.copy_(pad(rows, (0, missing)).view_as(own))

    def _note_unfit(self, fields: Fields) -> None:
        """Note whether `fields` break a rule of boxes. With a graph also that they did: one of its
        steps may have been replayed with them. Reads no attribute that changes, for hooks that are
        compiled."""
        varied = self._physical.keys()
        own = [rule for rule in self._box_rules if not varied.isdisjoint(rule.fields)]
        unfit = torch.stack([rule.bad(fields, rule.ids).any() for rule in own]).any()
        self._unfit.copy_(self._unfit & self._replayed | unfit)

    def _refuse_unfit(self) -> None:
        """Look for what `update_tables` has noted on a GPU, where a step may be replayed."""
        if self._box_rules and bool(self._unfit):
            self._unfit.zero_()
            fields = self._fields_of(slice(None), double=False)
            broke = list(broken(self._box_rules, fields))
            if not broke:  # any more, but a replayed step had them
                raise DoesNotFit(_ASKED.format("places or parameters of one of many fixed boxes"))
            self._part(broke)

    def _part(self, broke: list[tuple[Rule, int]]) -> None:
        """Build a step for which boxes that differ between environments are obstacles one by one,
        as those of one ground may not; raises DoesNotFit if that is not what mends `broke`, or if
        such a step cannot be built."""
        self._versions = {}  # what is refused is found again by the next step
        for seen in self._seen.values():
            seen.fill_(torch.nan)
        fields = {rule.box_field for rule, _ in broke}
        refusal = DoesNotFit(_ASKED.format(sentence(self.model, *broke[0])))
        parted = None
        if -1 not in fields and not self.captured:
            parted = one_by_one(self._structure, fields, self.device.type, self._if_faster)
        if parted is None:
            raise refusal
        try:
            self._change_to(parted)
        except PhalanxError as error:  # more than a GPU holds
            raise refusal from error
        self.update_tables()

    def _changes(self) -> tuple[set[str], slice | Tensor]:
        """Model fields that were written to since the last call, and in which environments. On a
        GPU tensors' versions tell, so that nothing waits for it."""
        versions = {name: value._version for name, value in self._physical.items()}
        before, self._versions = self._versions, versions
        written = {n for n, v in versions.items() if v != before.get(n)}
        if self._by_version:
            return written, slice(None)
        written |= self._compared & self._physical.keys()
        changed = {n for n in written if not torch.equal(self._physical[n], self._seen[n])}
        if not changed:
            return changed, torch.empty(0)
        different = [(self._physical[n] != self._seen[n]).flatten(1).any(1) for n in changed]
        envs = torch.stack(different).any(0).nonzero()[:, 0]
        some: slice | Tensor = envs if len(envs) < self.num_envs else slice(None)  # no copies
        for name in changed:
            self._seen[name].copy_(self._physical[name])
        return changed, some

    def _advance(self, substeps: int, until: Until) -> None:
        forces = until != "state" and bool(self._derived.keys() & _FORCES)
        shown = bool(self._derived.keys() - self._left_by_forces)
        positions = _NO_POSITIONS
        if shown and not self._fresh and until != "state":
            positions = _STALE
        elif self._fresh and until == "derived":
            positions = _FRESH
        if self._keeps_last:
            if substeps > 1:
                self._run(substeps - 1, (False, _NO_POSITIONS))
            self._last.copy_(self._data["qpos"])
            substeps = 1
        self._run(substeps, (forces, positions))

    def _run(self, substeps: int, flags: tuple[bool, int], mask: Tensor | None = None) -> None:
        if self._bound is None:
            fields = {name: self._data.get(name) for name in INPUTS}
            fields |= {name: self._derived.get(name) for name in OUTPUTS}
            self._bound = self._step.bind({**fields, "overflow": self._overflow})
        shared, varied = self._shared, self._varied
        self._step.run(self._bound, shared, varied, self.num_envs, substeps, flags, mask)
        if flags[1] != _NO_POSITIONS:
            self._write_mass_matrix()
            self._write_ranges()

    def _compute(self, name: str) -> None:
        """Give a field that was not shown during the last step the value that it would have."""
        self.update_tables()
        kept = {k: self._data[k].clone() for k in self._state}
        others = {k: v.clone() for k, v in self._derived.items() if k != name}
        if self._substeps:
            for k, value in self._before.items():
                self._data[k].copy_(value)
        self._run(max(1, self._substeps), (True, _STALE))
        for k, value in kept.items():
            self._data[k].copy_(value)
        if name in self._fresh:
            self._run(0, (False, _FRESH))
        for k, value in others.items():
            self._derived[k].copy_(value)
        self._clear_acceleration_sensors(self.unstepped)

    def _clear_acceleration_sensors(self, mask: Tensor) -> None:
        """Zero until the next step, in environments `mask` (N,) bool."""
        if "sensordata" in self._derived:
            values = self._derived["sensordata"]
            cleared: Any = 0.0
            if "sensordata" not in self._left_by_forces:  # some are of the state
                cleared = torch.where(self._acc_sensors, 0.0, values)
            write_rows(values, mask, cleared)
