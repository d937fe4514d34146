"""Randomised quantities: each keeps its samples and writes them into the simulation's model."""

import math
from dataclasses import dataclass
from typing import Any

import mujoco
import torch
from torch import Tensor

from phalanx.errors import PhalanxError
from phalanx.randomization.distribution import Variation
from phalanx.randomization.model_addresses import Address
from phalanx.sim.sim import Actor, Sim

RESTITUTION_AT_MOST = 0.95


@dataclass(frozen=True)
class Row:
    """One line of the table of randomised quantities, as texts for display."""

    what: str
    original: str
    change: str
    result: str
    unit: str
    when: str


@dataclass(frozen=True)
class Property:
    """One randomisable property of an actor."""

    unit: str
    at_least: float = -math.inf
    constants: bool = False
    """Whether MuJoCo derives constants from it, which `set_const` then recomputes."""
    axes: int = 1
    """3 for a vector, whose x, y and z the table shows one by one."""


class Fields:
    """The model fields of `sim` that differ between environments, and their original values."""

    def __init__(self, sim: Sim) -> None:
        self.sim = sim
        self._base: dict[str, Tensor] = {}

    def base(self, field: str) -> Tensor:
        """(N, ...) the field's values before any randomisation except that of the scale."""
        if field not in self._base:
            self._base[field] = self.sim.model_field(field, by_torch=True).clone()
        return self._base[field]

    def live(self, field: str) -> Tensor:
        """(N, ...) the field itself; its original values are stored."""
        self.base(field)
        return self.sim.model_field(field, by_torch=True)


class Parameter:
    """One randomised quantity, with `sample` (N, K) for its K elements in each environment."""

    order = 1
    name: str
    unit: str
    variation: Variation
    at_least, at_most = -math.inf, mujoco.mjMAXVAL
    constants = False
    axes = 1
    sample: Tensor

    def write(self) -> None:
        """Compute the model's values from the samples, in all environments."""
        raise NotImplementedError

    def original(self) -> Tensor:
        """(K,) values before randomisation, for the table."""
        raise NotImplementedError

    def row(self, frequency: int) -> Row:
        """The line of the table."""
        original = self.original()
        ends = [self.changed(original, bound) for bound in self.variation.bounds()]
        low, high = torch.minimum(*ends), torch.maximum(*ends)
        when = self.variation.pace(frequency)
        return Row(
            self.name, self._spans(original, original), self.variation.words(),
            self._spans(low, high), self.unit, when,
        )  # fmt: skip

    def _spans(self, low: Tensor, high: Tensor) -> str:
        """From the least to the largest element, of a vector for each axis."""
        lows, highs = (v.reshape(-1, self.axes) for v in (low, high))
        return ", ".join(map(span, lows.amin(0).tolist(), highs.amax(0).tolist()))

    def changed(self, original: Tensor, sample: float) -> Tensor:
        """The values (K,) that one sample gives from the original values (K,)."""
        return self.variation.apply(original, torch.full_like(original, sample))

    def check(self, where: str) -> None:
        """Raise PhalanxError if the ends of the range, or for gaussian the mean, give a value that
        the quantity cannot have."""
        v = self.variation
        samples = v.range[:1] if v.distribution == "gaussian" else v.range
        for sample in samples:
            values = v.apply(self.original(), torch.full_like(self.original(), sample))
            for value in (float(values.min()), float(values.max())):
                if not self.at_least - 1e-9 <= value <= self.at_most:
                    limits = f"from {self.at_least:g}" if math.isfinite(self.at_least) else ""
                    raise PhalanxError(
                        f"{where}.range is {list(v.range)}, which gives {value:g} {self.unit}; it"
                        f" must stay {limits} to {self.at_most:g}".replace("  ", " ")
                    )


def span(low: Tensor | float, high: Tensor | float) -> str:
    """`0.5 .. 1.5` for two scalars, or one number if they are the same."""
    a, b = f"{float(low):.4g}", f"{float(high):.4g}"
    return a if a == b else f"{a} .. {b}"


class FieldParameter(Parameter):
    """Values of a model field, or of several that hold the same quantity."""

    def __init__(
        self,
        fields: Fields,
        name: str,
        prop: Property,
        variation: Variation,
        addresses: Address | list[Address],
    ) -> None:
        self.name, self.unit, self.variation = name, prop.unit, variation
        self.at_least, self.constants, self.axes = prop.at_least, prop.constants, prop.axes
        self.addresses = [addresses] if isinstance(addresses, Address) else addresses
        sim = fields.sim
        self._fields = [fields.live(p.field) for p in self.addresses]
        self._bases = [fields.base(p.field) for p in self.addresses]
        self._ids = [
            torch.tensor(p.ids, dtype=torch.long, device=sim.device) for p in self.addresses
        ]
        self._factors = [
            torch.tensor(p.factor or [1.0] * max(len(p.ids), 1), device=sim.device)
            for p in self.addresses
        ]
        self._columns = [list(p.columns) or slice(None) for p in self.addresses]
        self.sample = torch.full_like(self._part(self._bases[0], 0), variation.neutral)

    def _part(self, field: Tensor, k: int) -> Tensor:
        """The quantity's values in `field`, (N, K) or (N, K, 3), a copy."""
        address = self.addresses[k]
        if not address.ids:
            return field.clone()
        part = field[:, self._ids[k]]
        if address.field in ("actuator_forcerange", "jnt_actfrcrange"):
            return part[..., 1]
        part = part if address.component is None else part[..., address.component]
        factors = self._factors[k]
        return part * (factors if part.dim() == 2 else factors[:, None])

    def values(self, k: int) -> Tensor:
        """(N, K) the randomised values at address `k`."""
        part = self._part(self._bases[k], k)
        sample = self.sample[:, self._columns[k]]
        return self.variation.apply(part, sample).clamp(min=self.at_least)

    def original(self) -> Tensor:
        return self._part(self._bases[0], 0)[0]

    def changed(self, original: Tensor, sample: float) -> Tensor:
        return super().changed(original, sample).clamp(min=self.at_least)

    def write(self) -> None:
        for k, (address, field) in enumerate(zip(self.addresses, self._fields, strict=True)):
            self._store(k, address, field, self.values(k))

    def _store(self, k: int, address: Address, field: Tensor, values: Tensor) -> None:
        if not address.ids:
            field.copy_(values)
            return
        values = values / (self._factors[k] if values.dim() == 2 else self._factors[k][:, None])
        if address.field in ("actuator_forcerange", "jnt_actfrcrange"):
            field.index_copy_(1, self._ids[k], torch.stack([-values, values], -1))
        elif address.component is None:
            field.index_copy_(1, self._ids[k], values)
        else:
            field[..., address.component].index_copy_(1, self._ids[k], values)


class Mass(FieldParameter):
    """Masses, with inertias in proportion."""

    def __init__(self, fields: Fields, *args: Any) -> None:
        super().__init__(fields, *args)
        self._inertia = fields.live("body_inertia")
        self._inertia_base = fields.base("body_inertia")

    def _store(self, k: int, address: Address, field: Tensor, values: Tensor) -> None:
        super()._store(k, address, field, values)
        before = self._part(self._bases[k], k)
        ratio = torch.where(before > 0, values / before, 1.0)
        inertia = self._inertia_base[:, self._ids[k]] * ratio[..., None]
        self._inertia.index_copy_(1, self._ids[k], inertia)


class Restitution(FieldParameter):
    """Restitution, the part of its speed that a shape keeps, set by the damping of its contacts.

    A contact is a spring and a damper. An oscillator of damping ratio z keeps
    e = exp(-pi z / sqrt(1 - z^2)) of its speed in half a period. solref has either its time
    constant [s] and z, or, both negative, -stiffness and -damping = -2 z sqrt(stiffness). The
    stiffness stays, so the time constant is divided by z.
    """

    def _part(self, field: Tensor, k: int) -> Tensor:
        ratio = self._damping_ratio(*field[:, self._ids[k]].unbind(-1))
        within = ratio.clamp(1e-3, 0.9999)
        kept = torch.exp(-math.pi * within / torch.sqrt(1 - within**2))
        return torch.where(ratio >= 1, 0.0, kept)

    def _damping_ratio(self, first: Tensor, second: Tensor) -> Tensor:
        return torch.where(first < 0, -second / (2 * (-first).clamp(min=1e-12).sqrt()), second)

    def _store(self, k: int, address: Address, field: Tensor, values: Tensor) -> None:
        log = torch.log(values.clamp(1e-6, RESTITUTION_AT_MOST))
        first, second = self._bases[k][:, self._ids[k]].unbind(-1)
        inelastic = self._damping_ratio(first, second).clamp(min=1)
        ratio = torch.where(values <= 1e-6, inelastic, -log / torch.sqrt(math.pi**2 + log**2))
        standard = torch.stack([first * second / ratio, ratio], -1)
        direct = torch.stack([first, -2 * ratio * (-first).clamp(min=0).sqrt()], -1)
        field.index_copy_(1, self._ids[k], torch.where(first[..., None] < 0, direct, standard))


@dataclass(frozen=True)
class Drive:
    """A quantity of J joints that belongs to an actuator model instead of MuJoCo's model."""

    joints: list[str]
    values: Tensor
    """Values (N, J), live."""
    at_most: Tensor | None = None
    """Values (J,) above which the quantity has no further effect."""


class DriveParameter(Parameter):
    """A `Drive`, or those `columns` of it that are randomised."""

    def __init__(
        self,
        name: str,
        prop: Property,
        variation: Variation,
        drive: Drive,
        columns: list[int],
        where: str,
    ) -> None:
        self.name, self.unit, self.variation = name, prop.unit, variation
        self.at_least = prop.at_least
        self._tensor = drive.values
        self._columns = torch.tensor(columns, dtype=torch.long, device=self._tensor.device)
        self._base = self._tensor[:, self._columns].clone()
        self.sample = torch.full_like(self._base, variation.neutral)
        highest = self.changed(self.original(), variation.bounds()[1])
        for k, column in enumerate(columns if drive.at_most is not None else []):
            most = float(drive.at_most[column])  # type: ignore[index]
            if highest[k] > max(most, float(self._base[0, k])) * (1 + 1e-6):
                raise PhalanxError(
                    f"{where} reaches {float(highest[k]):g}, but the motor of joint"
                    f" {drive.joints[column]!r} gives at most {most:g}; lower the range, or widen"
                    " the motor's range in the robot's file"
                )

    def write(self) -> None:
        values = self.variation.apply(self._base, self.sample).clamp(min=0.0)
        self._tensor.index_copy_(1, self._columns, values)

    def original(self) -> Tensor:
        return self._base[0]


class Scale(Parameter):
    """An actor's size. Lengths scale with it, masses with its cube, inertias with its fifth power.
    The actor's position does not scale, and visual meshes keep their size."""

    order = 0  # before the parameters that start from scaled values
    unit = "-"
    at_least, at_most = 0.01, 100.0
    constants = True

    def __init__(self, fields: Fields, actor: Actor, variation: Variation, where: str) -> None:
        self.name, self.variation = f"{actor.name} scale", variation
        model, sim = fields.sim.model, fields.sim
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
                original = fields.base(field)[:, index].clone()
                self._scaled.append(
                    (fields.live(field), fields.base(field), index, original, power)
                )
        self.sample = torch.full((sim.num_envs, 1), variation.neutral, device=sim.device)

    def write(self) -> None:
        scale = self.variation.apply(torch.ones_like(self.sample), self.sample).clamp(
            self.at_least, self.at_most
        )
        for field, base, index, original, power in self._scaled:
            factor = scale.view(-1, *(1,) * (original.dim() - 1)) ** power
            base.index_copy_(1, index, original * factor)
            field.index_copy_(1, index, original * factor)

    def original(self) -> Tensor:
        return torch.ones(1)


class Color(Parameter):
    """A colour for each body, for rendering only."""

    variation = Variation((0.0, 1.0), "additive", "uniform")

    def __init__(self, fields: Fields, actor: Actor) -> None:
        self.name, self.unit = f"{actor.name} color", "rgb"
        model, sim = fields.sim.model, fields.sim
        geoms = [i for i in range(model.ngeom) if model.geom_bodyid[i] in actor.body_ids]
        owners = [actor.body_ids.index(int(model.geom_bodyid[i])) for i in geoms]
        self._geoms = torch.tensor(geoms, dtype=torch.long, device=sim.device)
        self._owners = torch.tensor(owners, dtype=torch.long, device=sim.device)
        self._field, self._base = fields.live("geom_rgba"), fields.base("geom_rgba")
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
