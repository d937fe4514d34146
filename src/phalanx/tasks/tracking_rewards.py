"""Terms of the reward of robots that follow a motion, of their bodies and of the reference's. N
environments, B bodies; each returns (N,), without its weight. Source: BeyondMimic
(arXiv:2508.08241), with the numbers of mjlab 1.6.
"""

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Weights:
    """Weights of the terms of the reward, per second."""

    anchor_pos: float = 0.5
    """exp(-(error / 0.3 m)^2) of the trunk's position."""
    anchor_rot: float = 0.5
    """exp(-(error / 0.4 rad)^2) of the trunk's orientation."""
    body_pos: float = 1.0
    """exp(-(error / 0.3 m)^2) of the bodies' positions, from the trunk's place and heading."""
    body_rot: float = 1.0
    """exp(-(error / 0.4 rad)^2) of the bodies' orientations, from the trunk's heading."""
    body_lin_vel: float = 1.0
    """exp(-(error / 1 m/s)^2) of the bodies' velocities."""
    body_ang_vel: float = 1.0
    """exp(-(error / 3.14 rad/s)^2) of the bodies' rates of rotation."""
    action_rate: float = -0.1
    """Squared change of the actions."""
    at_limit: float = -10.0
    """How far joints are outside of the middle 90 % of their ranges [rad]."""
    undesired_contacts: float = 0.0
    """Bodies other than feet and hands that touch anything with more than 1 N. BeyondMimic's weight
    is -0.1."""


def near(squared_error: Tensor, width: float) -> Tensor:
    """exp(-error / width^2) of squared errors (N,), width in the unit of the error."""
    return torch.exp(-squared_error / width**2)


def distance(a: Tensor, b: Tensor) -> Tensor:
    """Mean over bodies of the squared distance of vectors (N, B, 3), in their unit squared."""
    return (a - b).square().sum(-1).mean(-1)


def angle(a: Tensor, b: Tensor) -> Tensor:
    """Mean over bodies of the squared angle between orientations (N, B, 3, 3) [rad^2]."""
    cosine = ((a * b).sum((-2, -1)) - 1) / 2
    return torch.acos(cosine.clamp(-1, 1)).square().mean(-1)


def moved_to(
    pos: Tensor, mat: Tensor, anchor: int, here_pos: Tensor, here_mat: Tensor
) -> tuple[Tensor, Tensor]:
    """The reference's bodies, pos (N, B, 3) and mat (N, B, 3, 3), moved over the ground and turned
    about the vertical so that its body `anchor` is where the robot's is and faces as that does:
    here_pos (N, 3), here_mat (N, 3, 3). Heights stay."""
    turn = here_mat @ mat[:, anchor].transpose(1, 2)
    yaw = torch.atan2(turn[:, 1, 0] - turn[:, 0, 1], turn[:, 0, 0] + turn[:, 1, 1])
    cos, sin, none = yaw.cos(), yaw.sin(), torch.zeros_like(yaw)
    rows = [cos, -sin, none, sin, cos, none, none, none, torch.ones_like(yaw)]
    about = torch.stack(rows, 1).view(-1, 1, 3, 3)
    middle = torch.cat([here_pos[:, :2], pos[:, anchor, 2:]], 1)
    off = pos - pos[:, anchor, None]
    return middle[:, None] + (about @ off[..., None])[..., 0], about @ mat
