"""isaacgym: who is who, who touches whom, what differs between environments, and bad input."""

import contextlib
import math

import mujoco
import numpy as np
import pytest
import torch

from isaac import GYM, PENDULUM, SLIDER, TWO_LINKS, World, indices, options, params, pose
from isaacgym import gymapi, gymtorch
from isaacgym.support import REFUSED, SUPPORT
from phalanx.errors import PhalanxError

G = 9.81

# Four legs, declared in an order of their own; the last one's foot stays a body.
QUADRUPED = """<robot name="quadruped">
  <link name="trunk"><inertial><origin xyz="0.1 0 0.05"/><mass value="4"/>
    <inertia ixx="0.1" iyy="0.1" izz="0.1"/></inertial>
    <collision><geometry><box size="0.4 0.2 0.1"/></geometry></collision></link>
  {legs}
</robot>"""
LEG = """<link name="{n}_thigh"><inertial><mass value="0.5"/>
    <inertia ixx="0.01" iyy="0.01" izz="0.01"/></inertial></link>
  <link name="{n}_foot"><inertial><mass value="0.25"/>
    <inertia ixx="0.001" iyy="0.001" izz="0.001"/></inertial>
    <collision><geometry><sphere radius="0.05"/></geometry></collision></link>
  <joint name="{n}_hip" type="revolute"><origin xyz="{x} {y} 0"/>
    <parent link="trunk"/><child link="{n}_thigh"/><axis xyz="0 1 0"/>
    <limit lower="-1" upper="2" effort="30" velocity="20"/><dynamics damping="0.5" friction="0.2"/>
  </joint>
  <joint name="{n}_ankle" type="fixed" {keep}><origin xyz="0 0 -0.3"/>
    <parent link="{n}_thigh"/><child link="{n}_foot"/></joint>"""


def quadruped() -> str:
    legs = [("FR", 0.2, -0.1, ""), ("FL", 0.2, 0.1, ""), ("RR", -0.2, -0.1, ""),
            ("RL", -0.2, 0.1, 'dont_collapse="true"')]  # fmt: skip
    return QUADRUPED.format(
        legs="\n".join(LEG.format(n=n, x=x, y=y, keep=keep) for n, x, y, keep in legs)
    )


@pytest.mark.parametrize("collapse", [True, False])
def test_urdf_order_names_and_properties(tmp_path, collapse):
    world = World()
    asset = world.load(
        tmp_path, "quadruped.urdf", quadruped(), collapse_fixed_joints=collapse,
        default_dof_drive_mode=3, armature=0.02,
    )  # fmt: skip
    legs = ["FL", "FR", "RL", "RR"]  # by joint name, not as declared
    kept = {"RL"} if collapse else set(legs)
    bodies = ["trunk"]
    for leg in legs:
        bodies += [f"{leg}_thigh"] + [f"{leg}_foot"] * (leg in kept)
    assert GYM.get_asset_rigid_body_names(asset) == bodies
    assert GYM.get_asset_dof_names(asset) == [f"{leg}_hip" for leg in legs]
    joints = []
    for leg in legs:
        joints += [f"{leg}_hip"] + [f"{leg}_ankle"] * (leg in kept)
    assert GYM.get_asset_joint_names(asset) == joints
    assert GYM.find_asset_rigid_body_index(asset, "RL_foot") == bodies.index("RL_foot")
    assert GYM.find_asset_rigid_body_index(asset, "tail") == -1
    props = GYM.get_asset_dof_properties(asset)[0]
    assert props.tolist() == pytest.approx((True, -1, 2, 3, 20, 30, 0, 0.5, 0.2, 0.02))
    env = world.env()
    GYM.create_actor(env, asset, pose(z=1), "q", 0, 0, 0)
    held = GYM.get_actor_rigid_body_properties(env, 0)
    assert [held[0].com.x, held[0].com.z] == pytest.approx([0.1, 0.05])
    assert sum(b.mass for b in held) == pytest.approx(7.0)
    assert held[0].inertia.x.x == pytest.approx(0.1)


def test_mjcf_actuators_decide_the_drive_and_joint_stiffness_becomes_a_gain(tmp_path):
    xml = """<mujoco><compiler angle="degree"/><worldbody><geom type="plane" size="1 1 1"/>
      <body name="root" pos="0 0 7"><freejoint/><geom size="0.1" material="nowhere"/>
        <body name="b"><joint name="b" range="-10 20" stiffness="3" damping="2" armature="0.1"/>
          <joint name="a" limited="true" range="-30 60" axis="1 0 0"/><geom size="0.1"/>
          <body name="c"><joint name="c"/><geom size="0.1" contype="0" conaffinity="0"/></body>
          <body name="tip" pos="0 0 1"><geom size="0.1" friction="0.3"/></body>
        </body></body></worldbody>
      <actuator><position name="pc" joint="c" kp="50" forcerange="-4 4" forcelimited="true"/>
        <motor name="mb" joint="b" gear="15"/></actuator></mujoco>"""
    world = World()
    asset = world.load(tmp_path, "robot.xml", xml)
    assert GYM.get_asset_rigid_body_names(asset) == ["root", "b", "c", "tip"]
    assert GYM.get_asset_dof_names(asset) == ["b", "a", "c"]
    assert GYM.get_asset_joint_names(asset) == ["b", "a", "c", "tip"]
    props = GYM.get_asset_dof_properties(asset)
    assert props["driveMode"].tolist() == [3, 0, 1]
    assert props["hasLimits"].tolist() == [False, True, False]  # `limited` counts, not the range
    assert props["lower"][1] == pytest.approx(math.radians(-30))
    assert props["stiffness"].tolist() == [3, 0, 50]
    assert props["damping"].tolist() == [2, 0, 0]
    assert props["effort"][2] == 4
    assert GYM.get_asset_actuator_count(asset) == 2
    assert GYM.get_asset_actuator_joint_name(asset, 1) == "b"
    assert GYM.get_asset_actuator_properties(asset)[1].motor_effort == 15
    assert GYM.get_asset_rigid_shape_count(asset) == 3
    shapes = GYM.get_asset_rigid_shape_properties(asset)
    assert [s.friction for s in shapes] == pytest.approx([1, 1, 0.3])
    GYM.create_actor(world.env(), asset, pose(z=2), "r", 0, 0, 0)
    GYM.prepare_sim(world.sim)
    assert world.tensor("actor_root_state")[0, 2] == 2  # the pose, not the file's position


def test_root_states_are_of_the_link_in_the_environment_with_the_velocity_of_its_centre(tmp_path):
    world = World(gravity=0.0, dt=0.001)
    asset = world.load(tmp_path, "quadruped.urdf", quadruped(), collapse_fixed_joints=True)
    for _ in range(3):
        GYM.create_actor(world.env(3.0), asset, pose(0, 0, 1), "q", 0, 1, 0)
    assert [*GYM.get_env_origin(world.envs[2])] == [0, 3, 0]
    GYM.prepare_sim(world.sim)
    roots = world.tensor("actor_root_state")
    assert roots[:, :3].tolist() == [[0, 0, 1]] * 3
    q = gymapi.Quat.from_euler_zyx(0.3, -0.5, 1.0)
    spin = torch.tensor([0.0, 0.0, 2.0])
    sent = torch.tensor([0.5, 0.6, 2.0, q.x, q.y, q.z, q.w, 0.3, 0.2, 0.1, *spin])
    roots[1] = sent
    GYM.set_actor_root_state_tensor_indexed(world.sim, gymtorch.unwrap_tensor(roots), indices(1), 1)
    roots[:] = torch.nan
    roots = world.tensor("actor_root_state")
    torch.testing.assert_close(roots[1], sent, atol=1e-6, rtol=0)
    assert roots[2, :3].tolist() == [0, 0, 1]
    bodies = world.tensor("rigid_body_state").view(3, -1, 13)
    torch.testing.assert_close(bodies[1, 0], sent, atol=1e-5, rtol=0)  # current without a step
    # The origin of the link moves with v - omega x (R com).
    lever = q.rotate(gymapi.Vec3(0.1, 0, 0.05))
    arm = torch.tensor([lever.x, lever.y, lever.z])
    origin = sent[7:10] - torch.linalg.cross(spin, arm)
    engine = world.sim.physics.groups[0].engine
    torch.testing.assert_close(engine.qvel[1, :3], origin, atol=1e-6, rtol=0)
    world.step()
    moved = world.tensor("actor_root_state")[1, :3]
    torch.testing.assert_close(moved, sent[:3] + 0.001 * origin, atol=1e-5, rtol=0)


def test_indexed_setters_touch_the_listed_actors_only(tmp_path):
    world = World(gravity=0.0)
    robot = world.load(tmp_path, "arm.urdf", TWO_LINKS, fix_base_link=True)
    box = GYM.create_box(world.sim, 0.1, 0.1, 0.1, options())
    for _ in range(3):
        env = world.env()
        GYM.create_actor(env, box, pose(x=5), "box", 0, 0, 0)
        GYM.create_actor(env, robot, pose(x=1), "one", 0, 0, 0)
        GYM.create_actor(env, robot, pose(x=2), "two", 0, 0, 0)
    assert GYM.get_actor_index(world.envs[1], 2, gymapi.DOMAIN_SIM) == 5
    assert GYM.find_actor_rigid_body_handle(world.envs[1], 2, "lower") == 6
    assert GYM.find_actor_rigid_body_index(world.envs[1], 2, "lower", gymapi.DOMAIN_SIM) == 13
    assert GYM.find_actor_dof_handle(world.envs[2], 2, "elbow") == 3
    GYM.prepare_sim(world.sim)
    dofs, roots = world.tensor("dof_state"), world.tensor("actor_root_state")
    assert dofs.shape == (12, 2)
    dofs.copy_(torch.arange(24.0).view(12, 2) / 10)
    sent = dofs.clone()
    GYM.set_dof_state_tensor_indexed(world.sim, gymtorch.unwrap_tensor(dofs), indices(5, 1, 0), 2)
    dofs = world.tensor("dof_state")
    listed = [0, 1, 6, 7]  # of actors 1 and 5; the third index is beyond the count
    assert torch.equal(dofs[listed], sent[listed])
    assert dofs[[2, 3, 4, 5, 8, 9, 10, 11]].abs().max() == 0
    roots[:, 0] = torch.arange(9.0)
    GYM.set_actor_root_state_tensor_indexed(
        world.sim, gymtorch.unwrap_tensor(roots), indices(3, 4), 2
    )
    x = world.tensor("actor_root_state")[:, 0].tolist()
    assert x == [5, 1, 2, 3, 4, 2, 5, 1, 2]  # a fixed base is moved as well
    world.step()
    assert world.tensor("rigid_body_state").view(3, 7, 13)[1, 1, 0] == 4


CASES = [
    # groups, filters of two spheres in each other; whether they touch
    ((0, 0), (0, 0), True),
    ((0, 1), (0, 0), False),
    ((0, -1), (0, 0), True),
    ((0, 0), (1, 1), False),
    ((0, 0), (1, 2), True),
    ((0, 0), (3, 2), False),
    ((0, 0), (-1, -1), True),
]


@pytest.mark.parametrize(("groups", "filters", "touch"), CASES)
def test_groups_and_filters_say_who_touches_whom(groups, filters, touch):
    world = World(dt=0.005)
    world.ground()
    ball = GYM.create_sphere(world.sim, 0.2, options(density=100))
    env = world.env()
    for k, z in enumerate((0.2, 0.55)):
        GYM.create_actor(env, ball, pose(z=z), f"ball{k}", groups[k], filters[k], 0)
    GYM.prepare_sim(world.sim)
    world.step(400)
    z = world.tensor("actor_root_state")[:, 2]
    assert z[0] == pytest.approx(0.2, abs=0.01)
    assert z[1] == pytest.approx(0.6 if touch else 0.2, abs=0.01)


def test_filter_on_a_robot_switches_off_contacts_among_its_bodies(tmp_path):
    text = TWO_LINKS.replace("</inertial>", "</inertial><collision><origin xyz='0 0 0'/>"
                             "<geometry><sphere radius='0.6'/></geometry></collision>")  # fmt: skip
    for filter, contacts in ((0, True), (1, False)):
        world = World(gravity=0.0)
        arm = world.load(tmp_path, "arm.urdf", text, fix_base_link=True)
        ball = GYM.create_sphere(world.sim, 0.3, options())
        env = world.env()
        GYM.create_actor(env, arm, pose(), "arm", 0, filter, 0)
        GYM.create_actor(env, ball, pose(x=1.0, y=0.85), "ball", 0, filter, 0)
        GYM.prepare_sim(world.sim)
        world.tensor("net_contact_force")
        world.step()
        force = world.tensor("net_contact_force")
        assert bool(force[3].abs().max() > 1) == contacts
        # The links overlap, but they are neighbours.
        assert force[1].abs().max() == 0


def test_scale_mass_friction_and_gains_may_differ_between_environments(tmp_path):
    world = World(dt=0.005)
    world.ground(friction=0.5)
    box = GYM.create_box(world.sim, 0.2, 0.2, 0.2, options())
    slider = world.load(tmp_path, "s.urdf", SLIDER.format(effort=0), fix_base_link=True)
    heavier = (1, 1, 3)
    for k in range(3):
        env = world.env()
        GYM.create_actor(env, box, pose(z=0.1 + 0.1 * (k == 2)), "box", k, 0, 0)
        GYM.create_actor(env, slider, pose(z=3, y=3), "slider", k, 0, 0)
        shapes = GYM.get_actor_rigid_shape_properties(env, 0)
        shapes[0].friction = torch.tensor([0.1 if k == 1 else 0.5])
        GYM.set_actor_rigid_shape_properties(env, 0, shapes)
        bodies = GYM.get_actor_rigid_body_properties(env, 0)
        bodies[0].mass *= heavier[k]
        GYM.set_actor_rigid_body_properties(env, 0, bodies, recomputeInertia=True)
        assert GYM.get_actor_rigid_body_properties(env, 0)[0].inertia.x.x == pytest.approx(
            8 * heavier[k] / 6 * 0.04
        )
        props = GYM.get_actor_dof_properties(env, 1)
        props["driveMode"], props["damping"] = gymapi.DOF_MODE_EFFORT, 10.0 * (1 + k)
        GYM.set_actor_dof_properties(env, 1, props)
    GYM.set_actor_scale(world.envs[2], 0, np.array([2.0]))
    GYM.prepare_sim(world.sim)
    push = torch.zeros(3, 3, 3)
    push[:, 0, 0] = 30.0
    effort = torch.full((3,), 30.0)
    world.tensor("net_contact_force")
    GYM.set_dof_actuation_force_tensor(world.sim, gymtorch.unwrap_tensor(effort))
    for _ in range(200):
        GYM.apply_rigid_body_force_tensors(world.sim, gymtorch.unwrap_tensor(push), None)
        world.step()
    contact = world.tensor("net_contact_force").view(3, 3, 3)[:, 0]
    weights = [8.0 * G, 24.0 * 8 * G]  # a scale of 2 makes eight times the mass
    assert contact[[0, 2], 2].tolist() == pytest.approx(weights, rel=1e-3)
    roots = world.tensor("actor_root_state").view(3, 2, 13)[:, 0]
    assert roots[2, 2] == pytest.approx(0.2, abs=2e-3)  # the scaled box is twice as high
    # Only the second box slides: its friction with the ground is (0.1 + 0.5) / 2.
    speed = [0, (30 - 0.3 * 8 * G) / 8, 0]
    assert roots[:, 7].tolist() == pytest.approx(speed, abs=0.06)
    speed = world.tensor("dof_state").view(3, 2)[:, 1].tolist()
    assert speed == pytest.approx([3.0, 1.5, 1.0], rel=1e-2)
    # Changed while it runs.
    props = GYM.get_actor_dof_properties(world.envs[0], 1)
    props["damping"] = 30.0
    GYM.set_actor_dof_properties(world.envs[0], 1, props)
    world.step(200)
    speed = world.tensor("dof_state").view(3, 2)[:, 1].tolist()
    assert speed == pytest.approx([1.0, 1.5, 1.0], rel=1e-2)


def test_mass_matrix_and_jacobian_of_a_free_robot_agree_with_mujoco(tmp_path):
    world = World()
    asset = world.load(tmp_path, "quadruped.urdf", quadruped(), armature=0.01)
    GYM.create_actor(world.env(), asset, pose(z=1), "q", 0, 0, 0)
    GYM.prepare_sim(world.sim)
    roots, dofs = world.tensor("actor_root_state"), world.tensor("dof_state")
    q = gymapi.Quat.from_euler_zyx(0.4, -0.2, 0.9)
    roots[0, 3:7] = torch.tensor([q.x, q.y, q.z, q.w])
    dofs[:, 0] = torch.tensor([0.1, -0.4, 0.7, 1.2])
    GYM.set_actor_root_state_tensor(world.sim, gymtorch.unwrap_tensor(roots))
    GYM.set_dof_state_tensor(world.sim, gymtorch.unwrap_tensor(dofs))
    mass = world.tensor("mass_matrix", "q")[0].double().numpy()
    jacobian = world.tensor("jacobian", "q")[0].double().numpy()
    model = asset.model
    data = mujoco.MjData(model)
    data.qpos[:] = [0, 0, 1, q.w, q.x, q.y, q.z, *dofs[:, 0].tolist()]
    mujoco.mj_forward(model, data)
    full = np.zeros((model.nv, model.nv))
    mujoco.mj_fullM(model, data, full)
    full[6:, 6:] += 0.01 * np.eye(4)
    # MuJoCo's root velocity, from one of the root's centre of mass and about world axes.
    turn = data.xmat[1].reshape(3, 3)
    arm = turn @ model.body_ipos[1]
    change = np.eye(10)
    change[:3, 3:6] = np.array([[0, -arm[2], arm[1]], [arm[2], 0, -arm[0]], [-arm[1], arm[0], 0]])
    change[3:6, 3:6] = turn.T
    np.testing.assert_allclose(mass, change.T @ full @ change, atol=2e-5)
    for b in range(asset.num_bodies):
        linear, angular = np.zeros((3, 10)), np.zeros((3, 10))
        mujoco.mj_jacBodyCom(model, data, linear, angular, b + 1)
        np.testing.assert_allclose(jacobian[b], np.vstack([linear, angular]) @ change, atol=1e-5)


def test_tensors_keep_their_memory_and_hold_local_edits_until_refreshed(tmp_path):
    world = World()
    asset = world.load(tmp_path, "pendulum.urdf", PENDULUM, fix_base_link=True)
    GYM.create_actor(world.env(), asset, pose(), "p", 0, 0, 0)
    early = gymtorch.wrap_tensor(GYM.acquire_dof_state_tensor(world.sim))  # before prepare_sim
    GYM.prepare_sim(world.sim)
    again = GYM.acquire_dof_state_tensor(world.sim)
    assert again.data_address == early.data_ptr()
    early[0, 0] = 0.5
    GYM.set_dof_state_tensor(world.sim, again)
    world.step(10)
    assert early[0, 0] == 0.5
    GYM.refresh_dof_state_tensor(world.sim)
    assert early[0, 0] != 0.5
    assert GYM.refresh_rigid_body_state_tensor(world.sim)  # never acquired: nothing to do
    # A tensor that needs a sensor, acquired when the simulation runs already
    position = early.clone()
    assert world.tensor("net_contact_force").shape == (2, 3)
    GYM.refresh_dof_state_tensor(world.sim)
    assert torch.equal(early, position)


def test_poses_before_prepare_sim_and_single_actor_calls(tmp_path):
    world = World(gravity=0.0)
    asset = world.load(tmp_path, "arm.urdf", TWO_LINKS, fix_base_link=True)
    env = world.env()
    turned = gymapi.Quat.from_axis_angle(gymapi.Vec3(0, 0, 1), math.pi / 2)
    GYM.create_actor(env, asset, pose(1, 2, 3, turned), "arm", 0, 0, 0)
    lower = GYM.find_actor_rigid_body_handle(env, 0, "lower")
    assert [*GYM.get_rigid_transform(env, lower).p] == pytest.approx([1, 3, 3])
    GYM.prepare_sim(world.sim)
    assert [*GYM.get_rigid_transform(env, lower).p] == pytest.approx([1, 3, 3])
    states = GYM.get_actor_dof_states(env, 0, gymapi.STATE_ALL)
    states["pos"] = [math.pi / 2, 0]
    GYM.set_actor_dof_states(env, 0, states, gymapi.STATE_POS)
    assert [*GYM.get_rigid_transform(env, lower).p] == pytest.approx([0, 2, 3], abs=1e-6)
    bodies = GYM.get_actor_rigid_body_states(env, 0, gymapi.STATE_ALL)
    assert bodies["pose"]["p"]["x"][2] == pytest.approx(0, abs=1e-6)


def test_joints_and_commands_can_be_set_while_environments_are_made(tmp_path):
    world = World(gravity=0.0)
    asset = world.load(tmp_path, "arm.urdf", TWO_LINKS, fix_base_link=True)
    starts = {}
    for k in range(2):
        env = world.env()
        GYM.create_actor(env, asset, pose(), "idle", 2 * k, 0, 0)
        arm = GYM.create_actor(env, asset, pose(5), "arm", 2 * k + 1, 0, 0)
        states = GYM.get_actor_dof_states(env, arm, gymapi.STATE_ALL)
        assert states["pos"].tolist() == [0, 0]
        states["pos"], states["vel"] = [0.1 + k, 0.2], [0.0, 0.3]
        GYM.set_actor_dof_states(env, arm, states, gymapi.STATE_ALL)
        GYM.set_actor_dof_position_targets(env, arm, [0.5, k])
        starts[env] = states
    for env, states in starts.items():
        assert GYM.get_actor_dof_states(env, arm, gymapi.STATE_ALL).tolist() == states.tolist()
        assert GYM.get_actor_dof_position_targets(env, arm)[0] == 0.5
    GYM.prepare_sim(world.sim)
    expected = [[0, 0], [0, 0], [0.1, 0], [0.2, 0.3], [0, 0], [0, 0], [1.1, 0], [0.2, 0.3]]
    torch.testing.assert_close(world.tensor("dof_state"), torch.tensor(expected))
    for k, (env, states) in enumerate(starts.items()):
        assert GYM.get_actor_dof_states(env, arm, gymapi.STATE_ALL).tolist() == states.tolist()
        assert GYM.get_actor_dof_position_targets(env, arm).tolist() == [0.5, k]


def test_a_program_on_the_cpu_need_not_prepare(tmp_path):
    world, _ = one_pendulum(tmp_path)
    world.step(2)
    assert GYM.get_frame_count(world.sim) == 2
    with pytest.raises(PhalanxError, match=r"create_env was called after gym\.prepare_sim"):
        world.env()


def test_without_parameters_the_defaults_are_taken():
    sim = GYM.create_sim(0, -1, gymapi.SIM_PHYSX)
    assert GYM.get_sim_params(sim).dt == gymapi.SimParams().dt


def test_a_body_is_as_fast_as_its_actor(tmp_path):
    world = World(gravity=0.0)
    box = GYM.create_box(world.sim, 0.1, 0.2, 0.3, options(angular_damping=20, linear_damping=5))
    for k in range(2):
        env = world.env()
        pendulum = world.load(tmp_path, "pendulum.urdf", PENDULUM, fix_base_link=True)
        GYM.create_actor(env, pendulum, pose(5), "p", 2 * k, 0, 0)
        GYM.create_actor(env, box, pose(), "box", 2 * k + 1, 0, 0)
    GYM.prepare_sim(world.sim)
    roots = world.tensor("actor_root_state")
    roots[1::2, 7:] = torch.tensor([1.0, 2, 3, 4, 5, 6])
    GYM.set_actor_root_state_tensor(world.sim, gymtorch.unwrap_tensor(roots))
    world.step()
    roots, bodies = world.tensor("actor_root_state"), world.tensor("rigid_body_state")
    torch.testing.assert_close(bodies.view(2, 3, 13)[:, 2], roots[1::2])
    assert (roots[1::2, 7:] < 0.96 * torch.tensor([1.0, 2, 3, 4, 5, 6])).all()


def test_all_body_states_at_once_are_in_the_world(tmp_path):
    world = World()
    box = GYM.create_box(world.sim, 1, 1, 1, options())
    for _ in range(3):
        GYM.create_actor(world.env(spacing=4.0), box, pose(0, 0, 1), "box", 0, 0, 0)
    GYM.prepare_sim(world.sim)
    states = GYM.get_sim_rigid_body_states(world.sim, gymapi.STATE_ALL)
    places = [[p["x"], p["y"], p["z"]] for p in states["pose"]["p"]]
    assert places == [[0, 0, 1], [4, 0, 1], [0, 4, 1]]


def test_creating_environments_only_writes_down(tmp_path):
    import time

    world = World()
    asset = world.load(tmp_path, "quadruped.urdf", quadruped())
    begin = time.process_time()
    for k in range(1000):
        GYM.create_actor(world.env(), asset, pose(), "q", k, 0, 0)
    assert time.process_time() - begin < 5  # a model each would take minutes
    assert GYM.get_sim_actor_count(world.sim) == 1000


def test_support_table_is_true():
    names = {n for n in dir(GYM) if not n.startswith("_")}
    assert names == set(SUPPORT) - set(REFUSED)
    for name, why in REFUSED.items():
        with pytest.raises(NotImplementedError, match=f"gym.{name} is not supported: "):
            getattr(GYM, name)(None)
        assert SUPPORT[name] == f"refused: {why}"
    with pytest.raises(AttributeError, match=r"no call 'simulat'.*simulate"):
        _ = GYM.simulat


def one_pendulum(tmp_path):
    world = World()
    asset = world.load(tmp_path, "pendulum.urdf", PENDULUM, fix_base_link=True)
    GYM.create_actor(world.env(), asset, pose(), "p", 0, 0, 0)
    return world, asset


def test_bad_input_is_one_sentence(tmp_path):
    world, _ = one_pendulum(tmp_path)
    sim, env = world.sim, world.envs[0]

    def refuses(match, call, *args, kind=PhalanxError):
        with pytest.raises(kind, match=match) as caught:
            call(*args)
        assert "\n" not in str(caught.value)

    refuses("no file .*nothing.urdf", GYM.load_asset, sim, str(tmp_path), "nothing.urdf", None)
    refuses("was called before", GYM.refresh_dof_state_tensor, sim)
    refuses("takes one Env, not a value of type int", GYM.get_actor_count, 0, kind=TypeError)
    refuses("takes one Sim, not None", GYM.prepare_sim, None, kind=TypeError)
    refuses("actor handle 3", GYM.get_actor_name, env, 3)
    refuses("dt 0", GYM.create_sim, 0, -1, gymapi.SIM_PHYSX, params(dt=0.0))
    refuses("Flex", GYM.create_sim, 0, -1, gymapi.SIM_FLEX, params())
    refuses("no actors", GYM.prepare_sim, World().sim)
    GYM.prepare_sim(sim)
    refuses(
        "was called after gym.prepare_sim", GYM.create_env, sim, gymapi.Vec3(), gymapi.Vec3(), 1
    )
    state = torch.zeros(1, 2)
    dofs = gymtorch.unwrap_tensor(state)
    setter = GYM.set_dof_state_tensor_indexed
    refuses("takes gymtorch.unwrap_tensor", GYM.set_dof_state_tensor, sim, state, kind=TypeError)
    wide = gymtorch.unwrap_tensor(torch.zeros(2, 2))
    refuses(r"whole simulation, \(1, 2\)", GYM.set_dof_state_tensor, sim, wide)
    whole = gymtorch.unwrap_tensor(torch.zeros(1, 2, dtype=torch.int32))
    refuses("takes a tensor of float32", GYM.set_dof_state_tensor, sim, whole)
    long = gymtorch.unwrap_tensor(torch.zeros(1, dtype=torch.int64))
    refuses("indices of int32, not of torch.int64", setter, sim, dofs, long, 1)
    refuses("actor index 1; the simulation has 1", setter, sim, dofs, indices(1), 1)
    refuses("actor index -1", setter, sim, dofs, indices(-1), 1)
    refuses("count 2 for 1", setter, sim, dofs, indices(0), 2)
    refuses("no actor 'q'.*'p'", GYM.acquire_jacobian_tensor, sim, "q")
    props = GYM.get_actor_dof_properties(env, 0)
    props["damping"] = -1
    refuses("given damping", GYM.set_actor_dof_properties, env, 0, props)
    held = GYM.get_sim_params(sim)
    held.dt = 0.1
    refuses("cannot change dt", GYM.set_sim_params, sim, held)
    GYM.destroy_sim(sim)
    refuses("was called after gym.destroy_sim", GYM.simulate, sim)


def test_a_diverged_environment_starts_again_and_the_others_go_on(tmp_path):
    world = World()
    asset = world.load(tmp_path, "pendulum.urdf", PENDULUM, fix_base_link=True)
    GYM.create_asset_force_sensor(asset, 1, pose())
    for _ in range(2):
        GYM.create_actor(world.env(), asset, pose(), "p", 0, 0, 0)
    GYM.prepare_sim(world.sim)
    bodies = world.tensor("rigid_body_state").clone()
    dofs = world.tensor("dof_state")
    dofs[:, 0] = torch.tensor([0.5, torch.nan])
    GYM.set_dof_state_tensor(world.sim, gymtorch.unwrap_tensor(dofs))
    world.tensor("force_sensor")
    world.step()
    dofs = world.tensor("dof_state")
    assert dofs.isfinite().all()
    assert dofs[0, 0] == pytest.approx(0.5, abs=0.01)
    assert dofs[1].tolist() == [0, 0]
    assert torch.equal(world.tensor("rigid_body_state")[2:], bodies[2:])
    assert world.tensor("force_sensor").isfinite().all()
    assert (world.tensor("force_sensor")[0] != 0).any()


def test_without_a_display_there_is_no_viewer(tmp_path, monkeypatch):
    for name in ("DISPLAY", "WAYLAND_DISPLAY"):
        monkeypatch.delenv(name, raising=False)
    world, _ = one_pendulum(tmp_path)
    viewer = GYM.create_viewer(world.sim, gymapi.CameraProperties())
    assert viewer is None
    GYM.viewer_camera_look_at(viewer, None, gymapi.Vec3(1, 1, 1), gymapi.Vec3())
    GYM.subscribe_viewer_keyboard_event(viewer, gymapi.KEY_ESCAPE, "QUIT")
    GYM.prepare_sim(world.sim)
    GYM.step_graphics(world.sim)
    GYM.draw_viewer(viewer, world.sim, True)
    assert not GYM.query_viewer_has_closed(viewer)
    assert GYM.query_viewer_action_events(viewer) == []
    GYM.add_lines(viewer, None, 1, [0, 0, 0, 1, 1, 1], [1, 0, 0])
    GYM.clear_lines(viewer)
    GYM.destroy_viewer(viewer)


def test_the_window_shows_every_environment_at_its_origin(tmp_path, monkeypatch):
    """With a window that keeps what is drawn; a real one was looked at by hand."""
    import mujoco.viewer

    class Window:
        def __init__(self, model, data, **kwargs):
            self.user_scn = mujoco.MjvScene(model, 1000)
            self.cam = mujoco.MjvCamera()
            self.running = True

        lock = contextlib.nullcontext

        def is_running(self):
            return self.running

        def sync(self):
            pass

        def close(self):
            pass

    opened = []

    def launch(model, data, **kwargs):
        opened.append(Window(model, data, **kwargs))
        return opened[-1]

    monkeypatch.setenv("DISPLAY", ":0")
    monkeypatch.setattr(mujoco.viewer, "launch_passive", launch)
    world = World()
    world.ground()
    box = GYM.create_box(world.sim, 0.2, 0.2, 0.2)
    for n in range(3):
        env = world.env(spacing=2.0)
        GYM.create_actor(env, box, pose(x=0.5, z=1 + n), "box", n, 0, 0)
        GYM.set_rigid_body_color(env, 0, 0, gymapi.MESH_VISUAL, gymapi.Vec3(0.1 * n, 0, 1))
    viewer = GYM.create_viewer(world.sim, gymapi.CameraProperties())
    GYM.viewer_camera_look_at(viewer, world.envs[2], gymapi.Vec3(3, 0, 1), gymapi.Vec3(0, 0, 1))
    GYM.prepare_sim(world.sim)
    GYM.add_lines(viewer, world.envs[1], 1, [0, 0, 0, 0, 0, 2], [1, 0, 0])
    GYM.draw_viewer(viewer, world.sim, True)
    scene = opened[0].user_scn
    drawn = {tuple(np.round(g.pos, 3)): g for g in scene.geoms[: scene.ngeom]}
    origins = [np.array([*GYM.get_env_origin(env)]) for env in world.envs]
    for n, origin in enumerate(origins):
        geom = drawn[tuple(np.round(origin + np.array([0.5, 0, 1 + n]), 3))]
        assert geom.rgba[:3] == pytest.approx([0.1 * n, 0, 1])
    assert len(drawn) == 4
    assert any(np.allclose(at, origins[1] + np.array([0, 0, 1]), atol=1.01) for at in drawn)
    assert opened[0].cam.lookat == pytest.approx(origins[2] + np.array([0, 0, 1]))
    assert opened[0].cam.azimuth % 360 == pytest.approx(180)
    for env in world.envs:
        GYM.set_actor_scale(env, 0, 3.0)
    GYM.acquire_net_contact_force_tensor(world.sim)  # takes a new engine
    GYM.draw_viewer(viewer, world.sim, True)
    scene = opened[-1].user_scn
    assert max(g.size[0] for g in scene.geoms[: scene.ngeom] if g.type == 6) == pytest.approx(0.3)
    GYM.acquire_force_sensor_tensor(world.sim)
    world.sim.physics.groups[0]._build()
    opened[-1].running = False  # the user closes it
    count = len(opened)
    GYM.draw_viewer(viewer, world.sim, True)
    assert GYM.query_viewer_has_closed(viewer)
    assert len(opened) == count == 2
    GYM.destroy_viewer(viewer)


def test_what_a_file_says_without_effect_is_said(tmp_path, caplog):
    """Ranges without limited="true" are no limits in Isaac Gym; a link may be called world."""
    hinge = '<body><joint name="j" range="-1 1"/><geom size=".1"/></body>'
    body = f'<body name="base"><geom size=".1"/>{hinge}</body>'
    (tmp_path / "r.xml").write_text(f"<mujoco><worldbody>{body}</worldbody></mujoco>")
    (tmp_path / "r.urdf").write_text('<robot name="r"><link name="world"/></robot>')
    options = gymapi.AssetOptions()
    options.fix_base_link = options.use_mesh_materials = True
    options.convex_decomposition_from_submeshes = True
    sim = GYM.create_sim(0, -1, gymapi.SIM_PHYSX, gymapi.SimParams())
    asset = GYM.load_asset(sim, str(tmp_path), "r.xml", options)
    assert not asset.dof_props["hasLimits"][0]
    assert 'without limited="true" have no limits, as in Isaac Gym: j' in caplog.text
    assert "AssetOptions.convex_decomposition_from_submeshes, use_mesh_materials" in caplog.text
    said = len(caplog.records)
    GYM.load_asset(sim, str(tmp_path), "r.xml", options)
    assert len(caplog.records) == said, "said for every environment"
    asset = GYM.load_asset(sim, str(tmp_path), "r.urdf", options)
    assert GYM.get_asset_rigid_body_names(asset) == ["world"]
