"""Rotations of vectors on the device. Quaternions are w, x, y, z here, as in MuJoCo."""

import torch
from torch import Tensor


def rotate(quat: Tensor, vector: Tensor) -> Tensor:
    """Vectors (..., 3) turned by unit quaternions (..., 4)."""
    w, axis = quat[..., :1], quat[..., 1:]
    half = torch.linalg.cross(axis, vector).addcmul(w, vector)
    return torch.add(vector, torch.linalg.cross(axis, half), alpha=2)


def rotate_back(quat: Tensor, vector: Tensor) -> Tensor:
    """Vectors (..., 3) turned by the inverse of unit quaternions (..., 4)."""
    w, axis = quat[..., :1], quat[..., 1:]
    half = torch.linalg.cross(axis, vector).addcmul(w, vector, value=-1)
    return torch.add(vector, torch.linalg.cross(axis, half), alpha=2)


def turned(quat: Tensor, angle: Tensor) -> Tensor:
    """Unit quaternions (..., 4) turned by small rotation vectors (..., 3) in body axes [rad]."""
    w, axis, half = quat[..., :1], quat[..., 1:], angle / 2
    real = w - (axis * half).sum(-1, keepdim=True)
    new = torch.cat([real, axis + w * half + torch.linalg.cross(axis, half)], -1)
    return new / torch.linalg.vector_norm(new, dim=-1, keepdim=True)


def matrix(quat: Tensor) -> Tensor:
    """Rotation matrices (..., 3, 3) of unit quaternions (..., 4)."""
    axes = torch.eye(3, device=quat.device)
    return torch.stack([rotate(quat, axis.expand(*quat.shape[:-1], 3)) for axis in axes], -1)
