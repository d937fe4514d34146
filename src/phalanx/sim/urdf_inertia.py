"""Writes the inertias of URDF links, made physically possible.

A rigid body has moments A <= B <= C with A + B >= C, positive ones if it moves on its own. MuJoCo
refuses others, in each body; files have them, mostly in links on fixed joints.
"""

from dataclasses import replace

import mujoco
import numpy as np

from phalanx.sim.robot import Note
from phalanx.sim.urdf_values import Array, Inertia, quat_of

MIN_GYRATION = 1e-4  # [m] a moving body's radius of gyration is at least this about every axis
Weld = list[tuple[mujoco.MjsBody, Inertia, Array]]
"""Bodies without joints between them, each with its inertia and rotation (3, 3) to the first."""


def set_inertias(weld: Weld) -> list[Note]:
    """Write the inertias of bodies that are welded together. If one of them is impossible and
    their sum is not, the first body takes all of it, which moves in the same way."""
    bad = [b.name for n, (b, i, _) in enumerate(weld) if not _possible(i, welded=n > 0)]
    notes = []
    total = sum((turn @ i.tensor @ turn.T for _, i, turn in weld), np.zeros((3, 3)))
    if bad and len(weld) > 1 and _possible(replace(weld[0][1], tensor=total), welded=False):
        text = "gave the impossible inertia of links to the link that they are fixed to"
        notes += [Note("mended", text, repr(name)) for name in bad]
        tensors = [total] + [np.zeros((3, 3))] * (len(weld) - 1)
        weld = [
            (body, replace(inertia, tensor=tensor), turn)
            for (body, inertia, turn), tensor in zip(weld, tensors, strict=True)
        ]
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
        notes.append(Note("mended", text, repr(body.name), body.info))
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
