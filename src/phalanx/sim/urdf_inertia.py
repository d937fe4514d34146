"""Writes the inertias of URDF links, made physically possible.

A rigid body has moments A <= B <= C with A + B >= C, positive ones if it moves on its own. MuJoCo
refuses others, in each body; files have them, mostly in links on fixed joints.
"""

import mujoco
import numpy as np

from phalanx.sim.robot import Note, place_of
from phalanx.sim.urdf_values import Array, Inertia, quat_of

MIN_GYRATION = 1e-4  # [m] a moving body's radius of gyration is at least this about every axis
NOTHING = Inertia(0.0, np.zeros(3), np.zeros((3, 3)))
Weld = list[tuple[mujoco.MjsBody, Inertia, Array]]
"""Bodies without joints between them, each with its inertia and its pose (4, 4) in the first."""


def set_inertias(weld: Weld) -> list[Note]:
    """Write the inertias of bodies that are welded together. Where that of one is impossible, the
    first body takes it with its mass, if their sum is possible; the weld moves in the same way. If
    that is not enough, the first body takes all of them."""
    bad = [n for n, (_, inertia, _) in enumerate(weld) if not _possible(inertia, welded=n > 0)]
    notes = []
    for moved in (bad, range(len(weld))) if bad else ():
        total = weld[0][1]
        for n in moved:
            if n:
                total += weld[n][1].moved(weld[n][2])
        if any(moved) and _possible(total, welded=False):
            text = "gave links with an impossible inertia to the link that they are fixed to"
            given = [weld[n][0] for n in moved if n]
            notes = [Note("mended", text, repr(body.name), place_of(body)) for body in given]
            weld = [
                (body, total if n == 0 else NOTHING if n in moved else inertia, pose)
                for n, (body, inertia, pose) in enumerate(weld)
            ]
            break
    for number, (body, inertia, _) in enumerate(weld):
        notes += _set_inertia(body, inertia, welded=number > 0)
    return notes


def _set_inertia(body: mujoco.MjsBody, inertia: Inertia, welded: bool) -> list[Note]:
    """Write mass and principal inertia, raised to physically possible values if necessary."""
    notes = []
    body.explicitinertial = True
    body.mass, body.ipos = inertia.mass, inertia.com
    asked, axes = np.linalg.eigh(inertia.tensor)  # ascending
    moments = np.maximum(asked, _least_moment(inertia, welded))
    missing = moments[2] - moments[0] - moments[1]
    if missing > 0:  # a rounding error must not break the inequality again
        moments[:2] += 0.5 * missing + 1e-9 * moments[2]
    if np.any(moments > asked + 1e-6 * moments[2]):
        text = "raised the inertia of links to the least that is physically possible"
        notes.append(Note("mended", text, repr(body.name), place_of(body)))
    axes[:, 2] *= np.sign(np.linalg.det(axes))
    body.inertia = moments
    pose = np.eye(4)
    pose[:3, :3] = axes
    body.iquat = quat_of(pose)
    return notes


def _least_moment(inertia: Inertia, welded: bool) -> float:
    """The least moment of inertia [kg m^2] about any axis; none is asked of a welded body."""
    return 0.0 if welded else inertia.mass * MIN_GYRATION**2


def _possible(inertia: Inertia, welded: bool) -> bool:
    """Whether a rigid body can have these moments A <= B <= C: no less than the least, and
    A + B >= C."""
    a, b, c = np.linalg.eigvalsh(inertia.tensor)
    return bool(a >= _least_moment(inertia, welded) and a + b >= c * (1 - 1e-9))
