"""Randomises a simulation's model, per environment, as IsaacGymEnvs' YAML describes it.

    prepare(scene, params)                       # before the Sim is made
    model = RandomModel(sim, params)             # draws everything, everywhere
    model.draw(mask, step)                       # draws new values in environments `mask`

`params` has two sections of `randomization_params`, `sim_params` and `actor_params`. One entry:

    range: [0.5, 1.5]         # lowest and highest; for gaussian the mean and the standard deviation
    operation: scaling        # or additive: how a sample changes the original value
    distribution: uniform     # or loguniform, gaussian
    schedule: linear          # optional: the effect grows until schedule_steps; constant: it
    schedule_steps: 3000      #   starts at schedule_steps
    setup_only: true          # optional: drawn once at the start, in full, never again
    bodies: [torso]           # optional: only these bodies; for dof_properties, joints: [...]
    shared: true              # optional: one sample for all of them

A value is always `original (operation) sample`; samples do not accumulate. Each body, shape and
joint has its own sample, unless `shared`. Nothing is rebuilt: values are written to the engine's
model fields, shapes are fixed and nothing waits for the device, so `draw` can be part of a CUDA
graph.

Surprises
- For two touching shapes MuJoCo uses the larger friction. Shapes with randomised properties get
  contact priority, so that their friction is used on any ground.
- MuJoCo has no restitution parameter. Restitution is converted to the contact damping that returns
  this part of the speed, at unchanged stiffness; a dropped sphere keeps up to 0.13 more.
- After a change of masses, armature or scale, MuJoCo's derived constants are recomputed. At the
  start this costs nothing; in each step on a GPU it costs about as much as a physics step.
"""

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import mujoco
import numpy as np
import torch
from torch import Tensor

from phalanx.errors import PhalanxError, did_you_mean
from phalanx.gate import show
from phalanx.randomization.distribution import (
    ActorVariation,
    Variation,
    mapping,
    read_variation,
)
from phalanx.randomization.model_addresses import (
    Address,
    bodies_of,
    joint_addresses,
    joints_of,
    shapes_of,
)
from phalanx.randomization.random_fields import (
    Color,
    Drive,
    DriveParameter,
    FieldParameter,
    Fields,
    Mass,
    Parameter,
    Property,
    Restitution,
    Row,
    Scale,
)
from phalanx.sim.scene import Scene
from phalanx.sim.sim import Actor, Sim

Drives = Mapping[tuple[str, str], list[Drive]]

WHERE = "task.randomization_params"
BODIES, SHAPES = "rigid_body_properties", "rigid_shape_properties"
COM_AXES = ("com_x", "com_y", "com_z")

PROPERTIES: dict[str, dict[str, Property]] = {
    BODIES: {
        "mass": Property("kg", at_least=1e-6, constants=True),
        "com": Property("m", constants=True, axes=3),
        **{name: Property("m", constants=True) for name in COM_AXES},
    },
    SHAPES: {
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
NARROWEST = 1e-3
"""What is left between the limits of a joint where draws would cross them [m or rad]."""
OF_MODEL = ("sim_params", "actor_params")
"""Sections of `randomization_params` that a `RandomModel` reads; the others need a task."""


def prepare(scene: Scene, params: Mapping[str, Any]) -> None:
    """Prepare a scene for the randomisation in `params`: shapes that are randomised get contact
    priority, and friction even if the file turns it off (condim 1); bodies get storage for another
    centre of mass."""
    for name, kinds in mapping(params.get("actor_params"), f"{WHERE}.actor_params").items():
        where = f"{WHERE}.actor_params.{name}"
        kinds = mapping(kinds, where)
        shapes = mapping(kinds.get(SHAPES), f"{where}.{SHAPES}")
        read = [
            read_variation(v, f"{where}.{SHAPES}.{k}", ActorVariation) for k, v in shapes.items()
        ]
        for geom in scene.spec.geoms:
            actor, _, body = geom.parent.name.partition("/")
            if actor == name and any(not v.bodies or body in v.bodies for v in read):
                geom.priority += 1
                geom.condim = max(geom.condim, 3)
        entries = mapping(kinds.get(BODIES), f"{where}.{BODIES}")
        if any(key in entries for key in ("com", *COM_AXES)):
            for body in scene.spec.bodies:
                if body.name.startswith(f"{name}/"):
                    body.simple = False


class RandomModel:
    """The randomised model fields of `sim`.

    drives: quantities outside MuJoCo's model, such as an actuator model's stiffness,
    {(actor, "stiffness"): [Drive, ...]}; they replace those of the model.
    Raises PhalanxError for sections, actors, properties, bodies or joints that do not exist.
    """

    def __init__(
        self,
        sim: Sim,
        params: Mapping[str, Any],
        drives: Drives | None = None,
    ) -> None:
        self.sim = sim
        self.drives = drives or {}
        self._fields = Fields(sim)
        self.parameters = sorted(self._read(params), key=lambda p: p.order)
        self._moves_limits = self._check_limits()
        model = sim.model
        gap = np.where(model.jnt_limited > 0, NARROWEST + 2 * model.jnt_margin.clip(0), 0.0)
        self._narrowest = torch.tensor(gap, dtype=torch.float32, device=sim.device)
        everywhere = torch.ones(sim.num_envs, dtype=torch.bool, device=sim.device)
        self.draw(everywhere, torch.zeros((), dtype=torch.long, device=sim.device), at_start=True)

    def draw(self, mask: Tensor, step: Tensor, at_start: bool = False) -> None:
        """Draw new samples in environments `mask` (N,) bool. step: 0-d, environment steps so far.
        at_start: include parameters that are `setup_only`."""
        changing = [p for p in self.parameters if at_start or not p.variation.setup_only]
        if not changing or (mask.device.type == "cpu" and not mask.any()):
            return
        drawn: dict[int, Tensor] = {}  # one sample for all drives of a shared entry
        for parameter in changing:
            variation, shape = parameter.variation, parameter.sample.shape
            if isinstance(variation, ActorVariation) and variation.shared:
                if id(variation) not in drawn:
                    drawn[id(variation)] = variation.sample((shape[0], 1, *shape[2:]), step)
                fresh = drawn[id(variation)]
            else:
                fresh = variation.sample(shape, step)
            at = mask.view(-1, *(1,) * (fresh.dim() - 1))
            parameter.sample.copy_(torch.where(at, fresh, parameter.sample))
        scaled = any(isinstance(p, Scale) for p in changing)  # the base of the others
        self._write(self.parameters if scaled else changing)
        if any(p.constants for p in changing):
            self.sim.set_const(mask)

    def table(self, frequency: int) -> list[Row]:
        """One row for each randomised quantity."""
        return [p.row(frequency) for p in self.parameters]

    def state_dict(self) -> dict[str, Tensor]:
        """The samples; all randomised values follow from them."""
        return {p.name: p.sample.clone() for p in self.parameters}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Restore what `state_dict` returned. Restore the simulation first, with its constants.
        Raises KeyError if other quantities were randomised."""
        for parameter in self.parameters:
            parameter.sample.copy_(state[parameter.name])
        self._write(self.parameters)
        self.sim.take_model_fields()

    def _write(self, parameters: Sequence[Parameter]) -> None:
        """Write their samples into the model."""
        for parameter in parameters:
            parameter.write()
        if self._moves_limits:  # beyond two standard deviations they may cross
            low, high = self._fields.live("jnt_range").unbind(-1)
            low.copy_(torch.minimum(low, high - self._narrowest))

    def _read(self, params: Mapping[str, Any]) -> Iterator[Parameter]:
        for key in mapping(params, WHERE):
            if key not in OF_MODEL:
                raise _unknown(f"{WHERE}.{key}", key, OF_MODEL)
        for name, entry in mapping(params.get("sim_params"), f"{WHERE}.sim_params").items():
            where = f"{WHERE}.sim_params.{name}"
            if name != "gravity":
                raise _unknown(where, name, ("gravity",))
            variation: Variation = read_variation(entry, where)
            yield FieldParameter(
                self._fields,
                "gravity",
                Property("m/s2", axes=3),
                variation,
                Address("opt.gravity", []),
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

    def _of_kind(self, actor: Actor, kind: str, entries: Any, where: str) -> Iterator[Parameter]:
        where = f"{where}.{kind}"
        if kind == "color":
            if not isinstance(entries, bool):
                raise PhalanxError(f"{where} is {show(entries)}; it must be true or false")
            if entries:
                yield Color(self._fields, actor)
        elif kind == "scale":
            scale = Scale(self._fields, actor, read_variation(entries, where), where)
            scale.check(where)
            yield scale
        elif kind not in PROPERTIES:
            raise _unknown(where, kind, KINDS)
        else:
            entries = mapping(entries, where)
            both = [axis for axis in COM_AXES if axis in entries and "com" in entries]
            if both:
                raise PhalanxError(f"{where} has com and {both[0]}; com is all three axes")
            for name, entry in entries.items():
                path = f"{where}.{name}"
                if name not in PROPERTIES[kind]:
                    raise _unknown(path, name, PROPERTIES[kind])
                variation = read_variation(entry, path, ActorVariation)
                if kind == "dof_properties" and (actor.name, name) in self.drives:
                    made = [*self._of_drives(actor, name, variation, path)]
                else:
                    made = [self._property(actor, kind, name, variation, path)]
                for parameter in made:
                    parameter.check(path)
                yield from made

    def _check_limits(self) -> bool:
        """Whether joint limits are randomised. Raises PhalanxError if draws within two standard
        deviations can put a lower limit above the upper one."""
        model = self.sim.model
        low, high = torch.tensor(model.jnt_range).T.clone()
        found = False
        for parameter in self.parameters:
            for address in getattr(parameter, "addresses", ()):
                if address.field == "jnt_range":
                    found, original = True, parameter.original().double().cpu()
                    ends = [parameter.changed(original, b) for b in parameter.variation.bounds()]
                    if address.component == 0:
                        low[address.ids] = torch.maximum(*ends)
                    else:
                        high[address.ids] = torch.minimum(*ends)
        for joint in torch.nonzero(low > high)[:, 0].tolist() if found else ():
            if model.jnt_limited[joint]:
                raise PhalanxError(
                    f"{WHERE}: draws can put the lower limit of joint {model.jnt(joint).name!r} at"
                    f" {float(low[joint]):g}, above its upper limit of {float(high[joint]):g};"
                    " narrow the ranges of lower and upper"
                )
        return found

    def _of_drives(
        self, actor: Actor, name: str, variation: ActorVariation, where: str
    ) -> Iterator[Parameter]:
        model = self.sim.model
        prop = self._in_units(PROPERTIES["dof_properties"][name], actor, variation)
        joints = joints_of(actor, variation.joints, where)
        modelled = {n for drive in self.drives[actor.name, name] for n in drive.joints}
        rest = [j for j in joints if model.jnt(j).name.split("/", 1)[1] not in modelled]
        if not variation.joints:  # of those that nothing drives, only on demand
            driven = model.actuator_trnid[model.actuator_trntype == mujoco.mjtTrn.mjTRN_JOINT, 0]
            rest = [j for j in rest if j in driven and name != "velocity"]
        if rest:
            yield self._property(actor, "dof_properties", name, variation, where, rest)
        own = [model.jnt(j).name.split("/", 1)[1] for j in joints]
        for k, drive in enumerate(self.drives[actor.name, name]):
            columns = [drive.joints.index(n) for n in own if n in drive.joints]
            label = f"{actor.name} drive {name}" + f" {k + 1}" * (k > 0)
            if columns:
                yield DriveParameter(label, prop, variation, drive, columns, where)

    def _in_units(self, prop: Property, actor: Actor, variation: ActorVariation) -> Property:
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
        self,
        actor: Actor,
        kind: str,
        name: str,
        variation: ActorVariation,
        where: str,
        joints: list[int] | None = None,
    ) -> Parameter:
        prop = self._in_units(PROPERTIES[kind][name], actor, variation)
        label = f"{actor.name} {kind.split('_')[-2]} {name}"
        if kind == BODIES:
            if variation.joints:
                raise PhalanxError(f"{where}.joints: bodies are selected by bodies, not by joints")
            ids = bodies_of(actor, variation.bodies, where)
            if name == "mass":
                if not variation.bodies:  # frames that are welded to a body may have no mass
                    ids = [i for i in ids if self.sim.model.body_mass[i] > 0]
                return Mass(self._fields, label, prop, variation, Address("body_mass", ids))
            axis = COM_AXES.index(name) if name in COM_AXES else None
            address = Address("body_ipos", ids, axis)
            return FieldParameter(self._fields, label, prop, variation, address)
        if kind == SHAPES:
            if variation.joints:
                raise PhalanxError(f"{where}.joints: shapes are selected by bodies, not by joints")
            ids = shapes_of(actor, variation.bodies, where)
            if name == "restitution":
                return Restitution(
                    self._fields, label, prop, variation, Address("geom_solref", ids)
                )
            component = {"friction": 0, "torsion_friction": 1, "rolling_friction": 2}[name]
            address = Address("geom_friction", ids, component)
            return FieldParameter(self._fields, label, prop, variation, address)
        if variation.bodies:
            raise PhalanxError(f"{where}.bodies: joints are selected by joints, not by bodies")
        if kind == "tendon_properties":
            model = self.sim.model
            own = f"{actor.name}/"
            ids = [i for i in range(model.ntendon) if model.tendon(i).name.startswith(own)]
            if not ids:
                raise PhalanxError(f"{where}: actor {actor.name!r} has no tendons")
            return FieldParameter(
                self._fields, label, prop, variation, Address(f"tendon_{name}", ids)
            )
        joints = joints or joints_of(actor, variation.joints, where)
        addresses = joint_addresses(self.sim.model, joints, name, where)
        return FieldParameter(self._fields, label, prop, variation, addresses)


def _unknown(where: str, name: str, accepted: Any) -> PhalanxError:
    if name in REFUSED:
        return PhalanxError(f"{where} cannot be randomised: {REFUSED[name]}")
    near = did_you_mean(str(name), accepted) or f"; accepted: {', '.join(accepted)}"
    return PhalanxError(f"unknown key {where}{near}")
