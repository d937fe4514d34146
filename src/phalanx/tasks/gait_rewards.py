"""Terms of the reward of robots that walk. Pure functions on tensors: N environments, F feet, J
joints. Each returns (N,), without its weight; costs are positive, their weights negative.
"""

import math

import torch
from torch import Tensor

from phalanx.errors import PhalanxError


def _check_feet(values: Tensor, others: Tensor, name: str, other: str) -> None:
    """Raise PhalanxError unless both are of the same feet, (N, F)."""
    if values.shape != others.shape:
        raise PhalanxError(
            f"{name} is {tuple(values.shape)}, but {other} is {tuple(others.shape)}; both must have"
            " a number for each foot, (N, F), as a gait clock has with an offset for each"
        )


def tracking(wanted: Tensor, actual: Tensor, width: float) -> Tensor:
    """1 where a velocity (N, D) is as wanted, falling as exp(-error^2 / width^2); width in their
    unit."""
    return torch.exp(-(wanted - actual).square().sum(1) / width**2)


def tilt(gravity_b: Tensor, slope: Tensor) -> Tensor:
    """(N,) squared sine of the angle between a base's z axis and the normal of the ground.
    gravity_b: its direction in the base's frame, (N, 3); slope: rise per run of the ground along
    the base's yaw and to its left, (N, 2)."""
    x, y, z = gravity_b.unbind(1)
    level = (1 - x.square()).clamp_min(1e-6).sqrt()  # cosine of the pitch
    # the base's z axis, in the frame of its yaw
    axis = torch.stack([-x * z / level, y / level, -z], 1)
    along = axis[:, 2] - (slope * axis[:, :2]).sum(1)
    return 1 - along.square() / (1 + slope.square().sum(1))


def squared(values: Tensor) -> Tensor:
    """Sum of squares of (N, K), in their unit squared."""
    return values.square().sum(1)


def power(torque: Tensor, joint_vel: Tensor) -> Tensor:
    """Sum of |torque [N m] x velocity [rad/s]| of the joints, (N, J) each [W]."""
    return (torque * joint_vel).abs().sum(1)


def beyond(pos: Tensor, low: Tensor, high: Tensor) -> Tensor:
    """How far joints (N, J) are outside of `low` .. `high` (J,) [rad], summed."""
    return ((low - pos).clamp(min=0) + (pos - high).clamp(min=0)).sum(1)


def in_step(contact: Tensor, swing: Tensor) -> Tensor:
    """Share of feet that touch the ground where they should stand, and do not where they should
    swing; contact (N, F) bool, swing (N, F) from `GaitClock.swing`."""
    _check_feet(contact, swing, "contact", "swing")
    return (contact == (swing == 0)).float().mean(1)


def swing_height(height: Tensor, swing: Tensor, wanted: Tensor | float) -> Tensor:
    """1 for each foot that swings at the height of half a sine wave of amplitude `wanted` [m], or
    (N, F), less above and below, with a width of half of that; summed. height (N, F) [m], swing
    (N, F) from `GaitClock.swing`."""
    _check_feet(height, swing, "height", "swing")
    off = (height - wanted * torch.sin(math.pi * swing)) / (0.5 * wanted)
    return (torch.exp(-off.square()) * (swing > 0)).sum(1)


def air_time(time: Tensor, landed: Tensor, least: float) -> Tensor:
    """How much longer than `least` [s] the feet that land in this step were in the air, summed;
    time (N, F) [s], landed (N, F) bool. Source: legged_gym (arXiv:2109.11978)."""
    _check_feet(time, landed, "time", "landed")
    return ((time - least) * landed).sum(1)


def foot_clearance(height: Tensor, speed: Tensor, wanted: float) -> Tensor:
    """Distance of the feet from the height `wanted` [m] times their horizontal speed, summed
    [m^2/s]; (N, F) each. Source: mjlab's `feet_clearance`."""
    _check_feet(height, speed, "height", "speed")
    return ((height - wanted).abs() * speed).sum(1)


def slip(speed: Tensor, contact: Tensor) -> Tensor:
    """Squared horizontal speed of feet that touch the ground [m^2/s^2]; (N, F) each."""
    _check_feet(speed, contact, "speed", "contact")
    return (speed.square() * contact).sum(1)
