"""Height fields and meshes of the ground, for the contact points of actors.

MuJoCo treats a height field as thousands of prisms. That is slow, and the sides of the prisms push
bodies sideways that are two centimetres deep in the ground. Here each contact point
(`contact_points.py`) has a plane of its own and touches nothing else of the ground. Before every
`simulate` the plane is moved onto the triangle of the ground under its point, or above it if the
point is in the ground.

The ground is continuous, so the depth of a moving point is continuous too. On slopes of up to 26
degrees a sphere touches the ground where a sphere would. Steeper slopes are walls, which it touches
with its lowest point. Spheres larger than a cell also look for walls around them.

Shapes are fixed and nothing waits for the device, so this can be part of a captured graph.
"""

import math

import numpy as np
import torch
from torch import Tensor

from isaacgym.ground import Ground
from isaacgym.layout import Layout
from phalanx.sim import Sim as EngineSim

FAR = 1e3  # [m] distance of a plane that is out of reach
DEEPEST = 0.05  # [m] largest depth below a plane, from which a point emerges at 1.3 m/s
ROUND_UNTIL = 0.9  # cosine of the steepest slope that is not a wall
AROUND = math.radians(50)  # from a sphere's lowest point to the ones that look for walls


class Terrain:
    """The planes of all environments. radius: of the contact points, (N, P) [m]."""

    def __init__(
        self, grounds: list[Ground], layout: Layout, engine: EngineSim, radius: np.ndarray
    ) -> None:
        self._engine = engine
        device = engine.device
        size = (engine.num_envs, radius.shape[1])
        self.radius = torch.tensor(radius, dtype=torch.float32, device=device).expand(size).clone()
        self._points = torch.as_tensor(layout.point_geoms, device=device)
        self._pieces = [Piece(g, device, radius.max(0)) for g in grounds if g.kind != "plane"]
        self._xpos = engine.geom_xpos
        self._planes = layout.plane_geoms
        self._kind = ""
        self._pos: Tensor
        self._turn: Tensor
        self.follow_engine()

    def follow_engine(self) -> None:
        """Take the fields that decide where the planes are in the kind of engine that steps now:
        "auto" may have left the fused one since the last call."""
        engine, planes = self._engine, self._planes
        if self._kind == engine.engine.name:
            return
        self._kind = engine.engine.name
        self._pos = engine.model_field("geom_pos", by_torch=True)[:, planes]
        self._turn = engine.model_field("geom_quat", by_torch=True)[:, planes]

    def move_planes(self) -> None:
        """Move each plane under its contact point. Derived fields must be current. Environments
        that diverged in the last step have no planes for one step."""
        lost = self._engine.diverged[:, None]
        centre = torch.where(lost[..., None], 0.0, self._xpos[:, self._points])
        gap, normal = self._pieces[0].below(centre, self.radius)
        for piece in self._pieces[1:]:
            gap, normal = _nearer(gap, normal, *piece.below(centre, self.radius))
        gap = torch.where(lost, FAR, gap.clamp_min(-DEEPEST)) + self.radius
        self._pos.copy_(centre - gap[..., None] * normal)
        self._turn.copy_(_quaternion(normal))


class Piece:
    """One height field on the device. radius: the largest of each contact point, (P,) [m]."""

    def __init__(self, ground: Ground, device: torch.device, radius: np.ndarray) -> None:
        assert ground.heights is not None

        def tensor(values: object) -> Tensor:
            return torch.tensor(np.array(values), dtype=torch.float32, device=device)

        p, r = ground.params.transform.p, ground.params.transform.r
        self._nx, self._ny = ground.heights.shape
        self._dx, self._dy = ground.cell
        self._heights = tensor(ground.heights.flatten())
        self._origin, self._corner = tensor([*p]), tensor(ground.corner)
        axes = np.array([[*r.rotate(type(p)(*axis))] for axis in np.eye(3).tolist()])
        self._axes = tensor(axes)  # a row each
        self._turned = bool((axes != np.eye(3)).any())
        large = np.flatnonzero(radius > min(ground.cell))
        self._large = torch.as_tensor(large, device=device)
        angles = np.arange(8) * np.pi / 4
        out, down = np.sin(AROUND), np.full(8, -np.cos(AROUND))
        self._around = tensor(np.stack([out * np.cos(angles), out * np.sin(angles), down], 1))

    def below(self, centre: Tensor, radius: Tensor) -> tuple[Tensor, Tensor]:
        """Distances (N, P) [m] of spheres from their planes, and the normals (N, P, 3) of those.
        centre: (N, P, 3) [m]; radius: (N, P) [m]. Distances are negative below the ground and `FAR`
        where there is none."""
        place = centre - self._origin
        if self._turned:  # no matrix product: a GPU may round it to three digits
            place = (place[..., None, :] * self._axes).sum(-1)
        place = place - self._corner
        gap, normal = self._triangle(place)
        gap = gap - radius * (normal[..., 2] / ROUND_UNTIL).clamp_max(1)
        if len(self._large):
            around = place[:, self._large, None] + radius[:, self._large, None, None] * self._around
            gaps, normals = self._triangle(around)  # (N, large, 8)
            least, k = gaps.min(-1)
            chosen = normals.gather(2, k[..., None, None].expand(-1, -1, 1, 3))[:, :, 0]
            new = _nearer(gap[:, self._large], normal[:, self._large], least, chosen)
            gap = gap.index_copy(1, self._large, new[0])
            normal = normal.index_copy(1, self._large, new[1])
        if self._turned:
            normal = (normal[..., None] * self._axes).sum(-2)
        return gap, normal

    def _triangle(self, place: Tensor) -> tuple[Tensor, Tensor]:
        """Distances (...) of points (..., 3) from the plane of the triangle below or above them,
        and its normals (..., 3). A cell is cut along the same diagonal as in
        `terrain_utils.convert_heightfield_to_trimesh`."""
        u, v = place[..., 0] / self._dx, place[..., 1] / self._dy
        i, j = u.floor().clamp(0, self._nx - 2), v.floor().clamp(0, self._ny - 2)
        u, v = u - i, v - j
        at = i.long() * self._ny + j.long()
        h00, h10 = self._heights[at], self._heights[at + self._ny]
        h01, h11 = self._heights[at + 1], self._heights[at + self._ny + 1]
        first = u >= v
        along_x = torch.where(first, h10 - h00, h11 - h01)
        along_y = torch.where(first, h11 - h10, h01 - h00)
        normal = torch.stack([-along_x / self._dx, -along_y / self._dy, torch.ones_like(u)], -1)
        normal = normal / torch.linalg.vector_norm(normal, dim=-1, keepdim=True)
        gap = (place[..., 2] - (h00 + u * along_x + v * along_y)) * normal[..., 2]
        inside = (u >= 0) & (u <= 1) & (v >= 0) & (v <= 1)
        return torch.where(inside, gap, FAR), normal


def _nearer(
    gap: Tensor, normal: Tensor, other_gap: Tensor, other_normal: Tensor
) -> tuple[Tensor, Tensor]:
    other = other_gap < gap
    return torch.where(other, other_gap, gap), torch.where(other[..., None], other_normal, normal)


def _quaternion(normal: Tensor) -> Tensor:
    """Quaternions (..., 4), w x y z, that turn z into normals (..., 3)."""
    x, y, z = normal.unbind(-1)
    w = ((1 + z) / 2).clamp_min(1e-6).sqrt()
    return torch.stack([w, -y / (2 * w), x / (2 * w), torch.zeros_like(w)], -1)
