"""HumanoidAMP: robot, observation by hand, starts from clips, what the discriminator is given."""

import importlib.util
import math
from pathlib import Path

import mujoco
import numpy as np
import pytest
import torch

from phalanx import tasks
from phalanx.errors import PhalanxError
from phalanx.sim.assets import load_robot
from phalanx.tasks.humanoid_amp import HumanoidAMPConfig
from robots import ISAAC_MJCF, assert_solved_exactly, engines_apart, needs_isaac_gyms_files

pytestmark = pytest.mark.usefixtures("one_thread")


def make(num_envs=4, **env):
    torch.manual_seed(0)
    task = tasks.make("HumanoidAMP", num_envs=num_envs, device="cpu", **env)
    task.reset()
    return task


def stand(task, height=0.89):
    """Every humanoid upright with hanging arms, without any motion."""
    task.sim.qpos.zero_()
    task.sim.qvel.zero_()
    task.sim.qpos[:, 2] = height
    task.sim.qpos[:, 3] = 1.0
    task.sim.forward()


def column(task, joint):
    return task.humanoid.joint_names.index(joint)


def turned(task, angle, offset):
    """The same state, turned about the vertical [rad] and moved over the ground [m]."""
    c, s = math.cos(angle), math.sin(angle)
    turn = torch.tensor([[c, -s, 0], [s, c, 0], [0, 0, 1]])
    half = torch.tensor([math.cos(angle / 2), 0, 0, math.sin(angle / 2)])
    qpos, qvel = task.sim.qpos, task.sim.qvel
    qpos[:, :3] = qpos[:, :3] @ turn.T + torch.tensor([*offset, 0.0])
    w, x, y, z = qpos[:, 3:7].unbind(1)
    a, b = half[0], half[3]
    qpos[:, 3:7] = torch.stack([a * w - b * z, a * x - b * y, a * y + b * x, a * z + b * w], 1)
    qvel[:, :3] = qvel[:, :3] @ turn.T  # the angular velocity is the body's own
    task.sim.forward()


@needs_isaac_gyms_files
def test_robot_is_isaac_gyms_with_its_gains_as_servos():
    ours = load_robot(HumanoidAMPConfig.asset).compile()
    theirs = load_robot(str(ISAAC_MJCF / "amp_humanoid.xml")).compile()
    for field in ("body_mass", "body_inertia", "body_ipos", "body_pos", "body_iquat"):
        mine, reference = (getattr(m, field)[2:] for m in (ours, theirs))
        np.testing.assert_allclose(mine, reference, atol=1e-12, err_msg=field)
    np.testing.assert_allclose(ours.body_mass[1], theirs.body_mass[1])
    for field in ("jnt_range", "jnt_axis", "jnt_pos", "dof_armature", "jnt_solimp"):
        mine, reference = (getattr(m, field) for m in (ours, theirs))
        np.testing.assert_allclose(mine, reference, atol=1e-12, err_msg=field)
    for kind in ("body", "jnt"):
        count = {"body": ours.nbody, "jnt": ours.njnt}[kind]
        names = [[getattr(m, kind)(i).name for i in range(count)] for m in (ours, theirs)]
        assert names[0] == names[1]
    assert ours.actuator_trnid[:, 0].tolist() == list(range(1, 29))
    np.testing.assert_allclose(ours.actuator_gainprm[:, 0], np.ravel(theirs.jnt_stiffness)[1:])
    np.testing.assert_allclose(-ours.actuator_biasprm[:, 2], np.ravel(theirs.dof_damping)[6:])
    assert not ours.dof_damping.any()


def test_observation_worked_out_by_hand():
    task = make(num_envs=1)
    stand(task)
    r2 = math.sqrt(0.5)
    task.sim.qpos[0, :7] = torch.tensor([3.0, -2.0, 1.5, r2, 0, 0, r2])  # turned left by 90 degrees
    task.sim.qvel[0, :6] = torch.tensor([0.0, 2.0, 1.0, 0.1, 0.2, 0.3])
    task.humanoid.joint_pos[0, column(task, "left_elbow")] = -math.pi / 2
    task.humanoid.joint_pos[0, column(task, "right_hip_y")] = -math.pi / 2  # thigh to the front
    task.humanoid.joint_pos[0, column(task, "right_knee")] = math.pi / 2
    task.humanoid.joint_vel[0, column(task, "left_ankle_z")] = 7.0
    task.sim.forward()
    obs = task.compute_observations()[0]
    upright = [1.0, 0, 0, 0, 0, 1]
    shoulder_height = 0.236151 + 0.24350
    hand = [-0.02405, 0.18311, shoulder_height - 0.274788]
    expected = [
        1.5,
        *upright,
        *[2.0, 0.0, 1.0],  # the world's y is forward
        *[0.1, 0.2, 0.3],
        *upright * 2,  # abdomen, neck
        *upright,
        0.0,
        *upright,
        -math.pi / 2,
        *[0.0, 0, 1, -1, 0, 0],  # the hip turned x up and z to the back
        math.pi / 2,
        *upright,
        *upright,
        0.0,
        *upright,
        *[0.0] * 27,
        7.0,
        *[-0.02405, -0.18311, shoulder_height - 0.274788 - 0.258947],
        *[hand[0] + 0.258947, hand[1], hand[2]],
        *[0.421546, -0.084887, -0.409870],  # thigh level, shin down
        *[0.0, 0.084887, -0.421546 - 0.409870],
    ]
    torch.testing.assert_close(obs, torch.tensor(expected), rtol=0, atol=1e-5)


def test_features_of_three_hinges_are_the_rotation_that_mujoco_makes_of_them():
    task = make(num_envs=8)
    stand(task)
    task.humanoid.joint_pos.uniform_(-1.5, 1.5)
    task.sim.forward()
    features = task.compute_observations()[:, 13:65]
    bodies = {
        "torso": ("pelvis", 0),
        "left_upper_arm": ("torso", 19),
        "left_foot": ("left_shin", 46),
    }
    for child, (parent, at) in bodies.items():
        ids = [task.humanoid.body_ids[task.humanoid.body_names.index(b)] for b in (parent, child)]
        a, b = (task.sim.xmat.view(8, -1, 3, 3)[:, i] for i in ids)
        relative = a.mT @ b
        axes = torch.cat([relative[:, :, 0], relative[:, :, 2]], 1)
        torch.testing.assert_close(features[:, at : at + 6], axes, rtol=0, atol=1e-5)


def test_observation_does_not_depend_on_heading_and_place():
    task = make(num_envs=16)
    for _ in range(3):
        task.step(0.3 * torch.randn(16, 28))
    tilted = torch.nn.functional.normalize(torch.randn(16, 4))
    task.sim.qpos[:, 3:7] = tilted
    task.sim.forward()
    before = task.compute_observations()
    turned(task, 2.0, (5.0, -3.0))
    torch.testing.assert_close(task.compute_observations(), before, rtol=0, atol=2e-5)
    fixed = make(num_envs=16, local_root_obs=False)
    fixed.sim.qpos[:, 3:7] = tilted
    fixed.sim.forward()
    before = fixed.compute_observations()
    turned(fixed, 2.0, (5.0, -3.0))
    differs = (fixed.compute_observations() - before).abs().amax(0) > 1e-3
    assert differs.nonzero()[:, 0].tolist() == [1, 2, 4, 5]  # the axes' horizontal parts


def test_start_in_the_default_pose():
    task = make(state_init="Default")
    assert (task.motion_times == -1).all()
    torch.testing.assert_close(task.sim.qpos, task.default_qpos.expand(4, -1))
    assert not task.sim.qvel.any()
    hands = task.humanoid.body_pos[0, task.key_ids[:2], 1]
    assert hands.tolist() == pytest.approx([-0.72, 0.72], abs=0.01)  # out to the sides
    for k in range(2):
        torch.testing.assert_close(task.amp_frames[:, k], task.obs_buf, rtol=0, atol=1e-5)
    demo = task.fetch_amp_obs_demo(8)
    assert demo.shape == (8, 210)


def test_with_a_history_of_observations_the_discriminator_sees_the_latest_ones():
    task = make(state_init="Default", history=3)
    task.step(torch.zeros(4, task.num_actions))
    assert task.obs_buf.shape == (4, 315)
    assert torch.equal(task.amp_frames[:, 0], task.terminal_obs_buf[:, 210:])


@pytest.mark.parametrize("state_init", ["Start", "Random"])
def test_start_in_a_clip(state_init):
    task = make(num_envs=32, state_init=state_init, num_amp_obs_steps=3)
    if state_init == "Start":
        assert not task.motion_times.any()
    else:
        assert len(task.motion_times.unique()) > 30
        assert (task.motion_times >= 2 / 30 - 1e-6).all()  # with a whole history
        assert (task.motion_times <= task.clips.lengths[task.motion_ids] + 1e-5).all()
    moment = task.clips.state(task.motion_ids, task.motion_times)
    raised = moment.root_pos[:, 2] + (-moment.lowest).clamp(min=0)
    torch.testing.assert_close(task.humanoid.root_pos[:, 2], raised)
    torch.testing.assert_close(task.humanoid.root_pos[:, :2], moment.root_pos[:, :2])
    torch.testing.assert_close(task.humanoid.joint_pos, moment.joint_pos)
    torch.testing.assert_close(task.humanoid.joint_vel, moment.joint_vel)
    turning = task.humanoid.body_ang_vel_w[:, 0]
    torch.testing.assert_close(turning, moment.root_ang_vel, rtol=0, atol=1e-4)
    # What the clip shows is what is observed there; key bodies lie between the clip's frames.
    torch.testing.assert_close(task.amp_frames[:, 0], task.obs_buf, rtol=0, atol=5e-3)
    earlier = task.clips.state(task.motion_ids, task.motion_times - 2 / 30)
    torch.testing.assert_close(task.amp_frames[:, 2, 65:93], earlier.joint_vel)


def test_start_in_both_ways():
    task = make(num_envs=1000, state_init="Hybrid", hybrid_init_prob=0.3)
    in_clip = task.motion_times >= 0
    assert 0.25 < in_clip.float().mean() < 0.35
    torch.testing.assert_close(
        task.sim.qpos[~in_clip], task.default_qpos.expand(int((~in_clip).sum()), -1)
    )
    assert task.sim.qvel[in_clip].abs().sum(1).min() > 0.1


def test_amp_obs_has_the_last_observations_before_any_reset():
    task = make(num_envs=64, episode_length=5)
    task.progress_buf.copy_(torch.arange(64) % 5)
    seen = task.obs_buf.clone()
    for _ in range(4):
        *_, truncated, infos = task.step(0.1 * torch.randn(64, 28))
        amp_obs = infos["amp_obs"]
        torch.testing.assert_close(amp_obs[:, :105], infos["terminal"]["obs"])
        torch.testing.assert_close(amp_obs[:, 105:], seen, rtol=0, atol=5e-3)
        assert truncated.any()
        seen = task.obs_buf.clone()  # of the new episode where one has ended


def test_demonstrations_look_like_the_clip():
    task = make(num_envs=64, state_init="Random")
    demo = task.fetch_amp_obs_demo(2000)
    assert demo.shape == (2000, 210)
    assert torch.isfinite(demo).all()
    # One frame later: the height moves on with the vertical velocity.
    rise = demo[:, 0] - demo[:, 105]
    mean_velocity = (demo[:, 9] + demo[:, 105 + 9]) / 2
    assert (rise - mean_velocity / 30).abs().max() < 0.01
    torch.testing.assert_close(demo.mean(0)[:105], task.obs_buf.mean(0), rtol=0, atol=0.8)


def test_falls_are_ground_contacts_of_other_bodies():
    def fallen(**env):
        task = make(num_envs=4, **env)
        stand(task)
        knee, hip = column(task, "right_knee"), column(task, "right_hip_y")
        task.sim.qpos[1, 2] = 0.85  # feet in the ground, nothing else
        task.sim.qpos[2, 2] = 0.44  # on the right knee
        task.humanoid.joint_pos[2, knee] = 2.2
        for joint in ("left_knee", "left_hip_y"):
            task.humanoid.joint_pos[2, column(task, joint)] = 1.5 if "knee" in joint else -1.5
        task.humanoid.joint_pos[3, hip] = -1.0
        task.sim.qpos[3, 2:7] = torch.tensor([0.09, 0.5, 0.5, -0.5, 0.5])  # lying
        task.sim.forward()
        task.compute_observations()
        reward, terminated = task.compute_reward()
        assert (reward == 1).all()
        return terminated.tolist()

    assert fallen() == [False, False, True, True]
    knee = ("right_foot", "left_foot", "right_shin")
    assert fallen(contact_bodies=knee) == [False, False, False, True]
    assert fallen(enable_early_termination=False) == [False] * 4
    with pytest.raises(PhalanxError, match=r"no body 'right_fot'.*right_foot"):
        make(contact_bodies=("right_fot",))


def test_lowest_points_are_those_of_mujocos_distances_to_the_ground():
    task = make(num_envs=32)
    task.sim.qpos[:, 3:7] = torch.nn.functional.normalize(torch.randn(32, 4))
    task.sim.qpos[:, 2] = torch.rand(32) + 0.2
    task.humanoid.joint_pos.uniform_(-1, 1)
    task.sim.forward()
    touches = task.shapes.touch_ground()
    model, data = task.sim.model, mujoco.MjData(task.sim.model)
    ground = model.geom("ground").id
    for env in range(32):
        data.qpos[:] = task.sim.qpos[env].numpy()
        mujoco.mj_kinematics(model, data)
        nearest = min(
            mujoco.mj_geomDistance(model, data, ground, int(g), 9.0, None) for g in task.shapes.ids
        )
        assert bool(touches[env]) == (nearest < 0), env
    assert touches.any()
    assert not touches.all()


def test_actions_are_targets_of_servos():
    task = make(num_envs=1)
    actions = torch.zeros(1, 28)
    actions[0, column(task, "left_hip_x")] = 0.5
    actions[0, column(task, "left_knee")] = 1.0
    task.step(actions)
    target = dict(zip(task.humanoid.joint_names, task.sim.ctrl[0].tolist(), strict=True))
    assert target["left_hip_x"] == pytest.approx(math.pi / 2)
    assert target["left_knee"] == pytest.approx(math.radians(80 + 0.7 * 160))
    assert target["right_elbow"] == pytest.approx(math.radians(-80))
    assert target["neck_z"] == 0


def test_it_holds_a_pose_upright():
    task = make(num_envs=1)
    stand(task)
    actions = -task.action_middle / task.action_scale  # targets of zero
    for _ in range(15):
        task.step(actions[None])
    assert task.humanoid.joint_pos.abs().max() < 0.15
    assert task.sim.qpos[0, 2] == pytest.approx(0.88, abs=0.01)


def test_a_diverged_environment_gives_finite_rows():
    task = make(num_envs=4)
    task.sim.qvel[2, 10] = torch.nan
    *_, terminated, _, infos = task.step(torch.zeros(4, 28))
    assert terminated[2]
    assert torch.isfinite(infos["amp_obs"]).all()
    *_, infos = task.step(torch.zeros(4, 28))
    assert torch.isfinite(infos["amp_obs"]).all()


def test_both_engines_give_the_same_observations():
    obs, _ = engines_apart("HumanoidAMP", steps=5)
    assert obs.amax(2).quantile(0.9) < 1e-2
    assert obs.max() < 1.0


def test_solver_iterations_suffice_for_the_exact_solution():
    assert_solved_exactly("HumanoidAMP", steps=20)


def test_judge_knows_the_clip_from_a_figure_that_stands():
    file = Path(__file__).parents[1] / "benchmarks" / "amp.py"
    spec = importlib.util.spec_from_file_location("amp_benchmark", file)
    benchmark = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(benchmark)
    task = make(num_envs=8)
    clip, mean_pose, speed = benchmark.clip_windows(task)
    size = clip.shape[1]
    assert size == 15  # half a second
    assert 0.8 < speed < 2.0  # people walk at 1.3 m/s
    # The clip itself, as states of the robot, from moments between those that are tried.
    times = torch.rand(8, 1) + torch.arange(size) / 30
    ids = torch.zeros(8 * size, dtype=torch.long)
    _, qpos, _ = task._observe_clips(ids, times.flatten())
    played = []
    for step in qpos.view(8, size, -1).unbind(1):
        task.sim.qpos.copy_(step)
        turned(task, 1.0, (2.0, 3.0))
        robot = task.humanoid
        local = benchmark.in_heading_frame(robot.body_pos[:, 1:], robot.root_pos, robot.root_quat)
        played.append(local)
    played = torch.stack(played, 1)
    assert benchmark.window_errors(played, clip).mean(1).max() < 0.01
    still = benchmark.window_errors(mean_pose.expand(1, size, -1, -1), clip)
    backwards = benchmark.window_errors(played.flip(1), clip)
    feet = slice(-1, None)  # the last body is the left foot
    for errors in (still, backwards):
        assert errors.mean() > 0.03
        assert errors[:, feet].mean() > 0.08
