"""Walking at a commanded velocity: commands, feet, gait clock, reward, log, robot files."""

import math
import re
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace

import mujoco
import numpy as np
import pytest
import torch

from phalanx import tasks
from phalanx.cli.config import compose_config
from phalanx.cli.sim2sim_viewer import steer
from phalanx.errors import PhalanxError
from phalanx.randomization.disturbances import PushSettings
from phalanx.sim import Scene
from phalanx.sim.engines.fused.support import why_not
from phalanx.tasks import gait_rewards as gait
from phalanx.tasks.commands import CommandSettings
from phalanx.tasks.contact_history import ContactHistory
from phalanx.tasks.locomotion import rotation_matrix
from phalanx.tasks.rays import cast, ground_slope, height_scan, lidar
from phalanx.tasks.terrain_kinds import DEEP, KINDS
from phalanx.tasks.velocity import Velocity
from phalanx.tasks.velocity_rewards import upright
from phalanx.tasks.velocity_settings import VelocityConfig, Weights
from phalanx.tasks.weighted_terms import CostSettings

N = 4
ASSETS = Path(tasks.__file__).parent / "assets"
ROBOTS = {
    "go1.xml": (12.743, 12, 0.023),
    "go2.xml": (15.019, 12, 0.022),
    "g1.xml": (33.341, 29, 0.005),
    "anymal_c.xml": (52.135, 12, 0.03),
}
"""Mass [kg] and joints as published; radius of the spheres of the soles [m]."""


def make(num_envs=N, **env):
    """A task whose episodes begin at their beginning."""
    env = {"spread_starts": False, **env}
    return tasks.make("Go2Velocity", num_envs, device="cpu", engine="mujoco", **env)


@pytest.fixture(scope="module")
def task():
    made = make(randomize=False)
    made.reset()
    return made


@pytest.mark.parametrize("file", ROBOTS)
def test_robots_have_their_published_mass_and_stand_on_their_feet(file):
    mass, joints, radius = ROBOTS[file]
    scene = Scene()
    scene.add_ground()
    scene.add_actor("robot", ASSETS / file, keyframe="home", self_collisions=False)
    model = scene.compile()
    assert why_not(model) is None
    assert model.body_mass.sum() == pytest.approx(mass, abs=2e-3)
    assert model.nu == model.njnt - 1 == joints
    assert (model.actuator_trnid[:, 0] == range(1, model.njnt)).all()
    data = mujoco.MjData(model)
    mujoco.mj_resetDataKeyframe(model, data, model.key("initial").id)
    mujoco.mj_forward(model, data)
    touching = (model.geom_conaffinity & 1) != 0
    touching &= model.geom_bodyid > 0
    lowest = data.geom_xpos[touching, 2] - model.geom_size[touching, 0]
    assert -0.005 < lowest.min() < 0.01
    assert model.geom_size[touching, 0][lowest.argmin()] == pytest.approx(radius)


def test_commands_stay_in_their_ranges_and_a_share_stands_still():
    settings = {"lin_vel_x": [-0.5, 1.0], "standing": 0.5, "heading": 0.0, "resample_s": [1, 1]}
    task = make(2000, randomize=False, commands=settings)
    task.reset()
    command = task.commands.values.clone()
    assert command[:, 0].min() >= -0.5
    assert command[:, 0].max() <= 1.0
    assert command[:, 0].min() < -0.4
    assert command[:, 0].max() > 0.9
    still = (command == 0).all(1).float().mean()
    assert abs(still - 0.5) < 4 * math.sqrt(0.25 / 2000)
    assert torch.equal(task.commands.moving, command.abs().amax(1) > 0.05)
    yaw = torch.zeros(2000)
    for _ in range(49):  # 1 s are 50 steps of 20 ms
        task.commands.step(yaw)
    assert torch.equal(task.commands.values, command)
    task.commands.step(yaw)
    task.commands.step(yaw)
    assert not torch.equal(task.commands.values, command)


def test_those_who_walk_straight_walk_ahead():
    task = make(500, commands={"standing": 0.0, "heading": 0.0, "forward": 1.0})
    task.reset()
    x, y, turn = task.commands.values.T
    assert x.min() == pytest.approx(0.3)
    assert x.max() > 0.9
    assert not y.any()
    assert not turn.any()
    backwards = {"standing": 0.0, "heading": 0.0, "forward": 1.0, "lin_vel_x": (-1.0, 0.2)}
    task = make(500, commands=backwards)
    task.reset()
    assert task.commands.values[:, 0].max() == pytest.approx(0.2)  # not beyond the range


def test_the_ranges_of_commands_grow():
    settings = {"first_part": 0.2, "grow_steps": 100, "standing": 0, "heading": 0}
    task = make(1000, randomize=False, commands=settings)
    everywhere, most = torch.ones(1000, dtype=torch.bool), []
    for steps in (0, 50, 1000):
        task.commands._steps.fill_(steps)
        task.commands.begin(everywhere)
        most.append(float(task.commands.values[:, 0].abs().max()))
    assert most == pytest.approx([0.2, 0.6, 1.0], rel=0.02)
    task.commands._steps.zero_()
    task.end_schedules()
    assert float(task.commands.part) == 1.0


def test_the_ranges_of_commands_grow_only_while_they_are_followed():
    settings = {"first_part": 0.2, "grow_steps": 100, "grow_at": 0.8, "resample_s": [99, 99]}
    task = make(2, randomize=False, commands=settings)
    task.reset()
    commands, yaw, grown = task.commands, torch.zeros(2), []
    for well in (1.0, 0.5):  # 200 steps are 4 s: after 4 s ln 5 the mean has come to 0.8
        for _ in range(400):
            commands.step(yaw, torch.tensor([well, well]))
        grown.append(int(commands._steps))
    assert grown[0] == pytest.approx(400 - 200 * math.log(5), abs=2)
    # from 1 - exp(-2) down to 0.8, on the way to 0.5
    assert grown[1] - grown[0] == pytest.approx(200 * math.log((0.5 - math.exp(-2)) / 0.3), abs=2)
    task.step(torch.zeros(2, 12))
    assert task.scalars()["commands/part"] == 1.0
    other = make(2, randomize=False, commands={**settings, "grow_at": None})
    other.load_state_dict(task.state_dict())
    assert float(other.commands._steps) == float(commands._steps)
    commands._followed.fill_(0.5)
    task.load_state_dict(other.state_dict())
    assert float(commands._followed) == 0.0
    task.sim.qvel[0, 0] = torch.nan  # one environment diverges: the others' mean counts
    task.step(torch.zeros(2, 12))
    assert commands._followed.isfinite()


def test_a_direction_to_face_becomes_a_rate_of_turning():
    task = make(commands={"standing": 0.0, "heading": 1.0, "heading_gain": 0.5})
    task.reset()
    task.commands._facing.copy_(torch.tensor([1.0, -3.0, 3.0, 0.2]))
    task.commands.step(torch.tensor([0.0, 3.0, 0.0, 0.2]))
    expected = [0.5, 0.5 * (2 * math.pi - 6), 1.0, 0.0]  # the second the short way, the third cut
    assert task.commands.values[:, 2].tolist() == pytest.approx(expected, abs=1e-6)


def test_commands_from_outside_stay_and_must_be_in_the_ranges(task):
    task = make(randomize=False)
    task.reset()
    task.commands.give(torch.tensor([0.5, 0.0, -0.2]))
    for _ in range(3):
        task.step(torch.zeros(N, 12))
    task.reset()
    assert task.commands.values.tolist() == [pytest.approx([0.5, 0.0, -0.2])] * N
    with pytest.raises(PhalanxError, match="command lin_vel_x is 3; the policy was trained within"):
        task.give_command([3.0, 0.0, 0.0])
    with pytest.raises(PhalanxError, match="has 2 numbers; it must be 3 numbers, lin_vel_x, lin"):
        task.give_command([0.5, 0.0])
    for values in (["a", 0, 0], None, [[0, 0], [0]]):
        with pytest.raises(PhalanxError, match=r"the command is .*; it must be 3 numbers"):
            task.give_command(values)
    with pytest.raises(PhalanxError, match="the task Cartpole takes no commands"):
        tasks.make("Cartpole", 2, device="cpu").give_command([0.5])


def test_keys_change_the_command_within_its_range():
    task = make(randomize=False)
    task.reset()
    for key, expected in (
        (265, [0.1, 0, 0]),
        (263, [0.1, 0, 0.1]),
        (65, [0.1, 0, 0.1]),
        (268, [0.1, 0.06, 0.1]),
        (269, [0.1, 0, 0.1]),
    ):
        steer(task, key)
        assert task.commands.values[0].tolist() == pytest.approx(expected)
    for _ in range(30):
        steer(task, 264)
    assert task.commands.values[0].tolist() == pytest.approx([-1.0, 0, 0.1])
    task.reset()
    assert task.commands.values[0].tolist() == pytest.approx([-1.0, 0, 0.1])


def test_air_time_is_the_time_between_lifting_and_landing(task):
    feet, dt = task.feet, task.sim.dt
    force = torch.zeros(N, len(task.robot.contact_body_names), 3)
    down = force.clone()
    down[:, feet._forces] = torch.tensor([0.0, 0.0, 40.0])
    feet.begin(torch.ones(N, dtype=torch.bool))
    feet.update(down)
    assert feet.contact.all()
    assert not feet.landed.any()
    for k in range(1, 4):
        feet.update(force)
        assert feet.air_time[0, 0] == pytest.approx(k * dt)
    feet.update(down)
    assert feet.landed.all()
    assert feet.air_time[0, 0] == pytest.approx(4 * dt)
    feet.update(down)
    assert not feet.landed.any()
    feet.update(force)
    assert feet.air_time[0, 0] == pytest.approx(dt)


def test_diagonal_legs_of_the_gait_clock_swing_together(task):
    clock = task.clock
    clock.phase.copy_(torch.tensor([0.0, 0.25, 0.775, 0.5]))
    moving = torch.tensor([True, True, True, False])
    swing = clock.swing(moving)
    assert torch.equal(swing[:, 0], swing[:, 3])
    assert torch.equal(swing[:, 1], swing[:, 2])
    # Feet 0 and 3 stand until 0.55 and are half way through the swing at 0.775; the others are
    # half a stride ahead, and none swings where the robot stands still.
    assert swing[:, 0].tolist() == pytest.approx([0, 0, 0.5, 0], abs=1e-5)
    assert swing[:, 1].tolist() == pytest.approx([0, 0.2 / 0.45, 0, 0], abs=1e-5)


def test_logged_terms_add_up_to_the_reward_and_ends_to_the_resets():
    task = make(32, randomize=False)
    task.reset()
    task.scalars()
    rewards, ends = [], 0
    for _ in range(40):
        _, reward, terminated, truncated, _ = task.step(2 * torch.rand(32, 12) - 1)
        rewards.append(reward.clone())
        ends += int((terminated | truncated).sum())
    scalars = task.scalars()
    total = sum(v for k, v in scalars.items() if k.startswith("reward/"))
    assert total * task.config.dt == pytest.approx(float(torch.stack(rewards).mean()), rel=1e-4)
    causes = sum(v for k, v in scalars.items() if k.startswith("ends/"))
    assert causes == pytest.approx(1.0 if ends else 0.0, abs=0.5)
    assert task.scalars() == {}


def test_further_terms_count_with_a_weight_and_a_policy_may_do_without_clock():
    names = ("alive", "air_time", "foot_clearance", "landing", "base_height", "joint_vel")
    task = make(randomize=False, gait_clock=False, rewards=dict.fromkeys(names, 1.0))
    assert task.reset()["obs"].shape == (N, 48)
    assert "gait_clock" not in [term.name for term in task.observation_layout()]
    for _ in range(20):
        task.step(torch.zeros(N, 12))
    feet, moving = task.feet, task.commands.moving
    feet.landed[:] = torch.tensor([True, False, True, False])
    feet.air_time[:] = torch.tensor([0.35, 9.0, 0.20, 9.0])
    feet.height[:], feet.speed[:] = 0.05, 2.0
    task.robot.joint_vel[:] = 0.5
    terms = task.reward_terms(task.base, torch.zeros(N, 20, dtype=torch.bool))
    assert not {"in_step", "swing_height"} & terms.keys()
    expected = {
        "alive": torch.ones(N),
        "air_time": (0.35 - 0.25 + 0.20 - 0.25) * moving,
        "foot_clearance": torch.full((N,), 4 * (0.08 - 0.05) * 2.0),
        "base_height": (task.sim.qpos[:, 2] - 0.30).square(),  # of the pose home
        "joint_vel": torch.full((N,), 12 * 0.5**2),
        "landing": task.robot.contact_force[:, feet._forces[::2]].norm(dim=2).sum(1),
    }
    for name, values in expected.items():
        torch.testing.assert_close(terms[name], values.float(), msg=name)
    assert task.scalars().keys() >= {f"reward/{name}" for name in names}


@dataclass(frozen=True)
class DogWeights(Weights):
    hips: float = -0.5


@dataclass(frozen=True)
class DogConfig(VelocityConfig):
    rewards: Weights = field(default_factory=DogWeights)


class Dog(Velocity):
    """The example of docs/walking.md."""

    Config = DogConfig

    def reward_terms(self, base, pressed):
        hips = self.robot.joint_pos[:, ::3]
        return super().reward_terms(base, pressed) | {"hips": hips.square().sum(1)}

    def falls(self, base, pressed):
        return super().falls(base, pressed) | {"low": self.above_ground() < 0.4}


def test_a_task_adds_terms_and_causes_of_a_fall():
    dog = Dog(DogConfig(num_envs=2), "cpu", "mujoco")
    dog.reset()
    _, _, terminated, *_ = dog.step(torch.zeros(2, 12))
    assert terminated.all()
    logged = dog.scalars()
    assert logged["ends/low"] == 1
    assert logged["reward/hips"] < 0
    dog.terrain = SimpleNamespace(height=lambda xy: torch.full((2,), 0.1))
    assert torch.allclose(dog.above_ground(), dog.base.height - 0.1)
    dog.terrain = None
    dog.reward.weights["hipps"] = 1.0
    with pytest.raises(PhalanxError, match="the reward has the weight 'hipps', but no such term"):
        dog.step(torch.zeros(2, 12))


@pytest.mark.parametrize(
    ("method", "value", "words"),
    [
        (
            "reward_terms",
            {"hips": torch.ones(2, 4)},
            r"reward_terms returns the term 'hips' as a T",
        ),
        ("reward_terms", {"hips": 1.0}, r"the term 'hips' as a float; .* of shape \(2,\)$"),
        (
            "reward_terms",
            None,
            r"reward_terms returns nothing as terms; it must be a dict of names",
        ),
        ("reward_terms", {"fall": torch.ones(2)}, "the term 'fall', a name that Phalanx gives"),
        (
            "falls",
            {"low": torch.ones(2)},
            r"Cat.falls returns the cause 'low' as torch.float32; it",
        ),
        (
            "falls",
            {"low": torch.ones(1) > 0},
            r"as a Tensor of shape \(1,\); it must be a tensor of",
        ),
        (
            "falls",
            {"edge": torch.ones(2) > 0},
            "the cause 'edge', a name that Phalanx gives itself",
        ),
        ("falls", None, r"falls returns nothing as causes; it must be a dict of names and tensors"),
    ],
)
def test_what_a_subclass_returns_by_name_is_checked_in_the_first_step(method, value, words):
    cat = type("Cat", (Velocity,), {method: lambda self, base, pressed: value})
    task = cat(VelocityConfig(num_envs=2), "cpu", "mujoco")
    task.reset()
    with pytest.raises(PhalanxError, match=words):
        task.step(torch.zeros(2, 12))


def test_a_robot_that_never_falls():
    cat = type("Cat", (Velocity,), {"falls": lambda self, base, pressed: {}})
    task = cat(VelocityConfig(num_envs=2), "cpu", "mujoco")
    task.reset()
    assert task.step(torch.zeros(2, 12))[2].tolist() == [False, False]


def test_a_subclass_s_methods_take_the_arguments_of_those_that_they_replace():
    for name, method in (("falls", lambda self, base: {}), ("reward_terms", lambda self: {})):
        cat = type("Cat", (Velocity,), {name: method})
        with pytest.raises(PhalanxError, match=f"{name} must take the arguments base and pressed"):
            cat(VelocityConfig(num_envs=2), "cpu", "mujoco")


class Longer(Velocity):
    """Observes its feet, too, and says nothing about them in its layout."""

    def create_scene(self):
        scene = super().create_scene()
        self.num_obs += 4
        return scene

    def compute_observations(self):
        return torch.cat([super().compute_observations(), self.feet.contact.float()], 1)


def test_a_layout_describes_all_that_is_observed():
    """Where noise goes by it; without noise, an export and mirror images look at it."""
    noisy = tasks.config_of("Go2Velocity", {"num_envs": 2})
    with pytest.raises(PhalanxError, match=r"describes 50 numbers .* but num_obs is 54; both must"):
        Longer(noisy, "cpu", "mujoco")
    wrong = type("Cat", (Velocity,), {"observation_layout": lambda self: None})
    with pytest.raises(PhalanxError, match=r"Cat.observation_layout must return a tuple of terms"):
        wrong(noisy, "cpu", "mujoco")


@dataclass(frozen=True)
class FewWeights:
    alive: float = 1.0


@dataclass(frozen=True)
class FewConfig(VelocityConfig):
    rewards: FewWeights = field(default_factory=FewWeights)


class Few(Velocity):
    """A reward of one term."""

    Config = FewConfig

    def reward_terms(self, base, pressed):
        return {"alive": super().reward_terms(base, pressed)["alive"]}


def test_a_task_may_have_a_reward_of_few_terms():
    few = Few(FewConfig(num_envs=2), "cpu", "mujoco")
    few.reset()
    assert few.step(torch.zeros(2, 12))[1].tolist() == pytest.approx([0.02, 0.02])
    grows = CommandSettings(first_part=0.5, grow_steps=9, grow_at=0.7)
    few = Few(FewConfig(num_envs=2, commands=grows), "cpu", "mujoco")
    few.reset()
    with pytest.raises(PhalanxError, match=r"grow_at is 0.7, but .* no term track_lin_vel; set it"):
        few.step(torch.zeros(2, 12))


def test_the_robot_stands_with_actions_of_zero_and_falls_on_its_back():
    task = make(randomize=False)
    task.reset()
    for _ in range(100):
        _, _, terminated, _, _ = task.step(torch.zeros(N, 12))
        assert not terminated.any()
    assert (task.base.height > 0.2).all()
    assert task.feet.contact.all()
    task.sim.qpos[0, 3:7] = torch.tensor([0.0, 1.0, 0.0, 0.0])
    _, _, terminated, _, _ = task.step(torch.zeros(N, 12))
    assert terminated.tolist() == [True, False, False, False]


def test_noise_has_its_size_by_term():
    params = {"range": [-1, 1], "operation": "additive", "distribution": "uniform"}
    noisy = {"observations": {**params, "terms": {"joint_pos": 0.02, "joint_vel": 1.0}}}
    task = make(500, randomize=True, randomization_params=noisy)
    clean = torch.zeros(500, task.num_obs)
    change = task.randomizer.observe(clean).abs().amax(0)
    sizes, at = {}, 0
    for term in task.observation_layout():
        sizes[term.name] = float(change[at : at + term.size].max())
        at += term.size
    assert sizes["joint_pos"] == pytest.approx(0.02, rel=0.02)
    assert sizes["joint_vel"] == pytest.approx(1.0, rel=0.02)
    assert sum(sizes.values()) == pytest.approx(sizes["joint_pos"] + sizes["joint_vel"])
    noisy["observations"]["terms"] = {"joint_position": 0.02}
    with pytest.raises(PhalanxError, match="no term 'joint_position'; did you mean 'joint_pos'"):
        make(randomize=True, randomization_params=noisy)


@pytest.mark.parametrize(
    ("env", "sentence"),
    [
        (
            {"feet": ["FL_foot", "FR_paw", "RL_foot", "RR_foot"]},
            "task.env.feet: no body 'FR_paw' in .*go2.xml; did you mean 'FR_.*'.; set it to bodies",
        ),
        ({"falls_on": ["trunk"]}, "task.env.falls_on: no body 'trunk' in .*go2.xml; set it to"),
        ({"not_to_touch": ["FL_knee"]}, "task.env.not_to_touch: no body 'FL_knee' in .*go2.xml"),
        (
            {"gait_clock": False, "rewards": {"in_step": 5}},
            "in_step is 5, but task.env.gait_clock is false; this term needs the gait clock",
        ),
        ({"commands": {"grow_at": 0.7}}, "are 1, 0 and 0.7; commands grow only with first_part b"),
        ({"commands": {"grow_steps": 9}}, "grow_at are 1, 9 and null; commands grow only with"),
        ({"commands": {"first_part": 0.2}}, "are 0.2, 0 and null; commands grow only with"),
        ({"commands": {"lin_vel_x": [1, -1]}}, "task.env.commands.lin_vel_x is .1.0, -1.0.; it"),
        ({"costs": {"terms": {"slap": [0, 1, 9]}}}, "costs.terms: no weight 'slap'; did you mean"),
        ({"costs": {"terms": {"slip": [0, 1]}}}, r"costs.terms.slip is \[0, 1\]; it must be the p"),
        ({"costs": {"terms": {"slip": [0, -1, 5]}}}, "costs.terms.slip is .*; it must be the part"),
        ({"costs": {"terms": {"slip": [True, 1, 9]}}}, r"slip is \[True, 1, 9\]; it must be the p"),
        ({"rewards": {"in_stap": 1}}, "unknown key task.env.rewards.in_stap; did you mean"),
    ],
)
def test_wrong_settings_are_named(env, sentence):
    with pytest.raises(PhalanxError, match=sentence):
        make(**env)


@pytest.mark.parametrize(
    ("env", "sentence"),
    [
        ({"terrain": "ruogh"}, "task.env.terrain is 'ruogh'; did you mean 'rough'"),
        ({"height_scan": True}, "height_scan is true, but task.env.terrain is flat; a scan needs"),
        ({"terrain": "rough", "terrain_settings": {"kinds": {"stair_up": 1}}}, "ground 'stair_up'"),
        ({"terrain": "rough", "terrain_settings": {"spacing": 0.01}}, "samples, more than 16 mill"),
        ({"terrain": "rough", "terrain_settings": {"spacing": 1}}, "a tile of 8 m needs samples"),
        (
            {"terrain": "stones", "terrain_settings": {"sharp_edges": True, "columns": 50}},
            "the terrain's edges need more than 30000 boxes; set its sharp_edges to false, or m",
        ),
        ({"terrain": "rough", "terrain_settings": {"kinds": {"gap": "x"}}}, "gap is 'x'; it must"),
        ({"feet": ["FL_foot"]}, "gait_offsets has 4 numbers, but the robot has 1 feet"),
        ({"feet": [], "gait_offsets": []}, "task.env.feet is empty; name the bodies"),
        ({"scan_size": [1]}, "it must be length and width, as in"),
    ],
)
def test_ground_and_feet_that_cannot_be_are_named(env, sentence):
    with pytest.raises(PhalanxError, match=sentence):
        make(**env)


@pytest.mark.parametrize(
    ("env", "idle"),
    [
        ([], []),
        (["terrain_settings.kinds={gap: 1}"], ["terrain_settings.kinds= needs terrain=rough"]),
        (["terrain=waves", "terrain_settings.kinds={gap: 1}", "terrain_settings.rows=3"],
         ["terrain_settings.kinds= needs terrain=rough"]),
        (["terrain=rough", "terrain_settings.kinds={gap: 1}", "scan_size=[1,1]"], []),
        (["scan_size=[1,1]", "scan_offset=0.2"],
         ["scan_size= needs terrain=rough", "scan_offset= needs terrain=rough"]),
        (["terrain=rough", "height_scan=false", "scan_offset=0.2"],
         ["scan_offset= needs height_scan=true"]),
        (["states_history=3"], ["states_history= needs privileged=true"]),
        (["states_history=3", "privileged=true"], []),
        (["terrain=rough", "teacher=true", "height_scan=false"],
         ["height_scan= needs teacher=false"]),
        (["terrain=rough", "terrain_settings.curriculum=false", "terrain_settings.first_rows=3"],
         ["terrain_settings.first_rows= needs terrain_settings.curriculum=true"]),
    ],
)  # fmt: skip
def test_settings_without_effect_are_named(env, idle):
    options = compose_config(["task=Go2Velocity", *(f"task.env.{word}" for word in env)])
    assert [line.replace("task.env.", "") for line in options.idle] == idle


def test_the_first_episodes_of_a_training_do_not_end_together():
    task = tasks.make("Go2Recovery", num_envs=64, device="cpu", engine="mujoco", randomize=False)
    task.reset()
    assert len(task.progress_buf.unique()) > 32
    assert task.progress_buf.max() < 300
    assert int(task.step(torch.zeros(64, 12))[3].sum()) < 8
    task.end_schedules()
    task.reset()
    assert not task.progress_buf.any()


def test_a_fallen_robot_that_tries_loses_less_than_it_may_win():
    """With costs as large as what being upright is worth it learns to lie still."""
    torch.manual_seed(0)
    own = {"randomize": False, "spread_starts": False}
    task = tasks.make("Go2Recovery", num_envs=64, device="cpu", engine="mujoco", **own)
    task.reset()
    for _ in range(150):
        task.step(torch.exp(torch.tensor(-1.0)) * torch.randn(64, 12))  # a first policy's noise
    means = task.scalars()
    costs = [means[f"reward/{name}"] for name in ("torque", "joint_vel", "action_rate")]
    assert -0.5 < sum(costs) < 0


def test_a_backflip_without_its_feet_is_one_sentence():
    with pytest.raises(PhalanxError, match=r"task.env.feet is empty; name the bodies"):
        tasks.make("Go2Backflip", num_envs=1, device="cpu", feet=())
    with pytest.raises(PhalanxError, match=r"task.env.feet: no body 'FL_paw' in .*go2.xml"):
        tasks.make("Go2Backflip", num_envs=1, device="cpu", feet=("FL_paw",))


@pytest.fixture(scope="module", params=[False, True], ids=["ramps", "sharp_edges"])
def hills(request):
    kinds = dict.fromkeys(KINDS, 1.0)
    small = {"rows": 3, "columns": 10, "tile": 6.0, "border": 4.0, "kinds": kinds}
    small["sharp_edges"] = request.param
    return make(20, randomize=False, terrain="rough", terrain_settings=small, privileged=True)


def test_the_ground_is_where_mujoco_has_it(hills):
    model, rng = hills.sim.model, np.random.default_rng(0)
    data = mujoco.MjData(model)
    data.qpos[:3] = [500.0, 0.0, 0.0]  # out of the way
    mujoco.mj_forward(model, data)
    places = rng.uniform([-12, -33], [12, 33], (200, 2))
    down, above = np.array([0.0, 0.0, -1.0]), 10.0
    for xy, height in zip(places, hills.terrain.height(torch.tensor(places).float()), strict=True):
        hit = mujoco.mj_ray(model, data, [*xy, above], down, None, 1, -1, np.zeros(1, np.int32))
        assert float(height) == pytest.approx(above - hit, abs=1e-3)


def test_states_where_an_episode_begins_have_the_feets_heights_of_now(hills):
    hills.reset()
    for _ in range(20):
        hills.step(torch.randn(20, 12))
    hills.progress_buf[:10] = hills.config.episode_length - 1
    hills.step(torch.zeros(20, 12))
    assert hills.truncated[:10].all()
    feet = hills.feet
    pos = hills.sim.xpos[:, feet._ids]
    height = pos[..., 2] - feet.radius - hills.terrain.height(pos[..., :2])
    seen = hills.states_buf[:, -6 * 4 :][:, :4]
    torch.testing.assert_close(seen, height, rtol=0, atol=1e-5)


def test_higher_ground_within_reach_raises_the_arc_of_a_swing(hills):
    hills.reset()
    terrain, feet = hills.terrain, hills.feet
    below = feet.positions()[..., :2]
    ring = [(math.cos(a), math.sin(a)) for a in np.arange(8) * math.pi / 4]
    around = torch.stack([terrain.height(below + 1.0 * torch.tensor(p)) for p in ring])
    rise = (around.amax(0) - terrain.height(below)).clamp(min=0)
    assert rise.max() > 0.01
    torch.testing.assert_close(feet.rise(terrain, 1.0), rise, rtol=0, atol=1e-5)
    assert feet.rise(terrain, 0.0) == 0.0
    swing, arc = torch.full((20, 4), 0.5), 0.08 + rise  # the middle of a swing
    torch.testing.assert_close(gait.swing_height(arc, swing, arc), torch.full((20,), 4.0))


def test_on_rough_ground_a_base_is_upright_that_is_parallel_to_it():
    """Turned any way over a pit's sides, against the angle between its z axis and the normal."""
    task = make(64, randomize=False, terrain="slope_up")
    task.reset()
    xy, robot = task.terrain.start[:, :2].clone(), task.robot
    angle = 2 * math.pi * torch.rand(64)
    out = torch.stack([angle.cos(), angle.sin()], 1)
    xy += 2.5 * out / out.abs().amax(1, keepdim=True)  # on the sides, between platform and edge
    quat = torch.randn(64, 4)
    quat[:, 1:3] *= 0.3
    robot.root_quat[:] = quat / quat.norm(dim=1, keepdim=True)
    robot.root_pos[:, :2] = xy
    robot.root_pos[:, 2] = task.terrain.height(xy) + 0.3
    task.compute_observations()
    e = 0.5
    rise = [
        (task.terrain.height(xy + d) - task.terrain.height(xy - d)) / (2 * e)
        for d in torch.tensor([[e, 0.0], [0.0, e]])
    ]
    normal = torch.stack([-rise[0], -rise[1], torch.ones(64)], 1)
    normal /= normal.norm(dim=1, keepdim=True)
    axis = rotation_matrix(robot.root_quat)[..., 2]
    wanted = 1 - (axis * normal).sum(1).square()
    on_one_plane = (out.abs().amin(1) / out.abs().amax(1)) < 0.2  # all of the scan
    assert on_one_plane.sum() > 3
    found = upright(task, task.base)
    torch.testing.assert_close(found[on_one_plane], wanted[on_one_plane], atol=1e-4, rtol=0)


@pytest.mark.parametrize("kind", ["gap", "stones"])
def test_nobody_leans_into_a_hole(kind):
    task = make(64, randomize=False, terrain=kind)
    task.reset()
    task.robot.root_pos[:, :2] += 1.2 * torch.rand(64, 2)
    solid = task.terrain.height(task.robot.root_pos[:, :2]) > -0.5
    yaw = 6 * torch.rand(64)
    slope = ground_slope(task.terrain, task.robot.root_pos, yaw, task.slope_points)[solid]
    assert solid.any()
    assert slope.norm(dim=1).max() < 0.1


def test_rays_meet_the_ground_where_mujoco_does(hills):
    model = hills.sim.model
    data = mujoco.MjData(model)
    data.qpos[:3] = [500.0, 0.0, 0.0]
    mujoco.mj_forward(model, data)
    directions = lidar(4, -60, -20, 8)
    start = torch.tensor([[0.02, 0.03, 3.0], [0.52, -20.01, 4.0]])  # rays on no line
    seen = cast(hills.terrain, start, directions.expand(2, -1, 3), reach=12.0)
    for origin, row in zip(start.double().numpy(), seen, strict=True):
        for ray, distance in zip(directions.double().numpy(), row, strict=True):
            hit = mujoco.mj_ray(model, data, origin, ray, None, 1, -1, np.zeros(1, np.int32))
            assert float(distance) == pytest.approx(min(hit, 12.0) if hit >= 0 else 12.0, abs=0.05)


def test_robots_stand_on_every_kind_of_ground_and_see_it(hills):
    hills.reset()
    for _ in range(30):
        hills.step(torch.zeros(20, 12))
    above = hills.robot.root_pos[:, 2] - hills.terrain.start[:, 2]
    assert ((above > 0.1) & (above < 0.4)).all()
    assert hills.feet.height.abs().max() < 0.2
    assert hills.obs_buf.shape[1] == 50 + 17 * 11
    assert hills.observations["states"].shape == (20, hills.num_obs + 24)
    yaw, points = torch.full((20,), math.pi / 2), hills.scan_points
    pos = hills.robot.root_pos + torch.tensor([2.0, 0.0, 0.0])
    below = height_scan(hills.terrain, pos, yaw, points)
    corner = pos[:, :2] + torch.tensor([0.5, -0.8])  # the first point, (-0.8, -0.5), turned left
    assert torch.allclose(below[:, 0], pos[:, 2] - hills.terrain.height(corner), atol=1e-4)
    assert below.std() > 0.1


def test_tiles_meet_at_one_height_where_robots_walk_on():
    along = np.linspace(-4, 4, 81)
    x, y = np.meshgrid(along, along, indexing="ij")
    for name, kind in KINDS.items():
        z = kind(x, y, 1.0, np.random.default_rng(1))
        edge = np.concatenate([z[0], z[-1], z[:, 0], z[:, -1]])
        least, most = {"obstacles": (-0.25, 0.25), "waves": (-0.1, 0.1), "uneven": (-0.05, 0.05),
                       "stones": (-1, 0.05)}.get(name, (0, 0))  # fmt: skip
        assert edge.min() >= least - 1e-6, name
        assert edge.max() <= most + 1e-6, name
        assert np.ptp(z[36:45, 36:45]) < (0.4 if name in ("waves", "uneven") else 1e-6), name


@pytest.mark.parametrize("spacing", [0.03, 0.05, 0.1, 0.2, 0.4])
def test_nothing_narrow_is_rounded_away(spacing):
    n = round(8 / spacing)
    along = spacing * (np.arange(n + 1) - n / 2)
    x, y = np.meshgrid(along, along, indexing="ij")
    middle, out = n // 2, round(1 / spacing) + 1
    for difficulty in np.linspace(0, 1, 5):
        made = {k: KINDS[k](x, y, difficulty, np.random.default_rng(3)) for k in KINDS}
        gap = (made["gap"][middle:, middle] == -DEEP).sum()  # samples
        assert abs(gap * spacing - (0.05 + 0.55 * difficulty)) <= 0.5 * spacing + 1e-9 or gap == 1
        low = (made["stones"][middle + out :, middle] == -DEEP).astype(int)
        edges = np.flatnonzero(np.diff(low))
        widths = np.diff(edges) * spacing  # of stones and gaps in turn
        stones, gaps = (widths[(low[edges[0] + 1] + k) % 2 :: 2] for k in (0, 1))
        for seen, wanted in ((stones, 0.9 - 0.5 * difficulty), (gaps, 0.05 + 0.25 * difficulty)):
            assert len(seen) >= 2 or spacing > 0.1
            assert (np.abs(seen - max(wanted, spacing)) <= spacing + 1e-9).all()
        stairs = made["stairs_up"][middle + out - 1 :, middle]
        steps = np.diff(stairs)
        assert steps.max() == pytest.approx(0.05 + 0.18 * difficulty)
        assert not (steps[1:] * steps[:-1]).any()  # a flat cell after each edge


def test_who_walks_far_goes_up_a_row_and_who_does_not_goes_down(hills):
    terrain, everywhere = hills.terrain, torch.ones(20, dtype=torch.bool)
    terrain.row.fill_(1)
    terrain.start.copy_(terrain._middles[terrain.row, terrain.column])
    far = terrain.start.clone()
    far[:10, 0] += 4.0  # beyond half a tile of 6 m; a whole episode at 1 m/s takes 20 m
    terrain._steps.zero_()
    ahead = torch.tensor([[1.0, 0.0]]).expand(20, 2)
    terrain.step(far, torch.zeros(20), ahead)
    terrain.begin(everywhere)
    assert terrain.row.tolist() == [2] * 10 + [0] * 10
    assert torch.equal(terrain.start, terrain._middles[terrain.row, terrain.column])
    terrain.begin(everywhere)  # no step since: nobody moves
    assert terrain.row.tolist() == [2] * 10 + [0] * 10


def test_rows_that_a_map_does_not_have_become_its_last(hills):
    """As of a checkpoint of a larger map."""
    hills.terrain.row.copy_(torch.tensor([-5, 0, 2, 50]).repeat(5))
    hills.terrain.begin(torch.zeros_like(hills.terminated))
    assert hills.terrain.row[:4].tolist() == [0, 0, 2, 2]


def test_who_does_as_commanded_never_goes_down(hills):
    terrain, commands, n = hills.terrain, hills.commands, 20
    pos, yaw, dt = torch.zeros(n, 3), torch.linspace(-3, 3, n), hills.sim.dt
    everywhere = torch.ones(n, dtype=torch.bool)
    for walks_on in (False, True):  # one command in an episode, which turns; then many
        terrain.begin(everywhere)
        commands.begin(everywhere)
        commands.values[:] = torch.tensor([1.0, 0.5, 1.0])  # a circle of 1.1 m
        commands._left.fill_(1e6)
        commands._faces.fill_(False)
        terrain.row.fill_(1)
        pos.copy_(terrain.start)
        for _ in range(hills.config.episode_length):
            c, s, (x, y, turn) = yaw.cos(), yaw.sin(), commands.values.unbind(1)
            pos[:, :2] += dt * torch.stack([c * x - s * y, s * x + c * y], 1)
            terrain.step(pos, yaw, commands.values[:, :2])
            yaw = yaw + dt * turn
            if walks_on:
                commands.step(yaw)
        terrain.begin(everywhere)
        assert terrain.row.min() >= 1


def test_commands_on_rough_ground_lead_away(hills):
    hills.commands.begin(torch.ones(20, dtype=torch.bool))
    assert torch.equal(hills.commands._faces, hills.commands.moving)
    assert make(randomize=False).commands.heading == 0.3


def test_at_the_end_of_the_ground_time_is_over(hills):
    hills.reset()
    hills.sim.qpos[3, 0] += 100.0
    _, _, terminated, truncated, _ = hills.step(torch.zeros(20, 12))
    assert truncated.tolist() == [k == 3 for k in range(20)]
    assert not terminated.any()


class Dropped(Velocity):
    """Remembers the forces of all physics steps."""

    Config = VelocityConfig

    def init_buffers(self):
        super().init_buffers()
        self.contacts = ContactHistory(self, "robot", self.config.feet)


def test_contacts_between_two_control_steps_count():
    torch.manual_seed(0)
    task = Dropped(VelocityConfig(2, dt=0.1, substeps=20), device="cpu", engine="mujoco")
    task.reset()
    task.sim.qpos[:, 2] += torch.tensor([0.02, 5.0])  # 20 mm fall in 64 ms
    task.sim.qvel.zero_()
    task.contacts.begin(torch.ones(2, dtype=torch.bool))
    task.step(torch.zeros(2, 12))
    assert (task.contacts.forces[0, :8] == 0).all()
    assert (task.contacts.count(1.0)[0] > 0).all()
    assert (task.contacts.count(1.0)[0] < 12).all()
    assert task.contacts.first(1.0).tolist() == [[True] * 4, [False] * 4]
    assert (task.contacts.forces[1] == 0).all()
    task.step(torch.zeros(2, 12))
    touching = task.contacts.forces[0, 0] > 0
    assert touching.any()
    assert not task.contacts.first(0.0)[0][touching].any()
    with pytest.raises(PhalanxError, match="no contact force of the body 'FL_calf'; ask"):
        ContactHistory(task, "robot", ["FL_calf"])


def test_costs_and_pushes_grow():
    task = make(4, costs={"first_part": 0.5, "grow_steps": 10})
    reward = task.reward
    reward.weights = {"gain": 2.0, "cost": -1.0}
    terms = dict.fromkeys(reward.weights, torch.ones(4))
    totals = []
    for steps in (-1, 4):  # the call counts one
        reward._steps.fill_(steps)
        totals.append(float(reward.total(reward(terms))[0]) / 0.02)
    task.end_schedules()
    totals.append(float(reward.total(reward(terms))[0]) / 0.02)
    assert totals == pytest.approx([1.5, 1.25, 1.0])

    terms = {"gain": (1, 0, 10), "cost": (0, 1, 5)}
    reward.costs, totals = CostSettings(first_part=0.5, grow_steps=10, terms=terms), []
    for steps in (-1, 4, 9):
        reward._steps.fill_(steps)
        weighted = reward(dict.fromkeys(reward.weights, torch.ones(4)))
        totals.append([float(v[0]) for v in weighted.values()])
    assert totals == [[2, 0], [1, -1], [0, -1]]
    reward._steps.zero_()
    task.end_schedules()
    assert float(reward(dict.fromkeys(reward.weights, torch.ones(4)))["gain"][0]) == 0
    push = task.randomizer.pushes["robot"]
    push.settings = PushSettings((1, 1), (1.0, 1.0), grow_steps=100, lin_vel_z=(0.5, 0.5))
    task.sim.qvel.zero_()
    push.countdown.zero_()
    push(torch.tensor(25))
    assert torch.allclose(task.sim.qvel[:, :3], torch.tensor([0.25, 0.25, 0.125]))


def test_a_robot_needs_a_servo_on_each_joint(tmp_path):
    text = (ASSETS / "go2.xml").read_text()
    text = re.sub(r'<position name="FL_thigh"[^>]*>', "", text, count=1)
    (tmp_path / "robot.xml").write_text(re.sub(r'ctrl="[^"]*"', "", text))
    with pytest.raises(PhalanxError, match=r"one servo on each joint.*none on 'FL_thigh_joint'"):
        make(asset=str(tmp_path / "robot.xml"))


def test_a_servo_brings_its_joint_to_the_angle_that_it_is_told(tmp_path):
    text = (ASSETS / "go2.xml").read_text()
    text = text.replace('<position name="FL_thigh"', '<position name="FL_thigh" gear="2"', 1)
    (tmp_path / "robot.xml").write_text(text)
    with pytest.raises(PhalanxError, match=r"servo 'FL_thigh' .* gain is 40, .* gear 80; make"):
        make(asset=str(tmp_path / "robot.xml"))


@pytest.mark.parametrize(
    ("pattern", "instead", "sentence"),
    [
        ('<freejoint name="root"/>', "", r"the robot is fixed to the world; give its first"),
        (
            r'<position name="(FL_hip)"',
            r'<motor name="\1"',
            r"actuator 'FL_hip' is no position servo",
        ),
        (r'forcerange="[^"]*"', "", r"servo 'FL_hip' has no forcerange, of which"),
    ],
)
def test_a_robot_walks_on_a_free_base_by_servos_with_limits(pattern, instead, sentence, tmp_path):
    text = (ASSETS / "go2.xml").read_text()
    text = re.sub(r'(qpos="[^"]*"|ctrl="[^"]*")', "", text) if not instead else text
    (tmp_path / "robot.xml").write_text(re.sub(pattern, instead, text))
    with pytest.raises(PhalanxError, match=sentence):
        make(asset=str(tmp_path / "robot.xml"), action_effort=0.3)


class Torques(Velocity):
    """Drives motors itself."""

    def pre_physics_step(self, actions):
        self.sim.ctrl.copy_(20 * (self.default_pos - self.robot.joint_pos))


def test_a_task_that_computes_torques_itself_has_motors(tmp_path):
    text = re.sub(r'<position name="', '<motor name="', (ASSETS / "go2.xml").read_text())
    (tmp_path / "robot.xml").write_text(text)
    task = Torques(VelocityConfig(num_envs=1, asset=str(tmp_path / "robot.xml")), "cpu", "mujoco")
    task.reset()
    task.step(torch.zeros(1, 12))


def test_a_foot_is_a_point_of_its_body():
    """Against MuJoCo's velocity of that point, with a robot that turns."""
    point = (0.04, 0.01, -0.037)
    task = make(2, foot_place=point, foot_radius=0.0, randomize=False)
    sim, robot = task.sim, task.robot
    task.reset()
    sim.qvel.uniform_(-1, 1)
    sim.qpos[:, 3:7] = torch.nn.functional.normalize(torch.randn(2, 4), dim=1)
    sim.forward()
    task.feet.update(robot.contact_force)
    model, data = sim.model, mujoco.MjData(sim.model)
    data.qpos[:], data.qvel[:] = sim.qpos[1].numpy(), sim.qvel[1].numpy()
    mujoco.mj_forward(model, data)
    for k, name in enumerate(task.config.feet):
        body, jac = model.body(f"robot/{name}").id, np.zeros((3, model.nv))
        at = data.xpos[body] + data.xmat[body].reshape(3, 3) @ point
        mujoco.mj_jac(model, data, jac, None, at, body)
        assert float(task.feet.height[1, k]) == pytest.approx(at[2], abs=1e-5)
        speed = np.linalg.norm((jac @ data.qvel)[:2])
        assert float(task.feet.speed[1, k]) == pytest.approx(speed, rel=1e-3)
    with pytest.raises(PhalanxError, match=r"foot_place is \[0.1\]; it must be x, y and z"):
        make(1, foot_place=[0.1])


def test_comparisons_keep_to_their_definition():
    for other in ({"terrain": "waves"}, {"height_scan": True}):
        with pytest.raises(PhalanxError, match="Go1VelocityMjlab is defined on flat ground only"):
            tasks.make("Go1VelocityMjlab", 1, device="cpu", **other)
    for other in ({"gait_clock": False}, {"teacher": True}, {"observe_lin_vel": False}):
        with pytest.raises(PhalanxError, match=r"Go2JoystickUnilab has an observation of its own"):
            tasks.make("Go2JoystickUnilab", 1, device="cpu", **other)
    for other in ({"soft_limits": 0.5}, {"swing_time": 0.1}, {"base_height": 0.2}):
        for name in ("Go2JoystickUnilab", "G1VelocityMjlab"):
            with pytest.raises(PhalanxError, match=rf"is 0.\d; {name} has a reward of its own"):
                tasks.make(name, 1, device="cpu", **other)
    with pytest.raises(PhalanxError, match=r"upright_body: no body 'trank' in .*mean 'trunk'"):
        tasks.make("Go1VelocityMjlab", 1, device="cpu", upright_body="trank")
