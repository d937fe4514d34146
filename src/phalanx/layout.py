"""Describes a policy's observations and actions, in terms that a robot's program understands.

A task does this in two hooks, `Task.observation_layout` and `Task.action_layout`:

    def observation_layout(self):
        return (
            Term("base_ang_vel", scale=0.25),
            Term("joint_pos", elements=self.robot.joint_names, offset=self.default_pos),
            Term("angle_to_target", unit="rad"),      # not in the table below: a custom term
        )

    def action_layout(self):
        return ActionLayout("position", self.robot.joint_names, scale=0.5, offset=self.default_pos)

`phalanx export` writes both into the exported policy. With the first, `phalanx.deploy` builds the
observation from the robot's state; with the second, it computes the joints' targets. This module
needs only the standard library.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from phalanx.errors import PhalanxError, did_you_mean
from phalanx.gate import show

QUANTITIES: dict[str, tuple[tuple[str, ...], str]] = {
    "base_height": (("z",), "m"),
    "base_lin_vel": (("x", "y", "z"), "m/s"),
    "base_ang_vel": (("x", "y", "z"), "rad/s"),
    "base_quat": (("w", "x", "y", "z"), "1"),
    "projected_gravity": (("x", "y", "z"), "1"),
    "roll": (("roll",), "rad"),
    "pitch": (("pitch",), "rad"),
    "yaw": (("yaw",), "rad"),
    "joint_pos": ((), "m or rad"),
    "joint_vel": ((), "m/s or rad/s"),
    "command": ((), ""),
    "previous_action": ((), "1"),
    "custom": ((), ""),
}
"""The quantities of terms, with the elements and unit of each.

base_height: of the root body's origin, world frame. base_lin_vel: of that origin, base frame.
base_ang_vel: base frame, as measured by a gyroscope. base_quat: w, x, y, z, base to world.
projected_gravity: direction of gravity, of length 1, base frame; (0, 0, -1) upright. roll, pitch,
yaw: angles of the rotation z, y', x''. joint_pos, joint_vel: by joint name. command: commands to
the robot, with names defined by the task. previous_action: the policy's last output, clipped but
not scaled, 0 at the start. custom: computed by the task in its own way; a robot's program provides
it under the term's name."""

KINDS = {
    "position": "m or rad",
    "velocity": "m/s or rad/s",
    "effort": "N or N m",
    "custom": "",
}
"""Kinds of actions, with the unit of the joint target. custom: interpreted by the task."""


MAX_SIZE = 100_000
"""Numbers of an observation or action."""


@dataclass(frozen=True)
class Term:
    """Consecutive numbers of the observation: (value - offset) * scale.

    `scale` and `offset` may be one number for all elements, or a sequence, array or tensor with one
    each; they are stored as a tuple of floats, one each. Raises PhalanxError for an unknown
    quantity or a wrong number of values.
    """

    name: str
    """Unique within an observation."""
    quantity: str = ""
    """One of QUANTITIES; by default the quantity of that name, or custom."""
    elements: Sequence[str] = ()
    """Names of the numbers: joints, axes ("x", "y", "z"), commands; by default all axes."""
    size: int = 0
    """Number of values; only needed without elements."""
    unit: str = ""
    """Unit of the value before scaling; by default that of the quantity."""
    scale: Any = 1.0
    offset: Any = 0.0
    """In the unit of the value."""

    def __post_init__(self) -> None:
        known = self.quantity or (self.name if self.name in QUANTITIES else "custom")
        if known not in QUANTITIES:
            raise PhalanxError(
                f"term {self.name!r} has an unknown quantity {known!r}"
                f"{did_you_mean(known, QUANTITIES)}; quantities: {', '.join(QUANTITIES)}"
            )
        names = self.elements if isinstance(self.elements, Sequence) else [None]
        if isinstance(names, str) or not all(isinstance(e, str) for e in names):
            raise PhalanxError(f"term {self.name!r}: elements must be a list of names")
        if not isinstance(self.size, int) or not 0 <= self.size <= MAX_SIZE:
            raise PhalanxError(f"term {self.name!r}: size must be 1 to {MAX_SIZE}")
        own, unit = QUANTITIES[known]
        elements = tuple(self.elements) or own
        if unknown := [e for e in elements if own and e not in own]:
            raise PhalanxError(
                f"term {self.name!r}: {known} has no element {unknown[0]!r}, only {', '.join(own)}"
            )
        if known in ("joint_pos", "joint_vel", "command") and not elements:
            raise PhalanxError(f"term {self.name!r} of quantity {known} must name its elements")
        size = self.size or len(elements) or 1
        if elements and len(elements) != size:
            raise PhalanxError(f"term {self.name!r} has {len(elements)} elements, but size {size}")
        values = {
            "quantity": known,
            "elements": elements,
            "size": size,
            "unit": self.unit or unit,
            "scale": _numbers(f"term {self.name!r}: scale", self.scale, size),
            "offset": _numbers(f"term {self.name!r}: offset", self.offset, size),
        }
        for name, value in values.items():
            object.__setattr__(self, name, value)


@dataclass(frozen=True)
class ActionLayout:
    """The effect of an action: target = offset + scale * action, then clamped to low .. high.

    Numbers may be one for all joints, or one each, as in `Term`. Raises PhalanxError for an unknown
    kind or a wrong number of values.
    """

    kind: str = "custom"
    """One of KINDS."""
    joints: Sequence[str] = ()
    """Joints of the targets; for continuous actions in their order. Empty for kind custom."""
    scale: Any = 1.0
    offset: Any = 0.0
    """In the unit of the target."""
    low: Any = -float("inf")
    """Smallest targets that the task accepts; the range of actions may be narrower."""
    high: Any = float("inf")
    choices: Sequence[Sequence[Any]] = ()
    """For discrete actions, instead of scale and offset: the targets of every joint for every
    choice. Several actions have one table each, and the chosen rows are added."""
    stiffness: Any = ()
    """Proportional gains of the joints' controllers [N/m or N m/rad]; by default those of the
    model's actuators."""
    damping: Any = ()
    """Derivative gains of the joints' controllers [N s/m or N m s/rad]; same default."""
    effort_limit: Any = ()
    """Largest efforts of the joints' motors [N or N m]; same default."""
    default_pos: Any = ()
    """The robot's default pose [m or rad]; by default the offset of position targets, or the
    model's own pose."""

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise PhalanxError(
                f"unknown kind of action {self.kind!r}{did_you_mean(self.kind, KINDS)};"
                f" kinds: {', '.join(KINDS)}"
            )
        n = len(self.joints)
        if (n == 0) != (self.kind == "custom"):
            raise PhalanxError(
                f"an action layout of kind {self.kind!r} has {n} joints; name the joints, or none"
                " for kind custom"
            )
        values: dict[str, Any] = {"joints": tuple(self.joints)}
        for name in ("scale", "offset", "low", "high"):
            endless = name in ("low", "high")
            values[name] = _numbers(f"action layout: {name}", getattr(self, name), n, endless)
        for name in ("stiffness", "damping", "effort_limit", "default_pos"):
            given = getattr(self, name)
            if not isinstance(given, tuple) or given:
                values[name] = _numbers(f"action layout: {name}", given, n, name == "effort_limit")
        values["choices"] = tuple(
            tuple(_numbers("action layout: a row of choices", row, n) for row in table)
            for table in self.choices
        )
        for name, value in values.items():
            object.__setattr__(self, name, value)


def sizes_add_up(terms: Iterable[Term], num_obs: int, task: str) -> None:
    """Raise PhalanxError unless the terms' names are unique and their sizes add up to `num_obs`."""
    terms = tuple(terms)
    names = [t.name for t in terms]
    if twice := [n for n in names if names.count(n) > 1]:
        raise PhalanxError(
            f"{task}.observation_layout() has two terms {twice[0]!r}; names must be unique"
        )
    total = sum(t.size for t in terms)
    if total != num_obs:
        sizes = ", ".join(f"{t.name} {t.size}" for t in terms)
        raise PhalanxError(
            f"{task}.observation_layout() describes {total} numbers ({sizes}), but"
            f" num_obs is {num_obs}; both must be the same"
        )


def _numbers(what: str, values: Any, size: int, infinite: bool = False) -> tuple[float, ...]:
    """`values`, a number, a sequence, an array or a tensor, as `size` floats."""
    values = values.tolist() if hasattr(values, "tolist") else values
    try:
        numbers = (values,) if isinstance(values, (int, float)) else tuple(values)
        numbers = tuple(float(x) for x in numbers)
    except (TypeError, ValueError, OverflowError) as error:
        raise PhalanxError(f"{what} is {show(values)}; it must be numbers") from error
    for number in numbers:
        if math.isnan(number) or (math.isinf(number) and not infinite):
            raise PhalanxError(f"{what} is {number}; it must be finite")
    if len(numbers) == 1:
        numbers *= size
    if len(numbers) != size:
        raise PhalanxError(f"{what} has {len(numbers)} numbers; it needs 1 or {size}")
    return numbers
