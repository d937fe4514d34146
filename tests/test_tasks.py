"""One suite over all tasks: a new task in `tasks.TASKS` joins by itself."""

import itertools
import json
import subprocess
import sys

import pytest
import torch

from phalanx import tasks
from phalanx.compute.rows import by_masks
from phalanx.errors import PhalanxError
from recorded_graph import NoNumbersOfPython

N = 8
STEPS = 60
# Observations that stay constant in a short rollout, by task: column and reason.
SQUATS = (0, 3, 4, 6, 9, 10, 15, 18, 22, 25)  # hips, knees, ankles, shoulders, elbows
CONSTANT: dict[str, dict[int, str]] = {
    "G1Tracking": {
        k: "the default clip does not move this joint" for k in range(58) if k % 29 not in SQUATS
    }
}
COMMANDS = """
import json, sys
from phalanx.cli.main import main
for command in json.loads(sys.argv[1]):
    main(command)
"""


def rollout(name, seed=0, steps=STEPS):
    """The task, its first observations, (N, num_obs), and those of a rollout, (steps, N, ...)."""
    torch.manual_seed(seed)
    task = tasks.make(name, N, device="cpu")
    first = task.reset()["obs"].clone()
    seen, rewards = [], []
    for _ in range(steps):
        obs, reward, *_ = task.step(2 * torch.rand(N, task.num_actions) - 1)
        seen.append(obs["obs"].clone())
        rewards.append(reward.clone())
    return task, first, torch.stack(seen), torch.stack(rewards)


@pytest.fixture(scope="module", params=sorted(tasks.TASKS))
def played(request):
    return request.param, *rollout(request.param)


def test_observations_and_rewards_are_finite_and_have_their_declared_shapes(played):
    _, task, first, obs, rewards = played
    assert first.shape == (N, task.num_obs) == (N, *task.observation_space.shape)
    assert task.terminated.shape == task.truncated.shape == task.rew_buf.shape == (N,)
    assert obs.isfinite().all()
    assert rewards.isfinite().all()
    assert obs.abs().max() <= task.config.clip_observations
    assert sum(term.size for term in task.observation_layout()) == task.num_obs


def test_no_observation_is_constant(played):
    name, _, first, obs, _ = played
    spread = torch.cat([first[None], obs]).flatten(0, 1).std(0)
    constant = set((spread == 0).nonzero()[:, 0].tolist())
    assert constant == set(CONSTANT.get(name, {}))


def test_environments_start_in_different_states(played):
    _, _, first, _, _ = played
    for a in range(N):
        for b in range(a):
            assert not torch.equal(first[a], first[b])


def test_no_two_buffers_share_memory(played):
    _, task, *_ = played
    spans = sorted(
        (t.data_ptr(), t.data_ptr() + t.numel() * t.element_size(), name)
        for name, t in vars(task).items()
        if isinstance(t, torch.Tensor) and t.numel() and t.is_contiguous()
    )
    for (_, end, a), (start, _, b) in itertools.pairwise(spans):
        assert end <= start, f"{a} and {b} share memory"


def test_the_same_seed_gives_the_same_rollout(played):
    name, _, first, obs, rewards = played
    _, first_again, obs_again, rewards_again = rollout(name)
    assert torch.equal(first, first_again)
    assert torch.equal(obs, obs_again)
    assert torch.equal(rewards, rewards_again)


def test_a_restored_task_continues_bit_for_bit(played):
    name = played[0]
    saved, *_ = rollout(name, steps=20)
    again = tasks.make(name, N, device="cpu")
    random = torch.get_rng_state()
    again.load_state_dict(saved.state_dict())
    torch.set_rng_state(random)
    for task in (saved, again):
        generator = torch.get_rng_state()
        for k in range(5):
            torch.manual_seed(k)
            task.step(2 * torch.rand(N, task.num_actions) - 1)
        torch.set_rng_state(generator)
    assert torch.equal(saved.obs_buf, again.obs_buf)
    assert torch.equal(saved.rew_buf, again.rew_buf)


class Hoarder(tasks.find("Cartpole")):
    """Declares one tensor, forgets another, has a constant and a view."""

    def init_buffers(self):
        super().init_buffers()
        self.state("kept", torch.zeros(self.num_envs))
        self.forgotten = torch.zeros(self.num_envs)
        self.constant = torch.full((self.num_envs,), float(self.config.episode_length))
        self.view = self.sim.qvel[:, :1]

    def compute_reward(self):
        self.kept += 1
        self.forgotten += 1
        self.view.mul_(1)
        return super().compute_reward()


def test_state_is_what_a_task_declares_and_what_it_forgets_is_said():
    old, new = (Hoarder(Hoarder.Config(2, episode_length=n), "cpu") for n in (50, 60))
    for task in (old, new):
        task.reset()
        assert task.report() == ""
    for _ in range(3):
        old.step(torch.zeros(2, 1))
    assert old.report().startswith("Hoarder.forgotten changes while the task runs, but checkpoints")
    assert old.report().count("self.state(") == 1
    new.load_state_dict(old.state_dict())
    assert new.kept.tolist() == [3, 3]
    assert new.constant.tolist() == [60, 60]
    with pytest.raises(PhalanxError, match="Hoarder declares its state 'kept' twice"):
        new.init_buffers()
    new.kept = torch.zeros(2)
    with pytest.raises(PhalanxError, match=r"Hoarder.kept is state .* self.kept.copy_"):
        new.state_dict()


def test_no_task_of_ours_forgets_to_declare_its_state(played):
    _, task, *_ = played
    assert task.report() == ""


def train_command(name, experiment, iterations, *more):
    arguments = [
        *("train", f"task={name}", "num_envs=16", "sim_device=cpu"),
        *(f"max_iterations={iterations}", f"experiment={name}_{experiment}"),
        *("train.params.config.horizon_length=8", "train.params.config.mini_epochs=2"),
        "train.params.config.minibatch_size=64",
    ]
    if name.endswith(("Mjlab", "Unilab")):  # their central values divide this batch, too
        arguments += ["train.params.config.central_value_config.minibatch_size_per_env=4"]
    if name == "HumanoidAMP":  # the discriminator's buffers, and small ones
        arguments += ["train.params.config.save_replay_buffer=true"]
        arguments += ["train.params.config.amp_obs_demo_buffer_size=1024"]
        arguments += ["train.params.config.amp_replay_buffer_size=1024"]
        arguments += ["train.params.config.amp_batch_size=128"]
    return [*arguments, *more]


@pytest.fixture(scope="module")
def trained(request, tmp_path_factory):
    """The folder of the runs of all tasks that are tested. One process trains what is trained at
    once and first halves, one second halves."""
    folder = tmp_path_factory.mktemp("halves")
    names = [item.callspec.params["name"] for item in request.session.items
             if getattr(item, "originalname", "") == TWELVE]  # fmt: skip
    first = [train_command(n, *run) for n in names for run in (("at_once", 12), ("in_two", 6))]
    second = [train_command(n, "in_two", 12, f"checkpoint=runs/{n}_in_two") for n in names]
    for commands in (first, second):
        command = [sys.executable, "-c", COMMANDS, json.dumps(commands)]
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
        assert done.returncode == 0, f"{done.stdout[-500:]}\n{done.stderr[-2000:]}"
    return folder


TWELVE = "test_twelve_iterations_are_six_and_six_in_two_processes"


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(tasks.TASKS))
def test_twelve_iterations_are_six_and_six_in_two_processes(trained, name):
    whole, parts = (
        torch.load(trained / f"runs/{name}_{run}/nn/last_{name}.pth", weights_only=True)
        for run in ("at_once", "in_two")
    )
    for key in ("model", "optimizer"):
        assert_same(whole[key], parts[key], key)
    assert parts["epoch"] == 12


def assert_same(a, b, at):
    if isinstance(a, torch.Tensor):
        assert torch.equal(a, b), at
    elif isinstance(a, dict):
        assert a.keys() == b.keys(), at
        for key in a:
            assert_same(a[key], b[key], f"{at}.{key}")
    elif isinstance(a, list | tuple):
        for k, (x, y) in enumerate(zip(a, b, strict=True)):
            assert_same(x, y, f"{at}[{k}]")
    else:
        assert a == b, at


# what a task may get wrong ------------------------------------------------------------------------


def without_super(self):
    self.seen = True


def own_init(self, config=None, device="auto", engine="auto"):
    self.seen = True


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"compute_observations": lambda self: None}, "returns nothing; it must be a torch tensor"),
        ({"compute_observations": lambda self: self.obs_buf.numpy()}, "returns a ndarray"),
        ({"compute_observations": lambda self: self.obs_buf.long()}, r"real numbers: \.float"),
        ({"compute_observations": lambda self: self.obs_buf.to("meta")}, "on meta; make it on cpu"),
        ({"num_states": 2, "compute_states": lambda self: self.obs_buf}, "with num_states = 2 it"),
        (
            {"compute_reward": lambda self: (self.rew_buf.to("meta"), self.terminated)},
            "compute_reward returns a tensor on meta",
        ),
        ({"post_physics_step": without_super}, r"must call super\(\)\.post_physics_step\(\)"),
        ({"__init__": own_init}, r"pass them to super\(\)\.__init__"),
        ({"__init__": lambda self: None}, "must take config, device and engine"),
    ],
)
def test_what_a_task_gets_wrong_is_one_sentence(changes, words, monkeypatch):
    task = type("Mine", (tasks.find("Cartpole"),), changes)
    monkeypatch.setattr(tasks, "find", lambda name: task)

    def use():
        made = tasks.make("Cartpole", num_envs=4, device="cpu")
        made.reset()
        made.step(torch.zeros(4, 1))

    with pytest.raises(PhalanxError, match=rf"^[^\n]*Mine[^\n]*{words}[^\n]*$"):
        use()


OWN = sorted(set(tasks.names()))  # before other tests bring tasks of their projects


WALKING = ["Go2Velocity", "Go1Velocity", "AnymalVelocity", "G1Velocity"]
SETTINGS = [(name, {"randomize": on}) for name in OWN for on in (False, True)]
SETTINGS += [(name, {"terrain": "rough", "privileged": True}) for name in WALKING]
PRESSED = {"undesired_contacts": -0.1}
SETTINGS += [("G1Tracking", {"privileged": True, "self_collisions": True, "rewards": PRESSED})]


@pytest.mark.parametrize(("name", "settings"), SETTINGS)
def test_steps_of_tasks_can_be_captured(name, settings):
    task = tasks.make(name, num_envs=4, device="cpu", **settings)
    task.reset()
    actions = torch.zeros(4, task.num_actions)
    task.step(actions)  # checks the task
    with by_masks(), NoNumbersOfPython():
        for _ in range(3):
            task.step(actions)
