"""Rotations and small helpers on PyTorch tensors, for `from isaacgym.torch_utils import *`.

Quaternions are x, y, z, w in the last dimension. Every function that takes tensors can be called
inside `@torch.jit.script`. The star import also gives `np` and `torch`, on which programs rely.
"""

import math
from typing import Any

import numpy as np
import torch


def to_torch(
    x: Any,
    dtype: torch.dtype = torch.float,
    device: str | torch.device = "cuda:0",
    requires_grad: bool = False,
) -> torch.Tensor:
    """A new tensor with the values of `x`: nested numbers, an array or a tensor."""
    if isinstance(x, torch.Tensor):  # torch.tensor would warn
        return x.detach().clone().to(device, dtype).requires_grad_(requires_grad)
    return torch.tensor(x, dtype=dtype, device=device, requires_grad=requires_grad)


def quat_mul(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """Hamilton product a b, (..., 4) of equal shapes: the rotation b, then a."""
    assert a.shape == b.shape
    ax, ay, az, aw = a[..., 0], a[..., 1], a[..., 2], a[..., 3]
    bx, by, bz, bw = b[..., 0], b[..., 1], b[..., 2], b[..., 3]
    x = aw * bx + ax * bw + ay * bz - az * by
    y = aw * by - ax * bz + ay * bw + az * bx
    z = aw * bz + ax * by - ay * bx + az * bw
    w = aw * bw - ax * bx - ay * by - az * bz
    return torch.stack([x, y, z, w], dim=-1)


def normalize(x: torch.Tensor, eps: float = 1e-9) -> torch.Tensor:
    """x / max(|x|, eps) along the last dimension, (..., n)."""
    return x / x.norm(p=2, dim=-1, keepdim=True).clamp(min=eps)


def quat_unit(a: torch.Tensor) -> torch.Tensor:
    """The unit quaternion of the same direction, (..., 4)."""
    return normalize(a)


def quat_conjugate(a: torch.Tensor) -> torch.Tensor:
    """(-x, -y, -z, w), (..., 4): the inverse of a unit quaternion."""
    return torch.cat([-a[..., :3], a[..., 3:]], dim=-1)


def quat_apply(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """Vectors b (..., 3) turned by quaternions a (..., 4) with the same leading dimensions; returns
    the shape of b."""
    q = a.reshape(-1, 4)
    v = b.reshape(-1, 3)
    u = q[:, :3]
    t = 2.0 * torch.cross(u, v, dim=-1)
    return (v + q[:, 3:] * t + torch.cross(u, t, dim=-1)).view(b.shape)


def quat_rotate(q: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
    """R(q) v for q (N, 4) of unit length and v (N, 3)."""
    u = q[:, :3]
    w = q[:, 3:]
    along = (u * v).sum(dim=-1, keepdim=True)
    return v * (2.0 * w * w - 1.0) + 2.0 * w * torch.cross(u, v, dim=-1) + 2.0 * along * u


def quat_rotate_inverse(q: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
    """R(q)^T v for q (N, 4) of unit length and v (N, 3): world to body."""
    u = q[:, :3]
    w = q[:, 3:]
    along = (u * v).sum(dim=-1, keepdim=True)
    return v * (2.0 * w * w - 1.0) - 2.0 * w * torch.cross(u, v, dim=-1) + 2.0 * along * u


def quat_from_angle_axis(angle: torch.Tensor, axis: torch.Tensor) -> torch.Tensor:
    """Unit quaternions (N, 4) for turns by angle (N,) [rad] about axis (N, 3) of any length."""
    half = 0.5 * angle.unsqueeze(-1)
    return quat_unit(torch.cat([normalize(axis) * half.sin(), half.cos()], dim=-1))


def quat_from_euler_xyz(roll: torch.Tensor, pitch: torch.Tensor, yaw: torch.Tensor) -> torch.Tensor:
    """Quaternions (..., 4) of Rz(yaw) Ry(pitch) Rx(roll), angles [rad] of equal shapes (...)."""
    cr, sr = torch.cos(0.5 * roll), torch.sin(0.5 * roll)
    cp, sp = torch.cos(0.5 * pitch), torch.sin(0.5 * pitch)
    cy, sy = torch.cos(0.5 * yaw), torch.sin(0.5 * yaw)
    x = sr * cp * cy - cr * sp * sy
    y = cr * sp * cy + sr * cp * sy
    z = cr * cp * sy - sr * sp * cy
    w = cr * cp * cy + sr * sp * sy
    return torch.stack([x, y, z, w], dim=-1)


def get_euler_xyz(q: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """(roll, pitch, yaw), (N,) each in 0 .. 2 pi, of q = Rz(yaw) Ry(pitch) Rx(roll), (N, 4)."""
    x, y, z, w = q[:, 0], q[:, 1], q[:, 2], q[:, 3]
    roll = torch.atan2(2.0 * (w * x + y * z), w * w - x * x - y * y + z * z)
    pitch = torch.asin(torch.clamp(2.0 * (w * y - z * x), -1.0, 1.0))
    yaw = torch.atan2(2.0 * (w * z + x * y), w * w + x * x - y * y - z * z)
    return roll % (2.0 * math.pi), pitch % (2.0 * math.pi), yaw % (2.0 * math.pi)


def normalize_angle(x: torch.Tensor) -> torch.Tensor:
    """The same angles [rad] within -pi .. pi."""
    return torch.atan2(torch.sin(x), torch.cos(x))


def copysign(a: float, b: torch.Tensor) -> torch.Tensor:
    """|a| with the signs of b, (N,); zero where b is zero."""
    return abs(a) * torch.sign(b)


def tf_inverse(q: torch.Tensor, t: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The transform that undoes (q, t)."""
    q_inv = quat_conjugate(q)
    return q_inv, -quat_apply(q_inv, t)


def tf_apply(q: torch.Tensor, t: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
    """R(q) v + t: points v moved by the transform (q, t)."""
    return quat_apply(q, v) + t


def tf_vector(q: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
    """R(q) v."""
    return quat_apply(q, v)


def tf_combine(
    q1: torch.Tensor, t1: torch.Tensor, q2: torch.Tensor, t2: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """(q1, t1) after (q2, t2)."""
    return quat_mul(q1, q2), quat_apply(q1, t2) + t1


def get_basis_vector(q: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
    """R(q) v."""
    return quat_rotate(q, v)


def get_axis_params(
    value: float, axis_idx: int, x_value: float = 0.0, dtype: Any = float, n_dims: int = 3
) -> list:
    """A vector as a list: `value` at `axis_idx`, then `x_value` at 0, zeros elsewhere."""
    vector = np.zeros(n_dims)
    vector[axis_idx] = value
    vector[0] = x_value
    return list(vector.astype(dtype))


def torch_rand_float(
    lower: float, upper: float, shape: tuple[int, int], device: str
) -> torch.Tensor:
    """Uniform random numbers within lower .. upper, of `shape`."""
    return (upper - lower) * torch.rand(shape[0], shape[1], device=device) + lower


def torch_random_dir_2(shape: tuple[int, int], device: str) -> torch.Tensor:
    """Random unit vectors in the plane, (n, 2), for shape (n, 1)."""
    angle = torch_rand_float(-math.pi, math.pi, shape, device).squeeze(-1)
    return torch.stack([torch.cos(angle), torch.sin(angle)], dim=-1)


def tensor_clamp(t: torch.Tensor, min_t: torch.Tensor, max_t: torch.Tensor) -> torch.Tensor:
    """t within min_t .. max_t, elementwise."""
    return torch.max(torch.min(t, max_t), min_t)


def scale(x: torch.Tensor, lower: torch.Tensor, upper: torch.Tensor) -> torch.Tensor:
    """x from -1 .. 1 to lower .. upper."""
    return 0.5 * (x + 1.0) * (upper - lower) + lower


def unscale(x: torch.Tensor, lower: torch.Tensor, upper: torch.Tensor) -> torch.Tensor:
    """x from lower .. upper to -1 .. 1."""
    return (2.0 * x - upper - lower) / (upper - lower)


def unscale_np(x: np.ndarray, lower: np.ndarray, upper: np.ndarray) -> np.ndarray:
    """`unscale` for NumPy arrays."""
    return (2.0 * x - upper - lower) / (upper - lower)
