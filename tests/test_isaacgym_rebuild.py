"""isaacgym: what a program has set or read while it runs outlives the engine, which a new sensor or
another structure replaces."""

import numpy as np
import pytest
import torch

from isaac import GYM, World, options, pose
from isaacgym import gymapi, gymtorch
from isaacgym.support import SUPPORT

FINGER = """<mujoco model="finger">
  <worldbody><body name="base">
    <geom type="box" size="0.05 0.05 0.05" mass="1"/>
    <body name="upper" pos="0.1 0 0">
      <joint name="a" axis="0 1 0" range="-170 170" limited="true"/>
      <geom type="box" size="0.1 0.02 0.02" mass="0.2"/>
      <body name="lower" pos="0.2 0 0">
        <joint name="b" axis="0 1 0" range="-170 170" limited="true"/>
        <geom type="box" size="0.1 0.02 0.02" mass="0.1"/></body></body></body></worldbody>
  <tendon><fixed name="link" limited="true" range="-3 3">
    <joint joint="a" coef="1"/><joint joint="b" coef="-1"/></fixed></tendon>
  <actuator><position joint="a" kp="1"/><position joint="b" kp="1"/></actuator>
</mujoco>"""


class Scene(World):
    """A finger on a fixed base, a box that an attractor holds, and a free box on the ground."""

    def __init__(self, folder):
        super().__init__()
        self.ground()
        self.first = self.env()
        finger = self.load(folder, "finger.xml", FINGER, fix_base_link=True)
        box = GYM.create_box(self.sim, 0.2, 0.2, 0.2, options(density=125.0))  # 1 kg
        for x, asset, z in ((0, finger, 2.0), (1, box, 2.0), (2, box, 0.1)):
            GYM.create_actor(self.first, asset, pose(x=x, z=z), str(x), 0, 0)
        held = gymapi.AttractorProperties()
        held.rigid_handle, held.axes = 3, gymapi.AXIS_ALL
        held.stiffness, held.damping, held.target = 100.0, 10.0, pose(x=1.0, z=2.0)
        GYM.create_rigid_body_attractor(self.first, held)
        props = GYM.get_actor_dof_properties(self.first, 0)
        props["driveMode"] = gymapi.DOF_MODE_POS, gymapi.DOF_MODE_EFFORT
        props["stiffness"], props["damping"] = (2.0, 0.0), (0.3, 0.1)
        GYM.set_actor_dof_properties(self.first, 0, props)
        GYM.prepare_sim(self.sim)
        self.step(5)

    def states(self):
        return torch.cat(
            [self.tensor("actor_root_state").flatten(), self.tensor("dof_state").flatten()]
        )


def numbers(*values):
    return gymtorch.unwrap_tensor(torch.tensor(values, dtype=torch.float32))


def actors(*values):
    return gymtorch.unwrap_tensor(torch.tensor(values, dtype=torch.int32)), len(values)


def change(world, what, handle, field, value):
    """Set a field of the first of an actor's properties."""
    call = f"actor_{what}_properties"
    props = getattr(GYM, f"get_{call}")(world.first, handle)
    if isinstance(props, np.ndarray):
        props[field][0] = value
    else:
        setattr(props[0], field, value)
    return getattr(GYM, f"set_{call}")(world.first, handle, props)


def gravity(world):
    held = GYM.get_sim_params(world.sim)
    held.gravity = gymapi.Vec3(1.0, 0.0, -5.0)
    GYM.set_sim_params(world.sim, held)


def roots(world):
    new = world.tensor("actor_root_state").clone()
    new[:, 2] += 0.5
    return gymtorch.unwrap_tensor(new)


def bodies(world, of_actor=False):
    args = (world.first, 2) if of_actor else (world.first,)
    what = "actor" if of_actor else "env"
    held = getattr(GYM, f"get_{what}_rigid_body_states")(*args, gymapi.STATE_ALL)
    held["vel"]["linear"]["z"] += 1.0
    return held


def attractor(world):
    held = GYM.get_attractor_properties(world.first, 0)
    held.target, held.damping = pose(x=1.2, z=2.0), 3.0
    GYM.set_attractor_properties(world.first, 0, held)


FORCE = [[0.0, 0.0, 0.0]] * 4 + [[20.0, 0.0, 15.0]]  # on the free box
UP = gymapi.Vec3(3.0, 0.0, 20.0)
SETTERS = {
    "set_sim_params": gravity,
    "set_actor_scale": lambda w: GYM.set_actor_scale(w.first, 2, 0.5),
    "set_actor_dof_properties": lambda w: change(w, "dof", 0, "stiffness", 20.0),
    "set_actor_rigid_body_properties": lambda w: (
        change(w, "rigid_body", 1, "mass", 3.0), change(w, "rigid_body", 2, "flags", 1),
        GYM.apply_body_forces(w.first, 4, UP),
    ),
    "set_actor_rigid_shape_properties": lambda w: (
        change(w, "rigid_shape", 2, "friction", 0.01), GYM.apply_body_forces(w.first, 4, UP / 4)
    ),
    "set_actor_tendon_properties": lambda w: change(w, "tendon", 0, "stiffness", 30.0),
    "set_actor_tendon_offset": lambda w: (
        change(w, "tendon", 0, "stiffness", 5.0), GYM.set_actor_tendon_offset(w.first, 0, 0, 0.1)
    ),
    "set_actor_root_state_tensor": lambda w: GYM.set_actor_root_state_tensor(w.sim, roots(w)),
    "set_actor_root_state_tensor_indexed": lambda w: (
        GYM.set_actor_root_state_tensor_indexed(w.sim, roots(w), *actors(0, 2))
    ),
    "set_dof_state_tensor": lambda w: GYM.set_dof_state_tensor(w.sim, numbers([0.3, 1], [0.1, -2])),
    "set_dof_state_tensor_indexed": lambda w: (
        GYM.set_dof_state_tensor_indexed(w.sim, numbers([0.3, 1], [0.1, -2]), *actors(0))
    ),
    "apply_rigid_body_force_tensors": lambda w: (
        GYM.apply_rigid_body_force_tensors(w.sim, numbers(*FORCE), None, gymapi.ENV_SPACE)
    ),
    "apply_rigid_body_force_at_pos_tensors": lambda w: GYM.apply_rigid_body_force_at_pos_tensors(
        w.sim, numbers(*FORCE), numbers(*[[2.0, 0.05, 0.1]] * 5), gymapi.ENV_SPACE
    ),
    "set_actor_dof_states": lambda w: GYM.set_actor_dof_states(
        w.first, 0, np.array([(0.3, 1.0), (0.1, -2.0)], gymapi.DofState.dtype), gymapi.STATE_ALL
    ),
    "set_actor_dof_position_targets": lambda w: (
        GYM.set_actor_dof_position_targets(w.first, 0, np.float32([0.3, 0]))
    ),
    "apply_actor_dof_efforts": lambda w: (
        GYM.apply_actor_dof_efforts(w.first, 0, np.float32([0, 0.3]))
    ),
    "set_actor_rigid_body_states": lambda w: (
        GYM.set_actor_rigid_body_states(w.first, 2, bodies(w, True), gymapi.STATE_ALL)
    ),
    "set_env_rigid_body_states": lambda w: (
        GYM.set_env_rigid_body_states(w.first, bodies(w), gymapi.STATE_ALL)
    ),
    "set_sim_rigid_body_states": lambda w: (
        GYM.set_sim_rigid_body_states(w.sim, bodies(w), gymapi.STATE_ALL)
    ),
    "set_rigid_transform": lambda w: GYM.set_rigid_transform(w.first, 4, pose(x=2.0, z=1.0)),
    "set_rigid_linear_velocity": lambda w: GYM.set_rigid_linear_velocity(w.first, 4, UP),
    "set_rigid_angular_velocity": lambda w: GYM.set_rigid_angular_velocity(w.first, 4, UP),
    "apply_body_forces": lambda w: GYM.apply_body_forces(w.first, 4, UP),
    "apply_body_force_at_pos": lambda w: (
        GYM.apply_body_force_at_pos(w.first, 4, UP, gymapi.Vec3(2.0, 0.05, 0.1))
    ),
    "set_attractor_properties": attractor,
    "set_attractor_target": lambda w: GYM.set_attractor_target(w.first, 0, pose(x=1.2, z=2.0)),
}  # fmt: skip
for _of in ("position_target", "velocity_target", "actuation_force"):
    SETTERS[f"set_dof_{_of}_tensor"] = lambda w, of=_of: getattr(GYM, f"set_dof_{of}_tensor")(
        w.sim, numbers(0.2, 0.2)
    )
    SETTERS[f"set_dof_{_of}_tensor_indexed"] = lambda w, of=_of: getattr(
        GYM, f"set_dof_{of}_tensor_indexed"
    )(w.sim, numbers(0.2, 0.2), *actors(0))
SETTERS["set_actor_dof_velocity_targets"] = lambda w: GYM.set_actor_dof_velocity_targets(
    w.first, 0, np.float32([0.3, 0])
)
for _of in ("dof_target_position", "dof_target_velocity", "joint_target_position",
            "joint_target_velocity"):  # fmt: skip
    SETTERS[f"set_{_of}"] = lambda w, of=_of: getattr(GYM, f"set_{of}")(w.first, 0, 0.2)
SETTERS["apply_dof_effort"] = lambda w: GYM.apply_dof_effort(w.first, 1, 0.3)

ELSEWHERE = {
    "set_sim_device", "set_light_parameters", "set_usd_export_root", "set_camera_location",
    "set_camera_transform", "set_rigid_body_color", "set_rigid_body_segmentation_id",
    "set_rigid_body_texture", "set_rigid_body_state_tensor",
    "set_actor_fixed_tendon_joint_coefficients",
}  # fmt: skip
"""Setters of pictures, and those that do nothing while a simulation runs."""


def test_no_setter_is_missing_here():
    flex = ("particle", "pneumatic", "soft")
    running = {
        name for name in SUPPORT
        if name.startswith(("set_", "apply_")) and "_asset_" not in name
        and not any(part in name for part in flex)
    }  # fmt: skip
    assert running - ELSEWHERE == SETTERS.keys()


def test_what_is_set_outlives_the_engine(tmp_path, monkeypatch):
    monkeypatch.setattr("isaacgym.physics.ENGINE", "mujoco")
    kept, built = Scene(tmp_path), Scene(tmp_path)
    for name, setter in SETTERS.items():
        for world in (kept, built):
            setter(world)
        built.sim.physics.groups[0]._build()
        for world in (kept, built):
            world.step(4)
        torch.testing.assert_close(
            built.states(), kept.states(), rtol=1e-3, atol=1e-4, msg=lambda m, n=name: f"{n}: {m}"
        )


def test_forces_that_are_first_read_after_steps_are_not_zero(tmp_path, monkeypatch):
    """A box of 1 kg rests on the ground; a drive of 2 N m/rad holds an arm against its weight."""
    monkeypatch.setattr("isaacgym.physics.ENGINE", "mujoco")
    world = Scene(tmp_path)
    world.step(60)
    assert GYM.get_env_rigid_contact_forces(world.first)["z"][4] == pytest.approx(9.81, rel=1e-2)
    before = world.states().clone()
    force = GYM.get_actor_dof_forces(world.first, 0)
    torch.testing.assert_close(world.states(), before)
    world.step()
    assert force == pytest.approx(GYM.get_actor_dof_forces(world.first, 0), rel=0.05, abs=1e-4)
    assert abs(force[0]) > 1e-3


def test_an_engine_that_cannot_be_built_leaves_the_last_one_in_use(tmp_path, monkeypatch):
    monkeypatch.setattr("isaacgym.physics.ENGINE", "mujoco")
    world = Scene(tmp_path)
    change(world, "rigid_shape", 2, "filter", 1)  # other masks, so another engine
    with monkeypatch.context() as patch:
        patch.setattr("isaacgym.physics.EngineSim", lambda *_, **__: 1 / 0)
        for _ in range(2):
            with pytest.raises(ZeroDivisionError):
                world.tensor("net_contact_force")
    change(world, "rigid_shape", 2, "filter", 0)
    world.step(60)
    assert world.tensor("net_contact_force")[4, 2].item() == pytest.approx(9.81, rel=1e-2)


def test_a_tensor_without_rows_takes_no_substep(monkeypatch):
    world = World()
    GYM.create_actor(world.env(), GYM.create_sphere(world.sim, 0.1), pose(), "ball")
    world.step()

    def refuse(*_, **__):
        raise AssertionError("a substep for nothing")

    monkeypatch.setattr(type(world.sim.physics.groups[0].engine), "advance", refuse)
    assert world.tensor("force_sensor").shape == (0, 6)
    with pytest.raises(AssertionError, match="for nothing"):
        world.tensor("net_contact_force")


def test_a_graph_that_is_captured_again_does_not_forbid_anything_new(tmp_path, monkeypatch):
    monkeypatch.setattr("isaacgym.physics.ENGINE", "fused")
    world = Scene(tmp_path)
    for name, setter in SETTERS.items():
        if "tendon" in name:  # for which this engine has no fields
            continue
        engine = world.sim.physics.groups[0].state.engine.engine
        engine.captured = True  # as after `simulate` on a GPU
        setter(world)
        world.step(1)
    assert engine.name == "fused"
