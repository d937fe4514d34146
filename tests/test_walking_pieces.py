"""Commands, feet, clocks, terrain and rays in a task of your own: what they refuse, and several."""

import functools
import importlib
import math
from dataclasses import dataclass, field, replace
from pathlib import Path

import mujoco
import mujoco_menagerie
import numpy as np
import pytest
import torch

from phalanx import tasks
from phalanx.config import ranged, read
from phalanx.errors import PhalanxError
from phalanx.sim import Scene
from phalanx.tasks import gait_rewards as gait
from phalanx.tasks import rays
from phalanx.tasks.commands import CommandSettings, VelocityCommands
from phalanx.tasks.contact_history import ContactHistory
from phalanx.tasks.feet import Feet
from phalanx.tasks.gait_clock import GaitClock
from phalanx.tasks.history import History
from phalanx.tasks.task import Task, TaskConfig
from phalanx.tasks.terrain import Terrain, TerrainMap, TerrainSettings
from phalanx.tasks.terrain_kinds import KINDS
from phalanx.tasks.velocity_settings import VelocityConfig
from phalanx.tasks.weighted_terms import CostSettings, WeightedTerms

WALKER = Path(__file__).parents[1] / "examples/own_tasks/tasks/walker/walker.py"
GO2 = Path(tasks.__file__).parent / "assets" / "go2.xml"
FRONT = ("FL_foot", "FR_foot")
TROT = (0.0, 0.5, 0.5, 0.0)


class Own(Task):
    """A Go2 whose front feet are measured."""

    num_obs, num_actions = 1, 12
    map = None

    def create_scene(self):
        scene = Scene(0.005)
        self.map.add_to(scene) if self.map else scene.add_ground()
        scene.add_actor("robot", GO2, keyframe="home")
        scene.add_contact_force_sensors("robot", FRONT)
        return scene

    def pre_physics_step(self, actions):
        pass

    def compute_observations(self):
        return torch.zeros(self.num_envs, 1)

    def compute_reward(self):
        return torch.zeros(self.num_envs), torch.zeros(self.num_envs, dtype=torch.bool)


class Mapped(Own):
    """The same on small ground of all kinds."""

    map = TerrainMap(
        TerrainSettings(dict.fromkeys(KINDS, 1.0), rows=3, columns=10, tile=6.0, sharp_edges=False)
    )

    def init_buffers(self):
        self.terrain = Terrain(self, self.map)


class Sharp(Mapped):
    """The same with vertical edges."""

    map = TerrainMap(replace(Mapped.map.settings, sharp_edges=True))


def make(kind=Own):
    return kind(TaskConfig(num_envs=4), device="cpu", engine="mujoco")


@pytest.mark.parametrize(
    ("piece", "sentence"),
    [
        (lambda t: Feet(t, "robot", ("FL_toe",), 0.02), r"no body 'FL_toe'; did you mean 'FL_foo"),
        (lambda t: Feet(t, "robot", ("RL_foot",), 0.02), "no contact force of the body 'RL_foot'"),
        (lambda t: Feet(t, "robot", (), 0.02), "no bodies of actor 'robot' are named"),
        (lambda t: Feet(t, "robot", FRONT, 0.02, (1, 2)), r"the place of a foot is \[1.0, 2.0\]"),
        (lambda t: ContactHistory(t, "robot", ()), "no bodies of actor 'robot' are named"),
        (lambda t: ContactHistory(t, "robot", ("FL_tow",)), "no body 'FL_tow'; did you mean"),
        (lambda t: GaitClock(t, -2, TROT, 0.5), "hz of the gait clock is -2.0; it must be above 0"),
        (lambda t: GaitClock(t, math.nan, TROT, 0.5), "hz of the gait clock is nan"),
        (lambda t: GaitClock(t, 2, TROT, 1), "stance of the gait clock is 1; it is the part"),
        (lambda t: GaitClock(t, 2, (), 0.5), "the gait clock has no offsets; give one for each"),
        (lambda t: History(t, "past", 0, 3), "the length of the history 'past' is 0; it must be"),
        (lambda t: History(t, "past", 2, 3).add(t.obs_buf), r"is \(4, 1\); it must be \(4, 3\)"),
        (
            lambda t: Feet(t, "robot", FRONT, -1),
            "the radius of a foot is -1.0; it must be at least",
        ),
        (
            lambda t: Feet(t, "robot", FRONT, "a"),
            "the radius of a foot is 'a'; it must be a number",
        ),
        (
            lambda t: Feet(t, "robot", FRONT * 2, 0.02),
            "the foot 'FL_foot' is named twice; name eac",
        ),
        (
            lambda t: Feet(t, "robot", "FL_foot", 0.02),
            "the list of feet is 'FL_foot'; it must be",
        ),
        (
            lambda t: GaitClock(t, 2, "abc", 0.5),
            "the gait clock's offsets is 'abc'; it must be a l",
        ),
        (
            lambda t: GaitClock(t, 2, (math.nan,), 0.5),
            r"clock's offsets\[0\] is nan; it must be fin",
        ),
        (
            lambda t: VelocityCommands(t, CommandSettings()).give([[0.1, 0, 0]]),
            r"has the shape \(1, 3\)",
        ),
        (lambda t: rays.scan_grid((math.inf, 1), 0.1, t.device), "it must be finite"),
        (
            lambda t: rays.scan_grid(1.0, 0.1, t.device),
            "the size of the scan is 1.0; it must be a li",
        ),
        (
            lambda t: rays.scan_grid(("a", 1), 0.1, t.device),
            r"of the scan\[0\] is 'a'; it must be a",
        ),
        (lambda t: rays.lidar(2, "a", 10, 4), "the LiDAR's lowest angle is 'a'; it must be a numb"),
        (lambda t: rays.lidar(2, -10, math.nan, 4), "the LiDAR's highest angle is nan; it must be"),
        (lambda t: rays.pinhole(4, 4, "wide"), "the image's fov is 'wide'; it must be a number"),
        (lambda t: WeightedTerms(t, {}), "the reward has no weights; give one or more, as in"),
        (
            lambda t: WeightedTerms(t, None),
            "table of the reward's weights is empty; it must be a mapping",
        ),
        (
            lambda t: WeightedTerms(t, {"up": "a"}),
            "the reward's weight 'up' is 'a'; it must be a n",
        ),
        (lambda t: WeightedTerms(t, {"up": None}), "the reward's weight 'up' is empty; it must be"),
        (lambda t: WeightedTerms(t, {"up": math.nan}), "the reward's weight 'up' is nan; it must"),
        (
            lambda t: WeightedTerms(t, {"up": 1})({"up": 1.0}),
            "Own gets the term 'up' as a float; i",
        ),
        (lambda t: WeightedTerms(t, {"up": 0})({"on": t.rew_buf}), "no term of the reward has a w"),
        (lambda t: Terrain(t, None), "the map of a Terrain is None; it must be a TerrainMap"),
        (lambda t: rays.height_scan(None, *[t.obs_buf] * 3), "a height scan needs the task's Terr"),
        (lambda t: rays.cast(None, *[t.obs_buf] * 2, 3.0), "casting rays needs the task's Terrain"),
        (lambda t: rays.pinhole(8, 6, 200), "the image's fov is 200 degrees; it must be greater"),
        (lambda t: rays.pinhole(0, 6, 90), "the image's width is 0; it must be 1 or more"),
        (lambda t: rays.lidar(8, -30, 10, 0), "the LiDAR's number of rays around is 0"),
        (
            lambda t: rays.scan_grid((1, -1), 0.1, t.device),
            r"the size of the scan\[1\] is -1.0; it must",
        ),
        (
            lambda t: rays.scan_grid((1, 1), 0, t.device),
            "the scan's spacing is 0.0; it must be above",
        ),
    ],
)
def test_what_cannot_be_is_one_sentence(piece, sentence):
    with pytest.raises(PhalanxError, match=sentence):
        piece(make())


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"rows": -3}, "rows is -3; it must be at least 1 and at most 100"),
        ({"rows": 0}, "rows is 0; it must be at least 1"),
        ({"rows": None}, "rows is empty; it must be a whole number"),
        ({"tile": math.nan}, "tile is nan; it must be at least 4"),
        ({"spacing": 0}, "spacing is 0.0; it must be at least 0.01"),
        ({"spacing": 0.5}, "spacing is 0.5 m; a tile of 8 m needs samples every 0.4 m or closer"),
        ({"border": -5}, "border is -5.0; it must be at least 0"),
        ({"seed": -5}, "seed is -5; it must be at least 0"),
        ({"kinds": ["waves"]}, r"kinds is \['waves'\]; it must be a mapping"),
        ({"kinds": {"wave": 1}}, "kinds has no kind of ground 'wave'; did you mean 'waves'"),
        ({"kinds": {}}, "kinds has no share greater than 0"),
    ],
)
def test_settings_of_a_map_are_checked_in_programs_too(settings, sentence):
    with pytest.raises(PhalanxError, match=f"^TerrainSettings.{sentence}"):
        TerrainSettings(**settings)


def test_settings_of_a_map_are_named_as_the_task_has_them():
    with pytest.raises(PhalanxError, match=r"^task\.env\.hills\.spacing is 0.6 m; a tile of 8 m"):
        read(Hilly, {"hills": {"spacing": 0.6}}, "task.env")
    with pytest.raises(PhalanxError, match=r"^the settings of a TerrainMap are None; they"):
        TerrainMap(None)
    assert TerrainSettings(rows=np.int64(3), tile=np.float32(5), border=2).rows == 3


@dataclass(frozen=True)
class Hilly:
    hills: TerrainSettings = field(default_factory=TerrainSettings)


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"standing": 2}, "task.env.commands.standing is 2.0; it must be at least 0 and at most 1"),
        ({"heading": math.nan}, "task.env.commands.heading is nan; it must be at least 0"),
        ({"resample_s": (0, 0)}, r"task.env.commands.resample_s\[0\] is 0.0; it must be above 0"),
        ({"lin_vel_x": 1.0}, "task.env.commands.lin_vel_x is 1.0; it must be a list"),
        (
            {"lin_vel_x": ("a", "b")},
            r"task.env.commands.lin_vel_x\[0\] is 'a'; it must be a number",
        ),
        ({"grow_steps": 0.5}, "task.env.commands.grow_steps is 0.5; it must be a whole number"),
    ],
)
def test_settings_that_a_program_makes_are_checked_as_those_of_the_command_line(settings, sentence):
    with pytest.raises(PhalanxError, match=sentence):
        CommandSettings(**settings)


def test_ranges_of_a_task_s_own_settings_hold_in_a_program_too():
    for name, value in (("stance", 2.0), ("foot_height", -1.0), ("gait_hz", math.nan)):
        with pytest.raises(PhalanxError, match=f"task.env.{name} is .*; it must be above 0"):
            VelocityConfig(**{name: value})


def test_defaults_of_a_task_s_own_settings_are_as_its_class_wants_them():
    @dataclass(frozen=True)
    class Free(TaskConfig):
        offset: float = math.nan
        limits: tuple[float, float] = (-math.inf, math.inf)
        gain: float = ranged(-1.0, at_least=0)
        top: float | None = None

    assert Free(top=math.inf).gain == -1
    with pytest.raises(PhalanxError, match=r"task.env.gain is -2.0; it must be at least 0"):
        Free(gain=-2.0)
    with pytest.raises(PhalanxError, match=r"task.env.scan_size\[0\] is -1; it must be"):
        VelocityConfig(scan_size=[-1, 1])


def test_settings_that_a_program_makes_may_be_numbers_of_numpy():
    settings = CommandSettings(lin_vel_x=np.array([0, 1]), standing=np.float32(0.5))
    assert (settings.lin_vel_x, settings.standing) == ((0.0, 1.0), 0.5)


@pytest.mark.parametrize(
    ("changed", "sentence"),
    [
        ({"origins": torch.zeros(2, 3)}, r"origins are of shape \(2, 3\); they must .*\(3, 3\)$"),
        (
            {"origins": [0, 0, 1]},
            r"the rays' origins are no tensor; they must be a tensor of shape",
        ),
        ({"directions": torch.ones(5, 3)}, r"directions are of shape \(5, 3\); .*\(N, P, 3\)$"),
        ({"reach": "far"}, "the reach of the rays is 'far'; it must be a number"),
    ],
)
def test_rays_are_of_the_shapes_that_they_need(changed, sentence):
    terrain = make(Mapped).terrain
    rays_ = {"origins": torch.ones(3, 3), "directions": torch.ones(3, 5, 3), "reach": 5.0}
    assert rays.cast(terrain, **rays_).shape == (3, 5)
    one = {**rays_, "directions": torch.ones(1, 5, 3)}  # for all robots
    assert rays.cast(terrain, **one).shape == (3, 5)
    with pytest.raises(PhalanxError, match=sentence):
        rays.cast(terrain, **rays_ | changed)


def test_a_height_scan_is_of_the_shapes_that_it_needs():
    terrain, points = make(Mapped).terrain, rays.scan_grid((0.2, 0.2), 0.1, torch.device("cpu"))
    assert rays.height_scan(terrain, torch.ones(3, 3), torch.ones(3), points).shape == (3, 9)
    for pos, yaw, where, told in (
        (torch.ones(3, 3), torch.ones(2), points, r"yaws are of shape \(2,\); they .*\(3,\)$"),
        (torch.ones(3, 3), torch.ones(3), [[0, 0]], r"points are no tensor; they .*\(P, 2\)$"),
        (
            torch.ones(3, 2),
            torch.ones(3),
            points,
            r"places are of shape \(3, 2\); they .*\(3, 3\)$",
        ),
    ):
        for look in (rays.height_scan, rays.ground_slope):
            with pytest.raises(PhalanxError, match=told):
                look(terrain, pos, yaw, where)


def test_a_scan_is_around_the_origin_and_old_ones_keep_their_points():
    cpu = torch.device("cpu")
    x, y = rays.scan_grid((1.05, 0.33), 0.1, cpu).unbind(1)
    for at, most in ((x, 0.5), (y, 0.15)):
        assert float(at.max()) == pytest.approx(most)
        assert float(at.min()) == pytest.approx(-most)
    for steps in range(100):  # checkpoints know these
        side = steps * 0.1
        old = torch.arange(steps + 1) * 0.1 - side / 2
        assert torch.equal(rays.scan_grid((side, 0.0), 0.1, cpu)[:, 0], old)


def test_rewards_of_feet_need_a_number_for_each_foot():
    task = make()
    clock = GaitClock(task, 2.0, (0.0, 0.5, 0.5), 0.55)
    four, three = torch.ones(4, 4), clock.swing(torch.ones(4, dtype=torch.bool))
    told = r"is \(4, 4\), but \w+ is \(4, 3\); both must have a number for each foot"
    for term in (gait.in_step, gait.slip):
        with pytest.raises(PhalanxError, match=told):
            term(four, three)
    for term in (gait.swing_height, gait.air_time, gait.foot_clearance):
        with pytest.raises(PhalanxError, match=told):
            term(four, three, 0.1)


@pytest.mark.parametrize(
    "piece",
    [
        functools.partial(Feet, actor="robot", bodies=FRONT, radius=0.02),
        functools.partial(ContactHistory, actor="robot", bodies=FRONT),
        functools.partial(GaitClock, hz=2.0, offsets=TROT, stance=0.55),
        functools.partial(VelocityCommands, settings=CommandSettings()),
        functools.partial(WeightedTerms, weights={"upright": 1.0}),
    ],
)
def test_a_task_may_have_several_of_a_piece(piece):
    task = make()
    piece(task)
    states = len(task.state_dict()["task"])
    with pytest.raises(PhalanxError, match=r"declares its state '\w+' twice; each needs a name of"):
        piece(task)
    piece(task, name="second")
    assert len(task.state_dict()["task"]) > states


@pytest.mark.parametrize("part", [{}, {"first_part": 0.2, "grow_steps": 1000}])
def test_commands_stay_in_ranges_without_0(part):
    ranges = {"lin_vel_x": (0.5, 1.5), "lin_vel_y": (-0.4, -0.2), "ang_vel_z": (0.3, 1.0)}
    settings = CommandSettings(**ranges, standing=0.0, heading=0.5, forward=0.3, **part)
    task = Own(TaskConfig(num_envs=500), device="cpu", engine="mujoco")
    commands = VelocityCommands(task, settings)
    commands.begin(torch.ones(500, dtype=torch.bool))
    for _ in range(2):
        drawn = commands.values.clone()
        assert (drawn >= commands.low - 1e-6).all()
        assert (drawn <= commands.high + 1e-6).all()
        commands.step(torch.zeros(500))  # those that face a direction turn towards it
    most = torch.tensor([0.7, -0.2, 0.44] if part else [1.5, -0.2, 1.0])  # 0.2 of the widths
    assert torch.allclose(drawn.amax(0), most, atol=0.02)
    commands.give(drawn)
    with pytest.raises(PhalanxError, match=r"lin_vel_x is 0; the policy was trained within"):
        commands.give([0, 0, 0])
    commands.settings = CommandSettings(**ranges, standing=0.1)
    commands.give([0, 0, 0])


@pytest.mark.parametrize("kind", [Mapped, Sharp])
def test_rays_meet_the_ground_where_mujoco_does(kind):
    task = make(kind)
    model = task.sim.model
    data, rng = mujoco.MjData(model), np.random.default_rng(1)
    data.qpos[:3] = [500.0, 0.0, 0.0]  # out of the way
    mujoco.mj_forward(model, data)
    start = torch.tensor(task.map.middles).view(-1, 3)
    start[:, :2] += torch.tensor(rng.uniform(-2, 2, (30, 2))).float()
    start[:, 2] = task.terrain.height(start[:, :2]) + 0.35
    for directions, reach in ((rays.lidar(4, -30, 10, 12), 5.0), (rays.pinhole(8, 6, 80), 20.0)):
        seen = rays.cast(task.terrain, start, directions.expand(30, -1, 3), reach)
        for origin, row in zip(start.double().numpy(), seen, strict=True):
            for ray, distance in zip(directions.double().numpy(), row.tolist(), strict=True):
                hit = mujoco.mj_ray(model, data, origin, ray, None, 1, -1, np.zeros(1, np.int32))
                hit = hit if 0 <= hit < reach else reach
                end = origin + min(hit, distance) * ray
                # beyond its end the map goes on as at its edge; MuJoCo's does not
                if (np.abs(end[:2]) < -task.map.corner - 1e-3).all():
                    assert distance == pytest.approx(hit, abs=1e-3)


@pytest.mark.parametrize("engine", ["mujoco", "fused"])
def test_the_pages_task_of_pieces_walks_sees_and_is_commanded(engine, monkeypatch):
    monkeypatch.syspath_prepend(str(WALKER.parent))
    walker = importlib.import_module("walker")
    torch.manual_seed(2)
    ground = TerrainSettings({"stairs_up": 1.0}, rows=2, columns=2, first_rows=1)
    config = walker.WalkerConfig(num_envs=16, episode_length=40, terrain=ground)
    task = walker.Walker(config, device="cpu", engine=engine)
    task.reset()
    task.give_command([0.5, 0.1, -0.2])
    for _ in range(60):
        task.step(0.5 * torch.randn(16, 12))
    assert task.obs_buf[:, 45:48].tolist() == [pytest.approx([0.5, 0.1, -0.2])] * 16
    height = task.terrain.height(task.robot.root_pos[:, :2])
    middle = task.obs_buf[:, 50:].view(16, 17, 11)[:, 8, 5]  # of the scan
    expected = task.robot.root_pos[:, 2] - height - task.stand[2]
    torch.testing.assert_close(middle, expected, atol=1e-4, rtol=0)
    logged = task.scalars()
    assert {f"reward/{name}" for name in walker.WEIGHTS} <= set(logged)
    assert logged["reward/track"] > 0
    assert "ends/tilt" in logged
    assert not task.report()


def test_curricula_of_pieces_end_where_a_policy_is_played(monkeypatch):
    monkeypatch.syspath_prepend(str(WALKER.parent))
    walker = importlib.import_module("walker")
    ground = TerrainSettings({"stairs_up": 1.0}, rows=8, columns=2, first_rows=1)
    growing = CommandSettings(first_part=0.1, grow_steps=1000)
    config = walker.WalkerConfig(num_envs=64, terrain=ground, commands=growing)
    task = walker.Walker(config, device="cpu", engine="mujoco")
    costs = CostSettings(first_part=0.5, grow_steps=100)
    second = WeightedTerms(task, {"slip": -1.0}, costs, name="second")
    task.reset()
    assert float(task.commands.part) == pytest.approx(0.1)
    assert int(task.terrain.row.max()) == 0
    task.end_schedules()
    assert float(task.commands.part) == 1.0
    assert int(task.terrain.row.max()) > 3
    assert float(second.cost_part) == 1.0


def test_the_pages_task_is_out_of_time_at_the_end_of_its_ground(monkeypatch):
    monkeypatch.syspath_prepend(str(WALKER.parent))
    walker = importlib.import_module("walker")
    ground = TerrainSettings({"stairs_up": 1.0}, rows=2, columns=2)
    task = walker.Walker(walker.WalkerConfig(num_envs=4, terrain=ground), "cpu", "mujoco")
    task.reset()
    task.sim.qpos[1, 0] = -float(task.terrain.corner[0]) - 0.5
    _, _, terminated, truncated, _ = task.step(torch.zeros(4, 12))
    assert terminated.tolist() == [False] * 4
    assert truncated.tolist() == [False, True, False, False]
    assert task.scalars()["ends/edge"] == 1.0  # of the episodes that ended


def test_a_task_takes_a_robot_by_its_name_in_the_menagerie(tmp_path, monkeypatch):
    robot = mujoco_menagerie.get("unitree_go1")
    file = tmp_path / "unitree_go1" / robot.entry(robot.default_model).file
    file.parent.mkdir()
    file.write_text(GO2.read_text())
    monkeypatch.setenv("MENAGERIE_ROOT", str(tmp_path))
    task = tasks.make("Go2Velocity", 1, device="cpu", engine="mujoco", asset="unitree_go1")
    assert task.config.asset == str(file)


@pytest.mark.parametrize("kind", [Mapped, Sharp])
def test_rays_from_below_the_ground_and_straight_down(kind):
    task = make(kind)
    start = torch.tensor([[-0.53, 0.31, 5.0], [-0.53, 0.31, -5.0]])
    down = torch.tensor([0.0, 0.0, -1.0]).expand(2, 1, 3)
    ground = task.terrain.height(start[:1, :2])
    seen = rays.cast(task.terrain, start, down, 9.0)[:, 0]
    assert seen.tolist() == pytest.approx([5.0 - float(ground), 0.0], abs=1e-5)
    assert rays.cast(task.terrain, start[:1], -down[:1], 9.0).item() == 9.0
    with pytest.raises(PhalanxError, match=r"the reach of the rays is .*; it must be above 0"):
        rays.cast(task.terrain, start, down, 0)
