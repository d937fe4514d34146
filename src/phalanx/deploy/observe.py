"""Builds the observation from a robot's state, in the terms of `phalanx.layout`.

The state is a dictionary with these entries; only those that the policy's terms use are required:

    base_quat       4   w, x, y, z, base to world
    base_ang_vel    3   rad/s, base frame
    base_lin_vel    3   m/s, base frame
    base_height     1   m
    joint_pos           m or rad: {joint: value}, or all joints in the metadata's order
    joint_vel           m/s or rad/s, likewise
    command             {name: value}

An entry with the name of a term is used unchanged. Custom terms are given this way, and an IMU that
computes roll and pitch itself needs no base_quat.

This runs in every control step of a robot. Lookups are therefore done once in advance, and angles
are computed with Python floats, which are faster than arrays for a few numbers.
"""

import math
from collections.abc import Callable, Mapping
from operator import itemgetter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from phalanx.deploy.metadata import Observation
from phalanx.errors import PhalanxError, did_you_mean
from phalanx.layout import QUANTITIES, Term

Array = NDArray[np.float64]
RobotState = Mapping[str, Any]
Reader = Callable[[RobotState], Any]
"""Returns a term's unscaled values: an array (size,), or a number if the size is 1."""


class Observer:
    """Builds observations. joints: all of the robot's, in order."""

    def __init__(self, about: Observation, joints: list[str]) -> None:
        self._about = about
        self._parts: list[tuple[slice, Reader | None]] = []
        at = 0
        for term in about.terms:
            own = term.quantity == "previous_action"
            part = slice(at, at + term.size)
            self._parts.append((part, None if own else reader(term, joints)))
            at += term.size
        self._scale = np.concatenate([t.scale for t in about.terms])
        self._offset = np.concatenate([t.offset for t in about.terms])
        self._low, self._high = np.full(at, -about.clip), np.full(at, about.clip)
        self._values = np.zeros(at)

    def __call__(self, state: RobotState, previous_action: Array) -> NDArray[np.float32]:
        """The observation (D,) as the task computes it, clipped. Raises PhalanxError for a state in
        which an entry is missing, has a wrong size or is not finite."""
        values = self._values
        for part, read in self._parts:
            values[part] = previous_action if read is None else read(state)
        if not math.isfinite(values.dot(values)):
            self._name_what_is_not_finite()
        np.subtract(values, self._offset, out=values)
        np.multiply(values, self._scale, out=values)
        np.maximum(values, self._low, out=values)
        np.minimum(values, self._high, out=values)
        return values.astype(np.float32)

    def _name_what_is_not_finite(self) -> None:
        for term, (part, _) in zip(self._about.terms, self._parts, strict=True):
            given = self._values[part]
            if not np.isfinite(given).all():
                raise PhalanxError(
                    f"robot state: {term.name} is {given.tolist()}; it must be finite"
                )


def reader(term: Term, joints: list[str]) -> Reader:
    """A function that takes a term's values from a robot's state. It raises PhalanxError for an
    entry that is missing or has a wrong size."""
    computed = _computed(term, joints)
    if term.name in ("joint_pos", "joint_vel", "command"):
        return computed
    name, size, what = term.name, term.size, f"robot state: {term.name}"

    def values(state: RobotState) -> Any:
        return _vector(state[name], size, what) if name in state else computed(state)

    return values


def _computed(term: Term, joints: list[str]) -> Reader:
    if term.quantity in ("joint_pos", "joint_vel", "command"):
        return _by_name(term, joints)
    if term.quantity in _FROM_QUAT:
        return _from_quat(term)
    if term.quantity in ("base_height", "base_lin_vel", "base_ang_vel", "base_quat"):
        return _measured(term)
    return lambda state: _vector(
        _entry(state, term.name, term), term.size, f"robot state: {term.name}"
    )


def _by_name(term: Term, joints: list[str]) -> Reader:
    quantity, elements = term.quantity, list(term.elements)
    noun = "command" if quantity == "command" else "joint"
    order = elements if quantity == "command" else joints
    picks = np.array([order.index(e) for e in elements if e in order], int)
    chosen: Callable[[Any], Any] = itemgetter(*elements)
    what = f"robot state: {quantity}"

    def values(state: RobotState) -> Array:
        given = state[quantity] if quantity in state else _entry(state, quantity, term)
        if isinstance(given, np.ndarray) or not isinstance(given, Mapping):
            if len(picks) < len(elements):
                raise PhalanxError(
                    f"{what}: the policy's metadata does not list all {noun}s of the term"
                    f" {term.name!r}; give them by name"
                )
            return _vector(given, len(order), what)[picks]
        try:
            return _vector(chosen(given), len(elements), what)
        except KeyError:
            missing = [e for e in elements if e not in given]
            raise PhalanxError(
                f"{what} is missing the {noun}{'s' * (len(missing) > 1)}"
                f" {', '.join(missing)}{did_you_mean(missing[0], given)}; it has:"
                f" {', '.join(map(str, given)) or 'none'}"
            ) from None

    return values


def _measured(term: Term) -> Reader:
    quantity = term.quantity
    axes = [QUANTITIES[quantity][0].index(e) for e in term.elements]
    count, what = len(QUANTITIES[quantity][0]), f"robot state: {quantity}"

    def values(state: RobotState) -> Array:
        given = state[quantity] if quantity in state else _entry(state, quantity, term)
        return _vector(given, count, what)[axes]

    return values


def _from_quat(term: Term) -> Reader:
    quantity, derive = term.quantity, _FROM_QUAT[term.quantity]
    axes = [QUANTITIES[quantity][0].index(e) for e in term.elements]
    count, what = len(QUANTITIES[quantity][0]), f"robot state: {quantity}"

    def values(state: RobotState) -> list[float]:
        if quantity in state:
            derived = _vector(state[quantity], count, what).tolist()
        else:
            quat = _vector(_entry(state, "base_quat", term), 4, "robot state: base_quat")
            norm = math.sqrt(quat.dot(quat))
            if not 0.9 < norm < 1.1:
                raise PhalanxError(
                    f"robot state: base_quat is {quat.tolist()}, of length {norm:.3g}; it must be a"
                    " unit quaternion w, x, y, z"
                )
            derived = derive(*(quat / norm).tolist())
        return [derived[axis] for axis in axes]

    return values


def _entry(state: RobotState, key: str, term: Term) -> Any:
    if key not in state:
        unit = f" [{term.unit}]" if term.unit else ""
        own = "" if key == term.name else f" or the term {term.name!r} itself, {term.size}{unit}"
        size = f" ({term.size} numbers{unit})" if key == term.name else ""
        raise PhalanxError(
            f"the robot state has no {key!r}{size}{own}{did_you_mean(key, state)}; it has:"
            f" {', '.join(state) or 'nothing'}"
        )
    return state[key]


def _vector(values: Any, size: int, what: str) -> Array:
    if isinstance(values, np.ndarray) and values.shape == (size,) and values.dtype.kind == "f":
        return values
    try:
        vector = np.asarray(values, np.float64)
    except (TypeError, ValueError, OverflowError) as error:
        raise PhalanxError(f"{what} is {values!r}; it must be {size} numbers") from error
    if vector.size != size:
        raise PhalanxError(f"{what} has {vector.size} numbers; it must have {size}")
    return vector if vector.ndim == 1 else vector.reshape(-1)


def _gravity(w: float, x: float, y: float, z: float) -> tuple[float, ...]:
    return -2 * (x * z - w * y), -2 * (y * z + w * x), 2 * (x * x + y * y) - 1


def _roll(w: float, x: float, y: float, z: float) -> tuple[float, ...]:
    return (math.atan2(2 * (y * z + w * x), 1 - 2 * (x * x + y * y)),)


def _pitch(w: float, x: float, y: float, z: float) -> tuple[float, ...]:
    return (math.asin(min(1.0, max(-1.0, 2 * (w * y - x * z)))),)


def _yaw(w: float, x: float, y: float, z: float) -> tuple[float, ...]:
    return (math.atan2(2 * (x * y + w * z), 1 - 2 * (y * y + z * z)),)


_FROM_QUAT: dict[str, Callable[..., tuple[float, ...]]] = {
    "projected_gravity": _gravity,
    "roll": _roll,
    "pitch": _pitch,
    "yaw": _yaw,
}
