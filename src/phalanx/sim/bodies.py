"""Edits to the bodies of a robot: its base, contacts between its bodies, mass that is missing."""

import itertools
from pathlib import Path

import mujoco
import numpy as np

from phalanx.errors import PhalanxError
from phalanx.sim.robot import Note, place_of

LEAST_MASS = 1e-3  # [kg] of a moving link without mass at the end of a chain
INNER_MASS = 1e-6  # [kg] of one that carries links with mass; MuJoCo asks for some
LEAST_INERTIA = 1.5e-8  # [kg m^2] of both; that of a ball of water of 1 g
DEEP = 1e-3  # [m] shapes that overlap by less are not named
FREE = mujoco.mjtJoint.mjJNT_FREE


def name_all(spec: mujoco.MjSpec) -> None:
    """Name unnamed bodies `body<i>` and joints `joint<i>`; an unnamed `<freejoint/>` is common."""
    for kind, elements in (("body", spec.bodies), ("joint", spec.joints)):
        taken = {element.name for element in elements}
        for i, element in enumerate(elements):
            if not element.name:
                names = (f"{kind}{i}{'_' * k}" for k in itertools.count())
                element.name = next(name for name in names if name not in taken)


def set_base(spec: mujoco.MjSpec, fixed_base: bool | None, file: Path) -> None:
    """Fix or free the root body; None keeps what the file says."""
    roots = [body for body in spec.worldbody.bodies if not body.mocap]
    if fixed_base is None:
        return
    if len(roots) != 1:
        names = ", ".join(repr(body.name) for body in roots)
        raise PhalanxError(
            f"{file}: fixed_base={fixed_base} is about one root body, and this file has"
            f" {len(roots)} below the world ({names}); take one of them with root="
        )
    (root,) = roots
    free = [j for j in root.joints if j.type == FREE]
    if fixed_base:
        for joint in free:
            spec.delete(joint)
    elif not free:
        if root.joints:
            raise PhalanxError(
                f"{file}: root body {root.name!r} moves on joint {root.joints[0].name!r}, so it"
                " cannot have a free joint as well; load it with fixed_base=True or None"
            )
        root.add_freejoint()


def drop_root_joints(spec: mujoco.MjSpec) -> list[Note]:
    """Take hinges and slides from the root bodies."""
    notes = []
    for root in spec.worldbody.bodies:
        for joint in [j for j in root.joints if j.type != FREE]:
            text = "dropped joints of the root"
            notes.append(Note("dropped", text, repr(joint.name), place_of(joint)))
            spec.delete(joint)
    return notes


def add_missing_mass(spec: mujoco.MjSpec) -> list[Note]:
    """Give moving bodies some mass, where neither they nor the bodies welded to them have any.
    Those that carry bodies with mass, as between the hinges of a shoulder, get next to none."""
    notes = []
    for body in spec.bodies[1:]:
        group, moving = _weld_group(body)
        if body.joints and not any(member.mass for member in group):
            free = any(joint.type == FREE for joint in body.joints)
            inner = not free and any(_has_mass(child) for child in moving)
            body.mass, body.inertia = INNER_MASS if inner else LEAST_MASS, np.full(3, LEAST_INERTIA)
            text = f"added {body.mass:g} kg to moving links without mass"
            notes.append(Note("added", text, repr(body.name), place_of(body)))
    return notes


def _has_mass(body: mujoco.MjsBody) -> bool:
    """Whether a body or any below it has mass."""
    return body.mass > 0 or any(_has_mass(child) for child in body.bodies)


def set_armature(spec: mujoco.MjSpec, armature: float) -> None:
    """Set the armature [kg m^2 or kg] of hinges and slides that have none."""
    if not 0 <= armature < np.inf:
        raise PhalanxError(f"armature is {armature:g}; it must be 0 or positive")
    kinds = (mujoco.mjtJoint.mjJNT_HINGE, mujoco.mjtJoint.mjJNT_SLIDE)
    for joint in spec.joints:
        if joint.type in kinds and joint.armature == 0:
            joint.armature = armature


def fuse_static(spec: mujoco.MjSpec) -> None:
    """Merge bodies without joints into their parents, except roots, and bodies that sensors or
    constraints name."""
    held = [root.add_freejoint() for root in spec.worldbody.bodies if not root.joints]
    spec.fuse_static()
    for joint in held:
        spec.delete(joint)


def exclude_contacts_with_fixed_roots(spec: mujoco.MjSpec) -> None:
    """Exclude contacts between a fixed root (and bodies welded to it) and the next links."""
    for root in spec.worldbody.bodies:
        if root.joints or root.mocap:
            continue
        welded, moving = _weld_group(root)
        for joint_child in moving:
            for body in _weld_group(joint_child)[0]:
                for other in welded:
                    if _collides(body) and _collides(other):
                        spec.add_exclude(bodyname1=other.name, bodyname2=body.name)


def exclude_all_contacts(spec: mujoco.MjSpec) -> None:
    """Turn off all contacts between bodies of the robot."""
    names = [body.name for body in spec.bodies[1:] if _collides(body)]
    for exclude in list(spec.excludes):
        spec.delete(exclude)
    for pair in list(spec.pairs):
        spec.delete(pair)
    for a, b in itertools.combinations(names, 2):
        spec.add_exclude(bodyname1=a, bodyname2=b)


def overlaps(model: mujoco.MjModel, qpos: np.ndarray) -> list[tuple[str, str, float]]:
    """Pairs of bodies that may collide and overlap by more than DEEP at `qpos` (nq,), deepest
    first: names and depth [m]."""
    data = mujoco.MjData(model)
    data.qpos = qpos
    mujoco.mj_fwdPosition(model, data)
    depth: dict[tuple[str, str], float] = {}
    for contact in data.contact:
        first, second = sorted(model.geom_bodyid[contact.geom])
        pair = (model.body(first).name, model.body(second).name)
        depth[pair] = max(depth.get(pair, 0.0), -float(contact.dist))
    deep = [(*pair, d) for pair, d in depth.items() if d > DEEP]
    return sorted(deep, key=lambda overlap: -overlap[2])


def _weld_group(body: mujoco.MjsBody) -> tuple[list[mujoco.MjsBody], list[mujoco.MjsBody]]:
    """The bodies rigidly joined to `body` from below, and the first moving bodies below those."""
    welded: list[mujoco.MjsBody] = [body]
    moving: list[mujoco.MjsBody] = []
    for member in welded:  # grows during the loop
        for child in member.bodies:
            (moving if child.joints else welded).append(child)
    return welded, moving


def _collides(body: mujoco.MjsBody) -> bool:
    return any(g.contype or g.conaffinity for g in body.geoms)
