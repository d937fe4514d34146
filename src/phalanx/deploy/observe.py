"""A term's value from what a robot knows of itself; the words are those of `phalanx.layout`.

The state is a dictionary. Its entries, of which only those are needed that the policy's terms use:

    base_quat       4   w, x, y, z, base to world
    base_ang_vel    3   rad/s, base frame
    base_lin_vel    3   m/s, base frame
    base_height     1   m
    joint_pos           m or rad: {joint: value}, or all joints in the metadata's order
    joint_vel           m/s or rad/s, likewise
    command             {name: value}

An entry that has a term's own name is taken as it is. That is how custom terms come in, and how an
IMU that gives roll and pitch itself does without base_quat.
"""

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from phalanx.errors import PhalanxError, did_you_mean
from phalanx.layout import QUANTITIES, Term

Array = NDArray[np.float64]
RobotState = Mapping[str, Any]


def reader(term: Term, joints: list[str]) -> Callable[[RobotState], Array]:
    """What gives (term.size,) values, not yet scaled, from a robot's state. `joints` are all of
    the robot's, in order. The function raises PhalanxError for a state that lacks something or has
    a wrong size."""
    computed = _computed(term, joints)

    def values(state: RobotState) -> Array:
        if term.name in state and term.name not in ("joint_pos", "joint_vel", "command"):
            return _vector(state[term.name], term.size, f"robot state: {term.name}")
        return computed(state)

    return values


def _computed(term: Term, joints: list[str]) -> Callable[[RobotState], Array]:
    quantity, elements = term.quantity, list(term.elements)
    if quantity in ("joint_pos", "joint_vel", "command"):
        order = joints if quantity != "command" else elements
        picks = np.array([order.index(e) for e in elements if e in order])
        what = "joint" if quantity != "command" else "command"

        def named(state: RobotState) -> Array:
            given = _entry(state, quantity, term)
            if not isinstance(given, Mapping):
                return _vector(given, len(order), f"robot state: {quantity}")[picks]
            try:
                chosen = [given[e] for e in elements]
            except KeyError:
                missing = [e for e in elements if e not in given]
                raise PhalanxError(
                    f"robot state: {quantity} lacks the {what}{'s' * (len(missing) > 1)}"
                    f" {', '.join(missing)}{did_you_mean(missing[0], given)}; it has:"
                    f" {', '.join(map(str, given)) or 'none'}"
                ) from None
            return _vector(chosen, len(elements), f"robot state: {quantity}")

        return named
    axes = np.array([QUANTITIES[quantity][0].index(e) for e in elements if QUANTITIES[quantity][0]])
    if quantity in _FROM_QUAT:
        derive = _FROM_QUAT[quantity]

        def rotated(state: RobotState) -> Array:
            if quantity in state:
                return _vector(state[quantity], len(QUANTITIES[quantity][0]), quantity)[axes]
            quat = _vector(_entry(state, "base_quat", term), 4, "robot state: base_quat")
            norm = math.sqrt(quat.dot(quat))
            if not 0.9 < norm < 1.1:
                raise PhalanxError(
                    f"robot state: base_quat is {quat.tolist()}, of length {norm:.3g}; it must be a"
                    " rotation, w, x, y, z of length 1"
                )
            return derive(quat / norm)[axes]

        return rotated
    if quantity in ("base_height", "base_lin_vel", "base_ang_vel", "base_quat"):
        count = len(QUANTITIES[quantity][0])

        def measured(state: RobotState) -> Array:
            given = _entry(state, quantity, term)
            return _vector(given, count, f"robot state: {quantity}")[axes]

        return measured

    def custom(state: RobotState) -> Array:
        return _vector(_entry(state, term.name, term), term.size, f"robot state: {term.name}")

    return custom


def _entry(state: RobotState, key: str, term: Term) -> Any:
    if key not in state:
        unit = f" [{term.unit}]" if term.unit else ""
        own = "" if key == term.name else f" or the term {term.name!r} itself, {term.size}{unit}"
        size = f" ({term.size} numbers{unit})" if key == term.name else ""
        raise PhalanxError(
            f"the robot state lacks {key!r}{size}{own}{did_you_mean(key, state)}; it has:"
            f" {', '.join(state) or 'nothing'}"
        )
    return state[key]


def _vector(values: Any, size: int, what: str) -> Array:
    try:
        vector = np.asarray(values, np.float64)
    except (TypeError, ValueError) as error:
        raise PhalanxError(f"{what} is {values!r}, it must be {size} numbers") from error
    if vector.size != size:
        raise PhalanxError(f"{what} has {vector.size} numbers, it must have {size}")
    return vector if vector.ndim == 1 else vector.reshape(-1)


def _gravity(q: Array) -> Array:
    w, x, y, z = q
    return -np.array([2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)])


def _roll(q: Array) -> Array:
    w, x, y, z = q
    return np.array([math.atan2(2 * (y * z + w * x), 1 - 2 * (x * x + y * y))])


def _pitch(q: Array) -> Array:
    w, x, y, z = q
    return np.array([math.asin(min(1.0, max(-1.0, 2 * (w * y - x * z))))])


def _yaw(q: Array) -> Array:
    w, x, y, z = q
    return np.array([math.atan2(2 * (x * y + w * z), 1 - 2 * (y * y + z * z))])


_FROM_QUAT = {"projected_gravity": _gravity, "roll": _roll, "pitch": _pitch, "yaw": _yaw}
