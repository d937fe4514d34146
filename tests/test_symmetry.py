"""Mirror images of robots, and learning with them."""

import pytest
import torch
from torch import nn

from phalanx import tasks
from phalanx.errors import PhalanxError
from phalanx.rl.symmetry import Symmetry, SymmetryConfig
from phalanx.spaces import Box, Discrete
from phalanx.tasks.g1_tracking import BODIES
from phalanx.tasks.locomotion import rotation_matrix
from phalanx.tasks.mirror import joined, of_vectors, partners, unchanged

FLIP_QUAT = torch.tensor([1.0, -1.0, 1.0, -1.0])
FLIP_Y = torch.tensor([1.0, -1.0, 1.0])


def mirror_reference(task):
    """Change the clip of G1Tracking, of environment 1 as the mirror image of environment 0."""
    rows, of_actions = task.reference.rows, task.mirrors()[1]
    pos, vel, step = (0.1 * (2 * torch.rand(size) - 1) for size in (29, 29, 3))
    turn = rotation_matrix(torch.tensor([[0.995, 0.05, 0.05, 0.07]]))[0]
    flips = FLIP_Y[:, None] * FLIP_Y

    def changed(frames):
        found = rows(frames)
        for k, mirror in enumerate((lambda v: v, of_actions)):
            found.qpos[k, 7:] += mirror(pos)
            found.qvel[k, 6:] += mirror(vel)
            found.body_pos[k, 0] += step * FLIP_Y**k
            found.body_mat[k, 0] @= turn * flips**k
        return found

    task.reference.rows = changed
    task.reset()
    task.frame.fill_(20)
    task.compute_observations()


@pytest.mark.parametrize(
    ("name", "env"),
    [
        *((name, {}) for name in ("Go2Velocity", "AnymalVelocity", "G1Velocity")),
        ("Go2Velocity", {"gait_offsets": (0, 0, 0.5, 0.5)}),  # a bound
        ("Go2Velocity", {"teacher": True}),
        ("G1Velocity", {"teacher": True}),
        *((name, {}) for name in ("Go2JoystickUnilab", "Go2Recovery", "Go2Backflip", "G1Tracking")),
        ("G1Tracking", {"privileged": True, "self_collisions": True}),
    ],
)
def test_a_mirrored_robot_moves_as_the_mirror_image(name, env):
    torch.manual_seed(1)
    own = {"spread_starts": False} | env  # both go on to the end
    task = tasks.make(name, 2, device="cpu", engine="mujoco", randomize=False, **own)
    task.reset()
    if name == "G1Tracking":
        mirror_reference(task)
    of_observations, of_actions = task.mirrors()
    assert torch.allclose(of_actions(task.default_pos), task.default_pos, atol=1e-3)
    sim, robot = task.sim, task.robot
    for pos, flip in ((robot.root_pos, FLIP_Y), (robot.root_quat, FLIP_QUAT)):
        pos[1] = flip * pos[0]
    robot.root_lin_vel_w[1] = FLIP_Y * robot.root_lin_vel_w[0]
    robot.root_ang_vel_b[1] = -FLIP_Y * robot.root_ang_vel_b[0]
    robot.joint_pos[1] = of_actions(robot.joint_pos[0])
    robot.joint_vel[1] = of_actions(robot.joint_vel[0])
    sim.forward()
    if hasattr(task, "commands"):
        task.commands.give(torch.tensor([[0.5, 0.2, 0.3], [0.5, -0.2, -0.3]]))
        task.clock.phase.copy_(torch.tensor([0.1, 0.1 if "gait_offsets" in env else 0.6]))
    if name == "Go2JoystickUnilab":  # in the air: contacts in its long steps magnify any asymmetry
        robot.root_pos[:, 2] += 0.5
    for _ in range(8):
        action = 0.3 * (2 * torch.rand(task.num_actions) - 1)
        task.step(torch.stack([action, of_actions(action)]))
    assert not (task.terminated | task.truncated).any()
    # trunks and rotors are not quite symmetric
    apart = (task.obs_buf[1] - of_observations(task.obs_buf[0])).abs()
    changed = (task.obs_buf[1] - task.obs_buf[0]).abs()
    assert apart.mean() < 0.02
    assert apart.mean() < 0.1 * changed.mean()
    if env.get("privileged"):
        bodies = partners(robot, BODIES)
        places, turns = (
            of_vectors(bodies, FLIP_Y.tolist()),
            of_vectors(bodies, [1, -1, -1, 1, 1, -1]),
        )
        of_states = joined([of_observations, places, turns])
        off = (task.states_buf[1] - of_states(task.states_buf[0])).abs()
        assert off[160:].mean() < 0.1 * (task.states_buf[1] - task.states_buf[0])[160:].abs().mean()


def test_the_scan_is_mirrored_side_by_side():
    small = {"rows": 2, "columns": 2, "tile": 4.0, "border": 1.0}
    task = tasks.make(
        "Go2Velocity", 1, device="cpu", engine="mujoco", terrain="waves", terrain_settings=small
    )
    of_observations, _ = task.mirrors()
    left = task.scan_points[:, 1]
    image = of_observations(torch.cat([torch.zeros(50), left]))[50:]
    assert torch.allclose(image, -left, atol=1e-6)


def test_a_joint_or_term_without_a_mirror_image_is_named():
    walk = {"gait_offsets": (0, 0.25, 0.5, 0.75)}
    task = tasks.make("Go2Velocity", 1, device="cpu", engine="mujoco", **walk)
    with pytest.raises(PhalanxError, match="term 'gait_clock' has no mirror image"):
        task.mirrors()
    with pytest.raises(PhalanxError, match="none of FL_foot, RR_foot is at the mirrored place of"):
        partners(task.robot, ["FL_foot", "RR_foot"])
    with pytest.raises(PhalanxError, match="the task Ant does not say what its mirror image is"):
        tasks.make("Ant", 1, device="cpu", engine="mujoco").mirrors()


class Linear(nn.Module):
    """A policy without bias: its mirror loss is worked out by hand below."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.tensor([[1.0, 2.0]]))

    def run(self, inputs):
        return (inputs["obs"] @ self.weight.T,)

    def is_rnn(self):
        return False


class Env:
    device = "cpu"
    observation_space = Box((2,))
    action_space = Box((1,))

    def mirrors(self):
        return (lambda obs: obs.flip(-1)), (lambda action: -action)


def test_minibatches_hold_the_mirror_images_and_the_loss_is_that_of_asymmetric_actions():
    part = Symmetry(SymmetryConfig(True, 0.5), Env(), Linear())
    obs, mus = torch.tensor([[1.0, 0.0], [0.0, 1.0]]), torch.tensor([[3.0], [4.0]])
    batch = {"obs": obs, "actions": torch.tensor([[1.0], [2.0]]), "mus": mus}
    batch |= {"advantages": torch.tensor([5.0, 6.0])}
    part.extend(batch, slice(0, 2))
    assert batch["obs"].tolist() == [[1, 0], [0, 1], [0, 1], [1, 0]]
    assert batch["actions"].flatten().tolist() == [1, 2, -1, -2]
    assert batch["advantages"].tolist() == [5, 6, 5, 6]
    # mean actions are 1 and 2, those of the images 2 and 1; wanted are -1 and -2
    loss = part.loss(torch.tensor(1.0), batch)
    assert float(loss.detach()) == pytest.approx(1.0 + 0.5 * (3**2 + 3**2) / 2)
    batch["mus"] += 1
    part.after_minibatch(0, batch, {})
    assert mus.flatten().tolist() == [4, 5]
    with pytest.raises(PhalanxError, match="the environment has no `mirrors`"):
        Symmetry(SymmetryConfig(), object(), Linear())
    discrete = Env()
    discrete.action_space = Discrete(3)
    with pytest.raises(PhalanxError, match=r"only continuous .* Discrete.*symmetry_config=null"):
        Symmetry(SymmetryConfig(), discrete, Linear())


def test_a_mirror_image_of_another_size_is_refused_before_training():
    four = Env()
    four.mirrors = lambda: (unchanged(4, torch.device("cpu")), unchanged(1, torch.device("cpu")))
    with pytest.raises(
        PhalanxError, match=r"a mirror image of observations for another number tha"
    ):
        Symmetry(SymmetryConfig(), four, Linear())
