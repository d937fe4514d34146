"""Rangefinders: along the z axis of each site, from fields that the step shows; mj_ray."""

from collections.abc import Callable, Iterator

import mujoco
import numpy as np
import torch
from torch import Tensor

from phalanx.sim.engines.fused.numbers import Fields

NEEDS = ("geom_xpos", "geom_xmat", "site_xpos", "site_xmat")
GEOM = mujoco.mjtGeom
Distances = Callable[[Tensor, Tensor, Tensor], Tensor]
MOST = 2**22
"""Numbers of a tensor with one coordinate of rays in the frames of geoms."""
LEAST = 1e-15
"""mjMINVAL: rays less inclined to a surface than this do not meet it."""


def of(m: mujoco.MjModel) -> np.ndarray:
    """The sensors."""
    disabled = m.opt.disableflags & mujoco.mjtDisableBit.mjDSBL_SENSOR
    kinds = m.sensor_type == mujoco.mjtSensor.mjSENS_RANGEFINDER
    return np.flatnonzero(kinds & (not disabled))


def is_plain(m: mujoco.MjModel, sensor: int) -> bool:
    """Whether it measures nothing but the distance from a site."""
    site = m.sensor_objtype[sensor] == mujoco.mjtObj.mjOBJ_SITE
    only = 1 << int(mujoco.mjtRayDataField.mjRAYDATA_DIST)
    return bool(site and m.sensor_intprm[sensor, 0] == only and m.sensor_dim[sensor] == 1)


def visible(m: mujoco.MjModel) -> np.ndarray:
    """Which geoms rays may meet: those that are not transparent."""
    alpha = m.geom_rgba[:, 3].copy()
    painted = m.geom_matid >= 0
    alpha[painted] = m.mat_rgba[m.geom_matid[painted], 3]
    clear: np.ndarray = alpha == 0
    return ~clear


def unknown(m: mujoco.MjModel) -> int | None:
    """A geom that rays may meet and whose shape is none of `_SHAPES`."""
    for geom in np.flatnonzero(visible(m)):
        if GEOM(int(m.geom_type[geom])) not in _SHAPES:
            return int(geom)
    return None


class Rangefinders:
    """Those of one model on `device`."""

    def __init__(self, m: mujoco.MjModel, device: torch.device) -> None:
        sensors = of(m)
        self._sites = torch.tensor(m.sensor_objid[sensors], dtype=torch.long, device=device)
        self._columns = torch.tensor(m.sensor_adr[sensors], dtype=torch.long, device=device)
        cutoff = np.where(m.sensor_cutoff[sensors] > 0, m.sensor_cutoff[sensors], np.inf)
        self._cutoff = torch.tensor(cutoff, dtype=torch.float32, device=device)
        own, seen = m.site_bodyid[m.sensor_objid[sensors]], visible(m)
        self._geoms: list[tuple[Distances, Tensor, Tensor]] = []
        """Of each shape: its distances, which geoms, and which of them each ray passes."""
        for kind, distances in _SHAPES.items():
            geoms = np.flatnonzero(seen & (m.geom_type == kind))
            if len(geoms):
                passed = own[:, None] == m.geom_bodyid[geoms]
                which = torch.tensor(geoms, dtype=torch.long, device=device)
                self._geoms.append((distances, which, torch.tensor(passed, device=device)))

    def write(self, field: Fields, data: Tensor, *shown: Tensor) -> None:
        """Their columns of sensordata (N, nsensordata) [m], -1 where a ray meets nothing. field:
        the model's; shown: `NEEDS` of the same state."""
        geom_pos, geom_mat, pos, mat = shown
        size = field("geom_size").float()
        origin, along = pos[:, self._sites], mat.unflatten(-1, (3, 3))[:, self._sites, :, 2]
        least = torch.full_like(origin[..., 0], torch.inf)
        for distances, geoms, passed in self._parts(len(data)):
            turn = geom_mat[:, geoms].unflatten(-1, (3, 3))[:, None]  # (N, 1, geoms, 3, 3)
            arm = origin[:, :, None] - geom_pos[:, None, geoms]
            start = (turn * arm[..., None]).sum(-2)  # in the geoms' frames; `@` may be TF32
            ray = (turn * along[:, :, None, :, None]).sum(-2)
            found = distances(start, ray, size[:, None, geoms])
            least = torch.minimum(least, found.masked_fill(passed, torch.inf).amin(-1))
        met = torch.where(least < torch.inf, least, -1.0)
        data[:, self._columns] = torch.clamp(met, -self._cutoff, self._cutoff)

    def _parts(self, num_envs: int) -> Iterator[tuple[Distances, Tensor, Tensor]]:
        """`_geoms` in parts that need no more than `MOST` numbers, if one geom does not."""
        width = max(1, MOST // (num_envs * len(self._sites)))
        for distances, geoms, passed in self._geoms:
            for which, own in zip(geoms.split(width), passed.split(width, 1), strict=True):
                yield distances, which, own


# Distances (N, sensors, geoms) [m] from `p` along `v` of length 1 (both ... x 3, in a geom's frame)
# to the surface of shapes with `size`, from outside or from inside; infinite if there is none.


def _first(*candidates: tuple[Tensor, Tensor]) -> Tensor:
    """The least of some distances that are not negative, each where it counts."""
    found = [torch.where(counts & (x >= 0), x, torch.inf) for x, counts in candidates]
    return torch.stack(found).amin(0)


def _roots(a: Tensor, b: Tensor, c: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Of a x^2 + 2 b x + c, and whether there are any."""
    square = b * b - a * c
    real = (square >= LEAST) & (a > LEAST)
    root, a = square.clamp(min=0).sqrt(), a.clamp(min=LEAST)
    return (-b - root) / a, (-b + root) / a, real


def _plane(p: Tensor, v: Tensor, size: Tensor) -> Tensor:
    down = v[..., 2] < -LEAST
    x = -p[..., 2] / torch.where(down, v[..., 2], -1.0)
    at, sides = p[..., :2] + x[..., None] * v[..., :2], size[..., :2]
    return _first((x, down & ((sides <= 0) | (at.abs() <= sides)).all(-1)))


def _sphere(p: Tensor, v: Tensor, size: Tensor) -> Tensor:
    x, y, real = _roots((v * v).sum(-1), (v * p).sum(-1), (p * p).sum(-1) - size[..., 0] ** 2)
    return _first((x, real), (y, real))


def _ellipsoid(p: Tensor, v: Tensor, size: Tensor) -> Tensor:
    return _sphere(p / size, v / size, torch.ones_like(size))


def _side(p: Tensor, v: Tensor, size: Tensor) -> list[tuple[Tensor, Tensor]]:
    """Where a ray meets the round side of a cylinder."""
    p2, v2 = p[..., :2], v[..., :2]
    *both, real = _roots(
        (v2 * v2).sum(-1), (v2 * p2).sum(-1), (p2 * p2).sum(-1) - size[..., 0] ** 2
    )
    return [(x, real & ((p[..., 2] + x * v[..., 2]).abs() <= size[..., 1])) for x in both]


def _capsule(p: Tensor, v: Tensor, size: Tensor) -> Tensor:
    found = _side(p, v, size)
    for sign in (1.0, -1.0):
        q = torch.cat([p[..., :2], p[..., 2:] - sign * size[..., 1:2]], -1)
        c = (q * q).sum(-1) - size[..., 0] ** 2
        *both, real = _roots((v * v).sum(-1), (v * q).sum(-1), c)
        found += [(x, real & (sign * (q[..., 2] + x * v[..., 2]) >= 0)) for x in both]
    return _first(*found)


def _cylinder(p: Tensor, v: Tensor, size: Tensor) -> Tensor:
    found = _side(p, v, size)
    steep = v[..., 2].abs() > LEAST
    for sign in (1.0, -1.0):
        x = (sign * size[..., 1] - p[..., 2]) / torch.where(steep, v[..., 2], 1.0)
        at = p[..., :2] + x[..., None] * v[..., :2]
        found.append((x, steep & ((at * at).sum(-1) <= size[..., 0] ** 2)))
    return _first(*found)


_OTHERS = slice(1, 3), slice(0, 3, 2), slice(0, 2)
"""The two other axes; a list would be copied to a GPU, which a graph cannot capture."""


def _box(p: Tensor, v: Tensor, size: Tensor) -> Tensor:
    found = []
    for axis, others in enumerate(_OTHERS):
        steep = v[..., axis].abs() > LEAST
        for sign in (1.0, -1.0):
            x = (sign * size[..., axis] - p[..., axis]) / torch.where(steep, v[..., axis], 1.0)
            at = p[..., others] + x[..., None] * v[..., others]
            found.append((x, steep & (at.abs() <= size[..., others]).all(-1)))
    return _first(*found)


_SHAPES = {
    GEOM.mjGEOM_PLANE: _plane, GEOM.mjGEOM_SPHERE: _sphere, GEOM.mjGEOM_CAPSULE: _capsule,
    GEOM.mjGEOM_ELLIPSOID: _ellipsoid, GEOM.mjGEOM_CYLINDER: _cylinder, GEOM.mjGEOM_BOX: _box,
}  # fmt: skip
