"""Assets: a robot or a prop, read once and placed any number of times.

    ant = load_file("assets/mjcf", "nv_ant.xml", AssetOptions(), {})
    ant.body_names, ant.dof_names, ant.dof_props["driveMode"]

`phalanx.sim.assets` reads the files; this module interprets them as Isaac Gym does. Joint stiffness
and damping, actuators and limits of a file become properties of the degrees of freedom. The
compiled model keeps only bodies, joints and shapes; `scene.py` adds the drives. Bodies, joints and
shapes are in the depth-first order of the compiled model. Children are sorted by joint name for a
URDF and keep the order of the file for an MJCF.
"""

import copy
import functools
import hashlib
import logging
from collections.abc import Iterable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import mujoco
import numpy as np

from isaacgym.enums import RIGID_BODY_DISABLE_GRAVITY, DofDriveMode, DofType, JointType
from isaacgym.geometry import Transform
from isaacgym.messages import say_once
from isaacgym.params import AssetOptions
from isaacgym.properties import BODY_PROPERTIES, SHAPE_PROPERTIES, body_structs
from isaacgym.property_structs import ActuatorProperties, ForceSensorProperties
from isaacgym.structs import single
from isaacgym.tendons import file_properties, take_tendons
from isaacgym.values import DOF_PROPERTIES, FLT_MAX
from phalanx.errors import PhalanxError
from phalanx.sim.assets import load_robot
from phalanx.sim.bodies import name_all
from phalanx.sim.decompose import Splitting
from phalanx.sim.urdf import WORLD
from phalanx.sim.xml_file import read_xml

log = logging.getLogger(__name__)

NO_FILTER = -1  # as the filter of an actor: keep the collision masks of the file
JOINT_TYPES = {
    int(mujoco.mjtJoint.mjJNT_HINGE): JointType.JOINT_REVOLUTE,
    int(mujoco.mjtJoint.mjJNT_SLIDE): JointType.JOINT_PRISMATIC,
}
THINNEST = 1e-4  # [m] edge of a box that a program makes flat
UNUSED_OPTIONS = (
    "use_physx_armature",
    "enable_gyroscopic_forces",
    "override_com",
    "override_inertia",
    "convex_decomposition_from_submeshes",
    "use_mesh_materials",
)


class Asset:
    """One root body and everything below it.

    spec: a description of the bodies, of which scenes attach copies. name: for messages. key: equal
    for assets with the same content. model: the spec, compiled alone. fixed: welded to the world.
    """

    def __init__(
        self, spec: mujoco.MjSpec, options: AssetOptions, name: str, key: tuple[Any, ...]
    ) -> None:
        for field in (
            *("density", "armature", "linear_damping", "angular_damping"),
            *("max_linear_velocity", "max_angular_velocity", "tendon_limit_stiffness"),
        ):
            if not 0 <= getattr(options, field) < FLT_MAX:
                raise PhalanxError(
                    f"AssetOptions.{field} is {getattr(options, field):g}; it must be finite and"
                    " not negative"
                )
        default = AssetOptions()
        changed = [n for n in UNUSED_OPTIONS if getattr(options, n) != getattr(default, n)]
        if changed:
            say_once(f"{name}: without effect: AssetOptions.{', '.join(changed)}")
        self.spec = spec
        self.name = name
        self.key = key
        self.options = options
        root = spec.worldbody.first_body()
        self.fixed = not any(j.type == mujoco.mjtJoint.mjJNT_FREE for j in root.joints)
        name_all(spec)
        if options.replace_cylinder_with_capsule:
            _round_off_cylinders(spec)
        self.actuators = _take_actuators(spec)
        limited = {j.name for j in spec.joints if j.limited == mujoco.mjtLimited.mjLIMITED_TRUE}
        auto = mujoco.mjtLimited.mjLIMITED_AUTO
        if ranges := [j.name for j in spec.joints if j.limited == auto and any(j.range)]:
            say_once(
                f'{name}: joints with a range but without limited="true" have no limits, as in'
                f" Isaac Gym: {', '.join(ranges)}"
            )
        _strip(spec)
        try:
            self.model = model = spec.compile()
        except ValueError as error:  # of a primitive: those of files have been compiled
            reason = str(error).partition("\n")[0].removeprefix("Error: ")
            raise PhalanxError(f"{name} cannot be made: {reason}") from error
        names = [model.body(i).name for i in range(1, model.nbody)]
        self.body_names = ["world" if name == WORLD else name for name in names]
        joints = [i for i in range(model.njnt) if model.jnt_type[i] != mujoco.mjtJoint.mjJNT_FREE]
        for i in joints:
            if int(model.jnt_type[i]) not in JOINT_TYPES:
                raise PhalanxError(
                    f"{name}: joint {model.jnt(i).name!r} is a ball joint, which has no degree of"
                    " freedom in Isaac Gym; replace it by three hinges"
                )
        self.dof_names = [model.jnt(i).name for i in joints]
        self.dof_joints = np.array(joints, int)
        self.dof_qpos = model.jnt_qposadr[self.dof_joints]
        self.dof_types = [
            DofType.DOF_ROTATION
            if model.jnt_type[i] == mujoco.mjtJoint.mjJNT_HINGE
            else DofType.DOF_TRANSLATION
            for i in joints
        ]
        self.dof_props = self._dof_properties(joints, limited)
        self.bodies = self._body_properties()
        self.body_structs = body_structs(self.bodies)
        """The same as structs, since copying them is faster than making them."""
        collides = (model.geom_contype != 0) | (model.geom_conaffinity != 0)
        collides &= model.geom_type != mujoco.mjtGeom.mjGEOM_PLANE
        self.shape_geoms = np.flatnonzero(collides)
        types = model.geom_type[self.shape_geoms]
        self.collides_as_mesh = bool((types == mujoco.mjtGeom.mjGEOM_MESH).any())
        self.shape_body = model.geom_bodyid[self.shape_geoms] - 1
        self.shapes = np.zeros(len(self.shape_geoms), SHAPE_PROPERTIES)
        self.shapes["friction"] = model.geom_friction[self.shape_geoms, 0]
        self.shapes["contact_offset"], self.shapes["rest_offset"] = 0.02, 0.001
        self.joints = self._joints({})
        self.tendons = take_tendons(model)
        self.tendon_props = file_properties(model, options.tendon_limit_stiffness)
        self.root_quat = model.body_quat[1].copy()
        """Rotation of the root in the file, w x y z; its position counts for nothing."""
        self.turned = bool((self.root_quat != [1, 0, 0, 0]).any())
        self.sensors: list[tuple[int, Transform, ForceSensorProperties]] = []
        self.placed = False
        self.rest_poses: dict[Any, tuple[np.ndarray, np.ndarray]] = {}
        """See `start.rest_poses`."""
        self.warned_of_sensor = False

    @property
    def num_bodies(self) -> int:
        """Number of rigid bodies, root included."""
        return len(self.body_names)

    @property
    def num_dofs(self) -> int:
        """Number of hinges and slides."""
        return len(self.dof_names)

    @functools.cached_property
    def structure(self) -> tuple[Any, ...]:
        """Equal for assets that are copies of one model with other meshes and other numbers: sizes,
        places, masses, gains, ..."""
        m, options = self.model, self.options
        fields = (
            m.body_parentid, m.jnt_type, m.jnt_bodyid, m.geom_type, m.geom_bodyid, m.geom_contype,
            m.geom_conaffinity, m.exclude_signature,
        )  # fmt: skip
        tendons = tuple((tuple(t.joints), tuple(t.coefficients)) for t in self.tendons)
        speeds = (options.max_linear_velocity, options.max_angular_velocity)
        damping = (options.linear_damping, options.angular_damping)
        of_arrays = tuple(values.tobytes() for values in fields)
        return (of_arrays, tendons, speeds, damping)

    @functools.cached_property
    def meshes(self) -> tuple[bytes, ...]:
        """What identifies the mesh of each geom; nothing for geoms without one."""
        m = self.model
        return tuple(_mesh_bytes(m, int(mesh)) if mesh >= 0 else b"" for mesh in m.geom_dataid)

    @functools.cached_property
    def materials(self) -> bytes:
        """A digest that identifies the materials and textures of the geoms."""
        m, digest = self.model, hashlib.sha256()
        for values in (m.geom_matid, m.mat_rgba, m.mat_texid, m.tex_adr, m.tex_data):
            digest.update(str(values.shape).encode())
            digest.update(values.tobytes())
        return digest.digest()

    @functools.cached_property
    def plain_colors(self) -> np.ndarray:
        """Colour of each geom without textures, (geoms, 4): its own, else its material's."""
        m = self.model
        of_material = (m.geom_matid >= 0) & (m.geom_rgba == [0.5, 0.5, 0.5, 1.0]).all(1)
        colors: np.ndarray = m.geom_rgba.copy()
        colors[of_material] = m.mat_rgba[m.geom_matid[of_material]]
        return colors

    def shape_range(self, body: int) -> tuple[int, int]:
        """(first shape, number of shapes) of a body."""
        own = np.flatnonzero(self.shape_body == body)
        return (int(own[0]) if len(own) else 0, len(own))

    def name_fixed_joints(self, names: dict[str, str]) -> None:
        """Name the fixed joints, which MuJoCo's model does not keep. names: by child body."""
        self.joints = self._joints(names)

    def _dof_properties(self, joints: list[int], limited: set[str]) -> np.ndarray:
        model, options = self.model, self.options
        props = np.zeros(len(joints), DOF_PROPERTIES)
        for k, i in enumerate(joints):
            dof, name = int(model.jnt_dofadr[i]), model.jnt(i).name
            row = props[k]
            row["hasLimits"] = name in limited
            row["lower"], row["upper"] = (
                model.jnt_range[i] if name in limited else (-FLT_MAX, FLT_MAX)
            )
            row["driveMode"] = int(options.default_dof_drive_mode)
            row["effort"] = model.jnt_actfrcrange[i, 1] if model.jnt_actfrclimited[i] else FLT_MAX
            urdf = self.name.endswith(".urdf")  # an MJCF's numbers are its user's
            speed = model.jnt_user[i, 0] if urdf and model.nuser_jnt else 0.0
            row["velocity"] = speed if speed > 0 else FLT_MAX
            row["stiffness"] = model.jnt_stiffness[i]
            row["damping"] = model.dof_damping[dof]
            row["armature"] = model.dof_armature[dof] + options.armature
            if self.name.endswith(".urdf"):
                row["friction"] = model.dof_frictionloss[dof]
        for _, joint, mode, actuator in self.actuators:
            if joint in self.dof_names:
                row = props[self.dof_names.index(joint)]
                row["driveMode"] = int(mode)
                if mode == DofDriveMode.DOF_MODE_POS:
                    row["stiffness"] = actuator.kp
                elif mode == DofDriveMode.DOF_MODE_VEL:
                    row["damping"] = actuator.kv
                if mode != DofDriveMode.DOF_MODE_EFFORT and actuator.force_limited:
                    row["effort"] = actuator.upper_force_limit
        return props

    def _body_properties(self) -> np.ndarray:
        model = self.model
        bodies = np.zeros(model.nbody - 1, BODY_PROPERTIES)
        bodies["mass"] = model.body_mass[1:]
        bodies["com"] = model.body_ipos[1:]
        for b in range(1, model.nbody):
            axes = rotation(model.body_iquat[b])
            bodies["inertia"][b - 1] = axes @ np.diag(model.body_inertia[b]) @ axes.T
        bodies["flags"] = RIGID_BODY_DISABLE_GRAVITY if self.options.disable_gravity else 0
        return bodies

    def _joints(self, fixed: dict[str, str]) -> list[tuple[str, JointType]]:
        """Names and types of joints in body order, with a fixed joint for each body that has none.
        fixed: names of fixed joints by body."""
        model = self.model
        joints: list[tuple[str, JointType]] = []
        for b in range(2, model.nbody):
            first = int(model.body_jntadr[b])
            own = range(first, first + int(model.body_jntnum[b]))
            name = model.body(b).name
            joints += [(model.jnt(j).name, JOINT_TYPES[int(model.jnt_type[j])]) for j in own] or [
                (fixed.get(name, name), JointType.JOINT_FIXED)
            ]
        return joints


Read = dict[tuple[Any, ...], mujoco.MjSpec]
"""Files that were read before, by path, content and what they were read with."""


def load_file(root: str, filename: str, options: AssetOptions | None, read: Read) -> Asset:
    """The asset in an MJCF or URDF file. A file in `read` is not read again: programs load every
    object twice, as itself and as its goal, which floats. Raises PhalanxError, naming file and
    element."""
    path = Path(root or ".") / filename
    options = _with_density(options, path)
    is_urdf = path.suffix.lower() == ".urdf"
    ways: dict[str, Any] = {
        "fixed_base": options.fix_base_link,
        "density": options.density if is_urdf else None,
        "collapse_fixed_joints": options.collapse_fixed_joints and is_urdf,
        "decompose": _to_decompose(path, options),
        "splitting": _splitting(options),
        "drop_root_joints": True,
        "drop_unknown": True,  # Isaac Gym reads what it knows
    }
    # Some programs rewrite a file for every environment; only its content tells the assets apart.
    content = hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else ""
    file = str(path.resolve()), content
    if (spec := read.get((*file, *ways.values()))) is None:
        spec = read[*file, *ways.values()] = load_robot(path, **ways).spec
    asset = Asset(spec.copy(), options, str(path), (*file, repr(options)))
    if is_urdf:
        asset.name_fixed_joints(_fixed_joints(path))
    return asset


def _with_density(options: AssetOptions | None, what: object) -> AssetOptions:
    """Options with a density, which programs whose bodies all have a mass give as -1."""
    options = options or AssetOptions()
    if not options.density < 0:
        return options
    usual = AssetOptions().density
    say_once(
        f"{what}: AssetOptions.density is {options.density:g}; bodies without a mass of their own"
        f" have {usual:g} kg/m^3"
    )
    options = copy.copy(options)
    options.density = usual
    return options


def _to_decompose(path: Path, options: AssetOptions) -> bool | str:
    """Which collision meshes to split into convex parts; see `load_robot`."""
    if find_spec("coacd") is not None:
        return options.vhacd_enabled or "sdf"
    if options.vhacd_enabled:
        say_once(
            f"{path}: meshes collide as their convex hulls; for AssetOptions.vhacd_enabled install"
            " CoACD: pip install 'phalanx[decompose]'"
        )
    return False


def _splitting(options: AssetOptions) -> Splitting | None:
    """What V-HACD's parameters mean to CoACD; None for meshes with an <sdf>, which have none."""
    if not options.vhacd_enabled:
        return None
    params = options.vhacd_params
    return Splitting(
        # 0.0025 is V-HACD's default and 0.05 CoACD's
        concavity=min(max(20 * params.concavity, 0.01), 1.0) if params.concavity > 0 else 0.0,
        max_parts=max(params.max_convex_hulls, 1),
        max_vertices=max(params.max_num_vertices_per_ch, 4),
        cells=min(max(round(params.resolution ** (1 / 3)), 20), 100),  # of voxels in all
    )


def make_primitive(kind: str, size: Iterable[float], options: AssetOptions | None) -> Asset:
    """A body of one shape: a "box" (edges along x, y, z), "sphere" (radius) or "capsule" (radius,
    length of the cylinder along x), in metres. A length of 0 becomes `THINNEST`. Raises
    PhalanxError for a negative one."""
    options = _with_density(options, kind)
    lengths = [single(length) for length in size]
    if not all(0 <= length < FLT_MAX for length in lengths):
        raise PhalanxError(
            f"gym.create_{kind} was given size {lengths}; none may be negative or infinite"
        )
    lengths = [max(length, THINNEST) for length in lengths]
    if options.density == 0:
        raise PhalanxError("AssetOptions.density is 0, it must be positive")
    spec = mujoco.MjSpec()
    body = spec.worldbody.add_body(name=kind)
    geom = body.add_geom(density=options.density)
    if kind == "box":
        geom.type, geom.size = mujoco.mjtGeom.mjGEOM_BOX, [length / 2 for length in lengths]
    elif kind == "sphere":
        geom.type, geom.size = mujoco.mjtGeom.mjGEOM_SPHERE, [*lengths, 0, 0]
    else:
        geom.type, geom.size = mujoco.mjtGeom.mjGEOM_CAPSULE, [lengths[0], lengths[1] / 2, 0]
        geom.quat = [np.sqrt(0.5), 0, np.sqrt(0.5), 0]
    if not options.fix_base_link:
        body.add_freejoint()
    return Asset(spec, options, kind, (kind, *lengths, repr(options)))


def _mesh_bytes(model: mujoco.MjModel, mesh: int) -> bytes:
    """Identifies the shape of a mesh."""
    if mesh >= model.nmesh:  # of a height field
        return b""
    first, count = int(model.mesh_vertadr[mesh]), int(model.mesh_vertnum[mesh])
    vertices = model.mesh_vert[first : first + count].tobytes()
    return hashlib.sha256(vertices + model.mesh_pos[mesh].tobytes()).digest()


def rotation(quat: np.ndarray) -> np.ndarray:
    """Rotation matrix (3, 3) of a quaternion (4,), w x y z."""
    flat = np.zeros(9)
    mujoco.mju_quat2Mat(flat, quat)
    return flat.reshape(3, 3)


def _fixed_joints(path: Path) -> dict[str, str]:
    """Names of the fixed joints of a URDF by child link; MuJoCo's model does not keep them."""
    fixed = {}
    for joint in read_xml(path).findall("joint"):
        child = joint.find("child")
        if joint.attrib.get("type") == "fixed" and child is not None:
            fixed[child.attrib.get("link", "")] = joint.attrib.get("name", "")
    return fixed


def _round_off_cylinders(spec: mujoco.MjSpec) -> None:
    for body in spec.bodies:
        for geom in body.geoms:
            if geom.type == mujoco.mjtGeom.mjGEOM_CYLINDER and geom.contype | geom.conaffinity:
                geom.type = mujoco.mjtGeom.mjGEOM_CAPSULE


def _take_actuators(
    spec: mujoco.MjSpec,
) -> list[tuple[str, str, DofDriveMode, ActuatorProperties]]:
    """(name, joint, drive mode, properties) of each actuator of a joint, in file order."""
    taken = []
    for actuator in spec.actuators:
        if actuator.trntype != mujoco.mjtTrn.mjTRN_JOINT:
            log.warning(
                "%s: actuator %r acts on no joint and is ignored", spec.modelname, actuator.name
            )
            continue
        gain, bias = float(actuator.gainprm[0]), np.asarray(actuator.biasprm)
        affine = actuator.biastype == mujoco.mjtBias.mjBIAS_AFFINE
        props = ActuatorProperties()
        if affine and bias[1] != 0:
            mode, props.kp, props.kv = DofDriveMode.DOF_MODE_POS, gain, -bias[2]
        elif affine and bias[2] != 0:
            mode, props.kv = DofDriveMode.DOF_MODE_VEL, gain
        else:
            mode, props.motor_effort = DofDriveMode.DOF_MODE_EFFORT, gain * actuator.gear[0]
        props.control_limited = _limited(actuator.ctrllimited, actuator.ctrlrange)
        props.force_limited = _limited(actuator.forcelimited, actuator.forcerange)
        if props.control_limited:
            props.lower_control_limit, props.upper_control_limit = actuator.ctrlrange
        if props.force_limited:
            props.lower_force_limit, props.upper_force_limit = actuator.forcerange
        taken.append((actuator.name, actuator.target, mode, props))
    return taken


def _limited(flag: int, limits: np.ndarray) -> bool:
    if flag == mujoco.mjtLimited.mjLIMITED_AUTO:
        return bool(limits[0] < limits[1])
    return flag == mujoco.mjtLimited.mjLIMITED_TRUE


def _strip(spec: mujoco.MjSpec) -> None:
    """Remove what Isaac Gym does not read from a file, and what the scene adds itself."""
    spatial = [
        t for t in spec.tendons if any(w.type != mujoco.mjtWrap.mjWRAP_JOINT for w in t.path)
    ]
    if spatial:
        log.warning(
            "%s: spatial tendons are not supported; %s ignored",
            spec.modelname,
            ", ".join(t.name for t in spatial),
        )
    if spec.equalities:
        log.warning(
            "%s: equality constraints, also those of <mimic>, are not supported; %s ignored",
            spec.modelname,
            ", ".join(e.name or "one without a name" for e in spec.equalities),
        )
    for group in (spec.sensors, spec.actuators, spec.equalities, spatial, spec.keys):
        for element in group:
            spec.delete(element)
