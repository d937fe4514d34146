"""Properties of bodies, shapes, tendons, actuators, sensors and cameras, as programs hold them.

Every class here is a `Struct` (see `structs.py`): a value with fixed fields. Units are SI.
"""

from isaacgym.enums import AXIS_ALL, INVALID_HANDLE, RIGID_BODY_NONE, TendonType
from isaacgym.geometry import Mat33, Transform, Vec3
from isaacgym.structs import Struct
from isaacgym.values import FLT_MAX


class RigidBodyProperties(Struct):
    """Mass properties of one body of an actor."""

    mass: float = 0.0
    """[kg]"""
    invMass: float = 0.0
    """[1/kg]"""
    com: Vec3 = Vec3()
    """[m] Centre of mass in the link frame."""
    inertia: Mat33 = Mat33()
    """[kg m^2] About the centre of mass, in the axes of the link frame."""
    invInertia: Mat33 = Mat33()
    """[1/(kg m^2)]"""
    flags: int = RIGID_BODY_NONE
    """RIGID_BODY_* bits."""


class RigidShapeProperties(Struct):
    """Contact properties of one shape."""

    friction: float = 1.0
    """Static and dynamic friction."""
    rolling_friction: float = 0.0
    torsion_friction: float = 0.0
    restitution: float = 0.0
    compliance: float = 0.0
    thickness: float = 0.0
    contact_offset: float = 0.02
    """[m]"""
    rest_offset: float = 0.001
    """[m]"""
    filter: int = 0
    """Shapes with a bit in common do not collide."""


class TendonProperties(Struct):
    """A tendon: a spring, with a limit, on a combination of joint positions."""

    _read_only = ("type", "num_joints", "num_attachments")

    type: TendonType = TendonType.TENDON_FIXED
    num_joints: int = 0
    num_attachments: int = 0
    is_fixed_limited: bool = False
    fixed_lower_limit: float = 0.0
    fixed_upper_limit: float = 0.0
    fixed_spring_rest_length: float = 0.0
    stiffness: float = 0.0
    damping: float = 0.0
    limit_stiffness: float = 1.0


class ActuatorProperties(Struct):
    """An actuator from an MJCF file."""

    _read_only = ("type",)

    type: int = 0
    kp: float = 0.0
    kv: float = 0.0
    motor_effort: float = 0.0
    """[Nm or N] The gear of a motor."""
    control_limited: bool = False
    lower_control_limit: float = -FLT_MAX
    upper_control_limit: float = FLT_MAX
    force_limited: bool = False
    lower_force_limit: float = -FLT_MAX
    upper_force_limit: float = FLT_MAX


class ForceSensorProperties(Struct):
    """Which forces a sensor includes, and in which frame it reads them."""

    enable_forward_dynamics_forces: bool = True
    """Gravity, drives, applied forces."""
    enable_constraint_solver_forces: bool = True
    """Contacts and joints."""
    use_world_frame: bool = False
    """World axes instead of the sensor's."""


class AttractorProperties(Struct):
    """A spring and damper that pull a body's frame, displaced by `offset`, towards `target`."""

    stiffness: float = 0.0
    damping: float = 0.0
    axes: int = AXIS_ALL
    """AXIS_* bits that the spring acts along and about."""
    rigid_handle: int = INVALID_HANDLE
    """The body, by its handle in the environment."""
    target: Transform = Transform()
    """In the environment's frame."""
    offset: Transform = Transform()
    """In the body's frame."""


class CameraProperties(Struct):
    """Image size and lens of a camera or viewer."""

    width: int = 1600
    height: int = 900
    horizontal_fov: float = 90.0
    """[deg]"""
    near_plane: float = 0.01
    """[m]"""
    far_plane: float = 2e6
    """[m]"""
    supersampling_horizontal: int = 1
    supersampling_vertical: int = 1
    use_collision_geometry: bool = False
    enable_tensors: bool = False
    """Whether images can be read as GPU tensors."""
