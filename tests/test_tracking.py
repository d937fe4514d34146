"""Following a motion: the reference's tables, its terms, where episodes begin."""

import pytest
import torch

from phalanx import tasks
from phalanx.tasks import tracking_rewards as track
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
