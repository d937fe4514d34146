"""Fixed tendons: springs, with limits, on sums of joint positions.

    length = sum of coefficient times position + offset

A tendon pulls its joints with `stiffness` towards its rest length and with `damping` against its
velocity, both implicit as in a drive: what the values at the end of the step add to the force is
inertia of the tendon (`implicit_pd.py` has the derivation for a joint). Between joints on
different branches MuJoCo leaves out the part of this inertia that couples them. Beyond a limit
MuJoCo's constraint holds it, whatever the limit's stiffness: as in PhysX a violation decays with
the time constant damping / limit_stiffness, here at least two substeps. A limit of stiffness 0 has
no effect.
"""

import dataclasses
from collections.abc import Sequence

import mujoco
import numpy as np

from isaacgym.enums import TendonType
from isaacgym.property_structs import TendonProperties
from phalanx.errors import PhalanxError

TENDON_PROPERTIES = np.dtype(
    [
        ("is_fixed_limited", "?"),
        ("fixed_lower_limit", "f4"),
        ("fixed_upper_limit", "f4"),
        ("fixed_spring_rest_length", "f4"),
        ("stiffness", "f4"),
        ("damping", "f4"),
        ("limit_stiffness", "f4"),
        ("offset", "f4"),
    ]
)
_STRUCT_FIELDS = [name for name in TENDON_PROPERTIES.names or () if name != "offset"]


@dataclasses.dataclass
class Tendon:
    """A fixed tendon of an asset."""

    name: str
    joints: list[str]
    coefficients: list[float]


def take_tendons(model: mujoco.MjModel) -> list[Tendon]:
    """The tendons of a model that has fixed ones only, in file order."""
    tendons = []
    for t in range(model.ntendon):
        own = slice(model.tendon_adr[t], model.tendon_adr[t] + model.tendon_num[t])
        joints = [model.jnt(int(j)).name for j in model.wrap_objid[own]]
        tendons.append(Tendon(model.tendon(t).name, joints, model.wrap_prm[own].tolist()))
    return tendons


def file_properties(model: mujoco.MjModel, limit_stiffness: float) -> np.ndarray:
    """What the file says about each tendon, as rows of TENDON_PROPERTIES."""
    rows = np.zeros(model.ntendon, TENDON_PROPERTIES)
    rows["is_fixed_limited"] = model.tendon_limited
    rows["fixed_lower_limit"], rows["fixed_upper_limit"] = model.tendon_range.T
    rows["fixed_spring_rest_length"] = model.tendon_lengthspring[:, 0]
    rows["stiffness"] = model.tendon_stiffness
    rows["damping"] = model.tendon_damping
    rows["limit_stiffness"] = limit_stiffness
    return rows


def tendon_structs(rows: np.ndarray, tendons: Sequence[Tendon]) -> list[TendonProperties]:
    """Rows of TENDON_PROPERTIES as the API's structs."""
    return [
        TendonProperties(
            TendonType.TENDON_FIXED,
            len(tendon.joints),
            0,
            **{name: row[name] for name in _STRUCT_FIELDS},
        )
        for row, tendon in zip(rows, tendons, strict=True)
    ]


def tendon_rows(structs: Sequence[TendonProperties], old: np.ndarray, call: str) -> np.ndarray:
    """The inverse of `tendon_structs`, with the offsets of `old`. Raises PhalanxError unless there
    is one struct for each tendon, with stiffnesses and dampings that are not negative."""
    if len(structs) != len(old):
        raise PhalanxError(f"gym.{call} was given {len(structs)} properties for {len(old)} tendons")
    rows = old.copy()
    for row, struct in zip(rows, structs, strict=True):
        for name in _STRUCT_FIELDS:
            row[name] = getattr(struct, name)
    for name in ("stiffness", "damping", "limit_stiffness"):
        if not ((rows[name] >= 0) & np.isfinite(rows[name])).all():
            raise PhalanxError(
                f"gym.{call} was given {name} {rows[name].tolist()}, which must be finite and not"
                " negative"
            )
    for name in ("fixed_lower_limit", "fixed_upper_limit", "fixed_spring_rest_length"):
        if np.isnan(rows[name]).any():
            raise PhalanxError(f"gym.{call} was given a {name} of NaN")
    return rows


def tendon_fields(rows: np.ndarray, h: float) -> dict[str, np.ndarray]:
    """MjModel fields by name, (N or 1, T, ...), of rows of TENDON_PROPERTIES (N or 1, T) for
    substeps of h [s]."""
    kp, kd = rows["stiffness"].astype(float), rows["damping"].astype(float)
    offset = rows["offset"].astype(float)
    lower, upper = rows["fixed_lower_limit"] - offset, rows["fixed_upper_limit"] - offset
    limited = np.logical_and(rows["is_fixed_limited"], rows["limit_stiffness"] > 0)
    ends = np.stack([np.minimum(lower, upper), np.maximum(lower, upper)], -1)
    ends = np.where(limited[..., None], np.clip(ends, -1e6, 1e6), [-1e6, 1e6])
    rest = (rows["fixed_spring_rest_length"] - offset)[..., None]
    time = kd / np.maximum(rows["limit_stiffness"], 1e-9)
    solref = np.stack([np.clip(time, 2 * h, 10.0), np.ones_like(time)], -1)
    return {
        "tendon_stiffness": kp,
        "tendon_lengthspring": np.repeat(rest, 2, -1),
        "tendon_damping": kd + h * kp,
        "tendon_armature": h * kd + h * h * kp,
        "tendon_range": ends,
        "tendon_solref_lim": solref,
        "tendon_limited": limited.any(0, keepdims=True),
    }
