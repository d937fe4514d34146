"""Values of URDF elements: inertia, sizes, poses and numbers, in SI units."""

from dataclasses import dataclass

import mujoco
import numpy as np
from numpy.typing import NDArray

from phalanx.sim.xml_file import Element

Array = NDArray[np.float64]


@dataclass
class Inertia:
    """Mass [kg], centre of mass (3,) [m], inertia (3, 3) [kg m^2] about it; all in link axes."""

    mass: float
    com: Array
    tensor: Array

    def moved(self, pose: Array) -> "Inertia":
        """The same inertia in the parent frame, in which this frame has pose `pose` (4, 4)."""
        rot = pose[:3, :3]
        return Inertia(self.mass, rot @ self.com + pose[:3, 3], rot @ self.tensor @ rot.T)

    def __add__(self, other: "Inertia") -> "Inertia":
        """The inertia of two bodies welded together, by the parallel-axis theorem."""
        mass = self.mass + other.mass
        com = self.com
        if mass:
            com = (self.mass * self.com + other.mass * other.com) / mass
        tensor = np.zeros((3, 3))
        for part in (self, other):
            d = part.com - com
            tensor += part.tensor + part.mass * (d @ d * np.eye(3) - np.outer(d, d))
        return Inertia(mass, com, tensor)


def size_of(shape: Element) -> list[float]:
    """MuJoCo's size (3,) [m]: half extents of a box; radius and half length of a sphere, capsule or
    cylinder. A size of 0 is allowed here."""
    if shape.tag == "box":
        size = numbers_of(shape, "size", 3) / 2
    elif shape.tag == "sphere":
        size = numbers_of(shape, "radius", 1)
    else:
        size = np.append(numbers_of(shape, "radius", 1), numbers_of(shape, "length", 1) / 2)
    return [*size, *[0.0] * (3 - len(size))]


def origin_of(element: Element) -> Array:
    """The <origin> of an element as a pose (4, 4): rotate by roll, pitch, yaw about fixed axes,
    then shift. The identity without one."""
    origin = element.find("origin")
    roll, pitch, yaw = numbers_of(origin, "rpy", 3, (0.0, 0.0, 0.0))
    (cr, cp, cy), (sr, sp, sy) = np.cos([roll, pitch, yaw]), np.sin([roll, pitch, yaw])
    pose = np.eye(4)
    pose[:3, :3] = [
        [cy * cp, cy * sp * sr - sy * cr, cy * sp * cr + sy * sr],
        [sy * cp, sy * sp * sr + cy * cr, sy * sp * cr - cy * sr],
        [-sp, cp * sr, cp * cr],
    ]
    pose[:3, 3] = numbers_of(origin, "xyz", 3, (0.0, 0.0, 0.0))
    return pose


def quat_of(pose: Array) -> Array:
    """Rotation of a pose (4, 4) as a quaternion (4,), w x y z."""
    quat = np.zeros(4)
    mujoco.mju_mat2Quat(quat, pose[:3, :3].flatten())
    return quat


def numbers_of(
    element: Element | None, key: str, count: int, default: tuple[float, ...] | None = None
) -> Array:
    """The numbers (count,) of an attribute, which are finite but in <limit>, as `check_urdf` has
    made sure; `default` if element or attribute is missing."""
    text = element.attrib.get(key) if element else None
    if text is None and default is not None:
        return np.array(default)
    assert element is not None
    try:
        numbers = np.array([float(word) for word in (text or "").split()])
    except ValueError:
        numbers = np.array([])
    if len(numbers) != count:
        numbers_are = f"{count} finite number{'s' if count > 1 else ''}"
        hint = "; run xacro on the file" if {"$(", "${"} & {(text or "")[:2]} else ""
        element.fail(f"{key}={text!r} is not {numbers_are}{hint}")
    return numbers
