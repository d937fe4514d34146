"""The check of a task's first step lets pass what only looks like the mistakes that it finds."""

import pytest
import torch

from phalanx.tasks.cartpole import Cartpole, CartpoleConfig

N = 8


class Unusual(Cartpole):
    """Scales actions in `step`, gives hooks arguments, computes fields again, moves one pole."""

    def init_buffers(self):
        super().init_buffers()
        self.efforts, self.steps = [], 0

    def step(self, actions):
        self.steps += 1
        return super().step(actions * 0.5)

    def pre_physics_step(self, actions):
        self.efforts.append(actions.clone())
        super().pre_physics_step(actions)

    def compute_observations(self, scale=1.0):
        self.sim.forward(torch.ones(N, dtype=torch.bool))
        return super().compute_observations() * scale

    def compute_states(self):
        return self.compute_observations(scale=2.0)

    def compute_reward(self):
        self.sim.qpos[0, 0] = 0.5  # as one that moves a goal where it was reached
        return super().compute_reward()


@pytest.mark.parametrize("engine", ["fused", "mujoco"])
def test_unusual_tasks_step_as_they_say(engine):
    task = Unusual(CartpoleConfig(num_envs=N), "cpu", engine)
    task.reset()
    for _ in range(3):
        task.step(torch.ones(N, 1))
    assert task.steps == 3
    assert [x.unique().tolist() for x in task.efforts] == [[0.5]] * 3


def test_what_a_user_gives_a_task_after_the_first_step_stays():
    task = Cartpole(CartpoleConfig(num_envs=N), "cpu", "fused")
    task.reset()
    task.step(torch.zeros(N, 1))
    calls, own = [], type(task).reset_envs

    def reset_envs(mask):
        calls.append(mask.clone())
        own(task, mask)

    task.reset_envs = reset_envs
    for k in range(3):
        task.progress_buf[k] = task.config.episode_length
        task.step(torch.zeros(N, 1))
    assert len(calls) == 3
