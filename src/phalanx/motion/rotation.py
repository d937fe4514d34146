"""Unit quaternions (w, x, y, z) as NumPy arrays (..., 4), with MuJoCo's convention."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]


def multiply(a: Array, b: Array) -> Array:
    """The Hamilton product a b, (..., 4): rotates by b first, then by a."""
    aw, ax, ay, az = np.moveaxis(a, -1, 0)
    bw, bx, by, bz = np.moveaxis(b, -1, 0)
    return np.stack(
        [
            aw * bw - ax * bx - ay * by - az * bz,
            aw * bx + ax * bw + ay * bz - az * by,
            aw * by - ax * bz + ay * bw + az * bx,
            aw * bz + ax * by - ay * bx + az * bw,
        ],
        axis=-1,
    )


def conjugate(q: Array) -> Array:
    """The inverse rotation, (..., 4)."""
    return q * np.array([1.0, -1.0, -1.0, -1.0])


def rotate(q: Array, v: Array) -> Array:
    """Vectors v (..., 3) rotated by q (..., 4)."""
    w, u = q[..., :1], q[..., 1:]
    t = 2 * np.cross(u, v)
    return v + w * t + np.cross(u, t)


def about(axis: Array, angle: Array | float) -> Array:
    """The rotation (..., 4) by `angle` [rad], (...), about the unit vector `axis`, (..., 3)."""
    half = np.asarray(angle, float)[..., None] / 2
    return np.concatenate([np.cos(half), np.sin(half) * axis], axis=-1)


def rotation_vector(q: Array) -> Array:
    """Axis times angle [rad], (..., 3), with angles up to pi."""
    q = np.where(q[..., :1] < 0, -q, q)
    sine = np.linalg.norm(q[..., 1:], axis=-1, keepdims=True)
    angle = 2 * np.arctan2(sine, q[..., :1])
    # for tiny angles sin(a / 2) = a / 2
    return q[..., 1:] * np.where(sine > 1e-12, angle / np.maximum(sine, 1e-12), 2.0)


def shortest_arc(a: Array, b: Array) -> Array:
    """The smallest rotation that takes the direction of `a` to that of `b`, (..., 3) each."""
    a = a / np.linalg.norm(a, axis=-1, keepdims=True)
    b = b / np.linalg.norm(b, axis=-1, keepdims=True)
    w = 1 + np.sum(a * b, axis=-1, keepdims=True)
    # opposite directions: half a turn about any orthogonal axis
    across = np.cross(a, np.where(np.abs(a[..., :1]) < 0.9, [1.0, 0, 0], [0, 1.0, 0]))
    half_turn = np.concatenate([0 * w, across], -1)
    q = np.where(w > 1e-9, np.concatenate([w, np.cross(a, b)], -1), half_turn)
    return q / np.linalg.norm(q, axis=-1, keepdims=True)


def twist_angle(q: Array, axis: Array) -> Array:
    """The twist of q (..., 4) about the unit vector `axis` (..., 3) [rad], (...), -pi to pi.

    It is the rotation about that axis that is closest to `q`."""
    return _half_turns(2 * np.arctan2(np.sum(q[..., 1:] * axis, axis=-1), q[..., 0]))


def _half_turns(angle: Array) -> Array:
    return (angle + np.pi) % (2 * np.pi) - np.pi


def matrix(q: Array) -> Array:
    """Rotation matrices (..., 3, 3) of q (..., 4)."""
    return np.stack([rotate(q, e) for e in np.eye(3)], axis=-1)


def hinge_angles(q: Array, axes: Array, limits: Array) -> Array:
    """Angles (T, H) [rad] of a body's H hinges in series that give it the rotation `q`, (T, 4).

    axes: (H, 3), orthogonal unit vectors in the body's frame, in MuJoCo's order: the first hinge is
    nearest to the parent, so q = turn(axes[0]) turn(axes[1]) turn(axes[2]). limits: (H, 2) [rad].
    Exact for three hinges; one or two hinges take the part of `q` that they can produce.

    Three hinges can produce a rotation in two ways, which coincide where the middle hinge is at 90
    degrees. The sequence with the least motion and the smallest violation of `limits` is chosen.
    Angles do not jump by whole turns.
    """
    if len(axes) == 1:
        return _nearest_turn(np.unwrap(twist_angle(q, axes[0]))[:, None], limits)
    third = np.cross(axes[0], axes[1])
    sign = 1.0 if len(axes) == 2 else float(np.sign(axes[2] @ third))
    basis = np.stack([axes[0], axes[1], third], axis=-1)
    m = basis.T @ matrix(q) @ basis  # = Rx(a) Ry(b) Rz(c)
    b = np.arctan2(m[:, 0, 2], np.hypot(m[:, 0, 0], m[:, 0, 1]))
    a = np.arctan2(-m[:, 1, 2], m[:, 2, 2])
    c = np.arctan2(-m[:, 0, 1], m[:, 0, 0])
    total = np.arctan2(m[:, 1, 0], m[:, 1, 1])
    locked = np.abs(np.cos(b)) < 1e-6
    for t in np.flatnonzero(locked[1:]) + 1:  # gimbal lock: only the last hinge moves
        a[t] = a[t - 1]
        c[t] = total[t] - a[t] if b[t] > 0 else total[t] + a[t]
    ways = np.stack([[a, b, c], [a + np.pi, np.pi - b, c + np.pi]]).transpose(2, 0, 1)  # (T, 2, 3)
    ways = (ways * [1.0, 1.0, sign])[..., : len(axes)]
    angles = ways[np.arange(len(q)), _best_way(ways, limits)]
    return _nearest_turn(np.unwrap(angles, axis=0), limits)


def _best_way(ways: Array, limits: Array) -> Array:
    """Which of two `ways`, (T, 2, H) [rad], to take in each frame, (T,). Minimises the sum of
    squared steps and of squared angles beyond `limits`, by dynamic programming."""
    near = _middle(limits) + _half_turns(ways - _middle(limits))
    over = np.maximum(np.maximum(limits[:, 0] - near, near - limits[:, 1]), 0.0)
    over = np.sum(over**2, axis=-1)  # (T, 2)
    step = _half_turns(ways[1:, :, None] - ways[:-1, None, :])
    step = np.sum(step**2, axis=-1)  # (T - 1, 2 to, 2 from)
    cost, origin = over[0], np.zeros((len(ways), 2), int)
    for t in range(1, len(ways)):
        sums = cost + step[t - 1]
        origin[t] = np.argmin(sums, axis=-1)
        cost = over[t] + np.min(sums, axis=-1)
    way = np.empty(len(ways), int)
    way[-1] = np.argmin(cost)
    for t in range(len(ways) - 1, 0, -1):
        way[t - 1] = origin[t, way[t]]
    return way


def _middle(limits: Array) -> Array:
    return np.where(np.isfinite(limits), limits, 0.0).mean(axis=1)


def _nearest_turn(angles: Array, limits: Array) -> Array:
    """Angles shifted by whole turns, so that each median is closest to the middle of its range."""
    away = np.median(angles, axis=0) - _middle(limits)
    return angles - 2 * np.pi * np.round(away / (2 * np.pi))
