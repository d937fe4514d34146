"""isaacgym against closed forms: free bodies, drives, contacts, forces and their tensors."""

import math
import re

import numpy as np
import pytest
import torch

import isaacgym.physics
from isaac import FOOT, GYM, PENDULUM, SLIDER, TWO_LINKS, World, indices, options, pose
from isaacgym import gymapi, gymtorch
from isaacgym.velocity_limits import VelocityLimits

G, H = 9.81, 0.01


@pytest.fixture(params=["mujoco", "warp"])
def engine(request, monkeypatch):
    """Both engines, on the CPU."""
    monkeypatch.setattr(isaacgym.physics, "ENGINE", request.param)


def test_a_box_falls_as_semi_implicit_euler_says_then_rests_on_the_ground(engine):
    world = World(substeps=2)
    world.ground()
    box = GYM.create_box(world.sim, 0.2, 0.4, 0.6, options(density=500))
    for z in (0.4, 0.5):
        GYM.create_actor(world.env(), box, pose(z=z), "box", len(world.envs), 0, 0)
    GYM.prepare_sim(world.sim)
    roots, contact = world.tensor("actor_root_state"), world.tensor("net_contact_force")
    world.step(10)
    h, n = H / 2, 20
    fallen = G * h * h * n * (n + 1) / 2
    roots = world.tensor("actor_root_state")
    torch.testing.assert_close(roots[:, 2], torch.tensor([0.4, 0.5]) - fallen, atol=1e-5, rtol=0)
    torch.testing.assert_close(roots[:, 9], torch.full((2,), -G * h * n), atol=1e-4, rtol=0)
    assert (world.tensor("net_contact_force") == 0).all()
    world.step(70)
    world.tensor("actor_root_state")
    assert roots[:, 2] == pytest.approx(0.3, abs=3e-3)
    weight = 500 * 0.2 * 0.4 * 0.6 * G
    world.tensor("net_contact_force")
    assert contact[:, 2] == pytest.approx(weight, rel=1e-3)
    assert GYM.get_frame_count(world.sim) == 80
    assert GYM.get_sim_time(world.sim) == pytest.approx(0.8)


def test_a_pendulum_has_the_period_of_its_inertia(tmp_path):
    world = World(dt=0.002)
    asset = world.load(tmp_path, "pendulum.urdf", PENDULUM, fix_base_link=True)
    GYM.create_actor(world.env(), asset, pose(z=2), "p", 0, 0, 0)
    GYM.prepare_sim(world.sim)
    dofs = world.tensor("dof_state")
    dofs[0, 0] = 0.05
    GYM.set_dof_state_tensor(world.sim, gymtorch.unwrap_tensor(dofs))
    crossings, last = [], 0.05
    for k in range(2500):
        world.step()
        now = world.tensor("dof_state")[0, 0].item()
        if last > 0 >= now:
            crossings.append(0.002 * (k + last / (last - now)))
        last = now
    inertia = 0.1 + 1 * 0.5**2
    period = 2 * math.pi * math.sqrt(inertia / (1 * G * 0.5))
    assert np.diff(crossings).mean() == pytest.approx(period, rel=1e-3)


@pytest.mark.parametrize(("kp", "kd"), [(50.0, 4.0), (1e6, 1e3)])
def test_position_drive_is_an_implicit_pd(tmp_path, engine, kp, kd):
    world = World(gravity=0.0)
    asset = world.load(tmp_path, "slider.urdf", SLIDER.format(effort=0), fix_base_link=True)
    env = world.env()
    GYM.create_actor(env, asset, pose(), "slider", 0, 0, 0)
    props = GYM.get_actor_dof_properties(env, 0)
    props["driveMode"] = gymapi.DOF_MODE_POS
    props["stiffness"], props["damping"] = kp, kd
    GYM.set_actor_dof_properties(env, 0, props)
    GYM.prepare_sim(world.sim)
    target = torch.tensor([0.7])
    GYM.set_dof_position_target_tensor(world.sim, gymtorch.unwrap_tensor(target))
    q = v = 0.0
    for _ in range(30):
        world.step()
        # v' = v + h/m (kp (target - q - h v') - kd v')
        v = (v + H / 2 * kp * (0.7 - q)) / (1 + H / 2 * (kd + H * kp))
        q += H * v
        dof = world.tensor("dof_state")[0]
        assert dof.tolist() == pytest.approx([q, v], abs=2e-4 * (1 + abs(v)))
    # The force of the drive is what accelerates the cart.
    before = world.tensor("dof_state")[0, 1].item()
    world.tensor("dof_force")
    world.step()
    gained = world.tensor("dof_state")[0, 1].item() - before
    force = 2 * gained / H
    assert world.tensor("dof_force").item() == pytest.approx(force, abs=1e-2 + 1e-3 * abs(force))


def test_drive_modes_take_their_own_commands_and_keep_stiffness_and_damping(tmp_path):
    world = World(gravity=0.0)
    asset = world.load(tmp_path, "slider.urdf", SLIDER.format(effort=0), fix_base_link=True)
    modes = [gymapi.DOF_MODE_NONE, gymapi.DOF_MODE_POS, gymapi.DOF_MODE_VEL, gymapi.DOF_MODE_EFFORT]
    for mode in modes:
        env = world.env()
        GYM.create_actor(env, asset, pose(), "slider", 0, 0, 0)
        props = GYM.get_actor_dof_properties(env, 0)
        props["driveMode"].fill(mode)
        props["damping"] = 40.0
        props["stiffness"] = 400.0 if mode == gymapi.DOF_MODE_POS else 0.0
        GYM.set_actor_dof_properties(env, 0, props)
    GYM.prepare_sim(world.sim)
    for call, value in (
        (GYM.set_dof_position_target_tensor, 1.0),
        (GYM.set_dof_actuation_force_tensor, 20.0),
    ):
        call(world.sim, gymtorch.unwrap_tensor(torch.full((4,), value)))
    velocity = torch.tensor([3.0, 0.0, 3.0, 3.0])
    GYM.set_dof_velocity_target_tensor(world.sim, gymtorch.unwrap_tensor(velocity))
    world.step(300)
    q, v = world.tensor("dof_state").T
    assert q[0] == 0
    assert v[0] == 0
    assert q[1] == pytest.approx(1.0, abs=1e-3)
    assert v[2] == pytest.approx(3.0, abs=1e-3)
    assert v[3] == pytest.approx(20.0 / 40.0, abs=1e-3)  # against the passive damper


def driven_slider(folder, text, stiffness, damping, target=0.0, **kwargs):
    """A world with one slider of a URDF `text`, ready to step, and its environment; a drive in
    position mode pulls it to `target` [m]."""
    world = World(**kwargs)
    asset = world.load(folder, "slider.urdf", text, fix_base_link=True)
    env = world.env()
    GYM.create_actor(env, asset, pose(), "slider", 0, 0, 0)
    props = GYM.get_actor_dof_properties(env, 0)
    props["driveMode"] = gymapi.DOF_MODE_POS
    props["stiffness"], props["damping"] = stiffness, damping
    GYM.set_actor_dof_properties(env, 0, props)
    GYM.prepare_sim(world.sim)
    GYM.set_dof_position_target_tensor(world.sim, gymtorch.unwrap_tensor(torch.tensor([target])))
    return world, env


@pytest.mark.parametrize("substeps", [1, 2, 4])
def test_effort_limit_bounds_the_drive_in_every_substep(tmp_path, engine, substeps):
    text, steps = SLIDER.format(effort=20), {"dt": 1 / 60, "substeps": substeps}
    world, _ = driven_slider(tmp_path, text, 1000.0, 40.0, 1.0, gravity=0.0, **steps)
    h, m, kp, kd = 1 / 60 / substeps, 2.0, 1000.0, 40.0
    q = v = 0.0
    for _ in range(40):
        world.step()
        for _ in range(substeps):  # the implicit force, cut off at the limit
            force = (kp * (1.0 - q - h * v) - kd * v) / (1 + h / m * (kd + h * kp))
            v += h / m * max(-20.0, min(20.0, force))
            q += h * v
        assert world.tensor("dof_state")[0].tolist() == pytest.approx([q, v], abs=2e-3)


@pytest.mark.parametrize("speed", [0.2, 100.0])
@pytest.mark.parametrize("mass", [0.02, 0.2])
def test_a_stiff_drive_of_a_light_link_settles_within_its_effort_limit(
    tmp_path, engine, mass, speed
):
    """As of a Franka's fingers: at rest the drive would exert a hundred times its limit, on the way
    a hundredth. It must not take the whole limit, which is 4000 m/s^2 here."""
    text = SLIDER.format(effort=100).replace('mass value="2"', f'mass value="{mass}"')
    text = re.sub(r'velocity="[^"]*"', f'velocity="{speed}"', text)
    world, _ = driven_slider(tmp_path, text, 1e6, 100.0, 0.03, gravity=0.0, dt=1 / 60)
    h, kp, kd = 1 / 60, 1e6, 100.0
    q = v = 0.0
    for _ in range(30):
        world.step()
        force = (kp * (0.03 - q - h * v) - kd * v) / (1 + h / mass * (kd + h * kp))
        v += h / mass * max(-100.0, min(100.0, force))
        v = max(-speed, min(speed, v))
        q += h * v
        assert world.tensor("dof_state")[0, 0].item() == pytest.approx(q, abs=1e-3)
    assert world.tensor("dof_state")[0].tolist() == pytest.approx([0.03, 0.0], abs=1e-5)


@pytest.mark.parametrize("share", [0.5, 1.1, 1.5])
def test_a_load_beyond_its_effort_limit_pushes_a_stiff_drive_back(tmp_path, engine, share):
    """A weight hangs on the drive, which holds the whole of it or pulls with its limit."""
    weight = 0.2 * G
    text = SLIDER.format(effort=weight / share).replace('mass value="2"', 'mass value="0.2"')
    text = text.replace('axis xyz="1 0 0"', 'axis xyz="0 0 1"')
    world, env = driven_slider(tmp_path, text, 1e5, 100.0, dt=1 / 60)
    world.step(4)
    before = world.tensor("dof_state")[0, 1].item()
    world.step(20)
    force = GYM.get_actor_dof_forces(env, 0)[0]
    gained = world.tensor("dof_state")[0, 1].item() - before
    assert force == pytest.approx(weight / max(share, 1), rel=1e-3)
    assert gained == pytest.approx(-20 / 60 * G * (1 - 1 / max(share, 1)), abs=2e-2)


def test_effort_limit_of_a_file_bounds_the_drive(tmp_path, engine):
    world = World(gravity=0.0)
    asset = world.load(
        tmp_path, "slider.urdf", SLIDER.format(effort=10),
        fix_base_link=True, default_dof_drive_mode=gymapi.DOF_MODE_POS,
    )  # fmt: skip
    env = world.env()
    GYM.create_actor(env, asset, pose(), "slider", 0, 0, 0)
    props = GYM.get_actor_dof_properties(env, 0)
    assert props["effort"][0] == 10
    props["stiffness"], props["damping"] = 200.0, 5.0
    GYM.set_actor_dof_properties(env, 0, props)
    GYM.prepare_sim(world.sim)
    target = torch.tensor([100.0])  # far beyond reach
    GYM.set_dof_position_target_tensor(world.sim, gymtorch.unwrap_tensor(target))
    world.step(10)
    assert world.tensor("dof_state")[0, 1].item() == pytest.approx(10 / 2 * 0.1, rel=1e-3)


@pytest.mark.parametrize(("friction", "ground"), [(0.2, 0.4), (1.0, 0.6), (-0.2, 0.8), (-0.9, 0.5)])
def test_a_box_on_a_slope_slides_by_the_average_friction_or_stays(friction, ground):
    angle = math.radians(25)
    world = World(dt=0.005)
    world.ground((math.sin(angle), 0, math.cos(angle)), ground)
    box = GYM.create_box(world.sim, 0.4, 0.4, 0.2, options())
    shape = GYM.get_asset_rigid_shape_properties(box)
    shape[0].friction = friction
    GYM.set_asset_rigid_shape_properties(box, shape)
    env = world.env()
    tilt = gymapi.Quat.from_axis_angle(gymapi.Vec3(0, 1, 0), angle)
    start = tilt.rotate(gymapi.Vec3(0, 0, 0.1))
    GYM.create_actor(env, box, gymapi.Transform(start, tilt), "box", 0, 0, 0)
    GYM.prepare_sim(world.sim)
    world.step(100)
    early = world.tensor("actor_root_state")[0, 7:10].norm().item()
    world.step(600)
    late = world.tensor("actor_root_state")[0, 7:10].norm().item()
    mu = max(0.0, (friction + ground) / 2)  # programs also draw frictions below zero
    acceleration = max(0.0, G * (math.sin(angle) - mu * math.cos(angle)))
    assert (late - early) / 3.0 == pytest.approx(acceleration, abs=0.03)
    if acceleration == 0:
        assert late < 0.06  # MuJoCo's friction is soft: it creeps


def test_a_scale_reads_the_weight_and_a_force_sensor_reads_the_net_force():
    world = World(dt=0.005)
    table = GYM.create_box(world.sim, 1, 1, 0.2, options(fix_base_link=True))
    box = GYM.create_box(world.sim, 0.2, 0.2, 0.2, options(density=1000))
    frame = pose(0.1, 0.0, 0.0, gymapi.Quat.from_axis_angle(gymapi.Vec3(0, 0, 1), math.pi / 2))
    assert GYM.create_asset_force_sensor(box, 0, frame) == 0
    env = world.env()
    GYM.create_actor(env, table, pose(z=0.5), "table", 0, 0, 0)
    GYM.create_actor(env, box, pose(z=1.2), "box", 0, 0, 0)
    GYM.prepare_sim(world.sim)
    contact, sensor = world.tensor("net_contact_force"), world.tensor("force_sensor")
    world.step()  # in free fall
    weight = 8.0 * G
    sensor = world.tensor("force_sensor")
    # Gravity alone, about a point 0.1 m along the box's x, in axes turned by a quarter about z.
    assert sensor[0].tolist() == pytest.approx([0, 0, -weight, -0.1 * weight, 0, 0], abs=1e-3)
    world.step(400)
    contact, sensor = world.tensor("net_contact_force"), world.tensor("force_sensor")
    assert contact[1].tolist() == pytest.approx([0, 0, weight], abs=0.1)
    assert contact[0].tolist() == pytest.approx([0, 0, -weight], abs=0.1)
    assert sensor[0].tolist() == pytest.approx([0] * 6, abs=0.1)


def test_force_sensors_read_contacts_alone_or_all_but_contacts(engine):
    """A box falls on an edge and tumbles. Its contacts are the net force less gravity, a third
    sensor's reading; at rest they carry the weight, which the turned sensor feels 0.1 m beside."""
    world = World(dt=0.005)
    world.ground()
    box = GYM.create_box(world.sim, 0.2, 0.3, 0.1, options(density=1000))
    frame = pose(0.1, 0.0, 0.0, gymapi.Quat.from_axis_angle(gymapi.Vec3(0, 0, 1), math.pi / 2))
    for dynamics, contacts in ((True, True), (False, True), (True, False), (False, False)):
        wanted = gymapi.ForceSensorProperties()
        wanted.enable_forward_dynamics_forces = dynamics
        wanted.enable_constraint_solver_forces = contacts
        GYM.create_asset_force_sensor(box, 0, frame, wanted)
    env = world.env()
    start = gymapi.Quat.from_euler_zyx(0.4, 0.3, 0.2)
    GYM.create_actor(env, box, pose(z=0.25, r=start), "box", 0, 0, 0)
    handle = GYM.get_actor_force_sensor(env, 0, 1)
    assert isinstance(handle, gymapi.ForceSensor)  # programs annotate with it
    in_world = gymapi.ForceSensorProperties()
    in_world.use_world_frame, in_world.enable_forward_dynamics_forces = True, False
    assert GYM.create_force_sensor(env, 0, pose(), in_world) == 4
    assert (
        GYM.get_actor_force_sensor_count(env, 0) == GYM.get_sim_force_sensor_count(world.sim) == 5
    )
    GYM.prepare_sim(world.sim)
    hit = 0.0
    for _ in range(40):
        world.step()
        net, touch, rest, none, _ = world.tensor("force_sensor")
        torch.testing.assert_close(touch + rest, net, atol=2e-2, rtol=1e-3)
        assert rest[:3].norm() == pytest.approx(6 * G, rel=1e-3)  # gravity, in the sensor's axes
        assert not none.any()
        hit = max(hit, touch[:3].norm().item())
    assert hit > 100.0
    world.step(250)
    touch, at_root = world.tensor("force_sensor")[[1, 4]]
    assert at_root.tolist() == pytest.approx([0, 0, 6 * G, 0, 0, 0], abs=0.05)
    up = (
        gymapi.Quat(*world.tensor("actor_root_state")[0, 3:7].tolist())
        .inverse()
        .rotate(gymapi.Vec3(0, 0, 6 * G))
    )  # the weight in the box's axes; the sensor's x is the box's y, its y the box's -x
    torque = [0.0, 0.1 * up.z, -0.1 * up.y]
    expected = [up.y, -up.x, up.z, torque[1], -torque[0], torque[2]]
    assert touch.tolist() == pytest.approx(expected, abs=0.1)
    assert [*handle.get_forces().torque] == pytest.approx(touch[3:].tolist())
    assert handle.get_global_index() == 1


def test_jacobian_and_mass_matrix_of_two_links_by_hand(tmp_path, engine):
    world = World()
    asset = world.load(tmp_path, "arm.urdf", TWO_LINKS, fix_base_link=True, armature=0.3)
    for x in (0.0, 2.0):
        GYM.create_actor(world.env(), asset, pose(x=x), "arm", 0, 0, 0)
    GYM.prepare_sim(world.sim)
    dofs = world.tensor("dof_state")
    jacobian, mass = world.tensor("jacobian", "arm"), world.tensor("mass_matrix", "arm")
    assert jacobian.shape == (2, 2, 6, 2)
    assert mass.shape == (2, 2, 2)
    a, b = 0.3, -0.9
    dofs.view(2, 2, 2)[1, :, 0] = torch.tensor([a, b])
    GYM.set_dof_state_tensor_indexed(world.sim, gymtorch.unwrap_tensor(dofs), indices(1), 1)
    jacobian = world.tensor("jacobian", "arm")[1]
    # Centres of mass: 0.5 along the first link; 1 along the first and 0.25 along the second.
    s1, c1, s12, c12 = math.sin(a), math.cos(a), math.sin(a + b), math.cos(a + b)
    upper = [[-0.5 * s1, 0], [0.5 * c1, 0], [0, 0], [0, 0], [0, 0], [1, 0]]
    x, y = -s1 - 0.25 * s12, c1 + 0.25 * c12
    lower = [[x, -0.25 * s12], [y, 0.25 * c12], [0, 0], [0, 0], [0, 0], [1, 1]]
    torch.testing.assert_close(jacobian, torch.tensor([upper, lower]), atol=1e-5, rtol=0)
    mass = world.tensor("mass_matrix", "arm")[1]
    m22 = 0.02 + 0.5 * 0.25**2
    m12 = m22 + 0.5 * 0.25 * math.cos(b)
    m11 = 0.1 + 0.25 + m22 + 0.5 * (1 + 2 * 0.25 * math.cos(b))
    expected = torch.tensor([[m11 + 0.3, m12], [m12, m22 + 0.3]])
    torch.testing.assert_close(mass, expected, atol=1e-5, rtol=0)


def test_forces_on_bodies_act_once_in_the_frame_that_was_named(engine):
    world = World(gravity=0.0)
    box = GYM.create_box(world.sim, 0.3, 0.2, 0.1, options(density=1000))
    turned = gymapi.Quat.from_axis_angle(gymapi.Vec3(0, 0, 1), math.pi / 2)
    for _ in range(2):
        GYM.create_actor(world.env(5.0), box, pose(0, 0, 1, turned), "box", 0, 0, 0)
    GYM.prepare_sim(world.sim)
    mass = 6.0
    force = torch.zeros(2, 3)
    force[1, 0] = 60.0

    def velocity() -> list[float]:
        world.step()
        return world.tensor("actor_root_state")[1, 7:].tolist()

    push = gymtorch.unwrap_tensor(force)
    GYM.apply_rigid_body_force_tensors(world.sim, push, None, gymapi.ENV_SPACE)
    assert velocity() == pytest.approx([60 / mass * H, 0, 0, 0, 0, 0], abs=1e-5)
    assert velocity() == pytest.approx([60 / mass * H, 0, 0, 0, 0, 0], abs=1e-5)
    GYM.apply_rigid_body_force_tensors(world.sim, push, None, gymapi.LOCAL_SPACE)
    assert velocity() == pytest.approx([0.1, 0.1, 0, 0, 0, 0], abs=1e-5)
    place = torch.zeros(2, 3)
    place[1] = torch.tensor([0.001, 0.002 + 0.5, 1.0])  # half a metre beside it, where it is now
    GYM.apply_rigid_body_force_at_pos_tensors(
        world.sim, push, gymtorch.unwrap_tensor(place), gymapi.ENV_SPACE
    )
    spin = -60 * 0.5 / (mass / 12 * (0.3**2 + 0.2**2)) * H
    assert velocity()[5] == pytest.approx(spin, rel=1e-2)
    assert world.tensor("actor_root_state")[0, 7:].abs().max() == 0


def test_contact_forces_are_those_that_move_a_sliding_ball(engine):
    """Of the last step, so mass times acceleration tells how exactly they were solved for."""
    world = World(dt=0.005)
    world.ground()
    ball = GYM.create_sphere(world.sim, 0.03, options(angular_damping=50.0, density=20000))
    GYM.create_actor(world.env(), ball, pose(z=0.03), "ball", 0, 0, 0)
    GYM.prepare_sim(world.sim)
    world.tensor("net_contact_force")
    mass = 20000 * 4 / 3 * math.pi * 0.03**3
    push = torch.tensor([[0.0, 25.0, 0.0]])
    before, errors = torch.zeros(3), []
    for _ in range(100):
        GYM.apply_rigid_body_force_tensors(world.sim, gymtorch.unwrap_tensor(push), None)
        world.step()
        speed = world.tensor("actor_root_state")[0, 7:10].clone()
        all_forces = world.tensor("net_contact_force") + push - mass * torch.tensor([0, 0, G])
        errors.append(((speed - before) * mass / 0.005 - all_forces[0]).abs().max())
        before = speed
    assert max(errors) < 0.3  # of 25 N


@pytest.mark.parametrize("space", [gymapi.ENV_SPACE, gymapi.GLOBAL_SPACE])
def test_a_force_at_a_place_turns_a_body_by_its_lever(space):
    world = World(gravity=0.0)
    cube = GYM.create_box(world.sim, 0.2, 0.2, 0.2, options(density=1000))
    for _ in range(2):
        GYM.create_actor(world.env(5.0), cube, pose(z=1), "cube", 0, 0, 0)
    GYM.prepare_sim(world.sim)
    origin = torch.tensor([*GYM.get_env_origin(world.envs[1])])
    assert origin.norm() > 1
    force, place = torch.zeros(2, 3), torch.zeros(2, 3)
    force[1, 0] = 8.0
    place[1] = torch.tensor([0.0, 0.1, 1.0])
    if space == gymapi.GLOBAL_SPACE:
        place[1] += origin
    held = gymtorch.unwrap_tensor(force), gymtorch.unwrap_tensor(place)
    GYM.apply_rigid_body_force_at_pos_tensors(world.sim, *held, space)
    world.step()
    spin = -8.0 * 0.1 / (8.0 / 6 * 0.2**2) * H
    expected = [8.0 / 8.0 * H, 0, 0, 0, 0, spin]
    assert world.tensor("actor_root_state")[1, 7:].tolist() == pytest.approx(expected, abs=1e-5)


def test_gravity_changes_at_run_time_and_bodies_can_be_without_it(engine):
    world = World()
    box = GYM.create_box(world.sim, 0.1, 0.1, 0.1, options())
    light = GYM.create_box(world.sim, 0.1, 0.1, 0.1, options(disable_gravity=True))
    env = world.env()
    GYM.create_actor(env, box, pose(z=5), "box", 0, 0, 0)
    GYM.create_actor(env, light, pose(x=2, z=5), "light", 0, 0, 0)
    GYM.prepare_sim(world.sim)
    world.step(5)
    held = GYM.get_sim_params(world.sim)
    held.gravity.z = 4.0
    assert GYM.get_sim_params(world.sim).gravity.z == pytest.approx(-9.81)
    GYM.set_sim_params(world.sim, held)
    world.step(5)
    roots = world.tensor("actor_root_state")
    assert roots[0, 9].item() == pytest.approx(0.05 * (-9.81 + 4.0), abs=1e-4)
    assert roots[1, 9].item() == pytest.approx(0.0, abs=1e-5)


def test_an_attractor_holds_a_point_of_a_body(engine):
    world = World(dt=0.005)
    box = GYM.create_box(world.sim, 0.2, 0.2, 0.2, options())
    env = world.env()
    GYM.create_actor(env, box, pose(z=1), "box", 0, 0, 0)
    held = gymapi.AttractorProperties()
    held.stiffness, held.damping = 5e7, 5e3
    held.axes = gymapi.AXIS_TRANSLATION
    held.rigid_handle = 0
    held.offset.p.z = 0.1
    held.target.p = gymapi.Vec3(0, 0, 1.1)
    GYM.create_rigid_body_attractor(env, held)
    GYM.prepare_sim(world.sim)
    world.step(200)
    assert world.tensor("actor_root_state")[0, :3].tolist() == pytest.approx([0, 0, 1], abs=2e-3)


@pytest.mark.parametrize("substeps", [1, 4])
def test_bodies_are_as_fast_as_their_limited_joints_and_slow_down_in_every_substep(
    tmp_path, engine, substeps
):
    world = World(gravity=0.0, substeps=substeps)
    asset = world.load(tmp_path, "pendulum.urdf", PENDULUM, fix_base_link=True)
    ball = GYM.create_sphere(world.sim, 0.1, options(linear_damping=20.0))
    env = world.env()
    GYM.create_actor(env, asset, pose(), "p", 0, 0, 0)
    GYM.create_actor(env, ball, pose(3), "ball", 0, 0, 0)
    props = GYM.get_actor_dof_properties(env, 0)
    props["velocity"] = 1.0
    GYM.set_actor_dof_properties(env, 0, props)
    GYM.prepare_sim(world.sim)
    dofs, roots = world.tensor("dof_state"), world.tensor("actor_root_state")
    world.tensor("rigid_body_state")
    dofs[0, 1], roots[1, 7] = 3.0, 1.0
    GYM.set_dof_state_tensor(world.sim, gymtorch.unwrap_tensor(dofs))
    GYM.set_actor_root_state_tensor(world.sim, gymtorch.unwrap_tensor(roots))
    world.step()
    bodies = world.tensor("rigid_body_state")
    assert world.tensor("dof_state")[0, 1] == pytest.approx(1.0, abs=1e-5)
    assert bodies[1, 11] == pytest.approx(1.0, abs=1e-5)
    assert bodies[1, 7:10].norm() == pytest.approx(0.5, abs=1e-5)  # the rod's centre
    assert bodies[2, 7] == pytest.approx((1 - 20 * H / substeps) ** substeps, abs=1e-5)


def test_the_velocity_of_a_root_keeps_its_direction_at_its_limit(engine):
    """Bounds are for the length, as in PhysX, and positions move with the bounded velocity."""
    world = World(gravity=0.0)
    sphere = GYM.create_sphere(
        world.sim, 0.1, options(max_linear_velocity=2.0, max_angular_velocity=10.0)
    )
    fast, slow = [3.0, -4.0, 12.0, 20.0, 20.0, 10.0], [1.1, 1.1, 1.1, 5.7, 5.7, 5.7]
    for _ in (fast, slow):
        GYM.create_actor(world.env(), sphere, pose(), "ball")
    GYM.prepare_sim(world.sim)
    roots = world.tensor("actor_root_state")
    roots[:, 7:] = torch.tensor([fast, slow])
    GYM.set_actor_root_state_tensor(world.sim, gymtorch.unwrap_tensor(roots))
    world.step()
    roots = world.tensor("actor_root_state")
    wanted = [[x * 2 / 13 for x in fast[:3]] + [x / 3 for x in fast[3:]], slow]
    torch.testing.assert_close(roots[:, 7:], torch.tensor(wanted), atol=1e-5, rtol=0)
    torch.testing.assert_close(roots[:, :3], 0.01 * roots[:, 7:10], atol=1e-6, rtol=0)


@pytest.mark.parametrize("fixed", [True, False])
def test_a_velocity_limit_holds_within_the_step_and_keeps_the_momentum(tmp_path, engine, fixed):
    """A client's explicit damper kicks a light foot to its limit of 12 rad/s in every step."""
    world = World(gravity=0.0, dt=0.001)
    asset = world.load(
        tmp_path, "two.urdf", FOOT, fix_base_link=fixed,
        default_dof_drive_mode=gymapi.DOF_MODE_EFFORT,
    )  # fmt: skip
    turn = gymapi.Quat.from_axis_angle(gymapi.Vec3(0, 0, 1), 0.7)
    GYM.create_actor(world.env(), asset, pose(z=2, r=turn), "two", 0, 0, 0)
    GYM.prepare_sim(world.sim)
    dofs, roots = world.tensor("dof_state"), world.tensor("actor_root_state")
    world.tensor("rigid_body_state")
    dofs[0, 1] = 0.5
    GYM.set_dof_state_tensor(world.sim, gymtorch.unwrap_tensor(dofs))
    start = roots[0].clone()
    for _ in range(60):
        before = world.tensor("dof_state")[0, 0].item()
        effort = (-15 * dofs[:, 0] - 10 * dofs[:, 1]).clamp(-85, 85)
        GYM.set_dof_actuation_force_tensor(world.sim, gymtorch.unwrap_tensor(effort))
        world.step()
        after, speed = world.tensor("dof_state")[0].tolist()
        assert abs(after - before) <= 12 * 0.001 + 1e-5
        assert abs(speed) <= 12 + 1e-3
    assert abs(speed) > 11  # it is at its limit
    bodies, root = world.tensor("rigid_body_state"), world.tensor("actor_root_state")[0]
    if not fixed:  # total momentum is that of the start, and 0.5 rad/s of a foot turns little
        mass = torch.tensor([10.0, 0.34])
        momentum = (mass[:, None] * bodies[:, 7:10]).sum(0)
        assert momentum.tolist() == pytest.approx([0.0, 0.0, 0.0], abs=0.02)
        assert root[:3].tolist() == pytest.approx(start[:3].tolist(), abs=2e-3)
        assert root[3:7].tolist() == pytest.approx(start[3:7].tolist(), abs=5e-3)


def link(name):
    return (
        f'<link name="{name}"><inertial><origin xyz="0 0 .25"/><mass value="4"/>'
        '<inertia ixx=".1" iyy=".1" izz=".1" ixy="0" ixz="0" iyz="0"/></inertial></link>'
    )


def hinge(name, parent, child, rest):
    return (
        f'<joint name="{name}" type="revolute"><parent link="{parent}"/><child link="{child}"/>'
        f'{rest}<limit lower="-3" upper="3" effort="87" velocity="2"/></joint>'
    )


FOREARM = (
    f'<robot name="arm"><link name="b"/>{link("upper")}{link("fore")}'
    f"""{hinge("first", "b", "upper", '<axis xyz="0 1 0"/>')}"""
    f"""{hinge("second", "upper", "fore", '<origin xyz="0 0 .5"/><axis xyz="0 -1 0"/>')}</robot>"""
)


def test_a_velocity_limit_does_not_push_a_joint_along(tmp_path, engine):
    """Both joints go to 0 at their limits, and the first gets there first and brakes. Held at its
    limit because the second one is above its own, it would go on by 0.8 rad."""
    world = World(gravity=0.0, dt=1 / 60, substeps=2)
    asset = world.load(
        tmp_path, "arm.urdf", FOREARM, fix_base_link=True,
        default_dof_drive_mode=gymapi.DOF_MODE_POS,
    )  # fmt: skip
    env = world.env()
    arm = GYM.create_actor(env, asset, pose(), "arm", 0, 0, 0)
    props = GYM.get_actor_dof_properties(env, arm)
    props["stiffness"][:], props["damping"][:] = 400, 40
    GYM.set_actor_dof_properties(env, arm, props)
    GYM.prepare_sim(world.sim)
    dofs = world.tensor("dof_state")
    dofs[:, 0] = torch.tensor([-1.0, -2.2])
    GYM.set_dof_state_tensor(world.sim, gymtorch.unwrap_tensor(dofs))
    GYM.set_dof_position_target_tensor(world.sim, gymtorch.unwrap_tensor(torch.zeros(2)))
    furthest = fastest = torch.tensor(0.0)
    for _ in range(90):
        world.step()
        pos, vel = world.tensor("dof_state").unbind(1)
        furthest, fastest = torch.maximum(furthest, pos[0]), torch.maximum(fastest, vel.abs().max())
    assert furthest < 0.05
    assert fastest == pytest.approx(2, abs=1e-3)
    assert pos.abs().max() < 0.01


def test_joints_above_their_velocity_limits_are_within_them_after_the_step(tmp_path, monkeypatch):
    """Seven coupled ones, in all of the steps: those that let go of one may throw it beyond."""
    axes = ("0 0 1", "0 1 0", "0 0 1", "0 -1 0", "0 0 1", "0 -1 0", "1 0 0")
    names = ["b", *(f"l{k}" for k in range(7))]
    arm = "".join(map(link, names[1:])) + "".join(
        hinge(f"j{k}", names[k], names[k + 1], f'<origin xyz="0.05 0 .3"/><axis xyz="{axis}"/>')
        for k, axis in enumerate(axes)
    )
    world = World(gravity=0.0, dt=1 / 60, substeps=1)
    asset = world.load(
        tmp_path, "seven.urdf", f'<robot name="arm"><link name="b"/>{arm}</robot>',
        fix_base_link=True, default_dof_drive_mode=gymapi.DOF_MODE_EFFORT,
    )  # fmt: skip
    GYM.create_actor(world.env(), asset, pose(), "arm", 0, 0, 0)
    GYM.prepare_sim(world.sim)
    apply, found = VelocityLimits.apply, []

    def watched(limits):
        over = limits._state.engine.qvel.abs() > 2.02
        bounded = apply(limits)
        found.extend(limits._state.engine.qvel.abs()[over].tolist())
        return bounded

    monkeypatch.setattr(VelocityLimits, "apply", watched)
    rng = np.random.default_rng(0)
    for k in range(300):
        if k % 5 == 0:
            efforts = torch.tensor(rng.uniform(-40, 40, 7)).float()
            GYM.set_dof_actuation_force_tensor(world.sim, gymtorch.unwrap_tensor(efforts))
        world.step()
    assert len(found) > 300
    assert max(found) < 2.02


@pytest.mark.parametrize("first", ["rigid_body_state", "jacobian"])
def test_forces_are_those_of_the_last_simulate_in_any_order_of_calls(engine, first):
    world = World(dt=0.005)
    world.ground()
    box = GYM.create_box(world.sim, 0.2, 0.2, 0.2, options(density=1000))
    GYM.create_asset_force_sensor(box, 0, pose())
    for _ in range(2):
        GYM.create_actor(world.env(), box, pose(z=0.1), "box", 0, 0, 0)
    GYM.prepare_sim(world.sim)
    kinds = ("net_contact_force", "force_sensor", "dof_force")
    args = ("box",) if first == "jacobian" else ()
    for kind in kinds:
        world.tensor(kind)
    world.tensor(first, *args)
    world.step(60)
    expected = {kind: world.tensor(kind).clone() for kind in kinds}
    assert expected["net_contact_force"][:, 2] == pytest.approx(8 * G, rel=1e-2)
    roots = world.tensor("actor_root_state")
    roots[1, 2], roots[1, 10] = 5.0, 3.0
    GYM.set_actor_root_state_tensor_indexed(world.sim, gymtorch.unwrap_tensor(roots), indices(1), 1)
    held = GYM.get_sim_params(world.sim)
    held.gravity.z = 0.0
    GYM.set_sim_params(world.sim, held)
    heavier = GYM.get_actor_rigid_body_properties(world.envs[0], 0)
    heavier[0].mass *= 3
    GYM.set_actor_rigid_body_properties(world.envs[0], 0, heavier, True)
    world.tensor(first, *args)
    for kind in kinds:
        assert torch.equal(world.tensor(kind), expected[kind])


@pytest.mark.parametrize("friction", [0.49, 0.5, 0.51])
def test_friction_that_a_program_sets_counts_whatever_the_file_says(tmp_path, friction):
    world = World(gravity=0.0)
    text = SLIDER.format(effort=0).replace("<limit", '<dynamics friction="0.5"/><limit')
    asset = world.load(tmp_path, "slider.urdf", text, fix_base_link=True)
    for n in range(2):
        env = world.env()
        GYM.create_actor(env, asset, pose(), "slider", 0, 0, 0)
        props = GYM.get_actor_dof_properties(env, 0)
        props["friction"] = friction
        if n == 1:
            GYM.set_actor_dof_properties(env, 0, props)
    GYM.prepare_sim(world.sim)
    dofs = world.tensor("dof_state")
    dofs[:, 1] = 1.0
    GYM.set_dof_state_tensor(world.sim, gymtorch.unwrap_tensor(dofs))
    world.step(10)
    v = world.tensor("dof_state")[:, 1]
    assert v.tolist() == pytest.approx([1.0, 1.0 - friction / 2 * 0.1], abs=1e-3)
