"""The API's enumerations and integer constants.

Members behave as integers (`props["driveMode"] = DOF_MODE_POS`, `UpAxis(1)`) and print as
`SimType.SIM_PHYSX`. `gymapi` shows every member under its bare name too.
"""

import enum


class ApiEnum(enum.IntEnum):
    """An integer that prints as `Class.MEMBER`."""

    __str__ = enum.Enum.__str__
    __format__ = enum.Enum.__format__


class SimType(ApiEnum):
    """Physics engine asked for in `create_sim`."""

    SIM_PHYSX = 0
    SIM_FLEX = 1


class UpAxis(ApiEnum):
    """The axis that points up."""

    UP_AXIS_Y = 0
    UP_AXIS_Z = 1


class DofDriveMode(ApiEnum):
    """What drives a degree of freedom: nothing, a target with PD gains, or an effort."""

    DOF_MODE_NONE = 0
    DOF_MODE_POS = 1
    DOF_MODE_VEL = 2
    DOF_MODE_EFFORT = 3


class DofType(ApiEnum):
    """Whether a degree of freedom turns [rad] or slides [m]."""

    DOF_INVALID = 0
    DOF_ROTATION = 1
    DOF_TRANSLATION = 2


class JointType(ApiEnum):
    """Kind of a joint."""

    JOINT_INVALID = 0
    JOINT_FIXED = 1
    JOINT_REVOLUTE = 2
    JOINT_PRISMATIC = 3
    JOINT_BALL = 4
    JOINT_PLANAR = 5
    JOINT_FLOATING = 6


class ContactCollection(ApiEnum):
    """Which substeps feed the net contact forces."""

    CC_NEVER = 0
    CC_LAST_SUBSTEP = 1
    CC_ALL_SUBSTEPS = 2


class CoordinateSpace(ApiEnum):
    """Frame of forces and positions: the environment's, the body's own, or the world's."""

    ENV_SPACE = 0
    LOCAL_SPACE = 1
    GLOBAL_SPACE = 2


class IndexDomain(ApiEnum):
    """What an index counts within: one actor, one environment, or the whole simulation."""

    DOMAIN_ACTOR = 0
    DOMAIN_ENV = 1
    DOMAIN_SIM = 2


class ImageType(ApiEnum):
    """Kind of camera image."""

    IMAGE_COLOR = 0
    IMAGE_DEPTH = 1
    IMAGE_SEGMENTATION = 2
    IMAGE_OPTICAL_FLOW = 3


class MeshType(ApiEnum):
    """Which shapes of a body a colour or texture is for."""

    MESH_NONE = 0
    MESH_COLLISION = 1
    MESH_VISUAL = 2
    MESH_VISUAL_AND_COLLISION = 3


class MeshNormalMode(ApiEnum):
    """Where the normals of visual meshes come from."""

    FROM_ASSET = 0
    COMPUTE_PER_VERTEX = 1
    COMPUTE_PER_FACE = 2


class CameraFollowMode(ApiEnum):
    """Whether a camera attached to a body follows its position only, or its rotation too."""

    FOLLOW_POSITION = 0
    FOLLOW_TRANSFORM = 1


class TendonType(ApiEnum):
    """A fixed tendon couples joints by coefficients; a spatial one runs through space."""

    TENDON_FIXED = 0
    TENDON_SPATIAL = 1


class TensorDataType(ApiEnum):
    """Element types of `Tensor`; int32 and int64 are reported as the unsigned kinds."""

    DTYPE_FLOAT32 = 0
    DTYPE_UINT32 = 1
    DTYPE_UINT64 = 2
    DTYPE_UINT8 = 3
    DTYPE_INT16 = 4


class SoftMaterialType(ApiEnum):
    """Constitutive model of a soft body (Flex)."""

    MAT_COROTATIONAL = 0
    MAT_NEOHOOKEAN = 1


class UsdMaterialMode(ApiEnum):
    """How the USD exporter writes materials."""

    USD_MATERIAL_DISPLAY_COLOR = 0
    USD_MATERIAL_PREVIEW_SURFACE = 1
    USD_MATERIAL_MDL = 2


# Keys in the API's order, without their prefix KEY_.
_KEYS = """
SPACE APOSTROPHE COMMA MINUS PERIOD SLASH 0 1 2 3 4 5 6 7 8 9 SEMICOLON EQUAL
A B C D E F G H I J K L M N O P Q R S T U V W X Y Z
LEFT_BRACKET BACKSLASH RIGHT_BRACKET GRAVE_ACCENT ESCAPE TAB ENTER BACKSPACE INSERT DEL
RIGHT LEFT DOWN UP PAGE_UP PAGE_DOWN HOME END CAPS_LOCK SCROLL_LOCK NUM_LOCK PRINT_SCREEN PAUSE
F1 F2 F3 F4 F5 F6 F7 F8 F9 F10 F11 F12
NUMPAD_0 NUMPAD_1 NUMPAD_2 NUMPAD_3 NUMPAD_4 NUMPAD_5 NUMPAD_6 NUMPAD_7 NUMPAD_8 NUMPAD_9
NUMPAD_DEL NUMPAD_DIVIDE NUMPAD_MULTIPLY NUMPAD_SUBTRACT NUMPAD_ADD NUMPAD_ENTER NUMPAD_EQUAL
LEFT_SHIFT LEFT_CONTROL LEFT_ALT LEFT_SUPER RIGHT_SHIFT RIGHT_CONTROL RIGHT_ALT RIGHT_SUPER MENU
""".split()

KeyboardInput = ApiEnum(  # type: ignore[call-arg]
    "KeyboardInput",  # type: ignore[arg-type]
    [(f"KEY_{key}", i) for i, key in enumerate(_KEYS)],
    module=__name__,  # where pickle finds it
)


class MouseInput(ApiEnum):
    """Mouse buttons and movements a viewer reports."""

    MOUSE_LEFT_BUTTON = 0
    MOUSE_RIGHT_BUTTON = 1
    MOUSE_MIDDLE_BUTTON = 2
    MOUSE_FORWARD_BUTTON = 3
    MOUSE_BACK_BUTTON = 4
    MOUSE_SCROLL_RIGHT = 5
    MOUSE_SCROLL_LEFT = 6
    MOUSE_SCROLL_UP = 7
    MOUSE_SCROLL_DOWN = 8
    MOUSE_MOVE_RIGHT = 9
    MOUSE_MOVE_LEFT = 10
    MOUSE_MOVE_UP = 11
    MOUSE_MOVE_DOWN = 12


INVALID_HANDLE = -1
DEFAULT_VIEWER_WIDTH = 1600
DEFAULT_VIEWER_HEIGHT = 900

# Which parts of a state a getter or setter means.
STATE_NONE = 0
STATE_POS = 1
STATE_VEL = 2
STATE_ALL = 3

# Bits of RigidBodyProperties.flags.
RIGID_BODY_NONE = 0
RIGID_BODY_DISABLE_GRAVITY = 1
RIGID_BODY_DISABLE_SIMULATION = 2
RIGID_BODY_ENABLE_GYROSCOPIC_FORCES = 4

# Bits of AttractorProperties.axes.
AXIS_NONE = 0
AXIS_X = 1
AXIS_Y = 2
AXIS_Z = 4
AXIS_TRANSLATION = 7
AXIS_TWIST = 8
AXIS_SWING_1 = 16
AXIS_SWING_2 = 32
AXIS_ROTATION = 56
AXIS_ALL = 63
