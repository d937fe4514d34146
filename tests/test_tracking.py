"""Following a motion: the reference's tables, its terms, where episodes begin."""

import pytest
import torch

from phalanx import tasks
from phalanx.cli.config import compose_config, train_params
from phalanx.rl import Runner
from phalanx.tasks import tracking_rewards as track
from phalanx.tasks.g1_tracking import BODIES
from phalanx.tasks.locomotion import rotation_matrix
from phalanx.tasks.start_frames import StartFrames

N = 4


@pytest.fixture(scope="module")
def task():
    settings = {"randomize": False, "spread_starts": False}
    made = tasks.make("G1Tracking", N, device="cpu", engine="mujoco", **settings)
    made.reset()
    return made


def place(task, frames):
    task.frame.copy_(torch.as_tensor(frames))
    rows = task.reference.rows(task.frame)
    task.sim.qpos.copy_(rows.qpos)
    task.sim.qvel.copy_(rows.qvel)
    task.sim.forward()
    return rows


def test_the_tables_are_the_states_that_mujoco_reaches(task):
    frames = [0, 40, 90, 160]
    rows = place(task, frames)
    for name, seen in (
        ("body_pos", task.sim.xpos[:, task.ids]),
        ("body_lin_vel", task.robot.body_lin_vel_w[:, task.places]),
        ("body_ang_vel", task.robot.body_ang_vel_w[:, task.places]),
    ):
        assert torch.allclose(getattr(rows, name), seen, atol=1e-4), name
    # a step on is where these velocities lead
    after = task.reference.rows(task.frame + 1)
    moved = rows.body_pos + 0.02 * rows.body_lin_vel
    assert torch.allclose(moved, after.body_pos, atol=2e-3)


def test_a_robot_on_the_reference_earns_everything_and_its_errors_are_zero(task):
    place(task, [0, 40, 90, 160])
    task.change.zero_()
    obs = task.compute_observations()
    assert obs[:, 58:61].abs().max() < 1e-5
    assert torch.allclose(obs[:, 61:67], torch.tensor([1.0, 0, 0, 1, 0, 0]), atol=1e-4)
    reward, failed = task.compute_reward()
    assert not failed.any()
    assert torch.allclose(reward, torch.tensor(0.02 * 5), atol=2e-3)
    task.sim.qpos[1, 2] -= 0.3
    task.sim.qpos[2, 3:7] = torch.tensor([0.5**0.5, 0, 0.5**0.5, 0])
    task.sim.forward()
    task.compute_observations()
    assert task.compute_reward()[1].tolist() == [False, True, True, False]


def test_the_reference_is_moved_and_turned_to_the_robot_but_not_lifted():
    quat = torch.nn.functional.normalize(torch.randn(1, 3, 4), dim=-1)
    mat, pos = rotation_matrix(quat[0])[None], torch.randn(1, 3, 3)
    yaw = rotation_matrix(torch.tensor([[0.8, 0, 0, 0.6]]))
    here = pos[:, 0] @ yaw[0].T + torch.tensor([1.0, 2.0, 5.0])
    to_pos, to_mat = track.moved_to(pos, mat, 0, here, yaw @ mat[:, 0])
    assert torch.allclose(to_mat, yaw[:, None] @ mat, atol=1e-5)
    expected = pos @ yaw[0].T + torch.tensor([1.0, 2.0, 0.0])
    assert torch.allclose(to_pos, expected, atol=1e-5)
    assert float(track.angle(yaw[:, None], torch.eye(3)[None, None])) == pytest.approx(
        (2 * torch.atan2(torch.tensor(0.6), torch.tensor(0.8)).item()) ** 2, rel=1e-4
    )


def test_at_the_end_of_the_clip_time_is_over(task):
    task.reset()
    last = int(task.reference.last[0])
    place(task, [last - 1] * N)
    _, _, terminated, truncated, _ = task.step(torch.zeros(N, 29))
    assert truncated.all()
    assert not terminated.any()


def test_episodes_begin_more_often_before_a_fault(task):
    starts = StartFrames.__new__(StartFrames)
    starts.frames, starts.width, starts.from_the_first = 250, 50, False
    starts.failures = torch.tensor([0.0, 0.0, 0.0, 1.0, 0.0])
    # 0.8 and 1 by the fault, a tenth of their sum spread over five bins
    weights = torch.tensor([0.036, 0.036, 0.836, 1.036, 0.036])
    assert torch.allclose(starts.shares(), weights / weights.sum(), atol=1e-5)
    drawn = torch.bincount(starts.draw(4000) // 50, minlength=5) / 4000
    assert torch.allclose(drawn, weights / weights.sum(), atol=0.04)
    starts.from_the_first = True
    assert (starts.draw(8) == 0).all()


def test_the_critic_sees_without_noise_and_where_the_bodies_are():
    task = tasks.make("G1Tracking", N, device="cpu", engine="mujoco", privileged=True)
    torch.manual_seed(1)
    task.reset()
    obs, *_ = task.step(0.5 * torch.rand(N, 29))
    own, places, turns = obs["states"].split([160, 42, 84], 1)
    noise = (own - obs["obs"]).abs()
    assert noise[:, 58:67].max() > 0.01
    assert noise[:, 58:61].max() <= 0.25
    assert noise[:, :58].max() == 0  # the reference is known
    robot = task.robot
    mat = task.sim.xmat.view(N, -1, 3, 3)[:, robot.body_ids]
    trunk = robot.body_names.index("torso_link")
    for k, body in enumerate(BODIES):
        at = robot.body_names.index(body)
        off = robot.body_pos[:, at] - robot.body_pos[:, trunk]
        seen = torch.einsum("nij,ni->nj", mat[:, trunk], off)
        assert torch.allclose(places[:, 3 * k : 3 * k + 3], seen, atol=1e-5), body
        turn = torch.einsum("nij,nik->njk", mat[:, trunk], mat[:, at])[..., :2].flatten(1)
        assert torch.allclose(turns[:, 6 * k : 6 * k + 6], turn, atol=1e-5), body


def test_hands_in_the_trunk_are_pushed_out_and_cost_something():
    made = []
    for touches in (False, True):
        settings = {"randomize": False, "self_collisions": touches, "spread_starts": False}
        rewards = {"undesired_contacts": -0.1}
        task = tasks.make(
            "G1Tracking", N, device="cpu", engine="mujoco", rewards=rewards, **settings
        )
        task.reset()
        task.robot.root_pos[:, 2] += 1  # in the air
        task.robot.joint_pos[:] = task.default_pos
        for side, sign in (("left", -1.2), ("right", 1.2)):
            at = task.robot.joint_names.index(f"{side}_shoulder_yaw_joint")
            task.robot.joint_pos[1, at] = sign  # both hands in the pelvis
        task.sim.forward()
        task.sim.advance()
        task.compute_observations()
        task.compute_reward()
        made.append(task)
    alone, own = made
    assert alone.robot.contact_force.abs().max() == 0
    assert "left_wrist_yaw_link" not in own.robot.contact_body_names
    assert "left_ankle_roll_link" not in own.robot.contact_body_names
    pressed = own.robot.contact_force.norm(dim=-1)
    assert pressed[0].max() == 0
    assert pressed[1, own.robot.contact_body_names.index("pelvis")] > 1
    assert own.scalars()["reward/undesired_contacts"] == pytest.approx(-0.1 / N)


def test_it_learns_with_a_critic_that_sees_more(tmp_path):
    settings = ("task.env.privileged=true", "task.env.self_collisions=true", "num_envs=16")
    settings += ("task.env.rewards.undesired_contacts=-0.1", "max_iterations=2")
    arguments = ["task=G1Tracking", "train=G1TrackingPrivilegedPPO", f"train_dir={tmp_path}"]
    runner = Runner()
    options = compose_config([*arguments, *settings, "sim_device=cpu", "rl_device=cpu"])
    runner.load({"params": train_params(options)})
    runner.run({"train": True})
    saved = torch.load(next(tmp_path.rglob("last_*.pth")), weights_only=False)
    assert saved["epoch"] == 2
    inputs = [w.shape[-1] for w in saved["assymetric_vf_nets"].values() if w.dim() == 2]
    assert inputs[0] == 286
