"""Mass and contact properties as rows of NumPy arrays, and the API's structs made of them.

Rows are compact and fast to compare, which matters with thousands of environments. Programs see
structs.
"""

import numpy as np

from isaacgym.geometry import Mat33, Vec3
from isaacgym.property_structs import RigidBodyProperties, RigidShapeProperties

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
        row["mass"], row["com"], row["flags"] = p.mass, (p.com.x, p.com.y, p.com.z), p.flags
        row["inertia"] = [(v.x, v.y, v.z) for v in (p.inertia.x, p.inertia.y, p.inertia.z)]
    return rows


def shape_structs(rows: np.ndarray) -> list[RigidShapeProperties]:
    """Rows of SHAPE_PROPERTIES as the API's structs."""
    return [RigidShapeProperties(*row) for row in rows.tolist()]


def shape_rows(structs: list[RigidShapeProperties]) -> np.ndarray:
    """The inverse of `shape_structs`."""
    names = SHAPE_PROPERTIES.names or ()
    return np.array([tuple(getattr(s, n) for n in names) for s in structs], SHAPE_PROPERTIES)
