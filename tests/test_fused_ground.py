"""Height fields on the fused engine, against MuJoCo C."""

import mujoco
import numpy as np
import pytest
import torch

from phalanx.sim import Sim
from phalanx.sim.engines.fused import cpu
from phalanx.sim.engines.fused.source import Sizes
from test_fused import Text, exact, make, stepped
from test_fused_convex import MESHES, STONE

N, ROWS, COLS = 16, 13, 17
RADII = (0.05, 0.12, 0.03, 0.2)
GROUND = """<mujoco><option timestep=".002" cone="{0}"/><asset>
  <hfield name="hills" nrow="13" ncol="17" size="1.6 1.2 .15 .5" elevation="{1}"/></asset>
  <worldbody>
  <geom type="hfield" hfield="hills" pos="30 20 .1" euler="0 0 {2}" friction=".8"/>{3}
  </worldbody></mujoco>""".format
BALL = """<body pos="30 20 1"><freejoint/><geom size="{0}" contype="0" conaffinity="1" mass="1"/>
  <site pos="0 0 0"/></body>""".format
BALLS = "".join(map(BALL, RADII))
ROD = """<body pos="30 20 1"><freejoint/><geom type="capsule" size=".06 .25" contype="0" mass="2"/>
  </body>"""


def hills(cone="pyramidal", turn=20, bodies=BALLS, assets=""):
    rng = np.random.default_rng(0)
    heights = rng.uniform(0, 1, (ROWS, COLS)) * (np.arange(COLS) > 7)  # the left half is flat
    text = GROUND(cone, " ".join(f"{h:.3f}" for h in heights.ravel()), turn, bodies)
    return text.replace("<worldbody>", f"{assets}<worldbody>", 1)


def dropped(sim, generator, flat=False):
    """Every body near the ground, not deeper than it is wide."""
    sim.reset()
    model, data = sim.model, mujoco.MjData(sim.model)
    mujoco.mj_forward(model, data)
    moving = [g for g in range(model.ngeom) if model.geom_bodyid[g]]
    turn = data.geom_xmat[0].reshape(3, 3)
    for env in range(sim.num_envs):
        for i, g in enumerate(moving):
            x, y, depth = torch.rand(3, generator=generator).tolist()
            at = data.geom_xpos[0] + turn @ [(-1.2 * x) if flat else 2.6 * x - 1.3, 2 * y - 1, 0]
            top = np.array([at[0], at[1], 5.0])
            down = np.array([0, 0, -1.0])
            far = mujoco.mj_ray(model, data, top, down, None, 1, -1, np.zeros(1, np.int32), None)
            size, a = model.geom_size[g], 7 * i
            sim.qpos[env, a : a + 3] = torch.tensor(
                [*at[:2], 5 - far + size[0] * (0.55 + depth / 2)]
            )
            quat = torch.randn(4, generator=generator)
            if size[1] > 0:  # a rod lies, not quite level
                quat = torch.tensor([1.0, 1, 0, 0]) + 0.1 * quat
            sim.qpos[env, a + 3 : a + 7] = quat / quat.norm()
    sim.qvel[:] = 2 * torch.rand(sim.qvel.shape, generator=generator) - 1


def errors(sim, model):
    before = sim.qvel.numpy().copy()
    datas = [stepped(model, sim, env) for env in range(sim.num_envs)]
    sim.step()
    qvel = np.stack([d.qvel for d in datas])
    change = np.abs(qvel - before).max(1, keepdims=True).clip(1)
    return np.abs(sim.qvel.numpy() - qvel) / change, datas


@pytest.fixture(scope="module")
def balls():
    return make(hills("elliptic"), N)


def test_spheres_touch_hills_as_mujocos(balls):
    model, generator = exact(balls.model), torch.Generator().manual_seed(0)
    for flat in (True, False):
        touched = []
        for _ in range(3):
            dropped(balls, generator, flat)
            error, datas = errors(balls, model)
            assert error.max() < 1e-4
            touched += [data.ncon for data in datas]
        assert sum(touched) > 6 * N
        assert max(touched) > 12  # prisms in all


def test_under_the_base_nothing_is_touched(balls):
    dropped(balls, torch.Generator().manual_seed(1))
    balls.qpos[:, 2::7] -= 3.0
    error, datas = errors(balls, exact(balls.model))
    assert error.max() < 1e-5
    assert not any(data.ncon for data in datas)


def test_a_trajectory_over_hills_follows_mujocos(balls):
    dropped(balls, torch.Generator().manual_seed(1))
    model = exact(balls.model)
    datas = [stepped(model, balls, env, steps=0) for env in range(4)]
    for _ in range(10):
        balls.advance(2)
        for data in datas:
            mujoco.mj_step(model, data, 2)
    np.testing.assert_allclose(balls.qpos[:4], [d.qpos for d in datas], atol=2e-4)


def test_capsules_touch_hills_as_mujocos():
    sim = make(hills(bodies=ROD), N)
    model, generator = exact(sim.model), torch.Generator().manual_seed(2)
    off = []
    for _ in range(4):
        dropped(sim, generator)
        error, datas = errors(sim, model)
        deepest = np.array([d.contact.dist.min(initial=0) for d in datas])
        touches = np.array([d.ncon for d in datas]) > 2
        off.append(error.max(1)[touches & (deepest > -0.06)])  # the axis is not in the ground
    assert len(np.concatenate(off)) > N
    assert np.concatenate(off).max() < 1e-3


ROUND = {
    "a cylinder": 'type="cylinder" size=".1 .08"',
    "an ellipsoid": 'type="ellipsoid" size=".12 .08 .15"',
}


def rolling(geom):
    return f"""<body pos="30 20 1"><freejoint/>
      <geom {geom} contype="0" conaffinity="1" mass="1"/></body>"""


def test_cylinders_and_ellipsoids_touch_hills_as_mujocos():
    sim = make(hills(bodies="".join(map(rolling, ROUND.values()))), N)
    model, generator = exact(sim.model), torch.Generator().manual_seed(2)
    touched, many = 0, []
    for flat in (True, False, False):
        dropped(sim, generator, flat)
        error, datas = errors(sim, model)
        assert np.quantile(error, 0.98) < 1e-4
        assert (error.max(1) > 1e-3).sum() < 2  # deep ones may find another way out
        many += [data.ncon for data in datas]
        touched += sum(data.ncon > 0 for data in datas)
    assert touched > N
    assert max(many) > 4


CORNERED = {
    "a box": 'type="box" size=".1 .08 .06"',
    "a foot": 'type="box" size=".04 .03 .02"',
    "a stone": STONE,
}


def cornered(model):
    """MuJoCo 4.0 takes all corners of a prism for one and stops before it has found a depth, but
    not where a margin makes shapes smooth."""
    model = exact(model)
    model.geom_margin[1:] = 1e-9
    return model


def test_boxes_and_hulls_touch_hills_as_mujocos():
    sim = make(hills(bodies="".join(map(rolling, CORNERED.values())), assets=MESHES), N)
    model, generator = cornered(sim.model), torch.Generator().manual_seed(0)
    off, touched, many = [], np.zeros(len(CORNERED)), []
    for flat in (True, False, False, False):
        dropped(sim, generator, flat)
        error, datas = errors(sim, model)
        off.append(error.reshape(N, len(CORNERED), 6).max(2))
        for data in datas:
            touched += np.isin(np.arange(1, 1 + len(CORNERED)), data.contact.geom[:, 1])
        many += [data.ncon for data in datas]
    boxes, stones = np.concatenate(off)[:, :2], np.concatenate(off)[:, 2]
    assert (touched > 2 * N).all(), touched
    assert max(many) > 12
    assert boxes.max() < 1e-4
    assert np.quantile(stones, 0.9) < 1e-4  # deep ones may find another way out
    assert (stones > 1e-3).mean() < 0.08


@pytest.mark.parametrize(
    ("shape", "slower"), [("ellipsoid", True), ("cylinder", True), ("box", False)]
)
def test_auto_leaves_round_shapes_on_hills_to_mujoco_on_a_cpu(shape, slower):
    model = hills(bodies=rolling(f'type="{shape}" size=".1 .1 .1"'))
    sim = Sim(Text(model), 64, "cpu", engine="auto", threads=1)
    assert (f"slower on a CPU with {shape}s on a height field" in sim.engine.reason) == slower


def test_boxes_on_flat_ground_come_to_rest():
    sim = make(hills(turn=0, bodies="".join(map(rolling, CORNERED.values())), assets=MESHES), N)
    sim.qpos[:, 0::7] = torch.tensor([29.0, 29.4, 28.6])
    sim.qpos[:, 2::7] = torch.tensor([0.17, 0.13, 0.4])  # the field is at 0.1; a stone falls
    turned = torch.linspace(0, 1.5, N) / 2
    for i in range(2):
        sim.qpos[:, 7 * i + 3], sim.qpos[:, 7 * i + 6] = turned.cos(), turned.sin()
    sim.advance(1500)
    speeds = sim.qvel.view(N, len(CORNERED), 6)[:, :, :3].norm(dim=2)
    assert float(speeds.max()) < 0.02
    torch.testing.assert_close(sim.qpos[:, 2], torch.full((N,), 0.16), atol=1e-3, rtol=0)
    torch.testing.assert_close(sim.qpos[:, 9], torch.full((N,), 0.12), atol=1e-3, rtol=0)
    assert float(sim.qpos[:, 16].min()) > 0.16


def test_contacts_with_hills_that_do_not_fit_are_not_dropped(monkeypatch):
    """Room for one prism a sphere and three a rod; a sphere that touches three takes another's."""
    large = make(hills("elliptic", bodies=BALLS + ROD), N)
    monkeypatch.setattr(cpu, "SIZES", Sizes(pairs=4, rows=8, ground=1))
    small = make(hills("elliptic", bodies=BALLS + ROD), N)
    for sim in (large, small):
        dropped(sim, torch.Generator().manual_seed(3))
        sim.step()
    assert "height field" in small.engine.grow()
    assert torch.equal(large.qvel, small.qvel)
