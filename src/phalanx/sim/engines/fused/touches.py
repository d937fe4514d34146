"""Which pairs of shapes the fused step brings together, and in how many contacts."""

import mujoco

from phalanx.sim.engines.fused.structure import Pair, Structure

TOUCHES = {
    ("SPHERE", "SPHERE"): 1, ("SPHERE", "CAPSULE"): 1, ("CAPSULE", "CAPSULE"): 1,
    ("SPHERE", "BOX"): 1, ("CAPSULE", "BOX"): 2, ("BOX", "BOX"): 8, ("SPHERE", "CYLINDER"): 1,
    ("PLANE", "CYLINDER"): 4, ("HFIELD", "SPHERE"): 1, ("HFIELD", "CAPSULE"): 3,
    ("PLANE", "ELLIPSOID"): 1, ("PLANE", "MESH"): 4,
    ("HFIELD", "ELLIPSOID"): 1, ("HFIELD", "CYLINDER"): 3,
    # by their supporting points:
    ("SPHERE", "ELLIPSOID"): 1, ("CAPSULE", "ELLIPSOID"): 1, ("ELLIPSOID", "ELLIPSOID"): 1,
    ("ELLIPSOID", "CYLINDER"): 1, ("ELLIPSOID", "BOX"): 1, ("ELLIPSOID", "MESH"): 1,
    ("SPHERE", "MESH"): 1, ("CAPSULE", "CYLINDER"): 2, ("CAPSULE", "MESH"): 2,
    ("CYLINDER", "CYLINDER"): 4, ("CYLINDER", "BOX"): 4, ("CYLINDER", "MESH"): 4,
    ("BOX", "MESH"): 4, ("MESH", "MESH"): 4,
    # with the prisms of height fields:
    ("HFIELD", "BOX"): 3, ("HFIELD", "MESH"): 3,
    # with box fields:
    ("BOXES", "SPHERE"): 1, ("BOXES", "CAPSULE"): 2, ("BOXES", "BOX"): 3,
    ("BOXES", "ELLIPSOID"): 1, ("BOXES", "CYLINDER"): 2, ("BOXES", "MESH"): 3,
}  # fmt: skip
"""The most contacts of two geoms, by their shapes in MuJoCo's order, a box field first; that of a
height field or box field is multiplied by `Sizes.ground`."""
GROUNDS = ("HFIELD", "BOXES")
KINDS = list(TOUCHES)
CONVEX = KINDS[KINDS.index(("SPHERE", "ELLIPSOID")) : KINDS.index(("HFIELD", "BOX"))]
"""Pairs of shapes that `convex.h` brings together."""
SOLID = KINDS[KINDS.index(("SPHERE", "BOX")) : KINDS.index(("PLANE", "CYLINDER"))]
"""Pairs of shapes that `boxes.h` brings together."""
LOWEST = (("PLANE", "ELLIPSOID"), ("PLANE", "MESH"))
"""Shapes that touch a plane with their lowest points."""
ON_BOXES = [("BOXES", "ELLIPSOID"), ("BOXES", "CYLINDER"), ("BOXES", "MESH")]
"""Shapes that `convex.h` brings together with the boxes of box fields."""
CORNERED = [("HFIELD", "BOX"), ("HFIELD", "MESH")]
ROUND = {"ELLIPSOID": "ellipsoids", "CYLINDER": "cylinders", "MESH": "meshes"}
"""Shapes that a prism of a height field touches by their supporting points, and their names."""
PRISMS = [("HFIELD", "ELLIPSOID"), ("HFIELD", "CYLINDER"), *CORNERED]
"""Shapes that `convex.h` brings together with the prisms of height fields."""


def pair_kind(s: Structure, pair: Pair) -> tuple[str, str]:
    """A key of TOUCHES if the fused step finds the contacts of these geoms."""
    names = [mujoco.mjtGeom(int(s.model.geom_type[g])).name for g in pair[:2]]
    one, two = (name.removeprefix("mjGEOM_") for name in names)
    if pair.a in s.box_fields:
        return "BOXES", two
    return ("BOXES", one) if pair.b in s.box_fields else (one, two)
