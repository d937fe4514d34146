"""Joints of a URDF as joints of a MuJoCo body.

Where the format and its users disagree, these rules hold. A joint whose lower limit is not below
its upper one has no limits, as in MuJoCo and PyBullet: exporters write 0 and 0 for "not known". A
planar joint is two slides and a hinge with MuJoCo's names, `x_TX`, `x_TY`, `x_RZ`. <mimic> is an
equality between two joints. MuJoCo has no velocity limit; the number is stored in
`joint.userdata[0]` (`jnt_user`).
"""

from collections.abc import Callable, Mapping

import mujoco
import numpy as np

from phalanx.errors import did_you_mean
from phalanx.sim.robot import Kind
from phalanx.sim.urdf_values import Array, numbers_of
from phalanx.sim.xml_file import Element

HINGE, SLIDE = mujoco.mjtJoint.mjJNT_HINGE, mujoco.mjtJoint.mjJNT_SLIDE
JOINT_TYPES = {"revolute": HINGE, "continuous": HINGE, "prismatic": SLIDE}
NO_LIMIT = 1e10
"""Limits from here on, infinite ones too, mean that there is none."""
MANY_TURNS = 8 * np.pi  # [rad]
ACCEPTED = (*JOINT_TYPES, "planar", "spherical", "fixed", "floating")
Say = Callable[[Kind, str, str, Element], None]
"""say(kind, text, item, element) makes a note."""


def add_joints(body: mujoco.MjsBody, joint: Element, say: Say) -> None:
    """Add the MuJoCo joints of a <joint> to the body of its child link."""
    name, kind = joint.attrib["name"], joint.attrib.get("type", "")
    if kind == "fixed":
        return
    if kind == "floating":
        joint.fail(
            "only the robot's root can float: a floating joint must hang on a root link without"
            " shapes and mass; remove the links above it, or make the joint another type"
        )
    if kind not in ACCEPTED:
        problem = f"joint type {kind!r} is not supported" if kind else "it has no type"
        joint.fail(f"{problem}{did_you_mean(kind, ACCEPTED)}; accepted: {', '.join(ACCEPTED)}")
    if kind == "spherical":  # PyBullet's
        _add(body, joint, name, mujoco.mjtJoint.mjJNT_BALL, np.array([0.0, 0.0, 1.0]))
        return
    axis = numbers_of(joint.find("axis"), "xyz", 3, (1.0, 0.0, 0.0))
    if not axis.any():
        joint.fail("its axis is zero; give it a direction")
    if kind == "planar":
        x, y = _plane(axis)
        for end, joint_type, direction in (("TX", SLIDE, x), ("TY", SLIDE, y), ("RZ", HINGE, axis)):
            _add(body, joint, f"{name}_{end}", joint_type, direction)
        return
    added = _add(body, joint, name, JOINT_TYPES[kind], axis)
    limit = joint.find("limit")
    effort = numbers_of(limit, "effort", 1, (0.0,))[0]
    if 0 < effort < NO_LIMIT:  # 0 or absent: unlimited
        added.actfrclimited, added.actfrcrange = True, [-effort, effort]
    velocity = numbers_of(limit, "velocity", 1, (0.0,))
    added.userdata = np.where(velocity < NO_LIMIT, velocity, 0.0)
    if kind != "continuous" and limit and {"lower", "upper"} & limit.attrib.keys():
        lower = numbers_of(limit, "lower", 1, (0.0,))[0]
        upper = numbers_of(limit, "upper", 1, (0.0,))[0]
        if lower <= -NO_LIMIT and upper >= NO_LIMIT:
            return
        if lower < upper:
            added.limited, added.range = True, np.clip([lower, upper], -NO_LIMIT, NO_LIMIT)
            if kind == "revolute" and MANY_TURNS < max(-lower, upper) <= 720:
                text = "limits of many turns, which may be degrees where radians are due"
                say("doubt", text, f"{name!r} {lower:g} {upper:g}", limit)
        else:
            text = "left joints without limits, whose lower limit is not below the upper one"
            say("mended", text, f"{name!r} {lower:g} {upper:g}", limit)


def add_mimic(spec: mujoco.MjSpec, joints: Mapping[str, Element], say: Say) -> None:
    """Add an equality for each <mimic>: position = multiplier x other's position + offset."""
    hinges_and_slides = {j.name for j in spec.joints}
    for name, joint in sorted(joints.items(), key=lambda item: item[0].encode()):
        mimic = joint.find("mimic")
        if mimic is None:
            continue
        other = mimic.attrib.get("joint", "")
        if name not in hinges_and_slides or other not in hinges_and_slides or name == other:
            if name not in hinges_and_slides:
                why = "is no hinge or slide"
            elif name == other:
                why = "follows itself"
            else:
                near = did_you_mean(other, hinges_and_slides - {name})
                why = f"follows {other!r}, which is no hinge or slide{near}"
            say("dropped", "ignored <mimic> of joints", f"{name!r} {why}", mimic)
            continue
        equality = spec.add_equality(
            name=f"{name}_mimic", type=mujoco.mjtEq.mjEQ_JOINT, name1=name, name2=other
        )
        equality.objtype = mujoco.mjtObj.mjOBJ_JOINT
        multiplier = numbers_of(mimic, "multiplier", 1, (1.0,))[0]
        offset = numbers_of(mimic, "offset", 1, (0.0,))[0]
        data = np.zeros(len(equality.data))
        data[:2] = offset, multiplier
        equality.data = data


def _add(
    body: mujoco.MjsBody, joint: Element, name: str, kind: mujoco.mjtJoint, axis: Array
) -> mujoco.MjsJoint:
    added = body.add_joint(
        name=name, type=kind, axis=axis, limited=False, actfrclimited=False, info=joint.place
    )
    dynamics = joint.find("dynamics")
    added.damping[0] = numbers_of(dynamics, "damping", 1, (0.0,))[0]
    added.frictionloss = numbers_of(dynamics, "friction", 1, (0.0,))[0]
    return added


def _plane(normal: Array) -> tuple[Array, Array]:
    """Two directions that make a right-handed frame with `normal`; x and y if it is z."""
    normal = normal / np.linalg.norm(normal)
    first = np.eye(3)[0] if abs(normal[0]) < 0.9 else np.eye(3)[1]
    x = first - normal * (first @ normal)
    x /= np.linalg.norm(x)
    return x, np.cross(normal, x)
