"""The state of every call of Isaac Gym's `Gym` object: `SUPPORT[name]` is a line for users.

"supported" means that a call does what it does in Isaac Gym. Other lines say what is different, or
why the call is refused; a refused call raises NotImplementedError with that line. Tests check this
table.
"""

_SOFT = "soft bodies and particles belong to the Flex engine"
_USD = "USD and Omniverse are not provided"
_EXPORT = "USD files are not written; switch the program's export off (export_scene in Factory)"
_NO_SOFT = "supported; there are none, soft bodies belong to the Flex engine"

REFUSED: dict[str, str] = {
    **dict.fromkeys(
        """
        create_cloth_grid create_tet_grid get_actor_tetrahedra_range get_actor_triangle_range
        reset_actor_particles_to_rest acquire_particle_state_tensor refresh_particle_state_tensor
        set_particle_state_tensor set_particle_state_tensor_indexed
        acquire_pneumatic_pressure_tensor acquire_pneumatic_target_tensor
        refresh_pneumatic_pressure_tensor refresh_pneumatic_target_tensor
        set_pneumatic_pressure_tensor set_pneumatic_pressure_tensor_indexed
        set_pneumatic_target_tensor set_pneumatic_target_tensor_indexed get_pneumatic_pressure
        get_pneumatic_target set_pneumatic_pressure set_pneumatic_target get_soft_contacts
        """.split(),
        _SOFT,
    ),
    **dict.fromkeys(
        "load_usd load_opensim load_sim attach_sim omni_connect omni_disconnect".split(), _USD
    ),
    **dict.fromkeys(
        """
        create_usd_exporter destroy_usd_exporter export_usd_asset export_usd_sim get_usd_export_root
        set_usd_export_root
        """.split(),
        _EXPORT,
    ),
    **dict.fromkeys(
        """
        get_vec_rigid_transform get_vec_rigid_linear_velocity get_vec_rigid_angular_velocity
        """.split(),
        "use the rigid body state tensor",
    ),
    "get_sensor": "use gym.get_actor_force_sensor",
    "set_actor_fixed_tendon_joint_coefficients": (
        "coefficients belong to the asset; use gym.set_asset_fixed_tendon_joint_coefficients"
    ),
    **dict.fromkeys(
        "create_performance_timers get_performance_timers destroy_performance_timers".split(),
        "there are no timers",
    ),
}

_NOTED: dict[str, str] = {
    "add_triangle_mesh": "supported; uses the surface seen from above, as a height field",
    "acquire_dof_force_tensor": "supported; forces of the drives only",
    "add_heightfield": "supported where z is up; use a triangle mesh where y is",
    "apply_rigid_body_force_tensors": "supported; several calls before a simulate add up",
    "begin_aggregate": "accepted without effect; a hint to PhysX",
    "end_aggregate": "accepted without effect; a hint to PhysX",
    "create_aggregate": "accepted without effect; a hint to PhysX",
    "create_asset_force_sensor": "supported; constraint forces are those of contacts",
    "create_force_sensor": "supported before the next environment is created",
    "create_rigid_body_attractor": (
        "supported for AXIS_TRANSLATION and AXIS_ALL, as a spring and a damper; with"
        " stiffness 0 without effect"
    ),
    "create_texture_from_buffer": "supported; cameras draw it, the viewer does not",
    "create_texture_from_file": "supported; cameras draw it, the viewer does not",
    "get_camera_image": (
        "supported, on the host; a camera sees its own environment and the ground"
    ),
    "get_camera_image_gpu_tensor": (
        "the same as a tensor on the device, which `render_all_camera_sensors` fills"
    ),
    "destroy_env": "supported for the last one before prepare_sim; later without effect",
    "create_sim": "supported for SIM_PHYSX; uses the CPU if there is no GPU",
    "create_viewer": "supported; MuJoCo's viewer, with all environments; None without a display",
    "enable_actor_dof_force_sensors": "supported; always enabled",
    "fetch_results": "accepted; results are available after simulate",
    "get_actor_dof_forces": "supported; forces of the drives only, in the last substep",
    **dict.fromkeys(
        ("get_rigid_contacts", "get_env_rigid_contacts"),
        "supported; some milliseconds for each environment; `lambda` times `normal` is the force on"
        " body0, as in Isaac Gym (its page says that the normal points to body1)",
    ),
    "get_viewer_camera_handle": (
        "always -1: the window is no camera; use gym.write_viewer_image_to_file"
    ),
    "get_viewer_mouse_position": "always (0, 0)",
    "poll_viewer_events": "accepted; the window handles its own events",
    "refresh_dof_force_tensor": "supported; without the forces of joint limits and dry friction",
    "refresh_force_sensor_tensor": "supported; forces of the last substep",
    "refresh_net_contact_force_tensor": "supported; forces of the last substep, friction included",
    "refresh_rigid_body_state_tensor": "supported; also current after setters",
    "set_actor_scale": "supported; masses that the program set are scaled too",
    "set_light_parameters": "accepted without effect; the viewer has its own light",
    "set_rigid_body_state_tensor": (
        "changes nothing and returns False, as with PhysX; use gym.set_actor_root_state_tensor"
    ),
    "set_sim_params": "supported for gravity; dt, substeps and device are fixed",
    "step_graphics": "accepted; draw_viewer fetches the poses",
    **dict.fromkeys(
        """
        set_actor_rigid_body_states set_env_rigid_body_states set_sim_rigid_body_states
        set_rigid_transform set_rigid_linear_velocity set_rigid_angular_velocity
        """.split(),
        "supported for roots of actors; joints place the other bodies",
    ),
    "write_viewer_image_to_file": (
        "supported; draws the environment nearest to the window's target, not the window"
    ),
    **dict.fromkeys(
        """
        get_asset_soft_body_count get_asset_soft_materials get_actor_soft_body_count
        get_actor_soft_materials set_actor_soft_materials get_sim_tetrahedra_count
        get_sim_tetrahedra get_sim_triangle_count get_sim_triangles draw_env_soft_contacts
        """.split(),
        _NO_SOFT,
    ),
    "subscribe_viewer_mouse_event": "accepted; the mouse moves MuJoCo's camera",
}

_SUPPORTED = """
create_sim destroy_sim prepare_sim simulate fetch_results get_sim_params set_sim_params
set_sim_device get_frame_count get_sim_time get_elapsed_time get_version initialize
add_ground add_heightfield add_triangle_mesh
load_asset load_urdf load_mjcf create_box create_sphere create_capsule debug_print_asset
get_asset_dof_count get_asset_dof_names get_asset_dof_name get_asset_dof_dict get_asset_dof_type
get_asset_dof_properties get_asset_rigid_body_count get_asset_rigid_body_names
get_asset_rigid_body_name get_asset_rigid_body_dict get_asset_rigid_body_shape_indices
get_asset_rigid_shape_count get_asset_rigid_shape_properties set_asset_rigid_shape_properties
get_asset_joint_count get_asset_joint_names get_asset_joint_name get_asset_joint_dict
get_asset_joint_type get_asset_actuator_count get_asset_actuator_name get_asset_actuator_joint_name
get_asset_actuator_properties get_asset_tendon_count get_asset_soft_body_count find_asset_dof_index
find_asset_rigid_body_index find_asset_joint_index find_asset_actuator_index find_asset_tendon_index
create_asset_force_sensor create_force_sensor get_actor_force_sensor get_dof_type_string
get_joint_type_string
create_env destroy_env get_env get_env_count get_env_origin get_env_dof_count get_env_joint_count
get_env_rigid_body_count get_env_rigid_body_states get_sim_actor_count get_sim_dof_count
get_sim_joint_count get_sim_rigid_body_count get_sim_force_sensor_count get_sim_rigid_body_states
begin_aggregate end_aggregate create_aggregate
create_actor get_actor_count get_actor_handle find_actor_handle get_actor_index find_actor_index
get_actor_name get_actor_asset get_actor_rigid_body_count get_actor_rigid_body_names
get_actor_rigid_body_dict get_actor_rigid_body_handle get_actor_rigid_body_index
find_actor_rigid_body_handle find_actor_rigid_body_index get_actor_root_rigid_body_handle
get_actor_rigid_body_shape_indices get_actor_rigid_shape_count get_actor_dof_count
get_actor_dof_names get_actor_dof_dict get_actor_dof_handle get_actor_dof_index
find_actor_dof_handle find_actor_dof_index get_actor_joint_count get_actor_joint_names
get_actor_joint_dict get_actor_joint_handle get_actor_joint_index find_actor_joint_handle
find_actor_joint_index get_actor_actuator_count get_actor_actuator_name
get_actor_actuator_joint_name get_actor_actuator_properties find_actor_actuator_index
get_actor_scale set_actor_scale get_actor_soft_body_count get_rigid_handle get_rigid_name
get_joint_handle get_joint_name
get_actor_dof_properties set_actor_dof_properties get_actor_rigid_body_properties
set_actor_rigid_body_properties get_actor_rigid_shape_properties set_actor_rigid_shape_properties
get_asset_tendon_name get_asset_tendon_properties set_asset_tendon_properties
get_asset_fixed_tendon_joint_coefficients set_asset_fixed_tendon_joint_coefficients
get_asset_fixed_tendon_joint_name get_actor_tendon_properties set_actor_tendon_properties
get_actor_tendon_count get_actor_tendon_name get_actor_tendon_offset set_actor_tendon_offset
find_actor_tendon_index get_actor_fixed_tendon_joint_coefficients
get_actor_fixed_tendon_joint_name find_actor_fixed_tendon_joint_index
enable_actor_dof_force_sensors get_actor_force_sensor_count
acquire_actor_root_state_tensor acquire_dof_state_tensor acquire_rigid_body_state_tensor
acquire_net_contact_force_tensor acquire_dof_force_tensor acquire_force_sensor_tensor
acquire_jacobian_tensor acquire_mass_matrix_tensor refresh_actor_root_state_tensor
refresh_dof_state_tensor refresh_rigid_body_state_tensor refresh_net_contact_force_tensor
refresh_dof_force_tensor refresh_force_sensor_tensor refresh_jacobian_tensors
refresh_mass_matrix_tensors set_actor_root_state_tensor set_actor_root_state_tensor_indexed
set_dof_state_tensor set_dof_state_tensor_indexed set_dof_position_target_tensor
set_dof_position_target_tensor_indexed set_dof_velocity_target_tensor
set_dof_velocity_target_tensor_indexed set_dof_actuation_force_tensor
set_dof_actuation_force_tensor_indexed apply_rigid_body_force_tensors
apply_rigid_body_force_at_pos_tensors set_rigid_body_state_tensor
get_actor_dof_states get_vec_actor_dof_states set_actor_dof_states get_actor_dof_position_targets
set_actor_dof_position_targets get_actor_dof_velocity_targets set_actor_dof_velocity_targets
get_actor_dof_forces apply_actor_dof_efforts get_actor_rigid_body_states get_dof_position
get_dof_velocity get_dof_target_position get_dof_target_velocity set_dof_target_position
set_dof_target_velocity apply_dof_effort get_rigid_transform get_rigid_linear_velocity
get_rigid_angular_velocity set_actor_rigid_body_states set_env_rigid_body_states
set_sim_rigid_body_states set_rigid_transform set_rigid_linear_velocity set_rigid_angular_velocity
get_dof_frame get_actor_dof_frames get_joint_transform get_actor_joint_transforms
get_joint_position get_joint_velocity get_joint_target_position get_joint_target_velocity
set_joint_target_position set_joint_target_velocity apply_body_forces apply_body_force_at_pos
create_rigid_body_attractor
get_attractor_properties
set_attractor_properties set_attractor_target
create_viewer destroy_viewer draw_viewer step_graphics sync_frame_time poll_viewer_events
query_viewer_has_closed query_viewer_action_events subscribe_viewer_keyboard_event
subscribe_viewer_mouse_event viewer_camera_look_at get_viewer_camera_transform get_viewer_size
get_viewer_mouse_position get_viewer_camera_handle
add_lines clear_lines set_rigid_body_color get_rigid_body_color
set_rigid_body_segmentation_id get_rigid_body_segmentation_id set_light_parameters
get_rigid_contacts get_env_rigid_contacts get_rigid_contact_forces get_env_rigid_contact_forces
get_vec_env_rigid_contact_forces draw_env_rigid_contacts
create_camera_sensor destroy_camera_sensor set_camera_location set_camera_transform
attach_camera_to_body get_camera_transform get_camera_view_matrix get_camera_proj_matrix
render_all_camera_sensors start_access_image_tensors end_access_image_tensors get_camera_image
get_camera_image_gpu_tensor write_camera_image_to_file write_viewer_image_to_file
create_texture_from_file create_texture_from_buffer free_texture set_rigid_body_texture
get_rigid_body_texture reset_actor_materials
get_asset_soft_materials get_actor_soft_materials set_actor_soft_materials get_sim_tetrahedra_count
get_sim_tetrahedra get_sim_triangle_count get_sim_triangles draw_env_soft_contacts
""".split()

SUPPORT: dict[str, str] = {
    **{name: _NOTED.get(name, "supported") for name in _SUPPORTED},
    **{name: f"refused: {why}" for name, why in REFUSED.items()},
}


def table(plain: bool = True) -> str:
    """A Markdown table with a row for each state, refused calls first; without `plain`, calls that
    do just what they do in Isaac Gym are left out."""
    by_state: dict[str, list[str]] = {}
    for name, state in SUPPORT.items():
        by_state.setdefault(state, []).append(name)
    supported = by_state.pop("supported")
    rows = sorted(by_state.items(), key=lambda row: not row[0].startswith("refused"))
    rows += [("supported", supported)] if plain else []
    lines = [f"| {', '.join(f'`{n}`' for n in sorted(names))} | {state} |" for state, names in rows]
    return "\n".join(["| calls of `gym` | state |", "| --- | --- |", *lines])


if __name__ == "__main__":
    print(table())
