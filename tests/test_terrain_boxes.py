"""Terrain with vertical edges: its boxes, and what stands on them."""

import numpy as np
import pytest
import torch

from phalanx import tasks
from phalanx.errors import PhalanxError
from phalanx.sim import Scene, Sim
from phalanx.tasks.terrain import TerrainMap, TerrainSettings
from phalanx.tasks.terrain_boxes import cover
from phalanx.tasks.terrain_kinds import DEEP, EDGES, KINDS
from phalanx.video_renderer import shared_world

BALL = """<mujoco><worldbody><body name="ball"><freejoint/><geom size="0.05" mass="0.2"/></body>
</worldbody></mujoco>"""


def check(boxes, heights):
    """The highest box at each cell has its height, and no second one has it."""
    built, many = np.full(heights.shape, -np.inf), np.zeros(heights.shape)
    for (i, j), (k, n), height in boxes:
        built[i:k, j:n] = np.maximum(built[i:k, j:n], height)
        many[i:k, j:n] += heights[i:k, j:n] == height
    assert np.array_equal(built, heights)
    assert (many == 1).all()


def tile(kind, difficulty, spacing=0.1):
    along = spacing * (np.arange(round(8 / spacing)) + 0.5) - 4
    x, y = np.meshgrid(along, along, indexing="ij")
    return EDGES[kind](x, y, difficulty, np.random.default_rng(2))


def test_boxes_are_the_ground_and_few():
    wild = np.random.default_rng(0).integers(0, 4, (20, 30)).astype(float)
    check(cover(wild, (0, 0)), wild)
    counts = {"stairs_down": 11, "stairs_up": 41, "gap": 6, "obstacles": 60, "stones": 140}
    for kind, most in counts.items():
        z = tile(kind, 1.0)
        boxes = cover(z, (0, 0))
        check(boxes, z)
        assert len(boxes) <= most, kind
    (first, last, _), *_ = cover(np.zeros((4, 5)), (7, 8))
    assert (first, last) == ((7, 8), (11, 13))


@pytest.mark.parametrize("spacing", [0.05, 0.1, 0.2, 0.4])
def test_steps_are_equal_and_nothing_narrow_is_rounded_away(spacing):
    middle, beyond = round(4 / spacing), round(1 / spacing)
    for difficulty in (0.0, 0.6, 1.0):
        rise, gap = 0.05 + 0.18 * difficulty, 0.05 + 0.55 * difficulty
        steps = np.diff(tile("stairs_up", difficulty, spacing)[middle + beyond - 1 :, middle])
        at = np.flatnonzero(steps)
        assert steps[at] == pytest.approx([rise] * len(at))
        assert np.diff(at).tolist() == [max(1, round(0.31 / spacing))] * (len(at) - 1)
        low = (tile("gap", difficulty, spacing)[middle:, middle] == -DEEP).sum()
        assert low == max(1, round(gap / spacing))
        stones = tile("stones", difficulty, spacing)
        low = (stones[middle + beyond + 1 :, middle] == -DEEP).astype(int)
        edges = np.flatnonzero(np.diff(low))
        assert len(edges) >= 3
        for k, width in enumerate(np.diff(edges) * spacing):  # of stones and gaps in turn
            wanted = 0.05 + 0.25 * difficulty if low[edges[k] + 1] else 0.9 - 0.5 * difficulty
            assert abs(width - wanted) <= spacing / 2 + 1e-6 or width <= 2 * spacing


@pytest.fixture(scope="module")
def stairs():
    """Difficulty 1 (the second row): steps of 23 cm that lead up from the middle, and down."""
    kinds = {"stairs_up": 1.0, "stairs_down": 1.0}
    settings = TerrainSettings(kinds, rows=2, columns=2, tile=6.0, border=2.0, sharp_edges=True)
    return TerrainMap(settings)


@pytest.mark.parametrize("engine", ["mujoco", "warp", "fused"])
def test_balls_lie_on_steps_and_stop_at_the_next(stairs, engine, tmp_path):
    (tmp_path / "ball.xml").write_text(BALL)
    scene = Scene(0.005)
    stairs.add_to(scene)
    scene.add_actor("ball", tmp_path / "ball.xml")
    sim = Sim(scene, 8, device="cpu", engine=engine)
    up, down = stairs.middles[1]
    # Steps are 30 cm deep and begin 1 m from the middle; balls begin in the middle of four of them.
    places, heights = [], []
    for k in range(4):
        for middle, rise in ((up, 0.23), (down, -0.23)):
            places.append([middle[0] + 1.15 + 0.3 * k, middle[1] + 0.2])
            heights.append(middle[2] + rise * (k + 1))
    places, heights = torch.tensor(np.array(places)).float(), torch.tensor(heights).float()
    sim.qpos[:, :2], sim.qpos[:, 2] = places, heights + 0.06
    for _ in range(200):
        sim.step()
    torch.testing.assert_close(sim.qpos[:, :2], places, rtol=0, atol=2e-3)
    torch.testing.assert_close(sim.qpos[:, 2], heights + 0.05, rtol=0, atol=2e-3)
    speed = torch.tensor([0.3, -0.3] * 4)  # towards the step above
    sim.qvel[:, 0], sim.qvel[:, 4] = speed, speed / 0.05
    most = torch.zeros(8)
    for _ in range(100):
        sim.step()
        most = torch.maximum(most, (sim.qpos[:, 0] - places[:, 0]) * speed.sign())
    torch.testing.assert_close(most, torch.full((8,), 0.15 - 0.05), rtol=0, atol=3e-3)
    assert (sim.qpos[:, 2] < heights + 0.15).all()


def test_more_boxes_than_warp_lists_are_one_sentence():
    scene = Scene(0.005)
    TerrainMap(TerrainSettings({"stones": 1.0}, columns=12, sharp_edges=True)).add_to(scene)
    with pytest.raises(
        PhalanxError, match=r"has 1\d\d\d\d shapes, and MuJoCo Warp lists all .* GiB"
    ):
        Sim(scene, 1, device="cpu", engine="warp")


def test_the_height_field_is_out_of_reach_below_boxes():
    kinds = dict.fromkeys(KINDS, 1.0)
    map = TerrainMap(TerrainSettings(kinds, rows=3, columns=10, tile=6.0, sharp_edges=True))
    cells = np.isfinite(map.tops[:-1, :-1])
    assert set(np.array(map.columns)[cells[110:-80, 110::60].any(0)[:10]]) == set(EDGES)
    corners = np.stack(
        [map.heights[i:, j:][: len(cells), : cells.shape[1]] for i in (0, 1) for j in (0, 1)]
    )
    inner = cells[:-2, 1:-1] & cells[2:, 1:-1] & cells[1:-1, :-2] & cells[1:-1, 2:]
    buried = (map.tops[:-1, :-1] - corners.max(0))[1:-1, 1:-1][inner]
    assert buried.min() >= DEEP


def test_boxes_are_drawn_once_for_all_robots():
    scene = Scene(0.005)
    TerrainMap(TerrainSettings({"stones": 1.0}, rows=2, columns=2, sharp_edges=True)).add_to(scene)
    model = scene.compile()
    assert model.ngeom > 300
    assert shared_world(model, np.full(3, 0.5)).all()


def test_a_training_goes_on_on_its_edges():
    small = {
        "kinds": {"stairs_up": 1.0, "waves": 1.0},
        "rows": 4,
        "columns": 4,
        "sharp_edges": True,
    }
    env = {"terrain": "rough", "terrain_settings": small}
    one, two = (tasks.make("Go2Velocity", 8, device="cpu", engine="mujoco", **env) for _ in "ab")
    torch.manual_seed(3)
    one.reset()
    for _ in range(5):
        one.step(torch.randn(8, 12))
    state = one.state_dict()
    many = state["sim"]["model"]["geom_friction"]  # of the robot only, not of all boxes
    assert len(many["rows"]) <= 28 < 300 < one.sim.model.ngeom
    many["rows"][0] = -1
    with pytest.raises(PhalanxError, match="geom_friction does not fit 8 environments"):
        two.load_state_dict(state)
    state = one.state_dict()
    two.load_state_dict(state)
    actions = torch.randn(8, 12)
    for task in (one, two):
        torch.manual_seed(4)
        task.step(actions)
    assert torch.equal(one.obs_buf, two.obs_buf)
    fields = (task.sim.model_field("geom_friction") for task in (one, two))
    torch.testing.assert_close(*fields, rtol=0, atol=0)
