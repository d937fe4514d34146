"""Parameters of simulations, grounds and assets, which programs fill in.

Every class here is a `Struct` (see `structs.py`): a value with fixed fields. Units are SI.
"""

from isaacgym.enums import (
    ContactCollection,
    DofDriveMode,
    MeshNormalMode,
    UpAxis,
    UsdMaterialMode,
)
from isaacgym.geometry import Transform, Vec3
from isaacgym.structs import Struct


class PhysXParams(Struct):
    """PhysX's solver, contacts and buffers. `docs/isaacgym.md` says what each means here."""

    solver_type: int = 1
    """0 is PGS, 1 is TGS."""
    num_position_iterations: int = 4
    num_velocity_iterations: int = 1
    contact_offset: float = 0.02
    """[m] Contacts form where the gap is below the sum of both shapes' offsets."""
    rest_offset: float = 0.001
    """[m] Bodies come to rest at a gap of the sum of both shapes' offsets."""
    bounce_threshold_velocity: float = 0.01
    """[m/s] Slower impacts do not bounce."""
    max_depenetration_velocity: float = 100.0
    """[m/s] Bound on the velocity that separates penetrating shapes."""
    friction_offset_threshold: float = 0.04
    friction_correlation_distance: float = 0.025
    max_gpu_contact_pairs: int = 1024 * 1024
    default_buffer_size_multiplier: float = 2.0
    num_threads: int = 4
    num_subscenes: int = 0
    use_gpu: bool = False
    always_use_articulations: bool = False
    contact_collection: ContactCollection = ContactCollection.CC_ALL_SUBSTEPS


class FlexParams(Struct):
    """Parameters of the Flex engine, which is not provided. Programs may set them."""

    solver_type: int = 5
    num_outer_iterations: int = 4
    num_inner_iterations: int = 15
    relaxation: float = 0.75
    warm_start: float = 0.8
    geometric_stiffness: float = 0.0
    contact_regularization: float = 1e-6
    deterministic_mode: bool = False
    dynamic_friction: float = 0.5
    static_friction: float = 0.5
    friction_mode: int = 2
    particle_friction: float = 0.0
    max_rigid_contacts: int = 512 * 1024
    max_soft_contacts: int = 512 * 1024
    return_contacts: bool = False
    shape_collision_distance: float = 0.0
    shape_collision_margin: float = 0.0


class SimParams(Struct):
    """Parameters of a simulation, for `create_sim` and `set_sim_params`."""

    dt: float = 1 / 60
    """[s] Simulated time of one `simulate`."""
    substeps: int = 2
    """Equal physics steps in one `simulate`."""
    up_axis: UpAxis = UpAxis.UP_AXIS_Y
    gravity: Vec3 = Vec3(0.0, -9.8, 0.0)
    """[m/s^2]"""
    use_gpu_pipeline: bool = False
    """Whether tensors live on the GPU."""
    num_client_threads: int = 0
    physx: PhysXParams = PhysXParams()
    flex: FlexParams = FlexParams()
    stress_visualization: bool = False
    stress_visualization_min: float = 0.0
    stress_visualization_max: float = 1e5
    enable_actor_creation_warning: bool = True


class PlaneParams(Struct):
    """An infinite ground: the points x with normal . x + distance = 0."""

    normal: Vec3 = Vec3(0.0, 1.0, 0.0)
    distance: float = 0.0
    """[m] Positive lowers the ground along its normal."""
    static_friction: float = 1.0
    dynamic_friction: float = 1.0
    restitution: float = 0.0
    segmentation_id: int = 0


class TriangleMeshParams(Struct):
    """A static triangle mesh, shared by all environments."""

    nb_vertices: int = 0
    nb_triangles: int = 0
    transform: Transform = Transform()
    static_friction: float = 1.0
    dynamic_friction: float = 1.0
    restitution: float = 0.0
    segmentation_id: int = 0


class HeightFieldParams(Struct):
    """A static height field, shared by all environments."""

    nbRows: int = 0
    nbColumns: int = 0
    row_scale: float = 1.0
    """[m] between two rows"""
    column_scale: float = 1.0
    """[m] between two columns"""
    vertical_scale: float = 1.0
    """[m] for a sample of 1"""
    transform: Transform = Transform()
    static_friction: float = 1.0
    dynamic_friction: float = 1.0
    restitution: float = 0.0
    segmentation_id: int = 0


class VhacdParams(Struct):
    """Convex decomposition of collision meshes."""

    resolution: int = 100000
    concavity: float = 0.0
    plane_downsampling: int = 4
    convex_hull_downsampling: int = 4
    alpha: float = 0.05
    beta: float = 0.05
    pca: int = 0
    mode: int = 0
    max_num_vertices_per_ch: int = 64
    min_volume_per_ch: float = 1e-4
    max_convex_hulls: int = 64
    convex_hull_approximation: bool = True
    ocl_acceleration: bool = True
    project_hull_vertices: bool = True


class AssetOptions(Struct):
    """Options for reading a file as an asset."""

    fix_base_link: bool = False
    """Weld the root to the world."""
    collapse_fixed_joints: bool = False
    """Merge links joined by fixed joints."""
    default_dof_drive_mode: DofDriveMode = DofDriveMode.DOF_MODE_NONE
    disable_gravity: bool = False
    density: float = 1000.0
    """[kg/m^3] For bodies whose file gives no mass."""
    armature: float = 0.0
    """[kg m^2 or kg] Added to the inertia of every degree of freedom."""
    use_physx_armature: bool = True
    thickness: float = 0.02
    """[m]"""
    linear_damping: float = 0.0
    """[1/s]"""
    angular_damping: float = 0.5
    """[1/s]"""
    max_linear_velocity: float = 1000.0
    """[m/s]"""
    max_angular_velocity: float = 64.0
    """[rad/s]"""
    enable_gyroscopic_forces: bool = True
    flip_visual_attachments: bool = False
    use_mesh_materials: bool = False
    mesh_normal_mode: MeshNormalMode = MeshNormalMode.FROM_ASSET
    replace_cylinder_with_capsule: bool = False
    slices_per_cylinder: int = 20
    vhacd_enabled: bool = False
    vhacd_params: VhacdParams = VhacdParams()
    convex_decomposition_from_submeshes: bool = False
    override_com: bool = False
    """Take centres of mass from the geometry instead of the file."""
    override_inertia: bool = False
    """Take masses and inertias from the geometry instead of the file."""
    tendon_limit_stiffness: float = 1.0
    min_particle_mass: float = 1e-12


class UsdExportOptions(Struct):
    """Options of the USD exporter, which is not provided. Programs may set them."""

    export_physics: bool = True
    material_mode: UsdMaterialMode = UsdMaterialMode.USD_MATERIAL_DISPLAY_COLOR
    scale: float = 1.0
    single_file: bool = False
    use_geom_subsets: bool = False
    use_physics_visuals: bool = False
