"""isaacgym: environments that differ: sizes, meshes, and other actors, in one set of tensors."""

import logging
import math

import numpy as np
import pytest
import torch

import isaacgym.physics
from isaac import GYM, PENDULUM, SLIDER, World, indices, options, pose
from isaacgym import gymapi, gymtorch
from isaacgym.camera_batch import looks
from isaacgym.viewer import Viewer
from phalanx.errors import PhalanxError

G = 9.81


@pytest.fixture(params=["mujoco", "warp"])
def engine(request, monkeypatch):
    """Both engines, on the CPU."""
    monkeypatch.setattr(isaacgym.physics, "ENGINE", request.param)


def groups(world):
    return [len(group.world.envs) for group in world.sim.physics.groups]


def test_boxes_of_other_sizes_are_copies_of_one_model(engine):
    """Each rests at half its height on the ground, with its own weight, and turns by its own
    inertia."""
    world = World(dt=0.005)
    world.ground()
    sizes = [(0.1, 0.2, 0.3), (0.5, 0.5, 0.1), (0.2, 0.6, 1.0)]
    for k, size in enumerate(sizes):
        box = GYM.create_box(world.sim, *size, options(density=100.0 * (k + 1)))
        GYM.create_actor(world.env(), box, pose(z=size[2] / 2 + 0.01), "box", k, 0, 0)
        assert GYM.get_actor_rigid_body_properties(world.envs[k], 0)[0].mass == pytest.approx(
            100 * (k + 1) * math.prod(size)
        )
    GYM.prepare_sim(world.sim)
    assert groups(world) == [3]
    contact = world.tensor("net_contact_force")
    world.step(150)
    heights = world.tensor("actor_root_state")[:, 2].tolist()
    assert heights == pytest.approx([s[2] / 2 for s in sizes], abs=1.5e-3)
    world.tensor("net_contact_force")
    weights = [100 * (k + 1) * math.prod(s) * G for k, s in enumerate(sizes)]
    assert contact[:, 2].tolist() == pytest.approx(weights, rel=2e-3)
    turn = torch.tensor([[1.0, 0.0, 0.0]]).repeat(3, 1)
    gravity = GYM.get_sim_params(world.sim)
    gravity.gravity = gymapi.Vec3(0, 0, 0)
    GYM.set_sim_params(world.sim, gravity)
    roots = world.tensor("actor_root_state")
    roots[:, 2] += 1.0
    roots[:, 7:] = 0.0
    GYM.set_actor_root_state_tensor(world.sim, gymtorch.unwrap_tensor(roots))
    GYM.apply_rigid_body_force_tensors(world.sim, None, gymtorch.unwrap_tensor(turn))
    world.step()
    masses = [w / G for w in weights]
    inertia = [m * (s[1] ** 2 + s[2] ** 2) / 12 for m, s in zip(masses, sizes, strict=True)]
    omega = world.tensor("actor_root_state")[:, 10].tolist()
    assert omega == pytest.approx([0.005 / i for i in inertia], rel=1e-3)


def test_links_of_other_lengths_are_copies_of_one_model(tmp_path):
    """Pendulums whose bob is 0.5, 1 and 2 m below the pivot: small swings have the periods
    2 pi sqrt((I + m l^2) / (m g l))."""
    world = World(dt=0.002)
    lengths = [0.5, 1.0, 2.0]
    for k, length in enumerate(lengths):
        text = PENDULUM.replace('xyz="0 0 -0.5"', f'xyz="0 0 {-length}"')
        rod = world.load(tmp_path, f"p{k}.urdf", text, fix_base_link=True)
        GYM.create_actor(world.env(), rod, pose(z=3), "p", k, 0, 0)
        start = np.array([(0.1, 0.0)], gymapi.DofState.dtype)
        GYM.set_actor_dof_states(world.envs[k], 0, start, gymapi.STATE_ALL)
    GYM.prepare_sim(world.sim)
    assert groups(world) == [3]
    crossed = [0.0] * 3
    before = world.tensor("dof_state")[:, 0].clone()
    for step in range(1, 1000):
        world.step()
        now = world.tensor("dof_state")[:, 0]
        for k in range(3):
            if not crossed[k] and now[k] <= 0:
                part = before[k] / (before[k] - now[k])
                crossed[k] = (step - 1 + part.item()) * 0.002
        before = now.clone()
    quarters = [math.pi / 2 * math.sqrt((0.1 + x * x) / (G * x)) for x in lengths]
    assert crossed == pytest.approx(quarters, rel=3e-3)


def mixed(tmp_path, dt=0.005):
    """A ball; a slider and a box; the ball again, heavier; a pendulum on two boxes."""
    world = World(dt=dt)
    world.ground()
    sim = world.sim
    ball = GYM.create_sphere(sim, 0.1, options())
    box = GYM.create_box(sim, 0.2, 0.2, 0.2, options())
    slider = world.load(tmp_path, "s.urdf", SLIDER.format(effort=0), fix_base_link=True)
    rod = world.load(tmp_path, "p.urdf", PENDULUM, fix_base_link=True)
    GYM.create_asset_force_sensor(rod, 1, pose())
    content = [
        [(ball, "ball", 0.1)],
        [(slider, "slider", 2.0), (box, "box", 0.1)],
        [(ball, "ball", 0.1)],
        [(box, "box", 0.1), (rod, "rod", 2.0), (box, "box", 0.1)],
    ]
    for k, actors in enumerate(content):
        env = world.env(10.0, per_row=4)
        for j, (asset, name, z) in enumerate(actors):
            GYM.create_actor(env, asset, pose(x=0.5 * j, z=z), name, k, 0, 0)
    bodies = GYM.get_actor_rigid_body_properties(world.envs[2], 0)
    bodies[0].mass *= 3
    GYM.set_actor_rigid_body_properties(world.envs[2], 0, bodies, True)
    return world


def test_environments_of_other_structure_share_tensors_in_order(tmp_path, engine):
    world = mixed(tmp_path)
    sim, envs = world.sim, world.envs
    assert GYM.get_actor_index(envs[3], 1, gymapi.DOMAIN_SIM) == 5
    assert GYM.find_actor_rigid_body_index(envs[3], 1, "rod", gymapi.DOMAIN_SIM) == 7
    assert GYM.find_actor_dof_index(envs[3], 1, "hinge", gymapi.DOMAIN_SIM) == 1
    GYM.prepare_sim(sim)
    assert groups(world) == [2, 1, 1]
    roots, bodies = world.tensor("actor_root_state"), world.tensor("rigid_body_state")
    dofs, contact = world.tensor("dof_state"), world.tensor("net_contact_force")
    sensors = world.tensor("force_sensor")
    shapes = [tuple(t.shape) for t in (roots, bodies, dofs, contact, sensors)]
    assert shapes == [(7, 13), (9, 13), (2, 2), (9, 3), (1, 6)]
    assert roots[:, 0].tolist() == [0, 0, 0.5, 0, 0, 0.5, 1.0]  # in the environments' frames
    held = roots.data_ptr()
    # Setters: all DOFs, some roots; a force on one body; an effort for one DOF.
    dofs[:, 0] = torch.tensor([0.3, 0.2])
    GYM.set_dof_state_tensor(sim, gymtorch.unwrap_tensor(dofs))
    roots[:, 2] += 5.0
    listed = indices(0, 6)
    GYM.set_actor_root_state_tensor_indexed(sim, gymtorch.unwrap_tensor(roots), listed, 2)
    now = world.tensor("actor_root_state")
    assert now.data_ptr() == held
    assert now[:, 2].tolist() == pytest.approx([5.1, 2, 0.1, 0.1, 0.1, 2, 5.1])
    assert world.tensor("dof_state")[:, 0].tolist() == pytest.approx([0.3, 0.2])
    assert GYM.get_actor_dof_states(envs[1], 0, gymapi.STATE_POS)["pos"][0] == pytest.approx(0.3)
    push = torch.zeros(9, 3)
    push[0, 0] = 8.0
    GYM.apply_rigid_body_force_tensors(sim, gymtorch.unwrap_tensor(push), None)
    world.step()
    mass = 1000 * 4 / 3 * math.pi * 1e-3
    speeds = world.tensor("actor_root_state")[:, 7].tolist()
    assert speeds == pytest.approx([8 * 0.005 / mass, 0, 0, 0, 0, 0, 0], abs=1e-5)
    world.step(19)
    z = world.tensor("actor_root_state")[:, 2]
    fallen = G * 0.005**2 * 20 * 21 / 2
    assert z[[0, 6]].tolist() == pytest.approx([5.1 - fallen] * 2, abs=1e-4)
    world.tensor("net_contact_force")
    boxes = 8 * G
    assert contact[:, 2].tolist() == pytest.approx(
        [0, 0, 0, boxes, 3 * mass * G, boxes, 0, 0, 0], rel=2e-2
    )
    # Structures that do not fit into one tensor.
    with pytest.raises(PhalanxError, match=r"no actor 'rod' in environment 0"):
        GYM.acquire_jacobian_tensor(sim, "rod")
    states = GYM.get_sim_rigid_body_states(sim, gymapi.STATE_POS)
    assert len(states) == 9
    assert states["pose"]["p"]["x"][[0, 4, 8]].tolist() == pytest.approx([0.0, 20.0, 31.0], abs=0.1)


def test_targets_and_efforts_reach_the_joints_of_every_structure(tmp_path):
    """Sliders of 2 kg, alone or above a ball: with 4 N they accelerate by 2 m/s^2."""
    world = World(gravity=0.0, dt=0.01)
    slider = world.load(tmp_path, "s.urdf", SLIDER.format(effort=0), fix_base_link=True)
    ball = GYM.create_sphere(world.sim, 0.1, options())
    for k in range(4):
        env = world.env()
        if k % 2:
            GYM.create_actor(env, ball, pose(), "ball", k, 0, 0)
        GYM.create_actor(env, slider, pose(z=1), "slider", k, 0, 0)
        props = GYM.get_actor_dof_properties(env, k % 2)
        props["driveMode"] = gymapi.DOF_MODE_EFFORT
        GYM.set_actor_dof_properties(env, k % 2, props)
    GYM.prepare_sim(world.sim)
    effort = torch.tensor([4.0, 8.0, -4.0, 2.0])
    GYM.set_dof_actuation_force_tensor(world.sim, gymtorch.unwrap_tensor(effort))
    effort[:] = 100.0
    last = indices(5)  # the slider of the last environment
    GYM.set_dof_actuation_force_tensor_indexed(world.sim, gymtorch.unwrap_tensor(effort), last, 1)
    world.step(10)
    speeds = world.tensor("dof_state")[:, 1].tolist()
    assert speeds == pytest.approx([0.2, 0.4, -0.2, 5.0], rel=1e-4)
    jacobian = world.tensor("jacobian", "slider")
    assert jacobian.shape == (4, 1, 6, 1)
    assert jacobian[:, 0, 0, 0].tolist() == pytest.approx([1, 1, 1, 1])
    assert world.tensor("mass_matrix", "slider").flatten().tolist() == pytest.approx([2.0] * 4)


def test_names_count_in_every_environment(tmp_path):
    """Two pendulums in one model, whose names are in another order in the second environment: "x"
    hangs and "y" is turned by 1 rad. The centre of mass is 0.5 m below the pivot, so d x / d q is
    -0.5 cos q."""
    world = World(gravity=0.0)
    rod = world.load(tmp_path, "p.urdf", PENDULUM, fix_base_link=True)
    for k, names in enumerate(("xy", "yx", "xy")):
        env = world.env()
        for x, name in enumerate(names):
            GYM.create_actor(env, rod, pose(x=x), name, 0, 1)
        GYM.create_actor(env, rod, pose(x=3), f"robot_{k}", 0, 1)
    GYM.prepare_sim(world.sim)
    assert groups(world) == [3]
    q = torch.zeros(3, 3, 2)
    q[0, 1, 0] = q[1, 0, 0] = q[2, 1, 0] = 1.0
    GYM.set_dof_state_tensor(world.sim, gymtorch.unwrap_tensor(q.view(9, 2)))
    for name, angle in (("x", 0.0), ("y", 1.0)):
        along = world.tensor("jacobian", name)[:, 0, 0, 0].tolist()
        assert along == pytest.approx([-0.5 * math.cos(angle)] * 3, abs=1e-5)
        mass = world.tensor("mass_matrix", name).flatten().tolist()
        assert mass == pytest.approx([0.1 + 0.25] * 3, rel=1e-4)
    with pytest.raises(PhalanxError, match=r"'robot_1' in environment 0; did you mean 'robot_0'"):
        GYM.acquire_jacobian_tensor(world.sim, "robot_1")


@pytest.mark.parametrize("mixed", [False, True])
def test_a_name_for_each_environment_counts_in_all_that_have_actors(tmp_path, mixed):
    """Robots 0 to 3, of which 1 is missing; environment 2 has another structure if `mixed`."""
    world = World(gravity=0.0)
    rod = world.load(tmp_path, "p.urdf", PENDULUM, fix_base_link=True)
    ball = GYM.create_sphere(world.sim, 0.1, options())
    for k in range(4):
        env = world.env()
        if k != 1:
            GYM.create_actor(env, rod, pose(), f"robot_{k}", k, 1)
            GYM.create_actor(env, ball, pose(x=5), "ball" if k < 3 else "robot_0b", k, 1)
        if k == 2 and mixed:
            GYM.create_actor(env, ball, pose(x=8), "more", k, 1)
    GYM.prepare_sim(world.sim)
    assert groups(world) == ([2, 1] if mixed else [3])
    angles = torch.tensor([0.0, 0.5, 1.0])
    states = torch.stack([angles, torch.zeros(3)], -1)
    GYM.set_dof_state_tensor(world.sim, gymtorch.unwrap_tensor(states))
    along = world.tensor("jacobian", "robot_0")[:, 0, 0, 0]
    torch.testing.assert_close(along, -0.5 * angles.cos())
    assert world.tensor("mass_matrix", "robot_0").shape == (3, 1, 1)
    with pytest.raises(PhalanxError, match=r"no actor 'ball' in environment 3"):
        GYM.acquire_jacobian_tensor(world.sim, "ball")


def test_filters_set_while_running_hold_in_every_environment_or_are_refused():
    """Of two boxes of 8 kg the upper one rests on the lower one, or falls through it."""
    world = World(dt=0.005)
    world.ground()
    box = GYM.create_box(world.sim, 0.2, 0.2, 0.2, options())
    for _ in range(3):
        env = world.env()
        for z in (0.1, 0.3):
            GYM.create_actor(env, box, pose(z=z), "box", 0, 0)
    GYM.prepare_sim(world.sim)
    world.step()

    def filter_in(env, word):
        for actor in (0, 1):
            shapes = GYM.get_actor_rigid_shape_properties(env, actor)
            shapes[0].filter = word
            GYM.set_actor_rigid_shape_properties(env, actor, shapes)

    for env in (1, 0):
        filter_in(world.envs[env], 1)
        for _ in range(2):  # it stays refused
            with pytest.raises(PhalanxError, match=rf"environment {max(env, 1)} than in env.* 0"):
                world.step()
        filter_in(world.envs[env], 0)
        world.step()
    world.step(20)
    upper = world.tensor("actor_root_state")[1::2, 2].tolist()
    assert upper == pytest.approx([0.3] * 3, abs=2e-3)
    for env in world.envs:  # which differ until the end of this loop
        filter_in(env, 1)
        states = GYM.get_actor_rigid_body_states(env, 1, gymapi.STATE_ALL)
        GYM.set_actor_rigid_body_states(env, 1, states, gymapi.STATE_ALL)
        GYM.acquire_net_contact_force_tensor(world.sim)
    world.step(20)
    fallen = 0.3 - G * (20 * 0.005) ** 2 / 2
    assert world.tensor("actor_root_state")[1::2, 2].tolist() == pytest.approx(
        [fallen] * 3, abs=4e-3
    )


def test_an_empty_environment_shows_nothing_of_the_others():
    world = World()
    world.ground()
    box = GYM.create_box(world.sim, 0.2, 0.2, 0.2)
    GYM.create_actor(world.env(5.0), box, pose(z=0.1), "box")
    empty = world.env(5.0)
    camera = GYM.create_camera_sensor(empty, gymapi.CameraProperties())
    viewer = Viewer(world.sim, gymapi.CameraProperties())
    viewer.look_at(empty, gymapi.Vec3(1, 1, 1), gymapi.Vec3())
    world.step()
    assert len(GYM.get_env_rigid_contacts(empty)) == 0
    assert set(GYM.get_rigid_contacts(world.sim)["env1"]) == {0}
    assert GYM.get_env_rigid_contact_forces(empty).shape == (0,)
    for call in (GYM.get_camera_image, GYM.get_camera_image_gpu_tensor):
        with pytest.raises(
            PhalanxError,
            match=r"environment 1, .* create one in it before gym\.prep|enable_tensors",
        ):
            call(world.sim, empty, camera, gymapi.IMAGE_DEPTH)
    assert viewer.view()[0] is world.envs[0]
    with pytest.raises(PhalanxError, match="given body 0"):
        GYM.apply_body_forces(empty, 0, gymapi.Vec3(0, 0, 1))


def test_pictures_have_the_colours_of_the_materials_in_each_environment(tmp_path):
    text = """<mujoco><asset><material name="m" rgba="{}"/></asset><worldbody><body name="b">
      <freejoint/><geom type="box" size=".1 .1 .1" material="m"/></body></worldbody></mujoco>"""
    world = World()
    for k, color in enumerate(("1 0 0 1", "0 1 0 1", "1 0 0 1")):
        box = world.load(tmp_path, f"b{k}.xml", text.format(color))
        GYM.create_actor(world.env(), box, pose(z=1), "b")
    world.step()
    physics = world.sim.physics.groups[0]
    fields, _ = looks(physics, world.envs)
    place = fields["geom_matid"].tolist()
    assert place == [[place[0][0]], [-1], [place[0][0]]]
    assert physics.model.mat_rgba[place[0][0]].tolist() == [1, 0, 0, 1]
    assert fields["geom_rgba"][1].tolist() == [[0, 1, 0, 1]]
    some, _ = looks(physics, [world.envs[2], world.envs[1]])
    assert some["geom_matid"].tolist() == [[place[0][0]], [-1]]
    assert len(box.materials) == 32, "a digest, not a copy of all textures"


def test_an_empty_environment_is_no_obstacle():
    world = World()
    ball = GYM.create_sphere(world.sim, 0.1)
    GYM.create_actor(world.env(), ball, pose(z=1), "ball", 0, 0, 0)
    world.env()
    world.step()
    assert world.tensor("actor_root_state").shape == (1, 13)
    assert len(GYM.get_env_rigid_body_states(world.envs[1], gymapi.STATE_ALL)) == 0


def test_a_diverged_environment_of_another_structure_starts_again(tmp_path, caplog):
    world = mixed(tmp_path)
    GYM.prepare_sim(world.sim)
    world.step()
    roots = world.tensor("actor_root_state")
    roots[4, 2] = math.nan
    GYM.set_actor_root_state_tensor(world.sim, gymtorch.unwrap_tensor(roots))
    with caplog.at_level(logging.WARNING):
        world.step(70)
    assert torch.isfinite(world.tensor("actor_root_state")).all()
    assert "environment 3" in caplog.text


def test_models_of_many_actors_compare_few_records(monkeypatch):
    """Comparing records takes 20 us each, which was most of the start of 4096 times 18 actors.
    Filters give each actor a copy of its shapes."""
    world = World()
    box = GYM.create_box(world.sim, 0.1, 0.1, 0.1, options())
    for _ in range(50):
        env = world.env()
        for k in range(3):
            actor = GYM.create_actor(env, box, pose(x=k, z=1), "box", k, 1, 0)
            props = GYM.get_actor_rigid_shape_properties(env, actor)
            GYM.set_actor_rigid_shape_properties(env, actor, props)
    compared = []
    equal = np.array_equal
    monkeypatch.setattr(np, "array_equal", lambda *pair: compared.append(pair) or equal(*pair))
    GYM.prepare_sim(world.sim)
    world.step()
    assert len(compared) < 50
    assert not world.sim.physics.groups[0].state.has_own("geom_friction")
