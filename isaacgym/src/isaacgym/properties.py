"""Mass and contact properties as rows of NumPy arrays, and the API's structs made of them.

Rows are compact and fast to compare, which matters with thousands of environments. Programs see
structs.
"""

import numpy as np

from isaacgym.geometry import Mat33, Vec3
from isaacgym.property_structs import RigidBodyProperties, RigidShapeProperties
from phalanx.errors import PhalanxError

BODY_PROPERTIES = np.dtype(
    [("mass", "f4"), ("com", "f4", 3), ("inertia", "f4", (3, 3)), ("flags", "i4")]
)
SHAPE_PROPERTIES = np.dtype(
    [(name, "i4" if kind is int else "f4") for name, kind in RigidShapeProperties._fields.items()]
)


def body_structs(rows: np.ndarray) -> list[RigidBodyProperties]:
    """Rows of BODY_PROPERTIES as the API's structs."""
    result = []
    for row in rows:
        mass, inertia = float(row["mass"]), row["inertia"].astype(float)
        inverse = np.linalg.inv(inertia) if np.linalg.det(inertia) > 0 else np.zeros((3, 3))
        result.append(
            RigidBodyProperties(
                mass,
                1 / mass if mass > 0 else 0.0,
                Vec3(*row["com"]),
                Mat33(*(Vec3(*line) for line in inertia)),
                Mat33(*(Vec3(*line) for line in inverse)),
                int(row["flags"]),
            )
        )
    return result


def body_rows(structs: list[RigidBodyProperties]) -> np.ndarray:
    """The inverse of `body_structs`."""
    rows = np.zeros(len(structs), BODY_PROPERTIES)
    for row, p in zip(rows, structs, strict=True):
        row["mass"], row["com"] = p.mass, (p.com.x, p.com.y, p.com.z)
        row["flags"] = bits(p.flags, "RigidBodyProperties.flags")
        row["inertia"] = [(v.x, v.y, v.z) for v in (p.inertia.x, p.inertia.y, p.inertia.z)]
    return rows


def shape_structs(rows: np.ndarray) -> list[RigidShapeProperties]:
    """Rows of SHAPE_PROPERTIES as the API's structs."""
    return [RigidShapeProperties(*row) for row in rows.tolist()]


def shape_rows(structs: list[RigidShapeProperties]) -> np.ndarray:
    """The inverse of `shape_structs`."""
    *names, last = SHAPE_PROPERTIES.names or ()
    rows = [
        (*(getattr(s, n) for n in names), bits(getattr(s, last), f"RigidShapeProperties.{last}"))
        for s in structs
    ]
    return np.array(rows, SHAPE_PROPERTIES)


def bits(value: int, what: str) -> int:
    """32 bits as a signed number. Raises PhalanxError for more bits."""
    if not -(2**31) <= value < 2**32:
        raise PhalanxError(f"{what} is {value}; it has 32 bits")
    return value - 2**32 if value >= 2**31 else value
