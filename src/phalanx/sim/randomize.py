"""Randomises a simulation's model, per environment, as IsaacGymEnvs' YAML describes it.

    prepare(scene, params)                       # before the Sim is made
    model = RandomModel(sim, params)             # draws everything, everywhere
    model.draw(mask, step)                       # new values in environments `mask`

`params` is what stands below `randomization_params`: `sim_params` and `actor_params`. One entry:

    range: [0.5, 1.5]         # lowest and highest; for gaussian the mean and the standard deviation
    operation: scaling        # or additive: how a sample changes the original value
    distribution: uniform     # or loguniform, gaussian
    schedule: linear          # optional: the effect grows until schedule_steps; constant: is there
    schedule_steps: 3000      #   from then on
    setup_only: true          # optional: drawn once at the start, in full, never again
    bodies: [torso]           # optional: only these; for dof_properties joints:

A value is always `original (operation) sample`; samples do not accumulate. Each body, shape and
joint has its own sample. Nothing is rebuilt: values are the engine's model fields, shapes are
fixed and the device is never waited for, so that `draw` can be part of a CUDA graph.

Surprises
- Of two touching shapes MuJoCo takes the larger friction. Shapes whose properties are randomised
  get contact priority, so that it is theirs which counts, on any ground.
- Restitution is not a parameter of MuJoCo. It becomes the damping of the contact, at unchanged
  stiffness, that returns this part of the speed; a dropped sphere keeps up to 0.13 more.
- After a change of masses, armature or scale MuJoCo's derived constants are computed anew. At a
  start that is free; on a GPU, in each step, it costs about as much as a physics step.
"""

import dataclasses
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, Literal, TypeVar

import mujoco
import torch
from torch import Tensor

from phalanx.config import read
from phalanx.errors import PhalanxError, did_you_mean
from phalanx.sim.scene import Scene
from phalanx.sim.sim import Actor, Sim

Drives = Mapping[tuple[str, str], list[tuple[list[str], Tensor]]]

WHERE = "task.randomization_params"
RESTITUTION_AT_MOST = 0.95


@dataclass(frozen=True)
class Variation:
    """How one quantity is randomised."""

    range: tuple[float, ...]
    operation: Literal["additive", "scaling"]
    distribution: Literal["uniform", "loguniform", "gaussian"]
    schedule: Literal["linear", "constant"] | None = None
    schedule_steps: int | None = None
    setup_only: bool = False
    bodies: tuple[str, ...] = ()
    """Only these bodies and their shapes; empty for all."""
    joints: tuple[str, ...] = ()
    """Only these joints; empty for all."""

    NO_EFFECT = ("num_buckets",)  # a limit of PhysX that MuJoCo does not have

    @property
    def neutral(self) -> float:
        """The sample that changes nothing."""
        return 1.0 if self.operation == "scaling" else 0.0

    def effect(self, step: Tensor) -> Tensor | float:
        """How much of the effect there is after `step` (0-d) environment steps, 0 .. 1."""
        if self.setup_only or self.schedule is None or self.schedule_steps is None:
            return 1.0
        if self.schedule == "linear":
            return (step / self.schedule_steps).clamp(max=1.0)
        return (step >= self.schedule_steps).float()

    def sample(self, shape: Sequence[int], step: Tensor) -> Tensor:
        """Samples of this shape on the device of `step`."""
        return self.neutral + self.effect(step) * (
            drawn(self.range, self.distribution, shape, step.device) - self.neutral
        )

    def apply(self, original: Tensor, sample: Tensor) -> Tensor:
        """The randomised value."""
        return original * sample if self.operation == "scaling" else original + sample

    def words(self) -> str:
        """For people: `x 0.5 .. 1.5 uniform`."""
        low, high = (f"{v:.4g}" for v in self.range)
        sign = "x" if self.operation == "scaling" else "+"
        spread = f"{low} +- {high}" if self.distribution == "gaussian" else f"{low} .. {high}"
        return f"{sign} {spread} {self.distribution}"

    def bounds(self) -> tuple[float, float]:
        """What samples lie between; for gaussian, within two standard deviations of the mean."""
        low, high = self.range
        return (low - 2 * high, low + 2 * high) if self.distribution == "gaussian" else (low, high)

    def pace(self, frequency: int) -> str:
        """For people: how often a new value is drawn, and the schedule."""
        if self.setup_only:
            return "at the start"
        words = f"at resets, every {frequency} steps" if frequency > 1 else "at resets"
        if self.schedule == "linear":
            words += f"; grows over {self.schedule_steps} steps"
        elif self.schedule == "constant":
            words += f"; from step {self.schedule_steps} on"
        return words


V = TypeVar("V", bound=Variation)


def read_variation(values: Any, where: str, cls: type[V] = Variation) -> V:  # type: ignore[assignment]
    """One entry of the YAML. Raises PhalanxError, naming `where`, for what cannot be."""
    variation = read(cls, values, where)
    for f in fields(variation):
        if f.name.startswith("range") and getattr(variation, f.name):
            _check_range(getattr(variation, f.name), variation, f"{where}.{f.name}")
    if variation.schedule and (variation.schedule_steps or 0) < 1:
        raise PhalanxError(
            f"{where} has the schedule {variation.schedule!r}, which needs schedule_steps of 1 or"
            " more"
        )
    if variation.schedule_steps is not None and not variation.schedule:
        raise PhalanxError(f"{where} has schedule_steps; say which schedule: linear or constant")
    return variation


def _check_range(values: tuple[float, ...], variation: Variation, where: str) -> None:
    if len(values) != 2 or not all(math.isfinite(v) for v in values):
        raise PhalanxError(f"{where} is {list(values)}, it must be two numbers, as in [0.5, 1.5]")
    low, high = values
    if variation.distribution == "gaussian":
        if high < 0:
            raise PhalanxError(
                f"{where} is {list(values)}; for gaussian it is mean and standard deviation, which"
                " cannot be negative"
            )
    elif low > high:
        raise PhalanxError(f"{where} is {list(values)}, the lower end comes first")
    elif variation.distribution == "loguniform" and low <= 0:
        raise PhalanxError(f"{where} is {list(values)}; for loguniform both must be above 0")


def drawn(
    bounds: Sequence[float], distribution: str, shape: Sequence[int], device: torch.device
) -> Tensor:
    """Numbers from a distribution: between two bounds, or of a mean and a standard deviation."""
    a, b = bounds
    if distribution == "gaussian":
        return a + b * torch.randn(*shape, device=device)
    if distribution == "uniform":
        return a + (b - a) * torch.rand(*shape, device=device)
    low, high = math.log(a), math.log(b)
    return torch.exp(low + (high - low) * torch.rand(*shape, device=device))


@dataclass(frozen=True)
class Row:
    """One line of the table that says what is randomised; texts for people."""

    what: str
    original: str
    change: str
    result: str
    unit: str
    when: str


@dataclass(frozen=True)
class Place:
    """Where a quantity lives: `field[:, ids]`, or one component of it."""

    field: str
    ids: list[int]
    component: int | None = None
    factor: tuple[float, ...] = ()
    """The quantity is the field times this, for each id; 1 where empty."""


@dataclass(frozen=True)
class Property:
    """One randomisable property of an actor."""

    unit: str
    at_least: float = -math.inf
    constants: bool = False
    """Whether MuJoCo derives constants from it."""


PROPERTIES: dict[str, dict[str, Property]] = {
    "rigid_body_properties": {
        "mass": Property("kg", at_least=1e-6, constants=True),
        "com": Property("m", constants=True),
    },
    "rigid_shape_properties": {
        "friction": Property("-", at_least=0.0),
        "torsion_friction": Property("m", at_least=0.0),
        "rolling_friction": Property("m", at_least=0.0),
        "restitution": Property("-", at_least=0.0),
    },
    "dof_properties": {
        "lower": Property("rad or m"),
        "upper": Property("rad or m"),
        "stiffness": Property("N m/rad or N/m", at_least=0.0),
        "damping": Property("N m s/rad or N s/m", at_least=0.0),
        "friction": Property("N m or N", at_least=0.0),
        "armature": Property("kg m2 or kg", at_least=0.0, constants=True),
        "effort": Property("N m or N", at_least=0.0),
        "velocity": Property("rad/s or m/s", at_least=0.0),
    },
    "tendon_properties": {
        "stiffness": Property("N/m", at_least=0.0),
        "damping": Property("N s/m", at_least=0.0),
    },
}
REFUSED = {
    "invMass": "randomise mass instead",
    "compliance": "MuJoCo's contacts have none",
    "thickness": "MuJoCo's contacts have none",
    "rest_offset": "MuJoCo's contacts have none",
    "fixed_spring_rest_length": "MuJoCo's tendons take it from the model",
    "fixed_lower_limit": "MuJoCo's tendons take it from the model",
    "fixed_upper_limit": "MuJoCo's tendons take it from the model",
}
KINDS = (*PROPERTIES, "scale", "color")


def prepare(scene: Scene, params: Mapping[str, Any]) -> None:
    """Make a scene ready for what `params` randomises: shapes get contact priority, with friction
    even if they ask for none (condim 1), and bodies room for another centre of mass."""
    for name, kinds in mapping(params.get("actor_params"), f"{WHERE}.actor_params").items():
        if not isinstance(kinds, Mapping):
            continue
        if "rigid_shape_properties" in kinds:
            for geom in scene.spec.geoms:
                if geom.parent.name.startswith(f"{name}/"):
                    geom.priority += 1
                    geom.condim = max(geom.condim, 3)
        if "com" in (kinds.get("rigid_body_properties") or ()):
            for body in scene.spec.bodies:
                if body.name.startswith(f"{name}/"):
                    body.simple = False


class RandomModel:
    """The randomised model fields of `sim`.

    drives: quantities that live outside MuJoCo's model, such as an actuator model's stiffness,
    {(actor, "stiffness"): [(joint names, (N, K) tensor), ...]}; they take the place of the
    model's own.
    Raises PhalanxError for actors, properties, bodies or joints that do not exist.
    """

    def __init__(
        self,
        sim: Sim,
        params: Mapping[str, Any],
        drives: Drives | None = None,
    ) -> None:
        self.sim = sim
        self.drives = drives or {}
        self._base: dict[str, Tensor] = {}
        self.parameters = sorted(self._read(params), key=lambda p: p.order)
        everywhere = torch.ones(sim.num_envs, dtype=torch.bool, device=sim.device)
        self.draw(everywhere, torch.zeros((), dtype=torch.long, device=sim.device), at_start=True)

    def draw(self, mask: Tensor, step: Tensor, at_start: bool = False) -> None:
        """New samples in environments `mask` (N,) bool. step: 0-d, environment steps so far.
        at_start: also of what is `setup_only`."""
        changing = [p for p in self.parameters if at_start or not p.variation.setup_only]
        if not changing or (mask.device.type == "cpu" and not mask.any()):
            return
        for parameter in changing:
            fresh = parameter.variation.sample(parameter.sample.shape, step)
            at = mask.view(-1, *(1,) * (fresh.dim() - 1))
            parameter.sample.copy_(torch.where(at, fresh, parameter.sample))
        scaled = any(isinstance(p, Scale) for p in changing)  # what others start from
        for parameter in self.parameters if scaled else changing:
            parameter.write()
        if any(p.constants for p in changing):
            self.sim.set_const(mask)

    def table(self, frequency: int) -> list[Row]:
        """What is randomised, one row each."""
        return [p.row(frequency) for p in self.parameters]

    def state_dict(self) -> dict[str, Tensor]:
        """The samples, from which everything follows."""
        return {p.name: p.sample.clone() for p in self.parameters}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Take back what `state_dict` gave, after the simulation has, with its constants. Raises
        KeyError if other things were randomised."""
        for parameter in self.parameters:
            parameter.sample.copy_(state[parameter.name])
            parameter.write()

    def base(self, field: str) -> Tensor:
        """(N, ...) the field's values before all randomisation but that of the scale."""
        if field not in self._base:
            self._base[field] = self.sim.model_field(field).clone()
        return self._base[field]

    def field(self, field: str) -> Tensor:
        """(N, ...) the live model field, whose original values are remembered."""
        self.base(field)
        return self.sim.model_field(field)

    def _read(self, params: Mapping[str, Any]) -> Iterator["Parameter"]:
        for name, entry in mapping(params.get("sim_params"), f"{WHERE}.sim_params").items():
            where = f"{WHERE}.sim_params.{name}"
            if name != "gravity":
                raise _unknown(where, name, ("gravity",))
            variation: Variation = read_variation(entry, where)
            yield FieldParameter(
                self, "gravity", Property("m/s2"), variation, Place("opt.gravity", []), "sim"
            )
        actors = mapping(params.get("actor_params"), f"{WHERE}.actor_params")
        for actor_name, kinds in actors.items():
            where = f"{WHERE}.actor_params.{actor_name}"
            if actor_name not in self.sim.actor_names:
                raise PhalanxError(
                    f"{where}: no actor {actor_name!r} in the simulation"
                    f"{did_you_mean(actor_name, self.sim.actor_names)};"
                    f" actors: {', '.join(self.sim.actor_names)}"
                )
            for kind, entries in mapping(kinds, where).items():
                yield from self._of_kind(self.sim.actor(actor_name), kind, entries, where)

    def _of_kind(self, actor: Actor, kind: str, entries: Any, where: str) -> Iterator["Parameter"]:
        where = f"{where}.{kind}"
        if kind == "color":
            if entries not in (True, False):
                raise PhalanxError(f"{where} is {entries!r}, it must be true or false")
            if entries:
                yield Color(self, actor)
        elif kind == "scale":
            yield Scale(self, actor, read_variation(entries, where), where)
        elif kind not in PROPERTIES:
            raise _unknown(where, kind, KINDS)
        else:
            for name, entry in mapping(entries, where).items():
                path = f"{where}.{name}"
                if name not in PROPERTIES[kind]:
                    raise _unknown(path, name, PROPERTIES[kind])
                variation: Variation = read_variation(entry, path)
                if kind == "dof_properties" and (actor.name, name) in self.drives:
                    yield from self._of_drives(actor, name, variation, path)
                else:
                    yield self._property(actor, kind, name, variation, path)

    def _of_drives(
        self, actor: Actor, name: str, variation: Variation, where: str
    ) -> Iterator["Parameter"]:
        model = self.sim.model
        prop = self._in_units(PROPERTIES["dof_properties"][name], actor, variation)
        joints = joints_of(actor, variation.joints, where)
        own = [model.jnt(j).name.split("/", 1)[1] for j in joints]
        for k, (names, tensor) in enumerate(self.drives[actor.name, name]):
            columns = [names.index(n) for n in own if n in names]
            label = f"{actor.name} drive {name}" + f" {k + 1}" * (k > 0)
            if columns:
                yield DriveParameter(label, prop, variation, tensor, columns)

    def _in_units(self, prop: Property, actor: Actor, variation: Variation) -> Property:
        """`prop` with the unit of hinges or of slides, where all joints are of one kind."""
        model = self.sim.model
        kinds = {
            int(model.joint(f"{actor.name}/{joint}").type[0])
            for joint in variation.joints or actor.joint_names
            if joint in actor.joint_names
        }
        units = prop.unit.split(" or ")
        if len(kinds) == 1 and len(units) == 2:
            unit = units[int(mujoco.mjtJoint.mjJNT_SLIDE in kinds)]
            return dataclasses.replace(prop, unit=unit)
        return prop

    def _property(
        self, actor: Actor, kind: str, name: str, variation: Variation, where: str
    ) -> "Parameter":
        prop = self._in_units(PROPERTIES[kind][name], actor, variation)
        label = f"{actor.name} {kind.split('_')[-2]} {name}"
        if kind == "rigid_body_properties":
            if variation.joints:
                raise PhalanxError(f"{where}.joints: bodies have no joints, give bodies")
            ids = bodies_of(actor, variation.bodies, where)
            if name == "mass":
                return Mass(self, label, prop, variation, Place("body_mass", ids), actor.name)
            return FieldParameter(self, label, prop, variation, Place("body_ipos", ids), actor.name)
        if kind == "rigid_shape_properties":
            if variation.joints:
                raise PhalanxError(f"{where}.joints: shapes have no joints, give bodies")
            ids = shapes_of(actor, variation.bodies, where)
            if name == "restitution":
                return Restitution(
                    self, label, prop, variation, Place("geom_solref", ids), actor.name
                )
            component = {"friction": 0, "torsion_friction": 1, "rolling_friction": 2}[name]
            place = Place("geom_friction", ids, component)
            return FieldParameter(self, label, prop, variation, place, actor.name)
        if variation.bodies:
            raise PhalanxError(f"{where}.bodies: joints are named by joints")
        if kind == "tendon_properties":
            model = self.sim.model
            ids = [i for i in range(model.ntendon) if model.tendon(i).name.startswith(actor.name)]
            if not ids:
                raise PhalanxError(f"{where}: actor {actor.name!r} has no tendons")
            return FieldParameter(
                self, label, prop, variation, Place(f"tendon_{name}", ids), actor.name
            )
        joints = joints_of(actor, variation.joints, where)
        places = joint_places(self.sim.model, joints, name, where)
        return FieldParameter(self, label, prop, variation, places, actor.name)


def mapping(value: Any, where: str) -> Mapping[str, Any]:
    """`value`, {} for None. Raises PhalanxError, naming `where`, if it is not a mapping."""
    if value is not None and not isinstance(value, Mapping):
        raise PhalanxError(f"{where} is {value!r}, it must be a mapping")
    return value or {}


def _unknown(where: str, name: str, accepted: Any) -> PhalanxError:
    if name in REFUSED:
        return PhalanxError(f"{where} cannot be randomised: {REFUSED[name]}")
    near = did_you_mean(str(name), accepted) or f"; accepted: {', '.join(accepted)}"
    return PhalanxError(f"unknown key {where}{near}")


def bodies_of(actor: Actor, names: Sequence[str], where: str) -> list[int]:
    """Ids of the actor's bodies, or of those named. Raises PhalanxError for an unknown one."""
    for name in names:
        if name not in actor.body_names:
            raise PhalanxError(
                f"{where}.bodies: no body {name!r} in actor {actor.name!r}"
                f"{did_you_mean(name, actor.body_names)}; it has: {', '.join(actor.body_names)}"
            )
    pairs = zip(actor.body_ids, actor.body_names, strict=True)
    return [i for i, name in pairs if not names or name in names]


def shapes_of(actor: Actor, names: Sequence[str], where: str) -> list[int]:
    """Ids of the colliding geoms of the actor's bodies. Raises PhalanxError if there are none."""
    model, bodies = actor.sim.model, bodies_of(actor, names, where)
    collide = (model.geom_contype | model.geom_conaffinity) != 0
    found = [i for i in range(model.ngeom) if model.geom_bodyid[i] in bodies and collide[i]]
    if not found:
        raise PhalanxError(f"{where}: none of these bodies has a shape that collides")
    return found


def joints_of(actor: Actor, names: Sequence[str], where: str) -> list[int]:
    """Ids of the actor's joints, without its free one. Raises PhalanxError for an unknown one."""
    model = actor.sim.model
    for name in names:
        if name not in actor.joint_names:
            raise PhalanxError(
                f"{where}.joints: no joint {name!r} in actor {actor.name!r}"
                f"{did_you_mean(name, actor.joint_names)}; it has: {', '.join(actor.joint_names)}"
            )
    own = [f"{actor.name}/{name}" for name in names or actor.joint_names]
    if not own:
        raise PhalanxError(f"{where}: actor {actor.name!r} has no joints")
    return [i for i in range(model.njnt) if model.jnt(i).name in own]


def joint_places(model: Any, joints: list[int], name: str, where: str) -> list[Place]:
    """Where a property of joints lives. Gains are those of MuJoCo's servos, if the joints have
    any, else the joints' own spring and damper; the greatest effort is the actuators' force
    range, else the joints', or what a motor makes of its greatest control where that is less."""
    dofs = [
        int(model.jnt_dofadr[j]) + k
        for j in joints
        for k in range(3 if model.jnt_type[j] == mujoco.mjtJoint.mjJNT_BALL else 1)
    ]
    driven = [
        a
        for a in range(model.nu)
        if model.actuator_trntype[a] == mujoco.mjtTrn.mjTRN_JOINT
        and model.actuator_trnid[a, 0] in joints
    ]
    if name in ("lower", "upper"):
        limited = [j for j in joints if model.jnt_limited[j]]
        if not limited:
            raise PhalanxError(f"{where}: these joints have no limits")
        return [Place("jnt_range", limited, int(name == "upper"))]
    if name in ("friction", "armature"):
        return [Place("dof_frictionloss" if name == "friction" else "dof_armature", dofs)]
    if name == "velocity":
        raise PhalanxError(
            f"{where} cannot be randomised: MuJoCo's joints have no greatest velocity, only"
            " actuator models (task.actuators) do"
        )
    if name == "effort":
        return [_effort(model, joints, driven, where)]
    component = 1 if name == "stiffness" else 2
    bias, gain = model.actuator_biasprm, model.actuator_gainprm
    servos = [a for a in driven if bias[a, component] != 0]
    if not servos:
        return [Place("jnt_stiffness", joints) if component == 1 else Place("dof_damping", dofs)]
    places = [Place("actuator_biasprm", servos, component, (-1.0,) * len(servos))]
    # The command of a position servo is multiplied by its stiffness, a velocity servo's by its
    # damping.
    sign = [a for a in servos if math.isclose(gain[a, 0], -bias[a, component], rel_tol=1e-6)]
    return places + ([Place("actuator_gainprm", sign, 0)] if len(sign) == len(servos) else [])


def _effort(model: Any, joints: list[int], driven: list[int], where: str) -> Place:
    limited = [a for a in driven if model.actuator_forcelimited[a]]
    if limited:
        return Place("actuator_forcerange", limited)
    held = [j for j in joints if model.jnt_actfrclimited[j]]
    motors = [
        a
        for a in driven
        if model.actuator_ctrllimited[a]
        and model.actuator_biastype[a] == mujoco.mjtBias.mjBIAS_NONE
    ]
    most = {
        a: float(model.actuator_gainprm[a, 0] * abs(model.actuator_ctrlrange[a]).max())
        for a in motors
    }
    # A motor that cannot reach its joint's limit is what limits the effort.
    weak = all(
        abs(model.actuator_gear[a, 0]) * m <= model.jnt_actfrcrange[model.actuator_trnid[a, 0], 1]
        for a, m in most.items()
        if model.actuator_trnid[a, 0] in held
    )
    if held and not (motors and weak):
        return Place("jnt_actfrcrange", held)
    if not motors:
        raise PhalanxError(f"{where}: these joints have no greatest effort")
    return Place("actuator_gear", motors, 0, tuple(most.values()))


class Parameter:
    """One randomised quantity, `sample` (N, K) of it in K places of each environment."""

    order = 1
    name: str
    unit: str
    variation: Variation
    constants = False
    sample: Tensor

    def write(self) -> None:
        """The model's values from the samples, in all environments."""
        raise NotImplementedError

    def original(self) -> Tensor:
        """(K,) values before randomisation, for the table."""
        raise NotImplementedError

    def row(self, frequency: int) -> Row:
        """The line of the table."""
        original = self.original()
        ends = [self.changed(original, bound) for bound in self.variation.bounds()]
        low, high = torch.minimum(*ends).min(), torch.maximum(*ends).max()
        when = self.variation.pace(frequency)
        return Row(
            self.name, span(original.min(), original.max()), self.variation.words(),
            span(low, high), self.unit, when,
        )  # fmt: skip

    def changed(self, original: Tensor, sample: float) -> Tensor:
        """What a sample makes of the original values."""
        return self.variation.apply(original, torch.full_like(original, sample))


def span(low: Tensor | float, high: Tensor | float) -> str:
    """`0.5 .. 1.5`, or one number where they are the same."""
    a, b = f"{float(low):.4g}", f"{float(high):.4g}"
    return a if a == b else f"{a} .. {b}"


class FieldParameter(Parameter):
    """Values of a model field, or of several that hold the same quantity."""

    def __init__(
        self,
        owner: RandomModel,
        name: str,
        prop: Property,
        variation: Variation,
        places: Place | list[Place],
        actor: str,
    ) -> None:
        self.owner, self.name, self.unit, self.variation = owner, name, prop.unit, variation
        self.at_least, self.constants = prop.at_least, prop.constants
        self.places = [places] if isinstance(places, Place) else places
        sim = owner.sim
        self._fields = [owner.field(p.field) for p in self.places]
        self._bases = [owner.base(p.field) for p in self.places]
        self._ids = [torch.tensor(p.ids, dtype=torch.long, device=sim.device) for p in self.places]
        self._factors = [
            torch.tensor(p.factor or [1.0] * max(len(p.ids), 1), device=sim.device)
            for p in self.places
        ]
        self.sample = torch.full_like(self._part(self._bases[0], 0), variation.neutral)

    def _part(self, field: Tensor, k: int) -> Tensor:
        """The quantity's values in `field`, (N, K) or (N, K, 3), a copy."""
        place = self.places[k]
        if not place.ids:
            return field.clone()
        part = field[:, self._ids[k]]
        if place.field in ("actuator_forcerange", "jnt_actfrcrange"):
            return part[..., 1]
        part = part if place.component is None else part[..., place.component]
        factors = self._factors[k]
        return part * (factors if part.dim() == 2 else factors[:, None])

    def values(self, k: int) -> Tensor:
        """(N, K) what the samples make of place `k`'s originals."""
        part = self._part(self._bases[k], k)
        return self.variation.apply(part, self.sample).clamp(min=self.at_least)

    def original(self) -> Tensor:
        return self._part(self._bases[0], 0)[0]

    def changed(self, original: Tensor, sample: float) -> Tensor:
        return super().changed(original, sample).clamp(min=self.at_least)

    def write(self) -> None:
        for k, (place, field) in enumerate(zip(self.places, self._fields, strict=True)):
            self._store(k, place, field, self.values(k))

    def _store(self, k: int, place: Place, field: Tensor, values: Tensor) -> None:
        if not place.ids:
            field.copy_(values)
            return
        values = values / (self._factors[k] if values.dim() == 2 else self._factors[k][:, None])
        if place.field in ("actuator_forcerange", "jnt_actfrcrange"):
            field.index_copy_(1, self._ids[k], torch.stack([-values, values], -1))
        elif place.component is None:
            field.index_copy_(1, self._ids[k], values)
        else:
            field[..., place.component].index_copy_(1, self._ids[k], values)


class Mass(FieldParameter):
    """Masses, and the inertias that follow them."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self._inertia = self.owner.field("body_inertia")
        self._inertia_base = self.owner.base("body_inertia")

    def _store(self, k: int, place: Place, field: Tensor, values: Tensor) -> None:
        super()._store(k, place, field, values)
        before = self._part(self._bases[k], k)
        ratio = torch.where(before > 0, values / before, 1.0)
        inertia = self._inertia_base[:, self._ids[k]] * ratio[..., None]
        self._inertia.index_copy_(1, self._ids[k], inertia)


class Restitution(FieldParameter):
    """The part of its speed that a shape keeps, by the damping of its contacts.

    A contact is a spring and a damper, solref its time constant [s] and damping ratio z. An
    oscillator keeps e = exp(-pi z / sqrt(1 - z^2)) of its speed in half a period. The time
    constant is divided by z, so that the stiffness stays.
    """

    def _part(self, field: Tensor, k: int) -> Tensor:
        ratio = field[:, self._ids[k], 1].clamp(1e-3, 0.9999)
        kept = torch.exp(-math.pi * ratio / torch.sqrt(1 - ratio**2))
        return torch.where(field[:, self._ids[k], 1] >= 1, 0.0, kept)

    def _store(self, k: int, place: Place, field: Tensor, values: Tensor) -> None:
        log = torch.log(values.clamp(1e-6, RESTITUTION_AT_MOST))
        ratio = torch.where(values <= 1e-6, 1.0, -log / torch.sqrt(math.pi**2 + log**2))
        base = self._bases[k][:, self._ids[k]]
        time = base[..., 0] * base[..., 1] / ratio
        field.index_copy_(1, self._ids[k], torch.stack([time, ratio], -1))


class DriveParameter(Parameter):
    """A quantity that lives in an actuator model instead of MuJoCo's."""

    def __init__(
        self, name: str, prop: Property, variation: Variation, tensor: Tensor, columns: list[int]
    ) -> None:
        self.name, self.unit, self.variation = name, prop.unit, variation
        self._columns = torch.tensor(columns, dtype=torch.long, device=tensor.device)
        self._tensor = tensor
        self._base = tensor[:, self._columns].clone()
        self.sample = torch.full_like(self._base, variation.neutral)

    def write(self) -> None:
        values = self.variation.apply(self._base, self.sample).clamp(min=0.0)
        self._tensor.index_copy_(1, self._columns, values)

    def original(self) -> Tensor:
        return self._base[0]


class Scale(Parameter):
    """An actor's size: lengths grow with it, masses with its cube, inertias with the fifth power.
    Where the actor stands does not; meshes that are only drawn keep their size."""

    order = 0  # what other parameters start from
    unit = "-"
    constants = True

    def __init__(self, owner: RandomModel, actor: Actor, variation: Variation, where: str) -> None:
        self.name, self.variation = f"{actor.name} scale", variation
        model, sim = owner.sim.model, owner.sim
        bodies, root = actor.body_ids, actor.root_id
        geoms = [i for i in range(model.ngeom) if model.geom_bodyid[i] in bodies]
        meshes = [i for i in geoms if model.geom_type[i] == mujoco.mjtGeom.mjGEOM_MESH]
        if any(model.geom_contype[i] | model.geom_conaffinity[i] for i in meshes):
            raise PhalanxError(
                f"{where}: actor {actor.name!r} collides as a mesh, which cannot differ in size"
                " between environments; give it primitive collision shapes"
            )
        joints = [i for i in range(model.njnt) if model.jnt_bodyid[i] in bodies]
        slides = [i for i in joints if model.jnt_type[i] == mujoco.mjtJoint.mjJNT_SLIDE]
        sites = [i for i in range(model.nsite) if model.site_bodyid[i] in bodies]
        powers = [
            ("geom_size", [i for i in geoms if i not in meshes], 1),
            ("geom_pos", geoms, 1),
            ("body_pos", [i for i in bodies if i != root], 1),
            ("body_ipos", bodies if model.body_ipos[bodies].any() else [], 1),
            ("body_mass", bodies, 3),
            ("body_inertia", bodies, 5),
            ("jnt_pos", joints, 1),
            ("jnt_range", slides, 1),
            ("site_pos", sites, 1),
        ]
        self._scaled = []
        for field, ids, power in powers:
            if ids:
                index = torch.tensor(ids, dtype=torch.long, device=sim.device)
                original = owner.base(field)[:, index].clone()
                self._scaled.append((owner.field(field), owner.base(field), index, original, power))
        self.sample = torch.full((sim.num_envs, 1), variation.neutral, device=sim.device)

    def write(self) -> None:
        scale = self.variation.apply(torch.ones_like(self.sample), self.sample).clamp(min=0.01)
        for field, base, index, original, power in self._scaled:
            factor = scale.view(-1, *(1,) * (original.dim() - 1)) ** power
            base.index_copy_(1, index, original * factor)
            field.index_copy_(1, index, original * factor)

    def original(self) -> Tensor:
        return torch.ones(1)


class Color(Parameter):
    """A colour for each body, for the eye only."""

    variation = Variation((0.0, 1.0), "additive", "uniform")

    def __init__(self, owner: RandomModel, actor: Actor) -> None:
        self.name, self.unit = f"{actor.name} color", "rgb"
        model, sim = owner.sim.model, owner.sim
        geoms = [i for i in range(model.ngeom) if model.geom_bodyid[i] in actor.body_ids]
        owners = [actor.body_ids.index(int(model.geom_bodyid[i])) for i in geoms]
        self._geoms = torch.tensor(geoms, dtype=torch.long, device=sim.device)
        self._owners = torch.tensor(owners, dtype=torch.long, device=sim.device)
        self._field, self._base = owner.field("geom_rgba"), owner.base("geom_rgba")
        self.sample = torch.zeros(sim.num_envs, len(actor.body_ids), 3, device=sim.device)

    def write(self) -> None:
        opaque = self._base[:, self._geoms, 3:]
        self._field.index_copy_(
            1, self._geoms, torch.cat([self.sample[:, self._owners], opaque], -1)
        )

    def row(self, frequency: int) -> Row:
        return Row(
            self.name, "as in the file", "any", "0 .. 1", self.unit, self.variation.pace(frequency)
        )
